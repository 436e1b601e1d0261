//! Polls: lists that are asked for, behind the port `Feed`. What is asked and what an answer means stands in the manifest
//! (`connector::poll`); here it is sent, at its pace and within its budget.
//!
//! What must stay true: one question at a time for an account; the next one is asked only after what the last one brought is durable;
//! nothing is asked beyond a budget or before the time a platform named.

mod session;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::Value;

use crate::connector::ask::{Asked, Asker, Unasked};
use crate::connector::call::answer::{Judged, Meaning, Rules};
use crate::connector::call::{Call, CallError};
use crate::connector::load::Connector;
use crate::connector::poll::lane::{Begin, Lane, Surroundings};
use crate::connector::poll::limits::Share;
use crate::connector::poll::{Poll, context};
use crate::engines::poll::session::Session;
use crate::model::codes::Code;
use crate::ports::BoxFuture;
use crate::ports::clock::{Clock, Random};
use crate::ports::feed::{Cursors, Feed, FeedSource};
use crate::ports::http::{Http, HttpAnswer, HttpError, HttpRequest};
use crate::ports::pull::PullError;
use crate::ports::token::{TokenError, Wallet};

/// A look holds no request longer than this.
const PROBE_WITHIN: Duration = Duration::from_secs(10);

/// Is told how much of each budget is used.
pub type Usage = Arc<dyn Fn(&[Share]) + Send + Sync>;

/// What a polled account needs.
pub struct PollParts {
    /// The connector, with its polls.
    pub connector: Arc<Connector>,
    /// Settings of the channel, with defaults.
    pub settings: Value,
    /// Its secrets.
    pub secrets: BTreeMap<String, Vec<SecretString>>,
    /// Its tokens.
    pub wallet: Wallet,
    /// The account that its cursors belong to.
    pub account: String,
    /// What the first look does.
    pub begin: Begin,
    /// Sends.
    pub http: Arc<dyn Http>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub random: Arc<dyn Random>,
    /// Is told how much of each budget is used.
    pub usage: Usage,
}

/// Makes sessions of a polled account.
pub struct PollSource {
    parts: Arc<PollParts>,
}

impl PollSource {
    /// A source over what an account needs.
    pub fn new(parts: PollParts) -> Self {
        Self { parts: Arc::new(parts) }
    }
}

impl PollParts {
    /// The polls that the settings switch on.
    fn polls(&self) -> impl Iterator<Item = &Poll> {
        self.connector.polls.values().filter(|poll| poll.is_on(&self.settings))
    }

    fn surroundings<'a>(&'a self, session: &'a Value, token: Option<&'a SecretString>) -> Surroundings<'a> {
        Surroundings { settings: &self.settings, secrets: &self.secrets, token, session, now: self.clock.now() }
    }

    /// Sends a request of a poll and says what its answer means.
    async fn ask(
        &self,
        poll: &str,
        call: &Call,
        rules: &Rules,
        render: impl FnMut(Option<&SecretString>) -> Result<HttpRequest, CallError> + Send,
    ) -> Result<Asked, PullError> {
        let asker = Asker { http: &*self.http, wallet: &self.wallet, clock: &*self.clock };
        asker.ask(call, rules, render).await.map_err(|error| match error {
            Unasked::Call(error) => person(Code::ChannelConfig, format!("[poll.{poll}] {error}")),
            Unasked::Token(TokenError::Later { code, detail, after }) => PullError::Lost { code, detail, after },
            Unasked::Token(TokenError::Person { code, detail }) => person(code, detail),
            Unasked::Http(error) => lost(&error),
        })
    }

    /// A request that is no page: of parts, or of a registration.
    async fn side(&self, poll: &str, call: &Call, rules: &Rules) -> Result<Judged, PullError> {
        let context = context(&self.settings, &Value::Null, &Value::Null, &Value::Null, &Value::Null, self.clock.now());
        let render = |token: Option<&SecretString>| {
            call.render(&crate::connector::call::Filling { context: &context, secrets: &self.secrets, token, files: &[] })
        };
        let asked = self.ask(poll, call, rules, render).await?;
        match asked.judged.meaning {
            Meaning::Ok => match json(&asked.answer, &asked.judged) {
                Ok(()) => Ok(asked.judged),
                Err(why) => Err(broken(&asked.place, &why)),
            },
            _ => Err(refused(&asked.place, &asked.judged)),
        }
    }
}

impl FeedSource for PollSource {
    fn account(&self) -> String {
        self.parts.account.clone()
    }

    fn server(&self) -> String {
        self.parts.polls().next().map(|poll| poll.call.server(&self.parts.settings)).unwrap_or_default()
    }

    fn open(&self, cursors: Cursors) -> BoxFuture<'_, Result<Box<dyn Feed>, PullError>> {
        Box::pin(async move {
            let session: Box<dyn Feed> = Box::new(Session::new(self.parts.clone(), cursors));
            Ok(session)
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<Vec<String>, PullError>> {
        Box::pin(async move {
            let mut lines = Vec::new();
            for poll in self.parts.polls().filter(|poll| poll.spec.fills.is_none()) {
                lines.push(format!("{}: {}", poll.name, self.look(poll).await?));
            }
            Ok(lines)
        })
    }
}

impl PollSource {
    /// Asks for the first page, and forgets it.
    async fn look(&self, poll: &Poll) -> Result<String, PullError> {
        let parts = &self.parts;
        if let Some(register) = &poll.register {
            parts.side(&poll.name, &register.call, &register.rules).await?;
            return Ok("registered".to_owned());
        }
        let part = match &poll.parts {
            None => Value::Null,
            Some(_) => match session::parts_of(parts, poll).await?.into_iter().next() {
                Some(part) => part,
                None => return Ok("nothing to be asked for yet".to_owned()),
            },
        };
        let mut lane = Lane::load(poll, part, Begin::FromNow, &Cursors::new());
        let place = poll.call.server(&parts.settings);
        let asked = parts.ask(&poll.name, &poll.call, &poll.rules, |token| {
            let mut request = lane.request(poll, &parts.surroundings(&Value::Null, token))?;
            request.within = request.within.min(PROBE_WITHIN);
            Ok(request)
        });
        match asked.await {
            Err(PullError::Lost { code: Code::Timeout, .. }) if poll.spec.long_poll => {
                Ok(format!("{place} holds the request, as it should"))
            }
            Err(error) => Err(error),
            Ok(asked) if matches!(asked.judged.meaning, Meaning::Ok | Meaning::Ignore) => Ok(format!("{} answers", asked.place)),
            Ok(asked) => Err(refused(&asked.place, &asked.judged)),
        }
    }
}

/// No answer.
fn lost(error: &HttpError) -> PullError {
    match error.code {
        Code::EgressRefused => person(Code::EgressRefused, error.detail.clone()),
        Code::Connect => PullError::Lost { code: Code::Unreachable, detail: error.detail.clone(), after: None },
        Code::Unknown => PullError::Lost { code: Code::ConnectionLost, detail: error.detail.clone(), after: None },
        code => PullError::Lost { code, detail: error.detail.clone(), after: None },
    }
}

/// Whether an answer is JSON, or nothing: half a page and a page of a proxy come with 200, too.
fn json(answer: &HttpAnswer, judged: &Judged) -> Result<(), String> {
    // A text is what could not be read as JSON, but for a text of JSON.
    let text = judged.body.is_string() && answer.body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'"');
    if text { Err(format!("an answer of {} bytes is no JSON", answer.body.len())) } else { Ok(()) }
}

/// An answer that cannot be what was said: trouble of the moment, as far as anybody knows.
fn broken(place: &str, why: &str) -> PullError {
    PullError::lost(Code::Protocol, format!("{place}: {why}"))
}

fn person(code: Code, detail: String) -> PullError {
    PullError::Person { code, detail }
}

/// An answer that is no answer to the question.
fn refused(place: &str, judged: &Judged) -> PullError {
    let words = judged.words().map(|words| format!(": {words}")).unwrap_or_default();
    let detail = format!("{place} answers {}{words}", judged.status);
    let later = |code: Code| PullError::Lost { code, detail: detail.clone(), after: judged.after };
    match judged.meaning {
        Meaning::Throttled => later(Code::Throttled),
        Meaning::Later | Meaning::CursorLost | Meaning::Ok | Meaning::Ignore => later(Code::Unreachable),
        Meaning::Denied | Meaning::Refresh => person(Code::AuthFailed, detail),
        Meaning::Missing | Meaning::Exists | Meaning::Closed | Meaning::Never => person(Code::Protocol, detail),
    }
}
