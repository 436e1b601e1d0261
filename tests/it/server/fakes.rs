//! Fakes behind the listeners: an intake that answers by hook name, a gateway and a store that hold a few rows.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use omnigate::model::delivery::{DeliveryState, Position};
use omnigate::model::id::{AttachmentId, ContactId, EventId, MessageId, RawId};
use omnigate::model::item::Fate;
use omnigate::model::raw::{Raw, RawHead, Via};
use omnigate::model::ticket::{TicketFilter, TicketRow};
use omnigate::model::time::Time;
use omnigate::model::view::*;
use omnigate::ports::BoxFuture;
use omnigate::ports::control::*;
use omnigate::ports::intake::{HookAnswer, HookRequest, Intake};
use omnigate::ports::store::*;

use crate::support::refusing::refuses;

/// Hooks: `ok` echoes, `busy` is overloaded, `slow` takes its time. Remembers what it was asked.
#[derive(Default)]
pub struct FakeIntake {
    pub seen: Mutex<Vec<HookRequest>>,
}

pub const BODY_BYTES_MAX: usize = 64 * 1024;

impl Intake for FakeIntake {
    fn body_bytes_max(&self, hook: &str) -> Option<usize> {
        ["ok", "busy", "slow"].contains(&hook).then_some(BODY_BYTES_MAX)
    }

    fn receive(&self, request: HookRequest) -> BoxFuture<'_, HookAnswer> {
        Box::pin(async move {
            let hook = request.hook.clone();
            let body = request.body.clone();
            self.seen.lock().unwrap().push(request);
            match hook.as_str() {
                "busy" => HookAnswer { status: 503, headers: vec![("retry-after".into(), "7".into())], body: Bytes::new() },
                "slow" => {
                    tokio::time::sleep(Duration::from_millis(400)).await;
                    HookAnswer { status: 200, headers: Vec::new(), body: Bytes::from_static(b"late") }
                }
                _ => HookAnswer {
                    status: 200,
                    headers: vec![("content-type".into(), "text/plain".into()), ("bad\r\nname".into(), "x".into())],
                    body,
                },
            }
        })
    }
}

/// Remembers what it was asked to do, one line each.
#[derive(Default)]
pub struct FakeControl {
    pub asked: Mutex<Vec<String>>,
    pub not_ready: AtomicBool,
}

pub const FILE: AttachmentId = AttachmentId(7);
pub const BIG_FILE: AttachmentId = AttachmentId(9);
/// Size of the big file: no multiple of a piece.
pub const BIG_BYTES: usize = 300_001;
pub const GONE_FILE: AttachmentId = AttachmentId(8);
pub const RAW: RawId = RawId(11);
pub const MESSAGE: MessageId = MessageId(12);
pub const EVENT: EventId = EventId(13);
pub const CONTACT: ContactId = ContactId(14);

impl FakeControl {
    fn note<T>(&self, line: String, name: &str, answer: T) -> BoxFuture<'_, Result<T, ControlError>>
    where
        T: Send + 'static,
    {
        self.asked.lock().unwrap().push(line);
        let answer = match name {
            "nobody" => Err(ControlError::Missing("no `nobody`".into())),
            "stubborn" => Err(ControlError::Refused("`stubborn` is still configured: remove it first".into())),
            "broken" => Err(ControlError::Failed("the store did not answer".into())),
            _ => Ok(answer),
        };
        Box::pin(async move { answer })
    }
}

impl Control for FakeControl {
    fn status(&self) -> BoxFuture<'_, Status> {
        let ready = !self.not_ready.load(Ordering::Relaxed);
        let channel = |state: &str| ChannelStatus {
            connector: "slack".into(),
            state: state.into(),
            code: None,
            detail: None,
            since: Time(0),
            last_received: None,
            hook: Some("/hooks/ok".into()),
        };
        let channels = BTreeMap::from([("acme-slack".into(), channel("running")), ("sick".into(), channel("failed"))]);
        let not_ready = if ready { Vec::new() } else { vec!["own ids of channel `acme-slack` are not known yet".into()] };
        Box::pin(async move {
            Status {
                version: "0".into(),
                started_at: Time(0),
                ready,
                not_ready,
                channels,
                configured_destinations: vec!["crm".into(), "desk".into()],
                queue: 0,
            }
        })
    }
    fn reload(&self) -> BoxFuture<'_, Result<Reloaded, ControlError>> {
        self.note("reload".into(), "", Reloaded { added: vec!["new".into()], ..Reloaded::default() })
    }
    fn pause<'a>(&'a self, destination: &'a str) -> BoxFuture<'a, Result<(), ControlError>> {
        self.note(format!("pause {destination}"), destination, ())
    }
    fn resume<'a>(&'a self, destination: &'a str) -> BoxFuture<'a, Result<(), ControlError>> {
        self.note(format!("resume {destination}"), destination, ())
    }
    fn drop_destination<'a>(&'a self, destination: &'a str) -> BoxFuture<'a, Result<u64, ControlError>> {
        self.note(format!("drop {destination}"), destination, 3)
    }
    fn replay(&self, request: ReplayRequest) -> BoxFuture<'_, Result<u64, ControlError>> {
        let name = request.filter.destination.clone().unwrap_or_default();
        self.note(format!("replay {name} dry={} rate={:?}", request.dry_run, request.rate), &name, 42)
    }
    fn dead(&self, filter: DeliveryFilter, discard: bool) -> BoxFuture<'_, Result<u64, ControlError>> {
        self.note(format!("dead {:?} discard={discard}", filter.destination), "", 5)
    }
    fn reprocess(&self, item: i64) -> BoxFuture<'_, Result<String, ControlError>> {
        self.note(format!("reprocess {item}"), if item == 2 { "nobody" } else { "" }, "published".into())
    }
    fn backfill<'a>(&'a self, channel: &'a str, since: Option<Time>, folder: Option<&'a str>) -> BoxFuture<'a, Result<(), ControlError>> {
        self.note(format!("backfill {channel} {since:?} {folder:?}"), channel, ())
    }
    fn reconcile<'a>(&'a self, channel: &'a str, repair: bool) -> BoxFuture<'a, Result<Vec<FolderCompared>, ControlError>> {
        self.note(format!("reconcile {channel} repair={repair}"), channel, vec![FolderCompared::default()])
    }
    fn consent<'a>(&'a self, channel: &'a str, given: Consent) -> BoxFuture<'a, Result<(), ControlError>> {
        self.note(format!("consent {channel} {:?} {:?}", given.refresh_token, given.ends_in), channel, ())
    }
    fn subscribe<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<SubscriptionView, ControlError>> {
        self.note(format!("subscribe {channel}"), channel, SubscriptionView::default())
    }
    fn unsubscribe<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<SubscriptionView, ControlError>> {
        self.note(format!("unsubscribe {channel}"), channel, SubscriptionView::default())
    }
    fn subscription<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<SubscriptionView, ControlError>> {
        self.note(format!("subscription {channel}"), channel, SubscriptionView::default())
    }
    fn erase(&self, contact: ContactId) -> BoxFuture<'_, Result<BTreeMap<String, u64>, ControlError>> {
        self.note(format!("erase {contact}"), if contact == CONTACT { "" } else { "nobody" }, BTreeMap::from([("messages".into(), 2)]))
    }
    fn backup<'a>(&'a self, folder: &'a Path) -> BoxFuture<'a, Result<(), ControlError>> {
        self.note(format!("backup {}", folder.display()), "", ())
    }
    fn file(&self, attachment: AttachmentId) -> BoxFuture<'_, Result<FileBytes, ControlError>> {
        let file = FileBytes {
            media_type: "text/html".into(),
            name: Some("../Prüfung\r\n.html".into()),
            bytes: Bytes::from_static(b"<script>alert(1)</script>"),
        };
        if attachment == BIG_FILE {
            let file = FileBytes { media_type: "image/png".into(), name: None, bytes: Bytes::from(vec![7; BIG_BYTES]) };
            return self.note(format!("file {attachment}"), "", file);
        }
        self.note(format!("file {attachment}"), if attachment == FILE { "" } else { "nobody" }, file)
    }
    fn file_bytes(&self, attachment: AttachmentId) -> BoxFuture<'_, Result<Option<u64>, ControlError>> {
        Box::pin(async move { Ok((attachment == BIG_FILE).then_some(BIG_BYTES as u64)) })
    }
    fn raw_body(&self, raw: RawId) -> BoxFuture<'_, Result<Bytes, ControlError>> {
        self.note(format!("raw {raw}"), if raw == RAW { "" } else { "nobody" }, Bytes::from_static(b"{\"text\":\"hello\"}"))
    }
}

/// A store with two ledger rows, two events and three deliveries; everything else is refused.
#[derive(Default)]
pub struct FakeStore {
    pub sick: AtomicBool,
    pub hangs: AtomicBool,
}

impl FakeStore {
    fn some<T: Send + 'static>(&self, value: T) -> BoxFuture<'_, Result<T, StoreError>> {
        Box::pin(async move {
            if self.hangs.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            if self.sick.load(Ordering::Relaxed) { Err(StoreError::Full) } else { Ok(value) }
        })
    }
}

pub fn ledger_row(item: i64, fate: Fate) -> LedgerRow {
    LedgerRow {
        item,
        raw: RAW,
        source: "ok".into(),
        via: Via::Webhook,
        channel: Some("acme-slack".into()),
        kind: "message".into(),
        fate,
        code: (fate == Fate::Quarantined).then(|| "mapping_failed".into()),
        duplicate_of: None,
        message: None,
        conversation: None,
        event: None,
        tickets: Vec::new(),
        received_at: Time(1_000),
    }
}

fn delivery(position: Position, destination: &str) -> DeliveryView {
    DeliveryView {
        destination: destination.into(),
        position,
        event: EVENT,
        event_type: "message.created".into(),
        conversation: None,
        state: DeliveryState::Dead,
        attempts: 10,
        replay: false,
        code: Some("exhausted".into()),
        status: Some(500),
        detail: None,
        at: Time(2_000),
    }
}

pub fn totals() -> Totals {
    let nested = |entries: &[(&str, u64)]| entries.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect::<BTreeMap<_, _>>();
    Totals {
        received: BTreeMap::from([("acme-slack".into(), 10)]),
        fates: BTreeMap::from([("acme-slack".into(), nested(&[("published", 7), ("duplicate", 2), ("quarantined", 1)]))]),
        due: BTreeMap::from([("desk".into(), 7)]),
        deliveries: BTreeMap::from([("desk".into(), nested(&[("delivered", 4), ("waiting", 2), ("dead", 1)]))]),
        ..Totals::default()
    }
}

impl Store for FakeStore {
    refuses!(
        stage,
        commit,
        take_lease,
        waiting,
        lane,
        retrying,
        outgoing,
        count_deliveries,
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
        ticket_entries
    );

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.some(())
    }
    fn free_bytes(&self) -> Option<u64> {
        Some(1 << 30)
    }
    fn destinations(&self) -> BoxFuture<'_, Result<Vec<DestinationRow>, StoreError>> {
        self.some(vec![DestinationRow {
            name: "desk".into(),
            state: DestinationMode::Active,
            code: None,
            since: Time(0),
            deliveries: BTreeMap::new(),
            oldest_waiting: None,
            retrying: None,
            configured: false,
        }])
    }
    fn totals(&self) -> BoxFuture<'_, Result<Totals, StoreError>> {
        self.some(totals())
    }
    fn events_after(&self, after: Position, limit: usize) -> BoxFuture<'_, Result<Vec<(Position, Bytes)>, StoreError>> {
        let all = [(3, &b"{\"n\": 1 }"[..]), (5, b"{\"n\":2}"), (9, b"{\"n\":3}")];
        self.some(
            all.into_iter().filter(|(place, _)| *place > after).take(limit).map(|(place, bytes)| (place, Bytes::from(bytes))).collect(),
        )
    }
    fn ledger(&self, filter: LedgerFilter) -> BoxFuture<'_, Result<Vec<LedgerRow>, StoreError>> {
        let rows = [ledger_row(2, Fate::Published), ledger_row(1, Fate::Quarantined)];
        let keep =
            move |row: &LedgerRow| filter.before.is_none_or(|before| row.item < before) && filter.fate.is_none_or(|fate| row.fate == fate);
        self.some(rows.into_iter().filter(keep).take(filter.limit as usize).collect())
    }
    fn message(&self, id: MessageId) -> BoxFuture<'_, Result<Option<MessageView>, StoreError>> {
        self.some((id == MESSAGE).then(|| MessageView {
            id,
            key: "k1_0".into(),
            conversation: omnigate::model::id::ConversationId(1),
            contact: None,
            channel: "acme-slack".into(),
            gone: false,
            tickets: Vec::new(),
            events: Vec::new(),
            ledger: Vec::new(),
        }))
    }
    fn event(&self, id: EventId) -> BoxFuture<'_, Result<Option<EventView>, StoreError>> {
        self.some((id == EVENT).then(|| EventView {
            position: 3,
            id,
            event_type: "message.created".into(),
            sequence: 1,
            event: None,
            deliveries: vec![delivery(3, "desk")],
            entries: Vec::new(),
        }))
    }
    fn tickets(&self, _: TicketFilter) -> BoxFuture<'_, Result<Vec<TicketRow>, StoreError>> {
        self.some(Vec::new())
    }
    fn deliveries(&self, filter: DeliveryFilter) -> BoxFuture<'_, Result<Vec<DeliveryView>, StoreError>> {
        let rows = [delivery(3, "desk"), delivery(5, "crm"), delivery(5, "desk")];
        let after = filter.after.unwrap_or(0);
        self.some(rows.into_iter().filter(|row| row.position > after).take(filter.limit as usize).collect())
    }
    fn quarantine<'a>(
        &'a self,
        _: Option<&'a str>,
        before: Option<i64>,
        _: usize,
    ) -> BoxFuture<'a, Result<Vec<QuarantineRow>, StoreError>> {
        let row = QuarantineRow {
            item: 1,
            raw: RAW,
            source: "ok".into(),
            channel: Some("acme-slack".into()),
            code: "mapping_failed".into(),
            detail: "cannot index a number".into(),
            bytes: 16,
            received_at: Time(1_000),
        };
        self.some(Some(row).filter(|row| before.is_none_or(|before| row.item < before)).into_iter().collect())
    }
    fn raw(&self, id: RawId) -> BoxFuture<'_, Result<Option<(Raw, Option<String>)>, StoreError>> {
        let head = RawHead { method: "POST".into(), target: "/hooks/ok".into(), ..RawHead::default() };
        let raw = Raw { id, source: "ok".into(), via: Via::Webhook, received_at: Time(0), head, body: Bytes::new() };
        self.some((id == RAW).then_some((raw, None)))
    }
}
