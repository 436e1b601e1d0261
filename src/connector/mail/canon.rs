//! The canonical content hash: what makes two copies of a mail the same, whatever mailbox, provider or road they came by.
//!
//! Hashed are the fields an author writes and the body; trace and authentication fields differ per delivery and are left out.
//! A Message-ID alone is no key: one parcel carrier sends different mails under the same one.

use sha2::{Digest, Sha256};

use crate::connector::mail::fields;
use crate::connector::mail::scan::Scan;

/// SHA-256 over the normalized Message-ID, Date, From, To, Subject (unfolded) and the body with line feeds and without blank lines at
/// its end. Each field stands behind its length, so that no border between two can move.
pub fn hash(mail: &[u8], scan: &Scan, message_id: Option<&str>) -> [u8; 32] {
    if let Some(rest) = &scan.rest {
        return rest.content;
    }
    let mut canon = Canon::new(mail, scan, message_id);
    canon.feed(mail.get(scan.root().body.start..).unwrap_or_default());
    canon.finish()
}

/// The same over a body that comes in pieces.
pub struct Canon {
    sha: Sha256,
    /// Without the white space at the end of what came.
    trimmed: Sha256,
    /// A carriage return came last: perhaps of a line break.
    cr: bool,
    piece: Vec<u8>,
}

fn add(sha: &mut Sha256, value: &[u8]) {
    sha.update((value.len() as u64).to_be_bytes());
    sha.update(value);
}

fn unfold(value: &[u8]) -> Vec<u8> {
    let words = value.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(&b' ')
}

/// Bytes that are handed to the hash at once: lines one by one would cost as much as the hash itself.
const PIECE_BYTES: usize = 16 * 1024;

impl Canon {
    /// Begins with the fields.
    pub fn new(mail: &[u8], scan: &Scan, message_id: Option<&str>) -> Self {
        let root = scan.root();
        let mut sha = Sha256::new();
        add(&mut sha, message_id.unwrap_or_default().as_bytes());
        for name in ["date", "from", "to", "subject"] {
            let value = fields::first(&root.fields, mail, name).unwrap_or_default();
            add(&mut sha, &unfold(value));
        }
        Self { trimmed: sha.clone(), sha, cr: false, piece: Vec::new() }
    }

    /// Goes on with a piece of the body.
    pub fn feed(&mut self, body: &[u8]) {
        let end = body.len() - body.iter().rev().take_while(|byte| matches!(byte, b'\r' | b'\n' | b' ' | b'\t')).count();
        let (text, space) = body.split_at(end);
        if !text.is_empty() {
            self.lines(text);
            self.trimmed = self.sha.clone();
        }
        self.lines(space);
    }

    /// Line feeds only. A piece at a time is copied, however large the body.
    fn lines(&mut self, body: &[u8]) {
        let Some(first) = body.first() else { return };
        if std::mem::take(&mut self.cr) && *first != b'\n' {
            self.sha.update(b"\r");
        }
        let mut rest = body.strip_suffix(b"\r").unwrap_or(body);
        self.cr = rest.len() < body.len();
        self.piece.reserve(PIECE_BYTES.min(rest.len()));
        while !rest.is_empty() {
            let line = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            let (line, tail) = rest.split_at(line);
            rest = tail;
            let (content, feed) = match line {
                [content @ .., b'\r', b'\n'] => (content, &b"\n"[..]),
                whole => (whole, &b""[..]),
            };
            if self.piece.len() + line.len() > PIECE_BYTES {
                self.sha.update(&self.piece);
                self.piece.clear();
            }
            if line.len() > PIECE_BYTES {
                self.sha.update(content);
                self.sha.update(feed);
            } else {
                self.piece.extend_from_slice(content);
                self.piece.extend_from_slice(feed);
            }
        }
        self.sha.update(&self.piece);
        self.piece.clear();
    }

    /// The hash, without the white space at the end.
    pub fn finish(self) -> [u8; 32] {
        self.trimmed.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::mail::{MailLimits, prescan};

    #[test]
    fn a_body_in_pieces_has_the_hash_of_the_whole_and_its_line_ends_do_not_count() {
        let mail = b"Subject: x\r\n\r\nHello\r\n\r\n  there \r \r\r\nAna\r\n \t\r\n\r";
        let Ok(scan) = prescan(mail, &MailLimits::default()) else { return };
        let body = mail.get(scan.root().body.start..).unwrap_or_default();
        let whole = hash(mail, &scan, Some("a@example.org"));
        for size in 1..=body.len() {
            let mut canon = Canon::new(mail, &scan, Some("a@example.org"));
            body.chunks(size).for_each(|piece| canon.feed(piece));
            assert_eq!(canon.finish(), whole, "in pieces of {size}");
        }
        // The carriage return in front of the line break is one of the text.
        let unix = b"Subject: x\n\nHello\n\n  there \r \r\r\nAna";
        let Ok(scan) = prescan(unix, &MailLimits::default()) else { return };
        assert_eq!(hash(unix, &scan, Some("a@example.org")), whole);
    }
}
