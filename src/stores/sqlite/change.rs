//! Writes that are rows and no rules: settled sources, memos, replays, dead letters, dropped destinations.

use std::sync::Arc;

use rusqlite::types::Value;
use rusqlite::{params, params_from_iter};

use super::filter::{self, DELIVERY_TABLES};
use super::rows;
use super::state::{Total, find_destination};
use super::tx::SqlTx;
use crate::model::delivery::{DeliveryState, Position};
use crate::model::id::RawId;
use crate::model::view::DeliveryFilter;
use crate::ports::store::{SourceCommit, StoreError, Written, pull_lease};
use crate::ports::tx::Tx;

/// Bytes of a memo at most.
const MEMO_BYTES_MAX: usize = 64 * 1024;

fn counted(count: usize) -> Written {
    Written { count: count as u64, ..Written::default() }
}

/// The source policy was carried out.
pub(super) fn settled(tx: &mut SqlTx<'_>, source: &(String, String, u64), uids: &[u64], lease_epoch: u64) -> Result<Written, StoreError> {
    let (account, folder, epoch) = source;
    tx.fence(&pull_lease(account), lease_epoch)?;
    let sql = "UPDATE source_rows SET state = 3 WHERE state = 0 AND uid = ?4
               AND source = (SELECT row FROM sources WHERE account = ?1 AND folder = ?2 AND epoch = ?3)";
    let mut settle = tx.conn.prepare_cached(sql)?;
    let mut count = 0;
    for uid in uids {
        count += settle.execute(params![account, folder, rows::signed(*epoch), rows::signed(*uid)])?;
    }
    Ok(counted(count))
}

/// The state of a source, and what became of its things.
pub(super) fn source(tx: &mut SqlTx<'_>, commit: &SourceCommit) -> Result<(), StoreError> {
    let state = &commit.state;
    tx.fence(&pull_lease(&state.account), commit.lease_epoch)?;
    let sql = "INSERT INTO sources (account, folder, epoch, epoch_name, low_water, first_run_top, memo)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (account, folder, epoch) DO UPDATE SET
               epoch_name = excluded.epoch_name, low_water = excluded.low_water,
               first_run_top = excluded.first_run_top, memo = excluded.memo RETURNING row";
    let values = params![
        state.account,
        state.folder,
        rows::signed(state.epoch),
        rows::signed(state.epoch_name),
        rows::signed(state.low_water),
        rows::signed(state.first_run_top),
        state.memo,
    ];
    let source: i64 = tx.conn.prepare_cached(sql)?.query_row(values, |row| row.get(0))?;
    // What is settled stays settled: the platform need not be told twice.
    let sql = "INSERT INTO source_rows (source, uid, state, raw, print) VALUES (?1, ?2, ?3, ?4, ?5)
               ON CONFLICT (source, uid) DO UPDATE SET state = iif(state = 3, 3, excluded.state), raw = coalesce(excluded.raw, raw),
               print = coalesce(excluded.print, print)";
    let mut write = tx.conn.prepare_cached(sql)?;
    for row in &commit.rows {
        let raw = row.raw.map(RawId::to_bytes);
        let print = row.print.map(u64::cast_signed);
        write.execute(params![source, rows::signed(row.uid), rows::source_state_number(row.state), raw, print])?;
    }
    if let Some(batch) = commit.parsed {
        let sql = "INSERT INTO parsed_batches (id) VALUES (?1) ON CONFLICT DO NOTHING";
        tx.conn.prepare_cached(sql)?.execute([batch.to_bytes()])?;
        tx.state.parsed.push(batch);
    }
    Ok(())
}

/// A small value of an engine or connector.
pub(super) fn memo(tx: &mut SqlTx<'_>, key: &str, value: Option<&str>) -> Result<Written, StoreError> {
    let Some(value) = value else {
        return Ok(counted(tx.conn.prepare_cached("DELETE FROM memos WHERE key = ?1")?.execute([key])?));
    };
    if value.len() > MEMO_BYTES_MAX {
        return Err(StoreError::Invariant { detail: format!("I6: a memo of {} bytes, at most {MEMO_BYTES_MAX}", value.len()) });
    }
    let sql = "INSERT INTO memos (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    Ok(counted(tx.conn.prepare_cached(sql)?.execute([key, value])?))
}

/// A delivery found by a filter.
struct Found {
    destination: i64,
    name: String,
    position: Position,
    replay: bool,
    lane: i64,
    previous: i64,
}

fn find(tx: &SqlTx<'_>, filter: &DeliveryFilter, more: &str, limit: i64) -> Result<Vec<Found>, StoreError> {
    let mut conditions = filter::deliveries(filter);
    conditions.values.push(Value::Integer(limit));
    let sql = format!(
        "SELECT d.destination, n.name, d.position, d.replay, d.lane, d.previous FROM {DELIVERY_TABLES}
         WHERE {} AND {more} ORDER BY d.position LIMIT ?",
        conditions.all()
    );
    let mut list = tx.conn.prepare(&sql)?;
    let found = list.query_map(params_from_iter(conditions.values), |row| {
        Ok(Found {
            destination: row.get(0)?,
            name: row.get(1)?,
            position: row.get(2)?,
            replay: row.get(3)?,
            lane: row.get(4)?,
            previous: row.get(5)?,
        })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

fn wake(written: &mut Written, name: &str) {
    if !written.woken.iter().any(|known| known.as_ref() == name) {
        written.woken.push(Arc::from(name));
    }
}

/// New obligations for events that were decided before. What still waits is owed already, what was erased cannot be sent.
pub(super) fn replay(tx: &mut SqlTx<'_>, filter: &DeliveryFilter, limit: u64) -> Result<Written, StoreError> {
    let more = "d.replay = 0 AND d.state NOT IN (0, 4) AND e.bytes IS NOT NULL";
    let mut written = Written::default();
    for one in find(tx, filter, more, rows::signed(limit))? {
        let sql = "SELECT state FROM deliveries WHERE destination = ?1 AND position = ?2 AND replay = 1";
        let mut look = tx.conn.prepare_cached(sql)?;
        let before = look.query_map([one.destination, one.position], |row| row.get::<_, i64>(0))?.next().transpose()?;
        let before = before.and_then(DeliveryState::from_number);
        if before == Some(DeliveryState::Waiting) {
            continue;
        }
        let sql = "INSERT INTO deliveries (destination, position, replay, lane, state, attempts, at, previous)
                   VALUES (?1, ?2, 1, ?3, 0, 0, ?4, ?5) ON CONFLICT (destination, position, replay) DO UPDATE SET
                   state = 0, attempts = 0, at = excluded.at, first_attempt_at = NULL, code = NULL, status = NULL, detail = NULL";
        let values = [one.destination, one.position, one.lane, tx.now.0, one.previous];
        tx.conn.prepare_cached(sql)?.execute(values)?;
        // A dead replay is the same obligation again; any other outcome was the end of one, and this is a new one.
        match before {
            Some(DeliveryState::Dead) => tx.state.add(Total::Delivery(one.destination, DeliveryState::Dead), -1),
            _ => tx.state.add(Total::Due(one.destination), 1),
        }
        tx.state.add(Total::Delivery(one.destination, DeliveryState::Waiting), 1);
        written.count += 1;
        wake(&mut written, &one.name);
    }
    Ok(written)
}

/// Dead deliveries are due again, with their schedule from the start, or dropped. A limit of 0 means all.
pub(super) fn dead(tx: &mut SqlTx<'_>, filter: &DeliveryFilter, discard: bool) -> Result<Written, StoreError> {
    let limit = if filter.limit == 0 { i64::MAX } else { i64::from(filter.limit) };
    let more = if discard { "d.state = 2" } else { "d.state = 2 AND e.bytes IS NOT NULL" };
    let mut written = Written::default();
    let next = if discard { DeliveryState::Discarded } else { DeliveryState::Waiting };
    for one in find(tx, filter, more, limit)? {
        let sql = if discard {
            "UPDATE deliveries SET state = 3, at = ?4 WHERE destination = ?1 AND position = ?2 AND replay = ?3 AND state = 2"
        } else {
            "UPDATE deliveries SET state = 0, attempts = 0, first_attempt_at = NULL, at = ?4
             WHERE destination = ?1 AND position = ?2 AND replay = ?3 AND state = 2"
        };
        tx.conn.prepare_cached(sql)?.execute(params![one.destination, one.position, one.replay, tx.now.0])?;
        tx.state.add(Total::Delivery(one.destination, DeliveryState::Dead), -1);
        tx.state.add(Total::Delivery(one.destination, next), 1);
        written.count += 1;
        if !discard {
            wake(&mut written, &one.name);
        }
    }
    Ok(written)
}

/// Everything that waits for a destination is dropped, and the destination forgotten until it is owed something again.
pub(super) fn drop_destination(tx: &mut SqlTx<'_>, name: &str) -> Result<Written, StoreError> {
    let Some(id) = find_destination(tx.conn, name)? else {
        return Ok(Written::default());
    };
    let sql = "UPDATE deliveries SET state = 3, at = ?2 WHERE destination = ?1 AND state = 0";
    let count = tx.conn.prepare_cached(sql)?.execute([id, tx.now.0])?;
    let sql = "UPDATE destinations SET mode = 0, code = NULL, known = 0 WHERE id = ?1";
    tx.conn.prepare_cached(sql)?.execute([id])?;
    tx.state.forget_destination(name);
    let delta = i64::try_from(count).unwrap_or(i64::MAX);
    tx.state.add(Total::Delivery(id, DeliveryState::Waiting), -delta);
    tx.state.add(Total::Delivery(id, DeliveryState::Discarded), delta);
    Ok(counted(count))
}
