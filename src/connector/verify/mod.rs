//! Verify: is a request from the platform? Over the raw bytes, before anything of them is used.
//!
//! Kinds are Rust, written once; a manifest chooses one and gives parameters. All comparisons take constant time, a missing
//! part refuses, and a refusal says nothing about why. Keys that a platform publishes (`jwt` with a key set, `sns`) are read from
//! a [`KeyRing`] that somebody else fills: nothing here touches the network.

mod der;
mod fixed;
mod hash;
mod hmac;
mod jwt;
mod keys;
mod place;
mod public_key;
mod signature;
mod sns;
mod template;
#[cfg(test)]
mod tests;
mod time;

use std::borrow::Cow;

use secrecy::SecretString;
use serde::Deserialize;
use subtle::ConstantTimeEq;

use crate::model::time::Time;

pub use crate::connector::verify::hmac::Algorithm;
pub use crate::connector::verify::keys::KeyRing;
pub use crate::connector::verify::place::{Place, Presented};
pub use crate::connector::verify::signature::{Encoding, decode};
pub use crate::connector::verify::sns::is_amazons;

/// How requests are verified.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// A keyed hash over a text put together from the request.
    Hmac(hmac::HmacCheck),
    /// A plain hash over a text with the secret in it.
    Hash(hash::HashCheck),
    /// A signature by an Ed25519 key.
    Ed25519(public_key::Ed25519Check),
    /// A signature by an elliptic curve key.
    Ecdsa(public_key::EcdsaCheck),
    /// A signed token that says whom it is for, and what it vouches for.
    Jwt(jwt::JwtCheck),
    /// Amazon SNS: a signature by a certificate that the message names.
    Sns(sns::SnsCheck),
    /// Something in the request is equal to a secret.
    Static(fixed::StaticCheck),
}

/// What verification found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// It is from the platform.
    Yes,
    /// It is not, or nobody can tell.
    No,
    /// The key that would tell is not known yet; it was asked for.
    NoKey,
}

/// A part that must be there is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing;

impl From<Option<bool>> for Proof {
    fn from(proven: Option<bool>) -> Self {
        if proven == Some(true) { Self::Yes } else { Self::No }
    }
}

/// What verification works with besides the request.
#[derive(Debug, Clone, Copy)]
pub struct With<'a> {
    /// Values of the secret; several while rotating.
    pub secrets: &'a [SecretString],
    /// Keys that platforms publish.
    pub keys: &'a KeyRing,
    /// The clock.
    pub now: Time,
}

impl Kind {
    /// Reads the parameters of a manifest.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(table: toml::Table) -> Result<Self, String> {
        let kind = match Self::deserialize(toml::Value::Table(table)) {
            Ok(kind) => kind,
            Err(error) => return Err(error.message().replace('\n', " ")),
        };
        match &kind {
            Self::Hmac(check) => check.valid(),
            Self::Hash(check) => check.valid(),
            Self::Ed25519(check) => check.valid(),
            Self::Ecdsa(check) => check.valid(),
            Self::Jwt(check) => check.valid(),
            Self::Static(check) => check.valid(),
            Self::Sns(_) => Ok(()),
        }?;
        Ok(kind)
    }

    /// Name of the secret it needs; `None`: it needs the platform's published keys.
    pub fn secret(&self) -> Option<&str> {
        match self {
            Self::Hmac(check) => Some(&check.secret),
            Self::Hash(check) => Some(&check.secret),
            Self::Ed25519(check) => Some(&check.secret),
            Self::Ecdsa(check) => Some(&check.secret),
            Self::Jwt(check) => check.secret.as_deref(),
            Self::Static(check) => Some(&check.secret),
            Self::Sns(_) => None,
        }
    }

    /// Whether it can prove anything without a secret: the settings that say whom a request must be for are set.
    pub fn stands_alone(&self) -> bool {
        match self {
            Self::Jwt(check) => check.stands_alone(),
            Self::Sns(check) => check.stands_alone(),
            _ => false,
        }
    }

    /// Whether it is meant for this request.
    pub fn fits(&self, request: &Presented<'_>) -> bool {
        let when = match self {
            Self::Hmac(check) => check.when.as_ref(),
            Self::Hash(check) => check.when.as_ref(),
            Self::Jwt(check) => check.when.as_ref(),
            Self::Static(check) => check.when.as_ref(),
            _ => None,
        };
        when.is_none_or(|place| request.at(place).is_some())
    }

    /// Addresses of the keys it will need, for fetching them before the first request.
    pub fn key_urls(&self) -> Vec<&str> {
        match self {
            Self::Jwt(check) => check.jwks.iter().map(String::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// The header that carries a secret itself, which must not be kept (I7).
    pub fn secret_header(&self) -> Option<&str> {
        match self {
            Self::Static(check) if check.basic => Some("authorization"),
            Self::Static(check) => check.header.as_deref(),
            Self::Jwt(check) => check.token.header.as_deref(),
            _ => None,
        }
    }

    /// The query parameter that carries a secret itself.
    pub fn secret_parameter(&self) -> Option<&str> {
        match self {
            Self::Static(check) => check.query.as_deref(),
            _ => None,
        }
    }

    /// Where in the body the secret itself stands, which must not be kept (I7).
    pub fn secret_place(&self) -> Option<Place> {
        match self {
            Self::Static(check) => Some(check.place()).filter(|place| place.json.is_some() || place.form.is_some()),
            _ => None,
        }
    }

    /// What makes a proven request the only one of its kind; `None`: it says nothing of the sort.
    ///
    /// # Errors
    /// It must say so, and does not.
    pub fn nonce(&self, request: &Presented<'_>) -> Result<Option<String>, Missing> {
        let found = match self {
            Self::Hmac(check) => check.nonce.as_ref().map(|place| request.at(place).map(Cow::into_owned)),
            Self::Jwt(check) => check.nonce.as_ref().map(|claim| check.claim(request, claim)),
            _ => None,
        };
        match found {
            None => Ok(None),
            Some(Some(nonce)) if !nonce.is_empty() => Ok(Some(nonce)),
            Some(_) => Err(Missing),
        }
    }

    /// Whether the request is proven by any of the secrets. No secrets: never, unless the kind needs none.
    pub fn proves(&self, request: &Presented<'_>, with: With<'_>) -> Proof {
        match self {
            Self::Hmac(check) => check.proves(request, with).into(),
            Self::Hash(check) => check.proves(request, with).into(),
            Self::Ed25519(check) => check.proves(request, with).into(),
            Self::Ecdsa(check) => check.proves(request, with).into(),
            Self::Jwt(check) => check.proves(request, with),
            Self::Sns(check) => check.proves(request, with),
            Self::Static(check) => check.proves(request, with).into(),
        }
    }
}

fn same(one: &[u8], other: &[u8]) -> bool {
    bool::from(one.ct_eq(other))
}
