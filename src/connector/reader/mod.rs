//! Reader: what a channel's payloads say, however they came: decode → map → drafts → items. Pure.
//!
//! What must stay true: the same thing read by two roads (a request to a hook, a page of a poll, a frame of a stream) gives the same
//! keys, so that one message is one message. Whether a payload is authentic was decided before: by the hook's guard, or because we
//! asked for it.

mod build;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

pub(crate) use self::build::Parts;
use crate::connector::decode::{self, Decoded};
use crate::connector::draft::{self, Draft, DraftKind};
use crate::connector::enclosed;
use crate::connector::jq::{Filter, Input, JqError, Output};
use crate::connector::load::{Connector, HEADERS, QUERY};
use crate::connector::mail::settings;
use crate::connector::manifest::{Decode, Decrypt, OneOrMore, Then};
use crate::connector::normalize::{self, Source, Target};
use crate::connector::own::Own;
use crate::connector::poll::spec::{Order, PollSpec};
use crate::connector::problem::Problem;
use crate::logic::digest::Digester;
use crate::model::codes::Code;
use crate::model::dns::Answers;
use crate::model::event::{Channel, Priority};
use crate::model::item::{ChannelFacts, Item};
use crate::model::key::KeyDigest;
use crate::model::raw::{RawHead, Via};
use crate::model::ticket::BackRules;
use crate::model::time::Time;

/// A channel as its file says, in plain values.
#[derive(Debug, Clone)]
pub struct ChannelSpec {
    /// Name of its file.
    pub id: String,
    /// Path of its file, for problems.
    pub file: String,
    /// Which account of the platform; `None` where the connector tells it, or there is only one.
    pub account: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Priority of its messages.
    pub priority: Priority,
    /// `[settings]` as written; defaults are filled in here.
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// `[secrets]`, resolved: several values while rotating.
    pub secrets: BTreeMap<String, Vec<SecretString>>,
    /// The file says `verify = "none"`.
    pub verify_none: bool,
    /// The channel's own map (`map` or the content of `map_file`), with the name of the file it stands in.
    pub map: Option<(String, String)>,
    /// A `sender` conversation ends after this much silence, ms.
    pub new_after_ms: Option<i64>,
    /// It is the way back from a ticket system, whose destination has this name.
    pub back: Option<BackRules>,
}

/// Limits of what is read, from the main file.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimits {
    /// Largest body of a request or an answer.
    pub body_bytes_max: usize,
    /// Largest file of a message.
    pub file_bytes_max: usize,
    /// Most files of a message.
    pub files_max: usize,
    /// A message waits at most so long for files that are fetched, ms.
    pub media_wait_ms: i64,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self { body_bytes_max: 4 * 1024 * 1024, file_bytes_max: 25 * 1024 * 1024, files_max: 100, media_wait_ms: 20_000 }
    }
}

/// What reading needs to know beside the raw.
#[derive(Debug, Clone, Copy)]
pub struct ReadContext {
    /// When the raw was received.
    pub received_at: Time,
    /// It comes in through a backfill.
    pub historic: bool,
}

/// What a raw says.
#[derive(Debug, Default)]
pub struct Read {
    /// Its items, in the order of the payload; at least one.
    pub items: Vec<Item>,
    /// The platform's key of this delivery.
    pub delivery_key: Option<KeyDigest>,
    /// Files to keep before the items are admitted: key and bytes.
    pub blobs: Vec<(String, Bytes)>,
}

/// What a map gave; what is no draft says why.
type Drafts = Vec<Result<Draft, String>>;

/// A payload that was decoded and mapped, or why it could not be.
#[derive(Debug)]
pub struct Opened(Result<(Drafts, Vec<decode::FormFile>), (Code, String)>);

/// A channel that it reads for.
#[derive(Debug)]
struct Known {
    account: Option<String>,
    target: Target,
}

/// What a payload is made of.
struct Shape<'a> {
    decode: &'a [Decode],
    then: Option<&'a Then>,
    decrypt: Option<&'a Decrypt>,
}

/// Reads the payloads of a channel, or of the channels that share a hook.
#[derive(Debug)]
pub struct Reader {
    /// Scope of delivery keys.
    name: String,
    pub(crate) connector: Arc<Connector>,
    channels: Vec<Known>,
    /// Settings with defaults; channels that share a hook have the same.
    pub(crate) settings: Value,
    /// The channel's own map, in place of the connector's.
    own_map: Option<Filter>,
    pub(crate) secrets: BTreeMap<String, Vec<SecretString>>,
    digester: Digester,
    pub(crate) limits: ReadLimits,
    /// Who we are at the platform; somebody with a network fills it.
    own: Arc<Own>,
}

impl Reader {
    /// The reader of a channel that is asked for its payloads in one of `modes`: nothing of them is to be verified.
    ///
    /// # Errors
    /// What is wrong with the channel: unknown settings or secrets, a secret that is not set, a broken map.
    pub fn build(
        connector: Arc<Connector>,
        channel: ChannelSpec,
        modes: &[Via],
        digester: Digester,
        limits: ReadLimits,
    ) -> Result<Self, Vec<Problem>> {
        build::alone(connector, channel, modes, digester, limits, false)
    }

    /// As [`Self::build`], but nothing that is missing matters: for `try` and fixtures.
    pub(crate) fn build_for_trial(connector: Arc<Connector>, channel: ChannelSpec, digester: Digester) -> Result<Self, Vec<Problem>> {
        build::alone(connector, channel, &[], digester, ReadLimits::default(), true)
    }

    /// Scope of its delivery keys: the hook's name, or the channel's id.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who we are at the platform.
    pub fn own(&self) -> &Arc<Own> {
        &self.own
    }

    /// The connector.
    pub fn connector(&self) -> &Arc<Connector> {
        &self.connector
    }

    /// Settings with their defaults.
    pub fn settings(&self) -> &Value {
        &self.settings
    }

    /// Secrets by name; the first value of each is the current one.
    pub fn secrets(&self) -> &BTreeMap<String, Vec<SecretString>> {
        &self.secrets
    }

    /// The poll that a payload came by; where the raw does not say which, the first.
    fn polled(&self, via: Via, head: &RawHead) -> Option<&PollSpec> {
        let polls = &self.connector.manifest.poll;
        let named = head.place.as_ref().and_then(|name| polls.get(name));
        if via == Via::Poll { named.or_else(|| polls.values().next()) } else { None }
    }

    /// What a payload is made of.
    fn shape(&self, via: Via, head: &RawHead) -> Shape<'_> {
        if let Some(poll) = self.polled(via, head) {
            return Shape { decode: poll.decode.as_ref().map_or(&[Decode::Json], OneOrMore::all), then: None, decrypt: None };
        }
        if let (Via::Stream, Some(stream)) = (via, &self.connector.manifest.stream) {
            return Shape { decode: std::slice::from_ref(&stream.decode), then: None, decrypt: None };
        }
        match self.connector.manifest.webhook.as_ref() {
            Some(webhook) => Shape { decode: webhook.decode.all(), then: webhook.then.as_ref(), decrypt: webhook.decrypt.as_ref() },
            None => Shape { decode: &[Decode::Json], then: None, decrypt: None },
        }
    }

    /// Whether it checks by itself who vouches for the mails inside of its payloads.
    pub fn verifies_senders(&self) -> bool {
        self.settings.as_object().is_some_and(settings::verify_senders)
    }

    /// Decodes and maps.
    pub fn open(&self, via: Via, head: &RawHead, body: &Bytes) -> Opened {
        Opened(self.map(via, head, body))
    }

    /// The names of the DNS that the mails in a payload need, where their senders are to be checked.
    pub fn asks(&self, opened: &Opened, received_at: Time) -> Vec<String> {
        let drafts = opened.0.as_ref().map(|(drafts, _)| drafts.as_slice()).unwrap_or_default();
        let mails = drafts.iter().flatten().filter(|draft| self.verifies_senders() && draft.kind == DraftKind::Mail);
        mails.flat_map(|draft| enclosed::asks(draft, received_at)).collect()
    }

    /// Decodes, maps and normalizes. Never fails: what cannot be read becomes a quarantined item.
    pub fn read(&self, via: Via, head: &RawHead, body: &Bytes, context: &ReadContext) -> Read {
        self.read_opened(self.open(via, head, body), context, None)
    }

    /// Normalizes what was opened. `answers`: what the DNS said, if it was asked.
    pub fn read_opened(&self, opened: Opened, context: &ReadContext, answers: Option<&Answers>) -> Read {
        let (drafts, files) = match opened.0 {
            Ok(found) => found,
            Err((code, detail)) => return self.unread(code, detail),
        };
        if drafts.is_empty() {
            return self.unread(Code::Unmapped, "the map says nothing about this payload".to_owned());
        }
        let manifest = &self.connector.manifest;
        let window = manifest.repeat_window.as_deref().and_then(|name| self.settings.get(name)).and_then(Value::as_i64);
        let source = Source {
            manifest,
            digester: &self.digester,
            received_at: context.received_at,
            historic: context.historic,
            files: &files,
            file_bytes_max: self.limits.file_bytes_max,
            files_max: self.limits.files_max,
            repeat_window_ms: window,
            verify_senders: self.verifies_senders(),
            answers,
        };
        let mut read = Read::default();
        for draft in drafts {
            match draft {
                Err(detail) => read.items.push(normalize::quarantined(&self.default_facts(), Code::BadDraft, detail)),
                Ok(draft) => {
                    if read.delivery_key.is_none() {
                        read.delivery_key = draft.delivery_key.as_ref().map(|key| self.delivery_key(&key.0));
                    }
                    match self.target(draft.account.as_ref().map(|account| account.0.as_str())) {
                        Some(target) => read.items.push(normalize::item(&source, &target, draft, &mut read.blobs)),
                        // What is ignored need not belong to anybody: notices about a whole app name no account.
                        None if draft.kind == DraftKind::Ignore && draft.account.is_none() => {
                            let target = Target { facts: self.nobody(), account: String::new(), own_address: None, media: Arc::default() };
                            read.items.push(normalize::item(&source, &target, draft, &mut read.blobs));
                        }
                        None => {
                            let detail = "no channel here has this account";
                            read.items.push(normalize::quarantined(&self.nobody(), Code::UnknownAccount, detail));
                        }
                    }
                }
            }
        }
        read
    }

    /// The key of a delivery that its platform names so.
    pub fn delivery_key(&self, name: &str) -> KeyDigest {
        self.digester.delivery(&self.name, name)
    }

    /// What is kept without being read, and why.
    pub fn unread(&self, code: Code, detail: String) -> Read {
        Read { items: vec![normalize::quarantined(&self.default_facts(), code, detail)], ..Read::default() }
    }

    /// Decodes and runs the map: its drafts and the files of the form.
    fn map(&self, via: Via, head: &RawHead, body: &Bytes) -> Result<(Drafts, Vec<decode::FormFile>), (Code, String)> {
        let shape = self.shape(via, head);
        // What is admitted goes from old to new.
        let reversed = self.polled(via, head).filter(|poll| poll.order == Order::NewestFirst).and_then(|poll| poll.items.as_deref());
        let content_type = head.header("content-type").unwrap_or_default();
        let depth = self.connector.limits.depth_max;
        let decoded = if via == Via::Webhook && decode::is_nothing(&head.method, body) {
            decode::nothing(shape.decode)
        } else {
            let body = self.opened(&shape, body)?;
            let decoded = decode::decode(shape.decode, shape.then, content_type, &body, depth);
            decoded.map_err(|error| (error.code, error.detail))?
        };
        let Some(map) = self.own_map.as_ref().or(self.connector.map.as_ref()) else {
            return Err((Code::MappingFailed, "the channel has no map".to_owned()));
        };
        // What most maps never ask for is not made.
        let channel = Value::from(self.channels.first().map_or("", |channel| channel.target.facts.public.id.as_str()));
        let (mut headers, mut query) = (Map::new(), Map::new());
        if map.reads(HEADERS) {
            headers.extend(head.headers.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))));
        }
        if map.reads(QUERY) {
            let all = url::form_urlencoded::parse(head.query().as_bytes());
            query.extend(all.map(|(name, value)| (name.into_owned(), Value::from(value.into_owned()))));
        }
        let (headers, query, via) = (Value::Object(headers), Value::Object(query), Value::from(via.as_str()));
        let own = self.own.ids();
        let vars = [&channel, &self.settings, &headers, &query, &via, &*own];
        let mut drafts = Vec::new();
        let take = |output: Output<'_>| drafts.push(draft::read(output));
        let (done, files) = match decoded {
            Decoded::Json(bytes) if reversed.is_some() => {
                let mut page =
                    crate::connector::jq::parse_json(&bytes, depth).map_err(|error| (mapping_code(&error), error.to_string()))?;
                if let Some(Value::Array(items)) = reversed.and_then(|items| page.pointer_mut(items)) {
                    items.reverse();
                }
                (map.run_with(Input::Value(&page), &vars, take), Vec::new())
            }
            Decoded::Json(bytes) => (map.run_with(Input::Json(&bytes), &vars, take), Vec::new()),
            Decoded::Value(value, files) => (map.run_with(Input::Value(&value), &vars, take), files),
        };
        done.map_err(|error| (mapping_code(&error), error.to_string()))?;
        Ok((drafts, files))
    }

    /// The body, unsealed if it is sealed.
    fn opened(&self, shape: &Shape<'_>, body: &Bytes) -> Result<Bytes, (Code, String)> {
        let Some(Decrypt::WechatAes { secret }) = shape.decrypt else { return Ok(body.clone()) };
        if decode::xml::child_text(body, "Encrypt").is_none() {
            return Ok(body.clone());
        }
        let account = self.settings.get("app_id").and_then(Value::as_str).filter(|account| !account.is_empty());
        let keys = self.secrets.get(secret).map_or(&[][..], Vec::as_slice);
        let opened = keys.iter().find_map(|key| decode::wechat::open(body, key.expose_secret(), account));
        opened.map(Bytes::from).ok_or_else(|| (Code::Undecodable, "the message cannot be opened with the key of the channel".to_owned()))
    }

    /// The channel of an account; `None`: none has it.
    fn target(&self, account: Option<&str>) -> Option<Target> {
        let named = |account: &str| self.channels.iter().find(|channel| channel.account.as_deref() == Some(account));
        let found = match (account, self.channels.as_slice()) {
            (Some(account), [only]) if only.account.is_none() => {
                // The only channel takes every account; keys are still those of the account.
                let mut target = only.target.clone();
                account.clone_into(&mut target.account);
                target.own_address = build::own_address(&self.connector.manifest, account);
                return Some(target);
            }
            (Some(account), _) => named(account),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        found.map(|channel| channel.target.clone())
    }

    /// The channel of what cannot be assigned: the only one, or nobody.
    fn default_facts(&self) -> Arc<ChannelFacts> {
        match self.channels.as_slice() {
            [only] => Arc::clone(&only.target.facts),
            _ => self.nobody(),
        }
    }

    /// Facts of no channel: its id is empty.
    fn nobody(&self) -> Arc<ChannelFacts> {
        let connector = self.connector.manifest.name.clone();
        let public = Channel { id: String::new(), connector, labels: BTreeMap::new() };
        Arc::new(ChannelFacts { public, priority: Priority::Normal, new_after_ms: None, back: None })
    }
}

fn mapping_code(error: &JqError) -> Code {
    match error {
        JqError::Failed(_) => Code::MappingFailed,
        JqError::Budget(_) => Code::MappingBudget,
        JqError::FanOut(_) => Code::FanOut,
        JqError::Input(_) => Code::Undecodable,
        JqError::TooDeep(_) => Code::TooDeep,
    }
}
