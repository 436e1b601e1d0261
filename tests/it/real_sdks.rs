//! The SDKs of platforms as the other side: what they sign is taken, and what happened to it on the way is refused.
//!
//! Two scripts, one a language, make the requests (`tests/data/sdks`); each holds its SDK's own verdict against the table first. Payloads are
//! those of the fixtures, so what is taken is also read: a signature that passes over a body that nobody can read proves little.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use omnigate::connector::hook::{Guarded, Hook};
use omnigate::connector::reader::{ChannelSpec, ReadContext, ReadLimits};
use omnigate::logic::digest::Digester;
use omnigate::model::codes::Code;
use omnigate::model::event::Priority;
use omnigate::model::item::ItemBody;
use omnigate::model::time::Time;
use omnigate::ports::intake::HookRequest;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::connectors::connector;
use crate::support::contract::root;
use crate::support::servers::{self, installed};

/// A payload of each connector: one of its fixtures.
const PAYLOADS: [(&str, &str); 17] = [
    ("bird", "sms"),
    ("discord", "slash_command"),
    ("github", "text_comment"),
    ("google-chat", "direct_message"),
    ("line", "quotes_a_message"),
    ("mailgun", "mail_in_parts"),
    ("plivo", "sms"),
    ("resend", "mail_received"),
    ("slack", "text_message"),
    ("teams", "personal_chat_with_file"),
    ("telnyx", "mms"),
    ("twilio", "sms"),
    ("viber", "link"),
    ("vonage", "sms"),
    ("wechat", "text"),
    ("whatsapp", "text_message"),
    ("x", "mention"),
];

/// One request of a script.
#[derive(Debug, Deserialize)]
struct Signed {
    sdk: String,
    connector: String,
    /// What was done to it after it was signed.
    what: String,
    passes: bool,
    /// Signed over a body of another platform: it is not read.
    #[serde(default)]
    unread: bool,
    now: i64,
    secrets: BTreeMap<String, String>,
    settings: Map<String, Value>,
    keys_url: Option<String>,
    keys: Option<String>,
    method: String,
    target: String,
    headers: BTreeMap<String, String>,
    body: String,
}

#[test]
fn what_python_sdks_sign_is_taken_and_what_was_tampered_with_is_refused() {
    let python = installed("sdks-python/bin/python");
    if !python.exists() {
        return servers::missing("the Python SDKs of platforms");
    }
    check(Command::new(python).arg(root().join("tests/data/sdks/sign.py")), 19);
}

#[test]
fn what_javascript_sdks_sign_is_taken_and_what_was_tampered_with_is_refused() {
    let folder = installed("sdks-node");
    if !folder.join("node_modules/.installed").exists() {
        return servers::missing("the npm SDKs of platforms");
    }
    check(Command::new("node").arg(root().join("tests/data/sdks/sign.cjs")).current_dir(folder), 14);
}

/// Runs a script; its requests must fare at our hooks as its SDKs say.
fn check(script: &mut Command, sdks: usize) {
    let mut payloads: BTreeMap<&str, String> = PAYLOADS.iter().map(|(name, case)| (*name, payload(name, case))).collect();
    let fields = r#"{"from": "Ana <ana@example.org>", "to": "help@in.example.org", "subject": "Order", "text": "Where is my order?",
        "envelope": "{\"to\":[\"help@in.example.org\"],\"from\":\"ana@example.org\"}", "headers": "Message-ID: <m1@example.org>"}"#;
    payloads.insert("sendgrid", fields.to_owned());
    let all = run(script, &serde_json::to_string(&payloads).unwrap());
    let mut failures = Vec::new();
    let mut taken = std::collections::BTreeSet::new();
    for signed in &all {
        if let Err(error) = fares(signed) {
            failures.push(format!("{} to {}, {}: {error}", signed.sdk, signed.connector, signed.what));
        } else if signed.passes {
            taken.insert(&signed.sdk);
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(taken.len(), sdks, "{taken:?}");
}

fn payload(name: &str, case: &str) -> String {
    let folder = root().join("connectors").join(name).join("fixtures").join(case);
    let text = ["payload.json", "payload.txt"].iter().find_map(|file| std::fs::read_to_string(folder.join(file)).ok());
    text.unwrap_or_else(|| panic!("{name}/{case} has no payload")).trim_end().to_owned()
}

fn run(script: &mut Command, payloads: &str) -> Vec<Signed> {
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(payloads.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the script failed; what it says stands above");
    // SDKs write what they think before it.
    let last = output.stdout.rsplit(|byte| *byte == b'\n').next().unwrap();
    serde_json::from_slice(last).unwrap()
}

fn hook(signed: &Signed) -> Hook {
    let secrets = signed.secrets.iter().map(|(name, value)| (name.clone(), vec![value.as_str().into()]));
    let spec = ChannelSpec {
        id: "hook".to_owned(),
        file: "hook.toml".to_owned(),
        account: None,
        labels: BTreeMap::new(),
        priority: Priority::Normal,
        settings: signed.settings.clone(),
        secrets: secrets.collect(),
        verify_none: false,
        map: None,
        new_after_ms: None,
        back: None,
    };
    let connector = connector(&signed.connector);
    let hook = Hook::build("hook", connector, vec![spec], Digester::new(&[1; 32]), ReadLimits::default());
    let hook = hook.unwrap_or_else(|problems| panic!("{}: {problems:?}", signed.connector));
    if let (Some(url), Some(keys)) = (&signed.keys_url, &signed.keys) {
        hook.keys().put(url, keys.as_bytes(), Time(signed.now * 1000)).unwrap();
    }
    hook
}

fn fares(signed: &Signed) -> Result<(), String> {
    let hook = hook(signed);
    let request = HookRequest {
        hook: "hook".to_owned(),
        method: signed.method.clone(),
        target: signed.target.clone(),
        headers: signed.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect(),
        body: STANDARD.decode(&signed.body).unwrap().into(),
        peer: None,
    };
    let now = Time(signed.now * 1000);
    match (hook.guard(&request, now), signed.passes) {
        (Guarded::Answer { code: Some(Code::Signature), .. }, false) => Ok(()),
        (Guarded::Answer { answer, code }, _) => Err(format!("answered {} ({code:?})", answer.status)),
        (Guarded::Pass(_), false) => Err("taken".to_owned()),
        (Guarded::Pass(_), true) if signed.unread || signed.what != "intact" => Ok(()),
        (Guarded::Pass(verified), true) => {
            let read = hook.read(&verified, &ReadContext { received_at: now, historic: false });
            let said = |body: &ItemBody| matches!(body, ItemBody::Message(_));
            if read.items.iter().any(|item| said(&item.body)) { Ok(()) } else { Err(format!("read as {:?}", read.items)) }
        }
    }
}
