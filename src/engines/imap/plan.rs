//! Batches: what to ask for next, asked ahead of need, and what came.
//!
//! Several questions are on their way at once, so that the server is never idle while we parse and the distance costs nothing; their
//! answers wait in the socket, unless the server mixes them. What must stay true: batches are answered in the order of the questions;
//! whatever goes wrong with one, those behind it are asked anew.

use async_imap::imap_proto::RequestId;
use bytes::Bytes;

use crate::engines::imap::conn::Failed;
use crate::engines::imap::fetch::{self, Bodies, Meta};
use crate::engines::imap::folder::{Memo, is_historic};
use crate::engines::imap::large::{self, Large, WHOLE_BYTES_MAX};
use crate::engines::imap::print;
use crate::engines::imap::text::Tone;
use crate::engines::imap::walk::{Walk, is_careful};
use crate::model::raw::RawHead;
use crate::ports::pull::{PullError, PullNews, Pulled, PulledBatch, PulledState};
use crate::ports::store::SourceState;

/// Deaths at one mail before it is asked for in parts.
const DEATHS_MAX: u32 = 3;
/// Deaths at other mails before it is the server, and no mail.
const CONTROLS_MAX: u32 = 6;
/// Mails in one command: the set of their UIDs must stay below 8 KiB (RFC 7162 §4).
const ASKED_MAX: usize = 500;
/// Questions on their way at a server nearby, and at most.
const FLIGHTS_NEAR: usize = 2;
const FLIGHTS_MAX: usize = 4;
/// Each of these in a round trip allows for one more question.
const FLIGHT_MS: u128 = 50;

/// What to ask for.
pub struct Plan {
    mails: Vec<Meta>,
    from: u64,
    to: u64,
    historic: bool,
    way: Way,
}

/// A question for whole mails that is asked and not answered.
pub struct Flight {
    plan: Plan,
    tag: RequestId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Whole,
    TooLarge,
    InParts,
    GiveUp,
}

/// How often sessions died at a mail.
fn deaths(memo: &Memo, uid: u32) -> u32 {
    memo.suspect.map_or(0, |(suspect, deaths)| if suspect == u64::from(uid) { deaths } else { 0 })
}

impl Walk {
    /// Asks for what is listed, ahead of need, and answers with the next batch. `None` if nothing of it came and the failure was blamed.
    pub async fn fetch_on(&mut self, index: usize, row: &SourceState, memo: &Memo) -> Result<Option<PullNews>, PullError> {
        self.ask_ahead(index, row, memo).await;
        let batch = match self.flights.pop_front() {
            Some(flight) => self.land(index, flight, row).await?,
            None => {
                let careful = self.folders.get(index).is_some_and(|folder| is_careful(memo, folder.range.0));
                let Some(plan) = self.plan(index, row, memo, careful).await? else { return Ok(None) };
                self.carry_out(index, plan, row, memo).await?
            }
        };
        Ok(batch.map(PullNews::Batch))
    }

    /// Sends further questions while there are ordinary mails to ask for.
    async fn ask_ahead(&mut self, index: usize, row: &SourceState, memo: &Memo) {
        let far = usize::try_from(self.conn.round_trip.as_millis() / FLIGHT_MS).unwrap_or(FLIGHTS_MAX);
        let most = FLIGHTS_NEAR.saturating_add(far).min(FLIGHTS_MAX);
        while self.flights.len() < most {
            let Some(folder) = self.folders.get(index) else { return };
            let ordinary =
                |meta: &Meta| deaths(memo, meta.uid) == 0 && meta.size <= WHOLE_BYTES_MAX.min(self.settings.mailbox.mail_bytes_max);
            if is_careful(memo, folder.range.0) || !folder.listed.front().is_some_and(ordinary) {
                return;
            }
            let Some(plan) = self.cut(index, row, memo, Way::Whole, false) else { return };
            match fetch::begin_bodies(&mut self.conn, &plan.mails).await {
                Ok(tag) => self.flights.push_back(Flight { plan, tag }),
                // The connection is gone. What is on its way finds out, and says what came before.
                Err(_) => {
                    self.forget(index);
                    return;
                }
            }
        }
    }

    /// Reads the answer to the oldest question.
    async fn land(&mut self, index: usize, flight: Flight, row: &SourceState) -> Result<Option<PulledBatch>, PullError> {
        let Flight { plan, tag } = flight;
        let share = fetch::share(&plan.mails).await;
        let later = self.flights.iter().flat_map(|flight| flight.plan.mails.iter().map(|meta| meta.uid)).collect();
        let mut answer = fetch::end_bodies(&mut self.conn, &tag, &plan.mails, &later, &mut self.early).await;
        if answer.failed.is_some() || plan.mails.iter().any(|meta| !answer.come.contains_key(&meta.uid)) {
            self.abandon(index).await;
            fetch::prove_gone(&mut self.conn, &plan.mails, &mut answer).await;
        }
        let mut things = Vec::with_capacity(plan.mails.len());
        for meta in &plan.mails {
            match answer.come.remove(&meta.uid) {
                Some(body) => things.push(pulled(row, meta, body, PulledState::Whole)),
                None if answer.gone.contains(&meta.uid) => things.push(pulled(row, meta, Bytes::new(), PulledState::Gone)),
                None => {
                    self.fail(index, meta.uid, answer.failed.take());
                    let batch = self.batch(index, &plan, row, things, Some(meta.uid));
                    return Ok(batch.map(|batch| PulledBatch { share, ..batch }));
                }
            }
        }
        Ok(self.batch(index, &plan, row, things, None).map(|batch| PulledBatch { share, ..batch }))
    }

    /// Questions that are asked are answered, but their answers no longer fit.
    async fn abandon(&mut self, index: usize) {
        while let Some(Flight { tag, plan }) = self.flights.pop_front() {
            // Refused or lost: the next command on this connection tells.
            let _ = self.conn.end(&tag, &mut |_| {}).await;
            self.give_back(index, &plan.mails);
        }
        self.early.clear();
        self.forget(index);
    }

    /// Below the cursor nothing but the survey knows what is still to be fetched.
    fn give_back(&mut self, index: usize, mails: &[Meta]) {
        if let Some(folder) = self.folders.get_mut(index).filter(|folder| folder.below) {
            folder.survey.give_back(mails.iter().map(|meta| meta.uid));
        }
    }

    fn forget(&mut self, index: usize) {
        if let Some(folder) = self.folders.get_mut(index) {
            folder.forget_listing();
        }
    }

    /// A batch of what came; up to the mail that failed, if one did. `None` if nothing came and one failed.
    fn batch(&mut self, index: usize, plan: &Plan, row: &SourceState, things: Vec<Pulled>, failed: Option<u32>) -> Option<PulledBatch> {
        if let Some(failed) = failed {
            let rest: Vec<_> = plan.mails.iter().filter(|meta| meta.uid >= failed).copied().collect();
            self.give_back(index, &rest);
            // The listing was cut for the whole plan; the next look lists anew from where we stopped.
            self.forget(index);
            if things.is_empty() {
                return None;
            }
        }
        let to = failed.map_or(plan.to, |uid| u64::from(uid) - 1);
        let folder = self.folders.get_mut(index)?;
        folder.given = things
            .iter()
            .rev()
            .find(|thing| thing.state == PulledState::Whole)
            .and_then(|thing| u32::try_from(thing.uid).ok())
            .or(folder.given);
        if to > row.low_water {
            folder.survey.delivered(things.iter().filter(|thing| thing.state != PulledState::Gone).count());
        }
        let (epoch, epoch_name, historic) = (row.epoch, row.epoch_name, plan.historic);
        Some(PulledBatch { folder: folder.name.clone(), epoch, epoch_name, from: plan.from, to, things, historic, share: None })
    }

    /// Cuts the next batch from the listing, with a look at a single mail where that is needed. `None` if that look failed and was blamed.
    async fn plan(&mut self, index: usize, row: &SourceState, memo: &Memo, careful: bool) -> Result<Option<Plan>, PullError> {
        let Some(folder) = self.folders.get_mut(index) else { return Ok(None) };
        let (from, end) = folder.range;
        let Some(mut first) = folder.listed.front().copied() else {
            folder.range = (end + 1, end);
            return Ok(Some(Plan { mails: Vec::new(), from, to: end, historic: false, way: Way::Whole }));
        };
        if careful && deaths(memo, first.uid) < DEATHS_MAX {
            match fetch::look_at(&mut self.conn, first.uid).await {
                Ok(Some(meta)) => first = meta,
                // Gone since it was listed: the fetch will prove it.
                Ok(None) => {}
                Err(failed) => {
                    self.fail(index, first.uid, Some(failed));
                    return Ok(None);
                }
            }
            if let Some(front) = folder.listed.front_mut() {
                *front = first;
            }
        }
        let way = match deaths(memo, first.uid) {
            DEATHS_MAX => Way::InParts,
            more if more > DEATHS_MAX => Way::GiveUp,
            _ if first.size > self.settings.mailbox.mail_bytes_max => Way::TooLarge,
            _ => Way::Whole,
        };
        let alone = careful || deaths(memo, first.uid) > 0 || way != Way::Whole || first.size > WHOLE_BYTES_MAX;
        Ok(self.cut(index, row, memo, way, alone))
    }

    /// Cuts a batch from the front of the listing.
    fn cut(&mut self, index: usize, row: &SourceState, memo: &Memo, way: Way, alone: bool) -> Option<Plan> {
        let folder = self.folders.get_mut(index)?;
        let (from, end) = folder.range;
        let first = folder.listed.pop_front()?;
        let historic = is_historic(row, memo, u64::from(first.uid), first.date);
        let items_max = if alone { 1 } else { self.settings.mailbox.batch_items_max.clamp(1, ASKED_MAX) };
        let (mut mails, mut bytes) = (vec![first], first.size);
        while mails.len() < items_max
            && let Some(next) = folder.listed.front()
            && deaths(memo, next.uid) == 0
            && next.size <= WHOLE_BYTES_MAX.min(self.settings.mailbox.mail_bytes_max)
            && bytes.saturating_add(next.size) <= self.settings.mailbox.batch_bytes_max
            && is_historic(row, memo, u64::from(next.uid), next.date) == historic
        {
            bytes += next.size;
            mails.push(*next);
            folder.listed.pop_front();
        }
        // Everything up to the next mail is proven absent.
        let to = folder.listed.front().map_or(end, |next| u64::from(next.uid) - 1);
        folder.range = (to + 1, end);
        Some(Plan { mails, from, to, historic, way })
    }

    /// Asks for the mails of a plan, and for nothing else meanwhile.
    async fn carry_out(&mut self, index: usize, plan: Plan, row: &SourceState, memo: &Memo) -> Result<Option<PulledBatch>, PullError> {
        let mut things = Vec::with_capacity(plan.mails.len());
        let mut share = None;
        let mut answer = match (plan.way, plan.mails.as_slice()) {
            (Way::Whole, [only]) if only.size > WHOLE_BYTES_MAX => {
                let name = self.folders.get(index).map(|folder| folder.name.clone()).unwrap_or_default();
                large::fetch(&mut self.conn, &self.spool, (&name, row.epoch_name), *only).await
            }
            (Way::Whole, [_, ..]) => {
                share = fetch::share(&plan.mails).await;
                fetch::bodies(&mut self.conn, &plan.mails).await
            }
            _ => Bodies::default(),
        };
        for meta in &plan.mails {
            if let Some(large) = answer.large.take() {
                things.push(pulled_large(row, meta, large));
                continue;
            }
            let (body, state) = match (plan.way, answer.come.remove(&meta.uid)) {
                (Way::Whole, Some(body)) => (body, PulledState::Whole),
                (Way::Whole, None) if answer.gone.contains(&meta.uid) => (Bytes::new(), PulledState::Gone),
                (Way::Whole, None) => {
                    match answer.failed.take() {
                        // It is on its way: a bad link is to blame, and no mail.
                        Some(Failed::Refused(refusal)) if answer.went_on => self.over = Some(refusal.lost("UID FETCH")),
                        Some(Failed::Lost(error)) if answer.went_on => self.over = Some(error),
                        failed => self.fail(index, meta.uid, failed),
                    }
                    return Ok(self.batch(index, &plan, row, things, Some(meta.uid)));
                }
                (way, _) => match self.in_part(index, *meta, way, memo).await? {
                    Some(found) => found,
                    None => return Ok(self.batch(index, &plan, row, things, Some(meta.uid))),
                },
            };
            things.push(pulled(row, meta, body, state));
        }
        Ok(self.batch(index, &plan, row, things, None).map(|batch| PulledBatch { share, ..batch }))
    }

    /// Whether the server gives the begin of any other mail. False if the session died of the question: each death asks for another one
    /// the next time, because bad mails come in rows.
    async fn gives_others(&mut self, index: usize, suspect: u32, deaths: u32) -> Result<bool, PullError> {
        let Some(folder) = self.folders.get(index) else { return Ok(true) };
        let listed = &folder.listed;
        let mut others: Vec<u32> =
            [listed.front(), listed.back(), listed.get(listed.len() / 2)].into_iter().flatten().map(|meta| meta.uid).collect();
        others.extend(folder.given);
        let mut seen = std::collections::BTreeSet::new();
        others.retain(|uid| seen.insert(*uid));
        if others.is_empty() {
            return Ok(true);
        }
        let turn = usize::try_from(deaths.saturating_sub(DEATHS_MAX + 1)).unwrap_or(0) % others.len();
        others.rotate_left(turn);
        for uid in others {
            match fetch::can_read(&mut self.conn, uid).await {
                Ok(true) => return Ok(true),
                Ok(false) | Err(Failed::Refused(_)) => {}
                Err(Failed::Lost(error)) if deaths > DEATHS_MAX + CONTROLS_MAX => return Err(error),
                Err(Failed::Lost(_)) => {
                    self.fail(index, suspect, None);
                    return Ok(false);
                }
            }
        }
        Err(self.end("the server gives no mail at all"))
    }

    /// A mail that is not fetched whole: too large, or one that sessions died of.
    async fn in_part(&mut self, index: usize, meta: Meta, way: Way, memo: &Memo) -> Result<Option<(Bytes, PulledState)>, PullError> {
        let deaths = deaths(memo, meta.uid);
        let given_up = PulledState::Unfetchable { detail: format!("the server failed {deaths} times when it was asked for this mail") };
        if way == Way::GiveUp {
            // A server that can give no mail at all is not a mailbox of unfetchable mails.
            return Ok(self.gives_others(index, meta.uid, deaths).await?.then(|| (Bytes::new(), given_up)));
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
}

/// A large mail that came.
pub fn pulled_large(row: &SourceState, meta: &Meta, large: Large) -> Pulled {
    let mut thing = pulled(row, meta, large.begin, PulledState::Whole);
    if large.spooled.is_some() {
        (thing.body, thing.spooled) = (Bytes::new(), large.spooled);
    }
    thing
}

/// What came of a mail.
pub fn pulled(row: &SourceState, meta: &Meta, body: Bytes, state: PulledState) -> Pulled {
    let head = RawHead { place: Some(format!("{};{};{}", row.folder, row.epoch_name, meta.uid)), ..RawHead::default() };
    let print = meta.print.or_else(|| print::of_header(&body, meta.size, meta.date));
    Pulled { uid: u64::from(meta.uid), head, body, spooled: None, internal_date: meta.date, print, state }
}
