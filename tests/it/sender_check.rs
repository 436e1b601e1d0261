//! Our own check of senders: what the judgement must not take, what no mail can make us do, and a DNS that answers, lies still or
//! is dead. The signed mails of the corpus, made by other programs, say the rest.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mail_auth::common::crypto::Ed25519Key;
use mail_auth::common::headers::HeaderWriter;
use mail_auth::dkim::{Canonicalization, DkimSigner};
use omnigate::app::resolver::SystemDns;
use omnigate::connector::mail::{self, MailContext, large, proof};
use omnigate::model::dns::{Answers, TxtAnswer};
use omnigate::model::item::ItemBody;
use omnigate::model::time::Time;
use omnigate::pipeline::lookups::Lookups;
use omnigate::ports::dns::Dns as _;
use serde_json::Value;

use crate::support::daemon::{Daemon, Setup};
use crate::support::dns::{Dns, Says};
use crate::support::dovecot::{Dovecot, PASSWORD};
use crate::support::http1;
use crate::support::mails;
use crate::support::pulling::WallClock;
use crate::support::receiver::Receiver;

const MAIL: &str = "From: ana@example.org\r\nTo: support@acme.example\r\nSubject: Order\r\n\r\nWhere is it?\r\n";

fn now() -> Time {
    omnigate::ports::clock::Clock::now(&WallClock)
}

/// A key and what the DNS says about it.
fn key() -> (Ed25519Key, Vec<u8>) {
    use base64::Engine as _;
    let key = Ed25519Key::from_pkcs8_maybe_unchecked_der(&Ed25519Key::generate_pkcs8().unwrap()).unwrap();
    let public = base64::engine::general_purpose::STANDARD.encode(key.public_key());
    (key, format!("v=DKIM1; k=ed25519; p={public}").into_bytes())
}

/// Judges with one key and a policy of example.org.
fn judged(mail: &str, record: Vec<u8>) -> proof::Proof {
    let known = [
        ("k._domainkey.example.org", TxtAnswer::Records(vec![record])),
        ("_dmarc.example.org", TxtAnswer::Records(vec![b"v=DMARC1; p=reject".to_vec()])),
        ("_dmarc.org", TxtAnswer::Nothing),
    ];
    let txt = known.into_iter().map(|(name, answer)| (name.to_owned(), answer)).collect();
    proof::check(mail.as_bytes(), now(), None, &Answers { at: now(), txt })
}

#[test]
fn a_signature_that_does_not_cover_from_is_not_believed() {
    let (key, record) = key();
    let signature = DkimSigner::from_key(key).domain("example.org").selector("k").headers(["Subject", "To"]).sign(MAIL.as_bytes()).unwrap();
    let found = judged(&format!("{}{MAIL}", signature.to_header()), record);
    assert_eq!((found.dkim, found.signatures[0].why), ("permerror", Some("from_not_signed")));
}

#[test]
fn a_signature_for_somebody_outside_of_its_domain_is_not_believed() {
    let (key, record) = key();
    let signer = DkimSigner::from_key(key).domain("example.org").selector("k").headers(["From", "Subject"]);
    let signature = signer.agent_user_identifier("@acme.example").sign(MAIL.as_bytes()).unwrap();
    let found = judged(&format!("{}{MAIL}", signature.to_header()), record);
    assert_eq!((found.dkim, found.signatures[0].why), ("permerror", Some("identity_outside_domain")));
}

#[test]
fn two_policies_at_one_name_are_none() {
    let (key, record) = key();
    let signature = DkimSigner::from_key(key).domain("example.org").selector("k").headers(["From"]).sign(MAIL.as_bytes()).unwrap();
    let mail = format!("{}{MAIL}", signature.to_header());
    assert_eq!(judged(&mail, record.clone()).dmarc, Some("pass"));
    let two = TxtAnswer::Records(vec![b"v=DMARC1; p=reject".to_vec(), b"v=DMARC1; p=none".to_vec()]);
    let txt =
        [("k._domainkey.example.org", TxtAnswer::Records(vec![record])), ("_dmarc.example.org", two), ("_dmarc.org", TxtAnswer::Nothing)];
    let txt = txt.into_iter().map(|(name, answer)| (name.to_owned(), answer)).collect();
    assert_eq!(proof::check(mail.as_bytes(), now(), None, &Answers { at: now(), txt }).dmarc, Some("none"));
}

#[test]
fn a_key_that_is_gone_since_long_proves_nothing() {
    let (key, _) = key();
    let signature = DkimSigner::from_key(key).domain("example.org").selector("k").headers(["From"]).sign(MAIL.as_bytes()).unwrap();
    let mail = format!("{}{MAIL}", signature.to_header());
    let policy = ("_dmarc.example.org".to_owned(), TxtAnswer::Records(vec![b"v=DMARC1; p=reject".to_vec()]));
    let gone = ("k._domainkey.example.org".to_owned(), TxtAnswer::Nothing);
    let answers = Answers { at: now(), txt: [policy, gone, ("_dmarc.org".to_owned(), TxtAnswer::Nothing)].into() };
    let judged = |received: Time| proof::check(mail.as_bytes(), received, Some("mailer.example"), &answers).dmarc;
    assert_eq!(judged(now()), Some("fail"));
    assert_eq!(judged(Time(now().0 - 30 * 24 * 3600 * 1000)), None, "keys are taken away after a while");
}

#[test]
fn no_mail_makes_us_ask_for_much_or_judge_for_long() {
    let signature = |n: usize, h: &str| format!("DKIM-Signature: v=1; a=rsa-sha256; d=d{n}.example.org; s=s; h={h}; bh=YQ==; b=YQ==\r\n");
    let deep = format!("From: a@{}example.org\r\n", "a.".repeat(100));
    let many_fields: String = (0..4_000).map(|n| format!("X-{n}: y\r\n")).collect();
    let covered: String = (0..100_000).map(|n| format!("f{n}:")).collect();
    let hostile = [
        (0..4_500).map(|n| signature(n, "from")).collect::<String>() + MAIL,
        signature(0, &format!("from:{covered}")) + &many_fields + MAIL,
        (0..200).map(|n| signature(n, &format!("from:{}", "x:".repeat(2_000)))).collect::<String>() + MAIL,
        signature(1, "from") + &deep + "\r\nx",
        format!("{}{}", signature(1, "from"), "From: a@b.example\r\n".repeat(4_000)) + "\r\nx",
        format!("From: a@{}\r\nDKIM-Signature: d={};s=x;h=from;b=YQ==;bh=YQ==\r\n\r\nx", "ü".repeat(5_000), "é.".repeat(5_000)),
    ];
    for (n, mail) in hostile.iter().enumerate() {
        let start = Instant::now();
        let names = proof::asks(mail.as_bytes(), now());
        assert!(names.len() <= 64 && names.iter().all(|name| name.len() <= 253), "mail {n}: {} names", names.len());
        let found = proof::check(mail.as_bytes(), now(), Some("example.org"), &Answers { at: now(), txt: Default::default() });
        assert!(found.signatures.len() <= 16, "mail {n}: {} signatures told", found.signatures.len());
        assert!(start.elapsed() < Duration::from_secs(3), "mail {n}: {:?}", start.elapsed());
    }
}

/// A mail of this many lines under a signature of example.org, with both kinds of body.
fn signed(key: Ed25519Key, form: Canonicalization, lines: usize) -> String {
    let head = "From: ana@example.org\r\nSubject: Large\r\nContent-Type: application/octet-stream; name=a.bin\r\n\r\n";
    let line = "abc \t def  \r\n";
    let mail = format!("{head}{}\r\n\r\n", line.repeat(lines));
    let signer = DkimSigner::from_key(key).domain("example.org").selector("k").headers(["From", "Subject"]).body_canonicalization(form);
    format!("{}{mail}", signer.sign(mail.as_bytes()).unwrap().to_header())
}

#[test]
fn a_mail_that_passes_by_is_judged_as_the_whole_would_be() {
    for form in [Canonicalization::Simple, Canonicalization::Relaxed] {
        let (key, record) = key();
        let mail = signed(key, form, 500_000);
        assert!(mail.len() > 5_000_000);
        let changed = mail.replacen("abc \t def  \r\n", "abd \t def  \r\n", 1);
        let header_changed = mail.replacen("Subject: Large", "Subject: Huge", 1);
        let known = [
            ("k._domainkey.example.org", TxtAnswer::Records(vec![record])),
            ("_dmarc.example.org", TxtAnswer::Records(vec![b"v=DMARC1; p=reject".to_vec()])),
            ("_dmarc.org", TxtAnswer::Nothing),
        ];
        let answers = Answers { at: now(), txt: known.into_iter().map(|(name, answer)| (name.to_owned(), answer)).collect() };
        let context = MailContext { verify_senders: true, ..mails::context() };
        // With Ed25519 the library does not tell a changed header from a key that cannot be used.
        for (mail, dkim, verified) in [(mail, "pass", true), (changed, "fail", false), (header_changed, "permerror", false)] {
            let mail = bytes::Bytes::from(mail);
            let mut pieces = |at: u64| {
                let at = usize::try_from(at).unwrap().min(mail.len());
                Ok(mail.slice(at..mail.len().min(at + 300_007)))
            };
            let passed = large::read(&mails::raw(1, bytes::Bytes::new()), &context, Some(&answers), &mut pieces).unwrap();
            let whole = mail::read_with(&mails::raw(1, mail.clone()), &context, Some(&answers));
            assert_eq!(format!("{passed:?}"), format!("{whole:?}"), "{form:?}");
            let ItemBody::Message(message) = passed.body else { panic!("{form:?}") };
            let found = message.authentication.unwrap();
            assert_eq!((found.dkim.as_deref(), found.verified), (Some(dkim), verified), "{form:?}");
        }
    }
}

#[test]
fn what_is_not_checked_is_said() {
    let context = MailContext { verify_senders: true, ..mails::context() };
    let ItemBody::Message(message) = mail::read_with(&mails::raw(1, MAIL), &context, None).body else { panic!() };
    assert_eq!(message.extra["mail"]["sender_check"], serde_json::json!({"checked": false}));
}

fn resolver(address: SocketAddr, bound: Duration) -> SystemDns {
    SystemDns::new(&[address], bound).unwrap()
}

#[tokio::test]
async fn the_resolver_tells_apart_what_is_there_what_is_not_and_what_is_not_known() {
    let dns = Dns::start();
    let long = "x".repeat(3_000);
    dns.says("two.example", Says::Texts(vec!["a".to_owned(), format!("b{}", "c".repeat(300))]));
    dns.text("long.example", &long);
    dns.says("silent.example", Says::Silence);
    dns.says("broken.example", Says::Failure);
    let asked = resolver(dns.address, Duration::from_secs(1));
    let two = TxtAnswer::Records(vec![b"a".to_vec(), format!("b{}", "c".repeat(300)).into_bytes()]);
    assert_eq!(asked.txt("two.example").await, two);
    assert_eq!(asked.txt("long.example").await, TxtAnswer::Records(vec![long.into_bytes()]), "cut by UDP, whole by TCP");
    assert_eq!(asked.txt("none.example").await, TxtAnswer::Nothing);
    assert_eq!(asked.txt("silent.example").await, TxtAnswer::Unknown);
    assert_eq!(asked.txt("broken.example").await, TxtAnswer::Unknown);
    let before = dns.asked();
    assert_eq!(asked.txt("two.example").await, two);
    assert_eq!(dns.asked(), before, "what is known is not asked for again");
}

#[tokio::test]
async fn a_dead_resolver_costs_no_more_than_the_bound() {
    // Bound and not listening: nobody answers, and no error comes back either.
    let mute = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for (what, address) in [("mute", mute.local_addr().unwrap()), ("closed", crate::support::daemon::free_address())] {
        let bound = Duration::from_millis(700);
        let lookups = Lookups::new(Arc::new(resolver(address, bound)), Arc::new(WallClock), bound);
        let start = Instant::now();
        let names: BTreeSet<String> = (0..200).map(|n| format!("n{n}.example")).collect();
        let answers = lookups.ask(names).await;
        assert!(answers.txt.values().all(|answer| *answer == TxtAnswer::Unknown), "{what}");
        assert!(start.elapsed() < bound * 3, "{what}: {:?}", start.elapsed());
    }
}

/// A gateway over a mailbox, with senders checked by this DNS.
fn setup(dovecot: &Dovecot, dns: SocketAddr, url: &str) -> Setup {
    let mut setup = Setup::all_to(url);
    setup.rest.push_str(&format!("[dns]\nresolvers = [\"{dns}\"]\ntimeout = \"1s\"\n"));
    let channel = format!(
        "connector = \"imap\"\n[settings]\nverify_senders = true\n[secrets]\npassword = {{ env = \"MAIL_PASSWORD\" }}\n[imap]\n\
         host = \"127.0.0.1\"\nport = {}\ntls = \"none\"\nuser = \"support\"\nfirst_run = \"backfill\"\npoll_interval = \"1s\"\n",
        dovecot.port
    );
    setup.channels.insert("mail".to_owned(), channel);
    setup.env.insert("MAIL_PASSWORD".to_owned(), PASSWORD.to_owned());
    setup
}

/// A mail of the corpus, and its names in the DNS.
fn corpus(name: &str, dns: &Dns) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mail");
    let zone: serde_json::Map<String, Value> =
        serde_json::from_slice(&std::fs::read(folder.join(format!("{name}.dns.json"))).unwrap()).unwrap();
    for (name, value) in zone {
        if let Some(text) = value.pointer("/0").and_then(Value::as_str) {
            dns.text(&name, text);
        }
    }
    std::fs::read(folder.join(format!("{name}.eml"))).unwrap()
}

#[tokio::test]
async fn what_the_check_finds_is_in_the_event_and_a_silent_dns_loses_and_stops_nothing() {
    let Some(dovecot) = Dovecot::start() else { return };
    let (dns, receiver) = (Dns::start(), Receiver::start().await);
    let proven = corpus("349-signed-rsa", &dns);
    let unknown = String::from_utf8(proven.clone()).unwrap().replace("d=example.org", "d=silent.example").replace("4711", "4712");
    for name in ["k1._domainkey.silent.example", "_dmarc.silent.example"] {
        dns.says(name, Says::Silence);
    }
    // Too large to be held: its body passes by.
    let (own, record) = key();
    dns.text("k._domainkey.example.org", &String::from_utf8(record).unwrap());
    let large = signed(own, Canonicalization::Relaxed, 500_000);
    dovecot.deliver("support", [proven, unknown.into_bytes(), MAIL.as_bytes().to_vec(), large.into_bytes()]);
    let mut daemon = Daemon::start(setup(&dovecot, dns.address, &receiver.url())).await;
    daemon.ready().await;
    let created = |book: &crate::support::receiver::Book| book.events().iter().filter(|event| event["type"] == "message.created").count();
    receiver.wait_for("four mails", Duration::from_secs(60), |book| created(book) == 4).await;
    let book = receiver.book();
    let said = |subject: &str| {
        let events = book.events();
        let found = events.iter().find(|event| event["data"]["message"]["subject"] == subject).unwrap();
        found["data"]["message"]["authentication"].clone()
    };
    assert_eq!(said("Order 4711"), serde_json::json!({"spf": null, "dkim": "pass", "dmarc": "pass", "verified": true}));
    assert_eq!(said("Order 4712")["dkim"], "temperror");
    assert_eq!(said("Order 4712")["verified"], false);
    assert_eq!(said("Order")["dkim"], "none");
    assert_eq!((&said("Large")["dkim"], &said("Large")["verified"]), (&"pass".into(), &true.into()));
}

/// A gateway with two hooks of Postmark, one of which checks senders by this DNS.
fn hooks(dns: SocketAddr, url: &str) -> Setup {
    let mut setup = Setup::all_to(url);
    setup.rest.push_str(&format!("[dns]\nresolvers = [\"{dns}\"]\ntimeout = \"1s\"\n"));
    let channel = "connector = \"postmark\"\n[secrets]\ncredentials = { env = \"CREDENTIALS\" }\n";
    setup.channels.insert("checked".to_owned(), format!("{channel}[settings]\nverify_senders = true\n"));
    setup.channels.insert("plain".to_owned(), channel.to_owned());
    setup.env.insert("CREDENTIALS".to_owned(), "user:password".to_owned());
    setup
}

#[tokio::test]
async fn mails_inside_of_webhooks_are_checked_as_those_of_mailboxes_and_a_silent_dns_turns_none_away() {
    let (dns, receiver) = (Dns::start(), Receiver::start().await);
    let (own, record) = key();
    dns.text("k._domainkey.example.org", &String::from_utf8(record).unwrap());
    dns.text("_dmarc.example.org", "v=DMARC1; p=reject");
    dns.says("k._domainkey.silent.example", Says::Silence);
    let signer = DkimSigner::from_key(own).domain("example.org").selector("k").headers(["From", "Subject"]);
    let mail = |subject: &str| {
        let mail = MAIL.replace("Subject: Order", &format!("Subject: {subject}"));
        format!("{}{mail}", signer.sign(mail.as_bytes()).unwrap().to_header())
    };
    let daemon = Daemon::start(hooks(dns.address, &receiver.url())).await;
    let cases = [
        ("checked", "Proven", mail("Proven")),
        ("checked", "Lines", mail("Lines").replace("\r\n", "\n")),
        ("checked", "Changed", mail("Changed").replace("Where is it?", "Where is my money?")),
        ("checked", "Silent", mail("Silent").replace("d=example.org", "d=silent.example")),
        ("plain", "Unchecked", mail("Unchecked")),
    ];
    for (channel, subject, mail) in &cases {
        let body = serde_json::json!({"MessageID": subject, "OriginalRecipient": "help@in.example.org", "RawEmail": mail}).to_string();
        // user:password
        let headers = [("content-type", "application/json"), ("authorization", "Basic dXNlcjpwYXNzd29yZA==")];
        let request = http1::request("POST", &format!("/hooks/{channel}"), &headers, body.as_bytes());
        let start = Instant::now();
        let answer = http1::Wire::connect(daemon.public).await.unwrap().exchange(&request).await.unwrap();
        assert_eq!(answer.status(), 200, "{subject}");
        eprintln!("{subject}: answered after {:?}", start.elapsed());
    }
    let created = |book: &crate::support::receiver::Book| book.events().iter().filter(|event| event["type"] == "message.created").count();
    receiver.wait_for("five mails", Duration::from_secs(60), |book| created(book) == cases.len()).await;
    let book = receiver.book();
    let events = book.events();
    let message = |subject: &str| {
        let found = events.iter().find(|event| event["data"]["message"]["subject"] == subject).unwrap();
        found["data"]["message"].clone()
    };
    for subject in ["Proven", "Lines"] {
        let proven = serde_json::json!({"spf": null, "dkim": "pass", "dmarc": "pass", "verified": true});
        assert_eq!(message(subject)["authentication"], proven, "{subject}");
    }
    assert_eq!(
        (&message("Changed")["authentication"]["dkim"], &message("Changed")["authentication"]["verified"]),
        (&"fail".into(), &false.into())
    );
    assert_eq!(
        (&message("Silent")["authentication"]["dkim"], &message("Silent")["authentication"]["verified"]),
        (&"temperror".into(), &false.into())
    );
    assert_eq!(message("Unchecked")["authentication"], Value::Null, "whose channel does not ask for it");
    assert!(message("Unchecked")["extra"].get("mail").is_none_or(|mail| mail.get("sender_check").is_none()));
}
