//! `[poll.NAME]` of a manifest: what is asked for, how a list is walked, and where to go on.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::connector::call::RequestSpec;
use crate::connector::call::answer::RuleSpec;
use crate::connector::manifest::{Decode, OneOrMore};

/// `[poll.NAME]`. The request's context has the roots `part`, `cursor`, `page`, `session` and `now` (`now.s`, `now.ms`, `now.iso`, and `now.iso_s` without a fraction).
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PollSpec {
    /// What is asked.
    pub request: RequestSpec,
    /// What an answer is; JSON if missing.
    #[serde(default)]
    pub decode: Option<OneOrMore<Decode>>,
    /// Where the list stands in the answer (RFC 6901; empty: the answer is the list). Unset: the answer is one thing.
    #[serde(default)]
    pub items: Option<String>,
    /// jq over an answer without a list: true if it says so that there is nothing.
    #[serde(default)]
    pub none: Option<String>,
    /// jq over one item: what it is recognised by.
    #[serde(default)]
    pub id: Option<String>,
    /// jq over one item: whether it is nothing at all (a heartbeat), and left out.
    #[serde(default)]
    pub skip: Option<String>,
    /// Pause between two looks: a duration, or `settings.NAME`.
    #[serde(default = "minute")]
    pub interval: String,
    /// While nothing comes the pause grows up to this.
    #[serde(default)]
    pub idle_interval: Option<String>,
    /// How the platform sorts; what is admitted goes from old to new.
    #[serde(default)]
    pub order: Order,
    /// Where to go on.
    #[serde(default)]
    pub cursor: Option<CursorSpec>,
    /// How the next page is asked for.
    #[serde(default)]
    pub page: Option<PageSpec>,
    /// jq over the answer, with `$cursor`: whether this was the last page that is needed.
    #[serde(default)]
    pub stop: Option<String>,
    /// Newest first: a page with something known is the last.
    #[serde(default)]
    pub until_known: bool,
    /// How many ids are remembered, at most 900: what comes again is left out.
    #[serde(default)]
    pub seen: usize,
    /// What may change again without looking different.
    #[serde(default)]
    pub settle: Option<SettleSpec>,
    /// What the first look does with what is there, unless the channel says `first_run = "backfill"`.
    #[serde(default)]
    pub from_now: FromNow,
    /// The platform holds the request until there is something: it is asked again at once.
    #[serde(default)]
    pub long_poll: bool,
    /// What is made once before, and anew when the platform has forgotten it (`cursor_lost`).
    #[serde(default)]
    pub register: Option<RegisterSpec>,
    /// This poll fills the gap after the named one had to register anew; it runs only then.
    #[serde(default)]
    pub fills: Option<String>,
    /// jq over an answer of this poll: the newest cursor of the poll that fills its gaps.
    #[serde(default)]
    pub mark: Option<String>,
    /// Ask with `If-None-Match` and `If-Modified-Since`.
    #[serde(default)]
    pub conditional: bool,
    /// What answers mean.
    #[serde(default)]
    pub errors: Vec<RuleSpec>,
    /// Units that one request costs of the day's.
    #[serde(default = "one")]
    pub cost: u64,
    /// What is asked for one by one.
    #[serde(default)]
    pub parts: Option<PartsSpec>,
    /// What is asked of each thing that is new.
    #[serde(default)]
    pub follow: Option<FollowSpec>,
    /// Name of the setting (true or false, a text, a list) without which it does not run.
    #[serde(default)]
    pub when: Option<String>,
}

fn minute() -> String {
    "60s".to_owned()
}

fn one() -> u64 {
    1
}

/// What may change again without looking different: where ids hold a moment that counts in seconds, a second change within the same
/// one has the same id. What changed just before the answer is taken, and not taken as known yet: the next look takes it once more.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SettleSpec {
    /// jq over one item: when it changed last, in RFC 3339.
    pub at: String,
    /// How long before the answer (its `Date`, else our clock) that must be for the item to count as known.
    pub after: String,
}

/// How a list is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// A page goes on where the one before ended.
    #[default]
    OldestFirst,
    /// The newest is on the first page.
    NewestFirst,
}

/// Where to go on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CursorSpec {
    /// jq over one item: its place. What is not beyond the cursor is left out, and ends a list that goes from new to old.
    #[serde(default)]
    pub each: Option<String>,
    /// jq over the answer: the place after it.
    #[serde(default)]
    pub from: Option<String>,
    /// Which of several places counts.
    #[serde(default)]
    pub take: Take,
    /// The place before there is any.
    #[serde(default)]
    pub initial: Option<String>,
    /// A number that is taken off when asking, in the cursor's unit: what comes twice is recognised.
    #[serde(default)]
    pub lookback: u64,
}

/// Which place counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Take {
    /// The greatest.
    #[default]
    Max,
    /// The one said last.
    Last,
}

/// How the next page is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum PageSpec {
    /// The answer holds a token, which becomes `{page}`.
    Cursor {
        /// jq: the token; null or empty on the last page.
        from: String,
    },
    /// The header `Link` holds the next address (RFC 8288).
    LinkHeader {
        /// The relation.
        #[serde(default = "next")]
        rel: String,
    },
    /// The answer holds the next address.
    NextUrl {
        /// jq: the address; null on the last page.
        from: String,
    },
    /// Pages have numbers; a page without items is the last.
    PageNumber {
        /// The first.
        #[serde(default = "one")]
        start: u64,
        /// jq: whether there are more.
        #[serde(default)]
        more: Option<String>,
    },
    /// `{page}` is how many items came before; a page without items is the last.
    Offset {
        /// jq: whether there are more.
        #[serde(default)]
        more: Option<String>,
    },
    /// `{page}` is the id of the last item; a page without items is the last.
    BeforeId {},
}

fn next() -> String {
    "next".to_owned()
}

/// What the first look does with what is there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FromNow {
    /// It is remembered and not taken; a document without `items` is taken as history.
    #[default]
    MarkSeen,
    /// It is taken: the platform holds only what nobody has fetched.
    Take,
    /// The first look begins at this place, a template such as `{now.s}`.
    Start(String),
}

/// What is made before a long poll.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterSpec {
    /// How.
    pub request: RequestSpec,
    /// What of its answer becomes `{session.NAME}`: jq by name.
    pub take: BTreeMap<String, String>,
    /// Its name in `take` that is the cursor to begin with.
    #[serde(default)]
    pub cursor: Option<String>,
    /// What its answers mean.
    #[serde(default)]
    pub errors: Vec<RuleSpec>,
}

/// What is asked for one by one.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PartsSpec {
    /// Name of the setting that lists them.
    #[serde(default)]
    pub setting: Option<String>,
    /// How they are asked for, where the setting is not there or empty.
    #[serde(default)]
    pub request: Option<RequestSpec>,
    /// jq over the answer: the parts, one output each.
    #[serde(default)]
    pub from: Option<String>,
    /// How often they are asked for.
    #[serde(default = "hour")]
    pub every: String,
    /// What its answers mean.
    #[serde(default)]
    pub errors: Vec<RuleSpec>,
}

/// What is asked of each thing of a list that is new, where the list only names it: the answer's body becomes its member `follow`; of
/// several pages (`again`) the list of their bodies. Things of a page that lead
/// to the same address (GET, without a body) one after the other share one answer.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FollowSpec {
    /// jq over one item: whether it is asked; always if missing.
    #[serde(default)]
    pub when: Option<String>,
    /// How. Its context has the roots `item` and `again` beside those of the poll; `cursor` is where the list was before this look.
    pub request: RequestSpec,
    /// jq over an answer, with `$cursor` and `$again`: what the next page is asked for by, as `{again}`, which is null for the first; null on
    /// the last one.
    #[serde(default)]
    pub again: Option<String>,
    /// What its answers mean. `missing`: it is gone meanwhile, and `follow` is null.
    #[serde(default)]
    pub errors: Vec<RuleSpec>,
}

fn hour() -> String {
    "1h".to_owned()
}

/// `[limits]` of a manifest: how much may be asked of the account, and where answers tell it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsSpec {
    /// Requests a day (UTC).
    #[serde(default)]
    pub day_requests: Option<u64>,
    /// Units a day; a request costs `cost` of them.
    #[serde(default)]
    pub day_units: Option<u64>,
    /// Bytes of answers a day.
    #[serde(default)]
    pub day_bytes: Option<u64>,
    /// Where an answer says how many requests are left.
    #[serde(default)]
    pub remaining: Option<HeaderSpec>,
    /// Where it says when there are more.
    #[serde(default)]
    pub reset: Option<ResetSpec>,
    /// jq over the answer: seconds that the platform wants to be left alone.
    #[serde(default)]
    pub backoff_s: Option<String>,
}

/// A number in a header.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderSpec {
    /// Its name.
    pub header: String,
    /// A regular expression whose first group is the number, where the header holds more.
    #[serde(default)]
    pub pattern: Option<String>,
}

/// A moment in a header.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetSpec {
    /// Its name.
    pub header: String,
    /// A regular expression whose first group is the moment.
    #[serde(default)]
    pub pattern: Option<String>,
    /// How it is written.
    pub unit: ResetUnit,
}

/// How a moment is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResetUnit {
    /// Unix seconds.
    EpochS,
    /// Unix milliseconds.
    EpochMs,
    /// Seconds from now.
    SecondsLeft,
    /// RFC 3339.
    Iso,
}
