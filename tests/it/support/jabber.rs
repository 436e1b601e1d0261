//! A scripted server of XMPP: one connection after the other, each step written down by the test. It keeps an archive that it tells whole,
//! whatever it is asked for: most of it is known already.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PATIENCE: Duration = Duration::from_secs(100);
const OPEN: &str = "<?xml version='1.0'?><stream:stream from='example.org' id='s1' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

/// The channel file of `desk@example.org` at this server.
pub fn channel(server: SocketAddr, rooms: &[&str]) -> String {
    format!(
        "connector = \"xmpp\"\nmode = \"stream\"\naccount = \"desk@example.org\"\n[settings]\njid = \"desk@example.org\"\nserver = \"{server}\"\n\
         tls = \"none\"\nnick = \"desk\"\nrooms = {rooms:?}\n[secrets]\npassword = {{ env = \"CHAT_SECRET\" }}\n"
    )
}

/// The server.
pub struct Jabber(TcpListener);

/// One connection.
pub struct Line {
    stream: TcpStream,
    heard: String,
}

impl Jabber {
    pub async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// The next connection.
    pub async fn line(&self) -> Line {
        let (stream, _) = tokio::time::timeout(PATIENCE, self.0.accept()).await.expect("nobody came").unwrap();
        Line { stream, heard: String::new() }
    }

    /// The next connection, logged in and bound.
    pub async fn bound(&self) -> Line {
        let mut line = self.line().await;
        line.offers().await;
        line.until("</auth>").await;
        line.say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
        line.until("<stream:stream").await;
        line.until(">").await;
        line.say(&format!("{OPEN}<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>")).await;
        line.until("</iq>").await;
        let jid = "<jid>desk@example.org/omnigate-1</jid>";
        line.say(&format!("<iq type='result' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>{jid}</bind></iq>")).await;
        line.until("<presence/>").await;
        line
    }
}

impl Line {
    /// The stream is opened, and a log-in by PLAIN offered.
    pub async fn offers(&mut self) {
        self.until("<stream:stream").await;
        self.until(">").await;
        let plain = "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms>";
        self.say(&format!("{OPEN}<stream:features>{plain}</stream:features>")).await;
    }

    pub async fn say(&mut self, text: &str) {
        self.bytes(text.as_bytes()).await;
    }

    pub async fn bytes(&mut self, bytes: &[u8]) {
        // Whoever has gone is missed by what is asserted later.
        let _ = self.stream.write_all(bytes).await;
    }

    /// What is heard up to and with this.
    pub async fn until(&mut self, what: &str) -> String {
        let mut buffer = [0; 4096];
        let reading = async {
            loop {
                if let Some(at) = self.heard.find(what) {
                    let rest = self.heard.split_off(at + what.len());
                    return std::mem::replace(&mut self.heard, rest);
                }
                let read = self.stream.read(&mut buffer).await.unwrap_or(0);
                assert!(read > 0, "closed before {what}: {}", self.heard);
                self.heard.push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("no {what}"))
    }

    /// The other side has gone.
    pub async fn gone(&mut self) {
        let mut buffer = [0; 4096];
        let reading = async { while self.stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {} };
        tokio::time::timeout(PATIENCE, reading).await.expect("still there");
    }

    /// The id of the next question to an archive.
    pub async fn asked(&mut self) -> String {
        let mut asked = self.until("</iq>").await;
        while !asked.contains("urn:xmpp:mam:2") {
            asked = self.until("</iq>").await;
        }
        asked.split("queryid='").nth(1).unwrap().split('\'').next().unwrap().to_owned()
    }

    /// Tells the archive of the account, whole.
    pub async fn tell(&mut self, numbers: impl IntoIterator<Item = u32>) {
        let id = self.asked().await;
        for number in numbers {
            let inner = message(number).replacen("<message", "<message xmlns='jabber:client'", 1);
            let delay = "<delay xmlns='urn:xmpp:delay' stamp='2026-11-23T10:00:00Z'/>";
            self.say(&format!(
                "<message from='desk@example.org' to='desk@example.org/omnigate-1'><result xmlns='urn:xmpp:mam:2' queryid='{id}' id='a{number}'>\
                 <forwarded xmlns='urn:xmpp:forward:0'>{delay}{inner}</forwarded></result></message>"
            ))
            .await;
        }
        let set = "<set xmlns='http://jabber.org/protocol/rsm'/>";
        self.say(&format!("<iq type='result' id='{id}'><fin xmlns='urn:xmpp:mam:2' complete='true'>{set}</fin></iq>")).await;
    }
}

/// A message of a chat, as it is said live.
pub fn message(number: u32) -> String {
    format!(
        "<message from='zoe@example.org/phone' to='desk@example.org' type='chat' id='m{number}'><body>message {number}</body></message>"
    )
}
