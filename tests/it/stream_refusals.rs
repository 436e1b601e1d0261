//! Streams whose platforms turn them away, stall, or answer something else where they are connected: nobody comes back before the time that was
//! named, nothing is lost or doubled, operators hear of it under its right code, and other channels go on.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::daemon::{Daemon, Setup};
use crate::support::live::{Live, Refusal, Reply, archived, refuse, texts, told};
use crate::support::pushing::{Manner, Pusher};
use crate::token_roads::until;

const MAP: &str = "(if .data | isstring then .data | fromjson else . end) | {kind: \"message\", key: .n, from: {address: \"live:ana\"}, conversation: \"c\", text: \"message \\(.n)\"}";

/// The wires, by what is asked for: events, lines, a websocket, and a websocket whose address is asked for before.
const WIRES: [(&str, &str); 4] = [
    ("sse", "kind = \"sse\"\nconnect = { get = \"{settings.api}/sse\", within = \"3s\" }\n"),
    ("lines", "kind = \"lines\"\nconnect = { get = \"{settings.api}/lines\", within = \"3s\" }\n"),
    ("link", "connect = { get = \"{settings.api}/link\" }\n"),
    (
        "open",
        "connect = { get = \"{opened.url}\" }\nopen = { request = { post = \"{settings.api}/open\", within = \"3s\" }, take = { url = \".url\" } }\n",
    ),
];

fn frame(number: u64) -> Value {
    json!({ "n": number })
}

/// Adds a channel with a connector of its own, both of this name.
fn channel(setup: &mut Setup, live: &Live, name: &str, wire: &str, limits: &str) {
    let (_, stream) = WIRES.iter().find(|(known, _)| *known == wire).unwrap();
    let manifest = format!(
        "name = \"{name}\"\ntitle = \"Live\"\nabout = \"For tests.\"\n[settings.api]\ntype = \"url\"\nhelp = \"Base.\"\n{limits}\n[stream]\n{stream}"
    );
    setup.connector(name, &manifest, MAP);
    setup.channels.insert(
        name.to_owned(),
        format!("connector = \"{name}\"\nmode = \"stream\"\naccount = \"a\"\n[settings]\napi = \"{}\"\n", live.url(name)),
    );
}

/// One whose platform says a number every tenth of a second.
fn calm(setup: &mut Setup, live: &Live) {
    channel(setup, live, "calm", "sse", "");
    live.script("calm", "sse", [Reply::Ticks]);
}

async fn has(daemon: &Daemon, channel: &str, count: usize) {
    until(&format!("{count} of {channel}"), daemon, async || (texts(daemon, channel).len() >= count).then_some(())).await;
}

/// It was never in trouble, and lost nothing.
#[track_caller]
fn was_calm(daemon: &Daemon, least: usize) {
    assert_eq!(told(daemon, "calm"), []);
    let texts = texts(daemon, "calm");
    let wanted: Vec<String> = (1..=texts.len()).map(|number| format!("message {number}")).collect();
    assert_eq!(texts, wanted);
    assert!(texts.len() >= least, "{}", texts.len());
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// So long nobody is to come; what counts in seconds may name up to one less.
const WAIT_MS: u64 = 2_600;

/// A way to say how long: what the manifest knows of it, and what is answered.
struct Dialect {
    name: &'static str,
    limits: &'static str,
    says: fn(u64) -> (Vec<(&'static str, String)>, String, u64),
}

fn stamp(ms: u64) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(i64::try_from(ms).unwrap()).unwrap()
}

/// A limit whose rest and end stand in headers.
macro_rules! limits {
    ($unit:literal) => {
        concat!(
            "[limits]\nremaining = { header = \"X-RateLimit-Remaining\" }\nreset = { header = \"X-RateLimit-Reset\", unit = \"",
            $unit,
            "\" }\n"
        )
    };
}

fn none_left(reset: String) -> Vec<(&'static str, String)> {
    vec![("x-ratelimit-remaining", "0".to_owned()), ("x-ratelimit-reset", reset)]
}

fn dialects() -> Vec<Dialect> {
    vec![
        Dialect { name: "seconds", limits: "", says: |now| (vec![("retry-after", "2".to_owned())], String::new(), now + 2_000) },
        Dialect { name: "decimal", limits: "", says: |now| (vec![("retry-after", "2.25".to_owned())], String::new(), now + 2_250) },
        Dialect {
            name: "date",
            limits: "",
            says: |now| {
                let at = (now + WAIT_MS) / 1000 * 1000;
                (vec![("retry-after", stamp(at).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())], String::new(), at)
            },
        },
        Dialect {
            name: "epoch",
            limits: limits!("epoch_s"),
            says: |now| {
                let at = (now + WAIT_MS) / 1000;
                (none_left(at.to_string()), String::new(), at * 1000)
            },
        },
        Dialect {
            name: "epochms",
            limits: limits!("epoch_ms"),
            says: |now| (none_left((now + WAIT_MS).to_string()), String::new(), now + WAIT_MS),
        },
        Dialect { name: "left", limits: limits!("seconds_left"), says: |now| (none_left("2.5".to_owned()), String::new(), now + 2_500) },
        Dialect {
            name: "iso",
            limits: limits!("iso"),
            says: |now| (none_left(stamp(now + WAIT_MS).to_string()), String::new(), now + WAIT_MS),
        },
        // It says until when, and not that nothing is left: that it turns us away says it.
        Dialect {
            name: "after",
            limits: "[limits]\nremaining = { header = \"x-ratelimit-remaining\" }\nreset = { header = \"X-RateLimit-Reset-After\", unit = \"seconds_left\" }\n",
            says: |now| (vec![("x-ratelimit-reset-after", "2.5".to_owned())], String::new(), now + 2_500),
        },
        Dialect {
            name: "packed",
            limits: "[limits]\nremaining = { header = \"x-rate-limit\", pattern = \"rem:([0-9]+)\" }\nreset = { header = \"x-rate-limit\", pattern = \"reset:([0-9]+)\", unit = \"seconds_left\" }\n",
            says: |now| (vec![("x-rate-limit", "lim:3600;rem:0;reset:2".to_owned())], String::new(), now + 2_000),
        },
        Dialect {
            name: "body",
            limits: "[limits]\nbackoff_s = \".backoff?\"\n",
            says: |now| (vec![("content-type", "application/json".to_owned())], json!({"backoff": 2.5}).to_string(), now + 2_500),
        },
        // The later of two counts.
        Dialect {
            name: "both",
            limits: limits!("seconds_left"),
            says: |now| {
                let mut headers = none_left("2".to_owned());
                headers.push(("retry-after", "1".to_owned()));
                (headers, String::new(), now + 2_000)
            },
        },
    ]
}

fn throttled(says: fn(u64) -> (Vec<(&'static str, String)>, String, u64)) -> Reply {
    Reply::Refuse(Box::new(move || {
        let now = now_ms();
        let (headers, body, until) = says(now);
        Refusal { status: 429, headers, body, wait: Duration::from_millis(until.saturating_sub(now)) }
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_connected_no_earlier_than_told_in_every_dialect_on_every_wire() {
    let live = Live::start().await;
    let mut setup = archived();
    calm(&mut setup, &live);
    let mut names = Vec::new();
    for (wire, _) in WIRES {
        for dialect in dialects() {
            let name = format!("{wire}-{}", dialect.name);
            channel(&mut setup, &live, &name, wire, dialect.limits);
            let turned_away = [throttled(dialect.says), throttled(dialect.says)];
            // What was said last comes once more after it.
            let streams = [Reply::Ends(vec![frame(1), frame(2)]), Reply::Stays(vec![frame(2), frame(3)])];
            if wire == "open" {
                let good = || {
                    refuse(Refusal::new(200, "application/json", &json!({"url": format!("ws://{}/{name}/link", live.address)}).to_string()))
                };
                let [first, second] = turned_away;
                live.script(&name, "open", [good(), first, second]);
                live.script(&name, "link", streams);
            } else {
                let ([first, second], [begin, end]) = (turned_away, streams);
                live.script(&name, wire, [begin, first, second, end]);
            }
            names.push(name);
        }
    }
    let daemon = Daemon::start(setup).await;
    for name in &names {
        has(&daemon, name, 3).await;
        until("recovered", &daemon, async || (told(&daemon, name).len() >= 2).then_some(())).await;
    }
    daemon.settled(Duration::from_secs(60)).await.identities_hold();
    for name in &names {
        assert_eq!(texts(&daemon, name), ["message 1", "message 2", "message 3"], "{name}");
        live.nobody_came_too_early(name);
        let told = told(&daemon, name);
        let told: Vec<(&str, &str)> = told.iter().map(|(kind, code)| (kind.as_str(), code.as_str())).collect();
        assert_eq!(told[0], ("channel.degraded", "throttled"), "{name}: {told:?}");
        assert_eq!((told.len(), told[1].0), (2, "channel.recovered"), "{name}: {told:?}");
    }
    was_calm(&daemon, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_whose_connect_fails_stalls_or_is_answered_by_a_page_go_on_soon_and_lose_nothing() {
    let faults: [(&str, fn() -> Reply); 7] = [
        ("busy", || refuse(Refusal::new(503, "text/html", "<html>down for maintenance</html>"))),
        ("broken", || refuse(Refusal::new(500, "application/json", "{\"error\": \"inter"))),
        ("stall", || Reply::Stall),
        ("half", || Reply::Half(503)),
        // In place of the stream, with 200.
        ("page", || refuse(Refusal::new(200, "text/html; charset=utf-8", "<html>\n<h1>Please wait</h1>\n</html>\n"))),
        ("empty", || refuse(Refusal::new(204, "text/html", ""))),
        ("cut", || Reply::Cut("{\"url".to_owned())),
    ];
    let live = Live::start().await;
    let mut setup = archived();
    calm(&mut setup, &live);
    let mut names = BTreeMap::new();
    for (wire, _) in WIRES {
        for (fault, reply) in faults {
            // A cut in the midst of a stream is everyday life.
            if fault == "cut" && wire != "open" {
                continue;
            }
            let name = format!("{wire}-{fault}");
            channel(&mut setup, &live, &name, wire, "");
            let streams = [Reply::Ends(vec![frame(1), frame(2)]), Reply::Stays(vec![frame(2), frame(3)])];
            if wire == "open" {
                let good = refuse(Refusal::new(
                    200,
                    "application/json",
                    &json!({"url": format!("ws://{}/{name}/link", live.address)}).to_string(),
                ));
                live.script(&name, "open", [good, reply(), reply()]);
                live.script(&name, "link", streams);
            } else {
                let [begin, end] = streams;
                live.script(&name, wire, [begin, reply(), reply(), end]);
            }
            let code = if matches!(fault, "page" | "empty") { "protocol" } else { "unreachable" };
            names.insert(name, code);
        }
    }
    let daemon = Daemon::start(setup).await;
    for name in names.keys() {
        has(&daemon, name, 3).await;
    }
    daemon.settled(Duration::from_secs(60)).await.identities_hold();
    for (name, code) in &names {
        assert_eq!(texts(&daemon, name), ["message 1", "message 2", "message 3"], "{name}");
        assert_eq!(told(&daemon, name).first(), Some(&("channel.degraded".to_owned(), (*code).to_owned())), "{name}");
        let asked = live.visits(name).into_iter().filter(|visit| visit.what != "open").count();
        assert!(asked <= 4, "{name}: {asked}");
    }
    was_calm(&daemon, 20);
}

fn slack(live: &Live, name: &str) -> String {
    format!(
        "connector = \"slack\"\nmode = \"stream\"\naccount = \"T-{name}\"\n[settings]\napi = \"{}\"\n[secrets]\napp_token = {{ env = \"APP_TOKEN\" }}\n",
        live.url(name)
    )
}

fn said_in_slack(name: &str, number: u64) -> Value {
    let event = json!({"type": "message", "channel": "C0001", "channel_type": "channel", "user": "U0001", "text": format!("message {number}"), "ts": format!("1700000000.{number:06}")});
    let payload = json!({"type": "event_callback", "team_id": format!("T-{name}"), "event_id": format!("Ev{number:04}"), "event_time": 1_700_000_000, "event": event});
    json!({"type": "events_api", "envelope_id": format!("env-{number}"), "accepts_response_payload": false, "payload": payload})
}

/// What comes with 200 in place of `{"ok": true, "url": "wss://…"}`.
fn broken_openings() -> Vec<Reply> {
    let plain = |body: &str| refuse(Refusal::new(200, "application/json", body));
    vec![
        plain("{\"ok\": true, \"url\": \"wss://wss-pri"),
        refuse(Refusal::new(200, "text/html", "<html><h1>Please wait</h1></html>")),
        plain("{\"ok\": true}"),
        plain("{}"),
        plain(""),
        plain("[]"),
        plain("{\"ok\": true, \"url\": null}"),
        plain("{\"ok\": true, \"url\": 7}"),
        plain("{\"ok\": true, \"url\": \"\"}"),
        plain("{\"ok\": true, \"url\": [\"a\"]}"),
        Reply::Cut("{\"ok\": true, ".to_owned()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opening_that_is_broken_is_asked_for_again_soon_and_nothing_is_lost() {
    let live = Live::start().await;
    let mut setup = archived();
    setup.env.insert("APP_TOKEN".to_owned(), "xapp-1".to_owned());
    let count = broken_openings().len();
    // One channel for each: trouble that lasts is asked about less and less often.
    let names: Vec<String> = (0..count).map(|number| format!("team-{number}")).collect();
    for (name, broken) in names.iter().zip(broken_openings()) {
        setup.channels.insert(name.clone(), slack(&live, name));
        live.script(name, "apps.connections.open", [broken]);
        live.script(name, "link", [Reply::Stays(vec![json!({"type": "hello"}), said_in_slack(name, 1)])]);
    }
    let daemon = Daemon::start(setup).await;
    for name in &names {
        has(&daemon, name, 1).await;
        let visits = live.visits(name);
        let pause = visits[1].at - visits[0].at;
        // A person's matter would be asked about every five minutes.
        assert!(pause < Duration::from_secs(30), "{name}: {pause:?}");
        assert_eq!((texts(&daemon, name), told(&daemon, name)), (vec!["message 1".to_owned()], Vec::new()), "once is everyday life");
    }
    assert!(!daemon.log_text().contains("xapp-1"), "I7");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opening_that_stays_broken_is_told_and_mends_itself() {
    let live = Live::start().await;
    let mut setup = archived();
    setup.env.insert("APP_TOKEN".to_owned(), "xapp-1".to_owned());
    let ways: [(&str, fn() -> Reply); 4] = [
        ("half", || refuse(Refusal::new(200, "application/json", "{\"ok\": true, \"url\": \"wss://wss-pri"))),
        ("page", || refuse(Refusal::new(200, "text/html", "<html><h1>Please wait</h1></html>"))),
        ("missing", || refuse(Refusal::new(200, "application/json", "{\"ok\": true}"))),
        ("empty", || refuse(Refusal::new(200, "application/json", ""))),
    ];
    for (name, reply) in ways {
        setup.channels.insert(name.to_owned(), slack(&live, name));
        live.script(name, "apps.connections.open", [reply(), reply(), reply()]);
        live.script(name, "link", [Reply::Stays(vec![json!({"type": "hello"}), said_in_slack(name, 1)])]);
    }
    let daemon = Daemon::start(setup).await;
    for (name, _) in ways {
        has(&daemon, name, 1).await;
        until("recovered", &daemon, async || (told(&daemon, name).len() == 2).then_some(())).await;
        let told = told(&daemon, name);
        assert_eq!(told[0], ("channel.degraded".to_owned(), "protocol".to_owned()), "{name}");
        assert_eq!(told[1].0, "channel.recovered");
        assert_eq!(texts(&daemon, name), ["message 1"]);
    }
}

fn discord(pusher: &Pusher, account: usize) -> String {
    format!(
        "connector = \"discord\"\nmode = \"stream\"\naccount = \"{account}\"\n[settings]\napi = \"{}\"\n[secrets]\nbot_token = {{ env = \"BOT_TOKEN\" }}\n",
        pusher.url()
    )
}

fn http(status: &str, headers: &str, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// What Discord answers where it is asked for a gateway; the code that operators read; how long it is left alone.
fn no_gateways() -> Vec<(String, &'static str, Duration)> {
    let limit = |remaining: u32| json!({"url": "ws://127.0.0.1:1", "shards": 1, "session_start_limit": {"total": 1000, "remaining": remaining, "reset_after": 2300, "max_concurrency": 1}});
    let limited = json!({"message": "You are being rate limited.", "retry_after": 2.4, "global": false});
    let bucket = "X-RateLimit-Limit: 2\r\nX-RateLimit-Remaining: 0\r\nX-RateLimit-Reset-After: 2.5\r\n";
    vec![
        (http("429 X", "Retry-After: 2\r\n", &json!({})), "throttled", Duration::from_secs(2)),
        (http("429 X", bucket, &json!({})), "throttled", Duration::from_millis(2_500)),
        (http("429 X", "", &limited), "throttled", Duration::from_millis(2_400)),
        (http("200 OK", "", &limit(0)), "throttled", Duration::from_millis(2_300)),
        (http("200 OK", "", &limit(4)), "throttled", Duration::from_millis(2_300)),
        (http("502 X", "", &json!({})), "unreachable", Duration::ZERO),
        (http("200 OK", "", &json!({})), "protocol", Duration::ZERO),
        ("HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{\"url\": \"wss://ga".to_owned(), "protocol", Duration::ZERO),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discord_is_asked_for_a_gateway_no_earlier_than_told_and_identifies_only_where_it_may() {
    let mut setup = archived();
    setup.env.insert("BOT_TOKEN".to_owned(), "b0t".to_owned());
    let mut guilds = Vec::new();
    for (number, (answer, code, wait)) in no_gateways().into_iter().enumerate() {
        let pusher = Pusher::start(Manner::Discord, false, 1).await;
        pusher.book().refusals.extend([("/gateway/bot", answer.clone()), ("/gateway/bot", answer)]);
        let name = format!("guild-{number}");
        setup.channels.insert(name.clone(), discord(&pusher, number + 1));
        guilds.push((name, pusher, code, wait));
    }
    let daemon = Daemon::start(setup).await;
    for (name, pusher, code, wait) in &guilds {
        // A session hears what is said after it began.
        until("recovered", &daemon, async || (told(&daemon, name).len() == 2).then_some(())).await;
        pusher.say("hello");
        until("a message", &daemon, async || (texts(&daemon, name).len() == 1).then_some(())).await;
        assert_eq!(told(&daemon, name)[0], ("channel.degraded".to_owned(), (*code).to_owned()), "{name}");
        let book = pusher.book();
        let asked: Vec<_> =
            book.asked.iter().zip(&book.asked_at).filter(|(what, _)| what.starts_with("/gateway/bot")).map(|(_, at)| *at).collect();
        assert_eq!((asked.len(), book.identified), (3, 1), "{name}");
        for pair in asked.windows(2) {
            assert!(pair[1] - pair[0] + Duration::from_millis(20) >= *wait, "{name}: {:?} after {wait:?}", pair[1] - pair[0]);
        }
    }
    assert!(!daemon.log_text().contains("b0t"), "I7");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_discord_goes_on_at_another_host_where_its_own_is_gone() {
    let mut setup = archived();
    setup.env.insert("BOT_TOKEN".to_owned(), "b0t".to_owned());
    let (dead, strange) = (Pusher::start(Manner::Discord, false, 1).await, Pusher::start(Manner::Discord, false, 1).await);
    // One closes without a word, the other is a name that nobody has any more.
    strange.book().resume_at = Some("wss://gone.discord.gg.invalid".to_owned());
    setup.channels.insert("dead".to_owned(), discord(&dead, 1));
    setup.channels.insert("strange".to_owned(), discord(&strange, 2));
    let daemon = Daemon::start(setup).await;
    for (name, pusher) in [("dead", &dead), ("strange", &strange)] {
        daemon.channel_running(name).await;
        pusher.say("one");
        until("a message", &daemon, async || (texts(&daemon, name).len() == 1).then_some(())).await;
    }
    dead.book().refusals.push_back(("/link", String::new()));
    for pusher in [&dead, &strange] {
        pusher.away(true);
        pusher.say("two");
        pusher.away(false);
    }
    for (name, pusher) in [("dead", &dead), ("strange", &strange)] {
        until("a message", &daemon, async || (texts(&daemon, name).len() == 2).then_some(())).await;
        assert_eq!(texts(&daemon, name), ["one", "two"], "{name}");
        // The second may have come before the connection was gone.
        let connected = || {
            let book = pusher.book();
            book.identified + book.resumed
        };
        until("a second connection", &daemon, async || (connected() == 2).then_some(())).await;
        // It is the same session: no identify is spent.
        let book = pusher.book();
        assert_eq!((book.identified, book.resumed), (1, 1), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_of_other_protocols_that_stall_while_they_are_connected_are_given_up_and_tried_again() {
    let (live, pusher) = (Live::start().await, Pusher::start(Manner::Discord, false, 1).await);
    let (irc, xmpp) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let mut setup = archived();
    calm(&mut setup, &live);
    setup.env.insert("BOT_TOKEN".to_owned(), "b0t".to_owned());
    setup.env.insert("CHAT_SECRET".to_owned(), "a-secret-only-for-tests".to_owned());
    // Where its gateway is asked for, nothing is answered; at the other's the websocket is opened and says no hello.
    setup.channels.insert("gateway".to_owned(), discord(&pusher, 1).replace(&pusher.url(), &live.url("gateway")));
    setup.channels.insert("hello".to_owned(), discord(&pusher, 2).replace(&pusher.url(), &live.url("hello")));
    live.script("gateway", "gateway/bot", [Reply::Stall]);
    live.script(
        "hello",
        "gateway/bot",
        [refuse(Refusal::new(200, "application/json", &json!({"url": format!("ws://{}/hello/link", live.address)}).to_string()))],
    );
    let irc_channel = format!(
        "connector = \"irc\"\nmode = \"stream\"\naccount = \"irc.example.org\"\n[settings]\nserver = \"{}\"\ntls = false\nnick = \"desk\"\nrooms = []\n",
        irc.local_addr().unwrap()
    );
    setup.channels.insert("irc".to_owned(), irc_channel);
    setup.channels.insert("xmpp".to_owned(), crate::support::jabber::channel(xmpp.local_addr().unwrap(), &[]));
    let daemon = Daemon::start(setup).await;
    // Who listens and never says a word is called a second time.
    for listener in [&irc, &xmpp] {
        let first = listener.accept().await.unwrap();
        tokio::time::timeout(Duration::from_secs(100), listener.accept()).await.expect("not tried again").unwrap();
        drop(first);
    }
    for (name, what) in [("gateway", "gateway/bot"), ("hello", "gateway/bot")] {
        let asked = || live.visits(name).iter().filter(|visit| visit.what == what).count();
        until("tried again", &daemon, async || (asked() >= 2).then_some(())).await;
    }
    was_calm(&daemon, 100);
}
