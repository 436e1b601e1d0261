//! Auth: how a call proves who asks. The credential is a secret of the file, or a token that somebody else keeps fresh.

use std::collections::BTreeMap;

use base64::Engine;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::connector::call::template::{Position, Template, secret};
use crate::connector::call::{CallError, Filling};

/// `[auth.NAME]` of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum AuthSpec {
    /// `Authorization: Bearer …` (RFC 6750).
    Bearer {
        /// Name of the secret.
        secret: String,
        /// The word before it, where it is not `Bearer`.
        #[serde(default)]
        word: Option<String>,
    },
    /// `Authorization: Basic …` (RFC 7617).
    Basic {
        /// User, a template.
        user: String,
        /// Password, a template.
        password: String,
    },
    /// A header.
    Header {
        /// Its name.
        name: String,
        /// Its value, a template.
        value: String,
    },
    /// A parameter of the query.
    Query {
        /// Its name.
        name: String,
        /// Its value, a template.
        value: String,
    },
}

/// Checked and compiled.
#[derive(Debug, Clone)]
pub(crate) enum Auth {
    Bearer { secret: String, word: String },
    Basic { user: Template, password: Template },
    Header { name: String, value: Template },
    Query { name: String, value: Template },
}

/// What a credential adds to a request.
pub(crate) enum Proof {
    Header(String, String),
    Query(String, String),
}

impl Auth {
    pub(crate) fn compile(spec: &AuthSpec) -> Result<Self, String> {
        Ok(match spec {
            AuthSpec::Bearer { secret, word } => {
                Self::Bearer { secret: secret.clone(), word: word.clone().unwrap_or_else(|| "Bearer".to_owned()) }
            }
            AuthSpec::Basic { user, password } => Self::Basic { user: Template::parse(user)?, password: Template::parse(password)? },
            AuthSpec::Header { name, value } => Self::Header { name: name.to_ascii_lowercase(), value: Template::parse(value)? },
            AuthSpec::Query { name, value } => Self::Query { name: name.clone(), value: Template::parse(value)? },
        })
    }

    /// Templates whose tokens are to be checked.
    pub(crate) fn templates(&self) -> Vec<&Template> {
        match self {
            Self::Bearer { .. } => Vec::new(),
            Self::Basic { user, password } => vec![user, password],
            Self::Header { value, .. } | Self::Query { value, .. } => vec![value],
        }
    }

    /// The secret it names by itself.
    pub(crate) fn secret(&self) -> Option<&str> {
        match self {
            Self::Bearer { secret, .. } => Some(secret),
            _ => None,
        }
    }

    pub(crate) fn proof(&self, with: &Filling<'_>) -> Result<Proof, CallError> {
        let authorization = |value: String| Proof::Header("authorization".to_owned(), value);
        Ok(match self {
            Self::Bearer { secret: name, word } => authorization(format!("{word} {}", bearer(with.token, with.secrets, name)?)),
            Self::Basic { user, password } => {
                let pair = format!("{}:{}", user.fill(with, Position::Plain)?, password.fill(with, Position::Plain)?);
                authorization(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
            }
            Self::Header { name, value } => Proof::Header(name.clone(), value.fill(with, Position::Header)?),
            Self::Query { name, value } => Proof::Query(name.clone(), value.fill(with, Position::Plain)?),
        })
    }
}

fn bearer<'a>(token: Option<&'a SecretString>, secrets: &'a BTreeMap<String, Vec<SecretString>>, name: &str) -> Result<&'a str, CallError> {
    match token {
        Some(token) => Ok(token.expose_secret()),
        None => secret(secrets, name),
    }
}
