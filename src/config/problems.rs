//! Problems: all that is wrong with the configuration, in the order of the files.

use std::fmt;

use crate::connector::problem::{Problem, render};

/// All problems of a configuration. Shown whole: a person mends them in one go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&render(&self.0))
    }
}

impl std::error::Error for Problems {}
