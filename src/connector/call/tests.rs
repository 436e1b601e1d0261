//! Calls: what is refused at load, what a request looks like, where a credential does not go, and what answers mean.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use bytes::Bytes;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::connector::call::answer::{ANSWER_VARS, Meaning, RuleSpec, Rules};
use crate::connector::call::compile::Scope;
use crate::connector::call::{Call, CallError, CallFile, Filling, RequestSpec};
use crate::connector::jq::{Filter, Limits};
use crate::connector::manifest::Manifest;
use crate::model::time::Time;
use crate::ports::http::{Egress, HttpAnswer, HttpBody};

const HEAD: &str = r#"
name = "x"
title = "X"
about = "For tests."
hosts = ["api.example.org", "*.cdn.example.org"]
[webhook]
decode = "json"
[settings.api]
type = "url"
help = "Base."
[settings.room]
type = "text"
help = "Room."
[secrets.token]
help = "Token."
"#;

fn compile(request: &str) -> Result<Call, String> {
    let manifest = Manifest::parse("connector.toml", HEAD).unwrap_or_else(|problems| panic!("{problems:?}"));
    let auth = toml::from_str("[bot]\nkind = \"bearer\"\nsecret = \"token\"\n[user]\nkind = \"basic\"\nuser = \"{settings.room}\"\npassword = \"{secrets.token}\"\n").unwrap();
    let scope = Scope {
        file: "connector.toml",
        settings: &manifest.settings,
        secrets: &manifest.secrets,
        auth: &auth,
        hosts: &manifest.hosts,
        limits: Limits::default(),
    };
    let spec: RequestSpec = toml::from_str(request).unwrap();
    Call::compile(&spec, "poll.x", &["part", "attachment"], &scope).map_err(|problems| crate::connector::problem::render(&problems))
}

fn context() -> Value {
    json!({
        "settings": {"api": "http://127.0.0.1:9/base/", "room": "a/../b"},
        "part": {"id": 12_345_678_901_234_567_890_u64, "name": "Ana & co", "gone": null, "list": [1, 2]},
        "attachment": {"url": "https://elsewhere.example.net/f?a=1"},
    })
}

fn render(request: &str) -> Result<crate::ports::http::HttpRequest, CallError> {
    let secrets = BTreeMap::from([("token".to_owned(), vec![SecretString::from("s3\r\ncret"), SecretString::from("old")])]);
    let file = CallFile { name: "a.png".to_owned(), media_type: "image/png".to_owned(), bytes: Bytes::from_static(b"png") };
    let call = compile(request).unwrap_or_else(|problems| panic!("{problems}"));
    call.render(&Filling { context: &context(), secrets: &secrets, token: None, files: &[file] })
}

#[track_caller]
fn refused(request: &str, expected: &str) {
    let shown = compile(request).err().unwrap_or_default();
    assert!(shown.contains(expected), "{shown}");
}

fn header<'a>(request: &'a crate::ports::http::HttpRequest, name: &str) -> Option<&'a str> {
    request.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

#[test]
fn what_is_wrong_with_a_request_is_told_at_load() {
    refused("query = { a = \"b\" }", "name exactly one of get, post");
    refused("get = \"{settings.apy}/x\"", "did you mean `api`?");
    refused("get = \"{settings.room}/x\"", "not of type url");
    refused("get = \"{settings.api}/{paart.id}\"", "did you mean `part`?");
    refused("get = \"{settings.api}/{secrets.tokn}\"", "names the secret `tokn`");
    refused("get = \"{settings.api}/{part\"", "a `{` without its `}`");
    refused("get = \"https://evil.example.com/x\"\nauth = \"bot\"", "`evil.example.com` is not among `hosts`");
    refused("get = \"https://{part.id}.example.org/x\"", "nothing from outside forms its host");
    refused("get = \"{settings.api}/x\"\nauth = \"bott\"", "did you mean `bot`?");
    refused("post = \"{settings.api}/x\"\njq = \".a |\"", "in its jq");
    refused("post = \"{settings.api}/x\"\njq = \".\"\ntext = \"a\"", "give one of json, jq, form");
    refused("get = \"{settings.api}/x\"\nwithin = \"soon\"", "is not a duration");
}

#[test]
fn values_stay_what_they_are_wherever_they_stand() {
    let request = render(
        "get = \"{settings.api}/rooms/{settings.room}/{part.name}\"\nauth = \"bot\"\n[query]\nq = \"{part.name}\"\ncursor = \"{part.gone}\"\n[headers]\nX-Room = \"{part.id}\"\n",
    )
    .unwrap();
    assert_eq!(request.url.as_str(), "http://127.0.0.1:9/base/rooms/a%2F..%2Fb/Ana%20%26%20co?q=Ana+%26+co");
    assert_eq!(header(&request, "x-room"), Some("12345678901234567890"));
    assert_eq!(request.egress, Egress::Written);
    let several = render("get = \"{settings.api}/file/{+settings.room}\"").unwrap();
    assert_eq!(several.url.as_str(), "http://127.0.0.1:9/base/file/a/%00/b", "slashes stay, dots lead nowhere");
    assert_eq!(format!("{request:?}"), "GET 127.0.0.1:9");
    assert_eq!(render("get = \"{settings.api}/{part.gone}\"").err(), Some(CallError::Missing("part.gone".to_owned())));
    assert_eq!(render("get = \"{settings.api}/{part.list}\"").err(), Some(CallError::NotText("part.list".to_owned())));
}

#[test]
fn bodies_are_made_of_the_context() {
    let text = |request: &str| match render(request).unwrap().body {
        HttpBody::Bytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        _ => panic!("no bytes"),
    };
    assert_eq!(
        text("post = \"{settings.api}/x\"\n[json]\nid = \"{part.id}\"\nn = [1, \"v{part.name}\"]\nk = \"{{x}}\"\n"),
        r#"{"id":12345678901234567890,"k":"{x}","n":[1,"vAna & co"]}"#
    );
    assert_eq!(text("post = \"{settings.api}/x\"\njq = \"{name: .part.name}\""), r#"{"name":"Ana & co"}"#);
    assert_eq!(text("post = \"{settings.api}/x\"\n[form]\na = \"{part.name}\"\nb = \"{part.gone}\"\n"), "a=Ana+%26+co");
    assert_eq!(text("post = \"{settings.api}/x\"\nfile = true"), "png");
    assert!(matches!(render("post = \"{settings.api}/x\"\njq = \"1, 2\""), Err(CallError::Outputs(2))));
    let HttpBody::Multipart(parts) =
        render("post = \"{settings.api}/x\"\nmultipart = [{ name = \"a\", value = \"{part.name}\" }, { name = \"f[]\", files = true }]")
            .unwrap()
            .body
    else {
        panic!("no form")
    };
    assert_eq!(
        parts.iter().map(|part| (part.name.as_str(), part.file_name.as_deref())).collect::<Vec<_>>(),
        [("a", None), ("f[]", Some("a.png"))]
    );
}

#[test]
fn a_credential_stays_where_it_was_sent() {
    let proven = render("get = \"https://api.example.org/x\"\nauth = \"bot\"").unwrap();
    // The adapter refuses the line break; nothing is sent with it.
    assert_eq!(header(&proven, "authorization"), Some("Bearer s3\r\ncret"));
    let elsewhere = render("get = \"{attachment.url}\"\nauth = \"bot\"").unwrap();
    assert_eq!((header(&elsewhere, "authorization"), elsewhere.egress), (None, Egress::Public));
    assert_eq!(elsewhere.url.as_str(), "https://elsewhere.example.net/f?a=1");
    assert_eq!(render("get = \"{attachment.url}\"\n[query]\nt = \"{secrets.token}\"").err(), Some(CallError::Host));
    let basic = render("get = \"{settings.api}/x\"\nauth = \"user\"").unwrap();
    assert!(header(&basic, "authorization").unwrap().starts_with("Basic "));
}

#[test]
fn an_answer_means_what_a_rule_says_and_else_what_its_status_says() {
    let specs: Vec<RuleSpec> = vec![
        toml::from_str("when = '.ok == false and .error == \"ratelimited\"'\nthen = \"throttled\"\nafter_s = '.wait'").unwrap(),
        toml::from_str("status = [400]\nwhen = '.error == \"bad_cursor\"'\nthen = \"cursor_lost\"").unwrap(),
    ];
    let rules = Rules::compile(&specs, "connector.toml", "poll.x", Limits::default()).unwrap();
    let judge = |status: u16, headers: &[(&str, &str)], body: &'static str| {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let judged = rules.judge(&HttpAnswer { status, headers, body: Bytes::from_static(body.as_bytes()) }, Time(0));
        (judged.meaning, judged.after.map(|after| after.as_secs()))
    };
    assert_eq!(judge(200, &[], r#"{"ok":false,"error":"ratelimited","wait":2.5}"#), (Meaning::Throttled, Some(2)));
    assert_eq!(judge(200, &[], r#"{"ok":true}"#), (Meaning::Ok, None));
    assert_eq!(judge(400, &[], r#"{"error":"bad_cursor"}"#), (Meaning::CursorLost, None));
    assert_eq!(judge(400, &[], "<html>"), (Meaning::Never, None));
    assert_eq!(judge(429, &[("retry-after", "30")], ""), (Meaning::Throttled, Some(30)));
    assert_eq!(judge(429, &[("retry-after", "999999999")], ""), (Meaning::Throttled, Some(24 * 3600)));
    assert_eq!(judge(503, &[], ""), (Meaning::Later, None));
    assert_eq!(judge(403, &[], ""), (Meaning::Denied, None));
}

#[test]
fn what_an_answer_says_is_taken_out_by_jq_and_its_error_is_cut_to_a_line() {
    let body = format!("{{\"id\":7,\"error\":{{\"message\":\"no such\\nqueue {}\"}}}}", "x".repeat(500));
    let answer = HttpAnswer { status: 404, headers: vec![("etag".to_owned(), "e".to_owned())], body: Bytes::from(body) };
    let judged = Rules::default().judge(&answer, Time(0));
    let filter = Filter::compile("connector.toml", "[.id, $status, $headers.etag]", &ANSWER_VARS, Limits::default()).unwrap();
    assert_eq!(judged.take(&filter).unwrap(), json!([7, 404, "e"]));
    let words = judged.words().unwrap();
    assert!(words.starts_with("no such queue x") && words.chars().count() == 200, "{words}");
}
