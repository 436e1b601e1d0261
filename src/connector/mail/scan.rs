//! The MIME structure of a mail, as offsets into its bytes: one linear pass, no recursion, nothing copied but boundaries.
//!
//! Attached mails (`message/rfc822`) are leaves: they are handed on as files and never descended into, so their nesting costs
//! nothing. What is over a limit of [`MailLimits`] is refused here, before anything else looks at the mail.

use std::ops::Range;

use memchr::memmem;

use crate::connector::mail::fields::{self, Field};
use crate::connector::mail::large::Rest;
use crate::connector::mail::{MailError, MailLimits};

/// The structure of a mail.
#[derive(Debug, Clone, Default)]
pub struct Scan {
    /// All entities, parents before children, in the order of the mail. The first is the mail itself.
    pub entities: Vec<Entity>,
    /// The header had lines that are no fields, or was cut short.
    pub broken_header: bool,
    /// The bytes are the outline of a larger mail; this is known of the rest.
    pub rest: Option<Rest>,
}

impl Scan {
    /// The mail itself.
    pub fn root(&self) -> &Entity {
        static NONE: Entity = Entity::NONE;
        self.entities.first().unwrap_or(&NONE)
    }

    /// The range of the whole mail that a range of its bytes at hand stands for.
    pub fn place(&self, range: &Range<usize>) -> Range<u64> {
        let place = |at: usize| self.rest.as_ref().map_or(at as u64, |rest| rest.outline.place(at));
        place(range.start)..place(range.end)
    }

    /// The leaves, in the order of the mail.
    pub fn leaves(&self) -> impl Iterator<Item = (usize, &Entity)> {
        self.entities.iter().enumerate().filter(|(_, entity)| !entity.multipart)
    }
}

/// One MIME entity: the mail, a multipart or a leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    /// The multipart it stands in; `None` for the mail itself.
    pub parent: Option<usize>,
    /// Its header fields.
    pub fields: Vec<Field>,
    /// Its body, encoded as it came, without the line break that belongs to the next boundary.
    pub body: Range<usize>,
    /// Lower-case `type/subtype`; `text/plain` (in a digest `message/rfc822`) where it is missing or no media type (RFC 2045 §5.2).
    pub media_type: String,
    /// It has a boundary and parts.
    pub multipart: bool,
}

impl Entity {
    const NONE: Self = Self { parent: None, fields: Vec::new(), body: 0..0, media_type: String::new(), multipart: false };
}

/// Finds the structure of a mail, or refuses it.
///
/// # Errors
/// [`MailError`] with `mail_unparsable` if it is over a limit of structure.
pub fn prescan(mail: &[u8], limits: &MailLimits) -> Result<Scan, MailError> {
    Pass { mail, limits, scan: Scan::default(), open: Vec::new(), headers_bytes: 0 }.run()
}

/// A multipart that has begun and not ended.
struct Open {
    entity: usize,
    boundary: Vec<u8>,
    /// A boundary line was seen; without one the body is text.
    parted: bool,
}

struct Pass<'a> {
    mail: &'a [u8],
    limits: &'a MailLimits,
    scan: Scan,
    open: Vec<Open>,
    headers_bytes: usize,
}

/// A boundary line that ends what stands before it.
struct Stop {
    /// End of the content before it.
    end: usize,
    /// First byte behind the line.
    next: usize,
    /// Which of the open multiparts it belongs to.
    level: usize,
    /// It closes that multipart.
    last: bool,
}

impl Pass<'_> {
    fn run(mut self) -> Result<Scan, MailError> {
        let mut position = header_start(self.mail);
        loop {
            position = self.entity(position)?;
            // Behind a closing boundary stands an epilogue, which belongs to nobody.
            loop {
                let Some(stop) = self.next_stop(position) else {
                    self.end_all();
                    return Ok(self.scan);
                };
                self.end_above(&stop);
                position = stop.next;
                if !stop.last {
                    break;
                }
            }
        }
    }

    /// Takes the header that begins at `start`; returns where its body begins.
    fn entity(&mut self, start: usize) -> Result<usize, MailError> {
        let limits = self.limits;
        if self.scan.entities.len() >= limits.parts_max {
            return Err(MailError::unparsable(format!("more than {} MIME parts", limits.parts_max)));
        }
        let header = fields::split(self.mail, start, limits)?;
        self.headers_bytes += header.body - start;
        if self.headers_bytes > limits.headers_bytes_max {
            return Err(MailError::unparsable(format!("headers of more than {} bytes in all", limits.headers_bytes_max)));
        }
        let parent = self.open.last().map(|open| open.entity);
        if parent.is_none() {
            self.scan.broken_header = header.broken;
        }
        let content_type = fields::first(&header.fields, self.mail, "content-type").unwrap_or_default();
        let in_digest = parent.and_then(|at| self.scan.entities.get(at)).is_some_and(|entity| entity.media_type == "multipart/digest");
        let media_type = fields::media_type(content_type).unwrap_or(if in_digest { "message/rfc822" } else { "text/plain" }.to_owned());
        let multipart = media_type.starts_with("multipart/");
        let body = self.mail.get(header.body..).unwrap_or_default();
        let boundary = match fields::boundary(content_type).filter(|_| multipart) {
            // Of the mail itself it is looked whether its boundary is there at all.
            Some(named) if parent.is_none() && !stands_in(body, &named) => lost_boundary(body).or(Some(named)),
            None if multipart => guess_boundary(body).or_else(|| lost_boundary(body).filter(|_| parent.is_none())),
            named => named,
        };
        // Without a boundary nobody can part it: what is there is shown as text, not lost.
        let media_type = if multipart && boundary.is_none() { "text/plain".to_owned() } else { media_type };
        let at = self.scan.entities.len();
        self.scan.entities.push(Entity {
            parent,
            fields: header.fields,
            body: header.body..self.mail.len(),
            media_type,
            multipart: boundary.is_some(),
        });
        if let Some(boundary) = boundary {
            if self.open.len() >= limits.depth_max {
                return Err(MailError::unparsable(format!("multiparts nested deeper than {}", limits.depth_max)));
            }
            self.open.push(Open { entity: at, boundary, parted: false });
        }
        Ok(header.body)
    }

    /// The next boundary line of any open multipart. RFC 2046 §5.1.2: an outer boundary ends the inner parts, too.
    fn next_stop(&self, from: usize) -> Option<Stop> {
        if self.open.is_empty() {
            return None;
        }
        let begins_line = from == 0 || self.mail.get(from - 1).is_some_and(|byte| *byte == b'\n');
        if begins_line
            && self.mail.get(from..).is_some_and(|rest| rest.starts_with(b"--"))
            && let Some(stop) = self.stop_at(from, from)
        {
            return Some(stop);
        }
        let finder = memmem::Finder::new(b"\n--");
        let rest = self.mail.get(from..)?;
        finder.find_iter(rest).find_map(|at| {
            let end = from + at;
            let content_end = if end > from && self.mail.get(end - 1) == Some(&b'\r') { end - 1 } else { end };
            self.stop_at(content_end, end + 1)
        })
    }

    /// Whether the line that begins with `--` at `line` is a boundary of an open multipart.
    fn stop_at(&self, content_end: usize, line: usize) -> Option<Stop> {
        let rest = self.mail.get(line + 2..)?;
        // The search for the end of the line is bounded: a boundary is at most 200 bytes, padding included as many again.
        let window = rest.get(..LINE_BYTES_MAX.min(rest.len()))?;
        let (text, next) = match memchr::memchr(b'\n', window) {
            Some(at) => (window.get(..at)?, line + 2 + at + 1),
            None if window.len() == rest.len() => (window, self.mail.len()),
            None => return None,
        };
        let text = text.trim_ascii_end();
        self.open.iter().enumerate().rev().find_map(|(level, open)| {
            let tail = text.strip_prefix(open.boundary.as_slice())?;
            let last = match tail {
                b"" => false,
                b"--" => true,
                _ => return None,
            };
            Some(Stop { end: content_end, next, level, last })
        })
    }

    /// Ends everything inside the multipart whose boundary was seen, and that multipart itself if it was the last one.
    fn end_above(&mut self, stop: &Stop) {
        if let Some(open) = self.open.get_mut(stop.level)
            && !std::mem::replace(&mut open.parted, true)
        {
            let entity = open.entity;
            self.keep_preamble(entity, stop.end);
        }
        while self.open.len() > stop.level + 1 {
            self.end_open(stop.end);
        }
        self.end_leaf(stop.end);
        if stop.last {
            self.end_open(stop.next);
        }
    }

    /// What stands before the first boundary line is for nobody, unless the header names the type of a part, too: then the line
    /// before that part was lost.
    fn keep_preamble(&mut self, at: usize, end: usize) {
        if self.scan.entities.len() != at + 1 || self.scan.entities.len() >= self.limits.parts_max {
            return;
        }
        let Some(entity) = self.scan.entities.get(at) else { return };
        let is_type = |field: &&Field| self.mail.get(field.name.clone()).is_some_and(|name| name.eq_ignore_ascii_case(b"content-type"));
        let Some(second) = entity.fields.iter().filter(is_type).nth(1).map(|field| field.name.start) else { return };
        let fields: Vec<Field> = entity.fields.iter().filter(|field| field.name.start >= second).cloned().collect();
        let content_type = fields::first(&fields, self.mail, "content-type").unwrap_or_default();
        let body = entity.body.start..end.max(entity.body.start);
        let said = self.mail.get(body.clone()).is_some_and(|text| !text.trim_ascii().is_empty());
        if let Some(media_type) = fields::media_type(content_type).filter(|kind| said && !kind.starts_with("multipart/")) {
            self.scan.entities.push(Entity { parent: Some(at), fields, body, media_type, multipart: false });
        }
    }

    fn end_all(&mut self) {
        let end = self.mail.len();
        while !self.open.is_empty() {
            self.end_open(end);
        }
    }

    /// Ends the innermost open multipart.
    fn end_open(&mut self, end: usize) {
        let Some(open) = self.open.pop() else { return };
        if let Some(entity) = self.scan.entities.get_mut(open.entity) {
            entity.body.end = end.max(entity.body.start);
            if !open.parted {
                // Promised parts and has none: what is there is shown as text, not lost.
                entity.multipart = false;
                "text/plain".clone_into(&mut entity.media_type);
            }
        }
    }

    /// Ends the last leaf, if it has no end yet.
    fn end_leaf(&mut self, end: usize) {
        let whole = self.mail.len();
        if let Some(entity) = self.scan.entities.last_mut()
            && !entity.multipart
            && entity.body.end == whole
        {
            entity.body.end = end.max(entity.body.start);
        }
    }
}

/// The boundary of a multipart that names none: the first line, if it looks like one and comes again as the last one.
fn guess_boundary(body: &[u8]) -> Option<Vec<u8>> {
    let start = body.iter().position(|byte| !byte.is_ascii_whitespace())?;
    let body = body.get(start..)?;
    let boundary = boundary_of(body.get(..LINE_BYTES_MAX.min(body.len()))?.split(|byte| *byte == b'\n').next()?)?;
    memmem::find(body, &[b"\n--", boundary, b"--"].concat()).map(|_| boundary.to_vec())
}

/// The boundary that such a line would have.
fn boundary_of(line: &[u8]) -> Option<&[u8]> {
    line.strip_prefix(b"--").map(<[u8]>::trim_ascii_end).filter(|boundary| (1..=200).contains(&boundary.len()))
}

/// Whether a line begins with this boundary.
fn stands_in(body: &[u8], boundary: &[u8]) -> bool {
    let line = [b"\n--", boundary].concat();
    body.strip_prefix(b"--").is_some_and(|body| body.starts_with(boundary)) || memmem::find(body, &line).is_some()
}

/// Bytes of a preamble behind which the boundary of a whole mail is no longer looked for, and lines that are tried.
const PREAMBLE_BYTES_MAX: usize = 16 * 1024;
const TRIED_MAX: usize = 8;

/// The boundary of a mail whose header names none, or one that is not there: of the first lines that look like one the first that
/// has the header of a part behind it.
fn lost_boundary(body: &[u8]) -> Option<Vec<u8>> {
    let begin = body.get(..PREAMBLE_BYTES_MAX).unwrap_or(body);
    let mut lines = begin.split(|byte| *byte == b'\n').peekable();
    let mut tried = 0;
    while let Some(line) = lines.next() {
        let Some(boundary) = boundary_of(line) else { continue };
        tried += 1;
        if tried > TRIED_MAX {
            return None;
        }
        let has_header = lines.peek().and_then(|next| next.get(..8)).is_some_and(|next| next.eq_ignore_ascii_case(b"content-"));
        if has_header || lines.peek().is_some() && memmem::find(body, &[b"\n--", boundary, b"--"].concat()).is_some() {
            return Some(boundary.to_vec());
        }
    }
    None
}

/// Longest line that can be a boundary line.
const LINE_BYTES_MAX: usize = 512;

/// Where the header begins: behind the `From ` line of mbox files and its quoted form, which some servers leave in front of it.
pub fn header_start(mail: &[u8]) -> usize {
    if mail.starts_with(b"From ") || mail.starts_with(b">From ") {
        return memchr::memchr(b'\n', mail.get(..LINE_BYTES_MAX.min(mail.len())).unwrap_or_default()).map_or(0, |at| at + 1);
    }
    0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn leaves(mail: &str) -> Vec<(String, String)> {
        let scan = prescan(mail.as_bytes(), &MailLimits::default()).unwrap();
        scan.leaves().map(|(_, leaf)| (leaf.media_type.clone(), mail[leaf.body.clone()].to_owned())).collect()
    }

    #[track_caller]
    fn check(mail: &str, expected: &[(&str, &str)]) {
        let found = leaves(mail);
        let found: Vec<(&str, &str)> = found.iter().map(|(kind, body)| (kind.as_str(), body.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn parts_end_before_the_line_break_of_their_boundary() {
        check(
            "Content-Type: multipart/mixed; boundary=\"a b\"\r\n\r\npreamble\r\n--a b\r\n\r\none\r\n\r\n--a b  \r\nContent-Type: text/html\r\n\r\ntwo\r\n--a b--\r\nepilogue\r\n",
            &[("text/plain", "one\r\n"), ("text/html", "two")],
        );
    }

    #[test]
    fn a_boundary_that_begins_like_another_one_is_not_it() {
        check(
            "Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: multipart/alternative; boundary=xy\n\n--xy\n\nin\n--xy--\n--x\n\nout\n--x--\n",
            &[("text/plain", "in"), ("text/plain", "out")],
        );
    }

    #[test]
    fn an_outer_boundary_ends_inner_parts_that_were_never_closed() {
        check(
            "Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: multipart/alternative; boundary=i\n\n--i\n\nin\n--o\n\nout\n",
            &[("text/plain", "in"), ("text/plain", "out\n")],
        );
    }

    #[test]
    fn a_boundary_in_the_middle_of_a_line_is_text() {
        check("Content-Type: multipart/mixed; boundary=x\n\n--x\n\na --x b\n--x--\n", &[("text/plain", "a --x b")]);
    }

    #[test]
    fn a_multipart_without_parts_is_text() {
        check("Content-Type: multipart/mixed; boundary=x\n\nHello\n", &[("text/plain", "Hello\n")]);
    }

    #[test]
    fn a_boundary_that_is_named_wrongly_is_found() {
        let parts = "--y\nContent-Type: text/html\n\none\n--y--\n";
        check(&format!("Content-Type: multipart/mixed; boundary=x\n\n{parts}"), &[("text/html", "one")]);
        check(&format!("Content-Type: multipart/mixed; bo\n\nThis is MIME.\n\n{parts}"), &[("text/html", "one")]);
        check("Content-Type: multipart/mixed; boundary=x\n\nHello\n-- \nAna\n", &[("text/plain", "Hello\n-- \nAna\n")]);
    }

    #[test]
    fn boundary_with_nul_and_without_quotes_is_found() {
        check("Content-Type: multipart/mixed; boundary=x\0y\n\n--x\0y\n\none\n--x\0y--\n", &[("text/plain", "one")]);
    }

    #[test]
    fn digest_parts_are_mails_by_default() {
        check("Content-Type: multipart/digest; boundary=x\n\n--x\n\nSubject: a\n\nb\n--x--\n", &[("message/rfc822", "Subject: a\n\nb")]);
    }

    #[test]
    fn nested_mails_are_one_leaf() {
        let nested = "Content-Type: message/rfc822\n\n".repeat(200_000);
        assert_eq!(leaves(&nested).len(), 1);
    }

    #[test]
    fn at_the_limit_of_depth_it_is_read_and_one_over_it_is_refused() {
        let limits = MailLimits::default();
        let deep =
            |n: usize| (0..n).map(|level| format!("Content-Type: multipart/mixed; boundary=b{level}\n\n--b{level}\n")).collect::<String>();
        assert!(prescan(deep(limits.depth_max).as_bytes(), &limits).is_ok());
        assert!(prescan(deep(limits.depth_max + 1).as_bytes(), &limits).is_err());
    }

    #[test]
    fn half_a_million_parts_are_refused() {
        let mail = format!("Content-Type: multipart/mixed; boundary=x\n\n{}", "--x\n\na\n".repeat(500_000));
        assert!(prescan(mail.as_bytes(), &MailLimits::default()).is_err());
    }
}
