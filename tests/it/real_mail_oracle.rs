//! Our mail reader against Python's email package: an independent reader must find the same subject, author, text and files.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use omnigate::connector::mail::trial;
use omnigate::model::item::{ItemBody, MessageItem};
use omnigate::model::time::Time;
use serde_json::{Map, Value};

use crate::support::mailgen;
use crate::support::servers::missing;

const ORACLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/mail_oracle.py");

/// What Python says of each mail; `None` if there is no Python.
fn asked(mails: &[Vec<u8>]) -> Option<Vec<Value>> {
    let mut child = Command::new("python3").arg(ORACLE).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
    // It reads all before it says anything, so neither waits for the other.
    let mut to = child.stdin.take().unwrap();
    for mail in mails {
        to.write_all(format!("{}\n", mail.len()).as_bytes()).unwrap();
        to.write_all(mail).unwrap();
    }
    drop(to);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the oracle failed");
    let told: Vec<Value> =
        output.stdout.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect();
    assert_eq!(told.len(), mails.len());
    Some(told)
}

fn read(mail: &[u8]) -> Option<MessageItem> {
    let now = Time::parse("2026-11-22T09:14:03Z").unwrap();
    match trial::read("imap", &Map::new(), mail, now).body {
        ItemBody::Message(message) => Some(*message),
        _ => None,
    }
}

/// Lines without the white space at their ends, as neither reader promises that.
fn lines(text: &str) -> String {
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

fn differences(mail: &[u8], told: &Value) -> Vec<String> {
    let Some(ours) = read(mail) else { return vec!["is no message".to_owned()] };
    let mut found = Vec::new();
    let mut same = |what: &str, ours: Option<String>, theirs: Option<String>| {
        if ours != theirs {
            found.push(format!("{what}: ours {ours:?}, theirs {theirs:?}"));
        }
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    same("subject", ours.subject, text(&told["subject"]));
    let from = ours.from.map(|party| party.address.as_str().replace("email:", ""));
    same("from", from, text(&told["from"]));
    if let Some(theirs) = told["text"].as_str() {
        same("text", ours.text.as_deref().map(lines), Some(lines(theirs)));
    }
    let theirs = told["attachments"].as_array().unwrap();
    same("count of files", Some(ours.attachments.len().to_string()), Some(theirs.len().to_string()));
    for (file, theirs) in ours.attachments.iter().zip(theirs) {
        same("name of a file", file.public.name.clone(), text(&theirs["name"]));
        if let Some(sha256) = text(&theirs["sha256"]) {
            same("bytes of a file", file.public.sha256.clone(), Some(sha256));
        }
    }
    found
}

/// Differences, each behind the name of its mail; `None` if there is no Python. At least `texts` and `files` were compared, so
/// that agreement means something.
#[track_caller]
fn compared(named: &[(String, Vec<u8>)], texts: usize, files: usize) -> Option<Vec<String>> {
    let mails: Vec<Vec<u8>> = named.iter().map(|(_, mail)| mail.clone()).collect();
    let Some(told) = asked(&mails) else {
        missing("python3");
        return None;
    };
    assert!(told.iter().filter(|told| told["text"].is_string()).count() >= texts, "hardly a text to compare");
    let all_files = told.iter().flat_map(|told| told["attachments"].as_array().unwrap());
    assert!(all_files.filter(|file| file["sha256"].is_string()).count() >= files, "hardly a file to compare");
    let all = named
        .iter()
        .zip(&told)
        .flat_map(|((name, mail), told)| differences(mail, told).into_iter().map(move |difference| format!("{name}: {difference}")));
    Some(all.collect())
}

#[test]
fn generated_mails_are_read_as_python_reads_them() {
    let named: Vec<(String, Vec<u8>)> =
        mailgen::generate(11, 300).into_iter().enumerate().map(|(n, mail)| (format!("mail {n}"), mail)).collect();
    let Some(found) = compared(&named, 300, 30) else { return };
    assert!(found.is_empty(), "{} differences\n{}", found.len(), found.join("\n"));
}

/// Where we differ with reason: how the difference begins, and why ours is right. None of them has to be there: how Python reads
/// what is broken differs from version to version.
const DIFFERENT: [(&str, &str); 9] = [
    ("forwarded_mail_attached: name of a file", "a subject is no path"),
    ("attachment_with_encoded_name: name of a file: ours Some(\"Rechnung März.pdf\")", "a name leads out of no folder"),
    ("attachment_with_encoded_name: name of a file: ours Some(\"notes.txt\")", "a name leads into no folder of Windows"),
    ("broken_header: subject", "a line that is no field does not end the header"),
    ("broken_header: from", "a line that is no field does not end the header"),
    ("broken_header: text", "a line that is no field does not end the header"),
    ("charset_undeclared_windows_1252: subject", "Python guesses no charset"),
    ("charset_undeclared_windows_1252: text", "Python guesses no charset"),
    ("nested_too_deep: is no message", "above our limit"),
];

#[test]
fn fixtures_are_read_as_python_reads_them() {
    let mut named = Vec::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("connectors/imap/fixtures")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        named.push((name, std::fs::read(path.join("message.eml")).unwrap()));
    }
    let Some(found) = compared(&named, 10, 3) else { return };
    let known = |difference: &&String| DIFFERENT.iter().any(|(start, _)| difference.starts_with(start));
    let new: Vec<&String> = found.iter().filter(|difference| !known(difference)).collect();
    assert!(new.is_empty(), "{} differences\n{new:#?}", new.len());
}
