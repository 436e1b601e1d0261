//! What jaq asks of a value: arithmetic, indexing, updating (its `ValT` traits).

use std::ops::{Add, Div, Mul, Neg, Range, Rem, Sub};
use std::rc::Rc;

use jaq_core::box_iter::{BoxIter, box_once};
use jaq_core::path::Opt;
use jaq_core::{Exn, ValR, ValX};

use crate::connector::jq::fuel;
use crate::connector::jq::json;
use crate::connector::jq::share::{Members, Text};
use crate::connector::jq::val::{Arr, Obj, Val};

/// An error of a jq program.
pub type Error = jaq_core::Error<Val>;

fn wrong(name: &str, left: &Val, right: &Val) -> Error {
    Error::str(format_args!("cannot {name} {left} and {right}"))
}

/// Arithmetic on whole numbers stays whole while it fits, as jq's users expect of ids.
fn math(left: &Val, right: &Val, name: &str, whole: fn(i64, i64) -> Option<i64>, float: fn(f64, f64) -> f64) -> ValR<Val> {
    fuel::burn(1);
    if let (Val::Int(left), Val::Int(right)) = (left, right)
        && let Some(result) = whole(*left, *right)
    {
        return Ok(Val::Int(result));
    }
    match (left.number(), right.number()) {
        (Some(one), Some(other)) => Ok(Val::Float(float(one, other))),
        _ => Err(wrong(name, left, right)),
    }
}

fn joined(left: &Text, right: &Text) -> Val {
    let size = left.len() + right.len();
    fuel::burn_bytes(size as u64);
    fuel::check_size(size as u64, 0);
    let mut both = String::with_capacity(size);
    both.push_str(left.as_str());
    both.push_str(right.as_str());
    Val::Str(Text::from(both))
}

impl Add for Val {
    type Output = ValR<Self>;
    fn add(self, other: Self) -> ValR<Self> {
        match (self, other) {
            (Self::Null, value) | (value, Self::Null) => Ok(value),
            (Self::Str(left), Self::Str(right)) => Ok(joined(&left, &right)),
            (Self::Arr(mut left), Self::Arr(right)) => {
                Rc::make_mut(&mut left).append(&right);
                Ok(Self::Arr(left))
            }
            (Self::Obj(mut left), Self::Obj(right)) => {
                let target = Rc::make_mut(&mut left);
                for (key, value) in right.map.iter() {
                    target.put(key.clone(), value.clone());
                }
                Ok(Self::Obj(left))
            }
            (left, right) => math(&left, &right, "add", i64::checked_add, |one, other| one + other),
        }
    }
}

impl Sub for Val {
    type Output = ValR<Self>;
    fn sub(self, other: Self) -> ValR<Self> {
        match (self, other) {
            (Self::Arr(left), Self::Arr(right)) => {
                let gone: std::collections::BTreeSet<&Self> = right.items.iter().collect();
                Ok(left.items.iter().filter(|item| !gone.contains(item)).cloned().collect())
            }
            (left, right) => math(&left, &right, "subtract", i64::checked_sub, |one, other| one - other),
        }
    }
}

impl Mul for Val {
    type Output = ValR<Self>;
    fn mul(self, other: Self) -> ValR<Self> {
        match (self, other) {
            (Self::Str(text), times @ (Self::Int(_) | Self::Float(_))) | (times @ (Self::Int(_) | Self::Float(_)), Self::Str(text)) => {
                // Saturating: what is beyond `usize` is beyond every limit too.
                let times = times.number().unwrap_or(0.0) as usize;
                if times == 0 {
                    return Ok(Self::Null);
                }
                // The size is known before a byte is copied.
                let size = (text.len() as u64).saturating_mul(times as u64);
                fuel::check_size(size, 0);
                fuel::burn_bytes(size);
                Ok(Self::Str(Text::from(text.as_str().repeat(times))))
            }
            (Self::Obj(left), Self::Obj(right)) => Ok(merge(left, &right)),
            (left, right) => math(&left, &right, "multiply", i64::checked_mul, |one, other| one * other),
        }
    }
}

fn merge(mut left: Rc<Obj>, right: &Obj) -> Val {
    let target = Rc::make_mut(&mut left);
    for (key, value) in right.map.iter() {
        let merged = match (target.map.get(key.as_str()), value) {
            (Some(Val::Obj(one)), Val::Obj(other)) => merge(Rc::clone(one), other),
            _ => value.clone(),
        };
        target.put(key.clone(), merged);
    }
    Val::Obj(left)
}

impl Div for Val {
    type Output = ValR<Self>;
    fn div(self, other: Self) -> ValR<Self> {
        match (self, other) {
            (Self::Str(text), Self::Str(separator)) => Ok(split(&text, &separator)),
            (_, Self::Int(0)) => Err(Error::str("cannot divide by zero")),
            (left, right) => math(
                &left,
                &right,
                "divide",
                |one, other| (one.checked_rem(other)? == 0).then(|| one.checked_div(other))?,
                |one, other| one / other,
            ),
        }
    }
}

fn split(text: &Text, separator: &Text) -> Val {
    fuel::burn_bytes(text.len() as u64);
    let (whole, between) = (text.as_str(), separator.as_str());
    if whole.is_empty() {
        return Val::array(Vec::new());
    }
    let part = |piece: &str| Val::Str(text.slice_ref(piece.as_bytes()));
    if between.is_empty() {
        // Letter by letter, without the empty ends that `str::split` would give.
        return whole.char_indices().map(|(at, letter)| Val::Str(text.slice(at..at + letter.len_utf8()))).collect();
    }
    whole.split(between).map(part).collect()
}

impl Rem for Val {
    type Output = ValR<Self>;
    fn rem(self, other: Self) -> ValR<Self> {
        if matches!(other, Self::Int(0)) {
            return Err(Error::str("cannot divide by zero"));
        }
        math(&self, &other, "divide", i64::checked_rem, |one, other| one % other)
    }
}

impl Neg for Val {
    type Output = ValR<Self>;
    fn neg(self) -> ValR<Self> {
        math(&Self::Int(0), &self, "negate", i64::checked_sub, |_, value| -value)
    }
}

/// Where an index points in a list of `length`; negative ones count from the end.
fn place(index: &Val, length: usize) -> Option<usize> {
    let wanted = match index {
        Val::Int(value) => *value,
        Val::Float(value) => value.floor() as i64,
        _ => return None,
    };
    let length = i64::try_from(length).ok()?;
    usize::try_from(if wanted < 0 { wanted + length } else { wanted }).ok()
}

/// The bounds of a slice, inside `0..=length`.
fn bounds(range: &Range<Option<&Val>>, length: usize) -> Result<Range<usize>, Error> {
    let bound = |end: Option<&Val>, default: usize| match end {
        None | Some(Val::Null) => Ok(default),
        Some(Val::Int(value)) if *value < 0 => Ok(length.saturating_sub(usize::try_from(value.unsigned_abs()).unwrap_or(usize::MAX))),
        Some(Val::Int(value)) => Ok(usize::try_from(*value).unwrap_or(usize::MAX).min(length)),
        Some(Val::Float(value)) => Ok((value.max(0.0) as usize).min(length)),
        Some(other) => Err(Error::typ(other.clone(), "integer")),
    };
    let start = bound(range.start, 0)?;
    Ok(start..bound(range.end, length)?.max(start))
}

/// The bytes that the letters `range` of `text` take.
fn letters(text: &str, range: Range<Option<&Val>>) -> Result<Range<usize>, Error> {
    fuel::burn_bytes(text.len() as u64);
    let chars = bounds(&range, text.chars().count())?;
    let byte = |letter: usize| text.char_indices().nth(letter).map_or(text.len(), |(at, _)| at);
    Ok(byte(chars.start)..byte(chars.end))
}

fn not_iterable(value: &Val) -> Error {
    Error::str(format_args!("cannot iterate over {value}"))
}

impl Val {
    /// The member `key`, by reference.
    ///
    /// # Errors
    /// It has no members.
    pub fn look(&self, key: &str) -> Result<&Self, Error> {
        fuel::burn(1);
        match self {
            Self::Obj(object) => Ok(object.map.get(key).unwrap_or(&Self::Null)),
            Self::Null => Ok(&Self::Null),
            _ => Err(Error::str(format_args!("cannot index {self} with string"))),
        }
    }
}

impl jaq_core::ValT for Val {
    fn from_num(text: &str) -> ValR<Self> {
        Ok(json::number(text.as_bytes()).unwrap_or(Self::Null))
    }

    fn from_map<I: IntoIterator<Item = (Self, Self)>>(iter: I) -> ValR<Self> {
        let mut all = Vec::new();
        for (key, value) in iter {
            fuel::burn(1);
            match key {
                Self::Str(key) => all.push((key, value)),
                other => return Err(Error::str(format_args!("an object key must be a string, not {other}"))),
            };
        }
        Ok(Self::object(Members::unsorted(all)))
    }

    fn key_values(self) -> BoxIter<'static, ValR<(Self, Self), Self>> {
        match self {
            Self::Arr(array) => {
                let items = Rc::unwrap_or_clone(array).items;
                Box::new(items.into_iter().enumerate().map(|(index, value)| Ok((Self::from(index), value))))
            }
            Self::Obj(object) => Box::new(Rc::unwrap_or_clone(object).map.into_iter().map(|(key, value)| Ok((Self::Str(key), value)))),
            other => box_once(Err(not_iterable(&other))),
        }
    }

    fn values(self) -> Box<dyn Iterator<Item = ValR<Self>>> {
        fuel::burn(1);
        match self {
            Self::Arr(array) => Box::new(Rc::unwrap_or_clone(array).items.into_iter().map(Ok)),
            Self::Obj(object) => Box::new(Rc::unwrap_or_clone(object).map.into_values().map(Ok)),
            other => Box::new(std::iter::once(Err(not_iterable(&other)))),
        }
    }

    fn index(self, index: &Self) -> ValR<Self> {
        fuel::burn(1);
        match (&self, index) {
            (Self::Null, Self::Str(_) | Self::Int(_) | Self::Null) => Ok(Self::Null),
            (Self::Obj(object), Self::Str(key)) => Ok(object.map.get(key.as_str()).cloned().unwrap_or_default()),
            (Self::Arr(array), Self::Int(_) | Self::Float(_)) => {
                Ok(place(index, array.items.len()).and_then(|at| array.items.get(at)).cloned().unwrap_or_default())
            }
            (Self::Arr(_) | Self::Str(_) | Self::Null, Self::Obj(range)) => {
                let bound = |name: &str| range.map.get(name).cloned();
                let (start, end) = (bound("start"), bound("end"));
                self.range(start.as_ref()..end.as_ref())
            }
            _ => Err(Error::str(format_args!("cannot index {self} with {index}"))),
        }
    }

    fn range(self, range: Range<Option<&Self>>) -> ValR<Self> {
        match &self {
            Self::Null => Ok(Self::Null),
            Self::Arr(array) => {
                let wanted = bounds(&range, array.items.len())?;
                Ok(array.items.get(wanted).unwrap_or_default().iter().cloned().collect())
            }
            Self::Str(text) => {
                let span = letters(self.as_str().unwrap_or_default(), range)?;
                Ok(Self::Str(text.slice(span)))
            }
            other => Err(Error::str(format_args!("cannot slice {other}"))),
        }
    }

    fn map_values<'a, I: Iterator<Item = ValX<'a, Self>>>(self, opt: Opt, f: impl Fn(Self) -> I) -> ValX<'a, Self> {
        match self {
            Self::Arr(array) => Rc::unwrap_or_clone(array).items.into_iter().flat_map(f).collect(),
            Self::Obj(object) => {
                let mut all = Vec::new();
                for (key, value) in Rc::unwrap_or_clone(object).map {
                    if let Some(new) = f(value).next() {
                        all.push((key, new?));
                    }
                }
                Ok(Self::object(Members::unsorted(all)))
            }
            other => opt.fail(other, |value| Exn::from(not_iterable(&value))),
        }
    }

    fn map_index<'a, I: Iterator<Item = ValX<'a, Self>>>(self, index: &Self, opt: Opt, f: impl Fn(Self) -> I) -> ValX<'a, Self> {
        fuel::burn(1);
        match (self, index) {
            (Self::Null, Self::Str(_)) => Self::Obj(Rc::new(Obj::default())).map_index(index, opt, f),
            (Self::Null, Self::Int(_)) => Self::Arr(Rc::new(Arr::default())).map_index(index, opt, f),
            (Self::Obj(mut object), Self::Str(key)) => {
                let old = object.map.get(key.as_str()).cloned().unwrap_or_default();
                let new = f(old).next().transpose()?;
                let target = Rc::make_mut(&mut object);
                match new {
                    Some(value) => target.put(key.clone(), value),
                    None => drop(target.take(key.as_str())),
                }
                Ok(Self::Obj(object))
            }
            (Self::Arr(mut array), Self::Int(_) | Self::Float(_)) => {
                let Some(at) = place(index, array.items.len()) else {
                    return opt.fail(Self::Arr(array), |_| Exn::from(Error::str("index out of bounds")));
                };
                let old = array.items.get(at).cloned().unwrap_or_default();
                match f(old).next().transpose()? {
                    Some(value) => {
                        Rc::make_mut(&mut array).put(at, value);
                        Ok(Self::Arr(array))
                    }
                    None => {
                        let mut items = Rc::unwrap_or_clone(array).items;
                        if at < items.len() {
                            items.remove(at);
                        }
                        Ok(Self::array(items))
                    }
                }
            }
            (value @ (Self::Arr(_) | Self::Str(_)), Self::Obj(range)) => {
                let bound = |name: &str| range.map.get(name).cloned();
                let (start, end) = (bound("start"), bound("end"));
                value.map_range(start.as_ref()..end.as_ref(), opt, f)
            }
            (value, _) => opt.fail(value, |value| Exn::from(Error::str(format_args!("cannot index {value} with {index}")))),
        }
    }

    fn map_range<'a, I: Iterator<Item = ValX<'a, Self>>>(
        self,
        range: Range<Option<&Self>>,
        opt: Opt,
        f: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        let Self::Arr(array) = &self else {
            return opt.fail(self, |value| Exn::from(Error::str(format_args!("cannot update a slice of {value}"))));
        };
        let span = bounds(&range, array.items.len()).map_err(Exn::from)?;
        let part: Self = array.items.get(span.clone()).unwrap_or_default().iter().cloned().collect();
        let new = f(part).next().transpose()?.unwrap_or_default();
        let Self::Arr(new) = new else { return Err(Exn::from(Error::typ(new, "array"))) };
        let mut items: Vec<Self> = array.items.get(..span.start).unwrap_or_default().to_vec();
        items.extend(new.items.iter().cloned());
        items.extend(array.items.get(span.end..).unwrap_or_default().iter().cloned());
        Ok(Self::array(items))
    }

    fn as_bool(&self) -> bool {
        !matches!(self, Self::Null | Self::Bool(false))
    }

    fn into_string(self) -> Self {
        match self {
            Self::Str(_) => self,
            other => Self::text(json::to_text(&other)),
        }
    }
}

impl jaq_std::ValT for Val {
    fn into_seq<S: FromIterator<Self>>(self) -> Result<S, Self> {
        match self {
            Self::Arr(array) => Ok(Rc::unwrap_or_clone(array).items.into_iter().collect()),
            other => Err(other),
        }
    }

    fn is_int(&self) -> bool {
        matches!(self, Self::Int(_) | Self::Big(_))
    }

    fn as_isize(&self) -> Option<isize> {
        match self {
            Self::Int(value) => isize::try_from(*value).ok(),
            Self::Float(value) if value.fract() == 0.0 && value.abs() < 9e15 => Some(*value as isize),
            _ => None,
        }
    }

    fn as_f64(&self) -> Option<f64> {
        self.number()
    }

    fn is_utf8_str(&self) -> bool {
        matches!(self, Self::Str(_))
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Str(text) => {
                // Every function on text comes by here: the price of reading it.
                fuel::burn_bytes(text.len() as u64);
                Some(text.as_bytes())
            }
            _ => None,
        }
    }

    fn as_sub_str(&self, part: &[u8]) -> Self {
        match self {
            Self::Str(text) => Self::Str(text.slice_ref(part)),
            _ => Self::Null,
        }
    }

    fn from_utf8_bytes(bytes: impl AsRef<[u8]> + Send + 'static) -> Self {
        Self::text(String::from_utf8_lossy(bytes.as_ref()))
    }
}
