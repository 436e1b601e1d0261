//! Files that messages only name, against a platform that misbehaves: what a receiver is told, when, and what no request carries.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, Setup};
use crate::support::http1;
use crate::support::media_server::{FILE, MediaServer};
use crate::support::receiver::Receiver;

const PATIENCE: Duration = Duration::from_secs(30);
const TOKEN: &str = "a-media-token-only-for-tests";

const CONNECTOR: &str = r#"
name = "files"
title = "Files"
about = "For tests: messages with files that are fetched."
unit = "sender"
verified_senders = true
hosts = []
[settings.api]
type = "url"
required = true
help = "Base."
[settings.storage]
type = "url"
required = true
help = "Where redirects lead."
[secrets.token]
help = "Token."
[auth.bot]
kind = "bearer"
secret = "token"
[webhook]
decode = "json"
[webhook.verify]
kind = "static"
secret = "token"
header = "X-Token"
[media.default]
fetch = [{ request = { get = "{attachment.url}", auth = "bot" } }]
redirect = "drop_auth"
refuse_type = ["text/html"]
retry_404_for = "1m"
[media.strict]
fetch = [{ request = { get = "{attachment.url}", auth = "bot" } }]
[media.two_steps]
fetch = [
  { request = { get = "{settings.api}/{attachment.id}", auth = "bot" }, take = { url = ".url", sha256 = '.sha256 | select(length == 64)' },
    errors = [{ when = '.status == "processing"', then = "later", after_s = "1" }] },
  { request = { get = "{step.url}", auth = "bot" } },
]
verify_sha256 = "{step.sha256}"
expires = "5s"
[media.inline]
fetch = [{ request = { get = "{settings.api}/inline", auth = "bot" }, take = { content = ".content" } }]
inline_base64 = "{step.content}"
"#;

const MAP: &str = r#"{kind: "message", key: .id, from: {address: "files:\(.from)"}, text, attachments: .files}"#;

struct World {
    daemon: Daemon,
    receiver: Receiver,
    media: MediaServer,
}

impl World {
    async fn start(media: MediaServer, storage: &str, wait: &str) -> Self {
        let receiver = Receiver::start().await;
        let mut setup = Setup::all_to(&receiver.url());
        setup.connector("files", CONNECTOR, MAP);
        setup.rest.push_str(&format!(
            "[attachments]\nmedia_wait = \"{wait}\"\nbytes_max = \"1 MiB\"\n[files]\npublic_url = \"http://gate.example.org\"\n"
        ));
        setup.channels.insert(
            "desk".to_owned(),
            format!(
                "connector = \"files\"\n[settings]\napi = \"{}\"\nstorage = \"{storage}\"\n[secrets]\ntoken = {{ env = \"MEDIA_TOKEN\" }}\n",
                media.url("")
            ),
        );
        setup.env.insert("MEDIA_TOKEN".to_owned(), TOKEN.to_owned());
        Self { daemon: Daemon::start(setup).await, receiver, media }
    }

    async fn say(&self, id: &str, from: &str, files: Value) {
        let body = json!({"id": id, "from": from, "text": id, "files": files}).to_string();
        let headers = [("content-type", "application/json"), ("x-token", TOKEN)];
        let answer = http1::once(self.daemon.public, "POST", "/hooks/desk", &headers, body.as_bytes()).await.unwrap();
        assert!(answer.success(), "{}", answer.start);
    }

    fn file(&self, path: &str) -> Value {
        json!({"url": self.media.url(path), "type": "application/octet-stream"})
    }

    /// The files of a message as last told.
    fn files(&self, id: &str) -> Vec<Value> {
        let book = self.receiver.book();
        let events: Vec<_> = book.taken().into_iter().map(|delivery| delivery.event.clone()).collect();
        let Some(created) = events.iter().find(|event| event["data"]["message"]["text"] == id) else { return Vec::new() };
        let message = &created["data"]["message"]["id"];
        let mut updates = events.iter().filter(|event| event["type"] == "message.updated" && event["data"]["message"]["id"] == *message);
        let last = updates.next_back().map_or(&created["data"]["message"]["attachments"], |event| &event["data"]["attachments"]);
        last.as_array().cloned().unwrap_or_default()
    }

    async fn until(&self, what: &str, fits: impl Fn(&Self) -> bool) {
        let from = Instant::now();
        while !fits(self) {
            assert!(from.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}; {:#?}", self.receiver.book().events());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn state(&self, id: &str, state: &str) {
        self.until(&format!("{id} {state}"), |world| world.files(id).first().is_some_and(|file| file["state"] == state)).await;
    }

    fn types(&self, from: &str) -> Vec<String> {
        let book = self.receiver.book();
        let taken = book.taken();
        let conversation = taken.iter().find(|delivery| delivery.text("/message/from/address") == format!("files:{from}"));
        let conversation = conversation.map(|delivery| delivery.conversation.clone()).unwrap_or_default();
        taken.into_iter().filter(|delivery| delivery.conversation == conversation).map(|delivery| delivery.event_type.clone()).collect()
    }
}

#[tokio::test]
async fn a_message_goes_out_once_with_its_files_when_they_come_in_time() {
    let media = MediaServer::start(None).await;
    let storage = media.url("");
    let world = World::start(media, &storage, "20s").await;
    world.say("two", "ana", json!([world.file("/a"), world.file("/b")])).await;
    world.say("inline", "bob", json!([{"id": "x", "recipe": "inline"}])).await;
    world.say("steps", "cai", json!([{"id": "link", "recipe": "two_steps"}])).await;
    world.say("busy", "dia", json!([{"id": "busy", "recipe": "two_steps"}])).await;
    for id in ["two", "inline", "steps", "busy"] {
        world.state(id, "stored").await;
    }
    let files = world.files("two");
    assert_eq!(files.len(), 2);
    for file in &files {
        assert_eq!((file["type"].as_str(), file["bytes"].as_u64()), (Some("image/png"), Some(FILE.len() as u64)));
        let url = file["url"].as_str().unwrap().replace("http://gate.example.org", "");
        let got = http1::once(world.daemon.public, "GET", &url, &[], b"").await.unwrap();
        assert_eq!(got.body, FILE);
    }
    for from in ["ana", "bob", "cai", "dia"] {
        assert_eq!(world.types(from), ["message.created"], "waited for, not told twice");
    }
    assert_eq!(world.media.credentials("/a"), [Some(format!("Bearer {TOKEN}"))]);
    world.receiver.no_complaints();
}

#[tokio::test]
async fn what_goes_wrong_with_a_file_is_told_and_the_message_is_not_lost() {
    let storage = MediaServer::start(None).await;
    let media = MediaServer::start(Some(storage.address)).await;
    let world = World::start(media, &storage.url(""), "20s").await;
    let inside = MediaServer::start(None).await;
    let cases: BTreeMap<&str, (Value, &str, Option<&str>)> = BTreeMap::from([
        ("cut", (world.file("/cut"), "stored", None)),
        ("late", (world.file("/late"), "stored", None)),
        ("away", (world.file("/away"), "stored", None)),
        ("expired", (world.file("/expired"), "unavailable", Some("media_denied"))),
        ("inside", (world.file("/inside"), "unavailable", Some("egress_refused"))),
        ("private", (json!({"url": inside.url("/a")}), "unavailable", Some("egress_refused"))),
        ("metadata", (json!({"url": "http://169.254.169.254/latest/meta-data"}), "unavailable", Some("egress_refused"))),
        ("no_url", (json!({"url": "file:///etc/passwd"}), "unavailable", Some("media_not_fetched"))),
        ("round", (world.file("/round"), "unavailable", Some("media_refused"))),
        ("login", (world.file("/login"), "unavailable", Some("media_refused"))),
        ("said_large", (world.file("/said_large"), "unavailable", Some("attachment_too_large"))),
        ("endless", (world.file("/endless"), "unavailable", Some("attachment_too_large"))),
        ("told_large", (json!({"url": world.media.url("/told"), "bytes": 2_000_000}), "unavailable", Some("attachment_too_large"))),
        ("redirected", (json!({"url": world.media.url("/away?strict"), "recipe": "strict"}), "unavailable", Some("media_refused"))),
        ("hash", (json!({"id": "wrong_hash", "recipe": "two_steps"}), "unavailable", Some("media_given_up"))),
        ("no_recipe", (json!({"url": world.media.url("/none"), "recipe": "none"}), "unavailable", Some("media_not_fetched"))),
    ]);
    for (id, (file, ..)) in &cases {
        world.say(id, id, json!([file])).await;
    }
    for (id, (_, state, reason)) in &cases {
        world.state(id, state).await;
        assert_eq!(world.files(id)[0]["reason"].as_str(), *reason, "{id}");
        assert!(world.files(id)[0]["url"].is_null() == (*state != "stored"), "{id}");
    }
    assert_eq!(storage.credentials("/there"), [None], "no credential across origins");
    assert_eq!(world.media.credentials("/away"), [Some(format!("Bearer {TOKEN}"))]);
    assert!(inside.asked.lock().unwrap().is_empty());
    assert_eq!(world.media.count("/told"), 0);
    // Nothing of what was cut or refused is left.
    let kept = walk(&world.daemon.data_dir().join("blobs/media"));
    assert_eq!(kept, 3, "cut, late, away");
    let scrape = world.daemon.scrape().await;
    assert_eq!(scrape.sum("omnigate_items", &[("fate", "pending")]), 0);
    assert!(!world.daemon.log_text().contains(TOKEN));
    world.receiver.no_complaints();
}

#[tokio::test]
async fn a_slow_file_is_told_later_and_the_conversation_keeps_its_order() {
    let media = MediaServer::start(None).await;
    let storage = media.url("");
    let world = World::start(media, &storage, "1s").await;
    world.say("slow", "ana", json!([world.file("/slow"), world.file("/a")])).await;
    world.say("after", "ana", json!([])).await;
    world.say("other", "bob", json!([])).await;
    world.until("bob is not delayed", |world| world.types("bob").len() == 1).await;
    assert!(world.types("ana").is_empty(), "the second message waits behind the first");
    world.until("published with what is there", |world| world.types("ana").len() >= 2).await;
    let first = world.files("slow");
    assert_eq!((first[0]["state"].as_str(), first[1]["state"].as_str()), (Some("pending"), Some("stored")));
    world.state("slow", "stored").await;
    assert_eq!(world.types("ana"), ["message.created", "message.created", "message.updated"]);
    let book = world.receiver.book();
    let update = book.taken().into_iter().find(|delivery| delivery.event_type == "message.updated").unwrap().event.clone();
    assert_eq!(update["data"]["changed"], json!(["attachments"]));
    assert_eq!(update["data"]["attachments"].as_array().unwrap().len(), 2, "all of them");
    assert_eq!(update["data"]["attachments_changed"], json!([first[0]["id"]]), "and which of them came now");
    assert_eq!(update["data"]["sequence"], 3);
    drop(book);
    world.receiver.no_complaints();
}

#[tokio::test]
async fn files_are_fetched_after_a_kill_whether_their_message_was_out_or_not() {
    let media = MediaServer::start(None).await;
    let storage = media.url("");
    let mut world = World::start(media, &storage, "3s").await;
    world.say("out", "ana", json!([world.file("/hang")])).await;
    world.until("published pending", |world| world.files("out").first().is_some_and(|file| file["state"] == "pending")).await;
    world.say("waiting", "bob", json!([world.file("/hang")])).await;
    world.until("asked", |world| world.media.count("/hang") == 2).await;
    world.daemon.kill();
    assert!(world.types("bob").is_empty());
    world.media.hanging.store(false, Ordering::Release);
    world.daemon.launch();
    world.daemon.ready().await;
    world.state("out", "stored").await;
    world.state("waiting", "stored").await;
    assert_eq!(world.types("ana"), ["message.created", "message.updated"]);
    assert_eq!(world.types("bob"), ["message.created"]);
    world.receiver.no_complaints();
}

#[tokio::test]
async fn files_of_a_channel_that_fetches_none_any_more_are_given_up_though_no_other_channel_does() {
    let media = MediaServer::start(None).await;
    let storage = media.url("");
    let mut world = World::start(media, &storage, "1s").await;
    world.say("out", "ana", json!([{"id": "hang", "recipe": "two_steps"}])).await;
    let said = Instant::now();
    world.state("out", "pending").await;
    world.daemon.kill();
    let plain = CONNECTOR.split("[media.default]").next().unwrap().replace("\"files\"", "\"plain\"");
    world.daemon.setup.connector("plain", &plain, MAP);
    let channel = world.daemon.setup.channels["desk"].replace("\"files\"", "\"plain\"");
    world.daemon.setup.channels.insert("desk".to_owned(), channel);
    world.daemon.write_config();
    // Until its recipe says that the platform has it no longer, the channel may come back.
    tokio::time::sleep(Duration::from_secs(6).saturating_sub(said.elapsed())).await;
    world.daemon.launch();
    world.daemon.ready().await;
    world.state("out", "unavailable").await;
    assert_eq!(world.files("out")[0]["reason"], "media_given_up");
    world.receiver.no_complaints();
}

fn walk(folder: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.flatten().map(|entry| if entry.path().is_dir() { walk(&entry.path()) } else { 1 }).sum()
}
