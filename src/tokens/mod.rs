//! Tokens: OAuth 2 access tokens for whoever logs in with one, behind the port `TokenSource`.
//!
//! What must stay true:
//! - One question at a time per credential: many mailboxes of one client ask the identity provider once.
//! - A refresh token that replaces another is durable before it is used, and before the access token that came with it is: a crash
//!   never leaves us with a spent one.
//! - A question that was begun is finished, even if whoever asked has gone: its answer may hold the only good refresh token.
//! - "Cannot be reached" is told from "a person must act"; no token, no secret and no name reaches a text (I7).

pub mod assertion;
pub mod endpoint;
pub mod login;

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, OwnedMutexGuard};
use url::Url;

use self::assertion::AccountKey;
use self::endpoint::{Endpoint, Granted, Refused, place};
use crate::model::codes::Code;
use crate::model::time::Time;
use crate::ports::BoxFuture;
use crate::ports::clock::Clock;
use crate::ports::token::{AccessToken, TokenError, TokenKeep, TokenSource};

/// A token is not used for the last part of its life: it must last until the server has looked at it.
const SPARE: Duration = Duration::from_secs(60);
/// A token without a stated life is taken to be good for this long.
const LIFE_UNSTATED: Duration = Duration::from_secs(30 * 60);
/// After a failure everybody gets the same answer for this long, or a thousand mailboxes would ask one after the other.
const FAILED_PAUSE: Duration = Duration::from_secs(5);
/// The same, when a person must act.
const PERSON_PAUSE: Duration = Duration::from_secs(60);

/// How the client gets tokens.
#[derive(Debug)]
pub enum Grant {
    /// By the consent of a person, kept as a refresh token.
    Consent {
        /// One to begin with, from the configuration.
        first: Option<SecretString>,
        /// How long a consent lasts where the provider does not say.
        valid: Option<Duration>,
    },
    /// By its own secret (application permission).
    Client,
    /// As a service account.
    Service {
        /// Signs.
        account: Box<AccountKey>,
        /// For whom it speaks.
        subject: Option<String>,
    },
}

/// One credential.
#[derive(Debug)]
pub struct Credential {
    /// The name under which its consent is kept.
    pub name: String,
    /// The token endpoint.
    pub token_url: Url,
    /// The client; empty for service accounts.
    pub client_id: String,
    /// Its secret; public clients have none.
    pub client_secret: Option<SecretString>,
    /// What is asked for, blank separated.
    pub scope: String,
    /// How.
    pub grant: Grant,
}

/// A person's consent, as kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Consent {
    #[serde(serialize_with = "expose")]
    refresh_token: SecretString,
    given_at: Time,
    #[serde(default)]
    ends_at: Option<Time>,
    /// Digest of the first token of the configuration this one descends from: another one there takes over.
    #[serde(default)]
    first: Option<String>,
}

fn expose<S: serde::Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

#[derive(Default)]
struct State {
    access: Option<(AccessToken, Duration)>,
    number: u64,
    consent: Option<Consent>,
    /// The consent was read from where it is kept.
    loaded: bool,
    /// The consent in memory is newer than the one that is kept.
    unsaved: bool,
    failed: Option<(TokenError, Duration)>,
}

struct Inner {
    credential: Credential,
    endpoint: Endpoint,
    keep: Arc<dyn TokenKeep>,
    clock: Arc<dyn Clock>,
}

/// Gives tokens of one credential. Cheap to clone.
#[derive(Clone)]
pub struct OAuthSource {
    inner: Arc<Inner>,
    state: Arc<Mutex<State>>,
}

impl OAuthSource {
    /// A source that has asked nothing yet.
    pub fn new(credential: Credential, endpoint: Endpoint, keep: Arc<dyn TokenKeep>, clock: Arc<dyn Clock>) -> Self {
        let inner = Inner { credential, endpoint, keep, clock };
        Self { inner: Arc::new(inner), state: Arc::default() }
    }

    /// Takes over a new consent, and keeps it.
    ///
    /// # Errors
    /// It could not be made durable.
    pub async fn adopt(&self, refresh_token: SecretString, ends_in: Option<Duration>) -> Result<(), TokenError> {
        let mut state = self.state.clone().lock_owned().await;
        let consent = self.inner.consent(refresh_token, ends_in);
        *state = State { number: state.number, consent: Some(consent), loaded: true, unsaved: true, ..State::default() };
        self.inner.save(&mut state).await
    }

    /// Whether there is a consent, for credentials that need one.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn has_consent(&self) -> Result<bool, TokenError> {
        let mut state = self.state.lock().await;
        self.inner.load(&mut state).await?;
        Ok(state.consent.is_some())
    }

    async fn give(&self, refused: Option<&AccessToken>) -> Result<AccessToken, TokenError> {
        let mut state = self.state.clone().lock_owned().await;
        let now = self.inner.clock.monotonic();
        state.access.take_if(|(access, until)| *until <= now || refused.is_some_and(|refused| refused.number == access.number));
        if let Some((access, _)) = &state.access {
            return Ok(access.clone());
        }
        if let Some((error, until)) = &state.failed
            && *until > now
        {
            return Err(error.clone());
        }
        // On a task of its own: it goes on when the asking session is given up.
        let inner = self.inner.clone();
        let asked = tokio::spawn(async move { inner.ask(state).await });
        asked.await.unwrap_or_else(|_| {
            let detail = "asking for a token ended unexpectedly".to_owned();
            Err(TokenError::Later { code: Code::Invariant, detail, after: None })
        })
    }
}

impl TokenSource for OAuthSource {
    fn token<'a>(&'a self, refused: Option<&'a AccessToken>) -> BoxFuture<'a, Result<AccessToken, TokenError>> {
        Box::pin(self.give(refused))
    }

    fn consent_ends(&self) -> BoxFuture<'_, Option<Time>> {
        Box::pin(async move {
            let mut state = self.state.lock().await;
            self.inner.load(&mut state).await.ok()?;
            state.consent.as_ref().and_then(|consent| consent.ends_at)
        })
    }
}

impl Inner {
    async fn ask(&self, mut state: OwnedMutexGuard<State>) -> Result<AccessToken, TokenError> {
        match self.ask_now(&mut state).await {
            Ok(access) => {
                state.failed = None;
                Ok(access)
            }
            Err(error) => {
                let pause = match &error {
                    TokenError::Later { after, .. } => after.unwrap_or(FAILED_PAUSE).max(FAILED_PAUSE),
                    TokenError::Person { .. } => PERSON_PAUSE,
                };
                state.failed = Some((error.clone(), self.clock.monotonic() + pause));
                Err(error)
            }
        }
    }

    async fn ask_now(&self, state: &mut State) -> Result<AccessToken, TokenError> {
        self.load(state).await?;
        if state.unsaved {
            // What could not be saved then must be saved before it is used.
            self.save(state).await?;
        }
        let granted = self.grant(state).await?;
        if let (Grant::Consent { .. }, Some(refresh)) = (&self.credential.grant, granted.refresh_token) {
            let ends_in = granted.refresh_token_expires_in.as_ref().and_then(endpoint::Number::seconds);
            let known = state.consent.as_ref().is_some_and(|known| known.refresh_token.expose_secret() == refresh.expose_secret());
            if !known || ends_in.is_some() {
                let first = state.consent.as_ref().and_then(|known| known.first.clone());
                state.consent = Some(Consent { first, ..self.consent(refresh, ends_in) });
                state.unsaved = true;
                self.save(state).await?;
            }
        }
        let life = granted.expires_in.as_ref().and_then(endpoint::Number::seconds).unwrap_or(LIFE_UNSTATED);
        let usable = life.saturating_sub(SPARE.min(life / 4));
        state.number += 1;
        let access = AccessToken { secret: granted.access_token, number: state.number };
        state.access = Some((access.clone(), self.clock.monotonic() + usable));
        Ok(access)
    }

    async fn grant(&self, state: &State) -> Result<Granted, TokenError> {
        let credential = &self.credential;
        let assertion;
        let mut form: Vec<(&str, &str)> = match &credential.grant {
            Grant::Consent { .. } => {
                let Some(consent) = &state.consent else {
                    let detail = "nobody has logged in yet: `omnigate channel login` does it".to_owned();
                    return Err(TokenError::Person { code: Code::LoginNeeded, detail });
                };
                vec![("grant_type", "refresh_token"), ("refresh_token", consent.refresh_token.expose_secret())]
            }
            Grant::Client => vec![("grant_type", "client_credentials"), ("scope", &credential.scope)],
            Grant::Service { account, subject } => {
                let made = account.assertion(&credential.token_url, &credential.scope, subject.as_deref(), self.clock.now());
                assertion = made.ok_or_else(|| TokenError::Person {
                    code: Code::AuthFailed,
                    detail: "the key of the service account cannot sign".to_owned(),
                })?;
                vec![("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", &assertion)]
            }
        };
        if !credential.client_id.is_empty() {
            form.push(("client_id", &credential.client_id));
        }
        if let Some(secret) = &credential.client_secret {
            form.push(("client_secret", secret.expose_secret()));
        }
        let consent = matches!(credential.grant, Grant::Consent { .. });
        self.endpoint.ask(&credential.token_url, &form).await.map_err(|refused| explain(refused, &credential.token_url, consent))
    }

    fn consent(&self, refresh_token: SecretString, ends_in: Option<Duration>) -> Consent {
        let now = self.clock.now();
        let valid = if let Grant::Consent { valid, .. } = &self.credential.grant { *valid } else { None };
        let ends_at = ends_in.or(valid).map(|span| now.plus_ms(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)));
        Consent { refresh_token, given_at: now, ends_at, first: self.first() }
    }

    /// Digest of the first token of the configuration.
    fn first(&self) -> Option<String> {
        let Grant::Consent { first: Some(first), .. } = &self.credential.grant else { return None };
        let digest = Sha256::digest(first.expose_secret());
        Some(digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect())
    }

    /// Reads the consent once. A first token of the configuration that is new there takes its place.
    async fn load(&self, state: &mut State) -> Result<(), TokenError> {
        let Grant::Consent { first, .. } = &self.credential.grant else { return Ok(()) };
        if state.loaded {
            return Ok(());
        }
        let kept = self.keep.load(&self.credential.name).await.map_err(unkept)?;
        let kept: Option<Consent> = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let configured = first.as_ref().filter(|_| kept.as_ref().is_none_or(|kept| kept.first != self.first()));
        state.consent = match configured {
            // Kept with the first refresh, when it has shown that it is good.
            Some(first) => Some(self.consent(first.clone(), None)),
            None => kept,
        };
        state.loaded = true;
        Ok(())
    }

    async fn save(&self, state: &mut State) -> Result<(), TokenError> {
        let Some(consent) = &state.consent else { return Ok(()) };
        let bytes = serde_json::to_vec(consent).map_err(|error| unkept(error.to_string()))?;
        self.keep.save(&self.credential.name, bytes).await.map_err(unkept)?;
        state.unsaved = false;
        Ok(())
    }
}

fn unkept(why: String) -> TokenError {
    TokenError::Later { code: Code::StoreUnavailable, detail: format!("the consent cannot be kept: {why}"), after: None }
}

/// What the word of a token endpoint means for us.
fn explain(refused: Refused, url: &Url, consent: bool) -> TokenError {
    let (word, detail) = match refused {
        Refused::Failed(error) => return error,
        Refused::Said { word, detail } => (word, detail),
    };
    let said = match detail {
        Some(number) => format!("{}: {word} ({number})", place(url)),
        None => format!("{}: {word}", place(url)),
    };
    match word.as_str() {
        "temporarily_unavailable" | "server_error" => TokenError::Later { code: Code::Unreachable, detail: said, after: None },
        "slow_down" => TokenError::Later { code: Code::Throttled, detail: said, after: None },
        "invalid_grant" | "interaction_required" | "consent_required" | "login_required" if consent => {
            let detail = format!("{said}: the consent has expired or was withdrawn; `omnigate channel login` gives a new one");
            TokenError::Person { code: Code::ConsentExpired, detail }
        }
        _ => TokenError::Person { code: Code::AuthFailed, detail: said },
    }
}

#[cfg(test)]
mod tests;
