//! Matrix on a bad day: tokens that are withdrawn, a `/sync` that never answers or answers at once for ever, gaps whose pages are throttled or
//! refused. Nothing is missing, nothing is doubled, other rooms go on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, Setup};
use crate::support::live::{archived, texts, told};
use crate::support::platform::{Answer, Platform, query, said};
use crate::token_roads::until;

fn setup(platforms: &[(&str, &Platform)]) -> Setup {
    let mut setup = archived();
    for (name, platform) in platforms {
        let channel = format!(
            "connector = \"matrix\"\nmode = \"stream\"\naccount = \"@{name}:localhost\"\n[settings]\nhomeserver = \"http://{}\"\n[secrets]\naccess_token = {{ file = \"../{name}.token\" }}\n",
            platform.address
        );
        setup.channels.insert((*name).to_owned(), channel);
    }
    setup
}

/// A daemon whose channels have this token.
async fn start(setup: Setup) -> Daemon {
    let mut daemon = Daemon::prepare(setup);
    for name in daemon.setup.channels.keys() {
        std::fs::write(daemon.folder.path().join(format!("{name}.token")), "old").unwrap();
    }
    daemon.launch();
    daemon.ready().await;
    daemon
}

async fn has(daemon: &Daemon, channel: &str, count: usize) {
    until(&format!("{count} of {channel}"), daemon, async || (texts(daemon, channel).len() >= count).then_some(())).await;
}

fn event(number: u64) -> Value {
    json!({"type": "m.room.message", "event_id": format!("$e{number}"), "sender": "@zoe:localhost", "origin_server_ts": 1_700_000_000_000_u64 + number,
        "content": {"msgtype": "m.text", "body": format!("message {number}")}})
}

/// A page of /sync: the next place, and what was said in each room; `true`: more is missing before it.
fn page(next: u64, rooms: &[(&str, &[u64], bool)]) -> Answer {
    let room = |(name, numbers, limited): &(&str, &[u64], bool)| {
        let events: Vec<Value> = numbers.iter().map(|number| event(*number)).collect();
        let timeline = json!({"events": events, "limited": limited, "prev_batch": limited.then_some("p0")});
        (format!("!{name}:localhost"), json!({"timeline": timeline}))
    };
    let rooms: serde_json::Map<String, Value> = rooms.iter().map(room).collect();
    said(&json!({"next_batch": format!("s{next}"), "rooms": {"join": rooms}}))
}

/// Who we are, and what /sync says at each place.
fn homeserver(mut sync: impl FnMut(u64) -> Answer + Send + 'static) -> impl FnMut(&str) -> Answer + Send + 'static {
    move |target| {
        if target.contains("/account/whoami") {
            return said(&json!({"user_id": "@desk:localhost"}));
        }
        match query(target, "since").map(|since| since.trim_start_matches('s').parse().unwrap()) {
            None => page(1, &[]),
            Some(at) => sync(at),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_withdrawn_is_for_a_person_and_a_new_one_goes_on_where_it_was() {
    let mut platforms = Vec::new();
    for soft in [false, true] {
        let mut withdrawn = false;
        let mut sync = homeserver(|at| match at {
            1 => page(2, &[("a", &[1], false)]),
            3 => page(4, &[("a", &[2, 3], false)]),
            2 => page(3, &[]),
            _ => Answer::Stall,
        });
        let ask = move |target: &str| {
            // What is asked at the place of the second page is asked with a token that is gone.
            withdrawn |= query(target, "since").is_some_and(|since| since == "s3");
            if withdrawn {
                let body = json!({"errcode": "M_UNKNOWN_TOKEN", "error": "Access token has expired", "soft_logout": soft});
                return Answer::Plain(401, Vec::new(), body.to_string());
            }
            sync(target)
        };
        platforms.push(Platform::start(ask).await);
    }
    let daemon = start(setup(&[("hard", &platforms[0]), ("soft", &platforms[1])])).await;
    for name in ["hard", "soft"] {
        until("told", &daemon, async || (!told(&daemon, name).is_empty()).then_some(())).await;
        assert_eq!(told(&daemon, name), [("channel.degraded".to_owned(), "auth_failed".to_owned())]);
        let detail = daemon.get("/v1/status").await["channels"][name]["detail"].to_string();
        assert!(detail.contains("401: Access token has expired"), "{detail}");
    }
    // A person gives it another.
    let asked = platforms.iter().map(|platform| platform.targets().len()).collect::<Vec<_>>();
    for (name, platform) in ["hard", "soft"].iter().zip(&platforms) {
        std::fs::write(daemon.folder.path().join(format!("{name}.token")), "new").unwrap();
        let mut sync = homeserver(|at| if at == 3 { page(4, &[("a", &[1, 2, 3], false)]) } else { Answer::Stall });
        platform.now(move |target| sync(target));
    }
    assert!(daemon.admin("POST", "/v1/reload", &Value::Null).await.success());
    for ((name, platform), before) in ["hard", "soft"].iter().zip(&platforms).zip(asked) {
        has(&daemon, name, 3).await;
        assert_eq!(texts(&daemon, name), ["message 1", "message 2", "message 3"], "{name}");
        assert!(platform.targets().len() > before);
        until("recovered", &daemon, async || (told(&daemon, name).len() == 2).then_some(())).await;
    }
    let log = daemon.log_text();
    assert!(!log.contains("Bearer"), "I7");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_whose_pages_are_throttled_is_read_to_its_end_and_no_page_twice() {
    const PAGES: u64 = 6;
    let refused = Arc::new(Mutex::new(Vec::new()));
    let (given, note) = (Arc::new(AtomicUsize::new(0)), refused.clone());
    let count = given.clone();
    let mut sync = homeserver(|at| match at {
        1 => page(2, &[("busy", &[100], true), ("calm", &[200], false), ("closed", &[300], true)]),
        _ => Answer::Stall,
    });
    let mut asked = 0;
    let platform = Platform::start(move |target| {
        if !target.contains("/messages") {
            return sync(target);
        }
        if target.contains("closed") {
            return Answer::Plain(403, Vec::new(), json!({"errcode": "M_FORBIDDEN", "error": "You are not in the room"}).to_string());
        }
        asked += 1;
        // Every other question is one too many; in each form that there is.
        if asked % 2 == 0 {
            let wait = Duration::from_millis(700);
            note.lock().unwrap().push((Instant::now(), wait));
            let (headers, body) = match asked % 4 {
                0 => (vec![("retry-after", "1".to_owned())], json!({"errcode": "M_LIMIT_EXCEEDED"})),
                _ => (Vec::new(), json!({"errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 700})),
            };
            return Answer::Plain(429, headers, body.to_string());
        }
        count.fetch_add(1, Ordering::SeqCst);
        let from: u64 = query(target, "from").unwrap().trim_start_matches('p').parse().unwrap();
        let newest_first: Vec<Value> = (0..2).map(|number| event(99 - 2 * from - number)).collect();
        let end = (from + 1 < PAGES).then(|| format!("p{}", from + 1));
        said(&json!({"chunk": newest_first, "start": format!("p{from}"), "end": end}))
    })
    .await;
    let daemon = start(setup(&[("desk", &platform)])).await;
    has(&daemon, "desk", 2 * PAGES as usize + 3).await;
    let mut wanted: Vec<String> = (100 - 2 * PAGES..=100).map(|number| format!("message {number}")).collect();
    wanted.extend(["message 200", "message 300"].map(str::to_owned));
    let came = texts(&daemon, "desk");
    let of_busy: Vec<&String> = came.iter().filter(|text| wanted[..wanted.len() - 2].contains(text)).collect();
    assert_eq!(of_busy, wanted[..wanted.len() - 2].iter().collect::<Vec<_>>(), "each once, in order");
    assert_eq!(came.len(), wanted.len());
    assert_eq!(given.load(Ordering::SeqCst), PAGES as usize, "no page was read twice");
    let pages = platform.asked.lock().unwrap().iter().filter(|(_, target)| target.contains("busy")).map(|(at, _)| *at).collect::<Vec<_>>();
    for (at, wait) in refused.lock().unwrap().iter() {
        let next = pages.iter().find(|asked| **asked > *at).unwrap();
        assert!(*next - *at + Duration::from_millis(20) >= *wait);
    }
    assert_eq!(told(&daemon, "desk"), [], "it works, and takes its time");
    until("told", &daemon, async || (daemon.get("/v1/status").await["channels"]["desk"]["code"] == "no_folder").then_some(())).await;
    let status = daemon.get("/v1/status").await["channels"]["desk"].clone();
    assert!(status["state"] == "running" && status["detail"].to_string().contains("closed"), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_answers_at_once_for_ever_is_asked_in_peace_and_one_that_never_does_is_given_up() {
    let eager = Platform::start(homeserver(|at| page(at, &[]))).await;
    let mut first = true;
    let mut sync = homeserver(|at| if at == 1 { page(2, &[("a", &[1], false)]) } else { Answer::Stall });
    let mute = Platform::start(move |target| {
        let stall = target.contains("/sync") && std::mem::take(&mut first);
        if stall { Answer::Stall } else { sync(target) }
    })
    .await;
    let daemon = start(setup(&[("eager", &eager), ("mute", &mute)])).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let asked = eager.targets().iter().filter(|target| target.contains("/sync")).count();
    assert!((3..30).contains(&asked), "{asked} questions in five seconds");
    eager.now(homeserver(|at| if at == 1 { page(2, &[("a", &[7], false)]) } else { Answer::Stall }));
    has(&daemon, "eager", 1).await;
    has(&daemon, "mute", 1).await;
    assert_eq!((texts(&daemon, "eager"), texts(&daemon, "mute")), (vec!["message 7".to_owned()], vec!["message 1".to_owned()]));
    let asked = mute.asked.lock().unwrap().iter().filter(|(_, target)| target.contains("/sync")).map(|(at, _)| *at).collect::<Vec<_>>();
    assert!(asked[1] - asked[0] >= Duration::from_secs(29), "{:?}", asked[1] - asked[0]);
}
