//! Ticket: the flow by which an event becomes an entry of its conversation's ticket, as a plain state machine (design §8).
//!
//! find who asks → find the ticket by our id → create or append → attach → remember. [`Flow::next`] says what to do from what is
//! known, [`Flow::learn`] takes what came of it and says what must be durable before going on. No network, no clock: a driver does
//! the steps, and after a crash a new flow goes on from what the store kept.
//!
//! What must stay true: a create or append is written down before it is sent; while its outcome is in doubt nothing is sent again until
//! looking for it, as late as the system may lag behind, found nothing; what is found is adopted. So one conversation has one
//! ticket, one event one entry, whatever answers were lost.

mod learn;
mod looks;
#[cfg(test)]
mod tests;

use crate::logic::ticket::looks::{LAGS_MS, Look, look};
use crate::model::id::{ConversationId, EventId};
use crate::model::ticket::{EntryState, Sent, TicketChange, TicketEntry, TicketKnown, TicketLink, TicketState};
use crate::model::time::Time;

/// What a ticket system can do. Instead of special cases.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Caps {
    /// Who asks is found or made before the ticket.
    pub requester: bool,
    /// Creating a ticket writes its first entry.
    pub create_carries_first: bool,
    /// A create that is sent again with the same id of ours makes no second ticket.
    pub create_repeatable: bool,
    /// An append that is sent again with the same id of ours makes no second entry.
    pub append_repeatable: bool,
    /// When to look for what was sent without an answer, milliseconds after it; the last one is believed when it finds nothing.
    pub looks_ms: Vec<i64>,
    /// A second ticket made by an accident is looked for after each create, and closed.
    pub verify: bool,
    /// Whether a ticket takes entries is looked at before each append.
    pub shows: bool,
    /// Files go by calls of their own before the entry (tokens).
    pub uploads: bool,
    /// Files go by calls of their own after the entry.
    pub attaches: bool,
}

/// What happens when a ticket is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnClosed {
    /// The next entry goes into a new ticket that names the old one.
    #[default]
    FollowUp,
    /// It is opened again.
    Reopen,
    /// It gets the entry as it is.
    Append,
}

/// What happens when a ticket is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnGone {
    /// The next entry goes into a new ticket.
    #[default]
    Recreate,
    /// A person decides: dead letter.
    Dead,
}

/// What a destination wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TicketPolicy {
    /// Closed or locked tickets.
    pub on_closed: OnClosed,
    /// Deleted tickets.
    pub on_gone: OnGone,
}

/// The event that is to become an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its conversation.
    pub conversation: ConversationId,
    /// The event.
    pub event: EventId,
    /// Our id of the entry.
    pub external: String,
    /// Our ids of its files, where files go by calls of their own after the entry.
    pub files: Vec<String>,
    /// It opened the conversation: a ticket that is found holds it already.
    pub opened: bool,
    /// It only says something of what was said before, such as an edit: no ticket is opened for it, or opened again.
    pub minor: bool,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Find or make who asks.
    Requester,
    /// Make this durable, then go on.
    Note,
    /// Look for tickets with the link's external id.
    FindTickets,
    /// Hand over the files of the entry.
    Upload,
    /// Create the ticket.
    Create,
    /// Close these tickets: they are second ones of the conversation.
    CloseOthers(Vec<String>),
    /// See what state the ticket is in.
    Show,
    /// Open it again.
    Reopen,
    /// Look for the entry (0) or a file of it in the ticket.
    FindEntry(u32),
    /// Write the entry.
    Append,
    /// Attach this file of the entry, from 1.
    Attach(u32),
    /// Nothing can be said yet: again after this many milliseconds.
    Wait(i64),
    /// The ticket is gone, and a person is to decide.
    Dead,
    /// All is there.
    Done,
}

/// What state a ticket is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// It takes entries.
    Open,
    /// Closed or locked.
    Closed,
    /// Not there any more.
    Gone,
    /// It was joined with another, which goes on in its place.
    Merged(String),
}

/// A ticket that was found or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundTicket {
    /// The system's id.
    pub ticket: String,
    /// Where a person can see it.
    pub url: Option<String>,
    /// The system's id of its first entry, if it tells.
    pub entry: Option<String>,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Learnt {
    /// Who asks; none where the system makes it of the ticket.
    Requester(Option<String>),
    /// Tickets with our id, the oldest first.
    Tickets(Vec<FoundTicket>),
    /// The files are handed over.
    Uploaded,
    /// The ticket was made.
    Created(FoundTicket),
    /// The call may have been carried out: no answer, or one that does not say.
    Lost,
    /// The call was certainly not carried out.
    NotDone,
    /// The others are closed.
    OthersClosed,
    /// The state of the ticket; also what a refused append says.
    Shown(Shown),
    /// It is open again.
    Reopened,
    /// What was looked for in the ticket: its id, if it is there.
    Entry(u32, Option<String>),
    /// The entry or file is written.
    Written(u32, Option<String>),
}

/// The flow of one event, in one attempt.
#[derive(Debug, Clone)]
pub struct Flow<'a> {
    caps: &'a Caps,
    policy: TicketPolicy,
    piece: &'a Piece,
    link: Option<TicketLink>,
    before: Option<TicketLink>,
    entries: Vec<TicketEntry>,
    now: Volatile,
}

/// What is known only as long as the attempt lasts.
#[derive(Debug, Clone, Default)]
struct Volatile {
    requester: bool,
    uploaded: bool,
    looked_ticket: Option<Time>,
    looked_entry: Vec<(u32, Time)>,
    others: Option<Vec<String>>,
    shown: bool,
    reopen: bool,
    reopened: bool,
    /// The intention of this send is durable: send it.
    armed: Option<Target>,
    adopted: bool,
    made: bool,
    dead: bool,
    dirty: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Ticket,
    Entry(u32),
}

impl<'a> Flow<'a> {
    /// Goes on from what is known.
    pub fn new(caps: &'a Caps, mut policy: TicketPolicy, piece: &'a Piece, known: TicketKnown, now: Time) -> Self {
        if piece.minor {
            policy.on_closed = OnClosed::Append;
        }
        let TicketKnown { mut link, before, mut entries } = known;
        // The clock was set back: what was sent in its future is as old as now, or it would be waited for until then.
        let mut dirty = false;
        let sents = link.iter_mut().map(|link| &mut link.sent).chain(entries.iter_mut().map(|entry| &mut entry.sent));
        for sent in sents {
            if sent.at.is_some_and(|at| at > now) {
                sent.at = Some(now);
                dirty = true;
            }
        }
        Self { caps, policy, piece, link, before, entries, now: Volatile { dirty, ..Volatile::default() } }
    }

    /// The ticket as far as it is known.
    pub fn link(&self) -> Option<&TicketLink> {
        self.link.as_ref()
    }

    /// The ticket that this one goes on from.
    pub fn before(&self) -> Option<&TicketLink> {
        self.before.as_ref()
    }

    /// The entry itself, as far as it is known.
    pub fn entry(&self, piece: u32) -> Option<&TicketEntry> {
        self.entries.iter().find(|entry| entry.piece == piece)
    }

    /// What is to be made durable at [`Step::Note`], or after [`Flow::learn`] said so: all that is known.
    pub fn change(&self, destination: &str, system: &str, lease_epoch: u64) -> TicketChange {
        TicketChange {
            destination: destination.to_owned(),
            system: system.to_owned(),
            conversation: self.piece.conversation,
            link: self.link.clone(),
            entries: self.entries.clone(),
            lease_epoch,
        }
    }

    /// What to do next. `now` is asked for each time: steps take time.
    pub fn next(&mut self, now: Time) -> Step {
        if std::mem::take(&mut self.now.dirty) {
            return Step::Note;
        }
        if self.now.dead {
            return Step::Dead;
        }
        if let Some(others) = &self.now.others {
            return Step::CloseOthers(others.clone());
        }
        let linked = self.link.as_ref().is_some_and(|link| link.state == TicketState::Linked);
        if self.is_written(0) && (linked || !self.caps.verify) {
            return self.after_the_entry(now);
        }
        match self.link.as_ref().map(|link| link.state) {
            None | Some(TicketState::Ended) if self.is_written(0) => self.after_the_entry(now),
            None | Some(TicketState::Ended) => {
                self.open();
                Step::Note
            }
            Some(TicketState::Intended) => self.toward_a_ticket(now),
            Some(TicketState::Linked) => self.toward_an_entry(now),
        }
    }

    fn is_written(&self, piece: u32) -> bool {
        self.entry(piece).is_some_and(|entry| entry.state != EntryState::Intended)
    }

    /// The next generation, chosen before anything is called.
    fn open(&mut self) {
        let ended = self.link.take();
        let generation = ended.as_ref().map_or(1, |link| link.generation.saturating_add(1));
        if ended.as_ref().is_some_and(|link| link.ticket.is_some()) {
            self.before = ended;
        }
        let id = self.piece.conversation;
        self.link = Some(TicketLink {
            generation,
            external: if generation == 1 { id.to_string() } else { format!("{id}-{generation}") },
            ticket: None,
            url: None,
            requester: None,
            state: TicketState::Intended,
            sent: Sent::default(),
            checked: false,
        });
        self.now = Volatile { uploaded: self.now.uploaded, ..Volatile::default() };
    }

    fn toward_a_ticket(&mut self, now: Time) -> Step {
        let Some(link) = &self.link else { return Step::Done };
        if self.now.armed == Some(Target::Ticket) {
            return Step::Create;
        }
        if self.caps.requester && link.requester.is_none() && !self.now.requester {
            return Step::Requester;
        }
        match (link.sent.at, link.sent.times) {
            // It may be there all the same: a store that was put back from a backup does not know what it did.
            (None, 0) if self.now.looked_ticket.is_none() => Step::FindTickets,
            (Some(at), _) if !self.caps.create_repeatable => match look(at, &self.caps.looks_ms, self.now.looked_ticket, now) {
                Look::Now => Step::FindTickets,
                Look::In(wait) => Step::Wait(wait),
                Look::Believed => self.send_create(now),
            },
            _ => self.send_create(now),
        }
    }

    fn send_create(&mut self, now: Time) -> Step {
        if self.caps.uploads && self.caps.create_carries_first && !self.now.uploaded {
            return Step::Upload;
        }
        if let Some(link) = &mut self.link {
            link.sent = Sent { times: link.sent.times.saturating_add(1), at: Some(now) };
        }
        if self.caps.create_carries_first {
            self.intend(0, now);
        }
        self.now.armed = Some(Target::Ticket);
        Step::Note
    }

    fn toward_an_entry(&mut self, now: Time) -> Step {
        let Some(link) = &self.link else { return Step::Done };
        if self.now.armed == Some(Target::Entry(0)) {
            return Step::Append;
        }
        if !link.checked && self.verifies() {
            return Step::FindTickets;
        }
        // Where it was sent before must be settled first: a ticket that was closed meanwhile may hold it.
        let generation = link.generation;
        if self.entry(0).is_some_and(|entry| entry.generation == generation)
            && let Some(step) = self.settle(0, now)
        {
            return step;
        }
        if self.caps.shows && self.policy.on_closed != OnClosed::Append && !self.now.shown {
            return Step::Show;
        }
        if self.now.reopen {
            return Step::Reopen;
        }
        // What a found ticket holds is not known.
        if self.now.adopted && self.entry(0).is_none() && self.looked(0).is_none() && !self.caps.append_repeatable {
            return Step::FindEntry(0);
        }
        self.send_piece(0, now)
    }

    fn looked(&self, piece: u32) -> Option<Time> {
        self.now.looked_entry.iter().find(|(of, _)| *of == piece).map(|(_, at)| *at)
    }

    /// Sends an entry or a file, unless it may be there already.
    fn send_piece(&mut self, piece: u32, now: Time) -> Step {
        if let Some(step) = self.settle(piece, now) {
            return step;
        }
        if piece == 0 && self.caps.uploads && !self.now.uploaded {
            return Step::Upload;
        }
        self.intend(piece, now);
        self.now.armed = Some(Target::Entry(piece));
        Step::Note
    }

    /// What is to be done about an earlier send of it that is in doubt; none if nothing is.
    fn settle(&self, piece: u32, now: Time) -> Option<Step> {
        let at = self.entry(piece).and_then(|entry| entry.sent.at).filter(|_| !self.caps.append_repeatable)?;
        match look(at, &self.caps.looks_ms, self.looked(piece), now) {
            Look::Now => Some(Step::FindEntry(piece)),
            Look::In(wait) => Some(Step::Wait(wait)),
            Look::Believed => None,
        }
    }

    fn intend(&mut self, piece: u32, now: Time) {
        let generation = self.link.as_ref().map_or(1, |link| link.generation);
        let file = || piece.checked_sub(1).and_then(|at| self.piece.files.get(usize::try_from(at).ok()?)).cloned();
        let external = if piece == 0 { self.piece.external.clone() } else { file().unwrap_or_default() };
        let times = self.entry(piece).map_or(0, |entry| entry.sent.times).saturating_add(1);
        let (state, sent) = (EntryState::Intended, Sent { times, at: Some(now) });
        self.put(TicketEntry { event: self.piece.event, piece, external, generation, entry: None, state, sent });
    }

    /// Whether a second ticket is looked for now. An index that lags would not show one that was just made: the next message looks.
    fn verifies(&self) -> bool {
        self.caps.verify && !(self.now.made && self.caps.looks_ms.last() > Some(&LAGS_MS))
    }

    fn put(&mut self, entry: TicketEntry) {
        match self.entries.iter_mut().find(|known| known.piece == entry.piece) {
            Some(known) => *known = entry,
            None => self.entries.push(entry),
        }
    }

    fn after_the_entry(&mut self, now: Time) -> Step {
        let unchecked = self.link.as_ref().is_some_and(|link| link.state == TicketState::Linked && !link.checked);
        if unchecked && self.verifies() {
            return Step::FindTickets;
        }
        if self.caps.attaches {
            for piece in 1..=u32::try_from(self.piece.files.len()).unwrap_or(0) {
                if self.now.armed == Some(Target::Entry(piece)) {
                    return Step::Attach(piece);
                }
                if !self.is_written(piece) {
                    return self.send_piece(piece, now);
                }
            }
        }
        Step::Done
    }
}
