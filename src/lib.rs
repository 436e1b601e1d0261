//! omnigate: an omnichannel message ingestion gateway.
//!
//! Layers, nothing points down the page: `model` · `logic`, `ports` · `connector` · `config` · `telemetry` · `http` ·
//! `engines`, `tokens`, `destinations`, `stores`, `server` · `pipeline` · `app` · `cli`. `ARCHITECTURE.md` tells the way of a message.

pub mod app;
pub mod cli;
pub mod config;
pub mod connector;
pub mod destinations;
pub mod engines;
pub mod http;
pub mod logic;
pub mod model;
pub mod pipeline;
pub mod ports;
pub mod server;
pub mod stores;
pub mod telemetry;
pub mod tokens;
