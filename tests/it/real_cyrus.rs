//! The IMAP engine against Cyrus: lasting ids (OBJECTID), CONDSTORE, MOVE, IDLE by a daemon of its own.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use omnigate::model::mailbox::After;
use omnigate::ports::pull::{PullSource as _, PulledState, Woken};

use crate::support::bad_link::{BadLink, Faults};
use crate::support::cyrus::Cyrus;
use crate::support::mailgen;
use crate::support::pulling::{Desk, settings, source};

fn mail(number: usize) -> String {
    format!("From: ana@example.org\r\nSubject: {number}\r\nMessage-ID: <{number}@example.org>\r\n\r\nHello {number}\r\n")
}

fn with(port: u16, user: &str) -> omnigate::engines::imap::ImapSettings {
    let mut with = settings(port, user);
    with.mailbox.folders = vec!["Support".to_owned()];
    // It starts a process for a connection.
    with.timeouts.connect = Duration::from_secs(30);
    with.timeouts.read = Duration::from_secs(30);
    with
}

fn state(desk: &Desk) -> &omnigate::ports::store::SourceState {
    desk.states.iter().find(|state| state.folder == "Support").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn cyrus_is_backfilled_through_cuts_byte_for_byte_and_left_as_it_was() {
    let Some(cyrus) = Cyrus::start() else { return };
    // Cyrus refuses bare line feeds and gives back what it took.
    let sent: Vec<Vec<u8>> = mailgen::generate(21, 300).iter().map(|mail| with_crlf(mail)).collect();
    cyrus.deliver("ana", "Support", &sent);
    for faults in [Faults::default(), Faults { cut_after: Some(300_000), cuts: 3, ..Faults::default() }] {
        let link = BadLink::start(cyrus.port, faults);
        let mut desk = Desk::default();
        desk.persist(&source(with(link.port, "ana")), 6).await;
        assert_eq!(desk.uids(), (1..=300).collect::<Vec<u64>>());
        assert!(desk.sessions > faults.cuts, "{} sessions", desk.sessions);
        assert!(desk.things.iter().zip(&sent).all(|((_, historic, thing), sent)| {
            *historic && thing.state == PulledState::Whole && thing.body == *sent && thing.internal_date.is_some()
        }));
    }
    assert!(cyrus.imap("ana", &["EXAMINE Support", "SEARCH SEEN"]).contains("* SEARCH\r\n"), "peek changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn cyrus_tells_arrivals_in_idle_and_a_poll_finds_them() {
    let Some(cyrus) = Cyrus::start() else { return };
    cyrus.deliver("ana", "Support", [mail(1)]);
    let (idling, mut polling) = (with(cyrus.port, "ana"), with(cyrus.port, "ana"));
    (polling.mailbox.idle, polling.mailbox.poll_interval) = (false, Duration::from_millis(100));
    for (number, settings) in [(2, idling), (3, polling)] {
        let (idles, source) = (settings.mailbox.idle, source(settings));
        let mut desk = Desk::default();
        let mut pull = desk.persist(&source, 1).await;
        let (before, later) = (desk.things.len(), async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            cyrus.deliver("ana", "Support", [mail(number)]);
        });
        let started = Instant::now();
        if idles {
            let (woken, ()) = tokio::join!(pull.wait(Duration::from_secs(60)), later);
            assert_eq!(woken, Ok(Woken::News));
            eprintln!("told in IDLE after {:?}", started.elapsed() - Duration::from_millis(300));
        } else {
            later.await;
        }
        while desk.things.len() == before && started.elapsed() < Duration::from_secs(30) {
            desk.drain(&mut *pull).await.unwrap();
            pull.wait(Duration::from_millis(100)).await.unwrap();
        }
        assert_eq!(desk.things.len(), before + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cyrus_renumbered_is_recognised_by_lasting_ids_though_two_copies_have_the_same() {
    let Some(cyrus) = Cyrus::start() else { return };
    // The same bytes twice are one id there, and two mails.
    cyrus.deliver("ana", "Support", [mail(1), mail(2), mail(3), mail(2), mail(5)]);
    let source = source(with(cyrus.port, "ana"));
    let mut desk = Desk::default();
    desk.persist(&source, 1).await.close().await;
    let prints: BTreeSet<u64> = desk.things.iter().map(|(_, _, thing)| thing.print.unwrap()).collect();
    assert_eq!((desk.things.len(), prints.len()), (5, 4));
    cyrus.renumber("ana", "Support");
    cyrus.deliver("ana", "Support", [mail(6)]);
    desk.persist(&source, 1).await;
    let again: Vec<_> = desk.things.iter().filter(|(epoch, _, _)| *epoch == 2).map(|(_, _, thing)| thing.uid).collect();
    assert_eq!((again, state(&desk).epoch, state(&desk).low_water, desk.rolls), (vec![6], 2, 6, 1), "only what is unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn cyrus_moves_marks_and_deletes_once_and_again() {
    let Some(cyrus) = Cyrus::start() else { return };
    let policies = [
        ("move", After::Move("Done".to_owned())),
        ("seen", After::Seen),
        ("flag", After::Flag),
        ("delete", After::Delete(Duration::from_secs(1))),
    ];
    for (user, after) in policies {
        cyrus.deliver(user, "Support", (0..20).map(mail));
        let mut with = with(cyrus.port, user);
        with.mailbox.after = after;
        let source = source(with);
        let mut desk = Desk::default();
        let mut pull = desk.persist(&source, 1).await;
        assert_eq!(cyrus.count(user, "Support"), 20, "nothing happens before the commit");
        // Old enough to be deleted.
        tokio::time::sleep(Duration::from_millis(2100)).await;
        let rows = desk.unsettled.clone();
        assert_eq!(desk.settle(&mut *pull).await, Ok(20), "{user}");
        desk.unsettled = rows;
        let found = |search: &str| cyrus.imap(user, &["EXAMINE Support", search]).contains("* SEARCH\r\n");
        match user {
            "move" => assert_eq!((cyrus.count(user, "Support"), cyrus.count(user, "Done")), (0, 20)),
            "delete" => assert_eq!(cyrus.count(user, "Support"), 0),
            "seen" => assert!(found("SEARCH UNSEEN")),
            _ => assert!(found("SEARCH UNKEYWORD $Ingested")),
        }
        pull.close().await;
        let mut pull = source.open().await.unwrap();
        assert_eq!(desk.settle(&mut *pull).await, Ok(20), "{user}: carried out twice, as after a crash");
        if user == "move" {
            assert_eq!(cyrus.count(user, "Done"), 20);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cyrus_is_asked_for_what_changed_below_the_cursor_and_nothing_is_doubled() {
    let Some(cyrus) = Cyrus::start() else { return };
    cyrus.deliver("ana", "Support", (1..=6).map(mail));
    let mut with = with(cyrus.port, "ana");
    (with.mailbox.idle, with.mailbox.poll_interval) = (false, Duration::from_millis(20));
    let source = source(with);
    let mut desk = Desk::default();
    let mut pull = desk.persist(&source, 1).await;
    desk.things.retain(|(_, _, thing)| thing.uid != 3);
    cyrus.imap("ana", &["SELECT Support", "UID STORE 2:4 +FLAGS (\\Flagged)"]);
    pull.wait(Duration::from_secs(5)).await.unwrap();
    desk.drain(&mut *pull).await.unwrap();
    assert_eq!((desk.uids(), desk.rolls), (vec![1, 2, 4, 5, 6, 3], 1), "what was overlooked is found among what changed");
    pull.wait(Duration::from_secs(5)).await.unwrap();
    desk.drain(&mut *pull).await.unwrap();
    assert_eq!((desk.things.len(), desk.rolls), (6, 1), "nothing changed since");
}

fn with_crlf(mail: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(mail.len());
    for line in mail.split_inclusive(|byte| *byte == b'\n') {
        match line {
            [content @ .., b'\r', b'\n'] | [content @ .., b'\n'] => out.extend_from_slice(&[content, b"\r\n"].concat()),
            rest => out.extend_from_slice(rest),
        }
    }
    out
}
