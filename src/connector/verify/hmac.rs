//! `hmac`: a keyed hash over a text put together from the request.

use std::collections::BTreeMap;

use hmac::{Hmac, Mac};
use secrecy::ExposeSecret;
use serde::Deserialize;
use sha2::Digest;

use crate::connector::text::hex;
use crate::connector::verify::place::{Place, Presented};
use crate::connector::verify::signature::{Evidence, KeyForm, Signature};
use crate::connector::verify::template::{Filling, Template};
use crate::connector::verify::time::Timestamp;
use crate::connector::verify::{With, same};

/// A keyed hash over a text put together from the request.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HmacCheck {
    /// Hash.
    pub algorithm: Algorithm,
    /// Name of the secret.
    pub secret: String,
    /// How the secret is written.
    #[serde(default)]
    pub key: KeyForm,
    /// What is signed.
    #[serde(default = "Template::body_only")]
    pub signed: Template,
    /// Where the signature is.
    pub signature: Signature,
    /// The signed time.
    #[serde(default)]
    pub timestamp: Option<Timestamp>,
    /// What makes a request the only one of its kind, where the platform signs it: a second request with it is a repetition.
    #[serde(default)]
    pub nonce: Option<Place>,
    /// The request may choose another hash of this list.
    #[serde(default)]
    pub algorithm_from: Option<AlgorithmFrom>,
    /// The URL is tried as it is called, and with its port written out or left out.
    #[serde(default)]
    pub ports: Ports,
    /// Query parameter with the SHA-256 of the body, for bodies that are no form and so not part of what is signed.
    #[serde(default)]
    pub body_sha256: Option<String>,
    /// Only for requests that have this.
    #[serde(default)]
    pub when: Option<Place>,
}

/// What names the hash: a header, as `…, algorithm=NAME, …`, or the signature itself, as `NAME=…`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlgorithmFrom {
    /// The header.
    #[serde(default)]
    pub header: Option<String>,
    /// The word before the name in it.
    #[serde(default)]
    pub after: Option<String>,
    /// What stands between name and signature (`=` in X-Hub-Signature).
    #[serde(default)]
    pub before: Option<String>,
    /// The platform's names, and what they mean.
    pub values: BTreeMap<String, Algorithm>,
}

/// How the port of a signed URL is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ports {
    /// As it is called.
    #[default]
    AsCalled,
    /// With and without.
    Both,
}

/// Hash of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// MD5; some platforms have no other.
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl HmacCheck {
    /// Whether its parameters fit each other.
    ///
    /// # Errors
    /// What is wrong.
    pub fn valid(&self) -> Result<(), String> {
        self.nonce.as_ref().map_or(Ok(()), Place::single)?;
        if let Some(AlgorithmFrom { header, after, before, .. }) = &self.algorithm_from
            && (header.is_some() != after.is_some() || header.is_some() == before.is_some())
        {
            return Err("`algorithm_from` is a `header` and the word `after` which the name stands, or what stands `before` the signature"
                .to_owned());
        }
        self.signature.fits(&self.signed, self.timestamp.as_ref())
    }

    /// Whether any secret proves the request.
    pub fn proves(&self, request: &Presented<'_>, with: With<'_>) -> Option<bool> {
        let (algorithm, name) = self.algorithm(request)?;
        let Evidence { time, signatures } = self.signature.evidence(self.timestamp.as_ref(), request, with.now, &name)?;
        if !self.body_hash(request)? {
            return Some(false);
        }
        let mut proven = false;
        for url in urls(request.url, self.ports) {
            let filling = Filling { time: time.as_deref(), url: &url, own: self.signature.query.as_deref(), ..Filling::default() };
            let signed = self.signed.fill(request, filling)?;
            for secret in with.secrets {
                let Some(key) = self.key.bytes(secret.expose_secret()).filter(|key| !key.is_empty()) else { continue };
                let expected = algorithm.mac(&key, &signed);
                for signature in &signatures {
                    proven |= same(&expected, signature);
                }
            }
        }
        Some(proven)
    }

    /// The hash, and what names it before the signature.
    fn algorithm(&self, request: &Presented<'_>) -> Option<(Algorithm, String)> {
        let usual = Some((self.algorithm, String::new()));
        let Some(rule) = &self.algorithm_from else { return usual };
        if let Some(before) = &rule.before {
            let given = request.at(&self.signature.place())?;
            let (name, _) = given.split_once(before.as_str())?;
            return rule.values.get(name.trim()).map(|algorithm| (*algorithm, format!("{}{before}", name.trim())));
        }
        let (Some(header), Some(after)) = (&rule.header, &rule.after) else { return usual };
        let Some(header) = request.header(header) else { return usual };
        let Some((_, rest)) = header.split_once(&format!("{after}=")) else { return usual };
        let name = rest.split([',', ';', ' ']).next().unwrap_or_default();
        rule.values.get(name).map(|algorithm| (*algorithm, String::new()))
    }

    /// A body that is no form is proven by its hash in the signed URL.
    fn body_hash(&self, request: &Presented<'_>) -> Option<bool> {
        let Some(name) = &self.body_sha256 else { return Some(true) };
        if request.is_form() || request.body.is_empty() {
            return Some(true);
        }
        let given = request.at(&Place { query: Some(name.clone()), ..Place::default() })?;
        Some(same(given.to_ascii_lowercase().as_bytes(), hex(&sha2::Sha256::digest(request.body)).as_bytes()))
    }
}

/// The forms of a URL that are tried.
fn urls(url: &str, ports: Ports) -> Vec<String> {
    let mut all = vec![url.to_owned()];
    if ports == Ports::Both
        && let Some((scheme, rest)) = url.split_once("://")
    {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, path) = rest.split_at(end);
        let default = if scheme == "https" { 443 } else { 80 };
        let (name, port) = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).unwrap_or((host, ""));
        let port = port.parse().unwrap_or(default);
        all = vec![format!("{scheme}://{name}{path}"), format!("{scheme}://{name}:{port}{path}")];
    }
    all
}

impl Algorithm {
    /// The keyed hash.
    pub fn mac(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        // HMAC takes keys of any length (RFC 2104 §2), so none of these fails.
        macro_rules! mac {
            ($hash:ty) => {
                Hmac::<$hash>::new_from_slice(key).map(|mac| mac.chain_update(message).finalize().into_bytes().to_vec()).unwrap_or_default()
            };
        }
        match self {
            Self::Md5 => mac!(md5::Md5),
            Self::Sha1 => mac!(sha1::Sha1),
            Self::Sha256 => mac!(sha2::Sha256),
            Self::Sha384 => mac!(sha2::Sha384),
            Self::Sha512 => mac!(sha2::Sha512),
        }
    }

    /// The plain hash.
    pub fn digest(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Md5 => md5::Md5::digest(message).to_vec(),
            Self::Sha1 => sha1::Sha1::digest(message).to_vec(),
            Self::Sha256 => sha2::Sha256::digest(message).to_vec(),
            Self::Sha384 => sha2::Sha384::digest(message).to_vec(),
            Self::Sha512 => sha2::Sha512::digest(message).to_vec(),
        }
    }
}
