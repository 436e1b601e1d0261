//! Deliveries: the obligation to hand one event to one destination, and what can become of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::codes::Code;
use crate::model::id::{ConversationId, EventId};
use crate::model::time::Time;

/// Commit-order position of an event in the store. Opaque outside; grows, with possible gaps.
pub type Position = i64;

/// What became of a delivery. `due = delivered + dead + discarded + erased + waiting` (I3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Still owed.
    Waiting,
    /// The destination has it.
    Delivered,
    /// Needs a person.
    Dead,
    /// A person decided to drop it.
    Discarded,
    /// Its content was erased.
    Erased,
}

impl DeliveryState {
    /// All states.
    pub const ALL: [Self; 5] = [Self::Waiting, Self::Delivered, Self::Dead, Self::Discarded, Self::Erased];

    /// The word in tables and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Discarded => "discarded",
            Self::Erased => "erased",
        }
    }

    /// The small integer a store keeps.
    pub fn number(self) -> i64 {
        match self {
            Self::Waiting => 0,
            Self::Delivered => 1,
            Self::Dead => 2,
            Self::Discarded => 3,
            Self::Erased => 4,
        }
    }

    /// The state behind [`Self::number`].
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.number() == number)
    }
}

/// One obligation, as the scheduler sees it: small, without the event's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The event.
    pub position: Position,
    /// The lane: deliveries of one lane go one after the other. 0 for events without a conversation.
    pub lane: i64,
    /// Attempts made so far.
    pub attempts: u32,
    /// Not before this time.
    pub due_at: Time,
    /// When the first attempt was made, if any.
    pub first_attempt_at: Option<Time>,
    /// This is a replay: outside of the order (I4), marked by a header.
    pub replay: bool,
}

/// An event as it goes out: frozen bytes and what the headers need.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The event's id, the `webhook-id`.
    pub event: EventId,
    /// The event's type.
    pub event_type: String,
    /// The conversation, if any.
    pub conversation: Option<ConversationId>,
    /// The channel id, if any.
    pub channel: Option<String>,
    /// Sequence in the conversation; 0 for events without one.
    pub sequence: u64,
    /// Sequence of the event this destination got before in this conversation; 0 for the first.
    pub previous: u64,
    /// The frozen event, JSON.
    pub bytes: bytes::Bytes,
    /// This attempt's number, from 1.
    pub attempt: u32,
    /// A replay.
    pub replay: bool,
}

/// The outcome of one attempt, decided; recorded in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The destination.
    pub destination: String,
    /// The event.
    pub position: Position,
    /// A replay row (they live beside the first delivery).
    pub replay: bool,
    /// What becomes of it.
    pub verdict: Verdict,
    /// When the attempt ended.
    pub at: Time,
    /// HTTP status or null.
    pub status: Option<u16>,
    /// One line for a person, redacted, at most 300 bytes.
    pub detail: Option<String>,
    /// Fencing token of the lease under which it was sent.
    pub lease_epoch: u64,
}

/// What becomes of a delivery after an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The destination has it.
    Delivered,
    /// Try again at `due_at`; `counted` says whether the attempt used up a step of the schedule.
    Retry {
        /// Not before.
        due_at: Time,
        /// Why.
        code: Code,
        /// The attempt counts against the schedule.
        counted: bool,
    },
    /// A person is needed.
    Dead {
        /// Why.
        code: Code,
    },
}
