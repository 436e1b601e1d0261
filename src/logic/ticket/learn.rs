//! Learn: what comes of the steps of a [`Flow`], and what of it must be durable before going on.

use super::{Flow, FoundTicket, Learnt, OnClosed, OnGone, Shown, Target};
use crate::model::ticket::{EntryState, Sent, TicketEntry, TicketState};
use crate::model::time::Time;

impl Flow<'_> {
    /// Takes what came of a step. True: what is known now must be durable before going on ([`Flow::change`]).
    pub fn learn(&mut self, learnt: Learnt, now: Time) -> bool {
        let armed = self.now.armed.take();
        match learnt {
            Learnt::Requester(id) => {
                self.now.requester = true;
                if let Some(link) = &mut self.link {
                    link.requester = id;
                }
                false
            }
            Learnt::Tickets(found) => self.found_tickets(found, now),
            Learnt::Uploaded => {
                self.now.uploaded = true;
                false
            }
            Learnt::Created(found) => {
                self.now.made = true;
                let carried = self.caps.create_carries_first.then(|| found.entry.clone());
                self.adopt(found, EntryState::Written, carried)
            }
            Learnt::Lost => self.doubt(armed, Some(now)),
            Learnt::NotDone => self.doubt(armed, None),
            Learnt::OthersClosed => {
                self.now.others = None;
                self.check()
            }
            Learnt::Shown(shown) => self.shown(shown, armed),
            Learnt::Reopened => {
                self.now.reopen = false;
                self.now.reopened = true;
                false
            }
            Learnt::Entry(piece, None) => {
                self.now.looked_entry.retain(|(of, _)| *of != piece);
                self.now.looked_entry.push((piece, now));
                false
            }
            Learnt::Entry(piece, found) => self.written(piece, found, EntryState::Found, now),
            Learnt::Written(piece, id) => self.written(piece, id, EntryState::Written, now),
        }
    }

    fn found_tickets(&mut self, mut found: Vec<FoundTicket>, now: Time) -> bool {
        let Some(link) = &self.link else { return false };
        if let Some(ours) = link.ticket.clone() {
            let others: Vec<String> = found.into_iter().map(|ticket| ticket.ticket).filter(|other| *other != ours).collect();
            if others.is_empty() {
                return self.check();
            }
            self.now.others = Some(others);
            return false;
        }
        if found.is_empty() {
            self.now.looked_ticket = Some(now);
            return false;
        }
        self.now.adopted = true;
        let oldest = found.remove(0);
        // It was made with the entry in doubt, or with the message that opened the conversation.
        let in_doubt = self.entry(0).is_some_and(|entry| entry.generation == link.generation && entry.state == EntryState::Intended);
        let holds = self.caps.create_carries_first && (in_doubt || (link.sent.times == 0 && self.piece.opened && link.generation == 1));
        let carried = holds.then(|| oldest.entry.clone());
        self.adopt(oldest, EntryState::Found, carried)
    }

    /// The ticket is known. `carried`: it holds the entry, with this id of the system.
    fn adopt(&mut self, found: FoundTicket, state: EntryState, carried: Option<Option<String>>) -> bool {
        let Some(link) = &mut self.link else { return false };
        link.ticket = Some(found.ticket);
        link.url = found.url;
        link.state = TicketState::Linked;
        link.sent.at = None;
        // A ticket that was just made or found takes entries.
        self.now.shown = true;
        let generation = link.generation;
        if let Some(entry) = carried {
            let times = self.entry(0).map_or(0, |known| known.sent.times);
            let (event, external) = (self.piece.event, self.piece.external.clone());
            self.put(TicketEntry { event, piece: 0, external, generation, entry, state, sent: Sent { times, at: None } });
        }
        true
    }

    fn check(&mut self) -> bool {
        if let Some(link) = &mut self.link {
            link.checked = true;
        }
        true
    }

    /// The outcome of what was sent is in doubt since `at`, or known to be nothing.
    fn doubt(&mut self, armed: Option<Target>, at: Option<Time>) -> bool {
        match armed {
            Some(Target::Ticket) => {
                if let Some(link) = &mut self.link {
                    link.sent.at = at;
                }
                let carries = self.caps.create_carries_first;
                if let Some(entry) = self.entries.iter_mut().find(|entry| entry.piece == 0 && carries) {
                    entry.sent.at = at;
                }
                true
            }
            Some(Target::Entry(piece)) => {
                if let Some(entry) = self.entries.iter_mut().find(|entry| entry.piece == piece) {
                    entry.sent.at = at;
                }
                true
            }
            None => false,
        }
    }

    fn shown(&mut self, shown: Shown, armed: Option<Target>) -> bool {
        let refused = armed.is_some();
        self.doubt(armed, None);
        self.now.shown = true;
        let Some(link) = &mut self.link else { return false };
        match (shown, self.policy.on_closed, self.policy.on_gone) {
            (Shown::Open, ..) => {}
            (Shown::Closed | Shown::Gone, ..) if self.piece.minor && refused => self.skip(),
            // It was shown to be open, or opened again, and refuses all the same: only another ticket helps.
            (Shown::Closed, OnClosed::FollowUp | OnClosed::Append, _) if refused => link.state = TicketState::Ended,
            (Shown::Closed, OnClosed::Reopen, _) if refused && self.now.reopened => link.state = TicketState::Ended,
            (Shown::Closed, OnClosed::FollowUp, _) => link.state = TicketState::Ended,
            (Shown::Closed, OnClosed::Reopen, _) => self.now.reopen = true,
            (Shown::Closed, OnClosed::Append, _) => {}
            (Shown::Gone, _, OnGone::Recreate) => {
                link.state = TicketState::Ended;
                // Nothing is there to be seen, nor for another to go on from.
                link.url = None;
            }
            (Shown::Gone, _, OnGone::Dead) => self.now.dead = true,
            (Shown::Merged(into), ..) => {
                link.url = None;
                link.ticket = Some(into);
                self.now.shown = false;
            }
        }
        true
    }

    /// The ticket takes nothing any more, and it is not worth another one.
    fn skip(&mut self) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.piece == 0) {
            entry.state = EntryState::Skipped;
        }
    }

    fn written(&mut self, piece: u32, id: Option<String>, state: EntryState, now: Time) -> bool {
        if self.entry(piece).is_none() {
            self.intend(piece, now);
        }
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.piece == piece) {
            entry.state = state;
            entry.entry = id.filter(|id| !id.is_empty());
            entry.sent.at = None;
        }
        true
    }
}
