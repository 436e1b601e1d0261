//! Decode: bytes → what the map reads. Every decoder is bounded before it allocates.
//!
//! A form becomes `{"fields": {name: last value}, "list": [{name, value}], "files": [{index, field, name, type, bytes}]}`: the
//! map reads fields by name, and the list where order or repeated names matter.

pub mod wechat;
pub mod xml;

use std::ops::Range;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::connector::jq::{self, JqError};
use crate::connector::manifest::{Decode, Then};
use crate::model::codes::Code;

/// Fields and files of one form.
pub const FORM_PARTS_MAX: usize = 256;
/// Bytes of the head of one part.
const PART_HEAD_BYTES_MAX: usize = 8 * 1024;
/// RFC 2046 §5.1.1: a boundary has at most 70 characters.
const BOUNDARY_BYTES_MAX: usize = 70;

/// Why a body could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecodable {
    /// `undecodable`, `too_deep` or `request_too_large`.
    pub code: Code,
    /// One line, no content.
    pub detail: String,
}

/// A decoded body.
#[derive(Debug, Clone)]
pub enum Decoded {
    /// JSON, to be read by the map itself: once.
    Json(Bytes),
    /// Anything else.
    Value(Value, Vec<FormFile>),
}

/// A file of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormFile {
    /// Name, without any path.
    pub name: Option<String>,
    /// Media type the sender claims.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Bytes,
}

fn wrong(code: Code, detail: impl Into<String>) -> Undecodable {
    Undecodable { code, detail: detail.into() }
}

/// Decodes a body as the first of `kinds` that its content type allows.
///
/// # Errors
/// See [`Undecodable`].
pub fn decode(kinds: &[Decode], then: Option<&Then>, content_type: &str, body: &Bytes, depth_max: usize) -> Result<Decoded, Undecodable> {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let fits = |kind: &&Decode| match kind {
        Decode::Json => {
            essence.is_empty()
                || essence == "application/json"
                || essence.ends_with("+json")
                || essence == "text/plain"
                || essence == "text/json"
        }
        Decode::Form => essence == "application/x-www-form-urlencoded",
        Decode::Multipart => essence == "multipart/form-data",
        Decode::Xml => essence == "text/xml" || essence == "application/xml" || essence.ends_with("+xml"),
        Decode::Text => essence == "text/plain",
    };
    // One kind: it is what it is, whatever the header says. Several: the header must tell.
    let kind = match kinds {
        [only] => Some(only),
        _ => kinds.iter().find(fits),
    };
    match kind {
        None => Err(wrong(Code::Undecodable, "a content type that this connector does not take")),
        Some(Decode::Json) => Ok(Decoded::Json(body.clone())),
        Some(Decode::Form) => form(body, then, depth_max),
        Some(Decode::Multipart) => multipart(content_type, body),
        Some(Decode::Text) => Ok(Decoded::Value(json!({"text": String::from_utf8_lossy(body)}), Vec::new())),
        Some(Decode::Xml) => match xml::to_json(body) {
            Some(value) => Ok(Decoded::Value(value, Vec::new())),
            None => Err(wrong(Code::Undecodable, "not XML, or XML with a DTD, or too deep")),
        },
    }
}

/// Whether there is nothing to decode: everything a GET says stands in its address.
pub fn is_nothing(method: &str, body: &[u8]) -> bool {
    body.is_empty() && method == "GET"
}

/// What a request without a body says: nothing, in the form its map knows.
pub fn nothing(kinds: &[Decode]) -> Decoded {
    let form = kinds.iter().any(|kind| matches!(kind, Decode::Form | Decode::Multipart));
    Decoded::Value(if form { form_value(&[], &[]) } else { json!({}) }, Vec::new())
}

/// Checks a JSON body without mapping it, for requests that nobody vouches for.
///
/// # Errors
/// See [`Undecodable`].
pub fn check_json(body: &[u8], depth_max: usize) -> Result<(), Undecodable> {
    jq::parse_json(body, depth_max).map(drop).map_err(|error| json_error(&error))
}

/// The decoding error behind an error of the JSON reader.
pub fn json_error(error: &JqError) -> Undecodable {
    match error {
        JqError::TooDeep(_) => wrong(Code::TooDeep, error.to_string()),
        _ => wrong(Code::Undecodable, error.to_string()),
    }
}

fn form(body: &Bytes, then: Option<&Then>, depth_max: usize) -> Result<Decoded, Undecodable> {
    if body.iter().filter(|byte| **byte == b'&').count() >= FORM_PARTS_MAX {
        return Err(wrong(Code::RequestTooLarge, format!("more than {FORM_PARTS_MAX} fields")));
    }
    let fields = url::form_urlencoded::parse(body).map(|(name, value)| (name.into_owned(), value.into_owned())).collect::<Vec<_>>();
    if let Some(then) = then
        && let Some((_, inner)) = fields.iter().find(|(name, _)| then.path.strip_prefix('/') == Some(name.as_str()))
    {
        let value = jq::parse_json(inner.as_bytes(), depth_max).map_err(|error| json_error(&error))?;
        return Ok(Decoded::Value(value, Vec::new()));
    }
    Ok(Decoded::Value(form_value(&fields, &[]), Vec::new()))
}

fn form_value(fields: &[(String, String)], files: &[(String, FormFile)]) -> Value {
    let named: Map<String, Value> = fields.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
    let list: Vec<Value> = fields.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    let file = |(index, (field, file)): (usize, &(String, FormFile))| json!({"index": index, "field": field, "name": file.name, "type": file.media_type, "bytes": file.bytes.len()});
    json!({"fields": named, "list": list, "files": files.iter().enumerate().map(file).collect::<Vec<_>>()})
}

/// `multipart/form-data` (RFC 7578) of a body that is whole in memory: parts are slices of it.
fn multipart(content_type: &str, body: &Bytes) -> Result<Decoded, Undecodable> {
    let boundary = parameter(content_type, "boundary").filter(|text| !text.is_empty() && text.len() <= BOUNDARY_BYTES_MAX);
    let boundary = boundary.ok_or_else(|| wrong(Code::Undecodable, "multipart without a boundary"))?;
    let (mut fields, mut files) = (Vec::new(), Vec::new());
    for (start, end) in parts(body, &boundary)? {
        if fields.len() + files.len() >= FORM_PARTS_MAX {
            return Err(wrong(Code::RequestTooLarge, format!("more than {FORM_PARTS_MAX} parts")));
        }
        let part = body.slice(start..end);
        let head_end = find(&part, b"\r\n\r\n").ok_or_else(|| wrong(Code::Undecodable, "a part without the end of its head"))?;
        if head_end > PART_HEAD_BYTES_MAX {
            return Err(wrong(Code::RequestTooLarge, "a part with too large a head"));
        }
        let head = String::from_utf8_lossy(part.get(..head_end).unwrap_or_default()).into_owned();
        let content = part.slice(head_end + 4..);
        let disposition = header(&head, "content-disposition").unwrap_or_default();
        let Some(name) = parameter(disposition, "name") else { continue };
        match parameter(disposition, "filename") {
            // A file field that was left empty sends an empty name.
            Some(file_name) if file_name.is_empty() && content.is_empty() => {}
            Some(file_name) => {
                let media_type = header(&head, "content-type").unwrap_or("application/octet-stream").trim().to_ascii_lowercase();
                files.push((name, FormFile { name: file_base_name(&file_name), media_type, bytes: content }));
            }
            None => fields.push((name, String::from_utf8_lossy(&content).into_owned())),
        }
    }
    let value = form_value(&fields, &files);
    Ok(Decoded::Value(value, files.into_iter().map(|(_, file)| file).collect()))
}

/// Where the parts lie between their delimiters.
fn parts(body: &[u8], boundary: &str) -> Result<Vec<(usize, usize)>, Undecodable> {
    let delimiter = format!("--{boundary}");
    let between = format!("\r\n--{boundary}");
    let mut at = find(body, delimiter.as_bytes()).ok_or_else(|| wrong(Code::Undecodable, "multipart without its first delimiter"))?
        + delimiter.len();
    let mut found = Vec::new();
    loop {
        let rest = body.get(at..).unwrap_or_default();
        if rest.starts_with(b"--") {
            return Ok(found);
        }
        let Some(line_end) = find(rest, b"\r\n").filter(|end| *end < 256) else {
            return Err(wrong(Code::Undecodable, "multipart that ends in the middle"));
        };
        let start = at + line_end + 2;
        let length = find(body.get(start..).unwrap_or_default(), between.as_bytes());
        let length = length.ok_or_else(|| wrong(Code::Undecodable, "multipart that ends in the middle"))?;
        found.push((start, start + length));
        if found.len() > FORM_PARTS_MAX {
            return Err(wrong(Code::RequestTooLarge, format!("more than {FORM_PARTS_MAX} parts")));
        }
        at = start + length + between.len();
    }
}

/// The text of the field `name` of a multipart form, for signatures that stand in one.
pub fn multipart_field(content_type: &str, body: &[u8], name: &str) -> Option<String> {
    let span = multipart_span(content_type, body, name)?;
    Some(String::from_utf8_lossy(body.get(span)?).into_owned())
}

/// Where the field `name` of a multipart form is written.
pub fn multipart_span(content_type: &str, body: &[u8], name: &str) -> Option<Range<usize>> {
    let boundary = parameter(content_type, "boundary").filter(|text| !text.is_empty() && text.len() <= BOUNDARY_BYTES_MAX)?;
    parts(body, &boundary).ok()?.into_iter().find_map(|(start, end)| {
        let part = body.get(start..end)?;
        let head_end = find(part, b"\r\n\r\n").filter(|length| *length <= PART_HEAD_BYTES_MAX)?;
        let head = String::from_utf8_lossy(part.get(..head_end)?);
        let disposition = header(&head, "content-disposition")?;
        let named = parameter(disposition, "name").as_deref() == Some(name) && parameter(disposition, "filename").is_none();
        named.then_some(start + head_end + 4..end)
    })
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = wanted.first()?;
    let mut at = 0;
    while let Some(step) = bytes.get(at..)?.iter().position(|byte| byte == first) {
        at += step;
        if bytes.get(at..)?.starts_with(wanted) {
            return Some(at);
        }
        at += 1;
    }
    None
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .find_map(|line| line.split_once(':').filter(|(known, _)| known.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()))
}

/// A parameter of a header value, quoted or not (RFC 7578 §4.2; browsers escape quotes as `%22`).
fn parameter(value: &str, name: &str) -> Option<String> {
    let mut rest = value;
    while let Some((_, tail)) = rest.split_once(';') {
        let (key, after) = tail.split_once('=')?;
        let after = after.trim_start();
        let (text, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => {
                after.split_once(';').map_or((after.trim(), ""), |(text, _)| (text.trim(), after.get(text.len()..).unwrap_or_default()))
            }
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(text.to_owned());
        }
        rest = next;
    }
    None
}

/// The last part of a path, whatever system wrote it, without control characters.
pub fn file_base_name(name: &str) -> Option<String> {
    let base = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let clean: String = base.chars().filter(|letter| !letter.is_control()).take(200).collect();
    (!clean.trim().is_empty() && clean != "." && clean != "..").then(|| clean.trim().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    fn run(kinds: &[Decode], content_type: &str, body: &str) -> Result<Decoded, Undecodable> {
        decode(kinds, Some(&Then { path: "/payload".to_owned() }), content_type, &Bytes::copy_from_slice(body.as_bytes()), 128)
    }

    #[test]
    fn multipart_is_cut_into_fields_and_files() {
        let body = "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"C:\\x\\log.txt\"\r\nContent-Type: text/plain\r\n\r\nhi\r\n\r\n--B--\r\n";
        let Ok(Decoded::Value(value, files)) = run(&[Decode::Multipart], "multipart/form-data; boundary=B", body) else {
            panic!("not decoded")
        };
        assert_eq!(value["fields"], json!({"a": "1"}));
        assert_eq!(
            files,
            [FormFile { name: Some("log.txt".to_owned()), media_type: "text/plain".to_owned(), bytes: Bytes::from_static(b"hi\r\n") }]
        );
        assert_eq!(value["files"][0]["bytes"], 4);
    }

    #[test]
    fn broken_and_oversized_forms_are_refused() {
        let code = |result: Result<Decoded, Undecodable>| result.err().map(|error| error.code);
        assert_eq!(code(run(&[Decode::Multipart], "multipart/form-data", "x")), Some(Code::Undecodable));
        assert_eq!(code(run(&[Decode::Multipart], "multipart/form-data; boundary=B", "--B\r\nno end")), Some(Code::Undecodable));
        let many = "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n".repeat(300) + "--B--";
        assert_eq!(code(run(&[Decode::Multipart], "multipart/form-data; boundary=B", &many)), Some(Code::RequestTooLarge));
        assert_eq!(code(run(&[Decode::Form], "application/x-www-form-urlencoded", &"a=1&".repeat(300))), Some(Code::RequestTooLarge));
        assert_eq!(code(run(&[Decode::Json, Decode::Form], "image/png", "x")), Some(Code::Undecodable));
        assert_eq!(code(run(&[Decode::Form], "", &format!("payload={}", "[".repeat(1000)))), Some(Code::TooDeep));
    }

    #[test]
    fn json_in_a_field_is_read() {
        let Ok(Decoded::Value(value, _)) = run(&[Decode::Form], "", "payload=%7B%22type%22%3A%22x%22%7D") else { panic!("not decoded") };
        assert_eq!(value, json!({"type": "x"}));
    }
}
