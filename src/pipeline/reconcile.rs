//! Reconcile: a mailbox against the rows of what was taken in from it, page by page, so that its size does not matter.

use crate::logic::reconcile::{Ground, compare};
use crate::model::time::Time;
use crate::pipeline::pull::backfill_key;
use crate::ports::control::{FolderCompared, Sample};
use crate::ports::inspect::{Inspect, Inspected, Page};
use crate::ports::pull::PullError;
use crate::ports::store::{SourceRow, SourceState, Store, StoreError};

/// Rows read at once.
const ROWS_MAX: usize = 2_000;

/// Why a mailbox could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The mailbox could not be read.
    #[error("{}: {}", .0.code(), .0)]
    Source(#[from] PullError),
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Compares all folders. `backfill`: what was there before the first run is to be there.
///
/// # Errors
/// [`ReconcileError`].
pub async fn reconcile(source: &dyn Inspected, store: &dyn Store, backfill: bool) -> Result<Vec<FolderCompared>, ReconcileError> {
    let mut look = source.inspect().await?;
    let compared = folders(&mut *look, &source.account(), store, backfill).await;
    look.close().await;
    compared
}

async fn folders(look: &mut dyn Inspect, account: &str, store: &dyn Store, backfill: bool) -> Result<Vec<FolderCompared>, ReconcileError> {
    let states = store.sources(account).await?;
    let since = store.memo(&backfill_key(account)).await?.and_then(|text| Time::parse(&text));
    let mut all: Vec<FolderCompared> = Vec::new();
    while let Some(page) = look.next().await? {
        if all.last().is_none_or(|last| last.folder != page.folder) {
            all.push(FolderCompared { folder: page.folder.clone(), mailbox: page.exists, ..FolderCompared::default() });
        }
        let Some(folder) = all.last_mut() else { continue };
        // The newest numbering of the folder.
        let state = states.iter().filter(|state| state.folder == page.folder).max_by_key(|state| state.epoch);
        match state {
            None => "unseen".clone_into(&mut folder.state),
            Some(state) if state.epoch_name != page.epoch_name => "renumbered".clone_into(&mut folder.state),
            Some(state) => {
                "compared".clone_into(&mut folder.state);
                folder.cursor = state.low_water;
                let rows = rows(store, account, state, &page).await?;
                // One row of an old mail shows that a backfill has been here.
                folder.from_the_start |= backfill || rows.iter().any(|row| row.uid <= state.first_run_top);
                add(folder, &page, &rows, Ground { state, from_the_start: folder.from_the_start, since });
            }
        }
    }
    Ok(all)
}

/// The rows of a page's range.
async fn rows(store: &dyn Store, account: &str, state: &SourceState, page: &Page) -> Result<Vec<SourceRow>, StoreError> {
    let source = (account.to_owned(), state.folder.clone(), state.epoch);
    let (mut found, mut after) = (Vec::new(), page.from.saturating_sub(1));
    loop {
        let more = store.source_rows(&source, (state.epoch, after), ROWS_MAX).await?;
        let full = more.len() == ROWS_MAX;
        for (_, row) in more {
            if row.uid > page.to {
                return Ok(found);
            }
            after = row.uid;
            found.push(row);
        }
        if !full {
            return Ok(found);
        }
    }
}

fn add(folder: &mut FolderCompared, page: &Page, rows: &[SourceRow], ground: Ground<'_>) {
    let found = compare(page, rows, ground);
    folder.known += found.known;
    folder.awaited += found.awaited;
    folder.before_first_run += found.before;
    let extend = |sample: &mut Sample, uids: Vec<u64>| {
        sample.count += uids.len() as u64;
        let room = Sample::NUMBERS_MAX.saturating_sub(sample.numbers.len());
        sample.numbers.extend(uids.into_iter().take(room));
    };
    extend(&mut folder.missing, found.missing);
    extend(&mut folder.extra, found.extra);
    extend(&mut folder.changed, found.changed);
}
