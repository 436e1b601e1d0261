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

use crate::app::feeds::{Feeding, Road};
use crate::app::outreach;
use crate::app::outward::{self, Outside, StoredBook};
use crate::app::parts::{self, MailReader, Parts};
use crate::app::wire::{self, Channels, Failed, MailChannel};
use crate::config::connectors::Connectors;
use crate::config::key::InstanceKey;
use crate::config::load::Loaded;
use crate::config::settings::Config;
use crate::config::source::Disk;
use crate::engines::imap::ImapSource;
use crate::logic::file_url::FileUrlVerifier;
use crate::model::codes::Code;
use crate::model::raw::Via;
use crate::model::time::Time;
use crate::pipeline::board::ChannelMode;
use crate::pipeline::deliver::{DeliverOptions, DeliverPorts, DeliverTask, Ended};
use crate::pipeline::keep::Keep;
use crate::pipeline::loops::LoopGuard;
use crate::pipeline::pull::PullChannel;
use crate::pipeline::subscribe::Keeper;
use crate::pipeline::writer::WriterTasks;
use crate::ports::control::{ChannelStatus, Control};
use crate::ports::pull::PullSource;
use crate::ports::store::{Write, pull_lease};
use crate::ports::token::Wallet;
use crate::server::private::{PrivateListener, PrivateOptions};
use crate::server::public::{PublicListener, PublicOptions};

/// How long the writer may take to empty its queue at stop, as a share of the whole bound.
const DRAIN_SHARE: u32 = 2;

/// Why the gateway did not start. One line or rendered problems for a person.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);

/// An error of one part, with its name.
pub fn start_error(what: &str, error: impl std::fmt::Display) -> StartError {
    StartError(format!("{what}: {error}"))
}

/// Tasks that a reload may exchange.
#[derive(Default)]
pub struct Running {
    /// What the files say.
    pub loaded: Option<Loaded>,
    /// What asks the platforms of channels for more than they sent.
    pub media: HashMap<outreach::Errand, Pulling>,
    /// What keeps the promises of platforms to call hooks, by channel.
    pub keepers: HashMap<String, Arc<Keeper>>,
    /// Pulled channels.
    pub pulls: HashMap<String, Pulling>,
    /// Tokens of channels that have any.
    pub wallets: BTreeMap<String, Wallet>,
    /// Polls and streams.
    pub feeds: HashMap<Road, Feeding>,
    /// Destinations.
    pub destinations: HashMap<String, JoinHandle<Ended>>,
}

/// One pulled channel that runs.
pub struct Pulling {
    /// Tells it to stop.
    pub stop: watch::Sender<bool>,
    /// Ends after that.
    pub task: JoinHandle<()>,
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
        let (parts, writer_tasks, releases) = parts::open(&config, key).await?;
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
        tasks.push(tokio::spawn(crate::app::consents::watch(Arc::downgrade(self), stopping.clone())));
        let fetching = crate::app::keys::watch(self.parts.intake.clone(), self.parts.clock.clone(), stopping.clone());
        tasks.push(tokio::spawn(fetching));
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
        let outside = self.outside();
        for (name, settings) in &config.destinations {
            let known = running.loaded.as_ref().and_then(|old| old.config.destinations.get(name));
            let same_delivery = running.loaded.as_ref().is_some_and(|old| old.config.delivery == config.delivery);
            if same_delivery && known.is_some_and(|known| known.fingerprint == settings.fingerprint) {
                continue;
            }
            let destination =
                outward::destination(settings, &config, &outside).map_err(|error| start_error(&format!("destination {name}"), error))?;
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

    /// What destinations work with.
    pub fn outside(&self) -> Outside {
        let (store, writer) = (self.parts.store.clone(), self.parts.writer.clone());
        Outside {
            files: Arc::new(self.parts.files.clone()),
            clock: self.parts.clock.clone(),
            book: Arc::new(StoredBook { store, writer, lease_epoch: self.parts.deliver_epoch }),
            tokens: self.parts.tokens.clone(),
        }
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

    /// Makes the channels that run equal to what the files say.
    pub async fn apply_channels(&self, running: &mut Running, loaded: &Loaded) {
        let mut connectors = Connectors::of(&loaded.config, &Disk);
        let built = wire::channels(loaded, &mut connectors, &self.parts.digester, &self.parts.clock, &self.parts.tokens);
        let now = self.parts.clock.now();
        let before = self.parts.board.read();
        for id in before.keys().filter(|id| !loaded.channels.contains_key(*id)) {
            self.parts.board.remove(id);
            self.parts.metrics.forget_channel(id);
        }
        let Channels { hooks, behind, kits, wallets, mut owns, grants, mail, feeds, failed, disabled } = built;
        running.wallets = wallets;
        // Those that keep running may still be waiting to know who we are.
        for ((id, _), feeding) in &running.feeds {
            owns.entry(id.clone()).or_default().push(feeding.reader.own().clone());
        }
        outreach::stop(&mut running.media).await;
        let base = loaded.config.server.public_url.as_ref().or(loaded.config.files.public_url.as_ref());
        let called = |(hook, files): (&String, &Vec<Arc<crate::config::settings::ChannelFile>>)| {
            let url = base.map(|base| format!("{}/hooks/{hook}", base.as_str().trim_end_matches('/')));
            files.iter().map(|file| (file.id.clone(), url.clone())).collect::<Vec<_>>()
        };
        let called = behind.iter().flat_map(called).collect();
        for (hook, files) in &behind {
            for file in files {
                let known = before.get(&file.id).filter(|known| known.state == ChannelMode::Running.as_str());
                let status = known.cloned().unwrap_or_else(|| status(&file.connector, ChannelMode::Running, now));
                self.parts.board.place(&file.id, ChannelStatus { hook: Some(format!("/hooks/{hook}")), ..status });
            }
        }
        crate::app::keys::prepare(&self.parts.intake.served(), &hooks, &self.parts.clock).await;
        let checks = hooks.values().any(|entry| entry.hook.verifies_senders());
        self.parts.intake.check_senders(if checks { self.parts.lookups(&loaded.config) } else { None });
        self.parts.intake.serve(hooks);
        running.keepers = outreach::keepers(&self.parts, &kits, grants, called, loaded, &running.keepers);
        running.media = outreach::start(&self.parts, kits, owns, loaded.config.attachments.bytes_max).await;
        outreach::keep(&running.keepers, &mut running.media);
        for file in disabled {
            self.parts.board.place(&file.id, status(&file.connector, ChannelMode::Disabled, now));
        }
        for failed in failed {
            self.fail(failed, now).await;
        }
        self.apply_mail(running, loaded, mail, now).await;
        self.apply_feeds(running, loaded, feeds, now).await;
    }

    /// A channel cannot run: the board shows it, operators hear of it.
    pub async fn fail(&self, failed: Failed, now: Time) {
        tracing::error!(messaging.destination.name = %failed.id, error.type = %failed.code, detail = %failed.detail, "channel failed");
        self.parts.board.place(&failed.id, status(&failed.connector, ChannelMode::Connecting, now));
        self.parts.board.turn(&failed.id, Via::Webhook, ChannelMode::Failed, Some(failed.code), Some(failed.detail), now);
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
        let context = channel.context(&self.parts.digester, &loaded.config);
        let lookups = if context.verify_senders { self.parts.lookups(&loaded.config) } else { None };
        let source = Arc::new(ImapSource::new(channel.settings, self.parts.clock.clone()).spooling(self.parts.blobs.clone()));
        let lease_epoch = self.parts.store.take_lease(&pull_lease(&source.account()), &loaded.config.instance.name).await?;
        let pull = Arc::new(PullChannel {
            id: channel.file.id.clone(),
            source,
            reader: Arc::new(MailReader { context }),
            public: channel.facts.public.clone(),
            store: self.parts.store.clone(),
            blobs: self.parts.blobs.clone(),
            writer: self.parts.writer.clone(),
            readers: self.parts.readers.clone(),
            lookups,
            loops: Arc::new(LoopGuard::new(channel.loop_rate.count, channel.loop_rate.per)),
            gate: self.parts.gate.clone(),
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
        let feeds: Vec<Feeding> = running.feeds.drain().map(|(_, feeding)| feeding).collect();
        for stop in pulls.iter().map(|pulling| &pulling.stop).chain(feeds.iter().map(|feeding| &feeding.stop)) {
            let _ = stop.send(true);
        }
        let listeners: Vec<JoinHandle<()>> = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
        for task in listeners {
            let _ = task.await;
        }
        for task in pulls.into_iter().map(|pulling| pulling.task).chain(feeds.into_iter().map(|feeding| feeding.task)) {
            let _ = task.await;
        }
        outreach::stop(&mut running.media).await;
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

/// What the board shows of a channel at first.
pub fn status(connector: &str, mode: ChannelMode, now: Time) -> ChannelStatus {
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
