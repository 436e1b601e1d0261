//! What IMAP servers do to their clients, one by one. The question is always: what was lost, and who is told?

use std::time::Duration;

use omnigate::engines::imap::{ImapSettings, Login};
use omnigate::model::codes::Code;
use omnigate::model::mailbox::{After, FirstRun, Tls};
use omnigate::ports::pull::{Pull, PullError, PullSource, PulledState, Woken};
use omnigate::ports::store::SourceState;

use crate::support::imap_script::{ScriptedImap, bodies, body, content, examine, listing, login};
use crate::support::pulling::{Desk, known, settings, source};

/// What is not IMAP, or not as far as the parser knows it.
pub const GARBAGE: [&str; 3] = [
    "S: * Subject: private words",
    "S: * 2 FETCH (UID 2 BINARY[] ~{3}\nS: abc)",
    "S: * 2 FETCH (UID 2 BODYSTRUCTURE ((((((((((((((((((((((((((((((((((((((((((\"a\"",
];

fn quick(port: u16) -> ImapSettings {
    let mut quick = settings(port, "ana");
    quick.timeouts.read = Duration::from_millis(400);
    quick.timeouts.connect = Duration::from_millis(1500);
    quick.mailbox.poll_interval = Duration::from_millis(20);
    quick
}

/// Login, three mails, the listing of them, then `rest`.
pub fn three(rest: &str) -> String {
    [&login("IDLE"), &examine(3, 7, 4), &listing(1, 3, &[1, 2, 3]), rest].concat()
}

/// A later session that begins at `from` of three mails.
pub fn rest_from(from: u32, rest: &str) -> String {
    let uids: Vec<u32> = (from..=3).collect();
    [&login("IDLE"), &examine(3, 7, 4), &listing(from, 3, &uids), rest].concat()
}

async fn one_session(server: &ScriptedImap, desk: &mut Desk) -> Result<Box<dyn Pull>, PullError> {
    let mut pull = source(quick(server.port)).open().await?;
    desk.drain(&mut *pull).await.map(|()| pull)
}

#[track_caller]
fn check_all_three(desk: &Desk) {
    assert_eq!(desk.uids(), [1, 2, 3]);
    for (_, _, thing) in &desk.things {
        assert_eq!(thing.state, PulledState::Whole);
        assert_eq!(thing.body, content(u32::try_from(thing.uid).unwrap()).as_bytes());
    }
}

fn code_of(error: &PullError) -> Code {
    match error {
        PullError::Lost { code, .. } | PullError::Person { code, .. } => *code,
    }
}

#[tokio::test]
async fn a_tagged_no_after_one_of_three_mails_loses_none() {
    let script = three(&format!(
        "C: UID FETCH 1:3 (UID BODY.PEEK[])\n{}T: NO [SERVERBUG] sorry\n{}{}{}",
        body(1),
        listing(2, 3, &[2, 3]),
        bodies("2", &[2]),
        bodies("3", &[3]),
    ));
    let server = ScriptedImap::start(vec![script]);
    let mut desk = Desk::default();
    one_session(&server, &mut desk).await.unwrap();
    check_all_three(&desk);
    server.must_be_content();
}

#[tokio::test]
async fn a_connection_that_ends_inside_a_batch_keeps_what_is_complete() {
    let goodbye = "S: * BYE server shutting down\n";
    for end in ["cut\n", goodbye, "S: * 2 FETCH (UID 2 BODY[] {10}\nR: half\ncut\n", "S: * 2 FETCH (UID 2)\nS: * BYE FETCH failed\n"] {
        let first = three(&format!("C: UID FETCH 1:3 (UID BODY.PEEK[])\n{}{end}", body(1)));
        let second = rest_from(2, &(bodies("2", &[2]) + &bodies("3", &[3])));
        let server = ScriptedImap::start(vec![first, second]);
        let mut desk = Desk::default();
        let ended = one_session(&server, &mut desk).await.err().unwrap();
        assert_eq!(code_of(&ended), Code::ConnectionLost, "{end}: {ended}");
        assert_eq!(desk.uids(), [1], "{end}");
        assert!(desk.inbox().memo.contains("\"suspect\":[2,1]"), "{}", desk.inbox().memo);
        one_session(&server, &mut desk).await.unwrap();
        check_all_three(&desk);
        server.must_be_content();
    }
}

#[tokio::test]
async fn a_throttled_fetch_blames_no_mail_and_tells_the_patience() {
    let first = three(&format!(
        "C: UID FETCH 1:3 (UID BODY.PEEK[])\n{}T: BAD Request is throttled. Suggested Backoff Time: 92415 milliseconds\n",
        body(1)
    ));
    let server = ScriptedImap::start(vec![first, rest_from(2, &bodies("2:3", &[2, 3]))]);
    let mut desk = Desk::default();
    let ended = one_session(&server, &mut desk).await.err().unwrap();
    let PullError::Lost { code: Code::Throttled, after: Some(after), .. } = &ended else { panic!("{ended:?}") };
    assert_eq!(*after, Duration::from_millis(92415));
    assert!(!desk.inbox().memo.contains("suspect"));
    one_session(&server, &mut desk).await.unwrap();
    check_all_three(&desk);
    server.must_be_content();
}

#[tokio::test]
async fn what_is_not_imap_ends_the_session_and_is_never_repeated() {
    for garbage in GARBAGE {
        let first = three(&format!("C: UID FETCH 1:3 (UID BODY.PEEK[])\n{}{garbage}\nhang\n", body(1)));
        let server = ScriptedImap::start(vec![first, rest_from(2, &(bodies("2", &[2]) + &bodies("3", &[3])))]);
        let mut desk = Desk::default();
        let mut pull = source(quick(server.port)).open().await.unwrap();
        let ended = desk.drain(&mut *pull).await.unwrap_err();
        assert_eq!(code_of(&ended), Code::Protocol, "{garbage}: {ended}");
        assert!(!ended.to_string().contains("private"), "{ended}");
        assert_eq!(desk.drain(&mut *pull).await.unwrap_err(), ended, "a lost session stays lost");
        assert_eq!(pull.wait(Duration::from_secs(1)).await.unwrap_err(), ended);
        drop(pull);
        one_session(&server, &mut desk).await.unwrap();
        check_all_three(&desk);
    }
}

#[tokio::test]
async fn a_literal_over_the_limit_is_refused_before_it_is_buffered() {
    for size in ["600000000", "4000000000", "5000000000", "99999999999999999999999"] {
        let first = three(&format!("C: UID FETCH 1:3 (UID BODY.PEEK[])\nS: * 1 FETCH (UID 1 BODY[] {{{size}}}\nhang\n"));
        let server = ScriptedImap::start(vec![first]);
        let ended = one_session(&server, &mut Desk::default()).await.err().unwrap();
        assert_eq!(code_of(&ended), Code::Protocol, "{size}: {ended}");
        assert!(ended.to_string().contains("larger than"), "{ended}");
    }
}

#[tokio::test]
async fn nil_is_gone_only_if_the_server_no_longer_lists_it() {
    let nil = "S: * 2 FETCH (UID 2 BODY[] NIL)\n";
    let gone = three(&format!(
        "C: UID FETCH 1:3 (UID BODY.PEEK[])\n{}{nil}{}T: OK [EXPUNGEISSUED] some are gone\nC: NOOP\nS: * 2 EXPUNGE\nT: OK\nC: UID FETCH 2 (UID)\nT: OK\n",
        body(1),
        body(3)
    ));
    let server = ScriptedImap::start(vec![gone]);
    let mut desk = Desk::default();
    one_session(&server, &mut desk).await.unwrap();
    let states: Vec<_> = desk.things.iter().map(|(_, _, thing)| thing.state.clone()).collect();
    assert_eq!(states, [PulledState::Whole, PulledState::Gone, PulledState::Whole]);
    server.must_be_content();

    let proof = "C: NOOP\nT: OK\nC: UID FETCH 2 (UID)\nS: * 2 FETCH (UID 2)\nT: OK\n";
    for answer in [nil, ""] {
        let script = three(&format!(
            "C: UID FETCH 1:3 (UID BODY.PEEK[])\n{}{answer}{}T: OK\n{proof}{}{}{}",
            body(1),
            body(3),
            listing(2, 3, &[2, 3]),
            bodies("2", &[2]),
            bodies("3", &[3]),
        ));
        let server = ScriptedImap::start(vec![script]);
        let mut desk = Desk::default();
        one_session(&server, &mut desk).await.unwrap();
        check_all_three(&desk);
        server.must_be_content();
    }
}

#[tokio::test]
async fn what_was_not_asked_for_is_no_answer() {
    let script = three(&format!(
        "C: UID FETCH 1:3 (UID BODY.PEEK[])\nS: * 9 FETCH (FLAGS (\\Seen))\n{}S: * 2 FETCH (UID 2 FLAGS (\\Seen))\n{}{}{}S: * 1 FETCH (UID 1 BODY[] {{6}}\nS: second)\nT: OK\n",
        body(3),
        body(77),
        body(1),
        body(2),
    ));
    let server = ScriptedImap::start(vec![script]);
    let mut desk = Desk::default();
    one_session(&server, &mut desk).await.unwrap();
    check_all_three(&desk);
    server.must_be_content();
}

#[tokio::test]
async fn a_mail_that_ends_every_session_is_tried_in_parts_and_then_passed() {
    let dies = |set: &str| format!("C: UID FETCH {set} (UID BODY.PEEK[])\ncut\n");
    let header = "C: UID FETCH 1 (UID BODY.PEEK[HEADER]<0.262144>)\n";
    let control = "C: UID FETCH 2 (UID BODY.PEEK[]<0.1>)\n";
    let reads = "S: * 2 FETCH (UID 2 BODY[]<0> {1}\nS: S)\nT: OK\n";
    // The header can be had, the text cannot.
    let half = format!(
        "{header}S: * 1 FETCH (UID 1 BODY[HEADER]<0> {{7}}\nS: From: a)\nT: OK\nC: UID FETCH 1 (UID BODY.PEEK[TEXT]<0.65536>)\ncut\n"
    );
    let with_header = vec![three(&dies("1:3")), three(&dies("1")), three(&dies("1")), three(&half), rest_from(2, &bodies("2:3", &[2, 3]))];
    // Nothing can be had, but of other mails.
    let last = format!("{control}{reads}{}", bodies("2:3", &[2, 3]));
    let nothing = vec![three(&dies("1:3")), three(&dies("1")), three(&dies("1")), three(&format!("{header}cut\n")), three(&last)];
    for (scripts, part) in [(with_header, "From: a"), (nothing, "")] {
        let sessions = scripts.len();
        let server = ScriptedImap::start(scripts);
        let mut desk = Desk::default();
        desk.persist(&source(quick(server.port)), sessions).await;
        assert_eq!(desk.uids(), [1, 2, 3]);
        let (_, _, poison) = &desk.things[0];
        assert!(matches!(poison.state, PulledState::Unfetchable { .. }));
        assert!(poison.body.starts_with(part.as_bytes()) && poison.body.is_empty() == part.is_empty());
        server.must_be_content();
    }
}

#[tokio::test]
async fn a_server_that_gives_no_mail_at_all_is_not_a_mailbox_of_unfetchable_mails() {
    let refused = |uid: u32| format!("C: UID FETCH {uid} (UID BODY.PEEK[]<0.1>)\nT: NO storage is away\n");
    let server = ScriptedImap::start(vec![three(&(refused(2) + &refused(3)))]);
    let mut desk = Desk::default();
    desk.states.push(SourceState { memo: "{\"suspect\":[1,4]}".to_owned(), ..known(0, 2) });
    let ended = one_session(&server, &mut desk).await.err().unwrap();
    assert_eq!(code_of(&ended), Code::Protocol);
    assert!(desk.things.is_empty(), "no mail is given up for the server's trouble");
    server.must_be_content();
}

#[tokio::test]
async fn a_listing_that_ends_sessions_is_done_mail_by_mail() {
    let dies = [&login(""), &examine(2, 7, 3), "C: UID FETCH 1:2 (UID RFC822.SIZE INTERNALDATE)\ncut\n"].concat();
    let look = |uid: u32| format!("C: UID FETCH {uid} (UID RFC822.SIZE INTERNALDATE)\nS: * 1 FETCH (UID {uid} RFC822.SIZE 9)\nT: OK\n");
    let careful = [
        &login(""),
        &examine(2, 7, 3),
        "C: UID FETCH 1:2 (UID)\nS: * 1 FETCH (UID 1)\nS: * 2 FETCH (UID 2)\nT: OK\n",
        &look(1),
        &bodies("1", &[1]),
        &look(2),
        &bodies("2", &[2]),
    ]
    .concat();
    let server = ScriptedImap::start(vec![dies.clone(), dies, careful]);
    let mut desk = Desk::default();
    desk.persist(&source(quick(server.port)), 3).await;
    assert_eq!(desk.uids(), [1, 2]);
    server.must_be_content();
}

#[tokio::test]
async fn an_exists_around_idle_is_news_wherever_it_comes() {
    let before = "C: IDLE\nS: * 4 EXISTS\nS: + idling\nC: DONE\nT: OK\n";
    let inside = "C: IDLE\nS: + idling\nS: * OK still here\nS: * 4 EXISTS\nC: DONE\nT: OK\n";
    for idle in [before, inside] {
        let server = ScriptedImap::start(vec![[&login("IDLE"), &examine(0, 7, 1), idle].concat()]);
        let mut pull = one_session(&server, &mut Desk::default()).await.unwrap();
        assert_eq!(pull.wait(Duration::from_secs(60)).await, Ok(Woken::News), "{idle}");
        server.must_be_content();
    }
    // A number that is only repeated is no news: there are servers that repeat it at every IDLE.
    let repeated = "C: IDLE\nS: + idling\nS: * 0 EXISTS\nC: DONE\nT: OK\n";
    let server = ScriptedImap::start(vec![[&login("IDLE"), &examine(0, 7, 1), repeated].concat()]);
    let mut pull = one_session(&server, &mut Desk::default()).await.unwrap();
    assert_eq!(pull.wait(Duration::from_millis(50)).await, Ok(Woken::Timeout));
    server.must_be_content();
    // At the very end of an IDLE that heard nothing.
    let late = "C: IDLE\nS: + idling\nC: DONE\nS: * 4 EXISTS\nT: OK\n";
    let server = ScriptedImap::start(vec![[&login("IDLE"), &examine(0, 7, 1), late].concat()]);
    let mut pull = one_session(&server, &mut Desk::default()).await.unwrap();
    assert_eq!(pull.wait(Duration::from_millis(50)).await, Ok(Woken::News));
    server.must_be_content();
    let during = three(&format!("C: UID FETCH 1:3 (UID BODY.PEEK[])\n{}{}{}S: * 4 EXISTS\nT: OK\n", body(1), body(2), body(3)));
    let again = [&examine(4, 7, 5), &listing(4, 4, &[4]), &bodies("4", &[4])].map(String::as_str).concat();
    let server = ScriptedImap::start(vec![during + &again]);
    let mut desk = Desk::default();
    one_session(&server, &mut desk).await.unwrap();
    assert_eq!(desk.uids(), [1, 2, 3, 4], "what came while we read is read before we are quiet");
    server.must_be_content();
}

#[tokio::test]
async fn a_server_that_refuses_idle_is_polled() {
    let script =
        [&login("IDLE"), &examine(0, 7, 1), "C: IDLE\nT: BAD what\n", &examine(1, 7, 2), &listing(1, 1, &[1]), &bodies("1", &[1])].concat();
    let server = ScriptedImap::start(vec![script]);
    let mut desk = Desk::default();
    let mut pull = one_session(&server, &mut desk).await.unwrap();
    assert_eq!(pull.wait(Duration::from_secs(5)).await, Ok(Woken::Timeout));
    desk.drain(&mut *pull).await.unwrap();
    assert_eq!(desk.uids(), [1]);
    assert_eq!(pull.wait(Duration::from_millis(1)).await, Ok(Woken::Timeout), "now by a pause");
    server.must_be_content();
}

#[tokio::test]
async fn a_missing_uidnext_is_asked_for_and_its_absence_is_no_new_epoch() {
    let opened = "S: * 3 EXISTS\nS: * OK [UIDVALIDITY 7] v\nT: OK\n";
    let asked = "C: STATUS \"INBOX\" (UIDVALIDITY UIDNEXT)\n";
    let bare = format!("C: EXAMINE \"INBOX\"\n{opened}C: SELECT \"INBOX\"\n{opened}{asked}");
    let status = format!("{bare}S: * STATUS \"INBOX\" (UIDVALIDITY 7 UIDNEXT 4)\nT: OK\n");
    let senseless = status.replace("UIDNEXT 4", "UIDNEXT 1") + "C: UID FETCH *:* (UID)\nS: * 3 FETCH (UID 3)\nT: OK\n";
    let highest = format!("{bare}T: NO not now\nC: UID FETCH *:* (UID)\nS: * 3 FETCH (UID 3)\nT: OK\n");
    for told in [status, senseless, highest.clone()] {
        let script = [&login(""), &told, &listing(1, 3, &[1, 2, 3]), &bodies("1:3", &[1, 2, 3])].map(String::as_str).concat();
        let server = ScriptedImap::start(vec![script]);
        let mut desk = Desk::default();
        one_session(&server, &mut desk).await.unwrap();
        check_all_three(&desk);
        server.must_be_content();
    }
    // A folder that may not be opened for writing is read as it is.
    let refused =
        format!("C: EXAMINE \"INBOX\"\n{opened}C: SELECT \"INBOX\"\nT: NO [NOPERM]\nC: EXAMINE \"INBOX\"\n{opened}{asked}T: NO\n");
    let refused = refused + "C: UID FETCH *:* (UID)\nS: * 3 FETCH (UID 3)\nT: OK\n";
    let server = ScriptedImap::start(vec![
        [&login(""), &refused, &listing(1, 3, &[1, 2, 3]), &bodies("1:3", &[1, 2, 3])].map(String::as_str).concat(),
    ]);
    let mut desk = Desk::default();
    one_session(&server, &mut desk).await.unwrap();
    check_all_three(&desk);
    server.must_be_content();
    // The newest mails were deleted: the highest number is below the cursor, and that is all.
    let server = ScriptedImap::start(vec![login("") + &highest]);
    let mut desk = Desk::default();
    desk.states.push(known(9, 2));
    one_session(&server, &mut desk).await.unwrap();
    assert_eq!((desk.inbox().epoch, desk.inbox().low_water), (1, 9));
    server.must_be_content();
}

#[tokio::test]
async fn new_numbers_begin_a_new_epoch_and_old_mails_in_it_are_historic_by_date() {
    let first_run = "{\"first_run_at\":1784000000000}"; // 14 July 2026
    for (validity, next) in [(8, 4), (7, 3)] {
        let top = next - 1;
        let mut list = format!("C: UID FETCH 1:{top} (UID RFC822.SIZE INTERNALDATE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])\n");
        list += "S: * 1 FETCH (UID 1 RFC822.SIZE 9 INTERNALDATE \"01-Jan-2026 00:00:00 +0000\")\n";
        list += "S: * 2 FETCH (UID 2 RFC822.SIZE 9 INTERNALDATE \"01-Aug-2026 00:00:00 +0000\")\nT: OK\n";
        let script = [&login(""), &examine(2, validity, next), &list, &bodies("1", &[1]), &bodies("2", &[2])].map(String::as_str).concat();
        let server = ScriptedImap::start(vec![script]);
        let mut desk = Desk::default();
        desk.states.push(SourceState { memo: first_run.to_owned(), ..known(50, 2) });
        one_session(&server, &mut desk).await.unwrap();
        let inbox = desk.inbox();
        assert_eq!((inbox.epoch, inbox.epoch_name, inbox.low_water), (2, u64::from(validity), u64::from(top)));
        assert_eq!(desk.things.iter().map(|(_, historic, _)| *historic).collect::<Vec<_>>(), [true, false]);
        server.must_be_content();
    }
}

#[tokio::test]
async fn numbers_that_lie_far_apart_are_found_in_few_questions() {
    let script = [
        &login(""),
        &examine(1, 7, 4_000_000_001),
        &listing(1, 2_000, &[]),
        &listing(2_001, 18_000, &[]),
        &listing(18_001, 146_000, &[]),
        &listing(146_001, 1_170_000, &[]),
        &listing(1_170_001, 9_362_000, &[]),
        &listing(9_362_001, 74_898_000, &[]),
        &listing(74_898_001, 599_186_000, &[]),
        &listing(599_186_001, 4_000_000_000, &[4_000_000_000]),
        &bodies("4000000000", &[4_000_000_000]),
    ]
    .map(String::as_str)
    .concat();
    let server = ScriptedImap::start(vec![script]);
    let mut desk = Desk::default();
    one_session(&server, &mut desk).await.unwrap();
    assert_eq!(desk.uids(), [4_000_000_000]);
    server.must_be_content();
}

#[tokio::test]
async fn a_first_run_from_now_writes_down_where_now_is() {
    let server = ScriptedImap::start(vec![login("") + &examine(3, 7, 4)]);
    let mut now = quick(server.port);
    now.mailbox.first_run = FirstRun::FromNow;
    let mut desk = Desk::default();
    let mut pull = source(now).open().await.unwrap();
    desk.drain(&mut *pull).await.unwrap();
    assert!(desk.things.is_empty());
    assert_eq!((desk.inbox().low_water, desk.inbox().first_run_top, desk.inbox().epoch_name), (3, 3, 7));
    server.must_be_content();
}

#[tokio::test]
async fn a_hung_server_is_left() {
    let silent_login = "hang\n".to_owned();
    let silent_fetch = three("C: UID FETCH 1:3 (UID BODY.PEEK[])\nhang\n");
    let server = ScriptedImap::start(vec![silent_login, silent_fetch]);
    let ended = one_session(&server, &mut Desk::default()).await.err().unwrap();
    assert_eq!(code_of(&ended), Code::Unreachable);
    let ended = one_session(&server, &mut Desk::default()).await.err().unwrap();
    assert_eq!(code_of(&ended), Code::ConnectionLost);
    assert!(ended.to_string().contains("nothing came"), "{ended}");
}

#[tokio::test]
async fn starttls_takes_nothing_that_was_said_before_tls() {
    let offer = "S: * OK ready\nC: CAPABILITY\nS: * CAPABILITY IMAP4rev1 STARTTLS\nT: OK\nC: STARTTLS\n";
    let cases = [
        (format!("{offer}T: OK go\nS: * OK [CAPABILITY AUTH=NONE] injected\nhang\n"), Code::Protocol, "out of turn"),
        (format!("{offer}T: BAD no\nhang\n"), Code::Unreachable, "STARTTLS was refused"),
        ("S: * OK ready\nC: CAPABILITY\nS: * CAPABILITY IMAP4rev1\nT: OK\nhang\n".to_owned(), Code::Tls, "does not offer STARTTLS"),
        ("S: * PREAUTH welcome\nhang\n".to_owned(), Code::Protocol, "PREAUTH"),
        (format!("{offer}T: OK go\ncut\n"), Code::Tls, "TLS"),
    ];
    for (script, code, text) in cases {
        let server = ScriptedImap::start(vec![script.clone()]);
        let mut with = quick(server.port);
        with.mailbox.tls = Tls::StartTls;
        let refused = source(with).open().await.err().unwrap();
        assert_eq!(code_of(&refused), code, "{script}: {refused}");
        assert!(refused.to_string().contains(text), "{refused}");
        server.must_be_content();
    }
}

#[tokio::test]
async fn refused_logins_are_told_apart() {
    let refused = |end: &str| format!("S: * OK [CAPABILITY IMAP4rev1] hi\nC: LOGIN \"ana\" \"secret\"\nT: {end}\nhang\n");
    let cases: [(String, bool, Code); 8] = [
        (refused("NO [AUTHENTICATIONFAILED] wrong password for ana"), true, Code::AuthFailed),
        (refused("NO LOGIN failed."), true, Code::AuthFailed),
        (refused("NO [UNAVAILABLE] Temporary authentication failure."), false, Code::Unreachable),
        (refused("NO [ALERT] Too many simultaneous connections. (Failure)"), false, Code::Throttled),
        ("S: * PREAUTH hello\nhang\n".to_owned(), true, Code::Protocol),
        ("S: * BYE too many connections\n".to_owned(), false, Code::Throttled),
        ("S: HTTP/1.1 400 Bad Request\nhang\n".to_owned(), false, Code::Protocol),
        ("S: * OK [CAPABILITY IMAP4rev1 LOGINDISABLED] hi\nhang\n".to_owned(), true, Code::AuthFailed),
    ];
    for (script, person, code) in cases {
        let server = ScriptedImap::start(vec![script.clone()]);
        let error = source(quick(server.port)).open().await.err().unwrap();
        assert_eq!((matches!(error, PullError::Person { .. }), code_of(&error)), (person, code), "{script}: {error}");
        assert!(!error.to_string().contains("ana") && !error.to_string().contains("secret"), "{error}");
        server.must_be_content();
    }
}

#[tokio::test]
async fn strange_passwords_go_over_the_wire_as_they_are() {
    let after = "T: OK\nC: CAPABILITY\nS: * CAPABILITY IMAP4rev1\nT: OK\n";
    let quoted = format!("S: * OK [CAPABILITY IMAP4rev1] hi\nC: LOGIN \"ana\" \"a \\\"b\\\\ c\"\n{after}");
    // base64 of NUL ana NUL schlüssel
    let plain = format!("S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi\nC: AUTHENTICATE PLAIN\nS: + \nC: AGFuYQBzY2hsw7xzc2Vs\n{after}");
    let server = ScriptedImap::start(vec![quoted, plain]);
    let mut with = quick(server.port);
    with.login = Login::Password("a \"b\\ c".to_owned().into());
    source(with.clone()).open().await.unwrap();
    with.login = Login::Password("schlüssel".to_owned().into());
    source(with.clone()).open().await.unwrap();
    server.must_be_content();
    let server = ScriptedImap::start(vec!["S: * OK [CAPABILITY IMAP4rev1] hi\nhang\n".to_owned()]);
    with.mailbox.port = server.port;
    let refused = source(with.clone()).open().await.err().unwrap();
    assert_eq!(code_of(&refused), Code::AuthFailed);
    with.login = Login::Password("inject\r\nA1 LOGOUT".to_owned().into());
    let server = ScriptedImap::start(vec!["S: * OK [CAPABILITY IMAP4rev1] hi\nhang\n".to_owned()]);
    with.mailbox.port = server.port;
    source(with).open().await.err().unwrap();
    server.must_be_content();
}

#[tokio::test]
async fn a_password_is_not_sent_beyond_loopback_without_tls() {
    let mut bare = quick(9);
    bare.mailbox.host = "imap.example.org".to_owned();
    let refused = source(bare).open().await.err().unwrap();
    assert!(matches!(&refused, PullError::Person { code: Code::Tls, .. }), "{refused:?}");
}

fn select(rest: &str, capabilities: &str) -> String {
    let select = examine(3, 7, 4).replace("EXAMINE", "SELECT").replace("READ-ONLY", "READ-WRITE");
    [&login(capabilities), &select, rest].concat()
}

#[tokio::test]
async fn moving_without_move_never_expunges_what_others_marked() {
    let flags = "C: UID FETCH 1:2 (UID FLAGS)\nS: * 1 FETCH (UID 1 FLAGS ())\nS: * 2 FETCH (UID 2 FLAGS (\\Deleted))\nT: OK\n";
    let copy = "C: UID COPY 1 \"Done\"\nT: NO [TRYCREATE] no such folder\nC: CREATE \"Done\"\nT: OK\nC: UID COPY 1 \"Done\"\nT: OK\n";
    let mark = "C: UID STORE 1:2 +FLAGS.SILENT (\\Deleted)\nT: OK\n";
    let expunge = "C: UID EXPUNGE 1:2\nT: OK\n";
    let end = "C: IDLE\nhang\n";
    let with_move = "C: UID MOVE 1:2 \"Done\"\nT: OK\n";
    let cases = [
        ("IDLE UIDPLUS", [flags, copy, mark, expunge, end].concat()),
        ("IDLE", [flags, copy, mark, end].concat()),
        ("IDLE MOVE UIDPLUS", [with_move, end].concat()),
    ];
    for (capabilities, rest) in cases {
        let server = ScriptedImap::start(vec![select(&rest, capabilities)]);
        let mut with = quick(server.port);
        with.mailbox.after = After::Move("Done".to_owned());
        let mut desk = Desk::default();
        desk.states.push(known(3, 2));
        desk.unsettled = vec![("INBOX".to_owned(), 1, 1), ("INBOX".to_owned(), 1, 2)];
        let mut pull = source(with).open().await.unwrap();
        desk.drain(&mut *pull).await.unwrap();
        assert_eq!(desk.settle(&mut *pull).await, Ok(2), "{capabilities}");
        let _ = pull.wait(Duration::from_millis(10)).await;
        server.must_be_content();
    }
}

#[tokio::test]
async fn a_refused_policy_does_not_stop_the_source() {
    let there = "C: LIST \"\" \"Done\"\nS: * LIST () \"/\" \"Done\"\nT: OK\n";
    let refused = format!("C: UID MOVE 1 \"Done\"\nT: NO [CANNOT] not here\n{there}");
    let server = ScriptedImap::start(vec![select(&refused, "MOVE")]);
    let mut with = quick(server.port);
    with.mailbox.after = After::Move("Done".to_owned());
    let mut desk = Desk::default();
    desk.states.push(known(3, 2));
    desk.unsettled = vec![("INBOX".to_owned(), 1, 1)];
    let mut pull = source(with).open().await.unwrap();
    desk.drain(&mut *pull).await.unwrap();
    assert_eq!(desk.settle(&mut *pull).await, Ok(0));
    assert_eq!(pull.wait(Duration::from_millis(5)).await, Ok(Woken::Timeout));
    server.must_be_content();
}
