//! What comes back from real ticket systems: agents' answers once each, times as the system itself has them, closed tickets that end
//! their conversations. Request Tracker 5, Redmine 5, Roundup 2 and django-helpdesk 2.

use std::time::Duration;

use base64::Engine;
use omnigate::model::time::Time;
use serde_json::{Value, json};

use crate::support::daemon::{Daemon, Setup};
use crate::support::desks::Desk;
use crate::support::http1;
use crate::support::ticketing::{System, agents_said, conversations, post_whatsapp, roundup_change, setup, until};

/// When the customers of the test wrote, by their platform's clock: `support::whatsapp`.
const ASKED_MS: i64 = 1_763_802_843_000;

fn with_back(system: System, desk: &Desk, more: &str) -> Setup {
    let roads = if more.contains("back =") { "" } else { "back = [\"poll\"]\n" };
    let mut setup = setup(system, desk, &desk.url(), &format!("{roads}{more}"));
    setup.rest = setup.rest.replace("queue = \"Support\"", "queue = \"Support\", back_interval = \"1s\"");
    setup.rest = setup.rest.replace("conversation_field_id = 1", "conversation_field_id = 1, back_interval = \"1s\"");
    setup.rest = setup.rest.replace("user = \"admin\"", "user = \"admin\", back_interval = \"1s\"");
    setup.rest = setup.rest.replace("queue = 1", "queue = 1, back_interval = \"1s\"");
    setup
}

fn events(shown: &Value, is: impl Fn(&Value) -> bool) -> Vec<Value> {
    shown["events"].as_array().unwrap().iter().filter(|event| is(event)).cloned().collect()
}

/// An agent writes an answer that the customer may see, then a note for colleagues.
async fn answer(system: System, desk: &Desk, ticket: &str, words: &str) {
    match system {
        System::Rt => {
            let proof = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode("agent1:agent1-pass"));
            let headers = [("authorization", proof.as_str()), ("content-type", "application/json")];
            for (road, words) in [("correspond", words), ("comment", "between us")] {
                let body = json!({"Content": format!("<p>{words}</p>"), "ContentType": "text/html"}).to_string();
                let target = format!("/REST/2.0/ticket/{ticket}/{road}");
                let asked = http1::patient(http1::once(desk.address, "POST", &target, &headers, body.as_bytes())).await;
                assert!(asked.unwrap().success());
            }
        }
        System::Roundup => {
            let made = desk.ask("POST", "/t/rest/data/msg", json!({"content": words, "author": "1"}).to_string().as_bytes()).await.unwrap();
            let message = made.json()["data"]["id"].clone();
            roundup_change(desk, ticket, json!({"@op": "add", "messages": [message]})).await;
        }
        System::Django => {
            for (words, public) in [(words, true), ("between us", false)] {
                followed_up(desk, json!({"ticket": ticket.parse::<u64>().unwrap(), "comment": words, "public": public})).await;
            }
        }
        System::Redmine => {
            for issue in [json!({"notes": words}), json!({"notes": "between us", "private_notes": true})] {
                let body = json!({"issue": issue}).to_string();
                assert!(desk.ask("PUT", &format!("/issues/{ticket}.json"), body.as_bytes()).await.unwrap().success());
            }
        }
    }
}

async fn followed_up(desk: &Desk, followup: Value) {
    let answer = desk.ask("POST", "/api/followups/", followup.to_string().as_bytes()).await.unwrap();
    assert!(answer.success(), "{}", answer.text());
}

/// An agent closes the ticket, as agents do.
async fn close(system: System, desk: &Desk, ticket: &str) {
    match system {
        // A state that is set without a follow-up leaves no trace in what the help desk tells.
        System::Django => followed_up(desk, json!({"ticket": ticket.parse::<u64>().unwrap(), "comment": "", "new_status": 4})).await,
        _ => system.close(desk, ticket).await,
    }
}

/// When the system says the agent answered first, and when the ticket was done.
async fn own_times(system: System, desk: &Desk, ticket: &str, words: &str) -> (Time, Time) {
    let time = |value: &Value| Time::parse(value.as_str().unwrap()).unwrap();
    if system == System::Rt {
        let fields = "fields=Type,Created,Creator,NewValue";
        let all = desk.get(&format!("/REST/2.0/ticket/{ticket}/history?{fields}&per_page=100")).await["items"].clone();
        let all = all.as_array().unwrap().clone();
        let of = |is: &dyn Fn(&Value) -> bool| time(&all.iter().find(|one| is(one)).unwrap()["Created"]);
        let said = of(&|one| one["Type"] == "Correspond" && one["Creator"]["id"] == "agent1");
        return (said, of(&|one| one["Type"] == "Status" && one["NewValue"] == "resolved"));
    }
    if system == System::Roundup {
        let utc = |value: &Value| Time::parse(&format!("{}Z", value.as_str().unwrap().replacen('.', "T", 1))).unwrap();
        let newest = desk.get("/t/rest/data/msg?@sort=-id&@page_size=1&@fields=creation,content&@verbose=3").await;
        let newest = newest["data"]["collection"][0].clone();
        assert_eq!(newest["content"], words);
        let issue = desk.get(&format!("/t/rest/data/issue?id={ticket}&@fields=activity")).await["data"]["collection"][0].clone();
        return (utc(&newest["creation"]), utc(&issue["activity"]));
    }
    if system == System::Django {
        let found = desk.get(&format!("/api/tickets/{ticket}/")).await["followup_set"].clone();
        let of = |is: &dyn Fn(&Value) -> bool| time(&found.as_array().unwrap().iter().find(|one| is(one)).unwrap()["date"]);
        return (of(&|one| one["comment"] == words), of(&|one| one["new_status"] == 4));
    }
    let issue = desk.get(&format!("/issues/{ticket}.json?include=journals")).await["issue"].clone();
    let all = issue["journals"].as_array().unwrap().clone();
    let said = all.iter().find(|one| one["notes"] == words).unwrap();
    let closed = all.iter().find(|one| one["details"].as_array().unwrap().iter().any(|detail| detail["new_value"] == "5")).unwrap();
    (time(&said["created_on"]), time(&closed["created_on"]))
}

async fn answers_come_back_once_and_a_closed_ticket_is_continued(system: System, desk: Desk) {
    let mut daemon = Daemon::start(with_back(system, &desk, "")).await;
    post_whatsapp(&daemon, 1, "w1", "one").await;
    post_whatsapp(&daemon, 1, "w2", "one more").await;
    daemon.settled(Duration::from_secs(60)).await;
    let conversation = conversations(&daemon).await.into_keys().next().unwrap();
    let ticket = system.tickets(&desk, &conversation).await.remove(0);
    answer(system, &desk, &ticket, "It is on its way").await;
    let found = |shown: &Value| Some(agents_said(shown)).filter(|found| !found.is_empty());
    let outbound = until("an answer", &daemon, "/v1/events?limit=1000", found).await;
    assert_eq!(outbound[0]["data"]["conversation"]["id"], conversation.as_str());
    assert_eq!(outbound[0]["data"]["message"]["author"], "agent");
    assert_eq!(outbound[0]["data"]["channel"]["id"], "shop");
    assert!(outbound[0]["data"]["message"]["text"].as_str().unwrap().contains("It is on its way"), "{outbound:#?}");

    // Killed in between, everything is told once.
    daemon.kill();
    close(system, &desk, &ticket).await;
    daemon.launch();
    daemon.ready().await;
    let ended = |shown: &Value| events(shown, |event| event["data"]["ended"] == true).pop();
    let updated = until("closed", &daemon, "/v1/events?limit=1000", ended).await;
    let (said, done) = own_times(system, &desk, &ticket, "It is on its way").await;
    assert_eq!(Time::parse(updated["data"]["changed_at"].as_str().unwrap()), Some(done));
    let rows = daemon.get("/v1/tickets").await;
    let turns = &rows["items"][0]["turns"];
    assert_eq!((turns["answered_at"].clone(), turns["resolved_at"].clone()), (json!(said.to_string()), json!(done.to_string())));
    assert_eq!((turns["asked_at"].clone(), turns["waiting_since"].clone()), (json!(Time(ASKED_MS).to_string()), Value::Null));
    let scrape = daemon.settled(Duration::from_secs(30)).await;
    let seconds = |name: &str| scrape.sum(&format!("omnigate_{name}_seconds_sum"), &[("channel", "shop")]) as i64;
    assert_eq!(
        (seconds("first_response"), seconds("resolution")),
        (said.since_ms(Time(ASKED_MS)) / 1_000, done.since_ms(Time(ASKED_MS)) / 1_000)
    );
    assert_eq!(scrape.sum("omnigate_conversations_waiting", &[("channel", "shop")]), 0);
    let (status, shown, _) = daemon.command(&["status"]);
    assert!(status.success() && shown.contains("FIRST RESPONSE"), "{shown}");
    assert_eq!(agents_said(&daemon.get("/v1/events?limit=1000").await).len(), 1);

    // The next message opens another conversation, and a ticket that names the old one.
    post_whatsapp(&daemon, 1, "w3", "and another thing").await;
    daemon.settled(Duration::from_secs(60)).await;
    let rows = daemon.get("/v1/tickets").await;
    let next = rows["items"][0]["conversation"].as_str().unwrap();
    assert_ne!(next, conversation);
    let second = system.tickets(&desk, next).await.remove(0);
    assert!(system.names(&desk, &second).await.contains(&ticket), "the new one names the old one");
    if system == System::Rt {
        assert!(system.names(&desk, &ticket).await.contains(&format!("ticket/{second}")), "and the old one the new one");
    }
    let opened = events(&daemon.get("/v1/events?limit=1000").await, |event| event["data"]["conversation"]["id"] == next);
    assert_eq!(opened[0]["data"]["conversation"]["continues"], conversation.as_str());
    let said: Vec<_> = system.entries(&desk, &ticket).await.into_iter().filter(|entry| entry.kind != "Comment").collect();
    assert!(said.len() <= 4, "nothing of the answer goes back into its ticket: {said:#?}");
}

async fn a_closed_ticket_is_opened_again_within_the_time(system: System, desk: Desk) {
    let daemon = Daemon::start(with_back(system, &desk, "on_closed = \"reopen\"\nreopen_within = \"1h\"\n")).await;
    post_whatsapp(&daemon, 1, "w1", "one").await;
    daemon.settled(Duration::from_secs(60)).await;
    let conversation = conversations(&daemon).await.into_keys().next().unwrap();
    let ticket = system.tickets(&desk, &conversation).await.remove(0);
    close(system, &desk, &ticket).await;
    let is_now =
        |words: &'static [&'static str]| move |shown: &Value| words.iter().any(|word| shown["items"][0]["status"] == *word).then_some(());
    until("closed", &daemon, "/v1/tickets", is_now(&["resolved", "closed"])).await;
    post_whatsapp(&daemon, 1, "w2", "two").await;
    daemon.settled(Duration::from_secs(60)).await;
    until("opened again", &daemon, "/v1/tickets", is_now(&["open"])).await;
    let rows = daemon.get("/v1/tickets").await;
    assert_eq!(rows["items"].as_array().unwrap().len(), 1, "{rows:#}");
    assert_eq!(rows["items"][0]["turns"]["resolved_at"], Value::Null);
    assert_eq!(conversations(&daemon).await.len(), 1);
}

macro_rules! of_each {
    ($($name:ident),+ $(,)?) => {
        mod rt {
            $(#[tokio::test]
            async fn $name() {
                if let Some(desk) = super::Desk::rt().await {
                    super::$name(super::System::Rt, desk).await;
                }
            })+
        }
        mod redmine {
            $(#[tokio::test]
            async fn $name() {
                if let Some(desk) = super::Desk::redmine().await {
                    super::$name(super::System::Redmine, desk).await;
                }
            })+
        }
        mod roundup {
            $(#[tokio::test]
            async fn $name() {
                if let Some(desk) = super::Desk::roundup().await {
                    super::$name(super::System::Roundup, desk).await;
                }
            })+
        }
        mod django {
            $(#[tokio::test]
            async fn $name() {
                if let Some(desk) = super::Desk::django().await {
                    super::$name(super::System::Django, desk).await;
                }
            })+
        }
    };
}

of_each!(answers_come_back_once_and_a_closed_ticket_is_continued, a_closed_ticket_is_opened_again_within_the_time);

/// What the scrip of the README posts.
async fn posted_by_the_scrip(daemon: &Daemon, token: &str, transaction: &Value) -> u16 {
    let body = json!({"transaction": transaction}).to_string();
    let headers = [("content-type", "application/json"), ("x-omnigate-token", token)];
    http1::once(daemon.public, "POST", "/hooks/desk", &headers, body.as_bytes()).await.unwrap().status()
}

#[tokio::test]
async fn what_comes_by_the_scrip_and_the_poll_is_one_message() {
    let Some(desk) = Desk::rt().await else { return };
    let system = System::Rt;
    let mut setup = with_back(system, &desk, "back = [\"webhook\", \"poll\"]\n");
    setup.rest = setup.rest.replace("secrets = { token =", "secrets = { hook_token = { env = \"HOOK_TOKEN\" }, token =");
    setup.env.insert("HOOK_TOKEN".into(), "a-token-of-the-scrip".into());
    // By the hook first: the poll comes only after it.
    setup.rest = setup.rest.replace("back_interval = \"1s\"", "back_interval = \"3s\"");
    let daemon = Daemon::start(setup).await;
    post_whatsapp(&daemon, 1, "w1", "one").await;
    daemon.settled(Duration::from_secs(60)).await;
    let conversation = conversations(&daemon).await.into_keys().next().unwrap();
    let ticket = system.tickets(&desk, &conversation).await.remove(0);
    answer(system, &desk, &ticket, "It is on its way").await;
    let fields = "fields=Type,Field,OldValue,NewValue,Created,Creator,ObjectId,CustomFields&fields%5BCreator%5D=Name,RealName&per_page=100";
    let all = desk.get(&format!("/REST/2.0/ticket/{ticket}/history?{fields}")).await["items"].clone();
    let mut said = all.as_array().unwrap().iter().find(|one| one["Type"] == "Correspond").unwrap().clone();
    said["follow"] = json!({"items": [{"ContentType": "text/html", "Filename": "", "Content": "<p>It is on its way</p>"}]});
    assert_eq!(posted_by_the_scrip(&daemon, "guessed", &said).await, 401);
    assert_eq!(posted_by_the_scrip(&daemon, "a-token-of-the-scrip", &said).await, 200);
    // The poll brings it, too, with the note that it ignores.
    let seen = |shown: &Value| {
        let rows = shown["items"].as_array().unwrap();
        rows.iter().any(|row| row["code"] == "internal_note").then(|| rows.iter().filter(|row| row["fate"] == "duplicate").count())
    };
    let twice = until("by both roads", &daemon, "/v1/ledger?channel=desk&limit=100", seen).await;
    assert_eq!(twice, 1);
    assert_eq!(agents_said(&daemon.get("/v1/events?limit=1000").await).len(), 1);
}
