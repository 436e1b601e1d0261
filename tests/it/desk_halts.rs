//! A ticket system that refuses, end to end through the binary: what an operator sees and does.

use std::time::{Duration, Instant};

use crate::support::daemon::{Daemon, Setup, quick_schedule};
use crate::support::desk_fakes::chats::HelpScout;
use crate::support::desk_fakes::zen::Zendesk;
use crate::support::desk_fakes::{Did, Fake, System, Wrong};
use crate::support::ticketing::post_whatsapp;

fn setup(fake: &Fake) -> Setup {
    let mut setup = Setup::default();
    setup.with_whatsapp();
    setup.rest = format!(
        "{}[destination.desk]\nkind = \"ticket\"\nsystem = \"zendesk\"\nsettings = {{ url = \"{}\", email = \"gateway@example.org\" }}\n\
         secrets = {{ api_token = {{ env = \"DESK_SECRET\" }} }}\n[[route]]\nto = [\"desk\"]\n",
        quick_schedule(),
        fake.url()
    );
    setup.env.insert("DESK_SECRET".to_owned(), Zendesk.secret().1.to_owned());
    setup
}

#[tokio::test]
async fn a_refused_credential_pauses_the_destination_and_a_person_resumes_it() {
    let fake = Fake::start(&Zendesk).await;
    for _ in 0..100 {
        fake.plan(Did::Ticket, Wrong::Denied);
    }
    let daemon = Daemon::start(setup(&fake)).await;
    for sender in 0..5 {
        post_whatsapp(&daemon, sender, &format!("w{sender}"), "Hello").await;
    }
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let (_, shown, _) = daemon.command(&["destination", "list"]);
        if shown.contains("paused") && shown.contains("denied") {
            break;
        }
        assert!(Instant::now() < end, "{shown}\n{}", daemon.log_end(20));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Those under way were refused too, and then nothing is sent.
    let creates = || fake.room.lock().unwrap().asked.iter().filter(|start| start.starts_with("POST /api/v2/tickets.json")).count();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!((1..=5).contains(&creates()), "{}", creates());
    let dead = daemon.get("/v1/deliveries?state=dead").await;
    assert_eq!(dead["items"], serde_json::json!([]), "no tries are spent");
    fake.calm();
    let (done, _, errors) = daemon.command(&["destination", "resume", "desk"]);
    assert!(done.success(), "{errors}");
    daemon.settled(Duration::from_secs(60)).await;
    let room = fake.room.lock().unwrap().clone();
    assert_eq!((room.tickets.len(), room.wrong), (5, Vec::new()));
    assert!(!daemon.log_text().contains(Zendesk.secret().1));
}

/// `strict_egress` holds for all that a destination asks for: its calls, what gives its tokens, and what comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strict_destination_asks_nobody_in_here_for_anything() {
    let fake = Fake::start(&HelpScout).await;
    let setup = |more: &str| {
        let mut setup = Setup {
            rest: format!(
                "[destination.desk]\nkind = \"ticket\"\nsystem = \"helpscout\"\nback = [\"poll\"]\n{more}settings = {{ url = \"{}\", client_id = \"app-1\", \
                 mailbox_id = 85, conversation_field_id = 3 }}\nsecrets = {{ client_secret = {{ env = \"DESK_SECRET\" }} }}\n[[route]]\nto = [\"desk\"]\n",
                fake.url()
            ),
            ..Setup::default()
        };
        setup.env.insert("DESK_SECRET".to_owned(), HelpScout.secret().1.to_owned());
        setup
    };
    let (done, shown, errors) = Daemon::prepare(setup("strict_egress = true\n")).command(&["check", "--connect"]);
    assert!(!done.success(), "{shown}{errors}");
    assert_eq!(fake.room.lock().unwrap().asked, Vec::<String>::new(), "{shown}{errors}");
    assert_eq!(format!("{shown}{errors}").matches("refused address").count(), 2, "{shown}{errors}");
    let (done, shown, errors) = Daemon::prepare(setup("")).command(&["check", "--connect"]);
    assert!(done.success(), "{shown}{errors}");
    assert!(!fake.room.lock().unwrap().asked.is_empty());
}

#[tokio::test]
async fn a_dead_letter_says_why_in_the_systems_own_words_and_names_nobody() {
    let fake = Fake::start(&Zendesk).await;
    let daemon = Daemon::start(setup(&fake)).await;
    post_whatsapp(&daemon, 1, "w1", "Hello").await;
    daemon.settled(Duration::from_secs(60)).await;
    for _ in 0..3 {
        fake.plan(Did::Entry, Wrong::Refused("Comment is not allowed for ana.meier@example.org".to_owned()));
    }
    post_whatsapp(&daemon, 1, "w2", "Hello?").await;
    daemon.settled(Duration::from_secs(60)).await;
    let dead = daemon.get("/v1/deliveries?state=dead").await;
    let detail = dead["items"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("answered 422 Comment is not allowed for"), "{detail}");
    let (_, shown, _) = daemon.command(&["dead", "list"]);
    assert!(shown.contains("rejected"), "{shown}");
    for text in [dead.to_string(), shown, daemon.log_text()] {
        assert!(!text.contains("ana.meier") && !text.contains(Zendesk.secret().1), "{text}");
    }
    // The lane moves on.
    post_whatsapp(&daemon, 1, "w3", "Still there?").await;
    daemon.settled(Duration::from_secs(60)).await;
    let room = fake.room.lock().unwrap().clone();
    assert_eq!((room.tickets.len(), room.tickets[0].entries.len()), (1, 2));
}
