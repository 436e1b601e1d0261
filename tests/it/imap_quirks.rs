//! What the larger providers are known for, and what a mailbox does over the years: renumbering, late mails, missing folders.

use std::time::Duration;

use omnigate::engines::imap::ImapSettings;
use omnigate::model::codes::Code;
use omnigate::model::mailbox::After;
use omnigate::ports::clock::Clock as _;
use omnigate::ports::pull::{PullError, PullSource as _, PulledState, Woken};
use omnigate::ports::store::SourceState;

use crate::support::imap_script::{ScriptedImap, bodies, body, content, examine, listing, login};
use crate::support::pulling::{Desk, WallClock, known, settings, source};

const DATE: &str = "17-Jul-2026 02:44:25 +0000";

fn quick(port: u16) -> ImapSettings {
    let mut quick = settings(port, "ana");
    quick.timeouts.read = Duration::from_millis(800);
    quick.timeouts.connect = Duration::from_millis(1500);
    quick.mailbox.poll_interval = Duration::from_millis(20);
    quick
}

fn script(parts: &[&str]) -> String {
    parts.concat()
}

async fn drained(server: &ScriptedImap, desk: &mut Desk) -> Result<(), PullError> {
    let mut pull = source(quick(server.port)).open().await?;
    desk.drain(&mut *pull).await
}

#[tokio::test]
async fn a_missing_folder_is_told_once_and_the_others_are_read() {
    let missing = "C: EXAMINE \"Gone\"\nT: NO [NONEXISTENT] Unknown Mailbox: Gone\n";
    let first = script(&[&login("IDLE"), missing, &examine(1, 7, 2), &listing(1, 1, &[1]), &bodies("1", &[1])]);
    let server = ScriptedImap::start(vec![first + "C: IDLE\nS: + idling\nC: DONE\nT: OK\n" + missing + &examine(1, 7, 2)]);
    let mut with = quick(server.port);
    with.mailbox.folders = vec!["INBOX".to_owned(), "Gone".to_owned()];
    let mut desk = Desk::default();
    let mut pull = source(with).open().await.unwrap();
    desk.drain(&mut *pull).await.unwrap();
    assert_eq!(desk.uids(), [1]);
    pull.wait(Duration::from_millis(30)).await.unwrap();
    desk.drain(&mut *pull).await.unwrap();
    let [(Code::NoFolder, detail)] = &desk.notes[..] else { panic!("{:?}", desk.notes) };
    assert!(detail.contains("Gone"), "{detail}");
    server.must_be_content();
}

#[tokio::test]
async fn the_next_mails_are_asked_for_before_the_last_have_come() {
    let ask = |uid: u32| format!("C: UID FETCH {uid} (UID BODY.PEEK[])\n");
    let come = |uid: u32| body(uid) + "O: OK\n";
    let ahead = script(&[&ask(1), &ask(2), &come(1), &ask(3), &come(2), &come(3)]);
    let server = ScriptedImap::start(vec![script(&[&login(""), &examine(3, 7, 4), &listing(1, 3, &[1, 2, 3]), &ahead])]);
    let mut with = quick(server.port);
    with.mailbox.batch_items_max = 1;
    let mut desk = Desk::default();
    let mut pull = source(with.clone()).open().await.unwrap();
    desk.drain(&mut *pull).await.unwrap();
    assert_eq!(desk.uids(), [1, 2, 3]);
    server.must_be_content();

    // Dovecot works on several questions at once, and mixes the answers.
    let mixed = script(&[&ask(1), &ask(2), &body(2), &body(1), "O: OK\n", &ask(3), &body(3), "T: OK\n", "O: OK\n"]);
    let server = ScriptedImap::start(vec![script(&[&login(""), &examine(3, 7, 4), &listing(1, 3, &[1, 2, 3]), &mixed])]);
    with.mailbox.port = server.port;
    let mut desk = Desk::default();
    let mut pull = source(with.clone()).open().await.unwrap();
    desk.drain(&mut *pull).await.unwrap();
    assert_eq!(desk.uids(), [1, 2, 3]);
    assert!(desk.things.iter().all(|(_, _, thing)| thing.body == content(thing.uid as u32)));
    server.must_be_content();

    // What was asked ahead behind a mail that did not come is asked anew.
    let gone = "C: NOOP\nS: * 1 EXPUNGE\nT: OK\nC: UID FETCH 1 (UID)\nT: OK\n";
    let rest = script(&[&listing(2, 3, &[2, 3]), &ask(2), &ask(3), &come(2), &come(3)]);
    let ahead = script(&[&ask(1), &ask(2), "O: OK\n", &come(2), gone, &rest]);
    let server = ScriptedImap::start(vec![script(&[&login(""), &examine(3, 7, 4), &listing(1, 3, &[1, 2, 3]), &ahead])]);
    with.mailbox.port = server.port;
    let mut desk = Desk::default();
    let mut pull = source(with).open().await.unwrap();
    desk.drain(&mut *pull).await.unwrap();
    assert_eq!(desk.uids(), [1, 2, 3]);
    assert_eq!(desk.things[0].2.state, PulledState::Gone);
    server.must_be_content();
}

#[tokio::test]
async fn a_mail_that_appears_below_the_cursor_is_found() {
    let numbers = "C: UID FETCH 1:8 (UID)\nS: * 1 FETCH (UID 5)\nS: * 2 FETCH (UID 8)\nT: OK\n";
    let look =
        format!("C: UID FETCH 5 (UID RFC822.SIZE INTERNALDATE)\nS: * 1 FETCH (UID 5 RFC822.SIZE 20 INTERNALDATE \"{DATE}\")\nT: OK\n");
    let late = "C: IDLE\nS: + idling\nS: * 2 EXISTS\nC: DONE\nT: OK\n";
    let found = script(&[&login("IDLE"), &examine(1, 7, 9), late, &examine(2, 7, 9), numbers, &look, &bodies("5", &[5])]);
    let server = ScriptedImap::start(vec![found]);
    let mut desk = Desk::default();
    desk.states.push(known(7, 0));
    let eighth = script(&[&login(""), &examine(1, 7, 9), &listing(8, 8, &[8]), &bodies("8", &[8])]);
    let before = ScriptedImap::start(vec![eighth]);
    drained(&before, &mut desk).await.unwrap();
    let mut pull = source(quick(server.port)).open().await.unwrap();
    desk.drain(&mut *pull).await.unwrap();
    assert_eq!(pull.wait(Duration::from_secs(5)).await, Ok(Woken::News));
    desk.drain(&mut *pull).await.unwrap();
    assert_eq!(desk.uids(), [8, 5]);
    assert_eq!(desk.inbox().low_water, 8, "what is below the cursor does not move it");
    server.must_be_content();
}

#[tokio::test]
async fn the_numbers_below_the_cursor_are_compared_every_day_and_a_server_that_cannot_is_left_in_peace() {
    let day_ago = |state: SourceState| SourceState { memo: "{\"floor\":2,\"surveyed_at\":1}".to_owned(), ..state };
    let well = script(&[&login(""), &examine(3, 7, 4), "C: UID FETCH 3:3 (UID)\nS: * 3 FETCH (UID 3)\nT: OK\n", &bodies_looked_up(3)]);
    let server = ScriptedImap::start(vec![well]);
    let mut desk = Desk::default();
    desk.states.push(day_ago(known(3, 0)));
    drained(&server, &mut desk).await.unwrap();
    assert_eq!(desk.uids(), [3], "what lies below the floor was never ours");
    assert!(!desk.inbox().memo.contains("\"surveyed_at\":1,"), "{}", desk.inbox().memo);
    server.must_be_content();

    let refused = script(&[&login(""), &examine(3, 7, 4), "C: UID FETCH 3:3 (UID)\nT: NO not today\n"]);
    let server = ScriptedImap::start(vec![refused]);
    let mut desk = Desk::default();
    desk.states.push(day_ago(known(3, 0)));
    drained(&server, &mut desk).await.unwrap();
    assert!(desk.things.is_empty());
    server.must_be_content();
}

fn bodies_looked_up(uid: u32) -> String {
    let look = format!(
        "C: UID FETCH {uid} (UID RFC822.SIZE INTERNALDATE)\nS: * 1 FETCH (UID {uid} RFC822.SIZE 20 INTERNALDATE \"{DATE}\")\nT: OK\n"
    );
    look + &bodies(&uid.to_string(), &[uid])
}

#[tokio::test]
async fn where_changes_are_counted_a_mail_that_appears_late_is_found_at_the_next_look() {
    let counted =
        |exists: u32, changes: u32| examine(exists, 7, 4).replace("T: OK", &format!("S: * OK [HIGHESTMODSEQ {changes}] changes\nT: OK"));
    // One mail went while another appeared below the cursor: their number says nothing.
    let changed = "C: UID FETCH 1:3 (UID) (CHANGEDSINCE 5)\nS: * 1 FETCH (UID 1 MODSEQ (9))\nS: * 2 FETCH (UID 2 MODSEQ (8))\nT: OK\n";
    let sizes = "C: UID FETCH 2 (UID RFC822.SIZE INTERNALDATE)\nS: * 2 FETCH (UID 2 RFC822.SIZE 10 MODSEQ (8))\nT: OK\n";
    let refused = "C: UID FETCH 1:3 (UID) (CHANGEDSINCE 9)\nT: BAD what\n";
    let begin = [&login("CONDSTORE"), &counted(2, 5), &listing(1, 3, &[1, 3]), &bodies("1,3", &[1, 3])].map(String::as_str).concat();
    let late = [&counted(2, 9), changed, sizes, &bodies("2", &[2])].concat();
    // The same number again: nothing is asked. A server that cannot after all is left in peace.
    let calm = [&counted(2, 9), &counted(2, 11), refused, &counted(2, 11)].concat();
    let server = ScriptedImap::start(vec![begin + &late + &calm]);
    let mut desk = Desk::default();
    let mut with = quick(server.port);
    (with.mailbox.idle, with.mailbox.poll_interval) = (false, Duration::from_millis(1));
    let mut pull = source(with).open().await.unwrap();
    for _ in 0..5 {
        desk.drain(&mut *pull).await.unwrap();
        pull.wait(Duration::from_secs(1)).await.unwrap();
    }
    assert_eq!((desk.uids(), desk.rolls), (vec![1, 3, 2], 1));
    server.must_be_content();
}

#[tokio::test]
async fn after_a_renumbering_only_what_is_not_recognised_is_fetched() {
    let with_id =
        |uid: u32, id: &str, word: &str| format!("S: * {uid} FETCH (UID {uid} RFC822.SIZE 20 INTERNALDATE \"{DATE}\" {word} {id})\n");
    for (can, word, ids) in [("OBJECTID", "EMAILID", ["(Ma)", "(Mb)", "(Mc)"]), ("X-GM-EXT-1", "X-GM-MSGID", ["11", "12", "13"])] {
        let ask = |to: u32| format!("C: UID FETCH 1:{to} (UID RFC822.SIZE INTERNALDATE {word})\n");
        let list = |to: u32, ids: &[&str]| {
            let lines: String = ids.iter().zip(1..).map(|(id, uid)| with_id(uid, id, word)).collect();
            ask(to) + &lines + "T: OK\n"
        };
        let before = script(&[&login(can), &examine(2, 7, 3), &list(2, &ids[..2]), &bodies("1:2", &[1, 2])]);
        let after = script(&[&login(can), &examine(3, 8, 4), &list(3, &[ids[2], ids[0], ids[1]]), &bodies("1", &[1])]);
        let server = ScriptedImap::start(vec![before, after]);
        let mut desk = Desk::default();
        drained(&server, &mut desk).await.unwrap();
        drained(&server, &mut desk).await.unwrap();
        let got: Vec<_> = desk.things.iter().map(|(epoch, _, thing)| (*epoch, thing.uid)).collect();
        assert_eq!(got, [(1, 1), (1, 2), (2, 1)], "{word}");
        assert_eq!((desk.inbox().epoch, desk.inbox().low_water), (2, 3));
        server.must_be_content();
    }
}

#[tokio::test]
async fn without_lasting_ids_a_mail_is_recognised_by_message_id_size_and_date() {
    let mail = |uid: u32, id: &str| {
        let size = format!("Message-ID: <{id}>\r\n\r\nHello").len();
        (format!("S: * {uid} FETCH (UID {uid} BODY[] {{{size}}}\nS: Message-ID: <{id}>\nS: \nR: Hello\nS: )\n"), size)
    };
    let list = |uid: u32, size: usize| format!("S: * {uid} FETCH (UID {uid} RFC822.SIZE {size} INTERNALDATE \"{DATE}\")\n");
    let head = |uid: u32, size: usize, id: &str| {
        let bytes = format!("Message-ID: <{id}>\r\n\r\n").len();
        let begin = format!(
            "S: * {uid} FETCH (UID {uid} RFC822.SIZE {size} INTERNALDATE \"{DATE}\" BODY[HEADER.FIELDS (MESSAGE-ID)] {{{bytes}}}\n"
        );
        begin + &format!("S: Message-ID: <{id}>\nS: \nS: )\n")
    };
    let (one, size) = mail(1, "a@example.org");
    let listed = "C: UID FETCH 1:1 (UID RFC822.SIZE INTERNALDATE)\n".to_owned() + &list(1, size) + "T: OK\n";
    let fetched = "C: UID FETCH 1 (UID BODY.PEEK[])\n".to_owned() + &one + "T: OK\n";
    let before = script(&[&login(""), &examine(1, 7, 2), &listed, &fetched]);
    let prints = "C: UID FETCH 1:2 (UID RFC822.SIZE INTERNALDATE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])\n".to_owned();
    let prints = prints + &head(1, size + 1, "a@example.org") + &head(2, size, "a@example.org") + "T: OK\n";
    let after = script(&[&login(""), &examine(2, 8, 3), &prints, &bodies("1", &[1])]);
    let server = ScriptedImap::start(vec![before, after]);
    let mut desk = Desk::default();
    drained(&server, &mut desk).await.unwrap();
    drained(&server, &mut desk).await.unwrap();
    let got: Vec<_> = desk.things.iter().map(|(epoch, _, thing)| (*epoch, thing.uid)).collect();
    assert_eq!(got, [(1, 1), (2, 1)], "the same Message-ID with another size is another mail");
    server.must_be_content();
}

#[tokio::test]
async fn old_mails_are_deleted_alone_and_young_ones_stay() {
    let young = jiff_now();
    let dates = format!(
        "C: UID FETCH 1:3 (UID RFC822.SIZE INTERNALDATE)\nS: * 1 FETCH (UID 1 RFC822.SIZE 9 INTERNALDATE \"{DATE}\")\n\
         S: * 2 FETCH (UID 2 RFC822.SIZE 9 INTERNALDATE \"{young}\")\nT: OK\n"
    );
    for (can, expunge) in [("UIDPLUS", "C: UID EXPUNGE 1\nS: * 1 EXPUNGE\nT: OK\n"), ("", "")] {
        let select = examine(2, 7, 4).replace("EXAMINE", "SELECT");
        let store = "C: UID STORE 1 +FLAGS.SILENT (\\Deleted)\nT: OK\n";
        let server = ScriptedImap::start(vec![script(&[&login(can), &select, &dates, store, expunge])]);
        let mut with = quick(server.port);
        with.mailbox.after = After::Delete(Duration::from_secs(86_400));
        let mut desk = Desk::default();
        desk.states.push(known(3, 0));
        desk.unsettled = (1..=3).map(|uid| ("INBOX".to_owned(), 1, uid)).collect();
        let mut pull = source(with).open().await.unwrap();
        desk.drain(&mut *pull).await.unwrap();
        assert_eq!(desk.settle(&mut *pull).await, Ok(2), "one was deleted, one was gone before");
        assert_eq!(desk.unsettled, [("INBOX".to_owned(), 1, 2)]);
        server.must_be_content();
    }
}

fn jiff_now() -> String {
    let now = jiff::Timestamp::from_millisecond(WallClock.now().0).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
    now.strftime("%d-%b-%Y %H:%M:%S +0000").to_string()
}

/// Login, a listing of three mails, then what the provider says to the FETCH.
fn fetch_of_three(capabilities: &str, answer: &str) -> String {
    script(&[&login(capabilities), &examine(3, 7, 4), &listing(1, 3, &[1, 2, 3]), "C: UID FETCH 1:3 (UID BODY.PEEK[])\n", answer])
}

#[tokio::test]
async fn providers_that_slow_us_down_are_obeyed_and_no_mail_is_blamed() {
    let words = [
        ("gmail", "T: NO [OVERQUOTA] Account exceeded command or bandwidth limits. ab12 (Failure)\n", None),
        ("gmail", "T: NO [THROTTLED] Requests are throttled (Failure)\n", None),
        ("gmail", "S: * BYE [OVERQUOTA] Account exceeded command or bandwidth limits.\ncut\n", None),
        ("exchange", "T: BAD Request is throttled. Suggested Backoff Time: 1500 milliseconds\n", Some(1500)),
        ("exchange", "T: BAD User is authenticated but not connected.\n", Some(300_000)),
        ("yahoo", "T: NO [LIMIT] UID FETCH Rate limit hit.\n", None),
    ];
    for (provider, answer, patience) in words {
        let rest = script(&[&login(""), &examine(3, 7, 4), &listing(2, 3, &[2, 3]), &bodies("2:3", &[2, 3])]);
        let server = ScriptedImap::start(vec![fetch_of_three("", &(body(1) + answer)), rest]);
        let mut desk = Desk::default();
        let ended = drained(&server, &mut desk).await.unwrap_err();
        let PullError::Lost { code: Code::Throttled, after, .. } = &ended else { panic!("{provider}: {ended:?}") };
        assert_eq!(after.map(|after| after.as_millis()), patience, "{provider}");
        assert!(!desk.inbox().memo.contains("suspect"), "{provider}");
        drained(&server, &mut desk).await.unwrap();
        assert_eq!(desk.uids(), [1, 2, 3], "{provider}");
        server.must_be_content();
    }
}

#[tokio::test]
async fn exchange_that_cannot_convert_a_mail_costs_that_mail_only() {
    let refuse = "T: NO The requested message could not be converted to an RFC-822 compatible format.\n";
    let again = |rest: &str| script(&[&listing(2, 3, &[2, 3]), "C: UID FETCH 2 (UID BODY.PEEK[])\n", refuse, rest]);
    let header = "C: UID FETCH 2 (UID BODY.PEEK[HEADER]<0.262144>)\nS: * 2 FETCH (UID 2 BODY[HEADER]<0> {7}\nS: From: a)\nT: OK\n";
    let text = format!("C: UID FETCH 2 (UID BODY.PEEK[TEXT]<0.65536>)\n{refuse}");
    let parts = script(&[&listing(2, 3, &[2, 3]), header, &text, &bodies("3", &[3])]);
    let all = fetch_of_three("", &(body(1) + refuse)) + &again("") + &again("") + &parts;
    let server = ScriptedImap::start(vec![all]);
    let mut desk = Desk::default();
    drained(&server, &mut desk).await.unwrap();
    assert_eq!(desk.uids(), [1, 2, 3], "in one session: a refusal does not end it");
    assert!(matches!(desk.things[1].2.state, PulledState::Unfetchable { .. }));
    assert_eq!(desk.things[1].2.body, "From: a");
    server.must_be_content();
}

#[tokio::test]
async fn sizes_that_are_estimates_do_not_cut_mails() {
    let listed = listing(1, 3, &[1, 2, 3]).replace("RFC822.SIZE 20", "RFC822.SIZE 3");
    let server = ScriptedImap::start(vec![script(&[&login(""), &examine(3, 7, 4), &listed, &bodies("1:3", &[1, 2, 3])])]);
    let mut desk = Desk::default();
    drained(&server, &mut desk).await.unwrap();
    assert!(desk.things.iter().all(|(_, _, thing)| thing.body == content(thing.uid as u32)));
    server.must_be_content();
}

#[tokio::test]
async fn an_expired_token_inside_idle_is_a_lost_connection_and_no_refusal() {
    let expired = "C: IDLE\nS: + idling\nS: * BYE Session invalidated - AccessTokenExpired\ncut\n";
    let server = ScriptedImap::start(vec![script(&[&login("IDLE"), &examine(0, 7, 1), expired])]);
    let mut pull = source(quick(server.port)).open().await.unwrap();
    Desk::default().drain(&mut *pull).await.unwrap();
    let ended = pull.wait(Duration::from_secs(5)).await.unwrap_err();
    assert!(matches!(ended, PullError::Lost { code: Code::ConnectionLost, after: None, .. }), "{ended:?}");
}

#[tokio::test]
async fn a_server_that_wants_an_introduction_gets_one_before_the_folder() {
    // 163.com refuses SELECT ("Unsafe Login") to clients that did not say ID, and does not tell UIDNEXT.
    let id = "C: ID (\"name\" \"omnigate\"\nS: * ID NIL\nT: OK\n";
    let bare = "C: EXAMINE \"INBOX\"\nS: * 3 EXISTS\nS: * OK [UIDVALIDITY 7] v\nT: OK\nC: SELECT \"INBOX\"\nS: * 3 EXISTS\nS: * OK [UIDVALIDITY 7] v\nT: OK\nC: STATUS \"INBOX\" (UIDVALIDITY UIDNEXT)\nT: NO no\nC: UID FETCH *:* (UID)\nS: * 3 FETCH (UID 3)\nT: OK\n";
    let server = ScriptedImap::start(vec![script(&[&login("ID"), id, bare, &listing(1, 3, &[1, 2, 3]), &bodies("1:3", &[1, 2, 3])])]);
    let mut desk = Desk::default();
    drained(&server, &mut desk).await.unwrap();
    assert_eq!(desk.uids(), [1, 2, 3]);
    server.must_be_content();

    let unsafe_login = "C: EXAMINE \"INBOX\"\nT: NO EXAMINE Unsafe Login. Please contact kefu@example.org for help\n";
    let server = ScriptedImap::start(vec![script(&[&login(""), unsafe_login])]);
    let ended = drained(&server, &mut Desk::default()).await.unwrap_err();
    assert!(matches!(&ended, PullError::Person { .. }) && !ended.to_string().contains("kefu"), "{ended:?}");
}

#[tokio::test]
async fn zimbra_that_talks_in_between_is_understood() {
    let chatty = "S: * OK [ALERT] The server is low on memory\nS: * FLAGS (\\Answered \\Seen)\nS: * 4 EXISTS\nS: * 1 RECENT\nS: * 2 FETCH (FLAGS (\\Seen))\n";
    let again = script(&[&examine(4, 7, 5), &listing(4, 4, &[4]), &bodies("4", &[4])]);
    let all = fetch_of_three("IDLE", &(body(1) + chatty + &body(2) + &body(3) + "T: OK UID FETCH completed\n")) + &again;
    let terminated = "C: IDLE\nS: + idling\nS: * BYE Zimbra IMAP4rev1 server terminating connection\ncut\n";
    let server = ScriptedImap::start(vec![all + terminated]);
    let mut desk = Desk::default();
    let mut pull = source(quick(server.port)).open().await.unwrap();
    desk.drain(&mut *pull).await.unwrap();
    assert_eq!(desk.uids(), [1, 2, 3, 4]);
    let ended = pull.wait(Duration::from_secs(5)).await.unwrap_err();
    assert!(matches!(ended, PullError::Lost { code: Code::ConnectionLost, .. }), "{ended:?}");
    server.must_be_content();
}
