//! Leftovers: files of channels that are no longer there, or have lost their recipe. They are given up when the platform would have, so
//! that no receiver waits for ever.

use std::collections::BTreeSet;

use tokio::sync::watch;

use crate::logic::admit::media::tasks;
use crate::model::codes::Code;
use crate::model::item::Fetched;
use crate::pipeline::media::{LOOK_EVERY, LOOK_ROWS, MediaParts};
use crate::ports::store::Write;
use crate::ports::tx::MediaRow;

/// Looks until told to stop. `served` are the channels whose files are fetched.
pub async fn leftovers(parts: std::sync::Arc<MediaParts>, served: BTreeSet<String>, mut stop: watch::Receiver<bool>) {
    loop {
        let now = parts.clock.now();
        let rows = parts.store.media(None, LOOK_ROWS).await.unwrap_or_default();
        for row in rows.iter().filter(|row| row.at <= now && !served.contains(&row.channel)) {
            give_up(&parts, row).await;
        }
        tokio::select! {
            () = parts.clock.sleep(LOOK_EVERY) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

async fn give_up(parts: &MediaParts, row: &MediaRow) {
    let now = parts.clock.now();
    for task in tasks(row).unwrap_or_default() {
        // Until then the channel may come back.
        let over = task.order.until <= now;
        let outcome = if over { Fetched::Unavailable { code: Code::MediaGivenUp } } else { Fetched::Later { at: task.order.until } };
        let write = Write::Fetched { item: task.item, file: task.public.id, outcome, more: false };
        if let Err(error) = parts.writer.write(write).await {
            tracing::warn!(error = %error, "file of a former channel not given up");
        }
    }
}
