//! What the benchmarks share: the daemon and the platform of the tests, a load generator, reference servers, a table.
//!
//! A benchmark is a program of its own (`cargo bench --bench NAME`). It starts the servers it measures as other processes
//! (itself again with a hidden argument, or the gateway), so that their CPU and memory can be told apart, and prints ratios
//! measured in the same run, because a machine's absolute figures mean nothing on another.
#![allow(dead_code, missing_docs, clippy::disallowed_methods)]

#[path = "../../tests/it/support/daemon.rs"]
pub mod daemon;
#[path = "../../tests/it/support/dovecot.rs"]
pub mod dovecot;
#[path = "../../tests/it/support/http1.rs"]
pub mod http1;
#[path = "../../tests/it/support/imap_client.rs"]
pub mod imap_client;
pub mod load;
pub mod mailbox;
#[path = "../../tests/it/support/mailgen.rs"]
pub mod mailgen;
#[path = "../../tests/it/support/receiver.rs"]
pub mod receiver;
pub mod reference;
#[path = "../../tests/it/support/servers.rs"]
pub mod servers;
pub mod sink;
pub mod small_imap;
#[path = "../../tests/it/support/whatsapp.rs"]
pub mod whatsapp;

use std::time::{Duration, Instant};

/// Median, least and most of several runs.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Self { median: at(values.len() / 2), min: at(0), max: at(values.len().saturating_sub(1)) }
    }
}

/// One line of a result table: what, the figure, its spread, and the goal where there is one.
pub fn row(what: &str, spread: Spread, unit: &str, goal: Option<(Goal, f64)>) {
    let figure = |value: f64| match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    };
    let verdict = match goal {
        Some((Goal::AtLeast, goal)) => format!("goal ≥ {goal}: {}", if spread.median >= goal { "reached" } else { "MISSED" }),
        Some((Goal::AtMost, goal)) => format!("goal ≤ {goal}: {}", if spread.median <= goal { "reached" } else { "MISSED" }),
        None => String::new(),
    };
    println!("{what:<52} {:>9} {unit:<7} ({} – {})  {verdict}", figure(spread.median), figure(spread.min), figure(spread.max));
}

/// Which side of a goal is good.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    AtLeast,
    AtMost,
}

/// A heading with what explains the figures of this run: the disk's sync time and the load by others.
pub fn heading(title: &str) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let sync = sync_time();
    println!(
        "\n{title}\n  fdatasync of 4 KiB: median {:.2} ms ({:.2} – {:.2}); load before: {}",
        sync.median,
        sync.min,
        sync.max,
        load.trim()
    );
}

fn sync_time() -> Spread {
    use std::io::Write;
    let mut file = tempfile::tempfile().unwrap();
    let times = (0..60).map(|_| {
        file.write_all(&[7; 4096]).unwrap();
        let from = Instant::now();
        file.sync_data().unwrap();
        from.elapsed().as_secs_f64() * 1e3
    });
    Spread::of(times.collect())
}

/// CPU time a process has used, user and system.
pub fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Fields are counted behind the name, which may hold anything but ends with the last parenthesis.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks: u64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum();
    // USER_HZ is 100 on every Linux that Rust runs on.
    Duration::from_millis(ticks * 10)
}

/// The mean size of a daemon's commits since it started.
pub async fn writes_per_commit(daemon: &daemon::Daemon) -> f64 {
    let scrape = daemon.scrape().await;
    scrape.sum("omnigate_commit_writes_sum", &[]) as f64 / scrape.sum("omnigate_commit_writes_count", &[]).max(1) as f64
}

/// Runs `main` of a benchmark on a runtime.
pub fn block_on<F: Future<Output = ()>>(main: F) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(main);
}

/// An argument such as `--runs 5`, else the default. Cargo passes `--bench` besides.
pub fn argument(name: &str, default: usize) -> usize {
    word(name).and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// An argument that is a word.
pub fn word(name: &str) -> Option<String> {
    let mut args = std::env::args().skip_while(|arg| arg != name);
    args.nth(1)
}
