//! Limits: how much may be asked of an account: budgets of a day, and what answers say is left.
//!
//! What must stay true: a budget survives a restart, and nothing is asked beyond it; a platform that says when it has more is not
//! asked before.

use std::time::Duration;

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::connector::call::answer::{ANSWER_VARS, Judged, Meaning};
use crate::connector::jq::{self, Filter};
use crate::connector::poll::spec::{LimitsSpec, ResetUnit};
use crate::connector::problem::Problem;
use crate::model::time::Time;

const DAY_MS: i64 = 24 * 3600 * 1000;
/// Longest wait that an answer can ask for.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// `[limits]`, compiled.
#[derive(Debug, Default)]
pub struct Quota {
    spec: LimitsSpec,
    remaining: Option<Regex>,
    reset: Option<Regex>,
    backoff: Option<Filter>,
}

/// What was used of one day. Kept as JSON among the cursors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Used {
    day: i64,
    requests: u64,
    units: u64,
    bytes: u64,
}

/// A share of a budget, for people.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// `requests`, `units` or `bytes`.
    pub what: &'static str,
    /// Used today.
    pub used: u64,
    /// May be used a day.
    pub max: u64,
}

impl Quota {
    /// Compiles `[limits]`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn compile(spec: &LimitsSpec, file: &str, limits: jq::Limits) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut pattern = |text: Option<&String>| {
            let wrong = |error: regex::Error| problems.push(Problem::whole(file, format!("[limits] pattern: {error}").replace('\n', " ")));
            Regex::new(text?).map_err(wrong).ok()
        };
        let remaining = pattern(spec.remaining.as_ref().and_then(|header| header.pattern.as_ref()));
        let reset = pattern(spec.reset.as_ref().and_then(|header| header.pattern.as_ref()));
        let backoff = spec.backoff_s.as_deref().and_then(|code| {
            let wrong =
                |all: Vec<Problem>| problems.extend(all.into_iter().map(|one| Problem::whole(file, format!("[limits]: {}", one.message))));
            Filter::compile(file, code, &ANSWER_VARS, limits).map_err(wrong).ok()
        });
        if problems.is_empty() { Ok(Self { spec: spec.clone(), remaining, reset, backoff }) } else { Err(problems) }
    }

    /// How long nothing more may be asked today; `None` while something may.
    pub fn over_for(&self, used: &mut Used, cost: u64, now: Time) -> Option<Duration> {
        used.turn(now);
        let over = |max: Option<u64>, used: u64| max.is_some_and(|max| used > max);
        let spent = over(self.spec.day_requests, used.requests.saturating_add(1))
            || over(self.spec.day_units, used.units.saturating_add(cost))
            || self.spec.day_bytes.is_some_and(|max| used.bytes >= max);
        let left = DAY_MS.saturating_sub(now.0.rem_euclid(DAY_MS));
        spent.then(|| Duration::from_millis(left.unsigned_abs()))
    }

    /// Whether there is a budget to be remembered.
    pub fn has_budget(&self) -> bool {
        self.spec.day_requests.is_some() || self.spec.day_units.is_some() || self.spec.day_bytes.is_some()
    }

    /// What is used of what.
    pub fn shares(&self, used: &Used) -> Vec<Share> {
        let all = [
            ("requests", used.requests, self.spec.day_requests),
            ("units", used.units, self.spec.day_units),
            ("bytes", used.bytes, self.spec.day_bytes),
        ];
        all.into_iter().filter_map(|(what, used, max)| Some(Share { what, used, max: max? })).collect()
    }

    /// How long an answer wants us to wait before the next question, whatever it means.
    pub fn learn(&self, judged: &Judged, now: Time) -> Option<Duration> {
        let header = |name: &str| judged.headers.get(name.to_ascii_lowercase().as_str()).and_then(serde_json::Value::as_str);
        let found = |text: &str, pattern: &Option<Regex>| match pattern {
            None => Some(text.trim().to_owned()),
            Some(pattern) => pattern.captures(text).and_then(|groups| groups.get(1)).map(|group| group.as_str().to_owned()),
        };
        let asked = self.backoff.as_ref().and_then(|backoff| judged.take(backoff).ok()?.as_f64());
        let asked = asked.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let left = self.spec.remaining.as_ref().and_then(|spec| found(header(&spec.header)?, &self.remaining)?.parse::<f64>().ok());
        // What turns us away has nothing left, also where it does not say so.
        let spent = left.map_or(judged.meaning == Meaning::Throttled, |left| left < 1.0);
        let reset = self.spec.reset.as_ref().filter(|_| spent);
        let reset = reset.and_then(|spec| moment(&found(header(&spec.header)?, &self.reset)?, spec.unit, now));
        // It says that nothing is left, and not until when.
        let none_left = left.filter(|left| *left < 1.0 && reset.is_none()).map(|_| Duration::from_secs(60));
        [asked, reset, none_left].into_iter().flatten().max().map(|wait| wait.min(WAIT_MAX))
    }
}

fn moment(text: &str, unit: ResetUnit, now: Time) -> Option<Duration> {
    let until = |at_ms: f64| Duration::try_from_secs_f64(((at_ms - now.0 as f64) / 1000.0).max(0.0)).ok();
    match unit {
        ResetUnit::EpochS => until(text.parse::<f64>().ok()? * 1000.0),
        ResetUnit::EpochMs => until(text.parse::<f64>().ok()?),
        ResetUnit::SecondsLeft => Duration::try_from_secs_f64(text.parse().ok()?).ok(),
        ResetUnit::Iso => until(Time::parse(text)?.0 as f64),
    }
}

impl Used {
    /// What was kept; nothing if it cannot be read.
    pub fn read(text: Option<&String>) -> Self {
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// One request was made, and this came back.
    pub fn spend(&mut self, cost: u64, bytes: u64, now: Time) {
        self.turn(now);
        self.requests = self.requests.saturating_add(1);
        self.units = self.units.saturating_add(cost);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// As it is kept.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    fn turn(&mut self, now: Time) {
        let today = now.0.div_euclid(DAY_MS);
        if today != self.day {
            *self = Self { day: today, ..Self::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// An hour before midnight.
    const EVENING: Time = Time(20_000 * DAY_MS + 23 * 3_600_000);
    const HOUR: Duration = Duration::from_secs(3600);

    #[track_caller]
    fn check(spec: &str, spent: &[(u64, u64)], next_cost: u64, over: bool, share: (&'static str, u64, u64)) {
        let spec: LimitsSpec = toml::from_str(spec).unwrap();
        let quota = Quota::compile(&spec, "connector.toml", jq::Limits::default()).unwrap();
        let mut used = Used::default();
        spent.iter().for_each(|(cost, bytes)| used.spend(*cost, *bytes, EVENING));
        // As after a restart.
        let mut used = Used::read(Some(&used.text()));
        assert_eq!(quota.over_for(&mut used, next_cost, EVENING), over.then_some(HOUR));
        assert_eq!(quota.shares(&used), [Share { what: share.0, used: share.1, max: share.2 }]);
        // The next day everything is there again.
        assert_eq!(quota.over_for(&mut used, next_cost, EVENING.plus(HOUR)), None);
        assert_eq!(quota.shares(&used).first().map(|share| share.used), Some(0));
    }

    #[test]
    fn budgets_of_requests_units_and_bytes_are_kept_to_the_last_and_begin_anew_at_midnight() {
        check("day_requests = 2", &[(1, 10)], 1, false, ("requests", 1, 2));
        check("day_requests = 2", &[(1, 10), (1, 10)], 1, true, ("requests", 2, 2));
        check("day_units = 100", &[(50, 10), (49, 10)], 1, false, ("units", 99, 100));
        check("day_units = 100", &[(50, 10), (49, 10)], 2, true, ("units", 99, 100));
        check("day_bytes = 1000", &[(1, 999)], 1, false, ("bytes", 999, 1000));
        check("day_bytes = 1000", &[(1, 999), (1, 500)], 1, true, ("bytes", 1499, 1000));
    }
}
