//! Blobs: large raws and fetched files.

use bytes::Bytes;

use crate::ports::BoxFuture;

/// Why a blob could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// There is no such blob.
    #[error("no blob `{key}`")]
    Missing {
        /// Its key.
        key: String,
    },
    /// The disk is full.
    #[error("the blob store is full")]
    Full,
    /// Anything else; trying again may help.
    #[error("blob store: {detail}")]
    Unavailable {
        /// What went wrong.
        detail: String,
    },
}

/// Durable bytes by key. Keys are relative paths of `[a-z0-9_/-.]`, never from outside.
pub trait Blobs: Send + Sync {
    /// Keeps `bytes` under `key`; on return they survive a power cut (in durability mode `process`: the death of the process).
    /// Writing the same key again with the same bytes is fine.
    fn put<'a>(&'a self, key: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<(), BlobError>>;

    /// The whole blob.
    fn read<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Bytes, BlobError>>;

    /// Bytes `start..end` of the blob.
    fn read_range<'a>(&'a self, key: &'a str, start: u64, end: u64) -> BoxFuture<'a, Result<Bytes, BlobError>>;

    /// Begins a blob whose bytes come piece by piece and that gets its key when it is kept: only then is it there, whole and durable.
    fn spool(&self) -> BoxFuture<'_, Result<Box<dyn Incoming>, BlobError>>;

    /// Removes the blob; removing a missing one is fine.
    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), BlobError>>;

    /// Free bytes on the medium; `None` where that has no meaning.
    fn free_bytes(&self) -> Option<u64>;
}

/// A blob that is coming in. Dropped before it is kept, it is gone; what a crash leaves of it is gone after the next start.
pub trait Incoming: Send {
    /// Adds bytes at its end.
    fn write(&mut self, piece: Bytes) -> BoxFuture<'_, Result<(), BlobError>>;

    /// Keeps what was written under `key`; on return it is as durable as after [`Blobs::put`].
    fn keep<'a>(self: Box<Self>, key: &'a str) -> BoxFuture<'a, Result<(), BlobError>>;
}
