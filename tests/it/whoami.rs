//! Who we are at a platform: asked at start, kept, and waited for before anything is read.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::daemon::{Daemon, Setup};
use crate::support::media_server::MediaServer;
use crate::support::own_chat::{self, TOKEN};
use crate::support::receiver::Receiver;

const WHOAMI: &str = r#"
[codes]
own_echo = "Ours."
[whoami]
request = { get = "{settings.api}/me", auth = "bot" }
take = { user = ".user" }
"#;

const MAP: &str = r#".from as $from | if any($own.user[]?; . == $from) then ignored("own_echo")
else {kind: "message", key: .id, from: {address: "chat:\(.from)"}, text: .id} end"#;

async fn say(daemon: &Daemon, id: &str, from: &str) -> u16 {
    own_chat::call(daemon, &json!({"id": id, "from": from})).await.status()
}

async fn taken(daemon: &Daemon, id: &str, from: &str) {
    let started = Instant::now();
    while say(daemon, id, from).await != 200 {
        assert!(started.elapsed() < Duration::from_secs(20), "{}", daemon.log_end(20));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn nothing_is_read_before_it_is_known_who_we_are_and_then_it_is_known_for_good() {
    let platform = MediaServer::start(None).await;
    let receiver = Receiver::start().await;
    let mut setup = Setup::all_to(&receiver.url());
    setup.own_chat("", &[("api", platform.url(""))], WHOAMI, MAP);
    let mut daemon = Daemon::start(setup).await;

    assert_eq!(say(&daemon, "early", "ana").await, 503, "the platform comes again");
    let started = Instant::now();
    while daemon.get("/v1/status").await["channels"]["desk"]["code"] != "own_unknown" {
        assert!(started.elapsed() < Duration::from_secs(10), "{}", daemon.get("/v1/status").await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    platform.hanging.store(false, Ordering::Release);
    taken(&daemon, "early", "ana").await;
    assert_eq!(daemon.get("/v1/status").await["channels"]["desk"]["state"], "running");
    assert_eq!(say(&daemon, "echo", "bot-1").await, 200);
    assert_eq!(platform.credentials("/me").last().unwrap().as_deref(), Some(format!("Bearer {TOKEN}").as_str()));

    daemon.kill();
    platform.hanging.store(true, Ordering::Release);
    daemon.launch();
    daemon.ready().await;
    taken(&daemon, "echo again", "bot-1").await;
    taken(&daemon, "late", "ana").await;
    receiver.wait_for("both words of the customer", Duration::from_secs(20), |book| book.taken().len() == 2).await;
    let texts: Vec<String> = receiver.book().taken().iter().map(|delivery| delivery.text("/message/text").to_owned()).collect();
    assert_eq!(texts, ["early", "late"]);
    receiver.no_complaints();
}
