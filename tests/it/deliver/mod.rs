//! From "an event is due" to "decided": order, schedule, pauses, breaker, bounds, restarts.
//!
//! Here the destination is a script and time is virtual; `webhook` is the same over real sockets.

mod webhook;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use omnigate::logic::schedule::{OnExhausted, Policy, of_http_status};
use omnigate::model::codes::Code;
use omnigate::model::delivery::{DeliveryState, Outgoing, Position};
use omnigate::model::view::DestinationMode;
use omnigate::pipeline::deliver::{DeliverHandle, DeliverOptions, DeliverPorts, DeliverTask, Ended};
use omnigate::pipeline::limits::Rate;
use omnigate::ports::BoxFuture;
use omnigate::ports::clock::Clock;
use omnigate::ports::destination::{DeliverError, Destination, Receipt};
use omnigate::telemetry::metrics::Metrics;
use tokio::task::JoinHandle;

use crate::support::owed::{Owed, position_of};
use crate::support::virtual_time::{MiddleRandom, VirtualClock};

type Answer = Result<Receipt, DeliverError>;
type Script = Box<dyn FnMut(Position, usize) -> (Duration, Answer) + Send>;

/// A destination that answers by a script: (position, how often it was asked) → (how long it takes, answer).
struct Scripted {
    clock: VirtualClock,
    script: Mutex<Script>,
    seen: Mutex<Vec<Attempt>>,
    asked: Mutex<BTreeMap<(Position, bool), usize>>,
    out: Mutex<BTreeSet<(Option<String>, Position)>>,
    most_out: Mutex<usize>,
}

#[derive(Debug, Clone, PartialEq)]
struct Attempt {
    position: Position,
    lane: Option<String>,
    at: Duration,
    replay: bool,
    taken: bool,
}

impl Destination for Scripted {
    fn deliver<'a>(&'a self, outgoing: &'a Outgoing) -> BoxFuture<'a, Result<Receipt, DeliverError>> {
        Box::pin(async move {
            let position = position_of(outgoing);
            let lane = outgoing.conversation.map(|id| id.to_string());
            let asked = {
                let mut asked = self.asked.lock().unwrap();
                let count = asked.entry((position, outgoing.replay)).or_default();
                std::mem::replace(count, *count + 1)
            };
            let (takes, answer) = (self.script.lock().unwrap())(position, asked);
            let attempt =
                Attempt { position, lane: lane.clone(), at: self.clock.elapsed(), replay: outgoing.replay, taken: answer.is_ok() };
            self.seen.lock().unwrap().push(attempt);
            {
                let mut out = self.out.lock().unwrap();
                if !outgoing.replay && lane.is_some() {
                    assert!(out.iter().all(|(known, _)| *known != lane), "I4: two of {lane:?} are out at once");
                }
                assert!(out.insert((lane.clone(), position)), "{position} is out twice");
                let mut most = self.most_out.lock().unwrap();
                *most = (*most).max(out.len());
            }
            if !takes.is_zero() {
                self.clock.sleep(takes).await;
            }
            self.out.lock().unwrap().remove(&(lane, position));
            answer
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<String, DeliverError>> {
        Box::pin(std::future::ready(Ok("scripted".into())))
    }
}

fn ok() -> Answer {
    Ok(Receipt { status: Some(200) })
}

fn status(status: u16) -> Answer {
    of_http_status(status, None, omnigate::model::time::Time(0))
}

/// A destination under test, with its store.
struct Desk {
    clock: VirtualClock,
    owed: Arc<Owed>,
    scripted: Arc<Scripted>,
    handle: DeliverHandle,
    task: JoinHandle<Ended>,
}

fn options() -> DeliverOptions {
    DeliverOptions {
        name: "desk".into(),
        concurrency: 8,
        rate: None,
        policy: Policy::default(),
        stop_within: Duration::from_secs(20),
        lease_epoch: 1,
    }
}

impl Desk {
    fn start(owed: Arc<Owed>, script: impl FnMut(Position, usize) -> (Duration, Answer) + Send + 'static) -> Self {
        Self::start_with(VirtualClock::default(), owed, options(), script)
    }

    fn start_with(
        clock: VirtualClock,
        owed: Arc<Owed>,
        options: DeliverOptions,
        script: impl FnMut(Position, usize) -> (Duration, Answer) + Send + 'static,
    ) -> Self {
        let scripted = Arc::new(Scripted {
            clock: clock.clone(),
            script: Mutex::new(Box::new(script)),
            seen: Mutex::default(),
            asked: Mutex::default(),
            out: Mutex::default(),
            most_out: Mutex::default(),
        });
        let ports = DeliverPorts {
            store: owed.clone(),
            decide: owed.clone(),
            destination: scripted.clone(),
            clock: Arc::new(clock.clone()),
            random: Arc::new(MiddleRandom),
            metrics: Metrics::new(),
        };
        let (task, handle) = DeliverTask::new(ports, options);
        Self { clock, owed, scripted, handle, task: tokio::spawn(task.run()) }
    }

    async fn pass(&self, seconds: u64) {
        self.clock.pass(Duration::from_secs(seconds)).await;
    }

    fn seen(&self) -> Vec<Attempt> {
        self.scripted.seen.lock().unwrap().clone()
    }

    fn times_of(&self, position: Position) -> Vec<u64> {
        self.seen().iter().filter(|seen| seen.position == position).map(|seen| seen.at.as_secs()).collect()
    }

    fn taken(&self) -> Vec<Position> {
        self.seen().iter().filter(|seen| seen.taken).map(|seen| seen.position).collect()
    }

    async fn stopped(self) -> Ended {
        self.handle.stop();
        let clock = self.clock.clone();
        clock.pass(Duration::from_secs(60)).await;
        self.task.await.unwrap()
    }
}

fn owed(positions: std::ops::RangeInclusive<Position>, lanes: i64) -> Arc<Owed> {
    let owed = Owed::new();
    for position in positions {
        owed.owe("desk", position, 1 + position % lanes);
    }
    owed
}

#[track_caller]
fn in_order_per_lane(seen: &[Attempt]) {
    let mut last: BTreeMap<&Option<String>, Position> = BTreeMap::new();
    for attempt in seen.iter().filter(|seen| seen.taken && seen.lane.is_some() && !seen.replay) {
        let before = last.insert(&attempt.lane, attempt.position);
        assert!(before.is_none_or(|before| before < attempt.position), "I4: {before:?} before {attempt:?}");
    }
}

#[tokio::test]
async fn everything_owed_is_delivered_once_in_order_per_conversation() {
    let desk = Desk::start(owed(1..=3000, 40), |position, _| (Duration::from_millis(1 + position as u64 % 7), ok()));
    desk.pass(60).await;
    in_order_per_lane(&desk.seen());
    assert_eq!(desk.seen().len(), 3000);
    assert_eq!(desk.owed.count(DeliveryState::Delivered), 3000);
    assert_eq!(*desk.scripted.most_out.lock().unwrap(), 8);
    assert_eq!(desk.stopped().await, Ended::Drained);
}

#[tokio::test]
async fn order_per_conversation_survives_failures() {
    let mut turn = 0u64;
    let desk = Desk::start(owed(1..=600, 12), move |position, asked| {
        turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(position as u64 + 1);
        let answer = if (turn >> 33).is_multiple_of(4) && asked < 3 { status([500, 404, 409][asked]) } else { ok() };
        (Duration::from_millis((turn >> 40) % 50), answer)
    });
    desk.pass(40 * 3600 * 24).await;
    in_order_per_lane(&desk.seen());
    assert_eq!(desk.owed.count(DeliveryState::Delivered), 600);
}

#[tokio::test]
async fn a_failing_destination_is_tried_by_the_schedule_and_the_event_ends_as_a_dead_letter() {
    // Failures that are five minutes and more apart do not open the breaker.
    let desk = Desk::start(owed(1..=1, 1), |_, _| (Duration::ZERO, status(500)));
    desk.pass(90 * 3600).await;
    let steps = [0, 5, 305, 2105, 9305, 27_305, 63_305, 113_705, 185_705, 272_105];
    assert_eq!(desk.times_of(1), steps);
    let row = desk.owed.row("desk", 1);
    assert_eq!((row.state, row.attempts, row.code), (DeliveryState::Dead, 10, Some(Code::Exhausted)));
}

#[tokio::test]
async fn each_answer_leads_to_the_decision_of_the_table() {
    let unknown = || Err(DeliverError::Later { code: Code::Unknown, status: None, detail: String::new(), after: None });
    let rows: Vec<(Box<dyn Fn() -> Answer + Send>, DeliveryState, Option<Code>, usize)> = vec![
        (Box::new(|| status(204)), DeliveryState::Delivered, None, 1),
        (Box::new(|| status(400)), DeliveryState::Dead, Some(Code::Rejected), 3),
        (Box::new(|| status(413)), DeliveryState::Dead, Some(Code::Rejected), 3),
        (Box::new(|| status(415)), DeliveryState::Dead, Some(Code::Rejected), 3),
        (Box::new(|| status(422)), DeliveryState::Dead, Some(Code::Rejected), 3),
        (Box::new(|| status(302)), DeliveryState::Dead, Some(Code::Rejected), 3),
        (Box::new(|| status(404)), DeliveryState::Waiting, Some(Code::Failed), 4),
        (Box::new(|| status(408)), DeliveryState::Waiting, Some(Code::Failed), 4),
        (Box::new(|| status(409)), DeliveryState::Waiting, Some(Code::Failed), 4),
        (Box::new(|| status(425)), DeliveryState::Waiting, Some(Code::Failed), 4),
        (Box::new(|| status(500)), DeliveryState::Waiting, Some(Code::Failed), 4),
        (Box::new(|| status(429)), DeliveryState::Waiting, Some(Code::Busy), 4),
        (Box::new(|| status(503)), DeliveryState::Waiting, Some(Code::Busy), 4),
        (Box::new(unknown), DeliveryState::Waiting, Some(Code::Unknown), 4),
        (Box::new(|| status(410)), DeliveryState::Waiting, Some(Code::Gone), 1),
        (Box::new(|| status(401)), DeliveryState::Waiting, Some(Code::Denied), 4),
        (Box::new(|| status(403)), DeliveryState::Waiting, Some(Code::Denied), 4),
    ];
    for (number, (answer, state, code, attempts)) in rows.into_iter().enumerate() {
        let desk = Desk::start(owed(1..=1, 1), move |_, _| (Duration::ZERO, answer()));
        desk.pass(3000).await;
        let row = desk.owed.row("desk", 1);
        assert_eq!((row.state, row.code, desk.seen().len()), (state, code, attempts), "row {number}");
    }
}

#[tokio::test]
async fn one_event_that_is_always_answered_503_delays_only_its_conversation() {
    // Position 5 is of lane 6, as are 15, 25, …: those wait, all others go.
    let desk = Desk::start(owed(1..=2000, 10), |position, _| (Duration::from_millis(1), if position == 5 { status(503) } else { ok() }));
    desk.pass(4).await;
    assert_eq!(desk.owed.count(DeliveryState::Delivered), 1800);
    assert!(desk.owed.modes().is_empty(), "the destination as a whole was paused");
    // At its end it is a dead letter and the rest of its conversation follows, in order.
    desk.pass(90 * 3600).await;
    assert_eq!(desk.owed.count(DeliveryState::Delivered), 1999);
    assert_eq!(desk.owed.row("desk", 5).state, DeliveryState::Dead);
    in_order_per_lane(&desk.seen());
}

#[tokio::test]
async fn an_exhausted_head_blocks_its_conversation_where_the_configuration_says_so() {
    let policy = Policy { on_exhausted: OnExhausted::Block, ..Policy::default() };
    let options = DeliverOptions { policy, ..options() };
    let desk = Desk::start_with(VirtualClock::default(), owed(1..=4, 2), options, |position, _| {
        (Duration::ZERO, if position == 1 { status(500) } else { ok() })
    });
    desk.pass(200 * 3600).await;
    assert_eq!(desk.taken(), [2, 4]);
    assert_eq!(desk.owed.row("desk", 1).state, DeliveryState::Waiting);
    assert!(desk.times_of(1).len() > 10);
    assert_eq!(desk.times_of(3).len(), 0);
}

#[tokio::test]
async fn refused_credentials_for_an_hour_cost_no_tries_and_nothing_is_lost() {
    let clock = VirtualClock::default();
    let until = clock.clone();
    let desk = Desk::start_with(clock, owed(1..=500, 50), options(), move |_, _| {
        (Duration::from_millis(1), if until.elapsed() < Duration::from_secs(3600) { status(401) } else { ok() })
    });
    desk.pass(3599).await;
    // Up to eight were out when the first was refused; then one each quarter of an hour.
    let probes: Vec<u64> = desk.seen().iter().map(|seen| seen.at.as_secs()).filter(|at| *at > 0).collect();
    assert_eq!(probes, [900, 1800, 2700]);
    assert!(desk.owed.decisions.lock().unwrap().iter().all(|decision| desk.owed.row("desk", decision.position).attempts == 0));
    assert_eq!(desk.owed.modes(), [(DestinationMode::Paused, Some(Code::Denied))]);
    desk.pass(10).await;
    assert_eq!(desk.owed.count(DeliveryState::Delivered), 500);
    assert_eq!(desk.owed.modes().last(), Some(&(DestinationMode::Active, None)));
    in_order_per_lane(&desk.seen());
}

#[tokio::test]
async fn retry_after_pauses_the_destination_and_not_only_the_lane() {
    let clock = VirtualClock::default();
    let now = clock.clone();
    let mut first = true;
    let options = DeliverOptions { concurrency: 1, ..options() };
    let desk = Desk::start_with(clock, owed(1..=100, 100), options, move |_, _| {
        let answer = if std::mem::take(&mut first) { of_http_status(429, Some("60"), now.now()) } else { ok() };
        (Duration::ZERO, answer)
    });
    desk.pass(59).await;
    assert_eq!(desk.seen().len(), 1);
    desk.pass(2).await;
    assert_eq!(desk.owed.count(DeliveryState::Delivered), 100);
    assert!(desk.owed.modes().is_empty());
}

#[tokio::test]
async fn gone_halts_the_destination_until_a_person_resumes_it() {
    let mut gone = true;
    let options = DeliverOptions { concurrency: 1, ..options() };
    let desk = Desk::start_with(VirtualClock::default(), owed(1..=20, 5), options, move |_, _| {
        (Duration::ZERO, if std::mem::take(&mut gone) { status(410) } else { ok() })
    });
    desk.pass(1_000_000).await;
    assert_eq!(desk.seen().len(), 1);
    assert_eq!(desk.owed.modes(), [(DestinationMode::Halted, Some(Code::Gone))]);
    assert_eq!(desk.owed.count(DeliveryState::Waiting), 20);
    desk.handle.resume();
    desk.pass(1).await;
    assert_eq!(desk.owed.count(DeliveryState::Delivered), 20);
    in_order_per_lane(&desk.seen());
}

#[tokio::test]
async fn a_halt_outlives_a_restart() {
    let owed = owed(1..=3, 3);
    let first = Desk::start(owed.clone(), |_, _| (Duration::ZERO, status(410)));
    first.pass(5).await;
    let clock = first.clock.clone();
    assert_eq!(first.stopped().await, Ended::Drained);
    let second = Desk::start_with(clock, owed, options(), |_, _| (Duration::ZERO, ok()));
    second.pass(100_000).await;
    assert_eq!(second.seen().len(), 0);
}

#[tokio::test]
async fn a_destination_that_is_down_for_a_day_costs_few_tries_and_everything_arrives() {
    let clock = VirtualClock::default();
    let until = clock.clone();
    let down = Duration::from_secs(24 * 3600);
    let desk = Desk::start_with(clock, owed(1..=1000, 500), options(), move |_, _| {
        (Duration::from_millis(1), if until.elapsed() < down { Err(later_connect()) } else { ok() })
    });
    desk.pass(24 * 3600 - 1).await;
    assert_eq!(desk.owed.modes(), [(DestinationMode::Paused, Some(Code::Connect))]);
    let tries = desk.seen().len();
    assert!((100..400).contains(&tries), "{tries} tries: a probe each five minutes is meant");
    desk.pass(310).await;
    assert_eq!(desk.owed.modes().len(), 2);
    // Those that served as probes wait for their own next step.
    assert!(desk.owed.count(DeliveryState::Delivered) > 700, "{}", desk.owed.count(DeliveryState::Delivered));
    desk.pass(24 * 3600).await;
    assert_eq!(desk.owed.count(DeliveryState::Delivered), 1000);
    in_order_per_lane(&desk.seen());
}

fn later_connect() -> DeliverError {
    DeliverError::Later { code: Code::Connect, status: None, detail: "connecting: refused".into(), after: None }
}

#[tokio::test]
async fn a_poisonous_event_cannot_hold_the_breaker_open() {
    let clock = VirtualClock::default();
    let until = clock.clone();
    let desk = Desk::start_with(clock, owed(1..=300, 30), options(), move |position, _| {
        let bad = position == 1 || until.elapsed() < Duration::from_secs(60);
        (Duration::from_millis(1), if bad { status(500) } else { ok() })
    });
    desk.pass(200).await;
    // Lane 2 waits behind the poison; the lanes that were tried wait for their own steps, at most five minutes.
    desk.pass(400).await;
    assert_eq!(desk.owed.count(DeliveryState::Delivered), 290);
    assert_eq!(desk.owed.modes().last(), Some(&(DestinationMode::Active, None)));
    desk.pass(90 * 3600).await;
    assert_eq!(desk.owed.count(DeliveryState::Delivered), 299);
    assert_eq!(desk.owed.row("desk", 1).state, DeliveryState::Dead);
}

#[tokio::test]
async fn a_hung_destination_does_not_delay_another() {
    let clock = VirtualClock::default();
    let owed = owed(1..=100, 10);
    for position in 1..=100 {
        owed.owe("crm", position, 1 + position % 10);
    }
    let hung = Desk::start_with(clock.clone(), owed.clone(), options(), |_, _| (Duration::from_secs(1_000_000), ok()));
    let crm = DeliverOptions { name: "crm".into(), ..options() };
    let other = Desk::start_with(clock, owed.clone(), crm, |_, _| (Duration::from_millis(1), ok()));
    other.pass(1).await;
    assert_eq!((hung.seen().len(), other.taken().len()), (8, 100));
    // Told to stop, the hung one is cut; its deliveries are still owed.
    assert_eq!(hung.stopped().await, Ended::Cut);
    assert_eq!(owed.count(DeliveryState::Waiting), 100);
}

#[tokio::test]
async fn a_backlog_of_a_hundred_thousand_is_read_in_pages_and_loses_nothing() {
    let owed = Owed::new();
    // One conversation has a tenth of everything, and its head fails for a while: it must not crowd out the others.
    for position in 1..=100_000 {
        owed.owe("desk", position, if position % 10 == 0 { 7 } else { 1000 + position % 5000 });
    }
    let options = DeliverOptions { concurrency: 64, ..options() };
    let desk = Desk::start_with(VirtualClock::default(), owed, options, |position, asked| {
        (Duration::ZERO, if position == 10 && asked < 3 { status(500) } else { ok() })
    });
    while desk.owed.delivered() < 90_000 {
        desk.clock.settle().await;
    }
    assert_eq!(desk.clock.elapsed(), Duration::ZERO, "the others waited for the blocked conversation");
    desk.pass(3 * 3600).await;
    while desk.owed.delivered() < 100_000 {
        desk.clock.settle().await;
    }
    in_order_per_lane(&desk.seen());
    assert_eq!(desk.seen().len(), 100_003);
    assert!(desk.owed.page_max.load(Ordering::Relaxed) <= 1024, "pages are bounded");
}

#[tokio::test]
async fn retries_go_on_where_they_were_after_a_restart() {
    let owed = owed(1..=3, 1);
    let first = Desk::start(owed.clone(), |_, _| (Duration::ZERO, status(500)));
    first.pass(10).await;
    assert_eq!(first.times_of(1), [0, 5]);
    let clock = first.clock.clone();
    assert_eq!(first.stopped().await, Ended::Drained);
    let second = Desk::start_with(clock, owed, options(), |_, _| (Duration::ZERO, ok()));
    second.pass(2000).await;
    // Due at 305 s, wherever it runs.
    assert_eq!(second.times_of(1), [305]);
    assert_eq!(second.taken(), [1, 2, 3]);
}

#[tokio::test]
async fn stopping_lets_attempts_in_flight_end_and_records_them() {
    let desk = Desk::start(owed(1..=100, 100), |_, _| (Duration::from_secs(10), ok()));
    desk.pass(1).await;
    let owed = desk.owed.clone();
    let scripted = desk.scripted.clone();
    assert_eq!(desk.stopped().await, Ended::Drained);
    assert_eq!((owed.count(DeliveryState::Delivered), scripted.seen.lock().unwrap().len()), (8, 8));
}

#[tokio::test]
async fn nothing_is_sent_while_decisions_cannot_be_written_and_none_is_lost() {
    let desk = Desk::start(owed(1..=100, 100), |_, _| (Duration::from_millis(100), ok()));
    desk.owed.full.store(true, Ordering::Relaxed);
    desk.pass(3600).await;
    assert_eq!((desk.seen().len(), desk.owed.count(DeliveryState::Delivered)), (8, 0));
    desk.owed.full.store(false, Ordering::Relaxed);
    desk.pass(10).await;
    // What was taken is not sent again: its decisions were kept.
    assert_eq!((desk.seen().len(), desk.owed.count(DeliveryState::Delivered)), (100, 100));
}

#[tokio::test]
async fn a_store_that_cannot_be_read_for_a_while_delays_and_loses_nothing() {
    let desk = Desk::start(owed(1..=50, 5), |_, _| (Duration::from_millis(10), ok()));
    desk.owed.unreadable.store(true, Ordering::Relaxed);
    desk.pass(60).await;
    desk.owed.unreadable.store(false, Ordering::Relaxed);
    desk.pass(10).await;
    in_order_per_lane(&desk.seen());
    assert_eq!((desk.seen().len(), desk.owed.count(DeliveryState::Delivered)), (50, 50));
}

#[tokio::test]
async fn a_node_that_lost_the_lease_stops_sending() {
    let desk = Desk::start(owed(1..=100, 100), |_, _| (Duration::from_millis(10), ok()));
    desk.owed.fenced.store(true, Ordering::Relaxed);
    desk.pass(60).await;
    assert_eq!(desk.task.await.unwrap(), Ended::Fenced);
    assert_eq!(desk.scripted.seen.lock().unwrap().len(), 8);
}

#[tokio::test]
async fn a_rate_holds_and_everything_arrives_in_its_time() {
    let rate = Rate::new(10.0, Duration::from_secs(1), 5);
    let options = DeliverOptions { rate, ..options() };
    let desk = Desk::start_with(VirtualClock::default(), owed(1..=100, 100), options, |_, _| (Duration::ZERO, ok()));
    desk.clock.settle().await;
    assert_eq!(desk.seen().len(), 5);
    desk.pass(5).await;
    assert_eq!(desk.seen().len(), 55);
    desk.pass(5).await;
    assert_eq!(desk.seen().len(), 100);
    assert!(NonZeroU32::new(5) == rate.map(|rate| rate.burst));
}

#[tokio::test]
async fn replays_go_slowly_outside_of_the_order_and_do_not_hold_up_the_rest() {
    let owed = owed(1..=100, 10);
    for position in 1..=1000 {
        owed.owe_replay("desk", position, 3);
    }
    let desk = Desk::start(owed, |_, _| (Duration::ZERO, ok()));
    desk.pass(1).await;
    assert_eq!(desk.seen().iter().filter(|seen| !seen.replay).count(), 100);
    desk.pass(9).await;
    let replayed = desk.seen().iter().filter(|seen| seen.replay).count();
    assert!((95..=105).contains(&replayed), "{replayed} replays in ten seconds at ten a second");
    desk.handle.replay_rate(1000.0);
    desk.pass(2).await;
    assert_eq!(desk.owed.count(DeliveryState::Delivered), 1100);
    in_order_per_lane(&desk.seen());
}

#[tokio::test]
async fn new_deliveries_go_out_when_the_task_is_woken() {
    let desk = Desk::start(Owed::new(), |_, _| (Duration::ZERO, ok()));
    desk.pass(10).await;
    desk.owed.owe("desk", 1, 1);
    desk.handle.wake();
    desk.clock.settle().await;
    assert_eq!(desk.taken(), [1]);
}

#[tokio::test]
async fn a_dead_letter_that_is_due_again_is_sent_and_an_erased_delivery_is_not() {
    let desk =
        Desk::start(owed(1..=10, 1), |position, asked| (Duration::ZERO, if position == 1 && asked < 3 { status(422) } else { ok() }));
    desk.pass(1000).await;
    assert_eq!(desk.owed.row("desk", 1).state, DeliveryState::Dead);
    assert_eq!(desk.owed.count(DeliveryState::Delivered), 9);
    desk.owed.change("desk", 1, |row| row.state = DeliveryState::Waiting);
    desk.handle.rescan();
    desk.pass(1).await;
    assert_eq!(desk.owed.row("desk", 1).state, DeliveryState::Delivered);

    desk.handle.pause();
    desk.owed.owe("desk", 11, 1);
    desk.handle.wake();
    desk.pass(1).await;
    assert_eq!(desk.times_of(11).len(), 0);
    desk.owed.change("desk", 11, |row| row.state = DeliveryState::Erased);
    desk.handle.resume();
    desk.pass(1).await;
    assert_eq!(desk.times_of(11).len(), 0);
}

#[tokio::test]
async fn a_rescan_while_everything_is_under_way_sends_nothing_twice() {
    let desk = Desk::start(owed(1..=2000, 50), |position, _| (Duration::from_millis(position as u64 % 5), ok()));
    for _ in 0..40 {
        desk.clock.pass(Duration::from_millis(3)).await;
        desk.handle.rescan();
    }
    desk.pass(60).await;
    in_order_per_lane(&desk.seen());
    assert_eq!(desk.seen().len(), 2000);
}

#[tokio::test]
async fn a_clock_that_is_set_back_delays_no_delivery_beyond_its_step() {
    let clock = VirtualClock::default();
    let owed = owed(1..=1, 1);
    let first = Desk::start_with(clock.clone(), owed.clone(), options(), |_, _| (Duration::ZERO, status(500)));
    first.pass(1).await;
    clock.jump_ms(-365 * 24 * 3_600_000);
    first.pass(5).await;
    assert_eq!(first.times_of(1), [0, 5]);
    assert_eq!(first.stopped().await, Ended::Drained);
    // Due a year ahead, as far as the store can tell: at most a day is waited.
    clock.jump_ms(-365 * 24 * 3_600_000);
    let second = Desk::start_with(clock, owed, options(), |_, _| (Duration::ZERO, ok()));
    second.pass(29 * 3600).await;
    assert_eq!(second.taken(), [1]);
}
