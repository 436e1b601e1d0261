//! One logged-in connection: raw commands with typed ends.
//!
//! What must stay true: a command ends well only by its own tagged `OK`; `None` from the parser is a lost connection; once lost, a
//! connection stays lost; an EXISTS is noticed wherever it comes. The typed commands of async-imap answer `Ok` with what came before
//! a `NO`, a `BYE` or a closed connection, so they are banned (clippy.toml).

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use async_imap::Session;
use async_imap::imap_proto::{Capability, MailboxDatum, Outcome, RequestId, Response, Status};
use tokio::time::{Instant, timeout, timeout_at};

use crate::engines::imap::Timeouts;
use crate::engines::imap::text::{Tone, is_full, said, tone};
use crate::engines::imap::wire::{Wire, WireError};
use crate::model::codes::Code;
use crate::ports::pull::{PullError, Woken};

/// A tagged `NO` or `BAD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What the server said, redacted.
    pub text: String,
    /// How it is to be taken.
    pub tone: Tone,
    /// `[TRYCREATE]`: the target folder is missing.
    pub try_create: bool,
    /// The folder that something should go into is full.
    pub full: bool,
}

impl Refusal {
    /// As the reason to end the session. `what` names the command.
    pub fn lost(&self, what: &str) -> PullError {
        let (code, after) = match self.tone {
            Tone::Throttled(after) => (Code::Throttled, after),
            Tone::Unavailable => (Code::Unreachable, None),
            Tone::Missing | Tone::Plain => (Code::Protocol, None),
        };
        PullError::Lost { code, detail: format!("{what} was refused: {}", self.text), after }
    }
}

/// How a command failed.
#[derive(Debug)]
pub enum Failed {
    /// The server said no; the connection lives.
    Refused(Refusal),
    /// The connection is gone.
    Lost(PullError),
}

impl Failed {
    /// Either way the session cannot go on.
    pub fn fatal(self, what: &str) -> PullError {
        match self {
            Self::Refused(refusal) => refusal.lost(what),
            Self::Lost(error) => error,
        }
    }
}

/// A logged-in connection.
pub struct Conn {
    session: Session<Wire>,
    timeouts: Timeouts,
    capabilities: BTreeSet<String>,
    /// An IDLE that was begun and not ended (its future may have been dropped).
    idling: Option<RequestId>,
    /// Commands that were begun and not answered, and answers that came before it was their turn to be read.
    ahead: Vec<RequestId>,
    ended: Vec<(RequestId, Result<(), Refusal>)>,
    /// A command is under way. Still set when the next begins: a future was dropped, the answers no longer match.
    busy: bool,
    lost: Option<PullError>,
    /// How long the last question for the capabilities took: a round trip, and a little work.
    pub round_trip: Duration,
    /// The server's numbers last only in folders that are opened for writing.
    pub numbers_by_writing: bool,
    /// What the server says unasked.
    pub ear: Ear,
}

/// Hears what the server says unasked, in whatever command it says it.
#[derive(Debug, Default)]
pub struct Ear {
    /// The number of mails in the selected folder changed since this was last cleared.
    pub news: bool,
    exists: u32,
    bye: Option<String>,
}

impl Ear {
    fn hear(&mut self, response: &Response<'_>) {
        match response {
            // Some servers repeat the number at every IDLE: only another number is news, or we would never rest.
            Response::MailboxData(MailboxDatum::Exists(count)) => {
                self.news |= *count != self.exists;
                self.exists = *count;
            }
            // A mail that goes while another comes leaves the number as it was.
            Response::Expunge(_) => self.exists = self.exists.saturating_sub(1),
            Response::Data { status: Status::Bye, outcome } => {
                self.bye = Some(outcome.information.as_deref().unwrap_or("without a word").to_owned());
            }
            _ => {}
        }
    }
}

impl Conn {
    /// Takes over after the login.
    pub fn new(session: Session<Wire>, timeouts: Timeouts) -> Self {
        Self {
            session,
            timeouts,
            capabilities: BTreeSet::new(),
            idling: None,
            ahead: Vec::new(),
            ended: Vec::new(),
            busy: false,
            lost: None,
            round_trip: Duration::ZERO,
            numbers_by_writing: false,
            ear: Ear::default(),
        }
    }

    /// Whether the server said that it can do this (upper case).
    pub fn can(&self, capability: &str) -> bool {
        self.capabilities.contains(capability)
    }

    /// Asks what the server can now that we are logged in.
    pub async fn ask_capabilities(&mut self) -> Result<(), Failed> {
        let mut found = BTreeSet::new();
        let asked = Instant::now();
        self.run("CAPABILITY", &mut |response| {
            if let Response::Capabilities(list) = response {
                found.extend(list.iter().map(|capability| match capability {
                    Capability::Imap4rev1 => "IMAP4REV1".to_owned(),
                    Capability::Auth(name) => format!("AUTH={}", name.to_ascii_uppercase()),
                    Capability::Atom(name) => name.to_ascii_uppercase(),
                }));
            }
        })
        .await?;
        self.capabilities = found;
        self.round_trip = asked.elapsed();
        Ok(())
    }

    /// Runs a command; `see` is shown every untagged response.
    pub async fn run(&mut self, command: &str, see: &mut (dyn FnMut(&Response<'_>) + Send)) -> Result<(), Failed> {
        self.end_idle().await?;
        let tag = self.send(command).await?;
        self.finish(&tag, see).await
    }

    /// Sends a command whose answer is read later, by [`Self::end`]: commands that do not depend on each other's answers share a round
    /// trip (RFC 3501 §5.5). Nothing else may be run before all of them are ended, in order.
    pub async fn begin(&mut self, command: &str) -> Result<RequestId, Failed> {
        self.end_idle().await?;
        let tag = self.send(command).await?;
        self.busy = false;
        self.ahead.push(tag.clone());
        Ok(tag)
    }

    /// Reads the answer of a command that was begun. What `see` is shown may belong to others that were begun: servers work on several
    /// at once.
    pub async fn end(&mut self, tag: &RequestId, see: &mut (dyn FnMut(&Response<'_>) + Send)) -> Result<(), Failed> {
        if let Some(at) = self.ended.iter().position(|(ended, _)| ended == tag) {
            return self.ended.swap_remove(at).1.map_err(Failed::Refused);
        }
        if let Some(lost) = &self.lost {
            return Err(Failed::Lost(lost.clone()));
        }
        if std::mem::replace(&mut self.busy, true) {
            return Err(self.lose(Code::ConnectionLost, "a command was abandoned".to_owned()));
        }
        self.finish(tag, see).await
    }

    /// Runs commands that do not depend on each other's answers in one round trip. The first refusal counts.
    pub async fn run_all(&mut self, commands: &[String], see: &mut (dyn FnMut(&Response<'_>) + Send)) -> Result<(), Failed> {
        self.end_idle().await?;
        let mut tags = Vec::with_capacity(commands.len());
        for command in commands {
            tags.push(self.begin(command).await?);
        }
        let mut ended = Ok(());
        for tag in &tags {
            match self.end(tag, see).await {
                Err(Failed::Lost(error)) => return Err(Failed::Lost(error)),
                refused if ended.is_ok() => ended = refused,
                _ => {}
            }
        }
        ended
    }

    /// Begins a command.
    async fn send(&mut self, command: &str) -> Result<RequestId, Failed> {
        if let Some(lost) = &self.lost {
            return Err(Failed::Lost(lost.clone()));
        }
        if std::mem::replace(&mut self.busy, true) {
            return Err(self.lose(Code::ConnectionLost, "a command was abandoned".to_owned()));
        }
        self.write(command).await
    }

    async fn write(&mut self, command: &str) -> Result<RequestId, Failed> {
        match timeout(self.timeouts.read, self.session.run_command(command)).await {
            Ok(Ok(tag)) => Ok(tag),
            Ok(Err(async_imap::error::Error::Io(error))) => Err(self.lose_io(&error)),
            Ok(Err(_)) => Err(self.lose(Code::Protocol, "a command could not be sent".to_owned())),
            Err(_) => Err(self.lose(Code::ConnectionLost, "the server does not read".to_owned())),
        }
    }

    /// Reads to the end of the command `tag`.
    async fn finish(&mut self, tag: &RequestId, see: &mut (dyn FnMut(&Response<'_>) + Send)) -> Result<(), Failed> {
        let deadline = Instant::now() + self.timeouts.command;
        loop {
            let response = match timeout_at(deadline, self.session.read_response()).await {
                Ok(Ok(Some(response))) => response,
                Ok(Ok(None)) => return Err(self.lose_closed()),
                Ok(Err(error)) => return Err(self.lose_io(&error)),
                Err(_) => return Err(self.lose(Code::ConnectionLost, "a command took too long".to_owned())),
            };
            match response.parsed() {
                Response::Done { tag: theirs, status, outcome } if theirs == tag || self.ahead.contains(theirs) => {
                    let ended = if *status == Status::Ok { Ok(()) } else { Err(refusal(outcome)) };
                    self.ahead.retain(|ahead| ahead != theirs);
                    if theirs == tag {
                        self.busy = false;
                        return ended.map_err(Failed::Refused);
                    }
                    self.ended.push((theirs.clone(), ended));
                }
                Response::Done { .. } => return Err(self.lose(Code::Protocol, "the server answers another command".to_owned())),
                untagged => {
                    self.ear.hear(untagged);
                    see(untagged);
                }
            }
        }
    }

    /// Waits for news of the selected folder (RFC 2177). `None`: the server ended it, or does not want to idle.
    pub async fn idle(&mut self, at_most: Duration) -> Result<Option<Woken>, Failed> {
        self.end_idle().await?;
        let tag = self.send("IDLE").await?;
        self.busy = false;
        self.idling = Some(tag);
        // Between the last FETCH and this IDLE a mail may have come: servers tell it before or right after the `+`, and both
        // are read below.
        let deadline = Instant::now() + at_most;
        self.session.get_mut().set_patience(at_most.max(self.timeouts.read));
        let heard = self.listen(deadline).await;
        self.session.get_mut().set_patience(self.timeouts.read);
        heard?;
        let ended = self.idling.is_none();
        self.end_idle().await?;
        Ok(if self.ear.news { Some(Woken::News) } else { (!ended).then_some(Woken::Timeout) })
    }

    async fn listen(&mut self, deadline: Instant) -> Result<(), Failed> {
        while !self.ear.news {
            let response = match timeout_at(deadline, self.session.read_response()).await {
                Err(_) => return Ok(()),
                Ok(Ok(Some(response))) => response,
                Ok(Ok(None)) => return Err(self.lose_closed()),
                Ok(Err(error)) => return Err(self.lose_io(&error)),
            };
            match response.parsed() {
                Response::Done { status, outcome, .. } => {
                    self.idling = None;
                    if *status != Status::Ok {
                        self.capabilities.remove("IDLE");
                        tracing::debug!(said = %refusal(outcome).text, "idle refused");
                    }
                    return Ok(());
                }
                untagged => self.ear.hear(untagged),
            }
        }
        Ok(())
    }

    async fn end_idle(&mut self) -> Result<(), Failed> {
        let Some(tag) = self.idling.take() else { return Ok(()) };
        if let Some(lost) = &self.lost {
            return Err(Failed::Lost(lost.clone()));
        }
        self.busy = true;
        match timeout(self.timeouts.read, self.session.run_command_untagged("DONE")).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(self.lose_closed()),
        }
        match self.finish(&tag, &mut |_| {}).await {
            Ok(()) | Err(Failed::Refused(_)) => Ok(()),
            Err(lost) => Err(lost),
        }
    }

    /// Says goodbye; the caller bounds the time.
    pub async fn log_out(mut self) {
        // Whatever the server answers, the connection ends here.
        let _ = self.run("LOGOUT", &mut |_| {}).await;
    }

    /// Why the connection is gone, if it is.
    pub fn lost(&self) -> Option<&PullError> {
        self.lost.as_ref()
    }

    fn lose(&mut self, code: Code, detail: String) -> Failed {
        let error = PullError::Lost { code, detail, after: None };
        self.lost = Some(error.clone());
        Failed::Lost(error)
    }

    fn lose_closed(&mut self) -> Failed {
        let Some(bye) = self.ear.bye.take() else {
            return self.lose(Code::ConnectionLost, "the server closed the connection".to_owned());
        };
        let (code, after) = match tone(&bye) {
            Tone::Throttled(after) => (Code::Throttled, after),
            _ => (Code::ConnectionLost, None),
        };
        let error = PullError::Lost { code, detail: format!("the server said goodbye: {}", said(&bye)), after };
        self.lost = Some(error.clone());
        Failed::Lost(error)
    }

    fn lose_io(&mut self, error: &io::Error) -> Failed {
        if self.ear.bye.is_some() {
            return self.lose_closed();
        }
        let (code, detail) = io_failure(error);
        self.lose(code, detail)
    }
}

/// What an I/O error means. The parser's own errors carry bytes of the server and are never repeated (I7).
pub fn io_failure(error: &io::Error) -> (Code, String) {
    match WireError::of(error) {
        Some(WireError::Silent(span)) => (Code::ConnectionLost, WireError::Silent(span).to_string()),
        Some(large @ (WireError::TooLarge(_) | WireError::TooDeep)) => (Code::Protocol, large.to_string()),
        None if error.kind() == io::ErrorKind::Other => (Code::Protocol, "the server sent something that is not IMAP".to_owned()),
        None => (Code::ConnectionLost, format!("the connection broke: {}", error.kind())),
    }
}

fn refusal(outcome: &Outcome<'_>) -> Refusal {
    let text = outcome.information.as_deref().unwrap_or("without a word");
    let try_create = matches!(outcome.code, Some(async_imap::imap_proto::ResponseCode::TryCreate)) || text.contains("[TRYCREATE]");
    Refusal { text: said(text), tone: tone(text), try_create, full: is_full(text) }
}
