//! Moves whose answer never came: the gateway was killed, or its connection broke. The server goes on with what it was asked for after
//! the next session has looked, does half of it, does nothing, or renumbers the folder meanwhile. In the end each mail is in the
//! target folder as often as it was in the mailbox, and is told once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::support::daemon::{Daemon, Setup};
use crate::support::receiver::Receiver;

const LIMIT: Duration = Duration::from_secs(60);
const MAILS: usize = 12;

/// What becomes of the first move.
#[derive(Debug, Clone, Copy, PartialEq)]
enum First {
    /// It is done whole, but only after the next session has selected the folder and looked at it.
    Late,
    /// Every second mail is copied, none is removed, and the connection is closed.
    Half,
    /// The same, and the folder has new numbers.
    HalfRenumbered,
    /// The same under the old UIDVALIDITY, as a Dovecot does whose list of numbers is deleted in that moment.
    HalfNumberedOn,
    /// Nothing is done, and the connection is closed.
    Never,
    /// It is done well.
    Well,
}

/// A folder.
#[derive(Default)]
struct Box_ {
    validity: u32,
    next: u32,
    mails: BTreeMap<u32, Arc<str>>,
}

impl Box_ {
    fn add(&mut self, mail: Arc<str>) {
        self.mails.insert(self.next, mail);
        self.next += 1;
    }
}

struct Mailbox {
    inbox: Box_,
    target: Box_,
    /// Times that the INBOX was opened for writing.
    selected: usize,
    /// Moves and copies that were begun.
    moves: usize,
    /// Those of them that are over.
    ended: usize,
    /// What every session said, for a test that fails.
    heard: Vec<String>,
}

/// A server of one mailbox that does a move as Dovecot 2.3 does: what is there at its begin is copied, whoever removes it meanwhile.
#[derive(Clone)]
struct Server {
    port: u16,
    first: First,
    capabilities: &'static str,
    mailbox: Arc<Mutex<Mailbox>>,
}

impl Server {
    async fn start(first: First, capabilities: &'static str, mails: &[String]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut inbox = Box_ { validity: 7, next: 1, ..Box_::default() };
        mails.iter().for_each(|mail| inbox.add(mail.as_str().into()));
        // What was there before is as large as the others, and one of it is the same as one of them.
        let mut target = Box_ { validity: 3, next: 1, ..Box_::default() };
        target.add(mails[0].as_str().into());
        let mailbox = Mailbox { inbox, target, selected: 0, moves: 0, ended: 0, heard: Vec::new() };
        let server = Self { port, first, capabilities, mailbox: Arc::new(Mutex::new(mailbox)) };
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        server
    }

    async fn serve(self, stream: TcpStream) {
        let (reads, mut writes) = stream.into_split();
        let mut lines = BufReader::new(reads).lines();
        let _ = writes.write_all(b"* OK [CAPABILITY IMAP4rev1] ready\r\n").await;
        let mut opened_target = false;
        while let Ok(Some(line)) = lines.next_line().await {
            let Some((tag, command)) = line.split_once(' ') else { return };
            self.mailbox.lock().unwrap().heard.push(command.split("LOGIN").next().unwrap().to_owned());
            let mut out = String::new();
            if command.starts_with("UID MOVE") || command.starts_with("UID COPY") {
                let goes_on = self.relocate(command).await;
                self.mailbox.lock().unwrap().ended += 1;
                if !goes_on {
                    return;
                }
            } else if command.starts_with("SELECT") || command.starts_with("EXAMINE") {
                opened_target = !command.contains("INBOX");
                out = self.open(command.starts_with("SELECT") && !opened_target, opened_target);
            } else {
                out = self.answer(command, opened_target);
            }
            if writes.write_all(format!("{out}{tag} OK done\r\n").as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn open(&self, counts: bool, target: bool) -> String {
        let mut mailbox = self.mailbox.lock().unwrap();
        mailbox.selected += usize::from(counts);
        let opened = if target { &mailbox.target } else { &mailbox.inbox };
        let (exists, validity, next) = (opened.mails.len(), opened.validity, opened.next);
        format!("* {exists} EXISTS\r\n* OK [UIDVALIDITY {validity}] valid\r\n* OK [UIDNEXT {next}] next\r\n")
    }

    fn answer(&self, command: &str, target: bool) -> String {
        let mut mailbox = self.mailbox.lock().unwrap();
        if command.starts_with("CAPABILITY") {
            return format!("* CAPABILITY IMAP4rev1 {}\r\n", self.capabilities);
        }
        if command.starts_with("STATUS") {
            let (validity, next) = (mailbox.target.validity, mailbox.target.next);
            return format!("* STATUS \"Done\" (UIDVALIDITY {validity} UIDNEXT {next})\r\n");
        }
        let opened = if target { &mut mailbox.target } else { &mut mailbox.inbox };
        if command.starts_with("UID EXPUNGE") {
            assert!(!target, "nothing is taken out of the target");
            opened.mails.retain(|uid, _| !asks_for(command, *uid));
        }
        let mut out = String::new();
        if command.starts_with("UID FETCH") {
            for (number, (uid, mail)) in opened.mails.iter().enumerate().filter(|(_, (uid, _))| asks_for(command, **uid)) {
                out += &format!("* {} FETCH (UID {uid}{})\r\n", number + 1, items(command, mail));
            }
        }
        out
    }

    /// False: the connection is gone.
    async fn relocate(&self, command: &str) -> bool {
        let (begun, selected): (Vec<_>, usize) = {
            let mut mailbox = self.mailbox.lock().unwrap();
            mailbox.moves += 1;
            (mailbox.inbox.mails.clone().into_iter().filter(|(uid, _)| asks_for(command, *uid)).collect(), mailbox.selected)
        };
        let first = if self.mailbox.lock().unwrap().moves == 1 { self.first } else { First::Well };
        if first == First::Late {
            while self.mailbox.lock().unwrap().selected == selected {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            // The next session has fetched nothing yet, or much: either way it believes what it saw.
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
        let mut mailbox = self.mailbox.lock().unwrap();
        match first {
            First::Never => return false,
            First::Half | First::HalfRenumbered | First::HalfNumberedOn => {
                begun.into_iter().step_by(2).for_each(|(_, mail)| mailbox.target.add(mail));
                if first == First::HalfRenumbered {
                    let mails = std::mem::take(&mut mailbox.inbox.mails);
                    mailbox.inbox = Box_ { validity: 8, next: 1, ..Box_::default() };
                    mails.into_values().rev().for_each(|mail| mailbox.inbox.add(mail));
                }
                if first == First::HalfNumberedOn {
                    let mails = std::mem::take(&mut mailbox.inbox.mails);
                    mails.into_values().for_each(|mail| mailbox.inbox.add(mail));
                }
                return false;
            }
            First::Late | First::Well => {}
        }
        for (uid, mail) in begun {
            mailbox.target.add(mail);
            if command.starts_with("UID MOVE") {
                mailbox.inbox.mails.remove(&uid);
            }
        }
        true
    }

    /// What is in the target, and how often.
    fn target(&self) -> BTreeMap<String, usize> {
        counted(self.mailbox.lock().unwrap().target.mails.values().map(|mail| mail.to_string()))
    }
}

fn counted(mails: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    mails.into_iter().for_each(|mail| *counted.entry(mail).or_default() += 1);
    counted
}

fn asks_for(command: &str, uid: u32) -> bool {
    let set = command.split(' ').nth(2).unwrap();
    set.split(',').any(|range| {
        let (first, last) = range.split_once(':').unwrap_or((range, range));
        (first.parse().unwrap()..=last.parse().unwrap()).contains(&u64::from(uid))
    })
}

fn items(command: &str, mail: &str) -> String {
    let mut out = String::new();
    if command.contains("RFC822.SIZE") {
        out += &format!(" RFC822.SIZE {} INTERNALDATE \"17-Jul-2026 02:44:25 +0000\"", mail.len());
    }
    if command.contains("MESSAGE-ID") {
        let id = mail.lines().find(|line| line.starts_with("Message-ID")).unwrap_or_default();
        out += &format!(" BODY[HEADER.FIELDS (MESSAGE-ID)] {{{}}}\r\n{id}\r\n\r\n", id.len() + 4);
    } else if command.contains("BODY.PEEK[]") {
        let place = if command.contains("]<0.") { "<0>" } else { "" };
        out += &format!(" BODY[]{place} {{{}}}\r\n{mail}", mail.len());
    }
    if command.contains("FLAGS") {
        out += " FLAGS ()";
    }
    out
}

/// Mails of one size; two of them are the same, and two have no Message-ID.
fn mails() -> Vec<String> {
    let mail = |number: usize| {
        let number = if number == 5 { 4 } else { number };
        let id = if number < 10 { format!("Message-ID: <{number:02}@example.org>") } else { "X-Nothing: <00@example.org>".to_owned() };
        format!("From: Ana <ana@example.org>\r\nTo: support@example.org\r\nSubject: mail-{number:02}\r\n{id}\r\n\r\nHello {number:02}\r\n")
    };
    (0..MAILS).map(mail).collect()
}

fn setup(server: &Server, url: &str) -> Setup {
    let mut setup = Setup::all_to(url);
    let channel = format!(
        "connector = \"imap\"\n[secrets]\npassword = {{ env = \"MAIL_PASSWORD\" }}\n[imap]\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\n\
         user = \"support\"\nfirst_run = \"backfill\"\npoll_interval = \"1s\"\nafter = \"move\"\nmove_to = \"Done\"\n",
        server.port
    );
    setup.channels.insert("mail".to_owned(), channel);
    setup.env.insert("MAIL_PASSWORD".to_owned(), "secret".to_owned());
    setup
}

async fn until(what: &str, server: &Server, daemon: &Daemon, holds: impl Fn(&Mailbox) -> bool) {
    let from = Instant::now();
    while !holds(&server.mailbox.lock().unwrap()) {
        assert!(from.elapsed() < LIMIT, "{what}: {:#?}\n{}", server.mailbox.lock().unwrap().heard, daemon.log_end(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn each_is_moved_once(first: First, capabilities: &'static str) {
    let all = mails();
    let (server, receiver) = (Server::start(first, capabilities, &all).await, Receiver::start().await);
    let mut daemon = Daemon::prepare(setup(&server, &receiver.url()));
    daemon.launch();
    until("a move is asked for", &server, &daemon, |mailbox| mailbox.moves == 1).await;
    if first == First::Late {
        daemon.kill();
        daemon.launch();
    }
    let over = |mailbox: &Mailbox| mailbox.inbox.mails.is_empty() && mailbox.ended == mailbox.moves;
    until("the folder is empty, and every move is over", &server, &daemon, over).await;
    daemon.ready().await;
    daemon.settled(Duration::from_secs(20)).await.identities_hold();
    let heard = || format!("{:#?}", server.mailbox.lock().unwrap().heard);
    assert_eq!(server.target(), counted([all[0].clone()].into_iter().chain(all.clone())), "{first:?}, {capabilities}: {}", heard());
    let book = receiver.book();
    let created: Vec<_> = book.events().into_iter().filter(|event| event["type"] == "message.created").collect();
    let told: BTreeSet<_> = created.iter().map(|event| event["data"]["message"]["subject"].as_str().unwrap()).collect();
    assert_eq!((told.len(), created.len()), (MAILS - 1, MAILS - 1), "each is told once, and the twins are one message");
}

#[tokio::test]
async fn a_move_that_a_killed_gateway_asked_for_and_the_server_does_after_the_next_one_looked_doubles_nothing() {
    each_is_moved_once(First::Late, "MOVE UIDPLUS").await;
}

#[tokio::test]
async fn of_a_move_that_was_half_done_the_other_half_is_done() {
    each_is_moved_once(First::Half, "MOVE UIDPLUS").await;
}

#[tokio::test]
async fn of_a_move_that_was_half_done_while_the_folder_was_renumbered_the_other_half_is_done() {
    each_is_moved_once(First::HalfRenumbered, "MOVE UIDPLUS").await;
}

#[tokio::test]
async fn of_a_move_that_was_half_done_while_mails_got_new_numbers_under_the_old_uidvalidity_the_other_half_is_done() {
    each_is_moved_once(First::HalfNumberedOn, "MOVE UIDPLUS").await;
}

#[tokio::test]
async fn without_move_a_copy_whose_answer_was_lost_is_not_made_again() {
    each_is_moved_once(First::Half, "UIDPLUS").await;
}

#[tokio::test]
async fn a_move_that_was_not_done_is_done_again() {
    each_is_moved_once(First::Never, "MOVE UIDPLUS").await;
}

#[tokio::test]
async fn what_ended_well_is_not_looked_for_after_a_restart() {
    let all = mails();
    let (server, receiver) = (Server::start(First::Well, "MOVE UIDPLUS", &all).await, Receiver::start().await);
    let mut daemon = Daemon::start(setup(&server, &receiver.url())).await;
    until("the folder is empty", &server, &daemon, |mailbox| mailbox.inbox.mails.is_empty()).await;
    daemon.settled(Duration::from_secs(20)).await;
    daemon.signal("TERM");
    daemon.ended(Duration::from_secs(20)).await;
    server.mailbox.lock().unwrap().inbox.add(all[0].replace("mail-00", "mail-99").as_str().into());
    let before = Instant::now();
    daemon.launch();
    until("the new one is moved", &server, &daemon, |mailbox| mailbox.inbox.mails.is_empty()).await;
    let mailbox = server.mailbox.lock().unwrap();
    assert!(!mailbox.heard.iter().any(|command| command.starts_with("EXAMINE")), "nobody looked into the target: {:#?}", mailbox.heard);
    // Not a bound of the machine: five seconds are what an unknown outcome waits.
    eprintln!("moved {:?} after the start", before.elapsed());
}
