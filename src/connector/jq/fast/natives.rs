//! Functions of values, called from the tree: ours directly, jaq's through a program of one call.

use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Vars};

use crate::connector::jq::natives::{self, Data, Plain};
use crate::connector::jq::ops::Error;
use crate::connector::jq::val::Val;

/// A function.
pub enum Call {
    /// Ours.
    Plain(&'static Plain),
    /// jaq's, as a compiled program `name($a; $b)`.
    Jaq(Box<jaq_core::Filter<Data>>),
}

/// The function of this name and arity whose arguments are values.
pub fn find(name: &str, arity: usize) -> Option<Call> {
    if let Some(plain) = natives::ours(name, arity) {
        return Some(Call::Plain(plain));
    }
    let values = natives::of_values().any(|(known, count)| known == name && count == arity);
    if !values {
        return None;
    }
    let names = ["$a", "$b", "$c"];
    let arguments = names.get(..arity)?;
    let code = if arity == 0 { name.to_owned() } else { format!("{name}({})", arguments.join("; ")) };
    let arena = Arena::default();
    let modules = Loader::new([]).load(&arena, File { code: code.as_str(), path: () }).ok()?;
    let program = Compiler::default().with_funs(natives::all()).with_global_vars(arguments.iter().copied()).compile(modules).ok()?;
    Some(Call::Jaq(Box::new(program)))
}

impl Call {
    /// Calls it.
    pub fn call(&self, input: &Val, arguments: &[Val]) -> Result<Option<Val>, Error> {
        match self {
            Self::Plain(plain) => (plain.call)(input, arguments).map(Some),
            Self::Jaq(program) => {
                let context = Ctx::<Data>::new(&program.lut, Vars::new(arguments.iter().cloned()));
                let first = program.id.run((context, input.clone())).next();
                first.transpose().map_err(|raised| raised.get_err().unwrap_or_else(|_| Error::str("a break without its label")))
            }
        }
    }
}
