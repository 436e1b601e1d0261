//! The mapping: µs of CPU from the bytes of a webhook, a page or a frame to its items, for every connector and every way back from a ticket system, over
//! the first of its fixtures that says something; and one of them, WhatsApp, beside a mapping written by hand over serde in the same run.
//!
//! `guard` is what comes before (limits, handshakes, no signature), `read` all of the rest: decode, map, drafts, items. `serde` is serde_json
//! reading the same body into its value type and nothing else. `cargo bench --bench mapping`; `ROUNDS=2000` for steadier figures, `ONLY=whatsapp`
//! for one connector.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::borrow::Cow;
use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use omnigate::connector::draft;
use omnigate::connector::fixtures;
use omnigate::connector::folder;
use omnigate::connector::hook::Guarded;
use omnigate::connector::jq::{Filter, Input, Limits};
use omnigate::connector::load::Connector;
use omnigate::connector::reader::ReadContext;
use omnigate::connector::ticket::TicketSystem;
use omnigate::model::item::{Item, ItemBody};
use omnigate::model::time::Time;
use serde::Deserialize;
use serde_json::{Value, json};

// As the daemon has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOW: Time = Time(1_700_000_100_000);

fn main() {
    let rounds: u32 = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let only = std::env::var("ONLY").ok();
    println!("µs of CPU a payload, the least of 9 times {rounds}");
    println!(
        "{:<22} {:<34} {:>6} {:>5} {:>7} {:>7} {:>7} {:>7}",
        "connector", "fixture", "bytes", "items", "serde", "guard", "read", "an item"
    );
    let mut silent = Vec::new();
    for (name, folder) in folder::every() {
        if only.as_deref().is_some_and(|only| only != name) {
            continue;
        }
        if let Some(Ok(system)) = TicketSystem::load(&folder, Limits::default())
            && let Some(back) = &system.back
            && !measured(&format!("{name}/back"), back, rounds)
        {
            silent.push(format!("{name}/back"));
        }
        // Mails have a benchmark of their own.
        if folder.files.contains_key("connector.toml") && name != "imap" && !measured(&name, &load(&name), rounds) {
            silent.push(name);
        }
    }
    if !silent.is_empty() {
        println!("no fixture says anything: {}", silent.join(", "));
    }
    by_hand(rounds);
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

fn load(name: &str) -> Arc<Connector> {
    Arc::new(Connector::load(folder::embedded().remove(name).unwrap(), Limits::default()).unwrap())
}

/// Measures a connector over the first of its fixtures that says something. False: none does.
fn measured(name: &str, connector: &Arc<Connector>, rounds: u32) -> bool {
    let cases = fixtures::inputs(&connector.folder).into_iter().filter_map(|(case, input)| Some((case, input.ok()?)));
    let answers = fixtures::answers(&connector.folder).into_iter().map(|input| ("an answer of a script".to_owned(), input));
    cases.chain(answers).any(|(case, input)| one(name, connector, &case, fixtures::TryInput { skip_verify: true, ..input }, rounds))
}

fn one(name: &str, connector: &Arc<Connector>, case: &str, input: fixtures::TryInput, rounds: u32) -> bool {
    let context = ReadContext { received_at: NOW, historic: false };
    let says = |items: &[Item]| items.iter().any(|item| !matches!(item.body, ItemBody::Ignored { .. } | ItemBody::Quarantined { .. }));
    let (body, count, guard, read);
    if let Ok(Some(page)) = fixtures::pulled(connector, &input) {
        let items = page.read().items;
        if !says(&items) {
            return false;
        }
        (body, count, guard) = (page.body().clone(), items.len(), None);
        read = micros(rounds, || drop(black_box(page.read())));
    } else {
        let Ok((hook, request)) = fixtures::prepare(connector, &input) else { return false };
        let Guarded::Pass(verified) = hook.guard(&request, NOW) else { return false };
        let items = hook.read(&verified, &context).items;
        if !says(&items) {
            return false;
        }
        (body, count) = (verified.body().clone(), items.len());
        guard = Some(micros(rounds, || assert!(matches!(black_box(hook.guard(&request, NOW)), Guarded::Pass(_)))));
        read = micros(rounds, || drop(black_box(hook.read(&verified, &context))));
    }
    let is_json = serde_json::from_slice::<Value>(&body).is_ok();
    let serde = is_json.then(|| micros(rounds, || drop(black_box(serde_json::from_slice::<Value>(&body)))));
    let shown = |micros: Option<f64>| micros.map_or_else(|| "-".to_owned(), |micros| format!("{micros:.1}"));
    let (bytes, serde, guard) = (body.len(), shown(serde), shown(guard));
    let way = if connector.map.as_ref().is_none_or(Filter::is_fast) { "" } else { "  by jaq" };
    println!("{name:<22} {case:<34} {bytes:>6} {count:>5} {serde:>7} {guard:>7} {read:>7.1} {:>7.1}{way}", read / count as f64);
    true
}

/// What one would write by hand for the fields that the map gives.
#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    entry: Vec<Entry<'a>>,
}
#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    changes: Vec<Change<'a>>,
}
#[derive(Deserialize)]
struct Change<'a> {
    #[serde(borrow)]
    value: Changed<'a>,
}
#[derive(Deserialize)]
struct Changed<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(borrow, default)]
    contacts: Vec<Person<'a>>,
    #[serde(borrow, default)]
    messages: Vec<Said<'a>>,
}
#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    phone_number_id: Cow<'a, str>,
    #[serde(borrow)]
    display_phone_number: Cow<'a, str>,
}
#[derive(Deserialize)]
struct Person<'a> {
    #[serde(borrow)]
    wa_id: Cow<'a, str>,
    #[serde(borrow)]
    profile: Profile<'a>,
}
#[derive(Deserialize)]
struct Profile<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}
#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow)]
    from: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    text: Option<Words<'a>>,
}
#[derive(Deserialize)]
struct Words<'a> {
    #[serde(borrow)]
    body: Cow<'a, str>,
}

/// The same as a draft of the map, with texts of its own.
#[derive(Debug)]
#[expect(dead_code, reason = "made to be measured")]
struct Drafted {
    account: String,
    key: String,
    from: String,
    name: Option<String>,
    to: String,
    text: Option<String>,
    sent_at: i64,
}

fn hand_written(body: &[u8]) -> Vec<Drafted> {
    let payload: Payload<'_> = serde_json::from_slice(body).unwrap();
    let changed = payload.entry.into_iter().flat_map(|entry| entry.changes).map(|change| change.value);
    let drafted = |value: Changed<'_>| -> Vec<Drafted> {
        let name = |from: &str| value.contacts.iter().find(|person| person.wa_id == from).map(|person| person.profile.name.to_string());
        let one = |said: &Said<'_>| Drafted {
            account: value.metadata.phone_number_id.to_string(),
            key: said.id.to_string(),
            from: format!("whatsapp:{}", said.from),
            name: name(&said.from),
            to: format!("whatsapp:{}", value.metadata.display_phone_number),
            text: said.text.as_ref().map(|words| words.body.to_string()),
            sent_at: said.timestamp.parse::<i64>().unwrap() * 1000,
        };
        value.messages.iter().map(one).collect()
    };
    changed.flat_map(drafted).collect()
}

/// Map and drafts of a WhatsApp message against what would be written by hand.
fn by_hand(rounds: u32) {
    let connector = load("whatsapp");
    let Some((_, Ok(input))) = fixtures::inputs(&connector.folder).into_iter().find(|(case, _)| case == "text_message") else { return };
    let body = Bytes::from(input.bytes);
    let map = connector.map.as_ref().unwrap();
    let settings = json!({"agents": []});
    let empty = json!({});
    let vars: Vec<&Value> =
        omnigate::connector::load::MAP_VARS.iter().map(|name| if *name == "$settings" { &settings } else { &empty }).collect();
    let hand = micros(rounds, || drop(black_box(hand_written(&body))));
    let mapped = micros(rounds, || map.run_with(Input::Json(&body), &vars, |output| drop(black_box(draft::read(output)))).unwrap());
    println!("whatsapp, bytes to drafts: by hand {hand:.1}, by its map {mapped:.1}: {:.1} times", mapped / hand);
}
