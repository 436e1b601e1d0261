//! The taking half of the loop: what became of each thing that was started.

use std::time::Duration;

use crate::logic::schedule::{Judged, judge};
use crate::model::codes::Code;
use crate::model::delivery::{Decision, Due, Position, Verdict};
use crate::model::view::DestinationMode;
use crate::pipeline::deliver::door::ModeChange;
use crate::pipeline::deliver::lanes::LaneKey;
use crate::pipeline::deliver::task::{FAILURE_TOLD_EVERY, Found, PAGE, Runtime, STORE_AGAIN, Scan, Work};
use crate::ports::destination::{DeliverError, Receipt};
use crate::ports::store::{Ready, StoreError};

impl Runtime {
    pub(super) fn take(&mut self, work: Work) {
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
    pub(super) fn saw_replay(&mut self, position: Position) {
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

    fn has_loaded(&mut self, asked: Vec<Due>, probe: bool, loaded: Result<Option<Vec<Ready>>, StoreError>) {
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
        self.tell_health(&answer, now);
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

    /// Says once that deliveries fail, and once that they do no longer. At most one pair a minute: conversations may fare differently.
    fn tell_health(&mut self, answer: &Result<Receipt, DeliverError>, now: Duration) {
        match answer {
            Ok(_) if self.failing => {
                self.failing = false;
                tracing::info!(messaging.destination.name = %self.name, "delivers again");
            }
            // A change of mode is told as such.
            Ok(_) | Err(DeliverError::Denied { .. } | DeliverError::Halt { .. }) => {}
            Err(error) => {
                let quiet = self.failure_told_at.is_some_and(|told| now < told + FAILURE_TOLD_EVERY);
                if !self.failing && !quiet {
                    self.failing = true;
                    self.failure_told_at = Some(now);
                    let code = failure_code(error).as_str();
                    tracing::warn!(messaging.destination.name = %self.name, error.type = code, error = %error, "delivery failed");
                }
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

    pub(super) fn show_mode(&self) {
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
        | DeliverError::Unsure { code, .. }
        | DeliverError::Never { code, .. }
        | DeliverError::Denied { code, .. }
        | DeliverError::Halt { code, .. } => *code,
    }
}
