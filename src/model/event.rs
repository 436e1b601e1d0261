//! The event, contract v1: what a destination receives.
//!
//! Standard Webhooks payload shape: `type`, `id`, `timestamp`, `data`. Fields may be added and enums may grow;
//! nothing changes its meaning. Every type has a golden file in `tests/golden/events`, kept for ever.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::address::Address;
use crate::model::id::{AttachmentId, ContactId, ConversationId, EventId, MessageId};
use crate::model::ticket::{TicketSource, TicketStatus};
use crate::model::time::Time;

/// One event. Its bytes are made once, at publish, and never change (I5).
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Also the `webhook-id` of every delivery.
    pub id: EventId,
    /// When it was published.
    pub timestamp: Time,
    /// The type and its data.
    pub body: Body,
}

/// The data of an event, by type.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Body {
    /// Somebody said something.
    MessageCreated(Box<MessageCreated>),
    /// We learnt more about a message.
    MessageUpdated(Box<MessageUpdated>),
    /// Its author changed a message.
    MessageEdited(Box<MessageEdited>),
    /// Its author removed a message.
    MessageDeleted(Box<MessageDeleted>),
    /// Somebody reacted to a message.
    ReactionAdded(Box<Reaction>),
    /// Somebody took a reaction back.
    ReactionRemoved(Box<Reaction>),
    /// A contact changed.
    ContactUpdated(Box<ContactUpdated>),
    /// Two contacts turned out to be one.
    ContactMerged(ContactMerged),
    /// A conversation has a ticket.
    TicketLinked(Box<TicketLinked>),
    /// The ticket of a conversation changed its state in the ticket system.
    TicketUpdated(Box<TicketUpdated>),
    /// A channel no longer works as it should.
    ChannelDegraded(Box<ChannelState>),
    /// A channel works again.
    ChannelRecovered(Box<ChannelState>),
    /// A delivery needs a person.
    DeliveryDead(Box<DeliveryDead>),
    /// A destination is paused or halted.
    DestinationPaused(Box<DestinationState>),
    /// A destination takes events again.
    DestinationResumed(Box<DestinationState>),
}

/// Every event type, in the order of the documentation. A store keeps the place in this list: append only.
pub const EVENT_TYPES: [&str; 15] = [
    "message.created",
    "message.updated",
    "message.edited",
    "message.deleted",
    "reaction.added",
    "reaction.removed",
    "contact.updated",
    "contact.merged",
    "ticket.linked",
    "channel.degraded",
    "channel.recovered",
    "delivery.dead",
    "destination.paused",
    "destination.resumed",
    "ticket.updated",
];

impl Body {
    /// The `type` of the event.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::MessageCreated(_) => "message.created",
            Self::MessageUpdated(_) => "message.updated",
            Self::MessageEdited(_) => "message.edited",
            Self::MessageDeleted(_) => "message.deleted",
            Self::ReactionAdded(_) => "reaction.added",
            Self::ReactionRemoved(_) => "reaction.removed",
            Self::ContactUpdated(_) => "contact.updated",
            Self::ContactMerged(_) => "contact.merged",
            Self::TicketLinked(_) => "ticket.linked",
            Self::TicketUpdated(_) => "ticket.updated",
            Self::ChannelDegraded(_) => "channel.degraded",
            Self::ChannelRecovered(_) => "channel.recovered",
            Self::DeliveryDead(_) => "delivery.dead",
            Self::DestinationPaused(_) => "destination.paused",
            Self::DestinationResumed(_) => "destination.resumed",
        }
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_struct("Event", 4)?;
        map.serialize_field("type", self.body.type_name())?;
        map.serialize_field("id", &self.id)?;
        map.serialize_field("timestamp", &self.timestamp)?;
        map.serialize_field("data", &self.body)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Envelope {
            #[serde(rename = "type")]
            kind: String,
            id: EventId,
            timestamp: Time,
            data: serde_json::Value,
        }
        fn of<T: serde::de::DeserializeOwned, E: serde::de::Error>(data: serde_json::Value) -> Result<T, E> {
            serde_json::from_value(data).map_err(E::custom)
        }
        let Envelope { kind, id, timestamp, data } = Envelope::deserialize(deserializer)?;
        let body = match kind.as_str() {
            "message.created" => Body::MessageCreated(of(data)?),
            "message.updated" => Body::MessageUpdated(of(data)?),
            "message.edited" => Body::MessageEdited(of(data)?),
            "message.deleted" => Body::MessageDeleted(of(data)?),
            "reaction.added" => Body::ReactionAdded(of(data)?),
            "reaction.removed" => Body::ReactionRemoved(of(data)?),
            "contact.updated" => Body::ContactUpdated(of(data)?),
            "contact.merged" => Body::ContactMerged(of(data)?),
            "ticket.linked" => Body::TicketLinked(of(data)?),
            "ticket.updated" => Body::TicketUpdated(of(data)?),
            "channel.degraded" => Body::ChannelDegraded(of(data)?),
            "channel.recovered" => Body::ChannelRecovered(of(data)?),
            "delivery.dead" => Body::DeliveryDead(of(data)?),
            "destination.paused" => Body::DestinationPaused(of(data)?),
            "destination.resumed" => Body::DestinationResumed(of(data)?),
            other => return Err(serde::de::Error::custom(format!("unknown event type `{other}`"))),
        };
        Ok(Self { id, timestamp, body })
    }
}

/// Data of `message.created`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MessageCreated {
    /// Counts the events of this conversation from 1, gapless, in publish order.
    pub sequence: u64,
    /// The whole message.
    pub message: Message,
    /// The conversation it belongs to.
    pub conversation: Conversation,
    /// The customer behind it; null where nobody can be named.
    pub contact: Option<Contact>,
    /// The channel it came by.
    pub channel: Channel,
    /// Tags given by the routes that matched, without repeats, in route order.
    pub tags: Vec<String>,
    /// Priority given by the channel file.
    pub priority: Priority,
}

/// One thing one party said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Message {
    /// Its id here.
    pub id: MessageId,
    /// Keyed digest of the item key, `k1_` and 32 hex digits: the same after a restore from backup.
    pub key: String,
    /// Who spoke: the customer, or our side in the channel.
    pub direction: Direction,
    /// What kind of author.
    pub author: Author,
    /// What it is: `text`, `email`, `post`, `comment`, `mention`, `review`, `call`, `voicemail`, `form`, `survey`, `in_person`; may grow.
    pub kind: String,
    /// The author; null where the platform names nobody.
    pub from: Option<Party>,
    /// The recipients.
    pub to: Vec<Recipient>,
    /// Subject line, mail and forms.
    pub subject: Option<String>,
    /// Plain text; there whenever there is any text.
    pub text: Option<String>,
    /// Sanitised HTML, if the author wrote HTML.
    pub html: Option<String>,
    /// Mail: the new part, without quoted history and signature.
    pub reply_text: Option<String>,
    /// ISO 639-1 code, if known.
    pub language: Option<String>,
    /// Files.
    pub attachments: Vec<Attachment>,
    /// The message this one answers.
    pub in_reply_to: Option<InReplyTo>,
    /// The platform's id.
    pub external_id: Option<String>,
    /// Where a person can see it on the platform.
    pub external_url: Option<String>,
    /// Set if no person wrote it.
    pub automated: Option<Automated>,
    /// What is known about the sender being who it says.
    pub authentication: Option<Authentication>,
    /// A rating or survey answer.
    pub feedback: Option<Feedback>,
    /// A phone call.
    pub call: Option<Call>,
    /// The author changed it before we first saw it.
    pub edited: bool,
    /// Came in through a backfill.
    pub historic: bool,
    /// Names of fields cut to the size cap.
    pub truncated: Vec<String>,
    /// When its author sent it, as the platform says; null where it says nothing.
    pub sent_at: Option<Time>,
    /// When we received it.
    pub received_at: Time,
    /// What the platform says beyond this, namespaced by the connector.
    pub extra: serde_json::Map<String, serde_json::Value>,
    /// It was written in a ticket system and came back from there: which ticket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<TicketSource>,
}

/// Who spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The customer.
    Inbound,
    /// Our side, in the channel.
    Outbound,
}

/// What kind of author.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Author {
    /// A customer.
    Customer,
    /// A person of our side.
    Agent,
    /// A program.
    Bot,
    /// The platform itself.
    System,
}

/// A party as the platform names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Party {
    /// `scheme:value`.
    pub address: Address,
    /// Display name.
    #[serde(default)]
    pub name: Option<String>,
    /// Short name on the platform.
    #[serde(default)]
    pub handle: Option<String>,
    /// Picture.
    #[serde(default)]
    pub avatar_url: Option<String>,
}

/// A recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Recipient {
    /// `scheme:value`.
    pub address: Address,
    /// Display name.
    #[serde(default)]
    pub name: Option<String>,
    /// `to`, `cc`, `bcc`, `mailbox` (where it was found), `mention`.
    pub role: String,
}

/// A file of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attachment {
    /// Its id here.
    pub id: AttachmentId,
    /// File name, without any path.
    pub name: Option<String>,
    /// Media type, sniffed where the platform's word was not to be believed.
    #[serde(rename = "type")]
    pub media_type: String,
    /// Size of the decoded file, if known.
    pub bytes: Option<u64>,
    /// Lower-case hex, once stored.
    pub sha256: Option<String>,
    /// Shown inside the text.
    pub inline: bool,
    /// `Content-ID` of an inline part, without brackets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_id: Option<String>,
    /// Whether we hold the file.
    pub state: AttachmentState,
    /// Why it is unavailable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Signed and expiring where we hold it; null when `files.public_url` is not set or the file is not held.
    pub url: Option<String>,
    /// The file itself, base64: only for destinations with `attachments = "inline"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// Whether we hold the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttachmentState {
    /// Held.
    Stored,
    /// Being fetched.
    Pending,
    /// Not to be had; `reason` says why.
    Unavailable,
}

/// The message that is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InReplyTo {
    /// The platform's id of it.
    pub external_id: String,
    /// Its id here; null if it was never seen.
    pub message: Option<MessageId>,
}

/// Mail and messages that no person wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Automated {
    /// Answered by a program.
    AutoReply,
    /// The holiday kind.
    OutOfOffice,
    /// Could not be delivered.
    Bounce,
    /// Delivered, delayed, read.
    DeliveryStatus,
    /// Abuse report (RFC 5965).
    FeedbackReport,
    /// Mailing list or bulk.
    List,
    /// The platform, or ourselves.
    System,
}

/// What is known about the sender being who it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Authentication {
    /// SPF result of a trusted border, RFC 8601 word.
    pub spf: Option<String>,
    /// DKIM result.
    pub dkim: Option<String>,
    /// DMARC result.
    pub dmarc: Option<String>,
    /// The sender's address may be relied on.
    pub verified: bool,
}

/// A rating or survey answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Feedback {
    /// `csat`, `nps`, `stars`, …
    pub metric: String,
    /// The answer on the scale.
    pub score: Option<f64>,
    /// Lowest and highest score.
    pub scale: Option<[f64; 2]>,
    /// What was said beside it.
    pub comment: Option<String>,
}

/// A phone call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Call {
    /// `answered`, `missed`, `voicemail`, …
    pub outcome: String,
    /// Length of the call or recording.
    pub seconds: Option<u64>,
    /// The recording among the attachments.
    pub recording: Option<AttachmentId>,
    /// What was said.
    pub transcript: Option<String>,
}

/// The conversation of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// Subject of its first message.
    pub subject: Option<String>,
    /// This event opened it.
    pub opened: bool,
    /// The conversation that this one goes on from.
    pub continues: Option<ConversationId>,
    /// Why the message is in this conversation.
    pub thread: Option<Thread>,
}

/// Why a message is in its conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Thread {
    /// The rule that matched.
    pub rule: String,
    /// What it matched on.
    pub evidence: Option<String>,
}

/// A person or account behind addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Contact {
    /// Its id.
    pub id: ContactId,
    /// Latest name.
    pub name: Option<String>,
    /// Known addresses; only the message's own one if its sender is not verified.
    pub addresses: Vec<Address>,
}

/// The channel of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Channel {
    /// The name of its file.
    pub id: String,
    /// The connector it uses.
    pub connector: String,
    /// Labels of the channel file.
    pub labels: BTreeMap<String, String>,
}

/// Priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Below normal.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Above normal.
    High,
    /// At once.
    Urgent,
}

/// The ids of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MessageRef {
    /// Its id here.
    pub id: MessageId,
    /// Its keyed digest, as in `message.created`.
    pub key: String,
    /// The platform's id.
    pub external_id: Option<String>,
}

/// The id of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConversationRef {
    /// Its id.
    pub id: ConversationId,
}

/// Data of `message.updated`: what we learnt later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MessageUpdated {
    /// As in `message.created`.
    pub sequence: u64,
    /// The ids.
    pub message: MessageRef,
    /// The conversation.
    pub conversation: ConversationRef,
    /// The channel.
    pub channel: Channel,
    /// Names of the fields of the message that changed; their new values stand beside.
    pub changed: Vec<String>,
    /// New attachments, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachments: Option<Vec<Attachment>>,
    /// Ids of those of them that became stored or unavailable since the message was last told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachments_changed: Option<Vec<AttachmentId>>,
    /// New text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// New call part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Call>,
    /// New feedback part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feedback: Option<Feedback>,
    /// New recipients, all of them: a copy was found in another of our mailboxes, which stands there with the role `mailbox`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<Recipient>>,
    /// As in `message.created`: what was learnt came in through a backfill.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub historic: bool,
    /// As in `message.created`: the message was written in a ticket system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<TicketSource>,
}

/// Data of `message.edited`: new content, by its author.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MessageEdited {
    /// As in `message.created`.
    pub sequence: u64,
    /// The ids.
    pub message: MessageRef,
    /// The conversation.
    pub conversation: ConversationRef,
    /// The channel.
    pub channel: Channel,
    /// Who edited; usually the author.
    pub from: Option<Party>,
    /// The new subject.
    pub subject: Option<String>,
    /// The new text.
    pub text: Option<String>,
    /// The new HTML, sanitised.
    pub html: Option<String>,
    /// The attachments after the edit; null where the platform does not repeat them.
    pub attachments: Option<Vec<Attachment>>,
    /// The rating after the edit; null where there is none.
    #[serde(default)]
    pub feedback: Option<Feedback>,
    /// The phone call, with what was learnt of it (a transcript); null where it is none.
    #[serde(default)]
    pub call: Option<Call>,
    /// When.
    pub edited_at: Option<Time>,
}

/// Data of `message.deleted`: nothing but the ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MessageDeleted {
    /// As in `message.created`.
    pub sequence: u64,
    /// The ids.
    pub message: MessageRef,
    /// The conversation.
    pub conversation: ConversationRef,
    /// The channel.
    pub channel: Channel,
}

/// Data of `reaction.added` and `reaction.removed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reaction {
    /// As in `message.created`.
    pub sequence: u64,
    /// The message that was reacted to.
    pub message: MessageRef,
    /// The conversation.
    pub conversation: ConversationRef,
    /// The channel.
    pub channel: Channel,
    /// Who.
    pub from: Option<Party>,
    /// The emoji, or the platform's name of it; null if the platform does not say which was removed.
    pub emoji: Option<String>,
}

/// Data of `contact.updated`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContactUpdated {
    /// The contact as it is now.
    pub contact: Contact,
}

/// Data of `contact.merged`: the old id resolves for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContactMerged {
    /// The id that is no longer used.
    pub from: ContactId,
    /// The id that stays.
    pub into: ContactId,
}

/// Data of `ticket.linked`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TicketLinked {
    /// As in `message.created`.
    pub sequence: u64,
    /// The conversation.
    pub conversation: ConversationRef,
    /// The destination that opened the ticket.
    pub destination: String,
    /// The kind of ticket system.
    pub system: String,
    /// The id of the ticket there.
    pub ticket: String,
    /// Where a person can see it.
    pub url: Option<String>,
}

/// Data of `ticket.updated`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TicketUpdated {
    /// As in `message.created`.
    pub sequence: u64,
    /// The conversation.
    pub conversation: ConversationRef,
    /// The destination whose ticket it is.
    pub destination: String,
    /// The kind of ticket system.
    pub system: String,
    /// The id of the ticket there.
    pub ticket: String,
    /// Where a person can see it.
    pub url: Option<String>,
    /// What it is now.
    pub status: TicketStatus,
    /// What it was before; null where that was never heard.
    pub previous_status: Option<TicketStatus>,
    /// When it changed, as the ticket system says.
    pub changed_at: Time,
    /// The conversation ended by it: the customer's next message opens another one that continues it.
    pub ended: bool,
}

/// Data of `channel.degraded` and `channel.recovered`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChannelState {
    /// The channel.
    pub channel: Channel,
    /// Why, from the closed list of codes.
    pub code: String,
    /// Since when it is, or was, degraded.
    pub since: Time,
    /// Counts by name, such as `failures`.
    pub counts: BTreeMap<String, u64>,
}

/// Data of `delivery.dead`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryDead {
    /// The destination that did not take it.
    pub destination: String,
    /// The event that was not taken.
    pub event: EventId,
    /// Its type.
    pub event_type: String,
    /// Its conversation, if it has one.
    pub conversation: Option<ConversationId>,
    /// Why, from the closed list of codes.
    pub code: String,
    /// When the first attempt was made.
    pub since: Time,
    /// Counts by name: `attempts`.
    pub counts: BTreeMap<String, u64>,
}

/// Data of `destination.paused` and `destination.resumed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DestinationState {
    /// The destination.
    pub destination: String,
    /// Why, from the closed list of codes.
    pub code: String,
    /// Since when.
    pub since: Time,
    /// Counts by name: `waiting`.
    pub counts: BTreeMap<String, u64>,
}
