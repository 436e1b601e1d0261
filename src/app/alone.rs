//! Alone: the store while no daemon runs, taken for a moment.
//!
//! What must stay true: who has the store open for writing has it alone, by the lock of its folder; so a refresh token that is good for
//! one use only is used by one process at a time, and its successor is on disk before that process lets go.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::app::system::{SystemClock, SystemRandom};
use crate::model::codes::Code;
use crate::model::event::Event;
use crate::model::time::Time;
use crate::ports::BoxFuture;
use crate::ports::publish::{Frozen, Publish};
use crate::ports::token::{AccessToken, TokenError, TokenSource};
use crate::stores::sqlite::{self, OpenError, SqliteStore};

/// Whoever takes the store for a moment lets go of it within this.
pub const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Opens the store for writing, while no daemon runs.
///
/// # Errors
/// [`OpenError`]; `Locked` if another process has it.
pub fn open(folder: &Path) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(sqlite::Options {
        folder: folder.to_owned(),
        durability: sqlite::Durability::Power,
        publisher: Arc::new(Nothing),
        clock: Arc::new(SystemClock::default()),
        random: Arc::new(SystemRandom::default()),
    })
}

/// Waits for a store that another process has only for a moment: `open` is tried until it is not locked, or `patience` is over.
///
/// # Errors
/// The last answer of `open`.
pub fn patiently(patience: Duration, open: impl Fn() -> Result<SqliteStore, OpenError>) -> Result<SqliteStore, OpenError> {
    let mut waited = Duration::ZERO;
    loop {
        match open() {
            Err(OpenError::Locked { .. }) if waited < patience => {
                std::thread::sleep(LOOK_EVERY);
                waited += LOOK_EVERY;
            }
            opened => return opened,
        }
    }
}

/// What is done without the daemon publishes nothing.
struct Nothing;

impl Publish for Nothing {
    fn freeze(&self, _: Event) -> Frozen {
        Frozen { bytes: Vec::new(), destinations: Vec::new() }
    }
}

/// A token that was had while the store was ours. There is no second one: asking for it would use up what is the daemon's.
pub struct OneToken(pub AccessToken);

impl TokenSource for OneToken {
    fn token<'a>(&'a self, refused: Option<&'a AccessToken>) -> BoxFuture<'a, Result<AccessToken, TokenError>> {
        let detail = "the server refuses the token of the identity provider".to_owned();
        let answer = if refused.is_some() { Err(TokenError::Person { code: Code::AuthFailed, detail }) } else { Ok(self.0.clone()) };
        Box::pin(std::future::ready(answer))
    }

    fn consent_ends(&self) -> BoxFuture<'_, Option<Time>> {
        Box::pin(std::future::ready(None))
    }
}
