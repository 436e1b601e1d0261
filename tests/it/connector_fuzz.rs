//! Every map over its fixtures, mutated: types swapped, fields missing, lists emptied, texts huge, nesting deep, bytes broken. Nothing
//! panics, nothing is lost, what cannot be read is quarantined with a reason that quotes nothing, and all of it ends in time.
//!
//! The seed is fixed, so that a red run stays red; `CONNECTOR_FUZZ_SEED=n` takes another, `CONNECTOR_FUZZ_ROUNDS=n` more inputs a connector. A
//! failure names seed, connector and round, and writes the input to a file.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use omnigate::connector::fixtures::{self, Tried, TryInput};
use omnigate::connector::jq::Limits;
use omnigate::connector::load::Connector;
use omnigate::connector::problem::render;
use serde_json::{Value, json};

use crate::connectors::{broken, folders, ways_back};
use crate::support::dice::Dice;

const SEED: u64 = 20_261_122;
const ROUNDS: u64 = 40;
/// What stands in huge texts, to be found where content must not be.
const MARK: &str = "ääää";
/// Below the limit of hooks.
const BYTES_MAX: usize = 3 * 1024 * 1024;
/// One input, on a machine that does much else: a map that went on for ever would burn its fuel in less.
const ONE_MAX: Duration = Duration::from_secs(10);

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn no_mutation_of_a_payload_is_lost_or_breaks_a_map() {
    let (seed, rounds) = (number("CONNECTOR_FUZZ_SEED", SEED), number("CONNECTOR_FUZZ_ROUNDS", ROUNDS));
    let (mut tried, mut quarantined) = (0, 0);
    let connectors = folders()
        .into_iter()
        .map(|folder| Arc::new(Connector::load(folder, Limits::default()).unwrap_or_else(|problems| panic!("{}", render(&problems)))));
    for connector in connectors.chain(ways_back()) {
        // Mails have a fuzz of their own.
        if connector.manifest.is_mail() {
            continue;
        }
        let mut inputs: Vec<TryInput> =
            fixtures::inputs(&connector.folder).into_iter().filter_map(|(_, input)| input.ok()).map(unsigned).collect();
        if inputs.is_empty() {
            inputs = fixtures::answers(&connector.folder);
        }
        assert!(!inputs.is_empty(), "{} has no fixtures", connector.manifest.name);
        for round in 0..rounds {
            // A seed of its own for each input, so that one can be had again without all before it.
            let mut dice = Dice::new(seed ^ round.wrapping_mul(0x9e37_79b9) ^ hash(&connector.manifest.name));
            let from = &inputs[dice.between(0, inputs.len() as u64) as usize];
            let input = TryInput { bytes: mutated(&mut dice, from), ..from.clone() };
            match survives(&connector, &input) {
                Ok(outcome) => quarantined += u64::from(outcome == "quarantined"),
                Err(error) => {
                    let name = &connector.manifest.name;
                    let file = std::env::temp_dir().join(format!("omnigate-fuzz-{name}-{round}"));
                    std::fs::write(&file, &input.bytes).unwrap();
                    panic!("CONNECTOR_FUZZ_SEED={seed}, {name}, round {round}, input in {}: {error}", file.display());
                }
            }
            tried += 1;
        }
    }
    assert!(tried >= 50 * rounds, "only {tried}");
    // Mutations that all read, or none, would prove nothing.
    assert!(quarantined > tried / 20 && quarantined < tried * 19 / 20, "{quarantined} of {tried} quarantined");
}

/// A case without its signature, which no mutation would pass.
fn unsigned(input: TryInput) -> TryInput {
    TryInput { skip_verify: true, secrets: Default::default(), ..input }
}

fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn survives(connector: &Arc<Connector>, input: &TryInput) -> Result<String, String> {
    let begun = Instant::now();
    let run = || std::panic::catch_unwind(AssertUnwindSafe(|| fixtures::try_input(connector, input)));
    let tried: Tried = match run() {
        Err(_) => return Err("a panic".to_owned()),
        // A head that is no head is the fixture's matter, not the connector's.
        Ok(Err(_)) => return Ok("no request".to_owned()),
        Ok(Ok(tried)) => tried,
    };
    let took = begun.elapsed();
    if took > ONE_MAX {
        return Err(format!("took {took:?}"));
    }
    let document = &tried.document;
    let outcome = document["outcome"].as_str().unwrap_or_default().to_owned();
    let coded = document["code"].is_string();
    match outcome.as_str() {
        "messages" | "answered" => {}
        "ignored" | "quarantined" | "refused" if coded => {}
        _ => return Err(format!("outcome {outcome:?} with code {}", document["code"])),
    }
    if outcome == "quarantined" && tried.details.iter().all(String::is_empty) {
        return Err("quarantined without a reason".to_owned());
    }
    if let Some(detail) = tried.details.iter().find(|detail| detail.contains(MARK) || detail.len() > 1000) {
        return Err(format!("a reason that quotes content: {} bytes", detail.len()));
    }
    let found = broken("an event", &tried.events);
    if !found.is_empty() {
        return Err(found.join("; "));
    }
    let again = run().map_err(|_| "a panic at the second time".to_owned())?.map_err(|_| "problems at the second time".to_owned())?;
    if again.document != tried.document {
        return Err("the same input gives something else".to_owned());
    }
    Ok(outcome)
}

/// The bytes of a case, changed in one to four ways.
fn mutated(dice: &mut Dice, input: &TryInput) -> Vec<u8> {
    let (head, body) = match input.bytes.windows(2).position(|window| window == b"\n\n").filter(|_| input.whole_request) {
        // The length would cut the body or miss some of it.
        Some(at) => (without_length(&input.bytes[..at + 2]), &input.bytes[at + 2..]),
        None => (Vec::new(), &input.bytes[..]),
    };
    let body = match serde_json::from_slice::<Value>(body) {
        Ok(value) if dice.chance(90) => json_mutated(dice, value),
        _ if body.contains(&b'=') && !body.starts_with(b"<") && dice.chance(70) => form_mutated(dice, body),
        _ => bytes_mutated(dice, body),
    };
    // What is larger is refused before it is read: nothing to see.
    [head, body].concat().into_iter().take(BYTES_MAX).collect()
}

fn without_length(head: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(head);
    let lines = text.split_inclusive('\n').filter(|line| !line.to_ascii_lowercase().starts_with("content-length:"));
    lines.collect::<String>().into_bytes()
}

fn json_mutated(dice: &mut Dice, mut value: Value) -> Vec<u8> {
    for _ in 0..dice.between(1, 5) {
        let mut places = Vec::new();
        walk(&value, String::new(), &mut places);
        let place = places[dice.between(0, places.len() as u64) as usize].clone();
        if dice.chance(20)
            && let Some((parent, name)) = place.rsplit_once('/')
        {
            // A field or an element is missing.
            match value.pointer_mut(parent) {
                Some(Value::Object(map)) => drop(map.remove(&name.replace("~1", "/").replace("~0", "~"))),
                Some(Value::Array(items)) => drop(name.parse().ok().filter(|at| *at < items.len()).map(|at: usize| items.remove(at))),
                _ => {}
            }
            continue;
        }
        let Some(slot) = value.pointer_mut(&place) else { continue };
        let old = slot.take();
        *slot = other(dice, old);
    }
    // Beyond the depth that is taken, sometimes: as text, because building it as a value is what must not be done.
    let text = value.to_string();
    match dice.roll() % 40 {
        0 => format!("{}{text}{}", "[".repeat(200), "]".repeat(200)).into_bytes(),
        1 => format!("{}{text}", "{\"a\":".repeat(100_000)).into_bytes(),
        2 => format!("\u{feff}{text}").into_bytes(),
        _ => text.into_bytes(),
    }
}

/// Something else in the place of a value.
fn other(dice: &mut Dice, old: Value) -> Value {
    let huge = || MARK.repeat(20_000);
    match dice.between(0, 22) {
        0 => Value::Null,
        1 => json!(7),
        2 => json!("x"),
        3 => json!([]),
        4 => json!({}),
        5 => json!(true),
        6 => json!(""),
        7 => json!(huge()),
        8 => json!(-1.5e300),
        9 => json!(i64::MIN),
        10 => json!(u64::MAX),
        11 => json!([null, [1], {"a": 1}, old]),
        12 => Value::from(vec![old; 300]),
        13 => json!({"a": old}),
        14 => (0..100).fold(old, |inner, _| json!([inner])),
        15 => json!("\u{0}\u{1b}[31m\u{202e}\u{fffd}\r\n<script>&amp;"),
        16 => json!("2023-99-99T99:99:99Z"),
        17 => json!("99999999999999999999999"),
        18 => json!("javascript:alert(1)"),
        19 => json!({"id": huge(), "text": huge(), "url": "http://127.0.0.1/", "name": "../../etc/passwd"}),
        20 => match old {
            Value::Object(map) => Value::from(map.into_iter().map(|(_, value)| value).collect::<Vec<_>>()),
            Value::Array(items) => items.into_iter().next().unwrap_or_default(),
            Value::String(text) => text.parse::<i64>().map_or_else(|_| json!([text]), Value::from),
            other => Value::from(other.to_string()),
        },
        _ => Value::from(old.to_string()),
    }
}

fn walk(value: &Value, path: String, places: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().enumerate().for_each(|(index, item)| walk(item, format!("{path}/{index}"), places)),
        Value::Object(map) => {
            map.iter().for_each(|(key, item)| walk(item, format!("{path}/{}", key.replace('~', "~0").replace('/', "~1")), places));
        }
        _ => {}
    }
    places.push(path);
}

fn form_mutated(dice: &mut Dice, body: &[u8]) -> Vec<u8> {
    let mut fields: Vec<(String, String)> = url::form_urlencoded::parse(body).into_owned().collect();
    for _ in 0..dice.between(1, 5) {
        let Some(at) = (!fields.is_empty()).then(|| dice.between(0, fields.len() as u64) as usize) else { break };
        let (name, value) = fields[at].clone();
        match dice.between(0, 9) {
            0 => drop(fields.remove(at)),
            1 => fields.push((name, "again".to_owned())),
            2 => fields[at].1 = MARK.repeat(20_000),
            3 => fields[at].1 = String::new(),
            4 => fields[at].0 = format!("{name}x"),
            5 => fields[at].1 = "-99999999999999999999".to_owned(),
            6 => fields[at].1 = "\u{0}\r\n\u{202e}%00&=;".to_owned(),
            7 if serde_json::from_str::<Value>(&value).is_ok() => {
                let inner = serde_json::from_str(&value).unwrap();
                fields[at].1 = String::from_utf8_lossy(&json_mutated(dice, inner)).into_owned();
            }
            _ if value.len() > 1000 => {}
            _ => fields.extend((0..dice.between(1, 300)).map(|number| (format!("{name}{number}"), value.clone()))),
        }
    }
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish().into_bytes()
}

fn bytes_mutated(dice: &mut Dice, body: &[u8]) -> Vec<u8> {
    let mut out = body.to_vec();
    for _ in 0..dice.between(1, 5) {
        let at = dice.between(0, out.len() as u64 + 1) as usize;
        let until = (at + dice.between(1, 40) as usize).min(out.len());
        match dice.between(0, 6) {
            0 => out.truncate(at),
            1 => drop(out.drain(at..until)),
            2 => drop(out.splice(at..at, [0xff, 0xfe, 0x00])),
            3 => drop(out.splice(at..at, MARK.repeat(20_000).into_bytes())),
            4 => {
                let part = out[at..until].to_vec();
                out.splice(at..at, part.repeat(200));
            }
            _ => out[at..until].iter_mut().for_each(|byte| *byte = byte.wrapping_add(dice.roll() as u8)),
        }
    }
    out
}
