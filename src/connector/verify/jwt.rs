//! `jwt`: a signed token (RFC 7519) by a shared secret or a published key set, with claims that bind it to this very request.

use std::collections::BTreeMap;

use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::Digest;

use crate::connector::text::hex;
use crate::connector::verify::hmac::Algorithm as Hash;
use crate::connector::verify::keys::{Found, Key, Named};
use crate::connector::verify::place::{Place, Presented};
use crate::connector::verify::signature::{Encoding, decode};
use crate::connector::verify::time::Tolerance;
use crate::connector::verify::{Proof, With, same};
use crate::model::time::Time;

/// Longest token.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// A signed token that says whom it is for, and what it vouches for.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtCheck {
    /// Where it is.
    pub token: Place,
    /// Text before it, such as `Bearer `.
    #[serde(default)]
    pub prefix: String,
    /// The only algorithms that count.
    pub algorithms: Vec<Algorithm>,
    /// Name of the shared secret (HS…).
    #[serde(default)]
    pub secret: Option<String>,
    /// Address of the published key set (RS256, ES256).
    #[serde(default)]
    pub jwks: Option<String>,
    /// Who may have made it.
    pub issuer: Vec<String>,
    /// Whom it may be for.
    #[serde(default)]
    pub audience: Vec<String>,
    /// How far clocks may differ.
    #[serde(default = "five_minutes")]
    pub leeway: Tolerance,
    /// How old a token without an end may be.
    #[serde(default)]
    pub age_max: Option<Tolerance>,
    /// Claims and what they must be.
    #[serde(default)]
    pub claims: BTreeMap<String, Rule>,
    /// The key must vouch for what stands here.
    #[serde(default)]
    pub endorsed: Option<Place>,
    /// The claim that makes a token the only one of its kind (`jti`): a second request with it is a repetition.
    #[serde(default)]
    pub nonce: Option<String>,
    /// Only for requests that have this.
    #[serde(default)]
    pub when: Option<Place>,
}

fn five_minutes() -> Tolerance {
    Tolerance(Some(300_000))
}

/// Signature of a token (RFC 7518 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
    /// RSA with SHA-256.
    RS256,
    /// P-256 with SHA-256.
    ES256,
}

/// What a claim must be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Rule {
    /// `sha256hex(body)`; may be missing if the body is empty.
    BodyHash,
    /// `sha256hex(url)`.
    UrlHash,
    /// What stands in the JSON body here, a slash at the end and case aside.
    Json(String),
    /// This text.
    Text(String),
}

impl TryFrom<String> for Rule {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "sha256hex(body)" => Ok(Self::BodyHash),
            "sha256hex(url)" => Ok(Self::UrlHash),
            other => match (other.strip_prefix("json:"), other.strip_prefix('=')) {
                (Some(pointer), _) => Ok(Self::Json(pointer.to_owned())),
                (_, Some(text)) => Ok(Self::Text(text.to_owned())),
                _ => Err("a claim is `sha256hex(body)`, `sha256hex(url)`, `json:/pointer` or `=text`".to_owned()),
            },
        }
    }
}

#[derive(Deserialize)]
struct Header {
    alg: Algorithm,
    #[serde(default)]
    kid: Option<String>,
    /// RFC 7515 §4.1.11: what must be understood. Nothing of it is.
    #[serde(default)]
    crit: Option<Value>,
}

impl JwtCheck {
    /// Whether its parameters fit each other.
    ///
    /// # Errors
    /// What is wrong.
    pub fn valid(&self) -> Result<(), String> {
        self.token.single()?;
        let shared = |algorithm: &Algorithm| matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512);
        match (&self.secret, &self.jwks) {
            (Some(_), None) if self.algorithms.iter().all(shared) => Ok(()),
            // A public key must never be taken for a shared secret.
            (None, Some(_)) if !self.algorithms.iter().any(shared) => Ok(()),
            _ => Err("name a `secret` with HS algorithms, or a `jwks` with RS256 or ES256".to_owned()),
        }
    }

    /// Whether it can prove anything without a secret.
    pub fn stands_alone(&self) -> bool {
        self.jwks.is_some() && self.audience.iter().any(|audience| !audience.is_empty())
    }

    /// Whether the token proves the request.
    pub fn proves(&self, request: &Presented<'_>, with: With<'_>) -> Proof {
        self.check(request, with).unwrap_or(Proof::No)
    }

    fn check(&self, request: &Presented<'_>, with: With<'_>) -> Option<Proof> {
        let token = request.at(&self.token)?;
        let token = token.strip_prefix(&self.prefix)?.trim();
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (head, payload) = signed.split_once('.')?;
        let header: Header = serde_json::from_slice(&decode(Encoding::Base64url, head)?).ok()?;
        if !self.algorithms.contains(&header.alg) || header.crit.is_some() {
            return None;
        }
        let signature = decode(Encoding::Base64url, signature)?;
        let claims: Map<String, Value> = serde_json::from_slice(&decode(Encoding::Base64url, payload)?).ok()?;
        // What the token says of itself costs nothing to check, and saves fetching keys for strangers.
        if !self.meant(&claims, with.now) || !self.bound(&claims, request)? {
            return None;
        }
        let Some(jwks) = &self.jwks else {
            return Some(Some(shared(header.alg, signed.as_bytes(), &signature, with)).into());
        };
        match with.keys.find(jwks, Some(header.kid.as_deref()?), with.now) {
            Found::NotYet => Some(Proof::NoKey),
            Found::None => None,
            Found::Key(named) => {
                let endorsed = self.endorsed(&named, request)?;
                Some(Some(endorsed && published(header.alg, &named.key, signed.as_bytes(), &signature)).into())
            }
        }
    }

    /// A claim of the token, whoever made it: only for what was proven.
    pub fn claim(&self, request: &Presented<'_>, name: &str) -> Option<String> {
        let token = request.at(&self.token)?;
        let payload = token.strip_prefix(&self.prefix)?.trim().split('.').nth(1)?;
        let claims: Map<String, Value> = serde_json::from_slice(&decode(Encoding::Base64url, payload)?).ok()?;
        claims.get(name)?.as_str().map(str::to_owned)
    }

    /// Whether it is from one of ours, for us, and now.
    fn meant(&self, claims: &Map<String, Value>, now: Time) -> bool {
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let issued = text("iss").is_some_and(|issuer| self.issuer.iter().any(|known| known == issuer));
        let named: Vec<&str> = match claims.get("aud") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let wanted = |audience: &&str| self.audience.iter().any(|known| !known.is_empty() && known == audience);
        let for_us = (self.audience.is_empty() && self.jwks.is_none()) || named.iter().any(wanted);
        let at = |name: &str| claims.get(name).and_then(Value::as_f64).map(|seconds| (seconds * 1000.0) as i64);
        let leeway = self.leeway.0.unwrap_or(i64::MAX / 4);
        let begun = at("nbf").is_none_or(|from| now.0 >= from.saturating_sub(leeway));
        let alive = match (at("exp"), at("iat"), self.age_max) {
            (Some(until), ..) => now.0 <= until.saturating_add(leeway),
            (None, Some(made), Some(Tolerance(Some(age)))) => now.0 <= made.saturating_add(age) && now.0 >= made.saturating_sub(leeway),
            _ => false,
        };
        issued && for_us && begun && alive
    }

    /// Whether its claims are those of this request.
    fn bound(&self, claims: &Map<String, Value>, request: &Presented<'_>) -> Option<bool> {
        let hashed = |bytes: &[u8], given: &str| same(given.as_bytes(), hex(&sha2::Sha256::digest(bytes)).as_bytes());
        for (name, rule) in &self.claims {
            let given = match claims.get(name) {
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
                None if *rule == Rule::BodyHash && request.body.is_empty() => continue,
                None => return None,
            };
            let fits = match rule {
                Rule::BodyHash => hashed(request.body, &given),
                Rule::UrlHash => hashed(request.url.as_bytes(), &given),
                Rule::Text(text) => given == *text,
                Rule::Json(pointer) => request.json(pointer)?.trim_end_matches('/').eq_ignore_ascii_case(given.trim_end_matches('/')),
            };
            if !fits {
                return Some(false);
            }
        }
        Some(true)
    }

    fn endorsed(&self, named: &Named, request: &Presented<'_>) -> Option<bool> {
        let Some(place) = &self.endorsed else { return Some(true) };
        if named.endorsements.is_empty() {
            return Some(true);
        }
        let wanted = request.at(place)?;
        Some(named.endorsements.iter().any(|endorsement| *endorsement == *wanted))
    }
}

fn shared(algorithm: Algorithm, signed: &[u8], signature: &[u8], with: With<'_>) -> bool {
    let hash = match algorithm {
        Algorithm::HS256 => Hash::Sha256,
        Algorithm::HS384 => Hash::Sha384,
        Algorithm::HS512 => Hash::Sha512,
        Algorithm::RS256 | Algorithm::ES256 => return false,
    };
    let secrets = with.secrets.iter().map(|secret| secret.expose_secret()).filter(|secret| !secret.is_empty());
    secrets.fold(false, |found, secret| found | same(&hash.mac(secret.as_bytes(), signed), signature))
}

fn published(algorithm: Algorithm, key: &Key, signed: &[u8], signature: &[u8]) -> bool {
    match (algorithm, key) {
        (Algorithm::RS256, Key::Rsa { n, e }) => {
            RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature).is_ok()
        }
        (Algorithm::ES256, Key::P256(point)) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature).is_ok(),
        _ => false,
    }
}
