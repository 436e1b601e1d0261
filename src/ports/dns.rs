//! DNS: one question, one answer. Who asks sets the bound; who answers remembers answers for as long as their owners allow.

use crate::model::dns::TxtAnswer;
use crate::ports::BoxFuture;

/// The resolver.
pub trait Dns: Send + Sync {
    /// The TXT records of a name (lower case, ASCII, no dot at the end).
    fn txt<'a>(&'a self, name: &'a str) -> BoxFuture<'a, TxtAnswer>;
}
