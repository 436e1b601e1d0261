//! Webhook: one signed POST per event, Standard Webhooks 1.0.0.
//!
//! The same id and bytes on every attempt (I5), a new timestamp and signature on each. Redirects are never followed. Everything is
//! bounded: connecting, the whole exchange, and what is read of the answer. Proxies from the environment are not used: where a
//! request goes is decided by the configuration and the egress guard alone.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use reqwest::{Client, Method, Request, Response, Url};

use crate::destinations::shape::Shape;
use crate::http::client::{causes, innermost};
use crate::http::egress::{GuardedResolver, RefusedAddress, allowed, literal_refused};
use crate::http::tls;
use crate::logic::schedule::of_http_status;
use crate::logic::standard_webhooks::{SecretError, Signer};
use crate::model::codes::Code;
use crate::model::delivery::Outgoing;
use crate::ports::BoxFuture;
use crate::ports::clock::Clock;
use crate::ports::destination::{DeliverError, Destination, Receipt};

/// Of an answer's body this much is read, to keep the connection; none of it is kept or shown.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// The rest of an answer that has said its status gets this long.
const ANSWER_REST_WITHIN: Duration = Duration::from_secs(2);
/// Connecting gets at most this much of the whole timeout.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Idle connections are closed by us before common servers close them, or requests would run into the closing.
const IDLE_WITHIN: Duration = Duration::from_secs(30);

/// A webhook destination of the configuration.
pub struct WebhookOptions {
    /// `http` or `https`, without user and password.
    pub url: String,
    /// `whsec_…` secrets, the newest first.
    pub secrets: Vec<String>,
    /// Extra headers; values may be secret.
    pub headers: Vec<(String, String)>,
    /// The whole exchange.
    pub timeout: Duration,
    /// As many idle connections are kept.
    pub concurrency: usize,
    /// Only https, and only to public addresses.
    pub strict_egress: bool,
    /// Its form of events.
    pub shape: Shape,
}

/// Why a webhook destination cannot be made. Shows no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// The URL cannot be used.
    #[error("url: {0}")]
    Url(String),
    /// A secret cannot be used.
    #[error("secret: {0}")]
    Secret(#[from] SecretError),
    /// An extra header cannot be used.
    #[error("headers: {0}")]
    Header(String),
    /// The HTTP client cannot be made.
    #[error("http client: {0}")]
    Client(String),
}

/// A webhook destination.
pub struct Webhook {
    client: Client,
    url: Url,
    place: String,
    headers: HeaderMap,
    signer: Signer,
    shape: Shape,
    strict: bool,
    clock: Arc<dyn Clock>,
}

impl Webhook {
    /// Checks the options and makes the client. Touches no network.
    ///
    /// # Errors
    /// [`WebhookError`] says which option is wrong.
    pub fn new(options: WebhookOptions, clock: Arc<dyn Clock>) -> Result<Self, WebhookError> {
        let url = checked_url(&options.url, options.strict_egress)?;
        let place = format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
        let signer = Signer::new(&options.secrets)?;
        let headers = fixed_headers(&options.headers)?;
        let mut builder = Client::builder()
            .tls_backend_preconfigured(if url.scheme() == "https" { tls::with_roots() } else { tls::without_roots() })
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .timeout(options.timeout)
            .connect_timeout(options.timeout.min(CONNECT_WITHIN))
            .pool_max_idle_per_host(options.concurrency.max(1))
            .pool_idle_timeout(IDLE_WITHIN)
            .tcp_nodelay(true);
        if options.strict_egress {
            builder = builder.dns_resolver(GuardedResolver);
        }
        let client = builder.build().map_err(|error| WebhookError::Client(error.without_url().to_string()))?;
        Ok(Self { client, url, place, headers, signer, shape: options.shape, strict: options.strict_egress, clock })
    }

    async fn send(&self, outgoing: &Outgoing) -> Result<Receipt, DeliverError> {
        let body = self.shape.render(&outgoing.bytes).await?;
        let id = outgoing.event.to_string();
        let timestamp = self.clock.now().seconds();
        let signature = self.signer.sign(&id, timestamp, &body);

        let mut request = Request::new(Method::POST, self.url.clone());
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        let mut set = |name: &'static str, value: String| {
            // Ids, numbers and base64 are always header values.
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        set("webhook-id", id);
        set("webhook-timestamp", timestamp.to_string());
        set("webhook-signature", signature);
        if outgoing.sequence > 0 {
            set("omnigate-sequence", outgoing.sequence.to_string());
            set("omnigate-previous", outgoing.previous.to_string());
        }
        if outgoing.replay {
            set("omnigate-replay", "true".to_owned());
        }
        *request.body_mut() = Some(body.into());

        let response = self.client.execute(request).await.map_err(|error| self.explain(error))?;
        let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let status = response.status().as_u16();
        let _ = tokio::time::timeout(ANSWER_REST_WITHIN, drain(response)).await;
        of_http_status(status, asked.as_deref(), self.clock.now())
    }

    fn explain(&self, error: reqwest::Error) -> DeliverError {
        if is_refused(&error) {
            return refused();
        }
        let place = &self.place;
        let (code, detail) = if error.is_connect() {
            (Code::Connect, format!("connecting to {place}: {}", innermost(&error)))
        } else if error.is_timeout() {
            (Code::Timeout, format!("no answer from {place} in time"))
        } else if error.is_builder() {
            let detail = format!("request to {place}: {}", innermost(&error));
            return DeliverError::Never { code: Code::Invariant, status: None, detail };
        } else {
            (Code::Unknown, format!("sent to {place}, no answer: {}", innermost(&error)))
        };
        DeliverError::Later { code, status: None, detail, after: None }
    }

    /// Connects, and for https shakes hands, without sending a request: a request could be taken for a delivery.
    async fn look(&self) -> Result<String, DeliverError> {
        let place = &self.place;
        let failed = |what: &dyn std::fmt::Display| DeliverError::Later {
            code: Code::Connect,
            status: None,
            detail: format!("connecting to {place}: {what}"),
            after: None,
        };
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port_or_known_default().unwrap_or_default();
        // The URL writes IPv6 literals in brackets; the resolver wants them without.
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let mut found: Vec<_> = tokio::net::lookup_host((bare, port)).await.map_err(|error| failed(&error))?.collect();
        if self.strict {
            found = allowed(found).map_err(|_| refused())?;
        }
        let stream = tokio::net::TcpStream::connect(&found[..]).await.map_err(|error| failed(&error))?;
        if self.url.scheme() != "https" {
            return Ok(format!("connected to {place}, without TLS"));
        }
        let name = rustls::pki_types::ServerName::try_from(bare.to_owned()).map_err(|error| failed(&error))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls::with_roots()));
        let stream = connector.connect(name, stream).await.map_err(|error| failed(&error))?;
        let version = stream.get_ref().1.protocol_version().and_then(|version| version.as_str().map(str::to_owned));
        Ok(format!("connected to {place}, {}", version.unwrap_or_else(|| "TLS".to_owned())))
    }
}

impl Destination for Webhook {
    fn deliver<'a>(&'a self, outgoing: &'a Outgoing) -> BoxFuture<'a, Result<Receipt, DeliverError>> {
        Box::pin(self.send(outgoing))
    }

    fn probe(&self) -> BoxFuture<'_, Result<String, DeliverError>> {
        Box::pin(async move {
            match tokio::time::timeout(CONNECT_WITHIN, self.look()).await {
                Ok(seen) => seen,
                Err(_) => Err(DeliverError::Later {
                    code: Code::Timeout,
                    status: None,
                    detail: format!("connecting to {}: no answer in {} s", self.place, CONNECT_WITHIN.as_secs()),
                    after: None,
                }),
            }
        })
    }
}

fn refused() -> DeliverError {
    DeliverError::Never { code: Code::EgressRefused, status: None, detail: RefusedAddress.to_string() }
}

fn checked_url(text: &str, strict: bool) -> Result<Url, WebhookError> {
    let wrong = |what: &str| Err(WebhookError::Url(what.to_owned()));
    let Ok(url) = Url::parse(text) else { return wrong("not a URL") };
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("user and password do not belong into the URL: set an `authorization` header");
    }
    match url.scheme() {
        "https" => {}
        "http" if strict => return wrong("`strict_egress` allows https only"),
        "http" => {}
        _ => return wrong("only http and https are spoken"),
    }
    match url.host() {
        None => wrong("no host"),
        Some(host) if strict && literal_refused(&host) => wrong("refused address (`strict_egress`)"),
        Some(_) => Ok(url),
    }
}

fn fixed_headers(extra: &[(String, String)]) -> Result<HeaderMap, WebhookError> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("omnigate/", env!("CARGO_PKG_VERSION"))));
    for (name, value) in extra {
        let parsed: HeaderName = name.parse().map_err(|_| WebhookError::Header(format!("`{name}` is no header name")))?;
        let ours = ["webhook-", "omnigate-"].iter().any(|prefix| parsed.as_str().starts_with(prefix));
        let framing =
            ["host", "content-length", "transfer-encoding", "connection", "expect", "upgrade", "te", "trailer"].contains(&parsed.as_str());
        if ours || framing {
            return Err(WebhookError::Header(format!("`{name}` is set by the gateway")));
        }
        let mut value =
            HeaderValue::from_str(value).map_err(|_| WebhookError::Header(format!("the value of `{name}` is no header value")))?;
        value.set_sensitive(true);
        headers.insert(parsed, value);
    }
    Ok(headers)
}

async fn drain(mut response: Response) {
    let mut left = ANSWER_BYTES_MAX;
    while let Ok(Some(chunk)) = response.chunk().await {
        match left.checked_sub(chunk.len()) {
            Some(rest) => left = rest,
            // Dropping the response closes the connection.
            None => return,
        }
    }
}

fn is_refused(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| cause.is::<RefusedAddress>())
}

#[cfg(test)]
mod tests;
