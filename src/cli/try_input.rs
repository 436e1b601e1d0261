//! `try`: what an input becomes, offline and without a store. How an admin debugs, and how outside test suites are run: stable.
//!
//! Its document: `{"outcome": "messages"|"ignored"|"refused"|"quarantined"|"answered", "code": …, "events": [ … ]}`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::app::system::SystemClock;
use crate::cli::Context;
use crate::cli::connectors::{connectors, unknown};
use crate::cli::exit::Failure;
use crate::config::load::load;
use crate::config::problems::Problems;
use crate::config::settings::{ChannelFile, DestinationKind};
use crate::config::source::{Disk, EveryVariableSet};
use crate::connector::fixtures::{self, TryInput};
use crate::connector::load::Connector;
use crate::connector::manifest::SettingType;
use crate::model::raw::Via;
use crate::ports::clock::Clock;

/// Largest input: no hook takes more.
const INPUT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Arguments of `try`.
#[derive(Debug, Args)]
pub struct TryArgs {
    /// Id of a channel, name of a connector; for what comes back from a ticket system: a destination with `back`, or SYSTEM/back
    #[arg(value_name = "CHANNEL|CONNECTOR")]
    pub name: String,
    /// Payload, mail (*.eml) or whole HTTP request (*.http); `-` reads standard input
    #[arg(long, short, value_name = "F")]
    pub file: PathBuf,
    /// A setting or secret of the connector; may be repeated
    #[arg(long, value_name = "K=V", value_parser = pair)]
    pub setting: Vec<(String, String)>,
    /// A header of the request; may be repeated
    #[arg(long, value_name = "K=V", value_parser = pair)]
    pub header: Vec<(String, String)>,
    /// How it came in
    #[arg(long, value_enum)]
    pub via: Option<ViaArg>,
    /// Take it as authentic: no settings and no secrets are needed
    #[arg(long)]
    pub skip_verify: bool,
}

/// `--via`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ViaArg {
    /// A request to a hook
    Webhook,
    /// A page of a poll
    Poll,
    /// A frame of a stream
    Stream,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let split = text.split_once('=').filter(|(name, _)| !name.is_empty());
    split.map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(|| "expected NAME=VALUE".to_owned())
}

/// `try`.
pub fn try_input(context: &Context, args: &TryArgs) -> Result<(), Failure> {
    let bytes = read(&args.file)?;
    let channel = channel(context, args)?;
    let mut known = connectors(context)?;
    let loaded = match (&channel, args.name.strip_suffix("/back")) {
        (Some(channel), _) => known.of_channel(channel),
        (None, Some(system)) => known.back(system),
        (None, None) => known.get(&args.name),
    };
    let connector = match loaded {
        None => return Err(unknown(&known, channel.as_ref().map_or(args.name.as_str(), |channel| channel.connector.as_str()))),
        Some(loaded) => loaded.map_err(|problems| Failure::Config(Problems(problems)))?,
    };
    let input = input(args, bytes, &connector, channel.as_deref())?;
    let tried = fixtures::try_input(&connector, &input).map_err(|problems| Failure::Config(Problems(problems)))?;
    context.output.show(&tried.document, |document| people(document, &tried.details))
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let shown = file.display();
    let mut bytes = Vec::new();
    let source: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(file).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Failure::Missing(format!("{shown}: there is no such file")),
            _ => Failure::Failed(format!("{shown}: {error}")),
        })?)
    };
    source.take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| Failure::Failed(format!("{shown}: {error}")))?;
    if bytes.len() as u64 > INPUT_BYTES_MAX {
        return Err(Failure::Refused(format!("{shown} is larger than {INPUT_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

/// The channel of that id, if the configuration has one; also the way back from a ticket destination.
fn channel(context: &Context, args: &TryArgs) -> Result<Option<Arc<ChannelFile>>, Failure> {
    if !context.config.exists() {
        return Ok(None);
    }
    let loaded = if args.skip_verify { load(&context.config, &EveryVariableSet) } else { load(&context.config, &Disk) };
    // A main file that cannot be used here matters only to who asked for one of its channels.
    let is_channel = |config: &Path| config.parent().is_some_and(|folder| folder.join(format!("channels/{}.toml", args.name)).exists());
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(_) if !is_channel(&context.config) => return Ok(None),
        Err(problems) => return Err(Failure::Config(problems)),
    };
    match loaded.channels.get(&args.name) {
        Some(Ok(channel)) => Ok(Some(channel.clone())),
        Some(Err(failed)) => Err(Failure::Config(Problems(failed.problems.clone()))),
        None => Ok(loaded.config.destinations.get(&args.name).and_then(|destination| match &destination.kind {
            DestinationKind::Ticket(ticket) => ticket.back.clone(),
            _ => None,
        })),
    }
}

fn input(args: &TryArgs, bytes: Vec<u8>, connector: &Connector, channel: Option<&ChannelFile>) -> Result<TryInput, Failure> {
    let manifest = &connector.manifest;
    let mut settings = channel.map(|channel| channel.settings.clone()).unwrap_or_default();
    let mut secrets: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, values) in channel.iter().flat_map(|channel| &channel.secrets) {
        secrets.insert(name.clone(), values.iter().map(|value| value.expose_secret().to_owned()).collect());
    }
    if let Some(imap) = channel.and_then(|channel| channel.imap.as_ref()) {
        // The login name counts as an address of the mailbox without being listed.
        let listed = settings.entry("addresses").or_insert_with(|| Value::Array(Vec::new()));
        listed.as_array_mut().into_iter().for_each(|listed| listed.push(Value::String(imap.mailbox.user.clone())));
    }
    let (mut map, mut account) = (channel.and_then(|channel| channel.map.clone()), channel.and_then(|channel| channel.account.clone()));
    for (name, value) in &args.setting {
        match (manifest.settings.get(name), name.as_str()) {
            (Some(setting), _) => drop(settings.insert(name.clone(), setting_value(setting.kind, value))),
            (None, _) if manifest.secrets.contains_key(name) => secrets.entry(name.clone()).or_default().push(value.clone()),
            (None, "map") => map = Some(value.clone()),
            (None, "account") => account = Some(value.clone()),
            _ => return Err(Failure::Usage(format!("connector `{}` has no setting or secret `{name}`", manifest.name))),
        }
    }
    let extension = args.file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let via = match args.via {
        Some(ViaArg::Webhook) => Via::Webhook,
        Some(ViaArg::Poll) => Via::Poll,
        Some(ViaArg::Stream) => Via::Stream,
        None => match manifest.modes().first() {
            Some(Via::Imap) => Via::Imap,
            Some(Via::Poll) => Via::Poll,
            Some(Via::Stream) => Via::Stream,
            Some(Via::Webhook) | None => Via::Webhook,
        },
    };
    Ok(TryInput {
        own: serde_json::Map::new(),
        whole_request: extension == "http" || looks_like_request(&bytes),
        bytes,
        via,
        settings,
        headers: args.header.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect(),
        // A channel that takes requests nobody signed does so here too.
        skip_verify: args.skip_verify || channel.is_some_and(|channel| channel.verify_none),
        secrets,
        account,
        map,
        now: SystemClock::default().now(),
    })
}

/// A file without the name of one may still be a whole request, as from standard input.
fn looks_like_request(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line.get(..line.len().min(4_096)).unwrap_or_default()).into_owned();
    let words: Vec<&str> = line.split_whitespace().collect();
    matches!(words.as_slice(), ["GET" | "POST" | "PUT" | "HEAD", _, version] if version.starts_with("HTTP/"))
}

fn setting_value(kind: SettingType, text: &str) -> Value {
    match kind {
        SettingType::Text | SettingType::Url | SettingType::Duration => Value::String(text.to_owned()),
        SettingType::List if !text.trim_start().starts_with('[') => {
            text.split(',').map(|part| Value::String(part.trim().to_owned())).collect()
        }
        _ => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
    }
}

/// A line that says how it ended, then the events.
fn people(document: &Value, details: &[String]) -> String {
    let word = |key: &str| document.get(key).and_then(Value::as_str).unwrap_or_default();
    let code = word("code");
    let mut out = if code.is_empty() { format!("{}\n", word("outcome")) } else { format!("{}: {code}\n", word("outcome")) };
    details.iter().for_each(|detail| out.push_str(&format!("  {detail}\n")));
    for event in document.get("events").and_then(Value::as_array).into_iter().flatten() {
        out.push_str(&format!("\n{}\n", serde_json::to_string_pretty(event).unwrap_or_default()));
    }
    out
}
