//! Pull: an engine for a source that we ask. The pipeline owns loops, pace, backoff, cursors and shutdown; the engine answers
//! one question at a time.

use std::time::Duration;

use bytes::Bytes;

use crate::model::codes::Code;
use crate::model::raw::RawHead;
use crate::model::time::Time;
use crate::ports::BoxFuture;
use crate::ports::blobs::Incoming;
use crate::ports::store::{SourceRow, SourceState};

/// Why pulling failed. Each variant is another decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PullError {
    /// The connection or the server failed; connect again with backoff.
    #[error("{detail}")]
    Lost {
        /// `unreachable`, `tls`, `connection_lost`, `protocol`, `throttled`.
        code: Code,
        /// One line: what and which, no secrets, no content.
        detail: String,
        /// The server asked for at least this much patience.
        after: Option<Duration>,
    },
    /// A person must act: wrong password, no such folder. Tried again at a slow pace.
    #[error("{detail}")]
    Person {
        /// `auth_failed`, `no_folder`, `tls`, `protocol` (a server that cannot be used as configured).
        code: Code,
        /// One line.
        detail: String,
    },
}

impl PullError {
    /// Trouble of the moment, of which nobody said how long it lasts.
    pub fn lost(code: Code, detail: String) -> Self {
        Self::Lost { code, detail, after: None }
    }

    /// The code of whichever it is.
    pub fn code(&self) -> Code {
        match self {
            Self::Lost { code, .. } | Self::Person { code, .. } => *code,
        }
    }
}

/// A body that is too large to be held in memory.
pub struct Spooled {
    /// How large it is.
    pub bytes: u64,
    /// Where it is.
    pub incoming: Box<dyn Incoming>,
}

impl std::fmt::Debug for Spooled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spooled").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// A part of what all sources may hold in memory at once; given back when it is dropped.
pub type Share = Box<dyn std::any::Any + Send + Sync>;

/// One thing pulled.
#[derive(Debug)]
pub struct Pulled {
    /// Its number in the source (the UID).
    pub uid: u64,
    /// What came beside the body.
    pub head: RawHead,
    /// The bytes; a part or none of them if `state` says so, none if they are spooled.
    pub body: Bytes,
    /// The bytes of a large one.
    pub spooled: Option<Spooled>,
    /// When the source received it.
    pub internal_date: Option<Time>,
    /// What it is recognised by under another number ([`SourceRow::print`]).
    pub print: Option<u64>,
    /// What it is.
    pub state: PulledState,
}

/// What a pulled thing is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PulledState {
    /// Whole.
    Whole,
    /// Only its header: it is larger than the hard limit. Quarantined with `mail_too_large`.
    HeaderOnly {
        /// Its size as the server says.
        bytes: u64,
    },
    /// The server fails whenever it is asked for. Quarantined with `mail_unfetchable`, with whatever part could be had.
    Unfetchable {
        /// What the server said, redacted.
        detail: String,
    },
    /// It was there and is no longer: nothing to admit, its number is proven gone.
    Gone,
}

/// A batch from one folder. Its things cover a range: every number of the source in `from..=to` is among them, was known
/// before, or is proven absent, so the low-water mark may move to `to` in the commit that admits them. A range below the mark holds
/// what was overlooked, and moves nothing.
#[derive(Debug)]
pub struct PulledBatch {
    /// The folder.
    pub folder: String,
    /// The folder's epoch (grows with every UIDVALIDITY change).
    pub epoch: u64,
    /// Epoch name at the source (UIDVALIDITY).
    pub epoch_name: u64,
    /// First number of the range.
    pub from: u64,
    /// Last number of the range.
    pub to: u64,
    /// What was pulled, by number ascending.
    pub things: Vec<Pulled>,
    /// They came in through a backfill or a gap before the first run.
    pub historic: bool,
    /// Held as long as their bytes are.
    pub share: Option<Share>,
}

/// The numbers that are there in a range, to be compared with the rows that are known. The engine goes on when it is told which
/// of them are wanted ([`Pull::wanted`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roll {
    /// The folder.
    pub folder: String,
    /// Its epoch.
    pub epoch: u64,
    /// First number of the range.
    pub from: u64,
    /// Last number of the range.
    pub to: u64,
    /// What is there: number, and what it is recognised by, ascending.
    pub there: Vec<(u64, Option<u64>)>,
    /// Why it is read.
    pub reason: RollReason,
}

/// Why a roll is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollReason {
    /// The range lies below the cursor: what has no row was overlooked.
    Gaps,
    /// The folder was renumbered: what is recognised by its print is not fetched again.
    Renumbered,
}

/// What the engine found.
#[derive(Debug)]
pub enum PullNews {
    /// Things to admit.
    Batch(PulledBatch),
    /// Numbers to compare with what is known.
    Roll(Roll),
    /// Something a person should hear of that does not keep the rest from going on (a folder that is missing).
    Note {
        /// What.
        code: Code,
        /// One line.
        detail: String,
    },
    /// A fact about a folder to write down (first run: where "now" is; a new epoch). Committed before the next question.
    State(SourceState),
    /// Nothing more at the moment.
    Quiet,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// The source says there is news.
    News,
    /// The time is over.
    Timeout,
}

/// One account of a pulled channel: a connected, logged-in session.
pub trait Pull: Send {
    /// The next batch, from any folder, continuing from `state` (one entry a folder; what the store holds now, or will hold
    /// once the batch that was answered last is committed). A batch may be empty: its range is proven absent. When a session
    /// dies on a thing, `next` answers what was complete, then a `State` that remembers the death, then the error.
    fn next<'a>(&'a mut self, state: &'a [SourceState]) -> BoxFuture<'a, Result<PullNews, PullError>>;

    /// Which numbers of the last [`Roll`] of a folder are to be fetched.
    fn wanted(&mut self, folder: &str, uids: Vec<u64>);

    /// Waits until the source has news, at most `at_most` (IDLE; engines without push sleep). The engine may end the wait sooner,
    /// with `Timeout`; `next` looks again after either. Cancel-safe: dropping the future
    /// ends the session.
    fn wait(&mut self, at_most: Duration) -> BoxFuture<'_, Result<Woken, PullError>>;

    /// Carries out the source policy (flag, seen, move) on admitted rows of the folder and epoch that `state` names. Repeatable.
    /// Returns the numbers that are done; none if the source has another epoch by now, because the numbers then mean other things.
    fn settle<'a>(&'a mut self, state: &'a SourceState, rows: &'a [SourceRow]) -> BoxFuture<'a, Result<Vec<u64>, PullError>>;

    /// What is to be written down before `settle`, where doing it twice shows at the source (a move). `None`: it may be repeated.
    fn mark(&mut self) -> BoxFuture<'_, Result<Option<String>, PullError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Finds out what became of rows that `settle` was asked for and gave no answer, and finishes what was half done. `mark` is what was
    /// written down before. Returns the numbers that are done; `None` if that cannot be told now.
    fn finish<'a>(
        &'a mut self,
        state: &'a SourceState,
        rows: &'a [SourceRow],
        mark: &'a str,
    ) -> BoxFuture<'a, Result<Option<Vec<u64>>, PullError>> {
        let _ = (state, rows, mark);
        Box::pin(std::future::ready(Ok(Some(Vec::new()))))
    }

    /// Asks once more for a thing that the source did not give before. `None`: it does not give it now, either.
    fn again<'a>(&'a mut self, state: &'a SourceState, uid: u64) -> BoxFuture<'a, Result<Option<PulledBatch>, PullError>> {
        let _ = (state, uid);
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Ends the session politely, within a short bound.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// Makes sessions of one channel.
pub trait PullSource: Send + Sync {
    /// Identifies the account at the platform (`imap:host:user`): cursors belong to it, not to the file's name (design §6).
    fn account(&self) -> String;

    /// The server that the account is at: few log in at one server at once.
    fn server(&self) -> String {
        self.account()
    }

    /// Bytes that may be fetched a day; a provider may lock accounts that fetch more.
    fn day_bytes_max(&self) -> Option<u64> {
        None
    }

    /// Whether there is anything to do after a commit (policy other than `peek`).
    fn settles(&self) -> bool;

    /// Connects and logs in.
    fn open(&self) -> BoxFuture<'_, Result<Box<dyn Pull>, PullError>>;

    /// Looks at the source for `check --connect`: lines for a person.
    fn probe(&self) -> BoxFuture<'_, Result<Vec<String>, PullError>>;
}
