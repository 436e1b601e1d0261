//! The private listener: `/healthz`, `/readyz`, `/metrics` for machines, `/v1/…` for operators behind a bearer token.
//!
//! Health says that the process answers; readiness says that it takes messages (the store can be written, the channels are known). They
//! are kept apart: a full disk must not make an orchestrator kill a daemon that is still delivering.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request as Asked, State};
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tower::ServiceExt;

use crate::ports::control::Control;
use crate::ports::store::Store;
use crate::server::api;
use crate::server::listener::{self, Answering, ListenerOptions};
use crate::server::problem::Problem;
use crate::telemetry::metrics::Metrics;

/// A readiness check that takes longer says no: a load balancer asks every few seconds and waits for none.
const READY_TIMEOUT: Duration = Duration::from_secs(2);
/// A scrape must end before the next one begins.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(5);
/// Heads of operators' tools arrive at once.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The content type of exposition format 0.0.4.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Numbers of the private listener.
#[derive(Debug, Clone)]
pub struct PrivateOptions {
    /// Connections at once.
    pub connections_max: usize,
    /// How long a graceful stop may take.
    pub stop_timeout: Duration,
}

/// The private listener, ready to serve.
pub struct PrivateListener {
    /// What is read.
    pub store: Arc<dyn Store>,
    /// What is asked.
    pub control: Arc<dyn Control>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Bearer token of `/v1`.
    pub token: SecretString,
    /// Numbers.
    pub options: PrivateOptions,
}

/// Answer of `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Readiness {
    /// The gateway takes messages.
    pub ready: bool,
    /// Why not.
    pub reasons: Vec<String>,
    /// Channels that failed alone; they do not make the gateway unready by themselves.
    pub failed_channels: Vec<String>,
}

impl PrivateListener {
    /// Serves until `stop` turns true, then finishes what is in flight.
    pub async fn serve(self, listener: TcpListener, stop: watch::Receiver<bool>) {
        let options = ListenerOptions {
            name: "private",
            connections_max: self.options.connections_max,
            head_timeout: HEAD_TIMEOUT,
            stop_timeout: self.options.stop_timeout,
        };
        let metrics = Arc::clone(&self.metrics);
        let router = self.router();
        let answering: Answering = Arc::new(move |request, _| {
            let router = router.clone();
            Box::pin(router.oneshot(request.map(Body::new)))
        });
        listener::serve(listener, options, metrics, answering, stop).await;
    }

    fn router(self) -> Router {
        let shared = Arc::new(self);
        let v1 = api::router(Arc::clone(&shared)).layer(middleware::from_fn_with_state(Arc::clone(&shared), authorize));
        Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(scrape))
            .with_state(shared)
            .nest("/v1", v1)
            .fallback(|| async { Problem::missing("no such path; `GET /v1/openapi.json` lists them") })
            .method_not_allowed_fallback(|| async { Problem::method("`GET /v1/openapi.json` lists paths and methods") })
    }
}

/// Lets pass who shows the token. Compared as digests in constant time, so that neither content nor length leaks.
async fn authorize(State(shared): State<Arc<PrivateListener>>, request: Asked, next: Next) -> Response<Body> {
    let shown = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let shown = match shown.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => token.trim_ascii(),
        _ => b"",
    };
    let known = shared.token.expose_secret().as_bytes();
    let digest = |bytes: &[u8]| <sha2::Sha256 as sha2::Digest>::digest(bytes);
    // An empty token would open the door to everybody who sends none.
    if known.is_empty() || !bool::from(digest(shown).ct_eq(&digest(known))) {
        return Problem::unauthorized().into_response();
    }
    let mut response = next.run(request).await;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn readyz(State(shared): State<Arc<PrivateListener>>) -> Response<Body> {
    let readiness = shared.readiness().await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(readiness)).into_response()
}

async fn scrape(State(shared): State<Arc<PrivateListener>>) -> Response<Body> {
    if let Some(free) = shared.store.free_bytes() {
        shared.metrics.disk_free(free);
    }
    // Asking for the status refreshes what is only known there: the states of the channels.
    let _ = timeout(READY_TIMEOUT, shared.control.status()).await;
    let totals = match timeout(SCRAPE_TIMEOUT, shared.store.totals()).await {
        Ok(Ok(totals)) => Some(totals),
        Ok(Err(_)) | Err(_) => None,
    };
    let mut response = Response::new(Body::from(shared.metrics.render(totals.as_ref())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(METRICS_TYPE));
    response
}

impl PrivateListener {
    async fn readiness(&self) -> Readiness {
        let (pinged, status) = tokio::join!(timeout(READY_TIMEOUT, self.store.ping()), timeout(READY_TIMEOUT, self.control.status()));
        let mut reasons = Vec::new();
        let writable = match pinged {
            Ok(Ok(())) => true,
            Ok(Err(problem)) => {
                reasons.push(format!("the store cannot be written: {problem}"));
                false
            }
            Err(_) => {
                reasons.push(format!("the store did not answer within {} s", READY_TIMEOUT.as_secs()));
                false
            }
        };
        let mut failed_channels = Vec::new();
        let running = match status {
            Ok(status) => {
                reasons.extend(status.not_ready);
                let failed = status.channels.into_iter().filter(|(_, channel)| channel.state == "failed");
                failed_channels.extend(failed.map(|(id, _)| id));
                status.ready
            }
            Err(_) => {
                reasons.push("the gateway did not say how it is".to_owned());
                false
            }
        };
        let ready = writable && running;
        self.metrics.ready(writable, ready);
        Readiness { ready, reasons, failed_channels }
    }
}
