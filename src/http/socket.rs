//! Websockets (RFC 6455), client side. Frames and messages are bounded; pings of the peer are answered below.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::http::client::HttpClient;
use crate::http::dial::{self, Duplex};
use crate::model::codes::Code;
use crate::ports::http::{HttpAnswer, HttpError, HttpRequest};

/// The handshake of the websocket itself, after TCP and TLS.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(15);
/// The answer to a close takes no longer.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);
/// Of a reason to close this much is shown.
const REASON_CHARS_MAX: usize = 120;

/// A connected websocket.
pub struct Socket(WebSocketStream<Box<dyn Duplex>>);

/// What a websocket brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketNews {
    /// A message, whole.
    Message(Bytes),
    /// A ping or pong: the peer lives.
    Alive,
    /// The peer has closed it.
    Closed {
        /// Its code, if it gave one.
        code: Option<u16>,
        /// Its words, cut and on one line.
        reason: String,
    },
}

/// Why there is no websocket.
#[derive(Debug)]
pub enum SocketError {
    /// No answer.
    Http(HttpError),
    /// An answer that is no websocket; its status says why.
    Answer(HttpAnswer),
}

impl HttpClient {
    /// Makes a websocket of a GET request.
    ///
    /// # Errors
    /// See [`SocketError`].
    pub async fn socket(&self, request: &HttpRequest, protocol: Option<&str>, message_bytes_max: usize) -> Result<Socket, SocketError> {
        let place = request.place();
        let judged = self.judge(request).map_err(SocketError::Http)?;
        let broken = |detail: String| SocketError::Http(HttpError { code: Code::Invariant, sent: false, detail });
        let secured = request.url.scheme() == "https";
        let mut url = request.url.to_string();
        // The schemes differ in their name only (RFC 6455 §3).
        url.replace_range(..4, "ws");
        let mut upgrade = url.into_client_request().map_err(|_| broken(format!("{place}: no websocket address")))?;
        let agent = concat!("omnigate/", env!("CARGO_PKG_VERSION"));
        upgrade.headers_mut().insert("user-agent", HeaderValue::from_static(agent));
        for (name, value) in request
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .chain(protocol.map(|one| ("sec-websocket-protocol", one)))
        {
            let name: HeaderName = name.parse().map_err(|_| broken(format!("`{name}` is no header name")))?;
            let mut value = HeaderValue::from_str(value).map_err(|_| broken(format!("the value of `{name}` is no header value")))?;
            value.set_sensitive(true);
            upgrade.headers_mut().insert(name, value);
        }
        let host = request.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let tcp = dial::tcp(host, request.url.port_or_known_default().unwrap_or_default(), judged).await.map_err(SocketError::Http)?;
        let stream: Box<dyn Duplex> =
            if secured { Box::new(dial::secure(tcp, host, &place).await.map_err(SocketError::Http)?) } else { Box::new(tcp) };
        let config = WebSocketConfig::default().max_message_size(Some(message_bytes_max)).max_frame_size(Some(message_bytes_max));
        let shaking = tokio_tungstenite::client_async_with_config(upgrade, stream, Some(config));
        match tokio::time::timeout(HANDSHAKE_WITHIN, shaking).await {
            Ok(Ok((socket, _))) => Ok(Socket(socket)),
            Ok(Err(Error::Http(answer))) => Err(SocketError::Answer(answered(*answer))),
            Ok(Err(error)) => {
                let code = if matches!(error, Error::Io(_)) { Code::Connect } else { Code::Protocol };
                Err(SocketError::Http(HttpError { code, sent: true, detail: format!("{place}: the websocket's handshake: {error}") }))
            }
            Err(_) => {
                let detail = format!("{place}: no answer to the websocket's handshake in {} s", HANDSHAKE_WITHIN.as_secs());
                Err(SocketError::Http(HttpError { code: Code::Timeout, sent: true, detail }))
            }
        }
    }
}

fn answered(answer: tokio_tungstenite::tungstenite::http::Response<Option<Vec<u8>>>) -> HttpAnswer {
    let (head, body) = answer.into_parts();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    HttpAnswer {
        status: head.status.as_u16(),
        headers: head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect(),
        body: body.unwrap_or_default().into(),
    }
}

impl Socket {
    /// The next thing. Cancel-safe.
    ///
    /// # Errors
    /// One line: the connection is lost, or what came is no websocket, or too large.
    pub async fn next(&mut self) -> Result<SocketNews, String> {
        match self.0.next().await {
            None | Some(Err(Error::ConnectionClosed | Error::AlreadyClosed)) => {
                Ok(SocketNews::Closed { code: None, reason: String::new() })
            }
            Some(Ok(Message::Text(text))) => Ok(SocketNews::Message(text.into())),
            Some(Ok(Message::Binary(bytes))) => Ok(SocketNews::Message(bytes)),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(SocketNews::Alive),
            Some(Ok(Message::Close(frame))) => {
                // The answer to it waits for a next call that may never come; a peer that takes none is left alone.
                let _ = tokio::time::timeout(GOODBYE_WITHIN, self.0.flush()).await;
                let words = frame.as_ref().map_or("", |frame| frame.reason.as_str());
                let reason = words.chars().map(|char| if char.is_control() { ' ' } else { char }).take(REASON_CHARS_MAX).collect();
                Ok(SocketNews::Closed { code: frame.map(|frame| frame.code.into()), reason })
            }
            Some(Err(error)) => Err(error.to_string()),
        }
    }

    /// Sends a text.
    ///
    /// # Errors
    /// One line: the connection is lost.
    pub async fn say(&mut self, text: String) -> Result<(), String> {
        self.0.send(Message::text(text)).await.map_err(|error| error.to_string())
    }

    /// Sends a ping.
    ///
    /// # Errors
    /// One line: the connection is lost.
    pub async fn ping(&mut self) -> Result<(), String> {
        self.0.send(Message::Ping(Bytes::new())).await.map_err(|error| error.to_string())
    }

    /// Says goodbye with a code; does not wait for the answer.
    ///
    /// # Errors
    /// One line: the connection is lost.
    pub async fn close(&mut self, code: u16) -> Result<(), String> {
        let frame = CloseFrame { code: CloseCode::from(code), reason: "".into() };
        self.0.close(Some(frame)).await.map_err(|error| error.to_string())
    }
}
