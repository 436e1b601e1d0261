//! Talk: what is said and heard on one connection, without any I/O. A talk is told what came and what time it is, and answers with
//! deeds; the session carries them out.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::time::Instant;

use crate::model::codes::Code;
use crate::model::raw::{RawHead, Via};
use crate::ports::feed::{Cursors, FeedBatch, Payload};
use crate::ports::pull::PullError;

/// Payloads of one batch.
const COUNT_MAX: usize = 200;
/// Bytes of one batch; a single payload may be larger.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Notes of one round.
const NOTES_MAX: usize = 20;

/// One connection's side of a protocol.
pub trait Talk: Send {
    /// The connection is there.
    fn begin(&mut self, now: Instant, out: &mut Deeds) -> Result<(), PullError>;

    /// A frame came.
    fn heard(&mut self, frame: Bytes, now: Instant, out: &mut Deeds) -> Result<(), PullError>;

    /// A sign of life came that is no frame.
    fn alive(&mut self, now: Instant);

    /// When it wants to be woken at the latest.
    fn wake(&self) -> Option<Instant>;

    /// It is later now.
    fn tick(&mut self, now: Instant, out: &mut Deeds) -> Result<(), PullError>;

    /// The peer closed the connection.
    fn closed(&mut self, code: Option<u16>, reason: &str, out: &mut Deeds) -> Result<(), PullError>;

    /// Whether it is logged in and payloads come.
    fn is_ready(&self) -> bool;

    /// What is said before the connection is ended by us.
    fn goodbye(&self) -> Vec<Say>;
}

/// Something to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Say {
    /// A text, or a line, or a stanza.
    Text(String),
    /// A ping of the websocket.
    Ping,
    /// The end of the websocket, with this code.
    Close(u16),
}

/// What follows of what came.
#[derive(Debug, Default)]
pub struct Deeds {
    /// To be said now.
    pub say: Vec<Say>,
    /// To be said once everything before it is durable.
    pub acks: Vec<Say>,
    /// A new connection is wanted, after at most this long.
    pub again: Option<std::time::Duration>,
    /// Something for a person that stops nothing.
    notes: Vec<(Code, String)>,
    payloads: Vec<Payload>,
    bytes: usize,
    cursors: BTreeMap<String, Option<String>>,
    since: Option<Instant>,
    remembered: Option<Instant>,
    hurry: bool,
}

impl Deeds {
    /// Says a text.
    pub fn text(&mut self, text: impl Into<String>) {
        self.say.push(Say::Text(text.into()));
    }

    /// Something for a person that stops nothing. A peer can make us say little at once.
    pub fn note(&mut self, code: Code, detail: String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push((code, detail));
        }
    }

    /// The next thing for a person.
    pub fn take_note(&mut self) -> Option<(Code, String)> {
        (!self.notes.is_empty()).then(|| self.notes.remove(0))
    }

    /// A payload, to be admitted.
    pub fn payload(&mut self, body: Bytes, content_type: &str, historic: bool, now: Instant) {
        let head = RawHead { headers: vec![("content-type".to_owned(), content_type.to_owned())], ..RawHead::default() };
        self.bytes += body.len();
        self.since.get_or_insert(now);
        self.payloads.push(Payload { via: Via::Stream, head, body, historic });
    }

    /// A value to go on from, durable together with the payloads before it.
    pub fn remember(&mut self, name: &str, value: impl Into<String>, now: Instant) {
        self.remembered.get_or_insert(now);
        self.cursors.insert(name.to_owned(), Some(value.into()));
    }

    /// What is remembered goes at once: without it the next start would miss what comes from now on.
    pub fn hurry(&mut self) {
        self.hurry = true;
    }

    /// A value that is void.
    pub fn forget(&mut self, name: &str, now: Instant) {
        self.remembered.get_or_insert(now);
        self.cursors.insert(name.to_owned(), None);
    }

    /// Whether there is anything to commit.
    pub fn is_empty(&self) -> bool {
        self.payloads.is_empty() && self.cursors.is_empty()
    }

    /// Whether a batch is as large as it may be.
    pub fn is_full(&self) -> bool {
        self.payloads.len() >= COUNT_MAX || self.bytes >= BYTES_MAX
    }

    /// When what is gathered goes: payloads after `gather`, cursors alone after `remember`.
    pub fn due(&self, gather: std::time::Duration, remember: std::time::Duration) -> Option<Instant> {
        let payloads = self.since.map(|since| since + gather);
        let cursors = self.remembered.map(|since| if self.hurry { since } else { since + remember });
        payloads.into_iter().chain(cursors).min()
    }

    /// The batch, and what is to be said once it is durable.
    pub fn take(&mut self) -> (FeedBatch, Vec<Say>) {
        (self.since, self.remembered, self.bytes, self.hurry) = (None, None, 0, false);
        let batch =
            FeedBatch { payloads: std::mem::take(&mut self.payloads), cursors: std::mem::take(&mut self.cursors).into_iter().collect() };
        (batch, std::mem::take(&mut self.acks))
    }
}

/// What is remembered after a batch.
pub fn apply(cursors: &mut Cursors, batch: &FeedBatch) {
    for (name, value) in &batch.cursors {
        match value {
            Some(value) => drop(cursors.insert(name.clone(), value.clone())),
            None => drop(cursors.remove(name)),
        }
    }
}
