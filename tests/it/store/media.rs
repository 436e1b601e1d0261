//! Files that are still at a platform: a row an item, and what becomes of it when the item is published, erased, or the process dies.

use std::collections::BTreeMap;

use omnigate::logic::admit::media::tasks;
use omnigate::model::codes::Code;
use omnigate::model::event::{Attachment, AttachmentState, Body};
use omnigate::model::id::AttachmentId;
use omnigate::model::item::{Fate, FetchOrder, Fetched, Gather, Hold, HoldReason, Item, ItemAttachment, ItemBody};
use omnigate::ports::store::{Write, Written};

use super::gate::{Gate, each};

fn file(gate: &Gate, id: u128) -> ItemAttachment {
    let public = Attachment {
        id: AttachmentId(id),
        name: None,
        media_type: "image/png".into(),
        bytes: None,
        sha256: None,
        inline: false,
        content_id: None,
        state: AttachmentState::Pending,
        reason: None,
        url: None,
        content: None,
    };
    let fetch = FetchOrder {
        recipe: "default".into(),
        account: "a".into(),
        id: Some(id.to_string()),
        url: None,
        message: None,
        until: gate.now().plus_ms(1_000_000),
    };
    ItemAttachment { public, place: None, fetch: Some(fetch) }
}

fn with_files(gate: &Gate, who: &str, name: &str, ids: &[u128]) -> Item {
    let mut message = gate.said(who, who, name);
    message.attachments = ids.iter().map(|id| file(gate, *id)).collect();
    message.hold = Some(Hold { reason: HoldReason::Media, until: gate.now().plus_ms(20_000) });
    gate.item(gate.key(name), ItemBody::Message(Box::new(message)))
}

fn stored(key: &str) -> Fetched {
    Fetched::Stored { key: key.into(), bytes: 3, sha256: "00".repeat(32), media_type: "image/png".into(), name: None, words: None }
}

async fn end(gate: &Gate, item: i64, id: u128, outcome: Fetched, more: bool) -> Written {
    gate.one(Write::Fetched { item, file: AttachmentId(id), outcome, more }).await.unwrap()
}

/// Types of the events in order, with the states of their files.
async fn told(gate: &Gate) -> Vec<(&'static str, Vec<AttachmentState>)> {
    let states = |files: &[Attachment]| files.iter().map(|file| file.state).collect();
    let one = |body: Body| match &body {
        Body::MessageCreated(created) => (body.type_name(), states(&created.message.attachments)),
        Body::MessageUpdated(updated) => (body.type_name(), states(updated.attachments.as_deref().unwrap_or_default())),
        _ => (body.type_name(), Vec::new()),
    };
    gate.events().await.into_iter().map(|event| one(event.body)).collect()
}

#[tokio::test]
async fn the_last_file_of_a_waiting_message_publishes_it() {
    use AttachmentState::{Stored, Unavailable};
    each(|gate| async move {
        let written = gate.admit_all(vec![gate.admission(vec![with_files(&gate, "ana", "one", &[1, 2])])]).await;
        assert_eq!(written.media.len(), 1, "somebody is told that there is something to fetch");
        let item = written.fates[0][0].item;
        assert_eq!(gate.admit(gate.message("ana", "two")).await.fate, Fate::Pending);
        let rows = gate.store().media(Some(&written.media[0]), 10).await.unwrap();
        assert_eq!(tasks(&rows[0]).unwrap().len(), 2);
        assert!(gate.store().media(Some("elsewhere"), 10).await.unwrap().is_empty());
        end(&gate, item, 1, stored("media/1"), true).await;
        assert_eq!(end(&gate, item, 1, stored("media/1"), true).await.count, 1, "told twice: its blob stays");
        assert!(told(&gate).await.is_empty());
        gate.crash();
        assert_eq!(tasks(&gate.store().media(None, 10).await.unwrap()[0]).unwrap().len(), 1, "what is there is not fetched twice");
        end(&gate, item, 2, Fetched::Unavailable { code: Code::MediaMissing }, false).await;
        assert_eq!(told(&gate).await, [("message.created", vec![Stored, Unavailable]), ("message.created", vec![])]);
        assert!(gate.store().file(AttachmentId(1)).await.unwrap().is_some());
        assert!(gate.store().media(None, 10).await.unwrap().is_empty());
        assert_eq!(end(&gate, item, 2, stored("media/2"), false).await.count, 0, "nobody waits for it any more");
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn an_album_waits_for_its_files_as_long_as_a_message_does_even_after_a_crash() {
    use AttachmentState::Stored;
    each(|gate| async move {
        let until = gate.now().plus_ms(20_000);
        let part = |name: &str, id: u128| {
            let mut message = gate.said("ana", "ana", name);
            message.attachments = vec![file(&gate, id)];
            let texts = BTreeMap::from([(id as u64, name.to_owned())]);
            let gather = Gather { key: gate.key("album"), parts: Some(2), texts, seen: 1, glue: " ".into(), media_until: Some(until) };
            message.gather = Some(Box::new(gather));
            message.hold = Some(Hold { reason: HoldReason::Gathering, until: gate.now().plus_ms(2_000) });
            gate.item(gate.key(name), ItemBody::Message(Box::new(message)))
        };
        let item = gate.admit(part("one", 1)).await.item;
        let joined = gate.admit_all(vec![gate.admission(vec![part("two", 2)])]).await;
        assert_eq!(joined.media.len(), 1, "somebody is told of the second file");
        let parted = gate.one(Write::Release { item }).await.unwrap();
        assert_eq!(parted.pending, [(item, until)], "all parts are there, their files are not");
        gate.crash();
        assert_eq!(gate.store().pending(10).await.unwrap(), [(item, until)]);
        gate.pass(2_000);
        assert_eq!(gate.one(Write::Release { item }).await.unwrap().count, 0, "the end of the window is not the end of the wait");
        end(&gate, item, 1, stored("media/1"), false).await;
        assert!(told(&gate).await.is_empty());
        end(&gate, item, 2, stored("media/2"), false).await;
        assert_eq!(told(&gate).await, [("message.created", vec![Stored, Stored])]);
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_learnt_after_a_message_went_out_is_told_once_a_round() {
    use AttachmentState::{Pending, Stored};
    each(|gate| async move {
        let item = gate.admit(with_files(&gate, "ana", "one", &[1, 2, 3])).await.item;
        end(&gate, item, 1, Fetched::Later { at: gate.now().plus_ms(5_000) }, true).await;
        let early = gate.one(Write::Release { item }).await.unwrap();
        assert_eq!((early.count, early.pending), (0, vec![(item, gate.now().plus_ms(20_000))]), "there is time left");
        gate.pass(20_000);
        gate.one(Write::Release { item }).await.unwrap();
        assert_eq!(tasks(&gate.store().media(None, 10).await.unwrap()[0]).unwrap()[0].attempts, 1);
        end(&gate, item, 2, stored("media/2"), true).await;
        end(&gate, item, 3, stored("media/3"), false).await;
        assert_eq!(told(&gate).await, [("message.created", vec![Pending; 3]), ("message.updated", vec![Pending, Stored, Stored])]);
        gate.crash();
        end(&gate, item, 1, stored("media/1"), false).await;
        assert_eq!(told(&gate).await.last(), Some(&("message.updated", vec![Stored; 3])));
        assert_eq!(told(&gate).await.len(), 3);
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn files_of_an_erased_or_deleted_message_are_wanted_no_more() {
    each(|gate| async move {
        let out = gate.admit(with_files(&gate, "ana", "out", &[1])).await.item;
        gate.pass(20_000);
        let written = gate.one(Write::Release { item: out }).await.unwrap();
        let id = written.fates[0][0].message.unwrap();
        let waiting = gate.admit(with_files(&gate, "ana", "waiting", &[2, 3])).await.item;
        end(&gate, waiting, 2, stored("media/2"), false).await;
        let contact = gate.store().message(id).await.unwrap().unwrap().contact.unwrap();
        let erased = gate.store().erase(contact).await.unwrap().unwrap();
        assert_eq!(erased.blobs, ["media/2"], "what was fetched for nobody goes too");
        assert!(gate.store().media(None, 10).await.unwrap().is_empty());
        for (item, file) in [(out, 1), (waiting, 3)] {
            assert_eq!(end(&gate, item, file, stored("media/x"), false).await.count, 0);
        }
        let gone = gate.admit(with_files(&gate, "bob", "gone", &[4])).await.item;
        gate.pass(20_000);
        gate.one(Write::Release { item: gone }).await.unwrap();
        gate.admit(gate.delete("gone")).await;
        assert_eq!(end(&gate, gone, 4, stored("media/4"), false).await.count, 0);
        gate.check_invariants().await;
    })
    .await;
}
