//! The board: what state each channel is in, for readiness, status and metrics. Written by the tasks, read by the surfaces.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::model::codes::Code;
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
    channels: Mutex<BTreeMap<String, ChannelStatus>>,
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
        self.lock().insert(id.to_owned(), status);
    }

    /// Takes a channel off.
    pub fn remove(&self, id: &str) {
        self.lock().remove(id);
    }

    /// A channel turned to `mode`. Tells whether operators should hear of it.
    pub fn turn(&self, id: &str, mode: ChannelMode, code: Option<Code>, detail: Option<String>, now: Time) -> Turned {
        let mut channels = self.lock();
        let Some(status) = channels.get_mut(id) else { return Turned::Same };
        let bad = |state: &str| state == ChannelMode::Degraded.as_str() || state == ChannelMode::Failed.as_str();
        let (was_bad, is_bad) = (bad(&status.state), bad(mode.as_str()));
        let since = status.since;
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
        if let Some(status) = self.lock().get_mut(id) {
            status.code = Some(code.as_str().to_owned());
            status.detail = Some(detail);
        }
    }

    /// A channel heard from its platform.
    pub fn heard(&self, id: &str, now: Time) {
        if let Some(status) = self.lock().get_mut(id) {
            status.last_received = Some(now);
        }
    }

    /// A copy of all.
    pub fn read(&self) -> BTreeMap<String, ChannelStatus> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, ChannelStatus>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
