//! Parameters of Content-Type and Content-Disposition: plain, quoted, with charset and percent signs, in sections (RFC 2231).
//!
//! Sections are joined as bytes before they are decoded: mailers split them in the middle of a character. Linear time.

use std::collections::BTreeMap;

use crate::connector::mail::charset::Charsets;
use crate::connector::mail::fields::STRUCTURED_BYTES_MAX;
use crate::connector::mail::{transfer, words};

/// Parameters that are read.
const PARAMETERS_MAX: usize = 200;

/// The parameters of one field. Names are lower case.
#[derive(Debug, Default)]
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A value on its way: its sections by their number.
#[derive(Default)]
struct Sections {
    charset: Option<String>,
    parts: BTreeMap<u16, Vec<u8>>,
}

/// Reads the parameters behind the first `;` of a structured field.
pub fn read(value: &[u8], charsets: &Charsets) -> Parameters {
    let value = value.get(..STRUCTURED_BYTES_MAX).unwrap_or(value);
    let mut plain: Vec<(String, String)> = Vec::new();
    let mut extended: BTreeMap<String, Sections> = BTreeMap::new();
    for (name, value) in split(value).into_iter().take(PARAMETERS_MAX) {
        let name = String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase();
        let Some((base, number, encoded)) = section(&name) else {
            plain.push((name, words::text(&value, charsets)));
            continue;
        };
        let sections = extended.entry(base.to_owned()).or_default();
        let mut text = value.as_slice();
        if encoded && number == 0 {
            // charset'language'text
            let mut parts = text.splitn(3, |byte| *byte == b'\'');
            if let (Some(charset), Some(_), Some(rest)) = (parts.next(), parts.next(), parts.next()) {
                sections.charset = Some(String::from_utf8_lossy(charset).into_owned()).filter(|charset| !charset.is_empty());
                text = rest;
            }
        }
        sections.parts.entry(number).or_insert_with(|| if encoded { unescape(text) } else { text.to_vec() });
    }
    // RFC 2231 §4: the extended form is the better one where both are there.
    let mut all: Vec<(String, String)> = Vec::with_capacity(plain.len() + extended.len());
    for (name, sections) in extended {
        let whole: Vec<u8> = sections.parts.into_values().flatten().collect();
        let text = match sections.charset {
            Some(charset) => charsets.decode(&whole, Some(&charset)),
            None => words::text(&whole, charsets),
        };
        all.push((name, text));
    }
    all.extend(plain);
    Parameters(all)
}

/// `name*`, `name*0`, `name*0*`: the name, the number of the section, and whether it has percent signs.
fn section(name: &str) -> Option<(&str, u16, bool)> {
    let (base, rest) = name.split_once('*')?;
    if rest.is_empty() {
        return Some((base, 0, true));
    }
    let (number, encoded) = rest.strip_suffix('*').map_or((rest, false), |number| (number, true));
    Some((base, number.parse().ok()?, encoded))
}

/// Names and values, without quotes and comments outside of them.
fn split(value: &[u8]) -> Vec<(&[u8], Vec<u8>)> {
    let mut found = Vec::new();
    let Some(start) = memchr::memchr(b';', value) else { return found };
    let mut rest = value.get(start + 1..).unwrap_or_default();
    while !rest.is_empty() && found.len() < PARAMETERS_MAX {
        let end = memchr::memchr2(b';', b'=', rest).unwrap_or(rest.len());
        let (name, tail) = rest.split_at(end);
        let Some(after) = tail.strip_prefix(b"=") else {
            rest = tail.get(1..).unwrap_or_default();
            continue;
        };
        let (value, behind) = one_value(after.trim_ascii_start());
        if !name.trim_ascii().is_empty() {
            found.push((name.trim_ascii(), value));
        }
        rest = memchr::memchr(b';', behind).and_then(|at| behind.get(at + 1..)).unwrap_or_default();
    }
    found
}

/// The value at the start of `text`, and what stands behind it.
fn one_value(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        // A name with spaces and no quotes is common: the value goes on to the next semicolon.
        let end = memchr::memchr(b';', text).unwrap_or(text.len());
        let value = text.get(..end).unwrap_or_default().trim_ascii();
        return (unfolded(value), text.get(end..).unwrap_or_default());
    };
    let mut value = Vec::new();
    let mut at = 0;
    while let Some(byte) = quoted.get(at) {
        match (byte, quoted.get(at + 1)) {
            (b'"', _) => return (unfolded(&value), quoted.get(at + 1..).unwrap_or_default()),
            // Programs of Windows forget to escape the backslashes of their paths: only what must be escaped is.
            (b'\\', Some(next @ (b'"' | b'\\'))) => {
                value.push(*next);
                at += 1;
            }
            _ => value.push(*byte),
        }
        at += 1;
    }
    (unfolded(&value), &[])
}

fn unfolded(value: &[u8]) -> Vec<u8> {
    value.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect()
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, after @ ..]) => match (transfer::hex(*high), transfer::hex(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = after;
                }
                _ => bytes.push(b'%'),
            },
            (byte, _) => bytes.push(*byte),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::item::SliceEncoding;

    #[track_caller]
    fn check(value: &str, name: &str, expected: Option<&str>) {
        let found = read(value.as_bytes(), &Charsets::new(value.as_bytes(), b"", SliceEncoding::Identity));
        assert_eq!(found.get(name), expected, "{value}");
    }

    #[test]
    fn every_form_of_a_parameter_is_read() {
        check("text/plain; charset=utf-8", "charset", Some("utf-8"));
        check("text/plain; Charset = \"utf-8\" ; format=flowed", "format", Some("flowed"));
        check("a/b; name=\"a;b\\\"c.bin\"; x=y", "name", Some("a;b\"c.bin"));
        check("a/b; name=\"a;b\"; x=y", "x", Some("y"));
        check("attachment; filename=my file.bin", "filename", Some("my file.bin"));
        check("attachment; filename*=iso-8859-1'de'M%E4rz.pdf", "filename", Some("März.pdf"));
        check("attachment; filename=old.pdf; filename*=utf-8''new.pdf", "filename", Some("new.pdf"));
        check("attachment; filename*1=b.bin; filename*0=\"a\"", "filename", Some("ab.bin"));
        check("attachment; filename*0*=utf-8''%C3; filename*1*=%BC", "filename", Some("ü"));
        check("attachment; filename=\"=?utf-8?Q?M=C3=A4rz?=\"", "filename", Some("März"));
        check("attachment; filename=\"C:\\docs\\a.bin\"", "filename", Some("C:\\docs\\a.bin"));
        check("attachment; ; =x; broken; filename=", "filename", Some(""));
        check("attachment", "filename", None);
    }
}
