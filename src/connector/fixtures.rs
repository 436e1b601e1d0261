//! Fixtures: the tests of a connector, and `omnigate try`.
//!
//! A case is a folder with `request.http`, `payload.json`, `message.eml` or `poll.toml` and `expected.json`; beside them may stand `case.toml` (settings,
//! secrets, account, via, now, own) and, for connectors without a map of their own, `map.jq`. A case without secrets is not verified.
//!
//! The way back of a ticket system has cases of the same kind, below `back/fixtures`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::connector::draft::DRAFT_KINDS;
use crate::connector::folder::Folder;
use crate::connector::hook::{Guarded, Hook, Outcome};
use crate::connector::jq::Limits;
use crate::connector::load::Connector;
use crate::connector::mail;
use crate::connector::poll::script::{self, Stage};
use crate::connector::preview;
use crate::connector::problem::Problem;
use crate::connector::reader::{ChannelSpec, Read, ReadContext, ReadLimits, Reader};
use crate::connector::ticket::TicketSystem;
use crate::logic::digest::{Digester, INSTANCE_KEY_BYTES};
use crate::model::event::{Event, Priority};
use crate::model::item::{Item, ItemBody};
use crate::model::raw::{RawHead, Via};
use crate::model::ticket::{TicketNews, TicketStatus};
use crate::model::time::Time;
use crate::ports::intake::{HookAnswer, HookRequest};

/// The clock of a case that names none: 2023-11-14T22:15:00Z.
const NOW: Time = Time(1_700_000_100_000);

/// The state of a ticket that went on in another, as maps write it.
const MERGED: &str = "merged";

/// What `omnigate try` was given.
#[derive(Debug, Clone)]
pub struct TryInput {
    /// A payload, or a whole HTTP request.
    pub bytes: Vec<u8>,
    /// It is a whole request (the file is named `*.http`).
    pub whole_request: bool,
    /// How it comes in.
    pub via: Via,
    /// `--setting`; values that read as JSON are taken as such by the caller.
    pub settings: serde_json::Map<String, Value>,
    /// `--header`, names in lower case.
    pub headers: Vec<(String, String)>,
    /// `--skip-verify`: no secrets needed.
    pub skip_verify: bool,
    /// Secrets by name, for a signed request.
    pub secrets: BTreeMap<String, Vec<String>>,
    /// The account of the channel.
    pub account: Option<String>,
    /// The channel's own map.
    pub map: Option<String>,
    /// The clock.
    pub now: Time,
    /// Our own ids at the platform, as `[whoami]` would tell them.
    pub own: serde_json::Map<String, Value>,
}

impl Default for TryInput {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            whole_request: false,
            via: Via::Webhook,
            settings: serde_json::Map::new(),
            headers: Vec::new(),
            skip_verify: true,
            secrets: BTreeMap::new(),
            account: None,
            map: None,
            now: NOW,
            own: serde_json::Map::new(),
        }
    }
}

/// What an input became.
#[derive(Debug, Clone)]
pub struct Tried {
    /// The document of `omnigate try --json`.
    pub document: Value,
    /// What went wrong with quarantined items, for a person.
    pub details: Vec<String>,
    /// The events of the document, whole: with stand-ins for what only a store can give.
    pub events: Vec<Event>,
    items: Vec<Item>,
}

impl Tried {
    fn of(items: Vec<Item>, now: Time) -> Self {
        let events = preview::events(&items, now);
        let mut document = preview::document(&items, &events);
        let told = preview::told(&items);
        if let (false, Some(map)) = (told.is_empty(), document.as_object_mut()) {
            map.insert("told".to_owned(), Value::from(told));
        }
        Self { document, details: preview::details(&items), events, items }
    }

    fn answered(outcome: &str, code: Option<&str>, answer: &HookAnswer) -> Self {
        let document = json!({"outcome": outcome, "code": code, "events": [], "answer": shown(answer)});
        Self { document, details: Vec::new(), events: Vec::new(), items: Vec::new() }
    }
}

/// The hook that an input is for, and the request it becomes.
///
/// # Errors
/// Settings or map do not fit the connector, or the input is no request.
pub fn prepare(connector: &Arc<Connector>, input: &TryInput) -> Result<(Hook, HookRequest), Vec<Problem>> {
    let id = trial_id(connector);
    let spec = spec(&id, input);
    let (digester, limits) = (Digester::new(&[0; INSTANCE_KEY_BYTES]), ReadLimits::default());
    let hook = Hook::build_for_trial(Arc::clone(connector), spec, digester, limits, !input.skip_verify, input.via)?;
    hook.own().learn(&id, input.own.clone());
    let request = request(&id, input).map_err(|message| vec![Problem::whole("the request", message)])?;
    Ok((hook, request))
}

/// An input of a road that is asked, or listens: a page or a frame, and who reads it.
pub struct Pulled {
    reader: Reader,
    via: Via,
    head: RawHead,
    body: Bytes,
    context: ReadContext,
}

impl Pulled {
    /// The page or frame.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Reads it.
    pub fn read(&self) -> Read {
        self.reader.read(self.via, &self.head, &self.body, &self.context)
    }
}

/// The page or frame that an input is. `None`: it is for the connector's hook.
///
/// # Errors
/// Settings or map do not fit the connector.
pub fn pulled(connector: &Arc<Connector>, input: &TryInput) -> Result<Option<Pulled>, Vec<Problem>> {
    let listens = input.via == Via::Stream && connector.stream.is_some();
    if connector.manifest.webhook.is_some() && !listens {
        return Ok(None);
    }
    let id = trial_id(connector);
    let reader = Reader::build_for_trial(Arc::clone(connector), spec(&id, input), Digester::new(&[0; INSTANCE_KEY_BYTES]))?;
    reader.own().learn(&id, input.own.clone());
    let context = ReadContext { received_at: input.now, historic: false };
    let head = RawHead { headers: input.headers.clone(), ..RawHead::default() };
    let asked = if connector.polls.is_empty() { Via::Stream } else { Via::Poll };
    let via = if input.via == Via::Webhook { asked } else { input.via };
    Ok(Some(Pulled { reader, via, head, body: Bytes::copy_from_slice(&input.bytes), context }))
}

/// Name of the channel of a trial.
fn trial_id(connector: &Connector) -> String {
    format!("try-{}", connector.manifest.name)
}

/// The channel of a trial.
fn spec(id: &str, input: &TryInput) -> ChannelSpec {
    let secrets = input.secrets.iter().map(|(name, values)| (name.clone(), values.iter().cloned().map(SecretString::from).collect()));
    ChannelSpec {
        id: id.to_owned(),
        file: "the settings given".to_owned(),
        account: input.account.clone(),
        labels: BTreeMap::new(),
        priority: Priority::Normal,
        settings: input.settings.clone(),
        secrets: secrets.collect(),
        verify_none: input.skip_verify,
        map: input.map.clone().map(|code| ("map.jq".to_owned(), code)),
        new_after_ms: None,
        back: None,
    }
}

/// What an input becomes.
///
/// # Errors
/// Settings or map do not fit the connector.
pub fn try_input(connector: &Arc<Connector>, input: &TryInput) -> Result<Tried, Vec<Problem>> {
    if connector.manifest.is_mail() {
        let item = mail::trial::read(&connector.manifest.name, &input.settings, &input.bytes, input.now);
        return Ok(Tried::of(vec![item], input.now));
    }
    if let Some(pulled) = pulled(connector, input)? {
        return Ok(Tried::of(pulled.read().items, input.now));
    }
    let (hook, request) = prepare(connector, input)?;
    Ok(match hook.guard(&request, input.now) {
        Guarded::Answer { answer, code: Some(code) } => Tried::answered("refused", Some(code.as_str()), &answer),
        Guarded::Answer { answer, code: None } => Tried::answered("answered", None, &answer),
        Guarded::Pass(verified) => {
            let read = hook.read(&verified, &ReadContext { received_at: input.now, historic: false });
            let ignored = read.items.iter().all(|item| matches!(item.body, ItemBody::Ignored { .. } | ItemBody::Receipt { .. }));
            let mut tried = Tried::of(read.items, input.now);
            let answer = hook.answer(&verified, if ignored { Outcome::Ignored } else { Outcome::Accepted });
            // Only where it says something: most platforms get an empty 200.
            if let (false, Some(map)) =
                (answer == (HookAnswer { status: 200, headers: Vec::new(), body: Bytes::new() }), tried.document.as_object_mut())
            {
                map.insert("answer".to_owned(), shown(&answer));
            }
            tried
        }
    })
}

fn shown(answer: &HookAnswer) -> Value {
    let headers: serde_json::Map<String, Value> =
        answer.headers.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
    let mut out = json!({"status": answer.status});
    if let Some(map) = out.as_object_mut() {
        if !headers.is_empty() {
            map.insert("headers".to_owned(), Value::Object(headers));
        }
        if !answer.body.is_empty() {
            map.insert("body".to_owned(), Value::from(String::from_utf8_lossy(&answer.body).into_owned()));
        }
    }
    out
}

fn request(hook: &str, input: &TryInput) -> Result<HookRequest, String> {
    let mut request = if input.whole_request { parse_request(hook, &input.bytes)? } else { payload_request(hook, &input.bytes) };
    for (name, value) in &input.headers {
        request.headers.retain(|(known, _)| known != name);
        request.headers.push((name.clone(), value.clone()));
    }
    Ok(request)
}

fn payload_request(hook: &str, bytes: &[u8]) -> HookRequest {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    let kind = match first {
        Some(b'{' | b'[') => "application/json",
        Some(b'<') => "text/xml",
        _ => "application/x-www-form-urlencoded",
    };
    HookRequest {
        hook: hook.to_owned(),
        method: "POST".to_owned(),
        target: format!("/hooks/{hook}"),
        headers: vec![("content-type".to_owned(), kind.to_owned())],
        body: Bytes::copy_from_slice(bytes),
        peer: None,
    }
}

/// Reads a whole request. Its lines may end in LF or CRLF; the body is cut to `Content-Length` if there is one, else one line end at the
/// end of the file (editors put it there) is not part of it.
fn parse_request(hook: &str, bytes: &[u8]) -> Result<HookRequest, String> {
    let find = |wanted: &[u8]| bytes.windows(wanted.len()).position(|window| window == wanted).map(|at| (at, at + wanted.len()));
    let border = [find(b"\r\n\r\n"), find(b"\n\n")].into_iter().flatten().min();
    let (head_end, body_start) = border.unwrap_or((bytes.len(), bytes.len()));
    let head = std::str::from_utf8(bytes.get(..head_end).unwrap_or_default()).map_err(|_| "the head is not UTF-8")?;
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split_whitespace();
    let (Some(method), Some(target)) = (first.next(), first.next()) else {
        return Err("the first line is no `METHOD target HTTP/1.1`".to_owned());
    };
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let body = bytes.get(body_start..).unwrap_or_default();
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse::<usize>().ok());
    let body = match length {
        Some(length) => body.get(..length).ok_or("the body is shorter than its Content-Length")?,
        None => body.strip_suffix(b"\n").map_or(body, |body| body.strip_suffix(b"\r").unwrap_or(body)),
    };
    Ok(HookRequest {
        hook: hook.to_owned(),
        method: method.to_ascii_uppercase(),
        target: target.to_owned(),
        headers,
        body: Bytes::copy_from_slice(body),
        peer: None,
    })
}

/// How one case ended.
#[derive(Debug, Clone)]
pub struct CaseResult {
    /// Name of the case: the folder below `fixtures/`.
    pub case: String,
    /// What came out.
    pub actual: Value,
    /// Its events, whole.
    pub events: Vec<Event>,
    /// What `expected.json` says; `None`: there is none.
    pub expected: Option<Value>,
    /// Why it could not be run.
    pub problem: Option<String>,
}

impl CaseResult {
    /// Whether it is as expected.
    pub fn passed(&self) -> bool {
        self.problem.is_none() && self.expected.as_ref() == Some(&self.actual)
    }
}

/// What the fixtures of a connector reach.
#[derive(Debug, Clone, Default)]
pub struct Reached {
    /// Kinds of drafts, codes of what is ignored and of what is quarantined.
    pub kinds_and_codes: BTreeSet<String>,
    /// Signed requests that were taken.
    pub proven: usize,
    /// Requests that were refused for their signature.
    pub refused: usize,
}

/// How the fixtures of a connector ended.
#[derive(Debug, Clone)]
pub struct Report {
    /// The connector; of the way back from a ticket system `NAME/back`.
    pub connector: String,
    /// Where its `fixtures` are.
    pub folder: String,
    /// Its cases, by name.
    pub cases: Vec<CaseResult>,
    /// What they reach.
    pub reached: Reached,
    /// Declared codes and draft kinds that no case produces.
    pub uncovered: Vec<String>,
}

/// `case.toml`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Case {
    settings: toml::Table,
    secrets: BTreeMap<String, Vec<String>>,
    account: Option<String>,
    via: Option<Via>,
    now: Option<Time>,
    own: toml::Table,
    /// Verify although no secret is given: it must be refused.
    verify: bool,
}

/// Runs the fixtures of a folder that is a connector.
///
/// # Errors
/// The problems of the connector's own files.
pub fn run(folder: Folder) -> Result<Report, Vec<Problem>> {
    Ok(report(&Arc::new(Connector::load(folder, Limits::default())?)))
}

/// Runs the fixtures of the way back from a ticket system. None: the folder is no ticket system, or nothing comes back from it.
///
/// # Errors
/// The problems of the system's own files.
pub fn run_back(folder: &Folder) -> Option<Result<Report, Vec<Problem>>> {
    match TicketSystem::load(folder, Limits::default())? {
        Ok(system) => system.back.as_ref().map(|back| Ok(report(back))),
        Err(problems) => Some(Err(problems)),
    }
}

fn report(connector: &Arc<Connector>) -> Report {
    let mut reached = Reached::default();
    let mut cases: Vec<CaseResult> =
        inputs(&connector.folder).into_iter().map(|(name, input)| case(connector, name, input, &mut reached)).collect();
    cases.extend(scripts(&connector.folder).into_iter().map(|name| scripted(connector, name, &mut reached)));
    cases.sort_by(|one, other| one.case.cmp(&other.case));
    let uncovered = wanted(connector).into_iter().filter(|wanted| !reached.kinds_and_codes.contains(wanted)).collect();
    let manifest = &connector.manifest;
    let name = if manifest.is_back { format!("{}/back", manifest.name) } else { manifest.name.clone() };
    Report { connector: name, folder: connector.folder.origin.clone(), cases, reached, uncovered }
}

/// What the cases of a connector must reach, as [`produces`] names it.
fn wanted(connector: &Connector) -> BTreeSet<String> {
    let (manifest, facts) = (&connector.manifest, connector.map.as_ref().map(|map| map.facts().clone()).unwrap_or_default());
    // A mail becomes a message.
    let kinds = facts.kinds.iter().filter(|kind| DRAFT_KINDS.contains(&kind.as_str()) && *kind != "mail").cloned();
    // Where the channel brings the map, nobody can say what it gives.
    let codes = manifest.codes.keys().chain(&facts.codes).filter(|_| !manifest.own_map).cloned();
    let mut wanted: BTreeSet<String> = codes.chain(kinds).collect();
    if manifest.is_back {
        let states = facts.literals.iter().filter(|word| TicketStatus::parse(word).is_some() || *word == MERGED);
        wanted.extend(states.map(|word| state(word)));
        wanted.extend(manifest.webhook.iter().flat_map(|_| [PROVEN, REFUSED].map(str::to_owned)));
        wanted.extend(connector.polls.keys().map(|name| polled(name)));
    }
    wanted
}

/// A signed request that is taken, and one that is refused, among what cases reach.
const PROVEN: &str = "signed";
const REFUSED: &str = "signature";

/// A state of tickets among what cases reach.
fn state(word: &str) -> String {
    format!("ticket:{word}")
}

/// A poll that was played, among what cases reach.
fn polled(name: &str) -> String {
    format!("poll:{name}")
}

/// What the cases of a folder give to the connector, by name; or why a case cannot be run.
pub fn inputs(folder: &Folder) -> Vec<(String, Result<TryInput, String>)> {
    let names: BTreeSet<String> =
        folder.files.keys().filter_map(|path| Some(path.strip_prefix("fixtures/")?.split_once('/')?.0.to_owned())).collect();
    let polls = scripts(folder);
    names.into_iter().filter(|name| !polls.contains(name)).map(|name| (name.clone(), input(folder, &name))).collect()
}

/// What the platform answers in the scripts of a folder, as pages of a poll: inputs for folders that have no others.
pub fn answers(folder: &Folder) -> Vec<TryInput> {
    let table = |name: &str| folder.text(name).and_then(|text| text.parse::<toml::Table>().ok()).unwrap_or_default();
    let mut inputs = Vec::new();
    for name in folder.files.keys().filter(|name| name.ends_with("/poll.toml")) {
        let settings = table(&name.replace("/poll.toml", "/case.toml")).remove("settings");
        let settings = settings.and_then(|settings| serde_json::to_value(settings).ok()?.as_object().cloned()).unwrap_or_default();
        let exchanges = table(name).remove("exchange").and_then(|list| list.as_array().cloned()).unwrap_or_default();
        for body in exchanges.iter().filter_map(|exchange| exchange.get("body")?.as_str()) {
            let bytes = body.as_bytes().to_vec();
            inputs.push(TryInput { bytes, via: Via::Poll, settings: settings.clone(), ..TryInput::default() });
        }
    }
    inputs
}

fn input(folder: &Folder, name: &str) -> Result<TryInput, String> {
    let file = |part: &str| folder.files.get(&format!("fixtures/{name}/{part}"));
    let whole = file("message.eml").map(|bytes| (bytes.to_vec(), false));
    let (bytes, whole_request) = match (file("request.http"), file("payload.json"), file("payload.txt")) {
        _ if whole.is_some() => whole.unwrap_or_default(),
        (Some(bytes), ..) => (bytes.to_vec(), true),
        (None, Some(bytes), _) | (None, None, Some(bytes)) => (bytes.strip_suffix(b"\n").unwrap_or(bytes).to_vec(), false),
        _ => return Err("has none of request.http, payload.json, message.eml, poll.toml".to_owned()),
    };
    let text = file("case.toml").and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
    let case: Case = toml::from_str(text).map_err(|error| format!("case.toml: {}", error.message()))?;
    let settings = serde_json::to_value(&case.settings).ok().and_then(|value| value.as_object().cloned()).unwrap_or_default();
    Ok(TryInput {
        bytes,
        whole_request,
        via: case.via.unwrap_or(Via::Webhook),
        settings,
        headers: Vec::new(),
        skip_verify: case.secrets.is_empty() && !case.verify,
        secrets: case.secrets,
        account: case.account,
        map: file("map.jq").map(|bytes| String::from_utf8_lossy(bytes).into_owned()),
        now: case.now.unwrap_or(NOW),
        own: serde_json::to_value(&case.own).ok().and_then(|value| value.as_object().cloned()).unwrap_or_default(),
    })
}

fn case(connector: &Arc<Connector>, name: String, input: Result<TryInput, String>, reached: &mut Reached) -> CaseResult {
    let file = connector.folder.files.get(&format!("fixtures/{name}/expected.json"));
    let expected = file.and_then(|bytes| serde_json::from_slice(bytes).ok());
    let mut result = CaseResult { case: name, actual: Value::Null, events: Vec::new(), expected, problem: None };
    let input = match input {
        Ok(input) => input,
        Err(problem) => {
            result.problem = Some(problem);
            return result;
        }
    };
    match try_input(connector, &input) {
        Ok(tried) => {
            reached.kinds_and_codes.extend(tried.items.iter().flat_map(produces));
            match tried.document.get("code").and_then(Value::as_str) {
                Some("signature" | "key_unknown") => reached.refused += 1,
                _ if !input.skip_verify && !tried.items.is_empty() => reached.proven += 1,
                _ => {}
            }
            if connector.manifest.is_back {
                reached.kinds_and_codes.extend((reached.refused > 0).then(|| REFUSED.to_owned()));
                reached.kinds_and_codes.extend((reached.proven > 0).then(|| PROVEN.to_owned()));
            }
            (result.actual, result.events) = (tried.document, tried.events);
        }
        Err(problems) => result.problem = Some(problems.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>().join("; ")),
    }
    result
}

/// The cases that are polls.
fn scripts(folder: &Folder) -> Vec<String> {
    let name = |path: &String| Some(path.strip_prefix("fixtures/")?.strip_suffix("/poll.toml")?.to_owned());
    folder.files.keys().filter_map(name).collect()
}

fn scripted(connector: &Arc<Connector>, name: String, reached: &mut Reached) -> CaseResult {
    let file = |part: &str| connector.folder.files.get(&format!("fixtures/{name}/{part}"));
    let expected = file("expected.json").and_then(|bytes| serde_json::from_slice(bytes).ok());
    let script = file("poll.toml").map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
    let mut result = CaseResult { case: name.clone(), actual: Value::Null, events: Vec::new(), expected, problem: None };
    match played(connector, &name, &script) {
        Ok((poll, tried)) => {
            reached.kinds_and_codes.extend(connector.manifest.is_back.then(|| polled(&poll)));
            reached.kinds_and_codes.extend(tried.items.iter().flat_map(produces));
            (result.actual, result.events) = (tried.document, tried.events);
        }
        Err(problem) => result.problem = Some(problem),
    }
    result
}

/// A case that is a poll.
fn played(connector: &Arc<Connector>, name: &str, script: &str) -> Result<(String, Tried), String> {
    let file = |part: &str| connector.folder.files.get(&format!("fixtures/{name}/{part}")).map(|bytes| Bytes::copy_from_slice(bytes));
    let text = file("case.toml").map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let case: Case = toml::from_str(&text).map_err(|error| format!("case.toml: {}", error.message()))?;
    let settings = serde_json::to_value(&case.settings).ok().and_then(|value| value.as_object().cloned()).unwrap_or_default();
    let now = case.now.unwrap_or(NOW);
    let input = TryInput { settings, secrets: case.secrets, account: case.account, ..TryInput::default() };
    let spec = spec(&trial_id(connector), &input);
    let reader = Reader::build_for_trial(Arc::clone(connector), spec, Digester::new(&[0; INSTANCE_KEY_BYTES]));
    let reader = reader.map_err(|problems| problems.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>().join("; "))?;
    let own = serde_json::to_value(&case.own).ok().and_then(|value| value.as_object().cloned()).unwrap_or_default();
    reader.own().learn(&trial_id(connector), own);
    let played = script::play(connector, script, &Stage { reader: &reader, now, file: &file })?;
    let mut tried = Tried::of(played.items, now);
    if let Some(document) = tried.document.as_object_mut() {
        document.extend(played.shown);
    }
    Ok((played.poll, tried))
}

/// The code, or the draft kind and the state of a ticket, that an item shows to be covered.
fn produces(item: &Item) -> Vec<String> {
    let one = match &item.body {
        ItemBody::Message(_) => "message",
        ItemBody::Edit(_) => "edit",
        ItemBody::Update(_) => "update",
        ItemBody::Delete { .. } => "delete",
        ItemBody::Reaction(_) => "reaction",
        ItemBody::Receipt { .. } => "status",
        ItemBody::Ticket(told) => {
            return match &told.news {
                TicketNews::Entry { .. } => vec!["entry".to_owned()],
                TicketNews::Status(status) => vec!["ticket".to_owned(), state(status.as_str())],
                TicketNews::Merged(_) => vec!["ticket".to_owned(), state(MERGED)],
            };
        }
        ItemBody::Ignored { code } => code,
        ItemBody::Quarantined { code, .. } => code.as_str(),
    };
    vec![one.to_owned()]
}
