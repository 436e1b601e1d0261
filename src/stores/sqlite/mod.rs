//! The embedded store: SQLite behind the `Store` port.
//!
//! Two files: `omnigate.db` holds every row that must change together, `raws.db` holds the bytes of raws and is committed just
//! before, so that a row never names bytes that are not durable. One thread owns the write connection of each file.

mod backup;
mod care;
mod change;
mod error;
mod filter;
mod open;
mod raws;
mod read;
mod rows;
mod state;
#[cfg(test)]
mod tests;
mod thread;
mod tickets;
mod tx;
mod views;
mod writer;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use self::error::closed;
use self::open::Which;
use self::raws::{Pile, Raws, Staging};
use self::thread::Owner;
use self::writer::Writer;
use crate::model::delivery::{Due, Outgoing, Position};
use crate::model::id::{AttachmentId, ContactId, ConversationId, EventId, MessageId, RawId};
use crate::model::raw::Raw;
use crate::model::ticket::{TicketEntryRow, TicketFilter, TicketKnown, TicketRow};
use crate::model::time::Time;
use crate::model::view::{
    DeliveryFilter, DeliveryView, DestinationRow, Erased, EventView, LedgerFilter, LedgerRow, MessageView, QuarantineRow, Swept, Totals,
};
use crate::ports::BoxFuture;
use crate::ports::clock::{Clock, Random};
use crate::ports::publish::Publish;
use crate::ports::store::{FileView, ParseBatch, RawRecord, Retention, SourceRow, SourceState, Store, StoreError, Write, Written};
use crate::ports::tx::MediaRow;

pub use backup::{restore_backup, verify_backup};

/// What a commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// A power cut: every commit is synced before it is answered.
    #[default]
    Power,
    /// The death of the process; synced within half a second.
    Process,
}

/// How to open the store.
#[derive(Clone)]
pub struct Options {
    /// The data folder; made if it is missing.
    pub folder: PathBuf,
    /// What a commit survives.
    pub durability: Durability,
    /// Freezes events. To change routes while running, hand in one that can be swapped inside.
    pub publisher: Arc<dyn Publish>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids.
    pub random: Arc<dyn Random>,
}

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process writes to this folder.
    #[error("data folder {folder}: in use by another process")]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder was written by a newer version.
    #[error("{file}: schema {found} is newer than {known}, the newest this version knows: use the version that wrote it, or a backup")]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// There is no store, or an older one that a reader may not migrate.
    #[error("{file}: {detail}")]
    Unusable {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        detail: String,
    },
}

/// Reading connections at most; more readers wait.
const READERS_MAX: usize = 4;
/// In durability mode `process` the logs are synced this often.
const SYNC_EVERY: Duration = Duration::from_millis(400);

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupFacts {
    /// Its schema version.
    pub schema: i64,
    /// Items ever received.
    pub received: u64,
    /// Events.
    pub events: u64,
    /// Raws.
    pub raws: u64,
}

/// The store.
pub struct SqliteStore {
    // Threads end before the lock is let go: fields are dropped in this order.
    writer: Option<Owner<Writer>>,
    raws: Option<Owner<Raws>>,
    pile: Arc<Pile>,
    syncer: Option<Syncer>,
    readers: Arc<Readers>,
    folder: PathBuf,
    raws_mark: AtomicI64,
}

impl SqliteStore {
    /// Opens the folder for writing: takes its lock, migrates, loads what must grow.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let Options { folder, durability, publisher, clock, random } = options;
        let lock = Arc::new(open::lock(&folder)?);
        let raws = open::writer(&folder, Which::Raws, durability)?;
        let main = open::writer(&folder, Which::Main, durability)?;
        let path = Which::Main.path(&folder);
        care::tidy(&main, &raws).map_err(|e| open::unusable(&path, e))?;
        let writer = Writer::new(main, publisher, clock, random).map_err(|e| open::unusable(&path, e))?;
        let writer = Owner::start("store-writer", writer, lock.clone()).map_err(|e| open::unusable(&path, e))?;
        let raws =
            Owner::start("store-raws", Raws::new(raws, durability == Durability::Power), lock).map_err(|e| open::unusable(&path, e))?;
        let syncer = match durability {
            Durability::Power => None,
            Durability::Process => Some(Syncer::start(&folder).map_err(|e| open::unusable(&path, e))?),
        };
        let readers = Arc::new(Readers::new(folder.clone()));
        Ok(Self { writer: Some(writer), raws: Some(raws), pile: Arc::default(), syncer, readers, folder, raws_mark: AtomicI64::new(0) })
    }

    /// Opens the folder for reading only, for commands while no daemon runs. Writes answer [`StoreError::Unavailable`].
    ///
    /// # Errors
    /// [`OpenError`]; a missing or older store is `Unusable`.
    pub fn open_read_only(folder: &Path) -> Result<Self, OpenError> {
        let readers = Readers::new(folder.to_owned());
        let conn = open::reader(folder)?;
        open::check_current(&conn, &Which::Main.path(folder), Which::Main)?;
        readers.put(conn);
        let (readers, folder) = (Arc::new(readers), folder.to_owned());
        Ok(Self { writer: None, raws: None, pile: Arc::default(), syncer: None, readers, folder, raws_mark: AtomicI64::new(0) })
    }

    /// The folder it was opened in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn writer(&self) -> Result<&Owner<Writer>, StoreError> {
        self.writer.as_ref().ok_or_else(read_only)
    }

    fn raws(&self) -> Result<&Owner<Raws>, StoreError> {
        self.raws.as_ref().ok_or_else(read_only)
    }

    fn wrote(&self) {
        if let Some(syncer) = &self.syncer {
            syncer.dirty.store(true, Ordering::Release);
        }
    }

    /// Runs `work` on the writer's thread.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let done = self.writer()?.call(work).await;
        self.wrote();
        done
    }

    /// Runs `work` in one read transaction of both files, on a thread that may block.
    fn read<'a, T: Send + 'static>(
        &'a self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        let readers = self.readers.clone();
        Box::pin(async move {
            let permit = readers.permits.clone().acquire_owned().await.map_err(|_| closed())?;
            let task = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                let conn = readers.take()?;
                // A deferred transaction sees one snapshot from its first read on; it is only read, so its end needs no commit.
                let done = conn.unchecked_transaction().map_err(StoreError::from).and_then(|tx| work(&tx));
                readers.put(conn);
                done
            });
            task.await.map_err(|_| StoreError::Unavailable { detail: "a read panicked".to_owned() })?
        })
    }

    /// What a commit left to do in `raws.db`: nobody waits for it, and a restart or retention does what is left out.
    fn tidy(&self, leavings: writer::Leavings) {
        let Some(raws) = &self.raws else { return };
        let writer::Leavings { repeated, parsed } = leavings;
        if !repeated.is_empty() || !parsed.is_empty() {
            self.pile.leave(parsed, repeated);
            let pile = self.pile.clone();
            raws.hint(move |raws| raws.work_off(&pile));
        }
    }
}

fn read_only() -> StoreError {
    StoreError::Unavailable { detail: "the store is open for reading only".to_owned() }
}

/// Reading connections that wait for work.
struct Readers {
    folder: PathBuf,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    fn new(folder: PathBuf) -> Self {
        Self { folder, permits: Arc::new(Semaphore::new(READERS_MAX)), idle: Mutex::new(Vec::new()) }
    }

    fn take(&self) -> Result<Connection, StoreError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(conn) => Ok(conn),
            None => open::reader(&self.folder).map_err(|e| StoreError::Unavailable { detail: e.to_string() }),
        }
    }

    fn put(&self, conn: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
    }

    fn close(&self) {
        self.permits.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Durability mode `process`: syncs both logs some times a second while something is written.
struct Syncer {
    dirty: Arc<AtomicBool>,
    // Dropping the sender ends the thread.
    stop: Option<std::sync::mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Syncer {
    fn start(folder: &Path) -> std::io::Result<Self> {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let dirty = Arc::new(AtomicBool::new(false));
        let (seen, logs) = (
            dirty.clone(),
            [Which::Raws, Which::Main].map(|which| {
                let mut name = which.path(folder).into_os_string();
                name.push("-wal");
                PathBuf::from(name)
            }),
        );
        let thread = std::thread::Builder::new().name("store-syncer".to_owned()).spawn(move || {
            loop {
                let ended = !matches!(stopped.recv_timeout(SYNC_EVERY), Err(std::sync::mpsc::RecvTimeoutError::Timeout));
                if seen.swap(false, Ordering::AcqRel) {
                    for log in &logs {
                        // A log that is not there was just folded into its file, which syncs.
                        if let Err(error) = File::open(log).and_then(|file| file.sync_data())
                            && error.kind() != std::io::ErrorKind::NotFound
                        {
                            seen.store(true, Ordering::Release);
                        }
                    }
                }
                if ended {
                    return;
                }
            }
        })?;
        Ok(Self { dirty, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Store for SqliteStore {
    fn stage(&self, raws: Vec<Arc<RawRecord>>, batch: Option<ParseBatch>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let (answer, answered) = tokio::sync::oneshot::channel();
            let owner = self.raws()?;
            self.pile.stage(Staging { raws, batch, answer });
            let pile = self.pile.clone();
            owner
                .call(move |raws| {
                    raws.work_off(&pile);
                    Ok(())
                })
                .await?;
            self.wrote();
            answered.await.map_err(|_| error::closed())?
        })
    }

    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<Vec<Result<Written, StoreError>>, StoreError>> {
        Box::pin(async move {
            let (answers, leavings) = self.write(move |writer| writer.commit(writes)).await?;
            self.tidy(leavings);
            Ok(answers)
        })
    }

    fn take_lease<'a>(&'a self, name: &'a str, owner: &'a str) -> BoxFuture<'a, Result<u64, StoreError>> {
        let (name, owner) = (name.to_owned(), owner.to_owned());
        Box::pin(self.write(move |writer| writer.take_lease(&name, &owner)))
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.write(Writer::ping))
    }

    fn free_bytes(&self) -> Option<u64> {
        crate::stores::folder::free_bytes(&self.folder)
    }

    fn waiting<'a>(&'a self, destination: &'a str, after: Position, limit: usize) -> BoxFuture<'a, Result<Vec<Due>, StoreError>> {
        let destination = destination.to_owned();
        self.read(move |conn| read::waiting(conn, &destination, after, limit))
    }

    fn lane<'a>(&'a self, destination: &'a str, lane: i64, limit: usize) -> BoxFuture<'a, Result<Vec<Due>, StoreError>> {
        let destination = destination.to_owned();
        self.read(move |conn| read::lane(conn, &destination, lane, limit))
    }

    fn retrying<'a>(&'a self, destination: &'a str) -> BoxFuture<'a, Result<Vec<Due>, StoreError>> {
        let destination = destination.to_owned();
        self.read(move |conn| read::retrying(conn, &destination))
    }

    fn outgoing<'a>(&'a self, destination: &'a str, due: &'a [Due]) -> BoxFuture<'a, Result<Vec<(Position, bool, Outgoing)>, StoreError>> {
        let (destination, due): (_, Vec<_>) = (destination.to_owned(), due.iter().map(|one| (one.position, one.replay)).collect());
        self.read(move |conn| read::outgoing(conn, &destination, &due))
    }

    fn destinations(&self) -> BoxFuture<'_, Result<Vec<DestinationRow>, StoreError>> {
        self.read(read::destinations)
    }

    fn totals(&self) -> BoxFuture<'_, Result<Totals, StoreError>> {
        self.read(read::totals)
    }

    fn events_after(&self, after: Position, limit: usize) -> BoxFuture<'_, Result<Vec<(Position, Bytes)>, StoreError>> {
        self.read(move |conn| read::events_after(conn, after, limit))
    }

    fn ledger(&self, filter: LedgerFilter) -> BoxFuture<'_, Result<Vec<LedgerRow>, StoreError>> {
        self.read(move |conn| views::ledger(conn, &filter))
    }

    fn message(&self, id: MessageId) -> BoxFuture<'_, Result<Option<MessageView>, StoreError>> {
        self.read(move |conn| views::message(conn, id))
    }

    fn event(&self, id: EventId) -> BoxFuture<'_, Result<Option<EventView>, StoreError>> {
        self.read(move |conn| views::event(conn, id))
    }

    fn deliveries(&self, filter: DeliveryFilter) -> BoxFuture<'_, Result<Vec<DeliveryView>, StoreError>> {
        self.read(move |conn| views::deliveries(conn, &filter))
    }

    fn count_deliveries(&self, filter: DeliveryFilter) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.read(move |conn| views::count_deliveries(conn, &filter))
    }

    fn quarantine<'a>(
        &'a self,
        channel: Option<&'a str>,
        before: Option<i64>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<QuarantineRow>, StoreError>> {
        let channel = channel.map(str::to_owned);
        self.read(move |conn| views::quarantine(conn, channel.as_deref(), before, limit))
    }

    fn raw(&self, id: RawId) -> BoxFuture<'_, Result<Option<(Raw, Option<String>)>, StoreError>> {
        self.read(move |conn| views::raw(conn, id))
    }

    fn file(&self, attachment: AttachmentId) -> BoxFuture<'_, Result<Option<FileView>, StoreError>> {
        self.read(move |conn| views::file(conn, attachment))
    }

    fn media<'a>(&'a self, channel: Option<&'a str>, limit: usize) -> BoxFuture<'a, Result<Vec<MediaRow>, StoreError>> {
        let channel = channel.map(str::to_owned);
        self.read(move |conn| read::media(conn, channel.as_deref(), limit))
    }

    fn tickets_of<'a>(
        &'a self,
        destination: &'a str,
        conversation: ConversationId,
        event: EventId,
    ) -> BoxFuture<'a, Result<TicketKnown, StoreError>> {
        let destination = destination.to_owned();
        self.read(move |conn| tickets::known(conn, &destination, conversation, event))
    }

    fn tickets(&self, filter: TicketFilter) -> BoxFuture<'_, Result<Vec<TicketRow>, StoreError>> {
        self.read(move |conn| tickets::tickets(conn, &filter))
    }

    fn ticket_entries(&self, event: EventId) -> BoxFuture<'_, Result<Vec<TicketEntryRow>, StoreError>> {
        self.read(move |conn| tickets::entries(conn, event))
    }

    fn pending(&self, limit: usize) -> BoxFuture<'_, Result<Vec<(i64, Time)>, StoreError>> {
        self.read(move |conn| read::pending(conn, limit))
    }

    fn sources<'a>(&'a self, account: &'a str) -> BoxFuture<'a, Result<Vec<SourceState>, StoreError>> {
        let account = account.to_owned();
        self.read(move |conn| read::sources(conn, &account))
    }

    fn unsettled<'a>(&'a self, source: &'a (String, String, u64), limit: usize) -> BoxFuture<'a, Result<Vec<SourceRow>, StoreError>> {
        let source = source.clone();
        self.read(move |conn| read::unsettled(conn, &source, limit))
    }

    fn source_rows<'a>(
        &'a self,
        source: &'a (String, String, u64),
        after: (u64, u64),
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(u64, SourceRow)>, StoreError>> {
        let source = source.clone();
        self.read(move |conn| read::source_rows(conn, &source, after, limit))
    }

    fn interrupted<'a>(&'a self, account: &'a str) -> BoxFuture<'a, Result<Vec<ParseBatch>, StoreError>> {
        let account = account.to_owned();
        self.read(move |conn| read::interrupted(conn, &account))
    }

    fn cursors<'a>(&'a self, account: &'a str) -> BoxFuture<'a, Result<BTreeMap<String, String>, StoreError>> {
        let account = account.to_owned();
        self.read(move |conn| read::cursors(conn, &account))
    }

    fn memo<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<String>, StoreError>> {
        let key = key.to_owned();
        self.read(move |conn| read::memo(conn, &key))
    }

    fn sweep<'a>(&'a self, retention: &'a Retention, now: Time) -> BoxFuture<'a, Result<Swept, StoreError>> {
        let (retention, mark) = (retention.clone(), self.raws_mark.load(Ordering::Acquire));
        Box::pin(async move {
            let keep = retention.clone();
            let mut swept = self.write(move |writer| care::sweep(writer, &keep, now)).await?;
            let (old, next) = self.read(move |conn| care::old_raws(conn, &retention, now, mark)).await?;
            if !old.is_empty() {
                (swept.raws, swept.blobs) = self.raws()?.call(move |raws| raws.remove(&old)).await?;
                self.wrote();
            }
            self.raws_mark.store(next, Ordering::Release);
            swept.more |= next != 0;
            Ok(swept)
        })
    }

    fn erase(&self, contact: ContactId) -> BoxFuture<'_, Result<Option<Erased>, StoreError>> {
        Box::pin(async move {
            let Some((mut erased, raws)) = self.write(move |writer| care::erase(writer, contact)).await? else {
                return Ok(None);
            };
            let (count, blobs) = self.raws()?.call(move |owned| owned.erase(&raws)).await?;
            self.wrote();
            erased.raws = count;
            erased.blobs.extend(blobs);
            Ok(Some(erased))
        })
    }

    fn backup<'a>(&'a self, folder: &'a Path) -> BoxFuture<'a, Result<Vec<String>, StoreError>> {
        let (from, to) = (self.folder.clone(), folder.to_owned());
        Box::pin(async move {
            let task = tokio::task::spawn_blocking(move || backup::copy(&from, &to));
            task.await.map_err(|_| StoreError::Unavailable { detail: "the backup panicked".to_owned() })?
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.readers.close();
            if let (Some(writer), Some(raws)) = (&self.writer, &self.raws) {
                writer.last(|writer| fold(&writer.conn)).await?;
                raws.last(|raws| fold(&raws.conn)).await?;
            }
            Ok(())
        })
    }
}

/// Folds the log into its file.
fn fold(conn: &Connection) -> Result<(), StoreError> {
    Ok(conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
}
