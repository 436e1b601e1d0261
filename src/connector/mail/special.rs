//! What a mail says beyond its text: signed or encrypted content, calendar invitations, mails that were forwarded. Said in
//! `extra`, never acted on: everybody can write it.

use serde_json::{Map, Value, json};

use crate::connector::mail::charset::{Charsets, cut};
use crate::connector::mail::fields;
use crate::connector::mail::reply::history;
use crate::connector::mail::scan::{Entity, Scan};
use crate::connector::mail::{MailLimits, transfer, words};

/// Bytes of a part that are read.
const PART_BYTES_MAX: usize = 64 * 1024;
/// Longest value.
const VALUE_BYTES_MAX: usize = 998;

/// Reads it into `said`.
pub fn read(mail: &[u8], scan: &Scan, subject: &str, text: &str, charsets: &Charsets, said: &mut Map<String, Value>) {
    if let Some(protection) = protection(mail, scan, text) {
        said.insert("protection".to_owned(), json!(protection));
    }
    if let Some(part) =
        scan.leaves().map(|(_, leaf)| leaf).find(|leaf| matches!(leaf.media_type.as_str(), "text/calendar" | "application/ics"))
    {
        let calendar = calendar(mail, part);
        if !calendar.is_empty() {
            said.insert("calendar".to_owned(), Value::Object(calendar));
        }
    }
    let reported = scan.root().media_type == "multipart/report";
    let attached = scan.leaves().map(|(_, leaf)| leaf).find(|leaf| matches!(leaf.media_type.as_str(), "message/rfc822" | "message/global"));
    let forwarded = match attached.filter(|_| !reported) {
        Some(part) => forwarded(mail, part, charsets),
        None if is_forward(subject) => forwarded_in_text(text, charsets),
        None => Map::new(),
    };
    if !forwarded.is_empty() {
        said.insert("forwarded".to_owned(), Value::Object(forwarded));
    }
}

/// The prefixes of a forwarded mail's subject, in the languages of common programs.
fn is_forward(subject: &str) -> bool {
    const PREFIXES: [&str; 16] =
        ["fwd", "fw", "wg", "tr", "rv", "enc", "vs", "vb", "doorst", "pd", "i", "ilt", "转发", "轉寄", "転送", "пересл"];
    subject.split_once([':', '：']).is_some_and(|(prefix, _)| PREFIXES.contains(&prefix.trim().to_lowercase().as_str()))
}

/// The same of a mail whose text goes on behind a block of header lines.
fn forwarded_in_text(text: &str, charsets: &Charsets) -> Map<String, Value> {
    let mut said = Map::new();
    let Some((from, subject)) = history::quoted_header(text) else { return said };
    let from = words::addresses(from.replace("mailto:", "").replace('[', "<").replace(']', ">").as_bytes(), charsets);
    if let Some(address) = from.into_iter().find_map(|one| one.address) {
        said.insert("from".to_owned(), json!(address.as_str()));
        said.extend(subject.map(|subject| ("subject".to_owned(), Value::String(cut(subject, VALUE_BYTES_MAX).0))));
    }
    said
}

/// How the content is protected; what is encrypted is an attachment that we cannot read.
fn protection(mail: &[u8], scan: &Scan, text: &str) -> Option<&'static str> {
    for entity in &scan.entities {
        let content_type = || {
            let value = fields::first(&entity.fields, mail, "content-type").unwrap_or_default();
            String::from_utf8_lossy(value.get(..VALUE_BYTES_MAX).unwrap_or(value)).to_ascii_lowercase()
        };
        match entity.media_type.as_str() {
            "multipart/signed" => return Some(if content_type().contains("pgp") { "pgp_signed" } else { "smime_signed" }),
            "multipart/encrypted" => return Some("pgp_encrypted"),
            "application/pkcs7-mime" | "application/x-pkcs7-mime" => {
                let signed = content_type().contains("signed-data");
                return Some(if signed { "smime_signed" } else { "smime_encrypted" });
            }
            _ => {}
        }
    }
    let start = text.get(..text.floor_char_boundary(4096)).unwrap_or(text);
    if start.contains("-----BEGIN PGP MESSAGE-----") {
        Some("pgp_encrypted")
    } else if start.contains("-----BEGIN PGP SIGNED MESSAGE-----") {
        Some("pgp_signed")
    } else {
        None
    }
}

fn decoded(mail: &[u8], leaf: &Entity) -> Vec<u8> {
    let body = mail.get(leaf.body.clone()).unwrap_or_default();
    transfer::decode_slice(body.get(..PART_BYTES_MAX).unwrap_or(body), fields::encoding(&leaf.fields, mail))
}

/// Method and first event of an invitation (RFC 5546).
fn calendar(mail: &[u8], leaf: &Entity) -> Map<String, Value> {
    let bytes = decoded(mail, leaf);
    // RFC 5545 §3.1: a line that begins with white space goes on.
    let text = String::from_utf8_lossy(&bytes).replace("\r\n", "\n").replace("\n ", "").replace("\n\t", "");
    let mut said = Map::new();
    let mut in_event = false;
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let (name, parameters) = name.split_once(';').unwrap_or((name, ""));
        let name = name.to_ascii_uppercase();
        match (name.as_str(), value.trim()) {
            ("BEGIN", "VEVENT") => in_event = true,
            ("END", "VEVENT") => break,
            _ => {}
        }
        let answers = said.get("method").and_then(Value::as_str).is_some_and(|method| method.eq_ignore_ascii_case("REPLY"));
        let told = match name.as_str() {
            "METHOD" => "method",
            "UID" if in_event => "uid",
            "SUMMARY" if in_event => "summary",
            "DTSTART" if in_event => "start",
            "DTEND" if in_event => "end",
            "LOCATION" if in_event => "location",
            "STATUS" if in_event => "status",
            // What the one who answers says (RFC 5546 §3.2.3).
            "COMMENT" if in_event => "comment",
            "ATTENDEE" if in_event && answers => "answer",
            _ => continue,
        };
        let value = if told == "answer" { part_stat(parameters) } else { value };
        let value = value.trim().replace("\\n", " ").replace("\\,", ",").replace("\\;", ";");
        if !value.is_empty() && !said.contains_key(told) {
            said.insert(told.to_owned(), Value::String(cut(value, VALUE_BYTES_MAX).0));
        }
    }
    said
}

/// `PARTSTAT` of an attendee: `ACCEPTED`, `DECLINED`, `TENTATIVE` and the like.
fn part_stat(parameters: &str) -> &str {
    let named = parameters.split(';').filter_map(|parameter| parameter.split_once('='));
    named.filter(|(name, _)| name.eq_ignore_ascii_case("partstat")).map(|(_, value)| value.trim_matches('"')).next().unwrap_or_default()
}

/// Who an attached mail claims to be from.
fn forwarded(mail: &[u8], leaf: &Entity, charsets: &Charsets) -> Map<String, Value> {
    let text = decoded(mail, leaf);
    let mut said = Map::new();
    let Ok(header) = fields::split(&text, 0, &MailLimits::default()) else { return said };
    let first = |name: &'static str| fields::first(&header.fields, &text, name).map(|value| value.get(..VALUE_BYTES_MAX).unwrap_or(value));
    let from = first("from").and_then(|value| words::addresses(value, charsets).into_iter().find_map(|one| one.address));
    let subject = first("subject").map(|value| words::text(value, charsets)).filter(|text| !text.is_empty());
    let id = first("message-id").and_then(|value| words::message_ids(value, 1).into_iter().next());
    let from = from.map(|address| address.as_str().to_owned());
    for (name, value) in [("from", from), ("subject", subject), ("message_id", id)] {
        said.extend(value.map(|value| (name.to_owned(), Value::String(value))));
    }
    said
}
