//! How many signed webhooks a second get their 2xx, durable and published, against a bare axum handler that reads the same
//! body: same run, same load generator, 64 kept connections. Nothing is delivered: no route matches.
//!
//! `cargo bench --bench accept -- --runs 5 --count 40000`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use support::daemon::{Daemon, Setup};
use support::reference::Reference;
use support::{Goal, Spread, argument, cpu, heading, load, row, writes_per_commit};

const CONNECTIONS: usize = 64;

fn main() {
    support::reference::serve_if_asked();
    support::block_on(async {
        let (runs, count) = (argument("--runs", 5), argument("--count", 40_000));
        heading(&format!("accept: {count} signed WhatsApp webhooks, {CONNECTIONS} connections, {runs} runs"));
        let mut bare = Vec::new();
        let mut by_mode = vec![("power", Vec::new(), Vec::new(), Vec::new()), ("process", Vec::new(), Vec::new(), Vec::new())];
        for run in 0..runs {
            let requests = load::requests(&run.to_string(), count, 1000);
            let reference = Reference::start("bare", "-").await;
            let (span, _) = load::closed(reference.address, CONNECTIONS, requests.clone()).await;
            bare.push(count as f64 / span.as_secs_f64());
            for (mode, rates, costs, commits) in &mut by_mode {
                let daemon = start(mode).await;
                let before = cpu(daemon.pid());
                let (span, refused) = load::closed(daemon.public, CONNECTIONS, requests.clone()).await;
                if refused > 0 {
                    println!("  {mode}: {refused} answers asked to come again");
                }
                rates.push(count as f64 / span.as_secs_f64());
                costs.push((cpu(daemon.pid()) - before).as_secs_f64() * 1e6 / count as f64);
                commits.push(writes_per_commit(&daemon).await);
            }
        }
        let reference = Spread::of(bare.clone());
        row("bare axum handler", reference, "req/s", None);
        for (mode, rates, costs, commits) in by_mode {
            let ratios = rates.iter().zip(&bare).map(|(rate, bare)| rate / bare).collect();
            row(&format!("omnigate, durability {mode}"), Spread::of(rates), "req/s", None);
            row("  CPU per message", Spread::of(costs), "µs", None);
            row("  writes in a commit", Spread::of(commits), "", None);
            row("  ÷ bare handler", Spread::of(ratios), "", Some((Goal::AtLeast, 0.5)));
        }
    });
}

async fn start(mode: &str) -> Daemon {
    let mut setup = Setup::default();
    setup.with_whatsapp();
    setup.store = format!("durability = \"{mode}\"");
    setup.destination("crm", "http://127.0.0.1:9/", "");
    setup.rest.push_str("[[route]]\nwhen = 'false'\nto = [\"crm\"]\n[logs]\nlevel = \"warn\"\n");
    Daemon::start(setup).await
}
