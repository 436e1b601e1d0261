//! Tx: what the verbs of `logic::admit` and `logic::decide` use inside the one transaction of a group commit.
//!
//! The rules of admission are written once, over this; a store only keeps rows. A method that answers with an error leaves its write
//! to be undone whole by the store. Several tables (totals above all) change with a row here and not by a call of their own.

use std::collections::BTreeMap;

use crate::model::address::Address;
use crate::model::delivery::{DeliveryState, Position};
use crate::model::event::{Attachment, Contact};
use crate::model::id::{AttachmentId, ContactId, ConversationId, EventId, MessageId, RawId};
use crate::model::item::{Fate, FilePlace, HoldReason};
use crate::model::key::KeyDigest;
use crate::model::ticket::{FollowedTicket, TicketEntry, TicketLink, TicketStatus};
use crate::model::time::Time;
use crate::model::turns::{Span, Turns};
use crate::model::view::DestinationMode;
use crate::ports::store::{CursorCommit, RawRecord, SourceCommit, StoreError};

/// Row numbers of a store; small integers, only meaningful inside it.
pub type RowNumber = i64;

/// What a unique key said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim<T> {
    /// It was free and is now ours.
    New(T),
    /// Somebody has it.
    Known(T),
}

/// A ledger row to write.
#[derive(Debug, Clone)]
pub struct LedgerEntry<'a> {
    /// The raw.
    pub raw: RowNumber,
    /// Channel (or the source where the channel is unknown).
    pub channel: &'a str,
    /// Word for the kind of item, of [`ITEM_KINDS`].
    pub kind: &'static str,
    /// Its fate.
    pub fate: Fate,
    /// Its code.
    pub code: Option<&'a str>,
    /// One line for a quarantined item.
    pub detail: Option<&'a str>,
    /// The item it repeats.
    pub duplicate_of: Option<i64>,
    /// The message.
    pub message: Option<RowNumber>,
    /// The event.
    pub event: Option<Position>,
    /// When received.
    pub received_at: Time,
}

/// Words for the kind of an item. A store keeps the place in this list: append only.
pub const ITEM_KINDS: [&str; 10] =
    ["message", "edit", "delete", "reaction", "receipt", "ignored", "quarantined", "raw", "ticket", "update"];

/// Events that are read to know what was told of a message.
pub const EVENTS_ABOUT_MAX: usize = 50;

/// How the fate of an item changes: only from pending or quarantined (I1).
#[derive(Debug, Clone)]
pub struct FateChange<'a> {
    /// The new fate.
    pub fate: Fate,
    /// Its code.
    pub code: Option<&'a str>,
    /// Word for the kind of item, where that is known only now.
    pub kind: Option<&'static str>,
    /// The item it repeats.
    pub duplicate_of: Option<i64>,
    /// The message.
    pub message: Option<RowNumber>,
    /// The event.
    pub event: Option<Position>,
    /// The raw it is read from by now, if that is another one.
    pub raw: Option<RowNumber>,
}

/// What the rules need of an item in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerItem {
    /// Its raw.
    pub raw: RowNumber,
    /// Its channel or source.
    pub channel: String,
    /// Its fate.
    pub fate: Fate,
    /// Its message.
    pub message: Option<RowNumber>,
    /// When it was received.
    pub received_at: Time,
}

/// A conversation's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationRow {
    /// Its row.
    pub row: RowNumber,
    /// Its id.
    pub id: ConversationId,
    /// Subject of its first message.
    pub subject: Option<String>,
    /// Sequence of its last event.
    pub sequence: u64,
    /// When its last message was published.
    pub active_at: Time,
    /// The one it continues.
    pub continues: Option<ConversationId>,
    /// It ended: the next message opens another.
    pub ended: bool,
    /// It ends at this time, because its ticket is done; `None`: not by that.
    pub ends_at: Option<Time>,
    /// Who waits for whom.
    pub turns: Turns,
    /// Items of it are pending: new ones queue behind.
    pub pending: bool,
    /// Sequence of the last event each destination got of it, by destination name.
    pub last_sent: BTreeMap<String, u64>,
}

/// How a conversation began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opening {
    /// Its channel.
    pub channel: String,
    /// Its customer; 0 if nobody can be named.
    pub contact: RowNumber,
    /// The event that opened it, unless it was erased or is too old.
    pub event: Option<Vec<u8>>,
}

/// A message's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRow {
    /// Its row.
    pub row: RowNumber,
    /// Its id; a tombstone of a message never seen has one too.
    pub id: MessageId,
    /// Its item key.
    pub key: KeyDigest,
    /// Its conversation; 0 for a tombstone of a message never seen.
    pub conversation: RowNumber,
    /// Its contact; 0 if none.
    pub contact: RowNumber,
    /// Deleted by its author, or erased.
    pub gone: bool,
    /// Number of the item that made it.
    pub item: i64,
}

/// A delivery, as a decision sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRow {
    /// What became of it so far.
    pub state: DeliveryState,
    /// Attempts that counted.
    pub attempts: u32,
    /// When the first attempt was made, if any.
    pub first_attempt_at: Option<Time>,
    /// The event's id.
    pub event: EventId,
    /// The event's type.
    pub event_type: String,
    /// The event's conversation.
    pub conversation: Option<ConversationId>,
}

/// What a decision changes of a waiting delivery.
#[derive(Debug, Clone)]
pub struct DeliveryChange<'a> {
    /// The destination.
    pub destination: &'a str,
    /// The event.
    pub position: Position,
    /// A replay.
    pub replay: bool,
    /// The new state; `Waiting`: it is tried again.
    pub state: DeliveryState,
    /// Attempts that counted, with this one.
    pub attempts: u32,
    /// Waiting: not before; else when it was decided.
    pub at: Time,
    /// When the attempt ended.
    pub tried_at: Time,
    /// Why it failed.
    pub code: Option<&'static str>,
    /// HTTP status of the answer.
    pub status: Option<u16>,
    /// One line about the failure.
    pub detail: Option<&'a str>,
}

/// What the rules need of a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationFacts {
    /// What it does now.
    pub mode: DestinationMode,
    /// Why, if it does not take events.
    pub code: Option<String>,
    /// Since when.
    pub since: Time,
    /// Deliveries that wait.
    pub waiting: u64,
}

/// What the verbs use inside the one transaction. Synchronous: a store with a network in between prefetches.
pub trait Tx {
    /// Writes the raw's row; its delivery key decides whether the raw is known. A raw whose id is there already is known too: the
    /// same write again after an answer that got lost.
    fn claim_raw(&mut self, raw: &RawRecord, delivery_key: Option<KeyDigest>) -> Result<Claim<RowNumber>, StoreError>;

    /// The row of a raw.
    fn raw_row(&mut self, id: RawId) -> Result<Option<RowNumber>, StoreError>;

    /// The first ledger item of a raw, to name what a repeated raw repeats.
    fn first_item_of_raw(&mut self, raw: RowNumber) -> Result<Option<i64>, StoreError>;

    /// Reserves the number of a new item. Grows; a number that is not used leaves a gap.
    fn next_item(&mut self) -> Result<i64, StoreError>;

    /// Claims an item key for `item`. `Known` returns the item that has it.
    fn claim_key(&mut self, key: KeyDigest, item: i64) -> Result<Claim<i64>, StoreError>;

    /// Gives a key that was claimed to another item.
    fn move_key(&mut self, key: KeyDigest, item: i64) -> Result<(), StoreError>;

    /// The item that has a key.
    fn item_by_key(&mut self, key: KeyDigest) -> Result<Option<i64>, StoreError>;

    /// Writes the ledger row of `item`; adds to `received` and to its fate in the totals.
    fn write_ledger(&mut self, item: i64, entry: &LedgerEntry<'_>) -> Result<(), StoreError>;

    /// An item of the ledger.
    fn ledger_item(&mut self, item: i64) -> Result<Option<LedgerItem>, StoreError>;

    /// Changes the fate of a pending or quarantined item, and the totals with it.
    fn change_fate(&mut self, item: i64, change: &FateChange<'_>) -> Result<(), StoreError>;

    /// The conversation bound to a key.
    fn conversation_by_key(&mut self, key: KeyDigest) -> Result<Option<ConversationRow>, StoreError>;

    /// A conversation by its row.
    fn conversation(&mut self, row: RowNumber) -> Result<Option<ConversationRow>, StoreError>;

    /// A conversation by its id.
    fn conversation_by_id(&mut self, id: ConversationId) -> Result<Option<ConversationRow>, StoreError>;

    /// Opens a conversation; `row` of the argument is ignored, the new row is returned.
    fn open_conversation(&mut self, conversation: &ConversationRow, channel: &str) -> Result<RowNumber, StoreError>;

    /// How a conversation began.
    fn opening(&mut self, row: RowNumber) -> Result<Opening, StoreError>;

    /// Counts how long an answer took, in the totals of a channel.
    fn count_span(&mut self, channel: &str, span: Span, ms: i64) -> Result<(), StoreError>;

    /// Changes how many conversations of a channel wait for an answer, in the totals.
    fn count_waiting(&mut self, channel: &str, delta: i64) -> Result<(), StoreError>;

    /// Writes back what changed: sequence, activity, pending, ended, ends_at, turns, last_sent.
    fn write_conversation(&mut self, conversation: &ConversationRow) -> Result<(), StoreError>;

    /// Binds a key to a conversation; a key that is bound moves to it.
    fn bind_conversation_key(&mut self, key: KeyDigest, row: RowNumber) -> Result<(), StoreError>;

    /// Binds a key to a conversation unless it is bound: what a stranger writes into a message must not pull a key away.
    fn offer_conversation_key(&mut self, key: KeyDigest, row: RowNumber) -> Result<(), StoreError>;

    /// Whether a contact takes part in a conversation.
    fn takes_part(&mut self, conversation: RowNumber, contact: RowNumber) -> Result<bool, StoreError>;

    /// Notes that a contact takes part.
    fn join(&mut self, conversation: RowNumber, contact: RowNumber) -> Result<(), StoreError>;

    /// The contact of an address, resolved through merges, and its row.
    fn contact_by_address(&mut self, digest: KeyDigest) -> Result<Option<(RowNumber, Contact)>, StoreError>;

    /// A contact by its row.
    fn contact(&mut self, row: RowNumber) -> Result<Option<Contact>, StoreError>;

    /// Makes a contact.
    fn open_contact(&mut self, id: ContactId, name: Option<&str>) -> Result<RowNumber, StoreError>;

    /// Changes a contact's name.
    fn rename_contact(&mut self, row: RowNumber, name: &str) -> Result<(), StoreError>;

    /// Binds an address to a contact, unless it is bound.
    fn bind_address(&mut self, digest: KeyDigest, address: &Address, row: RowNumber) -> Result<(), StoreError>;

    /// The message that an item key made.
    fn message_by_key(&mut self, key: KeyDigest) -> Result<Option<MessageRow>, StoreError>;

    /// A message by its row.
    fn message(&mut self, row: RowNumber) -> Result<Option<MessageRow>, StoreError>;

    /// Makes a message row; `row` of the argument is ignored.
    fn write_message(&mut self, message: &MessageRow, channel: &str) -> Result<RowNumber, StoreError>;

    /// A message is deleted: keep the tombstone.
    fn mark_gone(&mut self, message: RowNumber) -> Result<(), StoreError>;

    /// Remembers where a message's files are, so that `/files` can find them.
    fn write_file(
        &mut self,
        attachment: AttachmentId,
        raw: RowNumber,
        message: RowNumber,
        place: &FilePlace,
        public: &Attachment,
    ) -> Result<(), StoreError>;

    /// Writes a frozen event; returns its position.
    fn write_event(&mut self, event: &EventEntry<'_>) -> Result<Position, StoreError>;

    /// The bytes of the first events about a message, oldest first, at most [`EVENTS_ABOUT_MAX`]; those that retention took are left out.
    fn events_about(&mut self, message: RowNumber) -> Result<Vec<Vec<u8>>, StoreError>;

    /// Owes an event to a destination; adds to `due` and `waiting` in the totals.
    fn write_delivery(&mut self, destination: &str, position: Position, lane: i64, previous: u64, due_at: Time) -> Result<(), StoreError>;

    /// A delivery; `None` where there is no such row.
    fn delivery(&mut self, destination: &str, position: Position, replay: bool) -> Result<Option<DeliveryRow>, StoreError>;

    /// Records the outcome of an attempt, and the totals with it.
    fn change_delivery(&mut self, change: &DeliveryChange<'_>) -> Result<(), StoreError>;

    /// A destination; `None` before its first row.
    fn destination(&mut self, name: &str) -> Result<Option<DestinationFacts>, StoreError>;

    /// Writes a destination's mode.
    fn write_destination(&mut self, name: &str, mode: DestinationMode, code: Option<&str>, since: Time) -> Result<(), StoreError>;

    /// Keeps an item until it may be published.
    fn write_pending(&mut self, pending: &PendingRow) -> Result<(), StoreError>;

    /// The oldest pending item of a conversation: number, raw, reason, until, stored body.
    fn first_pending(&mut self, conversation: RowNumber) -> Result<Option<PendingRow>, StoreError>;

    /// A pending item by number.
    fn pending(&mut self, item: i64) -> Result<Option<PendingRow>, StoreError>;

    /// Its reason changed (a hold is over while an earlier one is still pending), or how long it is held.
    fn change_pending(&mut self, item: i64, reason: HoldReason, until: Time) -> Result<(), StoreError>;

    /// Its stored item changed: a part joined it.
    fn rewrite_pending(&mut self, item: i64, body: &[u8]) -> Result<(), StoreError>;

    /// Removes a pending item that was published.
    fn remove_pending(&mut self, item: i64) -> Result<(), StoreError>;

    /// Files of an item that are still being fetched.
    fn media(&mut self, item: i64) -> Result<Option<MediaRow>, StoreError>;

    /// Writes that row whole.
    fn write_media(&mut self, media: &MediaRow) -> Result<(), StoreError>;

    /// Nothing of the item is to be fetched any more.
    fn remove_media(&mut self, item: i64) -> Result<(), StoreError>;

    /// The ticket of a conversation at a destination, one generation.
    fn ticket(&mut self, destination: &str, conversation: RowNumber, generation: u32) -> Result<Option<TicketLink>, StoreError>;

    /// Writes a ticket's row whole.
    fn write_ticket(&mut self, destination: &str, system: &str, conversation: RowNumber, link: &TicketLink) -> Result<(), StoreError>;

    /// Writes an entry's row whole.
    fn write_ticket_entry(&mut self, destination: &str, conversation: RowNumber, entry: &TicketEntry) -> Result<(), StoreError>;

    /// The tickets that have this id in the system of a destination (several conversations have one after tickets were joined), else the
    /// one that has this id of ours.
    fn followed(&mut self, destination: &str, ticket: &str, ours: Option<&str>) -> Result<Vec<FollowedTicket>, StoreError>;

    /// Whether the gateway wrote the entry of one of these conversations: by the system's id of it, or by ours.
    fn is_own_entry(
        &mut self,
        destination: &str,
        conversations: &[RowNumber],
        entry: Option<&str>,
        mark: Option<&str>,
    ) -> Result<bool, StoreError>;

    /// Writes what the system says of a ticket: of a conversation, by its generation.
    fn write_ticket_status(
        &mut self,
        destination: &str,
        ticket: (RowNumber, u32),
        status: TicketStatus,
        at: Time,
    ) -> Result<(), StoreError>;

    /// Whether deliveries of a conversation to a destination wait.
    fn is_owed(&mut self, destination: &str, conversation: RowNumber) -> Result<bool, StoreError>;

    /// Writes a folder's state and rows. Refused with [`StoreError::Fenced`] by a newer lease.
    fn write_source(&mut self, commit: &SourceCommit) -> Result<(), StoreError>;

    /// Writes cursors of an account. Refused with [`StoreError::Fenced`] by a newer lease.
    fn write_cursors(&mut self, commit: &CursorCommit) -> Result<(), StoreError>;

    /// Refuses a write of an older holder of the lease `name` with [`StoreError::Fenced`]. A lease nobody took has epoch 0.
    fn fence(&mut self, name: &str, epoch: u64) -> Result<(), StoreError>;
}

/// A pending item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingRow {
    /// Its number.
    pub item: i64,
    /// Its raw.
    pub raw: RowNumber,
    /// Its conversation.
    pub conversation: RowNumber,
    /// Why it waits.
    pub reason: HoldReason,
    /// At most until.
    pub until: Time,
    /// The stored item, as `logic::admit` wrote it.
    pub body: Vec<u8>,
}

/// Files of an item that are still being fetched. Durable, so that a restart goes on with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaRow {
    /// Number of the item.
    pub item: i64,
    /// Its raw.
    pub raw: RowNumber,
    /// Its channel.
    pub channel: String,
    /// The message it became; 0 while it is pending.
    pub message: RowNumber,
    /// When the next attempt is due.
    pub at: Time,
    /// The stored form, as `logic::admit::media` wrote it.
    pub body: Vec<u8>,
}

/// An event to write.
#[derive(Debug, Clone)]
pub struct EventEntry<'a> {
    /// Its id.
    pub id: EventId,
    /// Its type.
    pub event_type: &'static str,
    /// Its conversation's row; 0 without one.
    pub conversation: RowNumber,
    /// Its sequence; 0 without a conversation.
    pub sequence: u64,
    /// Its message's row; 0 without one.
    pub message: RowNumber,
    /// Its channel; empty without one.
    pub channel: &'a str,
    /// The frozen bytes.
    pub bytes: &'a [u8],
    /// When.
    pub published_at: Time,
}
