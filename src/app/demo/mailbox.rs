//! A mailbox for the demo: just enough of an IMAP server (RFC 3501, RFC 2177) that the real engine logs in, looks, waits in IDLE and
//! fetches. One folder, read-only, plain text on loopback.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Longest command line: the engine's are shorter, and nobody else connects.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// The mailbox.
#[derive(Clone)]
pub struct Mailbox {
    mails: Arc<Mutex<Vec<String>>>,
    count: Arc<watch::Sender<usize>>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Mailbox {
    /// Starts a mailbox on a free port.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let mailbox = Self { mails: Arc::default(), count: Arc::new(watch::Sender::new(0)), address };
        let serving = mailbox.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mailbox = serving.clone();
                tokio::spawn(async move {
                    // A client that goes away is the end of its session and nothing more.
                    let _ = mailbox.converse(stream).await;
                });
            }
        });
        Ok(mailbox)
    }

    /// A mail arrives.
    pub fn deliver(&self, mail: &str) {
        let count = {
            let mut mails = self.mails();
            mails.push(mail.replace("\r\n", "\n").replace('\n', "\r\n"));
            mails.len()
        };
        self.count.send_replace(count);
    }

    fn mails(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.mails.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn converse(&self, stream: TcpStream) -> std::io::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read);
        write.write_all(b"* OK demo mailbox\r\n").await?;
        let mut line = String::new();
        loop {
            line.clear();
            if lines.read_line(&mut line).await? == 0 || line.len() > LINE_BYTES_MAX {
                return Ok(());
            }
            let mut words = line.trim_end().splitn(3, ' ');
            let (tag, verb, rest) = (words.next().unwrap_or("*"), words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let verb = verb.to_ascii_uppercase();
            if verb == "IDLE" {
                self.idle(&mut lines, &mut write).await?;
                write.write_all(format!("{tag} OK IDLE\r\n").as_bytes()).await?;
                continue;
            }
            let answer = self.answer(&verb, rest);
            write.write_all(answer.as_bytes()).await?;
            write.write_all(format!("{tag} OK {verb}\r\n").as_bytes()).await?;
            if verb == "LOGOUT" {
                return Ok(());
            }
        }
    }

    /// Says EXISTS whenever a mail arrives, until the client says DONE.
    async fn idle(
        &self,
        lines: &mut BufReader<tokio::net::tcp::OwnedReadHalf>,
        write: &mut tokio::net::tcp::OwnedWriteHalf,
    ) -> std::io::Result<()> {
        let mut count = self.count.subscribe();
        write.write_all(b"+ idling\r\n").await?;
        let mut line = String::new();
        loop {
            tokio::select! {
                done = lines.read_line(&mut line) => return done.map(|_| ()),
                changed = count.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let exists = *count.borrow_and_update();
                    write.write_all(format!("* {exists} EXISTS\r\n").as_bytes()).await?;
                }
            }
        }
    }

    fn answer(&self, verb: &str, rest: &str) -> String {
        let count = self.mails().len();
        match verb {
            "CAPABILITY" => "* CAPABILITY IMAP4rev1 IDLE\r\n".to_owned(),
            "SELECT" | "EXAMINE" => format!(
                "* FLAGS (\\Seen)\r\n* {count} EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY 1] ok\r\n* OK [UIDNEXT {}] ok\r\n",
                count + 1
            ),
            "STATUS" => format!("* STATUS INBOX (MESSAGES {count} UIDNEXT {} UIDVALIDITY 1)\r\n", count + 1),
            "NOOP" => format!("* {count} EXISTS\r\n"),
            "LOGOUT" => "* BYE\r\n".to_owned(),
            "UID" => self.fetch(rest),
            _ => String::new(),
        }
    }

    /// `FETCH <set> (<items>)`: the UID of a mail is its number, because nothing is ever removed.
    fn fetch(&self, rest: &str) -> String {
        let mut words = rest.splitn(3, ' ');
        let (Some(_), Some(set), Some(items)) = (words.next(), words.next(), words.next()) else { return String::new() };
        let mails = self.mails();
        let mut out = String::new();
        for (index, mail) in mails.iter().enumerate() {
            let uid = index + 1;
            if !in_set(set, uid, mails.len()) {
                continue;
            }
            let _ = write!(out, "* {uid} FETCH (UID {uid}");
            if items.contains("RFC822.SIZE") {
                let _ = write!(out, " RFC822.SIZE {} INTERNALDATE \"20-Nov-2026 09:14:03 +0000\"", mail.len());
            }
            if items.contains("BODY.PEEK[]") {
                let _ = write!(out, " BODY[] {{{}}}\r\n{mail}", mail.len());
            }
            out.push_str(")\r\n");
        }
        out
    }
}

fn in_set(set: &str, uid: usize, last: usize) -> bool {
    let number = |text: &str| if text == "*" { Some(last) } else { text.parse().ok() };
    set.split(',').any(|part| match part.split_once(':') {
        None => number(part) == Some(uid),
        Some((from, to)) => match (number(from), number(to)) {
            // RFC 3501 §9: a range may be written either way round.
            (Some(from), Some(to)) => (from.min(to)..=from.max(to)).contains(&uid),
            _ => false,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_may_end_with_a_star_and_be_written_backwards() {
        assert!(in_set("2:*", 3, 3) && in_set("*:2", 2, 3) && in_set("1,3", 3, 3));
        assert!(!in_set("1,3", 2, 3) && !in_set("4:5", 3, 3));
    }
}
