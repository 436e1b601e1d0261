//! Load: from files to [`Loaded`], with all problems at once; and what differs between two of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::channel_set::{self, Channels};
use crate::config::connectors::Connectors;
use crate::config::problems::Problems;
use crate::config::read::Reading;
use crate::config::secrets::error_text;
use crate::config::settings::{ChannelFile, Config, FailedChannel, Fingerprint, Instance, Server};
use crate::config::source::Source;
use crate::config::value::is_name;
use crate::config::{channel_file, main_file};
use crate::connector::problem::{Problem, Severity};
use crate::model::codes::Code;

/// Everything the files say.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The main file.
    pub config: Arc<Config>,
    /// Channels by id; a broken one is there with its problems.
    pub channels: Channels,
    /// What a person should look at though it works.
    pub warnings: Vec<Problem>,
}

impl Loaded {
    /// The problems of all channels that fail, for `--strict` and `check`.
    pub fn channel_problems(&self) -> Vec<Problem> {
        self.channels.values().filter_map(|channel| channel.as_ref().err()).flat_map(|failed| failed.problems.clone()).collect()
    }
}

/// Reads the main file and the channel files. `Err`: the main file cannot be used; all problems, of channel files too.
pub fn load(file: &Path, source: &dyn Source) -> Result<Loaded, Problems> {
    let text = read_text(file, source).map_err(|problem| Problems(vec![problem]))?;
    let mut reading = Reading::new(file, &text, source);
    let config = main_file::read(&mut reading, file);
    let (mut problems, mut warnings) = split(reading.finish());
    let mut channels = BTreeMap::new();
    if let Some(config) = &config {
        channels = read_channels(config, source, &mut warnings, &mut problems);
    }
    match config {
        Some(config) if problems.is_empty() => Ok(Loaded { config: Arc::new(config), channels, warnings }),
        _ => {
            problems.extend(channels.into_values().filter_map(Result::err).flat_map(|failed| failed.problems));
            Err(Problems(problems))
        }
    }
}

/// What a command needs to reach the daemon and its store, and to find connectors. Other parts of the file may be broken, and the
/// secrets of the daemon need not be set at the operator's desk.
pub fn load_reach(file: &Path, source: &dyn Source) -> Result<(Instance, Server, PathBuf), Problems> {
    let text = read_text(file, source).map_err(|problem| Problems(vec![problem]))?;
    let mut reading = Reading::new(file, &text, source);
    let reach = main_file::read_reach(&mut reading);
    reach.ok_or_else(|| Problems(reading.finish()))
}

#[expect(clippy::result_large_err, reason = "once a file, at start and reload")]
fn read_text(file: &Path, source: &dyn Source) -> Result<String, Problem> {
    let shown = file.display().to_string();
    let bytes = source.read(file).map_err(|error| {
        let problem = Problem::whole(&shown, format!("cannot be read: {}", error_text(&error)));
        match error.kind() {
            std::io::ErrorKind::NotFound => problem.suggest("name another one with --config FILE; an empty one takes every default"),
            _ => problem,
        }
    })?;
    String::from_utf8(bytes).map_err(|_| Problem::whole(&shown, "is not UTF-8"))
}

fn split(problems: Vec<Problem>) -> (Vec<Problem>, Vec<Problem>) {
    problems.into_iter().partition(|problem| problem.severity == Severity::Error)
}

fn read_channels(config: &Config, source: &dyn Source, warnings: &mut Vec<Problem>, problems: &mut Vec<Problem>) -> Channels {
    let mut channels = Channels::new();
    let folder = &config.channels_dir;
    let files = match source.list(folder) {
        Ok(files) => files,
        Err(error) => {
            let shown = folder.display().to_string();
            let problem = Problem::whole(&shown, format!("the folder of the channel files cannot be read: {}", error_text(&error)));
            match error.kind() {
                std::io::ErrorKind::NotFound => warnings.push(problem.warning()),
                _ => problems.push(problem),
            }
            Vec::new()
        }
    };
    let mut texts = BTreeMap::new();
    for file in files {
        let Some(id) = file.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".toml")) else {
            continue;
        };
        // Editors keep hidden copies beside the file.
        if id.starts_with('.') {
            continue;
        }
        let channel = read_channel(source, id, &file, warnings, &mut texts);
        channels.insert(id.to_owned(), channel);
    }
    for back in config.destinations.values().filter_map(|destination| destination.back()) {
        if channels.contains_key(&back.id) {
            let message = format!("what comes back from destination `{0}` is known as `{0}`, and so is a channel", back.id);
            problems.push(Problem::whole(&back.file.display().to_string(), message).suggest("rename one of them"));
            continue;
        }
        channels.insert(back.id.clone(), Ok(back.clone()));
    }
    channel_set::check(config, &mut Connectors::of(config, source), &mut channels, &texts, warnings);
    channels
}

fn read_channel(
    source: &dyn Source,
    id: &str,
    file: &Path,
    warnings: &mut Vec<Problem>,
    texts: &mut BTreeMap<String, String>,
) -> Result<Arc<ChannelFile>, FailedChannel> {
    let alone = |problem: Problem| FailedChannel { connector: None, code: Code::ChannelConfig, problems: vec![problem] };
    let shown = file.display().to_string();
    if !is_name(id) {
        let problem = Problem::whole(&shown, format!("`{id}` cannot be a channel's id"));
        return Err(alone(problem.suggest("rename the file: lower-case letters, digits, `-`, `_` and `.`")));
    }
    let text = read_text(file, source).map_err(alone)?;
    let mut reading = Reading::new(file, &text, source);
    let channel = channel_file::read(&mut reading, id, file);
    let unset = reading.unset_secrets;
    let (problems, mut found) = split(reading.finish());
    warnings.append(&mut found);
    texts.insert(id.to_owned(), text);
    match channel {
        // One that is switched off needs no secrets.
        Some(channel) if problems.is_empty() || (!channel.enabled && unset == problems.len()) => Ok(Arc::new(channel)),
        channel => Err(FailedChannel {
            connector: channel.map(|channel| channel.connector).filter(|name| !name.is_empty()),
            code: if unset == problems.len() { Code::SecretUnset } else { Code::ChannelConfig },
            problems,
        }),
    }
}

/// What a reload has to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Ids of channels that are new, changed (also from or to failed), gone.
    pub channels: Changes,
    /// Names of destinations that are new, changed, gone.
    pub destinations: Changes,
    /// Routes differ.
    pub routes: bool,
    /// Something differs that only a restart takes up (listeners, store, limits).
    pub restart: bool,
}

/// Names by what happened to them, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// New.
    pub added: Vec<String>,
    /// Changed.
    pub changed: Vec<String>,
    /// Gone.
    pub removed: Vec<String>,
}

impl Difference {
    /// Nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What differs between what runs and what the files say now. What is not named here keeps running.
pub fn diff(old: &Loaded, new: &Loaded) -> Difference {
    let channels = |loaded: &Loaded| -> BTreeMap<String, Option<Fingerprint>> {
        let print = |channel: &Result<Arc<ChannelFile>, FailedChannel>| channel.as_ref().ok().map(|channel| channel.fingerprint);
        loaded.channels.iter().map(|(id, channel)| (id.clone(), print(channel))).collect()
    };
    let destinations = |loaded: &Loaded| -> BTreeMap<String, Option<Fingerprint>> {
        loaded.config.destinations.iter().map(|(name, settings)| (name.clone(), Some(settings.fingerprint))).collect()
    };
    Difference {
        channels: changes(&channels(old), &channels(new)),
        destinations: changes(&destinations(old), &destinations(new)),
        routes: old.config.routes != new.config.routes,
        restart: old.config.fingerprint != new.config.fingerprint,
    }
}

fn changes(old: &BTreeMap<String, Option<Fingerprint>>, new: &BTreeMap<String, Option<Fingerprint>>) -> Changes {
    let mut changes = Changes::default();
    for (name, print) in new {
        match old.get(name) {
            None => changes.added.push(name.clone()),
            Some(before) if before != print => changes.changed.push(name.clone()),
            Some(_) => {}
        }
    }
    changes.removed = old.keys().filter(|name| !new.contains_key(*name)).cloned().collect();
    changes
}
