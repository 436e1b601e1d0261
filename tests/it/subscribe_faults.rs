//! Subscriptions between two who want the same, through reloads, lost leases and switches that a person turned at the platform.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::subscribe::{Telegram, daemon, github, hook, said, status, telegram, telegram_daemon, until, verb};
use crate::support::daemon::ADMIN_TOKEN;
use crate::support::http1;
use crate::support::subscriptions::{Platform, Turn};

/// Whom Telegram calls, and with which secret.
fn told(known: &Mutex<Telegram>) -> (String, String) {
    let known = known.lock().unwrap();
    (known.url.clone(), known.secret.clone())
}

#[tokio::test]
async fn a_switch_that_was_turned_off_at_line_is_told_and_left_to_a_person() {
    let known = Arc::new(Mutex::new((String::new(), true)));
    let shared = known.clone();
    let platform = Platform::start(move |asked| {
        let mut known = shared.lock().unwrap();
        if asked.method == "PUT" {
            known.0 = asked.json()["endpoint"].as_str().unwrap().to_owned();
        }
        said(json!({"endpoint": known.0, "active": known.1}))
    })
    .await;
    let channel = format!("[settings]\napi = \"{}\"", platform.url());
    let daemon = daemon("line", &channel, &[("channel_secret", "s"), ("channel_access_token", "t")]).await;
    assert_eq!(verb(&daemon, "subscribe").await["state"], "subscribed");
    assert_eq!(status(&daemon).await["code"], Value::Null);

    known.lock().unwrap().1 = false;
    let seen = status(&daemon).await;
    assert_eq!((seen["state"].as_str(), seen["code"].as_str()), (Some("subscribed"), Some("subscription_lost")), "{seen}");
    assert!(seen["detail"].as_str().unwrap().contains("switched off"), "{seen}");
    let shown = daemon.get("/v1/status").await["channels"]["desk"].clone();
    assert_eq!((shown["state"].as_str(), shown["code"].as_str()), (Some("degraded"), Some("subscription_lost")));
    assert_eq!(platform.count("PUT"), 1, "LINE has no request that turns the switch");

    known.lock().unwrap().1 = true;
    assert_eq!(status(&daemon).await["code"], Value::Null);
    assert_eq!(daemon.get("/v1/status").await["channels"]["desk"]["state"], "running");
}

#[tokio::test]
async fn a_changed_secret_takes_nothing_back_that_another_gateway_has_now() {
    let known = Arc::new(Mutex::new(Telegram::default()));
    let shared = known.clone();
    let platform = Platform::start(move |asked| telegram(&shared, asked)).await;
    let mut daemon = telegram_daemon(&platform, "first-word").await;
    assert_eq!(verb(&daemon, "subscribe").await["state"], "subscribed");
    let other = telegram_daemon(&platform, "others-word").await;
    assert_eq!(verb(&other, "subscribe").await["state"], "subscribed");

    // It does not know yet that the bot is another's, and has something new to tell.
    daemon.kill();
    daemon.setup.env.insert("TEST_SECRET_TOKEN".to_owned(), "second-word".to_owned());
    daemon.launch();
    daemon.ready().await;
    until("it is told", &daemon, async || daemon.get("/v1/status").await["channels"]["desk"]["code"] == "subscription_taken").await;
    assert_eq!(told(&known), (hook(&other), "others-word".to_owned()));
    assert_eq!(status(&other).await["state"], "subscribed");

    // A person's word counts.
    assert_eq!(verb(&daemon, "subscribe").await["state"], "subscribed");
    assert_eq!(told(&known), (hook(&daemon), "second-word".to_owned()));
}

#[tokio::test]
async fn another_address_of_ours_is_told_and_takes_nothing_back_either() {
    let known = Arc::new(Mutex::new(Telegram::default()));
    let shared = known.clone();
    let platform = Platform::start(move |asked| telegram(&shared, asked)).await;
    let mut daemon = telegram_daemon(&platform, "word").await;
    assert_eq!(verb(&daemon, "subscribe").await["state"], "subscribed");
    daemon.kill();
    daemon.setup.server = format!("public_url = \"http://localhost:{}/\"", daemon.public.port());
    daemon.write_config();
    daemon.launch();
    daemon.ready().await;
    let moved = format!("http://localhost:{}/hooks/desk", daemon.public.port());
    until("the new address is told", &daemon, async || known.lock().unwrap().url == moved).await;

    daemon.kill();
    known.lock().unwrap().url = "https://other.example.org/hook".to_owned();
    daemon.setup.server = format!("public_url = \"http://{}/\"", daemon.public);
    daemon.write_config();
    daemon.launch();
    daemon.ready().await;
    until("it is told", &daemon, async || daemon.get("/v1/status").await["channels"]["desk"]["code"] == "subscription_taken").await;
    assert_eq!(known.lock().unwrap().url, "https://other.example.org/hook");
}

/// Telegram that takes the word of a new address and is silent about it: we die before it answers.
async fn dies_while_it_moves() -> (Arc<Mutex<Telegram>>, Platform, crate::support::daemon::Daemon) {
    let known = Arc::new(Mutex::new(Telegram::default()));
    let shared = known.clone();
    let platform = Platform::start(move |asked| telegram(&shared, asked)).await;
    let mut daemon = telegram_daemon(&platform, "word").await;
    assert_eq!(verb(&daemon, "subscribe").await["state"], "subscribed");
    let shared = known.clone();
    platform.now(move |asked| match telegram(&shared, asked) {
        Turn::Say(..) if asked.target.ends_with("/setWebhook") => Turn::Hold,
        turn => turn,
    });
    daemon.kill();
    at(&mut daemon, "localhost");
    daemon.launch();
    daemon.ready().await;
    let moved = format!("http://localhost:{}/hooks/desk", daemon.public.port());
    until("the new address is told", &daemon, async || told(&known).0 == moved).await;
    daemon.kill();
    let shared = known.clone();
    platform.now(move |asked| telegram(&shared, asked));
    (known, platform, daemon)
}

/// Its public address has this host from the next start on.
fn at(daemon: &mut crate::support::daemon::Daemon, host: &str) {
    daemon.setup.server = format!("public_url = \"http://{host}:{}/\"", daemon.public.port());
    daemon.write_config();
}

#[tokio::test]
async fn a_death_before_the_answer_forgets_neither_address() {
    let (known, _platform, mut daemon) = dies_while_it_moves().await;
    // The first address is wanted again: that the platform calls the second is our own doing.
    at(&mut daemon, "127.0.0.1");
    daemon.launch();
    daemon.ready().await;
    until("the first address is told again", &daemon, async || told(&known).0 == hook(&daemon)).await;
    until("it is held", &daemon, async || daemon.get("/v1/channels/desk/subscription").await["state"] == "subscribed").await;
    assert_eq!(status(&daemon).await["code"], Value::Null);
}

#[tokio::test]
async fn what_was_taken_while_we_were_dead_is_told_also_when_we_died_before_the_answer() {
    let (known, _platform, mut daemon) = dies_while_it_moves().await;
    known.lock().unwrap().url = "https://other.example.org/hook".to_owned();
    at(&mut daemon, "127.0.0.1");
    daemon.launch();
    daemon.ready().await;
    until("it is told", &daemon, async || daemon.get("/v1/status").await["channels"]["desk"]["code"] == "subscription_taken").await;
    assert_eq!(told(&known).0, "https://other.example.org/hook");
}

#[tokio::test]
async fn a_lease_that_another_node_took_is_ours_again_when_a_person_asks_here() {
    let known = Arc::new(Mutex::new(Telegram::default()));
    let shared = known.clone();
    let platform = Platform::start(move |asked| telegram(&shared, asked)).await;
    let daemon = telegram_daemon(&platform, "word").await;
    assert_eq!(verb(&daemon, "subscribe").await["state"], "subscribed");
    let store = rusqlite::Connection::open(daemon.data_dir().join("omnigate.db")).unwrap();
    store.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
    let taken = store.execute("UPDATE leases SET epoch = epoch + 1 WHERE name LIKE '%subscription:desk'", []).unwrap();
    assert_eq!(taken, 1);
    known.lock().unwrap().url.clear();
    let refused = daemon.admin("GET", "/v1/channels/desk/subscription", &json!({})).await;
    assert!(!refused.success(), "another node keeps it: {}", refused.text());
    assert_eq!(verb(&daemon, "subscribe").await["state"], "subscribed");
    assert_eq!(known.lock().unwrap().url, hook(&daemon));
    assert_eq!(status(&daemon).await["state"], "subscribed");
    assert_eq!(verb(&daemon, "unsubscribe").await["state"], "none");
}

#[tokio::test]
async fn a_reload_while_a_person_subscribes_asks_the_platform_for_nothing_twice() {
    let hooks = Arc::new(Mutex::new(Vec::new()));
    let bell = Arc::new(Notify::new());
    let (shared, ringing) = (hooks.clone(), bell.clone());
    let platform = Platform::start(move |asked| match github(&shared, asked) {
        Turn::Say(status, body) if asked.method == "POST" => Turn::Later(ringing.clone(), status, body),
        turn => turn,
    })
    .await;
    let mut daemon = crate::subscribe::github_daemon(&platform).await;
    let private = daemon.private;
    let asking = tokio::spawn(async move {
        let token = format!("Bearer {ADMIN_TOKEN}");
        http1::once(private, "POST", "/v1/channels/desk/subscribe", &[("authorization", token.as_str())], b"{}").await
    });
    until("the platform is asked", &daemon, async || platform.count("POST /repos/acme/shop/hooks") == 1).await;
    let file = daemon.setup.channels["desk"].replace("[settings]", "labels = { brand = \"acme\" }\n[settings]");
    daemon.setup.channels.insert("desk".to_owned(), file);
    daemon.write_config();
    let reloaded = daemon.admin("POST", "/v1/reload", &json!({})).await;
    assert_eq!(reloaded.json()["changed"], json!(["desk"]), "{}", reloaded.text());
    // Who asks now waits for the one before.
    let status_too = tokio::spawn(async move {
        let token = format!("Bearer {ADMIN_TOKEN}");
        http1::once(private, "GET", "/v1/channels/desk/subscription", &[("authorization", token.as_str())], b"").await
    });
    bell.notify_waiters();
    bell.notify_one();
    let told = asking.await.unwrap().unwrap();
    assert!(told.success(), "{} {}\n{}", told.start, told.text(), daemon.log_end(20));
    assert_eq!(told.json()["state"], "subscribed");
    assert_eq!(status_too.await.unwrap().unwrap().json()["state"], "subscribed");
    assert_eq!((platform.count("POST /repos/acme/shop/hooks"), hooks.lock().unwrap().len()), (1, 1));
    assert_eq!(platform.at_once.load(Ordering::SeqCst), 1, "one step at a time");
    assert_eq!(verb(&daemon, "unsubscribe").await["state"], "none");
    assert!(hooks.lock().unwrap().is_empty());
}

#[tokio::test]
async fn other_apps_of_a_whatsapp_account_are_not_taken_for_somebody_who_took_ours() {
    let others =
        json!({"whatsapp_business_api_data": {"id": "900", "name": "Other"}, "override_callback_uri": "https://other.example.org/wa"});
    let ours = Arc::new(Mutex::new(None::<String>));
    let (shared, other) = (ours.clone(), others.clone());
    let platform = Platform::start(move |asked| {
        let mut ours = shared.lock().unwrap();
        if asked.method == "POST" {
            *ours = asked.json()["override_callback_uri"].as_str().map(str::to_owned);
        }
        let ours =
            ours.iter().map(|url| json!({"whatsapp_business_api_data": {"id": "700", "name": "Gate"}, "override_callback_uri": url}));
        let all: Vec<Value> = std::iter::once(other.clone()).chain(ours).collect();
        said(json!({"success": true, "data": all}))
    })
    .await;
    let channel = format!("account = \"106\"\n[settings]\napi = \"{}\"\nbusiness_account = \"204\"", platform.url());
    let daemon = daemon("whatsapp", &channel, &[("app_secret", "s"), ("verify_token", "v"), ("access_token", "t")]).await;
    assert_eq!(verb(&daemon, "subscribe").await["state"], "subscribed");
    // Meta forgot it: only the other app is there. It is asked for again.
    *ours.lock().unwrap() = None;
    assert_eq!(status(&daemon).await["state"], "subscribed");
    assert_eq!(ours.lock().unwrap().as_deref(), Some(hook(&daemon).as_str()));
    assert_eq!(status(&daemon).await["state"], "subscribed", "its app is known by now");
    // The same app with another address: that is another gateway.
    *ours.lock().unwrap() = Some("https://second.example.org/wa".to_owned());
    assert_eq!(status(&daemon).await["code"], "subscription_taken");
    assert_eq!(platform.count("POST /204/subscribed_apps"), 2);
}

#[tokio::test]
async fn x_looks_at_the_hook_before_it_registers_it_and_is_told_when_it_may_again() {
    let hooks = Arc::new(Mutex::new(None::<(String, bool)>));
    let shared = hooks.clone();
    let platform = Platform::start(move |asked| {
        let mut hooks = shared.lock().unwrap();
        let list = |hooks: &Option<(String, bool)>| {
            let all: Vec<Value> = hooks.iter().map(|(url, valid)| json!({"id": "77", "url": url, "valid": valid})).collect();
            said(json!({"data": all}))
        };
        let look = |url: &str| Turn::Call {
            method: "GET",
            url: format!("{url}?crc_token=challenge-1"),
            headers: Vec::new(),
            body: String::new(),
            then: |status| match status {
                200 => (200, json!({"data": {"id": "77", "valid": true}}).to_string()),
                _ => (400, json!({"title": "Invalid Request", "detail": "CRC failed"}).to_string()),
            },
        };
        match asked.method.as_str() {
            "POST" => {
                let url = asked.json()["url"].as_str().unwrap().to_owned();
                *hooks = Some((url.clone(), true));
                look(&url)
            }
            "PUT" => {
                let known = hooks.as_mut().unwrap();
                known.1 = true;
                look(&known.0)
            }
            "DELETE" => {
                *hooks = None;
                Turn::Say(200, json!({"data": {"deleted": true}}).to_string())
            }
            _ => list(&hooks),
        }
    })
    .await;
    let channel = format!("mode = \"webhook\"\n[settings]\napi = \"{}\"", platform.url());
    let daemon = daemon("x", &channel, &[("consumer_secret", "s"), ("bearer_token", "t")]).await;
    assert_eq!(verb(&daemon, "subscribe").await["state"], "subscribed");
    assert_eq!(platform.last("POST /2/webhooks").header("authorization"), Some("Bearer t"));
    hooks.lock().unwrap().as_mut().unwrap().1 = false;
    assert_eq!(status(&daemon).await["state"], "subscribed");
    assert_eq!((platform.count("PUT /2/webhooks/77"), hooks.lock().unwrap().clone()), (1, Some((hook(&daemon), true))), "looked at again");
    assert_eq!(status(&daemon).await["code"], Value::Null);
    *hooks.lock().unwrap() = None;
    assert_eq!(status(&daemon).await["state"], "subscribed", "it was gone, and was registered again");
    assert_eq!(platform.count("POST /2/webhooks"), 2);
    assert_eq!(verb(&daemon, "unsubscribe").await["state"], "none");
    assert!(hooks.lock().unwrap().is_none());
}
