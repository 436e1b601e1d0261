//! The survey: what lies below the cursor and was overlooked.
//!
//! Servers of many machines may show a mail late, under a number below one that we have seen. The numbers below the cursor are
//! therefore listed once a day, and whenever a folder holds more mails than those that came can explain.
//!
//! A server that counts the changes of a folder (CONDSTORE) is asked at every look for what is new or changed below the cursor, if
//! anything changed at all: what appeared late is found then and not a day later, though as many mails may have gone. Flags that others
//! changed are among it and cost a line each. Such a server may count wrongly, too (replicas): the daily listing stays. What is gone
//! (QRESYNC) is of no interest here: a mail that is durable with us does not go when it goes at its server.

use std::time::Duration;

use crate::engines::imap::conn::Failed;
use crate::engines::imap::fetch::{self, Ask, Meta};
use crate::engines::imap::folder::{Memo, View, floor};
use crate::engines::imap::walk::{Blame, Walk};
use crate::ports::pull::{PullError, PullNews, Roll, RollReason};
use crate::ports::store::SourceState;

/// How often it is done without a reason.
const EVERY: Duration = Duration::from_secs(24 * 3600);
/// UIDs in one listing; where they lie far apart, an empty one makes the next eight times wider.
const SPAN: u64 = 10_000;
/// Overlooked mails that are looked up in one command.
const LOOK_UP_MAX: usize = 200;

/// Looking for what was overlooked, in one folder.
#[derive(Debug, Default)]
pub struct Survey {
    /// Mails in the folder when everything in it was known.
    counted: Option<u32>,
    /// Mails that came since.
    delivered: u32,
    /// HIGHESTMODSEQ when everything in it was known.
    changes: Option<u64>,
    /// What is still to be listed, while it goes on.
    next: Option<Sweep>,
    /// A roll was told, and is not answered.
    asked: bool,
    /// Numbers that have no row, to be fetched.
    overlooked: Vec<u32>,
}

/// A walk over the numbers below the cursor.
#[derive(Debug, Clone, Copy)]
struct Sweep {
    /// The next number.
    from: u64,
    /// How many at once.
    span: u64,
    /// Only what changed since.
    since: Option<u64>,
    /// HIGHESTMODSEQ before it began: what changes meanwhile is looked at the next time.
    changes: Option<u64>,
}

impl Survey {
    /// Mails came.
    pub fn delivered(&mut self, count: usize) {
        self.delivered = self.delivered.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// A roll waits for its answer.
    pub fn is_under_way(&self) -> bool {
        self.asked
    }

    /// What was not fetched after all.
    pub fn give_back(&mut self, uids: impl IntoIterator<Item = u32>) {
        self.overlooked.extend(uids);
    }

    /// The answer.
    pub fn overlooked(&mut self, uids: &[u64]) {
        self.asked = false;
        self.overlooked.extend(uids.iter().filter_map(|uid| u32::try_from(*uid).ok()));
    }

    /// What is to be listed now, if anything.
    fn due(&self, view: &View, memo: &Memo, from: u64, now_ms: i64) -> Option<Sweep> {
        let every = i64::try_from(EVERY.as_millis()).unwrap_or(i64::MAX);
        let daily = memo.surveyed_at.is_none_or(|at| now_ms.saturating_sub(at) >= every || at > now_ms);
        if daily || self.counted.is_some_and(|counted| view.exists > counted.saturating_add(self.delivered)) {
            return Some(Sweep { from, span: SPAN, since: None, changes: view.changes });
        }
        let since = self.changes.or(memo.changes).filter(|before| view.changes.is_some_and(|now| now > *before))?;
        Some(Sweep { from, span: u64::MAX, since: Some(since), changes: view.changes })
    }

    /// Everything in the folder is known.
    fn complete(view: &View, changes: Option<u64>) -> Self {
        Self { counted: Some(view.exists), changes, ..Self::default() }
    }
}

impl Walk {
    /// Nothing is new in a folder: is anything old missing? `None`: no.
    pub async fn survey(&mut self, index: usize, view: &View, row: &SourceState, memo: &Memo) -> Result<Option<PullNews>, PullError> {
        let now_ms = self.clock.now().0;
        let Some(folder) = self.folders.get_mut(index) else { return Ok(None) };
        let survey = &mut folder.survey;
        if !survey.overlooked.is_empty() {
            return self.look_up(index, row, memo).await;
        }
        if survey.next.is_none() {
            survey.next = survey.due(view, memo, floor(&self.settings, row, memo).saturating_add(1), now_ms);
            if survey.next.is_none() {
                *survey = Survey::complete(view, view.changes);
                return Ok(None);
            }
        }
        while let Some(sweep) = survey.next {
            let over = |changes: Option<u64>| Memo { surveyed_at: Some(now_ms), changes, ..memo.clone() };
            if sweep.from > row.low_water || view.exists == 0 {
                *survey = Survey::complete(view, sweep.changes);
                if sweep.since.is_some() {
                    return Ok(None);
                }
                return Ok(Some(PullNews::State(SourceState { memo: over(sweep.changes).write(), ..row.clone() })));
            }
            let to = row.low_water.min(sweep.from.saturating_add(sweep.span - 1));
            let listed = match sweep.since {
                Some(since) => fetch::changed(&mut self.conn, sweep.from, to, since).await,
                None => fetch::list(&mut self.conn, sweep.from, to, Ask::Numbers).await,
            };
            match listed {
                Ok(listing) => {
                    let span = match (sweep.since, listing.mails.is_empty()) {
                        (Some(_), _) => u64::MAX,
                        (None, true) => sweep.span.saturating_mul(8),
                        (None, false) => SPAN,
                    };
                    survey.next = Some(Sweep { from: listing.to + 1, span, ..sweep });
                    if listing.mails.is_empty() {
                        continue;
                    }
                    survey.asked = true;
                    let there = listing.mails.iter().map(|meta| (u64::from(meta.uid), None)).collect();
                    let (folder, epoch, from, to) = (folder.name.clone(), row.epoch, sweep.from, listing.to);
                    return Ok(Some(PullNews::Roll(Roll { folder, epoch, from, to, there, reason: RollReason::Gaps })));
                }
                Err(failed) => {
                    // A server that cannot tell its numbers must not keep us from what is new: tomorrow again.
                    tracing::debug!(failed = %failed.fatal("listing a folder"), "survey given up");
                    *survey = Survey::complete(view, view.changes);
                    if sweep.since.is_some() {
                        return Ok(None);
                    }
                    return Ok(Some(PullNews::State(SourceState { memo: over(memo.changes).write(), ..row.clone() })));
                }
            }
        }
        Ok(None)
    }

    /// Sizes of what was overlooked; it is then fetched like anything else.
    async fn look_up(&mut self, index: usize, row: &SourceState, memo: &Memo) -> Result<Option<PullNews>, PullError> {
        let Some(folder) = self.folders.get_mut(index) else { return Ok(None) };
        let suspect = |uid: &u32| memo.suspect.is_some_and(|(suspect, _)| suspect == u64::from(*uid));
        let overlooked = &mut folder.survey.overlooked;
        overlooked.sort_unstable();
        overlooked.dedup();
        let found = if let Some(at) = overlooked.iter().position(suspect) {
            // Sessions died of it: nothing is asked but itself.
            let uid = overlooked.remove(at);
            Ok(vec![Meta { uid, size: 0, date: None, print: None }])
        } else {
            let count = overlooked.len().min(LOOK_UP_MAX);
            let uids: Vec<u32> = overlooked.drain(..count).collect();
            tracing::info!(mails = uids.len(), "mails below the cursor were overlooked");
            let found = fetch::look_up(&mut self.conn, &uids).await;
            if found.is_err() {
                self.blame = uids.first().map(|uid| (index, Blame::Mail(u64::from(*uid))));
            }
            found
        };
        match found {
            Ok(mails) => {
                // None of them is there any more: what is left of the survey comes with the next look.
                let (Some(first), Some(last)) = (mails.first(), mails.last()) else { return Ok(None) };
                folder.range = (u64::from(first.uid), u64::from(last.uid));
                folder.below = true;
                folder.listed = mails.into();
                self.fetch_on(index, row, memo).await
            }
            Err(Failed::Refused(refusal)) => Err(refusal.lost("looking up mails")),
            Err(Failed::Lost(_)) => Ok(None),
        }
    }
}
