//! Ends and changes while it runs: SIGTERM, a second SIGTERM, reload.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::faults::{PATIENCE, all_is_well, post_all, receiver_and_setup};
use crate::support::daemon::Daemon;
use crate::support::http1;
use crate::support::receiver::Answer;

#[tokio::test]
async fn sigterm_waits_for_what_is_in_flight_and_ends_well() {
    let (receiver, setup) = receiver_and_setup().await;
    receiver.answer(Answer::TakeAfter(Duration::from_millis(1500)));
    let mut daemon = Daemon::start(setup).await;
    post_all(&daemon, 1, 0..2).await;
    receiver.wait_for("a delivery under way", PATIENCE, |book| !book.deliveries.is_empty()).await;
    daemon.signal("TERM");
    let status = daemon.ended(Duration::from_secs(20)).await;
    assert!(status.success(), "{status}: {}", daemon.log_end(20));
    assert!(http1::Wire::connect(daemon.public).await.is_err(), "still listens");

    receiver.answer(Answer::Take);
    daemon.launch();
    daemon.ready().await;
    all_is_well(&daemon, &receiver, 2).await;
    assert_eq!(receiver.book().deliveries.len(), 2, "what was in flight was recorded, so nothing came twice");
}

#[tokio::test]
async fn second_sigterm_ends_at_once_and_nothing_is_lost() {
    let (receiver, setup) = receiver_and_setup().await;
    receiver.answer(Answer::Hang);
    let mut daemon = Daemon::start(setup).await;
    post_all(&daemon, 1, 0..2).await;
    receiver.wait_for("a delivery under way", PATIENCE, |book| !book.deliveries.is_empty()).await;
    daemon.signal("TERM");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let from = Instant::now();
    daemon.signal("TERM");
    daemon.ended(Duration::from_secs(3)).await;
    assert!(from.elapsed() < Duration::from_secs(2), "{:?}", from.elapsed());

    receiver.answer(Answer::Take);
    daemon.launch();
    daemon.ready().await;
    all_is_well(&daemon, &receiver, 2).await;
}

#[tokio::test]
async fn reload_takes_a_new_channel_and_a_broken_main_file_changes_nothing() {
    let (receiver, setup) = receiver_and_setup().await;
    let mut daemon = Daemon::start(setup).await;
    post_all(&daemon, 1, 0..1).await;

    let good = daemon.setup.rest.clone();
    daemon.setup.rest.push_str("\n[destination.crm2]\nkindd = \"webhook\"\n");
    daemon.write_config();
    let answer = daemon.admin("POST", "/v1/reload", &Value::Null).await;
    assert_eq!(answer.status(), 409, "{}", answer.text());
    assert!(answer.text().contains("kindd"), "{}", answer.text());
    post_all(&daemon, 1, 1..2).await;

    daemon.setup.rest = good;
    let map = r#"{kind: "message", key: .id, conversation: .room, from: {address: "web:\(.who)"}, text: .text}"#;
    let extra = format!("connector = \"generic\"\nverify = \"none\"\nmap = '''{map}'''\n");
    daemon.setup.channels.insert("extra".to_owned(), extra);
    daemon.write_config();
    daemon.signal("HUP");
    let from = Instant::now();
    let body = br#"{"id": "1", "room": "r", "who": "ana", "text": "hello"}"#;
    loop {
        let answer = http1::once(daemon.public, "POST", "/hooks/extra", &[("content-type", "application/json")], body).await.unwrap();
        if answer.status() == 200 {
            break;
        }
        assert_eq!(answer.status(), 404, "{}", answer.text());
        assert!(from.elapsed() < PATIENCE, "the new channel does not appear:\n{}", daemon.log_end(20));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    post_all(&daemon, 1, 2..3).await;
    all_is_well(&daemon, &receiver, 4).await;
}
