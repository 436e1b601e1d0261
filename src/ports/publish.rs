//! Publish: the moment an item becomes an event.

use crate::model::event::Event;

/// A frozen event: its bytes and who gets it.
#[derive(Debug, Clone)]
pub struct Frozen {
    /// JSON, the same for ever (I5).
    pub bytes: Vec<u8>,
    /// Names of the destinations that get it, in the order of the configuration, without repeats.
    pub destinations: Vec<std::sync::Arc<str>>,
}

/// Evaluates all routes, gives tags and file URLs, and writes the event's JSON. Called inside the write transaction: pure,
/// no I/O, within a budget.
pub trait Publish: Send + Sync {
    /// Freezes `event`. Its `tags` and attachment URLs are still empty; everything else is final.
    fn freeze(&self, event: Event) -> Frozen;
}
