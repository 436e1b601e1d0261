//! What comes back by poll from ticket systems that cannot be tried for real here, through the binary and against strict fakes that tell it
//! from their own state: agents' answers once each, with the system's own times; closed tickets that end their conversations.

use std::time::Duration;

use omnigate::model::time::Time;
use serde_json::{Value, json};

use crate::support::daemon::{Daemon, Setup};
use crate::support::desk_fakes::told::State;
use crate::support::desk_fakes::{Fake, System};
use crate::support::ticketing::{agents_said, conversations, post_whatsapp, until};

/// When the customers of the test wrote, by their platform's clock: `support::whatsapp`.
const ASKED_MS: i64 = 1_763_802_843_000;

/// A value as TOML writes it.
pub fn toml(value: &Value) -> String {
    match value {
        Value::Object(table) => {
            let pairs: Vec<String> = table.iter().map(|(key, value)| format!("{key} = {}", toml(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}

/// A destination `desk` that is told what happens, over the roads `back`.
pub fn setup(system: &dyn System, fake: &Fake, back: &str, more: &str) -> Setup {
    let mut setup = Setup::default();
    setup.with_whatsapp();
    let mut settings = system.settings(&fake.url());
    if back.contains("poll") {
        settings["back_interval"] = json!("1s");
    }
    setup.rest = format!(
        "[destination.desk]\nkind = \"ticket\"\nsystem = \"{}\"\nback = [{back}]\nattachments = \"none\"\nsettings = {}\n\
         secrets = {{ {} = {{ env = \"DESK_SECRET\" }} }}\n{more}\n[[route]]\nto = [\"desk\"]\ndirection = \"any\"\n",
        system.name(),
        toml(&settings),
        system.secret().0
    );
    setup.env.insert("DESK_SECRET".into(), system.secret().1.to_owned());
    setup
}

pub fn texts(said: &[Value]) -> Vec<String> {
    said.iter().map(|event| event["data"]["message"]["text"].as_str().unwrap().to_owned()).collect()
}

async fn told(daemon: &Daemon, count: usize) -> Vec<Value> {
    let enough = |shown: &Value| Some(agents_said(shown)).filter(|said| said.len() >= count);
    until(&format!("{count} answers"), daemon, "/v1/events?limit=1000", enough).await
}

/// A conversation of two messages and its ticket.
async fn begun(system: &'static dyn System, more: &str) -> (Fake, Daemon, u64) {
    let fake = Fake::living(system).await;
    let daemon = Daemon::start(setup(system, &fake, "\"poll\"", more)).await;
    daemon.channel_running("desk").await;
    post_whatsapp(&daemon, 1, "w1", "one").await;
    post_whatsapp(&daemon, 1, "w2", "one more").await;
    daemon.settled(Duration::from_secs(60)).await;
    let ticket = fake.room.lock().unwrap().tickets[0].id;
    (fake, daemon, ticket)
}

/// How a system writes a moment.
fn written(system: &dyn System, ms: i64) -> String {
    let unit = if matches!(system.name(), "freshdesk" | "salesforce" | "chatwoot" | "github" | "helpscout") { 1000 } else { 1 };
    Time(ms - ms.rem_euclid(unit)).to_string()
}

async fn answers_come_back_once_and_a_closed_ticket_is_continued(system: &'static dyn System) {
    let (fake, mut daemon, ticket) = begun(system, "").await;
    let conversation = conversations(&daemon).await.into_keys().next().unwrap();
    {
        let mut room = fake.room.lock().unwrap();
        room.notes(ticket, "between us");
        room.customer_says(ticket, "by the portal");
        room.answers(ticket, "It is on its way");
    }
    let outbound = told(&daemon, 1).await;
    assert_eq!(outbound[0]["data"]["conversation"]["id"], conversation.as_str());
    assert_eq!(outbound[0]["data"]["channel"]["id"], "shop");
    let message = &outbound[0]["data"]["message"];
    assert_eq!((&message["author"], &message["ticket"]["system"]), (&json!("agent"), &json!(system.name())), "{message:#}");

    // Killed in between, everything is told once.
    daemon.kill();
    {
        let mut room = fake.room.lock().unwrap();
        room.answers(ticket, "And it has arrived");
        room.sets(ticket, State::Resolved);
    }
    daemon.launch();
    daemon.ready().await;
    let ended = |shown: &Value| shown["events"].as_array().unwrap().iter().find(|event| event["data"]["ended"] == true).cloned();
    let updated = until("closed", &daemon, "/v1/events?limit=1000", ended).await;
    // Where answers and states are asked for apart, the state may be here first.
    let outbound = told(&daemon, 2).await;
    assert_eq!(texts(&outbound), ["It is on its way", "And it has arrived"]);

    // By the system's own clock.
    let room = fake.room.lock().unwrap().clone();
    let first = room.tickets[0].entries.iter().find(|entry| entry.text == "It is on its way").unwrap();
    let (answered, resolved) = (written(system, first.at_ms), written(system, room.tickets[0].state_ms));
    assert_eq!(updated["data"]["changed_at"], json!(resolved));
    let rows = daemon.get("/v1/tickets").await;
    let turns = &rows["items"][0]["turns"];
    assert_eq!((&turns["answered_at"], &turns["resolved_at"]), (&json!(answered), &json!(resolved)));
    assert_eq!((&turns["asked_at"], &turns["waiting_since"]), (&json!(Time(ASKED_MS).to_string()), &Value::Null));
    let scrape = daemon.settled(Duration::from_secs(30)).await;
    let count = |name: &str| scrape.sum(&format!("omnigate_{name}_seconds_count"), &[("channel", "shop")]);
    assert_eq!((count("first_response"), count("resolution")), (1, 1));

    // Nothing of it goes back into its ticket: two messages, a note, the customer's and the agent's two.
    assert_eq!((room.wrong, room.tickets.len(), room.tickets[0].entries.len()), (Vec::new(), 1, 6));

    // The next message opens another conversation, and a ticket that names the old one.
    post_whatsapp(&daemon, 1, "w3", "and another thing").await;
    daemon.settled(Duration::from_secs(60)).await;
    let room = fake.room.lock().unwrap().clone();
    assert_eq!((room.wrong, room.tickets.len()), (Vec::new(), 2));
    assert!(room.tickets[1].before.as_ref().is_some_and(|before| before.contains(&ticket.to_string())), "{:?}", room.tickets[1].before);
    let shown = daemon.get("/v1/events?limit=1000").await;
    let opened = shown["events"].as_array().unwrap().iter().find(|event| event["data"]["message"]["text"] == "and another thing").unwrap();
    assert_eq!(opened["data"]["conversation"]["continues"], json!(conversation));
    assert_eq!(agents_said(&shown).len(), 2);
}

async fn a_closed_ticket_is_opened_again_within_the_time(system: &'static dyn System) {
    let (fake, daemon, ticket) = begun(system, "on_closed = \"reopen\"\nreopen_within = \"1h\"\n").await;
    let is =
        |words: &'static [&'static str]| move |shown: &Value| words.iter().any(|word| shown["items"][0]["status"] == *word).then_some(());
    if system.pends() {
        fake.room.lock().unwrap().sets(ticket, State::Pending);
        until("pending", &daemon, "/v1/tickets", is(&["pending"])).await;
    }
    fake.room.lock().unwrap().sets(ticket, State::Closed);
    until("closed", &daemon, "/v1/tickets", is(&["resolved", "closed"])).await;
    post_whatsapp(&daemon, 1, "w3", "two").await;
    daemon.settled(Duration::from_secs(60)).await;
    until("opened again", &daemon, "/v1/tickets", is(&["open"])).await;
    let rows = daemon.get("/v1/tickets").await;
    assert_eq!(rows["items"].as_array().unwrap().len(), 1, "{rows:#}");
    assert_eq!(rows["items"][0]["turns"]["resolved_at"], Value::Null);
    let room = fake.room.lock().unwrap().clone();
    assert_eq!((room.wrong, room.tickets.len()), (Vec::new(), 1));
    assert_eq!(conversations(&daemon).await.len(), 1);
}

async fn what_changes_again_in_the_same_moment_is_told_too(system: &'static dyn System) {
    let (fake, daemon, ticket) = begun(system, "").await;
    let newest = daemon.get("/v1/ledger?channel=desk&limit=1").await["items"][0]["item"].as_u64().unwrap_or_default();
    {
        // Its clock stands still, so far ahead that no look comes too late to be in the same moment.
        let mut room = fake.room.lock().unwrap();
        (room.now_ms, room.lives) = (room.now() + 50_000, false);
        room.answers(ticket, "first");
    }
    told(&daemon, 1).await;
    {
        let mut room = fake.room.lock().unwrap();
        // A token that the system no longer takes is renewed.
        room.token += 1;
        room.answers(ticket, "second");
    }
    assert_eq!(texts(&told(&daemon, 2).await), ["first", "second"]);
    // The ticket is known to be open at that moment when it is closed in it.
    let open = |row: &Value| row["kind"] == "ticket" && row["item"].as_u64() > Some(newest);
    let seen = |shown: &Value| shown["items"].as_array().unwrap().iter().any(open).then_some(());
    until("seen open", &daemon, "/v1/ledger?channel=desk&limit=50", seen).await;
    fake.room.lock().unwrap().sets(ticket, State::Resolved);
    let ended = |shown: &Value| shown["events"].as_array().unwrap().iter().any(|event| event["data"]["ended"] == true).then_some(());
    until("closed", &daemon, "/v1/events?limit=1000", ended).await;
    let room = fake.room.lock().unwrap().clone();
    assert_eq!(room.wrong, Vec::<String>::new());
    // Where tokens are got the destination and all of its polls share one, and one question for the next.
    let asks = room.asked.iter().filter(|line| line.contains("/oauth2/token")).count();
    assert_eq!(asks, if matches!(system.name(), "salesforce" | "helpscout") { 2 } else { 0 });
}

async fn a_long_list_is_read_to_its_end(system: &'static dyn System) {
    let (fake, mut daemon, ticket) = begun(system, "").await;
    let (status, shown, errors) = tokio::task::block_in_place(|| daemon.command(&["check", "--connect"]));
    assert!(status.success(), "{shown}\n{errors}");
    daemon.kill();
    {
        let mut room = fake.room.lock().unwrap();
        for number in 0..25 {
            room.answers(ticket, &format!("answer {number:02}"));
        }
        for number in 0..230 {
            let other = room.open(&format!("cnv_of another gateway {number}"), "Another").id;
            room.customer_says(other, "Hello");
            room.answers(other, "Not ours");
        }
    }
    daemon.launch();
    daemon.ready().await;
    let outbound = told(&daemon, 25).await;
    let wanted: Vec<String> = (0..25).map(|number| format!("answer {number:02}")).collect();
    assert_eq!(texts(&outbound), wanted);
    assert_eq!(fake.room.lock().unwrap().wrong, Vec::<String>::new());
}

macro_rules! of_each {
    ($($name:ident),+ $(,)?) => {
        of_each!(@ zammad, suites::Zammad, $($name),+);
        of_each!(@ freshdesk, suites::Freshdesk, $($name),+);
        of_each!(@ jira, issues::JiraDesk, $($name),+);
        of_each!(@ hubspot, crm::HubSpot, $($name),+);
        of_each!(@ salesforce, crm::Salesforce, $($name),+);
        of_each!(@ chatwoot, chats::Chatwoot, $($name),+);
        of_each!(@ github, issues::GitHub, $($name),+);
        of_each!(@ helpscout, chats::HelpScout, $($name),+);
    };
    (@ $system:ident, $family:ident::$is:ident, $($name:ident),+) => {
        mod $system {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&crate::support::desk_fakes::$family::$is).await;
            })+
        }
    };
}

of_each!(
    answers_come_back_once_and_a_closed_ticket_is_continued,
    a_closed_ticket_is_opened_again_within_the_time,
    what_changes_again_in_the_same_moment_is_told_too,
    a_long_list_is_read_to_its_end,
);
