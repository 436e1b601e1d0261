//! Reports of machines: deliveries (RFC 3464), read receipts (RFC 8098), complaints (RFC 5965), and the bounces that follow no
//! standard, of which there are many.

use crate::connector::mail::charset::Charsets;
use crate::connector::mail::fields::{self, Field};
use crate::connector::mail::scan::{Entity, Scan};
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
    let returned = || {
        leaf(&["message/rfc822", "text/rfc822-headers", "message/global", "message/global-headers"])
            .and_then(|leaf| returned_id(mail, leaf))
    };
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
    (!value.is_empty()).then_some(value)
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
    let mut worst: Option<(bool, Vec<(&'static str, String)>)> = None;
    let (mut at, mut original) = (0, None);
    for _ in 0..RECIPIENTS_MAX + 2 {
        let Some((block, next)) = split(&text, at) else { break };
        original = original
            .or_else(|| first_id(&block, &text, "original-message-id"))
            .or_else(|| first_id(&block, &text, "x-original-message-id"));
        if let Some(action) = value(&block, &text, "action", charsets) {
            let failed = action.eq_ignore_ascii_case("failed");
            let recipient =
                value(&block, &text, "final-recipient", charsets).or_else(|| value(&block, &text, "original-recipient", charsets));
            recipients.extend(recipient.clone());
            if worst.as_ref().is_none_or(|(known, _)| failed && !known) {
                let mut told = vec![("action", action)];
                told.extend(value(&block, &text, "status", charsets).map(|status| ("status", status)));
                told.extend(recipient.map(|recipient| ("recipient", recipient)));
                told.extend(value(&block, &text, "diagnostic-code", charsets).map(|text| ("diagnostic", text)));
                worst = Some((failed, told));
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

fn returned_id(mail: &[u8], leaf: &Entity) -> Option<String> {
    let text = decoded(mail, leaf);
    let (header, _) = split(&text, 0)?;
    first_id(&header, &text, "message-id")
}

/// What the text of a bounce that is no report says: an address that is not among `known`, a status, the id of the mail.
pub fn from_text(text: &str, known: &dyn Fn(&str) -> bool) -> Report {
    let mut report = Report::default();
    let (mut recipient, mut status) = (None, None);
    for line in text.lines().take(500) {
        let line = line.get(..line.floor_char_boundary(500)).unwrap_or(line);
        let bare = line.trim_start_matches(['>', ' ', '\t', '|']);
        if let Some(value) = bare.get(..11).filter(|name| name.eq_ignore_ascii_case("message-id:")).and_then(|_| bare.get(11..)) {
            report.returned = words::message_ids(value.as_bytes(), 1).into_iter().next();
            // What follows is the returned mail itself.
            break;
        }
        for word in line.split(|c: char| c.is_whitespace() || matches!(c, '<' | '>' | '(' | ')' | '"' | ',' | ';' | '[' | ']' | '：')) {
            let word = word.trim_matches(|c: char| matches!(c, ':' | '.' | '\'' | '#' | '*' | '|'));
            if recipient.is_none() && word.contains('@') {
                let word = word.trim_start_matches("mailto:");
                recipient = words::mail_address(word).map(|address| address.value().to_owned()).filter(|address| !known(address));
            }
            if status.is_none() && is_status(word) {
                status = Some(word.to_owned());
            }
        }
    }
    report.fields.extend(status.map(|status| ("status", status)));
    report.fields.extend(recipient.map(|recipient| ("recipient", recipient)));
    report
}

/// An enhanced status code (RFC 3463 §2).
fn is_status(word: &str) -> bool {
    let mut parts = word.split('.');
    let number =
        |part: Option<&str>| part.is_some_and(|part| (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit()));
    matches!(parts.next(), Some("2" | "4" | "5")) && number(parts.next()) && number(parts.next()) && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounces_without_a_form_are_read_from_their_text() {
        let text = "Hi. This is the qmail-send program at example.net.\n\n<nobody@example.com>:\n192.0.2.1 does not like recipient.\nRemote host said: 550 5.1.1 No such user\n\n--- Below this line is a copy of the message.\n\nMessage-ID: <sent@acme.example>\nTo: nobody@example.com\n";
        let report = from_text(text, &|address| address == "support@acme.example");
        assert_eq!(report.returned.as_deref(), Some("sent@acme.example"));
        assert_eq!(report.fields, [("status", "5.1.1".to_owned()), ("recipient", "nobody@example.com".to_owned())]);
        assert_eq!(from_text("Version 5.1.1.2 of support@acme.example", &|address| address == "support@acme.example"), Report::default());
    }
}
