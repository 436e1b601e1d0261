//! Outreach: what asks the platforms of channels behind hooks for more than they sent: files.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::app::gateway::Pulling;
use crate::app::parts::Parts;
use crate::connector::kit::ChannelKit;
use crate::pipeline::media::{MediaChannel, MediaParts, Slots, leftovers};

/// Starts what fetches files, one task a channel.
pub fn start(parts: &Parts, kits: Vec<Arc<ChannelKit>>, bytes_max: u64) -> HashMap<String, Pulling> {
    let fetching: Vec<Arc<ChannelKit>> = kits.into_iter().filter(|kit| !kit.connector.media.is_empty()).collect();
    if fetching.is_empty() {
        return HashMap::new();
    }
    let served = fetching.iter().map(|kit| kit.channel.clone()).collect();
    let http = match parts.http() {
        Ok(http) => http,
        Err(error) => {
            tracing::error!(error = %error, "no http client to fetch files with");
            return HashMap::new();
        }
    };
    let shared = Arc::new(MediaParts {
        store: parts.store.clone(),
        blobs: parts.blobs.clone(),
        writer: parts.writer.clone(),
        http,
        clock: parts.clock.clone(),
        random: parts.random.clone(),
        metrics: parts.metrics.clone(),
        slots: Slots::default(),
        bytes_max,
    });
    let start = |kit: Arc<ChannelKit>| {
        let (stop, stopping) = watch::channel(false);
        let id = kit.channel.clone();
        let channel = MediaChannel { parts: shared.clone(), bell: parts.bells.bell(&id), kit };
        (id, Pulling { stop, task: tokio::spawn(channel.run(stopping)) })
    };
    let mut running: HashMap<String, Pulling> = fetching.into_iter().map(start).collect();
    let (stop, stopping) = watch::channel(false);
    // No channel has an empty id.
    running.insert(String::new(), Pulling { stop, task: tokio::spawn(leftovers(shared, served, stopping)) });
    running
}

/// Ends it; what is under way is done again later.
pub async fn stop(running: &mut HashMap<String, Pulling>) {
    for (_, Pulling { stop, task }) in running.drain() {
        let _ = stop.send(true);
        let _ = task.await;
    }
}
