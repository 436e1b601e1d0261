//! Transcripts that a platform only names: fetched with the channel's credentials, and then the words of their call, whichever part of it came
//! first, and whatever goes wrong on the way.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};

use crate::calls::{known, post};
use crate::support::daemon::{Daemon, ROUTE_ALL, Setup, quick_schedule};
use crate::support::receiver::Receiver;
use crate::support::subscriptions::{Asked, Platform, Turn};
use crate::token_connectors::{claims, rsa_key_file};

const BOUND: Duration = Duration::from_secs(60);

/// Where Bandwidth keeps files: the path says how it behaves.
fn files(asked: &Asked, times: &mut HashMap<String, u32>) -> Turn {
    let expected = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode("acme-api:only-for-tests"));
    if asked.header("authorization") != Some(&expected) {
        return Turn::Say(401, String::new());
    }
    let time = times.entry(asked.target.clone()).and_modify(|times| *times += 1).or_insert(1);
    let words =
        |call: &str| Turn::Say(200, json!({"transcripts": [{"text": format!("hello from {call}"), "confidence": 0.9}]}).to_string());
    let mut path = asked.target.trim_start_matches('/').split('/');
    match (path.next(), path.next()) {
        (Some("recording"), Some(call)) => Turn::Say(200, format!("RIFF of {call}")),
        (Some("words"), Some(call)) => words(call),
        (Some("late"), Some(call)) if *time >= 3 => words(call),
        (Some("cut"), Some(call)) if *time >= 2 => words(call),
        (Some("cut"), _) => Turn::Say(200, "{\"transcripts\": [{".to_owned()),
        (Some("expired"), _) => Turn::Say(403, String::new()),
        (Some("page"), _) => Turn::Say(200, "[\"no transcript at all\"]".to_owned()),
        (Some("silence"), _) => Turn::Say(200, json!({"transcripts": []}).to_string()),
        _ => Turn::Say(404, String::new()),
    }
}

/// Bandwidth calls back about a call: `R` its recording, `T` its transcript, which is to be had at `place`.
async fn bandwidth(daemon: &Daemon, api: &str, call: &str, part: char, place: &str) {
    let event = if part == 'R' {
        json!({"eventType": "recordingAvailable", "mediaUrl": format!("{api}/recording/{call}"), "duration": "PT41S", "fileFormat": "wav"})
    } else {
        let url = format!("{api}/{place}/{call}");
        json!({"eventType": "transcriptionAvailable", "transcription": {"id": format!("t-{call}"), "status": "available", "url": url}})
    };
    let mut event = event.as_object().unwrap().clone();
    let shared = json!({"from": format!("+1555000{call}"), "to": "+15550009999", "direction": "inbound", "callId": format!("c-{call}"),
        "recordingId": format!("r-{call}")});
    event.extend(shared.as_object().unwrap().clone());
    post(daemon, "line", "application/json", &Value::Object(event).to_string()).await;
}

async fn start(receiver: &Receiver, platform: &Platform, wait: &str) -> Daemon {
    let mut setup = Setup::default();
    setup.destination("crm", &receiver.url(), "");
    setup.rest.push_str(ROUTE_ALL);
    setup.rest.push_str(&quick_schedule());
    setup.rest.push_str(&format!("[attachments]\nmedia_wait = \"{wait}\"\n"));
    let channel = format!(
        "connector = \"bandwidth\"\nverify = \"none\"\n[settings]\napi = \"{}\"\napi_user = \"acme-api\"\n\
         [secrets]\napi_password = {{ env = \"API_PASSWORD\" }}\n",
        platform.url()
    );
    setup.channels.insert("line".to_owned(), channel);
    setup.env.insert("API_PASSWORD".to_owned(), "only-for-tests".to_owned());
    Daemon::start(setup).await
}

fn of<'a>(messages: &'a [Value], call: &str) -> Option<&'a Value> {
    messages.iter().find(|message| message["external_id"] == format!("r-{call}"))
}

fn file<'a>(message: &'a Value, media_type: &str) -> &'a Value {
    message["attachments"].as_array().unwrap().iter().find(|file| file["type"] == media_type).unwrap_or(&Value::Null)
}

async fn until(receiver: &Receiver, daemon: &Daemon, what: &str, fits: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let started = Instant::now();
    loop {
        let messages = known(receiver);
        if fits(&messages) {
            return messages;
        }
        assert!(started.elapsed() < BOUND, "{what}: {messages:#?}\n{}", daemon.log_end(30));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn whole(message: &Value, call: &str) -> bool {
    let words = format!("hello from {call}");
    let says = message["call"]["transcript"] == words.as_str() && message["text"] == words.as_str();
    says && message["call"]["seconds"] == 41
        && message["attachments"].as_array().is_some_and(|files| files.len() == 2 && files.iter().all(|file| file["state"] == "stored"))
        && message["call"]["recording"]
            == *message["attachments"]
                .as_array()
                .unwrap()
                .iter()
                .find(|file| file["name"] != "transcript.json")
                .map_or(&Value::Null, |file| &file["id"])
}

#[tokio::test]
async fn a_transcript_that_is_only_named_becomes_the_words_of_its_call_in_every_order() {
    let receiver = Receiver::start().await;
    let mut times = HashMap::new();
    let platform = Platform::start(move |asked| files(asked, &mut times)).await;
    let mut daemon = start(&receiver, &platform, "1s").await;
    let calls = [
        ("1000", "RT", "words"),
        ("1001", "TR", "words"),
        ("1002", "RRTT", "words"),
        ("1003", "TRTR", "words"),
        ("1004", "RT", "late"),
        ("1005", "TR", "late"),
        ("1006", "RT", "cut"),
    ];
    for (call, order, place) in calls {
        for (step, part) in order.chars().enumerate() {
            bandwidth(&daemon, &platform.url(), call, part, place).await;
            // What is to be fetched is durable.
            if step == 0 && call == "1004" {
                daemon.kill();
                daemon.launch();
                daemon.ready().await;
            }
        }
    }
    let all = |messages: &[Value]| calls.iter().all(|(call, ..)| of(messages, call).is_some_and(|message| whole(message, call)));
    let messages = until(&receiver, &daemon, "all calls with their words", all).await;
    assert_eq!(messages.len(), calls.len(), "one message for each call");
    daemon.settled(BOUND).await;
    // Parts that come again tell nothing new.
    let events = receiver.book().taken().len();
    for (call, order, place) in calls {
        for part in order.chars() {
            bandwidth(&daemon, &platform.url(), call, part, place).await;
        }
    }
    daemon.settled(BOUND).await;
    assert_eq!(receiver.book().taken().len(), events);
    receiver.no_complaints();
}

#[tokio::test]
async fn a_transcript_that_cannot_be_had_is_told_with_its_reason_and_costs_no_message() {
    let receiver = Receiver::start().await;
    let mut times = HashMap::new();
    let platform = Platform::start(move |asked| files(asked, &mut times)).await;
    let daemon = start(&receiver, &platform, "1s").await;
    for (call, place) in [("2000", "expired"), ("2001", "page"), ("2002", "silence")] {
        bandwidth(&daemon, &platform.url(), call, 'R', "").await;
        bandwidth(&daemon, &platform.url(), call, 'T', place).await;
    }
    let settled = |messages: &[Value]| {
        let done = |call: &str| {
            of(messages, call)
                .is_some_and(|message| file(message, "application/json")["state"].as_str().is_some_and(|state| state != "pending"))
        };
        ["2000", "2001", "2002"].into_iter().all(done)
    };
    let messages = until(&receiver, &daemon, "every transcript has its end", settled).await;
    let state = |call: &str| {
        let message = of(&messages, call).unwrap();
        assert_eq!((&message["call"]["transcript"], &message["call"]["seconds"]), (&Value::Null, &json!(41)), "{message}");
        let file = file(message, "application/json");
        (file["state"].as_str().unwrap().to_owned(), file["reason"].as_str().map(str::to_owned))
    };
    assert_eq!(state("2000"), ("unavailable".to_owned(), Some("media_denied".to_owned())));
    assert_eq!(state("2001"), ("unavailable".to_owned(), Some("media_refused".to_owned())));
    assert_eq!(state("2002"), ("stored".to_owned(), None));
    assert_eq!(messages.len(), 3);
    receiver.no_complaints();
}

#[tokio::test]
async fn vonage_hands_over_transcripts_to_the_application() {
    let folder = tempfile::tempdir().unwrap();
    let Some(key) = rsa_key_file(folder.path()) else { return };
    let key = serde_json::from_str::<Value>(&key).unwrap()["private_key"].as_str().unwrap().to_owned();
    let receiver = Receiver::start().await;
    let platform = Platform::start(|asked| {
        let token = asked.header("authorization").unwrap_or_default().trim_start_matches("Bearer ").to_owned();
        let (head, claims) = claims(&token);
        if head["alg"] != "RS256" || claims["application_id"] != "app-1" || claims["jti"].as_str().is_none_or(|id| id.len() < 16) {
            return Turn::Say(401, String::new());
        }
        match asked.target.as_str() {
            "/v1/files/t1" => Turn::Say(
                200,
                json!({"ver": "1.0", "channels": [{"transcript": [
                {"sentence": "Hello.", "raw_sentence": "hello"}, {"sentence": "Please call back."}]}]})
                .to_string(),
            ),
            _ => Turn::Say(200, "ID3 of a recording".to_owned()),
        }
    })
    .await;
    let mut setup = Setup::default();
    setup.destination("crm", &receiver.url(), "");
    setup.rest.push_str(ROUTE_ALL);
    setup.rest.push_str(&quick_schedule());
    let channel = format!(
        "connector = \"vonage\"\nverify = \"none\"\n[settings]\napi = \"{}\"\napplication_id = \"app-1\"\n\
         [secrets]\nprivate_key = {{ env = \"VONAGE_KEY\" }}\n",
        platform.url()
    );
    setup.channels.insert("line".to_owned(), channel);
    setup.env.insert("VONAGE_KEY".to_owned(), key);
    let daemon = Daemon::start(setup).await;
    let who = "line?from=15550000002&to=15550000001";
    let recorded = json!({"conversation_uuid": "CON-1", "recording_uuid": "r-1", "recording_url": format!("{}/v1/files/r1", platform.url()),
        "start_time": "2023-11-14T22:13:20Z", "end_time": "2023-11-14T22:13:37Z", "size": 18});
    let transcribed = json!({"conversation_uuid": "CON-1", "type": "record", "recording_uuid": "r-1", "status": "transcribed",
        "transcription_url": format!("{}/v1/files/t1", platform.url())});
    post(&daemon, who, "application/json", &transcribed.to_string()).await;
    post(&daemon, who, "application/json", &recorded.to_string()).await;
    let heard = |messages: &[Value]| {
        messages.first().is_some_and(|message| {
            message["call"]["transcript"] == "Hello. Please call back."
                && message["call"]["seconds"] == 17
                && message["attachments"].as_array().unwrap().len() == 2
        })
    };
    let messages = until(&receiver, &daemon, "the words of the call", heard).await;
    assert_eq!((messages.len(), messages[0]["from"]["address"].as_str()), (1, Some("tel:+15550000002")));
    receiver.no_complaints();
}
