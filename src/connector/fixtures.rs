//! Fixtures: the tests of a connector, and `omnigate try`.

use std::sync::Arc;

use serde_json::Value;

use crate::connector::folder::Folder;
use crate::connector::load::Connector;
use crate::connector::problem::Problem;
use crate::model::raw::Via;
use crate::model::time::Time;

/// What `omnigate try` was given.
#[derive(Debug, Clone)]
pub struct TryInput {
    /// A payload, or a whole HTTP request.
    pub bytes: Vec<u8>,
    /// It is a whole request (the file is named `*.http`).
    pub whole_request: bool,
    /// How it comes in.
    pub via: Via,
    /// `--setting`; values that read as JSON are taken as such by the caller.
    pub settings: serde_json::Map<String, Value>,
    /// `--header`, names in lower case.
    pub headers: Vec<(String, String)>,
    /// `--skip-verify`: no secrets needed.
    pub skip_verify: bool,
    /// Secrets by name, for a signed request.
    pub secrets: std::collections::BTreeMap<String, Vec<String>>,
    /// The account of the channel.
    pub account: Option<String>,
    /// The channel's own map.
    pub map: Option<String>,
    /// The clock.
    pub now: Time,
}

/// What an input becomes: the document of `omnigate try --json`.
///
/// # Errors
/// Settings or map do not fit the connector.
pub fn try_input(connector: &Arc<Connector>, input: &TryInput) -> Result<Value, Vec<Problem>> {
    let _ = (connector, input);
    Ok(Value::Null)
}

/// How one case ended.
#[derive(Debug, Clone)]
pub struct CaseResult {
    /// Name of the case: the folder below `fixtures/`.
    pub case: String,
    /// What came out.
    pub actual: Value,
    /// What `expected.json` says; `None`: there is none.
    pub expected: Option<Value>,
    /// Why it could not be run.
    pub problem: Option<String>,
}

impl CaseResult {
    /// Whether it is as expected.
    pub fn passed(&self) -> bool {
        self.problem.is_none() && self.expected.as_ref() == Some(&self.actual)
    }
}

/// How the fixtures of a connector ended.
#[derive(Debug, Clone)]
pub struct Report {
    /// The connector.
    pub connector: String,
    /// Its cases, by name.
    pub cases: Vec<CaseResult>,
    /// Declared codes and draft kinds that no case produces.
    pub uncovered: Vec<String>,
}

/// Runs the fixtures of a folder.
///
/// # Errors
/// The problems of the connector's own files.
pub fn run(folder: Folder) -> Result<Report, Vec<Problem>> {
    Err(vec![Problem::whole(&folder.origin, "not written yet")])
}
