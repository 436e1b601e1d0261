//! What servers say that is not quite IMAP, mended before the parser reads it: for the parser one odd line is the end of the connection,
//! and a server says the same line in every session.
//!
//! What must stay true: an answer is never left out, nor does its content change. Only untagged lines that nobody asked for are passed over
//! (`* XFOO …`, an ID with spaces in it); a FETCH that cannot be read still ends the session, because it may be the answer for a mail. The
//! bytes of literals pass as they are. What would make the parser end the process (`INTERNALDATE NIL`, lists without end) never
//! reaches it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_imap::imap_proto::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::engines::imap::wire::{LINE_BYTES_MAX, WireError, literal_marker, put};

/// Lists in lists. What we ask for has three levels; the parser goes down with each, on the stack.
const DEPTH_MAX: usize = 16;
/// What is read and never passed over; what the parser reads over several lines; what only says something to people.
const READ: &[&str] = &["CAPABILITY", "EXISTS", "EXPUNGE", "FETCH"];
const LONG: &[&str] = &["LIST", "LSUB", "STATUS", "ID"];
const SAID: &[&str] = &["OK", "NO", "BAD", "BYE", "PREAUTH"];

/// A stream whose responses are mended.
pub struct Mended<S> {
    inner: S,
    /// What is not a whole line yet.
    held: Vec<u8>,
    /// Mended bytes that there was no room for.
    ready: Vec<u8>,
    /// What comes behind them cannot be read.
    broken: Option<WireError>,
    place: Place,
}

/// Where in a response the stream is.
#[derive(Debug, Default)]
struct Place {
    /// Bytes of the literal it is in.
    literal_left: u64,
    /// The next line goes on with the response before it.
    goes_on: bool,
    /// This response is passed over.
    skipped: bool,
    /// Lists that are open.
    depth: usize,
}

/// What becomes of a line.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It stays as it is.
    Stays,
    /// It is said otherwise.
    Reads(Vec<u8>),
    /// It is passed over.
    Skip,
    /// It cannot be read safely.
    Unreadable,
}

impl<S> Mended<S> {
    /// Mends `inner`; `early` came from it before.
    pub fn new(inner: S, early: &[u8]) -> Self {
        let mut mended = Self { inner, held: Vec::new(), ready: Vec::new(), broken: None, place: Place::default() };
        let (passed, out) = mended.follow(early);
        mended.ready = out.unwrap_or_else(|| early.get(..passed).unwrap_or_default().to_vec());
        mended
    }

    /// Follows what came: how much of it passes as it is, and what is said in its stead if something was mended. The rest is held.
    fn follow(&mut self, come: &[u8]) -> (usize, Option<Vec<u8>>) {
        let mut out = (!self.held.is_empty()).then(Vec::new);
        let mut at = 0;
        while let Some(rest) = come.get(at..).filter(|rest| !rest.is_empty()) {
            if self.place.literal_left > 0 {
                let here = usize::try_from(self.place.literal_left).unwrap_or(usize::MAX).min(rest.len());
                self.place.literal_left -= here as u64;
                if self.place.skipped {
                    out.get_or_insert_with(|| begin(come, at));
                } else if let Some(out) = &mut out {
                    out.extend_from_slice(rest.get(..here).unwrap_or_default());
                }
                at += here;
                continue;
            }
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                self.held.extend_from_slice(rest);
                if self.held.len() as u64 > LINE_BYTES_MAX {
                    self.broken = Some(WireError::TooLarge(LINE_BYTES_MAX));
                }
                break;
            };
            let part = rest.get(..=end).unwrap_or_default();
            let joined = (!self.held.is_empty()).then(|| [&self.held, part].concat());
            let line = joined.as_deref().unwrap_or(part);
            let verdict = self.place.judge(line);
            self.place.after(line);
            match verdict {
                Verdict::Stays => {
                    if let Some(out) = &mut out {
                        out.extend_from_slice(line);
                    }
                }
                Verdict::Reads(other) => out.get_or_insert_with(|| begin(come, at)).extend_from_slice(&other),
                Verdict::Skip => {
                    out.get_or_insert_with(|| begin(come, at));
                }
                Verdict::Unreadable => {
                    self.broken = Some(WireError::TooDeep);
                    break;
                }
            }
            self.held.clear();
            at += end + 1;
        }
        (at, out)
    }
}

/// What passed before the first thing that is mended.
fn begin(come: &[u8], at: usize) -> Vec<u8> {
    come.get(..at).unwrap_or_default().to_vec()
}

impl Place {
    /// What becomes of a line, with its end.
    fn judge(&mut self, line: &[u8]) -> Verdict {
        let bare = line.trim_ascii_end();
        if self.goes_on {
            return if self.skipped { Verdict::Skip } else { self.fetched(line) };
        }
        self.depth = 0;
        self.skipped = false;
        let Some(rest) = bare.strip_prefix(b"* ") else {
            if bare.strip_prefix(b"+ ").is_some_and(|asked| STANDARD.decode(asked).is_err()) {
                // The words of a question back mean nothing; at a login the parser takes them for a challenge.
                return Verdict::Reads(b"+ \r\n".to_vec());
            }
            // Nothing is an empty line an answer to; the rest is the tagged end of a command, or a question back.
            return if bare.is_empty() || bare == b"*" { Verdict::Skip } else { cleaned(line) };
        };
        let mut words = rest.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        let first = words.next().unwrap_or_default();
        let number = !first.is_empty() && first.iter().all(u8::is_ascii_digit);
        let word = if number { words.next().unwrap_or_default() } else { first };
        if is(word, SAID) {
            return cleaned(line);
        }
        if number && is(word, &["FETCH"]) {
            return self.fetched(line);
        }
        let whole = literal_marker(line).is_none();
        if self.is_shallow(line) && if whole { reads(line) } else { is(word, LONG) } {
            return Verdict::Stays;
        }
        if is(word, &["CAPABILITY"]) {
            return capabilities(rest);
        }
        // Only what looks like the name of a response: anything else may be a mail whose length was told wrongly.
        let named = !word.is_empty() && word.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
        if named && !is(word, READ) {
            tracing::debug!("a response that cannot be read is passed over");
            self.skipped = true;
            return Verdict::Skip;
        }
        Verdict::Stays
    }

    /// A line of a FETCH.
    fn fetched(&mut self, line: &[u8]) -> Verdict {
        if !self.is_shallow(line) {
            return Verdict::Unreadable;
        }
        let mut text = dated(line);
        if let Some(marker) = text.iter().rposition(|byte| *byte == b'{').filter(|_| literal_marker(line).is_some()) {
            // Literals of other kinds are literals all the same.
            if marker > 0 && text.get(marker - 1) == Some(&b'~') {
                text.remove(marker - 1);
            }
            if let Some(plus) = text.iter().rposition(|byte| *byte == b'+').filter(|plus| text.get(plus + 1) == Some(&b'}')) {
                text.remove(plus);
            }
        } else if !self.goes_on && !reads(&text) {
            let spaced = dated(&spaced(&text));
            if reads(&spaced) {
                text = spaced;
            } else if !text.windows(4).any(|four| four.eq_ignore_ascii_case(b"UID ")) {
                // Every answer that we ask for has its UID: this one is somebody else's change.
                return Verdict::Skip;
            }
        }
        if text == line { Verdict::Stays } else { Verdict::Reads(text) }
    }

    /// Counts what lists a line opens.
    fn is_shallow(&mut self, line: &[u8]) -> bool {
        let (mut quoted, mut escaped) = (false, false);
        for byte in line {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b'(' if !quoted => self.depth += 1,
                b')' if !quoted => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            if self.depth > DEPTH_MAX {
                return false;
            }
        }
        true
    }

    /// Goes on behind a line.
    fn after(&mut self, line: &[u8]) {
        let literal = literal_marker(line);
        self.literal_left = literal.unwrap_or(0);
        self.goes_on = literal.is_some();
    }
}

fn is(word: &[u8], of: &[&str]) -> bool {
    of.iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes()))
}

/// Whether the parser reads a whole line. It insists on CR.
fn reads(line: &[u8]) -> bool {
    let whole = [ended(line), b"\r\n"].concat();
    matches!(Response::parse(&whole), Ok((rest, _)) if rest.is_empty())
}

/// A line without its end.
fn ended(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Text without the bytes that the parser stops at.
fn cleaned(line: &[u8]) -> Verdict {
    let odd = |byte: &u8| matches!(byte, 0 | b'\r');
    let text = ended(line);
    if !text.iter().any(odd) {
        return Verdict::Stays;
    }
    let mut clean: Vec<u8> = text.iter().map(|byte| if odd(byte) { b' ' } else { *byte }).collect();
    clean.extend_from_slice(b"\r\n");
    Verdict::Reads(clean)
}

/// The list as the parser wants it: one space between, and the name of the protocol in it.
fn capabilities(rest: &[u8]) -> Verdict {
    let words = rest.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty()).skip(1);
    let mut line = b"* CAPABILITY IMAP4rev1".to_vec();
    for word in words.filter(|word| !word.eq_ignore_ascii_case(b"IMAP4rev1")) {
        line.push(b' ');
        line.extend_from_slice(word);
    }
    line.extend_from_slice(b"\r\n");
    if reads(&line) { Verdict::Reads(line) } else { Verdict::Stays }
}

/// With one space between words, and none inside of brackets.
fn spaced(line: &[u8]) -> Vec<u8> {
    let (mut out, mut quoted, mut escaped): (Vec<u8>, bool, bool) = (Vec::with_capacity(line.len()), false, false);
    for byte in ended(line).iter().copied() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b' ' if !quoted && matches!(out.last(), Some(b' ' | b'(')) => continue,
            b')' if !quoted && out.last() == Some(&b' ') => {
                out.pop();
            }
            _ => {}
        }
        out.push(byte);
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Some servers do not know when a mail came in; the parser takes that for impossible, and panics.
fn dated(line: &[u8]) -> Vec<u8> {
    const NONE: &[u8] = b"INTERNALDATE NIL";
    let (mut out, mut rest) = (Vec::with_capacity(line.len()), line);
    while let Some(at) = rest.windows(NONE.len()).position(|some| some.eq_ignore_ascii_case(NONE)) {
        out.extend_from_slice(rest.get(..at).unwrap_or_default());
        out.extend_from_slice(b"INTERNALDATE \"\"");
        rest = rest.get(at + NONE.len()..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out
}

impl<S: AsyncRead + Unpin> AsyncRead for Mended<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.ready.is_empty() || buf.remaining() == 0 {
                put(&mut this.ready, buf);
                return Poll::Ready(Ok(()));
            }
            if let Some(error) = this.broken {
                return Poll::Ready(Err(io::Error::other(error)));
            }
            let before = buf.filled().len();
            match Pin::new(&mut this.inner).poll_read(cx, buf) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
            let come = buf.filled().get(before..).unwrap_or_default();
            if come.is_empty() {
                // The end: what is not a whole line is handed on, so that it is missed.
                this.ready = std::mem::take(&mut this.held);
                if this.ready.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            let followed = this.follow(come);
            buf.set_filled(before);
            match followed {
                (_, Some(out)) => this.ready = out,
                // They are there already.
                (passed, None) => buf.set_filled(before + passed),
            }
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Mended<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S> fmt::Debug for Mended<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mended").field("place", &self.place).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
