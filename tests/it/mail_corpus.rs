//! Our own mails under `tests/data/mail`: each tests something particular and says what (`about`), each has what it must become
//! beside it. What is expected was reasoned, not taken from the output: a difference is a defect until somebody shows otherwise.

use std::path::{Path, PathBuf};

use omnigate::connector::mail::{self, MailContext};
use omnigate::model::dns::{Answers, TxtAnswer};
use omnigate::model::item::{ItemBody, MessageItem};
use omnigate::model::time::Time;
use serde_json::{Map, Value, json};

use crate::support::mails;

/// What the DNS says, from the file beside a mail: records by name, `null` where there is none, `"unknown"` where nobody answers.
fn answers(path: &Path) -> Option<Answers> {
    let zone: Map<String, Value> = serde_json::from_slice(&std::fs::read(path.with_extension("dns.json")).ok()?).unwrap();
    let answer = |value: &Value| match value {
        Value::Array(records) => TxtAnswer::Records(records.iter().map(|record| record.as_str().unwrap().as_bytes().to_vec()).collect()),
        Value::Null => TxtAnswer::Nothing,
        _ => TxtAnswer::Unknown,
    };
    let txt = zone.iter().map(|(name, value)| (name.clone(), answer(value))).collect();
    Some(Answers { at: Time::parse("2026-11-22T12:00:00Z").unwrap(), txt })
}

/// Reads it; with a file of answers beside it, its sender is checked.
fn read(path: &Path) -> MessageItem {
    let mail = std::fs::read(path).unwrap();
    let answers = answers(path);
    let context = MailContext { verify_senders: answers.is_some(), ..mails::context() };
    let raw = mails::raw(1, mail);
    if let Some(answers) = &answers {
        let missing: Vec<String> = mail::asks(&raw, &context).into_iter().filter(|name| !answers.txt.contains_key(name)).collect();
        assert!(missing.iter().all(|name| !name.starts_with("k1._domainkey.example.org")), "{}: {missing:?}", path.display());
    }
    match mail::read_with(&raw, &context, answers.as_ref()).body {
        ItemBody::Message(message) => *message,
        other => panic!("no message: {other:?}"),
    }
}

/// What a mail became, in the form of the expectations.
fn told(message: &MessageItem) -> Map<String, Value> {
    let files = message.attachments.iter().map(|file| {
        let file = &file.public;
        let mut told =
            json!({"name": file.name, "type": file.media_type, "bytes": file.bytes, "sha256": file.sha256, "inline": file.inline});
        if let Some(id) = &file.content_id {
            told["content_id"] = json!(id);
        }
        told
    });
    // One evidence is tried in several ways; it is told once. That a Message-ID may be used twice is no evidence of a mail.
    let mut thread: Vec<Value> = Vec::new();
    for one in message.threading.candidates.iter().filter(|one| one.rule != "same_message_id") {
        let pair = json!([one.rule, one.evidence]);
        if !thread.contains(&pair) {
            thread.push(pair);
        }
    }
    let extra = message.extra.get("mail").cloned().unwrap_or_else(|| json!({}));
    let told = json!({
        "from": message.from.as_ref().map(|from| json!({"address": from.address.as_str(), "name": from.name})),
        "author": message.author,
        "contact": message.contact.as_ref().map(|contact| contact.address.as_str()),
        "to": message.to.iter().map(|to| json!([to.address.as_str(), to.role])).collect::<Vec<_>>(),
        "subject": message.subject,
        "text": message.text,
        "html": message.html,
        "reply_text": message.reply_text,
        "attachments": files.collect::<Vec<_>>(),
        "automated": message.automated,
        "thread": thread,
        "external_id": message.external_id,
        "in_reply_to": message.in_reply_to.as_ref().map(|reply| &reply.external_id),
        "language": message.language,
        "authentication": message.authentication,
        "sent_at": message.sent_at.map(|at| at.to_string()),
        "flags": extra.get("flags").cloned().unwrap_or_else(|| json!([])),
        "extra": extra,
    });
    told.as_object().unwrap().clone()
}

/// What is expected must be there; of `extra` the expected part.
fn differences(expected: &Map<String, Value>, told: &Map<String, Value>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, wanted) in expected.iter().filter(|(name, _)| *name != "about") {
        let got = told.get(name).unwrap_or_else(|| panic!("no such fact: {name}"));
        let same = match (name.as_str(), wanted, got) {
            ("extra", Value::Object(wanted), Value::Object(got)) => wanted.iter().all(|(name, value)| got.get(name) == Some(value)),
            _ => wanted == got,
        };
        if !same {
            found.push(format!("{name}\n      expected {wanted}\n      is       {got}"));
        }
    }
    found
}

/// The mails of the corpus.
pub fn mails() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mail");
    let mut mails: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    mails.retain(|path| path.extension().is_some_and(|ending| ending == "eml"));
    mails.sort();
    mails
}

#[test]
fn every_mail_of_the_corpus_becomes_what_it_says() {
    let mails = mails();
    assert!(mails.len() >= 150, "a runner that finds no cases fails");
    let mut wrong = Vec::new();
    for path in &mails {
        let expected: Map<String, Value> = serde_json::from_slice(&std::fs::read(path.with_extension("expected.json")).unwrap()).unwrap();
        let found = differences(&expected, &told(&read(path)));
        if !found.is_empty() {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            wrong.push(format!("{name}: {}\n    {}", expected["about"], found.join("\n    ")));
        }
    }
    assert!(wrong.is_empty(), "{} of {} mails are not as expected:\n{}", wrong.len(), mails.len(), wrong.join("\n"));
}
