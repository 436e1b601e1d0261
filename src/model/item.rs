//! Items: what a raw says, normalized, before the store has given it ids.
//!
//! A raw gives 0..n items. Every item has exactly one fate (I1). An item is what `admit` consumes: all digests are
//! computed, all content is sanitised and cut, only ids, conversation and sequence are missing.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::address::Address;
use crate::model::codes::Code;
use crate::model::event::{Attachment, Authentication, Author, Automated, Call, Channel, Direction, Feedback, Party, Priority, Recipient};
use crate::model::key::KeyDigest;
use crate::model::ticket::{BackRules, TicketItem, TicketSource};
use crate::model::time::Time;

/// One item, ready to be admitted.
#[derive(Debug, Clone)]
pub struct Item {
    /// The channel it belongs to.
    pub channel: Arc<ChannelFacts>,
    /// Digest of (namespace, account, kind, platform key, revision); unique in the store (design §7). `None` for items that
    /// have no key of their own: ignored and quarantined ones.
    pub key: Option<KeyDigest>,
    /// What it is.
    pub body: ItemBody,
}

/// What events say about a channel, and how its conversations work. Shared by all items of the channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChannelFacts {
    /// The part that goes into events.
    pub public: Channel,
    /// Priority of its messages.
    pub priority: Priority,
    /// A `sender` conversation ends after this much silence; `None`: it never ends by silence.
    pub new_after_ms: Option<i64>,
    /// It is the way back from a ticket system, whose destination has this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back: Option<BackRules>,
}

/// What an item is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ItemBody {
    /// Somebody said something.
    Message(Box<MessageItem>),
    /// An author changed a message. Of a message never seen it is published as created, with `edited`.
    Edit(Box<EditItem>),
    /// An author removed a message. Of a message never seen it leaves a tombstone.
    Delete {
        /// Item key of the message.
        target: KeyDigest,
        /// The platform's id of the message.
        external_id: Option<String>,
        /// When.
        sent_at: Option<Time>,
    },
    /// A reaction.
    Reaction(Box<ReactionItem>),
    /// A ticket system tells of one of its tickets.
    Ticket(Box<TicketItem>),
    /// A receipt of something we sent: recorded in the ledger, no event.
    Receipt {
        /// The platform's state, such as `delivered`, `read`, `failed`.
        state: String,
        /// The platform's error code.
        error: Option<String>,
    },
    /// More was learnt about a message; its `edited_at` is not told.
    Update(Box<EditItem>),
    /// Authentic, and nothing for a person.
    Ignored {
        /// Why: a code declared by the connector, or a built-in one.
        code: String,
    },
    /// Authentic, and we could not read it.
    Quarantined {
        /// Why.
        code: Code,
        /// One line for a person; no content (I7).
        detail: String,
    },
}

/// A message, as an item.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MessageItem {
    /// Where it belongs.
    pub threading: Threading,
    /// Who spoke.
    pub direction: Direction,
    /// What kind of author.
    pub author: Author,
    /// `message.kind`.
    pub kind: String,
    /// The author.
    pub from: Option<Party>,
    /// The customer behind it (inbound: the author; outbound: the recipient, where known).
    pub contact: Option<ContactHint>,
    /// The recipients.
    pub to: Vec<Recipient>,
    /// Subject.
    pub subject: Option<String>,
    /// Plain text.
    pub text: Option<String>,
    /// Sanitised HTML.
    pub html: Option<String>,
    /// The new part.
    pub reply_text: Option<String>,
    /// ISO 639-1.
    pub language: Option<String>,
    /// Files with their ids and where they are kept.
    pub attachments: Vec<ItemAttachment>,
    /// The message that is answered.
    pub in_reply_to: Option<ReplyHint>,
    /// The platform's id.
    pub external_id: Option<String>,
    /// Where a person can see it.
    pub external_url: Option<String>,
    /// Set if no person wrote it.
    pub automated: Option<Automated>,
    /// Authentication.
    pub authentication: Option<Authentication>,
    /// Feedback.
    pub feedback: Option<Feedback>,
    /// Call.
    pub call: Option<Call>,
    /// The author changed it before we first saw it.
    pub edited: bool,
    /// Came in through a backfill.
    pub historic: bool,
    /// Names of fields that were cut.
    pub truncated: Vec<String>,
    /// When its author sent it.
    pub sent_at: Option<Time>,
    /// When we received it.
    pub received_at: Time,
    /// More.
    pub extra: serde_json::Map<String, serde_json::Value>,
    /// Other item keys that are the same message (mail: canonical hash beside Message-ID + hash; a hint list claimed together with
    /// the item's key). Empty for most.
    pub aliases: Vec<KeyDigest>,
    /// Item keys by which others may speak of this message and which are no proof of identity (mail: the Message-ID). The first
    /// message that has one keeps it; a second one is no duplicate.
    #[serde(default)]
    pub hints: Vec<KeyDigest>,
    /// The item must wait before it may be published (design §2 step 6).
    pub hold: Option<Hold>,
    /// It is a part of a message that comes in several (an album, a long SMS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gather: Option<Box<Gather>>,
    /// It was written in a ticket system, and came back from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Box<TicketSource>>,
}

/// A part of a message, and while parts are gathered what came so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gather {
    /// Digest of what all parts have in common.
    pub key: KeyDigest,
    /// How many there are, where the platform says so.
    pub parts: Option<u64>,
    /// Texts by the number of their part.
    pub texts: BTreeMap<u64, String>,
    /// Parts that came.
    pub seen: u64,
    /// What stands between texts.
    pub glue: String,
    /// Its files are waited for until then.
    pub media_until: Option<Time>,
}

/// A file of an item and where its bytes are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemAttachment {
    /// What goes into the event; its `url` is set at publish.
    pub public: Attachment,
    /// Where the bytes are; `None` while unavailable.
    pub place: Option<FilePlace>,
    /// The bytes are still at the platform and are to be fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetch: Option<FetchOrder>,
}

/// An order to fetch a file: what the recipe of the connector needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchOrder {
    /// Name of the recipe, `[media.NAME]` of the connector.
    pub recipe: String,
    /// The account of the platform it belongs to.
    pub account: String,
    /// The platform's id of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Where the platform says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The platform's id of its message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// After this time the platform no longer has it: given up.
    pub until: Time,
}

/// How an attempt to fetch a file ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// It is in the blob store, durable.
    Stored {
        /// Its key there.
        key: String,
        /// Its size.
        bytes: u64,
        /// SHA-256, hex.
        sha256: String,
        /// What it is, by its first bytes.
        media_type: String,
        /// Its name, where the platform told one only now.
        name: Option<String>,
        /// What is said in it, where it is a transcript.
        words: Option<String>,
    },
    /// It will never be had.
    Unavailable {
        /// Why.
        code: Code,
    },
    /// Not yet: tried again at this time.
    Later {
        /// When.
        at: Time,
    },
}

/// Where the bytes of a file are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FilePlace {
    /// A slice of the message's own raw, decoded when asked for.
    Slice {
        /// First byte of the encoded part in the raw.
        start: u64,
        /// Byte behind the last.
        end: u64,
        /// How it is encoded.
        encoding: SliceEncoding,
    },
    /// A range of a slice, once that is decoded: a file inside a file.
    Within {
        /// First byte of the encoded part in the raw.
        start: u64,
        /// Byte behind the last.
        end: u64,
        /// How it is encoded.
        encoding: SliceEncoding,
        /// Decoded bytes before the file.
        skip: u64,
        /// Bytes of the file.
        bytes: u64,
    },
    /// A blob of its own.
    Blob {
        /// Its key in the blob store.
        key: String,
    },
}

/// Content-transfer-encoding of a slice (RFC 2045 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SliceEncoding {
    /// 7bit, 8bit, binary: as it is.
    Identity,
    /// base64.
    Base64,
    /// quoted-printable.
    QuotedPrintable,
    /// uuencode: older than MIME, and still met.
    Uuencode,
}

/// Most recipients that a mail names.
pub const RECIPIENTS_MAX: usize = 200;

/// An edit, as an item.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EditItem {
    /// Item key of the message that was edited.
    pub target: KeyDigest,
    /// The whole message as it is now: published as created if the original was never seen.
    pub message: MessageItem,
    /// When.
    pub edited_at: Option<Time>,
}

/// A reaction, as an item.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReactionItem {
    /// Item key of the message.
    pub target: KeyDigest,
    /// The platform's id of the message.
    pub external_id: Option<String>,
    /// Who.
    pub from: Option<Party>,
    /// Which.
    pub emoji: Option<String>,
    /// Added or removed.
    pub added: bool,
    /// When.
    pub sent_at: Option<Time>,
}

/// Where a message belongs. The store tries the candidates in order; the first known one wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Threading {
    /// Conversation keys that would place it, best first.
    pub candidates: Vec<ThreadCandidate>,
    /// Keys under which later messages will find this one's conversation.
    pub registers: Vec<KeyDigest>,
    /// This conversation ends by silence (`sender` unit): see [`ChannelFacts::new_after_ms`].
    pub ends_by_silence: bool,
    /// Rule named when nothing matched and a conversation is opened, such as `opens`.
    pub opens_rule: String,
}

/// One way to place a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadCandidate {
    /// Digest of the conversation key.
    pub key: KeyDigest,
    /// Name of the rule, for `conversation.thread.rule`.
    pub rule: String,
    /// What it matched on, for `conversation.thread.evidence`.
    pub evidence: Option<String>,
    /// Matches only if the sender already takes part in the conversation (mail, `email` §4).
    pub participants_only: bool,
}

/// Who the customer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactHint {
    /// The address.
    pub address: Address,
    /// Its digest.
    pub digest: KeyDigest,
    /// Name the platform gives.
    pub name: Option<String>,
    /// The platform vouches for the address, so contacts may be linked by it and shown whole.
    pub verified: bool,
    /// More addresses of the same party that the platform vouches for.
    pub also: Vec<(Address, KeyDigest)>,
}

/// The message that is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyHint {
    /// The platform's id.
    pub external_id: String,
    /// Its item key, to find our id.
    pub target: Option<KeyDigest>,
}

/// Why an item waits before it is published, and at most how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Why.
    pub reason: HoldReason,
    /// Released at this time at the latest.
    pub until: Time,
}

/// Why an item is pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldReason {
    /// Over a rate limit with `over = "hold"`.
    Held,
    /// Parts are being gathered.
    Gathering,
    /// Files are being fetched.
    Media,
    /// An earlier item of the conversation is pending.
    Queued,
}

/// What became of an item (I1). `received = published + duplicate + ignored + quarantined + pending` (I3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is an event.
    Published,
    /// Known already.
    Duplicate,
    /// Nothing for a person.
    Ignored,
    /// Could not be read; the raw is kept.
    Quarantined,
    /// Will be published.
    Pending,
}

impl Fate {
    /// All fates.
    pub const ALL: [Self; 5] = [Self::Published, Self::Duplicate, Self::Ignored, Self::Quarantined, Self::Pending];

    /// The word in tables and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Duplicate => "duplicate",
            Self::Ignored => "ignored",
            Self::Quarantined => "quarantined",
            Self::Pending => "pending",
        }
    }

    /// The small integer a store keeps.
    pub fn number(self) -> i64 {
        match self {
            Self::Published => 0,
            Self::Duplicate => 1,
            Self::Ignored => 2,
            Self::Quarantined => 3,
            Self::Pending => 4,
        }
    }

    /// The fate behind [`Self::number`].
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|fate| fate.number() == number)
    }
}
