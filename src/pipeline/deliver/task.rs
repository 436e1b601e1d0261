//! The loop of one destination. Everything it waits for is one set of futures polled here; between two results it does at once all
//! that may be done: read what is due, load what is ready, send what is loaded.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::future::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::logic::schedule::{Judged, judge};
use crate::model::codes::Code;
use crate::model::delivery::{Decision, Due, Outgoing, Position, Verdict};
use crate::model::view::DestinationMode;
use crate::pipeline::deliver::door::{Door, ModeChange, Pass};
use crate::pipeline::deliver::lanes::{Anchor, LaneKey, Lanes};
use crate::pipeline::deliver::{DeliverOptions, DeliverPorts, Ended, Hand, REPLAY_PER_SECOND, Shared};
use crate::pipeline::limits::{LimitRules, Limits, Pace, Rate};
use crate::ports::BoxFuture;
use crate::ports::destination::{DeliverError, Receipt};
use crate::ports::store::StoreError;
use crate::telemetry::metrics::LimitScope;

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
}

fn limits(rate: Option<Rate>, ports: &DeliverPorts) -> Limits {
    Limits::new(&LimitRules { channel: rate, sender: None }, Arc::clone(&ports.clock))
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

    fn may_send(&self) -> bool {
        !self.undecidable && self.deciding < DECIDING_MAX
    }

    fn send_and_load(&mut self, now: Duration) {
        while self.in_flight < self.options.concurrency && self.may_send() && self.rate_until.is_none() && !self.loaded.is_empty() {
            if let Pace::Wait(wait) = self.rate.channel() {
                self.rate_until = Some(now + wait);
                self.ports.metrics.rate_limited(&self.name, LimitScope::Destination);
                break;
            }
            if let Some((due, outgoing)) = self.loaded.pop_front() {
                self.send(due, outgoing, false);
            }
        }
        // Enough to refill all slots while the next ones are read, and no more: loaded events are the memory of this task. Read when
        // half of them are gone, or each free slot would cost a read of its own.
        let wanted = self.options.concurrency.saturating_mul(2).clamp(LOAD_MIN, LOAD_MAX);
        if !self.loading && self.loaded.len() <= wanted / 2 && self.may_send() && self.store_again.is_none() {
            self.load(wanted - self.loaded.len(), false, now);
        }
    }

    fn send_probe(&mut self, now: Duration) {
        if self.may_send() && self.store_again.is_none() && self.rate_until.is_none() {
            self.unload();
            self.load(1, true, now);
        }
    }

    fn load(&mut self, most: usize, probe: bool, now: Duration) {
        let mut asked = Vec::new();
        while asked.len() < most {
            if self.lanes.is_ready(true) && self.replay_until.is_none() && !probe {
                if let Pace::Wait(wait) = self.replay_rate.channel() {
                    self.replay_until = Some(now + wait);
                } else {
                    asked.extend(self.lanes.take(true));
                    continue;
                }
            }
            let Some(due) = self.lanes.take(false) else { break };
            asked.push(due);
        }
        // Replays too can be the only thing to probe with.
        if asked.is_empty() && probe {
            asked.extend(self.lanes.take(true));
        }
        if asked.is_empty() {
            return;
        }
        self.loading = true;
        if probe {
            self.door.probe();
        }
        let (store, name, generation) = (Arc::clone(&self.ports.store), Arc::clone(&self.name), self.generation);
        self.work.push(Box::pin(async move {
            let loaded = store.outgoing(&name, &asked).await;
            Work::Loaded { generation, asked, probe, loaded }
        }));
    }

    /// Loaded events go back: while nothing may be sent their content must not grow old here (it can be erased).
    fn unload(&mut self) {
        while let Some((due, _)) = self.loaded.pop_back() {
            self.lanes.put_back(due);
        }
    }

    fn send(&mut self, due: Due, outgoing: Outgoing, probe: bool) {
        self.in_flight += 1;
        let destination = Arc::clone(&self.ports.destination);
        let clock = Arc::clone(&self.ports.clock);
        let counted = self.ports.metrics.in_flight(&self.name);
        self.work.push(Box::pin(async move {
            let _counted = counted;
            let started = clock.monotonic();
            let answer = destination.deliver(&outgoing).await;
            let took = clock.monotonic().saturating_sub(started);
            Work::Answered { due, probe, published_ms: outgoing.event.made_at_ms(), answer, took }
        }));
    }

    fn cursor(&mut self, scan: Scan) -> &mut Cursor {
        match scan {
            Scan::Deliveries => &mut self.deliveries,
            Scan::Replays => &mut self.replays,
        }
    }

    fn scan(&mut self, scan: Scan) {
        let room = match scan {
            Scan::Deliveries => self.lanes.room() >= PAGE,
            Scan::Replays => self.lanes.room_for_replays() > 0,
        };
        let cursor = self.cursor(scan);
        if !cursor.more || cursor.reading || !room {
            return;
        }
        cursor.reading = true;
        cursor.more = false;
        cursor.decided.clear();
        let (after, generation) = (cursor.after, self.generation);
        let (store, name) = (Arc::clone(&self.ports.store), Arc::clone(&self.name));
        self.work.push(Box::pin(async move {
            let found = store.waiting(&name, after, PAGE).await;
            Work::Scanned { scan, generation, found }
        }));
    }

    fn read_lanes(&mut self) {
        while self.reading < READING_MAX {
            let Some((lane, page)) = self.lanes.next_unread() else { return };
            self.reading += 1;
            let (store, name) = (Arc::clone(&self.ports.store), Arc::clone(&self.name));
            self.work.push(Box::pin(async move {
                let found = store.lane(&name, lane, page).await;
                Work::Read { lane, page, found }
            }));
        }
    }

    fn write_undecided(&mut self) {
        for (due, decision) in std::mem::take(&mut self.undecided) {
            self.decide(due, decision);
        }
    }

    fn decide(&mut self, due: Due, decision: Decision) {
        self.deciding += 1;
        let recorded = self.ports.decide.decide(decision.clone());
        self.work.push(Box::pin(async move { Work::Decided { due, decision, result: recorded.await } }));
    }

    fn write_mode(&mut self) {
        let Some((mode, code)) = self.modes.front().copied().filter(|_| !self.moding) else { return };
        self.moding = true;
        let recorded = self.ports.decide.mode(&self.name, mode, code);
        self.work.push(Box::pin(async move { Work::Moded { change: (mode, code), result: recorded.await } }));
    }

    fn take(&mut self, work: Work) {
        match work {
            Work::Scanned { scan, generation, found } => self.scanned(scan, generation, found),
            Work::Read { lane, page, found } => self.read(lane, page, found),
            Work::Loaded { generation, asked, probe, loaded } => {
                // What was loaded before a rescan may have been erased since.
                let loaded = if generation == self.generation { loaded.map(Some) } else { Ok(None) };
                self.has_loaded(asked, probe, loaded);
            }
            Work::Answered { due, probe, published_ms, answer, took } => self.answered(due, probe, published_ms, answer, took),
            Work::Decided { due, decision, result } => self.decided(due, decision, result),
            Work::Moded { change, result } => self.moded(change, result),
        }
    }

    fn scanned(&mut self, scan: Scan, generation: u64, found: Found) {
        if generation != self.generation {
            return;
        }
        let anchor = self.anchor();
        let cursor = self.cursor(scan);
        cursor.reading = false;
        let decided = std::mem::take(&mut cursor.decided);
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                cursor.more = true;
                return self.store_failed(&error);
            }
        };
        let mut after = cursor.after;
        if found.len() >= PAGE {
            cursor.more = true;
            // Two rows can share a position (a delivery and its replay), and a page can end between them.
            after = after.max(found.last().map_or(after, |due| due.position - 1));
        } else if let Some(last) = found.last() {
            after = last.position;
        }
        let mut room = self.lanes.room_for_replays();
        for due in found {
            if decided.contains(&(due.position, due.replay)) {
                continue;
            }
            match (scan, due.replay) {
                (Scan::Deliveries, true) => self.saw_replay(due.position),
                (Scan::Deliveries, false) => self.lanes.offer(due, &anchor),
                (Scan::Replays, false) => {}
                (Scan::Replays, true) if room == 0 => {
                    after = after.min(due.position - 1);
                    self.replays.more = true;
                }
                (Scan::Replays, true) => {
                    room -= 1;
                    self.lanes.offer(due, &anchor);
                }
            }
        }
        self.cursor(scan).after = after;
    }

    /// Replays go by a scan of their own, so that many slow ones do not fill the room of the others.
    fn saw_replay(&mut self, position: Position) {
        if position <= self.replays.after {
            // What is being read now started behind it.
            self.replays.after = self.replays.after.min(position - 1);
        }
        self.replays.more = true;
    }

    fn read(&mut self, lane: i64, page: usize, found: Found) {
        self.reading -= 1;
        match found {
            Ok(mut found) => {
                // Behind the cursor lies what the scan has yet to find; taking it here could take it twice.
                let after = self.deliveries.after;
                let more = found.len() >= page && found.last().is_some_and(|due| due.position <= after);
                found.retain(|due| !due.replay && due.position <= after);
                let anchor = self.anchor();
                self.lanes.read(lane, found, more, &anchor);
            }
            Err(error) => {
                self.lanes.unread_again(lane);
                self.store_failed(&error);
            }
        }
    }

    fn has_loaded(&mut self, asked: Vec<Due>, probe: bool, loaded: Result<Option<Vec<(Position, bool, Outgoing)>>, StoreError>) {
        self.loading = false;
        let now = self.ports.clock.monotonic();
        let mut loaded = match loaded {
            Ok(Some(loaded)) => loaded,
            useless => {
                asked.into_iter().rev().for_each(|due| self.lanes.put_back(due));
                if probe {
                    self.door.unprobe(now);
                }
                return useless.err().iter().for_each(|error| self.store_failed(error));
            }
        };
        let anchor = self.anchor();
        let mut probed = false;
        for due in asked {
            let place = loaded.iter().position(|(position, replay, _)| (*position, *replay) == (due.position, due.replay));
            match place.map(|place| loaded.swap_remove(place)) {
                Some((_, _, outgoing)) if probe && self.stop_at.is_none() => {
                    probed = true;
                    self.send(due, outgoing, true);
                }
                Some((_, _, outgoing)) => self.loaded.push_back((due, outgoing)),
                // Erased or discarded meanwhile.
                None => self.lanes.done(LaneKey::of(&due), &anchor),
            }
        }
        if probe && !probed {
            self.door.unprobe(now);
        }
    }

    fn answered(&mut self, due: Due, probe: bool, published_ms: i64, answer: Result<Receipt, DeliverError>, took: Duration) {
        self.in_flight -= 1;
        let (now, wall) = (self.ports.clock.monotonic(), self.ports.clock.now());
        let failure = answer.as_ref().err().map(failure_code);
        self.ports.metrics.attempt(&self.name, failure, took);
        if failure.is_none() {
            let age = u64::try_from(wall.0.saturating_sub(published_ms)).unwrap_or(0);
            self.ports.metrics.delivered(&self.name, Duration::from_millis(age));
        }
        let judged = judge(answer, due.attempts, &self.options.policy, wall, self.ports.random.unit());
        if let Some(change) = self.door.observe(&judged, probe, now) {
            self.tell_mode(change);
        }
        let Judged { verdict, status, detail, .. } = judged;
        let decision = Decision {
            destination: self.options.name.clone(),
            position: due.position,
            replay: due.replay,
            verdict,
            at: wall,
            status,
            detail,
            lease_epoch: self.options.lease_epoch,
        };
        self.decide(due, decision);
    }

    fn decided(&mut self, mut due: Due, decision: Decision, result: Result<(), StoreError>) {
        self.deciding -= 1;
        match result {
            Ok(()) => self.undecidable = false,
            Err(StoreError::Fenced { .. }) => {
                self.fenced = true;
                return;
            }
            // The row is not what it was thought to be. The lane must not stand still for that.
            Err(StoreError::Invariant { detail }) => {
                tracing::error!(messaging.destination.name = %self.name, error.type = Code::Invariant.as_str(), detail, "decision refused");
            }
            Err(error) => {
                self.undecidable = true;
                self.undecided.push((due, decision));
                return self.store_failed(&error);
            }
        }
        for cursor in [&mut self.deliveries, &mut self.replays] {
            let ended = !matches!(decision.verdict, Verdict::Retry { .. });
            if cursor.reading && ended {
                cursor.decided.insert((due.position, due.replay));
            }
        }
        let anchor = self.anchor();
        match decision.verdict {
            Verdict::Delivered => self.lanes.done(LaneKey::of(&due), &anchor),
            Verdict::Dead { code } => {
                tracing::warn!(messaging.destination.name = %self.name, error.type = code.as_str(), position = due.position, "delivery dead");
                self.lanes.done(LaneKey::of(&due), &anchor);
            }
            Verdict::Retry { due_at, counted, .. } => {
                due.attempts = due.attempts.saturating_add(u32::from(counted));
                due.due_at = due_at;
                due.first_attempt_at.get_or_insert(decision.at);
                self.lanes.again(due, &anchor);
            }
        }
    }

    fn tell_mode(&mut self, change: ModeChange) {
        let (mode, code) = change;
        let code_text = code.map_or("", Code::as_str);
        match mode {
            DestinationMode::Active => tracing::info!(messaging.destination.name = %self.name, "destination resumed"),
            DestinationMode::Paused => {
                tracing::warn!(messaging.destination.name = %self.name, error.type = code_text, "destination paused");
            }
            DestinationMode::Halted => {
                tracing::error!(messaging.destination.name = %self.name, error.type = code_text, "destination halted");
            }
        }
        self.show_mode();
        self.modes.push_back(change);
    }

    fn show_mode(&self) {
        self.ports.metrics.destination_mode(&self.name, self.door.mode());
        self.ports.metrics.breaker(&self.name, self.door.breaker_open());
    }

    fn moded(&mut self, _change: ModeChange, result: Result<(), StoreError>) {
        self.moding = false;
        match result {
            Err(error @ (StoreError::Full | StoreError::Unavailable { .. })) => self.store_failed(&error),
            // Refused for good: the mode holds in memory all the same.
            Ok(()) | Err(_) => {
                self.modes.pop_front();
            }
        }
    }

    fn store_failed(&mut self, error: &StoreError) {
        if self.store_again.is_none() {
            tracing::warn!(messaging.destination.name = %self.name, error = %error, "store asked again later");
        }
        self.store_again = Some(self.ports.clock.monotonic() + STORE_AGAIN);
    }
}

fn failure_code(error: &DeliverError) -> Code {
    match error {
        DeliverError::Later { code, .. }
        | DeliverError::Never { code, .. }
        | DeliverError::Denied { code, .. }
        | DeliverError::Halt { code, .. } => *code,
    }
}
