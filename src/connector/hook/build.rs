//! Building a hook: channel files against the manifest. Fails closed: what could let an unproven request in is a problem.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use crate::connector::handshake::Handshake;
use crate::connector::hook::{Hook, words};
use crate::connector::load::{Connector, kinds, settings_with_defaults};
use crate::connector::manifest::{Decrypt, Manifest};
use crate::connector::problem::Problem;
use crate::connector::reader::{ChannelSpec, Parts, ReadLimits};
use crate::connector::verify::{KeyRing, Kind};
use crate::logic::digest::Digester;
use crate::model::raw::Via;

pub(super) fn build(
    name: &str,
    connector: Arc<Connector>,
    channels: Vec<ChannelSpec>,
    digester: Digester,
    limits: ReadLimits,
    trial: bool,
) -> Result<Hook, Vec<Problem>> {
    let mut problems = Vec::new();
    let Some(first) = channels.first().cloned() else { return Err(vec![Problem::whole(name, "a hook without channels")]) };
    check_sharing(name, &connector.manifest, &channels, &mut problems);
    let (name, modes) = (name.to_owned(), vec![Via::Webhook]);
    let reader = Parts { name, connector, channels, digester, limits, modes, trial }.build(&mut problems);
    let settings = reader.settings.as_object().cloned().unwrap_or_default();
    let verify = choose(&reader.connector.manifest, &first, &settings, trial, &mut problems);
    let respond = reader.connector.manifest.webhook.as_ref().map(|webhook| words::filled(&webhook.respond, &settings)).transpose();
    let respond = respond.unwrap_or_else(|message| {
        problems.push(Problem::whole(&first.file, format!("[webhook.respond]: {message}")));
        None
    });
    if !problems.is_empty() {
        return Err(problems);
    }
    let respond = respond.unwrap_or_default();
    Ok(Hook { reader, respond, keys: key_ring(verify.as_ref()), verify, grants: Arc::default(), via: Via::Webhook, trusted: false })
}

/// A ring that knows already what it will be asked for.
fn key_ring(verify: Option<&(Vec<Kind>, Vec<SecretString>)>) -> Arc<KeyRing> {
    let ring = KeyRing::default();
    verify.iter().flat_map(|(kinds, _)| kinds).flat_map(Kind::key_urls).for_each(|url| ring.expect(url));
    Arc::new(ring)
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
    // Each may have a token of its own to call the platform with; what proves a request is one for all.
    let proving = proving(manifest);
    let exposed = |spec: &ChannelSpec| -> BTreeMap<String, Vec<String>> {
        spec.secrets
            .iter()
            .filter(|(name, _)| proving.contains(*name))
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
            problems.push(Problem::whole(
                &spec.file,
                format!("channels that share the hook `{name}` must have the same secrets to prove requests by"),
            ));
        }
    }
}

/// Names of the secrets that prove or open requests.
fn proving(manifest: &Manifest) -> BTreeSet<String> {
    let Some(webhook) = &manifest.webhook else { return BTreeSet::new() };
    let kinds = kinds(manifest, &settings_with_defaults(manifest)).unwrap_or_default();
    let sealed = webhook.decrypt.iter().map(|Decrypt::WechatAes { secret }| secret.as_str());
    let handshakes = webhook.handshake.iter().filter_map(Handshake::secret);
    kinds.iter().filter_map(Kind::secret).chain(sealed).chain(handshakes).map(str::to_owned).collect()
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
