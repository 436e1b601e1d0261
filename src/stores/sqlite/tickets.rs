//! Tickets and their entries: rows written whole, and what is read of them.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::filter;
use super::rows;
use super::state::find_destination;
use super::tx::SqlTx;
use crate::model::id::{ConversationId, EventId};
use crate::model::ticket::{
    EntryState, FollowedTicket, Sent, TicketEntry, TicketEntryRow, TicketFilter, TicketKnown, TicketLink, TicketRow, TicketState,
    TicketStatus,
};
use crate::model::time::Time;
use crate::model::turns::TurnsView;
use crate::ports::store::StoreError;
use crate::ports::tx::{Opening, RowNumber};

/// Conversations whose tickets were joined into one, at most.
const FOLLOWED_MAX: usize = 50;
/// Characters of a conversation's id as it is written.
const CONVERSATION_CHARS: usize = 30;
const LINK: &str = "generation, external, ticket, url, requester, state, times, sent_at, checked";

fn sent(row: &Row<'_>, column: usize) -> rusqlite::Result<Sent> {
    Ok(Sent { times: row.get(column)?, at: row.get::<_, Option<i64>>(column + 1)?.map(Time) })
}

fn link(row: &Row<'_>) -> rusqlite::Result<TicketLink> {
    Ok(TicketLink {
        generation: row.get(0)?,
        external: row.get(1)?,
        ticket: row.get(2)?,
        url: row.get(3)?,
        requester: row.get(4)?,
        state: TicketState::from_number(row.get(5)?).unwrap_or(TicketState::Ended),
        sent: sent(row, 6)?,
        checked: row.get(8)?,
    })
}

/// The ticket of a conversation at a destination, one generation.
pub(super) fn ticket(
    tx: &SqlTx<'_>,
    destination: &str,
    conversation: RowNumber,
    generation: u32,
) -> Result<Option<TicketLink>, StoreError> {
    let Some(id) = find_destination(tx.conn, destination)? else { return Ok(None) };
    let sql = format!("SELECT {LINK} FROM tickets WHERE destination = ?1 AND conversation = ?2 AND generation = ?3");
    Ok(tx.conn.prepare_cached(&sql)?.query_row(params![id, conversation, generation], link).optional()?)
}

/// Writes a ticket's row whole.
pub(super) fn write_ticket(
    tx: &mut SqlTx<'_>,
    destination: &str,
    system: &str,
    conversation: RowNumber,
    link: &TicketLink,
) -> Result<(), StoreError> {
    let id = tx.state.destination(tx.conn, destination, tx.now)?;
    let system = tx.state.name(tx.conn, system)?;
    let sql = "INSERT INTO tickets
                 (destination, conversation, generation, system, external, ticket, url, requester, state, times, sent_at, checked, at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
               ON CONFLICT (destination, conversation, generation) DO UPDATE SET external = excluded.external, ticket = excluded.ticket,
                 url = excluded.url, requester = excluded.requester, state = excluded.state, times = excluded.times,
                 sent_at = excluded.sent_at, checked = excluded.checked, at = excluded.at";
    tx.conn.prepare_cached(sql)?.execute(params![
        id,
        conversation,
        link.generation,
        system,
        link.external,
        link.ticket,
        link.url,
        link.requester,
        link.state.number(),
        link.sent.times,
        link.sent.at.map(|at| at.0),
        link.checked,
        tx.now.0,
    ])?;
    Ok(())
}

/// Writes an entry's row whole.
pub(super) fn write_entry(tx: &mut SqlTx<'_>, destination: &str, conversation: RowNumber, entry: &TicketEntry) -> Result<(), StoreError> {
    let id = tx.state.destination(tx.conn, destination, tx.now)?;
    let sql = "INSERT INTO ticket_entries
                 (event, destination, piece, conversation, generation, external, entry, state, times, sent_at, at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
               ON CONFLICT (event, destination, piece) DO UPDATE SET generation = excluded.generation, external = excluded.external,
                 entry = excluded.entry, state = excluded.state, times = excluded.times, sent_at = excluded.sent_at, at = excluded.at";
    tx.conn.prepare_cached(sql)?.execute(params![
        entry.event.to_bytes(),
        id,
        entry.piece,
        conversation,
        entry.generation,
        entry.external,
        entry.entry,
        entry.state.number(),
        entry.sent.times,
        entry.sent.at.map(|at| at.0),
        tx.now.0,
    ])?;
    Ok(())
}

/// What is known when an event is about to go to a destination.
pub(super) fn known(conn: &Connection, destination: &str, conversation: ConversationId, event: EventId) -> Result<TicketKnown, StoreError> {
    let Some(id) = find_destination(conn, destination)? else { return Ok(TicketKnown::default()) };
    let sql = format!(
        "SELECT {LINK} FROM tickets WHERE destination = ?1 AND conversation = (SELECT row FROM conversations WHERE id = ?2)
         ORDER BY generation DESC LIMIT 2"
    );
    let mut list = conn.prepare_cached(&sql)?;
    let mut links = list.query_map(params![id, conversation.to_bytes()], link)?.collect::<Result<Vec<_>, _>>()?.into_iter();
    let (newest, mut before) = (links.next(), links.next());
    if newest.is_none() {
        before = continued(conn, id, conversation)?;
    }
    let sql = "SELECT piece, external, generation, entry, state, times, sent_at FROM ticket_entries
               WHERE event = ?1 AND destination = ?2 ORDER BY piece";
    let mut list = conn.prepare_cached(sql)?;
    let entries = list.query_map(params![event.to_bytes(), id], |row| {
        Ok(TicketEntry {
            event,
            piece: row.get(0)?,
            external: row.get(1)?,
            generation: row.get(2)?,
            entry: row.get(3)?,
            state: EntryState::from_number(row.get(4)?).unwrap_or(EntryState::Intended),
            sent: sent(row, 5)?,
        })
    })?;
    Ok(TicketKnown { link: newest, before, entries: entries.collect::<Result<_, _>>()? })
}

/// The tickets that a system tells of.
pub(super) fn followed(conn: &Connection, destination: &str, ticket: &str, ours: Option<&str>) -> Result<Vec<FollowedTicket>, StoreError> {
    let Some(id) = find_destination(conn, destination)? else { return Ok(Vec::new()) };
    let columns = LINK.split(", ").map(|column| format!("t.{column}")).collect::<Vec<_>>().join(", ");
    let head = format!(
        "SELECT {columns}, t.conversation, n.name, t.status, t.status_at,
           NOT EXISTS (SELECT 1 FROM tickets o WHERE o.destination = t.destination AND o.conversation = t.conversation
             AND o.generation > t.generation)
         FROM tickets t JOIN names n ON n.id = t.system"
    );
    let read = |row: &Row<'_>| {
        Ok(FollowedTicket {
            link: link(row)?,
            conversation: row.get(9)?,
            system: row.get(10)?,
            status: row.get::<_, Option<i64>>(11)?.and_then(TicketStatus::from_number),
            status_at: row.get::<_, Option<i64>>(12)?.map(Time),
            newest: row.get(13)?,
        })
    };
    let mut list =
        conn.prepare_cached(&format!("{head} WHERE t.ticket = ?2 AND t.destination = ?1 ORDER BY t.row LIMIT {FOLLOWED_MAX}"))?;
    let found: Vec<FollowedTicket> = list.query_map(params![id, ticket], read)?.collect::<Result<_, _>>()?;
    let Some(ours) = ours.filter(|_| found.is_empty()) else { return Ok(found) };
    // Our id of a ticket begins with that of its conversation.
    let Some(conversation) = ours.get(..CONVERSATION_CHARS).and_then(|id| id.parse::<ConversationId>().ok()) else { return Ok(found) };
    let sql = format!(
        "{head} WHERE t.destination = ?1 AND t.conversation = (SELECT row FROM conversations WHERE id = ?2) AND t.external = ?3
         AND t.ticket IS NULL"
    );
    let mut list = conn.prepare_cached(&sql)?;
    let found = list.query_map(params![id, conversation.to_bytes(), ours], read)?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Whether the gateway wrote an entry. A text that only quotes our id of one is another entry.
pub(super) fn is_own_entry(
    conn: &Connection,
    destination: &str,
    conversations: &[RowNumber],
    entry: Option<&str>,
    mark: Option<&str>,
) -> Result<bool, StoreError> {
    let Some(id) = find_destination(conn, destination)? else { return Ok(false) };
    let sql = "SELECT 1 FROM ticket_entries WHERE destination = ?1 AND conversation = ?2
               AND (entry = ?3 OR (external = ?4 AND (entry IS NULL OR ?3 IS NULL))) LIMIT 1";
    let mut look = conn.prepare_cached(sql)?;
    for conversation in conversations {
        if look.exists(params![id, conversation, entry, mark])? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes what the system says of a ticket.
pub(super) fn write_status(
    conn: &Connection,
    destination: &str,
    (conversation, generation): (RowNumber, u32),
    status: TicketStatus,
    at: Time,
) -> Result<(), StoreError> {
    let sql = "UPDATE tickets SET status = ?4, status_at = ?5 WHERE conversation = ?2 AND generation = ?3
               AND destination = (SELECT id FROM destinations WHERE name = ?1)";
    conn.prepare_cached(sql)?.execute(params![destination, conversation, generation, status.number(), at.0])?;
    Ok(())
}

/// Whether deliveries of a conversation to a destination wait.
pub(super) fn is_owed(conn: &Connection, destination: &str, conversation: RowNumber) -> Result<bool, StoreError> {
    let Some(id) = find_destination(conn, destination)? else { return Ok(false) };
    let sql = "SELECT 1 FROM deliveries WHERE destination = ?1 AND lane = ?2 AND state = 0 LIMIT 1";
    Ok(conn.prepare_cached(sql)?.exists([id, conversation])?)
}

/// How a conversation began.
pub(super) fn opening(conn: &Connection, conversation: RowNumber) -> Result<Opening, StoreError> {
    let sql = "SELECT n.name FROM conversations c JOIN names n ON n.id = c.channel WHERE c.row = ?1";
    let channel = conn.prepare_cached(sql)?.query_row([conversation], |row| row.get(0))?;
    let sql = "SELECT coalesce(m.contact, 0), e.bytes FROM events e LEFT JOIN messages m ON m.row = e.message
               WHERE e.conversation = ?1 AND e.message <> 0 ORDER BY e.sequence LIMIT 1";
    let first = conn.prepare_cached(sql)?.query_row([conversation], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let (contact, event) = first.unwrap_or_default();
    Ok(Opening { channel, contact, event })
}

/// The newest ticket of the conversation that this one continues.
fn continued(conn: &Connection, destination: i64, conversation: ConversationId) -> Result<Option<TicketLink>, StoreError> {
    let sql = format!(
        "SELECT {LINK} FROM tickets WHERE destination = ?1 AND ticket IS NOT NULL AND conversation =
           (SELECT o.row FROM conversations c JOIN conversations o ON o.id = c.continues WHERE c.id = ?2)
         ORDER BY generation DESC LIMIT 1"
    );
    Ok(conn.prepare_cached(&sql)?.query_row(params![destination, conversation.to_bytes()], link).optional()?)
}

/// Tickets, newest first.
pub(super) fn tickets(conn: &Connection, asked: &TicketFilter) -> Result<Vec<TicketRow>, StoreError> {
    let mut conditions = filter::tickets(asked);
    conditions.values.push(Value::Integer(filter::limit(asked.limit)));
    let sql = format!(
        "SELECT d.name, n.name, c.id, t.generation, t.external, t.ticket, t.url, t.state, t.at, t.status, t.status_at, c.turns
         FROM tickets t JOIN destinations d ON d.id = t.destination JOIN names n ON n.id = t.system
         JOIN conversations c ON c.row = t.conversation WHERE {} ORDER BY t.row DESC LIMIT ?",
        conditions.all()
    );
    let mut list = conn.prepare(&sql)?;
    let found = list.query_map(params_from_iter(conditions.values), |row| {
        Ok(TicketRow {
            destination: row.get(0)?,
            system: row.get(1)?,
            conversation: ConversationId::from_bytes(rows::id(row, 2)?),
            generation: row.get(3)?,
            external: row.get(4)?,
            ticket: row.get(5)?,
            url: row.get(6)?,
            state: TicketState::from_number(row.get(7)?).unwrap_or(TicketState::Ended),
            at: rows::time(row, 8)?,
            status: row.get::<_, Option<i64>>(9)?.and_then(TicketStatus::from_number),
            status_at: row.get::<_, Option<i64>>(10)?.map(Time),
            turns: TurnsView::from(&rows::turns(row, 11)?),
        })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Entries that an event became, at all destinations.
pub(super) fn entries(conn: &Connection, event: EventId) -> Result<Vec<TicketEntryRow>, StoreError> {
    let sql = "SELECT d.name, e.piece, t.ticket, e.external, e.entry, e.state, e.times, e.at
               FROM ticket_entries e JOIN destinations d ON d.id = e.destination
               LEFT JOIN tickets t ON t.destination = e.destination AND t.conversation = e.conversation AND t.generation = e.generation
               WHERE e.event = ?1 ORDER BY d.name, e.piece";
    let mut list = conn.prepare_cached(sql)?;
    let found = list.query_map([event.to_bytes()], |row| {
        Ok(TicketEntryRow {
            destination: row.get(0)?,
            event,
            piece: row.get(1)?,
            ticket: row.get(2)?,
            external: row.get(3)?,
            entry: row.get(4)?,
            state: EntryState::from_number(row.get(5)?).unwrap_or(EntryState::Intended),
            times: row.get(6)?,
            at: rows::time(row, 7)?,
        })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}
