//! What comes back from ticket systems by a signed hook, against a strict fake: Zendesk.

use std::time::Duration;

use base64::Engine;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::daemon::{Daemon, Setup};
use crate::support::desk_fakes::Fake;
use crate::support::desk_fakes::zen::Zendesk;
use crate::support::http1::{self, Message};
use crate::support::ticketing::post_whatsapp;

const SECRET: &str = "zendesk-signing-secret-for-tests";

fn setup(fake: &Fake, more: &str) -> Setup {
    let mut setup = Setup::default();
    setup.with_whatsapp();
    setup.rest = format!(
        "[destination.desk]\nkind = \"ticket\"\nsystem = \"zendesk\"\nback = [\"webhook\"]\nattachments = \"none\"\n\
         settings = {{ url = \"{}\", email = \"gateway@example.org\" }}\n\
         secrets = {{ api_token = {{ env = \"DESK_SECRET\" }}, signing_secret = {{ env = \"HOOK_SECRET\" }} }}\n{more}\n\
         [[route]]\nto = [\"desk\"]\ndirection = \"any\"\n",
        fake.url()
    );
    setup.env.insert("DESK_SECRET".into(), "zt-secret-71".into());
    setup.env.insert("HOOK_SECRET".into(), SECRET.into());
    setup
}

async fn hook(daemon: &Daemon, secret: &str, event: &Value) -> Message {
    let (body, at) = (event.to_string(), jiff::Timestamp::now().to_string());
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(at.as_bytes());
    mac.update(body.as_bytes());
    let signature = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    let headers = [
        ("content-type", "application/json"),
        ("x-zendesk-webhook-signature-timestamp", at.as_str()),
        ("x-zendesk-webhook-signature", signature.as_str()),
    ];
    http1::once(daemon.public, "POST", "/hooks/desk", &headers, body.as_bytes()).await.unwrap()
}

fn comment(id: &str, ticket: &Value, public: bool, staff: bool) -> Value {
    json!({"type": "zen:event-type:ticket.comment_added", "id": format!("event-{id}"), "time": "2026-11-22T09:05:00Z",
        "detail": {"id": ticket, "status": "OPEN", "external_id": null},
        "event": {"comment": {"id": id, "body": format!("words {id}"), "is_public": public, "author": {"id": "7", "is_staff": staff, "name": "Marc"}}}})
}

fn status(id: &str, ticket: &Value, now: &str) -> Value {
    json!({"type": "zen:event-type:ticket.status_changed", "id": id, "time": "2026-11-22T09:30:00Z",
        "detail": {"id": ticket, "external_id": null}, "event": {"current": now, "previous": "OPEN"}})
}

#[tokio::test]
async fn a_signed_hook_brings_agents_comments_and_states_and_a_forged_one_nothing() {
    let fake = Fake::start(&Zendesk).await;
    let daemon = Daemon::start(setup(&fake, "")).await;
    post_whatsapp(&daemon, 1, "w1", "one").await;
    daemon.settled(Duration::from_secs(30)).await;
    let ticket = daemon.get("/v1/tickets").await["items"][0]["ticket"].clone();
    assert_eq!(hook(&daemon, "another secret", &comment("91", &ticket, true, true)).await.status(), 401);
    for event in [
        comment("91", &ticket, true, true),
        // Repeated, told by another event, or not for the customer.
        comment("91", &ticket, true, true),
        comment("92", &ticket, false, true),
        comment("93", &ticket, true, false),
        comment("94", &json!("999999"), true, true),
        status("s1", &ticket, "SOLVED"),
        status("s2", &ticket, "SOLVED"),
    ] {
        assert_eq!(hook(&daemon, SECRET, &event).await.status(), 200);
    }
    let scrape = daemon.settled(Duration::from_secs(30)).await;
    assert_eq!(scrape.sum("omnigate_items", &[("channel", "desk"), ("fate", "published")]), 2);
    assert_eq!(scrape.sum("omnigate_items", &[("channel", "desk"), ("fate", "duplicate")]), 1);
    assert_eq!(scrape.sum("omnigate_items", &[("channel", "desk"), ("fate", "ignored")]), 4);
    assert_eq!(scrape.sum("omnigate_first_response_seconds_count", &[("channel", "shop")]), 1);
    let events = daemon.get("/v1/events?limit=100").await;
    let outbound: Vec<&Value> =
        events["events"].as_array().unwrap().iter().filter(|one| one["data"]["message"]["direction"] == "outbound").collect();
    assert_eq!(outbound.len(), 1);
    assert_eq!(outbound[0]["data"]["message"]["text"], "words 91");
    assert_eq!(outbound[0]["data"]["message"]["ticket"], json!({"destination": "desk", "system": "zendesk", "ticket": ticket}));
    assert_eq!(fake.room.lock().unwrap().tickets[0].entries.len(), 1, "nothing of it goes back into the ticket");
    // The solved ticket ended its conversation.
    post_whatsapp(&daemon, 1, "w2", "two").await;
    daemon.settled(Duration::from_secs(30)).await;
    let rows = daemon.get("/v1/tickets").await;
    assert_eq!(rows["items"].as_array().unwrap().len(), 2);
    assert_ne!(rows["items"][0]["conversation"], rows["items"][1]["conversation"]);
}
