//! Connectors: folders → typed connectors. Bytes in, values out; no I/O, no clock, no environment but what `ask` is handed as ports.
//!
//! The way of a request: `hook` guards it (`verify`). However a payload comes, `reader` decodes it (`decode`), runs the map (`jq`),
//! checks the drafts (`draft`) and makes items of them (`normalize`). Mail goes through `mail`.

pub mod ask;
pub mod call;
pub mod decode;
pub mod draft;
pub mod enclosed;
pub mod enrich;
pub mod fixtures;
pub mod folder;
pub mod handshake;
pub mod hook;
pub mod html;
pub mod jq;
pub mod kit;
pub mod load;
pub mod mail;
pub mod manifest;
pub mod media;
pub mod normalize;
pub mod own;
pub mod poll;
pub mod preview;
pub mod problem;
pub mod reader;
pub mod setting;
pub mod stream;
pub mod subscribe;
pub mod text;
pub mod ticket;
pub mod token;
pub mod verify;
