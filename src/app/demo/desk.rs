//! A desk for the demo: a receiver as a CRM would write it. Verifies the signature, folds repeats by `webhook-id`, prints one line an
//! event, and fails one delivery on purpose.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;

use crate::logic::standard_webhooks::Signer;

/// The event that is refused once, counted from 1.
const REFUSED_ONCE: u64 = 3;
/// Longest text shown in a line, characters.
const SHOWN_CHARS: usize = 60;

/// The desk.
pub struct Desk {
    signer: Signer,
    seen: Mutex<HashSet<String>>,
    attempts: AtomicU64,
    taken: AtomicU64,
}

impl Desk {
    /// Starts a desk on a free port that accepts what is signed with `secret`.
    ///
    /// # Errors
    /// If no port can be had or the secret cannot be used.
    pub async fn start(secret: &str) -> std::io::Result<(Arc<Self>, SocketAddr)> {
        let signer = Signer::new(&[secret]).map_err(std::io::Error::other)?;
        let desk = Arc::new(Self { signer, seen: Mutex::default(), attempts: AtomicU64::new(0), taken: AtomicU64::new(0) });
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let router = Router::new().route("/events", post(take)).with_state(desk.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok((desk, address))
    }

    /// Events taken so far, each counted once.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

async fn take(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (id, timestamp, given) = (text("webhook-id"), text("webhook-timestamp"), text("webhook-signature"));
    let expected = timestamp.parse().map(|timestamp| desk.signer.sign(id, timestamp, &body));
    if expected.as_deref() != Ok(given) {
        println!("  desk  ✗ refused: the signature is wrong");
        return StatusCode::UNAUTHORIZED;
    }
    let Ok(event) = serde_json::from_slice::<Value>(&body) else { return StatusCode::BAD_REQUEST };
    if desk.attempts.fetch_add(1, Ordering::Relaxed) + 1 == REFUSED_ONCE {
        println!("  desk  ✗ 500 on purpose for {id}: the gateway will come again");
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    let new = desk.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
    if new {
        println!("{}", line(&event));
        desk.taken.fetch_add(1, Ordering::Relaxed);
    }
    StatusCode::NO_CONTENT
}

/// One line for a person: what happened, where, who said what.
fn line(event: &Value) -> String {
    let at = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let said = match at("/data/message/reply_text") {
        text if text.is_empty() => at("/data/message/text"),
        text => text,
    };
    let said: String = said.replace('\n', " ").chars().take(SHOWN_CHARS).collect();
    let sequence = event.pointer("/data/sequence").and_then(Value::as_u64).unwrap_or_default();
    let files = event.pointer("/data/message/attachments").and_then(Value::as_array).map_or(0, Vec::len);
    let files = if files == 0 { String::new() } else { format!(" [+{files} file]") };
    let conversation: String = at("/data/conversation/id").chars().rev().take(4).collect::<Vec<_>>().into_iter().rev().collect();
    format!(
        "  desk  ✓ {:<16} {:<13} …{conversation} #{sequence}  {}: “{said}”{files}",
        at("/type"),
        at("/data/channel/id"),
        at("/data/message/from/address"),
    )
}
