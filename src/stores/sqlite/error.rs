//! What SQLite's answers mean for the caller. Its messages name tables and columns, never values (I7).

use rusqlite::ErrorCode;

use crate::ports::store::StoreError;

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig) => {
                Self::Invariant { detail: error.to_string() }
            }
            Some(_) => Self::Unavailable { detail: error.to_string() },
            // No answer of SQLite at all: a row that does not read as what was written.
            None => Self::Invariant { detail: error.to_string() },
        }
    }
}

/// Whether a write that failed so takes its whole batch with it.
pub(super) fn ends_batch(error: &StoreError) -> bool {
    matches!(error, StoreError::Full | StoreError::Unavailable { .. })
}

/// The store is closed, or its thread is gone.
pub(super) fn closed() -> StoreError {
    StoreError::Unavailable { detail: "the store is closed".to_owned() }
}
