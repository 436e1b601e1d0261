//! The same mail in several of our mailboxes: one message that names them all.

use omnigate::model::address::Address;
use omnigate::model::event::{Body, Event, Recipient};
use omnigate::model::item::{Fate, Hold, HoldReason, Item, ItemBody};
use omnigate::ports::store::Write;

use super::gate::{Gate, each, words};

/// A copy of the mail `name`, addressed to sales, that lies in these mailboxes.
fn copy(gate: &Gate, name: &str, mailboxes: &[&str], hold: Option<Hold>, historic: bool) -> Item {
    let to = |name: &str, role: &str| Recipient {
        address: Address::parse(&format!("email:{name}@acme.example")).unwrap(),
        name: None,
        role: role.to_owned(),
    };
    let mut message = gate.said("ana", "ana", name);
    message.to = std::iter::once(to("sales", "to")).chain(mailboxes.iter().map(|name| to(name, "mailbox"))).collect();
    (message.hold, message.historic) = (hold, historic);
    gate.item(gate.key(name), ItemBody::Message(Box::new(message)))
}

/// What each event told of mailboxes: its type, their names, and whether it is historic.
async fn told(gate: &Gate) -> Vec<(&'static str, Vec<String>, bool)> {
    let mailboxes = |to: &[Recipient]| -> Vec<String> {
        let name = |one: &Recipient| one.address.value().split('@').next().unwrap_or_default().to_owned();
        to.iter().filter(|one| one.role == "mailbox").map(name).collect()
    };
    let of = |event: Event| match &event.body {
        Body::MessageCreated(created) => ("message.created", mailboxes(&created.message.to), created.message.historic),
        Body::MessageUpdated(updated) => {
            assert_eq!(updated.changed, ["to"]);
            assert!(updated.text.is_none() && updated.call.is_none() && updated.attachments.is_none());
            let to = updated.to.as_deref().unwrap();
            assert_eq!(to[0].role, "to", "who was named stays named");
            ("message.updated", mailboxes(to), updated.historic)
        }
        other => panic!("{}", other.type_name()),
    };
    gate.events().await.into_iter().map(of).collect()
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn a_copy_in_another_mailbox_names_it_once_and_a_copy_in_one_that_is_named_is_a_duplicate() {
    each(|gate| async move {
        let first = gate.admit(copy(&gate, "mail", &["sales"], None, false)).await;
        assert_eq!(gate.admit(copy(&gate, "mail", &["sales"], None, false)).await.fate, Fate::Duplicate);
        assert_eq!(gate.admit(copy(&gate, "mail", &[], None, false)).await.fate, Fate::Duplicate);
        let second = gate.admit(copy(&gate, "mail", &["support"], None, false)).await;
        assert_eq!((second.fate, second.message), (Fate::Published, first.message));
        gate.crash();
        assert_eq!(gate.admit(copy(&gate, "mail", &["support", "sales"], None, false)).await.fate, Fate::Duplicate);
        assert_eq!(gate.admit(copy(&gate, "mail", &["team", "sales"], None, true)).await.fate, Fate::Published);
        assert_eq!(gate.admit(copy(&gate, "mail", &["team"], None, false)).await.fate, Fate::Duplicate);
        let expected = [
            ("message.created", names(&["sales"]), false),
            ("message.updated", names(&["sales", "support"]), false),
            ("message.updated", names(&["sales", "support", "team"]), true),
        ];
        assert_eq!(told(&gate).await, expected);
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn a_message_that_waits_names_the_mailbox_of_its_copy_when_it_is_told() {
    each(|gate| async move {
        let hold = Hold { reason: HoldReason::Held, until: gate.now().plus_ms(20_000) };
        let first = gate.admit(copy(&gate, "mail", &["sales"], Some(hold), false)).await.item;
        for mailbox in ["support", "support", "sales"] {
            assert_eq!(gate.admit(copy(&gate, "mail", &[mailbox], None, false)).await.fate, Fate::Duplicate);
        }
        gate.crash();
        gate.one(Write::Release { item: first }).await.unwrap();
        assert_eq!(told(&gate).await, [("message.created", names(&["sales", "support"]), false)]);
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn a_copy_of_a_message_whose_conversation_waits_queues_behind_it() {
    each(|gate| async move {
        gate.admit(copy(&gate, "one", &["sales"], None, false)).await;
        let hold = Hold { reason: HoldReason::Held, until: gate.now().plus_ms(20_000) };
        let held = gate.admit(copy(&gate, "two", &["sales"], Some(hold), false)).await.item;
        assert_eq!(gate.admit(copy(&gate, "one", &["sales"], None, false)).await.fate, Fate::Duplicate, "nothing new waits for nothing");
        for _ in 0..2 {
            assert_eq!(gate.admit(copy(&gate, "one", &["support"], None, false)).await.fate, Fate::Pending);
        }
        gate.crash();
        let released = gate.one(Write::Release { item: held }).await.unwrap();
        assert_eq!(words(&released.fates[0]), ["published", "published", "duplicate"]);
        let expected = [
            ("message.created", names(&["sales"]), false),
            ("message.created", names(&["sales"]), false),
            ("message.updated", names(&["sales", "support"]), false),
        ];
        assert_eq!(told(&gate).await, expected);
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn two_copies_in_one_commit_are_one_message() {
    each(|gate| async move {
        let admissions = ["sales", "support", "sales"].map(|name| gate.admission(vec![copy(&gate, "mail", &[name], None, false)]));
        let written = gate.admit_all(admissions.into()).await;
        let fates: Vec<_> = written.fates.iter().map(|fates| words(fates)[0]).collect();
        assert_eq!(fates, ["published", "published", "duplicate"]);
        let expected = [("message.created", names(&["sales"]), false), ("message.updated", names(&["sales", "support"]), false)];
        assert_eq!(told(&gate).await, expected);
        gate.check_invariants().await;
    })
    .await;
}
