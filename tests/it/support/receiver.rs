//! A destination as a CRM developer would write it, but suspicious: it verifies every signature by itself, remembers the
//! bytes of every event, and notes whatever breaks a promise of the contract (I4, I5, one id per `message.key`).
//! It can answer slowly, badly, or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support::http1::{Message, Wire, response};

/// The secret that receivers of tests and benchmarks share with the gateway.
pub const SECRET: &str = "whsec_b21uaWdhdGUtdGVzdHMtc2hhcmVkLXNlY3JldC0wMDE=";

/// What the receiver does with a delivery.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Takes it: 204.
    Take,
    /// Takes it after a while.
    TakeAfter(Duration),
    /// Answers with this status and these headers, and does not take it.
    Status(u16, Vec<(String, String)>),
    /// Never answers; the connection stays open.
    Hang,
    /// Takes it and cuts the connection instead of saying so.
    TakeAndCut,
}

impl Answer {
    /// A status without headers.
    pub fn status(status: u16) -> Self {
        Self::Status(status, Vec::new())
    }

    fn takes(&self) -> bool {
        matches!(self, Self::Take | Self::TakeAfter(_) | Self::TakeAndCut)
    }
}

/// One delivery as it arrived.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// `webhook-id`.
    pub id: String,
    /// The event's `type`.
    pub event_type: String,
    /// The conversation; empty for events without one.
    pub conversation: String,
    /// `data.sequence`.
    pub sequence: u64,
    /// `omnigate-previous`.
    pub previous: Option<u64>,
    /// It says that it is a replay.
    pub replay: bool,
    /// The event.
    pub event: serde_json::Value,
    /// The request, whole.
    pub request: Message,
    /// Taken, or refused.
    pub taken: bool,
    /// When it arrived.
    pub at: Instant,
}

impl Delivery {
    /// A string of the event by JSON pointer below `data`; empty if there is none.
    pub fn text(&self, pointer: &str) -> &str {
        self.event.pointer(&format!("/data{pointer}")).and_then(serde_json::Value::as_str).unwrap_or_default()
    }
}

/// What the receiver remembers.
#[derive(Debug, Default)]
pub struct Book {
    /// Every delivery in the order of arrival.
    pub deliveries: Vec<Delivery>,
    /// Broken promises, one line each.
    pub complaints: Vec<String>,
    bytes: BTreeMap<String, Bytes>,
    ids_by_key: BTreeMap<String, String>,
    taken_up_to: BTreeMap<String, u64>,
}

impl Book {
    /// Events that were taken at least once, first arrival first.
    pub fn taken(&self) -> Vec<&Delivery> {
        let mut seen = BTreeSet::new();
        self.deliveries.iter().filter(|delivery| delivery.taken && seen.insert(delivery.id.as_str())).collect()
    }

    /// The distinct events that ever arrived.
    pub fn events(&self) -> Vec<&serde_json::Value> {
        let mut seen = BTreeSet::new();
        self.deliveries.iter().filter(|delivery| seen.insert(delivery.id.as_str())).map(|delivery| &delivery.event).collect()
    }

    /// Notes a request and what is wrong with it.
    fn note(&mut self, request: &Message, takes: bool) {
        match read(request, takes) {
            Ok(delivery) => {
                self.judge(&delivery, request);
                self.deliveries.push(delivery);
            }
            Err(wrong) => self.complaints.push(wrong),
        }
    }

    /// Checks the promises that a single receiver can see.
    fn judge(&mut self, delivery: &Delivery, request: &Message) {
        let Delivery { id, conversation, sequence, .. } = delivery;
        if delivery.event.pointer("/id").and_then(serde_json::Value::as_str) != Some(id.as_str()) {
            self.complaints.push(format!("{id}: webhook-id is not the event's id"));
        }
        let known = self.bytes.entry(id.clone()).or_insert_with(|| request.body.clone());
        if *known != request.body {
            self.complaints.push(format!("I5: {id}: other bytes than before"));
        }
        if delivery.event_type == "message.created" {
            let key = delivery.text("/message/key").to_owned();
            let first = self.ids_by_key.entry(key.clone()).or_insert_with(|| id.clone());
            if first != id {
                self.complaints.push(format!("{key} came as {first} and as {id}"));
            }
        }
        if conversation.is_empty() || delivery.replay {
            return;
        }
        if let Some(header) = request.header("omnigate-sequence").filter(|text| **text != sequence.to_string()) {
            self.complaints.push(format!("{id}: omnigate-sequence {header}, in the body {sequence}"));
        }
        if delivery.previous.unwrap_or(0) + 1 != *sequence {
            self.complaints.push(format!("{id}: {sequence} of {conversation} says that {:?} came before it", delivery.previous));
        }
        // Repeats of what was taken are fine (a crash may forget our answer); what is new must be the very next (I4).
        let last = self.taken_up_to.entry(conversation.clone()).or_default();
        if *sequence > *last + 1 {
            self.complaints.push(format!("I4: {id}: {sequence} of {conversation} arrived, {last} was the last one taken"));
        }
        if delivery.taken {
            *last = (*last).max(*sequence);
        }
    }
}

/// Reads a delivery; says what is wrong with one that no receiver should take.
fn read(request: &Message, takes: bool) -> Result<Delivery, String> {
    let id = request.header("webhook-id").ok_or("no webhook-id")?.to_owned();
    check_signature(request).map_err(|wrong| format!("{id}: {wrong}"))?;
    let event: serde_json::Value = serde_json::from_slice(&request.body).map_err(|error| format!("{id}: body: {error}"))?;
    let text = |pointer: &str| event.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    Ok(Delivery {
        event_type: text("/type"),
        conversation: text("/data/conversation/id"),
        sequence: event.pointer("/data/sequence").and_then(serde_json::Value::as_u64).unwrap_or(0),
        previous: request.header("omnigate-previous").and_then(|value| value.parse().ok()),
        replay: request.header("omnigate-replay").is_some(),
        request: request.clone(),
        taken: takes,
        at: Instant::now(),
        id,
        event,
    })
}

fn check_signature(request: &Message) -> Result<(), String> {
    let header = |name: &str| request.header(name).ok_or_else(|| format!("no {name}"));
    let (id, timestamp) = (header("webhook-id")?, header("webhook-timestamp")?);
    let signatures = header("webhook-signature")?;
    let key = STANDARD.decode(SECRET.trim_start_matches("whsec_")).map_err(|error| error.to_string())?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|error| error.to_string())?;
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(&request.body);
    let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    if !signatures.split(' ').any(|signature| signature == expected) {
        return Err("the signature does not verify".to_owned());
    }
    Ok(())
}

type Plan = Box<dyn FnMut(&Message) -> Answer + Send>;

struct Shared {
    book: Mutex<Book>,
    plan: Mutex<Plan>,
}

/// A running receiver. Ends when dropped.
pub struct Receiver {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    /// Starts a receiver that takes everything.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { book: Mutex::default(), plan: Mutex::new(Box::new(|_| Answer::Take)) });
        let task = tokio::spawn({
            let shared = shared.clone();
            async move {
                let mut connections = tokio::task::JoinSet::new();
                loop {
                    tokio::select! {
                        accepted = listener.accept() => {
                            let Ok((stream, _)) = accepted else { continue };
                            connections.spawn(serve(stream, shared.clone()));
                        }
                        Some(_) = connections.join_next() => {}
                    }
                }
            }
        });
        Self { address, shared, task }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}/events", self.address)
    }

    /// Decides from now on with `plan`.
    pub fn plan(&self, plan: impl FnMut(&Message) -> Answer + Send + 'static) {
        *self.shared.plan.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(plan);
    }

    /// Answers everything so from now on.
    pub fn answer(&self, answer: Answer) {
        self.plan(move |_| answer.clone());
    }

    /// What it remembers.
    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.shared.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many distinct events it took.
    pub fn taken(&self) -> usize {
        self.book().taken().len()
    }

    /// Waits until the book satisfies `enough`.
    #[track_caller]
    pub fn wait_for<'a>(&'a self, what: &'a str, limit: Duration, enough: impl Fn(&Book) -> bool + 'a) -> impl Future<Output = ()> + 'a {
        let from = Instant::now();
        async move {
            while !enough(&self.book()) {
                if from.elapsed() > limit {
                    let book = self.book();
                    panic!("waited {limit:?} for {what}; {} deliveries, {} taken", book.deliveries.len(), book.taken().len());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Panics if a promise was broken.
    #[track_caller]
    pub fn no_complaints(&self) {
        let book = self.book();
        let first: Vec<&String> = book.complaints.iter().take(20).collect();
        assert!(first.is_empty(), "{} broken promises, first: {first:#?}", book.complaints.len());
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut wire = Wire::new(stream);
    while let Ok(Some(request)) = wire.read().await {
        let answer = (shared.plan.lock().unwrap_or_else(PoisonError::into_inner))(&request);
        shared.book.lock().unwrap_or_else(PoisonError::into_inner).note(&request, answer.takes());
        let reply = match answer {
            Answer::Take => response(204, &[], b""),
            Answer::TakeAfter(span) => {
                tokio::time::sleep(span).await;
                response(204, &[], b"")
            }
            Answer::Status(status, headers) => response(status, &headers, b""),
            Answer::Hang => return std::future::pending().await,
            Answer::TakeAndCut => return,
        };
        if wire.stream.write_all(&reply).await.is_err() {
            return;
        }
    }
}
