//! Care: retention in short slices, and erasing a contact. Runs on the writer's thread between commits.
//!
//! What stays for ever: key digests, totals, tombstones. What stays until a person dealt with it: events with a delivery that waits or
//! is dead, raws of quarantined and pending items.

use rusqlite::{Connection, params};

use super::error::closed;
use super::rows;
use super::state::{State, Total};
use super::tx::SqlTx;
use super::writer::Writer;
use crate::logic::admit;
use crate::model::delivery::DeliveryState;
use crate::model::id::{ContactId, RawId};
use crate::model::item::FilePlace;
use crate::model::time::Time;
use crate::model::turns::Turns;
use crate::model::view::{Erased, Swept};
use crate::ports::store::{Retention, StoreError};
use crate::ports::tx::Tx;

/// Rows one slice looks at: some milliseconds of the writer's time.
const SLICE_ROWS: i64 = 256;
/// A staged raw whose admission may still be on its way is left alone for so long.
const STAGED_GRACE_MS: i64 = 60 * 60 * 1000;

/// Where the passes of retention are. Only in memory: a pass begins anew after a restart.
#[derive(Debug, Default)]
pub(super) struct Marks {
    events: i64,
    ledger: i64,
}

/// One slice over events and ledger.
pub(super) fn sweep(writer: &mut Writer, retention: &Retention, now: Time) -> Result<Swept, StoreError> {
    writer.transaction(|writer| {
        let mut swept = Swept::default();
        if let Some(keep_ms) = retention.events_ms {
            let (count, more) = sweep_events(writer, now.plus_ms(-keep_ms))?;
            swept.events = count;
            swept.more |= more;
        }
        if let Some(keep_ms) = retention.ledger_ms {
            let (count, more) = sweep_ledger(writer, now.plus_ms(-keep_ms))?;
            swept.ledger = count;
            swept.more |= more;
        }
        swept.more |= sweep_sources(writer)?;
        Ok(swept)
    })
}

/// A slice of the rows of numberings before the last two: nothing is compared with them any more, for what was in the last but one has
/// rows of its own. Says whether there may be more.
fn sweep_sources(writer: &mut Writer) -> Result<bool, StoreError> {
    let sql = "DELETE FROM source_rows WHERE (source, uid) IN (
                 SELECT r.source, r.uid FROM sources s JOIN source_rows r ON r.source = s.row
                 WHERE s.epoch + 1 < (SELECT max(n.epoch) FROM sources n WHERE n.account = s.account AND n.folder = s.folder) LIMIT ?1)";
    let gone = writer.conn.prepare_cached(sql)?.execute([SLICE_ROWS])?;
    Ok(i64::try_from(gone).is_ok_and(|gone| gone == SLICE_ROWS))
}

/// Looks at the next rows above `mark` that are old enough: (number, may go). Passes end at the first row that is too young.
fn slice(conn: &Connection, sql: &str, mark: i64, before: Time) -> Result<Vec<(i64, bool)>, StoreError> {
    let mut list = conn.prepare_cached(sql)?;
    let mut found = list.query([mark, SLICE_ROWS])?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        if row.get::<_, i64>(1)? >= before.0 {
            break;
        }
        rows.push((row.get(0)?, row.get(2)?));
    }
    Ok(rows)
}

fn sweep_events(writer: &mut Writer, before: Time) -> Result<(u64, bool), StoreError> {
    let conn = &writer.conn;
    // Everything up to here has no bytes: no pass need look at it again.
    let floor: i64 = conn.query_row("SELECT coalesce(max(value), 0) FROM meta WHERE key = 'events_swept'", [], |row| row.get(0))?;
    let mark = writer.care.events.max(floor);
    let sql = "SELECT e.position, e.published_at, NOT EXISTS (SELECT 1 FROM destinations n JOIN deliveries d ON d.destination = n.id
                 WHERE d.position = e.position AND d.state IN (0, 2))
               FROM events e WHERE e.position > ?1 ORDER BY e.position LIMIT ?2";
    let rows = slice(conn, sql, mark, before)?;
    let mut count = 0;
    for (position, _) in rows.iter().filter(|(_, free)| *free) {
        let sql = "UPDATE events SET bytes = NULL WHERE position = ?1 AND bytes IS NOT NULL";
        count += conn.prepare_cached(sql)?.execute([position])?;
    }
    let Some((last, _)) = rows.last() else {
        writer.care.events = 0;
        return Ok((0, false));
    };
    if mark == floor && rows.iter().all(|(_, free)| *free) {
        let sql = "INSERT INTO meta (key, value) VALUES ('events_swept', ?1) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        conn.prepare_cached(sql)?.execute([last])?;
    }
    let more = rows.len() as i64 == SLICE_ROWS;
    writer.care.events = if more { *last } else { 0 };
    Ok((count as u64, more))
}

fn sweep_ledger(writer: &mut Writer, before: Time) -> Result<(u64, bool), StoreError> {
    let conn = &writer.conn;
    // The newest row stays, or its number would be given again.
    let sql = "SELECT item, received_at, fate NOT IN (3, 4) AND item < (SELECT max(item) FROM ledger)
               FROM ledger WHERE item > ?1 ORDER BY item LIMIT ?2";
    let rows = slice(conn, sql, writer.care.ledger, before)?;
    let mut count = 0;
    for (item, _) in rows.iter().filter(|(_, free)| *free) {
        count += conn.prepare_cached("DELETE FROM ledger WHERE item = ?1")?.execute([item])?;
    }
    let more = rows.len() as i64 == SLICE_ROWS;
    writer.care.ledger = if more { rows.last().map_or(0, |(item, _)| *item) } else { 0 };
    Ok((count as u64, more))
}

/// The raws of one slice that may go, and where the next slice begins (0: the pass ended).
pub(super) fn old_raws(conn: &Connection, retention: &Retention, now: Time, mark: i64) -> Result<(Vec<RawId>, i64), StoreError> {
    let Some(keep_ms) = retention.raws_ms else { return Ok((Vec::new(), 0)) };
    let before = now.plus_ms(-keep_ms);
    let quarantined_before = retention.quarantine_ms.map_or(i64::MIN, |keep_ms| now.plus_ms(-keep_ms).0);
    let sql = "SELECT k.row, k.received_at, k.id, r.row IS NULL,
                 EXISTS (SELECT 1 FROM ledger l WHERE l.raw = r.row AND l.fate = 4),
                 EXISTS (SELECT 1 FROM ledger l WHERE l.raw = r.row AND l.fate = 3)
               FROM kept.raws k LEFT JOIN raws r ON r.id = k.id WHERE k.row > ?1 ORDER BY k.row LIMIT ?2";
    let mut list = conn.prepare_cached(sql)?;
    let mut found = list.query([mark, SLICE_ROWS])?;
    let (mut ids, mut last, mut seen) = (Vec::new(), mark, 0);
    while let Some(row) = found.next()? {
        let received_at: i64 = row.get(1)?;
        if received_at >= before.0 {
            break;
        }
        seen += 1;
        last = row.get(0)?;
        let orphan_young = row.get::<_, bool>(3)? && received_at >= now.plus_ms(-STAGED_GRACE_MS).0;
        let held = row.get::<_, bool>(4)? || (row.get::<_, bool>(5)? && received_at >= quarantined_before);
        if !orphan_young && !held {
            ids.push(RawId::from_bytes(super::rows::id(row, 2)?));
        }
    }
    Ok((ids, if seen == SLICE_ROWS { last } else { 0 }))
}

/// Erases a contact in `omnigate.db`; the raws to remove from `raws.db` are returned. May be repeated: what a crash left is done then.
pub(super) fn erase(writer: &mut Writer, contact: ContactId) -> Result<Option<(Erased, Vec<RawId>)>, StoreError> {
    let set = |writer: &Writer, on: bool| writer.conn.pragma_update(None, "secure_delete", on);
    set(writer, true)?;
    let done = writer.transaction(|writer| erase_in(writer, contact));
    set(writer, false)?;
    if done.is_ok() {
        // The log still holds what was overwritten; a reader at work only delays this until the next checkpoint.
        let _ = writer.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    }
    done
}

fn erase_in(writer: &mut Writer, contact: ContactId) -> Result<Option<(Erased, Vec<RawId>)>, StoreError> {
    let numbers = |sql: &str, key: i64| -> Result<Vec<i64>, StoreError> {
        let mut list = writer.conn.prepare_cached(sql)?;
        Ok(list.query_map([key], |row| row.get(0))?.collect::<Result<_, _>>()?)
    };
    let Some(row) = find_contact(&writer.conn, contact)? else { return Ok(None) };
    let mut erased = Erased::default();
    let mut raws = std::collections::BTreeSet::new();
    let messages = numbers(
        "SELECT DISTINCT m.row FROM participants p JOIN events e ON e.conversation = p.conversation
         JOIN messages m ON m.row = e.message WHERE p.contact = ?1 AND m.contact = p.contact",
        row,
    )?;
    let mut positions = Vec::new();
    for message in &messages {
        raws.extend(numbers("SELECT raw FROM ledger WHERE message = ?1", *message)?);
        positions.extend(numbers("SELECT position FROM events WHERE message = ?1 AND message <> 0", *message)?);
    }
    let conversations = numbers("SELECT conversation FROM participants WHERE contact = ?1", row)?;
    let mut waiting = Vec::new();
    for conversation in &conversations {
        waiting.extend(numbers("SELECT item FROM pending WHERE conversation = ?1", *conversation)?);
    }
    for message in &messages {
        erased.messages += erase_message(&writer.conn, *message, &mut erased.blobs)?;
    }
    for position in positions {
        erased.deliveries += erase_deliveries(writer, position)?;
    }
    for item in waiting {
        raws.extend(erase_pending(writer, item, row, &mut erased.blobs)?);
    }
    let conn = &writer.conn;
    for conversation in conversations {
        conn.prepare_cached("UPDATE conversations SET subject = NULL WHERE row = ?1")?.execute([conversation])?;
        give_up(conn, &mut writer.state, conversation)?;
    }
    conn.prepare_cached("DELETE FROM contact_addresses WHERE contact = ?1")?.execute([row])?;
    conn.prepare_cached("UPDATE contacts SET name = NULL WHERE row = ?1")?.execute([row])?;
    let mut ids = Vec::with_capacity(raws.len());
    for raw in raws {
        let sql = "SELECT id FROM raws WHERE row = ?1";
        ids.push(RawId::from_bytes(conn.prepare_cached(sql)?.query_row([raw], |row| super::rows::id(row, 0))?));
    }
    Ok(Some((erased, ids)))
}

fn find_contact(conn: &Connection, contact: ContactId) -> Result<Option<i64>, StoreError> {
    let mut find = conn.prepare_cached("SELECT row FROM contacts WHERE id = ?1")?;
    let mut found = find.query([contact.to_bytes()])?;
    Ok(match found.next()? {
        Some(row) => Some(row.get(0)?),
        None => None,
    })
}

/// Leaves the tombstone of a message; 1 if it had content.
fn erase_message(conn: &Connection, message: i64, blobs: &mut Vec<String>) -> Result<u64, StoreError> {
    let mut files = conn.prepare_cached("DELETE FROM files WHERE message = ?1 RETURNING place")?;
    let mut gone = files.query([message])?;
    while let Some(row) = gone.next()? {
        let place: Option<FilePlace> = row.get_ref(0)?.as_bytes().ok().and_then(|text| serde_json::from_slice(text).ok());
        if let Some(FilePlace::Blob { key }) = place {
            blobs.push(key);
        }
    }
    conn.prepare_cached("DELETE FROM media WHERE message = ?1 AND message <> 0")?.execute([message])?;
    conn.prepare_cached("UPDATE messages SET gone = 1 WHERE row = ?1")?.execute([message])?;
    conn.prepare_cached("UPDATE ledger SET detail = NULL WHERE message = ?1")?.execute([message])?;
    let sql = "UPDATE events SET bytes = NULL WHERE message = ?1 AND message <> 0 AND bytes IS NOT NULL";
    Ok(u64::from(conn.prepare_cached(sql)?.execute([message])? > 0))
}

/// Waiting and dead deliveries of an event become `erased`; the number of those that waited.
fn erase_deliveries(writer: &mut Writer, position: i64) -> Result<u64, StoreError> {
    let sql = "SELECT d.destination, d.replay, d.state FROM destinations n JOIN deliveries d ON d.destination = n.id
               WHERE d.position = ?1 AND d.state IN (0, 2)";
    let mut list = writer.conn.prepare_cached(sql)?;
    let found = list.query_map([position], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let found = found.collect::<Result<Vec<(i64, i64, i64)>, _>>()?;
    let mut waited = 0;
    for (destination, replay, state) in found {
        let sql = "UPDATE deliveries SET state = 4, detail = NULL WHERE destination = ?1 AND position = ?2 AND replay = ?3";
        writer.conn.prepare_cached(sql)?.execute([destination, position, replay])?;
        let was = DeliveryState::from_number(state).unwrap_or(DeliveryState::Waiting);
        writer.state.add(Total::Delivery(destination, was), -1);
        writer.state.add(Total::Delivery(destination, DeliveryState::Erased), 1);
        waited += u64::from(was == DeliveryState::Waiting);
    }
    Ok(waited)
}

/// A pending item of the contact goes with it; its raw is returned.
fn erase_pending(writer: &mut Writer, item: i64, contact: i64, blobs: &mut Vec<String>) -> Result<Option<i64>, StoreError> {
    let now = writer.now();
    let mut tx = SqlTx { conn: &writer.conn, state: &mut writer.state, now };
    let Some(row) = tx.pending(item)?.filter(|row| admit::contact_of(&row.body) == Some(contact)) else {
        return Ok(None);
    };
    if let Some(media) = tx.media(item)? {
        blobs.extend(admit::media::blobs_of(&media.body));
        tx.remove_media(item)?;
    }
    tx.remove_pending(item)?;
    tx.change_fate(item, &admit::erased())?;
    if tx.first_pending(row.conversation)?.is_none() {
        let mut conversation = tx.conversation(row.conversation)?.ok_or_else(closed)?;
        conversation.pending = false;
        tx.write_conversation(&conversation)?;
    }
    Ok(Some(row.raw))
}

/// Removes what `raws.db` still holds of raws and batches that the last run had no time to remove.
pub(super) fn tidy(main: &Connection, raws: &Connection) -> rusqlite::Result<()> {
    let mut list = main.prepare("SELECT id FROM parsed_batches")?;
    let ids = list.query_map([], |row| super::rows::id(row, 0))?.collect::<Result<Vec<_>, _>>()?;
    for id in &ids {
        raws.execute("DELETE FROM batches WHERE id = ?1", params![id])?;
    }
    if !ids.is_empty() {
        main.execute("DELETE FROM parsed_batches", [])?;
    }
    Ok(())
}

/// Nobody waits for an answer in a conversation that was erased.
fn give_up(conn: &Connection, state: &mut State, conversation: i64) -> Result<(), StoreError> {
    let sql = "SELECT channel, turns FROM conversations WHERE row = ?1";
    let (channel, mut turns): (i64, Turns) =
        conn.prepare_cached(sql)?.query_row([conversation], |row| Ok((row.get(0)?, rows::turns(row, 1)?)))?;
    if turns.waiting_since().is_none() {
        return Ok(());
    }
    turns.given_up();
    let sql = "UPDATE conversations SET turns = ?2 WHERE row = ?1";
    conn.prepare_cached(sql)?.execute(params![conversation, rows::turns_text(&turns)?])?;
    state.add(Total::Waiting(channel), -1);
    Ok(())
}
