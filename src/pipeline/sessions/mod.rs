//! Sessions: what every channel that we connect needs: one session after the other with backoff, the freshness alarm, and what
//! operators are told. [`crate::pipeline::pull`] and [`crate::pipeline::feed`] bring the session itself.

pub mod pace;

use std::future::Future;
use std::time::Duration;

use futures_util::FutureExt as _;

use crate::model::codes::Code;
use crate::model::event::{Body, Channel, ChannelState};
use crate::model::raw::Via;
use crate::pipeline::board::{Board, ChannelMode, Turned};
use crate::pipeline::sessions::pace::{Backoff, Pulse};
use crate::pipeline::writer::{AdmitError, WriterHandle};
use crate::ports::clock::{Clock, Random};
use crate::ports::pull::PullError;
use crate::ports::store::{StoreError, Write};
use crate::telemetry::metrics::Metrics;

/// Pace of trying again when a person must act: a wrong password tried more often locks accounts.
const PERSON_PACE: Duration = Duration::from_secs(300);
/// Longest pace of trying again when it is our store that takes nothing in: the peer did no wrong, and once there is room again its
/// messages have waited long enough.
const STORE_PACE: Duration = Duration::from_secs(60);
/// A wait that a person hears of at once.
const LONG_WAIT: Duration = Duration::from_secs(300);
/// Longest patience a server can ask for.
const PATIENCE_MAX: Duration = Duration::from_secs(24 * 3600);
/// A healthy channel is seen working at least this often: longer than the longest wait for news.
const STALE_AFTER: Duration = Duration::from_secs(45 * 60);
/// How often that is looked at.
const STALE_LOOK: Duration = Duration::from_secs(60);

/// Turns true when the daemon or the channel stops.
pub(in crate::pipeline) type Stop = tokio::sync::watch::Receiver<bool>;

/// Why a session ended.
pub(in crate::pipeline) enum Ended {
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

/// What runs the sessions of one channel, as long as it lives.
#[derive(Clone, Copy)]
pub(in crate::pipeline) struct Sessions<'a> {
    /// The channel.
    pub id: &'a str,
    /// By which way they bring messages: a channel may have several.
    pub road: Via,
    /// The connector and labels, for operator events.
    pub public: &'a Channel,
    /// Tells the surfaces.
    pub board: &'a Board,
    /// Time.
    pub clock: &'a dyn Clock,
    /// Jitter.
    pub random: &'a dyn Random,
    /// Writes operator events.
    pub writer: &'a WriterHandle,
    /// Counts.
    pub metrics: &'a Metrics,
    /// When it was last seen working.
    pub pulse: &'a Pulse,
}

impl Sessions<'_> {
    /// Runs one session after the other until `stop` turns true.
    pub async fn run<F: Future<Output = Ended>>(&self, stop: Stop, session: impl FnMut(Stop) -> F) {
        let _ = self.pulse.beat(self.clock.monotonic());
        tokio::select! {
            () = self.keep(stop, session) => {}
            () = self.watch() => {}
        }
    }

    async fn keep<F: Future<Output = Ended>>(&self, mut stop: Stop, mut session: impl FnMut(Stop) -> F) {
        let mut backoff = Backoff::default();
        while !*stop.borrow() {
            let started = self.clock.monotonic();
            // Each session proves anew that the channel works.
            self.pulse.ail();
            // A session that panics is one that was lost: nobody else would begin the next.
            let ended = std::panic::AssertUnwindSafe(session(stop.clone())).catch_unwind().await.unwrap_or_else(|_| {
                Ended::Source(PullError::Lost { code: Code::Invariant, detail: "the session panicked".to_owned(), after: None })
            });
            let now = self.clock.monotonic();
            // What was fetched and could not be admitted is fetched again: that is no progress, and must not be asked for at its pace.
            let ours = matches!(ended, Ended::Store(_) | Ended::Before);
            let brought = self.pulse.take_brought() && !ours;
            let pause = backoff.after(now.saturating_sub(started), brought, self.random.unit());
            self.pulse.end(now, brought, backoff.failures);
            let wait = match ended {
                Ended::Stopped => return,
                Ended::Store(AdmitError::Store(error @ StoreError::Fenced { .. })) => {
                    // Another node reads this account now: not one more write, not one more action at the source.
                    tracing::error!(messaging.destination.name = %self.id, error = %error, "lease lost");
                    self.turn(ChannelMode::Degraded, Some(Code::LeaseLost), Some(error.to_string()), 1).await;
                    return;
                }
                Ended::Store(error) => {
                    tracing::warn!(messaging.destination.name = %self.id, error = %error, "session waits for the store");
                    pause.min(STORE_PACE)
                }
                Ended::Before => pause.min(STORE_PACE),
                Ended::Source(error) => self.lost(&error, backoff.failures, pause).await,
            };
            tokio::select! {
                () = self.clock.sleep(wait) => {}
                () = stopped(&mut stop) => return,
            }
        }
    }

    /// The freshness alarm: whatever the reason, a channel that was not seen working for long is told. Also tells of one that was lost
    /// at once a few times and lasts now.
    async fn watch(&self) {
        loop {
            self.clock.sleep(STALE_LOOK).await;
            let now = self.clock.monotonic();
            if self.pulse.is_over(now) {
                self.turn(ChannelMode::Running, None, None, 0).await;
            }
            let silent = self.pulse.silent_for(now);
            // What was told already has a better reason than that.
            let told = || self.board.read().get(self.id).is_some_and(|status| status.state == ChannelMode::Degraded.as_str());
            if silent >= STALE_AFTER && !told() {
                let detail = format!("not seen working for {} min", silent.as_secs() / 60);
                self.pulse.ail();
                self.turn(ChannelMode::Degraded, Some(Code::Stale), Some(detail), 0).await;
            }
        }
    }

    /// Tells of a lost session; returns the wait before the next.
    async fn lost(&self, error: &PullError, failures: u32, pause: Duration) -> Duration {
        let (code, detail, wait) = match error {
            PullError::Lost { code, detail, after } => {
                (*code, detail.clone(), after.map_or(pause, |after| after.min(PATIENCE_MAX).max(pause)))
            }
            PullError::Person { code, detail } => (*code, detail.clone(), PERSON_PACE),
        };
        self.metrics.reconnected(self.id, code);
        let retry_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(messaging.destination.name = %self.id, error.type = %code, detail = %detail, retry_in_ms, "session lost");
        // One lost connection is everyday life; a person hears of the second in a row, of a long wait, and of what only a person can mend.
        if failures > 1 || wait >= LONG_WAIT {
            self.pulse.ail();
            self.turn(ChannelMode::Degraded, Some(code), Some(detail), u64::from(failures)).await;
        }
        wait
    }

    /// The source answered: the channel works.
    pub async fn alive(&self) {
        if self.pulse.beat(self.clock.monotonic()) {
            self.turn(ChannelMode::Running, None, None, 0).await;
        }
    }

    /// The channel is in another state by this road; operators hear of it where that matters.
    pub async fn turn(&self, mode: ChannelMode, code: Option<Code>, detail: Option<String>, failures: u64) {
        let now = self.clock.now();
        let turned = self.board.turn(self.id, self.road, mode, code, detail, now);
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

/// Waits for the end.
pub(in crate::pipeline) async fn stopped(stop: &mut Stop) {
    // A sender that is gone means that the daemon is gone too.
    let _ = stop.wait_for(|stop| *stop).await;
}
