//! Zammad and Freshdesk.

use serde_json::{Value, json};

use super::told::{List, Row, Told, count, iso, iso_s, ms_of};
use super::{Answer, Ask, Entry, Room, System, Ticket, answer, decoded, fields, number, only, text};

pub struct Zammad;
pub struct Freshdesk;

fn word(id: &str) -> u64 {
    id.parse().unwrap_or(0)
}

impl Zammad {
    fn article(article: &Value, room: &Room) -> Result<Entry, String> {
        let sender = text(article, "/sender")?;
        let (kind, internal) = (text(article, "/type")?, article["internal"] == true);
        let customer = match (sender.as_str(), kind.as_str(), internal) {
            ("Customer", "web", false) => true,
            ("Agent", "note", true) => false,
            other => return Err(format!("an article of {other:?}")),
        };
        if text(article, "/content_type")? != "text/html" {
            return Err("content_type".into());
        }
        let author = article.get("origin_by_id").and_then(Value::as_u64);
        if author.is_some_and(|author| !room.people.contains_key(&author)) {
            return Err("origin_by_id is nobody".into());
        }
        let ours = text(article, "/message_id")?;
        let ours = ours.strip_prefix('<').and_then(|id| id.strip_suffix("@gateway>")).ok_or("message_id")?.to_owned();
        let files = decoded(&article["attachments"], "/filename", "/data")?;
        Ok(Entry { ours, text: text(article, "/body")?, customer, author, files, ..Entry::default() })
    }
}

/// A search by condition for what changed.
fn zammad_changes(ask: &Ask) -> Result<Option<List>, String> {
    let body = ask.json()?;
    only(&body, "", &["condition", "sort_by", "order_by", "per_page", "page", "expand"])?;
    only(&body, "/condition", &["ticket.updated_at", "ticket.gateway_conversation"])?;
    let (since, ours) = (&body["condition"]["ticket.updated_at"], &body["condition"]["ticket.gateway_conversation"]);
    let order = (body["sort_by"].as_str(), body["order_by"].as_str(), body["expand"].as_bool());
    if since["operator"] != "after (absolute)" || order != (Some("updated_at"), Some("desc"), Some(true)) {
        return Err("not what changed, the newest first".into());
    }
    if *ours != json!({"operator": "contains", "value": "cnv_"}) {
        return Err("not those with a conversation".into());
    }
    let size = number(&body, "/per_page")?.min(200) as usize;
    // Strictly after.
    let since_ms = ms_of(&text(since, "/value")?)? + 1;
    let skip = (number(&body, "/page")? as usize - 1) * size;
    Ok(Some(List { since_ms, newest_first: true, skip, take: size, ..List::default() }))
}

fn zammad_ticket(ticket: &Ticket) -> Option<Value> {
    let state = if ticket.merged.is_some() { "merged" } else { ticket.pick(["open", "pending reminder", "closed", "closed"]) };
    let closed = ticket.is_done().then(|| iso(ticket.state_ms));
    ticket.external.contains("cnv_").then(|| {
        json!({"id": ticket.id, "state": state, "last_close_at": closed, "updated_at": iso(ticket.updated_ms), "gateway_conversation": ticket.external})
    })
}

fn zammad_article(ticket: &Ticket, entry: &Entry) -> Option<Value> {
    let message_id = if entry.ours.is_empty() { format!("<{}@mail.example.org>", entry.id) } else { format!("<{}@gateway>", entry.ours) };
    let kind = if entry.customer || entry.public { "web" } else { "note" };
    Some(json!({"id": entry.id, "ticket_id": ticket.id, "message_id": message_id, "internal": !(entry.customer || entry.public),
        "sender": if entry.customer { "Customer" } else { "Agent" }, "type": kind, "content_type": "text/html", "body": entry.text,
        "from": "Marc Agent via Support", "created_by_id": entry.author, "created_by": "marc@example.org", "created_at": iso(entry.at_ms)}))
}

static ZAMMAD: [Told; 2] = [
    Told {
        method: "POST",
        path: "api/v1/tickets/search",
        list: zammad_changes,
        row: Row::Ticket(zammad_ticket),
        answer: |page| json!(page.rows),
    },
    Told {
        method: "GET",
        path: "api/v1/ticket_articles/by_ticket/*",
        list: |ask| Ok(Some(List { ticket: Some(word(&ask.path[4])), ..List::default() })),
        row: Row::Entry(zammad_article),
        answer: |page| json!(page.rows),
    },
];

fn freshdesk_changes(ask: &Ask) -> Result<Option<List>, String> {
    if (ask.q("order_by"), ask.q("order_type"), ask.q("include")) != ("updated_at", "desc", "stats") {
        return Err("not the newest first, with stats".into());
    }
    let size = count(ask.q("per_page"), 30)?.min(100);
    let skip = (count(ask.q("page"), 1)? - 1) * size;
    let since_ms = ms_of(ask.q("updated_since"))?;
    Ok(Some(List { since_ms, newest_first: true, skip, take: size, unit_ms: 1000, ..List::default() }))
}

/// What made a ticket is its description, no conversation.
fn freshdesk_conversation(ticket: &Ticket, entry: &Entry) -> Option<Value> {
    let (private, incoming) = (!(entry.customer || entry.public), entry.customer);
    (ticket.entries.first().is_none_or(|first| first.id != entry.id)).then(|| {
        json!({"id": entry.id, "body": entry.text, "body_text": entry.text, "private": private, "incoming": incoming,
            "user_id": entry.author, "created_at": iso_s(entry.at_ms)})
    })
}

static FRESHDESK: [Told; 2] = [
    Told {
        method: "GET",
        path: "api/v2/tickets",
        list: freshdesk_changes,
        row: Row::Ticket(|ticket| {
            Some(json!({"id": ticket.id, "status": ticket.pick([2, 3, 4, 5]), "updated_at": iso_s(ticket.updated_ms),
                "custom_fields": {"cf_gateway_conversation": ticket.external, "cf_other": null},
                "stats": {"status_updated_at": iso_s(ticket.state_ms)}}))
        }),
        answer: |page| json!(page.rows),
    },
    Told {
        method: "GET",
        path: "api/v2/tickets/*/conversations",
        list: |ask| {
            let size = count(ask.q("per_page"), 30)?.min(100);
            let skip = (count(ask.q("page"), 1)? - 1) * size;
            Ok(Some(List { ticket: Some(word(&ask.path[3])), skip, take: size, ..List::default() }))
        },
        row: Row::Entry(freshdesk_conversation),
        answer: |page| json!(page.rows),
    },
];

const ARTICLE: [&str; 11] = [
    "ticket_id",
    "subject",
    "body",
    "content_type",
    "type",
    "sender",
    "internal",
    "message_id",
    "in_reply_to",
    "attachments",
    "origin_by_id",
];

impl System for Zammad {
    fn name(&self) -> &'static str {
        "zammad"
    }
    fn settings(&self, url: &str) -> Value {
        json!({"url": url, "group": "Support"})
    }
    fn secret(&self) -> (&'static str, &'static str) {
        ("token", "za-secret-73")
    }
    fn proven(&self, ask: &Ask, _: &Room) -> bool {
        ask.header("authorization") == "Token token=za-secret-73"
    }
    fn denied(&self) -> Answer {
        answer(401, json!({"error": "Invalid token!"}))
    }
    fn busy(&self) -> Answer {
        answer(429, json!({"error": "Too many requests"})).with("retry-after", 7)
    }
    fn refused(&self, words: &str) -> Answer {
        answer(422, json!({"error": words, "error_human": words}))
    }
    fn chars_max(&self) -> usize {
        1_500_000
    }
    fn fields(&self) -> &'static [&'static str] {
        &["ticket attribute", "its column"]
    }
    fn told(&self) -> &'static [Told] {
        &ZAMMAD
    }
    fn answer(&self, ask: &Ask, room: &mut Room) -> Result<Answer, String> {
        let (method, path) = ask.line();
        let missing = || answer(404, json!({"error": "Couldn't find Ticket"}));
        match (method.as_str(), path.as_slice()) {
            ("GET", ["api", "v1", "users", "me"]) => Ok(answer(200, json!({"id": 1, "login": "gateway"}))),
            ("GET", ["api", "v1", "groups"]) => Ok(answer(200, json!([{"id": 1, "name": "Support"}]))),
            ("GET", ["api", "v1", "object_manager_attributes"]) => {
                let one = json!({"object": "Ticket", "name": "gateway_conversation", "to_migrate": !room.has_field("migrated")});
                let there = room.has_field("gateway_conversation");
                Ok(answer(200, json!(there.then_some(one).into_iter().collect::<Vec<_>>())))
            }
            ("POST", ["api", "v1", "object_manager_attributes"]) => {
                let body = ask.json()?;
                let known = ["name", "object", "display", "active", "position", "data_type", "data_option", "screens"];
                only(&body, "", &known)?;
                if text(&body, "/object")? != "Ticket" || text(&body, "/data_option/type")? != "text" {
                    return Err("no text of tickets".into());
                }
                number(&body, "/data_option/maxlength")?;
                room.made.insert(text(&body, "/name")?);
                Ok(answer(201, json!({"id": 1})))
            }
            ("POST", ["api", "v1", "object_manager_attributes_execute_migrations"]) => {
                room.made.insert("migrated".into());
                Ok(answer(200, json!({})))
            }
            ("GET", ["api", "v1", "users", "search"]) => {
                let wanted = ask.q("query");
                let found: Vec<Value> =
                    room.people.iter().filter(|(_, mail)| *mail == wanted).map(|(id, mail)| json!({"id": id, "email": mail})).collect();
                Ok(answer(200, json!(found)))
            }
            ("POST", ["api", "v1", "users"]) => {
                let body = ask.json()?;
                only(&body, "", &["firstname", "lastname", "email", "roles", "phone"])?;
                let mail = text(&body, "/email")?;
                if room.people.values().any(|known| *known == mail) {
                    return Ok(self.refused("Email address is already used for another user."));
                }
                Ok(answer(201, json!({"id": room.person(&mail)})))
            }
            ("GET", ["api", "v1", "tickets", "search"]) => {
                if ask.q("condition[ticket.gateway_conversation][operator]") != "is" || ask.query.contains_key("query") {
                    return Err("not a search by condition".into());
                }
                let wanted = ask.q("condition[ticket.gateway_conversation][value]").to_owned();
                let one = |ticket: &super::Ticket| json!({"id": ticket.id, "gateway_conversation": ticket.external});
                let found: Vec<Value> = room.with(&wanted, false).into_iter().map(one).collect();
                Ok(answer(200, json!(found)))
            }
            ("POST", ["api", "v1", "tickets"]) => {
                let body = ask.json()?;
                only(&body, "", &["title", "group", "customer_id", "gateway_conversation", "article"])?;
                only(&body, "/article", &ARTICLE)?;
                if text(&body, "/group")? != "Support" {
                    return Err("group".into());
                }
                let person = match &body["customer_id"] {
                    Value::String(guess) => room.person(guess.strip_prefix("guess:").ok_or("customer_id")?),
                    id => id.as_u64().ok_or("customer_id")?,
                };
                let entry = Self::article(&body["article"], room)?;
                let before = entry.text.split("Goes on from ").nth(1).map(str::to_owned);
                let ticket = room.open(&text(&body, "/gateway_conversation")?, &text(&body, "/title")?);
                (ticket.person, ticket.before) = (Some(person), before);
                let id = ticket.id;
                let article = room.write(id, entry)?;
                Ok(answer(201, json!({"id": id, "article_ids": [article]})))
            }
            ("GET", ["api", "v1", "tickets", id]) => Ok(match room.there(word(id)) {
                None => missing(),
                Some(ticket) => {
                    let state =
                        if ticket.merged.is_some() { "merged" } else { ticket.pick(["open", "pending reminder", "closed", "closed"]) };
                    answer(200, json!({"id": ticket.id, "state": state}))
                }
            }),
            ("GET", ["api", "v1", "links"]) => {
                let merged = room.there(word(ask.q("link_object_value"))).and_then(|ticket| ticket.merged);
                let link = |id: u64| json!({"link_type": "parent", "link_object": "Ticket", "link_object_value": id});
                Ok(answer(200, json!({"links": merged.map(link).into_iter().collect::<Vec<_>>()})))
            }
            ("POST", ["api", "v1", "ticket_articles"]) => {
                let body = ask.json()?;
                only(&body, "", &ARTICLE)?;
                let id = number(&body, "/ticket_id")?;
                if room.there(id).is_none() {
                    return Ok(missing());
                }
                let entry = Self::article(&body, room)?;
                Ok(answer(201, json!({"id": room.write(id, entry)?})))
            }
            ("PUT", ["api", "v1", "tickets", id]) => {
                let body = ask.json()?;
                if body == json!({"state": "open"}) {
                    room.reopen(word(id))?;
                    return Ok(answer(200, json!({})));
                }
                if text(&body, "/state")? != "closed" {
                    return Err("neither opened nor closed".into());
                }
                room.second_of(word(id), &text(&body, "/article/body")?, body["article"]["internal"] == true)?;
                room.close_second(word(id))?;
                Ok(answer(200, json!({})))
            }
            _ => Err("unknown call".into()),
        }
    }
}

impl Freshdesk {
    /// All files of an entry together.
    fn too_large(files: &[(String, Vec<u8>)]) -> Option<Answer> {
        let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
        (bytes > 20 * 1024 * 1024).then(|| Freshdesk.refused("The total size of attachments exceeds 20 MB"))
    }
}

impl System for Freshdesk {
    fn name(&self) -> &'static str {
        "freshdesk"
    }
    fn settings(&self, url: &str) -> Value {
        json!({"url": url})
    }
    fn secret(&self) -> (&'static str, &'static str) {
        ("api_key", "fd-secret-74")
    }
    fn proven(&self, ask: &Ask, _: &Room) -> bool {
        use base64::Engine;
        ask.header("authorization") == format!("Basic {}", base64::engine::general_purpose::STANDARD.encode("fd-secret-74:X"))
    }
    fn denied(&self) -> Answer {
        answer(401, json!({"code": "invalid_credentials", "message": "You have to be logged in to perform this action."}))
    }
    fn busy(&self) -> Answer {
        answer(429, json!({"message": "You have exceeded the limit of requests per hour"}))
            .with("retry-after", 7)
            .with("x-ratelimit-total", 3000)
            .with("x-ratelimit-remaining", 0)
    }
    fn refused(&self, words: &str) -> Answer {
        answer(
            400,
            json!({"description": "Validation failed", "errors": [{"field": "subject", "message": words, "code": "invalid_value"}]}),
        )
    }
    fn holds(&self, entry: &Entry, id: &str) -> bool {
        entry.text.contains(&format!("[{id}]"))
    }
    fn follows_merged(&self) -> bool {
        false
    }
    fn fields(&self) -> &'static [&'static str] {
        &["ticket field"]
    }
    fn told(&self) -> &'static [Told] {
        &FRESHDESK
    }
    fn answer(&self, ask: &Ask, room: &mut Room) -> Result<Answer, String> {
        let (method, path) = ask.line();
        match (method.as_str(), path.as_slice()) {
            ("GET", ["api", "v2", "agents", "me"]) => Ok(answer(200, json!({"id": 1, "contact": {"name": "Gateway"}}))),
            ("GET", ["api", "v2", "ticket_fields"]) => {
                let one = room.has_field("cf_gateway_conversation").then(|| json!({"name": "cf_gateway_conversation"}));
                Ok(answer(200, json!(one.into_iter().collect::<Vec<_>>())))
            }
            ("POST", ["api", "v2", "admin", "ticket_fields"]) => {
                let body = ask.json()?;
                only(&body, "", &["label", "label_for_customers", "type", "customers_can_edit", "displayed_to_customers"])?;
                if text(&body, "/type")? != "custom_text" {
                    return Err("type".into());
                }
                let name = format!("cf_{}", text(&body, "/label")?.to_lowercase().replace(' ', "_"));
                room.made.insert(name);
                Ok(answer(201, json!({"id": 1})))
            }
            ("PUT", ["api", "v2", "tickets", id]) => {
                match ask.json()? {
                    change if change == json!({"status": 2}) => room.reopen(word(id))?,
                    change if change == json!({"status": 5}) => room.close_second(word(id))?,
                    _ => return Err("neither opened nor closed".into()),
                }
                Ok(answer(200, json!({})))
            }
            ("GET", ["api", "v2", "contacts"]) => {
                let found: Vec<Value> =
                    room.people.iter().filter(|(_, key)| *key == ask.q("unique_external_id")).map(|(id, _)| json!({"id": id})).collect();
                Ok(answer(200, json!(found)))
            }
            ("POST", ["api", "v2", "contacts"]) => {
                let body = ask.json()?;
                only(&body, "", &["unique_external_id", "name", "email"])?;
                text(&body, "/name")?;
                Ok(answer(201, json!({"id": room.person(&text(&body, "/unique_external_id")?)})))
            }
            ("GET", ["api", "v2", "search", "tickets"]) => {
                let query = ask.q("query");
                let wanted = query.strip_prefix("\"cf_gateway_conversation:'").and_then(|rest| rest.strip_suffix("'\"")).ok_or("query")?;
                let one = |ticket: &super::Ticket| json!({"id": ticket.id, "custom_fields": {"cf_gateway_conversation": ticket.external}});
                let found: Vec<Value> = room.with(wanted, true).into_iter().map(one).collect();
                Ok(answer(200, json!({"total": found.len(), "results": found})))
            }
            ("POST", ["api", "v2", "tickets"]) => {
                let known = [
                    "requester_id",
                    "subject",
                    "description",
                    "status",
                    "priority",
                    "source",
                    "custom_fields[cf_gateway_conversation]",
                    "tags[]",
                    "attachments[]",
                ];
                let (values, files) = fields(ask.parts()?, &known)?;
                if let Some(refusal) = Self::too_large(&files) {
                    return Ok(refusal);
                }
                let person =
                    values.get("requester_id").map(|id| word(id)).filter(|id| room.people.contains_key(id)).ok_or("requester_id")?;
                if values.get("status").map(String::as_str) != Some("2") || values.get("priority").map(String::as_str) != Some("1") {
                    return Err("status or priority".into());
                }
                let entry = Entry { text: values["description"].clone(), customer: true, author: Some(person), files, ..Entry::default() };
                let ticket = room.open(&values["custom_fields[cf_gateway_conversation]"], &values["subject"]);
                let before = entry.text.split("Goes on from ticket ").nth(1).map(str::to_owned);
                (ticket.person, ticket.before) = (Some(person), before);
                let id = ticket.id;
                room.write(id, entry)?;
                Ok(answer(201, json!({"id": id})))
            }
            ("GET", ["api", "v2", "tickets", id]) => Ok(match room.there(word(id)) {
                Some(ticket) => answer(200, json!({"id": ticket.id, "status": ticket.pick([2, 3, 4, 5])})),
                None => answer(404, Value::Null),
            }),
            ("POST", ["api", "v2", "tickets", id, "notes"]) if ask.header("content-type") == "application/json" => {
                let body = ask.json()?;
                only(&body, "", &["body", "private"])?;
                room.second_of(word(id), &text(&body, "/body")?, body["private"] == true)?;
                Ok(answer(201, json!({"id": room.id()})))
            }
            ("POST", ["api", "v2", "tickets", id, "notes"]) => {
                let (values, files) = fields(ask.parts()?, &["body", "private", "incoming", "user_id", "attachments[]"])?;
                if let Some(refusal) = Self::too_large(&files) {
                    return Ok(refusal);
                }
                let customer = values["private"] == "false";
                if customer && values.get("incoming").map(String::as_str) != Some("true") {
                    return Err("a public note that did not come in mails the customer".into());
                }
                let author = values.get("user_id").map(|id| word(id));
                if author.is_some_and(|author| !room.people.contains_key(&author)) || customer && author.is_none() {
                    return Err("user_id".into());
                }
                if room.there(word(id)).is_none() {
                    return Ok(answer(404, Value::Null));
                }
                let entry = Entry { text: values["body"].clone(), customer, author, files, ..Entry::default() };
                Ok(answer(201, json!({"id": room.write(word(id), entry)?})))
            }
            _ => Err("unknown call".into()),
        }
    }
}
