//! What a program may not be, found before it is compiled.
//!
//! Refused: definitions that call themselves (they need no end), updates through anything but plain paths (they take stack),
//! programs too large or too nested to be read on a small stack. Found on the way: the codes, draft kinds and error texts it names.

use std::collections::BTreeSet;

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Def, Pattern, Term};
use jaq_core::load::span;
use jaq_core::path::{Part, Path};

use crate::connector::problem::Problem;

/// Longest program, bytes.
pub const PROGRAM_BYTES_MAX: usize = 128 * 1024;
/// Most operators and brackets in one program: each may take one frame of stack when it runs.
pub const PROGRAM_MARKS_MAX: usize = 12_000;
/// Deepest nesting of a program, with what it calls. A level takes up to 6 KB of stack in an unoptimised build (measured); a thread has 2 MiB.
pub const PROGRAM_DEPTH_MAX: usize = 120;

/// Filters that may stand on the left of an update: they only choose.
const CHOOSERS: &[&str] =
    &["select", "empty", "recurse", "arrays", "objects", "strings", "numbers", "booleans", "nulls", "values", "scalars", "iterables"];

/// What a program names, by literals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Codes of `ignored("…")`.
    pub codes: BTreeSet<String>,
    /// Values of `kind: "…"`.
    pub kinds: BTreeSet<String>,
    /// Plain string literals: an error text may be shown if it is one of these.
    pub literals: BTreeSet<String>,
}

/// Goes through a program once.
pub struct Checker<'a> {
    file: &'a str,
    code: &'a str,
    /// Names and arities of the definitions that are being read.
    open: Vec<(&'a str, usize)>,
    /// Names, arities and depths of the definitions that were read.
    known: Vec<(&'a str, usize, usize)>,
    /// Frames that the place being read may have above it when it runs: its own nesting, and that of what it is called from.
    depth: usize,
    deepest: usize,
    /// What it found.
    pub facts: Facts,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

impl<'a> Checker<'a> {
    /// A checker of `code`, the content of `file`.
    pub fn new(file: &'a str, code: &'a str) -> Self {
        Self { file, code, open: Vec::new(), known: Vec::new(), depth: 0, deepest: 0, facts: Facts::default(), problems: Vec::new() }
    }

    fn problem(&mut self, at: &str, message: String) {
        let problem = Problem::at(self.file, self.code, span(self.code, at), message);
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Reads a term and all that is in it.
    pub fn term(&mut self, term: &Term<&'a str>) {
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        if self.depth > PROGRAM_DEPTH_MAX {
            if self.problems.is_empty() {
                self.problems.push(Problem::whole(self.file, format!("the program nests deeper than {PROGRAM_DEPTH_MAX}")));
            }
        } else {
            self.inner(term);
        }
        self.depth -= 1;
    }

    fn inner(&mut self, term: &Term<&'a str>) {
        match term {
            Term::Id | Term::Recurse | Term::Num(_) | Term::Break(_) | Term::Var(_) | Term::Arr(None) => {}
            Term::Str(_, parts) => self.text(term, parts),
            Term::Arr(Some(inner)) | Term::Neg(inner) | Term::Label(_, inner) => self.term(inner),
            Term::Obj(members) => {
                for (key, value) in members {
                    self.member(key, value.as_ref());
                }
            }
            Term::BinOp(left, op, right) => self.operation(left, op, right),
            Term::Fold(_, over, pattern, parts) => {
                self.term(over);
                self.pattern(pattern);
                parts.iter().for_each(|part| self.term(part));
            }
            Term::TryCatch(inner, caught) => {
                self.term(inner);
                if let Some(caught) = caught {
                    self.term(caught);
                }
            }
            Term::IfThenElse(branches, otherwise) => {
                for (when, then) in branches {
                    self.term(when);
                    self.term(then);
                }
                if let Some(otherwise) = otherwise {
                    self.term(otherwise);
                }
            }
            Term::Def(defs, body) => {
                defs.iter().for_each(|def| self.definition(def));
                self.term(body);
            }
            Term::Call(name, arguments) => self.call(name, arguments),
            Term::Path(inner, path) => {
                self.term(inner);
                self.path(path);
            }
        }
    }

    fn text(&mut self, term: &Term<&'a str>, parts: &[StrPart<&'a str, Term<&'a str>>]) {
        if let Some(text) = literal(term) {
            self.facts.literals.insert(text);
        }
        for part in parts {
            if let StrPart::Term(inner) = part {
                self.term(inner);
            }
        }
    }

    fn member(&mut self, key: &Term<&'a str>, value: Option<&Term<&'a str>>) {
        self.term(key);
        let Some(value) = value else { return };
        if literal(key).as_deref() == Some("kind") {
            self.kinds(value);
        }
        self.term(value);
    }

    /// `kind: "edit"`, also inside of `if … then "a" else "b" end`.
    fn kinds(&mut self, value: &Term<&'a str>) {
        if let Some(kind) = literal(value) {
            self.facts.kinds.insert(kind);
        }
        if let Term::IfThenElse(branches, otherwise) = value {
            branches.iter().for_each(|(_, then)| self.kinds(then));
            if let Some(otherwise) = otherwise {
                self.kinds(otherwise);
            }
        }
    }

    fn operation(&mut self, left: &Term<&'a str>, op: &BinaryOp<&'a str>, right: &Term<&'a str>) {
        match op {
            BinaryOp::Assign | BinaryOp::Update | BinaryOp::UpdateMath(_) | BinaryOp::UpdateAlt => self.target(left),
            BinaryOp::Pipe(Some(pattern)) => self.pattern(pattern),
            _ => {}
        }
        self.term(left);
        self.term(right);
    }

    /// What stands on the left of an update.
    fn target(&mut self, term: &Term<&'a str>) {
        match term {
            Term::Id | Term::Recurse => {}
            Term::Path(inner, _) => self.target(inner),
            Term::BinOp(left, BinaryOp::Pipe(None) | BinaryOp::Comma | BinaryOp::Alt, right) => {
                self.target(left);
                self.target(right);
            }
            Term::IfThenElse(branches, otherwise) => {
                branches.iter().for_each(|(_, then)| self.target(then));
                if let Some(otherwise) = otherwise {
                    self.target(otherwise);
                }
            }
            Term::Call(name, arguments) if CHOOSERS.contains(name) && (*name != "recurse" || arguments.is_empty()) => {}
            Term::Call(name, _) => self.problem(name, format!("`{name}` cannot stand on the left of an update: only paths can")),
            _ => {
                if !self.problems.iter().any(|known| known.line == 0) {
                    self.problems.push(Problem::whole(self.file, "only paths can stand on the left of an update"));
                }
            }
        }
    }

    fn definition(&mut self, def: &Def<&'a str>) {
        let outside = (std::mem::take(&mut self.depth), std::mem::take(&mut self.deepest));
        self.open.push((def.name, def.args.len()));
        self.term(&def.body);
        self.open.pop();
        self.known.push((def.name, def.args.len(), self.deepest));
        (self.depth, self.deepest) = outside;
    }

    fn call(&mut self, name: &'a str, arguments: &[Term<&'a str>]) {
        if self.open.contains(&(name, arguments.len())) {
            self.problem(name, format!("`{name}` calls itself: a map must end, so definitions cannot"));
        }
        if name == "ignored" {
            match arguments.first().and_then(literal) {
                Some(code) => {
                    self.facts.codes.insert(code);
                }
                None => self.problem(name, "the code of `ignored` must be a literal, so that it can be declared".to_owned()),
            }
        }
        if name == "del" {
            arguments.iter().for_each(|argument| self.target(argument));
        }
        // A call runs its definition's body below this place, and the arguments at the bottom of that.
        let same = self.known.iter().filter(|(known, arity, _)| *known == name && *arity == arguments.len());
        let below = same.map(|(_, _, depth)| *depth).max().unwrap_or(0);
        self.depth += below;
        self.deepest = self.deepest.max(self.depth);
        if self.depth > PROGRAM_DEPTH_MAX {
            self.problem(name, format!("the program nests deeper than {PROGRAM_DEPTH_MAX} with what `{name}` calls"));
        } else {
            arguments.iter().for_each(|argument| self.term(argument));
        }
        self.depth -= below;
    }

    fn path(&mut self, path: &Path<Term<&'a str>>) {
        for (part, _) in &path.0 {
            match part {
                Part::Index(index) => self.term(index),
                Part::Range(start, end) => {
                    if let Some(start) = start {
                        self.term(start);
                    }
                    if let Some(end) = end {
                        self.term(end);
                    }
                }
            }
        }
    }

    fn pattern(&mut self, pattern: &Pattern<&'a str>) {
        match pattern {
            Pattern::Var(_) => {}
            Pattern::Arr(parts) => parts.iter().for_each(|part| self.pattern(part)),
            Pattern::Obj(parts) => {
                for (key, part) in parts {
                    self.term(key);
                    self.pattern(part);
                }
            }
        }
    }
}

/// The text of a plain string literal.
fn literal(term: &Term<&str>) -> Option<String> {
    match term {
        Term::Str(None, parts) => match parts.as_slice() {
            [] => Some(String::new()),
            [StrPart::Str(text)] => Some((*text).to_owned()),
            _ => None,
        },
        _ => None,
    }
}

/// What is wrong if the text is too large to be read by a recursive reader.
pub fn too_large(file: &str, code: &str) -> Option<Problem> {
    if code.len() > PROGRAM_BYTES_MAX {
        return Some(Problem::whole(file, format!("the program is longer than {PROGRAM_BYTES_MAX} bytes")));
    }
    let marks = code.bytes().filter(|byte| b"|,;([{+-*/%?<>=.".contains(byte)).count();
    if marks > PROGRAM_MARKS_MAX {
        return Some(Problem::whole(file, format!("the program has more than {PROGRAM_MARKS_MAX} operators")));
    }
    let (mut depth, mut deepest) = (0usize, 0usize);
    for byte in code.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if deepest > 100 {
        return Some(Problem::whole(file, "the program nests more than 100 brackets"));
    }
    None
}
