//! What is owed, in memory: the part of a store that deliveries are read from and decided in, with faults on demand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use omnigate::model::codes::Code;
use omnigate::model::delivery::{Decision, DeliveryState, Due, Outgoing, Position, Verdict};
use omnigate::model::id::{ConversationId, EventId};
use omnigate::model::time::Time;
use omnigate::model::view::{DestinationMode, DestinationRow};
use omnigate::pipeline::deliver::Decide;
use omnigate::ports::BoxFuture;
use omnigate::ports::store::{Store, StoreError};

use crate::support::refusing::refuses;
use crate::support::virtual_time::START_MS;

type Key = (String, Position, bool);

/// One delivery.
#[derive(Debug, Clone)]
pub struct Row {
    /// Lane.
    pub lane: i64,
    /// State.
    pub state: DeliveryState,
    /// Counted attempts.
    pub attempts: u32,
    /// Due.
    pub due_at: Time,
    /// First attempt.
    pub first_attempt_at: Option<Time>,
    /// Last failure.
    pub code: Option<Code>,
}

/// The store and the writer in one.
#[derive(Default)]
pub struct Owed {
    rows: Mutex<BTreeMap<Key, Row>>,
    /// Positions by destination and lane, also of rows that are decided.
    lanes: Mutex<BTreeMap<(String, i64), BTreeSet<Position>>>,
    delivered: AtomicUsize,
    modes: Mutex<Vec<(String, DestinationMode, Option<Code>)>>,
    /// Decisions in the order in which they became durable.
    pub decisions: Mutex<Vec<Decision>>,
    /// Decisions fail as on a full disk.
    pub full: AtomicBool,
    /// Decisions are refused as under an older lease.
    pub fenced: AtomicBool,
    /// Reads fail.
    pub unreadable: AtomicBool,
    /// Most deliveries asked for at once.
    pub page_max: AtomicUsize,
}

impl Owed {
    /// An empty one.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Owes the event at `position` of `lane` to `destination`.
    pub fn owe(&self, destination: &str, position: Position, lane: i64) {
        self.owe_row(destination, position, lane, false);
    }

    /// Owes a replay.
    pub fn owe_replay(&self, destination: &str, position: Position, lane: i64) {
        self.owe_row(destination, position, lane, true);
    }

    fn owe_row(&self, destination: &str, position: Position, lane: i64, replay: bool) {
        let row = Row { lane, state: DeliveryState::Waiting, attempts: 0, due_at: Time(START_MS), first_attempt_at: None, code: None };
        self.lanes.lock().unwrap().entry((destination.to_owned(), lane)).or_default().insert(position);
        self.rows.lock().unwrap().insert((destination.to_owned(), position, replay), row);
    }

    /// A row as it is now.
    pub fn row(&self, destination: &str, position: Position) -> Row {
        self.rows.lock().unwrap()[&(destination.to_owned(), position, false)].clone()
    }

    /// Changes a row, as a person or an erasure does.
    pub fn change(&self, destination: &str, position: Position, change: impl FnOnce(&mut Row)) {
        let mut rows = self.rows.lock().unwrap();
        let row = rows.get_mut(&(destination.to_owned(), position, false)).unwrap();
        change(row);
        self.lanes.lock().unwrap().entry((destination.to_owned(), row.lane)).or_default().insert(position);
    }

    /// How many deliveries are in a state.
    pub fn count(&self, state: DeliveryState) -> usize {
        self.rows.lock().unwrap().values().filter(|row| row.state == state).count()
    }

    /// Changes of mode that were recorded.
    pub fn modes(&self) -> Vec<(DestinationMode, Option<Code>)> {
        self.modes.lock().unwrap().iter().map(|(_, mode, code)| (*mode, *code)).collect()
    }

    /// Deliveries that were taken so far, replays included.
    pub fn delivered(&self) -> usize {
        self.delivered.load(Ordering::Relaxed)
    }

    fn found(&self, destination: &str, after: Position, limit: usize, wanted: impl Fn(&Row) -> bool) -> Result<Vec<Due>, StoreError> {
        if self.unreadable.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable { detail: "on demand".into() });
        }
        let rows = self.rows.lock().unwrap();
        let mine = rows.range((destination.to_owned(), after.saturating_add(1), false)..=(destination.to_owned(), Position::MAX, true));
        let waiting = mine.filter(|(_, row)| row.state == DeliveryState::Waiting && wanted(row));
        Ok(waiting.take(limit).map(|((_, position, replay), row)| due(*position, *replay, row)).collect())
    }
}

fn due(position: Position, replay: bool, row: &Row) -> Due {
    Due { position, lane: row.lane, attempts: row.attempts, due_at: row.due_at, first_attempt_at: row.first_attempt_at, replay }
}

/// The event at a position: its id carries the position, its bytes too.
pub fn outgoing(due: &Due) -> Outgoing {
    let event = EventId(((START_MS as u128) << 80) | due.position as u128);
    Outgoing {
        event,
        event_type: "message.created".into(),
        conversation: (due.lane > 0).then_some(ConversationId(due.lane as u128)),
        channel: Some("desk".into()),
        sequence: if due.lane > 0 { due.position as u64 } else { 0 },
        previous: 0,
        bytes: format!(r#"{{"type":"message.created","id":"{event}","data":{{"n":{}}}}}"#, due.position).into_bytes().into(),
        attempt: due.attempts + 1,
        replay: due.replay,
    }
}

/// The position in an event of [`outgoing`].
pub fn position_of(outgoing: &Outgoing) -> Position {
    (outgoing.event.0 & 0xffff_ffff_ffff) as Position
}

impl Decide for Owed {
    fn decide(&self, decision: Decision) -> BoxFuture<'static, Result<(), StoreError>> {
        if self.full.load(Ordering::Relaxed) {
            return Box::pin(std::future::ready(Err(StoreError::Full)));
        }
        if self.fenced.load(Ordering::Relaxed) {
            return Box::pin(std::future::ready(Err(StoreError::Fenced { held: 1, current: 2 })));
        }
        let mut rows = self.rows.lock().unwrap();
        let row = rows.get_mut(&(decision.destination.clone(), decision.position, decision.replay)).unwrap();
        if row.state == DeliveryState::Waiting {
            row.first_attempt_at.get_or_insert(decision.at);
            match decision.verdict {
                Verdict::Delivered => {
                    row.state = DeliveryState::Delivered;
                    self.delivered.fetch_add(1, Ordering::Relaxed);
                    row.attempts += 1;
                }
                Verdict::Dead { code } => {
                    row.state = DeliveryState::Dead;
                    row.attempts += 1;
                    row.code = Some(code);
                }
                Verdict::Retry { due_at, code, counted } => {
                    row.due_at = due_at;
                    row.attempts += u32::from(counted);
                    row.code = Some(code);
                }
            }
        }
        self.decisions.lock().unwrap().push(decision);
        // A commit takes a turn: what follows must not rely on its being immediate.
        Box::pin(async {
            tokio::task::yield_now().await;
            Ok(())
        })
    }

    fn mode(&self, destination: &str, mode: DestinationMode, code: Option<Code>) -> BoxFuture<'static, Result<(), StoreError>> {
        self.modes.lock().unwrap().push((destination.to_owned(), mode, code));
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Store for Owed {
    refuses!(
        stage,
        commit,
        take_lease,
        ping,
        totals,
        events_after,
        ledger,
        message,
        event,
        deliveries,
        count_deliveries,
        quarantine,
        raw,
        file,
        pending,
        sources,
        unsettled,
        source_rows,
        interrupted,
        cursors,
        media,
        memo,
        sweep,
        erase,
        backup,
        close,
        tickets_of,
        tickets,
        ticket_entries
    );

    fn waiting<'a>(&'a self, destination: &'a str, after: Position, limit: usize) -> BoxFuture<'a, Result<Vec<Due>, StoreError>> {
        self.page_max.fetch_max(limit, Ordering::Relaxed);
        let found = self.found(destination, after, limit, |_| true);
        Box::pin(async {
            tokio::task::yield_now().await;
            found
        })
    }

    fn lane<'a>(&'a self, destination: &'a str, lane: i64, limit: usize) -> BoxFuture<'a, Result<Vec<Due>, StoreError>> {
        let mut lanes = self.lanes.lock().unwrap();
        let positions = lanes.entry((destination.to_owned(), lane)).or_default();
        let rows = self.rows.lock().unwrap();
        let waits = |position: &Position, replay: bool| {
            rows.get(&(destination.to_owned(), *position, replay)).is_some_and(|row| row.state == DeliveryState::Waiting)
        };
        positions.retain(|position| waits(position, false) || waits(position, true));
        let both = positions.iter().flat_map(|position| [(*position, false), (*position, true)]);
        let waiting = both.filter(|(position, replay)| waits(position, *replay)).take(limit);
        let found =
            Ok(waiting.map(|(position, replay)| due(position, replay, &rows[&(destination.to_owned(), position, replay)])).collect());
        Box::pin(async {
            tokio::task::yield_now().await;
            found
        })
    }

    fn retrying<'a>(&'a self, destination: &'a str) -> BoxFuture<'a, Result<Vec<Due>, StoreError>> {
        Box::pin(std::future::ready(self.found(destination, Position::MIN, usize::MAX >> 1, |row| row.first_attempt_at.is_some())))
    }

    fn outgoing<'a>(&'a self, destination: &'a str, due: &'a [Due]) -> BoxFuture<'a, Result<Vec<(Position, bool, Outgoing)>, StoreError>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            if self.unreadable.load(Ordering::Relaxed) {
                return Err(StoreError::Unavailable { detail: "on demand".into() });
            }
            let rows = self.rows.lock().unwrap();
            let waits = |due: &&Due| rows[&(destination.to_owned(), due.position, due.replay)].state == DeliveryState::Waiting;
            Ok(due.iter().filter(waits).map(|due| (due.position, due.replay, outgoing(due))).collect())
        })
    }

    fn destinations(&self) -> BoxFuture<'_, Result<Vec<DestinationRow>, StoreError>> {
        let latest: BTreeMap<String, (DestinationMode, Option<Code>)> =
            self.modes.lock().unwrap().iter().map(|(name, mode, code)| (name.clone(), (*mode, *code))).collect();
        let row = |(name, (state, code)): (String, (DestinationMode, Option<Code>))| DestinationRow {
            name,
            state,
            code: code.map(|code| code.as_str().to_owned()),
            since: Time(START_MS),
            deliveries: BTreeMap::new(),
            oldest_waiting: None,
            retrying: None,
            configured: true,
        };
        Box::pin(std::future::ready(Ok(latest.into_iter().map(row).collect())))
    }

    fn free_bytes(&self) -> Option<u64> {
        None
    }
}
