//! Publish: the moment an item becomes an event. Gives the sequence, freezes the bytes, owes the event to its destinations.

use super::{Coming, Context, Outcome, Verb};
use crate::model::delivery::Position;
use crate::model::event::{
    Body, Contact, Conversation, ConversationRef, Event, InReplyTo, Message, MessageCreated, MessageDeleted, MessageEdited, MessageRef,
    Reaction, Thread, TicketLinked,
};
use crate::model::id::{EventId, MessageId};
use crate::model::item::{EditItem, Fate, MessageItem, ReactionItem};
use crate::model::ticket::TicketChange;
use crate::ports::publish::Frozen;
use crate::ports::store::{StoreError, Written};
use crate::ports::tx::{ConversationRow, EventEntry, MessageRow, RowNumber, Tx};

/// Publishes an event for operators: no conversation, lane 0.
///
/// # Errors
/// What the store says.
pub fn operator(tx: &mut dyn Tx, body: Body, context: &Context<'_>) -> Result<Written, StoreError> {
    let mut verb = Verb::new(tx, context);
    let channel = match &body {
        Body::ChannelDegraded(state) | Body::ChannelRecovered(state) => state.channel.id.clone(),
        _ => String::new(),
    };
    verb.emit(body, &Place { conversation: None, message: 0, channel: &channel })?;
    verb.written.count = 1;
    Ok(verb.written)
}

/// Publishes `ticket.linked` as the next event of its conversation.
///
/// # Errors
/// What the store says.
pub fn linked(
    tx: &mut dyn Tx,
    mut conversation: ConversationRow,
    change: &TicketChange,
    (ticket, url): (&str, Option<&str>),
    context: &Context<'_>,
) -> Result<Written, StoreError> {
    let mut verb = Verb::new(tx, context);
    conversation.sequence += 1;
    let body = Body::TicketLinked(Box::new(TicketLinked {
        sequence: conversation.sequence,
        conversation: ConversationRef { id: conversation.id },
        destination: change.destination.clone(),
        system: change.system.clone(),
        ticket: ticket.to_owned(),
        url: url.map(str::to_owned),
    }));
    verb.publish_about("", conversation, 0, body)?;
    Ok(verb.written)
}

/// Where an event belongs.
pub(super) struct Place<'a> {
    /// Conversation row, sequence, and what each destination got last.
    pub conversation: Option<&'a ConversationRow>,
    /// Row of the message; 0 without one.
    pub message: RowNumber,
    /// The channel; empty without one.
    pub channel: &'a str,
}

/// A message as it is published: its item, its contact and why it is in its conversation.
pub(super) struct Speaking {
    pub message: MessageItem,
    pub contact: RowNumber,
    pub shown: Option<Contact>,
    pub thread: Thread,
}

impl Verb<'_> {
    /// Publishes `message.created` as the next event of `conversation`.
    pub(super) fn publish_message(
        &mut self,
        coming: &Coming,
        mut conversation: ConversationRow,
        speaking: Speaking,
    ) -> Result<Outcome, StoreError> {
        let Speaking { mut message, contact, shown, thread } = speaking;
        let fetching = message.attachments.iter().any(|file| file.fetch.is_some());
        message.attachments = self.files_by_now(coming.item, message.attachments)?;
        let id = MessageId(self.context.id());
        let in_reply_to = match message.in_reply_to.as_ref() {
            Some(reply) => {
                let known = match reply.target {
                    Some(target) => self.tx.message_by_key(target)?.map(|row| row.id),
                    None => None,
                };
                Some(InReplyTo { external_id: reply.external_id.clone(), message: known })
            }
            None => None,
        };
        let row = MessageRow { row: 0, id, key: coming.key, conversation: conversation.row, contact, gone: false, item: coming.item };
        let row = self.tx.write_message(&row, &coming.channel.public.id)?;
        for file in &message.attachments {
            if let Some(place) = &file.place {
                self.tx.write_file(file.public.id, coming.raw, row, place, &file.public)?;
            }
        }
        if fetching {
            self.media_published(coming.item, row)?;
        }
        let opened = conversation.sequence == 0;
        conversation.sequence += 1;
        conversation.active_at = self.context.now;
        self.take_turn(&mut conversation, &coming.channel.public.id, &message)?;
        let body = Body::MessageCreated(Box::new(MessageCreated {
            sequence: conversation.sequence,
            message: public_message(id, coming.key.public(), in_reply_to, message),
            conversation: Conversation {
                id: conversation.id,
                subject: conversation.subject.clone(),
                opened,
                continues: conversation.continues,
                thread: Some(thread),
            },
            contact: shown,
            channel: coming.channel.public.clone(),
            tags: Vec::new(),
            priority: coming.channel.priority,
        }));
        self.publish_in(coming, conversation, (row, id), body)
    }

    /// Publishes `message.edited`.
    pub(super) fn publish_edit(
        &mut self,
        coming: &Coming,
        mut conversation: ConversationRow,
        target: &MessageRow,
        edit: EditItem,
    ) -> Result<Outcome, StoreError> {
        conversation.sequence += 1;
        let EditItem { message, edited_at, .. } = edit;
        let attachments = message.attachments;
        self.order_media(coming, &attachments, message.external_id.as_deref(), target.row, None)?;
        for file in &attachments {
            if let Some(place) = &file.place {
                self.tx.write_file(file.public.id, coming.raw, target.row, place, &file.public)?;
            }
        }
        let attachments: Vec<_> = attachments.into_iter().map(|file| file.public).collect();
        let body = Body::MessageEdited(Box::new(MessageEdited {
            sequence: conversation.sequence,
            message: reference(target, message.external_id),
            conversation: ConversationRef { id: conversation.id },
            channel: coming.channel.public.clone(),
            from: message.from,
            subject: message.subject,
            text: message.text,
            html: message.html,
            // Platforms that repeat no files say nothing by an empty list.
            attachments: (!attachments.is_empty()).then_some(attachments),
            feedback: message.feedback,
            call: message.call,
            edited_at,
        }));
        self.publish_in(coming, conversation, (target.row, target.id), body)
    }

    /// Publishes `message.deleted` and leaves the tombstone.
    pub(super) fn publish_delete(
        &mut self,
        coming: &Coming,
        mut conversation: ConversationRow,
        target: &MessageRow,
        external_id: Option<String>,
    ) -> Result<Outcome, StoreError> {
        conversation.sequence += 1;
        self.tx.mark_gone(target.row)?;
        let body = Body::MessageDeleted(Box::new(MessageDeleted {
            sequence: conversation.sequence,
            message: reference(target, external_id),
            conversation: ConversationRef { id: conversation.id },
            channel: coming.channel.public.clone(),
        }));
        self.publish_in(coming, conversation, (target.row, target.id), body)
    }

    /// Publishes `reaction.added` or `reaction.removed`.
    pub(super) fn publish_reaction(
        &mut self,
        coming: &Coming,
        mut conversation: ConversationRow,
        target: &MessageRow,
        reaction: ReactionItem,
    ) -> Result<Outcome, StoreError> {
        conversation.sequence += 1;
        let body = Box::new(Reaction {
            sequence: conversation.sequence,
            message: reference(target, reaction.external_id),
            conversation: ConversationRef { id: conversation.id },
            channel: coming.channel.public.clone(),
            from: reaction.from,
            emoji: reaction.emoji,
        });
        let body = if reaction.added { Body::ReactionAdded(body) } else { Body::ReactionRemoved(body) };
        self.publish_in(coming, conversation, (target.row, target.id), body)
    }

    pub(super) fn publish_in(
        &mut self,
        coming: &Coming,
        conversation: ConversationRow,
        message: (RowNumber, MessageId),
        body: Body,
    ) -> Result<Outcome, StoreError> {
        let event = self.publish_about(&coming.channel.public.id, conversation, message.0, body)?;
        Ok(Outcome { message: Some(message), event: Some(event), ..Outcome::new(coming.kind, Fate::Published) })
    }

    /// Publishes an event about a message as the last one of its conversation so far.
    pub(super) fn publish_about(
        &mut self,
        channel: &str,
        mut conversation: ConversationRow,
        message: RowNumber,
        body: Body,
    ) -> Result<(Position, EventId), StoreError> {
        let place = Place { conversation: Some(&conversation), message, channel };
        let (event, frozen) = self.emit(body, &place)?;
        for destination in &frozen.destinations {
            match conversation.last_sent.get_mut(destination.as_ref()) {
                Some(last) => *last = conversation.sequence,
                None => drop(conversation.last_sent.insert(destination.to_string(), conversation.sequence)),
            }
        }
        self.tx.write_conversation(&conversation)?;
        Ok(event)
    }

    /// Freezes and writes one event and owes it to its destinations.
    pub(super) fn emit(&mut self, body: Body, place: &Place<'_>) -> Result<((Position, EventId), Frozen), StoreError> {
        let id = EventId(self.context.id());
        let event_type = body.type_name();
        let frozen = self.context.publisher.freeze(Event { id, timestamp: self.context.now, body });
        let (lane, sequence) = place.conversation.map_or((0, 0), |conversation| (conversation.row, conversation.sequence));
        let position = self.tx.write_event(&EventEntry {
            id,
            event_type,
            conversation: lane,
            sequence,
            message: place.message,
            channel: place.channel,
            bytes: &frozen.bytes,
            published_at: self.context.now,
        })?;
        for destination in &frozen.destinations {
            let previous = place.conversation.and_then(|c| c.last_sent.get(destination.as_ref()).copied()).unwrap_or(0);
            self.tx.write_delivery(destination, position, lane, previous, self.context.now)?;
            if !self.written.woken.contains(destination) {
                self.written.woken.push(destination.clone());
            }
        }
        Ok(((position, id), frozen))
    }
}

pub(super) fn reference(target: &MessageRow, external_id: Option<String>) -> MessageRef {
    MessageRef { id: target.id, key: target.key.public(), external_id }
}

fn public_message(id: MessageId, key: String, in_reply_to: Option<InReplyTo>, item: MessageItem) -> Message {
    Message {
        id,
        key,
        direction: item.direction,
        author: item.author,
        kind: item.kind,
        from: item.from,
        to: item.to,
        subject: item.subject,
        text: item.text,
        html: item.html,
        reply_text: item.reply_text,
        language: item.language,
        attachments: item.attachments.into_iter().map(|file| file.public).collect(),
        in_reply_to,
        external_id: item.external_id,
        external_url: item.external_url,
        automated: item.automated,
        authentication: item.authentication,
        feedback: item.feedback,
        call: item.call,
        edited: item.edited,
        historic: item.historic,
        truncated: item.truncated,
        sent_at: item.sent_at,
        received_at: item.received_at,
        extra: item.extra,
        ticket: item.ticket.map(|source| *source),
    }
}
