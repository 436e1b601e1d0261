//! A thousand mailboxes in one process, over TLS, all in IDLE: how long it takes until they listen, what they cost while nothing
//! happens, and how soon a mail that one of them announces is delivered.
//!
//! `cargo bench --bench idle_mailboxes -- --count 1000 --mails 300`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::time::{Duration, Instant};

use support::daemon::{Daemon, ROUTE_ALL, Setup, memory_kib};
use support::sink::Sink;
use support::small_imap::SmallImap;
use support::{Goal, Spread, argument, cpu, heading, row};

fn main() {
    support::block_on(async {
        let (count, mails) = (argument("--count", 1_000), argument("--mails", 300));
        heading(&format!("{count} idle mailboxes over TLS, {mails} mails announced one by one"));
        let folder = tempfile::tempdir().unwrap();
        let server = SmallImap::start(folder.path()).await;
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, &server.ca_pem).unwrap();
        let sink = Sink::start("mail").await;
        let mut setup = Setup::default();
        setup.destination("crm", &sink.url(), "");
        setup.rest.push_str(ROUTE_ALL);
        setup.rest.push_str("[logs]\nlevel = \"warn\"\n");
        for number in 0..count {
            let channel = format!(
                "connector = \"imap\"\n[secrets]\npassword = {{ env = \"MAIL_PASSWORD\" }}\n[imap]\nhost = \"localhost\"\nport = {}\n\
                 ca_file = \"{}\"\nuser = \"user{number}@example.org\"\n",
                server.port,
                ca_file.display()
            );
            setup.channels.insert(format!("mail{number}"), channel);
        }
        setup.env.insert("MAIL_PASSWORD".to_owned(), "secret".to_owned());
        let mut daemon = Daemon::prepare(setup);
        let from = Instant::now();
        daemon.launch();
        while server.idling() < count {
            assert!(from.elapsed() < Duration::from_secs(180), "{} of {count} idle:\n{}", server.idling(), daemon.log_end(20));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let start = from.elapsed();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (before, resting) = (cpu(daemon.pid()), Instant::now());
        tokio::time::sleep(Duration::from_secs(20)).await;
        let load = (cpu(daemon.pid()) - before).as_secs_f64() / resting.elapsed().as_secs_f64();
        let memory = memory_kib(daemon.pid(), "VmRSS") as f64 / 1024.0;

        let mut told = Vec::with_capacity(mails);
        for number in 0..mails {
            let mail = format!(
                "From: Ana <ana@example.org>\r\nTo: support@example.org\r\nDate: Fri, 17 Jul 2026 02:44:25 +0000\r\nSubject: Order {number}\r\n\
                 Message-ID: <{number}@example.org>\r\n\r\nWhere is my order? wamid.mail.{number} It should have been here on Monday.\r\n"
            );
            told.push(server.put(&format!("user{}@example.org", number * 7 % count), mail.as_bytes()));
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        sink.wait(mails, Duration::from_secs(60)).await;
        let mut spans: Vec<f64> = (0..mails).map(|number| (sink.arrival(number).unwrap() - told[number]).as_secs_f64() * 1e3).collect();
        spans.sort_by(f64::total_cmp);
        let at = |part: f64| Spread::of(vec![spans[((spans.len() - 1) as f64 * part) as usize]]);
        row("from the start to all in IDLE", Spread::of(vec![start.as_secs_f64()]), "s", None);
        row("resident memory, all idle", Spread::of(vec![memory]), "MiB", Some((Goal::AtMost, 200.0)));
        row("CPU while idle", Spread::of(vec![load * 100.0]), "%", None);
        row("announced to delivered, p50", at(0.5), "ms", Some((Goal::AtMost, 20.0)));
        row("announced to delivered, p99", at(0.99), "ms", None);
    });
}
