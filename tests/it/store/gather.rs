//! Messages that come in parts: one message, whatever came between, and no part is lost.

use std::collections::BTreeMap;

use omnigate::model::event::Body;
use omnigate::model::item::{Fate, Gather, Hold, HoldReason, Item, ItemBody};
use omnigate::ports::store::Write;

use super::gate::{Gate, each, fate};

fn part(gate: &Gate, name: &str, number: u64, parts: Option<u64>) -> Item {
    let mut message = gate.said("ana", "ana", name);
    let texts = BTreeMap::from([(number, name.to_owned())]);
    let gather = Gather { key: gate.key("group"), parts, texts, seen: 1, glue: " ".into(), media_until: None };
    message.gather = Some(Box::new(gather));
    message.hold = Some(Hold { reason: HoldReason::Gathering, until: gate.now().plus_ms(2_000) });
    gate.item(gate.key(name), ItemBody::Message(Box::new(message)))
}

async fn texts(gate: &Gate) -> Vec<String> {
    let said = |body| match body {
        Body::MessageCreated(created) => created.message.text.unwrap_or_default(),
        other => other.type_name().to_owned(),
    };
    gate.events().await.into_iter().map(|event| said(event.body)).collect()
}

#[tokio::test]
async fn parts_that_come_apart_are_one_message_in_their_order() {
    each(|gate| async move {
        let first = gate.admit(part(&gate, "two", 2, None)).await;
        assert_eq!(fate(&first), (Fate::Pending, Some("gathering")));
        assert_eq!(gate.admit(gate.message("ana", "behind")).await.fate, Fate::Pending);
        assert_eq!(fate(&gate.admit(part(&gate, "one", 1, None)).await), (Fate::Ignored, Some("gathered")));
        gate.crash();
        assert_eq!(fate(&gate.admit(part(&gate, "three", 3, None)).await), (Fate::Ignored, Some("gathered")));
        assert_eq!(gate.admit(part(&gate, "one", 1, None)).await.fate, Fate::Duplicate, "the same part again");
        gate.one(Write::Release { item: first.item }).await.unwrap();
        assert_eq!(texts(&gate).await, ["one two three", "behind"]);
        assert_eq!(gate.admit(gate.reaction("one", "+1")).await.fate, Fate::Published, "its key leads to the whole");
        assert_eq!(gate.admit(part(&gate, "late", 4, None)).await.fate, Fate::Published, "a message of its own, at once");
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn when_all_parts_are_there_nothing_waits() {
    each(|gate| async move {
        let first = gate.admit(part(&gate, "a", 1, Some(2))).await;
        let joined = gate.admit_all(vec![gate.admission(vec![part(&gate, "b", 2, Some(2))])]).await;
        assert_eq!(joined.pending, [(first.item, gate.now())], "released now");
        gate.one(Write::Release { item: first.item }).await.unwrap();
        assert_eq!(texts(&gate).await, ["a b"]);
        gate.check_invariants().await;
    })
    .await;
}
