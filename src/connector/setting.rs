//! Values of settings: what a channel file may write for a declared type, what maps see of it, and which modes need it; and what is said
//! of a key that is not known.

use crate::connector::manifest::{Secret, Setting, SettingType, duration};
use crate::connector::problem::{Problem, did_you_mean};
use crate::model::raw::Via;

/// Primitives that later versions carry out; named apart, so that the error says so.
const LATER: &[&str] = &["subscribe", "reply", "correlate", "capabilities"];

impl SettingType {
    /// What a value of it looks like, for error texts.
    pub fn wanted(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Url => "an absolute http(s) URL",
            Self::Integer => "a whole number",
            Self::Bool => "true or false",
            Self::Duration => "a duration such as \"30s\", \"5m\", \"2h\", \"1d\"",
            Self::List => "a list of texts",
            Self::Table => "a table of texts",
        }
    }

    /// The value as maps see it (durations as milliseconds), if it is one of this type.
    pub fn read(self, value: &serde_json::Value) -> Option<serde_json::Value> {
        use serde_json::Value;
        match (self, value) {
            (Self::Text, Value::String(_)) | (Self::Bool, Value::Bool(_)) => Some(value.clone()),
            (Self::Url, Value::String(text)) => {
                let url = url::Url::parse(text).ok()?;
                (matches!(url.scheme(), "http" | "https") && url.has_host()).then(|| value.clone())
            }
            (Self::Integer, Value::Number(number)) => number.as_i64().map(Value::from),
            (Self::Duration, Value::String(text)) => {
                let length = duration(text)?;
                i64::try_from(length.as_millis()).ok().map(Value::from)
            }
            (Self::List, Value::Array(items)) => items.iter().all(Value::is_string).then(|| value.clone()),
            (Self::Table, Value::Object(map)) => map.values().all(Value::is_string).then(|| value.clone()),
            _ => None,
        }
    }
}

impl Secret {
    /// Whether one of these modes needs it.
    pub fn is_for(&self, modes: &[Via]) -> bool {
        Via::needed(&self.modes, modes)
    }
}

impl Setting {
    /// Whether one of these modes needs it.
    pub fn is_for(&self, modes: &[Via]) -> bool {
        Via::needed(&self.modes, modes)
    }
}

/// The problem behind an error of the TOML reader, with one suggestion where a key is unknown.
pub(crate) fn toml_problem(file: &str, text: &str, error: &toml::de::Error) -> Problem {
    let message = error.message();
    let span = error.span().unwrap_or(0..0);
    let mut words = message.split('`');
    let (lead, name) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !lead.starts_with("unknown field") {
        return Problem::at(file, text, span, message.replace('\n', " "));
    }
    if LATER.contains(&name) {
        return Problem::at(file, text, span, format!("`{name}` is not carried out by this version"));
    }
    let known: Vec<&str> = message.split('`').skip(3).step_by(2).collect();
    let problem = Problem::at(file, text, span, format!("unknown key `{name}`"));
    match did_you_mean(name, known) {
        Some(near) => problem.suggest(format!("did you mean `{near}`?")),
        None => problem,
    }
}
