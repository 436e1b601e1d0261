//! What comes back from real ticket systems: agents' answers once each, times as the system itself has them, closed tickets that end
//! their conversations. Request Tracker 5, Redmine 5, Roundup 2 and django-helpdesk 2.

use std::time::Duration;

use base64::Engine;
use omnigate::model::time::Time;
use serde_json::{Value, json};

use crate::support::daemon::{Daemon, Setup};
use crate::support::desks::Desk;
use crate::support::http1;
use crate::support::ticketing::{System, agents_said, conversations, post_form, post_whatsapp, roundup_change, setup, until};

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

/// What RT itself has of a ticket: its creation, the correspondence of agents, and each time it was resolved, in order.
async fn rt_transactions(desk: &Desk, ticket: &str) -> (Time, Vec<Time>, Vec<Time>) {
    let target = format!("/REST/2.0/ticket/{ticket}/history?fields=Type,Created,Creator,NewValue&per_page=100");
    let all = desk.get(&target).await["items"].as_array().unwrap().clone();
    let times = |is: &dyn Fn(&Value) -> bool| -> Vec<Time> {
        let mut times: Vec<Time> =
            all.iter().filter(|one| is(one)).map(|one| Time::parse(one["Created"].as_str().unwrap()).unwrap()).collect();
        times.sort_unstable();
        times
    };
    let created = times(&|one| one["Type"] == "Create")[0];
    let said = times(&|one| one["Type"] == "Correspond" && one["Creator"]["id"] == "agent1");
    (created, said, times(&|one| one["Type"] == "Status" && one["NewValue"] == "resolved"))
}

/// Two turns each, notes between agents before and after, tickets that are resolved, opened again and resolved again, and one that nobody
/// answers. The sums are what RT's transactions say, to the millisecond of when the gateway heard the customer.
#[tokio::test]
async fn response_and_resolution_times_are_those_of_rts_own_transactions() {
    let Some(desk) = Desk::rt().await else { return };
    let system = System::Rt;
    let daemon = Daemon::start(with_back(system, &desk, "")).await;
    let next_second = || tokio::time::sleep(Duration::from_millis(1_100));
    for who in ["ana", "bob", "eve"] {
        post_form(&daemon, who, &format!("{who}1"), "where is it?", &[]).await;
    }
    daemon.settled(Duration::from_secs(60)).await;
    let rows = daemon.get("/v1/tickets").await["items"].as_array().unwrap().clone();
    assert_eq!(rows.len(), 3);
    let ticket = |at: usize| rows[at]["ticket"].as_str().unwrap().to_owned();
    let states = |wanted: [Value; 3]| {
        let rows = rows.clone();
        move |shown: &Value| {
            let of = |row: &Value| shown["items"].as_array().unwrap().iter().find(|one| one["ticket"] == row["ticket"]).cloned();
            rows.iter()
                .zip(&wanted)
                .all(|(row, wanted)| wanted.is_null() || of(row).is_some_and(|one| one["status"] == *wanted))
                .then_some(())
        }
    };
    // Clocks that count in whole seconds: an answer is given in a later one than the question.
    next_second().await;
    for at in [0, 1] {
        answer(system, &desk, &ticket(at), "soon").await;
    }
    let answered = |count: usize| move |shown: &Value| (agents_said(shown).len() == count).then_some(());
    until("two answers", &daemon, "/v1/events?limit=1000", answered(2)).await;
    // Of whom the first two tickets are is not said by their order.
    for who in ["ana", "bob", "eve"] {
        post_form(&daemon, who, &format!("{who}2"), "and when?", &[]).await;
    }
    daemon.settled(Duration::from_secs(60)).await;
    next_second().await;
    answer(system, &desk, &ticket(0), "tomorrow").await;
    until("a third answer", &daemon, "/v1/events?limit=1000", answered(3)).await;
    close(system, &desk, &ticket(0)).await;
    until("resolved", &daemon, "/v1/tickets", states([json!("resolved"), json!("open"), Value::Null])).await;
    next_second().await;
    assert!(desk.ask("PUT", &format!("/REST/2.0/ticket/{}", ticket(0)), b"{\"Status\":\"open\"}").await.unwrap().success());
    until("opened again", &daemon, "/v1/tickets", states([json!("open"), json!("open"), Value::Null])).await;
    next_second().await;
    for at in [0, 1] {
        close(system, &desk, &ticket(at)).await;
    }
    until("resolved again", &daemon, "/v1/tickets", states([json!("resolved"), json!("resolved"), Value::Null])).await;

    let scrape = daemon.settled(Duration::from_secs(30)).await;
    let shown = daemon.get("/v1/events?limit=1000").await;
    let (mut first, mut next, mut resolution) = (Vec::new(), Vec::new(), Vec::new());
    for row in &rows {
        let asked = |event: &Value| {
            event["type"] == "message.created"
                && event["data"]["conversation"]["id"] == row["conversation"]
                && event["data"]["message"]["direction"] == "inbound"
        };
        let asked: Vec<Time> = events(&shown, asked)
            .iter()
            .map(|event| Time::parse(event["data"]["message"]["received_at"].as_str().unwrap()).unwrap())
            .collect();
        let (created, said, resolved) = rt_transactions(&desk, row["ticket"].as_str().unwrap()).await;
        // RT's own figure begins when the gateway's create arrived.
        assert!((created.since_ms(asked[0])).abs() < 30_000, "{created} {}", asked[0]);
        first.extend(said.first().map(|at| at.since_ms(asked[0])));
        next.extend(said.get(1).map(|at| at.since_ms(asked[1])));
        resolution.extend(resolved.iter().map(|at| at.since_ms(asked[0])));
    }
    assert_eq!((first.len(), next.len(), resolution.len()), (2, 1, 3));
    for (name, spans) in [("first_response", first), ("next_response", next), ("resolution", resolution)] {
        let of = |what: &str| scrape.of(&format!("omnigate_{name}_seconds_{what}")).iter().map(|(_, value)| *value).sum::<f64>();
        assert_eq!(of("count") as usize, spans.len(), "{name}");
        let sum = spans.iter().sum::<i64>() as f64 / 1_000.0;
        assert!((of("sum") - sum).abs() < 0.000_5, "{name}: {} and {sum}: {spans:?}", of("sum"));
    }
    // Who is not answered waits, with both questions of hers, and so does nobody whose ticket is done.
    assert_eq!(scrape.sum("omnigate_conversations_waiting", &[("channel", "form")]), 1);
}

/// A part of a form.
fn part(named: &str, kind: &str, bytes: &[u8]) -> Vec<u8> {
    let head = format!("--B1\r\ncontent-disposition: form-data; {named}\r\ncontent-type: {kind}\r\n\r\n");
    [head.as_bytes(), bytes, b"\r\n"].concat()
}

/// A body of the agent's that is no JSON.
async fn upload(desk: &Desk, target: &str, (kind, body): (&str, Vec<u8>)) -> Value {
    let own = std::iter::once(&desk.proof).chain(&desk.beside).map(|(name, value)| (name.as_str(), value.as_str()));
    let headers: Vec<(&str, &str)> = own.chain([("content-type", kind)]).collect();
    let answer = http1::patient(http1::once(desk.address, "POST", target, &headers, &body)).await.unwrap();
    assert!(answer.success(), "{} {}", answer.start, answer.text());
    answer.json()
}

/// An agent answers with files, and closes the ticket at once.
async fn answer_with_files(system: System, desk: &Desk, ticket: &str, files: &[(&str, &str, Vec<u8>)]) {
    match system {
        System::Rt => {
            let proof = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode("agent1:agent1-pass"));
            let headers = [("authorization", proof.as_str()), ("content-type", "application/json")];
            let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
            let files: Vec<Value> =
                files.iter().map(|(name, kind, bytes)| json!({"FileName": name, "FileType": kind, "FileContent": base64(bytes)})).collect();
            let body = json!({"Content": "<p>The label is attached</p>", "ContentType": "text/html", "Attachments": files}).to_string();
            let target = format!("/REST/2.0/ticket/{ticket}/correspond");
            let asked = http1::patient(http1::once(desk.address, "POST", &target, &headers, body.as_bytes())).await;
            assert!(asked.unwrap().success());
        }
        System::Roundup => {
            let mut ids = Vec::new();
            for (name, kind, bytes) in files {
                let body = [
                    part(&format!("name=\"content\"; filename=\"{name}\""), kind, bytes),
                    part("name=\"name\"", "text/plain", name.as_bytes()),
                    part("name=\"type\"", "text/plain", kind.as_bytes()),
                    b"--B1--\r\n".to_vec(),
                ];
                let made = upload(desk, "/t/rest/data/file", ("multipart/form-data; boundary=B1", body.concat())).await;
                ids.push(made["data"]["id"].clone());
            }
            let body = json!({"content": "The label is attached", "author": "1", "files": ids}).to_string();
            let made = desk.ask("POST", "/t/rest/data/msg", body.as_bytes()).await.unwrap();
            let message = made.json()["data"]["id"].clone();
            roundup_change(desk, ticket, json!({"@op": "add", "messages": [message]})).await;
        }
        System::Django => {
            let mut body = Vec::new();
            for (name, value) in [("ticket", ticket), ("comment", "The label is attached"), ("public", "true")] {
                body.extend(part(&format!("name=\"{name}\""), "text/plain", value.as_bytes()));
            }
            for (name, kind, bytes) in files {
                body.extend(part(&format!("name=\"attachments\"; filename=\"{name}\""), kind, bytes));
            }
            upload(desk, "/api/followups/", ("multipart/form-data; boundary=B1", [body, b"--B1--\r\n".to_vec()].concat())).await;
        }
        System::Redmine => {
            let mut uploads = Vec::new();
            for (name, kind, bytes) in files {
                let target = format!("/uploads.json?filename={}", name.replace(' ', "%20"));
                let made = upload(desk, &target, ("application/octet-stream", bytes.clone())).await;
                uploads.push(json!({"token": made["upload"]["token"], "filename": name, "content_type": kind}));
            }
            let body = json!({"issue": {"notes": "The label is attached", "uploads": uploads}}).to_string();
            assert!(desk.ask("PUT", &format!("/issues/{ticket}.json"), body.as_bytes()).await.unwrap().success());
        }
    }
    close(system, desk, ticket).await;
}

/// The files are fetched with the system's own authorisation and stored byte for byte; nothing of it goes back into the ticket, and the closed
/// ticket ends its conversation although files of it are still on their way.
async fn files_of_agents_are_fetched(system: System, desk: Desk) {
    let mut setup = with_back(system, &desk, "");
    setup.rest.push_str("[files]\npublic_url = \"http://gate.example.org\"\n");
    let mut daemon = Daemon::start(setup).await;
    let photo: Vec<u8> = (0..300_007u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    post_whatsapp(&daemon, 1, "w1", "one").await;
    daemon.settled(Duration::from_secs(60)).await;
    let conversation = conversations(&daemon).await.into_keys().next().unwrap();
    let ticket = system.tickets(&desk, &conversation).await.remove(0);
    let files = [("the label.png", "image/png", photo), ("notes.txt", "text/plain", "gr\u{fc}\u{df}e\n".as_bytes().to_vec())];
    answer_with_files(system, &desk, &ticket, &files).await;
    let said = |shown: &Value| agents_said(shown).pop();
    let created = until("an answer", &daemon, "/v1/events?limit=1000", said).await["data"].clone();
    assert_eq!(created["message"]["text"], "The label is attached");
    let mut named: Vec<_> =
        created["message"]["attachments"].as_array().unwrap().iter().map(|file| file["name"].as_str().unwrap().to_owned()).collect();
    // In the order in which the system has them.
    named.sort_unstable();
    assert_eq!(named, ["notes.txt", "the label.png"]);
    // Killed while they are fetched, or before, or after.
    daemon.kill();
    daemon.launch();
    daemon.ready().await;
    let whole = |shown: &Value| {
        let told = |event: &Value| event["type"] == "message.updated" && event["data"]["message"]["id"] == created["message"]["id"];
        let list = events(shown, told).pop()?["data"]["attachments"].clone();
        list.as_array()?.iter().all(|file| file["state"] == "stored").then_some(list)
    };
    let stored = until("files", &daemon, "/v1/events?limit=1000", whole).await;
    for (name, kind, bytes) in &files {
        let file = stored.as_array().unwrap().iter().find(|file| file["name"] == *name).unwrap();
        assert_eq!(
            (file["name"].as_str(), file["type"].as_str(), file["bytes"].as_u64()),
            (Some(*name), Some(*kind), Some(bytes.len() as u64))
        );
        let target = file["url"].as_str().unwrap().strip_prefix("http://gate.example.org").unwrap();
        let got = http1::once(daemon.public, "GET", target, &[], b"").await.unwrap();
        assert!(got.success() && got.body == bytes.as_slice(), "{name}: {}", got.start);
    }
    let ended = |shown: &Value| events(shown, |event| event["data"]["ended"] == true).pop();
    until("closed", &daemon, "/v1/events?limit=1000", ended).await;
    daemon.settled(Duration::from_secs(30)).await;
    assert_eq!(agents_said(&daemon.get("/v1/events?limit=1000").await).len(), 1);
    // django-helpdesk writes down that it was closed.
    let entries: Vec<_> = system.entries(&desk, &ticket).await.into_iter().filter(|entry| !entry.text.is_empty()).collect();
    assert_eq!(entries.len(), 2, "nothing of it goes back into the ticket: {entries:#?}");
}

#[tokio::test]
async fn files_of_agents_are_fetched_from_rt() {
    if let Some(desk) = Desk::rt().await {
        files_of_agents_are_fetched(System::Rt, desk).await;
    }
}

#[tokio::test]
async fn files_of_agents_are_fetched_from_redmine() {
    if let Some(desk) = Desk::redmine().await {
        files_of_agents_are_fetched(System::Redmine, desk).await;
    }
}

#[tokio::test]
async fn files_of_agents_are_fetched_from_roundup() {
    if let Some(desk) = Desk::roundup().await {
        files_of_agents_are_fetched(System::Roundup, desk).await;
    }
}

#[tokio::test]
async fn files_of_agents_are_fetched_from_django_helpdesk() {
    if let Some(desk) = Desk::django().await {
        files_of_agents_are_fetched(System::Django, desk).await;
    }
}

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
