//! What the conformance suite stands on: every kind of store behind one factory, a clock to set, a publisher that routes everything to
//! named destinations, and short ways to make raws and items.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use omnigate::logic::digest::Digester;
use omnigate::model::address::Address;
use omnigate::model::delivery::{Decision, DeliveryState, Verdict};
use omnigate::model::event::{Body, Channel, Event, Priority};
use omnigate::model::id::RawId;
use omnigate::model::item::{ChannelFacts, ContactHint, EditItem, Fate, Hold, Item, ItemBody, MessageItem, ReactionItem};
use omnigate::model::key::KeyDigest;
use omnigate::model::raw::{RawHead, Via};
use omnigate::model::time::Time;
use omnigate::model::view::DeliveryFilter;
use omnigate::ports::BoxFuture;
use omnigate::ports::clock::{Clock, Random};
use omnigate::ports::publish::{Frozen, Publish};
use omnigate::ports::store::{Admission, ItemFate, RawPlace, RawRecord, Store, StoreError, Write, Written};
use omnigate::stores::sqlite::{Durability, Options, SqliteStore, restore_backup, verify_backup};

use crate::support::items;

/// A kind of store: how it is opened on a folder (a database of its own for a store that has no folder), and how a backup of it is
/// checked and put back.
pub struct Kind {
    pub open: fn(&Path, Parts) -> Box<dyn Store>,
    pub restore: fn(&Path, &Path),
}

/// What a store is given.
#[derive(Clone)]
pub struct Parts {
    pub publisher: Arc<dyn Publish>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
}

/// Every kind the suite runs over. A second implementation is one more line.
pub const KINDS: &[Kind] = &[
    Kind { open: |folder, parts| sqlite(folder, parts, Durability::Power), restore },
    Kind { open: |folder, parts| sqlite(folder, parts, Durability::Process), restore },
];

fn sqlite(folder: &Path, parts: Parts, durability: Durability) -> Box<dyn Store> {
    let Parts { publisher, clock, random } = parts;
    Box::new(SqliteStore::open(Options { folder: folder.to_owned(), durability, publisher, clock, random }).unwrap())
}

fn restore(backup: &Path, folder: &Path) {
    verify_backup(backup).unwrap();
    restore_backup(backup, folder).unwrap();
}

/// A clock that stands still until it is set.
pub struct HandClock(AtomicI64);

impl Clock for HandClock {
    fn now(&self) -> Time {
        Time(self.0.load(Ordering::SeqCst))
    }
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst).unsigned_abs())
    }
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

/// Random numbers that are the same in every run.
pub struct Dice(AtomicU64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
    pub fn below(&self, limit: u64) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes) % limit
    }
}

impl Random for Dice {
    fn fill(&self, buffer: &mut [u8]) {
        for byte in buffer {
            // SplitMix64.
            let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            *byte = (z ^ (z >> 31)) as u8;
        }
    }
}

/// Sends conversation events to `messages` and operator events to `operators`.
#[derive(Default)]
pub struct Routes {
    pub messages: Mutex<Vec<Arc<str>>>,
    pub operators: Mutex<Vec<Arc<str>>>,
}

impl Publish for Routes {
    fn freeze(&self, event: Event) -> Frozen {
        let operator = matches!(
            event.body,
            Body::ChannelDegraded(_)
                | Body::ChannelRecovered(_)
                | Body::DeliveryDead(_)
                | Body::DestinationPaused(_)
                | Body::DestinationResumed(_)
        );
        if let Body::MessageCreated(created) = &event.body
            && created.message.text.as_deref() == Some("make the route panic")
        {
            panic!("as asked");
        }
        let destinations = if operator { &self.operators } else { &self.messages };
        Frozen { bytes: serde_json::to_vec(&event).unwrap(), destinations: destinations.lock().unwrap().clone() }
    }
}

/// One store on one folder, and the world around it.
pub struct Gate {
    pub kind: &'static Kind,
    pub folder: tempfile::TempDir,
    pub clock: Arc<HandClock>,
    pub routes: Arc<Routes>,
    pub digester: Digester,
    random: Arc<Dice>,
    raws: AtomicU64,
    pub channel: Arc<ChannelFacts>,
    store: Mutex<Option<Arc<dyn Store>>>,
}

/// 2026-11-23T00:00:00Z.
const START_MS: i64 = 1_795_392_000_000;
/// A day.
pub const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Runs a case over every kind of store.
pub async fn each<F: Future<Output = ()>>(case: impl Fn(Gate) -> F) {
    assert!(!KINDS.is_empty());
    for kind in KINDS {
        case(Gate::new(kind)).await;
    }
}

impl Gate {
    pub fn new(kind: &'static Kind) -> Self {
        let routes = Arc::new(Routes::default());
        routes.messages.lock().unwrap().push(Arc::from("desk"));
        let public = Channel { id: "chat".into(), connector: "generic".into(), labels: BTreeMap::new() };
        Self {
            kind,
            folder: tempfile::tempdir().unwrap(),
            clock: Arc::new(HandClock(AtomicI64::new(START_MS))),
            routes,
            digester: Digester::new(&[7; 32]),
            random: Arc::new(Dice::new(1)),
            raws: AtomicU64::new(0),
            channel: Arc::new(ChannelFacts { public, priority: Priority::Normal, new_after_ms: Some(14 * DAY_MS), back: None }),
            store: Mutex::new(None),
        }
    }

    pub fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    pub fn parts(&self) -> Parts {
        Parts { publisher: self.routes.clone(), clock: self.clock.clone(), random: self.random.clone() }
    }

    /// The open store.
    pub fn store(&self) -> Arc<dyn Store> {
        let mut slot = self.store.lock().unwrap();
        slot.get_or_insert_with(|| Arc::from((self.kind.open)(&self.data(), self.parts()))).clone()
    }

    /// Drops the store without closing it, as a crash would; the next use opens it again.
    pub fn crash(&self) {
        let store = self.store.lock().unwrap().take();
        assert!(store.is_none_or(|store| Arc::strong_count(&store) == 1), "somebody still holds the store");
    }

    pub fn now(&self) -> Time {
        self.clock.now()
    }

    pub fn pass(&self, ms: i64) {
        self.clock.0.fetch_add(ms, Ordering::SeqCst);
    }

    pub fn route(&self, destinations: &[&str]) {
        *self.routes.messages.lock().unwrap() = destinations.iter().map(|name| Arc::from(*name)).collect();
    }

    // ---- raws and items -------------------------------------------------------------------------------------------

    pub fn raw(&self) -> Arc<RawRecord> {
        let number = u128::from(self.raws.fetch_add(1, Ordering::SeqCst));
        let id = RawId((u128::from(self.now().0.unsigned_abs()) << 80) | number);
        let body = Bytes::from(format!("raw body {number}"));
        Arc::new(RawRecord {
            id,
            source: "chat".into(),
            via: Via::Webhook,
            received_at: self.now(),
            head: RawHead::default(),
            bytes: body.len() as u64,
            place: RawPlace::Row(body),
        })
    }

    pub fn key(&self, name: &str) -> KeyDigest {
        self.digester.item("chat", "a", "message", &[name], "")
    }

    fn address(&self, who: &str) -> (Address, KeyDigest) {
        let address = Address::parse(&format!("email:{who}@example.org")).unwrap();
        let digest = self.digester.address(&address);
        (address, digest)
    }

    pub fn hint(&self, who: &str, verified: bool, also: &[&str]) -> ContactHint {
        let (address, digest) = self.address(who);
        let also = also.iter().map(|other| self.address(other)).collect();
        ContactHint { address, digest, name: Some(who.to_owned()), verified, also }
    }

    /// What `who` says in the conversation `thread`.
    pub fn said(&self, thread: &str, who: &str, text: &str) -> MessageItem {
        items::said(&self.digester, &format!("email:{who}@example.org"), who, thread, text, self.now())
    }

    pub fn item(&self, key: KeyDigest, body: ItemBody) -> Item {
        Item { channel: self.channel.clone(), key: Some(key), body }
    }

    /// A message `name` in `thread` by a person of the thread's name.
    pub fn message(&self, thread: &str, name: &str) -> Item {
        self.item(self.key(name), ItemBody::Message(Box::new(self.said(thread, thread, name))))
    }

    /// The same, held.
    pub fn held(&self, thread: &str, name: &str, hold: Hold) -> Item {
        let message = MessageItem { hold: Some(hold), ..self.said(thread, thread, name) };
        self.item(self.key(name), ItemBody::Message(Box::new(message)))
    }

    /// The edit number `revision` of the message `name`.
    pub fn edit(&self, thread: &str, name: &str, revision: &str) -> Item {
        let message = MessageItem { external_id: Some(name.into()), ..self.said(thread, thread, revision) };
        let edit = EditItem { target: self.key(name), message, edited_at: Some(self.now()) };
        self.item(self.digester.item("chat", "a", "edit", &[name], revision), ItemBody::Edit(Box::new(edit)))
    }

    pub fn delete(&self, name: &str) -> Item {
        let body = ItemBody::Delete { target: self.key(name), external_id: Some(name.into()), sent_at: None };
        self.item(self.digester.item("chat", "a", "delete", &[name], ""), body)
    }

    pub fn reaction(&self, name: &str, emoji: &str) -> Item {
        let (target, external_id) = (self.key(name), Some(name.into()));
        let body = ReactionItem { target, external_id, from: None, emoji: Some(emoji.into()), added: true, sent_at: None };
        self.item(self.digester.item("chat", "a", "reaction", &[name, emoji], ""), ItemBody::Reaction(Box::new(body)))
    }

    pub fn bare(&self, body: ItemBody) -> Item {
        Item { channel: self.channel.clone(), key: None, body }
    }

    // ---- doing ----------------------------------------------------------------------------------------------------

    pub fn admission(&self, items: Vec<Item>) -> Admission {
        Admission { raw: self.raw(), delivery_key: None, items }
    }

    pub async fn one(&self, write: Write) -> Result<Written, StoreError> {
        let mut answers = self.store().commit(vec![write]).await?;
        assert_eq!(answers.len(), 1);
        answers.remove(0)
    }

    pub async fn admit_all(&self, admissions: Vec<Admission>) -> Written {
        self.store().stage(admissions.iter().map(|one| one.raw.clone()).collect(), None).await.unwrap();
        self.one(Write::Admit { admissions, source: None }).await.unwrap()
    }

    /// Admits one raw with one item.
    pub async fn admit(&self, item: Item) -> ItemFate {
        let mut written = self.admit_all(vec![self.admission(vec![item])]).await;
        assert_eq!((written.fates.len(), written.fates[0].len()), (1, 1));
        written.fates.remove(0).remove(0)
    }

    /// Records the outcome of an attempt to hand `position` to `destination`.
    pub async fn decide(&self, destination: &str, position: i64, verdict: Verdict) -> Result<Written, StoreError> {
        self.decide_at(destination, position, verdict, false, 0).await
    }

    pub async fn decide_at(
        &self,
        destination: &str,
        position: i64,
        verdict: Verdict,
        replay: bool,
        lease_epoch: u64,
    ) -> Result<Written, StoreError> {
        let destination = destination.to_owned();
        let (at, status, detail) = (self.now(), Some(200), Some("said so".to_owned()));
        self.one(Write::Decide(Decision { destination, position, replay, verdict, at, status, detail, lease_epoch })).await
    }

    // ---- looking --------------------------------------------------------------------------------------------------

    /// All events as they were frozen.
    pub async fn events(&self) -> Vec<Event> {
        let found = self.store().events_after(0, usize::MAX >> 1).await.unwrap();
        found.iter().map(|(_, bytes)| serde_json::from_slice(bytes).unwrap()).collect()
    }

    /// Positions that wait for a destination.
    pub async fn waiting(&self, destination: &str) -> Vec<i64> {
        self.store().waiting(destination, 0, 100_000).await.unwrap().iter().map(|due| due.position).collect()
    }

    /// Everything that must hold at any moment, as long as no event was erased or outlived.
    pub async fn check_invariants(&self) {
        self.check_totals().await;
        self.check_order().await;
    }

    /// Both identities of I3, from the totals and against the rows.
    pub async fn check_totals(&self) {
        let store = self.store();
        let totals = store.totals().await.unwrap();
        for (channel, received) in &totals.received {
            let fates: u64 = totals.fates.get(channel).map_or(0, |fates| fates.values().sum());
            assert_eq!(*received, fates, "I3: items of {channel}");
        }
        for (destination, due) in &totals.due {
            let states: u64 = totals.deliveries.get(destination).map_or(0, |states| states.values().sum());
            assert_eq!(*due, states, "I3: deliveries of {destination}");
            let waiting = totals.deliveries.get(destination).and_then(|states| states.get("waiting")).copied().unwrap_or(0);
            let filter =
                DeliveryFilter { destination: Some(destination.clone()), state: Some(DeliveryState::Waiting), ..Default::default() };
            assert_eq!(waiting, store.count_deliveries(filter).await.unwrap(), "I3: waiting rows of {destination}");
        }
    }

    /// Sequences without gaps (I4); one id an event (I5).
    async fn check_order(&self) {
        let mut sequences: BTreeMap<String, u64> = BTreeMap::new();
        let mut ids = BTreeSet::new();
        for event in self.events().await {
            assert!(ids.insert(event.id), "I5: an id of two events");
            let json = serde_json::to_value(&event).unwrap();
            if let Some(sequence) = json["data"]["sequence"].as_u64() {
                let last = sequences.entry(json["data"]["conversation"]["id"].as_str().unwrap().to_owned()).or_insert(0);
                assert_eq!(sequence, *last + 1, "I4: gapless in publish order");
                *last = sequence;
            }
        }
    }
}

/// The fates as words.
pub fn words(fates: &[ItemFate]) -> Vec<&'static str> {
    fates.iter().map(|fate| fate.fate.as_str()).collect()
}

/// A fate with its code.
pub fn fate(of: &ItemFate) -> (Fate, Option<&str>) {
    (of.fate, of.code.as_deref())
}
