//! A ticket destination on a bench: the engine and a real HTTP client against a fake system, with a clock that the test moves and
//! books in memory. Minutes of waiting for an index pass at once.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use omnigate::app::system::SystemRandom;
use omnigate::app::tokens::{Forget, Tokens};
use omnigate::connector::folder::Folder;
use omnigate::connector::jq::Limits;
use omnigate::connector::problem::render;
use omnigate::connector::ticket::TicketSystem;
use omnigate::connector::ticket::compose::Forms;
use omnigate::destinations::ticket::{TicketDesk, TicketOptions, TicketPorts};
use omnigate::http::client::HttpClient;
use omnigate::logic::digest::{Digester, INSTANCE_KEY_BYTES};
use omnigate::logic::ticket::TicketPolicy;
use omnigate::model::delivery::Outgoing;
use omnigate::model::id::{AttachmentId, ConversationId, EventId};
use omnigate::model::ticket::{TicketChange, TicketEntry, TicketKnown, TicketLink};
use omnigate::model::time::Time;
use omnigate::ports::BoxFuture;
use omnigate::ports::clock::Clock;
use omnigate::ports::destination::{DeliverError, Destination, FileReader};
use omnigate::ports::store::StoreError;
use omnigate::ports::ticket::TicketBook;
use serde_json::{Value, json};

use crate::support::desk_fakes::{Fake, Room, System};

/// 2026-11-22T09:00:00Z.
const START_MS: i64 = 1_795_338_000_000;

#[derive(Default)]
struct Moved(Mutex<i64>);

impl Clock for Moved {
    fn now(&self) -> Time {
        Time(START_MS + *self.0.lock().unwrap())
    }
    fn monotonic(&self) -> Duration {
        Duration::from_millis(u64::try_from(*self.0.lock().unwrap()).unwrap())
    }
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

#[derive(Default)]
struct Book {
    links: Mutex<HashMap<ConversationId, Vec<TicketLink>>>,
    entries: Mutex<HashMap<EventId, Vec<TicketEntry>>>,
}

impl TicketBook for Book {
    fn known<'a>(&'a self, _: &'a str, conversation: ConversationId, event: EventId) -> BoxFuture<'a, Result<TicketKnown, StoreError>> {
        let links = self.links.lock().unwrap().get(&conversation).cloned().unwrap_or_default();
        let entries = self.entries.lock().unwrap().get(&event).cloned().unwrap_or_default();
        let before = links.len().checked_sub(2).map(|at| links[at].clone());
        Box::pin(std::future::ready(Ok(TicketKnown { link: links.last().cloned(), before, entries })))
    }
    fn change(&self, change: TicketChange) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut links = self.links.lock().unwrap();
        if let Some(link) = change.link {
            let of = links.entry(change.conversation).or_default();
            of.retain(|known| known.generation != link.generation);
            of.push(link);
        }
        for entry in change.entries {
            let mut all = self.entries.lock().unwrap();
            let of = all.entry(entry.event).or_default();
            of.retain(|known| known.piece != entry.piece);
            of.push(entry);
        }
        Box::pin(std::future::ready(Ok(())))
    }
    fn lease_epoch(&self) -> u64 {
        1
    }
}

#[derive(Default)]
struct Files(Mutex<HashMap<AttachmentId, Bytes>>);

impl FileReader for Files {
    fn read(&self, attachment: AttachmentId, _: u64) -> BoxFuture<'_, Result<Option<Bytes>, String>> {
        Box::pin(std::future::ready(Ok(self.0.lock().unwrap().get(&attachment).cloned())))
    }
}

/// The bench.
pub struct Bench {
    pub fake: Fake,
    pub desk: TicketDesk,
    clock: Arc<Moved>,
    files: Arc<Files>,
    events: Mutex<u64>,
}

/// The folder of a system as it lies in the repository.
fn folder(name: &str) -> Folder {
    let at = Path::new(env!("CARGO_MANIFEST_DIR")).join("connectors").join(name);
    let file = |path: &str| std::fs::read(at.join(path)).ok().map(|bytes| (path.to_owned(), bytes.into()));
    let files = ["destination.toml", "back/map.jq"].into_iter().filter_map(file).collect();
    Folder { name: name.to_owned(), origin: format!("connectors/{name}"), files }
}

impl Bench {
    pub async fn new(system: &'static dyn System, policy: TicketPolicy) -> Self {
        let fake = Fake::start(system).await;
        let loaded = TicketSystem::load(&folder(system.name()), Limits::default()).unwrap();
        let loaded = loaded.unwrap_or_else(|problems| panic!("{}", render(&problems)));
        let settings = loaded.settings(system.settings(&fake.url()).as_object().unwrap()).unwrap();
        let (name, secret) = system.secret();
        let (clock, files) = (Arc::new(Moved::default()), Arc::new(Files::default()));
        let options = TicketOptions {
            name: "desk".into(),
            settings,
            secrets: BTreeMap::from([(name.to_owned(), vec![secret.to_owned().into()])]),
            policy,
            forms: Forms { edits: true, deletions: true, reactions: true },
            contact_domain: "contacts.example.org".into(),
            files: true,
            file_bytes_max: loaded.manifest.ticket.file_bytes_max.unwrap_or(u64::MAX),
            timeout: Duration::from_secs(20),
            strict_egress: false,
            system: Arc::new(loaded),
        };
        let http = Arc::new(HttpClient::new(false).unwrap());
        let digester = Digester::new(&[0; INSTANCE_KEY_BYTES]);
        let random = Arc::new(SystemRandom::default());
        let tokens = Tokens::new(Arc::new(Forget), digester, Arc::default(), clock.clone(), random);
        let wallet = tokens.desk(&options).unwrap();
        let ports = TicketPorts { http, book: Arc::new(Book::default()), files: files.clone(), clock: clock.clone(), wallet };
        Self { desk: TicketDesk::new(options, ports), fake, clock, files, events: Mutex::new(0) }
    }

    /// Time passes, for the destination and the system.
    pub fn pass(&self, span: Duration) {
        let ms = i64::try_from(span.as_millis()).unwrap();
        *self.clock.0.lock().unwrap() += ms;
        self.fake.room.lock().unwrap().now_ms += ms;
    }

    /// What the system holds.
    pub fn room(&self) -> Room {
        self.fake.room.lock().unwrap().clone()
    }

    /// Hands an event over, once.
    pub async fn once(&self, event: &Outgoing) -> Result<(), DeliverError> {
        self.desk.deliver(event).await.map(|_| ())
    }

    /// Hands an event over as the pipeline does: what is in doubt comes again when it can be seen.
    pub async fn deliver(&self, event: &Outgoing) -> Result<(), DeliverError> {
        for _ in 0..40 {
            match self.once(event).await {
                Err(DeliverError::Unsure { after, .. }) => self.pass(after.max(Duration::from_millis(1))),
                Err(DeliverError::Later { after, .. }) => self.pass(after.unwrap_or(Duration::from_millis(500))),
                other => return other,
            }
        }
        panic!("it does not come to rest: {:?}", self.once(event).await);
    }

    fn outgoing(&self, kind: &str, conversation: u64, data: Value) -> Outgoing {
        let mut events = self.events.lock().unwrap();
        *events += 1;
        let id = EventId(u128::from(*events));
        let event = json!({"type": kind, "id": id.to_string(), "timestamp": "2026-11-22T09:00:00.000Z", "data": data});
        Outgoing {
            event: id,
            event_type: kind.to_owned(),
            conversation: Some(ConversationId(u128::from(conversation))),
            channel: Some("shop".into()),
            sequence: *events,
            previous: *events - 1,
            bytes: event.to_string().into(),
            attempt: 1,
            replay: false,
        }
    }

    /// A message of conversation `number` with files; `first`: it opens it.
    pub fn message(&self, number: u64, words: &str, first: bool, files: &[(&str, &[u8])]) -> (String, Outgoing) {
        let at = *self.events.lock().unwrap() + 1;
        let id = format!("msg_{at:026}");
        let mut list = Vec::new();
        for (place, (name, bytes)) in files.iter().enumerate() {
            let file = AttachmentId(u128::from(at * 100) + place as u128);
            self.files.0.lock().unwrap().insert(file, Bytes::copy_from_slice(bytes));
            list.push(json!({"id": file.to_string(), "name": name, "type": "application/octet-stream", "bytes": bytes.len(), "state": "stored", "url": format!("https://files.example.org/{place}")}));
        }
        let message = json!({"id": id, "direction": "inbound", "kind": "text", "text": words, "from": {"address": format!("whatsapp:49151{number}"), "name": "Ana"},
            "attachments": list, "sent_at": "2026-11-22T09:00:00.000Z", "external_url": "https://chat.example.org/1"});
        let data = json!({"sequence": at, "message": message, "conversation": {"id": ConversationId(u128::from(number)).to_string(), "opened": first},
            "contact": {"id": format!("cnt_{number:026}"), "name": "Ana", "addresses": [format!("whatsapp:49151{number}")]},
            "channel": {"id": "shop", "connector": "whatsapp", "labels": {}}});
        (id, self.outgoing("message.created", number, data))
    }

    /// Something happens to a message of the conversation that its author said before: an event of type `kind`.
    pub fn about(&self, kind: &str, number: u64, mut more: Value) -> (String, Outgoing) {
        let data = more.as_object_mut().unwrap();
        data.insert("message".into(), json!({"id": "msg_1"}));
        data.insert("conversation".into(), json!({"id": ConversationId(u128::from(number)).to_string()}));
        data.insert("channel".into(), json!({"id": "shop", "connector": "whatsapp", "labels": {}}));
        let outgoing = self.outgoing(kind, number, more);
        (outgoing.event.to_string(), outgoing)
    }

    /// A message of the conversation is deleted by its author: a note for agents.
    pub fn deletion(&self, number: u64) -> (String, Outgoing) {
        self.about("message.deleted", number, json!({}))
    }
}
