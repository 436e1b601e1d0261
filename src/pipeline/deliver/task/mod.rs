//! The loop of one destination. Everything it waits for is one set of futures polled here; between two results it does at once all
//! that may be done: read what is due, load what is ready, send what is loaded.
//!
//! This file is the loop and what it knows; `sending` starts things, `results` takes what became of them.

mod results;
mod sending;

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::future::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::model::delivery::{Decision, Due, Outgoing, Position};
use crate::model::view::DestinationMode;
use crate::pipeline::deliver::door::{Door, ModeChange, Pass};
use crate::pipeline::deliver::lanes::{Anchor, Lanes};
use crate::pipeline::deliver::{DeliverOptions, DeliverPorts, Ended, Hand, REPLAY_PER_SECOND, Shared};
use crate::pipeline::limits::{LimitRules, Limits, Rate};
use crate::ports::BoxFuture;
use crate::ports::destination::{DeliverError, Receipt};
use crate::ports::store::StoreError;

/// Deliveries read from the store at once.
const PAGE: usize = 512;
/// Events loaded at once, and held in memory before they are sent: at least and at most.
const LOAD_MIN: usize = 16;
const LOAD_MAX: usize = 64;
/// Decisions on their way to the disk. Their lanes wait; other lanes go on.
const DECIDING_MAX: usize = 1024;
/// Spilled lanes read again at once.
const READING_MAX: usize = 16;
/// After a failure of the store it is asked again in this time.
const STORE_AGAIN: Duration = Duration::from_secs(1);
/// Failures of a destination that works in between are told at most so often.
const FAILURE_TOLD_EVERY: Duration = Duration::from_secs(60);
/// Results taken before the next round of starting things.
const RESULTS_A_ROUND: usize = 128;

type Found = Result<Vec<Due>, StoreError>;

/// What the loop waits for.
enum Work {
    /// A page of waiting deliveries.
    Scanned { scan: Scan, generation: u64, found: Found },
    /// Followers of a spilled lane.
    Read { lane: i64, page: usize, found: Found },
    /// Events of ready deliveries.
    Loaded { generation: u64, asked: Vec<Due>, probe: bool, loaded: Result<Vec<(Position, bool, Outgoing)>, StoreError> },
    /// An attempt ended.
    Answered { due: Due, probe: bool, published_ms: i64, answer: Result<Receipt, DeliverError>, took: Duration },
    /// A decision is durable, or not.
    Decided { due: Due, decision: Decision, result: Result<(), StoreError> },
    /// A change of mode is durable, or not.
    Moded { change: ModeChange, result: Result<(), StoreError> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scan {
    Deliveries,
    Replays,
}

/// How far a scan has come.
#[derive(Debug, Default)]
struct Cursor {
    /// Everything up to here was seen.
    after: Position,
    /// There may be more.
    more: bool,
    /// A page is being read.
    reading: bool,
    /// What was decided since the page was asked for: it may still be in it.
    decided: HashSet<(Position, bool)>,
}

pub(super) struct Runtime {
    ports: DeliverPorts,
    options: DeliverOptions,
    shared: Arc<Shared>,
    name: Arc<str>,
    door: Door,
    lanes: Lanes,
    deliveries: Cursor,
    replays: Cursor,
    /// Grows with each rescan: pages asked for before it say nothing.
    generation: u64,
    work: FuturesUnordered<BoxFuture<'static, Work>>,
    loaded: VecDeque<(Due, Outgoing)>,
    loading: bool,
    reading: usize,
    in_flight: usize,
    deciding: usize,
    /// Decisions that could not be written.
    undecided: Vec<(Due, Decision)>,
    /// The last decision could not be written. Until one can, nothing is sent (design §2).
    undecidable: bool,
    /// Changes of mode, written one after the other.
    modes: VecDeque<ModeChange>,
    moding: bool,
    store_again: Option<Duration>,
    rate: Limits,
    replay_rate: Limits,
    rate_until: Option<Duration>,
    replay_until: Option<Duration>,
    stop_at: Option<Duration>,
    fenced: bool,
    lanes_shown: usize,
    /// The last failure was told, and nothing was delivered since.
    failing: bool,
    failure_told_at: Option<Duration>,
}

fn limits(rate: Option<Rate>, ports: &DeliverPorts) -> Limits {
    Limits::new(&LimitRules { channel: rate, ..LimitRules::default() }, Arc::clone(&ports.clock))
}

fn replay_limits(per_second: f64, ports: &DeliverPorts) -> Limits {
    // Nothing at all is what a pause is for; a rate is at least one in a thousand seconds.
    limits(Rate::new(per_second.max(0.001), Duration::from_secs(1), 1), ports)
}

impl Runtime {
    pub(super) fn new(ports: DeliverPorts, options: DeliverOptions, shared: Arc<Shared>) -> Self {
        let rate = limits(options.rate, &ports);
        let replay_rate = replay_limits(REPLAY_PER_SECOND, &ports);
        Self {
            name: options.name.as_str().into(),
            door: Door::new(DestinationMode::Active, None, ports.clock.monotonic()),
            ports,
            options,
            shared,
            lanes: Lanes::default(),
            deliveries: Cursor { more: true, ..Cursor::default() },
            replays: Cursor { after: Position::MAX, ..Cursor::default() },
            generation: 0,
            work: FuturesUnordered::new(),
            loaded: VecDeque::new(),
            loading: false,
            reading: 0,
            in_flight: 0,
            deciding: 0,
            undecided: Vec::new(),
            undecidable: false,
            modes: VecDeque::new(),
            moding: false,
            store_again: None,
            rate,
            replay_rate,
            rate_until: None,
            replay_until: None,
            stop_at: None,
            fenced: false,
            lanes_shown: 0,
            failing: false,
            failure_told_at: None,
        }
    }

    pub(super) async fn run(mut self) -> Ended {
        if !self.start().await {
            return Ended::Drained;
        }
        let mut sleeping: Option<(Duration, BoxFuture<'static, ()>)> = None;
        loop {
            self.orders();
            let wake_at = self.step();
            if let Some(ended) = self.ended() {
                self.ports.metrics.forget_destination(&self.name);
                return ended;
            }
            if sleeping.as_ref().map(|(at, _)| *at) != wake_at {
                let now = self.ports.clock.monotonic();
                sleeping = wake_at.map(|at| (at, self.ports.clock.sleep(at.saturating_sub(now))));
            }
            tokio::select! {
                biased;
                Some(work) = self.work.next(), if !self.work.is_empty() => {
                    self.take(work);
                    // Everything that is there already, so that the next round starts many things at once.
                    for _ in 1..RESULTS_A_ROUND {
                        let Some(Some(work)) = self.work.next().now_or_never() else { break };
                        self.take(work);
                    }
                }
                () = self.shared.notify.notified() => {}
                () = async { if let Some((_, sleep)) = &mut sleeping { sleep.await } }, if sleeping.is_some() => sleeping = None,
            }
        }
    }

    /// Reads what the store knows about the destination. False if it was told to stop meanwhile.
    async fn start(&mut self) -> bool {
        loop {
            if self.shared.stop.load(Ordering::Acquire) {
                return false;
            }
            let known = async {
                let rows = self.ports.store.destinations().await?;
                Ok::<_, StoreError>((rows, self.ports.store.retrying(&self.name).await?))
            };
            match known.await {
                Ok((rows, retrying)) => {
                    let now = self.ports.clock.monotonic();
                    if let Some(row) = rows.into_iter().find(|row| row.name == *self.name) {
                        self.door = Door::new(row.state, row.code.as_deref(), now);
                    }
                    let anchor = self.anchor();
                    for due in retrying {
                        if due.replay { self.saw_replay(due.position) } else { self.lanes.offer(due, &anchor) }
                    }
                    self.show_mode();
                    return true;
                }
                Err(error) => {
                    tracing::warn!(messaging.destination.name = %self.name, error = %error, "deliveries not read");
                    self.ports.clock.sleep(STORE_AGAIN).await;
                }
            }
        }
    }

    /// Carries out what the handle asked for.
    fn orders(&mut self) {
        let orders = std::mem::take(&mut *self.shared.orders.lock().unwrap_or_else(PoisonError::into_inner));
        self.deliveries.more |= orders.woken;
        if orders.rescan {
            self.generation += 1;
            self.unload();
            self.deliveries = Cursor { more: true, ..Cursor::default() };
            self.replays = Cursor { after: Position::MAX, ..Cursor::default() };
        }
        match orders.hand {
            Some(Hand::Pause) => self.door.pause(),
            Some(Hand::Resume) => self.door.resume(),
            None => {}
        }
        if orders.hand.is_some() {
            self.show_mode();
        }
        if let Some(per_second) = orders.replay_per_second {
            self.replay_rate = replay_limits(per_second, &self.ports);
            self.replay_until = None;
        }
        if self.stop_at.is_none() && self.shared.stop.load(Ordering::Acquire) {
            self.stop_at = Some(self.ports.clock.monotonic() + self.options.stop_within);
        }
    }

    fn ended(&self) -> Option<Ended> {
        if self.fenced {
            return Some(Ended::Fenced);
        }
        let stop_at = self.stop_at?;
        if self.in_flight == 0 && self.deciding == 0 && self.undecided.is_empty() && self.modes.is_empty() {
            return Some(Ended::Drained);
        }
        (self.ports.clock.monotonic() >= stop_at).then_some(Ended::Cut)
    }

    fn anchor(&self) -> Anchor {
        let schedule = &self.options.policy.schedule;
        let clock = &self.ports.clock;
        Anchor { now: clock.monotonic(), wall: clock.now(), longest: schedule.longest(), first: schedule.first() }
    }

    /// Starts all that may be started. Returns when to look again if nothing happens before.
    fn step(&mut self) -> Option<Duration> {
        let now = self.ports.clock.monotonic();
        self.store_again = self.store_again.filter(|at| *at > now);
        self.rate_until = self.rate_until.filter(|at| *at > now);
        self.replay_until = self.replay_until.filter(|at| *at > now);
        let mut shut_until = None;
        if self.store_again.is_none() {
            self.write_undecided();
            self.write_mode();
        }
        if self.stop_at.is_none() {
            self.lanes.wake(now);
            if self.store_again.is_none() {
                self.scan(Scan::Deliveries);
                self.scan(Scan::Replays);
                self.read_lanes();
            }
            match self.door.pass(now) {
                Pass::Shut(until) => {
                    shut_until = until;
                    self.unload();
                }
                Pass::All => self.send_and_load(now),
                // What is out already may say it all; a probe goes alone.
                Pass::Probe if self.in_flight == 0 && !self.loading => self.send_probe(now),
                Pass::Probe => {}
            }
        }
        if self.lanes_shown != self.lanes.len() {
            self.lanes_shown = self.lanes.len();
            self.ports.metrics.lanes(&self.name, self.lanes_shown);
        }
        // Timers of lanes mean nothing while the task stops.
        let lanes = if self.stop_at.is_none() { self.lanes.next_timer() } else { None };
        [self.store_again, self.rate_until, self.replay_until, shut_until, self.stop_at, lanes].into_iter().flatten().min()
    }
}
