//! Building a reader: channel files against the manifest. What is wrong is told all at once.

use std::sync::Arc;

use secrecy::ExposeSecret;
use serde_json::{Map, Value};

use crate::connector::jq::Filter;
use crate::connector::load::{Connector, MAP_VARS, settings_with_defaults, undeclared};
use crate::connector::manifest::Manifest;
use crate::connector::media::Recipe;
use crate::connector::normalize::{MediaFacts, Target};
use crate::connector::own::Own;
use crate::connector::problem::{Problem, did_you_mean};
use crate::connector::reader::{ChannelSpec, Known, ReadLimits, Reader};
use crate::logic::digest::Digester;
use crate::model::address::Address;
use crate::model::event::Channel;
use crate::model::item::ChannelFacts;
use crate::model::raw::Via;

/// What a reader is built of.
pub(crate) struct Parts {
    /// Scope of delivery keys.
    pub name: String,
    /// The connector.
    pub connector: Arc<Connector>,
    /// Channels, at least one.
    pub channels: Vec<ChannelSpec>,
    /// Makes keys.
    pub digester: Digester,
    /// Limits.
    pub limits: ReadLimits,
    /// How payloads will come: what only other ways need is not demanded.
    pub modes: Vec<Via>,
    /// Nothing that is missing matters.
    pub trial: bool,
}

impl Parts {
    /// Builds the reader; what is wrong is added to `problems`, and then the reader must not be used.
    pub(crate) fn build(self, problems: &mut Vec<Problem>) -> Reader {
        let Self { name, connector, channels, digester, limits, modes, trial } = self;
        let manifest = &connector.manifest;
        let mut settings = Map::new();
        for spec in &channels {
            let filled = fill(manifest, spec, &modes, trial, problems);
            if settings.is_empty() {
                settings = filled;
            } else if filled != settings {
                problems.push(Problem::whole(&spec.file, format!("channels that share the hook `{name}` must have the same settings")));
            }
            check_secrets(manifest, spec, problems);
        }
        let own_map = channels.first().and_then(|first| own_map(&connector, first, trial, problems));
        let secrets = channels.first().map(|first| first.secrets.clone()).unwrap_or_default();
        let settings = Value::Object(settings);
        let wait_ms = limits.media_wait_ms;
        let asks = |spec: &&ChannelSpec| {
            !trial && connector.whoami.as_ref().is_some_and(|whoami| connector.is_given(&whoami.call, &settings, &spec.secrets))
        };
        let own = Arc::new(Own::needed_by(channels.iter().filter(asks).map(|spec| spec.id.clone()).collect()));
        let channels = channels.into_iter().map(|spec| known(&connector, spec, &settings, wait_ms, trial)).collect();
        Reader { name, channels, settings, own_map, secrets, digester, limits, connector, own }
    }
}

/// A reader of one channel whose payloads are asked for.
pub(super) fn alone(
    connector: Arc<Connector>,
    channel: ChannelSpec,
    modes: &[Via],
    digester: Digester,
    limits: ReadLimits,
    trial: bool,
) -> Result<Reader, Vec<Problem>> {
    let mut problems = Vec::new();
    if !trial {
        demand_secrets(&connector.manifest, &channel, modes, &mut problems);
    }
    let (name, modes) = (channel.id.clone(), modes.to_vec());
    let reader = Parts { name, connector, channels: vec![channel], digester, limits, modes, trial }.build(&mut problems);
    if problems.is_empty() { Ok(reader) } else { Err(problems) }
}

/// Who asks must prove itself: the secrets of these modes must be set.
fn demand_secrets(manifest: &Manifest, spec: &ChannelSpec, modes: &[Via], problems: &mut Vec<Problem>) {
    let set = |name: &String| spec.secrets.get(name).is_some_and(|values| values.iter().any(|value| !value.expose_secret().is_empty()));
    let wanted = manifest.secrets.iter().filter(|(_, secret)| !secret.optional && Via::needed(&secret.modes, modes));
    for (name, secret) in wanted.filter(|(name, _)| !set(name)) {
        problems.push(Problem::whole(&spec.file, format!("the secret `{name}` is not set")).suggest(secret.help.clone()));
    }
}

/// Settings with defaults, each of its declared type.
fn fill(manifest: &Manifest, spec: &ChannelSpec, modes: &[Via], trial: bool, problems: &mut Vec<Problem>) -> Map<String, Value> {
    let mut filled = settings_with_defaults(manifest);
    for (name, value) in &spec.settings {
        let Some(setting) = manifest.settings.get(name) else {
            let problem =
                Problem::whole(&spec.file, format!("unknown setting `{name}`: connector `{}` does not declare it", manifest.name));
            problems.push(match did_you_mean(name, manifest.settings.keys().map(String::as_str)) {
                Some(near) => problem.suggest(format!("did you mean `{near}`?")),
                None => problem,
            });
            continue;
        };
        match setting.kind.read(value) {
            Some(read) => drop(filled.insert(name.clone(), read)),
            None => problems.push(Problem::whole(&spec.file, format!("setting `{name}`: expected {}", setting.kind.wanted()))),
        }
    }
    for (name, setting) in &manifest.settings {
        if setting.required && Via::needed(&setting.modes, modes) && !trial && !spec.settings.contains_key(name) {
            problems.push(Problem::whole(&spec.file, format!("setting `{name}` is missing")).suggest(setting.help.clone()));
        }
    }
    filled
}

fn check_secrets(manifest: &Manifest, spec: &ChannelSpec, problems: &mut Vec<Problem>) {
    for name in spec.secrets.keys().filter(|name| !manifest.secrets.contains_key(*name)) {
        let problem = Problem::whole(&spec.file, format!("unknown secret `{name}`: connector `{}` does not declare it", manifest.name));
        problems.push(match did_you_mean(name, manifest.secrets.keys().map(String::as_str)) {
            Some(near) => problem.suggest(format!("did you mean `{near}`?")),
            None => problem,
        });
    }
}

fn own_map(connector: &Connector, spec: &ChannelSpec, trial: bool, problems: &mut Vec<Problem>) -> Option<Filter> {
    match (&spec.map, connector.manifest.own_map) {
        (Some(_), false) => {
            problems.push(Problem::whole(
                &spec.file,
                format!("connector `{}` has its own map: `map` belongs to connector `generic`", connector.manifest.name),
            ));
            None
        }
        (Some((file, code)), true) => {
            let compiled = Filter::compile(file, code, &MAP_VARS, connector.limits).map_err(|wrong| problems.extend(wrong)).ok();
            if let Some(map) = &compiled {
                problems.extend(undeclared(file, &connector.manifest, map.facts()));
            }
            compiled
        }
        (None, true) if !trial => {
            problems.push(Problem::whole(&spec.file, "`map` or `map_file` is missing: this connector has no map of its own"));
            None
        }
        (None, _) => None,
    }
}

/// The account's own address, if its account can be written as one.
pub(super) fn own_address(manifest: &Manifest, account: &str) -> Option<Address> {
    Address::parse(&format!("{}:{account}", manifest.scheme())).ok()
}

/// The recipes a channel can use: those whose secrets and settings are set. Without them its files are only listed.
fn media_facts(connector: &Connector, spec: &ChannelSpec, settings: &Value, wait_ms: i64, trial: bool) -> MediaFacts {
    let fits = |recipe: &Recipe| recipe.steps.iter().all(|step| connector.is_given(&step.call, settings, &spec.secrets));
    let usable = connector.media.iter().filter(|(_, recipe)| trial || fits(recipe));
    let recipes = usable.map(|(name, recipe)| (name.clone(), i64::try_from(recipe.expires.as_millis()).unwrap_or(i64::MAX)));
    MediaFacts { wait_ms, recipes: recipes.collect() }
}

fn known(connector: &Connector, spec: ChannelSpec, settings: &Value, wait_ms: i64, trial: bool) -> Known {
    let manifest = &connector.manifest;
    let media = Arc::new(media_facts(connector, &spec, settings, wait_ms, trial));
    let account = spec.account.clone().unwrap_or_else(|| spec.id.clone());
    let facts = ChannelFacts {
        public: Channel { id: spec.id, connector: manifest.name.clone(), labels: spec.labels },
        priority: spec.priority,
        new_after_ms: spec.new_after_ms,
        back: spec.back,
    };
    let own_address = spec.account.as_deref().and_then(|account| own_address(manifest, account));
    Known { account: spec.account, target: Target { facts: Arc::new(facts), account, own_address, media } }
}
