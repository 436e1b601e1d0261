//! Wires: what carries frames. Whole frames come out, each bounded; what is no frame but shows that the peer lives says so.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::engines::stream::talk::Say;
use crate::engines::stream::xml;
use crate::http::dial::Duplex;
use crate::http::flow::Flow;
use crate::http::socket::{Socket, SocketNews};

/// A peer that does not take what we say for so long is dead.
const SAY_WITHIN: Duration = Duration::from_secs(10);

/// A connection.
pub enum Wire {
    /// A websocket.
    Socket(Socket),
    /// An answer that goes on.
    Flow(Flow, Cutter),
    /// A connection of its own protocol.
    Plain(Box<dyn Duplex>, Cutter),
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// A frame, whole.
    Frame(Bytes),
    /// The peer lives.
    Alive,
    /// The peer ended it.
    Closed {
        /// The code of a websocket.
        code: Option<u16>,
        /// The peer's words.
        reason: String,
    },
}

impl Wire {
    /// The next thing. Cancel-safe.
    ///
    /// # Errors
    /// One line: the connection is lost, or what came is too large or no frame.
    pub async fn next(&mut self) -> Result<News, String> {
        match self {
            Self::Socket(socket) => Ok(match socket.next().await? {
                SocketNews::Message(bytes) => News::Frame(bytes),
                SocketNews::Alive => News::Alive,
                SocketNews::Closed { code, reason } => News::Closed { code, reason },
            }),
            Self::Flow(flow, cutter) => loop {
                if let Some(news) = cutter.cut()? {
                    return Ok(news);
                }
                match flow.next().await? {
                    Some(bytes) => cutter.buffer.extend_from_slice(&bytes),
                    None => return Ok(News::Closed { code: None, reason: String::new() }),
                }
            },
            Self::Plain(stream, cutter) => loop {
                if let Some(news) = cutter.cut()? {
                    return Ok(news);
                }
                if stream.read_buf(&mut cutter.buffer).await.map_err(|error| error.kind().to_string())? == 0 {
                    return Ok(News::Closed { code: None, reason: String::new() });
                }
            },
        }
    }

    /// How long its peer wants to be left alone once this has ended (`retry` of server-sent events).
    pub fn pause(&self) -> Option<Duration> {
        match self {
            Self::Flow(_, Cutter { by: By::Events { retry, .. }, .. }) => *retry,
            _ => None,
        }
    }

    /// Says something.
    ///
    /// # Errors
    /// One line: the connection is lost, or the peer takes nothing.
    pub async fn say(&mut self, say: Say) -> Result<(), String> {
        let saying = async {
            match (self, say) {
                (Self::Socket(socket), Say::Text(text)) => socket.say(text).await,
                (Self::Socket(socket), Say::Ping) => socket.ping().await,
                (Self::Socket(socket), Say::Close(code)) => socket.close(code).await,
                (Self::Plain(stream, _), Say::Text(text)) => {
                    let written = async {
                        stream.write_all(text.as_bytes()).await?;
                        stream.flush().await
                    };
                    written.await.map_err(|error| error.kind().to_string())
                }
                // Nothing can be said on an answer; the manifest's check sees to it that nobody wants to.
                _ => Ok(()),
            }
        };
        tokio::time::timeout(SAY_WITHIN, saying).await.unwrap_or_else(|_| Err("the peer takes nothing".to_owned()))
    }
}

/// Cuts bytes into frames.
#[derive(Debug)]
pub struct Cutter {
    buffer: BytesMut,
    by: By,
    max: usize,
}

#[derive(Debug)]
enum By {
    Lines,
    Events { event: String, data: String, id: String, retry: Option<Duration> },
    Stanzas(xml::Splitter),
}

impl Cutter {
    /// A frame a line; empty ones are signs of life.
    pub fn lines(max: usize) -> Self {
        Self { buffer: BytesMut::new(), by: By::Lines, max }
    }

    /// Server-sent events: a frame is `{"event", "data", "id"}`.
    pub fn events(max: usize) -> Self {
        Self { buffer: BytesMut::new(), by: By::Events { event: String::new(), data: String::new(), id: String::new(), retry: None }, max }
    }

    /// Elements of an XML stream, the opening of the stream first.
    pub fn stanzas(max: usize) -> Self {
        Self { buffer: BytesMut::new(), by: By::Stanzas(xml::Splitter::default()), max }
    }

    /// A new stream begins on the same connection; what is left of the old one is void.
    pub fn restart(&mut self) {
        self.buffer.clear();
        if let By::Stanzas(splitter) = &mut self.by {
            splitter.restart();
        }
    }

    fn cut(&mut self) -> Result<Option<News>, String> {
        if let By::Stanzas(splitter) = &mut self.by {
            return match splitter.next(&mut self.buffer, self.max)? {
                Some(frame) if frame.is_empty() => Ok(Some(News::Alive)),
                other => Ok(other.map(News::Frame)),
            };
        }
        loop {
            let Some(at) = memchr::memchr(b'\n', &self.buffer) else {
                return if self.buffer.len() > self.max { Err(self.too_long()) } else { Ok(None) };
            };
            if at > self.max {
                return Err(self.too_long());
            }
            let mut line = self.buffer.split_to(at).freeze();
            self.buffer.advance(1);
            if line.last() == Some(&b'\r') {
                line.truncate(line.len() - 1);
            }
            let By::Events { event, data, id, retry } = &mut self.by else {
                return Ok(Some(if line.is_empty() { News::Alive } else { News::Frame(line) }));
            };
            let text = String::from_utf8_lossy(&line);
            if text.is_empty() {
                if data.is_empty() {
                    event.clear();
                    return Ok(Some(News::Alive));
                }
                let (event, data) = (std::mem::take(event), std::mem::take(data));
                let frame = serde_json::json!({"event": event, "data": data, "id": id});
                return Ok(Some(News::Frame(frame.to_string().into())));
            }
            if text.starts_with(':') {
                return Ok(Some(News::Alive));
            }
            let (name, value) = text.split_once(':').unwrap_or((&text, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                "event" => value.clone_into(event),
                "id" => value.clone_into(id),
                "retry" => *retry = value.parse().ok().map(Duration::from_millis).or(*retry),
                "data" if data.len() + value.len() > self.max => return Err(self.too_long()),
                "data" => {
                    if !data.is_empty() {
                        data.push('\n');
                    }
                    data.push_str(value);
                }
                _ => {}
            }
        }
    }

    fn too_long(&self) -> String {
        format!("a frame is longer than {} bytes", self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(mut cutter: Cutter, pieces: &[&str], expected: &[&str]) {
        let mut found = Vec::new();
        for piece in pieces {
            cutter.buffer.extend_from_slice(piece.as_bytes());
            while let Ok(Some(news)) = cutter.cut() {
                found.push(match news {
                    News::Frame(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                    _ => String::new(),
                });
            }
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn frames_are_whole_however_they_are_cut() {
        check(Cutter::lines(50), &["{\"a\"", ":1}\r", "\n\n{}\n{"], &["{\"a\":1}", "", "{}"]);
        check(
            Cutter::events(200),
            &[":thump\n", "event: notif", "ication\nid: 7\ndata: {\"id\":\ndata: 1}\n", "\n\n"],
            &["", "{\"data\":\"{\\\"id\\\":\\n1}\",\"event\":\"notification\",\"id\":\"7\"}", ""],
        );
    }

    #[test]
    fn a_frame_without_an_end_is_given_up() {
        let mut cutter = Cutter::lines(10);
        cutter.buffer.extend_from_slice(b"12345678901");
        assert!(cutter.cut().is_err());
        let mut cutter = Cutter::events(10);
        cutter.buffer.extend_from_slice(b"data: 1234\ndata: 56789012\n\n");
        assert!(cutter.cut().is_err());
    }
}
