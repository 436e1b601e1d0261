//! Keep: housekeeping in short slices between the real work.
//!
//! Watches the disk, releases pending items when their hold is over, and sweeps what retention lets go.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::model::time::Time;
use crate::pipeline::writer::WriterHandle;
use crate::ports::blobs::Blobs;
use crate::ports::clock::Clock;
use crate::ports::store::{Retention, Store, Write};

/// Pace of the disk check.
const DISK_CHECK: Duration = Duration::from_secs(1);
/// Pause between two slices of retention while there is more to do, and when there is not.
const SWEEP_NEXT: Duration = Duration::from_millis(200);
const SWEEP_IDLE: Duration = Duration::from_secs(60);
/// Room that must come back above `free_min` before admissions go on: without it they would flap.
const FREE_MARGIN: f64 = 1.05;
/// Pending items looked at in one go.
const PENDING_LOOK_MAX: usize = 1024;

/// Pending items by the time they are released at the latest.
#[derive(Debug, Default)]
pub struct Releases {
    due: Mutex<BTreeSet<(Time, i64)>>,
    changed: tokio::sync::Notify,
}

impl Releases {
    /// Notes pending items.
    pub fn note(&self, items: &[(i64, Time)]) {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        due.extend(items.iter().map(|(item, until)| (*until, *item)));
        self.changed.notify_one();
    }

    fn next(&self) -> Option<(Time, i64)> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner).first().copied()
    }

    fn forget(&self, entry: (Time, i64)) {
        self.due.lock().unwrap_or_else(PoisonError::into_inner).remove(&entry);
    }
}

/// What housekeeping needs.
pub struct Keep {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Files.
    pub blobs: Arc<dyn Blobs>,
    /// The writer.
    pub writer: WriterHandle,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// How long things are kept.
    pub retention: Retention,
    /// Admissions stop below this much free disk.
    pub free_min_bytes: u64,
    /// Pending items.
    pub releases: Arc<Releases>,
    /// Counts.
    pub metrics: Arc<crate::telemetry::metrics::Metrics>,
}

impl Keep {
    /// Runs until dropped.
    pub async fn run(self) {
        let this = &self;
        tokio::join!(this.watch_disk(), this.release(), this.sweep());
    }

    async fn watch_disk(&self) {
        loop {
            let free = [self.store.free_bytes(), self.blobs.free_bytes()].into_iter().flatten().min();
            if let Some(free) = free {
                self.metrics.disk_free(free);
                let was_full = self.writer.disk_full();
                let margin = if was_full { FREE_MARGIN } else { 1.0 };
                let is_full = (free as f64) < self.free_min_bytes as f64 * margin;
                if is_full != was_full {
                    if is_full {
                        tracing::error!(free_bytes = free, free_min_bytes = self.free_min_bytes, "admissions stopped for lack of disk");
                    } else {
                        tracing::info!(free_bytes = free, "admissions resumed");
                    }
                    self.writer.set_disk_full(is_full);
                }
            }
            self.metrics.queue(
                usize::try_from(self.writer.queued()).unwrap_or(usize::MAX),
                usize::try_from(self.writer.queued_bytes()).unwrap_or(usize::MAX),
            );
            self.clock.sleep(DISK_CHECK).await;
        }
    }

    async fn release(&self) {
        match self.store.pending(PENDING_LOOK_MAX).await {
            Ok(pending) => self.releases.note(&pending),
            Err(error) => tracing::error!(error = %error, "pending items not read"),
        }
        loop {
            let Some(entry) = self.releases.next() else {
                // Beyond what was read at start there may be more in the store.
                match self.store.pending(PENDING_LOOK_MAX).await {
                    Ok(pending) if !pending.is_empty() => self.releases.note(&pending),
                    _ => self.releases.changed.notified().await,
                }
                continue;
            };
            let wait = entry.0.since_ms(self.clock.now());
            if wait > 0 {
                let span = Duration::from_millis(wait.unsigned_abs());
                tokio::select! {
                    () = self.clock.sleep(span) => {}
                    () = self.releases.changed.notified() => {}
                }
                continue;
            }
            match self.writer.write(Write::Release { item: entry.1 }).await {
                Ok(_) | Err(crate::ports::store::StoreError::Invariant { .. }) => self.releases.forget(entry),
                Err(error) => {
                    tracing::warn!(error = %error, "pending item not released");
                    self.clock.sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn sweep(&self) {
        loop {
            let pause = match self.store.sweep(&self.retention, self.clock.now()).await {
                Ok(swept) => {
                    let blobs = swept.blobs.len() as u64;
                    for (what, count) in [("raws", swept.raws), ("events", swept.events), ("ledger", swept.ledger), ("blobs", blobs)] {
                        self.metrics.swept(what, count);
                    }
                    for key in &swept.blobs {
                        if let Err(error) = self.blobs.delete(key).await {
                            tracing::warn!(error = %error, "blob not deleted");
                        }
                    }
                    if swept.more { SWEEP_NEXT } else { SWEEP_IDLE }
                }
                Err(error) => {
                    tracing::warn!(error = %error, "retention not swept");
                    SWEEP_IDLE
                }
            };
            self.clock.sleep(pause).await;
        }
    }
}
