//! Tokens as a manifest describes them: `[auth.NAME]` of the kinds `oauth2`, `client_credentials`, `jwt_bearer`, `session` and `long_lived`,
//! checked and compiled. Data in, values out: `tokens` is who asks, and keeps.
//!
//! What must stay true: what gets a token goes to a host that the manifest or the admin wrote down, like every call with a credential.

pub mod spec;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::connector::call::answer::{ANSWER_VARS, Judged, Rules};
use crate::connector::call::auth::AuthSpec;
use crate::connector::call::compile::{Compiler, Scope};
use crate::connector::call::template::{Position, Template};
use crate::connector::call::{Call, CallError, Filling, RequestSpec};
use crate::connector::jq::Filter;
use crate::connector::manifest::duration;
use crate::connector::problem::Problem;
use crate::connector::token::spec::{
    Algorithm, ClientAuth, ClientCredentialsSpec, JwtBearerSpec, LongLivedSpec, OAuth2Spec, SessionSpec, TokenTakeSpec,
};

/// How the token of one `[auth.NAME]` is got.
#[derive(Debug)]
pub struct TokenPlan {
    /// Its name.
    pub name: String,
    /// How.
    pub kind: TokenKind,
}

/// The ways of getting a token.
#[derive(Debug)]
pub enum TokenKind {
    /// By a person's consent.
    OAuth2(Box<OAuth2Plan>),
    /// By the client's own secret.
    ClientCredentials(ClientPlan),
    /// By a signature of ours.
    JwtBearer(Box<JwtPlan>),
    /// By name and password.
    Session(Arc<SessionPlan>),
    /// By the token before it.
    LongLived(Arc<LongLivedPlan>),
}

/// A client of a token endpoint.
#[derive(Debug)]
pub struct ClientPlan {
    /// The token endpoint.
    pub token_url: Template,
    /// The client.
    pub id: Template,
    /// Name of the secret with its secret.
    pub secret: Option<String>,
    /// How it shows who it is.
    pub auth: ClientAuth,
    /// What is asked for, blank separated.
    pub scope: String,
    /// Further fields of every question.
    pub extra: Vec<(String, Template)>,
}

/// A person's consent.
#[derive(Debug)]
pub struct OAuth2Plan {
    /// The client.
    pub client: ClientPlan,
    /// Where a log-in in the browser begins.
    pub authorize_url: Option<Template>,
    /// Where a log-in by code begins.
    pub device_url: Option<Template>,
    /// Name of the secret with a refresh token to begin with.
    pub first: Option<String>,
    /// How long a consent lasts where the platform does not say.
    pub valid: Option<Duration>,
}

/// A token that we sign.
#[derive(Debug)]
pub struct JwtPlan {
    /// Name of the secret with the key.
    pub key: String,
    /// How it is signed.
    pub algorithm: Algorithm,
    /// `kid`.
    pub key_id: Option<Template>,
    /// Claims.
    pub claims: Vec<(String, Template)>,
    /// How long it is good for.
    pub life: Duration,
    /// Where it is exchanged.
    pub token_url: Option<Template>,
}

/// A log-in with name and password.
#[derive(Debug)]
pub struct SessionPlan {
    /// Logs in.
    pub login: Call,
    /// Gets the next token.
    pub refresh: Option<Call>,
    /// Reads both answers.
    pub answer: TokenAnswer,
}

/// A token of weeks.
#[derive(Debug)]
pub struct LongLivedPlan {
    /// Name of the secret with the token to begin with.
    pub first: String,
    /// Exchanges it.
    pub exchange: Option<Call>,
    /// Gets the next.
    pub refresh: Call,
    /// Reads both answers.
    pub answer: TokenAnswer,
    /// So long before its end it is renewed.
    pub before: Duration,
}

/// Reads an answer that gives a token.
#[derive(Debug)]
pub struct TokenAnswer {
    /// What answers mean.
    pub rules: Rules,
    token: Filter,
    refresh_token: Option<Filter>,
    expires_in: Option<Filter>,
    /// How long a token is good for where the answer does not say.
    pub life: Option<Duration>,
}

/// What an answer gave.
#[derive(Debug)]
pub struct Taken {
    /// The token.
    pub token: SecretString,
    /// The token that gets the next one.
    pub refresh_token: Option<SecretString>,
    /// How long it is good for.
    pub expires_in: Option<Duration>,
}

impl TokenAnswer {
    /// What a good answer gives; `None` if there is no token in it.
    pub fn take(&self, judged: &Judged) -> Option<Taken> {
        let text = |filter: &Filter| match judged.take(filter) {
            Ok(Value::String(text)) if !text.is_empty() => Some(SecretString::from(text)),
            _ => None,
        };
        let seconds = |filter: &Filter| match judged.take(filter).ok()? {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let told = self.expires_in.as_ref().and_then(seconds).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Some(Taken {
            token: text(&self.token)?,
            refresh_token: self.refresh_token.as_ref().and_then(text),
            expires_in: told.filter(|span| !span.is_zero()).or(self.life),
        })
    }
}

/// The text of a template that may be left out: one that is empty, or names a setting that is not set, is.
///
/// # Errors
/// [`CallError`]: it cannot be filled.
pub fn optional(template: Option<&Template>, with: &Filling<'_>) -> Result<Option<String>, CallError> {
    let Some(template) = template.filter(|template| !template.is_absent(with.context)) else { return Ok(None) };
    Ok(Some(template.fill(with, Position::Plain)?).filter(|text| !text.is_empty()))
}

impl TokenPlan {
    /// Checks and compiles `[auth.NAME]`; `None` for kinds without a token of their own.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(name: &str, spec: &AuthSpec, scope: &Scope<'_>) -> Result<Option<Self>, Vec<Problem>> {
        let place = format!("auth.{name}");
        let mut checking = Checking { compiler: Compiler::for_tokens(&place, scope), scope, place: &place };
        let kind = match spec {
            AuthSpec::Oauth2(spec) => checking.oauth2(spec).map(|plan| TokenKind::OAuth2(Box::new(plan))),
            AuthSpec::ClientCredentials(spec) => checking.client_credentials(spec).map(TokenKind::ClientCredentials),
            AuthSpec::JwtBearer(spec) => checking.jwt(spec).map(|plan| TokenKind::JwtBearer(Box::new(plan))),
            AuthSpec::Session(spec) => checking.session(spec).map(|plan| TokenKind::Session(Arc::new(plan))),
            AuthSpec::LongLived(spec) => checking.long_lived(spec).map(|plan| TokenKind::LongLived(Arc::new(plan))),
            _ => return Ok(None),
        };
        match (kind, checking.compiler.problems) {
            (Some(kind), problems) if problems.is_empty() => Ok(Some(Self { name: name.to_owned(), kind })),
            (_, problems) => Err(problems),
        }
    }

    /// Whether a channel has set all that it needs.
    pub fn is_given(&self, settings: &Value, secrets: &BTreeMap<String, Vec<SecretString>>) -> bool {
        self.lacks(settings, secrets).is_empty()
    }

    /// The secrets and settings that it needs and a channel has not set.
    pub fn lacks(&self, settings: &Value, secrets: &BTreeMap<String, Vec<SecretString>>) -> Vec<String> {
        let set = |name: &str| secrets.get(name).is_some_and(|values| values.iter().any(|value| !value.expose_secret().is_empty()));
        let known = |name: &str| settings.get(name).is_some_and(|value| !value.is_null() && value != "");
        let (templates, calls): (Vec<&Template>, Vec<&Call>) = match &self.kind {
            TokenKind::OAuth2(plan) => (vec![&plan.client.token_url, &plan.client.id], Vec::new()),
            TokenKind::ClientCredentials(client) => (vec![&client.token_url, &client.id], Vec::new()),
            TokenKind::JwtBearer(plan) => (plan.token_url.iter().collect(), Vec::new()),
            TokenKind::Session(plan) => (Vec::new(), vec![&plan.login]),
            TokenKind::LongLived(plan) => (Vec::new(), vec![&plan.refresh]),
        };
        let named = match &self.kind {
            TokenKind::ClientCredentials(client) => client.secret.as_deref(),
            TokenKind::JwtBearer(plan) => Some(plan.key.as_str()),
            TokenKind::LongLived(plan) => Some(plan.first.as_str()),
            // A public client has no secret, and a person who logs in no token to begin with.
            TokenKind::OAuth2(_) | TokenKind::Session(_) => None,
        };
        let secrets = templates.iter().flat_map(|template| template.secrets()).chain(calls.iter().flat_map(|call| call.secrets()));
        let paths = templates.iter().flat_map(|template| template.paths()).chain(calls.iter().flat_map(|call| call.paths()));
        let settings = paths.filter(|path| path.first().is_some_and(|root| root == "settings")).filter_map(|path| path.get(1));
        let unset = named.into_iter().chain(secrets).filter(|name| !set(name));
        unset.chain(settings.map(String::as_str).filter(|name| !known(name))).map(str::to_owned).collect()
    }

    /// Whether something of it is kept between runs, which one process alone may use up.
    pub fn keeps(&self) -> bool {
        matches!(self.kind, TokenKind::OAuth2(_) | TokenKind::Session(_) | TokenKind::LongLived(_))
    }

    /// Names of the settings that its calls use.
    pub fn settings(&self) -> Vec<&str> {
        let calls: Vec<&Call> = match &self.kind {
            TokenKind::Session(plan) => std::iter::once(&plan.login).chain(&plan.refresh).collect(),
            TokenKind::LongLived(plan) => std::iter::once(&plan.refresh).chain(&plan.exchange).collect(),
            _ => Vec::new(),
        };
        calls
            .into_iter()
            .flat_map(Call::paths)
            .filter_map(|path| match path {
                [root, name, ..] if root == "settings" => Some(name.as_str()),
                _ => None,
            })
            .collect()
    }

    /// Names of the secrets that it may use.
    pub fn secrets(&self) -> Vec<&str> {
        match &self.kind {
            TokenKind::OAuth2(plan) => plan.client.secret.iter().chain(&plan.first).map(String::as_str).collect(),
            TokenKind::ClientCredentials(client) => client.secret.iter().map(String::as_str).collect(),
            TokenKind::JwtBearer(plan) => vec![&plan.key],
            TokenKind::Session(plan) => plan.login.secrets(),
            TokenKind::LongLived(plan) => {
                let exchange = plan.exchange.iter().flat_map(Call::secrets);
                std::iter::once(plan.first.as_str()).chain(plan.refresh.secrets()).chain(exchange).collect()
            }
        }
    }
}

struct Checking<'a> {
    compiler: Compiler<'a>,
    scope: &'a Scope<'a>,
    place: &'a str,
}

impl Checking<'_> {
    fn template(&mut self, text: Option<&String>) -> Option<Template> {
        self.compiler.template(text?)
    }

    fn url(&mut self, text: Option<&String>) -> Option<Template> {
        self.compiler.url(text?, true)
    }

    fn secret(&mut self, name: Option<&String>) -> Option<String> {
        let name = name?;
        self.compiler.secret(name);
        Some(name.clone())
    }

    fn span(&mut self, key: &str, text: Option<&String>) -> Option<Duration> {
        let text = text?;
        let span = duration(text);
        if span.is_none() {
            self.compiler.wrong(format!("{key}: `{text}` is not a duration such as \"20m\""));
        }
        span
    }

    fn oauth2(&mut self, spec: &OAuth2Spec) -> Option<OAuth2Plan> {
        let client = self.client(&spec.token_url, &spec.client_id, spec.client_secret.as_ref(), &spec.extra);
        let plan = OAuth2Plan {
            client: ClientPlan { auth: spec.client_auth, scope: spec.scopes.join(" "), ..client? },
            authorize_url: self.url(spec.authorize_url.as_ref()),
            device_url: self.url(spec.device_url.as_ref()),
            first: self.secret(spec.refresh_token.as_ref()),
            valid: self.span("consent_valid", spec.consent_valid.as_ref()),
        };
        if plan.authorize_url.is_none() && plan.device_url.is_none() && plan.first.is_none() {
            self.compiler.wrong("needs one of authorize_url, device_url, refresh_token: nobody could log in");
        }
        Some(plan)
    }

    fn client_credentials(&mut self, spec: &ClientCredentialsSpec) -> Option<ClientPlan> {
        let client = self.client(&spec.token_url, &spec.client_id, Some(&spec.client_secret), &spec.extra)?;
        Some(ClientPlan { auth: spec.client_auth, scope: spec.scopes.join(" "), ..client })
    }

    fn client(&mut self, url: &String, id: &String, secret: Option<&String>, extra: &BTreeMap<String, String>) -> Option<ClientPlan> {
        let (token_url, id) = (self.url(Some(url)), self.template(Some(id)));
        Some(ClientPlan {
            secret: self.secret(secret),
            extra: extra.iter().filter_map(|(name, text)| Some((name.clone(), self.compiler.template(text)?))).collect(),
            token_url: token_url?,
            id: id?,
            auth: ClientAuth::Body,
            scope: String::new(),
        })
    }

    fn jwt(&mut self, spec: &JwtBearerSpec) -> Option<JwtPlan> {
        let named = [("iss", &spec.issuer), ("sub", &spec.subject), ("aud", &spec.audience)];
        let named = named.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text.clone()?)));
        let scope = (!spec.scopes.is_empty()).then(|| ("scope".to_owned(), spec.scopes.join(" ")));
        let texts: Vec<(String, String)> = named.chain(scope).chain(spec.claims.clone()).collect();
        let claims = texts.into_iter().filter_map(|(name, text)| Some((name, self.compiler.template(&text)?))).collect();
        Some(JwtPlan {
            key: self.secret(Some(&spec.key))?,
            algorithm: spec.algorithm,
            key_id: self.template(spec.key_id.as_ref()),
            claims,
            token_url: self.url(spec.token_url.as_ref()),
            life: self.span("life", Some(&spec.life))?,
        })
    }

    fn call(&mut self, spec: &RequestSpec) -> Option<Call> {
        if spec.auth.is_some() {
            self.compiler.wrong("what gets a token names no `auth`: it shows its secrets itself");
        }
        self.compiler.call(spec)
    }

    fn session(&mut self, spec: &SessionSpec) -> Option<SessionPlan> {
        let login = self.call(&spec.login);
        let refresh = spec.refresh.as_ref().and_then(|refresh| self.call(refresh));
        if spec.refresh.is_some() != spec.take.refresh_token.is_some() {
            self.compiler.wrong("`refresh` and `take.refresh_token` need each other");
        }
        let answer = self.answer(&spec.take, &spec.errors, spec.life.as_ref());
        Some(SessionPlan { login: login?, refresh, answer: answer? })
    }

    fn long_lived(&mut self, spec: &LongLivedSpec) -> Option<LongLivedPlan> {
        let exchange = spec.exchange.as_ref().and_then(|exchange| self.call(exchange));
        let refresh = self.call(&spec.refresh);
        let answer = self.answer(&spec.take, &spec.errors, None);
        let (first, before) = (self.secret(Some(&spec.secret)), self.span("refresh_before", Some(&spec.refresh_before)));
        Some(LongLivedPlan { first: first?, exchange, refresh: refresh?, answer: answer?, before: before? })
    }

    fn answer(
        &mut self,
        take: &TokenTakeSpec,
        errors: &[crate::connector::call::answer::RuleSpec],
        life: Option<&String>,
    ) -> Option<TokenAnswer> {
        let rules = Rules::compile(errors, self.scope.file, self.place, self.scope.limits);
        let rules = rules.map_err(|wrong| self.compiler.problems.extend(wrong)).ok();
        let mut filter = |code: Option<&String>| match Filter::compile(self.scope.file, code?, &ANSWER_VARS, self.scope.limits) {
            Ok(filter) => Some(filter),
            Err(wrong) => {
                wrong.into_iter().for_each(|problem| self.compiler.wrong(format!("in its jq: {}", problem.message)));
                None
            }
        };
        let (token, refresh_token) = (filter(Some(&take.token)), filter(take.refresh_token.as_ref()));
        let expires_in = filter(take.expires_in.as_ref());
        Some(TokenAnswer { rules: rules?, token: token?, refresh_token, expires_in, life: self.span("life", life) })
    }
}
