//! Events as letters, taken by a mail server that is not ours and judged by Python's own parser and by dkimpy.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::Value;
use sha2::Digest as _;

use crate::support::contract::root;
use crate::support::daemon::{Daemon, Setup, quick_schedule};
use crate::support::servers;
use crate::support::ticketing::{post_form, post_whatsapp};

/// The server, and what it took. Ended when dropped.
struct Mailbox {
    child: Child,
    stdin: ChildStdin,
    port: u16,
    lines: Arc<Mutex<Vec<Value>>>,
    ca: tempfile::TempDir,
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Mailbox {
    fn start(public_key: &str) -> Option<Self> {
        let python = servers::installed("venv/bin/python");
        let there = python.exists() && Command::new(&python).args(["-c", "import aiosmtpd, dkim"]).output().unwrap().status.success();
        if !there {
            servers::missing("the Python packages aiosmtpd and dkimpy");
            return None;
        }
        let ca = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(ca.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(ca.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let mut child = Command::new(python)
            .arg(root().join("tests/data/clients/mailbox.py"))
            .args([ca.path().join("cert.pem"), ca.path().join("key.pem")])
            .arg(public_key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = out.next().expect("the mail server says its port").unwrap().trim().parse().unwrap();
        let lines: Arc<Mutex<Vec<Value>>> = Arc::default();
        let kept = lines.clone();
        std::thread::spawn(move || {
            for line in out.map_while(Result::ok) {
                kept.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        Some(Self { child, stdin, port, lines, ca })
    }

    /// Everything it said so far, once there are `count` lines.
    fn said(&self, count: usize) -> Vec<Value> {
        let end = Instant::now() + Duration::from_secs(30);
        while self.lines.lock().unwrap().len() < count {
            assert!(Instant::now() < end, "{} of {count} lines: {:?}", self.lines.lock().unwrap().len(), self.lines.lock().unwrap());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.lines.lock().unwrap().clone()
    }
}

/// An RSA key in PEM and its public half as DNS publishes it.
fn dkim_key() -> (String, String) {
    let run = |args: &[&str], input: &[u8]| -> Vec<u8> {
        let mut child =
            Command::new("openssl").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap().stdout
    };
    let pem = run(&["genrsa", "2048"], b"");
    let public = run(&["rsa", "-pubout", "-outform", "DER"], &pem);
    (String::from_utf8(pem).unwrap(), base64::engine::general_purpose::STANDARD.encode(public))
}

fn setup(mailbox: &Mailbox, key: &str, more: &str) -> Setup {
    let mut setup = Setup::default();
    setup.with_whatsapp();
    setup.channels.insert("form".to_owned(), "connector = \"webform\"\nverify = \"none\"\n".to_owned());
    let env = [("SMTP_PASSWORD", "a-password-for-tests"), ("DKIM_KEY", key)];
    setup.env.extend(env.map(|(name, value)| (name.to_owned(), value.to_owned())));
    setup.rest = format!(
        "{}[destination.desk]\nkind = \"smtp\"\nhost = \"localhost\"\nport = {}\nca_file = \"{}\"\nuser = \"gateway\"\npassword = {{ env = \"SMTP_PASSWORD\" }}\n\
         from = \"gateway@gw.example.org\"\nto = \"support@desk.example.org\"\ndkim_selector = \"omnigate\"\ndkim_key = {{ env = \"DKIM_KEY\" }}\n{more}\n\
         [[route]]\nto = [\"desk\"]\n",
        quick_schedule(),
        mailbox.port,
        mailbox.ca.path().join("cert.pem").display(),
    );
    setup
}

#[tokio::test]
async fn letters_are_signed_threaded_and_carry_their_files() {
    let (pem, public) = dkim_key();
    let Some(mailbox) = Mailbox::start(&public) else { return };
    let daemon = Daemon::start(setup(&mailbox, &pem, "")).await;
    let photo: Vec<u8> = (0..70_001u32).map(|number| (number * 7) as u8).collect();
    post_whatsapp(&daemon, 1, "w1", "Wo ist meine Bestellung? Größe 38\n.\n..\nBcc: somebody@example.org").await;
    daemon.settled(Duration::from_secs(30)).await;
    post_whatsapp(&daemon, 1, "w2", "Hallo?").await;
    post_form(&daemon, "ana", "f1", "Hello", &[("Größe.jpg".to_owned(), photo.clone())]).await;
    daemon.settled(Duration::from_secs(30)).await;
    let letters = mailbox.said(3);
    for letter in &letters {
        assert_eq!(letter["dkim"], true, "{letter}");
        assert_eq!((&letter["tls"], &letter["user"]), (&Value::from(true), &Value::from("gateway")));
        assert_eq!(
            (&letter["from"], &letter["to"]),
            (&Value::from("gateway@gw.example.org"), &serde_json::json!(["support@desk.example.org"]))
        );
        assert_eq!(letter["defects"], serde_json::json!([]), "{letter}");
        assert!(letter["headers"].get("bcc").is_none());
    }
    let by_text = |text: &str| letters.iter().find(|letter| letter["text"].as_str().unwrap().contains(text)).unwrap();
    let (first, second, form) = (by_text("Größe 38"), by_text("Hallo?"), by_text("Hello"));
    let words = first["text"].as_str().unwrap().replace("\r\n", "\n");
    assert!(words.contains("\n.\n..\nBcc: somebody"), "{first}");
    assert_eq!(second["headers"]["in-reply-to"], first["headers"]["message-id"]);
    assert_eq!(second["headers"]["references"], first["headers"]["message-id"]);
    assert!(first["headers"].get("in-reply-to").is_none());
    assert!(first["headers"]["from"].as_str().unwrap().ends_with("<gateway@gw.example.org>"));
    assert_ne!(form["headers"]["message-id"], first["headers"]["message-id"]);
    let digest: String = sha2::Sha256::digest(&photo).iter().map(|byte| format!("{byte:02x}")).collect();
    let files: BTreeMap<String, String> = serde_json::from_value(form["files"].clone()).unwrap();
    assert_eq!(files.into_values().collect::<Vec<_>>(), [digest]);
}

#[tokio::test]
async fn a_letter_whose_answer_was_lost_comes_again_under_the_same_id_and_a_wrong_password_pauses() {
    let (pem, public) = dkim_key();
    let Some(mut mailbox) = Mailbox::start(&public) else { return };
    let mut daemon = Daemon::start(setup(&mailbox, &pem, "")).await;
    mailbox.stdin.write_all(b"cut\n").unwrap();
    mailbox.said(1);
    post_whatsapp(&daemon, 1, "w1", "Hello").await;
    daemon.settled(Duration::from_secs(30)).await;
    let letters = mailbox.said(3);
    assert_eq!(letters[1]["headers"]["message-id"], letters[2]["headers"]["message-id"], "receivers fold by it");
    assert_eq!(letters[1]["body_sha256"], letters[2]["body_sha256"]);

    let (done, shown, _) = daemon.command(&["check", "--connect"]);
    assert!(done.success() && shown.contains("STARTTLS, logged in"), "{shown}");
    daemon.kill();
    let mut wrong = setup(&mailbox, &pem, "");
    wrong.env.insert("SMTP_PASSWORD".to_owned(), "wrong".to_owned());
    let daemon = Daemon::start(wrong).await;
    post_whatsapp(&daemon, 1, "w2", "Hello?").await;
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let (_, shown, _) = daemon.command(&["destination", "list"]);
        if shown.contains("paused") && shown.contains("denied") {
            break;
        }
        assert!(Instant::now() < end, "{shown}\n{}", daemon.log_end(20));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!daemon.log_text().contains("a-password-for-tests"));
}
