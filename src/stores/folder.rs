//! Blobs in a local folder: large raws and fetched files, through `object_store`.
//!
//! What must stay true: a `put` that returned survives what the durability mode promises. A blob is written to a file of the spool, whole
//! or in pieces, and renamed when it is durable: it is there whole or not at all. Reading and removing is `object_store`'s.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use object_store::ObjectStoreExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use tokio::io::AsyncWriteExt as _;

use crate::ports::BoxFuture;
use crate::ports::blobs::{BlobError, Blobs, Incoming};

/// Where blobs are that are coming in. No key leads here: none has a part that begins with a dot.
const SPOOL: &str = ".spool";

/// A folder of blobs.
#[derive(Debug)]
pub struct FolderBlobs {
    folder: PathBuf,
    inner: LocalFileSystem,
    sync: bool,
    /// Numbers the files of the spool.
    incoming: AtomicU64,
}

impl FolderBlobs {
    /// Opens `folder`, and makes it if it is missing. `sync`: every `put` is synced before it returns (durability `power`).
    ///
    /// # Errors
    /// [`BlobError::Unavailable`] if the folder cannot be made or used.
    pub fn open(folder: &Path, sync: bool) -> Result<Self, BlobError> {
        let unavailable = |detail: String| BlobError::Unavailable { detail: format!("{}: {detail}", folder.display()) };
        crate::stores::make_private(folder).map_err(|e| unavailable(e.to_string()))?;
        let inner = LocalFileSystem::new_with_prefix(folder).map_err(|e| unavailable(e.to_string()))?;
        Ok(Self { folder: folder.to_owned(), inner, sync, incoming: AtomicU64::new(0) })
    }

    /// Removes what an earlier process left in the spool. For the process that owns the folder, before it begins.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`] if the spool cannot be cleaned.
    pub fn clean_spool(&self) -> Result<(), BlobError> {
        match std::fs::remove_dir_all(self.folder.join(SPOOL)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(&error)),
            _ => Ok(()),
        }
    }

    /// The name of a new file of the spool, which goes unless it becomes a blob.
    fn spool_file(&self) -> Result<Leftover, BlobError> {
        let spool = self.folder.join(SPOOL);
        crate::stores::make_private(&spool).map_err(|e| failed(&e))?;
        Ok(Leftover(spool.join(self.incoming.fetch_add(1, Ordering::Relaxed).to_string())))
    }
}

/// Does what waits for the disk.
async fn blocking(work: impl FnOnce() -> std::io::Result<()> + Send + 'static) -> Result<(), BlobError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| BlobError::Unavailable { detail: error.to_string() })?;
    done.map_err(|e| failed(&e))
}

impl Blobs for FolderBlobs {
    fn put<'a>(&'a self, key: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<(), BlobError>> {
        Box::pin(async move {
            let to = self.folder.join(parse(key)?.as_ref());
            let leftover = self.spool_file()?;
            let (folder, sync) = (self.folder.clone(), self.sync);
            blocking(move || {
                let mut file = std::fs::File::create(&leftover.0)?;
                file.write_all(&bytes)?;
                rename(&file, &leftover.0, &to, sync.then_some(&folder))?;
                if sync {
                    // A raw is kept for months and seldom read. Its pages are given to the next one at once: fresh ones cost several times
                    // what is written into them. Where the file system does not take the advice, nothing is lost.
                    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
                }
                Ok(())
            })
            .await
        })
    }

    fn read<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Bytes, BlobError>> {
        Box::pin(async move {
            let found = self.inner.get(&parse(key)?).await.map_err(|e| said(key, e))?;
            found.bytes().await.map_err(|e| said(key, e))
        })
    }

    fn read_range<'a>(&'a self, key: &'a str, start: u64, end: u64) -> BoxFuture<'a, Result<Bytes, BlobError>> {
        Box::pin(async move {
            if end <= start {
                return Ok(Bytes::new());
            }
            self.inner.get_range(&parse(key)?, start..end).await.map_err(|e| said(key, e))
        })
    }

    fn spool(&self) -> BoxFuture<'_, Result<Box<dyn Incoming>, BlobError>> {
        Box::pin(async move {
            let leftover = self.spool_file()?;
            let file = tokio::fs::File::create(&leftover.0).await.map_err(|e| failed(&e))?;
            Ok(Box::new(SpoolFile { file, gathered: BytesMut::new(), leftover, folder: self.folder.clone(), sync: self.sync })
                as Box<dyn Incoming>)
        })
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), BlobError>> {
        Box::pin(async move {
            match self.inner.delete(&parse(key)?).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(said(key, error)),
            }
        })
    }

    fn free_bytes(&self) -> Option<u64> {
        free_bytes(&self.folder)
    }
}

/// Pieces smaller than this are gathered: a write of the file system each would be dear.
const PIECE_BYTES_MIN: usize = 256 * 1024;

/// A blob that is coming in.
struct SpoolFile {
    file: tokio::fs::File,
    gathered: BytesMut,
    leftover: Leftover,
    folder: PathBuf,
    sync: bool,
}

/// A file that goes with its owner, unless it has become a blob.
struct Leftover(PathBuf);

impl Drop for Leftover {
    fn drop(&mut self) {
        // Renamed, or removed with the spool at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl SpoolFile {
    async fn append(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.file.write_all(bytes).await.map_err(|e| failed(&e))?;
        // A write of tokio's is only begun: its failure would be told with the next one.
        self.file.flush().await.map_err(|e| failed(&e))
    }
}

impl Incoming for SpoolFile {
    fn write(&mut self, piece: Bytes) -> BoxFuture<'_, Result<(), BlobError>> {
        Box::pin(async move {
            if self.gathered.is_empty() && piece.len() >= PIECE_BYTES_MIN {
                return self.append(&piece).await;
            }
            self.gathered.extend_from_slice(&piece);
            if self.gathered.len() < PIECE_BYTES_MIN {
                return Ok(());
            }
            let gathered = self.gathered.split();
            self.append(&gathered).await
        })
    }

    fn keep<'a>(mut self: Box<Self>, key: &'a str) -> BoxFuture<'a, Result<(), BlobError>> {
        Box::pin(async move {
            let to = self.folder.join(parse(key)?.as_ref());
            let rest = self.gathered.split();
            self.append(&rest).await?;
            let Self { file, leftover, folder, sync, .. } = *self;
            let file = file.into_std().await;
            blocking(move || rename(&file, &leftover.0, &to, sync.then_some(&folder))).await
        })
    }
}

/// Gives a file its name in a folder that may be new; with `sync_up_to` both survive a power cut.
fn rename(file: &std::fs::File, from: &Path, to: &Path, sync_up_to: Option<&PathBuf>) -> std::io::Result<()> {
    if sync_up_to.is_some() {
        file.sync_all()?;
    }
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::rename(from, to)?;
    let Some(top) = sync_up_to else { return Ok(()) };
    for folder in to.ancestors().skip(1) {
        std::fs::File::open(folder)?.sync_all()?;
        if folder == top {
            break;
        }
    }
    Ok(())
}

fn failed(error: &std::io::Error) -> BlobError {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => BlobError::Full,
        _ => BlobError::Unavailable { detail: error.to_string() },
    }
}

/// Free bytes for an ordinary process on the medium of `folder`.
pub fn free_bytes(folder: &Path) -> Option<u64> {
    let facts = rustix::fs::statvfs(folder).ok()?;
    Some(facts.f_bavail.saturating_mul(facts.f_frsize))
}

/// Keys are ours, never from outside; still nothing but plain relative paths passes.
fn parse(key: &str) -> Result<Key, BlobError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"_-./".contains(&byte);
    if key.is_empty() || !key.bytes().all(plain) || key.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
        return Err(BlobError::Unavailable { detail: "not a blob key".into() });
    }
    Key::parse(key).map_err(|e| BlobError::Unavailable { detail: e.to_string() })
}

fn said(key: &str, error: object_store::Error) -> BlobError {
    match error {
        object_store::Error::NotFound { .. } => BlobError::Missing { key: key.to_owned() },
        other => BlobError::Unavailable { detail: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn a_blob_is_read_back_whole_in_part_and_gone_after_delete() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = FolderBlobs::open(&folder.path().join("blobs"), true).unwrap();
        let key = "raws/ab/raw_01";
        blobs.put(key, Bytes::from_static(b"hello world")).await.unwrap();
        blobs.put(key, Bytes::from_static(b"hello world")).await.unwrap();
        assert_eq!(blobs.read(key).await.unwrap(), "hello world");
        assert_eq!(blobs.read_range(key, 6, 11).await.unwrap(), "world");
        blobs.delete(key).await.unwrap();
        blobs.delete(key).await.unwrap();
        assert!(matches!(blobs.read(key).await, Err(BlobError::Missing { .. })));
        assert!(blobs.free_bytes().unwrap() > 0);
    }

    #[tokio::test]
    async fn a_blob_written_in_pieces_is_there_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = FolderBlobs::open(folder.path(), true).unwrap();
        let mut writing = blobs.spool().await.unwrap();
        for _ in 0..3 {
            writing.write(Bytes::from(vec![7; 200_000])).await.unwrap();
        }
        assert!(matches!(blobs.read("media/ab/att_1").await, Err(BlobError::Missing { .. })));
        writing.keep("media/ab/att_1").await.unwrap();
        assert_eq!(blobs.read("media/ab/att_1").await.unwrap().len(), 600_000);
        let mut cut = blobs.spool().await.unwrap();
        cut.write(Bytes::from(vec![7; 300_000])).await.unwrap();
        drop(cut);
        drop(blobs.spool().await.unwrap());
        let left = |path: &str| std::fs::read_dir(folder.path().join(path)).unwrap().count();
        assert_eq!((left("media/ab"), left(SPOOL)), (1, 0), "what was cut leaves nothing");
    }

    #[tokio::test]
    async fn a_blob_that_comes_in_pieces_is_there_when_it_is_kept_and_leaves_nothing_when_it_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = FolderBlobs::open(folder.path(), true).unwrap();
        let spooled = || std::fs::read_dir(folder.path().join(SPOOL)).map_or(0, Iterator::count);
        let mut kept = blobs.spool().await.unwrap();
        let mut dropped = blobs.spool().await.unwrap();
        for piece in ["hello ", "world"] {
            kept.write(Bytes::from_static(piece.as_bytes())).await.unwrap();
            dropped.write(Bytes::from_static(piece.as_bytes())).await.unwrap();
        }
        assert_eq!(spooled(), 2);
        kept.keep("raws/cd/raw_02").await.unwrap();
        drop(dropped);
        assert_eq!(blobs.read("raws/cd/raw_02").await.unwrap(), "hello world");
        assert_eq!(spooled(), 0);
        // What a process left that was killed.
        std::fs::write(folder.path().join(SPOOL).join("7"), "half").unwrap();
        blobs.clean_spool().unwrap();
        blobs.clean_spool().unwrap();
        assert_eq!(spooled(), 0);
        let mut again = blobs.spool().await.unwrap();
        again.write(Bytes::from_static(b"x")).await.unwrap();
        assert!(again.keep("../x").await.is_err());
        assert_eq!(spooled(), 0);
    }

    #[tokio::test]
    async fn a_key_that_leaves_the_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = FolderBlobs::open(folder.path(), false).unwrap();
        for key in ["", "../x", "/etc/passwd", "a//b", "a/./b", "a b", ".hidden"] {
            assert!(matches!(blobs.put(key, Bytes::new()).await, Err(BlobError::Unavailable { .. })), "{key}");
        }
    }
}
