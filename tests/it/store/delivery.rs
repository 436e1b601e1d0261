//! Deliveries: lanes, decisions, dead letters, replays, destinations, fencing.

use std::time::Duration;

use omnigate::model::codes::Code;
use omnigate::model::delivery::{DeliveryState, Due, Verdict};
use omnigate::model::event::Body;
use omnigate::model::time::Time;
use omnigate::model::view::{DeliveryFilter, DestinationMode, LedgerFilter};
use omnigate::ports::store::{DELIVER_LEASE, StoreError, Write};

use super::gate::{Gate, each};

fn to(destination: &str) -> DeliveryFilter {
    DeliveryFilter { destination: Some(destination.into()), ..DeliveryFilter::default() }
}

async fn states(gate: &Gate, destination: &str) -> Vec<DeliveryState> {
    gate.store().deliveries(to(destination)).await.unwrap().iter().map(|row| row.state).collect()
}

#[tokio::test]
async fn each_destination_has_its_lane_in_order_and_knows_what_it_got_before() {
    each(|gate| async move {
        gate.admit(gate.message("ana", "a1")).await;
        gate.route(&["desk", "crm"]);
        gate.admit(gate.message("bob", "b1")).await;
        gate.route(&["crm"]);
        gate.admit(gate.message("ana", "a2")).await;
        gate.route(&["desk"]);
        gate.admit(gate.message("ana", "a3")).await;
        let store = gate.store();
        let desk = store.waiting("desk", 0, 10).await.unwrap();
        assert_eq!(desk.len(), 3);
        let lane = store.lane("desk", desk[0].lane, 10).await.unwrap();
        assert_eq!(lane.iter().map(|due| due.position).collect::<Vec<_>>(), [desk[0].position, desk[2].position]);
        assert_eq!(store.waiting("desk", desk[0].position, 1).await.unwrap(), [desk[1].clone()]);
        let outgoing = store.outgoing("desk", &desk).await.unwrap();
        let said: Vec<_> = outgoing.iter().map(|(_, _, out)| (out.sequence, out.previous, out.attempt)).collect();
        assert_eq!(said, [(1, 0, 1), (1, 0, 1), (3, 1, 1)], "a2 went to crm alone: no gap for the desk");
        assert_eq!(outgoing[0].2.channel.as_deref(), Some("chat"));
        let crm = store.waiting("crm", 0, 10).await.unwrap();
        let out = store.outgoing("crm", &crm).await.unwrap();
        assert_eq!(out.iter().map(|(_, _, out)| (out.sequence, out.previous)).collect::<Vec<_>>(), [(1, 0), (2, 0)]);
        assert!(store.waiting("nobody", 0, 10).await.unwrap().is_empty());
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn a_retry_waits_for_its_time_and_keeps_id_and_bytes() {
    each(|gate| async move {
        gate.admit(gate.message("ana", "one")).await;
        let first = gate.store().waiting("desk", 0, 10).await.unwrap();
        let before = gate.store().outgoing("desk", &first).await.unwrap();
        let (due_at, code) = (gate.now().plus_ms(5_000), Code::Failed);
        gate.decide("desk", first[0].position, Verdict::Retry { due_at, code, counted: true }).await.unwrap();
        let retrying = gate.store().retrying("desk").await.unwrap();
        let expected = Due { attempts: 1, due_at, first_attempt_at: Some(gate.now()), ..first[0].clone() };
        assert_eq!(retrying, [expected]);
        gate.decide("desk", first[0].position, Verdict::Retry { due_at, code: Code::Busy, counted: false }).await.unwrap();
        assert_eq!(gate.store().retrying("desk").await.unwrap()[0].attempts, 1, "a wait that was asked for uses up no try");
        gate.crash();
        let after = gate.store().outgoing("desk", &retrying).await.unwrap();
        assert_eq!((after[0].2.event, &after[0].2.bytes, after[0].2.attempt), (before[0].2.event, &before[0].2.bytes, 2));
        gate.decide("desk", first[0].position, Verdict::Delivered).await.unwrap();
        assert!(gate.waiting("desk").await.is_empty() && gate.store().retrying("desk").await.unwrap().is_empty());
        assert_eq!(gate.decide("desk", first[0].position, Verdict::Delivered).await.unwrap().count, 0, "decided once");
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn a_dead_delivery_is_told_revived_in_its_place_or_discarded() {
    each(|gate| async move {
        gate.routes.operators.lock().unwrap().push("ops".into());
        for name in ["one", "two", "three"] {
            gate.admit(gate.message("ana", name)).await;
        }
        let positions = gate.waiting("desk").await;
        let written = gate.decide("desk", positions[0], Verdict::Dead { code: Code::Rejected }).await.unwrap();
        assert_eq!(written.woken.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["ops"]);
        gate.decide("desk", positions[1], Verdict::Dead { code: Code::Exhausted }).await.unwrap();
        let Body::DeliveryDead(dead) = gate.events().await.remove(3).body else { panic!() };
        assert_eq!((dead.code.as_str(), dead.counts["attempts"], dead.destination.as_str()), ("rejected", 1, "desk"));
        // The event about it dies too, and makes no further one.
        let ops = gate.waiting("ops").await;
        gate.decide("ops", ops[0], Verdict::Dead { code: Code::Rejected }).await.unwrap();
        assert_eq!(gate.events().await.len(), 5);

        let filter = DeliveryFilter { code: Some("rejected".into()), ..to("desk") };
        assert_eq!(gate.one(Write::Dead { filter, discard: false }).await.unwrap().count, 1);
        assert_eq!(gate.waiting("desk").await, [positions[0], positions[2]], "in its place, before what came later");
        assert_eq!(gate.one(Write::Dead { filter: to("desk"), discard: true }).await.unwrap().count, 1);
        assert_eq!(states(&gate, "desk").await, [DeliveryState::Waiting, DeliveryState::Discarded, DeliveryState::Waiting]);
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn a_replay_is_a_new_obligation_beside_the_first() {
    each(|gate| async move {
        for name in ["one", "two"] {
            gate.admit(gate.message("ana", name)).await;
        }
        let positions = gate.waiting("desk").await;
        gate.decide("desk", positions[0], Verdict::Delivered).await.unwrap();
        let replay = || Write::Replay { filter: to("desk"), limit: 100 };
        assert_eq!(gate.one(replay()).await.unwrap().count, 1, "what waits is owed already");
        assert_eq!(gate.one(replay()).await.unwrap().count, 0, "and so is a replay that waits");
        let due = gate.store().waiting("desk", 0, 10).await.unwrap();
        assert_eq!(due.iter().map(|due| (due.position, due.replay)).collect::<Vec<_>>(), [(positions[0], true), (positions[1], false)]);
        let out = gate.store().outgoing("desk", &due).await.unwrap();
        assert!(out[0].1 && out[0].2.replay);
        gate.decide_at("desk", positions[0], Verdict::Delivered, true, 0).await.unwrap();
        assert_eq!(gate.one(replay()).await.unwrap().count, 1);
        let totals = gate.store().totals().await.unwrap();
        assert_eq!((totals.due["desk"], totals.deliveries["desk"]["delivered"]), (4, 2));
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn a_destination_tells_what_it_last_said_to_what_is_tried_again() {
    each(|gate| async move {
        gate.admit(gate.message("ana", "one")).await;
        let retrying = async || gate.store().destinations().await.unwrap().remove(0).retrying;
        assert_eq!(retrying().await, None, "nothing was tried");
        let position = gate.waiting("desk").await[0];
        let tried_at = gate.now();
        let verdict = Verdict::Retry { due_at: tried_at.plus(Duration::from_secs(5)), code: Code::Connect, counted: true };
        gate.decide("desk", position, verdict).await.unwrap();
        gate.pass(5000);
        gate.crash();
        let told = retrying().await.unwrap();
        assert_eq!((told.since, told.attempts, told.code.as_deref()), (tried_at, 1, Some("connect")));
        gate.decide("desk", position, Verdict::Delivered).await.unwrap();
        assert_eq!(retrying().await, None);
    })
    .await;
}

#[tokio::test]
async fn a_destination_tells_that_it_is_paused_and_that_it_goes_on() {
    each(|gate| async move {
        gate.admit(gate.message("ana", "one")).await;
        let change = |mode, code: Option<&str>| Write::Destination { name: "desk".into(), mode, code: code.map(Into::into) };
        assert_eq!(gate.one(change(DestinationMode::Paused, Some("denied"))).await.unwrap().count, 1);
        assert_eq!(gate.one(change(DestinationMode::Paused, Some("denied"))).await.unwrap().count, 0);
        let row = gate.store().destinations().await.unwrap().remove(0);
        assert_eq!((row.state, row.code.as_deref(), row.deliveries["waiting"]), (DestinationMode::Paused, Some("denied"), 1));
        assert_eq!(row.oldest_waiting, Some(gate.now()));
        let paused_at = gate.now();
        gate.pass(1000);
        gate.crash();
        assert_eq!(gate.store().destinations().await.unwrap()[0].state, DestinationMode::Paused);
        gate.one(change(DestinationMode::Active, None)).await.unwrap();
        let events = gate.events().await;
        let Body::DestinationPaused(paused) = &events[1].body else { panic!() };
        assert_eq!((paused.code.as_str(), paused.counts["waiting"]), ("denied", 1));
        let Body::DestinationResumed(resumed) = &events[2].body else { panic!() };
        assert_eq!((resumed.code.as_str(), resumed.since), ("denied", paused_at));
        assert_eq!(events.len(), 3);
    })
    .await;
}

#[tokio::test]
async fn a_dropped_destination_is_owed_nothing_and_forgotten_until_it_is_again() {
    each(|gate| async move {
        gate.route(&["desk", "crm"]);
        gate.admit(gate.message("ana", "one")).await;
        assert_eq!(gate.one(Write::DropDestination { name: "crm".into() }).await.unwrap().count, 1);
        assert_eq!(gate.store().destinations().await.unwrap().len(), 1);
        assert_eq!(states(&gate, "crm").await, [DeliveryState::Discarded]);
        gate.admit(gate.message("ana", "two")).await;
        assert_eq!(gate.store().destinations().await.unwrap().len(), 2);
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn a_node_that_lost_the_lease_decides_nothing() {
    each(|gate| async move {
        gate.admit(gate.message("ana", "one")).await;
        let position = gate.waiting("desk").await[0];
        let store = gate.store();
        assert_eq!(store.take_lease(DELIVER_LEASE, "a").await.unwrap(), 1);
        assert_eq!(store.take_lease(DELIVER_LEASE, "b").await.unwrap(), 2);
        let late = gate.decide_at("desk", position, Verdict::Delivered, false, 1).await;
        assert_eq!(late, Err(StoreError::Fenced { held: 1, current: 2 }));
        assert_eq!(gate.waiting("desk").await, [position]);
        drop(store);
        gate.crash();
        assert!(gate.decide_at("desk", position, Verdict::Delivered, false, 1).await.is_err());
        assert_eq!(gate.decide_at("desk", position, Verdict::Delivered, false, 2).await.unwrap().count, 1);
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn an_operator_event_has_no_conversation_and_no_sequence() {
    each(|gate| async move {
        gate.routes.operators.lock().unwrap().push("ops".into());
        let state = omnigate::model::event::ChannelState {
            channel: gate.channel.public.clone(),
            code: "auth_failed".into(),
            since: gate.now(),
            counts: Default::default(),
        };
        let written = gate.one(Write::Operator(Box::new(Body::ChannelDegraded(Box::new(state))))).await.unwrap();
        assert_eq!(written.woken.len(), 1);
        let due = gate.store().waiting("ops", 0, 10).await.unwrap();
        let (_, _, out) = gate.store().outgoing("ops", &due).await.unwrap().remove(0);
        assert_eq!((due[0].lane, out.sequence, out.conversation, out.channel.as_deref()), (0, 0, None, Some("chat")));
        assert!(gate.store().ledger(LedgerFilter::default()).await.unwrap().is_empty());
        assert!(gate.store().event(out.event).await.unwrap().is_some());
    })
    .await;
}

#[tokio::test]
async fn deliveries_are_found_by_what_a_person_knows() {
    each(|gate| async move {
        gate.admit(gate.message("ana", "one")).await;
        gate.pass(1000);
        let later = gate.now();
        gate.admit(gate.message("bob", "two")).await;
        gate.admit(gate.reaction("two", "+1")).await;
        let store = gate.store();
        let all = store.deliveries(DeliveryFilter::default()).await.unwrap();
        assert_eq!(all.len(), 3);
        let count = |filter| {
            let store = store.clone();
            async move { store.count_deliveries(filter).await.unwrap() }
        };
        let none = DeliveryFilter::default;
        assert_eq!(count(DeliveryFilter { since: Some(later), ..none() }).await, 2);
        assert_eq!(count(DeliveryFilter { until: Some(later), ..none() }).await, 1);
        assert_eq!(count(DeliveryFilter { event_type: Some("reaction.added".into()), ..none() }).await, 1);
        assert_eq!(count(DeliveryFilter { conversation: all[1].conversation, ..none() }).await, 2);
        assert_eq!(count(DeliveryFilter { event: Some(all[0].event), ..none() }).await, 1);
        assert_eq!(count(DeliveryFilter { after: Some(all[1].position), ..none() }).await, 1);
        assert_eq!(count(DeliveryFilter { state: Some(DeliveryState::Dead), ..none() }).await, 0);
        assert_eq!(count(DeliveryFilter { since: Some(Time(0)), destination: Some("crm".into()), ..none() }).await, 0);
        assert_eq!(store.deliveries(DeliveryFilter { limit: 2, ..none() }).await.unwrap().len(), 2);
    })
    .await;
}
