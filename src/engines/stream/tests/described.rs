//! Streams that a manifest describes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::{PATIENCE, Peer, batch, drain, plan, source};
use crate::model::codes::Code;
use crate::model::raw::{RawHead, Via};
use crate::ports::BoxFuture;
use crate::ports::feed::{Cursors, Feed, FeedBatch, FeedNews, FeedSource, Payload};
use crate::ports::pull::PullError;

/// As Slack's Socket Mode does it.
const SLACK: &str = r#"
take = '.envelope_id != null'
ready_when = '.type == "hello"'
reconnect_when = '.type == "disconnect"'
fatal_codes = [4001]
ping = { every = "150ms", within = "150ms" }
frame_bytes_max = 10000
[open]
request = { post = "{settings.api}/open", auth = "app" }
errors = [{ when = '.ok == false and .error == "ratelimited"', then = "throttled", after_s = "7" }, { when = ".ok == false", then = "denied" }]
take = { url = ".url" }
[connect]
get = "{opened.url}"
[ack]
when = '.envelope_id != null'
send = { envelope_id = "{frame.envelope_id}" }
"#;

fn envelope(number: u32) -> serde_json::Value {
    json!({"type": "events_api", "envelope_id": format!("e{number}"), "payload": {"n": number}})
}

async fn opened(peer: &Peer) -> super::Line {
    let head = peer.answer("200 OK", &json!({"ok": true, "url": format!("{}/link?ticket=1", peer.socket_url())}).to_string()).await;
    assert!(head.to_ascii_lowercase().contains("authorization: bearer s3cret"), "{head}");
    let mut line = peer.socket().await;
    assert_eq!(line.target, "/link?ticket=1");
    line.say(&json!({"type": "hello"})).await;
    line
}

#[tokio::test]
async fn a_frame_is_acknowledged_when_it_is_durable_and_not_before() {
    let peer = Peer::new().await;
    let source = source(SLACK, &peer.url, None);
    let (feed, mut line) = tokio::join!(source.open(Cursors::new()), opened(&peer));
    let mut feed = feed.unwrap();
    line.say(&envelope(1)).await;
    line.say(&envelope(2)).await;
    let first = batch(&mut *feed).await;
    assert_eq!(first.payloads.len(), 2, "frames are gathered");
    assert_eq!(line.hear(Duration::from_millis(200)).await, None, "acknowledged before it was durable");
    let (_, acks) = tokio::join!(tokio::time::timeout(Duration::from_millis(400), feed.next()), async {
        [line.hear(PATIENCE).await, line.hear(PATIENCE).await]
    });
    assert_eq!(acks, [Some(json!({"envelope_id": "e1"})), Some(json!({"envelope_id": "e2"}))]);
}

#[tokio::test]
async fn a_frame_whose_commit_failed_is_never_acknowledged() {
    let peer = Peer::new().await;
    let source = source(SLACK, &peer.url, None);
    let (feed, mut line) = tokio::join!(source.open(Cursors::new()), opened(&peer));
    let mut feed = feed.unwrap();
    line.say(&envelope(1)).await;
    assert_eq!(batch(&mut *feed).await.payloads.len(), 1);
    drop(feed);
    assert_eq!(line.hear(PATIENCE).await, None);
}

#[tokio::test]
async fn a_new_connection_is_made_when_the_platform_wants_one_and_nothing_is_lost() {
    let peer = Peer::new().await;
    let source = source(SLACK, &peer.url, None);
    let script = async {
        let mut line = opened(&peer).await;
        line.say(&envelope(1)).await;
        line.say(&json!({"type": "disconnect", "reason": "warning"})).await;
        assert_eq!(line.hear(PATIENCE).await, Some(json!({"envelope_id": "e1"})));
        let mut line = opened(&peer).await;
        line.say(&envelope(2)).await;
        assert_eq!(line.hear(PATIENCE).await, Some(json!({"envelope_id": "e2"})));
    };
    let driver = async {
        let mut feed = source.open(Cursors::new()).await.unwrap();
        let found = drain(&mut *feed, &mut Cursors::new(), 2).await;
        assert_eq!(found, [envelope(1), envelope(2)]);
        feed.close().await;
    };
    tokio::join!(script, driver);
}

async fn lost(feed: &mut dyn Feed) -> PullError {
    loop {
        if let Err(error) = tokio::time::timeout(PATIENCE, feed.next()).await.expect("no end") {
            return error;
        }
    }
}

#[tokio::test]
async fn a_peer_that_does_not_answer_pings_is_dead() {
    let peer = Peer::new().await;
    let source = source(SLACK, &peer.url, None);
    let (feed, line) = tokio::join!(source.open(Cursors::new()), opened(&peer));
    // It is connected and does not read: a ping stays without an answer.
    let error = lost(&mut *feed.unwrap()).await;
    assert_eq!(error.code(), Code::ConnectionLost);
    assert!(error.to_string().contains("does not answer pings"), "{error}");
    drop(line);
}

#[tokio::test]
async fn what_came_before_the_end_is_handed_over_before_the_end_is_told() {
    let peer = Peer::new().await;
    for code in [4001, 1011] {
        let source = source(SLACK, &peer.url, None);
        let (feed, mut line) = tokio::join!(source.open(Cursors::new()), opened(&peer));
        let mut feed = feed.unwrap();
        line.say(&envelope(1)).await;
        let (_, error) = tokio::join!(line.close(code), async {
            assert_eq!(batch(&mut *feed).await.payloads.len(), 1);
            lost(&mut *feed).await
        });
        assert_eq!(matches!(error, PullError::Person { .. }), code == 4001, "{error:?}");
        // Line breaks of the peer are none of ours.
        assert!(code != 4001 || error.to_string().contains("4001: told you"), "{error}");
    }
}

#[tokio::test]
async fn a_huge_frame_and_a_cut_connection_end_the_session_and_nothing_else() {
    let peer = Peer::new().await;
    let source = source(SLACK, &peer.url, None);
    let (feed, mut line) = tokio::join!(source.open(Cursors::new()), opened(&peer));
    let mut feed = feed.unwrap();
    line.say(&json!({"envelope_id": "x".repeat(20_000)})).await;
    assert_eq!(lost(&mut *feed).await.code(), Code::ConnectionLost);
    let (feed, line) = tokio::join!(source.open(Cursors::new()), opened(&peer));
    drop(line);
    assert_eq!(lost(&mut *feed.unwrap()).await.code(), Code::ConnectionLost);
}

#[tokio::test]
async fn a_frame_that_is_no_json_is_kept() {
    let peer = Peer::new().await;
    let source = source("connect = { get = \"{settings.api}/ws\" }\n", &peer.url, None);
    let (feed, mut line) = tokio::join!(source.open(Cursors::new()), peer.socket());
    futures_util::SinkExt::send(&mut line.socket, tokio_tungstenite::tungstenite::Message::text("{nonsense")).await.unwrap();
    let found = batch(&mut *feed.unwrap()).await;
    assert_eq!(found.payloads[0].body, Bytes::from_static(b"{nonsense"));
    assert_eq!(found.payloads[0].via, Via::Stream);
}

#[tokio::test]
async fn a_refusal_says_whose_matter_it_is() {
    let peer = Peer::new().await;
    let source = source(SLACK, &peer.url, None);
    let open = |status: &'static str, body: &'static str| {
        let (source, peer) = (&source, &peer);
        async move {
            let (feed, _) = tokio::join!(source.open(Cursors::new()), peer.answer(status, body));
            feed.err().unwrap()
        }
    };
    assert!(matches!(open("200 OK", r#"{"ok":false,"error":"invalid_auth"}"#).await, PullError::Person { code: Code::AuthFailed, .. }));
    let throttled = open("200 OK", r#"{"ok":false,"error":"ratelimited"}"#).await;
    assert!(matches!(throttled, PullError::Lost { code: Code::Throttled, after: Some(after), .. } if after.as_secs() == 7));
    assert!(matches!(open("503 Unavailable", "").await, PullError::Lost { code: Code::Unreachable, .. }));
    // The websocket itself is refused.
    let direct = super::source("connect = { get = \"{settings.api}/ws\", auth = \"app\" }\n", &peer.url, None);
    let (feed, head) = tokio::join!(direct.open(Cursors::new()), peer.answer("401 Unauthorized", "{}"));
    assert!(matches!(feed.err().unwrap(), PullError::Person { code: Code::AuthFailed, .. }));
    assert!(head.to_ascii_lowercase().contains("authorization: bearer s3cret"));
}

#[tokio::test]
async fn a_socket_elsewhere_gets_no_secret() {
    let peer = Peer::new().await;
    let text = r#"
first_send = [{ token = "{secrets.token}" }]
[open]
request = { post = "{settings.api}/open", auth = "app" }
take = { url = ".url" }
[connect]
get = "{opened.url}"
"#;
    let source = source(text, &peer.url, None);
    let (feed, _) = tokio::join!(source.open(Cursors::new()), peer.answer("200 OK", r#"{"url":"ws://localhost:1/x"}"#));
    assert!(matches!(feed.err().unwrap(), PullError::Person { .. }), "it leads home");
}

#[tokio::test]
async fn what_is_remembered_is_where_the_next_connection_goes_on() {
    let peer = Peer::new().await;
    let text = r#"
first_send = [{ token = "{secrets.token}" }]
cursor = { sequence = ".seq", connection = ".connection" }
forget_when = ".lost == true"
take = ".event != null"
[connect]
get = "{settings.api}/ws"
query = { sequence_number = "{cursor.sequence}", connection_id = "{cursor.connection}" }
"#;
    let source = source(text, &peer.url, None);
    let mut cursors = Cursors::new();
    let script = async {
        let mut line = peer.socket().await;
        assert_eq!(line.target, "/ws");
        assert_eq!(line.hear(PATIENCE).await, Some(json!({"token": "s3cret"})));
        line.say(&json!({"connection": "c1"})).await;
        line.say(&json!({"event": "posted", "seq": 7})).await;
        let mut line = peer.socket().await;
        assert_eq!(line.target, "/ws?connection_id=c1&sequence_number=7");
        line.say(&json!({"lost": true})).await;
        let line = peer.socket().await;
        assert_eq!(line.target, "/ws");
    };
    let driver = async {
        let mut feed = source.open(Cursors::new()).await.unwrap();
        assert_eq!(drain(&mut *feed, &mut cursors, 1).await.len(), 1);
        // The process ends here; another goes on.
        drop(feed);
        let mut feed = source.open(cursors.clone()).await.unwrap();
        let forgotten = batch(&mut *feed).await;
        assert_eq!(forgotten.cursors, [("connection".to_owned(), None), ("sequence".to_owned(), None)]);
        let _ = tokio::time::timeout(Duration::from_millis(500), async { while feed.next().await.is_ok() {} }).await;
    };
    tokio::join!(script, driver);
}

#[tokio::test]
async fn server_sent_events_and_lines_are_frames_and_silence_ends_them() {
    let peer = Peer::new().await;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    for (kind, said, expected) in [
        ("sse", ":thump\n\nevent: update\ndata: {\"id\":1}\n\n", json!({"event": "update", "data": "{\"id\":1}", "id": ""})),
        ("lines", "\r\n{\"id\":1}\r\n", json!({"id": 1})),
    ] {
        let text = format!("kind = \"{kind}\"\nsilence_max = \"300ms\"\nconnect = {{ get = \"{{settings.api}}/s\", auth = \"app\" }}\n");
        let source = source(&text, &peer.url, None);
        let script = async {
            let (mut stream, request) = peer.request().await;
            assert!(request.starts_with("GET /s HTTP/1.1"), "{request}");
            stream.write_all(format!("{head}{:x}\r\n{said}\r\n", said.len()).as_bytes()).await.unwrap();
            stream
        };
        let (feed, stream) = tokio::join!(source.open(Cursors::new()), script);
        let mut feed = feed.unwrap();
        assert_eq!(drain(&mut *feed, &mut Cursors::new(), 1).await, [expected]);
        let error = lost(&mut *feed).await;
        assert!(error.to_string().contains("silent"), "{error}");
        drop(stream);
    }
}

#[tokio::test]
async fn events_may_say_how_long_nobody_is_to_come_back() {
    let peer = Peer::new().await;
    let source = source("kind = \"sse\"\nconnect = { get = \"{settings.api}/s\" }\n", &peer.url, None);
    let script = async {
        let (mut stream, _) = peer.request().await;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        stream.write_all(format!("{head}retry: 7000\n\nretry: soon\ndata: {{\"id\":1}}\n\n").as_bytes()).await.unwrap();
    };
    let (feed, ()) = tokio::join!(source.open(Cursors::new()), script);
    let mut feed = feed.unwrap();
    assert_eq!(drain(&mut *feed, &mut Cursors::new(), 1).await.len(), 1);
    let error = lost(&mut *feed).await;
    assert!(matches!(&error, PullError::Lost { after: Some(after), .. } if after.as_secs() == 7), "{error:?}");
}

/// A poll that brings one page.
struct Page;

struct OnePage(bool);

impl Feed for OnePage {
    fn next(&mut self) -> BoxFuture<'_, Result<FeedNews, PullError>> {
        Box::pin(async {
            if std::mem::replace(&mut self.0, true) {
                return Ok(FeedNews::Quiet(Duration::from_secs(60)));
            }
            let payload =
                Payload { via: Via::Poll, head: RawHead::default(), body: Bytes::from_static(b"{\"missed\":1}"), historic: false };
            Ok(FeedNews::Batch(FeedBatch { payloads: vec![payload], cursors: vec![("since".to_owned(), Some("9".to_owned()))] }))
        })
    }
    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

impl FeedSource for Page {
    fn account(&self) -> String {
        "x:1".to_owned()
    }
    fn server(&self) -> String {
        "x".to_owned()
    }
    fn open(&self, _: Cursors) -> BoxFuture<'_, Result<Box<dyn Feed>, PullError>> {
        Box::pin(async { Ok(Box::new(OnePage(false)) as Box<dyn Feed>) })
    }
    fn probe(&self) -> BoxFuture<'_, Result<Vec<String>, PullError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

#[tokio::test]
async fn what_was_missed_comes_before_the_stream_after_every_connect() {
    let peer = Peer::new().await;
    let text = "reconnect_when = \".bye == true\"\ntake = \".n != null\"\nconnect = { get = \"{settings.api}/ws\" }\n";
    let source = source(text, &peer.url, Some(Arc::new(Page)));
    let script = async {
        let mut line = peer.socket().await;
        line.say(&json!({"n": 1})).await;
        line.say(&json!({"bye": true})).await;
        let mut line = peer.socket().await;
        line.say(&json!({"n": 2})).await;
        line
    };
    let driver = async {
        let mut cursors = Cursors::new();
        let mut feed = source.open(Cursors::new()).await.unwrap();
        let found = drain(&mut *feed, &mut cursors, 4).await;
        assert_eq!(found, [json!({"missed": 1}), json!({"n": 1}), json!({"missed": 1}), json!({"n": 2})]);
        assert_eq!(cursors.get("since").map(String::as_str), Some("9"));
    };
    tokio::join!(script, driver);
}

#[test]
fn what_is_wrong_with_a_stream_is_told_at_load() {
    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let shown = plan(text).err().unwrap_or_default();
        assert!(shown.contains(expected), "{shown}");
    }
    let ok = "connect = { get = \"{settings.api}/ws\" }\n";
    refused("", "`connect` is missing");
    refused(&format!("{ok}kind = \"webocket\"\n"), "unknown variant");
    refused(&format!("{ok}kind = \"sse\"\nfirst_send = [\"x\"]\n"), "nothing can be sent");
    refused(&format!("{ok}take = \".a |\"\n"), "the jq of `take`");
    refused(&format!("{ok}ping = {{ every = \"soon\" }}\n"), "`ping.every`: `soon` is not a duration");
    refused(&format!("{ok}first_send = [{{ a = \"{{secrets.tokn}}\" }}]\n"), "names the secret `tokn`");
    refused(&format!("{ok}ack = {{ send = {{ a = \"{{fram.id}}\" }} }}\n"), "did you mean `frame`?");
    refused("connect = { get = \"https://evil.example.com/x\", auth = \"app\" }\n", "is not among `hosts`");
    refused("kind = \"irc\"\n", "needs the setting `server`");
    refused("kind = \"irc\"\n", "needs the secret `password`");
    refused("kind = \"discord\"\nready_when = \".\"\n", "`ready_when` says nothing to kind `discord`");
    refused(&format!("{ok}frame_bytes_max = 99999999\n"), "`frame_bytes_max` must be between");
}
