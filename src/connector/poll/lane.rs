//! A lane: one list that is followed, with its cursors, from question to question.
//!
//! What must stay true: what is handed over goes from old to new, and a cursor moves only with what it covers. A list that comes
//! from new to old is therefore walked to its end first, within bounds; beyond them what was walked is handed over with a
//! cursor of its own (`walk`), which says how far down it got, and the place to go on from next time moves only at the end. So a
//! crash between two pages neither skips nor, but for what is recognised, repeats.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use url::Url;

use crate::connector::call::answer::Judged;
use crate::connector::call::{CallError, Filling};
use crate::connector::poll::page::{Next, Page, beyond, looked_back, print};
use crate::connector::poll::spec::{FromNow, Take};
use crate::connector::poll::{Poll, context};
use crate::model::raw::{RawHead, Via};
use crate::model::time::Time;
use crate::ports::feed::{Cursors, FeedBatch, Payload};
use crate::ports::http::{HttpAnswer, HttpRequest};

/// Pages of a list from new to old that are held before they are handed over.
const HELD_PAGES_MAX: usize = 50;
/// Their bytes.
const HELD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Pages without anything new, in a row, before a walk is given up: a platform whose pages never end.
const DULL_PAGES_MAX: u32 = 100;

/// What the first look does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// Only what comes from now on.
    FromNow,
    /// So many of the newest things that are there.
    Backfill(u64),
}

/// How far a lane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Age {
    /// It never looked.
    New,
    /// What was there before is being taken in.
    Historic,
    /// It follows.
    Live,
}

/// What the platform said about the last whole answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Tag {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    modified: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
}

/// Pages that are not handed over yet.
#[derive(Debug)]
struct Held {
    payload: Payload,
    ids: Vec<u64>,
    cursor: Value,
}

/// A walk that handed over what it held before it came to its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Deep {
    page: Value,
    top: Value,
}

/// A walk through the pages.
#[derive(Debug)]
struct Walk {
    page: Value,
    address: Option<Url>,
    held: Vec<Held>,
    bytes: usize,
    count: u64,
    dull: u32,
    /// The greatest place it saw.
    top: Value,
    deep: bool,
}

/// What an answer gave.
#[derive(Debug, Default)]
pub struct Step {
    /// To be admitted, in this order.
    pub batches: Vec<FeedBatch>,
    /// The next page is to be asked for.
    pub again: bool,
    /// Things that are new.
    pub fresh: u64,
    /// The newest cursor of the poll that fills this one's gaps.
    pub mark: Option<String>,
}

/// One list that is followed.
#[derive(Debug)]
pub struct Lane {
    part: Value,
    suffix: String,
    begin: Begin,
    age: Age,
    cursor: Value,
    seen: VecDeque<u64>,
    tag: Tag,
    deep: Option<Deep>,
    /// The cursor is one that the first look began at, and not written down yet.
    unsaved: bool,
    walk: Option<Walk>,
}

/// What fills its requests beside what it knows itself.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Settings of the channel.
    pub settings: &'a Value,
    /// Secrets of the channel.
    pub secrets: &'a BTreeMap<String, Vec<SecretString>>,
    /// The token of its auth, where that is no plain secret.
    pub token: Option<&'a SecretString>,
    /// What was registered.
    pub session: &'a Value,
    /// Time.
    pub now: Time,
}

fn joined(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.get("id").map_or_else(|| other.to_string(), |id| id.as_str().map_or_else(|| id.to_string(), str::to_owned)),
    }
}

impl Lane {
    /// The lane of a poll, or of a part of it, going on from what is durable.
    pub fn load(poll: &Poll, part: Value, begin: Begin, cursors: &Cursors) -> Self {
        let name = joined(&part);
        let suffix = match name.len() {
            0 => poll.name.clone(),
            1..=64 => format!("{}/{name}", poll.name),
            _ => format!("{}/#{:016x}", poll.name, print(&name)),
        };
        let known = |what: &str| cursors.get(&format!("{what}/{suffix}"));
        let age = known("age").and_then(|text| serde_json::from_value(Value::from(text.as_str())).ok());
        let seen = known("seen").map(|text| text.split(' ').filter_map(|print| u64::from_str_radix(print, 16).ok()).collect());
        Self {
            cursor: known("cursor").map_or(Value::Null, |text| Value::from(text.as_str())),
            tag: known("tag").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
            deep: known("walk").and_then(|text| serde_json::from_str(text).ok()),
            seen: seen.unwrap_or_default(),
            age: age.unwrap_or(Age::New),
            walk: None,
            unsaved: false,
            part,
            suffix,
            begin,
        }
    }

    /// Which part it is, for people.
    pub fn part_name(&self) -> String {
        joined(&self.part)
    }

    /// The next question.
    ///
    /// # Errors
    /// [`CallError`]: a value is missing, or the address leads where it must not.
    pub fn request(&mut self, poll: &Poll, with: &Surroundings<'_>) -> Result<HttpRequest, CallError> {
        self.start(poll, with)?;
        let (page, address) = match (&self.walk, &self.deep) {
            (Some(walk), _) => (walk.page.clone(), walk.address.clone()),
            (None, Some(deep)) => (deep.page.clone(), None),
            (None, None) => (poll.first_page(), None),
        };
        let address = address.or_else(|| page.as_str().filter(|_| poll.walks_by_address()).and_then(|text| Url::parse(text).ok()));
        let spec = poll.spec.cursor.as_ref();
        let initial = || spec.and_then(|spec| spec.initial.clone()).map_or(Value::Null, Value::from);
        let cursor = if self.cursor.is_null() { initial() } else { looked_back(&self.cursor, spec.map_or(0, |spec| spec.lookback)) };
        let context = context(with.settings, &self.part, &cursor, &page, with.session, with.now);
        let filling = Filling { context: &context, secrets: with.secrets, token: with.token, files: &[] };
        let first = self.walk.is_none() && self.deep.is_none();
        let mut request = poll.call.render_at(&filling, address)?;
        if poll.spec.conditional && first {
            let header = |name: &str, value: &Option<String>| value.clone().map(|value| (name.to_owned(), value));
            request.headers.extend(header("if-none-match", &self.tag.etag));
            request.headers.extend(header("if-modified-since", &self.tag.modified));
        }
        Ok(request)
    }

    /// The first look of all.
    fn start(&mut self, poll: &Poll, with: &Surroundings<'_>) -> Result<(), CallError> {
        if self.age != Age::New || self.walk.is_some() || !self.cursor.is_null() {
            return Ok(());
        }
        let (FromNow::Start(_), Begin::FromNow, Some(start)) = (&poll.spec.from_now, self.begin, &poll.start) else { return Ok(()) };
        let context = context(with.settings, &self.part, &Value::Null, &Value::Null, with.session, with.now);
        let filling = Filling { context: &context, secrets: with.secrets, token: None, files: &[] };
        self.unsaved = true;
        self.cursor = Value::from(start.fill(&filling, crate::connector::call::template::Position::Plain)?);
        self.age = Age::Live;
        Ok(())
    }

    /// Where it is.
    pub fn place(&self) -> Value {
        self.cursor.clone()
    }

    /// The cursor to begin with, as the platform said when it registered us.
    pub fn registered(&mut self, cursor: &Value) {
        (self.walk, self.deep, self.age) = (None, None, Age::Live);
        self.cursor = Value::from(joined(cursor));
    }

    /// A cursor that another lane set; it only goes forward.
    pub fn mark(&mut self, cursor: &str) {
        let cursor = Value::from(cursor);
        if beyond(&cursor, &self.cursor) {
            (self.cursor, self.age) = (cursor, Age::Live);
        }
    }

    /// The platform no longer knows where we were: first the walk is given up, then the cursor. What comes again is recognised.
    pub fn lose(&mut self) -> FeedBatch {
        let walking = self.walk.take().is_some() | self.deep.take().is_some();
        if !walking {
            self.cursor = Value::Null;
            self.tag = Tag::default();
            // What is there is no history: we followed until now.
            self.age = Age::Live;
        }
        let gone = |what: &str| (format!("{what}/{}", self.suffix), None);
        let cursors = if walking { vec![gone("walk")] } else { vec![gone("walk"), gone("cursor"), gone("tag"), self.age_cursor()] };
        FeedBatch { payloads: Vec::new(), cursors }
    }

    /// Takes an answer that means `ok`, of the moment `now` by our clock.
    ///
    /// # Errors
    /// One line: the answer is not what the manifest says.
    pub fn answer(&mut self, poll: &Poll, answer: &HttpAnswer, judged: &Judged, now: Time) -> Result<Step, String> {
        if answer.status == 304 {
            self.walk = None;
            return Ok(Step::default());
        }
        let floor = poll.spec.cursor.as_ref().map_or(Value::Null, |spec| looked_back(&self.cursor, spec.lookback));
        let mut page =
            poll.page(judged, &answer.body, &floor, &self.seen, answer.header("date").and_then(Time::parse_http).unwrap_or(now))?;
        let hash = Sha256::digest(&answer.body).iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>();
        let whole = poll.spec.items.is_none() && !poll.spec.long_poll;
        if whole && self.tag.hash.as_ref() == Some(&hash) {
            (page.body, page.fresh) = (None, 0);
        }
        let first = self.walk.is_none() && self.deep.is_none();
        let deep = self.deep.clone();
        let mut walk = self.walk.take().unwrap_or_else(|| Walk {
            page: deep.as_ref().map_or_else(|| poll.first_page(), |deep| deep.page.clone()),
            address: None,
            held: Vec::new(),
            bytes: 0,
            count: 0,
            dull: 0,
            top: deep.as_ref().map_or(Value::Null, |deep| deep.top.clone()),
            deep: deep.is_some(),
        });
        if first && (poll.spec.conditional || whole) {
            let header = |name: &str| answer.header(name).map(str::to_owned);
            self.tag = Tag { etag: header("etag"), modified: header("last-modified"), hash: Some(hash).filter(|_| whole) };
        }
        let mark = poll.mark.as_ref().and_then(|mark| judged.take(mark).ok()).map(|mark| joined(&mark)).filter(|mark| !mark.is_empty());
        let next = self.next(poll, judged, &page, &walk)?;
        let mut step = Step { again: next != Next::None, fresh: page.fresh, mark, ..Step::default() };
        self.hold(poll, answer, page, &mut walk);
        match next {
            Next::None => step.batches = self.finish(poll, walk),
            Next::Page(to) => {
                walk.page = to;
                step.batches = self.go_on(poll, walk);
            }
            Next::Address(text) => {
                // What leads elsewhere is refused when it is rendered.
                walk.address = Some(Url::parse(&text).map_err(|_| "the address of the next page is no URL".to_owned())?);
                walk.page = Value::from(text);
                step.batches = self.go_on(poll, walk);
            }
        }
        Ok(step)
    }

    /// Where the next page is, if it is wanted.
    fn next(&self, poll: &Poll, judged: &Judged, page: &Page, walk: &Walk) -> Result<Next, String> {
        let count = walk.count + page.count;
        let enough = match (self.age, self.begin) {
            (Age::New | Age::Historic, Begin::Backfill(max)) => poll.newest_first() && count >= max,
            // What is only marked as seen need not be seen whole where the newest comes first.
            (Age::New, Begin::FromNow) => poll.newest_first() && poll.spec.from_now == FromNow::MarkSeen,
            _ => false,
        };
        let reached = poll.newest_first() && page.known && (poll.spec.until_known || poll.each.is_some());
        let stopped = match &poll.stop {
            None => false,
            Some(stop) => {
                let status = Value::from(judged.status);
                let vars = [&status, &judged.headers, &self.cursor];
                let said = stop.truthy_of(crate::connector::jq::Input::Value(&judged.body), &vars);
                said.map_err(|error| format!("its jq fails on an answer: {error}"))?
            }
        };
        let dull = walk.dull >= DULL_PAGES_MAX;
        if enough || reached || stopped || dull { Ok(Next::None) } else { poll.next(judged, page, &walk.page, walk.count) }
    }

    /// Puts what is new of a page where it is held.
    fn hold(&mut self, poll: &Poll, answer: &HttpAnswer, page: Page, walk: &mut Walk) {
        walk.count += page.count;
        walk.dull = if page.fresh == 0 { walk.dull + 1 } else { 0 };
        let greatest = poll.spec.cursor.as_ref().is_some_and(|spec| spec.take == Take::Max);
        // The first page of a list from new to old says where it ends.
        let counts = if greatest || poll.newest_first() { beyond(&page.cursor, &walk.top) } else { !page.cursor.is_null() };
        if counts && (greatest || !poll.newest_first() || walk.top.is_null()) {
            walk.top = page.cursor.clone();
        }
        let marked = self.age == Age::New && self.begin == Begin::FromNow && poll.spec.from_now == FromNow::MarkSeen;
        if marked && poll.spec.items.is_some() {
            self.remember(poll, &page.ids);
            return;
        }
        let Some(body) = page.body else { return };
        if self.age == Age::New {
            let history = marked || (matches!(self.begin, Begin::Backfill(_)) && poll.spec.from_now != FromNow::Take);
            self.age = if history { Age::Historic } else { Age::Live };
        }
        let head = RawHead {
            target: format!(
                "{}?{}",
                poll.name,
                url::form_urlencoded::Serializer::new(String::new()).append_pair("part", &self.part_name()).finish()
            ),
            headers: answer.header("content-type").map(|kind| ("content-type".to_owned(), kind.to_owned())).into_iter().collect(),
            place: Some(poll.name.clone()),
            ..RawHead::default()
        };
        walk.bytes += body.len();
        let payload = Payload { via: Via::Poll, head, body, historic: self.age == Age::Historic };
        walk.held.push(Held { payload, ids: page.ids, cursor: page.cursor });
    }

    /// What can be handed over while the walk goes on.
    fn go_on(&mut self, poll: &Poll, mut walk: Walk) -> Vec<FeedBatch> {
        let mut batches = Vec::new();
        if !poll.newest_first() {
            for held in std::mem::take(&mut walk.held) {
                let top = walk.top.clone();
                batches.push(self.hand_over(poll, held, Some(&top)));
            }
        } else if walk.held.len() >= HELD_PAGES_MAX || walk.bytes >= HELD_BYTES_MAX {
            walk.deep = true;
            let deep = Deep { page: walk.page.clone(), top: walk.top.clone() };
            for held in std::mem::take(&mut walk.held).into_iter().rev() {
                batches.push(self.hand_over(poll, held, None));
            }
            walk.bytes = 0;
            if let Some(last) = batches.last_mut() {
                last.cursors.push((format!("walk/{}", self.suffix), serde_json::to_string(&deep).ok()));
            }
            self.deep = Some(deep);
        }
        self.walk = Some(walk);
        batches
    }

    /// The walk is at its end: everything that is held, and the cursors.
    fn finish(&mut self, poll: &Poll, walk: Walk) -> Vec<FeedBatch> {
        let deep = walk.deep;
        let held: Vec<Held> = if poll.newest_first() { walk.held.into_iter().rev().collect() } else { walk.held };
        let mut batches = Vec::new();
        for held in held {
            // From old to new: what is handed over so far is covered by its own place.
            let place = if poll.newest_first() { held.cursor.clone() } else { walk.top.clone() };
            batches.push(self.hand_over(poll, held, Some(&place).filter(|_| !deep)));
        }
        let mut last = batches.pop().unwrap_or_default();
        let before = (self.cursor.clone(), self.age);
        self.advance(poll, &walk.top);
        self.age = Age::Live;
        // Where the first look began is kept even if it brought nothing: what is written before the next one is new.
        let unsaved = std::mem::take(&mut self.unsaved);
        if unsaved || self.cursor != before.0 || !last.payloads.is_empty() {
            last.cursors.retain(|(name, _)| !name.starts_with("cursor/"));
            last.cursors.extend(self.cursor_text().map(|text| (format!("cursor/{}", self.suffix), Some(text))));
        }
        if unsaved || before.1 != Age::Live || !last.payloads.is_empty() {
            last.cursors.retain(|(name, _)| !name.starts_with("age/") && !name.starts_with("seen/"));
            last.cursors.push(self.age_cursor());
            last.cursors.extend(self.seen_cursor(poll));
        }
        if poll.spec.conditional || self.tag.hash.is_some() {
            last.cursors.push((format!("tag/{}", self.suffix), serde_json::to_string(&self.tag).ok()));
        }
        if deep {
            self.deep = None;
            last.cursors.push((format!("walk/{}", self.suffix), None));
        }
        // A tag that did not change is not worth a write.
        if !last.payloads.is_empty() || last.cursors.iter().any(|(name, _)| !name.starts_with("tag/")) {
            batches.push(last);
        }
        batches
    }

    /// One page, with what is known once it is durable.
    fn hand_over(&mut self, poll: &Poll, held: Held, place: Option<&Value>) -> FeedBatch {
        self.remember(poll, &held.ids);
        let mut cursors: Vec<_> = self.seen_cursor(poll).into_iter().collect();
        if let Some(place) = place {
            self.advance(poll, place);
            cursors.extend(self.cursor_text().map(|text| (format!("cursor/{}", self.suffix), Some(text))));
        }
        cursors.push(self.age_cursor());
        FeedBatch { payloads: vec![held.payload], cursors }
    }

    fn advance(&mut self, poll: &Poll, place: &Value) {
        let greatest = poll.spec.cursor.as_ref().is_some_and(|spec| spec.take == Take::Max);
        if !place.is_null() && (!greatest || beyond(place, &self.cursor)) {
            self.cursor = Value::from(joined(place));
        }
    }

    fn remember(&mut self, poll: &Poll, ids: &[u64]) {
        self.seen.extend(ids);
        while self.seen.len() > poll.spec.seen {
            self.seen.pop_front();
        }
    }

    fn cursor_text(&self) -> Option<String> {
        (!self.cursor.is_null()).then(|| joined(&self.cursor))
    }

    fn age_cursor(&self) -> (String, Option<String>) {
        let word = match self.age {
            Age::New => None,
            Age::Historic => Some("historic".to_owned()),
            Age::Live => Some("live".to_owned()),
        };
        (format!("age/{}", self.suffix), word)
    }

    fn seen_cursor(&self, poll: &Poll) -> Option<(String, Option<String>)> {
        let texts: Vec<String> = self.seen.iter().map(|print| format!("{print:x}")).collect();
        (poll.spec.seen > 0).then(|| (format!("seen/{}", self.suffix), Some(texts.join(" "))))
    }
}

impl Poll {
    fn walks_by_address(&self) -> bool {
        use crate::connector::poll::spec::PageSpec;
        matches!(self.spec.page, Some(PageSpec::LinkHeader { .. } | PageSpec::NextUrl { .. }))
    }
}

/// The bytes that an answer weighs in a budget.
pub fn weight(answer: &HttpAnswer) -> u64 {
    let headers: usize = answer.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    Bytes::len(&answer.body) as u64 + headers as u64
}
