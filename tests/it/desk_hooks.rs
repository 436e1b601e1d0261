//! What comes back from ticket systems by signed hooks, against strict fakes: Zammad, Jira Service Management, HubSpot, Chatwoot, GitHub
//! issues, Help Scout. What a poll brings, too, is one message.

use std::time::Duration;

use base64::Engine;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::Sha256;

use crate::desk_polls::{setup, texts};
use crate::support::daemon::Daemon;
use crate::support::desk_fakes::told::{Hand, State, iso, iso_offset};
use crate::support::desk_fakes::{Entry, Fake, System, Ticket, chats, crm, issues, suites};
use crate::support::http1;
use crate::support::ticketing::{agents_said, post_whatsapp, until};

const SECRET: &str = "a-secret-of-the-hook-for-tests";

/// How a system posts what happened.
struct Hook {
    system: &'static dyn System,
    /// Name of the secret.
    secret: &'static str,
    headers: fn(&str, &str) -> Vec<(&'static str, String)>,
    /// `None`: it posts no entries.
    entry: Option<fn(&Ticket, &Entry) -> Value>,
    state: fn(&Ticket) -> Value,
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha1(secret: &str, text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn sha256(secret: &str, text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn zammad() -> Hook {
    fn ticket(ticket: &Ticket) -> Value {
        let state = ticket.pick(["open", "pending reminder", "closed", "closed"]);
        json!({"id": ticket.id, "title": ticket.subject, "state": state, "last_close_at": ticket.is_done().then(|| iso(ticket.state_ms)), "updated_at": iso(ticket.updated_ms)})
    }
    Hook {
        system: &suites::Zammad,
        secret: "hook_token",
        headers: |secret, body| {
            vec![("x-hub-signature", format!("sha1={}", hex(sha1(secret, body)))), ("x-zammad-trigger", "Gateway".into())]
        },
        entry: Some(|of, entry| {
            let by = json!({"id": 3, "firstname": "Marc", "lastname": "Agent"});
            let internal = !(entry.customer || entry.public);
            let sender = json!({"id": 1, "name": if entry.customer { "Customer" } else { "Agent" }});
            json!({"ticket": ticket(of), "article": {"id": entry.id, "ticket_id": of.id, "internal": internal, "sender": sender, "type": {"name": "web"},
                "content_type": "text/html", "body": entry.text, "message_id": null, "from": "Marc Agent", "created_by_id": 3, "created_by": by, "created_at": iso(entry.at_ms)}})
        }),
        state: |of| json!({"ticket": ticket(of), "article": {}}),
    }
}

fn jira() -> Hook {
    Hook {
        system: &issues::JiraDesk,
        secret: "hook_secret",
        headers: |secret, body| vec![("x-hub-signature", format!("sha256={}", hex(sha256(secret, body))))],
        entry: Some(|ticket, entry| {
            let (account, kind) = if entry.hand == Hand::Customer { ("qm:ana", "customer") } else { ("acc-marc", "atlassian") };
            let author = json!({"accountId": account, "accountType": kind, "displayName": "Marc Agent"});
            json!({"timestamp": entry.at_ms, "webhookEvent": "comment_created", "issue": {"key": format!("SUP-{}", ticket.id)},
                "comment": {"id": entry.id.to_string(), "body": entry.text, "author": author, "jsdPublic": entry.customer || entry.public, "created": iso_offset(entry.at_ms)}})
        }),
        state: |ticket| {
            let status = json!({"name": "Closed", "statusCategory": {"key": "done"}});
            json!({"timestamp": ticket.state_ms, "webhookEvent": "jira:issue_updated", "changelog": {"id": "77", "items": [{"field": "status", "toString": "Closed"}]},
                "issue": {"key": format!("SUP-{}", ticket.id), "fields": {"status": status}}})
        },
    }
}

fn hubspot() -> Hook {
    Hook {
        system: &crm::HubSpot,
        secret: "client_secret",
        headers: |secret, body| {
            let at = jiff::Timestamp::now().as_millisecond().to_string();
            let signed = format!("POSThttps://gateway.example.org/hooks/desk{body}{at}");
            let signature = base64::engine::general_purpose::STANDARD.encode(sha256(secret, &signed));
            vec![("x-hubspot-signature-v3", signature), ("x-hubspot-request-timestamp", at)]
        },
        entry: None,
        state: |ticket| {
            let other = json!({"eventId": 1, "subscriptionType": "ticket.propertyChange", "propertyName": "subject", "propertyValue": "x", "objectId": ticket.id, "occurredAt": ticket.state_ms});
            let stage = json!({"eventId": 2, "subscriptionType": "ticket.propertyChange", "propertyName": "hs_pipeline_stage", "propertyValue": ticket.pick(["1", "2", "4", "4"]), "objectId": ticket.id, "occurredAt": ticket.state_ms});
            json!([other, stage])
        },
    }
}

fn chatwoot() -> Hook {
    Hook {
        system: &chats::Chatwoot,
        secret: "hook_secret",
        headers: |secret, body| {
            let at = jiff::Timestamp::now().as_second().to_string();
            let signature = hex(sha256(secret, &format!("{at}.{body}")));
            vec![
                ("x-chatwoot-signature", format!("sha256={signature}")),
                ("x-chatwoot-timestamp", at),
                ("x-chatwoot-delivery", "d1".into()),
            ]
        },
        entry: Some(|ticket, entry| {
            let private = !(entry.customer || entry.public);
            json!({"event": "message_created", "id": entry.id, "content": entry.text, "message_type": if entry.customer { "incoming" } else { "outgoing" },
                "private": private, "source_id": null, "sender": {"id": 9, "name": "Marc Agent", "type": "user"}, "created_at": iso(entry.at_ms),
                "conversation": {"id": ticket.id, "status": "open"}})
        }),
        state: |ticket| {
            let status = ticket.pick(["open", "pending", "resolved", "resolved"]);
            json!({"event": "conversation_status_changed", "id": ticket.id, "status": status, "updated_at": ticket.state_ms as f64 / 1000.0})
        },
    }
}

fn github() -> Hook {
    Hook {
        system: &issues::GitHub,
        secret: "hook_secret",
        headers: |secret, body| {
            vec![("x-hub-signature-256", format!("sha256={}", hex(sha256(secret, body)))), ("x-github-delivery", "d1".into())]
        },
        entry: Some(
            |ticket, entry| json!({"action": "created", "issue": issues::hub_issue(ticket), "comment": issues::hub_comment(ticket, entry)}),
        ),
        state: |ticket| json!({"action": "closed", "issue": issues::hub_issue(ticket)}),
    }
}

fn helpscout() -> Hook {
    Hook {
        system: &chats::HelpScout,
        secret: "hook_secret",
        headers: |secret, body| {
            let signature = base64::engine::general_purpose::STANDARD.encode(sha1(secret, body));
            vec![("x-helpscout-signature", signature), ("x-helpscout-event", "convo.agent.reply.created".into())]
        },
        entry: Some(|ticket, entry| {
            let mut conversation = chats::scout_conversation(ticket).unwrap();
            conversation["_embedded"] = json!({"threads": [chats::scout_thread(ticket, entry)]});
            conversation
        }),
        state: |ticket| chats::scout_conversation(ticket).unwrap(),
    }
}

async fn post(daemon: &Daemon, hook: &Hook, secret: &str, body: &Value) -> u16 {
    let body = body.to_string();
    let headers = (hook.headers)(secret, &body);
    let mut all = vec![("content-type", "application/json")];
    all.extend(headers.iter().map(|(name, value)| (*name, value.as_str())));
    http1::once(daemon.public, "POST", "/hooks/desk", &all, body.as_bytes()).await.unwrap().status()
}

async fn what_comes_by_hook_and_poll_is_one_message(hook: Hook) {
    let fake = Fake::living(hook.system).await;
    let mut setup = setup(hook.system, &fake, "\"webhook\", \"poll\"", "");
    // By the hook first: the poll comes only after it.
    setup.rest = setup.rest.replace("secrets = { ", &format!("secrets = {{ {} = {{ env = \"HOOK_SECRET\" }}, ", hook.secret));
    setup.rest = setup.rest.replace("back_interval = \"1s\"", "back_interval = \"3s\"");
    // HubSpot signs the address that it calls.
    setup.rest = setup.rest.replace("portal = \"77\"", "portal = \"77\", public_url = \"https://gateway.example.org\"");
    setup.env.insert("HOOK_SECRET".into(), SECRET.into());
    let daemon = Daemon::start(setup).await;
    daemon.channel_running("desk").await;
    post_whatsapp(&daemon, 1, "w1", "one").await;
    daemon.settled(Duration::from_secs(60)).await;
    let (ticket, entries) = {
        let mut room = fake.room.lock().unwrap();
        let id = room.tickets[0].id;
        let ids = [room.answers(id, "It is on its way"), room.notes(id, "between us"), room.customer_says(id, "by the portal")];
        let ticket = room.tickets[0].clone();
        let entries = ids.map(|id| ticket.entries.iter().find(|entry| entry.id == id).unwrap().clone());
        (ticket, entries)
    };
    if let Some(entry) = hook.entry {
        assert_eq!(post(&daemon, &hook, "another secret", &entry(&ticket, &entries[0])).await, 401);
        for one in &entries {
            assert_eq!(post(&daemon, &hook, SECRET, &entry(&ticket, one)).await, 200);
        }
        // Repeated, or of a ticket that is not ours.
        assert_eq!(post(&daemon, &hook, SECRET, &entry(&ticket, &entries[0])).await, 200);
        let other = Ticket { id: 999_999, ..ticket.clone() };
        assert_eq!(post(&daemon, &hook, SECRET, &entry(&other, &Entry { id: 5, ..entries[0].clone() })).await, 200);
    }
    let answered = |shown: &Value| Some(agents_said(shown)).filter(|said| !said.is_empty());
    until("an answer", &daemon, "/v1/events?limit=1000", answered).await;

    fake.room.lock().unwrap().sets(ticket.id, State::Closed);
    let closed = fake.room.lock().unwrap().tickets[0].clone();
    assert_eq!(post(&daemon, &hook, "another secret", &(hook.state)(&closed)).await, 401);
    for _ in 0..2 {
        assert_eq!(post(&daemon, &hook, SECRET, &(hook.state)(&closed)).await, 200);
    }
    let ended = |shown: &Value| shown["events"].as_array().unwrap().iter().find(|event| event["data"]["ended"] == true).cloned();
    until("closed", &daemon, "/v1/events?limit=1000", ended).await;
    // The polls see it, too.
    let newest = daemon.get("/v1/ledger?channel=desk&limit=1").await["items"][0]["item"].as_u64().unwrap();
    fake.room.lock().unwrap().notes(ticket.id, "one more between us");
    let polled = |row: &Value| row["via"] == "poll" && row["item"].as_u64() > Some(newest);
    let seen = |shown: &Value| shown["items"].as_array().unwrap().iter().any(polled).then_some(());
    until("by the poll", &daemon, "/v1/ledger?channel=desk&limit=50", seen).await;
    let scrape = daemon.settled(Duration::from_secs(30)).await;
    let shown = daemon.get("/v1/events?limit=1000").await;
    assert_eq!(texts(&agents_said(&shown)), ["It is on its way"]);
    let updates = shown["events"].as_array().unwrap().iter().filter(|event| event["type"] == "ticket.updated").count();
    assert!((1..=2).contains(&updates), "{shown:#}");
    assert_eq!(scrape.sum("omnigate_first_response_seconds_count", &[("channel", "shop")]), 1);
    assert_eq!(scrape.sum("omnigate_resolution_seconds_count", &[("channel", "shop")]), 1);
    assert_eq!(fake.room.lock().unwrap().wrong, Vec::<String>::new());
}

#[tokio::test]
async fn zammad_by_a_trigger() {
    what_comes_by_hook_and_poll_is_one_message(zammad()).await;
}

#[tokio::test]
async fn jira_by_its_webhooks() {
    what_comes_by_hook_and_poll_is_one_message(jira()).await;
}

#[tokio::test]
async fn hubspot_by_its_subscriptions() {
    what_comes_by_hook_and_poll_is_one_message(hubspot()).await;
}

#[tokio::test]
async fn github_by_its_webhooks() {
    what_comes_by_hook_and_poll_is_one_message(github()).await;
}

#[tokio::test]
async fn helpscout_by_its_webhooks() {
    what_comes_by_hook_and_poll_is_one_message(helpscout()).await;
}

#[tokio::test]
async fn chatwoot_by_its_webhooks() {
    what_comes_by_hook_and_poll_is_one_message(chatwoot()).await;
}
