//! Intake: what the public listener hands to the pipeline.

use std::net::IpAddr;

use bytes::Bytes;

use crate::ports::BoxFuture;

/// A request to a hook, body read and within the limit, nothing verified.
#[derive(Debug, Clone)]
pub struct HookRequest {
    /// The name behind `/hooks/`.
    pub hook: String,
    /// Upper case.
    pub method: String,
    /// Path and query as requested.
    pub target: String,
    /// Names in lower case, in the order received. Values that are not UTF-8 are read as Latin-1.
    pub headers: Vec<(String, String)>,
    /// The raw bytes.
    pub body: Bytes,
    /// Address of the peer (or of the client named by a trusted proxy).
    pub peer: Option<IpAddr>,
}

/// The answer to a hook request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookAnswer {
    /// HTTP status.
    pub status: u16,
    /// Extra headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Bytes,
}

/// Takes hook requests. A 2xx answer implies that everything in the request is durable (I2).
pub trait Intake: Send + Sync {
    /// Largest body the hook takes; `None` if there is no such hook.
    fn body_bytes_max(&self, hook: &str) -> Option<usize>;

    /// Receives one request and answers it.
    fn receive(&self, request: HookRequest) -> BoxFuture<'_, HookAnswer>;
}
