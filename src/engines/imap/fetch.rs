//! Questions about mails of the selected folder: listings, bodies, headers.
//!
//! What must stay true: a number that was asked for is answered with a body, is proven gone, or is named as the one that failed; a
//! response without UID or body (someone else's flag change) is never taken for an answer; `BODY[] NIL` is gone, not an empty mail.

use std::collections::{BTreeMap, BTreeSet};

use async_imap::imap_proto::{AttributeValue, RequestId, Response};
use bytes::{Bytes, BytesMut};
use tokio::sync::Semaphore;

use crate::engines::imap::conn::{Conn, Failed};
use crate::engines::imap::large::Large;
use crate::engines::imap::print;
use crate::engines::imap::text::{internal_date, uid_set};
use crate::model::time::Time;
use crate::ports::pull::Share;

/// A listing never holds more mails than this; the rest of its range is listed later.
pub const LISTED_MAX: usize = 20_000;
/// Header bytes that are kept of a mail that is not fetched whole.
const HEADER_BYTES_MAX: u64 = 256 * 1024;
/// Text bytes that are tried of a mail that cannot be fetched whole.
const TEXT_BYTES_MAX: u64 = 64 * 1024;
/// KiB of mails that are held in memory at once, over all mailboxes, from their fetch to their commit: what is more waits. Large mails
/// are not among them: they are spooled.
const HELD_KIB_MAX: u32 = 48 * 1024;
static HELD_KIB: Semaphore = Semaphore::const_new(HELD_KIB_MAX as usize);

/// What a listing says about a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Its UID.
    pub uid: u32,
    /// RFC822.SIZE.
    pub size: u64,
    /// INTERNALDATE.
    pub date: Option<Time>,
    /// What it is recognised by, if the listing told it.
    pub print: Option<u64>,
}

/// What a listing asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Only the numbers: a server that cannot read a mail may die of its size.
    Numbers,
    /// Numbers, sizes and dates, and the lasting id where the server has one.
    Sizes,
    /// The same, and the Message-ID where there is no lasting id.
    Prints,
}

/// The mails that are there in a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// By UID ascending.
    pub mails: Vec<Meta>,
    /// Everything up to here is listed.
    pub to: u64,
}

/// The answer to a question for bodies.
#[derive(Debug, Default)]
pub struct Bodies {
    /// By UID.
    pub come: BTreeMap<u32, Bytes>,
    /// Proven gone.
    pub gone: BTreeSet<u32>,
    /// The one that was asked for, if it is large.
    pub large: Option<Large>,
    /// More of the large one came than was there before, though not all of it.
    pub went_on: bool,
    /// Why the rest did not come.
    pub failed: Option<Failed>,
}

/// Waits for a share of the memory that mails may take.
pub async fn share(mails: &[Meta]) -> Option<Share> {
    let bytes = mails.iter().map(|meta| meta.size).sum::<u64>();
    let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).clamp(1, HELD_KIB_MAX);
    HELD_KIB.acquire_many(kib).await.ok().map(|permit| Box::new(permit) as Share)
}

/// What to ask for in a listing.
fn items(conn: &Conn, ask: Ask) -> &'static str {
    // RFC 8474; Gmail has had its own for longer.
    match (ask, conn.can("OBJECTID"), conn.can("X-GM-EXT-1")) {
        (Ask::Numbers, _, _) => "(UID)",
        (_, true, _) => "(UID RFC822.SIZE INTERNALDATE EMAILID)",
        (_, false, true) => "(UID RFC822.SIZE INTERNALDATE X-GM-MSGID)",
        (Ask::Sizes, false, false) => "(UID RFC822.SIZE INTERNALDATE)",
        (Ask::Prints, false, false) => "(UID RFC822.SIZE INTERNALDATE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])",
    }
}

/// Sizes and dates of single mails, by number.
pub async fn look_up(conn: &mut Conn, uids: &[u32]) -> Result<Vec<Meta>, Failed> {
    let mut found: BTreeMap<u32, Meta> = BTreeMap::new();
    let command = format!("UID FETCH {} {}", uid_set(uids.iter().copied()), items(conn, Ask::Sizes));
    conn.run(&command, &mut |response| {
        found.extend(meta_of(response).filter(|meta| uids.contains(&meta.uid)).map(|meta| (meta.uid, meta)));
    })
    .await?;
    Ok(found.into_values().collect())
}

/// Lists a range.
pub async fn list(conn: &mut Conn, from: u64, to: u64, ask: Ask) -> Result<Listing, Failed> {
    let items = items(conn, ask).to_owned();
    list_of(conn, from, to, &items).await
}

/// The numbers of a range whose mails are new or changed since `changes` (RFC 7162 §3.1.4.1).
pub async fn changed(conn: &mut Conn, from: u64, to: u64, changes: u64) -> Result<Listing, Failed> {
    list_of(conn, from, to, &format!("(UID) (CHANGEDSINCE {changes})")).await
}

async fn list_of(conn: &mut Conn, from: u64, to: u64, items: &str) -> Result<Listing, Failed> {
    let mut found: BTreeMap<u32, Meta> = BTreeMap::new();
    let mut listed_to = to;
    conn.run(&format!("UID FETCH {from}:{to} {items}"), &mut |response| {
        let Some(meta) = meta_of(response) else { return };
        if !(from..=listed_to).contains(&u64::from(meta.uid)) {
            return;
        }
        found.insert(meta.uid, meta);
        if found.len() > LISTED_MAX
            && let Some((highest, _)) = found.pop_last()
        {
            listed_to = u64::from(highest).saturating_sub(1);
        }
    })
    .await?;
    Ok(Listing { mails: found.into_values().collect(), to: listed_to })
}

/// Size and date of one mail; `None` if it is gone.
pub async fn look_at(conn: &mut Conn, uid: u32) -> Result<Option<Meta>, Failed> {
    let mut found = None;
    let command = format!("UID FETCH {uid} {}", items(conn, Ask::Sizes));
    conn.run(&command, &mut |response| {
        found = meta_of(response).filter(|meta| meta.uid == uid).or(found);
    })
    .await?;
    Ok(found)
}

/// Fetches whole mails. What came before a failure is kept.
pub async fn bodies(conn: &mut Conn, asked: &[Meta]) -> Bodies {
    match begin_bodies(conn, asked).await {
        Ok(tag) => {
            let mut answer = end_bodies(conn, &tag, asked, &BTreeSet::new(), &mut BTreeMap::new()).await;
            prove_gone(conn, asked, &mut answer).await;
            answer
        }
        Err(failed) => Bodies { failed: Some(failed), ..Bodies::default() },
    }
}

/// Asks for whole mails; the answer is read by [`end_bodies`].
pub async fn begin_bodies(conn: &mut Conn, asked: &[Meta]) -> Result<RequestId, Failed> {
    conn.begin(&format!("UID FETCH {} (UID BODY.PEEK[])", uid_set(asked.iter().map(|meta| meta.uid)))).await
}

/// Reads the mails that were asked for. A server that works on several questions at once mixes their answers: what belongs to `later`
/// ones is kept in `early`.
pub async fn end_bodies(
    conn: &mut Conn,
    tag: &RequestId,
    asked: &[Meta],
    later: &BTreeSet<u32>,
    early: &mut BTreeMap<u32, Bytes>,
) -> Bodies {
    let mut answer = Bodies::default();
    let wanted: BTreeMap<u32, u64> = asked.iter().map(|meta| (meta.uid, meta.size)).collect();
    let come = &mut answer.come;
    come.extend(wanted.keys().filter_map(|uid| early.remove_entry(uid)));
    let ended = conn
        .end(tag, &mut |response| {
            // Without data (`NIL`) a mail has not come; whether it is gone is to be proven.
            let Some((uid, Some(data))) = section_of(response) else { return };
            // An empty answer for a mail that has bytes is what some servers say when they cannot read it just now.
            if data.is_empty() && wanted.get(&uid).is_none_or(|size| *size > 0) {
                return;
            }
            let place = if wanted.contains_key(&uid) { &mut *come } else { &mut *early };
            if (wanted.contains_key(&uid) || later.contains(&uid)) && !place.contains_key(&uid) {
                // The one copy of the body: out of the parser's buffer.
                place.insert(uid, Bytes::copy_from_slice(data));
            }
        })
        .await;
    answer.failed = ended.err();
    answer
}

/// What was asked and did not come after a good end is gone, if the server no longer lists it.
pub async fn prove_gone(conn: &mut Conn, asked: &[Meta], answer: &mut Bodies) {
    let missing: BTreeSet<u32> = asked.iter().map(|meta| meta.uid).filter(|uid| !answer.come.contains_key(uid)).collect();
    if missing.is_empty() || answer.failed.is_some() {
        return;
    }
    let mut there = BTreeSet::new();
    let asked = async {
        // EXPUNGE may not be told during a FETCH (RFC 3501 §7.4.1): NOOP lets the server do it now.
        conn.run("NOOP", &mut |_| {}).await?;
        let set = uid_set(missing.iter().copied());
        conn.run(&format!("UID FETCH {set} (UID)"), &mut |response| there.extend(meta_of(response).map(|meta| meta.uid))).await
    };
    match asked.await {
        Ok(()) => answer.gone = missing.difference(&there).copied().collect(),
        Err(failed) => answer.failed = Some(failed),
    }
}

/// The header of a mail, and with `text` the begin of its text: what can be had of one that is not fetched whole.
pub async fn part(conn: &mut Conn, uid: u32, text: bool) -> (Bytes, Result<(), Failed>) {
    let mut found = BytesMut::new();
    let sections = [format!("HEADER]<0.{HEADER_BYTES_MAX}>"), format!("TEXT]<0.{TEXT_BYTES_MAX}>")];
    for section in sections.iter().take(if text { 2 } else { 1 }) {
        let ended = conn
            .run(&format!("UID FETCH {uid} (UID BODY.PEEK[{section})"), &mut |response| {
                if let Some((theirs, Some(data))) = section_of(response)
                    && theirs == uid
                {
                    found.extend_from_slice(data);
                }
            })
            .await;
        if let Err(failed) = ended {
            return (found.freeze(), Err(failed));
        }
    }
    (found.freeze(), Ok(()))
}

/// Whether the server can still give the first byte of another mail: it is not the server, then, but the mail.
pub async fn can_read(conn: &mut Conn, uid: u32) -> Result<bool, Failed> {
    let mut read = false;
    conn.run(&format!("UID FETCH {uid} (UID BODY.PEEK[]<0.1>)"), &mut |response| {
        read |= matches!(section_of(response), Some((theirs, Some(_))) if theirs == uid);
    })
    .await?;
    Ok(read)
}

fn meta_of(response: &Response<'_>) -> Option<Meta> {
    let Response::Fetch(_, attributes) = response else { return None };
    let (mut uid, mut size, mut date, mut id, mut header) = (None, 0, None, None, None);
    for attribute in attributes {
        match attribute {
            AttributeValue::Uid(value) => uid = Some(*value),
            AttributeValue::Rfc822Size(value) => size = u64::from(*value),
            AttributeValue::InternalDate(text) => date = internal_date(text),
            AttributeValue::EmailId(value) => id = Some(print::of_email_id(value)),
            AttributeValue::GmailMsgId(value) => id = Some(print::of_gmail_id(*value)),
            AttributeValue::BodySection { data: Some(data), .. } => header = Some(data),
            _ => {}
        }
    }
    let print = id.or_else(|| print::of_header(header?, size, date));
    Some(Meta { uid: uid?, size, date, print })
}

/// UID and content of a response that has both; the content is `None` for `NIL`.
pub fn section_of<'r>(response: &'r Response<'_>) -> Option<(u32, Option<&'r [u8]>)> {
    let Response::Fetch(_, attributes) = response else { return None };
    let (mut uid, mut section) = (None, None);
    for attribute in attributes {
        match attribute {
            AttributeValue::Uid(value) => uid = Some(*value),
            AttributeValue::BodySection { data, .. } => section = Some(data.as_deref()),
            _ => {}
        }
    }
    Some((uid?, section?))
}
