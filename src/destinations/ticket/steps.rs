//! Steps: the walk of one event, and how each step is done.

use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};

use crate::connector::call::CallFile;
use crate::connector::call::answer::{Judged, Meaning};
use crate::connector::ticket::TicketCall;
use crate::connector::ticket::compose::{Entry, EntryFile, Seen};
use crate::destinations::ticket::TicketDesk;
use crate::destinations::ticket::answer::{Trouble, unsure};
use crate::destinations::ticket::later::mind;
use crate::logic::ticket::{Flow, FoundTicket, Learnt, Piece, Shown, Step};
use crate::model::codes::Code;
use crate::model::id::EventId;
use crate::model::ticket::TicketLink;
use crate::ports::destination::{DeliverError, Receipt};
use crate::ports::store::StoreError;

/// Steps of one attempt: a chain of merged tickets or a system that changes its mind must end (I6).
const STEPS_MAX: usize = 200;
/// All files of one entry together, decoded.
const FILES_BYTES_MAX: u64 = 96 * 1024 * 1024;
/// Pages that are looked through for a ticket or an entry.
const PAGES_MAX: usize = 20;

/// One event on its way.
pub(super) struct Walk<'a> {
    desk: &'a TicketDesk,
    entry: &'a Entry,
    /// Its files as far as they were read.
    files: Option<Vec<CallFile>>,
    /// What the system gave for them.
    tokens: Vec<Value>,
    /// Status of the last call.
    status: Option<u16>,
}

/// Carries out what an event needs.
pub(super) async fn walk(desk: &TicketDesk, event: EventId, entry: Entry) -> Result<Receipt, DeliverError> {
    let caps = &desk.options.system.caps;
    let files = if caps.attaches { entry.files.iter().map(|file| file.id.to_string()).collect() } else { Vec::new() };
    let piece = Piece {
        conversation: entry.conversation,
        event,
        external: entry.external.clone(),
        files,
        opened: entry.opened,
        minor: entry.minor,
    };
    let known = desk.ports.book.known(&desk.options.name, piece.conversation, event).await.map_err(stored)?;
    let now = || desk.ports.clock.now();
    let mut flow = Flow::new(caps, desk.options.policy, &piece, known, now());
    let mut walk = Walk::of(desk, &entry);
    for _ in 0..STEPS_MAX {
        let step = flow.next(now());
        match step {
            Step::Done => {
                mind(desk, event, &entry, flow.link());
                return Ok(Receipt { status: walk.status });
            }
            Step::Note => walk.note(&flow).await?,
            Step::Wait(ms) => {
                let after = Duration::from_millis(u64::try_from(ms).unwrap_or(0));
                let detail = "sent before without an answer; looked for again when it can be seen".to_owned();
                return Err(DeliverError::Unsure { code: Code::Unknown, status: None, detail, after, sent: false });
            }
            Step::Dead => {
                let detail = "the ticket is gone, and `on_gone` leaves it to a person".to_owned();
                return Err(DeliverError::Never { code: Code::Gone, status: walk.status, detail });
            }
            step => match walk.step(&step, &flow).await {
                Ok(learnt) => {
                    if flow.learn(learnt, now()) {
                        walk.note(&flow).await?;
                    }
                }
                Err(trouble) => return Err(walk.stumbled(&mut flow, &step, trouble).await?),
            },
        }
    }
    Err(DeliverError::Later { code: Code::Failed, status: walk.status, detail: "the ticket does not come to rest".to_owned(), after: None })
}

pub(super) fn stored(error: StoreError) -> DeliverError {
    DeliverError::Later { code: Code::StoreUnavailable, status: None, detail: error.to_string(), after: None }
}

/// Whether a step changes something in the system that must not be done twice.
fn writes(step: &Step) -> bool {
    matches!(step, Step::Create | Step::Append | Step::Attach(_))
}

impl<'a> Walk<'a> {
    pub(super) fn of(desk: &'a TicketDesk, entry: &'a Entry) -> Self {
        Self { desk, entry, files: None, tokens: Vec::new(), status: None }
    }

    async fn note(&self, flow: &Flow<'_>) -> Result<(), DeliverError> {
        let desk = self.desk;
        let change = flow.change(&desk.options.name, &desk.options.system.manifest.name, desk.ports.book.lease_epoch());
        desk.ports.book.change(change).await.map_err(stored)
    }

    /// A step failed: what is known of its outcome is remembered, and the delivery comes again.
    async fn stumbled(&self, flow: &mut Flow<'_>, step: &Step, trouble: Trouble) -> Result<DeliverError, DeliverError> {
        let Trouble { lost, error, .. } = trouble;
        // It may be the customer that is refused: who that is, is asked again.
        self.desk.remember(&format!("{}/{}", self.asked("trusted"), self.asked("mail")), None);
        if !writes(step) {
            return Ok(error);
        }
        let learnt = if lost { Learnt::Lost } else { Learnt::NotDone };
        if flow.learn(learnt, self.desk.ports.clock.now()) {
            self.note(flow).await?;
        }
        let first = self.desk.options.system.caps.looks_ms.first().copied().and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0);
        Ok(if lost { unsure(error, Duration::from_millis(first)) } else { error })
    }

    async fn step(&mut self, step: &Step, flow: &Flow<'_>) -> Result<Learnt, Trouble> {
        let calls = &self.desk.options.system.calls;
        match step {
            Step::Requester => self.requester(flow).await.map(Learnt::Requester),
            Step::FindTickets => match &calls.find_tickets {
                Some(call) => self.find_tickets(call, flow).await.map(Learnt::Tickets),
                None => Ok(Learnt::Tickets(Vec::new())),
            },
            Step::Upload => self.upload(flow).await,
            Step::Create => self.create(&calls.create, flow).await,
            Step::CloseOthers(others) => self.close_others(others, flow).await,
            Step::Show => self.show(flow).await,
            Step::Reopen => {
                if let Some(call) = &calls.reopen {
                    let mut context = self.context(flow);
                    self.look(&mut context).await?;
                    self.made(call, &context, &[]).await?;
                }
                Ok(Learnt::Reopened)
            }
            Step::FindEntry(piece) => {
                let call = if *piece == 0 { &calls.find_entry } else { &calls.find_file };
                self.find_entry(*piece, call.as_ref(), flow).await
            }
            Step::Append => {
                self.read_files().await?;
                let files = self.files.clone().unwrap_or_default();
                let with_files = calls.append_files.as_ref().filter(|_| !files.is_empty());
                let note = calls.note.as_ref().filter(|_| self.entry.seen == Seen::Agents);
                let call = with_files.or(note).unwrap_or(&calls.append);
                let speaks = if calls.find_requester.is_some() && self.entry.seen == Seen::Customer {
                    self.requester(flow).await.map_err(|trouble| Trouble { lost: false, ..trouble })?
                } else {
                    None
                };
                let mut context = self.context(flow);
                put_in(&mut context, "requester", "id", speaks.map_or(Value::Null, Value::from));
                if calls.link.is_none() {
                    self.look(&mut context).await.map_err(|trouble| Trouble { lost: false, ..trouble })?;
                }
                let learnt = self.write(0, call, context, &files).await?;
                // Written, and not yet in the ticket: until it is, the entry is in doubt, and found again by its id.
                self.link(&learnt, flow).await.map_err(|trouble| Trouble { lost: true, ..trouble })?;
                Ok(learnt)
            }
            Step::Attach(piece) => match &calls.attach {
                Some(call) => self.attach(*piece, call, flow).await,
                None => Ok(Learnt::Written(*piece, None)),
            },
            Step::Note | Step::Wait(_) | Step::Dead | Step::Done => Ok(Learnt::NotDone),
        }
    }

    /// What fills a call now.
    fn context(&self, flow: &Flow<'_>) -> Value {
        let ticket = |link: Option<&TicketLink>| {
            link.and_then(|link| Some(json!({"id": link.ticket.as_ref()?, "url": link.url}))).unwrap_or(Value::Null)
        };
        let mut context = self.entry.context.clone();
        let read = self.files.as_deref().unwrap_or_default();
        let whole = self.desk.options.system.manifest.ticket.base64;
        let one = |(at, file): (usize, &EntryFile)| {
            let bytes = read.get(at).map(|file| file.bytes.len());
            let encoded = read.get(at).filter(|_| whole).map(|file| base64::engine::general_purpose::STANDARD.encode(&file.bytes));
            json!({"id": file.id.to_string(), "name": file.name, "type": file.media_type, "bytes": bytes, "base64": encoded,
                   "token": self.tokens.get(at).unwrap_or(&Value::Null)})
        };
        if let Some(roots) = context.as_object_mut() {
            let id = flow.link().map_or_else(|| self.entry.conversation.to_string(), |link| link.external.clone());
            roots.insert("settings".to_owned(), Value::Object(self.desk.options.settings.clone()));
            roots.insert("conversation".to_owned(), json!({"id": id}));
            roots.insert("ticket".to_owned(), ticket(flow.link()));
            roots.insert("before".to_owned(), ticket(flow.before()));
            roots.insert("files".to_owned(), Value::Array(self.entry.files.iter().enumerate().map(one).collect()));
        }
        let requester = flow.link().and_then(|link| link.requester.clone());
        put_in(&mut context, "requester", "id", requester.map_or(Value::Null, Value::from));
        context
    }

    /// A call, unless its condition says that it is not made.
    async fn made(&mut self, call: &TicketCall, context: &Value, files: &[CallFile]) -> Result<Option<Judged>, Trouble> {
        let wanted = call.is_made(context).map_err(|error| unreadable(&error, false))?;
        if !wanted {
            return Ok(None);
        }
        let judged = self.desk.call(call, context, files).await?;
        self.status = Some(judged.status);
        Ok(Some(judged))
    }

    /// Who speaks in this entry: several customers may take part in a conversation.
    async fn requester(&mut self, flow: &Flow<'_>) -> Result<Option<String>, Trouble> {
        // Only who is trusted may be written as, so that is part of what is remembered.
        let key = format!("{}/{}", self.asked("trusted"), self.asked("mail"));
        if let Some(id) = self.desk.customer(&key) {
            return Ok(Some(id));
        }
        let id = self.find_or_make_requester(flow).await?;
        if let Some(id) = &id {
            self.desk.remember(&key, Some(id));
        }
        Ok(id)
    }

    fn asked(&self, field: &str) -> &Value {
        self.entry.context.get("requester").and_then(|requester| requester.get(field)).unwrap_or(&Value::Null)
    }

    async fn find_or_make_requester(&mut self, flow: &Flow<'_>) -> Result<Option<String>, Trouble> {
        let calls = &self.desk.options.system.calls;
        let (Some(find), context) = (&calls.find_requester, self.context(flow)) else { return Ok(None) };
        if let Some(id) = self.ask_requester(find, &context).await? {
            return Ok(Some(id));
        }
        let Some(make) = &calls.make_requester else { return Ok(None) };
        match self.made(make, &context, &[]).await {
            Ok(None) => Ok(None),
            Ok(Some(judged)) => {
                let taken = make.take(&judged, &context).map_err(|error| unreadable(&error, false))?;
                match id_of(&taken) {
                    Some(id) => Ok(Some(id)),
                    None => self.ask_requester(find, &context).await,
                }
            }
            // Somebody else was faster, or an earlier try was.
            Err(trouble) if trouble.meaning == Some(Meaning::Exists) => self.ask_requester(find, &context).await,
            Err(trouble) => Err(trouble),
        }
    }

    async fn ask_requester(&mut self, find: &TicketCall, context: &Value) -> Result<Option<String>, Trouble> {
        match self.made(find, context, &[]).await {
            Ok(None) => Ok(None),
            Ok(Some(judged)) => Ok(id_of(&find.take(&judged, context).map_err(|error| unreadable(&error, false))?)),
            Err(trouble) if trouble.meaning == Some(Meaning::Missing) => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    /// What a look-up finds, page by page; null if it is not made, or what it asks for is missing.
    async fn looked_up(&mut self, call: &TicketCall, mut context: Value) -> Result<Value, Trouble> {
        for _ in 0..PAGES_MAX {
            let judged = match self.made(call, &context, &[]).await {
                Ok(Some(judged)) => judged,
                Ok(None) => return Ok(Value::Null),
                Err(trouble) if trouble.meaning == Some(Meaning::Missing) => return Ok(Value::Null),
                Err(trouble) => return Err(trouble),
            };
            let taken = call.take(&judged, &context).map_err(|error| unreadable(&error, false))?;
            match taken.get("again") {
                Some(again) => put(&mut context, "again", again.clone()),
                None => return Ok(taken),
            }
        }
        // Not found in all that was looked through is not the same as not there: nothing is sent for it.
        Err(Trouble::unreadable("there are more pages than are looked through".to_owned()))
    }

    pub(super) async fn find_tickets(&mut self, call: &TicketCall, flow: &Flow<'_>) -> Result<Vec<FoundTicket>, Trouble> {
        let context = self.context(flow);
        let taken = self.looked_up(call, context.clone()).await?;
        let list = match &taken {
            Value::Array(list) => list.iter().collect(),
            Value::Null => Vec::new(),
            one => vec![one],
        };
        Ok(list.into_iter().filter_map(|one| self.found(one, &context)).collect())
    }

    /// A ticket as a `take` gives it: `{id, url, entry}`, or its id alone.
    fn found(&self, taken: &Value, context: &Value) -> Option<FoundTicket> {
        let ticket = id_of(taken.get("id").unwrap_or(taken))?;
        let url = taken.get("url").and_then(Value::as_str).map(str::to_owned).or_else(|| {
            let mut context = context.clone();
            context.as_object_mut()?.insert("ticket".to_owned(), json!({"id": ticket, "url": null}));
            self.desk.options.system.ticket_url(&context)
        });
        Some(FoundTicket { entry: taken.get("entry").and_then(id_of), url, ticket })
    }

    async fn create(&mut self, call: &TicketCall, flow: &Flow<'_>) -> Result<Learnt, Trouble> {
        let carries = self.desk.options.system.caps.create_carries_first;
        if carries {
            self.read_files().await?;
        }
        let context = self.context(flow);
        let files = if carries { self.files.clone().unwrap_or_default() } else { Vec::new() };
        let Some(judged) = self.made(call, &context, &files).await? else {
            return Err(Trouble::unreadable("a create that is not made".to_owned()));
        };
        let taken = call.take(&judged, &context).map_err(|error| unreadable(&error, true))?;
        let found = self.found(&taken, &context);
        found.map(Learnt::Created).ok_or_else(|| Trouble::unreadable("the answer to the create names no ticket".to_owned()))
    }

    pub(super) async fn close_others(&mut self, others: &[String], flow: &Flow<'_>) -> Result<Learnt, Trouble> {
        let Some(call) = &self.desk.options.system.calls.close_duplicate else { return Ok(Learnt::OthersClosed) };
        for other in others {
            let mut context = self.context(flow);
            let mut theirs = context.clone();
            put(&mut theirs, "ticket", json!({"id": other, "url": null}));
            self.look(&mut theirs).await?;
            put(&mut context, "seen", theirs.get("seen").cloned().unwrap_or(Value::Null));
            put(&mut context, "duplicate", json!({"id": other}));
            for call in self.desk.options.system.calls.note_duplicate.iter().chain([call]) {
                match self.made(call, &context, &[]).await {
                    Ok(_) => {}
                    Err(trouble) if matches!(trouble.meaning, Some(Meaning::Missing | Meaning::Exists | Meaning::Closed)) => {}
                    Err(trouble) => return Err(trouble),
                }
            }
        }
        tracing::warn!(messaging.destination.name = %self.desk.options.name, omnigate.tickets = others.len(), "second tickets closed");
        Ok(Learnt::OthersClosed)
    }

    pub(super) async fn show(&mut self, flow: &Flow<'_>) -> Result<Learnt, Trouble> {
        let Some(call) = &self.desk.options.system.calls.show else { return Ok(Learnt::Shown(Shown::Open)) };
        let context = self.context(flow);
        let judged = match self.made(call, &context, &[]).await {
            Ok(Some(judged)) => judged,
            Ok(None) => return Ok(Learnt::Shown(Shown::Open)),
            Err(trouble) if trouble.meaning == Some(Meaning::Missing) => return Ok(Learnt::Shown(Shown::Gone)),
            Err(trouble) => return Err(trouble),
        };
        let taken = call.take(&judged, &context).map_err(|error| unreadable(&error, false))?;
        let merged = taken.get("merged").and_then(id_of);
        Ok(Learnt::Shown(match (taken.as_str(), merged) {
            (_, Some(into)) => Shown::Merged(into),
            (Some("closed"), _) => Shown::Closed,
            (Some("joined"), _) => match &self.desk.options.system.calls.find_joined {
                Some(call) => id_of(&self.looked_up(call, context).await?).map_or(Shown::Closed, Shown::Merged),
                None => Shown::Closed,
            },
            (Some("gone"), _) => Shown::Gone,
            _ => Shown::Open,
        }))
    }

    async fn find_entry(&mut self, piece: u32, call: Option<&TicketCall>, flow: &Flow<'_>) -> Result<Learnt, Trouble> {
        let Some(call) = call else { return Ok(Learnt::Entry(piece, None)) };
        let mut context = self.context(flow);
        self.put_file(&mut context, piece);
        let taken = self.looked_up(call, context).await?;
        let learnt = match taken {
            Value::Null | Value::Bool(false) => Learnt::Entry(piece, None),
            // It is there, and the system gives entries no id.
            Value::Bool(true) => Learnt::Entry(piece, Some(String::new())),
            other => Learnt::Entry(piece, id_of(&other)),
        };
        self.link(&learnt, flow).await?;
        Ok(learnt)
    }

    /// What is seen before a call that needs it.
    async fn look(&mut self, context: &mut Value) -> Result<(), Trouble> {
        let Some(call) = &self.desk.options.system.calls.look else { return Ok(()) };
        if let Some(judged) = self.made(call, context, &[]).await? {
            let taken = call.take(&judged, context).map_err(|error| unreadable(&error, false))?;
            put(context, "seen", taken);
        }
        Ok(())
    }

    /// Puts an entry that is there into the ticket, where the system needs that.
    async fn link(&mut self, learnt: &Learnt, flow: &Flow<'_>) -> Result<(), Trouble> {
        let Some(call) = &self.desk.options.system.calls.link else { return Ok(()) };
        let (Learnt::Written(0, Some(id)) | Learnt::Entry(0, Some(id))) = learnt else { return Ok(()) };
        let mut context = self.context(flow);
        put_in(&mut context, "entry", "ref", Value::from(id.as_str()));
        self.look(&mut context).await?;
        self.made(call, &context, &[]).await.map(|_| ())
    }

    fn put_file(&self, context: &mut Value, piece: u32) {
        let at = usize::try_from(piece).unwrap_or(usize::MAX);
        let file = at.checked_sub(1).and_then(|at| context.get("files")?.get(at).cloned());
        put(context, "file", file.unwrap_or(Value::Null));
    }

    async fn write(&mut self, piece: u32, call: &TicketCall, context: Value, files: &[CallFile]) -> Result<Learnt, Trouble> {
        match self.made(call, &context, files).await {
            Ok(Some(judged)) => {
                // That it is written is certain; its id is only kept for people.
                let taken = call.take(&judged, &context).unwrap_or(Value::Null);
                Ok(Learnt::Written(piece, id_of(&taken)))
            }
            Ok(None) => Ok(Learnt::Written(piece, None)),
            Err(trouble) => match trouble.meaning {
                Some(Meaning::Closed) => Ok(Learnt::Shown(Shown::Closed)),
                Some(Meaning::Missing) => Ok(Learnt::Shown(Shown::Gone)),
                _ => Err(trouble),
            },
        }
    }

    async fn upload(&mut self, flow: &Flow<'_>) -> Result<Learnt, Trouble> {
        self.read_files().await?;
        let Some(call) = &self.desk.options.system.calls.upload else { return Ok(Learnt::Uploaded) };
        self.tokens.clear();
        for (at, file) in self.files.clone().unwrap_or_default().iter().enumerate() {
            let mut context = self.context(flow);
            self.put_file(&mut context, u32::try_from(at + 1).unwrap_or(u32::MAX));
            let token = match self.made(call, &context, std::slice::from_ref(file)).await? {
                Some(judged) => call.take(&judged, &context).map_err(|error| unreadable(&error, false))?,
                None => Value::Null,
            };
            self.tokens.push(token);
        }
        Ok(Learnt::Uploaded)
    }

    async fn attach(&mut self, piece: u32, call: &TicketCall, flow: &Flow<'_>) -> Result<Learnt, Trouble> {
        self.read_files().await?;
        let at = usize::try_from(piece).unwrap_or(usize::MAX).saturating_sub(1);
        let Some(file) = self.files.as_ref().and_then(|files| files.get(at)).cloned() else {
            return Ok(Learnt::Written(piece, None));
        };
        let mut context = self.context(flow);
        self.put_file(&mut context, piece);
        if let Some(entry) = flow.entry(0).and_then(|entry| entry.entry.clone()) {
            put_in(&mut context, "entry", "ref", Value::from(entry));
        }
        self.write(piece, call, context, std::slice::from_ref(&file)).await
    }

    /// Reads the files of the entry, once. One that is gone for good is sent as an empty one would be: its name says what was there.
    async fn read_files(&mut self) -> Result<(), Trouble> {
        if self.files.is_some() {
            return Ok(());
        }
        let mut left = FILES_BYTES_MAX;
        let mut read = Vec::with_capacity(self.entry.files.len());
        for file in &self.entry.files {
            let most = left.min(self.desk.options.file_bytes_max);
            let bytes = self.desk.ports.files.read(file.id, most).await.map_err(|detail| Trouble {
                lost: false,
                meaning: None,
                error: DeliverError::Later { code: Code::StoreUnavailable, status: None, detail, after: None },
            })?;
            let bytes = bytes.unwrap_or_else(|| bytes::Bytes::from_static(b"This file is no longer there."));
            left = left.saturating_sub(bytes.len() as u64);
            read.push(CallFile { name: file.name.clone(), media_type: file.media_type.clone(), bytes });
        }
        self.files = Some(read);
        Ok(())
    }
}

fn put(context: &mut Value, root: &str, value: Value) {
    if let Some(roots) = context.as_object_mut() {
        roots.insert(root.to_owned(), value);
    }
}

fn put_in(context: &mut Value, root: &str, field: &str, value: Value) {
    if let Some(fields) = context.get_mut(root).and_then(Value::as_object_mut) {
        fields.insert(field.to_owned(), value);
    }
}

fn unreadable(error: &crate::connector::jq::JqError, lost: bool) -> Trouble {
    Trouble { lost, ..Trouble::unreadable(error.to_string()) }
}

/// An id as systems write them: a text or a number.
fn id_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
