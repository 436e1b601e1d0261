//! Outreach: what asks the platforms of channels for more than they sent: who we are there, who senders are, and files.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::watch;

use crate::app::gateway::Pulling;
use crate::app::parts::Parts;
use crate::app::wire;
use crate::config::load::Loaded;
use crate::connector::kit::ChannelKit;
use crate::connector::own::Own;
use crate::connector::subscribe::Grants;
use crate::http::client::HttpClient;
use crate::pipeline::enrich::Enricher;
use crate::pipeline::media::{MediaChannel, MediaParts, Slots, leftovers};
use crate::pipeline::subscribe::Keeper;
use crate::pipeline::whoami::Asking;
use crate::ports::http::Http;

/// Which task of which channel.
pub type Errand = (String, &'static str);

/// Starts what the channels need, a task each. `owns`: who waits to know who we are, by channel.
pub async fn start(
    parts: &Parts,
    kits: Vec<Arc<ChannelKit>>,
    mut owns: HashMap<String, Vec<Arc<Own>>>,
    bytes_max: u64,
) -> HashMap<Errand, Pulling> {
    let mut running = HashMap::new();
    parts.intake.enrich(HashMap::new());
    let calls = |kit: &Arc<ChannelKit>| {
        let connector = &kit.connector;
        connector.whoami.is_some() || connector.enrich.is_some() || !connector.media.is_empty()
    };
    // Files of channels that are gone are given up in time, also when no other channel has any.
    let is_left = !parts.store.media(None, 1).await.is_ok_and(|rows| rows.is_empty());
    if !is_left && !kits.iter().any(calls) {
        return running;
    }
    let client = match parts.client() {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(error = %error, "no http client to call platforms with");
            return running;
        }
    };
    let http = |kit: &ChannelKit| -> Arc<dyn Http> { Arc::new(client.strictly(kit.strict_egress)) };
    for kit in kits.iter().filter(|kit| kit.connector.whoami.is_some()) {
        let owns = owns.remove(&kit.channel).unwrap_or_default();
        if owns.iter().any(|own| own.is_needed_by(&kit.channel)) {
            let asking = Asking {
                store: parts.store.clone(),
                writer: parts.writer.clone(),
                http: http(kit),
                clock: parts.clock.clone(),
                board: parts.board.clone(),
                kit: kit.clone(),
                owns,
            };
            let (stop, stopping) = watch::channel(false);
            running.insert((kit.channel.clone(), "whoami"), Pulling { stop, task: tokio::spawn(asking.run(stopping)) });
        }
    }
    let asks = |kit: &Arc<ChannelKit>| {
        let (clock, writer, digester) = (parts.clock.clone(), parts.writer.clone(), parts.digester.clone());
        Some((kit.channel.clone(), Enricher::new(kit.clone(), http(kit), clock, writer, digester)?))
    };
    parts.intake.enrich(kits.iter().filter_map(asks).collect());
    fetching(parts, kits, &client, bytes_max, &mut running);
    running
}

fn fetching(parts: &Parts, kits: Vec<Arc<ChannelKit>>, client: &HttpClient, bytes_max: u64, running: &mut HashMap<Errand, Pulling>) {
    let fetching: Vec<Arc<ChannelKit>> = kits.into_iter().filter(|kit| !kit.connector.media.is_empty()).collect();
    let served = fetching.iter().map(|kit| kit.channel.clone()).collect();
    let shared = Arc::new(MediaParts {
        store: parts.store.clone(),
        blobs: parts.blobs.clone(),
        writer: parts.writer.clone(),
        clock: parts.clock.clone(),
        random: parts.random.clone(),
        metrics: parts.metrics.clone(),
        slots: Slots::default(),
        bytes_max,
    });
    for kit in fetching {
        let (stop, stopping) = watch::channel(false);
        let id = kit.channel.clone();
        let http = Arc::new(client.strictly(kit.strict_egress));
        let channel = MediaChannel { parts: shared.clone(), http, bell: parts.bells.bell(&id), kit };
        running.insert((id, "media"), Pulling { stop, task: tokio::spawn(channel.run(stopping)) });
    }
    let (stop, stopping) = watch::channel(false);
    running.insert((String::new(), "leftovers"), Pulling { stop, task: tokio::spawn(leftovers(shared, served, stopping)) });
}

/// What keeps the promises of platforms to call hooks. `grants`: what hooks are told by their platforms, `called`: the address of each
/// channel's hook, if the main file says it, `before`: those of the files before, who may be asked something at this moment.
pub fn keepers(
    parts: &Parts,
    kits: &[Arc<ChannelKit>],
    mut grants: HashMap<String, Arc<Grants>>,
    mut called: HashMap<String, Option<String>>,
    loaded: &Loaded,
    before: &HashMap<String, Arc<Keeper>>,
) -> HashMap<String, Arc<Keeper>> {
    let subscribing = kits.iter().filter(|kit| kit.connector.subscribe.is_some() && called.contains_key(&kit.channel));
    let subscribing: Vec<&Arc<ChannelKit>> = subscribing.collect();
    if subscribing.is_empty() {
        return HashMap::new();
    }
    let Ok(http) = parts.http().inspect_err(|error| tracing::error!(error = %error, "no http client to call platforms with")) else {
        return HashMap::new();
    };
    let keeper = |kit: &Arc<ChannelKit>| {
        let file = loaded.channels.get(&kit.channel).and_then(|file| file.as_ref().ok())?;
        let keeper = Keeper {
            store: parts.store.clone(),
            writer: parts.writer.clone(),
            http: http.clone(),
            clock: parts.clock.clone(),
            random: parts.random.clone(),
            board: parts.board.clone(),
            metrics: parts.metrics.clone(),
            kit: kit.clone(),
            public: wire::facts(file).public,
            node: loaded.config.instance.name.clone(),
            hook: called.remove(&kit.channel).flatten(),
            grants: grants.remove(&kit.channel)?,
            digester: parts.digester.clone(),
            known: before.get(&kit.channel).map(|keeper| keeper.known.clone()).unwrap_or_default(),
            looked: AtomicBool::new(false),
            bell: tokio::sync::Notify::default(),
        };
        Some((kit.channel.clone(), Arc::new(keeper)))
    };
    subscribing.into_iter().filter_map(keeper).collect()
}

/// Starts them, a task each.
pub fn keep(keepers: &HashMap<String, Arc<Keeper>>, running: &mut HashMap<Errand, Pulling>) {
    for (channel, keeper) in keepers {
        let (stop, stopping) = watch::channel(false);
        running.insert((channel.clone(), "subscribe"), Pulling { stop, task: tokio::spawn(keeper.clone().run(stopping)) });
    }
}

/// Ends all of it; what is under way is done again later.
pub async fn stop(running: &mut HashMap<Errand, Pulling>) {
    for (_, Pulling { stop, task }) in running.drain() {
        let _ = stop.send(true);
        let _ = task.await;
    }
}
