//! The steps of a subscription: which request is sent, and what becomes of its answer.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Held, Keeper, MEANT};
use crate::connector::ask::{Asker, Unasked};
use crate::connector::call::answer::{Judged, Meaning};
use crate::connector::subscribe::{GrantedBy, Step, Subscribe, There, Told};
use crate::logic::subscription::{Errand, Phase};
use crate::model::codes::Code;
use crate::ports::store::StoreError;
use crate::ports::token::TokenError;

/// Why a step came to no good end.
pub(super) struct Failure {
    pub(super) code: Code,
    pub(super) detail: String,
    after: Option<Duration>,
    /// Only a person can mend it.
    pub(super) person: bool,
    /// What it was about is not there, or is there already.
    meaning: Option<Meaning>,
}

impl Failure {
    fn plain(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), after: None, person: true, meaning: None }
    }
}

/// Why a step was not done.
pub(super) enum Undone {
    Failed(Failure),
    Store(StoreError),
}

impl Keeper {
    pub(super) async fn perform(&self, held: &mut Held, errand: Errand) -> Result<(), Undone> {
        let done = match errand {
            Errand::Create => self.create(held).await,
            Errand::Renew => self.renew(held).await,
            Errand::Check => self.check(held).await,
            Errand::Delete => self.delete(held).await,
        };
        let Err(Undone::Failed(failure)) = done else { return done };
        self.metrics.subscribe_call(&self.kit.channel, failure.code.as_str());
        let hours_left = held.state.ends.map(|ends| ends.since_ms(self.clock.now()) / 3_600_000);
        tracing::warn!(
            messaging.destination.name = %self.kit.channel, error.type = %failure.code, detail = %failure.detail, hours_left,
            "subscription: step failed"
        );
        let now = self.clock.now();
        held.state.fail(failure.code, failure.detail.clone(), failure.after, failure.person, self.random.unit(), now);
        self.save(held).await.map_err(Undone::Store)?;
        Err(Undone::Failed(failure))
    }

    /// Asks for it.
    async fn create(&self, held: &mut Held) -> Result<(), Undone> {
        let Some(plan) = self.plan() else { return Ok(()) };
        let Some(hook) = self.hook.clone() else {
            return Err(Undone::Failed(Failure::plain(
                Code::ChannelConfig,
                "[server] public_url is not set: where would the platform call?",
            )));
        };
        if held.state.changed && self.is_taken(held, plan, &hook).await? {
            held.state.take_away(self.clock.now().plus(plan.check_every), self.clock.now());
            return self.save(held).await.map_err(Undone::Store);
        }
        if held.state.changed && held.state.hook != hook {
            // Who dies before the answer must know both: the platform calls the one or the other, and neither is somebody else's.
            held.state.move_to(hook);
            self.save(held).await.map_err(Undone::Store)?;
        } else {
            held.state.hook = hook;
        }
        self.grants.leave(false);
        self.grants.mean(Some(self.clock.now().plus(MEANT)));
        // What may be made again is: a secret cannot be looked at. All else may be there from a request whose answer was lost.
        if let Some(check) = plan.check.as_ref().filter(|_| !plan.repeats) {
            let told = self.send(check, held).await?;
            if matches!(told.there, Some(There::Ours | There::Off)) {
                let off = told.there == Some(There::Off);
                held.state.values.extend(told.values);
                return self.adjust(held, plan, told.lease, off).await;
            }
        }
        match self.send(&plan.create, held).await {
            Ok(told) => self.made(held, told).await,
            Err(Undone::Failed(failure)) if failure.meaning == Some(Meaning::Exists) => match &plan.check {
                Some(check) => {
                    let told = self.send(check, held).await?;
                    match told.there {
                        Some(There::Ours) => self.made(held, told).await,
                        _ => Err(Undone::Failed(failure)),
                    }
                }
                None => self.made(held, Told::default()).await,
            },
            Err(other) => Err(other),
        }
    }

    /// Whether an address is called that is neither the one that is to be told nor one that was, or may have been, told before: somebody
    /// else has it now. Where each address has a subscription of its own, nobody takes one away.
    async fn is_taken(&self, held: &mut Held, plan: &Subscribe, hook: &str) -> Result<bool, Undone> {
        let Some(check) = plan.check.as_ref().filter(|_| plan.repeats) else { return Ok(false) };
        let known = held.state.hook.clone();
        let mut ours = vec![known.clone(), hook.to_owned()];
        ours.extend(held.state.earlier.iter().cloned());
        ours.dedup();
        let mut taken = Ok(true);
        for address in ours {
            held.state.hook = address;
            match self.send(check, held).await {
                Ok(told) if told.there == Some(There::Another) => {}
                Ok(_) => taken = Ok(false),
                Err(undone) => taken = Err(undone),
            }
            if !matches!(taken, Ok(true)) {
                break;
            }
        }
        held.state.hook = known;
        taken
    }

    /// It is there from before: what may have changed since is told to the platform.
    async fn adjust(&self, held: &mut Held, plan: &Subscribe, lease: Option<Duration>, off: bool) -> Result<(), Undone> {
        if held.state.print == self.print() && !off {
            return self.made(held, Told { lease, ..Told::default() }).await;
        }
        if let Some(renew) = &plan.renew {
            let told = self.send(renew, held).await?;
            return self.made(held, told).await;
        }
        if let Some(delete) = &plan.delete {
            self.gone(self.send(delete, held).await)?;
            let told = self.send(&plan.create, held).await?;
            return self.made(held, told).await;
        }
        self.made(held, Told { lease, ..Told::default() }).await
    }

    async fn made(&self, held: &mut Held, told: Told) -> Result<(), Undone> {
        let now = self.clock.now();
        held.state.values.extend(told.values);
        self.metrics.subscribe_call(&self.kit.channel, "ok");
        let by_call = self.plan().is_some_and(|plan| plan.granted_by == GrantedBy::Handshake);
        if by_call {
            held.state.promised(now);
            self.save(held).await.map_err(Undone::Store)?;
            self.granted(held).await.map_err(Undone::Store)?;
            return Ok(());
        }
        self.hold(held, now, told.lease).await.map_err(Undone::Store)
    }

    async fn renew(&self, held: &mut Held) -> Result<(), Undone> {
        let Some(plan) = self.plan() else { return Ok(()) };
        self.grants.mean(Some(self.clock.now().plus(MEANT)));
        let Some(renew) = &plan.renew else {
            if !plan.repeats
                && let Some(delete) = &plan.delete
            {
                self.gone(self.send(delete, held).await)?;
            }
            let told = self.send(&plan.create, held).await?;
            return self.renewed(held, told).await;
        };
        match self.send(renew, held).await {
            Ok(told) => self.renewed(held, told).await,
            Err(Undone::Failed(failure)) if failure.meaning == Some(Meaning::Missing) => {
                held.state.values.clear();
                self.create(held).await
            }
            Err(other) => Err(other),
        }
    }

    /// A renewal that is confirmed by a call leaves the lease as it is until then.
    async fn renewed(&self, held: &mut Held, told: Told) -> Result<(), Undone> {
        let now = self.clock.now();
        self.metrics.subscribe_call(&self.kit.channel, "ok");
        held.state.values.extend(told.values);
        if self.plan().is_some_and(|plan| plan.granted_by == GrantedBy::Handshake) {
            held.state.promised(now);
            self.granted(held).await.map_err(Undone::Store)?;
            return self.save(held).await.map_err(Undone::Store);
        }
        self.hold(held, now, told.lease).await.map_err(Undone::Store)
    }

    async fn check(&self, held: &mut Held) -> Result<(), Undone> {
        let Some((plan, check)) = self.plan().and_then(|plan| Some((plan, plan.check.as_ref()?))) else { return Ok(()) };
        let told = self.send(check, held).await?;
        let now = self.clock.now();
        match told.there.unwrap_or(There::Nobody) {
            There::Ours => {
                let left =
                    told.lease.or_else(|| held.state.ends.map(|ends| Duration::from_millis(ends.since_ms(now).max(0).unsigned_abs())));
                held.state.values.extend(told.values);
                if held.state.phase == Phase::Held && told.lease.is_none() {
                    held.state.check_at = Some(now.plus(plan.check_every));
                    (held.state.try_at, held.state.failures, held.state.code, held.state.detail) = (None, 0, None, None);
                    return self.save(held).await.map_err(Undone::Store);
                }
                self.hold(held, now, left).await.map_err(Undone::Store)
            }
            There::Nobody => {
                // The platform gave up (a hook that failed for long), or somebody took it away there.
                held.state.ask(now);
                (held.state.code, held.state.detail) =
                    (Some(Code::SubscriptionLost.as_str().to_owned()), Some("the platform no longer calls the hook".to_owned()));
                self.save(held).await.map_err(Undone::Store)?;
                self.show(&held.state).await;
                self.create(held).await
            }
            There::Off => {
                held.state.values.extend(told.values);
                held.state.switch_off(now.plus(plan.check_every), now);
                self.save(held).await.map_err(Undone::Store)?;
                if plan.renew.is_some() {
                    self.show(&held.state).await;
                    return self.renew(held).await;
                }
                Ok(())
            }
            There::Another => {
                held.state.take_away(now.plus(plan.check_every), now);
                self.save(held).await.map_err(Undone::Store)
            }
        }
    }

    async fn delete(&self, held: &mut Held) -> Result<(), Undone> {
        let Some(plan) = self.plan() else { return Ok(()) };
        self.grants.leave(true);
        if let Some(delete) = &plan.delete {
            // Its name at the platform may be known to the platform only.
            if let Some(check) = plan.check.as_ref().filter(|_| held.state.values.is_empty() && !plan.repeats) {
                let told = self.send(check, held).await?;
                if told.there == Some(There::Nobody) {
                    return self.ended(held).await;
                }
                held.state.values.extend(told.values);
            }
            // What replaces is replaced by others, too: another's is not ours to end.
            let hook = held.state.hook.clone();
            if matches!(self.is_taken(held, plan, &hook).await, Ok(true)) {
                return self.ended(held).await;
            }
            self.gone(self.send(delete, held).await)?;
            self.metrics.subscribe_call(&self.kit.channel, "ok");
        }
        self.ended(held).await
    }

    /// What is not there is gone.
    fn gone(&self, sent: Result<Told, Undone>) -> Result<(), Undone> {
        match sent {
            Ok(_) => Ok(()),
            Err(Undone::Failed(failure)) if failure.meaning == Some(Meaning::Missing) => Ok(()),
            Err(other) => Err(other),
        }
    }

    async fn ended(&self, held: &mut Held) -> Result<(), Undone> {
        held.state.end(self.clock.now());
        self.mean(&held.state);
        self.save(held).await.map_err(Undone::Store)?;
        tracing::info!(messaging.destination.name = %self.kit.channel, "subscription ended");
        Ok(())
    }

    async fn send(&self, step: &Step, held: &Held) -> Result<Told, Undone> {
        let hook = held.state.hook.as_str();
        let context = json!({
            "settings": self.kit.settings, "account": self.kit.account, "hook": {"url": hook},
            "subscription": Value::Object(held.state.values.clone()),
        });
        let failed = |failure| Undone::Failed(failure);
        let asker = Asker { http: &*self.http, wallet: &self.kit.wallet, clock: &*self.clock };
        let asked = asker.ask(&step.call, &step.rules, |token| self.kit.render(&step.call, &context, token)).await;
        let judged = asked.map_err(|error| failed(unasked(error)))?.judged;
        if judged.meaning != Meaning::Ok {
            return Err(failed(refused(&judged)));
        }
        step.told(&judged, hook, &held.state.values).map_err(|error| failed(Failure::plain(Code::Protocol, error.to_string())))
    }
}

fn unasked(error: Unasked) -> Failure {
    let plain = |code, detail, after, person| Failure { code, detail, after, person, meaning: None };
    match error {
        Unasked::Call(error) => plain(Code::ChannelConfig, error.to_string(), None, true),
        Unasked::Token(TokenError::Later { code, detail, after }) => plain(code, detail, after, false),
        Unasked::Token(TokenError::Person { code, detail }) => plain(code, detail, None, true),
        Unasked::Http(error) => plain(error.code, error.detail, None, false),
    }
}

fn refused(judged: &Judged) -> Failure {
    let detail = judged.words().unwrap_or_else(|| format!("answered {}", judged.status));
    let (code, person) = match judged.meaning {
        Meaning::Denied | Meaning::Refresh => (Code::AuthFailed, true),
        Meaning::Throttled => (Code::Throttled, false),
        Meaning::Later => (Code::Failed, false),
        _ => (Code::Rejected, true),
    };
    Failure { code, detail, after: judged.after, person, meaning: Some(judged.meaning) }
}
