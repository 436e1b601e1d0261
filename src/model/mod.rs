//! The words of the gateway as types: events, messages, ids, raws, items, fates, codes.
//!
//! Pure values. The event types are the public contract (v1) and carry serde and schemars; everything
//! else is internal and may change. This layer names no other layer.

pub mod address;
pub mod codes;
pub mod delivery;
pub mod dns;
pub mod event;
pub mod id;
pub mod item;
pub mod key;
pub mod mailbox;
pub mod raw;
pub mod schema;
pub mod ticket;
pub mod time;
pub mod turns;
pub mod view;
