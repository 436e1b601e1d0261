//! Rate limits of the receiving side: per channel and per sender (GCRA by `governor`), on the gateway's own clock; and the loop guard
//! for mails that come inside of webhooks, pages and frames (those of mailboxes have theirs in `pull`).
//!
//! A limit never drops: `slow` makes the request wait, and beyond a bound asks the platform to come again; `hold` admits the
//! item as pending.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::model::item::{Hold, HoldReason, Item, ItemBody};
use crate::model::key::KeyDigest;
use crate::model::time::Time;
use crate::pipeline::loops::LoopGuard;
use crate::ports::clock::Clock;
use crate::telemetry::metrics::{LimitScope, Metrics};

/// Senders remembered at once per channel; beyond it those that are within their rate are forgotten, which changes nothing for them.
const SENDERS_KEPT_MAX: usize = 100_000;

/// A rate: `burst` at once, then one per `period`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Time for one more.
    pub period: Duration,
    /// How many may come at once.
    pub burst: NonZeroU32,
}

impl Rate {
    /// `count` per `per`, with a burst.
    pub fn new(count: f64, per: Duration, burst: u32) -> Option<Self> {
        let period = Duration::try_from_secs_f64(per.as_secs_f64() / count).ok()?;
        (!period.is_zero()).then_some(Self { period, burst: NonZeroU32::new(burst.max(1))? })
    }

    fn quota(self) -> Option<Quota> {
        Some(Quota::with_period(self.period)?.allow_burst(self.burst))
    }
}

/// What to do with a sender over its rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Wait, then ask the platform to come again.
    Slow,
    /// Admit as pending.
    Hold,
}

/// Limits of one channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitRules {
    /// For the whole channel; always `slow`.
    pub channel: Option<Rate>,
    /// For each sender.
    pub sender: Option<(Rate, Over)>,
    /// For mails that answer: so many of one sender about one matter in such a span.
    pub mail_loops: Option<(u32, Duration)>,
}

/// The gateway's clock as governor wants it.
#[derive(Clone)]
struct Ticks(Arc<dyn Clock>);

impl governor::clock::Clock for Ticks {
    type Instant = Duration;
    fn now(&self) -> Duration {
        self.0.monotonic()
    }
}

type Direct = RateLimiter<NotKeyed, InMemoryState, Ticks, NoOpMiddleware<Duration>>;
type Keyed = RateLimiter<KeyDigest, HashMapStateStore<KeyDigest>, Ticks, NoOpMiddleware<Duration>>;

/// The limiters of one channel.
pub struct Limits {
    clock: Arc<dyn Clock>,
    channel: Option<Direct>,
    sender: Option<(Keyed, Over)>,
    loops: Option<LoopGuard>,
}

/// What a limit says about one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Go on.
    Go,
    /// Ask again after this time.
    Wait(Duration),
    /// Admit as pending until this much later.
    Hold(Duration),
}

impl Limits {
    /// Limiters for these rules.
    pub fn new(rules: &LimitRules, clock: Arc<dyn Clock>) -> Self {
        let ticks = || Ticks(clock.clone());
        let channel = rules.channel.and_then(Rate::quota).map(|quota| RateLimiter::direct_with_clock(quota, ticks()));
        let sender = rules.sender.and_then(|(rate, over)| Some((RateLimiter::hashmap_with_clock(rate.quota()?, ticks()), over)));
        let loops = rules.mail_loops.map(|(count, per)| LoopGuard::new(count, per));
        Self { clock, channel, sender, loops }
    }

    /// Whether there is any limit at all.
    pub fn is_empty(&self) -> bool {
        self.channel.is_none() && self.sender.is_none()
    }

    /// Takes one from the channel's rate.
    pub fn channel(&self) -> Pace {
        match self.channel.as_ref().map(Direct::check) {
            Some(Err(until)) => Pace::Wait(until.wait_time_from(self.clock.monotonic())),
            _ => Pace::Go,
        }
    }

    /// Takes one from a sender's rate.
    pub fn sender(&self, sender: &KeyDigest) -> Pace {
        let Some((limiter, over)) = &self.sender else { return Pace::Go };
        if limiter.len() > SENDERS_KEPT_MAX {
            limiter.retain_recent();
        }
        match (limiter.check_key(sender), over) {
            (Ok(()), _) => Pace::Go,
            (Err(until), Over::Slow) => Pace::Wait(until.wait_time_from(self.clock.monotonic())),
            (Err(until), Over::Hold) => Pace::Hold(until.wait_time_from(self.clock.monotonic())),
        }
    }
}

/// Where limits wait, and how long they may.
#[derive(Clone, Copy)]
pub struct Waiting<'a> {
    /// Sleeps.
    pub clock: &'a dyn Clock,
    /// Counts.
    pub metrics: &'a Metrics,
    /// Whoever sent it gives up then (monotonic); sources that we ask wait as long as it takes.
    pub deadline: Option<Duration>,
}

/// Applies the limits of each item's channel.
///
/// # Errors
/// It would take longer than the deadline: come again after this time.
pub async fn pace<'l>(
    items: &mut [Item],
    limits_of: impl Fn(&str) -> Option<&'l Limits>,
    now: Time,
    waiting: Waiting<'_>,
) -> Result<(), Duration> {
    for item in &mut *items {
        let channel = &item.channel.public.id;
        let Some(limits) = limits_of(channel).filter(|limits| !limits.is_empty()) else { continue };
        waiting.until(channel, LimitScope::Channel, || limits.channel()).await?;
        let ItemBody::Message(message) = &mut item.body else { continue };
        let Some(sender) = message.contact.as_ref().map(|contact| contact.digest) else { continue };
        if let Some(span) = waiting.until(channel, LimitScope::Sender, || limits.sender(&sender)).await? {
            // It may wait for its files already: then for whichever takes longer.
            let until = message.hold.map_or(now, |hold| hold.until).max(now.plus(span));
            message.hold = Some(Hold { reason: HoldReason::Held, until });
        }
    }
    // Counted only when nobody is asked to come again with the same.
    for item in items {
        let Some(loops) = limits_of(&item.channel.public.id).and_then(|limits| limits.loops.as_ref()) else { continue };
        if let ItemBody::Message(message) = &mut item.body
            && message.kind == "email"
            && loops.look(message, now)
        {
            tracing::warn!(messaging.destination.name = %item.channel.public.id, "a mail loop is suspected, a mail is held");
        }
    }
    Ok(())
}

impl Waiting<'_> {
    /// Waits while a limit says so. `Some`: hold the item that long.
    async fn until(&self, channel: &str, scope: LimitScope, mut ask: impl FnMut() -> Pace) -> Result<Option<Duration>, Duration> {
        loop {
            let pace = ask();
            if pace != Pace::Go {
                self.metrics.rate_limited(channel, scope);
            }
            match pace {
                Pace::Go => return Ok(None),
                Pace::Hold(span) => return Ok(Some(span)),
                Pace::Wait(span) if self.deadline.is_none_or(|deadline| self.clock.monotonic() + span <= deadline) => {
                    self.clock.sleep(span).await;
                }
                Pace::Wait(span) => return Err(span),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::ports::BoxFuture;

    struct Hand(Mutex<Duration>);
    impl Clock for Hand {
        fn now(&self) -> Time {
            Time(0)
        }
        fn monotonic(&self) -> Duration {
            *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
        fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
            Box::pin(std::future::ready(()))
        }
    }

    #[test]
    fn a_sender_over_its_rate_waits_and_another_one_does_not() {
        let clock = Arc::new(Hand(Mutex::new(Duration::from_secs(100))));
        let rules =
            LimitRules { sender: Rate::new(1.0, Duration::from_secs(10), 2).map(|rate| (rate, Over::Slow)), ..LimitRules::default() };
        let limits = Limits::new(&rules, clock.clone());
        let (ana, bob) = (KeyDigest([1; 16]), KeyDigest([2; 16]));
        assert_eq!(limits.sender(&ana), Pace::Go);
        assert_eq!(limits.sender(&ana), Pace::Go);
        assert_eq!(limits.sender(&ana), Pace::Wait(Duration::from_secs(10)));
        assert_eq!(limits.sender(&bob), Pace::Go);
        if let Ok(mut now) = clock.0.lock() {
            *now += Duration::from_secs(10);
        }
        assert_eq!(limits.sender(&ana), Pace::Go);
    }
}
