//! Building a hook: channel files against the manifest. Fails closed: what could let an unproven request in is a problem.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use crate::connector::hook::{ChannelSpec, Hook, HookChannel, HookLimits};
use crate::connector::jq::Filter;
use crate::connector::load::{Connector, MAP_VARS, kinds, settings_with_defaults, undeclared};
use crate::connector::manifest::Manifest;
use crate::connector::normalize::Target;
use crate::connector::problem::{Problem, did_you_mean};
use crate::connector::verify::{KeyRing, Kind};
use crate::logic::digest::Digester;
use crate::model::address::Address;
use crate::model::event::Channel;
use crate::model::item::ChannelFacts;
use crate::model::raw::Via;

/// The account's own address, if its account can be written as one.
pub(super) fn own_address(manifest: &Manifest, account: &str) -> Option<Address> {
    Address::parse(&format!("{}:{account}", manifest.scheme())).ok()
}

pub(super) fn build(
    name: &str,
    connector: Arc<Connector>,
    channels: Vec<ChannelSpec>,
    digester: Digester,
    limits: HookLimits,
    trial: bool,
) -> Result<Hook, Vec<Problem>> {
    let mut problems = Vec::new();
    let Some(first) = channels.first().cloned() else { return Err(vec![Problem::whole(name, "a hook without channels")]) };
    let mut settings = Map::new();
    for spec in &channels {
        let filled = fill(&connector.manifest, spec, trial, &mut problems);
        if settings.is_empty() {
            settings = filled;
        } else if filled != settings {
            problems.push(Problem::whole(&spec.file, format!("channels that share the hook `{name}` must have the same settings")));
        }
        check_secrets(&connector.manifest, spec, &mut problems);
    }
    check_sharing(name, &connector.manifest, &channels, &mut problems);
    let verify = choose(&connector.manifest, &first, &settings, trial, &mut problems);
    let own_map = own_map(&connector, &first, trial, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let channels = channels.into_iter().map(|spec| channel(&connector.manifest, spec)).collect();
    Ok(Hook {
        name: name.to_owned(),
        connector,
        channels,
        settings: Value::Object(settings),
        own_map,
        keys: key_ring(verify.as_ref()),
        verify,
        secrets: first.secrets,
        digester,
        limits,
        via: Via::Webhook,
        trusted: false,
    })
}

/// A ring that knows already what it will be asked for.
fn key_ring(verify: Option<&(Vec<Kind>, Vec<SecretString>)>) -> Arc<KeyRing> {
    let ring = KeyRing::default();
    verify.iter().flat_map(|(kinds, _)| kinds).flat_map(Kind::key_urls).for_each(|url| ring.expect(url));
    Arc::new(ring)
}

/// Settings with defaults, each of its declared type.
fn fill(manifest: &Manifest, spec: &ChannelSpec, trial: bool, problems: &mut Vec<Problem>) -> Map<String, Value> {
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
        if setting.required && !trial && !spec.settings.contains_key(name) {
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

/// Channels may share a hook only if the payload tells them apart, and if what proves a request proves it for all of them.
fn check_sharing(name: &str, manifest: &Manifest, channels: &[ChannelSpec], problems: &mut Vec<Problem>) {
    let [first, others @ ..] = channels else { return };
    if others.is_empty() {
        return;
    }
    let tells = manifest.webhook.as_ref().is_some_and(|webhook| webhook.tells_account);
    if !tells {
        problems.push(Problem::whole(
            &first.file,
            format!("connector `{}` does not tell accounts apart: no two channels can share the hook `{name}`", manifest.name),
        ));
    }
    let exposed = |spec: &ChannelSpec| -> BTreeMap<String, Vec<String>> {
        spec.secrets
            .iter()
            .map(|(name, values)| (name.clone(), values.iter().map(|value| value.expose_secret().to_owned()).collect()))
            .collect()
    };
    let mut seen = BTreeMap::new();
    for spec in channels {
        match &spec.account {
            None => problems.push(Problem::whole(&spec.file, format!("`account` is missing: channels share the hook `{name}`"))),
            Some(account) => {
                if let Some(other) = seen.insert(account, &spec.id) {
                    problems.push(Problem::whole(&spec.file, format!("channel `{other}` of the same hook has this account too")));
                }
            }
        }
        if exposed(spec) != exposed(first) || spec.verify_none != first.verify_none {
            problems.push(Problem::whole(&spec.file, format!("channels that share the hook `{name}` must have the same secrets")));
        }
    }
}

/// The verify kinds of the first whose secret is set (several of one secret differ by the requests they are for); none only if the
/// file says so, or for a trial without secrets.
fn choose(
    manifest: &Manifest,
    spec: &ChannelSpec,
    settings: &Map<String, Value>,
    trial: bool,
    problems: &mut Vec<Problem>,
) -> Option<(Vec<Kind>, Vec<SecretString>)> {
    if spec.verify_none {
        return None;
    }
    let kinds = match kinds(manifest, settings) {
        Ok(kinds) => kinds,
        Err(message) => {
            problems.push(Problem::whole(&spec.file, message));
            return None;
        }
    };
    let set = |name: &str| spec.secrets.get(name).filter(|values| values.iter().any(|value| !value.expose_secret().is_empty())).cloned();
    let chosen = kinds.iter().find_map(|kind| match kind.secret() {
        Some(name) => set(name).map(|secrets| (Some(name.to_owned()), secrets)),
        None => kind.stands_alone().then(|| (None, Vec::new())),
    });
    if let Some((secret, secrets)) = chosen {
        let same = kinds.into_iter().filter(|kind| kind.secret() == secret.as_deref() && (secret.is_some() || kind.stands_alone()));
        return Some((same.collect(), secrets));
    }
    if !trial {
        let mut wanted: Vec<String> = kinds.iter().filter_map(Kind::secret).map(|name| format!("`{name}`")).collect();
        wanted.dedup();
        let message = match (kinds.as_slice(), wanted.as_slice()) {
            ([], _) => "anybody could write here: this connector cannot verify requests".to_owned(),
            (_, []) => "anybody could write here: the settings that say whom requests must be for are not set".to_owned(),
            (_, names) => format!("the secret {} is not set: anybody could write here", names.join(" or ")),
        };
        problems.push(Problem::whole(&spec.file, message).suggest("set it in [secrets], or say verify = \"none\""));
    }
    None
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

fn channel(manifest: &Manifest, spec: ChannelSpec) -> HookChannel {
    let account = spec.account.clone().unwrap_or_else(|| spec.id.clone());
    let facts = ChannelFacts {
        public: Channel { id: spec.id, connector: manifest.name.clone(), labels: spec.labels },
        priority: spec.priority,
        new_after_ms: spec.new_after_ms,
    };
    let own_address = spec.account.as_deref().and_then(|account| own_address(manifest, account));
    HookChannel { account: spec.account, target: Target { facts: Arc::new(facts), account, own_address } }
}
