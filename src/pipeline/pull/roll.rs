//! Rolls: the numbers a folder has, compared with the rows we know. It finds what was overlooked below the cursor, and it recognises
//! mails under their new numbers when a folder was renumbered, so that they are neither fetched nor published again.
//!
//! What must stay true: only as many mails are recognised by a print as rows have it; what is not recognised is fetched, and the
//! digest of its content decides. A mail that is recognised has the fate it had: its policy, if due, is carried out under the new
//! number.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::model::item::Fate;
use crate::pipeline::pull::PullChannel;
use crate::pipeline::sessions::Ended;
use crate::ports::pull::{PulledBatch, Roll, RollReason};
use crate::ports::store::{SourceCommit, SourceRow, SourceRowState, SourceState, Written};

/// Rows read at once.
const PAGE_ROWS: usize = 5_000;
const ROWS_MIN: usize = 16;
/// Rows of earlier numberings that are remembered while a folder is compared; what lies beyond is fetched and told by its content.
const ROWS_REMEMBERED_MAX: usize = 1_000_000;
/// New messages out of a renumbered folder that are published as ever. Beyond it another mailbox may have come in its place.
const FLOOD_MIN: u64 = 500;
/// How long further ones are held, so that a person can look: then they are published, nothing is dropped.
pub(super) const FLOOD_HOLD: Duration = Duration::from_secs(24 * 3600);

/// What a session knows about renumbered folders.
#[derive(Default)]
pub(super) struct Rolls {
    folders: BTreeMap<String, Renumbered>,
}

struct Renumbered {
    epoch: u64,
    /// Rows of earlier epochs by print, not recognised yet.
    free: BTreeMap<u64, (u64, Vec<SourceRow>)>,
    /// Numbers of this epoch that have a row.
    rows: BTreeSet<u64>,
    /// Numbers up to here were there when it was renumbered.
    to: u64,
    flood: Arc<Flood>,
}

/// Counts what a renumbered folder brings that is new.
#[derive(Debug, Default)]
pub(super) struct Flood {
    there: AtomicU64,
    fresh: AtomicU64,
}

impl Flood {
    /// Takes note of what became of a batch.
    pub fn count(&self, written: &Written) {
        let fresh = written.fates.iter().flatten().filter(|fate| matches!(fate.fate, Fate::Published | Fate::Pending)).count();
        self.fresh.fetch_add(fresh as u64, Ordering::Relaxed);
    }

    /// Whether so much is new that it may be another mailbox: more than 500, and more than a fifth.
    pub fn is_one(&self) -> bool {
        let (fresh, there) = (self.fresh.load(Ordering::Relaxed), self.there.load(Ordering::Relaxed));
        fresh > FLOOD_MIN && fresh.saturating_mul(5) > there
    }
}

impl Rolls {
    /// The flood gauge of a batch that comes out of a renumbered folder.
    pub fn flood(&self, batch: &PulledBatch) -> Option<Arc<Flood>> {
        let found = self.folders.get(&batch.folder).filter(|known| known.epoch == batch.epoch && batch.from <= known.to);
        found.map(|known| known.flood.clone())
    }
}

impl PullChannel {
    /// Which numbers of a roll are to be fetched; what is recognised gets its row here.
    pub(super) async fn compare(&self, roll: &Roll, state: &SourceState, rolls: &mut Rolls) -> Result<Vec<u64>, Ended> {
        match roll.reason {
            RollReason::Gaps => self.overlooked(roll, state).await,
            RollReason::Renumbered => self.recognise(roll, state, rolls).await,
        }
    }

    async fn overlooked(&self, roll: &Roll, state: &SourceState) -> Result<Vec<u64>, Ended> {
        let source = (state.account.clone(), roll.folder.clone(), roll.epoch);
        let mut known = BTreeSet::new();
        let next = |above: u64| roll.there.iter().map(|(uid, _)| *uid).find(|uid| *uid > above);
        // A roll may be a few numbers of many: rows between them are jumped over.
        let rows_max = roll.there.len().saturating_mul(4).clamp(ROWS_MIN, PAGE_ROWS);
        let mut above = next(0);
        while let Some(uid) = above {
            let page = self.store.source_rows(&source, (roll.epoch, uid.saturating_sub(1)), rows_max).await?;
            // What was proven gone and is there after all was overlooked, too.
            known.extend(page.iter().filter(|(_, row)| row.state != SourceRowState::Gone).map(|(_, row)| row.uid));
            above = page.last().and_then(|(_, last)| next(last.uid));
        }
        Ok(roll.there.iter().map(|(uid, _)| *uid).filter(|uid| !known.contains(uid)).collect())
    }

    async fn recognise(&self, roll: &Roll, state: &SourceState, rolls: &mut Rolls) -> Result<Vec<u64>, Ended> {
        if rolls.folders.get(&roll.folder).is_none_or(|known| known.epoch != roll.epoch) {
            let known = self.remember(roll, state).await?;
            rolls.folders.insert(roll.folder.clone(), known);
        }
        let Some(known) = rolls.folders.get_mut(&roll.folder) else { return Ok(Vec::new()) };
        known.to = known.to.max(roll.to);
        known.flood.there.fetch_add(roll.there.len() as u64, Ordering::Relaxed);
        let (mut rows, mut wanted) = (Vec::new(), Vec::new());
        for (uid, print) in &roll.there {
            if known.rows.contains(uid) {
                continue;
            }
            match print.and_then(|print| known.free.get_mut(&print)).and_then(|(_, rows)| rows.pop()) {
                Some(row) => rows.push(SourceRow { uid: *uid, ..row }),
                None => wanted.push(*uid),
            }
        }
        let (recognised, unknown) = (rows.len(), wanted.len());
        tracing::info!(messaging.destination.name = %self.id, recognised, unknown, "renumbered folder compared");
        if !rows.is_empty() {
            let source = SourceCommit { state: state.clone(), rows, parsed: None, lease_epoch: self.lease_epoch };
            self.writer.admit_staged(Vec::new(), Some(source.into())).await?;
        }
        Ok(wanted)
    }

    /// Reads the rows of all epochs of a folder.
    async fn remember(&self, roll: &Roll, state: &SourceState) -> Result<Renumbered, Ended> {
        let source = (state.account.clone(), roll.folder.clone(), roll.epoch);
        let mut known = Renumbered { epoch: roll.epoch, free: BTreeMap::new(), rows: BTreeSet::new(), to: 0, flood: Arc::default() };
        let (mut after, mut taken, mut count) = ((0, 0), Vec::new(), 0);
        loop {
            let page = self.store.source_rows(&source, after, PAGE_ROWS).await?;
            let Some((epoch, last)) = page.last().map(|(epoch, row)| (*epoch, row.uid)) else { break };
            after = (epoch, last);
            for (epoch, row) in page {
                if epoch == roll.epoch {
                    known.rows.insert(row.uid);
                    taken.extend(row.print);
                } else if let Some(print) = row.print
                    && row.state != SourceRowState::Gone
                    && count < ROWS_REMEMBERED_MAX
                {
                    count += 1;
                    let (last, rows) = known.free.entry(print).or_default();
                    // A mail that has rows in several epochs is there once, in its last state.
                    if std::mem::replace(last, epoch) != epoch {
                        rows.clear();
                    }
                    rows.push(row);
                }
            }
        }
        // What was recognised before an interruption is not there to be recognised again.
        for print in taken {
            if let Some((_, rows)) = known.free.get_mut(&print) {
                rows.pop();
            }
        }
        Ok(known)
    }
}
