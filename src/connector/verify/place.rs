//! Where something stands in a request: a header, a field, a place in a body.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use crate::connector::decode::{self, xml};
use crate::connector::jq;
use crate::connector::verify::signature::{self, Encoding};

/// Where a part of the request is. Exactly one must be named.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// A header.
    #[serde(default)]
    pub header: Option<String>,
    /// A field of a form, urlencoded or multipart.
    #[serde(default)]
    pub form: Option<String>,
    /// A place in a JSON body (RFC 6901).
    #[serde(default)]
    pub json: Option<String>,
    /// A parameter of the query.
    #[serde(default)]
    pub query: Option<String>,
    /// The text of an element below the root of an XML body.
    #[serde(default)]
    pub xml: Option<String>,
    /// Basic credentials: `user:password` as one text.
    #[serde(default)]
    pub basic: bool,
}

impl Place {
    /// Whether exactly one place is named.
    ///
    /// # Errors
    /// None or several are.
    pub fn single(&self) -> Result<(), String> {
        let named = [&self.header, &self.form, &self.json, &self.query, &self.xml].into_iter().flatten().count() + usize::from(self.basic);
        if named == 1 { Ok(()) } else { Err("name exactly one of header, form, json, query, xml".to_owned()) }
    }
}

/// A request as verification sees it.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// Headers, names in lower case.
    pub headers: &'a [(String, String)],
    /// The public URL, for schemes that sign it.
    pub url: &'a str,
    /// The raw bytes.
    pub body: &'a [u8],
}

impl<'a> Presented<'a> {
    /// A header.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The query, without its question mark.
    pub fn query(&self) -> &'a str {
        self.url.split_once('?').map_or("", |(_, query)| query)
    }

    /// Whether the body is an urlencoded form, as far as its header says.
    pub fn is_form(&self) -> bool {
        self.header("content-type")
            .is_none_or(|kind| kind.trim_start().to_ascii_lowercase().starts_with("application/x-www-form-urlencoded"))
    }

    /// The text at a place in a JSON body.
    pub fn json(&self, pointer: &str) -> Option<String> {
        match jq::parse_json(self.body, 128).ok()?.pointer(pointer)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// What is at a place.
    pub fn at(&self, place: &Place) -> Option<Cow<'a, str>> {
        let field = |text: &'a [u8], name: &str| url::form_urlencoded::parse(text).find(|(key, _)| key == name).map(|(_, value)| value);
        if place.basic {
            let credentials = self.header("authorization")?.strip_prefix("Basic ")?;
            return String::from_utf8(signature::decode(Encoding::Base64, credentials.trim())?).ok().map(Cow::Owned);
        }
        match place {
            Place { header: Some(name), .. } => self.header(name).map(Cow::Borrowed),
            Place { form: Some(name), .. } => match self.header("content-type").filter(|kind| kind.starts_with("multipart/form-data")) {
                Some(kind) => decode::multipart_field(kind, self.body, name).map(Cow::Owned),
                None => field(self.body, name),
            },
            Place { json: Some(pointer), .. } => self.json(pointer).map(Cow::Owned),
            Place { query: Some(name), .. } => field(self.query().as_bytes(), name),
            Place { xml: Some(name), .. } => xml::child_text(self.body, name).map(Cow::Owned),
            _ => None,
        }
    }
}
