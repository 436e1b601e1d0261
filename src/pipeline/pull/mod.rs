//! Pull: the loop around a source that we ask.
//!
//! Owns what every pulled channel needs: connect with backoff, ask for batches, stage, parse on the readers, admit in one
//! transaction with the cursor, settle at the source, wait for news, stop. One batch is parsed and committed while the next
//! is being fetched.
//!
//! **Crash attribution.** A row names the batch that is being parsed; the commit that admits the batch removes it. A row that is
//! there at start was interrupted, perhaps by one of its mails: its numbers are parsed again in halves, each with a row of its
//! own, until a single one that was interrupted `CRASHES_MAX` times is quarantined unread.

use std::sync::Arc;
use std::time::Duration;

use crate::model::codes::Code;
use crate::model::item::Item;
use crate::model::raw::{RAW_ROW_BYTES_MAX, Raw, Via};
use crate::model::time::Time;
use crate::pipeline::board::{Board, ChannelMode, Turned};
use crate::pipeline::parse::{ReadError, Readers};
use crate::pipeline::pull::segments::{Segment, segments, take_suspects};
use crate::pipeline::writer::{AdmitError, WriterHandle};
use crate::ports::blobs::Blobs;
use crate::ports::clock::{Clock, Random};
use crate::ports::pull::{Pull, PullError, PullNews, PullSource, Pulled, PulledBatch, PulledState};
use crate::ports::store::{
    Admission, ParseBatch, RawPlace, RawRecord, SourceCommit, SourceRow, SourceRowState, SourceState, Store, StoreError, Write,
};

/// First and longest wait between two connections.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_LONGEST: Duration = Duration::from_secs(300);
/// Pace of trying again when a person must act: a wrong password tried more often locks accounts.
const PERSON_PACE: Duration = Duration::from_secs(300);
/// A session that lived this long proves that the trouble is over: the backoff starts anew.
const STABLE_AFTER: Duration = Duration::from_secs(60);
/// Longest wait in one IDLE or poll pause; the engine may end it sooner.
const WAIT_LONGEST: Duration = Duration::from_secs(20 * 60);
/// Rows settled at the source with one question.
const SETTLE_ROWS_MAX: usize = 1000;
/// Interruptions after which a mail that is alone in its batch is quarantined unread. More than two, because a daemon may be killed
/// for other reasons between the staging and the commit of the same mail: what was quarantined by that can be reprocessed.
const CRASHES_MAX: u32 = 5;
/// Longest parsing of one batch.
const PARSE_TIME_MAX: Duration = Duration::from_secs(120);

mod segments;

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
    pub async fn run(self: Arc<Self>, mut stop: tokio::sync::watch::Receiver<bool>) {
        let mut failures: u32 = 0;
        while !*stop.borrow() {
            let started = self.clock.monotonic();
            let ended = self.clone().session(stop.clone()).await;
            if self.clock.monotonic().saturating_sub(started) >= STABLE_AFTER {
                failures = 0;
            }
            failures = failures.saturating_add(1);
            let wait = match &ended {
                Ended::Stopped => return,
                Ended::Store(error) => {
                    tracing::warn!(messaging.destination.name = %self.id, error = %error, "pull waits for the store");
                    backoff(failures, self.random.unit())
                }
                Ended::Source(error) => self.lost(error, failures).await,
            };
            tokio::select! {
                () = self.clock.sleep(wait) => {}
                () = stopped(&mut stop) => return,
            }
        }
    }

    async fn lost(&self, error: &PullError, failures: u32) -> Duration {
        let (code, detail, wait) = match error {
            PullError::Lost { code, detail, after } => {
                let pause = backoff(failures, self.random.unit());
                (*code, detail.clone(), after.map_or(pause, |after| after.clamp(pause, Duration::from_secs(24 * 3600))))
            }
            PullError::Person { code, detail } => (*code, detail.clone(), PERSON_PACE),
        };
        self.metrics.reconnected(&self.id, code);
        tracing::warn!(messaging.destination.name = %self.id, error.type = %code, detail = %detail, retry_in_s = wait.as_secs(), "session lost");
        // One lost connection is everyday life; a person hears of the second in a row, or of what only a person can mend.
        if failures > 1 || matches!(error, PullError::Person { .. }) {
            self.turn(ChannelMode::Degraded, Some(code), Some(detail), u64::from(failures)).await;
        }
        wait
    }

    async fn turn(&self, mode: ChannelMode, code: Option<Code>, detail: Option<String>, failures: u64) {
        let now = self.clock.now();
        let turned = self.board.turn(&self.id, mode, code, detail, now);
        let state = |since| crate::model::event::ChannelState {
            channel: self.public.clone(),
            code: code.unwrap_or(Code::ConnectionLost).as_str().to_owned(),
            since,
            counts: [("failures".to_owned(), failures)].into(),
        };
        let body = match turned {
            Turned::Same => return,
            Turned::Degraded => crate::model::event::Body::ChannelDegraded(Box::new(state(now))),
            Turned::Recovered { since } => crate::model::event::Body::ChannelRecovered(Box::new(state(since))),
        };
        if let Err(error) = self.writer.write(Write::Operator(Box::new(body))).await {
            tracing::error!(messaging.destination.name = %self.id, error = %error, "operator event not written");
        }
    }

    /// One session: connect, then ask until it fails or the daemon stops.
    async fn session(self: Arc<Self>, mut stop: tokio::sync::watch::Receiver<bool>) -> Ended {
        let opened = tokio::select! {
            opened = self.source.open() => opened,
            () = stopped(&mut stop) => return Ended::Stopped,
        };
        let mut pull = match opened {
            Ok(pull) => pull,
            Err(error) => return error.into(),
        };
        self.turn(ChannelMode::Running, None, None, 0).await;
        tracing::info!(messaging.destination.name = %self.id, "session opened");
        let ended = self.clone().ask(&mut *pull, stop).await;
        if matches!(ended, Ended::Stopped) {
            pull.close().await;
        }
        ended
    }

    async fn ask(self: Arc<Self>, pull: &mut dyn Pull, stop: tokio::sync::watch::Receiver<bool>) -> Ended {
        match self.ask_until_failed(pull, stop).await {
            Ok(()) => Ended::Stopped,
            Err(ended) => ended,
        }
    }

    async fn ask_until_failed(self: Arc<Self>, pull: &mut dyn Pull, mut stop: tokio::sync::watch::Receiver<bool>) -> Result<(), Ended> {
        let account = self.source.account();
        let mut suspects = self.store.interrupted(&account).await?;
        let mut states = self.store.sources(&account).await?;
        let since = self.store.memo(&backfill_key(&account)).await?.and_then(|text| Time::parse(&text));
        let mut working: Option<tokio::task::JoinHandle<Result<(), Ended>>> = None;
        while !*stop.borrow() {
            let news = tokio::select! {
                news = pull.next(&states) => news,
                // What is being admitted is finished; what was being fetched is fetched again after the next start.
                () = stopped(&mut stop) => break,
            };
            match news {
                Ok(PullNews::Batch(mut batch)) => {
                    self.board.heard(&self.id, self.clock.now());
                    self.metrics.heard(&self.id, self.clock.now());
                    self.metrics.pulled(&self.id, batch.things.len());
                    if batch.historic {
                        leave_out_older(&mut batch, since);
                    }
                    finish(&mut working).await?;
                    let after = moved(&states, &account, &batch);
                    let taken = take_suspects(&mut suspects, &batch);
                    // The next question already builds on this batch: if its commit fails, the session ends and begins from
                    // what is durable.
                    put(&mut states, after.clone());
                    let this = self.clone();
                    working = Some(tokio::spawn(async move { this.admit(batch, after, taken).await }));
                }
                Ok(PullNews::State(state)) => {
                    finish(&mut working).await?;
                    put(&mut states, state.clone());
                    let source = SourceCommit { state, rows: Vec::new(), parsed: None, lease_epoch: self.lease_epoch };
                    self.writer.admit_staged(Vec::new(), Some(source)).await?;
                }
                Ok(PullNews::Quiet) => {
                    finish(&mut working).await?;
                    if self.source.settles() {
                        self.settle(pull, &states).await?;
                    }
                    tokio::select! {
                        woken = pull.wait(WAIT_LONGEST) => woken?,
                        () = stopped(&mut stop) => break,
                    };
                }
                Err(error) => {
                    finish(&mut working).await?;
                    return Err(error.into());
                }
            }
        }
        finish(&mut working).await
    }

    /// Parses and admits one batch, in segments where crashes are suspected.
    async fn admit(&self, batch: PulledBatch, after: SourceState, suspects: Vec<ParseBatch>) -> Result<(), Ended> {
        let PulledBatch { things, historic, folder, epoch, .. } = batch;
        let segments = segments(things, &suspects);
        let last = segments.len().saturating_sub(1);
        for (index, segment) in segments.into_iter().enumerate() {
            let mut state = after.clone();
            if index < last {
                state.low_water = segment.things.last().map_or(state.low_water, |thing| thing.uid);
            }
            self.admit_segment(segment, state, &folder, epoch, historic).await?;
        }
        // The rows of the interrupted batches themselves: everything in them now has a fate or a row of its own.
        for suspect in suspects {
            let source = SourceCommit { state: after.clone(), rows: Vec::new(), parsed: Some(suspect.id), lease_epoch: self.lease_epoch };
            self.writer.admit_staged(Vec::new(), Some(source)).await?;
        }
        Ok(())
    }

    async fn admit_segment(&self, segment: Segment, state: SourceState, folder: &str, epoch: u64, historic: bool) -> Result<(), Ended> {
        let now = self.clock.now();
        let mut rows = Vec::with_capacity(segment.things.len());
        let mut raws = Vec::with_capacity(segment.things.len());
        for thing in segment.things {
            if thing.state == PulledState::Gone {
                rows.push(SourceRow { uid: thing.uid, state: SourceRowState::Gone, raw: None });
                continue;
            }
            raws.push(self.keep(thing, now).await?);
        }
        let records: Vec<_> = raws.iter().map(|(_, record, _)| record.clone()).collect();
        let crashed = segment.attempts >= CRASHES_MAX && raws.len() == 1;
        let parsed = records.first().filter(|_| !crashed).map(|first| first.id);
        if !records.is_empty() {
            let attribution = parsed.map(|id| ParseBatch {
                id,
                channel: self.id.clone(),
                source: (state.account.clone(), folder.to_owned(), epoch),
                uids: raws.iter().map(|(_, _, uid)| *uid).collect(),
                attempts: segment.attempts,
            });
            self.store.stage(records, attribution).await?;
        }
        let uids: Vec<u64> = raws.iter().map(|(_, _, uid)| *uid).collect();
        let admissions = self.read(raws, crashed, historic).await?;
        for (admission, uid) in admissions.iter().zip(uids) {
            let quarantined = admission.items.iter().any(|item| matches!(item.body, crate::model::item::ItemBody::Quarantined { .. }));
            let settled = !self.source.settles();
            let row_state = match (quarantined, settled) {
                (true, _) => SourceRowState::Quarantined,
                (false, true) => SourceRowState::Settled,
                (false, false) => SourceRowState::Admitted,
            };
            rows.push(SourceRow { uid, state: row_state, raw: Some(admission.raw.id) });
        }
        let source = SourceCommit { state, rows, parsed, lease_epoch: self.lease_epoch };
        self.writer.admit_staged(admissions, Some(source)).await?;
        Ok(())
    }

    /// Makes a raw of a pulled thing; a large body goes to the blob store.
    async fn keep(&self, thing: Pulled, now: Time) -> Result<(Kept, Arc<RawRecord>, u64), Ended> {
        let id = crate::model::id::RawId(self.ids.next(now.0, &*self.random));
        let received_at = thing.internal_date.filter(|date| date.0 > 0 && *date <= now).unwrap_or(now);
        let place = if thing.body.len() > RAW_ROW_BYTES_MAX {
            let key = crate::pipeline::intake::blob_key(id);
            let put = self.blobs.put(&key, thing.body.clone()).await;
            put.map_err(|error| Ended::Store(AdmitError::Store(crate::pipeline::intake::blob_failed(&error))))?;
            RawPlace::Blob(key)
        } else {
            RawPlace::Row(thing.body.clone())
        };
        let record = Arc::new(RawRecord {
            id,
            source: self.id.clone(),
            via: Via::Imap,
            received_at,
            head: thing.head.clone(),
            bytes: thing.body.len() as u64,
            place,
        });
        let raw = Raw { id, source: self.id.clone(), via: Via::Imap, received_at, head: thing.head, body: thing.body };
        Ok((Kept { raw, state: thing.state }, record, thing.uid))
    }

    /// Reads raws on a reader thread.
    async fn read(&self, raws: Vec<(Kept, Arc<RawRecord>, u64)>, crashed: bool, historic: bool) -> Result<Vec<Admission>, Ended> {
        if raws.is_empty() {
            return Ok(Vec::new());
        }
        let reader = self.reader.clone();
        let job = move || {
            raws.into_iter()
                .map(|(kept, record, _)| Admission { items: items_of(&*reader, &kept, crashed, historic), raw: record, delivery_key: None })
                .collect::<Vec<_>>()
        };
        let failed = |what: &str| PullError::Lost { code: Code::MailCrashed, detail: format!("reading a batch {what}"), after: None };
        match self.readers.run(PARSE_TIME_MAX, job).await {
            Ok(admissions) => Ok(admissions),
            // The batch's row stays: the next session finds it, and parses its mails in halves.
            Err(ReadError::Timeout) => Err(Ended::Source(failed("took too long"))),
            Err(ReadError::Failed) => Err(Ended::Source(failed("failed"))),
        }
    }

    /// Carries out the source policy on what is admitted.
    async fn settle(&self, pull: &mut dyn Pull, states: &[SourceState]) -> Result<(), Ended> {
        for state in states {
            let source = (state.account.clone(), state.folder.clone(), state.epoch);
            loop {
                let rows = self.store.unsettled(&source, SETTLE_ROWS_MAX).await?;
                if rows.is_empty() {
                    break;
                }
                let uids = pull.settle(state, &rows).await?;
                if uids.is_empty() {
                    break;
                }
                self.writer.write(Write::Settled { source: source.clone(), uids, lease_epoch: self.lease_epoch }).await?;
            }
        }
        Ok(())
    }
}

/// A raw and how it was pulled.
struct Kept {
    raw: Raw,
    state: PulledState,
}

fn items_of(reader: &dyn ReadPulled, kept: &Kept, crashed: bool, historic: bool) -> Vec<Item> {
    match &kept.state {
        _ if crashed => vec![reader.unread(Code::MailCrashed, format!("reading it was interrupted {CRASHES_MAX} times"))],
        PulledState::Whole => reader.read(&kept.raw, historic),
        PulledState::HeaderOnly { bytes } => {
            vec![reader.unread(Code::MailTooLarge, format!("the mail has {bytes} bytes; only its header is kept"))]
        }
        PulledState::Unfetchable { detail } => vec![reader.unread(Code::MailUnfetchable, detail.clone())],
        PulledState::Gone => Vec::new(),
    }
}

/// Memo that holds the oldest date a backfill takes in, RFC 3339.
pub fn backfill_key(account: &str) -> String {
    format!("{account}/backfill_since")
}

/// A backfill with a date takes nothing older. Mails without a date are taken: better one too many than one lost.
fn leave_out_older(batch: &mut PulledBatch, since: Option<Time>) {
    if let Some(since) = since {
        batch.things.retain(|thing| thing.internal_date.is_none_or(|date| date >= since));
    }
}

/// The folder's state once the batch is admitted.
fn moved(states: &[SourceState], account: &str, batch: &PulledBatch) -> SourceState {
    let known = states.iter().find(|state| state.folder == batch.folder && state.epoch == batch.epoch);
    let mut state = known.cloned().unwrap_or_else(|| SourceState {
        account: account.to_owned(),
        folder: batch.folder.clone(),
        epoch: batch.epoch,
        epoch_name: batch.epoch_name,
        low_water: 0,
        first_run_top: 0,
        memo: String::new(),
    });
    state.low_water = state.low_water.max(batch.to);
    state
}

fn put(states: &mut Vec<SourceState>, state: SourceState) {
    match states.iter_mut().find(|known| known.folder == state.folder) {
        Some(known) => *known = state,
        None => states.push(state),
    }
}

async fn finish(working: &mut Option<tokio::task::JoinHandle<Result<(), Ended>>>) -> Result<(), Ended> {
    match working.take() {
        None => Ok(()),
        Some(task) => task.await.unwrap_or_else(|_| {
            let detail = "admitting a batch panicked".to_owned();
            Err(Ended::Source(PullError::Lost { code: Code::Invariant, detail, after: None }))
        }),
    }
}

/// Full jitter between half and the whole of a doubling wait.
fn backoff(failures: u32, unit: f64) -> Duration {
    let doubled = BACKOFF_FIRST.saturating_mul(1u32.checked_shl(failures.saturating_sub(1).min(16)).unwrap_or(u32::MAX));
    doubled.min(BACKOFF_LONGEST).mul_f64(0.5 + unit / 2.0)
}

async fn stopped(stop: &mut tokio::sync::watch::Receiver<bool>) {
    // A sender that is gone means that the daemon is gone too.
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit() {
        assert_eq!(backoff(1, 1.0), BACKOFF_FIRST);
        assert_eq!(backoff(4, 1.0), BACKOFF_FIRST * 8);
        assert_eq!(backoff(40, 1.0), BACKOFF_LONGEST);
        assert_eq!(backoff(40, 0.0), BACKOFF_LONGEST / 2);
    }
}
