//! The signed assertion of a service account (RFC 7523), as Google takes it: the account says who it is and, with delegation, for whom it
//! speaks. RS256 by the crypto provider that TLS uses as well.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

use crate::model::time::Time;

/// How long an assertion is good for: the longest that Google takes.
const VALID_S: i64 = 3600;

/// A service account's key file.
#[derive(Deserialize)]
struct KeyFile {
    client_email: String,
    private_key: SecretString,
    #[serde(default)]
    private_key_id: Option<String>,
    #[serde(default)]
    token_uri: Option<String>,
}

/// A service account that can sign.
pub struct AccountKey {
    /// Who it is.
    pub email: String,
    /// Where its assertions are taken, as its file says.
    pub token_url: Option<Url>,
    key_id: Option<String>,
    key: RsaKeyPair,
}

impl std::fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccountKey(…)")
    }
}

impl AccountKey {
    /// Reads a key file.
    ///
    /// # Errors
    /// One line that shows nothing of it.
    pub fn read(file: &SecretString) -> Result<Self, String> {
        let file: KeyFile = serde_json::from_str(file.expose_secret())
            .map_err(|_| "not the key file of a service account: JSON with `client_email` and `private_key`".to_owned())?;
        let unusable = || "its `private_key` is no RSA key in PEM".to_owned();
        let key = PrivateKeyDer::from_pem_slice(file.private_key.expose_secret().as_bytes()).map_err(|_| unusable())?;
        let key = match &key {
            PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
            _ => return Err(unusable()),
        };
        let key = key.map_err(|_| unusable())?;
        Ok(Self {
            email: file.client_email,
            token_url: file.token_uri.and_then(|url| Url::parse(&url).ok()),
            key_id: file.private_key_id,
            key,
        })
    }

    /// An assertion for the token endpoint at `audience`, on behalf of `subject`. `None`: signing failed.
    pub fn assertion(&self, audience: &Url, scope: &str, subject: Option<&str>, now: Time) -> Option<String> {
        let mut head = serde_json::json!({"alg": "RS256", "typ": "JWT"});
        let mut claims = serde_json::json!({
            "iss": self.email, "scope": scope, "aud": audience.as_str(), "iat": now.seconds(), "exp": now.seconds() + VALID_S,
        });
        if let (Some(id), Some(head)) = (&self.key_id, head.as_object_mut()) {
            head.insert("kid".to_owned(), id.as_str().into());
        }
        if let (Some(subject), Some(claims)) = (subject, claims.as_object_mut()) {
            claims.insert("sub".to_owned(), subject.into());
        }
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&head), part(&claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).ok()?;
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
