//! Reports of machines: deliveries (RFC 3464), read receipts (RFC 8098) and complaints (RFC 5965). The bounces that follow no
//! standard, of which there are many, are read by `notice`.

use crate::connector::mail::charset::Charsets;
use crate::connector::mail::fields::{self, Field};
use crate::connector::mail::scan::{Entity, Scan, prescan};
use crate::connector::mail::{MailLimits, transfer, words};
use crate::model::event::Automated;

/// What a report tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Which kind of automated mail this makes it.
    pub automated: Option<Automated>,
    /// The id of the mail that it speaks of.
    pub returned: Option<String>,
    /// Fields of it: `action`, `status`, `recipient`, `recipients`, `diagnostic`, `feedback_type`, `disposition`.
    pub fields: Vec<(&'static str, String)>,
}

/// What is told of one recipient.
type Told = Vec<(&'static str, String)>;

/// Encoded bytes of a report part that are read.
const REPORT_BYTES_MAX: usize = 64 * 1024;
/// Recipients that are told.
const RECIPIENTS_MAX: usize = 20;
/// Longest value.
const VALUE_BYTES_MAX: usize = 998;

/// `multipart/report` (RFC 6522) and bare report parts.
pub fn read(mail: &[u8], scan: &Scan, charsets: &Charsets) -> Option<Report> {
    let leaf = |names: &[&str]| scan.leaves().map(|(_, leaf)| leaf).find(|leaf| names.contains(&leaf.media_type.as_str()));
    // Some programs send the report part alone.
    let reports = scan.root().media_type == "multipart/report" || scan.root().media_type.ends_with("disposition-notification");
    let returned = || returned(mail, scan);
    if let Some(part) = leaf(&["message/delivery-status", "message/global-delivery-status"]) {
        let (fields, original) = delivery(mail, part, charsets);
        let action = fields.iter().find(|(name, _)| *name == "action").map(|(_, value)| value.to_ascii_lowercase());
        let automated = match action.as_deref() {
            Some("delivered" | "delayed" | "relayed" | "expanded") => Automated::DeliveryStatus,
            _ => Automated::Bounce,
        };
        return Some(Report { automated: Some(automated), returned: returned().or(original), fields });
    }
    if let Some(part) = leaf(&["message/feedback-report"]) {
        let names = [("feedback_type", "feedback-type"), ("recipient", "original-rcpt-to"), ("source", "source-ip")];
        return Some(Report {
            automated: Some(Automated::FeedbackReport),
            returned: returned(),
            fields: named(mail, part, &names, charsets),
        });
    }
    let part = leaf(&["message/disposition-notification", "message/global-disposition-notification"]).filter(|_| reports)?;
    let names = [("disposition", "disposition"), ("recipient", "final-recipient")];
    let text = decoded(mail, part);
    let original = split(&text, 0).and_then(|(header, _)| first_id(&header, &text, "original-message-id"));
    Some(Report {
        automated: Some(Automated::DeliveryStatus),
        returned: original.or_else(returned),
        fields: named(mail, part, &names, charsets),
    })
}

/// The id of the mail that one comes with.
pub fn returned(mail: &[u8], scan: &Scan) -> Option<String> {
    let (header, text) = returned_header(mail, scan)?;
    first_id(&header, &text, "message-id")
}

/// The only recipient of the mail that one comes with.
pub fn returned_to(mail: &[u8], scan: &Scan, charsets: &Charsets) -> Option<String> {
    let (header, text) = returned_header(mail, scan)?;
    let named = |name: &'static str| fields::all(&header, &text, name).flat_map(|value| words::addresses(value, charsets));
    let mut addresses = named("to").chain(named("cc")).filter_map(|one| one.address);
    addresses.next().filter(|_| addresses.next().is_none()).map(|address| address.value().to_owned())
}

/// A report that a gateway attached to a notice of its own instead of passing it on.
pub fn attached(mail: &[u8], scan: &Scan, charsets: &Charsets) -> Option<Report> {
    let leaf = returned_leaf(scan)?;
    let text = decoded(mail, leaf);
    let inner = prescan(&text, &MailLimits::default()).ok()?;
    (inner.root().media_type == "multipart/report").then(|| read(&text, &inner, charsets)).flatten()
}

fn returned_leaf(scan: &Scan) -> Option<&Entity> {
    const KINDS: [&str; 4] = ["message/rfc822", "text/rfc822-headers", "message/global", "message/global-headers"];
    scan.leaves().map(|(_, leaf)| leaf).find(|leaf| KINDS.contains(&leaf.media_type.as_str()))
}

fn returned_header(mail: &[u8], scan: &Scan) -> Option<(Vec<Field>, Vec<u8>)> {
    let text = decoded(mail, returned_leaf(scan)?);
    let (header, _) = split(&text, 0)?;
    Some((header, text))
}

fn decoded(mail: &[u8], leaf: &Entity) -> Vec<u8> {
    let body = mail.get(leaf.body.clone()).unwrap_or_default();
    transfer::decode_slice(body.get(..REPORT_BYTES_MAX).unwrap_or(body), fields::encoding(&leaf.fields, mail))
}

/// The block of fields that begins at `at`, and where the next one begins.
fn split(text: &[u8], at: usize) -> Option<(Vec<Field>, usize)> {
    let header = fields::split(text, at, &MailLimits::default()).ok()?;
    Some((header.fields, header.body))
}

fn value(block: &[Field], text: &[u8], name: &'static str, charsets: &Charsets) -> Option<String> {
    let value = fields::first(block, text, name)?;
    let value = words::text(value.get(..VALUE_BYTES_MAX).unwrap_or(value), charsets);
    // `rfc822; user@example.org`: the type says nothing to a person.
    let typed = matches!(name, "final-recipient" | "original-recipient" | "diagnostic-code");
    let value = if typed { value.split_once(';').map_or(value.clone(), |(_, bare)| bare.trim().to_owned()) } else { value };
    // `5.0.0 (over quota)`, and brackets around an address.
    let value = match name {
        "status" => value.split([' ', '(']).next().unwrap_or_default().to_owned(),
        "final-recipient" | "original-recipient" => value.trim_matches(['<', '>', '"', ' ']).to_owned(),
        _ => value,
    };
    (!value.is_empty()).then_some(value)
}

/// Whom a block is about: who was written to, by the sender's own words, before what servers on the way made of it.
fn recipient(block: &[Field], text: &[u8], charsets: &Charsets) -> Option<String> {
    let names = ["original-recipient", "final-recipient", "x-actual-recipient"];
    let said = || names.iter().filter_map(|name| value(block, text, name, charsets));
    // The type twice, or another network's in front.
    let bare = |said: &String| said.rsplit(';').next().unwrap_or(said).trim().to_owned();
    let address = said().map(|said| bare(&said)).find(|said| words::mail_address(said).is_some());
    address.or_else(|| said().next())
}

fn named(mail: &[u8], leaf: &Entity, names: &[(&'static str, &'static str)], charsets: &Charsets) -> Vec<(&'static str, String)> {
    let text = decoded(mail, leaf);
    let Some((block, _)) = split(&text, 0) else { return Vec::new() };
    let found = names.iter().filter_map(|(told, name)| Some((*told, value(&block, &text, name, charsets)?)));
    found.map(|(told, value)| (told, if told == "recipient" { value.trim_matches(['<', '>']).to_owned() } else { value })).collect()
}

/// A delivery report (RFC 3464 §2): a block about the mail, then one a recipient. The worst recipient is told whole: one failure
/// among many deliveries is what matters. The second value is the id of the mail, where the report names it.
fn delivery(mail: &[u8], leaf: &Entity, charsets: &Charsets) -> (Vec<(&'static str, String)>, Option<String>) {
    let text = decoded(mail, leaf);
    let mut recipients: Vec<String> = Vec::new();
    let mut worst: Option<((bool, bool), Told)> = None;
    let (mut at, mut original, mut general) = (0, None, None);
    for _ in 0..RECIPIENTS_MAX + 2 {
        let Some((block, next)) = split(&text, at) else { break };
        original = original
            .or_else(|| first_id(&block, &text, "original-message-id"))
            .or_else(|| first_id(&block, &text, "x-original-message-id"));
        // Some say once what became of all.
        general = general.or_else(|| value(&block, &text, "action", charsets));
        let recipient = recipient(&block, &text, charsets);
        if let Some(action) = value(&block, &text, "action", charsets).or_else(|| general.clone().filter(|_| recipient.is_some())) {
            let failed = action.to_ascii_lowercase().starts_with("fail");
            recipients.extend(recipient.clone().filter(|new| !recipients.contains(new)));
            // A block about nobody counts as long as there is no other.
            let surer = (recipient.is_some(), failed);
            if worst.as_ref().is_none_or(|(known, _)| surer > *known) {
                let mut told = vec![("action", action)];
                told.extend(value(&block, &text, "status", charsets).map(|status| ("status", status)));
                told.extend(recipient.map(|recipient| ("recipient", recipient)));
                told.extend(value(&block, &text, "diagnostic-code", charsets).map(|text| ("diagnostic", text)));
                worst = Some((surer, told));
            }
        }
        if next <= at || next >= text.len() {
            break;
        }
        at = next;
    }
    let mut told = worst.map(|(_, told)| told).unwrap_or_default();
    if recipients.len() > 1 {
        told.push(("recipients", recipients.join(", ")));
    }
    (told, original)
}

fn first_id(block: &[Field], text: &[u8], name: &str) -> Option<String> {
    fields::all(block, text, name).next().and_then(|value| words::message_ids(value, 1).into_iter().next())
}
