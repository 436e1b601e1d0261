//! Answers of a ticket system: what they mean for the call, and for the delivery if it cannot go on.

use std::time::Duration;

use secrecy::SecretString;
use serde_json::Value;

use crate::connector::ask::{Asker, Unasked};
use crate::connector::call::answer::{Judged, Meaning};
use crate::connector::call::{CallFile, Filling};
use crate::connector::ticket::TicketCall;
use crate::destinations::ticket::{TicketDesk, TicketPorts};
use crate::logic::schedule::BUSY_PAUSE;
use crate::model::codes::Code;
use crate::ports::destination::DeliverError;
use crate::ports::token::TokenError;
use crate::telemetry::redact::cut_detail;

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
        let render = |token: Option<&SecretString>| {
            let with = Filling { context, secrets: &self.options.secrets, token, files };
            let mut request = call.call.render(&with)?;
            request.within = request.within.min(self.options.timeout);
            Ok(request)
        };
        let TicketPorts { http, wallet, clock, .. } = &self.ports;
        let asker = Asker { http: &**http, wallet, clock: &**clock };
        let asked = asker.ask(&call.call, &call.rules, render).await.map_err(unasked)?;
        match asked.judged.meaning {
            Meaning::Ok | Meaning::Ignore => Ok(asked.judged),
            meaning => Err(trouble(&asked.judged, meaning, &asked.place)),
        }
    }
}

fn unasked(why: Unasked) -> Trouble {
    match why {
        Unasked::Call(error) => {
            Trouble::of(DeliverError::Never { code: Code::TemplateFailed, status: None, detail: cut_detail(&error.to_string()) })
        }
        Unasked::Http(error) => {
            let later = DeliverError::Later { code: error.code, status: None, detail: error.detail, after: None };
            Trouble { lost: error.sent, ..Trouble::of(later) }
        }
        Unasked::Token(TokenError::Later { code, detail, after }) => {
            Trouble::of(DeliverError::Later { code, status: None, detail: cut_detail(&detail), after })
        }
        Unasked::Token(TokenError::Person { detail, .. }) => {
            let denied = DeliverError::Denied { code: Code::Denied, status: None, detail: cut_detail(&detail) };
            Trouble { meaning: Some(Meaning::Denied), ..Trouble::of(denied) }
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
