//! Polls whose answers say 200 and are broken: half a page, a page of something in between, a list that is none. They are asked for again
//! soon, a person hears of what stays broken, and other lists go on meanwhile.

use std::collections::VecDeque;

use omnigate::connector::poll::lane::Begin;
use serde_json::json;

use crate::polls::{ACCOUNT, BACKWARD, FORWARD, World, backward, forward, items, reader};
use crate::support::platform::{Answer, Platform, query, said};

fn plain(body: &str) -> Answer {
    Answer::Plain(200, Vec::new(), body.to_owned())
}

/// What comes with 200 in place of a page.
fn broken() -> Vec<Answer> {
    let html = Answer::Plain(200, vec![("content-type", "text/html".to_owned())], "<html><h1>Please wait</h1></html>".to_owned());
    vec![plain("{\"items\": [{\"id\": 1}, {\"i"), html, plain(""), plain("{\"status\": \"maintenance\"}"), plain("[]"), Answer::Cut]
}

/// Good pages with these between them.
fn between(mut bad: VecDeque<Answer>, mut good: impl FnMut(&str) -> Answer + Send) -> impl FnMut(&str) -> Answer + Send {
    let mut count = 0;
    move |target| {
        count += 1;
        let bad = if count % 2 == 0 { bad.pop_front() } else { None };
        bad.unwrap_or_else(|| good(target))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_page_is_asked_for_again_at_once_and_nothing_is_lost() {
    let platform = Platform::start(between(broken().into(), forward(30))).await;
    let reader = reader(FORWARD, &platform, json!({}));
    let mut world = World::new();
    world.run(&reader, Begin::FromNow);
    // Within its bound: each costs one short pause, as a session that brought something begins anew soon.
    world.has(30).await;
    world.end().await;
    assert_eq!(world.texts().await, (1..=30).collect::<Vec<_>>());
    assert_eq!(world.duplicates().await, 0);
    world.gate.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_from_new_to_old_survives_broken_pages_in_its_middle() {
    let platform = Platform::start(backward(1)).await;
    let reader = reader(BACKWARD, &platform, json!({}));
    let mut world = World::new();
    world.run(&reader, Begin::FromNow);
    world.until("the first look", async || world.gate.store().cursors(ACCOUNT).await.unwrap().contains_key("cursor/all")).await;
    // Every third question, so that a walk which begins anew comes to its end.
    let (mut bad, mut good, mut count) = (VecDeque::from(broken()), backward(7), 0);
    bad.truncate(3);
    platform.now(move |target| {
        count += 1;
        let bad = if count % 3 == 0 { bad.pop_front() } else { None };
        bad.unwrap_or_else(|| good(target))
    });
    world.has(6).await;
    world.end().await;
    assert_eq!(world.texts().await, (2..=7).collect::<Vec<_>>());
    assert_eq!(world.duplicates().await, 0);
    world.gate.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_broken_is_told_and_mends_itself() {
    let platform = Platform::start(forward(2)).await;
    let reader = reader(FORWARD, &platform, json!({}));
    let mut world = World::new();
    world.run(&reader, Begin::FromNow);
    world.has(2).await;
    platform.now(|_| plain("<html>"));
    world.until("it is told", async || world.board.read()["desk"].state == "degraded").await;
    let status = world.board.read()["desk"].clone();
    assert_eq!(status.code.as_deref(), Some("protocol"));
    let detail = status.detail.unwrap();
    assert_eq!(detail, format!("{}: an answer of 6 bytes is no JSON", platform.address));
    platform.now(forward(4));
    world.has(4).await;
    world.until("it works", async || world.board.read()["desk"].state == "running").await;
    world.end().await;
    assert_eq!(world.texts().await, [1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_broken_or_fails_alone_does_not_hold_up_the_others() {
    let failures: [fn() -> Answer; 3] = [|| plain("{\"items\": ["), || Answer::Plain(500, Vec::new(), String::new()), || plain("{}")];
    let poll =
        FORWARD.replace("{settings.api}/all", "{settings.api}/{part}").replacen("interval", "parts = { setting = \"rooms\" }\ninterval", 1);
    for failure in failures {
        let platform = Platform::start(move |target| if target.starts_with("/bad") { failure() } else { forward(3)(target) }).await;
        let reader = reader(&poll, &platform, json!({"rooms": ["bad", "good"]}));
        let mut world = World::new();
        world.run(&reader, Begin::FromNow);
        world.has(3).await;
        world.until("it is told", async || world.board.read()["desk"].code.is_some()).await;
        let status = world.board.read()["desk"].clone();
        assert_eq!(status.state, "running");
        assert!(status.detail.unwrap().contains("bad"));
        // Meanwhile the other list is heard.
        platform.now(move |target| if target.starts_with("/bad") { failure() } else { forward(6)(target) });
        world.has(6).await;
        platform.now(|target| {
            let since: u64 = query(target, "since").and_then(|text| text.parse().ok()).unwrap_or(0);
            if target.starts_with("/bad") { said(&json!({ "items": items(since.max(100) + 1..=102) })) } else { forward(6)(target) }
        });
        world.has(8).await;
        world.until("nothing is told any more", async || world.board.read()["desk"].code.is_none()).await;
        world.end().await;
        let mut texts = world.texts().await;
        texts.sort_unstable();
        assert_eq!(texts, [1, 2, 3, 4, 5, 6, 101, 102]);
        world.gate.check_invariants().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_every_list_fails_the_channel_does() {
    let poll =
        FORWARD.replace("{settings.api}/all", "{settings.api}/{part}").replacen("interval", "parts = { setting = \"rooms\" }\ninterval", 1);
    let platform = Platform::start(|_| plain("<html>")).await;
    let reader = reader(&poll, &platform, json!({"rooms": ["one", "two"]}));
    let mut world = World::new();
    world.run(&reader, Begin::FromNow);
    world.until("it is told", async || world.board.read()["desk"].state == "degraded").await;
    platform.now(|target| if target.starts_with("/one") { forward(2)(target) } else { said(&json!({ "items": [] })) });
    world.has(2).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_before_and_after_a_list_may_come_broken_too() {
    let register = "[poll.events]\nitems = \"/items\"\nid = \".id\"\ninterval = \"1s\"\ncursor = { from = \"[.items[].id] | max\" }\n\
        register = { request = { post = \"{settings.api}/register\" }, take = { queue = \".queue\" } }\n\
        parts = { request = { get = \"{settings.api}/rooms\" }, from = \".rooms[]?\" }\n\
        [poll.events.request]\nget = \"{settings.api}/events/{session.queue}\"\nquery = { since = \"{cursor}\" }\n";
    let parts = FORWARD.replace("{settings.api}/all", "{settings.api}/{part}").replacen(
        "interval",
        "parts = { request = { get = \"{settings.api}/rooms\" }, from = \".rooms[]?\" }\ninterval",
        1,
    );
    let follow = format!("{FORWARD}[poll.all.follow.request]\nget = \"{{settings.api}}/more/{{item.id}}\"\n");
    let register = register.lines().filter(|line| !line.trim_start().starts_with("parts")).collect::<Vec<_>>().join("\n");
    for (poll, asked) in [(register, "/register"), (parts, "/rooms"), (follow, "/more")] {
        let mut bad = VecDeque::from([plain("{\"roo"), plain("<html>"), Answer::Cut]);
        let platform = Platform::start(move |target| {
            if target.starts_with(asked)
                && let Some(bad) = bad.pop_front()
            {
                return bad;
            }
            match target.split('/').nth(1).unwrap().split('?').next().unwrap() {
                "register" => said(&json!({"queue": "q1"})),
                "rooms" => said(&json!({"rooms": ["r1"]})),
                "more" => said(&json!({"whole": true})),
                _ => forward(4)(target),
            }
        })
        .await;
        let reader = reader(&poll, &platform, json!({}));
        let mut world = World::new();
        world.run(&reader, Begin::FromNow);
        world.has(4).await;
        world.end().await;
        assert_eq!(world.texts().await, [1, 2, 3, 4], "{asked}");
        world.gate.check_invariants().await;
    }
}
