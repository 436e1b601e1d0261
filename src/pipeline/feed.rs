//! Feed: the loop around a source of payloads: polls and streams.
//!
//! One session: connect from the durable cursors, then ask for news until it fails or the daemon stops. A batch is read by the
//! connector's map, held to the channel's limits, and admitted in one transaction with the cursors it moves; only then is the
//! source asked again, so what it acknowledges is durable (I2). A crash in between asks for the same batch again, and the item keys
//! decide what is known.

use std::sync::Arc;
use std::time::Duration;

use crate::connector::reader::{Read, ReadContext, Reader};
use crate::logic::ids::IdMaker;
use crate::model::codes::Code;
use crate::model::event::Channel;
use crate::model::id::RawId;
use crate::model::raw::{Raw, Via};
use crate::model::time::Time;
use crate::pipeline::board::Board;
use crate::pipeline::enrich::Enricher;
use crate::pipeline::limits::{self, Limits, Waiting};
use crate::pipeline::parse::Readers;
use crate::pipeline::raws::{self, blob_failed};
use crate::pipeline::sessions::pace::{Gate, Pulse};
use crate::pipeline::sessions::{Ended, Sessions, Stop, stopped};
use crate::pipeline::writer::{AdmitError, WriterHandle};
use crate::ports::blobs::Blobs;
use crate::ports::clock::{Clock, Random};
use crate::ports::feed::{Feed, FeedBatch, FeedNews, FeedSource, Payload};
use crate::ports::store::{Admission, CursorCommit, Moved, Store};
use crate::telemetry::metrics::Metrics;

/// Larger payloads are read on a reader thread: a page of a megabyte would keep one of the runtime's for tens of milliseconds.
const INLINE_BYTES_MAX: usize = 64 * 1024;
/// Longest reading of one payload.
const READ_TIME_MAX: Duration = Duration::from_secs(120);
/// Resting as told is working: a source that is asked every six hours is not stale.
const REST_BEAT: Duration = Duration::from_secs(300);

/// What the loop of one channel needs.
pub struct FeedChannel {
    /// The channel.
    pub id: String,
    /// `poll` or `stream`.
    pub via: Via,
    /// Makes sessions.
    pub source: Arc<dyn FeedSource>,
    /// Reads payloads.
    pub reader: Arc<Reader>,
    /// The channel's limits, shared with its other roads.
    pub limits: Arc<Limits>,
    /// The connector and labels, for operator events.
    pub public: Channel,
    /// Where raws and cursors are.
    pub store: Arc<dyn Store>,
    /// Where large raws are.
    pub blobs: Arc<dyn Blobs>,
    /// Admits.
    pub writer: WriterHandle,
    /// Reader threads.
    pub readers: Arc<Readers>,
    /// Lets few connect at once.
    pub gate: Arc<Gate>,
    /// Tells the surfaces.
    pub board: Arc<Board>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Jitter and ids.
    pub random: Arc<dyn Random>,
    /// Ids of raws.
    pub ids: Arc<IdMaker>,
    /// Fencing token of the lease `pull` of the source's account.
    pub lease_epoch: u64,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Asks for the names of senders.
    pub enricher: Option<Arc<Enricher>>,
}

/// A payload, read.
struct Prepared {
    payload: Payload,
    read: Read,
    received_at: Time,
}

/// Pause between two looks whether it is known who we are.
const OWN_LOOK: Duration = Duration::from_millis(200);

impl FeedChannel {
    /// Runs until `stop` turns true.
    pub async fn run(self: Arc<Self>, stop: tokio::sync::watch::Receiver<bool>) {
        let mut stopping = stop.clone();
        while !self.reader.own().is_known() {
            tokio::select! {
                () = self.clock.sleep(OWN_LOOK) => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
        }
        let pulse = Arc::new(Pulse::default());
        let session = |stop: Stop| self.clone().session(pulse.clone(), stop);
        self.sessions(&pulse).run(stop, session).await;
    }

    fn sessions<'a>(&'a self, pulse: &'a Pulse) -> Sessions<'a> {
        Sessions {
            id: &self.id,
            road: self.via,
            public: &self.public,
            board: &self.board,
            clock: &*self.clock,
            random: &*self.random,
            writer: &self.writer,
            metrics: &self.metrics,
            pulse,
        }
    }

    async fn session(self: Arc<Self>, pulse: Arc<Pulse>, mut stop: Stop) -> Ended {
        let open = async {
            let _turn = self.gate.pass(&self.source.server()).await;
            let cursors = self.store.cursors(&self.source.account()).await?;
            self.source.open(cursors).await.map_err(Ended::from)
        };
        let opened = tokio::select! {
            opened = open => opened,
            () = stopped(&mut stop) => return Ended::Stopped,
        };
        let mut feed = match opened {
            Ok(feed) => feed,
            Err(ended) => return ended,
        };
        tracing::info!(messaging.destination.name = %self.id, road = self.via.as_str(), "session opened");
        match self.ask(&mut *feed, &pulse, &mut stop).await {
            Ok(()) => {
                feed.close().await;
                Ended::Stopped
            }
            Err(ended) => ended,
        }
    }

    async fn ask(&self, feed: &mut dyn Feed, pulse: &Pulse, stop: &mut Stop) -> Result<(), Ended> {
        while !*stop.borrow() {
            let news = tokio::select! {
                news = feed.next() => news?,
                // What was being fetched is fetched again after the next start.
                () = stopped(stop) => break,
            };
            self.sessions(pulse).alive().await;
            match news {
                FeedNews::Batch(batch) => {
                    if !batch.payloads.is_empty() || !batch.cursors.is_empty() {
                        self.take(batch, pulse, stop).await?;
                    }
                }
                FeedNews::Quiet(span) => self.rest(span, pulse, stop).await,
                FeedNews::Note { code, detail } => {
                    tracing::warn!(messaging.destination.name = %self.id, error.type = %code, detail = %detail, "part of a channel does not work");
                    self.board.note(&self.id, code, detail);
                }
                FeedNews::Mended => self.board.mended(&self.id),
            }
        }
        Ok(())
    }

    async fn rest(&self, span: Duration, pulse: &Pulse, stop: &mut Stop) {
        let mut left = span;
        while !left.is_zero() && !*stop.borrow() {
            let slice = left.min(REST_BEAT);
            tokio::select! {
                () = self.clock.sleep(slice) => {}
                () = stopped(stop) => return,
            }
            left = left.saturating_sub(slice);
            self.sessions(pulse).alive().await;
        }
    }

    /// Takes a batch to its commit. Until it is staged it may be given up.
    async fn take(&self, batch: FeedBatch, pulse: &Pulse, stop: &mut Stop) -> Result<(), Ended> {
        let FeedBatch { payloads, cursors } = batch;
        let now = self.clock.now();
        if !payloads.is_empty() {
            pulse.bring();
            self.board.heard(&self.id, now);
            self.metrics.heard(&self.id, now);
            self.metrics.pulled(&self.id, payloads.len());
        }
        let prepared = tokio::select! {
            prepared = self.prepare(payloads) => prepared,
            () = stopped(stop) => return Err(Ended::Stopped),
        };
        let (mut staged, mut admissions) = (Vec::new(), Vec::new());
        for Prepared { payload, read, received_at } in prepared {
            for (key, bytes) in read.blobs {
                self.blobs.put(&key, bytes).await.map_err(|error| Ended::Store(AdmitError::Store(blob_failed(&error))))?;
            }
            let id = RawId(self.ids.next(received_at.0, &*self.random));
            let (source, head, body) = (self.id.clone(), payload.head, payload.body);
            let raw = Raw { id, source, via: payload.via, received_at, head, body };
            let raw = Arc::new(raws::keep(raw, &*self.blobs).await?);
            staged.push(raw.clone());
            // No delivery key: a page is no delivery of the platform's, and the same things come on another page too.
            admissions.push(Admission { raw, delivery_key: None, items: read.items });
        }
        if !staged.is_empty() {
            self.store.stage(staged, None).await?;
        }
        let moved = CursorCommit { account: self.source.account(), cursors, lease_epoch: self.lease_epoch };
        let started = self.clock.monotonic();
        self.writer.admit_staged(admissions, Some(Moved::Cursors(moved))).await?;
        self.metrics.published(self.clock.monotonic().saturating_sub(started));
        Ok(())
    }

    /// Reads the payloads in order and waits as long as the channel's limits say.
    async fn prepare(&self, payloads: Vec<Payload>) -> Vec<Prepared> {
        let mut prepared = Vec::with_capacity(payloads.len());
        for payload in payloads {
            let received_at = self.clock.now();
            let mut read = self.read(&payload, received_at).await;
            if let Some(enricher) = &self.enricher {
                enricher.fill(&mut read.items).await;
            }
            let waiting = Waiting { clock: &*self.clock, metrics: &self.metrics, deadline: None };
            let limits_of = |channel: &str| (channel == self.id).then_some(&*self.limits);
            // Without a deadline it always ends well.
            let _ = limits::pace(&mut read.items, limits_of, received_at, waiting).await;
            prepared.push(Prepared { payload, read, received_at });
        }
        prepared
    }

    async fn read(&self, payload: &Payload, received_at: Time) -> Read {
        let started = self.clock.monotonic();
        let context = ReadContext { received_at, historic: payload.historic };
        let read = if payload.body.len() <= INLINE_BYTES_MAX {
            self.reader.read(payload.via, &payload.head, &payload.body, &context)
        } else {
            let (reader, payload) = (self.reader.clone(), payload.clone());
            let job = move || reader.read(payload.via, &payload.head, &payload.body, &context);
            let done = self.readers.run(READ_TIME_MAX, job).await;
            done.unwrap_or_else(|_| self.reader.unread(Code::MappingFailed, "reading it failed or took too long".to_owned()))
        };
        self.metrics.normalized(&self.public.connector, self.clock.monotonic().saturating_sub(started));
        read
    }
}
