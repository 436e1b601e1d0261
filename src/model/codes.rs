//! The closed list of codes: metric label, `error.type`, dead-letter reason and anchor in `docs/errors.md`.
//!
//! Codes that a connector's mapping gives for ignored items are its own and declared in its `connector.toml`.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// A code of the closed list.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $text)] $name,)+
        }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The written form.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

codes! {
    // Refused at the guard: never admitted.
    /// The signature, token or credentials are missing or wrong, or the signed time is outside the tolerance.
    Signature = "signature",
    /// The body is larger than the limit.
    BodyTooLarge = "body_too_large",
    /// The request has too many headers, parts or fields, or they are too large.
    RequestTooLarge = "request_too_large",
    /// The payload nests deeper than the limit. Quarantined if it is authentic, refused where nothing is verified.
    TooDeep = "too_deep",
    /// The body is not what its connector decodes (not JSON, not a form, …).
    Undecodable = "undecodable",
    /// The method is not one the hook takes.
    Method = "method",
    /// There is no such hook.
    UnknownHook = "unknown_hook",
    /// The request's source is not allowed (origin, network).
    SourceRefused = "source_refused",

    // Overload: the platform is asked to come again.
    /// The platform signs with a published key that is not fetched yet.
    KeyUnknown = "key_unknown",
    /// It is not known yet who we are at the platform: what our own side wrote could not be told from a customer's words.
    OwnUnknown = "own_unknown",
    /// The writer's queue is full.
    QueueFull = "queue_full",
    /// The disk is below `free_min` or full; admissions stop.
    DiskFull = "disk_full",
    /// The store cannot be written.
    StoreUnavailable = "store_unavailable",
    /// The channel's or the sender's rate limit is reached.
    RateLimited = "rate_limited",
    /// The daemon is stopping.
    Stopping = "stopping",

    // Quarantined: authentic, kept, unreadable.
    /// The mapping failed.
    MappingFailed = "mapping_failed",
    /// The mapping used up its budget.
    MappingBudget = "mapping_budget",
    /// The mapping gave more items than the limit.
    FanOut = "fan_out",
    /// The mapping gave something that is no draft.
    BadDraft = "bad_draft",
    /// The mapping said nothing about an authentic payload.
    Unmapped = "unmapped",
    /// No channel of the hook knows the account.
    UnknownAccount = "unknown_account",
    /// The mail could not be parsed within its limits.
    MailUnparsable = "mail_unparsable",
    /// Reading the mail ended the process before.
    MailCrashed = "mail_crashed",
    /// The server fails whenever this mail is asked for.
    MailUnfetchable = "mail_unfetchable",
    /// The mail is larger than the hard limit; its header is kept.
    MailTooLarge = "mail_too_large",

    // Ignored by the gateway itself.
    /// The honeypot field of a form was filled in.
    Honeypot = "honeypot",
    /// A receipt of something we sent.
    Receipt = "receipt",
    /// An edit or reaction whose message was deleted or erased.
    TargetGone = "target_gone",
    /// A reaction to a message that was never seen.
    TargetUnknown = "target_unknown",
    /// The payload holds nothing: a ping or an empty batch.
    Empty = "empty",
    /// A part that joined the message it is a part of.
    Gathered = "gathered",
    /// A ticket system tells of a ticket that is none of ours.
    TicketUnknown = "ticket_unknown",
    /// A ticket system tells of an entry that the gateway wrote itself.
    TicketEcho = "ticket_echo",
    /// A ticket system tells what is known already, or what something later has overtaken.
    TicketStale = "ticket_stale",

    // Channels.
    /// The channel's file cannot be used.
    ChannelConfig = "channel_config",
    /// A secret of the channel is not set.
    SecretUnset = "secret_unset",
    /// The server cannot be reached.
    Unreachable = "unreachable",
    /// TLS failed: certificate, name, protocol.
    Tls = "tls",
    /// The server refused the credentials.
    AuthFailed = "auth_failed",
    /// Nobody has given the consent (OAuth) that the channel needs: `omnigate channel login`.
    LoginNeeded = "login_needed",
    /// The consent (OAuth) of the channel has expired or was withdrawn: `omnigate channel login` gives a new one.
    ConsentExpired = "consent_expired",
    /// The consent (OAuth) of the channel ends soon; it still works.
    ConsentExpiring = "consent_expiring",
    /// The server asked us to slow down.
    Throttled = "throttled",
    /// The server broke the protocol or refused a command.
    Protocol = "protocol",
    /// The connection ended.
    ConnectionLost = "connection_lost",
    /// The folder does not exist.
    NoFolder = "no_folder",
    /// The channel was not seen working for longer than usual.
    Stale = "stale",
    /// A renumbered folder brings more new mails than can be explained; they are held for a day.
    Flood = "flood",
    /// The platform no longer promises to call the hook: its lease ran out, or it was ended there.
    SubscriptionLost = "subscription_lost",
    /// The platform calls another address than this channel's hook.
    SubscriptionTaken = "subscription_taken",
    /// Another node has taken over the account.
    LeaseLost = "lease_lost",

    // Deliveries.
    /// No answer in time.
    Timeout = "timeout",
    /// Connecting failed: DNS, refused, reset, TLS.
    Connect = "connect",
    /// Sent, and the connection ended without an answer: the outcome is unknown.
    Unknown = "unknown",
    /// The destination says that the event can never be taken (400, 413, 415, 422, 3xx).
    Rejected = "rejected",
    /// The destination refuses our credentials (401, 403).
    Denied = "denied",
    /// The destination says that it is gone for good (410).
    Gone = "gone",
    /// The destination answered with a failure (404, 408, 409, 425, 5xx).
    Failed = "failed",
    /// The destination asked us to wait (429, 503).
    Busy = "busy",
    /// The address of the destination is refused by the egress guard.
    EgressRefused = "egress_refused",
    /// The destination's own form of the event could not be made (its jq failed).
    TemplateFailed = "template_failed",
    /// All attempts of the schedule are used up.
    Exhausted = "exhausted",
    /// A person paused the destination.
    PausedByHand = "paused_by_hand",
    /// Something that a ticket system must have for us is missing (a queue, a custom field, a right).
    NotPrepared = "not_prepared",
    /// Writing to the local file or stream failed.
    WriteFailed = "write_failed",

    // Attachments.
    /// Files of this platform are not fetched yet.
    MediaNotFetched = "media_not_fetched",
    /// The platform no longer has the file, or never had it.
    MediaMissing = "media_missing",
    /// The platform does not hand the file over: the credential lacks a right, or the link has expired.
    MediaDenied = "media_denied",
    /// The platform gave something else than the file: a log-in page, a redirect, an answer no recipe expects.
    MediaRefused = "media_refused",
    /// The bytes are not those the platform announced.
    MediaMismatch = "media_mismatch",
    /// The file could not be had for as long as the platform keeps it.
    MediaGivenUp = "media_given_up",
    /// The file is larger than the limit.
    AttachmentTooLarge = "attachment_too_large",
    /// The message has more files than the limit.
    AttachmentCount = "attachment_count",

    // Inside.
    /// A rule of the gateway itself did not hold; a defect.
    Invariant = "invariant",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Code {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text).ok_or(())
    }
}
