//! (being written)
pub mod deliver;
