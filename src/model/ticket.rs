//! Tickets: which ticket a conversation has in a ticket system, and what became of each entry in it.
//!
//! A link is made before the first call: our id of the ticket (`external`) is chosen and written down, so that after a lost answer or a
//! crash the ticket can be looked for instead of made again. A ticket that was closed, locked or deleted is followed by another of
//! the same conversation: the next *generation*, with an external id of its own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::id::{ConversationId, EventId};
use crate::model::item::MessageItem;
use crate::model::time::Time;
use crate::model::turns::TurnsView;

/// How far a ticket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TicketState {
    /// Our id is chosen; whether the ticket is there is not known yet.
    Intended,
    /// It is there and takes entries.
    Linked,
    /// It is closed, locked or gone: what comes next goes into another one.
    Ended,
}

/// How far an entry of a ticket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntryState {
    /// Sent, or about to be; whether it is there is not known yet.
    Intended,
    /// The system answered that it took it.
    Written,
    /// Its answer was lost; it was looked for and found.
    Found,
    /// Its ticket is closed and takes nothing any more, and it is not worth another one.
    Skipped,
}

macro_rules! numbered {
    ($name:ident { $($variant:ident = $number:literal $word:literal),+ $(,)? }) => {
        impl $name {
            /// The word in tables.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The small integer a store keeps.
            pub fn number(self) -> i64 {
                match self { $(Self::$variant => $number),+ }
            }

            /// The state behind [`Self::number`].
            pub fn from_number(number: i64) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

numbered!(TicketState { Intended = 0 "intended", Linked = 1 "linked", Ended = 2 "ended" });
numbered!(EntryState { Intended = 0 "intended", Written = 1 "written", Found = 2 "found", Skipped = 3 "skipped" });

/// What a ticket system says of its ticket, in words that all systems share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TicketStatus {
    /// Somebody is to work on it.
    Open,
    /// It waits for the customer, a time or somebody else.
    Pending,
    /// The agent is done with it.
    Resolved,
    /// It is done with for good.
    Closed,
}

numbered!(TicketStatus { Open = 0 "open", Pending = 1 "pending", Resolved = 2 "resolved", Closed = 3 "closed" });

impl TicketStatus {
    /// The state behind the word of [`Self::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Open, Self::Pending, Self::Resolved, Self::Closed].into_iter().find(|status| status.as_str() == word)
    }

    /// Nobody works on it any more.
    pub fn is_done(self) -> bool {
        matches!(self, Self::Resolved | Self::Closed)
    }
}

/// What the destination wants of conversations whose ticket is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BackRules {
    /// So long after its ticket was done a conversation goes on if the customer writes again; 0: it ends at once; `None`: it never
    /// ends by that.
    pub ends_after_ms: Option<i64>,
}

/// Where our side spoke in a ticket system, of a message that came back from there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TicketSource {
    /// The destination whose ticket it is.
    pub destination: String,
    /// The kind of ticket system.
    pub system: String,
    /// The id of the ticket there.
    pub ticket: String,
}

/// What a ticket system tells us of one of its tickets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TicketItem {
    /// The system's id of the ticket.
    pub ticket: String,
    /// Our id of the ticket, where the system repeats it: it may tell of a ticket whose making it has not answered yet.
    pub ours: Option<String>,
    /// When it happened.
    pub at: Option<Time>,
    /// What happened.
    pub news: TicketNews,
}

/// What happened to a ticket.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum TicketNews {
    /// Somebody wrote an entry that the customer may see.
    Entry {
        /// The system's id of it.
        entry: Option<String>,
        /// Our id of it, where it carries one.
        mark: Option<String>,
        /// What was written.
        message: Box<MessageItem>,
    },
    /// Its state is this.
    Status(TicketStatus),
    /// It was joined with another, which goes on in its place.
    Merged(String),
}

/// A ticket that the system tells of, and its conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowedTicket {
    /// Row of its conversation.
    pub conversation: i64,
    /// The kind of ticket system.
    pub system: String,
    /// The ticket.
    pub link: TicketLink,
    /// No later one of its conversation is there.
    pub newest: bool,
    /// Its state, as the system said last.
    pub status: Option<TicketStatus>,
    /// Since when.
    pub status_at: Option<Time>,
}

/// What was sent and may have been done without our knowing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// How often it was sent.
    pub times: u32,
    /// When it was sent last, or when its answer was found missing; `None`: nothing is in doubt.
    pub at: Option<Time>,
}

/// The ticket of a conversation in one ticket system, one generation of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketLink {
    /// Counts the tickets of the conversation from 1.
    pub generation: u32,
    /// Our id of the ticket, chosen before the first call; unique in the system by our making.
    pub external: String,
    /// The system's id of it, once known.
    pub ticket: Option<String>,
    /// Where a person can see it.
    pub url: Option<String>,
    /// The system's id of who asks.
    pub requester: Option<String>,
    /// How far it is.
    pub state: TicketState,
    /// The calls that create it.
    pub sent: Sent,
    /// It was looked for after it was made, so that a second one made by an accident on the way was found and closed.
    pub checked: bool,
}

/// One entry of a ticket: an event, or one file of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketEntry {
    /// The event.
    pub event: EventId,
    /// 0: the entry itself; from 1: its files, where each needs a call of its own.
    pub piece: u32,
    /// Our id of it.
    pub external: String,
    /// The generation of the ticket it goes into.
    pub generation: u32,
    /// The system's id of it, if it gives one.
    pub entry: Option<String>,
    /// How far it is.
    pub state: EntryState,
    /// The calls that write it.
    pub sent: Sent,
}

/// What changes, all at once. Rows are written whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketChange {
    /// The destination.
    pub destination: String,
    /// The kind of ticket system.
    pub system: String,
    /// The conversation.
    pub conversation: ConversationId,
    /// The ticket as it is from now on.
    pub link: Option<TicketLink>,
    /// Entries as they are from now on.
    pub entries: Vec<TicketEntry>,
    /// Fencing token of the lease under which deliveries are sent.
    pub lease_epoch: u64,
}

/// What is known of a conversation at a destination when an event is about to go there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TicketKnown {
    /// Its newest ticket.
    pub link: Option<TicketLink>,
    /// The one before that, which the newest continues.
    pub before: Option<TicketLink>,
    /// The entry of the event and of its files.
    pub entries: Vec<TicketEntry>,
}

/// A ticket, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TicketRow {
    /// The destination.
    pub destination: String,
    /// The kind of ticket system.
    pub system: String,
    /// The conversation.
    pub conversation: ConversationId,
    /// Counts the tickets of the conversation at this destination from 1.
    pub generation: u32,
    /// Our id of the ticket, as it stands in the system.
    pub external: String,
    /// The system's id of it; null while it is not known.
    pub ticket: Option<String>,
    /// Where a person can see it.
    pub url: Option<String>,
    /// How far it is.
    pub state: TicketState,
    /// What the system says of it; null where it was never heard.
    #[serde(default)]
    pub status: Option<TicketStatus>,
    /// Since when.
    #[serde(default)]
    pub status_at: Option<Time>,
    /// How its conversation was answered.
    #[serde(default)]
    pub turns: TurnsView,
    /// When it last changed.
    pub at: Time,
}

/// An entry of a ticket, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TicketEntryRow {
    /// The destination.
    pub destination: String,
    /// The event.
    pub event: EventId,
    /// 0: the entry itself; from 1: its files, where each needs a call of its own.
    pub piece: u32,
    /// The ticket it went into.
    pub ticket: Option<String>,
    /// Our id of it.
    pub external: String,
    /// The system's id of it, if it gives one.
    pub entry: Option<String>,
    /// How far it is.
    pub state: EntryState,
    /// How often it was sent.
    pub times: u32,
    /// When it last changed.
    pub at: Time,
}

/// Which tickets. Empty fields do not filter.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TicketFilter {
    /// At this destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Of this conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<ConversationId>,
    /// With this id in the ticket system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// At most this many, newest first; 0 means 100, capped at 10,000.
    #[serde(default)]
    pub limit: u32,
}
