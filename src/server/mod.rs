//! The two listeners: `public` for platforms (hooks and signed files, nothing else) and `private` for operators (health, metrics, admin
//! API). Two sockets, never one: what is reachable from outside is decided by the address, not by a path.
//!
//! This room knows ports and telemetry only. It reads requests within limits, asks, and writes answers; it decides nothing.

pub mod api;
pub mod budget;
pub mod files;
pub mod forwarded;
pub mod listener;
pub mod private;
pub mod problem;
pub mod public;
