//! The embedded store: SQLite behind the `Store` port.
//!
//! Two files: `omnigate.db` holds every row that must change together, `raws.db` holds the bytes of raws and is committed just
//! before, so that a row never names bytes that are not durable. One thread owns the write connection of each file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::model::delivery::{Due, Outgoing, Position};
use crate::model::id::{AttachmentId, ContactId, EventId, MessageId, RawId};
use crate::model::raw::Raw;
use crate::model::time::Time;
use crate::model::view::*;
use crate::ports::BoxFuture;
use crate::ports::clock::{Clock, Random};
use crate::ports::publish::Publish;
use crate::ports::store::*;

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

/// The store.
pub struct SqliteStore {}

impl SqliteStore {
    /// Opens the folder for writing: takes its lock, migrates, loads what must grow.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(options: Options) -> Result<Self, OpenError> {
        Err(OpenError::Unusable { file: options.folder, detail: "not built yet".into() })
    }

    /// Opens the folder for reading only, for commands while no daemon runs. Writes answer [`StoreError::Unavailable`].
    ///
    /// # Errors
    /// [`OpenError`]; a missing or older store is `Unusable`.
    pub fn open_read_only(folder: &Path) -> Result<Self, OpenError> {
        Err(OpenError::Unusable { file: folder.to_owned(), detail: "not built yet".into() })
    }
}

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

/// Checks a folder that [`Store::backup`] wrote: both files whole, the schema known, the identities of I3 kept.
///
/// # Errors
/// [`OpenError`] naming the file.
pub fn verify_backup(folder: &Path) -> Result<BackupFacts, OpenError> {
    Err(OpenError::Unusable { file: folder.to_owned(), detail: "not built yet".into() })
}

/// Puts a checked backup in the place of the store in `data_dir`; refused while a daemon holds it.
///
/// # Errors
/// [`OpenError`].
pub fn restore_backup(folder: &Path, _data_dir: &Path) -> Result<BackupFacts, OpenError> {
    verify_backup(folder)
}

fn not_built() -> StoreError {
    StoreError::Unavailable { detail: "not built yet".into() }
}

impl Store for SqliteStore {
    fn stage(&self, _raws: Vec<Arc<RawRecord>>, _batch: Option<ParseBatch>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Err(not_built()) })
    }

    fn commit(&self, _writes: Vec<Write>) -> BoxFuture<'_, Result<Vec<Result<Written, StoreError>>, StoreError>> {
        Box::pin(async { Err(not_built()) })
    }

    fn take_lease<'a>(&'a self, _name: &'a str, _owner: &'a str) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async { Err(not_built()) })
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Err(not_built()) })
    }

    fn free_bytes(&self) -> Option<u64> {
        None
    }

    fn waiting<'a>(&'a self, _destination: &'a str, _after: Position, _limit: usize) -> BoxFuture<'a, Result<Vec<Due>, StoreError>> {
        Box::pin(async { Err(not_built()) })
    }

    fn lane<'a>(&'a self, _destination: &'a str, _lane: i64, _limit: usize) -> BoxFuture<'a, Result<Vec<Due>, StoreError>> {
        Box::pin(async { Err(not_built()) })
    }

    fn retrying<'a>(&'a self, _destination: &'a str) -> BoxFuture<'a, Result<Vec<Due>, StoreError>> {
        Box::pin(async { Err(not_built()) })
    }

    fn outgoing<'a>(
        &'a self,
        _destination: &'a str,
        _due: &'a [Due],
    ) -> BoxFuture<'a, Result<Vec<(Position, bool, Outgoing)>, StoreError>> {
        Box::pin(async { Err(not_built()) })
    }

    fn destinations(&self) -> BoxFuture<'_, Result<Vec<DestinationRow>, StoreError>> {
        Box::pin(async { Err(not_built()) })
    }

    fn totals(&self) -> BoxFuture<'_, Result<Totals, StoreError>> {
        Box::pin(async { Err(not_built()) })
    }

    fn events_after(&self, _after: Position, _limit: usize) -> BoxFuture<'_, Result<Vec<(Position, Bytes)>, StoreError>> {
        Box::pin(async { Err(not_built()) })
    }

    fn ledger(&self, _filter: LedgerFilter) -> BoxFuture<'_, Result<Vec<LedgerRow>, StoreError>> {
        Box::pin(async { Err(not_built()) })
    }

    fn message(&self, _id: MessageId) -> BoxFuture<'_, Result<Option<MessageView>, StoreError>> {
        Box::pin(async { Err(not_built()) })
    }

    fn event(&self, _id: EventId) -> BoxFuture<'_, Result<Option<EventView>, StoreError>> {
        Box::pin(async { Err(not_built()) })
    }

    fn deliveries(&self, _filter: DeliveryFilter) -> BoxFuture<'_, Result<Vec<DeliveryView>, StoreError>> {
        Box::pin(async { Err(not_built()) })
    }

    fn count_deliveries(&self, _filter: DeliveryFilter) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async { Err(not_built()) })
    }

    fn quarantine<'a>(&'a self, _channel: Option<&'a str>, _limit: usize) -> BoxFuture<'a, Result<Vec<QuarantineRow>, StoreError>> {
        Box::pin(async { Err(not_built()) })
    }

    fn raw(&self, _id: RawId) -> BoxFuture<'_, Result<Option<(Raw, Option<String>)>, StoreError>> {
        Box::pin(async { Err(not_built()) })
    }

    fn file(&self, _attachment: AttachmentId) -> BoxFuture<'_, Result<Option<FileView>, StoreError>> {
        Box::pin(async { Err(not_built()) })
    }

    fn pending(&self, _limit: usize) -> BoxFuture<'_, Result<Vec<(i64, Time)>, StoreError>> {
        Box::pin(async { Err(not_built()) })
    }

    fn sources<'a>(&'a self, _account: &'a str) -> BoxFuture<'a, Result<Vec<SourceState>, StoreError>> {
        Box::pin(async { Err(not_built()) })
    }

    fn unsettled<'a>(&'a self, _source: &'a (String, String, u64), _limit: usize) -> BoxFuture<'a, Result<Vec<SourceRow>, StoreError>> {
        Box::pin(async { Err(not_built()) })
    }

    fn interrupted<'a>(&'a self, _account: &'a str) -> BoxFuture<'a, Result<Vec<ParseBatch>, StoreError>> {
        Box::pin(async { Err(not_built()) })
    }

    fn memo<'a>(&'a self, _key: &'a str) -> BoxFuture<'a, Result<Option<String>, StoreError>> {
        Box::pin(async { Err(not_built()) })
    }

    fn sweep<'a>(&'a self, _retention: &'a Retention, _now: Time) -> BoxFuture<'a, Result<Swept, StoreError>> {
        Box::pin(async { Err(not_built()) })
    }

    fn erase(&self, _contact: ContactId) -> BoxFuture<'_, Result<Option<Erased>, StoreError>> {
        Box::pin(async { Err(not_built()) })
    }

    fn backup<'a>(&'a self, _folder: &'a Path) -> BoxFuture<'a, Result<Vec<String>, StoreError>> {
        Box::pin(async { Err(not_built()) })
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Err(not_built()) })
    }
}
