//! What the files say, typed. Every value is checked and every default filled in; nothing here reads anything.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use crate::config::oauth::OAuth;
use crate::config::units::{Network, Rate};
use crate::connector::problem::Problem;
use crate::connector::ticket::TicketSystem;
use crate::connector::ticket::compose::Forms;
use crate::connector::ticket::smtp::SmtpSettings;
use crate::logic::ticket::TicketPolicy;
use crate::model::codes::Code;
use crate::model::event::Priority;
use crate::model::mailbox::{FirstRun, Mailbox, Sasl};
use crate::model::raw::Via;
use crate::model::ticket::BackRules;
use crate::ports::store::Retention;

/// The main file.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// `[instance]`.
    pub instance: Instance,
    /// `[server]`.
    pub server: Server,
    /// `[store]`.
    pub store: StoreSettings,
    /// `[attachments]`.
    pub attachments: Attachments,
    /// `[files]`.
    pub files: Files,
    /// `[mapping]`.
    pub mapping: Mapping,
    /// `[dns]`.
    pub dns: Dns,
    /// `[logs]`.
    pub logs: Logs,
    /// `[connectors] dir`: the admin's connector folders; may be missing.
    pub connectors_dir: PathBuf,
    /// `[channels] dir`.
    pub channels_dir: PathBuf,
    /// `[delivery]`.
    pub delivery: Delivery,
    /// `[destination.<name>]`, by name.
    pub destinations: BTreeMap<String, Arc<DestinationSettings>>,
    /// `[[route]]`, in the order of the file.
    pub routes: Vec<Route>,
    /// Digest of everything the file says but its destinations and routes: a change needs a restart.
    pub fingerprint: Fingerprint,
}

/// Digest of what a file says, comments and layout apart, secrets' values included.
pub type Fingerprint = [u8; 32];

/// `[instance]`.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Name of this gateway, in logs and metrics.
    pub name: String,
    /// Folder of the store; absolute or relative to the working directory.
    pub data_dir: PathBuf,
    /// Where the instance key is.
    pub key: SecretPlace,
}

/// Where a secret is that the gateway makes by itself at the first run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretPlace {
    /// An environment variable; never made.
    Env(String),
    /// A file; made with mode 0600 if it is missing.
    File(PathBuf),
}

/// `[server]`.
#[derive(Debug, Clone)]
pub struct Server {
    /// Public listener: hooks and files, nothing else.
    pub public: SocketAddr,
    /// Its address as platforms see it; unset: that of `[files]`.
    pub public_url: Option<Url>,
    /// Private listener: health, metrics, admin API.
    pub private: SocketAddr,
    /// Bearer token of the admin API.
    pub admin_token: SecretPlace,
    /// Largest body of a request to a hook.
    pub body_bytes_max: usize,
    /// Head and body must arrive within it.
    pub request_timeout: Duration,
    /// Connections at once, per listener.
    pub connections_max: usize,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// How long a graceful stop may take.
    pub stop_timeout: Duration,
}

/// When an admission counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// After fsync: survives a power cut.
    Power,
    /// After the write: survives the death of the process.
    Process,
}

/// `[store]`.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// When an admission counts as durable.
    pub durability: Durability,
    /// Below this much free disk, admissions stop.
    pub free_min: u64,
    /// Entries the writer's queue holds.
    pub queue_items_max: usize,
    /// Bytes the writer's queue holds.
    pub queue_bytes_max: usize,
    /// Writes of one commit.
    pub commit_items_max: usize,
    /// `[store.retention]`.
    pub retention: Retention,
}

/// `[attachments]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attachments {
    /// Largest file.
    pub bytes_max: u64,
    /// Files of one message.
    pub count_max: usize,
    /// Longest wait for files that are fetched.
    pub media_wait: std::time::Duration,
}

/// `[files]`.
#[derive(Debug, Clone)]
pub struct Files {
    /// Base of file URLs; without it events carry none.
    pub public_url: Option<Url>,
    /// How long a file URL is valid.
    pub url_valid: Duration,
}

/// `[mapping]`: the budget of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// Steps of a map.
    pub fuel: u64,
    /// Items from one raw.
    pub items_max: usize,
    /// Nesting of a payload.
    pub depth_max: usize,
    /// Output of a map.
    pub output_bytes_max: usize,
}

/// `[dns]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// Whom to ask; empty: the resolvers of the system.
    pub resolvers: Vec<SocketAddr>,
    /// How long mails wait for answers at most.
    pub timeout: Duration,
}

/// `[logs]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,omnigate::pipeline=debug`.
    pub level: String,
    /// How a line is written.
    pub format: LogFormat,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[delivery]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// Wait before each attempt; the first is usually 0.
    pub schedule: Vec<Duration>,
    /// Share by which a wait is varied: 0.2 is ±20 %.
    pub jitter: f64,
}

/// One destination.
#[derive(Debug, Clone)]
pub struct DestinationSettings {
    /// Its name.
    pub name: String,
    /// Where events go.
    pub kind: DestinationKind,
    /// Own form of the event: jq over the whole event.
    pub body: Option<String>,
    /// How attachments are given.
    pub attachments: AttachmentForm,
    /// Largest file given inline; a larger one is given as URL.
    pub inline_bytes_max: u64,
    /// Most deliveries.
    pub rate: Option<Rate>,
    /// Deliveries at once.
    pub concurrency: usize,
    /// One attempt takes at most this long.
    pub timeout: Duration,
    /// What happens to a lane whose head is exhausted.
    pub on_exhausted: OnExhausted,
    /// Its own schedule.
    pub schedule: Option<Vec<Duration>>,
    /// Refuse private, loopback and link-local addresses also for this URL.
    pub strict_egress: bool,
    /// Digest of all of it.
    pub fingerprint: Fingerprint,
}

/// Where a destination's events go.
#[derive(Debug, Clone)]
pub enum DestinationKind {
    /// HTTP POST with Standard Webhooks signatures.
    Webhook {
        /// Where to.
        url: Url,
        /// Signing secrets; every delivery is signed with all of them. The first is the current one.
        secrets: Vec<SecretString>,
        /// Extra headers, names in lower case.
        headers: Vec<(String, SecretString)>,
    },
    /// NDJSON lines appended to a file.
    File {
        /// Which.
        path: PathBuf,
    },
    /// NDJSON lines on standard output.
    Stdout,
    /// A ticket system: each conversation becomes a ticket, each message an entry.
    Ticket(Box<TicketSettings>),
    /// A letter per event, for systems that make tickets of mail.
    Smtp(Box<SmtpSettings>),
}

/// What a ticket destination is given.
#[derive(Debug, Clone)]
pub struct TicketSettings {
    /// The system.
    pub system: Arc<TicketSystem>,
    /// Its settings, with defaults.
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// Its secrets, the current value of each first.
    pub secrets: BTreeMap<String, Vec<SecretString>>,
    /// Closed and deleted tickets.
    pub policy: TicketPolicy,
    /// Events that are no messages.
    pub forms: Forms,
    /// Domain of the addresses that contacts without a mail address get.
    pub contact_domain: String,
    /// What comes back from it, as a channel of its own name.
    pub back: Option<Arc<ChannelFile>>,
}

impl DestinationSettings {
    /// What comes back from it.
    pub fn back(&self) -> Option<&Arc<ChannelFile>> {
        match &self.kind {
            DestinationKind::Ticket(ticket) => ticket.back.as_ref(),
            _ => None,
        }
    }
}

impl DestinationKind {
    /// The word in the configuration.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::File { .. } => "file",
            Self::Stdout => "stdout",
            Self::Ticket(_) => "ticket",
            Self::Smtp(_) => "smtp",
        }
    }
}

/// How a destination gets attachments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachmentForm {
    /// As signed URLs.
    Url,
    /// As base64 in the event.
    Inline,
    /// Not at all.
    None,
}

/// What happens to a lane whose head is exhausted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExhausted {
    /// It becomes a dead letter and the lane moves on.
    Skip,
    /// The lane waits for a person.
    Block,
}

/// One route. All routes are evaluated; destinations and tags are united.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// jq over the event's `data` plus `type`; none: everything.
    pub when: Option<String>,
    /// Names of destinations.
    pub to: Vec<String>,
    /// Tags it adds.
    pub tags: Vec<String>,
    /// Whose messages.
    pub direction: RouteDirection,
    /// Takes backfilled messages too.
    pub historic: bool,
    /// Takes operator events, and only those.
    pub operator: bool,
}

/// Whose messages a route takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteDirection {
    /// The customer's.
    Inbound,
    /// Our side's.
    Outbound,
    /// Both.
    Any,
}

/// One channel, from `config/channels/<id>.toml`.
#[derive(Debug, Clone)]
pub struct ChannelFile {
    /// The file's name without `.toml`.
    pub id: String,
    /// The file.
    pub file: PathBuf,
    /// Name of its connector.
    pub connector: String,
    /// False: known, but not started.
    pub enabled: bool,
    /// Which account of the platform.
    pub account: Option<String>,
    /// How its messages come; the connector's default if empty.
    pub modes: Vec<Via>,
    /// What happens at the first run, where it is asked for its messages.
    pub first_run: FirstRun,
    /// How many things of every list a backfill takes in.
    pub backfill_items_max: u64,
    /// The hook it shares with others; its id if it says none.
    pub hook: String,
    /// Labels, in every event.
    pub labels: BTreeMap<String, String>,
    /// Priority of its messages.
    pub priority: Priority,
    /// Silence after which a `sender` conversation ends.
    pub new_after: Duration,
    /// `verify = "none"`: run without a secret.
    pub verify_none: bool,
    /// Own map: the text of `map`, or of the file `map_file` names.
    pub map: Option<String>,
    /// How long a hook request may wait for its commit.
    pub accept_timeout: Duration,
    /// `[settings]`, as written; checked against the connector.
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// `[secrets]`: one or several values each; the first is the current one.
    pub secrets: BTreeMap<String, Vec<SecretString>>,
    /// `[limits]`.
    pub limits: ChannelLimits,
    /// `[imap]`, for connectors of that engine.
    pub imap: Option<ImapSettings>,
    /// `[oauth]`.
    pub oauth: Option<OAuth>,
    /// It is the way back from the ticket system of the destination of this name.
    pub back: Option<BackRules>,
    /// Even hosts that its settings name must be public and speak https: as the destination says whose way back it is.
    pub strict_egress: bool,
    /// Digest of all of it.
    pub fingerprint: Fingerprint,
}

/// `[limits]` of a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChannelLimits {
    /// Per channel; none: no limit.
    pub rate: Option<Rate>,
    /// How many may come at once.
    pub burst: Option<u32>,
    /// Per sender.
    pub sender: Option<SenderLimit>,
}

/// `[limits] sender`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderLimit {
    /// The rate.
    pub rate: Rate,
    /// How many may come at once.
    pub burst: Option<u32>,
    /// What happens to the rest.
    pub over: OverLimit,
}

/// What happens to messages over a limit. Nothing is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverLimit {
    /// The platform is asked to come again.
    Slow,
    /// They are admitted and published later.
    Hold,
}

/// `[imap]` of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImapSettings {
    /// The account. Its password is `[secrets] password`.
    pub mailbox: Mailbox,
    /// How a token is shown; none: what the server offers.
    pub sasl: Option<Sasl>,
    /// Received fields a mail may have.
    pub hops_max: usize,
    /// Answers of one sender about one matter.
    pub loop_rate: Rate,
    /// Namespace of the item keys: mail of one namespace is deduplicated across mailboxes.
    pub namespace: String,
}

/// A channel whose file cannot be used. It fails alone.
#[derive(Debug, Clone)]
pub struct FailedChannel {
    /// Its connector, if the file says so much.
    pub connector: Option<String>,
    /// `channel_config` or `secret_unset`.
    pub code: Code,
    /// What is wrong.
    pub problems: Vec<Problem>,
}
