//! What only SQLite shows: its folder's lock, its schema's version, a damaged backup, reading without a daemon.

use omnigate::ports::store::{Store, StoreError};
use omnigate::stores::sqlite::{Durability, OpenError, Options, SqliteStore, verify_backup};

use super::gate::{Gate, KINDS};

fn options(gate: &Gate) -> Options {
    let parts = gate.parts();
    let (publisher, clock, random) = (parts.publisher, parts.clock, parts.random);
    Options { folder: gate.data(), durability: Durability::Power, publisher, clock, random }
}

#[tokio::test]
async fn a_folder_that_is_written_to_is_not_opened_twice() {
    let gate = Gate::new(&KINDS[0]);
    let first = SqliteStore::open(options(&gate)).unwrap();
    assert!(matches!(SqliteStore::open(options(&gate)), Err(OpenError::Locked { .. })));
    drop(first);
    SqliteStore::open(options(&gate)).unwrap();
}

#[tokio::test]
async fn a_newer_schema_is_refused_with_both_numbers() {
    let gate = Gate::new(&KINDS[0]);
    drop(SqliteStore::open(options(&gate)).unwrap());
    let conn = rusqlite::Connection::open(gate.data().join("omnigate.db")).unwrap();
    conn.pragma_update(None, "user_version", 99).unwrap();
    drop(conn);
    let refused = SqliteStore::open(options(&gate)).err().unwrap();
    assert!(matches!(refused, OpenError::Newer { found: 99, known, .. } if (1..99).contains(&known)), "{refused}");
    assert!(matches!(SqliteStore::open_read_only(&gate.data()), Err(OpenError::Newer { .. })));
}

#[tokio::test]
async fn a_reader_without_a_daemon_sees_everything_and_writes_nothing() {
    let gate = Gate::new(&KINDS[0]);
    assert!(matches!(SqliteStore::open_read_only(&gate.data()), Err(OpenError::Unusable { .. })));
    gate.admit(gate.message("ana", "one")).await;
    gate.crash();
    let reader = SqliteStore::open_read_only(&gate.data()).unwrap();
    assert_eq!(reader.events_after(0, 10).await.unwrap().len(), 1);
    assert!(matches!(reader.ping().await, Err(StoreError::Unavailable { .. })));
    reader.close().await.unwrap();
}

#[tokio::test]
async fn a_damaged_backup_is_refused() {
    let gate = Gate::new(&KINDS[0]);
    for n in 0..50 {
        gate.admit(gate.message("ana", &format!("m{n}"))).await;
    }
    let backup = gate.folder.path().join("backup");
    gate.store().backup(&backup).await.unwrap();
    let facts = verify_backup(&backup).unwrap();
    let conn = rusqlite::Connection::open(gate.data().join("omnigate.db")).unwrap();
    let schema: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!((facts.received, facts.events, facts.raws, facts.schema), (50, 50, 50, schema));
    let file = backup.join("omnigate.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0xa5);
    std::fs::write(&file, bytes).unwrap();
    assert!(matches!(verify_backup(&backup), Err(OpenError::Unusable { .. })));
    std::fs::remove_file(backup.join("raws.db")).unwrap();
    assert!(verify_backup(&backup).is_err());
}
