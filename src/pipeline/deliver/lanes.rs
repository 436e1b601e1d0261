//! Lanes: what a destination owes, as far as it is in memory. A plain data structure, no I/O.
//!
//! What must stay true: at most one delivery of a lane is out at a time, and always the first of its conversation (I4); memory is
//! bounded whatever the backlog (I6); a lane whose head waits for a retry holds nothing but that head, so that it cannot crowd out
//! others (I8). A lane that could not keep all its followers is *spilled*: they are read again from the store when the ones in memory
//! are decided.
//!
//! Deliveries without a conversation and replays are outside of any order: each is a lane of its own.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use crate::model::delivery::{Due, Position};
use crate::model::time::Time;

/// Deliveries in memory that may go out soon. 8,192 of some 100 bytes each.
const LOADED_MAX: usize = 8192;
/// Followers of one lane in memory; also the page in which a spilled lane is read again.
const FOLLOWERS_MAX: usize = 16;
/// Lanes whose head waits for a retry. A destination with more than this is failing as a whole: nothing further is looked at
/// until some are decided.
const BLOCKED_MAX: usize = 65_536;
/// Replays in memory: they go out slowly.
const REPLAYS_MAX: usize = 256;

/// What is sent one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum LaneKey {
    /// The events of a conversation.
    Conversation(i64),
    /// An event without a conversation.
    Alone(Position),
    /// A replay.
    Replay(Position),
}

impl LaneKey {
    /// The lane of a delivery.
    pub(super) fn of(due: &Due) -> Self {
        match (due.replay, due.lane) {
            (true, _) => Self::Replay(due.position),
            (false, 0) => Self::Alone(due.position),
            (false, lane) => Self::Conversation(lane),
        }
    }
}

/// Turns due times of the wall clock into waits of the monotone one. A due time that no schedule can have made comes from a clock
/// that was set back since, and is re-anchored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Anchor {
    /// Monotone time.
    pub(super) now: Duration,
    /// Wall clock at the same moment.
    pub(super) wall: Time,
    /// The longest wait of a delivery that was tried.
    pub(super) longest: Duration,
    /// The longest wait of one that was not.
    pub(super) first: Duration,
}

impl Anchor {
    /// Monotone time at which it may go; `None` is now.
    fn until(&self, due: &Due) -> Option<Duration> {
        let wait = Duration::from_millis(u64::try_from(due.due_at.since_ms(self.wall)).ok()?);
        let wait = wait.min(if due.first_attempt_at.is_none() { self.first } else { self.longest });
        (!wait.is_zero()).then_some(self.now + wait)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its head may go.
    Ready,
    /// Its head waits for this monotone time.
    Blocked(Duration),
    /// Its head is out: being read, sent or decided.
    Out(Position),
    /// Its followers are being read again.
    Reading,
}

#[derive(Debug)]
struct Lane {
    queue: VecDeque<Due>,
    state: State,
    spilled: bool,
    /// Page of the next reading; grows while pages hold nothing for us.
    page: usize,
}

/// All lanes of a destination that are in memory.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: HashMap<LaneKey, Lane>,
    ready: VecDeque<LaneKey>,
    ready_replays: VecDeque<LaneKey>,
    timers: BTreeSet<(Duration, LaneKey)>,
    unread: VecDeque<i64>,
    queued: usize,
    replays: usize,
}

impl Lanes {
    /// Lanes in memory.
    pub(super) fn len(&self) -> usize {
        self.lanes.len()
    }

    /// How many more deliveries may be offered.
    pub(super) fn room(&self) -> usize {
        // A blocked lane holds exactly its head, which has a bound of its own.
        let soon = self.queued.saturating_sub(self.timers.len());
        if self.timers.len() < BLOCKED_MAX { LOADED_MAX.saturating_sub(soon) } else { 0 }
    }

    /// How many more replays may be offered.
    pub(super) fn room_for_replays(&self) -> usize {
        REPLAYS_MAX.saturating_sub(self.replays)
    }

    /// When the next blocked lane becomes ready.
    pub(super) fn next_timer(&self) -> Option<Duration> {
        self.timers.first().map(|(until, _)| *until)
    }

    /// Whether something is ready to go.
    pub(super) fn is_ready(&self, replay: bool) -> bool {
        if replay { !self.ready_replays.is_empty() } else { !self.ready.is_empty() }
    }

    /// A delivery was found in the store. One that is known already changes nothing.
    pub(super) fn offer(&mut self, due: Due, anchor: &Anchor) {
        let key = LaneKey::of(&due);
        let Some(lane) = self.lanes.get_mut(&key) else {
            let lane = Lane { queue: VecDeque::from([due]), state: State::Reading, spilled: false, page: FOLLOWERS_MAX };
            self.lanes.insert(key, lane);
            self.queued += 1;
            self.replays += usize::from(matches!(key, LaneKey::Replay(_)));
            self.arm(key, anchor);
            return;
        };
        let out = lane.state == State::Out(due.position);
        if out || lane.queue.iter().any(|known| known.position == due.position) {
            return;
        }
        if lane.state == State::Reading {
            lane.spilled = true;
            return;
        }
        let place = lane.queue.iter().position(|known| known.position > due.position).unwrap_or(lane.queue.len());
        let behind = place == lane.queue.len();
        let blocked = matches!(lane.state, State::Blocked(_));
        if behind && (lane.spilled || blocked || lane.queue.len() >= FOLLOWERS_MAX) {
            lane.spilled = true;
            return;
        }
        // A dead letter that became due again goes before those behind it; they are read again after it.
        self.queued = self.queued + place + 1 - lane.queue.len();
        lane.spilled |= !behind;
        lane.queue.truncate(place);
        lane.queue.push_back(due);
        if place == 0 && !matches!(lane.state, State::Out(_)) {
            self.arm(key, anchor);
        }
    }

    /// Moves blocked lanes whose time has come to the ready ones.
    pub(super) fn wake(&mut self, now: Duration) {
        while let Some((until, key)) = self.timers.first().copied().filter(|(until, _)| *until <= now) {
            self.timers.remove(&(until, key));
            if let Some(lane) = self.lanes.get_mut(&key) {
                lane.state = State::Ready;
                self.enqueue(key);
            }
        }
    }

    /// Takes the head of the lane that has been ready for longest: it is out until [`Self::done`], [`Self::again`] or
    /// [`Self::put_back`].
    pub(super) fn take(&mut self, replay: bool) -> Option<Due> {
        loop {
            let ready = if replay { &mut self.ready_replays } else { &mut self.ready };
            let key = ready.pop_front()?;
            // A lane that was armed twice stands in the list twice.
            let Some(lane) = self.lanes.get_mut(&key).filter(|lane| lane.state == State::Ready) else { continue };
            let Some(due) = lane.queue.pop_front() else { continue };
            lane.state = State::Out(due.position);
            self.queued -= 1;
            return Some(due);
        }
    }

    /// It was taken and not sent: its lane is ready again, first of all.
    pub(super) fn put_back(&mut self, due: Due) {
        let key = LaneKey::of(&due);
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        lane.queue.push_front(due);
        lane.state = State::Ready;
        self.queued += 1;
        if matches!(key, LaneKey::Replay(_)) { self.ready_replays.push_front(key) } else { self.ready.push_front(key) }
    }

    /// It is decided, or no longer owed: its lane goes on.
    pub(super) fn done(&mut self, key: LaneKey, anchor: &Anchor) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        if !lane.queue.is_empty() {
            self.arm(key, anchor);
            return;
        }
        match key {
            LaneKey::Conversation(number) if lane.spilled => {
                lane.state = State::Reading;
                self.unread.push_back(number);
            }
            _ => self.remove(key),
        }
    }

    /// It failed and is the head of its lane again.
    pub(super) fn again(&mut self, due: Due, anchor: &Anchor) {
        let key = LaneKey::of(&due);
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        lane.queue.push_front(due);
        self.queued += 1;
        self.arm(key, anchor);
    }

    /// A spilled lane to be read again: its number and how many to read.
    pub(super) fn next_unread(&mut self) -> Option<(i64, usize)> {
        let number = self.unread.pop_front()?;
        let lane = self.lanes.get_mut(&LaneKey::Conversation(number))?;
        // What is found in the store from now on, and not by this reading, spills it again.
        lane.spilled = false;
        Some((number, lane.page))
    }

    /// The reading failed: once more.
    pub(super) fn unread_again(&mut self, number: i64) {
        if let Some(lane) = self.lanes.get_mut(&LaneKey::Conversation(number)) {
            lane.spilled = true;
            self.unread.push_back(number);
        }
    }

    /// What the reading found: `found` in order, without replays; `more` if there may be more.
    pub(super) fn read(&mut self, number: i64, found: Vec<Due>, more: bool, anchor: &Anchor) {
        let key = LaneKey::Conversation(number);
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        lane.spilled |= more;
        // A page of replays only would be the same page for ever.
        lane.page = if found.is_empty() && more { lane.page.saturating_mul(4) } else { FOLLOWERS_MAX };
        self.queued += found.len();
        lane.queue.extend(found);
        self.done(key, anchor);
    }

    /// Decides whether the head of a lane may go, and queues the lane accordingly.
    fn arm(&mut self, key: LaneKey, anchor: &Anchor) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        if let State::Blocked(until) = lane.state {
            self.timers.remove(&(until, key));
        }
        match lane.queue.front().and_then(|head| anchor.until(head)) {
            Some(until) => {
                self.queued -= lane.queue.len() - 1;
                lane.spilled |= lane.queue.len() > 1;
                lane.queue.truncate(1);
                lane.state = State::Blocked(until);
                self.timers.insert((until, key));
            }
            None => {
                let waiting = lane.state == State::Ready;
                lane.state = State::Ready;
                if !waiting {
                    self.enqueue(key);
                }
            }
        }
    }

    fn enqueue(&mut self, key: LaneKey) {
        if matches!(key, LaneKey::Replay(_)) { self.ready_replays.push_back(key) } else { self.ready.push_back(key) }
    }

    fn remove(&mut self, key: LaneKey) {
        if self.lanes.remove(&key).is_some() {
            self.replays -= usize::from(matches!(key, LaneKey::Replay(_)));
        }
    }
}

#[cfg(test)]
mod tests;
