//! A mailbox as a channel file describes it. Named once: the configuration makes it, the engine acts on it.

use std::time::Duration;

use bytes::Bytes;

/// How the connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// TLS from the first byte (port 993).
    Implicit,
    /// STARTTLS (port 143). Refused if the server does not offer it.
    StartTls,
    /// None. Loopback only, unless [`Mailbox::insecure`].
    None,
}

/// What is done to a mail after its commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    /// Nothing: the mailbox is opened read-only.
    Peek,
    /// The keyword `$Ingested`, if the folder takes keywords.
    Flag,
    /// The flag `\Seen`.
    Seen,
    /// Moved to this folder, which is made if it is missing.
    Move(String),
    /// Deleted when it has been in the mailbox for so long.
    Delete(Duration),
}

/// What happens when a folder is seen for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstRun {
    /// Only what arrives from now on.
    FromNow,
    /// Everything that is there, as historic.
    Backfill,
}

/// A SASL mechanism that carries a bearer token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sasl {
    /// Google's and Microsoft's own.
    XOAuth2,
    /// The standard one (RFC 7628).
    OAuthBearer,
}

/// One account of an IMAP server, and what is done with its mails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    /// Server.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: Tls,
    /// `Tls::None` also beyond loopback.
    pub insecure: bool,
    /// PEM of own CAs. If set, only these are trusted.
    pub ca_pem: Option<Bytes>,
    /// Who logs in.
    pub user: String,
    /// Folders, in UTF-8. IDLE listens on the first; the others are looked at every `poll_interval`.
    pub folders: Vec<String>,
    /// What is done to a mail after the commit.
    pub after: After,
    /// What happens when a folder is seen for the first time.
    pub first_run: FirstRun,
    /// Pause between two looks where IDLE does not help.
    pub poll_interval: Duration,
    /// Use IDLE where the server can.
    pub idle: bool,
    /// Largest mail that is fetched whole.
    pub mail_bytes_max: u64,
    /// Mails of one batch.
    pub batch_items_max: usize,
    /// Bytes of one batch; a single mail may be larger.
    pub batch_bytes_max: u64,
    /// Bytes that are fetched a day at most. `None`: as many as the provider is known to give, or no limit.
    pub day_bytes_max: Option<u64>,
}

impl Mailbox {
    /// The account: what cursors and the lease belong to. One login has one, whatever its port is.
    pub fn account(&self) -> String {
        format!("imap:{}:{}", self.host.to_ascii_lowercase(), self.user)
    }
}
