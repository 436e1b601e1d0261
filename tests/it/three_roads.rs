//! One account by three roads at once: Slack calls the hook, pushes over Socket Mode and is asked for its history, all about the same messages, in
//! whatever order, while the gateway is killed. One ledger: each message once, in the order of its conversation, and every copy accounted for (I1–I4).

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, Mac};
use sha2::Sha256;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::support::daemon::{Daemon, Setup};
use crate::support::dice::Dice;
use crate::support::http1;
use crate::support::pushing::{Manner, Pusher};
use crate::support::receiver::Receiver;

const PATIENCE: Duration = Duration::from_secs(90);
const SIGNING_SECRET: &str = "a-signing-secret-only-for-tests";
/// A direct message: one conversation, so its order shows.
const DIRECT: &str = "D0001";
/// A channel: every root is a conversation.
const CHANNEL: &str = "C0001";
const ROUNDS: usize = 6;
const A_ROUND: usize = 8;

fn setup(receiver: &Receiver, pusher: &Pusher) -> Setup {
    let mut setup = Setup::all_to(&receiver.url());
    let channel = format!(
        "connector = \"slack\"\nmode = [\"webhook\", \"stream\", \"poll\"]\naccount = \"T0001\"\n[settings]\napi = \"{}\"\nfill_gaps = true\n[secrets]\n\
         app_token = {{ env = \"APP_TOKEN\" }}\nbot_token = {{ env = \"BOT_TOKEN\" }}\nsigning_secret = {{ env = \"SIGNING_SECRET\" }}\n",
        pusher.url()
    );
    setup.channels.insert("team".to_owned(), channel);
    let env = [("APP_TOKEN", "xapp-1"), ("BOT_TOKEN", "b0t"), ("SIGNING_SECRET", SIGNING_SECRET)];
    setup.env.extend(env.map(|(name, value)| (name.to_owned(), value.to_owned())));
    setup
}

/// Calls the hook once, as Slack signs; whether it was taken.
async fn call(gateway: SocketAddr, body: &str) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(SIGNING_SECRET.as_bytes()).unwrap();
    mac.update(format!("v0:{now}:{body}").as_bytes());
    let digest: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let signature = format!("v0={digest}");
    let headers =
        [("content-type", "application/json"), ("x-slack-request-timestamp", now.as_str()), ("x-slack-signature", signature.as_str())];
    let answer = http1::once(gateway, "POST", "/hooks/team", &headers, body.as_bytes()).await;
    answer.is_ok_and(|answer| {
        assert!(answer.success() || answer.status() == 503, "{} {}", answer.start, answer.text());
        answer.success()
    })
}

/// The hook's side of the platform: calls again until it is taken, and can be told to wait.
struct Caller {
    queue: mpsc::UnboundedSender<String>,
    calling: JoinHandle<usize>,
}

impl Caller {
    /// `in_order`: one after the other, as one conversation is told. Else several at once, mixed, and some twice.
    fn start(gateway: SocketAddr, in_order: bool, mut quiet: watch::Receiver<bool>, mut dice: Dice) -> Self {
        let (queue, mut waiting) = mpsc::unbounded_channel::<String>();
        let calling = tokio::spawn(async move {
            let (mut taken, mut heap) = (0, Vec::new());
            while let Some(first) = waiting.recv().await {
                let _ = quiet.wait_for(|quiet| !quiet).await;
                heap.push(first);
                while let Ok(more) = waiting.try_recv() {
                    heap.push(more);
                }
                if in_order {
                    for body in heap.drain(..) {
                        taken += until_taken(gateway, body).await;
                    }
                    continue;
                }
                let twice: Vec<String> = heap.iter().filter(|_| dice.chance(20)).cloned().collect();
                heap.extend(twice);
                let mut calls = tokio::task::JoinSet::new();
                while !heap.is_empty() {
                    let at = dice.between(0, heap.len() as u64) as usize;
                    calls.spawn(until_taken(gateway, heap.swap_remove(at)));
                }
                taken += calls.join_all().await.iter().sum::<usize>();
            }
            taken
        });
        Self { queue, calling }
    }

    async fn end(self) -> usize {
        drop(self.queue);
        tokio::time::timeout(PATIENCE, self.calling).await.expect("the hook never took everything").unwrap()
    }
}

async fn until_taken(gateway: SocketAddr, body: String) -> usize {
    while !call(gateway, &body).await {
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    1
}

async fn until(what: &str, daemon: &Daemon, holds: impl AsyncFn() -> bool) {
    let from = Instant::now();
    while !holds().await {
        assert!(from.elapsed() < PATIENCE, "not in time: {what}\n{}", daemon.log_end(40));
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// Texts of created messages that begin so, in the order they came, with their place in the conversation.
fn texts(receiver: &Receiver, begin: &str) -> Vec<(String, u64)> {
    let book = receiver.book();
    let created = book.taken().into_iter().filter(|one| one.event_type == "message.created");
    created.map(|one| (one.text("/message/text").to_owned(), one.sequence)).filter(|(text, _)| text.starts_with(begin)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_by_hook_stream_and_poll_of_one_account_is_one_message_in_order_across_kills() {
    let (receiver, pusher) = (Receiver::start().await, Pusher::start(Manner::Slack, false, 3).await);
    let mut dice = Dice::from_env("OMNIGATE_KILL_SEED");
    let mut daemon = Daemon::start(setup(&receiver, &pusher)).await;
    // Three lists each, asked by the poll and by the stream: from here on nothing said is of before the first look.
    until("both first looks", &daemon, async || pusher.asked("/conversations.history") >= 6).await;
    let (quiet, quieted) = watch::channel(false);
    let direct = Caller::start(daemon.public, true, quieted.clone(), Dice::new(dice.roll()));
    let channel = Caller::start(daemon.public, false, quieted, Dice::new(dice.roll()));

    let mut said = 0;
    for round in 0..ROUNDS {
        // By which road they are heard of first: the stream, the hook, the poll, or whoever is the quickest.
        let (no_hook, no_stream) = [(true, false), (false, true), (true, true), (false, false)][round % 4];
        quiet.send_replace(no_hook);
        pusher.hush(no_stream);
        for _ in 0..A_ROUND {
            let event = pusher.say_in(Some(DIRECT), &format!("direct {said}"));
            direct.queue.send(event["payload"].to_string()).unwrap();
            let event = pusher.say_in(Some(CHANNEL), &format!("root {said}"));
            channel.queue.send(event["payload"].to_string()).unwrap();
            said += 1;
            tokio::time::sleep(Duration::from_millis(dice.between(0, 15))).await;
        }
        daemon.kill();
        // A restart is when the poll looks.
        daemon.launch();
        daemon.ready().await;
        if no_hook && no_stream {
            until("what only the lists tell", &daemon, async || texts(&receiver, "direct").len() >= said).await;
        } else if dice.chance(50) {
            daemon.kill();
            daemon.launch();
            daemon.ready().await;
        }
    }
    quiet.send_replace(false);
    pusher.hush(false);
    let called = direct.end().await + channel.end().await;
    pusher.acknowledged(PATIENCE).await;
    daemon.kill();
    daemon.launch();
    daemon.ready().await;
    let all = 2 * said as u64;
    // Every message by every road: what the poll brings last is known by then.
    until("every copy by every road", &daemon, async || {
        daemon.scrape().await.sum("omnigate_items_received_total", &[("channel", "team")]) >= called as u64 + 2 * all
    })
    .await;
    let scrape = daemon.settled(PATIENCE).await;
    scrape.identities_hold();
    let of = |fate: &str| scrape.sum("omnigate_items", &[("channel", "team"), ("fate", fate)]);
    assert_eq!((of("published"), of("quarantined"), of("pending"), of("ignored")), (all, 0, 0, 0), "{}", daemon.log_end(30));
    assert!(of("duplicate") >= called as u64 + all, "{} duplicates, {called} calls", of("duplicate"));

    let wanted: Vec<(String, u64)> = (0..said).map(|number| (format!("direct {number}"), number as u64 + 1)).collect();
    assert_eq!(texts(&receiver, "direct"), wanted, "one conversation: each once, in the order it was said, without a gap");
    let mut roots = texts(&receiver, "root");
    roots.sort_by_key(|(text, _)| text.trim_start_matches("root ").parse::<usize>().unwrap());
    let wanted: Vec<(String, u64)> = (0..said).map(|number| (format!("root {number}"), 1)).collect();
    assert_eq!(roots, wanted, "every root a conversation of its own, each once");
    receiver.no_complaints();
}
