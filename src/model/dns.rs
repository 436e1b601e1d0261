//! What the DNS said. Asked for outside of the pure rooms and handed in, as the time of receipt is.

use std::collections::BTreeMap;

use crate::model::time::Time;

/// What came of asking for the texts (TXT records) of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxtAnswer {
    /// The records, each joined from its pieces.
    Records(Vec<Vec<u8>>),
    /// The DNS says that there is none.
    Nothing,
    /// No answer in time, or none that says anything: it may be there.
    Unknown,
}

/// Answers to the names that were asked for, lower case and without a dot at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// When they were given.
    pub at: Time,
    /// By name.
    pub txt: BTreeMap<String, TxtAnswer>,
}

impl Answers {
    /// What was said about a name; of one that was not asked for nothing is known.
    pub fn txt(&self, name: &str) -> &TxtAnswer {
        self.txt.get(name).unwrap_or(&TxtAnswer::Unknown)
    }
}
