//! A peer that misbehaves, and a small pipeline: next, "commit", next. What is under test is the order of things: nothing is
//! acknowledged before it is durable, nothing is lost over a new connection.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::expect_used, clippy::disallowed_methods)]

mod described;
mod discord;
mod irc;
mod xmpp;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::connector::call::compile::Scope;
use crate::connector::jq::Limits;
use crate::connector::manifest::Manifest;
use crate::connector::problem;
use crate::connector::stream::{StreamKind, StreamPlan, StreamSpec};
use crate::engines::stream::talk::apply;
use crate::engines::stream::{StreamSettings, StreamSource};
use crate::http::client::HttpClient;
use crate::model::time::Time;
use crate::ports::BoxFuture;
use crate::ports::clock::{Clock, Random};
use crate::ports::feed::{Cursors, Feed, FeedBatch, FeedNews, FeedSource};

pub(super) const PATIENCE: Duration = Duration::from_secs(5);

struct Frozen;

impl Clock for Frozen {
    fn now(&self) -> Time {
        Time::parse("2026-11-23T08:00:00Z").unwrap()
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(span))
    }
}

struct Zero;

impl Random for Zero {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(0);
    }
}

/// The other side.
pub(super) struct Peer {
    listener: TcpListener,
    pub(super) url: String,
}

/// A websocket of the other side, with the request that opened it.
pub(super) struct Line {
    pub(super) socket: WebSocketStream<TcpStream>,
    pub(super) target: String,
}

impl Peer {
    pub(super) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Self { listener, url }
    }

    pub(super) fn socket_url(&self) -> String {
        self.url.replace("http", "ws")
    }

    /// Answers one request; gives its head.
    pub(super) async fn answer(&self, status: &str, body: &str) -> String {
        let (mut stream, head) = self.request().await;
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        head
    }

    /// Host and port.
    pub(super) fn host(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// A connection of whatever protocol.
    pub(super) async fn plain(&self) -> TcpStream {
        tokio::time::timeout(PATIENCE, self.listener.accept()).await.expect("nobody came").unwrap().0
    }

    /// A request and its connection.
    pub(super) async fn request(&self) -> (TcpStream, String) {
        let (mut stream, _) = tokio::time::timeout(PATIENCE, self.listener.accept()).await.expect("nobody came").unwrap();
        let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
        while !head.windows(4).any(|four| four == b"\r\n\r\n") {
            let read = stream.read(&mut buffer).await.unwrap();
            assert!(read > 0, "the request ended");
            head.extend_from_slice(&buffer[..read]);
        }
        (stream, String::from_utf8(head).unwrap())
    }

    #[expect(clippy::result_large_err, reason = "the library says what the closure answers")]
    pub(super) async fn socket(&self) -> Line {
        let (stream, _) = tokio::time::timeout(PATIENCE, self.listener.accept()).await.expect("nobody came").unwrap();
        let mut target = String::new();
        let look = |request: &tokio_tungstenite::tungstenite::handshake::server::Request, response| {
            target = request.uri().to_string();
            Ok(response)
        };
        let socket = tokio_tungstenite::accept_hdr_async(stream, look).await.unwrap();
        Line { socket, target }
    }
}

impl Line {
    pub(super) async fn say(&mut self, frame: &Value) {
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
    }

    pub(super) async fn close(&mut self, code: u16) {
        let _ = self.socket.close(Some(CloseFrame { code: code.into(), reason: "told\nyou".into() })).await;
        // Until the other side has answered, or the code may be lost with the connection.
        while let Some(Ok(_)) = self.socket.next().await {}
    }

    /// The next text, or `None` if nothing but pings comes.
    pub(super) async fn hear(&mut self, within: Duration) -> Option<Value> {
        loop {
            match tokio::time::timeout(within, self.socket.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => return Some(serde_json::from_str(&text).unwrap()),
                Ok(Some(Ok(_))) => {}
                _ => return None,
            }
        }
    }
}

const HEAD: &str = r#"
name = "x"
title = "X"
about = "For tests."
hosts = ["api.example.org"]
[webhook]
decode = "json"
[settings.api]
type = "url"
help = "Base."
[settings.intents]
type = "integer"
help = "Intents."
[secrets.token]
help = "Token."
[secrets.bot_token]
help = "Token."
"#;

pub(super) fn plan(stream: &str) -> Result<StreamPlan, String> {
    let manifest = Manifest::parse("connector.toml", HEAD).unwrap();
    let auth = toml::from_str("[app]\nkind = \"bearer\"\nsecret = \"token\"\n").unwrap();
    let scope = Scope {
        file: "connector.toml",
        settings: &manifest.settings,
        secrets: &manifest.secrets,
        auth: &auth,
        hosts: &manifest.hosts,
        limits: Limits::default(),
    };
    let spec: StreamSpec = toml::from_str(stream).map_err(|error| error.to_string())?;
    StreamPlan::compile(&spec, &scope).map_err(|problems| problem::render(&problems))
}

pub(super) fn source(stream: &str, api: &str, gap: Option<Arc<dyn FeedSource>>) -> StreamSource {
    let plan = plan(stream).unwrap_or_else(|problems| panic!("{problems}"));
    StreamSource::new(settings(plan, json!({"api": api, "intents": 37_377}), gap))
}

/// Settings of a kind that knows its protocol.
pub(super) fn of_kind(kind: StreamKind, values: Value) -> StreamSettings {
    let plan = plan("connect = { get = \"{settings.api}/x\" }\n").unwrap_or_else(|problems| panic!("{problems}"));
    settings(StreamPlan { kind, ping: None, ..plan }, values, None)
}

fn settings(plan: StreamPlan, values: Value, gap: Option<Arc<dyn FeedSource>>) -> StreamSettings {
    let secret = |text: &str| vec![SecretString::from(text.to_owned())];
    StreamSettings {
        account: "x:1".to_owned(),
        plan: Arc::new(plan),
        settings: values,
        secrets: BTreeMap::from([("token".to_owned(), secret("s3cret")), ("bot_token".to_owned(), secret("b0t"))]),
        wallet: crate::ports::token::Wallet::default(),
        http: HttpClient::new(false).unwrap(),
        quota: Arc::default(),
        clock: Arc::new(Frozen),
        random: Arc::new(Zero),
        gap,
    }
}

/// The next batch; the one before is durable now.
pub(super) async fn batch(feed: &mut dyn Feed) -> FeedBatch {
    loop {
        match tokio::time::timeout(PATIENCE, feed.next()).await.expect("no news").unwrap() {
            FeedNews::Batch(batch) => return batch,
            FeedNews::Quiet(_) | FeedNews::Note { .. } | FeedNews::Mended => {}
        }
    }
}

/// What a source has to say until it has handed over so many payloads; what is remembered at the end.
pub(super) async fn drain(feed: &mut dyn Feed, cursors: &mut Cursors, count: usize) -> Vec<Value> {
    let mut found = Vec::new();
    while found.len() < count {
        let batch = batch(feed).await;
        apply(cursors, &batch);
        found.extend(batch.payloads.iter().map(|payload| serde_json::from_slice(&payload.body).unwrap_or(Value::Null)));
    }
    found
}
