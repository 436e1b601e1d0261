//! Media: fetches files that messages name and platforms keep, and writes down what became of each.
//!
//! One loop a channel, so that a platform that hangs delays its own files only (I8). What is to be fetched stands in the store, not here: a
//! killed process goes on where the rows say. What must stay true: every outcome is written before the next look, and what nobody waits
//! for any more leaves no blob.

mod fetch;
mod leftovers;
mod slots;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, Semaphore, watch};

use crate::connector::kit::ChannelKit;
use crate::logic::admit::media::{FetchTask, tasks};
use crate::model::codes::Code;
use crate::model::id::AttachmentId;
use crate::model::item::{Fetched, FilePlace};
use crate::model::time::Time;
use crate::pipeline::media::fetch::Failure;
use crate::pipeline::writer::WriterHandle;
use crate::ports::blobs::Blobs;
use crate::ports::clock::{Clock, Random};
use crate::ports::http::Http;
use crate::ports::store::{Store, StoreError, Write};
use crate::telemetry::metrics::Metrics;

pub use leftovers::leftovers;
pub use slots::Slots;

/// Items of one channel whose files are fetched at the same time.
const ITEMS_AT_ONCE: usize = 4;
/// Files of one item at the same time.
const FILES_AT_ONCE: usize = 4;
/// Rows looked at in one go: more than can be worked on, so that those at work do not hide the others.
const LOOK_ROWS: usize = 64;
/// Pauses before the next attempt.
const SCHEDULE_S: [u64; 9] = [1, 3, 10, 30, 120, 600, 1_800, 3_600, 14_400];
/// A refused credential is tried so often: a two-step link may have expired between its steps.
const DENIED_MAX: u32 = 3;
/// Pause after the store could not be read or written.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// Looks at least so often, whatever the clock did.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Rings for channels that have files to fetch.
#[derive(Debug, Default)]
pub struct Bells {
    bells: Mutex<HashMap<String, Arc<Notify>>>,
}

impl Bells {
    /// The bell of a channel.
    pub fn bell(&self, channel: &str) -> Arc<Notify> {
        let mut bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(bells.entry(channel.to_owned()).or_default())
    }

    /// The channel has something to fetch.
    pub fn ring(&self, channel: &str) {
        let bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bell) = bells.get(channel) {
            bell.notify_one();
        }
    }
}

/// What fetching needs, shared by all channels.
pub struct MediaParts {
    /// Knows what is to be fetched.
    pub store: Arc<dyn Store>,
    /// Takes the files.
    pub blobs: Arc<dyn Blobs>,
    /// Writes the outcomes.
    pub writer: WriterHandle,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// For jitter.
    pub random: Arc<dyn Random>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Bounds over all channels.
    pub slots: Slots,
    /// Largest file.
    pub bytes_max: u64,
}

/// Files at work, by item. A file that joins an item later does not wait for those that are at work already.
#[derive(Default)]
struct Busy(Mutex<BTreeMap<i64, Round>>);

/// The files of one item.
struct Round {
    /// False: its outcome is being written.
    files: BTreeMap<AttachmentId, bool>,
    turns: Arc<Semaphore>,
}

impl Busy {
    /// Takes a file up, unless it is at work or there is enough to do.
    fn begin(&self, task: FetchTask) -> Option<(FetchTask, Arc<Semaphore>)> {
        let mut items = self.lock();
        if !items.contains_key(&task.item) && items.len() >= ITEMS_AT_ONCE {
            return None;
        }
        let new = || Round { files: BTreeMap::new(), turns: Arc::new(Semaphore::new(FILES_AT_ONCE)) };
        let round = items.entry(task.item).or_insert_with(new);
        if round.files.contains_key(&task.public.id) {
            return None;
        }
        round.files.insert(task.public.id, true);
        Some((task, Arc::clone(&round.turns)))
    }

    /// An attempt ended; tells whether others of the item go on.
    fn end(&self, item: i64, file: AttachmentId) -> bool {
        let mut items = self.lock();
        let Some(round) = items.get_mut(&item) else { return false };
        round.files.insert(file, false);
        round.files.values().any(|works| *works)
    }

    /// Its outcome is written: the row says what is next.
    fn written(&self, item: i64, file: AttachmentId) {
        let mut items = self.lock();
        if let Some(round) = items.get_mut(&item) {
            round.files.remove(&file);
            if round.files.is_empty() {
                items.remove(&item);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<i64, Round>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A channel whose files are fetched.
pub struct MediaChannel {
    /// What all share.
    pub parts: Arc<MediaParts>,
    /// Calls its platform.
    pub http: Arc<dyn Http>,
    /// How its platform is called.
    pub kit: Arc<ChannelKit>,
    /// Rings when there is something new.
    pub bell: Arc<Notify>,
}

impl MediaChannel {
    /// Runs until told to stop; attempts under way are dropped then, and made again later.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let this = &self;
        let busy = Busy::default();
        let mut working = FuturesUnordered::new();
        loop {
            let mut pause = LOOK_EVERY;
            match this.parts.store.media(Some(&this.kit.channel), LOOK_ROWS).await {
                Ok(rows) => {
                    let now = this.parts.clock.now();
                    for row in rows {
                        if row.at > now {
                            pause = pause.min(Duration::from_millis(row.at.since_ms(now).unsigned_abs()));
                            break;
                        }
                        match tasks(&row) {
                            Ok(tasks) => {
                                let begun = tasks.into_iter().filter(|task| task.at <= now).filter_map(|task| busy.begin(task));
                                working.extend(begun.map(|(task, turn)| this.attempt(task, turn, &busy)));
                            }
                            Err(error) => tracing::error!(error = %error, "files to fetch not read"),
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(error = %error, "files to fetch not read");
                    pause = STORE_PAUSE;
                }
            }
            tokio::select! {
                Some(()) = working.next(), if !working.is_empty() => {}
                () = this.bell.notified() => {}
                () = this.parts.clock.sleep(pause) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// One attempt at a file, and what became of it in the store.
    async fn attempt(&self, task: FetchTask, turn: Arc<Semaphore>, busy: &Busy) {
        let (item, file) = (task.item, task.public.id);
        // The semaphore is never closed.
        let turn = turn.acquire_owned().await.ok();
        let (task, outcome) = self.file(task).await;
        drop(turn);
        // Others of the item at work: what is told of it is told of all of them.
        let more = busy.end(item, file);
        self.write(&task, outcome, more).await;
        busy.written(item, file);
    }

    async fn file(&self, task: FetchTask) -> (FetchTask, Fetched) {
        let started = self.parts.clock.monotonic();
        let outcome = match fetch::file(self, &task).await {
            Ok(stored) => stored,
            Err(failure) => self.decide(&task, failure),
        };
        let took = self.parts.clock.monotonic().saturating_sub(started);
        let word = match &outcome {
            Fetched::Stored { bytes, .. } => {
                self.parts.metrics.media_bytes(&self.kit.channel, *bytes);
                "stored"
            }
            Fetched::Unavailable { code } => code.as_str(),
            Fetched::Later { .. } => "later",
        };
        self.parts.metrics.media(&self.kit.channel, word, took);
        (task, outcome)
    }

    /// What a failure means for the file.
    fn decide(&self, task: &FetchTask, failure: Failure) -> Fetched {
        let now = self.parts.clock.now();
        let (code, after) = match failure {
            Failure::Never(code) => return Fetched::Unavailable { code },
            Failure::Missing if !self.may_appear(task, now) => return Fetched::Unavailable { code: Code::MediaMissing },
            Failure::Denied if task.attempts + 1 >= DENIED_MAX => return Fetched::Unavailable { code: Code::MediaDenied },
            Failure::Missing => (Code::MediaMissing, None),
            Failure::Denied => (Code::MediaDenied, None),
            Failure::Later(code, after) => (code, after),
        };
        let at = now.plus(self.pause(task.attempts).max(after.unwrap_or_default()));
        if at > task.order.until {
            return Fetched::Unavailable { code: if code == Code::MediaMissing { code } else { Code::MediaGivenUp } };
        }
        tracing::debug!(messaging.destination.name = %self.kit.channel, error.type = %code, attempts = task.attempts + 1, "file not fetched yet");
        Fetched::Later { at }
    }

    /// Whether a file that is not there may still appear: recordings do, some seconds after they are announced.
    fn may_appear(&self, task: &FetchTask, now: Time) -> bool {
        let Some(recipe) = self.kit.connector.media.get(&task.order.recipe) else { return false };
        let expires_ms = i64::try_from(recipe.expires.as_millis()).unwrap_or(i64::MAX);
        let received = task.order.until.plus_ms(expires_ms.saturating_neg());
        now <= received.plus(recipe.retry_missing_for)
    }

    fn pause(&self, attempts: u32) -> Duration {
        let step = usize::try_from(attempts).unwrap_or(usize::MAX).min(SCHEDULE_S.len() - 1);
        let base = Duration::from_secs(SCHEDULE_S.get(step).copied().unwrap_or(1));
        base.mul_f64(self.parts.random.unit().mul_add(0.4, 0.8))
    }

    /// Whether this blob is the file of a message that is out already: an attempt that a reload gave up may have written its outcome
    /// after another one was begun. A blob too many is better than one that is missing.
    async fn is_kept(&self, task: &FetchTask, key: &str) -> bool {
        match self.parts.store.file(task.public.id).await {
            Ok(known) => known.is_some_and(|known| matches!(known.place, FilePlace::Blob { key: theirs } if theirs == key)),
            Err(_) => true,
        }
    }

    /// Writes the outcome down, for as long as it takes.
    async fn write(&self, task: &FetchTask, outcome: Fetched, more: bool) {
        let blob = match &outcome {
            Fetched::Stored { key, .. } => Some(key.clone()),
            _ => None,
        };
        loop {
            let write = Write::Fetched { item: task.item, file: task.public.id, outcome: outcome.clone(), more };
            match self.parts.writer.write(write).await {
                Ok(written) => {
                    if let (0, Some(key)) = (written.count, blob)
                        && !self.is_kept(task, &key).await
                    {
                        // The message was erased meanwhile.
                        let _ = self.parts.blobs.delete(&key).await;
                    }
                    return;
                }
                Err(error @ (StoreError::Invariant { .. } | StoreError::Fenced { .. })) => {
                    tracing::error!(error = %error, "outcome of a fetch not written");
                    self.parts.clock.sleep(STORE_PAUSE).await;
                    return;
                }
                Err(_) => self.parts.clock.sleep(STORE_PAUSE).await,
            }
        }
    }
}
