//! What is signed: a text put together from the request.

use serde::Deserialize;
use sha2::Digest;

use crate::connector::text::hex;
use crate::connector::verify::place::{Place, Presented};

/// What is signed: literal text and parts of the request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Template(Vec<Part>);

/// What fills a template besides the request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filling<'a> {
    /// The signed time, as it is written.
    pub time: Option<&'a str>,
    /// The secret, for plain hashes.
    pub secret: &'a str,
    /// The public URL, in the form to try.
    pub url: &'a str,
    /// The query parameter that is the signature itself.
    pub own: Option<&'a str>,
    /// The parts are sorted before they are joined.
    pub sort: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Body,
    BodySha256,
    BodySha256Hex,
    Time,
    Secret,
    Url,
    UrlNoQuery,
    /// MessageBird: the query's pairs by name, written anew as a form is.
    QuerySorted,
    FormSorted,
    /// Vonage: every pair behind an ampersand, without the signature itself, `&` and `=` of values as `_`.
    QueryAmpersands,
    /// Plivo V3: the sorted query and the sorted form, with what stands between them.
    PlivoParameters,
    Place(Place),
}

impl TryFrom<String> for Template {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text.as_str();
        while let Some(open) = rest.find('{') {
            let (lead, tail) = rest.split_at(open);
            if !lead.is_empty() {
                parts.push(Part::Literal(lead.to_owned()));
            }
            let (token, after) = tail.get(1..).and_then(|tail| tail.split_once('}')).ok_or("a `{` without its `}`")?;
            parts.push(part(token)?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Self(parts))
    }
}

fn part(token: &str) -> Result<Part, String> {
    let named = |name: &str| Some(name.to_owned());
    Ok(match token.split_once(':').unwrap_or((token, "")) {
        ("body", "") => Part::Body,
        ("body.sha256", "") => Part::BodySha256,
        ("body.sha256hex", "") => Part::BodySha256Hex,
        ("ts", "") => Part::Time,
        ("secret", "") => Part::Secret,
        ("url", "") => Part::Url,
        ("url.noquery", "") => Part::UrlNoQuery,
        ("query.sorted", "k=v&") => Part::QuerySorted,
        ("form.sorted", "kv") => Part::FormSorted,
        ("query.sorted", "&k=v") => Part::QueryAmpersands,
        ("parameters", "plivo") => Part::PlivoParameters,
        ("header", name) if !name.is_empty() => Part::Place(Place { header: named(name), ..Place::default() }),
        ("form", name) if !name.is_empty() => Part::Place(Place { form: named(name), ..Place::default() }),
        ("query", name) if !name.is_empty() => Part::Place(Place { query: named(name), ..Place::default() }),
        ("xml", name) if !name.is_empty() => Part::Place(Place { xml: named(name), ..Place::default() }),
        ("json", name) if name.starts_with('/') => Part::Place(Place { json: named(name), ..Place::default() }),
        _ => return Err(format!("unknown token `{{{token}}}` in `signed`")),
    })
}

impl Template {
    /// The body, and nothing else.
    pub fn body_only() -> Self {
        Self(vec![Part::Body])
    }

    /// Whether the secret itself is part of it.
    pub fn has_secret(&self) -> bool {
        self.0.contains(&Part::Secret)
    }

    /// Whether what is at `place` is part of it, by itself or as the time.
    pub fn names(&self, place: &Place) -> bool {
        self.0.iter().any(|part| match part {
            Part::Time => true,
            Part::Place(named) => named == place,
            Part::QueryAmpersands | Part::QuerySorted | Part::Url => place.query.is_some(),
            _ => false,
        })
    }

    /// The text for a request.
    pub fn fill(&self, request: &Presented<'_>, with: Filling<'_>) -> Option<Vec<u8>> {
        let mut parts: Vec<Vec<u8>> = Vec::with_capacity(self.0.len());
        for part in &self.0 {
            let mut out = Vec::new();
            part.write(request, with, &mut out)?;
            parts.push(out);
        }
        if with.sort {
            parts.sort();
        }
        Some(parts.concat())
    }
}

impl Part {
    fn write(&self, request: &Presented<'_>, with: Filling<'_>, out: &mut Vec<u8>) -> Option<()> {
        let query = with.url.split_once('?').map_or("", |(_, query)| query);
        let no_query = with.url.split('?').next()?;
        match self {
            Self::Literal(text) => out.extend_from_slice(text.as_bytes()),
            Self::Body => out.extend_from_slice(request.body),
            Self::BodySha256 => out.extend_from_slice(&sha2::Sha256::digest(request.body)),
            Self::BodySha256Hex => out.extend_from_slice(hex(&sha2::Sha256::digest(request.body)).as_bytes()),
            Self::Time => out.extend_from_slice(with.time?.as_bytes()),
            Self::Secret => out.extend_from_slice(with.secret.as_bytes()),
            Self::Url => out.extend_from_slice(with.url.as_bytes()),
            Self::UrlNoQuery => out.extend_from_slice(no_query.as_bytes()),
            Self::QuerySorted => out.extend_from_slice(encoded(query).as_bytes()),
            Self::FormSorted if request.is_form() => out.extend_from_slice(sorted(request.body, "", "").as_bytes()),
            Self::FormSorted => {}
            Self::QueryAmpersands => {
                let plain = |text: &str| text.replace(['&', '='], "_");
                let all: std::collections::BTreeSet<_> = url::form_urlencoded::parse(query.as_bytes()).collect();
                for (key, value) in all.iter().filter(|(key, _)| with.own != Some(key.as_ref())) {
                    out.extend_from_slice(format!("&{key}={}", plain(value)).as_bytes());
                }
            }
            Self::PlivoParameters => {
                let query = sorted(query.as_bytes(), "=", "&");
                let form = if request.is_form() { sorted(request.body, "", "") } else { String::new() };
                if !query.is_empty() || !form.is_empty() {
                    out.push(b'?');
                }
                out.extend_from_slice(query.as_bytes());
                if !query.is_empty() && !form.is_empty() {
                    out.push(b'.');
                }
                out.extend_from_slice(form.as_bytes());
            }
            Self::Place(place) => out.extend_from_slice(request.at(place)?.as_bytes()),
        }
        Some(())
    }
}

/// A query by name, values in their order, encoded as RFC 3986 §2.3 and forms do: what was written as `%20` becomes `+`.
fn encoded(query: &str) -> String {
    let mut fields: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).collect();
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    let written = |text: &str| -> String {
        let one = |byte: u8| match byte {
            b' ' => "+".to_owned(),
            b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        };
        text.bytes().map(one).collect()
    };
    fields.iter().map(|(key, value)| format!("{}={}", written(key), written(value))).collect::<Vec<_>>().join("&")
}

/// Decoded fields by name, distinct values sorted.
fn sorted(text: &[u8], join: &str, between: &str) -> String {
    let fields: std::collections::BTreeSet<_> = url::form_urlencoded::parse(text).collect();
    fields.iter().map(|(key, value)| format!("{key}{join}{value}")).collect::<Vec<_>>().join(between)
}
