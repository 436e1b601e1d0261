//! The running gateway: what start makes, reload exchanges and stop ends.
//!
//! Order of start: store, writer, hooks, listeners' ports (bound first, so that a busy port fails before anything is changed), pulled
//! channels, destinations, housekeeping. Order of stop: no new requests, no new batches, what is in flight is admitted, what is being
//! sent is decided, the store is closed (design §10, graceful stop).

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::app::files::Files;
use crate::app::outward;
use crate::app::system::{SystemClock, SystemRandom};
use crate::app::wire::{self, Channels, Connectors, Failed, MailChannel};
use crate::config::key::InstanceKey;
use crate::config::load::Loaded;
use crate::config::settings::{Config, Durability};
use crate::connector::mail::{self, MailContext, MailLimits};
use crate::engines::imap::ImapSource;
use crate::logic::digest::{Digester, Purpose, Subkey};
use crate::logic::file_url::FileUrlVerifier;
use crate::logic::ids::IdMaker;
use crate::logic::publish::SwapRoutes;
use crate::model::codes::Code;
use crate::model::item::Item;
use crate::model::raw::Raw;
use crate::model::time::Time;
use crate::pipeline::board::{Board, ChannelMode};
use crate::pipeline::deliver::{DeliverHandle, DeliverOptions, DeliverPorts, DeliverTask, Ended};
use crate::pipeline::intake::{HookIntake, IntakeParts};
use crate::pipeline::keep::{Keep, Releases};
use crate::pipeline::parse::Readers;
use crate::pipeline::pull::{PullChannel, ReadPulled};
use crate::pipeline::writer::{self, CommitWatch, WriterHandle, WriterLimits, WriterTasks};
use crate::ports::blobs::Blobs;
use crate::ports::clock::{Clock, Random};
use crate::ports::control::{ChannelStatus, Control};
use crate::ports::destination::FileReader;
use crate::ports::pull::PullSource;
use crate::ports::store::{DELIVER_LEASE, Store, Write};
use crate::server::private::{PrivateListener, PrivateOptions};
use crate::server::public::{PublicListener, PublicOptions};
use crate::stores::folder::FolderBlobs;
use crate::stores::sqlite::{self, SqliteStore};
use crate::telemetry::metrics::Metrics;

/// Threads that parse mails: parsing is a third of a core at most beside TLS and the store, and there may be only two.
const READER_THREADS: usize = 2;
/// How long the writer may take to empty its queue at stop, as a share of the whole bound.
const DRAIN_SHARE: u32 = 2;

/// Why the gateway did not start. One line or rendered problems for a person.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);

fn start_error(what: &str, error: impl std::fmt::Display) -> StartError {
    StartError(format!("{what}: {error}"))
}

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
    /// The instance key.
    pub key: InstanceKey,
    /// When it started.
    pub started_at: Time,
    /// Fencing token of the lease `deliver`.
    pub deliver_epoch: u64,
    /// Wakes destinations.
    pub lanes: Arc<Lanes>,
}

/// Tasks that a reload may exchange.
#[derive(Default)]
pub struct Running {
    /// What the files say.
    pub loaded: Option<Loaded>,
    /// Pulled channels.
    pub pulls: HashMap<String, Pulling>,
    /// Destinations.
    pub destinations: HashMap<String, JoinHandle<Ended>>,
}

/// One pulled channel that runs.
pub struct Pulling {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
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

    fn put(&self, name: &str, handle: DeliverHandle) {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), handle);
    }

    fn take(&self, name: &str) -> Option<DeliverHandle> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).remove(name)
    }

    /// All of them.
    pub fn all(&self) -> Vec<(String, DeliverHandle)> {
        let handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.iter().map(|(name, handle)| (name.clone(), handle.clone())).collect()
    }

    fn names(&self) -> Vec<String> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}

/// What the writer tells: destinations wake, pending items get a timer, commits are counted.
struct Watch {
    lanes: Arc<Lanes>,
    releases: Arc<Releases>,
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

    fn committed(&self, writes: usize, seconds: f64) {
        self.metrics.committed(writes, Duration::from_secs_f64(seconds));
    }

    fn failed(&self, code: Code) {
        self.metrics.commit_failed(code);
    }
}

/// The gateway, started.
pub struct Gateway {
    /// What lives as long as the daemon.
    pub parts: Arc<Parts>,
    /// What a reload may exchange.
    pub running: tokio::sync::Mutex<Running>,
    /// The main file, to read it again.
    pub config_file: PathBuf,
    /// Where the listeners are.
    pub public: std::net::SocketAddr,
    /// Where the listeners are.
    pub private: std::net::SocketAddr,
    stop: watch::Sender<bool>,
    stop_timeout: Duration,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    writer_tasks: Mutex<Option<WriterTasks>>,
    keep: Mutex<Option<JoinHandle<()>>>,
}

impl Gateway {
    /// Starts everything the files say.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub async fn start(loaded: Loaded, key: InstanceKey, admin_token: SecretString) -> Result<Arc<Self>, StartError> {
        let config = loaded.config.clone();
        let public = bind(config.server.public, "public").await?;
        let private = bind(config.server.private, "private").await?;
        let (parts, writer_tasks, releases) = parts(&config, key).await?;
        let parts = Arc::new(parts);
        let (stop, stopping) = watch::channel(false);
        let keep = Keep {
            store: parts.store.clone(),
            blobs: parts.blobs.clone(),
            writer: parts.writer.clone(),
            clock: parts.clock.clone(),
            retention: config.store.retention.clone(),
            free_min_bytes: config.store.free_min,
            releases,
            metrics: parts.metrics.clone(),
        };
        let gateway = Arc::new(Self {
            running: tokio::sync::Mutex::new(Running::default()),
            config_file: config.file.clone(),
            public: public.local_addr().map_err(|error| start_error("public listener", error))?,
            private: private.local_addr().map_err(|error| start_error("private listener", error))?,
            stop,
            stop_timeout: config.server.stop_timeout,
            tasks: Mutex::new(Vec::new()),
            writer_tasks: Mutex::new(Some(writer_tasks)),
            keep: Mutex::new(Some(tokio::spawn(keep.run()))),
            parts,
        });
        gateway.apply(loaded).await?;
        gateway.listen(public, private, &config, admin_token, stopping);
        Ok(gateway)
    }

    fn listen(
        self: &Arc<Self>,
        public: TcpListener,
        private: TcpListener,
        config: &Config,
        admin_token: SecretString,
        stopping: watch::Receiver<bool>,
    ) {
        let control: Arc<dyn Control> = self.clone();
        let trusted = config.server.trusted_proxies.clone();
        let files = config.files.public_url.as_ref().map(|_| FileUrlVerifier::new(self.parts.key.all()));
        let public_side = PublicListener {
            intake: self.parts.intake.clone(),
            control: control.clone(),
            files,
            clock: self.parts.clock.clone(),
            metrics: self.parts.metrics.clone(),
            options: PublicOptions {
                request_timeout: config.server.request_timeout,
                connections_max: config.server.connections_max,
                stop_timeout: config.server.stop_timeout / DRAIN_SHARE,
                trusted_proxy: Arc::new(move |peer| trusted.iter().any(|network| network.contains(peer))),
            },
        };
        let private_side = PrivateListener {
            store: self.parts.store.clone(),
            control,
            metrics: self.parts.metrics.clone(),
            token: admin_token,
            options: PrivateOptions { connections_max: config.server.connections_max, stop_timeout: Duration::from_secs(2) },
        };
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.push(tokio::spawn(public_side.serve(public, stopping.clone())));
        tasks.push(tokio::spawn(private_side.serve(private, stopping)));
    }

    /// Makes what runs equal to what the files say. What did not change keeps running.
    ///
    /// # Errors
    /// [`StartError`] if the main file's routes or destinations cannot be used: nothing is changed then.
    pub async fn apply(&self, loaded: Loaded) -> Result<(), StartError> {
        let mut running = self.running.lock().await;
        let config = loaded.config.clone();
        let routes = outward::routes(&config, self.parts.key.current()).map_err(StartError)?;
        let mut ready = Vec::new();
        let files: Arc<dyn FileReader> = Arc::new(self.parts.files.clone());
        for (name, settings) in &config.destinations {
            let known = running.loaded.as_ref().and_then(|old| old.config.destinations.get(name));
            let same_delivery = running.loaded.as_ref().is_some_and(|old| old.config.delivery == config.delivery);
            if same_delivery && known.is_some_and(|known| known.fingerprint == settings.fingerprint) {
                continue;
            }
            let destination = outward::destination(settings, &config, &files, &self.parts.clock)
                .map_err(|error| start_error(&format!("destination {name}"), error))?;
            ready.push((settings.clone(), destination));
        }
        // From here on nothing fails: first who takes events, then who routes them there, then who makes them.
        let gone: Vec<String> = self.parts.lanes.names().into_iter().filter(|name| !config.destinations.contains_key(name)).collect();
        for (settings, destination) in ready {
            self.stop_destination(&mut running, &settings.name).await;
            self.start_destination(&mut running, &config, &settings, destination);
        }
        self.parts.routes.replace(routes);
        for name in gone {
            self.stop_destination(&mut running, &name).await;
            self.parts.metrics.forget_destination(&name);
        }
        self.apply_channels(&mut running, &loaded).await;
        running.loaded = Some(loaded);
        Ok(())
    }

    fn start_destination(
        &self,
        running: &mut Running,
        config: &Config,
        settings: &crate::config::settings::DestinationSettings,
        destination: Arc<dyn crate::ports::destination::Destination>,
    ) {
        let options = DeliverOptions {
            name: settings.name.clone(),
            concurrency: settings.concurrency,
            rate: settings.rate.and_then(|rate| crate::pipeline::limits::Rate::new(f64::from(rate.count), rate.per, rate.count)),
            policy: wire::policy(config, settings),
            stop_within: self.stop_timeout / DRAIN_SHARE,
            lease_epoch: self.parts.deliver_epoch,
        };
        let ports = DeliverPorts {
            store: self.parts.store.clone(),
            destination,
            decide: Arc::new(self.parts.writer.clone()),
            clock: self.parts.clock.clone(),
            random: self.parts.random.clone(),
            metrics: self.parts.metrics.clone(),
        };
        let (task, handle) = DeliverTask::new(ports, options);
        self.parts.lanes.put(&settings.name, handle);
        running.destinations.insert(settings.name.clone(), tokio::spawn(task.run()));
    }

    async fn stop_destination(&self, running: &mut Running, name: &str) {
        if let Some(handle) = self.parts.lanes.take(name) {
            handle.stop();
        }
        if let Some(task) = running.destinations.remove(name) {
            let _ = task.await;
        }
    }

    async fn apply_channels(&self, running: &mut Running, loaded: &Loaded) {
        let mut connectors = Connectors::new(&loaded.config);
        let built = wire::channels(loaded, &mut connectors, &self.parts.digester, &self.parts.clock);
        let now = self.parts.clock.now();
        let before = self.parts.board.read();
        for id in before.keys().filter(|id| !loaded.channels.contains_key(*id)) {
            self.parts.board.remove(id);
            self.parts.metrics.forget_channel(id);
        }
        let Channels { hooks, behind, mail, failed, disabled } = built;
        for (hook, files) in &behind {
            for file in files {
                let known = before.get(&file.id).filter(|known| known.state == ChannelMode::Running.as_str());
                let status = known.cloned().unwrap_or_else(|| status(&file.connector, ChannelMode::Running, now));
                self.parts.board.place(&file.id, ChannelStatus { hook: Some(format!("/hooks/{hook}")), ..status });
            }
        }
        self.parts.intake.serve(hooks);
        for file in disabled {
            self.parts.board.place(&file.id, status(&file.connector, ChannelMode::Disabled, now));
        }
        for failed in failed {
            self.fail(failed, now).await;
        }
        self.apply_mail(running, loaded, mail, now).await;
    }

    async fn fail(&self, failed: Failed, now: Time) {
        tracing::error!(messaging.destination.name = %failed.id, error.type = %failed.code, detail = %failed.detail, "channel failed");
        self.parts.board.place(&failed.id, status(&failed.connector, ChannelMode::Connecting, now));
        self.parts.board.turn(&failed.id, ChannelMode::Failed, Some(failed.code), Some(failed.detail), now);
        let channel = crate::model::event::Channel { id: failed.id, connector: failed.connector, labels: BTreeMap::new() };
        let state =
            crate::model::event::ChannelState { channel, code: failed.code.as_str().to_owned(), since: now, counts: BTreeMap::new() };
        let body = crate::model::event::Body::ChannelDegraded(Box::new(state));
        if let Err(error) = self.parts.writer.write(Write::Operator(Box::new(body))).await {
            tracing::error!(error = %error, "operator event not written");
        }
    }

    async fn apply_mail(&self, running: &mut Running, loaded: &Loaded, mail: Vec<MailChannel>, now: Time) {
        let fingerprint =
            |loaded: &Loaded, id: &str| loaded.channels.get(id).and_then(|channel| channel.as_ref().ok()).map(|file| file.fingerprint);
        let keep: Vec<String> = mail.iter().map(|channel| channel.file.id.clone()).collect();
        let gone: Vec<String> = running.pulls.keys().filter(|id| !keep.contains(id)).cloned().collect();
        for id in gone {
            self.stop_pull(running, &id).await;
        }
        for channel in mail {
            let id = channel.file.id.clone();
            let same = running.loaded.as_ref().is_some_and(|old| fingerprint(old, &id) == Some(channel.file.fingerprint));
            if same && running.pulls.contains_key(&id) {
                continue;
            }
            self.stop_pull(running, &id).await;
            self.parts.board.place(&id, status(&channel.file.connector, ChannelMode::Connecting, now));
            match self.start_pull(channel, loaded).await {
                Ok(pulling) => {
                    running.pulls.insert(id, pulling);
                }
                Err(error) => {
                    let failed = Failed { id, connector: "imap".to_owned(), code: Code::StoreUnavailable, detail: error.to_string() };
                    self.fail(failed, now).await;
                }
            }
        }
    }

    /// Ends a pulled channel; what it is admitting is finished.
    pub async fn stop_pull(&self, running: &mut Running, id: &str) {
        if let Some(pulling) = running.pulls.remove(id) {
            let _ = pulling.stop.send(true);
            let _ = pulling.task.await;
        }
    }

    /// Starts a pulled channel under a new lease.
    ///
    /// # Errors
    /// If the lease cannot be had.
    pub async fn start_pull(&self, channel: MailChannel, loaded: &Loaded) -> Result<Pulling, crate::ports::store::StoreError> {
        let source = Arc::new(ImapSource::new(channel.settings, self.parts.clock.clone()));
        let lease = format!("pull:{}", source.account());
        let lease_epoch = self.parts.store.take_lease(&lease, &loaded.config.instance.name).await?;
        let limits = MailLimits {
            attachments_max: loaded.config.attachments.count_max,
            attachment_bytes_max: loaded.config.attachments.bytes_max,
            ..MailLimits::default()
        };
        let context = MailContext {
            digester: self.parts.digester.clone(),
            channel: channel.facts.clone(),
            namespace: channel.namespace,
            mailboxes: channel.mailboxes,
            authserv_ids: Vec::new(),
            historic: false,
            limits,
        };
        let pull = Arc::new(PullChannel {
            id: channel.file.id.clone(),
            source,
            reader: Arc::new(MailReader { context }),
            public: channel.facts.public.clone(),
            store: self.parts.store.clone(),
            blobs: self.parts.blobs.clone(),
            writer: self.parts.writer.clone(),
            readers: self.parts.readers.clone(),
            board: self.parts.board.clone(),
            clock: self.parts.clock.clone(),
            random: self.parts.random.clone(),
            ids: self.parts.ids.clone(),
            lease_epoch,
            metrics: self.parts.metrics.clone(),
        });
        let (stop, stopping) = watch::channel(false);
        Ok(Pulling { stop, task: tokio::spawn(pull.run(stopping)) })
    }

    /// Stops within the bound: what is in flight is finished, nothing is lost.
    pub async fn stop(&self) {
        let drained = tokio::time::timeout(self.stop_timeout, self.drain()).await;
        if drained.is_err() {
            tracing::warn!(bound_s = self.stop_timeout.as_secs(), "stop took too long, what is left is done at the next start");
        }
        if let Err(error) = self.parts.store.close().await {
            tracing::error!(error = %error, "store not closed");
        }
    }

    async fn drain(&self) {
        let _ = self.stop.send(true);
        let mut running = self.running.lock().await;
        let pulls: Vec<Pulling> = running.pulls.drain().map(|(_, pulling)| pulling).collect();
        for pulling in &pulls {
            let _ = pulling.stop.send(true);
        }
        let listeners: Vec<JoinHandle<()>> = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
        for task in listeners {
            let _ = task.await;
        }
        for pulling in pulls {
            let _ = pulling.task.await;
        }
        self.parts.writer.stop_admitting();
        for name in self.parts.lanes.names() {
            if let Some(handle) = self.parts.lanes.take(&name) {
                handle.stop();
            }
        }
        for (_, task) in running.destinations.drain() {
            let _ = task.await;
        }
        let keep = self.keep.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(keep) = keep {
            keep.abort();
        }
        self.parts.writer.stop();
        let tasks = self.writer_tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(tasks) = tasks {
            tasks.finished().await;
        }
    }
}

async fn bind(address: std::net::SocketAddr, what: &str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|error| start_error(&format!("{what} listener on {address}"), error))
}

fn status(connector: &str, mode: ChannelMode, now: Time) -> ChannelStatus {
    ChannelStatus {
        connector: connector.to_owned(),
        state: mode.as_str().to_owned(),
        code: None,
        detail: None,
        since: now,
        last_received: None,
        hook: None,
    }
}

/// Opens the store and starts the writer.
async fn parts(config: &Config, key: InstanceKey) -> Result<(Parts, WriterTasks, Arc<Releases>), StartError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let random: Arc<dyn Random> = Arc::new(SystemRandom);
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
    let opened = tokio::task::spawn_blocking(move || SqliteStore::open(options)).await;
    let store = opened.map_err(|error| start_error("store", error))?.map_err(|error| start_error("store", error))?;
    let store: Arc<dyn Store> = Arc::new(store);
    let blobs = FolderBlobs::open(&config.instance.data_dir.join("blobs"), durable).map_err(|error| start_error("blobs", error))?;
    let blobs: Arc<dyn Blobs> = Arc::new(blobs);
    let deliver_epoch = store.take_lease(DELIVER_LEASE, &config.instance.name).await.map_err(|error| start_error("store", error))?;
    let (lanes, releases) = (Arc::new(Lanes::default()), Arc::new(Releases::default()));
    let watch = Watch { lanes: lanes.clone(), releases: releases.clone(), metrics: metrics.clone() };
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
    let parts = Parts {
        files: Files { store: store.clone(), blobs: blobs.clone() },
        digester: Digester::new(key.current()),
        intake: Arc::new(intake),
        readers: Arc::new(readers),
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
    };
    Ok((parts, writer_tasks, releases))
}

/// Reads mails with one channel's facts.
struct MailReader {
    context: MailContext,
}

impl ReadPulled for MailReader {
    fn read(&self, raw: &Raw, historic: bool) -> Vec<Item> {
        if historic == self.context.historic {
            return vec![mail::read(raw, &self.context)];
        }
        vec![mail::read(raw, &MailContext { historic, ..self.context.clone() })]
    }

    fn unread(&self, code: Code, detail: String) -> Item {
        mail::quarantined(&self.context.channel, code, detail)
    }
}
