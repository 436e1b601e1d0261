//! What the rooms count, as typed methods over the registry. Cheap enough for the hot path: a read lock and an atomic add.
//!
//! A scrape ([`Metrics::render`]) puts the store's totals beside the process's own numbers. The totals come from one snapshot, so both
//! identities of I3 hold in every scrape and across restarts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::codes::Code;
use crate::model::time::Time;
use crate::model::turns::{SPAN_BUCKETS_S, Span};
use crate::model::view::{DestinationMode, Totals};
use crate::telemetry::names::Metric;
use crate::telemetry::process;
use crate::telemetry::registry::{Registry, write_head, write_sample};

/// States of a channel, as in [`crate::ports::control::ChannelStatus`].
pub const CHANNEL_STATES: [&str; 5] = ["running", "connecting", "degraded", "failed", "disabled"];

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitScope {
    /// A channel's.
    Channel,
    /// One sender's.
    Sender,
    /// A destination's.
    Destination,
}

impl LimitScope {
    fn as_str(self) -> &'static str {
        match self {
            Self::Channel => "channel",
            Self::Sender => "sender",
            Self::Destination => "destination",
        }
    }
}

/// Everything that is counted. Shared as `Arc<Metrics>`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    started: Instant,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self { registry: Registry::default(), started: Instant::now() };
        metrics.registry.set(Metric::Build, (env!("CARGO_PKG_VERSION"), ""), 1.0);
        metrics
    }
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    // ---- receiving ------------------------------------------------------------------------------------------------

    /// A request of the public listener was answered. `hook` must be a known hook, `unknown` or `files`.
    pub fn request(&self, hook: &str, status: u16, took: Duration) {
        self.registry.add(Metric::Requests, (hook, status_text(status)), 1);
        self.registry.observe(Metric::RequestSeconds, ("", ""), took.as_secs_f64());
    }

    /// A connection of `listener` (`public`, `private`) opened (+1) or closed (-1).
    pub fn connections(&self, listener: &'static str, by: i32) {
        self.registry.shift(Metric::Connections, (listener, ""), f64::from(by));
    }

    /// A connection was cut.
    pub fn connection_cut(&self, listener: &'static str, reason: &'static str) {
        self.registry.add(Metric::ConnectionsRefused, (listener, reason), 1);
    }

    /// The guard refused a request.
    pub fn refused(&self, hook: &str, code: Code) {
        self.registry.add(Metric::Refused, (hook, code.as_str()), 1);
    }

    /// A limit was reached by `source` (a channel or destination).
    pub fn rate_limited(&self, source: &str, scope: LimitScope) {
        self.registry.add(Metric::RateLimited, (source, scope.as_str()), 1);
    }

    /// One raw was decoded and mapped.
    pub fn normalized(&self, connector: &str, took: Duration) {
        self.registry.observe(Metric::NormalizeSeconds, (connector, ""), took.as_secs_f64());
    }

    /// An admission is durable: time since it was received.
    pub fn published(&self, since_received: Duration) {
        self.registry.observe(Metric::ReceivedToPublished, ("", ""), since_received.as_secs_f64());
    }

    // ---- files that are fetched -----------------------------------------------------------------------------------

    /// One attempt to fetch a file ended.
    pub fn media(&self, channel: &str, outcome: &str, took: Duration) {
        self.registry.add(Metric::MediaAttempts, (channel, outcome), 1);
        self.registry.observe(Metric::MediaSeconds, ("", ""), took.as_secs_f64());
    }

    /// A file was stored.
    pub fn media_bytes(&self, channel: &str, bytes: u64) {
        self.registry.add(Metric::MediaBytes, (channel, ""), bytes);
    }

    // ---- the writer -----------------------------------------------------------------------------------------------

    /// What waits in the writer's queue.
    pub fn queue(&self, items: usize, bytes: usize) {
        self.registry.set(Metric::QueueItems, ("", ""), items as f64);
        self.registry.set(Metric::QueueBytes, ("", ""), bytes as f64);
    }

    /// One commit succeeded.
    pub fn committed(&self, writes: usize, took: Duration) {
        self.registry.observe(Metric::CommitWrites, ("", ""), writes as f64);
        self.registry.observe(Metric::CommitSeconds, ("", ""), took.as_secs_f64());
    }

    /// One commit failed as a whole.
    pub fn commit_failed(&self, code: Code) {
        self.registry.add(Metric::CommitsFailed, (code.as_str(), ""), 1);
    }

    // ---- delivering -----------------------------------------------------------------------------------------------

    /// An attempt ended; `failure` is `None` when the destination took it.
    pub fn attempt(&self, destination: &str, failure: Option<Code>, took: Duration) {
        self.registry.add(Metric::Attempts, (destination, failure.map_or("delivered", Code::as_str)), 1);
        self.registry.observe(Metric::AttemptSeconds, (destination, ""), took.as_secs_f64());
    }

    /// Counts an attempt as in flight until the guard is dropped.
    pub fn in_flight(self: &Arc<Self>, destination: &Arc<str>) -> InFlight {
        self.registry.shift(Metric::InFlight, (destination, ""), 1.0);
        InFlight { metrics: Arc::clone(self), destination: Arc::clone(destination) }
    }

    /// A delivery was taken: time since its event was published.
    pub fn delivered(&self, destination: &str, since_published: Duration) {
        self.registry.observe(Metric::PublishedToDelivered, (destination, ""), since_published.as_secs_f64());
    }

    /// The mode of a destination.
    pub fn destination_mode(&self, destination: &str, mode: DestinationMode) {
        for (known, word) in [(DestinationMode::Active, "active"), (DestinationMode::Paused, "paused"), (DestinationMode::Halted, "halted")]
        {
            self.registry.set(Metric::DestinationMode, (destination, word), one_if(known == mode));
        }
    }

    /// The breaker of a destination.
    pub fn breaker(&self, destination: &str, open: bool) {
        self.registry.set(Metric::BreakerOpen, (destination, ""), one_if(open));
    }

    /// Conversations of a destination in memory.
    pub fn lanes(&self, destination: &str, lanes: usize) {
        self.registry.set(Metric::Lanes, (destination, ""), lanes as f64);
    }

    /// A destination is gone from the configuration.
    pub fn forget_destination(&self, destination: &str) {
        for metric in [Metric::InFlight, Metric::DestinationMode, Metric::BreakerOpen, Metric::Lanes] {
            self.registry.forget(metric, destination);
        }
    }

    // ---- channels -------------------------------------------------------------------------------------------------

    /// The state of a channel, one of [`CHANNEL_STATES`].
    pub fn channel_state(&self, channel: &str, state: &str) {
        for known in CHANNEL_STATES {
            self.registry.set(Metric::ChannelState, (channel, known), one_if(known == state));
        }
    }

    /// A channel is gone from the configuration.
    pub fn forget_channel(&self, channel: &str) {
        for metric in [Metric::ChannelState, Metric::LastReceived, Metric::ConsentEnds, Metric::SubscriptionEnds, Metric::BudgetUsed] {
            self.registry.forget(metric, channel);
        }
    }

    /// When the consent of a channel ends, as far as known.
    pub fn consent_ends(&self, channel: &str, ends: Option<Time>) {
        match ends {
            Some(ends) => self.registry.set(Metric::ConsentEnds, (channel, ""), ends.0 as f64 / 1000.0),
            None => self.registry.forget(Metric::ConsentEnds, channel),
        }
    }

    /// When the subscription of a channel ends, if it does.
    pub fn subscription_ends(&self, channel: &str, ends: Option<Time>) {
        match ends {
            Some(ends) => self.registry.set(Metric::SubscriptionEnds, (channel, ""), ends.0 as f64 / 1000.0),
            None => self.registry.forget(Metric::SubscriptionEnds, channel),
        }
    }

    /// A step of a subscription was made.
    pub fn subscribe_call(&self, channel: &str, code: &str) {
        self.registry.add(Metric::SubscribeCalls, (channel, code), 1);
    }

    /// So much of a day's budget at a platform is used.
    pub fn budget(&self, channel: &str, what: &str, used: u64, max: u64) {
        self.registry.set(Metric::BudgetUsed, (channel, what), used as f64 / max.max(1) as f64);
    }

    /// A session of a pulled channel ended and is opened again.
    pub fn reconnected(&self, channel: &str, code: Code) {
        self.registry.add(Metric::Reconnects, (channel, code.as_str()), 1);
    }

    /// Things were pulled.
    pub fn pulled(&self, channel: &str, things: usize) {
        self.registry.add(Metric::Pulled, (channel, ""), things as u64);
    }

    /// The channel heard from its platform.
    pub fn heard(&self, channel: &str, at: crate::model::time::Time) {
        self.registry.set(Metric::LastReceived, (channel, ""), at.0 as f64 / 1000.0);
    }

    // ---- care -----------------------------------------------------------------------------------------------------

    /// Retention removed things: `raws`, `events`, `ledger`, `blobs`.
    pub fn swept(&self, what: &'static str, count: u64) {
        self.registry.add(Metric::Swept, (what, ""), count);
    }

    /// Free bytes on the store's medium.
    pub fn disk_free(&self, bytes: u64) {
        self.registry.set(Metric::DiskFree, ("", ""), bytes as f64);
    }

    /// Outcome of a readiness check.
    pub fn ready(&self, store_writable: bool, ready: bool) {
        self.registry.set(Metric::StoreWritable, ("", ""), one_if(store_writable));
        self.registry.set(Metric::Ready, ("", ""), one_if(ready));
    }

    // ---- reading --------------------------------------------------------------------------------------------------

    /// Value of one series (number of observations of a histogram).
    pub fn value(&self, metric: Metric, first: &str, second: &str) -> Option<f64> {
        self.registry.value(metric, (first, second))
    }

    /// One scrape, Prometheus text format 0.0.4. `totals` is `None` when the store cannot be read: its families are left out rather than
    /// written with old or made-up values.
    pub fn render(&self, totals: Option<&Totals>) -> String {
        self.registry.set(Metric::Uptime, ("", ""), self.started.elapsed().as_secs_f64());
        let process = process::read();
        let mut out = String::with_capacity(32 * 1024);
        for metric in Metric::ALL.iter().copied() {
            match (metric, totals) {
                (Metric::ItemsReceived, Some(totals)) => write_flat(metric, &totals.received, &mut out),
                (Metric::Items, Some(totals)) => write_nested(metric, &totals.fates, &mut out),
                (Metric::DeliveriesDue, Some(totals)) => write_flat(metric, &totals.due, &mut out),
                (Metric::Deliveries, Some(totals)) => write_nested(metric, &totals.deliveries, &mut out),
                (Metric::ConversationsWaiting, Some(totals)) => write_flat(metric, &totals.waiting, &mut out),
                (Metric::FirstResponse, Some(totals)) => write_spans(metric, Span::FirstResponse, totals, &mut out),
                (Metric::NextResponse, Some(totals)) => write_spans(metric, Span::NextResponse, totals, &mut out),
                (Metric::Resolution, Some(totals)) => write_spans(metric, Span::Resolution, totals, &mut out),
                _ => match process.as_ref().and_then(|process| process.value(metric)) {
                    Some(value) => {
                        write_head(metric, &mut out);
                        write_sample(metric, "", ("", ""), None, value, &mut out);
                    }
                    None => self.registry.write(metric, &mut out),
                },
            }
        }
        out
    }
}

/// Counts one attempt as in flight while it lives.
#[derive(Debug)]
pub struct InFlight {
    metrics: Arc<Metrics>,
    destination: Arc<str>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.metrics.registry.shift(Metric::InFlight, (&self.destination, ""), -1.0);
    }
}

fn one_if(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}

/// The statuses the public listener and the hooks answer; anything else is counted by its class.
fn status_text(status: u16) -> &'static str {
    match status {
        200 => "200",
        201 => "201",
        202 => "202",
        204 => "204",
        400 => "400",
        401 => "401",
        403 => "403",
        404 => "404",
        405 => "405",
        408 => "408",
        410 => "410",
        413 => "413",
        422 => "422",
        429 => "429",
        431 => "431",
        500 => "500",
        503 => "503",
        other => match other / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        },
    }
}

fn write_flat(metric: Metric, values: &BTreeMap<String, u64>, out: &mut String) {
    write_head(metric, out);
    for (name, value) in values {
        write_sample(metric, "", (name, ""), None, *value as f64, out);
    }
}

fn write_spans(metric: Metric, span: Span, totals: &Totals, out: &mut String) {
    write_head(metric, out);
    for (channel, all) in &totals.spans {
        let Some(spans) = all.get(span.as_str()) else { continue };
        let mut count = 0;
        for (place, number) in spans.buckets.iter().enumerate() {
            count += number;
            let bound = SPAN_BUCKETS_S.get(place).map_or_else(|| "+Inf".to_owned(), ToString::to_string);
            write_sample(metric, "_bucket", (channel, ""), Some(&bound), count as f64, out);
        }
        write_sample(metric, "_sum", (channel, ""), None, spans.sum_ms as f64 / 1_000.0, out);
        write_sample(metric, "_count", (channel, ""), None, count as f64, out);
    }
}

fn write_nested(metric: Metric, values: &BTreeMap<String, BTreeMap<String, u64>>, out: &mut String) {
    write_head(metric, out);
    for (name, inner) in values {
        for (word, value) in inner {
            write_sample(metric, "", (name, word), None, *value as f64, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_without_totals_leaves_their_families_out() {
        let metrics = Metrics::default();
        assert!(!metrics.render(None).contains("omnigate_items"));
        assert!(metrics.render(Some(&Totals::default())).contains("# TYPE omnigate_items gauge"));
    }

    #[test]
    fn in_flight_goes_down_when_the_attempt_ends() {
        let metrics = Metrics::new();
        let destination: Arc<str> = "desk".into();
        let guard = metrics.in_flight(&destination);
        assert_eq!(metrics.value(Metric::InFlight, "desk", ""), Some(1.0));
        drop(guard);
        assert_eq!(metrics.value(Metric::InFlight, "desk", ""), Some(0.0));
    }

    #[test]
    fn exactly_one_state_of_a_channel_is_set() {
        let metrics = Metrics::default();
        metrics.channel_state("support", "connecting");
        metrics.channel_state("support", "running");
        let set: f64 = CHANNEL_STATES.iter().filter_map(|state| metrics.value(Metric::ChannelState, "support", state)).sum();
        assert_eq!((set, metrics.value(Metric::ChannelState, "support", "running")), (1.0, Some(1.0)));
    }
}
