//! Hide: a secret that a platform writes into its bodies is not kept with them (I7).
//!
//! What stands in its place is as long as it was and as harmless: the body is decoded and mapped as before, and keys made of it stay the same.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::connector::decode;
use crate::connector::verify::Place;

/// The body without what stands at `place`, if anything does.
pub(super) fn hidden(body: &Bytes, content_type: &str, place: &Place) -> Bytes {
    let spans = match (&place.json, &place.form) {
        (Some(pointer), _) => json(body, pointer).into_iter().collect(),
        (_, Some(name)) if content_type.trim_start().starts_with("multipart/form-data") => {
            decode::multipart_span(content_type, body, name).into_iter().collect()
        }
        (_, Some(name)) => form(body, name),
        _ => Vec::new(),
    };
    if spans.is_empty() {
        return body.clone();
    }
    let mut out = body.to_vec();
    for span in spans {
        // A text of JSON keeps its quotes; a number becomes another one.
        let number = place.json.is_some() && out.get(span.start) != Some(&b'"');
        let inside = if place.json.is_some() && !number { span.start + 1..span.end.saturating_sub(1) } else { span };
        out.get_mut(inside).unwrap_or_default().fill(if number { b'1' } else { b'*' });
    }
    out.into()
}

/// Where the value at a pointer (RFC 6901) is written.
fn json(body: &[u8], pointer: &str) -> Option<Range<usize>> {
    let whole = std::str::from_utf8(body).ok()?;
    let mut at = whole.trim();
    for part in pointer.split('/').skip(1) {
        let fields: BTreeMap<String, &RawValue> = serde_json::from_str(at).ok()?;
        at = fields.get(&part.replace("~1", "/").replace("~0", "~"))?.get();
    }
    // `at` is a slice of `whole`.
    let start = (at.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    Some(start..start + at.len())
}

/// Where the values of a field of an urlencoded form are written.
fn form(body: &[u8], name: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut start = 0;
    for pair in body.split(|byte| *byte == b'&') {
        let named = url::form_urlencoded::parse(pair).next().is_some_and(|(key, _)| key == name);
        if let (true, Some(equals)) = (named, pair.iter().position(|byte| *byte == b'=')) {
            spans.push(start + equals + 1..start + pair.len());
        }
        start += pair.len() + 1;
    }
    spans
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[track_caller]
    fn check(body: &str, content_type: &str, place: Place, expected: &str) {
        assert_eq!(String::from_utf8(hidden(&Bytes::copy_from_slice(body.as_bytes()), content_type, &place).to_vec()).unwrap(), expected);
    }

    #[test]
    fn a_secret_in_a_body_is_starred_out_and_nothing_else_changes() {
        let json = |pointer: &str| Place { json: Some(pointer.to_owned()), ..Place::default() };
        let form = || Place { form: Some("token".to_owned()), ..Place::default() };
        check(
            " {\"a\": 1.00, \"token\": \"s\\u0065cret\", \"b\": \"secret\"}",
            "",
            json("/token"),
            " {\"a\": 1.00, \"token\": \"***********\", \"b\": \"secret\"}",
        );
        check("{\"x\":{\"to\\u006ben\":12345678901234567890}}", "", json("/x/token"), "{\"x\":{\"to\\u006ben\":11111111111111111111}}");
        check("{\"token\":\"a\",\"token\":\"b\"}", "", json("/token"), "{\"token\":\"a\",\"token\":\"*\"}");
        check("{\"a\":1}", "", json("/token"), "{\"a\":1}");
        check("[1]", "", json("/token"), "[1]");
        check("a=1&token=s%20cret&tok%65n=again&b=token", "", form(), "a=1&token=********&tok%65n=*****&b=token");
        check("", "", form(), "");
        let part = |value: &str| format!("--B\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\n{value}\r\n--B--\r\n");
        check(&part("secret"), "multipart/form-data; boundary=B", form(), &part("******"));
    }
}
