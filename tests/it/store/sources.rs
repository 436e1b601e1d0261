//! Pulled sources: cursor and rows in the admission's transaction, interrupted batches, settling, fencing, memos.

use omnigate::ports::store::{
    CURSOR_BYTES_MAX, CursorCommit, Moved, ParseBatch, Retention, SourceCommit, SourceRow, SourceRowState, SourceState, StoreError, Write,
    pull_lease,
};

use super::gate::{Gate, each};

fn state(low_water: u64) -> SourceState {
    SourceState {
        account: "mail/a".into(),
        folder: "INBOX".into(),
        epoch: 1,
        epoch_name: 4_000_000_000,
        low_water,
        first_run_top: 3,
        memo: "x".into(),
    }
}

fn commit(gate: &Gate, uids: &[u64], lease_epoch: u64, parsed: bool) -> (Write, ParseBatch) {
    let admissions: Vec<_> = uids.iter().map(|uid| gate.admission(vec![gate.message("ana", &format!("uid {uid}"))])).collect();
    let id = admissions[0].raw.id;
    let rows = uids.iter().zip(&admissions);
    let rows =
        rows.map(|(uid, one)| SourceRow { uid: *uid, state: SourceRowState::Admitted, raw: Some(one.raw.id), print: Some(*uid) }).collect();
    let source = SourceCommit { state: state(*uids.last().unwrap()), rows, parsed: parsed.then_some(id), lease_epoch };
    let batch = ParseBatch { id, channel: "mail".into(), source: ("mail/a".into(), "INBOX".into(), 1), uids: uids.to_vec(), attempts: 0 };
    (Write::Admit { admissions, source: Some(source.into()) }, batch)
}

async fn stage(gate: &Gate, write: &Write, batch: &ParseBatch) {
    let Write::Admit { admissions, .. } = write else { panic!() };
    gate.store().stage(admissions.iter().map(|one| one.raw.clone()).collect(), Some(batch.clone())).await.unwrap();
}

#[tokio::test]
async fn the_cursor_moves_with_the_admissions_it_covers() {
    each(|gate| async move {
        let (write, batch) = commit(&gate, &[4, 5], 0, true);
        stage(&gate, &write, &batch).await;
        gate.one(write).await.unwrap();
        gate.crash();
        let store = gate.store();
        assert_eq!(store.sources("mail/a").await.unwrap(), [state(5)]);
        let source = ("mail/a".to_owned(), "INBOX".to_owned(), 1);
        let rows = store.unsettled(&source, 10).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.uid).collect::<Vec<_>>(), [4, 5]);
        gate.one(Write::Settled { source: source.clone(), uids: vec![4], lease_epoch: 0 }).await.unwrap();
        assert_eq!(store.unsettled(&source, 10).await.unwrap().len(), 1);
        assert!(store.raw(rows[0].raw.unwrap()).await.unwrap().is_some(), "I2: the raw behind a moved cursor");
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn a_batch_that_was_not_admitted_is_found_after_a_crash_and_only_then() {
    each(|gate| async move {
        let (write, batch) = commit(&gate, &[4, 5], 0, true);
        stage(&gate, &write, &batch).await;
        gate.crash();
        assert_eq!(gate.store().interrupted("mail/a").await.unwrap(), [batch]);
        assert!(gate.store().interrupted("mail/b").await.unwrap().is_empty());
        gate.one(write).await.unwrap();
        assert!(gate.store().interrupted("mail/a").await.unwrap().is_empty(), "admitted: no longer interrupted");
        gate.crash();
        assert!(gate.store().interrupted("mail/a").await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_node_that_lost_the_source_admits_and_settles_nothing() {
    each(|gate| async move {
        let store = gate.store();
        let name = pull_lease("mail/a");
        assert_eq!(store.take_lease(&name, "a").await.unwrap(), 1);
        let (first, _) = commit(&gate, &[4], 1, false);
        gate.one(first).await.unwrap();
        assert_eq!(store.take_lease(&name, "b").await.unwrap(), 2);
        let (late, _) = commit(&gate, &[5], 1, false);
        assert_eq!(gate.one(late).await, Err(StoreError::Fenced { held: 1, current: 2 }));
        let source = ("mail/a".to_owned(), "INBOX".to_owned(), 1);
        let late = Write::Settled { source: source.clone(), uids: vec![4], lease_epoch: 1 };
        assert!(matches!(gate.one(late).await, Err(StoreError::Fenced { .. })));
        assert_eq!(store.sources("mail/a").await.unwrap()[0].low_water, 4);
        assert_eq!(gate.events().await.len(), 1, "the admissions of a fenced write are not there either");
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn a_new_epoch_begins_a_state_of_its_own() {
    each(|gate| async move {
        let (write, _) = commit(&gate, &[4], 0, false);
        gate.one(write).await.unwrap();
        let next = SourceState { epoch: 2, epoch_name: 7, low_water: 0, ..state(0) };
        let source = SourceCommit { state: next.clone(), rows: vec![], parsed: None, lease_epoch: 0 };
        gate.one(Write::Admit { admissions: vec![], source: Some(source.into()) }).await.unwrap();
        assert_eq!(gate.store().sources("mail/a").await.unwrap(), [next]);
        let new = ("mail/a".to_owned(), "INBOX".to_owned(), 2);
        assert!(gate.store().unsettled(&new, 10).await.unwrap().is_empty());
    })
    .await;
}

fn cursors(gate: &Gate, text: &str, cursors: &[(&str, Option<&str>)], lease_epoch: u64) -> Write {
    let cursors = cursors.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect();
    let commit = CursorCommit { account: "feed:chat:a".to_owned(), cursors, lease_epoch };
    Write::Admit { admissions: vec![gate.admission(vec![gate.message("ana", text)])], source: Some(Moved::Cursors(commit)) }
}

#[tokio::test]
async fn cursors_move_with_the_admissions_they_cover_and_belong_to_one_account() {
    each(|gate| async move {
        gate.one(cursors(&gate, "one", &[("since", Some("10")), ("tag", Some("x"))], 0)).await.unwrap();
        gate.one(cursors(&gate, "two", &[("since", Some("20")), ("tag", None)], 0)).await.unwrap();
        gate.crash();
        let known = |store: std::sync::Arc<dyn omnigate::ports::store::Store>| async move { store.cursors("feed:chat:a").await.unwrap() };
        assert_eq!(known(gate.store()).await, [("since".to_owned(), "20".to_owned())].into());
        assert!(gate.store().cursors("feed:chat:").await.unwrap().is_empty(), "another account's");
        assert!(gate.store().cursors("feed:chat").await.unwrap().is_empty(), "another account's");
        let long = "x".repeat(CURSOR_BYTES_MAX + 1);
        assert!(gate.one(cursors(&gate, "three", &[("since", Some(&long))], 0)).await.is_err());
        assert_eq!(known(gate.store()).await.len(), 1);
        assert_eq!(gate.events().await.len(), 2, "what cannot move admits nothing");
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn a_node_that_lost_the_account_moves_no_cursor() {
    each(|gate| async move {
        let store = gate.store();
        let name = pull_lease("feed:chat:a");
        store.take_lease(&name, "a").await.unwrap();
        gate.one(cursors(&gate, "one", &[("since", Some("10"))], 1)).await.unwrap();
        store.take_lease(&name, "b").await.unwrap();
        let late = gate.one(cursors(&gate, "two", &[("since", Some("20"))], 1)).await;
        assert_eq!(late, Err(StoreError::Fenced { held: 1, current: 2 }));
        assert_eq!(store.cursors("feed:chat:a").await.unwrap()["since"], "10");
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn a_memo_is_kept_replaced_removed_and_bounded() {
    each(|gate| async move {
        let write = |value: Option<String>| Write::Memo { key: "chat/whoami".into(), value };
        gate.one(write(Some("U1".into()))).await.unwrap();
        gate.one(write(Some("U2".into()))).await.unwrap();
        gate.crash();
        assert_eq!(gate.store().memo("chat/whoami").await.unwrap().as_deref(), Some("U2"));
        gate.one(write(Some("x".repeat(64 * 1024)))).await.unwrap();
        assert!(gate.one(write(Some("x".repeat(64 * 1024 + 1)))).await.is_err());
        gate.one(write(None)).await.unwrap();
        assert_eq!(gate.store().memo("chat/whoami").await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn rows_of_all_numberings_but_the_last_two_are_swept() {
    each(|gate| async move {
        for epoch in 1..=4 {
            let rows = (1..=300).map(|uid| SourceRow { uid, state: SourceRowState::Settled, raw: None, print: None }).collect();
            let state = SourceState { epoch, epoch_name: epoch, ..state(300) };
            let source = SourceCommit { state, rows, parsed: None, lease_epoch: 0 };
            gate.one(Write::Admit { admissions: Vec::new(), source: Some(source.into()) }).await.unwrap();
        }
        while gate.store().sweep(&Retention::default(), gate.now()).await.unwrap().more {}
        let source = ("mail/a".to_owned(), "INBOX".to_owned(), 4);
        let left = gate.store().source_rows(&source, (0, 0), 10_000).await.unwrap();
        let of = |epoch| left.iter().filter(|(its, _)| *its == epoch).count();
        assert_eq!([1, 2, 3, 4].map(of), [0, 0, 300, 300]);
    })
    .await;
}
