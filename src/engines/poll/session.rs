//! A session: which list is asked next, and what becomes of its answer.
//!
//! One question a call of `next`, so that what it brought is durable before the next. A list that fails by itself (a room that is
//! gone, a right that is missing) waits alone where there are others (I8).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::Value;

use crate::connector::ask::Asked;
use crate::connector::call::Filling;
use crate::connector::call::answer::{Judged, Meaning};
use crate::connector::poll::follow::{Asking, PAGES_MAX, Said, Unsaid};
use crate::connector::poll::lane::{Lane, Step, weight};
use crate::connector::poll::limits::Used;
use crate::connector::poll::{Follow, Poll};
use crate::engines::poll::{PollParts, broken, json, person, refused};
use crate::model::codes::Code;
use crate::ports::BoxFuture;
use crate::ports::feed::{Cursors, Feed, FeedBatch, FeedNews, Payload};
use crate::ports::pull::PullError;

/// Parts of one poll at most.
const PARTS_MAX: usize = 1000;
/// A list that fails by itself is asked again after this long at most, and where only a person can mend it.
const FAILED_PAUSE: Duration = Duration::from_secs(300);
/// Trouble of the moment is tried again after this long; it doubles.
const FAILED_FIRST: Duration = Duration::from_secs(1);
/// After so many in a row a person hears of it.
const FAILED_TOLD: u32 = 3;
/// Throttled longer than this, or this often in a row, the session ends, so that a person hears of it.
const THROTTLED_MAX: Duration = Duration::from_secs(300);
const THROTTLED_ROW_MAX: u32 = 5;
/// Wait after a throttling answer that names none; it doubles.
const THROTTLED_FIRST: Duration = Duration::from_secs(5);
/// Requests after which what was used of a budget is written down, where no batch takes it along.
const USED_WRITE_EVERY: u32 = 20;
/// A pause grows by this while nothing comes.
const IDLE_GROWTH: f64 = 1.5;
/// Where the used budget is kept.
const USED: &str = "used";

/// One poll of the account.
struct Road {
    name: String,
    /// Its lists: one, or one for each part. `None`: the parts are not known yet.
    lanes: Option<Vec<Track>>,
    parts_due: Duration,
    /// What was registered; null if nothing is.
    session: Value,
    /// It fills a gap, and there is one.
    wanted: bool,
}

/// One list and its pace.
struct Track {
    lane: Lane,
    due: Duration,
    pause: Duration,
    /// Failures in a row.
    failures: u32,
    /// The last one was trouble of the moment: what it should have brought is still to come.
    owing: bool,
    /// It was told that it fails.
    told: bool,
}

impl Track {
    fn new(lane: Lane, due: Duration, pause: Duration) -> Self {
        Self { lane, due, pause, failures: 0, owing: false, told: false }
    }
}

/// What is asked next.
enum Turn {
    Parts(usize),
    Register(usize),
    Page(usize, usize),
    Wait(Duration),
}

/// A session of a polled account.
pub(super) struct Session {
    parts: Arc<PollParts>,
    cursors: Cursors,
    roads: Vec<Road>,
    ready: VecDeque<FeedNews>,
    used: Used,
    unwritten: u32,
    /// Nothing is asked before.
    quiet_until: Duration,
    throttled: u32,
    over_told: bool,
}

/// Asks for the parts of a poll.
pub(super) async fn parts_of(parts: &PollParts, poll: &Poll) -> Result<Vec<Value>, PullError> {
    let Some(spec) = &poll.parts else { return Ok(vec![Value::Null]) };
    let set = spec.setting.as_deref().and_then(|name| parts.settings.get(name)).and_then(Value::as_array);
    if let Some(set) = set.filter(|set| !set.is_empty()) {
        return Ok(set.iter().take(PARTS_MAX).cloned().collect());
    }
    let Some((call, rules, from)) = &spec.request else { return Ok(Vec::new()) };
    let judged = parts.side(&poll.name, call, rules).await?;
    let (status, input) = (Value::from(judged.status), crate::connector::jq::Input::Value(&judged.body));
    let found = from.run_of(input, &[&status, &judged.headers]);
    let found = found.map_err(|error| broken(&format!("[poll.{}] parts", poll.name), &error.to_string()))?;
    Ok(found.into_iter().filter(|part| !part.is_null()).take(PARTS_MAX).collect())
}

impl Session {
    pub(super) fn new(parts: Arc<PollParts>, cursors: Cursors) -> Self {
        let now = parts.clock.monotonic();
        let session = |name: &str| cursors.get(&format!("session/{name}")).and_then(|text| serde_json::from_str(text).ok());
        let road = |poll: &Poll| Road {
            name: poll.name.clone(),
            lanes: None,
            parts_due: now,
            session: session(&poll.name).unwrap_or(Value::Null),
            wanted: false,
        };
        let roads = parts.polls().map(road).collect();
        let used = Used::read(cursors.get(USED));
        let (ready, quiet_until) = (VecDeque::new(), Duration::ZERO);
        Self { parts, cursors, roads, ready, used, unwritten: 0, quiet_until, throttled: 0, over_told: false }
    }

    /// What is due; the least due of all.
    fn turn(&self, now: Duration) -> Turn {
        let mut least = now + Duration::from_secs(60);
        for (at, road) in self.roads.iter().enumerate() {
            let Some(poll) = self.parts.connector.polls.get(&road.name) else { continue };
            if poll.spec.fills.is_some() && !road.wanted {
                continue;
            }
            if poll.register.is_some() && road.session.is_null() {
                return Turn::Register(at);
            }
            if road.parts_due <= now {
                return Turn::Parts(at);
            }
            least = least.min(road.parts_due);
        }
        // A gap is filled before new things move the mark beyond it.
        let tracks = self.roads.iter().enumerate().filter(|(_, road)| self.runs(road)).flat_map(|(at, road)| {
            let due = move |(index, track): (usize, &Track)| (track.due.max(now), !road.wanted, track.due, at, index);
            road.lanes.iter().flatten().enumerate().map(due)
        });
        match tracks.min() {
            Some((_, _, due, at, index)) if due <= now => Turn::Page(at, index),
            Some((_, _, due, ..)) => Turn::Wait(due.min(least).saturating_sub(now)),
            None => Turn::Wait(least.saturating_sub(now)),
        }
    }

    fn runs(&self, road: &Road) -> bool {
        self.parts.connector.polls.get(&road.name).is_some_and(|poll| poll.spec.fills.is_none() || road.wanted)
    }

    async fn ask(&mut self) -> Result<FeedNews, PullError> {
        loop {
            if let Some(news) = self.ready.pop_front() {
                return Ok(news);
            }
            let now = self.parts.clock.monotonic();
            if let Some(wait) = self.quiet_until.checked_sub(now).filter(|wait| !wait.is_zero()) {
                return Ok(FeedNews::Quiet(wait));
            }
            match self.turn(now) {
                Turn::Wait(wait) => return Ok(FeedNews::Quiet(wait.max(Duration::from_millis(10)))),
                Turn::Register(at) => self.register(at).await?,
                Turn::Parts(at) => self.refresh(at, now).await?,
                Turn::Page(at, index) => {
                    self.page(at, index).await?;
                    // Whatever it brought: others may want to be heard in between.
                    return Ok(self.ready.pop_front().unwrap_or(FeedNews::Quiet(Duration::ZERO)));
                }
            }
        }
    }

    /// Finds out what there is to be asked for. Lists that are known already keep their pace.
    async fn refresh(&mut self, at: usize, now: Duration) -> Result<(), PullError> {
        let Some(road) = self.roads.get_mut(at) else { return Ok(()) };
        let Some(poll) = self.parts.connector.polls.get(&road.name) else { return Ok(()) };
        let found = parts_of(&self.parts, poll).await?;
        let (pause, _) = poll.interval(&self.parts.settings);
        let mut known = road.lanes.take().unwrap_or_default();
        let mut lanes = Vec::with_capacity(found.len());
        for part in found {
            let lane = Lane::load(poll, part, self.parts.begin, &self.cursors);
            let name = lane.part_name();
            let kept = known.iter().position(|track| track.lane.part_name() == name).map(|place| known.swap_remove(place));
            lanes.push(kept.unwrap_or_else(|| Track::new(lane, now, pause)));
        }
        road.lanes = Some(lanes);
        road.parts_due = poll.parts.as_ref().map_or(Duration::MAX, |parts| now + parts.every);
        Ok(())
    }

    /// Registers, and has the gap since the last registration filled.
    async fn register(&mut self, at: usize) -> Result<(), PullError> {
        let Some(road) = self.roads.get_mut(at) else { return Ok(()) };
        let Some(poll) = self.parts.connector.polls.get(&road.name) else { return Ok(()) };
        let Some(register) = &poll.register else { return Ok(()) };
        let judged = self.parts.side(&poll.name, &register.call, &register.rules).await?;
        let mut session = serde_json::Map::new();
        for (name, filter) in &register.take {
            let value = judged.take(filter).map_err(|error| broken(&format!("[poll.{}] register", poll.name), &error.to_string()))?;
            session.insert(name.clone(), value);
        }
        let mut lane = Lane::load(poll, Value::Null, self.parts.begin, &Cursors::new());
        let cursor = register.cursor.as_ref().and_then(|name| session.get(name)).cloned().unwrap_or(Value::Null);
        lane.registered(&cursor);
        road.session = Value::Object(session);
        let now = self.parts.clock.monotonic();
        road.lanes = Some(vec![Track::new(lane, now, Duration::ZERO)]);
        road.parts_due = Duration::MAX;
        let mut cursors = vec![(format!("session/{}", road.name), Some(road.session.to_string()))];
        cursors.push((format!("age/{}", road.name), Some("live".to_owned())));
        cursors.push((format!("cursor/{}", road.name), Some(cursor.as_str().map_or_else(|| cursor.to_string(), str::to_owned))));
        self.ready.push_back(FeedNews::Batch(FeedBatch { payloads: Vec::new(), cursors }));
        let name = road.name.clone();
        for other in &mut self.roads {
            let fills = self.parts.connector.polls.get(&other.name).and_then(|poll| poll.spec.fills.as_ref());
            if fills == Some(&name) {
                other.wanted = true;
                other.lanes.iter_mut().flatten().for_each(|track| track.due = now);
            }
        }
        Ok(())
    }

    /// Asks for one page of one list.
    async fn page(&mut self, at: usize, index: usize) -> Result<(), PullError> {
        let parts = self.parts.clone();
        let name = self.roads.get(at).map(|road| road.name.clone()).unwrap_or_default();
        let Some(poll) = parts.connector.polls.get(&name) else { return Ok(()) };
        if let Some(wait) = parts.connector.quota.over_for(&mut self.used, poll.spec.cost, parts.clock.now()) {
            return self.over(wait);
        }
        self.over_told = false;
        let Some(road) = self.roads.get_mut(at) else { return Ok(()) };
        let Some(track) = road.lanes.as_mut().and_then(|lanes| lanes.get_mut(index)) else { return Ok(()) };
        let (lane, session) = (&mut track.lane, &road.session);
        let asked = parts.ask(&name, &poll.call, &poll.rules, |token| lane.request(poll, &parts.surroundings(session, token)));
        let Asked { answer, judged, place } = asked.await?;
        let now = parts.clock.monotonic();
        self.used.spend(poll.spec.cost, weight(&answer), parts.clock.now());
        self.unwritten += 1;
        (parts.usage)(&parts.connector.quota.shares(&self.used));
        if let Some(wait) = parts.connector.quota.learn(&judged, parts.clock.now()) {
            self.quiet_until = now + wait;
        }
        match judged.meaning {
            Meaning::Throttled => return self.slow_down(&place, &judged, now),
            Meaning::CursorLost => {
                let lost = track.lane.lose();
                track.due = now + Duration::from_secs(1);
                let note = format!("[poll.{name}] the platform no longer knows where we were");
                let mut cursors = lost.cursors;
                if poll.register.is_some() {
                    road.session = Value::Null;
                    cursors.push((format!("session/{name}"), None));
                }
                tracing::info!(detail = %note, "cursor lost");
                self.ready.push_back(FeedNews::Batch(FeedBatch { payloads: Vec::new(), cursors }));
            }
            Meaning::Ok => {
                let before = track.lane.place();
                let session = road.session.clone();
                let read = if poll.spec.items.is_some() { json(&answer, &judged) } else { Ok(()) };
                let mut step = match read.and_then(|()| track.lane.answer(poll, &answer, &judged, parts.clock.now())) {
                    Ok(step) => step,
                    // Half a page, or a page of something in between: it comes whole another time.
                    Err(why) => return self.failed(at, index, broken(&place, &why), now),
                };
                self.throttled = 0;
                self.works(at, index);
                if let Some(follow) = &poll.follow {
                    for payload in step.batches.iter_mut().flat_map(|batch| &mut batch.payloads) {
                        self.follow((poll, follow), &session, &before, payload).await?;
                    }
                }
                self.stepped(at, index, step, now);
            }
            Meaning::Ignore => track.due = now + track.pause.max(Duration::from_secs(1)),
            Meaning::Refresh => return Err(refused(&place, &judged)),
            _ => return self.failed(at, index, refused(&place, &judged), now),
        }
        self.write_used();
        Ok(())
    }

    /// A list failed. Where all of them do it is the platform's matter, and the session ends; else it waits alone (I8).
    fn failed(&mut self, at: usize, index: usize, error: PullError, now: Duration) -> Result<(), PullError> {
        let Some(road) = self.roads.get_mut(at) else { return Err(error) };
        let Some(track) = road.lanes.as_mut().and_then(|lanes| lanes.get_mut(index)) else { return Err(error) };
        let doubled = FAILED_FIRST.saturating_mul(1 << track.failures.min(9)).min(FAILED_PAUSE);
        track.failures += 1;
        let (pause, owing) = match &error {
            PullError::Lost { after, .. } => (doubled.max(after.unwrap_or_default()), true),
            PullError::Person { .. } => (FAILED_PAUSE, false),
        };
        (track.due, track.owing) = (now + pause, owing);
        let tell = !track.told && (!owing || track.failures >= FAILED_TOLD);
        track.told |= tell;
        let detail = format!("[poll.{}] {}: {error}", road.name, track.lane.part_name());
        let working = |road: &Road| self.runs(road) && road.lanes.iter().flatten().any(|track| track.failures == 0);
        if !self.roads.iter().any(working) {
            return Err(error);
        }
        if tell {
            self.ready.push_back(FeedNews::Note { code: error.code(), detail });
        }
        self.write_used();
        Ok(())
    }

    /// A list answers as it should.
    fn works(&mut self, at: usize, index: usize) {
        let track = self.roads.get_mut(at).and_then(|road| road.lanes.as_mut()?.get_mut(index));
        let was_told = track.is_some_and(|track| {
            (track.failures, track.owing) = (0, false);
            std::mem::take(&mut track.told)
        });
        let told = |road: &Road| road.lanes.iter().flatten().any(|track| track.told);
        if was_told && !self.roads.iter().any(told) {
            self.ready.push_back(FeedNews::Mended);
        }
    }

    /// Asks for what a list only names. If that fails the session ends, and goes on from what is durable.
    async fn follow(
        &mut self,
        (poll, follow): (&Poll, &Follow),
        session: &Value,
        before: &Value,
        payload: &mut Payload,
    ) -> Result<(), PullError> {
        let parts = self.parts.clone();
        let wrong = |what: String| person(Code::Protocol, format!("[poll.{}] follow: {what}", poll.name));
        let mut asking = Asking::of(poll, follow, before, payload).map_err(wrong)?;
        while let Some(item) = asking.thing().map_err(wrong)? {
            let context = asking.context(item, &parts.settings, session, parts.clock.now());
            let render = |token: Option<&SecretString>| {
                follow.call.render(&Filling { context: &context, secrets: &parts.secrets, token, files: &[] })
            };
            // Where it leads does not depend on its token.
            let somewhere = render(Some(&SecretString::default())).ok();
            if somewhere.is_some_and(|request| asking.is_told(&request)) {
                continue;
            }
            let Asked { answer, judged, place } = parts.ask(&poll.name, &follow.call, &follow.rules, render).await?;
            self.used.spend(poll.spec.cost, weight(&answer), parts.clock.now());
            if judged.meaning == Meaning::Ok {
                json(&answer, &judged).map_err(|why| broken(&place, &why))?;
            }
            match asking.said(judged) {
                Ok(Said::Whole) => {}
                Ok(Said::Cut) => tracing::warn!(omnigate.pages = PAGES_MAX, "what a list names has more pages than are read"),
                Err(Unsaid::Refused(judged)) => return Err(refused(&place, &judged)),
                Err(Unsaid::Broken(what)) => return Err(wrong(what)),
            }
        }
        payload.body = asking.body();
        Ok(())
    }

    /// What a page brought, and when the list is asked again.
    fn stepped(&mut self, at: usize, index: usize, step: Step, now: Duration) {
        let settings = &self.parts.settings;
        let Some(road) = self.roads.get_mut(at) else { return };
        let Some(poll) = self.parts.connector.polls.get(&road.name) else { return };
        let (base, idle) = poll.interval(settings);
        let last = road.lanes.as_ref().is_some_and(|lanes| lanes.len() == 1);
        let Some(track) = road.lanes.as_mut().and_then(|lanes| lanes.get_mut(index)) else { return };
        if step.again {
            track.due = now;
        } else {
            track.pause = if step.fresh > 0 { base } else { track.pause.mul_f64(IDLE_GROWTH).clamp(base, idle) };
            // Many channels that begin together would stay together.
            track.due = now + track.pause.mul_f64(0.9 + self.parts.random.unit() / 5.0);
            if poll.spec.fills.is_some() && last {
                road.wanted = false;
            }
        }
        self.ready.extend(step.batches.into_iter().map(FeedNews::Batch));
        if let Some(mark) = step.mark {
            self.mark(at, &mark);
        }
    }

    /// A page told how far the poll that fills gaps need not go back.
    fn mark(&mut self, at: usize, mark: &str) {
        let Some(name) = self.roads.get(at).map(|road| road.name.clone()) else { return };
        let parts = self.parts.clone();
        for road in &mut self.roads {
            let fills = parts.connector.polls.get(&road.name).and_then(|poll| poll.spec.fills.as_ref());
            if fills != Some(&name) || road.wanted {
                continue;
            }
            road.lanes.iter_mut().flatten().for_each(|track| track.lane.mark(mark));
            let cursors = [("cursor", mark), ("age", "live")].map(|(what, value)| (format!("{what}/{}", road.name), value.to_owned()));
            self.cursors.extend(cursors.clone());
            if let Some(FeedNews::Batch(batch)) = self.ready.back_mut() {
                batch.cursors.extend(cursors.map(|(name, value)| (name, Some(value))));
            }
        }
    }

    /// What was used of a budget goes along with a batch, or by itself now and then.
    fn write_used(&mut self) {
        if !self.parts.connector.quota.has_budget() {
            return;
        }
        let entry = (USED.to_owned(), Some(self.used.text()));
        match self.ready.back_mut() {
            Some(FeedNews::Batch(batch)) => batch.cursors.push(entry),
            _ if self.unwritten >= USED_WRITE_EVERY => {
                self.ready.push_back(FeedNews::Batch(FeedBatch { payloads: Vec::new(), cursors: vec![entry] }));
            }
            _ => return,
        }
        self.unwritten = 0;
    }

    /// The budget of the day is used up.
    fn over(&mut self, wait: Duration) -> Result<(), PullError> {
        self.quiet_until = self.parts.clock.monotonic() + wait;
        if !std::mem::replace(&mut self.over_told, true) {
            let detail = "the budget of this day is used up; it goes on tomorrow (UTC)".to_owned();
            return Err(PullError::Lost { code: Code::Throttled, detail, after: Some(wait) });
        }
        Ok(())
    }

    /// The platform wants to be asked less. What is walked already is kept, unless it takes long.
    fn slow_down(&mut self, place: &str, judged: &Judged, now: Duration) -> Result<(), PullError> {
        self.throttled += 1;
        let doubled = THROTTLED_FIRST.saturating_mul(1 << self.throttled.min(6));
        let wait = judged.after.unwrap_or(doubled).max(self.quiet_until.saturating_sub(now)).max(Duration::from_millis(100));
        if wait > THROTTLED_MAX || self.throttled > THROTTLED_ROW_MAX {
            return Err(match refused(place, judged) {
                PullError::Lost { code, detail, .. } => PullError::Lost { code, detail, after: Some(wait) },
                other => other,
            });
        }
        self.quiet_until = now + wait;
        Ok(())
    }
}

impl Session {
    /// Nothing is due: every list was asked to its end, or waits because it fails.
    fn is_done(&self) -> bool {
        let now = self.parts.clock.monotonic();
        let asked = |track: &Track| track.due > now && !track.owing;
        let done = |road: &Road| road.lanes.as_ref().is_some_and(|tracks| tracks.iter().all(asked));
        self.ready.is_empty() && self.roads.iter().filter(|road| self.runs(road)).all(done)
    }
}

impl Feed for Session {
    fn is_through(&self) -> bool {
        self.is_done()
    }

    fn next(&mut self) -> BoxFuture<'_, Result<FeedNews, PullError>> {
        Box::pin(self.ask())
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        // What was not handed over is asked for again.
        Box::pin(std::future::ready(()))
    }
}
