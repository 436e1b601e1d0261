//! Polls against a scripted platform over real HTTP: a peer that throttles, fails, stalls, cuts, repeats and forgets, and what became
//! of its messages. Whatever it does, nothing is lost and nothing is doubled.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use omnigate::connector::folder::Folder;
use omnigate::connector::jq;
use omnigate::connector::load::Connector;
use omnigate::connector::poll::lane::Begin;
use omnigate::connector::reader::{ChannelSpec, ReadLimits, Reader};
use omnigate::engines::poll::{PollParts, PollSource};
use omnigate::http::client::HttpClient;
use omnigate::logic::digest::Digester;
use omnigate::logic::ids::IdMaker;
use omnigate::model::codes::Code;
use omnigate::model::event::{Body, Channel, Priority};
use omnigate::model::item::Fate;
use omnigate::model::raw::Via;
use omnigate::model::time::Time;
use omnigate::pipeline::board::{Board, ChannelMode};
use omnigate::pipeline::feed::FeedChannel;
use omnigate::pipeline::limits::{LimitRules, Limits};
use omnigate::pipeline::parse::Readers;
use omnigate::pipeline::writer::{self, CommitWatch, WriterLimits};
use omnigate::ports::control::ChannelStatus;
use omnigate::ports::token::Wallet;
use omnigate::stores::folder::FolderBlobs;
use omnigate::telemetry::metrics::Metrics;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::store::gate::{Gate, KINDS};
use crate::support::platform::{Answer, Platform, query, said};
use crate::support::pulling::WallClock;

const HEAD: &str = "name = \"chat\"\ntitle = \"Chat\"\nabout = \"For tests.\"\n[settings.api]\ntype = \"url\"\nhelp = \"Base.\"\n\
    [settings.rooms]\ntype = \"list\"\nhelp = \"Rooms.\"\n";
const MAP: &str = "if .items == null then empty else .items[] | {kind: \"message\", key: .id, from: {address: \"chat:ana\"}, conversation: \"c\", text: \"\\(.id)\"} end";

/// The reader of a channel whose connector has these polls.
pub fn reader(poll: &str, platform: &Platform, settings: Value) -> Arc<Reader> {
    let files = [("connector.toml", format!("{HEAD}{poll}")), ("map.jq", MAP.to_owned())];
    let files = files.map(|(name, text)| (name.to_owned(), text.into_bytes().into()));
    let folder = Folder { name: "chat".to_owned(), origin: "chat".to_owned(), files: files.into() };
    let connector = Connector::load(folder, jq::Limits::default());
    let connector = connector.unwrap_or_else(|problems| panic!("{}", omnigate::connector::problem::render(&problems)));
    let mut settings = settings.as_object().cloned().unwrap_or_default();
    settings.insert("api".to_owned(), Value::from(format!("http://{}", platform.address)));
    let spec = ChannelSpec {
        id: "desk".to_owned(),
        file: "desk.toml".to_owned(),
        account: Some("a".to_owned()),
        labels: BTreeMap::new(),
        priority: Priority::Normal,
        settings,
        secrets: BTreeMap::new(),
        verify_none: false,
        map: None,
        new_after_ms: None,
        back: None,
    };
    Arc::new(Reader::build(Arc::new(connector), spec, &[Via::Poll], Digester::new(&[1; 32]), ReadLimits::default()).unwrap())
}

struct Nobody;

impl CommitWatch for Nobody {
    fn woken(&self, _: &[Arc<str>]) {}
    fn pending(&self, _: &[(i64, Time)]) {}
    fn committed(&self, _: usize, _: f64) {}
    fn failed(&self, _: Code) {}
}

/// A polled channel over a fresh store.
pub struct World {
    pub gate: Gate,
    pub board: Arc<Board>,
    metrics: Arc<Metrics>,
    stop: watch::Sender<bool>,
    task: Option<tokio::task::JoinHandle<()>>,
}

pub const ACCOUNT: &str = "poll:chat:a";

impl World {
    pub fn new() -> Self {
        let (board, metrics) = (Arc::new(Board::default()), Metrics::new());
        let status = ChannelStatus {
            connector: "chat".to_owned(),
            state: ChannelMode::Connecting.as_str().to_owned(),
            code: None,
            detail: None,
            since: Time(0),
            last_received: None,
            hook: None,
        };
        board.place("desk", status);
        Self { gate: Gate::new(&KINDS[0]), board, metrics, stop: watch::Sender::new(false), task: None }
    }

    pub fn run(&mut self, reader: &Arc<Reader>, begin: Begin) {
        let limits = WriterLimits { queue_items_max: 100, queue_bytes_max: 1 << 26, commit_items_max: 100 };
        let (writer, _tasks) = writer::start(self.gate.store(), limits, Arc::new(Nobody));
        let clock: Arc<WallClock> = Arc::new(WallClock);
        let metrics = self.metrics.clone();
        let source = PollSource::new(PollParts {
            connector: reader.connector().clone(),
            settings: reader.settings().clone(),
            secrets: reader.secrets().clone(),
            wallet: Wallet::default(),
            account: ACCOUNT.to_owned(),
            begin,
            http: Arc::new(HttpClient::new(false).unwrap()),
            clock: clock.clone(),
            random: self.gate.parts().random,
            usage: Arc::new(move |shares| shares.iter().for_each(|share| metrics.budget("desk", share.what, share.used, share.max))),
        });
        let channel = FeedChannel {
            id: "desk".to_owned(),
            via: Via::Poll,
            source: Arc::new(source),
            reader: reader.clone(),
            enricher: None,
            limits: Arc::new(Limits::new(&LimitRules::default(), clock.clone())),
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
            lease_epoch: 0,
            metrics: self.metrics.clone(),
        };
        self.stop = watch::Sender::new(false);
        self.task = Some(tokio::spawn(Arc::new(channel).run(self.stop.subscribe())));
    }

    pub async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let from = Instant::now();
        while !holds().await {
            assert!(from.elapsed() < Duration::from_secs(30), "not in time: {what}; {:?}", self.board.read());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn texts(&self) -> Vec<u64> {
        let events = self.gate.events().await;
        let text = |body: &Body| match body {
            Body::MessageCreated(created) => created.message.text.as_ref().map(|text| text.parse().unwrap()),
            _ => None,
        };
        events.iter().filter_map(|event| text(&event.body)).collect()
    }

    pub async fn has(&self, count: usize) {
        self.until(&format!("{count} messages"), async || self.texts().await.len() >= count).await;
    }

    pub async fn duplicates(&self) -> u64 {
        let totals = self.gate.store().totals().await.unwrap();
        totals.fates.values().filter_map(|words| words.get(Fate::Duplicate.as_str())).sum()
    }

    pub async fn end(&mut self) {
        self.stop.send_replace(true);
        self.task.take().unwrap().await.unwrap();
    }

    fn kill(&mut self) {
        self.task.take().unwrap().abort();
    }
}

pub fn items(ids: impl IntoIterator<Item = u64>) -> Vec<Value> {
    ids.into_iter().map(|id| json!({ "id": id })).collect()
}

/// A platform's list of numbers: from old to new, `since` exclusive, pages of three.
pub fn forward(top: u64) -> impl FnMut(&str) -> Answer + Send {
    move |target| {
        let since: u64 = query(target, "since").and_then(|text| text.parse().ok()).unwrap_or(0);
        let page: Vec<u64> = (since + 1..=top).take(3).collect();
        said(&json!({ "items": items(page) }))
    }
}

pub const FORWARD: &str = "[poll.all]\nitems = \"/items\"\nid = \".id\"\ninterval = \"1s\"\nfrom_now = \"take\"\ncursor = { each = \".id\" }\n\
    page = { kind = \"cursor\", from = \"if (.items | length) == 3 then .items[-1].id else null end\" }\n\
    [poll.all.request]\nget = \"{settings.api}/all\"\nquery = { since = \"{cursor}\" }\nwithin = \"2s\"\n";

/// The same from new to old, pages of three, `before` exclusive.
pub fn backward(top: u64) -> impl FnMut(&str) -> Answer + Send {
    move |target| {
        let before = query(target, "before").and_then(|text| text.parse().ok()).unwrap_or(top + 1);
        let page: Vec<u64> = (1..before).rev().take(3).collect();
        said(&json!({ "items": items(page) }))
    }
}

pub const BACKWARD: &str = "[poll.all]\nitems = \"/items\"\nid = \".id\"\ninterval = \"1s\"\norder = \"newest_first\"\ncursor = { each = \".id\" }\n\
    page = { kind = \"before_id\" }\n\
    [poll.all.request]\nget = \"{settings.api}/all\"\nquery = { before = \"{page}\" }\nwithin = \"2s\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn pages_from_old_to_new_go_on_where_they_ended_after_every_stop() {
    let platform = Platform::start(forward(7)).await;
    let reader = reader(FORWARD, &platform, json!({}));
    let mut world = World::new();
    world.run(&reader, Begin::FromNow);
    world.has(7).await;
    world.kill();
    platform.now(forward(11));
    world.run(&reader, Begin::FromNow);
    world.has(11).await;
    world.end().await;
    assert_eq!(world.texts().await, (1..=11).collect::<Vec<_>>());
    assert_eq!(world.duplicates().await, 0);
    world.gate.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_from_new_to_old_is_taken_from_old_to_new_and_its_past_only_if_asked_for() {
    let platform = Platform::start(backward(10)).await;
    let reader = reader(BACKWARD, &platform, json!({}));
    let mut world = World::new();
    world.run(&reader, Begin::FromNow);
    world.until("the first look", async || world.gate.store().cursors(ACCOUNT).await.unwrap().contains_key("cursor/all")).await;
    platform.now(backward(18));
    world.has(8).await;
    world.end().await;
    assert_eq!(world.texts().await, (11..=18).collect::<Vec<_>>(), "what was there before is not taken");
    assert_eq!(world.duplicates().await, 0);

    let mut other = World::new();
    other.run(&reader, Begin::Backfill(6));
    other.has(6).await;
    other.end().await;
    assert_eq!(other.texts().await, (13..=18).collect::<Vec<_>>());
    let historic = |body: &Body| matches!(body, Body::MessageCreated(created) if created.message.historic);
    assert!(other.gate.events().await.iter().all(|event| historic(&event.body)));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_the_pages_of_a_walk_nothing_is_skipped_and_nothing_doubled() {
    for at in 1..=6 {
        let platform = Platform::start(backward(2)).await;
        let reader = reader(BACKWARD, &platform, json!({}));
        let mut world = World::new();
        world.run(&reader, Begin::FromNow);
        world.until("the first look", async || world.gate.store().cursors(ACCOUNT).await.unwrap().contains_key("cursor/all")).await;
        world.end().await;
        // The walk over 18 new ones needs seven pages; at one of them the process dies.
        let mut left = at;
        let mut pages = backward(20);
        platform.now(move |target| {
            left -= 1;
            if left < 0 { Answer::Stall } else { pages(target) }
        });
        world.run(&reader, Begin::FromNow);
        let before = platform.targets().len();
        let due = usize::try_from(at).unwrap() + 1;
        world.until("the page where it dies", async || platform.targets().len() >= before + due).await;
        world.kill();
        platform.now(backward(23));
        world.run(&reader, Begin::FromNow);
        world.has(21).await;
        world.end().await;
        assert_eq!(world.texts().await, (3..=23).collect::<Vec<_>>(), "killed at page {at}");
        assert_eq!(world.duplicates().await, 0);
        world.gate.check_invariants().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_that_is_longer_than_what_is_held_loses_nothing() {
    let platform = Platform::start(backward(1)).await;
    let reader = reader(BACKWARD, &platform, json!({}));
    let mut world = World::new();
    world.run(&reader, Begin::FromNow);
    world.until("the first look", async || world.gate.store().cursors(ACCOUNT).await.unwrap().contains_key("cursor/all")).await;
    platform.now(backward(401));
    world.until("the first part", async || world.gate.store().cursors(ACCOUNT).await.unwrap().contains_key("walk/all")).await;
    world.kill();
    world.run(&reader, Begin::FromNow);
    world.has(400).await;
    world.until("the end", async || !world.gate.store().cursors(ACCOUNT).await.unwrap().contains_key("walk/all")).await;
    world.end().await;
    let mut texts = world.texts().await;
    texts.sort_unstable();
    assert_eq!(texts, (2..=401).collect::<Vec<_>>());
    world.gate.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_throttles_in_every_dialect_is_left_alone_as_long_as_it_says() {
    let in_two = || Time(omnigate::ports::clock::Clock::now(&WallClock).0 + 2000);
    let none_left = |reset: String| Answer::Plain(200, vec![("x-left", "0".to_owned()), ("x-reset", reset)], "{\"items\": []}".to_owned());
    let left =
        |unit: &str| format!("[limits]\nremaining = {{ header = \"X-Left\" }}\nreset = {{ header = \"X-Reset\", unit = \"{unit}\" }}\n");
    let packed = "[limits]\nremaining = { header = \"X-Rate-Limit\", pattern = 'hour-rem:(\\d+)' }\n\
        reset = { header = \"X-Rate-Limit\", pattern = 'left:(\\d+)', unit = \"seconds_left\" }\n";
    let ruled = "errors = [{ when = '.ok == false', then = \"throttled\", after_s = '.wait' }]\n";
    let dialects: Vec<(String, Box<dyn Fn() -> Answer + Send>)> = vec![
        (String::new(), Box::new(|| Answer::Plain(429, vec![("retry-after", "2".to_owned())], String::new()))),
        (ruled.to_owned(), Box::new(|| said(&json!({"ok": false, "wait": 1.5})))),
        (left("seconds_left"), Box::new(move || none_left("1.5".to_owned()))),
        (left("epoch_ms"), Box::new(move || none_left(in_two().0.to_string()))),
        (left("epoch_s"), Box::new(move || none_left((in_two().0 / 1000 + 1).to_string()))),
        (left("iso"), Box::new(move || none_left(in_two().to_string()))),
        (
            packed.to_owned(),
            Box::new(|| {
                Answer::Plain(200, vec![("x-rate-limit", "hour-lim:9;hour-rem:0;left:2;".to_owned())], "{\"items\": []}".to_owned())
            }),
        ),
        ("[limits]\nbackoff_s = '.backoff'\n".to_owned(), Box::new(|| said(&json!({"items": [], "backoff": 2})))),
    ];
    for (more, throttled) in dialects {
        let mut first = Some(throttled);
        let mut pages = forward(2);
        let platform = Platform::start(move |target| match first.take() {
            Some(throttled) => throttled(),
            None => pages(target),
        })
        .await;
        // What belongs to the poll stands before the tables below it.
        let poll = if more.starts_with("errors") {
            FORWARD.replacen("interval", &format!("{more}interval"), 1)
        } else {
            format!("{FORWARD}{more}")
        };
        let reader = reader(&poll, &platform, json!({}));
        let mut world = World::new();
        world.run(&reader, Begin::FromNow);
        world.has(2).await;
        world.end().await;
        let asked = platform.asked.lock().unwrap().clone();
        let waited = asked[1].0 - asked[0].0;
        assert!(waited >= Duration::from_millis(1200), "{more}: waited {waited:?}");
        assert_eq!(world.texts().await, [1, 2]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_fails_stalls_and_cuts_is_asked_again_and_nothing_is_lost() {
    let mut bad = VecDeque::from([
        Answer::Plain(500, Vec::new(), "oh no".to_owned()),
        Answer::Cut,
        Answer::Stall,
        Answer::Plain(502, Vec::new(), "<html>".to_owned()),
    ]);
    let mut pages = forward(8);
    let mut count = 0;
    let platform = Platform::start(move |target| {
        count += 1;
        // Every second question is answered badly.
        if count % 2 == 0 && !bad.is_empty() { bad.pop_front().unwrap() } else { pages(target) }
    })
    .await;
    let reader = reader(FORWARD, &platform, json!({}));
    let mut world = World::new();
    world.run(&reader, Begin::FromNow);
    world.has(8).await;
    world.end().await;
    assert_eq!(world.texts().await, (1..=8).collect::<Vec<_>>());
    assert_eq!(world.duplicates().await, 0);
    world.gate.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_come_again_and_cursors_that_go_back_change_nothing() {
    let scripted = [vec![1, 2, 3], vec![1, 2, 3], vec![2, 3, 4], vec![1], vec![4, 5], vec![3]];
    let mut at = 0;
    let platform = Platform::start(move |_| {
        let page = scripted.get(at).cloned().unwrap_or_default();
        at += 1;
        said(&json!({ "items": items(page) }))
    })
    .await;
    let poll = FORWARD.replace("cursor = { each = \".id\" }", "seen = 50\ncursor = { from = \"[.items[].id] | max\" }");
    let reader = reader(&poll, &platform, json!({}));
    let mut world = World::new();
    world.run(&reader, Begin::FromNow);
    world.until("all pages", async || platform.targets().len() > 6).await;
    world.end().await;
    assert_eq!(world.texts().await, [1, 2, 3, 4, 5]);
    assert_eq!(world.duplicates().await, 0, "what is known by its id does not reach the ledger");
    let cursors = world.gate.store().cursors(ACCOUNT).await.unwrap();
    assert_eq!(cursors["cursor/all"], "5", "it never goes back");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_twice_within_the_second_that_its_id_holds_is_read_again_until_it_cannot() {
    let poll = FORWARD
        .replace("id = \".id\"", "id = '\"\\(.thread) \\(.at)\"'\nseen = 50\nsettle = { at = \".at\", after = \"3s\" }")
        .replace("cursor = { each = \".id\" }", "cursor = { from = \".items[-1].at\" }");
    // By the platform's clock, which is years behind ours: the last word of a thread, always of the same second.
    let mut looks = VecDeque::from([("05", 1), ("05", 2), ("07", 3), ("08", 4), ("09", 5), ("10", 6)]);
    let platform = Platform::start(move |_| {
        let (second, word) = looks.pop_front().unwrap_or(("30", 7));
        let item = json!({"id": word, "thread": "t", "at": "2020-01-01T10:00:05Z"});
        let date = ("date", format!("Wed, 01 Jan 2020 10:00:{second} GMT"));
        Answer::Plain(200, vec![date], json!({ "items": [item] }).to_string())
    });
    let platform = platform.await;
    let reader = reader(&poll, &platform, json!({}));
    let mut world = World::new();
    world.run(&reader, Begin::FromNow);
    world.until("looks beyond it", async || platform.targets().len() >= 8).await;
    world.end().await;
    assert_eq!(world.texts().await, [1, 2, 3, 4], "what comes three seconds after its second is what came before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_the_platform_forgot_is_begun_anew_and_what_comes_again_is_recognised() {
    let mut forgotten = false;
    let platform = Platform::start(move |target| {
        if query(target, "since").as_deref() == Some("2") && !forgotten {
            forgotten = true;
            return Answer::Plain(400, Vec::new(), "{\"error\": \"bad cursor\"}".to_owned());
        }
        forward(if forgotten { 4 } else { 2 })(target)
    })
    .await;
    let poll = FORWARD.replacen("interval", "errors = [{ status = [400], then = \"cursor_lost\" }]\ninterval", 1);
    let reader = reader(&poll, &platform, json!({}));
    let mut world = World::new();
    world.run(&reader, Begin::FromNow);
    world.has(4).await;
    world.end().await;
    assert_eq!(world.texts().await, [1, 2, 3, 4]);
    assert_eq!(world.duplicates().await, 2);
    world.gate.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_is_kept_across_restarts_and_nothing_is_asked_beyond_it() {
    let platform = Platform::start(forward(100)).await;
    let reader = reader(&format!("{FORWARD}[limits]\nday_requests = 4\n"), &platform, json!({}));
    let mut world = World::new();
    world.run(&reader, Begin::FromNow);
    world.has(6).await;
    world.kill();
    world.run(&reader, Begin::FromNow);
    world.until("it is told", async || world.board.read()["desk"].code.as_deref() == Some("throttled")).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.end().await;
    assert!(platform.targets().len() <= 5, "{:?}", platform.targets());
    let used = world.metrics.value(omnigate::telemetry::names::Metric::BudgetUsed, "desk", "requests");
    assert_eq!(used, Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_is_gone_does_not_hold_up_the_others() {
    let platform =
        Platform::start(
            |target| {
                if target.starts_with("/gone") { Answer::Plain(404, Vec::new(), "{}".to_owned()) } else { forward(2)(target) }
            },
        )
        .await;
    let poll =
        FORWARD.replace("{settings.api}/all", "{settings.api}/{part}").replacen("interval", "parts = { setting = \"rooms\" }\ninterval", 1);
    let reader = reader(&poll, &platform, json!({"rooms": ["gone", "here"]}));
    let mut world = World::new();
    world.run(&reader, Begin::FromNow);
    world.has(2).await;
    world.until("it is told", async || world.board.read()["desk"].code.is_some()).await;
    assert_eq!(world.board.read()["desk"].state, "running");
    world.end().await;
    let cursors = world.gate.store().cursors(ACCOUNT).await.unwrap();
    assert_eq!(cursors["cursor/all/here"], "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_registered_anew_when_it_expired_and_its_gap_is_filled() {
    let poll = "[poll.events]\nlong_poll = true\nitems = \"/items\"\nid = \".id\"\ncursor = { from = \"[.items[].event] | max\" }\n\
        mark = \"[.items[].id] | max\"\nerrors = [{ status = [400], then = \"cursor_lost\" }]\n\
        register = { request = { post = \"{settings.api}/register\" }, take = { queue = \".queue\", last = \".last\" }, cursor = \"last\" }\n\
        [poll.events.request]\nget = \"{settings.api}/events\"\nquery = { queue = \"{session.queue}\", last = \"{cursor}\" }\nwithin = \"2s\"\n\
        [poll.history]\nfills = \"events\"\nitems = \"/items\"\nid = \".id\"\ncursor = { each = \".id\" }\n\
        [poll.history.request]\nget = \"{settings.api}/history\"\nquery = { since = \"{cursor}\" }\n";
    let (mut queues, mut expired) = (0, false);
    let platform = Platform::start(move |target| {
        if target.starts_with("/register") {
            queues += 1;
            return said(&json!({"queue": format!("q{queues}"), "last": -1}));
        }
        if target.starts_with("/history") {
            let since: u64 = query(target, "since").and_then(|text| text.parse().ok()).unwrap_or(0);
            let top = if expired { 5 } else { 1 };
            return said(&json!({ "items": items(since + 1..=top) }));
        }
        match (query(target, "queue").as_deref(), query(target, "last").as_deref()) {
            (Some("q1"), Some("-1")) => said(&json!({"items": [{"event": 0, "id": 2}, {"event": 1, "id": 3}]})),
            (Some("q1"), _) => {
                // It forgot the queue; meanwhile 4 and 5 were written.
                expired = true;
                Answer::Plain(400, Vec::new(), "{}".to_owned())
            }
            (Some("q2"), Some("-1")) => said(&json!({"items": [{"event": 0, "id": 6}]})),
            _ => Answer::Stall,
        }
    })
    .await;
    let reader = reader(poll, &platform, json!({}));
    let mut world = World::new();
    world.run(&reader, Begin::FromNow);
    world.until("the last", async || world.texts().await.contains(&6) && world.texts().await.contains(&5)).await;
    world.end().await;
    let mut texts = world.texts().await;
    texts.sort_unstable();
    assert_eq!(texts, [2, 3, 4, 5, 6], "1 was there before");
    let history: Vec<_> = platform.targets().into_iter().filter(|target| target.starts_with("/history")).collect();
    assert_eq!(history.last().map(String::as_str), Some("/history?since=3"), "the gap begins at what came last");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_document_is_asked_for_conditionally_and_taken_once() {
    let platform =
        Platform::start(|_| Answer::Plain(200, vec![("etag", "\"e1\"".to_owned())], json!({"items": [{"id": 1}]}).to_string())).await;
    let poll = "[poll.all]\ninterval = \"1s\"\nconditional = true\nfrom_now = \"take\"\n[poll.all.request]\nget = \"{settings.api}/all\"\n";
    let reader = reader(poll, &platform, json!({}));
    let mut world = World::new();
    world.run(&reader, Begin::FromNow);
    world.until("asked again", async || platform.targets().len() >= 3).await;
    world.end().await;
    assert_eq!(world.texts().await, [1]);
    assert_eq!(world.duplicates().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_page_is_not_asked_for_where_credentials_must_not_go() {
    let platform = Platform::start(|target| {
        if query(target, "page").is_some() {
            return said(&json!({ "items": [] }));
        }
        let link = "<https://evil.example.org/all?page=2>; rel=\"next\"".to_owned();
        Answer::Plain(200, vec![("link", link)], json!({ "items": items([1]) }).to_string())
    })
    .await;
    let poll = FORWARD.lines().filter(|line| !line.contains("page =")).collect::<Vec<_>>().join("\n");
    let poll = poll.replacen("interval", "page = { kind = \"link_header\" }\ninterval", 1);
    let reader = reader(&poll, &platform, json!({}));
    let mut world = World::new();
    world.run(&reader, Begin::FromNow);
    world.until("it is told", async || world.board.read()["desk"].code.as_deref() == Some("channel_config")).await;
    world.end().await;
    assert_eq!(world.texts().await, [1], "the first page is kept");
}
