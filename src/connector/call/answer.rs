//! Answers: what a status, the headers and the body of an answer mean. Platforms differ: some answer 200 and an error inside.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::connector::jq::{Filter, Input, Limits, parse_json};
use crate::connector::problem::Problem;
use crate::logic::schedule::retry_after;
use crate::model::time::Time;
use crate::ports::http::HttpAnswer;

/// Longest patience a platform can ask for.
const PATIENCE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Of an error's text this much is shown.
const WORDS_CHARS_MAX: usize = 200;

/// What an answer means. The first rule that fits decides; without one the status does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Meaning {
    /// Done.
    Ok,
    /// Too much, too fast: again after a while.
    Throttled,
    /// Trouble of the moment: again by schedule.
    Later,
    /// The token is no longer good: once more with a fresh one.
    Refresh,
    /// The credential is not accepted, or lacks rights: a person must act.
    Denied,
    /// What was asked for is not there (any more).
    Missing,
    /// What was to be made is there already.
    Exists,
    /// What is named cannot be changed any more (a closed or locked ticket).
    Closed,
    /// The place to go on from is no longer known to the platform: begin anew.
    CursorLost,
    /// It can never work.
    Never,
    /// Nothing to do here, and no trouble.
    Ignore,
}

/// A rule about answers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleSpec {
    /// Statuses it is about; all if empty.
    #[serde(default)]
    pub status: Vec<u16>,
    /// jq over the JSON body with `$status` and `$headers`: whether it fits. A body that is no JSON is a text.
    #[serde(default)]
    pub when: Option<String>,
    /// What it means.
    pub then: Meaning,
    /// jq over the body with `$status` and `$headers`: seconds to wait.
    #[serde(default)]
    pub after_s: Option<String>,
}

/// Rules, compiled, and the budget of what reads the body.
#[derive(Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    limits: Limits,
}

#[derive(Debug)]
struct Rule {
    status: Vec<u16>,
    when: Option<Filter>,
    then: Meaning,
    after: Option<Filter>,
}

/// An answer, understood.
#[derive(Debug, Clone)]
pub struct Judged {
    /// What it means.
    pub meaning: Meaning,
    /// How long to wait at least.
    pub after: Option<Duration>,
    /// The body: JSON, a text, or null if there is none.
    pub body: Value,
    /// The headers as an object, names in lower case.
    pub headers: Value,
    /// Status.
    pub status: u16,
}

/// Variables of programs that read answers.
pub const ANSWER_VARS: [&str; 2] = ["$status", "$headers"];

impl Rules {
    /// Compiles rules that stand at `place`.
    ///
    /// # Errors
    /// What is wrong with their jq.
    pub fn compile(specs: &[RuleSpec], file: &str, place: &str, limits: Limits) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut filter = |code: &Option<String>| {
            let compiled = Filter::compile(file, code.as_deref()?, &ANSWER_VARS, limits);
            let named = |problem: Problem| Problem::whole(file, format!("[{place}] in its jq: {}", problem.message));
            compiled.map_err(|wrong| problems.extend(wrong.into_iter().map(named))).ok()
        };
        let one =
            |spec: &RuleSpec| Rule { status: spec.status.clone(), when: filter(&spec.when), then: spec.then, after: filter(&spec.after_s) };
        let rules = specs.iter().map(one).collect();
        if problems.is_empty() { Ok(Self { rules, limits }) } else { Err(problems) }
    }

    /// Says what an answer means.
    pub fn judge(&self, answer: &HttpAnswer, now: Time) -> Judged {
        let body = body(answer, self.limits.depth_max);
        let headers = Value::Object(answer.headers.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect());
        let status = Value::from(answer.status);
        let vars = [&status, &headers];
        let fits = |rule: &&Rule| {
            let status = rule.status.is_empty() || rule.status.contains(&answer.status);
            // A rule that fails does not fit: then the status decides.
            status && rule.when.as_ref().is_none_or(|when| when.truthy_of(Input::Value(&body), &vars).unwrap_or(false))
        };
        let rule = self.rules.iter().find(fits);
        let meaning = rule.map_or_else(|| of_status(answer.status), |rule| rule.then);
        let told = rule.and_then(|rule| rule.after.as_ref()).and_then(|after| {
            let seconds = after.run_of(Input::Value(&body), &vars).ok()?.first()?.as_f64()?;
            Duration::try_from_secs_f64(seconds).ok()
        });
        let after = told.or_else(|| answer.header("retry-after").and_then(|value| retry_after(value, now)));
        Judged { meaning, after: after.map(|after| after.min(PATIENCE_MAX)), body, headers, status: answer.status }
    }
}

fn of_status(status: u16) -> Meaning {
    match status {
        200..=299 | 304 => Meaning::Ok,
        401 | 403 => Meaning::Denied,
        404 | 410 => Meaning::Missing,
        429 => Meaning::Throttled,
        408 | 409 | 423 | 425 | 500.. => Meaning::Later,
        _ => Meaning::Never,
    }
}

/// The body as a value: JSON, a text, or null.
fn body(answer: &HttpAnswer, depth_max: usize) -> Value {
    if answer.body.is_empty() {
        return Value::Null;
    }
    parse_json(&answer.body, depth_max).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&answer.body).into_owned()))
}

impl Judged {
    /// What a jq takes out of it; the first output, null if none.
    ///
    /// # Errors
    /// The program's own error.
    pub fn take(&self, filter: &Filter) -> Result<Value, crate::connector::jq::JqError> {
        let status = Value::from(self.status);
        Ok(filter.run_of(Input::Value(&self.body), &[&status, &self.headers])?.into_iter().next().unwrap_or(Value::Null))
    }

    /// The platform's own words about an error, cut and on one line: the usual places of a JSON body.
    pub fn words(&self) -> Option<String> {
        let places = [
            "/error/message",
            "/error/msg",
            "/error_description",
            "/errors/0/message",
            "/_embedded/errors/0/message",
            "/message",
            "/errorMessage",
            "/errorMessages/0",
            "/0/message",
            "/description",
            "/error",
            "/errors/0",
            "/detail",
        ];
        let found = places.iter().find_map(|place| self.body.pointer(place)?.as_str()).or_else(|| first_text(&self.body, 3));
        let clean: String = found?.chars().map(|char| if char.is_control() { ' ' } else { char }).take(WORDS_CHARS_MAX).collect();
        (!clean.trim().is_empty()).then_some(clean)
    }
}

/// The first text in an answer that has no usual place for it: `{"queue": ["Invalid pk"]}`.
fn first_text(body: &Value, depth: usize) -> Option<&str> {
    match body {
        Value::String(text) if depth < 3 => Some(text),
        Value::Array(list) if depth > 0 => list.iter().find_map(|one| first_text(one, depth - 1)),
        Value::Object(fields) if depth > 0 => fields.values().find_map(|one| first_text(one, depth - 1)),
        _ => None,
    }
}
