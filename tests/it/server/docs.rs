//! Generated and hand-written references agree with the code.

use std::fmt::Write;

use omnigate::model::codes::Code;
use omnigate::model::event::EVENT_TYPES;
use omnigate::server::api::openapi;
use omnigate::telemetry::names::{COUNTS_BUCKETS, Metric, SECONDS_BUCKETS};
use serde_json::Value;

use crate::support::contract::{assert_committed, read};

#[test]
fn the_committed_openapi_document_is_what_the_code_says() {
    assert_committed("docs/openapi.json", &(serde_json::to_string_pretty(&openapi::compose()).unwrap() + "\n"));
}

/// Every reference resolves, every schema is valid 2020-12.
#[test]
fn the_openapi_document_holds_together() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = openapi::compose();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        assert!(document.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference} leads nowhere");
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(jsonschema::meta::is_valid(schema), "{name}");
    }
}

#[test]
fn the_metrics_reference_is_what_the_code_says() {
    let list = |bounds: &[f64]| bounds.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut text = String::from(
        "# Metrics\n\n\
         `GET /metrics` on the private listener, Prometheus text format 0.0.4. Written from `src/telemetry/names.rs`; a test holds both together.\n\n\
         Labels are names from the configuration or words of closed sets, never anything a stranger can choose. *Stored* metrics come from the\n\
         store in one snapshot: they go on across restarts, and in every scrape, for every channel and every destination,\n\n\
         - `omnigate_items_received_total` = the sum of `omnigate_items` over its fates,\n\
         - `omnigate_deliveries_due_total` = the sum of `omnigate_deliveries` over its states.\n\n\
         When the store cannot be read they are left out of the scrape rather than shown with old values.\n\n\
         | metric | type | labels | stored | |\n|---|---|---|---|---|\n",
    );
    for metric in Metric::ALL {
        let labels = metric.labels().iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let stored = if metric.kind().stored() { "yes" } else { "" };
        writeln!(text, "| `{}` | {} | {labels} | {stored} | {} |", metric.name(), metric.kind().word(), metric.help()).unwrap();
    }
    writeln!(text, "\nBuckets of durations, seconds: {}.\n\nBuckets of counts: {}.", list(SECONDS_BUCKETS), list(COUNTS_BUCKETS)).unwrap();
    text.push_str(
        "\n## What to watch\n\n\
         - `omnigate_ready == 0` for a minute: no messages are taken; `/readyz` says why.\n\
         - `sum by (destination) (omnigate_deliveries{state=\"dead\"}) > 0`: a person is needed, `omnigate dead list`.\n\
         - `omnigate_destination_mode{mode=\"halted\"} == 1`: a destination answered 410, `omnigate destination resume` or `drop`.\n\
         - `increase(omnigate_items{fate=\"quarantined\"}[1h]) > 0`: a payload could not be read, `omnigate quarantine list`.\n\
         - `omnigate_channel_state{state=~\"failed|degraded\"} == 1`: a channel needs a look, `omnigate channel list`.\n\
         - `omnigate_deliveries{state=\"waiting\"}` that grows for an hour: a destination is slower than its channels.\n\
         - `omnigate_store_free_bytes` near `[store] free_min`: admissions are about to stop.\n",
    );
    assert_committed("docs/metrics.md", &text);
}

#[test]
fn every_code_has_its_paragraph_and_every_paragraph_its_code() {
    let text = read("docs/errors.md");
    let headings: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("### ")).map(|line| line.trim_matches('`')).collect();
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(headings, codes, "docs/errors.md has one paragraph a code, in the order of model/codes.rs");
    for part in text.split("\n### ").skip(1) {
        let words = part.split("\n## ").next().unwrap().split_whitespace().count();
        assert!(words >= 12, "too short to help: {part}");
    }
}

#[test]
fn every_event_type_and_field_is_documented() {
    let text = read("docs/events.md");
    for kind in EVENT_TYPES {
        assert!(text.contains(&format!("### `{kind}`")), "docs/events.md says nothing of {kind}");
    }
    let schema: Value = serde_json::from_str(&read("docs/schema/event-v1.json")).unwrap();
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        for field in definition["properties"].as_object().into_iter().flatten().map(|(field, _)| field) {
            assert!(text.contains(&format!("`{field}`")), "docs/events.md says nothing of {name}.{field}");
        }
    }
}

/// The code that we tell receivers to write does what it says, on the specification's own vector.
#[test]
fn the_python_of_the_documentation_verifies() {
    let text = read("docs/events.md");
    let code = text.split("```python\n").find(|part| part.contains("def verify(")).unwrap().split("```").next().unwrap();
    let program = format!(
        "{code}\n\
         time.time = lambda: 1649367553 + 10\n\
         headers = {{'webhook-id': 'msg_27UH4WbU6Z5A5EzD8u03UvzRbpk', 'webhook-timestamp': '1649367553',\n\
         \t'webhook-signature': 'v1,AAAA v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw='}}\n\
         secret, body = 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD', b'{{\"email\":\"test@example.com\",\"username\":\"test_user\"}}'\n\
         assert verify(secret, headers, body) and not verify(secret, headers, body + b' ')\n\
         time.time = lambda: 1649367553 + 301\n\
         assert not verify(secret, headers, body)\n"
    );
    let Ok(ran) = std::process::Command::new("python3").arg("-c").arg(program).output() else {
        return crate::support::servers::missing("python3");
    };
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}
