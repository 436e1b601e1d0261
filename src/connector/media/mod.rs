//! Media: recipes by which a file that a platform only names is fetched, `[media.NAME]` of a manifest. Data in, compiled steps out; no I/O.
//!
//! A recipe is a list of requests; what one answers fills the next, and the last one's body is the file. `default` is used where the map
//! names none. What must stay true: a recipe that names what nothing gives is refused at load.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::connector::call::answer::{ANSWER_VARS, Judged, RuleSpec, Rules};
use crate::connector::call::compile::Scope;
use crate::connector::call::template::{Position, Template};
use crate::connector::call::{Call, CallError, Filling, RequestSpec};
use crate::connector::jq::{Filter, Input, JqError};
use crate::connector::manifest::duration;
use crate::connector::normalize::TEXT_BYTES_MAX;
use crate::connector::problem::{Problem, did_you_mean};
use crate::connector::text;
use crate::model::event::Attachment;
use crate::model::item::FetchOrder;

/// Name of the recipe for files of which the map names none.
pub const DEFAULT: &str = "default";
/// Requests of one recipe at most.
const STEPS_MAX: usize = 4;
/// Longest transcript, as JSON: it is read in memory.
pub const TRANSCRIPT_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// How long a file can be had where the manifest says nothing.
const EXPIRES: Duration = Duration::from_secs(24 * 3600);
/// Roots of a recipe's templates, beside settings and secrets.
const ROOTS: [&str; 4] = ["attachment", "account", "message", "step"];
/// What `{attachment.…}` may name.
const ATTACHMENT: [&str; 5] = ["id", "url", "name", "type", "bytes"];

/// `[media.NAME]`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecipeSpec {
    /// Values made of what the map said, before the first request: name → jq over `{attachment, account, message}`. Used as `{step.NAME}`.
    #[serde(default, rename = "let")]
    pub first: BTreeMap<String, String>,
    /// The requests; the body of the last one is the file.
    pub fetch: Vec<StepSpec>,
    /// How long after it was received a file can be had, such as `"1d"`: afterwards it is given up.
    #[serde(default)]
    pub expires: Option<String>,
    /// Largest file, if less than the main file's.
    #[serde(default)]
    pub bytes_max: Option<u64>,
    /// Types that are no file but a page of the platform's: log-in pages.
    #[serde(default)]
    pub refuse_type: Vec<String>,
    /// What becomes of a redirect.
    #[serde(default)]
    pub redirect: Redirect,
    /// So long after it was received a file that is not there may still appear.
    #[serde(default)]
    pub retry_404_for: Option<String>,
    /// A template of the SHA-256 that the file must have, hex or base64.
    #[serde(default)]
    pub verify_sha256: Option<String>,
    /// The file comes inside of JSON: a template of its base64. Then every request is answered in JSON.
    #[serde(default)]
    pub inline_base64: Option<String>,
    /// The file is a transcript: jq over its JSON that says what is said in it. The words become those of the message's call.
    #[serde(default)]
    pub words: Option<String>,
}

/// A request of a recipe.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepSpec {
    /// The request.
    pub request: RequestSpec,
    /// What is taken from its JSON answer: name → jq. Used as `{step.NAME}`; `name` is also the file's name where the map gave none.
    #[serde(default)]
    pub take: BTreeMap<String, String>,
    /// What answers mean.
    #[serde(default)]
    pub errors: Vec<RuleSpec>,
}

/// What becomes of a redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Redirect {
    /// The file is refused.
    #[default]
    Refuse,
    /// It is followed a few times; another origin gets no credential.
    DropAuth,
}

/// A recipe, checked and compiled.
#[derive(Debug)]
pub struct Recipe {
    /// Its requests.
    pub steps: Vec<Step>,
    /// How long a file can be had.
    pub expires: Duration,
    /// Largest file.
    pub bytes_max: Option<u64>,
    /// Types that are refused.
    pub refuse_type: Vec<String>,
    /// What becomes of a redirect.
    pub redirect: Redirect,
    /// So long a missing file may still appear.
    pub retry_missing_for: Duration,
    first: Vec<(String, Filter)>,
    sha256: Option<Template>,
    inline: Option<Template>,
    words: Option<Filter>,
}

/// A request of a recipe, compiled.
#[derive(Debug)]
pub struct Step {
    /// The request.
    pub call: Call,
    /// What answers mean.
    pub rules: Rules,
    take: Vec<(String, Filter)>,
}

impl Recipe {
    /// Checks and compiles `[media.NAME]`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(name: &str, spec: &RecipeSpec, scope: &Scope<'_>) -> Result<Self, Vec<Problem>> {
        let place = format!("media.{name}");
        let mut checking = Checking { place: &place, scope, problems: Vec::new(), known: BTreeSet::new() };
        let recipe = checking.recipe(spec);
        if checking.problems.is_empty() { Ok(recipe) } else { Err(checking.problems) }
    }

    /// Whether the file comes inside of the last answer.
    pub fn is_inline(&self) -> bool {
        self.inline.is_some()
    }

    /// The context of the first request.
    ///
    /// # Errors
    /// A `let` failed.
    pub fn context(&self, order: &FetchOrder, public: &Attachment, settings: &Value) -> Result<Value, JqError> {
        let mut context = json!({
            "settings": settings,
            "account": order.account,
            "message": {"id": order.message},
            "attachment": {"id": order.id, "url": order.url, "name": public.name, "type": public.media_type, "bytes": public.bytes},
        });
        let mut step = Map::new();
        for (name, filter) in &self.first {
            let value = filter.run_of(Input::Value(&context), &[])?.into_iter().next().unwrap_or(Value::Null);
            step.insert(name.clone(), value);
        }
        if let Some(root) = context.as_object_mut() {
            root.insert("step".to_owned(), Value::Object(step));
        }
        Ok(context)
    }

    /// The SHA-256 that the file must have, in lower-case hex, where one is told.
    pub fn sha256(&self, with: &Filling<'_>) -> Option<String> {
        let told = self.sha256.as_ref()?.fill(with, Position::Plain).ok()?;
        let hex = told.len() == 64 && told.bytes().all(|byte| byte.is_ascii_hexdigit());
        if hex {
            return Some(told.to_ascii_lowercase());
        }
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::STANDARD.decode(told.trim()).ok().filter(|bytes| bytes.len() == 32)?;
        Some(crate::connector::text::hex(&bytes))
    }

    /// The file that came inside of the answers.
    ///
    /// # Errors
    /// It is not there; [`CallError::Url`] stands for text that is no base64.
    pub fn inline(&self, with: &Filling<'_>) -> Result<Vec<u8>, CallError> {
        use base64::Engine as _;
        let Some(template) = &self.inline else { return Err(CallError::Missing("inline_base64".to_owned())) };
        let text: String = template.fill(with, Position::Plain)?.chars().filter(|char| !char.is_whitespace()).collect();
        let engine = base64::engine::GeneralPurpose::new(
            &base64::alphabet::STANDARD,
            base64::engine::GeneralPurposeConfig::new().with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
        );
        engine.decode(text.replace('-', "+").replace('_', "/")).map_err(|_| CallError::NotText("inline_base64".to_owned()))
    }

    /// Whether the file says what the message's call said.
    pub fn is_transcript(&self) -> bool {
        self.words.is_some()
    }

    /// What is said in a transcript; none if nothing is.
    ///
    /// # Errors
    /// It is no JSON, or not as the platform writes it: a word for the log.
    pub fn words(&self, body: &[u8]) -> Result<Option<String>, &'static str> {
        let Some(filter) = &self.words else { return Ok(None) };
        let value: Value = serde_json::from_slice(body).map_err(|_| "no JSON")?;
        let made = filter.run_of(Input::Value(&value), &[]).map_err(|_| "another JSON than the recipe's")?;
        let said = made.into_iter().next().unwrap_or(Value::Null);
        let mut words = text::clean(said.as_str().unwrap_or_default().trim());
        text::cut(&mut words, TEXT_BYTES_MAX);
        Ok(Some(words).filter(|words| !words.is_empty()))
    }

    /// Whether a body of this type is a page of the platform's and not the file.
    pub fn refuses(&self, media_type: &str, told: &str) -> bool {
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        // A customer may send a page, too.
        self.refuse_type.iter().any(|refused| refused.eq_ignore_ascii_case(essence)) && !told.eq_ignore_ascii_case(essence)
    }
}

impl Step {
    /// Puts what is taken from an answer into the context.
    ///
    /// # Errors
    /// A program failed.
    pub fn take(&self, judged: &Judged, context: &mut Value) -> Result<(), JqError> {
        for (name, filter) in &self.take {
            let value = judged.take(filter)?;
            if let Some(step) = context.get_mut("step").and_then(Value::as_object_mut) {
                step.insert(name.clone(), value);
            }
        }
        Ok(())
    }
}

struct Checking<'a> {
    place: &'a str,
    scope: &'a Scope<'a>,
    problems: Vec<Problem>,
    /// What `{step.NAME}` may name by now.
    known: BTreeSet<String>,
}

impl Checking<'_> {
    fn wrong(&mut self, message: impl std::fmt::Display) {
        self.problems.push(Problem::whole(self.scope.file, format!("[{}]: {message}", self.place)));
    }

    fn recipe(&mut self, spec: &RecipeSpec) -> Recipe {
        if spec.fetch.is_empty() || spec.fetch.len() > STEPS_MAX {
            self.wrong(format!("`fetch` needs one to {STEPS_MAX} requests"));
        }
        let first = self.filters(&spec.first, &[]);
        if spec.words.is_some() && spec.bytes_max.is_some_and(|bytes| bytes > TRANSCRIPT_BYTES_MAX) {
            self.wrong(format!("a transcript is read in memory: `bytes_max` is at most {TRANSCRIPT_BYTES_MAX}"));
        }
        let words = spec.words.as_ref().and_then(|code| self.filter("words", code, &[]));
        let inline = spec.inline_base64.is_some();
        let last = spec.fetch.len().saturating_sub(1);
        let mut steps = Vec::new();
        for (number, step) in spec.fetch.iter().enumerate() {
            if number == last && !inline && !step.take.is_empty() {
                self.wrong("the last request gives the file: nothing can be taken from it");
            }
            steps.extend(self.step(number, step));
        }
        Recipe {
            steps,
            expires: self.span("expires", spec.expires.as_deref()).unwrap_or(EXPIRES),
            bytes_max: if spec.words.is_some() { Some(spec.bytes_max.unwrap_or(TRANSCRIPT_BYTES_MAX)) } else { spec.bytes_max },
            refuse_type: spec.refuse_type.clone(),
            redirect: spec.redirect,
            retry_missing_for: self.span("retry_404_for", spec.retry_404_for.as_deref()).unwrap_or_default(),
            first,
            sha256: spec.verify_sha256.as_deref().and_then(|text| self.template("verify_sha256", text)),
            inline: spec.inline_base64.as_deref().and_then(|text| self.template("inline_base64", text)),
            words,
        }
    }

    fn step(&mut self, number: usize, spec: &StepSpec) -> Option<Step> {
        let place = format!("{}.fetch.{}", self.place, number + 1);
        let call = Call::compile(&spec.request, &place, &ROOTS, self.scope).map_err(|wrong| self.problems.extend(wrong)).ok();
        if let Some(call) = &call {
            let paths: Vec<Vec<String>> = call.paths().map(<[String]>::to_vec).collect();
            paths.iter().for_each(|path| self.path(path));
        }
        let rules = Rules::compile(&spec.errors, self.scope.file, &place, self.scope.limits);
        let rules = rules.map_err(|wrong| self.problems.extend(wrong)).ok();
        let take = self.filters(&spec.take, &ANSWER_VARS);
        Some(Step { call: call?, rules: rules?, take })
    }

    /// Programs by name; their names are known to what follows.
    fn filters(&mut self, table: &BTreeMap<String, String>, vars: &[&str]) -> Vec<(String, Filter)> {
        let mut out = Vec::new();
        for (name, code) in table {
            self.known.insert(name.clone());
            out.extend(self.filter(name, code, vars).map(|filter| (name.clone(), filter)));
        }
        out
    }

    fn filter(&mut self, name: &str, code: &str, vars: &[&str]) -> Option<Filter> {
        let made = Filter::compile(self.scope.file, code, vars, self.scope.limits);
        made.map_err(|wrong| wrong.into_iter().for_each(|problem| self.wrong(format!("in the jq of `{name}`: {}", problem.message)))).ok()
    }

    fn template(&mut self, key: &str, text: &str) -> Option<Template> {
        match Template::parse(text) {
            Err(message) => {
                self.wrong(format!("{key}: {message}"));
                None
            }
            Ok(template) => {
                let paths: Vec<Vec<String>> = template.paths().map(<[String]>::to_vec).collect();
                paths.iter().for_each(|path| self.path(path));
                Some(template)
            }
        }
    }

    /// A path must name something that is there.
    fn path(&mut self, path: &[String]) {
        let near = |name: &str, known: Vec<&str>| did_you_mean(name, known).map(str::to_owned);
        let (shown, found) = match path {
            [root, name] if root == "step" && !self.known.contains(name) => {
                (path.join("."), near(name, self.known.iter().map(String::as_str).collect()))
            }
            [root, name] if root == "attachment" && !ATTACHMENT.contains(&name.as_str()) => {
                (path.join("."), near(name, ATTACHMENT.to_vec()))
            }
            [root] if root != "account" => (root.clone(), None),
            _ => return,
        };
        let problem = Problem::whole(self.scope.file, format!("[{}]: nothing gives `{{{shown}}}`", self.place));
        self.problems.push(match found {
            Some(found) => problem.suggest(format!("did you mean `{found}`?")),
            None => problem,
        });
    }

    fn span(&mut self, key: &str, text: Option<&str>) -> Option<Duration> {
        let text = text?;
        let span = duration(text);
        if span.is_none() {
            self.wrong(format!("{key}: `{text}` is not a duration such as \"1d\""));
        }
        span
    }
}

#[cfg(test)]
mod tests;
