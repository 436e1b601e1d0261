//! Drafts: what a map may say. Strict: an unknown field or a wrong type is a bad draft, never half a message.

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::connector::jq::Output;
use crate::model::event::{Authentication, Author, Automated, Direction, Feedback};

/// Parts of one key.
const KEY_PARTS_MAX: usize = 8;
/// Bytes of one part.
const KEY_BYTES_MAX: usize = 1024;

/// What a draft is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DraftKind {
    /// Somebody said something.
    Message,
    /// An author changed a message.
    Edit,
    /// More was learnt about a message: its call (recording, length, transcript).
    Update,
    /// An author removed a message.
    Delete,
    /// Added or removed.
    Reaction,
    /// Of something we sent.
    Status,
    /// A whole mail, to be read as one from a mailbox.
    Mail,
    /// Somebody wrote an entry in a ticket that the customer may see. Of the way back from a ticket system.
    Entry,
    /// A ticket changed its state. Of the way back from a ticket system.
    Ticket,
    /// Authentic, nothing for a person.
    Ignore,
}

/// All draft kinds as a map writes them.
pub const DRAFT_KINDS: [&str; 10] = ["message", "edit", "update", "delete", "reaction", "status", "mail", "entry", "ticket", "ignore"];

/// One draft.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// What it is.
    pub kind: DraftKind,
    /// The platform's key of the message; of a reaction, edit or delete: of its target.
    #[serde(default)]
    pub key: Option<Key>,
    /// The platform's key of this delivery of the raw.
    #[serde(default)]
    pub delivery_key: Option<Text>,
    /// The account of the platform it is for.
    #[serde(default)]
    pub account: Option<Text>,
    /// The platform's conversation: room, chat, other party.
    #[serde(default)]
    pub conversation: Option<Key>,
    /// The thread inside it; a root names itself.
    #[serde(default)]
    pub thread: Option<Text>,
    /// The author.
    #[serde(default)]
    pub from: Option<DraftParty>,
    /// The recipients; the channel's own address if missing.
    #[serde(default)]
    pub to: Option<Vec<DraftParty>>,
    /// Plain text.
    #[serde(default)]
    pub text: Option<Text>,
    /// HTML, not sanitised.
    #[serde(default)]
    pub html: Option<String>,
    /// The new part of a reply.
    #[serde(default)]
    pub reply_text: Option<String>,
    /// Subject line.
    #[serde(default)]
    pub subject: Option<Text>,
    /// Files.
    #[serde(default)]
    pub attachments: Option<Vec<DraftFile>>,
    /// Key of the message that is answered.
    #[serde(default)]
    pub in_reply_to: Option<Key>,
    /// When its author sent it.
    #[serde(default)]
    pub sent_at: Option<Moment>,
    /// Between two parties, not in a group.
    #[serde(default)]
    pub direct: Option<bool>,
    /// `message.kind`.
    #[serde(default)]
    pub message_kind: Option<String>,
    /// A rating.
    #[serde(default)]
    pub feedback: Option<Feedback>,
    /// A phone call.
    #[serde(default)]
    pub call: Option<DraftCall>,
    /// Where a person can see it.
    #[serde(default)]
    pub url: Option<String>,
    /// The platform's id, if not the key's parts joined by `:`.
    #[serde(default)]
    pub external_id: Option<Text>,
    /// What the platform says beyond this.
    #[serde(default)]
    pub extra: Option<Map<String, Value>>,
    /// Version of an edit.
    #[serde(default)]
    pub revision: Option<Text>,
    /// When it was edited.
    #[serde(default)]
    pub edited_at: Option<Moment>,
    /// The author changed it before we first saw it.
    #[serde(default)]
    pub edited: Option<bool>,
    /// State of something we sent; of a ticket: `open`, `pending`, `resolved`, `closed` or `merged`.
    #[serde(default)]
    pub state: Option<String>,
    /// The ticket system's id of the ticket.
    #[serde(default)]
    pub ticket: Option<Text>,
    /// Our id of the ticket, where the system repeats it.
    #[serde(default)]
    pub ours: Option<Text>,
    /// Our id of the entry, where it carries one.
    #[serde(default)]
    pub mark: Option<Text>,
    /// The ticket that goes on in place of a merged one.
    #[serde(default)]
    pub into: Option<Text>,
    /// Its error.
    #[serde(default)]
    pub error: Option<Text>,
    /// A reaction's emoji.
    #[serde(default)]
    pub emoji: Option<String>,
    /// Added or removed; added if missing.
    #[serde(default)]
    pub added: Option<bool>,
    /// A whole mail as text.
    #[serde(default)]
    pub mime: Option<String>,
    /// A whole mail in base64.
    #[serde(default)]
    pub mime_base64: Option<String>,
    /// Why it is ignored.
    #[serde(default)]
    pub code: Option<String>,
    /// Language as the platform says it.
    #[serde(default)]
    pub language: Option<String>,
    /// The platform vouches for the sender's address.
    #[serde(default)]
    pub verified: Option<bool>,
    /// What the platform found out about the sender of a mail.
    #[serde(default)]
    pub authentication: Option<DraftAuthentication>,
    /// Who spoke; inbound if missing.
    #[serde(default)]
    pub direction: Option<Direction>,
    /// What kind of author.
    #[serde(default)]
    pub author: Option<Author>,
    /// No person wrote it.
    #[serde(default)]
    pub automated: Option<Automated>,
    /// What all parts of a message that comes in several have in common (`[coalesce]`).
    #[serde(default)]
    pub part_of: Option<Text>,
    /// Number of this part: texts are put together in this order.
    #[serde(default)]
    pub part: Option<u64>,
    /// How many parts there are.
    #[serde(default)]
    pub parts: Option<u64>,
}

/// A party.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DraftParty {
    /// `scheme:value`.
    pub address: String,
    /// Display name.
    #[serde(default)]
    pub name: Option<String>,
    /// Short name.
    #[serde(default)]
    pub handle: Option<String>,
    /// Picture.
    #[serde(default)]
    pub avatar_url: Option<String>,
    /// More addresses of the same party that the platform vouches for.
    #[serde(default)]
    pub also: Option<Vec<String>>,
    /// Recipients: `to`, `cc`, …
    #[serde(default)]
    pub role: Option<String>,
}

/// A file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DraftFile {
    /// The platform's id of it.
    #[serde(default)]
    pub id: Option<Text>,
    /// Where it can be fetched.
    #[serde(default)]
    pub url: Option<String>,
    /// Number of the file in the form (`files[].index`).
    #[serde(default)]
    pub file: Option<usize>,
    /// Its bytes, base64.
    #[serde(default)]
    pub content: Option<String>,
    /// File name.
    #[serde(default)]
    pub name: Option<String>,
    /// Media type.
    #[serde(default, rename = "type")]
    pub media_type: Option<String>,
    /// Size.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// Shown inside the text.
    #[serde(default)]
    pub inline: Option<bool>,
    /// The recipe it is fetched by; `default` if missing.
    #[serde(default)]
    pub recipe: Option<String>,
}

/// What a platform found out about the sender of a mail, in the words of RFC 8601.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DraftAuthentication {
    /// Whether the server that sent it may.
    #[serde(default)]
    pub spf: Option<String>,
    /// Whether a signature holds.
    #[serde(default)]
    pub dkim: Option<String>,
    /// Whether one of them speaks for the author's domain.
    #[serde(default)]
    pub dmarc: Option<String>,
}

impl DraftAuthentication {
    /// As the event says it; what is no such word is left out. Whether it proves the author is decided with the mail at hand.
    pub fn said(&self) -> Authentication {
        let word = |said: &Option<String>| {
            let said = said.as_deref()?.trim().to_ascii_lowercase();
            ((1..=16).contains(&said.len()) && said.bytes().all(|byte| byte.is_ascii_alphabetic())).then_some(said)
        };
        Authentication { spf: word(&self.spf), dkim: word(&self.dkim), dmarc: word(&self.dmarc), verified: false }
    }
}

/// A call.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DraftCall {
    /// `answered`, `missed`, `voicemail`, …
    pub outcome: String,
    /// Length.
    #[serde(default)]
    pub seconds: Option<u64>,
    /// The recording: its place among the draft's `attachments`.
    #[serde(default)]
    pub recording: Option<usize>,
    /// What was said.
    #[serde(default)]
    pub transcript: Option<String>,
}

/// Text, or a number as its digits: ids are text everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text)),
            Value::Number(number) => Ok(Self(number.to_string())),
            _ => Err(serde::de::Error::custom("expected a text or a number")),
        }
    }
}

/// A key: one part or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(pub Vec<String>);

impl Key {
    /// The parts, joined by `:`.
    pub fn joined(&self) -> String {
        self.0.join(":")
    }

    /// The parts.
    pub fn parts(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = || serde::de::Error::custom("a key is a text, a number, or a list of up to 8 of those, none empty");
        let part = |value: Value| match value {
            Value::String(text) if !text.is_empty() && text.len() <= KEY_BYTES_MAX => Some(text),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let parts: Option<Vec<String>> = match Value::deserialize(deserializer)? {
            Value::Array(items) if !items.is_empty() && items.len() <= KEY_PARTS_MAX => items.into_iter().map(part).collect(),
            Value::Array(_) => None,
            single => part(single).map(|part| vec![part]),
        };
        parts.map(Self).ok_or_else(wrong)
    }
}

/// A time: Unix milliseconds (what `time_s` and its like give) or RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(pub i64);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ms = match Value::deserialize(deserializer)? {
            Value::Number(number) => number.as_i64().or_else(|| number.as_f64().map(|value| value as i64)),
            Value::String(text) => crate::model::time::Time::parse(&text).map(|time| time.0),
            _ => None,
        };
        ms.map(Self).ok_or_else(|| serde::de::Error::custom("a time is Unix milliseconds or RFC 3339"))
    }
}

/// Reads what a map gave. The error names the field and the type, never content.
///
/// # Errors
/// Why it is no draft.
pub fn read(output: Output<'_>) -> Result<Draft, String> {
    if !output.is_object() {
        return Err("a draft is an object".to_owned());
    }
    Draft::deserialize(output).map_err(|error| shape_of(&error.to_string()))
}

/// serde's texts quote unexpected strings: cut what is quoted by `"`, keep what is quoted by backticks (names of fields).
fn shape_of(text: &str) -> String {
    let mut out = String::new();
    for (index, piece) in text.split('"').enumerate() {
        out.push_str(if index % 2 == 0 { piece } else { "…" });
    }
    // An unknown field or variant is named by the map, but a map may copy names out of the payload.
    out.split(", expected").next().unwrap_or_default().chars().take(200).collect()
}
