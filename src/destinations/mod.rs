//! Destinations: adapters that take one event, once at a time. They never sleep, retry, log or count: that is
//! `pipeline::deliver`. Each maps what it saw to a [`DeliverError`](crate::ports::destination::DeliverError), which is a decision.

pub mod file;
pub mod shape;
pub mod smtp;
pub mod stdout;
pub mod ticket;
pub mod webhook;
