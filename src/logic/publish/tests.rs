//! Who gets an event, with which tags and URLs.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Mutex;

use serde_json::{Value, json};

use super::*;
use crate::model::event::{Attachment, DeliveryDead, MessageCreated};
use crate::model::id::{AttachmentId, EventId};
use crate::model::ticket::TicketSource;

#[derive(Default)]
struct Failed(Mutex<Vec<(usize, String)>>);

impl RouteFailures for Failed {
    fn failed(&self, route: usize, detail: &str) {
        self.0.lock().unwrap().push((route, detail.to_owned()));
    }
}

struct When(fn(&Value) -> Result<bool, String>);

impl Condition for When {
    fn truthy(&self, input: &[u8]) -> Result<bool, String> {
        (self.0)(&serde_json::from_slice(input).unwrap())
    }
}

fn route(to: &[&str]) -> Route {
    Route {
        when: None,
        to: to.iter().map(|name| (*name).into()).collect(),
        tags: Vec::new(),
        direction: RouteDirection::Inbound,
        historic: false,
        operator: false,
    }
}

fn when(to: &[&str], condition: fn(&Value) -> Result<bool, String>) -> Route {
    Route { when: Some(Arc::new(When(condition))), ..route(to) }
}

fn tagged(route: Route, tags: &[&str]) -> Route {
    Route { tags: tags.iter().map(|tag| (*tag).to_owned()).collect(), ..route }
}

fn golden(name: &str) -> Event {
    let path = format!("{}/tests/golden/events/v1/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn created(change: impl FnOnce(&mut MessageCreated)) -> Event {
    let mut event = golden("message.created");
    let Body::MessageCreated(created) = &mut event.body else { panic!("not a message") };
    created.tags.clear();
    change(created);
    event
}

fn freeze(routes: Vec<Route>, event: Event) -> (Vec<String>, Value) {
    let frozen = Routes::new(routes, None, Arc::new(Failed::default())).freeze(event);
    (frozen.destinations.iter().map(|name| name.to_string()).collect(), serde_json::from_slice(&frozen.bytes).unwrap())
}

#[test]
fn all_routes_are_evaluated_destinations_and_tags_are_united_without_repeats() {
    let routes = vec![
        tagged(route(&["crm", "log"]), &["all", "vip"]),
        tagged(when(&["desk", "crm"], |input| Ok(input["message"]["kind"] == json!("text"))), &["vip", "chat"]),
        tagged(when(&["never"], |_| Ok(false)), &["never"]),
    ];
    let (destinations, event) = freeze(routes, created(|_| {}));
    assert_eq!(destinations, ["crm", "log", "desk"]);
    assert_eq!(event["data"]["tags"], json!(["all", "vip", "chat"]));
}

#[test]
fn filters_see_data_and_type() {
    let check: fn(&Value) -> Result<bool, String> = |input| {
        Ok(input["type"] == json!("message.created")
            && input["channel"]["connector"] == json!("whatsapp")
            && input["conversation"]["id"].is_string()
            && input["contact"]["name"] == json!("Ana")
            && input["sequence"] == json!(17))
    };
    assert_eq!(freeze(vec![when(&["crm"], check)], created(|_| {})).0, ["crm"]);
}

#[test]
fn a_filter_that_fails_routes_the_event_and_is_reported() {
    let failed = Arc::new(Failed::default());
    let routes = vec![route(&["log"]), when(&["crm"], |_| Err("cannot iterate over null".into()))];
    let frozen = Routes::new(routes, None, failed.clone()).freeze(created(|_| {}));
    assert_eq!(frozen.destinations.len(), 2);
    assert_eq!(*failed.0.lock().unwrap(), [(1, "cannot iterate over null".to_owned())]);
}

#[test]
fn direction_and_history_are_what_the_route_says() {
    let outbound = |created: &mut MessageCreated| created.message.direction = Direction::Outbound;
    let historic = |created: &mut MessageCreated| created.message.historic = true;
    let directed = |direction| vec![Route { direction, ..route(&["crm"]) }];
    let takes = |routes: Vec<Route>, event| !freeze(routes, event).0.is_empty();
    for (direction, inbound_taken, outbound_taken) in
        [(RouteDirection::Inbound, true, false), (RouteDirection::Outbound, false, true), (RouteDirection::Any, true, true)]
    {
        assert_eq!(takes(directed(direction), created(|_| {})), inbound_taken);
        assert_eq!(takes(directed(direction), created(outbound)), outbound_taken);
    }
    assert!(!takes(vec![route(&["crm"])], created(historic)));
    assert!(takes(vec![Route { historic: true, ..route(&["crm"]) }], created(historic)));
    assert!(takes(vec![Route { historic: true, ..route(&["crm"]) }], created(|_| {})));
    let mut learnt = golden("message.updated");
    let Body::MessageUpdated(updated) = &mut learnt.body else { panic!("not an update") };
    updated.historic = true;
    assert!(!takes(vec![route(&["crm"])], learnt.clone()), "who was not told of the message is not told what was learnt of it");
    assert!(takes(vec![Route { historic: true, ..route(&["crm"]) }], learnt));
}

#[test]
fn what_is_learnt_of_an_agents_message_goes_where_the_message_went() {
    let event = |ticket: bool| {
        let mut event = golden("message.updated");
        let Body::MessageUpdated(updated) = &mut event.body else { panic!("not an update") };
        let source = TicketSource { destination: "desk".into(), system: "rt".into(), ticket: "42".into() };
        updated.ticket = ticket.then_some(source);
        event
    };
    let routes = |direction| vec![Route { direction, ..route(&["desk", "crm"]) }];
    assert_eq!(freeze(routes(RouteDirection::Any), event(false)).0, ["desk", "crm"]);
    assert_eq!(freeze(routes(RouteDirection::Any), event(true)).0, ["crm"], "never back into its ticket");
    assert_eq!(freeze(routes(RouteDirection::Outbound), event(true)).0, ["crm"]);
    assert_eq!(freeze(routes(RouteDirection::Inbound), event(true)).0, Vec::<String>::new());
}

#[test]
fn operator_events_go_to_operator_routes_alone_and_nothing_else_does() {
    let routes = || vec![route(&["crm"]), Route { operator: true, ..route(&["ops"]) }];
    assert_eq!(freeze(routes(), created(|_| {})).0, ["crm"]);
    for name in ["channel.degraded", "channel.recovered", "delivery.dead", "destination.paused", "destination.resumed"] {
        assert_eq!(freeze(routes(), golden(name)).0, ["ops"], "{name}");
    }
    for name in ["message.updated", "message.edited", "message.deleted", "reaction.added", "contact.updated", "ticket.linked"] {
        assert_eq!(freeze(routes(), golden(name)).0, ["crm"], "{name}");
    }
}

#[test]
fn a_dead_operator_event_is_not_reported_to_the_destination_that_did_not_take_it() {
    let routes = vec![Route { operator: true, ..route(&["ops", "log"]) }];
    let mut event = golden("delivery.dead");
    let Body::DeliveryDead(dead) = &mut event.body else { panic!("not a dead letter") };
    **dead = DeliveryDead { destination: "ops".into(), event_type: "channel.degraded".into(), ..(**dead).clone() };
    assert_eq!(freeze(routes, event).0, ["log"]);
}

#[test]
fn stored_files_get_signed_urls_and_others_none() {
    let file = |number: u128, state| Attachment {
        id: AttachmentId(number),
        name: None,
        media_type: "image/png".into(),
        bytes: Some(1),
        sha256: None,
        inline: false,
        content_id: None,
        state,
        reason: None,
        url: Some("https://evil.example.org".into()),
        content: None,
    };
    let event =
        || created(|created| created.message.attachments = vec![file(1, AttachmentState::Stored), file(2, AttachmentState::Pending)]);
    let files = FileUrls::new("https://gw.example.org", 60_000, &[1; 32]);
    let frozen = Routes::new(Vec::new(), Some(files.clone()), Arc::new(Failed::default())).freeze(event());
    let value: Value = serde_json::from_slice(&frozen.bytes).unwrap();
    let list = &value["data"]["message"]["attachments"];
    assert_eq!(list[0]["url"], json!(files.url(AttachmentId(1), event().timestamp)));
    assert_eq!(list[1]["url"], Value::Null);
    assert_eq!(freeze(Vec::new(), event()).1["data"]["message"]["attachments"][0]["url"], Value::Null);
}

#[test]
fn the_frozen_bytes_are_the_event() {
    let mut event = golden("message.created");
    let routes = Routes::new(vec![tagged(route(&["crm"]), &["vip"])], None, Arc::new(Failed::default()));
    let frozen = routes.freeze(event.clone());
    if let Body::MessageCreated(created) = &mut event.body {
        created.tags = vec!["vip".into()];
    }
    assert_eq!(serde_json::from_slice::<Event>(&frozen.bytes).unwrap(), event);
}

#[test]
fn routes_are_exchanged_while_events_are_published() {
    let one = |name: &str| Routes::new(vec![route(&[name])], None, Arc::new(Failed::default()));
    let swap = SwapRoutes::new(one("old"));
    swap.replace(one("new"));
    let mut event = created(|_| {});
    event.id = EventId(1);
    assert_eq!(swap.freeze(event).destinations, ["new".into()]);
}
