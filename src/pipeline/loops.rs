//! The loop guard: two programs that answer each other are slowed down, whatever the receiver of our events does about it.
//!
//! Answers and automatic mails are counted per sender and matter (the subject without prefixes and numbers; of a bounce, whom it
//! concerns). What comes over the rate is told as automated, flagged `loop_suspected` and held until its turn: a loop goes on at the
//! rate and no faster, and a receiver that leaves automated mails alone ends it. Nothing is dropped (I1). Mails that begin something
//! are not counted: forms, alarms and shops write many alike. Counting is by the time of arrival, so that a backlog is no loop; it
//! lives in memory, bounded, and a restart forgets it (I6).

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::model::event::Automated;
use crate::model::item::{Hold, HoldReason, MessageItem};
use crate::model::time::Time;

/// Longest hold: a day is enough for a person to look.
const HOLD_MAX_MS: i64 = 24 * 3600 * 1000;
/// Matters remembered at once.
const MATTERS_MAX: usize = 50_000;
/// Letters of a subject that count.
const LETTERS_MAX: usize = 80;
/// Longest prefix of a subject, as `Automatic response`.
const PREFIX_MAX: usize = 24;
/// What mail programs put before the subject of an answer.
const ANSWERS: [&str; 14] = ["re", "aw", "sv", "vs", "antw", "antwort", "odp", "ynt", "rif", "res", "回复", "答复", "回覆", "ответ"];

/// Counts the mails of one channel.
pub struct LoopGuard {
    /// Time for one more, and how many may come at once: GCRA, on the times of arrival.
    period_ms: i64,
    burst: i64,
    hasher: RandomState,
    /// By matter, when the next one would be in time.
    due: Mutex<HashMap<u64, i64>>,
}

impl LoopGuard {
    /// `count` mails of one sender about one matter `per` span.
    pub fn new(count: u32, per: Duration) -> Self {
        let count = i64::from(count.max(1));
        let period_ms = i64::try_from(per.as_millis()).unwrap_or(i64::MAX) / count;
        Self { period_ms: period_ms.max(1), burst: count, hasher: RandomState::new(), due: Mutex::default() }
    }

    /// Looks at a message that is about to be admitted; true: it is held as part of a loop.
    pub fn look(&self, message: &mut MessageItem, now: Time) -> bool {
        if message.historic || !answers(message) {
            return false;
        }
        let arrived = message.received_at.0.min(now.0);
        let Some(wait) = self.over(self.matter(message), arrived) else { return false };
        message.automated.get_or_insert(Automated::System);
        flag(&mut message.extra);
        let until = Time(arrived.saturating_add(wait));
        if until > now && message.hold.is_none() {
            message.hold = Some(Hold { reason: HoldReason::Held, until });
        }
        true
    }

    /// How long a mail of this matter waits; `None`: it is within the rate.
    fn over(&self, matter: u64, arrived: i64) -> Option<i64> {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if due.len() >= MATTERS_MAX {
            due.retain(|_, due| *due > arrived);
            if due.len() >= MATTERS_MAX {
                due.clear();
            }
        }
        let next = due.entry(matter).or_insert(arrived);
        *next = (*next).max(arrived).saturating_add(self.period_ms);
        let wait = *next - arrived - self.period_ms.saturating_mul(self.burst);
        // What is held longest is the end of the line: beyond it all come at once.
        *next = (*next).min(arrived.saturating_add(self.period_ms.saturating_mul(self.burst)).saturating_add(HOLD_MAX_MS));
        (wait > 0).then_some(wait.min(HOLD_MAX_MS))
    }

    fn matter(&self, message: &MessageItem) -> u64 {
        let sender = message.from.as_ref().map_or("", |from| from.address.as_str());
        let said = |name: &str| message.extra.get("mail").and_then(|mail| mail.get(name)).and_then(Value::as_str).unwrap_or_default();
        let subject = subject(message.subject.as_deref().unwrap_or_default());
        self.hasher.hash_one((sender, said("reply_to"), said("report_recipient"), subject))
    }
}

/// Whether it answers something, or says itself that a program wrote it: only such mails can go round.
fn answers(message: &MessageItem) -> bool {
    use Automated::{AutoReply, Bounce, DeliveryStatus, OutOfOffice};
    let reply = |subject: &String| subject.split_once([':', '：']).is_some_and(|(prefix, _)| is_answer(prefix));
    match message.automated {
        Some(AutoReply | OutOfOffice | Bounce | DeliveryStatus) => true,
        Some(_) => false,
        None => message.in_reply_to.is_some() || message.subject.as_ref().is_some_and(reply),
    }
}

/// `Re`, `Re[2]`, `AW (3)`.
fn is_answer(prefix: &str) -> bool {
    let word = prefix.trim().trim_end_matches(|c: char| c.is_ascii_digit() || "[]() ^".contains(c)).to_lowercase();
    ANSWERS.contains(&word.as_str())
}

/// The matter of a subject: the letters behind the last short prefix. Numbers change from answer to answer.
fn subject(subject: &str) -> String {
    let mut rest = subject;
    while let Some((prefix, behind)) = rest.split_once([':', '：']) {
        if prefix.chars().count() > PREFIX_MAX || !behind.contains(char::is_alphabetic) {
            break;
        }
        rest = behind;
    }
    rest.chars().filter(|c| c.is_alphabetic()).take(LETTERS_MAX).flat_map(char::to_lowercase).collect()
}

/// `loop_suspected` among the flags of the mail.
fn flag(extra: &mut Map<String, Value>) {
    let mail = extra.entry("mail").or_insert_with(|| json!({}));
    let Some(mail) = mail.as_object_mut() else { return };
    let flags = mail.entry("flags").or_insert_with(|| json!([]));
    if let Some(flags) = flags.as_array_mut() {
        flags.push(json!("loop_suspected"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matter_is_the_subject_without_prefixes_and_numbers() {
        for one in ["Order 4711", "Re: Order 4711", "Re: Auto: AW: order (2)", "Automatic reply: Re[3]: Order 4712"] {
            assert_eq!(subject(one), "order", "{one}");
        }
        assert_eq!(subject("Order: 4711"), "order");
        assert_ne!(subject("Re: Invoice"), subject("Re: Order"));
    }

    #[test]
    fn the_rate_lets_a_burst_through_and_then_spreads() {
        let guard = LoopGuard::new(20, Duration::from_secs(3600));
        let waits: Vec<_> = (0..25).map(|_| guard.over(1, 0)).collect();
        assert!(waits.iter().take(20).all(Option::is_none));
        assert_eq!(waits.get(20), Some(&Some(180_000)));
        assert_eq!(waits.get(24), Some(&Some(5 * 180_000)));
        assert_eq!(guard.over(2, 0), None, "another matter");
        assert_eq!(guard.over(1, 4 * 3600 * 1000), None, "forgotten after a while");
        let far: Vec<_> = (0..10_000).filter_map(|_| guard.over(3, 0)).collect();
        assert!(far.iter().all(|wait| *wait <= HOLD_MAX_MS));
    }
}
