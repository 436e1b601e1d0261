//! A link between a client and a server with faults: cuts after some bytes, or takes its time.

use std::net::TcpListener as StdListener;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What is wrong with the link.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// The first connections end after this many bytes from the server.
    pub cut_after: Option<usize>,
    /// How many connections are cut; later ones are whole.
    pub cuts: usize,
    /// Each direction takes this long.
    pub delay: Duration,
}

/// A running link; ends when dropped.
pub struct BadLink {
    /// Where clients connect.
    pub port: u16,
    task: JoinHandle<()>,
}

impl BadLink {
    /// Starts a link to `port` on loopback.
    pub fn start(port: u16, faults: Faults) -> Self {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let own = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let mut count = 0;
            while let Ok((client, _)) = listener.accept().await {
                let cut = faults.cut_after.filter(|_| count < faults.cuts);
                count += 1;
                tokio::spawn(link(client, port, cut, faults.delay));
            }
        });
        Self { port: own, task }
    }
}

impl Drop for BadLink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn link(client: TcpStream, port: u16, cut: Option<usize>, delay: Duration) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    // The end of one direction ends the other: halves that are dropped close the connection.
    tokio::select! {
        () = pump(client_reads, server_writes, None, delay) => {}
        () = pump(server_reads, client_writes, cut, delay) => {}
    }
}

async fn pump(mut from: tokio::net::tcp::OwnedReadHalf, mut to: tokio::net::tcp::OwnedWriteHalf, mut left: Option<usize>, delay: Duration) {
    // The queue holds what is on its way: a delayed link has the same throughput as a fast one.
    let (sender, mut queue) = tokio::sync::mpsc::channel::<(Instant, Vec<u8>)>(4096);
    let read = async move {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = match from.read(&mut buffer).await {
                Ok(count) if count > 0 => count,
                _ => return,
            };
            let count = left.map_or(count, |left| left.min(count));
            if sender.send((Instant::now() + delay, buffer[..count].to_vec())).await.is_err() {
                return;
            }
            if let Some(left) = &mut left {
                *left -= count;
                if *left == 0 {
                    return;
                }
            }
        }
    };
    let write = async move {
        while let Some((due, bytes)) = queue.recv().await {
            if !delay.is_zero() {
                tokio::time::sleep_until(due).await;
            }
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, write);
}
