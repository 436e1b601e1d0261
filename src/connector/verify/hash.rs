//! `hash`: a plain hash over a text that holds the secret. Weaker than `hmac`; some platforms have no other.

use secrecy::ExposeSecret;
use serde::Deserialize;

use crate::connector::verify::hmac::Algorithm;
use crate::connector::verify::place::{Place, Presented};
use crate::connector::verify::signature::{Evidence, Signature};
use crate::connector::verify::template::{Filling, Template};
use crate::connector::verify::time::Timestamp;
use crate::connector::verify::{With, same};

/// A plain hash over a text with the secret in it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HashCheck {
    /// Hash.
    pub algorithm: Algorithm,
    /// Name of the secret.
    pub secret: String,
    /// What is hashed; `{secret}` stands for the secret.
    pub signed: Template,
    /// The parts of `signed` are sorted before they are joined.
    #[serde(default)]
    pub sort: bool,
    /// Where the hash is.
    pub signature: Signature,
    /// The hashed time.
    #[serde(default)]
    pub timestamp: Option<Timestamp>,
    /// Only for requests that have this.
    #[serde(default)]
    pub when: Option<Place>,
}

impl HashCheck {
    /// Whether its parameters fit each other.
    ///
    /// # Errors
    /// What is wrong.
    pub fn valid(&self) -> Result<(), String> {
        self.signature.place().single()?;
        if !self.signed.has_secret() {
            return Err("`signed` of a plain hash must hold {secret}: it would prove nothing".to_owned());
        }
        self.timestamp.as_ref().map_or(Ok(()), |time| time.signed_in(&self.signed))
    }

    /// Whether any secret proves the request.
    pub fn proves(&self, request: &Presented<'_>, with: With<'_>) -> Option<bool> {
        let Evidence { time, signatures } = self.signature.evidence(self.timestamp.as_ref(), request, with.now, "")?;
        let mut proven = false;
        for secret in with.secrets.iter().map(|secret| secret.expose_secret()).filter(|secret| !secret.is_empty()) {
            let filling =
                Filling { time: time.as_deref(), secret, url: request.url, own: self.signature.query.as_deref(), sort: self.sort };
            let expected = self.algorithm.digest(&self.signed.fill(request, filling)?);
            for signature in &signatures {
                proven |= same(&expected, signature);
            }
        }
        Some(proven)
    }
}
