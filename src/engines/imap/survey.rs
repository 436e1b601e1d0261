//! The survey: what lies below the cursor and was overlooked.
//!
//! Servers of many machines may show a mail late, under a number below one that we have seen. The numbers below the cursor are
//! therefore listed once a day, and whenever a folder holds more mails than those that came can explain.

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
    /// The next number to list, while it goes on, and how many at once.
    next: Option<(u64, u64)>,
    /// A roll was told, and is not answered.
    asked: bool,
    /// Numbers that have no row, to be fetched.
    overlooked: Vec<u32>,
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

    fn is_due(&self, view: &View, memo: &Memo, now_ms: i64) -> bool {
        let every = i64::try_from(EVERY.as_millis()).unwrap_or(i64::MAX);
        let daily = memo.surveyed_at.is_none_or(|at| now_ms.saturating_sub(at) >= every || at > now_ms);
        daily || self.counted.is_some_and(|counted| view.exists > counted.saturating_add(self.delivered))
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
            if !survey.is_due(view, memo, now_ms) {
                (survey.counted, survey.delivered) = (Some(view.exists), 0);
                return Ok(None);
            }
            survey.next = Some((floor(&self.settings, row, memo).saturating_add(1), SPAN));
        }
        while let Some((from, span)) = survey.next {
            if from > row.low_water || view.exists == 0 {
                *survey = Survey { counted: Some(view.exists), ..Survey::default() };
                let memo = Memo { surveyed_at: Some(now_ms), ..memo.clone() };
                return Ok(Some(PullNews::State(SourceState { memo: memo.write(), ..row.clone() })));
            }
            let to = row.low_water.min(from.saturating_add(span - 1));
            match fetch::list(&mut self.conn, from, to, Ask::Numbers).await {
                Ok(listing) => {
                    let span = if listing.mails.is_empty() { span.saturating_mul(8) } else { SPAN };
                    survey.next = Some((listing.to + 1, span));
                    if listing.mails.is_empty() {
                        continue;
                    }
                    survey.asked = true;
                    let there = listing.mails.iter().map(|meta| (u64::from(meta.uid), None)).collect();
                    let (name, epoch) = (folder.name.clone(), row.epoch);
                    return Ok(Some(PullNews::Roll(Roll { folder: name, epoch, from, to: listing.to, there, reason: RollReason::Gaps })));
                }
                Err(failed) => {
                    // A server that cannot tell its numbers must not keep us from what is new: tomorrow again.
                    tracing::debug!(failed = %failed.fatal("listing a folder"), "survey given up");
                    let memo = Memo { surveyed_at: Some(now_ms), ..memo.clone() };
                    *survey = Survey { counted: Some(view.exists), ..Survey::default() };
                    return Ok(Some(PullNews::State(SourceState { memo: memo.write(), ..row.clone() })));
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
