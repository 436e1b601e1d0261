//! Mail: the bytes of one mail in, one [`Item`] out. Pure: no files, no clock, no tasks; the time of receipt is a parameter.
//!
//! The way through the room: `scan` finds the MIME structure within limits, `fields`, `parameters` and `words` read header fields,
//! `parts` sorts the leaves into bodies and files (`tnef`, `lzfu` and `rtf` look into those of Outlook, `smime` into signed ones, `uuencode` into texts), `texts`,
//! `flowed`, `marks` and `reply` make the texts, `class`, `report` and `notice` say what it is, `identity`, `proof` and `auth` who wrote it, `thread`, `own`
//! and `ticket` where it belongs,
//! `special` what else it says, `canon` gives it its key. A mail that is too large to be held is read by `large`, from its `outline`.
//!
//! What must stay true: [`read`] takes any bytes, never panics outwards, does not recurse over the input, takes linear time
//! and, beside the raw, memory bounded by the limits. `mail-parser` sees single header fields only, never a whole mail: its 0.11
//! overflows the stack on nested messages, which no `catch_unwind` can catch.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::logic::digest::Digester;
use crate::model::address::Address;
use crate::model::codes::Code;
use crate::model::dns::Answers;
use crate::model::event::Authentication;
use crate::model::item::{ChannelFacts, Item, ItemBody};
use crate::model::raw::Raw;
use crate::model::time::Time;

pub mod auth;
pub mod canon;
pub mod charset;
pub mod class;
pub mod fields;
pub mod flowed;
pub mod identity;
pub mod language;
pub mod large;
pub mod lzfu;
pub mod marks;
pub mod message;
pub mod notice;
pub mod outline;
pub mod own;
pub mod parameters;
pub mod parts;
pub mod proof;
pub mod reply;
pub mod report;
pub mod rtf;
pub mod scan;
pub mod settings;
pub mod smime;
pub mod sniff;
pub mod special;
pub mod texts;
pub mod thread;
pub mod ticket;
pub mod tnef;
pub mod transfer;
pub mod trial;
pub mod uuencode;
pub mod words;

#[cfg(test)]
mod tests;

pub use scan::{Scan, prescan};
pub use transfer::decode_slice;

/// Stack that [`read`] needs at most, with room to spare. Nothing here recurses over the input, but the caller runs it on a
/// thread whose stack it knows (this many bytes or more), so that a defect shows as one crash attributed to one mail.
pub const PARSE_STACK_BYTES: usize = 2 * 1024 * 1024;

/// Namespace of mail keys unless the channel says otherwise: one for all mailboxes and providers, so that a mail found in two
/// of our mailboxes is one message (design §7).
pub const NAMESPACE: &str = "mail";

/// What every mail of a channel is read with.
#[derive(Debug, Clone)]
pub struct MailContext {
    /// Makes the keys.
    pub digester: Digester,
    /// The channel it came by.
    pub channel: Arc<ChannelFacts>,
    /// Namespace of item and conversation keys; [`NAMESPACE`] unless the channel file says otherwise.
    pub namespace: String,
    /// Empty: the same mail in several mailboxes is one message. Else it is one for each, and this tells them apart.
    pub account: String,
    /// Events name an address for answers that this gateway signed.
    pub signed_replies: bool,
    /// Addresses of the mailbox itself (`email:…`): recipients of ours, told apart from other participants.
    pub mailboxes: Vec<Address>,
    /// Addresses, or `@domain`, of our own people: what they verifiably forward is for the customer inside.
    pub agents: Vec<String>,
    /// Names of our own border (RFC 8601 §2.5): only their `Authentication-Results` are believed. Empty: none are.
    pub authserv_ids: Vec<String>,
    /// What the platform that hands the mail over found out about its sender; it stands where no border of ours says anything.
    pub vouched: Option<Authentication>,
    /// Signatures and policy of the sender are checked by ourselves, beside what the border says.
    pub verify_senders: bool,
    /// It comes in through a backfill.
    pub historic: bool,
    /// Limits.
    pub limits: MailLimits,
}

/// Limits of reading one mail. What is over a limit of structure is refused ([`MailError`]), what is over a limit of
/// attachments is told as unavailable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailLimits {
    /// Most MIME entities, multiparts included.
    pub parts_max: usize,
    /// Deepest nesting of multiparts.
    pub depth_max: usize,
    /// Most header fields of one entity.
    pub fields_max: usize,
    /// Largest header of one entity.
    pub header_bytes_max: usize,
    /// Largest sum of all headers.
    pub headers_bytes_max: usize,
    /// Most attachments that are stored; as many again are listed as unavailable.
    pub attachments_max: usize,
    /// Largest decoded attachment that is stored.
    pub attachment_bytes_max: u64,
    /// Longest text, html and reply text in the item.
    pub text_bytes_max: usize,
    /// Received fields beyond which a mail goes round.
    pub hops_max: usize,
}

impl Default for MailLimits {
    fn default() -> Self {
        Self {
            parts_max: 2_000,
            depth_max: 64,
            fields_max: 5_000,
            header_bytes_max: 1024 * 1024,
            headers_bytes_max: 4 * 1024 * 1024,
            attachments_max: 100,
            attachment_bytes_max: 25 * 1024 * 1024,
            text_bytes_max: 64 * 1024,
            hops_max: 50,
        }
    }
}

/// Why a mail cannot be read. Its raw is quarantined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct MailError {
    /// `mail_unparsable`.
    pub code: Code,
    /// One line for a person; no content (I7).
    pub detail: String,
}

impl MailError {
    pub(crate) fn unparsable(detail: impl Into<String>) -> Self {
        Self { code: Code::MailUnparsable, detail: detail.into() }
    }
}

/// Reads one whole mail: a message, or a quarantined item if it is over a limit of structure.
///
/// Run it on a thread with at least [`PARSE_STACK_BYTES`] of stack.
pub fn read(raw: &Raw, context: &MailContext) -> Item {
    read_with(raw, context, None)
}

/// The same with the answers to what [`asks`] names; without any, the sender is not checked by ourselves.
pub fn read_with(raw: &Raw, context: &MailContext, answers: Option<&Answers>) -> Item {
    // The last resort: nothing here is known to panic, but a defect in a library must cost one mail, not the channel.
    let item = catch_unwind(AssertUnwindSafe(|| match prescan(&raw.body, &context.limits) {
        Ok(scan) => message::build(raw, &scan, context, answers),
        Err(error) => quarantined(&context.channel, error.code, error.detail),
    }));
    item.unwrap_or_else(|_| quarantined(&context.channel, Code::MailUnparsable, "reading the mail failed: a defect"))
}

/// The names of the DNS that have to be looked up before a mail is read; none unless senders are to be checked.
pub fn asks(raw: &Raw, context: &MailContext) -> Vec<String> {
    if !context.verify_senders {
        return Vec::new();
    }
    asked_by(&raw.body, raw.received_at)
}

/// The names that the check of a mail's sender needs.
pub fn asked_by(mail: &[u8], received_at: Time) -> Vec<String> {
    catch_unwind(AssertUnwindSafe(|| proof::asks(mail, received_at))).unwrap_or_default()
}

/// A quarantined item. It has no key: a better reader may still make a message of its raw.
pub fn quarantined(channel: &Arc<ChannelFacts>, code: Code, detail: impl Into<String>) -> Item {
    Item { channel: Arc::clone(channel), key: None, body: ItemBody::Quarantined { code, detail: detail.into() } }
}
