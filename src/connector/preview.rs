//! Preview: items → the events they would become, without a store. What `omnigate try` and the fixtures show.
//!
//! Edits, deletions and reactions are shown as if their message were known. What only a store can give — ids, keys, sequence, the times of
//! ours — is filled with stand-ins, so that every event is whole and can be held against the contract; shown is the event without them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::model::codes::Code;
use crate::model::event::{
    Body, Contact, Conversation, ConversationRef, Event, InReplyTo, Message, MessageCreated, MessageDeleted, MessageEdited, MessageRef,
    MessageUpdated, Reaction, Thread, TicketUpdated,
};
use crate::model::id::{ContactId, ConversationId, EventId, MessageId};
use crate::model::item::{Item, ItemBody, MessageItem, ReactionItem};
use crate::model::key::KeyDigest;
use crate::model::ticket::{TicketItem, TicketNews, TicketSource};
use crate::model::time::Time;

/// Stands for every id that a store would make.
const STAND_IN: u128 = 1;
/// Stands for the place in the conversation: what a preview shows may be the first of it.
const SEQUENCE: u64 = 1;

/// The events of `items`, whole: as a destination would get them, with stand-ins for ids, sequence and the time of publishing.
pub fn events(items: &[Item], now: Time) -> Vec<Event> {
    let mut known = BTreeSet::new();
    let bodies = items.iter().filter_map(|item| body(item, &mut known));
    bodies.map(|body| Event { id: EventId(STAND_IN), timestamp: now, body }).collect()
}

/// The whole document of `omnigate try --json`: `{"outcome", "code", "events"}`.
pub fn document(items: &[Item], events: &[Event]) -> Value {
    let events: Vec<Value> = events.iter().map(pruned).collect();
    let quarantined = items.iter().find_map(|item| match &item.body {
        ItemBody::Quarantined { code, .. } => Some(code.as_str().to_owned()),
        _ => None,
    });
    let ignored = items.iter().find_map(|item| match &item.body {
        ItemBody::Ignored { code } => Some(code.clone()),
        ItemBody::Receipt { .. } => Some(Code::Receipt.as_str().to_owned()),
        _ => None,
    });
    let (outcome, code) = match (events.is_empty(), quarantined) {
        (false, quarantined) => ("messages", quarantined),
        (true, Some(code)) => ("quarantined", Some(code)),
        (true, None) => ("ignored", ignored),
    };
    json!({"outcome": outcome, "code": code, "events": events})
}

/// What a ticket system told: by what each piece of news finds its ticket, and is recognised. Events do not show it.
pub fn told(items: &[Item]) -> Vec<Value> {
    let one = |item: &Item| {
        let ItemBody::Ticket(told) = &item.body else { return None };
        let mut shown = json!({"ticket": told.ticket});
        let news = match &told.news {
            TicketNews::Entry { entry, mark, .. } => vec![("entry", entry.as_deref()), ("mark", mark.as_deref())],
            TicketNews::Status(status) => vec![("state", Some(status.as_str()))],
            TicketNews::Merged(into) => vec![("merged_into", Some(into.as_str()))],
        };
        let at = told.at.map(|at| at.to_string());
        if let Some(map) = shown.as_object_mut() {
            let named = [("ours", told.ours.as_deref()), ("at", at.as_deref())].into_iter().chain(news);
            map.extend(named.filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?)))));
        }
        Some(shown)
    };
    items.iter().filter_map(one).collect()
}

/// What went wrong with quarantined items, for a person; no content (I7).
pub fn details(items: &[Item]) -> Vec<String> {
    let detail = |item: &Item| match &item.body {
        ItemBody::Quarantined { code, detail } => Some(format!("{code}: {detail}")),
        _ => None,
    };
    items.iter().filter_map(detail).collect()
}

fn reference(target: KeyDigest, external_id: Option<&String>) -> MessageRef {
    MessageRef { id: MessageId(STAND_IN), key: target.public(), external_id: external_id.cloned() }
}

fn body(item: &Item, known: &mut BTreeSet<KeyDigest>) -> Option<Body> {
    let (conversation, channel) = (ConversationRef { id: ConversationId(STAND_IN) }, item.channel.public.clone());
    Some(match &item.body {
        ItemBody::Message(message) => Body::MessageCreated(Box::new(created(item, message, known))),
        ItemBody::Edit(edit) => Body::MessageEdited(Box::new(MessageEdited {
            sequence: SEQUENCE,
            message: reference(edit.target, edit.message.external_id.as_ref()),
            conversation,
            channel,
            from: edit.message.from.clone(),
            subject: edit.message.subject.clone(),
            text: edit.message.text.clone(),
            html: edit.message.html.clone(),
            attachments: (!edit.message.attachments.is_empty())
                .then(|| edit.message.attachments.iter().map(|file| file.public.clone()).collect()),
            feedback: edit.message.feedback.clone(),
            call: edit.message.call.clone(),
            edited_at: edit.edited_at,
        })),
        ItemBody::Update(learnt) => Body::MessageUpdated(Box::new(MessageUpdated {
            sequence: SEQUENCE,
            message: reference(learnt.target, learnt.message.external_id.as_ref()),
            conversation,
            channel,
            changed: changed(&learnt.message),
            attachments: (!learnt.message.attachments.is_empty())
                .then(|| learnt.message.attachments.iter().map(|file| file.public.clone()).collect()),
            attachments_changed: None,
            text: learnt.message.text.clone(),
            call: learnt.message.call.clone(),
            feedback: None,
            to: None,
            historic: learnt.message.historic,
            ticket: None,
        })),
        ItemBody::Delete { target, external_id, .. } => Body::MessageDeleted(Box::new(MessageDeleted {
            sequence: SEQUENCE,
            message: reference(*target, external_id.as_ref()),
            conversation,
            channel,
        })),
        ItemBody::Reaction(reaction) => reacted(reaction, conversation, item),
        ItemBody::Ticket(told) => return ticket(item, told, conversation, known),
        ItemBody::Receipt { .. } | ItemBody::Ignored { .. } | ItemBody::Quarantined { .. } => return None,
    })
}

/// What a ticket system tells. A merge is remembered and not told on.
fn ticket(whole: &Item, told: &TicketItem, conversation: ConversationRef, known: &mut BTreeSet<KeyDigest>) -> Option<Body> {
    let (destination, system) = (whole.channel.public.id.clone(), whole.channel.public.connector.clone());
    match &told.news {
        TicketNews::Entry { message, .. } => {
            let mut created = created(whole, message, known);
            created.message.ticket = Some(TicketSource { destination, system, ticket: told.ticket.clone() });
            Some(Body::MessageCreated(Box::new(created)))
        }
        TicketNews::Status(status) => Some(Body::TicketUpdated(Box::new(TicketUpdated {
            sequence: SEQUENCE,
            conversation,
            destination,
            system,
            ticket: told.ticket.clone(),
            url: None,
            status: *status,
            previous_status: None,
            changed_at: told.at.unwrap_or_default(),
            ended: false,
        }))),
        TicketNews::Merged(_) => None,
    }
}

fn changed(learnt: &MessageItem) -> Vec<String> {
    let text = learnt.text.as_ref().map(|_| "text".to_owned());
    let files = learnt.attachments.first().map(|_| "attachments".to_owned());
    std::iter::once("call".to_owned()).chain(text).chain(files).collect()
}

fn reacted(reaction: &ReactionItem, conversation: ConversationRef, item: &Item) -> Body {
    let data = Box::new(Reaction {
        sequence: SEQUENCE,
        message: reference(reaction.target, reaction.external_id.as_ref()),
        conversation,
        channel: item.channel.public.clone(),
        from: reaction.from.clone(),
        emoji: reaction.emoji.clone(),
    });
    if reaction.added { Body::ReactionAdded(data) } else { Body::ReactionRemoved(data) }
}

fn created(whole: &Item, item: &MessageItem, known: &mut BTreeSet<KeyDigest>) -> MessageCreated {
    let facts = &whole.channel;
    let threading = &item.threading;
    let matched = threading.candidates.iter().find(|candidate| known.contains(&candidate.key));
    let opened = matched.is_none();
    known.extend(threading.registers.iter().copied());
    let thread = match matched {
        Some(candidate) => Thread { rule: candidate.rule.clone(), evidence: candidate.evidence.clone() },
        None => Thread { rule: threading.opens_rule.clone(), evidence: None },
    };
    let contact = item.contact.as_ref().map(|hint| {
        let also = hint.also.iter().filter(|_| hint.verified).map(|(address, _)| address.clone());
        Contact { id: ContactId(STAND_IN), name: hint.name.clone(), addresses: std::iter::once(hint.address.clone()).chain(also).collect() }
    });
    MessageCreated {
        sequence: SEQUENCE,
        message: message(item, whole.key),
        conversation: Conversation {
            id: ConversationId(STAND_IN),
            subject: item.subject.clone().filter(|_| opened),
            opened,
            continues: None,
            thread: Some(thread),
        },
        contact,
        channel: facts.public.clone(),
        tags: Vec::new(),
        priority: facts.priority,
    }
}

fn message(item: &MessageItem, key: Option<KeyDigest>) -> Message {
    Message {
        id: MessageId(STAND_IN),
        key: key.unwrap_or(KeyDigest([0; 16])).public(),
        direction: item.direction,
        author: item.author,
        kind: item.kind.clone(),
        from: item.from.clone(),
        to: item.to.clone(),
        subject: item.subject.clone(),
        text: item.text.clone(),
        html: item.html.clone(),
        reply_text: item.reply_text.clone(),
        language: item.language.clone(),
        attachments: item.attachments.iter().map(|file| file.public.clone()).collect(),
        in_reply_to: item.in_reply_to.as_ref().map(|reply| InReplyTo { external_id: reply.external_id.clone(), message: None }),
        external_id: item.external_id.clone(),
        external_url: item.external_url.clone(),
        automated: item.automated,
        authentication: item.authentication.clone(),
        feedback: item.feedback.clone(),
        call: item.call.clone(),
        edited: item.edited,
        historic: item.historic,
        truncated: item.truncated.clone(),
        sent_at: item.sent_at,
        received_at: item.received_at,
        extra: item.extra.clone(),
        ticket: None,
    }
}

/// The event as JSON, without what only a store can give.
fn pruned(event: &Event) -> Value {
    let mut value = serde_json::to_value(event).unwrap_or_default();
    let out = |value: Option<&mut Value>, names: &[&str]| {
        if let Some(Value::Object(map)) = value {
            names.iter().for_each(|name| drop(map.remove(*name)));
        }
    };
    out(Some(&mut value), &["id", "timestamp"]);
    let Some(data) = value.get_mut("data") else { return value };
    out(Some(data), &["sequence"]);
    out(data.get_mut("message"), &["id", "key", "received_at"]);
    out(data.get_mut("conversation"), &["id"]);
    out(data.get_mut("contact"), &["id"]);
    for place in ["/attachments", "/message/attachments"] {
        if let Some(Value::Array(files)) = data.pointer_mut(place) {
            files.iter_mut().for_each(|file| out(Some(file), &["id"]));
        }
    }
    if data.get("conversation").is_some_and(|conversation| conversation.as_object().is_some_and(serde_json::Map::is_empty)) {
        out(Some(data), &["conversation"]);
    }
    value
}
