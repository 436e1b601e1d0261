//! Store: the durable state behind one port. One conformance suite (`tests/it/store`) for every implementation.
//!
//! [`Store`] is what the gateway calls: one `commit` for many writes (group commit), reads apart. Inside that one transaction the
//! verbs of `logic` work on [`crate::ports::tx::Tx`].

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::address::Address;
use crate::model::delivery::{Decision, Due, Outgoing, Position};
use crate::model::event::Body;
use crate::model::id::{AttachmentId, ContactId, ConversationId, EventId, MessageId, RawId};
use crate::model::item::{Fate, Fetched, FilePlace, Item};
use crate::model::key::KeyDigest;
use crate::model::raw::{Raw, RawHead, Via};
use crate::model::ticket::{TicketChange, TicketEntryRow, TicketFilter, TicketKnown, TicketRow};
use crate::model::time::Time;
use crate::model::view::{
    DeliveryFilter, DeliveryView, DestinationMode, DestinationRow, Erased, EventView, LedgerFilter, LedgerRow, MessageView, QuarantineRow,
    Swept, Totals,
};
use crate::ports::BoxFuture;
use crate::ports::tx::MediaRow;

/// Why the store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk is full: admissions stop, decisions are tried again.
    #[error("the disk is full")]
    Full,
    /// A newer holder of the lease exists: this node must stop writing.
    #[error("lease epoch {held} is older than {current}")]
    Fenced {
        /// The epoch of the write.
        held: u64,
        /// The epoch in the store.
        current: u64,
    },
    /// The write itself is wrong (a broken invariant); the rest of its batch is not affected.
    #[error("invariant: {detail}")]
    Invariant {
        /// Which.
        detail: String,
    },
    /// Anything else; trying again may help.
    #[error("store: {detail}")]
    Unavailable {
        /// What went wrong.
        detail: String,
    },
}

/// A raw on its way into the store: kept before it is admitted.
#[derive(Debug, Clone)]
pub struct RawRecord {
    /// Its id.
    pub id: RawId,
    /// The hook or channel.
    pub source: String,
    /// How.
    pub via: Via,
    /// When.
    pub received_at: Time,
    /// What came beside the body.
    pub head: RawHead,
    /// Size of the body.
    pub bytes: u64,
    /// Where the body is.
    pub place: RawPlace,
}

/// Where the body of a raw is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawPlace {
    /// In the raw database.
    Row(Bytes),
    /// In the blob store, under this key, already durable.
    Blob(String),
}

/// Things that are being parsed: written before, removed by the commit that admits them. One row per batch; a row that is
/// still there at start was interrupted by a crash, perhaps caused by one of its raws.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseBatch {
    /// Identifies the batch: the id of its first raw.
    pub id: RawId,
    /// The channel.
    pub channel: String,
    /// The source account, folder and epoch.
    pub source: (String, String, u64),
    /// The numbers in it.
    pub uids: Vec<u64>,
    /// Attempts before this one.
    pub attempts: u32,
}

/// One raw with everything it says. Admitted whole or not at all.
#[derive(Debug, Clone)]
pub struct Admission {
    /// The raw, staged before.
    pub raw: Arc<RawRecord>,
    /// Digest of the platform's own delivery id: the same webhook again. Unique in the store.
    pub delivery_key: Option<KeyDigest>,
    /// What it says; none counts as one item ignored with `empty`.
    pub items: Vec<Item>,
}

/// The state of one folder of a pulled account, as durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceState {
    /// The account ([`crate::ports::pull::PullSource::account`]).
    pub account: String,
    /// The folder.
    pub folder: String,
    /// Grows with every change of `epoch_name`.
    pub epoch: u64,
    /// UIDVALIDITY.
    pub epoch_name: u64,
    /// Every number up to this is admitted, quarantined or proven gone.
    pub low_water: u64,
    /// Numbers above this were not there at the first run: below it everything is historic.
    pub first_run_top: u64,
    /// Free for the engine, at most 4 KiB (HIGHESTMODSEQ, backfill progress).
    pub memo: String,
}

/// One thing of a pulled source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRow {
    /// Its number.
    pub uid: u64,
    /// What became of it.
    pub state: SourceRowState,
    /// Its raw, if one was kept.
    pub raw: Option<RawId>,
    /// What it is recognised by under another number, after its source was renumbered: a digest of its lasting id, or of
    /// Message-ID, size and date.
    pub print: Option<u64>,
}

/// What became of a thing of a pulled source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceRowState {
    /// Admitted; the source policy is not carried out yet.
    Admitted,
    /// Quarantined.
    Quarantined,
    /// Proven gone.
    Gone,
    /// Admitted, and the source policy is carried out (or there is none).
    Settled,
}

/// What a pulled batch changes beside its admissions, in the same transaction (design §2 step 5).
#[derive(Debug, Clone)]
pub struct SourceCommit {
    /// The folder's state after it.
    pub state: SourceState,
    /// Rows of the batch.
    pub rows: Vec<SourceRow>,
    /// The batch that is no longer being parsed.
    pub parsed: Option<RawId>,
    /// Fencing token.
    pub lease_epoch: u64,
}

/// The cursors of an account that a batch of a poll or stream changes, in the transaction that admits it.
#[derive(Debug, Clone)]
pub struct CursorCommit {
    /// The account ([`crate::ports::feed::FeedSource::account`]).
    pub account: String,
    /// Values by name, each at most [`CURSOR_BYTES_MAX`]; `None` takes one away.
    pub cursors: Vec<(String, Option<String>)>,
    /// Fencing token of the account's lease ([`pull_lease`]).
    pub lease_epoch: u64,
}

/// Bytes of one cursor at most.
pub const CURSOR_BYTES_MAX: usize = 16 * 1024;

/// What moves with admissions, in their transaction (design §2 step 5).
#[derive(Debug, Clone)]
pub enum Moved {
    /// A folder of a mailbox.
    Folder(SourceCommit),
    /// Cursors of a poll or stream.
    Cursors(CursorCommit),
}

impl From<SourceCommit> for Moved {
    fn from(commit: SourceCommit) -> Self {
        Self::Folder(commit)
    }
}

/// One write of a group commit.
#[derive(Debug, Clone)]
pub enum Write {
    /// Raws and the source state that covers them: all or nothing.
    Admit {
        /// The raws.
        admissions: Vec<Admission>,
        /// What covers them.
        source: Option<Moved>,
    },
    /// The outcome of an attempt.
    Decide(Decision),
    /// A pending item may be published: its hold is over. Later items of its conversation follow by themselves.
    Release {
        /// Number of the item.
        item: i64,
    },
    /// An attempt to fetch a file of an item ended.
    Fetched {
        /// Number of the item.
        item: i64,
        /// The file.
        file: AttachmentId,
        /// How.
        outcome: Fetched,
        /// Other files of the item are being fetched at this moment: what was learnt is told with theirs.
        more: bool,
    },
    /// A platform told later who a sender is: the contact learns it, and receivers hear of it (`contact.updated`). A count of 0 says
    /// that there is no such contact (yet).
    Contact {
        /// Digest of the sender's address.
        address: KeyDigest,
        /// Name.
        name: Option<String>,
        /// More addresses that the platform vouches for.
        also: Vec<(Address, KeyDigest)>,
    },
    /// An event for operators.
    Operator(Box<Body>),
    /// A destination changes its mode; publishes `destination.paused` or `destination.resumed`.
    Destination {
        /// Its name.
        name: String,
        /// The new mode.
        mode: DestinationMode,
        /// Why.
        code: Option<String>,
    },
    /// The source policy was carried out.
    Settled {
        /// Account, folder, epoch.
        source: (String, String, u64),
        /// The numbers.
        uids: Vec<u64>,
        /// Fencing token.
        lease_epoch: u64,
    },
    /// A small value of an engine or connector (own ids, tokens); `None` removes it.
    Memo {
        /// `<channel or account>/<name>`.
        key: String,
        /// At most 64 KiB.
        value: Option<String>,
    },
    /// A quarantined item is read again: its raw's new items. The old item keeps its number; its fate changes once.
    Reprocess {
        /// Number of the quarantined item.
        item: i64,
        /// What the raw says now.
        items: Vec<Item>,
    },
    /// A thing of a source that could not be had before has come: it takes the place of the quarantined item of the raw `old`.
    Refetched {
        /// The raw that stood for it.
        old: RawId,
        /// The whole of it.
        admission: Admission,
        /// Its row.
        source: SourceCommit,
    },
    /// New obligations for events that were published before.
    Replay {
        /// Which deliveries (or, with `all_events`, which events to a destination that never was due).
        filter: DeliveryFilter,
        /// At most this many.
        limit: u64,
    },
    /// Dead deliveries become waiting again (in order, at their place in the lane), or are dropped.
    Dead {
        /// Which; a limit of 0 means all.
        filter: DeliveryFilter,
        /// True: dropped (`discarded`); false: due again.
        discard: bool,
    },
    /// What is known of a ticket and its entries changes; publishes `ticket.linked` when the ticket's id becomes known.
    Ticket(Box<TicketChange>),
    /// Everything waiting for a destination is dropped; it is forgotten when it is no longer configured.
    DropDestination {
        /// Its name.
        name: String,
    },
}

/// What a write did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Written {
    /// Of `Admit`: one entry a raw, one fate an item (a whole raw known by its delivery key gives one `Duplicate`).
    pub fates: Vec<Vec<ItemFate>>,
    /// Destinations that have new deliveries.
    pub woken: Vec<Arc<str>>,
    /// Rows that changed, for writes that count.
    pub count: u64,
    /// Pending items and when they are released at the latest.
    pub pending: Vec<(i64, Time)>,
    /// Channels that have files to fetch.
    pub media: Vec<String>,
}

/// What became of one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemFate {
    /// Its number in the ledger.
    pub item: i64,
    /// What became of it.
    pub fate: Fate,
    /// Why.
    pub code: Option<String>,
    /// The message it is or belongs to.
    pub message: Option<MessageId>,
    /// The event it became.
    pub event: Option<EventId>,
}

/// How long things are kept; `None`: for ever.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retention {
    /// Raws, after they were received. Raws of quarantined items stay until the item is dealt with, or `quarantine`.
    pub raws_ms: Option<i64>,
    /// Raws of quarantined items.
    pub quarantine_ms: Option<i64>,
    /// Bytes of events, after all their deliveries are decided.
    pub events_ms: Option<i64>,
    /// Rows of the ledger (digests stay, totals stay).
    pub ledger_ms: Option<i64>,
}

/// An event that is ready to go out: its position, whether this is a replay, and what is sent.
pub type Ready = (Position, bool, Outgoing);

/// A raw, and the key of the blob that holds its body where that is not in the store.
pub type KeptRaw = (Raw, Option<String>);

/// The durable state. Every method may be called from many tasks at once; `commit` is called by one writer.
pub trait Store: Send + Sync {
    /// Makes raws durable before they are admitted. An orphan is harmless. `batch` is written in the same commit.
    fn stage(&self, raws: Vec<Arc<RawRecord>>, batch: Option<ParseBatch>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Does all `writes` in one transaction, in order, and makes it durable. Each write answers for itself: one that fails leaves no
    /// trace and does not touch the others. The outer error means that nothing was done.
    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<Vec<Result<Written, StoreError>>, StoreError>>;

    /// Takes over the lease `name`: its epoch grows by one and is returned.
    fn take_lease<'a>(&'a self, name: &'a str, owner: &'a str) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// Whether it can be written: commits an empty change.
    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Free bytes on the medium of the store.
    fn free_bytes(&self) -> Option<u64>;

    // ---- reading: deliveries -------------------------------------------------------------------------------------

    /// Waiting deliveries of `destination` at positions above `after`, by position, at most `limit`.
    fn waiting<'a>(&'a self, destination: &'a str, after: Position, limit: usize) -> BoxFuture<'a, Result<Vec<Due>, StoreError>>;

    /// Waiting deliveries of one lane, by position, at most `limit`.
    fn lane<'a>(&'a self, destination: &'a str, lane: i64, limit: usize) -> BoxFuture<'a, Result<Vec<Due>, StoreError>>;

    /// Waiting deliveries that were tried before: lanes whose head waits for a retry.
    fn retrying<'a>(&'a self, destination: &'a str) -> BoxFuture<'a, Result<Vec<Due>, StoreError>>;

    /// The frozen events of these deliveries; those that are no longer waiting are left out.
    fn outgoing<'a>(&'a self, destination: &'a str, due: &'a [Due]) -> BoxFuture<'a, Result<Vec<Ready>, StoreError>>;

    /// All destinations that have rows, with their mode. `configured` is the caller's to say: the store answers `false`.
    fn destinations(&self) -> BoxFuture<'_, Result<Vec<DestinationRow>, StoreError>>;

    /// Totals, from one snapshot.
    fn totals(&self) -> BoxFuture<'_, Result<Totals, StoreError>>;

    /// What is known of the tickets of a conversation at a destination, and of the entries of one event there.
    fn tickets_of<'a>(
        &'a self,
        destination: &'a str,
        conversation: ConversationId,
        event: EventId,
    ) -> BoxFuture<'a, Result<TicketKnown, StoreError>>;

    // ---- reading: people ------------------------------------------------------------------------------------------

    /// Events after a position, in commit order, at most `limit`; the bytes as published. Erased ones are left out.
    fn events_after(&self, after: Position, limit: usize) -> BoxFuture<'_, Result<Vec<(Position, Bytes)>, StoreError>>;

    /// Rows of the ledger, newest first.
    fn ledger(&self, filter: LedgerFilter) -> BoxFuture<'_, Result<Vec<LedgerRow>, StoreError>>;

    /// One message.
    fn message(&self, id: MessageId) -> BoxFuture<'_, Result<Option<MessageView>, StoreError>>;

    /// One event by id, with its deliveries.
    fn event(&self, id: EventId) -> BoxFuture<'_, Result<Option<EventView>, StoreError>>;

    /// Deliveries.
    fn deliveries(&self, filter: DeliveryFilter) -> BoxFuture<'_, Result<Vec<DeliveryView>, StoreError>>;

    /// How many deliveries a filter names (its limit ignored): the dry run of a replay. A replay leaves out those that still wait, were
    /// erased, or lost their bytes to retention, so it may do fewer.
    fn count_deliveries(&self, filter: DeliveryFilter) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Tickets, newest first.
    fn tickets(&self, filter: TicketFilter) -> BoxFuture<'_, Result<Vec<TicketRow>, StoreError>>;

    /// Entries of tickets that an event became, at all destinations.
    fn ticket_entries(&self, event: EventId) -> BoxFuture<'_, Result<Vec<TicketEntryRow>, StoreError>>;

    /// Quarantined items with numbers below `before`, newest first.
    fn quarantine<'a>(
        &'a self,
        channel: Option<&'a str>,
        before: Option<i64>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<QuarantineRow>, StoreError>>;

    /// A raw with its body; the body of one in the blob store is left empty and its key returned.
    fn raw(&self, id: RawId) -> BoxFuture<'_, Result<Option<KeptRaw>, StoreError>>;

    /// Where a file's bytes are: its raw, place, media type and name.
    fn file(&self, attachment: AttachmentId) -> BoxFuture<'_, Result<Option<FileView>, StoreError>>;

    /// Pending items and when they are released at the latest, oldest first.
    fn pending(&self, limit: usize) -> BoxFuture<'_, Result<Vec<(i64, Time)>, StoreError>>;

    /// Files that are to be fetched for `channel` (`None`: for any), those that are due first first, at most `limit` items.
    fn media<'a>(&'a self, channel: Option<&'a str>, limit: usize) -> BoxFuture<'a, Result<Vec<MediaRow>, StoreError>>;

    // ---- reading: sources ----------------------------------------------------------------------------------------

    /// All folders of an account.
    fn sources<'a>(&'a self, account: &'a str) -> BoxFuture<'a, Result<Vec<SourceState>, StoreError>>;

    /// Rows of a folder that are admitted and not settled, by number, at most `limit`.
    fn unsettled<'a>(&'a self, source: &'a (String, String, u64), limit: usize) -> BoxFuture<'a, Result<Vec<SourceRow>, StoreError>>;

    /// Rows of a folder in all its epochs up to this one, with their epoch: by epoch and number, after (epoch, number), at most `limit`.
    fn source_rows<'a>(
        &'a self,
        source: &'a (String, String, u64),
        after: (u64, u64),
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(u64, SourceRow)>, StoreError>>;

    /// Batches whose parsing was interrupted.
    fn interrupted<'a>(&'a self, account: &'a str) -> BoxFuture<'a, Result<Vec<ParseBatch>, StoreError>>;

    /// The cursors of a polled or streamed account, by name.
    fn cursors<'a>(&'a self, account: &'a str) -> BoxFuture<'a, Result<BTreeMap<String, String>, StoreError>>;

    /// A memo.
    fn memo<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<String>, StoreError>>;

    // ---- care -----------------------------------------------------------------------------------------------------

    /// One short slice of retention.
    fn sweep<'a>(&'a self, retention: &'a Retention, now: Time) -> BoxFuture<'a, Result<Swept, StoreError>>;

    /// Erases a contact: content, raws (a shared raw whole) and pending deliveries go; tombstones and digests stay.
    fn erase(&self, contact: ContactId) -> BoxFuture<'_, Result<Option<Erased>, StoreError>>;

    /// Copies the store to `folder` while it is used. The copy is consistent; keys of blobs it names are returned.
    fn backup<'a>(&'a self, folder: &'a Path) -> BoxFuture<'a, Result<Vec<String>, StoreError>>;

    /// Checkpoints and closes; nothing may be called afterwards.
    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// A file of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileView {
    /// The raw of its message.
    pub raw: RawId,
    /// Where the bytes are.
    pub place: FilePlace,
    /// Media type.
    pub media_type: String,
    /// Name.
    pub name: Option<String>,
    /// Decoded size.
    pub bytes: Option<u64>,
    /// When its message was published.
    pub published_at: Time,
}

/// The lease under which deliveries are sent and decided.
pub const DELIVER_LEASE: &str = "deliver";

/// The lease under which the source `account` is pulled and settled.
pub fn pull_lease(account: &str) -> String {
    format!("pull:{account}")
}
