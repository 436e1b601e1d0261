//! XML streams (RFC 6120 §4): the stream's opening, then its children one by one, found without parsing what is inside of them.
//!
//! What must stay true: a child is bounded in bytes and depth; what a stream must not hold (comments, processing instructions, DTDs,
//! RFC 6120 §11.1) ends it.

use bytes::{Bytes, BytesMut};

/// Elements inside of each other.
const DEPTH_MAX: usize = 64;

/// Where the splitter stands.
#[derive(Debug, Default)]
pub struct Splitter {
    /// The stream's own opening tag has been seen.
    opened: bool,
    /// Bytes of the buffer that were looked at.
    seen: usize,
    depth: usize,
}

impl Splitter {
    /// A new stream begins on the same connection (after SASL).
    pub fn restart(&mut self) {
        *self = Self::default();
    }

    /// The next whole part: the opening of the stream, `</…>` for its end, or a child. White space between children is empty.
    pub fn next(&mut self, buffer: &mut BytesMut, max: usize) -> Result<Option<Bytes>, String> {
        if self.depth == 0 && self.seen == 0 {
            let blank = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            if blank > 0 {
                drop(buffer.split_to(blank));
                return Ok(Some(Bytes::new()));
            }
        }
        loop {
            let rest = buffer.get(self.seen..).unwrap_or_default();
            let Some(at) = memchr::memchr(b'<', rest) else {
                return self.more(buffer, max);
            };
            let Some(tag) = rest.get(at..) else { return self.more(buffer, max) };
            let Some(length) = tag_length(tag)? else { return self.more(buffer, max) };
            let end = self.seen + at + length;
            if end > max {
                return Err(format!("a stanza is longer than {max} bytes"));
            }
            let tag = tag.get(..length).unwrap_or_default();
            self.seen = end;
            if tag.starts_with(b"<?") {
                // The declaration, before the stream.
                if self.opened {
                    return Err("a processing instruction".to_owned());
                }
                drop(buffer.split_to(end));
                self.seen = 0;
                continue;
            }
            if tag.starts_with(b"<!") {
                continue;
            }
            if !self.opened {
                self.opened = true;
                return Ok(Some(self.split(buffer)));
            }
            if tag.starts_with(b"</") {
                if self.depth == 0 {
                    return Ok(Some(self.split(buffer)));
                }
                self.depth -= 1;
            } else if !tag.ends_with(b"/>") {
                self.depth += 1;
                if self.depth > DEPTH_MAX {
                    return Err(format!("a stanza nests deeper than {DEPTH_MAX}"));
                }
            }
            if self.depth == 0 {
                return Ok(Some(self.split(buffer)));
            }
        }
    }

    fn more(&self, buffer: &BytesMut, max: usize) -> Result<Option<Bytes>, String> {
        if buffer.len() > max { Err(format!("a stanza is longer than {max} bytes")) } else { Ok(None) }
    }

    fn split(&mut self, buffer: &mut BytesMut) -> Bytes {
        let part = buffer.split_to(self.seen).freeze();
        self.seen = 0;
        part
    }
}

/// Length of the tag (or CDATA section) that begins here; `None`: it is not whole yet.
fn tag_length(text: &[u8]) -> Result<Option<usize>, String> {
    if text.starts_with(b"<![CDATA[") {
        return Ok(memchr::memmem::find(text, b"]]>").map(|at| at + 3));
    }
    if text.starts_with(b"<!") {
        return if b"<![CDATA[".starts_with(text) { Ok(None) } else { Err("a comment or a DTD".to_owned()) };
    }
    let mut quote = None;
    for (at, byte) in text.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Ok(Some(at + 1)),
            (None, b'"' | b'\'') => quote = Some(*byte),
            (Some(open), byte) if open == *byte => quote = None,
            _ => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&[&str], ()>) {
        // Byte by byte, as the worst network would.
        let (mut splitter, mut buffer, mut found) = (Splitter::default(), BytesMut::new(), Vec::new());
        for byte in text.bytes() {
            buffer.extend_from_slice(&[byte]);
            loop {
                match splitter.next(&mut buffer, 200) {
                    Ok(Some(part)) if part.is_empty() => {}
                    Ok(Some(part)) => found.push(String::from_utf8_lossy(&part).into_owned()),
                    Ok(None) => break,
                    Err(_) => return assert!(expected.is_err(), "{text}"),
                }
            }
        }
        assert_eq!(Ok(found), expected.map(|parts| parts.iter().map(|part| (*part).to_owned()).collect()));
    }

    #[test]
    fn children_of_a_stream_are_found_whole() {
        check(
            "<?xml version='1.0'?><stream:stream a='>'> <a/>\n<b x='/>'><c>1 &lt; 2</c><![CDATA[</b>]]></b></stream:stream>",
            Ok(&["<stream:stream a='>'>", "<a/>", "<b x='/>'><c>1 &lt; 2</c><![CDATA[</b>]]></b>", "</stream:stream>"]),
        );
    }

    #[test]
    fn what_a_stream_must_not_hold_ends_it() {
        check("<s><!-- x --></s>", Err(()));
        check("<s><!DOCTYPE x></s>", Err(()));
        check("<s><?x?></s>", Err(()));
        check(&format!("<s>{}", "<a>".repeat(65)), Err(()));
        check(&format!("<s><a>{}", "x".repeat(300)), Err(()));
    }
}
