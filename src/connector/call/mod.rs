//! Calls: HTTP requests as a manifest writes them. Values in, a complete request out; and an answer judged. No I/O.
//!
//! A request is written as data with templates (`{settings.api}/messages/{message.id}`); only where a body has a shape of its own
//! there is jq. What fills it is one JSON object, the *context*; its roots (`settings`, `part`, `attachment`, …) are told by who makes
//! the call and checked at load. Secrets are `{secrets.NAME}`; they are no part of the context, so that no jq and no log sees them.
//!
//! What must stay true: a value from outside never forms scheme or host of a request that carries a credential; path and query are
//! percent-encoded, header values hold no line breaks.

pub mod answer;
pub mod auth;
pub mod compile;
mod render;
pub mod template;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

use crate::connector::call::auth::Auth;
use crate::connector::call::template::Template;
use crate::connector::jq::{Filter, JqError};

/// The exchange where the manifest says nothing.
const WITHIN: Duration = Duration::from_secs(30);
/// Largest answer where nobody says more.
pub const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A request as it stands in a manifest. Exactly one of the methods names the URL; at most one of the bodies is given.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestSpec {
    /// URL of a GET.
    #[serde(default)]
    pub get: Option<String>,
    /// URL of a POST.
    #[serde(default)]
    pub post: Option<String>,
    /// URL of a PUT.
    #[serde(default)]
    pub put: Option<String>,
    /// URL of a PATCH.
    #[serde(default)]
    pub patch: Option<String>,
    /// URL of a DELETE.
    #[serde(default)]
    pub delete: Option<String>,
    /// Query parameters; one whose value is a single token that is null is left out.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// Headers; one whose value is a single token that is null is left out.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Name of the `[auth.NAME]` that proves who asks.
    #[serde(default)]
    pub auth: Option<String>,
    /// Body: JSON, with templates in its texts; a text that is one token alone keeps the type of its value.
    #[serde(default)]
    pub json: Option<Value>,
    /// Body: JSON that this jq makes of the context.
    #[serde(default)]
    pub jq: Option<String>,
    /// Body: `application/x-www-form-urlencoded`.
    #[serde(default)]
    pub form: BTreeMap<String, String>,
    /// Body: `multipart/form-data`.
    #[serde(default)]
    pub multipart: Vec<PartSpec>,
    /// Body: text of the type that `headers` say.
    #[serde(default)]
    pub text: Option<String>,
    /// Body: the bytes of the file that goes with the call, as they are.
    #[serde(default)]
    pub file: bool,
    /// The whole exchange, such as `"30s"`.
    #[serde(default)]
    pub within: Option<String>,
}

/// A part of a form.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PartSpec {
    /// Name of the field, a template.
    pub name: String,
    /// Its value, a template.
    #[serde(default)]
    pub value: Option<String>,
    /// Its value is what this jq makes of the context: a text as it is, all else as JSON.
    #[serde(default)]
    pub jq: Option<String>,
    /// It is the files that go with the call, a part each.
    #[serde(default)]
    pub files: bool,
}

/// A request, checked and compiled.
#[derive(Debug)]
pub struct Call {
    method: &'static str,
    url: Template,
    query: Vec<(String, Template)>,
    headers: Vec<(String, Template)>,
    body: Body,
    auth: Option<Auth>,
    within: Duration,
    hosts: Vec<String>,
    /// Names of settings that hold a URL: the admin wrote their hosts down.
    url_settings: Vec<String>,
}

#[derive(Debug)]
enum Body {
    None,
    Json(JsonTemplate),
    Jq(Box<Filter>),
    Form(Vec<(String, Template)>),
    Multipart(Vec<(Template, PartBody)>),
    Text(Template),
    File,
}

#[derive(Debug)]
enum PartBody {
    Text(Template),
    Jq(Box<Filter>),
    Files,
}

impl Call {
    /// Names of the secrets it cannot be made without.
    pub fn secrets(&self) -> Vec<&str> {
        let of_auth = self.auth.iter().flat_map(|auth| {
            let named = auth.templates().into_iter().flat_map(Template::secrets);
            auth.secret().into_iter().chain(named).collect::<Vec<_>>()
        });
        self.templates().into_iter().flat_map(Template::secrets).chain(of_auth).collect()
    }

    /// The `[auth.NAME]` whose token it needs, where it needs one.
    pub fn token(&self) -> Option<&str> {
        self.auth.as_ref().and_then(Auth::token)
    }

    /// Paths into the context that its address, query, headers and form name.
    pub fn paths(&self) -> impl Iterator<Item = &[String]> {
        self.templates().into_iter().flat_map(Template::paths)
    }

    fn templates(&self) -> Vec<&Template> {
        let pairs = self.query.iter().chain(&self.headers).map(|(_, template)| template);
        let mut all: Vec<&Template> = std::iter::once(&self.url).chain(pairs).collect();
        match &self.body {
            Body::Form(fields) => all.extend(fields.iter().map(|(_, template)| template)),
            Body::Text(template) => all.push(template),
            Body::Json(json) => json.templates(&mut all),
            _ => {}
        }
        all
    }
}

/// A message of a stream, compiled: JSON with templates in its texts, or one text.
#[derive(Debug)]
pub struct Message(JsonTemplate);

/// JSON with templates in its texts.
#[derive(Debug)]
enum JsonTemplate {
    Plain(Value),
    Text(Template),
    List(Vec<JsonTemplate>),
    Object(Vec<(String, JsonTemplate)>),
}

impl JsonTemplate {
    fn templates<'a>(&'a self, all: &mut Vec<&'a Template>) {
        match self {
            Self::Plain(_) => {}
            Self::Text(template) => all.push(template),
            Self::List(items) => items.iter().for_each(|item| item.templates(all)),
            Self::Object(entries) => entries.iter().for_each(|(_, value)| value.templates(all)),
        }
    }
}

/// What fills a call.
#[derive(Clone, Copy)]
pub struct Filling<'a> {
    /// The context: an object by roots.
    pub context: &'a Value,
    /// Secrets of the channel or destination by name; the first value of each is the current one.
    pub secrets: &'a BTreeMap<String, Vec<SecretString>>,
    /// The token of the call's auth, where that is no plain secret.
    pub token: Option<&'a SecretString>,
    /// Files that go with it.
    pub files: &'a [CallFile],
}

/// A file that goes with a call.
#[derive(Debug, Clone)]
pub struct CallFile {
    /// Name.
    pub name: String,
    /// Media type.
    pub media_type: String,
    /// Content.
    pub bytes: bytes::Bytes,
}

/// Why a call cannot be made. Shows names, never values (I7).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// A value that the request needs is not there.
    #[error("`{{{0}}}` is not there")]
    Missing(String),
    /// A value is a list or an object where a text is needed.
    #[error("`{{{0}}}` is no text")]
    NotText(String),
    /// What came out is no URL.
    #[error("the address is no http(s) URL")]
    Url,
    /// The address leads to a host that the manifest does not name, and the call carries a credential.
    #[error("the address leads to a host that `hosts` does not name")]
    Host,
    /// The jq of the body failed.
    #[error("the body: {0}")]
    Body(#[from] JqError),
    /// The jq of the body did not give exactly one value.
    #[error("the body's jq gave {0} values, one is needed")]
    Outputs(usize),
}
