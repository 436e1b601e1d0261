//! Described: tokens that are got by calls as a manifest writes them: sessions by name and password, long-lived tokens by the one before.
//!
//! What must stay true: a session that cannot be continued is begun anew without a person; a long-lived token that cannot be renewed is
//! used to its end.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::SecretString;
use serde_json::{Value, json};

use crate::connector::call::answer::Meaning;
use crate::connector::call::{Call, Filling};
use crate::connector::token::{LongLivedPlan, SessionPlan, Taken, TokenAnswer};
use crate::model::codes::Code;
use crate::ports::http::{Http, HttpError};
use crate::ports::token::TokenError;
use crate::tokens::Means;
use crate::tokens::endpoint::{Granted, Number};

/// Largest answer: tokens have some KiB.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// What fills the calls.
#[derive(Clone)]
pub struct Filled {
    /// Sends.
    pub http: Arc<dyn Http>,
    /// Settings of the channel, with defaults.
    pub settings: Value,
    /// Its secrets.
    pub secrets: BTreeMap<String, Vec<SecretString>>,
    /// Its account.
    pub account: Option<String>,
}

/// A log-in with name and password.
pub struct Session {
    /// How it is opened.
    pub plan: Arc<SessionPlan>,
    /// What fills its calls.
    pub filled: Filled,
}

/// A token of weeks.
pub struct LongLived {
    /// How it is renewed.
    pub plan: Arc<LongLivedPlan>,
    /// What fills its calls.
    pub filled: Filled,
    /// The one to begin with.
    pub first: SecretString,
}

/// What came of a call.
enum Refusal {
    /// The platform said no.
    No { detail: String },
    /// No answer, or none that says anything.
    Failed(TokenError),
}

impl Filled {
    async fn ask(&self, call: &Call, answer: &TokenAnswer, token: Option<&SecretString>, means: &Means) -> Result<Taken, Refusal> {
        let context = json!({"settings": self.settings, "account": self.account});
        let filling = Filling { context: &context, secrets: &self.secrets, token, files: &[] };
        let person = |code, detail| Refusal::Failed(TokenError::Person { code, detail });
        let mut request = call.render(&filling).map_err(|error| person(Code::ChannelConfig, error.to_string()))?;
        request.answer_bytes_max = ANSWER_BYTES_MAX;
        let place = request.place();
        let got = self.http.send(request).await.map_err(|error| Refusal::Failed(unreached(error)))?;
        let judged = answer.rules.judge(&got, means.clock.now());
        let words = judged.words().map(|words| format!(": {words}")).unwrap_or_default();
        let said = format!("{place} answers {}{words}", judged.status);
        let later = |code, detail, after| Refusal::Failed(TokenError::Later { code, detail, after });
        match judged.meaning {
            Meaning::Ok => {
                let detail = format!("{place}: its answer holds no token");
                answer.take(&judged).ok_or_else(|| later(Code::Protocol, detail, None))
            }
            Meaning::Throttled => Err(later(Code::Throttled, said, judged.after)),
            Meaning::Later | Meaning::CursorLost | Meaning::Ignore => Err(later(Code::Unreachable, said, judged.after)),
            Meaning::Missing => Err(person(Code::Protocol, said)),
            // A page with a reason is no refusal of a token endpoint.
            _ if judged.body.is_string() => Err(later(Code::Protocol, said, judged.after)),
            _ => Err(Refusal::No { detail: said }),
        }
    }
}

fn unreached(error: HttpError) -> TokenError {
    match error.code {
        Code::Tls if error.detail.contains("certificate") => TokenError::Person { code: Code::Tls, detail: error.detail },
        Code::EgressRefused => TokenError::Person { code: Code::EgressRefused, detail: error.detail },
        Code::Protocol => TokenError::Later { code: Code::Protocol, detail: error.detail, after: None },
        _ => TokenError::Later { code: Code::Unreachable, detail: error.detail, after: None },
    }
}

fn granted(taken: Taken) -> Granted {
    let expires_in = taken.expires_in.map(|span| Number::Number(span.as_secs_f64()));
    Granted { access_token: taken.token, expires_in, refresh_token: taken.refresh_token, refresh_token_expires_in: None }
}

impl Session {
    /// Goes on with the session by its refresh token; where there is none, or it is refused, logs in.
    pub(super) async fn open(&self, kept: Option<&SecretString>, means: &Means) -> Result<Granted, TokenError> {
        let plan = &self.plan;
        if let (Some(kept), Some(refresh)) = (kept, &plan.refresh) {
            match self.filled.ask(refresh, &plan.answer, Some(kept), means).await {
                Ok(taken) => return Ok(granted(taken)),
                Err(Refusal::Failed(error)) => return Err(error),
                // Expired, withdrawn, or used up by a question whose answer was lost: the password is still ours.
                Err(Refusal::No { detail }) => tracing::info!(detail = %detail, "session ended, logging in again"),
            }
        }
        match self.filled.ask(&plan.login, &plan.answer, None, means).await {
            Ok(taken) => Ok(granted(taken)),
            Err(Refusal::Failed(error)) => Err(error),
            Err(Refusal::No { detail }) => Err(TokenError::Person { code: Code::AuthFailed, detail: format!("log-in refused: {detail}") }),
        }
    }
}

impl LongLived {
    /// The first long-lived token.
    pub(super) async fn begin(&self, means: &Means) -> Result<Granted, TokenError> {
        let Some(exchange) = &self.plan.exchange else { return Ok(Granted::kept(self.first.clone())) };
        match self.filled.ask(exchange, &self.plan.answer, Some(&self.first), means).await {
            Ok(taken) => Ok(lasting(taken)),
            // It may be a long-lived one already; if it is not, the platform will say so.
            Err(Refusal::No { .. }) => Ok(Granted::kept(self.first.clone())),
            Err(Refusal::Failed(error)) => Err(error),
        }
    }

    /// The next one.
    pub(super) async fn renew(&self, kept: &SecretString, means: &Means) -> Result<Granted, TokenError> {
        match self.filled.ask(&self.plan.refresh, &self.plan.answer, Some(kept), means).await {
            Ok(taken) => Ok(lasting(taken)),
            Err(Refusal::Failed(error)) => Err(error),
            Err(Refusal::No { detail }) => {
                let secret = &self.plan.first;
                let detail = format!("the token has ended or was withdrawn: put a new one into the secret `{secret}` ({detail})");
                Err(TokenError::Person { code: Code::ConsentExpired, detail })
            }
        }
    }
}

/// A token that is its own refresh token; its end is the end of what is kept.
fn lasting(taken: Taken) -> Granted {
    let ends = taken.expires_in.map(|span| Number::Number(span.as_secs_f64()));
    Granted { refresh_token_expires_in: ends, ..Granted::kept(taken.token) }
}
