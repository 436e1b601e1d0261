//! App: the one place that wires everything together.

pub mod files;
pub mod outward;
pub mod system;
pub mod wire;
