//! SASL for XMPP: SCRAM (RFC 5802, RFC 7677) and PLAIN (RFC 4616), as pure steps.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// More rounds than this are refused: they would only keep us busy.
const ROUNDS_MAX: u32 = 500_000;

/// Which SCRAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// SCRAM-SHA-1.
    Sha1,
    /// SCRAM-SHA-256.
    Sha256,
}

impl Hash {
    fn hmac(self, key: &[u8], text: &[u8]) -> Vec<u8> {
        // HMAC takes keys of any length.
        match self {
            Self::Sha1 => Hmac::<Sha1>::new_from_slice(key).map(|mac| mac.chain_update(text).finalize().into_bytes().to_vec()),
            Self::Sha256 => Hmac::<Sha256>::new_from_slice(key).map(|mac| mac.chain_update(text).finalize().into_bytes().to_vec()),
        }
        .unwrap_or_default()
    }

    fn digest(self, text: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => Sha1::digest(text).to_vec(),
            Self::Sha256 => Sha256::digest(text).to_vec(),
        }
    }

    /// `Hi` of RFC 5802 §2.2.
    fn salted(self, password: &[u8], salt: &[u8], rounds: u32) -> Vec<u8> {
        let mut block = self.hmac(password, &[salt, &[0, 0, 0, 1]].concat());
        let mut out = block.clone();
        for _ in 1..rounds {
            block = self.hmac(password, &block);
            out.iter_mut().zip(&block).for_each(|(out, byte)| *out ^= byte);
        }
        out
    }
}

/// The first message of PLAIN.
pub fn plain(user: &str, password: &str) -> String {
    STANDARD.encode(format!("\0{user}\0{password}"))
}

/// An exchange of SCRAM.
pub struct Scram {
    hash: Hash,
    bare: String,
    nonce: String,
    signature: Vec<u8>,
}

impl Scram {
    /// Begins; gives the first message.
    pub fn begin(hash: Hash, user: &str, nonce: &str) -> (Self, String) {
        let name = user.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={name},r={nonce}");
        let first = STANDARD.encode(format!("n,,{bare}"));
        (Self { hash, bare, nonce: nonce.to_owned(), signature: Vec::new() }, first)
    }

    /// The answer to the server's challenge; `None` if it is none.
    pub fn answer(&mut self, challenge: &str, password: &str) -> Option<String> {
        let first = String::from_utf8(STANDARD.decode(challenge.trim()).ok()?).ok()?;
        let part = |name: &str| first.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        let nonce = part("r").filter(|nonce| nonce.len() > self.nonce.len() && nonce.starts_with(&self.nonce))?;
        let salt = STANDARD.decode(part("s")?).ok()?;
        let rounds: u32 = part("i")?.parse().ok().filter(|rounds| (1..=ROUNDS_MAX).contains(rounds))?;
        let salted = self.hash.salted(password.as_bytes(), &salt, rounds);
        let key = self.hash.hmac(&salted, b"Client Key");
        let without = format!("c=biws,r={nonce}");
        let all = format!("{},{first},{without}", self.bare);
        let mut proof = self.hash.hmac(&self.hash.digest(&key), all.as_bytes());
        proof.iter_mut().zip(&key).for_each(|(proof, byte)| *proof ^= byte);
        self.signature = self.hash.hmac(&self.hash.hmac(&salted, b"Server Key"), all.as_bytes());
        Some(STANDARD.encode(format!("{without},p={}", STANDARD.encode(proof))))
    }

    /// Whether the server has proven that it knows the password too.
    pub fn is_proven(&self, success: &str) -> bool {
        let decoded = STANDARD.decode(success.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let told = decoded.and_then(|text| STANDARD.decode(text.strip_prefix("v=")?).ok());
        !self.signature.is_empty() && told.is_some_and(|told| told.ct_eq(&self.signature).into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The exchange of RFC 7677 §3.
    #[test]
    fn scram_is_as_its_rfc_shows() {
        let (mut scram, first) = Scram::begin(Hash::Sha256, "user", "rOprNGfwEbeRWgbNEkqO");
        assert_eq!(STANDARD.decode(first).unwrap(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let challenge = STANDARD.encode("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        let answer = String::from_utf8(STANDARD.decode(scram.answer(&challenge, "pencil").unwrap()).unwrap()).unwrap();
        assert_eq!(answer, "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        assert!(scram.is_proven(&STANDARD.encode("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")));
        assert!(!scram.is_proven(&STANDARD.encode("v=AAAA")) && !scram.is_proven(""));
    }

    #[test]
    fn a_challenge_that_is_none_of_ours_has_no_answer() {
        let (mut scram, _) = Scram::begin(Hash::Sha1, "user", "abc");
        for challenge in ["r=abc,s=AAAA,i=10", "r=xyz123,s=AAAA,i=10", "r=abcd,s=AAAA,i=999999999", "r=abcd,i=10", "x"] {
            assert_eq!(scram.answer(&STANDARD.encode(challenge), "p"), None, "{challenge}");
        }
        assert_eq!(scram.answer("***", "p"), None);
    }
}
