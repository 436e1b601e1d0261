//! A hook: one callback URL, one connector, and the channels that share it.
//!
//! The pipeline calls in this order: [`Hook::body_bytes_max`], [`Hook::guard`], [`Hook::read`], and when the items are durable
//! [`Hook::answer`]. All of it is pure; only a request that went through the guard can be read.

mod build;
mod guard;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use crate::connector::decode::{self, Decoded};
use crate::connector::draft::{self, Draft, DraftKind};
use crate::connector::jq::{Filter, Input, JqError, Output};
use crate::connector::load::{Connector, HEADERS, QUERY};
use crate::connector::manifest::{Answer, Decrypt, Webhook};
use crate::connector::normalize::{self, Source, Target};
use crate::connector::problem::Problem;
use crate::connector::verify::{KeyRing, Kind};
use crate::logic::digest::Digester;
use crate::model::codes::Code;
use crate::model::event::{Channel, Priority};
use crate::model::item::{ChannelFacts, Item};
use crate::model::key::KeyDigest;
use crate::model::raw::{RawHead, Via};
use crate::model::time::Time;
use crate::ports::intake::{HookAnswer, HookRequest};

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
}

/// Limits of a hook from the main file.
#[derive(Debug, Clone, Copy)]
pub struct HookLimits {
    /// Largest body.
    pub body_bytes_max: usize,
    /// Largest file of a message.
    pub file_bytes_max: usize,
    /// Most files of a message.
    pub files_max: usize,
}

impl Default for HookLimits {
    fn default() -> Self {
        Self { body_bytes_max: 4 * 1024 * 1024, file_bytes_max: 25 * 1024 * 1024, files_max: 100 }
    }
}

/// What the guard decided.
#[derive(Debug)]
pub enum Guarded {
    /// Answer and forget: a handshake or probe (no code), or a refusal (its code is for the metric).
    Answer {
        /// The answer.
        answer: HookAnswer,
        /// Why it was refused.
        code: Option<Code>,
    },
    /// Authentic: keep the raw, then read it.
    Pass(Verified),
}

/// A request that went through the guard (or came out of the store, where only such requests are).
#[derive(Debug, Clone)]
pub struct Verified {
    head: RawHead,
    body: Bytes,
}

impl Verified {
    /// A raw of the store, read again by a better map. Only verified requests were ever admitted.
    pub fn from_store(head: RawHead, body: Bytes) -> Self {
        Self { head, body }
    }

    /// What to keep beside the body: sensitive headers are already left out.
    pub fn head(&self) -> &RawHead {
        &self.head
    }

    /// The raw bytes.
    pub fn body(&self) -> &Bytes {
        &self.body
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

/// What became of a request, for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Durable (or a duplicate of something that is).
    Accepted,
    /// Durable, and every item was ignored.
    Ignored,
    /// Not taken, the platform is asked to come again after so many seconds.
    Overload {
        /// Seconds.
        retry_after: u32,
    },
}

/// What a map gave; what is no draft says why.
type Drafts = Vec<Result<Draft, String>>;

/// One callback URL.
#[derive(Debug)]
pub struct Hook {
    name: String,
    connector: Arc<Connector>,
    channels: Vec<HookChannel>,
    /// Settings with defaults; channels that share a hook have the same.
    settings: Value,
    /// The channel's own map, in place of the connector's.
    own_map: Option<Filter>,
    /// How requests are verified; `None`: the channel file says `verify = "none"`.
    verify: Option<(Vec<Kind>, Vec<SecretString>)>,
    /// Keys that platforms publish; somebody with a network fills it.
    keys: Arc<KeyRing>,
    secrets: BTreeMap<String, Vec<SecretString>>,
    digester: Digester,
    limits: HookLimits,
    /// How its payloads come: by webhook, but for a trial.
    via: Via,
    /// A trial without verification of what is verified in earnest: the input counts as authentic.
    trusted: bool,
}

/// A channel of a hook.
#[derive(Debug)]
struct HookChannel {
    account: Option<String>,
    target: Target,
}

impl Hook {
    /// Builds the hook `name`. Channels whose account is told by the payload share it.
    ///
    /// # Errors
    /// What is wrong with the channels: unknown settings or secrets, no secret to verify with, a broken map, the same account twice.
    pub fn build(
        name: &str,
        connector: Arc<Connector>,
        channels: Vec<ChannelSpec>,
        digester: Digester,
        limits: HookLimits,
    ) -> Result<Self, Vec<Problem>> {
        build::build(name, connector, channels, digester, limits, false)
    }

    /// As [`Self::build`], but nothing that is missing matters: for `try` and fixtures.
    pub(crate) fn build_for_trial(
        connector: Arc<Connector>,
        channel: ChannelSpec,
        digester: Digester,
        limits: HookLimits,
        must_verify: bool,
        via: Via,
    ) -> Result<Self, Vec<Problem>> {
        let name = channel.id.clone();
        let mut hook = build::build(&name, connector, vec![channel], digester, limits, true)?;
        hook.via = via;
        let proven_in_earnest = hook.connector.manifest.secrets.values().any(|secret| !secret.optional);
        hook.trusted = !must_verify && proven_in_earnest;
        if must_verify && hook.verify.is_none() {
            // No secret, no proof: the first kind with nothing to prove it by refuses everything.
            let settings = hook.settings.as_object().cloned().unwrap_or_default();
            let kinds = crate::connector::load::kinds(&hook.connector.manifest, &settings).unwrap_or_default();
            hook.verify = (!kinds.is_empty()).then_some((kinds, Vec::new()));
        }
        Ok(hook)
    }

    /// Its name, the last part of the URL.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Keys that its platform publishes: what it knows, and what should be fetched for it.
    pub fn keys(&self) -> &Arc<KeyRing> {
        &self.keys
    }

    /// Largest body it takes.
    pub fn body_bytes_max(&self) -> usize {
        let own = self.connector.manifest.webhook.as_ref().and_then(|webhook| webhook.body_bytes_max);
        own.unwrap_or(usize::MAX).min(self.limits.body_bytes_max)
    }

    /// Handshakes, limits, signature: before anything is parsed.
    pub fn guard(&self, request: &HookRequest, now: Time) -> Guarded {
        guard::guard(self, request, now)
    }

    /// Decodes, maps and normalizes. Never fails: what cannot be read becomes a quarantined item.
    pub fn read(&self, verified: &Verified, context: &ReadContext) -> Read {
        let (drafts, files) = match self.map(verified) {
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
        };
        let mut read = Read::default();
        for draft in drafts {
            match draft {
                Err(detail) => read.items.push(normalize::quarantined(&self.default_facts(), Code::BadDraft, detail)),
                Ok(draft) => {
                    if read.delivery_key.is_none() {
                        read.delivery_key = draft.delivery_key.as_ref().map(|key| self.digester.delivery(&self.name, &key.0));
                    }
                    match self.target(draft.account.as_ref().map(|account| account.0.as_str())) {
                        Some(target) => read.items.push(normalize::item(&source, &target, draft, &mut read.blobs)),
                        // What is ignored need not belong to anybody: notices about a whole app name no account.
                        None if draft.kind == DraftKind::Ignore && draft.account.is_none() => {
                            let target = Target { facts: self.nobody(), account: String::new(), own_address: None };
                            read.items.push(normalize::item(&source, &target, draft, &mut read.blobs));
                        }
                        None => {
                            let detail = "no channel of the hook has this account";
                            read.items.push(normalize::quarantined(&self.nobody(), Code::UnknownAccount, detail));
                        }
                    }
                }
            }
        }
        read
    }

    /// The answer once the fate of the request is known.
    pub fn answer(&self, verified: &Verified, outcome: Outcome) -> HookAnswer {
        guard::answer(self, verified, outcome)
    }

    fn unread(&self, code: Code, detail: String) -> Read {
        Read { items: vec![normalize::quarantined(&self.default_facts(), code, detail)], ..Read::default() }
    }

    /// Decodes and runs the map: its drafts and the files of the form.
    fn map(&self, verified: &Verified) -> Result<(Drafts, Vec<decode::FormFile>), (Code, String)> {
        let Some(webhook) = self.connector.manifest.webhook.as_ref() else {
            return Err((Code::Invariant, "a hook of a connector without [webhook]".to_owned()));
        };
        let content_type = verified.head.header("content-type").unwrap_or_default();
        let depth = self.connector.limits.depth_max;
        let body = self.opened(webhook, verified)?;
        let decoded = decode::decode(webhook.decode.all(), webhook.then.as_ref(), content_type, &body, depth);
        let decoded = decoded.map_err(|error| (error.code, error.detail))?;
        let Some(map) = self.own_map.as_ref().or(self.connector.map.as_ref()) else {
            return Err((Code::MappingFailed, "the channel has no map".to_owned()));
        };
        // What most maps never ask for is not made.
        let channel = Value::from(self.channels.first().map_or("", |channel| channel.target.facts.public.id.as_str()));
        let (mut headers, mut query) = (Map::new(), Map::new());
        if map.reads(HEADERS) {
            headers.extend(verified.head.headers.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))));
        }
        if map.reads(QUERY) {
            let all = url::form_urlencoded::parse(verified.head.query().as_bytes());
            query.extend(all.map(|(name, value)| (name.into_owned(), Value::from(value.into_owned()))));
        }
        let (headers, query, via) = (Value::Object(headers), Value::Object(query), Value::from(self.via.as_str()));
        let vars = [&channel, &self.settings, &headers, &query, &via];
        let mut drafts = Vec::new();
        let take = |output: Output<'_>| drafts.push(draft::read(output));
        let (done, files) = match decoded {
            Decoded::Json(bytes) => (map.run_with(Input::Json(&bytes), &vars, take), Vec::new()),
            Decoded::Value(value, files) => (map.run_with(Input::Value(&value), &vars, take), files),
        };
        done.map_err(|error| (mapping_code(&error), error.to_string()))?;
        Ok((drafts, files))
    }

    /// The body, unsealed if it is sealed.
    fn opened(&self, webhook: &Webhook, verified: &Verified) -> Result<Bytes, (Code, String)> {
        let Some(Decrypt::WechatAes { secret }) = &webhook.decrypt else { return Ok(verified.body.clone()) };
        if decode::xml::child_text(&verified.body, "Encrypt").is_none() {
            return Ok(verified.body.clone());
        }
        let account = self.settings.get("app_id").and_then(Value::as_str).filter(|account| !account.is_empty());
        let keys = self.secrets.get(secret).map_or(&[][..], Vec::as_slice);
        let opened = keys.iter().find_map(|key| decode::wechat::open(&verified.body, key.expose_secret(), account));
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
        Arc::new(ChannelFacts { public, priority: Priority::Normal, new_after_ms: None })
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

fn plain(answer: &Answer) -> HookAnswer {
    let headers = answer.content_type.iter().map(|kind| ("content-type".to_owned(), kind.clone())).collect();
    HookAnswer { status: answer.status, headers, body: Bytes::copy_from_slice(answer.body.as_bytes()) }
}
