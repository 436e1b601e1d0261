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

/// An answer whose body is read piece by piece.
pub struct HttpOpened {
    /// Status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Box<dyn HttpRead>,
}

impl HttpOpened {
    /// The first header of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A body that is read piece by piece. Who reads it bounds how much and how long.
pub trait HttpRead: Send {
    /// The next piece; `None` at the end. A body that ends early is an error.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, HttpError>>;
}

/// A body that is there already.
struct Whole(Option<Bytes>);

impl HttpRead for Whole {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, HttpError>> {
        Box::pin(std::future::ready(Ok(self.0.take())))
    }
}

/// Sends requests. Never retries, never follows a redirect.
pub trait Http: Send + Sync {
    /// Sends one request and leaves the body to be read: `within` bounds the time until its head is here, `answer_bytes_max` nothing.
    fn open(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpOpened, HttpError>> {
        Box::pin(async move {
            let answer = self.send(request).await?;
            Ok(HttpOpened { status: answer.status, headers: answer.headers, body: Box::new(Whole(Some(answer.body))) })
        })
    }

    /// Sends one request.
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpAnswer, HttpError>>;
}
