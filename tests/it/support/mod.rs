//! Fakes and starters of real servers.

pub mod contract;
#[allow(dead_code)] // each module of the binary uses its part
pub mod mailgen;
