//! App: the one place that wires everything together.

pub mod control;
pub mod demo;
pub mod files;
pub mod gateway;
pub mod outward;
pub mod parts;
pub mod run;
pub mod system;
pub mod wire;
