//! Ticket folders: what is refused at load, and what becomes of events.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::compose::{Composing, Forms, Seen, compose};
use super::dialect::Dialect;
use super::{DESTINATION_FILE, TicketSystem};
use crate::connector::folder::{self, Folder};
use crate::connector::jq::Limits;
use crate::connector::problem::render;
use crate::model::id::EventId;

const GOOD: &str = r#"
name = "x"
title = "X"
about = "For tests."
proved = "rendered"
[settings.url]
type = "url"
required = true
help = "Base."
[ticket]
look_after = ["1s", "5s"]
files = "with"
[text]
dialect = "plain"
[told]
duplicates = "a"
author = "b"
files = "c"
limits = "d"
[calls.create.request]
post = "{settings.url}/t"
json = { id = "{conversation.id}" }
[calls.append.request]
post = "{settings.url}/t/{ticket.id}"
[calls.find_tickets.request]
get = "{settings.url}/t"
[calls.find_entry.request]
get = "{settings.url}/t/{ticket.id}"
"#;

fn load(text: &str) -> Result<TicketSystem, String> {
    let files = BTreeMap::from([(DESTINATION_FILE.to_owned(), Cow::Owned(text.as_bytes().to_vec()))]);
    let folder = Folder { name: "x".into(), origin: "connectors/x".into(), files };
    TicketSystem::load(&folder, Limits::default()).unwrap().map_err(|problems| render(&problems))
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let shown = load(text).err().unwrap_or_default();
    assert!(shown.contains(expected), "{shown}");
}

#[test]
fn a_folder_that_could_double_what_it_sends_is_refused() {
    assert!(load(GOOD).is_ok());
    refused(&GOOD.replace("[calls.find_entry.request]\nget = \"{settings.url}/t/{ticket.id}\"", ""), "[calls.find_entry] is missing");
    refused(&GOOD.replace("[calls.find_tickets.request]\nget = \"{settings.url}/t\"", ""), "[calls.find_tickets] is missing");
    refused(&GOOD.replace("look_after = [\"1s\", \"5s\"]", ""), "look_after is missing");
    refused(&GOOD.replace("\"1s\", \"5s\"", "\"5s\", \"1s\""), "the shortest first");
    refused(&GOOD.replace("files = \"with\"\n", "files = \"after\"\n"), "[calls.attach] and [calls.find_file] are needed");
    refused(&GOOD.replace("look_after", "verify = true\nlook_after"), "verify needs");
}

#[test]
fn what_is_wrong_stands_with_its_place() {
    refused(&GOOD.replace("dialect", "dialekt"), "connectors/x/destination.toml:14:1: unknown key `dialekt`");
    refused(&GOOD.replace("{conversation.id}", "{conversatoin.id}"), "did you mean `conversation`?");
    refused(
        &GOOD.replace("[calls.create.request]", "[calls.create]\ntake = \".id |\"\n[calls.create.request]"),
        "[calls.create] in its jq",
    );
    refused(&GOOD.replace("name = \"x\"", "name = \"y\""), "`name` is `y`, the folder is `x`");
}

#[test]
fn tokens_are_got_without_a_person_and_nothing_of_them_is_kept() {
    let secret = "[secrets.client_secret]\nhelp = \"Secret.\"\n";
    let with = |auth: &str| GOOD.replace("[ticket]\n", &format!("{secret}[auth.token]\n{auth}\n[ticket]\n"));
    let client = "token_url = \"{settings.url}/token\"\nclient_id = \"x\"\nclient_secret = \"client_secret\"";
    let system = load(&with(&format!("kind = \"client_credentials\"\n{client}"))).unwrap();
    assert_eq!(system.tokens.keys().collect::<Vec<_>>(), ["token"]);
    let consent = format!("kind = \"oauth2\"\n{client}\nauthorize_url = \"{{settings.url}}/authorize\"");
    refused(&with(&consent), "[auth.token]: a ticket system gets its tokens by client_credentials or jwt_bearer");
    refused(&with(&format!("kind = \"client_credentials\"\n{}", client.replace("\"client_secret\"", "\"other\""))), "other");
}

#[test]
fn settings_are_checked_and_filled_in() {
    let system = load(GOOD).unwrap();
    let wrong = |written: Value| {
        let problems = system.settings(written.as_object().unwrap()).unwrap_err();
        problems.into_iter().map(|(_, message)| message).collect::<Vec<_>>().join("; ")
    };
    assert!(wrong(json!({})).contains("`url` is missing"));
    assert!(wrong(json!({"url": 3})).contains("must be an absolute"));
    assert!(wrong(json!({"url": "http://127.0.0.1", "quue": "x"})).contains("no setting `quue`"));
}

#[test]
fn every_embedded_folder_loads() {
    for folder in folder::every().values() {
        if let Some(Err(problems)) = TicketSystem::load(folder, Limits::default()) {
            panic!("{}", render(&problems));
        }
    }
}

#[test]
fn what_a_customer_writes_does_nothing_in_a_ticket_system() {
    let seen = |dialect: Dialect, text: &str| dialect.text(text).replace('\u{2060}', "~");
    assert_eq!(seen(Dialect::Markdown, "/close\n@ana see #12 *now*"), "~/close\n@~ana see #~12 \\*now\\*");
    assert_eq!(seen(Dialect::Markdown, "a <b> [x](y)"), "a \\<b\\> \\[x\\](y)");
    assert_eq!(seen(Dialect::Redmine, "h1. x\n{{include}} @ana #12"), "~h1. x\n{~{include}} @~ana #~12");
    assert_eq!(seen(Dialect::JiraWiki, "[~ana] {code}\n# x"), "\\[\\~ana\\] \\{code\\}\n~# x");
    assert_eq!(Dialect::Html.text("<script>\n&"), "&lt;script&gt;<br>&amp;");
}

fn event(kind: &str, data: Value) -> Value {
    json!({"type": kind, "id": EventId(7).to_string(), "timestamp": "2026-11-23T00:00:00.000Z", "data": data})
}

fn created(message: Value) -> Value {
    let mut whole = json!({"id": "msg_00000000000000000000000001", "direction": "inbound", "kind": "text", "text": "Hi",
        "from": {"address": "whatsapp:4915112345", "name": "Ana\nB"}, "attachments": []});
    whole.as_object_mut().unwrap().extend(message.as_object().unwrap().clone());
    event(
        "message.created",
        json!({"sequence": 1, "message": whole, "conversation": {"id": "cnv_00000000000000000000000001", "opened": true},
               "contact": {"id": "cnt_00000000000000000000000001", "name": "Ana", "addresses": ["whatsapp:4915112345"]},
               "channel": {"id": "shop", "connector": "whatsapp", "labels": {}}}),
    )
}

fn composed(system: &TicketSystem, event: &Value) -> Option<super::compose::Entry> {
    let forms = Forms { edits: true, deletions: true, reactions: false };
    compose(
        EventId(7),
        event,
        &Composing {
            text: &system.manifest.text,
            ticket: &system.manifest.ticket,
            forms,
            contact_domain: "contacts.example.org",
            files: true,
        },
    )
}

#[test]
fn a_contact_without_a_mail_address_gets_one_of_its_own() {
    let system = load(GOOD).unwrap();
    let entry = composed(&system, &created(json!({}))).unwrap();
    assert_eq!((entry.seen, entry.opened, entry.external.as_str()), (Seen::Customer, true, "msg_00000000000000000000000001"));
    let requester = &entry.context["requester"];
    assert_eq!(requester["mail"], "cnt_00000000000000000000000001@contacts.example.org");
    assert_eq!((&requester["email"], &requester["phone"], &requester["name"]), (&Value::Null, &json!("+4915112345"), &json!("Ana B")));
    let mail = composed(&system, &created(json!({"from": {"address": "email:ana@example.org", "name": null}}))).unwrap();
    assert_eq!(mail.context["requester"]["mail"], "ana@example.org");
    let hostile = composed(&system, &created(json!({"from": {"address": "email:a@example.org\r\nBcc: x@y", "name": null}}))).unwrap();
    assert_eq!(hostile.context["requester"]["email"], Value::Null);
}

#[test]
fn long_text_is_cut_at_a_letter_and_says_where_the_rest_is() {
    let system = load(&GOOD.replace("dialect = \"plain\"", "dialect = \"plain\"\nchars_max = 500")).unwrap();
    let entry = composed(&system, &created(json!({"text": "ä".repeat(2_000), "external_url": "https://chat.example.org/1"}))).unwrap();
    let body = entry.context["entry"]["body"].as_str().unwrap();
    assert!(body.chars().count() <= 500 && body.ends_with("the whole text: https://chat.example.org/1"), "{body}");
    assert!(entry.context["entry"]["subject"].as_str().unwrap().chars().count() == 80);
}

#[test]
fn files_that_cannot_go_along_are_named_in_the_text() {
    let system = load(&GOOD.replace("files = \"with\"", "files = \"with\"\nfile_bytes_max = 10")).unwrap();
    let file = |name: &str, bytes: u64, state: &str| json!({"id": "att_00000000000000000000000001", "name": name, "type": "image/png", "bytes": bytes, "state": state, "url": null});
    let files =
        [file("../../a\r\n.png", 3, "stored"), file("big.bin", 11, "stored"), file("empty", 0, "stored"), file("later", 3, "pending")];
    let entry = composed(&system, &created(json!({"attachments": files}))).unwrap();
    assert_eq!(entry.files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), ["a__.png"]);
    let body = entry.context["entry"]["body"].as_str().unwrap();
    assert_eq!(body, "Hi\nFile big.bin: not taken along\nFile empty: not taken along\nFile later: not here yet");
}

#[test]
fn a_file_that_comes_later_goes_along_without_those_that_are_there() {
    let system = load(GOOD).unwrap();
    let file = |id: u8, name: &str, state: &str| {
        let id = format!("att_0000000000000000000000000{id}");
        json!({"id": id, "name": name, "type": "image/png", "bytes": 3, "state": state, "url": null})
    };
    let files = json!([file(1, "known.png", "stored"), file(2, "new.png", "stored"), file(3, "late.png", "pending")]);
    let names = |changed: Value| {
        let mut data = json!({"message": {"id": "msg_1"}, "conversation": {"id": "cnv_00000000000000000000000001"}, "attachments": files});
        data["attachments_changed"] = changed;
        let entry = composed(&system, &event("message.updated", data))?;
        Some(entry.files.into_iter().map(|file| file.name).collect::<Vec<_>>())
    };
    assert_eq!(names(json!([files[1]["id"]])).unwrap(), ["new.png"]);
    assert_eq!(names(json!([])), None, "nothing came");
    // An event of before says nothing of it.
    assert_eq!(names(Value::Null).unwrap(), ["known.png", "new.png"]);
}

#[test]
fn edits_deletions_calls_and_ratings_have_a_form_and_other_events_have_none() {
    let system = load(GOOD).unwrap();
    let part = json!({"message": {"id": "msg_1"}, "conversation": {"id": "cnv_00000000000000000000000001"}, "text": "Bye"});
    let edit = composed(&system, &event("message.edited", part.clone())).unwrap();
    assert_eq!((edit.seen, edit.external), (Seen::Agents, EventId(7).to_string()));
    assert!(edit.context["entry"]["body"].as_str().unwrap().ends_with("It now says:\n\nBye"));
    assert!(composed(&system, &event("message.deleted", part.clone())).is_some());
    for kind in ["reaction.added", "ticket.linked", "message.updated", "contact.updated"] {
        assert_eq!(composed(&system, &event(kind, part.clone())), None, "{kind}");
    }
    let call =
        composed(&system, &created(json!({"text": null, "call": {"outcome": "missed", "seconds": 12, "transcript": null}}))).unwrap();
    assert_eq!(call.context["entry"]["body"], "Call: missed, 12 s");
    let rated = composed(&system, &created(json!({"text": null, "feedback": {"metric": "csat", "score": 4, "scale": [1, 5]}}))).unwrap();
    assert_eq!(rated.context["entry"]["body"], "Feedback: csat 4 on 1 to 5");
    let ours = composed(&system, &created(json!({"direction": "outbound"}))).unwrap();
    assert_eq!((ours.seen, ours.context["entry"]["body"].as_str().unwrap()), (Seen::Agents, "Ana B (whatsapp:4915112345) via shop\n\nHi"));
}
