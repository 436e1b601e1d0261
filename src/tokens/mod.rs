//! Tokens: access tokens for whoever proves itself with one, mailboxes and platforms alike, behind the port `TokenSource`.
//!
//! What must stay true:
//! - One question at a time per credential: many mailboxes of one client, and all roads of a channel, ask once.
//! - A refresh token that replaces another is durable before it is used, and before the access token that came with it is: a crash
//!   never leaves us with a spent one.
//! - A question that was begun is finished, even if whoever asked has gone: its answer may hold the only good refresh token.
//! - After an answer that was lost the same refresh token is tried again: many providers take it once more, or never saw it. Where it is
//!   refused, a person must log in, and is told why.
//! - "Cannot be reached" is told from "a person must act"; no token, no secret and no name reaches a text (I7).

pub mod assertion;
pub mod described;
pub mod endpoint;
pub mod login;

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, OwnedMutexGuard};
use url::Url;

use self::assertion::Signer;
use self::described::{LongLived, Session};
use self::endpoint::{Client, Endpoint, Granted, Number, Refused, place};
use crate::model::codes::Code;
use crate::model::time::Time;
use crate::ports::BoxFuture;
use crate::ports::clock::{Clock, Random};
use crate::ports::token::{AccessToken, TokenError, TokenKeep, TokenSource};

/// A token is not used for the last part of its life: it must last until the server has looked at it.
const SPARE: Duration = Duration::from_secs(60);
/// Gateways that began together do not ask together: the last part is longer by so much at most, and by a twentieth of the life.
const JITTER_MAX: Duration = Duration::from_secs(300);
/// A token without a stated life is taken to be good for this long.
const LIFE_UNSTATED: Duration = Duration::from_secs(30 * 60);
/// After a failure everybody gets the same answer for this long, or a thousand mailboxes would ask one after the other.
const FAILED_PAUSE: Duration = Duration::from_secs(5);
/// The same, when a person must act.
const PERSON_PAUSE: Duration = Duration::from_secs(60);
/// A platform that refuses whatever it is shown gets so many new tokens within [`SPENT_WITHIN`], all roads together.
const SPENT_MAX: usize = 5;
const SPENT_WITHIN: Duration = Duration::from_secs(60);
/// A long-lived token that could not be renewed in time is used as it is, and tried again after this long.
const RENEW_AGAIN: Duration = Duration::from_secs(3600);
/// One whose end is unknown is renewed after this long: none is refused for being too young, none has ended by then.
const RENEW_UNKNOWN: Duration = Duration::from_secs(25 * 3600);

/// How tokens are got.
pub enum Grant {
    /// By the consent of a person, kept as a refresh token.
    Consent {
        /// Who asks.
        client: Client,
        /// One to begin with, from the configuration.
        first: Option<SecretString>,
        /// How long a consent lasts where the provider does not say.
        valid: Option<Duration>,
    },
    /// By the client's own secret (application permission).
    Client(Client),
    /// By a token that we sign, exchanged.
    Assertion {
        /// Who asks.
        client: Client,
        /// Signs.
        signer: Box<Signer>,
    },
    /// The token that we sign is the credential itself.
    Signed(Box<Signer>),
    /// By name and password.
    Session(Box<Session>),
    /// By the token before it.
    LongLived(Box<LongLived>),
}

/// One credential.
pub struct Credential {
    /// The name under which what must be kept of it is kept.
    pub name: String,
    /// How tokens are got.
    pub grant: Grant,
}

/// By what a source asks.
#[derive(Clone)]
pub struct Means {
    /// Speaks with identity providers.
    pub endpoint: Endpoint,
    /// Keeps what must be kept.
    pub keep: Arc<dyn TokenKeep>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub random: Arc<dyn Random>,
}

/// What gets the next token, as kept: a person's consent, a session, a long-lived token.
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
    /// The answer to a question with this consent was lost.
    lost: bool,
    failed: Option<(TokenError, Duration)>,
    /// When tokens were given back as refused.
    spent: Vec<Duration>,
}

struct Inner {
    credential: Credential,
    means: Means,
    /// What a person must mend.
    trouble: std::sync::Mutex<Option<TokenError>>,
}

/// Gives tokens of one credential. Cheap to clone.
#[derive(Clone)]
pub struct CredentialSource {
    inner: Arc<Inner>,
    state: Arc<Mutex<State>>,
}

impl CredentialSource {
    /// A source that has asked nothing yet.
    pub fn new(credential: Credential, means: Means) -> Self {
        Self { inner: Arc::new(Inner { credential, means, trouble: std::sync::Mutex::default() }), state: Arc::default() }
    }

    /// Whether something of it is kept between runs, which one process alone may use up.
    pub fn keeps(&self) -> bool {
        self.inner.keeps()
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
        let now = self.inner.means.clock.monotonic();
        let spent = |access: &AccessToken| refused.is_some_and(|refused| refused.number == access.number);
        let was_spent = state.access.take_if(|(access, until)| *until <= now || spent(access)).is_some_and(|(access, _)| spent(&access));
        if was_spent {
            state.spent.retain(|at| *at + SPENT_WITHIN > now);
            state.spent.push(now);
            if state.spent.len() > SPENT_MAX {
                let detail = "every new token is refused: it may lack rights".to_owned();
                state.failed = Some((TokenError::Person { code: Code::AuthFailed, detail }, now + PERSON_PAUSE));
            }
        }
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
        let asked = tokio::spawn(async move { inner.ask(state, was_spent).await });
        asked.await.unwrap_or_else(|_| {
            let detail = "asking for a token ended unexpectedly".to_owned();
            Err(TokenError::Later { code: Code::Invariant, detail, after: None })
        })
    }
}

impl TokenSource for CredentialSource {
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

    fn trouble(&self) -> Option<TokenError> {
        self.inner.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tend(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if matches!(self.inner.credential.grant, Grant::LongLived(_)) {
                // What goes wrong is told by `trouble`, and by the countdown.
                let _ = self.give(None).await;
            }
        })
    }
}

impl Inner {
    async fn ask(&self, mut state: OwnedMutexGuard<State>, was_spent: bool) -> Result<AccessToken, TokenError> {
        let asked = self.ask_now(&mut state, was_spent).await;
        let trouble = asked.as_ref().err().filter(|error| matches!(error, TokenError::Person { .. })).cloned();
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        state.failed = asked.as_ref().err().map(|error| {
            let pause = match error {
                TokenError::Later { after, .. } => after.unwrap_or(FAILED_PAUSE).max(FAILED_PAUSE),
                TokenError::Person { .. } => PERSON_PAUSE,
            };
            (error.clone(), self.means.clock.monotonic() + pause)
        });
        asked
    }

    async fn ask_now(&self, state: &mut State, was_spent: bool) -> Result<AccessToken, TokenError> {
        self.load(state).await?;
        if state.unsaved {
            // What could not be saved then must be saved before it is used.
            self.save(state).await?;
        }
        let granted = match &self.credential.grant {
            Grant::LongLived(long) => match self.still_good(long, state, was_spent) {
                Some(span) => return Ok(self.adopted(state, span)),
                None => self.renewed(long, state, was_spent).await?,
            },
            _ => self.grant(state).await?,
        };
        state.lost = false;
        let life = granted.expires_in.as_ref().and_then(Number::seconds);
        if let Some(refresh) = granted.refresh_token.filter(|_| self.keeps()) {
            let ends_in = granted.refresh_token_expires_in.as_ref().and_then(Number::seconds);
            let known = state.consent.as_ref().is_some_and(|known| known.refresh_token.expose_secret() == refresh.expose_secret());
            if !known || ends_in.is_some() {
                let first = state.consent.as_ref().and_then(|known| known.first.clone()).or_else(|| self.first());
                state.consent = Some(Consent { first, ..self.consent(refresh, ends_in) });
                state.unsaved = true;
                self.save(state).await?;
            }
        }
        if let Grant::LongLived(long) = &self.credential.grant {
            let span = self.still_good(long, state, false).unwrap_or(RENEW_AGAIN);
            return Ok(self.adopted(state, span));
        }
        Ok(self.remember(state, granted.access_token, usable(life.unwrap_or(LIFE_UNSTATED), self.means.random.unit())))
    }

    /// A token that is good for this long.
    fn remember(&self, state: &mut State, secret: SecretString, span: Duration) -> AccessToken {
        state.number += 1;
        let access = AccessToken { secret, number: state.number };
        state.access = Some((access.clone(), self.means.clock.monotonic() + span));
        access
    }

    /// The long-lived token that is kept is the one to use.
    fn adopted(&self, state: &mut State, span: Duration) -> AccessToken {
        let secret = state.consent.as_ref().map(|kept| kept.refresh_token.clone()).unwrap_or_default();
        self.remember(state, secret, span)
    }

    /// How long a long-lived token need not be renewed yet.
    fn still_good(&self, long: &LongLived, state: &State, was_spent: bool) -> Option<Duration> {
        let kept = state.consent.as_ref().filter(|_| !was_spent)?;
        let due = match kept.ends_at {
            Some(ends) => ends.plus_ms(-i64::try_from(long.plan.before.as_millis()).unwrap_or(i64::MAX)),
            None => kept.given_at.plus(RENEW_UNKNOWN),
        };
        u64::try_from(due.since_ms(self.means.clock.now())).ok().filter(|ms| *ms > 0).map(Duration::from_millis)
    }

    /// The next long-lived token; or the last one, where it is still good and could not be renewed.
    async fn renewed(&self, long: &LongLived, state: &State, was_spent: bool) -> Result<Granted, TokenError> {
        let means = &self.means;
        let Some(kept) = &state.consent else { return long.begin(means).await };
        let now = means.clock.now();
        match long.renew(&kept.refresh_token, means).await {
            Err(error) if !was_spent && kept.ends_at.is_none_or(|ends| ends > now) => {
                tracing::warn!(detail = %error, "token not renewed yet");
                Ok(Granted::kept(kept.refresh_token.clone()))
            }
            renewed => renewed,
        }
    }

    async fn grant(&self, state: &mut State) -> Result<Granted, TokenError> {
        let (url, client, form) = match &self.credential.grant {
            Grant::Consent { client, .. } => return self.refresh(client, state).await,
            Grant::Session(session) => {
                let kept = state.consent.as_ref().map(|kept| &kept.refresh_token);
                return session.open(kept, &self.means).await;
            }
            Grant::LongLived(long) => return long.begin(&self.means).await,
            Grant::Signed(signer) => {
                let life = Number::Number(signer.life.as_secs_f64());
                return Ok(Granted { expires_in: Some(life), ..Granted::of(self.signed(signer)?) });
            }
            Grant::Client(client) => (&client.token_url, client, vec![("grant_type", SecretString::from("client_credentials"))]),
            Grant::Assertion { client, signer } => {
                let form = vec![
                    ("grant_type", SecretString::from("urn:ietf:params:oauth:grant-type:jwt-bearer")),
                    ("assertion", self.signed(signer)?),
                ];
                (&client.token_url, client, form)
            }
        };
        let mut fields: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.expose_secret())).collect();
        if matches!(self.credential.grant, Grant::Client(_)) && !client.scope.is_empty() {
            fields.push(("scope", &client.scope));
        }
        self.means.endpoint.ask(client, &fields).await.map_err(|refused| explain(refused, url, false))
    }

    fn signed(&self, signer: &Signer) -> Result<SecretString, TokenError> {
        let detail = "the private key cannot sign".to_owned();
        signer.token(self.means.clock.now()).ok_or(TokenError::Person { code: Code::AuthFailed, detail })
    }

    /// By the refresh token that is kept.
    async fn refresh(&self, client: &Client, state: &mut State) -> Result<Granted, TokenError> {
        let Some(consent) = &state.consent else {
            let detail = "nobody has logged in yet: `omnigate channel login` does it".to_owned();
            return Err(TokenError::Person { code: Code::LoginNeeded, detail });
        };
        let form = [("grant_type", "refresh_token"), ("refresh_token", consent.refresh_token.expose_secret())];
        let refused = match self.means.endpoint.ask(client, &form).await {
            Ok(granted) => return Ok(granted),
            Err(refused) => refused,
        };
        let was_lost = state.lost;
        state.lost |= matches!(refused, Refused::Failed { lost: true, .. });
        let error = explain(refused, &client.token_url, true);
        Err(match error {
            TokenError::Person { code: Code::ConsentExpired, detail } if was_lost => {
                let detail = format!("{detail} (the answer to a question before was lost, and the next refresh token with it)");
                TokenError::Person { code: Code::ConsentExpired, detail }
            }
            other => other,
        })
    }

    /// Whether something is kept between runs.
    fn keeps(&self) -> bool {
        matches!(self.credential.grant, Grant::Consent { .. } | Grant::Session(_) | Grant::LongLived(_))
    }

    fn consent(&self, refresh_token: SecretString, ends_in: Option<Duration>) -> Consent {
        let now = self.means.clock.now();
        let valid = if let Grant::Consent { valid, .. } = &self.credential.grant { *valid } else { None };
        let ends_at = ends_in.or(valid).map(|span| now.plus_ms(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)));
        Consent { refresh_token, given_at: now, ends_at, first: self.first() }
    }

    /// What the configuration gives to begin with: where it changes, what is kept of the old one is not used any more.
    fn beginning(&self) -> Option<&SecretString> {
        match &self.credential.grant {
            Grant::Consent { first, .. } => first.as_ref(),
            Grant::LongLived(long) => Some(&long.first),
            _ => None,
        }
    }

    /// Digest of the first token of the configuration.
    fn first(&self) -> Option<String> {
        let digest = Sha256::digest(self.beginning()?.expose_secret());
        Some(digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect())
    }

    /// Reads what is kept, once. A first token of the configuration that is new there takes its place.
    async fn load(&self, state: &mut State) -> Result<(), TokenError> {
        if state.loaded || !self.keeps() {
            return Ok(());
        }
        let kept = self.means.keep.load(&self.credential.name).await.map_err(unkept)?;
        let kept: Option<Consent> = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let configured = self.beginning().filter(|_| kept.as_ref().is_none_or(|kept| kept.first != self.first()));
        state.consent = match (configured, &self.credential.grant) {
            // Exchanged first.
            (Some(_), Grant::LongLived(_)) => None,
            // Kept with the first refresh, when it has shown that it is good.
            (Some(first), _) => Some(self.consent(first.clone(), None)),
            (None, _) => kept,
        };
        state.loaded = true;
        Ok(())
    }

    async fn save(&self, state: &mut State) -> Result<(), TokenError> {
        let Some(consent) = &state.consent else { return Ok(()) };
        let bytes = serde_json::to_vec(consent).map_err(|error| unkept(error.to_string()))?;
        self.means.keep.save(&self.credential.name, bytes).await.map_err(unkept)?;
        state.unsaved = false;
        Ok(())
    }
}

/// How long a token is used, of the life that it has.
fn usable(life: Duration, unit: f64) -> Duration {
    let jitter = (life / 20).min(JITTER_MAX).mul_f64(unit);
    life.saturating_sub(SPARE.min(life / 4)).saturating_sub(jitter)
}

fn unkept(why: String) -> TokenError {
    TokenError::Later {
        code: Code::StoreUnavailable,
        detail: format!("the token that gets the next one cannot be kept: {why}"),
        after: None,
    }
}

/// What the word of a token endpoint means for us.
fn explain(refused: Refused, url: &Url, consent: bool) -> TokenError {
    let (word, detail) = match refused {
        Refused::Failed { error, .. } => return error,
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
