//! Waiting for news: IDLE on the first folder, else a pause.
//!
//! What must stay true: news that came between the last look and the wait are not slept over (EXISTS is remembered wherever it
//! was seen); a wait that ends, for whatever reason, lets `next` look at every folder again.

use std::time::Duration;

use crate::engines::imap::walk::Walk;
use crate::ports::pull::{PullError, Woken};

/// RFC 2177: servers may log off who idles for 30 minutes.
const IDLE_LONGEST: Duration = Duration::from_secs(25 * 60);

/// Waits at most `at_most`.
pub async fn wait(walk: &mut Walk, at_most: Duration) -> Result<Woken, PullError> {
    let woken = listen(walk, at_most).await;
    walk.look_again();
    woken
}

async fn listen(walk: &mut Walk, at_most: Duration) -> Result<Woken, PullError> {
    if std::mem::take(&mut walk.conn.ear.news) {
        return Ok(Woken::News);
    }
    let poll = walk.settings.mailbox.poll_interval;
    if !walk.settings.mailbox.idle || !walk.conn.can("IDLE") {
        // No command goes out meanwhile; intervals are far below the 30 minutes a server must wait (RFC 3501 §5.4).
        walk.clock.sleep(at_most.min(poll)).await;
        return Ok(Woken::Timeout);
    }
    // The folder to idle on is walked last and so still selected, unless it is missing, or settling went elsewhere.
    let index = walk.folders.iter().rposition(|folder| !folder.missing).unwrap_or(0);
    if walk.selected != Some(index) {
        let before = walk.folders.get(index).and_then(|folder| folder.view);
        let view = walk.enter(index).await?;
        if before != Some(view) {
            return Ok(Woken::News);
        }
    }
    let longest = walk.settings.timeouts.idle.min(IDLE_LONGEST);
    let longest = if walk.folders.len() > 1 { longest.min(poll) } else { longest };
    let begun = walk.clock.monotonic();
    if let Some(woken) = walk.conn.idle(at_most.min(longest)).await.map_err(|failed| failed.fatal("IDLE"))? {
        return Ok(woken);
    }
    // A server that ends every IDLE at once would be asked without a pause.
    let lasted = walk.clock.monotonic().saturating_sub(begun);
    walk.clock.sleep(at_most.min(poll).saturating_sub(lasted)).await;
    Ok(Woken::Timeout)
}
