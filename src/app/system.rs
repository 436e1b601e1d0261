//! The system's clock and randomness behind their ports.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::model::time::Time;
use crate::ports::BoxFuture;
use crate::ports::clock::{Clock, Random};

/// The system's clock.
#[derive(Debug)]
pub struct SystemClock {
    started: std::time::Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { started: std::time::Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one adapter between the clock port and the system")]
    fn now(&self) -> Time {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Time(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(span))
    }
}

/// Random bytes fetched from the system at once: a message needs a handful of ids, and a system call each is a tenth of its cost.
const POOL_BYTES: usize = 4096;

/// The system's random source, asked for many bytes at a time. Bytes are handed out once and wiped.
pub struct SystemRandom {
    pool: Mutex<Pool>,
}

struct Pool {
    bytes: [u8; POOL_BYTES],
    used: usize,
}

impl Default for SystemRandom {
    fn default() -> Self {
        Self { pool: Mutex::new(Pool { bytes: [0; POOL_BYTES], used: POOL_BYTES }) }
    }
}

impl Random for SystemRandom {
    fn fill(&self, buffer: &mut [u8]) {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in buffer.chunks_mut(POOL_BYTES) {
            if pool.used + chunk.len() > POOL_BYTES {
                system(&mut pool.bytes);
                pool.used = 0;
            }
            let (from, to) = (pool.used, pool.used + chunk.len());
            if let Some(fresh) = pool.bytes.get_mut(from..to) {
                chunk.copy_from_slice(fresh);
                fresh.fill(0);
            }
            pool.used = to;
        }
    }
}

fn system(buffer: &mut [u8]) {
    if let Err(error) = getrandom::fill(buffer) {
        // Without randomness no id, secret or signature can be trusted: going on would be worse than ending.
        tracing::error!(error = %error, "the system gives no randomness");
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_random_byte_is_given_twice() {
        let random = SystemRandom::default();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            let mut bytes = [0; 16];
            random.fill(&mut bytes);
            assert!(seen.insert(bytes));
        }
        let mut large = vec![0; 3 * POOL_BYTES + 7];
        random.fill(&mut large);
        assert!(large.chunks(64).all(|chunk| chunk.iter().any(|byte| *byte != 0)));
    }
}
