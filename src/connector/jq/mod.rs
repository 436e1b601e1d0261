//! jq within a budget: compiled once, run many times, never without an end.
//!
//! The language is jaq's. The value is ours (`val`), so that every step costs fuel and nothing grows unseen; the functions
//! are an allow-list (`natives`, `prelude.jq`); programs that could take stack without a bound are refused (`check`).

mod check;
mod de;
mod fast;
mod fuel;
mod gateway;
mod json;
mod natives;
mod ops;
mod regexes;
mod share;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod twin_tests;
mod val;

use jaq_core::load::{Arena, File, Loader, lex, parse, span};
use jaq_core::{Compiler, Ctx, Vars};
use serde_json::Value;

pub use crate::connector::jq::check::Facts;
pub use crate::connector::jq::de::Output;
use crate::connector::jq::natives::Data;
use crate::connector::jq::val::Val;
use crate::connector::problem::{Problem, did_you_mean};

/// How the texts of errors raised by our own functions begin; none holds content (I7).
const OWN_ERRORS: [&str; 4] = ["cannot ", "expected ", "the text ", "not a regular "];

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

/// Takes an output; whether there may be another.
type Next<'n> = &'n mut dyn FnMut(&Val) -> Result<bool, JqError>;

/// A compiled jq program. `Send + Sync`; running it needs no lock.
pub struct Filter {
    program: jaq_core::Filter<Data>,
    /// The short way, where the program has one.
    fast: Option<fast::Program>,
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
        let (facts, fast) = checked(file, code, vars)?;
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
        Ok(Self { program, fast, facts, limits })
    }

    /// Whether it runs the short way.
    pub fn is_fast(&self) -> bool {
        self.fast.is_some()
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

    /// As [`Self::run_of`], with each output handed to `take`.
    ///
    /// # Errors
    /// See [`JqError`].
    pub fn run_with(&self, input: Input<'_>, vars: &[&Value], mut take: impl FnMut(Output<'_>)) -> Result<(), JqError> {
        self.each(input, vars, |value| {
            take(Output(value));
            true
        })
    }

    /// Whether it may read the variable with this number.
    pub fn reads(&self, variable: usize) -> bool {
        self.fast.as_ref().is_none_or(|program| program.reads(variable))
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
            let (mut count, mut bytes) = (0, 0u64);
            // Whether it may go on.
            let mut next = |output: &Val| {
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
                Ok(take(output))
            };
            match &self.fast {
                Some(program) => self.walk(program, &value, vars, &mut next),
                None => self.interpret(value, vars, &mut next),
            }
        };
        fuel::run(limits.fuel.saturating_add(size), work).unwrap_or_else(|stop| Err(JqError::Budget(stop.0)))
    }

    /// Runs the program the short way.
    fn walk(&self, program: &fast::Program, input: &Val, vars: &[&Value], next: Next<'_>) -> Result<(), JqError> {
        let one = |(place, value): (usize, &&Value)| if program.reads(place) { json::from_serde(value) } else { Val::Null };
        let globals: Vec<Val> = vars.iter().enumerate().map(one).collect();
        let mut refused = None;
        let done = fast::run(program, input, &globals, &mut |output| match next(&output) {
            Ok(true) => Ok(()),
            Ok(false) => Err(fast::Stop::Enough),
            Err(error) => {
                refused = Some(error);
                Err(fast::Stop::Enough)
            }
        });
        match (refused, done) {
            (Some(error), _) => Err(error),
            (None, Err(fast::Stop::Raised(error))) => Err(self.failure(Some(*error))),
            (None, _) => Ok(()),
        }
    }

    /// Runs the program by jaq.
    fn interpret(&self, input: Val, vars: &[&Value], next: Next<'_>) -> Result<(), JqError> {
        let variables = Vars::new(vars.iter().map(|value| json::from_serde(value)));
        let context = Ctx::<Data>::new(&self.program.lut, variables);
        for output in self.program.id.run((context, input)) {
            let output = output.map_err(|raised| self.failure(raised.get_err().ok()))?;
            if !next(&output)? {
                break;
            }
        }
        Ok(())
    }

    /// What may be told of an error: types, and texts that stand in the program.
    fn failure(&self, raised: Option<ops::Error>) -> JqError {
        let Some(raised) = raised else { return JqError::Failed("a break without its label".to_owned()) };
        let shown = raised.to_string();
        if shown != "string" {
            return JqError::Failed(shown);
        }
        match raised.into_val() {
            Val::Str(text)
                if self.facts.literals.contains(text.as_str()) || OWN_ERRORS.iter().any(|own| text.as_str().starts_with(own)) =>
            {
                JqError::Failed(text.as_str().to_owned())
            }
            _ => JqError::Failed("an error was raised".to_owned()),
        }
    }
}

fn parse_prelude() -> Vec<parse::Def<&'static str>> {
    jaq_core::load::parse(PRELUDE, |parser| parser.defs()).unwrap_or_default()
}

/// Reads the program, looks through it, and finds its short way.
fn checked(file: &str, code: &str, vars: &[&str]) -> Result<(Facts, Option<fast::Program>), Vec<Problem>> {
    let tokens = lex::Lexer::new(code).lex().map_err(|errors| {
        errors
            .into_iter()
            .map(|(expected, at)| Problem::at(file, code, span(code, at), format!("not jq: {} expected here", expected.as_str())))
            .collect::<Vec<_>>()
    })?;
    let term = parse::Parser::new(&tokens).parse(|parser| parser.term()).map_err(|errors| {
        let one = |(expected, found): parse::TError<'_, &str>| {
            let place = found.map_or(code.len()..code.len(), |token: &lex::Token<&str>| span(code, token.0));
            Problem::at(file, code, place, format!("not jq: {} expected here", expected.as_str()))
        };
        errors.into_iter().map(one).collect::<Vec<_>>()
    })?;
    let mut checker = check::Checker::new(file, code);
    checker.term(&term);
    if !checker.problems.is_empty() {
        return Err(checker.problems);
    }
    Ok((checker.facts, fast::Program::compile(&parse_prelude(), &term, vars)))
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
