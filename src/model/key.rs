//! Keyed digests: what the gateway remembers for ever about a thing, without the thing.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A keyed hash of 16 bytes (HMAC-SHA-256 under a subkey of the instance key, cut). Made by
/// [`crate::logic::digest::Digester`] only; equal inputs give equal digests for as long as the instance key lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyDigest(pub [u8; 16]);

impl KeyDigest {
    /// Lower-case hex, 32 digits.
    pub fn hex(&self) -> String {
        self.0.iter().fold(String::with_capacity(32), |mut text, byte| {
            use fmt::Write;
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// The form of `message.key` in events: `k1_` and 32 hex digits.
    pub fn public(&self) -> String {
        format!("k1_{}", self.hex())
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl Serialize for KeyDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.hex())
    }
}

impl<'de> Deserialize<'de> for KeyDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let wrong = || serde::de::Error::custom("not a key digest: expected 32 hex digits");
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        u128::from_str_radix(&text, 16).map(|value| Self(value.to_be_bytes())).map_err(|_| wrong())
    }
}
