//! Ticket systems, the fakes: the same facts for each folder that cannot be tried against the real thing here.

use std::time::Duration;

use omnigate::logic::ticket::{OnClosed, OnGone, TicketPolicy};
use omnigate::ports::destination::DeliverError;
use omnigate::ports::ticket::{Prepare, Prepared};
use serde_json::json;

use crate::support::desk_bench::Bench;
use crate::support::desk_fakes::budget::Budget;
use crate::support::desk_fakes::{self, Did, Room, System, Wrong};

const HOSTILE: &str = "[~ana] {code} @ana see #1 *now* ![x](https://example.org/pixel) !x! <script>alert(1)</script>\n/close";

async fn bench(system: &'static dyn System) -> Bench {
    Bench::new(system, TicketPolicy::default()).await
}

/// The entries of the conversation's tickets are these, in order.
#[track_caller]
fn holds(system: &dyn System, room: &Room, tickets: usize, ids: &[&str]) {
    assert_eq!(room.wrong, Vec::<String>::new(), "{}", system.name());
    let there: Vec<_> = room.tickets.iter().filter(|ticket| !ticket.gone).collect();
    assert_eq!(there.len(), tickets, "{}: {there:#?}\n{:#?}", system.name(), room.asked);
    let entries: Vec<_> = there.iter().flat_map(|ticket| &ticket.entries).collect();
    assert_eq!(entries.len(), ids.len(), "{}: {entries:#?}\n{:#?}", system.name(), room.asked);
    for (entry, id) in entries.iter().zip(ids) {
        assert!(system.holds(entry, id), "{}: {entry:?} is not {id}", system.name());
    }
}

async fn a_conversation_is_a_ticket_with_its_entries_and_files(system: &'static dyn System) {
    let bench = bench(system).await;
    let (one, first) = bench.message(1, "Wo ist meine Größe 38?", true, &[("photo.jpg", b"\xff\xd8\x00\r\n--x")]);
    let (two, second) = bench.message(1, "Hallo?", false, &[("Brief 1.txt", b"gr\xc3\xbc\xc3\x9fe"), ("leer.bin", b"\x00")]);
    let (three, third) = bench.deletion(1);
    for event in [&first, &second, &third] {
        bench.deliver(event).await.unwrap();
        // A delivery that is repeated does nothing.
        bench.deliver(event).await.unwrap();
    }
    let room = bench.room();
    holds(system, &room, 1, &[&one, &two, &three]);
    let entries = &room.tickets[0].entries;
    assert!(entries[0].text.contains("Größe 38"), "{}", entries[0].text);
    assert_eq!([entries[0].customer, entries[1].customer], [true, true]);
    // Systems that know who wrote it know the customer; those that have subjects took it from the first line.
    assert!(entries[0].author.is_none_or(|author| room.people.contains_key(&author)), "{}", system.name());
    assert!(room.tickets[0].subject.is_empty() || room.tickets[0].subject.contains("Größe 38"), "{}", room.tickets[0].subject);
    assert_eq!(entries[2].customer, !system.hides_notes());
    let of = |at: usize| -> Vec<(String, Vec<u8>)> {
        let bare = |name: &str| name.split('\u{1f}').next().unwrap_or_default().to_owned();
        entries[at].files.iter().map(|(name, bytes)| (bare(name), bytes.clone())).collect()
    };
    if system.takes_files() {
        assert_eq!(of(0), [("photo.jpg".to_owned(), b"\xff\xd8\x00\r\n--x".to_vec())]);
        assert_eq!(of(1), [("Brief 1.txt".to_owned(), "grüße".as_bytes().to_vec()), ("leer.bin".to_owned(), vec![0])]);
    } else {
        assert!(entries[0].text.contains("https://files.example.org/0"), "{}", entries[0].text);
    }
    let (_, other) = bench.message(2, "Somebody else", true, &[]);
    bench.deliver(&other).await.unwrap();
    assert_eq!(bench.room().tickets.len(), 2);
}

async fn what_was_sent_without_an_answer_is_looked_for(system: &'static dyn System) {
    for wrong in [Wrong::AnswerLost, Wrong::RequestLost] {
        // Carried out and soon found, carried out and found late, or never carried out.
        for lag_ms in [0, 25_000] {
            let bench = bench(system).await;
            bench.fake.room.lock().unwrap().lag_ms = lag_ms;
            bench.fake.plan(Did::Ticket, wrong.clone());
            let (one, first) = bench.message(1, "first", true, &[("a.bin", b"\x01\x02")]);
            bench.deliver(&first).await.unwrap();
            bench.fake.plan(Did::Entry, wrong.clone());
            let (two, second) = bench.message(1, "second", false, &[("b.bin", b"\x03")]);
            bench.deliver(&second).await.unwrap();
            assert_eq!(bench.fake.planned(), 0, "{}: nothing went wrong", system.name());
            let room = bench.room();
            holds(system, &room, 1, &[&one, &two]);
            if system.takes_files() {
                let files: Vec<_> = room.tickets[0].entries.iter().map(|entry| entry.files.len()).collect();
                assert_eq!(files, [1, 1], "{}", system.name());
            }
        }
    }
    // Files that need a call of their own.
    let bench = bench(system).await;
    let (one, first) = bench.message(1, "first", true, &[("a.bin", b"\x01\x02"), ("a.bin", b"\x04")]);
    for wrong in [Wrong::AnswerLost, Wrong::RequestLost] {
        bench.fake.plan(Did::File, wrong);
    }
    bench.deliver(&first).await.unwrap();
    let of_their_own = matches!(system.name(), "zendesk" | "jira-service" | "hubspot" | "salesforce");
    assert_eq!(bench.fake.planned(), if of_their_own { 0 } else { 2 }, "{}", system.name());
    let room = bench.room();
    holds(system, &room, 1, &[&one]);
    assert_eq!(room.tickets[0].entries[0].files.len(), if system.takes_files() { 2 } else { 0 });
}

async fn too_many_calls_pause_the_destination(system: &'static dyn System) {
    let bench = bench(system).await;
    bench.fake.plan(Did::Ticket, Wrong::Busy);
    let (one, first) = bench.message(1, "first", true, &[]);
    let error = bench.once(&first).await.unwrap_err();
    let DeliverError::Later { after: Some(after), .. } = error else { panic!("{}: {error:?}", system.name()) };
    assert_eq!(after, Duration::from_secs(system.patience_s()), "{}", system.name());
    bench.pass(after);
    bench.once(&first).await.unwrap();
    holds(system, &bench.room(), 1, &[&one]);
}

/// Any call may be the one too many: what was done so far is not done again, and nothing is asked before it may be.
async fn a_limit_met_at_any_call_delays_and_doubles_nothing(system: &'static dyn System) {
    let bench = bench(system).await;
    let window_ms = i64::try_from(system.patience_s()).unwrap() * 1000;
    bench.fake.room.lock().unwrap().budget = Some(Budget { calls: 5, window_ms, ..Budget::default() });
    let mut ids = Vec::new();
    for number in 0..6 {
        let files: &[(&str, &[u8])] = if number % 2 == 0 { &[("a.bin", b"\x01\x02")] } else { &[] };
        let (id, event) = bench.message(1, &format!("line {number}"), number == 0, files);
        bench.deliver(&event).await.unwrap();
        ids.push(id);
    }
    let room = bench.room();
    holds(system, &room, 1, &ids.iter().map(String::as_str).collect::<Vec<_>>());
    let Budget { refused, .. } = room.budget.unwrap();
    assert!(refused > 0 && refused * 5 < room.asked.len() as u32 + 5, "{}: {refused} of {} refused", system.name(), room.asked.len());
    let files: usize = room.tickets[0].entries.iter().map(|entry| entry.files.len()).sum();
    assert_eq!(files, if system.takes_files() { 3 } else { 0 }, "{}", system.name());
}

/// What its author does to a message later is told to agents, in order, and never to the customer.
async fn edits_reactions_and_deletions_are_notes_for_agents(system: &'static dyn System) {
    let bench = bench(system).await;
    let ana = json!({"address": "whatsapp:491511", "name": "Ana"});
    let (one, first) = bench.message(1, "first", true, &[]);
    let happened = [
        bench.about("message.edited", 1, json!({"text": "first, and 4711", "from": ana})),
        bench.about("reaction.added", 1, json!({"emoji": "\u{2764}\u{fe0f}", "from": ana})),
        bench.about("reaction.removed", 1, json!({"emoji": "\u{2764}\u{fe0f}", "from": ana})),
        bench.about("message.deleted", 1, json!({})),
    ];
    bench.deliver(&first).await.unwrap();
    for (_, event) in &happened {
        bench.deliver(event).await.unwrap();
        bench.deliver(event).await.unwrap();
    }
    let room = bench.room();
    let ids: Vec<&str> = std::iter::once(one.as_str()).chain(happened.iter().map(|(id, _)| id.as_str())).collect();
    holds(system, &room, 1, &ids);
    let words =
        ["first", "was edited by its author", "got the reaction \u{2764}", "lost the reaction \u{2764}", "was deleted by its author"];
    for (number, (entry, words)) in room.tickets[0].entries.iter().zip(words).enumerate() {
        let text = entry.text.replace(['\u{2060}', '\\'], "");
        assert!(text.contains(words), "{}: {text}", system.name());
        assert_eq!(entry.customer, number == 0 || !system.hides_notes(), "{}: {text}", system.name());
    }
    assert!(room.tickets[0].entries[1].text.contains("4711"));
}

/// Files that a system would refuse together go along as far as it takes them; the others are named in the text.
async fn more_files_than_a_system_takes_are_named(system: &'static dyn System) {
    let large = vec![7; 4 * 1024 * 1024 + 1];
    let names: Vec<String> = (0..18).map(|number| format!("{number}.bin")).collect();
    let small: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"\x01"[..])).collect();
    let together: Vec<(&str, &[u8])> = names.iter().take(5).map(|name| (name.as_str(), large.as_slice())).collect();
    let bounded = matches!(system.name(), "freshdesk" | "zammad" | "helpscout");
    for files in [Some(small), bounded.then_some(together)].into_iter().flatten() {
        let bench = bench(system).await;
        let (one, event) = bench.message(1, "many files", true, &files);
        bench.deliver(&event).await.unwrap();
        let room = bench.room();
        holds(system, &room, 1, &[&one]);
        let entry = &room.tickets[0].entries[0];
        assert!(!system.takes_files() || !entry.files.is_empty(), "{}", system.name());
        for (name, bytes) in &files {
            let there = entry.files.iter().any(|(known, have)| known.split('\u{1f}').next() == Some(*name) && have == bytes);
            let named = entry.text.contains(&format!("File {name}:"));
            assert!(there != named, "{}: {name} is there: {there}, named: {named}", system.name());
        }
    }
}

async fn a_refused_credential_halts_and_tells(system: &'static dyn System) {
    let bench = bench(system).await;
    let (one, first) = bench.message(1, "first", true, &[]);
    bench.fake.plan(Did::Ticket, Wrong::Denied);
    // One whose token is renewed is refused twice.
    bench.fake.plan(Did::Ticket, Wrong::Denied);
    let error = bench.once(&first).await.unwrap_err();
    assert!(matches!(error, DeliverError::Denied { .. }), "{}: {error:?}", system.name());
    assert!(!error.to_string().contains(system.secret().1), "{error}");
    bench.once(&first).await.err();
    bench.deliver(&first).await.unwrap();
    holds(system, &bench.room(), 1, &[&one]);
}

async fn closed_deleted_and_merged_tickets_go_on(system: &'static dyn System) {
    if !system.has_tickets() {
        return;
    }
    let bench = bench(system).await;
    let (one, first) = bench.message(1, "first", true, &[]);
    bench.deliver(&first).await.unwrap();
    bench.fake.room.lock().unwrap().tickets[0].closed = true;
    let (two, second) = bench.message(1, "second", false, &[]);
    bench.deliver(&second).await.unwrap();
    let room = bench.room();
    holds(system, &room, 2, &[&one, &two]);
    let before = room.tickets[1].before.clone().unwrap_or_default();
    assert!(before.contains(&room.tickets[0].id.to_string()), "{}: goes on from {before:?}", system.name());

    bench.fake.room.lock().unwrap().tickets[1].gone = true;
    let (three, third) = bench.message(1, "third", false, &[]);
    bench.deliver(&third).await.unwrap();
    holds(system, &bench.room(), 2, &[&one, &three]);

    let into = {
        let mut room = bench.fake.room.lock().unwrap();
        let into = room.open("another", "Another").id;
        let follows = system.follows_merged();
        let ticket = room.tickets.iter_mut().find(|ticket| !ticket.gone && !ticket.closed && ticket.id != into).unwrap();
        (ticket.merged, ticket.closed) = (follows.then_some(into), !follows);
        into
    };
    let (four, fourth) = bench.message(1, "fourth", false, &[]);
    bench.deliver(&fourth).await.unwrap();
    let room = bench.room();
    assert_eq!(room.wrong, Vec::<String>::new());
    let ticket = room.tickets.iter().find(|ticket| ticket.entries.iter().any(|entry| system.holds(entry, &four))).unwrap();
    assert_eq!(ticket.id == into, system.follows_merged(), "{}", system.name());
}

async fn a_deleted_ticket_is_left_to_a_person_if_wanted(system: &'static dyn System) {
    if !system.has_tickets() {
        return;
    }
    let bench = Bench::new(system, TicketPolicy { on_closed: OnClosed::FollowUp, on_gone: OnGone::Dead }).await;
    let (_, first) = bench.message(1, "first", true, &[]);
    bench.deliver(&first).await.unwrap();
    bench.fake.room.lock().unwrap().tickets[0].gone = true;
    let (_, second) = bench.message(1, "second", false, &[]);
    let error = bench.deliver(&second).await.unwrap_err();
    assert!(matches!(error, DeliverError::Never { .. }), "{}: {error:?}", system.name());
}

async fn what_can_never_work_says_why_and_names_nobody(system: &'static dyn System) {
    let bench = bench(system).await;
    bench.fake.plan(Did::Ticket, Wrong::Refused("Subject is not allowed for ana.meier@example.org".into()));
    let (one, first) = bench.message(1, "first", true, &[]);
    let error = bench.once(&first).await.unwrap_err();
    let DeliverError::Never { detail, .. } = &error else { panic!("{}: {error:?}", system.name()) };
    assert!(detail.contains("Subject is not allowed for"), "{}: {detail}", system.name());
    assert!(!detail.contains("ana.meier"), "{}: {detail}", system.name());
    bench.deliver(&first).await.unwrap();
    holds(system, &bench.room(), 1, &[&one]);
}

async fn what_a_customer_writes_does_nothing(system: &'static dyn System) {
    let bench = bench(system).await;
    let (_, first) = bench.message(1, HOSTILE, true, &[]);
    bench.deliver(&first).await.unwrap();
    let room = bench.room();
    let text = &room.tickets[0].entries[0].text;
    for harmful in system.harmful() {
        assert!(!text.contains(harmful), "{}: {harmful} in {text}", system.name());
    }
    assert!(text.contains("see"), "{text}");
}

async fn long_text_is_cut_and_says_where_the_rest_is(system: &'static dyn System) {
    let bench = bench(system).await;
    for (number, letter) in [(1, "ä"), (2, "<"), (3, "*")] {
        let (_, event) = bench.message(number, &letter.repeat(200_000), true, &[]);
        bench.deliver(&event).await.unwrap();
        let (_, edit) = bench.about("message.edited", number, json!({"text": letter.repeat(200_000)}));
        bench.deliver(&edit).await.unwrap();
        let transcript = json!({"changed": ["call"], "call": {"outcome": "voicemail", "transcript": letter.repeat(200_000)}});
        let (_, learnt) = bench.about("message.updated", number, transcript);
        bench.deliver(&learnt).await.unwrap();
    }
    let room = bench.room();
    assert_eq!(room.wrong, Vec::<String>::new());
    for entry in room.tickets.iter().flat_map(|ticket| &ticket.entries) {
        assert!(entry.text.chars().count() <= system.chars_max(), "{}: {}", system.name(), entry.text.chars().count());
        let note = entry.text.contains("was edited by its author") || entry.text.contains("Transcript of");
        assert!(note || entry.text.contains("https://chat.example.org/1"), "{}: {}", system.name(), &entry.text[entry.text.len() - 200..]);
        // No half of an escape: what is cut away is whole letters of the customer.
        let tail = entry.text.split('…').next().unwrap_or_default();
        assert!(!tail.ends_with("&l") && !tail.ends_with("&lt"), "{}", system.name());
    }
}

async fn an_access_token_is_renewed(system: &'static dyn System) {
    let bench = bench(system).await;
    let (one, first) = bench.message(1, "first", true, &[]);
    bench.deliver(&first).await.unwrap();
    bench.fake.room.lock().unwrap().token += 1;
    let (two, second) = bench.message(1, "second", false, &[]);
    match bench.once(&second).await {
        Ok(()) => holds(system, &bench.room(), 1, &[&one, &two]),
        Err(error) => panic!("{}: {error}", system.name()),
    }
}

async fn a_check_finds_everything_there(system: &'static dyn System) {
    use omnigate::ports::destination::Destination;
    let bench = bench(system).await;
    let line = bench.desk.probe().await.unwrap();
    assert!(line.contains("login") || line.contains("repository"), "{}: {line}", system.name());
    assert_eq!(bench.room().wrong, Vec::<String>::new());
}

async fn a_closed_ticket_is_opened_again_if_wanted(system: &'static dyn System) {
    if !system.has_tickets() {
        return;
    }
    let bench = Bench::new(system, TicketPolicy { on_closed: OnClosed::Reopen, on_gone: OnGone::Recreate }).await;
    let (one, first) = bench.message(1, "first", true, &[]);
    bench.deliver(&first).await.unwrap();
    bench.fake.room.lock().unwrap().tickets[0].closed = true;
    let (two, second) = bench.message(1, "second", false, &[]);
    bench.deliver(&second).await.unwrap();
    let room = bench.room();
    // What cannot be opened again is followed by another.
    holds(system, &room, if system.reopens() { 1 } else { 2 }, &[&one, &two]);
    assert_eq!(room.tickets[0].closed, !system.reopens(), "{}", system.name());
}

async fn a_create_that_is_repeated_on_the_way_leaves_one_ticket(system: &'static dyn System) {
    if !system.folds() {
        return;
    }
    let bench = bench(system).await;
    bench.fake.plan(Did::Ticket, Wrong::Twice);
    let (one, first) = bench.message(1, "first", true, &[]);
    bench.deliver(&first).await.unwrap();
    let (two, second) = bench.message(1, "second", false, &[]);
    bench.deliver(&second).await.unwrap();
    holds(system, &bench.room(), 1, &[&one, &two]);
}

/// Where an index lags, a second ticket is seen only after the first message is done: the next work of the destination closes it, whatever
/// conversation that is of.
async fn a_second_ticket_that_is_seen_late_is_closed_without_another_message(system: &'static dyn System) {
    if !system.folds() {
        return;
    }
    let bench = bench(system).await;
    bench.fake.room.lock().unwrap().lag_ms = 25_000;
    bench.fake.plan(Did::Ticket, Wrong::Twice);
    let (one, first) = bench.message(1, "first", true, &[]);
    bench.deliver(&first).await.unwrap();
    let (two, second) = bench.message(2, "of somebody else", true, &[]);
    bench.deliver(&second).await.unwrap();
    bench.pass(Duration::from_secs(180));
    let (three, third) = bench.message(2, "later", false, &[]);
    bench.deliver(&third).await.unwrap();
    holds(system, &bench.room(), 2, &[&one, &two, &three]);
}

async fn what_is_missing_is_told_and_made(system: &'static dyn System) {
    let bench = bench(system).await;
    bench.fake.room.lock().unwrap().bare = true;
    let missing = |found: &[Prepared]| -> Vec<String> { found.iter().filter(|one| !one.ok).map(|one| one.what.clone()).collect() };
    let found = bench.desk.prepare(false).await.unwrap();
    assert_eq!(missing(&found), system.fields(), "{}", system.name());
    assert!(found.iter().filter(|one| !one.ok).all(|one| one.line.contains("destination prepare")), "{found:?}");
    let made = bench.desk.prepare(true).await.unwrap();
    assert_eq!(missing(&made), Vec::<String>::new(), "{}: {made:?}\n{:?}", system.name(), bench.room().wrong);
    let names: Vec<&str> = made.iter().filter(|one| one.made).map(|one| one.what.as_str()).collect();
    assert_eq!(names, system.fields(), "{}", system.name());
    // Nothing is made twice.
    assert!(bench.desk.prepare(true).await.unwrap().iter().all(|one| one.ok && !one.made));
    assert_eq!(bench.room().wrong, Vec::<String>::new());
}

/// A conversation of Help Scout takes a hundred threads; a page of look-ups is shorter than that everywhere.
async fn long_conversations_are_looked_through(system: &'static dyn System) {
    let bench = bench(system).await;
    let mut ids = Vec::new();
    for number in 0..130 {
        if number == 120 {
            bench.fake.plan(Did::Entry, Wrong::AnswerLost);
        }
        let (id, event) = bench.message(1, &format!("line {number}"), number == 0, &[]);
        bench.deliver(&event).await.unwrap();
        ids.push(id);
    }
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    holds(system, &bench.room(), if system.name() == "helpscout" { 2 } else { 1 }, &ids);
}

macro_rules! of_every_fake {
    ($($name:ident),+ $(,)?) => {
        mod every {
            $(#[tokio::test]
            async fn $name() {
                for system in super::desk_fakes::all() {
                    println!("{}", system.name());
                    super::$name(system).await;
                }
            })+
        }
    };
}

of_every_fake!(
    a_conversation_is_a_ticket_with_its_entries_and_files,
    what_was_sent_without_an_answer_is_looked_for,
    too_many_calls_pause_the_destination,
    a_limit_met_at_any_call_delays_and_doubles_nothing,
    edits_reactions_and_deletions_are_notes_for_agents,
    more_files_than_a_system_takes_are_named,
    a_refused_credential_halts_and_tells,
    closed_deleted_and_merged_tickets_go_on,
    a_deleted_ticket_is_left_to_a_person_if_wanted,
    what_can_never_work_says_why_and_names_nobody,
    what_a_customer_writes_does_nothing,
    long_text_is_cut_and_says_where_the_rest_is,
    an_access_token_is_renewed,
    a_check_finds_everything_there,
    a_closed_ticket_is_opened_again_if_wanted,
    a_create_that_is_repeated_on_the_way_leaves_one_ticket,
    a_second_ticket_that_is_seen_late_is_closed_without_another_message,
    what_is_missing_is_told_and_made,
    long_conversations_are_looked_through,
);
