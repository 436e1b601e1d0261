//! What needs the connection behind the port: a file that may not grow. Everything else is in the conformance suite.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use super::{Durability, Options, SqliteStore};
use crate::model::event::Event;
use crate::model::id::RawId;
use crate::model::raw::{RawHead, Via};
use crate::model::time::Time;
use crate::ports::BoxFuture;
use crate::ports::clock::{Clock, Random};
use crate::ports::publish::{Frozen, Publish};
use crate::ports::store::{Admission, RawPlace, RawRecord, Store, StoreError, Write};

struct Still;

impl Clock for Still {
    fn now(&self) -> Time {
        Time(1_800_000_000_000)
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

impl Random for Still {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(7);
    }
}

impl Publish for Still {
    fn freeze(&self, event: Event) -> Frozen {
        Frozen { bytes: serde_json::to_vec(&event).unwrap(), destinations: Vec::new() }
    }
}

fn open(folder: &std::path::Path) -> SqliteStore {
    let (publisher, clock, random) = (Arc::new(Still), Arc::new(Still), Arc::new(Still));
    SqliteStore::open(Options { folder: folder.to_owned(), durability: Durability::Power, publisher, clock, random }).unwrap()
}

fn raw(number: u128) -> RawRecord {
    RawRecord {
        id: RawId(number),
        source: "chat".into(),
        via: Via::Webhook,
        received_at: Time(0),
        head: RawHead::default(),
        bytes: 0,
        place: RawPlace::Row(bytes::Bytes::new()),
    }
}

/// A raw that says nothing, and a memo that takes room: the ledger row and the memo stand or fall together with their batch.
fn batch(number: u128) -> Vec<Write> {
    let admission = Admission { raw: Arc::new(raw(number)), delivery_key: None, items: Vec::new() };
    vec![
        Write::Admit { admissions: vec![admission], source: None },
        Write::Memo { key: format!("memo {number}"), value: Some("x".repeat(10_000)) },
    ]
}

#[tokio::test]
async fn a_full_disk_takes_nothing_by_halves_and_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let pages = |count: i64| {
        store.write(move |writer| Ok(writer.conn.query_row(&format!("PRAGMA max_page_count = {count}"), [], |row| row.get::<_, i64>(0))?))
    };
    let now = store.write(|writer| Ok(writer.conn.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0))?)).await.unwrap();
    pages(now + 20).await.unwrap();
    let mut taken = 0;
    let error = loop {
        match store.commit(batch(taken)).await {
            Ok(answers) => assert!(answers.iter().all(Result::is_ok)),
            Err(error) => break error,
        }
        taken += 1;
        assert!(taken < 1000, "the limit has no effect");
    };
    assert_eq!(error, StoreError::Full);
    assert!(taken > 0);
    assert_eq!(store.totals().await.unwrap().received["chat"], taken as u64, "I1: a batch is there whole or not at all");
    assert_eq!(store.memo(&format!("memo {taken}")).await.unwrap(), None);
    pages(1_000_000).await.unwrap();
    assert!(store.commit(batch(taken)).await.unwrap().iter().all(Result::is_ok));
    let totals = store.totals().await.unwrap();
    assert_eq!(totals.received["chat"], taken as u64 + 1);
    assert_eq!(totals.fates["chat"]["ignored"], taken as u64 + 1);
}

#[test]
fn what_waits_is_staged_in_one_commit_and_one_that_fails_fails_alone() {
    let mut conn = rusqlite::Connection::open_in_memory().unwrap();
    conn.execute_batch(include_str!("migrations/raws_0001.sql")).unwrap();
    conn.execute_batch("CREATE TEMP TRIGGER t BEFORE INSERT ON raws WHEN NEW.source = 'bad' BEGIN SELECT RAISE(FAIL, 'no'); END").unwrap();
    let commits = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = commits.clone();
    conn.commit_hook(Some(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        false
    }))
    .unwrap();
    let (mut raws, pile) = (super::raws::Raws::new(conn, true), super::raws::Pile::default());
    let mut number = 0;
    let mut lay = |source: &str, bytes: u64| {
        number += 1;
        let raw = RawRecord { id: RawId(number), source: source.into(), bytes, ..raw(number) };
        let (answer, answered) = tokio::sync::oneshot::channel();
        pile.stage(super::raws::Staging { raws: vec![Arc::new(raw)], batch: None, answer });
        answered
    };
    let waiting: Vec<_> = (0..50).map(|_| lay("chat", 10)).collect();
    raws.work_off(&pile);
    assert!(waiting.into_iter().all(|answered| answered.blocking_recv() == Ok(Ok(()))));
    assert_eq!(commits.swap(0, std::sync::atomic::Ordering::Relaxed), 1);

    let mixed: Vec<_> = ["chat", "bad", "chat"].map(|source| lay(source, 10)).into();
    raws.work_off(&pile);
    let answers: Vec<bool> = mixed.into_iter().map(|answered| answered.blocking_recv().unwrap().is_ok()).collect();
    assert_eq!(answers, [true, false, true]);

    let large: Vec<_> = (0..3).map(|_| lay("chat", 10 * 1024 * 1024)).collect();
    commits.store(0, std::sync::atomic::Ordering::Relaxed);
    // Each of those who wait asks for a turn; a commit takes what fits.
    (0..3).for_each(|_| raws.work_off(&pile));
    assert!(large.into_iter().all(|answered| answered.blocking_recv() == Ok(Ok(()))));
    assert_eq!(commits.load(std::sync::atomic::Ordering::Relaxed), 3);
    let synchronous = |raws: &super::raws::Raws| raws.conn.query_row("PRAGMA synchronous", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(synchronous(&raws), 2, "bytes are synced");
    pile.leave(vec![RawId(1)], Vec::new());
    raws.work_off(&pile);
    assert_eq!(synchronous(&raws), 1, "what is only about the parsing is not");
    lay("chat", 10);
    raws.work_off(&pile);
    assert_eq!(synchronous(&raws), 2);
    let kept: i64 = raws.conn.query_row("SELECT count(*) FROM raws", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 56);
}
