//! The IMAP engine against Courier, which tells no UIDNEXT and cannot MOVE.

use std::time::Duration;

use omnigate::model::mailbox::After;
use omnigate::ports::pull::PulledState;

use crate::support::courier::Courier;
use crate::support::pulling::{Desk, settings, source};

fn mails(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers
        .map(|number| format!("From: ana@example.org\r\nSubject: {number}\r\nMessage-ID: <{number}@example.org>\r\n\r\nHello {number}\r\n"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_uidnext_is_read_polled_and_recognised_after_a_renumbering() {
    let Some(courier) = Courier::start() else { return };
    courier.deliver(mails(0..20));
    let mut with = settings(courier.port, "ana");
    (with.mailbox.idle, with.mailbox.poll_interval) = (false, Duration::from_millis(100));
    let source = source(with);
    let mut desk = Desk::default();
    let mut pull = desk.persist(&source, 1).await;
    assert_eq!(desk.uids(), (1..=20).collect::<Vec<u64>>());
    assert!(desk.things.iter().all(|(_, _, thing)| thing.state == PulledState::Whole && thing.body.starts_with(b"From: ana")));
    courier.deliver(mails(20..23));
    pull.wait(Duration::from_secs(2)).await.unwrap();
    desk.drain(&mut *pull).await.unwrap();
    assert_eq!((desk.things.len(), desk.inbox().low_water), (23, 23));
    pull.close().await;
    courier.renumber();
    courier.deliver(mails(23..25));
    desk.persist(&source, 2).await;
    assert_eq!(desk.inbox().epoch, 2);
    let again: Vec<_> = desk.things.iter().filter(|(epoch, _, _)| *epoch == 2).map(|(_, _, thing)| thing.body.clone()).collect();
    assert_eq!(again.len(), 2, "only what is unknown");
    assert!(again.iter().all(|body| body.ends_with(b"Hello 23\r\n") || body.ends_with(b"Hello 24\r\n")));
    assert!(desk.rolls > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_only_we_read_keeps_its_numbers_and_no_mail_takes_the_number_of_another() {
    let Some(courier) = Courier::start() else { return };
    let mut with = settings(courier.port, "ana");
    (with.mailbox.idle, with.mailbox.poll_interval) = (false, Duration::from_millis(100));
    let source = source(with);
    let mut desk = Desk::default();
    for round in 0..4 {
        // Opened read-only, Courier would give every look another UIDVALIDITY (made from seconds), and numbers by the order of names.
        courier.deliver_before(mails(round * 2..round * 2 + 1));
        let mut pull = desk.persist(&source, 1).await;
        courier.deliver_before(mails(round * 2 + 1..round * 2 + 2));
        std::thread::sleep(Duration::from_millis(1100));
        pull.wait(Duration::from_secs(2)).await.unwrap();
        desk.drain(&mut *pull).await.unwrap();
        pull.close().await;
    }
    assert_eq!((desk.uids(), desk.inbox().epoch, desk.rolls), ((1..=8).collect(), 1, 0));
    let all: Vec<_> = desk.things.iter().map(|(_, _, thing)| thing.body.clone()).collect();
    assert!(all.iter().enumerate().all(|(number, body)| body.ends_with(format!("Hello {number}\r\n").as_bytes())), "{all:?}");
    assert_eq!(courier.flagged("INBOX"), 0, "nothing is changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_move_mails_are_copied_once_and_only_they_are_removed() {
    let Some(courier) = Courier::start() else { return };
    courier.deliver(mails(0..10));
    let mut with = settings(courier.port, "ana");
    with.mailbox.after = After::Move("INBOX.Processed".to_owned());
    let source = source(with);
    let mut desk = Desk::default();
    let mut pull = desk.persist(&source, 1).await;
    let rows = desk.unsettled.clone();
    assert_eq!(desk.settle(&mut *pull).await, Ok(10));
    desk.unsettled = rows;
    assert_eq!(desk.settle(&mut *pull).await, Ok(10), "carried out twice, as after a crash");
    assert_eq!((courier.count("INBOX"), courier.count("INBOX.Processed")), (0, 10));
}
