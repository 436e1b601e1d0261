//! Signed, expiring URLs of files: `{public_url}/files/{att_…}?expires={unix seconds}&signature={base64url}`.
//!
//! The signature covers the attachment's id and the expiry under the subkey of [`Purpose::FileUrls`]; several instance keys
//! verify while they rotate, the first one signs.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::{Choice, ConstantTimeEq};

use crate::logic::digest::{INSTANCE_KEY_BYTES, Purpose, Subkey};
use crate::model::id::AttachmentId;
use crate::model::time::Time;

/// Bytes of the MAC that go into the URL: 128 bits cannot be guessed online, and the URL stays short.
const SIGNATURE_BYTES: usize = 16;

/// Why a URL is refused. The client gets one status for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileUrlError {
    /// The signature is missing or wrong.
    #[error("the signature of the file URL is wrong")]
    Signature,
    /// Its time is over.
    #[error("the file URL has expired")]
    Expired,
}

/// Makes the URLs of files.
#[derive(Debug, Clone)]
pub struct FileUrls {
    base: String,
    valid_ms: i64,
    key: Subkey,
}

impl FileUrls {
    /// URLs below `public_url`, valid for `valid_ms` from the event's time.
    pub fn new(public_url: &str, valid_ms: i64, instance_key: &[u8; INSTANCE_KEY_BYTES]) -> Self {
        let base = format!("{}/files/", public_url.trim_end_matches('/'));
        Self { base, valid_ms, key: Subkey::derive(instance_key, Purpose::FileUrls) }
    }

    /// The URL of one file in an event of time `at`.
    pub fn url(&self, attachment: AttachmentId, at: Time) -> String {
        let expires = at.plus_ms(self.valid_ms).seconds();
        let signature = URL_SAFE_NO_PAD.encode(signature(&self.key, attachment, expires));
        format!("{}{attachment}?expires={expires}&signature={signature}", self.base)
    }
}

/// Checks the URLs of files.
#[derive(Debug, Clone)]
pub struct FileUrlVerifier {
    keys: Vec<Subkey>,
}

impl FileUrlVerifier {
    /// A verifier for all instance keys that are still in use.
    pub fn new(instance_keys: &[[u8; INSTANCE_KEY_BYTES]]) -> Self {
        Self { keys: instance_keys.iter().map(|key| Subkey::derive(key, Purpose::FileUrls)).collect() }
    }

    /// Whether `expires` and `given` (the query's values as text) are what [`FileUrls::url`] made for `attachment`.
    ///
    /// # Errors
    /// [`FileUrlError`]; a wrong signature is told before an expiry, so that nothing is learnt by guessing.
    pub fn verify(&self, attachment: AttachmentId, expires: &str, given: &str, now: Time) -> Result<(), FileUrlError> {
        let expires: i64 = expires.parse().map_err(|_| FileUrlError::Signature)?;
        let given = URL_SAFE_NO_PAD.decode(given).map_err(|_| FileUrlError::Signature)?;
        let found = self.keys.iter().fold(Choice::from(0), |found, key| found | signature(key, attachment, expires).ct_eq(&given[..]));
        if !bool::from(found) {
            return Err(FileUrlError::Signature);
        }
        if now.seconds() > expires { Err(FileUrlError::Expired) } else { Ok(()) }
    }
}

fn signature(key: &Subkey, attachment: AttachmentId, expires: i64) -> Vec<u8> {
    let mac = key.mac(&[&attachment.to_bytes(), &expires.to_be_bytes()]);
    mac.into_iter().take(SIGNATURE_BYTES).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parts(url: &str) -> (String, String) {
        let (_, query) = url.split_once('?').unwrap();
        let (expires, signature) = query.split_once('&').unwrap();
        (expires.strip_prefix("expires=").unwrap().to_owned(), signature.strip_prefix("signature=").unwrap().to_owned())
    }

    #[test]
    fn a_url_verifies_until_it_expires_and_for_its_file_alone() {
        let (one, two) = (AttachmentId(5), AttachmentId(6));
        let urls = FileUrls::new("https://gw.example.org/", 60_000, &[1; 32]);
        let url = urls.url(one, Time(1_000_000));
        assert!(url.starts_with(&format!("https://gw.example.org/files/{one}?expires=1060&signature=")), "{url}");
        let (expires, signature) = parts(&url);
        let verifier = FileUrlVerifier::new(&[[2; 32], [1; 32]]);
        assert_eq!(verifier.verify(one, &expires, &signature, Time(1_060_999)), Ok(()));
        assert_eq!(verifier.verify(one, &expires, &signature, Time(1_061_000)), Err(FileUrlError::Expired));
        assert_eq!(verifier.verify(two, &expires, &signature, Time(0)), Err(FileUrlError::Signature));
        assert_eq!(verifier.verify(one, "1061", &signature, Time(0)), Err(FileUrlError::Signature));
        assert_eq!(verifier.verify(one, &expires, "", Time(0)), Err(FileUrlError::Signature));
        assert_eq!(verifier.verify(one, "x", "%%", Time(0)), Err(FileUrlError::Signature));
        assert_eq!(FileUrlVerifier::new(&[[2; 32]]).verify(one, &expires, &signature, Time(0)), Err(FileUrlError::Signature));
    }
}
