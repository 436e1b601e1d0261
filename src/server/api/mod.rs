//! `/v1`, the admin API: JSON in, JSON out, problem documents for errors. Reads ask the store, everything else asks [`Control`].
//!
//! The paths stand in [`router`] and, with words and schemas, in `openapi`; a test holds both together.
//!
//! [`Control`]: crate::ports::control::Control

pub mod openapi;
pub mod reads;
pub mod verbs;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::routing::{get, post};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::server::private::PrivateListener;
use crate::server::problem::Problem;

/// Largest body of a request to the API: filters and names.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// And the time it may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What the handlers share.
pub type Shared = Arc<PrivateListener>;

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "PageOf{T}")]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// What to ask for next, as `before` (ledger, quarantine) or `after` (deliveries); null at the end.
    pub next: Option<i64>,
}

/// How many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Count {
    /// How many.
    pub count: u64,
}

/// All paths below `/v1`.
pub fn router(shared: Shared) -> Router {
    Router::new()
        .route("/openapi.json", get(openapi::document))
        .route("/status", get(reads::status))
        .route("/ledger", get(reads::ledger))
        .route("/messages/{id}", get(reads::message))
        .route("/deliveries", get(reads::deliveries))
        .route("/tickets", get(reads::tickets))
        .route("/events", get(reads::events))
        .route("/events/{id}", get(reads::event))
        .route("/quarantine", get(reads::quarantine))
        .route("/quarantine/{item}", get(reads::quarantined))
        .route("/quarantine/{item}/reprocess", post(verbs::reprocess))
        .route("/raws/{id}", get(reads::raw))
        .route("/destinations", get(reads::destinations))
        .route("/destinations/{name}/pause", post(verbs::pause))
        .route("/destinations/{name}/resume", post(verbs::resume))
        .route("/destinations/{name}/drop", post(verbs::drop_destination))
        .route("/channels", get(reads::channels))
        .route("/channels/{id}/backfill", post(verbs::backfill))
        .route("/channels/{id}/consent", post(verbs::consent))
        .route("/channels/{id}/reconcile", post(verbs::reconcile))
        .route("/channels/{id}/subscribe", post(verbs::subscribe))
        .route("/channels/{id}/subscription", get(verbs::subscription))
        .route("/channels/{id}/unsubscribe", post(verbs::unsubscribe))
        .route("/dead/replay", post(verbs::dead_replay))
        .route("/dead/discard", post(verbs::dead_discard))
        .route("/replay", post(verbs::replay))
        .route("/reload", post(verbs::reload))
        .route("/backup", post(verbs::backup))
        .route("/contacts/{id}/erase", post(verbs::erase))
        .with_state(shared)
        .fallback(|| async { Problem::missing("no such path; `GET /v1/openapi.json` lists them") })
        .method_not_allowed_fallback(|| async { Problem::method("`GET /v1/openapi.json` lists paths and methods") })
}

/// The query, or a problem document that says what is wrong with it.
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(problem) => Err(Problem::invalid(format!("query: {}", cause(&problem)))),
        }
    }
}

/// One part of the path, read as what it stands for.
pub struct Named<T>(pub T);

impl<T: std::str::FromStr<Err: std::fmt::Display>, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(text) = Path::<String>::from_request_parts(parts, state).await.map_err(|problem| Problem::invalid(problem.body_text()))?;
        text.parse().map(Self).map_err(|problem| Problem::invalid(format!("path: {problem}")))
    }
}

/// The JSON body; an empty one counts as `{}`.
pub struct Told<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Told<T> {
    type Rejection = Problem;
    async fn from_request(request: Request<Body>, _: &S) -> Result<Self, Problem> {
        let too_large = || Problem::too_large(format!("at most {BODY_BYTES_MAX} bytes"));
        let bytes = match timeout(BODY_TIMEOUT, to_bytes(request.into_body(), BODY_BYTES_MAX)).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(_)) => return Err(too_large()),
            Err(_) => return Err(Problem::invalid(format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs()))),
        };
        let text: &[u8] = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes.trim_ascii() };
        // A list would be read as the fields of a struct in their order.
        if text.first() != Some(&b'{') {
            return Err(Problem::invalid("body: expected a JSON object"));
        }
        serde_json::from_slice(text).map(Self).map_err(|problem| Problem::invalid(format!("body: {problem}")))
    }
}

/// The innermost text of an error: the one that names the field.
fn cause(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
