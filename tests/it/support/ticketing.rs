//! Conversations of mixed channels in, and what a ticket system holds of them: whether there is one ticket each, and one entry a
//! message, in order, with its files byte for byte.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};

use crate::support::daemon::{Daemon, Setup};
use crate::support::desks::Desk;
use crate::support::{http1, whatsapp};

/// The system behind a desk, as far as tests look into it by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    Rt,
    Redmine,
    Roundup,
    Django,
}

/// An entry as it stands in the system.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `Create`, `Correspond` or, for agents alone, `Comment`.
    #[allow(dead_code)] // shown when an assertion fails
    pub kind: String,
    pub text: String,
    /// By name.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl System {
    /// How long the gateway waits for an answer of it. One Ruby process, or Python behind one lock, does one thing after the other.
    pub fn patience(self) -> Duration {
        Duration::from_secs(if matches!(self, Self::Redmine | Self::Django) { 6 } else { 3 })
    }

    /// `settings` and `secrets` of a destination.
    pub fn keys(self, desk: &Desk, url: &str) -> String {
        match self {
            Self::Rt => format!(
                "system = \"rt\"\nsettings = {{ url = \"{url}\", queue = \"Support\" }}\nsecrets = {{ token = {{ env = \"DESK_SECRET\" }} }}\n"
            ),
            Self::Roundup => format!(
                "system = \"roundup\"\nsettings = {{ url = \"{url}/t\", origin = \"http://{}\", user = \"admin\" }}\nsecrets = {{ password = {{ env = \"DESK_SECRET\" }} }}\n",
                desk.address
            ),
            Self::Django => format!(
                "system = \"django-helpdesk\"\nsettings = {{ url = \"{url}\", queue = 1 }}\nsecrets = {{ token = {{ env = \"DESK_SECRET\" }} }}\n"
            ),
            Self::Redmine => format!(
                "system = \"redmine\"\nsettings = {{ url = \"{url}\", project = \"support\", conversation_field_id = 1 }}\nsecrets = {{ api_key = {{ env = \"DESK_SECRET\" }} }}\n"
            ),
        }
    }

    /// Ids of the tickets of a conversation, the first first.
    pub async fn tickets(self, desk: &Desk, external: &str) -> Vec<String> {
        if self == Self::Django {
            let found = desk.get("/api/tickets/?page_size=2000").await;
            let ours = |one: &&Value| one["custom_conversation_id"] == external && one["merged_to"].is_null();
            return found["results"].as_array().unwrap().iter().filter(ours).map(|one| text(&one["id"])).collect();
        }
        let (found, list) = match self {
            Self::Rt => {
                let query = format!("CF.%7BConversation%20ID%7D%3D%27{external}%27");
                (desk.get(&format!("/REST/2.0/tickets?query={query}&fields=Status&orderby=id&per_page=100")).await, "items")
            }
            Self::Roundup => {
                let found = desk.get(&format!("/t/rest/data/issue?title=%5B{external}%5D")).await;
                (found["data"].clone(), "collection")
            }
            Self::Django => return Vec::new(),
            Self::Redmine => (desk.get(&format!("/issues.json?cf_1={external}&status_id=*&sort=id")).await, "issues"),
        };
        // Second ones are closed.
        let open = |one: &&Value| one["status"]["name"] != "Closed" && one["Status"] != "rejected";
        found[list].as_array().unwrap().iter().filter(open).map(|one| text(&one["id"])).collect()
    }

    /// An agent closes a ticket.
    pub async fn close(self, desk: &Desk, ticket: &str) {
        if self == Self::Roundup {
            return roundup_change(desk, ticket, json!({"@op": "replace", "status": "resolved"})).await;
        }
        let (target, body) = match self {
            Self::Rt => (format!("/REST/2.0/ticket/{ticket}"), json!({"Status": "resolved"})),
            Self::Redmine => (format!("/issues/{ticket}.json"), json!({"issue": {"status_id": 5}})),
            Self::Django => (format!("/api/tickets/{ticket}/"), json!({"status": 4})),
            Self::Roundup => return,
        };
        let method = if self == Self::Django { "PATCH" } else { "PUT" };
        assert!(desk.ask(method, &target, body.to_string().as_bytes()).await.unwrap().success());
    }

    /// An agent deletes a ticket.
    pub async fn delete(self, desk: &Desk, ticket: &str) {
        let answer = match self {
            Self::Rt => desk.ask("PUT", &format!("/REST/2.0/ticket/{ticket}"), b"{\"Status\":\"deleted\"}").await,
            Self::Redmine => desk.ask("DELETE", &format!("/issues/{ticket}.json"), b"").await,
            Self::Django => desk.ask("DELETE", &format!("/api/tickets/{ticket}/"), b"").await,
            Self::Roundup => {
                let target = format!("/t/rest/data/issue/{ticket}");
                let seen = desk.ask("GET", &target, b"").await.unwrap();
                desk.ask_with("DELETE", &target, &[("if-match", seen.header("etag").unwrap())], b"").await
            }
        };
        assert!(answer.unwrap().success());
    }

    /// What a ticket names: its links, its text.
    pub async fn names(self, desk: &Desk, ticket: &str) -> String {
        match self {
            Self::Rt => desk.get(&format!("/REST/2.0/ticket/{ticket}")).await["_hyperlinks"].to_string(),
            Self::Redmine => desk.get(&format!("/issues/{ticket}.json")).await["issue"]["description"].to_string(),
            Self::Roundup => desk.get(&format!("/t/rest/data/issue/{ticket}")).await["data"]["attributes"]["title"].to_string(),
            Self::Django => desk.get(&format!("/api/tickets/{ticket}/")).await["description"].to_string(),
        }
    }

    /// The entries of a ticket, in order.
    pub async fn entries(self, desk: &Desk, ticket: &str) -> Vec<Seen> {
        match self {
            Self::Rt => rt_entries(desk, ticket).await,
            Self::Redmine => redmine_entries(desk, ticket).await,
            Self::Roundup => roundup_entries(desk, ticket).await,
            Self::Django => django_entries(desk, ticket).await,
        }
    }
}

/// Changes an issue of Roundup, which wants to be told what was seen before.
pub async fn roundup_change(desk: &Desk, ticket: &str, change: Value) {
    let target = format!("/t/rest/data/issue/{ticket}");
    let seen = desk.ask("GET", &target, b"").await.unwrap();
    let etag = seen.header("etag").unwrap().to_owned();
    let answer = desk.ask_with("PATCH", &target, &[("if-match", &etag)], change.to_string().as_bytes()).await.unwrap();
    assert!(answer.success(), "{}", answer.text());
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

async fn rt_entries(desk: &Desk, ticket: &str) -> Vec<Seen> {
    let mut seen = Vec::new();
    let history = desk.get(&format!("/REST/2.0/ticket/{ticket}/history?fields=Type&per_page=100")).await;
    for one in history["items"].as_array().unwrap() {
        let kind = text(&one["Type"]);
        if !matches!(kind.as_str(), "Create" | "Correspond" | "Comment") {
            continue;
        }
        let mut entry = Seen { kind, text: String::new(), files: BTreeMap::new() };
        let list = desk.get(&format!("/REST/2.0/transaction/{}/attachments?per_page=100", text(&one["id"]))).await;
        for part in list["items"].as_array().unwrap() {
            let part = desk.get(&format!("/REST/2.0/attachment/{}", text(&part["id"]))).await;
            let Some(content) = part["Content"].as_str() else { continue };
            let content: String = content.split_whitespace().collect();
            let bytes = base64::engine::general_purpose::STANDARD.decode(content).unwrap();
            match part["Filename"].as_str().filter(|name| !name.is_empty()) {
                Some(name) => drop(entry.files.insert(name.to_owned(), bytes)),
                None if part["ContentType"].as_str().is_some_and(|kind| kind.starts_with("text/")) => {
                    entry.text.push_str(&String::from_utf8_lossy(&bytes));
                }
                None => {}
            }
        }
        seen.push(entry);
    }
    seen
}

async fn redmine_entries(desk: &Desk, ticket: &str) -> Vec<Seen> {
    let issue = desk.get(&format!("/issues/{ticket}.json?include=journals,attachments")).await["issue"].clone();
    let mut files = BTreeMap::new();
    for file in issue["attachments"].as_array().unwrap() {
        let (id, name) = (text(&file["id"]), text(&file["filename"]));
        let answer = desk.ask("GET", &format!("/attachments/download/{id}/{}", name.replace(' ', "%20")), b"").await.unwrap();
        files.insert(id, (name, answer.body.to_vec()));
    }
    let mut later = Vec::new();
    for journal in issue["journals"].as_array().unwrap().iter().filter(|journal| journal["notes"] != "") {
        let kind = if journal["private_notes"] == true { "Comment" } else { "Correspond" };
        let mut entry = Seen { kind: kind.to_owned(), text: text(&journal["notes"]), files: BTreeMap::new() };
        for detail in journal["details"].as_array().unwrap().iter().filter(|detail| detail["property"] == "attachment") {
            entry.files.extend(files.remove(&text(&detail["name"])));
        }
        later.push(entry);
    }
    let first = Seen { kind: "Create".to_owned(), text: text(&issue["description"]), files: files.into_values().collect() };
    std::iter::once(first).chain(later).collect()
}

async fn roundup_entries(desk: &Desk, ticket: &str) -> Vec<Seen> {
    let issue = desk.get(&format!("/t/rest/data/issue/{ticket}")).await["data"]["attributes"].clone();
    let mut ids: Vec<u64> = issue["messages"].as_array().unwrap().iter().map(|one| text(&one["id"]).parse().unwrap()).collect();
    ids.sort_unstable();
    let mut seen = Vec::new();
    for id in ids {
        let message = desk.get(&format!("/t/rest/data/msg/{id}?@verbose=3")).await["data"]["attributes"].clone();
        let mut files = BTreeMap::new();
        for file in message["files"].as_array().unwrap() {
            let id = text(&file["id"]);
            let name = text(&desk.get(&format!("/t/rest/data/file/{id}")).await["data"]["attributes"]["name"]);
            files.insert(name, desk.ask("GET", &format!("/t/file{id}/"), b"").await.unwrap().body.to_vec());
        }
        seen.push(Seen { kind: "Correspond".to_owned(), text: text(&message["content"]), files });
    }
    seen
}

async fn django_entries(desk: &Desk, ticket: &str) -> Vec<Seen> {
    let found = desk.get(&format!("/api/tickets/{ticket}/")).await;
    let mut seen = Vec::new();
    // The first is the ticket's own.
    for one in found["followup_set"].as_array().unwrap().iter().skip(1) {
        let mut files = BTreeMap::new();
        for file in one["followupattachment_set"].as_array().unwrap() {
            let target = format!("/media/{}", text(&file["file"]).split_once("/media/").unwrap().1);
            files.insert(text(&file["filename"]), desk.ask("GET", &target, b"").await.unwrap().body.to_vec());
        }
        let kind = if one["public"] == true { "Correspond" } else { "Comment" };
        seen.push(Seen { kind: kind.to_owned(), text: text(&one["comment"]), files });
    }
    seen
}

/// Adds the channel `form`: conversations by who writes, with files.
pub fn forms_channel(setup: &mut Setup) {
    let map = "'.fields as $f | {kind: \"message\", key: $f.id, from: {address: (\"form:\" + $f.who), name: $f.name}, text: $f.text, attachments: [.files[] | {file: .index, name, type, bytes}]}'";
    setup.channels.insert("form".into(), format!("connector = \"generic\"\nverify = \"none\"\nmap = {map}\n"));
}

/// A daemon with the channels `shop` (WhatsApp) and `form` (conversations with files), and the destination `desk`.
pub fn setup(system: System, desk: &Desk, url: &str, more: &str) -> Setup {
    let mut setup = Setup::default();
    setup.with_whatsapp();
    forms_channel(&mut setup);
    let keys = system.keys(desk, url);
    let (at_once, within) = (if system == System::Redmine { 2 } else { 4 }, system.patience().as_secs());
    let steps = vec!["\"500ms\""; 95].join(", ");
    setup.rest = format!(
        "[delivery]\nschedule = [\"0s\", {steps}]\n[destination.desk]\nkind = \"ticket\"\nconcurrency = {at_once}\ntimeout = \"{within}s\"\n{keys}{more}\n\
         [[route]]\nto = [\"desk\"]\ndirection = \"any\"\n"
    );
    let secret = match system {
        System::Rt | System::Django => desk.token(),
        System::Redmine => desk.proof.1.clone(),
        System::Roundup => "admin".to_owned(),
    };
    setup.env.insert("DESK_SECRET".into(), secret);
    setup
}

/// A form of `who` with files; the same again until it is taken.
pub async fn post_form(daemon: &Daemon, who: &str, id: &str, text: &str, files: &[(String, Vec<u8>)]) {
    let mut body = Vec::new();
    for (name, value) in [("id", id), ("who", who), ("name", &format!("Form {who}")), ("text", text)] {
        body.extend_from_slice(format!("--B0\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").as_bytes());
    }
    for (name, bytes) in files {
        let head = format!(
            "--B0\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{name}\"\r\ncontent-type: application/octet-stream\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--B0--\r\n");
    let headers = [("content-type", "multipart/form-data; boundary=B0")];
    for _ in 0..2_000 {
        if http1::once(daemon.public, "POST", "/hooks/form", &headers, &body).await.is_ok_and(|answer| answer.success()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never taken");
}

/// A WhatsApp message; the same again until it is taken.
pub async fn post_whatsapp(daemon: &Daemon, sender: u64, id: &str, text: &str) {
    daemon.post_until_taken(&whatsapp::body(id, sender, text)).await;
}

/// Conversations of the gateway: id, and the texts and file names of their messages in order.
pub async fn conversations(daemon: &Daemon) -> BTreeMap<String, Vec<(String, Vec<String>)>> {
    let mut all: BTreeMap<String, Vec<(String, Vec<String>)>> = BTreeMap::new();
    let mut after = String::new();
    loop {
        let page = daemon.get(&format!("/v1/events?limit=1000{after}")).await;
        for event in page["events"].as_array().unwrap().iter().filter(|event| event["type"] == "message.created") {
            let data = &event["data"];
            let files = data["message"]["attachments"].as_array().unwrap().iter().map(|file| text(&file["name"])).collect();
            all.entry(text(&data["conversation"]["id"])).or_default().push((text(&data["message"]["text"]), files));
        }
        after = format!("&after={}", text(&page["next"]));
        if page["more"] != json!(true) {
            return all;
        }
    }
}

/// Every conversation has one ticket, every message one entry, in order, its files byte for byte. `files` by name.
pub async fn check(system: System, desk: &Desk, daemon: &Daemon, files: &BTreeMap<String, Vec<u8>>) {
    let known = daemon.get("/v1/tickets?limit=10000").await;
    let conversations = conversations(daemon).await;
    assert!(!conversations.is_empty());
    for (conversation, said) in &conversations {
        let tickets = system.tickets(desk, conversation).await;
        assert_eq!(tickets.len(), 1, "tickets of {conversation}: {tickets:?}");
        let row = known["items"].as_array().unwrap().iter().find(|row| row["conversation"] == conversation.as_str()).unwrap();
        assert_eq!((text(&row["ticket"]), &row["state"]), (tickets[0].clone(), &json!("linked")));
        let entries = system.entries(desk, &tickets[0]).await;
        let texts: Vec<&str> = entries.iter().map(|entry| entry.text.as_str()).collect();
        assert_eq!(entries.len(), said.len(), "entries of {conversation} in {}: {texts:#?}, said {said:#?}", tickets[0]);
        for (entry, (words, names)) in entries.iter().zip(said) {
            assert!(entry.text.contains(words.as_str()), "`{}` is not `{words}`: {texts:#?}", entry.text);
            let there: Vec<&String> = entry.files.keys().collect();
            let mut wanted: Vec<&String> = names.iter().collect();
            wanted.sort();
            assert_eq!(there, wanted, "files of `{words}`");
            for (name, bytes) in &entry.files {
                assert!(files[name] == *bytes, "{name} came with {} bytes instead of {}", bytes.len(), files[name].len());
            }
        }
    }
}

/// Asks until `found` finds what it looks for.
pub async fn until<T>(what: &str, daemon: &Daemon, target: &str, found: impl Fn(&Value) -> Option<T>) -> T {
    let from = std::time::Instant::now();
    loop {
        let shown = daemon.get(target).await;
        if let Some(found) = found(&shown) {
            return found;
        }
        assert!(from.elapsed() < Duration::from_secs(60), "never {what}: {shown:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What agents said, as destinations hear it.
pub fn agents_said(shown: &Value) -> Vec<Value> {
    let outbound = |event: &&Value| event["data"]["message"]["direction"] == "outbound";
    shown["events"].as_array().unwrap().iter().filter(outbound).cloned().collect()
}
