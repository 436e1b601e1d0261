//! Zendesk: the ticketing API and the channel framework.

use serde_json::{Value, json};

use super::{Answer, Ask, Entry, Room, System, Ticket, answer, number, only, text};

pub struct Zendesk;
pub struct ZendeskChannel;

fn basic(user: &str, password: &str) -> String {
    use base64::Engine;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

fn error(status: u16, error: &str, words: &str) -> Answer {
    answer(status, json!({"error": error, "description": words, "details": {"base": [{"description": words}]}}))
}

fn id(word: &str) -> u64 {
    word.strip_suffix(".json").unwrap_or(word).parse().unwrap_or(0)
}

impl Zendesk {
    /// The comment of a ticket; `author` if it must be the customer's.
    fn comment(ask: &Value, room: &mut Room) -> Result<Entry, String> {
        only(ask, "/ticket/comment", &["html_body", "public", "author_id", "uploads"])?;
        only(ask, "/ticket/metadata", &["custom"])?;
        let public = ask.pointer("/ticket/comment/public") == Some(&json!(true));
        let author = if public { Some(number(ask, "/ticket/comment/author_id")?) } else { None };
        if author.is_some_and(|author| !room.people.contains_key(&author)) {
            return Err("author_id is nobody".into());
        }
        let tokens = ask.pointer("/ticket/comment/uploads").and_then(Value::as_array).ok_or("no uploads")?;
        let tokens: Vec<String> = tokens.iter().filter_map(|token| token.as_str().map(str::to_owned)).collect();
        let files = room.take_uploads(&tokens)?;
        let ours = text(ask, "/ticket/metadata/custom/gateway_message")?;
        Ok(Entry { ours, text: text(ask, "/ticket/comment/html_body")?, customer: public, author, files, ..Entry::default() })
    }

    fn create(ask: &Ask, room: &mut Room) -> Result<Answer, String> {
        let key = ask.header("idempotency-key").to_owned();
        if let Some((body, ticket)) = room.keys.get(&key) {
            return Ok(if body == ask.body() {
                answer(201, json!({"ticket": {"id": ticket}})).with("x-idempotency-lookup", "hit")
            } else {
                error(422, "IdempotencyError", "Idempotency key was used with other parameters")
            });
        }
        let body = ask.json()?;
        only(&body, "/ticket", &["subject", "external_id", "requester_id", "tags", "metadata", "comment", "via_followup_source_id"])?;
        let requester = number(&body, "/ticket/requester_id")?;
        let entry = Self::comment(&body, room)?;
        let before = body.pointer("/ticket/via_followup_source_id").and_then(Value::as_u64);
        if before.is_some_and(|before| !room.tickets.iter().any(|ticket| ticket.id == before && ticket.closed)) {
            return Ok(error(422, "RecordInvalid", "via_followup_source_id is not a closed ticket"));
        }
        let ticket = room.open(&text(&body, "/ticket/external_id")?, &text(&body, "/ticket/subject")?);
        (ticket.person, ticket.before) = (Some(requester), before.map(|before| before.to_string()));
        let id = ticket.id;
        room.write(id, entry)?;
        room.keys.insert(key, (ask.body().clone(), id));
        Ok(answer(201, json!({"ticket": {"id": id}})).with("x-idempotency-lookup", "miss"))
    }
}

fn shown(ticket: &Ticket) -> Value {
    json!({"id": ticket.id, "external_id": ticket.external, "status": if ticket.closed { "closed" } else { "open" }})
}

impl System for Zendesk {
    fn name(&self) -> &'static str {
        "zendesk"
    }
    fn settings(&self, url: &str) -> Value {
        json!({"url": url, "email": "gateway@example.org"})
    }
    fn secret(&self) -> (&'static str, &'static str) {
        ("api_token", "zt-secret-71")
    }
    fn proven(&self, ask: &Ask, _: &Room) -> bool {
        ask.header("authorization") == basic("gateway@example.org/token", "zt-secret-71")
    }
    fn denied(&self) -> Answer {
        answer(401, json!({"error": "Couldn't authenticate you"}))
    }
    fn busy(&self) -> Answer {
        answer(429, json!({"error": "APIRateLimitExceeded", "description": "Number of allowed API requests per minute exceeded"}))
            .with("retry-after", 7)
            .with("x-rate-limit", 700)
            .with("x-rate-limit-remaining", 0)
    }
    fn refused(&self, words: &str) -> Answer {
        error(422, "RecordInvalid", words)
    }
    fn follows_merged(&self) -> bool {
        false
    }
    // A closed ticket of Zendesk stays closed.
    fn reopens(&self) -> bool {
        false
    }
    fn answer(&self, ask: &Ask, room: &mut Room) -> Result<Answer, String> {
        let (method, path) = ask.line();
        match (method.as_str(), path.as_slice()) {
            ("GET", ["api", "v2", "users", "me.json"]) => Ok(answer(200, json!({"user": {"id": 1, "role": "admin", "name": "Gateway"}}))),
            ("POST", ["api", "v2", "users", "create_or_update.json"]) => {
                let body = ask.json()?;
                only(&body, "/user", &["external_id", "name", "role", "skip_verify_email", "email"])?;
                let id = room.person(&text(&body, "/user/external_id")?);
                Ok(answer(200, json!({"user": {"id": id}})))
            }
            ("GET", ["api", "v2", "tickets.json"]) => {
                let found: Vec<Value> = room.with(ask.q("external_id"), false).into_iter().map(shown).collect();
                Ok(answer(200, json!({"tickets": found, "count": found.len()})))
            }
            ("POST", ["api", "v2", "uploads.json"]) => {
                let (token, name) = (format!("tok{}", room.id()), ask.q("filename").to_owned());
                if name.is_empty() {
                    return Err("no filename".into());
                }
                if ask.body().len() > 50 * 1024 * 1024 {
                    return Ok(error(422, "AttachmentTooLarge", "The file is larger than 50 MB"));
                }
                room.keep(&token, (name, ask.body().to_vec()));
                Ok(answer(201, json!({"upload": {"token": token}})))
            }
            ("POST", ["api", "v2", "tickets.json"]) => Self::create(ask, room),
            ("GET", ["api", "v2", "tickets", ticket]) => Ok(match room.there(id(ticket)) {
                Some(ticket) => answer(200, json!({"ticket": shown(ticket)})),
                None => error(404, "RecordNotFound", "Not found"),
            }),
            ("PUT", ["api", "v2", "tickets", ticket]) => {
                let Some(there) = room.there(id(ticket)) else { return Ok(error(404, "RecordNotFound", "Not found")) };
                if there.closed {
                    return Ok(error(422, "RecordInvalid", "Status: closed prevents ticket update"));
                }
                let body = ask.json()?;
                only(&body, "/ticket", &["status", "metadata", "comment"])?;
                if body.pointer("/ticket/status") == Some(&json!("solved")) {
                    let hidden = body.pointer("/ticket/comment/public") == Some(&json!(false));
                    room.second_of(id(ticket), &text(&body, "/ticket/comment/body")?, hidden)?;
                    room.close_second(id(ticket))?;
                    return Ok(answer(200, json!({"ticket": {}})));
                }
                let entry = Self::comment(&body, room)?;
                let comment = room.write(id(ticket), entry)?;
                Ok(answer(200, json!({"ticket": {}, "audit": {"id": 1, "events": [{"id": comment, "type": "Comment"}]}})))
            }
            ("GET", ["api", "v2", "tickets", ticket, "comments.json"]) => {
                let entries = room.there(id(ticket)).map(|ticket| ticket.entries.clone()).unwrap_or_default();
                let (size, from) = (ask.q("page[size]").parse().unwrap_or(100), ask.q("page[after]").parse().unwrap_or(0));
                if ask.q("sort") != "-created_at" {
                    return Err("unknown sort".into());
                }
                let one = |entry: &Entry| json!({"id": entry.id, "metadata": {"system": {}, "custom": {"gateway_message": entry.ours}}});
                let page: Vec<Value> = entries.iter().rev().skip(from).take(size).map(one).collect();
                let more = from + page.len() < entries.len();
                Ok(answer(200, json!({"comments": page, "meta": {"has_more": more, "after_cursor": (from + size).to_string()}})))
            }
            _ => Err("unknown call".into()),
        }
    }
}

impl System for ZendeskChannel {
    fn name(&self) -> &'static str {
        "zendesk-channel"
    }
    fn settings(&self, url: &str) -> Value {
        json!({"url": url, "instance_push_id": "push-1"})
    }
    fn secret(&self) -> (&'static str, &'static str) {
        ("access_token", "zc-secret-72")
    }
    fn proven(&self, ask: &Ask, _: &Room) -> bool {
        ask.header("authorization") == "Bearer zc-secret-72"
    }
    fn denied(&self) -> Answer {
        answer(401, json!({"error": "invalid_token", "error_description": "The access token provided is expired or revoked"}))
    }
    fn busy(&self) -> Answer {
        Zendesk.busy()
    }
    fn refused(&self, words: &str) -> Answer {
        error(422, "RecordInvalid", words)
    }
    fn has_tickets(&self) -> bool {
        false
    }
    fn takes_files(&self) -> bool {
        false
    }
    fn answer(&self, ask: &Ask, room: &mut Room) -> Result<Answer, String> {
        let (method, path) = ask.line();
        match (method.as_str(), path.as_slice()) {
            ("GET", ["api", "v2", "users", "me.json"]) => Ok(answer(200, json!({"user": {"id": 1, "name": "Gateway"}}))),
            ("POST", ["api", "v2", "any_channel", "push.json"]) => {
                let body = ask.json()?;
                only(&body, "", &["instance_push_id", "external_resources"])?;
                if text(&body, "/instance_push_id")? != "push-1" {
                    return Err("unknown instance".into());
                }
                let known =
                    ["external_id", "thread_id", "created_at", "message", "html_message", "internal_note", "author", "allow_channelback"];
                only(&body, "/external_resources/0", &known)?;
                only(&body, "/external_resources/0/author", &["external_id", "name"])?;
                let item = &body["external_resources"][0];
                let (external, thread) = (text(item, "/external_id")?, text(item, "/thread_id")?);
                text(item, "/created_at")?;
                if external.len() > 255 || thread.len() > 255 || text(item, "/message")?.len() > 65_535 * 4 {
                    return Err("too long".into());
                }
                let mut all = room.tickets.iter().flat_map(|ticket| &ticket.entries);
                if let Some(known) = all.find(|entry| entry.ours == external) {
                    let result = json!({"external_resource_id": known.ours, "status": {"code": "already_imported"}});
                    return Ok(answer(200, json!({"results": [result]})));
                }
                let customer = item["internal_note"] == false;
                let author = Some(room.person(&text(item, "/author/external_id")?));
                let entry = Entry { ours: external.clone(), text: text(item, "/html_message")?, customer, author, ..Entry::default() };
                let ticket = match room.with(&thread, false).first() {
                    Some(ticket) => ticket.id,
                    None => room.open(&thread, "").id,
                };
                room.write(ticket, entry)?;
                let result = json!({"external_resource_id": external, "status": {"code": "success"}});
                Ok(answer(200, json!({"results": [result]})))
            }
            _ => Err("unknown call".into()),
        }
    }
}
