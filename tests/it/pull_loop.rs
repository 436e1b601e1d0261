//! The loop around a pulled source, over a real store: a source that answers what the test wrote, and what became of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use omnigate::logic::ids::IdMaker;
use omnigate::model::codes::Code;
use omnigate::model::event::Channel;
use omnigate::model::item::{Fate, Item, ItemBody};
use omnigate::model::raw::{Raw, RawHead};
use omnigate::model::time::Time;
use omnigate::pipeline::board::{Board, ChannelMode};
use omnigate::pipeline::loops::LoopGuard;
use omnigate::pipeline::parse::Readers;
use omnigate::pipeline::pull::{Pieces, PullChannel, ReadPulled};
use omnigate::pipeline::writer::{self, CommitWatch, WriterLimits};
use omnigate::ports::BoxFuture;
use omnigate::ports::clock::Clock;
use omnigate::ports::control::ChannelStatus;
use omnigate::ports::pull::{Pull, PullError, PullNews, PullSource, Pulled, PulledBatch, PulledState, Roll, RollReason, Woken};
use omnigate::ports::store::{ParseBatch, SourceRow, SourceRowState, SourceState, Store, pull_lease};
use omnigate::stores::folder::FolderBlobs;
use omnigate::telemetry::metrics::Metrics;
use tokio::sync::watch;

use crate::store::gate::{Gate, KINDS};
use crate::support::pulling::WallClock;
use crate::support::virtual_time::VirtualClock;

const ACCOUNT: &str = "imap:server:ana";

/// What the source answers, question by question; then it waits.
#[derive(Default)]
pub struct Script {
    /// Answers to `next`.
    pub answers: Mutex<VecDeque<Result<PullNews, PullError>>>,
    pub wanted: Mutex<Vec<Vec<u64>>>,
    pub settled: Mutex<Vec<u64>>,
    pub day_bytes_max: Option<u64>,
    /// There is a policy.
    pub settles: bool,
    /// The server it is at.
    pub server: Option<String>,
    /// Answers to `again`, and the numbers that were asked for.
    pub again: Mutex<VecDeque<Result<Option<PulledBatch>, PullError>>>,
    /// Numbers that were asked for again.
    pub asked_again: Mutex<Vec<u64>>,
    /// Its waits end by this clock; without one they do not end.
    pub clock: Option<VirtualClock>,
    /// How often it was opened, and what an opening waits for.
    pub opened: AtomicUsize,
    /// Openings wait until this is open.
    pub door: Option<Arc<tokio::sync::Semaphore>>,
    /// Waits that began.
    pub waits: AtomicUsize,
    /// Ends a wait.
    pub news: tokio::sync::Notify,
}

struct Session(Arc<Script>);

impl Pull for Session {
    fn next<'a>(&'a mut self, _: &'a [SourceState]) -> BoxFuture<'a, Result<PullNews, PullError>> {
        let next = self.0.answers.lock().unwrap().pop_front();
        Box::pin(async move { next.unwrap_or(Ok(PullNews::Quiet)) })
    }
    fn wanted(&mut self, _: &str, uids: Vec<u64>) {
        self.0.wanted.lock().unwrap().push(uids);
    }
    fn wait(&mut self, at_most: Duration) -> BoxFuture<'_, Result<Woken, PullError>> {
        self.0.waits.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let end: BoxFuture<'static, ()> = match &self.0.clock {
                Some(clock) => clock.sleep(at_most),
                None => Box::pin(std::future::pending()),
            };
            tokio::select! {
                () = end => Ok(Woken::Timeout),
                () = self.0.news.notified() => Ok(Woken::News),
            }
        })
    }
    fn again<'a>(&'a mut self, _: &'a SourceState, uid: u64) -> BoxFuture<'a, Result<Option<PulledBatch>, PullError>> {
        self.0.asked_again.lock().unwrap().push(uid);
        let next = self.0.again.lock().unwrap().pop_front();
        Box::pin(async move { next.unwrap_or(Ok(None)) })
    }
    fn settle<'a>(&'a mut self, _: &'a SourceState, rows: &'a [SourceRow]) -> BoxFuture<'a, Result<Vec<u64>, PullError>> {
        let uids: Vec<u64> = rows.iter().map(|row| row.uid).collect();
        self.0.settled.lock().unwrap().extend(&uids);
        Box::pin(async move { Ok(uids) })
    }
    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

struct Source(Arc<Script>);

impl PullSource for Source {
    fn account(&self) -> String {
        ACCOUNT.to_owned()
    }
    fn day_bytes_max(&self) -> Option<u64> {
        self.0.day_bytes_max
    }
    fn settles(&self) -> bool {
        self.0.settles
    }
    fn server(&self) -> String {
        self.0.server.clone().unwrap_or_else(|| self.account())
    }
    fn open(&self) -> BoxFuture<'_, Result<Box<dyn Pull>, PullError>> {
        let session: Box<dyn Pull> = Box::new(Session(self.0.clone()));
        Box::pin(async move {
            self.0.opened.fetch_add(1, Ordering::SeqCst);
            if let Some(door) = &self.0.door {
                door.acquire().await.unwrap().forget();
            }
            Ok(session)
        })
    }
    fn probe(&self) -> BoxFuture<'_, Result<Vec<String>, PullError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// Every mail is a message of a conversation of its own; one that says `crash` ends its job.
struct Reader(Arc<Gate>);

impl ReadPulled for Reader {
    fn read(&self, raw: &Raw, _: bool, _: Option<&omnigate::model::dns::Answers>) -> Vec<Item> {
        let text = String::from_utf8(raw.body.to_vec()).unwrap();
        if text.contains("crash") {
            std::panic::resume_unwind(Box::new(text));
        }
        vec![self.0.message(&format!("person-{text}"), &text)]
    }
    fn read_large(
        &self,
        raw: &Raw,
        historic: bool,
        answers: Option<&omnigate::model::dns::Answers>,
        pieces: Pieces,
    ) -> Result<Vec<Item>, String> {
        let mut body = Vec::new();
        loop {
            let piece = pieces(body.len() as u64)?;
            if piece.is_empty() {
                return Ok(self.read(&Raw { body: body.into(), ..raw.clone() }, historic, answers));
            }
            body.extend_from_slice(&piece);
        }
    }
    fn unread(&self, code: Code, detail: String) -> Item {
        self.0.bare(ItemBody::Quarantined { code, detail })
    }
}

struct Nobody;

impl CommitWatch for Nobody {
    fn woken(&self, _: &[Arc<str>]) {}
    fn pending(&self, _: &[(i64, Time)]) {}
    fn committed(&self, _: usize, _: f64) {}
    fn failed(&self, _: Code) {}
}

/// A channel over a fresh store.
pub struct World {
    /// The store's surroundings.
    pub gate: Arc<Gate>,
    /// The store.
    pub store: Arc<dyn Store>,
    board: Arc<Board>,
    /// The source.
    pub script: Arc<Script>,
    stop: watch::Sender<bool>,
    task: Option<tokio::task::JoinHandle<()>>,
    /// The channel's time.
    pub clock: Arc<dyn Clock>,
    /// Shared by channels that log in by turns.
    pub logins: Arc<omnigate::pipeline::sessions::pace::Gate>,
    /// Admits, once the loop runs.
    pub writer: Option<writer::WriterHandle>,
}

impl World {
    /// Over a fresh store, by the machine's clock or the script's.
    pub fn new(script: Script) -> Self {
        let gate = Arc::new(Gate::new(&KINDS[0]));
        let store = gate.store();
        let clock: Arc<dyn Clock> = match &script.clock {
            Some(clock) => Arc::new(clock.clone()),
            None => Arc::new(WallClock),
        };
        let (script, stop) = (Arc::new(script), watch::Sender::new(false));
        Self { store, gate, board: Arc::default(), script, stop, task: None, clock, logins: Arc::default(), writer: None }
    }

    /// What the source answers next.
    pub fn answer(&self, answers: impl IntoIterator<Item = Result<PullNews, PullError>>) {
        self.script.answers.lock().unwrap().extend(answers);
    }

    /// Starts the loop.
    pub async fn run(&mut self, lease_epoch: u64) {
        let limits = WriterLimits { queue_items_max: 100, queue_bytes_max: 1 << 26, commit_items_max: 100 };
        let (writer, _tasks) = writer::start(self.store.clone(), limits, Arc::new(Nobody));
        self.writer = Some(writer.clone());
        let public = Channel { id: "mail".to_owned(), connector: "imap".to_owned(), labels: BTreeMap::new() };
        let status = ChannelStatus {
            connector: "imap".to_owned(),
            state: ChannelMode::Connecting.as_str().to_owned(),
            code: None,
            detail: None,
            since: Time(0),
            last_received: None,
            hook: None,
        };
        self.board.place("mail", status);
        let channel = PullChannel {
            id: "mail".to_owned(),
            source: Arc::new(Source(self.script.clone())),
            reader: Arc::new(Reader(self.gate.clone())),
            public,
            store: self.store.clone(),
            blobs: Arc::new(FolderBlobs::open(&self.gate.folder.path().join("blobs"), false).unwrap()),
            writer,
            readers: Arc::new(Readers::start(2, 1 << 20).unwrap()),
            lookups: None,
            loops: Arc::new(LoopGuard::new(1_000, Duration::from_secs(1))),
            gate: self.logins.clone(),
            board: self.board.clone(),
            clock: self.clock.clone(),
            random: self.gate.parts().random,
            ids: Arc::new(IdMaker::default()),
            lease_epoch,
            metrics: Metrics::new(),
        };
        self.task = Some(tokio::spawn(Arc::new(channel).run(self.stop.subscribe())));
    }

    /// Waits until something holds.
    pub async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let from = Instant::now();
        while !holds().await {
            assert!(from.elapsed() < Duration::from_secs(20), "not in time: {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn low_water(&self) -> u64 {
        self.store.sources(ACCOUNT).await.unwrap().first().map_or(0, |state| state.low_water)
    }

    /// Rows of the INBOX in an epoch.
    pub async fn rows(&self, epoch: u64) -> Vec<SourceRow> {
        let source = (ACCOUNT.to_owned(), "INBOX".to_owned(), epoch);
        let rows = self.store.source_rows(&source, (epoch, 0), 10_000).await.unwrap();
        rows.into_iter().map(|(_, row)| row).collect()
    }

    /// How many items have a fate.
    pub async fn fate(&self, fate: Fate) -> u64 {
        let totals = self.store.totals().await.unwrap();
        totals.fates.values().filter_map(|words| words.get(fate.as_str())).sum()
    }

    /// What is told of the channel.
    pub fn code(&self) -> Option<String> {
        self.board.read()["mail"].code.clone()
    }

    /// Stops and starts again.
    pub async fn restart(&mut self) {
        self.end().await;
        self.stop.send_replace(false);
        self.run(0).await;
    }

    async fn end(&mut self) {
        self.stop.send_replace(true);
        self.task.take().unwrap().await.unwrap();
    }
}

fn state(epoch: u64) -> SourceState {
    SourceState {
        account: ACCOUNT.to_owned(),
        folder: "INBOX".to_owned(),
        epoch,
        epoch_name: 100 + epoch,
        low_water: 0,
        first_run_top: 0,
        memo: String::new(),
    }
}

/// A state to write down.
pub fn note(epoch: u64) -> Result<PullNews, PullError> {
    Ok(PullNews::State(state(epoch)))
}

/// Mails that came.
pub fn batch(epoch: u64, uids: impl IntoIterator<Item = u64>, text: &str) -> Result<PullNews, PullError> {
    let thing = |uid: u64| Pulled {
        uid,
        head: RawHead::default(),
        body: Bytes::from(format!("{text} {uid}")),
        spooled: None,
        internal_date: None,
        print: Some(1000 + uid),
        state: PulledState::Whole,
    };
    let things: Vec<_> = uids.into_iter().map(thing).collect();
    let (from, to) = (things[0].uid, things[things.len() - 1].uid);
    Ok(PullNews::Batch(PulledBatch {
        folder: "INBOX".to_owned(),
        epoch,
        epoch_name: 100 + epoch,
        from,
        to,
        things,
        historic: false,
        share: None,
    }))
}

fn roll(epoch: u64, there: Vec<(u64, Option<u64>)>, reason: RollReason) -> Result<PullNews, PullError> {
    let to = there[there.len() - 1].0;
    Ok(PullNews::Roll(Roll { folder: "INBOX".to_owned(), epoch, from: 1, to, there, reason }))
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_admitted_in_order_with_their_rows_and_then_settled() {
    let mut world = World::new(Script { settles: true, ..Script::default() });
    world.answer([note(1), batch(1, 1..=40, "a"), batch(1, 41..=41, "b"), batch(1, 42..=90, "c")]);
    world.run(0).await;
    world.until("everything is settled", async || world.script.settled.lock().unwrap().len() == 90).await;
    world.until("and written down", async || world.rows(1).await.iter().all(|row| row.state == SourceRowState::Settled)).await;
    let rows = world.rows(1).await;
    assert_eq!(rows.iter().map(|row| row.uid).collect::<Vec<_>>(), (1..=90).collect::<Vec<_>>());
    assert!(rows.iter().all(|row| row.print == Some(1000 + row.uid) && row.raw.is_some()));
    assert_eq!((world.low_water().await, world.fate(Fate::Published).await), (90, 90));
    assert!(world.store.interrupted(ACCOUNT).await.unwrap().is_empty());
    assert_eq!(world.board.read()["mail"].state, "running");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_batch_that_failed_nothing_is_committed() {
    let mut world = World::new(Script::default());
    world.answer([note(1), batch(1, 1..=3, "a"), batch(1, 4..=6, "crash"), batch(1, 7..=9, "c")]);
    // The next sessions say that there is nothing.
    world.run(0).await;
    world.until("the failure is told", async || world.low_water().await == 3).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((world.low_water().await, world.fate(Fate::Published).await), (3, 3), "I2: the cursor passes nothing that is not there");
    let left = world.store.interrupted(ACCOUNT).await.unwrap();
    assert!(left.iter().any(|batch| batch.uids == [4, 5, 6]), "the batch that ended its job is remembered: {left:?}");
    assert!(left.iter().all(|batch| batch.uids != [7, 8, 9]), "the one behind it is not to blame: {left:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_whose_parsing_was_over_is_not_to_blame_for_an_interruption() {
    let mut world = World::new(Script::default());
    world.answer([note(1), batch(1, 1..=2, "a")]);
    world.run(0).await;
    world.until("both are there", async || world.low_water().await == 2).await;
    world.end().await;
    let source = (ACCOUNT.to_owned(), "INBOX".to_owned(), 1);
    let parsed = ParseBatch { id: omnigate::model::id::RawId(77), channel: "mail".to_owned(), source, uids: Vec::new(), attempts: 4 };
    world.store.stage(Vec::new(), Some(parsed)).await.unwrap();
    world.stop.send_replace(false);
    world.run(0).await;
    world.until("its row is gone", async || world.store.interrupted(ACCOUNT).await.unwrap().is_empty()).await;
    assert_eq!(world.low_water().await, 2);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_the_lease_writes_nothing_more_and_ends() {
    let mut world = World::new(Script { settles: true, ..Script::default() });
    let first = world.store.take_lease(&pull_lease(ACCOUNT), "one").await.unwrap();
    world.store.take_lease(&pull_lease(ACCOUNT), "two").await.unwrap();
    world.answer([note(1), batch(1, 1..=3, "a"), Ok(PullNews::Quiet)]);
    world.run(first).await;
    world.until("it ends", async || world.task.as_ref().unwrap().is_finished()).await;
    assert_eq!((world.code().as_deref(), world.fate(Fate::Published).await), (Some("lease_lost"), 0));
    assert!(world.store.sources(ACCOUNT).await.unwrap().is_empty() && world.script.settled.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_overlooked_is_wanted_and_what_has_a_row_is_not() {
    let mut world = World::new(Script::default());
    world.answer([
        note(1),
        batch(1, [1, 2, 4], "a"),
        roll(1, (1..=4).map(|uid| (uid, None)).collect(), RollReason::Gaps),
        batch(1, [3], "late"),
    ]);
    world.run(0).await;
    world.until("all four are there", async || world.rows(1).await.len() == 4).await;
    assert_eq!(*world.script.wanted.lock().unwrap(), [vec![3]]);
    assert_eq!(world.low_water().await, 4, "what came late did not move it back");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recognised_mails_keep_their_fate_and_only_as_many_as_there_were() {
    let mut world = World::new(Script { settles: true, ..Script::default() });
    let there = vec![(1, Some(1002)), (2, Some(1001)), (3, Some(1001)), (4, None), (5, Some(9))];
    let again = roll(2, there.clone(), RollReason::Renumbered);
    world.answer([note(1), batch(1, [1, 2], "a"), Ok(PullNews::Quiet)]);
    world.run(0).await;
    world.until("both are settled", async || world.script.settled.lock().unwrap().len() == 2).await;
    world.end().await;
    world.stop.send_replace(false);
    world.answer([note(2), again]);
    world.run(0).await;
    world.until("the roll is answered", async || world.script.wanted.lock().unwrap().len() == 1).await;
    world.end().await;
    // Interrupted and begun anew: what was recognised is known, and is not there to be recognised again.
    world.stop.send_replace(false);
    world.answer([roll(2, there, RollReason::Renumbered)]);
    world.run(0).await;
    world.until("the roll is answered", async || world.script.wanted.lock().unwrap().len() == 2).await;
    assert_eq!(*world.script.wanted.lock().unwrap(), [vec![3, 4, 5], vec![3, 4, 5]]);
    let rows = world.rows(2).await;
    assert_eq!(
        rows.iter().map(|row| (row.uid, row.state, row.print)).collect::<Vec<_>>(),
        [(1, SourceRowState::Settled, Some(1002)), (2, SourceRowState::Settled, Some(1001))]
    );
    assert_eq!(world.fate(Fate::Published).await, 2);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_unknown_mails_out_of_a_renumbered_folder_is_held_and_told() {
    let mut world = World::new(Script::default());
    let there = (1..=700).map(|uid| (uid, None)).collect();
    let batches = (0..7).map(|part| batch(2, part * 100 + 1..=part * 100 + 100, "a"));
    world.answer([note(2), roll(2, there, RollReason::Renumbered)].into_iter().chain(batches));
    world.run(0).await;
    world.until("all are there", async || world.low_water().await == 700).await;
    let (published, held) = (world.fate(Fate::Published).await, world.fate(Fate::Pending).await);
    // The gauge is read before a batch is committed, and one more may be on its way.
    assert!(published + held == 700 && (500..=600).contains(&published), "{published} published, {held} held");
    let (_, until) = world.store.pending(1).await.unwrap()[0];
    assert!(until.0 > WallClock.now_ms() + 23 * 3_600_000, "for a day");
    assert_eq!(world.board.read()["mail"].code.as_deref(), Some("flood"));
    world.end().await;
}

impl WallClock {
    fn now_ms(&self) -> i64 {
        omnigate::ports::clock::Clock::now(self).0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_of_a_day_end_the_session_until_tomorrow() {
    let mut world = World::new(Script { day_bytes_max: Some(10), ..Script::default() });
    world.answer([note(1), batch(1, 1..=3, "longer than that"), batch(1, 4..=5, "never asked for")]);
    world.run(0).await;
    world.until("it is told", async || world.code().as_deref() == Some("throttled")).await;
    assert_eq!((world.low_water().await, world.script.answers.lock().unwrap().len()), (3, 1), "what was fetched is admitted");
    assert_eq!(world.board.read()["mail"].state, "degraded");
    world.end().await;
    // A restart does not give the day its bytes back.
    world.stop.send_replace(false);
    world.run(0).await;
    world.until("it is told again", async || world.code().as_deref() == Some("throttled")).await;
    assert_eq!(world.low_water().await, 3);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_is_on_the_board_while_the_channel_runs() {
    let mut world = World::new(Script::default());
    let missing = PullNews::Note { code: Code::NoFolder, detail: "folder \"Gone\": no".to_owned() };
    world.answer([Ok(missing), note(1), batch(1, 1..=2, "a")]);
    world.run(0).await;
    world.until("the mails are there", async || world.low_water().await == 2).await;
    let status = world.board.read()["mail"].clone();
    assert_eq!((status.state.as_str(), status.code.as_deref()), ("running", Some("no_folder")));
    world.end().await;
}
