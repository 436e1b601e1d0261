//! The vectors of the platforms through the folders themselves: what each manifest says of signatures proves what its platform signs, and nothing else.
//! (`connectors` runs the same vectors against the kinds alone.)

use std::sync::Arc;

use bytes::Bytes;
use omnigate::connector::fixtures::{self, TryInput};
use omnigate::connector::hook::Guarded;
use omnigate::connector::load::Connector;
use omnigate::model::codes::Code;
use omnigate::model::time::Time;
use serde_json::{Value, json};

use crate::connectors::{connector, data};

/// Vectors of what no hook takes, and why.
const NOT_OF_HOOKS: [(&str, &str); 1] = [("xmpp-component-handshake", "the gateway logs in as a client, not as a component")];

/// The folder of a vector: some channels of the vectors are families.
fn folder(vector: &Value) -> &str {
    match (vector["channel"].as_str().unwrap(), vector["scheme"].as_str().unwrap()) {
        ("meta", _) => "whatsapp",
        ("messagebird", _) => "bird",
        ("websub", _) => "rss",
        ("vonage", "vonage_sig") => "vonage-sms",
        (channel, _) => channel,
    }
}

/// Settings that say whom a request must be for, as the owner of this account would write them.
fn settings(vector: &Value, declared: impl Fn(&str) -> bool) -> serde_json::Map<String, Value> {
    let body: Value = serde_json::from_str(vector["body"].as_str().unwrap_or_default()).unwrap_or_default();
    let url = vector["url"].as_str().and_then(|url| url::Url::parse(url).ok());
    let base = url.map(|url| format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default()));
    let audience = vector["audience"].clone();
    let number = audience.as_str().is_some_and(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let all = [
        ("public_url", json!(base)),
        ("app_id", audience.clone()),
        (if number { "project_number" } else { "audience" }, audience),
        ("topics", json!([body["TopicArn"]])),
        ("algorithm", vector["algorithm"].clone()),
        ("method", vector["algorithm"].clone()),
    ];
    let fits = |(name, value): &(&str, Value)| declared(name) && value != &Value::Null && value != &json!([null]);
    all.into_iter().filter(fits).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Whether a vector is taken by the hook of its folder, with the secret in any of the places that the folder has for one.
fn is_taken(vector: &Value) -> bool {
    let connector = connector(folder(vector));
    let names = connector.manifest.secrets.keys().map(|name| Some(name.as_str()));
    let answers: Vec<bool> = names.chain([None]).filter_map(|name| is_taken_with(vector, &connector, name)).collect();
    assert!(!answers.is_empty(), "{}: no secret makes a hook of its folder", vector["id"]);
    answers.contains(&true)
}

/// The same with this secret alone. `None`: that makes no hook.
fn is_taken_with(vector: &Value, connector: &Arc<Connector>, name: Option<&str>) -> Option<bool> {
    let (id, text) = (vector["id"].as_str().unwrap(), |name: &str| vector[name].as_str().unwrap_or_default());
    let secret = ["secret", "public_key", "public_key_spki_b64"].into_iter().find_map(|name| vector[name].as_str()).unwrap_or_default();
    let given = [("encoding_aes_key", text("encoding_aes_key")), (name.unwrap_or_default(), secret)];
    let given = given.into_iter().filter(|(name, value)| connector.manifest.secrets.contains_key(*name) && !value.is_empty());
    let input = TryInput {
        skip_verify: false,
        secrets: given.map(|(name, value)| (name.to_owned(), vec![value.to_owned()])).collect(),
        settings: settings(vector, |name| connector.manifest.settings.contains_key(name)),
        bytes: b"{}".to_vec(),
        map: connector.manifest.own_map.then(|| "empty".to_owned()),
        ..TryInput::default()
    };
    let (hook, mut request) = fixtures::prepare(connector, &input).ok()?;
    let url = url::Url::parse(text("url")).unwrap_or_else(|_| "https://gw.example.com/in/x".parse().unwrap());
    let headers = vector["headers"].as_object().unwrap().iter();
    request.method = vector["method"].as_str().unwrap_or("POST").to_owned();
    request.target = url[url::Position::BeforePath..url::Position::AfterQuery].to_owned();
    request.headers = headers.map(|(name, value)| (name.to_lowercase(), value.as_str().unwrap().to_owned())).collect();
    request.headers.push(("host".to_owned(), url[url::Position::BeforeHost..url::Position::AfterPort].to_owned()));
    request.body = Bytes::copy_from_slice(text("body").as_bytes());
    let default = if text("scheme").starts_with("jwt") { 1_900_000_000 } else { 1_700_000_000 };
    let now = Time(vector["now"].as_i64().unwrap_or(default) * 1000);
    if !vector["jwks"].is_null() {
        hook.keys().wanted(now).iter().for_each(|url| hook.keys().put(url, vector["jwks"].to_string().as_bytes(), now).unwrap());
    }
    if let Some(certificate) = vector["certificate_pem"].as_str() {
        let body: Value = serde_json::from_str(text("body")).unwrap();
        hook.keys().put(body["SigningCertURL"].as_str().unwrap(), certificate.as_bytes(), now).unwrap();
    }
    match hook.guard(&request, now) {
        Guarded::Pass(_) | Guarded::Answer { code: None, .. } => Some(true),
        Guarded::Answer { code: Some(Code::Signature), .. } => Some(false),
        Guarded::Answer { answer, code } => panic!("{id} with {name:?}: answered {} with {code:?}", answer.status),
    }
}

#[test]
fn every_folder_takes_and_refuses_the_vectors_of_its_platform() {
    let vectors = data("vectors.json");
    let (mut seen, mut wrong) = (0, Vec::new());
    for vector in vectors["vectors"].as_array().unwrap() {
        let id = vector["id"].as_str().unwrap();
        // Handshakes go through their hooks in `connectors`.
        if vector["scheme"] == "handshake" || NOT_OF_HOOKS.iter().any(|(known, _)| *known == id) {
            continue;
        }
        seen += 1;
        let valid = vector["valid"] == true;
        if is_taken(vector) != valid {
            wrong.push(format!("{id} by connectors/{}: {}", folder(vector), if valid { "refused" } else { "taken" }));
        }
        // The same by a key of somebody else.
        let mut other = vector.clone();
        let known = ["secret", "public_key", "public_key_spki_b64"].into_iter().find(|name| vector[*name].is_string());
        if let Some(name) = known.filter(|name| *name == "secret") {
            let text = vector[name].as_str().unwrap();
            // Another of the same form: letters of base64 stay such.
            let changed: String = text
                .chars()
                .map(|c| match c {
                    'a'..='y' => (c as u8 + 1) as char,
                    'z' => 'a',
                    c => c,
                })
                .collect();
            other[name] = json!(if changed.starts_with("xitfd_") { changed.replacen("xitfd_", "whsec_", 1) } else { changed });
            if other[name] != vector[name] && is_taken(&other) {
                wrong.push(format!("{id} by connectors/{}: taken with another secret", folder(vector)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(seen, 60);
}
