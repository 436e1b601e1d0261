//! Pull: the loop around a source that we ask.
//!
//! Owns what every pulled channel needs: connect with backoff, ask for batches, stage, parse on the readers, admit in one
//! transaction with the cursor, settle at the source, wait for news, stop. While one batch is being fetched, the one before is parsed
//! and the one before that is committed.
//!
//! **Crash attribution.** A row names the batch that is being parsed; the commit that admits the batch removes it, and the end of
//! the parsing empties it. A row with numbers that is there at start was interrupted, perhaps by one of its mails: its numbers are
//! parsed again in halves, each with a row of its own, until a single one that was interrupted often enough is quarantined unread.
//!
//! A walk through it: `mod` runs sessions and tells of trouble, `pace` decides how soon and how much, `ask` is one session, `admit`
//! takes a batch to its commit, `segments` cuts it where crashes are suspected, `roll` compares numbers with rows.

mod admit;
mod ask;
pub mod pace;
mod roll;
mod segments;

use std::sync::Arc;
use std::time::Duration;

use crate::model::codes::Code;
use crate::model::event::{Body, ChannelState};
use crate::model::item::Item;
use crate::model::raw::Raw;
use crate::pipeline::board::{Board, ChannelMode, Turned};
use crate::pipeline::parse::Readers;
use crate::pipeline::pull::pace::{Backoff, Gate, Pulse};
use crate::pipeline::writer::{AdmitError, WriterHandle};
use crate::ports::blobs::Blobs;
use crate::ports::clock::{Clock, Random};
use crate::ports::pull::{PullError, PullSource};
use crate::ports::store::{Store, StoreError, Write};

/// Pace of trying again when a person must act: a wrong password tried more often locks accounts.
const PERSON_PACE: Duration = Duration::from_secs(300);
/// A wait that a person hears of at once.
const LONG_WAIT: Duration = Duration::from_secs(300);
/// Longest patience a server can ask for.
const PATIENCE_MAX: Duration = Duration::from_secs(24 * 3600);
/// A healthy channel is seen working at least this often: longer than the longest wait for news.
const STALE_AFTER: Duration = Duration::from_secs(45 * 60);
/// How often that is looked at.
const STALE_LOOK: Duration = Duration::from_secs(60);

/// Reads a pulled raw: the connector's parser with the channel's facts. Runs on a reader thread.
pub trait ReadPulled: Send + Sync {
    /// What the raw says.
    fn read(&self, raw: &Raw, historic: bool) -> Vec<Item>;

    /// The item for a raw that is not read.
    fn unread(&self, code: Code, detail: String) -> Item;
}

/// What the loop of one channel needs.
pub struct PullChannel {
    /// The channel.
    pub id: String,
    /// Makes sessions.
    pub source: Arc<dyn PullSource>,
    /// Reads raws.
    pub reader: Arc<dyn ReadPulled>,
    /// The connector and labels, for operator events.
    pub public: crate::model::event::Channel,
    /// Where raws and cursors are.
    pub store: Arc<dyn Store>,
    /// Where large raws are.
    pub blobs: Arc<dyn Blobs>,
    /// Admits.
    pub writer: WriterHandle,
    /// Reader threads.
    pub readers: Arc<Readers>,
    /// Lets few log in at once.
    pub gate: Arc<Gate>,
    /// Tells the surfaces.
    pub board: Arc<Board>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Jitter and ids.
    pub random: Arc<dyn Random>,
    /// Ids of raws.
    pub ids: Arc<crate::logic::ids::IdMaker>,
    /// Fencing token of the lease `pull`.
    pub lease_epoch: u64,
    /// Counts.
    pub metrics: Arc<crate::telemetry::metrics::Metrics>,
}

/// Why a session ended.
enum Ended {
    Source(PullError),
    Store(AdmitError),
    Stopped,
    /// The batch before was not committed: its failure is the one that counts.
    Before,
}

impl From<PullError> for Ended {
    fn from(error: PullError) -> Self {
        Self::Source(error)
    }
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Store(AdmitError::Store(error))
    }
}

impl From<AdmitError> for Ended {
    fn from(error: AdmitError) -> Self {
        match error {
            AdmitError::Stopping => Self::Stopped,
            other => Self::Store(other),
        }
    }
}

impl PullChannel {
    /// Runs until `stop` turns true.
    pub async fn run(self: Arc<Self>, stop: tokio::sync::watch::Receiver<bool>) {
        let pulse = Arc::new(Pulse::default());
        let _ = pulse.beat(self.clock.monotonic());
        tokio::select! {
            () = self.clone().sessions(&pulse, stop) => {}
            () = self.watch(&pulse) => {}
        }
    }

    async fn sessions(self: Arc<Self>, pulse: &Pulse, mut stop: tokio::sync::watch::Receiver<bool>) {
        let mut backoff = Backoff::default();
        while !*stop.borrow() {
            let started = self.clock.monotonic();
            // Each session proves anew that the channel works.
            pulse.ail();
            let ended = self.clone().session(pulse, stop.clone()).await;
            let lived = self.clock.monotonic().saturating_sub(started);
            let pause = backoff.after(lived, pulse.take_brought(), self.random.unit());
            let wait = match ended {
                Ended::Stopped => return,
                Ended::Store(AdmitError::Store(error @ StoreError::Fenced { .. })) => {
                    // Another node reads this account now: not one more write, not one more action at the source.
                    tracing::error!(messaging.destination.name = %self.id, error = %error, "lease lost");
                    self.turn(ChannelMode::Degraded, Some(Code::LeaseLost), Some(error.to_string()), 1).await;
                    return;
                }
                Ended::Store(error) => {
                    tracing::warn!(messaging.destination.name = %self.id, error = %error, "pull waits for the store");
                    pause
                }
                Ended::Before => pause,
                Ended::Source(error) => self.lost(&error, backoff.failures, pause, pulse).await,
            };
            tokio::select! {
                () = self.clock.sleep(wait) => {}
                () = stopped(&mut stop) => return,
            }
        }
    }

    /// The freshness alarm: whatever the reason, a channel that was not seen working for long is told.
    async fn watch(&self, pulse: &Pulse) {
        loop {
            self.clock.sleep(STALE_LOOK).await;
            let silent = pulse.silent_for(self.clock.monotonic());
            // What was told already has a better reason than that.
            let told = || self.board.read().get(&self.id).is_some_and(|status| status.state == ChannelMode::Degraded.as_str());
            if silent >= STALE_AFTER && !told() {
                let detail = format!("not seen working for {} min", silent.as_secs() / 60);
                pulse.ail();
                self.turn(ChannelMode::Degraded, Some(Code::Stale), Some(detail), 0).await;
            }
        }
    }

    /// Tells of a lost session; returns the wait before the next.
    async fn lost(&self, error: &PullError, failures: u32, pause: Duration, pulse: &Pulse) -> Duration {
        let (code, detail, wait) = match error {
            PullError::Lost { code, detail, after } => {
                (*code, detail.clone(), after.map_or(pause, |after| after.min(PATIENCE_MAX).max(pause)))
            }
            PullError::Person { code, detail } => (*code, detail.clone(), PERSON_PACE),
        };
        self.metrics.reconnected(&self.id, code);
        let retry_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(messaging.destination.name = %self.id, error.type = %code, detail = %detail, retry_in_ms, "session lost");
        // One lost connection is everyday life; a person hears of the second in a row, of a long wait, and of what only a person can mend.
        if failures > 1 || wait >= LONG_WAIT {
            pulse.ail();
            self.turn(ChannelMode::Degraded, Some(code), Some(detail), u64::from(failures)).await;
        }
        wait
    }

    /// The source answered: the channel works.
    async fn alive(&self, pulse: &Pulse) {
        if pulse.beat(self.clock.monotonic()) {
            self.turn(ChannelMode::Running, None, None, 0).await;
        }
    }

    /// More that is new came out of a renumbered folder than can be explained: a person should look. What is new is held meanwhile.
    async fn flooded(&self) {
        let detail =
            "a renumbered folder brings many mails that were never seen: is it another mailbox? They are held for a day".to_owned();
        tracing::error!(messaging.destination.name = %self.id, error.type = %Code::Flood, "flood held");
        self.turn(ChannelMode::Degraded, Some(Code::Flood), Some(detail), 0).await;
    }

    async fn turn(&self, mode: ChannelMode, code: Option<Code>, detail: Option<String>, failures: u64) {
        let now = self.clock.now();
        let turned = self.board.turn(&self.id, mode, code, detail, now);
        let state = |since| ChannelState {
            channel: self.public.clone(),
            code: code.unwrap_or(Code::ConnectionLost).as_str().to_owned(),
            since,
            counts: [("failures".to_owned(), failures)].into(),
        };
        let body = match turned {
            Turned::Same => return,
            Turned::Degraded => Body::ChannelDegraded(Box::new(state(now))),
            Turned::Recovered { since } => Body::ChannelRecovered(Box::new(state(since))),
        };
        if let Err(error) = self.writer.write(Write::Operator(Box::new(body))).await {
            tracing::error!(messaging.destination.name = %self.id, error = %error, "operator event not written");
        }
    }
}

/// Memo that holds the oldest date a backfill takes in, RFC 3339.
pub fn backfill_key(account: &str) -> String {
    format!("{account}/backfill_since")
}

async fn stopped(stop: &mut tokio::sync::watch::Receiver<bool>) {
    // A sender that is gone means that the daemon is gone too.
    let _ = stop.wait_for(|stop| *stop).await;
}
