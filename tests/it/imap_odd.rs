//! Servers on their bad days: what they say beside the protocol, what they give instead of a mail, and what they do when they are full, busy
//! or tired of us. Each mail comes once, and who can help is told.

use std::time::{Duration, Instant};

use omnigate::engines::imap::{ImapSettings, Login};
use omnigate::model::codes::Code;
use omnigate::model::mailbox::{After, Sasl};
use omnigate::ports::BoxFuture;
use omnigate::ports::pull::{Pull, PullError, PullSource as _, PulledState, Woken};
use omnigate::ports::token::{AccessToken, TokenError, TokenSource};

use crate::imap_hazards::{rest_from, three};
use crate::support::imap_script::{ScriptedImap, bodies, body, content, examine, listing, login};
use crate::support::pulling::{Desk, known, settings, source};

const ASKED: &str = "C: UID FETCH 1:3 (UID BODY.PEEK[])\n";

fn quick(port: u16) -> ImapSettings {
    let mut quick = settings(port, "ana");
    quick.timeouts.read = Duration::from_millis(1500);
    quick.timeouts.connect = Duration::from_millis(1500);
    quick.mailbox.poll_interval = Duration::from_millis(20);
    quick
}

async fn drained(server: &ScriptedImap, desk: &mut Desk) -> Result<Box<dyn Pull>, PullError> {
    let mut pull = source(quick(server.port)).open().await?;
    desk.drain(&mut *pull).await.map(|()| pull)
}

#[track_caller]
fn all_three_came(desk: &Desk) {
    assert_eq!(desk.uids(), [1, 2, 3]);
    for (_, _, thing) in &desk.things {
        assert_eq!(thing.state, PulledState::Whole);
        assert_eq!(thing.body, content(u32::try_from(thing.uid).unwrap()).as_bytes());
    }
}

/// What servers say that nobody asked for, and that our parser does not know.
pub const CHATTER: [&str; 10] = [
    "S: * XNOTICE we move to new machines",
    "S: * ESEARCH (TAG \"a\") UID ALL 1:3",
    "S: * SEARCH 1 (MODSEQ 5)",
    "S: * NAMESPACE ((\"\" \"/\")) NIL NIL",
    "S: * METADATA \"INBOX\" (/shared/x {14}\nS: * 9 EXISTS x\nS: )",
    "S: * 2 XANNOTATION (a)",
    "S: * FLAGS (\\Seen $a{b)",
    "S: * 9 FETCH (FLAGS (\\Seen)))",
    "S: ",
    "S: * OK [ALERT] caf\u{e9} \u{1}",
];

#[tokio::test]
async fn what_a_server_says_beside_the_answers_is_passed_over_and_no_mail_with_it() {
    let chatter: String = CHATTER.iter().map(|line| format!("{line}\n")).collect();
    for chatter in CHATTER.iter().map(|line| format!("{line}\n")).chain([chatter.clone()]) {
        let greeting = login("IDLE").replacen("ready\n", &format!("ready\n{chatter}"), 1);
        let opened = examine(3, 7, 4).replace("T: ", &format!("{chatter}T: "));
        let listed = listing(1, 3, &[1, 2, 3]).replace("S: * 2", &format!("{chatter}S: * 2"));
        let fetched = format!("{ASKED}{}{chatter}{}{chatter}{}T: OK\n", body(1), body(2), body(3));
        let idle = format!("C: IDLE\n{chatter}S: + idling\n{chatter}S: * 4 EXISTS\nC: DONE\n{chatter}T: OK\n");
        let server = ScriptedImap::start(vec![[greeting, opened, listed, fetched, idle].concat()]);
        let mut desk = Desk::default();
        let mut pull = drained(&server, &mut desk).await.unwrap_or_else(|error| panic!("{chatter}: {error}"));
        all_three_came(&desk);
        assert_eq!(pull.wait(Duration::from_secs(5)).await, Ok(Woken::News), "{chatter}");
        server.must_be_content();
    }
}

#[tokio::test]
async fn coremail_that_writes_its_id_with_spaces_in_it_is_read() {
    let id = "C: ID (\"name\" \"omnigate\"\nS: * ID ( \"name\" \"Coremail Imap\" \"vendor\" \"Mailtech\" \"TransID\" \"abc\" )\nT: OK ID completed\n";
    let session = [&login("ID"), id, &examine(3, 7, 4), &listing(1, 3, &[1, 2, 3]), &bodies("1:3", &[1, 2, 3])].concat();
    let server = ScriptedImap::start(vec![session]);
    let mut desk = Desk::default();
    drained(&server, &mut desk).await.unwrap();
    all_three_came(&desk);
    server.must_be_content();
}

#[tokio::test]
async fn a_mail_whose_date_the_server_does_not_know_comes_and_is_not_deleted_for_its_age() {
    let lines = [
        "S: * 1 FETCH (UID 1 RFC822.SIZE 10 INTERNALDATE NIL)\n",
        "S: * 2 FETCH ( UID 2  RFC822.SIZE 10 INTERNALDATE \"\" )\n",
        "S: * 3 FETCH (UID 3 RFC822.SIZE 10 INTERNALDATE \"01-Jan-1970 00:00:00 +0000\")\n",
    ];
    let listed = format!("C: UID FETCH 1:3 (UID RFC822.SIZE INTERNALDATE)\n{}T: OK\n", lines.concat());
    let select = examine(3, 7, 4).replace("EXAMINE", "SELECT");
    let session = [&login("UIDPLUS"), &select, &listed, &bodies("1:3", &[1, 2, 3]), &listed].map(String::as_str).concat();
    let server = ScriptedImap::start(vec![session]);
    let mut with = quick(server.port);
    with.mailbox.after = After::Delete(Duration::from_secs(86_400));
    let mut desk = Desk::default();
    let mut pull = source(with).open().await.unwrap();
    desk.drain(&mut *pull).await.unwrap();
    all_three_came(&desk);
    assert!(desk.things.iter().all(|(_, _, thing)| thing.internal_date.is_none()));
    assert_eq!(desk.settle(&mut *pull).await, Ok(0), "nobody knows how old they are");
    server.must_be_content();
}

#[tokio::test]
async fn an_empty_answer_for_a_mail_that_has_bytes_is_no_mail() {
    let empty = ["S: * 2 FETCH (UID 2 BODY[] \"\")\n", "S: * 2 FETCH (UID 2 BODY[] {0}\nS: )\n"];
    for empty in empty {
        let proof = "C: NOOP\nT: OK\nC: UID FETCH 2 (UID)\nS: * 2 FETCH (UID 2)\nT: OK\n";
        let first = format!("{ASKED}{}{empty}{}T: OK\n{proof}", body(1), body(3));
        let again = [&listing(2, 3, &[2, 3]), &bodies("2", &[2]), &bodies("3", &[3])].map(String::as_str).concat();
        let server = ScriptedImap::start(vec![three(&(first + &again))]);
        let mut desk = Desk::default();
        drained(&server, &mut desk).await.unwrap();
        all_three_came(&desk);
        server.must_be_content();
    }
    // A mail that is empty is one.
    let nothing = listing(1, 1, &[1]).replace("SIZE 20", "SIZE 0");
    let given = "C: UID FETCH 1 (UID BODY.PEEK[])\nS: * 1 FETCH (UID 1 BODY[] \"\")\nT: OK\n";
    let server = ScriptedImap::start(vec![[&login(""), &examine(1, 7, 2), &nothing, given].concat()]);
    let mut desk = Desk::default();
    drained(&server, &mut desk).await.unwrap();
    assert_eq!((desk.uids(), desk.things[0].2.state.clone()), (vec![1], PulledState::Whole));
    server.must_be_content();
}

#[tokio::test]
async fn trouble_of_the_server_over_a_mail_is_waited_out_and_not_counted_down_in_one_breath() {
    let away = "T: NO [UNAVAILABLE] Temporary failure\n";
    let first = three(&format!("{ASKED}{away}{}C: UID FETCH 1 (UID BODY.PEEK[])\n{away}", listing(1, 3, &[1, 2, 3])));
    let server = ScriptedImap::start(vec![first, three(&[bodies("1", &[1]), bodies("2:3", &[2, 3])].concat())]);
    let mut desk = Desk::default();
    let ended = drained(&server, &mut desk).await.err().unwrap();
    assert!(matches!(ended, PullError::Lost { code: Code::Unreachable, .. }), "{ended:?}");
    drained(&server, &mut desk).await.unwrap();
    all_three_came(&desk);
    server.must_be_content();
}

#[tokio::test]
async fn a_goodbye_in_the_middle_of_a_mail_costs_a_session_and_no_mail() {
    let cut = "S: * 2 FETCH (UID 2 BODY[] {300}\nS: Subject: half\nS: * BYE Server shutting down\ncut\n";
    let first = three(&format!("{ASKED}{}{cut}", body(1)));
    let server = ScriptedImap::start(vec![first, rest_from(2, &(bodies("2", &[2]) + &bodies("3", &[3])))]);
    let mut desk = Desk::default();
    assert!(matches!(drained(&server, &mut desk).await.err().unwrap(), PullError::Lost { code: Code::ConnectionLost, .. }));
    drained(&server, &mut desk).await.unwrap();
    all_three_came(&desk);
    server.must_be_content();
}

#[tokio::test]
async fn expunges_and_a_shrinking_folder_during_a_fetch_move_no_mail_to_another_number() {
    // Sequence numbers shift while UIDs come; the folder tells fewer mails than before, then as many again.
    let shifted = body(3).replace("* 3 FETCH", "* 2 FETCH");
    let fetched = format!("{ASKED}{}S: * 5 EXPUNGE\nS: * 2 EXISTS\n{}S: * 3 EXISTS\n{shifted}T: OK\n", body(1), body(2));
    let again = examine(3, 7, 4);
    let server = ScriptedImap::start(vec![three(&(fetched + &again))]);
    let mut desk = Desk::default();
    drained(&server, &mut desk).await.unwrap();
    all_three_came(&desk);
    server.must_be_content();
}

#[tokio::test]
async fn a_server_that_ends_every_idle_at_once_is_not_asked_without_a_pause() {
    let begin = [&login("IDLE"), &examine(0, 7, 1)].map(String::as_str).concat();
    let over = "C: IDLE\nT: OK idle is not for you\n";
    let server = ScriptedImap::start(vec![begin + over + &examine(0, 7, 1) + over + "hang\n"]);
    let mut with = quick(server.port);
    with.mailbox.poll_interval = Duration::from_millis(400);
    let mut pull = source(with).open().await.unwrap();
    let mut desk = Desk::default();
    let from = Instant::now();
    for _ in 0..2 {
        desk.drain(&mut *pull).await.unwrap();
        assert_eq!(pull.wait(Duration::from_secs(5)).await, Ok(Woken::Timeout));
    }
    assert!(from.elapsed() >= Duration::from_millis(780), "{:?}", from.elapsed());
    server.must_be_content();
}

#[tokio::test]
async fn a_server_that_tells_nothing_in_idle_is_looked_at_when_the_idle_is_over() {
    let begin = [&login("IDLE"), &examine(0, 7, 1)].map(String::as_str).concat();
    let mute = "C: IDLE\nS: + idling\nC: DONE\nT: OK\n";
    let found = [&examine(1, 7, 2), &listing(1, 1, &[1]), &bodies("1", &[1])].map(String::as_str).concat();
    let server = ScriptedImap::start(vec![begin + mute + &found]);
    let mut with = quick(server.port);
    with.timeouts.idle = Duration::from_millis(100);
    let mut desk = Desk::default();
    let mut pull = source(with).open().await.unwrap();
    desk.drain(&mut *pull).await.unwrap();
    assert_eq!(pull.wait(Duration::from_secs(60)).await, Ok(Woken::Timeout));
    desk.drain(&mut *pull).await.unwrap();
    assert_eq!(desk.uids(), [1]);
    server.must_be_content();
}

#[tokio::test]
async fn a_folder_that_goes_while_it_is_watched_is_told_and_the_others_are_read_on() {
    let gone = "C: EXAMINE \"Sales\"\nT: NO Mailbox does not exist\n";
    let sales = examine(0, 9, 1).replace("INBOX", "Sales");
    let begin = [&login("IDLE"), &sales, &examine(0, 7, 1)].map(String::as_str).concat();
    let idle = "C: IDLE\nS: + idling\nS: * 1 EXISTS\nC: DONE\nT: OK\n";
    let later = [gone, &examine(1, 7, 2), &listing(1, 1, &[1]), &bodies("1", &[1])].concat();
    let server = ScriptedImap::start(vec![begin + idle + &later]);
    let mut with = quick(server.port);
    with.mailbox.folders = vec!["INBOX".to_owned(), "Sales".to_owned()];
    let mut desk = Desk::default();
    let mut pull = source(with).open().await.unwrap();
    desk.drain(&mut *pull).await.unwrap();
    assert_eq!(pull.wait(Duration::from_secs(5)).await, Ok(Woken::News));
    desk.drain(&mut *pull).await.unwrap();
    assert_eq!(desk.uids(), [1]);
    let [(Code::NoFolder, detail)] = &desk.notes[..] else { panic!("{:?}", desk.notes) };
    assert!(detail.contains("Sales"), "{detail}");
    server.must_be_content();
}

/// A session with policy `move` in which mail 1 is to be moved, then a mail more comes.
async fn moves(refused: &str) -> (Desk, Result<usize, PullError>) {
    let select = |exists: u32, next: u32| examine(exists, 7, next).replace("EXAMINE", "SELECT");
    let later = [&select(4, 5), &listing(4, 4, &[4]), &bodies("4", &[4])].map(String::as_str).concat();
    let session = [login("MOVE"), select(3, 4), refused.to_owned(), later].concat();
    let server = ScriptedImap::start(vec![session]);
    let mut with = quick(server.port);
    with.mailbox.after = After::Move("Done".to_owned());
    let mut desk = Desk::default();
    desk.states.push(known(3, 2));
    desk.unsettled = vec![("INBOX".to_owned(), 1, 1)];
    let mut pull = source(with).open().await.unwrap();
    desk.drain(&mut *pull).await.unwrap();
    let settled = desk.settle(&mut *pull).await;
    if settled.is_ok() {
        pull.wait(Duration::from_millis(5)).await.unwrap();
        desk.drain(&mut *pull).await.unwrap();
        assert_eq!(desk.uids(), [4], "taking in goes on");
        server.must_be_content();
    }
    (desk, settled)
}

#[tokio::test]
async fn a_full_target_folder_stops_the_moves_and_not_the_mail_and_a_person_is_told() {
    let (desk, settled) = moves("C: UID MOVE 1 \"Done\"\nT: NO [OVERQUOTA] Quota exceeded (mailbox for user is full)\n").await;
    assert_eq!(settled, Ok(0));
    let [(Code::Protocol, detail)] = &desk.notes[..] else { panic!("{:?}", desk.notes) };
    assert!(detail.contains("Quota exceeded"), "{detail}");
    let (_, settled) = moves("C: UID MOVE 1 \"Done\"\nT: NO [OVERQUOTA] Account exceeded command or bandwidth limits.\n").await;
    assert!(matches!(settled, Err(PullError::Lost { code: Code::Throttled, .. })), "{settled:?}");
}

#[tokio::test]
async fn a_missing_target_folder_is_made_whatever_words_the_server_has_for_it() {
    let list = "C: LIST \"\" \"Done\"\nT: OK\n";
    for words in ["NO Can't find mailbox with that name", "BAD UID MOVE failed", "NO"] {
        let made = format!("C: UID MOVE 1 \"Done\"\nT: {words}\n{list}C: CREATE \"Done\"\nT: OK\nC: UID MOVE 1 \"Done\"\nT: OK\n");
        let (desk, settled) = moves(&made).await;
        assert_eq!((settled, desk.notes.len()), (Ok(1), 0), "{words}");
    }
}

#[tokio::test]
async fn a_folder_that_is_read_only_after_all_is_read_and_a_person_is_told_of_the_policy() {
    let select = |exists: u32, next: u32| examine(exists, 7, next).replace("EXAMINE", "SELECT");
    let store = "C: UID STORE 1:3 +FLAGS.SILENT (\\Seen)\nT: NO Mailbox is read-only\n";
    let session = [&login(""), &select(3, 4), &listing(1, 3, &[1, 2, 3]), &bodies("1:3", &[1, 2, 3]), store, &select(3, 4)];
    let server = ScriptedImap::start(vec![session.concat()]);
    let mut with = quick(server.port);
    with.mailbox.after = After::Seen;
    let mut desk = Desk::default();
    let mut pull = source(with).open().await.unwrap();
    desk.drain(&mut *pull).await.unwrap();
    all_three_came(&desk);
    assert_eq!(desk.settle(&mut *pull).await, Ok(0));
    pull.wait(Duration::from_millis(5)).await.unwrap();
    desk.drain(&mut *pull).await.unwrap();
    assert!(matches!(&desk.notes[..], [(Code::Protocol, detail)] if detail.contains("read-only")), "{:?}", desk.notes);
    server.must_be_content();
}

#[tokio::test]
async fn folders_have_any_name_and_what_is_locked_is_no_missing_folder() {
    let names = [
        ("Entwürfe & Co", "\"Entw&APw-rfe &- Co\""),
        ("INBOX.a\"b\\c", "\"INBOX.a\\\"b\\\\c\""),
        ("日本語\\2026", "\"&ZeVnLIqe-\\\\2026\""),
    ];
    for (name, wire) in names {
        let server = ScriptedImap::start(vec![[login(""), examine(0, 7, 1).replace("\"INBOX\"", wire)].concat()]);
        let mut with = quick(server.port);
        with.mailbox.folders = vec![name.to_owned()];
        let mut pull = source(with).open().await.unwrap();
        Desk::default().drain(&mut *pull).await.unwrap();
        server.must_be_content();
    }
    for words in ["NO Mailbox is locked by POP server", "NO [INUSE] database is in use", "NO [LIMIT] too many", "NO Server Error"] {
        let server = ScriptedImap::start(vec![login("") + "C: EXAMINE\nT: " + words + "\n"]);
        let ended = drained(&server, &mut Desk::default()).await.err().unwrap();
        assert!(matches!(ended, PullError::Lost { .. }), "{words}: {ended:?}");
    }
    let server = ScriptedImap::start(vec![login("") + "C: EXAMINE\nT: NO Mailbox isn't selectable\n"]);
    let ended = drained(&server, &mut Desk::default()).await.err().unwrap();
    assert!(matches!(&ended, PullError::Person { code: Code::NoFolder, detail } if detail.contains("selectable")), "{ended:?}");
}

#[tokio::test]
async fn a_uidvalidity_of_zero_is_a_name_like_any_other_and_none_at_all_needs_a_person() {
    let session = [login(""), examine(3, 0, 4), listing(1, 3, &[1, 2, 3]), bodies("1:3", &[1, 2, 3])].concat();
    let server = ScriptedImap::start(vec![session, [login(""), examine(3, 0, 4)].concat()]);
    let mut desk = Desk::default();
    drained(&server, &mut desk).await.unwrap();
    drained(&server, &mut desk).await.unwrap();
    all_three_came(&desk);
    assert_eq!(desk.inbox().epoch, 1);
    server.must_be_content();
    let none = "C: EXAMINE \"INBOX\"\nS: * 3 EXISTS\nS: * OK [UIDNEXT 4] n\nT: OK\nC: STATUS\nS: * STATUS \"INBOX\" (UIDNEXT 4)\nT: OK\n";
    let server = ScriptedImap::start(vec![login("") + none]);
    let ended = drained(&server, &mut Desk::default()).await.err().unwrap();
    assert!(matches!(&ended, PullError::Person { detail, .. } if detail.contains("UIDVALIDITY")), "{ended:?}");
}

/// Gives another token each time one was refused.
struct Tokens;

impl TokenSource for Tokens {
    fn token<'a>(&'a self, refused: Option<&'a AccessToken>) -> BoxFuture<'a, Result<AccessToken, TokenError>> {
        let secret = if refused.is_some() { "fresh" } else { "stale" };
        Box::pin(async move { Ok(AccessToken { secret: secret.to_owned().into(), number: u64::from(secret == "fresh") }) })
    }

    fn consent_ends(&self) -> BoxFuture<'_, Option<omnigate::model::time::Time>> {
        Box::pin(async { None })
    }
}

#[tokio::test]
async fn a_server_that_closes_instead_of_refusing_a_token_has_refused_it_and_a_fresh_one_is_tried() {
    let offer = "S: * OK [CAPABILITY IMAP4rev1 AUTH=XOAUTH2] hi\nC: AUTHENTICATE XOAUTH2\n";
    // {"status":"401"}, and {"status":"503"}
    let refused = format!("{offer}S: + go ahead\nC: \nS: + eyJzdGF0dXMiOiI0MDEifQ==\nC: \ncut\n");
    let busy = format!("{offer}S: +\nC: \nS: + eyJzdGF0dXMiOiI1MDMifQ==\nC: \ncut\n");
    let well = format!("{offer}S: + \nC: \nT: OK\nC: CAPABILITY\nS: * CAPABILITY IMAP4rev1\nT: OK\n");
    let with = |port: u16| {
        let mut with = quick(port);
        with.login = Login::Token { source: std::sync::Arc::new(Tokens), sasl: Some(Sasl::XOAuth2) };
        with
    };
    let server = ScriptedImap::start(vec![refused.clone(), well]);
    source(with(server.port)).open().await.unwrap();
    server.must_be_content();
    let server = ScriptedImap::start(vec![refused.clone(), refused]);
    let ended = source(with(server.port)).open().await.err().unwrap();
    assert!(matches!(&ended, PullError::Person { code: Code::AuthFailed, detail } if detail.contains("401")), "{ended:?}");
    let server = ScriptedImap::start(vec![busy]);
    let ended = source(with(server.port)).open().await.err().unwrap();
    assert!(matches!(ended, PullError::Lost { code: Code::ConnectionLost, .. }), "{ended:?}");
}
