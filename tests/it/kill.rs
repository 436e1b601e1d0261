//! SIGKILL at random moments under mixed load, a hundred times and more: the binary is started again on the same data, and
//! from outside nothing may be missing, doubled under two ids, or out of order (I1–I5, I9).
//!
//! `OMNIGATE_KILLS=n` asks for more rounds, `OMNIGATE_KILL_SEED=n` for the moments of an earlier run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::support::contract;
use crate::support::daemon::{Daemon, Setup, quick_schedule};
use crate::support::dice::Dice;
use crate::support::receiver::{Answer, Receiver};
use crate::support::{http1, whatsapp};

/// Customers who write at the same time; each waits for the 2xx of a message before writing the next.
const SENDERS: u64 = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_taken_is_lost_doubled_or_out_of_order_when_the_process_is_killed_at_random_moments() {
    let kills: u32 = std::env::var("OMNIGATE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    let mut dice = Dice::from_env("OMNIGATE_KILL_SEED");
    let receiver = Receiver::start().await;
    moody(&receiver, dice.roll());
    let mut setup = Setup::whatsapp_to(&receiver.url());
    setup.rest.push_str(&quick_schedule());
    let mailbox = mail::Box::open(&mut setup);
    let mut daemon = Daemon::start(setup).await;
    let mut mails = 0;
    if let Some(mailbox) = &mailbox {
        daemon.channel_running("mail").await;
        // The first look at the folder decides what `from_now` means, and writes it down. It follows the login at once, but
        // nothing tells when it is done: the mailbox rests a while, then the first mail proves it.
        tokio::time::sleep(Duration::from_secs(2)).await;
        mailbox.drop_mail(mails);
        mails += 1;
        receiver.wait_for("the first mail", Duration::from_secs(30), |book| !book.taken().is_empty()).await;
    }

    let load = Load::start(daemon.public, dice.roll());
    for round in 0..kills {
        let life = Duration::from_millis(dice.between(0, 250));
        let until = Instant::now() + life;
        if let Some(mailbox) = &mailbox {
            for _ in 0..dice.between(0, 4) {
                mailbox.drop_mail(mails);
                mails += 1;
            }
        }
        tokio::time::sleep(until.saturating_duration_since(Instant::now())).await;
        daemon.kill();
        daemon.launch();
        // Some kills hit the start itself: migration, recovery, the first connections.
        if dice.chance(80) {
            daemon.ready().await;
            daemon.scrape().await.identities_hold();
        }
        if round % 20 == 19 {
            eprintln!("{} kills, {} messages taken, {} events delivered", round + 1, load.taken(), receiver.taken());
        }
    }

    daemon.ready().await;
    let sent = load.stop().await;
    receiver.answer(Answer::Take);
    wait_for_all(&daemon, &receiver, &sent, mails).await;
    let scrape = daemon.settled(Duration::from_secs(30)).await;

    judge(&receiver, &sent, mails);
    scrape.identities_hold();
    for fate in ["pending", "quarantined"] {
        assert_eq!(scrape.sum("omnigate_items", &[("fate", fate)]), 0, "{fate}");
    }
    assert_eq!(
        scrape.sum("omnigate_items", &[("fate", "published")]),
        (sent.len() + mails) as u64,
        "published is what was sent, once each"
    );
    for state in ["dead", "discarded", "erased"] {
        assert_eq!(scrape.sum("omnigate_deliveries", &[("state", state)]), 0, "{state}");
    }
    let deliveries = receiver.book().deliveries.len();
    let events = receiver.taken();
    eprintln!(
        "{kills} kills: {} messages and {mails} mails, {} swallowed as duplicates, {} deliveries made for {} events",
        sent.len(),
        scrape.sum("omnigate_items", &[("fate", "duplicate")]),
        deliveries,
        events,
    );
}

/// A receiver that mostly takes, and now and then fails, dawdles, or cuts the connection after it took the event.
fn moody(receiver: &Receiver, seed: u64) {
    let mut dice = Dice::new(seed);
    receiver.plan(move |_| match dice.between(0, 100) {
        0..2 => Answer::status(500),
        2..5 => Answer::TakeAndCut,
        5..10 => Answer::TakeAfter(Duration::from_millis(30)),
        _ => Answer::Take,
    });
}

/// Customers at work.
struct Load {
    stop: watch::Sender<bool>,
    taken: Arc<AtomicU64>,
    senders: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(hook: std::net::SocketAddr, seed: u64) -> Self {
        let (stop, stopped) = watch::channel(false);
        let taken = Arc::new(AtomicU64::new(0));
        let senders = (0..SENDERS)
            .map(|sender| tokio::spawn(write_messages(hook, sender, Dice::new(seed ^ sender), stopped.clone(), taken.clone())))
            .collect();
        Self { stop, taken, senders }
    }

    fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Lets every customer finish the message at hand; returns the ids of all messages that got a 2xx, by customer in order.
    async fn stop(self) -> Vec<String> {
        self.stop.send(true).unwrap();
        let mut all = Vec::new();
        for sender in self.senders {
            all.extend(sender.await.unwrap());
        }
        all
    }
}

/// One customer: message after message, each posted again until it is taken, as the platform does. Some are posted once more
/// after that, and some twice at the same instant.
async fn write_messages(
    hook: std::net::SocketAddr,
    sender: u64,
    mut dice: Dice,
    stopped: watch::Receiver<bool>,
    taken: Arc<AtomicU64>,
) -> Vec<String> {
    let mut ids = Vec::new();
    while !*stopped.borrow() {
        let id = format!("wamid.{sender}.{}", ids.len());
        let request = whatsapp::request("shop", &whatsapp::body(&id, sender, &format!("message {}", ids.len())));
        let twin = dice.chance(10);
        if twin {
            let (one, two) = tokio::join!(post_until_taken(hook, &request), post_until_taken(hook, &request));
            let _ = (one, two);
        } else {
            post_until_taken(hook, &request).await;
        }
        if dice.chance(10) {
            post_until_taken(hook, &request).await;
        }
        ids.push(id);
        taken.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(dice.between(0, 15))).await;
    }
    ids
}

async fn post_until_taken(hook: std::net::SocketAddr, request: &[u8]) {
    let from = Instant::now();
    loop {
        let answer = http1::patient(async { http1::Wire::connect(hook).await?.exchange(request).await });
        if answer.await.is_ok_and(|answer| answer.success()) {
            return;
        }
        assert!(from.elapsed() < Duration::from_secs(60), "not taken for a minute");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until every message and every mail was taken by the receiver; says what is missing.
///
/// A mail whose reading was interrupted three times is quarantined as one that ends the process; so many kills bring innocent
/// ones there. It is kept whole, and a person has it read again: so does this.
async fn wait_for_all(daemon: &Daemon, receiver: &Receiver, sent: &[String], mails: usize) {
    let from = Instant::now();
    loop {
        let found: BTreeSet<String> = receiver.book().taken().iter().map(|delivery| name(delivery)).collect();
        let wanted = sent.iter().cloned().chain((0..mails).map(mail::subject));
        let missing: Vec<String> = wanted.filter(|name| !found.contains(name)).collect();
        if missing.is_empty() {
            return;
        }
        if from.elapsed() > Duration::from_secs(60) {
            let ledger = daemon.get("/v1/ledger?limit=20").await;
            panic!("{} of {} never came: {missing:?}\n{ledger:#}", missing.len(), sent.len() + mails);
        }
        for row in daemon.get("/v1/quarantine").await["items"].as_array().into_iter().flatten() {
            assert_eq!(row["code"], "mail_crashed", "{row:#}");
            let answer = daemon.admin("POST", &format!("/v1/quarantine/{}/reprocess", row["item"]), &serde_json::Value::Null).await;
            assert!(answer.success(), "{}", answer.text());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What identifies a message from outside: the platform's id, or the subject that the test gave a mail.
fn name(delivery: &crate::support::receiver::Delivery) -> String {
    let subject = delivery.text("/message/subject");
    if subject.is_empty() { delivery.text("/message/external_id").to_owned() } else { subject.to_owned() }
}

fn judge(receiver: &Receiver, sent: &[String], mails: usize) {
    receiver.no_complaints();
    let book = receiver.book();
    let mut ids: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let mut places: BTreeMap<&str, Vec<(u64, String)>> = BTreeMap::new();
    for delivery in book.taken() {
        contract::assert_valid(&delivery.event);
        ids.entry(name(delivery)).or_default().insert(&delivery.id);
        places.entry(&delivery.conversation).or_default().push((delivery.sequence, name(delivery)));
    }
    assert_eq!(ids.len(), sent.len() + mails, "events of things nobody sent, or something is missing");
    for (name, ids) in &ids {
        assert_eq!(ids.len(), 1, "{name} came under {ids:?}");
    }
    // A customer's messages stand in the conversation in the order in which they were written (I4).
    for (conversation, mut events) in places {
        events.sort();
        let numbers: Vec<u64> =
            events.iter().filter_map(|(_, name)| name.strip_prefix("wamid.")?.split('.').nth(1)?.parse().ok()).collect();
        assert!(numbers.is_sorted(), "{conversation}: {numbers:?}");
    }
}

/// The mailbox of the test: a real Dovecot, where there is one.
mod mail {
    use crate::support::daemon::Setup;
    use crate::support::dovecot::{Dovecot, PASSWORD};

    const USER: &str = "support";

    pub struct Box {
        dovecot: Dovecot,
        _ca: tempfile::TempDir,
    }

    impl Box {
        /// Starts the server and adds the channel `mail` that reads its mailbox; `None` without a server, loudly.
        pub fn open(setup: &mut Setup) -> Option<Self> {
            let dovecot = Dovecot::start()?;
            let ca = tempfile::tempdir().unwrap();
            let ca_file = ca.path().join("ca.pem");
            std::fs::write(&ca_file, &dovecot.ca_pem).unwrap();
            dovecot.deliver(USER, [mail("before the first run")]);
            let channel = format!(
                "connector = \"imap\"\n[secrets]\npassword = {{ env = \"MAIL_PASSWORD\" }}\n[imap]\nhost = \"localhost\"\nport = {}\n\
                 ca_file = \"{}\"\nuser = \"{USER}\"\npoll_interval = \"1s\"\n",
                dovecot.tls_port,
                ca_file.display()
            );
            setup.channels.insert("mail".to_owned(), channel);
            setup.env.insert("MAIL_PASSWORD".to_owned(), PASSWORD.to_owned());
            Some(Self { dovecot, _ca: ca })
        }

        pub fn drop_mail(&self, number: usize) {
            self.dovecot.deliver(USER, [mail(&subject(number))]);
        }
    }

    /// What a mail is found again by.
    pub fn subject(number: usize) -> String {
        format!("mail {number} of the kill test")
    }

    fn mail(subject: &str) -> String {
        let id = subject.replace(' ', ".");
        format!(
            "From: Ana <ana@example.org>\r\nTo: support@example.com\r\nSubject: {subject}\r\nMessage-ID: <{id}@example.org>\r\n\
             Date: Mon, 23 Nov 2026 08:00:00 +0000\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nText of {subject}.\r\n"
        )
    }
}
