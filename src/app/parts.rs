//! Parts: what lives as long as the daemon — store, writer, intake, readers — and what they tell each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::app::alone;
use crate::app::feeds::World;
use crate::app::files::Files;
use crate::app::gateway::{StartError, start_error};
use crate::app::outward;
use crate::app::resolver::SystemDns;
use crate::app::system::{SystemClock, SystemRandom};
use crate::app::tokens::{LazyHttp, SealedKeep, Tokens};
use crate::config::key::InstanceKey;
use crate::config::settings::{Config, Durability};
use crate::connector::mail::{self, MailContext};
use crate::http::client::HttpClient;
use crate::logic::digest::{Digester, Purpose, Subkey};
use crate::logic::ids::IdMaker;
use crate::logic::publish::SwapRoutes;
use crate::logic::seal::Sealer;
use crate::model::codes::Code;
use crate::model::dns::Answers;
use crate::model::item::Item;
use crate::model::raw::Raw;
use crate::model::time::Time;
use crate::pipeline::board::Board;
use crate::pipeline::deliver::DeliverHandle;
use crate::pipeline::intake::{HookIntake, IntakeParts};
use crate::pipeline::keep::Releases;
use crate::pipeline::lookups::Lookups;
use crate::pipeline::media::Bells;
use crate::pipeline::parse::Readers;
use crate::pipeline::pull::{Pieces, ReadPulled};
use crate::pipeline::writer::{self, CommitWatch, WriterHandle, WriterLimits, WriterTasks};
use crate::ports::blobs::Blobs;
use crate::ports::clock::{Clock, Random};
use crate::ports::http::Http;
use crate::ports::store::{DELIVER_LEASE, Store};
use crate::stores::folder::FolderBlobs;
use crate::stores::sqlite::{self, SqliteStore};
use crate::telemetry::metrics::Metrics;

/// Threads that parse mails: parsing is a third of a core at most beside TLS and the store, and there may be only two.
const READER_THREADS: usize = 2;

/// Everything that lives as long as the daemon.
pub struct Parts {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Ids.
    pub ids: Arc<IdMaker>,
    /// The durable state.
    pub store: Arc<dyn Store>,
    /// Large raws and files.
    pub blobs: Arc<dyn Blobs>,
    /// The write side.
    pub writer: WriterHandle,
    /// Reads attachments.
    pub files: Files,
    /// States of channels.
    pub board: Arc<Board>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Digests.
    pub digester: Digester,
    /// Hooks.
    pub intake: Arc<HookIntake>,
    /// Routes.
    pub routes: Arc<SwapRoutes>,
    /// Parses mails.
    pub readers: Arc<Readers>,
    /// Asks the DNS; made when the first channel needs it.
    pub lookups: OnceLock<Option<Arc<Lookups>>>,
    /// Lets few mailboxes log in at one server at once.
    pub gate: Arc<crate::pipeline::sessions::pace::Gate>,
    /// Sources of tokens.
    pub tokens: Arc<Tokens>,
    /// The instance key.
    pub key: InstanceKey,
    /// When it started.
    pub started_at: Time,
    /// Fencing token of the lease `deliver`.
    pub deliver_epoch: u64,
    /// Wakes destinations.
    pub lanes: Arc<Lanes>,
    /// Wakes channels that have files to fetch.
    pub bells: Arc<Bells>,
    /// Calls platforms; made when the first channel needs it.
    pub http: Arc<LazyHttp>,
}

impl Parts {
    /// Calls platforms. Reading the system's certificates takes tens of milliseconds, so it is made for the first channel that needs it.
    ///
    /// # Errors
    /// One line, if it cannot be made.
    pub fn http(&self) -> Result<Arc<dyn Http>, String> {
        Ok(Arc::new(self.client()?))
    }

    /// The same, for streams, which need more of it than requests.
    ///
    /// # Errors
    /// One line, if it cannot be made.
    pub fn client(&self) -> Result<HttpClient, String> {
        self.http.client()
    }
}

/// The handles of all destinations that run, by name. Written by start and reload, read at every commit.
#[derive(Default)]
pub struct Lanes {
    handles: Mutex<HashMap<String, DeliverHandle>>,
}

impl Lanes {
    /// The handle of a destination.
    pub fn handle(&self, name: &str) -> Option<DeliverHandle> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// A destination runs.
    pub fn put(&self, name: &str, handle: DeliverHandle) {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), handle);
    }

    /// A destination no longer runs.
    pub fn take(&self, name: &str) -> Option<DeliverHandle> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).remove(name)
    }

    /// All of them.
    pub fn all(&self) -> Vec<(String, DeliverHandle)> {
        let handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.iter().map(|(name, handle)| (name.clone(), handle.clone())).collect()
    }

    /// Names of the destinations that run.
    pub fn names(&self) -> Vec<String> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}

/// What the writer tells: destinations wake, pending items get a timer, commits are counted.
struct Watch {
    lanes: Arc<Lanes>,
    releases: Arc<Releases>,
    bells: Arc<Bells>,
    metrics: Arc<Metrics>,
}

impl CommitWatch for Watch {
    fn woken(&self, destinations: &[Arc<str>]) {
        let handles = self.lanes.handles.lock().unwrap_or_else(PoisonError::into_inner);
        for name in destinations {
            if let Some(handle) = handles.get(&**name) {
                handle.wake();
            }
        }
    }

    fn pending(&self, items: &[(i64, Time)]) {
        self.releases.note(items);
    }

    fn media(&self, channels: &[String]) {
        channels.iter().for_each(|channel| self.bells.ring(channel));
    }

    fn committed(&self, writes: usize, seconds: f64) {
        self.metrics.committed(writes, Duration::from_secs_f64(seconds));
    }

    fn failed(&self, code: Code) {
        self.metrics.commit_failed(code);
    }
}

/// Opens the store and starts the writer.
///
/// # Errors
/// [`StartError`]: what could not be opened.
pub async fn open(config: &Config, key: InstanceKey) -> Result<(Parts, WriterTasks, Arc<Releases>), StartError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let random: Arc<dyn Random> = Arc::new(SystemRandom::default());
    let metrics = Metrics::new();
    crate::telemetry::redact::set_pii_key(Subkey::derive(key.current(), Purpose::Pii));
    let routes = Arc::new(SwapRoutes::new(outward::routes(config, key.current()).map_err(StartError)?));
    let durable = config.store.durability == Durability::Power;
    let options = sqlite::Options {
        folder: config.instance.data_dir.clone(),
        durability: if durable { sqlite::Durability::Power } else { sqlite::Durability::Process },
        publisher: routes.clone(),
        clock: clock.clone(),
        random: random.clone(),
    };
    let opened = tokio::task::spawn_blocking(move || alone::patiently(alone::PATIENCE, || SqliteStore::open(options.clone()))).await;
    let store = opened.map_err(|error| start_error("store", error))?.map_err(|error| start_error("store", error))?;
    let store: Arc<dyn Store> = Arc::new(store);
    let blobs = FolderBlobs::open(&config.instance.data_dir.join("blobs"), durable).map_err(|error| start_error("blobs", error))?;
    // The store is open: no other process works in this folder.
    blobs.clean_spool().map_err(|error| start_error("blobs", error))?;
    let blobs: Arc<dyn Blobs> = Arc::new(blobs);
    let deliver_epoch = store.take_lease(DELIVER_LEASE, &config.instance.name).await.map_err(|error| start_error("store", error))?;
    let (lanes, releases, bells) = (Arc::new(Lanes::default()), Arc::new(Releases::default()), Arc::new(Bells::default()));
    let watch = Watch { lanes: lanes.clone(), releases: releases.clone(), bells: bells.clone(), metrics: metrics.clone() };
    let limits = WriterLimits {
        queue_items_max: config.store.queue_items_max,
        queue_bytes_max: config.store.queue_bytes_max,
        commit_items_max: config.store.commit_items_max,
    };
    let (writer, writer_tasks) = writer::start(store.clone(), limits, Arc::new(watch));
    let (ids, board) = (Arc::new(IdMaker::default()), Arc::new(Board::default()));
    let intake = HookIntake::new(IntakeParts {
        writer: writer.clone(),
        blobs: blobs.clone(),
        ids: ids.clone(),
        clock: clock.clone(),
        random: random.clone(),
        board: board.clone(),
        metrics: metrics.clone(),
    });
    let readers = Readers::start(READER_THREADS, mail::PARSE_STACK_BYTES).map_err(|error| start_error("reader threads", error))?;
    let digester = Digester::new(key.current());
    let keep = SealedKeep { store: store.clone(), writer: Some(writer.clone()), sealer: Sealer::new(key.all()), random: random.clone() };
    let http = Arc::new(LazyHttp::default());
    let tokens = Tokens::new(Arc::new(keep), digester.clone(), http.clone(), clock.clone(), random.clone());
    let parts = Parts {
        files: Files { store: store.clone(), blobs: blobs.clone() },
        digester,
        tokens: Arc::new(tokens),
        intake: Arc::new(intake),
        readers: Arc::new(readers),
        lookups: OnceLock::new(),
        gate: Arc::default(),
        started_at: clock.now(),
        clock,
        random,
        ids,
        store,
        blobs,
        writer,
        board,
        metrics,
        routes,
        key,
        deliver_epoch,
        lanes,
        bells,
        http,
    };
    Ok((parts, writer_tasks, releases))
}

impl Parts {
    /// The DNS. `None`: the system names no resolvers; then no sender is checked, and no mail waits.
    pub fn lookups(&self, config: &Config) -> Option<Arc<Lookups>> {
        let make = || match SystemDns::new(&config.dns.resolvers, config.dns.timeout) {
            Ok(dns) => Some(Arc::new(Lookups::new(Arc::new(dns), self.clock.clone(), config.dns.timeout))),
            Err(error) => {
                tracing::warn!(error = %error, "no resolver, senders cannot be checked");
                None
            }
        };
        self.lookups.get_or_init(make).clone()
    }
}

impl Parts {
    /// What the sources of polls and streams need.
    ///
    /// # Errors
    /// One line, if the HTTP client cannot be made.
    pub fn world(&self) -> Result<World, String> {
        Ok(World { http: self.client()?, clock: self.clock.clone(), random: self.random.clone(), metrics: self.metrics.clone() })
    }
}

/// Reads mails with one channel's facts.
pub struct MailReader {
    /// The channel's facts and limits.
    pub context: MailContext,
}

impl ReadPulled for MailReader {
    fn asks(&self, raw: &Raw) -> Vec<String> {
        mail::asks(raw, &self.context)
    }

    fn read(&self, raw: &Raw, historic: bool, answers: Option<&Answers>) -> Vec<Item> {
        if historic == self.context.historic {
            return vec![mail::read_with(raw, &self.context, answers)];
        }
        vec![mail::read_with(raw, &MailContext { historic, ..self.context.clone() }, answers)]
    }

    fn read_large(&self, raw: &Raw, historic: bool, answers: Option<&Answers>, pieces: Pieces) -> Result<Vec<Item>, String> {
        let item = mail::large::read(raw, &MailContext { historic, ..self.context.clone() }, answers, pieces)?;
        Ok(vec![item])
    }

    fn unread(&self, code: Code, detail: String) -> Item {
        mail::quarantined(&self.context.channel, code, detail)
    }
}
