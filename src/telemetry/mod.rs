//! Telemetry: what the gateway tells its operators. Metrics with a closed set of names and labels, logs, and the types that keep
//! personal data out of both (I7).

pub mod logs;
pub mod metrics;
pub mod names;
pub mod process;
pub mod redact;
pub mod registry;
