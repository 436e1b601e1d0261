//! The flow against a desk that loses answers, carries out late and lags behind, and a gateway that forgets all that is not durable.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

/// A ticket in it: external id, entries with when they can be found, when it can be found.
type Ticket = (String, Vec<(String, Time)>, Time);

/// A ticket system in memory, and a clock.
struct Desk {
    now: Time,
    tickets: Vec<Ticket>,
    /// Requests on their way: when they arrive, and what they do.
    late: Vec<(Time, Call)>,
    closed: Vec<usize>,
    lag_ms: i64,
    calls: u32,
}

#[derive(Clone)]
enum Call {
    Create(String, Option<String>),
    Append(usize, String),
}

/// What happens to a call that changes something.
#[derive(Debug, Clone, Copy)]
enum Fault {
    None,
    /// Carried out, the answer lost.
    Lost,
    /// Not carried out, and nobody knows.
    Cut,
    /// Carried out after the gateway has given up.
    Late(i64),
    /// Refused for certain.
    Refused,
    /// The gateway dies before the call leaves.
    CrashBefore,
    /// The gateway dies after it was carried out.
    CrashAfter,
}

impl Desk {
    fn new(lag_ms: i64) -> Self {
        Self { now: Time(1_000_000), tickets: Vec::new(), late: Vec::new(), closed: Vec::new(), lag_ms, calls: 0 }
    }

    fn pass(&mut self, ms: i64) {
        let until = self.now.plus_ms(ms);
        self.late.sort_by_key(|(at, _)| *at);
        while self.late.first().is_some_and(|(at, _)| *at <= until) {
            let (at, call) = self.late.remove(0);
            self.now = self.now.max(at);
            self.carry_out(call);
        }
        self.now = until;
    }

    fn carry_out(&mut self, call: Call) -> usize {
        let seen = self.now.plus_ms(self.lag_ms);
        match call {
            Call::Create(external, entry) => {
                self.tickets.push((external, entry.into_iter().map(|entry| (entry, seen)).collect(), seen));
                self.tickets.len() - 1
            }
            Call::Append(ticket, entry) => {
                self.tickets[ticket].1.push((entry, seen));
                ticket
            }
        }
    }

    fn found(&self, external: &str) -> Vec<FoundTicket> {
        let is = |(_, ticket): &(usize, &Ticket)| ticket.0 == external && ticket.2 <= self.now;
        self.tickets.iter().enumerate().filter(is).map(|(number, _)| ticket(number)).collect()
    }
}

fn ticket(number: usize) -> FoundTicket {
    FoundTicket { ticket: number.to_string(), url: None, entry: None }
}

fn caps(lag_ms: i64, carries: bool) -> Caps {
    // Later than anything can still be on its way or hidden.
    let last = lag_ms + 30_000;
    Caps { create_carries_first: carries, looks_ms: vec![1_000, 10_000, last], verify: lag_ms == 0, ..Caps::default() }
}

fn piece(number: u32) -> Piece {
    Piece {
        conversation: ConversationId(1),
        event: EventId(u128::from(number)),
        external: format!("msg_{number}"),
        files: Vec::new(),
        opened: number == 1,
        minor: false,
    }
}

/// What the store would keep.
#[derive(Default)]
struct Kept {
    links: Vec<TicketLink>,
    entries: Vec<TicketEntry>,
}

impl Kept {
    fn note(&mut self, change: TicketChange) {
        if let Some(link) = change.link {
            self.links.retain(|known| known.generation != link.generation);
            self.links.push(link);
        }
        for entry in change.entries {
            self.entries.retain(|known| (known.event, known.piece) != (entry.event, entry.piece));
            self.entries.push(entry);
        }
    }

    fn known(&self, event: EventId) -> TicketKnown {
        let mut links = self.links.clone();
        links.sort_by_key(|link| link.generation);
        let link = links.pop();
        TicketKnown { link, before: links.pop(), entries: self.entries.iter().filter(|entry| entry.event == event).cloned().collect() }
    }
}

/// One attempt. True: all is there.
fn attempt(desk: &mut Desk, kept: &mut Kept, caps: &Caps, policy: TicketPolicy, piece: &Piece, fault: &mut dyn FnMut() -> Fault) -> bool {
    let mut flow = Flow::new(caps, policy, piece, kept.known(piece.event), desk.now);
    for _ in 0..200 {
        desk.calls += 1;
        desk.pass(10);
        let step = flow.next(desk.now);
        let number = |flow: &Flow<'_>| flow.link().unwrap().ticket.as_ref().unwrap().parse::<usize>().unwrap();
        let call = match &step {
            Step::Done => return true,
            Step::Dead => panic!("dead"),
            Step::Wait(ms) => {
                assert!(*ms > 0);
                desk.pass(*ms);
                return false;
            }
            Step::Note => {
                kept.note(flow.change("desk", "x", 0));
                continue;
            }
            Step::Create => {
                Some(Call::Create(flow.link().unwrap().external.clone(), caps.create_carries_first.then(|| piece.external.clone())))
            }
            Step::Append => Some(Call::Append(number(&flow), piece.external.clone())),
            _ => None,
        };
        let learnt = match (call, &step) {
            (Some(call), _) => match fault() {
                Fault::Refused => Learnt::NotDone,
                Fault::CrashBefore => return false,
                Fault::Cut => Learnt::Lost,
                Fault::Late(ms) => {
                    desk.late.push((desk.now.plus_ms(ms), call));
                    Learnt::Lost
                }
                outcome => {
                    if matches!(&call, Call::Append(at, _) if desk.closed.contains(at)) {
                        Learnt::Shown(Shown::Closed)
                    } else {
                        let at = desk.carry_out(call);
                        match (outcome, &step) {
                            (Fault::CrashAfter, _) => return false,
                            (Fault::Lost, _) => Learnt::Lost,
                            (_, Step::Create) => Learnt::Created(ticket(at)),
                            _ => Learnt::Written(0, None),
                        }
                    }
                }
            },
            (None, Step::FindTickets) => Learnt::Tickets(desk.found(&flow.link().unwrap().external)),
            (None, Step::FindEntry(0)) => {
                let entries = &desk.tickets[number(&flow)].1;
                let found = entries.iter().find(|(entry, seen)| *entry == piece.external && *seen <= desk.now);
                Learnt::Entry(0, found.map(|(entry, _)| entry.clone()))
            }
            (None, step) => panic!("{step:?}"),
        };
        let over = matches!(learnt, Learnt::Lost | Learnt::NotDone);
        if flow.learn(learnt, desk.now) {
            kept.note(flow.change("desk", "x", 0));
        }
        if over {
            return false;
        }
    }
    panic!("it goes in circles");
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        4 => Just(Fault::None),
        1 => Just(Fault::Lost),
        1 => Just(Fault::Cut),
        1 => (1i64..25_000).prop_map(Fault::Late),
        1 => Just(Fault::Refused),
        1 => Just(Fault::CrashBefore),
        1 => Just(Fault::CrashAfter),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is lost, late or hidden: one ticket, each entry once, in order.
    #[test]
    fn one_ticket_and_one_entry_each_whatever_is_lost(
        mut faults in proptest::collection::vec(fault(), 0..24),
        pauses in proptest::collection::vec(0i64..20_000, 40),
        carries: bool,
        lag in prop_oneof![Just(0i64), Just(20_000i64)],
    ) {
        let (mut desk, mut kept) = (Desk::new(lag), Kept::default());
        let caps = caps(lag, carries);
        let mut pauses = pauses.into_iter().cycle();
        for number in 1..=4 {
            let piece = piece(number);
            let mut tries = 0;
            while !attempt(&mut desk, &mut kept, &caps, TicketPolicy::default(), &piece, &mut || faults.pop().unwrap_or(Fault::None)) {
                desk.pass(pauses.next().unwrap());
                tries += 1;
                prop_assert!(tries < 300, "never done");
            }
            // A delivery that is done costs nothing when it comes again.
            let before = desk.calls;
            prop_assert!(attempt(&mut desk, &mut kept, &caps, TicketPolicy::default(), &piece, &mut || panic!("sent again")));
            prop_assert!(desk.calls - before <= 2);
        }
        desk.pass(100_000);
        prop_assert_eq!(desk.tickets.len(), 1);
        let entries: Vec<&str> = desk.tickets[0].1.iter().map(|(entry, _)| entry.as_str()).collect();
        prop_assert_eq!(entries, ["msg_1", "msg_2", "msg_3", "msg_4"]);
    }
}

fn quiet() -> Fault {
    Fault::None
}

#[test]
fn a_closed_ticket_is_followed_by_another_that_knows_it() {
    let (mut desk, mut kept, caps) = (Desk::new(0), Kept::default(), caps(0, true));
    assert!(attempt(&mut desk, &mut kept, &caps, TicketPolicy::default(), &piece(1), &mut quiet));
    desk.closed.push(0);
    assert!(attempt(&mut desk, &mut kept, &caps, TicketPolicy::default(), &piece(2), &mut quiet));
    let known = kept.known(EventId(2));
    let conversation = ConversationId(1);
    assert_eq!(known.link.unwrap().external, format!("{conversation}-2"));
    assert_eq!((known.before.unwrap().ticket.as_deref(), desk.tickets.len()), (Some("0"), 2));
    assert_eq!(known.entries[0].generation, 2);
}

#[test]
fn an_edit_of_what_stands_in_a_closed_ticket_opens_no_other() {
    let (mut desk, mut kept, caps) = (Desk::new(0), Kept::default(), caps(0, true));
    assert!(attempt(&mut desk, &mut kept, &caps, TicketPolicy::default(), &piece(1), &mut quiet));
    desk.closed.push(0);
    let edit = Piece { minor: true, ..piece(2) };
    assert!(attempt(&mut desk, &mut kept, &caps, TicketPolicy::default(), &edit, &mut quiet));
    let known = kept.known(EventId(2));
    assert_eq!((known.entries[0].state, desk.tickets.len()), (EntryState::Skipped, 1));
}

#[test]
fn a_second_ticket_made_on_the_way_is_found_and_closed() {
    let (mut desk, mut kept, caps) = (Desk::new(0), Kept::default(), caps(0, true));
    let piece = piece(1);
    let mut flow = Flow::new(&caps, TicketPolicy::default(), &piece, TicketKnown::default(), desk.now);
    let mut merged = None;
    loop {
        let learnt = match flow.next(desk.now) {
            Step::Done => break,
            Step::Note => {
                kept.note(flow.change("desk", "x", 0));
                continue;
            }
            Step::FindTickets => Learnt::Tickets(desk.found(&flow.link().unwrap().external)),
            Step::Create => {
                let call = Call::Create(flow.link().unwrap().external.clone(), Some(piece.external.clone()));
                // Something between us and the desk repeats the request.
                let at = desk.carry_out(call.clone());
                desk.carry_out(call);
                Learnt::Created(ticket(at))
            }
            Step::CloseOthers(others) => {
                merged = Some(others);
                Learnt::OthersClosed
            }
            step => panic!("{step:?}"),
        };
        if flow.learn(learnt, desk.now) {
            kept.note(flow.change("desk", "x", 0));
        }
    }
    assert_eq!(merged, Some(vec!["1".to_owned()]));
    assert!(kept.known(EventId(1)).link.unwrap().checked);
}

#[test]
fn a_merged_ticket_is_followed_and_a_deleted_one_is_made_anew_or_left_to_a_person() {
    let (mut desk, mut kept) = (Desk::new(0), Kept::default());
    let caps = Caps { shows: true, ..caps(0, true) };
    assert!(attempt(&mut desk, &mut kept, &caps, TicketPolicy::default(), &piece(1), &mut quiet));
    let shown = |shown: Shown, policy: TicketPolicy| {
        let second = piece(2);
        let mut flow = Flow::new(&caps, policy, &second, kept.known(EventId(2)), Time(9_000_000));
        assert_eq!(flow.next(Time(9_000_000)), Step::Show);
        assert!(flow.learn(Learnt::Shown(shown), Time(9_000_000)));
        (flow.next(Time(9_000_000)), flow.link().unwrap().clone())
    };
    let (step, link) = shown(Shown::Merged("7".into()), TicketPolicy::default());
    assert_eq!((step, link.ticket.as_deref()), (Step::Show, Some("7")));
    let (step, link) = shown(Shown::Gone, TicketPolicy::default());
    assert_eq!((step, link.generation, link.state), (Step::Note, 2, TicketState::Intended));
    let dead = TicketPolicy { on_gone: OnGone::Dead, ..TicketPolicy::default() };
    assert_eq!(shown(Shown::Gone, dead).0, Step::Dead);
    let reopen = TicketPolicy { on_closed: OnClosed::Reopen, ..TicketPolicy::default() };
    assert_eq!(shown(Shown::Closed, reopen).0, Step::Reopen);
    let append = TicketPolicy { on_closed: OnClosed::Append, ..TicketPolicy::default() };
    let second = piece(2);
    assert_eq!(Flow::new(&caps, append, &second, kept.known(EventId(2)), Time(9_000_000)).next(Time(9_000_000)), Step::Note);
}

#[test]
fn a_clock_that_was_set_back_does_not_make_it_wait_for_its_future() {
    let (mut desk, mut kept, caps) = (Desk::new(0), Kept::default(), caps(0, true));
    let mut faults = vec![Fault::Cut];
    assert!(!attempt(&mut desk, &mut kept, &caps, TicketPolicy::default(), &piece(1), &mut || faults.pop().unwrap()));
    desk.now = Time(5);
    let mut tries = 0;
    while !attempt(&mut desk, &mut kept, &caps, TicketPolicy::default(), &piece(1), &mut quiet) {
        tries += 1;
        assert!(tries < 6);
    }
    assert!(desk.now < Time(100_000) && desk.tickets.len() == 1);
}

#[test]
fn files_follow_their_entry_each_once() {
    let (kept, desk) = (Kept::default(), Desk::new(0));
    let caps = Caps { attaches: true, verify: false, ..caps(0, true) };
    let piece = Piece { files: vec!["att_1".into(), "att_2".into()], ..piece(1) };
    let mut flow = Flow::new(&caps, TicketPolicy::default(), &piece, kept.known(EventId(1)), desk.now);
    let mut seen = Vec::new();
    loop {
        let learnt = match flow.next(desk.now) {
            Step::Done => break,
            Step::Note => continue,
            Step::FindTickets => Learnt::Tickets(Vec::new()),
            Step::Create => Learnt::Created(ticket(1)),
            Step::Attach(piece) => {
                seen.push(flow.entry(piece).unwrap().external.clone());
                Learnt::Written(piece, None)
            }
            step => panic!("{step:?}"),
        };
        flow.learn(learnt, desk.now);
    }
    assert_eq!(seen, ["att_1", "att_2"]);
}
