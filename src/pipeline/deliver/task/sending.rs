//! The starting half of the loop: what is read, loaded, sent and recorded next. Nothing here waits; each thing started is one more
//! future of the loop.

use std::sync::Arc;
use std::time::Duration;

use crate::model::delivery::{Decision, Due, Outgoing};
use crate::pipeline::deliver::task::{Cursor, DECIDING_MAX, LOAD_MAX, LOAD_MIN, PAGE, READING_MAX, Runtime, Scan, Work};
use crate::pipeline::limits::Pace;
use crate::telemetry::metrics::LimitScope;

impl Runtime {
    pub(super) fn may_send(&self) -> bool {
        !self.undecidable && self.deciding < DECIDING_MAX
    }

    pub(super) fn send_and_load(&mut self, now: Duration) {
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

    pub(super) fn send_probe(&mut self, now: Duration) {
        if self.may_send() && self.store_again.is_none() && self.rate_until.is_none() {
            self.unload();
            self.load(1, true, now);
        }
    }

    pub(super) fn load(&mut self, most: usize, probe: bool, now: Duration) {
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
    pub(super) fn unload(&mut self) {
        while let Some((due, _)) = self.loaded.pop_back() {
            self.lanes.put_back(due);
        }
    }

    pub(super) fn send(&mut self, due: Due, outgoing: Outgoing, probe: bool) {
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

    pub(super) fn cursor(&mut self, scan: Scan) -> &mut Cursor {
        match scan {
            Scan::Deliveries => &mut self.deliveries,
            Scan::Replays => &mut self.replays,
        }
    }

    pub(super) fn scan(&mut self, scan: Scan) {
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

    pub(super) fn read_lanes(&mut self) {
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

    pub(super) fn write_undecided(&mut self) {
        for (due, decision) in std::mem::take(&mut self.undecided) {
            self.decide(due, decision);
        }
    }

    pub(super) fn decide(&mut self, due: Due, decision: Decision) {
        self.deciding += 1;
        let recorded = self.ports.decide.decide(decision.clone());
        self.work.push(Box::pin(async move { Work::Decided { due, decision, result: recorded.await } }));
    }

    pub(super) fn write_mode(&mut self) {
        let Some((mode, code)) = self.modes.front().copied().filter(|_| !self.moding) else { return };
        self.moding = true;
        let recorded = self.ports.decide.mode(&self.name, mode, code);
        self.work.push(Box::pin(async move { Work::Moded { change: (mode, code), result: recorded.await } }));
    }
}
