//! Header fields: splitting a header into them, and reading single ones.
//!
//! A field is taken the way DMARC verifiers take it: the name ends at the first colon and has no white space inside (RFC 5322
//! §2.2), so `Fr om:` is no From.

use std::ops::Range;

use crate::connector::mail::charset::Charsets;
use crate::connector::mail::{MailError, MailLimits, parameters};
use crate::model::item::SliceEncoding;

/// One header field, as offsets into the mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: Range<usize>,
    /// Everything behind the colon up to the line break, folds included.
    pub value: Range<usize>,
}

/// A header, split.
pub struct Header {
    /// Its fields, in order.
    pub fields: Vec<Field>,
    /// Where the body begins.
    pub body: usize,
    /// It has lines that are no fields.
    pub broken: bool,
}

/// Longest name of a field; longer ones are no fields (RFC 5322 §2.1.1 allows 998 for a whole line, real ones stay under 80).
const NAME_BYTES_MAX: usize = 128;

/// Splits the header that begins at `start`.
///
/// # Errors
/// [`MailError`] if it is over a limit.
pub fn split(mail: &[u8], start: usize, limits: &MailLimits) -> Result<Header, MailError> {
    let mut header = Header { fields: Vec::new(), body: mail.len(), broken: false };
    let mut at = start;
    while let Some(rest) = mail.get(at..).filter(|rest| !rest.is_empty()) {
        if at - start > limits.header_bytes_max {
            return Err(MailError::unparsable(format!("a header of more than {} bytes", limits.header_bytes_max)));
        }
        let (line, next) = line_of(rest, at);
        if line.is_empty() {
            header.body = next;
            return Ok(header);
        }
        let end = at + line.len();
        let folded = matches!(line.first(), Some(b' ' | b'\t'));
        if folded && !header.fields.is_empty() {
            if let Some(field) = header.fields.last_mut() {
                field.value.end = end;
            }
        } else if let Some(colon) = name_end(line) {
            if header.fields.len() >= limits.fields_max {
                return Err(MailError::unparsable(format!("more than {} header fields", limits.fields_max)));
            }
            let name = line.get(..colon).unwrap_or_default().trim_ascii_end();
            header.fields.push(Field { name: at..at + name.len(), value: at + colon + 1..end });
        } else if !stays_in_header(mail, next, header.fields.is_empty()) {
            // No empty line between header and body, or no header at all: nothing of the text may be lost.
            header.broken = true;
            header.body = at;
            return Ok(header);
        } else {
            header.broken = true;
        }
        at = next;
    }
    Ok(header)
}

/// The line at the start of `rest` without its line break, and where the next one begins.
fn line_of(rest: &[u8], at: usize) -> (&[u8], usize) {
    let (line, next) = match memchr::memchr(b'\n', rest) {
        Some(end) => (rest.get(..end).unwrap_or_default(), at + end + 1),
        None => (rest, at + rest.len()),
    };
    (line.strip_suffix(b"\r").unwrap_or(line), next)
}

/// Where the name of the field on this line ends, if it is one.
fn name_end(line: &[u8]) -> Option<usize> {
    let colon = memchr::memchr(b':', line.get(..NAME_BYTES_MAX.min(line.len()))?)?;
    let name = line.get(..colon)?.trim_ascii_end();
    (!name.is_empty() && name.iter().all(u8::is_ascii_graphic)).then_some(colon)
}

/// A line that is no field stands inside a header if a field follows it at once, or a blank line and a body: without one, it is the body.
fn stays_in_header(mail: &[u8], next: usize, first: bool) -> bool {
    let Some(rest) = mail.get(next..) else { return false };
    let (line, behind) = line_of(rest, next);
    if first {
        return name_end(line).is_some_and(|_| known_name(line));
    }
    if !line.is_empty() {
        return name_end(line).is_some();
    }
    let body = mail.get(behind..).unwrap_or_default();
    let body = body.get(..BODY_BEGIN_BYTES).unwrap_or(body).trim_ascii_start();
    !body.is_empty() && !body.starts_with(b"--")
}

/// Where a body is that has anything in it.
const BODY_BEGIN_BYTES: usize = 512;

/// Names that prove that a header goes on behind a broken first line.
fn known_name(line: &[u8]) -> bool {
    const NAMES: [&[u8]; 8] = [b"from:", b"to:", b"subject:", b"date:", b"received:", b"message-id:", b"mime-version:", b"return-path:"];
    NAMES.iter().any(|name| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)))
}

/// The raw values of all fields `name` (lower case), in order.
pub fn all<'m>(fields: &'m [Field], mail: &'m [u8], name: &'m str) -> impl Iterator<Item = &'m [u8]> {
    fields
        .iter()
        .filter(move |field| mail.get(field.name.clone()).is_some_and(|known| known.eq_ignore_ascii_case(name.as_bytes())))
        .map(move |field| mail.get(field.value.clone()).unwrap_or_default())
}

/// The raw value of the first field `name` (lower case).
pub fn first<'m>(fields: &'m [Field], mail: &'m [u8], name: &'m str) -> Option<&'m [u8]> {
    all(fields, mail, name).next()
}

/// Longest part of a structured MIME field that is read.
pub const STRUCTURED_BYTES_MAX: usize = 16 * 1024;

/// Lower-case `type/subtype`, if the value begins with one.
pub fn media_type(value: &[u8]) -> Option<String> {
    let value = value.trim_ascii_start();
    let end = value.iter().position(|byte| matches!(byte, b';' | b' ' | b'\t' | b'\r' | b'\n' | b'(' | b',')).unwrap_or(value.len());
    let name = std::str::from_utf8(value.get(..end.min(NAME_BYTES_MAX))?).ok()?;
    let (kind, subtype) = name.split_once('/')?;
    let token = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b));
    (token(kind) && token(subtype)).then(|| name.to_ascii_lowercase())
}

/// Longest boundary that is taken; RFC 2046 §5.1.1 allows 70.
const BOUNDARY_BYTES_MAX: usize = 200;

/// The boundary of a multipart, from the raw value of its Content-Type.
pub fn boundary(value: &[u8]) -> Option<Vec<u8>> {
    let value = value.get(..STRUCTURED_BYTES_MAX.min(value.len()))?;
    let charsets = Charsets::new(&[], &[], SliceEncoding::Identity);
    let raw = plain_parameter(value, b"boundary")
        .or_else(|| parameters::read(value, &charsets).get("boundary").map(|text| text.as_bytes().to_vec()))
        .or_else(|| without_semicolon(value))?;
    // RFC 2046 §5.1.1: a boundary does not end in white space; what stands there was added on the way.
    let boundary = raw.trim_ascii_end().to_vec();
    (!boundary.is_empty() && boundary.len() <= BOUNDARY_BYTES_MAX && !boundary.contains(&b'\n')).then_some(boundary)
}

/// A boundary before which the semicolon is missing.
fn without_semicolon(value: &[u8]) -> Option<Vec<u8>> {
    let lower = value.to_ascii_lowercase();
    let at = memchr::memmem::find(&lower, b"boundary=")?;
    plain_parameter(&[b";", value.get(at..)?].concat(), b"boundary")
}

/// A parameter in its plain form `name=value` or `name="value"`, byte for byte.
fn plain_parameter(value: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let mut rest = value;
    while let Some(at) = memchr::memchr(b';', rest) {
        rest = rest.get(at + 1..)?.trim_ascii_start();
        let Some(start) = rest.get(..name.len()) else { continue };
        if !start.eq_ignore_ascii_case(name) {
            continue;
        }
        let Some(text) = rest.get(name.len()..)?.trim_ascii_start().strip_prefix(b"=") else { continue };
        let text = text.trim_ascii_start();
        if let Some(quoted) = text.strip_prefix(b"\"") {
            let end = memchr::memchr(b'"', quoted).unwrap_or(quoted.len());
            return Some(quoted.get(..end)?.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect());
        }
        let end = text.iter().position(|byte| matches!(byte, b';' | b' ' | b'\t' | b'\r' | b'\n')).unwrap_or(text.len());
        return Some(text.get(..end)?.to_vec());
    }
    None
}

/// The transfer encoding of a part. Unknown and broken names mean none, as every reader of mail does.
pub fn encoding(fields: &[Field], mail: &[u8]) -> SliceEncoding {
    let value = first(fields, mail, "content-transfer-encoding").unwrap_or_default();
    let word = value.split(|byte| matches!(byte, b';' | b'(')).next().unwrap_or_default().trim_ascii();
    let word = word.strip_prefix(b"\"").and_then(|word| word.strip_suffix(b"\"")).unwrap_or(word);
    if word.eq_ignore_ascii_case(b"base64") {
        SliceEncoding::Base64
    } else if word.eq_ignore_ascii_case(b"quoted-printable") {
        SliceEncoding::QuotedPrintable
    } else if [&b"x-uuencode"[..], b"uuencode", b"x-uue"].iter().any(|name| word.eq_ignore_ascii_case(name)) {
        SliceEncoding::Uuencode
    } else {
        SliceEncoding::Identity
    }
}
