//! Control: what the admin API may ask of the running gateway, beside reading the store.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::id::RawId;
use crate::model::time::Time;
use crate::ports::BoxFuture;
use crate::ports::store::StoreError;

/// Why the gateway did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// There is no such channel, destination or item.
    #[error("{0}")]
    Missing(String),
    /// It cannot be done as asked; says what to change.
    #[error("{0}")]
    Refused(String),
    /// It failed; trying again may help.
    #[error("{0}")]
    Failed(String),
}

impl From<StoreError> for ControlError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Invariant { detail } => Self::Refused(detail),
            other => Self::Failed(other.to_string()),
        }
    }
}

/// The gateway at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// When it started.
    pub started_at: Time,
    /// It takes messages.
    pub ready: bool,
    /// Why not.
    #[serde(default)]
    pub not_ready: Vec<String>,
    /// Channels by id.
    pub channels: BTreeMap<String, ChannelStatus>,
    /// Names of the destinations of the configuration.
    #[serde(default)]
    pub configured_destinations: Vec<String>,
    /// Entries in the writer's queue.
    pub queue: u64,
}

/// One channel at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChannelStatus {
    /// Its connector.
    pub connector: String,
    /// `running`, `connecting`, `degraded`, `failed`, `disabled`.
    pub state: String,
    /// Why, if degraded or failed.
    #[serde(default)]
    pub code: Option<String>,
    /// One line for a person.
    #[serde(default)]
    pub detail: Option<String>,
    /// Since when.
    pub since: Time,
    /// When it last heard from its platform.
    #[serde(default)]
    pub last_received: Option<Time>,
    /// Hook path, for webhook channels.
    #[serde(default)]
    pub hook: Option<String>,
}

/// What a reload changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reloaded {
    /// Channels and destinations that are new.
    pub added: Vec<String>,
    /// That changed and were started again.
    pub changed: Vec<String>,
    /// That are gone.
    pub removed: Vec<String>,
    /// Rendered problems of channel files that failed alone.
    pub problems: Vec<String>,
}

/// The running gateway.
pub trait Control: Send + Sync {
    /// The gateway at a glance.
    fn status(&self) -> BoxFuture<'_, Status>;

    /// Reads the configuration again. A broken main file changes nothing: the error holds the rendered problems.
    fn reload(&self) -> BoxFuture<'_, Result<Reloaded, ControlError>>;

    /// Pauses a destination by hand: it holds its deliveries until resumed.
    fn pause<'a>(&'a self, destination: &'a str) -> BoxFuture<'a, Result<(), ControlError>>;

    /// Resumes a paused or halted destination.
    fn resume<'a>(&'a self, destination: &'a str) -> BoxFuture<'a, Result<(), ControlError>>;

    /// Discards everything waiting for a destination that is no longer configured.
    fn drop_destination<'a>(&'a self, destination: &'a str) -> BoxFuture<'a, Result<u64, ControlError>>;

    /// Makes events due again; `dry_run` only counts.
    fn replay(&self, request: ReplayRequest) -> BoxFuture<'_, Result<u64, ControlError>>;

    /// Dead letters become due again (`discard` false) or are dropped; returns how many.
    fn dead(&self, filter: crate::model::view::DeliveryFilter, discard: bool) -> BoxFuture<'_, Result<u64, ControlError>>;

    /// Reads the raw of a quarantined item again with the mapping of today; returns the new fate's word.
    fn reprocess(&self, item: i64) -> BoxFuture<'_, Result<String, ControlError>>;

    /// Asks a pulled channel to take in what lies before its first run; returns at once.
    fn backfill<'a>(&'a self, channel: &'a str, since: Option<Time>, folder: Option<&'a str>) -> BoxFuture<'a, Result<(), ControlError>>;

    /// Compares a pulled channel's mailbox with what was taken in from it; `repair` makes it take in what was overlooked.
    fn reconcile<'a>(&'a self, channel: &'a str, repair: bool) -> BoxFuture<'a, Result<Vec<FolderCompared>, ControlError>>;

    /// Takes over the consent that a person just gave for a channel, keeps it and goes on with it.
    fn consent<'a>(&'a self, channel: &'a str, given: Consent) -> BoxFuture<'a, Result<(), ControlError>>;

    /// Makes a platform call the channel's hook, and keeps it so.
    fn subscribe<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<SubscriptionView, ControlError>>;

    /// Ends that.
    fn unsubscribe<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<SubscriptionView, ControlError>>;

    /// How it is; the platform is asked, where it can be.
    fn subscription<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<SubscriptionView, ControlError>>;

    /// Erases a contact; returns counts by name.
    fn erase(&self, contact: crate::model::id::ContactId) -> BoxFuture<'_, Result<BTreeMap<String, u64>, ControlError>>;

    /// Copies the store, the blobs it names and the instance key's fingerprint into a new folder.
    fn backup<'a>(&'a self, folder: &'a std::path::Path) -> BoxFuture<'a, Result<(), ControlError>>;

    /// The bytes of a file of a message: media type, name, content.
    fn file(&self, attachment: crate::model::id::AttachmentId) -> BoxFuture<'_, Result<FileBytes, ControlError>>;

    /// Decoded size of a file of a message, as far as it is known without reading it.
    fn file_bytes(&self, attachment: crate::model::id::AttachmentId) -> BoxFuture<'_, Result<Option<u64>, ControlError>>;

    /// The body of a raw, whatever it is kept in.
    fn raw_body(&self, raw: RawId) -> BoxFuture<'_, Result<bytes::Bytes, ControlError>>;
}

/// A file of a message, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileBytes {
    /// Media type.
    pub media_type: String,
    /// Name.
    pub name: Option<String>,
    /// Content, decoded.
    pub bytes: bytes::Bytes,
}

/// A folder of a mailbox against what was taken in from it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FolderCompared {
    /// The folder.
    pub folder: String,
    /// `compared`; `renumbered` (a new UIDVALIDITY: the next session reads it anew) or `unseen` (no session has opened it yet).
    pub state: String,
    /// Mails in it, as the server says.
    pub mailbox: u64,
    /// There, and taken in.
    pub known: u64,
    /// There, and not taken in yet.
    pub awaited: u64,
    /// There from before the first run, and not to be taken in.
    pub before_first_run: u64,
    /// There, and overlooked.
    pub missing: Sample,
    /// Taken in, and there no longer: deleted or moved.
    pub extra: Sample,
    /// Under its number is another mail.
    pub changed: Sample,
    /// What is there was taken in from the start (a backfill).
    #[serde(skip)]
    pub from_the_start: bool,
    /// Everything up to this number was taken in.
    #[serde(skip)]
    pub cursor: u64,
}

/// How many, and the first of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// How many.
    pub count: u64,
    /// The first of their numbers (UIDs).
    pub numbers: Vec<u64>,
}

impl Sample {
    /// Numbers that are named.
    pub const NUMBERS_MAX: usize = 100;
}

/// The consent of a person to log in for a channel.
#[derive(Debug, Clone)]
pub struct Consent {
    /// The refresh token.
    pub refresh_token: secrecy::SecretString,
    /// How long it is good for, if the identity provider says so.
    pub ends_in: Option<std::time::Duration>,
}

/// The promise of a platform to call a channel's hook.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubscriptionView {
    /// The channel.
    pub channel: String,
    /// `none`, `asking` (asked for, not confirmed yet), `subscribed`, `ended` (its lease ran out), `ending`, `taken` (another address is called).
    pub state: String,
    /// Since when.
    pub since: Option<Time>,
    /// The address that is called.
    pub hook: Option<String>,
    /// When it ends, if it does.
    pub ends: Option<Time>,
    /// When it is renewed.
    pub renews: Option<Time>,
    /// When something is done next.
    pub next: Option<Time>,
    /// What failed last.
    pub code: Option<String>,
    /// One line for a person.
    pub detail: Option<String>,
}

/// What to replay.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// Which deliveries. `destination` must be set.
    pub filter: crate::model::view::DeliveryFilter,
    /// Count only.
    #[serde(default)]
    pub dry_run: bool,
    /// Deliveries per second; the destination's own rate holds besides.
    #[serde(default)]
    pub rate: Option<f64>,
}
