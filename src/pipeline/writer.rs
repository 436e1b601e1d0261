//! The writer: one task that owns the store's write side.
//!
//! It drains its queues, commits many writes in one transaction and answers them all (group commit): while one commit is on
//! its way to the disk, the next group gathers. Decisions go before admissions (design §2 step 8). Both queues are bounded,
//! the admissions' one in items and in bytes; a full queue is backpressure for whoever asks (I6).
//!
//! Raws are staged in a step of its own before the commit, so that the raw database commits group N+1 while the main
//! database commits group N.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::model::codes::Code;
use crate::ports::store::{Admission, Moved, RawRecord, Store, StoreError, Write, Written};

/// Decisions and other small writes that may wait. Deliveries in flight are far fewer.
const DECISIONS_QUEUED_MAX: usize = 4096;
/// Groups between staging and commit: one being committed, one ready.
const GROUPS_STAGED_MAX: usize = 1;
/// Under load a group gathers this long. A commit costs the same for one write as for many (two syncs, the hand-over between threads,
/// a page of each table), and left alone the writer would commit a few writes at a time as fast as the disk lets it.
const GATHER: Duration = Duration::from_millis(2);
/// A group of this many writes is load. Smaller ones gather nothing: then a commit is what a sender waits for.
const LOAD_MIN: usize = 3;

/// How large queues and groups may grow.
#[derive(Debug, Clone, Copy)]
pub struct WriterLimits {
    /// Admissions in the queue.
    pub queue_items_max: usize,
    /// Bytes of raws in the queue.
    pub queue_bytes_max: usize,
    /// Writes in one commit.
    pub commit_items_max: usize,
}

/// Why an admission was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    /// The queue is full: come again.
    #[error("the writer's queue is full")]
    QueueFull,
    /// Below `free_min` of disk.
    #[error("the disk is full")]
    DiskFull,
    /// The daemon stops.
    #[error("the daemon is stopping")]
    Stopping,
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the writer is told about every commit.
pub trait CommitWatch: Send + Sync {
    /// Destinations that have new deliveries.
    fn woken(&self, destinations: &[Arc<str>]);
    /// Pending items and when they are released at the latest.
    fn pending(&self, items: &[(i64, crate::model::time::Time)]);
    /// Channels have files to fetch.
    fn media(&self, _channels: &[String]) {}
    /// A commit of `writes` writes took `seconds`.
    fn committed(&self, writes: usize, seconds: f64);
    /// A commit failed as a whole.
    fn failed(&self, code: Code);
}

type Answer = oneshot::Sender<Result<Written, StoreError>>;

struct Asked {
    write: Write,
    answer: Answer,
    /// Returned to the byte budget when the write is answered.
    bytes: u32,
}

struct Staged {
    asked: Vec<Asked>,
}

/// When the next group may start: at once, unless groups are as large as load makes them.
struct Pace {
    next: Instant,
}

impl Pace {
    fn new() -> Self {
        Self { next: Instant::now() }
    }

    /// A group of `writes` out of at most `group_max` starts now. A full one shows that more waits already.
    fn started(&mut self, writes: usize, group_max: usize) {
        let now = Instant::now();
        self.next = if (LOAD_MIN..group_max).contains(&writes) { now + GATHER } else { now };
    }

    fn waits(&self) -> bool {
        self.next > Instant::now()
    }
}

/// Hands writes to the writer. Cheap to clone.
#[derive(Clone)]
pub struct WriterHandle {
    admissions: mpsc::Sender<(Vec<Arc<RawRecord>>, Asked)>,
    decisions: mpsc::Sender<Asked>,
    shared: Arc<Shared>,
}

struct Shared {
    bytes: Arc<Semaphore>,
    bytes_max: usize,
    queued: AtomicU64,
    disk_full: AtomicBool,
    stopping: AtomicBool,
    ended: watch::Sender<bool>,
}

/// The writer's tasks; awaited at stop.
pub struct WriterTasks {
    stager: tokio::task::JoinHandle<()>,
    committer: tokio::task::JoinHandle<()>,
}

impl WriterTasks {
    /// Waits until everything that was handed over is answered, after [`WriterHandle::stop`].
    pub async fn finished(self) {
        let _ = self.stager.await;
        let _ = self.committer.await;
    }
}

/// Starts the writer.
pub fn start(store: Arc<dyn Store>, limits: WriterLimits, watch: Arc<dyn CommitWatch>) -> (WriterHandle, WriterTasks) {
    let (admissions, admissions_in) = mpsc::channel(limits.queue_items_max.max(1));
    let (decisions, decisions_in) = mpsc::channel(DECISIONS_QUEUED_MAX);
    let (staged, staged_in) = mpsc::channel(GROUPS_STAGED_MAX);
    let bytes_max = limits.queue_bytes_max.clamp(1, u32::MAX as usize / 2);
    let shared = Arc::new(Shared {
        bytes: Arc::new(Semaphore::new(bytes_max)),
        bytes_max,
        queued: AtomicU64::new(0),
        disk_full: AtomicBool::new(false),
        stopping: AtomicBool::new(false),
        ended: watch::Sender::new(false),
    });
    let group_max = limits.commit_items_max.max(1);
    let stager = tokio::spawn(stage(store.clone(), admissions_in, staged, group_max, shared.clone()));
    let committer = tokio::spawn(commit(store, decisions_in, staged_in, group_max, shared.clone(), watch));
    (WriterHandle { admissions, decisions, shared }, WriterTasks { stager, committer })
}

impl WriterHandle {
    /// Admits raws (and the source state that covers them) without waiting for room: for sources that redeliver.
    ///
    /// # Errors
    /// [`AdmitError`]; after `Store` nothing of it is durable, or the same again is a duplicate.
    pub async fn try_admit(&self, admission: Admission) -> Result<Written, AdmitError> {
        let bytes = self.weight(&[&admission]);
        self.open()?;
        let permit = self.shared.bytes.try_acquire_many(bytes).map_err(|_| AdmitError::QueueFull)?;
        let raws = vec![admission.raw.clone()];
        let (answer, answered) = oneshot::channel();
        let asked = Asked { write: Write::Admit { admissions: vec![admission], source: None }, answer, bytes };
        self.admissions.try_send((raws, asked)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => AdmitError::QueueFull,
            mpsc::error::TrySendError::Closed(_) => AdmitError::Stopping,
        })?;
        permit.forget();
        self.shared.queued.fetch_add(1, Ordering::Relaxed);
        self.answer(answered).await
    }

    /// Admits raws that were staged by the caller, waiting for room: for sources that we ask.
    ///
    /// # Errors
    /// [`AdmitError`], never `QueueFull`.
    pub async fn admit_staged(&self, admissions: Vec<Admission>, source: Option<Moved>) -> Result<Written, AdmitError> {
        let bytes = self.weight(&admissions.iter().collect::<Vec<_>>());
        self.open()?;
        let permit = self.shared.bytes.acquire_many(bytes).await.map_err(|_| AdmitError::Stopping)?;
        let (answer, answered) = oneshot::channel();
        let asked = Asked { write: Write::Admit { admissions, source }, answer, bytes };
        self.admissions.send((Vec::new(), asked)).await.map_err(|_| AdmitError::Stopping)?;
        permit.forget();
        self.shared.queued.fetch_add(1, Ordering::Relaxed);
        self.answer(answered).await
    }

    /// Does any other write, before waiting admissions.
    ///
    /// # Errors
    /// [`StoreError`]; nothing of it was done.
    pub async fn write(&self, write: Write) -> Result<Written, StoreError> {
        let (answer, answered) = oneshot::channel();
        let gone = || StoreError::Unavailable { detail: "the writer has stopped".to_owned() };
        self.decisions.send(Asked { write, answer, bytes: 0 }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Admissions in the queue.
    pub fn queued(&self) -> u64 {
        self.shared.queued.load(Ordering::Relaxed)
    }

    /// Bytes of raws in the queue.
    pub fn queued_bytes(&self) -> u64 {
        self.shared.bytes_max.saturating_sub(self.shared.bytes.available_permits()) as u64
    }

    /// Stops or allows admissions for lack of disk; decisions go on.
    pub fn set_disk_full(&self, full: bool) {
        self.shared.disk_full.store(full, Ordering::Relaxed);
    }

    /// Whether admissions stand still for lack of disk.
    pub fn disk_full(&self) -> bool {
        self.shared.disk_full.load(Ordering::Relaxed)
    }

    /// The writer ends when its queues are empty; what is written later is refused.
    pub fn stop(&self) {
        self.stop_admitting();
        let _ = self.shared.ended.send(true);
    }

    /// No further admissions are taken; what is queued is finished. Decisions go on.
    pub fn stop_admitting(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
    }

    fn open(&self) -> Result<(), AdmitError> {
        if self.shared.stopping.load(Ordering::Relaxed) {
            return Err(AdmitError::Stopping);
        }
        if self.disk_full() {
            return Err(AdmitError::DiskFull);
        }
        Ok(())
    }

    /// What an admission weighs in the byte budget. One raw that is larger than the whole budget weighs all of it: it passes alone.
    fn weight(&self, admissions: &[&Admission]) -> u32 {
        // An item costs memory beside its raw: the smallest raw counts as this many bytes.
        const ITEM_BYTES_MIN: u64 = 1024;
        let total: u64 = admissions.iter().map(|admission| admission.raw.bytes.max(ITEM_BYTES_MIN)).sum();
        u32::try_from(total.clamp(1, self.shared.bytes_max as u64)).unwrap_or(u32::MAX / 2)
    }

    async fn answer(&self, answered: oneshot::Receiver<Result<Written, StoreError>>) -> Result<Written, AdmitError> {
        match answered.await {
            Ok(result) => Ok(result?),
            Err(_) => Err(AdmitError::Stopping),
        }
    }
}

async fn stage(
    store: Arc<dyn Store>,
    mut admissions: mpsc::Receiver<(Vec<Arc<RawRecord>>, Asked)>,
    staged: mpsc::Sender<Staged>,
    group_max: usize,
    shared: Arc<Shared>,
) {
    let mut group = Vec::with_capacity(group_max);
    let mut ended = shared.ended.subscribe();
    let mut pace = Pace::new();
    loop {
        // Room downstream first: what arrives while the committer is busy joins this group instead of a smaller one.
        let Ok(slot) = staged.reserve().await else { return };
        if pace.waits() {
            tokio::time::sleep_until(pace.next).await;
        }
        tokio::select! {
            biased;
            taken = admissions.recv_many(&mut group, group_max) => if taken == 0 { return },
            _ = ended.wait_for(|ended| *ended), if !admissions.is_closed() => {
                // What is queued is still received; then the queue says that it is over.
                admissions.close();
                continue;
            }
        }
        pace.started(group.len(), group_max);
        let mut raws = Vec::with_capacity(group.len());
        let mut asked = Vec::with_capacity(group.len());
        for (more, one) in group.drain(..) {
            raws.extend(more);
            asked.push(one);
        }
        let done = if raws.is_empty() { Ok(()) } else { store.stage(raws, None).await };
        match done {
            Ok(()) => slot.send(Staged { asked }),
            Err(error) => {
                tracing::error!(error = %error, "raws not staged");
                answer_all(asked, &shared, &error);
            }
        }
    }
}

async fn commit(
    store: Arc<dyn Store>,
    mut decisions: mpsc::Receiver<Asked>,
    mut staged: mpsc::Receiver<Staged>,
    group_max: usize,
    shared: Arc<Shared>,
    watch: Arc<dyn CommitWatch>,
) {
    let (mut decisions_open, mut staged_open) = (true, true);
    let mut group: Vec<Asked> = Vec::new();
    let mut ended = shared.ended.subscribe();
    let mut pace = Pace::new();
    while decisions_open || staged_open {
        let mut joined = false;
        tokio::select! {
            biased;
            taken = decisions.recv_many(&mut group, group_max), if decisions_open => decisions_open = taken > 0,
            more = staged.recv(), if staged_open => match more {
                Some(more) => {
                    group.extend(more.asked);
                    joined = true;
                }
                None => staged_open = false,
            },
            _ = ended.wait_for(|ended| *ended), if !decisions.is_closed() => decisions.close(),
        }
        // A staged group shares the commit of decisions: the disk syncs once. Under load it is worth waiting for, since no sender waits
        // for a decision.
        if !group.is_empty() && !joined && staged_open {
            match tokio::time::timeout_at(pace.next, staged.recv()).await {
                Ok(Some(more)) => group.extend(more.asked),
                Ok(None) => staged_open = false,
                Err(_) => {}
            }
        }
        if !group.is_empty() {
            while group.len() < group_max
                && let Ok(one) = decisions.try_recv()
            {
                group.push(one);
            }
            pace.started(group.len(), group_max);
            commit_group(&*store, std::mem::take(&mut group), &shared, &*watch).await;
        }
    }
}

async fn commit_group(store: &dyn Store, group: Vec<Asked>, shared: &Shared, watch: &dyn CommitWatch) {
    let mut writes = Vec::with_capacity(group.len());
    let mut answers = Vec::with_capacity(group.len());
    for Asked { write, answer, bytes } in group {
        writes.push(write);
        answers.push((answer, bytes));
    }
    let count = writes.len();
    let started = tokio::time::Instant::now();
    let outcome = store.commit(writes).await;
    match outcome {
        Ok(results) => {
            watch.committed(count, started.elapsed().as_secs_f64());
            let mut results = results.into_iter();
            for (answer, bytes) in answers {
                let result =
                    results.next().unwrap_or_else(|| Err(StoreError::Invariant { detail: "the store left a write unanswered".to_owned() }));
                if let Ok(written) = &result {
                    if !written.woken.is_empty() {
                        watch.woken(&written.woken);
                    }
                    if !written.pending.is_empty() {
                        watch.pending(&written.pending);
                    }
                    if !written.media.is_empty() {
                        watch.media(&written.media);
                    }
                }
                release(shared, bytes);
                let _ = answer.send(result);
            }
        }
        Err(error) => {
            tracing::error!(error = %error, writes = count, "group not committed");
            watch.failed(if error == StoreError::Full { Code::DiskFull } else { Code::StoreUnavailable });
            for (answer, bytes) in answers {
                release(shared, bytes);
                let _ = answer.send(Err(error.clone()));
            }
        }
    }
}

fn answer_all(asked: Vec<Asked>, shared: &Shared, error: &StoreError) {
    for Asked { answer, bytes, .. } in asked {
        release(shared, bytes);
        let _ = answer.send(Err(error.clone()));
    }
}

/// Gives an admission's bytes back. Writes that are no admissions weigh nothing.
fn release(shared: &Shared, bytes: u32) {
    if bytes > 0 {
        shared.bytes.add_permits(bytes as usize);
        shared.queued.fetch_sub(1, Ordering::Relaxed);
    }
}
