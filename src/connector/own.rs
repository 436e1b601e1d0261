//! Own: who we are at a platform. `[whoami]` of a manifest says how that is asked; maps see it as `$own`, so that what our own bot said does
//! not come back as a customer's message.
//!
//! `$own.NAME` is a list of ids, because channels of several accounts may share one hook. What must stay true: while a channel that can ask
//! does not know yet, nothing of its hook is read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::connector::call::answer::{ANSWER_VARS, Judged, RuleSpec, Rules};
use crate::connector::call::compile::Scope;
use crate::connector::call::{Call, RequestSpec};
use crate::connector::jq::Filter;
use crate::connector::problem::Problem;

/// `[whoami]`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhoamiSpec {
    /// The request.
    pub request: RequestSpec,
    /// What is taken from its answer: name → jq that gives an id or a list of ids.
    pub take: BTreeMap<String, String>,
    /// What answers mean.
    #[serde(default)]
    pub errors: Vec<RuleSpec>,
}

/// The question, compiled.
#[derive(Debug)]
pub struct Whoami {
    /// The request.
    pub call: Call,
    /// What answers mean.
    pub rules: Rules,
    take: Vec<(String, Filter)>,
}

impl Whoami {
    /// Checks and compiles `[whoami]`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(spec: &WhoamiSpec, scope: &Scope<'_>) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        if spec.take.is_empty() {
            problems.push(Problem::whole(scope.file, "[whoami]: `take` names no id"));
        }
        let call = Call::compile(&spec.request, "whoami", &["account"], scope).map_err(|wrong| problems.extend(wrong)).ok();
        let rules = Rules::compile(&spec.errors, scope.file, "whoami", scope.limits).map_err(|wrong| problems.extend(wrong)).ok();
        let mut take = Vec::new();
        for (name, code) in &spec.take {
            let named = |problem: Problem| Problem::whole(scope.file, format!("[whoami] in the jq of `{name}`: {}", problem.message));
            match Filter::compile(scope.file, code, &ANSWER_VARS, scope.limits) {
                Ok(filter) => take.push((name.clone(), filter)),
                Err(wrong) => problems.extend(wrong.into_iter().map(named)),
            }
        }
        match (call, rules) {
            (Some(call), Some(rules)) if problems.is_empty() => Ok(Self { call, rules, take }),
            _ => Err(problems),
        }
    }

    /// The ids that an answer tells; `None` if it tells none.
    pub fn ids(&self, judged: &Judged) -> Option<Map<String, Value>> {
        let mut ids = Map::new();
        for (name, filter) in &self.take {
            let listed = listed(judged.take(filter).ok()?);
            if !listed.is_empty() {
                ids.insert(name.clone(), Value::Array(listed));
            }
        }
        (!ids.is_empty()).then_some(ids)
    }
}

/// Ids are texts, whatever the platform writes.
fn listed(value: Value) -> Vec<Value> {
    match value {
        Value::String(text) if !text.is_empty() => vec![Value::String(text)],
        Value::Number(number) => vec![Value::String(number.to_string())],
        Value::Array(items) => items.into_iter().flat_map(listed).collect(),
        _ => Vec::new(),
    }
}

/// What is known of ourselves, for the maps of one hook or one channel. Somebody with a network fills it.
#[derive(Debug, Default)]
pub struct Own {
    needed: BTreeSet<String>,
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    channels: BTreeMap<String, Map<String, Value>>,
    all: Arc<Value>,
}

impl Own {
    /// Nothing may be read before these channels know.
    pub fn needed_by(channels: BTreeSet<String>) -> Self {
        let all = Arc::new(Value::Object(Map::new()));
        Self { needed: channels, known: RwLock::new(Known { channels: BTreeMap::new(), all }) }
    }

    /// Whether a channel must know.
    pub fn is_needed_by(&self, channel: &str) -> bool {
        self.needed.contains(channel)
    }

    /// Whether it is known by all that must know.
    pub fn is_known(&self) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        self.needed.iter().all(|channel| known.channels.contains_key(channel))
    }

    /// A channel knows its ids.
    pub fn learn(&self, channel: &str, ids: Map<String, Value>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.channels.insert(channel.to_owned(), ids);
        let mut all: Map<String, Value> = Map::new();
        for (name, more) in known.channels.values().flatten() {
            if let Value::Array(list) = all.entry(name.clone()).or_insert_with(|| Value::Array(Vec::new())) {
                list.extend(listed(more.clone()));
            }
        }
        known.all = Arc::new(Value::Object(all));
    }

    /// `$own`.
    pub fn ids(&self) -> Arc<Value> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner).all)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_of_several_accounts_are_one_list_and_all_must_be_known() {
        let own = Own::needed_by(["a", "b"].map(str::to_owned).into());
        assert!(!own.is_known() && *own.ids() == json!({}));
        let ids = |user: &str| json!({"user": user}).as_object().cloned().unwrap();
        own.learn("a", ids("U1"));
        assert!(!own.is_known());
        own.learn("b", ids("U2"));
        own.learn("b", ids("U3"));
        assert!(own.is_known());
        assert_eq!(*own.ids(), json!({"user": ["U1", "U3"]}));
        assert!(Own::default().is_known(), "who cannot ask waits for nobody");
    }
}
