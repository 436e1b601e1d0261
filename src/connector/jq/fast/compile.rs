//! jaq's parsed program → tree. Definitions are written out where they are called; what is not known gives up.

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Def, Pattern as Shape, Term};
use jaq_core::path::{Opt, Part as PathPart, Path};

use crate::connector::jq::fast::{Const, DEEP_MAX, Kind, NODES_MAX, Node, Part, Pattern, Program, Step, natives};
use crate::connector::jq::share::Text;

/// What a name means at a place of the program.
#[derive(Clone, Copy)]
struct Scope<'c, 's> {
    up: Option<&'c Scope<'c, 's>>,
    entry: Entry<'c, 's>,
}

#[derive(Clone, Copy)]
enum Entry<'c, 's> {
    /// A binding; its frame is the one with this number, counted from the bottom.
    Var(&'s str, usize),
    Def(&'c Def<&'s str>),
    /// An argument that is a filter, with the scope of its call.
    Filter(&'s str, &'c Term<&'s str>, Option<&'c Scope<'c, 's>>),
}

type At<'c, 's> = Option<&'c Scope<'c, 's>>;

struct Maker<'a> {
    vars: &'a [&'a str],
    used: Vec<bool>,
    consts: Vec<Const>,
    left: usize,
}

pub fn program(prelude: &[Def<&'static str>], term: &Term<&str>, vars: &[&str]) -> Option<Program> {
    let mut maker = Maker { vars, used: vec![false; vars.len()], consts: Vec::new(), left: NODES_MAX };
    let root = maker.under(prelude, None, &mut |maker, scope| maker.term(term, scope, 0))?;
    (root.deep <= DEEP_MAX).then_some(Program { root, consts: maker.consts, used: maker.used })
}

fn node(kind: Kind, one: bool, deep: u32) -> Node {
    let most = one || at_most_one(&kind);
    Node { kind, one, most, deep: deep.saturating_add(1) }
}

/// Whether a filter gives no second output.
fn at_most_one(kind: &Kind) -> bool {
    match kind {
        Kind::Empty | Kind::First(_) | Kind::Last(_) => true,
        Kind::Path(base, steps) => base.most && !steps.iter().any(|step| matches!(step.part, Part::Each)),
        Kind::Pipe(left, right) | Kind::Alt(left, right) => left.most && right.most,
        Kind::Bind(source, _, body) => source.most && body.most,
        Kind::If(when, then, otherwise) => when.most && then.most && otherwise.most,
        Kind::Try(inner, caught) => inner.most && caught.as_ref().is_none_or(|caught| caught.most),
        Kind::Call(_, arguments) => arguments.iter().all(|argument| argument.most),
        _ => false,
    }
}

/// A node of several whose outputs run inside each other unless each gives one.
fn several<'a>(all: impl Iterator<Item = &'a Node>) -> (bool, u32) {
    all.fold((true, 0), |(one, deep), next| (one && next.one, if next.one { deep.max(next.deep) } else { deep.saturating_add(next.deep) }))
}

type Inside<'i, 'a, 's> = &'i mut dyn FnMut(&mut Maker<'a>, At<'_, 's>) -> Option<Node>;

impl<'a> Maker<'a> {
    /// Makes `inside` under definitions, each of which sees those before it.
    fn under<'s>(&mut self, defs: &[Def<&'s str>], scope: At<'_, 's>, inside: Inside<'_, 'a, 's>) -> Option<Node> {
        match defs.split_first() {
            None => inside(self, scope),
            Some((def, rest)) => self.under(rest, Some(&Scope { up: scope, entry: Entry::Def(def) }), inside),
        }
    }

    fn constant(&mut self, value: Const) -> Node {
        // Each once: they are made anew for every run.
        let place = self.consts.iter().position(|known| *known == value).unwrap_or_else(|| {
            self.consts.push(value);
            self.consts.len() - 1
        });
        node(Kind::Const(place), true, 0)
    }

    fn boxed<'s>(&mut self, term: &Term<&'s str>, scope: At<'_, 's>, depth: usize) -> Option<Box<Node>> {
        self.term(term, scope, depth).map(Box::new)
    }

    fn term<'s>(&mut self, term: &Term<&'s str>, scope: At<'_, 's>, depth: usize) -> Option<Node> {
        self.left = self.left.checked_sub(1)?;
        Some(match term {
            Term::Id => node(Kind::Id, true, 0),
            Term::Recurse => node(Kind::Recurse(None), false, 0),
            Term::Num(digits) => match digits.parse() {
                Ok(number) => self.constant(Const::Int(number)),
                Err(_) => self.constant(Const::Number((*digits).to_owned())),
            },
            Term::Str(format, parts) => self.text(*format, parts, scope, depth)?,
            Term::Arr(None) => node(Kind::Array(Box::new(node(Kind::Empty, false, 0))), true, 0),
            Term::Arr(Some(inner)) => {
                let inner = self.boxed(inner, scope, depth)?;
                let deep = inner.deep;
                node(Kind::Array(inner), true, deep)
            }
            Term::Obj(members) => self.object(members, scope, depth)?,
            Term::Neg(inner) => {
                let inner = self.boxed(inner, scope, depth)?;
                let (one, deep) = (inner.one, inner.deep);
                node(Kind::Neg(inner), one, deep)
            }
            Term::BinOp(left, op, right) => self.operation(left, op, right, scope, depth)?,
            Term::Fold(name, over, shape, parts) if *name == "reduce" => self.reduce(over, shape, parts, scope, depth)?,
            Term::TryCatch(inner, caught) => {
                let inner = self.boxed(inner, scope, depth)?;
                let caught = match caught {
                    Some(caught) => Some(self.boxed(caught, scope, depth)?),
                    None => None,
                };
                let deep = inner.deep.saturating_add(caught.as_ref().map_or(0, |caught| caught.deep));
                node(Kind::Try(inner, caught), false, deep)
            }
            Term::IfThenElse(branches, otherwise) => self.condition(branches, otherwise.as_deref(), scope, depth)?,
            Term::Def(defs, body) => self.under(defs, scope, &mut |maker, scope| maker.term(body, scope, depth))?,
            Term::Call(name, arguments) => self.call(name, arguments, scope, depth)?,
            Term::Var(name) => self.variable(name, scope, depth)?,
            Term::Path(inner, path) => self.path(inner, path, scope, depth)?,
            Term::Fold(..) | Term::Label(..) | Term::Break(_) => return None,
        })
    }

    fn variable(&mut self, name: &str, scope: At<'_, '_>, depth: usize) -> Option<Node> {
        let mut at = scope;
        while let Some(here) = at {
            if let Entry::Var(known, level) = here.entry
                && known == name
            {
                return Some(node(Kind::Var(depth - 1 - level), true, 0));
            }
            at = here.up;
        }
        let place = self.vars.iter().position(|known| *known == name)?;
        *self.used.get_mut(place)? = true;
        Some(node(Kind::Global(place), true, 0))
    }

    fn text<'s>(
        &mut self,
        format: Option<&'s str>,
        parts: &[StrPart<&'s str, Term<&'s str>>],
        scope: At<'_, 's>,
        depth: usize,
    ) -> Option<Node> {
        let mut all: Vec<Node> = Vec::new();
        let mut plain = String::new();
        for part in parts {
            match part {
                StrPart::Str(text) => plain.push_str(text),
                StrPart::Char(letter) => plain.push(*letter),
                StrPart::Term(inner) => {
                    if !plain.is_empty() {
                        let text = self.constant(Const::Text(Text::known(&std::mem::take(&mut plain))));
                        all.push(text);
                    }
                    let inner = self.term(inner, scope, depth)?;
                    let shown = match format {
                        Some(format) => self.call(format, &[], scope, depth)?,
                        None => node(Kind::ToText, true, 0),
                    };
                    all.push(pipe(inner, shown));
                }
            }
        }
        if all.is_empty() {
            return Some(self.constant(Const::Text(Text::known(&plain))));
        }
        if !plain.is_empty() {
            let text = self.constant(Const::Text(Text::known(&plain)));
            all.push(text);
        }
        let (one, deep) = several(all.iter());
        Some(node(Kind::Text(all), one, deep))
    }

    fn object<'s>(&mut self, members: &[(Term<&'s str>, Option<Term<&'s str>>)], scope: At<'_, 's>, depth: usize) -> Option<Node> {
        let mut all = Vec::with_capacity(members.len());
        for (key, value) in members {
            all.push(match (key, value) {
                (Term::Var(name), None) => {
                    let key = self.constant(Const::Text(Text::known(name.strip_prefix('$')?)));
                    (key, self.variable(name, scope, depth)?)
                }
                (key, None) => {
                    let (key, again) = (self.term(key, scope, depth)?, self.term(key, scope, depth)?);
                    let step = Step { part: self.indexed(again), optional: false };
                    (key, path_node(node(Kind::Id, true, 0), vec![step]))
                }
                (key, Some(value)) => (self.term(key, scope, depth)?, self.term(value, scope, depth)?),
            });
        }
        let (one, deep) = several(all.iter().flat_map(|(key, value)| [key, value]));
        Some(node(Kind::Object(all), one, deep))
    }

    fn operation<'s>(
        &mut self,
        left: &Term<&'s str>,
        op: &BinaryOp<&'s str>,
        right: &Term<&'s str>,
        scope: At<'_, 's>,
        depth: usize,
    ) -> Option<Node> {
        if let BinaryOp::Pipe(Some(shape)) = op {
            let source = self.term(left, scope, depth)?;
            return self.bind(source, shape, scope, depth, &mut |maker, scope, depth| maker.term(right, scope, depth));
        }
        let (left, right) = (self.term(left, scope, depth)?, self.term(right, scope, depth)?);
        if matches!(op, BinaryOp::Pipe(None)) {
            return Some(pipe(left, right));
        }
        let (one, deep) = several([&left, &right].into_iter());
        let (left, right) = (Box::new(left), Box::new(right));
        Some(match op {
            BinaryOp::Comma => {
                let deep = left.deep.max(right.deep);
                node(Kind::Comma(left, right), false, deep)
            }
            BinaryOp::Alt => {
                let one = left.most && right.one;
                let deep = left.deep.max(right.deep);
                node(Kind::Alt(left, right), one, deep)
            }
            BinaryOp::Or => node(Kind::Logic(left, true, right), one, deep),
            BinaryOp::And => node(Kind::Logic(left, false, right), one, deep),
            BinaryOp::Math(op) => node(Kind::Math(left, *op, right), one, deep),
            BinaryOp::Cmp(op) => node(Kind::Cmp(left, *op, right), one, deep),
            _ => return None,
        })
    }

    fn bind<'s>(
        &mut self,
        source: Node,
        shape: &Shape<&'s str>,
        scope: At<'_, 's>,
        depth: usize,
        body: &mut dyn FnMut(&mut Self, At<'_, 's>, usize) -> Option<Node>,
    ) -> Option<Node> {
        let mut names = Vec::new();
        let pattern = self.pattern(shape, scope, depth, &mut names)?;
        let body = self.named(&names, scope, depth, body)?;
        let simple = matches!(pattern, Pattern::Var);
        let (one, deep) = several([&source, &body].into_iter());
        Some(node(Kind::Bind(Box::new(source), pattern, Box::new(body)), one && simple, deep.saturating_add(names.len() as u32)))
    }

    /// Makes `body` under the bindings `names`, the first the lowest.
    fn named<'s>(
        &mut self,
        names: &[&'s str],
        scope: At<'_, 's>,
        depth: usize,
        body: &mut dyn FnMut(&mut Self, At<'_, 's>, usize) -> Option<Node>,
    ) -> Option<Node> {
        match names.split_first() {
            None => body(self, scope, depth),
            Some((name, rest)) => self.named(rest, Some(&Scope { up: scope, entry: Entry::Var(name, depth) }), depth + 1, body),
        }
    }

    /// The parts of a pattern, and the names they bind. Keys are read under the bindings outside of the pattern, as many frames lower as
    /// names were bound by then.
    fn pattern<'s>(&mut self, shape: &Shape<&'s str>, scope: At<'_, 's>, depth: usize, names: &mut Vec<&'s str>) -> Option<Pattern> {
        Some(match shape {
            Shape::Var(name) => {
                names.push(name);
                Pattern::Var
            }
            Shape::Arr(parts) => {
                let mut all = Vec::new();
                for (index, part) in parts.iter().enumerate() {
                    let index = self.constant(Const::Int(i64::try_from(index).ok()?));
                    all.push((index, self.pattern(part, scope, depth, names)?));
                }
                Pattern::Parts(all)
            }
            Shape::Obj(parts) => {
                let mut all = Vec::new();
                for (key, part) in parts {
                    // Only plain keys: others may read what is bound beside them.
                    let key = match key {
                        Term::Str(None, text) if text.iter().all(|part| matches!(part, StrPart::Str(_))) => self.term(key, scope, depth)?,
                        _ => return None,
                    };
                    all.push((key, self.pattern(part, scope, depth, names)?));
                }
                Pattern::Parts(all)
            }
        })
    }

    fn reduce<'s>(
        &mut self,
        over: &Term<&'s str>,
        shape: &Shape<&'s str>,
        parts: &[Term<&'s str>],
        scope: At<'_, 's>,
        depth: usize,
    ) -> Option<Node> {
        let [init, update] = parts else { return None };
        let (over, init) = (self.boxed(over, scope, depth)?, self.boxed(init, scope, depth)?);
        let mut names = Vec::new();
        let pattern = self.pattern(shape, scope, depth, &mut names)?;
        let update = self.named(&names, scope, depth, &mut |maker, scope, depth| maker.term(update, scope, depth))?;
        // With none or several outputs it would be another loop.
        if !update.one {
            return None;
        }
        let deep = over.deep.saturating_add(init.deep).saturating_add(update.deep).saturating_add(names.len() as u32);
        let one = init.one;
        Some(node(Kind::Reduce(over, pattern, init, Box::new(update)), one, deep))
    }

    fn condition<'s>(
        &mut self,
        branches: &[(Term<&'s str>, Term<&'s str>)],
        otherwise: Option<&Term<&'s str>>,
        scope: At<'_, 's>,
        depth: usize,
    ) -> Option<Node> {
        let mut result = match otherwise {
            Some(otherwise) => self.term(otherwise, scope, depth)?,
            None => node(Kind::Id, true, 0),
        };
        for (when, then) in branches.iter().rev() {
            let (when, then) = (self.term(when, scope, depth)?, self.term(then, scope, depth)?);
            let one = when.one && then.one && result.one;
            let inside = then.deep.max(result.deep);
            let deep = if when.one { inside.max(when.deep) } else { inside.saturating_add(when.deep) };
            result = node(Kind::If(Box::new(when), Box::new(then), Box::new(result)), one, deep);
        }
        Some(result)
    }

    fn indexed(&self, index: Node) -> Part {
        if let Kind::Const(place) = index.kind
            && let Some(Const::Text(name)) = self.consts.get(place)
        {
            return Part::Member(name);
        }
        Part::Index(index)
    }

    fn path<'s>(&mut self, inner: &Term<&'s str>, path: &Path<Term<&'s str>>, scope: At<'_, 's>, depth: usize) -> Option<Node> {
        let base = self.term(inner, scope, depth)?;
        let mut steps = Vec::new();
        for (part, opt) in &path.0 {
            let bound = |maker: &mut Self, end: &Option<Term<&'s str>>| match end {
                Some(end) => maker.term(end, scope, depth).map(Some),
                None => Some(None),
            };
            let part = match part {
                PathPart::Index(index) => {
                    let index = self.term(index, scope, depth)?;
                    self.indexed(index)
                }
                PathPart::Range(None, None) => Part::Each,
                PathPart::Range(from, upto) => Part::Range(bound(self, from)?, bound(self, upto)?),
            };
            // Several indices make several paths: jaq's order of them is not worth a second way.
            let single = match &part {
                Part::Index(index) => index.one,
                Part::Range(from, upto) => [from, upto].into_iter().flatten().all(|end| end.one),
                Part::Member(_) | Part::Each => true,
            };
            if !single {
                return None;
            }
            steps.push(Step { part, optional: matches!(opt, Opt::Optional) });
        }
        Some(path_node(base, steps))
    }

    fn call<'s>(&mut self, name: &'s str, arguments: &[Term<&'s str>], scope: At<'_, 's>, depth: usize) -> Option<Node> {
        self.left = self.left.checked_sub(1)?;
        match (name, arguments.len()) {
            // In the prelude these are written as filters; here they are what they mean.
            ("empty", 0) => return Some(node(Kind::Empty, false, 0)),
            ("true", 0) => return Some(self.constant(Const::Bool(true))),
            ("false", 0) => return Some(self.constant(Const::Bool(false))),
            ("null", 0) => return Some(self.constant(Const::Null)),
            ("tostring", 0) => return Some(node(Kind::ToText, true, 0)),
            _ => {}
        }
        let mut at = scope;
        while let Some(here) = at {
            match here.entry {
                Entry::Filter(known, term, outside) if known == name && arguments.is_empty() => return self.term(term, outside, depth),
                Entry::Def(def) if def.name == name && def.args.len() == arguments.len() => {
                    return self.defined(def, Some(here), &def.args, arguments, scope, depth);
                }
                _ => at = here.up,
            }
        }
        self.native(name, arguments, scope, depth)
    }

    /// The body of a definition where it is called. `inner` is the scope of the body as far as its parameters are known.
    fn defined<'s>(
        &mut self,
        def: &Def<&'s str>,
        inner: At<'_, 's>,
        names: &[&'s str],
        arguments: &[Term<&'s str>],
        scope: At<'_, 's>,
        depth: usize,
    ) -> Option<Node> {
        let (Some((name, names)), Some((argument, arguments))) = (names.split_first(), arguments.split_first()) else {
            return self.term(&def.body, inner, depth);
        };
        if name.starts_with('$') {
            let source = self.term(argument, scope, depth)?;
            let shape = Shape::Var(*name);
            return self
                .bind(source, &shape, inner, depth, &mut |maker, inner, depth| maker.defined(def, inner, names, arguments, scope, depth));
        }
        self.defined(def, Some(&Scope { up: inner, entry: Entry::Filter(name, argument, scope) }), names, arguments, scope, depth)
    }

    fn native<'s>(&mut self, name: &str, arguments: &[Term<&'s str>], scope: At<'_, 's>, depth: usize) -> Option<Node> {
        let mut all = arguments.iter().map(|argument| self.term(argument, scope, depth)).collect::<Option<Vec<_>>>()?;
        let (_, deep) = several(all.iter());
        let kind = match (name, all.len()) {
            ("recurse", 1) => Kind::Recurse(Some(Box::new(all.pop()?))),
            ("first", 1) => Kind::First(Box::new(all.pop()?)),
            ("last", 1) => Kind::Last(Box::new(all.pop()?)),
            ("limit", 2) => {
                let (over, count) = (all.pop()?, all.pop()?);
                Kind::Limit(Box::new(count), Box::new(over))
            }
            ("range", 3) => Kind::Range(Box::new(<[Node; 3]>::try_from(all).ok()?)),
            _ => {
                let call = natives::find(name, all.len())?;
                let one = all.iter().all(|argument| argument.one) && matches!(call, natives::Call::Plain(_));
                return Some(node(Kind::Call(call, all), one, deep));
            }
        };
        Some(node(kind, false, deep))
    }
}

fn pipe(left: Node, right: Node) -> Node {
    if matches!(right.kind, Kind::Id) {
        return left;
    }
    if matches!(left.kind, Kind::Id) {
        return right;
    }
    let one = left.one && right.one;
    let deep = if left.one { left.deep.max(right.deep) } else { left.deep.saturating_add(right.deep) };
    node(Kind::Pipe(Box::new(left), Box::new(right)), one, deep)
}

fn path_node(base: Node, steps: Vec<Step>) -> Node {
    let single = steps.iter().all(|step| !step.optional && !matches!(step.part, Part::Each));
    let indices = steps.iter().flat_map(|step| match &step.part {
        Part::Index(index) => vec![index],
        Part::Range(from, upto) => [from, upto].into_iter().flatten().collect(),
        _ => Vec::new(),
    });
    let deep = indices.map(|index| index.deep).max().unwrap_or(0).saturating_add(base.deep).saturating_add(steps.len() as u32);
    let one = base.one && single;
    node(Kind::Path(Box::new(base), steps), one, deep)
}
