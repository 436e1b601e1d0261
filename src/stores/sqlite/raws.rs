//! The write side of `raws.db`: bytes of raws, committed before the rows that name them.
//!
//! Many accounts stage at once, each a mail or two. What they ask for lies on one pile, and whoever's turn comes first commits all of
//! it: on a slow disk a sync of their own would make a queue of them.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::oneshot;

use super::rows;
use crate::model::id::RawId;
use crate::ports::store::{ParseBatch, RawPlace, RawRecord, StoreError};

/// Bytes of raws in one commit, by which others are delayed.
const COMMIT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Raws to keep, and the batch that is going to be parsed.
pub(super) struct Staging {
    pub raws: Vec<Arc<RawRecord>>,
    pub batch: Option<ParseBatch>,
    pub answer: oneshot::Sender<Result<(), StoreError>>,
}

/// What waits for the thread of `raws.db`.
#[derive(Default)]
pub(super) struct Pile(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    stagings: Vec<Staging>,
    forget: Vec<RawId>,
    remove: Vec<RawId>,
}

impl Pile {
    /// Lays something to stage on it. Whoever does so asks the thread to work it off.
    pub fn stage(&self, staging: Staging) {
        self.lock().stagings.push(staging);
    }

    /// Lays leavings on it: batches that are parsed, raws that came twice.
    pub fn leave(&self, forget: Vec<RawId>, remove: Vec<RawId>) {
        let mut waiting = self.lock();
        waiting.forget.extend(forget);
        waiting.remove.extend(remove);
    }

    /// What one commit takes. The rest is left for those who asked for it.
    fn take(&self) -> Waiting {
        let mut waiting = self.lock();
        let mut bytes = 0;
        let fits = |staging: &Staging| {
            let before = bytes;
            bytes += staging.raws.iter().map(|raw| raw.bytes).sum::<u64>();
            before == 0 || bytes <= COMMIT_BYTES_MAX
        };
        let count = waiting.stagings.iter().map(fits).take_while(|fits| *fits).count();
        let stagings = waiting.stagings.drain(..count).collect();
        Waiting { stagings, forget: std::mem::take(&mut waiting.forget), remove: std::mem::take(&mut waiting.remove) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Staging {
    /// Whether something is lost with it: bytes, or which mails are about to be parsed.
    fn is_precious(&self) -> bool {
        !self.raws.is_empty() || self.batch.as_ref().is_some_and(|batch| !batch.uids.is_empty())
    }

    fn write(&self, conn: &Connection) -> Result<(), StoreError> {
        let sql = "INSERT INTO raws (id, source, via, received_at, head, bytes, blob, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                   ON CONFLICT (id) DO NOTHING";
        let mut keep = conn.prepare_cached(sql)?;
        for raw in &self.raws {
            let head = serde_json::to_string(&raw.head).map_err(|e| StoreError::Invariant { detail: e.to_string() })?;
            let (blob, body) = match &raw.place {
                RawPlace::Row(body) => (None, Some(body.as_ref())),
                RawPlace::Blob(key) => (Some(key.as_str()), None),
            };
            let (via, bytes) = (rows::via_number(raw.via), rows::signed(raw.bytes));
            keep.execute(params![raw.id.to_bytes(), raw.source, via, raw.received_at.0, head, bytes, blob, body])?;
        }
        let Some(batch) = &self.batch else { return Ok(()) };
        let sql = "INSERT INTO batches (id, channel, account, folder, epoch, uids, attempts) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                   ON CONFLICT (id) DO UPDATE SET uids = excluded.uids, attempts = excluded.attempts";
        let uids = serde_json::to_string(&batch.uids).map_err(|e| StoreError::Invariant { detail: e.to_string() })?;
        let (account, folder, epoch) = &batch.source;
        let id = batch.id.to_bytes();
        conn.prepare_cached(sql)?.execute(params![id, batch.channel, account, folder, rows::signed(*epoch), uids, batch.attempts])?;
        Ok(())
    }
}

fn forget_batches(conn: &Connection, ids: &[RawId]) -> Result<(), StoreError> {
    for id in ids {
        conn.prepare_cached("DELETE FROM batches WHERE id = ?1")?.execute([id.to_bytes()])?;
    }
    Ok(())
}

fn remove_raws(conn: &Connection, ids: &[RawId]) -> Result<(u64, Vec<String>), StoreError> {
    let (mut count, mut blobs) = (0, Vec::new());
    let mut remove = conn.prepare_cached("DELETE FROM raws WHERE id = ?1 RETURNING blob")?;
    for id in ids {
        if let Some(blob) = remove.query_row([id.to_bytes()], |row| row.get::<_, Option<String>>(0)).optional()? {
            count += 1;
            blobs.extend(blob);
        }
    }
    Ok((count, blobs))
}

/// What the thread of `raws.db` owns.
pub(super) struct Raws {
    pub conn: Connection,
    /// Whether a commit syncs, unless nothing is lost with it.
    syncs: bool,
    /// Whether the connection is set to sync now.
    syncing: bool,
}

impl Raws {
    /// Owns `conn`, which is set to sync every commit if `syncs`.
    pub fn new(conn: Connection, syncs: bool) -> Self {
        Self { conn, syncs, syncing: syncs }
    }

    /// Whether the next commits sync. What tells only how far the parsing came need not: after a power cut a batch counts as interrupted
    /// once more, or its row is taken away later.
    fn sync(&mut self, wanted: bool) -> Result<(), StoreError> {
        let wanted = wanted && self.syncs;
        if wanted != self.syncing {
            self.conn.pragma_update(None, "synchronous", if wanted { "full" } else { "normal" })?;
            self.syncing = wanted;
        }
        Ok(())
    }

    fn transaction<T>(&mut self, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let done = work(&self.conn).and_then(|value| {
            self.conn.prepare_cached("COMMIT")?.execute([])?;
            Ok(value)
        });
        if done.is_err() && !self.conn.is_autocommit() {
            let _ = self.conn.execute_batch("ROLLBACK");
        }
        done
    }

    /// Does what waits on the pile, in one commit: the disk syncs once for all who wait. If that fails, each is tried alone.
    pub fn work_off(&mut self, pile: &Pile) {
        let Waiting { stagings, forget, remove } = pile.take();
        if stagings.is_empty() && forget.is_empty() && remove.is_empty() {
            return;
        }
        let precious = stagings.iter().any(Staging::is_precious);
        let together = self.sync(precious).and_then(|()| {
            self.transaction(|conn| {
                stagings.iter().try_for_each(|one| one.write(conn))?;
                forget_batches(conn, &forget)?;
                // Raws that came twice: their first copy is the one that counts.
                remove_raws(conn, &remove).map(drop)
            })
        });
        for one in stagings {
            let mut alone = || self.sync(true).and_then(|()| self.transaction(|conn| one.write(conn)));
            let done = if together.is_ok() { Ok(()) } else { alone() };
            // Nobody may wait for it any more; the work is done all the same.
            let _ = one.answer.send(done);
        }
    }

    /// Removes raws; tells how many there were and the keys of their blobs.
    pub fn remove(&mut self, ids: &[RawId]) -> Result<(u64, Vec<String>), StoreError> {
        self.transaction(|conn| remove_raws(conn, ids))
    }

    /// Removes raws so that their bytes are overwritten.
    pub fn erase(&mut self, ids: &[RawId]) -> Result<(u64, Vec<String>), StoreError> {
        self.conn.pragma_update(None, "secure_delete", true)?;
        let done = self.remove(ids);
        self.conn.pragma_update(None, "secure_delete", false)?;
        let _ = self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        done
    }
}
