//! Backfill of a Dovecot mailbox over TLS, parsed, normalized, deduplicated and durable, against mbsync in its fastest
//! setting (no fsync, no COMPRESS) on the same mailbox; what a client gets that decrypts everything and keeps nothing, which is the most
//! that the server gives to one connection on this machine; and the backfill over a link with 30 ms round trip.
//!
//! `cargo bench --bench imap_backfill -- --runs 3 --count 10000 --megabytes 540`: these are the defaults. It takes two times as many
//! megabytes of memory, and of disk one time for each run and two more. `--only mbsync`, `sink`, `near`
//! or `far` runs one of the four alone, for a look at where its time goes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use rustls::pki_types::pem::PemObject as _;
use support::daemon::Daemon;
use support::dovecot::PASSWORD;
use support::mailbox::{Mailbox, USER, long_way};
use support::{Goal, Spread, argument, cpu, heading, mailgen, row, word};

fn main() {
    support::block_on(async {
        let (runs, count) = (argument("--runs", 3), argument("--count", 10_000));
        let mut mails = mailgen::generate(1, count);
        fill_up(&mut mails, argument("--megabytes", count * 54 / 1000) * 1_000_000);
        let bytes: usize = mails.iter().map(Vec::len).sum();
        heading(&format!("imap backfill: {count} mails, {:.0} MB, TLS, {runs} runs", bytes as f64 / 1e6));
        let mailbox = Mailbox::with(mails);
        let near = mailbox.dovecot.tls_port;
        let far = long_way(([127, 0, 0, 1], near).into(), Duration::from_millis(30)).await;
        let only = word("--only");
        let wanted = |what: &str| only.as_deref().is_none_or(|only| only == what);
        let (mut most, mut peer, mut ours, mut costs, mut ratios, mut distant) = (vec![], vec![], vec![], vec![], vec![], vec![]);
        let mut kept = Vec::new();
        for _ in 0..runs {
            if wanted("mbsync") {
                come_to_rest().await;
                kept.push(tempfile::tempdir().unwrap());
                peer.push(count as f64 / mbsync(&mailbox, &kept[kept.len() - 1]).as_secs_f64());
            }
            if wanted("sink") {
                come_to_rest().await;
                most.push(count as f64 / sink(&mailbox).await.as_secs_f64());
            }
            if wanted("near") {
                come_to_rest().await;
                let (span, cost) = backfill(&mailbox, near, count).await;
                ours.push(count as f64 / span.as_secs_f64());
                costs.push(cost.as_secs_f64() * 1e6 / count as f64);
            }
            if let (Some(ours), Some(peer)) = (ours.last(), peer.last()) {
                ratios.push(ours / peer);
            }
            if wanted("far") {
                come_to_rest().await;
                distant.push(count as f64 / backfill(&mailbox, far, count).await.0.as_secs_f64());
            }
        }
        let row = |what: &str, values: Vec<f64>, unit: &str, goal| {
            if !values.is_empty() {
                row(what, Spread::of(values), unit, goal);
            }
        };
        row("mbsync, FSync no", peer, "msg/s", None);
        row("a client that keeps nothing", most, "msg/s", None);
        row("omnigate backfill, durability power", ours, "msg/s", None);
        row("  CPU per mail", costs, "µs", None);
        row("  ÷ mbsync", ratios, "", Some((Goal::AtLeast, 1.5)));
        row("omnigate at 30 ms round trip", distant, "msg/s", Some((Goal::AtLeast, 1000.0)));
    });
}

/// Makes photos of one mail in a hundred, so that all have so many bytes: a support mailbox has more of them than the generator.
fn fill_up(mails: &mut [Vec<u8>], bytes: usize) {
    let have: usize = mails.iter().map(Vec::len).sum();
    let places = mails.len().div_ceil(100).max(1);
    // Base64 and its line ends.
    let photo = bytes.saturating_sub(have) / places * 73 / 100;
    if photo > 0 {
        for (seed, mail) in mails.iter_mut().step_by(100).enumerate() {
            *mail = mailgen::with_attachment(1_000_000 + seed as u64, photo);
        }
    }
}

/// Lets the disk come to rest, so that none pays for what the one before it left: half a gigabyte that is not written yet.
async fn come_to_rest() {
    let synced = Command::new("sync").status().expect("coreutils");
    assert!(synced.success());
    tokio::time::sleep(Duration::from_secs(6)).await;
}

/// From the start of the process to everything admitted, and the CPU it took.
async fn backfill(mailbox: &Mailbox, port: u16, count: usize) -> (Duration, Duration) {
    let mut daemon = Daemon::prepare(mailbox.setup(port, "backfill"));
    let from = Instant::now();
    daemon.launch();
    daemon.ready().await;
    loop {
        let received = daemon.scrape().await.sum("omnigate_items_received_total", &[]);
        if received >= count as u64 {
            return (from.elapsed(), cpu(daemon.pid()));
        }
        assert!(from.elapsed() < Duration::from_secs(300), "{received} of {count}:\n{}", daemon.log_end(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One question for all mails, whose answer is decrypted and thrown away.
async fn sink(mailbox: &Mailbox) -> Duration {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls::pki_types::CertificateDer::pem_slice_iter(mailbox.dovecot.ca_pem.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let tcp = tokio::net::TcpStream::connect(("127.0.0.1", mailbox.dovecot.tls_port)).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)).connect(name, tcp).await.unwrap();
    let questions = format!("a LOGIN {USER} {PASSWORD}\r\nb EXAMINE INBOX\r\nc UID FETCH 1:* (UID BODY.PEEK[])\r\nd LOGOUT\r\n");
    let from = Instant::now();
    stream.write_all(questions.as_bytes()).await.unwrap();
    let (mut piece, mut end) = (vec![0; 256 << 10], Vec::new());
    loop {
        let count = stream.read(&mut piece).await.unwrap_or(0);
        if count == 0 {
            break;
        }
        end.extend_from_slice(&piece[count.saturating_sub(200)..count]);
        end.drain(..end.len().saturating_sub(400));
    }
    let span = from.elapsed();
    let end = String::from_utf8_lossy(&end);
    assert!(end.contains("\nc OK ") && end.contains("\nd OK "), "the server did not give all: {end}");
    span
}

/// Into `folder`, which is kept until all runs are over: ext4 gives no inode away that was freed in the last minutes, and passes over all of
/// them in every search for a free one. Who makes ten thousand files where ten thousand were removed takes twice the time.
fn mbsync(mailbox: &Mailbox, folder: &tempfile::TempDir) -> Duration {
    let at = folder.path().display();
    // An empty line ends a section.
    let config = format!(
        "FSync no\n\nIMAPAccount it\nHost localhost\nPort {}\nUser {USER}\nPass secret\nSSLType IMAPS\nCertificateFile {}\n\n\
         IMAPStore far\nAccount it\n\nMaildirStore near\nPath {at}/\nInbox {at}/inbox\n\n\
         Channel all\nFar :far:\nNear :near:\nSync Pull\nCreate Near\nSyncState *\n",
        mailbox.dovecot.tls_port,
        mailbox.ca_file().display()
    );
    let file = folder.path().join("mbsyncrc");
    std::fs::write(&file, config).unwrap();
    let from = Instant::now();
    let output = Command::new("mbsync").arg("-q").arg("-c").arg(&file).arg("-a").output().expect("needs mbsync (Debian: isync)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    from.elapsed()
}
