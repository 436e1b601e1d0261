//! (being written)

pub mod problem;
