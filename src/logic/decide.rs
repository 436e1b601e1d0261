//! Decide: what becomes of a delivery after an attempt, and of a destination. Recorded in the same transaction as the event that tells
//! operators about it.
//!
//! Decisions are fenced by the lease `deliver`: a node that lost it writes nothing. Deciding a delivery that is no longer
//! waiting (erased, discarded, decided before an answer got lost) changes nothing.

use std::collections::BTreeMap;

use crate::logic::admit::{Context, linked, operator};
use crate::model::codes::Code;
use crate::model::delivery::{Decision, DeliveryState, Verdict};
use crate::model::event::{Body, DeliveryDead, DestinationState};
use crate::model::ticket::TicketChange;
use crate::model::time::Time;
use crate::model::view::DestinationMode;
use crate::ports::store::{DELIVER_LEASE, StoreError, Written};
use crate::ports::tx::{DeliveryChange, DeliveryRow, Tx};

/// Records the outcome of an attempt; a dead delivery becomes a `delivery.dead` event.
///
/// # Errors
/// What the store says; [`StoreError::Fenced`] under an older lease.
pub fn decide(tx: &mut dyn Tx, decision: &Decision, context: &Context<'_>) -> Result<Written, StoreError> {
    tx.fence(DELIVER_LEASE, decision.lease_epoch)?;
    let known = tx.delivery(&decision.destination, decision.position, decision.replay)?;
    let Some(row) = known.filter(|row| row.state == DeliveryState::Waiting) else {
        return Ok(Written::default());
    };
    let (state, counted, at, code) = match decision.verdict {
        Verdict::Delivered => (DeliveryState::Delivered, true, decision.at, None),
        Verdict::Retry { due_at, code, counted } => (DeliveryState::Waiting, counted, due_at, Some(code)),
        Verdict::Dead { code } => (DeliveryState::Dead, true, decision.at, Some(code)),
    };
    let attempts = row.attempts.saturating_add(u32::from(counted));
    tx.change_delivery(&DeliveryChange {
        destination: &decision.destination,
        position: decision.position,
        replay: decision.replay,
        state,
        attempts,
        at,
        tried_at: decision.at,
        code: code.map(Code::as_str),
        status: decision.status,
        detail: decision.detail.as_deref(),
    })?;
    let mut written = match (state, code) {
        // An event about deliveries that cannot be delivered must not make another one: they would feed each other for ever.
        (DeliveryState::Dead, Some(code)) if !about_deliveries(&row.event_type) => {
            operator(tx, dead(decision, row, attempts, code), context)?
        }
        _ => Written::default(),
    };
    written.count = 1;
    Ok(written)
}

/// Changes the mode of a destination and tells operators. The mode and code it has already change nothing.
///
/// # Errors
/// What the store says.
pub fn destination(
    tx: &mut dyn Tx,
    name: &str,
    mode: DestinationMode,
    code: Option<&str>,
    context: &Context<'_>,
) -> Result<Written, StoreError> {
    let known = tx.destination(name)?;
    let (was, was_code, since, waiting) =
        known.map_or((DestinationMode::Active, None, context.now, 0), |facts| (facts.mode, facts.code, facts.since, facts.waiting));
    if was == mode && (mode == DestinationMode::Active || was_code.as_deref() == code) {
        return Ok(Written::default());
    }
    let counts = BTreeMap::from([("waiting".to_owned(), waiting)]);
    let state = |code: Option<String>, since: Time| DestinationState {
        destination: name.to_owned(),
        code: code.unwrap_or_else(|| Code::PausedByHand.as_str().to_owned()),
        since,
        counts,
    };
    let body = if mode == DestinationMode::Active {
        Body::DestinationResumed(Box::new(state(was_code, since)))
    } else {
        Body::DestinationPaused(Box::new(state(code.map(str::to_owned), context.now)))
    };
    let code = code.filter(|_| mode != DestinationMode::Active);
    tx.write_destination(name, mode, code, context.now)?;
    operator(tx, body, context)
}

/// Records what is known of a ticket and its entries, and tells of a ticket whose id becomes known.
///
/// # Errors
/// What the store says; [`StoreError::Fenced`] under an older lease.
pub fn ticket(tx: &mut dyn Tx, change: &TicketChange, context: &Context<'_>) -> Result<Written, StoreError> {
    tx.fence(DELIVER_LEASE, change.lease_epoch)?;
    let Some(conversation) = tx.conversation_by_id(change.conversation)? else {
        return Err(StoreError::Invariant { detail: "a ticket of a conversation that is not there".to_owned() });
    };
    for entry in &change.entries {
        tx.write_ticket_entry(&change.destination, conversation.row, entry)?;
    }
    let mut written = Written::default();
    if let Some(link) = &change.link {
        let known = tx.ticket(&change.destination, conversation.row, link.generation)?.and_then(|known| known.ticket);
        tx.write_ticket(&change.destination, &change.system, conversation.row, link)?;
        if let Some(ticket) = link.ticket.as_ref().filter(|ticket| known.as_ref() != Some(ticket)) {
            written = linked(tx, conversation, change, (ticket, link.url.as_deref()), context)?;
        }
    }
    written.count = 1;
    Ok(written)
}

fn about_deliveries(event_type: &str) -> bool {
    event_type.starts_with("delivery.") || event_type.starts_with("destination.")
}

fn dead(decision: &Decision, row: DeliveryRow, attempts: u32, code: Code) -> Body {
    Body::DeliveryDead(Box::new(DeliveryDead {
        destination: decision.destination.clone(),
        event: row.event,
        event_type: row.event_type,
        conversation: row.conversation,
        code: code.as_str().to_owned(),
        since: row.first_attempt_at.unwrap_or(decision.at),
        counts: BTreeMap::from([("attempts".to_owned(), u64::from(attempts))]),
    }))
}
