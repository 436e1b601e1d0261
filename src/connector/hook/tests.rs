//! Hooks: what may be built, who may pass, what is kept, and that the same thing gets the same key.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::connector::folder;
use crate::connector::hook::{Guarded, Hook, Outcome, Verified};
use crate::connector::jq::Limits;
use crate::connector::load::Connector;
use crate::connector::problem::render;
use crate::connector::reader::{ChannelSpec, Read, ReadContext, ReadLimits};
use crate::connector::verify::Algorithm;
use crate::logic::digest::Digester;
use crate::model::codes::Code;
use crate::model::event::{AttachmentState, Priority};
use crate::model::item::{FilePlace, ItemBody, MessageItem};
use crate::model::time::Time;
use crate::ports::intake::HookRequest;

const NOW: Time = Time(1_700_000_000_000);

fn connector(name: &str) -> Arc<Connector> {
    let folder = folder::embedded().remove(name).unwrap();
    Arc::new(Connector::load(folder, Limits::default()).unwrap_or_else(|problems| panic!("{}", render(&problems))))
}

fn spec(id: &str, secrets: &[(&str, &str)], settings: Value) -> ChannelSpec {
    ChannelSpec {
        id: id.to_owned(),
        file: format!("channels/{id}.toml"),
        account: None,
        labels: BTreeMap::new(),
        priority: Priority::Normal,
        settings: settings.as_object().cloned().unwrap_or_default(),
        secrets: secrets.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).into()])).collect(),
        verify_none: false,
        map: None,
        new_after_ms: None,
        back: None,
    }
}

fn hook(name: &str, channels: Vec<ChannelSpec>) -> Result<Hook, String> {
    Hook::build("hook", connector(name), channels, Digester::new(&[1; 32]), ReadLimits::default()).map_err(|problems| render(&problems))
}

#[track_caller]
fn refused(name: &str, channels: Vec<ChannelSpec>, expected: &str) {
    let problems = hook(name, channels).err().unwrap_or_default();
    assert!(problems.contains(expected), "{problems}");
}

fn post(body: &str, headers: &[(&str, &str)]) -> HookRequest {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    HookRequest {
        hook: "hook".to_owned(),
        method: "POST".to_owned(),
        target: "/hooks/hook".to_owned(),
        headers: headers.collect(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        peer: None,
    }
}

#[track_caller]
fn passed(hook: &Hook, request: &HookRequest) -> Verified {
    match hook.guard(request, NOW) {
        Guarded::Pass(verified) => verified,
        Guarded::Answer { answer, code } => panic!("not passed: {answer:?} {code:?}"),
    }
}

#[track_caller]
fn code(hook: &Hook, request: &HookRequest) -> Option<Code> {
    match hook.guard(request, NOW) {
        Guarded::Pass(_) => panic!("passed"),
        Guarded::Answer { code, .. } => code,
    }
}

fn read(hook: &Hook, verified: &Verified, at: Time) -> Read {
    hook.read(verified, &ReadContext { received_at: at, historic: false })
}

#[track_caller]
fn message(read: &Read) -> &MessageItem {
    match &read.items[0].body {
        ItemBody::Message(message) => message,
        other => panic!("no message: {other:?}"),
    }
}

#[test]
fn a_channel_without_a_secret_is_refused_unless_it_says_so() {
    refused("slack", vec![spec("a", &[], json!({}))], "the secret `signing_secret` is not set");
    refused("slack", vec![spec("a", &[("signing_secret", "")], json!({}))], "is not set");
    refused("webform", vec![spec("a", &[], json!({}))], "verify = \"none\"");
    let mut open = spec("a", &[], json!({}));
    open.verify_none = true;
    assert!(hook("webform", vec![open]).is_ok());
}

#[test]
fn unknown_settings_secrets_and_wrong_types_are_refused() {
    let secret = [("signing_secret", "s")];
    refused("slack", vec![spec("a", &secret, json!({"agent": []}))], "did you mean `agents`?");
    refused("slack", vec![spec("a", &secret, json!({"agents": "U1"}))], "expected a list of texts");
    refused("slack", vec![spec("a", &[("signing_secret", "s"), ("token", "t")], json!({}))], "unknown secret `token`");
    refused("webform", vec![spec("a", &[("form_key", "k")], json!({"thanks_url": "javascript:alert(1)"}))], "absolute http(s) URL");
    refused("generic", vec![spec("a", &[("token", "t")], json!({}))], "`map` or `map_file` is missing");
    let mut undeclared = spec("a", &[("token", "t")], json!({}));
    undeclared.map = Some(("a.toml".to_owned(), "ignored(\"nonsense\")".to_owned()));
    refused("generic", vec![undeclared], "`nonsense`");
}

#[test]
fn channels_share_a_hook_only_with_accounts_and_the_same_secrets() {
    let one = |id: &str, account: Option<&str>, secret: &str| {
        let mut spec = spec(id, &[("app_secret", secret), ("verify_token", "v")], json!({}));
        spec.account = account.map(str::to_owned);
        spec
    };
    refused("whatsapp", vec![one("a", Some("1"), "s"), one("b", None, "s")], "`account` is missing");
    refused("whatsapp", vec![one("a", Some("1"), "s"), one("b", Some("1"), "s")], "has this account too");
    refused("whatsapp", vec![one("a", Some("1"), "s"), one("b", Some("2"), "t")], "the same secrets");
    let telegram = |id: &str| spec(id, &[("secret_token", "s")], json!({}));
    refused("telegram", vec![telegram("a"), telegram("b")], "does not tell accounts apart");
    let shared = hook("whatsapp", vec![one("a", Some("1"), "s"), one("b", Some("2"), "s")]).unwrap();
    let value = |account: &str| {
        json!({"field": "messages", "value": {"metadata": {"display_phone_number": "1", "phone_number_id": account},
        "messages": [{"from": "15550000002", "id": "wamid.1", "timestamp": "1700000000", "type": "text", "text": {"body": "hi"}}]}})
    };
    let body = json!({"entry": [{"changes": [value("2"), value("3"), value("1")]}]}).to_string();
    let all = read(&shared, &Verified::from_store(crate::model::raw::RawHead::default(), Bytes::from(body)), NOW);
    let channels: Vec<&str> = all.items.iter().map(|item| item.channel.public.id.as_str()).collect();
    assert_eq!(channels, ["b", "", "a"]);
    assert!(matches!(&all.items[1].body, ItemBody::Quarantined { code: Code::UnknownAccount, .. }));
    assert_ne!(all.items[0].key, all.items[2].key, "keys belong to the account");
    let notice = json!({"entry": [{"changes": [{"field": "message_template_status_update", "value": {"event": "APPROVED"}}]}]}).to_string();
    let all = read(&shared, &Verified::from_store(crate::model::raw::RawHead::default(), Bytes::from(notice)), NOW);
    assert!(matches!(&all.items[..], [item] if matches!(item.body, ItemBody::Ignored { .. })), "a notice is nobody's, and no trouble");
}

#[test]
fn secrets_are_not_kept_with_the_raw() {
    let telegram = hook("telegram", vec![spec("a", &[("secret_token", "s-1")], json!({}))]).unwrap();
    let headers =
        [("x-telegram-bot-api-secret-token", "s-1"), ("authorization", "Bearer x"), ("cookie", "c"), ("content-type", "application/json")];
    let kept = passed(&telegram, &post("{}", &headers));
    assert_eq!(kept.head().headers, [("content-type".to_owned(), "application/json".to_owned())]);
    let form = hook("webform", vec![spec("a", &[("form_key", "k-1")], json!({}))]).unwrap();
    let mut request = post("message=hi", &[("content-type", "application/x-www-form-urlencoded")]);
    request.target = "/hooks/hook?a=1&key=k-1".to_owned();
    assert_eq!(passed(&form, &request).head().target, "/hooks/hook?a=1");
}

#[test]
fn limits_of_the_guard_hold_at_the_limit_and_one_over() {
    let telegram = hook("telegram", vec![spec("a", &[("secret_token", "s")], json!({}))]).unwrap();
    let token = [("x-telegram-bot-api-secret-token", "s")];
    let limit = telegram.body_bytes_max();
    passed(&telegram, &post(&" ".repeat(limit), &token));
    assert_eq!(code(&telegram, &post(&" ".repeat(limit + 1), &token)), Some(Code::BodyTooLarge));
    let mut many = post("{}", &token);
    many.headers.extend((0..127).map(|number| (format!("x-{number}"), String::new())));
    passed(&telegram, &many);
    many.headers.push(("x".to_owned(), String::new()));
    assert_eq!(code(&telegram, &many), Some(Code::RequestTooLarge));
    assert_eq!(code(&telegram, &post("{}", &[("x-telegram-bot-api-secret-token", "s2")])), Some(Code::Signature));
    assert_eq!(code(&telegram, &post("{}", &[])), Some(Code::Signature));
}

#[test]
fn what_is_authentic_and_unreadable_is_quarantined_not_refused() {
    let telegram = hook("telegram", vec![spec("a", &[("secret_token", "s")], json!({}))]).unwrap();
    for (body, expected) in [("{", Code::Undecodable), (&*"[".repeat(100_000), Code::TooDeep), ("7", Code::MappingFailed)] {
        let verified = passed(&telegram, &post(body, &[("x-telegram-bot-api-secret-token", "s")]));
        let read = read(&telegram, &verified, NOW);
        assert!(matches!(&read.items[0].body, ItemBody::Quarantined { code, .. } if *code == expected), "{:?}", read.items[0].body);
    }
}

#[test]
fn the_same_form_twice_has_one_key_inside_the_window_and_across_its_border() {
    let form = hook("webform", vec![spec("a", &[("form_key", "k")], json!({"repeat_window": "10m"}))]).unwrap();
    let head = crate::model::raw::RawHead {
        headers: vec![("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned())],
        ..Default::default()
    };
    let submit = |body: &str, at: i64| {
        let read = read(&form, &Verified::from_store(head.clone(), Bytes::copy_from_slice(body.as_bytes())), Time(at));
        (read.items[0].key.unwrap(), message(&read).aliases.clone())
    };
    let start = 600_000 * 1000;
    let (first, _) = submit("email=a%40example.org&message=hi", start + 590_000);
    let (same, _) = submit("email=a%40example.org&message=hi", start + 599_000);
    let (later, aliases) = submit("email=a%40example.org&message=hi", start + 600_500);
    let (other, _) = submit("email=a%40example.org&message=ho", start + 590_000);
    let (far, far_aliases) = submit("email=a%40example.org&message=hi", start + 1_800_000);
    assert_eq!(first, same);
    assert!(later != first && aliases.contains(&first), "found across the border");
    assert_ne!(first, other);
    assert!(far != first && !far_aliases.contains(&first));
}

#[test]
fn root_and_reply_of_a_thread_share_a_conversation_whichever_comes_first() {
    let slack = hook("slack", vec![spec("a", &[("signing_secret", "s")], json!({}))]).unwrap();
    let event = |event: Value| {
        let body = json!({"type": "event_callback", "team_id": "T1", "event_id": "Ev1", "event": event}).to_string();
        read(&slack, &Verified::from_store(crate::model::raw::RawHead::default(), Bytes::from(body)), NOW)
    };
    let root = event(json!({"type": "message", "channel": "C1", "user": "U1", "text": "a", "ts": "1.000100"}));
    let reply = event(json!({"type": "message", "channel": "C1", "user": "U2", "text": "b", "ts": "2.000100", "thread_ts": "1.000100"}));
    let other = event(json!({"type": "message", "channel": "C1", "user": "U2", "text": "b", "ts": "3.000100"}));
    assert_eq!(message(&root).threading.registers, message(&reply).threading.registers);
    assert_ne!(message(&root).threading.registers, message(&other).threading.registers);
    assert!(!message(&root).threading.ends_by_silence);
    assert_eq!(message(&reply).in_reply_to.as_ref().unwrap().target, root.items[0].key);
    assert!(root.delivery_key.is_some());
    let edit = event(json!({"type": "message", "subtype": "message_changed", "channel": "C1", "ts": "4.0", "message":
        {"user": "U1", "text": "c", "ts": "1.000100", "edited": {"ts": "4.0"}}}));
    let ItemBody::Edit(item) = &edit.items[0].body else { panic!("no edit") };
    assert_eq!(Some(item.target), root.items[0].key);
    assert_ne!(edit.items[0].key, root.items[0].key, "an edit is never its original's duplicate");
}

#[test]
fn long_text_is_cut_at_a_letter_and_times_are_held_to_ours() {
    let mut own = spec("a", &[("token", "t")], json!({}));
    let map = "{kind: \"message\", key: .id, from: {address: \"shop:1\"}, text, html, sent_at: .at, extra}";
    own.map = Some(("a.toml".to_owned(), map.to_owned()));
    let generic = hook("generic", vec![own]).unwrap();
    let body = json!({"id": 1, "text": "ä".repeat(40_000), "at": 9_999_999_999_999_i64, "extra": {"x": "y".repeat(17_000)}}).to_string();
    let head =
        crate::model::raw::RawHead { headers: vec![("content-type".to_owned(), "application/json".to_owned())], ..Default::default() };
    let long = read(&generic, &Verified::from_store(head.clone(), Bytes::from(body)), NOW);
    let item = message(&long);
    assert_eq!(item.text.as_ref().unwrap().len(), 64 * 1024);
    assert_eq!(item.truncated, ["extra", "text"].map(str::to_owned).iter().rev().cloned().collect::<Vec<_>>());
    assert_eq!(item.sent_at, Some(Time(NOW.0 + 24 * 3_600_000)));
    let html = json!({"id": 2, "html": format!("<b>{}</b><script>x</script>", "a".repeat(70_000))}).to_string();
    let rich = read(&generic, &Verified::from_store(head, Bytes::from(html)), NOW);
    let item = message(&rich);
    assert!(item.html.as_ref().unwrap().ends_with("</b>") && !item.html.as_ref().unwrap().contains("script"));
    assert!(item.text.as_ref().unwrap().starts_with("aaa"));
}

#[test]
fn hostile_html_of_a_webhook_is_read_quickly() {
    let mut own = spec("a", &[("token", "t")], json!({}));
    own.map = Some(("a.toml".to_owned(), "{kind: \"message\", key: 1, from: {address: \"shop:1\"}, html: (.fields // .).html}".to_owned()));
    let generic = hook("generic", vec![own]).unwrap();
    let sent_as = |media_type: &str| crate::model::raw::RawHead {
        headers: vec![("content-type".to_owned(), media_type.to_owned())],
        ..Default::default()
    };
    let begun = std::time::Instant::now();
    for hostile in
        ["&", "&amp;", "<b>", "<font color=1><p>", "<a><p>", "<table><tr><td>", "<b></i><i></b><p>", "<a b=\"", "<script", "<!--"]
    {
        let html = format!("<p>kept</p>{}", hostile.repeat(250 * 1024 / hostile.len()));
        let form = format!("html={}", html.replace('&', "%26").replace('<', "%3C"));
        let bodies = [("application/json", json!({"html": html}).to_string()), ("application/x-www-form-urlencoded", form)];
        for (media_type, body) in bodies {
            let read = read(&generic, &Verified::from_store(sent_as(media_type), Bytes::from(body)), NOW);
            let item = message(&read);
            assert!(item.html.as_ref().is_some_and(|html| html.starts_with("<p>kept</p>") && html.len() <= 64 * 1024), "{hostile}");
            assert!(item.text.as_ref().is_some_and(|text| text.starts_with("kept")), "{hostile}");
        }
    }
    // A debug build on a busy machine takes less than a second for each; the quadratic way took minutes.
    assert!(begun.elapsed().as_secs() < 40, "took {:?}", begun.elapsed());
}

#[test]
fn files_of_a_form_become_blobs_with_stable_names() {
    let form = hook("webform", vec![spec("a", &[("form_key", "k")], json!({}))]).unwrap();
    let body = "--B\r\nContent-Disposition: form-data; name=\"message\"\r\n\r\nhi\r\n--B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"../a.txt\"\r\nContent-Type: text/plain\r\n\r\ncontent\r\n--B--\r\n";
    let head = crate::model::raw::RawHead {
        headers: vec![("content-type".to_owned(), "multipart/form-data; boundary=B".to_owned())],
        ..Default::default()
    };
    let verified = Verified::from_store(head, Bytes::from_static(body.as_bytes()));
    let (one, again) = (read(&form, &verified, NOW), read(&form, &verified, NOW));
    let file = &message(&one).attachments[0];
    assert_eq!((file.public.name.as_deref(), file.public.state, file.public.bytes), (Some("a.txt"), AttachmentState::Stored, Some(7)));
    let Some(FilePlace::Blob { key }) = &file.place else { panic!("no place") };
    assert_eq!(one.blobs, [(key.clone(), Bytes::from_static(b"content"))]);
    assert!(key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_/-.".contains(&byte)));
    assert_eq!(one.blobs, again.blobs);
    assert_eq!(message(&one).attachments, message(&again).attachments);
}

#[test]
fn overload_says_when_to_come_again() {
    let form = hook("webform", vec![spec("a", &[("form_key", "k")], json!({"thanks_url": "https://www.example.org/t"}))]).unwrap();
    let head = crate::model::raw::RawHead { headers: vec![("accept".to_owned(), "text/html".to_owned())], ..Default::default() };
    let verified = Verified::from_store(head, Bytes::new());
    let answer = form.answer(&verified, Outcome::Overload { retry_after: 7 });
    assert_eq!((answer.status, answer.headers.last().unwrap()), (503, &("retry-after".to_owned(), "7".to_owned())));
    assert_eq!(form.answer(&verified, Outcome::Ignored).status, 303, "a robot learns nothing from the answer");
}

#[test]
fn a_token_in_a_body_is_not_kept_and_the_body_still_reads() {
    let token = "kkkkkkkkkkkkkkkkkkkkkkkkkk";
    let chat = hook("mattermost", vec![spec("a", &[("token", token)], json!({}))]).unwrap();
    let json = format!(
        "{{\"token\":\"{token}\",\"team_id\":\"t\",\"channel_id\":\"c\",\"channel_name\":\"support\",\"timestamp\":1700000000000,\
         \"user_id\":\"u\",\"user_name\":\"ana\",\"post_id\":\"p\",\"text\":\"Where is my order?\"}}"
    );
    let form = format!("token={token}&channel_id=c&user_id=u&user_name=ana&post_id=p&timestamp=1700000000000&text=Where+is+my+order%3F");
    for (kind, body) in [("application/json", json), ("application/x-www-form-urlencoded", form)] {
        let kept = passed(&chat, &post(&body, &[("content-type", kind)]));
        assert!(!String::from_utf8_lossy(kept.body()).contains(token) && kept.body().len() == body.len(), "{kind}");
        let again = Verified::from_store(kept.head().clone(), kept.body().clone());
        let (first, second) = (read(&chat, &kept, NOW), read(&chat, &again, NOW));
        assert_eq!(message(&first).text.as_deref(), Some("Where is my order?"), "{kind}");
        assert_eq!(format!("{:?}", first.items), format!("{:?}", second.items));
    }
}

#[test]
fn a_request_that_can_be_only_once_has_one_delivery_key_whatever_its_body() {
    let mac = Algorithm::Sha256.mac(b"key", b"1700000000token-1");
    let signed = |more: &str| format!("timestamp=1700000000&token=token-1&signature={}&{more}", crate::connector::text::hex(&mac));
    let mailgun = hook("mailgun", vec![spec("a", &[("signing_key", "key")], json!({}))]).unwrap();
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    let key = |more: &str| read(&mailgun, &passed(&mailgun, &post(&signed(more), &kind)), NOW).delivery_key;
    let first = key("recipient=help%40example.org&sender=a%40example.org&from=a%40example.org&subject=x&body-plain=hi");
    assert!(first.is_some());
    assert_eq!(first, key("recipient=help%40example.org&sender=evil%40example.org&from=evil%40example.org&subject=y&body-plain=ho"));
    assert_eq!(first, key("nothing=1"), "unreadable ones too");
}

#[test]
fn a_get_without_a_body_is_not_read_as_json() {
    let mut own = spec("a", &[("token", "t")], json!({}));
    let map = "{kind: \"message\", key: $query.id, from: {address: \"shop:1\"}, text: ($query.text // .text)}";
    own.map = Some(("a.toml".to_owned(), map.to_owned()));
    let generic = hook("generic", vec![own]).unwrap();
    let head = crate::model::raw::RawHead { method: "GET".to_owned(), target: "/hooks/hook?id=7&text=hi".to_owned(), ..Default::default() };
    let read = read(&generic, &Verified::from_store(head, Bytes::new()), NOW);
    assert_eq!(message(&read).text.as_deref(), Some("hi"));
}

#[test]
fn an_answer_says_what_the_channel_file_says() {
    let kakao = hook("kakao", vec![spec("a", &[("skill_key", "k")], json!({"answer": "\"Danke\""}))]).unwrap();
    let verified = Verified::from_store(crate::model::raw::RawHead::default(), Bytes::new());
    let answer: Value = serde_json::from_slice(&kakao.answer(&verified, Outcome::Accepted).body).unwrap();
    assert_eq!(answer["template"]["outputs"][0]["simpleText"]["text"], "\"Danke\"");
}
