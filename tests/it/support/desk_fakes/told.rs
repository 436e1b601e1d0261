//! What a fake tells of what happened in it: lists of changed tickets and of entries, as polls ask for them. One mechanism for all
//! fakes: each has a table of its lists ([`Told`]) that says how a question is read, how a row looks, and how the answer is wrapped;
//! which rows, in which order and how many is decided here, from the room's own state.
//!
//! Agents and customers who work in the system itself are here too: [`Room::answers`], [`Room::notes`], [`Room::customer_says`],
//! [`Room::sets`].

use serde_json::Value;

use super::{Answer, Ask, Entry, Room, Ticket, answer};

/// Who wrote an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hand {
    /// The gateway, over the API.
    #[default]
    Gateway,
    /// An agent, in the system.
    Agent,
    /// The customer, in the system.
    Customer,
}

/// What state agents gave a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    #[default]
    Open,
    Pending,
    Resolved,
    Closed,
}

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct List {
    /// Only of this ticket.
    pub ticket: Option<u64>,
    /// Only this entry.
    pub entry: Option<u64>,
    /// What changed then or later.
    pub since_ms: i64,
    /// The same, counted back from now.
    pub ago_ms: Option<i64>,
    /// Behind this place, for lists from old to new that go on by the last row.
    pub behind: Option<(i64, u64)>,
    /// Entries before this one.
    pub before: Option<u64>,
    /// How fine the system's clock is; 0: milliseconds.
    pub unit_ms: i64,
    pub newest_first: bool,
    pub skip: usize,
    /// At most so many; 0: all.
    pub take: usize,
    /// An index is asked, which lags.
    pub indexed: bool,
    /// The next page is named in a `Link` header.
    pub linked: bool,
}

/// How a row looks; `None`: it is not of this list.
pub enum Row {
    Ticket(fn(&Ticket) -> Option<Value>),
    Entry(fn(&Ticket, &Entry) -> Option<Value>),
}

/// A list that a system tells.
pub struct Told {
    pub method: &'static str,
    /// Its path; `*` is any segment.
    pub path: &'static str,
    /// Reads the question. `Ok(None)`: it is for another list, or for no list at all.
    pub list: fn(&Ask) -> Result<Option<List>, String>,
    pub row: Row,
    /// Wraps the rows.
    pub answer: fn(&Page) -> Value,
}

/// A page of a list.
pub struct Page {
    pub rows: Vec<Value>,
    pub list: List,
    /// Rows of the whole list.
    pub total: usize,
}

impl Page {
    /// How many rows come before the next page, if there is one.
    pub fn next(&self) -> Option<usize> {
        let next = self.list.skip + self.rows.len();
        (next < self.total && !self.rows.is_empty()).then_some(next)
    }

    /// The `Link` header of the next page, where the list has one.
    fn link(&self, ask: &Ask) -> Option<String> {
        let next = self.next().filter(|_| self.list.linked)?;
        let mut query = ask.query.clone();
        query.insert("page".into(), (next / self.list.take + 1).to_string());
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&query).finish();
        Some(format!("<http://{}/{}?{query}>; rel=\"next\"", ask.header("host"), ask.path.join("/")))
    }
}

/// The answer to a question for a list; `None`: it is none.
pub fn tell(table: &[Told], ask: &Ask, room: &Room) -> Option<Result<Answer, String>> {
    for told in table.iter().filter(|told| told.method == ask.method && fits(told.path, &ask.path)) {
        match (told.list)(ask) {
            Ok(None) => {}
            Ok(Some(list)) if list.ticket.is_some_and(|id| room.there(id).is_none()) => return Some(Ok(answer(404, Value::Null))),
            Ok(Some(list)) => {
                let page = page(&told.row, list, room);
                let told = answer(200, (told.answer)(&page));
                return Some(Ok(match page.link(ask) {
                    Some(link) => told.with("link", link),
                    None => told,
                }));
            }
            Err(wrong) => return Some(Err(wrong)),
        }
    }
    None
}

fn fits(pattern: &str, path: &[String]) -> bool {
    let pattern: Vec<&str> = pattern.trim_matches('/').split('/').collect();
    pattern.len() == path.len() && pattern.iter().zip(path).all(|(wanted, is)| *wanted == "*" || wanted == is)
}

fn page(row: &Row, list: List, room: &Room) -> Page {
    let unit = list.unit_ms.max(1);
    let floor = |ms: i64| ms - ms.rem_euclid(unit);
    let tickets = room.tickets.iter().filter(|ticket| !ticket.gone && list.ticket.is_none_or(|id| id == ticket.id));
    let mut rows: Vec<(i64, u64, Value)> = match row {
        Row::Ticket(row) => tickets.filter_map(|ticket| Some((floor(ticket.updated_ms), ticket.id, row(ticket)?))).collect(),
        Row::Entry(row) => {
            let entries = tickets.flat_map(|ticket| ticket.entries.iter().map(move |entry| (ticket, entry)));
            let wanted = |entry: &Entry| list.entry.is_none_or(|id| id == entry.id) && list.before.is_none_or(|id| entry.id < id);
            entries
                .filter(|(_, entry)| wanted(entry))
                .filter_map(|(ticket, entry)| Some((floor(entry.at_ms), entry.id, row(ticket, entry)?)))
                .collect()
        }
    };
    let since = list.ago_ms.map_or(list.since_ms, |ago| room.now() - ago);
    let seen = room.now() - if list.indexed { room.lag_ms } else { 0 };
    rows.retain(|(at, id, _)| *at >= since && *at <= seen && list.behind.is_none_or(|behind| (*at, *id) > behind));
    rows.sort_by_key(|(at, id, _)| (*at, *id));
    if list.newest_first {
        rows.reverse();
    }
    let total = rows.len();
    let take = if list.take == 0 { usize::MAX } else { list.take };
    let rows = rows.into_iter().map(|(_, _, value)| value).skip(list.skip).take(take).collect();
    Page { rows, list, total }
}

impl Ticket {
    /// What an agent would say of its state.
    pub fn state(&self) -> State {
        if self.closed { State::Closed } else { self.word }
    }

    /// Agents are done with it.
    pub fn is_done(&self) -> bool {
        matches!(self.state(), State::Resolved | State::Closed)
    }

    /// One of four words for its state: open, pending, resolved, closed.
    pub fn pick<T>(&self, words: [T; 4]) -> T {
        let [open, pending, resolved, closed] = words;
        match self.state() {
            State::Open => open,
            State::Pending => pending,
            State::Resolved => resolved,
            State::Closed => closed,
        }
    }
}

impl Room {
    /// What time it is there.
    pub fn now(&self) -> i64 {
        if self.lives { jiff::Timestamp::now().as_millisecond() + self.now_ms } else { self.now_ms }
    }

    fn writes(&mut self, ticket: u64, hand: Hand, words: &str, public: bool) -> u64 {
        let (customer, author) = (hand == Hand::Customer, Some(if hand == Hand::Agent { AGENT } else { CUSTOMER }));
        self.write(ticket, Entry { text: words.to_owned(), customer, public, hand, author, ..Entry::default() }).unwrap()
    }

    /// An agent answers the customer.
    pub fn answers(&mut self, ticket: u64, words: &str) -> u64 {
        self.writes(ticket, Hand::Agent, words, true)
    }

    /// An agent writes a note for agents.
    pub fn notes(&mut self, ticket: u64, words: &str) -> u64 {
        self.writes(ticket, Hand::Agent, words, false)
    }

    /// The customer writes in the system itself, by its portal or by mail.
    pub fn customer_says(&mut self, ticket: u64, words: &str) -> u64 {
        self.writes(ticket, Hand::Customer, words, true)
    }

    /// An agent gives it a state.
    pub fn sets(&mut self, id: u64, state: State) {
        let now = self.now();
        let ticket = self.ticket(id).unwrap();
        (ticket.closed, ticket.word) = (state == State::Closed, state);
        (ticket.updated_ms, ticket.state_ms) = (now, now);
    }
}

/// The agent's number.
pub const AGENT: u64 = 900_001;
/// That of somebody who writes in the system itself.
pub const CUSTOMER: u64 = 900_002;

/// `2026-11-22T09:14:03.120Z`.
pub fn iso(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).unwrap().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// `2026-11-22T09:14:03Z`.
pub fn iso_s(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).unwrap().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `2026-11-22T09:14:03.120+0000`.
pub fn iso_offset(ms: i64) -> String {
    iso(ms).replace('Z', "+0000")
}

/// Milliseconds of a moment in RFC 3339.
pub fn ms_of(text: &str) -> Result<i64, String> {
    text.parse::<jiff::Timestamp>().map(|stamp| stamp.as_millisecond()).map_err(|error| format!("{text}: {error}"))
}

/// A number in a question; `default` if it is not there.
pub fn count(text: &str, default: usize) -> Result<usize, String> {
    if text.is_empty() { Ok(default) } else { text.parse().map_err(|_| format!("{text} is no number")) }
}
