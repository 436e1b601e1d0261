//! Turns: who waits for whom in a conversation, and how long answers took. From the times things were said, not from when they reached us.
//!
//! A turn begins with the customer's first message that is not answered and ends with an agent's next words. What a program wrote and
//! notes between agents are neither. What must stay true: answers may be learnt late and out of order, so the times of messages that
//! wait are kept until an answer covers them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::time::Time;

/// Messages that wait for an answer whose times are kept; of more, the first and the last ones are.
const WAITING_MAX: usize = 32;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    /// From the customer's first message to the first answer.
    FirstResponse,
    /// From the customer's first message that waits to the answer, of later turns.
    NextResponse,
    /// From the customer's first message to the ticket being resolved.
    Resolution,
}

impl Span {
    /// All spans.
    pub const ALL: [Self; 3] = [Self::FirstResponse, Self::NextResponse, Self::Resolution];

    /// The word in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FirstResponse => "first_response",
            Self::NextResponse => "next_response",
            Self::Resolution => "resolution",
        }
    }

    /// The small integer a store keeps.
    pub fn number(self) -> i64 {
        match self {
            Self::FirstResponse => 0,
            Self::NextResponse => 1,
            Self::Resolution => 2,
        }
    }
}

/// Upper bounds of the buckets in which spans are counted, seconds; one more without a bound follows. Append none: the store counts by place.
pub const SPAN_BUCKETS_S: [u64; 12] = [60, 300, 900, 1_800, 3_600, 7_200, 14_400, 28_800, 86_400, 172_800, 345_600, 604_800];

/// The bucket of a span.
pub fn bucket(ms: i64) -> usize {
    let fits = |bound: &u64| ms <= i64::try_from(bound.saturating_mul(1_000)).unwrap_or(i64::MAX);
    SPAN_BUCKETS_S.iter().position(fits).unwrap_or(SPAN_BUCKETS_S.len())
}

/// What a conversation remembers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Turns {
    /// The customer's first message.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "q")]
    pub asked_at: Option<Time>,
    /// The first answer to it.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "a")]
    pub answered_at: Option<Time>,
    /// The latest answer.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "l")]
    pub last_answer_at: Option<Time>,
    /// Its ticket is done since.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "r")]
    pub resolved_at: Option<Time>,
    /// The customer's messages that wait for an answer, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "w")]
    waiting: Vec<Time>,
}

/// How a conversation was answered, for people.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TurnsView {
    /// The customer's first message.
    pub asked_at: Option<Time>,
    /// The first answer to it.
    pub answered_at: Option<Time>,
    /// The customer waits for an answer since.
    pub waiting_since: Option<Time>,
    /// Its ticket is done since.
    pub resolved_at: Option<Time>,
}

impl From<&Turns> for TurnsView {
    fn from(turns: &Turns) -> Self {
        Self {
            asked_at: turns.asked_at,
            answered_at: turns.answered_at,
            waiting_since: turns.waiting_since(),
            resolved_at: turns.resolved_at,
        }
    }
}

impl Turns {
    /// Since when the customer waits for an answer.
    pub fn waiting_since(&self) -> Option<Time> {
        self.waiting.first().copied()
    }

    /// The customer said something.
    pub fn asked(&mut self, at: Time) {
        if self.asked_at.is_none_or(|first| at < first) {
            self.asked_at = Some(at);
        }
        if self.last_answer_at.is_some_and(|last| at <= last) {
            return;
        }
        if self.waiting.len() >= WAITING_MAX {
            // The first says since when, the last ones which answer leaves something open.
            self.waiting.remove(1);
        }
        let place = self.waiting.partition_point(|known| *known <= at);
        self.waiting.insert(place, at);
    }

    /// An agent said something. What that ended, and how long it took in ms.
    pub fn answered(&mut self, at: Time) -> Option<(Span, i64)> {
        let began = self.waiting_since().filter(|began| *began <= at);
        self.waiting.retain(|asked| *asked > at);
        self.last_answer_at = self.last_answer_at.max(Some(at));
        // What an agent said before the customer ever spoke is no answer.
        let first = self.asked_at.filter(|first| *first <= at)?;
        match self.answered_at {
            None => {
                self.answered_at = Some(at);
                Some((Span::FirstResponse, at.since_ms(first)))
            }
            // Heard of late: it was counted by the one that came after it.
            Some(known) if at < known => {
                self.answered_at = Some(at);
                None
            }
            Some(_) => began.map(|began| (Span::NextResponse, at.since_ms(began))),
        }
    }

    /// The ticket is done. What that ended, and how long it took in ms.
    pub fn resolved(&mut self, at: Time) -> Option<(Span, i64)> {
        self.waiting.retain(|asked| *asked > at);
        if self.resolved_at.is_some() {
            return None;
        }
        self.resolved_at = Some(at);
        self.asked_at.filter(|first| *first <= at).map(|first| (Span::Resolution, at.since_ms(first)))
    }

    /// The ticket is worked on again.
    pub fn reopened(&mut self) {
        self.resolved_at = None;
    }

    /// Nobody waits for an answer any more: the conversation ended, or was erased.
    pub fn given_up(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(number: i64) -> Time {
        Time(number * 60_000)
    }

    #[test]
    fn the_first_answer_ends_the_first_turn_and_the_next_ones_later_turns() {
        let mut turns = Turns::default();
        turns.asked(minute(10));
        turns.asked(minute(12));
        assert_eq!(turns.waiting_since(), Some(minute(10)));
        assert_eq!(turns.answered(minute(15)), Some((Span::FirstResponse, 5 * 60_000)));
        assert_eq!(turns.answered(minute(16)), None, "more words end no turn");
        turns.asked(minute(20));
        turns.asked(minute(22));
        assert_eq!(turns.answered(minute(29)), Some((Span::NextResponse, 9 * 60_000)));
        assert_eq!(turns.waiting_since(), None);
        assert_eq!(turns.resolved(minute(40)), Some((Span::Resolution, 30 * 60_000)));
        assert_eq!(turns.resolved(minute(41)), None, "resolved, then closed: counted once");
    }

    #[test]
    fn an_answer_that_is_heard_of_late_leaves_open_what_came_after_it() {
        let mut turns = Turns::default();
        turns.asked(minute(10));
        turns.asked(minute(17));
        assert_eq!(turns.answered(minute(15)), Some((Span::FirstResponse, 5 * 60_000)));
        assert_eq!(turns.waiting_since(), Some(minute(17)));
        assert_eq!(turns.answered(minute(12)), None, "an earlier one still");
        assert_eq!(turns.answered_at, Some(minute(12)));
        turns.asked(minute(11));
        assert_eq!(turns.waiting_since(), Some(minute(17)), "what lay before an answer is answered");
    }

    #[test]
    fn what_an_agent_says_first_answers_nothing() {
        let mut turns = Turns::default();
        assert_eq!(turns.answered(minute(5)), None);
        turns.asked(minute(10));
        assert_eq!(turns.answered(minute(7)), None);
        assert_eq!(turns.waiting_since(), Some(minute(10)));
        assert_eq!(turns.answered(minute(11)), Some((Span::FirstResponse, 60_000)));
    }

    #[test]
    fn what_waits_is_bounded_and_keeps_the_first_and_the_last() {
        let mut turns = Turns::default();
        (0..200).for_each(|number| turns.asked(minute(number)));
        assert_eq!(turns.waiting.len(), WAITING_MAX);
        assert_eq!((turns.waiting_since(), turns.waiting.last()), (Some(minute(0)), Some(&minute(199))));
        turns.answered(minute(198));
        assert_eq!(turns.waiting_since(), Some(minute(199)));
    }

    #[test]
    fn buckets_hold_their_bound() {
        assert_eq!((bucket(0), bucket(60_000), bucket(60_001), bucket(i64::MAX)), (0, 0, 1, SPAN_BUCKETS_S.len()));
    }
}
