//! Seal: secrets that must be kept (refresh tokens) are encrypted before the store sees them: ChaCha20-Poly1305 (RFC 8439) under a
//! subkey of the instance key, so that neither a stolen store nor a backup gives them away.
//!
//! The written form is `s1.` and base64 of nonce and ciphertext. The name under which it is kept is authenticated with it: a sealed text
//! that is copied to another name does not open.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::logic::digest::{INSTANCE_KEY_BYTES, Purpose, Subkey};
use crate::ports::clock::Random;

/// What a sealed text begins with; the number is its version.
const FORM: &str = "s1.";

/// Seals with the current instance key, opens with any.
pub struct Sealer {
    keys: Vec<LessSafeKey>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(…)")
    }
}

impl Sealer {
    /// A sealer under the instance keys, the current one first.
    pub fn new(instance_keys: &[[u8; INSTANCE_KEY_BYTES]]) -> Self {
        let key = |key| UnboundKey::new(&CHACHA20_POLY1305, Subkey::derive(key, Purpose::Seal).bytes()).ok().map(LessSafeKey::new);
        Self { keys: instance_keys.iter().filter_map(key).collect() }
    }

    /// `plain` as a text that only a holder of the instance key can open, under this name. `None`: there is no key.
    pub fn seal(&self, name: &str, plain: &[u8], random: &dyn Random) -> Option<String> {
        // 96 random bits: a handful of texts a day stays far from the bound of 2^32 under one key.
        let mut nonce = [0u8; NONCE_LEN];
        random.fill(&mut nonce);
        let mut sealed = plain.to_vec();
        let key = self.keys.first()?;
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name.as_bytes()), &mut sealed).ok()?;
        let whole: Vec<u8> = nonce.into_iter().chain(sealed).collect();
        Some(format!("{FORM}{}", STANDARD.encode(whole)))
    }

    /// What was sealed; `None`: not by one of our keys, under another name, or damaged.
    pub fn open(&self, name: &str, text: &str) -> Option<Vec<u8>> {
        let whole = STANDARD.decode(text.strip_prefix(FORM)?).ok()?;
        let (nonce, sealed) = whole.split_first_chunk::<NONCE_LEN>()?;
        self.keys.iter().find_map(|key| {
            let mut sealed = sealed.to_vec();
            let plain = key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(name.as_bytes()), &mut sealed).ok()?;
            Some(plain.to_vec())
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Counting(std::sync::atomic::AtomicU8);

    impl Random for Counting {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        }
    }

    #[test]
    fn a_sealed_text_opens_with_its_key_and_under_its_name_only() {
        let random = Counting(0.into());
        let (old, new) = (Sealer::new(&[[1; 32]]), Sealer::new(&[[2; 32], [1; 32]]));
        let sealed = old.seal("oauth/a", b"a refresh token", &random).unwrap();
        assert!(!sealed.contains("refresh"));
        assert_eq!(old.open("oauth/a", &sealed).unwrap(), b"a refresh token");
        assert_eq!(new.open("oauth/a", &sealed).unwrap(), b"a refresh token", "while keys rotate, the old one opens");
        assert_eq!(old.open("oauth/b", &sealed), None);
        assert_eq!(old.open("oauth/a", &new.seal("oauth/a", b"x", &random).unwrap()), None);
        assert_ne!(sealed, old.seal("oauth/a", b"a refresh token", &random).unwrap(), "no nonce is used twice");
        let damaged: String = sealed.chars().rev().collect();
        assert_eq!((old.open("oauth/a", &damaged), old.open("oauth/a", "s1.AAAA"), old.open("oauth/a", "")), (None, None, None));
    }
}
