//! The wire below the IMAP parser: any stream, with two limits that async-imap does not have.
//!
//! What must stay true: a silent peer ends a read after `patience`, and no line, literal or response over the limit is ever
//! buffered: the size marker is read here, before the parser makes room for it (I6). A line that ends with a mere LF gets its CR, which
//! the parser insists on; the bytes of literals are never touched.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Longest part of a response outside of literals. The longest real ones are lists of keywords and capabilities.
pub const LINE_BYTES_MAX: u64 = 256 * 1024;
/// What a response may have beside its one large literal.
const RESPONSE_SLACK_BYTES: u64 = 1024 * 1024;
/// Enough of a line's end to read a size marker of 20 digits.
const TAIL_BYTES: usize = 32;

/// A byte stream that IMAP runs over.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug> Duplex for T {}

/// Why the wire gave up. Its text is ours alone, without a byte from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Nothing came for this long.
    #[error("nothing came for {} s", .0.as_secs())]
    Silent(Duration),
    /// A literal, line or response is over the limit.
    #[error("a response is larger than {0} bytes")]
    TooLarge(u64),
    /// Lists in lists, more than any answer has.
    #[error("a response has lists without end")]
    TooDeep,
}

impl WireError {
    /// The wire's own reason inside an error that passed through the parser.
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref::<Self>()).copied()
    }
}

/// A guarded stream.
pub struct Wire {
    inner: Box<dyn Duplex>,
    patience: Duration,
    alarm: Pin<Box<Sleep>>,
    alarm_set: bool,
    frame: Frame,
    /// Guarded bytes that there was no room for.
    left: Vec<u8>,
}

impl Wire {
    /// Guards `inner`: reads end after `patience` of silence, literals may have `literal_bytes_max`.
    pub fn new(inner: Box<dyn Duplex>, patience: Duration, literal_bytes_max: u64) -> Self {
        Self {
            inner,
            patience,
            alarm: Box::pin(tokio::time::sleep(patience)),
            alarm_set: false,
            frame: Frame::new(literal_bytes_max),
            left: Vec::new(),
        }
    }

    /// From now on, this much silence is borne.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
        self.alarm_set = false;
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("patience", &self.patience).finish_non_exhaustive()
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.left.is_empty() {
            put(&mut this.left, buf);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.inner).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                this.alarm_set = false;
                let come = buf.filled().get(before..).unwrap_or_default();
                let passed = this.frame.pass(come).map_err(io::Error::other);
                if !this.frame.bare.is_empty() {
                    this.left = this.frame.mended(come);
                    buf.set_filled(before);
                    put(&mut this.left, buf);
                }
                Poll::Ready(passed)
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                if !this.alarm_set {
                    this.alarm.as_mut().reset(Instant::now() + this.patience);
                    this.alarm_set = true;
                }
                match this.alarm.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, WireError::Silent(this.patience)))),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Moves as much as there is room for.
pub fn put(left: &mut Vec<u8>, buf: &mut ReadBuf<'_>) {
    let here = left.len().min(buf.remaining());
    buf.put_slice(left.get(..here).unwrap_or_default());
    left.drain(..here);
}

/// Where in the framing of responses the stream is: in a line, or in a literal of known length.
struct Frame {
    literal_bytes_max: u64,
    literal_left: u64,
    line: u64,
    response: u64,
    tail: Vec<u8>,
    /// Where in what passed last a line ended without CR.
    bare: Vec<usize>,
}

impl Frame {
    fn new(literal_bytes_max: u64) -> Self {
        Self { literal_bytes_max, literal_left: 0, line: 0, response: 0, tail: Vec::with_capacity(2 * TAIL_BYTES), bare: Vec::new() }
    }

    /// Follows the framing over what came.
    fn pass(&mut self, mut bytes: &[u8]) -> Result<(), WireError> {
        let whole = bytes.len();
        self.bare.clear();
        while !bytes.is_empty() {
            if self.literal_left > 0 {
                let here = usize::try_from(self.literal_left).unwrap_or(usize::MAX).min(bytes.len());
                self.literal_left -= here as u64;
                bytes = bytes.get(here..).unwrap_or_default();
                continue;
            }
            let end = bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            let (part, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            self.line += part.len() as u64;
            if self.line > LINE_BYTES_MAX {
                return Err(WireError::TooLarge(LINE_BYTES_MAX));
            }
            if let [before @ .., b'\n'] = part
                && before.last().or(self.tail.last()) != Some(&b'\r')
            {
                self.bare.push(whole - bytes.len() + before.len());
            }
            self.remember(part);
            if end.is_some() {
                self.end_line()?;
            }
            bytes = rest;
        }
        Ok(())
    }

    /// What passed last, with a CR where one was missing.
    fn mended(&self, passed: &[u8]) -> Vec<u8> {
        let mut mended = Vec::with_capacity(passed.len() + self.bare.len());
        let mut from = 0;
        for at in &self.bare {
            mended.extend_from_slice(passed.get(from..*at).unwrap_or_default());
            mended.push(b'\r');
            from = *at;
        }
        mended.extend_from_slice(passed.get(from..).unwrap_or_default());
        mended
    }

    fn remember(&mut self, part: &[u8]) {
        self.tail.extend_from_slice(part.get(part.len().saturating_sub(TAIL_BYTES)..).unwrap_or_default());
        let excess = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..excess);
    }

    fn end_line(&mut self) -> Result<(), WireError> {
        self.response = self.response.saturating_add(self.line);
        self.line = 0;
        let literal = literal_marker(&self.tail);
        self.tail.clear();
        let Some(length) = literal else {
            self.response = 0;
            return Ok(());
        };
        self.response = self.response.saturating_add(length);
        let most = self.literal_bytes_max.saturating_add(RESPONSE_SLACK_BYTES);
        if length > self.literal_bytes_max || self.response > most {
            return Err(WireError::TooLarge(self.literal_bytes_max));
        }
        self.literal_left = length;
        Ok(())
    }
}

/// The length that `… {123}\r\n` announces.
pub fn literal_marker(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"\n")?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = line.strip_suffix(b"}")?;
    let line = line.strip_suffix(b"+").unwrap_or(line);
    let open = line.iter().rposition(|byte| *byte == b'{')?;
    let digits = line.get(open + 1..)?;
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // A number that does not fit is over any limit.
    Some(std::str::from_utf8(digits).ok()?.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(max: u64, chunks: &[&[u8]]) -> Result<(), WireError> {
        let mut frame = Frame::new(max);
        chunks.iter().try_for_each(|chunk| frame.pass(chunk))
    }

    #[test]
    fn a_literal_at_the_limit_passes_and_one_over_does_not() {
        assert_eq!(passes(5, &[b"* 1 FETCH (BODY[] {5}\r\nhello)\r\n"]), Ok(()));
        assert_eq!(passes(5, &[b"* 1 FETCH (BODY[] {6}\r\n"]), Err(WireError::TooLarge(5)));
        assert_eq!(passes(5, &[b"* 1 FETCH (BODY[] {99999999999999999999}\r\n"]), Err(WireError::TooLarge(5)));
    }

    #[test]
    fn a_marker_split_over_reads_is_seen() {
        assert_eq!(passes(5, &[b"* 1 FETCH (BODY[] {", b"60000", b"0000}\r", b"\n"]), Err(WireError::TooLarge(5)));
    }

    #[test]
    fn what_looks_like_a_marker_inside_a_literal_is_content() {
        assert_eq!(passes(20, &[b"* 1 FETCH (BODY[] {9}\r\na {900}\r\n)\r\n"]), Ok(()));
    }

    #[test]
    fn a_response_of_many_literals_is_bounded() {
        let one = [b"x {1000000}\r\n".as_slice(), &[b'a'; 1_000_000]].concat();
        assert_eq!(passes(1_000_000, &[&one, b")\r\n", &one, b")\r\n", &one]), Ok(()));
        assert_eq!(passes(1_000_000, &[&one, &one, &one]), Err(WireError::TooLarge(1_000_000)));
    }

    #[tokio::test]
    async fn a_line_that_ends_with_lf_gets_its_cr_and_the_bytes_of_a_mail_stay_whatever_the_reads_are() {
        use tokio::io::AsyncReadExt as _;

        let sent = b"* 1 EXISTS\n\n* 1 FETCH (BODY[] {7}\na\nb\r\n\nc)\n* 2 EXISTS\r\nA1 OK\n";
        let expected = b"* 1 EXISTS\r\n\r\n* 1 FETCH (BODY[] {7}\r\na\nb\r\n\nc)\r\n* 2 EXISTS\r\nA1 OK\r\n";
        for piece in 1..sent.len() {
            for room in [1, 3, 64] {
                // The pipe holds one piece: each comes by a read of its own.
                let (mut peer, ours) = tokio::io::duplex(piece);
                let mut wire = Wire::new(Box::new(ours), Duration::from_secs(5), 100);
                let feed = tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut peer, sent).await });
                let (mut came, mut part) = (Vec::new(), vec![0; room]);
                while came.len() < expected.len() {
                    let read = wire.read(&mut part).await.unwrap();
                    assert_ne!(read, 0, "no empty read is taken for the end");
                    came.extend_from_slice(&part[..read]);
                }
                assert_eq!(came, expected, "pieces of {piece}, room for {room}");
                feed.await.unwrap().unwrap();
            }
        }
    }

    #[test]
    fn an_endless_line_is_refused() {
        let part = [b'a'; 4096];
        let mut frame = Frame::new(5);
        let refused = (0..1000).find_map(|_| frame.pass(&part).err());
        assert_eq!(refused, Some(WireError::TooLarge(LINE_BYTES_MAX)));
    }
}
