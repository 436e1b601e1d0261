//! The walk through the folders: answers `next`.
//!
//! What must stay true: a batch's range is proven, mail by mail; a mail at which sessions die is found by its number, fetched
//! alone, then in parts, then given up, and the cursor passes it; what is complete when a session dies is not fetched again; a folder
//! that is missing keeps no other from being read.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::engines::imap::conn::{Conn, Failed};
use crate::engines::imap::fetch::{self, Ask, Meta};
use crate::engines::imap::folder::{Memo, Verdict, View, judge, select};
use crate::engines::imap::large::Spool;
use crate::engines::imap::plan::Flight;
use crate::engines::imap::survey::Survey;
use crate::engines::imap::text::Tone;
use crate::engines::imap::{ImapSettings, again, finish, settle, wait};
use crate::model::codes::Code;
use crate::model::mailbox::After;
use crate::ports::BoxFuture;
use crate::ports::clock::Clock;
use crate::ports::pull::{Pull, PullError, PullNews, PulledBatch, Roll, RollReason, Woken};
use crate::ports::store::{SourceRow, SourceState};

/// UIDs in the first listing. Where the numbers lie far apart, each empty listing makes the next eight times wider.
const SPAN_FIRST: u64 = 2_000;
/// Deaths at one listing before sizes are asked for mail by mail.
const SHAKY_MAX: u32 = 2;

/// A folder of the session.
pub struct Folder {
    /// Its name.
    pub name: String,
    /// What SELECT said; `None`: look again.
    pub view: Option<View>,
    /// The server does not know it. Looked for again at every look; told once.
    pub missing: bool,
    told: bool,
    quiet: bool,
    /// What is listed and not asked for yet.
    pub listed: VecDeque<Meta>,
    /// The listed range that is not batched yet: first and last UID.
    pub range: (u64, u64),
    /// The listing was compared with what is known (only after a renumbering).
    compared: bool,
    /// A mail that the server gave in this session.
    pub given: Option<u32>,
    /// The listing lies below the cursor: what was overlooked.
    pub below: bool,
    /// Looking for what was overlooked.
    pub survey: Survey,
    /// When mails old enough to be deleted were last looked for and none was found, on the clock that never jumps.
    pub weeded_at: Option<Duration>,
}

impl Folder {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            view: None,
            missing: false,
            told: false,
            quiet: false,
            listed: VecDeque::new(),
            range: (1, 0),
            compared: false,
            given: None,
            below: false,
            survey: Survey::default(),
            weeded_at: None,
        }
    }

    /// The next look lists anew.
    pub fn forget_listing(&mut self) {
        if self.below {
            self.survey.give_back(self.listed.iter().map(|meta| meta.uid));
        }
        self.listed.clear();
        self.range = (1, 0);
        self.below = false;
    }
}

/// A logged-in session.
pub struct Walk {
    /// Settings.
    pub settings: Arc<ImapSettings>,
    /// The account, as in the states.
    pub account: String,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The connection.
    pub conn: Conn,
    /// Where large mails go.
    pub spool: Spool,
    /// The folders, in the order they are walked: the first one of the settings last, so that it stays selected for IDLE.
    pub folders: Vec<Folder>,
    /// The selected folder.
    pub selected: Option<usize>,
    /// Questions that are asked and not answered, of the selected folder.
    pub flights: VecDeque<Flight>,
    /// Mails of those questions that came among the answers to an earlier one; at most as much as was asked for.
    pub early: BTreeMap<u32, Bytes>,
    /// What to remember before the session may end.
    pub blame: Option<(usize, Blame)>,
    /// What the server said when it was in trouble over a mail.
    pub trouble: Option<PullError>,
    /// What a person is to be told.
    pub note: Option<(Code, String)>,
    /// Why no command is sent any more, though the connection may live (throttled).
    pub over: Option<PullError>,
}

/// Where the server failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// At a mail.
    Mail(u64),
    /// At the listing of a range.
    Listing(u64, u64),
}

impl Walk {
    /// A walk over a fresh session.
    pub fn new(settings: Arc<ImapSettings>, account: String, clock: Arc<dyn Clock>, conn: Conn) -> Self {
        let folders = settings.mailbox.folders.iter().rev().map(|name| Folder::new(name)).collect();
        let (flights, early) = (VecDeque::new(), BTreeMap::new());
        let (spool, selected, blame) = (Spool::default(), None, None);
        let (trouble, note, over) = (None, None, None);
        Self { settings, account, clock, conn, spool, folders, selected, flights, early, blame, trouble, note, over }
    }

    /// All folders are to be looked at again.
    pub fn look_again(&mut self) {
        for folder in &mut self.folders {
            folder.quiet = false;
            folder.view = None;
        }
    }

    /// Selects a folder, unless it is selected.
    pub async fn enter(&mut self, index: usize) -> Result<View, PullError> {
        let read_only = self.settings.mailbox.after == After::Peek;
        let Some(folder) = self.folders.get_mut(index) else { return Ok(View::default()) };
        if let (Some(view), true) = (folder.view, self.selected == Some(index)) {
            return Ok(view);
        }
        self.selected = None;
        let view = select(&mut self.conn, &folder.name, read_only).await?;
        if folder.view.is_some_and(|before| before.validity != view.validity) {
            folder.forget_listing();
        }
        folder.missing = false;
        folder.view = Some(view);
        self.selected = Some(index);
        Ok(view)
    }

    async fn next_news(&mut self, states: &[SourceState]) -> Result<PullNews, PullError> {
        loop {
            if let Some(state) = self.take_blame(states) {
                return Ok(PullNews::State(state));
            }
            if let Some((code, detail)) = self.note.take() {
                return Ok(PullNews::Note { code, detail });
            }
            if let Some(error) = self.over.as_ref().or(self.conn.lost()) {
                return Err(error.clone());
            }
            let Some(index) = self.folders.iter().position(|folder| !folder.quiet) else {
                // Everything was fetched: what waits there will not be asked for any more.
                self.spool.shelf.clear();
                return Ok(PullNews::Quiet);
            };
            let view = match self.enter(index).await {
                Ok(view) => view,
                Err(error) => match self.pass_over(index, error)? {
                    Some(note) => return Ok(note),
                    None => continue,
                },
            };
            if let Some(news) = self.step(index, &view, states).await? {
                return Ok(news);
            }
            if self.blame.is_some() {
                continue;
            }
            // What came while we read is announced by EXISTS; the SELECT before knew nothing of it.
            let again = std::mem::take(&mut self.conn.ear.news);
            if let Some(folder) = self.folders.get_mut(index) {
                folder.quiet = !again;
                folder.view = folder.view.filter(|_| !again);
            }
        }
    }

    /// A folder that is missing is told once, and the others are read; if all are missing, a person must act.
    fn pass_over(&mut self, index: usize, error: PullError) -> Result<Option<PullNews>, PullError> {
        let PullError::Person { code: Code::NoFolder, detail } = &error else { return Err(error) };
        let Some(folder) = self.folders.get_mut(index) else { return Err(error) };
        (folder.missing, folder.quiet) = (true, true);
        let told = std::mem::replace(&mut folder.told, true);
        if self.folders.iter().all(|folder| folder.missing) {
            return Err(error);
        }
        Ok((!told).then(|| PullNews::Note { code: Code::NoFolder, detail: detail.clone() }))
    }

    /// One step in a folder; `None` if there is nothing more in it, or something to blame.
    async fn step(&mut self, index: usize, view: &View, states: &[SourceState]) -> Result<Option<PullNews>, PullError> {
        let Some(name) = self.folders.get(index).map(|folder| folder.name.clone()) else { return Ok(None) };
        let row = row_of(states, &self.account, &name);
        if let Some(row) = row.filter(|_| !self.flights.is_empty()) {
            return self.fetch_on(index, row, &Memo::read(&row.memo)).await;
        }
        let top = match judge(&self.settings, &self.account, &name, view, row, self.clock.now()) {
            Verdict::Note(state) => {
                if let Some(folder) = self.folders.get_mut(index) {
                    folder.forget_listing();
                    folder.survey = Survey::default();
                }
                return Ok(Some(PullNews::State(state)));
            }
            Verdict::UpTo(top) => top,
        };
        let Some(row) = row else { return Ok(None) };
        let memo = Memo::read(&row.memo);
        let below = self.folders.get(index).is_some_and(|folder| folder.below && !folder.listed.is_empty());
        if !below {
            if row.low_water >= top {
                return self.survey(index, view, row, &memo).await;
            }
            if !self.refill(index, row, &memo, view, top).await? {
                return Ok(None);
            }
            if let Some(roll) = self.roll(index, row, &memo) {
                return Ok(Some(PullNews::Roll(roll)));
            }
        }
        self.fetch_on(index, row, &memo).await
    }

    /// Makes sure that the listing goes on at the low-water mark. False if that failed and was blamed.
    async fn refill(&mut self, index: usize, row: &SourceState, memo: &Memo, view: &View, top: u64) -> Result<bool, PullError> {
        let from = row.low_water + 1;
        let Some(folder) = self.folders.get_mut(index) else { return Ok(false) };
        if folder.range.0 == from && from <= folder.range.1 {
            return Ok(true);
        }
        folder.forget_listing();
        folder.compared = false;
        folder.range = (from, top);
        if view.exists == 0 {
            return Ok(true);
        }
        let renumbered = memo.roll_to.filter(|to| from <= *to);
        let top = renumbered.map_or(top, |to| top.min(to));
        let ask = match (is_careful(memo, from), renumbered) {
            (true, _) => Ask::Numbers,
            (false, Some(_)) => Ask::Prints,
            (false, None) => Ask::Sizes,
        };
        let (mut start, mut span) = (from, SPAN_FIRST);
        loop {
            let end = top.min(start.saturating_add(span - 1));
            match fetch::list(&mut self.conn, start, end, ask).await {
                Ok(listing) => {
                    folder.range.1 = listing.to;
                    folder.listed = listing.mails.into();
                    if !folder.listed.is_empty() || end >= top {
                        return Ok(true);
                    }
                    start = end + 1;
                    span = span.saturating_mul(8);
                }
                Err(Failed::Refused(refusal)) => return Err(refusal.lost("listing a folder")),
                Err(Failed::Lost(_)) => {
                    self.blame = Some((index, Blame::Listing(from, end)));
                    return Ok(false);
                }
            }
        }
    }

    /// The listing of a renumbered folder, to be compared with what is known before anything of it is fetched.
    fn roll(&mut self, index: usize, row: &SourceState, memo: &Memo) -> Option<Roll> {
        let folder = self.folders.get(index)?;
        let (from, to) = folder.range;
        if folder.compared || folder.listed.is_empty() || memo.roll_to.is_none_or(|roll_to| to > roll_to) {
            return None;
        }
        let there = folder.listed.iter().map(|meta| (u64::from(meta.uid), meta.print)).collect();
        Some(Roll { folder: folder.name.clone(), epoch: row.epoch, from, to, there, reason: RollReason::Renumbered })
    }

    fn take_wanted(&mut self, folder: &str, uids: &[u64]) {
        let Some(folder) = self.folders.iter_mut().find(|known| known.name == folder) else { return };
        if folder.survey.is_under_way() {
            folder.survey.overlooked(uids);
            return;
        }
        folder.compared = true;
        folder.listed.retain(|meta| uids.binary_search(&u64::from(meta.uid)).is_ok());
    }

    /// A mail did not come. Blames it, unless the server's words say that it is not the mail.
    pub fn fail(&mut self, index: usize, uid: u32, failed: Option<Failed>) {
        match failed {
            Some(Failed::Refused(refusal)) if matches!(refusal.tone, Tone::Throttled(_)) => {
                self.over = Some(refusal.lost("UID FETCH"));
            }
            Some(Failed::Refused(refusal)) if refusal.tone == Tone::Unavailable => {
                self.trouble = Some(refusal.lost("UID FETCH"));
                self.blame = Some((index, Blame::Mail(u64::from(uid))));
            }
            Some(Failed::Lost(PullError::Lost { code: Code::Throttled, .. })) => {}
            // What it should go into takes nothing.
            Some(Failed::Lost(error)) if matches!(error.code(), Code::DiskFull | Code::StoreUnavailable) => self.over = Some(error),
            _ => self.blame = Some((index, Blame::Mail(u64::from(uid)))),
        }
    }

    /// The session is over, and why.
    pub fn end(&mut self, why: &str) -> PullError {
        let error = PullError::Lost { code: Code::Protocol, detail: why.to_owned(), after: None };
        self.over = Some(error.clone());
        error
    }

    /// The state that remembers what the server failed at.
    fn take_blame(&mut self, states: &[SourceState]) -> Option<SourceState> {
        let (index, blame) = self.blame.take()?;
        let row = row_of(states, &self.account, &self.folders.get(index)?.name)?;
        let mut memo = Memo::read(&row.memo);
        match blame {
            Blame::Mail(uid) => {
                let before = memo.suspect.filter(|(suspect, _)| *suspect == uid).map_or(0, |(_, deaths)| deaths);
                memo.suspect = Some((uid, before.saturating_add(1)));
                // The server's own trouble may pass: the next try is one of the next session.
                self.over = self.over.take().or(self.trouble.take().filter(|_| before > 0));
            }
            Blame::Listing(from, to) => {
                let before = memo.shaky.filter(|(known, _, _)| *known == from).map_or(0, |(_, _, deaths)| deaths);
                memo.shaky = Some((from, to, before.saturating_add(1)));
            }
        }
        Some(SourceState { memo: memo.write(), ..row.clone() })
    }
}

/// Whether listings from `from` ask for numbers only, and mails come one by one.
pub fn is_careful(memo: &Memo, from: u64) -> bool {
    memo.shaky.is_some_and(|(first, last, deaths)| deaths >= SHAKY_MAX && (first..=last).contains(&from))
}

fn row_of<'s>(states: &'s [SourceState], account: &str, folder: &str) -> Option<&'s SourceState> {
    states.iter().find(|state| state.folder == folder && state.account == account)
}

impl Pull for Walk {
    fn next<'a>(&'a mut self, states: &'a [SourceState]) -> BoxFuture<'a, Result<PullNews, PullError>> {
        Box::pin(self.next_news(states))
    }

    fn wanted(&mut self, folder: &str, mut uids: Vec<u64>) {
        uids.sort_unstable();
        self.take_wanted(folder, &uids);
    }

    fn wait(&mut self, at_most: Duration) -> BoxFuture<'_, Result<Woken, PullError>> {
        Box::pin(wait::wait(self, at_most))
    }

    fn settle<'a>(&'a mut self, state: &'a SourceState, rows: &'a [SourceRow]) -> BoxFuture<'a, Result<Vec<u64>, PullError>> {
        Box::pin(settle::settle(self, state, rows))
    }

    fn mark(&mut self) -> BoxFuture<'_, Result<Option<String>, PullError>> {
        Box::pin(finish::mark(self))
    }

    fn finish<'a>(
        &'a mut self,
        state: &'a SourceState,
        rows: &'a [SourceRow],
        mark: &'a str,
    ) -> BoxFuture<'a, Result<Option<Vec<u64>>, PullError>> {
        Box::pin(finish::finish(self, state, rows, mark))
    }

    fn again<'a>(&'a mut self, state: &'a SourceState, uid: u64) -> BoxFuture<'a, Result<Option<PulledBatch>, PullError>> {
        Box::pin(again::again(self, state, uid))
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // A server that does not answer is left without its goodbye.
            let _ = tokio::time::timeout(Duration::from_secs(2), self.conn.log_out()).await;
        })
    }
}
