//! A clock that stands still until the test moves it: hours of retries pass in milliseconds, in the same order every time.
//!
//! Moving it lets every task run until none has anything left to do, then jumps to the next sleeper. For tests without sockets
//! and threads: what waits for those looks idle.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use omnigate::model::time::Time;
use omnigate::ports::BoxFuture;
use omnigate::ports::clock::{Clock, Random};

/// 2026-11-22T09:00:00Z.
pub const START_MS: i64 = 1_795_338_000_000;

/// Polls that a task needs at most to do all it can at one moment, with room to spare.
const TURNS: usize = 60;

#[derive(Default)]
struct Inner {
    now: Duration,
    wall_offset_ms: i64,
    next: u64,
    sleepers: BTreeMap<(Duration, u64), Waker>,
}

/// The clock. Clones show the same time.
#[derive(Clone, Default)]
pub struct VirtualClock {
    inner: Arc<Mutex<Inner>>,
}

impl VirtualClock {
    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.inner.lock().unwrap().now
    }

    /// The wall clock jumps; monotone time does not.
    pub fn jump_ms(&self, by: i64) {
        self.inner.lock().unwrap().wall_offset_ms += by;
    }

    /// Lets every task do what it can without time passing.
    pub async fn settle(&self) {
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
    }

    /// Lets `span` pass.
    pub async fn pass(&self, span: Duration) {
        let end = self.elapsed() + span;
        loop {
            self.settle().await;
            let woken = {
                let mut inner = self.inner.lock().unwrap();
                let next = inner.sleepers.first_key_value().map(|((at, _), _)| *at).filter(|at| *at <= end);
                inner.now = next.unwrap_or(end).max(inner.now);
                let now = inner.now;
                let later = inner.sleepers.split_off(&(now + Duration::from_nanos(1), 0));
                std::mem::replace(&mut inner.sleepers, later)
            };
            if woken.is_empty() {
                return self.settle().await;
            }
            woken.into_values().for_each(Waker::wake);
        }
    }
}

struct Sleep {
    clock: VirtualClock,
    until: Duration,
    slot: Option<u64>,
}

impl Future for Sleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock.clone();
        let mut inner = clock.inner.lock().unwrap();
        if inner.now >= self.until {
            return Poll::Ready(());
        }
        inner.next += 1;
        let slot = *self.slot.get_or_insert(inner.next);
        inner.sleepers.insert((self.until, slot), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.clock.inner.lock().unwrap().sleepers.remove(&(self.until, slot));
        }
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Time {
        let inner = self.inner.lock().unwrap();
        Time(START_MS + inner.wall_offset_ms + i64::try_from(inner.now.as_millis()).unwrap())
    }

    fn monotonic(&self) -> Duration {
        self.elapsed()
    }

    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        Box::pin(Sleep { clock: self.clone(), until: self.elapsed() + span, slot: None })
    }
}

/// Jitter in the middle: steps are exactly as long as written.
pub struct MiddleRandom;

impl Random for MiddleRandom {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(0);
        if let Some(last) = buffer.last_mut() {
            *last = 0x80;
        }
    }
}
