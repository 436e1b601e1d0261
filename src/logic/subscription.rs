//! Subscription: what is known of the promise of a platform to call our hook, and what is to be done about it next. Pure.
//!
//! What must stay true: the wish stands in the store before the platform hears of it, so that a death in the middle is followed by another
//! look; what a person did not ask for is never begun; an address that another took over is not taken back.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::model::codes::Code;
use crate::model::time::Time;

/// Pauses after failures; the last one goes on.
const PAUSES_S: [u64; 7] = [5, 15, 60, 300, 900, 1_800, 3_600];
/// What only a person can mend is tried so seldom.
const PERSON_PACE: Duration = Duration::from_secs(3_600);
/// A platform confirms a subscription by a call of its own within this time, or it is asked for again.
const GRANT_WAIT: Duration = Duration::from_secs(600);
/// A lease is renewed no sooner, however short it is: a platform that grants nothing at all is not asked without end.
const RENEW_MIN: Duration = Duration::from_secs(2);
/// No failure makes us wait longer than this; a longer wait was noted by a clock that was set back since.
const WAIT_MAX: Duration = Duration::from_secs(25 * 3_600);
/// Clocks are set back by so much all the time.
const CLOCK_SLACK: Duration = Duration::from_secs(60);

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nobody asked for it.
    #[default]
    None,
    /// It is being asked for.
    Asking,
    /// The platform promised to call us.
    Held,
    /// It is being ended.
    Ending,
    /// The platform calls another address; a person must say what is right.
    Taken,
}

impl Phase {
    /// As a person reads it.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Asking => "asking",
            Self::Held => "subscribed",
            Self::Ending => "ending",
            Self::Taken => "taken",
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    /// Ask for it.
    Create,
    /// Ask for a longer lease.
    Renew,
    /// See whether it is still there.
    Check,
    /// End it.
    Delete,
}

/// A subscription as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Subscription {
    /// How far it is.
    pub phase: Phase,
    /// Since when.
    pub since: Time,
    /// The address that the platform was told.
    pub hook: String,
    /// Digest of what it was told beside (secrets, settings): a change of them is told too.
    pub print: String,
    /// When it ends, if it does.
    pub ends: Option<Time>,
    /// When it is to be renewed.
    pub renew_at: Option<Time>,
    /// When its lease was last told.
    pub told_at: Time,
    /// Requests in a row that the platform took and did not confirm.
    pub unconfirmed: u32,
    /// When the platform is asked whether it is still there.
    pub check_at: Option<Time>,
    /// Not before this time, after a failure.
    pub try_at: Option<Time>,
    /// Failures in a row.
    pub failures: u32,
    /// The last of them.
    pub code: Option<String>,
    /// In words.
    pub detail: Option<String>,
    /// It is asked for again because its address or a secret is another one, not because a person said so: what somebody else took
    /// meanwhile stays theirs.
    pub changed: bool,
    /// Addresses that the platform may still call: it was being told another one when we died, and nobody knows whether it heard it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<String>,
    /// What was taken from answers.
    pub values: Map<String, Value>,
}

/// What a granted subscription is bound to.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// How long it lasts; none: until it is ended.
    pub lease: Option<Duration>,
    /// It is renewed so long before.
    pub margin: Duration,
    /// The platform is asked so often whether it is still there; none: it cannot be asked.
    pub check_every: Option<Duration>,
}

impl Subscription {
    /// It is in another phase.
    pub fn turn(&mut self, phase: Phase, now: Time) {
        if self.phase != phase {
            (self.phase, self.since) = (phase, now);
        }
    }

    /// It is (still) asked for from now on.
    pub fn ask(&mut self, now: Time) {
        self.turn(Phase::Asking, now);
        self.try_at = None;
    }

    /// The platform took the request and will confirm it by a call; else it is asked again, in time if there is a lease to lose.
    pub fn promised(&mut self, now: Time) {
        let left = |ends: Time| Duration::from_millis(ends.since_ms(now).max(0).unsigned_abs()) / 2;
        let lease = self.ends.filter(|_| self.phase == Phase::Held);
        // A lease that is over is not asked for faster and faster.
        let least = Duration::from_secs(PAUSES_S.get(self.unconfirmed as usize).copied().unwrap_or(u64::MAX)).min(GRANT_WAIT);
        self.unconfirmed = self.unconfirmed.saturating_add(1);
        self.try_at = Some(now.plus(lease.map_or(GRANT_WAIT, |ends| left(ends).clamp(least, GRANT_WAIT))));
    }

    /// The platform calls us, since `at`.
    pub fn hold(&mut self, at: Time, now: Time, terms: Terms) {
        self.turn(Phase::Held, now);
        self.ends = terms.lease.map(|lease| at.plus(lease));
        self.renew_at = terms.lease.map(|lease| at.plus(lease.saturating_sub(terms.margin).max(RENEW_MIN)));
        (self.told_at, self.unconfirmed) = (at, 0);
        self.check_at = terms.check_every.map(|every| now.plus(every));
        (self.try_at, self.failures, self.code, self.detail) = (None, 0, None, None);
        self.changed = false;
        self.earlier.clear();
    }

    /// This address is about to be told instead of the one that the platform knows; whether it hears it is not known until it answers.
    pub fn move_to(&mut self, hook: String) {
        let before = std::mem::replace(&mut self.hook, hook);
        if !before.is_empty() && !self.earlier.contains(&before) {
            self.earlier.push(before);
        }
    }

    /// The platform calls another address: a person must say what is right.
    pub fn take_away(&mut self, check_at: Time, now: Time) {
        self.turn(Phase::Taken, now);
        (self.check_at, self.changed, self.try_at) = (Some(check_at), false, None);
        self.earlier.clear();
        (self.code, self.detail) =
            (Some(Code::SubscriptionTaken.as_str().to_owned()), Some("the platform calls another address".to_owned()));
    }

    /// The platform knows the hook and does not call it.
    pub fn switch_off(&mut self, check_at: Time, now: Time) {
        self.turn(Phase::Held, now);
        (self.check_at, self.try_at, self.failures) = (Some(check_at), None, 0);
        let detail = "the platform knows the hook and does not call it: it is switched off there".to_owned();
        (self.code, self.detail) = (Some(Code::SubscriptionLost.as_str().to_owned()), Some(detail));
    }

    /// Whether the platform said that it does not call us, though nothing ended.
    pub fn is_off(&self) -> bool {
        self.phase == Phase::Held && self.code.as_deref() == Some(Code::SubscriptionLost.as_str())
    }

    /// Nothing is asked for any more.
    pub fn end(&mut self, now: Time) {
        *self = Self { phase: Phase::None, since: now, hook: std::mem::take(&mut self.hook), ..Self::default() };
    }

    /// Something failed; `after`: what the platform asked for, `person`: only a person can mend it. `jitter` in 0..1.
    pub fn fail(&mut self, code: Code, detail: String, after: Option<Duration>, person: bool, jitter: f64, now: Time) {
        let step = PAUSES_S.get(self.failures as usize).or(PAUSES_S.last()).copied().unwrap_or(60);
        self.failures = self.failures.saturating_add(1);
        let pause = Duration::from_secs(step).mul_f64(0.8 + 0.4 * jitter.clamp(0.0, 1.0)).max(after.unwrap_or_default());
        self.try_at = Some(now.plus(if person { pause.max(PERSON_PACE) } else { pause }));
        (self.code, self.detail) = (Some(code.as_str().to_owned()), Some(detail));
    }

    /// The daemon was started: what it was about to do is done at once, whoever failed before.
    pub fn resume(&mut self) {
        if matches!(self.phase, Phase::Asking | Phase::Ending) || self.failures > 0 {
            self.try_at = None;
        }
    }

    /// Whether its lease ran out.
    pub fn is_over(&self, now: Time) -> bool {
        self.phase == Phase::Held && self.ends.is_some_and(|ends| ends <= now)
    }

    /// Whether a call of the platform is waited for.
    pub fn is_awaited(&self) -> bool {
        self.phase == Phase::Asking || (self.phase == Phase::Held && self.try_at.is_some())
    }

    /// What is to be done next, and when.
    pub fn next(&self, now: Time) -> Option<(Time, Errand)> {
        let (due, errand) = match self.phase {
            Phase::None => return None,
            Phase::Asking => (now, Errand::Create),
            Phase::Ending => (now, Errand::Delete),
            Phase::Taken => (self.check_at?, Errand::Check),
            Phase::Held => match (self.renew_at, self.check_at) {
                // The clock was set back since: nobody knows how much of the lease is left.
                (Some(_), _) if self.told_at > now.plus(CLOCK_SLACK) => (now, Errand::Renew),
                (Some(renew), Some(check)) if check < renew => (check, Errand::Check),
                (Some(renew), _) => (renew, Errand::Renew),
                (None, Some(check)) => (check, Errand::Check),
                (None, None) => return None,
            },
        };
        let not_before = self.try_at.filter(|at| *at <= now.plus(WAIT_MAX));
        Some((not_before.map_or(due, |not_before| due.max(not_before)), errand))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn terms(lease: Option<Duration>, check_every: Option<Duration>) -> Terms {
        Terms { lease, margin: DAY, check_every }
    }

    #[test]
    fn a_lease_is_renewed_before_its_end_and_looked_at_in_between() {
        let mut known = Subscription::default();
        assert_eq!(known.next(Time(0)), None);
        known.ask(Time(0));
        assert_eq!(known.next(Time(5)), Some((Time(5), Errand::Create)));
        known.hold(Time(0), Time(0), terms(Some(7 * DAY), None));
        assert_eq!(known.next(Time(0)), Some((Time(0).plus(6 * DAY), Errand::Renew)));
        known.hold(Time(0), Time(0), terms(Some(7 * DAY), Some(DAY)));
        assert_eq!(known.next(Time(0)), Some((Time(0).plus(DAY), Errand::Check)));
        assert!(!known.is_over(Time(0).plus(7 * DAY).plus_ms(-1)) && known.is_over(Time(0).plus(7 * DAY)));
        known.hold(Time(0), Time(0), terms(None, None));
        assert_eq!((known.next(Time(0)), known.is_over(Time(i64::MAX))), (None, false));
    }

    #[test]
    fn failures_wait_longer_each_time_and_a_start_does_not_wait() {
        let mut known = Subscription::default();
        known.ask(Time(0));
        let mut pauses = Vec::new();
        for _ in 0..9 {
            known.fail(Code::Timeout, "no answer".to_owned(), None, false, 0.5, Time(0));
            pauses.push(known.next(Time(0)).unwrap().0.0 / 1000);
        }
        assert_eq!(pauses, [5, 15, 60, 300, 900, 1_800, 3_600, 3_600, 3_600]);
        known.resume();
        assert_eq!(known.next(Time(9)), Some((Time(9), Errand::Create)));
        known.fail(Code::Denied, "no".to_owned(), None, true, 0.0, Time(0));
        assert!(known.next(Time(0)).unwrap().0 >= Time(0).plus(PERSON_PACE));
    }

    #[test]
    fn a_failed_renewal_keeps_the_end_and_waits_its_turn() {
        let mut known = Subscription::default();
        known.hold(Time(0), Time(0), terms(Some(7 * DAY), None));
        let late = Time(0).plus(6 * DAY);
        known.fail(Code::Failed, "503".to_owned(), Some(Duration::from_secs(90)), false, 0.0, late);
        assert_eq!(known.next(late), Some((late.plus(Duration::from_secs(90)), Errand::Renew)));
        assert_eq!(known.ends, Some(Time(0).plus(7 * DAY)));
    }

    #[test]
    fn a_platform_that_confirms_nothing_is_asked_seldom_also_when_the_lease_is_over() {
        let mut known = Subscription::default();
        known.hold(Time(0), Time(0), terms(Some(DAY), None));
        let mut now = Time(0).plus(2 * DAY);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            known.promised(now);
            let (due, errand) = known.next(now).unwrap();
            assert_eq!(errand, Errand::Renew);
            pauses.push(due.since_ms(now) / 1000);
            now = due;
        }
        assert_eq!(pauses, [5, 15, 60, 300, 600, 600, 600]);
        known.hold(now, now, terms(Some(DAY), None));
        known.promised(now.plus(DAY).plus_ms(-20_000));
        assert_eq!(known.next(now).unwrap().0, now.plus(DAY).plus_ms(-10_000), "in time while there is a lease to lose");
    }

    #[test]
    fn a_lease_of_nothing_is_no_reason_to_ask_without_end() {
        let mut known = Subscription::default();
        known.hold(Time(0), Time(0), Terms { lease: Some(Duration::ZERO), margin: Duration::ZERO, check_every: None });
        assert_eq!(known.next(Time(0)), Some((Time(0).plus(RENEW_MIN), Errand::Renew)));
    }

    #[test]
    fn a_clock_that_was_set_back_loses_no_lease_and_no_attempt() {
        let mut known = Subscription::default();
        let then = Time(0).plus(400 * DAY);
        known.hold(then, then, terms(Some(7 * DAY), None));
        assert_eq!(known.next(Time(7)), Some((Time(7), Errand::Renew)));
        known.fail(Code::Failed, "503".to_owned(), None, false, 0.5, Time(7));
        assert_eq!(known.next(Time(7)), Some((Time(5_007), Errand::Renew)), "it waits as after any failure");
        known.hold(Time(9), Time(9), terms(Some(7 * DAY), None));
        assert_eq!(known.next(Time(9)), Some((Time(9).plus(6 * DAY), Errand::Renew)));
        known.fail(Code::Failed, "503".to_owned(), None, false, 0.5, then);
        known.turn(Phase::Asking, then);
        assert_eq!(known.next(Time(9)), Some((Time(9), Errand::Create)));
    }

    #[test]
    fn an_address_that_may_have_been_told_is_known_until_the_platform_says_which_it_calls() {
        let mut known = Subscription::default();
        known.move_to("a".to_owned());
        assert!(known.earlier.is_empty(), "there was none before");
        for hook in ["b", "a", "b", "c"] {
            known.move_to(hook.to_owned());
        }
        assert_eq!((known.hook.as_str(), known.earlier.join(" ")), ("c", "a b".to_owned()));
        let mut taken = known.clone();
        taken.take_away(Time(9), Time(1));
        known.hold(Time(0), Time(0), terms(None, None));
        assert!(known.earlier.is_empty() && taken.earlier.is_empty());
    }

    #[test]
    fn what_is_taken_is_looked_at_and_never_taken_back() {
        let mut known = Subscription { check_at: Some(Time(50)), ..Subscription::default() };
        known.turn(Phase::Taken, Time(1));
        assert_eq!(known.next(Time(60)), Some((Time(50), Errand::Check)));
    }
}
