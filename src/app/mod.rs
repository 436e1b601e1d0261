//! App: the one place that wires everything together.

pub mod alone;
pub mod consents;
pub mod control;
pub mod demo;
pub mod feeds;
pub mod files;
pub mod gateway;
pub mod keys;
pub mod look;
pub mod mailboxes;
pub mod outreach;
pub mod outward;
pub mod parts;
pub mod purse;
pub mod resolver;
pub mod run;
pub mod system;
pub mod tokens;
pub mod wire;
