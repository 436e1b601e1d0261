//! Strict fakes of ticket systems, each written from its own description: they check who asks, every field of every body, give their
//! own limits in their own words, keep our ids as they would, and let their index lag. What a fake does not know it refuses and
//! writes down in [`Room::wrong`].
//!
//! The room behind all of them is one: tickets with entries and files. Faults are planned for what a request does (a ticket, an
//! entry, a file), not for how it looks, so that one test serves every system.

pub mod budget;
pub mod chats;
pub mod crm;
pub mod issues;
pub mod suites;
pub mod told;
pub mod zen;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use budget::Budget;
use told::{Hand, State, Told};

use crate::support::http1::{Message, Wire, response};

/// An entry of a ticket.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    pub id: u64,
    /// Our id, where the system has a place for it.
    pub ours: String,
    pub text: String,
    /// The customer wrote it, or the gateway for her; else it is for agents.
    pub customer: bool,
    pub author: Option<u64>,
    pub files: Vec<(String, Vec<u8>)>,
    /// Who wrote it, and whether the customer may see what an agent did.
    pub hand: Hand,
    pub public: bool,
    pub at_ms: i64,
}

/// A ticket.
#[derive(Debug, Clone, Default)]
pub struct Ticket {
    pub id: u64,
    pub external: String,
    pub subject: String,
    pub person: Option<u64>,
    pub closed: bool,
    pub gone: bool,
    pub merged: Option<u64>,
    /// What it says of the ticket that it goes on from.
    pub before: Option<String>,
    pub entries: Vec<Entry>,
    /// From then on the index knows it.
    pub indexed_ms: i64,
    /// What agents say of it while it is not closed.
    pub word: State,
    pub state_ms: i64,
    pub updated_ms: i64,
}

/// What a request did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Did {
    Ticket,
    Entry,
    File,
}

/// What goes wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// It is carried out, and its answer never comes.
    AnswerLost,
    /// It never arrives.
    RequestLost,
    /// Too many.
    Busy,
    /// The credential is not accepted.
    Denied,
    /// It is carried out twice: something on the way repeated it.
    Twice,
    /// It can never work, in these words.
    Refused(String),
}

/// What a system holds.
#[derive(Debug, Clone, Default)]
pub struct Room {
    pub tickets: Vec<Ticket>,
    /// Calls that are taken until some seconds passed without one that is refused; none: any number.
    pub budget: Option<Budget>,
    /// Our key of each person, by the system's id.
    pub people: BTreeMap<u64, String>,
    pub uploads: BTreeMap<String, (String, Vec<u8>)>,
    /// Idempotency keys, with the body each came with and the ticket it made.
    pub keys: BTreeMap<String, (Bytes, u64)>,
    pub now_ms: i64,
    /// Its clock is the real one, `now_ms` ahead.
    pub lives: bool,
    /// What is made now is in the index only after this.
    pub lag_ms: i64,
    /// Access token that is good, where tokens are got.
    pub token: u64,
    /// Fields that destinations need are not there until they are made.
    pub bare: bool,
    pub made: BTreeSet<String>,
    /// What was asked that the system does not know.
    pub wrong: Vec<String>,
    pub asked: Vec<String>,
    faults: VecDeque<(Did, Wrong)>,
    did: Option<Did>,
    last: u64,
}

impl Room {
    pub fn id(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Makes a ticket.
    pub fn open(&mut self, external: &str, subject: &str) -> &mut Ticket {
        let id = self.id();
        let now = self.now();
        self.did = Some(Did::Ticket);
        self.tickets.push(Ticket {
            id,
            external: external.to_owned(),
            subject: subject.to_owned(),
            indexed_ms: now + self.lag_ms,
            updated_ms: now,
            state_ms: now,
            ..Ticket::default()
        });
        self.tickets.last_mut().unwrap()
    }

    /// Writes an entry.
    pub fn write(&mut self, ticket: u64, mut entry: Entry) -> Result<u64, String> {
        (entry.id, entry.at_ms) = (self.id(), self.now());
        let (id, now) = (entry.id, entry.at_ms);
        self.did = Some(self.did.unwrap_or(Did::Entry));
        let ticket = self.ticket(ticket)?;
        ticket.updated_ms = now;
        ticket.entries.push(entry);
        Ok(id)
    }

    /// Attaches a file to the last entry.
    pub fn attach(&mut self, ticket: u64, file: (String, Vec<u8>)) -> Result<(), String> {
        self.did = Some(Did::File);
        self.ticket(ticket)?.entries.last_mut().ok_or("a file without an entry")?.files.push(file);
        Ok(())
    }

    pub fn ticket(&mut self, id: u64) -> Result<&mut Ticket, String> {
        self.tickets.iter_mut().find(|ticket| ticket.id == id).ok_or(format!("no ticket {id}"))
    }

    /// A ticket that takes calls; `None` if it is not there.
    pub fn there(&self, id: u64) -> Option<&Ticket> {
        self.tickets.iter().find(|ticket| ticket.id == id && !ticket.gone)
    }

    /// Tickets with our id: all, or those that the index knows.
    pub fn with(&self, external: &str, indexed: bool) -> Vec<&Ticket> {
        let seen = |ticket: &&Ticket| ticket.external == external && !ticket.gone && (!indexed || ticket.indexed_ms <= self.now());
        self.tickets.iter().filter(seen).collect()
    }

    /// Keeps a file that is handed over before its entry.
    pub fn keep(&mut self, token: &str, file: (String, Vec<u8>)) {
        self.did = Some(Did::File);
        self.uploads.insert(token.to_owned(), file);
    }

    /// The files of these tokens; each is used once.
    pub fn take_uploads(&mut self, tokens: &[String]) -> Result<Vec<(String, Vec<u8>)>, String> {
        tokens.iter().map(|token| self.uploads.remove(token).ok_or(format!("no upload {token}"))).collect()
    }

    /// Whether a field that destinations need is there.
    pub fn has_field(&self, name: &str) -> bool {
        !self.bare || self.made.contains(name)
    }

    /// Opens a closed ticket again.
    pub fn reopen(&mut self, id: u64) -> Result<(), String> {
        let now = self.now();
        let ticket = self.ticket(id)?;
        if !ticket.is_done() {
            return Err(format!("ticket {id} is open"));
        }
        (ticket.closed, ticket.word) = (false, State::Open);
        (ticket.updated_ms, ticket.state_ms) = (now, now);
        Ok(())
    }

    /// It is said of a ticket, where only agents see it, that another of the same conversation goes on in its place.
    pub fn second_of(&mut self, id: u64, words: &str, hidden: bool) -> Result<(), String> {
        let external = self.ticket(id)?.external.clone();
        let first =
            self.tickets.iter().find(|ticket| ticket.external == external && ticket.id != id && words.contains(&ticket.id.to_string()));
        let first = first.filter(|_| hidden).ok_or(format!("no note in {id} about the other ticket"))?.id;
        self.ticket(id)?.before = Some(first.to_string());
        Ok(())
    }

    /// Closes a ticket of which that was said.
    pub fn close_second(&mut self, id: u64) -> Result<(), String> {
        let ticket = self.ticket(id)?;
        if ticket.before.is_none() {
            return Err(format!("ticket {id} is closed without a word"));
        }
        (ticket.closed, ticket.gone) = (true, true);
        Ok(())
    }

    /// Somebody with our key.
    pub fn person(&mut self, key: &str) -> u64 {
        if let Some((id, _)) = self.people.iter().find(|(_, known)| *known == key) {
            return *id;
        }
        let id = self.id();
        self.people.insert(id, key.to_owned());
        id
    }
}

/// A request.
pub struct Ask {
    pub method: String,
    /// Segments of the path, decoded, without a prefix.
    pub path: Vec<String>,
    pub query: BTreeMap<String, String>,
    message: Message,
}

/// A part of a form.
#[derive(Debug, Clone)]
pub struct Part {
    pub name: String,
    pub file: Option<String>,
    pub bytes: Vec<u8>,
}

impl Ask {
    fn new(message: Message) -> Option<Self> {
        let mut words = message.start.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?);
        let url = url::Url::parse(&format!("http://fake{target}")).ok()?;
        let decoded = |segment: &str| percent(segment);
        let path = url.path_segments()?.map(decoded).collect();
        let query = url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        Some(Self { method, path, query, message })
    }

    /// `GET a/b/c`, for matching.
    pub fn line(&self) -> (String, Vec<&str>) {
        (self.method.clone(), self.path.iter().map(String::as_str).collect())
    }

    pub fn header(&self, name: &str) -> &str {
        self.message.header(name).unwrap_or_default()
    }

    pub fn q(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    /// The body, which must be JSON and said to be.
    pub fn json(&self) -> Result<Value, String> {
        if !self.header("content-type").starts_with("application/json") {
            return Err(format!("content type {}", self.header("content-type")));
        }
        serde_json::from_slice(&self.message.body).map_err(|error| error.to_string())
    }

    pub fn body(&self) -> &Bytes {
        &self.message.body
    }

    /// Fields of a urlencoded body.
    pub fn form(&self) -> BTreeMap<String, String> {
        url::form_urlencoded::parse(&self.message.body).map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
    }

    /// Parts of a multipart body.
    pub fn parts(&self) -> Result<Vec<Part>, String> {
        let kind = self.header("content-type");
        let boundary = kind.strip_prefix("multipart/form-data; boundary=").ok_or(format!("content type {kind}"))?.trim_matches('"');
        let (mark, body) = (format!("--{boundary}"), self.message.body.to_vec());
        let starts: Vec<usize> =
            body.windows(mark.len()).enumerate().filter(|(_, bytes)| *bytes == mark.as_bytes()).map(|(at, _)| at).collect();
        let mut parts = Vec::new();
        for pair in starts.windows(2) {
            let part = &body[pair[0] + mark.len() + 2..pair[1] - 2];
            let end = part.windows(4).position(|four| four == b"\r\n\r\n").ok_or("a part without a head")?;
            let head = String::from_utf8_lossy(&part[..end]).into_owned();
            let of = |key: &str| {
                let rest = &head[head.find(&format!("{key}=\""))? + key.len() + 2..];
                Some(rest[..rest.find('"')?].to_owned())
            };
            let named = of(" name").ok_or("a part without a name")?;
            parts.push(Part { name: named, file: of("filename"), bytes: part[end + 4..].to_vec() });
        }
        Ok(parts)
    }
}

fn percent(segment: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let hex: String = bytes.by_ref().take(2).map(char::from).collect();
            out.push(u8::from_str_radix(&hex, 16).unwrap_or(b'?'));
        } else {
            out.push(byte);
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Values of plain parts, files apart; a field that is not on the list is an error.
pub fn fields(parts: Vec<Part>, known: &[&str]) -> Result<(BTreeMap<String, String>, Vec<(String, Vec<u8>)>), String> {
    let (mut values, mut files) = (BTreeMap::new(), Vec::new());
    for part in parts {
        if !known.contains(&part.name.as_str()) {
            return Err(format!("unknown field {}", part.name));
        }
        match part.file {
            Some(name) => files.push((name, part.bytes)),
            None => drop(values.insert(part.name, String::from_utf8_lossy(&part.bytes).into_owned())),
        }
    }
    Ok((values, files))
}

/// An answer.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Value,
}

pub fn answer(status: u16, body: Value) -> Answer {
    Answer { status, headers: Vec::new(), body }
}

impl Answer {
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }
}

/// A text that must be there.
pub fn text(value: &Value, at: &str) -> Result<String, String> {
    value.pointer(at).and_then(Value::as_str).map(str::to_owned).ok_or(format!("{at} is no text"))
}

/// A number that must be there.
pub fn number(value: &Value, at: &str) -> Result<u64, String> {
    value.pointer(at).and_then(Value::as_u64).ok_or(format!("{at} is no number"))
}

/// No other fields than these.
pub fn only(value: &Value, at: &str, known: &[&str]) -> Result<(), String> {
    let object = value.pointer(at).and_then(Value::as_object).ok_or(format!("{at} is no object"))?;
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("{at}: unknown field {key}")),
        None => Ok(()),
    }
}

/// `files` in base64, by the names of their fields.
pub fn decoded(list: &Value, name: &str, data: &str) -> Result<Vec<(String, Vec<u8>)>, String> {
    use base64::Engine;
    let one = |file: &Value| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text(file, data)?).map_err(|error| error.to_string())?;
        Ok((text(file, name)?, bytes))
    };
    list.as_array().ok_or("files are no list")?.iter().map(one).collect()
}

/// A ticket system.
pub trait System: Send + Sync {
    /// Name of its folder.
    fn name(&self) -> &'static str;
    /// Settings of a destination at `url`.
    fn settings(&self, url: &str) -> Value;
    /// Its secret.
    fn secret(&self) -> (&'static str, &'static str);
    /// Whether a request proves who asks.
    fn proven(&self, ask: &Ask, room: &Room) -> bool;
    /// Its words for a credential that is not accepted.
    fn denied(&self) -> Answer;
    /// Its words for too many calls: wait 7 seconds.
    fn busy(&self) -> Answer;
    /// Its words for what can never work.
    fn refused(&self, words: &str) -> Answer;
    /// Its answer. `Err`: the system does not know this.
    fn answer(&self, ask: &Ask, room: &mut Room) -> Result<Answer, String>;
    /// The lists that it tells.
    fn told(&self) -> &'static [Told] {
        &[]
    }
    /// Entries carry our id where only the system sees it, or at their end.
    fn holds(&self, entry: &Entry, id: &str) -> bool {
        entry.ours == id
    }
    /// What must not stand in an entry of the text `HOSTILE`.
    fn harmful(&self) -> &'static [&'static str] {
        &["<script>"]
    }
    /// Longest text of an entry, characters.
    fn chars_max(&self) -> usize {
        65_535
    }
    /// Seconds that [`System::busy`] asks for.
    fn patience_s(&self) -> u64 {
        7
    }
    /// Notes are for agents alone; else the system has one kind of entries.
    fn hides_notes(&self) -> bool {
        true
    }
    /// Files go along; else they are named.
    fn takes_files(&self) -> bool {
        true
    }
    /// What becomes of a ticket that was merged: it is followed, or goes on in another one like a closed one.
    fn follows_merged(&self) -> bool {
        true
    }
    /// It has a state for tickets that wait for the customer.
    fn pends(&self) -> bool {
        true
    }
    /// A closed ticket can be opened again.
    fn reopens(&self) -> bool {
        true
    }
    /// A second ticket of a conversation is not made, or is closed. Where the search lags it may not be seen in time.
    fn folds(&self) -> bool {
        true
    }
    /// Fields that `prepare` makes.
    fn fields(&self) -> &'static [&'static str] {
        &[]
    }
    /// Tickets are closed, deleted and looked for at all.
    fn has_tickets(&self) -> bool {
        true
    }
}

/// A fake that listens.
pub struct Fake {
    pub address: SocketAddr,
    pub room: Arc<Mutex<Room>>,
}

impl Fake {
    pub async fn start(system: &'static dyn System) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let room = Arc::new(Mutex::new(Room { token: 1, ..Room::default() }));
        let serving = room.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (room, mut wire) = (serving.clone(), Wire::new(client));
                tokio::spawn(async move {
                    while let Ok(Some(asked)) = wire.read().await {
                        let Some(bytes) = exchange(system, &room, asked) else { return };
                        if wire.stream.write_all(&bytes).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, room }
    }

    /// Its clock is the real one.
    pub async fn living(system: &'static dyn System) -> Self {
        let fake = Self::start(system).await;
        fake.room.lock().unwrap().lives = true;
        fake
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Nothing goes wrong any more.
    pub fn calm(&self) {
        self.room.lock().unwrap().faults.clear();
    }

    /// Faults that did not happen yet.
    pub fn planned(&self) -> usize {
        self.room.lock().unwrap().faults.len()
    }

    /// This happens to the next request that does `did`.
    pub fn plan(&self, did: Did, wrong: Wrong) {
        self.room.lock().unwrap().faults.push_back((did, wrong));
    }
}

/// The bytes of an answer; none if the connection ends.
fn exchange(system: &dyn System, room: &Mutex<Room>, asked: Message) -> Option<Vec<u8>> {
    let ask = Ask::new(asked)?;
    let mut room = room.lock().unwrap();
    room.asked.push(ask.message.start.clone());
    let now = room.now();
    if room.budget.as_mut().is_some_and(|budget| !budget.takes(now)) {
        let Answer { status, headers, body } = system.busy();
        return Some(response(status, &headers, body.to_string().as_bytes()));
    }
    let before = room.clone();
    room.did = None;
    let answered = if system.proven(&ask, &room) {
        told::tell(system.told(), &ask, &room).unwrap_or_else(|| system.answer(&ask, &mut room))
    } else {
        Ok(system.denied())
    };
    let mut answered = answered.unwrap_or_else(|wrong| {
        *room = before.clone();
        room.wrong.push(format!("{}: {wrong}", ask.message.start));
        system.refused(&wrong)
    });
    if let Some((did, wrong)) = room.faults.front().cloned()
        && room.did == Some(did)
    {
        if !matches!(wrong, Wrong::AnswerLost | Wrong::Twice) {
            *room = before;
        }
        room.faults.pop_front();
        answered = match wrong {
            Wrong::AnswerLost | Wrong::RequestLost => return None,
            Wrong::Twice => system.answer(&ask, &mut room).unwrap_or_else(|wrong| system.refused(&wrong)),
            Wrong::Busy => system.busy(),
            Wrong::Denied => system.denied(),
            Wrong::Refused(words) => system.refused(&words),
        };
    }
    let mut headers = answered.headers;
    headers.push(("content-type".to_owned(), "application/json; charset=utf-8".to_owned()));
    let body = if answered.body.is_null() { Vec::new() } else { answered.body.to_string().into_bytes() };
    Some(response(answered.status, &headers, &body))
}

/// All of them.
pub fn all() -> [&'static dyn System; 10] {
    [
        &zen::Zendesk,
        &zen::ZendeskChannel,
        &suites::Zammad,
        &suites::Freshdesk,
        &issues::JiraDesk,
        &crm::HubSpot,
        &crm::Salesforce,
        &chats::Chatwoot,
        &issues::GitHub,
        &chats::HelpScout,
    ]
}
