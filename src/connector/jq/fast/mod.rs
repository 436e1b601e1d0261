//! The short way: most programs, compiled to a tree that is walked without a single allocation for what is only looked at.
//!
//! jaq keeps every step of a program as a boxed iterator, which is the price of its whole language. Maps use a small part of it:
//! paths, conditions, objects, bindings, pipes. For a program that uses nothing else, `compile` makes a tree of [`Node`]s, with all
//! definitions written out in place (they cannot call themselves), and `run` hands each output to the next step as it comes.
//! A program with anything else (updates, `foreach`, labels, sorting by a filter) is run by jaq, whole.
//!
//! What must stay true: both give the same outputs and the same errors for every program and input (`jq/tests.rs` compares
//! them), every step burns fuel, and the stack a tree takes is known when it is compiled ([`DEEP_MAX`]).

mod compile;
mod natives;
mod run;

use jaq_core::ops::{Cmp, Math};

use crate::connector::jq::share::Text;
use crate::connector::jq::val::Val;

pub use crate::connector::jq::fast::run::{Stop, run};

/// Frames that the tree may have above each other when it runs.
const DEEP_MAX: u32 = 500;
/// Nodes of one program, definitions written out.
const NODES_MAX: usize = 30_000;

/// A program as a tree.
pub struct Program {
    root: Node,
    consts: Vec<Const>,
    /// Which of the variables it reads.
    used: Vec<bool>,
}

impl Program {
    /// Whether it reads the variable with this number.
    pub fn reads(&self, variable: usize) -> bool {
        self.used.get(variable).copied().unwrap_or(false)
    }

    /// The tree of `term`, if it uses nothing else; `vars` are the names of its variables.
    pub fn compile(
        prelude: &[jaq_core::load::parse::Def<&'static str>],
        term: &jaq_core::load::parse::Term<&str>,
        vars: &[&str],
    ) -> Option<Self> {
        compile::program(prelude, term, vars)
    }
}

/// A literal.
#[derive(PartialEq)]
enum Const {
    Null,
    Bool(bool),
    Int(i64),
    Number(String),
    Text(&'static str),
}

impl Const {
    fn value(&self) -> Val {
        match self {
            Self::Null => Val::Null,
            Self::Bool(value) => Val::Bool(*value),
            Self::Int(value) => Val::Int(*value),
            Self::Number(text) => crate::connector::jq::json::number(text.as_bytes()).unwrap_or_default(),
            Self::Text(text) => Val::Str(Text::fixed(text)),
        }
    }
}

/// A filter.
struct Node {
    kind: Kind,
    /// It gives one output or an error, never none and never two.
    one: bool,
    /// It gives no second output.
    most: bool,
    /// Frames it may have above each other, with what its outputs are handed to inside of it.
    deep: u32,
}

enum Kind {
    Id,
    Empty,
    Const(usize),
    /// One of the program's variables.
    Global(usize),
    /// A binding, so many frames up.
    Var(usize),
    Path(Box<Node>, Vec<Step>),
    Pipe(Box<Node>, Box<Node>),
    Comma(Box<Node>, Box<Node>),
    Bind(Box<Node>, Pattern, Box<Node>),
    Alt(Box<Node>, Box<Node>),
    If(Box<Node>, Box<Node>, Box<Node>),
    /// `and`, `or`: the value of the left side that decides already.
    Logic(Box<Node>, bool, Box<Node>),
    Math(Box<Node>, Math, Box<Node>),
    Cmp(Box<Node>, Cmp, Box<Node>),
    Neg(Box<Node>),
    Array(Box<Node>),
    Object(Vec<(Node, Node)>),
    Text(Vec<Node>),
    ToText,
    Try(Box<Node>, Option<Box<Node>>),
    Reduce(Box<Node>, Pattern, Box<Node>, Box<Node>),
    Recurse(Option<Box<Node>>),
    First(Box<Node>),
    Last(Box<Node>),
    Limit(Box<Node>, Box<Node>),
    Range(Box<[Node; 3]>),
    Call(natives::Call, Vec<Node>),
}

/// A part of a path.
struct Step {
    part: Part,
    /// With `?`: what cannot be done gives nothing.
    optional: bool,
}

enum Part {
    /// `.name`.
    Member(&'static str),
    /// `[expression]`.
    Index(Node),
    /// `[from:upto]`.
    Range(Option<Node>, Option<Node>),
    /// `[]`.
    Each,
}

/// What a value is bound to.
enum Pattern {
    Var,
    /// Parts by index or key.
    Parts(Vec<(Node, Pattern)>),
}
