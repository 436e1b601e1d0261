//! Admission: unique keys, conversations, contacts, edits and deletions.

use omnigate::model::codes::Code;
use omnigate::model::event::Body;
use omnigate::model::item::{Fate, ItemBody, MessageItem, ReplyHint};
use omnigate::model::view::LedgerFilter;
use omnigate::ports::store::{Admission, Write};

use super::gate::{DAY_MS, each, fate, words};

#[tokio::test]
async fn a_message_becomes_one_event_with_what_it_said() {
    each(|gate| async move {
        let said = gate.admit(gate.message("ana", "hello")).await;
        assert_eq!(said.fate, Fate::Published);
        let events = gate.events().await;
        let Body::MessageCreated(created) = &events[0].body else { panic!() };
        assert_eq!((created.sequence, created.conversation.opened), (1, true));
        assert_eq!(created.message.key, gate.key("hello").public());
        assert_eq!(Some(created.message.id), said.message);
        assert_eq!(created.contact.as_ref().unwrap().addresses[0].as_str(), "email:ana@example.org");
        let view = gate.store().message(created.message.id).await.unwrap().unwrap();
        assert_eq!((view.events.len(), view.ledger.len(), view.channel.as_str()), (1, 1, "chat"));
        assert_eq!(view.events[0].deliveries[0].destination, "desk");
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn two_identical_admissions_are_one_message_in_one_batch_and_in_two() {
    each(|gate| async move {
        let write = || Write::Admit { admissions: vec![gate.admission(vec![gate.message("ana", "hello")])], source: None };
        let answers = gate.store().commit(vec![write(), write()]).await.unwrap();
        let fates: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().fates.remove(0).remove(0)).collect();
        assert_eq!(words(&fates), ["published", "duplicate"]);
        let again = gate.one(write()).await.unwrap().fates.remove(0).remove(0);
        assert_eq!((again.fate, again.message), (Fate::Duplicate, fates[0].message));
        let rows = gate.store().ledger(LedgerFilter::default()).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.duplicate_of).collect::<Vec<_>>(), [Some(fates[0].item), Some(fates[0].item), None]);
        assert_eq!(gate.events().await.len(), 1);
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn of_many_that_say_the_same_at_once_one_is_published() {
    each(|gate| async move {
        let store = gate.store();
        let mut racers = Vec::new();
        for _ in 0..20 {
            let (store, admission) = (store.clone(), gate.admission(vec![gate.message("ana", "hello")]));
            racers.push(tokio::spawn(async move {
                let mut answers = store.commit(vec![Write::Admit { admissions: vec![admission], source: None }]).await.unwrap();
                answers.remove(0).unwrap().fates.remove(0).remove(0).fate
            }));
        }
        let mut published = 0;
        for racer in racers {
            published += usize::from(racer.await.unwrap() == Fate::Published);
        }
        assert_eq!((published, gate.events().await.len()), (1, 1));
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn a_raw_known_by_its_delivery_key_is_one_duplicate_whatever_it_holds() {
    each(|gate| async move {
        let key = Some(gate.digester.delivery("chat", "Ev1"));
        let first = Admission { delivery_key: key, ..gate.admission(vec![gate.message("ana", "one"), gate.message("ana", "two")]) };
        let again = Admission { delivery_key: key, ..gate.admission(vec![gate.message("ana", "one"), gate.message("ana", "two")]) };
        let written = gate.admit_all(vec![first, again]).await;
        assert_eq!((words(&written.fates[0]), words(&written.fates[1])), (vec!["published", "published"], vec!["duplicate"]));
        let rows = gate.store().ledger(LedgerFilter::default()).await.unwrap();
        assert_eq!((rows[0].kind.as_str(), rows[0].duplicate_of), ("raw", Some(written.fates[0][0].item)));
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn the_same_write_again_after_a_lost_answer_adds_nothing() {
    each(|gate| async move {
        let admission = gate.admission(vec![gate.message("ana", "hello")]);
        gate.admit_all(vec![admission.clone()]).await;
        let again = gate.admit_all(vec![admission.clone()]).await;
        assert_eq!(words(&again.fates[0]), ["duplicate"]);
        assert!(gate.store().raw(admission.raw.id).await.unwrap().is_some(), "the raw of the first stays");
        assert_eq!(gate.events().await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn an_alias_makes_a_duplicate_and_leads_to_the_message_ever_after() {
    each(|gate| async move {
        let (hash, id) = (gate.key("canonical hash"), gate.key("message-id and hash"));
        let with = |key, aliases| {
            let message = MessageItem { aliases, ..gate.said("ana", "ana", "mail") };
            gate.item(key, ItemBody::Message(Box::new(message)))
        };
        let first = gate.admit(with(hash, vec![id])).await;
        let other = gate.admit(with(gate.key("another road"), vec![id])).await;
        assert_eq!((other.fate, other.message), (Fate::Duplicate, first.message));
        let third = gate.admit(with(gate.key("another road"), vec![])).await;
        assert_eq!((third.fate, third.message), (Fate::Duplicate, first.message));
        assert_eq!(gate.events().await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn every_kind_of_item_without_an_event_has_its_row() {
    each(|gate| async move {
        let items = vec![
            gate.bare(ItemBody::Ignored { code: "own_echo".into() }),
            gate.bare(ItemBody::Quarantined { code: Code::MappingFailed, detail: "line 3".into() }),
            gate.bare(ItemBody::Receipt { state: "read".into(), error: None }),
            gate.reaction("never seen", "+1"),
        ];
        let written = gate.admit_all(vec![gate.admission(items), gate.admission(vec![])]).await;
        let said: Vec<_> = written.fates.iter().flatten().map(fate).collect();
        let expected = [
            (Fate::Ignored, Some("own_echo")),
            (Fate::Quarantined, Some("mapping_failed")),
            (Fate::Ignored, Some("receipt")),
            (Fate::Ignored, Some("target_unknown")),
            (Fate::Ignored, Some("empty")),
        ];
        assert_eq!(said, expected);
        let quarantined = gate.store().quarantine(Some("chat"), None, 10).await.unwrap();
        assert_eq!((quarantined.len(), quarantined[0].detail.as_str(), quarantined[0].bytes), (1, "line 3", 10));
        assert!(gate.store().quarantine(Some("other"), None, 10).await.unwrap().is_empty());
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn a_quarantined_item_that_reads_now_keeps_its_number() {
    each(|gate| async move {
        let bad = gate.admit(gate.bare(ItemBody::Quarantined { code: Code::MappingFailed, detail: "x".into() })).await;
        let items = vec![gate.message("ana", "one"), gate.message("ana", "two")];
        let written = gate.one(Write::Reprocess { item: bad.item, items: items.clone() }).await.unwrap();
        assert_eq!((words(&written.fates[0]), written.fates[0][0].item), (vec!["published", "published"], bad.item));
        let again = gate.one(Write::Reprocess { item: bad.item, items }).await.unwrap();
        assert_eq!(again.count, 0);
        assert_eq!(gate.events().await.len(), 2);
        let rows = gate.store().ledger(LedgerFilter::default()).await.unwrap();
        assert_eq!(rows.last().map(|row| (row.kind.as_str(), row.fate)), Some(("message", Fate::Published)));
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn an_edit_of_something_unseen_is_created_and_the_late_original_a_duplicate() {
    each(|gate| async move {
        let edit = gate.admit(gate.edit("ana", "hello", "hello!")).await;
        assert_eq!(edit.fate, Fate::Published);
        let late = gate.admit(gate.message("ana", "hello")).await;
        assert_eq!((late.fate, late.message), (Fate::Duplicate, edit.message));
        gate.admit(gate.edit("ana", "hello", "hello!!")).await;
        let events = gate.events().await;
        let Body::MessageCreated(created) = &events[0].body else { panic!() };
        assert_eq!((created.message.edited, &created.message.key), (true, &gate.key("hello").public()));
        let Body::MessageEdited(edited) = &events[1].body else { panic!() };
        assert_eq!((Some(edited.message.id), edited.sequence, edited.text.as_deref()), (edit.message, 2, Some("hello!!")));
        assert_eq!(events.len(), 2);
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn a_delete_of_something_unseen_is_a_tombstone_and_the_late_original_a_duplicate() {
    each(|gate| async move {
        assert_eq!(fate(&gate.admit(gate.delete("hello")).await), (Fate::Ignored, Some("target_unknown")));
        assert_eq!(gate.admit(gate.message("ana", "hello")).await.fate, Fate::Duplicate);
        assert_eq!(fate(&gate.admit(gate.edit("ana", "hello", "x")).await), (Fate::Ignored, Some("target_gone")));
        assert!(gate.events().await.is_empty());
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn a_delete_is_told_once_and_what_comes_after_it_is_ignored() {
    each(|gate| async move {
        gate.admit(gate.message("ana", "hello")).await;
        gate.admit(gate.reaction("hello", "+1")).await;
        assert_eq!(gate.admit(gate.delete("hello")).await.fate, Fate::Published);
        assert_eq!(gate.admit(gate.delete("hello")).await.fate, Fate::Duplicate);
        assert_eq!(fate(&gate.admit(gate.reaction("hello", "-1")).await), (Fate::Ignored, Some("target_gone")));
        let types: Vec<_> = gate.events().await.iter().map(|event| event.body.type_name()).collect();
        assert_eq!(types, ["message.created", "reaction.added", "message.deleted"]);
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn a_conversation_goes_on_in_a_new_one_after_silence() {
    each(|gate| async move {
        gate.admit(gate.message("ana", "one")).await;
        gate.pass(14 * DAY_MS - 1);
        gate.admit(gate.message("ana", "two")).await;
        gate.pass(14 * DAY_MS);
        gate.admit(gate.message("ana", "three")).await;
        gate.admit(gate.message("ana", "four")).await;
        let events = gate.events().await;
        let said: Vec<_> = events
            .iter()
            .map(|event| match &event.body {
                Body::MessageCreated(created) => created.conversation.clone(),
                _ => panic!(),
            })
            .collect();
        assert_eq!(said.iter().map(|c| c.opened).collect::<Vec<_>>(), [true, false, true, false]);
        assert_eq!(said[1].id, said[0].id);
        assert_eq!((said[2].continues, said[3].id), (Some(said[0].id), said[2].id));
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn a_hint_leads_to_the_first_message_that_has_it_and_makes_no_duplicate() {
    each(|gate| async move {
        let hinted = |text: &str| MessageItem { hints: vec![gate.key("hint")], ..gate.said("ana", "ana", text) };
        let first = gate.admit(gate.item(gate.key("one"), ItemBody::Message(Box::new(hinted("one"))))).await;
        let second = gate.admit(gate.item(gate.key("two"), ItemBody::Message(Box::new(hinted("two"))))).await;
        assert_eq!(second.fate, Fate::Published);
        let in_reply_to = Some(ReplyHint { external_id: "hint".into(), target: Some(gate.key("hint")) });
        let answer = MessageItem { in_reply_to, ..gate.said("ana", "ana", "three") };
        gate.admit(gate.item(gate.key("three"), ItemBody::Message(Box::new(answer)))).await;
        let Body::MessageCreated(created) = gate.events().await.remove(2).body else { panic!() };
        assert_eq!(created.message.in_reply_to.unwrap().message, first.message);
    })
    .await;
}

#[tokio::test]
async fn a_reply_names_the_message_it_answers() {
    each(|gate| async move {
        let first = gate.admit(gate.message("ana", "one")).await;
        let in_reply_to = Some(ReplyHint { external_id: "one".into(), target: Some(gate.key("one")) });
        let reply = MessageItem { in_reply_to, ..gate.said("ana", "ana", "two") };
        gate.admit(gate.item(gate.key("two"), ItemBody::Message(Box::new(reply)))).await;
        let Body::MessageCreated(created) = gate.events().await.remove(1).body else { panic!() };
        assert_eq!(created.message.in_reply_to.unwrap().message, first.message);
    })
    .await;
}

#[tokio::test]
async fn a_stranger_is_not_let_into_a_thread_for_participants() {
    each(|gate| async move {
        let say = |who: &str, text: &str| {
            let mut message = gate.said("thread", who, text);
            message.threading.candidates[0].participants_only = true;
            gate.item(gate.key(text), ItemBody::Message(Box::new(message)))
        };
        for (who, text) in [("ana", "one"), ("mallory", "two"), ("ana", "three")] {
            gate.admit(say(who, text)).await;
        }
        let conversations: Vec<_> = gate
            .events()
            .await
            .into_iter()
            .map(|event| match event.body {
                Body::MessageCreated(created) => created.conversation.id,
                _ => panic!(),
            })
            .collect();
        assert_ne!(conversations[0], conversations[1]);
        assert_eq!(conversations[0], conversations[2], "the stranger's message does not pull the thread's key away");
    })
    .await;
}

#[tokio::test]
async fn only_a_verified_sender_links_addresses_and_shows_them() {
    each(|gate| async move {
        let say = |text: &str, hint| {
            let message = MessageItem { contact: Some(hint), ..gate.said("t", "ana", text) };
            gate.item(gate.key(text), ItemBody::Message(Box::new(message)))
        };
        gate.admit(say("one", gate.hint("ana", true, &["ana.work"]))).await;
        gate.admit(say("two", gate.hint("ana", false, &["mallory"]))).await;
        gate.admit(say("three", gate.hint("ana.work", true, &[]))).await;
        gate.admit(say("four", gate.hint("mallory", true, &[]))).await;
        let contacts: Vec<_> = gate
            .events()
            .await
            .into_iter()
            .map(|event| match event.body {
                Body::MessageCreated(created) => created.contact.unwrap(),
                _ => panic!(),
            })
            .collect();
        let addresses = |at: usize| contacts[at].addresses.iter().map(|a| a.value()).collect::<Vec<_>>();
        assert_eq!(addresses(0), ["ana.work@example.org", "ana@example.org"]);
        assert_eq!((addresses(1), contacts[1].id), (vec!["ana@example.org"], contacts[0].id));
        assert_eq!((addresses(2), contacts[2].id), (addresses(0), contacts[0].id));
        assert_ne!(contacts[3].id, contacts[0].id, "an address nobody vouched for was not linked");
    })
    .await;
}

#[tokio::test]
async fn a_write_that_fails_leaves_no_trace_and_does_not_touch_the_others() {
    each(|gate| async move {
        let write = |name: &str| Write::Admit { admissions: vec![gate.admission(vec![gate.message("ana", name)])], source: None };
        let answers = gate.store().commit(vec![write("one"), write("make the route panic"), write("two")]).await.unwrap();
        assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(gate.store().ledger(LedgerFilter::default()).await.unwrap().len(), 2);
        assert_eq!(gate.events().await.len(), 2);
        gate.check_invariants().await;
    })
    .await;
}
