//! `ed25519` and `ecdsa`: the secret is the platform's public key, so it may be read by anybody; it must not be changed by anybody.

use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use secrecy::ExposeSecret;
use serde::Deserialize;

use crate::connector::verify::With;
use crate::connector::verify::der;
use crate::connector::verify::place::Presented;
use crate::connector::verify::signature::{Evidence, KeyForm, Signature};
use crate::connector::verify::template::{Filling, Template};
use crate::connector::verify::time::Timestamp;

/// A signature by an Ed25519 key.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ed25519Check {
    /// Name of the secret with the public key.
    pub secret: String,
    /// How the key is written.
    pub key: KeyForm,
    /// What is signed.
    pub signed: Template,
    /// Where the signature is.
    pub signature: Signature,
    /// The signed time.
    #[serde(default)]
    pub timestamp: Option<Timestamp>,
}

/// A signature by an elliptic curve key: P-256 with SHA-256, in DER. The key is a SubjectPublicKeyInfo in base64.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EcdsaCheck {
    /// Name of the secret with the public key.
    pub secret: String,
    /// What is signed.
    pub signed: Template,
    /// Where the signature is.
    pub signature: Signature,
    /// The signed time.
    #[serde(default)]
    pub timestamp: Option<Timestamp>,
}

impl Ed25519Check {
    /// Whether its parameters fit each other.
    ///
    /// # Errors
    /// What is wrong.
    pub fn valid(&self) -> Result<(), String> {
        self.signature.fits(&self.signed, self.timestamp.as_ref())
    }

    /// Whether any key proves the request.
    pub fn proves(&self, request: &Presented<'_>, with: With<'_>) -> Option<bool> {
        let keys = with.secrets.iter().filter_map(|secret| self.key.bytes(secret.expose_secret())).filter(|key| key.len() == 32);
        let evidence = self.signature.evidence(self.timestamp.as_ref(), request, with.now, "")?;
        proven(&ED25519, keys, &self.signed, request, &evidence)
    }
}

impl EcdsaCheck {
    /// Whether its parameters fit each other.
    ///
    /// # Errors
    /// What is wrong.
    pub fn valid(&self) -> Result<(), String> {
        self.signature.fits(&self.signed, self.timestamp.as_ref())
    }

    /// Whether any key proves the request.
    pub fn proves(&self, request: &Presented<'_>, with: With<'_>) -> Option<bool> {
        let point = |key: Vec<u8>| der::public_key(&key).map(<[u8]>::to_vec);
        let keys = with.secrets.iter().filter_map(|secret| KeyForm::Base64.bytes(secret.expose_secret()).and_then(point));
        let evidence = self.signature.evidence(self.timestamp.as_ref(), request, with.now, "")?;
        proven(&ECDSA_P256_SHA256_ASN1, keys, &self.signed, request, &evidence)
    }
}

/// Whether any signature over `signed` is by any of the keys. All are tried, whichever matches.
fn proven(
    algorithm: &'static dyn VerificationAlgorithm,
    keys: impl Iterator<Item = Vec<u8>>,
    signed: &Template,
    request: &Presented<'_>,
    evidence: &Evidence,
) -> Option<bool> {
    let signed = signed.fill(request, Filling { time: evidence.time.as_deref(), url: request.url, ..Filling::default() })?;
    let by = |key: Vec<u8>| {
        let key = UnparsedPublicKey::new(algorithm, key);
        evidence.signatures.iter().any(|signature| key.verify(&signed, signature).is_ok())
    };
    Some(keys.map(by).fold(false, |found, proven| found | proven))
}
