//! Pull: the loop around a source that we ask.
//!
//! Owns what every pulled channel needs: connect with backoff, ask for batches, stage, parse on the readers, admit in one
//! transaction with the cursor, settle at the source, wait for news, stop. While one batch is being fetched, the one before is parsed
//! and the one before that is committed.
//!
//! **Crash attribution.** A row names the batch that is being parsed; the commit that admits the batch removes it, and the end of
//! the parsing empties it. A row with numbers that is there at start was interrupted, perhaps by one of its mails: its numbers are
//! parsed again in halves, each with a row of its own, until a single one that was interrupted often enough is quarantined unread.
//!
//! A walk through it: `pipeline::sessions` runs sessions and tells of trouble, `ask` is one session, `admit`
//! takes a batch to its commit, `segments` cuts it where crashes are suspected, `roll` compares numbers with rows,
//! `settle` tells the source, `again` comes back to what was not given.

mod admit;
mod again;
mod ask;
mod roll;
mod segments;
mod settle;

use std::sync::Arc;

use crate::model::codes::Code;
use crate::model::dns::Answers;
use crate::model::item::Item;
use crate::model::raw::{Raw, Via};
use crate::pipeline::board::{Board, ChannelMode};
use crate::pipeline::lookups::Lookups;
use crate::pipeline::loops::LoopGuard;
use crate::pipeline::parse::Readers;
use crate::pipeline::sessions::pace::{Gate, Pulse};
use crate::pipeline::sessions::{Sessions, Stop};
use crate::pipeline::writer::WriterHandle;
use crate::ports::blobs::Blobs;
use crate::ports::clock::{Clock, Random};
use crate::ports::pull::PullSource;
use crate::ports::store::Store;

/// Reads a pulled raw: the connector's parser with the channel's facts. Runs on a reader thread.
pub trait ReadPulled: Send + Sync {
    /// The names of the DNS that have to be looked up before it is read.
    fn asks(&self, _: &Raw) -> Vec<String> {
        Vec::new()
    }

    /// What the raw says. `answers`: what the DNS said, on a channel that asks.
    fn read(&self, raw: &Raw, historic: bool, answers: Option<&Answers>) -> Vec<Item>;

    /// What a raw says that is not in memory: it has no body, its bytes come from `pieces`.
    ///
    /// # Errors
    /// One line, if they cannot be had just now.
    fn read_large(&self, raw: &Raw, historic: bool, answers: Option<&Answers>, pieces: Pieces) -> Result<Vec<Item>, String>;

    /// The item for a raw that is not read.
    fn unread(&self, code: Code, detail: String) -> Item;
}

/// Gives the bytes of a raw from an offset: as many as it likes, none at the end.
pub type Pieces<'a> = &'a mut dyn FnMut(u64) -> Result<bytes::Bytes, String>;

/// What the loop of one channel needs.
pub struct PullChannel {
    /// The channel.
    pub id: String,
    /// Makes sessions.
    pub source: Arc<dyn PullSource>,
    /// Reads raws.
    pub reader: Arc<dyn ReadPulled>,
    /// The connector and labels, for operator events.
    pub public: crate::model::event::Channel,
    /// Where raws and cursors are.
    pub store: Arc<dyn Store>,
    /// Where large raws are.
    pub blobs: Arc<dyn Blobs>,
    /// Admits.
    pub writer: WriterHandle,
    /// Reader threads.
    pub readers: Arc<Readers>,
    /// Asks the DNS; `None` unless the channel checks senders by itself.
    pub lookups: Option<Arc<Lookups>>,
    /// Slows down what goes round.
    pub loops: Arc<LoopGuard>,
    /// Lets few log in at once.
    pub gate: Arc<Gate>,
    /// Tells the surfaces.
    pub board: Arc<Board>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Jitter and ids.
    pub random: Arc<dyn Random>,
    /// Ids of raws.
    pub ids: Arc<crate::logic::ids::IdMaker>,
    /// Fencing token of the lease `pull`.
    pub lease_epoch: u64,
    /// Counts.
    pub metrics: Arc<crate::telemetry::metrics::Metrics>,
}

impl PullChannel {
    /// Runs until `stop` turns true.
    pub async fn run(self: Arc<Self>, stop: Stop) {
        let pulse = Arc::new(Pulse::default());
        let session = |stop: Stop| self.clone().session(pulse.clone(), stop);
        self.sessions(&pulse).run(stop, session).await;
    }

    fn sessions<'a>(&'a self, pulse: &'a Pulse) -> Sessions<'a> {
        Sessions {
            id: &self.id,
            road: Via::Imap,
            public: &self.public,
            board: &self.board,
            clock: &*self.clock,
            random: &*self.random,
            writer: &self.writer,
            metrics: &self.metrics,
            pulse,
        }
    }

    /// More that is new came out of a renumbered folder than can be explained: a person should look. What is new is held meanwhile.
    async fn flooded(&self) {
        let detail =
            "a renumbered folder brings many mails that were never seen: is it another mailbox? They are held for a day".to_owned();
        tracing::error!(messaging.destination.name = %self.id, error.type = %Code::Flood, "flood held");
        // The pulse is not asked for a turn.
        self.sessions(&Pulse::default()).turn(ChannelMode::Degraded, Some(Code::Flood), Some(detail), 0).await;
    }
}

/// Memo that holds the oldest date a backfill takes in, RFC 3339.
pub fn backfill_key(account: &str) -> String {
    format!("{account}/backfill_since")
}
