//! The source policy, carried out after the commit: a keyword, `\Seen`, a move, or deletion when a mail is old enough.
//!
//! What must stay true: it is repeatable; it touches only the epoch it was asked for; it never sends a plain EXPUNGE, which would
//! remove what other people marked. A refusal is not the end of the session: the mails are safe with us, and taking in goes on.

use std::time::Duration;

use async_imap::imap_proto::{AttributeValue, Response};

use crate::engines::imap::conn::{Conn, Failed, Refusal};
use crate::engines::imap::fetch;
use crate::engines::imap::surroundings::exists;
use crate::engines::imap::text::{Tone, folder_name, uid_set};
use crate::engines::imap::walk::Walk;
use crate::model::codes::Code;
use crate::model::mailbox::After;
use crate::ports::pull::PullError;
use crate::ports::store::{SourceRow, SourceRowState, SourceState};

/// The keyword of policy `flag`.
pub const KEYWORD: &str = "$Ingested";
/// UIDs in one command.
pub const SET_MAX: usize = 500;
/// Longest pause between two looks for old mails; at most a part of the age itself.
const WEED_EVERY: Duration = Duration::from_secs(3600);
const WEED_AGE_PART: u32 = 24;

/// Carries out the policy; returns the numbers that are done.
pub async fn settle(walk: &mut Walk, state: &SourceState, rows: &[SourceRow]) -> Result<Vec<u64>, PullError> {
    let after = walk.settings.mailbox.after.clone();
    let wanted: Vec<u32> =
        rows.iter().filter(|row| row.state == SourceRowState::Admitted).filter_map(|row| u32::try_from(row.uid).ok()).collect();
    let Some(index) = walk.folders.iter().position(|folder| folder.name == state.folder && !folder.missing) else { return Ok(Vec::new()) };
    if wanted.is_empty() || after == After::Peek {
        return Ok(rows.iter().map(|row| row.uid).collect());
    }
    let view = walk.enter(index).await?;
    if u64::from(view.validity) != state.epoch_name {
        return Ok(Vec::new());
    }
    if let After::Delete(age) = after {
        return weed(walk, index, &wanted, age).await;
    }
    let mut done = Vec::with_capacity(rows.len());
    for uids in wanted.chunks(SET_MAX) {
        let ended = match &after {
            After::Peek | After::Delete(_) => Ok(()),
            After::Flag if !view.keywords => {
                tracing::debug!("the folder takes no keywords; mails stay unmarked");
                Ok(())
            }
            After::Flag => add_flag(&mut walk.conn, uids, KEYWORD).await,
            After::Seen => add_flag(&mut walk.conn, uids, "\\Seen").await,
            After::Move(target) => relocate(&mut walk.conn, uids, target).await,
        };
        match ended {
            Ok(()) => done.extend(uids.iter().map(|uid| u64::from(*uid))),
            Err(Failed::Refused(refusal)) => {
                refused(walk, refusal)?;
                break;
            }
            Err(Failed::Lost(error)) => return Err(error),
        }
    }
    Ok(done)
}

/// Deletes what is old enough. What is gone already is done, too.
async fn weed(walk: &mut Walk, index: usize, uids: &[u32], age: Duration) -> Result<Vec<u64>, PullError> {
    let now = walk.clock.monotonic();
    let Some(folder) = walk.folders.get(index) else { return Ok(Vec::new()) };
    if folder.weeded_at.is_some_and(|at| now.saturating_sub(at) < WEED_EVERY.min(age / WEED_AGE_PART)) {
        return Ok(Vec::new());
    }
    let born_before = walk.clock.now().0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    let mut done = Vec::new();
    for uids in uids.chunks(SET_MAX) {
        let weeded = async {
            let there = fetch::look_up(&mut walk.conn, uids).await?;
            // A mail without a date stays: nobody knows how old it is.
            let old: Vec<u32> =
                there.iter().filter(|meta| meta.date.is_some_and(|date| date.0 <= born_before)).map(|meta| meta.uid).collect();
            if !old.is_empty() {
                remove(&mut walk.conn, &old).await?;
            }
            let stays = |uid: &u32| there.iter().any(|meta| meta.uid == *uid) && !old.contains(uid);
            Ok(uids.iter().filter(|uid| !stays(uid)).map(|uid| u64::from(*uid)).collect::<Vec<_>>())
        };
        match weeded.await {
            Ok(weeded) => done.extend(weeded),
            Err(Failed::Refused(refusal)) => {
                refused(walk, refusal)?;
                break;
            }
            Err(Failed::Lost(error)) => return Err(error),
        }
    }
    if done.is_empty()
        && let Some(folder) = walk.folders.get_mut(index)
    {
        folder.weeded_at = Some(now);
    }
    Ok(done)
}

/// The mails are safe with us, whatever the server makes of the policy: a person is told. Only who asks for patience gets it.
fn refused(walk: &mut Walk, refusal: Refusal) -> Result<(), PullError> {
    if matches!(refusal.tone, Tone::Throttled(_)) && !refusal.full {
        return Err(refusal.lost("the source policy"));
    }
    tracing::warn!(error.type = %Code::Protocol, said = %refusal.text, "source policy refused");
    walk.note = Some((Code::Protocol, format!("the source policy was refused: {}", refusal.text)));
    Ok(())
}

/// Marks mails as deleted, and removes them where the server can remove only these (RFC 4315). Without that the mark stays, and the
/// owner's next expunge removes them.
pub async fn remove(conn: &mut Conn, uids: &[u32]) -> Result<(), Failed> {
    add_flag(conn, uids, "\\Deleted").await?;
    if conn.can("UIDPLUS") {
        conn.run(&format!("UID EXPUNGE {}", uid_set(uids.iter().copied())), &mut |_| {}).await?;
    }
    Ok(())
}

async fn add_flag(conn: &mut Conn, uids: &[u32], flag: &str) -> Result<(), Failed> {
    let set = uid_set(uids.iter().copied());
    conn.run(&format!("UID STORE {set} +FLAGS.SILENT ({flag})"), &mut |_| {}).await
}

async fn relocate(conn: &mut Conn, uids: &[u32], name: &str) -> Result<(), Failed> {
    // The name was checked with the settings; one that cannot be a folder moves nothing.
    let Some(target) = folder_name(name) else { return Ok(()) };
    let verb = if conn.can("MOVE") { "MOVE" } else { "COPY" };
    let left = if verb == "MOVE" { uids.to_vec() } else { not_deleted(conn, uids).await? };
    if !left.is_empty() {
        let command = format!("UID {verb} {} {target}", uid_set(left.iter().copied()));
        match conn.run(&command, &mut |_| {}).await {
            Err(Failed::Refused(refusal)) => {
                if !is_missing(conn, &refusal, name).await? {
                    return Err(Failed::Refused(refusal));
                }
                conn.run(&format!("CREATE {target}"), &mut |_| {}).await?;
                conn.run(&command, &mut |_| {}).await?;
            }
            ended => ended?,
        }
    }
    if verb == "MOVE" {
        return Ok(());
    }
    remove(conn, uids).await
}

/// Whether a move was refused because there is no such folder. Servers have many words for it; the list of folders has one.
async fn is_missing(conn: &mut Conn, refusal: &Refusal, name: &str) -> Result<bool, Failed> {
    if refusal.try_create || refusal.tone == Tone::Missing {
        return Ok(true);
    }
    if refusal.full || refusal.tone != Tone::Plain {
        return Ok(false);
    }
    match exists(conn, name).await {
        Ok(there) => Ok(!there),
        // It cannot be told: no folder is made that may be there.
        Err(Failed::Refused(_)) => Ok(false),
        Err(lost) => Err(lost),
    }
}

/// Without MOVE a crash between COPY and EXPUNGE would copy again: what is marked deleted was copied before.
async fn not_deleted(conn: &mut Conn, uids: &[u32]) -> Result<Vec<u32>, Failed> {
    let mut left = Vec::new();
    let set = uid_set(uids.iter().copied());
    conn.run(&format!("UID FETCH {set} (UID FLAGS)"), &mut |response| {
        let Response::Fetch(_, attributes) = response else { return };
        let uid = attributes.iter().find_map(|attribute| if let AttributeValue::Uid(uid) = attribute { Some(*uid) } else { None });
        let deleted = attributes.iter().any(
            |attribute| matches!(attribute, AttributeValue::Flags(flags) if flags.iter().any(|flag| flag.eq_ignore_ascii_case("\\Deleted"))),
        );
        left.extend(uid.filter(|uid| !deleted && uids.contains(uid)));
    })
    .await?;
    left.sort_unstable();
    left.dedup();
    Ok(left)
}
