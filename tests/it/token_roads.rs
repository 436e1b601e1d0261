//! Tokens on all roads of a channel: a poll, files, names and who we are share one credential; it is renewed in the middle of the work, by
//! one question, and what a person must mend is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, Setup};
use crate::support::http1;
use crate::support::identity::Identity;
use crate::support::platform::query;
use crate::support::token_api::TokenApi;

const HEAD: &str = r#"
name = "shop"
title = "Shop"
about = "For tests: an API behind tokens."
verified_senders = true
mode = ["poll", "webhook"]
hosts = ["api.example.org"]
[settings.api]
type = "url"
default = "https://api.example.org"
help = "Base."
[settings.tokens]
type = "url"
default = "https://api.example.org"
help = "Identity provider."
[settings.client_id]
type = "text"
default = ""
help = "Client."
[secrets.refresh_token]
optional = true
help = "To begin with."
[secrets.hook]
for = ["webhook"]
help = "Hook."
[auth.account]
kind = "oauth2"
token_url = "{settings.tokens}/token"
device_url = "{settings.tokens}/device"
authorize_url = "{settings.tokens}/authorize"
client_id = "{settings.client_id}"
scopes = ["read"]
refresh_token = "refresh_token"
[whoami]
request = { get = "{settings.api}/me", auth = "account" }
take = { user = ".id" }
[enrich]
request = { get = "{settings.api}/people/{sender.id}", auth = "account" }
map = "{name: .name}"
rate = "60/1m"
wait = "2s"
[media.default]
fetch = [{ request = { get = "{settings.api}/files/{attachment.id}", auth = "account" } }]
[poll.items]
items = "/items"
id = ".id"
interval = "1s"
from_now = "take"
cursor = { each = ".id" }
[poll.items.request]
get = "{settings.api}/items"
query = { since = "{cursor}" }
auth = "account"
[webhook]
decode = "json"
[webhook.verify]
kind = "static"
secret = "hook"
header = "X-Hook"
"#;

const MAP: &str = r#".items[] | {kind: "message", key: .id, from: {address: "shop:\(.from)"}, conversation: .from, text: "item \(.id)",
  attachments: [.file | strings | {id: ., name: "a.png", type: "image/png"}]}"#;

/// What the API lists.
type Items = Arc<Mutex<Vec<Value>>>;

/// A shop: an API behind tokens, who gives them, and a channel `desk` that asks it.
pub struct World {
    pub identity: Arc<Identity>,
    api: TokenApi,
    items: Items,
    pub setup: Setup,
}

impl World {
    /// One whose channel has this mode.
    pub async fn new(mode: &str) -> Self {
        let identity = Arc::new(Identity::start("shop").await);
        let items: Items = Arc::default();
        let listed = items.clone();
        let api = TokenApi::behind(identity.clone(), move |ask| match ask.path().split('/').nth(1).unwrap() {
            "me" => json!({"id": "own-1"}),
            "people" => json!({"name": "Ana"}),
            "files" => Value::from("\u{89}PNG of the customer"),
            _ => {
                let since: u64 = query(&ask.target, "since").and_then(|text| text.parse().ok()).unwrap_or(0);
                let items = listed.lock().unwrap().iter().filter(|item| item["id"].as_u64().unwrap() > since).cloned().collect::<Vec<_>>();
                json!({ "items": items })
            }
        })
        .await;
        let channel = format!(
            "connector = \"shop\"\nmode = [{mode}]\n[settings]\napi = \"{}\"\ntokens = \"{}\"\nclient_id = \"omnigate\"\n[secrets]\n\
             hook = {{ env = \"HOOK\" }}\n",
            api.url(),
            identity.url("").trim_end_matches('/')
        );
        let mut setup = Setup {
            rest: "[destination.archive]\nkind = \"file\"\npath = \"events.ndjson\"\n[[route]]\nto = [\"archive\"]\n\
                   [[route]]\nto = [\"archive\"]\noperator = true\n"
                .to_owned(),
            channels: BTreeMap::from([("desk".to_owned(), channel)]),
            env: BTreeMap::from([("HOOK".to_owned(), "a-word-only-for-tests".to_owned())]),
            ..Setup::default()
        };
        setup.connector("shop", HEAD, MAP);
        Self { identity, api, items, setup }
    }

    /// The channel file brings a refresh token.
    pub fn consented(mut self) -> Self {
        let first = self.identity.book().refresh_token("shop");
        self.setup.channels.get_mut("desk").unwrap().push_str("refresh_token = { env = \"FIRST\" }\n");
        self.setup.env.insert("FIRST".to_owned(), first);
        self
    }

    /// The API lists these from now on.
    pub fn lists(&self, ids: impl IntoIterator<Item = u64>) {
        let item = |id: u64| json!({"id": id, "from": format!("ana{id}"), "file": format!("f{id}")});
        self.items.lock().unwrap().extend(ids.into_iter().map(item));
    }
}

/// Looks until something is found.
pub async fn until<T>(what: &str, daemon: &Daemon, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let from = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(from.elapsed() < Duration::from_secs(120), "{what}: not in time\n{}", daemon.log_end(40));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What was delivered.
pub fn events(daemon: &Daemon) -> Vec<Value> {
    let text = std::fs::read_to_string(daemon.folder.path().join("events.ndjson")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Messages that came, by their texts, each with what became of its file. What was on its way in a kill comes twice under one id.
pub fn messages(daemon: &Daemon) -> Vec<(String, String)> {
    let mut seen = std::collections::BTreeSet::new();
    let message = |event: &Value| {
        let message = &event["data"]["message"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (event["type"] == "message.created").then(|| (text(&message["text"]), text(&message["attachments"][0]["state"])))
    };
    events(daemon).iter().filter(|event| seen.insert(event["id"].to_string())).filter_map(message).collect()
}

/// Waits for these items and their files.
pub async fn arrives(daemon: &Daemon, ids: impl IntoIterator<Item = u64>) {
    let wanted: Vec<_> = ids.into_iter().map(|id| (format!("item {id}"), "stored".to_owned())).collect();
    until(&format!("{wanted:?}"), daemon, async || {
        let mut found = messages(daemon);
        found.sort();
        wanted.iter().all(|one| found.contains(one)).then_some(())
    })
    .await;
}

async fn code(daemon: &Daemon, code: &str) {
    until(code, daemon, async || (daemon.get("/v1/status").await["channels"]["desk"]["code"] == code).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_roads_share_one_token_and_one_that_ends_in_the_middle_is_replaced_once() {
    let world = World::new("\"poll\"").await.consented();
    world.identity.book().rotate = true;
    world.identity.book().slow = Duration::from_millis(300);
    world.lists(1..=3);
    let mut daemon = Daemon::start(world.setup.clone()).await;
    arrives(&daemon, 1..=3).await;
    assert_eq!(world.identity.asked("refresh_token"), 1, "poll, files, names and who we are asked at once");
    assert_eq!((world.api.count("/me"), world.api.count("/files/f1"), world.api.count("/people/ana1")), (1, 1, 1));
    // Withdrawn between two pages: whoever sees it first replaces it, for all.
    world.identity.book().access.clear();
    world.lists(4..=6);
    arrives(&daemon, 4..=6).await;
    assert_eq!(world.identity.asked("refresh_token"), 2);
    assert_eq!(daemon.get("/v1/status").await["channels"]["desk"]["state"], "running", "no session ended of it");
    // A killed process goes on with the successor that it kept, not with the spent one of the file.
    daemon.kill();
    world.lists(7..=7);
    daemon.launch();
    daemon.ready().await;
    arrives(&daemon, 7..=7).await;
    let mut found = messages(&daemon);
    found.sort();
    assert_eq!(found.len(), 7, "each once: {found:?}");
    let used: Vec<String> = world.identity.book().asked.iter().map(|fields| fields["refresh_token"].clone()).collect();
    assert_eq!(used.len(), used.iter().collect::<std::collections::BTreeSet<_>>().len(), "none is used twice: {used:?}");
    let log = daemon.log_text();
    assert!(!log.contains("refresh-1") && !log.contains("access-"), "I7");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_that_is_gone_is_told_from_trouble_and_a_log_in_goes_on_at_once() {
    let world = World::new("\"poll\"").await;
    let daemon = Daemon::start(world.setup.clone()).await;
    world.lists(1..=1);
    code(&daemon, "own_unknown").await;
    let (status, out, _) = daemon.command(&["check", "--connect"]);
    assert!(!status.success() && out.contains("login_needed: nobody has logged in yet: omnigate channel login desk"), "{out}");
    let (status, _, err) = daemon.command(&["channel", "login", "desk"]);
    assert!(status.success() && err.contains("enter the code ABCD-EFGH"), "{err}");
    arrives(&daemon, 1..=1).await;
    // The provider is in trouble: the channel waits and goes on by itself.
    {
        let mut book = world.identity.book();
        book.access.clear();
        book.failures.extend([(500, json!({})), (429, json!({})), (200, json!({"error": "what"}))]);
        book.pages = 1;
    }
    world.lists(2..=2);
    arrives(&daemon, 2..=2).await;
    // The consent is withdrawn: a person must act, and is told so.
    {
        let mut book = world.identity.book();
        book.access.clear();
        book.refresh.clear();
    }
    world.lists(3..=3);
    code(&daemon, "consent_expired").await;
    let told = async || events(&daemon).into_iter().find(|event| event["data"]["code"] == "consent_expired");
    assert_eq!(until("an operator event", &daemon, told).await["type"], "channel.degraded");
    let (status, _, err) = daemon.command(&["channel", "login", "desk", "--flow", "device"]);
    assert!(status.success(), "{err}");
    arrives(&daemon, 1..=3).await;
    assert_eq!(messages(&daemon).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_afresh_is_a_matter_of_rights() {
    let world = World::new("\"poll\"").await.consented();
    world.lists(1..=1);
    let daemon = Daemon::start(world.setup.clone()).await;
    arrives(&daemon, 1..=1).await;
    // The API takes no token any more, whatever its provider says.
    world.identity.book().forgetful = true;
    world.identity.book().access.clear();
    code(&daemon, "auth_failed").await;
    let detail = daemon.get("/v1/status").await["channels"]["desk"]["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("answers 401 to a token that was made just now"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_whose_files_need_a_token_shows_what_a_person_must_mend() {
    let world = World::new("\"webhook\"").await.consented();
    let daemon = Daemon::start(world.setup.clone()).await;
    let say = async |id: u64| {
        let body = json!({"items": [{"id": id, "from": format!("ana{id}"), "file": format!("f{id}")}]}).to_string();
        let headers = [("content-type", "application/json"), ("x-hook", "a-word-only-for-tests")];
        let status = async || http1::once(daemon.public, "POST", "/hooks/desk", &headers, body.as_bytes()).await.unwrap().status();
        until("taken", &daemon, async || (status().await == 200).then_some(())).await;
    };
    say(1).await;
    arrives(&daemon, 1..=1).await;
    {
        let mut book = world.identity.book();
        book.access.clear();
        book.refresh.clear();
    }
    say(2).await;
    code(&daemon, "consent_expired").await;
    let (status, _, err) = daemon.command(&["channel", "login", "desk"]);
    assert!(status.success(), "{err}");
    until("running", &daemon, async || (daemon.get("/v1/status").await["channels"]["desk"]["state"] == "running").then_some(())).await;
    say(3).await;
    arrives(&daemon, 3..=3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_consent_is_counted_down_for_every_kind_of_channel() {
    let world = World::new("\"poll\"").await;
    world.identity.book().refresh_expires_in = Some(2 * 86_400);
    let mut daemon = Daemon::prepare(world.setup.clone());
    let (status, _, err) = daemon.command(&["channel", "login", "desk"]);
    assert!(status.success(), "before the first run: {err}");
    world.lists(1..=1);
    daemon.launch();
    daemon.ready().await;
    arrives(&daemon, 1..=1).await;
    let warned = async || events(&daemon).into_iter().find(|event| event["data"]["code"] == "consent_expiring");
    assert_eq!(until("a warning", &daemon, warned).await["data"]["counts"]["days_left"], 3);
    let status = daemon.get("/v1/status").await["channels"]["desk"].clone();
    assert_eq!((&status["state"], &status["code"]), (&"running".into(), &"consent_expiring".into()));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let ends = daemon.scrape().await.sum("omnigate_channel_consent_ends_timestamp_seconds", &[("channel", "desk")]);
    assert!((now + 2 * 86_400 - 600..now + 2 * 86_400 + 60).contains(&ends), "{ends}");
    daemon.kill();
    let before = world.identity.asked("refresh_token");
    let (status, out, _) = daemon.command(&["check", "--connect"]);
    assert!(status.success() && out.contains("[auth.account] has a token") && out.contains("items: 127.0.0.1"), "{out}");
    assert_eq!(world.identity.asked("refresh_token"), before + 1);
}
