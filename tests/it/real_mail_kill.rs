//! The binary and a real Dovecot: killed at random through a backfill, arrivals, renumberings, moves and deletions. In the end the
//! mailbox, the target folder, the ledger and the deliveries tell the same story.
//!
//! `OMNIGATE_MAIL_KILLS=n` asks for more rounds, `OMNIGATE_KILL_SEED=n` for the moments of an earlier run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::support::daemon::{Daemon, Setup};
use crate::support::dice::Dice;
use crate::support::dovecot::{Dovecot, PASSWORD};
use crate::support::receiver::Receiver;

const USER: &str = "support";
const LIMIT: Duration = Duration::from_secs(90);

fn mail(number: usize) -> String {
    let head = format!("From: Ana <ana{}@example.org>\r\nTo: support@example.org\r\nDate: Mon, 20 Jul 2026 10:00:00 +0000\r\n", number % 7);
    format!("{head}Subject: mail-{number:05}\r\nMessage-ID: <{number}@example.org>\r\n\r\nWhere is my order {number}?\r\n")
}

/// Large enough to go through the spool.
fn large_mail(number: usize) -> String {
    let (head, file) = (mail(number), format!("{number:057}\r\n").repeat(75_000));
    head.replace("\r\n\r\n", "\r\nContent-Type: application/octet-stream; name=a.bin\r\n\r\n") + &file
}

fn mails(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(mail).collect()
}

fn subjects(count: usize) -> BTreeSet<String> {
    (0..count).map(|number| format!("mail-{number:05}")).collect()
}

/// A gateway that reads the mailbox and tells `url`.
fn setup(dovecot: &Dovecot, url: &str, more: &str) -> Setup {
    let mut setup = Setup::all_to(url);
    let channel = format!(
        "connector = \"imap\"\n[secrets]\npassword = {{ env = \"MAIL_PASSWORD\" }}\n[imap]\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\n\
         user = \"{USER}\"\nfirst_run = \"backfill\"\npoll_interval = \"1s\"\nbatch_items_max = 20\n{more}\n",
        dovecot.port
    );
    setup.channels.insert("mail".to_owned(), channel);
    setup.env.insert("MAIL_PASSWORD".to_owned(), PASSWORD.to_owned());
    setup
}

/// What was told, by subject: the ids of its events.
fn told(receiver: &Receiver) -> BTreeMap<String, BTreeSet<String>> {
    let mut told: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for event in receiver.book().events() {
        if event["type"] == "message.created" {
            let subject = event["data"]["message"]["subject"].as_str().unwrap_or_default().to_owned();
            told.entry(subject).or_default().insert(event["id"].as_str().unwrap().to_owned());
        }
    }
    told
}

async fn until(what: &str, daemon: &Daemon, holds: impl Fn() -> bool) {
    let from = Instant::now();
    while !holds() {
        assert!(from.elapsed() < LIMIT, "not in {LIMIT:?}: {what}\n{}", daemon.log_end(30));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Kills and starts again at random moments while mails come, and the numbering goes if it may.
async fn history(policy: &str, renumbered: bool) -> (Dovecot, Daemon, usize) {
    let Some(dovecot) = Dovecot::start() else { panic!("asked before") };
    let rounds: usize = std::env::var("OMNIGATE_MAIL_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(15);
    let mut dice = Dice::from_env("OMNIGATE_KILL_SEED");
    let receiver = Receiver::start().await;
    let mut count = 120;
    dovecot.deliver(USER, mails(0..count));
    let mut daemon = Daemon::prepare(setup(&dovecot, &receiver.url(), policy));
    for round in 0..rounds {
        daemon.launch();
        if dice.chance(60) {
            daemon.ready().await;
        }
        let more = usize::try_from(dice.between(0, 4)).unwrap();
        dovecot.deliver(USER, mails(count..count + more));
        count += more;
        tokio::time::sleep(Duration::from_millis(dice.between(20, 700))).await;
        daemon.kill();
        if renumbered && round % 4 == 3 {
            dovecot.renumber(USER);
        }
    }
    daemon.launch();
    daemon.ready().await;
    until("every mail is told", &daemon, || told(&receiver).len() == count).await;
    let scrape = daemon.settled(Duration::from_secs(30)).await;
    scrape.identities_hold();
    let told = told(&receiver);
    assert_eq!(told.keys().cloned().collect::<BTreeSet<_>>(), subjects(count), "each mail is told");
    assert!(told.values().all(|ids| ids.len() == 1), "no mail is told twice: {told:?}");
    assert_eq!(scrape.sum("omnigate_items", &[("fate", "published")]), count as u64, "the ledger knows each once");
    for fate in ["pending", "quarantined"] {
        assert_eq!(scrape.sum("omnigate_items", &[("fate", fate)]), 0, "{fate}");
    }
    let doubles = scrape.sum("omnigate_items", &[("fate", "duplicate")]);
    eprintln!("{policy:?}: {rounds} kills, {count} mails, {doubles} fetched once more and folded");
    (dovecot, daemon, count)
}

fn no_dovecot() -> bool {
    // Starting it says so, loudly, where it is not installed.
    Dovecot::start().is_none()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_through_backfill_and_renumbering_every_mail_is_told_once_and_the_mailbox_is_untouched() {
    if no_dovecot() {
        return;
    }
    let (dovecot, _daemon, count) = history("", true).await;
    assert_eq!(dovecot.subjects(USER, "INBOX").into_iter().collect::<BTreeSet<_>>(), subjects(count));
    assert_eq!(dovecot.count(USER, "INBOX"), u32::try_from(count).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_through_moves_every_mail_is_told_once_and_none_is_lost() {
    if no_dovecot() {
        return;
    }
    let (dovecot, daemon, count) = history("after = \"move\"\nmove_to = \"Processed\"", true).await;
    until("the folder is empty", &daemon, || dovecot.count(USER, "INBOX") == 0).await;
    let mut moved = dovecot.subjects(USER, "Processed");
    moved.sort();
    let looked_up = daemon.log_text().matches("settlement of an earlier session looked up").count();
    eprintln!("{} of {count} mails are in the target, {looked_up} moves of killed sessions were looked up", moved.len());
    assert_eq!(moved, subjects(count).into_iter().collect::<Vec<_>>(), "each is there, and once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_midst_of_a_move_and_started_at_once_each_mail_is_in_the_target_once() {
    let Some(dovecot) = Dovecot::start() else { return };
    let rounds: usize = std::env::var("OMNIGATE_MAIL_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let mut dice = Dice::from_env("OMNIGATE_KILL_SEED");
    let receiver = Receiver::start().await;
    let mut daemon = Daemon::prepare(setup(&dovecot, &receiver.url(), "after = \"move\"\nmove_to = \"Processed\""));
    let mut count = 0;
    for round in 0..rounds {
        dovecot.deliver(USER, mails(count..count + 20));
        count += 20;
        daemon.launch();
        let from = Instant::now();
        // What an earlier round left in doubt waits for some seconds; then the new ones are moved, too.
        let before = dovecot.files(USER, "Processed");
        while dovecot.files(USER, "Processed") == before {
            assert!(from.elapsed() < LIMIT, "no move in round {round}\n{}", daemon.log_end(30));
            tokio::time::sleep(Duration::from_micros(300)).await;
        }
        tokio::time::sleep(Duration::from_micros(dice.between(0, 4) * 500)).await;
        daemon.kill();
        // What Dovecot makes of a list of numbers that is deleted while it moves is another case each time.
        if round % 2 == 1 {
            dovecot.renumber(USER);
        }
    }
    daemon.launch();
    daemon.ready().await;
    until("the folder is empty", &daemon, || dovecot.count(USER, "INBOX") == 0).await;
    daemon.settled(Duration::from_secs(30)).await.identities_hold();
    let told = told(&receiver);
    assert!(told.len() == count && told.values().all(|ids| ids.len() == 1), "each is told once");
    let looked_up = daemon.log_text().matches("settlement of an earlier session looked up").count();
    let mut moved = dovecot.subjects(USER, "Processed");
    moved.sort();
    eprintln!("{rounds} kills, {} of {count} mails are in the target, {looked_up} moves were looked up", moved.len());
    assert_eq!(moved, subjects(count).into_iter().collect::<Vec<_>>(), "each is there, and once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_through_deletions_every_mail_is_told_once_and_deleted_only_then() {
    if no_dovecot() {
        return;
    }
    let (dovecot, daemon, _) = history("after = \"delete\"\ndelete_after = \"1s\"\nidle = false", false).await;
    until("the folder is empty", &daemon, || dovecot.count(USER, "INBOX") == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_large_mails_come_each_is_told_once_and_nothing_is_left_in_the_spool() {
    let Some(dovecot) = Dovecot::start() else { return };
    let mut dice = Dice::from_env("OMNIGATE_KILL_SEED");
    let receiver = Receiver::start().await;
    dovecot.deliver(USER, (0..6).map(|number| if number % 2 == 0 { large_mail(number) } else { mail(number) }));
    let mut daemon = Daemon::prepare(setup(&dovecot, &receiver.url(), ""));
    let mut spooled = 0;
    let left = |daemon: &Daemon| std::fs::read_dir(daemon.data_dir().join("blobs/.spool")).map_or(0, Iterator::count);
    // Fewer than make a mail suspicious: reading one of these takes a while without optimisation, and may be what is interrupted.
    let kills = 4;
    for _ in 0..kills {
        daemon.launch();
        daemon.ready().await;
        tokio::time::sleep(Duration::from_millis(dice.between(10, 2500))).await;
        daemon.kill();
        spooled += left(&daemon);
    }
    daemon.launch();
    daemon.ready().await;
    until("every mail is told", &daemon, || told(&receiver).len() == 6).await;
    let scrape = daemon.settled(Duration::from_secs(30)).await;
    scrape.identities_hold();
    assert!(told(&receiver).values().all(|ids| ids.len() == 1), "no mail is told twice");
    assert_eq!(scrape.sum("omnigate_items", &[("fate", "published")]), 6);
    assert_eq!(left(&daemon), 0, "what was left by a kill is gone after the next start");
    eprintln!("{kills} kills, {spooled} mails were left half in the spool");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_on_one_mailbox_lose_nothing_and_do_not_stop_each_other() {
    let Some(dovecot) = Dovecot::start() else { return };
    let (one, two) = (Receiver::start().await, Receiver::start().await);
    let policy = "after = \"move\"\nmove_to = \"Processed\"";
    let first = Daemon::start(setup(&dovecot, &one.url(), policy)).await;
    let second = Daemon::start(setup(&dovecot, &two.url(), policy)).await;
    for round in 0..20 {
        dovecot.deliver(USER, mails(round * 5..round * 5 + 5));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let all = || told(&one).into_keys().chain(told(&two).into_keys()).collect::<BTreeSet<_>>();
    until("every mail is told by one of them", &first, || all() == subjects(100)).await;
    until("the folder is empty", &second, || dovecot.count(USER, "INBOX") == 0).await;
    // Dovecot 2.3 itself copies a mail twice when two sessions move it in the same instant.
    assert_eq!(dovecot.subjects(USER, "Processed").into_iter().collect::<BTreeSet<_>>(), subjects(100), "each is there");
    for daemon in [&first, &second] {
        assert_eq!(daemon.get("/v1/status").await["channels"]["mail"]["state"], "running");
        daemon.settled(Duration::from_secs(20)).await.identities_hold();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreadable_mails_hold_their_folder_for_seconds_only() {
    let Some(dovecot) = Dovecot::start() else { return };
    dovecot.deliver(USER, mails(0..30));
    for number in [3, 4, 17] {
        dovecot.make_unreadable(USER, &format!("Subject: mail-{number:05}"));
    }
    let receiver = Receiver::start().await;
    let from = Instant::now();
    let daemon = Daemon::start(setup(&dovecot, &receiver.url(), "")).await;
    until("all that can be read is told", &daemon, || told(&receiver).len() == 27).await;
    let took = from.elapsed();
    assert!(took < Duration::from_secs(45), "{took:?}");
    let scrape = daemon.settled(Duration::from_secs(20)).await;
    assert_eq!(scrape.sum("omnigate_items", &[("fate", "quarantined")]), 3, "and the others are kept, not skipped");
    eprintln!("three unreadable mails among thirty: {took:?}");
}
