//! Media: files of a message that are still at the platform while it is admitted, and what becomes of them (design §2 step 6).
//!
//! One row an item holds all its files as they are known so far. While the item is pending its files fill that row; when it is published the
//! event says what is there, and what is learnt later becomes `message.updated`. What must stay true: a file that is ordered ends stored
//! or unavailable, and a receiver hears of either.

use serde::{Deserialize, Serialize};

use super::pending::Waiting;
use super::{Coming, Context, Verb, pending};
use crate::model::event::{Attachment, AttachmentState, Body, Call, ConversationRef, MessageUpdated};
use crate::model::id::AttachmentId;
use crate::model::item::{ChannelFacts, FetchOrder, Fetched, FilePlace, HoldReason, ItemAttachment, ItemBody};
use crate::model::ticket::TicketSource;
use crate::model::time::Time;
use crate::ports::store::{StoreError, Written};
use crate::ports::tx::{MediaRow, PendingRow, RowNumber, Tx};

/// The stored form. A change of shape is a new version beside this one.
#[derive(Serialize, Deserialize)]
struct Fetching {
    v: u8,
    channel: ChannelFacts,
    external_id: Option<String>,
    files: Vec<FetchingFile>,
    /// Something was learnt that no event says yet.
    untold: bool,
    /// What a transcript said, and no event says yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    words: Option<String>,
    /// The ticket in which the message was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ticket: Option<TicketSource>,
}

#[derive(Serialize, Deserialize)]
struct FetchingFile {
    file: ItemAttachment,
    attempts: u32,
    at: Time,
}

/// A file to fetch.
#[derive(Debug, Clone, PartialEq)]
pub struct FetchTask {
    /// Number of its item.
    pub item: i64,
    /// What is known of it.
    pub public: Attachment,
    /// What to fetch.
    pub order: FetchOrder,
    /// Attempts before this one.
    pub attempts: u32,
    /// Not before.
    pub at: Time,
}

/// The files of a row that are still to be fetched.
///
/// # Errors
/// The row is not of a form this version knows.
pub fn tasks(row: &MediaRow) -> Result<Vec<FetchTask>, StoreError> {
    let fetching = read(&row.body)?;
    let task = |one: FetchingFile| {
        let order = one.file.fetch?;
        Some(FetchTask { item: row.item, public: one.file.public, order, attempts: one.attempts, at: one.at })
    };
    Ok(fetching.files.into_iter().filter_map(task).collect())
}

/// Keys of the blobs that the stored form names, for a store that erases.
pub fn blobs_of(body: &[u8]) -> Vec<String> {
    let files = read(body).map(|fetching| fetching.files).unwrap_or_default();
    let blob = |one: FetchingFile| match one.file.place {
        Some(FilePlace::Blob { key }) => Some(key),
        _ => None,
    };
    files.into_iter().filter_map(blob).collect()
}

/// An attempt to fetch a file ended. A count of 0 says that nobody waits for it (any more): its blob can go.
///
/// # Errors
/// What the store says.
pub fn fetched(
    tx: &mut dyn Tx,
    item: i64,
    file: AttachmentId,
    outcome: Fetched,
    more: bool,
    context: &Context<'_>,
) -> Result<Written, StoreError> {
    let mut verb = Verb::new(tx, context);
    let Some(mut row) = verb.tx.media(item)? else { return Ok(verb.written) };
    let mut fetching = read(&row.body)?;
    if row.message != 0 && verb.tx.message(row.message)?.is_none_or(|message| message.gone) {
        verb.tx.remove_media(item)?;
        return Ok(verb.written);
    }
    if row.message == 0 && verb.tx.pending(item)?.is_none() {
        verb.tx.remove_media(item)?;
        return Ok(verb.written);
    }
    let Some(one) = fetching.files.iter_mut().find(|one| one.file.public.id == file) else { return Ok(verb.written) };
    if one.file.fetch.is_none() {
        // Told twice: a reload may begin an attempt again while the outcome of the one before is on its way. Its blob is not to go.
        let same = matches!((&one.file.place, &outcome), (Some(FilePlace::Blob { key }), Fetched::Stored { key: told, .. }) if key == told);
        verb.written.count = u64::from(same);
        return Ok(verb.written);
    }
    let words = settle(one, outcome);
    if one.file.fetch.is_none() {
        fetching.untold = true;
        if let (Some(place), true) = (&one.file.place, row.message != 0) {
            verb.tx.write_file(one.file.public.id, row.raw, row.message, place, &one.file.public)?;
        }
    }
    match words {
        Some(words) if row.message == 0 => verb.heard_waiting(item, words)?,
        words => fetching.words = words.or(fetching.words.take()),
    }
    let next = fetching.files.iter().filter(|one| one.file.fetch.is_some()).map(|one| one.at).min();
    let told = row.message != 0 && fetching.untold && (next.is_none() || !more);
    if told {
        verb.update(&row, &fetching)?;
        (fetching.untold, fetching.words) = (false, None);
    }
    row.at = next.unwrap_or(row.at);
    if next.is_none() && row.message != 0 {
        verb.tx.remove_media(item)?;
    } else {
        row.body = written(&fetching)?;
        verb.tx.write_media(&row)?;
    }
    verb.written.count = 1;
    let waits = next.is_none() && row.message == 0;
    if waits && verb.tx.pending(item)?.is_some_and(|pending| pending.reason == HoldReason::Media) {
        let done = std::mem::take(&mut verb.written);
        let released = pending::let_go(tx, item, context)?;
        return Ok(Written { count: done.count, ..released });
    }
    Ok(verb.written)
}

/// Writes the outcome into the file; returns what is said in it, if it is a transcript.
fn settle(one: &mut FetchingFile, outcome: Fetched) -> Option<String> {
    let public = &mut one.file.public;
    match outcome {
        Fetched::Stored { key, bytes, sha256, media_type, name, words } => {
            public.state = AttachmentState::Stored;
            public.reason = None;
            public.bytes = Some(bytes);
            public.sha256 = Some(sha256);
            public.media_type = media_type;
            public.name = public.name.take().or(name);
            one.file.place = Some(FilePlace::Blob { key });
            one.file.fetch = None;
            return words;
        }
        Fetched::Unavailable { code } => {
            public.state = AttachmentState::Unavailable;
            public.reason = Some(code.as_str().to_owned());
            one.file.fetch = None;
        }
        Fetched::Later { at } => {
            one.attempts = one.attempts.saturating_add(1);
            one.at = at;
        }
    }
    None
}

impl Verb<'_> {
    /// Notes what is to be fetched for an item that waits, or (`message`) for one that is published. What was written in a ticket is fetched
    /// by the channel of its destination, whatever channel its conversation is of.
    pub(super) fn order_media(
        &mut self,
        coming: &Coming,
        files: &[ItemAttachment],
        external_id: Option<&str>,
        message: RowNumber,
        ticket: Option<&TicketSource>,
    ) -> Result<(), StoreError> {
        if files.iter().all(|file| file.fetch.is_none()) {
            return Ok(());
        }
        let now = self.context.now;
        let fetching = Fetching {
            v: 1,
            channel: ChannelFacts::clone(&coming.channel),
            external_id: external_id.map(str::to_owned),
            files: files.iter().map(|file| FetchingFile { file: file.clone(), attempts: 0, at: now }).collect(),
            untold: false,
            words: None,
            ticket: ticket.cloned(),
        };
        let channel = ticket.map_or(&coming.channel.public.id, |ticket| &ticket.destination).clone();
        let body = written(&fetching)?;
        self.tx.write_media(&MediaRow { item: coming.item, raw: coming.raw, channel: channel.clone(), message, at: now, body })?;
        if !self.written.media.contains(&channel) {
            self.written.media.push(channel);
        }
        Ok(())
    }

    /// Whether files of an item are still to be fetched.
    pub(super) fn fetches(&mut self, item: i64) -> Result<bool, StoreError> {
        let Some(row) = self.tx.media(item)? else { return Ok(false) };
        Ok(read(&row.body)?.files.iter().any(|one| one.file.fetch.is_some()))
    }

    /// More files joined an item that waits: `files` are all of them now.
    pub(super) fn order_more_media(
        &mut self,
        pending: &PendingRow,
        channel: &ChannelFacts,
        files: &[ItemAttachment],
        external_id: Option<String>,
    ) -> Result<(), StoreError> {
        let known = self.tx.media(pending.item)?;
        if known.is_none() && files.iter().all(|file| file.fetch.is_none()) {
            return Ok(());
        }
        let now = self.context.now;
        let mut fetching = match &known {
            Some(row) => read(&row.body)?,
            None => Fetching { v: 1, channel: channel.clone(), external_id, files: Vec::new(), untold: false, words: None, ticket: None },
        };
        let new = files.iter().skip(fetching.files.len());
        fetching.files.extend(new.map(|file| FetchingFile { file: file.clone(), attempts: 0, at: now }));
        let channel = channel.public.id.clone();
        let body = written(&fetching)?;
        let (item, raw) = (pending.item, pending.raw);
        self.tx.write_media(&MediaRow { item, raw, channel: channel.clone(), message: 0, at: now, body })?;
        if !self.written.media.contains(&channel) {
            self.written.media.push(channel);
        }
        Ok(())
    }

    /// The files of an item as they are known by now, where some of them had to be fetched.
    pub(super) fn files_by_now(&mut self, item: i64, files: Vec<ItemAttachment>) -> Result<Vec<ItemAttachment>, StoreError> {
        if files.iter().all(|file| file.fetch.is_none()) {
            return Ok(files);
        }
        match self.tx.media(item)? {
            Some(row) => Ok(read(&row.body)?.files.into_iter().map(|one| one.file).collect()),
            None => Ok(files),
        }
    }

    /// An item whose files had to be fetched is published: what is left of them belongs to its message from now on.
    pub(super) fn media_published(&mut self, item: i64, message: RowNumber) -> Result<(), StoreError> {
        let Some(mut row) = self.tx.media(item)? else { return Ok(()) };
        let mut fetching = read(&row.body)?;
        if fetching.files.iter().all(|one| one.file.fetch.is_none()) {
            return self.tx.remove_media(item);
        }
        // What is there was just told.
        fetching.untold = false;
        row.message = message;
        row.body = written(&fetching)?;
        self.tx.write_media(&row)
    }

    /// What a transcript said goes into the message that waits.
    fn heard_waiting(&mut self, item: i64, words: String) -> Result<(), StoreError> {
        let Some(row) = self.tx.pending(item)? else { return Ok(()) };
        let mut waiting = Waiting::read(&row.body)?;
        let ItemBody::Message(message) = &mut waiting.body else { return Ok(()) };
        if let Some(call) = &mut message.call {
            call.transcript = Some(words.clone());
        }
        message.text = message.text.take().or(Some(words));
        self.tx.rewrite_pending(item, &waiting.written()?)
    }

    /// Publishes `message.updated` with all files of the message, and with what a transcript said.
    fn update(&mut self, row: &MediaRow, fetching: &Fetching) -> Result<(), StoreError> {
        let Some(target) = self.tx.message(row.message)? else { return Ok(()) };
        let told = self.told(&target)?;
        let ours = fetching.files.iter().map(|one| one.file.public.clone());
        // Parts of a call have rows of their own: what other rows know of stays as it was told.
        let before = told.attachments.clone();
        let attachments = match told.attachments {
            None => ours.collect(),
            Some(mut all) => {
                for file in ours {
                    all.iter_mut().filter(|known| known.id == file.id).for_each(|known| *known = file.clone());
                }
                all
            }
        };
        let attachments_changed = Some(settled(before.as_deref().unwrap_or_default(), &attachments));
        let call = told.call.zip(fetching.words.clone()).map(|(call, words)| Call { transcript: Some(words), ..call });
        let text = fetching.words.clone().filter(|_| told.text.is_none());
        let mut changed = vec!["attachments".to_owned()];
        changed.extend(call.as_ref().map(|_| "call".to_owned()));
        changed.extend(text.as_ref().map(|_| "text".to_owned()));
        let mut conversation = self.conversation(target.conversation)?;
        conversation.sequence += 1;
        let body = Body::MessageUpdated(Box::new(MessageUpdated {
            sequence: conversation.sequence,
            message: super::publish::reference(&target, fetching.external_id.clone()),
            conversation: ConversationRef { id: conversation.id },
            channel: fetching.channel.public.clone(),
            changed,
            attachments: Some(attachments),
            attachments_changed,
            text,
            call,
            feedback: None,
            to: None,
            historic: told.historic,
            ticket: fetching.ticket.clone(),
        }));
        self.publish_about(&fetching.channel.public.id, conversation, target.row, body)?;
        Ok(())
    }
}

/// Ids of the files that are stored or unavailable and were something else when receivers were told last.
pub(super) fn settled(before: &[Attachment], now: &[Attachment]) -> Vec<AttachmentId> {
    let is_told = |file: &Attachment| before.iter().any(|known| known.id == file.id && known.state == file.state);
    now.iter().filter(|file| file.state != AttachmentState::Pending && !is_told(file)).map(|file| file.id).collect()
}

fn read(body: &[u8]) -> Result<Fetching, StoreError> {
    let broken = |error: serde_json::Error| StoreError::Invariant {
        detail: format!("stored form of files to fetch: line {} column {}", error.line(), error.column()),
    };
    serde_json::from_slice(body).map_err(broken)
}

fn written(fetching: &Fetching) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(fetching).map_err(|error| StoreError::Invariant { detail: format!("files to fetch: {error}") })
}
