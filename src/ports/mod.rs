//! Ports: traits to the world. The pipeline knows these, adapters implement them, `app` brings both together.

use std::future::Future;
use std::pin::Pin;

pub mod blobs;
pub mod clock;
pub mod control;
pub mod destination;
pub mod dns;
pub mod expression;
pub mod feed;
pub mod http;
pub mod inspect;
pub mod intake;
pub mod publish;
pub mod pull;
pub mod store;
pub mod ticket;
pub mod token;
pub mod tx;

/// A boxed future that may move between threads: what asynchronous port methods return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
