//! The IMAP engine against a real Dovecot.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use omnigate::engines::imap::Login;
use omnigate::model::codes::Code;
use omnigate::model::mailbox::{After, FirstRun, Tls};
use omnigate::ports::blobs::Blobs;
use omnigate::ports::pull::{PullError, PullSource, PulledState, Woken};
use omnigate::stores::folder::FolderBlobs;

use crate::support::bad_link::{BadLink, Faults};
use crate::support::dovecot::{Dovecot, other_ca};
use crate::support::mailgen;
use crate::support::pulling::{Desk, settings, source};

fn mail(subject: &str) -> String {
    let head = "From: Ana <ana@example.org>\r\nTo: support@example.org\r\n";
    format!("{head}Subject: {subject}\r\nMessage-ID: <{subject}@example.org>\r\n\r\nHello, this is {subject}.\r\n")
}

fn mails(count: usize) -> Vec<String> {
    (1..=count).map(|number| mail(&format!("mail-{number:05}-end"))).collect()
}

/// Dovecot gives CRLF whatever lies in the file.
fn normal(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut before = 0;
    for byte in bytes {
        if *byte == b'\n' && before != b'\r' {
            out.push(b'\r');
        }
        out.push(*byte);
        before = *byte;
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_brings_every_mail_byte_for_byte_as_historic() {
    let Some(dovecot) = Dovecot::start() else { return };
    let sent = mailgen::generate(11, 1000);
    dovecot.deliver("backfill", &sent);
    let source = source(settings(dovecot.port, "backfill"));
    let mut desk = Desk::default();
    desk.persist(&source, 1).await;
    assert_eq!(desk.things.len(), 1000);
    let expected: BTreeSet<Vec<u8>> = sent.iter().map(|mail| normal(mail)).collect();
    let got: BTreeSet<Vec<u8>> = desk.things.iter().map(|(_, _, thing)| thing.body.to_vec()).collect();
    assert_eq!(got.len(), expected.len());
    assert!(got == expected, "bytes differ");
    assert!(desk.things.iter().all(|(_, historic, thing)| *historic && thing.state == PulledState::Whole));
    assert!(desk.things.iter().all(|(_, _, thing)| thing.internal_date.is_some()));
    let place = desk.things[0].2.head.place.clone().unwrap();
    assert_eq!(place, format!("INBOX;{};1", desk.inbox().epoch_name));
    let seen = dovecot.imap("backfill", &["EXAMINE INBOX", "SEARCH SEEN"]);
    assert!(seen.contains("* SEARCH\r\n"), "peek changes nothing: {seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_run_takes_from_now_and_idle_tells_an_arrival() {
    let Some(dovecot) = Dovecot::start() else { return };
    dovecot.deliver("idle", mails(3));
    let mut now = settings(dovecot.port, "idle");
    now.mailbox.first_run = FirstRun::FromNow;
    let source = source(now);
    let mut desk = Desk::default();
    let mut pull = desk.persist(&source, 1).await;
    assert!(desk.things.is_empty());
    assert_eq!((desk.inbox().low_water, desk.inbox().first_run_top), (3, 3));
    let later = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        dovecot.deliver("idle", [mail("fresh")]);
    };
    let started = Instant::now();
    let (woken, ()) = tokio::join!(pull.wait(Duration::from_secs(15)), later);
    assert_eq!(woken, Ok(Woken::News));
    desk.drain(&mut *pull).await.unwrap();
    eprintln!("delivered to pulled, with Dovecot's own 0.5 s: {:?}", started.elapsed() - Duration::from_millis(300));
    assert_eq!(desk.uids(), [4]);
    assert!(!desk.things[0].1, "what arrives later is not historic");
    dovecot.kick("idle");
    let ended = pull.wait(Duration::from_secs(10)).await;
    assert!(matches!(ended, Err(PullError::Lost { code: Code::ConnectionLost, .. })), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_between_the_last_look_and_idle_is_not_slept_over() {
    let Some(dovecot) = Dovecot::start() else { return };
    dovecot.deliver("race", mails(1));
    let source = source(settings(dovecot.port, "race"));
    let mut desk = Desk::default();
    let mut pull = desk.persist(&source, 1).await;
    dovecot.deliver("race", [mail("between")]);
    let started = Instant::now();
    assert_eq!(pull.wait(Duration::from_secs(15)).await, Ok(Woken::News));
    assert!(started.elapsed() < Duration::from_secs(5));
    desk.drain(&mut *pull).await.unwrap();
    assert_eq!(desk.uids(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_uidvalidity_begins_another_epoch_and_only_what_is_unknown_is_fetched() {
    let Some(dovecot) = Dovecot::start() else { return };
    dovecot.deliver("renumber", mails(5));
    let source = source(settings(dovecot.port, "renumber"));
    let mut desk = Desk::default();
    let pull = desk.persist(&source, 1).await;
    pull.close().await;
    let before = desk.inbox().clone();
    dovecot.renumber("renumber");
    dovecot.deliver("renumber", [mail("gap")]);
    desk.persist(&source, 2).await;
    assert_eq!(desk.inbox().epoch, 2);
    assert_ne!(desk.inbox().epoch_name, before.epoch_name);
    let second: Vec<_> = desk.things.iter().filter(|(epoch, _, _)| *epoch == 2).collect();
    let [(_, historic, gap)] = &second[..] else { panic!("{} mails fetched again", second.len()) };
    assert!(!historic && String::from_utf8_lossy(&gap.body).contains("Subject: gap"), "what arrived meanwhile is news");
    assert_eq!((desk.rolls, desk.inbox().low_water), (1, 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_in_the_middle_of_a_fetch_loses_and_doubles_nothing() {
    let Some(dovecot) = Dovecot::start() else { return };
    dovecot.deliver("cut", mails(400));
    for cut_after in [1_000, 30_000, 45_000, 60_000] {
        let link = BadLink::start(dovecot.port, Faults { cut_after: Some(cut_after), cuts: 2, ..Faults::default() });
        let source = source(settings(link.port, "cut"));
        let mut desk = Desk::default();
        desk.persist(&source, 6).await;
        assert_eq!(desk.uids(), (1..=400).collect::<Vec<u64>>(), "cut after {cut_after}");
        assert!(desk.sessions > 1, "the link was cut after {cut_after}");
        assert!(desk.things.iter().all(|(_, _, thing)| thing.state == PulledState::Whole && thing.body.ends_with(b"-end.\r\n")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_move_mark_and_flag_after_the_commit_and_again() {
    let Some(dovecot) = Dovecot::start() else { return };
    let policies = [("move", After::Move("Erledigt/Früh".to_owned())), ("seen", After::Seen), ("flag", After::Flag)];
    for (user, after) in policies {
        dovecot.deliver(user, mails(20));
        let mut with = settings(dovecot.port, user);
        with.mailbox.after = after;
        let source = source(with);
        assert!(source.settles());
        let mut desk = Desk::default();
        let mut pull = desk.persist(&source, 1).await;
        assert_eq!(dovecot.count(user, "INBOX"), 20, "nothing happens before the commit");
        let rows = desk.unsettled.clone();
        assert_eq!(desk.settle(&mut *pull).await, Ok(20));
        desk.unsettled = rows;
        assert_eq!(desk.settle(&mut *pull).await, Ok(20), "carried out twice, as after a crash");
        match user {
            "move" => {
                assert_eq!(dovecot.count(user, "INBOX"), 0);
                assert_eq!(dovecot.count(user, "\"Erledigt/Fr&APw-h\""), 20);
            }
            "seen" => assert!(dovecot.imap(user, &["EXAMINE INBOX", "SEARCH UNSEEN"]).contains("* SEARCH\r\n")),
            _ => assert!(dovecot.imap(user, &["EXAMINE INBOX", "SEARCH UNKEYWORD $Ingested"]).contains("* SEARCH\r\n")),
        }
        desk.drain(&mut *pull).await.unwrap();
        assert_eq!(desk.things.len(), 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settling_an_older_epoch_touches_nothing() {
    let Some(dovecot) = Dovecot::start() else { return };
    dovecot.deliver("stale", mails(3));
    let mut with = settings(dovecot.port, "stale");
    with.mailbox.after = After::Move("Processed".to_owned());
    let source = source(with);
    let mut desk = Desk::default();
    desk.persist(&source, 1).await.close().await;
    dovecot.renumber("stale");
    let mut pull = source.open().await.unwrap();
    assert_eq!(desk.settle(&mut *pull).await, Ok(0));
    assert_eq!(dovecot.count("stale", "INBOX"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_trusts_the_given_ca_only_and_a_wrong_one_needs_a_person() {
    let Some(dovecot) = Dovecot::start() else { return };
    dovecot.deliver("tls", mails(2));
    for (tls, port) in [(Tls::Implicit, dovecot.tls_port), (Tls::StartTls, dovecot.port)] {
        let mut with = settings(port, "tls");
        with.mailbox.host = "localhost".to_owned();
        with.mailbox.tls = tls;
        with.mailbox.ca_pem = Some(dovecot.ca_pem.clone().into());
        let mut desk = Desk::default();
        desk.persist(&source(with.clone()), 1).await;
        assert_eq!(desk.things.len(), 2, "{tls:?}");
        with.mailbox.ca_pem = Some(other_ca().into());
        let refused = source(with.clone()).open().await.err();
        assert!(matches!(&refused, Some(PullError::Person { code: Code::Tls, .. })), "{tls:?} {refused:?}");
        with.mailbox.ca_pem = None;
        let refused = source(with).open().await.err();
        assert!(matches!(&refused, Some(PullError::Person { code: Code::Tls, .. })), "{tls:?} {refused:?}");
    }
    let mut plain_port = settings(dovecot.port, "tls");
    plain_port.mailbox.tls = Tls::Implicit;
    let refused = source(plain_port).open().await.err();
    assert!(matches!(&refused, Some(PullError::Lost { code: Code::Tls, .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_from_a_dead_server() {
    let Some(dovecot) = Dovecot::start() else { return };
    let mut wrong = settings(dovecot.port, "ana");
    wrong.login = Login::Password("not \"the\\ one".to_owned().into());
    let refused = source(wrong.clone()).open().await.err();
    let Some(PullError::Person { code: Code::AuthFailed, detail }) = &refused else { panic!("{refused:?}") };
    assert!(!detail.contains("not") && !detail.contains("ana"), "{detail}");
    wrong.login = Login::Password("geheimnisvoll-ä".to_owned().into());
    let refused = source(wrong.clone()).open().await.err();
    assert!(matches!(refused, Some(PullError::Person { code: Code::AuthFailed, .. })), "{refused:?}");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    wrong.mailbox.port = closed;
    let refused = source(wrong).open().await.err();
    assert!(matches!(refused, Some(PullError::Lost { code: Code::Unreachable, .. })), "{refused:?}");
    let mut nowhere = settings(dovecot.port, "ana");
    nowhere.mailbox.folders = vec!["Nowhere".to_owned()];
    let mut pull = source(nowhere).open().await.unwrap();
    let refused = pull.next(&[]).await.err();
    assert!(matches!(refused, Some(PullError::Person { code: Code::NoFolder, .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_that_another_program_removes_while_they_are_fetched_are_gone_and_no_other_is() {
    let Some(dovecot) = Dovecot::start() else { return };
    dovecot.deliver("others", mailgen::generate(5, 400));
    let mut slowly = settings(dovecot.port, "others");
    slowly.mailbox.batch_items_max = 20;
    let source = source(slowly);
    let mut pull = source.open().await.unwrap();
    let mut desk = Desk::default();
    let (dovecot, removed) = (Arc::new(dovecot), Arc::new(std::sync::Mutex::new(BTreeSet::new())));
    let (theirs, done) = (dovecot.clone(), removed.clone());
    let other = tokio::task::spawn_blocking(move || {
        for first in (20_u64..400).step_by(19) {
            let range = format!("{first}:{}", first + 2);
            theirs.imap(
                "others",
                &["SELECT INBOX", &format!("UID STORE {range} +FLAGS.SILENT (\\Deleted)"), &format!("UID EXPUNGE {range}")],
            );
            done.lock().unwrap().extend(first..first + 3);
        }
    });
    desk.drain(&mut *pull).await.unwrap();
    other.await.unwrap();
    desk.drain(&mut *pull).await.unwrap();
    assert_eq!(desk.inbox().low_water, 400);
    let whole: Vec<u64> = desk.things.iter().filter(|thing| thing.2.state == PulledState::Whole).map(|thing| thing.2.uid).collect();
    let once: BTreeSet<u64> = whole.iter().copied().collect();
    assert_eq!(once.len(), whole.len(), "none comes twice");
    let removed = removed.lock().unwrap();
    let missing: Vec<u64> = (1..=400).filter(|uid| !once.contains(uid)).collect();
    assert!(missing.iter().all(|uid| removed.contains(uid)), "{missing:?}");
    assert!(
        desk.things.iter().all(|thing| thing.2.state == PulledState::Whole || !thing.2.body.is_empty() || removed.contains(&thing.2.uid))
    );
    eprintln!("of {} mails that were removed meanwhile {} had not come before", removed.len(), missing.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_mail_is_isolated_and_the_cursor_passes_it() {
    let Some(dovecot) = Dovecot::start() else { return };
    dovecot.deliver("poison", mails(10));
    dovecot.make_unreadable("poison", "mail-00004-end");
    let source = source(settings(dovecot.port, "poison"));
    let mut desk = Desk::default();
    desk.persist(&source, 12).await;
    assert_eq!(desk.uids(), (1..=10).collect::<Vec<u64>>());
    let states: Vec<_> = desk.things.iter().map(|(_, _, thing)| thing.state == PulledState::Whole).collect();
    assert_eq!(states.iter().filter(|whole| !**whole).count(), 1);
    assert!(matches!(desk.things[3].2.state, PulledState::Unfetchable { .. }), "{:?}", desk.things[3].2.state);
    assert_eq!(desk.inbox().low_water, 10);
    eprintln!("sessions it took: {}", desk.sessions);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_folders_are_walked_and_a_probe_tells_of_them() {
    let Some(dovecot) = Dovecot::start() else { return };
    dovecot.deliver("folders", mails(4));
    dovecot.imap("folders", &["CREATE Archiv", "SELECT INBOX", "COPY 1:3 Archiv"]);
    let mut with = settings(dovecot.port, "folders");
    with.mailbox.folders = vec!["INBOX".to_owned(), "Archiv".to_owned()];
    let source = source(with);
    let lines = source.probe().await.unwrap();
    assert!(lines.iter().any(|line| line.contains("\"INBOX\": 4 mails from 20")), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("\"Archiv\": 3 mails")), "{lines:?}");
    let mut desk = Desk::default();
    let mut pull = desk.persist(&source, 1).await;
    assert_eq!(desk.things.len(), 7);
    dovecot.imap("folders", &["SELECT INBOX", "COPY 4 Archiv"]);
    let started = Instant::now();
    while desk.things.len() < 8 && started.elapsed() < Duration::from_secs(10) {
        pull.wait(Duration::from_secs(5)).await.unwrap();
        desk.drain(&mut *pull).await.unwrap();
    }
    assert_eq!(desk.things.len(), 8, "the folder without IDLE is looked at, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_over_the_limit_comes_as_its_header_and_a_large_one_in_chunks() {
    let Some(dovecot) = Dovecot::start() else { return };
    let large = mailgen::with_attachment(5, 12 * 1024 * 1024);
    let huge = mailgen::with_attachment(6, 16 * 1024 * 1024);
    dovecot.deliver("large", [mail("one").into_bytes(), large.clone(), huge.clone(), mail("two").into_bytes()]);
    let mut with = settings(dovecot.port, "large");
    with.mailbox.mail_bytes_max = normal(&large).len() as u64;
    let mut desk = Desk::default();
    desk.persist(&source(with), 1).await;
    assert_eq!(desk.uids(), [1, 2, 3, 4]);
    assert!(desk.things[1].2.body == normal(&large), "in chunks, byte for byte");
    let (_, _, cut) = &desk.things[2];
    assert_eq!(cut.state, PulledState::HeaderOnly { bytes: normal(&huge).len() as u64 });
    assert!(cut.body.ends_with(b"\r\n\r\n") && normal(&huge).starts_with(&cut.body));
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_that_others_change_bring_nothing_but_what_was_overlooked() {
    let Some(dovecot) = Dovecot::start() else { return };
    dovecot.deliver("changes", mails(5));
    // Dovecot counts from when somebody wants to know, as many mail programs do; we do not ask for it.
    dovecot.imap("changes", &["ENABLE CONDSTORE", "SELECT INBOX", "UID STORE 1 +FLAGS (\\Seen)"]);
    let mut with = settings(dovecot.port, "changes");
    (with.mailbox.idle, with.mailbox.poll_interval) = (false, Duration::from_millis(20));
    let source = source(with);
    let mut desk = Desk::default();
    let mut pull = desk.persist(&source, 1).await;
    assert!(desk.inbox().memo.contains("\"changes\""), "Dovecot counts changes: {}", desk.inbox().memo);
    let look = async |desk: &mut Desk, pull: &mut dyn omnigate::ports::pull::Pull| {
        pull.wait(Duration::from_secs(5)).await.unwrap();
        desk.drain(pull).await.unwrap();
    };
    // Somebody works in the mailbox while we look.
    for round in 1..=5 {
        dovecot.imap("changes", &["SELECT INBOX", &format!("UID STORE {round} +FLAGS (\\Seen)"), "UID STORE 1:2 -FLAGS (\\Seen)"]);
        look(&mut desk, &mut *pull).await;
    }
    assert_eq!((desk.uids(), desk.rolls), ((1..=5).collect(), 5), "nothing is fetched again");
    look(&mut desk, &mut *pull).await;
    assert_eq!(desk.rolls, 5, "nothing changed");
    // A mail that has no row, as one that appeared late, under an old number.
    desk.things.retain(|(_, _, thing)| thing.uid != 2);
    dovecot.imap("changes", &["SELECT INBOX", "UID STORE 1:3 +FLAGS (\\Flagged)"]);
    look(&mut desk, &mut *pull).await;
    assert_eq!((desk.uids(), desk.rolls), (vec![1, 3, 4, 5, 2], 6));
    pull.close().await;
    // The next session knows since when, too; what was written before is compared and not fetched.
    dovecot.imap("changes", &["SELECT INBOX", "UID STORE 4 +FLAGS (\\Answered)", "UID STORE 5 +FLAGS (\\Deleted)", "UID EXPUNGE 5"]);
    dovecot.deliver("changes", [mail("new")]);
    desk.persist(&source, 1).await;
    assert_eq!((desk.uids(), desk.rolls, desk.inbox().epoch), (vec![1, 3, 4, 5, 2, 6], 7, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_mail_comes_over_a_link_that_never_lasts_as_long_as_it_takes() {
    let Some(dovecot) = Dovecot::start() else { return };
    let large = normal(&mailgen::with_attachment(7, 12 * 1024 * 1024));
    dovecot.deliver("cuts", [mail("one").into_bytes(), large.clone(), mail("two").into_bytes()]);
    let link = BadLink::start(dovecot.port, Faults { cut_after: Some(3_000_000), cuts: 40, ..Faults::default() });
    let folder = tempfile::tempdir().unwrap();
    let blobs: Arc<dyn Blobs> = Arc::new(FolderBlobs::open(folder.path(), false).unwrap());
    let source = source(settings(link.port, "cuts")).spooling(blobs.clone());
    let mut desk = Desk::default();
    desk.persist(&source, 20).await;
    assert_eq!(desk.uids(), [1, 2, 3]);
    assert!((4..12).contains(&desk.sessions), "{} sessions", desk.sessions);
    assert!(!desk.inbox().memo.contains("suspect"), "no mail is to blame");
    let spooled = desk.things[1].2.spooled.take().unwrap();
    spooled.incoming.keep("raws/aa/large").await.unwrap();
    assert!(blobs.read("raws/aa/large").await.unwrap() == large, "byte for byte");
}

#[tokio::test(flavor = "multi_thread")]
async fn throughput_at_a_distance_of_30_and_150_ms_is_told() {
    let Some(dovecot) = Dovecot::start() else { return };
    let sent = mailgen::generate(3, 1000);
    dovecot.deliver("far", &sent);
    dovecot.imap("far", &["EXAMINE INBOX", "FETCH 1:* (RFC822.SIZE)"]);
    for (name, delay) in [("near", Duration::ZERO), ("30 ms", Duration::from_millis(15)), ("150 ms", Duration::from_millis(75))] {
        let link = BadLink::start(dovecot.port, Faults { delay, ..Faults::default() });
        let source = source(settings(link.port, "far"));
        let mut desk = Desk::default();
        let mut pull = source.open().await.unwrap();
        let started = Instant::now();
        desk.drain(&mut *pull).await.unwrap();
        let took = started.elapsed();
        assert_eq!(desk.things.len(), 1000);
        assert!(!desk.inbox().memo.contains("suspect"), "nothing had to be asked twice");
        let bytes: usize = desk.things.iter().map(|(_, _, thing)| thing.body.len()).sum();
        eprintln!("{name}: 1000 mails, {} MB in {took:?}: {:.0} mails/s", bytes / 1_000_000, 1000.0 / took.as_secs_f64());
    }
}
