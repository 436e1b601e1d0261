//! Two desks whose programs answer every mail: what our side of it lets through, whatever the other side marks or leaves out. Each
//! round is a real mail through the reader and the guard; only time is made up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use omnigate::connector::mail::{self, MailContext, own};
use omnigate::logic::digest::Digester;
use omnigate::model::address::Address;
use omnigate::model::event::Automated;
use omnigate::model::item::{Item, ItemBody, MessageItem};
use omnigate::model::key::KeyDigest;
use omnigate::model::raw::Raw;
use omnigate::model::time::Time;
use omnigate::pipeline::limits::{self, LimitRules, Limits, Waiting};
use omnigate::pipeline::loops::LoopGuard;
use omnigate::ports::clock::Clock as _;
use omnigate::telemetry::metrics::Metrics;
use serde_json::json;

use crate::support::mails;
use crate::support::pulling::WallClock;

const START: i64 = 1_795_338_843_000;
const HOUR: i64 = 3_600_000;

fn read(context: &MailContext, text: &str, at: i64) -> MessageItem {
    let raw = Raw { received_at: Time(at), ..mails::raw(1, text.to_owned()) };
    match mail::read(&raw, context).body {
        ItemBody::Message(message) => *message,
        other => panic!("{other:?}"),
    }
}

/// What a program writes back: as little as the worst of them.
type Answer = fn(to: &MessageItem, number: usize) -> String;

fn ping(_: &MessageItem, number: usize) -> String {
    format!(
        "Return-Path: <desk@other.example>\r\nFrom: desk@other.example\r\nTo: support@acme.example\r\nSubject: Re: Order #{number}\r\nIn-Reply-To: <a{number}@acme.example>\r\n\
         Message-ID: <p{number}@other.example>\r\n\r\nThank you for your mail. Ticket {number}.\r\n"
    )
}

fn bounce(_: &MessageItem, number: usize) -> String {
    format!(
        "Return-Path: <>\r\nFrom: MAILER-DAEMON@other.example\r\nTo: support@acme.example\r\nSubject: Undelivered Mail Returned to Sender\r\n\
         Message-ID: <b{number}@other.example>\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=x\r\n\r\n--x\r\n\r\n\
         No such user.\r\n--x\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; other.example\r\n\r\n\
         Final-Recipient: rfc822; gone@other.example\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n--x--\r\n"
    )
}

/// What happened in a day of a desk that answers whatever it is told, and is answered after a second each time.
struct Day {
    told: usize,
    automated: usize,
    held: usize,
}

/// Our desk answers what it is told when it is told; `minds`: it leaves automated mails alone.
fn day(answer: Answer, minds: bool) -> Day {
    let context = mails::context();
    let guard = LoopGuard::new(20, Duration::from_secs(3_600));
    let mut day = Day { told: 0, automated: 0, held: 0 };
    // Mails on their way to us, by arrival.
    let first =
        "From: desk@other.example\r\nTo: support@acme.example\r\nSubject: Order\r\nMessage-ID: <p0@other.example>\r\n\r\nHello.\r\n";
    let mut coming = BTreeMap::from([(START, first.to_owned())]);
    let mut number = 0;
    while let Some((at, text)) = coming.pop_first().filter(|(at, _)| *at < START + 24 * HOUR) {
        let mut message = read(&context, &text, at);
        guard.look(&mut message, Time(at));
        day.automated += usize::from(message.automated.is_some());
        day.held += usize::from(message.hold.is_some());
        day.told += 1;
        if minds && message.automated.is_some() {
            continue;
        }
        number += 1;
        let told_at = message.hold.map_or(at, |hold| hold.until.0);
        coming.insert(told_at + 1_000, answer(&message, number));
    }
    day
}

#[test]
fn two_programs_that_answer_each_other_end_after_a_burst() {
    let found = day(ping, true);
    assert!((20..=25).contains(&found.told), "{} mails", found.told);
    assert_eq!(found.automated, 1, "the last one is told as automated");
}

#[test]
fn a_receiver_that_minds_nothing_is_slowed_down_to_the_rate() {
    let found = day(ping, false);
    assert!(found.told <= 20 + 24 * 20 + 5, "{} mails a day instead of 86,400", found.told);
    assert!(
        found.told >= 24 * 20 - 5 && found.held >= found.told - 25,
        "slowed down, not stopped: {} mails, {} held",
        found.told,
        found.held
    );
}

#[test]
fn two_gateways_that_answer_each_others_bounces_are_slowed_down() {
    let found = day(bounce, true);
    assert!(found.told <= 2 && found.automated == found.told - 1, "a bounce is told as one: {} mails", found.told);
    let found = day(bounce, false);
    assert!(found.told <= 20 + 24 * 20 + 5, "{} bounces a day instead of 86,400", found.told);
}

#[test]
fn forms_alarms_and_bounces_of_many_people_are_no_loop() {
    let context = mails::context();
    let guard = LoopGuard::new(20, Duration::from_secs(3_600));
    let many: [fn(usize) -> String; 3] = [
        |n| format!("From: forms@shop.example\r\nSubject: Contact form\r\nMessage-ID: <f{n}@shop.example>\r\n\r\n{n}\r\n"),
        |n| format!("From: alarm@host{}.example\r\nSubject: Disk full: {n}\r\nMessage-ID: <d{n}@x.example>\r\n\r\n{n}\r\n", n % 2),
        |n| ping_bounce(n),
    ];
    for make in many {
        for n in 0..500 {
            let mut message = read(&context, &make(n), START + n as i64);
            assert!(!guard.look(&mut message, Time(START + n as i64)) && message.hold.is_none(), "mail {n} is held");
        }
    }
}

fn ping_bounce(n: usize) -> String {
    format!(
        "Return-Path: <>\r\nFrom: MAILER-DAEMON@mx.example\r\nTo: support@acme.example\r\nSubject: failure notice\r\nX-Failed-Recipients: user{}@other.example\r\n\
         Message-ID: <x{n}@mx.example>\r\n\r\nNo such user.\r\n",
        n * 7
    )
}

#[test]
fn a_backlog_of_answers_of_many_hours_is_no_loop() {
    let (context, guard) = (mails::context(), LoopGuard::new(20, Duration::from_secs(3_600)));
    let now = Time(START + 100 * HOUR);
    for n in 0..100 {
        let mut message = read(&context, &ping(&read(&context, "Subject: x\r\n\r\nx", START), n), START + n as i64 * HOUR);
        assert!(!guard.look(&mut message, now), "answer {n} came hours after the one before");
    }
    let mut message = read(&context, &ping(&read(&context, "Subject: x\r\n\r\nx", START), 1), START);
    message.historic = true;
    assert!((0..100).all(|_| !guard.look(&mut message, now)), "a backfill is no loop");
}

#[tokio::test]
async fn mails_inside_of_webhooks_are_slowed_down_like_those_of_mailboxes_and_chats_are_not() {
    let (clock, metrics) = (Arc::new(WallClock), Metrics::new());
    let rules = LimitRules { mail_loops: Some((20, Duration::from_secs(3_600))), ..LimitRules::default() };
    let limits = Limits::new(&rules, clock.clone());
    let context = mails::context();
    let now = clock.now();
    for (kind, expected) in [("email", 10), ("text", 0)] {
        let mut items: Vec<Item> = (0..30)
            .map(|number| {
                let first = read(&context, "From: a@b.example\r\n\r\nx", now.0);
                let mut message = read(&context, &ping(&first, number), now.0);
                message.kind = kind.to_owned();
                Item { channel: context.channel.clone(), key: None, body: ItemBody::Message(Box::new(message)) }
            })
            .collect();
        let waiting = Waiting { clock: &*clock, metrics: &metrics, deadline: None };
        limits::pace(&mut items, |_| Some(&limits), now, waiting).await.unwrap();
        let held = items.iter().filter(|item| matches!(&item.body, ItemBody::Message(message) if message.hold.is_some())).count();
        let told =
            items.iter().filter(|item| matches!(&item.body, ItemBody::Message(message) if message.automated == Some(Automated::System)));
        assert_eq!((held, told.count()), (expected, expected), "{kind}");
    }
}

#[test]
fn a_mail_that_passed_too_many_servers_is_told_as_going_round() {
    let context = mails::context();
    let mail = |hops: usize| {
        format!("{}From: a@b.example\r\nSubject: x\r\n\r\nx", "Received: from a by b; Sun, 22 Nov 2026 09:00:00 +0000\r\n".repeat(hops))
    };
    let at = |hops| read(&context, &mail(hops), START);
    assert_eq!(at(context.limits.hops_max).automated, None);
    let over = at(context.limits.hops_max + 1);
    assert_eq!(over.automated, Some(Automated::System));
    assert!(over.extra["mail"]["flags"].as_array().unwrap().contains(&json!("too_many_hops")));
}

#[test]
fn what_our_side_sent_is_known_when_it_comes_back_and_a_forged_mark_is_not() {
    let context = mails::context();
    let key = KeyDigest([5; 16]);
    let mail = |token: &str| format!("From: a@b.example\r\nX-Omnigate-Loop: {token}\r\nSubject: Re: x\r\n\r\nx");
    let address = own::reply_address(&Address::parse("email:support@acme.example").unwrap(), key, &context.digester).unwrap();
    let token = address.split('@').next().unwrap().split_once('+').unwrap().1.to_owned();
    assert_eq!(read(&context, &mail(&token), START).automated, Some(Automated::System));
    let forged = read(&context, &mail(&own::token(key, &Digester::new(&[9; 32]))), START);
    assert_eq!(forged.automated, None);
    assert!(forged.extra["mail"]["flags"].as_array().unwrap().contains(&json!("forged_own_id")));
}
