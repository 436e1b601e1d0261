//! Flows: answers without an end, read as they come (server-sent events, JSON lines).

use bytes::Bytes;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Response, StatusCode};
use tokio::time::Instant;

use crate::http::client::{HttpClient, innermost, late, read};
use crate::ports::http::{HttpAnswer, HttpError, HttpRequest};

/// An answer whose body goes on.
#[derive(Debug)]
pub struct Flow {
    response: Response,
}

/// What a request for a flow gave.
#[derive(Debug)]
pub enum FlowAnswer {
    /// It flows.
    Flow(Flow),
    /// An answer with an end: no flow.
    Answer(HttpAnswer),
}

impl HttpClient {
    /// Sends a request whose answer is read as it comes, if it is a 200 of a media type that flows (`None`: it names none): a page of
    /// something in between comes with 200, too. `within` bounds the time to the head of a flow, and to the end of every other answer.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn flow(&self, request: HttpRequest, flows: fn(Option<&str>) -> bool) -> Result<FlowAnswer, HttpError> {
        let (place, max, until) = (request.place(), request.answer_bytes_max, Instant::now() + request.within);
        let within = request.within;
        let response = self.begin(request).await?;
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_ascii_lowercase);
        if response.status() == StatusCode::OK && flows(kind.as_deref()) {
            return Ok(FlowAnswer::Flow(Flow { response }));
        }
        match tokio::time::timeout_at(until, read(response, max, &place)).await {
            Ok(answer) => answer.map(FlowAnswer::Answer),
            Err(_) => Err(late(&place, within)),
        }
    }
}

impl Flow {
    /// The next bytes; `None` at the end. Cancel-safe.
    ///
    /// # Errors
    /// One line, without the address.
    pub async fn next(&mut self) -> Result<Option<Bytes>, String> {
        self.response.chunk().await.map_err(|error| innermost(&error))
    }
}
