//! Engines: the Rust that moves bytes for a family of platforms. Each answers the questions of a port; none knows the store.

pub mod imap;
pub mod poll;
pub mod stream;
