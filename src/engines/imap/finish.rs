//! What became of a move that was asked for and not answered: the connection broke, or the process died.
//!
//! The server may have done all of it, nothing, or the first half (a copy without the removal, where it has no MOVE, was renumbered
//! meanwhile, or died itself), and it may have begun only after the next session had looked. So it is looked up, never repeated blindly.
//!
//! What must stay true: a mail is taken out of its folder only if the target has a copy of it that came after the move was asked for, with
//! the same size and the same bytes; one copy stands for one mail; what has no copy stays, and is moved as if nothing had been asked.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::engines::imap::conn::{Conn, Failed};
use crate::engines::imap::fetch::{self, Ask, section_of};
use crate::engines::imap::folder::{ask_status, select};
use crate::engines::imap::settle::{SET_MAX, remove};
use crate::engines::imap::text::{Tone, folder_name, uid_set};
use crate::engines::imap::walk::Walk;
use crate::model::codes::Code;
use crate::model::mailbox::After;
use crate::ports::pull::PullError;
use crate::ports::store::{SourceRow, SourceState};

/// So much of a mail is compared, beside its size: its header is within, and no two mails that came by themselves have the same.
const COMPARED_BYTES: u64 = 256 * 1024;
/// Mails that are compared with one command.
const COMPARED_AT_ONCE: usize = 16;
/// Mails of the target that are compared, the newest first.
const COPIES_MAX: usize = 2 * SET_MAX;

/// Where the target's numbers stood before mails were moved there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    target: String,
    validity: Option<u32>,
    next: Option<u32>,
}

/// What a copy is recognised by.
type Likeness = (u64, [u8; 32]);

/// What is to be remembered before mails are moved; `None` unless they will be.
pub async fn mark(walk: &mut Walk) -> Result<Option<String>, PullError> {
    let After::Move(target) = &walk.settings.mailbox.after else { return Ok(None) };
    let Some(wire_name) = folder_name(target) else { return Ok(None) };
    let mut mark = Mark { target: target.clone(), validity: None, next: None };
    // Refused where the target is not there yet: then every mail in it will have come later.
    ask_status(&mut walk.conn, &wire_name, 0, &mut mark.validity, &mut mark.next).await?;
    Ok(serde_json::to_string(&mark).ok())
}

/// Takes out of the folder what the target has already. Returns the numbers that are done; `None` if that cannot be told now.
pub async fn finish(walk: &mut Walk, state: &SourceState, rows: &[SourceRow], mark: &str) -> Result<Option<Vec<u64>>, PullError> {
    let Ok(mark) = serde_json::from_str::<Mark>(mark) else { return Ok(Some(Vec::new())) };
    let Some(index) = walk.folders.iter().position(|folder| folder.name == state.folder && !folder.missing) else { return Ok(None) };
    let asked: Vec<u32> = rows.iter().filter_map(|row| u32::try_from(row.uid).ok()).collect();
    if !look_anew(walk, index, state).await? {
        return Ok(None);
    }
    let mut there = BTreeMap::new();
    for uids in asked.chunks(SET_MAX) {
        let found = fetch::look_up(&mut walk.conn, uids).await.map_err(|failed| failed.fatal("UID FETCH"))?;
        there.extend(found.into_iter().map(|meta| (meta.uid, meta.size)));
    }
    let mut done: Vec<u64> = asked.iter().filter(|uid| !there.contains_key(uid)).map(|uid| u64::from(*uid)).collect();
    if there.is_empty() {
        return Ok(Some(done));
    }
    let mut copies = match copies(walk, &mark, &there).await {
        Ok(copies) => copies,
        // A folder that takes mails and shows none: whether they came cannot be known.
        Err(Failed::Refused(refusal)) if !matches!(refusal.tone, Tone::Throttled(_) | Tone::Unavailable) => BTreeMap::new(),
        Err(failed) => return Err(failed.fatal("looking into the target folder")),
    };
    if copies.is_empty() {
        return Ok(Some(done));
    }
    if !look_anew(walk, index, state).await? {
        return Ok(None);
    }
    let alike: BTreeMap<u32, u64> = there.into_iter().filter(|(_, size)| copies.keys().any(|(of, _)| of == size)).collect();
    let likenesses = likenesses(&mut walk.conn, &alike).await.map_err(|failed| failed.fatal("UID FETCH"))?;
    let mut twice = Vec::new();
    for (uid, likeness) in likenesses {
        if let Some(left) = copies.get_mut(&likeness).filter(|left| **left > 0) {
            *left -= 1;
            twice.push(uid);
        }
    }
    for uids in twice.chunks(SET_MAX) {
        remove(&mut walk.conn, uids).await.map_err(|failed| failed.fatal("UID EXPUNGE"))?;
    }
    done.extend(twice.into_iter().map(u64::from));
    Ok(Some(done))
}

/// Opens the folder again: what is known of it is from before the other command ended. False if its numbers mean other mails now.
async fn look_anew(walk: &mut Walk, index: usize, state: &SourceState) -> Result<bool, PullError> {
    walk.selected = None;
    Ok(u64::from(walk.enter(index).await?.validity) == state.epoch_name)
}

/// What came into the target since the mark and is as large as one of `there`: how often.
async fn copies(walk: &mut Walk, mark: &Mark, there: &BTreeMap<u32, u64>) -> Result<BTreeMap<Likeness, usize>, Failed> {
    walk.selected = None;
    let view = match select(&mut walk.conn, &mark.target, true).await {
        Ok(view) => view,
        Err(PullError::Person { code: Code::NoFolder, .. }) => return Ok(BTreeMap::new()),
        Err(error) => return Err(Failed::Lost(error)),
    };
    let sizes: BTreeSet<u64> = there.values().copied().collect();
    let top = view.next.map_or(u64::from(view.highest), |next| u64::from(next.saturating_sub(1)));
    let mut from = mark.next.filter(|_| mark.validity == Some(view.validity)).map_or(1, u64::from);
    let mut found: BTreeMap<u32, u64> = BTreeMap::new();
    while from <= top && view.exists > 0 {
        let listing = fetch::list(&mut walk.conn, from, top, Ask::Sizes).await?;
        found.extend(listing.mails.iter().filter(|meta| sizes.contains(&meta.size)).map(|meta| (meta.uid, meta.size)));
        while found.len() > COPIES_MAX {
            found.pop_first();
        }
        from = listing.to.saturating_add(1);
    }
    let mut counted = BTreeMap::new();
    for likeness in likenesses(&mut walk.conn, &found).await?.into_values() {
        *counted.entry(likeness).or_default() += 1;
    }
    Ok(counted)
}

/// What mails of the selected folder are recognised by.
async fn likenesses(conn: &mut Conn, sizes: &BTreeMap<u32, u64>) -> Result<BTreeMap<u32, Likeness>, Failed> {
    let uids: Vec<u32> = sizes.keys().copied().collect();
    let mut found = BTreeMap::new();
    for some in uids.chunks(COMPARED_AT_ONCE) {
        let command = format!("UID FETCH {} (UID BODY.PEEK[]<0.{COMPARED_BYTES}>)", uid_set(some.iter().copied()));
        conn.run(&command, &mut |response| {
            if let Some((uid, Some(data))) = section_of(response)
                && let Some(size) = sizes.get(&uid)
            {
                found.insert(uid, (*size, Sha256::digest(data).into()));
            }
        })
        .await?;
    }
    Ok(found)
}
