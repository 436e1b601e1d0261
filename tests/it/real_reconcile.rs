//! A real mailbox against what was taken in from it: what is missing, extra, awaited, and its repair.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::daemon::{Daemon, Setup};
use crate::support::dovecot::{Dovecot, PASSWORD};

fn mail(subject: &str) -> String {
    let head = "From: Ana <ana@example.org>\r\nTo: support@example.org\r\n";
    format!("{head}Subject: {subject}\r\nMessage-ID: <{subject}@example.org>\r\n\r\nHello, this is {subject}.\r\n")
}

fn mails(from: usize, to: usize) -> Vec<String> {
    (from..=to).map(|number| mail(&format!("mail-{number}"))).collect()
}

fn setup(dovecot: &Dovecot, user: &str, more: &str) -> Setup {
    let channel = format!(
        "connector = \"imap\"\n[secrets]\npassword = {{ env = \"MAIL_PASSWORD\" }}\n\
         [imap]\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\nuser = \"{user}\"\n{more}\n",
        dovecot.port
    );
    Setup {
        rest: "[destination.archive]\nkind = \"file\"\npath = \"events.ndjson\"\n[[route]]\nto = [\"archive\"]\nhistoric = true\n"
            .to_owned(),
        channels: BTreeMap::from([("support".to_owned(), channel)]),
        env: BTreeMap::from([("MAIL_PASSWORD".to_owned(), PASSWORD.to_owned())]),
        ..Setup::default()
    }
}

fn subjects(daemon: &Daemon) -> Vec<String> {
    let text = std::fs::read_to_string(daemon.folder.path().join("events.ndjson")).unwrap_or_default();
    let subject =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["data"]["message"]["subject"].as_str().map(str::to_owned);
    text.lines().filter_map(subject).collect()
}

async fn arrive(daemon: &Daemon, count: usize) {
    let from = Instant::now();
    while subjects(daemon).len() < count {
        assert!(from.elapsed() < Duration::from_secs(30), "{:?} after 30 s:\n{}", subjects(daemon), daemon.log_end(30));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Exit code and the one folder.
fn reconcile(daemon: &Daemon, more: &[&str]) -> (i32, serde_json::Value) {
    let (status, out, err) = daemon.command(&[&["reconcile", "support", "--json"], more].concat());
    let folders: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
    (status.code().unwrap(), folders[0].clone())
}

fn counts(folder: &serde_json::Value) -> [u64; 7] {
    let count = |name: &str| folder[name]["count"].as_u64().or(folder[name].as_u64()).unwrap_or_else(|| panic!("{folder}"));
    ["mailbox", "known", "awaited", "before_first_run", "missing", "extra", "changed"].map(count)
}

#[tokio::test(flavor = "multi_thread")]
async fn overlooked_mail_is_found_and_taken_in_once() {
    let Some(dovecot) = Dovecot::start() else { return };
    dovecot.deliver("gaps", mails(1, 10));
    let mut daemon = Daemon::start(setup(&dovecot, "gaps", "first_run = \"backfill\"")).await;
    arrive(&daemon, 10).await;
    let (code, folder) = reconcile(&daemon, &[]);
    assert_eq!((code, &folder["state"], counts(&folder)), (0, &"compared".into(), [10, 10, 0, 0, 0, 0, 0]));
    // A person deletes two, which is nothing to repair.
    dovecot.imap("gaps", &["SELECT INBOX", "UID STORE 2,3 +FLAGS (\\Deleted)", "EXPUNGE"]);
    let (code, folder) = reconcile(&daemon, &[]);
    assert_eq!((code, counts(&folder)), (0, [8, 8, 0, 0, 0, 2, 0]));
    assert_eq!(folder["extra"]["numbers"], serde_json::json!([2, 3]));
    // Three mails come in below a cursor that was moved too far: nobody would ever ask for them.
    daemon.signal("TERM");
    assert!(daemon.ended(Duration::from_secs(20)).await.success());
    let store = rusqlite::Connection::open(daemon.data_dir().join("omnigate.db")).unwrap();
    assert_eq!(store.execute("UPDATE sources SET low_water = 13 WHERE folder = 'INBOX'", []).unwrap(), 1);
    drop(store);
    dovecot.deliver("gaps", mails(11, 13));
    let (code, folder) = reconcile(&daemon, &[]);
    assert_eq!((code, counts(&folder)), (1, [11, 8, 0, 0, 3, 2, 0]), "read from the store while no daemon runs");
    assert_eq!(folder["missing"]["numbers"], serde_json::json!([11, 12, 13]));
    let (status, _, err) = daemon.command(&["reconcile", "support", "--repair"]);
    assert_eq!((status.code(), err.contains("only the daemon can repair")), (Some(4), true), "{err}");
    daemon.launch();
    daemon.ready().await;
    daemon.channel_running("support").await;
    assert_eq!(reconcile(&daemon, &["--repair"]).0, 0);
    arrive(&daemon, 13).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (code, folder) = reconcile(&daemon, &[]);
    assert_eq!((code, counts(&folder)), (0, [11, 11, 0, 0, 0, 2, 0]));
    // Under a known number stands another mail than the one that was taken in: it is read again, and recognised by its content.
    let store = rusqlite::Connection::open(daemon.data_dir().join("omnigate.db")).unwrap();
    assert_eq!(store.execute("UPDATE source_rows SET print = print + 1 WHERE uid = 5", []).unwrap(), 1);
    drop(store);
    let (code, folder) = reconcile(&daemon, &[]);
    assert_eq!((code, counts(&folder)), (1, [11, 10, 0, 0, 0, 2, 1]));
    assert_eq!(reconcile(&daemon, &["--repair"]).0, 0);
    let from = Instant::now();
    while reconcile(&daemon, &[]).0 != 0 {
        assert!(from.elapsed() < Duration::from_secs(30), "not repaired:\n{}", daemon.log_end(30));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let mut told = subjects(&daemon);
    told.sort();
    told.dedup();
    assert_eq!((told.len(), subjects(&daemon).len()), (13, 13), "each once");
    daemon.scrape().await.identities_hold();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_before_the_first_run_is_no_difference_until_a_backfill_takes_it_in() {
    let Some(dovecot) = Dovecot::start() else { return };
    dovecot.deliver("old", mails(1, 5));
    let daemon = Daemon::start(setup(&dovecot, "old", "")).await;
    daemon.channel_running("support").await;
    dovecot.deliver("old", mails(6, 6));
    arrive(&daemon, 1).await;
    let (code, folder) = reconcile(&daemon, &[]);
    assert_eq!((code, counts(&folder)), (0, [6, 1, 0, 5, 0, 0, 0]));
    let (status, _, err) = daemon.command(&["backfill", "support", "--folder", "INBOX", "--since", "30d"]);
    assert!(status.success(), "{err}");
    arrive(&daemon, 6).await;
    let (code, folder) = reconcile(&daemon, &[]);
    assert_eq!((code, counts(&folder)), (0, [6, 6, 0, 0, 0, 0, 0]));
    assert_eq!(daemon.command(&["backfill", "support", "--folder", "Nowhere"]).0.code(), Some(6));
    assert_eq!(daemon.command(&["reconcile", "nobody"]).0.code(), Some(5));
}
