//! Reading for the machine: what is due, frozen events, totals, sources. Every function runs in one read transaction.

use std::collections::BTreeMap;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::rows;
use super::state::{SPAN_WORDS, find_destination};
use crate::model::delivery::{DeliveryState, Due, Outgoing, Position};
use crate::model::id::{ConversationId, EventId, RawId};
use crate::model::item::Fate;
use crate::model::time::Time;
use crate::model::turns::Span;
use crate::model::view::{DestinationRow, Retrying, Totals};
use crate::ports::store::{ParseBatch, SourceRow, SourceState, StoreError};
use crate::ports::tx::MediaRow;

fn due(row: &Row<'_>) -> rusqlite::Result<Due> {
    Ok(Due {
        position: row.get(0)?,
        lane: row.get(1)?,
        attempts: row.get(2)?,
        due_at: rows::time(row, 3)?,
        first_attempt_at: row.get::<_, Option<i64>>(4)?.map(Time),
        replay: row.get(5)?,
    })
}

fn limited(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Waiting deliveries above a position.
pub(super) fn waiting(conn: &Connection, destination: &str, after: Position, limit: usize) -> Result<Vec<Due>, StoreError> {
    let Some(id) = find_destination(conn, destination)? else { return Ok(Vec::new()) };
    let sql = "SELECT position, lane, attempts, at, first_attempt_at, replay FROM deliveries INDEXED BY deliveries_waiting
               WHERE destination = ?1 AND state = 0 AND position > ?2 ORDER BY position, replay LIMIT ?3";
    let mut list = conn.prepare_cached(sql)?;
    Ok(list.query_map(params![id, after, limited(limit)], due)?.collect::<Result<_, _>>()?)
}

/// Waiting deliveries of one lane.
pub(super) fn lane(conn: &Connection, destination: &str, lane: i64, limit: usize) -> Result<Vec<Due>, StoreError> {
    let Some(id) = find_destination(conn, destination)? else { return Ok(Vec::new()) };
    let sql = "SELECT position, lane, attempts, at, first_attempt_at, replay FROM deliveries INDEXED BY deliveries_lane
               WHERE destination = ?1 AND state = 0 AND lane = ?2 ORDER BY position, replay LIMIT ?3";
    let mut list = conn.prepare_cached(sql)?;
    Ok(list.query_map(params![id, lane, limited(limit)], due)?.collect::<Result<_, _>>()?)
}

/// Waiting deliveries that were tried.
pub(super) fn retrying(conn: &Connection, destination: &str) -> Result<Vec<Due>, StoreError> {
    let Some(id) = find_destination(conn, destination)? else { return Ok(Vec::new()) };
    let sql = "SELECT position, lane, attempts, at, first_attempt_at, replay FROM deliveries INDEXED BY deliveries_retrying
               WHERE destination = ?1 AND state = 0 AND first_attempt_at IS NOT NULL ORDER BY position, replay";
    let mut list = conn.prepare_cached(sql)?;
    Ok(list.query_map([id], due)?.collect::<Result<_, _>>()?)
}

/// Frozen events of deliveries that still wait.
pub(super) fn outgoing(
    conn: &Connection,
    destination: &str,
    due: &[(Position, bool)],
) -> Result<Vec<(Position, bool, Outgoing)>, StoreError> {
    let Some(id) = find_destination(conn, destination)? else { return Ok(Vec::new()) };
    let sql = "SELECT e.id, e.type, c.id, n.name, e.sequence, d.previous, e.bytes, d.attempts
               FROM deliveries d JOIN events e ON e.position = d.position
               LEFT JOIN conversations c ON c.row = e.conversation LEFT JOIN names n ON n.id = e.channel
               WHERE d.destination = ?1 AND d.position = ?2 AND d.replay = ?3 AND d.state = 0 AND e.bytes IS NOT NULL";
    let mut find = conn.prepare_cached(sql)?;
    let mut found = Vec::with_capacity(due.len());
    for (position, replay) in due {
        let one = find.query_row(params![id, position, replay], |row| {
            Ok(Outgoing {
                event: EventId::from_bytes(rows::id(row, 0)?),
                event_type: rows::event_type(row, 1)?.to_owned(),
                conversation: rows::id_or_none(row, 2)?.map(ConversationId::from_bytes),
                channel: row.get(3)?,
                sequence: rows::unsigned(row, 4)?,
                previous: rows::unsigned(row, 5)?,
                bytes: Bytes::copy_from_slice(row.get_ref(6)?.as_blob()?),
                attempt: row.get::<_, u32>(7)?.saturating_add(1),
                replay: *replay,
            })
        });
        found.extend(one.optional()?.map(|event| (*position, *replay, event)));
    }
    Ok(found)
}

/// All destinations that are known, by name. The store cannot know which are configured: it says that none is.
pub(super) fn destinations(conn: &Connection) -> Result<Vec<DestinationRow>, StoreError> {
    let sql = "SELECT d.id, d.name, d.mode, d.code, d.since,
                 (SELECT e.published_at FROM deliveries w INDEXED BY deliveries_waiting JOIN events e ON e.position = w.position
                  WHERE w.destination = d.id AND w.state = 0 ORDER BY w.position LIMIT 1)
               FROM destinations d WHERE d.known = 1 ORDER BY d.name";
    let mut list = conn.prepare_cached(sql)?;
    let mut words = conn.prepare_cached("SELECT word, value FROM totals WHERE kind = 3 AND name = ?1")?;
    let mut tried = conn.prepare_cached(
        "SELECT first_attempt_at, attempts, code, detail FROM deliveries INDEXED BY deliveries_retrying
         WHERE destination = ?1 AND state = 0 AND first_attempt_at IS NOT NULL ORDER BY position LIMIT 1",
    )?;
    let mut found = Vec::new();
    let mut rows_of = list.query([])?;
    while let Some(row) = rows_of.next()? {
        let id: i64 = row.get(0)?;
        let retrying = tried
            .query_row([id], |row| Ok(Retrying { since: Time(row.get(0)?), attempts: row.get(1)?, code: row.get(2)?, detail: row.get(3)? }))
            .optional()?;
        let mut deliveries: std::collections::BTreeMap<String, u64> =
            DeliveryState::ALL.iter().map(|state| (state.as_str().to_owned(), 0)).collect();
        let mut counts = words.query([id])?;
        while let Some(count) = counts.next()? {
            if let Some(state) = DeliveryState::from_number(count.get(0)?) {
                deliveries.insert(state.as_str().to_owned(), rows::unsigned(count, 1)?);
            }
        }
        found.push(DestinationRow {
            name: row.get(1)?,
            state: rows::mode(row, 2)?,
            code: row.get(3)?,
            since: rows::time(row, 4)?,
            deliveries,
            oldest_waiting: row.get::<_, Option<i64>>(5)?.map(Time),
            retrying,
            configured: false,
        });
    }
    Ok(found)
}

/// All totals.
pub(super) fn totals(conn: &Connection) -> Result<Totals, StoreError> {
    let sql = "SELECT t.kind, coalesce(CASE WHEN t.kind < 2 OR t.kind > 3 THEN n.name ELSE d.name END, ''), t.word, t.value
               FROM totals t LEFT JOIN names n ON n.id = t.name LEFT JOIN destinations d ON d.id = t.name";
    let mut list = conn.prepare_cached(sql)?;
    let mut totals = Totals::default();
    let mut found = list.query([])?;
    while let Some(row) = found.next()? {
        let (kind, name, word): (i64, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let value = rows::unsigned(row, 3)?;
        match kind {
            0 => drop(totals.received.insert(name, value)),
            1 => {
                if let Some(fate) = Fate::from_number(word) {
                    totals.fates.entry(name).or_default().insert(fate.as_str().to_owned(), value);
                }
            }
            2 => drop(totals.due.insert(name, value)),
            4 => drop(totals.waiting.insert(name, value)),
            5 | 6 => {
                let (of, bucket) = if kind == 5 { (word / SPAN_WORDS, usize::try_from(word % SPAN_WORDS).ok()) } else { (word, None) };
                let Some(span) = Span::ALL.into_iter().find(|span| span.number() == of) else { continue };
                let spans = totals.spans.entry(name).or_default().entry(span.as_str().to_owned()).or_default();
                match bucket.and_then(|bucket| spans.buckets.get_mut(bucket)) {
                    Some(count) => *count = value,
                    None => spans.sum_ms = value,
                }
            }
            _ => {
                if let Some(state) = DeliveryState::from_number(word) {
                    totals.deliveries.entry(name).or_default().insert(state.as_str().to_owned(), value);
                }
            }
        }
    }
    // Where answers reach us by no road, everybody would be said to wait.
    totals.waiting.retain(|channel, _| totals.spans.contains_key(channel));
    Ok(totals)
}

/// Events in commit order.
pub(super) fn events_after(conn: &Connection, after: Position, limit: usize) -> Result<Vec<(Position, Bytes)>, StoreError> {
    let sql = "SELECT position, bytes FROM events WHERE position > ?1 AND bytes IS NOT NULL ORDER BY position LIMIT ?2";
    let mut list = conn.prepare_cached(sql)?;
    let found =
        list.query_map(params![after, limited(limit)], |row| Ok((row.get(0)?, Bytes::copy_from_slice(row.get_ref(1)?.as_blob()?))))?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Pending items with a hold of their own; what queues behind them follows by itself.
pub(super) fn pending(conn: &Connection, limit: usize) -> Result<Vec<(i64, Time)>, StoreError> {
    let sql = "SELECT item, until FROM pending WHERE reason <> ?1 ORDER BY place LIMIT ?2";
    let mut list = conn.prepare_cached(sql)?;
    let found = list.query_map([rows::QUEUED, limited(limit)], |row| Ok((row.get(0)?, rows::time(row, 1)?)))?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Files that are to be fetched, those that are due first first.
pub(super) fn media(conn: &Connection, channel: Option<&str>, limit: usize) -> Result<Vec<MediaRow>, StoreError> {
    let columns = "SELECT m.item, m.raw, n.name, m.message, m.at, m.body FROM media m JOIN names n ON n.id = m.channel";
    let found = match channel {
        Some(channel) => {
            let sql = format!("{columns} WHERE m.channel = (SELECT id FROM names WHERE name = ?1) ORDER BY m.at LIMIT ?2");
            let mut list = conn.prepare_cached(&sql)?;
            list.query_map(params![channel, limited(limit)], rows::media)?.collect::<Result<_, _>>()?
        }
        None => {
            let mut list = conn.prepare_cached(&format!("{columns} ORDER BY m.at LIMIT ?1"))?;
            list.query_map([limited(limit)], rows::media)?.collect::<Result<_, _>>()?
        }
    };
    Ok(found)
}

/// All folders of an account, each in its newest epoch.
pub(super) fn sources(conn: &Connection, account: &str) -> Result<Vec<SourceState>, StoreError> {
    let sql = "SELECT account, folder, epoch, epoch_name, low_water, first_run_top, memo FROM sources s WHERE account = ?1
               AND epoch = (SELECT max(epoch) FROM sources WHERE account = s.account AND folder = s.folder) ORDER BY folder";
    let mut list = conn.prepare_cached(sql)?;
    let found = list.query_map([account], |row| {
        Ok(SourceState {
            account: row.get(0)?,
            folder: row.get(1)?,
            epoch: rows::unsigned(row, 2)?,
            epoch_name: rows::unsigned(row, 3)?,
            low_water: rows::unsigned(row, 4)?,
            first_run_top: rows::unsigned(row, 5)?,
            memo: row.get(6)?,
        })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Rows of a folder whose policy is not carried out yet.
pub(super) fn unsettled(conn: &Connection, source: &(String, String, u64), limit: usize) -> Result<Vec<SourceRow>, StoreError> {
    let sql = "SELECT uid, state, raw, print FROM source_rows WHERE state = 0
               AND source = (SELECT row FROM sources WHERE account = ?1 AND folder = ?2 AND epoch = ?3) ORDER BY uid LIMIT ?4";
    let mut list = conn.prepare_cached(sql)?;
    let found = list.query_map(params![source.0, source.1, rows::signed(source.2), limited(limit)], |row| source_row(row, 0))?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// A row from its columns uid, state, raw, print.
fn source_row(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<SourceRow> {
    Ok(SourceRow {
        uid: rows::unsigned(row, first)?,
        state: rows::source_state(row, first + 1)?,
        raw: rows::id_or_none(row, first + 2)?.map(RawId::from_bytes),
        print: row.get::<_, Option<i64>>(first + 3)?.map(i64::cast_unsigned),
    })
}

/// Rows of a folder in all its epochs up to one.
pub(super) fn source_rows(
    conn: &Connection,
    source: &(String, String, u64),
    after: (u64, u64),
    limit: usize,
) -> Result<Vec<(u64, SourceRow)>, StoreError> {
    let sql = "SELECT s.epoch, r.uid, r.state, r.raw, r.print FROM sources s JOIN source_rows r ON r.source = s.row
               WHERE s.account = ?1 AND s.folder = ?2 AND s.epoch <= ?3 AND s.epoch >= ?4 AND (s.epoch > ?4 OR r.uid > ?5)
               ORDER BY s.epoch, r.uid LIMIT ?6";
    let mut list = conn.prepare_cached(sql)?;
    let values = params![source.0, source.1, rows::signed(source.2), rows::signed(after.0), rows::signed(after.1), limited(limit)];
    let found = list.query_map(values, |row| Ok((rows::unsigned(row, 0)?, source_row(row, 1)?)))?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Batches of an account whose admission was never committed.
pub(super) fn interrupted(conn: &Connection, account: &str) -> Result<Vec<ParseBatch>, StoreError> {
    let sql = "SELECT id, channel, account, folder, epoch, uids, attempts FROM kept.batches b
               WHERE account = ?1 AND NOT EXISTS (SELECT 1 FROM parsed_batches p WHERE p.id = b.id) ORDER BY id";
    let mut list = conn.prepare_cached(sql)?;
    let found = list.query_map([account], |row| {
        let uids: String = row.get(5)?;
        Ok(ParseBatch {
            id: RawId::from_bytes(rows::id(row, 0)?),
            channel: row.get(1)?,
            source: (row.get(2)?, row.get(3)?, rows::unsigned(row, 4)?),
            uids: serde_json::from_str(&uids).unwrap_or_default(),
            attempts: row.get(6)?,
        })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// The cursors of an account: a range of the memos.
pub(super) fn cursors(conn: &Connection, account: &str) -> Result<BTreeMap<String, String>, StoreError> {
    let prefix = rows::cursor_prefix(account);
    let mut list = conn.prepare_cached("SELECT substr(key, ?3), value FROM memos WHERE key >= ?1 AND key < ?2 ORDER BY key")?;
    let found = list.query_map(params![prefix, format!("{prefix}\u{10FFFF}"), prefix.chars().count() as i64 + 1], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// A memo.
pub(super) fn memo(conn: &Connection, key: &str) -> Result<Option<String>, StoreError> {
    Ok(conn.prepare_cached("SELECT value FROM memos WHERE key = ?1")?.query_row([key], |row| row.get(0)).optional()?)
}
