//! Pace: how often we try, how many log in at once, and how much a day. Also the pulse of a channel: when it was last seen working.
//!
//! What must stay true: a session that ended without bringing anything makes the next one wait longer, and only proven stability
//! makes the waits short again; one slow server never takes the logins of another (I8).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::model::time::Time;

/// First and longest wait between two connections.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_LONGEST: Duration = Duration::from_secs(300);
/// Wait after a session that brought something before it ended: whatever ended it (a mail that the server cannot read ends four of
/// them), the next one begins behind it.
const PROGRESS_WAIT: Duration = Duration::from_millis(200);
/// Sessions in a row that are followed up so soon; then each waits `PROGRESS_PACE`.
const PROGRESS_SOON_MAX: u32 = 12;
const PROGRESS_PACE: Duration = Duration::from_secs(3);
/// A session that lived this long proves that the trouble is over: the waits start anew.
const STABLE_AFTER: Duration = Duration::from_secs(60);
/// Logins at one server at once.
const LOGINS_AT_ONCE: usize = 4;
const DAY_MS: i64 = 24 * 3600 * 1000;

/// The waits between the sessions of one channel.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct Backoff {
    /// Sessions that failed in a row without bringing anything.
    pub failures: u32,
    soon: u32,
}

impl Backoff {
    /// A session ended after `lived`, having brought something or not; `unit` is random in 0..1. The wait before the next.
    pub fn after(&mut self, lived: Duration, brought: bool, unit: f64) -> Duration {
        if lived >= STABLE_AFTER {
            *self = Self::default();
        }
        if brought {
            self.soon = self.soon.saturating_add(1);
            self.failures = 0;
            let wait = if self.soon <= PROGRESS_SOON_MAX { PROGRESS_WAIT } else { PROGRESS_PACE };
            return wait.mul_f64(0.5 + unit / 2.0);
        }
        self.failures = self.failures.saturating_add(1);
        // Jitter between half and the whole of a doubling wait.
        let doubled = BACKOFF_FIRST.saturating_mul(1u32.checked_shl(self.failures.saturating_sub(1).min(16)).unwrap_or(u32::MAX));
        doubled.min(BACKOFF_LONGEST).mul_f64(0.5 + unit / 2.0)
    }
}

/// Lets few log in at one server at once: a thousand mailboxes that start together would look like an attack.
#[derive(Debug, Default)]
pub struct Gate {
    servers: Mutex<BTreeMap<String, Arc<Semaphore>>>,
}

impl Gate {
    /// Waits for a turn at `server`. `None` never: the gate is not closed.
    pub(in crate::pipeline) async fn pass(&self, server: &str) -> Option<OwnedSemaphorePermit> {
        let turns = {
            let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
            servers.entry(server.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(LOGINS_AT_ONCE))).clone()
        };
        turns.acquire_owned().await.ok()
    }
}

/// Bytes fetched on one day (UTC), against what may be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pipeline) struct Budget {
    max: Option<u64>,
    day: i64,
    spent: u64,
    unwritten: u64,
}

impl Budget {
    /// Bytes after which what was spent is written down.
    const WRITE_EVERY: u64 = 16 * 1024 * 1024;

    /// A budget, as written down before.
    pub fn read(max: Option<u64>, written: Option<&str>) -> Self {
        let fields = written.and_then(|text| text.split_once(' '));
        let numbers = fields.and_then(|(day, spent)| Some((day.parse().ok()?, spent.parse().ok()?)));
        let (day, spent) = numbers.unwrap_or((0, 0));
        Self { max, day, spent, unwritten: 0 }
    }

    /// Takes `bytes` from the day of `now`. What is to be written down, now and then.
    pub fn spend(&mut self, bytes: u64, now: Time) -> Option<String> {
        self.max?;
        self.turn(now);
        self.spent = self.spent.saturating_add(bytes);
        self.unwritten = self.unwritten.saturating_add(bytes);
        if self.unwritten < Self::WRITE_EVERY && !self.is_over() {
            return None;
        }
        self.unwritten = 0;
        Some(format!("{} {}", self.day, self.spent))
    }

    /// How long until there is something to spend again; `None` while there is.
    pub fn over_for(&mut self, now: Time) -> Option<Duration> {
        self.turn(now);
        let left = DAY_MS.saturating_sub(now.0.rem_euclid(DAY_MS));
        self.is_over().then(|| Duration::from_millis(left.unsigned_abs()))
    }

    fn is_over(&self) -> bool {
        self.max.is_some_and(|max| self.spent >= max)
    }

    fn turn(&mut self, now: Time) {
        let today = now.0.div_euclid(DAY_MS);
        if today != self.day {
            (self.day, self.spent) = (today, 0);
        }
    }
}

/// When a channel was last seen working, and what its session brought.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct Pulse {
    seen_ms: AtomicU64,
    /// The session made something durable, or found out where its server fails.
    brought: AtomicBool,
    /// It was told that the channel does not work.
    trouble: AtomicBool,
    /// When the channel was first seen working in this session, and one; 0: not yet.
    first_seen: AtomicU64,
    /// The session before was seen working and ended at once, again and again: this one is not believed before it has lasted.
    doubted: AtomicBool,
}

impl Pulse {
    /// The session that began last ended at `now`, having brought something or not; `failures` of them in a row brought nothing.
    pub fn end(&self, now: Duration, brought: bool, failures: u32) {
        if brought || self.has_lasted(now) {
            self.doubted.store(false, Ordering::Relaxed);
        } else if failures > 1 && self.is_seen() {
            self.doubted.store(true, Ordering::Relaxed);
        }
        self.first_seen.store(0, Ordering::Relaxed);
    }

    /// The channel was seen working at `now`; whether it was in trouble before, and no longer is.
    pub fn beat(&self, now: Duration) -> bool {
        self.seen_ms.store(millis(now), Ordering::Relaxed);
        // Only the first counts; that another was faster is as good.
        let _ = self.first_seen.compare_exchange(0, millis(now).saturating_add(1), Ordering::Relaxed, Ordering::Relaxed);
        self.is_over(now)
    }

    /// Whether the channel was in trouble, and the session proves that it no longer is.
    pub fn is_over(&self, now: Duration) -> bool {
        let believed = !self.doubted.load(Ordering::Relaxed) || self.brought.load(Ordering::Relaxed) || self.has_lasted(now);
        self.is_seen() && believed && self.trouble.swap(false, Ordering::Relaxed)
    }

    fn is_seen(&self) -> bool {
        self.first_seen.load(Ordering::Relaxed) != 0
    }

    fn has_lasted(&self, now: Duration) -> bool {
        let first = self.first_seen.load(Ordering::Relaxed).checked_sub(1);
        first.is_some_and(|first| now.saturating_sub(Duration::from_millis(first)) >= STABLE_AFTER)
    }

    /// How long it was not seen working.
    pub fn silent_for(&self, now: Duration) -> Duration {
        now.saturating_sub(Duration::from_millis(self.seen_ms.load(Ordering::Relaxed)))
    }

    /// It does not work, until it is seen working again; so begins each session.
    pub fn ail(&self) {
        self.first_seen.store(0, Ordering::Relaxed);
        self.trouble.store(true, Ordering::Relaxed);
    }

    /// The session brought something.
    pub fn bring(&self) {
        self.brought.store(true, Ordering::Relaxed);
    }

    /// Whether the session that ended brought something.
    pub fn take_brought(&self) -> bool {
        self.brought.swap(false, Ordering::Relaxed)
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_only_stability_makes_them_short_again() {
        let mut backoff = Backoff::default();
        let short = Duration::from_secs(1);
        let waits: Vec<_> = (0..12).map(|_| backoff.after(short, false, 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(backoff.after(Duration::from_secs(59), false, 0.0), BACKOFF_LONGEST / 2);
        assert_eq!(backoff.after(STABLE_AFTER, false, 1.0), BACKOFF_FIRST);
    }

    #[test]
    fn a_session_that_brought_something_is_followed_up_soon_but_not_for_ever() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..=12).map(|_| backoff.after(Duration::ZERO, true, 1.0)).collect();
        assert_eq!(waits[11], PROGRESS_WAIT);
        assert_eq!(waits[12], PROGRESS_PACE);
    }

    #[test]
    fn a_channel_that_is_lost_as_soon_as_it_works_is_believed_only_when_it_lasts_or_brings_something() {
        let pulse = Pulse::default();
        let at = Duration::from_secs;
        pulse.ail();
        pulse.end(at(1), false, 1);
        pulse.ail();
        assert!(pulse.beat(at(3)), "one lost connection is everyday life");
        pulse.end(at(3), false, 2);
        pulse.ail();
        assert!(!pulse.beat(at(11)));
        assert!(!pulse.is_over(at(70)));
        assert!(pulse.is_over(at(71)));
        pulse.end(at(71), false, 1);
        pulse.ail();
        assert!(pulse.beat(at(73)), "it lasted, so it is believed again");
        pulse.end(at(74), false, 2);
        pulse.ail();
        assert!(!pulse.beat(at(81)));
        pulse.bring();
        assert!(pulse.beat(at(82)));
    }

    #[test]
    fn a_channel_that_cannot_be_reached_is_believed_as_soon_as_it_answers() {
        let pulse = Pulse::default();
        for failures in 1..5 {
            pulse.ail();
            pulse.end(Duration::from_secs(1), false, failures);
        }
        pulse.ail();
        assert!(!pulse.is_over(Duration::from_secs(90)), "it was not seen working");
        assert!(pulse.beat(Duration::from_secs(90)));
    }

    #[test]
    fn a_day_has_its_bytes_and_the_next_has_them_anew() {
        let morning = Time(20_000 * DAY_MS + 3_600_000);
        let mut budget = Budget::read(Some(100), Some(&format!("{} 40", 20_000)));
        assert_eq!(budget.spend(59, morning), None);
        assert_eq!(budget.over_for(morning), None);
        assert_eq!(budget.spend(1, morning).as_deref(), Some("20000 100"));
        assert_eq!(budget.over_for(morning), Some(Duration::from_secs(23 * 3600)));
        assert_eq!(budget.over_for(Time(20_001 * DAY_MS)), None);
        let mut boundless = Budget::read(None, None);
        assert_eq!(boundless.spend(u64::MAX, morning), None);
        assert_eq!(boundless.over_for(morning), None);
    }
}
