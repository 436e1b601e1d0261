//! Reconcile: what is in a source against what is known of it. Pure.
//!
//! Three kinds of difference: **missing**, it is there and was overlooked; **extra**, it was taken in and is there no longer; **changed**,
//! under its number is another thing. What lies above the cursor is awaited, and what lies before a first run that did not take it in
//! is left alone: neither is a difference.

use std::collections::BTreeMap;

use crate::model::time::Time;
use crate::ports::inspect::Page;
use crate::ports::store::{SourceRow, SourceRowState, SourceState};

/// What a comparison needs to know of a folder beside its rows.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// The folder's state.
    pub state: &'a SourceState,
    /// What was there before the first run was to be taken in.
    pub from_the_start: bool,
    /// But nothing older than this.
    pub since: Option<Time>,
}

/// What a page of a folder differs in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// There, and known.
    pub known: u64,
    /// There, above the cursor: not taken in yet.
    pub awaited: u64,
    /// There from before the first run, and not to be taken in.
    pub before: u64,
    /// There and overlooked.
    pub missing: Vec<u64>,
    /// Taken in, and there no longer.
    pub extra: Vec<u64>,
    /// Under its number is another thing.
    pub changed: Vec<u64>,
}

/// Compares a page with the rows of its range.
pub fn compare(page: &Page, rows: &[SourceRow], ground: Ground<'_>) -> Difference {
    let mut rows: BTreeMap<u64, &SourceRow> = rows.iter().map(|row| (row.uid, row)).collect();
    let mut found = Difference::default();
    for seen in &page.there {
        match rows.remove(&seen.uid) {
            Some(row) if row.state == SourceRowState::Gone => found.missing.push(seen.uid),
            Some(row) if matches!((row.print, seen.print), (Some(one), Some(other)) if one != other) => found.changed.push(seen.uid),
            Some(_) => found.known += 1,
            None if seen.uid > ground.state.low_water => found.awaited += 1,
            None if left_alone(seen.uid, seen.date, ground) => found.before += 1,
            None => found.missing.push(seen.uid),
        }
    }
    found.extra.extend(rows.into_values().filter(|row| row.state != SourceRowState::Gone).map(|row| row.uid));
    found
}

fn left_alone(uid: u64, date: Option<Time>, ground: Ground<'_>) -> bool {
    let old = uid <= ground.state.first_run_top;
    old && (!ground.from_the_start || matches!((date, ground.since), (Some(date), Some(since)) if date < since))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::inspect::Seen;

    fn state(low_water: u64, first_run_top: u64) -> SourceState {
        let memo = String::new();
        SourceState { account: "a".to_owned(), folder: "INBOX".to_owned(), epoch: 1, epoch_name: 7, low_water, first_run_top, memo }
    }

    fn page(there: &[(u64, Option<u64>)]) -> Page {
        let there = there.iter().map(|(uid, print)| Seen { uid: *uid, date: Some(Time(uid.cast_signed() * 10)), print: *print }).collect();
        Page { folder: "INBOX".to_owned(), epoch_name: 7, exists: 0, from: 1, to: u64::MAX, there }
    }

    fn row(uid: u64, state: SourceRowState, print: Option<u64>) -> SourceRow {
        SourceRow { uid, state, raw: None, print }
    }

    #[test]
    fn every_number_is_in_one_class() {
        use SourceRowState::{Admitted, Gone, Quarantined, Settled};
        let state = state(20, 3);
        let ground = Ground { state: &state, from_the_start: false, since: None };
        let there = [2, 4, 5, 6, 7, 21].map(|uid| (uid, Some(uid)));
        let rows = [row(4, Settled, None), row(5, Gone, None), row(6, Admitted, Some(99)), row(8, Quarantined, None), row(9, Gone, None)];
        let found = compare(&page(&there), &rows, ground);
        let expected = Difference { known: 1, awaited: 1, before: 1, missing: vec![5, 7], extra: vec![8], changed: vec![6] };
        assert_eq!(found, expected);
    }

    #[test]
    fn a_backfill_makes_the_old_ones_expected_as_far_as_it_reached() {
        let state = state(5, 5);
        let of = |from_the_start, since| {
            let found = compare(&page(&[(1, None), (2, None), (3, None)]), &[], Ground { state: &state, from_the_start, since });
            (found.before, found.missing)
        };
        assert_eq!(of(false, None), (3, vec![]));
        assert_eq!(of(true, None), (0, vec![1, 2, 3]));
        assert_eq!(of(true, Some(Time(20))), (1, vec![2, 3]));
    }
}
