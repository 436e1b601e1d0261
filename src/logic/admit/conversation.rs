//! Thread: which conversation a message belongs to (design §4).
//!
//! Candidates are tried in order. A `sender` conversation ends by silence, any when its ticket is done; what comes after it opens another
//! one that continues it.

use super::Verb;
use crate::model::event::Thread;
use crate::model::id::ConversationId;
use crate::model::item::{ChannelFacts, Threading};
use crate::model::key::KeyDigest;
use crate::model::turns::Turns;
use crate::ports::store::StoreError;
use crate::ports::tx::{ConversationRow, RowNumber};

/// What a conversation is opened with.
struct Opening<'a> {
    channel: &'a str,
    subject: Option<&'a str>,
    continues: Option<ConversationId>,
}

impl Verb<'_> {
    /// The conversation of a message by `contact` (0: nobody), opened if none fits.
    pub(super) fn place(
        &mut self,
        threading: &Threading,
        channel: &ChannelFacts,
        subject: Option<&str>,
        contact: RowNumber,
    ) -> Result<(ConversationRow, Thread), StoreError> {
        for candidate in &threading.candidates {
            let Some(mut found) = self.tx.conversation_by_key(candidate.key)? else { continue };
            if candidate.participants_only && (contact == 0 || !self.tx.takes_part(found.row, contact)?) {
                continue;
            }
            let thread = Thread { rule: candidate.rule.clone(), evidence: candidate.evidence.clone() };
            let done = found.ends_at.is_some_and(|at| self.context.now >= at && !found.pending);
            if !found.ended && !done && !self.fell_silent(&found, threading, channel) {
                self.offer(&threading.registers, candidate.key, found.row)?;
                return Ok((found, thread));
            }
            if !found.ended {
                found.ended = true;
                self.give_up(&mut found, &channel.public.id)?;
                self.tx.write_conversation(&found)?;
            }
            let opening = Opening { channel: &channel.public.id, subject, continues: Some(found.id) };
            let next = self.open(&opening)?;
            // The keys of the old conversation lead to the new one from now on.
            self.tx.bind_conversation_key(candidate.key, next.row)?;
            for key in &threading.registers {
                self.tx.bind_conversation_key(*key, next.row)?;
            }
            return Ok((next, thread));
        }
        let opened = self.open(&Opening { channel: &channel.public.id, subject, continues: None })?;
        for key in &threading.registers {
            self.tx.offer_conversation_key(*key, opened.row)?;
        }
        let thread = Thread { rule: threading.opens_rule.clone(), evidence: None };
        Ok((opened, thread))
    }

    fn open(&mut self, opening: &Opening<'_>) -> Result<ConversationRow, StoreError> {
        let mut conversation = ConversationRow {
            row: 0,
            id: ConversationId(self.context.id()),
            subject: opening.subject.map(str::to_owned),
            sequence: 0,
            active_at: self.context.now,
            continues: opening.continues,
            ended: false,
            ends_at: None,
            turns: Turns::default(),
            pending: false,
            last_sent: std::collections::BTreeMap::new(),
        };
        conversation.row = self.tx.open_conversation(&conversation, opening.channel)?;
        Ok(conversation)
    }

    fn offer(&mut self, keys: &[KeyDigest], matched: KeyDigest, row: RowNumber) -> Result<(), StoreError> {
        for key in keys.iter().filter(|key| **key != matched) {
            self.tx.offer_conversation_key(*key, row)?;
        }
        Ok(())
    }

    /// The conversation ended: nobody waits for an answer in it any more.
    pub(super) fn give_up(&mut self, conversation: &mut ConversationRow, channel: &str) -> Result<(), StoreError> {
        if conversation.turns.waiting_since().is_some() {
            conversation.turns.given_up();
            self.tx.count_waiting(channel, -1)?;
        }
        Ok(())
    }

    /// Items that still wait are no silence.
    fn fell_silent(&self, conversation: &ConversationRow, threading: &Threading, channel: &ChannelFacts) -> bool {
        let Some(limit) = channel.new_after_ms.filter(|_| threading.ends_by_silence && !conversation.pending) else {
            return false;
        };
        self.context.now.since_ms(conversation.active_at) >= limit
    }
}
