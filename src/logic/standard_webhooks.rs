//! Standard Webhooks 1.0.0: the signature of a delivery. Signed content is `{id}.{timestamp}.{body}`, HMAC-SHA-256 under the
//! decoded bytes behind `whsec_`. Several secrets give several entries, so that receivers can rotate at their own pace.

use self::key::Key;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Shortest key the specification allows.
pub const KEY_BYTES_MIN: usize = 24;
/// Longest key the specification allows.
pub const KEY_BYTES_MAX: usize = 64;
/// More secrets than this is a mistake in a file, not a rotation; it also bounds the header.
pub const SECRETS_MAX: usize = 10;

const PREFIX: &str = "whsec_";

/// A text that is no webhook secret. Never shows the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// It has the prefix of a signature.
    #[error("a webhook secret starts with `whsec_`: remove the `v1,` before it")]
    Version,
    /// The private key of the asymmetric scheme.
    #[error("`whsk_` is a private key of the asymmetric scheme, which no published library verifies: use a `whsec_` secret")]
    Asymmetric,
    /// It has another prefix or none.
    #[error("a webhook secret starts with `whsec_`, followed by base64")]
    Prefix,
    /// It is not base64.
    #[error("the part of the webhook secret behind `whsec_` is not standard base64 with padding")]
    Base64,
    /// It is too short or too long.
    #[error("the webhook secret holds {0} bytes: 24 to 64 are allowed")]
    Length(usize),
    /// There is none.
    #[error("no webhook secret")]
    Missing,
    /// There are too many.
    #[error("more than 10 webhook secrets")]
    TooMany,
}

mod key {
    //! The key in a type of its own, so that no `Debug` of a struct around it can show it.
    #[derive(Clone)]
    pub struct Key(pub Vec<u8>);
    impl std::fmt::Debug for Key {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Key(…)")
        }
    }
}

/// Signs deliveries with one or more secrets.
#[derive(Debug, Clone)]
pub struct Signer {
    keys: Vec<Key>,
}

impl Signer {
    /// A signer for `whsec_…` secrets, the newest first.
    ///
    /// # Errors
    /// [`SecretError`] if one of them is no secret, or there is none.
    pub fn new<S: AsRef<str>>(secrets: &[S]) -> Result<Self, SecretError> {
        if secrets.is_empty() {
            return Err(SecretError::Missing);
        }
        if secrets.len() > SECRETS_MAX {
            return Err(SecretError::TooMany);
        }
        let keys = secrets.iter().map(|secret| parse(secret.as_ref()).map(Key)).collect::<Result<_, _>>()?;
        Ok(Self { keys })
    }

    /// The value of `webhook-signature`: one `v1,` entry a secret, single spaces between. Libraries in use raise an
    /// exception for anything else in this header, even for two spaces in a row.
    pub fn sign(&self, id: &str, timestamp_s: i64, body: &[u8]) -> String {
        let timestamp = timestamp_s.to_string();
        let mut header = String::with_capacity(self.keys.len() * 48);
        for key in &self.keys {
            // HMAC takes keys of any length (RFC 2104 §2).
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key.0) else { continue };
            mac.update(id.as_bytes());
            mac.update(b".");
            mac.update(timestamp.as_bytes());
            mac.update(b".");
            mac.update(body);
            if !header.is_empty() {
                header.push(' ');
            }
            header.push_str("v1,");
            STANDARD.encode_string(mac.finalize().into_bytes(), &mut header);
        }
        header
    }
}

/// The key behind a `whsec_…` secret.
///
/// # Errors
/// [`SecretError`] says what is wrong with it, without showing it.
pub fn parse(secret: &str) -> Result<Vec<u8>, SecretError> {
    let secret = secret.trim();
    if secret.starts_with("v1,") {
        return Err(SecretError::Version);
    }
    if secret.starts_with("whsk_") {
        return Err(SecretError::Asymmetric);
    }
    let text = secret.strip_prefix(PREFIX).ok_or(SecretError::Prefix)?;
    let key = STANDARD.decode(text).map_err(|_| SecretError::Base64)?;
    if (KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&key.len()) { Ok(key) } else { Err(SecretError::Length(key.len())) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const ID: &str = "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk";
    const BODY: &[u8] = br#"{"email":"test@example.com","username":"test_user"}"#;
    const EXPECTED: &str = "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";

    #[test]
    fn the_vector_of_the_specification_signs_as_published() {
        assert_eq!(Signer::new(&[SECRET]).unwrap().sign(ID, 1_649_367_553, BODY), EXPECTED);
    }

    #[test]
    fn two_secrets_give_two_entries_with_one_space_between() {
        let other = format!("whsec_{}", STANDARD.encode([7u8; 32]));
        let header = Signer::new(&[SECRET, &other]).unwrap().sign(ID, 1_649_367_553, BODY);
        let entries: Vec<&str> = header.split(' ').collect();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries.first().copied(), Some(EXPECTED));
        assert!(entries.iter().all(|entry| entry.starts_with("v1,") && entry.len() == EXPECTED.len()));
    }

    #[test]
    fn each_mistake_in_a_secret_has_its_own_words() {
        let long = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![1u8; bytes]));
        for (text, expected) in [
            ("v1,whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD".to_owned(), SecretError::Version),
            ("whsk_C2FVsBQIhrscChlQIMV+b5sSYspob7oD".to_owned(), SecretError::Asymmetric),
            ("C2FVsBQIhrscChlQIMV+b5sSYspob7oD".to_owned(), SecretError::Prefix),
            ("whsec_***".to_owned(), SecretError::Base64),
            (long(23), SecretError::Length(23)),
            (long(65), SecretError::Length(65)),
        ] {
            let error = parse(&text).unwrap_err();
            assert_eq!(error, expected);
            assert!(!error.to_string().contains("C2FV"), "I7: the error shows the secret");
        }
        assert!(parse(&long(24)).is_ok() && parse(&long(64)).is_ok());
        assert_eq!(Signer::new::<&str>(&[]).unwrap_err(), SecretError::Missing);
    }

    #[test]
    fn debug_does_not_show_the_key() {
        assert!(!format!("{:?}", Signer::new(&[SECRET]).unwrap()).contains("11"));
    }
}
