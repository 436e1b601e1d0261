//! Polls: `[poll.NAME]` of a manifest, compiled, and the walk over a list of the platform. Pure: what is asked comes out, what was
//! answered goes in; `engines::poll` is who asks.
//!
//! A walk through it: `spec` is the manifest's table, `mod` compiles it, `lane` is one list that is followed (a poll, or one part of
//! it) with its cursors, `page` reads one answer, `limits` knows how much may be asked.

pub mod follow;
pub mod lane;
pub mod limits;
mod page;
pub(crate) mod script;
pub mod spec;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::connector::call::Call;
use crate::connector::call::answer::{ANSWER_VARS, Judged, Rules};
use crate::connector::call::compile::Scope;
use crate::connector::call::template::Template;
use crate::connector::jq::{Filter, Input, JqError};
use crate::connector::manifest::duration;
use crate::connector::poll::spec::{FromNow, Order, PageSpec, PollSpec, Take};
use crate::connector::problem::Problem;
use crate::model::time::Time;

/// Roots of a poll's context.
const ROOTS: [&str; 5] = ["part", "cursor", "page", "session", "now"];
/// Variables of `stop`.
const STOP_VARS: [&str; 3] = ["$status", "$headers", "$cursor"];
/// Variables of `follow.again`.
const AGAIN_VARS: [&str; 4] = ["$status", "$headers", "$cursor", "$again"];
/// Ids remembered at most: they must fit into one cursor.
pub const SEEN_MAX: usize = 900;

/// A poll, compiled.
#[derive(Debug)]
pub struct Poll {
    /// Its name.
    pub name: String,
    /// As it stands in the manifest.
    pub spec: PollSpec,
    /// What is asked.
    pub call: Call,
    /// What answers mean.
    pub rules: Rules,
    /// What is made before.
    pub register: Option<Register>,
    /// What is asked for one by one.
    pub parts: Option<Parts>,
    /// What is asked of each thing that is new.
    pub follow: Option<Follow>,
    id: Option<Filter>,
    settle: Option<(Filter, Duration)>,
    skip: Option<Filter>,
    none: Option<Filter>,
    each: Option<Filter>,
    from: Option<Filter>,
    next: Option<Filter>,
    stop: Option<Filter>,
    mark: Option<Filter>,
    start: Option<Template>,
}

/// What is made before a long poll, compiled.
#[derive(Debug)]
pub struct Register {
    /// How.
    pub call: Call,
    /// What its answers mean.
    pub rules: Rules,
    /// What is taken of the answer.
    pub take: Vec<(String, Filter)>,
    /// Name of the one that is the cursor to begin with.
    pub cursor: Option<String>,
}

/// How parts are asked for, compiled.
#[derive(Debug)]
pub struct Parts {
    /// Name of the setting.
    pub setting: Option<String>,
    /// Where the setting says nothing.
    pub request: Option<(Call, Rules, Filter)>,
    /// How often.
    pub every: Duration,
}

/// What is asked of each thing that is new, compiled.
#[derive(Debug)]
pub struct Follow {
    /// How.
    pub call: Call,
    /// What its answers mean.
    pub rules: Rules,
    when: Option<Filter>,
    again: Option<Filter>,
}

impl Follow {
    /// Whether a thing is asked.
    ///
    /// # Errors
    /// Its jq failed.
    pub fn asks(&self, item: &Value) -> Result<bool, JqError> {
        self.when.as_ref().map_or(Ok(true), |when| when.truthy_of(Input::Value(item), &[]))
    }

    /// Whether its answers come in pages.
    pub fn has_pages(&self) -> bool {
        self.again.is_some()
    }

    /// What the page behind this one is asked for by, which was asked for by `asked`; null if there is none.
    ///
    /// # Errors
    /// Its jq failed.
    pub fn again(&self, judged: &Judged, cursor: &Value, asked: &Value) -> Result<Value, JqError> {
        let Some(again) = &self.again else { return Ok(Value::Null) };
        let status = Value::from(judged.status);
        Ok(again.run_of(Input::Value(&judged.body), &[&status, &judged.headers, cursor, asked])?.into_iter().next().unwrap_or(Value::Null))
    }
}

impl Poll {
    /// Compiles `[poll.NAME]`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(name: &str, spec: &PollSpec, scope: &Scope<'_>) -> Result<Self, Vec<Problem>> {
        let mut compiler = Compiler { place: format!("poll.{name}"), scope, problems: Vec::new() };
        compiler.check(spec);
        let call = compiler.call("request", &spec.request, &ROOTS);
        let rules = compiler.rules(&spec.errors);
        let next = match &spec.page {
            Some(PageSpec::Cursor { from } | PageSpec::NextUrl { from }) => Some(from),
            Some(PageSpec::PageNumber { more, .. } | PageSpec::Offset { more }) => more.as_ref(),
            _ => None,
        };
        let cursor = spec.cursor.as_ref();
        let poll = Self {
            name: name.to_owned(),
            id: compiler.filter(spec.id.as_ref(), &[]),
            settle: compiler.settle(spec),
            skip: compiler.filter(spec.skip.as_ref(), &[]),
            none: compiler.filter(spec.none.as_ref(), &ANSWER_VARS),
            each: compiler.filter(cursor.and_then(|cursor| cursor.each.as_ref()), &[]),
            from: compiler.filter(cursor.and_then(|cursor| cursor.from.as_ref()), &ANSWER_VARS),
            next: compiler.filter(next, &ANSWER_VARS),
            stop: compiler.filter(spec.stop.as_ref(), &STOP_VARS),
            mark: compiler.filter(spec.mark.as_ref(), &ANSWER_VARS),
            start: compiler.start(spec),
            register: compiler.register(spec),
            parts: compiler.parts(spec),
            follow: compiler.follow(spec),
            spec: spec.clone(),
            call: call.ok_or_else(|| std::mem::take(&mut compiler.problems))?,
            rules,
        };
        if compiler.problems.is_empty() { Ok(poll) } else { Err(compiler.problems) }
    }

    /// The pause between two looks, and what it grows to while nothing comes.
    pub fn interval(&self, settings: &Value) -> (Duration, Duration) {
        if self.spec.long_poll {
            return (Duration::ZERO, Duration::ZERO);
        }
        let text = &self.spec.interval;
        let set = text.strip_prefix("settings.").and_then(|name| settings.get(name)).and_then(Value::as_u64).map(Duration::from_millis);
        let base = set.or_else(|| duration(text)).unwrap_or(Duration::from_secs(60)).max(Duration::from_secs(1));
        let idle = self.spec.idle_interval.as_deref().and_then(duration).unwrap_or(base);
        (base, idle.max(base))
    }

    /// Whether the channel's settings switch it on.
    pub fn is_on(&self, settings: &Value) -> bool {
        let Some(name) = &self.spec.when else { return true };
        match settings.get(name) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(items)) => !items.is_empty(),
            Some(_) => true,
        }
    }

    fn newest_first(&self) -> bool {
        self.spec.order == Order::NewestFirst
    }
}

/// What fills a poll's requests.
pub fn context(settings: &Value, part: &Value, cursor: &Value, page: &Value, session: &Value, now: Time) -> Value {
    let iso_s = Time(now.seconds().saturating_mul(1_000)).to_string().replace(".000Z", "Z");
    // Some platforms take no zone: they mean UTC.
    let utc_s = iso_s.trim_end_matches('Z');
    let moment = json!({"s": now.seconds(), "ms": now.0, "iso": now.to_string(), "iso_s": iso_s, "utc_s": utc_s});
    json!({"settings": settings, "part": part, "cursor": cursor, "page": page, "session": session, "now": moment})
}

struct Compiler<'a> {
    place: String,
    scope: &'a Scope<'a>,
    problems: Vec<Problem>,
}

impl Compiler<'_> {
    fn wrong(&mut self, message: impl std::fmt::Display) {
        self.problems.push(Problem::whole(self.scope.file, format!("[{}]: {message}", self.place)));
    }

    fn check(&mut self, spec: &PollSpec) {
        let settings = self.scope.settings;
        let listed = spec.items.is_some();
        if spec.items.as_ref().is_some_and(|items| !items.is_empty() && !items.starts_with('/')) {
            self.wrong("`items` is a pointer such as \"/result\", or empty");
        }
        if (spec.id.is_some() || spec.skip.is_some()) && !listed {
            self.wrong("`id` and `skip` need `items`");
        }
        if (spec.seen > 0 || spec.until_known || matches!(spec.page, Some(PageSpec::BeforeId {}))) && spec.id.is_none() {
            self.wrong("`seen`, `until_known` and pages of kind before_id need `items` and `id`");
        }
        if spec.until_known && spec.seen == 0 {
            self.wrong("`until_known` needs `seen`");
        }
        if spec.seen > SEEN_MAX {
            self.wrong(format!("`seen` is at most {SEEN_MAX}"));
        }
        if matches!(spec.page, Some(PageSpec::PageNumber { .. } | PageSpec::Offset { .. })) && !listed {
            self.wrong("pages of this kind need `items`");
        }
        if let Some(cursor) = &spec.cursor {
            if cursor.each.is_some() == cursor.from.is_some() {
                self.wrong("`cursor` needs one of each, from");
            }
            if cursor.each.is_some() && (!listed || cursor.take == Take::Last) {
                self.wrong("`cursor.each` needs `items`, and takes the greatest");
            }
        }
        let own = spec.interval.strip_prefix("settings.");
        let fits = own.map_or_else(|| duration(&spec.interval).is_some(), |name| settings.contains_key(name));
        if !fits || spec.idle_interval.as_deref().is_some_and(|text| duration(text).is_none()) {
            self.wrong("`interval` is a duration such as \"60s\", or `settings.NAME`; `idle_interval` is a duration");
        }
        for name in spec.when.iter().chain(spec.parts.iter().filter_map(|parts| parts.setting.as_ref())) {
            if !settings.contains_key(name) {
                self.wrong(format!("names the setting `{name}`, which is not declared"));
            }
        }
    }

    fn call(&mut self, what: &str, spec: &crate::connector::call::RequestSpec, roots: &[&str]) -> Option<Call> {
        let made = Call::compile(spec, &format!("{}.{what}", self.place), roots, self.scope);
        made.map_err(|problems| self.problems.extend(problems)).ok()
    }

    fn rules(&mut self, specs: &[crate::connector::call::answer::RuleSpec]) -> Rules {
        let made = Rules::compile(specs, self.scope.file, &self.place, self.scope.limits);
        made.map_err(|problems| self.problems.extend(problems)).unwrap_or_default()
    }

    fn filter(&mut self, code: Option<&String>, vars: &[&str]) -> Option<Filter> {
        match Filter::compile(self.scope.file, code?, vars, self.scope.limits) {
            Ok(filter) => Some(filter),
            Err(problems) => {
                problems.into_iter().for_each(|problem| self.wrong(format!("in its jq: {}", problem.message)));
                None
            }
        }
    }

    fn start(&mut self, spec: &PollSpec) -> Option<Template> {
        let FromNow::Start(text) = &spec.from_now else { return None };
        Template::parse(text).map_err(|message| self.wrong(format!("from_now: {message}"))).ok()
    }

    fn settle(&mut self, spec: &PollSpec) -> Option<(Filter, Duration)> {
        let settle = spec.settle.as_ref()?;
        if spec.seen == 0 || spec.from_now == FromNow::MarkSeen {
            self.wrong("`settle` needs `seen`, and a `from_now` that is not mark_seen");
        }
        let after = duration(&settle.after);
        if after.is_none() {
            self.wrong("`settle.after` is a duration such as \"5s\"");
        }
        self.filter(Some(&settle.at), &[]).zip(after)
    }

    fn register(&mut self, spec: &PollSpec) -> Option<Register> {
        let spec = spec.register.as_ref()?;
        let mut take = Vec::new();
        for (name, code) in &spec.take {
            if let Some(filter) = self.filter(Some(code), &ANSWER_VARS) {
                take.push((name.clone(), filter));
            }
        }
        if spec.cursor.as_ref().is_some_and(|name| !spec.take.contains_key(name)) {
            self.wrong("`register.cursor` is a name of `register.take`");
        }
        let rules = self.rules(&spec.errors);
        Some(Register { call: self.call("register", &spec.request, &["now"])?, rules, take, cursor: spec.cursor.clone() })
    }

    fn follow(&mut self, spec: &PollSpec) -> Option<Follow> {
        let follow = spec.follow.as_ref()?;
        if spec.items.is_none() {
            self.wrong("`follow` needs `items`");
        }
        let (rules, when) = (self.rules(&follow.errors), self.filter(follow.when.as_ref(), &[]));
        let again = self.filter(follow.again.as_ref(), &AGAIN_VARS);
        let roots = [ROOTS.as_slice(), &["item", "again"]].concat();
        Some(Follow { call: self.call("follow", &follow.request, &roots)?, rules, when, again })
    }

    fn parts(&mut self, spec: &PollSpec) -> Option<Parts> {
        let spec = spec.parts.as_ref()?;
        if spec.request.is_some() != spec.from.is_some() || (spec.setting.is_none() && spec.request.is_none()) {
            self.wrong("`parts` needs a setting, or request and from");
        }
        let every = duration(&spec.every).unwrap_or_else(|| {
            self.wrong("`parts.every` is a duration such as \"1h\"");
            Duration::from_secs(3600)
        });
        let rules = self.rules(&spec.errors);
        let from = self.filter(spec.from.as_ref(), &ANSWER_VARS);
        let call = spec.request.as_ref().and_then(|request| self.call("parts", request, &["now"]));
        Some(Parts { setting: spec.setting.clone(), request: call.zip(from).map(|(call, from)| (call, rules, from)), every })
    }
}

/// The polls of a manifest, by name.
pub type Polls = BTreeMap<String, Poll>;
