//! Checks of channels against their connectors and against each other. One that fails, fails alone.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::config::connectors::Connectors;
use crate::config::oauth::{self, OAuthGrant};
use crate::config::settings::{ChannelFile, Config, FailedChannel};
use crate::connector::hook::Hook;
use crate::connector::kit::ChannelKit;
use crate::connector::load::Connector;
use crate::connector::manifest::Manifest;
use crate::connector::problem::{Problem, did_you_mean};
use crate::connector::reader::{ChannelSpec, ReadLimits, Reader};
use crate::logic::digest::{Digester, INSTANCE_KEY_BYTES};
use crate::model::codes::Code;
use crate::model::raw::Via;

/// Channels by id; a broken one with its problems.
pub type Channels = BTreeMap<String, Result<Arc<ChannelFile>, FailedChannel>>;

/// The channels behind one hook, each with its connector.
type Sharing = Vec<(Arc<ChannelFile>, Arc<Connector>)>;

/// Checks all channels that are right so far. `texts` are the contents of their files.
pub fn check(
    config: &Config,
    connectors: &mut Connectors,
    channels: &mut Channels,
    texts: &BTreeMap<String, String>,
    warnings: &mut Vec<Problem>,
) {
    for (id, failed) in channels.iter_mut().filter_map(|(id, channel)| Some((id, channel.as_mut().err()?))) {
        also_unknown(connectors, failed, texts.get(id).map(String::as_str).unwrap_or_default());
    }
    let mut hooks: BTreeMap<String, Sharing> = BTreeMap::new();
    let mut asked: BTreeMap<String, String> = BTreeMap::new();
    let sound: Vec<Arc<ChannelFile>> = channels.values().filter_map(|channel| channel.as_ref().ok()).cloned().collect();
    for channel in sound {
        let text = texts.get(&channel.id).map(String::as_str).unwrap_or_default();
        match against_connector(config, connectors, &channel, text) {
            Err(problems) => fail(channels, &channel, problems),
            Ok(connector) if channel.enabled && !connector.manifest.is_mail() => {
                warnings.extend(unfetched(&channel, &connector, text));
                let modes = modes(&channel, &connector.manifest);
                let roads = modes.iter().filter(|mode| **mode != Via::Webhook);
                if let Some(other) = roads.filter_map(|mode| asked.insert(account(&channel, *mode), channel.id.clone())).next() {
                    let message = format!("channel `{other}` asks for the messages of this account already");
                    let problem = Problem::whole(&channel.file.display().to_string(), message).suggest("give each its own `account`");
                    fail(channels, &channel, vec![placed(problem, text, &["account", "connector"])]);
                    continue;
                }
                if !modes.contains(&Via::Webhook) {
                    continue;
                }
                let sharing = hooks.entry(channel.hook.clone()).or_default();
                let wrong = sharing.first().and_then(|(owner, known)| shared(config, &channel, owner, known, &connector, sharing));
                match wrong {
                    None => sharing.push((channel, connector)),
                    Some(problem) => fail(channels, &channel, vec![placed(problem, text, &["hook", "account", "connector"])]),
                }
            }
            Ok(_) => {
                // Two would take the lease of the account from each other, and each connection counts at the server.
                let account = channel.imap.as_ref().filter(|_| channel.enabled).map(|imap| imap.mailbox.account());
                if let Some(other) = account.and_then(|account| asked.insert(account, channel.id.clone())) {
                    let message = format!("channel `{other}` reads this mailbox already");
                    let problem =
                        Problem::whole(&channel.file.display().to_string(), message).suggest("name all its `folders` in one file");
                    fail(channels, &channel, vec![placed(problem, text, &["user", "[imap]"])]);
                }
            }
        }
    }
}

/// What the channel could set and did not, so that files stay where they are.
fn unfetched(channel: &ChannelFile, connector: &Arc<Connector>, text: &str) -> Option<Problem> {
    let kit = ChannelKit::of(connector.clone(), &spec(channel));
    let lacking: Vec<String> = connector.unfetched(&kit.settings, &kit.secrets).into_iter().map(|name| format!("`{name}`")).collect();
    if lacking.is_empty() {
        return None;
    }
    let message = format!("without {} files of messages are listed, not all are fetched", lacking.join(", "));
    Some(placed(Problem::whole(&channel.file.display().to_string(), message).warning(), text, &["connector"]))
}

/// What is wrong with a file otherwise does not hide that its connector does not exist: all problems at once.
fn also_unknown(connectors: &mut Connectors, failed: &mut FailedChannel, text: &str) {
    let (Some(name), Some(file)) = (&failed.connector, failed.problems.first().map(|problem| problem.file.clone())) else { return };
    if connectors.get(name).is_none() {
        failed.problems.push(unknown_connector(connectors, name, &file, text));
    }
}

fn unknown_connector(connectors: &Connectors, name: &str, shown: &str, text: &str) -> Problem {
    let advice = connectors.suggestion(name).unwrap_or_else(|| "`omnigate connector list` shows them".to_owned());
    placed(Problem::whole(shown, format!("there is no connector `{name}`")).suggest(advice), text, &["connector"])
}

fn fail(channels: &mut Channels, channel: &ChannelFile, problems: Vec<Problem>) {
    let failed = FailedChannel { connector: Some(channel.connector.clone()), code: Code::ChannelConfig, problems };
    channels.insert(channel.id.clone(), Err(failed));
}

/// One channel against its connector.
fn against_connector(
    config: &Config,
    connectors: &mut Connectors,
    channel: &ChannelFile,
    text: &str,
) -> Result<Arc<Connector>, Vec<Problem>> {
    let shown = channel.file.display().to_string();
    let loaded = match connectors.of_channel(channel) {
        Some(loaded) => loaded,
        None => return Err(vec![unknown_connector(connectors, &channel.connector, &shown, text)]),
    };
    let connector = loaded.map_err(|mut problems| {
        let broken = Problem::whole(&shown, format!("the connector `{}` cannot be used", channel.connector));
        problems.push(placed(broken, text, &["connector"]));
        problems
    })?;
    let problems = match connector.manifest.is_mail() {
        true => mailbox(&connector, channel, text),
        false => {
            let mut problems = by_modes(config, &connector, channel);
            if channel.imap.is_some() {
                problems.push(Problem::whole(&shown, format!("`[imap]` is not for the connector `{}`", channel.connector)));
            }
            if channel.oauth.is_some() {
                problems.push(Problem::whole(&shown, format!("`[oauth]` is not for the connector `{}`", channel.connector)));
            }
            problems
        }
    };
    let place = |problem: Problem| if problem.line == 0 && problem.file == shown { placed_by_name(problem, text) } else { problem };
    if problems.is_empty() { Ok(connector) } else { Err(problems.into_iter().map(place).collect()) }
}

/// How the messages of a channel come.
pub fn modes(channel: &ChannelFile, manifest: &Manifest) -> Vec<Via> {
    if channel.modes.is_empty() { manifest.modes().into_iter().take(1).collect() } else { channel.modes.clone() }
}

/// The account that the cursors of a road belong to, where a channel is asked for its messages or listens.
pub fn account(channel: &ChannelFile, mode: Via) -> String {
    format!("{}:{}:{}", mode.as_str(), channel.connector, channel.account.as_ref().unwrap_or(&channel.id))
}

/// What each way that messages come needs.
fn by_modes(config: &Config, connector: &Arc<Connector>, channel: &ChannelFile) -> Vec<Problem> {
    let shown = channel.file.display().to_string();
    let possible = connector.manifest.modes();
    let mut problems = Vec::new();
    let chosen = modes(channel, &connector.manifest);
    for mode in chosen.iter().filter(|mode| !possible.contains(mode)) {
        let known: Vec<&str> = possible.iter().map(|mode| mode.as_str()).collect();
        let message = format!("`mode`: the connector `{}` knows no {}", channel.connector, mode.as_str());
        problems.push(Problem::whole(&shown, message).suggest(format!("it knows {}", known.join(", "))));
    }
    let digester = || Digester::new(&[0; INSTANCE_KEY_BYTES]);
    if chosen.contains(&Via::Webhook) {
        let built = Hook::build(&channel.hook, connector.clone(), vec![spec(channel)], digester(), limits(config));
        problems.extend(built.err().unwrap_or_default());
    }
    let asked: Vec<Via> = chosen.into_iter().filter(|mode| *mode != Via::Webhook).collect();
    if !asked.is_empty() {
        let built = Reader::build(connector.clone(), spec(channel), &asked, digester(), limits(config));
        let more = built.err().unwrap_or_default().into_iter().filter(|problem| !problems.contains(problem)).collect::<Vec<_>>();
        problems.extend(more);
    }
    problems
}

/// What a mailbox needs.
fn mailbox(connector: &Connector, channel: &ChannelFile, text: &str) -> Vec<Problem> {
    let shown = channel.file.display().to_string();
    let mut problems = Vec::new();
    if channel.imap.is_none() {
        problems.push(Problem::whole(&shown, "[imap] is missing").suggest("add [imap] with `host` and `user`"));
    }
    problems.extend(oauth_secrets(channel, text));
    if channel.oauth.is_none() && !channel.secrets.contains_key("password") {
        let problem = Problem::whole(&shown, "the secret `password` is missing");
        problems.push(placed(problem.suggest("add [secrets] with `password = { env = \"…\" }`"), text, &["[imap]", "[secrets]"]));
    }
    let declared = |names: Vec<&str>, name: &str, what: &str| {
        let problem = Problem::whole(&shown, format!("unknown {what} `{name}`: connector `{}` does not declare it", channel.connector));
        match did_you_mean(name, names) {
            Some(near) => problem.suggest(format!("did you mean `{near}`?")),
            None => problem,
        }
    };
    for name in channel.settings.keys().filter(|name| !connector.manifest.settings.contains_key(*name)) {
        problems.push(declared(connector.manifest.settings.keys().map(String::as_str).collect(), name, "setting"));
    }
    for (name, value) in &channel.settings {
        if let Some(setting) = connector.manifest.settings.get(name).filter(|setting| setting.kind.read(value).is_none()) {
            problems.push(Problem::whole(&shown, format!("setting `{name}`: expected {}", setting.kind.wanted())));
        }
    }
    let of_oauth = |name: &str| channel.oauth.is_some() && oauth::SECRETS.contains(&name);
    let known_secret = |name: &str| name == "password" || of_oauth(name) || connector.manifest.secrets.contains_key(name);
    for name in channel.secrets.keys().filter(|name| !known_secret(name)) {
        let known = connector.manifest.secrets.keys().map(String::as_str).chain(["password"]).collect();
        problems.push(declared(known, name, "secret"));
    }
    problems
}

/// The secret that each grant of `[oauth]` needs.
fn oauth_secrets(channel: &ChannelFile, text: &str) -> Option<Problem> {
    let needed = match channel.oauth.as_ref()?.grant {
        OAuthGrant::RefreshToken => return None,
        OAuthGrant::ClientCredentials => "client_secret",
        OAuthGrant::ServiceAccount => "service_account",
    };
    if channel.secrets.contains_key(needed) {
        return None;
    }
    let problem = Problem::whole(&channel.file.display().to_string(), format!("the secret `{needed}` is missing"));
    Some(placed(problem.suggest(format!("add [secrets] with `{needed} = {{ file = \"…\" }}`")), text, &["grant", "[oauth]"]))
}

/// A hook belongs to one connector; several channels behind it must be told apart. The first file of a hook owns it.
fn shared(
    config: &Config,
    channel: &ChannelFile,
    owner: &ChannelFile,
    owners: &Arc<Connector>,
    connector: &Arc<Connector>,
    sharing: &[(Arc<ChannelFile>, Arc<Connector>)],
) -> Option<Problem> {
    let shown = channel.file.display().to_string();
    if owners.manifest.name != connector.manifest.name {
        let message = format!("the hook `{}` belongs to channel `{}` with connector `{}`", channel.hook, owner.id, owner.connector);
        return Some(Problem::whole(&shown, message).suggest("give it a hook of its own"));
    }
    let specs = sharing.iter().map(|(channel, _)| spec(channel)).chain([spec(channel)]).collect();
    let built = Hook::build(&channel.hook, connector.clone(), specs, Digester::new(&[0; INSTANCE_KEY_BYTES]), limits(config));
    let mut problem = built.err()?.into_iter().next()?;
    // Whichever of them the words blame, the file that came later is the one that does not fit.
    problem.file = shown;
    Some(problem)
}

/// The limits of a hook, as the main file says.
pub fn limits(config: &Config) -> ReadLimits {
    ReadLimits {
        body_bytes_max: config.server.body_bytes_max,
        file_bytes_max: usize::try_from(config.attachments.bytes_max).unwrap_or(usize::MAX),
        files_max: config.attachments.count_max,
        media_wait_ms: i64::try_from(config.attachments.media_wait.as_millis()).unwrap_or(i64::MAX),
    }
}

/// A channel in the plain values that the connector room takes.
pub fn spec(channel: &ChannelFile) -> ChannelSpec {
    let shown = channel.file.display().to_string();
    ChannelSpec {
        id: channel.id.clone(),
        account: channel.account.clone(),
        labels: channel.labels.clone(),
        priority: channel.priority,
        settings: channel.settings.clone(),
        secrets: channel.secrets.clone(),
        verify_none: channel.verify_none,
        map: channel.map.clone().map(|map| (shown.clone(), map)),
        new_after_ms: i64::try_from(channel.new_after.as_millis()).ok(),
        back: channel.back,
        file: shown,
    }
}

/// Puts a problem of a whole file at the first line that says one of `keys`.
fn placed(problem: Problem, text: &str, keys: &[&str]) -> Problem {
    let Some(span) = keys.iter().find_map(|key| line_of(text, key)) else { return problem };
    let at = Problem::at(&problem.file, text, span, problem.message);
    Problem { suggestion: problem.suggestion, severity: problem.severity, ..at }
}

/// Puts a problem of a whole file at the line of the first name that its message quotes, else where the connector is named.
fn placed_by_name(problem: Problem, text: &str) -> Problem {
    let quoted = problem.message.split('`').nth(1).map(str::to_owned);
    match quoted {
        Some(name) => placed(problem, text, &[&name, "connector"]),
        None => placed(problem, text, &["connector"]),
    }
}

/// The line that says `key`, in a file that is known to be right.
fn line_of(text: &str, key: &str) -> Option<Range<usize>> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim_end();
        if trimmed == key || trimmed.split('=').next().map(|name| name.trim().trim_matches('"')) == Some(key) && trimmed.contains('=') {
            return Some(start..start + trimmed.len());
        }
        start += line.len();
    }
    None
}
