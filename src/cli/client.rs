//! Client of the private API of a running daemon.

use std::time::Duration;

use reqwest::header::AUTHORIZATION;
use reqwest::{Method, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cli::exit::Failure;

/// A daemon on this machine or in this network accepts within this time, or it is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A backup of a large store takes its time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3_600);

/// The private API.
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: SecretString,
}

/// What a problem document says (RFC 9457).
#[derive(Debug, Default, Deserialize)]
struct Problem {
    #[serde(default)]
    detail: String,
    #[serde(default)]
    title: String,
}

impl Client {
    /// A client for the daemon whose private listener is at `address`.
    pub fn new(address: std::net::SocketAddr, token: SecretString) -> Result<Self, Failure> {
        // A listener on all addresses is asked on this machine's own.
        let host = if address.ip().is_unspecified() { "127.0.0.1".to_owned() } else { address.ip().to_string() };
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let base = Url::parse(&format!("http://{host}:{}", address.port())).map_err(|error| Failure::Failed(error.to_string()))?;
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| Failure::Failed(error.to_string()))?;
        Ok(Self { http, base, token })
    }

    /// Whether a daemon answers.
    pub async fn answers(&self) -> bool {
        let Ok(url) = self.base.join("/healthz") else { return false };
        let asked = self.http.get(url).timeout(CONNECT_TIMEOUT).send().await;
        asked.is_ok_and(|answer| answer.status().is_success())
    }

    /// Reads `path`, with the fields of `query` as parameters.
    pub async fn read<T: DeserializeOwned>(&self, path: &[&str], query: &impl Serialize) -> Result<T, Failure> {
        let mut url = self.url(path)?;
        if let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(query) {
            for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                url.query_pairs_mut().append_pair(name, &text);
            }
        }
        let answer = self.send(Method::GET, url, None).await?;
        serde_json::from_slice(&answer).map_err(|error| Failure::Failed(format!("the daemon's answer cannot be read: {error}")))
    }

    /// Asks for something to be done.
    pub async fn ask<T: DeserializeOwned>(&self, path: &[&str], body: &impl Serialize) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(|error| Failure::Failed(error.to_string()))?;
        let answer = self.send(Method::POST, self.url(path)?, Some(body)).await?;
        // 204 and 202 have nothing to say.
        let text: &[u8] = if answer.is_empty() { b"null" } else { &answer };
        serde_json::from_slice(text).map_err(|error| Failure::Failed(format!("the daemon's answer cannot be read: {error}")))
    }

    /// Builds a URL from path segments; each is escaped, so that a name cannot become another path.
    fn url(&self, path: &[&str]) -> Result<Url, Failure> {
        let mut url = self.base.clone();
        let mut segments = url.path_segments_mut().map_err(|()| Failure::Failed("not a base URL".to_owned()))?;
        segments.clear().push("v1").extend(path);
        drop(segments);
        Ok(url)
    }

    async fn send(&self, method: Method, url: Url, body: Option<Vec<u8>>) -> Result<bytes::Bytes, Failure> {
        let mut request = self.http.request(method, url).header(AUTHORIZATION, format!("Bearer {}", self.token.expose_secret()));
        if let Some(body) = body {
            request = request.header(reqwest::header::CONTENT_TYPE, "application/json").body(body);
        }
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(|error| self.unreachable(&error))?;
        if status.is_success() { Ok(bytes) } else { Err(self.failure(status, &bytes)) }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let why = if error.is_timeout() { "no answer in time" } else { "no daemon answers" };
        Failure::Unreachable(format!("{why} at {}", self.base.as_str().trim_end_matches('/')))
    }

    fn failure(&self, status: StatusCode, body: &[u8]) -> Failure {
        let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
        let text = if problem.detail.is_empty() { problem.title } else { problem.detail };
        let text = if text.is_empty() { format!("the daemon answered {status}") } else { text };
        match status {
            StatusCode::UNAUTHORIZED => {
                Failure::Refused("the daemon at this address has another admin token: is --config the daemon's own?".into())
            }
            StatusCode::NOT_FOUND => Failure::Missing(text),
            StatusCode::CONFLICT | StatusCode::BAD_REQUEST => Failure::Refused(text),
            _ => Failure::Failed(text),
        }
    }
}
