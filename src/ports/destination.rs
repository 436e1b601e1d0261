//! Destination: takes one event, once at a time. It never sleeps, retries, logs or counts by itself.

use std::time::Duration;

use crate::model::codes::Code;
use crate::model::delivery::Outgoing;
use crate::model::id::AttachmentId;
use crate::ports::BoxFuture;

/// A delivery was taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receipt {
    /// HTTP status, if there is one.
    pub status: Option<u16>,
}

/// Why a delivery was not taken. Each variant is another decision (design §8).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliverError {
    /// Try again by schedule.
    #[error("{code}: {detail}")]
    Later {
        /// Why.
        code: Code,
        /// HTTP status.
        status: Option<u16>,
        /// One line, redacted.
        detail: String,
        /// The destination asked for at least this much patience: it is paused as a whole.
        after: Option<Duration>,
    },
    /// It may have been taken, and only looking for it later can tell. Says nothing about other deliveries.
    #[error("{code}: {detail}")]
    Unsure {
        /// Why.
        code: Code,
        /// HTTP status.
        status: Option<u16>,
        /// One line, redacted.
        detail: String,
        /// When to look.
        after: Duration,
        /// Something was sent in this attempt: it uses up a step of the schedule. Looking does not.
        sent: bool,
    },
    /// It can never work: dead after three tries.
    #[error("{code}: {detail}")]
    Never {
        /// Why.
        code: Code,
        /// HTTP status.
        status: Option<u16>,
        /// One line, redacted.
        detail: String,
    },
    /// Our credentials are refused: pause the destination and probe.
    #[error("{code}: {detail}")]
    Denied {
        /// Why.
        code: Code,
        /// HTTP status.
        status: Option<u16>,
        /// One line, redacted.
        detail: String,
    },
    /// The destination is gone: halt, a person decides.
    #[error("{code}: {detail}")]
    Halt {
        /// Why.
        code: Code,
        /// HTTP status.
        status: Option<u16>,
        /// One line, redacted.
        detail: String,
    },
}

impl DeliverError {
    /// The line without its code.
    pub fn detail(&self) -> &str {
        let (Self::Later { detail, .. }
        | Self::Unsure { detail, .. }
        | Self::Never { detail, .. }
        | Self::Denied { detail, .. }
        | Self::Halt { detail, .. }) = self;
        detail
    }
}

/// How the way to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpTls {
    /// STARTTLS, or nothing is sent (RFC 3207).
    StartTls,
    /// TLS from the first byte (RFC 8314).
    Implicit,
    /// Not at all.
    None,
}

/// One destination of the configuration.
pub trait Destination: Send + Sync {
    /// Hands over one event. Cancelling the future leaves the outcome unknown.
    fn deliver<'a>(&'a self, outgoing: &'a Outgoing) -> BoxFuture<'a, Result<Receipt, DeliverError>>;

    /// Looks whether it could deliver, without delivering: for `check --connect`. One line for a person.
    fn probe(&self) -> BoxFuture<'_, Result<String, DeliverError>>;
}

/// The files of messages, for destinations that send them inside the event.
pub trait FileReader: Send + Sync {
    /// The decoded file; `None` if it is gone for good (erased, past its retention) or larger than `bytes_max`.
    ///
    /// # Errors
    /// One line for a person; trying again may help.
    fn read(&self, attachment: AttachmentId, bytes_max: u64) -> BoxFuture<'_, Result<Option<bytes::Bytes>, String>>;
}
