//! A bad way to a ticket system: a proxy that cuts, stalls, repeats and fails at every point of an exchange.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::support::dice::Dice;
use crate::support::http1::{Message, Wire, request, response};

/// What can happen to one exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The connection ends before anything is passed on.
    CutBefore,
    /// It is passed on, and the answer never comes: the connection ends.
    CutAfter,
    /// It is passed on, and the answer ends in the middle.
    CutWithin,
    /// It is passed on, and nothing more happens for longer than anybody waits.
    Stall,
    /// It is held back for longer than the client waits, then passed on.
    Late,
    /// The proxy fails before passing it on.
    Fail502,
    /// It is passed on, and the proxy answers that it failed.
    Fail504,
    /// It is passed on twice.
    Repeat,
}

const ALL: [Fault; 8] =
    [Fault::CutBefore, Fault::CutAfter, Fault::CutWithin, Fault::Stall, Fault::Late, Fault::Fail502, Fault::Fail504, Fault::Repeat];

/// The proxy.
pub struct BadDeskLink {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    to: SocketAddr,
    dice: Mutex<Dice>,
    percent: AtomicU64,
    faults: AtomicU32,
    from: std::time::Instant,
    /// When each call came, and how long it was told to wait.
    calls: Mutex<Vec<(std::time::Instant, Option<Duration>)>>,
    next: Mutex<Vec<Fault>>,
    /// Longer than the client waits.
    late: Duration,
    /// Whether a request that is repeated on the way can be told from a new one by the system. What it cannot tell nobody can.
    may_repeat: fn(&Message) -> bool,
}

impl BadDeskLink {
    /// In front of `to`; `percent` of the exchanges go wrong. The client waits `within`.
    pub async fn start(to: SocketAddr, within: Duration, percent: u64, seed: u64, may_repeat: fn(&Message) -> bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            to,
            dice: Mutex::new(Dice::new(seed)),
            percent: AtomicU64::new(percent),
            faults: AtomicU32::new(0),
            from: std::time::Instant::now(),
            calls: Mutex::default(),
            late: within + Duration::from_millis(500),
            next: Mutex::default(),
            may_repeat,
        });
        let serving = shared.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(serving.clone(), client));
            }
        });
        Self { address, shared }
    }

    /// From now on so many of a hundred go wrong.
    pub fn percent(&self, percent: u64) {
        self.shared.percent.store(percent, Ordering::Relaxed);
    }

    /// When calls were answered, and how long the system told them to wait.
    pub fn calls(&self) -> Vec<(std::time::Instant, Option<Duration>)> {
        self.shared.calls.lock().unwrap().clone()
    }

    /// These happen to the next writing exchanges, first to last.
    pub fn next(&self, faults: &[Fault]) {
        *self.shared.next.lock().unwrap() = faults.iter().rev().copied().collect();
    }

    /// How many exchanges went wrong.
    pub fn faults(&self) -> u32 {
        self.shared.faults.load(Ordering::Relaxed)
    }

    /// Its address as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn serve(shared: Arc<Shared>, client: TcpStream) {
    let mut client = Wire::new(client);
    while let Ok(Some(asked)) = client.read().await {
        if exchange(&shared, &mut client, &asked).await.is_none() {
            return;
        }
    }
}

/// One exchange; `None` ends the connection.
async fn exchange(shared: &Shared, client: &mut Wire, asked: &Message) -> Option<()> {
    let fault = choose(shared, asked);
    // Shown when the test fails.
    println!("{:?} {fault:?} {}", shared.from.elapsed(), asked.start);
    match fault {
        Fault::CutBefore => return None,
        Fault::Fail502 => return client.stream.write_all(&response(502, &[], b"bad gateway")).await.ok(),
        Fault::Late => tokio::time::sleep(shared.late).await,
        _ => {}
    }
    if fault == Fault::Repeat {
        pass(shared.to, asked).await;
    }
    let answer = pass(shared.to, asked).await?;
    let told = answer.header("retry-after").filter(|_| answer.status() == 429).and_then(|seconds| seconds.parse().ok());
    shared.calls.lock().unwrap().push((std::time::Instant::now(), told.map(Duration::from_secs)));
    println!("{:?} {fault:?} {} answered {}", shared.from.elapsed(), asked.start, answer.start);
    let bytes = response(answer.status(), &kept(&answer), &answer.body);
    match fault {
        Fault::CutAfter => None,
        Fault::CutWithin => {
            client.stream.write_all(&bytes[..bytes.len() / 2]).await.ok();
            None
        }
        Fault::Stall => {
            tokio::time::sleep(Duration::from_secs(20)).await;
            None
        }
        Fault::Fail504 => client.stream.write_all(&response(504, &[], b"gateway timeout")).await.ok(),
        _ => client.stream.write_all(&bytes).await.ok(),
    }
}

fn choose(shared: &Shared, asked: &Message) -> Fault {
    let planned = if asked.start.starts_with("GET") { None } else { shared.next.lock().unwrap().pop() };
    let mut dice = shared.dice.lock().unwrap();
    let fault = match planned {
        Some(fault) => fault,
        None if !dice.chance(shared.percent.load(Ordering::Relaxed)) => Fault::None,
        None => ALL[dice.between(0, ALL.len() as u64 - 1) as usize],
    };
    let fault = if fault == Fault::Repeat && !(shared.may_repeat)(asked) { Fault::None } else { fault };
    shared.faults.fetch_add(u32::from(fault != Fault::None), Ordering::Relaxed);
    fault
}

async fn pass(to: SocketAddr, asked: &Message) -> Option<Message> {
    let mut words = asked.start.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    // Roundup refuses changes for a host that is not its own.
    let host = to.to_string();
    let kept: Vec<(&str, &str)> = asked
        .headers
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "host" | "content-length" | "connection" | "transfer-encoding"))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .chain([("connection", "close"), ("host", host.as_str())])
        .collect();
    let bytes = request(method, target, &kept, &asked.body);
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, async { Wire::connect(to).await?.exchange(&bytes).await }).await.ok()?.ok()
}

fn kept(answer: &Message) -> Vec<(String, String)> {
    let framing = |name: &str| matches!(name, "content-length" | "connection" | "transfer-encoding" | "keep-alive");
    answer.headers.iter().filter(|(name, _)| !framing(name)).cloned().collect()
}
