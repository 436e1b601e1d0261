//! Backup while the store is used, and putting one back.
//!
//! `omnigate.db` is copied first and `raws.db` after it: every raw that the copied rows name was committed before them, so the later copy
//! holds it. Raws that the copied rows do not name are harmless. Each file is copied in one read transaction, which writers do not wait
//! for.

use std::fs::File;
use std::path::Path;

use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags};

use super::open::{self, Which, unusable};
use super::{BackupFacts, Durability, OpenError};
use crate::model::item::FilePlace;
use crate::ports::store::StoreError;

/// Positions left out after a restore. Receivers may hold positions that were given after the backup was made; those must not name
/// other events. More events than any instance publishes between two backups.
const POSITION_GAP: i64 = 1 << 24;

fn io(path: &Path, error: &std::io::Error) -> StoreError {
    if matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) {
        return StoreError::Full;
    }
    StoreError::Unavailable { detail: format!("{}: {error}", path.display()) }
}

/// Copies both files into `target`; returns the keys of the blobs the copy names.
pub(super) fn copy(folder: &Path, target: &Path) -> Result<Vec<String>, StoreError> {
    crate::stores::make_private(target).map_err(|e| io(target, &e))?;
    for which in [Which::Main, Which::Raws] {
        let (from, to) = (which.path(folder), which.path(target));
        if to.exists() {
            return Err(StoreError::Unavailable { detail: format!("{}: there is a backup already", to.display()) });
        }
        let source = Connection::open_with_flags(&from, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        source.busy_timeout(std::time::Duration::from_secs(10))?;
        let mut copy = Connection::open(&to)?;
        // All pages in one step: one snapshot, and no beginning anew when somebody writes meanwhile.
        Backup::new(&source, &mut copy)?.step(-1)?;
        // Without a log beside it the copy is one file, and can be read from a read-only medium.
        copy.query_row("PRAGMA journal_mode = delete", [], |_| Ok(()))?;
        copy.close().map_err(|(_, error)| error)?;
        File::open(&to).and_then(|file| file.sync_all()).map_err(|e| io(&to, &e))?;
    }
    File::open(target).and_then(|file| file.sync_all()).map_err(|e| io(target, &e))?;
    blobs(target)
}

fn blobs(target: &Path) -> Result<Vec<String>, StoreError> {
    let mut keys = Vec::new();
    let raws = Connection::open_with_flags(Which::Raws.path(target), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut list = raws.prepare("SELECT blob FROM raws WHERE blob IS NOT NULL ORDER BY row")?;
    for key in list.query_map([], |row| row.get::<_, String>(0))? {
        keys.push(key?);
    }
    let main = Connection::open_with_flags(Which::Main.path(target), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut list = main.prepare("SELECT place FROM files ORDER BY attachment")?;
    for place in list.query_map([], |row| row.get::<_, String>(0))? {
        if let Ok(FilePlace::Blob { key }) = serde_json::from_str(&place?) {
            keys.push(key);
        }
    }
    Ok(keys)
}

/// Checks a folder that [`crate::ports::store::Store::backup`] wrote: both files whole, the schema known, the identities of I3 kept.
///
/// # Errors
/// [`OpenError`] naming the file.
pub fn verify_backup(folder: &Path) -> Result<BackupFacts, OpenError> {
    let mut facts = BackupFacts { schema: 0, received: 0, events: 0, raws: 0 };
    for which in [Which::Main, Which::Raws] {
        let path = which.path(folder);
        let conn = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|e| unusable(&path, e))?;
        let schema = open::version_within(&conn, &path, which)?;
        let check: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|e| unusable(&path, e))?;
        if check != "ok" {
            return Err(unusable(&path, format!("damaged: {check}")));
        }
        let count = |sql: &str| conn.query_row(sql, [], |row| super::rows::unsigned(row, 0)).map_err(|e| unusable(&path, e));
        if which == Which::Raws {
            facts.raws = count("SELECT count(*) FROM raws")?;
            continue;
        }
        facts.schema = schema;
        facts.received = count("SELECT coalesce(sum(value), 0) FROM totals WHERE kind = 0")?;
        facts.events = count("SELECT count(*) FROM events")?;
        let fates = count("SELECT coalesce(sum(value), 0) FROM totals WHERE kind = 1")?;
        let (due, states) = (
            count("SELECT coalesce(sum(value), 0) FROM totals WHERE kind = 2")?,
            count("SELECT coalesce(sum(value), 0) FROM totals WHERE kind = 3")?,
        );
        if facts.received != fates || due != states {
            return Err(unusable(&path, "I3: the totals do not add up"));
        }
    }
    Ok(facts)
}

/// Puts a checked backup in the place of the store in `data_dir`; refused while a daemon holds it. The files it replaces stay beside
/// it, named `.replaced`, until the next restore. Blobs are not part of it: copy the ones the backup named.
///
/// # Errors
/// [`OpenError`].
pub fn restore_backup(folder: &Path, data_dir: &Path) -> Result<BackupFacts, OpenError> {
    let facts = verify_backup(folder)?;
    let lock = open::lock(data_dir)?;
    // Raws first: a crash in between leaves rows whose raws are missing, which a second restore mends.
    for which in [Which::Raws, Which::Main] {
        replace(&which.path(folder), data_dir, which)?;
    }
    File::open(data_dir).and_then(|file| file.sync_all()).map_err(|e| unusable(data_dir, e))?;
    drop(lock);
    Ok(facts)
}

/// Puts one file in the place of another. There is a whole file under the name at every moment: a daemon that started on a missing one
/// would begin an empty store and take everything for new.
fn replace(from: &Path, data_dir: &Path, which: Which) -> Result<(), OpenError> {
    let to = which.path(data_dir);
    let failed = |error: std::io::Error| unusable(&to, error);
    let beside = |suffix: &str| {
        let mut name = to.clone().into_os_string();
        name.push(suffix);
        std::path::PathBuf::from(name)
    };
    let remove = |path: &Path| match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    };
    let fresh = beside(".restoring");
    std::fs::copy(from, &fresh).map_err(failed)?;
    if which == Which::Main {
        let conn = Connection::open(&fresh).map_err(|e| unusable(&fresh, e))?;
        let sql = "INSERT INTO meta (key, value) SELECT 'position_floor', coalesce(max(position), 0) + ?1 FROM events WHERE true
                   ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)";
        conn.execute(sql, [POSITION_GAP]).map_err(|e| unusable(&fresh, e))?;
    }
    File::open(&fresh).and_then(|file| file.sync_all()).map_err(failed)?;
    if to.exists() {
        // The log of the old file must never be read into the new one: fold it in before the old file steps aside.
        drop(open::writer(data_dir, which, Durability::Power)?);
        remove(&beside(".replaced"))?;
        std::fs::hard_link(&to, beside(".replaced")).map_err(failed)?;
    }
    remove(&beside("-wal"))?;
    remove(&beside("-shm"))?;
    std::fs::rename(&fresh, &to).map_err(failed)
}
