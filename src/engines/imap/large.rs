//! Large mails: fetched in chunks that go straight into the spool, so that what they take of memory does not depend on their size.
//!
//! What must stay true: a mail is whole when the server has nothing behind what came, and nearly as much came as it said; a server
//! that answers questions for parts wrongly is asked for the whole mail, once; a spool that takes nothing is no mail's fault. What came
//! before a connection was cut is kept for the next session of this process, one mail an account: it goes on there, if the server still
//! has the mail under the same number with the same size.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_imap::imap_proto::{AttributeValue, Response};
use bytes::{Bytes, BytesMut};
use tokio::sync::Semaphore;

use crate::engines::imap::conn::{Conn, Failed};
use crate::engines::imap::fetch::{Bodies, Meta, begin_bodies, end_bodies, prove_gone, section_of};
use crate::engines::imap::text::Tone;
use crate::model::codes::Code;
use crate::ports::blobs::{BlobError, Blobs, Incoming};
use crate::ports::pull::{PullError, Spooled};

/// Mails over this are large: the parser below holds a whole response, so that a mail would be in memory twice.
pub const WHOLE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// One chunk.
const CHUNK_BYTES: u64 = 512 * 1024;
/// Chunks asked for in one round trip: with the distance to another continent still 13 MB/s.
const CHUNKS_AHEAD: u64 = 4;
/// Large mails that are fetched at once, over all mailboxes; each takes a few chunks of memory.
const FETCHED_AT_ONCE: usize = 8;
static TURNS: Semaphore = Semaphore::const_new(FETCHED_AT_ONCE);
/// MiB of mails that have to be fetched whole in spite of their size, over all mailboxes.
const WHOLE_MIB_MAX: u32 = 64;
static WHOLE_MIB: Semaphore = Semaphore::const_new(WHOLE_MIB_MAX as usize);

/// A large mail that came.
#[derive(Debug)]
pub struct Large {
    /// Its first bytes.
    pub begin: Bytes,
    /// All of them, if there is a spool; else they are the first.
    pub spooled: Option<Spooled>,
}

/// Which mail it is: folder, UIDVALIDITY, UID and size.
pub type Place = (String, u64, u32, u64);

/// The begin of a mail whose rest was cut off, for the next session of the account.
#[derive(Default)]
pub struct Shelf(Mutex<Option<(Place, Coming)>>);

impl Shelf {
    /// Takes what is there; it is dropped if it is of another mail.
    fn take(&self, place: &Place) -> Option<Coming> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        held.and_then(|(theirs, coming)| (theirs == *place).then_some(coming))
    }

    fn put(&self, place: Place, coming: Coming) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((place, coming));
    }

    /// Nothing is waiting to go on.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Where large mails go.
#[derive(Clone, Default)]
pub struct Spool {
    /// Without it they are held in memory.
    pub blobs: Option<Arc<dyn Blobs>>,
    /// What was cut off.
    pub shelf: Arc<Shelf>,
}

/// Where the bytes go.
enum Sink {
    Spool(Box<dyn Incoming>),
    Memory,
}

/// What comes in.
pub struct Coming {
    sink: Sink,
    begin: BytesMut,
    bytes: u64,
}

/// How asking for chunks ended.
enum Ended {
    Whole,
    /// Nothing came, though nothing was refused.
    Nothing,
    /// The server cannot answer such questions, or answers them wrongly.
    Unable,
    Failed(Failed),
}

/// Fetches one large mail of a folder with this UIDVALIDITY.
pub async fn fetch(conn: &mut Conn, spool: &Spool, (folder, validity): (&str, u64), meta: Meta) -> Bodies {
    let mut answer = Bodies::default();
    // Never closed.
    let Ok(_turn) = TURNS.acquire().await else { return answer };
    let place = (folder.to_owned(), validity, meta.uid, meta.size);
    let fetched = async {
        let mut coming = match spool.shelf.take(&place) {
            Some(coming) => coming,
            None => Coming::begin(spool.blobs.as_ref()).await?,
        };
        let begun_at = coming.bytes;
        if begun_at > 0 {
            tracing::debug!(bytes = begun_at, of = meta.size, "a large mail goes on where it was cut");
        }
        match in_chunks(conn, &mut coming, meta).await {
            Ended::Whole => answer.large = Some(coming.end()),
            Ended::Failed(failed) => {
                // What is not kept begins anew: that is no progress, however much of it came.
                if coming.may_wait(&failed) {
                    answer.went_on = coming.bytes > begun_at;
                    spool.shelf.put(place, coming);
                }
                return Err(failed);
            }
            Ended::Nothing | Ended::Unable => {
                drop(coming);
                whole(conn, spool.blobs.as_ref(), meta, &mut answer).await?;
            }
        }
        Ok(())
    };
    if let Err(failed) = fetched.await {
        answer.failed = Some(failed);
    }
    answer
}

async fn in_chunks(conn: &mut Conn, coming: &mut Coming, meta: Meta) -> Ended {
    let begun_at = coming.bytes;
    // The first question shows whether the server can: one that cannot may answer each with the whole mail.
    let mut count = 1;
    // Sizes are estimates with some servers. Twice of one is more than an estimate.
    while coming.bytes <= meta.size.saturating_mul(2) {
        let start = coming.bytes;
        let (mut chunks, failed) = match ask(conn, meta.uid, start, count).await {
            Ok(answered) => answered,
            Err(ended) => return ended,
        };
        let mut short = false;
        while !short && let Some(chunk) = chunks.remove(&coming.bytes) {
            if chunk.is_empty() {
                return if is_about(coming.bytes, meta.size) { Ended::Whole } else { Ended::Unable };
            }
            // Shorter than asked for: the end, or a server that gives less at once. What is behind it is asked for.
            short = (chunk.len() as u64) < CHUNK_BYTES;
            if let Err(failed) = coming.add(chunk.into()).await {
                return Ended::Failed(failed);
            }
        }
        if short && coming.bytes == meta.size {
            return Ended::Whole;
        }
        if let Some(failed) = failed {
            return Ended::Failed(failed);
        }
        if coming.bytes == start {
            return if start == begun_at { Ended::Nothing } else { Ended::Unable };
        }
        count = meta.size.saturating_sub(coming.bytes).div_ceil(CHUNK_BYTES).clamp(1, CHUNKS_AHEAD);
    }
    Ended::Unable
}

/// Chunks by their place, and why no more of them came.
type Answered = (BTreeMap<u64, Vec<u8>>, Option<Failed>);

/// Asks for `count` chunks from `start` on. What came before a failure is kept.
async fn ask(conn: &mut Conn, uid: u32, start: u64, count: u64) -> Result<Answered, Ended> {
    let place = |number: u64| start + number * CHUNK_BYTES;
    let commands: Vec<_> = (0..count).map(|number| format!("UID FETCH {uid} (UID BODY.PEEK[]<{}.{CHUNK_BYTES}>)", place(number))).collect();
    let (mut chunks, mut wrong) = (BTreeMap::new(), false);
    let ended = conn
        .run_all(&commands, &mut |response| {
            let Some((theirs, Some(data))) = section_of(response) else { return };
            if theirs != uid {
                return;
            }
            match offset_of(response) {
                Some(offset) if (0..count).any(|number| place(number) == offset) && data.len() as u64 <= CHUNK_BYTES => {
                    chunks.entry(offset).or_insert_with(|| data.to_vec());
                }
                _ => wrong = true,
            }
        })
        .await;
    match ended {
        // An answer that is none to that question.
        Ok(()) if wrong => Err(Ended::Unable),
        Ok(()) => Ok((chunks, None)),
        Err(Failed::Refused(refusal)) if !matches!(refusal.tone, Tone::Throttled(_) | Tone::Unavailable) => Err(Ended::Unable),
        Err(failed) if wrong => Err(Ended::Failed(failed)),
        Err(failed) => Ok((chunks, Some(failed))),
    }
}

/// Whether a mail that ended here may be all of one that was said to be so large: line ends may have been counted otherwise.
fn is_about(bytes: u64, said: u64) -> bool {
    bytes >= said.saturating_sub(said / 10)
}

/// Fetches it as any other mail. It is in memory twice meanwhile, and waits until that much may be.
async fn whole(conn: &mut Conn, spool: Option<&Arc<dyn Blobs>>, meta: Meta, answer: &mut Bodies) -> Result<(), Failed> {
    let mib = u32::try_from(meta.size >> 19).unwrap_or(WHOLE_MIB_MAX).clamp(1, WHOLE_MIB_MAX);
    let Ok(_share) = WHOLE_MIB.acquire_many(mib).await else { return Ok(()) };
    tracing::debug!(bytes = meta.size, "a large mail is fetched whole");
    let tag = begin_bodies(conn, &[meta]).await?;
    *answer = end_bodies(conn, &tag, &[meta], &std::collections::BTreeSet::new(), &mut BTreeMap::new()).await;
    prove_gone(conn, &[meta], answer).await;
    let Some(body) = answer.come.remove(&meta.uid) else { return Ok(()) };
    let mut coming = Coming::begin(spool).await?;
    let step = usize::try_from(CHUNK_BYTES).unwrap_or(usize::MAX);
    for start in (0..body.len()).step_by(step) {
        coming.add(body.slice(start..body.len().min(start.saturating_add(step)))).await?;
    }
    answer.large = Some(coming.end());
    Ok(())
}

impl Coming {
    async fn begin(spool: Option<&Arc<dyn Blobs>>) -> Result<Self, Failed> {
        let sink = match spool {
            Some(spool) => Sink::Spool(spool.spool().await.map_err(|error| stuck(&error))?),
            None => Sink::Memory,
        };
        Ok(Self { sink, begin: BytesMut::new(), bytes: 0 })
    }

    async fn add(&mut self, piece: Bytes) -> Result<(), Failed> {
        if self.bytes == 0 || matches!(self.sink, Sink::Memory) {
            self.begin.extend_from_slice(&piece);
        }
        self.bytes += piece.len() as u64;
        match &mut self.sink {
            Sink::Spool(incoming) => incoming.write(piece).await.map_err(|error| stuck(&error)),
            Sink::Memory => Ok(()),
        }
    }

    /// Whether it is worth keeping until the next session: it is not in memory, and it was not the spool that failed.
    fn may_wait(&self, failed: &Failed) -> bool {
        let full = matches!(failed, Failed::Lost(error) if matches!(error.code(), Code::DiskFull | Code::StoreUnavailable));
        self.bytes > 0 && !full && matches!(self.sink, Sink::Spool(_))
    }

    fn end(self) -> Large {
        let spooled = match self.sink {
            Sink::Spool(incoming) => Some(Spooled { bytes: self.bytes, incoming }),
            Sink::Memory => None,
        };
        Large { begin: self.begin.freeze(), spooled }
    }
}

/// The spool takes nothing: the session ends, and no mail is to blame.
fn stuck(error: &BlobError) -> Failed {
    let code = if matches!(error, BlobError::Full) { Code::DiskFull } else { Code::StoreUnavailable };
    Failed::Lost(PullError::Lost { code, detail: format!("a large mail cannot be spooled: {error}"), after: None })
}

/// Where a part of a mail begins.
fn offset_of(response: &Response<'_>) -> Option<u64> {
    let Response::Fetch(_, attributes) = response else { return None };
    attributes.iter().find_map(|attribute| match attribute {
        AttributeValue::BodySection { index, .. } => index.map(u64::from),
        _ => None,
    })
}
