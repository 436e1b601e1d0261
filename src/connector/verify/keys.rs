//! Keys that platforms publish: what is known of them, and what somebody with a network should fetch.
//!
//! Verification is pure, so it asks and goes on: a key that is not known yet gives [`crate::connector::verify::Proof::NoKey`], the platform is
//! told to come again, and [`KeyRing::wanted`] names the address. An unknown key id makes us fetch again at most every [`REFETCH_MS`].

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;

use crate::connector::verify::der;
use crate::connector::verify::signature::{Encoding, decode};
use crate::model::time::Time;

/// Addresses remembered. Those of certificates come from requests nobody has proven yet.
const URLS_MAX: usize = 32;
/// Keys of one address.
const KEYS_MAX: usize = 64;
/// Pages to visit that wait.
const VISITS_MAX: usize = 32;
/// An unknown key id is a reason to fetch again after this.
const REFETCH_MS: i64 = 5 * 60_000;
/// A fetch that failed is tried again after this.
const RETRY_MS: i64 = 5_000;
/// Keys older than this are fetched again before anybody asks.
const STALE_MS: i64 = 12 * 3_600_000;

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// RSA, by modulus and exponent.
    Rsa {
        /// Modulus.
        n: Vec<u8>,
        /// Exponent.
        e: Vec<u8>,
    },
    /// RSA, as PKCS #1 has it.
    Pkcs1(Vec<u8>),
    /// A point of P-256, uncompressed.
    P256(Vec<u8>),
}

/// A key with its name and what it may vouch for.
#[derive(Debug, Clone)]
pub struct Named {
    /// Its id; certificates have none.
    pub id: Option<String>,
    /// The key.
    pub key: Key,
    /// Channels it may speak for (Bot Framework); empty: the platform does not say.
    pub endorsements: Vec<String>,
}

#[derive(Debug, Clone, Default)]
struct Entry {
    keys: Vec<Named>,
    fetched_at: Option<Time>,
    asked_at: Option<Time>,
    wanted: bool,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<String, Entry>,
    visits: Vec<String>,
}

/// What is known of published keys.
#[derive(Debug, Default)]
pub struct KeyRing(Mutex<State>);

/// An answer of the ring.
#[derive(Debug, Clone)]
pub enum Found {
    /// The key.
    Key(Named),
    /// The platform has no such key.
    None,
    /// Nobody knows yet.
    NotYet,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Jwk>,
}

/// RFC 7517, the members we use.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
    #[serde(default)]
    endorsements: Vec<String>,
}

impl Jwk {
    fn named(self) -> Option<Named> {
        let bytes = |text: &str| decode(Encoding::Base64url, text).filter(|bytes| !bytes.is_empty());
        let key = match (self.kty.as_str(), self.crv.as_str()) {
            ("RSA", _) => Key::Rsa { n: bytes(&self.n)?, e: bytes(&self.e)? },
            ("EC", "P-256") => Key::P256([vec![4], bytes(&self.x)?, bytes(&self.y)?].concat()),
            _ => return None,
        };
        Some(Named { id: self.kid, key, endorsements: self.endorsements })
    }
}

impl KeyRing {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key `id` of the set at `url` (of a certificate: its only key).
    pub fn find(&self, url: &str, id: Option<&str>, now: Time) -> Found {
        let mut state = self.state();
        if !state.entries.contains_key(url) && state.entries.len() >= URLS_MAX {
            // Those that gave nothing make room; known keys never do.
            let useless = state.entries.iter().find(|(_, entry)| entry.keys.is_empty()).map(|(url, _)| url.clone());
            let Some(useless) = useless else { return Found::None };
            state.entries.remove(&useless);
        }
        let entry = state.entries.entry(url.to_owned()).or_default();
        if let Some(named) = entry.keys.iter().find(|named| id.is_none() || named.id.as_deref() == id) {
            return Found::Key(named.clone());
        }
        let recent = entry.fetched_at.is_some_and(|at| now.0 - at.0 < REFETCH_MS);
        if recent {
            return Found::None;
        }
        entry.wanted = true;
        Found::NotYet
    }

    /// Takes over what `other` knows of the addresses that this ring will be asked about: after a reload nobody waits for known keys.
    pub fn inherit(&self, other: &Self) {
        self.take_over(other, false);
    }

    /// Takes over all that `other` knows: the same hook before a reload, whose certificates nobody could name beforehand.
    pub fn succeed(&self, other: &Self) {
        self.take_over(other, true);
    }

    fn take_over(&self, other: &Self, all: bool) {
        let known: Vec<(String, Entry)> = {
            let state = other.state();
            let told = state.entries.iter().filter(|(_, entry)| !entry.keys.is_empty());
            told.map(|(url, entry)| (url.clone(), entry.clone())).collect()
        };
        let mut state = self.state();
        for (url, entry) in known {
            let wanted = state.entries.get(&url).map_or(all && state.entries.len() < URLS_MAX, |own| own.keys.is_empty());
            if wanted {
                state.entries.insert(url, Entry { wanted: false, ..entry });
            }
        }
    }

    /// Asks for the keys at `url` before anybody needs them.
    pub fn expect(&self, url: &str) {
        self.state().entries.entry(url.to_owned()).or_default().wanted = true;
    }

    /// Takes what was fetched: a key set, or a certificate in PEM.
    ///
    /// # Errors
    /// It holds no key.
    pub fn put(&self, url: &str, document: &[u8], now: Time) -> Result<(), String> {
        let keys = read(document).ok_or_else(|| "neither a key set nor a certificate".to_owned())?;
        let mut state = self.state();
        let entry = state.entries.entry(url.to_owned()).or_default();
        *entry = Entry { keys, fetched_at: Some(now), asked_at: entry.asked_at, wanted: false };
        Ok(())
    }

    /// Addresses to fetch now; each is given again only after a while.
    pub fn wanted(&self, now: Time) -> Vec<String> {
        let mut state = self.state();
        let due = |entry: &Entry| {
            let stale = entry.fetched_at.is_some_and(|at| now.0 - at.0 > STALE_MS);
            (entry.wanted || stale) && entry.asked_at.is_none_or(|at| now.0 - at.0 >= RETRY_MS)
        };
        let mut all = Vec::new();
        for (url, entry) in state.entries.iter_mut().filter(|(_, entry)| due(entry)) {
            entry.asked_at = Some(now);
            all.push(url.clone());
        }
        all
    }

    /// Whether somebody asked for keys that are not here.
    pub fn is_waiting(&self) -> bool {
        self.state().entries.values().any(|entry| entry.wanted && entry.keys.is_empty())
    }

    /// Asks for a page to be visited once: the confirmation of a subscription.
    pub fn visit(&self, url: String) {
        let mut state = self.state();
        if state.visits.len() < VISITS_MAX && !state.visits.contains(&url) {
            state.visits.push(url);
        }
    }

    /// Pages to visit now.
    pub fn visits(&self) -> Vec<String> {
        std::mem::take(&mut self.state().visits)
    }
}

fn read(document: &[u8]) -> Option<Vec<Named>> {
    if let Ok(set) = serde_json::from_slice::<KeySet>(document) {
        let keys: Vec<Named> = set.keys.into_iter().take(KEYS_MAX).filter_map(Jwk::named).collect();
        return (!keys.is_empty()).then_some(keys);
    }
    let text = std::str::from_utf8(document).ok()?;
    let inside = text.split_once("-----BEGIN CERTIFICATE-----")?.1.split_once("-----END CERTIFICATE-----")?.0;
    let base64: String = inside.split_whitespace().collect();
    let certificate = decode(Encoding::Base64, &base64)?;
    let key = Key::Pkcs1(der::certificate_key(&certificate)?.to_vec());
    Some(vec![Named { id: None, key, endorsements: Vec::new() }])
}
