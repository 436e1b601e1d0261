//! The write side of `raws.db`: bytes of raws, committed before the rows that name them.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::rows;
use crate::model::id::RawId;
use crate::ports::store::{ParseBatch, RawPlace, RawRecord, StoreError};

/// What the thread of `raws.db` owns.
pub(super) struct Raws {
    pub conn: Connection,
}

impl Raws {
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

    /// Keeps raws, and the batch that is going to be parsed, in one commit.
    pub fn stage(&mut self, raws: &[Arc<RawRecord>], batch: Option<&ParseBatch>) -> Result<(), StoreError> {
        self.transaction(|conn| {
            let sql = "INSERT INTO raws (id, source, via, received_at, head, bytes, blob, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                       ON CONFLICT (id) DO NOTHING";
            let mut keep = conn.prepare_cached(sql)?;
            for raw in raws {
                let head = serde_json::to_string(&raw.head).map_err(|e| StoreError::Invariant { detail: e.to_string() })?;
                let (blob, body) = match &raw.place {
                    RawPlace::Row(body) => (None, Some(body.as_ref())),
                    RawPlace::Blob(key) => (Some(key.as_str()), None),
                };
                let (via, bytes) = (rows::via_number(raw.via), rows::signed(raw.bytes));
                keep.execute(params![raw.id.to_bytes(), raw.source, via, raw.received_at.0, head, bytes, blob, body])?;
            }
            let Some(batch) = batch else { return Ok(()) };
            let sql = "INSERT INTO batches (id, channel, account, folder, epoch, uids, attempts) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                       ON CONFLICT (id) DO UPDATE SET uids = excluded.uids, attempts = excluded.attempts";
            let uids = serde_json::to_string(&batch.uids).map_err(|e| StoreError::Invariant { detail: e.to_string() })?;
            let (account, folder, epoch) = &batch.source;
            let id = batch.id.to_bytes();
            conn.prepare_cached(sql)?.execute(params![id, batch.channel, account, folder, rows::signed(*epoch), uids, batch.attempts])?;
            Ok(())
        })
    }

    /// Forgets batches that are parsed.
    pub fn forget_batches(&mut self, ids: &[RawId]) -> Result<(), StoreError> {
        self.transaction(|conn| {
            for id in ids {
                conn.prepare_cached("DELETE FROM batches WHERE id = ?1")?.execute([id.to_bytes()])?;
            }
            Ok(())
        })
    }

    /// Removes raws; tells how many there were and the keys of their blobs.
    pub fn remove(&mut self, ids: &[RawId]) -> Result<(u64, Vec<String>), StoreError> {
        self.transaction(|conn| {
            let (mut count, mut blobs) = (0, Vec::new());
            let mut remove = conn.prepare_cached("DELETE FROM raws WHERE id = ?1 RETURNING blob")?;
            for id in ids {
                if let Some(blob) = remove.query_row([id.to_bytes()], |row| row.get::<_, Option<String>>(0)).optional()? {
                    count += 1;
                    blobs.extend(blob);
                }
            }
            Ok((count, blobs))
        })
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
