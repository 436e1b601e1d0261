//! Intake: the way of a hook request, from the guard to the answer.
//!
//! guard (verify, handshake) → read (decode, map, normalize) → limits → admit → answer. A 2xx leaves only after the store says that
//! the raw and its ledger rows are durable (I2). One hook's trouble is answered on that hook only (I8).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;

use crate::connector::hook::{Guarded, Hook, Outcome, Verified};
use crate::connector::reader::{Read, ReadContext};
use crate::logic::ids::IdMaker;
use crate::model::codes::Code;
use crate::model::id::RawId;
use crate::model::item::{Fate, Item};
use crate::model::raw::{Raw, Via};
use crate::model::time::Time;
use crate::pipeline::board::Board;
use crate::pipeline::enrich::Enricher;
use crate::pipeline::limits::{self, Limits, Waiting};
use crate::pipeline::lookups::Lookups;
use crate::pipeline::raws::{self, blob_failed};
use crate::pipeline::writer::{AdmitError, WriterHandle};
use crate::ports::BoxFuture;
use crate::ports::blobs::Blobs;
use crate::ports::clock::{Clock, Random};
use crate::ports::intake::{HookAnswer, HookRequest, Intake};
use crate::ports::store::{Admission, RawRecord, StoreError};
use crate::telemetry::metrics::Metrics;

/// Longest wait for a rate limit before the platform is asked to come again; below the deadline of the strictest platform.
const SLOW_WAIT_MAX: Duration = Duration::from_secs(2);
/// `Retry-After` for a full queue: it empties within a second.
const RETRY_QUEUE_S: u64 = 1;
/// `Retry-After` while the disk is full or the store cannot be written.
const RETRY_STORE_S: u64 = 30;

/// One hook that is being served.
pub struct HookEntry {
    /// The connector's side.
    pub hook: Hook,
    /// The connector's name, for metrics.
    pub connector: String,
    /// Limits by channel id.
    pub limits: HashMap<String, Arc<Limits>>,
    /// Longest time until the answer; then the platform is asked to come again.
    pub accept_timeout: Duration,
}

/// Takes hook requests for all hooks.
pub struct HookIntake {
    hooks: RwLock<HashMap<String, Arc<HookEntry>>>,
    enrichers: RwLock<HashMap<String, Arc<Enricher>>>,
    /// Asks the DNS for hooks that check who sent the mails inside of their requests.
    lookups: RwLock<Option<Arc<Lookups>>>,
    parts: IntakeParts,
}

/// What intake needs.
pub struct IntakeParts {
    /// Admits.
    pub writer: WriterHandle,
    /// Large raws and files.
    pub blobs: Arc<dyn Blobs>,
    /// Ids.
    pub ids: Arc<IdMaker>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// For ids.
    pub random: Arc<dyn Random>,
    /// Tells the surfaces.
    pub board: Arc<Board>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl HookIntake {
    /// An intake without hooks.
    pub fn new(parts: IntakeParts) -> Self {
        Self { hooks: RwLock::new(HashMap::new()), enrichers: RwLock::default(), lookups: RwLock::default(), parts }
    }

    /// Replaces all hooks at once. Requests under way end with the hook they began with.
    pub fn serve(&self, hooks: HashMap<String, Arc<HookEntry>>) {
        *self.hooks.write().unwrap_or_else(PoisonError::into_inner) = hooks;
    }

    /// Replaces who asks for senders, by channel.
    pub fn enrich(&self, enrichers: HashMap<String, Arc<Enricher>>) {
        *self.enrichers.write().unwrap_or_else(PoisonError::into_inner) = enrichers;
    }

    /// Who asks for the senders of a channel.
    pub fn enricher(&self, channel: &str) -> Option<Arc<Enricher>> {
        self.enrichers.read().unwrap_or_else(PoisonError::into_inner).get(channel).cloned()
    }

    /// Replaces who asks the DNS.
    pub fn check_senders(&self, lookups: Option<Arc<Lookups>>) {
        *self.lookups.write().unwrap_or_else(PoisonError::into_inner) = lookups;
    }

    /// Reads what passed the guard, with what the DNS says where senders are to be checked. That takes no longer than its bound; what it
    /// does not answer is not known.
    pub async fn read(&self, hook: &Hook, verified: &Verified, context: &ReadContext) -> Read {
        let opened = hook.open(verified);
        let lookups = if hook.verifies_senders() { self.lookups.read().unwrap_or_else(PoisonError::into_inner).clone() } else { None };
        let answers = match lookups {
            Some(lookups) => Some(lookups.ask(hook.asks(&opened, context.received_at).into_iter().collect()).await),
            None => None,
        };
        hook.read_opened(verified, opened, context, answers.as_ref())
    }

    /// The channels of these items that ask for senders.
    fn enrichers(&self, items: &[Item]) -> Vec<Arc<Enricher>> {
        let known = self.enrichers.read().unwrap_or_else(PoisonError::into_inner);
        if known.is_empty() {
            return Vec::new();
        }
        let channels: BTreeSet<&str> = items.iter().map(|item| item.channel.public.id.as_str()).collect();
        channels.into_iter().filter_map(|channel| known.get(channel).cloned()).collect()
    }

    /// The hooks that are served now.
    pub fn served(&self) -> HashMap<String, Arc<HookEntry>> {
        self.hooks.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn hook(&self, name: &str) -> Option<Arc<HookEntry>> {
        self.hooks.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    async fn take(&self, entry: &HookEntry, request: HookRequest) -> (HookAnswer, Option<Code>) {
        let now = self.parts.clock.now();
        let verified = match entry.hook.guard(&request, now) {
            Guarded::Answer { answer, code } => return (answer, code),
            Guarded::Pass(verified) => verified,
        };
        if !entry.hook.own().is_known() {
            return (overload(entry, &verified, RETRY_STORE_S), Some(Code::OwnUnknown));
        }
        let started = self.parts.clock.monotonic();
        let mut read = self.read(&entry.hook, &verified, &ReadContext { received_at: now, historic: false }).await;
        self.parts.metrics.normalized(&entry.connector, self.parts.clock.monotonic().saturating_sub(started));
        for item in &read.items {
            self.parts.board.heard(&item.channel.public.id, now);
        }
        let deadline = self.parts.clock.monotonic() + SLOW_WAIT_MAX.min(entry.accept_timeout / 2);
        let clock = Waiting { clock: &*self.parts.clock, metrics: &self.parts.metrics, deadline: Some(deadline) };
        if let Err(wait) = limits::pace(&mut read.items, |channel| entry.limits.get(channel).map(|limits| &**limits), now, clock).await {
            return (overload(entry, &verified, wait.as_secs()), Some(Code::RateLimited));
        }
        for enricher in self.enrichers(&read.items) {
            enricher.fill(&mut read.items).await;
        }
        let admitted = async {
            for (key, bytes) in read.blobs {
                self.parts.blobs.put(&key, bytes).await.map_err(|error| AdmitError::Store(blob_failed(&error)))?;
            }
            let raw = self.record(entry, &verified, now).await?;
            self.parts.writer.try_admit(Admission { raw, delivery_key: read.delivery_key, items: read.items }).await
        };
        match tokio::time::timeout(entry.accept_timeout, admitted).await {
            Ok(Ok(written)) => {
                self.parts.metrics.published(self.parts.clock.monotonic().saturating_sub(started));
                let published = written.fates.iter().flatten().any(|fate| matches!(fate.fate, Fate::Published | Fate::Pending));
                let outcome = if published { Outcome::Accepted } else { Outcome::Ignored };
                (entry.hook.answer(&verified, outcome), None)
            }
            Ok(Err(error)) => refused(entry, &verified, &error),
            // The write may still be done; then the platform's next try is a duplicate.
            Err(_) => (overload(entry, &verified, RETRY_STORE_S), Some(Code::StoreUnavailable)),
        }
    }

    /// The raw as it is kept; a large body goes to the blob store first.
    async fn record(&self, entry: &HookEntry, verified: &Verified, now: Time) -> Result<Arc<RawRecord>, AdmitError> {
        let raw = Raw {
            id: RawId(self.parts.ids.next(now.0, &*self.parts.random)),
            source: entry.hook.name().to_owned(),
            via: Via::Webhook,
            received_at: now,
            head: verified.head().clone(),
            body: verified.body().clone(),
        };
        Ok(Arc::new(raws::keep(raw, &*self.parts.blobs).await?))
    }
}

fn refused(entry: &HookEntry, verified: &Verified, error: &AdmitError) -> (HookAnswer, Option<Code>) {
    let (code, retry_s) = match error {
        AdmitError::QueueFull => (Code::QueueFull, RETRY_QUEUE_S),
        AdmitError::Stopping => (Code::Stopping, RETRY_QUEUE_S),
        AdmitError::DiskFull | AdmitError::Store(StoreError::Full) => (Code::DiskFull, RETRY_STORE_S),
        AdmitError::Store(_) => (Code::StoreUnavailable, RETRY_STORE_S),
    };
    (overload(entry, verified, retry_s), Some(code))
}

fn overload(entry: &HookEntry, verified: &Verified, retry_after_s: u64) -> HookAnswer {
    let retry_after = u32::try_from(retry_after_s.max(1)).unwrap_or(u32::MAX);
    entry.hook.answer(verified, Outcome::Overload { retry_after })
}

impl Intake for HookIntake {
    fn body_bytes_max(&self, hook: &str) -> Option<usize> {
        self.hook(hook).map(|entry| entry.hook.body_bytes_max())
    }

    fn receive(&self, request: HookRequest) -> BoxFuture<'_, HookAnswer> {
        Box::pin(async move {
            let name = request.hook.clone();
            let Some(entry) = self.hook(&name) else {
                // The name is from outside: it is no metric label.
                self.parts.metrics.refused("unknown", Code::UnknownHook);
                return HookAnswer { status: 404, headers: Vec::new(), body: Bytes::new() };
            };
            let (answer, code) = self.take(&entry, request).await;
            if let Some(code) = code {
                self.parts.metrics.refused(&name, code);
            }
            answer
        })
    }
}
