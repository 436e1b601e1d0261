//! Learn: what comes later about a message (design §4 `message.updated`): the recording of a call, its length, its transcript, in any
//! order; the other mailboxes of ours that a mail lies in (design §7).
//!
//! The first part that comes makes the message, each further one adds to it. What must stay true: parts only add — what is known is
//! not forgotten because a later part does not say it; a part that says nothing new is a duplicate and no event; a message that still
//! waits takes them in, so that its event tells all.

use serde_json::Value;

use super::media::settled;
use super::pending::Waiting;
use super::target::{Target, gone};
use super::{Coming, Outcome, Verb};
use crate::model::codes::Code;
use crate::model::event::{Attachment, Body, Call, ConversationRef, MessageUpdated, Recipient};
use crate::model::id::AttachmentId;
use crate::model::item::{EditItem, Fate, Hold, HoldReason, ItemAttachment, ItemBody, MessageItem, RECIPIENTS_MAX};
use crate::model::key::KeyDigest;
use crate::ports::store::StoreError;
use crate::ports::tx::{ConversationRow, MessageRow};

/// Outcomes of a call, the one that says least first: a voicemail was a missed call before its recording came.
const OUTCOMES: [&str; 3] = ["missed", "answered", "voicemail"];

impl Verb<'_> {
    /// What was learnt about a message that is known, waits, or was never heard of.
    pub(super) fn learn(&mut self, coming: Coming, learnt: EditItem) -> Result<Outcome, StoreError> {
        let keys = keys(&learnt);
        match self.find_target(&keys)? {
            Target::Known(target, conversation) if conversation.pending => {
                let hold = Hold { reason: HoldReason::Queued, until: self.context.now };
                let waiting = Waiting::of(&coming, ItemBody::Update(Box::new(learnt)), 0, None);
                let outcome = self.wait(&coming, conversation, waiting, hold)?;
                Ok(Outcome { message: Some((target.row, target.id)), ..outcome })
            }
            Target::Known(target, conversation) => self.publish_learnt(&coming, conversation, &target, learnt.message),
            Target::Waiting(_) => self.join_waiting(&coming, &keys, learnt.message),
            Target::Gone(target) => Ok(gone(coming.kind, target.as_ref())),
            Target::Unseen => {
                for key in keys {
                    self.tx.claim_key(key, coming.item)?;
                }
                self.message(Coming { key: learnt.target, ..coming }, learnt.message)
            }
        }
    }

    /// A message with a call whose key is known: the other parts of the call came first, or it is a repetition. `known`: the item that has the key.
    pub(super) fn known_call(&mut self, coming: Coming, message: MessageItem, known: i64) -> Result<Outcome, StoreError> {
        let (kind, key) = (coming.kind, coming.key);
        let outcome = match self.find_target(&[key])? {
            Target::Known(target, conversation) if !conversation.pending => self.publish_learnt(&coming, conversation, &target, message)?,
            Target::Waiting(_) => self.join_waiting(&coming, &[key], message)?,
            _ => return self.duplicate(kind, key, known),
        };
        if outcome.fate == Fate::Duplicate { self.duplicate(kind, key, known) } else { Ok(outcome) }
    }

    /// A copy of a message that is known: where it lies in another of our mailboxes, the message names that one too, once. `known`: the item
    /// that has the key.
    pub(super) fn known_copy(&mut self, coming: Coming, message: MessageItem, known: i64) -> Result<Outcome, StoreError> {
        let (kind, key) = (coming.kind, coming.key);
        if !message.to.iter().any(is_mailbox) {
            return self.duplicate(kind, key, known);
        }
        let copy = MessageItem { text: None, attachments: Vec::new(), aliases: Vec::new(), hints: Vec::new(), hold: None, ..message };
        let outcome = match self.find_target(&[key])? {
            Target::Known(target, conversation) if conversation.pending => {
                if self.told(&target)?.to.is_none_or(|to| joined(&to, &copy.to).is_none()) {
                    return self.duplicate(kind, key, known);
                }
                let hold = Hold { reason: HoldReason::Queued, until: self.context.now };
                let learnt = EditItem { target: key, message: copy, edited_at: None };
                let waiting = Waiting::of(&coming, ItemBody::Update(Box::new(learnt)), 0, None);
                let outcome = self.wait(&coming, conversation, waiting, hold)?;
                Outcome { message: Some((target.row, target.id)), ..outcome }
            }
            Target::Known(target, conversation) => self.publish_learnt(&coming, conversation, &target, copy)?,
            Target::Waiting(_) => {
                self.join_waiting(&coming, &[key], copy)?;
                return self.duplicate(kind, key, known);
            }
            Target::Gone(_) | Target::Unseen => return self.duplicate(kind, key, known),
        };
        if outcome.fate == Fate::Duplicate { self.duplicate(kind, key, known) } else { Ok(outcome) }
    }

    /// Puts what was learnt into the message that waits.
    fn join_waiting(&mut self, coming: &Coming, keys: &[KeyDigest], learnt: MessageItem) -> Result<Outcome, StoreError> {
        let mut found = None;
        for key in keys {
            found = found.or(self.tx.item_by_key(*key)?);
        }
        let Some(item) = found else { return Ok(gone(coming.kind, None)) };
        let Some(row) = self.tx.pending(item)? else { return Ok(gone(coming.kind, None)) };
        let mut waiting = Waiting::read(&row.body)?;
        let ItemBody::Message(whole) = &mut waiting.body else { return Ok(gone(coming.kind, None)) };
        let MessageItem { call, text, attachments, to, .. } = learnt;
        let files = news_of(attachments, call.as_ref().and_then(|news| news.recording).filter(|_| recorded(whole.call.as_ref())));
        let merged = call.map(|news| merged(whole.call.as_ref(), news)).filter(|merged| whole.call.as_ref() != Some(merged));
        let words = text.filter(|text| whole.text.as_ref() != Some(text));
        let to = joined(&whole.to, &to);
        if merged.is_none() && words.is_none() && files.is_empty() && to.is_none() {
            return Ok(Outcome { duplicate_of: Some(item), ..Outcome::new(coming.kind, Fate::Duplicate) });
        }
        whole.call = merged.or(whole.call.take());
        whole.text = words.or(whole.text.take());
        whole.attachments.extend(files.iter().cloned());
        if let Some(to) = to {
            whole.to = to;
        }
        let (added, all, external_id) = (!files.is_empty(), whole.attachments.clone(), whole.external_id.clone());
        self.tx.rewrite_pending(item, &waiting.written()?)?;
        if added {
            self.order_more_media(&row, &coming.channel, &all, external_id)?;
        }
        Ok(Outcome::ignored(coming.kind, Code::Gathered.as_str()))
    }

    /// Publishes `message.updated` with the whole of what changed as it is known now; nothing new is a duplicate.
    pub(super) fn publish_learnt(
        &mut self,
        coming: &Coming,
        mut conversation: ConversationRow,
        target: &MessageRow,
        learnt: MessageItem,
    ) -> Result<Outcome, StoreError> {
        let Told { call: known, text: words, attachments: files, to: recipients, historic } = self.told(target)?;
        let MessageItem { call: news, text, attachments, external_id, to, historic: learnt_late, .. } = learnt;
        let has_recording = recorded(known.as_ref());
        let attachments = news_of(attachments, news.as_ref().and_then(|news| news.recording).filter(|_| has_recording));
        let news = news.map(|news| if has_recording { Call { recording: None, ..news } } else { news });
        let call = news.map(|news| merged(known.as_ref(), news)).filter(|call| known.as_ref() != Some(call));
        let text = text.filter(|text| words.as_ref() != Some(text));
        // Where nobody remembers who was named, nobody can say who is new.
        let to = recipients.and_then(|known| joined(&known, &to));
        if call.is_none() && text.is_none() && attachments.is_empty() && to.is_none() {
            let message = Some((target.row, target.id));
            return Ok(Outcome { duplicate_of: Some(target.item), message, ..Outcome::new(coming.kind, Fate::Duplicate) });
        }
        self.order_media(coming, &attachments, external_id.as_deref(), target.row, None)?;
        for file in &attachments {
            if let Some(place) = &file.place {
                self.tx.write_file(file.public.id, coming.raw, target.row, place, &file.public)?;
            }
        }
        let mut changed: Vec<String> = call.iter().map(|_| "call".to_owned()).collect();
        changed.extend(text.as_ref().map(|_| "text".to_owned()));
        changed.extend(attachments.first().map(|_| "attachments".to_owned()));
        changed.extend(to.as_ref().map(|_| "to".to_owned()));
        let all: Option<Vec<Attachment>> = (!attachments.is_empty())
            .then(|| files.iter().flatten().cloned().chain(attachments.into_iter().map(|file| file.public)).collect());
        conversation.sequence += 1;
        let body = Body::MessageUpdated(Box::new(MessageUpdated {
            sequence: conversation.sequence,
            message: super::publish::reference(target, external_id),
            conversation: ConversationRef { id: conversation.id },
            channel: coming.channel.public.clone(),
            changed,
            attachments_changed: all.as_deref().map(|all| settled(files.as_deref().unwrap_or_default(), all)),
            attachments: all,
            text,
            call,
            feedback: None,
            to,
            historic: historic || learnt_late,
            ticket: None,
        }));
        self.publish_in(coming, conversation, (target.row, target.id), body)
    }

    /// What receivers were told of a message so far: the events are its memory. What retention took is not known any more; then the part
    /// says what it says.
    pub(super) fn told(&mut self, target: &MessageRow) -> Result<Told, StoreError> {
        let mut told = Told::default();
        for bytes in self.tx.events_about(target.row)? {
            let Ok(event) = serde_json::from_slice::<Value>(&bytes) else { continue };
            let data = |name: &str| {
                let found = event.pointer(&format!("/data/message/{name}")).or_else(|| event.pointer(&format!("/data/{name}")));
                found.filter(|value| !value.is_null()).cloned()
            };
            told.call = data("call").and_then(|value| serde_json::from_value(value).ok()).or(told.call);
            told.text = data("text").and_then(|value| value.as_str().map(str::to_owned)).or(told.text);
            told.attachments = data("attachments").and_then(|value| serde_json::from_value(value).ok()).or(told.attachments);
            told.to = data("to").and_then(|value| serde_json::from_value(value).ok()).or(told.to);
            told.historic |= event.pointer("/data/message/historic") == Some(&Value::Bool(true));
        }
        Ok(told)
    }
}

/// What receivers know of a message.
#[derive(Default)]
pub(super) struct Told {
    pub(super) call: Option<Call>,
    pub(super) text: Option<String>,
    /// `None`: nobody remembers.
    pub(super) attachments: Option<Vec<Attachment>>,
    /// `None`: nobody remembers.
    pub(super) to: Option<Vec<Recipient>>,
    /// It came in through a backfill.
    pub(super) historic: bool,
}

fn is_mailbox(one: &Recipient) -> bool {
    one.role == "mailbox"
}

/// The recipients that are known, with those mailboxes among `found` that are not; `None` if there are none.
fn joined(known: &[Recipient], found: &[Recipient]) -> Option<Vec<Recipient>> {
    let named = |one: &Recipient| known.iter().any(|known| is_mailbox(known) && known.address == one.address);
    let room = RECIPIENTS_MAX.saturating_sub(known.len());
    let new: Vec<_> = found.iter().filter(|one| is_mailbox(one) && !named(one)).take(room).cloned().collect();
    (!new.is_empty()).then(|| known.iter().cloned().chain(new).collect())
}

fn recorded(call: Option<&Call>) -> bool {
    call.is_some_and(|call| call.recording.is_some())
}

/// The files of a part but for a recording that is there already. A call has one.
fn news_of(attachments: Vec<ItemAttachment>, known: Option<AttachmentId>) -> Vec<ItemAttachment> {
    attachments.into_iter().filter(|file| Some(file.public.id) != known).collect()
}

/// The keys by which a part may speak of its message.
pub(super) fn keys(learnt: &EditItem) -> Vec<KeyDigest> {
    std::iter::once(learnt.target).chain(learnt.message.hints.iter().copied()).collect()
}

/// What is known with what is new.
fn merged(known: Option<&Call>, news: Call) -> Call {
    let Some(known) = known else { return news };
    let rank = |outcome: &str| OUTCOMES.iter().position(|word| *word == outcome);
    let outcome = if rank(&news.outcome) >= rank(&known.outcome) { news.outcome } else { known.outcome.clone() };
    Call {
        outcome,
        seconds: news.seconds.or(known.seconds),
        recording: known.recording.or(news.recording),
        transcript: news.transcript.or_else(|| known.transcript.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_call_only_add() {
        let call = |outcome: &str, seconds, transcript: Option<&str>| Call {
            outcome: outcome.to_owned(),
            seconds,
            recording: None,
            transcript: transcript.map(str::to_owned),
        };
        let voicemail = call("voicemail", Some(41), None);
        assert_eq!(merged(None, voicemail.clone()), voicemail);
        let words = merged(Some(&voicemail), call("voicemail", None, Some("hello")));
        assert_eq!(words, call("voicemail", Some(41), Some("hello")));
        assert_eq!(merged(Some(&words), call("missed", None, None)), words, "a late part that says less changes nothing");
        assert_eq!(merged(Some(&call("missed", None, None)), voicemail.clone()), voicemail);
    }
}
