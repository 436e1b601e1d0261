//! Views: what the admin API and the command line show of the store. Serialized in `/v1` answers and `--json` output.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::delivery::{DeliveryState, Position};
use crate::model::id::{ContactId, ConversationId, EventId, MessageId, RawId};
use crate::model::item::Fate;
use crate::model::raw::Via;
use crate::model::ticket::{TicketEntryRow, TicketRow};
use crate::model::time::Time;
use crate::model::turns::SPAN_BUCKETS_S;

/// One row of the ledger: what became of one item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LedgerRow {
    /// Number of the item, grows.
    pub item: i64,
    /// The raw it came in.
    pub raw: RawId,
    /// The hook or channel the raw came in by.
    pub source: String,
    /// How.
    pub via: Via,
    /// The channel; null where none is known (unknown account).
    pub channel: Option<String>,
    /// What it was: `message`, `edit`, `delete`, `reaction`, `receipt`, `ignored`, `quarantined`, `raw`.
    pub kind: String,
    /// What became of it.
    pub fate: Fate,
    /// Why: code of an ignored, quarantined or pending item.
    pub code: Option<String>,
    /// The item it repeats.
    pub duplicate_of: Option<i64>,
    /// The message it is or belongs to.
    pub message: Option<MessageId>,
    /// The conversation.
    pub conversation: Option<ConversationId>,
    /// The event it became.
    pub event: Option<EventId>,
    /// The tickets of its conversation: `destination:ticket`, in the order they were opened.
    #[serde(default)]
    pub tickets: Vec<String>,
    /// When it was received.
    pub received_at: Time,
}

/// Which rows of the ledger. Empty fields do not filter.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerFilter {
    /// Of this channel (or source).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// With this fate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fate: Option<Fate>,
    /// Of this raw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<RawId>,
    /// Of this message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageId>,
    /// Of this conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<ConversationId>,
    /// Received at or after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Item numbers below this (to page back).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// At most this many, newest first; 0 means 100, capped at 10,000.
    #[serde(default)]
    pub limit: u32,
}

/// One event of a message, with its deliveries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventView {
    /// Its position.
    pub position: Position,
    /// Its id.
    pub id: EventId,
    /// Its type.
    pub event_type: String,
    /// Sequence in its conversation; 0 without one.
    pub sequence: u64,
    /// The frozen event; null after retention or erasure.
    pub event: Option<serde_json::Value>,
    /// What became of its deliveries.
    pub deliveries: Vec<DeliveryView>,
    /// What it became in ticket systems.
    #[serde(default)]
    pub entries: Vec<TicketEntryRow>,
}

/// One delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryView {
    /// The destination.
    pub destination: String,
    /// The event's position.
    pub position: Position,
    /// The event's id.
    pub event: EventId,
    /// The event's type.
    pub event_type: String,
    /// The conversation.
    pub conversation: Option<ConversationId>,
    /// What became of it.
    pub state: DeliveryState,
    /// Attempts made.
    pub attempts: u32,
    /// A replay.
    pub replay: bool,
    /// Why it failed last.
    pub code: Option<String>,
    /// HTTP status of the last answer.
    pub status: Option<u16>,
    /// One line about the last failure.
    pub detail: Option<String>,
    /// Waiting: not before; else when it was decided.
    pub at: Time,
}

/// Which deliveries. Empty fields do not filter.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeliveryFilter {
    /// To this destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// In this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<DeliveryState>,
    /// Of this event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventId>,
    /// Of this conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<ConversationId>,
    /// Of events of this type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// With this code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Of events published at or after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Of events published before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// Positions above this (to page on).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Position>,
    /// At most this many; 0 means 100, capped at 10,000.
    #[serde(default)]
    pub limit: u32,
}

/// A message with everything the store knows about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MessageView {
    /// Its id.
    pub id: MessageId,
    /// Its keyed digest.
    pub key: String,
    /// Its conversation.
    pub conversation: ConversationId,
    /// Its contact.
    pub contact: Option<ContactId>,
    /// Its channel.
    pub channel: String,
    /// Deleted by its author or erased: a tombstone.
    pub gone: bool,
    /// The tickets of its conversation, newest first.
    #[serde(default)]
    pub tickets: Vec<TicketRow>,
    /// Its events, in publish order.
    pub events: Vec<EventView>,
    /// Its rows in the ledger.
    pub ledger: Vec<LedgerRow>,
}

/// A quarantined item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QuarantineRow {
    /// Number of the item.
    pub item: i64,
    /// The raw.
    pub raw: RawId,
    /// The hook or channel.
    pub source: String,
    /// The channel, if known.
    pub channel: Option<String>,
    /// Why.
    pub code: String,
    /// One line.
    pub detail: String,
    /// Size of the raw.
    pub bytes: u64,
    /// When.
    pub received_at: Time,
}

/// A destination's state in the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DestinationRow {
    /// Its name.
    pub name: String,
    /// What it does now.
    pub state: DestinationMode,
    /// Why, if it does not take events.
    pub code: Option<String>,
    /// Since when.
    pub since: Time,
    /// Deliveries by state.
    pub deliveries: BTreeMap<String, u64>,
    /// Due time of the oldest waiting delivery's event: when it was published.
    pub oldest_waiting: Option<Time>,
    /// The oldest delivery that was tried and will be again, if there is one.
    pub retrying: Option<Retrying>,
    /// It is in the configuration.
    pub configured: bool,
}

/// What became of the last attempt of a delivery that is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Retrying {
    /// When it was tried first.
    pub since: Time,
    /// Attempts that counted.
    pub attempts: u32,
    /// Why the last one failed.
    pub code: Option<String>,
    /// One line of it.
    pub detail: Option<String>,
}

/// What a destination does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DestinationMode {
    /// Takes events.
    Active,
    /// Paused; resumes by itself (after a probe, or when told to wait).
    Paused,
    /// Halted; a person resumes or drops.
    Halted,
}

/// All totals, read from one snapshot (I3).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Totals {
    /// Items received, by channel (or source).
    pub received: BTreeMap<String, u64>,
    /// Items by channel and fate word.
    pub fates: BTreeMap<String, BTreeMap<String, u64>>,
    /// Deliveries due, by destination.
    pub due: BTreeMap<String, u64>,
    /// Deliveries by destination and state word.
    pub deliveries: BTreeMap<String, BTreeMap<String, u64>>,
    /// Conversations that wait for an answer, of channels whose answers were ever heard of.
    #[serde(default)]
    pub waiting: BTreeMap<String, u64>,
    /// How long answers took, by channel and `first_response`, `next_response` or `resolution`.
    #[serde(default)]
    pub spans: BTreeMap<String, BTreeMap<String, Spans>>,
}

/// Spans of time, counted in buckets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Spans {
    /// How many lie in each bucket of [`SPAN_BUCKETS_S`], and beyond the last.
    pub buckets: [u64; SPAN_BUCKETS_S.len() + 1],
    /// Their sum, ms.
    pub sum_ms: u64,
}

impl Default for Spans {
    fn default() -> Self {
        Self { buckets: [0; SPAN_BUCKETS_S.len() + 1], sum_ms: 0 }
    }
}

impl Spans {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The mean, ms.
    pub fn mean_ms(&self) -> Option<u64> {
        self.sum_ms.checked_div(self.count())
    }
}

/// What a retention pass did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Swept {
    /// Raws removed.
    pub raws: u64,
    /// Events whose bytes were removed.
    pub events: u64,
    /// Ledger rows folded away.
    pub ledger: u64,
    /// Keys of blobs that nothing names any more: the caller deletes them.
    pub blobs: Vec<String>,
    /// There is more to do.
    pub more: bool,
}

/// What an erasure did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Erased {
    /// Messages whose content is gone.
    pub messages: u64,
    /// Raws removed.
    pub raws: u64,
    /// Waiting deliveries that became `erased`.
    pub deliveries: u64,
    /// Keys of blobs to delete: the caller deletes them.
    pub blobs: Vec<String>,
}
