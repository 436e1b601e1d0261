//! From a fetched batch to its commit: keep the raws, parse them on the readers, admit them in one transaction with the cursor.
//!
//! Several batches are on their way at once, each one step behind the other: while one is being fetched, one is parsed and one is
//! committed. What must stay true: a batch is committed only after the batch before it was (its cursor covers both), and
//! what is on its way is bounded (I6).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

use crate::model::codes::Code;
use crate::model::dns::Answers;
use crate::model::id::RawId;
use crate::model::item::{Hold, HoldReason, Item, ItemBody};
use crate::model::raw::{Raw, Via};
use crate::model::time::Time;
use crate::pipeline::parse::ReadError;
use crate::pipeline::pull::roll::{FLOOD_HOLD, Flood};
use crate::pipeline::pull::segments::{Segment, segments};
use crate::pipeline::pull::{Pieces, PullChannel, ReadPulled};
use crate::pipeline::raws::{self, blob_failed, blob_key};
use crate::pipeline::sessions::Ended;
use crate::pipeline::writer::AdmitError;
use crate::ports::pull::{PullError, Pulled, PulledBatch, PulledState};
use crate::ports::store::{Admission, ParseBatch, RawPlace, RawRecord, SourceCommit, SourceRow, SourceRowState, SourceState, StoreError};

/// Batches on their way at most: one is parsed while another is committed.
const BATCHES_MAX: usize = 2;
/// Bytes on their way beyond which the next batch waits for the one before; a single batch may be larger.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// Longest parsing of one batch.
const PARSE_TIME_MAX: Duration = Duration::from_secs(120);
/// Mails of one job on a reader at least: below it the hand-over costs more than a second thread saves.
const JOB_MAILS_MIN: usize = 8;
/// Mails that are not in memory are read one after the other, over all channels: what is kept of their texts while they are read is
/// little, but not nothing.
static LARGE_READ: Semaphore = Semaphore::const_new(1);
/// Bytes of such a mail that are looked at at once.
const PIECE_BYTES: u64 = 512 * 1024;
/// The begin of such a mail that surely holds its header: a longer one is refused.
const HEADER_BYTES_MAX: u64 = 1024 * 1024 + 64 * 1024;
/// Interruptions after which a mail that is alone in its batch is quarantined unread. More than two, because a daemon may be killed
/// for other reasons between the staging and the end of the parsing: what was quarantined by that can be reprocessed.
const CRASHES_MAX: u32 = 5;

/// Batches on their way, oldest first.
#[derive(Default)]
pub(super) struct Line {
    tasks: VecDeque<(usize, JoinHandle<Result<(), Ended>>)>,
    /// Answers when the youngest batch is committed.
    last: Option<oneshot::Receiver<()>>,
}

impl Line {
    /// Begins a batch, when there is room. An error is the one of an older batch.
    pub async fn begin(&mut self, channel: &Arc<PullChannel>, batch: Batch) -> Result<(), Ended> {
        let bytes: usize = batch.pulled.things.iter().map(|thing| thing.body.len()).sum();
        while self.tasks.len() >= BATCHES_MAX || (!self.tasks.is_empty() && self.bytes() + bytes > BYTES_MAX) {
            self.finish_one().await?;
        }
        let (committed, next) = oneshot::channel();
        let turn = Turn(self.last.replace(next));
        let channel = channel.clone();
        let task = tokio::spawn(async move {
            channel.admit(batch, turn).await?;
            // Nobody listens behind the last one.
            let _ = committed.send(());
            Ok(())
        });
        self.tasks.push_back((bytes, task));
        Ok(())
    }

    /// Waits until all are committed; tells the first failure.
    pub async fn finish(&mut self) -> Result<(), Ended> {
        while !self.tasks.is_empty() {
            self.finish_one().await?;
        }
        Ok(())
    }

    /// Waits until all have ended, well or not.
    pub async fn end(&mut self) {
        while !self.tasks.is_empty() {
            // The first failure was told; those behind it failed for its sake.
            let _ = self.finish_one().await;
        }
    }

    async fn finish_one(&mut self) -> Result<(), Ended> {
        let Some((_, task)) = self.tasks.front_mut() else { return Ok(()) };
        let ended = task.await;
        self.tasks.pop_front();
        ended.unwrap_or_else(|_| {
            let detail = "admitting a batch panicked".to_owned();
            Err(Ended::Source(PullError::Lost { code: Code::Invariant, detail, after: None }))
        })
    }

    fn bytes(&self) -> usize {
        self.tasks.iter().map(|(bytes, _)| bytes).sum()
    }
}

/// The right to commit, once the batch before is committed.
struct Turn(Option<oneshot::Receiver<()>>);

impl Turn {
    async fn come(&mut self) -> Result<(), Ended> {
        match self.0.take() {
            None => Ok(()),
            Some(before) => before.await.map_err(|_| Ended::Before),
        }
    }
}

/// What is to be admitted.
pub(super) struct Batch {
    /// What was pulled.
    pub pulled: PulledBatch,
    /// The folder's state once it is admitted.
    pub after: SourceState,
    /// Interrupted batches that it touches.
    pub suspects: Vec<ParseBatch>,
    /// Mails of the range that are left out: nothing is to be done with them.
    pub left_out: Vec<u64>,
    /// It comes out of a renumbered folder.
    pub flood: Option<Arc<Flood>>,
}

/// A raw and how it was pulled.
pub(super) struct Kept {
    raw: Raw,
    /// As it is staged.
    pub record: Arc<RawRecord>,
    uid: u64,
    print: Option<u64>,
    state: PulledState,
    /// It is not in memory.
    large: bool,
}

impl PullChannel {
    /// Parses and admits one batch, in segments where crashes are suspected.
    async fn admit(&self, batch: Batch, mut turn: Turn) -> Result<(), Ended> {
        let Batch { pulled, after, suspects, left_out, flood } = batch;
        let how = How { historic: pulled.historic, flood };
        let mut rows: Vec<_> =
            left_out.into_iter().map(|uid| SourceRow { uid, state: SourceRowState::Settled, raw: None, print: None }).collect();
        let mut segments = segments(pulled.things, &suspects);
        let tail = segments.pop().unwrap_or_default();
        for segment in segments {
            let mut state = after.clone();
            if pulled.to >= after.low_water {
                state.low_water = segment.things.last().map_or(0, |thing| thing.uid);
            }
            self.admit_segment(segment, state, std::mem::take(&mut rows), &how, &mut turn).await?;
        }
        self.admit_segment(tail, after.clone(), rows, &how, &mut turn).await?;
        // The rows of the interrupted batches themselves: everything in them now has a fate or a row of its own.
        for suspect in suspects {
            self.forget(after.clone(), suspect.id).await?;
        }
        Ok(())
    }

    async fn admit_segment(
        &self,
        segment: Segment,
        state: SourceState,
        mut rows: Vec<SourceRow>,
        how: &How,
        turn: &mut Turn,
    ) -> Result<(), Ended> {
        let now = self.clock.now();
        if self.writer.disk_full() {
            // Nothing is kept that could not be admitted: trying again would fill what is left of the disk.
            return Err(Ended::Store(AdmitError::DiskFull));
        }
        let mut kept = Vec::with_capacity(segment.things.len());
        for thing in segment.things {
            if thing.state == PulledState::Gone {
                rows.push(SourceRow { uid: thing.uid, state: SourceRowState::Gone, raw: None, print: None });
            } else {
                kept.push(self.keep(thing, now).await?);
            }
        }
        let crashed = segment.attempts >= CRASHES_MAX && kept.len() == 1;
        let attribution = kept.first().filter(|_| !crashed).map(|first| ParseBatch {
            id: first.record.id,
            channel: self.id.clone(),
            source: (state.account.clone(), state.folder.clone(), state.epoch),
            uids: kept.iter().map(|kept| kept.uid).collect(),
            attempts: segment.attempts,
        });
        let parsed = attribution.as_ref().map(|batch| batch.id);
        if !kept.is_empty() {
            self.store.stage(kept.iter().map(|kept| kept.record.clone()).collect(), attribution.clone()).await?;
        }
        let numbers: Vec<_> = kept.iter().map(|kept| (kept.uid, kept.print)).collect();
        let answers = if crashed { None } else { self.look_up(&kept).await };
        let mut admissions = self.read(kept, crashed, how.historic, answers).await?;
        if let Some(batch) = attribution {
            // Parsing ended well: whatever interrupts us from here on is no mail's fault.
            self.store.stage(Vec::new(), Some(ParseBatch { uids: Vec::new(), ..batch })).await?;
        }
        rows.extend(admissions.iter().zip(numbers).map(|(admission, number)| self.row(admission, number)));
        turn.come().await?;
        let source = SourceCommit { state, rows, parsed, lease_epoch: self.lease_epoch };
        if how.flood.as_ref().is_some_and(|flood| flood.is_one()) {
            hold(&mut admissions, Time(now.0.saturating_add(i64::try_from(FLOOD_HOLD.as_millis()).unwrap_or(i64::MAX))));
            self.flooded().await;
        }
        self.break_loops(&mut admissions, now);
        let written = self.writer.admit_staged(admissions, Some(source.into())).await?;
        if let Some(flood) = &how.flood {
            flood.count(&written);
        }
        Ok(())
    }

    pub(super) fn break_loops(&self, admissions: &mut [Admission], now: Time) {
        let mut held = 0;
        for item in admissions.iter_mut().flat_map(|admission| &mut admission.items) {
            if let ItemBody::Message(message) = &mut item.body {
                held += usize::from(self.loops.look(message, now));
            }
        }
        if held > 0 {
            tracing::warn!(messaging.destination.name = %self.id, held, "a mail loop is suspected, its mails are held");
        }
    }

    pub(super) fn row(&self, admission: &Admission, (uid, print): (u64, Option<u64>)) -> SourceRow {
        let quarantined = admission.items.iter().any(|item| matches!(item.body, ItemBody::Quarantined { .. }));
        let state = match (quarantined, self.source.settles()) {
            (true, _) => SourceRowState::Quarantined,
            (false, false) => SourceRowState::Settled,
            (false, true) => SourceRowState::Admitted,
        };
        SourceRow { uid, state, raw: Some(admission.raw.id), print }
    }

    /// Takes away the row of a batch that is no longer being parsed.
    pub(super) async fn forget(&self, state: SourceState, batch: RawId) -> Result<(), Ended> {
        let source = SourceCommit { state, rows: Vec::new(), parsed: Some(batch), lease_epoch: self.lease_epoch };
        self.writer.admit_staged(Vec::new(), Some(source.into())).await?;
        Ok(())
    }

    /// Makes a raw of a pulled thing; a large body goes to the blob store.
    pub(super) async fn keep(&self, thing: Pulled, now: Time) -> Result<Kept, Ended> {
        let id = RawId(self.ids.next(now.0, &*self.random));
        let received_at = thing.internal_date.filter(|date| date.0 > 0 && *date <= now).unwrap_or(now);
        let raw = Raw { id, source: self.id.clone(), via: Via::Imap, received_at, head: thing.head, body: thing.body };
        let large = thing.spooled.is_some();
        let record = match thing.spooled {
            None => raws::keep(raw.clone(), &*self.blobs).await?,
            Some(spooled) => {
                let key = blob_key("raws", id);
                spooled.incoming.keep(&key).await.map_err(|error| Ended::Store(AdmitError::Store(blob_failed(&error))))?;
                let (bytes, place) = (spooled.bytes, RawPlace::Blob(key));
                RawRecord { id, source: raw.source.clone(), via: raw.via, received_at, head: raw.head.clone(), bytes, place }
            }
        };
        Ok(Kept { raw, record: Arc::new(record), uid: thing.uid, print: thing.print, state: thing.state, large })
    }

    /// What the DNS says about the senders of these mails, within a bound. Nothing here fails: what is not known is told so.
    pub(super) async fn look_up(&self, kept: &[Kept]) -> Option<Arc<Answers>> {
        let lookups = self.lookups.as_ref()?;
        let mut raws = Vec::with_capacity(kept.len());
        for kept in kept {
            raws.push(self.with_header(kept).await);
        }
        let reader = self.reader.clone();
        let asks = move || raws.iter().flat_map(|raw| reader.asks(raw)).collect();
        let names = self.readers.run(PARSE_TIME_MAX, asks).await.unwrap_or_default();
        Some(Arc::new(lookups.ask(names).await))
    }

    /// The raw with its header at least: of a large one more is not in memory.
    async fn with_header(&self, kept: &Kept) -> Raw {
        let mut raw = kept.raw.clone();
        if let (true, RawPlace::Blob(key)) = (kept.large, &kept.record.place) {
            // What cannot be read now is not asked for, and told as not known.
            raw.body = self.blobs.read_range(key, 0, kept.record.bytes.min(HEADER_BYTES_MAX)).await.unwrap_or_default();
        }
        raw
    }

    /// Reads raws, spread over the reader threads.
    pub(super) async fn read(
        &self,
        kept: Vec<Kept>,
        crashed: bool,
        historic: bool,
        answers: Option<Arc<Answers>>,
    ) -> Result<Vec<Admission>, Ended> {
        let _turn = if kept.iter().any(|kept| kept.large) { LARGE_READ.acquire().await.ok() } else { None };
        let jobs = shares(kept, self.readers.count()).into_iter().map(|share| {
            let (reader, answers) = (self.reader.clone(), answers.clone());
            let (blobs, runtime) = (self.blobs.clone(), tokio::runtime::Handle::current());
            let read = move |kept: Kept| {
                // A reader is no thread of the runtime: it may wait.
                let mut pieces = |at: u64| match &kept.record.place {
                    RawPlace::Blob(key) if at < kept.record.bytes => {
                        let end = kept.record.bytes.min(at.saturating_add(PIECE_BYTES));
                        runtime.block_on(blobs.read_range(key, at, end)).map_err(|error| error.to_string())
                    }
                    _ => Ok(bytes::Bytes::new()),
                };
                let items = items_of(&*reader, &kept, crashed, historic, answers.as_deref(), &mut pieces)?;
                Ok(Admission { items, raw: kept.record, delivery_key: None })
            };
            self.readers.run(PARSE_TIME_MAX, move || share.into_iter().map(read).collect::<Result<Vec<_>, String>>())
        });
        let mut admissions = Vec::new();
        for done in futures_util::future::join_all(jobs).await {
            let failed = |what: &str| PullError::Lost { code: Code::MailCrashed, detail: format!("reading a batch {what}"), after: None };
            match done {
                Ok(Ok(share)) => admissions.extend(share),
                Ok(Err(detail)) => return Err(StoreError::Unavailable { detail }.into()),
                // The batch's row stays: the next session finds it, and parses its mails in halves.
                Err(ReadError::Timeout) => return Err(Ended::Source(failed("took too long"))),
                Err(ReadError::Failed) => return Err(Ended::Source(failed("failed"))),
            }
        }
        Ok(admissions)
    }
}

/// How the mails of a batch are taken in.
struct How {
    historic: bool,
    flood: Option<Arc<Flood>>,
}

/// What is new waits until a person has looked, or until the time is over.
fn hold(admissions: &mut [Admission], until: Time) {
    for item in admissions.iter_mut().flat_map(|admission| &mut admission.items) {
        if let ItemBody::Message(message) = &mut item.body
            && !message.historic
        {
            message.hold = Some(Hold { reason: HoldReason::Held, until });
        }
    }
}

/// Cuts a batch into at most `count` shares of about the same size, in order.
fn shares(kept: Vec<Kept>, count: usize) -> Vec<Vec<Kept>> {
    let count = count.min(kept.len() / JOB_MAILS_MIN).max(1);
    // A mail costs by its bytes, and something by itself.
    let weight = |kept: &Kept| kept.raw.body.len() + 4096;
    let fair = kept.iter().map(weight).sum::<usize>().div_ceil(count);
    let (mut shares, mut filled) = (vec![Vec::new()], 0);
    for one in kept {
        if filled >= fair && shares.len() < count {
            shares.push(Vec::new());
            filled = 0;
        }
        filled += weight(&one);
        if let Some(share) = shares.last_mut() {
            share.push(one);
        }
    }
    shares
}

fn items_of(
    reader: &dyn ReadPulled,
    kept: &Kept,
    crashed: bool,
    historic: bool,
    answers: Option<&Answers>,
    pieces: Pieces,
) -> Result<Vec<Item>, String> {
    Ok(match &kept.state {
        _ if crashed => vec![reader.unread(Code::MailCrashed, format!("reading it was interrupted {CRASHES_MAX} times"))],
        PulledState::Whole if kept.large => reader.read_large(&kept.raw, historic, answers, pieces)?,
        PulledState::Whole => reader.read(&kept.raw, historic, answers),
        PulledState::HeaderOnly { bytes } => {
            vec![reader.unread(Code::MailTooLarge, format!("the mail has {bytes} bytes; only its header is kept"))]
        }
        PulledState::Unfetchable { detail } => vec![reader.unread(Code::MailUnfetchable, detail.clone())],
        PulledState::Gone => Vec::new(),
    })
}
