//! A peer's silence: when to ask whether it is still there, and when to believe that it is not.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::codes::Code;
use crate::ports::pull::PullError;

/// How long a peer may be silent.
pub struct Silence {
    /// It is asked after so long, and must have said anything within so long.
    ask: Option<(Duration, Duration)>,
    /// It is gone after so long, asked or not.
    most: Option<Duration>,
    heard_at: Instant,
    asked_at: Option<Instant>,
}

impl Silence {
    /// Silence from `now` on. `ask`: after how long the peer is asked, and within how long it must say something. `most`: how long it may
    /// be silent at all.
    pub fn new(ask: Option<(Duration, Duration)>, most: Option<Duration>, now: Instant) -> Self {
        Self { ask, most, heard_at: now, asked_at: None }
    }

    /// It said something.
    pub fn broken(&mut self, now: Instant) {
        self.heard_at = now;
        self.asked_at = None;
    }

    /// When [`Silence::due`] is to be called next.
    pub fn wake(&self) -> Option<Instant> {
        let ask = self.ask.map(|(after, within)| self.asked_at.map_or(self.heard_at + after, |asked| asked + within));
        let most = self.most.map(|most| self.heard_at + most);
        ask.into_iter().chain(most).min()
    }

    /// Whether the peer is to be asked now; it counts as asked then.
    ///
    /// # Errors
    /// It has been silent for too long.
    pub fn due(&mut self, now: Instant, place: &str) -> Result<bool, PullError> {
        let lost = |detail: String| PullError::Lost { code: Code::ConnectionLost, detail, after: None };
        if let Some(most) = self.most
            && now >= self.heard_at + most
        {
            return Err(lost(format!("{place} has been silent for {} s", most.as_secs())));
        }
        let Some((after, within)) = self.ask else { return Ok(false) };
        match self.asked_at {
            Some(asked) if now >= asked + within => Err(lost(format!("{place} does not answer pings"))),
            None if now >= self.heard_at + after => {
                self.asked_at = Some(now);
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}
