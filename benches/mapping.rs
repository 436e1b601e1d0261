//! The mapping: µs from a webhook's bytes to its items, for each connector with a sample, beside serde_json reading the same body into
//! its value type. `parse`, `+map` and `+drafts` are one way as far as this step; `read` is all of it, and `guard` what comes before.
//!
//! `cargo bench --bench mapping`; `ROUNDS=2000` for steadier figures, `ONLY=whatsapp` for one connector.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use omnigate::connector::draft;
use omnigate::connector::folder;
use omnigate::connector::hook::{Guarded, Hook, Verified};
use omnigate::connector::jq::{Filter, Input, Limits};
use omnigate::connector::load::{Connector, MAP_VARS};
use omnigate::connector::manifest::Engine;
use omnigate::connector::reader::{ChannelSpec, ReadContext, ReadLimits};
use omnigate::logic::digest::Digester;
use omnigate::model::event::Priority;
use omnigate::model::item::ItemBody;
use omnigate::model::raw::RawHead;
use omnigate::model::time::Time;
use omnigate::ports::intake::HookRequest;
use serde_json::{Value, json};

// As the daemon has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOW: Time = Time(1_700_000_100_000);

fn main() {
    let rounds: u32 = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1000);
    let only = std::env::var("ONLY").ok();
    let samples: Value = serde_json::from_slice(&std::fs::read("tests/data/samples.json").unwrap()).unwrap();
    println!("µs of CPU a payload, the least of 9 times {rounds}");
    println!(
        "{:<28} {:>6} {:>6} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7}",
        "sample", "bytes", "items", "serde", "parse", "+map", "+drafts", "guard", "read"
    );
    for sample in samples["samples"].as_array().unwrap() {
        let name = sample["channel"].as_str().unwrap();
        if only.as_deref().is_some_and(|only| only != name) {
            continue;
        }
        one(name, sample, rounds);
    }
}

/// CPU time of this thread, ns: what others do on the machine is not counted.
fn cpu_ns() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

/// Least of nine measurements, µs a call.
fn micros(rounds: u32, mut work: impl FnMut()) -> f64 {
    let mut once = || {
        // The counter moves at ticks and at switches of the scheduler.
        std::thread::yield_now();
        let begun = cpu_ns();
        (0..rounds).for_each(|_| work());
        std::thread::yield_now();
        (cpu_ns() - begun) / 1e3 / f64::from(rounds)
    };
    (0..9).map(|_| once()).fold(f64::INFINITY, f64::min)
}

fn one(name: &str, sample: &Value, rounds: u32) {
    let Some(folder) = folder::embedded().remove(name) else { return };
    let connector = Arc::new(Connector::load(folder, Limits::default()).unwrap());
    if connector.manifest.is_mail() || sample["body"].is_string() {
        return;
    }
    let body = Bytes::from(serde_json::to_vec(&sample["body"]).unwrap());
    let spec = ChannelSpec {
        id: "bench".to_owned(),
        file: "bench".to_owned(),
        account: None,
        labels: BTreeMap::new(),
        priority: Priority::Normal,
        settings: serde_json::Map::new(),
        secrets: BTreeMap::new(),
        verify_none: true,
        map: None,
        new_after_ms: None,
    };
    let hook = Hook::build("bench", Arc::clone(&connector), vec![spec], Digester::new(&[1; 32]), ReadLimits::default()).unwrap();
    let headers = [("content-type", "application/json"), ("user-agent", "x"), ("host", "hooks.example.org")];
    let request = HookRequest {
        hook: "bench".to_owned(),
        method: "POST".to_owned(),
        target: "/hooks/bench".to_owned(),
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        body: body.clone(),
        peer: None,
    };
    let verified = Verified::from_store(RawHead { headers: request.headers.clone(), ..RawHead::default() }, body.clone());
    let context = ReadContext { received_at: NOW, historic: false };
    let items = hook.read(&verified, &context).items;
    assert!(items.iter().all(|item| !matches!(item.body, ItemBody::Quarantined { .. })), "{items:?}");

    let nothing = Filter::compile("nothing.jq", "empty", &MAP_VARS, Limits::default()).unwrap();
    let map = connector.map.as_ref().unwrap();
    assert!(map.is_fast(), "{name} runs by jaq");
    let settings = json!({"agents": []});
    let (empty, channel, via) = (json!({}), json!("bench"), json!("webhook"));
    let vars = [&channel, &settings, &empty, &empty, &via];
    let serde = micros(rounds, || drop(black_box(serde_json::from_slice::<Value>(&body).unwrap())));
    let parse = micros(rounds, || drop(black_box(nothing.run(&body, &vars).unwrap())));
    let mapped = micros(rounds, || map.run_with(Input::Json(&body), &vars, |output| assert!(black_box(output.is_object()))).unwrap());
    let drafts = micros(rounds, || map.run_with(Input::Json(&body), &vars, |output| drop(black_box(draft::read(output)))).unwrap());
    let guard = micros(rounds, || assert!(matches!(black_box(hook.guard(&request, NOW)), Guarded::Pass(_))));
    let read = micros(rounds, || drop(black_box(hook.read(&verified, &context))));
    let title = sample["name"].as_str().unwrap_or_default();
    println!(
        "{title:<28} {:>6} {:>6} {serde:>7.1} {parse:>7.1} {mapped:>7.1} {drafts:>7.1} {guard:>7.1} {read:>7.1}",
        body.len(),
        items.len()
    );
}
