//! The board: what state each channel is in, for readiness, status and metrics. Written by the tasks, read by the surfaces.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::model::codes::Code;
use crate::model::raw::Via;
use crate::model::time::Time;
use crate::ports::control::ChannelStatus;

/// Words of `ChannelStatus::state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelMode {
    /// Works.
    Running,
    /// First connection is being made.
    Connecting,
    /// Does not work at the moment; tried again.
    Degraded,
    /// Cannot work until its file or secret is mended.
    Failed,
    /// Switched off in its file.
    Disabled,
}

impl ChannelMode {
    /// All modes.
    pub const ALL: [Self; 5] = [Self::Running, Self::Connecting, Self::Degraded, Self::Failed, Self::Disabled];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Connecting => "connecting",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
            Self::Disabled => "disabled",
        }
    }
}

/// States of all channels.
#[derive(Debug, Default)]
pub struct Board {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    channels: BTreeMap<String, ChannelStatus>,
    /// What does not work of a channel, by the way its messages come: one that works again does not make the other work.
    ailing: BTreeMap<(String, Via), (Option<String>, Option<String>)>,
    /// Channels that operators were told of and that were begun anew since (a reload): they are still to hear that it works again.
    owed: BTreeMap<String, Time>,
}

/// What changed on the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    /// Nothing an operator needs to hear.
    Same,
    /// It worked, and no longer does.
    Degraded,
    /// It works again.
    Recovered {
        /// Since when it did not.
        since: Time,
    },
}

impl Board {
    /// Puts a channel on the board, or replaces it.
    pub fn place(&self, id: &str, status: ChannelStatus) {
        let mut known = self.lock();
        let begins = status.state == ChannelMode::Connecting.as_str();
        match known.channels.insert(id.to_owned(), status) {
            Some(was) if begins && is_bad(&was.state) => {
                known.owed.entry(id.to_owned()).or_insert(was.since);
            }
            _ if begins => {}
            _ => {
                known.owed.remove(id);
            }
        }
        known.show_ailing(id);
    }

    /// A channel is no longer connected this way.
    pub fn leave(&self, id: &str, road: Via) {
        self.lock().ailing.remove(&(id.to_owned(), road));
    }

    /// Takes a channel off.
    pub fn remove(&self, id: &str) {
        let mut known = self.lock();
        known.channels.remove(id);
        known.owed.remove(id);
        known.ailing.retain(|(channel, _), _| channel != id);
    }

    /// A channel turned to `mode`, as far as messages come by `road`. Tells whether operators should hear of it.
    pub fn turn(&self, id: &str, road: Via, mode: ChannelMode, code: Option<Code>, detail: Option<String>, now: Time) -> Turned {
        let mut known = self.lock();
        let place = (id.to_owned(), road);
        if mode == ChannelMode::Degraded {
            known.ailing.insert(place, (code.map(|code| code.as_str().to_owned()), detail.clone()));
        } else {
            known.ailing.remove(&place);
            if mode == ChannelMode::Running && known.show_ailing(id) {
                return Turned::Same;
            }
        }
        let owed = if mode == ChannelMode::Running { known.owed.remove(id) } else { known.owed.get(id).copied() };
        let Some(status) = known.channels.get_mut(id) else { return Turned::Same };
        let (was_bad, is_bad) = (owed.is_some() || is_bad(&status.state), is_bad(mode.as_str()));
        let since = owed.unwrap_or(status.since);
        if status.state != mode.as_str() {
            status.since = now;
        }
        status.state = mode.as_str().to_owned();
        status.code = code.map(|code| code.as_str().to_owned());
        status.detail = detail;
        match (was_bad, is_bad) {
            (false, true) => Turned::Degraded,
            (true, false) if mode == ChannelMode::Running => Turned::Recovered { since },
            _ => Turned::Same,
        }
    }

    /// Part of a channel does not work, while the rest goes on.
    pub fn note(&self, id: &str, code: Code, detail: String) {
        if let Some(status) = self.lock().channels.get_mut(id) {
            status.code = Some(code.as_str().to_owned());
            status.detail = Some(detail);
        }
    }

    /// What was noted of a channel is well again.
    pub fn mended(&self, id: &str) {
        if let Some(status) = self.lock().channels.get_mut(id).filter(|status| status.state == ChannelMode::Running.as_str()) {
            (status.code, status.detail) = (None, None);
        }
    }

    /// A channel heard from its platform.
    pub fn heard(&self, id: &str, now: Time) {
        if let Some(status) = self.lock().channels.get_mut(id) {
            status.last_received = Some(now);
        }
    }

    /// A copy of all.
    pub fn read(&self) -> BTreeMap<String, ChannelStatus> {
        self.lock().channels.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_bad(state: &str) -> bool {
    state == ChannelMode::Degraded.as_str() || state == ChannelMode::Failed.as_str()
}

impl Known {
    /// Shows what of a channel does not work; false if all of it does.
    fn show_ailing(&mut self, id: &str) -> bool {
        let Some((_, (code, detail))) = self.ailing.iter().find(|((channel, _), _)| channel == id) else { return false };
        if let Some(status) = self.channels.get_mut(id) {
            ChannelMode::Degraded.as_str().clone_into(&mut status.state);
            (status.code, status.detail) = (code.clone(), detail.clone());
        }
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_road_that_works_again_does_not_make_the_other_work() {
        let board = Board::default();
        let status = ChannelStatus {
            connector: "x".to_owned(),
            state: ChannelMode::Connecting.as_str().to_owned(),
            code: None,
            detail: None,
            since: Time(1),
            last_received: None,
            hook: None,
        };
        board.place("a", status.clone());
        let turn = |road, mode, code| board.turn("a", road, mode, code, None, Time(2));
        assert_eq!(turn(Via::Poll, ChannelMode::Degraded, Some(Code::Throttled)), Turned::Degraded);
        assert_eq!(turn(Via::Stream, ChannelMode::Degraded, Some(Code::AuthFailed)), Turned::Same);
        assert_eq!(turn(Via::Poll, ChannelMode::Running, None), Turned::Same);
        assert_eq!(board.read()["a"].code.as_deref(), Some("auth_failed"));
        board.place("a", status);
        assert_eq!(board.read()["a"].state, "degraded", "a reload does not mend it");
        assert_eq!(
            turn(Via::Stream, ChannelMode::Running, None),
            Turned::Recovered { since: Time(2) },
            "since it was bad, not since the reload"
        );
    }

    #[test]
    fn what_was_told_before_a_reload_is_taken_back_after_it() {
        let board = Board::default();
        let status = |state: ChannelMode, since| ChannelStatus {
            connector: "x".to_owned(),
            state: state.as_str().to_owned(),
            code: None,
            detail: None,
            since: Time(since),
            last_received: None,
            hook: None,
        };
        board.place("a", status(ChannelMode::Running, 1));
        let turn = |mode, now| board.turn("a", Via::Stream, mode, Some(Code::AuthFailed), None, Time(now));
        assert_eq!(turn(ChannelMode::Degraded, 2), Turned::Degraded);
        board.leave("a", Via::Stream);
        board.place("a", status(ChannelMode::Connecting, 3));
        assert_eq!(turn(ChannelMode::Degraded, 4), Turned::Same, "it was told");
        board.leave("a", Via::Stream);
        board.place("a", status(ChannelMode::Connecting, 5));
        assert_eq!(turn(ChannelMode::Running, 6), Turned::Recovered { since: Time(2) });
        assert_eq!(turn(ChannelMode::Running, 7), Turned::Same);
    }
}
