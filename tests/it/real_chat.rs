//! Chat servers that nobody here wrote: somebody writes with a client of her own, the gateway is stopped and started in between,
//! and at the destination every message is there once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::bad_link::{BadLink, Faults};
use crate::support::chat_servers;
use crate::support::daemon::{Daemon, Setup};
use crate::support::http1::{self, Message};
use crate::support::receiver::Receiver;

const PATIENCE: Duration = Duration::from_secs(60);

fn setup(receiver: &Receiver, channel: String, password: &str) -> Setup {
    let mut setup = Setup::all_to(&receiver.url());
    setup.channels.insert("chat".to_owned(), channel);
    setup.env.insert("CHAT_SECRET".to_owned(), password.to_owned());
    setup
}

/// Waits for so many messages, then asserts that each text came once.
async fn came_once(receiver: &Receiver, daemon: &Daemon, texts: &[String]) {
    let created = |book: &crate::support::receiver::Book| book.taken().iter().filter(|one| one.event_type == "message.created").count();
    receiver.wait_for("every message", PATIENCE, |book| created(book) >= texts.len()).await;
    daemon.settled(PATIENCE).await.identities_hold();
    receiver.no_complaints();
    let book = receiver.book();
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for one in book.taken().into_iter().filter(|one| one.event_type == "message.created") {
        *count.entry(one.text("/message/text")).or_default() += 1;
    }
    let wrong: Vec<_> = texts.iter().filter(|text| count.get(text.as_str()) != Some(&1)).collect();
    assert!(wrong.is_empty() && count.len() == texts.len(), "missing or doubled: {wrong:?}, {} texts in all", count.len());
}

/// A client of IRC, as plain as it can be.
struct Client(BufReader<TcpStream>);

impl Client {
    async fn connect(address: SocketAddr, nick: &str) -> Self {
        let mut client = Self(BufReader::new(TcpStream::connect(address).await.unwrap()));
        client.say(&format!("NICK {nick}\r\nUSER {nick} 0 * :{nick}")).await;
        client.until(" 001 ").await;
        client
    }

    async fn say(&mut self, line: &str) {
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
    }

    async fn until(&mut self, what: &str) -> String {
        let read = async {
            loop {
                let mut line = String::new();
                assert!(self.0.read_line(&mut line).await.unwrap() > 0, "closed before {what}");
                if line.starts_with("PING") {
                    let pong = line.trim().replacen("PING", "PONG", 1);
                    self.say(&pong).await;
                }
                if line.contains(what) {
                    return line;
                }
            }
        };
        tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("no {what}"))
    }
}

fn irc(address: SocketAddr) -> String {
    format!(
        "connector = \"irc\"\nmode = \"stream\"\naccount = \"irc.example.org\"\n[settings]\nserver = \"{address}\"\ntls = false\nnick = \"desk\"\nrooms = [\"#help\"]\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ngircd_rooms_and_private_chats_are_heard() {
    let Some(server) = chat_servers::ngircd() else { return };
    let receiver = Receiver::start().await;
    // Somebody has our nick.
    let squatter = Client::connect(server.address, "desk").await;
    let daemon = Daemon::start(setup(&receiver, irc(server.address), "")).await;
    daemon.channel_running("chat").await;
    let mut zoe = Client::connect(server.address, "zoe").await;
    zoe.say("JOIN #help").await;
    zoe.until(" 366 ").await;
    zoe.say("PRIVMSG #help :where is my order?").await;
    zoe.say("PRIVMSG desk_ :between us").await;
    zoe.say("PRIVMSG #help :\u{1}ACTION waits\u{1}").await;
    let texts: Vec<String> = ["where is my order?", "between us", "waits"].map(str::to_owned).into();
    came_once(&receiver, &daemon, &texts).await;
    let book = receiver.book();
    let taken = book.taken();
    // Conversations are delivered side by side.
    let said = |text: &str| taken.iter().find(|one| one.text("/message/text") == text).unwrap();
    assert_eq!(said("where is my order?").text("/message/from/address"), "irc:zoe");
    assert_ne!(said("where is my order?").conversation, said("between us").conversation);
    assert_eq!(said("where is my order?").conversation, said("waits").conversation);
    drop(squatter);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inspircd_plays_back_what_was_said_during_a_restart_and_nothing_comes_twice() {
    let Some(server) = chat_servers::inspircd() else { return };
    let receiver = Receiver::start().await;
    let mut zoe = Client::connect(server.address, "zoe").await;
    zoe.say("JOIN #help").await;
    zoe.until(" 366 ").await;
    zoe.say("MODE #help +H 100:1h").await;
    zoe.until("+H").await;
    let mut daemon = Daemon::start(setup(&receiver, irc(server.address), "")).await;
    daemon.channel_running("chat").await;
    let mut texts: Vec<String> = (0..5).map(|number| format!("before {number}")).collect();
    for text in &texts {
        zoe.say(&format!("PRIVMSG #help :{text}")).await;
    }
    came_once(&receiver, &daemon, &texts).await;
    daemon.kill();
    zoe.until("QUIT").await;
    for number in 0..20 {
        let text = format!("meanwhile {number}");
        zoe.say(&format!("PRIVMSG #help :{text}")).await;
        texts.push(text);
    }
    zoe.say("PING :done").await;
    zoe.until("PONG").await;
    daemon.launch();
    daemon.ready().await;
    daemon.channel_running("chat").await;
    zoe.say("PRIVMSG #help :after").await;
    texts.push("after".to_owned());
    came_once(&receiver, &daemon, &texts).await;
}

/// A client of XMPP that can log in by PLAIN, enter a room, and write.
struct Jabber(TcpStream);

impl Jabber {
    async fn connect(address: SocketAddr, user: &str) -> Self {
        use base64::Engine as _;
        let mut client = Self(TcpStream::connect(address).await.unwrap());
        let open = "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
        client.ask(open, "</stream:features>").await;
        let plain = base64::engine::general_purpose::STANDARD.encode(format!("\0{user}\0pw-1"));
        client.ask(&format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{plain}</auth>"), "<success").await;
        client.ask(open, "</stream:features>").await;
        client.ask("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>", "</iq>").await;
        client.say("<presence/>").await;
        client
    }

    async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    async fn ask(&mut self, text: &str, until: &str) {
        self.say(text).await;
        let (mut heard, mut buffer) = (String::new(), [0; 4096]);
        let read = async {
            while !heard.contains(until) {
                let count = self.0.read(&mut buffer).await.unwrap();
                assert!(count > 0, "closed before {until}: {heard}");
                heard.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        };
        tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("no {until}"));
    }

    async fn write(&mut self, to: &str, kind: &str, id: usize, text: &str) {
        self.say(&format!("<message to='{to}' type='{kind}' id='m{id}'><body>{text}</body></message>")).await;
    }

    /// Everything written before has arrived.
    async fn done(&mut self) {
        self.ask("<iq type='get' id='done' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>", "done").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prosody_keeps_what_was_said_meanwhile_and_nothing_comes_twice() {
    let Some(server) = chat_servers::prosody() else { return };
    let receiver = Receiver::start().await;
    let mut zoe = Jabber::connect(server.address, "zoe").await;
    let enter = "<presence to='help@conference.localhost/zoe'><x xmlns='http://jabber.org/protocol/muc'/></presence>";
    zoe.ask(enter, "code='110'").await;
    // A new room waits for its owner.
    zoe.ask(
        "<iq type='set' id='room' to='help@conference.localhost'><query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query></iq>",
        "id='room'",
    )
    .await;
    let channel = format!(
        "connector = \"xmpp\"\nmode = \"stream\"\naccount = \"desk@localhost\"\n[settings]\njid = \"desk@localhost\"\nserver = \"{}\"\ntls = \"none\"\nnick = \"desk\"\nrooms = [\"help@conference.localhost\"]\n[secrets]\npassword = {{ env = \"CHAT_SECRET\" }}\n",
        server.address
    );
    let mut daemon = Daemon::start(setup(&receiver, channel, "pw-1")).await;
    daemon.channel_running("chat").await;
    let mut texts = Vec::new();
    let mut number = 0;
    for (part, count) in [("before", 5), ("meanwhile", 130), ("after", 3)] {
        if part == "meanwhile" {
            daemon.kill();
        }
        for _ in 0..count {
            number += 1;
            for (to, kind) in [("help@conference.localhost", "groupchat"), ("desk@localhost", "chat")] {
                texts.push(format!("{part} {number} {kind}"));
                zoe.write(to, kind, texts.len(), &texts[texts.len() - 1]).await;
            }
        }
        zoe.done().await;
        if part == "meanwhile" {
            daemon.launch();
            daemon.ready().await;
            daemon.channel_running("chat").await;
        }
        came_once(&receiver, &daemon, &texts).await;
    }
}

/// A link to a server that is cut again and again, in the middle of whatever comes.
fn cut_link(server: SocketAddr, cut_after: usize) -> BadLink {
    BadLink::start(server.port(), Faults { cut_after: Some(cut_after), cuts: 6, delay: Duration::ZERO })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prosody_over_a_link_that_is_cut_again_and_again_loses_and_doubles_nothing() {
    let Some(server) = chat_servers::prosody() else { return };
    let receiver = Receiver::start().await;
    let mut zoe = Jabber::connect(server.address, "zoe").await;
    // Past the log-in, and never to the end of the archive.
    let link = cut_link(server.address, 9_000);
    let channel = format!(
        "connector = \"xmpp\"\nmode = \"stream\"\naccount = \"desk@localhost\"\n[settings]\njid = \"desk@localhost\"\nserver = \"127.0.0.1:{}\"\ntls = \"none\"\nnick = \"desk\"\n[secrets]\npassword = {{ env = \"CHAT_SECRET\" }}\n",
        link.port
    );
    let daemon = Daemon::start(setup(&receiver, channel, "pw-1")).await;
    daemon.channel_running("chat").await;
    let texts: Vec<String> = (0..150).map(|number| format!("message {number}")).collect();
    for (number, text) in texts.iter().enumerate() {
        zoe.write("desk@localhost", "chat", number, text).await;
    }
    zoe.done().await;
    came_once(&receiver, &daemon, &texts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inspircd_over_a_link_that_is_cut_again_and_again_loses_and_doubles_nothing() {
    let Some(server) = chat_servers::inspircd() else { return };
    let receiver = Receiver::start().await;
    let mut zoe = Client::connect(server.address, "zoe").await;
    zoe.say("JOIN #help").await;
    zoe.until(" 366 ").await;
    zoe.say("MODE #help +H 200:1h").await;
    zoe.until("+H").await;
    let link = cut_link(server.address, 9_000);
    let daemon = Daemon::start(setup(&receiver, irc(SocketAddr::from(([127, 0, 0, 1], link.port))), "")).await;
    daemon.channel_running("chat").await;
    let texts: Vec<String> = (0..150).map(|number| format!("message {number}")).collect();
    for text in &texts {
        zoe.say(&format!("PRIVMSG #help :{text}")).await;
    }
    zoe.say("PING :done").await;
    zoe.until("PONG").await;
    came_once(&receiver, &daemon, &texts).await;
}

struct Homeserver(SocketAddr);

impl Homeserver {
    async fn ask(&self, method: &str, path: &str, token: &str, body: &Value) -> Value {
        let bearer = format!("Bearer {token}");
        let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
        let headers = if token.is_empty() { &headers[..1] } else { &headers[..] };
        let target = format!("/_matrix/client/v3/{path}");
        let answer = http1::once(self.0, method, &target, headers, body.to_string().as_bytes()).await.unwrap();
        assert!(answer.success(), "{method} {path}: {} {}", answer.start, answer.text());
        answer.json()
    }

    async fn register(&self, name: &str) -> String {
        let body = json!({"username": name, "password": "pw-1-long-enough", "auth": {"type": "m.login.dummy"}});
        self.ask("POST", "register", "", &body).await["access_token"].as_str().unwrap().to_owned()
    }

    async fn write(&self, token: &str, room: &str, number: usize, text: &str) {
        let room = room.replace('!', "%21").replace(':', "%3A");
        let path = format!("rooms/{room}/send/m.room.message/t{number}");
        self.ask("PUT", &path, token, &json!({"msgtype": "m.text", "body": text})).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn synapse_cuts_a_timeline_and_what_lies_between_is_read_backwards() {
    let Some(server) = chat_servers::synapse() else { return };
    let homeserver = Homeserver(server.address);
    let receiver = Receiver::start().await;
    let (desk, zoe) = (homeserver.register("desk1").await, homeserver.register("zoe1").await);
    let channel = format!(
        "connector = \"matrix\"\nmode = \"stream\"\naccount = \"@desk1:localhost\"\n[settings]\nhomeserver = \"http://{}\"\n[secrets]\naccess_token = {{ env = \"CHAT_SECRET\" }}\n",
        server.address
    );
    let mut daemon = Daemon::start(setup(&receiver, channel, &desk)).await;
    daemon.channel_running("chat").await;
    let made = homeserver.ask("POST", "createRoom", &zoe, &json!({"preset": "private_chat", "invite": ["@desk1:localhost"]})).await;
    let room = made["room_id"].as_str().unwrap().to_owned();
    let mut texts = Vec::new();
    for (part, count) in [("before", 3), ("meanwhile", 120), ("after", 3)] {
        if part == "meanwhile" {
            daemon.kill();
        }
        for number in 0..count {
            texts.push(format!("{part} {number}"));
            homeserver.write(&zoe, &room, texts.len(), &texts[texts.len() - 1]).await;
        }
        if part == "meanwhile" {
            daemon.launch();
            daemon.ready().await;
        }
        came_once(&receiver, &daemon, &texts).await;
    }
    // In the order they were said.
    let book = receiver.book();
    let order: Vec<&str> =
        book.taken().into_iter().filter(|one| one.event_type == "message.created").map(|one| one.text("/message/text")).collect();
    assert_eq!(order, texts.iter().map(String::as_str).collect::<Vec<_>>());
}

/// Somebody who writes to us with Mastodon.py.
struct Fediverse {
    address: SocketAddr,
    python: PathBuf,
    token: String,
}

impl Fediverse {
    async fn with(address: SocketAddr, python: PathBuf) -> Self {
        let made = Self::tell(address, "dev_user", &json!({"username": "zoe"})).await;
        let token = made.json()["access_token"].as_str().unwrap().to_owned();
        Self { address, python, token }
    }

    async fn tell(address: SocketAddr, what: &str, body: &Value) -> Message {
        let headers = [("content-type", "application/json")];
        let answer = http1::once(address, "POST", &format!("/api/v1/_mock/{what}"), &headers, body.to_string().as_bytes()).await.unwrap();
        assert!(answer.success(), "{what}: {} {}", answer.start, answer.text());
        answer
    }

    /// The next request to the list of notifications goes wrong like this.
    async fn fault(&self, effect: Value) {
        let body = json!({"match": {"path": "/api/v1/notifications"}, "effect": effect, "count": 1});
        Self::tell(self.address, "faults", &body).await;
    }

    fn post(&self, texts: &[String]) {
        let script = "import sys\nfrom mastodon import Mastodon\n\
            us = Mastodon(access_token=sys.argv[2], api_base_url=sys.argv[1], version_check_mode='none')\n\
            for text in sys.argv[3:]: us.status_post('@testuser ' + text, visibility='direct' if 'private' in text else 'public')\n";
        let mut command = std::process::Command::new(&self.python);
        let done = command.args(["-c", script, &format!("http://{}", self.address), &self.token]).args(texts).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mentions_on_a_server_of_mastodons_api_come_once_by_stream_and_list_through_faults_and_a_kill() {
    let Some((server, python)) = chat_servers::mastodon() else { return };
    let zoe = Fediverse::with(server.address, python).await;
    let receiver = Receiver::start().await;
    let at = server.address;
    let channel = format!(
        "connector = \"mastodon\"\nmode = \"stream\"\naccount = \"testuser\"\n[settings]\nserver = \"http://{at}\"\nstreaming = \"http://{at}\"\n\
         [secrets]\naccess_token = {{ env = \"CHAT_SECRET\" }}\n"
    );
    let mut daemon = Daemon::start(setup(&receiver, channel, "mock_token")).await;
    daemon.channel_running("chat").await;
    let mut texts = Vec::new();
    // While nobody listens there come more than one page holds.
    for (part, count) in [("before", 3), ("meanwhile", 50), ("after", 3)] {
        if part == "meanwhile" {
            daemon.kill();
        }
        let said: Vec<String> =
            (0..count).map(|number| format!("{part} {number}{}", if number % 5 == 4 { " private" } else { "" })).collect();
        zoe.post(&said);
        texts.extend(said.into_iter().map(|text| format!("@testuser {text}")));
        if part == "meanwhile" {
            zoe.fault(json!({"type": "status", "status": 503})).await;
            daemon.launch();
            daemon.ready().await;
        }
        came_once(&receiver, &daemon, &texts).await;
    }
}
