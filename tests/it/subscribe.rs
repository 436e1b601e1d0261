//! Platforms that are told to call our hook: asked for, confirmed, renewed, looked at, ended — with answers that get lost, deaths in the
//! middle, and another gateway that wants the same.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::daemon::{ADMIN_TOKEN, Daemon, Setup};
use crate::support::http1;
use crate::support::subscriptions::{Asked, Platform, Turn};

const BOUND: Duration = Duration::from_secs(30);

/// A daemon with the channel `desk`, whose public address is its own.
pub async fn daemon(connector: &str, channel: &str, secrets: &[(&str, &str)]) -> Daemon {
    let mut daemon = Daemon::prepare(Setup::default());
    daemon.setup.server = format!("public_url = \"http://{}/\"", daemon.public);
    let mut text = format!("connector = \"{connector}\"\n{channel}\n[secrets]\n");
    for (name, value) in secrets {
        let variable = format!("TEST_{}", name.to_uppercase());
        text.push_str(&format!("{name} = {{ env = \"{variable}\" }}\n"));
        daemon.setup.env.insert(variable, (*value).to_owned());
    }
    daemon.setup.channels.insert("desk".to_owned(), text);
    daemon.write_config();
    daemon.launch();
    daemon.ready().await;
    daemon
}

pub fn hook(daemon: &Daemon) -> String {
    format!("http://{}/hooks/desk", daemon.public)
}

pub async fn verb(daemon: &Daemon, verb: &str) -> Value {
    let answer = daemon.admin("POST", &format!("/v1/channels/desk/{verb}"), &json!({})).await;
    assert!(answer.success(), "{verb}: {} {}", answer.start, answer.text());
    answer.json()
}

pub async fn status(daemon: &Daemon) -> Value {
    daemon.get("/v1/channels/desk/subscription").await
}

pub async fn until(what: &str, daemon: &Daemon, mut fits: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !fits().await {
        assert!(started.elapsed() < BOUND, "{what}: not within {BOUND:?}\n{}", daemon.log_end(30));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub fn said(body: Value) -> Turn {
    Turn::Say(200, body.to_string())
}

/// Telegram, as far as webhooks go.
#[derive(Default)]
pub struct Telegram {
    pub url: String,
    pub secret: String,
}

pub fn telegram(known: &Mutex<Telegram>, asked: &Asked) -> Turn {
    let mut known = known.lock().unwrap();
    match asked.target.rsplit('/').next().unwrap() {
        "setWebhook" => {
            let told = asked.json();
            (known.url, known.secret) = (told["url"].as_str().unwrap().to_owned(), told["secret_token"].as_str().unwrap().to_owned());
            said(json!({"ok": true, "result": true}))
        }
        "deleteWebhook" => {
            known.url.clear();
            said(json!({"ok": true, "result": true}))
        }
        "getWebhookInfo" => said(json!({"ok": true, "result": {"url": known.url, "pending_update_count": 0}})),
        other => panic!("{other}"),
    }
}

pub async fn telegram_daemon(platform: &Platform, secret: &str) -> Daemon {
    let channel = format!("mode = \"webhook\"\n[settings]\napi = \"{}\"", platform.url());
    daemon("telegram", &channel, &[("secret_token", secret), ("bot_token", "1:bot")]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn telegram_is_subscribed_looked_at_and_ended_and_what_another_gateway_took_is_not_taken_back() {
    let known = Arc::new(Mutex::new(Telegram::default()));
    let shared = known.clone();
    let platform = Platform::start(move |asked| telegram(&shared, asked)).await;
    let mut daemon = telegram_daemon(&platform, "first-word").await;
    assert_eq!(status(&daemon).await["state"], "none");
    assert!(platform.lines().is_empty(), "nobody asked for it yet");

    assert_eq!(verb(&daemon, "subscribe").await["state"], "subscribed");
    let asked = platform.last("POST /bot1:bot/setWebhook").json();
    assert_eq!((asked["url"].as_str().unwrap(), &asked["secret_token"]), (hook(&daemon).as_str(), &json!("first-word")));
    assert!(asked["allowed_updates"].as_array().unwrap().contains(&json!("message_reaction")));

    // After a start it is known; a changed secret is told.
    daemon.kill();
    daemon.launch();
    daemon.ready().await;
    assert_eq!(status(&daemon).await["state"], "subscribed");
    assert_eq!(platform.count("POST /bot1:bot/setWebhook"), 1);
    daemon.setup.env.insert("TEST_SECRET_TOKEN".to_owned(), "second-word".to_owned());
    daemon.kill();
    daemon.launch();
    daemon.ready().await;
    until("the new secret is told", &daemon, async || known.lock().unwrap().secret == "second-word").await;

    // Another gateway with the same bot: the last word of a person counts, and nobody fights.
    let other = telegram_daemon(&platform, "third-word").await;
    assert_eq!(verb(&other, "subscribe").await["state"], "subscribed");
    let seen = status(&daemon).await;
    assert_eq!((seen["state"].as_str(), seen["code"].as_str()), (Some("taken"), Some("subscription_taken")));
    let shown = daemon.get("/v1/status").await["channels"]["desk"].clone();
    assert_eq!((shown["state"].as_str(), shown["code"].as_str()), (Some("degraded"), Some("subscription_taken")));
    assert_eq!(known.lock().unwrap().secret, "third-word");
    // Who gives it up does not end it for the one who has it now.
    assert_eq!(verb(&daemon, "unsubscribe").await["state"], "none");
    assert_eq!((known.lock().unwrap().url.clone(), platform.count("POST /bot1:bot/deleteWebhook")), (hook(&other), 0));

    // The platform forgot it: it is asked for again.
    known.lock().unwrap().url.clear();
    assert_eq!(status(&other).await["state"], "subscribed");
    assert_eq!(known.lock().unwrap().url, hook(&other));
    let (ended, table, _) = other.command(&["channel", "unsubscribe", "desk"]);
    assert!(ended.success() && table.contains("none"), "{table}");
    assert_eq!(known.lock().unwrap().url, "");
    assert_eq!(verb(&daemon, "subscribe").await["state"], "subscribed");
    assert_eq!(daemon.get("/v1/status").await["channels"]["desk"]["state"], "running");

    // Without a daemon the store is read.
    daemon.kill();
    let (read, table, told) = daemon.command(&["channel", "status", "desk"]);
    assert!(read.success() && table.contains("subscribed") && told.contains("no daemon answers"), "{table}{told}");
    let (refused, _, told) = daemon.command(&["channel", "subscribe", "desk"]);
    assert_eq!(refused.code(), Some(4), "{told}");
}

#[tokio::test]
async fn a_death_in_the_middle_is_followed_by_the_same_request() {
    let known = Arc::new(Mutex::new(Telegram::default()));
    let platform = Platform::start(|_| Turn::Hold).await;
    let mut daemon = telegram_daemon(&platform, "word").await;
    let private = daemon.private;
    let asking = tokio::spawn(async move {
        let token = format!("Bearer {ADMIN_TOKEN}");
        http1::once(private, "POST", "/v1/channels/desk/subscribe", &[("authorization", token.as_str())], b"{}").await
    });
    until("the platform is asked", &daemon, async || platform.count("POST /bot1:bot/setWebhook") == 1).await;
    daemon.kill();
    assert!(asking.await.unwrap().is_err());
    let shared = known.clone();
    platform.now(move |asked| telegram(&shared, asked));
    daemon.launch();
    daemon.ready().await;
    until("it is subscribed", &daemon, async || known.lock().unwrap().url == hook(&daemon)).await;
    assert_eq!(status(&daemon).await["state"], "subscribed");
}

#[tokio::test]
async fn two_persons_who_ask_at_once_are_served_one_after_the_other_and_refusals_are_told() {
    let known = Arc::new(Mutex::new(Telegram::default()));
    let shared = known.clone();
    let platform = Platform::start(move |asked| telegram(&shared, asked)).await;
    let daemon = telegram_daemon(&platform, "word").await;
    let all: Vec<Value> = futures_util::future::join_all((0..8).map(|_| verb(&daemon, "subscribe"))).await;
    assert!(all.iter().all(|seen| seen["state"] == "subscribed"));
    assert_eq!(platform.at_once.load(Ordering::SeqCst), 1);

    platform.now(|_| Turn::Say(401, json!({"ok": false, "error_code": 401, "description": "Unauthorized"}).to_string()));
    let refused = daemon.admin("POST", "/v1/channels/desk/subscribe", &json!({})).await;
    assert_eq!((refused.status(), refused.json()["detail"].as_str().unwrap().contains("Unauthorized")), (409, true));
    assert!(!daemon.log_text().contains("1:bot"), "a token in the log");
    assert_eq!(daemon.admin("POST", "/v1/channels/nobody/subscribe", &json!({})).await.status(), 404);
    let metric = daemon.scrape().await.sum("omnigate_channel_subscribe_calls_total", &[("channel", "desk"), ("code", "auth_failed")]);
    assert_eq!(metric, 1);
}

/// GitHub's webhooks of one repository.
pub fn github(hooks: &Mutex<Vec<Value>>, asked: &Asked) -> Turn {
    let mut hooks = hooks.lock().unwrap();
    match asked.method.as_str() {
        "GET" => said(json!(*hooks)),
        "POST" => {
            let mut made = asked.json();
            if hooks.iter().any(|known| known["config"]["url"] == made["config"]["url"]) {
                let errors = json!({"message": "Validation Failed", "errors": [{"message": "Hook already exists on this repository"}]});
                return Turn::Say(422, errors.to_string());
            }
            made["id"] = json!(100 + hooks.len());
            hooks.push(made.clone());
            Turn::Say(201, made.to_string())
        }
        "PATCH" => {
            let id: u64 = asked.target.rsplit('/').next().unwrap().parse().unwrap();
            let Some(known) = hooks.iter_mut().find(|known| known["id"] == id) else { return Turn::Say(404, "{}".to_owned()) };
            known["config"] = asked.json()["config"].clone();
            said(known.clone())
        }
        _ => {
            let id: u64 = asked.target.rsplit('/').next().unwrap().parse().unwrap();
            let before = hooks.len();
            hooks.retain(|known| known["id"] != id);
            Turn::Say(if hooks.len() < before { 204 } else { 404 }, String::new())
        }
    }
}

pub async fn github_daemon(platform: &Platform) -> Daemon {
    let channel = format!("[settings]\napi = \"{}\"\nrepository = \"acme/shop\"", platform.url());
    daemon("github", &channel, &[("webhook_secret", "word"), ("token", "ghp_only-for-tests")]).await
}

#[tokio::test]
async fn a_webhook_whose_making_was_not_heard_of_is_found_and_not_made_twice() {
    let hooks = Arc::new(Mutex::new(vec![json!({"id": 1, "config": {"url": "https://ci.example.org"}})]));
    let (shared, mut lost) = (hooks.clone(), true);
    let platform = Platform::start(move |asked| {
        let answer = github(&shared, asked);
        if asked.method == "POST" && std::mem::take(&mut lost) { Turn::Lost } else { answer }
    })
    .await;
    let mut daemon = github_daemon(&platform).await;
    assert_eq!(verb(&daemon, "subscribe").await["state"], "asking", "the answer was lost: it goes on by itself");
    until("it is found", &daemon, async || daemon.get("/v1/channels/desk/subscription").await["state"] == "subscribed").await;
    assert_eq!(platform.count("POST /repos/acme/shop/hooks"), 1);
    assert_eq!(hooks.lock().unwrap().len(), 2);
    assert_eq!(platform.last("POST").header("authorization"), Some("Bearer ghp_only-for-tests"));

    // A new secret changes the webhook that is there.
    daemon.setup.env.insert("TEST_WEBHOOK_SECRET".to_owned(), "another-word".to_owned());
    daemon.kill();
    daemon.launch();
    daemon.ready().await;
    until("the secret is changed", &daemon, async || hooks.lock().unwrap()[1]["config"]["secret"] == "another-word").await;
    assert_eq!(verb(&daemon, "unsubscribe").await["state"], "none");
    assert_eq!(hooks.lock().unwrap().len(), 1, "the other webhook is not ours");
    assert_eq!(verb(&daemon, "unsubscribe").await["state"], "none", "what is not there is gone");
}

#[tokio::test]
async fn a_webhook_that_somebody_made_by_hand_is_taken_over() {
    let hooks = Arc::new(Mutex::new(Vec::new()));
    let (shared, mut first) = (hooks.clone(), true);
    let platform = Platform::start(move |asked| {
        // The list is behind: it does not show yet what the platform refuses to make twice.
        if asked.method == "GET" && std::mem::take(&mut first) { said(json!([])) } else { github(&shared, asked) }
    })
    .await;
    let daemon = github_daemon(&platform).await;
    hooks.lock().unwrap().push(json!({"id": 7, "config": {"url": hook(&daemon)}}));
    assert_eq!(verb(&daemon, "subscribe").await["state"], "subscribed");
    assert_eq!(hooks.lock().unwrap().len(), 1);
    assert_eq!(verb(&daemon, "unsubscribe").await["state"], "none");
    assert!(hooks.lock().unwrap().is_empty(), "its number was learnt from the list");
}

const TOPIC: &str = "https://blog.example.org/feed.atom";

fn question(daemon: &str, mode: &str, lease: Option<u32>) -> Turn {
    let mut url = url::Url::parse(daemon).unwrap();
    url.query_pairs_mut().append_pair("hub.mode", mode).append_pair("hub.topic", TOPIC).append_pair("hub.challenge", "1234");
    if let Some(lease) = lease {
        url.query_pairs_mut().append_pair("hub.lease_seconds", &lease.to_string());
    }
    let then = |status| (if status == 200 { 202 } else { 400 }, String::new());
    Turn::Call { method: "GET", url: url.into(), headers: Vec::new(), body: String::new(), then }
}

#[tokio::test]
async fn a_hubs_lease_is_renewed_and_its_loss_and_return_are_told() {
    let platform = Platform::start(|asked| {
        let mode = asked.field("hub.mode").unwrap();
        question(&asked.field("hub.callback").unwrap(), &mode, (mode == "subscribe").then_some(3))
    })
    .await;
    let channel = format!("mode = \"webhook\"\n[settings]\nhub = \"{}/hub\"", platform.url());
    let mut daemon = daemon("rss", &channel, &[("hub_secret", "word"), ("topic", TOPIC)]).await;
    let seen = verb(&daemon, "subscribe").await;
    assert_eq!(seen["state"], "subscribed", "{seen}");
    let asked = platform.last("POST /hub");
    assert_eq!((asked.field("hub.topic").unwrap().as_str(), asked.field("hub.secret").unwrap().as_str()), (TOPIC, "word"));
    assert_eq!(asked.field("hub.callback").unwrap(), hook(&daemon));
    // The lease is three seconds: it lives on because it is renewed, also across a death.
    until("it is renewed", &daemon, async || platform.count("POST /hub") >= 3).await;
    daemon.kill();
    let before = platform.count("POST /hub");
    daemon.launch();
    daemon.ready().await;
    until("it is renewed after a start", &daemon, async || platform.count("POST /hub") >= before + 2).await;
    assert!(daemon.scrape().await.sum("omnigate_channel_subscription_ends_timestamp_seconds", &[("channel", "desk")]) > 0);

    // The hub takes requests and no longer asks back: the lease runs out, and operators hear of it.
    platform.now(|_| Turn::Say(202, String::new()));
    until("its loss is told", &daemon, async || daemon.get("/v1/status").await["channels"]["desk"]["code"] == "subscription_lost").await;
    assert_eq!(status(&daemon).await["state"], "ended");
    platform.now(|asked| question(&asked.field("hub.callback").unwrap(), &asked.field("hub.mode").unwrap(), Some(86_400)));
    until("its return is told", &daemon, async || daemon.get("/v1/status").await["channels"]["desk"]["state"] == "running").await;

    // What we did not ask for is not believed: the address of a feed is known to many. A hub may ask twice, later on nobody may.
    let ends = status(&daemon).await["ends"].clone();
    let join = format!("/hooks/desk?hub.mode=subscribe&hub.topic={TOPIC}&hub.challenge=9&hub.lease_seconds=99999999");
    assert_eq!(http1::once(daemon.public, "GET", &join, &[], b"").await.unwrap().status(), 200);
    assert_eq!(status(&daemon).await["ends"], ends);
    daemon.kill();
    daemon.launch();
    daemon.ready().await;
    assert_eq!(status(&daemon).await["ends"], ends);
    assert_eq!(http1::once(daemon.public, "GET", &join, &[], b"").await.unwrap().status(), 403);

    // Nobody but us ends it: the hub's question is agreed to only when we asked for that.
    let leave = format!("/hooks/desk?hub.mode=unsubscribe&hub.topic={TOPIC}&hub.challenge=9");
    let asked = http1::once(daemon.public, "GET", &leave, &[], b"").await.unwrap();
    assert_eq!(asked.status(), 403);
    assert_eq!(verb(&daemon, "unsubscribe").await["state"], "none");
    assert_eq!(platform.last("POST /hub").field("hub.mode").unwrap(), "unsubscribe");
}

#[tokio::test]
async fn viber_calls_the_hook_while_it_is_being_set_and_is_answered() {
    let platform = Platform::start(|asked| {
        if asked.target != "/set_webhook" {
            return said(json!({"status": 2, "status_message": "invalidAuthToken"}));
        }
        let url = asked.json()["url"].as_str().unwrap().to_owned();
        let body = json!({"event": "webhook", "timestamp": 1457764197627_u64, "message_token": 241256543215_u64}).to_string();
        let mut mac = Hmac::<Sha256>::new_from_slice(b"a-viber-token").unwrap();
        mac.update(body.as_bytes());
        let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let then = |status| match status {
            200 => (200, json!({"status": 0, "status_message": "ok"}).to_string()),
            other => (200, json!({"status": 1, "status_message": format!("invalidUrl: {other}")}).to_string()),
        };
        let headers = vec![("x-viber-content-signature", hex), ("content-type", "application/json".to_owned())];
        Turn::Call { method: "POST", url, headers, body, then }
    })
    .await;
    let channel = format!("[settings]\napi = \"{}\"", platform.url());
    let daemon = daemon("viber", &channel, &[("auth_token", "a-viber-token")]).await;
    assert_eq!(verb(&daemon, "subscribe").await["state"], "subscribed");
    assert_eq!(platform.last("POST /set_webhook").header("x-viber-auth-token"), Some("a-viber-token"));
    // Viber answers 200 to everything.
    assert_eq!(status(&daemon).await["code"], "auth_failed");
}

/// Connector, lines of its channel file before the secrets (`API` is the platform), its secrets, and the request that subscribes.
const OTHERS: [(&str, &str, &[(&str, &str)], &str); 6] = [
    (
        "line",
        "[settings]\napi = \"API\"",
        &[("channel_secret", "s"), ("channel_access_token", "t")],
        "PUT /v2/bot/channel/webhook/endpoint",
    ),
    (
        "whatsapp",
        "account = \"106\"\n[settings]\napi = \"API\"\nbusiness_account = \"204\"",
        &[("app_secret", "s"), ("verify_token", "v"), ("access_token", "t")],
        "POST /204/subscribed_apps",
    ),
    (
        "messenger",
        "account = \"77\"\n[settings]\napi = \"API\"",
        &[("app_secret", "s"), ("verify_token", "v"), ("page_token", "t")],
        "POST /77/subscribed_apps",
    ),
    (
        "instagram",
        "account = \"78\"\n[settings]\napi = \"API\"\ntokens = \"API\"",
        &[("app_secret", "s"), ("verify_token", "v"), ("access_token", "t")],
        "POST /me/subscribed_apps",
    ),
    ("typeform", "[settings]\napi = \"API\"\nform = \"abc\"", &[("secret", "s"), ("token", "t")], "PUT /forms/abc/webhooks/omnigate"),
    ("surveymonkey", "[settings]\napi = \"API\"\nsurveys = [\"12\"]", &[("hook_key", "c&s"), ("access_token", "t")], "POST /v3/webhooks"),
];

#[tokio::test]
async fn every_other_connector_subscribes_as_its_platform_wants() {
    for (connector, channel, secrets, line) in OTHERS {
        let made = Arc::new(Mutex::new(None::<Asked>));
        let shared = made.clone();
        let platform = Platform::start(move |asked| {
            let mut made = shared.lock().unwrap();
            match asked.method.as_str() {
                "GET" if asked.target.starts_with("/v3/webhooks") => {
                    let names: Vec<Value> = made.iter().map(|made| json!({"id": "9", "name": made.json()["name"]})).collect();
                    said(json!({"data": names}))
                }
                "GET" if asked.target.starts_with("/access_token") => said(json!({"access_token": "t", "expires_in": 5_184_000})),
                // Meta tells the app, the others repeat what they were told.
                "GET" if asked.target.contains("subscribed_apps") => match &*made {
                    Some(made) if made.body.starts_with('{') => said(json!({"data": [made.json()]})),
                    Some(made) => {
                        let fields = made.field("subscribed_fields").unwrap();
                        said(json!({"data": [{"id": "1", "subscribed_fields": fields.split(',').collect::<Vec<_>>()}]}))
                    }
                    None => said(json!({"data": []})),
                },
                "GET" => match &*made {
                    Some(made) => {
                        let mut told = made.json();
                        told["active"] = json!(true);
                        said(told)
                    }
                    None => Turn::Say(404, "{}".to_owned()),
                },
                "DELETE" => {
                    *made = None;
                    Turn::Say(204, String::new())
                }
                _ => {
                    *made = Some(asked.clone());
                    said(json!({"success": true, "id": "9"}))
                }
            }
        })
        .await;
        let daemon = daemon(connector, &channel.replace("API", &platform.url()), secrets).await;
        assert_eq!(verb(&daemon, "subscribe").await["state"], "subscribed", "{connector}");
        let asked = platform.last(line);
        assert_eq!(asked.header("authorization"), Some("Bearer t"), "{connector}");
        assert!(asked.body.contains(&hook(&daemon)) || asked.field("subscribed_fields").is_some(), "{connector}: {}", asked.body);
        assert_eq!(status(&daemon).await["state"], "subscribed", "{connector}");
        assert_eq!(status(&daemon).await["code"], Value::Null, "{connector}");
        assert_eq!(verb(&daemon, "unsubscribe").await["state"], "none", "{connector}");
    }
}
