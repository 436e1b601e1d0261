//! Care: retention, erasing, backup and restore, restart.

use omnigate::model::codes::Code;
use omnigate::model::delivery::{DeliveryState, Verdict};
use omnigate::model::event::{Attachment, AttachmentState, Body};
use omnigate::model::id::AttachmentId;
use omnigate::model::item::{Fate, FilePlace, Hold, HoldReason, ItemAttachment, ItemBody, MessageItem};
use omnigate::model::view::{DeliveryFilter, LedgerFilter};
use omnigate::ports::store::{RawPlace, RawRecord, Retention, Write};

use super::gate::{DAY_MS, Gate, each, words};

async fn sweep(gate: &Gate, retention: &Retention) -> (u64, u64, u64) {
    let mut sum = (0, 0, 0);
    for _ in 0..100 {
        let swept = gate.store().sweep(retention, gate.now()).await.unwrap();
        sum = (sum.0 + swept.raws, sum.1 + swept.events, sum.2 + swept.ledger);
        if !swept.more {
            return sum;
        }
    }
    panic!("retention does not end");
}

#[tokio::test]
async fn retention_takes_what_is_old_and_decided_and_leaves_what_is_owed() {
    each(|gate| async move {
        let items = (0..300).map(|n| gate.message("ana", &format!("m{n}"))).collect();
        gate.admit_all(vec![gate.admission(items)]).await;
        let bad = gate.admit(gate.bare(ItemBody::Quarantined { code: Code::TooDeep, detail: String::new() })).await;
        let positions = gate.waiting("desk").await;
        for position in &positions[2..] {
            gate.decide("desk", *position, Verdict::Delivered).await.unwrap();
        }
        gate.decide("desk", positions[1], Verdict::Dead { code: Code::Rejected }).await.unwrap();
        let keep =
            Retention { raws_ms: Some(DAY_MS), events_ms: Some(DAY_MS), quarantine_ms: Some(3 * DAY_MS), ledger_ms: Some(2 * DAY_MS) };
        assert_eq!(sweep(&gate, &keep).await, (0, 0, 0));
        gate.pass(DAY_MS + 1);
        gate.admit(gate.message("ana", "young")).await;
        // 298 messages and the event about the dead one; of two raws the quarantined one stays.
        assert_eq!(sweep(&gate, &keep).await, (1, 299, 0));
        assert_eq!(sweep(&gate, &keep).await, (0, 0, 0));
        assert_eq!(gate.waiting("desk").await.len(), 2);
        let due = gate.store().waiting("desk", 0, 10).await.unwrap();
        assert_eq!(gate.store().outgoing("desk", &due).await.unwrap().len(), 2, "I9: what is owed can be sent");
        assert_eq!(gate.one(Write::Dead { filter: DeliveryFilter::default(), discard: false }).await.unwrap().count, 1);
        gate.pass(DAY_MS);
        assert_eq!(sweep(&gate, &keep).await.2, 300);
        assert_eq!(gate.store().quarantine(None, None, 10).await.unwrap()[0].item, bad.item);
        assert_eq!(gate.admit(gate.message("ana", "m7")).await.fate, Fate::Duplicate, "digests outlive everything");
        gate.check_totals().await;
        gate.crash();
        let fresh = gate.admit(gate.message("ana", "fresh")).await;
        assert!(fresh.item > bad.item, "numbers are not given again");
        gate.check_totals().await;
    })
    .await;
}

#[tokio::test]
async fn an_erased_contact_leaves_tombstones_and_digests_and_nothing_else() {
    each(|gate| async move {
        let place = FilePlace::Blob { key: "files/aa/att_1".into() };
        let public = Attachment {
            id: AttachmentId(7),
            name: Some("a.png".into()),
            media_type: "image/png".into(),
            bytes: Some(5),
            sha256: None,
            inline: false,
            content_id: None,
            state: AttachmentState::Stored,
            reason: None,
            url: None,
            content: None,
        };
        let mut message = gate.said("ana", "ana", "secret text");
        message.attachments.push(ItemAttachment { public, place: Some(place.clone()), fetch: None });
        let shared = gate.admission(vec![gate.item(gate.key("one"), ItemBody::Message(Box::new(message))), gate.message("bob", "b1")]);
        let mut large = gate.admission(vec![gate.message("ana", "two")]);
        large.raw = std::sync::Arc::new(RawRecord { place: RawPlace::Blob("raws/aa/raw_2".into()), ..RawRecord::clone(&large.raw) });
        let raw = shared.raw.id;
        let written = gate.admit_all(vec![shared, large]).await;
        let file = gate.store().file(AttachmentId(7)).await.unwrap().unwrap();
        assert_eq!((file.raw, &file.place, file.published_at), (raw, &place, gate.now()));
        let hold = Hold { reason: HoldReason::Held, until: gate.now() };
        let held = gate.admit(gate.held("ana", "three", hold)).await;
        let first = gate.waiting("desk").await[0];
        gate.decide("desk", first, Verdict::Delivered).await.unwrap();

        let id = written.fates[0][0].message.unwrap();
        let contact = gate.store().message(id).await.unwrap().unwrap().contact.unwrap();
        let erased = gate.store().erase(contact).await.unwrap().unwrap();
        assert_eq!((erased.messages, erased.raws, erased.deliveries), (2, 3, 1));
        assert_eq!(erased.blobs, ["files/aa/att_1", "raws/aa/raw_2"]);
        assert!(gate.store().raw(raw).await.unwrap().is_none(), "a shared raw goes whole");
        let view = gate.store().message(id).await.unwrap().unwrap();
        assert!(view.gone && view.events.iter().all(|event| event.event.is_none()));
        assert!(gate.store().file(AttachmentId(7)).await.unwrap().is_none());
        let texts = serde_json::to_string(&gate.events().await).unwrap();
        assert!(!texts.contains("ana") && texts.contains("b1"));
        let states: Vec<_> = gate.store().deliveries(DeliveryFilter::default()).await.unwrap().iter().map(|row| row.state).collect();
        assert_eq!(states, [DeliveryState::Delivered, DeliveryState::Waiting, DeliveryState::Erased]);
        for name in ["one", "two", "three"] {
            assert_eq!(gate.admit(gate.message("ana", name)).await.fate, Fate::Duplicate, "what is gone does not come back as new");
        }
        let row = &gate.store().ledger(LedgerFilter { before: Some(held.item + 1), limit: 1, ..Default::default() }).await.unwrap()[0];
        assert_eq!((row.fate, row.code.as_deref()), (Fate::Ignored, Some("target_gone")));
        assert_eq!(gate.admit(gate.message("ana", "new life")).await.fate, Fate::Published);
        gate.check_totals().await;
        assert!(gate.store().erase(omnigate::model::id::ContactId(1)).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn totals_numbers_and_order_go_on_after_a_crash() {
    each(|gate| async move {
        gate.admit(gate.message("ana", "one")).await;
        gate.decide("desk", gate.waiting("desk").await[0], Verdict::Delivered).await.unwrap();
        let before = gate.store().totals().await.unwrap();
        let ids: Vec<_> = gate.events().await.iter().map(|event| event.id).collect();
        gate.crash();
        assert_eq!(gate.store().totals().await.unwrap(), before);
        gate.pass(-DAY_MS);
        gate.admit(gate.message("ana", "two")).await;
        let events = gate.events().await;
        assert!(events[1].id > ids[0], "I5: ids grow though the clock was set back between two runs");
        let Body::MessageCreated(created) = &events[1].body else { panic!() };
        assert_eq!(created.sequence, 2);
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn a_restored_backup_knows_the_mail_it_had_and_gives_the_same_keys() {
    each(|gate| async move {
        gate.admit_all(vec![gate.admission(vec![gate.message("ana", "one"), gate.message("bob", "two")])]).await;
        let mut large = gate.admission(vec![gate.message("ana", "large")]);
        large.raw = std::sync::Arc::new(RawRecord { place: RawPlace::Blob("raws/aa/raw_2".into()), ..RawRecord::clone(&large.raw) });
        gate.admit_all(vec![large]).await;
        let keys = |events: Vec<omnigate::model::event::Event>| -> Vec<String> {
            let key = |body| match body {
                Body::MessageCreated(created) => created.message.key,
                _ => panic!(),
            };
            events.into_iter().map(|event| key(event.body)).collect()
        };
        let backup = gate.folder.path().join("backup");
        assert_eq!(gate.store().backup(&backup).await.unwrap(), ["raws/aa/raw_2"]);
        assert!(gate.store().backup(&backup).await.is_err(), "a backup is not written over another");
        gate.admit(gate.message("ana", "three")).await;
        let lost = gate.store().events_after(0, 10).await.unwrap();
        let (last, before) = (lost.last().unwrap().0, keys(gate.events().await));
        gate.store().close().await.unwrap();
        gate.crash();
        (gate.kind.restore)(&backup, &gate.data());
        assert_eq!(keys(gate.events().await), before[..3]);
        let again = vec![gate.message("ana", "one"), gate.message("bob", "two"), gate.message("ana", "three")];
        let written = gate.admit_all(vec![gate.admission(again)]).await;
        assert_eq!(words(&written.fates[0]), ["duplicate", "duplicate", "published"]);
        assert_eq!(keys(gate.events().await), before, "the same mail has the same key");
        let after = gate.store().events_after(last, 10).await.unwrap();
        assert_eq!(after.len(), 1, "a position given before the restore names no other event after it");
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn a_backup_made_while_messages_come_in_is_whole() {
    each(|gate| async move {
        let gate = std::sync::Arc::new(gate);
        let backup = gate.folder.path().join("backup");
        let writer = {
            let gate = gate.clone();
            tokio::spawn(async move {
                for n in 0..200 {
                    gate.admit(gate.message("ana", &format!("m{n}"))).await;
                }
            })
        };
        tokio::task::yield_now().await;
        gate.store().backup(&backup).await.unwrap();
        writer.await.unwrap();
        gate.store().close().await.unwrap();
        gate.crash();
        (gate.kind.restore)(&backup, &gate.data());
        for row in gate.store().ledger(LedgerFilter { limit: 1000, ..Default::default() }).await.unwrap() {
            assert!(gate.store().raw(row.raw).await.unwrap().is_some(), "I2: every row of the copy has its raw");
        }
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn a_historic_flag_and_all_that_a_message_says_survive_a_wait() {
    each(|gate| async move {
        let mut message = gate.said("ana", "ana", "waits");
        message.historic = true;
        message.extra.insert("big".into(), serde_json::json!("12345678901234567890123"));
        let now = gate.admit(gate.item(gate.key("now"), ItemBody::Message(Box::new(message.clone())))).await;
        let hold = Some(Hold { reason: HoldReason::Gathering, until: gate.now() });
        let later = MessageItem { hold, ..message };
        let item = gate.admit(gate.item(gate.key("later"), ItemBody::Message(Box::new(later)))).await.item;
        gate.crash();
        gate.one(Write::Release { item }).await.unwrap();
        let events = gate.events().await;
        let (Body::MessageCreated(one), Body::MessageCreated(two)) = (&events[0].body, &events[1].body) else { panic!() };
        let mut same = one.message.clone();
        (same.id, same.key) = (two.message.id, two.message.key.clone());
        assert_eq!((&same, &one.contact, &one.channel), (&two.message, &two.contact, &two.channel));
        assert_ne!(now.message, Some(two.message.id));
    })
    .await;
}
