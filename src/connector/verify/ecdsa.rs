//! `ecdsa`: P-256 with SHA-256, signature in DER; the secret is the platform's public key (SubjectPublicKeyInfo, base64).

use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use secrecy::ExposeSecret;
use serde::Deserialize;

use crate::connector::verify::With;
use crate::connector::verify::der;
use crate::connector::verify::place::Presented;
use crate::connector::verify::signature::{KeyForm, Signature};
use crate::connector::verify::template::{Filling, Template};
use crate::connector::verify::time::Timestamp;

/// A signature by an elliptic curve key.
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

impl EcdsaCheck {
    /// Whether its parameters fit each other.
    ///
    /// # Errors
    /// What is wrong.
    pub fn valid(&self) -> Result<(), String> {
        self.signature.place().single()?;
        self.timestamp.as_ref().map_or(Ok(()), |time| time.signed_in(&self.signed))
    }

    /// Whether any key proves the request.
    pub fn proves(&self, request: &Presented<'_>, with: With<'_>) -> Option<bool> {
        let time = match &self.timestamp {
            Some(rule) => Some(rule.of(request, with.now)?),
            None => None,
        };
        let given = request.at(&self.signature.place())?;
        let signed = self.signed.fill(request, Filling { time: time.as_deref(), url: request.url, ..Filling::default() })?;
        let signatures = self.signature.decoded(&given);
        let proves = |key: &[u8]| {
            let Some(point) = der::public_key(key) else { return false };
            let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point);
            signatures.iter().any(|signature| key.verify(&signed, signature).is_ok())
        };
        let keys = with.secrets.iter().filter_map(|secret| KeyForm::Base64.bytes(secret.expose_secret()));
        Some(keys.map(|key| proves(&key)).fold(false, |found, proven| found | proven))
    }
}
