//! The mail room from outside: the fixtures of the mail connector, and generated mails.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use omnigate::connector::fixtures;
use omnigate::connector::folder::{Files, Folder};
use omnigate::connector::mail;
use omnigate::model::event::Automated;
use omnigate::model::item::ItemBody;

use crate::support::contract::assert_valid;
use crate::support::{mailgen, mails};

fn read_folder(root: &Path, at: &Path, files: &mut Files) {
    for entry in std::fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_folder(root, &path, files);
        } else {
            files.insert(path.strip_prefix(root).unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap().into());
        }
    }
}

#[test]
fn fixtures_of_the_mail_connector_are_as_expected() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("connectors/imap");
    let mut files = BTreeMap::new();
    read_folder(&root, &root, &mut files);
    let report = fixtures::run(Folder { name: "imap".to_owned(), origin: "connectors/imap".to_owned(), files }).unwrap();
    assert!(report.cases.len() >= 12, "a runner that finds no cases fails");
    let mut wrong = Vec::new();
    for case in report.cases {
        assert_eq!(case.problem, None, "{}", case.case);
        case.events.iter().for_each(|event| assert_valid(&serde_json::to_value(event).unwrap()));
        if std::env::var_os("BLESS").is_some() {
            let text = format!("{}\n", serde_json::to_string_pretty(&case.actual).unwrap());
            std::fs::write(root.join("fixtures").join(&case.case).join("expected.json"), text).unwrap();
        } else if case.expected.as_ref() != Some(&case.actual) {
            wrong.push(format!("{}: {}", case.case, serde_json::to_string_pretty(&case.actual).unwrap()));
        }
    }
    assert!(wrong.is_empty(), "not as expected (BLESS=1 writes them):\n{}", wrong.join("\n"));
}

#[test]
fn generated_mails_are_all_messages_with_a_key_and_text_of_their_own() {
    let context = mails::context();
    let mut keys = BTreeSet::new();
    let (mut answers, mut placed, mut bounces, mut files) = (0, 0, 0, 0);
    let mut registered = BTreeSet::new();
    for (n, body) in mailgen::generate(7, 200).into_iter().enumerate() {
        let raw = mails::raw(n as u128, body);
        let item = mail::read(&raw, &context);
        assert!(keys.insert(item.key.unwrap()), "two mails with one key");
        let ItemBody::Message(message) = item.body else { panic!("mail {n} is no message") };
        assert!(message.text.as_ref().is_some_and(|text| text.len() >= 5), "mail {n} has no text");
        assert!(message.from.is_some() && message.sent_at.is_some() && message.subject.is_some() && message.external_id.is_some());
        let bounce = message.automated == Some(Automated::Bounce);
        bounces += usize::from(bounce);
        files += message.attachments.iter().filter(|file| file.public.sha256.is_some()).count();
        if message.in_reply_to.is_some() {
            answers += 1;
            placed += usize::from(message.threading.candidates.iter().any(|one| registered.contains(&one.key)));
        }
        registered.extend(message.threading.registers);
    }
    assert!(answers > 60 && placed == answers, "{placed} of {answers} answers are placed");
    assert!(bounces > 0 && files > 25, "{bounces} bounces, {files} files");
}
