//! Calls, whose parts come by callbacks of their own: a recording and its transcript are one message, whichever comes first and however often.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, Setup};
use crate::support::http1;
use crate::support::receiver::Receiver;

const BOUND: Duration = Duration::from_secs(30);

fn recording(call: &str) -> Vec<(&'static str, String)> {
    vec![
        ("RecordingStatus", "completed".to_owned()),
        ("RecordingDuration", "41".to_owned()),
        ("RecordingUrl", format!("https://api.twilio.com/2010-04-01/Accounts/AC1/Recordings/RE{call}")),
    ]
}

fn transcript(call: &str) -> Vec<(&'static str, String)> {
    vec![
        ("TranscriptionStatus", "completed".to_owned()),
        ("TranscriptionSid", format!("TR{call}")),
        ("TranscriptionText", format!("hello from {call}")),
        ("RecordingUrl", format!("https://api.twilio.com/2010-04-01/Accounts/AC1/Recordings/RE{call}")),
    ]
}

/// Twilio calls back about a call: `R` its recording, `T` its transcript.
async fn twilio(daemon: &Daemon, call: &str, part: char) {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    let shared = [("AccountSid", "AC1".to_owned()), ("CallSid", format!("CA{call}")), ("RecordingSid", format!("RE{call}"))];
    let who = [("From", format!("+1555000{call}")), ("To", "+15550009999".to_owned())];
    let more = if part == 'R' { recording(call) } else { transcript(call) };
    for (name, value) in shared.into_iter().chain(who).chain(more) {
        form.append_pair(name, &value);
    }
    post(daemon, "hotline", "application/x-www-form-urlencoded", &form.finish()).await;
}

pub async fn post(daemon: &Daemon, channel: &str, kind: &str, body: &str) {
    let headers = [("content-type", kind)];
    let answer = http1::once(daemon.public, "POST", &format!("/hooks/{channel}"), &headers, body.as_bytes()).await.unwrap();
    assert!(answer.success(), "{} {}", answer.start, answer.text());
}

fn setup(receiver: &Receiver) -> Setup {
    let mut setup = Setup::all_to(&receiver.url());
    setup.channels.insert("hotline".to_owned(), "connector = \"twilio-voice\"\nverify = \"none\"\n".to_owned());
    setup.channels.insert("line".to_owned(), "connector = \"telnyx\"\nverify = \"none\"\n".to_owned());
    setup
}

/// What a receiver knows of the messages: created, and changed by what came later. By the id of the message.
pub fn known(receiver: &Receiver) -> Vec<Value> {
    let mut messages: Vec<Value> = Vec::new();
    for delivery in receiver.book().taken() {
        let (event, data) = (&delivery.event, &delivery.event["data"]);
        let message = &data["message"];
        match event["type"].as_str().unwrap() {
            "message.created" => messages.push(message.clone()),
            "message.updated" => {
                let known =
                    messages.iter_mut().find(|known| known["id"] == message["id"]).expect("an update of a message that was not told");
                for name in data["changed"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()) {
                    known[name] = data[name].clone();
                }
                known["updates"] = json!(known["updates"].as_u64().unwrap_or(0) + 1);
            }
            other => panic!("{other}"),
        }
    }
    messages
}

#[tokio::test]
async fn parts_of_a_call_are_one_message_in_every_order_and_however_often() {
    let receiver = Receiver::start().await;
    let mut daemon = Daemon::start(setup(&receiver)).await;
    let orders = ["RT", "TR", "RRTT", "TTRR", "RTRT", "R", "T", "TRT"];
    for (number, order) in orders.iter().enumerate() {
        for (step, part) in order.chars().enumerate() {
            twilio(&daemon, &format!("100{number}"), part).await;
            if step == 0 && number < 2 {
                daemon.kill();
                daemon.launch();
                daemon.ready().await;
            }
        }
    }
    let expected: usize = orders.iter().map(|order| if order.contains('R') && order.contains('T') { 2 } else { 1 }).sum();
    receiver.wait_for("one event for each part that is news", BOUND, |book| book.taken().len() == expected).await;
    daemon.settled(BOUND).await;
    let messages = known(&receiver);
    assert_eq!(messages.len(), orders.len(), "one message for each call");
    for (number, (message, order)) in messages.iter().zip(orders).enumerate() {
        let call = &message["call"];
        let words = format!("hello from 100{number}");
        let says = order.contains('T').then_some(words.as_str());
        assert_eq!((call["outcome"].as_str(), call["seconds"].as_u64()), (Some("voicemail"), order.contains('R').then_some(41)), "{order}");
        assert_eq!((call["transcript"].as_str(), message["text"].as_str()), (says, says), "{order}: {message}");
        assert_eq!(call["recording"], message["attachments"][0]["id"], "{order}");
        assert_eq!(message["attachments"].as_array().unwrap().len(), 1, "{order}");
        assert_eq!(message["edited"], false, "{order}: nobody edited it");
        assert_eq!(message["updates"].as_u64().unwrap_or(0), u64::from(order.contains('R') && order.contains('T')), "{order}");
    }
    receiver.no_complaints();
}

#[tokio::test]
async fn a_transcript_that_does_not_say_who_was_called_finds_its_recording() {
    let receiver = Receiver::start().await;
    let daemon = Daemon::start(setup(&receiver)).await;
    let event = |kind: &str, id: &str, payload: Value| {
        json!({"data": {"event_type": kind, "id": id, "occurred_at": "2026-11-22T09:14:00Z", "record_type": "event", "payload": payload}})
            .to_string()
    };
    let saved = |call: &str| {
        let payload = json!({
            "call_session_id": format!("cs{call}"), "recording_id": format!("rec{call}"), "from": "+15550000002", "to": "+15550000001",
            "recording_started_at": "2026-11-22T09:13:20Z", "recording_ended_at": "2026-11-22T09:13:37Z",
            "recording_urls": {"mp3": format!("https://media.example.org/{call}.mp3")},
        });
        event("call.recording.saved", &format!("s{call}"), payload)
    };
    let said = |call: &str| {
        let payload = json!({
            "call_session_id": format!("cs{call}"), "recording_id": format!("rec{call}"), "recording_transcription_id": format!("tr{call}"),
            "status": "completed", "transcription_text": "please call back",
        });
        event("call.recording.transcription.saved", &format!("t{call}"), payload)
    };
    for body in [saved("1"), said("1"), said("1"), said("2"), saved("2"), saved("2")] {
        post(&daemon, "line", "application/json", &body).await;
    }
    // The recordings are fetched meanwhile, and cannot be had: a message that waits for its own takes its transcript in.
    let whole = |message: &Value| message["call"]["transcript"].is_string() && message["call"]["seconds"].is_u64();
    let started = std::time::Instant::now();
    while known(&receiver).iter().filter(|message| whole(message)).count() < 2 {
        assert!(started.elapsed() < BOUND, "{:#?}\n{}", known(&receiver), daemon.log_end(20));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let messages = known(&receiver);
    assert_eq!(messages.len(), 2);
    for message in messages {
        let call = &message["call"];
        assert_eq!((call["transcript"].as_str(), call["seconds"].as_u64()), (Some("please call back"), Some(17)), "{message}");
        assert_eq!(call["recording"], message["attachments"][0]["id"], "{message}");
    }
    receiver.no_complaints();
}
