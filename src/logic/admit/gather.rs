//! Gather: a message that comes in several parts (an album, a long SMS) is one message (design §2 step 6).
//!
//! The first part waits, keeping its place; what follows joins it there. What must stay true: every part has its own row in the ledger, its
//! key leads to the whole, and a part that comes when the whole is out is a message of its own rather than lost.

use super::pending::Waiting;
use super::{Coming, Outcome, Verb};
use crate::model::codes::Code;
use crate::model::item::{Gather, HoldReason, ItemBody, MessageItem};
use crate::ports::store::StoreError;
use crate::ports::tx::{Claim, PendingRow};

/// Parts of one message: more are messages of their own.
const PARTS_MAX: u64 = 255;
/// Longest text of the whole.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Most files of the whole.
const FILES_MAX: usize = 100;

impl Verb<'_> {
    /// Joins a part to the whole that waits for it. `None`: it goes its own way, as the first part or by itself.
    pub(super) fn gather(&mut self, coming: &Coming, message: &mut MessageItem) -> Result<Option<Outcome>, StoreError> {
        let Some(part) = message.gather.clone() else { return Ok(None) };
        let first = match self.tx.claim_key(part.key, coming.item)? {
            Claim::Known(first) if first != coming.item => first,
            _ => return Ok(None),
        };
        let Some(mut row) = self.tx.pending(first)? else { return Ok(self.alone(message)) };
        let mut waiting = Waiting::read(&row.body)?;
        let ItemBody::Message(whole) = &mut waiting.body else { return Ok(self.alone(message)) };
        if !join(whole, message, &part) {
            return Ok(self.alone(message));
        }
        let complete = whole.gather.as_ref().is_some_and(|whole| whole.parts.is_some_and(|parts| whole.seen >= parts));
        let (files, external_id) = (whole.attachments.clone(), whole.external_id.clone());
        row.body = waiting.written()?;
        self.tx.rewrite_pending(first, &row.body)?;
        self.tx.move_key(coming.key, first)?;
        self.order_more_media(&row, &coming.channel, &files, external_id)?;
        if complete && row.reason == HoldReason::Gathering {
            self.written.pending.push((first, self.context.now));
        }
        Ok(Some(Outcome::ignored(coming.kind, Code::Gathered.as_str())))
    }

    /// Nobody waits for it any more: it does not wait for others either.
    fn alone(&self, message: &mut MessageItem) -> Option<Outcome> {
        message.gather = None;
        message.hold = message.hold.filter(|hold| hold.reason != HoldReason::Gathering);
        None
    }

    /// The parts of a message are there, its files may not be: it goes on waiting for them, if there is time left.
    pub(super) fn gathered(&mut self, row: &PendingRow) -> Result<bool, StoreError> {
        if row.reason != HoldReason::Gathering || !self.fetches(row.item)? {
            return Ok(false);
        }
        let ItemBody::Message(message) = Waiting::read(&row.body)?.body else { return Ok(false) };
        let until = message.gather.and_then(|gather| gather.media_until).filter(|until| *until > self.context.now);
        let Some(until) = until else { return Ok(false) };
        self.tx.change_pending(row.item, HoldReason::Media, until)?;
        self.written.pending.push((row.item, until));
        self.written.count = 1;
        Ok(true)
    }
}

/// Puts a part into the whole; false if the whole is as large as it may be.
fn join(whole: &mut MessageItem, part: &mut MessageItem, gather: &Gather) -> bool {
    let Some(known) = whole.gather.as_mut() else { return false };
    let length = |texts: &std::collections::BTreeMap<u64, String>| texts.values().map(String::len).sum::<usize>();
    let files = whole.attachments.len() + part.attachments.len();
    if known.seen >= PARTS_MAX || files > FILES_MAX || length(&known.texts) + length(&gather.texts) > TEXT_BYTES_MAX {
        return false;
    }
    for (number, text) in &gather.texts {
        // Parts without a number, or with the same, are in order of arrival.
        let free = (*number..).find(|number| !known.texts.contains_key(number)).unwrap_or(*number);
        known.texts.insert(free, text.clone());
    }
    known.seen += 1;
    known.parts = known.parts.or(gather.parts);
    known.media_until = known.media_until.max(gather.media_until);
    if !gather.texts.is_empty() {
        whole.text = Some(known.texts.values().map(String::as_str).collect::<Vec<_>>().join(&known.glue));
    }
    whole.attachments.append(&mut part.attachments);
    true
}
