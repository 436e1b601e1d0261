//! Tickets: written before the call, told when their id becomes known, found again after a crash.

use omnigate::model::event::Body;
use omnigate::model::id::{ConversationId, EventId};
use omnigate::model::ticket::{EntryState, Sent, TicketChange, TicketEntry, TicketFilter, TicketLink, TicketState};
use omnigate::model::view::LedgerFilter;
use omnigate::ports::store::{DELIVER_LEASE, StoreError, Write};

use super::gate::{Gate, each};

fn intended(conversation: ConversationId) -> TicketLink {
    TicketLink {
        generation: 1,
        external: conversation.to_string(),
        ticket: None,
        url: None,
        requester: Some("17".into()),
        state: TicketState::Intended,
        sent: Sent { times: 1, at: None },
        checked: false,
    }
}

fn entry(event: EventId, gate: &Gate, state: EntryState) -> TicketEntry {
    let sent = Sent { times: 1, at: Some(gate.now()) };
    TicketEntry { event, piece: 0, external: "msg_1".into(), generation: 1, entry: None, state, sent }
}

fn change(conversation: ConversationId, link: TicketLink, entries: Vec<TicketEntry>) -> Write {
    let (destination, system) = ("desk".to_owned(), "rt".to_owned());
    Write::Ticket(Box::new(TicketChange { destination, system, conversation, link: Some(link), entries, lease_epoch: 0 }))
}

/// The conversation and the event of a message that was admitted.
async fn said(gate: &Gate, thread: &str, name: &str) -> (ConversationId, EventId) {
    let event = gate.admit(gate.message(thread, name)).await.event.unwrap();
    let created = gate.events().await.into_iter().find(|one| one.id == event).unwrap();
    let Body::MessageCreated(created) = created.body else { panic!("no message") };
    (created.conversation.id, event)
}

#[tokio::test]
async fn an_intention_survives_a_crash_and_the_ticket_is_told_once_when_its_id_is_known() {
    each(|gate| async move {
        let (conversation, event) = said(&gate, "ana", "one").await;
        let written =
            gate.one(change(conversation, intended(conversation), vec![entry(event, &gate, EntryState::Intended)])).await.unwrap();
        assert!(written.woken.is_empty(), "nothing is told of an intention");
        gate.crash();
        let known = gate.store().tickets_of("desk", conversation, event).await.unwrap();
        assert_eq!((known.link, known.before), (Some(intended(conversation)), None));
        assert_eq!(known.entries, [entry(event, &gate, EntryState::Intended)]);
        assert_eq!(gate.store().tickets_of("crm", conversation, event).await.unwrap().link, None, "each destination has its own");

        gate.route(&["crm"]);
        let url = Some("https://desk.example.org/42".to_owned());
        let linked = TicketLink { ticket: Some("42".into()), url, state: TicketState::Linked, ..intended(conversation) };
        let written = gate.one(change(conversation, linked.clone(), vec![entry(event, &gate, EntryState::Written)])).await.unwrap();
        assert_eq!(written.woken, ["crm".into()]);
        let written = gate.one(change(conversation, TicketLink { checked: true, ..linked }, Vec::new())).await.unwrap();
        assert!(written.woken.is_empty(), "told once");
        let told: Vec<_> = gate.events().await.into_iter().filter(|one| matches!(one.body, Body::TicketLinked(_))).collect();
        let [told] = told.as_slice() else { panic!("{told:?}") };
        let told = serde_json::to_value(told).unwrap();
        assert_eq!(
            told["data"],
            serde_json::json!({"sequence": 2, "conversation": {"id": conversation}, "destination": "desk", "system": "rt", "ticket": "42",
                               "url": "https://desk.example.org/42"})
        );
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn people_find_a_ticket_by_its_conversation_its_id_and_its_message() {
    each(|gate| async move {
        let (conversation, event) = said(&gate, "ana", "one").await;
        let linked = TicketLink { ticket: Some("42".into()), state: TicketState::Linked, ..intended(conversation) };
        gate.one(change(conversation, linked, vec![entry(event, &gate, EntryState::Found)])).await.unwrap();
        let store = gate.store();
        let by_id = store.tickets(TicketFilter { ticket: Some("42".into()), ..TicketFilter::default() }).await.unwrap();
        assert_eq!(by_id.iter().map(|row| (row.conversation, row.state)).collect::<Vec<_>>(), [(conversation, TicketState::Linked)]);
        let none = store.tickets(TicketFilter { destination: Some("crm".into()), ..TicketFilter::default() }).await.unwrap();
        assert!(none.is_empty());
        let rows = store.ledger(LedgerFilter::default()).await.unwrap();
        assert_eq!(rows[0].tickets, ["desk:42"]);
        let message = store.message(rows[0].message.unwrap()).await.unwrap().unwrap();
        assert_eq!(message.tickets, by_id);
        assert_eq!(message.events[0].entries, store.ticket_entries(event).await.unwrap());
        let shown = &message.events[0].entries[0];
        assert_eq!((shown.ticket.as_deref(), shown.state, shown.times), (Some("42"), EntryState::Found, 1));
    })
    .await;
}

#[tokio::test]
async fn a_conversation_that_continues_another_knows_the_ticket_before() {
    each(|gate| async move {
        let (conversation, event) = said(&gate, "ana", "one").await;
        let first = TicketLink { ticket: Some("42".into()), state: TicketState::Ended, ..intended(conversation) };
        gate.one(change(conversation, first.clone(), Vec::new())).await.unwrap();
        let second = TicketLink { generation: 2, external: format!("{conversation}-2"), ..intended(conversation) };
        gate.one(change(conversation, second.clone(), Vec::new())).await.unwrap();
        let known = gate.store().tickets_of("desk", conversation, event).await.unwrap();
        assert_eq!((known.link, known.before), (Some(second), Some(first)));
    })
    .await;
}

#[tokio::test]
async fn a_node_that_lost_the_lease_links_no_ticket() {
    each(|gate| async move {
        let (conversation, _) = said(&gate, "ana", "one").await;
        gate.store().take_lease(DELIVER_LEASE, "another").await.unwrap();
        let refused = gate.one(change(conversation, intended(conversation), Vec::new())).await;
        assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{refused:?}");
        let stranger = gate.one(change(ConversationId(9), intended(ConversationId(9)), Vec::new())).await;
        assert!(stranger.is_err());
        assert!(gate.store().tickets(TicketFilter::default()).await.unwrap().is_empty());
    })
    .await;
}
