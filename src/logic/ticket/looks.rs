//! Looks: when to look for what was sent without an answer, and when to believe that it is not there.

use crate::model::time::Time;

/// Looks go on for longer than this only where an index lags.
pub(super) const LAGS_MS: i64 = 30_000;

/// What to do about a send in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Look now.
    Now,
    /// Look after this many milliseconds.
    In(i64),
    /// It was looked for late enough, and is not there.
    Believed,
}

/// `at`: when it was sent, or found to be without an answer. `looked`: when this attempt looked last and found nothing.
pub(super) fn look(at: Time, looks_ms: &[i64], looked: Option<Time>, now: Time) -> Look {
    let last = looks_ms.iter().copied().max().unwrap_or(0);
    match looked.map(|looked| looked.since_ms(at)) {
        Some(age) if age >= last => Look::Believed,
        Some(age) => {
            let next = looks_ms.iter().copied().filter(|look| *look > age).min().unwrap_or(last);
            let wait = next - now.since_ms(at);
            if wait <= 0 { Look::Now } else { Look::In(wait) }
        }
        None => {
            let first = looks_ms.iter().copied().min().unwrap_or(0);
            let wait = first - now.since_ms(at);
            if wait <= 0 { Look::Now } else { Look::In(wait) }
        }
    }
}
