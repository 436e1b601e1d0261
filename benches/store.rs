//! How fast the store admits and publishes, beside a bare SQLite append of the same bytes in the same run.
//!
//! Prints messages a second and the ratio, per batch size and durability mode. A report, no test: `cargo bench --bench store [MESSAGES]`.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use omnigate::logic::digest::Digester;
use omnigate::model::delivery::{Decision, Verdict};
use omnigate::model::event::{Channel, Event, Priority};
use omnigate::model::id::RawId;
use omnigate::model::item::{ChannelFacts, Item, ItemBody, MessageItem};
use omnigate::model::raw::{RawHead, Via};
use omnigate::model::time::Time;
use omnigate::ports::BoxFuture;
use omnigate::ports::clock::{Clock, Random};
use omnigate::ports::publish::{Frozen, Publish};
use omnigate::ports::store::{Admission, RawPlace, RawRecord, Store, Write};
use omnigate::stores::sqlite::{Durability, Options, SqliteStore};

#[path = "../tests/it/support/items.rs"]
mod items;

/// Body of a raw, about what a messenger's webhook has.
const RAW_BYTES: usize = 900;
/// Conversations the messages spread over.
const CONVERSATIONS: u64 = 5_000;

struct World(AtomicU64);

impl Clock for World {
    fn now(&self) -> Time {
        #[allow(clippy::disallowed_methods)] // the bench is the world
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Time(now.as_millis() as i64)
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

impl Random for World {
    fn fill(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let bytes = (z ^ (z >> 31)).to_le_bytes();
            chunk.copy_from_slice(bytes.get(..chunk.len()).unwrap_or_default());
        }
    }
}

struct OneDesk(Vec<Arc<str>>);

impl Publish for OneDesk {
    fn freeze(&self, event: Event) -> Frozen {
        Frozen { bytes: serde_json::to_vec(&event).unwrap(), destinations: self.0.clone() }
    }
}

fn admission(number: u64, channel: &Arc<ChannelFacts>, digester: &Digester, now: Time) -> Admission {
    let body = Bytes::from(vec![b'x'; RAW_BYTES]);
    let raw = RawRecord {
        id: RawId((u128::from(now.0.unsigned_abs()) << 80) | u128::from(number)),
        source: "chat".into(),
        via: Via::Webhook,
        received_at: now,
        head: RawHead { method: "POST".into(), target: "/hooks/chat".into(), ..RawHead::default() },
        bytes: RAW_BYTES as u64,
        place: RawPlace::Row(body),
    };
    let person = format!("tel:+49{}", number % CONVERSATIONS);
    let message = MessageItem {
        text: Some("Where is my order 4711? ".repeat(8)),
        language: Some("en".into()),
        external_id: Some(format!("wamid.{number}")),
        sent_at: Some(now),
        ..items::said(digester, &person, "Ana", &person, "", now)
    };
    let name = number.to_string();
    let item = Item {
        channel: channel.clone(),
        key: Some(digester.item("chat", "a", "message", &[&name], "")),
        body: ItemBody::Message(Box::new(message)),
    };
    Admission { raw: Arc::new(raw), delivery_key: Some(digester.delivery("chat", &name)), items: vec![item] }
}

/// Messages a second: (stage and commit, commit alone, decisions).
async fn store(folder: &Path, durability: Durability, messages: u64, batch: u64) -> (f64, f64, f64) {
    let world = Arc::new(World(AtomicU64::new(1)));
    let publisher = Arc::new(OneDesk(vec![Arc::from("desk")]));
    let options = Options { folder: folder.to_owned(), durability, publisher, clock: world.clone(), random: world.clone() };
    let store = SqliteStore::open(options).unwrap();
    let public = Channel { id: "chat".into(), connector: "whatsapp".into(), labels: BTreeMap::new() };
    let channel = Arc::new(ChannelFacts { public, priority: Priority::Normal, new_after_ms: Some(1_209_600_000), back: None });
    let digester = Digester::new(&[7; 32]);
    let (mut staging, mut committing, mut deciding) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    for start in (0..messages).step_by(usize::try_from(batch).unwrap()) {
        let numbers = start..(start + batch).min(messages);
        let admissions: Vec<_> = numbers.map(|number| admission(number, &channel, &digester, world.now())).collect();
        let raws = admissions.iter().map(|one| one.raw.clone()).collect();
        let writes = admissions.into_iter().map(|one| Write::Admit { admissions: vec![one], source: None }).collect();
        let begun = Instant::now();
        store.stage(raws, None).await.unwrap();
        staging += begun.elapsed();
        let begun = Instant::now();
        assert!(store.commit(writes).await.unwrap().iter().all(Result::is_ok));
        committing += begun.elapsed();
    }
    let mut after = 0;
    loop {
        let due = store.waiting("desk", after, usize::try_from(batch).unwrap()).await.unwrap();
        let Some(last) = due.last() else { break };
        after = last.position;
        let decide = |position| Decision {
            destination: "desk".into(),
            position,
            replay: false,
            verdict: Verdict::Delivered,
            at: world.now(),
            status: Some(200),
            detail: None,
            lease_epoch: 0,
        };
        let writes = due.iter().map(|due| Write::Decide(decide(due.position))).collect();
        let begun = Instant::now();
        assert!(store.commit(writes).await.unwrap().iter().all(Result::is_ok));
        deciding += begun.elapsed();
    }
    store.close().await.unwrap();
    let rate = |time: Duration| messages as f64 / time.as_secs_f64();
    (rate(staging + committing), rate(committing), rate(deciding))
}

/// Messages a second of a bare append: the raw's bytes and the event's, one table, the same batches and syncs.
fn bare(folder: &Path, durability: Durability, messages: u64, batch: u64) -> f64 {
    let conn = rusqlite::Connection::open(folder.join("bare.db")).unwrap();
    conn.pragma_update(None, "journal_mode", "wal").unwrap();
    conn.pragma_update(None, "synchronous", if durability == Durability::Power { "full" } else { "normal" }).unwrap();
    conn.execute_batch("CREATE TABLE log (row INTEGER PRIMARY KEY, raw BLOB, event BLOB) STRICT").unwrap();
    let (raw, event) = (vec![b'x'; RAW_BYTES], vec![b'y'; 1400]);
    let begun = Instant::now();
    for start in (0..messages).step_by(usize::try_from(batch).unwrap()) {
        conn.execute_batch("BEGIN IMMEDIATE").unwrap();
        for _ in start..(start + batch).min(messages) {
            conn.prepare_cached("INSERT INTO log (raw, event) VALUES (?1, ?2)").unwrap().execute((&raw, &event)).unwrap();
        }
        conn.execute_batch("COMMIT").unwrap();
    }
    messages as f64 / begun.elapsed().as_secs_f64()
}

fn main() {
    let messages = std::env::args().skip(1).find_map(|text| text.parse().ok()).unwrap_or(20_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    println!("{messages} messages, raws of {RAW_BYTES} bytes, {CONVERSATIONS} conversations, one destination");
    println!("mode     batch   stage+commit/s   commit/s   decide/s   bare append/s   ratio");
    for durability in [Durability::Power, Durability::Process] {
        for batch in [1, 64, 512] {
            let messages = if batch == 1 { messages / 10 } else { messages };
            let folder = tempfile::tempdir().unwrap();
            let (both, commit, decide) = runtime.block_on(store(folder.path(), durability, messages, batch));
            let bare = bare(folder.path(), durability, messages, batch);
            let mode = if durability == Durability::Power { "power" } else { "process" };
            println!("{mode:8} {batch:5} {both:16.0} {commit:10.0} {decide:10.0} {bare:15.0} {:7.2}", both / bare);
        }
    }
}
