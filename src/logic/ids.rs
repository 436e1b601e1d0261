//! Makes ids: time-sortable, unique, monotone also when the clock steps back.

use std::sync::{Mutex, PoisonError};

use crate::ports::clock::Random;

/// Makes 128-bit ids: 48 bits of milliseconds, 80 bits of randomness that count up within one millisecond.
#[derive(Debug, Default)]
pub struct IdMaker {
    last: Mutex<u128>,
}

impl IdMaker {
    /// A maker whose ids sort behind `floor` (the largest id in the store), so that a clock that was set back
    /// between two runs cannot make ids that sort before older ones.
    pub fn behind(floor: u128) -> Self {
        Self { last: Mutex::new(floor) }
    }

    /// The next id, for the time `now_ms`.
    pub fn next(&self, now_ms: i64, random: &dyn Random) -> u128 {
        let mut bytes = [0u8; 16];
        random.fill(&mut bytes);
        let low = u128::from_be_bytes(bytes) & ((1u128 << 80) - 1);
        let high = (now_ms.max(0) as u128) & ((1u128 << 48) - 1);
        // The top bit of the random part starts at 0, so that a whole millisecond of ids can count up without overflow.
        let fresh = (high << 80) | (low >> 1);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = if fresh > *last { fresh } else { *last + 1 };
        *last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;
    impl Random for Fixed {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(0xff);
        }
    }

    #[test]
    fn ids_grow_when_the_clock_steps_back() {
        let maker = IdMaker::default();
        let first = maker.next(1_700_000_000_000, &Fixed);
        let second = maker.next(1_600_000_000_000, &Fixed);
        let third = maker.next(1_700_000_000_000, &Fixed);
        assert!(first < second && second < third);
    }
}
