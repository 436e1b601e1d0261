//! What an answer means (the table of design §8), as a pure function: verdict for the delivery, effect on the destination.
//!
//! Attempts are spaced by a list of steps with jitter. `Retry-After` lengthens a step, never shortens it, and nothing waits
//! longer for it than 24 hours. Answers that speak about the destination as a whole (401, 403, 410) use up no step.

use std::time::Duration;

use crate::model::codes::Code;
use crate::model::delivery::Verdict;
use crate::model::time::Time;
use crate::ports::destination::{DeliverError, Receipt};

/// No destination may ask for more patience than this.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);
/// An answer that says "never" is asked this often: proxies and deploys give such answers by mistake.
pub const NEVER_TRIES: u32 = 3;
/// A destination that refuses our credentials is probed this often.
pub const DENIED_PROBE_EVERY: Duration = Duration::from_secs(15 * 60);
/// A 429 without a readable `Retry-After` pauses the destination for this long.
pub const BUSY_PAUSE: Duration = Duration::from_secs(5);
/// Bytes of a detail that are kept.
pub const DETAIL_BYTES_MAX: usize = 300;

const DEFAULT_STEPS_S: [u64; 10] = [0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];

/// When to try again: the delay before each attempt, the first included.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    steps: Vec<Duration>,
    jitter: f64,
}

impl Default for Schedule {
    /// 0, 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h: 75 hours; ±20 %.
    fn default() -> Self {
        Self::new(DEFAULT_STEPS_S.into_iter().map(Duration::from_secs).collect(), 0.2)
    }
}

impl Schedule {
    /// A schedule of `steps`: as many attempts as there are steps, at least one. `jitter` is a part of 1, held in 0..=1.
    pub fn new(mut steps: Vec<Duration>, jitter: f64) -> Self {
        if steps.is_empty() {
            steps.push(Duration::ZERO);
        }
        let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.0 };
        Self { steps, jitter }
    }

    /// Attempts before a delivery is exhausted.
    pub fn attempts_max(&self) -> u32 {
        u32::try_from(self.steps.len()).unwrap_or(u32::MAX)
    }

    /// The longest delay that this schedule or a `Retry-After` can make. A due time farther away than this comes from a
    /// clock that was set back, and is re-anchored.
    pub fn longest(&self) -> Duration {
        let step = self.steps.iter().max().copied().unwrap_or_default();
        step.mul_f64(1.0 + self.jitter).max(RETRY_AFTER_MAX)
    }

    /// The delay before the first attempt.
    pub fn first(&self) -> Duration {
        self.steps.first().copied().unwrap_or_default()
    }

    /// The jittered delay after `made` attempts; `None` if that was the last one. `unit` is random, 0..1.
    pub fn delay(&self, made: u32, unit: f64) -> Option<Duration> {
        let step = self.steps.get(usize::try_from(made).ok()?)?;
        Some(self.jittered(*step, unit))
    }

    fn last(&self, unit: f64) -> Duration {
        self.jittered(self.steps.last().copied().unwrap_or_default(), unit)
    }

    fn jittered(&self, step: Duration, unit: f64) -> Duration {
        step.mul_f64((1.0 - self.jitter + 2.0 * self.jitter * unit.clamp(0.0, 1.0)).max(0.0))
    }
}

/// What becomes of the head of a lane when its schedule is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnExhausted {
    /// It becomes a dead letter and the lane moves on.
    #[default]
    Skip,
    /// It is tried again by the last step for ever; the lane waits for it.
    Block,
}

/// How a destination wants failures treated.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Policy {
    /// Steps.
    pub schedule: Schedule,
    /// At their end.
    pub on_exhausted: OnExhausted,
}

/// What an answer means for the destination as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// It asked for patience: nothing is sent for this long.
    Wait(Duration),
    /// It refuses our credentials: paused, probed with one delivery each [`DENIED_PROBE_EVERY`].
    Denied,
    /// It is gone: halted, a person resumes or drops.
    Halted,
}

/// What an answer says about the health of the destination; fed to the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It answered as a working destination does (also with "never").
    Good,
    /// It did not.
    Bad,
    /// Says nothing about it.
    Neither,
}

/// An attempt, judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// What becomes of the delivery.
    pub verdict: Verdict,
    /// What becomes of the destination.
    pub effect: Effect,
    /// For the breaker.
    pub health: Health,
    /// The status of the answer.
    pub status: Option<u16>,
    /// One line for a person.
    pub detail: Option<String>,
}

/// Judges one attempt. `made` is the number of counted attempts before it; `unit` is random, 0..1.
pub fn judge(answer: Result<Receipt, DeliverError>, made: u32, policy: &Policy, now: Time, unit: f64) -> Judged {
    let made = made.saturating_add(1);
    match answer {
        Ok(Receipt { status }) => Judged { verdict: Verdict::Delivered, effect: Effect::None, health: Health::Good, status, detail: None },
        Err(DeliverError::Later { code, status, detail, after }) => {
            let after = after.map(|span| span.min(RETRY_AFTER_MAX));
            let effect = after.map_or(Effect::None, Effect::Wait);
            // 429 is flow control of a working destination; being paused is answer enough.
            let health = if status == Some(429) { Health::Neither } else { Health::Bad };
            let verdict = later(made, code, after.unwrap_or_default(), policy, now, unit);
            Judged { verdict, effect, health, status, detail: Some(cut(detail)) }
        }
        Err(DeliverError::Unsure { code, status, detail, after, sent }) => {
            // A step of the schedule is used up by what was sent, but what comes next is a look, at the time that suits it.
            let exhausted = sent && matches!(later(made, code, after, policy, now, unit), Verdict::Dead { .. });
            let verdict = if exhausted {
                Verdict::Dead { code: Code::Exhausted }
            } else {
                Verdict::Retry { due_at: now.plus(after.min(RETRY_AFTER_MAX)), code, counted: sent }
            };
            // The entry was taken and what follows it was too much: the destination waits all the same.
            let busy = status == Some(429);
            let effect = if busy { Effect::Wait(after.min(RETRY_AFTER_MAX)) } else { Effect::None };
            let health = if sent && !busy { Health::Bad } else { Health::Neither };
            Judged { verdict, effect, health, status, detail: Some(cut(detail)) }
        }
        Err(DeliverError::Never { code, status, detail }) => {
            let verdict = if made >= NEVER_TRIES.min(policy.schedule.attempts_max()) {
                Verdict::Dead { code }
            } else {
                later(made, code, Duration::ZERO, policy, now, unit)
            };
            let health = if status.is_some() { Health::Good } else { Health::Neither };
            Judged { verdict, effect: Effect::None, health, status, detail: Some(cut(detail)) }
        }
        Err(DeliverError::Denied { code, status, detail }) => held(code, status, detail, Effect::Denied, now),
        Err(DeliverError::Halt { code, status, detail }) => held(code, status, detail, Effect::Halted, now),
    }
}

/// The delivery waits for its destination: due at once when that takes events again, no step used up.
fn held(code: Code, status: Option<u16>, detail: String, effect: Effect, now: Time) -> Judged {
    let verdict = Verdict::Retry { due_at: now, code, counted: false };
    Judged { verdict, effect, health: Health::Neither, status, detail: Some(cut(detail)) }
}

fn later(made: u32, code: Code, after: Duration, policy: &Policy, now: Time, unit: f64) -> Verdict {
    let step = match (policy.schedule.delay(made, unit), policy.on_exhausted) {
        (Some(step), _) => step,
        (None, OnExhausted::Block) => policy.schedule.last(unit),
        (None, OnExhausted::Skip) => return Verdict::Dead { code: Code::Exhausted },
    };
    Verdict::Retry { due_at: now.plus(step.max(after)), code, counted: true }
}

fn cut(mut detail: String) -> String {
    let mut end = detail.len().min(DETAIL_BYTES_MAX);
    while !detail.is_char_boundary(end) {
        end -= 1;
    }
    detail.truncate(end);
    detail
}

/// What an HTTP answer says (design §8). `asked` is its `Retry-After`.
///
/// # Errors
/// Everything but 2xx.
pub fn of_http_status(status: u16, asked: Option<&str>, now: Time) -> Result<Receipt, DeliverError> {
    let detail = format!("answered {status}");
    let status_seen = Some(status);
    match status {
        200..=299 => Ok(Receipt { status: status_seen }),
        401 | 403 => Err(DeliverError::Denied { code: Code::Denied, status: status_seen, detail }),
        410 => Err(DeliverError::Halt { code: Code::Gone, status: status_seen, detail }),
        429 | 503 => {
            let asked = asked.and_then(|value| retry_after(value, now));
            // A 429 speaks about all we send, so it pauses the destination also where it does not say for how long.
            let after = asked.or_else(|| (status == 429).then_some(BUSY_PAUSE));
            Err(DeliverError::Later { code: Code::Busy, status: status_seen, detail, after })
        }
        // 407 and 421 to 428 are states of the way or of the moment, like the ones the table names.
        404 | 407 | 408 | 409 | 421 | 423 | 424 | 425 | 428 | 500.. => {
            Err(DeliverError::Later { code: Code::Failed, status: status_seen, detail, after: None })
        }
        _ => Err(DeliverError::Never { code: Code::Rejected, status: status_seen, detail }),
    }
}

/// Reads a `Retry-After` value: delta seconds (RFC 9110 §10.2.3; decimals are seen in the wild) or an HTTP-date. A date in the
/// past is zero; what cannot be read is `None`; nothing is longer than [`RETRY_AFTER_MAX`].
pub fn retry_after(value: &str, now: Time) -> Option<Duration> {
    let value = value.trim();
    let seconds = if value.bytes().all(|b| b.is_ascii_digit() || b == b'.') && !value.is_empty() {
        value.parse::<f64>().ok()?
    } else {
        let millis = Time::parse_http(value)?.since_ms(now).max(0);
        Duration::from_millis(u64::try_from(millis).ok()?).as_secs_f64()
    };
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(RETRY_AFTER_MAX).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests;
