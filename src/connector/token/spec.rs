//! `[auth.NAME]` of the kinds whose credential is a token that is got, and got anew: what a manifest may say about it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::connector::call::RequestSpec;
use crate::connector::call::answer::RuleSpec;

/// How a token is shown: `Authorization: Bearer …` where nothing else is said.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShowSpec {
    /// The word before it, where it is not `Bearer`.
    #[serde(default)]
    pub word: Option<String>,
    /// The header that holds it alone, where it is not `Authorization`.
    #[serde(default)]
    pub header: Option<String>,
    /// The parameter of the query that holds it, where it is no header.
    #[serde(default)]
    pub query: Option<String>,
}

/// How a client shows its id and secret to a token endpoint (RFC 6749 §2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// As fields of the form.
    #[default]
    Body,
    /// `Authorization: Basic …`.
    Basic,
}

/// A person consents once (`omnigate channel login`), which gives a refresh token; it is kept sealed in the store, and one that replaces
/// another is written before it is used.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OAuth2Spec {
    /// Where tokens are asked for, a template.
    pub token_url: String,
    /// Where a log-in in the browser begins, a template.
    #[serde(default)]
    pub authorize_url: Option<String>,
    /// Where a log-in by code begins, a template.
    #[serde(default)]
    pub device_url: Option<String>,
    /// The client, a template.
    pub client_id: String,
    /// Name of the secret with the client's secret; public clients have none.
    #[serde(default)]
    pub client_secret: Option<String>,
    /// How the client shows who it is.
    #[serde(default)]
    pub client_auth: ClientAuth,
    /// What is asked for.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Name of the secret with a refresh token to begin with, for those who have one already.
    #[serde(default)]
    pub refresh_token: Option<String>,
    /// How long a consent lasts where the platform does not say, such as `"180d"`.
    #[serde(default)]
    pub consent_valid: Option<String>,
    /// Further fields of every question, templates.
    #[serde(default)]
    pub extra: BTreeMap<String, String>,
    /// How the token is shown.
    #[serde(default)]
    pub show: ShowSpec,
}

/// The client gets tokens by its own secret (RFC 6749 §4.4).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCredentialsSpec {
    /// Where tokens are asked for, a template.
    pub token_url: String,
    /// The client, a template.
    pub client_id: String,
    /// Name of the secret with the client's secret.
    pub client_secret: String,
    /// How the client shows who it is.
    #[serde(default)]
    pub client_auth: ClientAuth,
    /// What is asked for.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Further fields of every question, templates.
    #[serde(default)]
    pub extra: BTreeMap<String, String>,
    /// How the token is shown.
    #[serde(default)]
    pub show: ShowSpec,
}

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// RSA, PKCS #1 v1.5, with SHA-256.
    RS256,
    /// ECDSA on P-256 with SHA-256.
    ES256,
}

/// We sign a token (RFC 7519), which is the credential itself or is exchanged for one (RFC 7523).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JwtBearerSpec {
    /// Name of the secret with the private key: PEM, or the JSON key file of a Google service account, which also says issuer and key id.
    pub key: String,
    /// How it is signed.
    pub algorithm: Algorithm,
    /// `kid`, a template.
    #[serde(default)]
    pub key_id: Option<String>,
    /// `iss`, a template.
    #[serde(default)]
    pub issuer: Option<String>,
    /// `sub`, a template; left out where it is empty.
    #[serde(default)]
    pub subject: Option<String>,
    /// `aud`, a template; where tokens are asked for, if missing.
    #[serde(default)]
    pub audience: Option<String>,
    /// Further claims, templates. Where `jti` is among them, each token gets an id of its own.
    #[serde(default)]
    pub claims: BTreeMap<String, String>,
    /// What is asked for: the claim `scope`, blank separated.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// How long a signed token is good for, such as `"20m"`: as long as the platform takes it.
    pub life: String,
    /// Where it is exchanged, a template; missing: it is the credential itself.
    #[serde(default)]
    pub token_url: Option<String>,
    /// How the token is shown.
    #[serde(default)]
    pub show: ShowSpec,
}

/// What is taken of an answer that gives a token, each a jq over its JSON.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenTakeSpec {
    /// The token.
    pub token: String,
    /// The token that gets the next one.
    #[serde(default)]
    pub refresh_token: Option<String>,
    /// Seconds that it is good for.
    #[serde(default)]
    pub expires_in: Option<String>,
}

/// A log-in with name and password gives a token, and one that gets the next. No person is needed: where that one is refused, we log in
/// again.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionSpec {
    /// Logs in.
    pub login: RequestSpec,
    /// Gets the next token by the refresh token, which is `{token}` here.
    #[serde(default)]
    pub refresh: Option<RequestSpec>,
    /// What is taken of both answers.
    pub take: TokenTakeSpec,
    /// What answers mean.
    #[serde(default)]
    pub errors: Vec<RuleSpec>,
    /// How long a token is good for where the answer does not say, such as `"2h"`.
    #[serde(default)]
    pub life: Option<String>,
    /// How the token is shown.
    #[serde(default)]
    pub show: ShowSpec,
}

/// A token of weeks, which is renewed by itself before its end.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LongLivedSpec {
    /// Name of the secret with the token to begin with.
    pub secret: String,
    /// Exchanges that one, which is `{token}` here, for a long-lived one. Where it is refused, it is taken to be one already.
    #[serde(default)]
    pub exchange: Option<RequestSpec>,
    /// Gets the next token by the last one, which is `{token}` here.
    pub refresh: RequestSpec,
    /// What is taken of both answers; there is no refresh token.
    pub take: TokenTakeSpec,
    /// What answers mean.
    #[serde(default)]
    pub errors: Vec<RuleSpec>,
    /// So long before its end it is renewed, such as `"15d"`.
    pub refresh_before: String,
    /// How the token is shown.
    #[serde(default)]
    pub show: ShowSpec,
}
