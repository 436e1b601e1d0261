//! Functions written in Rust: the allow-list of jaq's own, and what the gateway adds.
//!
//! A function is pure, pays for what it reads, and says in its error what it expected, never what it got (I7). What is not
//! listed here or in `prelude.jq` does not exist: no environment, no input, no clock, no way to end the process.

use jaq_core::box_iter::box_once;
use jaq_core::native::{Fun, run, v};
use jaq_core::{Bind, Cv, RunPtr, ValR, ValXs};
use jaq_std::ValT as _;

use crate::connector::jq::fuel;
use crate::connector::jq::gateway;
use crate::connector::jq::json;
use crate::connector::jq::ops::Error;
use crate::connector::jq::regexes;
use crate::connector::jq::share::Text;
use crate::connector::jq::val::Val;

/// What the filters run on.
pub type Data = jaq_core::data::JustLut<Val>;

type Native = jaq_core::native::Filter<RunPtr<Data>>;

/// One of ours: a function of the input and of values.
pub struct Plain {
    /// Name.
    pub name: &'static str,
    /// How many arguments.
    pub arity: usize,
    /// What it does.
    pub call: fn(&Val, &[Val]) -> ValR<Val>,
    /// The same for jaq.
    run: RunPtr<Data>,
}

/// An entry of a table of [`Plain`]s. A macro, because jaq takes function pointers, and those hold no other.
macro_rules! plain {
    ($name:literal, $arity:literal, $call:expr) => {
        $crate::connector::jq::natives::Plain::new($name, $arity, $call, |mut cv| {
            let mut arguments: [Val; $arity] = std::array::from_fn(|_| cv.0.pop_var());
            arguments.reverse();
            let call: fn(&Val, &[Val]) -> jaq_core::ValR<Val> = $call;
            jaq_core::native::bome(call(&cv.1, &arguments))
        })
    };
}
pub(super) use plain;

impl Plain {
    /// An entry of a table.
    pub const fn new(name: &'static str, arity: usize, call: fn(&Val, &[Val]) -> ValR<Val>, run: RunPtr<Data>) -> Self {
        Self { name, arity, call, run }
    }
}

/// The argument at `place`.
pub fn arg(arguments: &[Val], place: usize) -> &Val {
    arguments.get(place).unwrap_or(&Val::Null)
}

/// Of `jaq_core`: those that end, and whose update needs no stack.
const CORE: &[&str] = &["error_empty", "range", "keys_unsorted", "key_values", "first", "last", "limit", "skip"];

/// Of `jaq_std`.
const STD: &[&str] = &[
    "floor",
    "round",
    "ceil",
    "sqrt",
    "pow",
    "log",
    "log2",
    "log10",
    "exp",
    "utf8bytelength",
    "explode",
    "implode",
    "ascii_downcase",
    "ascii_upcase",
    "reverse",
    "sort",
    "sort_by",
    "group_by",
    "min_by_or_empty",
    "max_by_or_empty",
    "startswith",
    "endswith",
    "ltrimstr",
    "rtrimstr",
    "trim",
    "ltrim",
    "rtrim",
    "escape_html",
    "encode_uri",
    "encode_base64",
    "decode_base64",
    "fromdateiso8601",
    "todateiso8601",
    "strftime",
    "strptime",
    "gmtime",
    "mktime",
];

/// Every function.
pub fn all() -> impl Iterator<Item = Fun<Data>> {
    let core = jaq_core::funs::<Data>().filter(|(name, ..)| CORE.contains(name));
    let std = jaq_std::funs::<Data>().filter(|(name, ..)| STD.contains(name));
    let own = OWN.iter().chain(gateway::NATIVES.iter()).map(|plain| (plain.name, v(plain.arity), plain.run));
    let recurse: Native = ("recurse", [Bind::Fun(())].into(), recurse);
    core.chain(std).chain(own.chain([recurse]).map(run::<Data>))
}

/// The input or argument as text.
pub fn text_of(value: &Val) -> Result<&str, Error> {
    fuel::burn_bytes(value.weight());
    value.as_str().ok_or_else(|| Error::str(format_args!("expected a string, got {value}")))
}

static OWN: [Plain; 14] = [
    plain!("type", 0, |value, _| Ok(Val::Str(Text::fixed(value.type_name())))),
    plain!("length", 0, |value, _| length(value)),
    plain!("has", 1, |value, all| has(value, arg(all, 0))),
    plain!("contains", 1, |value, all| contains(value, arg(all, 0)).map(Val::Bool)),
    plain!("indices", 1, |value, all| indices(value, arg(all, 0))),
    plain!("getpath", 1, |value, all| getpath(value, arg(all, 0))),
    plain!("join", 1, |value, all| join(value, arg(all, 0))),
    plain!("add", 0, |value, _| sum(value)),
    plain!("tojson", 0, |value, _| Ok(Val::text(json::to_text(value)))),
    plain!("fromjson", 0, |value, _| fromjson(value)),
    plain!("tonumber", 0, |value, _| tonumber(value.clone())),
    plain!("matches", 2, |value, all| regexes::run(value, all, false, true)),
    plain!("split_matches", 2, |value, all| regexes::run(value, all, true, true)),
    plain!("split_", 2, |value, all| regexes::run(value, all, true, false)),
];

/// Our function of values with this name and arity.
pub fn ours(name: &str, arity: usize) -> Option<&'static Plain> {
    OWN.iter().chain(gateway::NATIVES.iter()).find(|plain| plain.name == name && plain.arity == arity)
}

/// jaq's functions that take values only: name and arity.
pub fn of_values() -> impl Iterator<Item = (&'static str, usize)> {
    let core = jaq_core::funs::<Data>().filter(|(name, ..)| CORE.contains(name));
    let std = jaq_std::funs::<Data>().filter(|(name, ..)| STD.contains(name));
    let plain = core.chain(std).filter(|(_, arguments, _)| arguments.iter().all(|argument| matches!(argument, Bind::Var(()))));
    plain.map(|(name, arguments, _)| (name, arguments.len()))
}

/// `., (f | recurse(f))` with a stack of its own on the heap.
fn recurse(mut cv: Cv<'_, Data>) -> ValXs<'_, Val> {
    let (f, context) = cv.0.pop_fun();
    let mut open: Vec<ValXs<'_, Val>> = vec![box_once(Ok(cv.1))];
    Box::new(std::iter::from_fn(move || {
        loop {
            fuel::burn(2);
            let next = open.last_mut()?.next();
            match next {
                None => drop(open.pop()),
                Some(Ok(value)) => {
                    let inner = f.run((context.clone(), value.clone()));
                    open.push(inner);
                    return Some(Ok(value));
                }
                Some(wrong) => return Some(wrong),
            }
        }
    }))
}

fn length(value: &Val) -> ValR<Val> {
    fuel::burn_bytes(value.as_bytes().map_or(0, |bytes| bytes.len() as u64));
    match value {
        Val::Null => Ok(Val::Int(0)),
        Val::Str(_) => Ok(Val::from(value.as_str().unwrap_or_default().chars().count())),
        Val::Arr(array) => Ok(Val::from(array.items.len())),
        Val::Obj(object) => Ok(Val::from(object.map.len())),
        Val::Int(number) => Ok(Val::Int(number.saturating_abs())),
        Val::Float(number) => Ok(Val::Float(number.abs())),
        Val::Big(_) | Val::Bool(_) => Err(Error::str(format_args!("{value} has no length"))),
    }
}

fn has(value: &Val, key: &Val) -> ValR<Val> {
    match (value, key) {
        (Val::Obj(object), Val::Str(key)) => Ok(Val::Bool(object.map.contains_key(key.as_str()))),
        (Val::Arr(array), Val::Int(index)) => Ok(Val::Bool(usize::try_from(*index).is_ok_and(|index| index < array.items.len()))),
        _ => Err(Error::str(format_args!("cannot look for {key} in {value}"))),
    }
}

/// As jq does it; the depth of values bounds the recursion, the price of each step the work.
fn contains(value: &Val, part: &Val) -> Result<bool, Error> {
    fuel::burn(1);
    match (value, part) {
        (Val::Str(_), Val::Str(_)) => Ok(text_of(value)?.contains(text_of(part)?)),
        (Val::Arr(all), Val::Arr(parts)) => {
            for part in &parts.items {
                let mut found = false;
                for item in &all.items {
                    found = found || (item.type_name() == part.type_name() && contains(item, part)?);
                }
                if !found {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (Val::Obj(all), Val::Obj(parts)) => {
            for (key, part) in parts.map.iter() {
                match all.map.get(key.as_str()) {
                    Some(item) if item.type_name() == part.type_name() && contains(item, part)? => {}
                    _ => return Ok(false),
                }
            }
            Ok(true)
        }
        _ => Ok(value == part),
    }
}

fn indices(value: &Val, wanted: &Val) -> ValR<Val> {
    match (value, wanted) {
        (Val::Null, _) => Ok(Val::Null),
        (Val::Str(_), Val::Str(part)) if part.len() == 0 => Ok(Val::array(Vec::new())),
        (Val::Str(_), Val::Str(_)) => {
            let (text, part) = (text_of(value)?, text_of(wanted)?);
            let mut letters = 0;
            let mut last = 0;
            let found = text.match_indices(part).map(|(at, _)| {
                letters += text.get(last..at).map_or(0, |between| between.chars().count());
                last = at;
                Val::from(letters)
            });
            Ok(found.collect())
        }
        (Val::Arr(array), Val::Arr(part)) if !part.items.is_empty() => {
            let places = array.items.windows(part.items.len()).enumerate().filter(|(_, window)| *window == part.items.as_slice());
            Ok(places.map(|(index, _)| Val::from(index)).collect())
        }
        (Val::Arr(array), _) => {
            Ok(array.items.iter().enumerate().filter(|(_, item)| *item == wanted).map(|(index, _)| Val::from(index)).collect())
        }
        _ => Err(Error::str(format_args!("cannot look for {wanted} in {value}"))),
    }
}

fn getpath(value: &Val, path: &Val) -> ValR<Val> {
    let Val::Arr(path) = path else { return Err(Error::str("a path is an array")) };
    let mut at = value.clone();
    for step in &path.items {
        at = jaq_core::ValT::index(at, step)?;
    }
    Ok(at)
}

fn join(value: &Val, between: &Val) -> ValR<Val> {
    let (Val::Arr(array), between) = (value, text_of(between)?) else {
        return Err(Error::str(format_args!("cannot join {value}")));
    };
    let size = value.weight().saturating_add(between.len() as u64 * array.items.len() as u64);
    fuel::burn_bytes(size);
    fuel::check_size(size, 0);
    let mut out = String::new();
    for (index, item) in array.items.iter().enumerate() {
        if index > 0 {
            out.push_str(between);
        }
        match item {
            Val::Null => {}
            Val::Str(_) => out.push_str(item.as_str().unwrap_or_default()),
            Val::Arr(_) | Val::Obj(_) => return Err(Error::str(format_args!("cannot join {item}"))),
            other => out.push_str(&json::to_text(other)),
        }
    }
    Ok(Val::text(out))
}

/// `add`: texts in one go, everything else by `+`.
fn sum(value: &Val) -> ValR<Val> {
    let items: Vec<Val> = match value {
        Val::Arr(array) => array.items.to_vec(),
        Val::Obj(object) => object.map.values().cloned().collect(),
        other => return Err(Error::str(format_args!("cannot add up {other}"))),
    };
    if !items.is_empty() && items.iter().all(|item| matches!(item, Val::Str(_))) {
        return join(&Val::array(items), &Val::text(""));
    }
    items.into_iter().try_fold(Val::Null, |total, item| total + item)
}

fn fromjson(value: &Val) -> ValR<Val> {
    let text = text_of(value)?;
    // Inside of a run the text is as untrusted as the payload it came from.
    json::read(text.as_bytes(), usize::from(fuel::DEPTH_MAX) / 2).map_err(|_| Error::str("the text is not JSON"))
}

fn tonumber(value: Val) -> ValR<Val> {
    match &value {
        Val::Int(_) | Val::Float(_) | Val::Big(_) => Ok(value),
        Val::Str(_) => json::number(text_of(&value)?.trim().as_bytes()).ok_or_else(|| Error::str("the text is not a number")),
        other => Err(Error::str(format_args!("{other} is not a number"))),
    }
}
