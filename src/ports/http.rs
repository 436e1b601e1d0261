//! HTTP: one request goes out, one answer comes back. Whoever asks says how far the request may go; the adapter holds it to that.

use std::time::Duration;

use bytes::Bytes;
use url::Url;

use crate::model::codes::Code;
use crate::ports::BoxFuture;

/// A request, complete.
#[derive(Clone)]
pub struct HttpRequest {
    /// Upper case.
    pub method: &'static str,
    /// Where to; may hold a secret in its path or query, so it is never shown whole ([`HttpRequest::place`]).
    pub url: Url,
    /// Names in lower case; values may be secret.
    pub headers: Vec<(String, String)>,
    /// What is sent.
    pub body: HttpBody,
    /// The whole exchange.
    pub within: Duration,
    /// A longer answer is an error.
    pub answer_bytes_max: usize,
    /// How far it may go.
    pub egress: Egress,
}

impl HttpRequest {
    /// Host and port: all of the URL that may be shown (I7).
    pub fn place(&self) -> String {
        format!("{}:{}", self.url.host_str().unwrap_or_default(), self.url.port_or_known_default().unwrap_or_default())
    }
}

impl std::fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.place())
    }
}

/// What a request carries.
#[derive(Clone)]
pub enum HttpBody {
    /// Nothing.
    None,
    /// These bytes; their type stands in the headers.
    Bytes(Bytes),
    /// `multipart/form-data` (RFC 7578).
    Multipart(Vec<HttpPart>),
}

/// A part of a form.
#[derive(Clone)]
pub struct HttpPart {
    /// Name of the field.
    pub name: String,
    /// Name of the file, where it is one.
    pub file_name: Option<String>,
    /// Media type, where it is a file.
    pub media_type: Option<String>,
    /// Content.
    pub bytes: Bytes,
}

/// How far a request may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Egress {
    /// The admin or a connector wrote the host down.
    Written,
    /// The address came from outside: public addresses only, judged at the moment of connecting.
    Public,
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct HttpAnswer {
    /// Status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Bytes,
}

impl HttpAnswer {
    /// The first header of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct HttpError {
    /// `connect`, `tls`, `timeout`, `unknown` (sent, no answer), `egress_refused`, `protocol` (an answer that is too long).
    pub code: Code,
    /// Whether the peer may have carried it out. False only if that is certain.
    pub sent: bool,
    /// One line with host and port, no path, no content.
    pub detail: String,
}

/// Sends requests. Never retries, never follows a redirect.
pub trait Http: Send + Sync {
    /// Sends one request.
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpAnswer, HttpError>>;
}
