//! Rendering a call: a complete request of the context.

use bytes::Bytes;
use serde_json::{Map, Value};
use url::Url;

use crate::connector::call::auth::Proof;
use crate::connector::call::template::{Position, Template};
use crate::connector::call::{ANSWER_BYTES_MAX, Body, Call, CallError, Filling, JsonTemplate, Message, PartBody};
use crate::connector::jq::{Filter, Input};
use crate::ports::http::{Egress, HttpBody, HttpPart, HttpRequest};

impl Call {
    /// The request.
    ///
    /// # Errors
    /// [`CallError`]: a value is missing, or the address leads where it must not.
    pub fn render(&self, with: &Filling<'_>) -> Result<HttpRequest, CallError> {
        self.render_at(with, None)
    }

    /// The request, or the same to an address that an answer to it named: with its credential, so only to where that may go.
    ///
    /// # Errors
    /// [`CallError`]: a value is missing, or the address leads where it must not.
    pub fn render_at(&self, with: &Filling<'_>, address: Option<Url>) -> Result<HttpRequest, CallError> {
        let named = address.is_some();
        let mut url = match address {
            Some(url) => url,
            None => Url::parse(&as_http(self.url.fill(with, Position::Path)?)).map_err(|_| CallError::Url)?,
        };
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !url.username().is_empty() || url.password().is_some() {
            return Err(CallError::Url);
        }
        let written = self.is_written(&url, with.context);
        if named && !written {
            return Err(CallError::Host);
        }
        let secret = |template: &Template| template.secrets().next().is_some() || template.names_token();
        let names_secret = |templates: &[(String, Template)]| templates.iter().any(|(_, template)| secret(template));
        if !written && (secret(&self.url) || names_secret(&self.query) || names_secret(&self.headers)) {
            return Err(CallError::Host);
        }
        let mut headers = Vec::new();
        let mut pairs = Vec::new();
        // An address that was named has its query.
        for (name, value) in self.query.iter().filter(|_| !named) {
            if !value.is_absent(with.context) {
                pairs.push((name.clone(), value.fill(with, Position::Plain)?));
            }
        }
        for (name, value) in &self.headers {
            if !value.is_absent(with.context) {
                headers.push((name.clone(), value.fill(with, Position::Header)?));
            }
        }
        // A credential stays where the manifest or the admin sends it; elsewhere the request goes without.
        if let Some(auth) = self.auth.as_ref().filter(|_| written) {
            match auth.proof(with)? {
                Proof::Header(name, value) => headers.push((name, value)),
                Proof::Query(name, value) => pairs.push((name, value)),
            }
        }
        if !pairs.is_empty() {
            url.query_pairs_mut().extend_pairs(pairs);
        }
        let body = self.body.render(with, &mut headers)?;
        let egress = if written { Egress::Written } else { Egress::Public };
        Ok(HttpRequest { method: self.method, url, headers, body, within: self.within, answer_bytes_max: ANSWER_BYTES_MAX, egress })
    }

    /// The request that a redirect of `request` leads to. Another origin gets neither headers nor parameters of ours.
    ///
    /// # Errors
    /// [`CallError::Url`]: it leads nowhere, or from https to http.
    pub fn follow(&self, request: &HttpRequest, location: &str, context: &Value) -> Result<HttpRequest, CallError> {
        let url = request.url.join(location).map_err(|_| CallError::Url)?;
        let safe = url.scheme() == "https" || (url.scheme() == "http" && request.url.scheme() == "http");
        if request.method != "GET" || !safe || !url.has_host() || !url.username().is_empty() || url.password().is_some() {
            return Err(CallError::Url);
        }
        let same = url.origin() == request.url.origin();
        let headers = if same { request.headers.clone() } else { Vec::new() };
        let egress = if same { request.egress } else { self.egress(&url, context) };
        Ok(HttpRequest { url, headers, egress, ..request.clone() })
    }

    fn egress(&self, url: &Url, context: &Value) -> Egress {
        if self.is_written(url, context) { Egress::Written } else { Egress::Public }
    }

    /// The host that it goes to, as far as settings say it.
    pub fn server(&self, settings: &Value) -> String {
        let context = serde_json::json!({ "settings": settings });
        let set = self.url.first_path().and_then(|path| context.pointer(&format!("/{}", path.join("/")))).and_then(Value::as_str);
        let url = Url::parse(set.unwrap_or_else(|| self.url.lead())).ok();
        url.and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
    }

    /// Whether the manifest or the admin wrote the host of this address down.
    fn is_written(&self, url: &Url, context: &Value) -> bool {
        let Some(host) = url.host_str() else { return false };
        let named = |allowed: &String| match allowed.strip_prefix("*.") {
            Some(domain) => host.strip_suffix(domain).is_some_and(|lead| lead.ends_with('.')),
            None => allowed == host,
        };
        if url.scheme() == "https" && self.hosts.iter().any(named) {
            return true;
        }
        self.url_settings.iter().any(|name| {
            let set = context.get("settings").and_then(|settings| settings.get(name)).and_then(Value::as_str);
            set.and_then(|set| Url::parse(set).ok()).is_some_and(|set| set.origin() == url.origin())
        })
    }
}

/// The address of a websocket as that of the request that opens it: the schemes differ in their name only (RFC 6455 §3).
fn as_http(text: String) -> String {
    match text.strip_prefix("ws").filter(|rest| rest.starts_with("://") || rest.starts_with("s://")) {
        Some(rest) => format!("http{rest}"),
        None => text,
    }
}

impl Message {
    /// The text to send: JSON, or the text itself where the template is one.
    ///
    /// # Errors
    /// [`CallError`]: a value is missing.
    pub fn fill(&self, with: &Filling<'_>) -> Result<String, CallError> {
        Ok(match self.0.fill(with)? {
            Value::String(text) => text,
            other => other.to_string(),
        })
    }
}

impl Body {
    fn render(&self, with: &Filling<'_>, headers: &mut Vec<(String, String)>) -> Result<HttpBody, CallError> {
        let mut typed = |kind: &str| {
            if !headers.iter().any(|(name, _)| name == "content-type") {
                headers.push(("content-type".to_owned(), kind.to_owned()));
            }
        };
        Ok(match self {
            Self::None => HttpBody::None,
            Self::Json(template) => {
                typed("application/json");
                HttpBody::Bytes(Bytes::from(template.fill(with)?.to_string()))
            }
            Self::Jq(filter) => {
                typed("application/json");
                HttpBody::Bytes(one(filter, with)?)
            }
            Self::Form(fields) => {
                typed("application/x-www-form-urlencoded");
                let mut form = url::form_urlencoded::Serializer::new(String::new());
                for (name, value) in fields {
                    if !value.is_absent(with.context) {
                        form.append_pair(name, &value.fill(with, Position::Plain)?);
                    }
                }
                HttpBody::Bytes(Bytes::from(form.finish()))
            }
            Self::Multipart(parts) => HttpBody::Multipart(parts_of(parts, with)?),
            Self::Text(template) => HttpBody::Bytes(Bytes::from(template.fill(with, Position::Plain)?)),
            Self::File => {
                let file = with.files.first().ok_or_else(|| CallError::Missing("file".to_owned()))?;
                typed(&file.media_type);
                HttpBody::Bytes(file.bytes.clone())
            }
        })
    }
}

fn parts_of(parts: &[(Template, PartBody)], with: &Filling<'_>) -> Result<Vec<HttpPart>, CallError> {
    let mut out = Vec::new();
    for (name, part) in parts {
        let name = name.fill(with, Position::Header)?;
        let plain = |bytes: Bytes| HttpPart { name: name.clone(), file_name: None, media_type: None, bytes };
        match part {
            PartBody::Text(template) => out.push(plain(Bytes::from(template.fill(with, Position::Plain)?))),
            PartBody::Jq(filter) => out.push(plain(match value_of(filter, with)? {
                Value::String(text) => Bytes::from(text),
                other => Bytes::from(other.to_string()),
            })),
            PartBody::Files => out.extend(with.files.iter().map(|file| HttpPart {
                name: name.clone(),
                file_name: Some(file.name.clone()),
                media_type: Some(file.media_type.clone()),
                bytes: file.bytes.clone(),
            })),
        }
    }
    Ok(out)
}

/// The one value that a filter makes of the context.
fn value_of(filter: &Filter, with: &Filling<'_>) -> Result<Value, CallError> {
    let mut made = filter.run_of(Input::Value(with.context), &[])?;
    match (made.pop(), made.len()) {
        (Some(value), 0) => Ok(value),
        (last, before) => Err(CallError::Outputs(before + usize::from(last.is_some()))),
    }
}

fn one(filter: &Filter, with: &Filling<'_>) -> Result<Bytes, CallError> {
    Ok(Bytes::from(value_of(filter, with)?.to_string()))
}

impl JsonTemplate {
    fn fill(&self, with: &Filling<'_>) -> Result<Value, CallError> {
        Ok(match self {
            Self::Plain(value) => value.clone(),
            Self::Text(template) => match template.value(with.context) {
                Some(value) => value.clone(),
                None => Value::String(template.fill(with, Position::Plain)?),
            },
            Self::List(items) => Value::Array(items.iter().map(|item| item.fill(with)).collect::<Result<_, _>>()?),
            Self::Object(entries) => {
                let filled = entries.iter().map(|(name, value)| Ok((name.clone(), value.fill(with)?)));
                Value::Object(filled.collect::<Result<Map<_, _>, CallError>>()?)
            }
        })
    }
}
