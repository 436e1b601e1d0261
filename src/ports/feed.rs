//! Feed: an engine for a source of payloads: pages that we ask for, frames of a stream. The pipeline owns loops, backoff, cursors and
//! shutdown; the engine hands over batches in the order of the source.
//!
//! What an engine hands over is read like a verified webhook, by the connector's `map.jq`; the cursor it names is committed in the
//! transaction that admits the batch.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::model::codes::Code;
use crate::model::raw::{RawHead, Via};
use crate::ports::BoxFuture;
use crate::ports::pull::PullError;

/// Durable values of an account by name, as the engine wrote them. Each at most 16 KiB.
pub type Cursors = BTreeMap<String, String>;

/// One payload.
#[derive(Debug, Clone)]
pub struct Payload {
    /// `poll` or `stream`.
    pub via: Via,
    /// What the map may see as headers; no credentials.
    pub head: RawHead,
    /// The bytes, as they came.
    pub body: Bytes,
    /// It holds what was there before the first run.
    pub historic: bool,
}

/// Payloads that are admitted together, in order, and what is known after them.
#[derive(Debug, Clone, Default)]
pub struct FeedBatch {
    /// In the order of the source, oldest first.
    pub payloads: Vec<Payload>,
    /// Cursors that change; `None` takes one away.
    pub cursors: Vec<(String, Option<String>)>,
}

/// What an engine has to say.
#[derive(Debug)]
pub enum FeedNews {
    /// Payloads, or cursors alone.
    Batch(FeedBatch),
    /// Nothing now; ask again after this time (zero: at once; a stream has waited already).
    Quiet(Duration),
    /// Something a person should hear of that does not keep the rest from going on.
    Note {
        /// What.
        code: Code,
        /// One line.
        detail: String,
    },
    /// What was noted is well again.
    Mended,
}

/// A connected source.
pub trait Feed: Send {
    /// The next news. The batch that was answered before is durable when this is called again, so this is where an engine
    /// acknowledges it. Waits at most about a minute, then answers `Quiet`. Dropping the future ends the session.
    fn next(&mut self) -> BoxFuture<'_, Result<FeedNews, PullError>>;

    /// Everything that was there when it was opened has been asked for. A source without an end is never through.
    fn is_through(&self) -> bool {
        false
    }

    /// Acknowledges what is durable and ends the session politely, within a short bound.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// Makes sessions of one channel.
pub trait FeedSource: Send + Sync {
    /// Identifies the account at the platform: cursors belong to it, not to the file's name (design §6).
    fn account(&self) -> String;

    /// The server that the account is at: few connect to one server at once.
    fn server(&self) -> String;

    /// Connects, going on from `cursors` (what the store holds now).
    fn open(&self, cursors: Cursors) -> BoxFuture<'_, Result<Box<dyn Feed>, PullError>>;

    /// Looks at the source for `check --connect`: lines for a person.
    fn probe(&self) -> BoxFuture<'_, Result<Vec<String>, PullError>>;
}
