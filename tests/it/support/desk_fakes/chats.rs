//! Chatwoot's API inboxes and Help Scout's Inbox API.

use serde_json::{Value, json};

use super::told::{Hand, List, Page, Row, Told, count, iso_s, ms_of};
use super::{Answer, Ask, Entry, Room, System, Ticket, answer, decoded, fields, number, only, text};

pub struct Chatwoot;
pub struct HelpScout;

fn word(id: &str) -> u64 {
    id.parse().unwrap_or(0)
}

fn woot_changes(ask: &Ask) -> Result<Option<List>, String> {
    if (ask.q("inbox_id"), ask.q("status"), ask.q("sort_by")) != ("3", "all", "last_activity_at_desc") {
        return Err("inbox, status or order".into());
    }
    let skip = (count(ask.q("page"), 1)? - 1) * 25;
    Ok(Some(List { newest_first: true, unit_ms: 1000, skip, take: 25, ..List::default() }))
}

fn woot_conversation(ticket: &Ticket) -> Option<Value> {
    let status = ticket.pick(["open", "pending", "resolved", "resolved"]);
    Some(json!({"id": ticket.id, "status": status, "last_activity_at": ticket.updated_ms / 1000, "messages": [],
        "custom_attributes": {"gateway_conversation": ticket.external}}))
}

fn woot_message(ticket: &Ticket, entry: &Entry) -> Option<Value> {
    let source = (!entry.ours.is_empty()).then_some(&entry.ours);
    let sender = if entry.customer {
        json!({"id": 5, "type": "contact"})
    } else {
        json!({"id": entry.author, "name": "Marc Agent", "type": "user"})
    };
    let private = !(entry.customer || entry.public);
    Some(json!({"id": entry.id, "conversation_id": ticket.id, "content": entry.text, "message_type": if entry.customer { 0 } else { 1 },
        "private": private, "source_id": source, "sender": sender, "created_at": entry.at_ms / 1000}))
}

static CHATWOOT: [Told; 2] = [
    Told {
        method: "GET",
        path: "api/v1/accounts/1/conversations",
        list: woot_changes,
        row: Row::Ticket(woot_conversation),
        answer: |page| json!({"data": {"meta": {"all_count": page.total}, "payload": page.rows}}),
    },
    Told {
        method: "GET",
        path: "api/v1/accounts/1/conversations/*/messages",
        list: |ask| {
            let before = ask.q("before").parse().ok();
            Ok(Some(List { ticket: Some(word(&ask.path[5])), before, newest_first: true, take: 20, ..List::default() }))
        },
        row: Row::Entry(woot_message),
        answer: |page| json!({"meta": {}, "payload": page.rows.iter().rev().collect::<Vec<_>>()}),
    },
];

impl System for Chatwoot {
    fn name(&self) -> &'static str {
        "chatwoot"
    }
    fn settings(&self, url: &str) -> Value {
        json!({"url": url, "account": 1, "inbox": 3})
    }
    fn secret(&self) -> (&'static str, &'static str) {
        ("access_token", "cw-secret-77")
    }
    fn proven(&self, ask: &Ask, _: &Room) -> bool {
        ask.header("api_access_token") == "cw-secret-77"
    }
    fn denied(&self) -> Answer {
        answer(401, json!({"error": "Invalid Access Token"}))
    }
    fn busy(&self) -> Answer {
        answer(429, json!({"error": "Retry later"})).with("retry-after", 7)
    }
    fn refused(&self, words: &str) -> Answer {
        answer(422, json!({"message": words, "attributes": ["content"]}))
    }
    fn harmful(&self) -> &'static [&'static str] {
        &["<script>", "![x](", "*now*"]
    }
    fn chars_max(&self) -> usize {
        150_000
    }
    fn told(&self) -> &'static [Told] {
        &CHATWOOT
    }
    /// Chatwoot knows no merging of conversations.
    fn follows_merged(&self) -> bool {
        false
    }
    fn answer(&self, ask: &Ask, room: &mut Room) -> Result<Answer, String> {
        let (method, path) = ask.line();
        let rest = match path.as_slice() {
            ["api", "v1", "profile"] => return Ok(answer(200, json!({"name": "Gateway"}))),
            ["api", "v1", "accounts", "1", rest @ ..] => rest,
            _ => return Err("unknown call".into()),
        };
        let missing = || answer(404, json!({"error": "Resource could not be found"}));
        match (method.as_str(), rest) {
            ("GET", ["inboxes", "3"]) => Ok(answer(200, json!({"id": 3, "name": "Gateway", "channel_type": "Channel::Api"}))),
            ("GET", ["contacts", "search"]) => {
                let one = |(id, key): (&u64, &String)| json!({"id": id, "identifier": key});
                let found: Vec<Value> = room.people.iter().filter(|(_, key)| key.contains(ask.q("q"))).map(one).collect();
                Ok(answer(200, json!({"meta": {}, "payload": found})))
            }
            ("POST", ["contacts"]) => {
                let body = ask.json()?;
                only(&body, "", &["inbox_id", "identifier", "name", "custom_attributes"])?;
                let key = text(&body, "/identifier")?;
                if number(&body, "/inbox_id")? != 3 || room.people.values().any(|known| *known == key) {
                    return Ok(self.refused("Identifier has already been taken"));
                }
                Ok(answer(200, json!({"payload": {"contact": {"id": room.person(&key)}}})))
            }
            ("GET", ["contacts", person, "conversations"]) => {
                let of = |ticket: &&super::Ticket| ticket.person == Some(word(person)) && !ticket.gone;
                let one = |ticket: &super::Ticket| json!({"id": ticket.id, "custom_attributes": {"gateway_conversation": ticket.external}});
                Ok(answer(200, json!({"payload": room.tickets.iter().filter(of).map(one).collect::<Vec<_>>()})))
            }
            ("POST", ["conversations"]) => {
                let body = ask.json()?;
                only(&body, "", &["inbox_id", "contact_id", "custom_attributes"])?;
                let person = number(&body, "/contact_id")?;
                if number(&body, "/inbox_id")? != 3 || !room.people.contains_key(&person) {
                    return Err("inbox or contact".into());
                }
                let ticket = room.open(&text(&body, "/custom_attributes/gateway_conversation")?, "");
                ticket.person = Some(person);
                ticket.before = body.pointer("/custom_attributes/goes_on_from").and_then(Value::as_str).map(str::to_owned);
                Ok(answer(200, json!({"id": ticket.id})))
            }
            ("GET", ["conversations", id]) => Ok(match room.there(word(id)) {
                Some(ticket) => answer(200, json!({"id": ticket.id, "status": ticket.pick(["open", "pending", "resolved", "resolved"])})),
                None => missing(),
            }),
            ("POST", ["conversations", id, "messages"]) => {
                if room.there(word(id)).is_none() {
                    return Ok(missing());
                }
                let (values, files) = fields(ask.parts()?, &["content", "message_type", "private", "source_id", "attachments[]"])?;
                if files.len() > 15 {
                    return Ok(self.refused("Attachments exceeded maximum allowed"));
                }
                let customer = match (values["message_type"].as_str(), values["private"].as_str()) {
                    ("incoming", "false") => true,
                    ("outgoing", "true") => false,
                    other => return Err(format!("a message of {other:?} goes to the customer")),
                };
                let author = room.ticket(word(id))?.person.filter(|_| customer);
                let entry = Entry {
                    ours: values["source_id"].clone(),
                    text: values["content"].clone(),
                    customer,
                    author,
                    files,
                    ..Entry::default()
                };
                Ok(answer(200, json!({"id": room.write(word(id), entry)?})))
            }
            ("POST", ["conversations", id, "toggle_status"]) => {
                match text(&ask.json()?, "/status")?.as_str() {
                    "open" => room.reopen(word(id))?,
                    "resolved" => room.ticket(word(id))?.gone = true,
                    other => return Err(format!("status {other}")),
                }
                Ok(answer(200, json!({})))
            }
            _ => Err("unknown call".into()),
        }
    }
}

/// Conversations of the inbox that changed, in pages of 25.
fn scout_changes(ask: &Ask) -> Result<Option<List>, String> {
    if !ask.q("customFieldsByIds").is_empty() {
        return Ok(None);
    }
    if (ask.q("mailbox"), ask.q("status"), ask.q("sortField"), ask.q("sortOrder")) != ("85", "all", "modifiedAt", "desc") {
        return Err("inbox, status or order".into());
    }
    let skip = (count(ask.q("page"), 1)? - 1) * 25;
    let since_ms = ms_of(ask.q("modifiedSince"))?;
    Ok(Some(List { since_ms, newest_first: true, unit_ms: 1000, skip, take: 25, ..List::default() }))
}

pub fn scout_conversation(ticket: &Ticket) -> Option<Value> {
    let status = ticket.pick(["active", "pending", "closed", "closed"]);
    let closed = ticket.is_done().then(|| iso_s(ticket.state_ms));
    Some(json!({"id": ticket.id, "threads": ticket.entries.len(), "state": "published", "status": status, "mailboxId": 85,
        "userUpdatedAt": iso_s(ticket.updated_ms), "closedAt": closed, "customFields": [{"id": 3, "value": ticket.external}]}))
}

/// What the gateway writes for a customer is hers.
pub fn scout_thread(_: &Ticket, entry: &Entry) -> Option<Value> {
    let (kind, by) = match entry.hand {
        _ if entry.customer => ("customer", json!({"id": entry.author, "type": "customer", "first": "Ana", "last": "Example"})),
        Hand::Agent if entry.public => ("message", json!({"id": 4, "type": "user", "first": "Marc", "last": "Agent"})),
        _ => ("note", json!({"id": 4, "type": "user", "first": "Marc", "last": "Agent"})),
    };
    Some(json!({"id": entry.id, "type": kind, "state": "published", "body": entry.text, "createdBy": by, "createdAt": iso_s(entry.at_ms)}))
}

/// Where nothing is found there is no `_embedded`.
fn scout_page(page: &Page, name: &str) -> Value {
    let number = page.list.skip / 25 + 1;
    let mut answer = json!({"page": {"size": 25, "totalElements": page.total, "totalPages": page.total.div_ceil(25), "number": number}});
    if page.total > 0 {
        answer["_embedded"] = json!({name: page.rows});
    }
    answer
}

static HELPSCOUT: [Told; 2] = [
    Told {
        method: "GET",
        path: "v2/conversations",
        list: scout_changes,
        row: Row::Ticket(scout_conversation),
        answer: |page| scout_page(page, "conversations"),
    },
    Told {
        method: "GET",
        path: "v2/conversations/*/threads",
        list: |ask| {
            let skip = (count(ask.q("page"), 1)? - 1) * 25;
            Ok(Some(List { ticket: Some(word(&ask.path[2])), newest_first: true, skip, take: 25, ..List::default() }))
        },
        row: Row::Entry(scout_thread),
        answer: |page| scout_page(page, "threads"),
    },
];

impl HelpScout {
    fn refuse(status: u16, words: &str) -> Answer {
        answer(
            status,
            json!({"logRef": "1", "message": "Bad request", "_embedded": {"errors": [{"path": "subject", "message": words, "source": "JSON"}]}}),
        )
    }
}

impl System for HelpScout {
    fn name(&self) -> &'static str {
        "helpscout"
    }
    fn settings(&self, url: &str) -> Value {
        json!({"url": url, "client_id": "app-1", "mailbox_id": 85, "conversation_field_id": 3})
    }
    fn secret(&self) -> (&'static str, &'static str) {
        ("client_secret", "hc-secret-78")
    }
    fn proven(&self, ask: &Ask, room: &Room) -> bool {
        ask.path.get(2).is_some_and(|path| path == "token") || ask.header("authorization") == format!("Bearer hc-token-{}", room.token)
    }
    fn denied(&self) -> Answer {
        answer(401, json!({"error": "invalid_token", "error_description": "The access token is invalid"}))
    }
    fn busy(&self) -> Answer {
        answer(429, json!({"error": "Too many requests"}))
            .with("x-ratelimit-limit-minute", 400)
            .with("x-ratelimit-remaining-minute", 0)
            .with("x-ratelimit-retry-after", 7)
    }
    fn refused(&self, words: &str) -> Answer {
        Self::refuse(400, words)
    }
    fn holds(&self, entry: &Entry, id: &str) -> bool {
        entry.text.contains(&format!("[{id}]"))
    }
    fn told(&self) -> &'static [Told] {
        &HELPSCOUT
    }
    fn answer(&self, ask: &Ask, room: &mut Room) -> Result<Answer, String> {
        let (method, path) = ask.line();
        let missing = || Self::refuse(404, "Not Found");
        match (method.as_str(), path.as_slice()) {
            ("POST", ["v2", "oauth2", "token"]) => {
                let form = ask.form();
                let good = form.get("grant_type").map(String::as_str) == Some("client_credentials")
                    && form.get("client_id").map(String::as_str) == Some("app-1")
                    && form.get("client_secret").map(String::as_str) == Some("hc-secret-78");
                let token = json!({"token_type": "bearer", "access_token": format!("hc-token-{}", room.token), "expires_in": 172_800});
                Ok(if good { answer(200, token) } else { answer(401, json!({"error": "invalid_client"})) })
            }
            ("GET", ["v2", "users", "me"]) => Ok(answer(200, json!({"email": "gateway@example.org"}))),
            ("GET", ["v2", "mailboxes", "85"]) => Ok(answer(200, json!({"id": 85, "name": "Support"}))),
            ("GET", ["v2", "mailboxes", "85", "fields"]) => {
                Ok(answer(200, json!({"_embedded": {"fields": [{"id": 3, "name": "Gateway"}]}})))
            }
            ("GET", ["v2", "conversations"]) => {
                if ask.q("status") != "all" || ask.q("mailbox") != "85" {
                    return Err("only active ones are listed".into());
                }
                let wanted = ask.q("customFieldsByIds").strip_prefix("3:").ok_or("customFieldsByIds")?.to_owned();
                let one = |ticket: &super::Ticket| json!({"id": ticket.id, "customFields": [{"id": 3, "value": ticket.external}]});
                let found: Vec<Value> = room.with(&wanted, true).into_iter().map(one).collect();
                Ok(answer(200, json!({"_embedded": {"conversations": found}})))
            }
            ("POST", ["v2", "conversations"]) => {
                let body = ask.json()?;
                only(&body, "", &["subject", "type", "mailboxId", "status", "autoReply", "customer", "tags", "fields", "threads"])?;
                only(&body, "/threads/0", &["type", "customer", "text", "attachments"])?;
                if number(&body, "/mailboxId")? != 85 || body["autoReply"] != false || number(&body, "/fields/0/id")? != 3 {
                    return Err("mailbox, reply or field".into());
                }
                let person = room.person(&text(&body, "/customer/email")?);
                let files = decoded(&body["threads"][0]["attachments"], "/fileName", "/data")?;
                let words = text(&body, "/threads/0/text")?;
                let before = words.split("Goes on from ").nth(1).map(str::to_owned);
                let ticket = room.open(&text(&body, "/fields/0/value")?, &text(&body, "/subject")?);
                (ticket.person, ticket.before) = (Some(person), before);
                let id = ticket.id;
                room.write(id, Entry { text: words, customer: true, author: Some(person), files, ..Entry::default() })?;
                Ok(answer(201, Value::Null).with("resource-id", id))
            }
            ("GET", ["v2", "conversations", id]) => Ok(match room.there(word(id)) {
                None => missing(),
                Some(ticket) => match ticket.merged {
                    Some(into) => answer(301, Value::Null).with("location", format!("https://api.helpscout.net/v2/conversations/{into}")),
                    None => answer(200, scout_conversation(ticket).unwrap_or_default()),
                },
            }),
            ("PATCH", ["v2", "conversations", id]) => {
                let change = ask.json()?;
                match text(&change, "/value")?.as_str() {
                    _ if change["op"] != "replace" || change["path"] != "/status" => return Err("not the status".into()),
                    "active" => room.reopen(word(id))?,
                    "closed" => room.close_second(word(id))?,
                    _ => return Err("neither opened nor closed".into()),
                }
                Ok(answer(204, Value::Null))
            }
            ("POST", ["v2", "conversations", id, kind @ ("customer" | "notes")]) => {
                let Some(ticket) = room.there(word(id)) else { return Ok(missing()) };
                if ticket.entries.len() >= 100 {
                    return Ok(Self::refuse(412, "Conversation has too many threads"));
                }
                let body = ask.json()?;
                if *kind == "notes" && body["attachments"].is_null() {
                    only(&body, "", &["text"])?;
                    room.second_of(word(id), &text(&body, "/text")?, true)?;
                    return Ok(answer(201, Value::Null).with("resource-id", room.id()));
                }
                only(&body, "", if *kind == "notes" { &["text", "attachments"] } else { &["customer", "text", "attachments"] })?;
                let customer = *kind == "customer";
                let author = if customer { Some(room.person(&text(&body, "/customer/email")?)) } else { None };
                let files = decoded(&body["attachments"], "/fileName", "/data")?;
                let thread = room.write(word(id), Entry { text: text(&body, "/text")?, customer, author, files, ..Entry::default() })?;
                Ok(answer(201, Value::Null).with("resource-id", thread))
            }
            _ => Err("unknown call".into()),
        }
    }
}
