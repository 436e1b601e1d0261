//! Opening: the folder's lock, connections as they must be set, migrations.

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::{Durability, OpenError};

/// The file of rows.
pub(super) const MAIN: &str = "omnigate.db";
/// The file of bytes.
pub(super) const RAWS: &str = "raws.db";
const LOCK: &str = "omnigate.lock";

/// Numbered, forward only: the place in the list is the version. A migration that was released is never edited.
const MAIN_MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
    include_str!("migrations/0004.sql"),
    include_str!("migrations/0005.sql"),
];
const RAWS_MIGRATIONS: &[&str] = &[include_str!("migrations/raws_0001.sql")];

/// Prepared statements kept per connection: more than the verbs use.
const STATEMENTS_MAX: usize = 160;
/// Pages of the log before it is folded into the file: 16 MiB, so that pages that many commits touch are written once.
const CHECKPOINT_PAGES: u32 = 4096;

/// Which of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Main,
    Raws,
}

impl Which {
    pub fn path(self, folder: &Path) -> PathBuf {
        folder.join(match self {
            Self::Main => MAIN,
            Self::Raws => RAWS,
        })
    }

    fn known(self) -> i64 {
        self.migrations().len() as i64
    }

    fn migrations(self) -> &'static [&'static str] {
        match self {
            Self::Main => MAIN_MIGRATIONS,
            Self::Raws => RAWS_MIGRATIONS,
        }
    }
}

pub(super) fn unusable(file: &Path, error: impl std::fmt::Display) -> OpenError {
    OpenError::Unusable { file: file.to_owned(), detail: error.to_string() }
}

/// Takes the folder for this process. The lock goes with the file handle, also when the process is killed.
pub(super) fn lock(folder: &Path) -> Result<File, OpenError> {
    crate::stores::make_private(folder).map_err(|e| unusable(folder, e))?;
    let path = folder.join(LOCK);
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(|e| unusable(&path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::Locked { folder: folder.to_owned() }),
        Err(std::fs::TryLockError::Error(error)) => Err(unusable(&path, error)),
    }
}

/// Plans depend on the text of a statement only. Without it SQLite compares the values bound to a statement with the conditions of
/// partial indexes, and for that compiles the statement again whenever they change: a third of the writer's time.
fn stable_plans(conn: &Connection) -> rusqlite::Result<()> {
    conn.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(|_| ())
}

/// The connection that writes, migrated.
pub(super) fn writer(folder: &Path, which: Which, durability: Durability) -> Result<Connection, OpenError> {
    let path = which.path(folder);
    let conn = Connection::open(&path).map_err(|e| unusable(&path, e))?;
    let set = |conn: &Connection| -> rusqlite::Result<()> {
        conn.busy_timeout(std::time::Duration::from_secs(10))?;
        conn.pragma_update(None, "journal_mode", "wal")?;
        // NORMAL syncs at checkpoints only; in mode `process` a thread of ours syncs the log between them.
        conn.pragma_update(None, "synchronous", if durability == Durability::Power { "full" } else { "normal" })?;
        conn.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        conn.pragma_update(None, "temp_store", "memory")?;
        conn.pragma_update(None, "cache_size", -32_000)?;
        conn.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
        stable_plans(conn)?;
        conn.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        Ok(())
    };
    set(&conn).map_err(|e| unusable(&path, e))?;
    migrate(&conn, &path, which)?;
    Ok(conn)
}

/// A connection that only reads, both files attached: `main` and `kept`.
pub(super) fn reader(folder: &Path) -> Result<Connection, OpenError> {
    let path = Which::Main.path(folder);
    // Not SQLITE_OPEN_READ_ONLY: reading a file in WAL mode may have to make its shared memory.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(&path, flags).map_err(|e| unusable(&path, e))?;
    let raws = Which::Raws.path(folder);
    if !raws.exists() {
        return Err(unusable(&raws, "no such file"));
    }
    let set = |conn: &Connection| -> rusqlite::Result<()> {
        conn.busy_timeout(std::time::Duration::from_secs(10))?;
        conn.execute("ATTACH DATABASE ?1 AS kept", [raws.to_string_lossy()])?;
        conn.pragma_update(None, "query_only", true)?;
        conn.pragma_update(None, "cache_size", -4_000)?;
        stable_plans(conn)?;
        conn.set_prepared_statement_cache_capacity(64);
        Ok(())
    };
    set(&conn).map_err(|e| unusable(&path, e))?;
    Ok(conn)
}

/// Refuses a file whose schema is not the one this version writes.
pub(super) fn check_current(conn: &Connection, path: &Path, which: Which) -> Result<(), OpenError> {
    let (found, known) = (version_within(conn, path, which)?, which.known());
    if found < known {
        let detail = format!("schema {found} is older than {known}: start the daemon or run `omnigate migrate`");
        return Err(unusable(path, detail));
    }
    Ok(())
}

/// The schema of a file; refuses one that is newer than this version.
pub(super) fn version_within(conn: &Connection, path: &Path, which: Which) -> Result<i64, OpenError> {
    let (found, known) = (version(conn, path)?, which.known());
    if found > known { Err(OpenError::Newer { file: path.to_owned(), found, known }) } else { Ok(found) }
}

fn version(conn: &Connection, path: &Path) -> Result<i64, OpenError> {
    conn.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(|e| unusable(path, e))
}

fn migrate(conn: &Connection, path: &Path, which: Which) -> Result<(), OpenError> {
    let found = version_within(conn, path, which)?;
    for (number, sql) in which.migrations().iter().enumerate().skip(usize::try_from(found).unwrap_or(0)) {
        let step = format!("BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {};\nCOMMIT;", number + 1);
        if let Err(error) = conn.execute_batch(&step) {
            let _ = conn.execute_batch("ROLLBACK");
            return Err(unusable(path, format!("migration {}: {error}", number + 1)));
        }
    }
    Ok(())
}
