//! One session: ask the source until it fails or the daemon stops, and put every answer where it belongs.
//!
//! What must stay true: nothing is asked beyond what the states say that is durable or on its way; what the source is told (the policy)
//! is told only after the commit.

use std::sync::Arc;
use std::time::Duration;

use crate::model::codes::Code;
use crate::model::time::Time;
use crate::pipeline::pull::admit::{Batch, Line};
use crate::pipeline::pull::again::{Again, again_key};
use crate::pipeline::pull::roll::Rolls;
use crate::pipeline::pull::segments::take_suspects;
use crate::pipeline::pull::settle::Doubts;
use crate::pipeline::pull::{PullChannel, backfill_key};
use crate::pipeline::sessions::pace::{Budget, Pulse};
use crate::pipeline::sessions::{Ended, Stop, stopped};
use crate::ports::pull::{Pull, PullError, PullNews, PulledBatch, Roll};
use crate::ports::store::{ParseBatch, SourceCommit, SourceState, Write};

/// Longest wait in one IDLE or poll pause; the engine may end it sooner.
const WAIT_LONGEST: Duration = Duration::from_secs(20 * 60);

/// What one session knows.
pub(super) struct Session {
    pub account: String,
    /// What is durable, or will be once what is on its way is committed.
    pub states: Vec<SourceState>,
    /// What was not given.
    pub again: Again,
    suspects: Vec<ParseBatch>,
    /// A backfill takes nothing older.
    since: Option<Time>,
    line: Line,
    rolls: Rolls,
    budget: Budget,
    doubts: Doubts,
}

impl PullChannel {
    /// One session: connect, then ask until it fails or the daemon stops.
    pub(super) async fn session(self: Arc<Self>, pulse: Arc<Pulse>, mut stop: Stop) -> Ended {
        let open = async {
            let _turn = self.gate.pass(&self.source.server()).await;
            self.source.open().await
        };
        let opened = tokio::select! {
            opened = open => opened,
            () = stopped(&mut stop) => return Ended::Stopped,
        };
        let mut pull = match opened {
            Ok(pull) => pull,
            Err(error) => return error.into(),
        };
        tracing::info!(messaging.destination.name = %self.id, "session opened");
        let mut session = match self.begin().await {
            Ok(session) => session,
            Err(ended) => return ended,
        };
        let ended = self.ask(&mut *pull, &mut session, &pulse, &mut stop).await;
        session.line.end().await;
        match ended {
            Ok(()) => {
                pull.close().await;
                Ended::Stopped
            }
            Err(ended) => ended,
        }
    }

    async fn begin(&self) -> Result<Session, Ended> {
        let account = self.source.account();
        let states = self.store.sources(&account).await?;
        let since = self.store.memo(&backfill_key(&account)).await?.and_then(|text| Time::parse(&text));
        let spent = self.store.memo(&budget_key(&account)).await?;
        let budget = Budget::read(self.source.day_bytes_max(), spent.as_deref());
        let again = Again::read(self.store.memo(&again_key(&account)).await?.as_deref());
        let doubts = self.doubts(&states).await?;
        let mut suspects = Vec::new();
        for batch in self.store.interrupted(&account).await? {
            let state = states.iter().find(|state| state.folder == batch.source.1);
            match state {
                // It was parsed well, and its commit did not come: no mail is to blame.
                Some(state) if batch.uids.is_empty() => self.forget(state.clone(), batch.id).await?,
                _ => suspects.push(batch),
            }
        }
        Ok(Session { account, states, again, suspects, since, line: Line::default(), rolls: Rolls::default(), budget, doubts })
    }

    async fn ask(self: &Arc<Self>, pull: &mut dyn Pull, session: &mut Session, pulse: &Pulse, stop: &mut Stop) -> Result<(), Ended> {
        while !*stop.borrow() {
            if let Some(wait) = session.budget.over_for(self.clock.now()) {
                session.line.finish().await?;
                let detail = "the bytes of this day are used up; it goes on tomorrow (UTC)".to_owned();
                return Err(PullError::Lost { code: Code::Throttled, detail, after: Some(wait) }.into());
            }
            let news = tokio::select! {
                news = pull.next(&session.states) => news,
                // What is being admitted is finished; what was being fetched is fetched again after the next start.
                () = stopped(stop) => break,
            };
            let news = match news {
                Ok(news) => news,
                Err(error) => {
                    session.line.finish().await?;
                    return Err(error.into());
                }
            };
            self.sessions(pulse).alive().await;
            match news {
                PullNews::Batch(batch) => self.take(batch, session, pulse).await?,
                PullNews::State(state) => {
                    pulse.bring();
                    session.line.finish().await?;
                    put(&mut session.states, state.clone());
                    let source = SourceCommit { state, rows: Vec::new(), parsed: None, lease_epoch: self.lease_epoch };
                    self.writer.admit_staged(Vec::new(), Some(source.into())).await?;
                }
                PullNews::Roll(roll) => {
                    let wanted = self.roll(&roll, session).await?;
                    pull.wanted(&roll.folder, wanted);
                }
                PullNews::Note { code, detail } => {
                    tracing::warn!(messaging.destination.name = %self.id, error.type = %code, detail = %detail, "part of a channel does not work");
                    self.board.note(&self.id, code, detail);
                }
                PullNews::Quiet => {
                    session.line.finish().await?;
                    if self.source.settles() {
                        self.settle(pull, &session.states, &mut session.doubts).await?;
                    }
                    if self.try_again(pull, session).await? {
                        continue;
                    }
                    let due = session.again.due().map(|due| due.0.saturating_sub(self.clock.now().0).max(0).unsigned_abs());
                    let due = due.map(Duration::from_millis).into_iter().chain(session.doubts.due(self.clock.monotonic())).min();
                    tokio::select! {
                        woken = pull.wait(due.map_or(WAIT_LONGEST, |due| WAIT_LONGEST.min(due))) => woken?,
                        () = stopped(stop) => break,
                    };
                }
            }
        }
        session.line.finish().await
    }

    /// Begins to admit a batch.
    async fn take(self: &Arc<Self>, mut pulled: PulledBatch, session: &mut Session, pulse: &Pulse) -> Result<(), Ended> {
        let now = self.clock.now();
        if !pulled.things.is_empty() {
            pulse.bring();
            self.board.heard(&self.id, now);
            self.metrics.heard(&self.id, now);
        }
        self.metrics.pulled(&self.id, pulled.things.len());
        let bytes = pulled.things.iter().map(|thing| thing.spooled.as_ref().map_or(thing.body.len() as u64, |spooled| spooled.bytes)).sum();
        if let Some(spent) = session.budget.spend(bytes, now) {
            self.writer.write(Write::Memo { key: budget_key(&session.account), value: Some(spent) }).await?;
        }
        if let Some(noted) = session.again.note(&session.account, &pulled, now) {
            self.writer.write(noted).await?;
        }
        let left_out = leave_out_older(&mut pulled, session.since);
        let after = moved(&session.states, &session.account, &pulled);
        let suspects = take_suspects(&mut session.suspects, &pulled);
        // The next question already builds on this batch: if its commit fails, the session ends and begins from what is durable.
        put(&mut session.states, after.clone());
        let flood = session.rolls.flood(&pulled);
        session.line.begin(self, Batch { pulled, after, suspects, left_out, flood }).await
    }

    /// Compares a roll with the rows, once they are all committed.
    async fn roll(&self, roll: &Roll, session: &mut Session) -> Result<Vec<u64>, Ended> {
        session.line.finish().await?;
        let state = session.states.iter().find(|state| state.folder == roll.folder && state.epoch == roll.epoch);
        let Some(state) = state.cloned() else { return Ok(Vec::new()) };
        self.compare(roll, &state, &mut session.rolls).await
    }
}

/// Memo that holds the bytes fetched today.
fn budget_key(account: &str) -> String {
    format!("{account}/bytes_today")
}

/// A backfill with a date takes nothing older; the numbers left out are returned. Mails without a date are taken: better one too many
/// than one lost.
fn leave_out_older(batch: &mut PulledBatch, since: Option<Time>) -> Vec<u64> {
    let Some(since) = since.filter(|_| batch.historic) else { return Vec::new() };
    let (taken, older) =
        std::mem::take(&mut batch.things).into_iter().partition(|thing| thing.internal_date.is_none_or(|date| date >= since));
    batch.things = taken;
    older.into_iter().map(|thing| thing.uid).collect()
}

/// The folder's state once the batch is admitted.
fn moved(states: &[SourceState], account: &str, batch: &PulledBatch) -> SourceState {
    let known = states.iter().find(|state| state.folder == batch.folder && state.epoch == batch.epoch);
    let mut state = known.cloned().unwrap_or_else(|| SourceState {
        account: account.to_owned(),
        folder: batch.folder.clone(),
        epoch: batch.epoch,
        epoch_name: batch.epoch_name,
        low_water: 0,
        first_run_top: 0,
        memo: String::new(),
    });
    state.low_water = state.low_water.max(batch.to);
    state
}

fn put(states: &mut Vec<SourceState>, state: SourceState) {
    match states.iter_mut().find(|known| known.folder == state.folder) {
        Some(known) => *known = state,
        None => states.push(state),
    }
}
