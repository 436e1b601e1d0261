//! Once more: a single mail that the server did not give before.
//!
//! What must stay true: nothing of the walk changes by it; a session that dies of it ends as any other, and whoever asked has written down
//! before that it asked.

use crate::engines::imap::conn::Failed;
use crate::engines::imap::fetch;
use crate::engines::imap::folder::{Memo, is_historic};
use crate::engines::imap::large::{self, WHOLE_BYTES_MAX};
use crate::engines::imap::plan::{pulled, pulled_large};
use crate::engines::imap::text::Tone;
use crate::engines::imap::walk::Walk;
use crate::ports::pull::{PullError, PulledBatch, PulledState};
use crate::ports::store::SourceState;

/// Asks for one mail. `None` if it is not given, or the numbers mean other mails by now.
pub async fn again(walk: &mut Walk, state: &SourceState, uid: u64) -> Result<Option<PulledBatch>, PullError> {
    let index = walk.folders.iter().position(|folder| folder.name == state.folder && !folder.missing);
    let (Some(index), Ok(number)) = (index, u32::try_from(uid)) else { return Ok(None) };
    if u64::from(walk.enter(index).await?.validity) != state.epoch_name {
        return Ok(None);
    }
    let batch = |things, historic, share| PulledBatch {
        folder: state.folder.clone(),
        epoch: state.epoch,
        epoch_name: state.epoch_name,
        from: uid,
        to: uid,
        things,
        historic,
        share,
    };
    let meta = match fetch::look_at(&mut walk.conn, number).await {
        Ok(Some(meta)) if meta.size <= walk.settings.mailbox.mail_bytes_max => meta,
        Ok(Some(_)) => return Ok(None),
        Ok(None) => {
            let meta = fetch::Meta { uid: number, size: 0, date: None, print: None };
            return Ok(Some(batch(vec![pulled(state, &meta, bytes::Bytes::new(), PulledState::Gone)], false, None)));
        }
        Err(failed) => return refused(failed),
    };
    let historic = is_historic(state, &Memo::read(&state.memo), uid, meta.date);
    if meta.size > WHOLE_BYTES_MAX {
        let mut answer = large::fetch(&mut walk.conn, &walk.spool, (&state.folder, state.epoch_name), meta).await;
        return match (answer.large.take(), answer.failed) {
            (Some(large), _) => Ok(Some(batch(vec![pulled_large(state, &meta, large)], historic, None))),
            (None, Some(failed)) => refused(failed),
            (None, None) => Ok(None),
        };
    }
    let share = fetch::share(&[meta]).await;
    let mut answer = fetch::bodies(&mut walk.conn, &[meta]).await;
    match (answer.come.remove(&number), answer.failed) {
        (Some(body), _) => Ok(Some(batch(vec![pulled(state, &meta, body, PulledState::Whole)], historic, share))),
        (None, Some(failed)) => refused(failed),
        (None, None) => Ok(None),
    }
}

/// A refusal is an answer, unless it asks for patience.
fn refused(failed: Failed) -> Result<Option<PulledBatch>, PullError> {
    match failed {
        Failed::Refused(refusal) if !matches!(refusal.tone, Tone::Throttled(_) | Tone::Unavailable) => Ok(None),
        failed => Err(failed.fatal("UID FETCH")),
    }
}
