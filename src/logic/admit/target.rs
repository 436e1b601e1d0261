//! Items about another message: edits, deletions, reactions (design §4). What they are about may be known, waiting, gone or unseen.
//!
//! Unseen: an edit is published as created and takes the original's key, a delete leaves a tombstone under it. So the late original
//! is a duplicate, whichever came first.

use super::pending::Waiting;
use super::publish::Speaking;
use super::{Coming, Outcome, Verb};
use crate::model::codes::Code;
use crate::model::event::Thread;
use crate::model::id::MessageId;
use crate::model::item::{EditItem, Hold, HoldReason, ItemBody, MessageItem, ReactionItem};
use crate::model::key::KeyDigest;
use crate::model::time::Time;
use crate::ports::store::StoreError;
use crate::ports::tx::{ConversationRow, MessageRow};

/// What an item is about.
pub(super) enum Target {
    /// A message, and its conversation.
    Known(MessageRow, ConversationRow),
    /// A message that is still pending, and its conversation.
    Waiting(ConversationRow),
    /// A message that was deleted or erased.
    Gone(Option<MessageRow>),
    /// Nothing we know.
    Unseen,
}

impl Verb<'_> {
    /// A message: now, or when its hold is over.
    pub(super) fn message(&mut self, coming: Coming, message: MessageItem) -> Result<Outcome, StoreError> {
        let (contact, shown) = match &message.contact {
            Some(hint) => self.find_contact(hint).map(|(row, shown)| (row, Some(shown)))?,
            None => (0, None),
        };
        let (conversation, thread) = self.place(&message.threading, &coming.channel, message.subject.as_deref(), contact)?;
        if contact != 0 {
            self.tx.join(conversation.row, contact)?;
        }
        self.order_media(&coming, &message.attachments, message.external_id.as_deref(), 0, None)?;
        if message.hold.is_some() || conversation.pending {
            let hold = message.hold.unwrap_or(self.queued());
            let body = ItemBody::Message(Box::new(message));
            return self.wait(&coming, conversation, Waiting::of(&coming, body, contact, Some(thread)), hold);
        }
        self.publish_message(&coming, conversation, Speaking { message, contact, shown, thread })
    }

    /// An edit of a message that is known, or the first we hear of it.
    pub(super) fn edit(&mut self, coming: Coming, edit: EditItem) -> Result<Outcome, StoreError> {
        let mut keys = vec![edit.target];
        keys.extend_from_slice(&edit.message.aliases);
        match self.find_target(&keys)? {
            Target::Known(target, conversation) if conversation.pending => {
                self.queue(&coming, conversation, ItemBody::Edit(Box::new(edit)), Some(&target))
            }
            Target::Known(target, conversation) => self.publish_edit(&coming, conversation, &target, edit),
            Target::Waiting(conversation) => self.queue(&coming, conversation, ItemBody::Edit(Box::new(edit)), None),
            Target::Gone(target) => Ok(gone(coming.kind, target.as_ref())),
            Target::Unseen => {
                for key in keys {
                    self.tx.claim_key(key, coming.item)?;
                }
                let EditItem { target, mut message, .. } = edit;
                message.edited = true;
                self.message(Coming { key: target, ..coming }, message)
            }
        }
    }

    /// A deletion of a message that is known, or a tombstone for one that may still come.
    pub(super) fn delete(
        &mut self,
        coming: Coming,
        target: KeyDigest,
        external_id: Option<String>,
        sent_at: Option<Time>,
    ) -> Result<Outcome, StoreError> {
        match self.find_target(&[target])? {
            Target::Known(row, conversation) if conversation.pending => {
                self.queue(&coming, conversation, ItemBody::Delete { target, external_id, sent_at }, Some(&row))
            }
            Target::Known(row, conversation) => self.publish_delete(&coming, conversation, &row, external_id),
            Target::Waiting(conversation) => self.queue(&coming, conversation, ItemBody::Delete { target, external_id, sent_at }, None),
            Target::Gone(row) => Ok(gone(coming.kind, row.as_ref())),
            Target::Unseen => {
                self.tx.claim_key(target, coming.item)?;
                let id = MessageId(self.context.id());
                let tombstone = MessageRow { row: 0, id, key: target, conversation: 0, contact: 0, gone: true, item: coming.item };
                let row = self.tx.write_message(&tombstone, &coming.channel.public.id)?;
                Ok(Outcome { message: Some((row, id)), ..Outcome::ignored(coming.kind, Code::TargetUnknown.as_str()) })
            }
        }
    }

    /// A reaction to a message.
    pub(super) fn reaction(&mut self, coming: Coming, reaction: ReactionItem) -> Result<Outcome, StoreError> {
        match self.find_target(&[reaction.target])? {
            Target::Known(target, conversation) if conversation.pending => {
                self.queue(&coming, conversation, ItemBody::Reaction(Box::new(reaction)), Some(&target))
            }
            Target::Known(target, conversation) => self.publish_reaction(&coming, conversation, &target, reaction),
            Target::Waiting(conversation) => self.queue(&coming, conversation, ItemBody::Reaction(Box::new(reaction)), None),
            Target::Gone(target) => Ok(gone(coming.kind, target.as_ref())),
            Target::Unseen => Ok(Outcome::ignored(coming.kind, Code::TargetUnknown.as_str())),
        }
    }

    /// The first of `keys` that is known says what the item is about.
    pub(super) fn find_target(&mut self, keys: &[KeyDigest]) -> Result<Target, StoreError> {
        for key in keys {
            let Some(item) = self.tx.item_by_key(*key)? else { continue };
            if let Some(waiting) = self.tx.pending(item)? {
                let conversation = self.conversation(waiting.conversation)?;
                return Ok(Target::Waiting(conversation));
            }
            return Ok(match self.tx.message_by_key(*key)? {
                Some(row) if !row.gone => {
                    let conversation = self.conversation(row.conversation)?;
                    Target::Known(row, conversation)
                }
                // A key without a message: its item was erased while it was pending.
                row => Target::Gone(row),
            });
        }
        Ok(Target::Unseen)
    }

    fn queue(
        &mut self,
        coming: &Coming,
        conversation: ConversationRow,
        body: ItemBody,
        target: Option<&MessageRow>,
    ) -> Result<Outcome, StoreError> {
        let hold = self.queued();
        let thread: Option<Thread> = None;
        let outcome = self.wait(coming, conversation, Waiting::of(coming, body, 0, thread), hold)?;
        Ok(Outcome { message: target.map(|row| (row.row, row.id)), ..outcome })
    }

    fn queued(&self) -> Hold {
        Hold { reason: HoldReason::Queued, until: self.context.now }
    }

    pub(super) fn conversation(&mut self, row: i64) -> Result<ConversationRow, StoreError> {
        self.tx
            .conversation(row)?
            .ok_or_else(|| StoreError::Invariant { detail: "I4: a message names a conversation that is not there".to_owned() })
    }
}

pub(super) fn gone(kind: &'static str, target: Option<&MessageRow>) -> Outcome {
    Outcome { message: target.map(|row| (row.row, row.id)), ..Outcome::ignored(kind, Code::TargetGone.as_str()) }
}
