//! Enrich: how a platform is asked for a sender's name and addresses, `[enrich]` of a manifest. Data in, values out; no I/O.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::connector::call::answer::{ANSWER_VARS, Judged, RuleSpec, Rules};
use crate::connector::call::compile::Scope;
use crate::connector::call::{Call, RequestSpec};
use crate::connector::jq::Filter;
use crate::connector::manifest::duration;
use crate::connector::problem::Problem;

/// Roots of its templates, beside settings and secrets.
const ROOTS: [&str; 2] = ["sender", "account"];
/// What is known of a sender is believed so long where the manifest says nothing.
const CACHE: Duration = Duration::from_secs(24 * 3600);
/// A message waits at most so long for it where the manifest says nothing: far below every platform's patience.
const WAIT: Duration = Duration::from_millis(500);
/// Longest wait that a manifest may ask for.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// `[enrich]`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrichSpec {
    /// The request; `{sender.id}` is the sender's address without its scheme.
    pub request: RequestSpec,
    /// jq over the JSON answer: `{name, handle, avatar_url, also}`; `also` lists addresses that the platform vouches for.
    pub map: String,
    /// How often may be asked, such as `"20/1m"`.
    pub rate: String,
    /// What is known of a sender is believed so long, such as `"1d"`.
    #[serde(default)]
    pub cache: Option<String>,
    /// A message waits at most so long; what is known later becomes `contact.updated`.
    #[serde(default)]
    pub wait: Option<String>,
    /// What answers mean.
    #[serde(default)]
    pub errors: Vec<RuleSpec>,
}

/// The question, compiled.
#[derive(Debug)]
pub struct Enrich {
    /// The request.
    pub call: Call,
    /// What answers mean.
    pub rules: Rules,
    /// How often may be asked: so many in this time.
    pub rate: (u32, Duration),
    /// How long an answer is believed.
    pub cache: Duration,
    /// How long a message waits.
    pub wait: Duration,
    map: Filter,
}

/// What a platform says of a sender.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Known {
    /// Display name.
    pub name: Option<String>,
    /// Short name.
    pub handle: Option<String>,
    /// Picture.
    pub avatar_url: Option<String>,
    /// More addresses, `scheme:value`.
    pub also: Vec<String>,
}

impl Enrich {
    /// Checks and compiles `[enrich]`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(spec: &EnrichSpec, verified_senders: bool, scope: &Scope<'_>) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut wrong = |message: String| problems.push(Problem::whole(scope.file, format!("[enrich]: {message}")));
        if !verified_senders {
            wrong("needs `verified_senders = true`: a name must not be given to whoever claims an address".to_owned());
        }
        let rate = spec.rate.split_once('/').and_then(|(count, per)| Some((count.trim().parse().ok()?, duration(per.trim())?)));
        let rate: (u32, Duration) = rate.filter(|(count, per)| *count > 0 && !per.is_zero()).unwrap_or_else(|| {
            wrong(format!("rate: `{}` is not a rate such as \"20/1m\"", spec.rate));
            (1, WAIT)
        });
        let mut span = |key: &str, text: Option<&str>, default: Duration| match text.map(|text| (text, duration(text))) {
            None => default,
            Some((_, Some(span))) => span,
            Some((text, None)) => {
                wrong(format!("{key}: `{text}` is not a duration such as \"1d\""));
                default
            }
        };
        let cache = span("cache", spec.cache.as_deref(), CACHE);
        let wait = span("wait", spec.wait.as_deref(), WAIT).min(WAIT_MAX);
        let call = Call::compile(&spec.request, "enrich", &ROOTS, scope).map_err(|wrong| problems.extend(wrong)).ok();
        let rules = Rules::compile(&spec.errors, scope.file, "enrich", scope.limits).map_err(|wrong| problems.extend(wrong)).ok();
        let named = |problem: Problem| Problem::whole(scope.file, format!("[enrich] in its map: {}", problem.message));
        let map = Filter::compile(scope.file, &spec.map, &ANSWER_VARS, scope.limits);
        let map = map.map_err(|wrong| problems.extend(wrong.into_iter().map(named))).ok();
        match (call, rules, map) {
            (Some(call), Some(rules), Some(map)) if problems.is_empty() => Ok(Self { call, rules, rate, cache, wait, map }),
            _ => Err(problems),
        }
    }

    /// What an answer says; `None` if it says nothing of use.
    pub fn known(&self, judged: &Judged) -> Option<Known> {
        let value = judged.take(&self.map).ok()?;
        let Value::Object(map) = value else { return None };
        let given = map.into_iter().filter(|(_, value)| !value.is_null()).collect();
        let known: Known = serde_json::from_value(Value::Object(given)).ok()?;
        (known != Known::default()).then_some(known)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::connector::jq::Limits;
    use crate::connector::load::scope;
    use crate::connector::manifest::Manifest;
    use crate::connector::problem::render;
    use crate::model::time::Time;
    use crate::ports::http::HttpAnswer;

    fn compile(enrich: &str, verified: bool) -> Result<Enrich, String> {
        let head = "name = \"x\"\ntitle = \"X\"\nabout = \"For tests.\"\nhosts = [\"api.example.org\"]\n[webhook]\ndecode = \"json\"\n";
        let manifest = Manifest::parse("connector.toml", head).unwrap_or_else(|problems| panic!("{}", render(&problems)));
        let spec: EnrichSpec = toml::from_str(enrich).map_err(|error| error.message().to_owned())?;
        Enrich::compile(&spec, verified, &scope("connector.toml", &manifest, Limits::default())).map_err(|problems| render(&problems))
    }

    const REQUEST: &str = "request = { get = \"https://api.example.org/{sender.id}\" }\n";

    #[test]
    fn what_is_wrong_is_told_at_load() {
        let refused = |text: &str, verified: bool, expected: &str| {
            let shown = compile(&format!("{REQUEST}{text}"), verified).err().unwrap_or_default();
            assert!(shown.contains(expected), "{shown}");
        };
        refused("map = \".\"\nrate = \"20/1m\"", false, "needs `verified_senders = true`");
        refused("map = \".\"\nrate = \"often\"", true, "`often` is not a rate");
        refused("map = \".[\"\nrate = \"1/1m\"", true, "in its map");
        refused("map = \".\"\nrate = \"1/1m\"\ncache = \"long\"", true, "`long` is not a duration");
    }

    #[test]
    fn an_answer_of_another_shape_says_nothing() {
        let enrich = compile(&format!("{REQUEST}map = '{{name: .n, also: .a}}'\nrate = \"20/1m\""), true).unwrap();
        let known = |body: &'static str| {
            let answer = HttpAnswer { status: 200, headers: Vec::new(), body: bytes::Bytes::from_static(body.as_bytes()) };
            enrich.known(&enrich.rules.judge(&answer, Time(0)))
        };
        assert_eq!(known(r#"{"n":"Ana","a":["email:ana@example.org"]}"#).unwrap().name.as_deref(), Some("Ana"));
        assert_eq!(known(r#"{"n":{"first":"Ana"}}"#), None);
        assert_eq!(known("{}"), None);
        assert_eq!(known("<html>"), None);
    }
}
