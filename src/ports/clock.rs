//! Time and randomness.

use std::time::Duration;

use crate::model::time::Time;
use crate::ports::BoxFuture;

/// Time. Everything that asks for the time asks this, so that tests can set it.
pub trait Clock: Send + Sync {
    /// Wall clock. May jump.
    fn now(&self) -> Time;

    /// Monotone time since some fixed point. Never jumps; for intervals and timeouts.
    fn monotonic(&self) -> Duration;

    /// Completes after `span` of monotone time.
    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()>;
}

/// Randomness, fit for ids, secrets and jitter.
pub trait Random: Send + Sync {
    /// Fills `buffer` with random bytes.
    fn fill(&self, buffer: &mut [u8]);

    /// A number in `0.0..1.0`, for jitter.
    fn unit(&self) -> f64 {
        let mut bytes = [0u8; 8];
        self.fill(&mut bytes);
        (u64::from_le_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64
    }
}
