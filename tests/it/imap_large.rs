//! Large mails against servers that answer questions for parts of a mail in their own ways: byte for byte what the server has, or
//! an error that loses nothing; and nothing is left in the spool.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use omnigate::model::codes::Code;
use omnigate::ports::BoxFuture;
use omnigate::ports::blobs::{BlobError, Blobs, Incoming};
use omnigate::ports::pull::{PullError, PullSource as _, PulledState};
use omnigate::stores::folder::FolderBlobs;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::support::pulling::{Desk, settings, source};

/// How a server answers `BODY.PEEK[]<offset.count>`.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// As the RFC says.
    Well,
    /// Never more than so many bytes at once.
    AtMost(usize),
    /// With the whole mail.
    Whole,
    /// With bytes from the begin, whatever was asked for.
    FromBegin,
    /// With `NO`.
    No,
    /// With `NIL`.
    Nil,
    /// With nothing behind so many bytes, though the mail is longer.
    Shrunk(usize),
    /// The first sessions are cut behind so many bytes.
    Cut(usize),
    /// It says another size than the mail has.
    Says(usize),
}

/// A server with one large mail between two small ones.
struct Server {
    port: u16,
    mail: Arc<Vec<u8>>,
    sessions: Arc<AtomicUsize>,
    asked: Arc<Mutex<Vec<String>>>,
}

/// Neither chunks nor their number divide it.
const BYTES: usize = 5_300_017;

impl Server {
    async fn start(way: Way) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let head = "From: ana@example.org\r\nMessage-ID: <large@example.org>\r\nSubject: large\r\n\r\n";
        let mut mail = head.as_bytes().to_vec();
        mail.extend((0..BYTES - head.len()).map(|n| b'a' + (n / 61 % 26) as u8));
        let (mail, sessions, asked) = (Arc::new(mail), Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (theirs, count, heard) = (mail.clone(), sessions.clone(), asked.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let session = count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, way, theirs.clone(), session, heard.clone()));
            }
        });
        Self { port, mail, sessions, asked }
    }
}

async fn serve(stream: TcpStream, way: Way, mail: Arc<Vec<u8>>, session: usize, asked: Arc<Mutex<Vec<String>>>) {
    let (reads, mut writes) = stream.into_split();
    let mut lines = BufReader::new(reads).lines();
    let _ = writes.write_all(b"* OK [CAPABILITY IMAP4rev1] ready\r\n").await;
    let said = if let Way::Says(bytes) = way { bytes } else { mail.len() };
    let mut given = 0;
    while let Ok(Some(line)) = lines.next_line().await {
        let Some((tag, command)) = line.split_once(' ') else { return };
        asked.lock().unwrap().push(command.to_owned());
        let mut out = Vec::new();
        let mut ended = "OK done";
        if command.starts_with("CAPABILITY") {
            out.extend_from_slice(b"* CAPABILITY IMAP4rev1\r\n");
        } else if command.starts_with("EXAMINE") {
            out.extend_from_slice(b"* 3 EXISTS\r\n* OK [UIDVALIDITY 7] valid\r\n* OK [UIDNEXT 4] next\r\n");
        } else if let Some((_, part)) = command.split_once("BODY.PEEK[]<") {
            let (offset, count) = part.split_once('>').unwrap().0.split_once('.').unwrap();
            let (offset, count): (usize, usize) = (offset.parse().unwrap(), count.parse().unwrap());
            let end = if let Way::Shrunk(end) = way { end } else { mail.len() };
            let count = if let Way::AtMost(most) = way { count.min(most) } else { count };
            let (from, to) = if way == Way::FromBegin { (0, count) } else { (offset.min(end), (offset + count).min(end)) };
            match way {
                Way::Whole => answer(&mut out, "", Some(&mail)),
                Way::FromBegin => answer(&mut out, "<0>", Some(&mail[from..to])),
                Way::No => ended = "NO partial fetch is not for you",
                Way::Nil => answer(&mut out, &format!("<{offset}>"), None),
                _ => answer(&mut out, &format!("<{offset}>"), Some(&mail[from..to])),
            }
            given += to - from;
        } else if command.contains("BODY.PEEK[]") {
            for uid in [1, 3].iter().filter(|uid| asks_for(command, **uid)) {
                let text = format!("Subject: {uid}");
                out.extend_from_slice(format!("* {uid} FETCH (UID {uid} BODY[] {{{}}}\r\n{text})\r\n", text.len()).as_bytes());
            }
            if asks_for(command, 2) {
                answer(&mut out, "", Some(&mail));
            }
        } else if command.starts_with("UID FETCH") {
            for uid in 1..=3 {
                let size = if uid == 2 { said } else { 20 };
                let date = "17-Jul-2026 02:44:25 +0000";
                out.extend_from_slice(format!("* {uid} FETCH (UID {uid} RFC822.SIZE {size} INTERNALDATE \"{date}\")\r\n").as_bytes());
            }
        }
        if matches!(way, Way::Cut(after) if session < 2 && given > after) {
            let _ = writes.write_all(out.get(..out.len() / 2).unwrap()).await;
            return;
        }
        out.extend_from_slice(format!("{tag} {ended}\r\n").as_bytes());
        if writes.write_all(&out).await.is_err() {
            return;
        }
    }
}

/// Whether a set like `1:2,5` has this number.
fn asks_for(command: &str, uid: u32) -> bool {
    let set = command.split(' ').nth(2).unwrap();
    set.split(',').any(|range| {
        let (first, last) = range.split_once(':').unwrap_or((range, range));
        (first.parse().unwrap()..=last.parse().unwrap()).contains(&uid)
    })
}

fn answer(out: &mut Vec<u8>, place: &str, data: Option<&[u8]>) {
    let Some(data) = data else {
        out.extend_from_slice(format!("* 2 FETCH (UID 2 BODY[]{place} NIL)\r\n").as_bytes());
        return;
    };
    out.extend_from_slice(format!("* 2 FETCH (UID 2 BODY[]{place} {{{}}}\r\n", data.len()).as_bytes());
    out.extend_from_slice(data);
    out.extend_from_slice(b")\r\n");
}

fn spooled(folder: &Path) -> usize {
    std::fs::read_dir(folder.join(".spool")).map_or(0, Iterator::count)
}

/// Fetches everything; the large mail must be there byte for byte, and it must not have been in memory.
async fn check(way: Way, sessions: usize) -> Server {
    let server = Server::start(way).await;
    let folder = tempfile::tempdir().unwrap();
    let blobs: Arc<dyn Blobs> = Arc::new(FolderBlobs::open(folder.path(), false).unwrap());
    let source = source(settings(server.port, "ana")).spooling(blobs.clone());
    let mut desk = Desk::default();
    desk.persist(&source, sessions).await;
    assert_eq!(desk.uids(), [1, 2, 3], "{way:?}");
    assert_eq!(server.sessions.load(Ordering::SeqCst), sessions, "{way:?}");
    let (_, _, thing) = &mut desk.things[1];
    assert!(thing.state == PulledState::Whole && thing.body.is_empty() && thing.print.is_some(), "{way:?}");
    let spool = thing.spooled.take().unwrap();
    assert_eq!((spool.bytes, spooled(folder.path())), (server.mail.len() as u64, 1), "{way:?}");
    spool.incoming.keep("raws/aa/one").await.unwrap();
    assert!(blobs.read("raws/aa/one").await.unwrap() == *server.mail, "{way:?}: byte for byte");
    assert_eq!(spooled(folder.path()), 0, "{way:?}");
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_mail_comes_in_chunks_whatever_their_size() {
    for way in [Way::Well, Way::AtMost(100_000), Way::AtMost(524_287), Way::Says(BYTES - 100_000), Way::Says(BYTES + 300_000)] {
        let server = check(way, 1).await;
        let asked = server.asked.lock().unwrap();
        assert!(!asked.iter().any(|command| command == "UID FETCH 2 (UID BODY.PEEK[])"), "{way:?}: {asked:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_give_parts_is_asked_for_the_whole_once() {
    for way in [Way::Whole, Way::FromBegin, Way::No, Way::Nil, Way::Shrunk(2_000_000), Way::Shrunk(0), Way::Says(3 * BYTES)] {
        let server = check(way, 1).await;
        let asked = server.asked.lock().unwrap();
        let wholes = asked.iter().filter(|command| *command == "UID FETCH 2 (UID BODY.PEEK[])").count();
        assert_eq!(wholes, 1, "{way:?}: {asked:?}");
        let parts = asked.iter().filter(|command| command.contains("]<")).count();
        let at_once = matches!(way, Way::Whole | Way::No | Way::Nil);
        assert!(parts == 1 || !at_once, "{way:?}: no second question of a kind it cannot answer");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_cut_in_the_middle_costs_nothing_but_time() {
    let server = check(Way::Cut(2_000_000), 3).await;
    let asked = server.asked.lock().unwrap();
    let parts: Vec<usize> =
        asked.iter().filter_map(|command| command.split_once("BODY.PEEK[]<")?.1.split('.').next()?.parse().ok()).collect();
    let begins = parts.iter().filter(|offset| **offset == 0).count();
    assert_eq!(begins, 1, "it goes on where it was cut: {parts:?}");
    let whole = BYTES.div_ceil(512 * 1024) + 1;
    assert!(parts.len() <= whole + 2 * 2, "but for what was under way, nothing is asked for twice: {parts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_cut_is_dropped_when_another_mail_is_fetched_or_everything_is_there() {
    let server = Server::start(Way::Cut(2_000_000)).await;
    let folder = tempfile::tempdir().unwrap();
    let blobs: Arc<dyn Blobs> = Arc::new(FolderBlobs::open(folder.path(), false).unwrap());
    let source = source(settings(server.port, "ana")).spooling(blobs);
    let mut desk = Desk::default();
    let mut pull = source.open().await.unwrap();
    desk.drain(&mut *pull).await.unwrap_err();
    assert_eq!(spooled(folder.path()), 1, "it waits for the next session");
    assert!(!desk.inbox().memo.contains("suspect"), "no mail is to blame for a bad link");
    // As if it had been taken in otherwise: nobody will ask for it any more.
    let state = desk.states.iter_mut().find(|state| state.folder == "INBOX").unwrap();
    state.low_water = 3;
    let mut pull = source.open().await.unwrap();
    desk.drain(&mut *pull).await.unwrap();
    // A dropped blob is taken away a moment later.
    let from = std::time::Instant::now();
    while spooled(folder.path()) > 0 {
        assert!(from.elapsed() < std::time::Duration::from_secs(10));
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// A disk that is full behind some bytes.
struct Full(Arc<AtomicUsize>);

impl Blobs for Full {
    fn spool(&self) -> BoxFuture<'_, Result<Box<dyn Incoming>, BlobError>> {
        let one = Full(self.0.clone());
        Box::pin(async move { Ok(Box::new(one) as Box<dyn Incoming>) })
    }
    fn put<'a>(&'a self, _: &'a str, _: Bytes) -> BoxFuture<'a, Result<(), BlobError>> {
        Box::pin(async { Err(BlobError::Full) })
    }
    fn read<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Bytes, BlobError>> {
        Box::pin(async { Err(BlobError::Full) })
    }
    fn read_range<'a>(&'a self, _: &'a str, _: u64, _: u64) -> BoxFuture<'a, Result<Bytes, BlobError>> {
        Box::pin(async { Err(BlobError::Full) })
    }
    fn delete<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), BlobError>> {
        Box::pin(async { Ok(()) })
    }
    fn free_bytes(&self) -> Option<u64> {
        None
    }
}

impl Incoming for Full {
    fn write(&mut self, _: Bytes) -> BoxFuture<'_, Result<(), BlobError>> {
        let left = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        Box::pin(async move { left.map(drop).map_err(|_| BlobError::Full) })
    }
    fn keep<'a>(self: Box<Self>, _: &'a str) -> BoxFuture<'a, Result<(), BlobError>> {
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_no_fault_of_the_mail() {
    let server = Server::start(Way::Well).await;
    let room = Arc::new(AtomicUsize::new(3));
    let source = source(settings(server.port, "ana")).spooling(Arc::new(Full(room.clone())));
    let mut desk = Desk::default();
    for _ in 0..6 {
        let mut pull = source.open().await.unwrap();
        let error = desk.drain(&mut *pull).await.unwrap_err();
        assert!(matches!(&error, PullError::Lost { code: Code::DiskFull, .. }), "{error:?}");
    }
    assert_eq!(desk.uids(), [1], "what is before it has come");
    assert!(!desk.inbox().memo.contains("suspect"), "no mail is blamed");
    room.store(1000, Ordering::SeqCst);
    desk.persist(&source, 1).await;
    assert_eq!(desk.uids(), [1, 2, 3], "when there is room again it comes");
}
