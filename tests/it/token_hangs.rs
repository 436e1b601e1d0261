//! Token endpoints that hang: one never answers, one answers half, one after everybody has gone. What needs no token of theirs goes on, a
//! person reads what is wrong, nobody asks twice at once, and what can go on by itself does.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::identity::Hold;
use crate::token_roads::{World, arrives, events, messages, until};

/// Longer than a question may take.
const TOO_LATE: Duration = Duration::from_secs(21);

/// A shop, and the file of its channel as `name`.
async fn shop(name: &str) -> (World, String) {
    let world = World::new("\"poll\"").await.consented();
    let channel = world.setup.channels["desk"].replace("FIRST", &format!("FIRST_{}", name.to_uppercase()));
    (world, channel)
}

async fn status(daemon: &Daemon, channel: &str) -> Value {
    daemon.get("/v1/status").await["channels"][channel].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn token_endpoints_that_hang_hold_up_nobody_else_and_are_named() {
    let names = ["well", "never", "half", "late"];
    let mut shops = BTreeMap::new();
    let mut setup = None;
    for name in names {
        let (world, channel) = shop(name).await;
        let all = setup.get_or_insert_with(|| {
            let mut first = world.setup.clone();
            first.channels.clear();
            first
        });
        all.channels.insert(name.to_owned(), channel);
        all.env.insert(format!("FIRST_{}", name.to_uppercase()), world.setup.env["FIRST"].clone());
        shops.insert(name, world);
    }
    let number = |name: &str, number: u64| 100 * names.iter().position(|known| *known == name).unwrap() as u64 + number;
    for (name, world) in &shops {
        world.lists([number(name, 1)]);
        // Who gives a successor takes the old one no more: a successor that is lost is lost.
        world.identity.book().rotate = *name == "late";
    }
    let daemon = Daemon::start(setup.unwrap()).await;
    arrives(&daemon, names.map(|name| number(name, 1))).await;

    // All tokens end; of four endpoints three hang.
    for (name, world) in &shops {
        let mut book = world.identity.book();
        book.access.clear();
        book.hold = match *name {
            "never" => Hold::Never,
            "half" => Hold::Half,
            "late" => Hold::Late(TOO_LATE),
            _ => Hold::Said,
        };
    }
    shops.iter().for_each(|(name, world)| world.lists([number(name, 2)]));
    arrives(&daemon, [number("well", 2)]).await;
    for name in ["never", "half"] {
        let degraded =
            until("degraded", &daemon, async || Some(status(&daemon, name).await).filter(|now| now["state"] == "degraded")).await;
        assert_eq!(degraded["code"], "unreachable", "{degraded}");
        let detail = degraded["detail"].as_str().unwrap();
        let place = shops[name].identity.address;
        assert!(detail.starts_with(&format!("identity provider {place}: no answer")) && detail.ends_with("in 20 s"), "{detail}");
    }
    // Its first answer held the only good refresh token, and came when nobody waited: a person must log in, and is told why.
    until("lost", &daemon, async || (status(&daemon, "late").await["code"] == "unreachable").then_some(())).await;
    shops["late"].identity.book().hold = Hold::Said;
    let late = until("expired", &daemon, async || Some(status(&daemon, "late").await).filter(|now| now["code"] == "consent_expired")).await;
    assert!(late["detail"].as_str().unwrap().contains("was lost"), "{late}");
    shops["well"].lists([number("well", 3)]);
    arrives(&daemon, [number("well", 3)]).await;
    let told =
        |name: &str| events(&daemon).iter().any(|event| event["type"] == "channel.degraded" && event["data"]["channel"]["id"] == *name);
    assert!(["never", "half", "late"].iter().all(|name| told(name)) && !told("well"));

    // They answer again: what only waited goes on.
    shops.values().for_each(|world| world.identity.book().hold = Hold::Said);
    arrives(&daemon, ["never", "half"].map(|name| number(name, 2))).await;
    for name in ["never", "half"] {
        until("running", &daemon, async || (status(&daemon, name).await["state"] == "running").then_some(())).await;
        let book = shops[name].identity.book();
        assert_eq!(book.open_max, 1, "{name}: one question at a time");
        // One at the start, two or three that hung, one that was answered.
        assert!(book.asked.len() <= 5, "{name}: {} questions", book.asked.len());
    }
    assert_eq!(messages(&daemon).len(), 8, "each once; what is behind the lost consent is not there yet");
    let log = daemon.log_text();
    assert!(!log.contains("refresh-") && !log.contains("access-"), "I7");
}
