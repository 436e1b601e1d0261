//! Subscribe: how a platform is told to call our hook, asked whether it does, and told to stop (`[subscribe]`).
//!
//! Values only: which request, and what its answer means. When each is sent is `logic::subscription`'s matter, that it is sent the pipeline's.
//! What must stay true: a request that can be neither repeated nor looked for is refused when the folder is loaded, for its answer can
//! be lost.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::connector::call::answer::{Judged, RuleSpec, Rules};
use crate::connector::call::compile::Scope;
use crate::connector::call::{Call, RequestSpec};
use crate::connector::handshake::Handshake;
use crate::connector::jq::{Filter, Input, JqError};
use crate::connector::manifest::{Webhook, duration};
use crate::connector::problem::Problem;
use crate::model::time::Time;

/// How often a platform is asked whether it still calls us, where the manifest says nothing.
const CHECK_EVERY: Duration = Duration::from_secs(6 * 3600);
/// A lease is renewed when this share of it is left, where the manifest says nothing.
const MARGIN_SHARE: u32 = 4;
/// Variables of the jq of `[subscribe]`: status and headers of the answer, our hook's address, and what was taken from earlier answers.
const VARS: [&str; 4] = ["$status", "$headers", "$hook", "$known"];
/// Roots of its requests, beside `settings`: the channel's account, `{hook.url}`, and what was taken from earlier answers.
const ROOTS: [&str; 3] = ["account", "hook", "subscription"];

/// `[subscribe]`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubscribeSpec {
    /// Tells the platform to call the hook.
    pub create: StepSpec,
    /// `create` may be sent again: it replaces what is there and makes no second subscription.
    #[serde(default)]
    pub repeats: bool,
    /// Makes the lease longer, or changes what is there; `create` again if missing.
    #[serde(default)]
    pub renew: Option<StepSpec>,
    /// Tells the platform to stop.
    #[serde(default)]
    pub delete: Option<StepSpec>,
    /// Asks the platform whether it calls the hook.
    #[serde(default)]
    pub check: Option<StepSpec>,
    /// How long a subscription lasts where no answer says it, such as `"7d"`. None: until it is ended.
    #[serde(default)]
    pub lease: Option<String>,
    /// It is renewed so long before its end; a quarter of the lease if missing.
    #[serde(default)]
    pub renew_before: Option<String>,
    /// Who says that it is granted, and for how long.
    #[serde(default)]
    pub granted_by: GrantedBy,
    /// How often `check` is asked.
    #[serde(default)]
    pub check_every: Option<String>,
}

/// Who says that a subscription is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrantedBy {
    /// The answer to `create`.
    #[default]
    Answer,
    /// A call to our hook: the handshake with `lease` (WebSub).
    Handshake,
}

/// One request of `[subscribe]`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepSpec {
    /// The request. It sees `{hook.url}`, `{account}` and `{subscription.NAME}`.
    pub request: RequestSpec,
    /// What is kept of its answer: name → jq with `$status`, `$headers`, `$hook`, and `$known`: what was kept before.
    #[serde(default)]
    pub take: BTreeMap<String, String>,
    /// jq: seconds until the subscription ends.
    #[serde(default)]
    pub lease_s: Option<String>,
    /// Only of `check`, jq: true if the platform calls our hook, false if nobody's, `"off"` if it knows our hook and has it switched off
    /// (`renew` switches it on again; without one that is a person's matter), anything else if another one.
    #[serde(default)]
    pub state: Option<String>,
    /// What answers mean.
    #[serde(default)]
    pub errors: Vec<RuleSpec>,
}

/// `[subscribe]`, compiled.
#[derive(Debug)]
pub struct Subscribe {
    /// See [`SubscribeSpec`].
    pub create: Step,
    /// See [`SubscribeSpec`].
    pub renew: Option<Step>,
    /// See [`SubscribeSpec`].
    pub delete: Option<Step>,
    /// See [`SubscribeSpec`].
    pub check: Option<Step>,
    /// See [`SubscribeSpec`].
    pub repeats: bool,
    /// See [`SubscribeSpec`].
    pub granted_by: GrantedBy,
    /// See [`SubscribeSpec`].
    pub check_every: Duration,
    lease: Option<Duration>,
    margin: Option<Duration>,
}

/// One request, compiled.
#[derive(Debug)]
pub struct Step {
    /// The request.
    pub call: Call,
    /// What answers mean.
    pub rules: Rules,
    take: Vec<(String, Filter)>,
    lease_s: Option<Filter>,
    state: Option<Filter>,
}

/// Whom the platform calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum There {
    /// Our hook.
    Ours,
    /// Nobody.
    Nobody,
    /// Nobody: our hook is known there, and switched off.
    Off,
    /// Another address.
    Another,
}

/// What an answer tells.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// What is kept of it.
    pub values: Map<String, Value>,
    /// How long the subscription lasts from now on.
    pub lease: Option<Duration>,
    /// Whom the platform calls, if it was asked.
    pub there: Option<There>,
}

impl Subscribe {
    /// Checks and compiles `[subscribe]` of a connector whose requests come as `webhook` says.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(spec: &SubscribeSpec, webhook: Option<&Webhook>, scope: &Scope<'_>) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut wrong = |message: &str| problems.push(Problem::whole(scope.file, format!("[subscribe]: {message}")));
        if webhook.is_none() {
            wrong("there is no [webhook] that could be called");
        }
        if !spec.repeats && spec.check.is_none() {
            wrong("an answer to `create` can be lost: say `repeats = true` if it may be sent again, or describe `check`");
        }
        let granted = |handshake: &Handshake| matches!(handshake, Handshake::QueryEcho { lease: Some(_), .. });
        if spec.granted_by == GrantedBy::Handshake && !webhook.is_some_and(|webhook| webhook.handshake.iter().any(granted)) {
            wrong("`granted_by = \"handshake\"` needs a handshake of kind query_echo with `lease`");
        }
        let mut span = |name: &str, text: &Option<String>| {
            let read = text.as_deref().map(duration);
            if read == Some(None) {
                wrong(&format!("`{name}` is not a duration such as \"7d\""));
            }
            read.flatten().filter(|span| !span.is_zero())
        };
        let (lease, margin) = (span("lease", &spec.lease), span("renew_before", &spec.renew_before));
        let check_every = span("check_every", &spec.check_every).unwrap_or(CHECK_EVERY);
        if let (Some(lease), Some(margin)) = (lease, margin)
            && margin >= lease
        {
            wrong("`renew_before` is not shorter than `lease`");
        }
        let others = [("create", Some(&spec.create)), ("renew", spec.renew.as_ref()), ("delete", spec.delete.as_ref())];
        for (name, _) in others.iter().filter(|(_, step)| step.is_some_and(|step| step.state.is_some())) {
            wrong(&format!("`{name}` has a `state`, which only `check` tells"));
        }
        if spec.check.as_ref().is_some_and(|check| check.state.is_none()) {
            wrong("`check` needs a `state`");
        }
        let mut step = |name: &str, spec: &StepSpec| Step::compile(name, spec, scope).map_err(|wrong| problems.extend(wrong)).ok();
        let create = step("create", &spec.create);
        let mut maybe = |name: &str, spec: &Option<StepSpec>| spec.as_ref().and_then(|spec| step(name, spec));
        let (renew, delete, check) = (maybe("renew", &spec.renew), maybe("delete", &spec.delete), maybe("check", &spec.check));
        match create {
            Some(create) if problems.is_empty() => {
                Ok(Self { create, renew, delete, check, repeats: spec.repeats, granted_by: spec.granted_by, check_every, lease, margin })
            }
            _ => Err(problems),
        }
    }

    /// How long it lasts: as told, or as the manifest says; none: until it is ended.
    pub fn lease(&self, told: Option<Duration>) -> Option<Duration> {
        told.or(self.lease)
    }

    /// How long before its end a lease is renewed. Never more than half of it: a hub may grant less than was asked for.
    pub fn margin(&self, lease: Duration) -> Duration {
        self.margin.unwrap_or(lease / MARGIN_SHARE).min(lease / 2)
    }
}

impl Step {
    fn compile(name: &str, spec: &StepSpec, scope: &Scope<'_>) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let place = format!("subscribe.{name}");
        let call = Call::compile(&spec.request, &place, &ROOTS, scope).map_err(|wrong| problems.extend(wrong)).ok();
        let rules = Rules::compile(&spec.errors, scope.file, &place, scope.limits).map_err(|wrong| problems.extend(wrong)).ok();
        let mut filter = |what: &str, code: &str| {
            let named = |problem: Problem| Problem::whole(scope.file, format!("[{place}] in the jq of `{what}`: {}", problem.message));
            let made = Filter::compile(scope.file, code, &VARS, scope.limits);
            made.map_err(|wrong| problems.extend(wrong.into_iter().map(named))).ok()
        };
        let take = spec.take.iter().filter_map(|(name, code)| Some((name.clone(), filter(name, code)?))).collect();
        let lease_s = spec.lease_s.as_ref().and_then(|code| filter("lease_s", code));
        let state = spec.state.as_ref().and_then(|code| filter("state", code));
        match (call, rules) {
            (Some(call), Some(rules)) if problems.is_empty() => Ok(Self { call, rules, take, lease_s, state }),
            _ => Err(problems),
        }
    }

    /// What an answer tells; `hook`: our hook's address, `known`: what was taken from earlier answers.
    ///
    /// # Errors
    /// What a program says that does not fit the answer.
    pub fn told(&self, answer: &Judged, hook: &str, known: &Map<String, Value>) -> Result<Told, JqError> {
        let (status, hook, known) = (Value::from(answer.status), Value::from(hook), Value::Object(known.clone()));
        let first = |filter: &Filter| -> Result<Value, JqError> {
            let made = filter.run_of(Input::Value(&answer.body), &[&status, &answer.headers, &hook, &known])?;
            Ok(made.into_iter().next().unwrap_or(Value::Null))
        };
        let mut told = Told::default();
        for (name, filter) in &self.take {
            let value = first(filter)?;
            if !value.is_null() {
                told.values.insert(name.clone(), value);
            }
        }
        if let Some(filter) = &self.lease_s {
            let seconds = first(filter)?.as_f64().filter(|seconds| *seconds > 0.0);
            told.lease = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        }
        if let Some(filter) = &self.state {
            told.there = Some(match first(filter)? {
                Value::Bool(true) => There::Ours,
                Value::Bool(false) | Value::Null => There::Nobody,
                Value::String(word) if word == "off" => There::Off,
                _ => There::Another,
            });
        }
        Ok(told)
    }
}

/// What calls to a hook say about its subscription, and what the hook may agree to. Whoever keeps the subscription looks here.
#[derive(Debug, Default)]
pub struct Grants {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    leaving: bool,
    /// Kept by us: agreed to only until then. `None`: a person told the platform by hand, and whoever proves to know the secret is agreed to.
    meant_until: Option<Time>,
    granted: Option<(Time, Option<Duration>)>,
}

impl Grants {
    /// From now on the hook agrees that the subscription ends, or no longer does.
    pub fn leave(&self, leaving: bool) {
        self.lock().leaving = leaving;
    }

    /// Whether it does.
    pub fn is_leaving(&self) -> bool {
        self.lock().leaving
    }

    /// Until when the hook agrees that it is subscribed; none: whenever it is asked.
    pub fn mean(&self, until: Option<Time>) {
        self.lock().meant_until = until;
    }

    /// Whether the hook agrees now. What proves the question may be public (a feed's address): one that we did not ask for would have
    /// the platform sign with a stranger's secret, or us believe in a lease that nobody granted.
    pub fn is_meant(&self, now: Time) -> bool {
        self.lock().meant_until.is_none_or(|until| now < until)
    }

    /// The platform confirmed the subscription for so long.
    pub fn grant(&self, at: Time, lease: Option<Duration>) {
        self.lock().granted = Some((at, lease));
    }

    /// What was granted since the last look.
    pub fn take(&self) -> Option<(Time, Option<Duration>)> {
        self.lock().granted.take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
