//! Checks of a channel against its connector, and of channels against each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::read::Reading;
use crate::config::settings::{ChannelFile, Config, FailedChannel};
use crate::connector::problem::Problem;
use crate::model::codes::Code;

/// One channel against its connector.
pub fn check_one(config: &Config, reading: &mut Reading<'_>, channel: &ChannelFile) {
    let _ = (config, reading, channel);
}

/// Channels against each other: a hook belongs to one connector, and of several channels behind it each has its account.
pub fn check(
    _config: &Config,
    channels: &mut BTreeMap<String, Result<Arc<ChannelFile>, FailedChannel>>,
    texts: &BTreeMap<String, String>,
    _warnings: &mut Vec<Problem>,
) {
    let mut owners: BTreeMap<String, Arc<ChannelFile>> = BTreeMap::new();
    let mut failed = Vec::new();
    for channel in channels.values().filter_map(|channel| channel.as_ref().ok()) {
        let Some(owner) = owners.get(&channel.hook) else {
            owners.insert(channel.hook.clone(), channel.clone());
            continue;
        };
        let message = if owner.connector != channel.connector {
            format!("the hook `{}` belongs to channel `{}` with connector `{}`", channel.hook, owner.id, owner.connector)
        } else if owner.account.is_some() && owner.account == channel.account {
            format!("channel `{}` has the same hook `{}` and the same account", owner.id, channel.hook)
        } else {
            continue;
        };
        failed.push((channel.clone(), message));
    }
    for (channel, message) in failed {
        let shown = channel.file.display().to_string();
        let text = texts.get(&channel.id).map(String::as_str).unwrap_or_default();
        let place = ["hook", "account", "connector"].into_iter().find_map(|key| line_of(text, key));
        let problem = match place {
            Some(span) => Problem::at(&shown, text, span, message),
            None => Problem::whole(&shown, message),
        };
        let problems = vec![problem.suggest("give it a hook of its own")];
        let fate = FailedChannel { connector: Some(channel.connector.clone()), code: Code::ChannelConfig, problems };
        channels.insert(channel.id.clone(), Err(fate));
    }
}

/// The line that says `key`, at the top of a file that is known to be right.
fn line_of(text: &str, key: &str) -> Option<std::ops::Range<usize>> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim_end();
        if trimmed.split('=').next().map(str::trim) == Some(key) {
            return Some(start..start + trimmed.len());
        }
        start += line.len();
    }
    None
}
