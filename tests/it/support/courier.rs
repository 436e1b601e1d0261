//! Courier's `imapd`, the weak server: no UIDNEXT in SELECT, no MOVE, no CONDSTORE, `NO` to what it does not know. It runs without a
//! daemon, one process a connection, out of an unpacked package (`tests/run.sh` puts it there); the login is played by a shim,
//! because without its authentication daemon it greets with PREAUTH.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::servers::{self, missing};

const CAPABILITIES: &str = "IMAP4rev1 UIDPLUS CHILDREN NAMESPACE SORT IDLE";

/// A server with one mailbox.
pub struct Courier {
    /// Where it listens.
    pub port: u16,
    folder: tempfile::TempDir,
}

impl Courier {
    /// Starts it; `None`, loudly, where it is not installed.
    #[track_caller]
    pub fn start() -> Option<Self> {
        let unpacked = servers::installed("courier");
        let program = unpacked.join("usr/bin/imapd");
        if !program.exists() {
            missing("courier-imap, unpacked");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("omnigate-courier").tempdir().unwrap();
        for name in ["Maildir/cur", "Maildir/new", "Maildir/tmp"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let libraries = [
            "usr/lib",
            "usr/lib/x86_64-linux-gnu",
            "usr/lib/aarch64-linux-gnu",
            "usr/lib/courier-authlib",
            "lib/x86_64-linux-gnu",
            "lib/aarch64-linux-gnu",
        ]
        .map(|name| unpacked.join(name).display().to_string())
        .join(":");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let home = folder.path().to_owned();
        // The thread ends with the test's process: it holds nothing but the listener.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (program, home, libraries) = (program.clone(), home.clone(), libraries.clone());
                std::thread::spawn(move || session(client, &program, &home, &libraries));
            }
        });
        Some(Self { port, folder })
    }

    fn maildir(&self, folder: &str) -> PathBuf {
        let root = self.folder.path().join("Maildir");
        if folder == "INBOX" { root } else { root.join(format!(".{}", folder.trim_start_matches("INBOX."))) }
    }

    /// Puts mails into the INBOX. The server numbers those that are new when it looks by the order of their files' names.
    pub fn deliver(&self, mails: impl IntoIterator<Item = impl AsRef<[u8]>>) {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        for mail in mails {
            self.put(1_795_000_000 + NUMBER.fetch_add(1, Ordering::Relaxed), mail);
        }
    }

    /// Puts mails into the INBOX, each under a name before all those that are there, as another clock may give.
    pub fn deliver_before(&self, mails: impl IntoIterator<Item = impl AsRef<[u8]>>) {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        for mail in mails {
            self.put(1_794_000_000 - NUMBER.fetch_add(1, Ordering::Relaxed), mail);
        }
    }

    fn put(&self, number: usize, mail: impl AsRef<[u8]>) {
        let name = format!("{number:010}.M{number:06}.test");
        let tmp = self.maildir("INBOX").join("tmp").join(&name);
        // Courier gives CR LF for every LF of the file.
        let mail = String::from_utf8(mail.as_ref().to_vec()).unwrap().replace("\r\n", "\n");
        fs::write(&tmp, mail).unwrap();
        fs::rename(tmp, self.maildir("INBOX").join("new").join(name)).unwrap();
    }

    /// Forgets the numbering of the INBOX.
    pub fn renumber(&self) {
        let _ = fs::remove_file(self.maildir("INBOX").join("courierimapuiddb"));
        // UIDVALIDITY is made from seconds.
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }

    /// How many mails of a folder have a flag of any kind.
    pub fn flagged(&self, folder: &str) -> usize {
        let files = ["cur", "new"].iter().filter_map(|name| fs::read_dir(self.maildir(folder).join(name)).ok()).flatten();
        files
            .filter(|file| {
                file.as_ref().unwrap().file_name().to_string_lossy().split_once(":2,").is_some_and(|(_, flags)| !flags.is_empty())
            })
            .count()
    }

    /// How many mails are in a folder.
    pub fn count(&self, folder: &str) -> usize {
        ["cur", "new"].iter().filter_map(|name| fs::read_dir(self.maildir(folder).join(name)).ok()).map(Iterator::count).sum()
    }
}

fn session(client: TcpStream, program: &Path, home: &Path, libraries: &str) {
    let child = Command::new(program)
        .arg("Maildir")
        .current_dir(home)
        .env_clear()
        .env("AUTHENTICATED", "x")
        .env("HOME", home)
        .env("LD_LIBRARY_PATH", libraries)
        .env("IMAP_CAPABILITY", CAPABILITIES)
        .env("IMAP_KEYWORDS", "1")
        .env("IMAP_ENHANCEDIDLE", "0")
        .env("IMAP_USELOCKS", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return };
    let (Some(mut to), Some(from)) = (child.stdin.take(), child.stdout.take()) else { return };
    let (mut from, mut answers) = (BufReader::new(from), client.try_clone().unwrap());
    let mut greeting = String::new();
    while !greeting.contains("PREAUTH") {
        greeting.clear();
        if from.read_line(&mut greeting).unwrap_or(0) == 0 {
            return;
        }
    }
    let mut commands = BufReader::new(client.try_clone().unwrap());
    let mut login = String::new();
    let played = write!(answers, "* OK [CAPABILITY {CAPABILITIES}] ready\r\n")
        .and_then(|()| commands.read_line(&mut login))
        .and_then(|_| write!(answers, "{} OK LOGIN Ok.\r\n", login.split(' ').next().unwrap_or_default()));
    if played.is_ok() {
        let back = std::thread::spawn(move || {
            copy(&mut from, &mut answers);
            let _ = answers.shutdown(Shutdown::Both);
        });
        copy(&mut commands, &mut to);
        drop(to);
        let _ = back.join();
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = child.wait();
}

/// Passes on what comes as it comes.
fn copy(from: &mut impl Read, to: &mut impl Write) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 || to.write_all(&buffer[..count]).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}
