//! The pipeline: receive, guard, normalize, admit, deliver, settle, supervise. Knows ports, no adapter.
//!
//! [`intake`] takes hook requests, [`pull`] asks mailboxes, [`feed`] polls and streams, all hand admissions to the one [`writer`]; deliver
//! hands events to destinations and its decisions to the same writer; [`keep`] does housekeeping in between, [`lookups`] asks the DNS.
//! [`media`] fetches files that messages only name, [`loops`] slows programs down that answer each other.

pub mod board;
pub mod deliver;
pub mod enrich;
pub mod feed;
pub mod intake;
pub mod keep;
pub mod limits;
pub mod lookups;
pub mod loops;
pub mod media;
pub mod parse;
pub mod pull;
pub mod raws;
pub mod reconcile;
pub mod sessions;
pub mod subscribe;
pub mod whoami;
pub mod writer;
