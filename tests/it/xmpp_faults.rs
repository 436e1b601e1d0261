//! XMPP on a bad day: a scripted server breaks off in every way there is, refuses for a moment and for good, sends from host to host, stops
//! answering, and fails to tell what its archive keeps. Nothing is missing, nothing is doubled.

use std::time::Duration;

use crate::support::daemon::{Daemon, Setup};
use crate::support::jabber::{Jabber, channel, message};
use crate::support::live::{archived, texts, told};
use crate::token_roads::until;

/// `chats`: channels and their files.
fn setup(chats: impl IntoIterator<Item = (&'static str, String)>) -> Setup {
    let mut setup = archived();
    setup
        .channels
        .extend(chats.into_iter().map(|(name, file)| (name.to_owned(), file.replace("account = \"desk", &format!("account = \"{name}")))));
    setup.env.insert("CHAT_SECRET".to_owned(), "a-secret-only-for-tests".to_owned());
    setup
}

async fn has(daemon: &Daemon, channel: &str, count: usize) {
    until(&format!("{count} of {channel}"), daemon, async || (texts(daemon, channel).len() >= count).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_breaks_off_in_every_way_is_asked_for_what_was_missed_and_nothing_comes_twice() {
    let ends: Vec<Vec<u8>> = vec![
        b"<stream:error><system-shutdown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>".to_vec(),
        b"</stream:stream>".to_vec(),
        // Inside of a stanza, and inside of a tag.
        message(900).as_bytes()[..70].to_vec(),
        message(901).as_bytes()[..30].to_vec(),
        // Larger than a stanza may be.
        format!("<message id='m902'><body>{}", "x".repeat(300_000)).into_bytes(),
        // What a stream must not hold, and what would grow.
        b"<!DOCTYPE lolz [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>]><message id='m903'><body>&b;</body></message>".to_vec(),
        b"<!-- hello --><message id='m904'><body>hello</body></message>".to_vec(),
        b"<?php system('x') ?>".to_vec(),
        "<a>".repeat(100).into_bytes(),
        b"<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>".to_vec(),
    ];
    let server = Jabber::start().await;
    let mut daemon = Daemon::prepare(setup([("chat", channel(server.address(), &[]))]));
    daemon.launch();
    let mut line = server.bound().await;
    let mut number = 0;
    for end in ends {
        // Live; once more; and while nobody listens.
        number += 1;
        line.say(&message(number)).await;
        line.say(&message(number)).await;
        has(&daemon, "chat", number as usize).await;
        line.bytes(&end).await;
        drop(line);
        number += 1;
        line = server.bound().await;
        // The first of what it tells is known.
        line.tell(1..=number).await;
        has(&daemon, "chat", number as usize).await;
    }
    daemon.ready().await;
    daemon.settled(Duration::from_secs(60)).await.identities_hold();
    let wanted: Vec<String> = (1..=number).map(|number| format!("message {number}")).collect();
    assert_eq!(texts(&daemon, "chat"), wanted, "each once, in order");
    assert!(!daemon.log_text().contains("a-secret-only"), "I7");
    drop(line);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_is_refused_for_a_moment_is_tried_again_soon_and_one_that_is_refused_is_for_a_person() {
    let failure = |name: &str| format!("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><{name}/></failure></stream:stream>");
    let moment = [
        failure("temporary-auth-failure"),
        failure("aborted"),
        "</stream:stream>".to_owned(),
        "<stream:error><resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>".to_owned(),
    ];
    let (passing, lasting) = (Jabber::start().await, Jabber::start().await);
    let setup = setup([("passing", channel(passing.address(), &[])), ("lasting", channel(lasting.address(), &[]))]);
    let refused = tokio::spawn(async move {
        let mut line = lasting.line().await;
        line.offers().await;
        line.until("</auth>").await;
        line.say("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><text>wrong</text><not-authorized/></failure>").await;
        line.gone().await;
        // A wrong password that is tried again and again locks accounts.
        lasting.line().await;
    });
    let mut daemon = Daemon::prepare(setup);
    daemon.launch();
    for refusal in moment {
        let mut line = passing.line().await;
        line.offers().await;
        line.until("</auth>").await;
        line.say(&refusal).await;
        line.gone().await;
    }
    let mut line = passing.bound().await;
    line.say(&message(1)).await;
    has(&daemon, "passing", 1).await;
    daemon.ready().await;
    until("recovered", &daemon, async || (told(&daemon, "passing").len() == 2).then_some(())).await;
    assert_eq!(told(&daemon, "passing")[0], ("channel.degraded".to_owned(), "unreachable".to_owned()));
    assert_eq!(told(&daemon, "lasting"), [("channel.degraded".to_owned(), "auth_failed".to_owned())]);
    let detail = daemon.get("/v1/status").await["channels"]["lasting"]["detail"].to_string();
    assert!(detail.contains("refuses the log-in: not-authorized"), "{detail}");
    assert!(!refused.is_finished(), "a person's matter is not tried again within seconds");
    refused.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_names_another_host_is_followed_but_not_in_circles() {
    let (first, second, circle) = (Jabber::start().await, Jabber::start().await, Jabber::start().await);
    let elsewhere = |host: &str| {
        format!(
            "<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>{host}</see-other-host></stream:error></stream:stream>"
        )
    };
    let mut daemon = Daemon::prepare(setup([("moved", channel(first.address(), &[])), ("circle", channel(circle.address(), &[]))]));
    daemon.launch();
    let (to_itself, here) = (elsewhere(&circle.address().to_string()), circle.address());
    let going_round = tokio::spawn(async move {
        let mut count = 0_u32;
        loop {
            let mut line = circle.line().await;
            line.offers().await;
            line.until("</auth>").await;
            line.say(&to_itself).await;
            line.gone().await;
            count += 1;
            if count == 6 {
                return;
            }
        }
    });
    let mut line = first.line().await;
    line.offers().await;
    line.until("</auth>").await;
    line.say(&elsewhere(&second.address().to_string())).await;
    let mut line = second.bound().await;
    line.say(&message(1)).await;
    has(&daemon, "moved", 1).await;
    // Three hosts a try; after the second try it is told.
    going_round.await.unwrap();
    until("told", &daemon, async || (!told(&daemon, "circle").is_empty()).then_some(())).await;
    daemon.ready().await;
    assert_eq!((told(&daemon, "circle")[0].1.as_str(), told(&daemon, "moved")), ("unreachable", Vec::new()));
    assert!(here.port() > 0 && daemon.get("/v1/status").await["channels"]["circle"]["detail"].to_string().contains("see-other-host"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_answering_is_left_and_the_archive_tells_the_rest() {
    let server = Jabber::start().await;
    let mut setup = setup([("chat", channel(server.address(), &[]))]);
    let (manifest, map) = own("xmpp", "ping = { every = \"1s\", within = \"1s\" }\n");
    setup.connector("xmpp", &manifest, &map);
    let mut daemon = Daemon::prepare(setup);
    daemon.launch();
    let mut line = server.bound().await;
    line.say(&message(1)).await;
    has(&daemon, "chat", 1).await;
    // White space is a sign of life.
    for _ in 0..4 {
        line.say(" \n").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    line.until("urn:xmpp:ping").await;
    // It is there, hears, and says nothing.
    let mut next = server.bound().await;
    next.tell(1..=2).await;
    next.say(&message(3)).await;
    has(&daemon, "chat", 3).await;
    daemon.ready().await;
    daemon.settled(Duration::from_secs(60)).await.identities_hold();
    assert_eq!(texts(&daemon, "chat"), ["message 1", "message 2", "message 3"]);
    drop((line, next));
}

/// A shipped connector with a line more in its `[stream]`.
pub fn own(name: &str, line: &str) -> (String, String) {
    let read = |file: &str| std::fs::read_to_string(format!("{}/connectors/{name}/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let manifest = read("connector.toml").replacen("[stream]\n", &format!("[stream]\n{line}"), 1);
    assert!(manifest.contains(line));
    (manifest, read("map.jq"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_does_not_answer_holds_up_no_other_and_an_archive_that_fails_is_told() {
    let server = Jabber::start().await;
    let mut daemon = Daemon::prepare(setup([("chat", channel(server.address(), &["mute@rooms.example.org", "help@rooms.example.org"]))]));
    daemon.launch();
    let us = |room: &str| {
        let code = "<x xmlns='http://jabber.org/protocol/muc#user'><status code='110'/></x>";
        format!("<presence from='{room}@rooms.example.org/desk' to='desk@example.org/omnigate-1'>{code}</presence>")
    };
    let said = |room: &str, number: u32| {
        format!("<message from='{room}@rooms.example.org/zoe' type='groupchat' id='r{number}'><body>message {number}</body></message>")
    };
    let mut line = server.bound().await;
    line.until("help@rooms.example.org/desk").await;
    line.say(&us("help")).await;
    line.say(&said("help", 1)).await;
    has(&daemon, "chat", 1).await;
    daemon.ready().await;
    until("told", &daemon, async || (daemon.get("/v1/status").await["channels"]["chat"]["code"] == "no_folder").then_some(())).await;
    let status = daemon.get("/v1/status").await["channels"]["chat"].clone();
    assert_eq!(status["state"], "running");
    assert!(status["detail"].to_string().contains("mute@rooms.example.org: no answer"), "{status}");
    // It answers after all.
    line.say(&us("mute")).await;
    line.say(&said("mute", 2)).await;
    has(&daemon, "chat", 2).await;
    drop(line);
    // Both are there, and the archive of the account is in trouble: that does not end the stream.
    let mut line = server.bound().await;
    line.say(&us("mute")).await;
    line.say(&us("help")).await;
    let id = line.asked().await;
    let wait = "<error type='wait'><internal-server-error xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
    // Somebody else's answer is none.
    line.say(&format!("<iq type='result' id='{id}' from='eve@example.com/x'><fin xmlns='urn:xmpp:mam:2' complete='true'/></iq>")).await;
    line.say(&format!("<iq type='error' id='{id}' from='desk@example.org'>{wait}</iq>")).await;
    line.say(&said("help", 3)).await;
    has(&daemon, "chat", 3).await;
    until("told", &daemon, async || (daemon.get("/v1/status").await["channels"]["chat"]["code"] == "unreachable").then_some(())).await;
    let detail = daemon.get("/v1/status").await["channels"]["chat"]["detail"].to_string();
    assert!(detail.contains("the archive of the account: internal-server-error"), "{detail}");
    assert_eq!(texts(&daemon, "chat").len(), 3);
}
