//! Door: whether a destination may be sent to at all. A plain state machine: mode, asked-for patience, breaker.

use std::time::Duration;

use crate::logic::breaker::{Breaker, Change, Gate};
use crate::logic::schedule::{DENIED_PROBE_EVERY, Effect, Health, Judged};
use crate::model::codes::Code;
use crate::model::delivery::Verdict;
use crate::model::view::DestinationMode;

/// Patience that nothing was delivered between grows up to this, where less was asked for.
const PATIENCE_GROWN_MAX: Duration = Duration::from_secs(60);

/// What may go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// As much as rate and concurrency allow.
    All,
    /// One, to see whether it works again.
    Probe,
    /// Nothing, until this monotone time, or until something happens.
    Shut(Option<Duration>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Active,
    ByHand,
    Denied { probe_at: Duration, probing: bool },
    Halted,
}

/// A change of mode that operators hear of.
pub(super) type ModeChange = (DestinationMode, Option<Code>);

/// The door of one destination.
#[derive(Debug)]
pub(super) struct Door {
    mode: Mode,
    patient_until: Duration,
    /// Patiences asked for one after the other, with nothing delivered between.
    waits: u32,
    breaker: Breaker,
    open: bool,
}

impl Door {
    /// As the store knows it. What resumes by itself is probed at once: a restart is often the mending.
    pub(super) fn new(mode: DestinationMode, code: Option<&str>, now: Duration) -> Self {
        let by_hand = code == Some(Code::PausedByHand.as_str());
        let denied = code == Some(Code::Denied.as_str());
        let (mode, broken) = match mode {
            DestinationMode::Active => (Mode::Active, false),
            _ if by_hand => (Mode::ByHand, false),
            DestinationMode::Halted => (Mode::Halted, false),
            DestinationMode::Paused if denied => (Mode::Denied { probe_at: now, probing: false }, false),
            DestinationMode::Paused => (Mode::Active, true),
        };
        let breaker = if broken { Breaker::opened(now) } else { Breaker::default() };
        Self { mode, patient_until: Duration::ZERO, waits: 0, breaker, open: broken }
    }

    /// A person paused it.
    pub(super) fn pause(&mut self) {
        self.mode = Mode::ByHand;
    }

    /// A person resumed it: everything that kept it shut is forgotten.
    pub(super) fn resume(&mut self) {
        *self = Self { mode: Mode::Active, patient_until: Duration::ZERO, waits: 0, breaker: Breaker::default(), open: false };
    }

    /// The mode as operators see it.
    pub(super) fn mode(&self) -> DestinationMode {
        match self.mode {
            // A pause by hand ends by hand: for operators that is a halt.
            Mode::Halted | Mode::ByHand => DestinationMode::Halted,
            Mode::Active if !self.open => DestinationMode::Active,
            _ => DestinationMode::Paused,
        }
    }

    /// Whether the breaker is open.
    pub(super) fn breaker_open(&self) -> bool {
        self.open
    }

    /// What may go now.
    pub(super) fn pass(&self, now: Duration) -> Pass {
        let breaker = match self.breaker.gate(now) {
            Gate::Closed => Pass::All,
            Gate::HalfOpen => Pass::Probe,
            Gate::Open { until } => Pass::Shut((until > now).then_some(until)),
        };
        match self.mode {
            Mode::ByHand | Mode::Halted | Mode::Denied { probing: true, .. } => Pass::Shut(None),
            _ if now < self.patient_until => Pass::Shut(Some(self.patient_until)),
            Mode::Denied { probe_at, .. } if now < probe_at => Pass::Shut(Some(probe_at)),
            Mode::Denied { .. } if breaker == Pass::All => Pass::Probe,
            _ => breaker,
        }
    }

    /// A probe goes out.
    pub(super) fn probe(&mut self) {
        self.breaker.probe();
        if let Mode::Denied { probing, .. } = &mut self.mode {
            *probing = true;
        }
    }

    /// A probe did not go out after all.
    pub(super) fn unprobe(&mut self, now: Duration) {
        self.breaker.observe(Health::Neither, true, now);
        if let Mode::Denied { probing, .. } = &mut self.mode {
            *probing = false;
        }
    }

    /// It asked for patience. Where a delivery is several calls and the wait brings room for one, each attempt would end in the middle, for
    /// ever: the wait doubles until something is delivered.
    fn wait(&mut self, span: Duration, now: Duration) {
        // What was under way when the first was told to wait is no new reason.
        if now >= self.patient_until {
            self.waits = self.waits.saturating_add(1);
        }
        let factor = 1_u32 << self.waits.saturating_sub(1).min(6);
        let grown = if factor > 1 { (span.max(Duration::from_secs(1)) * factor).min(PATIENCE_GROWN_MAX) } else { span };
        self.patient_until = self.patient_until.max(now + span.max(grown));
    }

    /// An attempt ended. Returns the change of mode that operators hear of, if any.
    pub(super) fn observe(&mut self, judged: &Judged, probe: bool, now: Duration) -> Option<ModeChange> {
        match (judged.effect, &judged.verdict) {
            (Effect::Wait(span), _) => self.wait(span, now),
            (_, Verdict::Delivered) => self.waits = 0,
            _ => {}
        }
        let was = self.mode();
        match self.breaker.observe(judged.health, probe, now) {
            Change::Opened => self.open = true,
            Change::Closed => self.open = false,
            Change::None => {}
        }
        match (judged.effect, self.mode) {
            (Effect::Halted, _) => self.mode = Mode::Halted,
            (Effect::Denied, Mode::Active) => self.mode = Mode::Denied { probe_at: now + DENIED_PROBE_EVERY, probing: false },
            (_, Mode::Denied { .. }) if probe && judged.health == Health::Good => self.mode = Mode::Active,
            (_, Mode::Denied { .. }) if probe => self.mode = Mode::Denied { probe_at: now + DENIED_PROBE_EVERY, probing: false },
            _ => {}
        }
        let is = self.mode();
        let code = match judged.verdict {
            Verdict::Retry { code, .. } | Verdict::Dead { code } => Some(code),
            Verdict::Delivered => None,
        };
        // A pause by hand is a person's word; nothing the destination answers is news beside it.
        (was != is && self.mode != Mode::ByHand).then_some((is, code.filter(|_| is != DestinationMode::Active)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Time;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn judged(effect: Effect, health: Health) -> Judged {
        let verdict = match health {
            Health::Good => Verdict::Delivered,
            _ => Verdict::Retry { due_at: Time(0), code: Code::Failed, counted: true },
        };
        Judged { verdict, effect, health, status: None, detail: None }
    }

    #[test]
    fn refused_credentials_pause_it_and_a_probe_each_quarter_of_an_hour_resumes_it() {
        let mut door = Door::new(DestinationMode::Active, None, s(0));
        let denied = judged(Effect::Denied, Health::Neither);
        assert_eq!(door.observe(&denied, false, s(0)), Some((DestinationMode::Paused, Some(Code::Failed))));
        assert_eq!(door.observe(&denied, false, s(1)), None);
        for n in 1..=4 {
            assert_eq!(door.pass(s(900 * n - 1)), Pass::Shut(Some(s(900 * n))));
            assert_eq!(door.pass(s(900 * n)), Pass::Probe);
            door.probe();
            assert_eq!(door.pass(s(900 * n)), Pass::Shut(None));
            assert_eq!(door.observe(&denied, true, s(900 * n)), None);
        }
        door.probe();
        assert_eq!(door.observe(&judged(Effect::None, Health::Good), true, s(4500)), Some((DestinationMode::Active, None)));
        assert_eq!(door.pass(s(4500)), Pass::All);
    }

    #[test]
    fn gone_halts_it_until_a_person_resumes() {
        let mut door = Door::new(DestinationMode::Active, None, s(0));
        door.observe(&judged(Effect::Halted, Health::Neither), false, s(0));
        assert_eq!((door.mode(), door.pass(s(1_000_000))), (DestinationMode::Halted, Pass::Shut(None)));
        door.resume();
        assert_eq!(door.pass(s(0)), Pass::All);
    }

    #[test]
    fn patience_doubles_until_something_is_delivered() {
        let mut door = Door::new(DestinationMode::Active, None, s(0));
        let wait = |span| judged(Effect::Wait(s(span)), Health::Neither);
        let mut now = 0;
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            // Two were under way.
            door.observe(&wait(1), false, s(now));
            door.observe(&wait(1), false, s(now));
            assert_eq!(door.pass(s(now)), Pass::Shut(Some(s(now + pause))));
            now += pause;
            assert_eq!(door.pass(s(now)), Pass::All);
        }
        door.observe(&judged(Effect::None, Health::Good), false, s(now));
        door.observe(&wait(0), false, s(now));
        assert_eq!(door.pass(s(now)), Pass::All, "none was asked for");
        door.observe(&wait(7_200), false, s(now));
        assert_eq!(door.pass(s(now)), Pass::Shut(Some(s(now + 7_200))), "never less than what was asked for");
    }

    #[test]
    fn asked_for_patience_holds_everything_and_is_no_news() {
        let mut door = Door::new(DestinationMode::Active, None, s(0));
        assert_eq!(door.observe(&judged(Effect::Wait(s(60)), Health::Neither), false, s(0)), None);
        assert_eq!(door.pass(s(59)), Pass::Shut(Some(s(60))));
        assert_eq!(door.pass(s(60)), Pass::All);
    }

    #[test]
    fn the_breaker_is_told_once_when_it_opens_and_once_when_it_closes() {
        let mut door = Door::new(DestinationMode::Active, None, s(0));
        let bad = judged(Effect::None, Health::Bad);
        let news: Vec<_> = (0..20).filter_map(|_| door.observe(&bad, false, s(0))).collect();
        assert_eq!(news, [(DestinationMode::Paused, Some(Code::Failed))]);
        assert_eq!(door.pass(s(5)), Pass::Probe);
        door.probe();
        assert_eq!(door.observe(&judged(Effect::None, Health::Good), true, s(6)), Some((DestinationMode::Active, None)));
    }

    #[test]
    fn after_a_restart_what_resumes_by_itself_is_probed_at_once() {
        for (code, expected) in [("denied", Pass::Probe), ("connect", Pass::Probe), ("paused_by_hand", Pass::Shut(None))] {
            assert_eq!(Door::new(DestinationMode::Paused, Some(code), s(9)).pass(s(9)), expected, "{code}");
        }
        assert_eq!(Door::new(DestinationMode::Halted, Some("gone"), s(9)).pass(s(9)), Pass::Shut(None));
    }
}
