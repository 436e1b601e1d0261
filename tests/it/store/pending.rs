//! Pending items keep their place, and what follows them queues behind.

use omnigate::model::event::Body;
use omnigate::model::item::{Fate, Hold, HoldReason};
use omnigate::ports::store::Write;

use super::gate::{Gate, each, fate, words};

fn hold(gate: &Gate, reason: HoldReason) -> Hold {
    Hold { reason, until: gate.now().plus_ms(20_000) }
}

async fn texts(gate: &Gate) -> Vec<String> {
    let said = |body| match body {
        Body::MessageCreated(created) => created.message.text.unwrap_or_default(),
        other => other.type_name().to_owned(),
    };
    gate.events().await.into_iter().map(|event| said(event.body)).collect()
}

#[tokio::test]
async fn later_items_of_the_conversation_queue_behind_a_held_one_and_follow_by_themselves() {
    each(|gate| async move {
        gate.admit(gate.message("ana", "one")).await;
        let held = gate.admit_all(vec![gate.admission(vec![gate.held("ana", "two", hold(&gate, HoldReason::Held))])]).await;
        let item = held.fates[0][0].item;
        assert_eq!(held.pending, [(item, gate.now().plus_ms(20_000))]);
        assert_eq!(fate(&gate.admit(gate.message("ana", "three")).await), (Fate::Pending, Some("queued")));
        assert_eq!(gate.admit(gate.edit("ana", "one", "one!")).await.fate, Fate::Pending);
        assert_eq!(gate.admit(gate.reaction("two", "+1")).await.fate, Fate::Pending);
        assert_eq!(gate.admit(gate.message("bob", "elsewhere")).await.fate, Fate::Published, "I8: only its own conversation");
        assert_eq!(gate.admit(gate.message("ana", "two")).await.fate, Fate::Duplicate, "a pending key is taken");
        assert_eq!(texts(&gate).await, ["one", "elsewhere"]);
        gate.check_invariants().await;
        gate.crash();
        assert_eq!(gate.store().pending(10).await.unwrap(), [(item, gate.now().plus_ms(20_000))]);
        let released = gate.one(Write::Release { item }).await.unwrap();
        assert_eq!((released.count, words(&released.fates[0])), (4, vec!["published"; 4]));
        assert_eq!(texts(&gate).await, ["one", "elsewhere", "two", "three", "message.edited", "reaction.added"]);
        assert_eq!(gate.one(Write::Release { item }).await.unwrap().count, 0);
        assert_eq!(gate.admit(gate.message("ana", "four")).await.fate, Fate::Published);
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn a_second_hold_keeps_its_place_when_it_is_over_first() {
    each(|gate| async move {
        let first = gate.admit(gate.held("ana", "one", hold(&gate, HoldReason::Media))).await.item;
        let second = gate.admit(gate.held("ana", "two", hold(&gate, HoldReason::Held))).await.item;
        let third = gate.admit(gate.held("ana", "three", hold(&gate, HoldReason::Held))).await.item;
        gate.one(Write::Release { item: second }).await.unwrap();
        assert!(texts(&gate).await.is_empty());
        gate.pass(20_000);
        gate.one(Write::Release { item: first }).await.unwrap();
        assert_eq!(texts(&gate).await, ["one", "two"]);
        assert_eq!(gate.admit(gate.message("ana", "four")).await.fate, Fate::Pending);
        gate.one(Write::Release { item: third }).await.unwrap();
        assert_eq!(texts(&gate).await, ["one", "two", "three", "four"]);
        assert!(gate.store().pending(10).await.unwrap().is_empty());
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn a_long_queue_is_released_in_more_than_one_step_and_survives_a_crash_between() {
    each(|gate| async move {
        let first = gate.admit(gate.held("ana", "first", hold(&gate, HoldReason::Held))).await.item;
        let items = (0..600).map(|n| gate.message("ana", &format!("m{n}"))).collect();
        gate.admit_all(vec![gate.admission(items)]).await;
        let written = gate.one(Write::Release { item: first }).await.unwrap();
        assert_eq!((written.count, written.pending.len()), (500, 1));
        gate.crash();
        let rest = gate.store().pending(10).await.unwrap();
        assert_eq!(rest[0].0, written.pending[0].0);
        gate.one(Write::Release { item: rest[0].0 }).await.unwrap();
        assert_eq!(gate.events().await.len(), 601);
        gate.check_invariants().await;
    })
    .await;
}
