//! A connector, loaded: manifest checked, map compiled, codes compared with what the map gives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::connector::call::Call;
use crate::connector::call::compile::Scope;
use crate::connector::enrich::Enrich;
use crate::connector::folder::{Folder, MANIFEST_FILE, MAP_FILE};
use crate::connector::handshake::Handshake;
use crate::connector::hook::words;
use crate::connector::jq::{Facts, Filter, Limits};
use crate::connector::manifest::{Answer, Decrypt, Manifest, Webhook};
use crate::connector::media::Recipe;
use crate::connector::own::Whoami;
use crate::connector::poll::limits::Quota;
use crate::connector::poll::{Poll, Polls};
use crate::connector::problem::{Problem, did_you_mean};
use crate::connector::stream::StreamPlan;
use crate::connector::subscribe::Subscribe;
use crate::connector::token::TokenPlan;
use crate::connector::verify::Kind;
use crate::model::codes::Code;

/// Variables of a map: the channel's id, its settings, the request's headers and query by name, how the payload came,
/// and our own ids at the platform.
pub const MAP_VARS: [&str; 6] = ["$channel", "$settings", "$headers", "$query", "$via", "$own"];

/// Place of `$headers` in [`MAP_VARS`].
pub const HEADERS: usize = 2;
/// Place of `$query` in [`MAP_VARS`].
pub const QUERY: usize = 3;

/// A connector that is ready for channels.
#[derive(Debug)]
pub struct Connector {
    /// What its `connector.toml` says.
    pub manifest: Manifest,
    /// Its `map.jq`; `None` where the channel file brings the map, or the payload is mail.
    pub map: Option<Filter>,
    /// How the platform is asked who we are.
    pub whoami: Option<Whoami>,
    /// How the platform is asked for senders.
    pub enrich: Option<Enrich>,
    /// How the platform is told to call the hook.
    pub subscribe: Option<Subscribe>,
    /// Its media recipes, compiled.
    pub media: BTreeMap<String, Recipe>,
    /// How its tokens are got, by `[auth.NAME]`.
    pub tokens: BTreeMap<String, Arc<TokenPlan>>,
    /// Its handshakes, compiled.
    pub(crate) echoes: Vec<Echo>,
    /// Its polls, compiled.
    pub polls: Polls,
    /// How much may be asked of an account.
    pub quota: Arc<Quota>,
    /// Its stream, compiled.
    pub stream: Option<Arc<StreamPlan>>,
    /// Its files.
    pub folder: Folder,
    /// Budget of its map.
    pub limits: Limits,
}

/// A handshake inside a proven JSON body, compiled.
#[derive(Debug)]
pub(crate) struct Echo {
    pub(crate) when: Filter,
    pub(crate) hint: String,
    pub(crate) then: EchoThen,
}

/// What becomes of it.
#[derive(Debug)]
pub(crate) enum EchoThen {
    /// This is given back.
    Give(Filter),
    /// This page is visited.
    Visit(Filter),
    /// This is the answer.
    Answer(Answer),
}

impl Connector {
    /// Loads a folder: everything that is wrong with it at once.
    ///
    /// # Errors
    /// The problems of its files.
    pub fn load(folder: Folder, limits: Limits) -> Result<Self, Vec<Problem>> {
        let file = folder.place(MANIFEST_FILE);
        let text = folder.text(MANIFEST_FILE).ok_or_else(|| vec![Problem::whole(&file, "missing, or not UTF-8")])?;
        let manifest = Manifest::parse(&file, text)?;
        Self::of(folder, file, manifest, limits)
    }

    /// Loads what `manifest` describes, which stands in `file`; the other files are those of `folder`.
    pub(crate) fn of(folder: Folder, file: String, manifest: Manifest, limits: Limits) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        if manifest.name != folder.name {
            problems.push(Problem::whole(&file, format!("`name` is `{}`, the folder is `{}`", manifest.name, folder.name)));
        }
        let mut echoes = Vec::new();
        if let Some(webhook) = &manifest.webhook {
            echoes = webhook_parts(&file, &manifest, webhook, limits, &mut problems);
        }
        let whoami = manifest.whoami.as_ref().map(|spec| Whoami::compile(spec, &scope(&file, &manifest, limits)));
        let whoami = whoami.transpose().map_err(|wrong| problems.extend(wrong)).ok().flatten();
        let enrich =
            manifest.enrich.as_ref().map(|spec| Enrich::compile(spec, manifest.verified_senders, &scope(&file, &manifest, limits)));
        let enrich = enrich.transpose().map_err(|wrong| problems.extend(wrong)).ok().flatten();
        let subscribe = manifest.subscribe.as_ref();
        let subscribe = subscribe.map(|spec| Subscribe::compile(spec, manifest.webhook.as_ref(), &scope(&file, &manifest, limits)));
        let subscribe = subscribe.transpose().map_err(|wrong| problems.extend(wrong)).ok().flatten();
        let media = media(&file, &manifest, limits, &mut problems);
        let mut tokens = BTreeMap::new();
        for (name, spec) in &manifest.auth {
            match TokenPlan::compile(name, spec, &scope(&file, &manifest, limits)) {
                Ok(plan) => tokens.extend(plan.map(|plan| (name.clone(), Arc::new(plan)))),
                Err(wrong) => problems.extend(wrong),
            }
        }
        let scope = scope(&file, &manifest, limits);
        let polls = polls(&manifest, &scope, &mut problems);
        let quota = Quota::compile(&manifest.limits, &file, limits).map_err(|wrong| problems.extend(wrong)).unwrap_or_default();
        if manifest.poll.is_empty() && manifest.stream.as_ref().is_some_and(|spec| spec.poll_after_connect) {
            problems.push(Problem::whole(&file, "[stream]: `poll_after_connect` needs a [poll.NAME] to ask"));
        }
        let stream = manifest.stream.as_ref().map(|spec| StreamPlan::compile(spec, &scope));
        let stream = stream.and_then(|made| made.map_err(|wrong| problems.extend(wrong)).ok().map(Arc::new));
        let map = match (folder.text(MAP_FILE), manifest.is_mail(), manifest.own_map) {
            (Some(code), ..) => match Filter::compile(&folder.place(MAP_FILE), code, &MAP_VARS, limits) {
                Ok(map) => {
                    problems.extend(code_problems(&file, &manifest, map.facts()));
                    Some(map)
                }
                Err(wrong) => {
                    problems.extend(wrong);
                    None
                }
            },
            (None, false, false) => {
                problems.push(Problem::whole(&folder.place(MAP_FILE), "missing: a connector needs a map"));
                None
            }
            (None, ..) => None,
        };
        if problems.is_empty() {
            Ok(Self {
                manifest,
                map,
                whoami,
                enrich,
                subscribe,
                media,
                tokens,
                echoes,
                polls,
                quota: Arc::new(quota),
                stream,
                folder,
                limits,
            })
        } else {
            Err(problems)
        }
    }
}

impl Connector {
    /// Whether a channel has set every secret and setting that a call needs, those of its token too.
    pub fn is_given(&self, call: &Call, settings: &Value, secrets: &BTreeMap<String, Vec<SecretString>>) -> bool {
        self.lacks(call, settings, secrets).is_empty()
    }

    /// The secrets and settings that a call needs, those of its token too, and a channel has not set.
    pub fn lacks(&self, call: &Call, settings: &Value, secrets: &BTreeMap<String, Vec<SecretString>>) -> Vec<String> {
        let unset = |name: &str| !secrets.get(name).is_some_and(|values| values.iter().any(|value| !value.expose_secret().is_empty()));
        let unknown = |path: &[String]| match path {
            [root, name, ..] if root == "settings" && settings.get(name).is_none_or(Value::is_null) => Some(name.clone()),
            _ => None,
        };
        let of_call = call.secrets().into_iter().filter(|name| unset(name)).map(str::to_owned).chain(call.paths().filter_map(unknown));
        let token = call.token().and_then(|name| self.tokens.get(name)).map(|plan| plan.lacks(settings, secrets));
        of_call.chain(token.unwrap_or_default()).collect()
    }

    /// What a channel would have to set for all of its files to be fetched.
    pub fn unfetched(&self, settings: &Value, secrets: &BTreeMap<String, Vec<SecretString>>) -> BTreeSet<String> {
        let steps = self.media.values().flat_map(|recipe| &recipe.steps);
        steps.flat_map(|step| self.lacks(&step.call, settings, secrets)).collect()
    }
}

/// What calls of a manifest may name.
pub(crate) fn scope<'a>(file: &'a str, manifest: &'a Manifest, limits: Limits) -> Scope<'a> {
    Scope { file, settings: &manifest.settings, secrets: &manifest.secrets, auth: &manifest.auth, hosts: &manifest.hosts, limits }
}

fn media(file: &str, manifest: &Manifest, limits: Limits, problems: &mut Vec<Problem>) -> BTreeMap<String, Recipe> {
    let mut recipes = BTreeMap::new();
    for (name, spec) in &manifest.media {
        match Recipe::compile(name, spec, &scope(file, manifest, limits)) {
            Ok(recipe) => drop(recipes.insert(name.clone(), recipe)),
            Err(wrong) => problems.extend(wrong),
        }
    }
    recipes
}

/// The polls, compiled.
fn polls(manifest: &Manifest, scope: &Scope<'_>, problems: &mut Vec<Problem>) -> Polls {
    let mut polls = Polls::new();
    for (name, spec) in &manifest.poll {
        if let Some(filled) = spec.fills.as_ref().filter(|filled| !manifest.poll.contains_key(*filled)) {
            problems.push(Problem::whole(scope.file, format!("[poll.{name}] fills the gaps of `{filled}`, which is no poll")));
        }
        match Poll::compile(name, spec, scope) {
            Ok(poll) => drop(polls.insert(name.clone(), poll)),
            Err(wrong) => problems.extend(wrong),
        }
    }
    polls
}

/// Checks what only works together, and compiles what stands in the manifest as jq.
fn webhook_parts(file: &str, manifest: &Manifest, webhook: &Webhook, limits: Limits, problems: &mut Vec<Problem>) -> Vec<Echo> {
    let secret_known = |name: &str, problems: &mut Vec<Problem>| {
        if !manifest.secrets.contains_key(name) {
            problems.push(Problem::whole(file, format!("[webhook] names the secret `{name}`, which is not declared")));
        }
    };
    match kinds(manifest, &settings_with_defaults(manifest)) {
        Ok(kinds) => kinds.iter().filter_map(Kind::secret).for_each(|name| secret_known(name, problems)),
        Err(message) => problems.push(Problem::whole(file, format!("[webhook.verify]: {message}"))),
    }
    if let Err(message) = words::filled(&webhook.respond, &settings_with_defaults(manifest)) {
        problems.push(Problem::whole(file, format!("[webhook.respond]: {message}")));
    }
    if let Some(Decrypt::WechatAes { secret }) = &webhook.decrypt {
        secret_known(secret, problems);
    }
    webhook.handshake.iter().filter_map(Handshake::secret).for_each(|name| secret_known(name, problems));
    let mut compiled = |code: &str| {
        let wrong = |all: Vec<Problem>| {
            problems.extend(all.into_iter().map(|problem| Problem::whole(file, format!("in a handshake: {}", problem.message))));
        };
        Filter::compile(file, code, &[], limits).map_err(wrong).ok()
    };
    let mut echo = |handshake: &Handshake| {
        let (when, hint, then) = match handshake {
            Handshake::JsonEcho { when, from, hint } => (when, hint, EchoThen::Give(compiled(from)?)),
            Handshake::ConfirmGet { when, from, hint } => (when, hint, EchoThen::Visit(compiled(from)?)),
            Handshake::Ping { when, hint, answer } => (when, hint, EchoThen::Answer(answer.clone())),
            _ => return None,
        };
        Some(Echo { when: compiled(when)?, hint: hint.clone(), then })
    };
    webhook.handshake.iter().filter_map(&mut echo).collect()
}

/// Codes that a map gives and the manifest does not declare.
pub(crate) fn undeclared(file: &str, manifest: &Manifest, facts: &Facts) -> Vec<Problem> {
    let built_in = [Code::Honeypot, Code::Receipt, Code::Empty].map(Code::as_str);
    let mut problems = Vec::new();
    for code in &facts.codes {
        if !manifest.codes.contains_key(code) && !built_in.contains(&code.as_str()) {
            let problem = Problem::whole(file, format!("the map gives the code `{code}`, which [codes] of the connector does not declare"));
            problems.push(match did_you_mean(code, manifest.codes.keys().map(String::as_str)) {
                Some(near) => problem.suggest(format!("did you mean `{near}`?")),
                None => problem,
            });
        }
    }
    problems
}

/// Codes declared and codes given must be the same.
fn code_problems(file: &str, manifest: &Manifest, facts: &Facts) -> Vec<Problem> {
    let mut problems = undeclared(file, manifest, facts);
    for code in manifest.codes.keys().filter(|code| !facts.codes.contains(*code)) {
        problems.push(Problem::whole(file, format!("the code `{code}` is declared, and the map never gives it")));
    }
    problems
}

/// The settings a channel without any would have.
pub(crate) fn settings_with_defaults(manifest: &Manifest) -> serde_json::Map<String, Value> {
    let read = |(name, setting): (&String, &crate::connector::manifest::Setting)| {
        let default = setting.default.as_ref().and_then(|default| setting.kind.read(default));
        (name.clone(), default.unwrap_or(Value::Null))
    };
    manifest.settings.iter().map(read).collect()
}

/// The verify kinds of a manifest, with `{setting:NAME}` replaced.
pub(crate) fn kinds(manifest: &Manifest, settings: &serde_json::Map<String, Value>) -> Result<Vec<Kind>, String> {
    let Some(tables) = manifest.webhook.as_ref().and_then(|webhook| webhook.verify.as_ref()) else { return Ok(Vec::new()) };
    let one = |table: &toml::Table| {
        let mut value = toml::Value::Table(table.clone());
        replace(&mut value, settings)?;
        match value {
            toml::Value::Table(table) => Kind::parse(table),
            _ => Err("expected a table".to_owned()),
        }
    };
    tables.all().iter().map(one).collect()
}

fn replace(value: &mut toml::Value, settings: &serde_json::Map<String, Value>) -> Result<(), String> {
    match value {
        toml::Value::String(text) => {
            if let Some(name) = text.strip_prefix("{setting:").and_then(|rest| rest.strip_suffix('}')) {
                let set = settings.get(name).ok_or_else(|| format!("names the setting `{name}`, which is not declared"))?;
                *value = match set {
                    Value::Array(items) => toml::Value::Array(items.iter().filter_map(Value::as_str).map(toml::Value::from).collect()),
                    other => toml::Value::from(other.as_str().unwrap_or_default()),
                };
            }
            Ok(())
        }
        toml::Value::Table(table) => table.iter_mut().try_for_each(|(_, inner)| replace(inner, settings)),
        toml::Value::Array(items) => items.iter_mut().try_for_each(|inner| replace(inner, settings)),
        _ => Ok(()),
    }
}
