//! A hook: one callback URL, one connector, and the channels that share it.
//!
//! The pipeline calls in this order: [`Hook::body_bytes_max`], [`Hook::guard`], [`Hook::read`], and when the items are durable
//! [`Hook::answer`]. All of it is pure; only a request that went through the guard can be read.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use secrecy::SecretString;

use crate::connector::load::Connector;
use crate::connector::problem::Problem;
use crate::logic::digest::Digester;
use crate::model::codes::Code;
use crate::model::event::Priority;
use crate::model::item::Item;
use crate::model::key::KeyDigest;
use crate::model::raw::RawHead;
use crate::model::time::Time;
use crate::ports::intake::{HookAnswer, HookRequest};

/// A channel as its file says, in plain values.
#[derive(Debug, Clone)]
pub struct ChannelSpec {
    /// Name of its file.
    pub id: String,
    /// Path of its file, for problems.
    pub file: String,
    /// Which account of the platform; `None` where the connector tells it, or there is only one.
    pub account: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Priority of its messages.
    pub priority: Priority,
    /// `[settings]` as written; defaults are filled in here.
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// `[secrets]`, resolved: several values while rotating.
    pub secrets: BTreeMap<String, Vec<SecretString>>,
    /// The file says `verify = "none"`.
    pub verify_none: bool,
    /// The channel's own map (`map` or the content of `map_file`), with the name of the file it stands in.
    pub map: Option<(String, String)>,
    /// A `sender` conversation ends after this much silence, ms.
    pub new_after_ms: Option<i64>,
}

/// Limits of a hook from the main file.
#[derive(Debug, Clone, Copy)]
pub struct HookLimits {
    /// Largest body.
    pub body_bytes_max: usize,
    /// Largest file of a message.
    pub file_bytes_max: usize,
    /// Most files of a message.
    pub files_max: usize,
}

impl Default for HookLimits {
    fn default() -> Self {
        Self { body_bytes_max: 4 * 1024 * 1024, file_bytes_max: 25 * 1024 * 1024, files_max: 100 }
    }
}

/// What the guard decided.
#[derive(Debug)]
pub enum Guarded {
    /// Answer and forget: a handshake or probe (no code), or a refusal (its code is for the metric).
    Answer {
        /// The answer.
        answer: HookAnswer,
        /// Why it was refused.
        code: Option<Code>,
    },
    /// Authentic: keep the raw, then read it.
    Pass(Verified),
}

/// A request that went through the guard (or came out of the store, where only such requests are).
#[derive(Debug, Clone)]
pub struct Verified {
    head: RawHead,
    body: Bytes,
}

impl Verified {
    /// A raw of the store, read again by a better map. Only verified requests were ever admitted.
    pub fn from_store(head: RawHead, body: Bytes) -> Self {
        Self { head, body }
    }

    /// What to keep beside the body: sensitive headers are already left out.
    pub fn head(&self) -> &RawHead {
        &self.head
    }

    /// The raw bytes.
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

/// What reading needs to know beside the raw.
#[derive(Debug, Clone, Copy)]
pub struct ReadContext {
    /// When the raw was received.
    pub received_at: Time,
    /// It comes in through a backfill.
    pub historic: bool,
}

/// What a raw says.
#[derive(Debug, Default)]
pub struct Read {
    /// Its items, in the order of the payload; at least one.
    pub items: Vec<Item>,
    /// The platform's key of this delivery.
    pub delivery_key: Option<KeyDigest>,
    /// Files to keep before the items are admitted: key and bytes.
    pub blobs: Vec<(String, Bytes)>,
}

/// What became of a request, for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Durable (or a duplicate of something that is).
    Accepted,
    /// Durable, and every item was ignored.
    Ignored,
    /// Not taken, the platform is asked to come again after so many seconds.
    Overload {
        /// Seconds.
        retry_after: u32,
    },
}

/// One callback URL.
#[derive(Debug)]
pub struct Hook {
    name: String,
    body_bytes_max: usize,
}

impl Hook {
    /// Builds the hook `name`. Channels whose account is told by the payload share it.
    ///
    /// # Errors
    /// What is wrong with the channels: unknown settings or secrets, no secret to verify with, a broken map, the same account twice.
    pub fn build(
        name: &str,
        connector: Arc<Connector>,
        channels: Vec<ChannelSpec>,
        digester: Digester,
        limits: HookLimits,
    ) -> Result<Self, Vec<Problem>> {
        let _ = (name, connector, channels, digester, limits);
        Err(vec![Problem::whole(name, "not written yet")])
    }

    /// Its name, the last part of the URL.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Largest body it takes.
    pub fn body_bytes_max(&self) -> usize {
        self.body_bytes_max
    }

    /// Handshakes, limits, signature: before anything is parsed.
    pub fn guard(&self, request: &HookRequest, now: Time) -> Guarded {
        let _ = (request, now);
        Guarded::Answer { answer: HookAnswer { status: 503, headers: Vec::new(), body: Bytes::new() }, code: Some(Code::Invariant) }
    }

    /// Decodes, maps and normalizes. Never fails: what cannot be read becomes a quarantined item.
    pub fn read(&self, verified: &Verified, context: &ReadContext) -> Read {
        let _ = (verified, context);
        Read::default()
    }

    /// The answer once the fate of the request is known.
    pub fn answer(&self, verified: &Verified, outcome: Outcome) -> HookAnswer {
        let _ = (verified, outcome);
        HookAnswer { status: 503, headers: Vec::new(), body: Bytes::new() }
    }
}
