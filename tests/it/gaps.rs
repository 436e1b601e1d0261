//! Gaps: what was written while a stream was away is asked for after it is there again; nothing is missing, nothing comes twice.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::daemon::{Daemon, Setup};
use crate::support::platform::query;
use crate::support::receiver::Receiver;

const BOUND: Duration = Duration::from_secs(120);

/// A server of Mastodon's API: its list holds everything, its streaming only what comes while somebody listens.
#[derive(Clone)]
struct Server {
    said: Arc<Mutex<Vec<Value>>>,
    count: watch::Sender<usize>,
    /// Streams of another number than this end.
    streams: watch::Sender<u64>,
    /// The list is out of order.
    broken: Arc<Mutex<bool>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start() -> (Self, SocketAddr) {
        let server = Self {
            said: Arc::default(),
            count: watch::channel(0).0,
            streams: watch::channel(1).0,
            broken: Arc::default(),
            asked: Arc::default(),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(serve).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (server, address)
    }

    fn say(&self, text: &str) {
        let mut said = self.said.lock().unwrap();
        let number = said.len() + 1;
        let status = json!({
            "id": (1000 + number).to_string(), "content": format!("<p>{text}</p>"), "created_at": "2026-11-22T09:14:00Z",
            "visibility": "public", "mentions": [], "account": {"id": "9", "acct": "zoe@else.example"},
        });
        said.push(
            json!({"id": number.to_string(), "type": "mention", "account": {"id": "9", "acct": "zoe@else.example"}, "status": status}),
        );
        self.count.send_replace(said.len());
    }

    /// Nobody can listen: streams end, new ones are refused.
    fn away(&self) {
        self.streams.send_modify(|number| *number = if *number % 2 == 1 { *number + 1 } else { *number });
    }

    fn back(&self) {
        self.streams.send_modify(|number| *number = if *number % 2 == 0 { *number + 1 } else { *number });
    }

    fn lists(&self) -> usize {
        self.asked.lock().unwrap().iter().filter(|target| target.starts_with("/api/v1/notifications")).count()
    }

    fn list(&self, target: &str) -> Response {
        if *self.broken.lock().unwrap() {
            return Response::builder().status(503).body(Body::empty()).unwrap();
        }
        let bound = |name: &str| query(target, name).and_then(|text| text.parse::<usize>().ok());
        let (since, below) = (bound("since_id").unwrap_or(0), bound("max_id").unwrap_or(usize::MAX));
        let said = self.said.lock().unwrap();
        // Two a page, so that there are several.
        let page: Vec<&Value> = said
            .iter()
            .rev()
            .filter(|one| {
                let id: usize = one["id"].as_str().unwrap().parse().unwrap();
                id > since && id < below
            })
            .take(2)
            .collect();
        Response::builder().header("content-type", "application/json").body(Body::from(json!(page).to_string())).unwrap()
    }

    fn stream(&self) -> Response {
        let mine = *self.streams.borrow();
        if mine.is_multiple_of(2) {
            return Response::builder().status(503).body(Body::empty()).unwrap();
        }
        let (server, count, streams) = (self.clone(), self.count.subscribe(), self.streams.subscribe());
        let from = *count.borrow();
        let frames = futures_util::stream::unfold((from, true), move |(mut at, first)| {
            let (server, mut count, mut streams) = (server.clone(), count.clone(), streams.clone());
            async move {
                if first {
                    return Some((Ok::<_, Infallible>(Bytes::from(":)\n\n")), (at, false)));
                }
                tokio::select! {
                    _ = streams.wait_for(|now| *now != mine) => None,
                    found = count.wait_for(|count| *count > at) => {
                        found.ok()?;
                        let one = server.said.lock().unwrap()[at].clone();
                        at += 1;
                        Some((Ok(Bytes::from(format!("event: notification\ndata: {one}\n\n"))), (at, false)))
                    }
                }
            }
        });
        Response::builder().header("content-type", "text/event-stream").body(Body::from_stream(frames)).unwrap()
    }
}

async fn serve(State(server): State<Server>, request: Request) -> Response {
    let target = request.uri().path_and_query().unwrap().to_string();
    server.asked.lock().unwrap().push(target.clone());
    if target.starts_with("/api/v1/streaming/") { server.stream() } else { server.list(&target) }
}

fn setup(receiver: &Receiver, address: SocketAddr) -> Setup {
    let mut setup = Setup::all_to(&receiver.url());
    let channel = format!(
        "connector = \"mastodon\"\nmode = \"stream\"\naccount = \"acme\"\n[settings]\nserver = \"http://{address}\"\nstreaming = \"http://{address}\"\n\
         [secrets]\naccess_token = {{ env = \"FEDIVERSE_TOKEN\" }}\n"
    );
    setup.channels.insert("social".to_owned(), channel);
    setup.env.insert("FEDIVERSE_TOKEN".to_owned(), "t".to_owned());
    setup
}

/// Texts of created messages, in the order they came, with how often each came.
fn texts(receiver: &Receiver) -> Vec<String> {
    receiver
        .book()
        .taken()
        .iter()
        .filter(|one| one.event_type == "message.created")
        .map(|one| one.text("/message/text").to_owned())
        .collect()
}

async fn came(receiver: &Receiver, daemon: &Daemon, count: usize) {
    let started = std::time::Instant::now();
    while texts(receiver).len() < count {
        assert!(started.elapsed() < BOUND, "{count} wanted: {:?}\n{}", texts(receiver), daemon.log_end(30));
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// Waits until the status of the channel shows that something does not work, or nothing more.
async fn noted(daemon: &Daemon, wanted: bool) {
    let started = std::time::Instant::now();
    while daemon.get("/v1/status").await["channels"]["social"]["code"].is_string() != wanted {
        assert!(started.elapsed() < BOUND, "{}", daemon.log_end(30));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_while_nobody_listened_comes_once() {
    let receiver = Receiver::start().await;
    let (server, address) = Server::start().await;
    server.say("before the first run");
    let mut daemon = Daemon::start(setup(&receiver, address)).await;
    daemon.channel_running("social").await;
    let started = std::time::Instant::now();
    while server.lists() < 1 {
        assert!(started.elapsed() < BOUND, "{}", daemon.log_end(30));
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    // The first look was answered before this comes: it says where the list ends.
    server.say("live 1");
    came(&receiver, &daemon, 1).await;

    server.away();
    for number in 1..=5 {
        server.say(&format!("missed {number}"));
    }
    server.back();
    came(&receiver, &daemon, 6).await;
    server.say("live 2");
    came(&receiver, &daemon, 7).await;

    // A death in the middle, and one at the moment when it comes back.
    daemon.kill();
    for number in 6..=9 {
        server.say(&format!("missed {number}"));
    }
    daemon.launch();
    daemon.ready().await;
    daemon.kill();
    server.say("missed 10");
    daemon.launch();
    daemon.ready().await;
    came(&receiver, &daemon, 12).await;

    // The list fails: the stream goes on, and a person is told.
    *server.broken.lock().unwrap() = true;
    server.away();
    server.back();
    let started = std::time::Instant::now();
    let mut number = 0;
    while !texts(&receiver).iter().any(|text| text.starts_with("beside")) {
        assert!(started.elapsed() < BOUND, "{}", daemon.log_end(30));
        number += 1;
        server.say(&format!("beside {number}"));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    noted(&daemon, true).await;
    // Once it answers again everything is there, and nothing is left to tell.
    *server.broken.lock().unwrap() = false;
    came(&receiver, &daemon, 12 + number).await;
    noted(&daemon, false).await;
    daemon.settled(BOUND).await.identities_hold();

    let all = texts(&receiver);
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    all.iter().for_each(|text| *count.entry(text.as_str()).or_default() += 1);
    assert!(count.values().all(|count| *count == 1) && !count.contains_key("before the first run"), "{count:?}");
    // Each mention is a conversation of its own: between them there is no order to keep.
    assert!((1..=10).all(|number| count.contains_key(format!("missed {number}").as_str())), "{count:?}");
    receiver.no_complaints();
}
