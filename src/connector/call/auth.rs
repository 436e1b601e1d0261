//! Auth: how a call proves who asks. The credential is a secret of the file, or a token that somebody else gets and keeps fresh
//! (`connector::token` says how).

use std::collections::BTreeMap;

use base64::Engine;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::connector::call::template::{Position, Template, secret, token};
use crate::connector::call::{CallError, Filling};
use crate::connector::token::spec::{ClientCredentialsSpec, JwtBearerSpec, LongLivedSpec, OAuth2Spec, SessionSpec, ShowSpec};

/// `[auth.NAME]` of a manifest.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
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
    /// A token by a person's consent (OAuth 2), refreshed by itself.
    Oauth2(OAuth2Spec),
    /// A token by the client's own secret (OAuth 2).
    ClientCredentials(ClientCredentialsSpec),
    /// A token that we sign, or what it is exchanged for.
    JwtBearer(JwtBearerSpec),
    /// A token by name and password.
    Session(SessionSpec),
    /// A token of weeks that is renewed before its end.
    LongLived(LongLivedSpec),
}

impl AuthSpec {
    /// How the token is shown; `None` for kinds without one.
    pub fn show(&self) -> Option<&ShowSpec> {
        match self {
            Self::Oauth2(OAuth2Spec { show, .. })
            | Self::ClientCredentials(ClientCredentialsSpec { show, .. })
            | Self::JwtBearer(JwtBearerSpec { show, .. })
            | Self::Session(SessionSpec { show, .. })
            | Self::LongLived(LongLivedSpec { show, .. }) => Some(show),
            _ => None,
        }
    }
}

/// Checked and compiled.
#[derive(Debug, Clone)]
pub(crate) enum Auth {
    Bearer {
        secret: String,
        word: String,
    },
    Basic {
        user: Template,
        password: Template,
    },
    Header {
        name: String,
        value: Template,
    },
    Query {
        name: String,
        value: Template,
    },
    /// The token of this `[auth.NAME]`.
    Token {
        name: String,
        show: ShowSpec,
    },
}

/// What a credential adds to a request.
pub(crate) enum Proof {
    Header(String, String),
    Query(String, String),
}

impl Auth {
    pub(crate) fn compile(name: &str, spec: &AuthSpec) -> Result<Self, String> {
        if let Some(show) = spec.show() {
            if [show.word.is_some(), show.header.is_some(), show.query.is_some()].iter().filter(|given| **given).count() > 1 {
                return Err("`show` names one of word, header, query".to_owned());
            }
            return Ok(Self::Token { name: name.to_owned(), show: show.clone() });
        }
        Ok(match spec {
            AuthSpec::Bearer { secret, word } => {
                Self::Bearer { secret: secret.clone(), word: word.clone().unwrap_or_else(|| "Bearer".to_owned()) }
            }
            AuthSpec::Basic { user, password } => Self::Basic { user: Template::parse(user)?, password: Template::parse(password)? },
            AuthSpec::Header { name, value } => Self::Header { name: name.to_ascii_lowercase(), value: Template::parse(value)? },
            AuthSpec::Query { name, value } => Self::Query { name: name.clone(), value: Template::parse(value)? },
            _ => return Err("gets a token, and does not say how it is shown".to_owned()),
        })
    }

    /// Templates whose tokens are to be checked.
    pub(crate) fn templates(&self) -> Vec<&Template> {
        match self {
            Self::Bearer { .. } | Self::Token { .. } => Vec::new(),
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

    /// The `[auth.NAME]` whose token it needs.
    pub(crate) fn token(&self) -> Option<&str> {
        match self {
            Self::Token { name, .. } => Some(name),
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
            Self::Token { show, .. } => match (&show.header, &show.query) {
                (Some(header), _) => Proof::Header(header.to_ascii_lowercase(), token(with)?.to_owned()),
                (_, Some(query)) => Proof::Query(query.clone(), token(with)?.to_owned()),
                _ => authorization(format!("{} {}", show.word.as_deref().unwrap_or("Bearer"), token(with)?)),
            },
        })
    }
}

fn bearer<'a>(token: Option<&'a SecretString>, secrets: &'a BTreeMap<String, Vec<SecretString>>, name: &str) -> Result<&'a str, CallError> {
    match token {
        Some(token) => Ok(token.expose_secret()),
        None => secret(secrets, name),
    }
}
