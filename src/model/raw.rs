//! The raw: the exact bytes a platform handed over, with what is needed to read them again.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::id::RawId;
use crate::model::time::Time;

/// Raws up to this many bytes live in the raw database, larger ones as files (design §9: a row of 1 MiB
/// still commits in the group, a larger one would stall it).
pub const RAW_ROW_BYTES_MAX: usize = 1024 * 1024;

/// A way that payloads come by: how a raw reached us, and a `mode` of channel files and manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// An HTTP request to a hook.
    Webhook,
    /// A page of a poll.
    Poll,
    /// A frame of a stream.
    Stream,
    /// A mail from a mailbox.
    Imap,
}

impl Via {
    /// The word in tables, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Poll => "poll",
            Self::Stream => "stream",
            Self::Imap => "imap",
        }
    }

    /// The way of a word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Webhook, Self::Poll, Self::Stream, Self::Imap].into_iter().find(|via| via.as_str() == word)
    }

    /// Whether what these ways need (all, if empty) is needed by one of those that are chosen.
    pub fn needed(by: &[Self], chosen: &[Self]) -> bool {
        by.is_empty() || by.iter().any(|via| chosen.contains(via))
    }
}

/// What came beside the body. Kept with the raw, so that it can be read again by a better mapping.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct RawHead {
    /// HTTP method; empty for mail.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// Path and query as requested.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// Header names (lower case) and values in the order received. Secrets (`authorization`, `cookie`) and the header
    /// that carries a static secret are left out before the raw is kept (I7).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// Mail: folder, UIDVALIDITY and UID, as `INBOX;1699;42`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}

impl RawHead {
    /// The first value of the header `name` (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The query part of the target, without the question mark.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }
}

/// A raw in memory.
#[derive(Debug, Clone)]
pub struct Raw {
    /// Its id.
    pub id: RawId,
    /// The hook it came in by; for pulled channels the channel's id.
    pub source: String,
    /// How.
    pub via: Via,
    /// When.
    pub received_at: Time,
    /// What came beside the body.
    pub head: RawHead,
    /// The bytes, unchanged.
    pub body: Bytes,
}
