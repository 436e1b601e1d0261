//! A message that is everything at once: an album in parts whose files and names have to be asked for, by two roads, across kills.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::contract;
use crate::support::daemon::{Daemon, Setup};
use crate::support::media_server::MediaServer;
use crate::support::own_chat;
use crate::support::platform::{Platform, said};
use crate::support::receiver::{Book, Receiver};

const MORE: &str = r#"
[enrich]
request = { get = "{settings.store}/who/{sender.id}", auth = "bot" }
map = '{name}'
rate = "100/1h"
wait = "300ms"
[coalesce]
window = "30s"
glue = "\n"
[media.default]
fetch = [{ request = { get = "{attachment.url}", auth = "bot" } }]
[poll.all]
items = "/items"
id = ".id"
interval = "1s"
from_now = "take"
cursor = { each = ".id" }
[poll.all.request]
get = "{settings.api}/all"
query = { since = "{cursor}" }
within = "2s"
"#;

const MAP: &str = r#"(.items // [.])[] | {kind: "message", key: .id, from: {address: "chat:\(.from)"}, conversation: .from, text: .id,
    part_of: .album, part, parts, attachments: .files}"#;

struct World {
    daemon: Daemon,
    receiver: Receiver,
    store: MediaServer,
    platform: Platform,
}

impl World {
    async fn start() -> Self {
        let (store, receiver) = (MediaServer::start(None).await, Receiver::start().await);
        let platform = Platform::start(|_| said(&json!({"items": []}))).await;
        let mut setup = Setup::all_to(&receiver.url());
        setup.rest.push_str("[attachments]\nmedia_wait = \"60s\"\n[files]\npublic_url = \"http://gate.example.org\"\n");
        let addresses = [("api", format!("http://{}", platform.address)), ("store", store.url(""))];
        setup.own_chat("mode = [\"webhook\", \"poll\"]\n", &addresses, MORE, MAP);
        Self { daemon: Daemon::start(setup).await, receiver, store, platform }
    }

    fn part(&self, id: u64, part: u64) -> Value {
        let file = json!({"url": self.store.url(&format!("/hang?{id}")), "type": "image/png"});
        json!({"id": format!("{id}"), "from": "ana", "album": "summer", "part": part, "parts": 2, "files": [file]})
    }

    async fn say(&self, item: &Value) {
        let answer = own_chat::call(&self.daemon, item).await;
        assert!(answer.success(), "{}", answer.start);
    }

    async fn until(&self, what: &str, mut fits: impl FnMut(&Self) -> bool) {
        let from = Instant::now();
        while !fits(self) {
            assert!(from.elapsed() < Duration::from_secs(30), "not within 30 s: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn kill_and_start(&mut self) {
        self.daemon.kill();
        self.daemon.launch();
        self.daemon.ready().await;
    }
}

#[tokio::test]
async fn an_album_by_two_roads_across_kills_is_one_message_with_its_files_and_before_what_came_after_it() {
    let mut world = World::start().await;
    let (first, second) = (world.part(1, 1), world.part(2, 2));
    let after = json!({"id": "3", "from": "ana", "files": []});
    // The second part comes first, and the other one only after a kill, by the other road, with the known one once more.
    world.say(&second).await;
    world.say(&after).await;
    world.kill_and_start().await;
    let page = json!({"items": [first.clone(), second.clone(), after.clone()]});
    world.platform.now(move |target| if target.contains("since=3") { said(&json!({"items": []})) } else { said(&page) });
    // Both files are being fetched, and neither comes.
    world.until("both files asked for", |world| ["1", "2"].iter().all(|id| world.store.count(&format!("/hang?{id}")) > 0)).await;
    world.kill_and_start().await;
    eprintln!(
        "{:?}\n{:#?}",
        world.store.asked.lock().unwrap(),
        world
            .receiver
            .book()
            .events()
            .iter()
            .map(|e| (e["timestamp"].clone(), e["data"]["message"]["attachments"].clone()))
            .collect::<Vec<_>>()
    );
    assert!(world.receiver.book().taken().is_empty(), "what waits for its files is not told before");
    world.say(&first).await;
    world.store.hanging.store(false, Ordering::Release);
    world.receiver.wait_for("the album and what follows", Duration::from_secs(30), |book: &Book| book.taken().len() >= 2).await;
    world.daemon.settled(Duration::from_secs(30)).await.identities_hold();

    let book = world.receiver.book();
    let events = book.events();
    events.iter().copied().for_each(contract::assert_valid);
    let told: Vec<_> = events.iter().map(|event| (event["type"].as_str().unwrap(), event["data"]["sequence"].as_u64().unwrap())).collect();
    assert_eq!(told, [("message.created", 1), ("message.created", 2)], "{events:#?}");
    let album = &events[0]["data"]["message"];
    assert_eq!((album["text"].as_str(), album["from"]["name"].as_str()), (Some("1\n2"), Some("Ana Example")));
    let files: Vec<_> = album["attachments"].as_array().unwrap().iter().map(|file| file["state"].as_str().unwrap()).collect();
    assert_eq!(files, ["stored", "stored"]);
    assert_eq!(events[1]["data"]["message"]["text"], "3");
    drop(book);
    world.receiver.no_complaints();
}
