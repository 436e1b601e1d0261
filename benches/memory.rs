//! Resident memory: idle with a webhook and a mail channel, and at most while 50 MB mails come in: one, and then four more.
//!
//! `cargo bench --bench memory`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::time::{Duration, Instant};

use support::daemon::{Daemon, memory_kib};
use support::mailbox::{Mailbox, USER};
use support::{Goal, Spread, argument, heading, mailgen, row};

fn main() {
    support::block_on(async {
        let runs = argument("--runs", 3);
        // Base64 and line ends make 50 MB of it, just below the default `mail_bytes_max`.
        let mail = mailgen::with_attachment(1, 36_500_000);
        heading(&format!("memory: one mail of {:.1} MB, {runs} runs", mail.len() as f64 / 1e6));
        let (mut idle, mut during, mut during_four) = (Vec::new(), Vec::new(), Vec::new());
        let more: Vec<_> = (2..6).map(|seed| mailgen::with_attachment(seed, 36_500_000)).collect();
        for _ in 0..runs {
            let mailbox = Mailbox::with(mailgen::generate(1, 10));
            let mut setup = mailbox.setup(mailbox.dovecot.tls_port, "from_now");
            setup.with_whatsapp();
            let daemon = Daemon::start(setup).await;
            daemon.channel_running("mail").await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            let before = memory_kib(daemon.pid(), "VmRSS");
            mailbox.dovecot.deliver(USER, [&mail]);
            let from = Instant::now();
            let mut most = before;
            while daemon.scrape().await.sum("omnigate_items_received_total", &[]) < 1 {
                most = most.max(memory_kib(daemon.pid(), "VmHWM"));
                assert!(from.elapsed() < Duration::from_secs(120), "the mail does not come:\n{}", daemon.log_end(20));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            most = most.max(memory_kib(daemon.pid(), "VmHWM"));
            idle.push(before as f64 / 1024.0);
            during.push((most - before) as f64 / 1024.0);
            mailbox.dovecot.deliver(USER, &more);
            while daemon.scrape().await.sum("omnigate_items_received_total", &[]) < 5 {
                assert!(from.elapsed() < Duration::from_secs(300), "the mails do not come:\n{}", daemon.log_end(20));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            during_four.push((memory_kib(daemon.pid(), "VmHWM") - before) as f64 / 1024.0);
        }
        row("idle", Spread::of(idle), "MiB", Some((Goal::AtMost, 25.0)));
        row("more during one 50 MB mail", Spread::of(during), "MiB", Some((Goal::AtMost, 60.0)));
        row("more during four in a row", Spread::of(during_four), "MiB", Some((Goal::AtMost, 60.0)));
    });
}
