//! Names of senders that a platform tells only when asked: in the message if they come at once, later if not, and never at the cost of the message.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, Setup};
use crate::support::media_server::MediaServer;
use crate::support::own_chat;
use crate::support::receiver::Receiver;

const ENRICH: &str = r#"
[enrich]
request = { get = "{settings.api}/who/{sender.id}", auth = "bot" }
map = '{name, also: [.mail | strings | "email:\(.)"]}'
rate = "3/1h"
wait = "300ms"
"#;

const MAP: &str = r#"(.items // [.])[] | {kind: "message", key: .id, from: {address: "chat:\(.from)"}, text: .id}"#;

async fn say(daemon: &Daemon, id: &str, from: &str) -> Duration {
    tell(daemon, &json!({"id": id, "from": from})).await
}

async fn tell(daemon: &Daemon, body: &Value) -> Duration {
    let started = Instant::now();
    let answer = own_chat::call(daemon, body).await;
    assert!(answer.success(), "{}", answer.start);
    started.elapsed()
}

async fn world() -> (Daemon, MediaServer, Receiver) {
    let platform = MediaServer::start(None).await;
    let receiver = Receiver::start().await;
    let mut setup = Setup::all_to(&receiver.url());
    setup.own_chat("", &[("api", platform.url(""))], ENRICH, MAP);
    let daemon = Daemon::start(setup).await;
    (daemon, platform, receiver)
}

#[tokio::test]
async fn names_come_with_the_message_or_later_and_the_budget_holds() {
    let (daemon, platform, receiver) = world().await;

    say(&daemon, "a1", "ana").await;
    say(&daemon, "a2", "ana").await;
    assert!(say(&daemon, "b1", "bob").await < Duration::from_millis(1_400), "a slow platform delays nobody");
    say(&daemon, "c1", "cai").await;
    say(&daemon, "c2", "cai").await;
    say(&daemon, "d1", "dia").await;
    let all = |book: &crate::support::receiver::Book| book.taken().len() == 7;
    receiver.wait_for("six messages and one contact", Duration::from_secs(20), all).await;

    let events: Vec<Value> = receiver.book().taken().iter().map(|delivery| delivery.event.clone()).collect();
    let name = |id: &str| {
        let event = events.iter().find(|event| event["data"]["message"]["text"] == id).unwrap();
        (event["data"]["message"]["from"]["name"].clone(), event["data"]["contact"]["addresses"].clone())
    };
    for id in ["a1", "a2"] {
        assert_eq!(name(id), (json!("Ana Example"), json!(["chat:ana", "email:ana@example.org"])));
    }
    assert_eq!(name("b1").0, Value::Null);
    let learnt = events.iter().find(|event| event["type"] == "contact.updated").unwrap();
    assert_eq!(learnt["data"]["contact"]["name"], "Bob Example");
    assert_eq!((name("c1").0, name("d1").0), (Value::Null, Value::Null));
    let asked: Vec<usize> = ["ana", "bob", "cai", "dia"].iter().map(|who| platform.count(&format!("/who/{who}"))).collect();
    assert_eq!(asked, [1, 1, 1, 0], "once each, and within the budget");
    receiver.no_complaints();
}

#[tokio::test]
async fn a_slow_answer_costs_the_names_of_no_others_in_the_same_request() {
    let (daemon, _platform, receiver) = world().await;
    tell(&daemon, &json!({"items": [{"id": "b1", "from": "bob"}, {"id": "a1", "from": "ana"}]})).await;
    let all = |book: &crate::support::receiver::Book| book.taken().len() == 3;
    receiver.wait_for("two messages and one contact", Duration::from_secs(20), all).await;
    let events: Vec<Value> = receiver.book().taken().iter().map(|delivery| delivery.event.clone()).collect();
    let ana = events.iter().find(|event| event["data"]["message"]["text"] == "a1").unwrap();
    assert_eq!(ana["data"]["message"]["from"]["name"], "Ana Example");
    let learnt = events.iter().find(|event| event["type"] == "contact.updated").unwrap();
    assert_eq!(learnt["data"]["contact"]["name"], "Bob Example");
    receiver.no_complaints();
}
