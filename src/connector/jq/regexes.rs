//! Regular expressions: linear time, compiled once a thread, their size and their making paid for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use jaq_core::ValR;
use regex::{Regex, RegexBuilder};

use crate::connector::jq::fuel;
use crate::connector::jq::natives::{arg, text_of};
use crate::connector::jq::ops::Error;
use crate::connector::jq::share::Text;
use crate::connector::jq::val::Val;

/// Compiled program of one expression, bytes. `regex` allows 10 MB; nobody needs that in a map.
const SIZE_MAX: usize = 512 * 1024;
/// Expressions kept a thread; over that the store starts again (a map may make expressions out of payloads).
const KEPT_MAX: usize = 64;
/// Price of making one.
const COMPILE_FUEL: u64 = 5_000;

thread_local! {
    static KEPT: RefCell<BTreeMap<(String, String), Rc<Regex>>> = const { RefCell::new(BTreeMap::new()) };
}

fn compiled(pattern: &str, flags: &str) -> Result<Rc<Regex>, Error> {
    let key = (pattern.to_owned(), flags.to_owned());
    if let Some(known) = KEPT.with(|kept| kept.borrow().get(&key).cloned()) {
        return Ok(known);
    }
    fuel::burn(COMPILE_FUEL);
    let has = |flag: char| flags.contains(flag);
    let made = RegexBuilder::new(pattern)
        .case_insensitive(has('i'))
        .ignore_whitespace(has('x'))
        .dot_matches_new_line(has('s'))
        .size_limit(SIZE_MAX)
        .dfa_size_limit(SIZE_MAX)
        .nest_limit(50)
        .build()
        .map_err(|_| Error::str("not a regular expression, or too large a one"))?;
    // Shared, not cloned: every clone of a `Regex` makes its scratch space anew when it is first used.
    let made = Rc::new(made);
    KEPT.with(|kept| {
        let mut kept = kept.borrow_mut();
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(key, Rc::clone(&made));
    });
    Ok(made)
}

/// What jq's `match`, `split` and `sub` are made of: the matches (each a list of groups, the whole first), the texts between
/// them (`between`), or both in turn.
pub fn run(value: &Val, arguments: &[Val], between: bool, matches: bool) -> ValR<Val> {
    let (pattern, flags) = (arg(arguments, 0), arg(arguments, 1));
    let flags = if matches!(flags, Val::Null) { "" } else { text_of(flags)? };
    let regex = compiled(text_of(pattern)?, flags)?;
    let text = text_of(value)?;
    let once = !flags.contains('g');
    let mut out = Vec::new();
    let (mut last, mut letters, mut counted) = (0, 0, 0);
    for found in regex.captures_iter(text) {
        fuel::burn(4);
        let Some(whole) = found.get(0) else { continue };
        if flags.contains('n') && whole.is_empty() {
            continue;
        }
        if between {
            out.push(Val::text(text.get(last..whole.start()).unwrap_or_default()));
        }
        last = whole.end();
        if matches {
            letters += text.get(counted..whole.start()).map_or(0, |lead| lead.chars().count());
            counted = whole.start();
            let groups = regex.capture_names().enumerate().map(|(index, name)| group(text, whole.start(), letters, found.get(index), name));
            out.push(groups.collect());
        }
        if once {
            break;
        }
    }
    if between {
        out.push(Val::text(text.get(last..).unwrap_or_default()));
    }
    Ok(Val::array(out))
}

fn group(text: &str, start: usize, letters: usize, found: Option<regex::Match<'_>>, name: Option<&str>) -> Val {
    let offset = found.map_or(-1, |found| {
        let lead = text.get(start..found.start()).map_or(0, |lead| lead.chars().count());
        i64::try_from(letters + lead).unwrap_or(i64::MAX)
    });
    let fields = [
        ("offset", Some(Val::Int(offset))),
        ("length", Some(Val::from(found.map_or(0, |found| found.as_str().chars().count())))),
        ("string", Some(found.map_or(Val::Null, |found| Val::text(found.as_str())))),
        ("name", name.map(Val::text)),
    ];
    Val::object(fields.into_iter().filter_map(|(key, value)| Some((Text::fixed(key), value?))).collect())
}
