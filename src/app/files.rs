//! Files: the bytes of an attachment, wherever they are — a slice of its mail, or a blob of its own.

use std::sync::Arc;

use bytes::Bytes;

use crate::connector::mail::decode_slice;
use crate::model::id::{AttachmentId, RawId};
use crate::model::item::FilePlace;
use crate::ports::BoxFuture;
use crate::ports::blobs::{BlobError, Blobs};
use crate::ports::control::FileBytes;
use crate::ports::destination::FileReader;
use crate::ports::store::{FileView, Store, StoreError};

/// Reads files of messages.
#[derive(Clone)]
pub struct Files {
    /// Knows where they are.
    pub store: Arc<dyn Store>,
    /// Large raws and fetched files.
    pub blobs: Arc<dyn Blobs>,
}

/// Why a file could not be read just now.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The blob store failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

impl Files {
    /// The decoded file; `None` if it is gone for good.
    ///
    /// # Errors
    /// [`FileError`]; trying again may help.
    pub async fn file(&self, attachment: AttachmentId) -> Result<Option<FileBytes>, FileError> {
        match self.store.file(attachment).await? {
            None => Ok(None),
            Some(view) => self.read(view).await,
        }
    }

    async fn read(&self, view: FileView) -> Result<Option<FileBytes>, FileError> {
        let bytes = match &view.place {
            FilePlace::Blob { key } => match self.blobs.read(key).await {
                Err(BlobError::Missing { .. }) => None,
                other => Some(other?),
            },
            FilePlace::Within { start, end, encoding, skip, bytes } => {
                let outer = self.slice(view.raw, *start, *end).await?.map(|encoded| Bytes::from(decode_slice(&encoded, *encoding)));
                let (from, length) = (usize::try_from(*skip).unwrap_or(usize::MAX), usize::try_from(*bytes).unwrap_or(usize::MAX));
                let to = from.saturating_add(length);
                outer.filter(|outer| from <= to && to <= outer.len()).map(|outer| outer.slice(from..to))
            }
            FilePlace::Slice { start, end, encoding } => {
                let encoded = self.slice(view.raw, *start, *end).await?;
                encoded.map(|encoded| Bytes::from(decode_slice(&encoded, *encoding)))
            }
        };
        Ok(bytes.map(|bytes| FileBytes { media_type: view.media_type, name: view.name, bytes }))
    }

    async fn slice(&self, raw: RawId, start: u64, end: u64) -> Result<Option<Bytes>, FileError> {
        let Some((raw, blob)) = self.store.raw(raw).await? else { return Ok(None) };
        if let Some(key) = blob {
            return match self.blobs.read_range(&key, start, end).await {
                Err(BlobError::Missing { .. }) => Ok(None),
                other => Ok(Some(other?)),
            };
        }
        let (start, end) = (usize::try_from(start).unwrap_or(usize::MAX), usize::try_from(end).unwrap_or(usize::MAX));
        // A slice outside of its raw can only come from a damaged store: the file is gone.
        Ok((start <= end && end <= raw.body.len()).then(|| raw.body.slice(start..end)))
    }

    /// The body of a raw; `None` if it is gone.
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn raw(&self, id: RawId) -> Result<Option<crate::model::raw::Raw>, FileError> {
        let Some((mut raw, blob)) = self.store.raw(id).await? else { return Ok(None) };
        if let Some(key) = blob {
            raw.body = match self.blobs.read(&key).await {
                Err(BlobError::Missing { .. }) => return Ok(None),
                other => other?,
            };
        }
        Ok(Some(raw))
    }
}

impl FileReader for Files {
    fn read(&self, attachment: AttachmentId, bytes_max: u64) -> BoxFuture<'_, Result<Option<Bytes>, String>> {
        Box::pin(async move {
            let view = match self.store.file(attachment).await.map_err(|error| error.to_string())? {
                None => return Ok(None),
                // Known to be too large: do not read it at all.
                Some(view) if view.bytes.is_some_and(|bytes| bytes > bytes_max) => return Ok(None),
                Some(view) => view,
            };
            let file = self.read(view).await.map_err(|error| error.to_string())?;
            Ok(file.map(|file| file.bytes).filter(|bytes| bytes.len() as u64 <= bytes_max))
        })
    }
}
