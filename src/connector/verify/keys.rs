//! Keys that platforms publish: what is known of them, and what somebody with a network should fetch.
//!
//! Verification is pure, so it asks and goes on: a key that is not known yet gives [`crate::connector::verify::Proof::NoKey`], the platform is
//! told to come again, and [`KeyRing::wanted`] names the address. Unknown key ids make us fetch again at most every [`REFETCH_MS`], however many
//! there are; until then they come again, and one that the next set does not hold is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;

use crate::connector::verify::der;
use crate::connector::verify::signature::{Encoding, decode};
use crate::model::time::Time;

/// Addresses remembered. Those of certificates come from requests nobody has proven yet.
const URLS_MAX: usize = 32;
/// Keys of one address.
const KEYS_MAX: usize = 64;
/// Key ids of one address that wait for the next fetch, and their length: they come from requests nobody has proven.
const IDS_MAX: usize = 64;
const ID_BYTES_MAX: usize = 256;
/// Pages to visit that are remembered.
const VISITS_MAX: usize = 32;
/// An unknown key id is a reason to fetch again after this.
const REFETCH_MS: i64 = 60_000;
/// What failed is tried again after this, and after twice that, up to [`RETRY_MS_MAX`].
const RETRY_MS: i64 = 5_000;
const RETRY_MS_MAX: i64 = 60_000;
/// A page that was tried so often in vain is left until the platform asks for it again.
const VISITS_TRIED_MAX: u32 = 12;
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
    /// From when until when it is good, if it says so: a certificate's.
    pub good: Option<(Time, Time)>,
}

#[derive(Debug, Clone, Default)]
struct Entry {
    keys: Vec<Named>,
    fetched_at: Option<Time>,
    wanted: bool,
    /// Whose address stands in the connector, not in a request: it is asked for until it answers, and nothing takes its place.
    expected: bool,
    tries: Tries,
    /// Key ids that were asked for since the last fetch began.
    waiting: BTreeSet<String>,
    /// Those that the fetch under way was for.
    sought: BTreeSet<String>,
    /// Those that were asked for, and were not in the last set.
    absent: BTreeSet<String>,
}

impl Entry {
    fn find(&self, id: Option<&str>) -> Option<&Named> {
        self.keys.iter().find(|named| id.is_none() || named.id.as_deref() == id)
    }

    fn is_fresh(&self, now: Time) -> bool {
        self.fetched_at.is_some_and(|at| now.0 - at.0 < REFETCH_MS)
    }
}

/// How something that is asked for again and again went.
#[derive(Debug, Clone, Copy, Default)]
struct Tries {
    last: Option<Time>,
    failed: u32,
}

impl Tries {
    fn are_due(self, now: Time) -> bool {
        let pause = RETRY_MS.saturating_mul(1 << self.failed.saturating_sub(1).min(8)).min(RETRY_MS_MAX);
        self.last.is_none_or(|at| now.0 - at.0 >= pause)
    }
}

#[derive(Debug, Clone, Default)]
struct Visit {
    done: bool,
    tries: Tries,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<String, Entry>,
    visits: BTreeMap<String, Visit>,
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
        Some(Named { id: self.kid, key, endorsements: self.endorsements, good: None })
    }
}

impl KeyRing {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key `id` of the set at `url` (of a certificate: its only key).
    pub fn find(&self, url: &str, id: Option<&str>, now: Time) -> Found {
        if id.is_some_and(|id| id.len() > ID_BYTES_MAX) {
            return Found::None;
        }
        let mut state = self.state();
        if !state.entries.contains_key(url) && state.entries.len() >= URLS_MAX {
            // The one that failed most makes room; known keys never do.
            let useless = state.entries.iter().filter(|(_, entry)| entry.keys.is_empty() && !entry.expected);
            let useless = useless.max_by_key(|(_, entry)| entry.tries.failed).map(|(url, _)| url.clone());
            let Some(useless) = useless else { return Found::None };
            state.entries.remove(&useless);
        }
        let entry = state.entries.entry(url.to_owned()).or_default();
        if let Some(named) = entry.find(id) {
            return Found::Key(named.clone());
        }
        if let Some(id) = id {
            if entry.is_fresh(now) && entry.absent.contains(id) {
                return Found::None;
            }
            // One that is not remembered comes again all the same: it is never refused for the others.
            if entry.waiting.len() < IDS_MAX && !entry.sought.contains(id) {
                entry.waiting.insert(id.to_owned());
            }
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
                let expected = state.entries.get(&url).is_some_and(|own| own.expected);
                state.entries.insert(url, Entry { wanted: false, expected, ..entry });
            }
        }
        if all {
            state.visits.extend(other.state().visits.clone());
        }
    }

    /// Asks for the keys at `url` before anybody needs them.
    pub fn expect(&self, url: &str) {
        let mut state = self.state();
        let entry = state.entries.entry(url.to_owned()).or_default();
        (entry.wanted, entry.expected) = (true, true);
    }

    /// Takes what was fetched: a key set, or a certificate in PEM.
    ///
    /// # Errors
    /// It holds no key: as [`KeyRing::failed`].
    pub fn put(&self, url: &str, document: &[u8], now: Time) -> Result<(), String> {
        let Some(keys) = read(document) else {
            self.failed(url);
            return Err("neither a key set nor a certificate".to_owned());
        };
        let mut state = self.state();
        let entry = state.entries.entry(url.to_owned()).or_default();
        let tries = Tries { failed: 0, ..entry.tries };
        let known = |id: &String| keys.iter().any(|named| named.id.as_ref() == Some(id));
        let absent = std::mem::take(&mut entry.sought).into_iter().filter(|id| !known(id)).collect();
        let waiting: BTreeSet<String> = std::mem::take(&mut entry.waiting).into_iter().filter(|id| !known(id)).collect();
        let (expected, wanted) = (entry.expected, !waiting.is_empty());
        *entry = Entry { keys, fetched_at: Some(now), wanted, expected, tries, waiting, sought: BTreeSet::new(), absent };
        Ok(())
    }

    /// A fetch gave nothing. An address that only a request named is asked for again when another request names it.
    pub fn failed(&self, url: &str) {
        let mut state = self.state();
        let Some(entry) = state.entries.get_mut(url) else { return };
        entry.tries.failed = entry.tries.failed.saturating_add(1);
        entry.wanted &= entry.expected || !entry.waiting.is_empty();
        let sought = std::mem::take(&mut entry.sought);
        entry.waiting.extend(sought);
    }

    /// Addresses to fetch now; each is given again only after a while.
    pub fn wanted(&self, now: Time) -> Vec<String> {
        let mut state = self.state();
        let due = |entry: &Entry| {
            let stale = entry.fetched_at.is_some_and(|at| now.0 - at.0 > STALE_MS);
            ((entry.wanted && !entry.is_fresh(now)) || stale) && entry.tries.are_due(now)
        };
        let mut all = Vec::new();
        for (url, entry) in state.entries.iter_mut().filter(|(_, entry)| due(entry)) {
            entry.tries.last = Some(now);
            let waiting = std::mem::take(&mut entry.waiting);
            entry.sought.extend(waiting);
            all.push(url.clone());
        }
        all
    }

    /// Whether somebody asked for keys that are not here.
    pub fn is_waiting(&self) -> bool {
        self.state().entries.values().any(|entry| entry.wanted && entry.keys.is_empty())
    }

    /// Asks for a page to be visited: the confirmation of a subscription. Whether that is done: until then the platform is asked to come again, so
    /// that nothing is lost with this process.
    pub fn visit(&self, url: &str) -> bool {
        let mut state = self.state();
        if let Some(visit) = state.visits.get_mut(url) {
            if visit.tries.failed >= VISITS_TRIED_MAX {
                visit.tries = Tries::default();
            }
            return visit.done;
        }
        if state.visits.len() >= VISITS_MAX {
            let done = state.visits.iter().find(|(_, visit)| visit.done || visit.tries.failed >= VISITS_TRIED_MAX);
            let Some(done) = done.map(|(url, _)| url.clone()) else { return false };
            state.visits.remove(&done);
        }
        state.visits.insert(url.to_owned(), Visit::default());
        false
    }

    /// Pages to visit now; each is given again only after a while.
    pub fn visits(&self, now: Time) -> Vec<String> {
        let mut state = self.state();
        let due = |visit: &Visit| !visit.done && visit.tries.failed < VISITS_TRIED_MAX && visit.tries.are_due(now);
        let mut all = Vec::new();
        for (url, visit) in state.visits.iter_mut().filter(|(_, visit)| due(visit)) {
            visit.tries.last = Some(now);
            all.push(url.clone());
        }
        all
    }

    /// How a visit went.
    pub fn visited(&self, url: &str, done: bool) {
        if let Some(visit) = self.state().visits.get_mut(url) {
            visit.done = done;
            visit.tries.failed = if done { 0 } else { visit.tries.failed.saturating_add(1) };
        }
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
    let certificate = der::certificate(&certificate)?;
    let good = Some((certificate.from, certificate.until));
    Some(vec![Named { id: None, key: Key::Pkcs1(certificate.key.to_vec()), endorsements: Vec::new(), good }])
}
