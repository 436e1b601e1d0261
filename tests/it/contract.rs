//! The contract of events: golden files, types and the committed JSON Schema say the same.

use omnigate::model::event::{EVENT_TYPES, Event};
use omnigate::model::schema::event_schema;
use serde_json::{Value, json};

use crate::support::contract::{assert_committed, assert_valid, goldens, problems};

#[test]
fn every_event_type_has_a_golden_file() {
    let goldens = goldens();
    for kind in EVENT_TYPES {
        assert!(goldens.iter().any(|(_, event)| event["type"] == kind), "no golden file for {kind}");
    }
    for (path, event) in goldens {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with(event["type"].as_str().unwrap()), "{name} holds a {}", event["type"]);
    }
}

#[test]
fn golden_events_survive_the_types_unchanged() {
    for (path, golden) in goldens() {
        let event: Event = serde_json::from_value(golden.clone()).unwrap_or_else(|problem| panic!("{}: {problem}", path.display()));
        assert_eq!(serde_json::to_value(&event).unwrap(), golden, "{}", path.display());
    }
}

#[test]
fn the_committed_schema_is_what_the_types_say() {
    let text = serde_json::to_string_pretty(&event_schema()).unwrap() + "\n";
    assert_committed("docs/schema/event-v1.json", &text);
}

#[test]
fn the_schema_itself_is_valid_2020_12() {
    assert!(jsonschema::meta::is_valid(&event_schema()));
}

#[test]
fn golden_events_are_valid_by_the_committed_schema() {
    for (path, golden) in goldens() {
        assert_eq!(problems(&golden), Vec::<String>::new(), "{}", path.display());
    }
}

#[test]
fn fields_may_be_added() {
    for (_, mut golden) in goldens() {
        golden["data"]["new_field"] = json!({"a": 1});
        golden["new_field"] = json!(1);
        assert_valid(&golden);
    }
}

/// A validator that says yes to everything would pass the tests above.
#[test]
fn the_schema_refuses_what_is_no_event() {
    let good = goldens().into_iter().find(|(path, _)| path.ends_with("message.created.json")).unwrap().1;
    let spoilt: [(&str, fn(&mut Value)); 9] = [
        ("unknown type", |event| event["type"] = json!("message.forgotten")),
        ("data of another type", |event| event["type"] = json!("contact.merged")),
        ("id of another kind", |event| event["id"] = json!("msg_01M818HCZG1178B9HFVJ35W5B5")),
        ("timestamp without milliseconds", |event| event["timestamp"] = json!("2026-11-22T09:14:03Z")),
        ("no sequence", |event| drop(event["data"].as_object_mut().unwrap().remove("sequence"))),
        ("no subject, not even null", |event| drop(event["data"]["message"].as_object_mut().unwrap().remove("subject"))),
        ("direction of a third kind", |event| event["data"]["message"]["direction"] = json!("sideways")),
        ("platform id as a number", |event| event["data"]["message"]["external_id"] = json!(4711)),
        ("negative sequence", |event| event["data"]["sequence"] = json!(-1)),
    ];
    for (what, spoil) in spoilt {
        let mut event = good.clone();
        spoil(&mut event);
        assert!(!problems(&event).is_empty(), "{what} was taken");
    }
}
