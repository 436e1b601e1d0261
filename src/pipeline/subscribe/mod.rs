//! Subscribe: keeps the promise of a platform to call a channel's hook — asks for it, renews its lease, sees whether it is still there,
//! ends it — and tells operators when it is gone.
//!
//! What must stay true: one step at a time for a channel, whoever asks for it; the wish is durable before the platform hears of it, and
//! a step whose answer is lost is followed by a look or by the same step again; every write carries the lease's epoch, so that of two
//! nodes only one goes on. A subscription that nobody asked for by `channel subscribe` is never made.

mod show;
mod steps;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::sync::{Mutex, Notify, watch};

use crate::connector::kit::ChannelKit;
use crate::connector::subscribe::{GrantedBy, Grants, Subscribe};
use crate::logic::digest::Digester;
use crate::logic::subscription::{Errand, Phase, Subscription, Terms};
use crate::model::event::Channel;
use crate::model::time::Time;
use crate::pipeline::board::Board;
use crate::pipeline::writer::WriterHandle;
use crate::ports::clock::{Clock, Random};
use crate::ports::control::{ControlError, SubscriptionView};
use crate::ports::http::Http;
use crate::ports::store::{CursorCommit, Moved, Store, StoreError, pull_lease};
use crate::telemetry::metrics::Metrics;

pub use show::view;
use steps::Undone;

/// Longest sleep between two looks at the clock: due times are of the wall clock, which jumps.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// While a platform is to confirm by a call, it is looked for so often.
const GRANT_LOOK: Duration = Duration::from_millis(200);
/// The hook agrees so long after a request: platforms ask late, and again when our answer was lost.
const MEANT: Duration = Duration::from_secs(3_600);
/// A person who asks is told the outcome, if it comes within this time.
const GRANT_PATIENCE: Duration = Duration::from_secs(15);
/// Name of the row under the account.
const STATE: &str = "state";

/// What keeps the subscription of one channel.
pub struct Keeper {
    /// Where it is kept.
    pub store: Arc<dyn Store>,
    /// Writes it.
    pub writer: WriterHandle,
    /// Calls the platform.
    pub http: Arc<dyn Http>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub random: Arc<dyn Random>,
    /// Tells the surfaces.
    pub board: Arc<Board>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// How the platform is called.
    pub kit: Arc<ChannelKit>,
    /// The channel, for operator events.
    pub public: Channel,
    /// Who holds the lease.
    pub node: String,
    /// The hook's address as the platform sees it, if the main file says it.
    pub hook: Option<String>,
    /// What the hook is told by the platform.
    pub grants: Arc<Grants>,
    /// Digests.
    pub digester: Digester,
    /// What is known, once it was read, and the turn to do something about it: shared with the keeper before a reload.
    pub known: Arc<Mutex<Option<Held>>>,
    /// This keeper has read it: what it would tell the platform may be something else than what the keeper before told.
    pub looked: AtomicBool,
    /// Wakes the loop.
    pub bell: Notify,
}

/// What is known, and the right to change it.
pub struct Held {
    state: Subscription,
    lease_epoch: u64,
}

/// Where the subscription of a channel is kept, as an account with cursors: such rows carry a lease.
pub fn account(channel: &str) -> String {
    format!("subscription:{channel}")
}

/// What the store knows, without the right to change it.
///
/// # Errors
/// What the store says.
pub async fn kept(store: &dyn Store, channel: &str) -> Result<Subscription, StoreError> {
    let rows = store.cursors(&account(channel)).await?;
    // A row that a later version wrote is no reason not to start.
    Ok(rows.get(STATE).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default())
}

impl Keeper {
    fn plan(&self) -> Option<&Subscribe> {
        self.kit.connector.subscribe.as_ref()
    }

    /// Keeps it until told to stop.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        loop {
            let pause = tokio::select! {
                // What is under way is given up: it was written down before, and is looked for after the next start.
                pause = self.turn() => pause,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            tokio::select! {
                () = self.clock.sleep(pause.unwrap_or_default()), if pause.is_some() => {}
                () = self.bell.notified() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Does what is due; returns how long nothing is. `None`: another node keeps it, until a person asks for something here.
    async fn turn(&self) -> Option<Duration> {
        let mut known = self.known.lock().await;
        let held = match self.held(&mut known).await {
            Ok(held) => held,
            Err(error) => {
                tracing::warn!(messaging.destination.name = %self.kit.channel, error = %error, "subscription not read");
                return Some(LOOK_EVERY);
            }
        };
        match self.due(held).await {
            Ok(()) => {}
            Err(StoreError::Fenced { held, current }) => {
                // Another node keeps it now: not one more step, until a person asks for one here.
                tracing::error!(messaging.destination.name = %self.kit.channel, held, current, "lease of the subscription lost");
                *known = None;
                return None;
            }
            Err(error) => {
                tracing::warn!(messaging.destination.name = %self.kit.channel, error = %error, "subscription waits for the store");
                return Some(LOOK_EVERY);
            }
        }
        self.show(&held.state).await;
        let now = self.clock.now();
        let next = held.state.next(now).map(|(due, _)| Duration::from_millis(due.since_ms(now).max(0).unsigned_abs()));
        let by_call = self.plan().is_some_and(|plan| plan.granted_by == GrantedBy::Handshake);
        let waits = by_call && held.state.try_at.is_some();
        Some(if waits { GRANT_LOOK } else { next.unwrap_or(LOOK_EVERY).clamp(GRANT_LOOK, LOOK_EVERY) })
    }

    async fn due(&self, held: &mut Held) -> Result<(), StoreError> {
        self.granted(held).await?;
        let now = self.clock.now();
        match held.state.next(now) {
            Some((due, errand)) if due <= now => {
                if errand == Errand::Create && held.state.failures == 0 && held.state.try_at.is_some() {
                    held.state.failures = 1;
                    held.state.detail = Some("the platform took the request and never called the hook".to_owned());
                }
                // It is written down and told by the board; nobody waits for the outcome here.
                if let Err(Undone::Store(error)) = self.perform(held, errand).await {
                    return Err(error);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What is known; the first time it is read, under a new lease.
    async fn held<'a>(&self, known: &'a mut Option<Held>) -> Result<&'a mut Held, StoreError> {
        if known.is_none() || !self.looked.load(Ordering::Acquire) {
            let lease_epoch = self.store.take_lease(&pull_lease(&account(&self.kit.channel)), &self.node).await?;
            let mut state = kept(&*self.store, &self.kit.channel).await?;
            state.resume();
            let other = state.print != self.print() || self.hook.as_ref().is_some_and(|hook| *hook != state.hook);
            if state.phase == Phase::Held && other {
                // The address or a secret is another one since: the platform is told.
                state.ask(self.clock.now());
                state.changed = true;
                self.save(&Held { state: state.clone(), lease_epoch }).await?;
            }
            self.grants.leave(state.phase == Phase::Ending || (state.phase == Phase::None && !state.hook.is_empty()));
            self.mean(&state);
            *known = Some(Held { state, lease_epoch });
            self.looked.store(true, Ordering::Release);
        }
        known.as_mut().ok_or_else(|| StoreError::Invariant { detail: "I4: a subscription that was read is not there".to_owned() })
    }

    /// What is known, for a person who asks for something here: if another node has the lease, it is ours again.
    async fn ours<'a>(&self, known: &'a mut Option<Held>) -> Result<&'a mut Held, StoreError> {
        let held = self.held(known).await?;
        if let Err(StoreError::Fenced { .. }) = self.save(held).await {
            *known = None;
        }
        self.held(known).await
    }

    async fn save(&self, held: &Held) -> Result<(), StoreError> {
        let value = serde_json::to_string(&held.state).map_err(|error| StoreError::Invariant { detail: error.to_string() })?;
        let cursors = [(STATE.to_owned(), Some(value))].into_iter().collect();
        let moved = CursorCommit { account: account(&self.kit.channel), cursors, lease_epoch: held.lease_epoch };
        match self.writer.admit_staged(Vec::new(), Some(Moved::Cursors(moved))).await {
            Ok(_) => Ok(()),
            Err(crate::pipeline::writer::AdmitError::Store(error)) => Err(error),
            Err(error) => Err(StoreError::Unavailable { detail: error.to_string() }),
        }
    }

    /// What the platform is told beside the address, as a digest that only this instance can make.
    fn print(&self) -> String {
        let Some(plan) = self.plan() else { return String::new() };
        let mut told = self.kit.settings.to_string();
        for name in plan.create.call.secrets() {
            let value = self.kit.secrets.get(name).and_then(|values| values.first());
            told.push_str(&format!("\n{name}={}", value.map_or("", |value| value.expose_secret())));
        }
        self.digester.delivery("subscription", &told).hex()
    }

    /// Tells the hook whether to agree to a subscription.
    fn mean(&self, state: &Subscription) {
        self.grants.mean(match state.phase {
            Phase::None => None,
            _ if state.is_awaited() => Some(self.clock.now().plus(MEANT)),
            _ => Some(Time::default()),
        });
    }

    /// Takes up what the platform confirmed by calling the hook.
    async fn granted(&self, held: &mut Held) -> Result<bool, StoreError> {
        let Some((at, lease)) = self.grants.take() else { return Ok(false) };
        // One that comes a second time tells nothing new.
        if !held.state.is_awaited() {
            return Ok(false);
        }
        self.hold(held, at, lease).await?;
        Ok(true)
    }

    async fn hold(&self, held: &mut Held, at: Time, told: Option<Duration>) -> Result<(), StoreError> {
        let Some(plan) = self.plan() else { return Ok(()) };
        let lease = plan.lease(told);
        let margin = lease.map_or(Duration::ZERO, |lease| plan.margin(lease));
        let terms = Terms { lease, margin, check_every: plan.check.as_ref().map(|_| plan.check_every) };
        held.state.hold(at, self.clock.now(), terms);
        held.state.print = self.print();
        self.save(held).await?;
        tracing::info!(messaging.destination.name = %self.kit.channel, lease_s = lease.map(|lease| lease.as_secs()), "subscribed");
        Ok(())
    }

    /// Asks for it, also where another address is called; from now on it is kept.
    ///
    /// # Errors
    /// [`ControlError`]: what is missing, or what the platform said. What failed for the moment is tried again by itself.
    pub async fn subscribe(&self) -> Result<SubscriptionView, ControlError> {
        let plan = self.plan().ok_or_else(|| ControlError::Refused("this connector subscribes nowhere by itself".to_owned()))?;
        self.able(plan)?;
        let mut known = self.known.lock().await;
        let held = self.ours(&mut known).await?;
        let before = held.state.clone();
        held.state.ask(self.clock.now());
        held.state.changed = false;
        self.save(held).await?;
        let outcome = self.perform(held, Errand::Create).await;
        if let Err(Undone::Failed(failure)) = &outcome
            && failure.person
        {
            // It would fail again: as it was before, so that nothing is tried behind the person's back.
            held.state = before;
            self.mean(&held.state);
            self.save(held).await?;
        }
        self.show(&held.state).await;
        let mut seen = self.view(&held.state);
        drop(known);
        self.bell.notify_one();
        match outcome {
            Ok(()) if seen.state == Phase::Asking.word() => seen = self.confirmed().await?,
            Ok(()) => {}
            Err(Undone::Failed(failure)) if failure.person => return Err(ControlError::Refused(failure.detail)),
            // It is tried again; the view says so.
            Err(Undone::Failed(_)) => {}
            Err(Undone::Store(error)) => return Err(error.into()),
        }
        Ok(seen)
    }

    /// Waits a moment for the platform's call.
    async fn confirmed(&self) -> Result<SubscriptionView, ControlError> {
        let until = self.clock.monotonic() + GRANT_PATIENCE;
        loop {
            {
                let mut known = self.known.lock().await;
                let held = self.held(&mut known).await?;
                self.granted(held).await?;
                if held.state.phase != Phase::Asking || self.clock.monotonic() >= until {
                    self.show(&held.state).await;
                    return Ok(self.view(&held.state));
                }
            }
            self.clock.sleep(GRANT_LOOK).await;
        }
    }

    /// Ends it.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn unsubscribe(&self) -> Result<SubscriptionView, ControlError> {
        let mut known = self.known.lock().await;
        let held = self.ours(&mut known).await?;
        if held.state.phase == Phase::None && self.plan().is_none_or(|plan| plan.delete.is_none()) {
            return Ok(self.view(&held.state));
        }
        if let Some(hook) = &self.hook
            && held.state.hook.is_empty()
        {
            hook.clone_into(&mut held.state.hook);
        }
        held.state.turn(Phase::Ending, self.clock.now());
        held.state.try_at = None;
        self.save(held).await?;
        let outcome = self.perform(held, Errand::Delete).await;
        self.show(&held.state).await;
        let seen = self.view(&held.state);
        drop(known);
        self.bell.notify_one();
        match outcome {
            Ok(()) => Ok(seen),
            Err(Undone::Failed(failure)) if failure.person => Err(ControlError::Refused(format!("{}; it is tried again", failure.detail))),
            Err(Undone::Failed(_)) => Ok(seen),
            Err(Undone::Store(error)) => Err(error.into()),
        }
    }

    /// How it is; the platform is asked, where it can be.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn status(&self) -> Result<SubscriptionView, ControlError> {
        let mut known = self.known.lock().await;
        let held = self.held(&mut known).await?;
        self.granted(held).await?;
        let asks = matches!(held.state.phase, Phase::Held | Phase::Taken) && self.plan().is_some_and(|plan| plan.check.is_some());
        if asks && let Err(Undone::Store(error)) = self.perform(held, Errand::Check).await {
            return Err(error.into());
        }
        self.show(&held.state).await;
        Ok(self.view(&held.state))
    }

    /// What is missing to ask for it.
    fn able(&self, plan: &Subscribe) -> Result<(), ControlError> {
        if self.hook.is_none() {
            let mend = "say in [server] public_url under which address platforms reach the public listener";
            return Err(ControlError::Refused(mend.to_owned()));
        }
        if !self.kit.can(&plan.create.call) {
            let set = |name: &&str| {
                self.kit.secrets.get(*name).is_some_and(|values| values.iter().any(|value| !value.expose_secret().is_empty()))
            };
            let missing: Vec<String> =
                plan.create.call.secrets().into_iter().filter(|name| !set(name)).map(|name| format!("the secret `{name}`")).collect();
            let what = if missing.is_empty() { "a setting that the request names".to_owned() } else { missing.join(" and ") };
            return Err(ControlError::Refused(format!("{what} is not set: see `omnigate connector show {}`", self.public.connector)));
        }
        Ok(())
    }
}
