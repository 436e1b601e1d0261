//! (being written)

pub mod mail;
pub mod problem;
