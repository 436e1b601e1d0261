//! Control: what the admin API may ask of the running gateway.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::app::gateway::Gateway;
use crate::app::wire;
use crate::config::channel_set;
use crate::config::connectors::Connectors;
use crate::config::load;
use crate::config::source::Disk;
use crate::connector::hook::Verified;
use crate::connector::mail;
use crate::connector::reader::{Read, ReadContext, Reader};
use crate::model::codes::Code;
use crate::model::id::{AttachmentId, ContactId, RawId};
use crate::model::item::{Item, ItemBody};
use crate::model::raw::{Raw, Via};
use crate::model::time::Time;
use crate::model::view::{DeliveryFilter, DestinationMode, LedgerFilter};
use crate::pipeline::subscribe::Keeper;
use crate::ports::BoxFuture;
use crate::ports::control::{Consent, Control, ControlError, FileBytes, FolderCompared, Reloaded, ReplayRequest, Status, SubscriptionView};
use crate::ports::store::Write;

/// Events made due again by one replay at most: more than that is a restore, done in steps.
const REPLAY_MAX: u64 = 1_000_000;

/// What the world did not do.
pub fn failed(error: impl std::fmt::Display) -> ControlError {
    ControlError::Failed(error.to_string())
}

impl Gateway {
    async fn write(&self, write: Write) -> Result<u64, ControlError> {
        // Destinations with new deliveries are woken by the writer itself.
        Ok(self.parts.writer.write(write).await?.count)
    }

    async fn known_destination(&self, name: &str) -> Result<bool, ControlError> {
        if self.parts.lanes.handle(name).is_some() {
            return Ok(true);
        }
        let rows = self.parts.store.destinations().await?;
        if rows.iter().any(|row| row.name == name) {
            return Ok(false);
        }
        Err(ControlError::Missing(format!("there is no destination `{name}`")))
    }

    /// Sets the mode of a destination by hand.
    async fn set_mode(&self, name: &str, mode: DestinationMode, code: Option<Code>) -> Result<(), ControlError> {
        self.known_destination(name).await?;
        self.write(Write::Destination { name: name.to_owned(), mode, code: code.map(|code| code.as_str().to_owned()) }).await?;
        if let Some(handle) = self.parts.lanes.handle(name) {
            match mode {
                DestinationMode::Active => handle.resume(),
                DestinationMode::Paused | DestinationMode::Halted => handle.pause(),
            }
        }
        Ok(())
    }

    /// Reads a raw again with the connectors and channel files of today.
    async fn read_again(&self, channel: Option<&str>, raw: Raw) -> Result<Vec<Item>, ControlError> {
        let running = self.running.lock().await;
        let loaded = running.loaded.clone().ok_or_else(|| ControlError::Failed("the gateway is starting".to_owned()))?;
        drop(running);
        let source = channel.unwrap_or(&raw.source).to_owned();
        if raw.via == Via::Imap {
            let file = loaded.channels.get(&source).and_then(|channel| channel.as_ref().ok());
            let file = file.ok_or_else(|| ControlError::Missing(format!("the channel `{source}` is no longer configured")))?;
            let channel = wire::mail_channel(file, &self.parts.tokens).map_err(ControlError::Refused)?;
            let context = channel.context(&self.parts.digester, &loaded.config);
            let lookups = if context.verify_senders { self.parts.lookups(&loaded.config) } else { None };
            let answers = match lookups {
                Some(lookups) => Some(lookups.ask(mail::asks(&raw, &context).into_iter().collect()).await),
                None => None,
            };
            let read = move || mail::read_with(&raw, &context, answers.as_ref());
            let item = self.parts.readers.run(std::time::Duration::from_secs(120), read).await;
            return item.map(|item| vec![item]).map_err(|_| ControlError::Failed("reading the mail failed again".to_owned()));
        }
        if matches!(raw.via, Via::Poll | Via::Stream) {
            return self.read_fed(&loaded, raw).await;
        }
        let served = self.parts.intake.served();
        let entry =
            served.get(&raw.source).ok_or_else(|| ControlError::Missing(format!("the hook `{}` is no longer served", raw.source)))?;
        let verified = Verified::from_store(raw.head, raw.body);
        let context = ReadContext { received_at: raw.received_at, historic: false };
        let read = self.parts.intake.read(&entry.hook, &verified, &context).await;
        self.keep_files(read).await
    }

    /// Who keeps the subscription of a channel.
    async fn keeper(&self, channel: &str) -> Result<Arc<Keeper>, ControlError> {
        let running = self.running.lock().await;
        if let Some(keeper) = running.keepers.get(channel) {
            return Ok(keeper.clone());
        }
        let loaded = running.loaded.as_ref().ok_or_else(|| ControlError::Failed("the gateway is starting".to_owned()))?;
        match loaded.channels.get(channel) {
            None => Err(ControlError::Missing(format!("there is no channel `{channel}`"))),
            Some(Err(_)) => Err(ControlError::Refused(format!("the channel `{channel}` cannot run: see `omnigate check`"))),
            Some(Ok(file)) => {
                let why = "its connector subscribes nowhere by itself, or its platform is not to call a hook of it";
                let show = format!("see `omnigate connector show {}`", file.connector);
                Err(ControlError::Refused(format!("the channel `{channel}` has no subscription: {why}; {show}")))
            }
        }
    }

    async fn keep_files(&self, read: Read) -> Result<Vec<Item>, ControlError> {
        for (key, bytes) in read.blobs {
            self.parts.blobs.put(&key, bytes).await.map_err(failed)?;
        }
        Ok(read.items)
    }

    /// A payload that we asked for; its channel may be asked no longer.
    async fn read_fed(&self, loaded: &load::Loaded, raw: Raw) -> Result<Vec<Item>, ControlError> {
        let file = loaded.channels.get(&raw.source).and_then(|channel| channel.as_ref().ok());
        let file = file.ok_or_else(|| ControlError::Missing(format!("the channel `{}` is no longer configured", raw.source)))?;
        let connector = Connectors::of(&loaded.config, &Disk).of_channel(file).and_then(Result::ok);
        let connector = connector.ok_or_else(|| ControlError::Missing(format!("there is no connector `{}`", file.connector)))?;
        let limits = channel_set::limits(&loaded.config);
        let reader = Reader::build(connector, channel_set::spec(file), &[], self.parts.digester.clone(), limits);
        let reader = reader.map_err(|problems| ControlError::Refused(crate::connector::problem::render(&problems)))?;
        let context = ReadContext { received_at: raw.received_at, historic: false };
        self.keep_files(reader.read(raw.via, &raw.head, &raw.body, &context)).await
    }
}

impl Control for Gateway {
    fn status(&self) -> BoxFuture<'_, Status> {
        Box::pin(async move {
            let channels = self.parts.board.read();
            for (id, channel) in &channels {
                self.parts.metrics.channel_state(id, &channel.state);
            }
            let mut not_ready = Vec::new();
            if self.parts.writer.disk_full() {
                not_ready.push("the disk is full: admissions stand still".to_owned());
            }
            Status {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                started_at: self.parts.started_at,
                ready: not_ready.is_empty(),
                not_ready,
                channels,
                configured_destinations: self.parts.lanes.names(),
                queue: self.parts.writer.queued(),
            }
        })
    }

    fn reload(&self) -> BoxFuture<'_, Result<Reloaded, ControlError>> {
        Box::pin(async move {
            let file = self.config_file.clone();
            let loaded = tokio::task::spawn_blocking(move || load::load(&file, &Disk)).await.map_err(failed)?;
            let loaded = loaded.map_err(|problems| ControlError::Refused(problems.to_string()))?;
            let before = self.running.lock().await.loaded.clone();
            let difference = before.as_ref().map(|before| load::diff(before, &loaded)).unwrap_or_default();
            let mut problems: Vec<String> =
                loaded.channel_problems().iter().map(|problem| crate::connector::problem::render(std::slice::from_ref(problem))).collect();
            if difference.restart {
                problems.push("the main file changed where only a restart takes it up (instance, server, store, mapping, …)".to_owned());
            }
            self.apply(loaded).await.map_err(|error| ControlError::Refused(error.to_string()))?;
            tracing::info!("configuration reloaded");
            let united = |channels: Vec<String>, destinations: Vec<String>| channels.into_iter().chain(destinations).collect();
            let (channels, destinations) = (difference.channels, difference.destinations);
            Ok(Reloaded {
                added: united(channels.added, destinations.added),
                changed: united(channels.changed, destinations.changed),
                removed: united(channels.removed, destinations.removed),
                problems,
            })
        })
    }

    fn pause<'a>(&'a self, destination: &'a str) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(self.set_mode(destination, DestinationMode::Halted, Some(Code::PausedByHand)))
    }

    fn resume<'a>(&'a self, destination: &'a str) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(self.set_mode(destination, DestinationMode::Active, None))
    }

    fn drop_destination<'a>(&'a self, destination: &'a str) -> BoxFuture<'a, Result<u64, ControlError>> {
        Box::pin(async move {
            if self.known_destination(destination).await? {
                let mend = format!("`{destination}` is configured: take it out of the main file and reload, then drop it");
                return Err(ControlError::Refused(mend));
            }
            self.write(Write::DropDestination { name: destination.to_owned() }).await
        })
    }

    fn replay(&self, request: ReplayRequest) -> BoxFuture<'_, Result<u64, ControlError>> {
        Box::pin(async move {
            let ReplayRequest { filter, dry_run, rate } = request;
            let Some(name) = filter.destination.clone() else {
                return Err(ControlError::Refused("say which destination: a replay goes to one".to_owned()));
            };
            if !self.known_destination(&name).await? {
                return Err(ControlError::Refused(format!("`{name}` is not configured: nothing would be delivered")));
            }
            if dry_run {
                return Ok(self.parts.store.count_deliveries(filter).await?);
            }
            let handle = self.parts.lanes.handle(&name);
            if let (Some(handle), Some(rate)) = (&handle, rate) {
                handle.replay_rate(rate);
            }
            let count = self.write(Write::Replay { filter, limit: REPLAY_MAX }).await?;
            if let Some(handle) = handle {
                handle.rescan();
            }
            Ok(count)
        })
    }

    fn dead(&self, filter: DeliveryFilter, discard: bool) -> BoxFuture<'_, Result<u64, ControlError>> {
        Box::pin(async move {
            let name = filter.destination.clone();
            let count = self.write(Write::Dead { filter, discard }).await?;
            for handle in self.parts.lanes.all().into_iter().filter(|(known, _)| name.as_ref().is_none_or(|name| name == known)) {
                handle.1.rescan();
            }
            Ok(count)
        })
    }

    fn reprocess(&self, item: i64) -> BoxFuture<'_, Result<String, ControlError>> {
        Box::pin(async move {
            let filter = LedgerFilter { before: Some(item.saturating_add(1)), limit: 1, ..LedgerFilter::default() };
            let row = self.parts.store.ledger(filter).await?.into_iter().next().filter(|row| row.item == item);
            let row = row.ok_or_else(|| ControlError::Missing(format!("there is no item {item}")))?;
            if row.fate != crate::model::item::Fate::Quarantined {
                return Err(ControlError::Refused(format!("item {item} is {}, not quarantined", row.fate.as_str())));
            }
            let raw = self.parts.files.raw(row.raw).await.map_err(failed)?;
            let raw = raw.ok_or_else(|| ControlError::Missing("its raw is gone (retention or erasure)".to_owned()))?;
            let items = self.read_again(row.channel.as_deref(), raw).await?;
            if let Some(ItemBody::Quarantined { code, detail }) =
                items.iter().map(|item| &item.body).find(|body| matches!(body, ItemBody::Quarantined { .. }))
            {
                return Err(ControlError::Refused(format!("it still cannot be read: {code}: {detail}")));
            }
            self.write(Write::Reprocess { item, items }).await?;
            let filter = LedgerFilter { before: Some(item.saturating_add(1)), limit: 1, ..LedgerFilter::default() };
            let row = self.parts.store.ledger(filter).await?.into_iter().next();
            Ok(row.map_or("published", |row| row.fate.as_str()).to_owned())
        })
    }

    fn backfill<'a>(&'a self, channel: &'a str, since: Option<Time>, folder: Option<&'a str>) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(self.backfill_channel(channel, since, folder))
    }

    fn reconcile<'a>(&'a self, channel: &'a str, repair: bool) -> BoxFuture<'a, Result<Vec<FolderCompared>, ControlError>> {
        Box::pin(self.reconcile_channel(channel, repair))
    }

    fn consent<'a>(&'a self, channel: &'a str, given: Consent) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(self.take_consent(channel, given))
    }

    fn subscribe<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<SubscriptionView, ControlError>> {
        Box::pin(async move { self.keeper(channel).await?.subscribe().await })
    }

    fn unsubscribe<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<SubscriptionView, ControlError>> {
        Box::pin(async move { self.keeper(channel).await?.unsubscribe().await })
    }

    fn subscription<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<SubscriptionView, ControlError>> {
        Box::pin(async move { self.keeper(channel).await?.status().await })
    }

    fn erase(&self, contact: ContactId) -> BoxFuture<'_, Result<BTreeMap<String, u64>, ControlError>> {
        Box::pin(async move {
            let erased = self.parts.store.erase(contact).await?;
            let erased = erased.ok_or_else(|| ControlError::Missing(format!("there is no contact {contact}")))?;
            for key in &erased.blobs {
                self.parts.blobs.delete(key).await.map_err(failed)?;
            }
            for (_, handle) in self.parts.lanes.all() {
                handle.rescan();
            }
            Ok([
                ("messages".to_owned(), erased.messages),
                ("raws".to_owned(), erased.raws),
                ("deliveries".to_owned(), erased.deliveries),
                ("files".to_owned(), erased.blobs.len() as u64),
            ]
            .into())
        })
    }

    fn backup<'a>(&'a self, folder: &'a Path) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(async move {
            let keys = self.parts.store.backup(folder).await?;
            let target = crate::stores::folder::FolderBlobs::open(&folder.join("blobs"), true).map_err(failed)?;
            let target: Arc<dyn crate::ports::blobs::Blobs> = Arc::new(target);
            for key in keys {
                match self.parts.blobs.read(&key).await {
                    Ok(bytes) => target.put(&key, bytes).await.map_err(failed)?,
                    // Retention may have taken it since the copy was made; then nothing will ask for it.
                    Err(crate::ports::blobs::BlobError::Missing { .. }) => {}
                    Err(error) => return Err(failed(error)),
                }
            }
            let note = format!("{}\n", self.parts.key.fingerprint());
            tokio::fs::write(folder.join("instance-key.fingerprint"), note).await.map_err(failed)
        })
    }

    fn file(&self, attachment: AttachmentId) -> BoxFuture<'_, Result<FileBytes, ControlError>> {
        Box::pin(async move {
            let file = self.parts.files.file(attachment).await.map_err(failed)?;
            file.ok_or_else(|| ControlError::Missing("there is no such file".to_owned()))
        })
    }

    fn file_bytes(&self, attachment: AttachmentId) -> BoxFuture<'_, Result<Option<u64>, ControlError>> {
        Box::pin(async move {
            let view = self.parts.store.file(attachment).await?;
            view.map(|view| view.bytes).ok_or_else(|| ControlError::Missing("there is no such file".to_owned()))
        })
    }

    fn raw_body(&self, raw: RawId) -> BoxFuture<'_, Result<Bytes, ControlError>> {
        Box::pin(async move {
            let raw = self.parts.files.raw(raw).await.map_err(failed)?;
            raw.map(|raw| raw.body).ok_or_else(|| ControlError::Missing("there is no such raw".to_owned()))
        })
    }
}
