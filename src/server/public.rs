//! The public listener: `POST|PUT|GET|HEAD|OPTIONS /hooks/{hook}` and what is below it, and `GET|HEAD /files/{attachment}`, nothing else. (Browsers ask with OPTIONS
//! before they send a form to another site.)
//!
//! It reads the body within the hook's limit and the request's time, hands the request to [`Intake`] and writes its answer. It verifies
//! nothing and knows no platform. A stranger learns from it whether a hook exists and nothing more: bodies of refusals are empty.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use hyper::body::{Body as _, Incoming};
use hyper::header::{ALLOW, CONNECTION, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::logic::file_url::FileUrlVerifier;
use crate::ports::clock::Clock;
use crate::ports::control::Control;
use crate::ports::intake::{HookAnswer, HookRequest, Intake};
use crate::server::budget::{Budget, Share};
use crate::server::files;
use crate::server::forwarded::{self, TrustedProxy};
use crate::server::listener::{self, Answering, ListenerOptions, Peer};
use crate::telemetry::metrics::Metrics;

/// A body of unknown length starts with room for this much; most webhooks fit.
const BODY_START_BYTES: usize = 16 * 1024;

/// Bodies up to this size are not counted against [`BODIES_BYTES_MAX`]: even on every connection at once they are little.
const BODY_SMALL_BYTES: usize = 64 * 1024;

/// Bytes of all larger bodies that are held at once. Beyond it 503 is answered: a platform comes again, a flood does not fill the memory.
const BODIES_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Bytes of all files that are being sent at once.
const FILES_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Numbers of the public listener.
#[derive(Clone)]
pub struct PublicOptions {
    /// A head must arrive within it, and a body within it.
    pub request_timeout: Duration,
    /// Connections at once.
    pub connections_max: usize,
    /// How long a graceful stop may take.
    pub stop_timeout: Duration,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxy: TrustedProxy,
}

/// The public listener, ready to serve.
pub struct PublicListener {
    /// Takes hook requests.
    pub intake: Arc<dyn Intake>,
    /// Reads files.
    pub control: Arc<dyn Control>,
    /// Checks file URLs; `None`: no files are served.
    pub files: Option<FileUrlVerifier>,
    /// For the expiry of file URLs.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Numbers.
    pub options: PublicOptions,
}

impl PublicListener {
    /// Serves until `stop` turns true, then finishes what is in flight.
    pub async fn serve(self, listener: TcpListener, stop: watch::Receiver<bool>) {
        let options = ListenerOptions {
            name: "public",
            connections_max: self.options.connections_max,
            head_timeout: self.options.request_timeout,
            stop_timeout: self.options.stop_timeout,
        };
        let metrics = Arc::clone(&self.metrics);
        let shared = Arc::new(Serving { listener: self, bodies: Budget::new(BODIES_BYTES_MAX), files: Budget::new(FILES_BYTES_MAX) });
        let answering: Answering = Arc::new(move |request, peer| {
            let shared = Arc::clone(&shared);
            Box::pin(async move { Ok(shared.answer(request, peer).await) })
        });
        listener::serve(listener, options, metrics, answering, stop).await;
    }
}

/// The listener at work.
struct Serving {
    listener: PublicListener,
    bodies: Budget,
    files: Budget,
}

impl Serving {
    async fn answer(&self, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        let started = Instant::now();
        let path = request.uri().path();
        let (label, answer) = if let Some(hook) = path.strip_prefix("/hooks/") {
            // What stands behind it is judged by the connector's guard.
            let hook = hook.split('/').next().unwrap_or_default();
            match self.listener.intake.body_bytes_max(hook) {
                Some(body_bytes_max) => {
                    let hook = hook.to_owned();
                    let answer = self.hook(&hook, body_bytes_max, request, &peer).await;
                    (hook, answer)
                }
                None => ("unknown".to_owned(), refuse_unread(StatusCode::NOT_FOUND, &request, &peer)),
            }
        } else if let (Some(name), Some(verifier)) = (path.strip_prefix("/files/"), &self.listener.files) {
            let answer = match *request.method() {
                Method::GET | Method::HEAD => {
                    files::answer(
                        name,
                        request.uri().query().unwrap_or(""),
                        verifier,
                        self.listener.control.as_ref(),
                        &self.files,
                        self.listener.clock.now(),
                    )
                    .await
                }
                _ => not_allowed("GET, HEAD", &request, &peer),
            };
            ("files".to_owned(), answer)
        } else {
            ("unknown".to_owned(), refuse_unread(StatusCode::NOT_FOUND, &request, &peer))
        };
        self.listener.metrics.request(&label, answer.status().as_u16(), started.elapsed());
        answer
    }

    async fn hook(&self, hook: &str, body_bytes_max: usize, request: Request<Incoming>, peer: &Peer) -> Response<Body> {
        // Which of these a hook takes is decided by its connector's guard.
        if !matches!(*request.method(), Method::POST | Method::PUT | Method::GET | Method::HEAD | Method::OPTIONS) {
            return not_allowed("GET, HEAD, OPTIONS, POST, PUT", &request, peer);
        }
        let (head, body) = request.into_parts();
        // Held until the request is answered: from admission on the writer's queue has its own bound.
        let mut share = self.bodies.share();
        let body = match timeout(self.listener.options.request_timeout, read_body(body, body_bytes_max, &mut share)).await {
            Ok(Ok(body)) => body,
            Ok(Err(BodyProblem::TooLarge)) => return refuse(StatusCode::PAYLOAD_TOO_LARGE, peer),
            Ok(Err(BodyProblem::Broken)) => return refuse(StatusCode::BAD_REQUEST, peer),
            Ok(Err(BodyProblem::NoRoom)) => return refuse(StatusCode::SERVICE_UNAVAILABLE, peer),
            Err(_) => return refuse(StatusCode::REQUEST_TIMEOUT, peer),
        };
        let client = forwarded::client(peer.address.ip(), &head.headers, &self.listener.options.trusted_proxy);
        let target = head.uri.path_and_query().map_or_else(String::new, |target| target.as_str().to_owned());
        let request = HookRequest {
            hook: hook.to_owned(),
            method: head.method.as_str().to_owned(),
            target,
            headers: text_headers(&head.headers),
            body,
            peer: Some(client),
        };
        response(self.listener.intake.receive(request).await)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyProblem {
    TooLarge,
    Broken,
    /// The bodies of all requests together are too much at the moment.
    NoRoom,
}

/// The whole body, or why not. A declared length over the limit is refused before a byte is read.
async fn read_body(mut body: Incoming, bytes_max: usize, share: &mut Share) -> Result<Bytes, BodyProblem> {
    let declared = body.size_hint().exact().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if declared.is_some_and(|length| length > bytes_max) {
        return Err(BodyProblem::TooLarge);
    }
    let mut first = Bytes::new();
    let mut rest: Option<BytesMut> = None;
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        // Trailers say nothing that any platform signs.
        let Ok(data) = frame.map_err(|_| BodyProblem::Broken)?.into_data() else { continue };
        let before = rest.as_ref().map_or(first.len(), BytesMut::len);
        if before.saturating_add(data.len()) > bytes_max {
            return Err(BodyProblem::TooLarge);
        }
        let all = before + data.len();
        if all > BODY_SMALL_BYTES && !share.grow_to(all) {
            return Err(BodyProblem::NoRoom);
        }
        match &mut rest {
            Some(rest) => rest.extend_from_slice(&data),
            // Most bodies come in one piece and are handed on without a copy.
            None if first.is_empty() => first = data,
            None => {
                // A declared length is a claim: room is made as the bytes come.
                let mut all = BytesMut::with_capacity(BODY_START_BYTES.max(2 * (first.len() + data.len())));
                all.extend_from_slice(&first);
                all.extend_from_slice(&data);
                rest = Some(all);
            }
        }
    }
    Ok(rest.map_or(first, BytesMut::freeze))
}

/// Names in lower case, in the order received; values that are not UTF-8 are read as Latin-1.
fn text_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => text.to_owned(),
        Err(_) => value.as_bytes().iter().copied().map(char::from).collect(),
    };
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

/// The intake's answer as HTTP. A header that cannot be written is left out: the status must go out whatever a connector says.
fn response(answer: HookAnswer) -> Response<Body> {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// A bare status; the connection ends, because the body was not read to its end.
fn refuse(status: StatusCode, peer: &Peer) -> Response<Body> {
    peer.leave_body_unread();
    let mut response = bare(status);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A bare status to a request whose body nobody wants; the connection is kept if there is none.
fn refuse_unread(status: StatusCode, request: &Request<Incoming>, peer: &Peer) -> Response<Body> {
    if request.body().is_end_stream() { bare(status) } else { refuse(status, peer) }
}

fn not_allowed(allow: &'static str, request: &Request<Incoming>, peer: &Peer) -> Response<Body> {
    let mut response = refuse_unread(StatusCode::METHOD_NOT_ALLOWED, request, peer);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

fn bare(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("10"));
    }
    response
}
