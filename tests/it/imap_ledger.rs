//! The hazards again, through the whole gateway: one daemon, a mailbox for each way a server can fail, and in the end the ledger and the
//! deliveries say of each that nothing was lost and nothing doubled.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::imap_hazards::{GARBAGE, rest_from, three};
use crate::imap_odd::CHATTER;
use crate::support::daemon::{Daemon, Setup};
use crate::support::imap_script::{ScriptedImap, bodies, body, examine, listing, login};
use crate::support::receiver::Receiver;

/// The server idles, and says nothing more.
const REST: &str = "C: IDLE\nS: + idling\nhang\n";
const ASKED: &str = "C: UID FETCH 1:3 (UID BODY.PEEK[])\n";

/// A mailbox: the sessions of its server, how many mails are told, how many are kept as unfetchable.
struct Case {
    name: String,
    sessions: Vec<String>,
    told: u64,
    quarantined: u64,
}

fn case(name: &str, sessions: Vec<String>) -> Case {
    Case { name: name.to_owned(), sessions, told: 3, quarantined: 0 }
}

/// The first session fails with `failure` behind the first mail; the second gives the rest one by one.
fn cut(name: &str, failure: &str) -> Case {
    let first = three(&format!("{ASKED}{}{failure}", body(1)));
    case(name, vec![first, rest_from(2, &[bodies("2", &[2]), bodies("3", &[3]), REST.to_owned()].concat())])
}

fn cases() -> Vec<Case> {
    let mut cases = vec![
        cut("closed", "cut\n"),
        cut("bye", "S: * BYE server shutting down\n"),
        cut("half-a-mail", "S: * 2 FETCH (UID 2 BODY[] {10}\nR: half\ncut\n"),
        cut("fetch-failed", "S: * 2 FETCH (UID 2)\nS: * BYE FETCH failed\n"),
    ];
    cases.extend(GARBAGE.iter().enumerate().map(|(number, garbage)| cut(&format!("garbage-{number}"), &format!("{garbage}\nhang\n"))));
    let chatter: String = CHATTER.iter().map(|line| format!("{line}\n")).collect();
    cases.push(case("chatter", vec![three(&format!("{ASKED}{}{chatter}{}{chatter}{}T: OK\n{REST}", body(1), body(2), body(3)))]));
    // A date that is none made the parser panic: the channel would have been dead until the next start.
    let undated = three(&[bodies("1:3", &[1, 2, 3]), REST.to_owned()].concat()).replace("\"17-Jul-2026 02:44:25 +0000\"", "NIL");
    cases.push(case("no-date", vec![undated]));
    let (listed, one_by_one) = (listing(2, 3, &[2, 3]), [bodies("2", &[2]), bodies("3", &[3])].concat());
    cases.push(case("no", vec![three(&format!("{ASKED}{}T: NO [SERVERBUG] sorry\n{listed}{one_by_one}{REST}", body(1)))]));
    let throttled = "T: BAD Request is throttled. Suggested Backoff Time: 700 milliseconds\n";
    let later = rest_from(2, &[&bodies("2:3", &[2, 3]), REST].concat());
    cases.push(case("throttled", vec![three(&format!("{ASKED}{}{throttled}", body(1))), later]));
    let huge = three(&format!("{ASKED}S: * 1 FETCH (UID 1 BODY[] {{600000000}}\nhang\n"));
    cases.push(case("huge-literal", vec![huge, three(&[bodies("1", &[1]), bodies("2:3", &[2, 3]), REST.to_owned()].concat())]));
    let flags = "S: * 9 FETCH (FLAGS (\\Seen))\nS: * 2 FETCH (UID 2 FLAGS (\\Seen))\n";
    let mixed = [body(3), flags.to_owned(), body(77), body(1), body(2)].concat();
    cases.push(case("not-asked-for", vec![three(&format!("{ASKED}{mixed}T: OK\n{REST}"))]));
    let gone = format!("S: * 2 FETCH (UID 2 BODY[] NIL)\n{}T: OK [EXPUNGEISSUED] some are gone\n", body(3));
    let proof = "C: NOOP\nS: * 2 EXPUNGE\nT: OK\nC: UID FETCH 2 (UID)\nT: OK\n";
    cases.push(Case { told: 2, ..case("expunged", vec![three(&format!("{ASKED}{}{gone}{proof}{REST}", body(1)))]) });
    let during = three(&format!("{ASKED}{}{}{}S: * 4 EXISTS\nT: OK\n", body(1), body(2), body(3)));
    let again = [examine(4, 7, 5), listing(4, 4, &[4]), bodies("4", &[4]), REST.to_owned()].concat();
    cases.push(Case { told: 4, ..case("exists", vec![during + &again]) });
    let dies = |set: &str| format!("C: UID FETCH {set} (UID BODY.PEEK[])\ncut\n");
    let header = "C: UID FETCH 1 (UID BODY.PEEK[HEADER]<0.262144>)\nS: * 1 FETCH (UID 1 BODY[HEADER]<0> {7}\nS: From: a)\nT: OK\n";
    let half = format!("{header}C: UID FETCH 1 (UID BODY.PEEK[TEXT]<0.65536>)\ncut\n");
    let sessions = [&dies("1:3"), &dies("1"), &dies("1"), &half].map(|rest| three(rest));
    let sessions = sessions.into_iter().chain([rest_from(2, &[&bodies("2:3", &[2, 3]), REST].concat())]).collect();
    cases.push(Case { told: 2, quarantined: 1, ..case("poison", sessions) });
    cases
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_servers_do_the_ledger_and_the_deliveries_have_each_mail_once() {
    let receiver = Receiver::start().await;
    let mut setup = Setup::all_to(&receiver.url());
    setup.env.insert("MAIL_PASSWORD".to_owned(), "secret".to_owned());
    let cases = cases();
    let mut servers = BTreeMap::new();
    for Case { name, sessions, .. } in &cases {
        let server = ScriptedImap::start(sessions.clone());
        // All mailboxes hold the same three mails.
        let channel = format!(
            "connector = \"imap\"\n[settings]\nduplicates = \"each\"\n[secrets]\npassword = {{ env = \"MAIL_PASSWORD\" }}\n[imap]\nhost = \"127.0.0.1\"\n\
             port = {}\ntls = \"none\"\nuser = \"{name}@acme.example\"\nfirst_run = \"backfill\"\npoll_interval = \"60s\"\n",
            server.port
        );
        setup.channels.insert(name.clone(), channel);
        servers.insert(name.clone(), server);
    }
    let daemon = Daemon::start(setup).await;
    let from = Instant::now();
    for Case { name, told, quarantined, .. } in &cases {
        loop {
            let scrape = daemon.scrape().await;
            let of = |fate: &str| scrape.sum("omnigate_items", &[("channel", name.as_str()), ("fate", fate)]);
            if (of("published"), of("quarantined")) == (*told, *quarantined) {
                break;
            }
            let found = (of("published"), of("quarantined"), of("duplicate"));
            assert!(from.elapsed() < Duration::from_secs(80), "{name}: {found:?}\n{}", daemon.log_end(40));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let scrape = daemon.settled(Duration::from_secs(20)).await;
    scrape.identities_hold();
    for fate in ["duplicate", "ignored", "pending"] {
        assert_eq!(scrape.sum("omnigate_items", &[("fate", fate)]), 0, "{fate}");
    }
    let mut delivered: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in receiver.book().events().iter().filter(|event| event["type"] == "message.created") {
        let (channel, subject) = (&event["data"]["channel"]["id"], &event["data"]["message"]["subject"]);
        delivered.entry(channel.as_str().unwrap().to_owned()).or_default().push(subject.as_str().unwrap().to_owned());
    }
    for Case { name, told, .. } in &cases {
        let expected: Vec<&str> = match name.as_str() {
            "expunged" => vec!["1", "3"],
            "poison" => vec!["2", "3"],
            _ => ["1", "2", "3", "4"].into_iter().take(usize::try_from(*told).unwrap()).collect(),
        };
        let mut found = delivered.remove(name).unwrap_or_default();
        found.sort();
        assert_eq!(found, expected, "{name}");
        servers[name].must_be_content();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_mail_in_two_mailboxes_is_one_message_and_another_under_its_message_id_is_another() {
    let receiver = Receiver::start().await;
    let mut setup = Setup::all_to(&receiver.url());
    setup.env.insert("MAIL_PASSWORD".to_owned(), "secret".to_owned());
    let mut servers = Vec::new();
    for (name, second) in [("sales", "Where is it?"), ("support", "And my invoice?")] {
        let mail = |text: &str| {
            let head = "Message-ID: <a@example.org>\r\nFrom: ana@example.org\r\nTo: sales@acme.example\r\nCc: support@acme.example";
            format!("Delivered-To: {name}@acme.example\r\n{head}\r\nSubject: Hi\r\n\r\n{text}\r\n")
        };
        let given = |uid: u32, mail: String| {
            format!("S: * {uid} FETCH (UID {uid} BODY[] {{{}}}\nS: {}\nS: )\n", mail.len() + 2, mail.replace("\r\n", "\nS: "))
        };
        let before = [login("IDLE"), examine(2, 7, 3), listing(1, 2, &[1, 2]), "C: UID FETCH 1:2 (UID BODY.PEEK[])\n".to_owned()].concat();
        let server =
            ScriptedImap::start(vec![[before, given(1, mail("Hello")), given(2, mail(second)), format!("T: OK\n{REST}")].concat()]);
        let channel = format!(
            "connector = \"imap\"\n[secrets]\npassword = {{ env = \"MAIL_PASSWORD\" }}\n[imap]\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\n\
             user = \"{name}@acme.example\"\nfirst_run = \"backfill\"\npoll_interval = \"60s\"\n",
            server.port
        );
        setup.channels.insert(name.to_owned(), channel);
        servers.push(server);
    }
    let daemon = Daemon::start(setup).await;
    let from = Instant::now();
    while daemon.scrape().await.sum("omnigate_items", &[]) < 4 {
        assert!(from.elapsed() < Duration::from_secs(60), "{}", daemon.log_end(40));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let scrape = daemon.settled(Duration::from_secs(20)).await;
    let of = |fate: &str| scrape.sum("omnigate_items", &[("fate", fate)]);
    // The copy in the other mailbox is no other message, but it is told where it lies, too.
    assert_eq!((of("published"), of("duplicate")), (4, 0));
    let book = receiver.book();
    let copies: Vec<_> = book.events().into_iter().filter(|event| event["type"] == "message.updated").collect();
    let [copy] = &copies[..] else { panic!("{copies:?}") };
    assert_eq!(copy["data"]["changed"], serde_json::json!(["to"]));
    let to = copy["data"]["to"].as_array().unwrap().iter();
    let mut mailboxes: Vec<&str> = to.filter(|one| one["role"] == "mailbox").map(|one| one["address"].as_str().unwrap()).collect();
    mailboxes.sort_unstable();
    assert_eq!(mailboxes, ["email:sales@acme.example", "email:support@acme.example"]);
    let told: Vec<_> = book.events().into_iter().filter(|event| event["type"] == "message.created").collect();
    let mut texts: Vec<&str> = told.iter().map(|event| event["data"]["message"]["text"].as_str().unwrap()).collect();
    texts.sort_unstable();
    assert_eq!(texts, ["And my invoice?", "Hello", "Where is it?"]);
    let conversations: std::collections::BTreeSet<&str> =
        told.iter().map(|event| event["data"]["conversation"]["id"].as_str().unwrap()).collect();
    assert_eq!(conversations.len(), 1, "one Message-ID, one conversation");
    servers.iter().for_each(ScriptedImap::must_be_content);
}
