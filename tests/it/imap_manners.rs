//! What we never do to a server, and what servers do that is not quite IMAP: connections at once, compression, line ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use omnigate::engines::imap::ImapSettings;
use omnigate::model::codes::Code;
use omnigate::ports::pull::{PullError, PullSource as _, PulledState, Woken};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::support::daemon::{Daemon, Setup};
use crate::support::dovecot::{Dovecot, PASSWORD};
use crate::support::imap_script::{ScriptedImap, bodies, body, content, examine, listing, login};
use crate::support::pulling::{Desk, settings, source};
use crate::support::receiver::Receiver;

fn quick(port: u16) -> ImapSettings {
    let mut quick = settings(port, "ana");
    quick.timeouts.read = Duration::from_millis(1500);
    quick.timeouts.connect = Duration::from_millis(1500);
    quick.mailbox.poll_interval = Duration::from_millis(20);
    quick
}

/// Everything a modern server can, and more than we know.
const RICH: &str = "IDLE COMPRESS=DEFLATE LITERAL+ ESEARCH QRESYNC CONDSTORE ENABLE NOTIFY BINARY UTF8=ACCEPT XYZZY";

#[tokio::test]
async fn compression_and_what_changes_the_way_of_speaking_is_offered_and_never_asked_for() {
    // The script is content with nothing but what stands in it: COMPRESS, ENABLE, NOTIFY or BINARY anywhere would be a complaint.
    let idle = "C: IDLE\nS: + idling\nS: * 2 EXISTS\nC: DONE\nT: OK\n";
    let session = [&login(RICH), &examine(1, 7, 2), &listing(1, 1, &[1]), &bodies("1", &[1]), idle].concat();
    let later = [examine(2, 7, 3), listing(2, 2, &[2]), bodies("2", &[2])].concat();
    let server = ScriptedImap::start(vec![session + &later + "C: LOGOUT\nS: * BYE\nT: OK\n"]);
    let mut desk = Desk::default();
    let mut pull = source(quick(server.port)).open().await.unwrap();
    desk.drain(&mut *pull).await.unwrap();
    assert_eq!(pull.wait(Duration::from_secs(5)).await.unwrap(), Woken::News);
    desk.drain(&mut *pull).await.unwrap();
    pull.close().await;
    assert_eq!(desk.uids(), [1, 2]);
    server.must_be_content();
}

#[tokio::test]
async fn lines_that_end_with_lf_alone_are_lines_and_no_byte_of_a_mail_changes() {
    let mail = "Subject: 2\nTo: a\r\n\nbare \r and \0 stay\n.\n";
    let odd = format!("L: * 2 FETCH (UID 2 BODY[] {{{}}}\n", mail.len());
    let script = [
        &login("IDLE").replace("S: ", "L: ").replace("T: ", "U: "),
        &examine(3, 7, 4).replace("S: ", "L: ").replace("T: ", "U: "),
        &listing(1, 3, &[1, 2, 3]).replace("S: ", "L: ").replace("T: ", "U: "),
        "C: UID FETCH 1:3 (UID BODY.PEEK[])\n",
        &body(1),
        &odd,
    ]
    .concat();
    // The script is of lines; the mail is not.
    let behind = format!("L: )\n{}U: OK fetched\nC: IDLE\nL: + idling\nL: * 4 EXISTS\nC: DONE\nU: OK\n", body(3).replace("S: ", "L: "));
    let server = ScriptedImap::start_with(vec![(script, mail.as_bytes().to_vec(), behind)]);
    let mut desk = Desk::default();
    let mut pull = source(quick(server.port)).open().await.unwrap();
    desk.drain(&mut *pull).await.unwrap();
    assert_eq!(desk.uids(), [1, 2, 3]);
    assert!(desk.things.iter().all(|(_, _, thing)| thing.state == PulledState::Whole));
    assert_eq!(desk.things[0].2.body, content(1).as_bytes());
    assert_eq!(desk.things[1].2.body, mail.as_bytes());
    assert_eq!(desk.things[2].2.body, content(3).as_bytes());
    assert_eq!(pull.wait(Duration::from_secs(5)).await.unwrap(), Woken::News);
    server.must_be_content();
}

#[tokio::test]
async fn a_server_that_is_busy_or_full_does_not_make_the_password_wrong() {
    let greeting = "S: * OK [CAPABILITY IMAP4rev1] ready\nC: LOGIN\n";
    let full = [
        "T: NO [UNAVAILABLE] Maximum number of connections from user+IP exceeded (mail_max_userip_connections=10)\n",
        "T: NO [LIMIT] LOGIN Rate limit hit.\n",
        "T: NO [ALERT] Too many simultaneous connections. (Failure)\n",
        "T: NO Too many open connections\n",
        "T: NO Maximum connections exceeded for this account\n",
        "T: BAD Server Unavailable. 15\n",
        "T: NO Server Busy. 15\n",
        "T: NO [INUSE] Mailbox in use\n",
        "T: NO Login failed: authentication service not available\n",
        "S: * BYE Too many connections from your address\ncut\n",
        "S: * BYE Connection limit exceeded\ncut\n",
    ];
    for answer in full {
        let server = ScriptedImap::start(vec![format!("{greeting}{answer}")]);
        let refused = source(quick(server.port)).open().await.err().unwrap();
        assert!(matches!(refused, PullError::Lost { .. }), "{answer}: {refused:?}");
    }
    let wrong = [
        "T: NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)\n",
        "T: NO LOGIN failed.\n",
        "T: NO Login failed, user name or password is not correct\n",
        "T: NO [ALERT] Application-specific password required (Failure)\n",
        "T: NO LOGIN Login error, password error\n",
    ];
    for answer in wrong {
        let server = ScriptedImap::start(vec![format!("{greeting}{answer}")]);
        let refused = source(quick(server.port)).open().await.err().unwrap();
        assert!(matches!(refused, PullError::Person { code: Code::AuthFailed, .. }), "{answer}: {refused:?}");
    }
}

/// A server that counts who is connected at once. Each folder holds one mail.
struct Counting {
    port: u16,
    most: Arc<AtomicUsize>,
}

impl Counting {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let peak = most.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (now, peak) = (now.clone(), peak.clone());
                tokio::spawn(async move {
                    peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    let _ = serve(stream).await;
                    now.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { port, most }
    }
}

async fn serve(stream: TcpStream) -> std::io::Result<()> {
    let (reads, mut writes) = stream.into_split();
    let mut lines = BufReader::new(reads).lines();
    writes.write_all(b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready\r\n").await?;
    let mut folder = String::new();
    let mut idle = String::new();
    while let Some(line) = lines.next_line().await? {
        let (tag, command) = line.split_once(' ').unwrap_or((&idle, &line));
        let words: Vec<&str> = command.split(' ').collect();
        let answer = match words[..] {
            ["CAPABILITY", ..] => "* CAPABILITY IMAP4rev1 IDLE\r\n".to_owned(),
            ["EXAMINE", name, ..] => {
                folder = name.trim_matches('"').to_owned();
                "* 1 EXISTS\r\n* OK [UIDVALIDITY 7] v\r\n* OK [UIDNEXT 2] n\r\n".to_owned()
            }
            ["IDLE"] => {
                idle = tag.to_owned();
                writes.write_all(b"+ idling\r\n").await?;
                continue;
            }
            ["UID", "FETCH", "1" | "1:1", ..] if command.contains("BODY.PEEK[]") => {
                let mail = format!("Subject: {folder}\r\n\r\nx");
                format!("* 1 FETCH (UID 1 BODY[] {{{}}}\r\n{mail})\r\n", mail.len())
            }
            ["UID", "FETCH", ..] => "* 1 FETCH (UID 1 RFC822.SIZE 20 INTERNALDATE \"17-Jul-2026 02:44:25 +0000\")\r\n".to_owned(),
            _ => String::new(),
        };
        writes.write_all(format!("{answer}{tag} OK\r\n").as_bytes()).await?;
    }
    Ok(())
}

fn channel(port: u16, user: &str, folders: &str) -> String {
    format!(
        "connector = \"imap\"\n[secrets]\npassword = {{ env = \"MAIL_PASSWORD\" }}\n[imap]\nhost = \"127.0.0.1\"\nport = {port}\n\
         tls = \"none\"\nuser = \"{user}\"\nfirst_run = \"backfill\"\npoll_interval = \"10s\"\nfolders = [{folders}]\n"
    )
}

async fn published(daemon: &Daemon, count: u64) {
    let from = Instant::now();
    loop {
        let found = daemon.scrape().await.sum("omnigate_items", &[("fate", "published")]);
        if found >= count {
            return;
        }
        assert!(from.elapsed() < Duration::from_secs(60), "{found} of {count} came\n{}", daemon.log_end(30));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_has_one_connection_however_many_folders_it_has() {
    let receiver = Receiver::start().await;
    let server = Counting::start().await;
    let mut setup = Setup::all_to(&receiver.url());
    setup.env.insert("MAIL_PASSWORD".to_owned(), "secret".to_owned());
    setup.channels.insert("mail".to_owned(), channel(server.port, "ana", "\"INBOX\", \"A\", \"B\", \"C\", \"D\", \"E\""));
    let daemon = Daemon::start(setup).await;
    published(&daemon, 6).await;
    assert_eq!(server.most.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_a_server_that_gives_one_connection_the_gateway_works_and_a_second_program_is_told_why() {
    let Some(dovecot) = Dovecot::start_limited(1) else { return };
    let receiver = Receiver::start().await;
    let mail = |number: u32| format!("From: ana@example.org\r\nSubject: {number}\r\n\r\nHello {number}\r\n");
    dovecot.deliver("limited", [mail(1), mail(2)]);
    dovecot.imap("limited", &["CREATE A", "CREATE B", "SELECT INBOX", "COPY 1:2 A"]);
    let mut setup = Setup::all_to(&receiver.url());
    setup.env.insert("MAIL_PASSWORD".to_owned(), PASSWORD.to_owned());
    setup.channels.insert("mail".to_owned(), channel(dovecot.port, "limited", "\"INBOX\", \"A\", \"B\""));
    let daemon = Daemon::start(setup).await;
    published(&daemon, 2).await;
    daemon.channel_running("mail").await;

    let (status, out, err) = daemon.command(&["check", "--connect"]);
    assert_eq!(status.code(), Some(1), "{out}{err}");
    let told = out.lines().find(|line| line.contains("channel mail")).unwrap_or_else(|| panic!("{out}{err}"));
    assert!(told.contains("Maximum number of connections") && !told.contains("auth_failed"), "{out}");

    dovecot.deliver("limited", [mail(3)]);
    published(&daemon, 3).await;
    assert!(!daemon.log_end(1000).contains("ERROR"), "{}", daemon.log_end(30));
}
