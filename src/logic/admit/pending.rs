//! Pending: items that must wait before they are published, and everything of their conversation that queues behind them (design §2
//! step 6). An item keeps its place; when its hold is over, it and what queues directly behind it are published in order.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::learn;
use super::publish::Speaking;
use super::target::{Target, gone};
use super::{Coming, Context, Outcome, Verb};
use crate::model::codes::Code;
use crate::model::event::Thread;
use crate::model::item::{ChannelFacts, Fate, Hold, HoldReason, ItemBody};
use crate::model::key::KeyDigest;
use crate::ports::store::{StoreError, Written};
use crate::ports::tx::{ConversationRow, FateChange, ITEM_KINDS, PendingRow, RowNumber, Tx};

/// Items one release publishes at most, so that one transaction stays short; what is left is released by the next one.
const RELEASE_ITEMS_MAX: u64 = 500;

/// The stored form of a pending item. A change of shape is a new version beside this one.
#[derive(Serialize, Deserialize)]
pub(super) struct Waiting {
    v: u8,
    channel: ChannelFacts,
    kind: String,
    key: KeyDigest,
    contact: RowNumber,
    thread: Option<Thread>,
    pub(super) body: ItemBody,
}

impl Waiting {
    pub(super) fn of(coming: &Coming, body: ItemBody, contact: RowNumber, thread: Option<Thread>) -> Self {
        let (channel, kind) = (ChannelFacts::clone(&coming.channel), coming.kind.to_owned());
        Self { v: 1, channel, kind, key: coming.key, contact, thread, body }
    }

    pub(super) fn read(body: &[u8]) -> Result<Self, StoreError> {
        serde_json::from_slice(body).map_err(|e| broken(&e))
    }

    pub(super) fn written(&self) -> Result<Vec<u8>, StoreError> {
        serde_json::to_vec(self).map_err(|e| broken(&e))
    }
}

/// The contact row in the stored form of a pending item, for a store that erases.
pub fn contact_of(body: &[u8]) -> Option<RowNumber> {
    #[derive(Deserialize)]
    struct Only {
        contact: RowNumber,
    }
    serde_json::from_slice::<Only>(body).ok().map(|only| only.contact).filter(|row| *row != 0)
}

/// A pending item is due. One that waits for its files has been given more time since then, if they may still come.
///
/// # Errors
/// What the store says.
pub fn release(tx: &mut dyn Tx, item: i64, context: &Context<'_>) -> Result<Written, StoreError> {
    match tx.pending(item)? {
        Some(row) if row.reason == HoldReason::Media && row.until > context.now => {
            Ok(Written { pending: vec![(item, row.until)], ..Written::default() })
        }
        _ => let_go(tx, item, context),
    }
}

/// The hold of a pending item is over. An item behind an earlier one goes on waiting for that one only.
///
/// # Errors
/// What the store says.
pub(super) fn let_go(tx: &mut dyn Tx, item: i64, context: &Context<'_>) -> Result<Written, StoreError> {
    let mut verb = Verb::new(tx, context);
    let Some(row) = verb.tx.pending(item)? else {
        return Ok(verb.written);
    };
    let conversation = row.conversation;
    let mut next = verb.tx.first_pending(conversation)?;
    if next.as_ref().is_some_and(|first| first.item != item) {
        if row.reason != HoldReason::Queued {
            verb.tx.change_pending(item, HoldReason::Queued, row.until)?;
            verb.written.count = 1;
        }
        return Ok(verb.written);
    }
    if verb.gathered(&row)? {
        return Ok(verb.written);
    }
    let mut fates = Vec::new();
    while let Some(row) = next.take() {
        if row.item != item && row.reason != HoldReason::Queued {
            break;
        }
        if verb.written.count >= RELEASE_ITEMS_MAX {
            // It must not look like one that follows by itself, or nobody would release it after a restart.
            verb.tx.change_pending(row.item, HoldReason::Held, row.until)?;
            verb.written.pending.push((row.item, context.now));
            break;
        }
        let number = row.item;
        let outcome = verb.publish_waiting(row)?;
        verb.tx.remove_pending(number)?;
        verb.change_fate(number, &outcome, None)?;
        verb.written.count += 1;
        fates.push(outcome.told(number));
        next = verb.tx.first_pending(conversation)?;
    }
    if verb.tx.first_pending(conversation)?.is_none() {
        let mut row = verb.conversation(conversation)?;
        row.pending = false;
        verb.tx.write_conversation(&row)?;
    }
    verb.written.fates.push(fates);
    Ok(verb.written)
}

impl Verb<'_> {
    /// Keeps an item until it may be published.
    pub(super) fn wait(
        &mut self,
        coming: &Coming,
        mut conversation: ConversationRow,
        waiting: Waiting,
        hold: Hold,
    ) -> Result<Outcome, StoreError> {
        let body = waiting.written()?;
        let row =
            PendingRow { item: coming.item, raw: coming.raw, conversation: conversation.row, reason: hold.reason, until: hold.until, body };
        self.tx.write_pending(&row)?;
        if !conversation.pending {
            conversation.pending = true;
            self.tx.write_conversation(&conversation)?;
        }
        if hold.reason != HoldReason::Queued {
            self.written.pending.push((coming.item, hold.until));
        }
        Ok(Outcome { code: Some(word(hold.reason).into()), ..Outcome::new(coming.kind, Fate::Pending) })
    }

    fn publish_waiting(&mut self, row: PendingRow) -> Result<Outcome, StoreError> {
        let Waiting { v: _, channel, kind, key, contact, thread, body } = Waiting::read(&row.body)?;
        let kind = ITEM_KINDS.into_iter().find(|known| *known == kind).unwrap_or("message");
        let coming = Coming { item: row.item, raw: row.raw, channel: Arc::new(channel), kind, key };
        match body {
            ItemBody::Message(message) => {
                let conversation = self.conversation(row.conversation)?;
                let shown = self.shown_contact(contact, message.contact.as_ref())?;
                let thread = thread.unwrap_or(Thread { rule: message.threading.opens_rule.clone(), evidence: None });
                self.publish_message(&coming, conversation, Speaking { message: *message, contact, shown, thread })
            }
            ItemBody::Edit(edit) => match self.find_target(&[edit.target])? {
                Target::Known(target, conversation) => self.publish_edit(&coming, conversation, &target, *edit),
                other => Ok(too_late(kind, &other)),
            },
            ItemBody::Update(learnt) => match self.find_target(&learn::keys(&learnt))? {
                Target::Known(target, conversation) => self.publish_learnt(&coming, conversation, &target, learnt.message),
                other => Ok(too_late(kind, &other)),
            },
            ItemBody::Delete { target, external_id, .. } => match self.find_target(&[target])? {
                Target::Known(row, conversation) => self.publish_delete(&coming, conversation, &row, external_id),
                other => Ok(too_late(kind, &other)),
            },
            ItemBody::Reaction(reaction) => match self.find_target(&[reaction.target])? {
                Target::Known(target, conversation) => self.publish_reaction(&coming, conversation, &target, *reaction),
                other => Ok(too_late(kind, &other)),
            },
            ItemBody::Receipt { .. } | ItemBody::Ticket(_) | ItemBody::Ignored { .. } | ItemBody::Quarantined { .. } => {
                Ok(Outcome::ignored(kind, Code::Receipt.as_str()))
            }
        }
    }
}

/// What the item was about went away while it waited.
fn too_late(kind: &'static str, target: &Target) -> Outcome {
    match target {
        Target::Gone(row) => gone(kind, row.as_ref()),
        _ => gone(kind, None),
    }
}

fn word(reason: HoldReason) -> &'static str {
    match reason {
        HoldReason::Held => "held",
        HoldReason::Gathering => "gathering",
        HoldReason::Media => "media",
        HoldReason::Queued => "queued",
    }
}

fn broken(error: &serde_json::Error) -> StoreError {
    StoreError::Invariant { detail: format!("stored form of a pending item: line {} column {}", error.line(), error.column()) }
}

/// The fate of a pending item whose content was erased.
pub fn erased() -> FateChange<'static> {
    FateChange {
        fate: Fate::Ignored,
        code: Some(Code::TargetGone.as_str()),
        kind: None,
        duplicate_of: None,
        message: None,
        event: None,
        raw: None,
    }
}
