//! Answers of a ticket system: what they mean for the call, and for the delivery if it cannot go on.

use std::sync::PoisonError;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::connector::call::answer::{Judged, Meaning};
use crate::connector::call::{CallFile, Filling};
use crate::connector::ticket::TicketCall;
use crate::destinations::ticket::TicketDesk;
use crate::logic::schedule::BUSY_PAUSE;
use crate::model::codes::Code;
use crate::ports::destination::DeliverError;
use crate::telemetry::redact::cut_detail;

/// A token without a stated life is taken to be good for this long; a refusal ends it at any time.
const TOKEN_SECONDS: u64 = 30 * 60;
/// A token is not used for the last part of its life.
const TOKEN_SPARE: Duration = Duration::from_secs(60);

/// The access token of a destination.
#[derive(Default)]
pub(super) struct Tokens {
    known: std::sync::Mutex<Option<(SecretString, Duration)>>,
    /// One question at a time.
    asking: tokio::sync::Mutex<()>,
}

impl Tokens {
    fn good(&self, now: Duration) -> Option<SecretString> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|(_, until)| now < *until).map(|(token, _)| token.clone())
    }

    fn keep(&self, token: SecretString, until: Duration) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((token, until));
    }

    /// It was refused. One that somebody else got meanwhile stays.
    fn drop_it(&self, refused: &SecretString) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.take_if(|(token, _)| token.expose_secret() == refused.expose_secret());
    }
}

/// Why a call gave nothing.
#[derive(Debug)]
pub(super) struct Trouble {
    /// It may have been carried out all the same.
    pub lost: bool,
    /// What the answer said, if there was one.
    pub meaning: Option<Meaning>,
    /// What it means for the delivery.
    pub error: DeliverError,
}

impl Trouble {
    fn of(error: DeliverError) -> Self {
        Self { lost: false, meaning: None, error }
    }

    /// A call whose answer cannot be used: it was carried out, and what it says is unknown.
    pub fn unreadable(detail: String) -> Self {
        let error = DeliverError::Never { code: Code::TemplateFailed, status: None, detail };
        Self { lost: true, meaning: None, error }
    }
}

impl TicketDesk {
    /// Sends one call. `Ok` is an answer that says it is done. A token that is no longer good is replaced, once: an answer that says
    /// so says that nothing was done.
    pub(super) async fn call(&self, call: &TicketCall, context: &Value, files: &[CallFile]) -> Result<Judged, Trouble> {
        let Some(get) = &self.options.system.calls.token else { return self.send(call, context, files, None).await };
        let token = self.token(get, context).await?;
        match self.send(call, context, files, Some(&token)).await {
            Err(trouble) if trouble.meaning == Some(Meaning::Refresh) => {
                self.tokens.drop_it(&token);
                let fresh = self.token(get, context).await?;
                self.send(call, context, files, Some(&fresh)).await
            }
            sent => sent,
        }
    }

    /// The access token, from memory while it is good.
    async fn token(&self, get: &TicketCall, context: &Value) -> Result<SecretString, Trouble> {
        // Held while asking: many deliveries at once ask once.
        let _asking = self.tokens.asking.lock().await;
        if let Some(known) = self.tokens.good(self.ports.clock.monotonic()) {
            return Ok(known);
        }
        let judged = self.send(get, context, &[], None).await.map_err(|trouble| Trouble { lost: false, ..trouble })?;
        let taken = get.take(&judged, context).unwrap_or(Value::Null);
        let Some(token) = taken.get("token").and_then(Value::as_str) else {
            let detail = "the answer holds no access token".to_owned();
            return Err(Trouble::of(DeliverError::Denied { code: Code::Denied, status: Some(judged.status), detail }));
        };
        let life = Duration::from_secs(taken.get("seconds").and_then(Value::as_u64).unwrap_or(TOKEN_SECONDS));
        let until = self.ports.clock.monotonic().saturating_add(life.saturating_sub(TOKEN_SPARE));
        let token = SecretString::from(token.to_owned());
        self.tokens.keep(token.clone(), until);
        Ok(token)
    }

    async fn send(&self, call: &TicketCall, context: &Value, files: &[CallFile], token: Option<&SecretString>) -> Result<Judged, Trouble> {
        let with = Filling { context, secrets: &self.options.secrets, token, files };
        let unmade =
            |detail: String| Trouble::of(DeliverError::Never { code: Code::TemplateFailed, status: None, detail: cut_detail(&detail) });
        let mut request = call.call.render(&with).map_err(|error| unmade(error.to_string()))?;
        request.within = request.within.min(self.options.timeout);
        let place = request.place();
        let answer = self.ports.http.send(request).await.map_err(|error| Trouble {
            lost: error.sent,
            meaning: None,
            error: DeliverError::Later { code: error.code, status: None, detail: error.detail, after: None },
        })?;
        let judged = call.rules.judge(&answer, self.ports.clock.now());
        match judged.meaning {
            Meaning::Ok | Meaning::Ignore => Ok(judged),
            meaning => Err(trouble(&judged, meaning, &place)),
        }
    }
}

fn trouble(judged: &Judged, meaning: Meaning, place: &str) -> Trouble {
    let status = Some(judged.status);
    let words = judged.words().or_else(|| judged.body.as_str().map(|text| text.chars().take(200).collect())).unwrap_or_default();
    let detail = cut_detail(&format!("{place} answered {} {words}", judged.status));
    let error = match meaning {
        Meaning::Throttled => DeliverError::Later { code: Code::Busy, status, detail, after: judged.after.or(Some(BUSY_PAUSE)) },
        Meaning::Denied | Meaning::Refresh => DeliverError::Denied { code: Code::Denied, status, detail },
        Meaning::Later if matches!(judged.status, 429 | 503) => {
            DeliverError::Later { code: Code::Busy, status, detail, after: judged.after }
        }
        Meaning::Later => DeliverError::Later { code: Code::Failed, status, detail, after: None },
        _ => DeliverError::Never { code: Code::Rejected, status, detail },
    };
    // A server that fails may have failed behind the deed, and so may a proxy before it.
    let lost = meaning == Meaning::Exists || (meaning == Meaning::Later && judged.status >= 500);
    Trouble { lost, meaning: Some(meaning), error }
}

/// The delivery comes again to look for what was sent, not before the system wants it to.
pub(super) fn unsure(error: DeliverError, after: Duration) -> DeliverError {
    let after = match &error {
        DeliverError::Later { after: Some(told), .. } => after.max(*told),
        _ => after,
    };
    let (code, status, detail) = match error {
        DeliverError::Later { code, status, detail, .. }
        | DeliverError::Unsure { code, status, detail, .. }
        | DeliverError::Never { code, status, detail }
        | DeliverError::Denied { code, status, detail }
        | DeliverError::Halt { code, status, detail } => (code, status, detail),
    };
    DeliverError::Unsure { code, status, detail, after, sent: true }
}
