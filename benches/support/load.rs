//! A load generator that costs less than what it loads: prepared requests over kept connections on raw sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::http1::Wire;
use crate::support::whatsapp;

/// Signed WhatsApp requests to `/hooks/shop`, each message another, spread over `senders` customers.
pub fn requests(run: &str, count: usize, senders: u64) -> Arc<Vec<Vec<u8>>> {
    let text = "Where is my order 4711? It should have been here on Monday, and the tracking page says nothing at all.";
    let one = |number: usize| {
        let body = whatsapp::body(&format!("wamid.{run}.{number}"), number as u64 % senders, &format!("{text} ({number})"));
        whatsapp::request("shop", &body)
    };
    Arc::new((0..count).map(one).collect())
}

/// Sends all requests over `connections` kept connections, each waiting for its answer; returns the time it took and how
/// many answers were not 2xx.
pub async fn closed(address: SocketAddr, connections: usize, requests: Arc<Vec<Vec<u8>>>) -> (Duration, usize) {
    let next = Arc::new(AtomicUsize::new(0));
    let from = Instant::now();
    let tasks: Vec<_> = (0..connections)
        .map(|_| {
            let (next, requests) = (next.clone(), requests.clone());
            tokio::spawn(async move {
                let mut wire = Wire::connect(address).await.unwrap();
                let mut refused = 0;
                loop {
                    let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) else { return refused };
                    while !wire.exchange(request).await.unwrap().success() {
                        refused += 1;
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                }
            })
        })
        .collect();
    let mut refused = 0;
    for task in tasks {
        refused += task.await.unwrap();
    }
    (from.elapsed(), refused)
}

/// Sends a request every `interval`, whether or not earlier ones are answered, over connections that are kept and lent;
/// returns when each was due to be sent.
pub async fn open(address: SocketAddr, interval: Duration, requests: Arc<Vec<Vec<u8>>>) -> Vec<Instant> {
    let idle: Arc<tokio::sync::Mutex<Vec<Wire>>> = Arc::default();
    let from = Instant::now() + Duration::from_millis(50);
    let mut sent = Vec::with_capacity(requests.len());
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..requests.len() {
        let due = from + interval * number as u32;
        tokio::time::sleep_until(due.into()).await;
        sent.push(due);
        let (idle, requests) = (idle.clone(), requests.clone());
        tasks.spawn(async move {
            let lent = idle.lock().await.pop();
            let mut wire = match lent {
                Some(wire) => wire,
                None => Wire::connect(address).await.unwrap(),
            };
            assert!(wire.exchange(&requests[number]).await.unwrap().success());
            idle.lock().await.push(wire);
        });
    }
    while tasks.join_next().await.is_some() {}
    sent
}
