//! The receiving side of end-to-end measurements: answers 204 and notes when each message came first. Verifies nothing, so
//! that it costs the same whoever sends.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::support::http1::Wire;

/// A running sink.
pub struct Sink {
    pub address: SocketAddr,
    seen: Arc<Mutex<HashMap<usize, Instant>>>,
}

impl Sink {
    /// Starts one that looks for `wamid.<run>.<number>`.
    pub async fn start(run: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<HashMap<usize, Instant>>> = Arc::default();
        let mark = format!("wamid.{run}.").into_bytes();
        tokio::spawn({
            let seen = seen.clone();
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (seen, mark) = (seen.clone(), mark.clone());
                    tokio::spawn(async move {
                        let mut wire = Wire::new(stream);
                        while let Ok(Some(request)) = wire.read().await {
                            if let Some(number) = number(&request.body, &mark) {
                                seen.lock().unwrap().entry(number).or_insert_with(Instant::now);
                            }
                            if wire.stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.is_err() {
                                return;
                            }
                        }
                    });
                }
            }
        });
        Self { address, seen }
    }

    pub fn url(&self) -> String {
        format!("http://{}/events", self.address)
    }

    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// When a message came first.
    pub fn arrival(&self, number: usize) -> Option<Instant> {
        self.seen.lock().unwrap().get(&number).copied()
    }

    /// Waits for `count` messages.
    pub async fn wait(&self, count: usize, limit: Duration) {
        let from = Instant::now();
        while self.count() < count {
            assert!(from.elapsed() < limit, "{} of {count} after {limit:?}", self.count());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// The number behind the first mark.
fn number(body: &[u8], mark: &[u8]) -> Option<usize> {
    let at = body.windows(mark.len()).position(|window| window == mark)? + mark.len();
    let digits = body[at..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0')))
}
