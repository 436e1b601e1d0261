//! jq within a budget: compiled once, run many times, never without an end.
//!
//! The language is jaq's. The value is ours (`val`), so that every step costs fuel and nothing grows unseen; the functions
//! are an allow-list (`natives`, `prelude.jq`); programs that could take stack without a bound are refused (`check`).

mod check;
mod fuel;
mod gateway;
mod json;
mod natives;
mod ops;
mod regexes;
#[cfg(test)]
mod tests;
mod val;

use jaq_core::load::{Arena, File, Loader, lex, parse, span};
use jaq_core::{Compiler, Ctx, Vars};
use serde_json::Value;

pub use crate::connector::jq::check::Facts;
use crate::connector::jq::natives::Data;
use crate::connector::jq::val::Val;
use crate::connector::problem::{Problem, did_you_mean};

const PRELUDE: &str = include_str!("prelude.jq");

/// What a run may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Steps. One step is one value touched, or 64 bytes copied. What the input costs to read is given on top.
    pub fuel: u64,
    /// Outputs.
    pub outputs_max: usize,
    /// Nesting of input and output.
    pub depth_max: usize,
    /// Bytes of all outputs together.
    pub output_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { fuel: 1_000_000, outputs_max: 10_000, depth_max: 128, output_bytes_max: 16 * 1024 * 1024 }
    }
}

/// Why a filter gave nothing. Each variant is another code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JqError {
    /// The program raised an error; the text names types and program text, never content (I7).
    #[error("the filter failed: {0}")]
    Failed(String),
    /// It used up its fuel, or made something too large or too deep.
    #[error("the filter used up its budget: {0}")]
    Budget(&'static str),
    /// It gave more outputs than the limit.
    #[error("the filter gave more than {0} outputs")]
    FanOut(usize),
    /// The input is not JSON.
    #[error("not JSON: {0}")]
    Input(String),
    /// The input nests deeper than the limit.
    #[error("the input nests deeper than {0}")]
    TooDeep(usize),
}

/// What a filter reads.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// JSON text, read once; integers of any length keep their digits.
    Json(&'a [u8]),
    /// A value that is at hand already.
    Value(&'a Value),
}

/// A compiled jq program. `Send + Sync`; running it needs no lock.
pub struct Filter {
    program: jaq_core::Filter<Data>,
    facts: Facts,
    limits: Limits,
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filter").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// Nesting of a JSON text by its brackets.
pub fn nesting(bytes: &[u8]) -> usize {
    json::nesting(bytes)
}

/// A JSON text as serde knows it, integers beyond 64 bits as text.
///
/// # Errors
/// [`JqError::Input`] and [`JqError::TooDeep`].
pub fn parse_json(bytes: &[u8], depth_max: usize) -> Result<Value, JqError> {
    let read = fuel::run(u64::MAX, || json::read(bytes, depth_max).map(|value| json::to_serde(&value)));
    read.map_err(|stop| JqError::Budget(stop.0))?.map_err(|wrong| input_error(wrong, depth_max))
}

fn input_error(wrong: json::Wrong, depth_max: usize) -> JqError {
    match wrong {
        json::Wrong::Syntax(at) => JqError::Input(format!("unexpected byte at {at}")),
        json::Wrong::Deep => JqError::TooDeep(depth_max),
    }
}

impl Filter {
    /// Compiles `code`, the content of `file`; `vars` are the names of its variables with their `$`.
    ///
    /// # Errors
    /// Everything that is wrong with the program.
    pub fn compile(file: &str, code: &str, vars: &[&str], limits: Limits) -> Result<Self, Vec<Problem>> {
        if let Some(problem) = check::too_large(file, code) {
            return Err(vec![problem]);
        }
        let facts = checked(file, code)?;
        let arena = Arena::default();
        let prelude = parse_prelude();
        let names: Vec<&str> = prelude.iter().map(|def| def.name).collect();
        let modules =
            Loader::new(prelude).load(&arena, File { code, path: () }).map_err(|_| vec![Problem::whole(file, "not a jq program")])?;
        let program = Compiler::default().with_funs(natives::all()).with_global_vars(vars.iter().copied()).compile(modules);
        let program = program.map_err(|errors| {
            let all = errors.into_iter().flat_map(|(_, undefined)| undefined);
            all.map(|(name, undefined)| unknown(file, code, name, undefined.as_str(), &names, vars)).collect::<Vec<_>>()
        })?;
        Ok(Self { program, facts, limits })
    }

    /// What the program names.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whether the first output is neither null nor false; no output is false.
    ///
    /// # Errors
    /// See [`JqError`].
    pub fn truthy(&self, input: &[u8], vars: &[&Value]) -> Result<bool, JqError> {
        self.truthy_of(Input::Json(input), vars)
    }

    /// As [`Self::truthy`], of any input.
    ///
    /// # Errors
    /// See [`JqError`].
    pub fn truthy_of(&self, input: Input<'_>, vars: &[&Value]) -> Result<bool, JqError> {
        let mut first = None;
        self.each(input, vars, |value| {
            first = Some(!matches!(value, Val::Null | Val::Bool(false)));
            false
        })?;
        Ok(first.unwrap_or(false))
    }

    /// All outputs. `input` is JSON text, read once.
    ///
    /// # Errors
    /// See [`JqError`].
    pub fn run(&self, input: &[u8], vars: &[&Value]) -> Result<Vec<Value>, JqError> {
        self.run_of(Input::Json(input), vars)
    }

    /// As [`Self::run`], of any input.
    ///
    /// # Errors
    /// See [`JqError`].
    pub fn run_of(&self, input: Input<'_>, vars: &[&Value]) -> Result<Vec<Value>, JqError> {
        let mut out = Vec::new();
        self.each(input, vars, |value| {
            out.push(json::to_serde(value));
            true
        })?;
        Ok(out)
    }

    /// All outputs as JSON text, one each; big integers as they came.
    ///
    /// # Errors
    /// See [`JqError`].
    pub fn run_to_json(&self, input: &[u8], vars: &[&Value]) -> Result<Vec<Vec<u8>>, JqError> {
        let mut out = Vec::new();
        self.each(Input::Json(input), vars, |value| {
            let mut text = Vec::new();
            json::write(value, &mut text);
            out.push(text);
            true
        })?;
        Ok(out)
    }

    /// Runs the program and hands each output over, until `take` says that it has enough.
    fn each(&self, input: Input<'_>, vars: &[&Value], mut take: impl FnMut(&Val) -> bool) -> Result<(), JqError> {
        let limits = self.limits;
        // Reading is paid by the input itself: a large payload is no reason to refuse a small map.
        let size = match input {
            Input::Json(bytes) => bytes.len() as u64,
            Input::Value(_) => limits.fuel,
        };
        let work = || {
            let value = match input {
                Input::Json(bytes) => json::read(bytes, limits.depth_max).map_err(|wrong| input_error(wrong, limits.depth_max))?,
                Input::Value(value) => json::from_serde(value),
            };
            let variables = Vars::new(vars.iter().map(|value| json::from_serde(value)));
            let context = Ctx::<Data>::new(&self.program.lut, variables);
            let (mut count, mut bytes) = (0, 0u64);
            for output in self.program.id.run((context, value)) {
                let output = output.map_err(|raised| self.failure(raised.get_err().ok()))?;
                count += 1;
                bytes = bytes.saturating_add(output.weight());
                if count > limits.outputs_max {
                    return Err(JqError::FanOut(limits.outputs_max));
                }
                if bytes > limits.output_bytes_max as u64 {
                    return Err(JqError::Budget("output"));
                }
                if usize::from(output.depth()) > limits.depth_max {
                    return Err(JqError::Budget("depth"));
                }
                if !take(&output) {
                    break;
                }
            }
            Ok(())
        };
        fuel::run(limits.fuel.saturating_add(size), work).unwrap_or_else(|stop| Err(JqError::Budget(stop.0)))
    }

    /// What may be told of an error: types, and texts that stand in the program.
    fn failure(&self, raised: Option<ops::Error>) -> JqError {
        let Some(raised) = raised else { return JqError::Failed("a break without its label".to_owned()) };
        let shown = raised.to_string();
        if shown != "string" {
            return JqError::Failed(shown);
        }
        match raised.into_val() {
            Val::Str(text) if self.facts.literals.contains(&*String::from_utf8_lossy(&text)) => {
                JqError::Failed(String::from_utf8_lossy(&text).into_owned())
            }
            Val::Str(text)
                if text.starts_with(b"cannot ")
                    || text.starts_with(b"expected ")
                    || text.starts_with(b"the text ")
                    || text.starts_with(b"not a regular ") =>
            {
                JqError::Failed(String::from_utf8_lossy(&text).into_owned())
            }
            _ => JqError::Failed("an error was raised".to_owned()),
        }
    }
}

fn parse_prelude() -> Vec<parse::Def<&'static str>> {
    jaq_core::load::parse(PRELUDE, |parser| parser.defs()).unwrap_or_default()
}

/// Reads the program and looks through it.
fn checked(file: &str, code: &str) -> Result<Facts, Vec<Problem>> {
    let tokens = lex::Lexer::new(code).lex().map_err(|errors| {
        errors
            .into_iter()
            .map(|(expected, at)| Problem::at(file, code, span(code, at), format!("expected {}", expected.as_str())))
            .collect::<Vec<_>>()
    })?;
    let term = parse::Parser::new(&tokens).parse(|parser| parser.term()).map_err(|errors| {
        let one = |(expected, found): parse::TError<'_, &str>| {
            let place = found.map_or(code.len()..code.len(), |token: &lex::Token<&str>| span(code, token.0));
            Problem::at(file, code, place, format!("expected {}", expected.as_str()))
        };
        errors.into_iter().map(one).collect::<Vec<_>>()
    })?;
    let mut checker = check::Checker::new(file, code);
    checker.term(&term);
    if checker.problems.is_empty() { Ok(checker.facts) } else { Err(checker.problems) }
}

fn unknown(file: &str, code: &str, name: &str, what: &str, known: &[&str], vars: &[&str]) -> Problem {
    let inside = code.as_bytes().as_ptr_range().contains(&name.as_ptr());
    let message = format!("undefined {what} `{name}`");
    let problem = if inside { Problem::at(file, code, span(code, name), message) } else { Problem::whole(file, message) };
    let natives: Vec<&str> = natives::all().map(|(name, ..)| name).collect();
    match did_you_mean(name, known.iter().chain(vars).chain(&natives).copied()) {
        Some(near) if near != name => problem.suggest(format!("did you mean `{near}`?")),
        _ => problem,
    }
}
