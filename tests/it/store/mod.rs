//! The conformance suite of `ports::store`: every implementation passes it whole. It knows the port and nothing behind it; what only
//! SQLite can show (its files, its errors) is in `sqlite`.

mod admission;
mod back;
mod care;
mod copies;
mod delivery;
pub mod gate;
mod gather;
mod history;
mod media;
mod pending;
mod sources;
mod sqlite;
mod tickets;
