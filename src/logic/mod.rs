//! Pure verbs: identify, thread, admit, decide, publish. No I/O, no clock, no threads.

pub mod admit;
pub mod breaker;
pub mod decide;
pub mod digest;
pub mod egress;
pub mod file_url;
pub mod ids;
pub mod publish;
pub mod reconcile;
pub mod schedule;
pub mod seal;
pub mod standard_webhooks;
pub mod subscription;
pub mod ticket;
