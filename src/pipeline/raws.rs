//! Raws: how a body is kept before it is admitted. Small ones go with their row, large ones to the blob store first.

use crate::model::raw::{RAW_ROW_BYTES_MAX, Raw};
use crate::ports::blobs::{BlobError, Blobs};
use crate::ports::store::{RawPlace, RawRecord, StoreError};

/// Key of the blob of what has this id: a large raw, a fetched file.
pub fn blob_key(folder: &str, id: impl std::fmt::Display) -> String {
    let name = id.to_string().to_ascii_lowercase();
    // The last two digits are random: folders fill evenly.
    let shard = name.get(name.len().saturating_sub(2)..).unwrap_or("00");
    format!("{folder}/{shard}/{name}")
}

/// A failed blob as a store error: full is full, wherever.
pub fn blob_failed(error: &BlobError) -> StoreError {
    match error {
        BlobError::Full => StoreError::Full,
        other => StoreError::Unavailable { detail: other.to_string() },
    }
}

/// A raw as it is kept; a large body is durable when this returns.
///
/// # Errors
/// The blob store did not take it.
pub async fn keep(raw: Raw, blobs: &dyn Blobs) -> Result<RawRecord, StoreError> {
    let Raw { id, source, via, received_at, head, body } = raw;
    let bytes = body.len() as u64;
    let place = if body.len() > RAW_ROW_BYTES_MAX {
        let key = blob_key("raws", id);
        blobs.put(&key, body).await.map_err(|error| blob_failed(&error))?;
        RawPlace::Blob(key)
    } else {
        RawPlace::Row(body)
    };
    Ok(RawRecord { id, source, via, received_at, head, bytes, place })
}
