//! IMAP: mailboxes as a source that we ask.
//!
//! What must stay true:
//! - Only the tagged `OK` ends a command well. `NO`, `BAD`, `BYE` and a closed connection are errors, never short answers; every
//!   number asked for is accounted for. That is why only raw commands are used, never the typed ones of async-imap.
//! - The cursor follows what is durable, never UIDNEXT: a batch covers a range of UIDs, and everything in it is there, or gone.
//! - Nothing is changed in the mailbox before the commit (`BODY.PEEK`), and with policy `peek` nothing ever (`EXAMINE`; a
//!   server whose numbers last only where a folder is opened for writing gets SELECT, and is asked for nothing that changes).
//! - Sizes are looked at before bodies; the wire refuses a literal over the limit before it is buffered (I6).
//! - Texts of errors carry no bytes of mails and no secrets (I7).
//!
//! A walk through it: `dial` connects, `mended` corrects what servers say wrongly, `login` and `sasl` log in, `conn` runs commands, `folder` decides where to go on, `walk` answers
//! `next`, `wait` idles, `settle` carries out the policy, `finish` finds out what became of a move, `probe` looks for a person.

mod again;
mod conn;
mod dial;
mod fetch;
mod finish;
mod folder;
mod inspect;
mod large;
mod login;
mod mended;
mod plan;
mod print;
mod probe;
mod sasl;
mod settle;
mod surroundings;
mod survey;
mod text;
mod wait;
mod walk;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use crate::model::codes::Code;
use crate::model::mailbox::{After, Mailbox, Sasl};
use crate::ports::BoxFuture;
use crate::ports::blobs::Blobs;
use crate::ports::clock::Clock;
use crate::ports::pull::{Pull, PullError, PullSource};
use crate::ports::token::TokenSource;

/// Google locks a mailbox for IMAP for up to a day when more than 2,500 MB are downloaded in a day; the owner's own programs need some.
const GMAIL_DAY_BYTES_MAX: u64 = 2_000_000_000;
const GMAIL_HOSTS: &[&str] = &["imap.gmail.com", "imap.googlemail.com"];

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP, TLS, greeting and login, each.
    pub connect: Duration,
    /// Silence of the server inside a command.
    pub read: Duration,
    /// One whole command.
    pub command: Duration,
    /// One IDLE; then it is issued anew and the folders are looked at (RFC 2177 asks for less than 29 minutes).
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            read: Duration::from_secs(60),
            command: Duration::from_secs(15 * 60),
            idle: Duration::from_secs(10 * 60),
        }
    }
}

/// How we prove who we are.
#[derive(Clone)]
pub enum Login {
    /// With a password.
    Password(SecretString),
    /// With a bearer token (OAuth 2).
    Token {
        /// Where tokens come from.
        source: Arc<dyn TokenSource>,
        /// The mechanism; `None`: what the server offers.
        sasl: Option<Sasl>,
    },
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::Password(_)) { "Password(…)" } else { "Token(…)" })
    }
}

/// One account of an IMAP server.
#[derive(Debug, Clone)]
pub struct ImapSettings {
    /// The account, as configured.
    pub mailbox: Mailbox,
    /// How it is proven who we are.
    pub login: Login,
    /// How long things may take.
    pub timeouts: Timeouts,
}

/// Makes sessions of one account.
pub struct ImapSource {
    settings: Arc<ImapSettings>,
    clock: Arc<dyn Clock>,
    spool: large::Spool,
}

impl ImapSource {
    /// A source over `settings`. Nothing is connected yet.
    pub fn new(settings: ImapSettings, clock: Arc<dyn Clock>) -> Self {
        Self { settings: Arc::new(settings), clock, spool: large::Spool::default() }
    }

    /// The same, with large mails going through `blobs` and not through memory.
    pub fn spooling(self, blobs: Arc<dyn Blobs>) -> Self {
        Self { spool: large::Spool { blobs: Some(blobs), ..self.spool }, ..self }
    }

    async fn log_in(&self) -> Result<conn::Conn, PullError> {
        if self.settings.mailbox.folders.is_empty() {
            return Err(PullError::Person { code: Code::NoFolder, detail: "no folder is named".to_owned() });
        }
        let target = if let After::Move(target) = &self.settings.mailbox.after { Some(target) } else { None };
        if let Some(bad) = self.settings.mailbox.folders.iter().chain(target).find(|name| text::folder_name(name).is_none()) {
            return Err(PullError::Person { code: Code::NoFolder, detail: format!("{bad:?} cannot be the name of a folder") });
        }
        match &self.settings.login {
            Login::Password(password) => {
                let dialed = dial::dial(&self.settings).await?;
                login::login(&self.settings, password, dialed).await
            }
            Login::Token { source, sasl } => sasl::log_in(&self.settings, &**source, *sasl).await,
        }
    }
}

impl PullSource for ImapSource {
    fn account(&self) -> String {
        self.settings.mailbox.account()
    }

    fn server(&self) -> String {
        self.settings.mailbox.host.to_ascii_lowercase()
    }

    fn day_bytes_max(&self) -> Option<u64> {
        let host = self.settings.mailbox.host.to_ascii_lowercase();
        let gmail = GMAIL_HOSTS.contains(&host.as_str());
        self.settings.mailbox.day_bytes_max.or(gmail.then_some(GMAIL_DAY_BYTES_MAX))
    }

    fn settles(&self) -> bool {
        self.settings.mailbox.after != After::Peek
    }

    fn open(&self) -> BoxFuture<'_, Result<Box<dyn Pull>, PullError>> {
        Box::pin(async move {
            let conn = self.log_in().await?;
            let mut walk = walk::Walk::new(self.settings.clone(), self.account(), self.clock.clone(), conn);
            walk.spool.clone_from(&self.spool);
            Ok(Box::new(walk) as Box<dyn Pull>)
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<Vec<String>, PullError>> {
        Box::pin(async move {
            let mut conn = self.log_in().await?;
            let lines = probe::probe(&self.settings, &mut conn).await?;
            conn.log_out().await;
            Ok(lines)
        })
    }
}
