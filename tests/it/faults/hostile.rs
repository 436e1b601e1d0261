//! Payloads and clients that mean harm: deep, huge, slow, endless.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::faults::{PATIENCE, all_is_well, ledger, message, post_all, receiver_and_setup};
use crate::support::daemon::{Daemon, memory_kib};
use crate::support::http1::{self, Wire};
use crate::support::whatsapp;

#[tokio::test]
async fn json_nested_100_000_deep_is_never_mapped_and_the_daemon_lives() {
    let (receiver, setup) = receiver_and_setup().await;
    let daemon = Daemon::start(setup).await;
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        let unclosed = open.repeat(100_000);
        for body in [deep, unclosed] {
            // Authentic, so it is kept: a platform would send it again and again after a 4xx.
            let answer = daemon.post(body.as_bytes()).await.expect("an answer");
            assert_eq!(answer.status(), 200);
            // From anybody else it is refused before it is read.
            let unsigned = http1::once(daemon.public, "POST", "/hooks/shop", &[], body.as_bytes()).await.expect("an answer");
            assert_eq!(unsigned.status(), 401);
        }
    }
    let rows = ledger(&daemon, "").await;
    assert_eq!(rows.len(), 4, "{rows:#?}");
    assert!(rows.iter().all(|row| row["fate"] == "quarantined" && row["code"] == "too_deep"), "{rows:#?}");
    post_all(&daemon, 1, 0..1).await;
    all_is_well(&daemon, &receiver, 1).await;
}

#[tokio::test]
async fn body_of_100_mb_is_refused_413_without_being_kept_in_memory() {
    let (receiver, setup) = receiver_and_setup().await;
    let daemon = Daemon::start(setup).await;
    post_all(&daemon, 1, 0..1).await;
    let before = memory_kib(daemon.pid(), "VmHWM");

    let declared = http1::request("POST", "/hooks/shop", &[("x-hub-signature-256", "sha256=00")], &[]);
    let declared = String::from_utf8(declared).unwrap().replace("content-length: 0", "content-length: 100000000").into_bytes();
    let chunked = b"POST /hooks/shop HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for (head, chunks) in [(declared, false), (chunked, true)] {
        assert_eq!(pour(&daemon, &head, chunks).await, Some(413));
    }
    let grown = memory_kib(daemon.pid(), "VmHWM").saturating_sub(before);
    assert!(grown < 24 << 10, "grew by {grown} KiB");
    assert_eq!(ledger(&daemon, "").await.len(), 1);
    all_is_well(&daemon, &receiver, 1).await;
}

/// Writes a head and up to 100 MB of body; returns the status of the answer, which may come long before the end.
async fn pour(daemon: &Daemon, head: &[u8], chunked: bool) -> Option<u16> {
    let stream = TcpStream::connect(daemon.public).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let head = head.to_vec();
    let pouring = tokio::spawn(async move {
        writing.write_all(&head).await?;
        let block = vec![b'a'; 1 << 16];
        for _ in 0..(100 << 20) / block.len() {
            if chunked {
                writing.write_all(b"10000\r\n").await?;
            }
            writing.write_all(&block).await?;
            if chunked {
                writing.write_all(b"\r\n").await?;
            }
        }
        std::io::Result::Ok(())
    });
    let mut answer = vec![0; 512];
    let count = tokio::time::timeout(PATIENCE, reading.read(&mut answer)).await.expect("an answer in time").unwrap_or(0);
    pouring.abort();
    String::from_utf8_lossy(&answer[..count]).split(' ').nth(1)?.parse().ok()
}

#[tokio::test]
async fn slow_loris_is_cut_and_keeps_nobody_waiting() {
    let (receiver, mut setup) = receiver_and_setup().await;
    setup.server = "request_timeout = \"1s\"\nconnections_max = 64".to_owned();
    let daemon = Daemon::start(setup).await;
    let body = message(0, 1);
    let whole = whatsapp::request("shop", &body);
    // Half of them dawdle within the head, the others within the body.
    let mut slow = Vec::new();
    for number in 0..40 {
        let mut stream = TcpStream::connect(daemon.public).await.unwrap();
        let part = if number % 2 == 0 { 20 } else { whole.len() - body.len() / 2 };
        stream.write_all(&whole[..part]).await.unwrap();
        slow.push((stream, whole[part..].to_vec()));
    }
    let from = Instant::now();
    let dawdlers = slow.into_iter().map(|(mut stream, rest)| {
        tokio::spawn(async move {
            for byte in rest {
                tokio::time::sleep(Duration::from_millis(200)).await;
                if stream.write_all(&[byte]).await.is_err() || from.elapsed() > PATIENCE {
                    break;
                }
                let mut answer = [0; 256];
                match stream.try_read(&mut answer) {
                    Ok(0) => break,
                    Ok(_) => assert!(!answer.starts_with(b"HTTP/1.1 2"), "a dawdler was served"),
                    Err(_) => {}
                }
            }
            from.elapsed()
        })
    });
    let dawdlers: Vec<_> = dawdlers.collect();
    let before = Instant::now();
    post_all(&daemon, 2, 0..5).await;
    assert!(before.elapsed() < Duration::from_secs(8), "others waited {:?}", before.elapsed());
    for dawdler in dawdlers {
        let span = dawdler.await.unwrap();
        assert!(span < Duration::from_secs(8), "cut only after {span:?}");
    }
    all_is_well(&daemon, &receiver, 5).await;
}

#[tokio::test]
async fn map_that_never_ends_quarantines_its_payload_and_delays_nobody_else() {
    let (receiver, mut setup) = receiver_and_setup().await;
    let endless = "connector = \"generic\"\nverify = \"none\"\nmap = 'last(range(1e15)) | {kind: \"message\"}'\n";
    setup.channels.insert("endless".to_owned(), endless.to_owned());
    let daemon = Daemon::start(setup).await;
    let body = br#"{"text": "hello"}"#;
    let headers = [("content-type", "application/json")];
    let from = Instant::now();
    let endless = async {
        let mut wire = Wire::connect(daemon.public).await.unwrap();
        for _ in 0..3 {
            let answer = wire.exchange(&http1::request("POST", "/hooks/endless", &headers, body)).await.unwrap();
            assert_eq!(answer.status(), 200, "kept, so the platform need not send it again: {}", answer.text());
        }
    };
    tokio::join!(endless, post_all(&daemon, 1, 0..10));
    assert!(from.elapsed() < Duration::from_secs(20), "{:?}", from.elapsed());

    let rows = ledger(&daemon, "&fate=quarantined").await;
    assert!(!rows.is_empty() && rows.iter().all(|row| row["code"] == "mapping_budget"), "{rows:#?}");
    let listed = daemon.get("/v1/quarantine").await;
    let raw = daemon.get(&format!("/v1/raws/{}", listed["items"][0]["raw"].as_str().unwrap())).await;
    assert_eq!(raw["text"], "hello", "the bytes are kept");
    all_is_well(&daemon, &receiver, 10).await;
}
