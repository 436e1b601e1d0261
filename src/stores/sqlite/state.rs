//! What the writer keeps in memory beside its connection: interned names, the numbers that grow, and the totals of the open
//! transaction. All of it can be read again from the file; after a rollback it is.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, OptionalExtension, params};

use crate::model::delivery::{DeliveryState, Position};
use crate::model::id::RawId;
use crate::model::item::Fate;
use crate::model::time::Time;
use crate::model::turns::Span;
use crate::ports::store::StoreError;

/// Which total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Total {
    /// Items received, by channel.
    Received(i64),
    /// Items by channel and fate.
    Fate(i64, Fate),
    /// Deliveries ever due, by destination.
    Due(i64),
    /// Deliveries by destination and state.
    Delivery(i64, DeliveryState),
    /// Conversations that wait for an answer, by channel.
    Waiting(i64),
    /// Spans that ended, by channel, span and bucket.
    Span(i64, Span, usize),
    /// Their sum, ms, by channel and span.
    SpanSum(i64, Span),
}

impl Total {
    fn key(self) -> (i64, i64, i64) {
        match self {
            Self::Received(name) => (0, name, 0),
            Self::Fate(name, fate) => (1, name, fate.number()),
            Self::Due(name) => (2, name, 0),
            Self::Delivery(name, state) => (3, name, state.number()),
            Self::Waiting(name) => (4, name, 0),
            Self::Span(name, span, bucket) => (5, name, span.number() * SPAN_WORDS + i64::try_from(bucket).unwrap_or(SPAN_WORDS - 1)),
            Self::SpanSum(name, span) => (6, name, span.number()),
        }
    }
}

/// Words of one span in the totals: more than it has buckets.
pub(super) const SPAN_WORDS: i64 = 16;

/// Deltas of totals, written once a transaction.
pub(super) type Deltas = BTreeMap<Total, i64>;

/// The writer's memory.
#[derive(Debug, Default)]
pub(super) struct State {
    names: HashMap<String, i64>,
    destinations: HashMap<String, i64>,
    next_item: i64,
    next_position: i64,
    /// Of the write at work; joins `batch` when the write succeeds.
    pub write: Deltas,
    /// Of the transaction.
    pub batch: Deltas,
    /// Raws of the transaction that repeat a known delivery: their staged bodies can go.
    pub repeated: Vec<RawId>,
    /// Batches of the transaction that are parsed.
    pub parsed: Vec<RawId>,
}

impl State {
    /// Reads what must grow.
    pub fn load(conn: &Connection) -> Result<Self, StoreError> {
        let top = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0));
        let item = top("SELECT coalesce(max(item), 0) FROM ledger")?;
        let position = top("SELECT coalesce(max(position), 0) FROM events")?;
        let floor = top("SELECT coalesce(max(value), 0) FROM meta WHERE key = 'position_floor'")?;
        Ok(Self { next_item: item + 1, next_position: position.max(floor) + 1, ..Self::default() })
    }

    /// A rollback may have taken back rows that the caches name.
    pub fn forget(&mut self) {
        self.names.clear();
        self.destinations.clear();
        self.write.clear();
    }

    pub fn item(&mut self) -> i64 {
        let number = self.next_item;
        self.next_item += 1;
        number
    }

    pub fn position(&mut self) -> Position {
        let position = self.next_position;
        self.next_position += 1;
        position
    }

    pub fn add(&mut self, total: Total, delta: i64) {
        *self.write.entry(total).or_insert(0) += delta;
    }

    /// The write succeeded: its deltas are part of the transaction.
    pub fn keep_write(&mut self) {
        for (total, delta) in std::mem::take(&mut self.write) {
            *self.batch.entry(total).or_insert(0) += delta;
        }
    }

    /// Writes the totals of the transaction.
    pub fn write_totals(&mut self, conn: &Connection) -> Result<(), StoreError> {
        let mut add = conn.prepare_cached(
            "INSERT INTO totals (kind, name, word, value) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (kind, name, word) DO UPDATE SET value = value + excluded.value",
        )?;
        for (total, delta) in std::mem::take(&mut self.batch) {
            if delta != 0 {
                let (kind, name, word) = total.key();
                add.execute(params![kind, name, word, delta])?;
            }
        }
        Ok(())
    }

    /// The number of a name, given if it is new.
    pub fn name(&mut self, conn: &Connection, name: &str) -> Result<i64, StoreError> {
        if let Some(id) = self.names.get(name) {
            return Ok(*id);
        }
        conn.prepare_cached("INSERT INTO names (name) VALUES (?1) ON CONFLICT DO NOTHING")?.execute([name])?;
        let id = conn.prepare_cached("SELECT id FROM names WHERE name = ?1")?.query_row([name], |row| row.get(0))?;
        self.names.insert(name.to_owned(), id);
        Ok(id)
    }

    /// The number of a destination that is owed something, made known if it is not.
    pub fn destination(&mut self, conn: &Connection, name: &str, now: Time) -> Result<i64, StoreError> {
        if let Some(id) = self.destinations.get(name) {
            return Ok(*id);
        }
        let sql = "INSERT INTO destinations (name, mode, code, since, known) VALUES (?1, 0, NULL, ?2, 1)
                   ON CONFLICT (name) DO UPDATE SET known = 1";
        conn.prepare_cached(sql)?.execute(params![name, now.0])?;
        let id = find_destination(conn, name)?
            .ok_or_else(|| StoreError::Invariant { detail: "a destination was written and is not there".to_owned() })?;
        self.destinations.insert(name.to_owned(), id);
        Ok(id)
    }

    /// The destination was dropped: the next thing it is owed makes it known again.
    pub fn forget_destination(&mut self, name: &str) {
        self.destinations.remove(name);
    }
}

/// The number of a destination, if it has one.
pub(super) fn find_destination(conn: &Connection, name: &str) -> Result<Option<i64>, StoreError> {
    Ok(conn.prepare_cached("SELECT id FROM destinations WHERE name = ?1")?.query_row([name], |row| row.get(0)).optional()?)
}
