//! Mails that no person wrote. They are told, never dropped: what to do with them is decided by routes and receivers.

use crate::connector::mail::charset::Charsets;
use crate::connector::mail::fields::{self, Field};
use crate::connector::mail::identity::Identity;
use crate::connector::mail::scan::{Entity, Scan};
use crate::connector::mail::words;
use crate::connector::mail::{MailLimits, transfer};
use crate::model::event::Automated;

/// What kind of automated mail it is, and what a report tells.
#[derive(Debug, Default)]
pub struct Class {
    /// The kind; `None`: a person.
    pub automated: Option<Automated>,
    /// The id of the mail that a report returns.
    pub returned: Option<String>,
    /// Fields of the first recipient of a delivery report: recipient, action, status.
    pub report: Vec<(&'static str, String)>,
}

/// Decides.
pub fn classify(mail: &[u8], scan: &Scan, subject: &str, identity: &Identity, charsets: &Charsets) -> Class {
    let header = &scan.root().fields;
    let has = |name: &str| fields::first(header, mail, name).is_some();
    let word = |name: &str| {
        let value = fields::first(header, mail, name).unwrap_or_default();
        words::text(value.get(..256).unwrap_or(value), charsets).to_ascii_lowercase()
    };
    if let Some(class) = report(mail, scan, charsets) {
        return class;
    }
    let from = identity.from.as_ref().map_or("", |from| from.address.value());
    let local = from.split('@').next().unwrap_or_default();
    let submitted = word("auto-submitted");
    let answered = submitted.starts_with("auto-replied");
    // RFC 3834 §5: everything but `no` is automatic.
    let automatic = !submitted.is_empty() && !submitted.starts_with("no");
    let precedence = word("precedence");
    let null_sender = identity.return_path.as_deref() == Some("");
    let subject = subject.to_lowercase();
    let automated = if matches!(local, "mailer-daemon" | "mail-daemon" | "maildelivery")
        || (local == "postmaster" && null_sender)
        || (null_sender && is_bounce_subject(&subject))
    {
        Some(Automated::Bounce)
    } else if is_out_of_office(&subject)
        && (automatic || null_sender || precedence == "auto_reply" || has("x-auto-response-suppress") || has("x-autoreply"))
        || has("x-ms-exchange-inbox-rules-loop")
    {
        Some(Automated::OutOfOffice)
    } else if answered
        || precedence.contains("auto_reply")
        || has("x-autoreply")
        || has("x-autorespond")
        || has("x-autoresponder")
        || is_auto_reply(&subject)
    {
        Some(Automated::AutoReply)
    } else if has("list-id") || has("list-unsubscribe") || matches!(precedence.as_str(), "list" | "bulk" | "junk") {
        Some(Automated::List)
    } else if automatic || has("x-loop") {
        Some(Automated::System)
    } else {
        None
    };
    Class { automated, ..Class::default() }
}

/// `multipart/report` (RFC 6522) and bare report parts.
fn report(mail: &[u8], scan: &Scan, charsets: &Charsets) -> Option<Class> {
    let has = |media_type: &str| scan.leaves().map(|(_, leaf)| leaf).find(|leaf| leaf.media_type == media_type);
    let reports = scan.root().media_type == "multipart/report";
    let returned = || {
        has("message/rfc822")
            .or_else(|| has("text/rfc822-headers"))
            .or_else(|| has("message/global"))
            .and_then(|leaf| returned_id(mail, leaf))
    };
    if let Some(leaf) = has("message/delivery-status").or_else(|| has("message/global-delivery-status")) {
        let report = delivery_report(mail, leaf, charsets);
        let action = report.iter().find(|(name, _)| *name == "action").map(|(_, value)| value.to_ascii_lowercase());
        let automated = match action.as_deref() {
            Some("delivered" | "delayed" | "relayed" | "expanded") => Automated::DeliveryStatus,
            _ => Automated::Bounce,
        };
        return Some(Class { automated: Some(automated), returned: returned(), report });
    }
    if reports && has("message/feedback-report").is_some() {
        return Some(Class { automated: Some(Automated::FeedbackReport), returned: returned(), ..Class::default() });
    }
    if let (true, Some(leaf)) = (reports, has("message/disposition-notification")) {
        let id = original_message_id(mail, leaf);
        return Some(Class { automated: Some(Automated::DeliveryStatus), returned: id.or_else(returned), ..Class::default() });
    }
    None
}

/// Header blocks of a report part: its first few kilobytes, decoded.
fn blocks(mail: &[u8], leaf: &Entity) -> Vec<u8> {
    let encoding = fields::encoding(&leaf.fields, mail);
    let body = mail.get(leaf.body.clone()).unwrap_or_default();
    transfer::decode_slice(body.get(..64 * 1024).unwrap_or(body), encoding)
}

/// The first recipient of a delivery report (RFC 3464 §2.3): the block behind the first empty line.
fn delivery_report(mail: &[u8], leaf: &Entity, charsets: &Charsets) -> Vec<(&'static str, String)> {
    let text = blocks(mail, leaf);
    let limits = MailLimits::default();
    let mut at = 0;
    for _ in 0..3 {
        let Ok(block) = fields::split(&text, at, &limits) else { break };
        let value =
            |name: &str| fields::first(&block.fields, &text, name).map(|value| words::text(value.get(..998).unwrap_or(value), charsets));
        if let Some(action) = value("action") {
            let mut report = vec![("action", action)];
            report.extend(value("status").map(|status| ("status", status)));
            report.extend(
                value("final-recipient")
                    .map(|who| ("recipient", who.split_once(';').map_or(who.clone(), |(_, who)| who.trim().to_owned()))),
            );
            return report;
        }
        if block.body <= at {
            break;
        }
        at = block.body;
    }
    Vec::new()
}

fn returned_id(mail: &[u8], leaf: &Entity) -> Option<String> {
    let text = blocks(mail, leaf);
    let header = fields::split(&text, 0, &MailLimits::default()).ok()?;
    fields::first(&header.fields, &text, "message-id").and_then(|value| words::message_ids(value, 1).into_iter().next())
}

/// The mail a read receipt speaks of (RFC 8098 §3.2.5).
fn original_message_id(mail: &[u8], leaf: &Entity) -> Option<String> {
    let text = blocks(mail, leaf);
    let header: Vec<Field> = fields::split(&text, 0, &MailLimits::default()).ok()?.fields;
    fields::first(&header, &text, "original-message-id").and_then(|value| words::message_ids(value, 1).into_iter().next())
}

fn is_bounce_subject(subject: &str) -> bool {
    const STARTS: [&str; 9] = [
        "undelivered mail returned",
        "undeliverable",
        "mail delivery failed",
        "delivery status notification",
        "returned mail",
        "failure notice",
        "delivery failure",
        "unzustellbar",
        "non remis",
    ];
    STARTS.iter().any(|start| subject.starts_with(start))
}

fn is_out_of_office(subject: &str) -> bool {
    const PARTS: [&str; 14] = [
        "out of office",
        "out of the office",
        "ooo:",
        "oof:",
        "vacation",
        "abwesen",
        "nicht im büro",
        "absence",
        "absent du bureau",
        "fuera de la oficina",
        "ausente",
        "fuori sede",
        "afwezig",
        "нет на работе",
    ];
    PARTS.iter().any(|part| subject.contains(part))
}

fn is_auto_reply(subject: &str) -> bool {
    const STARTS: [&str; 11] = [
        "automatic reply",
        "auto reply",
        "auto-reply",
        "autoreply",
        "auto response",
        "automatic response",
        "automatische antwort",
        "réponse automatique",
        "respuesta automática",
        "risposta automatica",
        "自動応答",
    ];
    STARTS.iter().any(|start| subject.starts_with(start))
}
