//! From a signed webhook to the POST at the destination: messages a second, CPU per message, and latency at 500 a second,
//! against a bare relay (axum handler, shared fdatasync, reqwest POST, nothing else) in the same run.
//!
//! `cargo bench --bench end_to_end -- --runs 3 --count 20000`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use support::daemon::{Daemon, Setup, memory_kib};
use support::reference::Reference;
use support::sink::Sink;
use support::{Goal, Spread, argument, cpu, heading, load, row, writes_per_commit};

const CONNECTIONS: usize = 64;
const SENDERS: u64 = 1000;
const LIMIT: Duration = Duration::from_secs(120);

/// What one system did: messages a second and µs of CPU per message; at 500 a second p50 and p99 in ms.
#[derive(Debug, Default)]
struct Figures {
    rates: Vec<f64>,
    costs: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    memory: Vec<f64>,
    commits: Vec<f64>,
}

fn main() {
    support::reference::serve_if_asked();
    support::block_on(async {
        let (runs, count) = (argument("--runs", 3), argument("--count", 20_000));
        heading(&format!("end to end: {count} messages, {SENDERS} conversations, {CONNECTIONS} connections, {runs} runs"));
        let mut relay = Figures::default();
        let mut gateway = vec![("power", Figures::default()), ("process", Figures::default())];
        for run in 0..runs {
            let name = format!("r{run}");
            let sink = Sink::start(&name).await;
            let reference = Reference::start("relay", &sink.url()).await;
            flood(&mut relay, &name, count, reference.address, reference.pid(), &sink).await;
            drop(reference);
            steady(&mut relay, run, |sink| async move {
                let reference = Reference::start("relay", &sink).await;
                (reference.address, Box::new(reference) as Box<dyn Send>)
            })
            .await;
            for (mode, figures) in &mut gateway {
                let sink = Sink::start(&name).await;
                let daemon = start(mode, &sink.url()).await;
                flood(figures, &name, count, daemon.public, daemon.pid(), &sink).await;
                figures.commits.push(writes_per_commit(&daemon).await);
                drop(daemon);
                let mode = mode.to_owned();
                steady(figures, run, |sink| async move {
                    let daemon = start(&mode, &sink).await;
                    (daemon.public, Box::new(daemon) as Box<dyn Send>)
                })
                .await;
            }
        }
        report(relay, gateway);
    });
}

fn report(relay: Figures, gateway: Vec<(&str, Figures)>) {
    let bare = relay.rates.clone();
    row("bare relay", Spread::of(relay.rates), "msg/s", None);
    row("  CPU per message", Spread::of(relay.costs), "µs", None);
    row("  at 500/s: p50", Spread::of(relay.p50), "ms", None);
    row("  at 500/s: p99", Spread::of(relay.p99), "ms", None);
    for (mode, figures) in gateway {
        let ratios = figures.rates.iter().zip(&bare).map(|(rate, bare)| rate / bare).collect();
        row(&format!("omnigate, durability {mode}"), Spread::of(figures.rates), "msg/s", None);
        row("  ÷ bare relay", Spread::of(ratios), "", Some((Goal::AtLeast, 0.6)));
        row("  CPU per message", Spread::of(figures.costs), "µs", Some((Goal::AtMost, 100.0)));
        row("  writes in a commit", Spread::of(figures.commits), "", None);
        row("  memory after the flood", Spread::of(figures.memory), "MiB", None);
        row("  at 500/s: p50", Spread::of(figures.p50), "ms", Some((Goal::AtMost, 5.0)));
        row("  at 500/s: p99", Spread::of(figures.p99), "ms", Some((Goal::AtMost, 20.0)));
    }
}

/// As fast as it takes them: from the first request sent to the last message at the sink.
async fn flood(figures: &mut Figures, run: &str, count: usize, address: SocketAddr, pid: u32, sink: &Sink) {
    let requests = load::requests(run, count, SENDERS);
    let (before, from) = (cpu(pid), Instant::now());
    load::closed(address, CONNECTIONS, requests).await;
    sink.wait(count, LIMIT).await;
    figures.rates.push(count as f64 / from.elapsed().as_secs_f64());
    // The decisions behind the last deliveries belong to the cost.
    tokio::time::sleep(Duration::from_millis(300)).await;
    figures.costs.push((cpu(pid) - before).as_secs_f64() * 1e6 / count as f64);
    figures.memory.push(memory_kib(pid, "VmRSS") as f64 / 1024.0);
}

/// Ten seconds at 500 a second: from when a request was due to be sent to its message's arrival.
async fn steady<F: Future<Output = (SocketAddr, Box<dyn Send>)>>(figures: &mut Figures, run: usize, start: impl FnOnce(String) -> F) {
    let name = format!("s{run}");
    let sink = Sink::start(&name).await;
    let (address, running) = start(sink.url()).await;
    // Connections and caches are warm before it counts.
    let warm = load::requests("warm", 200, SENDERS);
    load::open(address, Duration::from_millis(2), warm).await;
    let requests = load::requests(&name, 5_000, SENDERS);
    let sent = load::open(address, Duration::from_millis(2), requests).await;
    sink.wait(sent.len(), LIMIT).await;
    let mut spans: Vec<f64> = sent
        .iter()
        .enumerate()
        .map(|(number, due)| sink.arrival(number).unwrap().saturating_duration_since(*due).as_secs_f64() * 1e3)
        .collect();
    spans.sort_by(f64::total_cmp);
    figures.p50.push(spans[spans.len() / 2]);
    figures.p99.push(spans[spans.len() * 99 / 100]);
    drop(running);
}

async fn start(mode: &str, sink: &str) -> Daemon {
    let mut setup = Setup::whatsapp_to("");
    setup.rest.clear();
    setup.destination("crm", sink, "concurrency = 64");
    setup.rest.push_str("[[route]]\nto = [\"crm\"]\n[logs]\nlevel = \"warn\"\n");
    setup.store = format!("durability = \"{mode}\"");
    Daemon::start(setup).await
}
