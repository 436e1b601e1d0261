//! Signed tokens (RFC 7519): we say who we are, and for whom we speak. They are exchanged for an access token (RFC 7523, Google's service
//! accounts) or are the credential themselves (App Store Connect). RS256 and ES256 by the crypto provider that TLS uses as well.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::Url;

use crate::connector::token::spec::Algorithm;
use crate::model::time::Time;

/// The key file of a Google service account.
#[derive(Deserialize)]
struct KeyFile {
    client_email: String,
    private_key: SecretString,
    #[serde(default)]
    private_key_id: Option<String>,
    #[serde(default)]
    token_uri: Option<String>,
}

/// A private key that signs tokens, and what its file says beside it.
pub struct SigningKey {
    /// Who it belongs to, where its file says it.
    pub email: Option<String>,
    /// Where its assertions are taken, where its file says it.
    pub token_url: Option<Url>,
    /// Its id, where its file says it.
    pub id: Option<String>,
    key: KeyPair,
}

enum KeyPair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

impl SigningKey {
    /// Reads a key: PEM, or the key file of a service account.
    ///
    /// # Errors
    /// One line that shows nothing of it.
    pub fn read(text: &SecretString, algorithm: Algorithm) -> Result<Self, String> {
        if text.expose_secret().trim_start().starts_with("-----BEGIN") {
            return Ok(Self { email: None, token_url: None, id: None, key: key(text, algorithm)? });
        }
        let file: KeyFile = serde_json::from_str(text.expose_secret()).map_err(|_| {
            "neither a private key in PEM nor the key file of a service account: JSON with `client_email` and `private_key`".to_owned()
        })?;
        let key = key(&file.private_key, algorithm).map_err(|why| format!("its `private_key` is {why}"))?;
        let token_url = file.token_uri.and_then(|url| Url::parse(&url).ok());
        Ok(Self { email: Some(file.client_email), token_url, id: file.private_key_id, key })
    }

    fn algorithm(&self) -> &'static str {
        match self.key {
            KeyPair::Rsa(_) => "RS256",
            KeyPair::P256(_) => "ES256",
        }
    }

    fn sign(&self, text: &[u8]) -> Option<Vec<u8>> {
        match &self.key {
            KeyPair::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature).ok()?;
                Some(signature)
            }
            KeyPair::P256(key) => Some(key.sign(&SystemRandom::new(), text).ok()?.as_ref().to_vec()),
        }
    }
}

fn key(pem: &SecretString, algorithm: Algorithm) -> Result<KeyPair, String> {
    let wanted = match algorithm {
        Algorithm::RS256 => "no RSA key in PEM",
        Algorithm::ES256 => "no P-256 key in PEM (PKCS #8, with its public key)",
    };
    let unusable = || wanted.to_owned();
    let key = PrivateKeyDer::from_pem_slice(pem.expose_secret().as_bytes()).map_err(|_| unusable())?;
    match (algorithm, &key) {
        (Algorithm::RS256, PrivateKeyDer::Pkcs8(key)) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).map(KeyPair::Rsa),
        (Algorithm::RS256, PrivateKeyDer::Pkcs1(key)) => RsaKeyPair::from_der(key.secret_pkcs1_der()).map(KeyPair::Rsa),
        (Algorithm::ES256, PrivateKeyDer::Pkcs8(key)) => {
            let read = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_pkcs8_der(), &SystemRandom::new());
            read.map(KeyPair::P256)
        }
        _ => return Err(unusable()),
    }
    .map_err(|_| unusable())
}

/// An id that no other token has.
fn unique() -> Option<String> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(crate::connector::text::hex(&bytes))
}

/// Signs tokens of one credential.
#[derive(Debug)]
pub struct Signer {
    /// The key.
    pub key: SigningKey,
    /// `kid`.
    pub key_id: Option<String>,
    /// The claims, but for the times.
    pub claims: Map<String, Value>,
    /// How long a token is good for.
    pub life: Duration,
}

impl Signer {
    /// A token that is good from `now` on. `None`: signing failed.
    pub fn token(&self, now: Time) -> Option<SecretString> {
        let mut head = json!({"alg": self.key.algorithm(), "typ": "JWT"});
        if let (Some(id), Some(head)) = (&self.key_id, head.as_object_mut()) {
            head.insert("kid".to_owned(), id.as_str().into());
        }
        let mut claims = self.claims.clone();
        if let Some(id) = claims.get_mut("jti") {
            *id = unique()?.into();
        }
        claims.insert("iat".to_owned(), now.seconds().into());
        claims.insert("exp".to_owned(), now.plus(self.life).seconds().into());
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&head), part(&Value::Object(claims)));
        let signature = self.key.sign(signed.as_bytes())?;
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)).into())
    }
}
