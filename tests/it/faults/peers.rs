//! Destinations that hang, dawdle, fail, ask for patience, cut the connection, or refuse one event for ever.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::faults::{PATIENCE, all_is_well, ledger, message, post_all, receiver_and_setup};
use crate::support::daemon::{Daemon, Setup};
use crate::support::receiver::{Answer, Receiver};

#[tokio::test]
async fn hung_destination_delays_only_itself_and_gets_everything_when_it_wakes() {
    let (hung, healthy) = (Receiver::start().await, Receiver::start().await);
    hung.answer(Answer::Hang);
    let mut setup = Setup::default();
    setup.destination("crm", &hung.url(), "timeout = \"1s\"");
    setup.destination("audit", &healthy.url(), "");
    setup.rest.push_str("[[route]]\nto = [\"crm\", \"audit\"]\n");
    setup.rest.push_str(&crate::support::daemon::quick_schedule());
    setup.with_whatsapp();
    let daemon = Daemon::start(setup).await;

    for sender in 0..10 {
        post_all(&daemon, sender, 0..2).await;
    }
    healthy.wait_for("the healthy destination", Duration::from_secs(5), |book| book.taken().len() == 20).await;
    assert_eq!(daemon.scrape().await.sum("omnigate_deliveries", &[("destination", "crm"), ("state", "waiting")]), 20);
    hung.answer(Answer::Take);
    all_is_well(&daemon, &hung, 20).await;
    all_is_well(&daemon, &healthy, 20).await;
    assert_eq!(ledger(&daemon, "&fate=published").await.len(), 20);
}

#[tokio::test]
async fn slow_destination_gets_conversations_side_by_side_and_each_in_order() {
    let (receiver, setup) = receiver_and_setup().await;
    receiver.answer(Answer::TakeAfter(Duration::from_millis(300)));
    let daemon = Daemon::start(setup).await;
    for sender in 0..8 {
        post_all(&daemon, sender, 0..3).await;
    }
    all_is_well(&daemon, &receiver, 24).await;
    // One after the other, two of them could never be taken within less than what one takes.
    let mut taken: Vec<Instant> = receiver.book().taken().iter().map(|delivery| delivery.at).collect();
    taken.sort();
    assert!(taken.windows(2).any(|pair| pair[1] - pair[0] < Duration::from_millis(150)), "none went side by side");
}

#[tokio::test]
async fn answers_500_are_retried_with_the_same_id_until_taken() {
    let (receiver, setup) = receiver_and_setup().await;
    let mut left = 6;
    receiver.plan(move |_| {
        left -= 1;
        if left >= 0 { Answer::status(500) } else { Answer::Take }
    });
    let daemon = Daemon::start(setup).await;
    post_all(&daemon, 1, 0..3).await;
    all_is_well(&daemon, &receiver, 3).await;
    assert!(receiver.book().deliveries.len() >= 9);
}

#[tokio::test]
async fn destination_that_fails_says_so_once_in_the_log_and_in_status_as_long_as_it_does() {
    let (receiver, setup) = receiver_and_setup().await;
    receiver.answer(Answer::status(500));
    let daemon = Daemon::start(setup).await;
    post_all(&daemon, 1, 0..1).await;
    receiver.wait_for("several attempts", PATIENCE, |book| book.deliveries.len() >= 3).await;
    let (_, status, _) = daemon.command(&["status"]);
    assert!(status.contains("trying since") && status.contains("500"), "{status}");
    receiver.answer(Answer::Take);
    all_is_well(&daemon, &receiver, 1).await;
    assert!(!daemon.command(&["status"]).1.contains("trying since"));
    let log = daemon.log_text();
    assert_eq!((log.matches("delivery failed").count(), log.matches("delivers again").count()), (1, 1), "{log}");
}

#[tokio::test]
async fn retry_after_in_seconds_pauses_the_whole_destination() {
    retry_after(|| "2".to_owned()).await;
}

#[tokio::test]
async fn retry_after_as_a_date_pauses_the_whole_destination() {
    retry_after(|| {
        let until = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
        // RFC 9110 §5.6.7: IMF-fixdate, whole seconds, always GMT.
        until.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    })
    .await;
}

async fn retry_after(value: fn() -> String) {
    let (receiver, setup) = receiver_and_setup().await;
    let mut first = true;
    receiver.plan(move |_| match std::mem::take(&mut first) {
        true => Answer::Status(429, vec![("retry-after".to_owned(), value())]),
        false => Answer::Take,
    });
    let daemon = Daemon::start(setup).await;
    post_all(&daemon, 1, 0..1).await;
    receiver.wait_for("the first attempt", PATIENCE, |book| book.deliveries.len() == 1).await;
    // Other conversations wait as well: the destination is paused, not only the lane.
    tokio::time::sleep(Duration::from_millis(200)).await;
    post_all(&daemon, 2, 0..1).await;
    all_is_well(&daemon, &receiver, 2).await;
    let book = receiver.book();
    let pause = book.deliveries[1].at - book.deliveries[0].at;
    assert!(pause > Duration::from_millis(1200), "the next delivery came after {pause:?}");
    assert!(pause < Duration::from_secs(10), "the next delivery came after {pause:?}");
}

#[tokio::test]
async fn event_taken_without_an_answer_comes_again_with_the_same_id_and_bytes() {
    let (receiver, setup) = receiver_and_setup().await;
    let mut cuts = 0;
    receiver.plan(move |_| {
        cuts += 1;
        if cuts <= 2 { Answer::TakeAndCut } else { Answer::Take }
    });
    let daemon = Daemon::start(setup).await;
    post_all(&daemon, 1, 0..2).await;
    all_is_well(&daemon, &receiver, 2).await;
    let book = receiver.book();
    let ids: std::collections::BTreeSet<&str> = book.deliveries.iter().map(|delivery| delivery.id.as_str()).collect();
    assert!(book.deliveries.len() >= 4 && ids.len() == 2, "{} deliveries of {} events", book.deliveries.len(), ids.len());
}

#[tokio::test]
async fn event_that_is_always_answered_503_holds_up_its_conversation_only_and_ends_as_a_dead_letter() {
    let receiver = Receiver::start().await;
    receiver.plan(|request| {
        let poisonous = request.text().contains("wamid.7.0");
        if poisonous { Answer::status(503) } else { Answer::Take }
    });
    let mut setup = Setup::whatsapp_to(&receiver.url());
    setup.rest.push_str("[delivery]\nschedule = [\"0s\", \"200ms\", \"200ms\", \"200ms\"]\njitter = 0.0\n");
    let daemon = Daemon::start(setup).await;
    for sender in [7, 8, 9] {
        post_all(&daemon, sender, 0..3).await;
    }
    // Everybody else's messages, and after the head is given up its followers too (`on_exhausted = "skip"`).
    receiver.wait_for("all but one", PATIENCE, |book| book.taken().len() == 8).await;
    let dead = daemon.get("/v1/deliveries?state=dead").await;
    assert_eq!(dead["items"].as_array().map(Vec::len), Some(1), "{dead:#}");
    assert_eq!(dead["items"][0]["status"], 503, "{dead:#}");
    daemon.settled(PATIENCE).await.identities_hold();

    // A person mends the receiver and asks for it again.
    receiver.answer(Answer::Take);
    let answer = daemon.admin("POST", "/v1/dead/replay", &json!({"filter": {"destination": "crm"}})).await;
    assert_eq!((answer.status(), answer.json()["count"].as_u64()), (200, Some(1)), "{}", answer.text());
    receiver.wait_for("the dead letter", PATIENCE, |book| book.taken().len() == 9).await;
    let scrape = daemon.settled(PATIENCE).await;
    scrape.identities_hold();
    assert_eq!(scrape.sum("omnigate_deliveries", &[("state", "delivered")]), 9);
}

#[tokio::test]
async fn identical_requests_at_the_same_instant_are_both_answered_200_and_published_once() {
    let (receiver, setup) = receiver_and_setup().await;
    let daemon = Daemon::start(setup).await;
    for number in 0..20 {
        let body = message(number, 3);
        let (one, two) = tokio::join!(daemon.post(&body), daemon.post(&body));
        assert_eq!((one.unwrap().status(), two.unwrap().status()), (200, 200));
    }
    all_is_well(&daemon, &receiver, 20).await;
    let (published, duplicates) = (ledger(&daemon, "&fate=published").await, ledger(&daemon, "&fate=duplicate").await);
    assert_eq!((published.len(), duplicates.len()), (20, 20));
    for row in duplicates {
        assert!(published.iter().any(|first| first["item"] == row["duplicate_of"]), "{row:#}");
    }
}
