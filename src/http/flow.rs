//! Flows: answers without an end, read as they come (server-sent events, JSON lines).

use bytes::Bytes;
use reqwest::Response;

use crate::http::client::{HttpClient, innermost};
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
    /// Sends a request whose answer is read as it comes. `within` bounds the time to the head of the answer.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn flow(&self, request: HttpRequest) -> Result<FlowAnswer, HttpError> {
        let (place, max) = (request.place(), request.answer_bytes_max);
        let response = self.begin(request).await?;
        if response.status().is_success() {
            return Ok(FlowAnswer::Flow(Flow { response }));
        }
        crate::http::client::read(response, max, &place).await.map(FlowAnswer::Answer)
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
