//! One pass over HTML: texts, starts and ends of elements as they stand, in linear time whatever the markup.
//!
//! This is no parser: nothing is nested here and nothing is decided. What reads the tokens must cope with any order of them.

use std::borrow::Cow;

/// Most attributes of one tag that are looked at.
const ATTRIBUTES_MAX: usize = 32;

/// A piece of HTML.
#[derive(Debug, PartialEq)]
pub enum Token<'h> {
    /// As it stands, character references and all.
    Text(&'h str),
    /// The start of an element.
    Start {
        /// Lower case.
        name: String,
        /// As they stand, the first of them.
        attributes: Vec<Attribute<'h>>,
    },
    /// The end of an element.
    End {
        /// Lower case.
        name: String,
    },
}

/// One attribute of a tag.
#[derive(Debug, PartialEq)]
pub struct Attribute<'h> {
    /// Lower case.
    pub name: String,
    /// As it stands, character references and all.
    pub value: &'h str,
}

/// The tokens of one HTML text.
pub struct Tokens<'h> {
    html: &'h str,
    at: usize,
    /// Elements whose end was searched to the end of the text and not found: never searched again.
    endless: Vec<String>,
}

/// Elements whose content nobody sees.
const HIDDEN: [&str; 9] = ["script", "style", "title", "template", "textarea", "xmp", "iframe", "noembed", "noframes"];

impl<'h> Tokens<'h> {
    /// From the beginning of `html`.
    pub fn new(html: &'h str) -> Self {
        Self { html, at: 0, endless: Vec::new() }
    }

    fn rest(&self) -> &'h str {
        self.html.get(self.at..).unwrap_or_default()
    }

    /// Moves behind the next `pattern`, or to the end.
    fn skip_behind(&mut self, pattern: &str) {
        self.at =
            memchr::memmem::find(self.rest().as_bytes(), pattern.as_bytes()).map_or(self.html.len(), |at| self.at + at + pattern.len());
    }

    /// Skips the content of a hidden element, if it has an end.
    fn skip_content(&mut self, name: &str) {
        if self.endless.iter().any(|known| known == name) {
            return;
        }
        let rest = self.rest().as_bytes();
        let closes = |at: &usize| rest.get(at + 2..at + 2 + name.len()).is_some_and(|tag| tag.eq_ignore_ascii_case(name.as_bytes()));
        match memchr::memmem::find_iter(rest, b"</").find(closes) {
            Some(at) => {
                self.at += at;
                self.skip_behind(">");
            }
            None => self.endless.push(name.to_owned()),
        }
    }
}

impl<'h> Iterator for Tokens<'h> {
    type Item = Token<'h>;

    fn next(&mut self) -> Option<Token<'h>> {
        loop {
            let rest = self.rest();
            let after = match rest.as_bytes() {
                [] => return None,
                [b'<', after @ ..] => after,
                bytes => {
                    let end = memchr::memchr(b'<', bytes).unwrap_or(bytes.len());
                    self.at += end;
                    return rest.get(..end).map(Token::Text);
                }
            };
            match after {
                [b'!', b'-', b'-', ..] => self.skip_behind("-->"),
                [b'!' | b'?', ..] => self.skip_behind(">"),
                [b'/', first, ..] if first.is_ascii_alphabetic() => {
                    let name = tag_name(after.get(1..).unwrap_or_default());
                    self.skip_behind(">");
                    return Some(Token::End { name });
                }
                [first, ..] if first.is_ascii_alphabetic() => {
                    let name = tag_name(after);
                    self.at += 1 + name.len();
                    let attributes = self.attributes();
                    if HIDDEN.contains(&name.as_str()) {
                        self.skip_content(&name);
                        continue;
                    }
                    return Some(Token::Start { name, attributes });
                }
                _ => {
                    self.at += 1;
                    return rest.get(..1).map(Token::Text);
                }
            }
        }
    }
}

fn tag_name(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b':' && *byte != b'-').unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).to_ascii_lowercase()
}

impl<'h> Tokens<'h> {
    /// Reads attributes up to and with the `>` that ends the tag.
    fn attributes(&mut self) -> Vec<Attribute<'h>> {
        let mut found = Vec::new();
        loop {
            let rest = self.rest();
            let bytes = rest.as_bytes();
            let skip = bytes.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != b'/').unwrap_or(bytes.len());
            self.at += skip;
            match bytes.get(skip) {
                None => return found,
                Some(b'>') => {
                    self.at += 1;
                    return found;
                }
                Some(_) => {}
            }
            let rest = self.rest();
            // The first byte belongs to the name even if it is `=`.
            let name_end = rest
                .bytes()
                .skip(1)
                .position(|b| b.is_ascii_whitespace() || matches!(b, b'/' | b'>' | b'='))
                .map_or(rest.len(), |at| at + 1);
            let name_end = rest.ceil_char_boundary(name_end);
            let name = rest.get(..name_end).unwrap_or_default();
            self.at += name_end;
            let value = self.value();
            if found.len() < ATTRIBUTES_MAX && name.len() < 32 {
                found.push(Attribute { name: name.to_ascii_lowercase(), value });
            }
        }
    }

    fn value(&mut self) -> &'h str {
        let rest = self.rest();
        let trimmed = rest.trim_ascii_start();
        let Some(value) = trimmed.strip_prefix('=') else { return "" };
        let value = value.trim_ascii_start();
        self.at = self.html.len() - value.len();
        let (quoted, end) = match value.as_bytes().first() {
            Some(quote @ (b'"' | b'\'')) => (1, memchr::memchr(*quote, value.as_bytes().get(1..).unwrap_or_default()).map(|at| at + 1)),
            _ => (0, value.bytes().position(|b| b.is_ascii_whitespace() || b == b'>')),
        };
        let end = end.unwrap_or(value.len());
        self.at += (end + quoted).min(value.len());
        value.get(quoted..end).unwrap_or_default()
    }
}

/// Character references decoded.
pub fn unescape(text: &str) -> Cow<'_, str> {
    let Some(mut at) = memchr::memchr(b'&', text.as_bytes()) else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        let (plain, tail) = rest.split_at(at);
        out.push_str(plain);
        let end = tail.bytes().take(34).position(|b| b == b';').unwrap_or(0);
        let reference = tail.get(..=end).unwrap_or_default();
        if end > 1 && reference.bytes().skip(1).take(end - 1).all(|b| b.is_ascii_alphanumeric() || b == b'#') {
            mail_parser::decoders::html::add_html_token(&mut out, reference.as_bytes(), false);
        } else {
            out.push_str(reference);
        }
        rest = tail.get(reference.len()..).unwrap_or_default();
        match memchr::memchr(b'&', rest.as_bytes()) {
            Some(next) => at = next,
            None => break,
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}
