//! Platforms that are listened to, on a bad day: Matrix that throttles, cuts, lies and goes back; IRC that dies while it tells the history. Nothing is
//! missing, nothing is doubled.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::support::daemon::{Daemon, Setup};
use crate::support::platform::{Answer, Platform, query, said};
use crate::support::receiver::{Book, Receiver};

const PATIENCE: Duration = Duration::from_secs(120);

fn setup(receiver: &Receiver, channel: String) -> Setup {
    let mut setup = Setup::all_to(&receiver.url());
    setup.channels.insert("chat".to_owned(), channel);
    setup.env.insert("CHAT_SECRET".to_owned(), "a-secret-only-for-tests".to_owned());
    setup
}

fn texts(book: &Book) -> Vec<String> {
    let created = book.taken().into_iter().filter(|one| one.event_type == "message.created");
    created.map(|one| one.text("/message/text").to_owned()).collect()
}

async fn came(receiver: &Receiver, count: usize) {
    receiver.wait_for("every message", PATIENCE, |book| texts(book).len() >= count).await;
}

/// A page of /sync with these messages of one room.
fn sync(next: u64, numbers: impl IntoIterator<Item = u64>, limited: Option<&str>) -> Value {
    let event = |number: u64| {
        json!({"type": "m.room.message", "event_id": format!("$e{number}"), "sender": "@zoe:localhost", "origin_server_ts": 1_700_000_000_000_u64 + number,
            "content": {"msgtype": "m.text", "body": format!("message {number}")}})
    };
    let events: Vec<Value> = numbers.into_iter().map(event).collect();
    let timeline = json!({"events": events, "limited": limited.is_some(), "prev_batch": limited});
    json!({"next_batch": format!("s{next}"), "rooms": {"join": {"!room:localhost": {"timeline": timeline}}}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_homeserver_that_throttles_cuts_repeats_and_goes_back_loses_nothing() {
    let plain = |body: &str| Answer::Plain(200, Vec::new(), body.to_owned());
    let throttled = Answer::Plain(429, Vec::new(), json!({"errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 700}).to_string());
    let half = sync(9, 1..=9, None).to_string();
    // Between the bad answers stands a good one: trouble that lasts is asked about less and less often.
    let script = VecDeque::from([
        throttled,
        said(&sync(1, [1], None)),
        Answer::Plain(502, Vec::new(), "<html>".to_owned()),
        said(&sync(2, [2], None)),
        plain(&half[..half.len() / 2]),
        // The same page once more, and its place.
        said(&sync(2, [2], None)),
        plain("<html>please wait</html>"),
        said(&sync(3, [3], None)),
        plain("{\"rooms\": {}}"),
        // A place before the one we had.
        said(&sync(1, [1, 2], None)),
        Answer::Cut,
        said(&sync(4, [4], None)),
        // A gap whose pages come broken before they come whole.
        said(&sync(8, [7, 8], Some("p1"))),
        said(&sync(8, [7, 8], Some("p1"))),
        said(&sync(8, [7, 8], Some("p1"))),
    ]);
    let script = Arc::new(Mutex::new(script));
    let mut gaps = VecDeque::from([plain("{\"end\": \"p2\"}"), plain("{\"chunk\": [")]);
    let left = script.clone();
    let mut first = true;
    let platform = Platform::start(move |target| {
        if target.contains("/account/whoami") {
            return said(&json!({"user_id": "@desk:localhost"}));
        }
        if target.contains("/messages") {
            return gaps.pop_front().unwrap_or_else(|| {
                let events = sync(0, [5, 6], None).pointer("/rooms/join/!room:localhost/timeline/events").unwrap().clone();
                let newest_first: Vec<Value> = events.as_array().unwrap().iter().rev().cloned().collect();
                said(&json!({"chunk": newest_first, "start": "p1"}))
            });
        }
        assert_eq!(query(target, "since").is_none(), std::mem::take(&mut first), "{target}");
        if query(target, "since").is_none() {
            return said(&json!({"next_batch": "s0"}));
        }
        left.lock().unwrap().pop_front().unwrap_or(Answer::Stall)
    })
    .await;
    let receiver = Receiver::start().await;
    let channel = format!(
        "connector = \"matrix\"\nmode = \"stream\"\naccount = \"@desk:localhost\"\n[settings]\nhomeserver = \"http://{}\"\n[secrets]\naccess_token = {{ env = \"CHAT_SECRET\" }}\n",
        platform.address
    );
    let daemon = Daemon::start(setup(&receiver, channel)).await;
    came(&receiver, 8).await;
    daemon.settled(PATIENCE).await.identities_hold();
    let wanted: Vec<String> = (1..=8).map(|number| format!("message {number}")).collect();
    assert_eq!(texts(&receiver.book()), wanted, "each once, in order");
    assert!(script.lock().unwrap().is_empty());
    // What was throttled was left alone as long as it said.
    let asked = platform.asked.lock().unwrap().clone();
    let syncs: Vec<_> = asked.iter().filter(|(_, target)| target.contains("/sync")).collect();
    assert!(syncs[2].0 - syncs[1].0 >= Duration::from_millis(700), "{:?}", syncs[2].0 - syncs[1].0);
    receiver.no_complaints();
}

/// A server of IRC with history, as one connection sees it.
pub struct IrcLine(pub BufReader<TcpStream>);

impl IrcLine {
    pub async fn say(&mut self, line: &str) {
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
    }

    pub async fn until(&mut self, what: &str) -> String {
        let read = async {
            loop {
                let mut line = String::new();
                assert!(self.0.read_line(&mut line).await.unwrap() > 0, "closed before {what}");
                if line.contains(what) {
                    return line;
                }
            }
        };
        tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("no {what}"))
    }

    /// Registers the client and lets it into the room; where it asks for history from, if it does.
    pub async fn register(listener: &TcpListener, asks: bool) -> (Self, Option<String>) {
        let (stream, _) = tokio::time::timeout(PATIENCE, listener.accept()).await.expect("a connection").unwrap();
        let mut line = Self(BufReader::new(stream));
        line.until("USER ").await;
        line.say(":irc.example.org CAP * LS :message-tags server-time batch draft/chathistory").await;
        let wanted = line.until("CAP REQ").await;
        let words = wanted.trim().split(" :").nth(1).unwrap().to_owned();
        line.say(&format!(":irc.example.org CAP * ACK :{words}")).await;
        line.until("CAP END").await;
        line.say(":irc.example.org 001 desk :welcome").await;
        line.until("JOIN #help").await;
        line.say(":desk!d@h JOIN #help").await;
        if asks {
            // Somebody talks before anything is said of the history.
            line.say(&said_at(9)).await;
        }
        line.say(":irc.example.org 366 desk #help :end").await;
        if !asks {
            return (line, None);
        }
        let asked = line.until("CHATHISTORY AFTER #help").await;
        (line, asked.split("timestamp=").nth(1).and_then(|rest| rest.split(' ').next()).map(str::to_owned))
    }
}

pub fn said_at(second: u32) -> String {
    format!("@time=2026-11-23T10:00:{second:02}.000Z;msgid=m{second} :zoe!z@h PRIVMSG #help :message {second}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_irc_server_that_dies_while_it_tells_the_history_is_asked_for_all_of_it_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let receiver = Receiver::start().await;
    let channel = format!(
        "connector = \"irc\"\nmode = \"stream\"\naccount = \"irc.example.org\"\n[settings]\nserver = \"{address}\"\ntls = false\nnick = \"desk\"\nrooms = [\"#help\"]\n"
    );
    let server = async {
        let (mut line, _) = IrcLine::register(&listener, false).await;
        line.say(&said_at(1)).await;
        came(&receiver, 1).await;
        drop(line);
        // Back again: somebody talks, the history begins, and in the middle of a line all ends.
        let (mut line, from) = IrcLine::register(&listener, true).await;
        assert_eq!(from.as_deref(), Some("2026-11-23T10:00:01.000Z"));
        line.say(":irc.example.org BATCH +b1 chathistory #help").await;
        line.say(&said_at(2).replacen('@', "@batch=b1;", 1)).await;
        came(&receiver, 3).await;
        line.0.get_mut().write_all(&said_at(3).as_bytes()[..40]).await.unwrap();
        drop(line);
        // What was said live does not stand for what the history still owes.
        let (mut line, from) = IrcLine::register(&listener, true).await;
        let from = from.unwrap();
        assert!(from.as_str() <= "2026-11-23T10:00:02.000Z", "{from}");
        line.say(":irc.example.org BATCH +b2 chathistory #help").await;
        for second in [2, 3, 4, 9] {
            line.say(&said_at(second).replacen('@', "@batch=b2;", 1)).await;
        }
        line.say(":irc.example.org BATCH -b2").await;
        came(&receiver, 5).await;
        line.say(&said_at(10)).await;
        came(&receiver, 6).await;
        line
    };
    let (daemon, _line) = tokio::join!(Daemon::start(setup(&receiver, channel)), server);
    daemon.settled(PATIENCE).await.identities_hold();
    let mut count: BTreeMap<String, u32> = BTreeMap::new();
    texts(&receiver.book()).into_iter().for_each(|text| *count.entry(text).or_default() += 1);
    let wanted = [1, 2, 3, 4, 9, 10].map(|second| (format!("message {second}"), 1));
    assert_eq!(count, wanted.into());
    receiver.no_complaints();
}
