//! The source policy, carried out after the commit: a keyword, `\Seen`, or a move.
//!
//! What must stay true: it is repeatable; it touches only the epoch it was asked for; it never sends a plain EXPUNGE, which would
//! remove what other people marked. A refusal is not the end of the session: the mails are safe with us, and taking in goes on.

use crate::engines::imap::After;
use crate::engines::imap::conn::{Conn, Failed};
use crate::engines::imap::text::{Tone, folder_name, uid_set};
use crate::engines::imap::walk::Walk;
use crate::model::codes::Code;
use crate::ports::pull::PullError;
use crate::ports::store::{SourceRow, SourceRowState, SourceState};
use async_imap::imap_proto::{AttributeValue, Response};

/// The keyword of policy `flag`.
pub const KEYWORD: &str = "$Ingested";
/// UIDs in one command.
const SET_MAX: usize = 500;

/// Carries out the policy; returns the numbers that are done.
pub async fn settle(walk: &mut Walk, state: &SourceState, rows: &[SourceRow]) -> Result<Vec<u64>, PullError> {
    let after = walk.settings.after.clone();
    let wanted: Vec<u32> =
        rows.iter().filter(|row| row.state == SourceRowState::Admitted).filter_map(|row| u32::try_from(row.uid).ok()).collect();
    let Some(index) = walk.folders.iter().position(|folder| folder.name == state.folder) else { return Ok(Vec::new()) };
    if wanted.is_empty() || after == After::Peek {
        return Ok(rows.iter().map(|row| row.uid).collect());
    }
    let view = walk.enter(index).await?;
    if u64::from(view.validity) != state.epoch_name {
        return Ok(Vec::new());
    }
    let mut done = Vec::with_capacity(rows.len());
    for uids in wanted.chunks(SET_MAX) {
        let ended = match &after {
            After::Peek => Ok(()),
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
            Err(Failed::Refused(refusal)) if matches!(refusal.tone, Tone::Throttled(_)) => return Err(refusal.lost("the source policy")),
            Err(Failed::Refused(refusal)) => {
                tracing::warn!(error.type = %Code::Protocol, said = %refusal.text, "source policy refused");
                break;
            }
            Err(Failed::Lost(error)) => return Err(error),
        }
    }
    Ok(done)
}

async fn add_flag(conn: &mut Conn, uids: &[u32], flag: &str) -> Result<(), Failed> {
    let set = uid_set(uids.iter().copied());
    conn.run(&format!("UID STORE {set} +FLAGS.SILENT ({flag})"), &mut |_| {}).await
}

async fn relocate(conn: &mut Conn, uids: &[u32], target: &str) -> Result<(), Failed> {
    // The name was checked with the settings; one that cannot be a folder moves nothing.
    let Some(target) = folder_name(target) else { return Ok(()) };
    let verb = if conn.can("MOVE") { "MOVE" } else { "COPY" };
    let left = if verb == "MOVE" { uids.to_vec() } else { not_deleted(conn, uids).await? };
    if !left.is_empty() {
        let command = format!("UID {verb} {} {target}", uid_set(left.iter().copied()));
        match conn.run(&command, &mut |_| {}).await {
            Err(Failed::Refused(refusal)) if refusal.try_create || refusal.tone == Tone::Missing => {
                conn.run(&format!("CREATE {target}"), &mut |_| {}).await?;
                conn.run(&command, &mut |_| {}).await?;
            }
            ended => ended?,
        }
    }
    if verb == "MOVE" {
        return Ok(());
    }
    // RFC 4315: UID EXPUNGE removes only these. Without it the mark stays, and the owner's next expunge removes them.
    add_flag(conn, uids, "\\Deleted").await?;
    if conn.can("UIDPLUS") {
        conn.run(&format!("UID EXPUNGE {}", uid_set(uids.iter().copied())), &mut |_| {}).await?;
    }
    Ok(())
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
