//! The binary and a real Dovecot: large mails, several at once, and what they take of memory.

use std::time::{Duration, Instant};

use crate::support::daemon::{Daemon, ROUTE_ALL, Setup, memory_kib};
use crate::support::dovecot::{Dovecot, PASSWORD};
use crate::support::mailgen;
use crate::support::receiver::Receiver;

/// Bytes of the file in each mail; with base64 the mail has a third more.
const FILE_BYTES: usize = 34_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_large_mails_at_once_on_two_channels_take_less_memory_than_one_of_them_has() {
    let Some(dovecot) = Dovecot::start() else { return };
    let receiver = Receiver::start().await;
    let mut setup = Setup::default();
    setup.destination("crm", &receiver.url(), "");
    setup.rest.push_str(ROUTE_ALL);
    for user in ["ana", "bob"] {
        let channel = format!(
            "connector = \"imap\"\n[secrets]\npassword = {{ env = \"MAIL_PASSWORD\" }}\n[imap]\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\n\
             user = \"{user}\"\npoll_interval = \"1s\"\n",
            dovecot.port
        );
        setup.channels.insert(user.to_owned(), channel);
        dovecot.deliver(user, [mailgen::with_attachment(1, 1000)]);
    }
    setup.env.insert("MAIL_PASSWORD".to_owned(), PASSWORD.to_owned());
    let daemon = Daemon::start(setup).await;
    for user in ["ana", "bob"] {
        daemon.channel_running(user).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = memory_kib(daemon.pid(), "VmRSS");
    let mails: Vec<_> = (0..4).map(|seed| mailgen::with_attachment(10 + seed, FILE_BYTES)).collect();
    for (number, mail) in mails.iter().enumerate() {
        dovecot.deliver(["ana", "bob"][number % 2], [mail]);
    }
    let from = Instant::now();
    while daemon.scrape().await.sum("omnigate_items", &[("fate", "published")]) < 4 {
        assert!(from.elapsed() < Duration::from_secs(180), "they do not come:\n{}", daemon.log_end(20));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let more = memory_kib(daemon.pid(), "VmHWM").saturating_sub(before);
    let one = mails[0].len() as u64 / 1024;
    eprintln!("four mails of {one} KiB: at most {more} KiB more, {:?}", from.elapsed());
    assert!(more < one, "{more} KiB more than the {before} KiB before; one mail has {one} KiB");
    // What was taken in is what was sent.
    daemon.settled(Duration::from_secs(30)).await.identities_hold();
    let book = receiver.book();
    let sizes: Vec<u64> = book
        .events()
        .into_iter()
        .filter(|event| event["type"] == "message.created")
        .map(|event| event["data"]["message"]["attachments"][0]["bytes"].as_u64().unwrap())
        .collect();
    assert_eq!(sizes, [FILE_BYTES as u64; 4]);
}
