//! Reading mails: mails and megabytes a second on one core, beside bare mail-parser on the same mails in the same run, and the
//! memory one 50 MB mail needs beyond its own bytes.
//!
//! `cargo bench --bench mail`; `MAILS=10000` for more of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use omnigate::connector::html;
use omnigate::connector::mail::{self, MailContext, MailLimits, PARSE_STACK_BYTES};
use omnigate::logic::digest::Digester;
use omnigate::model::event::{Channel, Priority};
use omnigate::model::id::RawId;
use omnigate::model::item::{ChannelFacts, ItemBody};
use omnigate::model::raw::{Raw, RawHead, Via};
use omnigate::model::time::Time;

#[path = "../tests/it/support/mailgen.rs"]
mod mailgen;

const ROUNDS: usize = 5;

fn main() {
    let bench = std::thread::Builder::new().stack_size(PARSE_STACK_BYTES).spawn(run).unwrap();
    bench.join().unwrap();
}

fn run() {
    let context = context();
    memory(&context);
    let n = std::env::var("MAILS").ok().and_then(|text| text.parse().ok()).unwrap_or(2000);
    let raws: Vec<Raw> = mailgen::generate(7, n).into_iter().enumerate().map(|(n, body)| raw(n, body)).collect();
    let bytes: usize = raws.iter().map(|raw| raw.body.len()).sum();
    println!("{n} mails, {:.1} MB, median of {ROUNDS} rounds, one core", bytes as f64 / 1e6);
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(timed(|| raws.iter().for_each(|raw| drop(black_box(mail::read(raw, &context))))));
        bare.push(timed(|| {
            raws.iter().for_each(|raw| drop(black_box(mail_parser::MessageParser::default().parse(raw.body.as_ref()))));
        }));
    }
    let (ours, bare) = (median(ours), median(bare));
    report("mail::read, items with hashes, HTML, reply text", n, bytes, ours);
    report("bare mail-parser 0.11", n, bytes, bare);
    println!("ratio to bare mail-parser: {:.2}", bare.as_secs_f64() / ours.as_secs_f64());
    if std::env::var_os("STEPS").is_some() {
        steps(&raws, &context);
    }
}

/// Where the time goes.
fn steps(raws: &[Raw], context: &MailContext) {
    let step = |name: &str, work: &dyn Fn(&Raw)| {
        let spent = timed(|| raws.iter().for_each(work));
        println!("  {name}: {:.1} µs a mail", spent.as_secs_f64() * 1e6 / raws.len() as f64);
    };
    let scans: BTreeMap<RawId, mail::Scan> = raws.iter().map(|raw| (raw.id, mail::prescan(&raw.body, &context.limits).unwrap())).collect();
    step("prescan", &|raw| drop(black_box(mail::prescan(&raw.body, &context.limits))));
    step("content hash", &|raw| {
        black_box(mail::canon::hash(&raw.body, &scans[&raw.id], None));
    });
    step("all", &|raw| drop(black_box(mail::read(raw, context))));
    let messages: Vec<_> = raws
        .iter()
        .filter_map(|raw| match mail::read(raw, context).body {
            ItemBody::Message(message) => Some(message),
            _ => None,
        })
        .collect();
    let on_messages = |name: &str, work: &dyn Fn(&omnigate::model::item::MessageItem)| {
        let spent = timed(|| messages.iter().for_each(|message| work(message)));
        println!("  {name}: {:.1} µs a mail", spent.as_secs_f64() * 1e6 / messages.len() as f64);
    };
    on_messages("reply text", &|message| drop(black_box(mail::reply::cut(message.text.as_deref().unwrap_or_default(), None))));
    on_messages("language", &|message| drop(black_box(mail::language::of(message.reply_text.as_deref().unwrap_or_default()))));
    on_messages("sanitise", &|message| drop(black_box(message.html.as_ref().map(|html| html::sanitise(html, 65536)))));
}

/// Peak of the resident memory while a mail with one large attachment is read, beyond what was there before.
fn memory(context: &MailContext) {
    let body = mailgen::with_attachment(1, 37 * 1024 * 1024);
    let raw = raw(0, body);
    let size = raw.body.len();
    let Some(before) = peak_after_reset() else { return println!("memory: not measured on this system") };
    let item = mail::read(&raw, context);
    let after = resident("VmHWM").unwrap_or_default();
    let ItemBody::Message(message) = item.body else { panic!("the large mail is no message") };
    let file = &message.attachments[0].public;
    println!(
        "one mail of {:.1} MB with an attachment of {:.1} MB ({}): peak memory + {} kB beyond its bytes",
        size as f64 / 1e6,
        file.bytes.unwrap_or_default() as f64 / 1e6,
        file.reason.as_deref().unwrap_or("stored"),
        after.saturating_sub(before)
    );
}

/// Resets the peak and gives it, kB. Linux only.
fn peak_after_reset() -> Option<u64> {
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    resident("VmHWM")
}

fn resident(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn report(name: &str, n: usize, bytes: usize, spent: Duration) {
    let seconds = spent.as_secs_f64();
    println!(
        "{name}: {:.0} mails/s, {:.0} MB/s, {:.1} µs a mail",
        n as f64 / seconds,
        bytes as f64 / 1e6 / seconds,
        seconds * 1e6 / n as f64
    );
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

fn raw(n: usize, body: Vec<u8>) -> Raw {
    Raw {
        id: RawId(n as u128),
        source: "support".to_owned(),
        via: Via::Imap,
        received_at: Time(1_795_338_843_000),
        head: RawHead::default(),
        body: Bytes::from(body),
    }
}

fn context() -> MailContext {
    MailContext {
        digester: Digester::new(&[7; 32]),
        channel: Arc::new(ChannelFacts {
            public: Channel { id: "support".to_owned(), connector: "imap".to_owned(), labels: BTreeMap::new() },
            priority: Priority::Normal,
            new_after_ms: None,
            back: None,
        }),
        namespace: mail::NAMESPACE.to_owned(),
        account: String::new(),
        signed_replies: false,
        agents: Vec::new(),
        mailboxes: Vec::new(),
        authserv_ids: Vec::new(),
        vouched: None,
        verify_senders: false,
        historic: false,
        limits: MailLimits { attachment_bytes_max: 100 * 1024 * 1024, ..MailLimits::default() },
    }
}
