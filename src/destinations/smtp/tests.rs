//! Letters byte by byte, and what replies of a server mean, against a server that says what a test wants.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Mutex;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::*;
use crate::connector::ticket::compose::Forms;
use crate::model::id::{AttachmentId, EventId};

struct NoFiles;

impl FileReader for NoFiles {
    fn read(&self, _: AttachmentId, _: u64) -> BoxFuture<'_, Result<Option<bytes::Bytes>, String>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

/// A server that answers `at` with `reply` and everything else with yes; without a reply it hangs up there. Keeps the letters.
async fn server(at: &'static str, reply: Option<&'static str>) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let letters: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = letters.clone();
    tokio::spawn(async move {
        while let Ok((peer, _)) = listener.accept().await {
            let kept = kept.clone();
            tokio::spawn(async move {
                let mut peer = BufReader::new(peer);
                peer.write_all(b"220 test\r\n").await.unwrap();
                let mut line = String::new();
                while peer.read_line(&mut line).await.unwrap_or(0) > 0 {
                    let word = line.get(..4).unwrap_or_default().to_ascii_uppercase();
                    let mut answer = match word.as_str() {
                        "EHLO" => "250-test\r\n250 8BITMIME".to_owned(),
                        "DATA" => "354 go on".to_owned(),
                        _ => "250 2.0.0 yes".to_owned(),
                    };
                    let mut place = word.clone();
                    if word == "DATA" && at != "DATA" {
                        peer.write_all(b"354 go on\r\n").await.unwrap();
                        let mut letter = Vec::new();
                        while !letter.ends_with(b"\r\n.\r\n") {
                            letter.push(peer.read_u8().await.unwrap());
                        }
                        kept.lock().unwrap().push(String::from_utf8(letter).unwrap());
                        "DONE".clone_into(&mut place);
                        "250 2.0.0 taken".clone_into(&mut answer);
                    }
                    if place == at {
                        match reply {
                            Some(reply) => reply.clone_into(&mut answer),
                            None => return,
                        }
                    }
                    if peer.write_all(format!("{answer}\r\n").as_bytes()).await.is_err() {
                        return;
                    }
                    line.clear();
                }
            });
        }
    });
    (port, letters)
}

fn smtp(port: u16, as_customer: bool) -> Smtp {
    let given = SmtpSettings {
        host: "127.0.0.1".to_owned(),
        port,
        tls: SmtpTls::None,
        ca_pem: None,
        login: None,
        from: "gateway@gw.example.org".to_owned(),
        to: "support@desk.example.org".to_owned(),
        as_customer,
        dkim: None,
        forms: Forms { edits: true, deletions: true, reactions: false },
        contact_domain: "contacts.example.org".to_owned(),
    };
    let options = SmtpOptions { given, files: true, file_bytes_max: 1000, timeout: Duration::from_secs(2), concurrency: 2 };
    Smtp::new(options, Arc::new(NoFiles)).unwrap()
}

fn outgoing(subject: &str, html: Option<&str>, opened: bool) -> Outgoing {
    let event = json!({
        "type": "message.created", "id": "evt_0000000000000000000000000G", "timestamp": "2026-11-22T09:14:03.120Z",
        "data": {
            "message": {
                "id": "msg_0000000000000000000000000H", "direction": "inbound", "author": "customer", "kind": "email",
                "from": {"address": "email:ana@example.org", "name": "Ana \"A\" \r\nBcc: x@example.org"}, "subject": subject, "text": "Hello\n.\nbye", "html": html,
                "attachments": [{"id": "att_0000000000000000000000000J", "name": "a.png", "type": "image/png", "bytes": 5, "state": "stored"}],
                "automated": "auto_reply", "authentication": {"verified": true}, "sent_at": "2026-11-22T09:00:00Z",
            },
            "conversation": {"id": "cnv_0000000000000000000000000K", "opened": opened},
            "contact": {"id": "cnt_0000000000000000000000000M", "name": "Ana", "addresses": ["email:ana@example.org"]},
            "channel": {"id": "shop"},
        },
    });
    Outgoing {
        event: "evt_0000000000000000000000000G".parse::<EventId>().unwrap(),
        event_type: "message.created".to_owned(),
        conversation: None,
        channel: None,
        sequence: 1,
        previous: 0,
        bytes: event.to_string().into(),
        attempt: 1,
        replay: false,
    }
}

#[tokio::test]
async fn the_same_event_is_the_same_letter_and_no_value_becomes_a_header() {
    let (port, letters) = server("", None).await;
    let desk = smtp(port, false);
    let event = outgoing("Ärger\r\nBcc: y@example.org", Some("<p>Hello</p>"), true);
    for _ in 0..2 {
        assert_eq!(desk.deliver(&event).await.unwrap().status, Some(250));
    }
    let letters = letters.lock().unwrap().clone();
    assert_eq!(letters[0], letters[1], "boundaries and dates included");
    let head = letters[0].split("\r\n\r\n").next().unwrap();
    let names: Vec<&str> = head.lines().filter(|line| !line.starts_with([' ', '\t'])).map(|line| line.split(':').next().unwrap()).collect();
    assert!(!names.contains(&"Bcc"), "{head}");
    for line in
        ["Message-ID: <cnv_0000000000000000000000000k@gw.example.org>", "Reply-To: ana@example.org", "Auto-Submitted: auto-generated"]
    {
        assert!(head.lines().any(|found| found == line), "{line}\n{head}");
    }
    assert!(head.contains("<gateway@gw.example.org>") && letters[0].contains("multipart/alternative"));
}

#[tokio::test]
async fn later_letters_name_the_first_and_a_lost_file_is_said() {
    let (port, letters) = server("", None).await;
    smtp(port, true).deliver(&outgoing("x", None, false)).await.unwrap();
    let letter = letters.lock().unwrap()[0].clone();
    for line in [
        "Message-ID: <msg_0000000000000000000000000h@gw.example.org>",
        "In-Reply-To: <cnv_0000000000000000000000000k@gw.example.org>",
        "Sender: gateway@gw.example.org",
    ] {
        assert!(letter.lines().any(|found| found == line), "{line}\n{letter}");
    }
    let from = letter.lines().find(|line| line.starts_with("From: ")).unwrap();
    assert!(from.ends_with("<ana@example.org>") && !letter.contains("\r\nReply-To"), "{letter}");
    assert!(letter.contains("\r\n..\r\nbye") && letter.contains("File a.png: not kept"), "{letter}");
}

#[tokio::test]
async fn what_the_server_says_decides() {
    let cases: [(&str, Option<&str>, &str); 11] = [
        ("MAIL", Some("421 4.3.2 closing"), "later busy"),
        ("MAIL", Some("451 4.7.0 slow down"), "later busy"),
        ("RCPT", Some("450 4.2.0 greylisted"), "later failed"),
        ("RCPT", Some("550 5.1.1 no such ana@example.org"), "denied denied"),
        ("MAIL", Some("530 5.7.0 log in"), "denied denied"),
        ("DATA", Some("554 5.6.0 no"), "never rejected"),
        ("DONE", Some("552 5.3.4 too large"), "never rejected"),
        ("DONE", Some("451 4.3.0 later"), "later failed"),
        ("DONE", None, "later unknown"),
        ("EHLO", None, "later "),
        ("RCPT", Some("not smtp"), "later unknown"),
    ];
    for (at, reply, expected) in cases {
        let (port, _) = server(at, reply).await;
        let error = smtp(port, false).deliver(&outgoing("x", None, true)).await.unwrap_err();
        let word = match &error {
            DeliverError::Later { .. } => "later",
            DeliverError::Denied { .. } => "denied",
            DeliverError::Never { .. } => "never",
            other => panic!("{other}"),
        };
        let shown = error.to_string();
        assert!(format!("{word} {shown}").starts_with(expected), "{at} {reply:?}: {word} {shown}");
        assert!(!shown.contains("ana@"), "{shown}");
    }
    let error = smtp(1, false).deliver(&outgoing("x", None, true)).await.unwrap_err();
    assert!(error.to_string().starts_with("connect"), "{error}");
}
