//! Two who move the same mails at the same time, at a real Dovecot. What two gateways with a store of their own each can do to a
//! mailbox is decided by the server: here is what it does, asked by nobody but two plain sessions.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use crate::support::dovecot::{Dovecot, PASSWORD};

const MAILS: usize = 60;

/// A session that sends what it is told and waits for the tagged answer.
struct Session {
    reads: BufReader<TcpStream>,
    writes: TcpStream,
}

impl Session {
    fn open(dovecot: &Dovecot, user: &str) -> Self {
        let writes = TcpStream::connect(("127.0.0.1", dovecot.port)).unwrap();
        writes.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        writes.set_nodelay(true).unwrap();
        let mut session = Self { reads: BufReader::new(writes.try_clone().unwrap()), writes };
        session.run(&format!("LOGIN {user} {PASSWORD}"));
        session.run("SELECT INBOX");
        session
    }

    fn run(&mut self, command: &str) -> String {
        self.writes.write_all(format!("t {command}\r\n").as_bytes()).unwrap();
        let mut said = String::new();
        loop {
            let mut line = String::new();
            assert!(self.reads.read_line(&mut line).unwrap() > 0, "closed after {said}");
            said.push_str(&line);
            if line.starts_with("t ") {
                // Who comes second may be told that some are gone already.
                assert!(line.starts_with("t OK") || line.contains("[EXPUNGEISSUED]"), "{command}: {said}");
                return said;
            }
        }
    }
}

fn mails() -> Vec<String> {
    (0..MAILS).map(|number| format!("From: ana@example.org\r\nSubject: mail-{number:03}\r\n\r\nHello\r\n")).collect()
}

/// Both run the same commands at the same time; how many mails are in the target folder more than there were.
fn both(dovecot: &Dovecot, user: &str, commands: &'static [&'static str]) -> usize {
    dovecot.deliver(user, mails());
    dovecot.imap(user, &["CREATE Processed", "SELECT INBOX"]);
    let barrier = Arc::new(Barrier::new(2));
    let sessions: Vec<_> = (0..2).map(|_| Session::open(dovecot, user)).collect();
    let threads: Vec<_> = sessions
        .into_iter()
        .map(|mut session| {
            let barrier = barrier.clone();
            std::thread::spawn(move || {
                barrier.wait();
                commands.iter().for_each(|command| drop(session.run(command)));
                session.run("LOGOUT");
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let mut moved = dovecot.subjects(user, "Processed");
    moved.sort();
    let all = moved.len();
    moved.dedup();
    assert_eq!((moved.len(), dovecot.count(user, "INBOX")), (MAILS, 0), "{user}: each is there, and nothing is left");
    all - MAILS
}

#[test]
fn two_plain_sessions_that_move_at_once_lose_nothing_and_dovecot_itself_doubles() {
    let Some(dovecot) = Dovecot::start() else { return };
    let doubled: usize = (0..10).map(|round| both(&dovecot, &format!("move{round}"), &["UID MOVE 1:* Processed"])).sum();
    // Not asserted: another version may do it well. One command of each session and nothing else is what was sent.
    eprintln!("UID MOVE of the same {MAILS} mails by two plain sessions, 10 rounds: {doubled} mails doubled by the server");
    dovecot.imap("turns", &["CREATE Processed"]);
    let mut one = Session::open(&dovecot, "turns");
    let mut two = Session::open(&dovecot, "turns");
    dovecot.deliver("turns", mails());
    one.run("NOOP");
    two.run("NOOP");
    one.run("UID MOVE 1:* Processed");
    two.run("UID MOVE 1:* Processed");
    assert_eq!(dovecot.subjects("turns", "Processed").len(), MAILS, "one after the other nothing is doubled, whatever each had seen");
}
