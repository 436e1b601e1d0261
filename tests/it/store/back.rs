//! What ticket systems tell of tickets, as the store's rules take it in: agents' entries, states, ended conversations, who waits.

use std::sync::Arc;

use omnigate::model::event::{Author, Body, Direction, Event};
use omnigate::model::id::{ConversationId, EventId};
use omnigate::model::item::{ChannelFacts, Fate, Item, ItemBody, MessageItem};
use omnigate::model::ticket::{
    BackRules, EntryState, Sent, TicketChange, TicketEntry, TicketFilter, TicketItem, TicketLink, TicketNews, TicketState, TicketStatus,
};
use omnigate::model::time::Time;
use omnigate::ports::store::{ItemFate, Write};

use super::gate::{DAY_MS, Gate, each};

const MINUTE_MS: i64 = 60_000;

/// A message of the customer, when it was said, and its ticket.
async fn asked(gate: &Gate, name: &str, ticket: &str) -> (ConversationId, EventId) {
    asked_by(gate, name, ticket, &[]).await
}

async fn asked_by(gate: &Gate, name: &str, ticket: &str, routed: &[&str]) -> (ConversationId, EventId) {
    gate.route(routed);
    let message = MessageItem { sent_at: Some(gate.now()), ..gate.said("ana", "ana", name) };
    let fate = gate.admit(gate.item(gate.key(name), ItemBody::Message(Box::new(message)))).await;
    let event = fate.event.unwrap();
    let created = gate.events().await.into_iter().find(|one| one.id == event).unwrap();
    let Body::MessageCreated(created) = created.body else { panic!("no message") };
    let conversation = created.conversation.id;
    link(gate, conversation, 1, Some(ticket), Some(event)).await;
    (conversation, event)
}

/// What the ticket destination writes down.
async fn link(gate: &Gate, conversation: ConversationId, generation: u32, ticket: Option<&str>, event: Option<EventId>) {
    let external = if generation == 1 { conversation.to_string() } else { format!("{conversation}-{generation}") };
    let state = if ticket.is_some() { TicketState::Linked } else { TicketState::Intended };
    let (ticket, sent) = (ticket.map(str::to_owned), Sent { times: 1, at: None });
    let link = TicketLink { generation, external, ticket, url: None, requester: None, state, sent, checked: true };
    let entry = |event| TicketEntry {
        event,
        piece: 0,
        external: format!("msg_of_{event}"),
        generation,
        entry: Some(format!("own-{event}")),
        state: EntryState::Written,
        sent,
    };
    let (destination, system) = ("desk".to_owned(), "rt".to_owned());
    let entries = event.map(entry).into_iter().collect();
    let change = TicketChange { destination, system, conversation, link: Some(link), entries, lease_epoch: 0 };
    gate.one(Write::Ticket(Box::new(change))).await.unwrap();
}

fn told(gate: &Gate, key: &str, ends_after_ms: Option<i64>, at: Time, (ticket, ours): (&str, Option<&str>), news: TicketNews) -> Item {
    let mut facts = ChannelFacts::clone(&gate.channel);
    facts.public.id = "desk".to_owned();
    facts.back = Some(BackRules { ends_after_ms });
    let (ticket, ours) = (ticket.to_owned(), ours.map(str::to_owned));
    let body = ItemBody::Ticket(Box::new(TicketItem { ticket, ours, at: Some(at), news }));
    Item { channel: Arc::new(facts), ..gate.item(gate.key(key), body) }
}

async fn status(gate: &Gate, key: &str, at: Time, status: TicketStatus) -> ItemFate {
    gate.admit(told(gate, key, Some(0), at, ("42", None), TicketNews::Status(status))).await
}

fn answer(gate: &Gate, id: &str, mark: Option<&str>, at: Time) -> TicketNews {
    let said = gate.said("ana", "ana", &format!("answer {id}"));
    let message = MessageItem { direction: Direction::Outbound, author: Author::Agent, sent_at: Some(at), contact: None, ..said };
    TicketNews::Entry { entry: Some(id.to_owned()), mark: mark.map(str::to_owned), message: Box::new(message) }
}

async fn answered(gate: &Gate, id: &str, at: Time) -> ItemFate {
    gate.admit(told(gate, id, Some(0), at, ("42", None), answer(gate, id, None, at))).await
}

fn word(fate: &ItemFate) -> (Fate, Option<&str>) {
    (fate.fate, fate.code.as_deref())
}

async fn conversations(gate: &Gate) -> Vec<(ConversationId, Option<ConversationId>)> {
    let opened = |event: Event| match event.body {
        Body::MessageCreated(created) if created.conversation.opened => Some((created.conversation.id, created.conversation.continues)),
        _ => None,
    };
    gate.events().await.into_iter().filter_map(opened).collect()
}

#[tokio::test]
async fn an_agents_entry_is_an_outbound_message_of_the_conversation_and_comes_once() {
    each(|gate| async move {
        let (conversation, _) = asked(&gate, "one", "42").await;
        gate.pass(5 * MINUTE_MS);
        let fate = answered(&gate, "7", gate.now()).await;
        assert_eq!(word(&fate), (Fate::Published, None));
        let event = gate.events().await.into_iter().find(|event| Some(event.id) == fate.event).unwrap();
        let Body::MessageCreated(created) = event.body else { panic!("no message") };
        assert_eq!(
            (created.conversation.id, created.message.direction, created.message.author),
            (conversation, Direction::Outbound, Author::Agent)
        );
        let source = created.message.ticket.unwrap();
        assert_eq!((source.destination.as_str(), source.system.as_str(), source.ticket.as_str()), ("desk", "rt", "42"));
        assert_eq!(created.channel.id, gate.channel.public.id, "the channel is the customer's");
        assert!(created.contact.is_some(), "whom it is for is known");
        // By the other road, and after a crash.
        gate.crash();
        assert_eq!(answered(&gate, "7", gate.now()).await.fate, Fate::Duplicate);
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn what_the_gateway_wrote_is_an_echo_by_its_id_or_by_ours() {
    each(|gate| async move {
        let (conversation, event) = asked(&gate, "one", "42").await;
        let own = format!("own-{event}");
        let fate = gate.admit(told(&gate, "a", Some(0), gate.now(), ("42", None), answer(&gate, &own, None, gate.now()))).await;
        assert_eq!(word(&fate), (Fate::Ignored, Some("ticket_echo")));
        let mark = format!("msg_of_{event}");
        let quoted = gate.admit(told(&gate, "b", Some(0), gate.now(), ("42", None), answer(&gate, "8", Some(&mark), gate.now()))).await;
        assert_eq!(quoted.fate, Fate::Published, "an agent quotes what the gateway wrote as another entry");
        // The answer to our own call is not there yet.
        let second = TicketEntry {
            event: EventId(9),
            piece: 0,
            external: "msg_9".into(),
            generation: 1,
            entry: None,
            state: EntryState::Intended,
            sent: Sent { times: 1, at: Some(gate.now()) },
        };
        let (destination, system) = ("desk".to_owned(), "rt".to_owned());
        let change = TicketChange { destination, system, conversation, link: None, entries: vec![second], lease_epoch: 0 };
        gate.one(Write::Ticket(Box::new(change))).await.unwrap();
        let fate = gate.admit(told(&gate, "c", Some(0), gate.now(), ("42", None), answer(&gate, "9", Some("msg_9"), gate.now()))).await;
        assert_eq!(word(&fate), (Fate::Ignored, Some("ticket_echo")));
    })
    .await;
}

#[tokio::test]
async fn an_unknown_ticket_is_ignored_and_may_be_known_later() {
    each(|gate| async move {
        let fate = answered(&gate, "7", gate.now()).await;
        assert_eq!(word(&fate), (Fate::Ignored, Some("ticket_unknown")));
        let (conversation, _) = asked(&gate, "one", "42").await;
        assert_eq!(answered(&gate, "7", gate.now()).await.fate, Fate::Published);
        // Its making has not answered yet, but it carries our id.
        link(&gate, conversation, 2, None, None).await;
        let ours = format!("{conversation}-2");
        let fate = gate.admit(told(&gate, "8", Some(0), gate.now(), ("43", Some(&ours)), answer(&gate, "8", None, gate.now()))).await;
        assert_eq!(fate.fate, Fate::Published);
        gate.check_totals().await;
    })
    .await;
}

#[tokio::test]
async fn a_closed_ticket_ends_its_conversation_and_the_next_message_opens_one_that_continues_it() {
    each(|gate| async move {
        let (conversation, _) = asked(&gate, "one", "42").await;
        gate.pass(MINUTE_MS);
        let closed_at = gate.now();
        assert_eq!(status(&gate, "s1", closed_at, TicketStatus::Closed).await.fate, Fate::Published);
        let Body::TicketUpdated(updated) = gate.events().await.pop().unwrap().body else { panic!("no ticket.updated") };
        assert_eq!(
            (updated.status, updated.previous_status, updated.ended, updated.changed_at),
            (TicketStatus::Closed, None, true, closed_at)
        );
        // Told twice, by another name: nothing changes.
        assert_eq!(word(&status(&gate, "s2", closed_at, TicketStatus::Closed).await), (Fate::Ignored, Some("ticket_stale")));
        // A late edit belongs to the old one.
        let edited = gate.admit(gate.edit("ana", "one", "r1")).await;
        assert_eq!(edited.fate, Fate::Published);
        gate.crash();
        asked(&gate, "two", "43").await;
        let known = conversations(&gate).await;
        assert_eq!(known.len(), 2);
        assert_eq!(known[1].1, Some(conversation));
        let rows = gate.store().tickets(TicketFilter::default()).await.unwrap();
        assert_eq!((rows[1].status, rows[1].status_at, rows[0].status), (Some(TicketStatus::Closed), Some(closed_at), None));
        gate.check_invariants().await;
    })
    .await;
}

#[tokio::test]
async fn a_message_in_flight_while_the_ticket_is_closed_keeps_its_conversation() {
    each(|gate| async move {
        let (conversation, _) = asked_by(&gate, "one", "42", &["desk"]).await;
        status(&gate, "s1", gate.now(), TicketStatus::Resolved).await;
        let Body::TicketUpdated(updated) = gate.events().await.pop().unwrap().body else { panic!("no ticket.updated") };
        assert!(!updated.ended, "the message on its way goes into the next ticket of the conversation");
        // That ticket is there: the first one being closed for good says nothing of the conversation.
        link(&gate, conversation, 2, Some("44"), None).await;
        status(&gate, "s2", gate.now(), TicketStatus::Closed).await;
        gate.admit(gate.message("ana", "two")).await;
        assert_eq!(conversations(&gate).await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_ticket_that_is_opened_again_within_the_time_goes_on_and_later_does_not() {
    each(|gate| async move {
        let (conversation, _) = asked(&gate, "one", "42").await;
        let close = |key: &'static str, at| told(&gate, key, Some(DAY_MS), at, ("42", None), TicketNews::Status(TicketStatus::Resolved));
        gate.admit(close("s1", gate.now())).await;
        gate.pass(DAY_MS - 1);
        gate.admit(gate.message("ana", "two")).await;
        assert_eq!(conversations(&gate).await.len(), 1);
        gate.admit(told(&gate, "s2", Some(DAY_MS), gate.now(), ("42", None), TicketNews::Status(TicketStatus::Open))).await;
        gate.pass(3 * DAY_MS);
        gate.admit(gate.message("ana", "three")).await;
        assert_eq!(conversations(&gate).await.len(), 1, "it was opened again");
        gate.admit(close("s3", gate.now())).await;
        gate.pass(DAY_MS);
        gate.admit(gate.message("ana", "four")).await;
        assert_eq!(conversations(&gate).await[1].1, Some(conversation));
    })
    .await;
}

#[tokio::test]
async fn an_overtaken_state_changes_nothing_and_opening_again_ends_the_end() {
    each(|gate| async move {
        asked(&gate, "one", "42").await;
        let (before, after) = (gate.now(), gate.now().plus_ms(30_000));
        gate.pass(MINUTE_MS);
        assert_eq!(status(&gate, "s2", after, TicketStatus::Resolved).await.fate, Fate::Published);
        assert_eq!(word(&status(&gate, "s1", before, TicketStatus::Open).await), (Fate::Ignored, Some("ticket_stale")));
        assert_eq!(status(&gate, "s3", after, TicketStatus::Open).await.fate, Fate::Published, "in the same second");
        gate.admit(gate.message("ana", "two")).await;
        assert_eq!(conversations(&gate).await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn joined_tickets_speak_to_the_conversation_that_spoke_last() {
    each(|gate| async move {
        asked(&gate, "one", "42").await;
        let other = gate.admit(gate.message("bob", "hello")).await;
        let Body::MessageCreated(created) = gate.events().await.into_iter().find(|one| Some(one.id) == other.event).unwrap().body else {
            panic!()
        };
        link(&gate, created.conversation.id, 1, Some("50"), None).await;
        let merged = gate.admit(told(&gate, "m", Some(0), gate.now(), ("42", None), TicketNews::Merged("50".into()))).await;
        assert_eq!(merged.fate, Fate::Ignored);
        gate.pass(MINUTE_MS);
        gate.admit(gate.message("ana", "two")).await;
        gate.pass(MINUTE_MS);
        let news = answer(&gate, "7", None, gate.now());
        let fate = gate.admit(told(&gate, "7", Some(0), gate.now(), ("50", None), news)).await;
        let Body::MessageCreated(answer) = gate.events().await.into_iter().find(|one| Some(one.id) == fate.event).unwrap().body else {
            panic!()
        };
        assert_ne!(answer.conversation.id, created.conversation.id);
        gate.admit(told(&gate, "s", Some(0), gate.now(), ("50", None), TicketNews::Status(TicketStatus::Closed))).await;
        let rows = gate.store().tickets(TicketFilter::default()).await.unwrap();
        assert!(rows.iter().all(|row| row.ticket.as_deref() == Some("50") && row.status == Some(TicketStatus::Closed)), "{rows:?}");
    })
    .await;
}

#[tokio::test]
async fn answers_are_measured_by_the_times_things_were_said() {
    each(|gate| async move {
        let asked_at = gate.now();
        asked(&gate, "one", "42").await;
        assert!(gate.store().totals().await.unwrap().waiting.is_empty(), "no answer was ever heard of");
        gate.pass(30 * MINUTE_MS);
        // Heard of half an hour later, said after four minutes.
        answered(&gate, "7", asked_at.plus_ms(4 * MINUTE_MS)).await;
        let second = MessageItem { sent_at: Some(gate.now()), ..gate.said("ana", "ana", "two") };
        gate.admit(gate.item(gate.key("two"), ItemBody::Message(Box::new(second)))).await;
        let channel = gate.channel.public.id.clone();
        assert_eq!(gate.store().totals().await.unwrap().waiting.get(&channel), Some(&1));
        gate.crash();
        gate.pass(10 * MINUTE_MS);
        answered(&gate, "8", gate.now()).await;
        status(&gate, "s1", gate.now().plus_ms(-1), TicketStatus::Resolved).await;
        let totals = gate.store().totals().await.unwrap();
        let of = |word: &str| totals.spans[&channel].get(word).map(|spans| (spans.count(), spans.sum_ms as i64 / MINUTE_MS));
        assert_eq!((of("first_response"), of("next_response")), (Some((1, 4)), Some((1, 10))));
        assert_eq!(of("resolution"), Some((1, 39)));
        assert_eq!(totals.waiting.get(&channel), Some(&0));
        let rows = gate.store().tickets(TicketFilter::default()).await.unwrap();
        assert_eq!(rows[0].turns.answered_at, Some(asked_at.plus_ms(4 * MINUTE_MS)));
        gate.check_invariants().await;
    })
    .await;
}
