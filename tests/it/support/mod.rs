//! Fakes and starters of real servers.

pub mod contract;
