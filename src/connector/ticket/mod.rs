//! Ticket systems as folders: `destination.toml` says by data and jq how one system's calls look and what it can do; the flow is
//! `logic::ticket`, the same for all.
//!
//! Everything that can be wrong with a folder is told when it is loaded. What must stay true: a system whose calls cannot be repeated
//! safely must say how to look for what was sent, or it is refused here.

mod back;
pub mod compose;
pub mod dialect;
mod load;
pub mod smtp;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::connector::call::answer::{RuleSpec, Rules};
use crate::connector::call::auth::AuthSpec;
use crate::connector::call::{Call, RequestSpec};
use crate::connector::jq::{Filter, Input, JqError};
use crate::connector::load::Connector;
use crate::connector::manifest::{Secret, Setting, Webhook};
use crate::connector::media::RecipeSpec;
use crate::connector::own::WhoamiSpec;
use crate::connector::poll::spec::{LimitsSpec, PollSpec};
use crate::connector::ticket::dialect::Dialect;
use crate::connector::token::TokenPlan;
use crate::logic::ticket::Caps;

/// The file that makes a folder a ticket system.
pub const DESTINATION_FILE: &str = "destination.toml";

/// What the context of every call holds beside `settings`.
pub const ROOTS: [&str; 11] =
    ["conversation", "ticket", "before", "requester", "entry", "event", "files", "file", "duplicate", "seen", "again"];

/// `destination.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TicketManifest {
    /// Name of the system, equal to its folder's.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// One sentence: what it is for.
    pub about: String,
    /// What it was tried against.
    pub proved: Proved,
    /// The only hosts its credentials may go to, beside those of settings.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// What the destination may set.
    #[serde(default)]
    pub settings: BTreeMap<String, Setting>,
    /// Secrets it needs.
    #[serde(default)]
    pub secrets: BTreeMap<String, Secret>,
    /// How calls prove who asks.
    #[serde(default)]
    pub auth: BTreeMap<String, AuthSpec>,
    /// What it can do.
    pub ticket: TicketSpec,
    /// How entries are written.
    pub text: TextSpec,
    /// For people: the table in the documentation.
    pub told: Told,
    /// What answers mean, for all calls; a call's own rules come first.
    #[serde(default)]
    pub rules: Vec<RuleSpec>,
    /// The calls.
    pub calls: CallsSpec,
    /// What must be there for it to work.
    #[serde(default)]
    pub checks: Vec<CheckSpec>,
    /// What comes back: agents' entries and states of tickets.
    #[serde(default)]
    pub back: Option<BackSpec>,
}

/// The way back: how the system's news reach us, read by `back/map.jq`. Tables as in `connector.toml`; settings, secrets and hosts are
/// the destination's.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackSpec {
    /// Codes the map may give to what it ignores: code → what it means.
    #[serde(default)]
    pub codes: BTreeMap<String, String>,
    /// How the system is asked who we are there: `$own` of the map.
    #[serde(default)]
    pub whoami: Option<WhoamiSpec>,
    /// How requests are taken.
    #[serde(default)]
    pub webhook: Option<Webhook>,
    /// What is asked for, by name.
    #[serde(default)]
    pub poll: BTreeMap<String, PollSpec>,
    /// How much may be asked.
    #[serde(default)]
    pub limits: LimitsSpec,
    /// How files of agents are fetched, which the map only names.
    #[serde(default)]
    pub media: BTreeMap<String, RecipeSpec>,
}

/// What a folder was tried against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Proved {
    /// The real thing, in the test suite.
    Real,
    /// A strict fake, in the test suite.
    Fake,
    /// Its requests are rendered in the test suite, nothing answers them.
    Rendered,
}

impl Proved {
    /// The word in the documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Real => "real",
            Self::Fake => "fake",
            Self::Rendered => "rendered only",
        }
    }
}

/// What a system can do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TicketSpec {
    /// Template: where a person sees the ticket.
    #[serde(default)]
    pub url: Option<String>,
    /// What creating a ticket writes.
    #[serde(default)]
    pub create: CreateWay,
    /// Calls that may be sent again with our id and do nothing twice.
    #[serde(default)]
    pub repeatable: Vec<Repeatable>,
    /// When to look for what was sent without an answer, such as `["2s", "10s", "60s"]`: as long as its index may lag.
    #[serde(default)]
    pub look_after: Vec<String>,
    /// Look for a second ticket after each create, and close it.
    #[serde(default)]
    pub verify: bool,
    /// How files get there.
    #[serde(default)]
    pub files: FilesWay,
    /// Largest file it takes, bytes.
    #[serde(default)]
    pub file_bytes_max: Option<u64>,
    /// Largest sum of the files of one entry, bytes.
    #[serde(default)]
    pub files_bytes_max: Option<u64>,
    /// Most files of one entry.
    #[serde(default)]
    pub files_max: Option<usize>,
    /// Extensions of the files it takes, in lower case and without the dot; all if empty. Others are named in the text.
    #[serde(default)]
    pub file_extensions: Vec<String>,
    /// Bodies hold the files themselves: `files[].base64` and `file.base64` of the context.
    #[serde(default)]
    pub base64: bool,
}

/// What creating a ticket writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CreateWay {
    /// The ticket with its first entry.
    #[default]
    WithEntry,
    /// The ticket alone; the entry is appended.
    Empty,
}

/// A call that may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Repeatable {
    /// Creating.
    Create,
    /// Appending.
    Append,
}

/// How files get into a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FilesWay {
    /// With the create or append.
    With,
    /// By a call before, which gives a token.
    Upload,
    /// By a call after.
    After,
    /// As links in the text.
    #[default]
    Link,
}

/// How entries are written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextSpec {
    /// The system's language.
    pub dialect: Dialect,
    /// Longest text, characters.
    #[serde(default = "chars")]
    pub chars_max: usize,
    /// The account writes all entries: each begins with who wrote it.
    #[serde(default)]
    pub names_author: bool,
    /// Entries end with our id of them, so that they can be found.
    #[serde(default)]
    pub marks: bool,
}

fn chars() -> usize {
    60_000
}

/// What the documentation says of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// How duplicates are prevented.
    pub duplicates: String,
    /// In whose name entries are written.
    pub author: String,
    /// Files.
    pub files: String,
    /// Limits.
    pub limits: String,
    /// What comes back.
    #[serde(default)]
    pub back: String,
}

/// The calls of a system.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallsSpec {
    /// Who asks. Takes an id, or null.
    #[serde(default)]
    pub find_requester: Option<CallSpec>,
    /// Makes who asks. Takes an id.
    #[serde(default)]
    pub make_requester: Option<CallSpec>,
    /// Tickets with our id. Takes a list of `{id, url, entry}`, the oldest first; or `{again: value}` if the answer is a page without
    /// them and there are more: the call is made again with `again` in its context.
    #[serde(default)]
    pub find_tickets: Option<CallSpec>,
    /// Makes the ticket. Takes `{id, url, entry}`.
    pub create: CallSpec,
    /// The state of a ticket. Takes `"open"`, `"closed"`, `"gone"`, `{"merged": id}`, or `"joined"` if only `find_joined` tells with what.
    #[serde(default)]
    pub show: Option<CallSpec>,
    /// What a ticket was joined with, when `show` takes `"joined"`. Takes its id, or null: then it counts as closed.
    #[serde(default)]
    pub find_joined: Option<CallSpec>,
    /// Opens a ticket again.
    #[serde(default)]
    pub reopen: Option<CallSpec>,
    /// Writes what the customer says. Takes the id of the entry, or null.
    pub append: CallSpec,
    /// Writes an entry that files go with, whoever sees it; as `append` and `note` if missing.
    #[serde(default)]
    pub append_files: Option<CallSpec>,
    /// Writes what only agents see; as `append` if missing.
    #[serde(default)]
    pub note: Option<CallSpec>,
    /// Made before `reopen`, `close_duplicate` (there of the duplicate), and `link` or, where there is none, `append`: what it takes is
    /// `seen` there.
    #[serde(default)]
    pub look: Option<CallSpec>,
    /// Made after an entry is written or found (its id is `entry.ref`): puts it into the ticket. Doing it again changes nothing.
    #[serde(default)]
    pub link: Option<CallSpec>,
    /// Looks for an entry by our id. Takes its id, or `true` where it has none; null if it is not there; `{again: value}` as
    /// `find_tickets`.
    #[serde(default)]
    pub find_entry: Option<CallSpec>,
    /// Hands over a file. Takes its token.
    #[serde(default)]
    pub upload: Option<CallSpec>,
    /// Attaches a file to the entry or ticket.
    #[serde(default)]
    pub attach: Option<CallSpec>,
    /// Looks for a file by our id. As `find_entry`.
    #[serde(default)]
    pub find_file: Option<CallSpec>,
    /// Says in the ticket `duplicate` that it goes on in `ticket`, where closing it cannot: made before `close_duplicate`.
    #[serde(default)]
    pub note_duplicate: Option<CallSpec>,
    /// Closes the ticket `duplicate`, with a link to `ticket`.
    #[serde(default)]
    pub close_duplicate: Option<CallSpec>,
}

/// One call.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallSpec {
    /// jq over the context: whether the call is made. Left out, the step counts as done with nothing found.
    #[serde(default)]
    pub when: Option<String>,
    /// The request.
    pub request: RequestSpec,
    /// jq over the answer's body with `$status`, `$headers` and `$context`: what the call is about.
    #[serde(default)]
    pub take: Option<String>,
    /// What its answers mean.
    #[serde(default)]
    pub rules: Vec<RuleSpec>,
}

/// Something that must be there.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckSpec {
    /// What is looked at, for people: `login`, `queue`, `custom field Conversation ID`.
    pub what: String,
    /// jq over the context (`settings` alone): whether it is looked at.
    #[serde(default)]
    pub when: Option<String>,
    /// The request.
    pub request: RequestSpec,
    /// jq over the answer's body: a text that tells what is there, or null or false if it is missing.
    #[serde(default)]
    pub take: Option<String>,
    /// What to do when it is missing, for people.
    #[serde(default)]
    pub advice: Option<String>,
    /// What answers to looking and making mean.
    #[serde(default)]
    pub rules: Vec<RuleSpec>,
    /// Makes it.
    #[serde(default)]
    pub make: Option<RequestSpec>,
    /// jq over the context (`settings` alone): whether it can be made.
    #[serde(default)]
    pub make_when: Option<String>,
}

/// Variables of a call's `take`.
pub const TAKE_VARS: [&str; 3] = ["$status", "$headers", "$context"];

/// One call, compiled.
#[derive(Debug)]
pub struct TicketCall {
    /// What is sent.
    pub call: Call,
    /// What answers mean.
    pub rules: Rules,
    when: Option<Filter>,
    take: Option<Filter>,
}

impl TicketCall {
    /// Whether it is made.
    ///
    /// # Errors
    /// Its jq failed.
    pub fn is_made(&self, context: &Value) -> Result<bool, JqError> {
        self.when.as_ref().map_or(Ok(true), |when| when.truthy_of(Input::Value(context), &[]))
    }

    /// What an answer is about.
    ///
    /// # Errors
    /// Its jq failed.
    pub fn take(&self, judged: &crate::connector::call::answer::Judged, context: &Value) -> Result<Value, JqError> {
        let Some(take) = &self.take else { return Ok(Value::Null) };
        let status = Value::from(judged.status);
        let vars = [&status, &judged.headers, context];
        Ok(take.run_of(Input::Value(&judged.body), &vars)?.into_iter().next().unwrap_or(Value::Null))
    }
}

/// A check, compiled.
#[derive(Debug)]
pub struct TicketCheck {
    /// What is looked at.
    pub what: String,
    /// What to do when it is missing.
    pub advice: Option<String>,
    /// How it is looked at.
    pub look: TicketCall,
    /// How it is made.
    pub make: Option<TicketCall>,
}

/// The calls, compiled.
#[derive(Debug)]
pub struct Calls {
    /// Who asks.
    pub find_requester: Option<TicketCall>,
    /// Makes who asks.
    pub make_requester: Option<TicketCall>,
    /// Tickets with our id.
    pub find_tickets: Option<TicketCall>,
    /// Makes the ticket.
    pub create: TicketCall,
    /// The state of a ticket.
    pub show: Option<TicketCall>,
    /// What a closed ticket was joined with.
    pub find_joined: Option<TicketCall>,
    /// Opens a ticket again.
    pub reopen: Option<TicketCall>,
    /// Writes what the customer says.
    pub append: TicketCall,
    /// Writes an entry with files.
    pub append_files: Option<TicketCall>,
    /// Writes what only agents see.
    pub note: Option<TicketCall>,
    /// Looks before `link` or `append`.
    pub look: Option<TicketCall>,
    /// Puts an entry into the ticket.
    pub link: Option<TicketCall>,
    /// Looks for an entry.
    pub find_entry: Option<TicketCall>,
    /// Hands over a file.
    pub upload: Option<TicketCall>,
    /// Attaches a file.
    pub attach: Option<TicketCall>,
    /// Looks for a file.
    pub find_file: Option<TicketCall>,
    /// Says in a second ticket where it goes on.
    pub note_duplicate: Option<TicketCall>,
    /// Closes a second ticket.
    pub close_duplicate: Option<TicketCall>,
}

/// A ticket system that is ready for destinations.
#[derive(Debug)]
pub struct TicketSystem {
    /// What its `destination.toml` says.
    pub manifest: TicketManifest,
    /// Its calls.
    pub calls: Calls,
    /// How its tokens are got, by `[auth.NAME]`.
    pub tokens: BTreeMap<String, Arc<TokenPlan>>,
    /// What must be there.
    pub checks: Vec<TicketCheck>,
    /// What it can do.
    pub caps: Caps,
    /// What comes back, as a connector whose map tells of tickets.
    pub back: Option<Arc<Connector>>,
    /// Where a person sees a ticket.
    pub(crate) url: Option<crate::connector::call::template::Template>,
}
