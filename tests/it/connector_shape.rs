//! What every connector folder must show: what its map can say is shown by a fixture, and its README answers the four questions of an admin.
//!
//! What must stay true: an exception stands here with its reason, and one that is no longer needed fails.

use std::collections::BTreeSet;

use omnigate::connector::fixtures::{self, CaseResult, TryInput};
use omnigate::connector::hook::{Guarded, Outcome};
use omnigate::model::event::{Attachment, Body};

use crate::connectors::{connector, folders};

/// Platforms whose payloads hold one thing each: there is no batch to show.
const ONE_AT_A_TIME: [&str; 29] = [
    "bird",
    "cloudmailin",
    "delighted",
    "discourse",
    "github",
    "google-chat",
    "imap",
    "irc",
    "kakao",
    "mailgun",
    "mattermost",
    "plivo",
    "postmark",
    "resend",
    "rocketchat",
    "sendgrid",
    "ses-sns",
    "tally",
    "telnyx",
    "twilio",
    "twilio-voice",
    "typeform",
    "viber",
    "vonage",
    "vonage-sms",
    "webform",
    "wechat",
    "xmpp",
    "zalo",
];

/// (connector, what it cannot show, why).
const EXCEPTIONS: [(&str, &str, &str); 2] = [
    ("imap", "nothing is ignored", "every mail of a mailbox is told"),
    ("resend", "nobody says a word", "its webhook names a mail and holds none of its text"),
];

const SECTIONS: [&str; 4] = ["## Set-up", "## Channel file", "## What becomes what", "## Known gaps"];

/// What the events of the cases show.
#[derive(Default)]
struct Shown {
    text: bool,
    files: bool,
    answers: bool,
}

impl Shown {
    fn of(cases: &[CaseResult]) -> Self {
        let mut shown = Self::default();
        for event in cases.iter().flat_map(|case| &case.events) {
            let (text, files): (bool, &[Attachment]) = match &event.body {
                Body::MessageCreated(created) => {
                    shown.answers |= created.message.in_reply_to.is_some();
                    (created.message.text.is_some(), &created.message.attachments)
                }
                Body::MessageUpdated(updated) => (updated.text.is_some(), updated.attachments.as_deref().unwrap_or_default()),
                Body::MessageEdited(edited) => (false, edited.attachments.as_deref().unwrap_or_default()),
                _ => continue,
            };
            shown.text |= text;
            shown.files |= !files.is_empty();
        }
        shown
    }
}

/// Something that no platform would send if it worked as it says: it is quarantined, or its oddities are left out and the case says so.
fn is_odd(case: &CaseResult) -> bool {
    const WORDS: [&str; 9] = ["broken", "cut", "missing", "not_json", "odd", "strange", "twice", "without", "wrong"];
    case.actual["outcome"] == "quarantined" || case.case.split('_').any(|word| WORDS.contains(&word)) || case.case.contains("not_json")
}

/// What a folder does not show.
fn lacks(name: &str, map: &str, cases: &[CaseResult]) -> Vec<&'static str> {
    let shown = Shown::of(cases);
    let says = |word: &str| map.lines().map(|line| line.split('#').next().unwrap_or_default()).any(|line| line.contains(word));
    let mut lacks = Vec::new();
    let mut want = |there: bool, what: &'static str| {
        if !there {
            lacks.push(what);
        }
    };
    want(shown.text, "nobody says a word");
    want(shown.files || !says("attachments"), "its map has `attachments`, and no case has a file");
    want(shown.answers || !says("in_reply_to"), "its map has `in_reply_to`, and no case answers anything");
    want(cases.iter().any(|case| case.actual["outcome"] == "ignored"), "nothing is ignored");
    want(cases.iter().any(is_odd), "nothing is odd");
    let several = cases.iter().any(|case| case.events.len() > 1);
    match (several, ONE_AT_A_TIME.contains(&name)) {
        (false, false) => lacks.push("no case holds several things (or it belongs to ONE_AT_A_TIME)"),
        (true, true) => lacks.push("a case holds several things: it does not belong to ONE_AT_A_TIME"),
        _ => {}
    }
    lacks
}

#[test]
fn every_folder_shows_what_its_map_can_say() {
    let mut found: BTreeSet<(String, &str)> = BTreeSet::new();
    for folder in folders() {
        let name = folder.name.clone();
        let map = folder.files.get("map.jq").map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default();
        let Ok(report) = fixtures::run(folder) else { panic!("{name} cannot be read") };
        found.extend(lacks(&name, &map, &report.cases).into_iter().map(|what| (name.clone(), what)));
    }
    let known: BTreeSet<(String, &str)> = EXCEPTIONS.iter().map(|(name, what, _)| ((*name).to_owned(), *what)).collect();
    let new: Vec<_> = found.difference(&known).collect();
    let needless: Vec<_> = known.difference(&found).collect();
    assert!(new.is_empty() && needless.is_empty(), "folders that lack something: {new:#?}\nexceptions that are not needed: {needless:#?}");
}

#[test]
fn every_readme_says_how_it_is_set_up_what_becomes_what_and_what_is_missing() {
    let mut findings = Vec::new();
    for folder in folders() {
        let name = folder.name.clone();
        let text = folder.files.get("README.md").map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default();
        let titles: Vec<&str> = text.lines().filter(|line| line.starts_with("## ")).collect();
        let mut at = 0;
        for section in SECTIONS {
            match titles.iter().skip(at).position(|title| title.starts_with(section)) {
                Some(place) => at += place + 1,
                None => findings.push(format!("connectors/{name}/README.md: no `{section}`, or not in its place")),
            }
        }
        // The file to copy names the connector, and nothing that its manifest does not know.
        let blocks: Vec<&str> = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        let copy = blocks.iter().find(|block| block.contains(&format!("connector = \"{name}\"")));
        let Some(copy) = copy else {
            findings.push(format!("connectors/{name}/README.md: no channel file to copy"));
            continue;
        };
        let Ok(file) = copy.parse::<toml::Table>() else {
            findings.push(format!("connectors/{name}/README.md: its channel file is no TOML"));
            continue;
        };
        let loaded = connector(&name);
        let keys = |table: &str| file.get(table).and_then(toml::Value::as_table).map(|table| table.keys().cloned().collect::<Vec<_>>());
        for key in keys("settings").unwrap_or_default() {
            if !loaded.manifest.settings.contains_key(&key) && !loaded.manifest.is_mail() {
                findings.push(format!("connectors/{name}/README.md: there is no setting `{key}`"));
            }
        }
        for key in keys("secrets").unwrap_or_default() {
            if !loaded.manifest.secrets.contains_key(&key) && !loaded.manifest.is_mail() {
                findings.push(format!("connectors/{name}/README.md: there is no secret `{key}`"));
            }
        }
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

/// What a platform is told when it comes too early: to come again. A refusal would bounce a mail, remove a hook or lose the message for good, and words would be
/// a message in the customer's chat.
#[test]
fn what_cannot_be_taken_now_is_asked_to_come_again_in_no_words() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for connector in folders().into_iter().map(|folder| connector(&folder.name)).filter(|connector| connector.manifest.webhook.is_some()) {
        let name = &connector.manifest.name;
        for (case, input) in fixtures::inputs(&connector.folder) {
            let Ok(input) = input.map(|input| TryInput { skip_verify: true, ..input }) else { continue };
            let Ok((hook, request)) = fixtures::prepare(&connector, &input) else { continue };
            let Guarded::Pass(verified) = hook.guard(&request, input.now) else { continue };
            seen += 1;
            let answer = hook.answer(&verified, Outcome::Overload { retry_after: 7 });
            let again = answer.headers.iter().any(|(header, value)| header == "retry-after" && value == "7");
            // The page of a web form reads its answer.
            let silent = answer.body.is_empty() || name == "webform";
            if !(answer.status == 429 || answer.status >= 500) || !again || !silent {
                wrong.push(format!("{name}/{case}: {} {:?}", answer.status, answer.body));
            }
            break;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen >= 45, "only {seen}");
}
