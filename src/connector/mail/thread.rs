//! Which conversation a mail belongs to.
//!
//! Evidence, best first: what this gateway made and signed ([`own`]), In-Reply-To, then References from right to left (RFC 5322
//! §3.6.4), then what Exchange leaves when it rewrites ids, then the number of a ticket in the subject. A subject by itself never is.
//!
//! Knowing a Message-ID proves little: forged headers let a stranger speak in somebody's conversation. So every id is tried two
//! ways. First together with the *circle* of the sender: a mail registers its id once for each circle of the people it was from
//! and to, so a quoted recipient, or a colleague of one, is placed without a further question. Then bare, which matches only if
//! the sender already takes part. Everybody else opens a conversation of his own. A circle is the domain of an address, or the
//! whole address at providers where anybody can have one.

use std::collections::HashSet;

use base64::Engine as _;

use crate::connector::mail::MailContext;
use crate::connector::mail::fields::{self, Field};
use crate::connector::mail::identity::Identity;
use crate::connector::mail::own::{self, Own};
use crate::connector::mail::{ticket, words};
use crate::model::address::Address;
use crate::model::item::{ThreadCandidate, Threading};
use crate::model::key::KeyDigest;

/// The field by which what our side sent is known when it comes back: its value is the part of a signed reply address behind `+`.
pub const LOOP_FIELD: &str = "x-omnigate-loop";
/// References that are looked at: the first, which began the thread, and the last 99.
const REFERENCES_MAX: usize = 100;
/// Ids read from a field before it is cut to those.
const IDS_READ_MAX: usize = 10_000;
/// Circles under which one mail registers.
const CIRCLES_MAX: usize = 8;
/// Bytes of a Thread-Index that name the conversation; each answer adds five.
const THREAD_INDEX_BYTES: usize = 22;

/// Providers at which everybody can have an address: there the domain says nothing about who belongs together.
const PUBLIC_PROVIDERS: [&str; 28] = [
    "gmail.com",
    "googlemail.com",
    "outlook.com",
    "hotmail.com",
    "live.com",
    "msn.com",
    "yahoo.com",
    "yahoo.co.jp",
    "ymail.com",
    "aol.com",
    "icloud.com",
    "me.com",
    "mac.com",
    "gmx.de",
    "gmx.net",
    "gmx.com",
    "web.de",
    "t-online.de",
    "freenet.de",
    "mail.ru",
    "yandex.ru",
    "qq.com",
    "163.com",
    "126.com",
    "proton.me",
    "protonmail.com",
    "orange.fr",
    "free.fr",
];

/// What a mail says about its place.
#[derive(Debug, Default)]
pub struct Evidence {
    /// Its own id, normalized.
    pub message_id: Option<String>,
    /// Conversations named by what this gateway made, with the rule and the text that named each.
    pub own: Vec<(&'static str, KeyDigest, String)>,
    /// The ids it answers, best first, with the rule that gave each.
    pub answers: Vec<(&'static str, String)>,
    /// Ids before Exchange rewrote them.
    pub rewritten: Vec<String>,
    /// The conversation part of its Thread-Index.
    pub thread_index: Option<String>,
    /// Numbers of tickets in its subject.
    pub tickets: Vec<String>,
    /// The id of the mail that a report returns.
    pub returned: Option<String>,
    /// Its own id is one that this gateway made.
    pub sent_by_us: bool,
    /// Where answers can be sent so that they find this conversation.
    pub reply_address: Option<String>,
    /// What is odd about it.
    pub flags: Vec<&'static str>,
}

impl Evidence {
    /// Takes what looks like ours; false: it does not, and is evidence of the common kind.
    fn take_own(&mut self, rule: &'static str, text: &str, context: &MailContext) -> bool {
        match own::read(text, &context.digester) {
            Some(Own::Key(key)) => self.own.push((rule, key, text.to_owned())),
            Some(Own::Forged) if !self.flags.contains(&"forged_own_id") => self.flags.push("forged_own_id"),
            Some(Own::Forged) => {}
            None => return false,
        }
        true
    }
}

/// Reads what tells the place of a mail.
pub fn evidence(header: &[Field], mail: &[u8], subject: &str, identity: &Identity, context: &MailContext) -> Evidence {
    let ids =
        |name: &'static str, at_most| fields::first(header, mail, name).map(|value| words::message_ids(value, at_most)).unwrap_or_default();
    let mut found = Evidence { message_id: ids("message-id", 1).into_iter().next(), ..Evidence::default() };
    for one in &identity.to {
        found.take_own("reply_address", one.address.value(), context);
    }
    let mut references = ids("references", IDS_READ_MAX);
    if references.len() > REFERENCES_MAX {
        let last = references.split_off(references.len() - (REFERENCES_MAX - 1));
        references.truncate(1);
        references.extend(last);
    }
    let answered = ids("in-reply-to", REFERENCES_MAX).into_iter().map(|id| ("in_reply_to", id));
    let mut seen = HashSet::new();
    for (rule, id) in answered.chain(references.into_iter().rev().map(|id| ("references", id))) {
        let new = found.answers.len() < REFERENCES_MAX && found.message_id.as_ref() != Some(&id) && seen.insert(id.clone());
        if new && !found.take_own("own_message_id", &id, context) {
            found.answers.push((rule, id));
        }
    }
    found.rewritten = ids("x-microsoft-original-message-id", 1);
    found.thread_index = fields::first(header, mail, "thread-index").and_then(thread_index);
    let mut tickets = Vec::new();
    ticket::read(subject, &mut tickets, &mut |token| {
        found.take_own("subject_tag", token, context);
    });
    found.tickets = tickets;
    // What a receiver of our events put into an automatic answer, and finds its way back.
    for value in fields::all(header, mail, LOOP_FIELD).take(10) {
        match own::read(&String::from_utf8_lossy(value.trim_ascii()), &context.digester) {
            Some(Own::Key(_)) => found.sent_by_us = true,
            Some(Own::Forged) if !found.flags.contains(&"forged_own_id") => found.flags.push("forged_own_id"),
            _ => {}
        }
    }
    if let Some(id) = &found.message_id {
        match own::read(id, &context.digester) {
            Some(Own::Key(_)) => found.sent_by_us = true,
            Some(Own::Forged) => found.flags.push("forged_own_id"),
            None => {}
        }
        let mailbox = context.mailboxes.first().filter(|_| context.signed_replies);
        found.reply_address = mailbox.and_then(|mailbox| own::reply_address(mailbox, key(context, &["mid", id]), &context.digester));
    }
    found
}

fn key(context: &MailContext, parts: &[&str]) -> KeyDigest {
    context.digester.conversation(&context.namespace, &context.account, parts)
}

fn thread_index(value: &[u8]) -> Option<String> {
    let text: Vec<u8> = value.iter().take(4096).copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let engine = base64::engine::GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        base64::engine::GeneralPurposeConfig::new()
            .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true),
    );
    let bytes = engine.decode(text).ok()?;
    let conversation = bytes.get(..THREAD_INDEX_BYTES)?;
    Some(base64::engine::general_purpose::STANDARD_NO_PAD.encode(conversation))
}

/// Where a mail belongs.
pub fn place(evidence: &Evidence, identity: &Identity, context: &MailContext) -> Threading {
    let key = |parts: &[&str]| key(context, parts);
    let sender = identity.from.as_ref().map(|from| circle(&from.address));
    let mut candidates = Vec::new();
    let mut candidate = |key: KeyDigest, rule: &str, evidence: &str, participants_only: bool| {
        candidates.push(ThreadCandidate { key, rule: rule.to_owned(), evidence: Some(evidence.to_owned()), participants_only });
    };
    // What we made for somebody was given to that person; an id only shows that a mail of ours was seen.
    for (rule, found, text) in &evidence.own {
        candidate(*found, rule, text, *rule == "own_message_id");
    }
    // A report is written by a machine that takes part in nothing; it joins the conversation of what it returns.
    if let Some(id) = &evidence.returned {
        match own::read(id, &context.digester) {
            Some(Own::Key(found)) => candidate(found, "returned_message", id, false),
            Some(Own::Forged) => {}
            None => candidate(key(&["mid", id]), "returned_message", id, false),
        }
    }
    for (rule, id) in &evidence.answers {
        if let Some(circle) = &sender {
            candidate(key(&["mid", id, circle]), rule, id, false);
        }
        candidate(key(&["mid", id]), rule, id, true);
    }
    for id in &evidence.rewritten {
        candidate(key(&["mid", id]), "original_message_id", id, true);
    }
    if let Some(index) = &evidence.thread_index {
        candidate(key(&["thread-index", index]), "thread_index", index, true);
    }
    for ticket in &evidence.tickets {
        candidate(key(&["ticket", ticket]), "ticket_number", ticket, true);
    }
    // The same id over another content: another mail, told apart by the rule.
    if let Some(id) = &evidence.message_id {
        candidate(key(&["mid", id]), "same_message_id", id, true);
    }
    let mut registers = Vec::new();
    for id in evidence.message_id.iter().chain(&evidence.rewritten) {
        registers.push(key(&["mid", id]));
        registers.extend(circles(identity, context).iter().map(|circle| key(&["mid", id, circle])));
    }
    registers.extend(evidence.thread_index.as_ref().map(|index| key(&["thread-index", index])));
    registers.extend(evidence.tickets.iter().map(|ticket| key(&["ticket", ticket])));
    Threading { candidates, registers, ends_by_silence: false, opens_rule: "opens".to_owned() }
}

/// The circles of everybody a mail is from and to, the mailbox itself left out: it takes part in everything.
fn circles(identity: &Identity, context: &MailContext) -> Vec<String> {
    let mut circles = Vec::new();
    let from = identity.from.iter().map(|from| &from.address);
    let replies = identity.reply_to.iter().filter_map(|one| one.address.as_ref());
    let recipients = identity.to.iter().filter(|one| one.role != "mailbox").map(|one| &one.address);
    for address in from.chain(replies).chain(recipients).filter(|address| !identity.is_ours(address, context)) {
        let circle = circle(address);
        if !circles.contains(&circle) && circles.len() < CIRCLES_MAX {
            circles.push(circle);
        }
    }
    circles
}

fn circle(address: &Address) -> String {
    let value = address.value();
    match value.rsplit_once('@') {
        Some((_, domain)) if !PUBLIC_PROVIDERS.contains(&domain) => domain.to_owned(),
        _ => value.to_owned(),
    }
}
