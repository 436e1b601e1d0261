//! Fuel: what stops a runaway map.
//!
//! jaq has no interrupt of its own. Whatever a jq program does again and again, it clones, makes or compares a value each time;
//! [`crate::connector::jq::val::Val`] burns fuel at each of these, and more the more bytes are touched. When the fuel is used up, the run is
//! left by unwinding (`resume_unwind`, so that no panic hook makes noise) up to the border in [`run`]. The counter belongs
//! to the thread, and a run never leaves its thread.
//!
//! What must stay true: the release profile unwinds (no `panic = "abort"`), and no value can be made without burning.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Logical size of one value, bytes. A value shared inside itself (`[., .]` again and again) counts as often as it would be
/// written, so that nothing small in memory is huge when it is compared or written.
pub const WEIGHT_MAX: u64 = 64 * 1024 * 1024;
/// Nesting of values inside a run. More than the limit of payloads, for maps that wrap what they read.
pub const DEPTH_MAX: u16 = 320;
/// Bytes that are copied for one unit of fuel.
const BYTES_PER_UNIT: u64 = 64;

thread_local! {
    static LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// Why a run was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop(pub &'static str);

/// Leaves the run.
pub fn stop(why: &'static str) -> ! {
    resume_unwind(Box::new(Stop(why)))
}

/// Burns `units`, and leaves the run if there are not so many.
#[inline]
pub fn burn(units: u64) {
    LEFT.with(|left| match left.get().checked_sub(units) {
        Some(rest) => left.set(rest),
        None => {
            // What is dropped on the way out must not run out again: a second unwind would end the process.
            left.set(u64::MAX);
            stop("fuel");
        }
    });
}

/// Burns for touching `bytes` of content.
#[inline]
pub fn burn_bytes(bytes: u64) {
    burn(1 + bytes / BYTES_PER_UNIT);
}

/// Leaves the run if a value would be too large.
#[inline]
pub fn check_size(weight: u64, depth: u16) {
    if weight > WEIGHT_MAX {
        stop("size");
    }
    if depth > DEPTH_MAX {
        stop("depth");
    }
}

/// Runs `work` with so much fuel.
///
/// # Errors
/// Why the run was left. Other panics go on.
pub fn run<T>(fuel: u64, work: impl FnOnce() -> T) -> Result<T, Stop> {
    let before = LEFT.with(|left| left.replace(fuel));
    let done = catch_unwind(AssertUnwindSafe(work));
    LEFT.with(|left| left.set(before));
    match done {
        Ok(value) => Ok(value),
        Err(payload) => match payload.downcast::<Stop>() {
            Ok(stopped) => Err(*stopped),
            // A defect in a library under a hostile payload must cost that payload only (I8).
            Err(_) => Err(Stop("a defect in the engine")),
        },
    }
}
