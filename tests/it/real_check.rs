//! `check --connect` against real and dead peers: what it says, how it ends, and that it leaves no trace.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::daemon::{Daemon, Setup, free_address};
use crate::support::dovecot::{Dovecot, PASSWORD};
use crate::support::receiver::{Answer, Receiver};

/// A mail channel `support` at this port of the loopback.
fn mailbox(port: u16, user: &str, password: &str) -> Setup {
    let channel = format!(
        "connector = \"imap\"\n[secrets]\npassword = {{ env = \"MAIL_PASSWORD\" }}\n\
         [imap]\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\nuser = \"{user}\"\n"
    );
    Setup {
        channels: BTreeMap::from([("support".to_owned(), channel)]),
        env: BTreeMap::from([("MAIL_PASSWORD".to_owned(), password.to_owned())]),
        ..Setup::default()
    }
}

/// Exit code, standard output, standard error of `check --connect`.
fn connect(setup: Setup, more: &[&str]) -> (i32, String, String) {
    let daemon = Daemon::prepare(setup);
    let (status, out, err) = daemon.command(&[&["check", "--connect"], more].concat());
    assert!(!daemon.data_dir().exists(), "a check makes no store and no key");
    (status.code().unwrap(), out, err)
}

#[track_caller]
fn line<'a>(out: &'a str, part: &str) -> &'a str {
    out.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("no line with {part:?} in:\n{out}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_that_can_be_used_is_described() {
    let Some(dovecot) = Dovecot::start() else { return };
    let checked = "Authentication-Results: mx.example.org; spf=pass\r\nFrom: a@example.org\r\nSubject: one\r\n\r\nHello\r\n";
    dovecot.deliver("ana", [checked, "From: b@example.org\r\nSubject: two\r\n\r\nHello\r\n"]);
    dovecot.imap("ana", &["CREATE Entw&APw-rfe"]);
    let (code, out, err) = connect(mailbox(dovecot.port, "ana", PASSWORD), &[]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.lines().all(|line| line.starts_with("ok      channel support: ")), "{out}");
    line(&out, &format!("logged in to 127.0.0.1:{}", dovecot.port));
    assert!(line(&out, "the server can").contains("IDLE"), "{out}");
    line(&out, "2 mails");
    line(&out, "nothing changes in the mailbox");
    assert!(line(&out, "folders there").contains("\"INBOX\" (2)") && line(&out, "folders there").contains("\"Entwürfe\" (0)"), "{out}");
    assert!(line(&out, "were checked by").contains("by mx.example.org (1); "), "{out}");
    let seen = dovecot.imap("ana", &["EXAMINE INBOX", "SEARCH SEEN"]);
    assert!(seen.contains("* SEARCH\r\n"), "nothing was changed: {seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_from_a_dead_port() {
    let Some(dovecot) = Dovecot::start() else { return };
    let (code, out, err) = connect(mailbox(dovecot.port, "ana", "not-the-password"), &[]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(line(&out, "the server refused the login").starts_with("FAILED  channel support: auth_failed: "), "{out}");
    assert!(!out.contains("not-the-password") && !err.contains("not-the-password"), "I7");
    assert_eq!(err.lines().last(), Some("omnigate: 1 failed"));
    let (code, out, err) = connect(mailbox(free_address().port(), "ana", PASSWORD), &[]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(line(&out, "connecting to 127.0.0.1:").starts_with("FAILED  channel support: unreachable: "), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn destinations_are_reached_without_being_sent_anything() {
    let receiver = Receiver::start().await;
    // Whatever it would answer to a delivery: a check delivers nothing, so it cannot be refused either.
    receiver.answer(Answer::status(401));
    let mut setup = Setup::default();
    setup.destination("desk", &receiver.url(), "");
    setup.destination("gone", &format!("http://{}/hook", free_address()), "");
    setup.rest.push_str("[[route]]\nto = [\"desk\", \"gone\"]\n");
    let (code, out, err) = connect(setup.clone(), &[]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(line(&out, "destination desk").starts_with("ok      destination desk: connected to 127.0.0.1:"), "{out}");
    assert!(line(&out, "destination gone").starts_with("FAILED  destination gone: "), "{out}");
    assert!(line(&out, "destination gone").contains("connecting to 127.0.0.1:"), "{out}");
    assert!(receiver.book().deliveries.is_empty(), "a check delivers nothing");

    let (code, out, _) = connect(setup, &["--json"]);
    let rows: Vec<Value> = serde_json::from_str(&out).unwrap();
    let ok: Vec<bool> = rows.iter().map(|row| row["ok"].as_bool().unwrap()).collect();
    assert_eq!((code, ok), (1, vec![true, false]), "{out}");
    assert_eq!((&rows[1]["kind"], &rows[1]["name"]), (&"destination".into(), &"gone".into()));
    // What it would be told apart by: a policy that does something, and a target that is not there.
    let Some(dovecot) = Dovecot::start() else { return };
    let mut moving = mailbox(dovecot.port, "bob", PASSWORD);
    moving.channels.values_mut().for_each(|text| text.push_str("after = \"move\"\nmove_to = \"Done\"\n"));
    let (code, out, _) = connect(moving, &[]);
    assert_eq!(code, 0, "{out}");
    line(&out, "mails move to \"Done\", with MOVE");
    line(&out, "folder \"Done\" is not there yet: it would be made");
    assert!(!dovecot.imap("bob", &["LIST \"\" *"]).contains("Done"), "a check makes no folder");
}
