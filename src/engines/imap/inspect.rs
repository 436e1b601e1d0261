//! A look at all mails of all folders, for comparison. Folders are opened read-only; only numbers, dates, and what mails are recognised by
//! are asked for.

use std::collections::VecDeque;
use std::time::Duration;

use crate::engines::imap::conn::Conn;
use crate::engines::imap::fetch::{self, Ask};
use crate::engines::imap::folder::select;
use crate::engines::imap::{ImapSettings, ImapSource};
use crate::ports::BoxFuture;
use crate::ports::inspect::{Inspect, Inspected, Page, Seen};
use crate::ports::pull::{PullError, PullSource};

/// UIDs in one listing; where the numbers lie far apart, each empty listing makes the next eight times wider.
const SPAN_FIRST: u64 = 2_000;
const SPAN_LONGEST: u64 = 16_000;
/// Above every UID there can be.
const BEYOND: u64 = u32::MAX as u64 + 1;
/// The goodbye.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

struct Look {
    conn: Conn,
    folders: VecDeque<String>,
    /// The open folder: name, UIDVALIDITY, mails, next UID to list, highest UID, span.
    open: Option<Open>,
}

struct Open {
    name: String,
    validity: u64,
    exists: u64,
    next: u64,
    top: u64,
    span: u64,
}

impl Look {
    fn new(settings: &ImapSettings, conn: Conn) -> Self {
        Self { conn, folders: settings.mailbox.folders.iter().cloned().collect(), open: None }
    }

    async fn next_page(&mut self) -> Result<Option<Page>, PullError> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => {
                let Some(name) = self.folders.pop_front() else { return Ok(None) };
                let view = select(&mut self.conn, &name, true).await?;
                let top = view.next.map_or(u64::from(view.highest), |next| u64::from(next) - 1);
                let top = if view.exists == 0 { 0 } else { top };
                Open { name, validity: u64::from(view.validity), exists: u64::from(view.exists), next: 1, top, span: SPAN_FIRST }
            }
        };
        let from = open.next;
        let end = open.top.min(from.saturating_add(open.span - 1));
        let (there, end) = if from > open.top { (Vec::new(), end) } else { list(&mut self.conn, from, end).await? };
        open.span = if there.is_empty() { open.span.saturating_mul(8).min(BEYOND) } else { SPAN_FIRST.max(open.span.min(SPAN_LONGEST)) };
        let to = if end >= open.top { BEYOND } else { end };
        let page = Page { folder: open.name.clone(), epoch_name: open.validity, exists: open.exists, from, to, there };
        if to < BEYOND {
            open.next = to + 1;
            self.open = Some(open);
        }
        Ok(Some(page))
    }
}

/// What is there from `from` on, and up to where that is known: a long listing is cut.
async fn list(conn: &mut Conn, from: u64, to: u64) -> Result<(Vec<Seen>, u64), PullError> {
    let listing = fetch::list(conn, from, to, Ask::Prints).await.map_err(|failed| failed.fatal("listing a folder"))?;
    let seen = listing.mails.into_iter().map(|meta| Seen { uid: u64::from(meta.uid), date: meta.date, print: meta.print });
    Ok((seen.collect(), listing.to))
}

impl Inspect for Look {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Page>, PullError>> {
        Box::pin(self.next_page())
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // A server that does not answer is left without its goodbye.
            let _ = tokio::time::timeout(CLOSE_WITHIN, self.conn.log_out()).await;
        })
    }
}

impl Inspected for ImapSource {
    fn account(&self) -> String {
        PullSource::account(self)
    }

    fn inspect(&self) -> BoxFuture<'_, Result<Box<dyn Inspect>, PullError>> {
        Box::pin(async move {
            let conn = self.log_in().await?;
            Ok(Box::new(Look::new(&self.settings, conn)) as Box<dyn Inspect>)
        })
    }
}
