//! Gaps of Slack's Socket Mode and Discord's Gateway over the whole road: what the platform does not repeat is asked for in its history, what comes by
//! both roads is one message, and the gateway is killed in between.

use std::time::{Duration, Instant};

use crate::support::daemon::{Daemon, Setup};
use crate::support::pushing::{Manner, Pusher};
use crate::support::receiver::Receiver;

const PATIENCE: Duration = Duration::from_secs(120);

fn setup(receiver: &Receiver, channel: String) -> Setup {
    let mut setup = Setup::all_to(&receiver.url());
    setup.channels.insert("team".to_owned(), channel);
    setup.env.extend([("APP_TOKEN", "xapp-1"), ("BOT_TOKEN", "b0t")].map(|(name, value)| (name.to_owned(), value.to_owned())));
    setup
}

/// Texts of created messages, in the order they came.
fn texts(receiver: &Receiver) -> Vec<String> {
    let book = receiver.book();
    let created = book.taken().into_iter().filter(|one| one.event_type == "message.created");
    created.map(|one| one.text("/message/text").to_owned()).collect()
}

async fn came(receiver: &Receiver, daemon: &Daemon, count: usize) {
    let from = Instant::now();
    while texts(receiver).len() < count {
        assert!(from.elapsed() < PATIENCE, "{count} wanted: {:?}\n{}", texts(receiver), daemon.log_end(40));
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

async fn until(what: &str, daemon: &Daemon, holds: impl Fn() -> bool) {
    let from = Instant::now();
    while !holds() {
        assert!(from.elapsed() < PATIENCE, "not in time: {what}\n{}", daemon.log_end(40));
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// Says this many more; what was said so far.
fn say(said: &mut Vec<String>, count: usize, how: impl Fn(&str)) {
    for _ in 0..count {
        said.push(format!("message {}", said.len()));
        how(&said[said.len() - 1]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slacks_history_fills_what_socket_mode_gave_up_and_what_both_bring_is_one_message() {
    let (receiver, pusher) = (Receiver::start().await, Pusher::start(Manner::Slack, false, 1).await);
    let channel = format!(
        "connector = \"slack\"\nmode = \"stream\"\naccount = \"T0001\"\n[settings]\napi = \"{}\"\nfill_gaps = true\n[secrets]\n\
         app_token = {{ env = \"APP_TOKEN\" }}\nbot_token = {{ env = \"BOT_TOKEN\" }}\n",
        pusher.url()
    );
    let mut said = Vec::new();
    say(&mut said, 2, |text| pusher.say_unheard(text));
    said.clear();
    // The first look begins at a second: it must be a later one.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let mut daemon = Daemon::start(setup(&receiver, channel)).await;
    daemon.channel_running("team").await;
    // All channels were looked at: from here on what is missed is known to be missed.
    until("the first look", &daemon, || pusher.asked("/conversations.history") >= 3).await;
    say(&mut said, 2, |text| pusher.say(text));
    came(&receiver, &daemon, 2).await;

    pusher.away(true);
    say(&mut said, 5, |text| pusher.say_unheard(text));
    // What Slack still holds comes by the socket, and stands in the history.
    say(&mut said, 2, |text| pusher.say(text));
    pusher.away(false);
    came(&receiver, &daemon, 9).await;
    say(&mut said, 1, |text| pusher.say(text));
    came(&receiver, &daemon, 10).await;

    daemon.kill();
    say(&mut said, 4, |text| pusher.say_unheard(text));
    daemon.launch();
    daemon.ready().await;
    daemon.kill();
    say(&mut said, 1, |text| pusher.say_unheard(text));
    daemon.launch();
    daemon.ready().await;
    came(&receiver, &daemon, 15).await;
    pusher.acknowledged(PATIENCE).await;
    daemon.settled(PATIENCE).await.identities_hold();
    let mut all = texts(&receiver);
    all.sort_by_key(|text| text.trim_start_matches("message ").parse::<u32>().unwrap());
    assert_eq!(all, said, "each once, and nothing of before the first look");
    receiver.no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discords_history_fills_what_an_invalid_session_does_not_repeat_and_old_comes_before_new() {
    let (receiver, pusher) = (Receiver::start().await, Pusher::start(Manner::Discord, false, 2).await);
    let channel = format!(
        "connector = \"discord\"\nmode = \"stream\"\naccount = \"1\"\n[settings]\napi = \"{}\"\nguild = \"1\"\n[secrets]\n\
         bot_token = {{ env = \"BOT_TOKEN\" }}\n",
        pusher.url()
    );
    let mut said = Vec::new();
    say(&mut said, 2, |text| pusher.say(text));
    said.clear();
    let mut daemon = Daemon::start(setup(&receiver, channel)).await;
    daemon.channel_running("team").await;
    until("the first look", &daemon, || pusher.asked("/channels/1100/messages") >= 1).await;
    say(&mut said, 2, |text| pusher.say(text));
    came(&receiver, &daemon, 2).await;

    // The session is gone when it is back: what was said meanwhile is in the history only.
    pusher.away(true);
    say(&mut said, 7, |text| pusher.say(text));
    pusher.book().invalid = true;
    pusher.away(false);
    came(&receiver, &daemon, 9).await;
    say(&mut said, 1, |text| pusher.say(text));
    came(&receiver, &daemon, 10).await;
    // The history is asked for as soon as there is a connection.
    until("a new session", &daemon, || pusher.book().identified >= 2).await;
    // Where it can be resumed is written down a moment later.
    tokio::time::sleep(Duration::from_secs(1)).await;

    // A session that goes on repeats by itself; the history tells the same.
    daemon.kill();
    say(&mut said, 3, |text| pusher.say(text));
    daemon.launch();
    daemon.ready().await;
    came(&receiver, &daemon, 13).await;
    until("the session goes on", &daemon, || pusher.book().resumed >= 1).await;
    assert_eq!(pusher.book().identified, 2);

    // Given up while the gateway was dead, and it dies once more while it asks.
    daemon.kill();
    say(&mut said, 5, |text| pusher.say(text));
    pusher.book().invalid = true;
    daemon.launch();
    until("a new session", &daemon, || pusher.book().identified >= 3).await;
    daemon.kill();
    daemon.launch();
    daemon.ready().await;
    came(&receiver, &daemon, 18).await;
    daemon.settled(PATIENCE).await.identities_hold();
    assert_eq!(texts(&receiver), said, "each once, in order, and nothing of before the first look");
    receiver.no_complaints();
}
