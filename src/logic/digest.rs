//! Keyed digests. The instance key is split by HKDF (RFC 5869) into one subkey a purpose; digests are HMAC-SHA-256 cut to 16
//! bytes. Parts are written with their lengths, so that no two lists of parts can meet in one digest.

use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::model::address::Address;
use crate::model::key::KeyDigest;

/// Bytes of an instance key.
pub const INSTANCE_KEY_BYTES: usize = 32;

/// What a subkey is for. The names are part of the stored form: never change one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Item, conversation, delivery and address keys.
    Keys,
    /// Signed `/files` URLs.
    FileUrls,
    /// MACs in reply addresses and our own Message-IDs.
    Mail,
    /// Hashes of personal data in logs.
    Pii,
    /// Sealing of tokens in the store.
    Seal,
    /// Tokens handed to browsers (form render times).
    Forms,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Keys => b"omnigate keys v1",
            Self::FileUrls => b"omnigate file urls v1",
            Self::Mail => b"omnigate mail v1",
            Self::Pii => b"omnigate pii v1",
            Self::Seal => b"omnigate seal v1",
            Self::Forms => b"omnigate forms v1",
        }
    }
}

/// A subkey of the instance key.
#[derive(Clone)]
pub struct Subkey {
    bytes: [u8; 32],
    /// Ready to take a message: keying it costs as much as a short message. `None` cannot be: HMAC takes keys of any length
    /// (RFC 2104 §2).
    keyed: Option<Hmac<Sha256>>,
}

impl std::fmt::Debug for Subkey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Subkey(…)")
    }
}

impl Subkey {
    /// The subkey of `instance_key` for `purpose`.
    pub fn derive(instance_key: &[u8; INSTANCE_KEY_BYTES], purpose: Purpose) -> Self {
        let mut out = [0u8; 32];
        // RFC 5869 §2.3 allows up to 255 × 32 bytes of output, so 32 cannot fail.
        let _ = Hkdf::<Sha256>::new(None, instance_key).expand(purpose.label(), &mut out);
        Self { bytes: out, keyed: Hmac::new_from_slice(&out).ok() }
    }

    /// HMAC-SHA-256 over the parts, each behind its length.
    pub fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let Some(mut mac) = self.keyed.clone() else { return [0; 32] };
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// The raw subkey, for ciphers.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }
}

/// Makes the digests of keys. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Digester {
    key: Subkey,
    mail: Subkey,
}

impl Digester {
    /// A digester under the instance key.
    pub fn new(instance_key: &[u8; INSTANCE_KEY_BYTES]) -> Self {
        Self { key: Subkey::derive(instance_key, Purpose::Keys), mail: Subkey::derive(instance_key, Purpose::Mail) }
    }

    fn digest(&self, kind: &[u8], parts: &[&str]) -> KeyDigest {
        let mut all: Vec<&[u8]> = Vec::with_capacity(parts.len() + 1);
        all.push(kind);
        all.extend(parts.iter().map(|part| part.as_bytes()));
        let full = self.key.mac(&all);
        let mut cut = [0u8; 16];
        cut.copy_from_slice(full.get(..16).unwrap_or(&[0; 16]));
        KeyDigest(cut)
    }

    /// Item key: the same message by whatever road (design §7). `kind` is `message`, `edit`, `delete`, `reaction` or `status`.
    pub fn item(&self, namespace: &str, account: &str, kind: &str, key: &[&str], revision: &str) -> KeyDigest {
        let mut parts = vec![namespace, account, kind, revision];
        parts.extend_from_slice(key);
        self.digest(b"item", &parts)
    }

    /// Conversation key.
    pub fn conversation(&self, namespace: &str, account: &str, key: &[&str]) -> KeyDigest {
        let mut parts = vec![namespace, account];
        parts.extend_from_slice(key);
        self.digest(b"conversation", &parts)
    }

    /// MAC of a conversation's key in our reply addresses and Message-IDs: 80 bits, all that a local part has room for.
    pub fn mail_mac(&self, key: KeyDigest) -> [u8; 10] {
        let mut cut = [0u8; 10];
        cut.copy_from_slice(self.mail.mac(&[b"conversation", &key.0]).get(..10).unwrap_or(&[0; 10]));
        cut
    }

    /// Delivery key of a raw.
    pub fn delivery(&self, source: &str, key: &str) -> KeyDigest {
        self.digest(b"delivery", &[source, key])
    }

    /// Address of a contact.
    pub fn address(&self, address: &Address) -> KeyDigest {
        self.digest(b"address", &[address.as_str()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_a_border_between_parts_changes_the_digest() {
        let digester = Digester::new(&[7; 32]);
        assert_ne!(digester.item("slack", "T1", "message", &["C1", "23"], ""), digester.item("slack", "T1", "message", &["C12", "3"], ""));
    }

    #[test]
    fn another_instance_key_gives_another_digest() {
        let (one, two) = (Digester::new(&[1; 32]), Digester::new(&[2; 32]));
        assert_ne!(one.delivery("hook", "Ev1"), two.delivery("hook", "Ev1"));
    }
}
