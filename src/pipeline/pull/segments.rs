//! Segments: how a batch is cut where an earlier one was interrupted, so that a mail that crashes the parser is found by halving.

use crate::model::id::RawId;
use crate::ports::pull::{Pulled, PulledBatch};
use crate::ports::store::ParseBatch;

/// Things that are parsed under one row.
#[derive(Debug, Default)]
pub struct Segment {
    /// What is in it.
    pub things: Vec<Pulled>,
    /// Interruptions of a mail that is alone in it.
    pub attempts: u32,
}

/// Cuts a batch where interrupted batches were: what was in none of them stays together, what was is halved, down to single ones.
pub fn segments(things: Vec<Pulled>, suspects: &[ParseBatch]) -> Vec<Segment> {
    // The innermost row decides: the smallest batch, then the most attempts.
    let blame = |uid: u64| {
        suspects.iter().filter(|batch| batch.uids.contains(&uid)).min_by_key(|batch| (batch.uids.len(), u32::MAX - batch.attempts))
    };
    let mut segments: Vec<(Option<RawId>, usize, Segment)> = Vec::new();
    for thing in things {
        let suspect = blame(thing.uid);
        let (id, attempts, half) = match suspect {
            None => (None, 0, usize::MAX),
            // Only a mail that is alone is to blame for sure: larger batches are halved without counting.
            Some(batch) if batch.uids.len() > 1 => (Some(batch.id), 0, batch.uids.len().div_ceil(2)),
            Some(batch) => (Some(batch.id), batch.attempts.saturating_add(1), 1),
        };
        match segments.last_mut() {
            Some((last, room, segment)) if *last == id && *room > 0 => {
                *room -= 1;
                segment.things.push(thing);
            }
            _ => segments.push((id, half.saturating_sub(1), Segment { things: vec![thing], attempts })),
        }
    }
    segments.into_iter().map(|(_, _, segment)| segment).collect()
}

/// The interrupted batches that a new batch touches, taken from the list.
pub fn take_suspects(suspects: &mut Vec<ParseBatch>, batch: &PulledBatch) -> Vec<ParseBatch> {
    let (taken, rest) = std::mem::take(suspects).into_iter().partition(|suspect| {
        let same = suspect.source.1 == batch.folder && suspect.source.2 == batch.epoch;
        same && suspect.uids.iter().any(|uid| (batch.from..=batch.to).contains(uid))
    });
    *suspects = rest;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::pull::PulledState;

    fn thing(uid: u64) -> Pulled {
        Pulled {
            uid,
            head: crate::model::raw::RawHead::default(),
            body: bytes::Bytes::new(),
            spooled: None,
            internal_date: None,
            print: None,
            state: PulledState::Whole,
        }
    }

    fn suspect(id: u128, uids: std::ops::RangeInclusive<u64>, attempts: u32) -> ParseBatch {
        let source = ("imap:a".to_owned(), "INBOX".to_owned(), 1);
        ParseBatch { id: RawId(id), channel: "mail".to_owned(), source, uids: uids.collect(), attempts }
    }

    fn shape(segments: &[Segment]) -> Vec<(Vec<u64>, u32)> {
        segments.iter().map(|segment| (segment.things.iter().map(|thing| thing.uid).collect(), segment.attempts)).collect()
    }

    #[test]
    fn an_interrupted_batch_is_parsed_in_halves() {
        let cut = segments((1..=6).map(thing).collect(), &[suspect(1, 2..=5, 0)]);
        assert_eq!(shape(&cut), [(vec![1], 0), (vec![2, 3], 0), (vec![4, 5], 0), (vec![6], 0)]);
    }

    #[test]
    fn the_innermost_interruption_decides() {
        let cut = segments((1..=4).map(thing).collect(), &[suspect(1, 1..=4, 0), suspect(2, 3..=3, 1)]);
        assert_eq!(shape(&cut), [(vec![1, 2], 0), (vec![3], 2), (vec![4], 0)]);
    }
}
