//! Text of jq values: cut without copying, cloned without an allocation.
//!
//! All strings of a payload are parts of one copy of it. The counter is not atomic: a run never leaves its thread.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

/// Text: part of a shared one, or of the gateway's own program.
#[derive(Debug, Clone)]
pub struct Text(Source);

#[derive(Debug, Clone)]
enum Source {
    Static(&'static str),
    Part { whole: Rc<str>, start: u32, end: u32 },
}

impl Text {
    /// Text of the program.
    pub const fn fixed(text: &'static str) -> Self {
        Self(Source::Static(text))
    }

    /// A literal of a program. Literals are kept for ever, each once: they are few, and are read at every step.
    pub fn known(text: &str) -> &'static str {
        static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = known.get(text) {
            return same;
        }
        let kept: &'static str = Box::leak(text.to_owned().into_boxed_str());
        known.insert(kept);
        kept
    }

    /// The part `range` of `whole`, whose borders are those of letters; else it is empty.
    pub fn part(whole: &Rc<str>, range: Range<usize>) -> Self {
        match (u32::try_from(range.start), u32::try_from(range.end)) {
            (Ok(start), Ok(end)) => Self(Source::Part { whole: Rc::clone(whole), start, end }),
            // Beyond 4 GiB: no payload and no value is as large.
            _ => Self::fixed(""),
        }
    }

    /// The letters.
    #[inline]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Source::Static(text) => text,
            Source::Part { whole, start, end } => whole.get(*start as usize..*end as usize).unwrap_or_default(),
        }
    }

    /// Its bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.as_str().as_bytes()
    }

    /// How many bytes it has.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Source::Static(text) => text.len(),
            Source::Part { start, end, .. } => end.saturating_sub(*start) as usize,
        }
    }

    /// The bytes `range` of it, shared.
    pub fn slice(&self, range: Range<usize>) -> Self {
        match &self.0 {
            Source::Static(text) => Self::fixed(text.get(range).unwrap_or_default()),
            Source::Part { whole, start, .. } => Self::part(whole, range.start + *start as usize..range.end + *start as usize),
        }
    }

    /// What `part`, which was taken out of it by reference, is of it; shared.
    pub fn slice_ref(&self, part: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(self.as_bytes().as_ptr() as usize);
        if start.checked_add(part.len()).is_some_and(|end| end <= self.len()) {
            return self.slice(start..start + part.len());
        }
        Self::from(String::from_utf8_lossy(part).into_owned())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        let whole: Rc<str> = Rc::from(text);
        Self::part(&whole, 0..text.len())
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

/// Members of an object, sorted by key, one each. A vector: objects of messages are small, and are made more often than searched.
#[derive(Debug, Clone, Default)]
pub struct Members<V>(Vec<(Text, V)>);

/// So many are searched from the first to the last; more by halves.
const LINEAR_MAX: usize = 12;

impl<V> Members<V> {
    /// How many.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    fn place(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.as_str().cmp(key))
    }

    /// The member `key`.
    #[inline]
    pub fn get(&self, key: &str) -> Option<&V> {
        if self.0.len() <= LINEAR_MAX {
            return self.0.iter().find(|(known, _)| known.len() == key.len() && known.as_str() == key).map(|(_, value)| value);
        }
        self.place(key).ok().and_then(|at| self.0.get(at)).map(|(_, value)| value)
    }

    /// Whether there is a member `key`.
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Puts a member, and gives the one that was there.
    pub fn insert(&mut self, key: Text, value: V) -> Option<V> {
        match self.place(key.as_str()) {
            Ok(at) => self.0.get_mut(at).map(|(_, old)| std::mem::replace(old, value)),
            Err(at) => {
                self.0.insert(at, (key, value));
                None
            }
        }
    }

    /// Takes a member out.
    pub fn remove(&mut self, key: &str) -> Option<V> {
        self.place(key).ok().map(|at| self.0.remove(at).1)
    }

    /// All, by key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Text, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &Text> {
        self.0.iter().map(|(key, _)| key)
    }

    /// All values, by key.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    /// All values, by key, taken.
    pub fn into_values(self) -> impl Iterator<Item = V> {
        self.0.into_iter().map(|(_, value)| value)
    }

    /// Members in any order; of equal keys the last counts.
    pub fn unsorted(mut all: Vec<(Text, V)>) -> Self {
        if !all.is_sorted_by(|(one, _), (next, _)| one.as_str() < next.as_str()) {
            all.sort_by(|(one, _), (other, _)| one.cmp(other));
            all.reverse();
            all.dedup_by(|(one, _), (kept, _)| one == kept);
            all.reverse();
        }
        Self(all)
    }
}

impl<V> IntoIterator for Members<V> {
    type Item = (Text, V);
    type IntoIter = std::vec::IntoIter<(Text, V)>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<V> FromIterator<(Text, V)> for Members<V> {
    fn from_iter<I: IntoIterator<Item = (Text, V)>>(all: I) -> Self {
        Self::unsorted(all.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_keys_the_last_counts() {
        let members: Members<u8> =
            [("b", 1), ("a", 2), ("b", 3), ("c", 4), ("b", 5)].map(|(key, value)| (Text::from(key), value)).into_iter().collect();
        assert_eq!(members.iter().map(|(key, value)| (key.as_str(), *value)).collect::<Vec<_>>(), [("a", 2), ("b", 5), ("c", 4)]);
    }

    #[test]
    fn parts_are_shared_and_found_again_by_reference() {
        let text = Text::from("Ähre, Korn").slice(0..5);
        assert_eq!(text.as_str(), "Ähre");
        let tail = text.as_bytes().get(2..).unwrap_or_default();
        assert_eq!(text.slice_ref(tail).as_str(), "hre");
        assert_eq!(text.slice_ref(b"elsewhere").as_str(), "elsewhere");
    }
}
