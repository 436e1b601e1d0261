//! Later: where an index lags, a second ticket of a conversation that something on the way made is not seen when the first one was made.
//! It is looked for once more when it must be there, by the next event of any conversation that the destination takes.
//!
//! What must stay true: this is beside the flow. It writes nothing down and fails no delivery; what it misses (a restart forgets what was
//! to be looked at) the conversation's own next message finds.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::connector::ticket::compose::{Entry, Seen};
use crate::destinations::ticket::TicketDesk;
use crate::destinations::ticket::answer::Trouble;
use crate::destinations::ticket::steps::{Walk, stored};
use crate::logic::ticket::{Flow, Learnt, Piece, Shown};
use crate::model::id::{ConversationId, EventId};
use crate::model::ticket::TicketLink;
use crate::model::time::Time;

/// Tickets to look at at most: the oldest are forgotten.
const MINDED_MAX: usize = 4096;
/// So long behind the last look for what was sent without an answer.
const BEHIND_MS: i64 = 30_000;

/// Tickets that are looked at once more.
#[derive(Default)]
pub(super) struct Minded(Mutex<VecDeque<Look>>);

/// One of them.
struct Look {
    at: Time,
    event: EventId,
    conversation: ConversationId,
    ticket: String,
    requester: Value,
}

impl Minded {
    fn due(&self, now: Time) -> Option<Look> {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        looks.front().filter(|look| look.at <= now)?;
        looks.pop_front()
    }

    fn push(&self, look: Look) {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if looks.len() >= MINDED_MAX {
            looks.pop_front();
        }
        looks.push_back(look);
    }
}

/// An event is in its ticket. One that was not looked at for a second one is looked at later.
pub(super) fn mind(desk: &TicketDesk, event: EventId, entry: &Entry, link: Option<&TicketLink>) {
    let caps = &desk.options.system.caps;
    let Some(link) = link.filter(|link| caps.verify && !link.checked) else { return };
    let Some(ticket) = link.ticket.clone() else { return };
    let at = desk.ports.clock.now().plus_ms(caps.looks_ms.last().copied().unwrap_or(0).saturating_add(BEHIND_MS));
    let requester = entry.context.get("requester").cloned().unwrap_or(Value::Null);
    desk.minded.push(Look { at, event, conversation: entry.conversation, ticket, requester });
}

/// Looks at one ticket whose time has come, if there is any.
pub(super) async fn look(desk: &TicketDesk) {
    let Some(look) = desk.minded.due(desk.ports.clock.now()) else { return };
    if let Err(trouble) = close_second(desk, &look).await {
        tracing::info!(messaging.destination.name = %desk.options.name, error = %trouble.error, "second tickets not looked for");
    }
}

async fn close_second(desk: &TicketDesk, look: &Look) -> Result<(), Trouble> {
    let Some(call) = &desk.options.system.calls.find_tickets else { return Ok(()) };
    let known = desk.ports.book.known(&desk.options.name, look.conversation, look.event).await.map_err(|error| Trouble {
        lost: false,
        meaning: None,
        error: stored(error),
    })?;
    // It was looked at meanwhile, or is another one's now.
    if !known.link.as_ref().is_some_and(|link| !link.checked && link.ticket.as_ref() == Some(&look.ticket)) {
        return Ok(());
    }
    let entry = Entry {
        conversation: look.conversation,
        external: String::new(),
        opened: false,
        minor: false,
        seen: Seen::Agents,
        files: Vec::new(),
        context: json!({"requester": look.requester, "entry": {}, "event": {}}),
    };
    let piece = Piece {
        conversation: look.conversation,
        event: look.event,
        external: String::new(),
        files: Vec::new(),
        opened: false,
        minor: false,
    };
    let flow = Flow::new(&desk.options.system.caps, desk.options.policy, &piece, known, desk.ports.clock.now());
    let mut walk = Walk::of(desk, &entry);
    let found = walk.find_tickets(call, &flow).await?;
    let others: Vec<String> = found.into_iter().map(|ticket| ticket.ticket).filter(|other| *other != look.ticket).collect();
    // An agent may have joined ours with the other one.
    if others.is_empty() || !matches!(walk.show(&flow).await?, Learnt::Shown(Shown::Open | Shown::Closed)) {
        return Ok(());
    }
    walk.close_others(&others, &flow).await.map(|_| ())
}
