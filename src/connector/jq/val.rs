//! The value that jq programs work on: JSON, with exact integers, known size, known depth, and a price for every step.
//!
//! Strings are always UTF-8 and share their bytes when cut. Containers know their logical weight and their depth, so that
//! nothing can grow beyond its limit unseen (see [`crate::connector::jq::fuel`]). Integers beyond 64 bits keep their digits.

use std::cmp::Ordering;
use std::fmt;
use std::rc::Rc;

use crate::connector::jq::fuel;
use crate::connector::jq::share::{Members, Text};

/// A jq value.
#[derive(Debug, Default)]
pub enum Val {
    /// null.
    #[default]
    Null,
    /// true, false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A whole number beyond 64 bits, as its digits.
    Big(Text),
    /// Text, valid UTF-8.
    Str(Text),
    /// Array.
    Arr(Rc<Arr>),
    /// Object; keys sorted, as everywhere in the gateway.
    Obj(Rc<Obj>),
}

/// Items of an array with their weight.
#[derive(Debug, Default)]
pub struct Arr {
    /// The items.
    pub items: Vec<Val>,
    weight: u64,
    depth: u16,
}

/// Members of an object with their weight.
#[derive(Debug, Default)]
pub struct Obj {
    /// The members.
    pub map: Members<Val>,
    weight: u64,
    depth: u16,
}

/// Weight of a container without content.
const HULL: u64 = 8;

impl Clone for Val {
    #[inline]
    fn clone(&self) -> Self {
        fuel::burn(1);
        self.copy()
    }
}

impl Clone for Arr {
    fn clone(&self) -> Self {
        fuel::burn(1 + self.items.len() as u64);
        Self { items: self.items.iter().map(Val::copy).collect(), weight: self.weight, depth: self.depth }
    }
}

impl Clone for Obj {
    fn clone(&self) -> Self {
        fuel::burn(1 + 2 * self.map.len() as u64);
        // Sorted already, so sorting costs one look.
        Self { map: self.map.iter().map(|(key, value)| (key.clone(), value.copy())).collect(), weight: self.weight, depth: self.depth }
    }
}

impl Val {
    fn copy(&self) -> Self {
        match self {
            Self::Null => Self::Null,
            Self::Bool(value) => Self::Bool(*value),
            Self::Int(value) => Self::Int(*value),
            Self::Float(value) => Self::Float(*value),
            Self::Big(digits) => Self::Big(digits.clone()),
            Self::Str(text) => Self::Str(text.clone()),
            Self::Arr(array) => Self::Arr(Rc::clone(array)),
            Self::Obj(object) => Self::Obj(Rc::clone(object)),
        }
    }

    /// Text.
    pub fn text(text: impl AsRef<str>) -> Self {
        let text = text.as_ref();
        fuel::burn_bytes(text.len() as u64);
        fuel::check_size(text.len() as u64, 0);
        Self::Str(Text::from(text))
    }

    /// An array of these.
    pub fn array(items: Vec<Self>) -> Self {
        let mut array = Arr { items: Vec::new(), weight: HULL, depth: 1 };
        for item in &items {
            array.weight = array.weight.saturating_add(item.weight());
            array.depth = array.depth.max(item.depth().saturating_add(1));
        }
        fuel::burn(1 + items.len() as u64);
        fuel::check_size(array.weight, array.depth);
        array.items = items;
        Self::Arr(Rc::new(array))
    }

    /// An object of these.
    pub fn object(map: Members<Self>) -> Self {
        let mut object = Obj { map: Members::default(), weight: HULL, depth: 1 };
        for (key, value) in map.iter() {
            object.weight = object.weight.saturating_add(HULL + key.len() as u64).saturating_add(value.weight());
            object.depth = object.depth.max(value.depth().saturating_add(1));
        }
        fuel::burn(1 + 2 * map.len() as u64);
        fuel::check_size(object.weight, object.depth);
        object.map = map;
        Self::Obj(Rc::new(object))
    }

    /// Logical size, bytes.
    #[inline]
    pub fn weight(&self) -> u64 {
        match self {
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Float(_) => HULL,
            Self::Big(text) | Self::Str(text) => HULL + text.len() as u64,
            Self::Arr(array) => array.weight,
            Self::Obj(object) => object.weight,
        }
    }

    /// Nesting; 0 for what holds nothing.
    #[inline]
    pub fn depth(&self) -> u16 {
        match self {
            Self::Arr(array) => array.depth,
            Self::Obj(object) => object.depth,
            _ => 0,
        }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// The name of its type, as jq says it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Int(_) | Self::Float(_) | Self::Big(_) => "number",
            Self::Str(_) => "string",
            Self::Arr(_) => "array",
            Self::Obj(_) => "object",
        }
    }

    /// The number as a float.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            Self::Big(digits) => digits.as_str().parse().ok(),
            _ => None,
        }
    }

    /// The member `key` of an object.
    pub fn member(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Obj(object) => object.map.get(key),
            _ => None,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Bool(false) => 1,
            Self::Bool(true) => 2,
            Self::Int(_) | Self::Float(_) | Self::Big(_) => 3,
            Self::Str(_) => 4,
            Self::Arr(_) => 5,
            Self::Obj(_) => 6,
        }
    }
}

impl Arr {
    /// Takes the items of `other` behind its own.
    pub fn append(&mut self, other: &Self) {
        fuel::burn(1 + other.items.len() as u64);
        self.weight = self.weight.saturating_add(other.weight);
        self.depth = self.depth.max(other.depth);
        fuel::check_size(self.weight, self.depth);
        self.items.extend(other.items.iter().map(Val::copy));
    }

    /// Puts `value` at `place`, or behind the end (filling with null).
    pub fn put(&mut self, place: usize, value: Val) {
        let missing = (place + 1).saturating_sub(self.items.len()) as u64;
        fuel::burn(1 + missing);
        self.weight = self.weight.saturating_add(value.weight()).saturating_add(missing.saturating_mul(HULL));
        self.depth = self.depth.max(value.depth().saturating_add(1));
        fuel::check_size(self.weight, self.depth);
        if missing > 0 {
            self.items.resize_with(place + 1, Val::default);
        }
        if let Some(slot) = self.items.get_mut(place) {
            self.weight = self.weight.saturating_sub(slot.weight());
            *slot = value;
        }
    }
}

impl Obj {
    /// Puts `value` at `key`.
    pub fn put(&mut self, key: Text, value: Val) {
        // A member in the middle moves those behind it.
        fuel::burn(2 + self.map.len() as u64 / 16);
        self.weight = self.weight.saturating_add(value.weight()).saturating_add(HULL + key.len() as u64);
        self.depth = self.depth.max(value.depth().saturating_add(1));
        fuel::check_size(self.weight, self.depth);
        let size = HULL + key.len() as u64;
        if let Some(old) = self.map.insert(key, value) {
            self.weight = self.weight.saturating_sub(old.weight() + size);
        }
    }

    /// Takes `key` out.
    pub fn take(&mut self, key: &str) -> Option<Val> {
        fuel::burn(1 + self.map.len() as u64 / 16);
        let old = self.map.remove(key)?;
        self.weight = self.weight.saturating_sub(old.weight() + HULL + key.len() as u64);
        Some(old)
    }
}

/// Only the type: error texts are made of it, and they must not hold content (I7).
impl fmt::Display for Val {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            _ => self.type_name(),
        })
    }
}

impl PartialEq for Val {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Val {}

impl PartialOrd for Val {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Val {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Str(left), Self::Str(right)) => {
                fuel::burn_bytes(left.len().min(right.len()) as u64);
                left.cmp(right)
            }
            (Self::Int(left), Self::Int(right)) => {
                fuel::burn(1);
                left.cmp(right)
            }
            (Self::Big(left), Self::Big(right)) => compare_digits(left.as_bytes(), right.as_bytes()),
            (Self::Arr(left), Self::Arr(right)) => {
                fuel::burn(1);
                if Rc::ptr_eq(left, right) { Ordering::Equal } else { left.items.cmp(&right.items) }
            }
            (Self::Obj(left), Self::Obj(right)) => {
                fuel::burn(1 + (left.map.len().min(right.map.len())) as u64);
                if Rc::ptr_eq(left, right) {
                    return Ordering::Equal;
                }
                left.map.keys().cmp(right.map.keys()).then_with(|| left.map.values().cmp(right.map.values()))
            }
            _ => {
                fuel::burn(1);
                match (self.number(), other.number()) {
                    // jq: nan is smaller than any number.
                    (Some(left), Some(right)) => left.partial_cmp(&right).unwrap_or_else(|| right.is_nan().cmp(&left.is_nan())),
                    _ => self.rank().cmp(&other.rank()),
                }
            }
        }
    }
}

fn compare_digits(left: &[u8], right: &[u8]) -> Ordering {
    fuel::burn_bytes(left.len() as u64);
    let negative = |digits: &[u8]| digits.first() == Some(&b'-');
    match (negative(left), negative(right)) {
        (false, true) => Ordering::Greater,
        (true, false) => Ordering::Less,
        (false, false) => left.len().cmp(&right.len()).then_with(|| left.cmp(right)),
        (true, true) => right.len().cmp(&left.len()).then_with(|| right.cmp(left)),
    }
}

impl From<bool> for Val {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<isize> for Val {
    fn from(value: isize) -> Self {
        Self::Int(value as i64)
    }
}

impl From<usize> for Val {
    fn from(value: usize) -> Self {
        i64::try_from(value).map_or(Self::Float(value as f64), Self::Int)
    }
}

impl From<f64> for Val {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<String> for Val {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<std::ops::Range<Option<Self>>> for Val {
    fn from(range: std::ops::Range<Option<Self>>) -> Self {
        let parts = [("start", range.start), ("end", range.end)];
        Self::object(parts.into_iter().filter_map(|(key, value)| Some((Text::fixed(key), value?))).collect())
    }
}

impl FromIterator<Self> for Val {
    fn from_iter<T: IntoIterator<Item = Self>>(iter: T) -> Self {
        let mut items = Vec::new();
        for item in iter {
            // Before the vector grows, so that an endless generator runs out of fuel and not of memory.
            fuel::burn(1);
            items.push(item);
        }
        Self::array(items)
    }
}
