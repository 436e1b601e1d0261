//! What was said, as the platforms' lists tell it: from new to old, in pages of three.

use serde_json::{Value, json};

use crate::support::platform::query;

const PAGE: usize = 3;

/// Slack's Web API.
pub fn slack(said: &[Value], target: &str) -> Value {
    if target.starts_with("/auth.test") {
        return json!({"ok": true, "user_id": "UBOT", "bot_id": "BBOT", "team_id": "T0001"});
    }
    if target.starts_with("/users.conversations") {
        return json!({"ok": true, "channels": [{"id": "C0001"}, {"id": "C0002"}, {"id": "D0001"}]});
    }
    if !target.starts_with("/conversations.history") {
        return json!({"ok": false, "error": "unknown_method"});
    }
    let channel = query(target, "channel").unwrap_or_default();
    let (oldest, before) = (query(target, "oldest").unwrap_or_default(), query(target, "cursor"));
    let ts = |event: &Value| event["ts"].as_str().unwrap().to_owned();
    let place = |ts: &str| {
        let (seconds, part) = ts.split_once('.').unwrap_or((ts, ""));
        (seconds.parse::<u64>().unwrap_or(0), part.to_owned())
    };
    let wanted = said.iter().rev().map(|frame| frame["payload"]["event"].clone()).filter(|event| {
        let at = place(&ts(event));
        event["channel"] == *channel && at > place(&oldest) && before.as_deref().is_none_or(|before| at < place(before))
    });
    let mut page: Vec<Value> = wanted.take(PAGE + 1).collect();
    let more = page.len() > PAGE;
    page.truncate(PAGE);
    let next = page.last().map(ts).filter(|_| more);
    // A history says neither channel nor kind.
    for event in &mut page {
        let event = event.as_object_mut().unwrap();
        event.remove("channel");
        event.remove("channel_type");
    }
    json!({"ok": true, "messages": page, "has_more": more, "response_metadata": {"next_cursor": next}})
}

/// Discord's REST API.
pub fn discord(said: &[Value], target: &str) -> Value {
    if target.starts_with("/guilds/1/channels") {
        return json!([{"id": "1100", "type": 0}, {"id": "1300", "type": 4}]);
    }
    if !target.starts_with("/channels/1100/messages") {
        return json!({"message": "404: Not Found", "code": 0});
    }
    let before = query(target, "before").and_then(|id| id.parse().ok()).unwrap_or(u64::MAX);
    let id = |message: &Value| message["id"].as_str().unwrap().parse::<u64>().unwrap();
    let wanted = said.iter().rev().map(|frame| frame["d"].clone()).filter(|message| id(message) < before);
    let mut page: Vec<Value> = wanted.take(PAGE).collect();
    // A list does not say which server its channel belongs to.
    page.iter_mut().for_each(|message| drop(message.as_object_mut().unwrap().remove("guild_id")));
    Value::Array(page)
}
