//! Connectors from outside: every fixture of every folder, the vectors of the platforms, the samples.
//!
//! `BLESS=1` writes the `expected.json` of all cases; read the diff before you commit it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use omnigate::connector::fixtures::{self, TryInput};
use omnigate::connector::folder::Folder;
use omnigate::connector::jq::Limits;
use omnigate::connector::load::Connector;
use omnigate::connector::manifest::Engine;
use omnigate::connector::problem::render;
use omnigate::connector::verify::{Kind, Presented};
use omnigate::model::event::Event;
use omnigate::model::raw::Via;
use omnigate::model::time::Time;
use serde_json::{Value, json};

use crate::support::contract::problems;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn data(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(root().join("tests/data").join(name)).unwrap()).unwrap()
}

/// The folders as they are on disk: a build that is older than a fixture must not hide it.
fn folders() -> Vec<Folder> {
    fn walk(base: &std::path::Path, at: &std::path::Path, files: &mut BTreeMap<String, Vec<u8>>) {
        for entry in std::fs::read_dir(at).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                walk(base, &entry.path(), files);
            } else {
                let path = entry.path().strip_prefix(base).unwrap().to_str().unwrap().replace('\\', "/");
                files.insert(path, std::fs::read(entry.path()).unwrap());
            }
        }
    }
    let mut all = Vec::new();
    for entry in std::fs::read_dir(root().join("connectors")).unwrap().map(Result::unwrap) {
        let name = entry.file_name().to_str().unwrap().to_owned();
        let mut files = BTreeMap::new();
        walk(&entry.path(), &entry.path(), &mut files);
        if files.contains_key("connector.toml") {
            all.push(Folder { origin: format!("connectors/{name}"), name, files });
        }
    }
    assert!(all.len() >= 5, "connector folders are missing");
    all
}

fn connector(name: &str) -> Arc<Connector> {
    let folder = folders().into_iter().find(|folder| folder.name == name).unwrap();
    Arc::new(Connector::load(folder, Limits::default()).unwrap_or_else(|problems| panic!("{}", render(&problems))))
}

#[test]
fn every_fixture_of_every_connector_gives_what_it_expects() {
    let bless = std::env::var("BLESS").is_ok();
    let mut failures = Vec::new();
    for folder in folders() {
        let name = folder.name.clone();
        let report = match fixtures::run(folder) {
            Ok(report) => report,
            Err(problems) => {
                failures.push(render(&problems));
                continue;
            }
        };
        let problems: Vec<_> = report.cases.iter().flat_map(|case| broken(&format!("{name}/{}", case.case), &case.events)).collect();
        failures.extend(problems);
        // Mail has its own runner: its cases are `.eml` files.
        let loaded = connector(&name);
        if loaded.manifest.engine == Engine::Imap {
            continue;
        }
        assert!(!report.cases.is_empty(), "{name} has no cases");
        for case in &report.cases {
            if bless && case.problem.is_none() {
                let path = root().join("connectors").join(&name).join("fixtures").join(&case.case).join("expected.json");
                std::fs::write(path, serde_json::to_string_pretty(&case.actual).unwrap() + "\n").unwrap();
            } else if !case.passed() {
                let shown = serde_json::to_string_pretty(&case.actual).unwrap();
                failures.push(format!("{name}/{}: {:?}\nactual: {shown}", case.case, case.problem));
            }
        }
        if !report.uncovered.is_empty() {
            failures.push(format!("{name}: no fixture produces {:?}", report.uncovered));
        }
        let refused = report.cases.iter().any(|case| case.actual["code"] == "signature");
        if !refused {
            failures.push(format!("{name}: no fixture is refused for its signature"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// What the committed schema says about whole events.
fn broken(name: &str, events: &[Event]) -> Vec<String> {
    let say = |event: &Event| {
        let found = problems(&serde_json::to_value(event).unwrap());
        (!found.is_empty()).then(|| format!("{name}: an event does not keep the contract: {found:?}"))
    };
    events.iter().filter_map(say).collect()
}

/// What of an event a sample speaks of.
fn facts(event: &Value) -> Value {
    let data = &event["data"];
    let message = &data["message"];
    let from = if message["from"].is_null() { &data["from"] } else { &message["from"] };
    let attachments: Vec<Value> =
        message["attachments"].as_array().into_iter().flatten().map(|file| json!([file["name"], file["type"], file["bytes"]])).collect();
    json!({
        "type": event["type"], "id": message["external_id"], "sender": from["address"], "name": from["name"],
        "text": if message["text"].is_null() { &data["text"] } else { &message["text"] }, "emoji": data["emoji"],
        "sent_at": if message["sent_at"].is_null() { &data["edited_at"] } else { &message["sent_at"] },
        "reply_to": message["in_reply_to"]["external_id"], "attachments": attachments,
    })
}

#[track_caller]
fn holds(sample: &Value, expected: &Value, actual: &Value) {
    let name = &sample["name"];
    let kind = expected["kind"].as_str().unwrap();
    let of = |kind: &str| match kind {
        "message" => "message.created",
        "edit" => "message.edited",
        "delete" => "message.deleted",
        _ => "reaction.added",
    };
    assert_eq!(actual["type"], of(kind), "{name}");
    let id = if kind == "reaction" { &expected["target"] } else { &expected["id"] };
    assert_eq!(&actual["id"], id, "{name}: id");
    if let Some(sender) = expected["sender"]["id"].as_str() {
        assert!(actual["sender"].as_str().unwrap().ends_with(&format!(":{sender}")), "{name}: sender {actual}");
    }
    if let Some(sender) = expected["sender"]["name"].as_str() {
        assert_eq!(actual["name"], sender, "{name}: name of the sender");
    }
    if let Some(text) = expected["text"].as_str().filter(|text| !text.is_empty()) {
        assert_eq!(actual["text"], text, "{name}: text");
    }
    if let Some(time) = expected["timestamp"].as_str() {
        assert_eq!(actual["sent_at"], time, "{name}: time");
    }
    if let Some(reply) = expected["reply_to"].as_str() {
        assert_eq!(actual["reply_to"], reply, "{name}: reply");
    }
    if let Some(emoji) = expected["emoji"].as_str() {
        assert_eq!(actual["emoji"], emoji, "{name}: emoji");
    }
    let files = expected["attachments"].as_array().map_or(0, Vec::len);
    assert_eq!(actual["attachments"].as_array().map_or(0, Vec::len), files, "{name}: attachments");
}

#[test]
fn samples_of_the_platforms_give_their_outcome() {
    let samples = data("samples.json");
    let samples = samples["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 13);
    for sample in samples {
        let channel = match sample["channel"].as_str().unwrap() {
            "html-form" => "webform",
            other => other,
        };
        let bytes = match &sample["body"] {
            Value::String(text) => text.clone().into_bytes(),
            body => serde_json::to_vec(body).unwrap(),
        };
        let via = match sample["via"].as_str().unwrap() {
            "websocket" => Via::Stream,
            "longpoll" => Via::Poll,
            _ => Via::Webhook,
        };
        let tried = fixtures::try_input(&connector(channel), &TryInput { bytes, via, ..TryInput::default() }).unwrap();
        let (document, name) = (&tried.document, &sample["name"]);
        assert_eq!(broken(&name.to_string(), &tried.events), Vec::<String>::new());
        let expected: Vec<&Value> = sample["expected"].as_array().unwrap().iter().collect();
        if ["skip", "status"].contains(&expected[0]["kind"].as_str().unwrap()) {
            assert_eq!(document["outcome"], "ignored", "{name}: {document}");
            continue;
        }
        let events = document["events"].as_array().unwrap();
        assert_eq!(events.len(), expected.len(), "{name}: {document}");
        for (event, expected) in events.iter().zip(expected) {
            holds(sample, expected, &facts(event));
        }
    }
}

/// Schemes that later kinds verify. A vector whose scheme is neither here nor verified below fails the test.
const WAITING: [(&str, &str); 13] = [
    ("handshake", "run through hooks; crc and the WeChat handshake come with their connectors"),
    ("twilio", "hmac with the URL under both ports"),
    ("vonage_sig", "hash, and hmac with a value map"),
    ("plivo_v2", "hmac with the public URL"),
    ("plivo_v3", "hmac over sorted parts"),
    ("jwt_hs", "jwt"),
    ("jwt_rs", "jwt"),
    ("ed25519", "ed25519"),
    ("ecdsa", "ecdsa"),
    ("sns", "sns"),
    ("sha256_concat", "hash"),
    ("xmpp_component", "hash"),
    ("wechat_aes", "hash and a decoder"),
];

/// The kind of a vector in the words of a manifest; `None` for schemes that wait.
fn kind_of(vector: &Value) -> Option<String> {
    let text = |name: &str| vector[name].as_str().unwrap_or_default();
    let place = |path: &str| match path.split_once('.') {
        Some(("form", name)) => format!("form = \"{name}\""),
        Some((_, pointer)) => format!("json = \"/{}\"", pointer.replace('.', "/")),
        None => String::new(),
    };
    let hmac = |signed: &str, key: &str, signature: &str, timestamp: &str| {
        format!(
            "kind = \"hmac\"\nalgorithm = \"{}\"\nsecret = \"s\"\nkey = \"{key}\"\nsigned = {signed:?}\nsignature = {{ {signature}, encoding = \"{}\" }}\n{timestamp}\n",
            text("algorithm"),
            text("encoding")
        )
    };
    Some(match text("scheme") {
        "static_header" => "kind = \"static\"\nsecret = \"s\"\nheader = \"X-Telegram-Bot-Api-Secret-Token\"".to_owned(),
        "basic_auth" => "kind = \"static\"\nsecret = \"s\"\nbasic = true".to_owned(),
        "svix" => {
            let head = if text("channel") == "resend" { "svix" } else { "webhook" };
            let time = format!("timestamp = {{ header = \"{head}-timestamp\", tolerance = \"5m\" }}");
            let signature = format!("header = \"{head}-signature\", prefix = \"v1,\", split = \" \"");
            hmac(&format!("{{header:{head}-id}}.{{ts}}.{{body}}"), "whsec", &signature, &time)
        }
        "messagebird_legacy" | "bird" => {
            let url = if text("scheme") == "bird" { "{url}" } else { "{query.sorted:k=v&}" };
            let time = "timestamp = { header = \"messagebird-request-timestamp\", tolerance = \"none\" }";
            let signed = format!("{{ts}}\n{url}\n{{body.sha256}}");
            hmac(&signed, "text", "header = \"messagebird-signature\"", time)
                .replace("algorithm = \"\"", "algorithm = \"sha256\"")
                .replace("encoding = \"\"", "encoding = \"base64\"")
        }
        "hmac" => {
            let signed = text("string_to_sign")
                .replace("{form.", "{form:")
                .replace("{json.signature.timestamp}", "{json:/signature/timestamp}")
                .replace("{json.signature.token}", "{json:/signature/token}");
            let signature = match vector["signature_from"].as_str() {
                Some(path) => place(path),
                None => format!("header = \"{}\", prefix = \"{}\"", text("signature_header"), text("prefix")),
            };
            let key = if text("secret_encoding").starts_with("base64") { "base64" } else { "text" };
            let time =
                if signed.contains("{ts}") { "timestamp = { header = \"X-Slack-Request-Timestamp\", tolerance = \"5m\" }" } else { "" };
            hmac(&signed, key, &signature, time)
        }
        _ => return None,
    })
}

#[test]
fn vectors_of_the_platforms_are_verified_or_wait_by_name() {
    let vectors = data("vectors.json");
    let (mut verified, mut waiting) = (0, 0);
    for vector in vectors["vectors"].as_array().unwrap() {
        let id = vector["id"].as_str().unwrap();
        let Some(kind) = kind_of(vector) else {
            assert!(
                WAITING.iter().any(|(scheme, _)| vector["scheme"] == *scheme),
                "{id}: scheme {} is neither verified nor waiting",
                vector["scheme"]
            );
            waiting += 1;
            continue;
        };
        let kind = Kind::parse(toml::from_str(&kind).unwrap()).unwrap_or_else(|error| panic!("{id}: {error}\n{kind}"));
        let headers: Vec<(String, String)> = vector["headers"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.to_lowercase(), value.as_str().unwrap().to_owned()))
            .collect();
        let body = vector["body"].as_str().unwrap().as_bytes();
        let presented = Presented { headers: &headers, url: vector["url"].as_str().unwrap_or_default(), body };
        let now = Time(vector["now"].as_i64().unwrap_or(1_700_000_000) * 1000);
        let secret = vector["secret"].as_str().unwrap();
        assert_eq!(kind.proves(&presented, &[secret.into()], now), vector["valid"].as_bool().unwrap(), "{id}");
        let rotated = [secret.to_owned().chars().rev().collect::<String>().into(), secret.into()];
        assert_eq!(kind.proves(&presented, &rotated, now), vector["valid"].as_bool().unwrap(), "{id}: second of two secrets");
        assert!(!kind.proves(&presented, &[], now), "{id}: without a secret");
        assert!(!kind.proves(&presented, &["".into()], now), "{id}: with an empty secret");
        assert!(
            !kind.proves(&Presented { headers: &[], ..presented }, &[secret.into()], now) || vector["signature_from"].is_string(),
            "{id}: without headers"
        );
        verified += 1;
    }
    assert_eq!((verified, waiting), (29, 36), "the counts say what is covered");
}
