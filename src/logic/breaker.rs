//! The breaker of a destination, a pure state machine over monotone time.
//!
//! Closed: everything goes. It opens at 10 attempts and 70 % failures within five minutes, or at 10 failures in a row. Open:
//! nothing goes, so no tries are spent. Then, half open, one probe at a time. A probe is an ordinary attempt of an ordinary
//! delivery: it counts against that delivery, and the caller takes the next lane for the next probe, so one event that always fails
//! cannot hold the destination closed to all others (I8). The first success closes it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::logic::schedule::Health;

/// Attempts older than this are forgotten.
const WINDOW: Duration = Duration::from_secs(300);
/// The rate means nothing below this many attempts.
const ATTEMPTS_MIN: usize = 10;
/// Opens at this part of failures.
const FAILED_PERCENT: usize = 70;
/// Opens at this many failures in a row.
const CONSECUTIVE_MAX: u32 = 10;
/// First pause. Short, since the commonest outage is a restart of the receiver.
const OPEN_FIRST: Duration = Duration::from_secs(5);
/// Pauses double up to this.
const OPEN_MAX: Duration = Duration::from_secs(300);
/// Attempts remembered. A destination that does more in five minutes is judged by its last ones.
const REMEMBERED_MAX: usize = 1024;

/// What the breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Everything.
    Closed,
    /// Nothing, until this time.
    Open {
        /// Monotone time of the next probe.
        until: Duration,
    },
    /// One attempt, if none is under way.
    HalfOpen,
}

/// What an observation changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing that is seen from outside.
    None,
    /// It opened.
    Opened,
    /// It closed.
    Closed,
}

/// A breaker. All times are monotone.
#[derive(Debug, Clone, Default)]
pub struct Breaker {
    /// Recent attempts: when, and whether they failed.
    recent: VecDeque<(Duration, bool)>,
    failed: usize,
    consecutive: u32,
    open: Option<Opened>,
}

#[derive(Debug, Clone)]
struct Opened {
    until: Duration,
    pause: Duration,
    probing: bool,
}

impl Breaker {
    /// A breaker that is open already and probes at once: after a restart.
    pub fn opened(now: Duration) -> Self {
        Self { open: Some(Opened { until: now, pause: OPEN_FIRST, probing: false }), ..Self::default() }
    }

    /// What may go now.
    pub fn gate(&self, now: Duration) -> Gate {
        match &self.open {
            None => Gate::Closed,
            Some(open) if open.probing || now < open.until => Gate::Open { until: open.until },
            Some(_) => Gate::HalfOpen,
        }
    }

    /// A probe is on its way: until its end nothing else goes.
    pub fn probe(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = true;
        }
    }

    /// An attempt ended. `probe` says that it was the one of [`Self::probe`].
    pub fn observe(&mut self, health: Health, probe: bool, now: Duration) -> Change {
        match (&mut self.open, health) {
            (Some(_), Health::Good) => {
                *self = Self::default();
                Change::Closed
            }
            (Some(open), _) if probe => {
                open.probing = false;
                // An answer that says nothing about health asks for another probe, not for more patience.
                if health == Health::Bad {
                    open.pause = (open.pause * 2).min(OPEN_MAX);
                }
                open.until = now + open.pause;
                Change::None
            }
            // Attempts that were under way when it opened.
            (Some(_), _) | (None, Health::Neither) => Change::None,
            (None, health) => self.count(health == Health::Bad, now),
        }
    }

    fn count(&mut self, failed: bool, now: Duration) -> Change {
        self.recent.push_back((now, failed));
        self.failed += usize::from(failed);
        while let Some((at, was_failed)) = self.recent.front().copied() {
            if self.recent.len() <= REMEMBERED_MAX && now.saturating_sub(at) <= WINDOW {
                break;
            }
            self.recent.pop_front();
            self.failed -= usize::from(was_failed);
        }
        self.consecutive = if failed { (self.consecutive + 1).min(u32::try_from(self.failed).unwrap_or(u32::MAX)) } else { 0 };
        let many = self.recent.len() >= ATTEMPTS_MIN && self.failed * 100 >= self.recent.len() * FAILED_PERCENT;
        if failed && (many || self.consecutive >= CONSECUTIVE_MAX) {
            *self = Self { open: Some(Opened { until: now + OPEN_FIRST, pause: OPEN_FIRST, probing: false }), ..Self::default() };
            return Change::Opened;
        }
        Change::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn open_at(now: Duration) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..9 {
            assert_eq!(breaker.observe(Health::Bad, false, now), Change::None);
        }
        assert_eq!(breaker.observe(Health::Bad, false, now), Change::Opened);
        breaker
    }

    #[test]
    fn ten_failures_in_a_row_open_it_and_nine_do_not() {
        let breaker = open_at(s(1));
        assert_eq!(breaker.gate(s(1)), Gate::Open { until: s(6) });
    }

    #[test]
    fn seven_of_ten_failures_open_it_and_six_do_not() {
        for (good, expected) in [(3, Change::Opened), (4, Change::None)] {
            let mut breaker = Breaker::default();
            let mut last = Change::None;
            for n in 0..10 {
                last = breaker.observe(if n < good { Health::Good } else { Health::Bad }, false, s(n));
            }
            assert_eq!(last, expected);
        }
    }

    #[test]
    fn failures_five_minutes_apart_do_not_add_up() {
        let mut breaker = Breaker::default();
        for n in 0..100 {
            assert_eq!(breaker.observe(Health::Bad, false, s(n * 301)), Change::None);
        }
    }

    #[test]
    fn one_probe_at_a_time_and_longer_pauses_after_each_failed_one() {
        let mut breaker = open_at(s(0));
        assert_eq!(breaker.gate(s(5)), Gate::HalfOpen);
        breaker.probe();
        assert_eq!(breaker.gate(s(5)), Gate::Open { until: s(5) });
        assert_eq!(breaker.observe(Health::Bad, true, s(6)), Change::None);
        assert_eq!(breaker.gate(s(15)), Gate::Open { until: s(16) });
        let mut at = s(16);
        for _ in 0..20 {
            breaker.probe();
            breaker.observe(Health::Bad, true, at);
            at += OPEN_MAX;
            assert_eq!(breaker.gate(at), Gate::HalfOpen);
        }
    }

    #[test]
    fn a_success_closes_it_and_forgets_the_past() {
        let mut breaker = open_at(s(0));
        breaker.probe();
        assert_eq!(breaker.observe(Health::Good, true, s(6)), Change::Closed);
        assert_eq!(breaker.gate(s(6)), Gate::Closed);
        assert_eq!(breaker.observe(Health::Bad, false, s(6)), Change::None);
    }

    #[test]
    fn attempts_that_were_under_way_when_it_opened_do_not_prolong_it() {
        let mut breaker = open_at(s(0));
        assert_eq!(breaker.observe(Health::Bad, false, s(4)), Change::None);
        assert_eq!(breaker.gate(s(5)), Gate::HalfOpen);
    }

    #[test]
    fn memory_is_bounded() {
        let mut breaker = Breaker::default();
        for n in 0..10_000u64 {
            breaker.observe(if n % 2 == 0 { Health::Good } else { Health::Bad }, false, Duration::from_millis(n));
        }
        assert!(breaker.recent.len() <= REMEMBERED_MAX);
    }
}
