//! Errors of the private listener as problem documents (RFC 9457). For operators: they say what is wrong and what to write instead.

use axum::body::Body;
use axum::response::IntoResponse;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use crate::ports::control::ControlError;
use crate::ports::store::StoreError;

/// A problem document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Problem {
    /// `urn:omnigate:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The HTTP status again.
    pub status: u16,
    /// `unauthorized`, `not_found`, `method`, `invalid`, `too_large`, `refused`, `failed`, `unavailable`.
    pub code: &'static str,
    /// What the code means.
    pub title: &'static str,
    /// What is wrong here.
    pub detail: String,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { kind: format!("urn:omnigate:problem:{code}"), status: status.as_u16(), code, title, detail: detail.into() }
    }

    /// 401: the bearer token is missing or wrong.
    pub fn unauthorized() -> Self {
        let detail = "send `authorization: Bearer <token>` with the token of [server] admin_token";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "the token is missing or wrong", detail)
    }

    /// 404: there is no such thing.
    pub fn missing(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "there is no such thing", detail)
    }

    /// 405: the path takes another method.
    pub fn method(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method", "the path takes another method", detail)
    }

    /// 400: the request itself is wrong.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", "the request cannot be used", detail)
    }

    /// 413: the body is too large.
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is too large", detail)
    }

    /// 503: the store did not answer.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the store does not answer", detail)
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Missing(detail) => Self::missing(detail),
            ControlError::Refused(detail) => Self::new(StatusCode::CONFLICT, "refused", "it cannot be done as asked", detail),
            ControlError::Failed(detail) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "failed", "it failed; trying again may help", detail)
            }
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::unavailable(error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = Response::new(Body::from(serde_json::to_vec(&self).unwrap_or_default()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match status {
            StatusCode::UNAUTHORIZED => drop(headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            StatusCode::SERVICE_UNAVAILABLE => drop(headers.insert(RETRY_AFTER, HeaderValue::from_static("5"))),
            StatusCode::METHOD_NOT_ALLOWED => drop(headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST"))),
            _ => {}
        }
        response
    }
}
