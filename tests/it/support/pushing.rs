//! Platforms that push over a websocket, as they behave on a bad day: they close when they like, say things twice, and go on after
//! a new connection with what was not acknowledged (Slack) or with what the session has not seen (Discord). Who asks gets the history.

mod history;

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::support::dice::Dice;

/// Which platform it plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Slack's Socket Mode: envelopes, acknowledged one by one.
    Slack,
    /// Discord's Gateway: a session with a sequence.
    Discord,
}

/// What happened.
#[derive(Debug, Default)]
pub struct Book {
    said: Vec<Value>,
    acked: BTreeSet<usize>,
    /// Connections that were ready.
    pub sessions: usize,
    /// Sessions that went on where an earlier connection ended.
    pub resumed: usize,
    /// Sessions that began (Discord).
    pub identified: usize,
    /// What was said before the session began.
    before: usize,
    /// The session is not known any more (Discord).
    pub invalid: bool,
    /// The socket says nothing for now (Slack); its lists tell everything.
    hushed: bool,
    /// What was asked for over HTTP.
    pub asked: Vec<String>,
    /// When.
    pub asked_at: Vec<Instant>,
    /// What is answered to the next requests below these paths, whole.
    pub refusals: VecDeque<(&'static str, String)>,
    /// Where sessions go on (Discord), if not here.
    pub resume_at: Option<String>,
}

struct Shared {
    book: Mutex<Book>,
    count: watch::Sender<usize>,
    /// Odd: nobody can connect. Connections end that began under another number.
    away: watch::Sender<u64>,
    manner: Manner,
    moody: bool,
    address: SocketAddr,
}

/// The platform.
pub struct Pusher {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Pusher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pusher {
    /// Starts it. `moody`: it ends connections and says things twice.
    pub async fn start(manner: Manner, moody: bool, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared =
            Arc::new(Shared { book: Mutex::default(), count: watch::channel(0).0, away: watch::channel(0).0, manner, moody, address });
        let inner = shared.clone();
        let task = tokio::spawn(async move {
            let mut dice = Dice::new(seed);
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, mood) = (inner.clone(), dice.roll());
                tokio::spawn(async move {
                    // A connection that breaks is the business of the next.
                    let _ = serve(stream, &shared, mood).await;
                });
            }
        });
        Self { shared, task }
    }

    /// Base of its API.
    pub fn url(&self) -> String {
        format!("http://{}", self.shared.address)
    }

    /// Somebody writes.
    pub fn say(&self, text: &str) {
        self.say_in(None, text);
    }

    /// Somebody writes in this place instead of the usual one (Slack). What the platform tells of it by every road.
    pub fn say_in(&self, place: Option<&str>, text: &str) -> Value {
        let (event, count) = {
            let mut book = self.book();
            let event = message(self.shared.manner, book.said.len(), place, text);
            book.said.push(event.clone());
            (event, book.said.len())
        };
        self.shared.count.send_replace(count);
        event
    }

    /// Somebody writes what is never pushed: the platform gave up on it, only its history has it (Slack).
    pub fn say_unheard(&self, text: &str) {
        let mut book = self.book();
        let number = book.said.len();
        let event = message(self.shared.manner, number, None, text);
        book.said.push(event);
        book.acked.insert(number);
    }

    /// Connections end, and there are no new ones until it is back.
    pub fn away(&self, away: bool) {
        self.shared.away.send_modify(|number| *number += u64::from(away != (*number % 2 == 1)));
    }

    /// The socket stays open and says nothing, until it may again: then all that was said meanwhile (Slack).
    pub fn hush(&self, hushed: bool) {
        self.book().hushed = hushed;
        self.shared.count.send_modify(|_| {});
    }

    /// How often something was asked for over HTTP.
    pub fn asked(&self, what: &str) -> usize {
        self.book().asked.iter().filter(|target| target.starts_with(what)).count()
    }

    /// What it remembers.
    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.shared.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until everything that was said is acknowledged (Slack).
    pub async fn acknowledged(&self, within: Duration) {
        let waiting = async {
            loop {
                {
                    let book = self.book();
                    if book.acked.len() == book.said.len() {
                        return;
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(within, waiting).await.expect("not everything was acknowledged");
    }
}

fn message(manner: Manner, number: usize, place: Option<&str>, text: &str) -> Value {
    match manner {
        Manner::Slack => {
            let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
            let ts = format!("{seconds}.{:06}", number + 1);
            let channel = place.unwrap_or("C0001");
            let kind = if channel.starts_with('D') { "im" } else { "channel" };
            let event = json!({"type": "message", "channel": channel, "channel_type": kind, "user": "U0001", "text": text, "ts": ts});
            let payload = json!({"type": "event_callback", "team_id": "T0001", "event_id": format!("Ev{number:04}"), "event_time": 1_700_000_000, "event": event});
            json!({"type": "events_api", "envelope_id": format!("env-{number}"), "accepts_response_payload": false, "payload": payload})
        }
        Manner::Discord => {
            let author = json!({"id": "2001", "username": "zoe", "global_name": "Zoe"});
            let id = (1_173_000_000_000_000_000_u64 + number as u64).to_string();
            let data = json!({"id": id, "channel_id": "1100", "guild_id": "1", "author": author, "content": text, "type": 0,
                "timestamp": "2023-11-14T22:13:20.123000+00:00", "edited_timestamp": null, "attachments": []});
            json!({"op": 0, "s": number + 2, "t": "MESSAGE_CREATE", "d": data})
        }
    }
}

type Socket = WebSocketStream<TcpStream>;
type Done = Result<(), Box<dyn std::error::Error + Send + Sync>>;

async fn serve(mut stream: TcpStream, shared: &Shared, mood: u64) -> Done {
    let mut head = [0; 4096];
    let read = stream.peek(&mut head).await?;
    let line = String::from_utf8_lossy(&head[..read]).into_owned();
    let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let refusal = {
        let mut book = shared.book.lock().unwrap();
        book.asked.push(target.clone());
        book.asked_at.push(Instant::now());
        let fits = book.refusals.front().is_some_and(|(path, _)| target.starts_with(path));
        fits.then(|| book.refusals.pop_front()).flatten()
    };
    if let Some((_, answer)) = refusal {
        let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut head).await?;
        return Ok(stream.write_all(answer.as_bytes()).await?);
    }
    let mut away = shared.away.subscribe();
    let began = *away.borrow();
    if began % 2 == 1 {
        return Ok(());
    }
    let socket = format!("ws://{}/link", shared.address);
    let answer = match shared.manner {
        Manner::Slack if line.starts_with("POST /apps.connections.open") => {
            assert!(line.to_ascii_lowercase().contains("authorization: bearer xapp-1"), "{line}");
            json!({"ok": true, "url": socket})
        }
        Manner::Discord if line.starts_with("GET /gateway/bot") => {
            json!({"url": socket, "shards": 1, "session_start_limit": {"total": 1000, "remaining": 900, "reset_after": 1000, "max_concurrency": 1}})
        }
        _ if target.starts_with("/link") => {
            let line = tokio_tungstenite::accept_async(stream).await?;
            let talk = async {
                match shared.manner {
                    Manner::Slack => slack(line, shared, Dice::new(mood)).await,
                    Manner::Discord => discord(line, shared, Dice::new(mood)).await,
                }
            };
            return tokio::select! {
                done = talk => done,
                _ = away.wait_for(|now| *now != began) => Ok(()),
            };
        }
        Manner::Slack => history::slack(&shared.book.lock().unwrap().said, &target),
        Manner::Discord => history::discord(&shared.book.lock().unwrap().said, &target),
    };
    let body = answer.to_string();
    let mut sink = [0; 4096];
    let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut sink).await?;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
    stream.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await?;
    Ok(())
}

async fn put(socket: &mut Socket, frame: &Value) -> Done {
    Ok(socket.send(Message::text(frame.to_string())).await?)
}

async fn slack(mut socket: Socket, shared: &Shared, mut dice: Dice) -> Done {
    put(&mut socket, &json!({"type": "hello", "num_connections": 1})).await?;
    shared.book.lock().unwrap().sessions += 1;
    let mut count = shared.count.subscribe();
    let mut sent = BTreeSet::new();
    loop {
        let wanted: Vec<(usize, Value)> = {
            let book = shared.book.lock().unwrap();
            let telling = if book.hushed { 0 } else { book.said.len() };
            (0..telling).filter(|n| !book.acked.contains(n) && !sent.contains(n)).map(|n| (n, book.said[n].clone())).collect()
        };
        for (number, frame) in wanted {
            sent.insert(number);
            put(&mut socket, &frame).await?;
            if shared.moody && dice.chance(10) {
                put(&mut socket, &frame).await?;
            }
            if shared.moody && dice.chance(3) {
                // It goes without a word.
                return Ok(());
            }
            if shared.moody && dice.chance(3) {
                put(&mut socket, &json!({"type": "disconnect", "reason": "refresh_requested"})).await?;
            }
        }
        tokio::select! {
            heard = socket.next() => match heard {
                Some(Ok(Message::Text(text))) => {
                    let ack: Value = serde_json::from_str(&text)?;
                    let number: usize = ack["envelope_id"].as_str().unwrap().trim_start_matches("env-").parse()?;
                    shared.book.lock().unwrap().acked.insert(number);
                }
                Some(Ok(_)) => {}
                _ => return Ok(()),
            },
            _ = count.changed() => {}
        }
    }
}

async fn discord(mut socket: Socket, shared: &Shared, mut dice: Dice) -> Done {
    put(&mut socket, &json!({"op": 10, "d": {"heartbeat_interval": 2000}})).await?;
    let mut next = loop {
        let Some(Ok(Message::Text(text))) = socket.next().await else { return Ok(()) };
        let frame: Value = serde_json::from_str(&text)?;
        match frame["op"].as_u64() {
            Some(2) => {
                assert_eq!((&frame["d"]["token"], &frame["d"]["intents"]), (&json!("b0t"), &json!(38_401)));
                // A new session sees what is said from now on.
                shared.book.lock().unwrap().identified += 1;
                let resume_at = shared.book.lock().unwrap().resume_at.clone();
                let resume_at = resume_at.unwrap_or_else(|| format!("ws://{}/link", shared.address));
                let ready = json!({"session_id": "s1", "resume_gateway_url": resume_at});
                put(&mut socket, &json!({"op": 0, "t": "READY", "s": 1, "d": ready})).await?;
                let mut book = shared.book.lock().unwrap();
                book.before = book.said.len();
                break book.before;
            }
            Some(6) if std::mem::take(&mut shared.book.lock().unwrap().invalid) => {
                put(&mut socket, &json!({"op": 9, "d": false})).await?;
            }
            Some(6) => {
                assert_eq!(frame["d"]["session_id"], "s1");
                shared.book.lock().unwrap().resumed += 1;
                // What the session has seen already comes once more, as it may.
                let from = usize::try_from(frame["d"]["seq"].as_u64().unwrap())?.saturating_sub(3);
                break from.max(shared.book.lock().unwrap().before);
            }
            _ => {}
        }
    };
    shared.book.lock().unwrap().sessions += 1;
    let mut count = shared.count.subscribe();
    loop {
        let wanted: Vec<Value> = shared.book.lock().unwrap().said.iter().skip(next).cloned().collect();
        for frame in wanted {
            next += 1;
            put(&mut socket, &frame).await?;
            if shared.moody && dice.chance(4) {
                return Ok(());
            }
            if shared.moody && dice.chance(4) {
                put(&mut socket, &json!({"op": 7, "d": null})).await?;
            }
        }
        tokio::select! {
            heard = socket.next() => match heard {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text)?;
                    assert_eq!(frame["op"], 1, "{frame}");
                    put(&mut socket, &json!({"op": 11})).await?;
                }
                Some(Ok(_)) => {}
                _ => return Ok(()),
            },
            _ = count.changed() => {}
        }
    }
}
