//! Tickets: what a ticket destination remembers, and how it is looked at and made ready.

use crate::model::id::{ConversationId, EventId};
use crate::model::ticket::{TicketChange, TicketKnown};
use crate::ports::BoxFuture;
use crate::ports::destination::DeliverError;
use crate::ports::store::StoreError;

/// What a ticket destination remembers. A change is durable when it is answered: a call goes out only after that.
pub trait TicketBook: Send + Sync {
    /// What is known of the tickets of a conversation at `destination`, and of the entries of one event.
    fn known<'a>(
        &'a self,
        destination: &'a str,
        conversation: ConversationId,
        event: EventId,
    ) -> BoxFuture<'a, Result<TicketKnown, StoreError>>;

    /// Makes a change durable. Fenced like a decision.
    fn change(&self, change: TicketChange) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The epoch of the lease that changes are written under.
    fn lease_epoch(&self) -> u64;
}

/// One thing that must be there for a destination to work.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Prepared {
    /// What.
    pub what: String,
    /// It is there.
    pub ok: bool,
    /// It was made just now.
    pub made: bool,
    /// One line for a person: what was found, or what to do.
    pub line: String,
}

/// A destination that can say what it lacks, and make it where the system allows.
pub trait Prepare: Send + Sync {
    /// Looks at everything; with `make`, makes what is missing.
    fn prepare(&self, make: bool) -> BoxFuture<'_, Result<Vec<Prepared>, DeliverError>>;
}
