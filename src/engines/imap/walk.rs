//! The walk through the folders: answers `next`.
//!
//! What must stay true: a batch's range is proven, mail by mail; a mail at which sessions die is found by its number, fetched
//! alone, then in parts, then given up, and the cursor passes it; what is complete when a session dies is not fetched again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::engines::imap::conn::{Conn, Failed};
use crate::engines::imap::fetch::{self, Bodies, Meta, WHOLE_BYTES_MAX};
use crate::engines::imap::folder::{Memo, Verdict, View, is_historic, judge, select};
use crate::engines::imap::text::Tone;
use crate::engines::imap::{After, ImapSettings, settle, wait};
use crate::model::codes::Code;
use crate::model::raw::RawHead;
use crate::ports::BoxFuture;
use crate::ports::clock::Clock;
use crate::ports::pull::{Pull, PullError, PullNews, Pulled, PulledBatch, PulledState, Woken};
use crate::ports::store::{SourceRow, SourceState};

/// UIDs in the first listing. Where the numbers lie far apart, each empty listing makes the next eight times wider.
const SPAN_FIRST: u64 = 2_000;
/// Deaths at one mail before it is asked for in parts.
const DEATHS_MAX: u32 = 3;
/// Deaths at one listing before sizes are asked for mail by mail.
const SHAKY_MAX: u32 = 2;
/// Mails in one command: the set of their UIDs must stay below 8 KiB (RFC 7162 §4).
const ASKED_MAX: usize = 500;

/// A folder of the session.
pub struct Folder {
    /// Its name.
    pub name: String,
    /// What SELECT said; `None`: look again.
    pub view: Option<View>,
    quiet: bool,
    listed: VecDeque<Meta>,
    /// The listed range that is not batched yet: first and last UID.
    range: (u64, u64),
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
    /// The folders, in the order they are walked: the first one of the settings last, so that it stays selected for IDLE.
    pub folders: Vec<Folder>,
    /// The selected folder.
    pub selected: Option<usize>,
    /// What to remember before the session may end.
    blame: Option<(usize, Blame)>,
    /// Why no command is sent any more, though the connection may live (throttled).
    over: Option<PullError>,
}

/// Where the server failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blame {
    Mail(u64),
    Listing(u64, u64),
}

/// What to ask for next.
struct Plan {
    mails: Vec<Meta>,
    from: u64,
    to: u64,
    historic: bool,
    way: Way,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Whole,
    TooLarge,
    InParts,
    GiveUp,
}

impl Walk {
    /// A walk over a fresh session.
    pub fn new(settings: Arc<ImapSettings>, account: String, clock: Arc<dyn Clock>, conn: Conn) -> Self {
        let folder = |name: &String| Folder { name: name.clone(), view: None, quiet: false, listed: VecDeque::new(), range: (1, 0) };
        let mut folders: Vec<_> = settings.folders.iter().map(folder).collect();
        folders.reverse();
        Self { settings, account, clock, conn, folders, selected: None, blame: None, over: None }
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
        let read_only = self.settings.after == After::Peek;
        let Some(folder) = self.folders.get_mut(index) else { return Ok(View::default()) };
        if let (Some(view), true) = (folder.view, self.selected == Some(index)) {
            return Ok(view);
        }
        self.selected = None;
        let view = select(&mut self.conn, &folder.name, read_only).await?;
        if folder.view.is_some_and(|before| before.validity != view.validity) {
            folder.listed.clear();
            folder.range = (1, 0);
        }
        folder.view = Some(view);
        self.selected = Some(index);
        Ok(view)
    }

    async fn next_news(&mut self, states: &[SourceState]) -> Result<PullNews, PullError> {
        loop {
            if let Some(state) = self.take_blame(states) {
                return Ok(PullNews::State(state));
            }
            if let Some(error) = self.over.as_ref().or(self.conn.lost()) {
                return Err(error.clone());
            }
            let Some(index) = self.folders.iter().position(|folder| !folder.quiet) else { return Ok(PullNews::Quiet) };
            let view = self.enter(index).await?;
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

    /// One step in a folder; `None` if there is nothing more in it, or something to blame.
    async fn step(&mut self, index: usize, view: &View, states: &[SourceState]) -> Result<Option<PullNews>, PullError> {
        let Some(name) = self.folders.get(index).map(|folder| folder.name.clone()) else { return Ok(None) };
        let row = row_of(states, &self.account, &name);
        let top = match judge(&self.settings, &self.account, &name, view, row, self.clock.now()) {
            Verdict::Note(state) => return Ok(Some(PullNews::State(state))),
            Verdict::UpTo(top) => top,
        };
        let Some(row) = row.filter(|row| row.low_water < top) else { return Ok(None) };
        let memo = Memo::read(&row.memo);
        if !self.refill(index, row, &memo, view, top).await? {
            return Ok(None);
        }
        let careful = is_careful(&memo, row.low_water + 1);
        let Some(plan) = self.plan(index, row, &memo, careful).await? else { return Ok(None) };
        let batch = self.carry_out(index, plan, row, &memo).await?;
        Ok(batch.map(PullNews::Batch))
    }

    /// Makes sure that the listing goes on at the low-water mark. False if that failed and was blamed.
    async fn refill(&mut self, index: usize, row: &SourceState, memo: &Memo, view: &View, top: u64) -> Result<bool, PullError> {
        let from = row.low_water + 1;
        let Some(folder) = self.folders.get_mut(index) else { return Ok(false) };
        if folder.range.0 == from && from <= folder.range.1 {
            return Ok(true);
        }
        folder.listed.clear();
        folder.range = (from, top);
        if view.exists == 0 {
            return Ok(true);
        }
        let (mut start, mut span) = (from, SPAN_FIRST);
        loop {
            let end = top.min(start.saturating_add(span - 1));
            match fetch::list(&mut self.conn, start, end, is_careful(memo, from)).await {
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

    /// Cuts the next batch from the listing. `None` if a look at a single mail failed and was blamed.
    async fn plan(&mut self, index: usize, row: &SourceState, memo: &Memo, careful: bool) -> Result<Option<Plan>, PullError> {
        let Some(folder) = self.folders.get_mut(index) else { return Ok(None) };
        let (from, end) = folder.range;
        let deaths = |uid: u32| memo.suspect.map_or(0, |(suspect, deaths)| if suspect == u64::from(uid) { deaths } else { 0 });
        let Some(mut first) = folder.listed.pop_front() else {
            folder.range = (end + 1, end);
            return Ok(Some(Plan { mails: Vec::new(), from, to: end, historic: false, way: Way::Whole }));
        };
        if careful && deaths(first.uid) < DEATHS_MAX {
            match fetch::look_at(&mut self.conn, first.uid).await {
                Ok(Some(meta)) => first = meta,
                // Gone since it was listed: the fetch will prove it.
                Ok(None) => {}
                Err(failed) => {
                    self.fail(index, first.uid, Some(failed));
                    return Ok(None);
                }
            }
        }
        let historic = is_historic(row, memo, u64::from(first.uid), first.date);
        let way = match deaths(first.uid) {
            DEATHS_MAX => Way::InParts,
            more if more > DEATHS_MAX => Way::GiveUp,
            _ if first.size > self.settings.mail_bytes_max => Way::TooLarge,
            _ => Way::Whole,
        };
        let alone = careful || deaths(first.uid) > 0 || way != Way::Whole || first.size > WHOLE_BYTES_MAX;
        let items_max = if alone { 1 } else { self.settings.batch_items_max.clamp(1, ASKED_MAX) };
        let bytes_max = self.settings.batch_bytes_max;
        let (mut mails, mut bytes) = (vec![first], first.size);
        while mails.len() < items_max
            && let Some(next) = folder.listed.front()
            && deaths(next.uid) == 0
            && next.size <= WHOLE_BYTES_MAX.min(self.settings.mail_bytes_max)
            && bytes.saturating_add(next.size) <= bytes_max
            && is_historic(row, memo, u64::from(next.uid), next.date) == historic
        {
            bytes += next.size;
            mails.push(*next);
            folder.listed.pop_front();
        }
        // Everything up to the next mail is proven absent.
        let to = folder.listed.front().map_or(end, |next| u64::from(next.uid) - 1);
        folder.range = (to + 1, end);
        Ok(Some(Plan { mails, from, to, historic, way }))
    }

    /// Asks for the mails of a plan. `None` if nothing of it came, and the failure was blamed.
    async fn carry_out(&mut self, index: usize, plan: Plan, row: &SourceState, memo: &Memo) -> Result<Option<PulledBatch>, PullError> {
        let name = self.folders.get(index).map(|folder| folder.name.clone()).unwrap_or_default();
        let place = |uid: u32| format!("{name};{};{uid}", row.epoch_name);
        let (mut things, mut to) = (Vec::with_capacity(plan.mails.len()), plan.to);
        if !plan.mails.is_empty() {
            let mut answer = match plan.way {
                Way::Whole => fetch::bodies(&mut self.conn, &plan.mails).await,
                _ => Bodies::default(),
            };
            for meta in &plan.mails {
                let (body, state) = match (plan.way, answer.come.remove(&meta.uid)) {
                    (Way::Whole, Some(body)) => (body, PulledState::Whole),
                    (Way::Whole, None) if answer.gone.contains(&meta.uid) => (Bytes::new(), PulledState::Gone),
                    (Way::Whole, None) => {
                        self.fail(index, meta.uid, answer.failed.take());
                        to = u64::from(meta.uid) - 1;
                        break;
                    }
                    (way, _) => match self.in_part(index, *meta, way, memo).await? {
                        Some(found) => found,
                        None => {
                            to = u64::from(meta.uid) - 1;
                            break;
                        }
                    },
                };
                let head = RawHead { place: Some(place(meta.uid)), ..RawHead::default() };
                things.push(Pulled { uid: u64::from(meta.uid), head, body, internal_date: meta.date, print: None, state });
            }
        }
        if to != plan.to {
            // The listing was cut for the whole plan; the next look lists anew from where we stopped.
            if let Some(folder) = self.folders.get_mut(index) {
                folder.listed.clear();
                folder.range = (1, 0);
            }
            if things.is_empty() {
                return Ok(None);
            }
        }
        let (epoch, epoch_name, historic) = (row.epoch, row.epoch_name, plan.historic);
        Ok(Some(PulledBatch { folder: name, epoch, epoch_name, from: plan.from, to, things, historic }))
    }

    /// A mail that is not fetched whole: too large, or one that sessions died of.
    async fn in_part(&mut self, index: usize, meta: Meta, way: Way, memo: &Memo) -> Result<Option<(Bytes, PulledState)>, PullError> {
        let deaths = memo.suspect.map_or(0, |(_, deaths)| deaths);
        let given_up = PulledState::Unfetchable { detail: format!("the server failed {deaths} times when it was asked for this mail") };
        if way == Way::GiveUp {
            let control = self.folders.get(index).and_then(|folder| folder.listed.front()).map(|next| next.uid);
            // A server that can give no mail at all is not a mailbox of unfetchable mails.
            if let Some(uid) = control {
                match fetch::can_read(&mut self.conn, uid).await {
                    Ok(true) => {}
                    Ok(false) => return Err(self.end("the server gives no mail at all")),
                    Err(failed) => return Err(failed.fatal("a look at another mail")),
                }
            }
            return Ok(Some((Bytes::new(), given_up)));
        }
        let (body, ended) = fetch::part(&mut self.conn, meta.uid, way == Way::InParts).await;
        match ended {
            Ok(()) => {}
            Err(Failed::Refused(refusal)) if matches!(refusal.tone, Tone::Throttled(_)) => return Err(refusal.lost("UID FETCH")),
            // In parts, a header alone is better than another round.
            Err(_) if way == Way::InParts && !body.is_empty() => {}
            Err(failed) => {
                self.fail(index, meta.uid, Some(failed));
                return Ok(None);
            }
        }
        let state = if way == Way::TooLarge { PulledState::HeaderOnly { bytes: meta.size } } else { given_up };
        if !body.is_empty() {
            return Ok(Some((body, state)));
        }
        match fetch::look_at(&mut self.conn, meta.uid).await {
            Ok(Some(_)) => Ok(Some((body, state))),
            Ok(None) => Ok(Some((body, PulledState::Gone))),
            Err(failed) => {
                self.fail(index, meta.uid, Some(failed));
                Ok(None)
            }
        }
    }

    /// A mail did not come. Blames it, unless the server's words say that it is not the mail.
    fn fail(&mut self, index: usize, uid: u32, failed: Option<Failed>) {
        match failed {
            Some(Failed::Refused(refusal)) if matches!(refusal.tone, Tone::Throttled(_)) => {
                self.over = Some(refusal.lost("UID FETCH"));
            }
            Some(Failed::Lost(PullError::Lost { code: Code::Throttled, .. })) => {}
            _ => self.blame = Some((index, Blame::Mail(u64::from(uid)))),
        }
    }

    fn end(&mut self, why: &str) -> PullError {
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
fn is_careful(memo: &Memo, from: u64) -> bool {
    memo.shaky.is_some_and(|(first, last, deaths)| deaths >= SHAKY_MAX && (first..=last).contains(&from))
}

fn row_of<'s>(states: &'s [SourceState], account: &str, folder: &str) -> Option<&'s SourceState> {
    states.iter().find(|state| state.folder == folder && state.account == account)
}

impl Pull for Walk {
    fn next<'a>(&'a mut self, states: &'a [SourceState]) -> BoxFuture<'a, Result<PullNews, PullError>> {
        Box::pin(self.next_news(states))
    }

    fn wanted(&mut self, _folder: &str, _uids: Vec<u64>) {}

    fn wait(&mut self, at_most: Duration) -> BoxFuture<'_, Result<Woken, PullError>> {
        Box::pin(wait::wait(self, at_most))
    }

    fn settle<'a>(&'a mut self, state: &'a SourceState, rows: &'a [SourceRow]) -> BoxFuture<'a, Result<Vec<u64>, PullError>> {
        Box::pin(settle::settle(self, state, rows))
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // A server that does not answer is left without its goodbye.
            let _ = tokio::time::timeout(Duration::from_secs(2), self.conn.log_out()).await;
        })
    }
}
