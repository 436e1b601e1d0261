//! Deliver: one task a destination, from "an event is due" to "decided".
//!
//! The task reads what is due through [`Store`](crate::ports::store::Store), sends through a
//! [`Destination`](crate::ports::destination::Destination), judges with [`crate::logic::schedule`] and records through [`Decide`].
//! It owns order (one in flight per lane, I4), pace, retry timers, pauses and the breaker; a destination owns none of these (I8).

use std::num::NonZeroU32;
use std::time::Duration;

use crate::logic::schedule::Policy;
use crate::model::codes::Code;
use crate::model::delivery::Decision;
use crate::model::view::DestinationMode;
use crate::ports::BoxFuture;
use crate::ports::store::StoreError;

/// Where outcomes are recorded: the writer, in front of its admissions.
pub trait Decide: Send + Sync {
    /// Records the outcome of an attempt; done when it is durable.
    fn decide(&self, decision: Decision) -> BoxFuture<'static, Result<(), StoreError>>;

    /// Records that a destination changed its mode by itself (`Write::Destination`).
    fn mode(&self, destination: &str, mode: DestinationMode, code: Option<Code>) -> BoxFuture<'static, Result<(), StoreError>>;
}

/// A rate: `per_second` on average, `burst` at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Deliveries per second.
    pub per_second: f64,
    /// Deliveries at once.
    pub burst: NonZeroU32,
}

/// How a destination is driven.
#[derive(Debug, Clone, PartialEq)]
pub struct DeliverOptions {
    /// Its name.
    pub name: String,
    /// Attempts in flight at once.
    pub concurrency: usize,
    /// Its rate; none is no limit.
    pub rate: Option<Rate>,
    /// Its schedule.
    pub policy: Policy,
    /// On stop, attempts in flight get this long to end.
    pub stop_within: Duration,
    /// Fencing token of the lease this node delivers under.
    pub lease_epoch: u64,
}
