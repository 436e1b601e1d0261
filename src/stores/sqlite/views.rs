//! Reading for people: ledger, messages, events, deliveries, quarantine, raws, files.

use bytes::Bytes;
use rusqlite::types::{Type, Value};
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::filter::{self, DELIVERY_TABLES};
use super::rows;
use super::tickets;
use crate::model::delivery::{DeliveryState, Position};
use crate::model::id::{AttachmentId, ContactId, ConversationId, EventId, MessageId, RawId};
use crate::model::item::Fate;
use crate::model::raw::Raw;
use crate::model::ticket::TicketFilter;
use crate::model::time::Time;
use crate::model::view::{DeliveryFilter, DeliveryView, EventView, LedgerFilter, LedgerRow, MessageView, QuarantineRow};
use crate::ports::store::{FileView, StoreError};

fn json<T: serde::de::DeserializeOwned>(column: usize, text: &[u8]) -> rusqlite::Result<T> {
    serde_json::from_slice(text).map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(e)))
}

/// Rows of the ledger, newest first.
pub(super) fn ledger(conn: &Connection, filter: &LedgerFilter) -> Result<Vec<LedgerRow>, StoreError> {
    let mut conditions = filter::ledger(filter);
    conditions.values.push(Value::Integer(filter::limit(filter.limit)));
    let sql = format!(
        "SELECT l.item, r.id, s.name, r.via, ch.name, l.kind, l.fate, l.code, l.duplicate_of, m.id, c.id, e.id, l.received_at,
           (SELECT json_group_array(d.name || ':' || t.ticket) FROM
             (SELECT destination, ticket FROM tickets WHERE conversation = c.row AND ticket IS NOT NULL ORDER BY row) t
             JOIN destinations d ON d.id = t.destination)
         FROM ledger l JOIN raws r ON r.row = l.raw JOIN names s ON s.id = r.source JOIN names ch ON ch.id = l.channel
         LEFT JOIN messages m ON m.row = l.message LEFT JOIN conversations c ON c.row = m.conversation
         LEFT JOIN events e ON e.position = l.event WHERE {} ORDER BY l.item DESC LIMIT ?",
        conditions.all()
    );
    let mut list = conn.prepare(&sql)?;
    let found = list.query_map(params_from_iter(conditions.values), |row| {
        Ok(LedgerRow {
            item: row.get(0)?,
            raw: RawId::from_bytes(rows::id(row, 1)?),
            source: row.get(2)?,
            via: rows::via(row, 3)?,
            channel: row.get(4)?,
            kind: rows::kind(row, 5)?.to_owned(),
            fate: Fate::from_number(row.get(6)?).unwrap_or(Fate::Ignored),
            code: row.get(7)?,
            duplicate_of: row.get(8)?,
            message: rows::id_or_none(row, 9)?.map(MessageId::from_bytes),
            conversation: rows::id_or_none(row, 10)?.map(ConversationId::from_bytes),
            event: rows::id_or_none(row, 11)?.map(EventId::from_bytes),
            received_at: rows::time(row, 12)?,
            tickets: json(13, row.get_ref(13)?.as_bytes()?)?,
        })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// One message with its events and its rows in the ledger.
pub(super) fn message(conn: &Connection, id: MessageId) -> Result<Option<MessageView>, StoreError> {
    let sql = "SELECT m.row, m.key, c.id, k.id, n.name, m.gone FROM messages m JOIN names n ON n.id = m.channel
               LEFT JOIN conversations c ON c.row = m.conversation LEFT JOIN contacts k ON k.row = m.contact WHERE m.id = ?1";
    let head = conn.prepare_cached(sql)?.query_row([id.to_bytes()], |row| {
        let view = MessageView {
            id,
            key: rows::digest(row, 1)?.public(),
            // The tombstone of a message that was never seen has no conversation.
            conversation: ConversationId::from_bytes(rows::id_or_none(row, 2)?.unwrap_or_default()),
            contact: rows::id_or_none(row, 3)?.map(ContactId::from_bytes),
            channel: row.get(4)?,
            gone: row.get(5)?,
            tickets: Vec::new(),
            events: Vec::new(),
            ledger: Vec::new(),
        };
        Ok((row.get::<_, i64>(0)?, view))
    });
    let Some((row, mut view)) = head.optional()? else { return Ok(None) };
    let mut list = conn.prepare_cached("SELECT position FROM events WHERE message = ?1 AND message <> 0 ORDER BY position")?;
    let positions = list.query_map([row], |row| row.get(0))?.collect::<Result<Vec<Position>, _>>()?;
    for position in positions {
        view.events.extend(event_at(conn, position)?);
    }
    view.tickets =
        tickets::tickets(conn, &TicketFilter { conversation: Some(view.conversation), limit: u32::MAX, ..TicketFilter::default() })?;
    view.ledger = ledger(conn, &LedgerFilter { message: Some(id), limit: u32::MAX, ..LedgerFilter::default() })?;
    Ok(Some(view))
}

/// One event by id.
pub(super) fn event(conn: &Connection, id: EventId) -> Result<Option<EventView>, StoreError> {
    let sql = "SELECT position FROM events WHERE id = ?1";
    match conn.prepare_cached(sql)?.query_row([id.to_bytes()], |row| row.get(0)).optional()? {
        Some(position) => event_at(conn, position),
        None => Ok(None),
    }
}

fn event_at(conn: &Connection, position: Position) -> Result<Option<EventView>, StoreError> {
    let sql = "SELECT id, type, sequence, bytes FROM events WHERE position = ?1";
    let view = conn.prepare_cached(sql)?.query_row([position], |row| {
        let event = match row.get_ref(3)?.as_blob_or_null()? {
            Some(bytes) => Some(json(3, bytes)?),
            None => None,
        };
        Ok(EventView {
            position,
            id: EventId::from_bytes(rows::id(row, 0)?),
            event_type: rows::event_type(row, 1)?.to_owned(),
            sequence: rows::unsigned(row, 2)?,
            event,
            deliveries: Vec::new(),
            entries: Vec::new(),
        })
    });
    let Some(mut view) = view.optional()? else { return Ok(None) };
    view.deliveries = deliveries(conn, &DeliveryFilter { event: Some(view.id), limit: u32::MAX, ..DeliveryFilter::default() })?;
    view.entries = tickets::entries(conn, view.id)?;
    Ok(Some(view))
}

fn delivery(row: &Row<'_>) -> rusqlite::Result<DeliveryView> {
    Ok(DeliveryView {
        destination: row.get(0)?,
        position: row.get(1)?,
        event: EventId::from_bytes(rows::id(row, 2)?),
        event_type: rows::event_type(row, 3)?.to_owned(),
        conversation: rows::id_or_none(row, 4)?.map(ConversationId::from_bytes),
        state: DeliveryState::from_number(row.get(5)?).unwrap_or(DeliveryState::Dead),
        attempts: row.get(6)?,
        replay: row.get(7)?,
        code: row.get(8)?,
        status: row.get(9)?,
        detail: row.get(10)?,
        at: rows::time(row, 11)?,
    })
}

/// Deliveries, by position.
pub(super) fn deliveries(conn: &Connection, filter: &DeliveryFilter) -> Result<Vec<DeliveryView>, StoreError> {
    let mut conditions = filter::deliveries(filter);
    conditions.values.push(Value::Integer(filter::limit(filter.limit)));
    let sql = format!(
        "SELECT n.name, d.position, e.id, e.type, c.id, d.state, d.attempts, d.replay, d.code, d.status, d.detail, d.at
         FROM {DELIVERY_TABLES} WHERE {} ORDER BY d.position, n.name, d.replay LIMIT ?",
        conditions.all()
    );
    let mut list = conn.prepare(&sql)?;
    Ok(list.query_map(params_from_iter(conditions.values), delivery)?.collect::<Result<_, _>>()?)
}

/// How many deliveries a filter names.
pub(super) fn count_deliveries(conn: &Connection, filter: &DeliveryFilter) -> Result<u64, StoreError> {
    let conditions = filter::deliveries(filter);
    let sql = format!("SELECT count(*) FROM {DELIVERY_TABLES} WHERE {}", conditions.all());
    Ok(conn.query_row(&sql, params_from_iter(conditions.values), |row| rows::unsigned(row, 0))?)
}

/// Quarantined items, newest first.
pub(super) fn quarantine(
    conn: &Connection,
    channel: Option<&str>,
    before: Option<i64>,
    limit: usize,
) -> Result<Vec<QuarantineRow>, StoreError> {
    let sql = "SELECT l.item, r.id, s.name, ch.name, l.code, l.detail, coalesce(k.bytes, 0), l.received_at
               FROM ledger l INDEXED BY ledger_quarantined JOIN raws r ON r.row = l.raw JOIN names s ON s.id = r.source
               JOIN names ch ON ch.id = l.channel LEFT JOIN kept.raws k ON k.id = r.id
               WHERE l.fate = 3 AND l.item < ?3 AND (?1 IS NULL OR ?1 IN (ch.name, s.name)) ORDER BY l.item DESC LIMIT ?2";
    let mut list = conn.prepare_cached(sql)?;
    let found = list.query_map(params![channel, i64::try_from(limit).unwrap_or(i64::MAX), before.unwrap_or(i64::MAX)], |row| {
        Ok(QuarantineRow {
            item: row.get(0)?,
            raw: RawId::from_bytes(rows::id(row, 1)?),
            source: row.get(2)?,
            channel: row.get(3)?,
            code: row.get::<_, Option<String>>(4)?.unwrap_or_default(),
            detail: row.get::<_, Option<String>>(5)?.unwrap_or_default(),
            bytes: rows::unsigned(row, 6)?,
            received_at: rows::time(row, 7)?,
        })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// A raw with its body, or the key of the blob that holds it.
pub(super) fn raw(conn: &Connection, id: RawId) -> Result<Option<(Raw, Option<String>)>, StoreError> {
    let sql = "SELECT source, via, received_at, head, blob, body FROM kept.raws WHERE id = ?1";
    let found = conn.prepare_cached(sql)?.query_row([id.to_bytes()], |row| {
        let raw = Raw {
            id,
            source: row.get(0)?,
            via: rows::via(row, 1)?,
            received_at: rows::time(row, 2)?,
            head: json(3, row.get_ref(3)?.as_bytes()?)?,
            body: Bytes::copy_from_slice(row.get_ref(5)?.as_blob_or_null()?.unwrap_or_default()),
        };
        Ok((raw, row.get(4)?))
    });
    Ok(found.optional()?)
}

/// Where the bytes of a file are.
pub(super) fn file(conn: &Connection, attachment: AttachmentId) -> Result<Option<FileView>, StoreError> {
    let sql = "SELECT r.id, f.place, f.media_type, f.name, f.bytes,
                 coalesce((SELECT min(published_at) FROM events e WHERE e.message = f.message AND e.message <> 0), r.received_at)
               FROM files f JOIN raws r ON r.row = f.raw WHERE f.attachment = ?1";
    let found = conn.prepare_cached(sql)?.query_row([attachment.to_bytes()], |row| {
        Ok(FileView {
            raw: RawId::from_bytes(rows::id(row, 0)?),
            place: json(1, row.get_ref(1)?.as_bytes()?)?,
            media_type: row.get(2)?,
            name: row.get(3)?,
            bytes: row.get::<_, Option<i64>>(4)?.and_then(|n| u64::try_from(n).ok()),
            published_at: Time(row.get(5)?),
        })
    });
    Ok(found.optional()?)
}
