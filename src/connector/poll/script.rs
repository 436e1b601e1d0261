//! Scripts: a poll's fixture. `poll.toml` of a case holds canned answers; what is asked, what becomes of it and which cursors
//! remain is compared with `expected.json`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::connector::call::Filling;
use crate::connector::call::answer::Meaning;
use crate::connector::load::Connector;
use crate::connector::poll::follow::Asking;
use crate::connector::poll::lane::{Begin, Lane, Surroundings};
use crate::connector::poll::{Poll, context};
use crate::connector::reader::{ReadContext, Reader};
use crate::model::item::Item;
use crate::model::time::Time;
use crate::ports::feed::{Cursors, FeedBatch, Payload};
use crate::ports::http::{HttpAnswer, HttpBody, HttpRequest};

/// `poll.toml` of a case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    /// Which poll; the only one if missing.
    #[serde(default)]
    poll: Option<String>,
    /// Which part.
    #[serde(default)]
    part: Option<Value>,
    /// The first look takes in so many of what is there.
    #[serde(default)]
    backfill: Option<u64>,
    /// What is durable before.
    #[serde(default)]
    cursors: BTreeMap<String, String>,
    exchange: Vec<Exchange>,
}

/// One answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exchange {
    #[serde(default = "ok")]
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: String,
    /// The body is this file of the case.
    #[serde(default)]
    file: Option<String>,
}

fn ok() -> u16 {
    200
}

/// What a script gave.
pub(crate) struct Played {
    /// Name of the poll.
    pub poll: String,
    /// What became of its pages.
    pub items: Vec<Item>,
    /// What was asked, in order, and what remains.
    pub shown: Map<String, Value>,
}

/// What the case says beside the script.
pub(crate) struct Stage<'a> {
    /// Reads.
    pub reader: &'a Reader,
    /// The clock.
    pub now: Time,
    /// Files of the case.
    pub file: &'a dyn Fn(&str) -> Option<Bytes>,
}

/// Plays a script.
///
/// # Errors
/// One line: it cannot be played, or an answer is not what the manifest says.
pub(crate) fn play(connector: &Arc<Connector>, text: &str, stage: &Stage<'_>) -> Result<Played, String> {
    let script: Script = toml::from_str(text).map_err(|error| format!("poll.toml: {}", error.message()))?;
    let named = match &script.poll {
        Some(name) => connector.polls.get(name),
        None => connector.polls.values().next(),
    };
    let poll = named.ok_or("poll.toml: there is no such poll")?;
    let begin = script.backfill.map_or(Begin::FromNow, Begin::Backfill);
    let lane = Lane::load(poll, script.part.clone().unwrap_or(Value::Null), begin, &script.cursors);
    let session = script.cursors.get("session").and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null);
    let mut player = Player {
        poll,
        stage,
        lane,
        session,
        cursors: script.cursors,
        token: SecretString::from("a-token"),
        asked: Vec::new(),
        items: Vec::new(),
    };
    let mut exchanges = script.exchange.into_iter();
    while let Some(exchange) = exchanges.next() {
        player.exchange(exchange, &mut exchanges)?;
    }
    let mut shown = Map::new();
    shown.insert("asked".to_owned(), Value::from(player.asked));
    shown.insert("cursors".to_owned(), json!(player.cursors));
    Ok(Played { poll: poll.name.clone(), items: player.items, shown })
}

struct Player<'a> {
    poll: &'a Poll,
    stage: &'a Stage<'a>,
    lane: Lane,
    session: Value,
    cursors: Cursors,
    /// Whatever would have to be got.
    token: SecretString,
    asked: Vec<String>,
    items: Vec<Item>,
}

impl Player<'_> {
    fn answer(&self, exchange: Exchange) -> Result<HttpAnswer, String> {
        let body = match &exchange.file {
            Some(name) => (self.stage.file)(name).ok_or_else(|| format!("poll.toml: there is no file `{name}`"))?,
            None => Bytes::from(exchange.body),
        };
        let headers = exchange.headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        Ok(HttpAnswer { status: exchange.status, headers, body })
    }

    /// One answer to a question for a page; those to what is asked of its things come from `more`.
    fn exchange(&mut self, exchange: Exchange, more: &mut dyn Iterator<Item = Exchange>) -> Result<(), String> {
        let answer = self.answer(exchange)?;
        let registers = self.poll.register.as_ref().filter(|_| self.session.is_null());
        if let Some(register) = registers {
            let context = context(self.stage.reader.settings(), &Value::Null, &Value::Null, &Value::Null, &Value::Null, self.stage.now);
            let filling = Filling { context: &context, secrets: self.stage.reader.secrets(), token: Some(&self.token), files: &[] };
            let request = register.call.render(&filling).map_err(|error| error.to_string())?;
            self.asked.push(shown(&request));
            let judged = register.rules.judge(&answer, self.stage.now);
            if judged.meaning != Meaning::Ok {
                self.asked.push(format!("{:?}", judged.meaning).to_lowercase());
                return Ok(());
            }
            let mut session = Map::new();
            for (name, filter) in &register.take {
                session.insert(name.clone(), judged.take(filter).map_err(|error| error.to_string())?);
            }
            let cursor = register.cursor.as_ref().and_then(|name| session.get(name)).cloned().unwrap_or(Value::Null);
            self.lane.registered(&cursor);
            self.session = Value::Object(session);
            return Ok(());
        }
        let reader = self.stage.reader;
        let with = Surroundings {
            settings: reader.settings(),
            secrets: reader.secrets(),
            token: Some(&self.token),
            session: &self.session,
            now: self.stage.now,
        };
        let request = self.lane.request(self.poll, &with).map_err(|error| error.to_string())?;
        self.asked.push(shown(&request));
        let judged = self.poll.rules.judge(&answer, self.stage.now);
        match judged.meaning {
            Meaning::Ok => {
                let before = self.lane.place();
                let mut step = self.lane.answer(self.poll, &answer, &judged, self.stage.now)?;
                for payload in step.batches.iter_mut().flat_map(|batch| &mut batch.payloads) {
                    self.follow(&before, payload, more)?;
                }
                step.batches.into_iter().for_each(|batch| self.take(batch));
            }
            Meaning::CursorLost => {
                self.asked.push("cursor_lost".to_owned());
                self.session = Value::Null;
                let lost = self.lane.lose();
                self.take(lost);
            }
            other => self.asked.push(format!("{other:?}").to_lowercase()),
        }
        Ok(())
    }

    /// What is asked of each thing of a page that the list only names.
    fn follow(&mut self, before: &Value, payload: &mut Payload, more: &mut dyn Iterator<Item = Exchange>) -> Result<(), String> {
        let Some(follow) = &self.poll.follow else { return Ok(()) };
        let mut asking = Asking::of(self.poll, follow, before, payload)?;
        while let Some(item) = asking.thing()? {
            let reader = self.stage.reader;
            let context = asking.context(item, reader.settings(), &self.session, self.stage.now);
            let filling = Filling { context: &context, secrets: reader.secrets(), token: Some(&self.token), files: &[] };
            let request = follow.call.render(&filling).map_err(|error| error.to_string())?;
            if asking.is_told(&request) {
                continue;
            }
            self.asked.push(shown(&request));
            let exchange = more.next().ok_or("poll.toml: nothing answers what is asked of a thing of the list")?;
            let judged = follow.rules.judge(&self.answer(exchange)?, self.stage.now);
            asking.said(judged).map_err(|unsaid| format!("a thing of the list: {unsaid:?}"))?;
        }
        payload.body = asking.body();
        Ok(())
    }

    fn take(&mut self, batch: FeedBatch) {
        for (name, value) in batch.cursors {
            match value {
                Some(value) => drop(self.cursors.insert(name, value)),
                None => drop(self.cursors.remove(&name)),
            }
        }
        for payload in batch.payloads {
            let context = ReadContext { received_at: self.stage.now, historic: payload.historic };
            self.items.extend(self.stage.reader.read(payload.via, &payload.head, &payload.body, &context).items);
        }
    }
}

/// A request on one line; how it proves itself stays out.
fn shown(request: &HttpRequest) -> String {
    let body = match &request.body {
        HttpBody::None => String::new(),
        HttpBody::Bytes(bytes) => format!(" {}", String::from_utf8_lossy(bytes)),
        HttpBody::Multipart(_) => " (form)".to_owned(),
    };
    let conditions = request.headers.iter().filter(|(name, _)| name.starts_with("if-")).map(|(name, value)| format!(" {name}: {value}"));
    format!("{} {}{}{body}", request.method, request.url, conditions.collect::<String>())
}
