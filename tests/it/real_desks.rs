//! Ticket systems, the real ones: Request Tracker 5 and Redmine 5 as Debian packages them, Roundup and django-helpdesk of Python's
//! registry. The same facts for each.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::support::bad_desk_link::{BadDeskLink, Fault};
use crate::support::daemon::Daemon;
use crate::support::desks::Desk;
use crate::support::dice::Dice;
use crate::support::http1::Message;
use crate::support::ticketing::{System, check, conversations, post_form, post_whatsapp, setup};

/// A create that something on the way repeats makes a second ticket, which is found and joined. An entry that is repeated nobody can
/// tell from one that was said twice: these systems have no key for it.
fn may_repeat(asked: &Message) -> bool {
    let creates = ["POST /REST/2.0/ticket ", "POST /issues.json ", "POST /t/rest/data/issue ", "POST /api/tickets/ ", "GET "];
    creates.iter().any(|start| asked.start.starts_with(start))
}

fn files() -> BTreeMap<String, Vec<u8>> {
    let mut dice = Dice::new(7);
    let mut bytes = |length: u64| -> Vec<u8> { (0..length).map(|_| dice.roll() as u8).collect() };
    BTreeMap::from([
        ("photo.jpg".to_owned(), bytes(70_001)),
        ("bericht.pdf".to_owned(), bytes(5)),
        ("Brief 1.txt".to_owned(), b"gr\xc3\xbc\xc3\x9fe\r\n".to_vec()),
    ])
}

fn some(files: &BTreeMap<String, Vec<u8>>, names: &[&str]) -> Vec<(String, Vec<u8>)> {
    names.iter().map(|name| ((*name).to_owned(), files[*name].clone())).collect()
}

async fn conversations_become_tickets(system: System, desk: Desk) {
    let files = files();
    let mut daemon = Daemon::start(setup(system, &desk, &desk.url(), "")).await;
    post_whatsapp(&daemon, 1, "w1", "Wo ist meine Bestellung? Größe 38 <b>dringend</b> & @admin #1").await;
    post_form(&daemon, "ana", "f1", "Hello\n\nh1. no heading", &some(&files, &["photo.jpg", "Brief 1.txt"])).await;
    daemon.settled(Duration::from_secs(60)).await;
    post_whatsapp(&daemon, 1, "w2", "Hallo?").await;
    post_form(&daemon, "ana", "f2", "One more file", &some(&files, &["bericht.pdf"])).await;
    post_whatsapp(&daemon, 2, "w3", "Somebody else").await;
    daemon.settled(Duration::from_secs(60)).await;
    let escapes = system != System::Roundup;
    // What looks like a template of the system is what the customer wrote.
    post_whatsapp(&daemon, 2, "w4", "Curly {{ ticket.id }} and {% now %} {# no #} end").await;
    daemon.settled(Duration::from_secs(60)).await;
    // What dialects add and escape is not part of what is compared.
    let conversations = conversations(&daemon).await;
    assert_eq!(conversations.len(), 3);
    let mut plain = 0;
    for (conversation, said) in &conversations {
        let tickets = system.tickets(&desk, conversation).await;
        assert_eq!(tickets.len(), 1);
        let entries = system.entries(&desk, &tickets[0]).await;
        assert_eq!(entries.len(), said.len());
        for (entry, (_, names)) in entries.iter().zip(said) {
            assert_eq!(entry.files.len(), names.len());
            assert!(entry.files.iter().all(|(name, bytes)| files[name] == *bytes));
            plain += usize::from(entry.text.contains("Größe 38") && (!escapes || !entry.text.contains("<b>dringend")));
            // No markup where the system reads Markdown.
            assert!(!escapes || system == System::Django || !entry.text.contains("\nh1. no"));
        }
    }
    let (conversation, _) = conversations.iter().find(|(_, said)| said.iter().any(|(text, _)| text.starts_with("Curly"))).unwrap();
    let ticket = system.tickets(&desk, conversation).await.remove(0);
    let curly = system.entries(&desk, &ticket).await.remove(1).text;
    for word in ["ticket.id", "now", "no", "end"] {
        assert!(curly.contains(word), "{curly}");
    }
    assert_eq!(plain, 1, "umlauts arrive, markup of the customer does nothing");

    // Told to everybody who reads the stream, and shown to people.
    let events = daemon.get("/v1/events?limit=1000").await;
    let linked: Vec<_> = events["events"].as_array().unwrap().iter().filter(|event| event["type"] == "ticket.linked").collect();
    assert_eq!(linked.len(), 3);
    assert!(linked[0]["data"]["url"].as_str().unwrap().starts_with(&desk.url()));
    let (status, shown, _) = daemon.command(&["ledger"]);
    assert!(status.success() && shown.contains("desk:") && conversations.keys().all(|id| shown.contains(id)), "{shown}");
    let (status, shown, _) = daemon.command(&["ledger", "--ticket", &format!("desk:{ticket}")]);
    assert!(status.success() && shown.contains(conversation) && shown.contains(&format!("desk:{ticket}")), "{shown}");
    assert_eq!(conversations.keys().filter(|id| shown.contains(*id)).count(), 1, "{shown}");
    let (status, _, errors) = daemon.command(&["ledger", "--ticket", "desk:999999"]);
    assert!(!status.success() && errors.contains("no ticket desk:999999"), "{errors}");
    let ledger = daemon.get("/v1/ledger?limit=1").await;
    let message = ledger["items"][0]["message"].as_str().unwrap().to_owned();
    let (status, shown, _) = daemon.command(&["message", &message]);
    assert!(status.success() && shown.contains("written") && shown.contains(&message), "{shown}");

    // A restart sends nothing again.
    daemon.kill();
    daemon.launch();
    daemon.ready().await;
    daemon.settled(Duration::from_secs(30)).await;
    for (conversation, said) in &conversations {
        let tickets = system.tickets(&desk, conversation).await;
        assert_eq!(system.entries(&desk, &tickets[0]).await.len(), said.len());
    }
}

async fn every_lost_answer_is_looked_for(system: System, desk: Desk) {
    let files = files();
    let link = BadDeskLink::start(desk.address, system.patience(), 0, 1, may_repeat).await;
    let daemon = Daemon::start(setup(system, &desk, &link.url(), "attachments = \"none\"\n")).await;
    let faults =
        [Fault::CutBefore, Fault::CutAfter, Fault::CutWithin, Fault::Stall, Fault::Late, Fault::Fail502, Fault::Fail504, Fault::Repeat];
    for (number, fault) in faults.iter().enumerate() {
        let sender = 10 + number as u64;
        // Some make the customer first: that exchange is let through.
        let lead: &[Fault] = if system == System::Rt { &[] } else { &[Fault::None] };
        link.next(&[lead, &[*fault]].concat());
        post_whatsapp(&daemon, sender, &format!("c{number}"), &format!("first of {number}")).await;
        daemon.settled(Duration::from_secs(60)).await;
        link.next(&[*fault]);
        post_whatsapp(&daemon, sender, &format!("a{number}"), &format!("second of {number}")).await;
        daemon.settled(Duration::from_secs(60)).await;
    }
    assert!(link.faults() >= 2 * faults.len() as u32 - 2, "only {} faults", link.faults());
    check(system, &desk, &daemon, &files).await;
}

async fn nothing_is_doubled_by_a_bad_link_and_kills(system: System, desk: Desk) {
    // These take one call after the other.
    let usual = if matches!(system, System::Roundup | System::Django) { 10 } else { 24 };
    let count: u64 = std::env::var("OMNIGATE_TICKETS").ok().and_then(|value| value.parse().ok()).unwrap_or(usual);
    let files = files();
    let seed = std::env::var("SIM_SEED").ok().and_then(|value| value.parse().ok()).unwrap_or(20_261_123);
    println!("SIM_SEED={seed} OMNIGATE_TICKETS={count}");
    let mut dice = Dice::new(seed);
    let link = BadDeskLink::start(desk.address, system.patience(), 12, seed, may_repeat).await;
    let mut daemon = Daemon::start(setup(system, &desk, &link.url(), "")).await;
    for round in 0..3 {
        for number in 0..count {
            let id = format!("{round}-{number}");
            if number % 2 == 0 {
                post_whatsapp(&daemon, 100 + number, &id, &format!("text {id} of whatsapp")).await;
            } else {
                let names: &[&str] = [&[][..], &["photo.jpg"], &["bericht.pdf", "Brief 1.txt"]][(number as usize + round) % 3];
                post_form(&daemon, &format!("who{number}"), &id, &format!("text {id} of form"), &some(&files, names)).await;
            }
            if dice.chance(100 / count.clamp(4, 100) + 2) {
                tokio::time::sleep(Duration::from_millis(dice.between(0, 2_500))).await;
                daemon.kill();
                daemon.launch();
                daemon.ready().await;
            }
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        daemon.kill();
        daemon.launch();
        daemon.ready().await;
    }
    // The link stays bad until enough went wrong, then all that is owed arrives.
    let from = std::time::Instant::now();
    while u64::from(link.faults()) < 2 * count && from.elapsed() < Duration::from_secs(60 + 2 * count) {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    link.percent(0);
    daemon.settled(Duration::from_secs(180 + 6 * count)).await;
    println!("{} exchanges went wrong", link.faults());
    assert!(u64::from(link.faults()) > count / 2);
    let dead = daemon.get("/v1/deliveries?state=dead").await;
    assert_eq!(dead["items"], json!([]));
    check(system, &desk, &daemon, &files).await;
}

async fn a_check_says_what_is_missing(system: System, desk: Desk) {
    let good = Daemon::prepare(setup(system, &desk, &desk.url(), ""));
    let (status, shown, errors) = good.command(&["check", "--connect"]);
    assert!(status.success(), "{shown}{errors}");
    assert!(shown.contains("login"), "{shown}");
    // Roundup's ids stand in titles: there is no field to miss.
    if system != System::Roundup {
        let mut bad = setup(system, &desk, &desk.url(), "");
        bad.rest = bad
            .rest
            .replace("queue = \"Support\"", "queue = \"Bare\"")
            .replace("conversation_field_id = 1", "conversation_field_id = 7")
            .replace("queue = 1 }", "queue = 1, conversation_field = \"other\" }");
        let bad = Daemon::prepare(bad);
        let (status, shown, errors) = bad.command(&["check", "--connect"]);
        assert!(!status.success() && shown.contains("FAILED  destination desk: not_prepared: custom field"), "{shown}{errors}");
        assert!(shown.contains("ok      destination desk: login"), "what is there stands apart: {shown}");
        let (status, shown, errors) = bad.command(&["destination", "prepare", "desk"]);
        assert!(!status.success() && shown.contains("ok       login") && shown.contains("MISSING  custom field"), "{shown}{errors}");
    }
    let mut refused = setup(system, &desk, &desk.url(), "");
    refused.env.insert("DESK_SECRET".into(), "1-2-wrong".into());
    let (status, shown, errors) = Daemon::prepare(refused).command(&["check", "--connect"]);
    assert!(!status.success() && !format!("{shown}{errors}").contains("1-2-wrong"), "{shown}{errors}");
    assert_eq!(format!("{shown}{errors}").matches("refused:").count(), 1, "who is not let in is told so once: {shown}{errors}");
}

async fn a_closed_ticket_is_followed_by_another_that_names_it(system: System, desk: Desk) {
    let daemon = Daemon::start(setup(system, &desk, &desk.url(), "")).await;
    post_whatsapp(&daemon, 1, "w1", "one").await;
    daemon.settled(Duration::from_secs(60)).await;
    let conversation = conversations(&daemon).await.into_keys().next().unwrap();
    let first = system.tickets(&desk, &conversation).await.remove(0);
    system.close(&desk, &first).await;
    post_whatsapp(&daemon, 1, "w2", "two").await;
    daemon.settled(Duration::from_secs(60)).await;
    let second = system.tickets(&desk, &format!("{conversation}-2")).await.remove(0);
    assert_eq!(system.entries(&desk, &first).await.len(), 1, "the closed one is left alone");
    let entries = system.entries(&desk, &second).await;
    assert!(entries.len() == 1 && entries[0].text.contains("two"), "{entries:?}");
    assert!(system.names(&desk, &second).await.contains(&first), "the new one names the old one");
    let rows = daemon.get("/v1/tickets").await;
    let states: Vec<_> = rows["items"].as_array().unwrap().iter().map(|row| (row["generation"].clone(), row["state"].clone())).collect();
    assert_eq!(states, [(json!(2), json!("linked")), (json!(1), json!("ended"))]);
}

async fn a_lost_ticket_is_made_anew(system: System, desk: Desk) {
    let daemon = Daemon::start(setup(system, &desk, &desk.url(), "")).await;
    post_whatsapp(&daemon, 1, "w1", "one").await;
    daemon.settled(Duration::from_secs(60)).await;
    let conversation = conversations(&daemon).await.into_keys().next().unwrap();
    let first = system.tickets(&desk, &conversation).await.remove(0);
    system.delete(&desk, &first).await;
    post_whatsapp(&daemon, 1, "w2", "two").await;
    daemon.settled(Duration::from_secs(60)).await;
    assert_eq!(system.tickets(&desk, &format!("{conversation}-2")).await.len(), 1);
}

/// What is no message stands where agents see it; feedback and calls say what they are.
async fn everything_that_happens_has_a_form(system: System, desk: Desk) {
    let mut setup = setup(system, &desk, &desk.url(), "reactions = \"note\"\n");
    setup.channels.insert("mix".into(), "connector = \"generic\"\nverify = \"none\"\nmap = \".\"\n".into());
    let daemon = Daemon::start(setup).await;
    let ana = json!({"address": "mix:ana", "name": "Ana"});
    let of = |more: serde_json::Value| {
        let mut draft = json!({"conversation": "c1", "from": ana});
        draft.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        draft.to_string()
    };
    let drafts = [
        of(json!({"kind": "message", "key": "m1", "text": "My order is late"})),
        of(json!({"kind": "edit", "key": "m1", "text": "My order 4711 is late", "revision": "2", "edited_at": "2026-11-22T09:15:00Z"})),
        of(json!({"kind": "reaction", "key": "m1", "emoji": "heart", "added": true, "delivery_key": "r1"})),
        of(
            json!({"kind": "message", "key": "m2", "message_kind": "survey", "feedback": {"metric": "csat", "score": 2, "scale": [1, 5], "comment": "too slow"}}),
        ),
        of(
            json!({"kind": "message", "key": "m3", "message_kind": "call", "call": {"outcome": "voicemail", "seconds": 41, "transcript": "please call me"}}),
        ),
        of(json!({"kind": "delete", "key": "m1"})),
    ];
    for draft in drafts {
        let headers = [("content-type", "application/json")];
        let answer = crate::support::http1::once(daemon.public, "POST", "/hooks/mix", &headers, draft.as_bytes()).await.unwrap();
        assert!(answer.success(), "{}", answer.text());
        daemon.settled(Duration::from_secs(60)).await;
    }
    let dead = daemon.get("/v1/deliveries?state=dead").await;
    assert_eq!(dead["items"], json!([]));
    let conversation = conversations(&daemon).await.into_keys().next().unwrap();
    let ticket = system.tickets(&desk, &conversation).await.remove(0);
    let entries = system.entries(&desk, &ticket).await;
    let forms = [
        ("late", false),
        ("was edited by its author", true),
        ("got the reaction", true),
        ("csat 2 on 1 to 5", false),
        ("please call me", false),
        ("was deleted by its author", true),
    ];
    assert_eq!(entries.len(), forms.len(), "{entries:#?}");
    for (entry, (words, note)) in entries.iter().zip(forms) {
        assert!(entry.text.replace('\u{2060}', "").contains(words), "{words}: {entry:?}");
        let hidden = match system {
            // Roundup shows all to everybody who sees the issue, django-helpdesk nothing on its public pages (`public`).
            System::Roundup => false,
            System::Django => true,
            System::Rt | System::Redmine => note,
        };
        assert_eq!(entry.kind == "Comment", hidden, "{words}: {entry:?}");
    }
    assert!(entries[1].text.contains("4711") && entries[4].text.contains("41 s"), "{entries:#?}");
}

macro_rules! of {
    ($module:ident, $start:ident, $system:ident: $($name:ident),+ $(,)?) => {
        mod $module {
            $(#[tokio::test]
            async fn $name() {
                if let Some(desk) = super::Desk::$start().await {
                    super::$name(super::System::$system, desk).await;
                }
            })+
        }
    };
}

of!(rt, rt, Rt:
    conversations_become_tickets,
    everything_that_happens_has_a_form,
    every_lost_answer_is_looked_for,
    nothing_is_doubled_by_a_bad_link_and_kills,
    a_check_says_what_is_missing,
    a_closed_ticket_is_followed_by_another_that_names_it,
    a_lost_ticket_is_made_anew,
);
of!(redmine, redmine, Redmine:
    conversations_become_tickets,
    everything_that_happens_has_a_form,
    every_lost_answer_is_looked_for,
    nothing_is_doubled_by_a_bad_link_and_kills,
    a_check_says_what_is_missing,
    a_closed_ticket_is_followed_by_another_that_names_it,
    a_lost_ticket_is_made_anew,
);
of!(roundup, roundup, Roundup:
    conversations_become_tickets,
    everything_that_happens_has_a_form,
    a_check_says_what_is_missing,
    every_lost_answer_is_looked_for,
    nothing_is_doubled_by_a_bad_link_and_kills,
    a_closed_ticket_is_followed_by_another_that_names_it,
    a_lost_ticket_is_made_anew,
);

of!(django, django, Django:
    conversations_become_tickets,
    everything_that_happens_has_a_form,
    every_lost_answer_is_looked_for,
    nothing_is_doubled_by_a_bad_link_and_kills,
    a_check_says_what_is_missing,
    a_closed_ticket_is_followed_by_another_that_names_it,
    a_lost_ticket_is_made_anew,
);

/// Roundup counts the calls of a user. Who has too many is told to wait, and the whole destination does.
#[tokio::test]
async fn a_systems_own_rate_limit_is_kept_to() {
    let Some(desk) = Desk::roundup_that_takes(10).await else { return };
    let system = System::Roundup;
    let link = BadDeskLink::start(desk.address, system.patience(), 0, 1, may_repeat).await;
    let daemon = Daemon::start(setup(system, &desk, &link.url(), "attachments = \"none\"\n")).await;
    for round in 0..2 {
        for sender in 0..2 {
            post_whatsapp(&daemon, sender, &format!("{round}-{sender}"), &format!("text {round} of {sender}")).await;
        }
    }
    daemon.settled(Duration::from_secs(200)).await;
    let calls = link.calls();
    let told: Vec<_> = calls.iter().filter_map(|(at, wait)| Some((*at, (*wait)?))).collect();
    assert!(!told.is_empty(), "no 429 among {} calls", calls.len());
    for (at, wait) in &told {
        // Deliveries that are under way learn it by their own next call.
        let soon = calls.iter().filter(|(then, _)| *then > *at && then.duration_since(*at) + Duration::from_millis(300) < *wait).count();
        assert!(soon < 4, "{soon} calls within {wait:?} of a 429; {} in all, {} refused", calls.len(), told.len());
    }
    assert!(told.len() * 2 < calls.len(), "{} of {} calls were refused", told.len(), calls.len());
    check(system, &desk, &daemon, &BTreeMap::new()).await;
}

#[tokio::test]
async fn nothing_is_doubled_by_a_rate_limit_a_bad_link_and_kills() {
    if let Some(desk) = Desk::roundup_that_takes(60).await {
        nothing_is_doubled_by_a_bad_link_and_kills(System::Roundup, desk).await;
    }
}

/// A ticket that an agent merged into another is followed.
#[tokio::test]
async fn a_merged_ticket_is_followed() {
    let Some(desk) = Desk::rt().await else { return };
    let system = System::Rt;
    let daemon = Daemon::start(setup(system, &desk, &desk.url(), "")).await;
    post_whatsapp(&daemon, 1, "w1", "one").await;
    post_whatsapp(&daemon, 2, "w2", "another").await;
    daemon.settled(Duration::from_secs(60)).await;
    let rows = daemon.get("/v1/tickets").await;
    let (kept, gone) = (rows["items"][1]["ticket"].as_str().unwrap(), rows["items"][0]["ticket"].as_str().unwrap());
    let merge = json!({"MergeInto": kept}).to_string();
    assert!(desk.ask("PUT", &format!("/REST/2.0/ticket/{gone}"), merge.as_bytes()).await.unwrap().success());
    for (sender, id) in [(1, "w3"), (2, "w4")] {
        post_whatsapp(&daemon, sender, id, &format!("more {id}")).await;
    }
    daemon.settled(Duration::from_secs(60)).await;
    assert_eq!(system.entries(&desk, kept).await.len(), 4);
    let rows = daemon.get("/v1/tickets").await;
    assert!(rows["items"].as_array().unwrap().iter().all(|row| row["ticket"] == kept), "{rows}");
}
