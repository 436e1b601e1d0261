//! App: the one place that wires everything together.

pub mod system;
pub mod wire;
