//! Back: what a ticket system tells of the tickets that conversations have there (design §4), and the turns of a conversation.
//!
//! An agent's entry becomes an outbound message of the conversation, a change of state the event `ticket.updated`. What must stay true:
//! what the gateway wrote itself is recognised, whichever road it comes back by; what is told twice or overtaken changes nothing; a
//! done ticket ends its conversation only if that does not go on in another one already.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::pending::Waiting;
use super::publish::Speaking;
use super::{Coming, Outcome, Verb};
use crate::model::codes::Code;
use crate::model::delivery::Position;
use crate::model::event::{Author, Body, Channel, Contact, ConversationRef, Direction, Priority, Thread, TicketUpdated};
use crate::model::id::EventId;
use crate::model::item::{ChannelFacts, Fate, Hold, HoldReason, ItemBody, MessageItem};
use crate::model::key::KeyDigest;
use crate::model::ticket::{BackRules, FollowedTicket, TicketItem, TicketNews, TicketSource, TicketStatus};
use crate::model::time::Time;
use crate::ports::store::StoreError;
use crate::ports::tx::{ConversationRow, Opening, RowNumber};

/// What one ticket is told to be.
struct Change<'a> {
    destination: &'a str,
    rules: BackRules,
    status: TicketStatus,
    at: Time,
}

impl Verb<'_> {
    /// Takes in what a ticket system tells. Decided before its key is claimed: what is not ours today may be tomorrow, when the answer to
    /// our own call is there.
    pub(super) fn back(
        &mut self,
        item: i64,
        raw: RowNumber,
        channel: Arc<ChannelFacts>,
        key: KeyDigest,
        told: TicketItem,
    ) -> Result<Outcome, StoreError> {
        const KIND: &str = "ticket";
        let destination = channel.public.id.clone();
        let tickets = self.tx.followed(&destination, &told.ticket, told.ours.as_deref())?;
        let Some(first) = tickets.first() else { return Ok(Outcome::ignored(KIND, Code::TicketUnknown.as_str())) };
        let source = TicketSource { destination: destination.clone(), system: first.system.clone(), ticket: told.ticket.clone() };
        if let TicketNews::Entry { entry, mark, .. } = &told.news {
            let conversations: Vec<RowNumber> = tickets.iter().map(|ticket| ticket.conversation).collect();
            if self.tx.is_own_entry(&destination, &conversations, entry.as_deref(), mark.as_deref())? {
                return Ok(Outcome::ignored(KIND, Code::TicketEcho.as_str()));
            }
        }
        if let Some(known) = self.claim(item, key, &[])? {
            return self.duplicate(KIND, key, known);
        }
        let rules = channel.back.unwrap_or_default();
        match told.news {
            TicketNews::Entry { message, .. } => {
                let conversation = self.speaking_in(&tickets)?;
                let coming = Coming { item, raw, channel, kind: "message", key };
                self.entry(coming, conversation, source, *message)
            }
            TicketNews::Status(status) => {
                let at = told.at.map_or(self.context.now, |at| at.min(self.context.now));
                let change = Change { destination: &destination, rules, status, at };
                let mut outcome = Outcome::ignored(KIND, Code::TicketStale.as_str());
                for ticket in &tickets {
                    if let Some(event) = self.status(ticket, &change)? {
                        outcome = Outcome { event: Some(event), ..Outcome::new(KIND, Fate::Published) };
                    }
                }
                Ok(outcome)
            }
            TicketNews::Merged(into) => {
                for mut ticket in tickets.into_iter().filter(|ticket| ticket.link.ticket.as_ref() != Some(&into)) {
                    ticket.link.ticket = Some(into.clone());
                    ticket.link.url = None;
                    self.tx.write_ticket(&destination, &ticket.system, ticket.conversation, &ticket.link)?;
                }
                Ok(Outcome::ignored(KIND, Code::Empty.as_str()))
            }
        }
    }

    /// Of the conversations whose tickets were joined the one in which something was said last.
    fn speaking_in(&mut self, tickets: &[FollowedTicket]) -> Result<ConversationRow, StoreError> {
        let mut best: Option<ConversationRow> = None;
        for ticket in tickets {
            let row = self.conversation(ticket.conversation)?;
            let better = |known: &ConversationRow| (!row.ended, row.active_at) > (!known.ended, known.active_at);
            if best.as_ref().is_none_or(better) {
                best = Some(row);
            }
        }
        best.ok_or_else(|| StoreError::Invariant { detail: "a ticket without a conversation".to_owned() })
    }

    /// An agent's entry as a message of the conversation.
    fn entry(
        &mut self,
        coming: Coming,
        conversation: ConversationRow,
        source: TicketSource,
        mut message: MessageItem,
    ) -> Result<Outcome, StoreError> {
        let opening = self.tx.opening(conversation.row)?;
        let contact = opening.contact;
        let evidence = source.ticket.clone();
        let (facts, shown) = said_of(opening);
        let channel = Arc::new(facts);
        let coming = Coming { channel, ..coming };
        // Its files come later, by `message.updated`: the state that an agent sets right after it must not find it waiting.
        self.order_media(&coming, &message.attachments, message.external_id.as_deref(), 0, Some(&source))?;
        message.hold = None;
        message.ticket = Some(Box::new(source));
        message.direction = Direction::Outbound;
        let thread = Thread { rule: "ticket".to_owned(), evidence: Some(evidence) };
        if conversation.pending {
            let hold = Hold { reason: HoldReason::Queued, until: self.context.now };
            let body = ItemBody::Message(Box::new(message));
            return self.wait(&coming, conversation, Waiting::of(&coming, body, contact, Some(thread)), hold);
        }
        self.publish_message(&coming, conversation, Speaking { message, contact, shown, thread })
    }

    /// The state of one ticket. None: it was known, or is overtaken.
    fn status(&mut self, ticket: &FollowedTicket, change: &Change<'_>) -> Result<Option<(Position, EventId)>, StoreError> {
        let Change { destination, status, at, .. } = *change;
        if ticket.status == Some(status) || ticket.status_at.is_some_and(|known| at < known) {
            return Ok(None);
        }
        self.tx.write_ticket_status(destination, (ticket.conversation, ticket.link.generation), status, at)?;
        let mut conversation = self.conversation(ticket.conversation)?;
        let channel = self.tx.opening(conversation.row)?.channel;
        let mut ended = false;
        if ticket.newest && status.is_done() {
            let waited = conversation.turns.waiting_since().is_some();
            if let Some((span, ms)) = conversation.turns.resolved(at) {
                self.tx.count_span(&channel, span, ms)?;
            }
            if waited && conversation.turns.waiting_since().is_none() {
                self.tx.count_waiting(&channel, -1)?;
            }
            ended = self.end(&mut conversation, &channel, change)?;
        } else if ticket.newest && ticket.status.is_some_and(TicketStatus::is_done) {
            conversation.turns.reopened();
            // Whoever opened it again goes on with it, and so does the conversation.
            (conversation.ended, conversation.ends_at) = (false, None);
        }
        conversation.sequence += 1;
        let body = Body::TicketUpdated(Box::new(TicketUpdated {
            sequence: conversation.sequence,
            conversation: ConversationRef { id: conversation.id },
            destination: destination.to_owned(),
            system: ticket.system.clone(),
            ticket: ticket.link.ticket.clone().unwrap_or_default(),
            url: ticket.link.url.clone(),
            status,
            previous_status: ticket.status,
            changed_at: at,
            ended,
        }));
        self.publish_about(&channel, conversation, 0, body).map(Some)
    }

    /// The ticket is done. A conversation with something on its way to the ticket goes on: that opens the next ticket, or this one again.
    fn end(&mut self, conversation: &mut ConversationRow, channel: &str, change: &Change<'_>) -> Result<bool, StoreError> {
        let Some(after_ms) = change.rules.ends_after_ms else { return Ok(false) };
        if conversation.pending || self.tx.is_owed(change.destination, conversation.row)? {
            return Ok(false);
        }
        if after_ms > 0 {
            conversation.ends_at = Some(change.at.plus_ms(after_ms));
            return Ok(false);
        }
        let ends = !conversation.ended;
        conversation.ended = true;
        self.give_up(conversation, channel)?;
        Ok(ends)
    }

    /// Who waits for whom after a message. What a program wrote is neither a question nor an answer, what a backfill brings is history.
    pub(super) fn take_turn(&mut self, conversation: &mut ConversationRow, channel: &str, message: &MessageItem) -> Result<(), StoreError> {
        if message.historic || message.automated.is_some() {
            return Ok(());
        }
        let at = message.sent_at.map_or(message.received_at, |at| at.min(message.received_at));
        let waited = conversation.turns.waiting_since().is_some();
        match (message.direction, message.author) {
            (Direction::Inbound, Author::Customer) => conversation.turns.asked(at),
            (Direction::Outbound, Author::Agent) => {
                if let Some((span, ms)) = conversation.turns.answered(at) {
                    self.tx.count_span(channel, span, ms)?;
                }
            }
            _ => return Ok(()),
        }
        match (waited, conversation.turns.waiting_since().is_some()) {
            (false, true) => self.tx.count_waiting(channel, 1),
            (true, false) => self.tx.count_waiting(channel, -1),
            _ => Ok(()),
        }
    }
}

/// What events say of the channel of a conversation, and of its customer: what the event that opened it said. A customer that nobody
/// vouched for shows no more here than there.
fn said_of(opening: Opening) -> (ChannelFacts, Option<Contact>) {
    #[derive(Deserialize)]
    struct Event {
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        channel: Channel,
        contact: Option<Contact>,
    }
    let said = opening.event.and_then(|bytes| serde_json::from_slice::<Event>(&bytes).ok()).map(|event| event.data);
    let (public, contact) = match said {
        Some(Data { channel, contact }) => (channel, contact),
        None => (Channel { id: opening.channel, connector: String::new(), labels: BTreeMap::new() }, None),
    };
    (ChannelFacts { public, priority: Priority::Normal, new_after_ms: None, back: None }, contact)
}
