//! Deliver: one task a destination, from "an event is due" to "decided".
//!
//! The task reads what is due through [`Store`], sends through a [`Destination`], judges with [`crate::logic::schedule`] and records
//! through [`Decide`]. It owns order (one in flight per lane, I4), pace, retry timers, pauses and the breaker; a destination owns none
//! of these (I8). `lanes` is what is owed, `door` whether anything may go, `task` the loop between them.
//!
//! What must stay true: a lane goes on only when the decision about its head is durable; while decisions cannot be written nothing new
//! is sent (I2); the same delivery is never out twice; a restart finds everything again in the store (I9).

mod door;
mod lanes;
mod task;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::logic::schedule::Policy;
use crate::model::codes::Code;
use crate::model::delivery::Decision;
use crate::model::view::DestinationMode;
use crate::pipeline::limits::Rate;
use crate::pipeline::writer::WriterHandle;
use crate::ports::BoxFuture;
use crate::ports::clock::{Clock, Random};
use crate::ports::destination::Destination;
use crate::ports::store::{Store, StoreError, Write};
use crate::telemetry::metrics::Metrics;

/// Where outcomes are recorded: the writer, in front of its admissions.
pub trait Decide: Send + Sync {
    /// Records the outcome of an attempt; done when it is durable.
    fn decide(&self, decision: Decision) -> BoxFuture<'static, Result<(), StoreError>>;

    /// Records that a destination changed its mode by itself.
    fn mode(&self, destination: &str, mode: DestinationMode, code: Option<Code>) -> BoxFuture<'static, Result<(), StoreError>>;
}

impl Decide for WriterHandle {
    fn decide(&self, decision: Decision) -> BoxFuture<'static, Result<(), StoreError>> {
        let writer = self.clone();
        Box::pin(async move { writer.write(Write::Decide(decision)).await.map(|_| ()) })
    }

    fn mode(&self, destination: &str, mode: DestinationMode, code: Option<Code>) -> BoxFuture<'static, Result<(), StoreError>> {
        let write = Write::Destination { name: destination.to_owned(), mode, code: code.map(|code| code.as_str().to_owned()) };
        let writer = self.clone();
        Box::pin(async move { writer.write(write).await.map(|_| ()) })
    }
}

/// How a destination is driven.
#[derive(Debug, Clone, PartialEq)]
pub struct DeliverOptions {
    /// Its name.
    pub name: String,
    /// Attempts in flight at once.
    pub concurrency: usize,
    /// Its rate; none is no limit.
    pub rate: Option<Rate>,
    /// Its schedule.
    pub policy: Policy,
    /// On stop, attempts in flight get this long to end.
    pub stop_within: Duration,
    /// Fencing token of the lease [`crate::ports::store::DELIVER_LEASE`] this node delivers under.
    pub lease_epoch: u64,
}

/// What a task works with.
#[derive(Clone)]
pub struct DeliverPorts {
    /// Where it reads.
    pub store: Arc<dyn Store>,
    /// Where it records.
    pub decide: Arc<dyn Decide>,
    /// Where it sends.
    pub destination: Arc<dyn Destination>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub random: Arc<dyn Random>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// Why a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop, and every attempt is decided.
    Drained,
    /// It was told to stop, and some attempts did not end in time: their events come again.
    Cut,
    /// Another node holds the lease: this one must not send.
    Fenced,
}

/// Replays go out at this rate unless told otherwise: a replay must not be a flood.
const REPLAY_PER_SECOND: f64 = 10.0;

#[derive(Debug)]
struct Shared {
    notify: Notify,
    orders: Mutex<Orders>,
    stop: AtomicBool,
}

#[derive(Debug, Default)]
struct Orders {
    woken: bool,
    rescan: bool,
    hand: Option<Hand>,
    replay_per_second: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hand {
    Pause,
    Resume,
}

/// Talks to a task. Cheap to clone; everything returns at once.
#[derive(Debug, Clone)]
pub struct DeliverHandle {
    shared: Arc<Shared>,
}

impl DeliverHandle {
    fn order(&self, give: impl FnOnce(&mut Orders)) {
        give(&mut self.shared.orders.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.notify.notify_one();
    }

    /// New deliveries were committed behind those known.
    pub fn wake(&self) {
        self.order(|orders| orders.woken = true);
    }

    /// Deliveries changed anywhere: dead letters are due again, replays were asked for, some were discarded or erased.
    pub fn rescan(&self) {
        self.order(|orders| orders.rescan = true);
    }

    /// A person paused it. The caller records it in the store (`Write::Destination`, code `paused_by_hand`).
    pub fn pause(&self) {
        self.order(|orders| orders.hand = Some(Hand::Pause));
    }

    /// A person resumed it. The caller records it in the store.
    pub fn resume(&self) {
        self.order(|orders| orders.hand = Some(Hand::Resume));
    }

    /// Replays per second from now on; the destination's own rate holds besides.
    pub fn replay_rate(&self, per_second: f64) {
        self.order(|orders| orders.replay_per_second = Some(per_second));
    }

    /// Nothing new is sent; attempts in flight end and are decided, then the task ends.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.notify.notify_one();
    }
}

/// The task of one destination.
pub struct DeliverTask {
    ports: DeliverPorts,
    options: DeliverOptions,
    shared: Arc<Shared>,
}

impl DeliverTask {
    /// A task and its handle. It looks for work by itself when it starts.
    pub fn new(ports: DeliverPorts, options: DeliverOptions) -> (Self, DeliverHandle) {
        let shared = Arc::new(Shared { notify: Notify::new(), orders: Mutex::default(), stop: AtomicBool::new(false) });
        let handle = DeliverHandle { shared: Arc::clone(&shared) };
        (Self { ports, options, shared }, handle)
    }

    /// Delivers until told to stop.
    pub async fn run(self) -> Ended {
        task::Runtime::new(self.ports, self.options, self.shared).run().await
    }
}
