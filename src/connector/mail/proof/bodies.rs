//! Hashes of a body that passes by in pieces (RFC 6376 §3.4): what signatures over a large mail are judged by.
//!
//! What must stay true: the body begins where the library sees the end of the header, in the pieces as in the whole.

use mail_auth::AuthenticatedMessage;
use mail_auth::common::crypto::{HashAlgorithm, HashContext as _, HashImpl, Sha256};
use mail_auth::dkim::Canonicalization;
use mail_auth::dkim::canonicalize::BodyHasher;

use crate::connector::mail::scan;

type Hasher = BodyHasher<<Sha256 as HashImpl>::Context>;

/// Hashes a body in both of its canonical forms; SHA-1 is not believed, nor a signature over a part of the body.
pub struct BodyHashing {
    header_end: usize,
    simple: Hasher,
    relaxed: Hasher,
}

/// The hashes, and where the header ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BodyHashes {
    /// In the bytes that are kept of the mail.
    pub header_end: usize,
    simple: Vec<u8>,
    relaxed: Vec<u8>,
}

impl BodyHashing {
    /// For a mail whose header is the begin of `mail`; its body begins at `body`, as we see it.
    pub fn new(mail: &[u8], body: usize) -> Self {
        let begin = scan::header_start(mail);
        let header = mail.get(begin..body).unwrap_or_default();
        let header_end = AuthenticatedMessage::parse(header).map_or(body, |message| begin.saturating_add(message.body_offset()));
        let hasher = |form| BodyHasher::new(Sha256::hasher(), form, 0);
        Self { header_end, simple: hasher(Canonicalization::Simple), relaxed: hasher(Canonicalization::Relaxed) }
    }

    /// Where the body begins, in what is kept of the mail.
    pub fn begins_at(&self) -> usize {
        self.header_end
    }

    /// Goes on with a piece of the body.
    pub fn feed(&mut self, piece: &[u8]) {
        self.simple.write(piece);
        self.relaxed.write(piece);
    }

    /// The end of the body.
    pub fn finish(self) -> BodyHashes {
        let end = |hasher: Hasher| hasher.finish().0.complete().as_ref().to_vec();
        BodyHashes { header_end: self.header_end, simple: end(self.simple), relaxed: end(self.relaxed) }
    }
}

impl BodyHashes {
    /// Puts the hashes in the place of those of a body that is not there.
    pub fn stand_in(&self, message: &mut AuthenticatedMessage<'_>) {
        for (form, algorithm, length, hash) in &mut message.body_hashes {
            *hash = match (form, algorithm, length) {
                (Canonicalization::Simple, HashAlgorithm::Sha256, 0) => self.simple.clone(),
                (Canonicalization::Relaxed, HashAlgorithm::Sha256, 0) => self.relaxed.clone(),
                _ => Vec::new(),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The library's own hashes of a whole mail.
    fn whole(mail: &[u8]) -> Vec<(Canonicalization, Vec<u8>)> {
        let message = AuthenticatedMessage::parse(mail).unwrap();
        message.body_hashes.iter().map(|(form, _, _, hash)| (*form, hash.clone())).collect()
    }

    #[test]
    fn pieces_of_any_size_have_the_hashes_of_the_whole() {
        let signed =
            |form: &str| format!("DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/{form}; d=example.org; s=k; h=from; bh=YQ==; b=YQ==\r\n");
        let header = signed("simple") + &signed("relaxed") + "From: ana@example.org\r\n\r\n";
        let bodies = ["", "\r\n\r\n", "a", "a\r\n", "a \t b  \r\n\r\n c\r\n \r\n\r\n", "a\nb\rc\r\n \t", "\r", " ", "x\r\n.\r\n \r"];
        for body in bodies {
            let mail = format!("{header}{body}").into_bytes();
            for size in [1, 2, 3, 7, 1000] {
                let mut hashing = BodyHashing::new(&mail, header.len());
                assert_eq!(hashing.begins_at(), header.len());
                body.as_bytes().chunks(size).for_each(|piece| hashing.feed(piece));
                let hashes = hashing.finish();
                let mut message = AuthenticatedMessage::parse(header.as_bytes()).unwrap();
                hashes.stand_in(&mut message);
                let passed: Vec<_> = message.body_hashes.iter().map(|(form, _, _, hash)| (*form, hash.clone())).collect();
                assert_eq!(passed, whole(&mail), "{body:?} in pieces of {size}");
            }
        }
    }
}
