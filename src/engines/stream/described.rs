//! Described: a talk whose frames the manifest describes: Slack's Socket Mode, Mattermost, Mastodon, Jetstream and others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use secrecy::SecretString;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::connector::call::{CallError, Filling, Message};
use crate::connector::jq::{Filter, Input, parse_json};
use crate::connector::stream::StreamPlan;
use crate::engines::stream::silence::Silence;
use crate::engines::stream::talk::{Deeds, Say, Talk};
use crate::model::codes::Code;
use crate::ports::pull::PullError;

/// Nesting of a frame that is looked into; deeper ones are payloads unseen, and quarantined.
const DEPTH_MAX: usize = 128;

/// The talk.
pub struct Described {
    plan: Arc<StreamPlan>,
    /// `settings`, `cursor`, `opened`.
    context: Map<String, Value>,
    secrets: BTreeMap<String, Vec<SecretString>>,
    place: String,
    ready: bool,
    silence: Silence,
}

impl Described {
    /// A talk with `place`. `secrets` are empty where the connection may not carry any.
    pub fn new(
        plan: Arc<StreamPlan>,
        context: Map<String, Value>,
        secrets: BTreeMap<String, Vec<SecretString>>,
        place: String,
        now: Instant,
    ) -> Self {
        let ready = plan.ready_when.is_none();
        let silence = Silence::new(plan.ping, plan.silence_max, now);
        Self { plan, context, secrets, place, ready, silence }
    }

    fn fill(&self, message: &Message, context: &Value) -> Result<String, PullError> {
        let filled = message.fill(&Filling { context, secrets: &self.secrets, token: None, files: &[] });
        filled.map_err(|error: CallError| PullError::Person {
            code: Code::Protocol,
            detail: format!("{}: what is to be sent: {error}", self.place),
        })
    }

    /// Whether a program says yes. One that fails says no.
    fn says(&self, filter: Option<&Filter>, frame: &Value) -> bool {
        filter.is_some_and(|filter| filter.truthy_of(Input::Value(frame), &self.vars()).unwrap_or(false))
    }

    fn vars(&self) -> [&Value; 2] {
        let of = |name: &str| self.context.get(name).unwrap_or(&Value::Null);
        [of("settings"), of("cursor")]
    }

    fn remember(&mut self, frame: &Value, now: Instant, out: &mut Deeds) {
        for (name, filter) in &self.plan.cursor {
            let Ok(values) = filter.run_of(Input::Value(frame), &self.vars()) else { continue };
            let text = match values.first() {
                Some(Value::String(text)) if !text.is_empty() => text.clone(),
                Some(Value::Number(number)) => number.to_string(),
                _ => continue,
            };
            out.remember(name, text, now);
        }
    }

    fn anew(&self, out: &mut Deeds) {
        out.again = Some(Duration::ZERO);
    }
}

impl Talk for Described {
    fn begin(&mut self, now: Instant, out: &mut Deeds) -> Result<(), PullError> {
        self.silence.broken(now);
        let context = Value::Object(self.context.clone());
        for message in &self.plan.first_send {
            out.text(self.fill(message, &context)?);
        }
        Ok(())
    }

    fn heard(&mut self, frame: Bytes, now: Instant, out: &mut Deeds) -> Result<(), PullError> {
        self.alive(now);
        let plan = self.plan.clone();
        let Ok(value) = parse_json(&frame, DEPTH_MAX) else {
            // Authentic and unreadable: it is kept, with its reason.
            out.payload(frame, plan.content_type, false, now);
            return Ok(());
        };
        if self.says(plan.denied_when.as_ref(), &value) {
            return Err(PullError::Person { code: Code::AuthFailed, detail: format!("{}: the credentials are refused", self.place) });
        }
        if self.says(plan.forget_when.as_ref(), &value) {
            plan.cursor.iter().for_each(|(name, _)| out.forget(name, now));
            self.anew(out);
            return Ok(());
        }
        if !self.ready && self.says(plan.ready_when.as_ref(), &value) {
            self.ready = true;
        }
        let taken = plan.take.as_ref().is_none_or(|take| take.truthy_of(Input::Value(&value), &self.vars()).unwrap_or(true));
        if taken {
            out.payload(frame, plan.content_type, false, now);
        }
        self.remember(&value, now, out);
        if self.says(plan.reconnect_when.as_ref(), &value) {
            self.anew(out);
        }
        if let Some((when, send)) = &plan.ack
            && when.as_ref().is_none_or(|when| self.says(Some(when), &value))
        {
            self.context.insert("frame".to_owned(), value);
            let context = Value::Object(std::mem::take(&mut self.context));
            let filled = self.fill(send, &context);
            if let Value::Object(mut context) = context {
                context.remove("frame");
                self.context = context;
            }
            out.acks.push(Say::Text(filled?));
        }
        Ok(())
    }

    fn alive(&mut self, now: Instant) {
        self.silence.broken(now);
    }

    fn wake(&self) -> Option<Instant> {
        self.silence.wake()
    }

    fn tick(&mut self, now: Instant, out: &mut Deeds) -> Result<(), PullError> {
        if self.silence.due(now, &self.place)? {
            match &self.plan.ping_send {
                Some(message) => out.text(self.fill(message, &Value::Object(self.context.clone()))?),
                None => out.say.push(Say::Ping),
            }
        }
        Ok(())
    }

    fn closed(&mut self, code: Option<u16>, reason: &str, _: &mut Deeds) -> Result<(), PullError> {
        let detail = match code {
            Some(code) => format!("{} closed the stream with code {code}: {reason}", self.place),
            None => format!("{} ended the stream", self.place),
        };
        if code.is_some_and(|code| self.plan.fatal_codes.contains(&code)) {
            return Err(PullError::Person { code: Code::AuthFailed, detail });
        }
        Err(PullError::Lost { code: Code::ConnectionLost, detail, after: None })
    }

    fn is_ready(&self) -> bool {
        self.ready
    }

    fn goodbye(&self) -> Vec<Say> {
        vec![Say::Close(1000)]
    }
}
