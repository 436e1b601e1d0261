//! A mail inside of a webhook: read by the same reader as a mailbox's, so that a mail that comes by both is one message.
//!
//! The raw of such a message is the request, not the mail: attachments cannot be slices of it and become files of their own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::connector::draft::{Draft, DraftAuthentication};
use crate::connector::mail::{self, MailContext, MailLimits, decode_slice};
use crate::connector::normalize::{Source, Target, extra};
use crate::model::address::Address;
use crate::model::id::RawId;
use crate::model::item::{FilePlace, Item, ItemBody};
use crate::model::raw::{Raw, RawHead, Via};
use crate::model::time::Time;

/// The item of a draft of kind `mail`; its files go to `blobs`.
///
/// # Errors
/// The draft holds no mail.
pub fn item(source: &Source<'_>, target: &Target, draft: &Draft, blobs: &mut Vec<(String, Bytes)>) -> Result<Item, String> {
    let body = body(draft)?;
    let recipients = draft.to.iter().flatten().filter_map(|to| Address::parse(&to.address).ok());
    let context = MailContext {
        digester: source.digester.clone(),
        channel: target.facts.clone(),
        namespace: mail::NAMESPACE.to_owned(),
        // The same mail by whatever road is one message.
        account: String::new(),
        signed_replies: false,
        agents: Vec::new(),
        mailboxes: recipients.collect(),
        authserv_ids: Vec::new(),
        vouched: draft.authentication.as_ref().map(DraftAuthentication::said),
        verify_senders: source.verify_senders,
        historic: source.historic,
        limits: MailLimits {
            attachments_max: source.files_max,
            attachment_bytes_max: source.file_bytes_max as u64,
            ..MailLimits::default()
        },
    };
    let raw = Raw {
        id: RawId(0),
        source: target.facts.public.id.clone(),
        via: Via::Webhook,
        received_at: source.received_at,
        head: RawHead::default(),
        body,
    };
    let mut item = mail::read_with(&raw, &context, source.answers);
    if let (ItemBody::Message(message), Some(key)) = (&mut item.body, item.key) {
        // What the provider found out about it, beside what the mail says of itself.
        let told = extra(source, draft.extra.clone(), &mut message.truncated);
        message.extra.extend(told);
        for (index, file) in message.attachments.iter_mut().enumerate() {
            let Some(bytes) = file.place.as_ref().and_then(|place| content(&raw.body, place)) else { continue };
            let name = format!("files/{}/{index}", key.hex());
            blobs.push((name.clone(), bytes));
            file.place = Some(FilePlace::Blob { key: name });
        }
    }
    Ok(item)
}

/// The names of the DNS that the check of its sender needs.
pub fn asks(draft: &Draft, received_at: Time) -> Vec<String> {
    body(draft).map(|mail| mail::asked_by(&mail, received_at)).unwrap_or_default()
}

/// The mail.
fn body(draft: &Draft) -> Result<Bytes, String> {
    match (&draft.mime, &draft.mime_base64) {
        (Some(text), None) => Ok(Bytes::copy_from_slice(text.as_bytes())),
        (None, Some(text)) => {
            let letters: String = text.split_ascii_whitespace().collect();
            Ok(Bytes::from(STANDARD.decode(letters).map_err(|_| "`mime_base64` is not base64")?))
        }
        _ => Err("a mail needs `mime` or `mime_base64`".to_owned()),
    }
}

/// The decoded bytes of a file that is part of the mail.
fn content(mail: &Bytes, place: &FilePlace) -> Option<Bytes> {
    let decoded = |start: u64, end: u64, encoding| {
        let part = mail.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)?;
        Some(Bytes::from(decode_slice(part, encoding)))
    };
    match place {
        FilePlace::Slice { start, end, encoding } => decoded(*start, *end, *encoding),
        FilePlace::Within { start, end, encoding, skip, bytes } => {
            let outer = decoded(*start, *end, *encoding)?;
            let (from, to) = (usize::try_from(*skip).ok()?, usize::try_from(skip.checked_add(*bytes)?).ok()?);
            (from <= to && to <= outer.len()).then(|| outer.slice(from..to))
        }
        FilePlace::Blob { .. } => None,
    }
}
