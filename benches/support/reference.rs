//! What the gateway is held against: servers that do nothing but the unavoidable, run as processes of their own.
//!
//! `bare` reads the body and answers. `relay` reads the body, appends it to a file, answers after a shared fdatasync, and
//! posts it on: no signature, no mapping, no dedup, no order, no retry.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use tokio::sync::{mpsc, oneshot};

use crate::support::daemon::free_address;

/// A reference server as a child process; ends with the value.
pub struct Reference {
    pub address: SocketAddr,
    child: Child,
}

impl Drop for Reference {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Reference {
    /// Starts this very program again with the hidden arguments that [`serve_if_asked`] understands.
    pub async fn start(kind: &str, target: &str) -> Self {
        let address = free_address();
        let port = address.port().to_string();
        let child =
            Command::new(std::env::current_exe().unwrap()).args(["--serve", kind, &port, target]).stdin(Stdio::null()).spawn().unwrap();
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Self { address, child }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// To be called first in `main`: serves for ever if the arguments say so.
pub fn serve_if_asked() {
    let args: Vec<String> = std::env::args().collect();
    let Some(at) = args.iter().position(|arg| arg == "--serve") else { return };
    let (kind, port, target) = (args[at + 1].clone(), args[at + 2].parse().unwrap(), args[at + 3].clone());
    crate::support::block_on(async move {
        let router = match kind.as_str() {
            "bare" => Router::new().route("/hooks/shop", post(bare)),
            "relay" => Router::new().route("/hooks/shop", post(relay)).with_state(start_relay(target)),
            other => panic!("no reference server `{other}`"),
        };
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        axum::serve(listener, router).await.unwrap();
    });
    std::process::exit(0);
}

async fn bare(body: Bytes) -> StatusCode {
    std::hint::black_box(body.len());
    StatusCode::OK
}

type Entry = (Bytes, oneshot::Sender<()>);

async fn relay(State(queue): State<mpsc::Sender<Entry>>, body: Bytes) -> StatusCode {
    let (done, durable) = oneshot::channel();
    queue.send((body, done)).await.unwrap();
    durable.await.unwrap();
    StatusCode::OK
}

/// The writer: whatever waits goes into one write and one fdatasync, then is acknowledged and posted on.
fn start_relay(target: String) -> mpsc::Sender<Entry> {
    let (queue, mut entries) = mpsc::channel::<Entry>(4096);
    let (outgoing, mut due) = mpsc::channel::<Bytes>(1 << 20);
    tokio::spawn(async move {
        let mut file = Some(tempfile::tempfile().unwrap());
        let mut batch = Vec::new();
        while entries.recv_many(&mut batch, 512).await > 0 {
            let block: Vec<u8> = batch.iter().flat_map(|(body, _): &Entry| body.iter().copied()).collect();
            let mut open = file.take().unwrap();
            let synced = tokio::task::spawn_blocking(move || {
                open.write_all(&block).unwrap();
                open.sync_data().unwrap();
                open
            });
            file = Some(synced.await.unwrap());
            for (body, done) in batch.drain(..) {
                done.send(()).ok();
                outgoing.send(body).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().pool_max_idle_per_host(64).build().unwrap();
        let places = Arc::new(tokio::sync::Semaphore::new(64));
        while let Some(body) = due.recv().await {
            let place = places.clone().acquire_owned().await.unwrap();
            let request = client.post(&target).header("content-type", "application/json").body(body);
            tokio::spawn(async move {
                request.send().await.unwrap();
                drop(place);
            });
        }
    });
    queue
}
