//! Reads a mail that is too large to be held, as it passes by: once for its outline, once more for what the outline leaves out.
//!
//! What must stay true: what comes of it is what [`mail::read`] makes of the whole, and the memory it takes depends on the texts of the
//! mail, not on its files.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

use crate::connector::mail::canon::Canon;
use crate::connector::mail::outline::{Allowance, Outline, Outliner};
use crate::connector::mail::parts::{Measured, Measuring};
use crate::connector::mail::proof::{BodyHashes, BodyHashing};
use crate::connector::mail::{self, MailContext, Scan, fields, message, prescan};
use crate::model::codes::Code;
use crate::model::dns::Answers;
use crate::model::item::Item;
use crate::model::raw::Raw;

/// What is known of the bytes that an outline leaves out.
#[derive(Debug, Clone, Default)]
pub struct Rest {
    /// The outline.
    pub outline: Outline,
    /// Sizes and digests of the parts that are not whole in it, by the number of their entity.
    pub measured: BTreeMap<usize, Measured>,
    /// The canonical hash of the whole mail.
    pub content: [u8; 32],
    /// Hashes of its body as signatures have them, where senders are checked.
    pub bodies: Option<BodyHashes>,
}

/// Gives the bytes of a mail from an offset: as many as it likes, none at the end.
pub type Pieces<'a> = &'a mut dyn FnMut(u64) -> Result<Bytes, String>;

/// Reads one mail whose bytes come from `pieces`; `raw` has no body. `answers`: as in [`mail::read_with`].
///
/// Run it on a thread with at least [`mail::PARSE_STACK_BYTES`] of stack.
///
/// # Errors
/// One line, if the bytes cannot be had just now.
pub fn read(raw: &Raw, context: &MailContext, answers: Option<&Answers>, pieces: Pieces) -> Result<Item, String> {
    read_with(raw, context, Allowance::default(), answers, pieces)
}

/// The same with other allowances: for tests.
///
/// # Errors
/// As [`read`].
pub fn read_with(
    raw: &Raw,
    context: &MailContext,
    allowance: Allowance,
    answers: Option<&Answers>,
    pieces: Pieces,
) -> Result<Item, String> {
    // As in `mail::read`: a defect costs one mail.
    let item = catch_unwind(AssertUnwindSafe(|| {
        let mut outliner = Outliner::new(allowance);
        pass(pieces, &mut |piece| outliner.feed(piece))?;
        let outline = outliner.finish();
        let held = Raw { body: outline.kept.clone(), ..raw.clone() };
        let mut scan = match prescan(&held.body, &context.limits) {
            Ok(scan) => scan,
            Err(error) => return Ok(mail::quarantined(&context.channel, error.code, error.detail)),
        };
        if !outline.gaps.is_empty() {
            scan.rest = Some(measure(&held.body, &scan, outline, context, pieces)?);
        }
        Ok(message::build(&held, &scan, context, answers))
    }));
    let defect = |_| Ok(mail::quarantined(&context.channel, Code::MailUnparsable, "reading the mail failed: a defect"));
    item.unwrap_or_else(defect)
}

fn pass(pieces: Pieces, see: &mut dyn FnMut(&[u8])) -> Result<(), String> {
    let mut at = 0;
    loop {
        let piece = pieces(at)?;
        if piece.is_empty() {
            return Ok(());
        }
        see(&piece);
        at += piece.len() as u64;
    }
}

/// A part that is measured as it passes by.
struct Watched {
    number: usize,
    place: Range<u64>,
    measuring: Measuring,
}

fn measure(held: &[u8], scan: &Scan, outline: Outline, context: &MailContext, pieces: Pieces) -> Result<Rest, String> {
    let mut canon = Canon::new(held, scan, message::message_id(held, scan, context).as_deref());
    let body = outline.place(scan.root().body.start)..u64::MAX;
    let mut bodies = context.verify_senders.then(|| BodyHashing::new(held, scan.root().body.start));
    let signed = bodies.as_ref().map_or(u64::MAX, |bodies| outline.place(bodies.begins_at()))..u64::MAX;
    let cut = scan.leaves().filter(|(_, leaf)| outline.has_gap(&leaf.body));
    let mut watched: Vec<Watched> = cut
        .map(|(number, leaf)| Watched {
            number,
            place: outline.place(leaf.body.start)..outline.place(leaf.body.end),
            measuring: Measuring::new(fields::encoding(&leaf.fields, held)),
        })
        .collect();
    let (mut at, mut first) = (0u64, 0);
    pass(pieces, &mut |piece| {
        canon.feed(part(piece, at, &body));
        if let Some(bodies) = &mut bodies {
            bodies.feed(part(piece, at, &signed));
        }
        let end = at + piece.len() as u64;
        for watched in watched.iter_mut().skip(first) {
            // They stand in the order of the mail.
            if watched.place.start >= end {
                break;
            }
            watched.measuring.feed(part(piece, at, &watched.place));
            first += usize::from(watched.place.end <= end);
        }
        at = end;
    })?;
    let measured = watched.into_iter().map(|watched| (watched.number, watched.measuring.finish())).collect();
    Ok(Rest { outline, measured, content: canon.finish(), bodies: bodies.map(BodyHashing::finish) })
}

/// The bytes of `piece`, which stands at `at`, that lie in `range`.
fn part<'p>(piece: &'p [u8], at: u64, range: &Range<u64>) -> &'p [u8] {
    let clip = |place: u64| usize::try_from(place.saturating_sub(at)).unwrap_or(usize::MAX).min(piece.len());
    piece.get(clip(range.start)..clip(range.end)).unwrap_or_default()
}
