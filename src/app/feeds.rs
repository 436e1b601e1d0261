//! Feeds: channels that are asked for their messages, or that listen: from wiring to running tasks.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::app::gateway::{Gateway, Running, status};
use crate::app::wire::{Failed, FedChannel};
use crate::config::channel_set;
use crate::config::load::Loaded;
use crate::config::settings::Fingerprint;
use crate::connector::load::Connector;
use crate::connector::poll::lane::Begin;
use crate::connector::reader::Reader;
use crate::engines::poll::{PollParts, PollSource};
use crate::engines::stream::{StreamSettings, StreamSource};
use crate::http::client::HttpClient;
use crate::model::codes::Code;
use crate::model::mailbox::FirstRun;
use crate::model::raw::Via;
use crate::model::time::Time;
use crate::pipeline::board::ChannelMode;
use crate::pipeline::feed::FeedChannel;
use crate::ports::clock::{Clock, Random};
use crate::ports::feed::FeedSource;
use crate::ports::store::{StoreError, pull_lease};
use crate::telemetry::metrics::Metrics;

/// One road of a channel that runs.
pub struct Feeding {
    /// Stops it.
    pub stop: watch::Sender<bool>,
    /// Its loop.
    pub task: JoinHandle<()>,
    /// Reads its payloads, also those of the store.
    pub reader: Arc<Reader>,
    fingerprint: Fingerprint,
    connector: Arc<Connector>,
}

/// Which road of which channel.
pub type Road = (String, Via);

/// What sources need of the world.
#[derive(Clone)]
pub struct World {
    /// Sends.
    pub http: HttpClient,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub random: Arc<dyn Random>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// Makes the source of a channel's road.
///
/// # Errors
/// One line: why it cannot be asked.
pub fn source(channel: &FedChannel, world: &World) -> Result<Arc<dyn FeedSource>, String> {
    match (channel.mode, &channel.reader.connector().stream) {
        (Via::Poll, _) => Ok(Arc::new(PollSource::new(poll_parts(channel, world)))),
        (Via::Stream, Some(plan)) => Ok(Arc::new(StreamSource::new(StreamSettings {
            account: channel_set::account(&channel.file, Via::Stream),
            plan: plan.clone(),
            settings: channel.reader.settings().clone(),
            secrets: channel.reader.secrets().clone(),
            wallet: channel.wallet.clone(),
            http: world.http.strictly(channel.file.strict_egress),
            quota: channel.reader.connector().quota.clone(),
            clock: world.clock.clone(),
            random: world.random.clone(),
            // It asks under the stream's account: a poll of the same channel may run beside it.
            gap: plan.after_connect.then(|| Arc::new(PollSource::new(poll_parts(channel, world))) as Arc<dyn FeedSource>),
        }))),
        (other, _) => Err(format!("{} is not carried out by this version", other.as_str())),
    }
}

fn poll_parts(channel: &FedChannel, world: &World) -> PollParts {
    let (metrics, id) = (world.metrics.clone(), channel.file.id.clone());
    PollParts {
        connector: channel.reader.connector().clone(),
        settings: channel.reader.settings().clone(),
        secrets: channel.reader.secrets().clone(),
        wallet: channel.wallet.clone(),
        account: channel_set::account(&channel.file, channel.mode),
        begin: match channel.file.first_run {
            FirstRun::FromNow => Begin::FromNow,
            FirstRun::Backfill => Begin::Backfill(channel.file.backfill_items_max),
        },
        http: Arc::new(world.http.strictly(channel.file.strict_egress)),
        clock: world.clock.clone(),
        random: world.random.clone(),
        usage: Arc::new(move |shares| shares.iter().for_each(|share| metrics.budget(&id, share.what, share.used, share.max))),
    }
}

impl Gateway {
    /// Makes what runs equal to what the files say. What did not change keeps running.
    pub async fn apply_feeds(&self, running: &mut Running, loaded: &Loaded, feeds: Vec<FedChannel>, now: Time) {
        let keep: Vec<Road> = feeds.iter().map(|channel| (channel.file.id.clone(), channel.mode)).collect();
        let gone: Vec<Road> = running.feeds.keys().filter(|road| !keep.contains(road)).cloned().collect();
        for road in gone {
            self.stop_feed(running, &road).await;
        }
        for channel in feeds {
            let (id, connector) = (channel.file.id.clone(), channel.file.connector.clone());
            let road = (id.clone(), channel.mode);
            let same = |known: &Feeding| {
                known.fingerprint == channel.file.fingerprint && known.connector.folder == channel.reader.connector().folder
            };
            if running.feeds.get(&road).is_some_and(same) {
                continue;
            }
            self.stop_feed(running, &road).await;
            let listed = self.parts.board.read().get(&id).is_some_and(|known| known.hook.is_some());
            if !listed {
                self.parts.board.place(&id, status(&connector, ChannelMode::Connecting, now));
            }
            let failed = |code: Code, detail: String| Failed { id: id.clone(), connector: connector.clone(), code, detail };
            match self.parts.world().and_then(|world| source(&channel, &world)) {
                Err(detail) => self.fail(failed(Code::ChannelConfig, detail), now).await,
                Ok(source) => match self.start_feed(&channel, source, &loaded.config.instance.name).await {
                    Ok(feeding) => drop(running.feeds.insert(road, feeding)),
                    Err(error) => self.fail(failed(Code::StoreUnavailable, error.to_string()), now).await,
                },
            }
        }
    }

    /// Ends a road of a channel; what it is admitting is finished.
    pub async fn stop_feed(&self, running: &mut Running, road: &Road) {
        if let Some(feeding) = running.feeds.remove(road) {
            let _ = feeding.stop.send(true);
            let _ = feeding.task.await;
            self.parts.board.leave(&road.0, road.1);
        }
    }

    /// Starts a road of a channel under a new lease.
    async fn start_feed(&self, channel: &FedChannel, source: Arc<dyn FeedSource>, owner: &str) -> Result<Feeding, StoreError> {
        let lease_epoch = self.parts.store.take_lease(&pull_lease(&source.account()), owner).await?;
        let feed = Arc::new(FeedChannel {
            id: channel.file.id.clone(),
            via: channel.mode,
            source,
            reader: channel.reader.clone(),
            limits: channel.limits.clone(),
            public: crate::app::wire::facts(&channel.file).public,
            store: self.parts.store.clone(),
            blobs: self.parts.blobs.clone(),
            writer: self.parts.writer.clone(),
            readers: self.parts.readers.clone(),
            gate: self.parts.gate.clone(),
            board: self.parts.board.clone(),
            clock: self.parts.clock.clone(),
            random: self.parts.random.clone(),
            ids: self.parts.ids.clone(),
            lease_epoch,
            metrics: self.parts.metrics.clone(),
            enricher: self.parts.intake.enricher(&channel.file.id),
        });
        let (stop, stopping) = watch::channel(false);
        Ok(Feeding {
            stop,
            task: tokio::spawn(feed.run(stopping)),
            reader: channel.reader.clone(),
            fingerprint: channel.file.fingerprint,
            connector: channel.reader.connector().clone(),
        })
    }
}
