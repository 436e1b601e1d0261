//! Bluesky's own servers: people write by its own client, the gateway asks, its session ends and is continued, it is killed in between, and
//! at the destination every mention, answer and quote is there once.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::support::bluesky::{Bluesky, People};
use crate::support::daemon::{Daemon, ROUTE_ALL, Setup, quick_schedule};
use crate::support::receiver::{Book, Delivery, Receiver};

const PATIENCE: Duration = Duration::from_secs(90);
/// Mentions while the gateway is away: more than one page holds.
const MEANWHILE: usize = 110;

fn setup(receiver: &Receiver, bluesky: &Bluesky, did: &str, password: String) -> Setup {
    let mut setup = Setup::default();
    setup.destination("crm", &receiver.url(), "");
    setup.rest.push_str(ROUTE_ALL);
    setup.rest.push_str(&quick_schedule());
    let channel = format!(
        "connector = \"bluesky\"\nmode = \"poll\"\naccount = \"{did}\"\n[settings]\nhandle = \"acme-desk.test\"\npds = \"{}\"\ninterval = \"1s\"\n\
         [secrets]\napp_password = {{ env = \"BLUESKY_APP_PASSWORD\" }}\n",
        bluesky.pds
    );
    setup.channels.insert("social".to_owned(), channel);
    setup.env.insert("BLUESKY_APP_PASSWORD".to_owned(), password);
    setup
}

fn created(book: &Book) -> Vec<&Delivery> {
    book.taken().into_iter().filter(|one| one.event_type == "message.created").collect()
}

/// Waits for so many messages, then asserts that each text came once.
async fn came_once(receiver: &Receiver, daemon: &Daemon, texts: &[String]) {
    receiver.wait_for("every message", PATIENCE, |book| created(book).len() >= texts.len()).await;
    daemon.settled(PATIENCE).await.identities_hold();
    receiver.no_complaints();
    let book = receiver.book();
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    created(&book).iter().for_each(|one| *count.entry(one.text("/message/text")).or_default() += 1);
    let wrong: Vec<_> = texts.iter().filter(|text| count.get(text.as_str()) != Some(&1)).collect();
    assert!(wrong.is_empty() && count.len() == texts.len(), "missing or doubled: {wrong:?}; {count:?}");
}

/// The bytes of a post's text that a mention covers.
fn mentioned(post: &Value, text: &str) -> String {
    let place = |name: &str| usize::try_from(post["facets"][0]["index"][name].as_u64().unwrap()).unwrap();
    text[place("byteStart")..place("byteEnd")].to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mentions_answers_and_quotes_on_a_real_pds_come_once_over_expired_sessions_and_kills() {
    let Some(bluesky) = Bluesky::start("4s") else { return };
    let mut people = People::of(&bluesky);
    let receiver = Receiver::start().await;
    let did = people.join("acme-desk");
    let zoe = people.join("zoe-c");
    let password = people.password("acme-desk");
    let news = people.post("acme-desk", "Wir haben neue Öffnungszeiten");
    let old = people.post("zoe-c", "@acme-desk.test before anybody listened");
    people.like("acme-desk", &old);
    let mut daemon = Daemon::start(setup(&receiver, &bluesky, &did, password)).await;
    daemon.channel_running("social").await;
    let looked = async || {
        while bluesky.asked_by_gateway("app.bsky.notification.listNotifications") < 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looked()).await.expect("a first look");

    // Of every kind; what is before the mention is longer in bytes than in letters.
    let mut texts: Vec<String> =
        ["Grüß dich 👋 @acme-desk.test, wo ist meine Bestellung?", "Auch sonntags?", "Endlich!"].map(str::to_owned).into();
    let mention = people.post("zoe-c", &texts[0]);
    assert_eq!(mentioned(&mention, &texts[0]), "@acme-desk.test", "facets count bytes");
    let answer = people.answer("zoe-c", &news, &texts[1]);
    people.quote("zoe-c", &news, &texts[2]);
    people.like("zoe-c", &news);
    came_once(&receiver, &daemon, &texts).await;

    // Our own answer is nobody's message; hers to it belongs to the same thread.
    let ours = people.answer("acme-desk", &answer, "Ja, bis zwölf");
    texts.push("Danke! ❤".to_owned());
    people.answer("zoe-c", &ours, &texts[3]);
    came_once(&receiver, &daemon, &texts).await;
    {
        let book = receiver.book();
        let said = |text: &String| created(&book).into_iter().find(|one| one.text("/message/text") == text).unwrap();
        let kinds: Vec<&str> = texts.iter().map(|text| said(text).text("/message/kind")).collect();
        assert_eq!(kinds, ["mention", "comment", "mention", "comment"]);
        let first = said(&texts[0]);
        assert_eq!(first.text("/message/from/address"), format!("bluesky:{zoe}"));
        assert_eq!((first.text("/message/from/handle"), first.text("/message/from/name")), ("zoe-c.test", "ZOE-C"));
        assert_eq!(first.text("/message/external_id"), mention["uri"].as_str().unwrap());
        assert_eq!(said(&texts[3]).conversation, said(&texts[1]).conversation, "one thread, one conversation");
        assert_eq!(said(&texts[3]).text("/message/in_reply_to/external_id"), ours["uri"].as_str().unwrap());
        assert_ne!(first.conversation, said(&texts[1]).conversation);
    }

    // The access token ended meanwhile, and again and again.
    let refreshed = async || {
        while bluesky.asked_by_gateway("com.atproto.server.refreshSession") < 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refreshed()).await.expect("a session is continued");
    daemon.kill();
    for number in 0..MEANWHILE {
        texts.push(format!("@acme-desk.test meanwhile {number}"));
        people.post("zoe-c", &texts[texts.len() - 1]);
    }
    daemon.launch();
    daemon.ready().await;
    // And dies while it asks for what it missed.
    daemon.kill();
    daemon.launch();
    daemon.ready().await;
    came_once(&receiver, &daemon, &texts).await;
    texts.push("@acme-desk.test after".to_owned());
    people.post("zoe-c", &texts[texts.len() - 1]);
    came_once(&receiver, &daemon, &texts).await;
    assert_eq!(bluesky.asked_by_gateway("com.atproto.server.createSession"), 1, "over both deaths the one session goes on");
    assert_eq!(daemon.get("/v1/status").await["channels"]["social"]["state"], "running");
    let log = daemon.log_text();
    assert!(!log.contains("zoe-c") && !log.contains("eyJ"), "I7");
}
