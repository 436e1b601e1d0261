//! Slots: how many requests for files may be under way, over all and to one host.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests for files under way, over all channels. Each holds one piece of its body in memory.
const ALL_MAX: usize = 32;
/// The same to one host.
const HOST_MAX: usize = 8;

/// Hands out slots.
#[derive(Debug)]
pub struct Slots {
    all: Arc<Semaphore>,
    hosts: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// Given back when dropped.
#[derive(Debug)]
pub struct Slot {
    _host: Option<OwnedSemaphorePermit>,
    _all: Option<OwnedSemaphorePermit>,
}

impl Default for Slots {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(ALL_MAX)), hosts: Mutex::default() }
    }
}

impl Slots {
    /// A slot for a request to `host`. The host's bound first: what waits for a busy host takes nothing from the others.
    pub async fn take(&self, host: &str) -> Slot {
        let own = {
            let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            // Hosts nobody speaks to at the moment.
            hosts.retain(|_, semaphore| semaphore.available_permits() < HOST_MAX || Arc::strong_count(semaphore) > 1);
            Arc::clone(hosts.entry(host.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(HOST_MAX))))
        };
        // The semaphores are never closed.
        let host = own.acquire_owned().await.ok();
        let all = Arc::clone(&self.all).acquire_owned().await.ok();
        Slot { _host: host, _all: all }
    }
}
