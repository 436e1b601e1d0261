//! Settle: the source policy, carried out on what is admitted; and what an earlier session asked for without learning what became of it.
//!
//! What must stay true: a settlement that must not be done twice is written down before it is asked for (one memo a folder, renewed by the
//! next one); one whose answer is unknown is looked up before anything in its folder is settled, and only when whoever was asked has surely
//! ended; taking in goes on meanwhile. Rows that are settled need no second thought: what is written down about them is void.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::time::Time;
use crate::pipeline::pull::PullChannel;
use crate::pipeline::sessions::Ended;
use crate::ports::pull::Pull;
use crate::ports::store::{SourceRow, SourceRowState, SourceState, Write};

/// Rows settled at the source with one question. What is written down about them fits a memo.
const SETTLE_ROWS_MAX: usize = 1000;
/// Rows read at once.
const PAGE_ROWS: usize = 5_000;
/// A server goes on with what a dead session asked for: by then it has ended.
const ENDED_AFTER: Duration = Duration::from_secs(5);
/// The same, for each mail: the slowest providers move some twenty a second.
const ENDED_AFTER_EACH: Duration = Duration::from_millis(50);
/// Times that it is looked up. If every session died of that, it is given up: better moved twice than never.
const TRIES_MAX: u32 = 5;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Asked {
    epoch: u64,
    at_ms: i64,
    /// The engine's own.
    mark: String,
    /// Number and print. Those without a print are as one.
    rows: Vec<(u64, Option<u64>)>,
    #[serde(default)]
    tries: u32,
}

/// What earlier sessions asked for, by folder, and when that has surely ended, on the clock that never jumps.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    folders: BTreeMap<String, (Asked, Duration)>,
}

impl Doubts {
    /// How long until the next one can be looked at.
    pub fn due(&self, now: Duration) -> Option<Duration> {
        self.folders.values().filter_map(|(_, ripe)| ripe.checked_sub(now)).filter(|left| !left.is_zero()).min()
    }
}

impl Asked {
    fn write(&self, state: &SourceState) -> Write {
        Write::Memo { key: asked_key(&state.account, &state.folder), value: serde_json::to_string(self).ok() }
    }

    /// How long it may still be under way.
    fn patience(&self, now: Time) -> Duration {
        let whole = ENDED_AFTER + ENDED_AFTER_EACH * u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        // A clock that was set back gives no more than the whole.
        let since = u64::try_from(now.0.saturating_sub(self.at_ms)).unwrap_or(0);
        whole.saturating_sub(Duration::from_millis(since))
    }
}

/// Memo that holds what was asked for in a folder.
fn asked_key(account: &str, folder: &str) -> String {
    format!("{account}/asked/{folder}")
}

impl PullChannel {
    /// What earlier sessions asked for.
    pub(super) async fn doubts(&self, states: &[SourceState]) -> Result<Doubts, Ended> {
        let mut doubts = Doubts::default();
        for state in states.iter().filter(|_| self.source.settles()) {
            let text = self.store.memo(&asked_key(&state.account, &state.folder)).await?;
            if let Some(asked) = text.and_then(|text| serde_json::from_str::<Asked>(&text).ok()) {
                let ripe = self.clock.monotonic().saturating_add(asked.patience(self.clock.now()));
                doubts.folders.insert(state.folder.clone(), (asked, ripe));
            }
        }
        Ok(doubts)
    }

    /// Carries out the source policy on what is admitted.
    pub(super) async fn settle(&self, pull: &mut dyn Pull, states: &[SourceState], doubts: &mut Doubts) -> Result<(), Ended> {
        for state in states {
            if !self.clear_up(pull, state, doubts).await? {
                continue;
            }
            let source = (state.account.clone(), state.folder.clone(), state.epoch);
            loop {
                let rows = self.store.unsettled(&source, SETTLE_ROWS_MAX).await?;
                if rows.is_empty() {
                    break;
                }
                let uids = self.ask_to_settle(pull, state, &rows).await?;
                if uids.is_empty() {
                    break;
                }
                self.writer.write(Write::Settled { source: source.clone(), uids, lease_epoch: self.lease_epoch }).await?;
            }
        }
        Ok(())
    }

    async fn ask_to_settle(&self, pull: &mut dyn Pull, state: &SourceState, rows: &[SourceRow]) -> Result<Vec<u64>, Ended> {
        let Some(mark) = pull.mark().await? else { return Ok(pull.settle(state, rows).await?) };
        let pairs = rows.iter().map(|row| (row.uid, row.print)).collect();
        let mut asked = Asked { epoch: state.epoch, at_ms: self.clock.now().0, mark, rows: pairs, tries: 0 };
        self.writer.write(asked.write(state)).await?;
        match pull.settle(state, rows).await {
            Ok(uids) => Ok(uids),
            Err(error) => {
                // It may have taken long, and still go on.
                asked.at_ms = self.clock.now().0;
                self.writer.write(asked.write(state)).await?;
                Err(error.into())
            }
        }
    }

    /// Finds out what became of what an earlier session asked for. False if that is not known yet: nothing else is settled before.
    async fn clear_up(&self, pull: &mut dyn Pull, state: &SourceState, doubts: &mut Doubts) -> Result<bool, Ended> {
        let Some((asked, ripe)) = doubts.folders.get_mut(&state.folder) else { return Ok(true) };
        let rows = self.in_doubt(asked, state).await?;
        if !rows.is_empty() && asked.tries < TRIES_MAX {
            if self.clock.monotonic() < *ripe {
                return Ok(false);
            }
            asked.tries += 1;
            self.writer.write(asked.write(state)).await?;
            let Some(uids) = pull.finish(state, &rows, &asked.mark).await? else {
                asked.tries -= 1;
                return Ok(false);
            };
            let (done, of) = (uids.len(), rows.len());
            tracing::info!(messaging.destination.name = %self.id, done, of, "settlement of an earlier session looked up");
            let source = (state.account.clone(), state.folder.clone(), state.epoch);
            self.writer.write(Write::Settled { source, uids, lease_epoch: self.lease_epoch }).await?;
        }
        doubts.folders.remove(&state.folder);
        self.writer.write(Write::Memo { key: asked_key(&state.account, &state.folder), value: None }).await?;
        Ok(true)
    }

    /// The rows among those asked for that are not settled: by their numbers, or by their prints where they have others by now. That may be so
    /// under the same name of the epoch: a Dovecot whose list of numbers is deleted while it moves writes a new one under the old name.
    async fn in_doubt(&self, asked: &Asked, state: &SourceState) -> Result<Vec<SourceRow>, Ended> {
        let mut open: BTreeMap<u64, Option<u64>> = asked.rows.iter().copied().collect();
        let (Some(first), Some(last)) = (open.keys().next().copied(), open.keys().next_back().copied()) else { return Ok(Vec::new()) };
        let before = first.saturating_sub(1);
        let ended = |row: &SourceRow| row.state != SourceRowState::Admitted;
        for row in self.rows_between(state, (asked.epoch, before), (asked.epoch, last), ended).await? {
            open.remove(&row.uid);
        }
        if open.is_empty() {
            return Ok(Vec::new());
        }
        let prints: BTreeSet<Option<u64>> = open.values().copied().collect();
        let same = asked.epoch == state.epoch;
        let from = (state.epoch, if same { before } else { 0 });
        let asked_for =
            |row: &SourceRow| row.state == SourceRowState::Admitted && (same && open.contains_key(&row.uid) || prints.contains(&row.print));
        self.rows_between(state, from, (state.epoch, u64::MAX), asked_for).await
    }

    /// Rows of a folder behind an epoch and number, up to others.
    async fn rows_between(
        &self,
        state: &SourceState,
        mut after: (u64, u64),
        last: (u64, u64),
        wanted: impl Fn(&SourceRow) -> bool,
    ) -> Result<Vec<SourceRow>, Ended> {
        let source = (state.account.clone(), state.folder.clone(), state.epoch);
        let mut found = Vec::new();
        while after < last {
            let page = self.store.source_rows(&source, after, PAGE_ROWS).await?;
            let Some(end) = page.last().map(|(epoch, row)| (*epoch, row.uid)) else { break };
            after = end;
            let within = page.into_iter().filter(|(epoch, row)| (*epoch, row.uid) <= last).map(|(_, row)| row);
            found.extend(within.filter(&wanted));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(at_ms: i64, rows: u64) -> Asked {
        Asked { epoch: 1, at_ms, mark: String::new(), rows: (1..=rows).map(|uid| (uid, Some(u64::MAX - uid))).collect(), tries: 0 }
    }

    #[test]
    fn what_was_asked_for_long_ago_is_looked_at_at_once_and_a_clock_set_back_does_not_keep_it_for_ever() {
        let asked = asked(1_000_000, 100);
        assert_eq!(asked.patience(Time(1_000_000)), Duration::from_secs(10));
        assert_eq!(asked.patience(Time(1_007_000)), Duration::from_secs(3));
        assert_eq!(asked.patience(Time(9_000_000)), Duration::ZERO);
        assert_eq!(asked.patience(Time(0)), Duration::from_secs(10));
    }

    #[test]
    fn the_largest_settlement_fits_a_memo() {
        let text = serde_json::to_string(&asked(i64::MAX, SETTLE_ROWS_MAX as u64)).unwrap();
        assert!(text.len() < 60_000, "{}", text.len());
    }
}
