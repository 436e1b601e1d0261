//! A scripted IMAP server on loopback, for servers as ugly as a test needs.
//!
//! One script a connection, a step a line:
//! `C: <begin of a command>` reads a command, without its tag · `S: <line>` sends a line · `T: <line>` sends it with the tag of the
//! last command · `L: <line>` and `U: <line>` are `S` and `T` with a line end of LF alone · `O: <line>` with the tag of the oldest command that is not answered · `R: <text>` sends text without a line end · `hang` waits for the client to leave · `cut` closes; so does the
//! end of a script. What a script sends between two reads goes out in one piece.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Greeting and login of an ordinary server.
pub fn login(capabilities: &str) -> String {
    format!("S: * OK [CAPABILITY IMAP4rev1] ready\nC: LOGIN\nT: OK\nC: CAPABILITY\nS: * CAPABILITY IMAP4rev1 {capabilities}\nT: OK done\n")
}

/// EXAMINE of the INBOX with `exists` mails.
pub fn examine(exists: u32, validity: u32, next: u32) -> String {
    format!(
        "C: EXAMINE \"INBOX\"\nS: * {exists} EXISTS\nS: * OK [UIDVALIDITY {validity}] valid\nS: * OK [UIDNEXT {next}] next\nT: OK [READ-ONLY] done\n"
    )
}

/// A listing of mails of ordinary size.
pub fn listing(from: u32, to: u32, uids: &[u32]) -> String {
    let mut script = format!("C: UID FETCH {from}:{to} (UID RFC822.SIZE INTERNALDATE)\n");
    for uid in uids {
        let date = "17-Jul-2026 02:44:25 +0000";
        script += &format!("S: * {uid} FETCH (UID {uid} RFC822.SIZE 20 INTERNALDATE \"{date}\")\n");
    }
    script + "T: OK listed\n"
}

/// The bytes of the mail `uid`.
pub fn content(uid: u32) -> String {
    format!("Subject: {uid}")
}

/// One mail in answer to a FETCH.
pub fn body(uid: u32) -> String {
    let text = content(uid);
    format!("S: * {uid} FETCH (UID {uid} BODY[] {{{}}}\nS: {text})\n", text.len())
}

/// A question for bodies, answered well.
pub fn bodies(set: &str, uids: &[u32]) -> String {
    let all: String = uids.iter().map(|uid| body(*uid)).collect();
    format!("C: UID FETCH {set} (UID BODY.PEEK[])\n{all}T: OK fetched\n")
}

/// A running scripted server.
pub struct ScriptedImap {
    /// Where it listens.
    pub port: u16,
    complaints: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl ScriptedImap {
    /// Starts it; the first script is for the first connection, and so on. Later connections are closed at once.
    pub fn start(scripts: Vec<String>) -> Self {
        Self::start_with(scripts.into_iter().map(|script| (script, Vec::new(), String::new())).collect())
    }

    /// The same, with bytes that are sent as they are between two halves of each script.
    pub fn start_with(scripts: Vec<(String, Vec<u8>, String)>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let complaints = Arc::new(Mutex::new(Vec::new()));
        let said = complaints.clone();
        let task = tokio::spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            for (script, bytes, rest) in scripts {
                let Ok((stream, _)) = listener.accept().await else { return };
                if let Err(complaint) = play(stream, &script, &bytes, &rest).await {
                    said.lock().unwrap().push(complaint);
                }
            }
        });
        Self { port, complaints, task }
    }

    /// Fails if a client said what its script does not.
    #[track_caller]
    pub fn must_be_content(&self) {
        let complaints = self.complaints.lock().unwrap();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}

impl Drop for ScriptedImap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn play(stream: TcpStream, script: &str, bytes: &[u8], rest: &str) -> Result<(), String> {
    let (reads, mut writes) = stream.into_split();
    let mut reads = BufReader::new(reads).lines();
    let (mut tag, mut out) = (String::new(), Vec::new());
    let mut open: std::collections::VecDeque<String> = std::collections::VecDeque::new();
    let between = (!bytes.is_empty()).then_some("between");
    for step in script.lines().chain(between).chain(rest.lines()) {
        match step.split_once(": ").unwrap_or((step, "")) {
            ("S", line) => out.extend_from_slice(format!("{line}\r\n").as_bytes()),
            ("T", line) => {
                open.retain(|known| *known != tag);
                out.extend_from_slice(format!("{tag} {line}\r\n").as_bytes());
            }
            ("L", line) => out.extend_from_slice(format!("{line}\n").as_bytes()),
            ("U", line) => {
                open.retain(|known| *known != tag);
                out.extend_from_slice(format!("{tag} {line}\n").as_bytes());
            }
            ("O", line) => {
                let oldest = open.pop_front().ok_or("every command is answered")?;
                out.extend_from_slice(format!("{oldest} {line}\r\n").as_bytes());
            }
            ("R", text) => out.extend_from_slice(text.as_bytes()),
            ("C", expected) => {
                writes.write_all(&out).await.map_err(|error| format!("before {expected:?}: {error}"))?;
                out.clear();
                let line = reads.next_line().await.ok().flatten().ok_or(format!("the client left before {expected:?}"))?;
                // DONE and answers to challenges have no tag: the command that they belong to goes on.
                let (its, command) = line.split_once(' ').unwrap_or((&tag, &line));
                if !command.starts_with(expected) {
                    return Err(format!("expected {expected:?}, got {command:?}"));
                }
                if tag != its {
                    open.push_back(its.to_owned());
                }
                tag = its.to_owned();
            }
            ("between", _) => out.extend_from_slice(bytes),
            ("hang", _) => {
                let _ = writes.write_all(&out).await;
                while let Ok(Some(_)) = reads.next_line().await {}
                return Ok(());
            }
            ("cut", _) => break,
            _ => return Err(format!("no such step: {step:?}")),
        }
    }
    let _ = writes.write_all(&out).await;
    let _ = writes.shutdown().await;
    // Without this the unread rest of what the client says would turn the close into a reset.
    while let Ok(Some(_)) = reads.next_line().await {}
    Ok(())
}
