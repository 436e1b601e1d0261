//! The write side of `omnigate.db`: group commit. One transaction for many writes; one that fails leaves no trace and takes no other
//! with it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::change;
use super::error::ends_batch;
use super::state::State;
use super::tx::SqlTx;
use crate::logic::admit::{self, Context};
use crate::logic::decide;
use crate::logic::ids::IdMaker;
use crate::model::id::RawId;
use crate::model::time::Time;
use crate::ports::clock::{Clock, Random};
use crate::ports::publish::Publish;
use crate::ports::store::{StoreError, Write, Written};

/// What the thread of `omnigate.db` owns.
pub(super) struct Writer {
    pub conn: Connection,
    pub state: State,
    pub care: super::care::Marks,
    ids: IdMaker,
    publisher: Arc<dyn Publish>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

/// What a commit leaves to do in `raws.db`, where nothing hurts if it is not done.
#[derive(Debug, Default)]
pub(super) struct Leavings {
    /// Staged bodies that repeat what is known.
    pub repeated: Vec<RawId>,
    /// Batches that are parsed.
    pub parsed: Vec<RawId>,
}

impl Writer {
    pub fn new(conn: Connection, publisher: Arc<dyn Publish>, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Result<Self, StoreError> {
        let state = State::load(&conn)?;
        let ids = IdMaker::behind(newest_id(&conn)?);
        Ok(Self { conn, state, care: super::care::Marks::default(), ids, publisher, clock, random })
    }

    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// Does all writes in one transaction. Nearly always all of them succeed, so they are tried without savepoints first: a savepoint
    /// copies every page that its write touches. Only when one fails they are done again, each in a savepoint of its own.
    pub fn commit(&mut self, writes: Vec<Write>) -> Result<(Vec<Result<Written, StoreError>>, Leavings), StoreError> {
        let again = writes.clone();
        let answers = match self.all_or_nothing(writes) {
            Ok(answers) => answers,
            Err(error) if ends_batch(&error) => return Err(error),
            Err(_) => self.each_for_itself(again)?,
        };
        let leavings = Leavings { repeated: std::mem::take(&mut self.state.repeated), parsed: std::mem::take(&mut self.state.parsed) };
        Ok((answers, leavings))
    }

    fn all_or_nothing(&mut self, writes: Vec<Write>) -> Result<Vec<Result<Written, StoreError>>, StoreError> {
        self.transaction(|writer| {
            let mut answers = Vec::with_capacity(writes.len());
            for write in writes {
                answers.push(Ok(writer.contained(write)?));
                writer.state.keep_write();
            }
            Ok(answers)
        })
    }

    fn each_for_itself(&mut self, writes: Vec<Write>) -> Result<Vec<Result<Written, StoreError>>, StoreError> {
        self.transaction(|writer| {
            let mut answers = Vec::with_capacity(writes.len());
            for write in writes {
                let answer = writer.one(write);
                if let Err(error) = &answer
                    && (ends_batch(error) || writer.conn.is_autocommit())
                {
                    return Err(error.clone());
                }
                answers.push(answer);
            }
            Ok(answers)
        })
    }

    /// A route's filter or a template that panics is contained to its write (I8).
    fn contained(&mut self, write: Write) -> Result<Written, StoreError> {
        catch_unwind(AssertUnwindSafe(|| self.apply(write)))
            .unwrap_or_else(|_| Err(StoreError::Invariant { detail: "a write panicked".to_owned() }))
    }

    /// Runs `work` in a transaction with its totals; an error takes everything back.
    pub fn transaction<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let done = work(self).and_then(|value| {
            self.state.keep_write();
            self.state.write_totals(&self.conn)?;
            self.conn.prepare_cached("COMMIT")?.execute([])?;
            Ok(value)
        });
        if done.is_err() {
            // SQLite may have rolled back by itself (SQLITE_FULL, SQLITE_IOERR).
            if !self.conn.is_autocommit() {
                let _ = self.conn.execute_batch("ROLLBACK");
            }
            self.state.forget();
            self.state.batch.clear();
            self.state.repeated.clear();
            self.state.parsed.clear();
        }
        done
    }

    /// One write in its savepoint.
    fn one(&mut self, write: Write) -> Result<Written, StoreError> {
        self.conn.prepare_cached("SAVEPOINT one")?.execute([])?;
        let (repeated, parsed) = (self.state.repeated.len(), self.state.parsed.len());
        let answer = self.contained(write);
        match &answer {
            Ok(_) => {
                self.conn.prepare_cached("RELEASE one")?.execute([])?;
                self.state.keep_write();
            }
            Err(_) if self.conn.is_autocommit() => {}
            Err(_) => {
                self.conn.execute_batch("ROLLBACK TO one; RELEASE one")?;
                self.state.forget();
                self.state.repeated.truncate(repeated);
                self.state.parsed.truncate(parsed);
            }
        }
        answer
    }

    fn apply(&mut self, write: Write) -> Result<Written, StoreError> {
        let now = self.clock.now();
        let context = Context { publisher: self.publisher.as_ref(), ids: &self.ids, random: self.random.as_ref(), now };
        let mut tx = SqlTx { conn: &self.conn, state: &mut self.state, now };
        match write {
            Write::Admit { admissions, source } => admit::admit(&mut tx, admissions, source.as_ref(), &context),
            Write::Decide(decision) => decide::decide(&mut tx, &decision, &context),
            Write::Release { item } => admit::release(&mut tx, item, &context),
            Write::Fetched { item, file, outcome, more } => admit::fetched(&mut tx, item, file, outcome, more, &context),
            Write::Contact { address, name, also } => admit::contact_learnt(&mut tx, address, name.as_deref(), &also, &context),
            Write::Operator(body) => admit::operator(&mut tx, *body, &context),
            Write::Destination { name, mode, code } => decide::destination(&mut tx, &name, mode, code.as_deref(), &context),
            Write::Reprocess { item, items } => admit::reprocess(&mut tx, item, items, &context),
            Write::Refetched { old, admission, source } => admit::refetched(&mut tx, old, admission, &source, &context),
            Write::Settled { source, uids, lease_epoch } => change::settled(&mut tx, &source, &uids, lease_epoch),
            Write::Memo { key, value } => change::memo(&mut tx, &key, value.as_deref()),
            Write::Replay { filter, limit } => change::replay(&mut tx, &filter, limit),
            Write::Dead { filter, discard } => change::dead(&mut tx, &filter, discard),
            Write::Ticket(change) => decide::ticket(&mut tx, &change, &context),
            Write::DropDestination { name } => change::drop_destination(&mut tx, &name),
        }
    }

    /// Takes over a lease.
    pub fn take_lease(&mut self, name: &str, owner: &str) -> Result<u64, StoreError> {
        self.transaction(|writer| {
            let sql = "INSERT INTO leases (name, owner, epoch) VALUES (?1, ?2, 1)
                       ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, epoch = epoch + 1 RETURNING epoch";
            Ok(writer.conn.prepare_cached(sql)?.query_row(params![name, owner], |row| super::rows::unsigned(row, 0))?)
        })
    }

    /// Commits a change that says nothing, so that a disk that takes no bytes is noticed.
    pub fn ping(&mut self) -> Result<(), StoreError> {
        self.transaction(|writer| {
            let sql = "INSERT INTO meta (key, value) VALUES ('ping', 1) ON CONFLICT (key) DO UPDATE SET value = value + 1";
            writer.conn.prepare_cached(sql)?.execute([])?;
            Ok(())
        })
    }
}

/// The largest id in the store, whatever it names.
fn newest_id(conn: &Connection) -> Result<u128, StoreError> {
    let mut newest = 0;
    for table in ["raws", "conversations", "contacts", "messages", "events"] {
        let sql = format!("SELECT id FROM {table} ORDER BY id DESC LIMIT 1");
        let id = conn.query_row(&sql, [], |row| super::rows::id(row, 0)).optional()?;
        newest = newest.max(id.map_or(0, u128::from_be_bytes));
    }
    Ok(newest)
}
