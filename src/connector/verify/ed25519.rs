//! `ed25519`: the secret is the platform's public key, so it may be read by anybody; it must not be changed by anybody.

use ring::signature::{ED25519, UnparsedPublicKey};
use secrecy::ExposeSecret;
use serde::Deserialize;

use crate::connector::verify::With;
use crate::connector::verify::place::Presented;
use crate::connector::verify::signature::{KeyForm, Signature};
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

impl Ed25519Check {
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
        let keys = with.secrets.iter().filter_map(|secret| self.key.bytes(secret.expose_secret())).filter(|key| key.len() == 32);
        let proves = |key: Vec<u8>| {
            let key = UnparsedPublicKey::new(&ED25519, key);
            signatures.iter().any(|signature| key.verify(&signed, signature).is_ok())
        };
        Some(keys.map(proves).fold(false, |found, proven| found | proven))
    }
}
