//! A platform of streams, for many channels at once: below the path of each, what becomes of one connection after the other is written down.
//! Where a script ends, streams are open and say nothing, and the request before a stream is answered as it should be.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

use crate::support::daemon::{Daemon, Setup};

/// An answer that is no stream.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
    /// Nobody is to come back before.
    pub wait: Duration,
}

impl Refusal {
    pub fn new(status: u16, kind: &str, body: &str) -> Self {
        Self { status, headers: vec![("content-type", kind.to_owned())], body: body.to_owned(), wait: Duration::ZERO }
    }
}

/// What becomes of a connection.
pub enum Reply {
    /// Said at the moment it is asked for: some name a time.
    Refuse(Box<dyn FnOnce() -> Refusal + Send>),
    /// Nothing is answered.
    Stall,
    /// A head that promises a body, which never comes.
    Half(u16),
    /// Less than was promised.
    Cut(String),
    /// A stream of these frames, then its end.
    Ends(Vec<Value>),
    /// A stream of these frames that stays open.
    Stays(Vec<Value>),
    /// A number every tenth of a second, from one on.
    Ticks,
}

/// Refuses so.
pub fn refuse(refusal: Refusal) -> Reply {
    Reply::Refuse(Box::new(move || refusal))
}

/// A connection that was made.
#[derive(Debug, Clone)]
pub struct Visit {
    pub at: Instant,
    /// Path without the channel.
    pub what: String,
    /// The next one is to come no earlier.
    pub not_before: Option<Instant>,
}

#[derive(Default)]
struct Book {
    scripts: BTreeMap<(String, String), VecDeque<Reply>>,
    visits: BTreeMap<String, Vec<Visit>>,
}

/// The platform.
pub struct Live {
    pub address: SocketAddr,
    book: Arc<Mutex<Book>>,
    task: JoinHandle<()>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Live {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let book: Arc<Mutex<Book>> = Arc::default();
        let inner = book.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let book = inner.clone();
                // Who goes away in between is the business of the script.
                tokio::spawn(async move {
                    let _ = serve(stream, address, &book).await;
                });
            }
        });
        Self { address, book, task }
    }

    /// Base of what a channel asks for.
    pub fn url(&self, channel: &str) -> String {
        format!("http://{}/{channel}", self.address)
    }

    /// What becomes of a channel's next connections to `what`.
    pub fn script(&self, channel: &str, what: &str, replies: impl IntoIterator<Item = Reply>) {
        self.book().scripts.entry((channel.to_owned(), what.to_owned())).or_default().extend(replies);
    }

    /// Every connection of a channel.
    pub fn visits(&self, channel: &str) -> Vec<Visit> {
        self.book().visits.get(channel).cloned().unwrap_or_default()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody came back before the time that was named.
    #[track_caller]
    pub fn nobody_came_too_early(&self, channel: &str) {
        let visits = self.visits(channel);
        for (one, next) in visits.iter().zip(visits.iter().skip(1)) {
            let early = one.not_before.and_then(|until| until.checked_duration_since(next.at));
            // A refusal is noted a moment after it is made, and clocks have their grain.
            assert!(early.is_none_or(|early| early < Duration::from_millis(20)), "{channel} came {early:?} too early: {visits:?}");
        }
    }
}

async fn head(stream: &TcpStream) -> Option<String> {
    let mut buffer = vec![0; 8192];
    loop {
        let read = stream.peek(&mut buffer).await.ok().filter(|read| *read > 0)?;
        let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
        if text.contains("\r\n\r\n") {
            return Some(text);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn serve(mut stream: TcpStream, address: SocketAddr, book: &Mutex<Book>) -> Option<()> {
    let head = head(&stream).await?;
    let target = head.split(' ').nth(1)?.split('?').next()?.trim_start_matches('/').to_owned();
    let (channel, what) = target.split_once('/')?;
    let socket = head.to_ascii_lowercase().contains("upgrade: websocket");
    let visit = Visit { at: Instant::now(), what: what.to_owned(), not_before: None };
    let reply = {
        let mut book = book.lock().unwrap();
        book.visits.entry(channel.to_owned()).or_default().push(visit);
        book.scripts.get_mut(&(channel.to_owned(), what.to_owned())).and_then(VecDeque::pop_front)
    };
    let opens = what.contains("open");
    if !socket {
        let mut sink = vec![0; 8192];
        let _ = stream.read(&mut sink).await.ok()?;
    }
    let frames = match reply {
        None if opens => {
            let body = json!({"ok": true, "url": format!("ws://{address}/{channel}/link")}).to_string();
            return answer(&mut stream, &Refusal::new(200, "application/json", &body)).await;
        }
        None => (Vec::new(), Some(false)),
        Some(Reply::Refuse(refusal)) => {
            let refusal = refusal();
            let until = Instant::now() + refusal.wait;
            if let Some(visit) = book.lock().unwrap().visits.get_mut(channel).and_then(|visits| visits.last_mut()) {
                visit.not_before = Some(until);
            }
            return answer(&mut stream, &refusal).await;
        }
        Some(Reply::Stall) => std::future::pending().await,
        Some(Reply::Half(status)) => {
            stream.write_all(format!("HTTP/1.1 {status} X\r\ncontent-length: 50\r\n\r\n").as_bytes()).await.ok()?;
            std::future::pending().await
        }
        Some(Reply::Cut(body)) => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len() + 40);
            return stream.write_all((head + &body).as_bytes()).await.ok();
        }
        Some(Reply::Ends(frames)) => (frames, None),
        Some(Reply::Stays(frames)) => (frames, Some(false)),
        Some(Reply::Ticks) => (Vec::new(), Some(true)),
    };
    if socket { websocket(stream, frames).await } else { flow(stream, what, frames).await }
}

async fn answer(stream: &mut TcpStream, refusal: &Refusal) -> Option<()> {
    let headers: String = refusal.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let (status, body) = (refusal.status, &refusal.body);
    let text = format!("HTTP/1.1 {status} X\r\n{headers}connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await.ok()
}

/// Frames, and whether it stays open: `true` counts.
type Frames = (Vec<Value>, Option<bool>);

async fn flow(mut stream: TcpStream, what: &str, (frames, stays): Frames) -> Option<()> {
    let events = what.contains("sse");
    let kind = if events { "text/event-stream" } else { "application/x-ndjson" };
    stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n").as_bytes()).await.ok()?;
    let line = |frame: &Value| if events { format!("data: {frame}\n\n") } else { format!("{frame}\n") };
    for frame in &frames {
        stream.write_all(line(frame).as_bytes()).await.ok()?;
    }
    let mut count = 0;
    while let Some(ticks) = stays {
        tokio::time::sleep(Duration::from_millis(100)).await;
        count += 1;
        if ticks {
            stream.write_all(line(&json!({"n": count})).as_bytes()).await.ok()?;
        }
    }
    Some(())
}

async fn websocket(stream: TcpStream, (frames, stays): Frames) -> Option<()> {
    let mut socket = tokio_tungstenite::accept_async(stream).await.ok()?;
    for frame in &frames {
        socket.send(Message::text(frame.to_string())).await.ok()?;
    }
    if stays.is_some() {
        while let Some(Ok(_)) = socket.next().await {}
    }
    let _ = socket.close(None).await;
    Some(())
}

/// Everything, also for operators, goes to a file.
pub fn archived() -> Setup {
    let rest = "[destination.archive]\nkind = \"file\"\npath = \"events.ndjson\"\n[[route]]\nto = [\"archive\"]\ndirection = \"any\"\nhistoric = true\n\
                [[route]]\nto = [\"archive\"]\noperator = true\n";
    Setup { rest: rest.to_owned(), ..Setup::default() }
}

/// What operators were told of a channel: types and codes, in order.
pub fn told(daemon: &Daemon, channel: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let about = |event: &Value| {
        event["data"]["channel"]["id"] == channel && event["type"].as_str().is_some_and(|kind| kind.starts_with("channel."))
    };
    let events = crate::token_roads::events(daemon).into_iter().filter(about);
    events.map(|event| (text(&event["type"]), text(&event["data"]["code"]))).collect()
}

/// Texts of the messages of a channel, in the order they came.
pub fn texts(daemon: &Daemon, channel: &str) -> Vec<String> {
    let events = crate::token_roads::events(daemon).into_iter();
    let of = events.filter(|event| event["type"] == "message.created" && event["data"]["channel"]["id"] == channel);
    of.map(|event| event["data"]["message"]["text"].as_str().unwrap_or_default().to_owned()).collect()
}
