//! Expressions that the admin wrote, as the rooms that do not know the language see them. `connector::jq` implements these;
//! both are pure and run within a budget. What they look at is JSON text: each language reads it into values of its own, once.

/// A filter: `[[route]] when`.
pub trait Condition: Send + Sync {
    /// Whether the first output for `input` is neither `false` nor `null`; no output at all is no.
    ///
    /// # Errors
    /// One line for a person, without content (I7), if it failed or used up its budget.
    fn truthy(&self, input: &[u8]) -> Result<bool, String>;
}

/// A destination's own form of an event: `[destination.x] body`.
pub trait Form: Send + Sync {
    /// The body to send, made from the event (`type`, `id`, `timestamp`, `data`).
    ///
    /// # Errors
    /// One line for a person, without content (I7), if it failed, gave nothing or used up its budget.
    fn body(&self, event: &[u8]) -> Result<Vec<u8>, String>;
}
