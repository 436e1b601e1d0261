//! A folder: what SELECT says, and where to go on from what is durable. The decision is pure.
//!
//! What must stay true: a new UIDVALIDITY voids every number we hold (RFC 3501 §2.3.1.1); the folder is then read from its first
//! mail again: what is recognised is not fetched, and the digest of the content folds the rest that was admitted before. UIDNEXT is an
//! upper bound only; it is never the cursor.
//!
//! **What is historic.** In the first epoch: everything up to the top of the first run. In a later epoch the numbers say nothing, so
//! it is the date: a mail that came in before the first run is historic, a later one is not. So a mail that arrived while the
//! folder was being renumbered is published as any other, and mails from before the first run do not flood the routes.

use async_imap::imap_proto::{AttributeValue, MailboxDatum, Response, ResponseCode, StatusAttribute};
use serde::{Deserialize, Serialize};

use crate::engines::imap::ImapSettings;
use crate::engines::imap::conn::{Conn, Failed};
use crate::engines::imap::text::{Tone, folder_name};
use crate::model::codes::Code;
use crate::model::mailbox::FirstRun;
use crate::model::time::Time;
use crate::ports::pull::PullError;
use crate::ports::store::SourceState;

/// What the server says about a selected folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct View {
    /// UIDVALIDITY.
    pub validity: u32,
    /// UIDNEXT, if the server tells it.
    pub next: Option<u32>,
    /// The highest UID there is, where UIDNEXT is not told.
    pub highest: u32,
    /// Mails in it.
    pub exists: u32,
    /// HIGHESTMODSEQ (RFC 7162): grows with every change in the folder. `None` where the server keeps none.
    pub changes: Option<u64>,
    /// New keywords may be set.
    pub keywords: bool,
}

/// What the engine keeps beside the cursor.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Memo {
    /// Time of the first run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_run_at: Option<i64>,
    /// The mail at which sessions died: its UID, and how often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspect: Option<(u64, u32)>,
    /// Numbers up to here are not ours: they were there before a first run that began with what was new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<u64>,
    /// When the numbers below the cursor were last compared with what is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surveyed_at: Option<i64>,
    /// HIGHESTMODSEQ when the numbers below the cursor were last known to be complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<u64>,
    /// Numbers up to here were there when the folder was renumbered: they are compared before they are fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roll_to: Option<u64>,
    /// A listing at which sessions died: its range, and how often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shaky: Option<(u64, u64, u32)>,
}

impl Memo {
    /// Reads a memo; what cannot be read is as good as none.
    pub fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// Writes it.
    pub fn write(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A fact to write down first.
    Note(SourceState),
    /// From the low-water mark up to this UID.
    UpTo(u64),
}

/// Decides where to go on in a folder.
pub fn judge(settings: &ImapSettings, account: &str, folder: &str, view: &View, row: Option<&SourceState>, now: Time) -> Verdict {
    let top = |low: u64| view.next.map_or(u64::from(view.highest).max(low), |next| u64::from(next.saturating_sub(1)));
    let Some(row) = row else {
        let top = top(0);
        let low_water = if settings.mailbox.first_run == FirstRun::FromNow { top } else { 0 };
        let memo =
            Memo { first_run_at: Some(now.0), floor: Some(low_water), surveyed_at: Some(now.0), changes: view.changes, ..Memo::default() };
        return Verdict::Note(SourceState {
            account: account.to_owned(),
            folder: folder.to_owned(),
            epoch: 1,
            epoch_name: u64::from(view.validity),
            low_water,
            first_run_top: top,
            memo: memo.write(),
        });
    };
    let top = top(row.low_water);
    // The field knows servers whose UIDNEXT goes backwards while UIDVALIDITY stays: the numbers are as void.
    if row.epoch_name != u64::from(view.validity) || top < row.low_water {
        let first_run_at = Memo::read(&row.memo).first_run_at;
        let top = view.next.map_or(u64::from(view.highest), |next| u64::from(next.saturating_sub(1)));
        let memo =
            Memo { first_run_at, floor: Some(0), surveyed_at: Some(now.0), roll_to: Some(top), changes: view.changes, ..Memo::default() };
        return Verdict::Note(SourceState {
            epoch: row.epoch.saturating_add(1),
            epoch_name: u64::from(view.validity),
            low_water: 0,
            first_run_top: 0,
            memo: memo.write(),
            ..row.clone()
        });
    }
    Verdict::UpTo(top)
}

/// Numbers up to here are not ours.
pub fn floor(settings: &ImapSettings, row: &SourceState, memo: &Memo) -> u64 {
    let unknown = if row.epoch <= 1 && settings.mailbox.first_run == FirstRun::FromNow { row.first_run_top } else { 0 };
    memo.floor.unwrap_or(unknown)
}

/// Whether a mail is historic.
pub fn is_historic(row: &SourceState, memo: &Memo, uid: u64, internal_date: Option<Time>) -> bool {
    if row.epoch <= 1 {
        return uid <= row.first_run_top;
    }
    matches!((internal_date, memo.first_run_at), (Some(date), Some(first)) if date.0 < first)
}

/// Selects a folder; read-only if nothing will be changed in it, unless its numbers would not last then.
pub async fn select(conn: &mut Conn, name: &str, read_only: bool) -> Result<View, PullError> {
    let Some(wire_name) = folder_name(name) else {
        return Err(PullError::Person { code: Code::NoFolder, detail: format!("{name:?} cannot be the name of a folder") });
    };
    let read_only = read_only && !conn.numbers_by_writing;
    let opened = open(conn, &wire_name, read_only).await;
    let (mut view, mut validity) = opened.map_err(|failed| unopened(name, failed))?;
    if read_only && view.next.is_none() {
        // Courier numbers new mails by the order of their files whenever it opens a folder, and writes the numbers down only if it is
        // opened for writing: read-only, a mail gets the number that another one had a moment before, under the same UIDVALIDITY.
        // Opening for writing changes nothing but who is told \Recent.
        match open(conn, &wire_name, false).await {
            Ok(opened) => {
                conn.numbers_by_writing = true;
                (view, validity) = opened;
            }
            // It may be read only. A refused SELECT leaves nothing selected (RFC 3501 §6.3.1).
            Err(Failed::Refused(_)) => {
                let opened = open(conn, &wire_name, true).await;
                (view, validity) = opened.map_err(|failed| unopened(name, failed))?;
            }
            Err(Failed::Lost(error)) => return Err(error),
        }
    }
    // The EXISTS of SELECT is what we are about to look at, no news.
    conn.ear.news = false;
    // Numbers begin at 1 and are never given twice, so that UIDNEXT is above EXISTS; a server that says otherwise does not know.
    view.next = view.next.filter(|next| *next > view.exists);
    if validity.is_none() || view.next.is_none() {
        ask_status(conn, &wire_name, view.exists, &mut validity, &mut view.next).await?;
    }
    if view.next.is_none() && view.exists > 0 {
        view.highest = ask_highest(conn).await?;
    }
    let Some(validity) = validity else {
        let detail = format!("folder {name:?}: the server has no lasting numbers (no UIDVALIDITY)");
        return Err(PullError::Person { code: Code::Protocol, detail });
    };
    Ok(View { validity, ..view })
}

/// Opens a folder: what the server says of it, and its UIDVALIDITY if it has one.
async fn open(conn: &mut Conn, wire_name: &str, read_only: bool) -> Result<(View, Option<u32>), Failed> {
    let command = format!("{} {wire_name}", if read_only { "EXAMINE" } else { "SELECT" });
    let (mut view, mut validity) = (View::default(), None);
    conn.run(&command, &mut |response| match response {
        Response::MailboxData(MailboxDatum::Exists(count)) => view.exists = *count,
        Response::Data { outcome, .. } => match &outcome.code {
            Some(ResponseCode::UidValidity(value)) => validity = Some(*value),
            Some(ResponseCode::UidNext(value)) => view.next = Some(*value),
            // Not asked for: Dovecot would begin to count for our sake, and write that down in a folder that we only look at.
            Some(ResponseCode::HighestModSeq(value)) => view.changes = Some(*value),
            Some(ResponseCode::PermanentFlags(flags)) => view.keywords = flags.iter().any(|flag| flag.as_ref() == "\\*"),
            _ => {}
        },
        _ => {}
    })
    .await?;
    Ok((view, validity))
}

/// Why a folder was not opened, and who can help.
fn unopened(name: &str, failed: Failed) -> PullError {
    match failed {
        Failed::Refused(refusal) if matches!(refusal.tone, Tone::Throttled(_) | Tone::Unavailable) => {
            refusal.lost(&format!("opening folder {name:?}"))
        }
        Failed::Refused(refusal) => PullError::Person { code: Code::NoFolder, detail: format!("folder {name:?}: {}", refusal.text) },
        Failed::Lost(error) => error,
    }
}

/// Courier and others leave UIDNEXT out of SELECT.
pub async fn ask_status(
    conn: &mut Conn,
    wire_name: &str,
    exists: u32,
    validity: &mut Option<u32>,
    next: &mut Option<u32>,
) -> Result<(), PullError> {
    let asked = conn
        .run(&format!("STATUS {wire_name} (UIDVALIDITY UIDNEXT)"), &mut |response| {
            if let Response::MailboxData(MailboxDatum::Status { status, .. }) = response {
                for attribute in status {
                    match attribute {
                        StatusAttribute::UidValidity(value) => *validity = validity.or(Some(*value)),
                        StatusAttribute::UidNext(value) => *next = next.or(Some(*value)).filter(|next| *next > exists),
                        _ => {}
                    }
                }
            }
        })
        .await;
    match asked {
        // RFC 3501 §6.3.10 lets a server refuse STATUS on the selected folder.
        Ok(()) | Err(Failed::Refused(_)) => Ok(()),
        Err(Failed::Lost(error)) => Err(error),
    }
}

async fn ask_highest(conn: &mut Conn) -> Result<u32, PullError> {
    let mut highest = 0;
    let mut see = |response: &Response<'_>| {
        if let Response::Fetch(_, attributes) = response {
            for attribute in attributes {
                if let AttributeValue::Uid(uid) = attribute {
                    highest = highest.max(*uid);
                }
            }
        }
    };
    conn.run("UID FETCH *:* (UID)", &mut see).await.map_err(|failed| failed.fatal("UID FETCH *:*"))?;
    Ok(highest)
}
