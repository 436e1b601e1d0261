//! The loop around a source of payloads, over a real store: a source that answers what the test wrote, and what became of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use omnigate::connector::folder::Folder;
use omnigate::connector::jq;
use omnigate::connector::load::Connector;
use omnigate::connector::reader::{ChannelSpec, ReadLimits, Reader};
use omnigate::logic::digest::Digester;
use omnigate::logic::ids::IdMaker;
use omnigate::model::codes::Code;
use omnigate::model::event::{Body, Channel, Priority};
use omnigate::model::item::Fate;
use omnigate::model::raw::{RawHead, Via};
use omnigate::model::time::Time;
use omnigate::pipeline::board::{Board, ChannelMode};
use omnigate::pipeline::feed::FeedChannel;
use omnigate::pipeline::limits::{LimitRules, Limits, Rate};
use omnigate::pipeline::parse::Readers;
use omnigate::pipeline::writer::{self, CommitWatch, WriterLimits};
use omnigate::ports::BoxFuture;
use omnigate::ports::control::ChannelStatus;
use omnigate::ports::feed::{Cursors, Feed, FeedBatch, FeedNews, FeedSource, Payload};
use omnigate::ports::pull::PullError;
use omnigate::ports::store::{Store, pull_lease};
use omnigate::stores::folder::FolderBlobs;
use omnigate::telemetry::metrics::Metrics;
use tokio::sync::watch;

use crate::store::gate::{Gate, KINDS};
use crate::support::pulling::WallClock;

const ACCOUNT: &str = "feed:chat:a";

/// What the source answers, question by question; then it is quiet.
#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Result<FeedNews, PullError>>>,
    opened: Mutex<Vec<Cursors>>,
    /// What was durable whenever it was asked.
    durable: Mutex<Vec<Option<String>>>,
    store: Mutex<Option<Arc<dyn Store>>>,
}

struct Session(Arc<Script>);

impl Feed for Session {
    fn next(&mut self) -> BoxFuture<'_, Result<FeedNews, PullError>> {
        Box::pin(async move {
            let store = self.0.store.lock().unwrap().clone().unwrap();
            let since = store.cursors(ACCOUNT).await.unwrap().remove("since");
            self.0.durable.lock().unwrap().push(since);
            let next = self.0.answers.lock().unwrap().pop_front();
            next.unwrap_or(Ok(FeedNews::Quiet(Duration::from_millis(20))))
        })
    }
    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

struct Source(Arc<Script>);

impl FeedSource for Source {
    fn account(&self) -> String {
        ACCOUNT.to_owned()
    }
    fn server(&self) -> String {
        "chat.example.org".to_owned()
    }
    fn open(&self, cursors: Cursors) -> BoxFuture<'_, Result<Box<dyn Feed>, PullError>> {
        self.0.opened.lock().unwrap().push(cursors);
        let session: Box<dyn Feed> = Box::new(Session(self.0.clone()));
        Box::pin(async move { Ok(session) })
    }
    fn probe(&self) -> BoxFuture<'_, Result<Vec<String>, PullError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

struct Nobody;

impl CommitWatch for Nobody {
    fn woken(&self, _: &[Arc<str>]) {}
    fn pending(&self, _: &[(i64, Time)]) {}
    fn committed(&self, _: usize, _: f64) {}
    fn failed(&self, _: Code) {}
}

fn reader() -> Arc<Reader> {
    let manifest = "name = \"chat\"\ntitle = \"Chat\"\nabout = \"For tests.\"\nmode = [\"webhook\"]\n[webhook]\ndecode = \"json\"\n";
    let map =
        "if .said == null then empty else .said[] | {kind: \"message\", key: .id, from: {address: \"chat:\\(.who)\"}, text: .text} end";
    let files = [("connector.toml", manifest), ("map.jq", map)].map(|(name, text)| (name.to_owned(), text.as_bytes().into()));
    let folder = Folder { name: "chat".to_owned(), origin: "chat".to_owned(), files: files.into() };
    let connector = Connector::load(folder, jq::Limits::default()).unwrap();
    let spec = ChannelSpec {
        id: "desk".to_owned(),
        file: "desk.toml".to_owned(),
        account: Some("a".to_owned()),
        labels: BTreeMap::new(),
        priority: Priority::Normal,
        settings: serde_json::Map::new(),
        secrets: BTreeMap::new(),
        verify_none: false,
        map: None,
        new_after_ms: None,
        back: None,
    };
    let built = Reader::build(Arc::new(connector), spec, &[Via::Poll], Digester::new(&[1; 32]), ReadLimits::default());
    Arc::new(built.unwrap())
}

/// A channel over a fresh store.
struct World {
    gate: Gate,
    board: Arc<Board>,
    script: Arc<Script>,
    limits: LimitRules,
    stop: watch::Sender<bool>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl World {
    fn new() -> Self {
        let world = Self {
            gate: Gate::new(&KINDS[0]),
            board: Arc::default(),
            script: Arc::default(),
            limits: LimitRules::default(),
            stop: watch::Sender::new(false),
            task: None,
        };
        let status = ChannelStatus {
            connector: "chat".to_owned(),
            state: ChannelMode::Connecting.as_str().to_owned(),
            code: None,
            detail: None,
            since: Time(0),
            last_received: None,
            hook: None,
        };
        world.board.place("desk", status);
        world
    }

    fn answer(&self, answers: impl IntoIterator<Item = Result<FeedNews, PullError>>) {
        self.script.answers.lock().unwrap().extend(answers);
    }

    fn run(&mut self, lease_epoch: u64) {
        *self.script.store.lock().unwrap() = Some(self.gate.store());
        let limits = WriterLimits { queue_items_max: 100, queue_bytes_max: 1 << 26, commit_items_max: 100 };
        let (writer, _tasks) = writer::start(self.gate.store(), limits, Arc::new(Nobody));
        let clock: Arc<WallClock> = Arc::new(WallClock);
        let channel = FeedChannel {
            id: "desk".to_owned(),
            via: Via::Poll,
            source: Arc::new(Source(self.script.clone())),
            reader: reader(),
            limits: Arc::new(Limits::new(&self.limits, clock.clone())),
            public: Channel { id: "desk".to_owned(), connector: "chat".to_owned(), labels: BTreeMap::new() },
            store: self.gate.store(),
            blobs: Arc::new(FolderBlobs::open(&self.gate.folder.path().join("blobs"), false).unwrap()),
            writer,
            readers: Arc::new(Readers::start(1, 1 << 20).unwrap()),
            gate: Arc::default(),
            board: self.board.clone(),
            clock,
            random: self.gate.parts().random,
            ids: Arc::new(IdMaker::default()),
            lease_epoch,
            metrics: Metrics::new(),
            enricher: None,
        };
        self.stop = watch::Sender::new(false);
        self.task = Some(tokio::spawn(Arc::new(channel).run(self.stop.subscribe())));
    }

    async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let from = Instant::now();
        while !holds().await {
            assert!(from.elapsed() < Duration::from_secs(20), "not in time: {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn since(&self) -> Option<String> {
        self.gate.store().cursors(ACCOUNT).await.unwrap().remove("since")
    }

    async fn fate(&self, fate: Fate) -> u64 {
        let totals = self.gate.store().totals().await.unwrap();
        totals.fates.values().filter_map(|words| words.get(fate.as_str())).sum()
    }

    async fn texts(&self) -> Vec<String> {
        let events = self.gate.events().await;
        let text = |body: &Body| match body {
            Body::MessageCreated(created) => created.message.text.clone(),
            _ => None,
        };
        events.iter().filter_map(|event| text(&event.body)).collect()
    }

    async fn end(&mut self) {
        self.stop.send_replace(true);
        self.task.take().unwrap().await.unwrap();
    }
}

fn page(texts: &[&str], since: &str) -> Result<FeedNews, PullError> {
    let said: Vec<_> = texts.iter().map(|text| serde_json::json!({"id": text, "who": "ana", "text": text})).collect();
    raw_page(Bytes::from(serde_json::json!({ "said": said }).to_string()), since)
}

fn raw_page(body: Bytes, since: &str) -> Result<FeedNews, PullError> {
    let payload = Payload { via: Via::Poll, head: RawHead::default(), body, historic: false };
    Ok(FeedNews::Batch(FeedBatch { payloads: vec![payload], cursors: vec![("since".to_owned(), Some(since.to_owned()))] }))
}

fn lost() -> Result<FeedNews, PullError> {
    Err(PullError::Lost { code: Code::ConnectionLost, detail: "gone".to_owned(), after: None })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_and_its_cursor_are_durable_before_the_source_is_asked_again() {
    let mut world = World::new();
    world.answer([page(&["one", "two"], "2"), page(&["three"], "3")]);
    world.run(0);
    world.until("both pages", async || world.since().await.as_deref() == Some("3")).await;
    world.until("asked again", async || world.script.durable.lock().unwrap().len() > 2).await;
    world.end().await;
    let durable: Vec<_> = world.script.durable.lock().unwrap()[..3].to_vec();
    assert_eq!(durable, [None, Some("2".to_owned()), Some("3".to_owned())]);
    assert_eq!(world.texts().await, ["one", "two", "three"]);
    assert_eq!(world.board.read()["desk"].state, "running");
    world.gate.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_comes_again_after_a_crash_is_a_duplicate_and_the_session_begins_at_the_cursor() {
    let mut world = World::new();
    world.answer([page(&["one", "two"], "2")]);
    world.run(0);
    world.until("the page", async || world.since().await.is_some()).await;
    world.task.take().unwrap().abort();
    world.answer([page(&["two", "three"], "3")]);
    world.run(0);
    world.until("the next", async || world.since().await.as_deref() == Some("3")).await;
    world.end().await;
    assert_eq!(world.script.opened.lock().unwrap()[1], [("since".to_owned(), "2".to_owned())].into());
    assert_eq!(world.texts().await, ["one", "two", "three"]);
    assert_eq!(world.fate(Fate::Duplicate).await, 1);
    world.gate.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_cannot_be_read_is_kept_and_does_not_hold_up_the_next() {
    let mut world = World::new();
    let huge = format!("{{\"said\": [{}]}}", vec!["7"; 100_000].join(","));
    world.answer([raw_page(Bytes::from_static(b"<html>"), "1"), raw_page(Bytes::from(huge), "2"), page(&["three"], "3")]);
    world.run(0);
    world.until("the last page", async || world.since().await.as_deref() == Some("3")).await;
    world.end().await;
    assert_eq!(world.texts().await, ["three"]);
    assert_eq!(world.fate(Fate::Quarantined).await, 2);
    world.gate.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_hear_of_a_source_that_fails_twice_and_of_its_recovery() {
    let mut world = World::new();
    world.answer([lost(), lost(), page(&["one"], "1")]);
    world.run(0);
    world.until("recovered", async || world.since().await.is_some()).await;
    world.until("running", async || world.board.read()["desk"].state == "running").await;
    world.end().await;
    let types: Vec<_> = world.gate.events().await.iter().map(|event| event.body.type_name()).collect();
    assert_eq!(types, ["channel.degraded", "channel.recovered", "message.created"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_answers_and_is_lost_at_once_again_and_again_is_told_once_and_has_recovered_when_it_brings_something() {
    let mut world = World::new();
    let quiet = || Ok(FeedNews::Quiet(Duration::from_millis(1)));
    world.answer([quiet(), lost(), quiet(), lost(), quiet(), lost(), page(&["one"], "1")]);
    world.run(0);
    world.until("the page", async || world.since().await.is_some()).await;
    world.until("running", async || world.board.read()["desk"].state == "running").await;
    world.end().await;
    let types: Vec<_> = world.gate.events().await.iter().map(|event| event.body.type_name()).collect();
    assert_eq!(types, ["channel.degraded", "message.created", "channel.recovered"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_the_account_admits_nothing_and_ends() {
    let mut world = World::new();
    let store = world.gate.store();
    store.take_lease(&pull_lease(ACCOUNT), "one").await.unwrap();
    store.take_lease(&pull_lease(ACCOUNT), "two").await.unwrap();
    world.answer([page(&["one"], "1")]);
    world.run(1);
    world.task.take().unwrap().await.unwrap();
    assert_eq!(world.board.read()["desk"].code.as_deref(), Some("lease_lost"));
    assert!(world.texts().await.is_empty() && world.since().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_over_its_rate_waits_and_drops_nothing() {
    let mut world = World::new();
    world.limits = LimitRules { channel: Rate::new(10.0, Duration::from_secs(1), 1), ..LimitRules::default() };
    world.answer([page(&["one", "two", "three", "four"], "4")]);
    let from = Instant::now();
    world.run(0);
    world.until("the page", async || world.since().await.is_some()).await;
    assert!(from.elapsed() >= Duration::from_millis(250), "three had to wait");
    world.end().await;
    assert_eq!(world.texts().await.len(), 4);
}
