//! Streams, whole: the binary listens to a platform on a bad day, is killed before and after it acknowledges, and at the
//! destination nothing may be missing, doubled or out of order (I1, I2, I4).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::daemon::{Daemon, Setup};
use crate::support::dice::Dice;
use crate::support::pushing::{Manner, Pusher};
use crate::support::receiver::Receiver;

const PATIENCE: Duration = Duration::from_secs(60);

fn setup(receiver: &Receiver, id: &str, channel: String, env: (&str, &str)) -> Setup {
    let mut setup = Setup::all_to(&receiver.url());
    setup.channels.insert(id.to_owned(), channel);
    setup.env.insert(env.0.to_owned(), env.1.to_owned());
    setup
}

fn slack(receiver: &Receiver, pusher: &Pusher) -> Setup {
    let channel = format!(
        "connector = \"slack\"\nmode = \"stream\"\naccount = \"T0001\"\n[settings]\napi = \"{}\"\n[secrets]\napp_token = {{ env = \"SLACK_APP_TOKEN\" }}\n",
        pusher.url()
    );
    setup(receiver, "team", channel, ("SLACK_APP_TOKEN", "xapp-1"))
}

fn discord(receiver: &Receiver, pusher: &Pusher) -> Setup {
    let channel = format!(
        "connector = \"discord\"\nmode = \"stream\"\naccount = \"1\"\n[settings]\napi = \"{}\"\n[secrets]\nbot_token = {{ env = \"DISCORD_BOT_TOKEN\" }}\n",
        pusher.url()
    );
    setup(receiver, "guild", channel, ("DISCORD_BOT_TOKEN", "b0t"))
}

/// Every text came exactly once, under one id.
#[track_caller]
fn all_came_once(receiver: &Receiver, texts: &[String]) {
    receiver.no_complaints();
    let book = receiver.book();
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for delivery in book.taken().into_iter().filter(|delivery| delivery.event_type == "message.created") {
        *count.entry(delivery.text("/message/text")).or_default() += 1;
    }
    let wrong: Vec<_> =
        texts.iter().filter(|text| count.get(text.as_str()) != Some(&1)).map(|text| (text, count.get(text.as_str()))).collect();
    assert!(wrong.is_empty(), "missing or doubled: {wrong:?}");
    assert_eq!(count.len(), texts.len());
}

async fn killed_again_and_again(pusher: &Pusher, receiver: &Receiver, setup: Setup, channel: &str) {
    let mut dice = Dice::from_env("OMNIGATE_KILL_SEED");
    let mut daemon = Daemon::start(setup).await;
    daemon.channel_running(channel).await;
    // It runs when the session is open; where the session can be resumed is written down a moment later.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut texts = Vec::new();
    for round in 0..8 {
        for number in 0..8 {
            texts.push(format!("message {round}-{number}"));
            pusher.say(&texts[texts.len() - 1]);
            tokio::time::sleep(Duration::from_millis(dice.between(0, 20))).await;
        }
        daemon.kill();
        daemon.launch();
        daemon.ready().await;
    }
    let wanted = texts.len();
    let came = |book: &crate::support::receiver::Book| {
        book.taken().iter().filter(|delivery| delivery.event_type == "message.created").count() >= wanted
    };
    receiver.wait_for("every message", PATIENCE, came).await;
    daemon.settled(PATIENCE).await.identities_hold();
    all_came_once(receiver, &texts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slack_frames_survive_kills_before_and_after_their_acknowledgement() {
    let (receiver, pusher) = (Receiver::start().await, Pusher::start(Manner::Slack, true, 1).await);
    let setup = slack(&receiver, &pusher);
    killed_again_and_again(&pusher, &receiver, setup, "team").await;
    pusher.acknowledged(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_discord_goes_on_over_kills_and_broken_connections() {
    let (receiver, pusher) = (Receiver::start().await, Pusher::start(Manner::Discord, true, 2).await);
    let setup = discord(&receiver, &pusher);
    killed_again_and_again(&pusher, &receiver, setup, "guild").await;
    assert!(pusher.book().resumed >= 8, "{:?}", pusher.book().resumed);
}
