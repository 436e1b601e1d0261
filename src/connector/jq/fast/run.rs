//! Walks the tree. What gives one value is asked for it (`get`, by reference where the value is there already); what may give any
//! number hands each on (`give`).

use std::ops::Deref;

use jaq_core::ValT as _;
use jaq_core::ops::Math;

use crate::connector::jq::fast::{Kind, Node, Part, Pattern, Program, Step};
use crate::connector::jq::fuel;
use crate::connector::jq::ops::Error;
use crate::connector::jq::share::{Members, Text};
use crate::connector::jq::val::Val;

/// Why a walk ends before its end.
pub enum Stop {
    /// An error of the program.
    Raised(Box<Error>),
    /// Whoever takes the outputs has enough, and knows why.
    Enough,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Raised(Box::new(error))
    }
}

type Flow = Result<(), Stop>;
type Give<'g> = &'g mut dyn FnMut(Val) -> Flow;

/// Bindings of the place, the innermost first.
#[derive(Clone, Copy)]
struct Env<'e>(Option<&'e Frame<'e>>);

struct Frame<'e> {
    value: &'e Val,
    up: Env<'e>,
}

/// A value that is there already, or was made.
enum Got<'e> {
    There(&'e Val),
    Made(Val),
}

impl Deref for Got<'_> {
    type Target = Val;
    #[inline]
    fn deref(&self) -> &Val {
        match self {
            Got::There(value) => value,
            Got::Made(value) => value,
        }
    }
}

impl Got<'_> {
    #[inline]
    fn own(self) -> Val {
        match self {
            Got::There(value) => value.clone(),
            Got::Made(value) => value,
        }
    }
}

struct Walk<'p> {
    consts: &'p [Val],
    globals: &'p [Val],
}

/// Runs a program and hands its outputs to `give`.
///
/// # Errors
/// What the program or `give` says.
pub fn run(program: &Program, input: &Val, globals: &[Val], give: Give<'_>) -> Flow {
    let consts: Vec<Val> = program.consts.iter().map(super::Const::value).collect();
    Walk { consts: &consts, globals }.give(&program.root, Env(None), input, give)
}

/// Hands outputs to `give` and tells what it said from what the walk said itself.
fn handing<R>(give: Give<'_>, walk: impl FnOnce(Give<'_>) -> Result<R, Stop>) -> Result<Result<R, Stop>, Stop> {
    let mut said = None;
    let done = walk(&mut |value| {
        give(value).map_err(|stop| {
            said = Some(stop);
            Stop::Enough
        })
    });
    match said {
        Some(stop) => Err(stop),
        None => Ok(done),
    }
}

impl Walk<'_> {
    /// The one value of a node that gives one.
    fn get<'e>(&'e self, node: &'e Node, env: Env<'e>, input: &'e Val) -> Result<Got<'e>, Error> {
        fuel::burn(1);
        Ok(match &node.kind {
            Kind::Id => Got::There(input),
            Kind::Const(place) => Got::There(self.consts.get(*place).unwrap_or(&Val::Null)),
            Kind::Global(place) => Got::There(self.globals.get(*place).unwrap_or(&Val::Null)),
            Kind::Var(up) => Got::There(bound(env, *up)),
            Kind::Path(base, steps) => {
                let base = self.get(base, env, input)?;
                self.follow(base, steps, env, input)?
            }
            Kind::Pipe(left, right) => {
                let left = self.get(left, env, input)?;
                match left {
                    Got::There(value) => self.get(right, env, value)?,
                    Got::Made(value) => Got::Made(self.get(right, env, &value)?.own()),
                }
            }
            Kind::Bind(source, _, body) => {
                let value = self.get(source, env, input)?;
                Got::Made(self.get(body, Env(Some(&Frame { value: &value, up: env })), input)?.own())
            }
            Kind::Alt(left, right) if left.one => {
                let left = self.get(left, env, input)?;
                if left.as_bool() { left } else { self.get(right, env, input)? }
            }
            Kind::Alt(left, right) => {
                let mut found = None;
                let done = self.give(left, env, input, &mut |value| {
                    found = value.as_bool().then_some(value);
                    Ok(())
                });
                raised(done)?;
                match found {
                    Some(value) => Got::Made(value),
                    None => self.get(right, env, input)?,
                }
            }
            Kind::If(when, then, otherwise) => {
                let when = self.get(when, env, input)?.as_bool();
                self.get(if when { then } else { otherwise }, env, input)?
            }
            _ => Got::Made(self.make(node, env, input)?),
        })
    }

    /// The one value of a node that makes a new one.
    fn make(&self, node: &Node, env: Env<'_>, input: &Val) -> Result<Val, Error> {
        Ok(match &node.kind {
            Kind::Logic(left, stop, right) => {
                let left = self.get(left, env, input)?.as_bool();
                Val::Bool(if left == *stop { *stop } else { self.get(right, env, input)?.as_bool() })
            }
            Kind::Math(left, op, right) => {
                let left = self.get(left, env, input)?;
                let right = self.get(right, env, input)?;
                calculate(left, *op, right)?
            }
            Kind::Cmp(left, op, right) => {
                let left = self.get(left, env, input)?;
                let right = self.get(right, env, input)?;
                Val::Bool(op.run::<Val>(&left, &right))
            }
            Kind::Neg(inner) => (-self.get(inner, env, input)?.own())?,
            Kind::ToText => input.clone().into_string(),
            Kind::Text(parts) => {
                let mut text = String::new();
                for part in parts {
                    let value = self.get(part, env, input)?;
                    put(&mut text, &value)?;
                }
                Val::text(text)
            }
            Kind::Object(members) => {
                let mut all = Vec::with_capacity(members.len());
                for (key, value) in members {
                    let key = name(&*self.get(key, env, input)?)?;
                    all.push((key, self.get(value, env, input)?.own()));
                }
                Val::object(Members::unsorted(all))
            }
            Kind::Array(inner) => {
                let mut all = Vec::new();
                let filled = self.give(inner, env, input, &mut |value| {
                    all.push(value);
                    Ok(())
                });
                raised(filled)?;
                Val::array(all)
            }
            Kind::Call(call, arguments) => match arguments.as_slice() {
                [] => call.call(input, &[])?.unwrap_or_default(),
                [only] => call.call(input, &[self.get(only, env, input)?.own()])?.unwrap_or_default(),
                several => {
                    let several =
                        several.iter().map(|argument| Ok(self.get(argument, env, input)?.own())).collect::<Result<Vec<_>, Error>>()?;
                    call.call(input, &several)?.unwrap_or_default()
                }
            },
            Kind::Reduce(..) => {
                let mut last = Val::Null;
                let done = self.give(node, env, input, &mut |value| {
                    last = value;
                    Ok(())
                });
                raised(done)?;
                last
            }
            // All other kinds are asked by `get`.
            _ => Val::Null,
        })
    }

    /// As `get` on a value that nobody else holds: what is added to it is added in place.
    fn grow(&self, node: &Node, env: Env<'_>, input: Val) -> Result<Val, Error> {
        fuel::burn(1);
        match &node.kind {
            Kind::Id => Ok(input),
            Kind::Math(left, Math::Add, right) if grows(left) => {
                let right = self.get(right, env, &input)?.own();
                self.grow(left, env, input)? + right
            }
            _ => Ok(self.get(node, env, &input)?.own()),
        }
    }

    /// Goes along a path of which each step gives one value.
    fn follow<'e>(&'e self, base: Got<'e>, steps: &'e [Step], env: Env<'e>, input: &'e Val) -> Result<Got<'e>, Error> {
        let mut at = base;
        let mut rest = steps.iter();
        while let Some(step) = rest.next() {
            at = match &step.part {
                Part::Member(key) => match at {
                    Got::There(value) => Got::There(value.look(key)?),
                    Got::Made(value) => Got::Made(value.look(key)?.clone()),
                },
                _ => {
                    // Indices are read before the path is gone, so that the same error comes first.
                    let mut indices = Vec::new();
                    for step in std::iter::once(step).chain(rest.clone()) {
                        indices.push(self.indices(step, env, input)?);
                    }
                    let mut at = at.own();
                    for (step, index) in std::iter::once(step).chain(rest).zip(indices) {
                        at = one_step(at, step, &index)?;
                    }
                    return Ok(Got::Made(at));
                }
            };
        }
        Ok(at)
    }

    fn indices(&self, step: &Step, env: Env<'_>, input: &Val) -> Result<[Option<Val>; 2], Error> {
        let one = |node: &Option<Node>| node.as_ref().map(|node| self.get(node, env, input).map(Got::own)).transpose();
        Ok(match &step.part {
            Part::Member(_) | Part::Each => [None, None],
            Part::Index(index) => [Some(self.get(index, env, input)?.own()), None],
            Part::Range(from, upto) => [one(from)?, one(upto)?],
        })
    }

    /// Goes along a path that may split or end, from step `at` on.
    fn split(&self, value: &Val, steps: &[Step], indices: &[[Option<Val>; 2]], give: Give<'_>) -> Flow {
        let Some((step, rest)) = steps.split_first() else { return give(value.clone()) };
        fuel::burn(1);
        let (index, after) = indices.split_first().map_or((&[None, None], &[][..]), |(index, after)| (index, after));
        match &step.part {
            Part::Each => match value {
                Val::Arr(array) => array.items.iter().try_for_each(|item| self.split(item, rest, after, give)),
                Val::Obj(object) => object.map.values().try_for_each(|item| self.split(item, rest, after, give)),
                _ if step.optional => Ok(()),
                other => Err(Error::str(format_args!("cannot iterate over {other}")).into()),
            },
            Part::Member(key) => match value.look(key) {
                Ok(member) => self.split(member, rest, after, give),
                Err(_) if step.optional => Ok(()),
                Err(error) => Err(error.into()),
            },
            _ => match one_step(value.clone(), step, index) {
                Ok(part) => self.split(&part, rest, after, give),
                Err(_) if step.optional => Ok(()),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// All outputs of a node.
    fn give(&self, node: &Node, env: Env<'_>, input: &Val, give: Give<'_>) -> Flow {
        if node.one && !matches!(node.kind, Kind::Reduce(..)) {
            let value = self.get(node, env, input)?.own();
            return give(value);
        }
        fuel::burn(1);
        match &node.kind {
            Kind::Path(base, steps) => {
                let mut indices = Vec::new();
                let mut prepare = || -> Result<(), Error> {
                    for step in steps {
                        indices.push(self.indices(step, env, input)?);
                    }
                    Ok(())
                };
                if base.one {
                    let base = self.get(base, env, input)?;
                    prepare()?;
                    return self.split(&base, steps, &indices, give);
                }
                self.give(base, env, input, &mut |value| {
                    if indices.is_empty() {
                        for step in steps {
                            indices.push(self.indices(step, env, input)?);
                        }
                    }
                    self.split(&value, steps, &indices, give)
                })
            }
            Kind::Pipe(left, right) => self.each(left, env, input, &mut |value| self.give(right, env, value, give)),
            Kind::Comma(left, right) => {
                self.give(left, env, input, give)?;
                self.give(right, env, input, give)
            }
            Kind::Bind(source, pattern, body) => {
                self.each(source, env, input, &mut |value| self.bind(pattern, value, env, &mut |env| self.give(body, env, input, give)))
            }
            Kind::Alt(left, right) => {
                let mut any = false;
                self.give(left, env, input, &mut |value| {
                    if !value.as_bool() {
                        return Ok(());
                    }
                    any = true;
                    give(value)
                })?;
                if any { Ok(()) } else { self.give(right, env, input, give) }
            }
            Kind::If(when, then, otherwise) => {
                self.each(when, env, input, &mut |value| self.give(if value.as_bool() { then } else { otherwise }, env, input, give))
            }
            Kind::Try(inner, caught) => {
                let done = handing(give, |give| self.give(inner, env, input, give))?;
                match (done, caught) {
                    (Err(Stop::Raised(error)), Some(caught)) => self.give(caught, env, &error.into_val(), give),
                    (Err(Stop::Raised(_)), None) => Ok(()),
                    (done, _) => done,
                }
            }
            Kind::Reduce(over, pattern, init, update) => self.each(init, env, input, &mut |first| {
                let mut total = first.clone();
                self.each(over, env, input, &mut |value| {
                    self.bind(pattern, value, env, &mut |env| {
                        total = self.grow(update, env, std::mem::take(&mut total))?;
                        Ok(())
                    })
                })?;
                give(std::mem::take(&mut total))
            }),
            _ => self.give_more(node, env, input, give),
        }
    }

    fn give_more(&self, node: &Node, env: Env<'_>, input: &Val, give: Give<'_>) -> Flow {
        match &node.kind {
            Kind::Empty => Ok(()),
            Kind::Logic(left, stop, right) => self.each(left, env, input, &mut |left| {
                if left.as_bool() == *stop {
                    return give(Val::Bool(*stop));
                }
                self.each(right, env, input, &mut |right| give(Val::Bool(right.as_bool())))
            }),
            Kind::Math(left, op, right) => self.each(left, env, input, &mut |left| {
                self.each(right, env, input, &mut |right| give(calculate(Got::There(left), *op, Got::There(right))?))
            }),
            Kind::Cmp(left, op, right) => self
                .each(left, env, input, &mut |left| self.each(right, env, input, &mut |right| give(Val::Bool(op.run::<Val>(left, right))))),
            Kind::Neg(inner) => self.each(inner, env, input, &mut |value| give((-value.clone())?)),
            Kind::Text(parts) => self.texts(parts, String::new(), env, input, give),
            Kind::Object(members) => self.objects(members, &mut Vec::new(), env, input, give),
            Kind::Recurse(f) => self.recurse(f.as_deref(), env, input, give),
            Kind::First(inner) => {
                let mut found = None;
                let done = self.give(inner, env, input, &mut |value| {
                    found = Some(value);
                    Err(Stop::Enough)
                });
                match found {
                    Some(value) => give(value),
                    None => done,
                }
            }
            Kind::Last(inner) => {
                let mut last = None;
                self.give(inner, env, input, &mut |value| {
                    last = Some(value);
                    Ok(())
                })?;
                last.map_or(Ok(()), give)
            }
            Kind::Limit(count, inner) => self.each(count, env, input, &mut |count| self.limit(count, inner, env, input, give)),
            Kind::Range(bounds) => {
                let [from, upto, by] = bounds.as_ref();
                self.each(from, env, input, &mut |from| {
                    self.each(upto, env, input, &mut |upto| self.each(by, env, input, &mut |by| range(from, upto, by, give)))
                })
            }
            Kind::Call(call, arguments) => {
                self.arguments(arguments, &mut Vec::new(), env, input, &mut |all| match call.call(input, all)? {
                    Some(value) => give(value),
                    None => Ok(()),
                })
            }
            // All other kinds give one value, or are above.
            _ => Ok(()),
        }
    }

    /// All outputs of a node, by reference: what is there already is not cloned.
    fn each(&self, node: &Node, env: Env<'_>, input: &Val, take: &mut dyn FnMut(&Val) -> Flow) -> Flow {
        if node.one && !matches!(node.kind, Kind::Reduce(..)) {
            let value = self.get(node, env, input)?;
            return take(&value);
        }
        self.give(node, env, input, &mut |value| take(&value))
    }

    /// Binds a value to a pattern.
    fn bind(&self, pattern: &Pattern, value: &Val, env: Env<'_>, inside: &mut dyn FnMut(Env<'_>) -> Flow) -> Flow {
        match pattern {
            Pattern::Var => inside(Env(Some(&Frame { value, up: env }))),
            Pattern::Parts(parts) => self.bind_parts(parts, value, env, inside),
        }
    }

    fn bind_parts(&self, parts: &[(Node, Pattern)], value: &Val, env: Env<'_>, inside: &mut dyn FnMut(Env<'_>) -> Flow) -> Flow {
        let Some(((key, pattern), rest)) = parts.split_first() else { return inside(env) };
        let key = self.get(key, env, value)?;
        let part = value.clone().index(&key)?;
        self.bind(pattern, &part, env, &mut |env| self.bind_parts(rest, value, env, inside))
    }

    fn texts(&self, parts: &[Node], lead: String, env: Env<'_>, input: &Val, give: Give<'_>) -> Flow {
        let Some((part, rest)) = parts.split_first() else { return give(Val::text(lead)) };
        self.each(part, env, input, &mut |value| {
            let mut text = lead.clone();
            put(&mut text, value)?;
            self.texts(rest, text, env, input, give)
        })
    }

    fn objects(&self, members: &[(Node, Node)], made: &mut Vec<(Text, Val)>, env: Env<'_>, input: &Val, give: Give<'_>) -> Flow {
        let Some(((key, value), rest)) = members.split_first() else {
            return give(Val::object(Members::unsorted(made.clone())));
        };
        let length = made.len();
        self.each(key, env, input, &mut |key| {
            self.each(value, env, input, &mut |value| {
                fuel::burn(1);
                made.truncate(length);
                made.push((name(key)?, value.clone()));
                self.objects(rest, made, env, input, give)
            })
        })
    }

    fn arguments(&self, open: &[Node], made: &mut Vec<Val>, env: Env<'_>, input: &Val, call: &mut dyn FnMut(&[Val]) -> Flow) -> Flow {
        let Some((argument, rest)) = open.split_first() else { return call(made) };
        let length = made.len();
        self.each(argument, env, input, &mut |value| {
            made.truncate(length);
            made.push(value.clone());
            self.arguments(rest, made, env, input, call)
        })
    }

    /// `., (f | recurse(f))`, or `..`, with its open ends on the heap.
    fn recurse(&self, f: Option<&Node>, env: Env<'_>, input: &Val, give: Give<'_>) -> Flow {
        let mut open: Vec<Result<Val, Stop>> = vec![Ok(input.clone())];
        while let Some(next) = open.pop() {
            fuel::burn(2);
            let value = next?;
            let from = open.len();
            match (f, &value) {
                (Some(f), value) => {
                    let done = self.give(f, env, value, &mut |value| {
                        open.push(Ok(value));
                        Ok(())
                    });
                    // After those that came before it.
                    open.extend(done.err().map(Err));
                }
                (None, Val::Arr(array)) => open.extend(array.items.iter().cloned().map(Ok)),
                (None, Val::Obj(object)) => open.extend(object.map.values().cloned().map(Ok)),
                _ => {}
            }
            open.get_mut(from..).unwrap_or_default().reverse();
            give(value)?;
        }
        Ok(())
    }

    fn limit(&self, count: &Val, inner: &Node, env: Env<'_>, input: &Val, give: Give<'_>) -> Flow {
        if *count <= Val::Int(0) {
            return Ok(());
        }
        let mut left = (count.clone() - Val::Int(1))?;
        let mut enough = false;
        let done = handing(give, |give| {
            self.give(inner, env, input, &mut |value| {
                give(value)?;
                if left <= Val::Int(0) {
                    enough = true;
                    return Err(Stop::Enough);
                }
                left = (left.clone() - Val::Int(1))?;
                Ok(())
            })
        })?;
        if enough { Ok(()) } else { done }
    }
}

fn bound(env: Env<'_>, up: usize) -> &Val {
    let mut at = env.0;
    for _ in 0..up {
        at = at.and_then(|frame| frame.up.0);
    }
    at.map_or(&Val::Null, |frame| frame.value)
}

/// What is made without handing anything on cannot have enough.
fn raised(done: Flow) -> Result<(), Error> {
    match done {
        Ok(()) => Ok(()),
        Err(Stop::Raised(error)) => Err(*error),
        Err(Stop::Enough) => Err(Error::str("a break without its label")),
    }
}

/// Whether a node is `. + a + b …`.
fn grows(node: &Node) -> bool {
    match &node.kind {
        Kind::Id => true,
        Kind::Math(left, Math::Add, _) => grows(left),
        _ => false,
    }
}

fn calculate(left: Got<'_>, op: Math, right: Got<'_>) -> Result<Val, Error> {
    op.run(left.own(), right.own())
}

/// A step by an index or a range.
fn one_step(value: Val, step: &Step, index: &[Option<Val>; 2]) -> Result<Val, Error> {
    match &step.part {
        Part::Member(key) => Ok(value.look(key)?.clone()),
        Part::Index(_) => value.index(index[0].as_ref().unwrap_or(&Val::Null)),
        Part::Range(..) => value.range(index[0].as_ref()..index[1].as_ref()),
        Part::Each => Ok(value),
    }
}

/// The key of a member.
fn name(key: &Val) -> Result<Text, Error> {
    match key {
        Val::Str(text) => Ok(text.clone()),
        other => Err(Error::str(format_args!("an object key must be a string, not {other}"))),
    }
}

/// Adds a part of a text; a format may have made something else of it.
fn put(text: &mut String, value: &Val) -> Result<(), Error> {
    match value {
        Val::Str(part) => {
            fuel::burn_bytes(part.len() as u64);
            fuel::check_size((text.len() + part.len()) as u64, 0);
            text.push_str(part.as_str());
            Ok(())
        }
        other => Err(Error::str(format_args!("cannot add string and {other}"))),
    }
}

/// jq's `range(from; upto; by)`.
fn range(from: &Val, upto: &Val, by: &Val, give: Give<'_>) -> Flow {
    let up = by.cmp(&Val::Int(0));
    let mut at = from.clone();
    loop {
        let inside = match up {
            std::cmp::Ordering::Greater => at < *upto,
            std::cmp::Ordering::Less => at > *upto,
            std::cmp::Ordering::Equal => at != *upto,
        };
        if !inside {
            return Ok(());
        }
        fuel::burn(1);
        // jq adds before it gives: an error comes after the last value.
        let next = at.clone() + by.clone();
        give(at)?;
        at = next?;
    }
}
