//! The two listeners over loopback, in process, with fakes behind them. The client writes bytes, so that it can be as rude as a stranger.

mod docs;
mod fakes;
mod private;
mod public;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use omnigate::logic::file_url::FileUrlVerifier;
use omnigate::model::time::Time;
use omnigate::ports::BoxFuture;
use omnigate::ports::clock::Clock;
use omnigate::server::private::{PrivateListener, PrivateOptions};
use omnigate::server::public::{PublicListener, PublicOptions};
use omnigate::telemetry::metrics::Metrics;
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use fakes::{FakeControl, FakeIntake, FakeStore};

pub const TOKEN: &str = "a-token-of-this-test";
pub const KEY: [u8; 32] = [9; 32];
/// The time of the fake clock, milliseconds.
pub const NOW: i64 = 1_000_000_000;

struct Still;
impl Clock for Still {
    fn now(&self) -> Time {
        Time(NOW)
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(span))
    }
}

/// Both listeners and what stands behind them.
pub struct Gateway {
    pub public: SocketAddr,
    pub private: SocketAddr,
    pub intake: Arc<FakeIntake>,
    pub control: Arc<FakeControl>,
    pub store: Arc<FakeStore>,
    pub metrics: Arc<Metrics>,
    pub stop: watch::Sender<bool>,
    pub tasks: Vec<JoinHandle<()>>,
}

pub struct Numbers {
    pub request_timeout: Duration,
    pub connections_max: usize,
    pub stop_timeout: Duration,
    pub files: bool,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { request_timeout: Duration::from_secs(5), connections_max: 64, stop_timeout: Duration::from_secs(5), files: true }
    }
}

pub async fn start(numbers: Numbers) -> Gateway {
    let (intake, control, store) = (Arc::new(FakeIntake::default()), Arc::new(FakeControl::default()), Arc::new(FakeStore::default()));
    let metrics = Metrics::new();
    let (stop, told) = watch::channel(false);
    let bind = || async { TcpListener::bind("127.0.0.1:0").await.unwrap() };
    let (public, private) = (bind().await, bind().await);
    let addresses = (public.local_addr().unwrap(), private.local_addr().unwrap());
    let public_listener = PublicListener {
        intake: intake.clone(),
        control: control.clone(),
        files: numbers.files.then(|| FileUrlVerifier::new(&[KEY])),
        clock: Arc::new(Still),
        metrics: metrics.clone(),
        options: PublicOptions {
            request_timeout: numbers.request_timeout,
            connections_max: numbers.connections_max,
            stop_timeout: numbers.stop_timeout,
            trusted_proxy: Arc::new(|address| address.is_loopback()),
        },
    };
    let private_listener = PrivateListener {
        store: store.clone(),
        control: control.clone(),
        metrics: metrics.clone(),
        token: SecretString::from(TOKEN),
        options: PrivateOptions { connections_max: 64, stop_timeout: numbers.stop_timeout },
    };
    let tasks = vec![tokio::spawn(public_listener.serve(public, told.clone())), tokio::spawn(private_listener.serve(private, told))];
    Gateway { public: addresses.0, private: addresses.1, intake, control, store, metrics, stop, tasks }
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|problem| panic!("{problem}: {self:?}"))
    }

    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(String::as_str).unwrap_or_else(|| panic!("no {name}: {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

/// Reads one answer; its body by `content-length`, or to the end.
pub async fn read_reply(stream: &mut TcpStream) -> Option<Reply> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(place) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break place + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: BTreeMap<String, String> =
        lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = bytes[head_end..].to_vec();
    while body.len() < length && stream.read_buf(&mut body).await.ok()? > 0 {}
    Some(Reply { status, headers, body })
}

/// One request on its own connection.
pub async fn send(address: SocketAddr, head: &str, body: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = if head.contains("content-length") || head.contains("transfer-encoding") {
        String::new()
    } else {
        format!("content-length: {}\r\n", body.len())
    };
    let separator = if head.ends_with("\r\n") { "" } else { "\r\n" };
    stream.write_all(format!("{head}{separator}host: gate.example.org\r\n{length}\r\n").as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    read_reply(&mut stream).await.expect("an answer")
}

/// A request to the private listener with the token.
pub async fn ask(gateway: &Gateway, method: &str, path: &str, body: &str) -> Reply {
    send(gateway.private, &format!("{method} {path} HTTP/1.1\r\nauthorization: Bearer {TOKEN}"), body.as_bytes()).await
}

impl Gateway {
    pub async fn end(self) {
        self.stop.send(true).unwrap();
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}
