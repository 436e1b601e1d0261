//! Compose: an event as an entry of a ticket. Who asks, what stands in it, which files go with it, and who may see it. Pure: the
//! frozen event in, the context of the calls out (I5).

use serde_json::{Value, json};

use crate::connector::text::cut;
use crate::connector::ticket::dialect::Dialect;
use crate::connector::ticket::{FilesWay, TextSpec, TicketSpec};
use crate::model::id::{AttachmentId, ConversationId, EventId};

/// Files of one entry together where bodies hold them: a body is made by jq, whose output is bounded.
const BASE64_BYTES_MAX: u64 = 10 * 1024 * 1024;

/// What becomes of the kinds of events that are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forms {
    /// Edits by the author become notes for agents.
    pub edits: bool,
    /// Deletions by the author become notes for agents.
    pub deletions: bool,
    /// Reactions become notes for agents.
    pub reactions: bool,
}

/// Who may see an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// What the customer said.
    Customer,
    /// For agents alone.
    Agents,
}

/// A file of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryFile {
    /// Its id.
    pub id: AttachmentId,
    /// Its name, made safe.
    pub name: String,
    /// Media type.
    pub media_type: String,
}

/// An event as an entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its conversation.
    pub conversation: ConversationId,
    /// Our id of the entry: the message's for a message, else the event's.
    pub external: String,
    /// It opened the conversation.
    pub opened: bool,
    /// It only says something of what was said before.
    pub minor: bool,
    /// Who may see it.
    pub seen: Seen,
    /// Files that go with it.
    pub files: Vec<EntryFile>,
    /// `requester`, `entry` and `event` of the context.
    pub context: Value,
}

/// What composing needs beside the event.
#[derive(Debug, Clone, Copy)]
pub struct Composing<'a> {
    /// How its texts are written.
    pub text: &'a TextSpec,
    /// What it can do.
    pub ticket: &'a TicketSpec,
    /// What the destination wants of other events.
    pub forms: Forms,
    /// Domain of the addresses that contacts without a mail address get.
    pub contact_domain: &'a str,
    /// Files go along at all.
    pub files: bool,
}

fn text<'v>(value: &'v Value, path: &str) -> Option<&'v str> {
    value.pointer(path).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// An event as an entry; `None` if it has no form in a ticket system, or the destination wants none.
pub fn compose(id: EventId, event: &Value, with: &Composing<'_>) -> Option<Entry> {
    let data = event.get("data")?;
    let kind = text(event, "/type")?;
    let conversation = text(data, "/conversation/id")?.parse().ok()?;
    let list = if kind == "message.created" { data.pointer("/message/attachments") } else { data.pointer("/attachments") };
    let list = list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    // What is there already is not attached once more.
    let changed = data.pointer("/attachments_changed").and_then(Value::as_array);
    let is_new = |file: &&Value| changed.is_none_or(|changed| file.get("id").is_some_and(|id| changed.contains(id)));
    let (files, left) = sorted(list.iter().filter(is_new), with);
    let named: usize = left.iter().map(|line| line.chars().count() + 4).sum();
    let (name, seen, said) = match kind {
        "message.created" if text(data, "/message/direction") == Some("outbound") => ("message", Seen::Agents, message(data, with, named)),
        "message.created" => ("message", Seen::Customer, message(data, with, named)),
        "message.edited" if with.forms.edits => ("edit", Seen::Agents, edited(data, with)),
        "message.deleted" if with.forms.deletions => {
            ("deletion", Seen::Agents, words(&format!("{} was deleted by its author.", which(data)), with))
        }
        "reaction.added" | "reaction.removed" if with.forms.reactions => ("reaction", Seen::Agents, reaction(kind, data, with)),
        "message.updated" if text(data, "/call/transcript").is_some() => ("transcript", Seen::Agents, transcript(data, with)),
        "message.updated" if data.pointer("/attachments").is_some_and(Value::is_array) => {
            ("files", Seen::Customer, words(&format!("Files of {}.", which(data)), with))
        }
        _ => return None,
    };
    let external = match (kind, text(data, "/message/id")) {
        ("message.created", Some(message)) => message.to_owned(),
        _ => id.to_string(),
    };
    if name == "files" && files.is_empty() && left.is_empty() {
        return None;
    }
    let dialect = with.text.dialect;
    let mut body = said.body;
    for line in left {
        body.push_str(dialect.line());
        body.push_str(&line);
    }
    let mark = format!("[{external}]");
    if with.text.marks {
        body.push_str(dialect.break_after());
        body.push_str(&mark);
    }
    let context = json!({
        "requester": requester(data, with.contact_domain),
        "entry": {
            "id": external, "event": id.to_string(), "kind": name, "seen": if seen == Seen::Customer { "customer" } else { "agents" },
            "subject": subject(data), "body": body, "plain": said.plain, "mark": mark,
            "author": author(data), "at": text(data, "/message/sent_at").or_else(|| text(event, "/timestamp")),
        },
        "event": event,
    });
    let opened = data.pointer("/conversation/opened").and_then(Value::as_bool).unwrap_or(false);
    let minor = matches!(name, "edit" | "deletion" | "reaction");
    Some(Entry { conversation, external, opened, minor, seen, files, context })
}

struct Said {
    body: String,
    plain: String,
}

fn words(line: &str, with: &Composing<'_>) -> Said {
    Said { body: with.text.dialect.text(line), plain: line.to_owned() }
}

fn which(data: &Value) -> String {
    format!("message {}", text(data, "/message/id").unwrap_or("?"))
}

/// Who wrote it, for people: name, and how it came.
fn author(data: &Value) -> String {
    let from = data.pointer("/message/from").or_else(|| data.pointer("/from")).unwrap_or(&Value::Null);
    let address = text(from, "/address").unwrap_or_default();
    let name = text(from, "/name").or_else(|| text(from, "/handle")).or_else(|| text(data, "/contact/name"));
    let by = text(data, "/channel/id").unwrap_or_default();
    match (name, address.is_empty()) {
        (Some(name), false) => format!("{} ({address}) via {by}", one_line(name)),
        (Some(name), true) => format!("{} via {by}", one_line(name)),
        (None, false) => format!("{address} via {by}"),
        (None, true) => format!("Somebody via {by}"),
    }
}

fn one_line(text: &str) -> String {
    let mut line: String = text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    cut(&mut line, 200);
    line.trim().to_owned()
}

fn subject(data: &Value) -> String {
    let own = text(data, "/message/subject").or_else(|| text(data, "/conversation/subject"));
    let first = || text(data, "/message/text").and_then(|text| text.lines().map(str::trim).find(|line| !line.is_empty()));
    let mut subject = one_line(own.or_else(first).unwrap_or("(no subject)"));
    if own.is_none() && subject.chars().count() > 80 {
        subject = subject.chars().take(79).chain(['…']).collect();
    }
    subject
}

/// What was said; `beneath`: letters that the files need which are named beneath it.
fn message(data: &Value, with: &Composing<'_>, beneath: usize) -> Said {
    let (dialect, spec) = (with.text.dialect, with.text);
    let mut plain = text(data, "/message/text").unwrap_or_default().to_owned();
    let mut facts = Vec::new();
    if let Some(call) = data.pointer("/message/call").filter(|call| call.is_object()) {
        let seconds = call.get("seconds").and_then(Value::as_u64).map(|seconds| format!(", {seconds} s")).unwrap_or_default();
        facts.push(format!("Call: {}{seconds}", text(call, "/outcome").unwrap_or("?")));
        if let Some(transcript) = text(call, "/transcript").filter(|transcript| *transcript != plain) {
            facts.push(format!("Transcript: {transcript}"));
        }
    }
    if let Some(feedback) = data.pointer("/message/feedback").filter(|feedback| feedback.is_object()) {
        // People read 2, not 2.0.
        let number = |path: &str| feedback.pointer(path).and_then(Value::as_f64).map(|number| number.to_string()).unwrap_or_default();
        let scale = if feedback.get("scale").is_some_and(Value::is_array) {
            format!(" on {} to {}", number("/scale/0"), number("/scale/1"))
        } else {
            String::new()
        };
        facts.push(format!("Feedback: {} {}{scale}", text(feedback, "/metric").unwrap_or("rating"), number("/score")));
        if let Some(comment) = text(feedback, "/comment").filter(|comment| *comment != plain) {
            facts.push(comment.to_owned());
        }
    }
    let room = spec.chars_max.saturating_sub(400 + beneath);
    let mut facts: Vec<(String, String)> = beside(facts, dialect, room / 2);
    let room = room.saturating_sub(facts.iter().map(|(_, body)| body.chars().count()).sum());
    let html = text(data, "/message/html").filter(|html| dialect == Dialect::Html && html.chars().count() <= room);
    let (mut body, was_cut) = match html {
        Some(html) => (html.to_owned(), false),
        None => fitting(dialect, &mut plain, room),
    };
    if was_cut {
        let place = text(data, "/message/external_url").map_or_else(|| which(data), str::to_owned);
        let told = format!("… cut here; the whole text: {place}");
        facts.push((told.clone(), dialect.text(&told)));
    }
    for (fact, escaped) in &facts {
        body.push_str(if body.is_empty() { "" } else { dialect.line() });
        body.push_str(escaped);
        plain.push_str(if plain.is_empty() { "" } else { "\n" });
        plain.push_str(fact);
    }
    let ours = text(data, "/message/direction") == Some("outbound");
    if spec.names_author || ours {
        body = format!("{}{}{body}", dialect.strong(&author(data)), dialect.break_after());
    }
    if body.trim().is_empty() {
        plain = "(no text)".to_owned();
        body = dialect.text(&plain);
    }
    Said { body, plain }
}

/// What stands beside the text of a message, plain and in the dialect, in a room of its own.
fn beside(facts: Vec<String>, dialect: Dialect, room: usize) -> Vec<(String, String)> {
    let each = room / facts.len().max(1);
    let one = |mut fact: String| match fitting(dialect, &mut fact, each) {
        (body, false) => (fact, body),
        (body, true) => (fact + "…", body + "…"),
    };
    facts.into_iter().map(one).collect()
}

/// A text in its dialect that has room, and whether it was cut. Escaping makes it longer: what is cut away is letters of the customer, never
/// a part of an escape.
fn fitting(dialect: Dialect, plain: &mut String, room: usize) -> (String, bool) {
    let mut was_cut = shorten(plain, room);
    let mut body = dialect.text(plain);
    while body.chars().count() > room {
        let (letters, escaped) = (plain.chars().count(), body.chars().count().max(1));
        was_cut |= shorten(plain, (letters * room / escaped).min(letters.saturating_sub(1)));
        body = dialect.text(plain);
    }
    (body, was_cut)
}

/// Cuts at a letter's border; whether it cut.
fn shorten(text: &mut String, chars_max: usize) -> bool {
    match text.char_indices().nth(chars_max) {
        Some((at, _)) => {
            text.truncate(at);
            true
        }
        None => false,
    }
}

fn edited(data: &Value, with: &Composing<'_>) -> Said {
    led(format!("{} was edited by its author. It now says:", which(data)), text(data, "/text"), with)
}

fn transcript(data: &Value, with: &Composing<'_>) -> Said {
    led(format!("Transcript of {}:", which(data)), text(data, "/call/transcript"), with)
}

/// A text under a line of ours.
fn led(lead: String, said: Option<&str>, with: &Composing<'_>) -> Said {
    let mut plain = said.unwrap_or("(no text)").to_owned();
    let (dialect, room) = (with.text.dialect, with.text.chars_max.saturating_sub(500));
    let (mut body, was_cut) = fitting(dialect, &mut plain, room);
    if was_cut {
        let cut = "… cut here";
        body.push_str(dialect.line());
        body.push_str(&dialect.text(cut));
        plain.push_str(&format!("\n{cut}"));
    }
    Said { body: format!("{}{}{body}", dialect.strong(&lead), dialect.break_after()), plain: format!("{lead}\n\n{plain}") }
}

fn reaction(kind: &str, data: &Value, with: &Composing<'_>) -> Said {
    let (what, emoji) =
        (if kind == "reaction.added" { "got the reaction" } else { "lost the reaction" }, text(data, "/emoji").unwrap_or("(any)"));
    words(&format!("{} {what} {} by {}.", which(data), one_line(emoji), author(data)), with)
}

/// Files that go with the entry, and a line for each that does not.
fn sorted<'v>(list: impl Iterator<Item = &'v Value>, with: &Composing<'_>) -> (Vec<EntryFile>, Vec<String>) {
    let (ticket, dialect) = (with.ticket, with.text.dialect);
    let (mut files, mut left) = (Vec::new(), Vec::new());
    let mut room = ticket.files_bytes_max.unwrap_or(u64::MAX).min(if ticket.base64 { BASE64_BYTES_MAX } else { u64::MAX });
    for (number, file) in list.enumerate() {
        let name = file_name(text(file, "/name"), number);
        let bytes = file.get("bytes").and_then(Value::as_u64);
        let id = text(file, "/id").and_then(|id| id.parse().ok());
        let stored = text(file, "/state") == Some("stored");
        let known = |list: &[String]| {
            let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
            list.is_empty() || extension.is_some_and(|extension| list.contains(&extension))
        };
        let fits = bytes.is_some_and(|bytes| bytes > 0 && ticket.file_bytes_max.is_none_or(|max| bytes <= max) && bytes <= room)
            && known(&ticket.file_extensions)
            && ticket.files_max.is_none_or(|max| files.len() < max);
        match id {
            Some(id) if stored && fits && with.files && ticket.files != FilesWay::Link => {
                room -= bytes.unwrap_or(0).min(room);
                files.push(EntryFile { id, name, media_type: text(file, "/type").unwrap_or("application/octet-stream").to_owned() });
            }
            _ => {
                let why =
                    if stored { text(file, "/url").unwrap_or("not taken along") } else { text(file, "/reason").unwrap_or("not here yet") };
                left.push(dialect.text(&format!("File {name}: {why}")));
            }
        }
    }
    (files, left)
}

/// A name without any path and without what headers and forms cannot carry.
fn file_name(name: Option<&str>, number: usize) -> String {
    let bare = name.and_then(|name| name.rsplit(['/', '\\']).next()).unwrap_or_default();
    let mut clean: String = bare.chars().map(|char| if char.is_control() || "\"<>|:*?".contains(char) { '_' } else { char }).collect();
    cut(&mut clean, 150);
    let clean = clean.trim().trim_matches('.').to_owned();
    if clean.is_empty() { format!("file-{}", number + 1) } else { clean }
}

/// Who asks. A contact without a mail address gets one of ours, so that each contact is one user of the system.
fn requester(data: &Value, domain: &str) -> Value {
    let outbound = text(data, "/message/direction") == Some("outbound");
    let from = data.pointer("/message/from").filter(|_| !outbound).unwrap_or(&Value::Null);
    let own = text(from, "/address").unwrap_or_default();
    let known = data.pointer("/contact/addresses").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let known = known.iter().filter_map(Value::as_str);
    let of = |scheme: &str| std::iter::once(own).chain(known.clone()).find_map(|address| address.strip_prefix(scheme)).map(str::to_owned);
    let contact = text(data, "/contact/id").or_else(|| text(data, "/conversation/id")).unwrap_or("unknown");
    let key = contact.to_ascii_lowercase();
    let email = of("email:")
        .filter(|email| email.contains('@') && !email.contains(|char: char| char.is_whitespace() || "\"(),:;<>[]\\".contains(char)));
    let phone = of("tel:").or_else(|| of("whatsapp:").map(|number| format!("+{}", number.trim_start_matches('+'))));
    let name = text(from, "/name").or_else(|| text(data, "/contact/name")).or_else(|| text(from, "/handle")).map(one_line);
    let mail = email.clone().unwrap_or_else(|| format!("{key}@{domain}"));
    // A From line alone proves nobody; platforms vouch for the accounts of theirs.
    let proven = data.pointer("/message/authentication/verified").and_then(Value::as_bool);
    let trusted = if own.starts_with("email:") { proven == Some(true) } else { proven != Some(false) };
    json!({
        "trusted": trusted, "key": key, "address": own, "email": email, "mail": mail, "phone": phone, "name": name,
        "label": name.clone().unwrap_or_else(|| if own.is_empty() { contact.to_owned() } else { own.to_owned() }),
        "handle": text(from, "/handle"),
    })
}
