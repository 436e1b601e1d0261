//! Discord's Gateway.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Line, PATIENCE, Peer, batch, drain, source};
use crate::model::codes::Code;
use crate::ports::feed::{Cursors, FeedSource};
use crate::ports::pull::PullError;

const DISCORD: &str = "kind = \"discord\"\ntake = '.t | startswith(\"MESSAGE_\")'\n";

async fn told(peer: &Peer, remaining: u32) -> String {
    let limit = json!({"total": 1000, "remaining": remaining, "reset_after": 14_400_000, "max_concurrency": 1});
    peer.answer("200 OK", &json!({"url": peer.socket_url(), "shards": 1, "session_start_limit": limit}).to_string()).await
}

fn message(number: u64) -> Value {
    json!({"op": 0, "t": "MESSAGE_CREATE", "s": number, "d": {"id": number.to_string()}})
}

/// Says hello, and gives what is answered beside heartbeats.
async fn greet(line: &mut Line, interval_ms: u64) -> Value {
    line.say(&json!({"op": 10, "d": {"heartbeat_interval": interval_ms}})).await;
    loop {
        let heard = line.hear(PATIENCE).await.expect("no identify");
        if heard["op"] != 1 {
            return heard;
        }
    }
}

async fn identified(peer: &Peer) -> Line {
    let head = told(peer, 900).await;
    assert!(head.starts_with("GET /gateway/bot") && head.contains("Bot b0t"), "{head}");
    let mut line = peer.socket().await;
    assert_eq!(line.target, "/?v=10&encoding=json");
    let identify = greet(&mut line, 60_000).await;
    assert_eq!((&identify["op"], &identify["d"]["token"], &identify["d"]["intents"]), (&json!(2), &json!("b0t"), &json!(37_377)));
    line.say(&json!({"op": 0, "t": "READY", "s": 1, "d": {"session_id": "s1", "resume_gateway_url": peer.socket_url()}})).await;
    line
}

#[tokio::test]
async fn a_restart_resumes_and_what_was_missed_comes_once() {
    let peer = Peer::new().await;
    let source = source(DISCORD, &peer.url, None);
    let mut cursors = Cursors::new();
    let script = async {
        let mut line = identified(&peer).await;
        line.say(&message(2)).await;
        line.say(&json!({"op": 0, "t": "TYPING_START", "s": 3, "d": {}})).await;
        let mut line = peer.socket().await;
        let resume = greet(&mut line, 60_000).await;
        assert_eq!(resume, json!({"op": 6, "d": {"token": "b0t", "session_id": "s1", "seq": 3}}));
        line.say(&message(4)).await;
        line.say(&json!({"op": 0, "t": "RESUMED", "s": 5, "d": {}})).await;
        line
    };
    let driver = async {
        let mut feed = source.open(Cursors::new()).await.unwrap();
        assert_eq!(drain(&mut *feed, &mut cursors, 1).await, [message(2)]);
        while cursors.get("gateway_sequence").is_none_or(|sequence| sequence != "3") {
            let more = tokio::time::timeout(Duration::from_secs(8), feed.next()).await.unwrap().unwrap();
            if let crate::ports::feed::FeedNews::Batch(more) = more {
                crate::engines::stream::talk::apply(&mut cursors, &more);
            }
        }
        drop(feed);
        let mut feed = source.open(cursors.clone()).await.unwrap();
        assert_eq!(drain(&mut *feed, &mut cursors, 1).await, [message(4)]);
    };
    tokio::join!(script, driver);
}

#[tokio::test]
async fn the_gateway_may_ask_for_a_new_connection_and_the_session_goes_on() {
    let peer = Peer::new().await;
    let source = source(DISCORD, &peer.url, None);
    let script = async {
        let mut line = identified(&peer).await;
        line.say(&message(2)).await;
        line.say(&json!({"op": 7, "d": null})).await;
        let mut line = peer.socket().await;
        assert_eq!(greet(&mut line, 60_000).await["d"]["seq"], 2);
        // Closed without a word: resumed as well.
        line.say(&message(3)).await;
        drop(line);
    };
    let driver = async {
        let mut feed = source.open(Cursors::new()).await.unwrap();
        assert_eq!(drain(&mut *feed, &mut Cursors::new(), 2).await, [message(2), message(3)]);
    };
    tokio::join!(script, driver);
}

#[tokio::test]
async fn an_invalid_session_is_forgotten_and_identified_anew() {
    let peer = Peer::new().await;
    let source = source(DISCORD, &peer.url, None);
    let stored = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut cursors: Cursors =
        [stored("gateway_session", "old"), stored("gateway_url", &peer.socket_url()), stored("gateway_sequence", "9")].into();
    let script = async {
        let mut line = peer.socket().await;
        assert_eq!(greet(&mut line, 60_000).await["op"], 6);
        line.say(&json!({"op": 9, "d": false})).await;
        let mut line = identified(&peer).await;
        line.say(&message(2)).await;
        line
    };
    let driver = async {
        let mut feed = source.open(cursors.clone()).await.unwrap();
        let forgotten = batch(&mut *feed).await;
        assert!(forgotten.cursors.iter().all(|(_, value)| value.is_none()), "{forgotten:?}");
        crate::engines::stream::talk::apply(&mut cursors, &forgotten);
        assert!(cursors.is_empty());
        assert_eq!(drain(&mut *feed, &mut cursors, 1).await, [message(2)]);
        assert_eq!(cursors["gateway_session"], "s1");
    };
    tokio::join!(script, driver);
}

#[tokio::test]
async fn a_heartbeat_without_an_answer_ends_the_connection_and_keeps_the_session() {
    let peer = Peer::new().await;
    let source = source(DISCORD, &peer.url, None);
    let script = async {
        told(&peer, 900).await;
        let mut line = peer.socket().await;
        // Heartbeats every 150 ms, none is answered.
        assert_eq!(greet(&mut line, 150).await["op"], 2);
        line.say(&json!({"op": 0, "t": "READY", "s": 1, "d": {"session_id": "s1", "resume_gateway_url": peer.socket_url()}})).await;
        let mut line = peer.socket().await;
        let resume = greet(&mut line, 60_000).await;
        assert_eq!((&resume["op"], &resume["d"]["session_id"]), (&json!(6), &json!("s1")));
        line.say(&message(2)).await;
        line
    };
    let driver = async {
        let mut feed = source.open(Cursors::new()).await.unwrap();
        assert_eq!(drain(&mut *feed, &mut Cursors::new(), 1).await, [message(2)]);
    };
    tokio::join!(script, driver);
}

#[tokio::test]
async fn a_refused_token_and_forbidden_intents_are_for_a_person() {
    let peer = Peer::new().await;
    for (code, expected) in [(4004, Code::AuthFailed), (4014, Code::Protocol)] {
        let source = source(DISCORD, &peer.url, None);
        let script = async {
            told(&peer, 900).await;
            let mut line = peer.socket().await;
            greet(&mut line, 60_000).await;
            line.close(code).await;
        };
        let (feed, ()) = tokio::join!(source.open(Cursors::new()), script);
        assert!(matches!(feed.err().unwrap(), PullError::Person { code, .. } if code == expected));
    }
}

#[tokio::test]
async fn the_last_identifies_of_the_day_are_not_spent() {
    let peer = Peer::new().await;
    let source = source(DISCORD, &peer.url, None);
    let (feed, _) = tokio::join!(source.open(Cursors::new()), told(&peer, 5));
    let error = feed.err().unwrap();
    assert!(matches!(&error, PullError::Lost { code: Code::Throttled, after: Some(after), .. } if after.as_secs() == 14_400), "{error:?}");
}

#[tokio::test]
async fn the_token_goes_to_no_strange_gateway() {
    let peer = Peer::new().await;
    let source = source(DISCORD, &peer.url, None);
    for url in ["wss://gateway.discord.gg.example.org", "ws://gateway.discord.gg", "wss://evildiscord.gg"] {
        let told = json!({"url": url}).to_string();
        let (feed, _) = tokio::join!(source.open(Cursors::new()), peer.answer("200 OK", &told));
        assert!(matches!(feed.err().unwrap(), PullError::Person { code: Code::Protocol, .. }), "{url}");
    }
}
