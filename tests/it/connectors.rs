//! Connectors from outside: every fixture of every folder, the vectors of the platforms, the samples.
//!
//! `BLESS=1` writes the `expected.json` of all cases; read the diff before you commit it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use omnigate::connector::decode::wechat;
use omnigate::connector::fixtures::{self, Report, TryInput};
use omnigate::connector::folder::{Files, Folder};
use omnigate::connector::jq::Limits;
use omnigate::connector::load::Connector;
use omnigate::connector::problem::render;
use omnigate::connector::ticket::TicketSystem;
use omnigate::connector::verify::{KeyRing, Kind, Presented, Proof, With};
use omnigate::model::event::Event;
use omnigate::model::raw::Via;
use omnigate::model::time::Time;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::support::contract::problems;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub fn data(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(root().join("tests/data").join(name)).unwrap()).unwrap()
}

/// The folders of connectors as they are on disk: a build that is older than a fixture must not hide it.
pub fn folders() -> Vec<Folder> {
    let all: Vec<Folder> = every_folder().into_iter().filter(|folder| folder.files.contains_key("connector.toml")).collect();
    assert!(all.len() >= 5, "connector folders are missing");
    all
}

/// Those of connectors and of ticket systems.
fn every_folder() -> Vec<Folder> {
    fn walk(base: &std::path::Path, at: &std::path::Path, files: &mut Files) {
        for entry in std::fs::read_dir(at).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                walk(base, &entry.path(), files);
            } else {
                let path = entry.path().strip_prefix(base).unwrap().to_str().unwrap().replace('\\', "/");
                files.insert(path, std::fs::read(entry.path()).unwrap().into());
            }
        }
    }
    let mut all = Vec::new();
    for entry in std::fs::read_dir(root().join("connectors")).unwrap().map(Result::unwrap) {
        let name = entry.file_name().to_str().unwrap().to_owned();
        let mut files = BTreeMap::new();
        walk(&entry.path(), &entry.path(), &mut files);
        all.push(Folder { origin: format!("connectors/{name}"), name, files });
    }
    all
}

/// The ways back from ticket systems, as they are on disk.
pub fn ways_back() -> impl Iterator<Item = Arc<Connector>> {
    every_folder().into_iter().filter_map(|folder| TicketSystem::load(&folder, Limits::default())?.unwrap().back)
}

/// A connector as it is on disk.
pub fn connector(name: &str) -> Arc<Connector> {
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
        if loaded.manifest.is_mail() {
            continue;
        }
        assert!(!report.cases.is_empty(), "{name} has no cases");
        failures.extend(unlike(&report, bless));
        let refused = report.cases.iter().any(|case| case.actual["code"] == "signature");
        if !refused && loaded.manifest.webhook.is_some() {
            failures.push(format!("{name}: no fixture is refused for its signature"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Cases that give something else than they expect, and what none of them gives.
fn unlike(report: &Report, bless: bool) -> Vec<String> {
    let mut failures = Vec::new();
    for case in &report.cases {
        if bless && case.problem.is_none() {
            let path = root().join(&report.folder).join("fixtures").join(&case.case).join("expected.json");
            std::fs::write(path, serde_json::to_string_pretty(&case.actual).unwrap() + "\n").unwrap();
        } else if !case.passed() {
            let shown = serde_json::to_string_pretty(&case.actual).unwrap();
            failures.push(format!("{}/{}: {:?}\nactual: {shown}", report.connector, case.case, case.problem));
        }
    }
    if !report.uncovered.is_empty() {
        failures.push(format!("{}: no fixture produces {:?}", report.connector, report.uncovered));
    }
    failures
}

#[test]
fn every_fixture_of_every_way_back_from_a_ticket_system_gives_what_it_expects() {
    let bless = std::env::var("BLESS").is_ok();
    let (mut failures, mut ways) = (Vec::new(), 0);
    for folder in every_folder() {
        let report = match fixtures::run_back(&folder) {
            None => continue,
            Some(Ok(report)) => report,
            Some(Err(problems)) => {
                failures.push(render(&problems));
                continue;
            }
        };
        ways += 1;
        failures.extend(report.cases.iter().flat_map(|case| broken(&format!("{}/{}", report.connector, case.case), &case.events)));
        failures.extend(unlike(&report, bless));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(ways >= 3, "only {ways}");
}

/// What the committed schema says about whole events.
pub fn broken(name: &str, events: &[Event]) -> Vec<String> {
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
    if actual["type"] == "message.updated" {
        // The samples call everything that comes later an edit; what we learn by ourselves is none, and says who wrote it nowhere.
        assert_eq!((kind, &actual["id"], &actual["text"]), ("edit", &expected["id"], &expected["text"]), "{name}");
        return;
    }
    assert_eq!(actual["type"], of(kind), "{name}");
    let id = if kind == "reaction" { &expected["target"] } else { &expected["id"] };
    assert_eq!(&actual["id"], id, "{name}: id");
    if let Some(sender) = expected["sender"]["id"].as_str() {
        // Some platforms write numbers without their plus; an address has it.
        let phone = expected["sender"]["phone"].as_str().unwrap_or(sender);
        let address = actual["sender"].as_str().unwrap();
        assert!([sender, phone].iter().any(|id| address.ends_with(&format!(":{id}"))), "{name}: sender {actual}");
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

/// Samples whose platform has a folder; the number only grows.
const SAMPLES_MIN: usize = 71;

#[test]
fn samples_of_the_platforms_give_their_outcome() {
    let samples = data("samples.json");
    let samples = samples["samples"].as_array().unwrap();
    let known: Vec<String> = folders().into_iter().map(|folder| folder.name).collect();
    let mut seen = 0;
    for sample in samples {
        let channel = match sample["channel"].as_str().unwrap() {
            "html-form" => "webform",
            other => other,
        };
        // Platforms without a folder yet.
        if !known.iter().any(|name| name == channel) {
            continue;
        }
        seen += 1;
        let bytes = match &sample["body"] {
            Value::String(text) => text.clone().into_bytes(),
            body => serde_json::to_vec(body).unwrap(),
        };
        let via = match sample["via"].as_str().unwrap() {
            "websocket" | "stream" => Via::Stream,
            "longpoll" | "poll" => Via::Poll,
            _ => Via::Webhook,
        };
        let tried = fixtures::try_input(&connector(channel), &TryInput { bytes, via, ..TryInput::default() }).unwrap();
        let (document, name) = (&tried.document, &sample["name"]);
        assert_eq!(broken(&name.to_string(), &tried.events), Vec::<String>::new());
        let silent = |one: &&Value| ["skip", "status", "trigger"].contains(&one["kind"].as_str().unwrap());
        let expected: Vec<&Value> = sample["expected"].as_array().unwrap().iter().filter(|one| !silent(one)).collect();
        if expected.is_empty() {
            assert_eq!(document["outcome"], "ignored", "{name}: {document}");
            continue;
        }
        let events = document["events"].as_array().unwrap();
        assert_eq!(events.len(), expected.len(), "{name}: {document}");
        for (event, expected) in events.iter().zip(expected) {
            holds(sample, expected, &facts(event));
        }
    }
    assert!(seen >= SAMPLES_MIN, "only {seen} samples have a connector");
}

/// The kind of a vector in the words of a manifest; `None` for handshakes, which are answered by hooks.
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
        "twilio" => twilio(),
        "plivo_v2" => keyed("{url.noquery}{header:X-Plivo-Signature-V2-Nonce}", "header = \"X-Plivo-Signature-V2\""),
        "plivo_v3" => {
            keyed("{url.noquery}{parameters:plivo}.{header:X-Plivo-Signature-V3-Nonce}", "header = \"X-Plivo-Signature-V3\", split = \",\"")
        }
        "vonage_sig" if text("algorithm") == "md5hash" => hashed("md5", "{query.sorted:&k=v}{secret}", "query = \"sig\"", ""),
        "vonage_sig" => keyed("{query.sorted:&k=v}", "query = \"sig\"").replace("base64", "hex"),
        "sha256_concat" => hashed(
            "sha256",
            "{json:/app_id}{body}{json:/timestamp}{secret}",
            "header = \"X-ZEvent-Signature\", prefix = \"mac=\"",
            "",
        ),
        "xmpp_component" => hashed("sha1", "{header:stream-id}{secret}", "header = \"handshake\"", ""),
        "wechat_aes" => {
            hashed("sha1", "{secret}{query:timestamp}{query:nonce}{xml:Encrypt}", "query = \"msg_signature\"", "sort = true")
        }
        "ed25519" => {
            let head = if text("channel") == "telnyx" { "Telnyx" } else { "X" };
            let (time, signature) = match head {
                "X" => ("X-Signature-Timestamp", "X-Signature-Ed25519"),
                _ => ("Telnyx-Timestamp", "Telnyx-Signature-Ed25519"),
            };
            let tolerance = if head == "X" { "none" } else { "5m" };
            format!(
                "kind = \"ed25519\"\nsecret = \"s\"\nkey = \"{}\"\nsigned = {:?}\nsignature = {{ header = {signature:?}, encoding = \"{}\" }}\ntimestamp = {{ header = {time:?}, tolerance = \"{tolerance}\" }}",
                text("public_key_encoding"),
                text("string_to_sign"),
                text("signature_encoding")
            )
        }
        "ecdsa" => "kind = \"ecdsa\"\nsecret = \"s\"\nsigned = \"{header:X-Twilio-Email-Event-Webhook-Timestamp}{body}\"\nsignature = { header = \"X-Twilio-Email-Event-Webhook-Signature\", encoding = \"base64\" }".to_owned(),
        "sns" => {
            let body: Value = serde_json::from_str(text("body")).unwrap();
            format!("kind = \"sns\"\ntopics = [{}]", body["TopicArn"])
        }
        "jwt_hs" | "jwt_rs" => jwt(vector),
        _ => return None,
    })
}

fn keyed(signed: &str, signature: &str) -> String {
    format!(
        "kind = \"hmac\"\nalgorithm = \"sha256\"\nsecret = \"s\"\nsigned = {signed:?}\nsignature = {{ {signature}, encoding = \"base64\" }}"
    )
}

fn hashed(algorithm: &str, signed: &str, signature: &str, more: &str) -> String {
    format!(
        "kind = \"hash\"\nalgorithm = \"{algorithm}\"\nsecret = \"s\"\nsigned = {signed:?}\nsignature = {{ {signature}, encoding = \"hex\" }}\n{more}"
    )
}

fn twilio() -> String {
    "kind = \"hmac\"\nalgorithm = \"sha1\"\nsecret = \"s\"\nsigned = \"{url}{form.sorted:kv}\"\nports = \"both\"\nbody_sha256 = \"bodySHA256\"\n\
     signature = { header = \"X-Twilio-Signature\", encoding = \"base64\" }\n\
     algorithm_from = { header = \"X-Twilio-Webhooks-Signature-Settings\", after = \"algorithm\", values = { HMAC_SHA1 = \"sha1\", HMAC_SHA256 = \"sha256\" } }"
        .to_owned()
}

fn jwt(vector: &Value) -> String {
    let claims = vector["claims"].as_object().cloned().unwrap_or_default();
    let rule = |rule: &str| match rule.strip_prefix("== ") {
        Some("json.serviceUrl") => "json:/serviceUrl".to_owned(),
        Some(text) => format!("={text}"),
        None => rule.to_owned(),
    };
    let bound = claims.iter().filter(|(name, _)| *name != "iss");
    let bound: Vec<String> = bound.map(|(name, text)| format!("{name} = {:?}", rule(text.as_str().unwrap()))).collect();
    let legacy = vector["channel"] == "messagebird";
    let token = if legacy {
        "token = { header = \"MessageBird-Signature-JWT\" }"
    } else {
        "token = { header = \"Authorization\" }\nprefix = \"Bearer \""
    };
    let issuer = if vector["issuer"].is_null() { &claims["iss"] } else { &vector["issuer"] };
    let key = match vector["scheme"].as_str() {
        Some("jwt_hs") => "secret = \"s\"\nage_max = \"1d\"\nleeway = \"1s\"".to_owned(),
        _ => format!("jwks = {:?}\naudience = [{}]", KEYS_URL, vector["audience"]),
    };
    format!(
        "kind = \"jwt\"\n{token}\nalgorithms = [{}]\nissuer = [{issuer}]\n{key}\nclaims = {{ {} }}",
        vector["algorithm"],
        bound.join(", ")
    )
}

const KEYS_URL: &str = "https://keys.example.org/jwks";

/// The keys of a vector, as if they had been fetched.
fn ring(vector: &Value, now: Time) -> KeyRing {
    let ring = KeyRing::default();
    if !vector["jwks"].is_null() {
        ring.put(KEYS_URL, vector["jwks"].to_string().as_bytes(), now).unwrap();
    }
    if let Some(certificate) = vector["certificate_pem"].as_str() {
        let body: Value = serde_json::from_str(vector["body"].as_str().unwrap()).unwrap();
        ring.put(body["SigningCertURL"].as_str().unwrap(), certificate.as_bytes(), now).unwrap();
    }
    ring
}

/// A handshake through the hook of its connector.
fn handshake(vector: &Value) {
    let id = vector["id"].as_str().unwrap();
    let (name, secret) = match vector["channel"].as_str().unwrap() {
        "meta" => ("whatsapp", "verify_token"),
        "x" => ("x", "consumer_secret"),
        "wechat" => ("wechat", "token"),
        _ => ("slack", "signing_secret"),
    };
    let url = vector["url"].as_str().unwrap();
    let target = url.split_once("example.com").unwrap().1;
    let request = format!(
        "{} {target} HTTP/1.1\ncontent-type: application/json\n\n{}",
        vector["method"].as_str().unwrap(),
        vector["body"].as_str().unwrap()
    );
    let value = vector["secret"].as_str().unwrap();
    let input = |value: &str| TryInput {
        bytes: request.clone().into_bytes(),
        whole_request: true,
        secrets: BTreeMap::from([(secret.to_owned(), vec![value.to_owned()])]),
        ..TryInput::default()
    };
    let document = fixtures::try_input(&connector(name), &input(value)).unwrap();
    let document = document.document;
    assert_eq!(document["outcome"], "answered", "{id}: {document}");
    assert_eq!(document["answer"]["status"], vector["expected_status"], "{id}");
    assert_eq!(document["answer"]["body"], vector["expected_body"], "{id}");
    if name != "slack" {
        let other = fixtures::try_input(&connector(name), &input("another")).unwrap().document;
        assert!(other["answer"]["body"] != vector["expected_body"], "{id}: with another secret");
    }
}

#[test]
fn every_vector_of_the_platforms_is_proven_or_refused_as_it_should() {
    let vectors = data("vectors.json");
    let mut seen = 0;
    for vector in vectors["vectors"].as_array().unwrap() {
        seen += 1;
        let id = vector["id"].as_str().unwrap();
        let text = |name: &str| vector[name].as_str().unwrap_or_default();
        let Some(kind) = kind_of(vector) else {
            assert_eq!(vector["scheme"], "handshake", "{id}");
            handshake(vector);
            continue;
        };
        let kind = Kind::parse(toml::from_str(&kind).unwrap()).unwrap_or_else(|error| panic!("{id}: {error}\n{kind}"));
        let given = vector["headers"].as_object().unwrap().iter();
        let mut headers: Vec<(String, String)> =
            given.map(|(name, value)| (name.to_lowercase(), value.as_str().unwrap().to_owned())).collect();
        if vector["scheme"] == "xmpp_component" {
            headers =
                vec![("stream-id".to_owned(), text("stream_id").to_owned()), ("handshake".to_owned(), text("expected_body").to_owned())];
        }
        let presented = Presented { headers: &headers, url: text("url"), body: text("body").as_bytes() };
        let default = if text("scheme").starts_with("jwt") { 1_900_000_000 } else { 1_700_000_000 };
        let now = Time(vector["now"].as_i64().unwrap_or(default) * 1000);
        let secret = ["secret", "public_key", "public_key_spki_b64"].into_iter().find_map(|name| vector[name].as_str()).unwrap_or_default();
        let keys = ring(vector, now);
        let expected = if vector["valid"] == true { Proof::Yes } else { Proof::No };
        let proof = |secrets: &[SecretString], presented: &Presented<'_>| kind.proves(presented, With { secrets, keys: &keys, now });
        assert_eq!(proof(&[secret.into()], &presented), expected, "{id}");
        let rotated = [secret.chars().rev().collect::<String>().into(), secret.into()];
        assert_eq!(proof(&rotated, &presented), expected, "{id}: second of two secrets");
        if kind.secret().is_some() {
            assert_eq!(proof(&[], &presented), Proof::No, "{id}: without a secret");
            assert_eq!(proof(&["".into()], &presented), Proof::No, "{id}: with an empty secret");
            let in_body = vector["signature_from"].is_string() || text("url").contains("sig");
            assert!(in_body || proof(&[secret.into()], &Presented { headers: &[], ..presented }) == Proof::No, "{id}: without headers");
        } else {
            let unknown = kind.proves(&presented, With { secrets: &[], keys: &KeyRing::default(), now });
            assert!(unknown != Proof::Yes, "{id}: without keys");
        }
        // One letter of the body changed: nothing that covers the body may let it pass.
        if text("scheme") != "xmpp_component"
            && !text("body").is_empty()
            && !["static_header", "basic_auth", "plivo_v2"].contains(&text("scheme"))
        {
            let changed = text("body").replace("15550000002", "15550000003").replace("hello", "hallo").replace("text", "test");
            let changed = Presented { body: changed.as_bytes(), ..presented };
            let covers = !["mailgun", "teams", "google-chat"].contains(&text("channel"));
            assert!(!covers || changed.body == presented.body || proof(&[secret.into()], &changed) == Proof::No, "{id}: another body");
        }
        if text("scheme") == "wechat_aes" {
            let opened = wechat::open(presented.body, text("encoding_aes_key"), Some(text("app_id"))).unwrap();
            assert_eq!(String::from_utf8(opened).unwrap(), text("expected_plaintext"));
            assert_eq!(wechat::open(presented.body, text("encoding_aes_key"), Some("another")), None);
        }
    }
    assert_eq!(seen, 65);
}
