//! Puts a message together from what the other files of this room found.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::connector::html;
use crate::connector::mail::charset::{Charsets, cut};
use crate::connector::mail::class::{self, Class};
use crate::connector::mail::identity::{self, Identity};
use crate::connector::mail::parts::{self, Content};
use crate::connector::mail::proof::{self, Proof};
use crate::connector::mail::scan::Scan;
use crate::connector::mail::thread::{self, Evidence};
use crate::connector::mail::{MailContext, auth, canon, fields, language, reply, special, words};
use crate::connector::text::hex;
use crate::model::address::Address;
use crate::model::dns::Answers;
use crate::model::event::{Author, Automated, Direction};
use crate::model::item::{ContactHint, Item, ItemBody, MessageItem, ReplyHint};
use crate::model::key::KeyDigest;
use crate::model::raw::Raw;

/// Longest subject and name in the item.
const LINE_BYTES_MAX: usize = 2 * 1024;
/// Longest value in `extra`.
const EXTRA_BYTES_MAX: usize = 998;

/// The message of a scanned mail.
pub fn build(raw: &Raw, scan: &Scan, context: &MailContext, answers: Option<&Answers>) -> Item {
    let mail = raw.body.as_ref();
    let header = &scan.root().fields;
    let charsets = Charsets::of(mail, scan);
    let identity = identity::read(header, mail, &charsets, context);
    let subject = fields::first(header, mail, "subject").map(|value| words::text(value, &charsets)).filter(|text| !text.is_empty());
    let envelope = identity.return_path.as_deref().and_then(|path| path.rsplit_once('@')).map(|(_, domain)| domain);
    let proof = prove(raw, scan, context, envelope, answers);
    let border = auth::read(header, mail, &identity, &charsets, context).or_else(|| auth::vouched(&identity, context));
    let (authentication, contradicts) = auth::combine(border, proof.as_ref(), &identity);
    let mut content = parts::read(raw, scan, &charsets, &context.limits);
    let mut evidence = thread::evidence(header, mail, subject.as_deref().unwrap_or_default(), &identity, context);
    let mut class = class::classify(mail, scan, subject.as_deref().unwrap_or_default(), &identity, &charsets);
    class.read_text(&content.text, &|address| identity.names(address));
    evidence.returned.clone_from(&class.report.returned);
    let hops = fields::all(header, mail, "received").count();
    if evidence.sent_by_us {
        // What we sent and find again is no answer of anybody: the loop ends here.
        class.automated = Some(Automated::System);
    } else if hops > context.limits.hops_max {
        evidence.flags.push("too_many_hops");
        class.automated.get_or_insert(Automated::System);
    }
    let key = key(mail, scan, &evidence, context);
    let mut special = Map::new();
    special::read(mail, scan, subject.as_deref().unwrap_or_default(), &content.text, &charsets, &mut special);
    if context.verify_senders {
        let told = proof.map_or_else(|| json!({"checked": false}), |proof| sender_check(&proof, &contradicts));
        special.insert("sender_check".to_owned(), told);
    }
    if content.unwrapped {
        special.insert("protection".to_owned(), json!("smime_signed"));
        special.insert("signature_checked".to_owned(), json!(false));
    }
    let texts = Texts::of(&mut content, raw, scan, &charsets, context);
    let reported = matches!(class.automated, Some(Automated::Bounce | Automated::DeliveryStatus | Automated::FeedbackReport));
    let verified = authentication.as_ref().is_some_and(|found| found.verified);
    let agent = verified && identity.from.as_ref().is_some_and(|from| is_agent(&from.address, context));
    let claimed = special.get("forwarded").filter(|_| agent).and_then(|found| Address::parse(found.get("from")?.as_str()?).ok());
    let message_hint = |id: &str| context.digester.item(&context.namespace, &context.account, "message", &["mid", id], "");
    let message = MessageItem {
        threading: thread::place(&evidence, &identity, context),
        hints: evidence.message_id.iter().chain(&evidence.rewritten).map(|id| message_hint(id)).collect(),
        direction: Direction::Inbound,
        author: if reported {
            Author::System
        } else if agent {
            Author::Agent
        } else {
            Author::Customer
        },
        kind: "email".to_owned(),
        contact: match claimed {
            _ if reported => None,
            Some(customer) => Some(hint(customer, None, false, context)),
            None => contact(&identity, verified, context),
        },
        to: identity.to.clone(),
        subject: subject.map(|subject| cut(subject, LINE_BYTES_MAX).0),
        language: texts.reply_text.as_deref().or(texts.text.as_deref()).and_then(language::of),
        text: texts.text,
        html: texts.html,
        reply_text: texts.reply_text,
        truncated: texts.truncated,
        in_reply_to: evidence.answers.first().map(|(_, id)| ReplyHint { external_id: id.clone(), target: Some(message_hint(id)) }),
        external_id: evidence.message_id.clone(),
        external_url: None,
        automated: class.automated,
        authentication,
        feedback: None,
        call: None,
        edited: false,
        historic: context.historic,
        sent_at: fields::first(header, mail, "date").and_then(|value| words::date(value, raw.received_at)),
        received_at: raw.received_at,
        extra: extra(mail, scan, Found { identity: &identity, evidence: &evidence, class: &class, content: &content, special }, &charsets),
        attachments: content.attachments,
        from: identity.from,
        aliases: Vec::new(),
        hold: None,
        gather: None,
        ticket: None,
    };
    Item { channel: Arc::clone(&context.channel), key: Some(key), body: ItemBody::Message(Box::new(message)) }
}

/// Our own check of the sender, where it is wanted and the DNS was asked.
fn prove(raw: &Raw, scan: &Scan, context: &MailContext, envelope: Option<&str>, answers: Option<&Answers>) -> Option<Proof> {
    let answers = answers.filter(|_| context.verify_senders)?;
    match &scan.rest {
        None => Some(proof::check(&raw.body, raw.received_at, envelope, answers)),
        Some(rest) => Some(proof::check_passed(&raw.body, rest.bodies.as_ref()?, raw.received_at, envelope, answers)),
    }
}

/// What our own check of the sender found, for `extra`.
fn sender_check(proof: &Proof, contradicts: &[&str]) -> Value {
    let signature = |one: &proof::Signed| {
        let mut told = json!({"domain": cut(one.domain.clone(), EXTRA_BYTES_MAX).0, "result": one.result});
        if let (Some(why), Some(told)) = (one.why, told.as_object_mut()) {
            told.insert("why".to_owned(), json!(why));
        }
        told
    };
    let mut told = Map::new();
    told.insert("dkim".to_owned(), json!(proof.dkim));
    told.insert("dmarc".to_owned(), json!(proof.dmarc));
    if !proof.signatures.is_empty() {
        told.insert("signatures".to_owned(), proof.signatures.iter().map(signature).collect());
    }
    if proof.left_out > 0 {
        told.insert("signatures_left_out".to_owned(), json!(proof.left_out));
    }
    if !contradicts.is_empty() {
        told.insert("contradicts".to_owned(), json!(contradicts));
    }
    Value::Object(told)
}

/// The Message-ID that is part of the key.
pub fn message_id(mail: &[u8], scan: &Scan, context: &MailContext) -> Option<String> {
    let (header, charsets) = (&scan.root().fields, Charsets::of(mail, scan));
    let identity = identity::read(header, mail, &charsets, context);
    thread::evidence(header, mail, "", &identity, context).message_id
}

/// The same for every copy of a mail, whatever road it came by.
fn key(mail: &[u8], scan: &Scan, evidence: &Evidence, context: &MailContext) -> KeyDigest {
    let hash = hex(&canon::hash(mail, scan, evidence.message_id.as_deref()));
    context.digester.item(&context.namespace, &context.account, "message", &["content", &hash], "")
}

fn contact(identity: &Identity, verified: bool, context: &MailContext) -> Option<ContactHint> {
    let from = identity.from.as_ref()?;
    Some(hint(from.address.clone(), from.name.clone(), verified, context))
}

fn hint(address: Address, name: Option<String>, verified: bool, context: &MailContext) -> ContactHint {
    let name = name.map(|name| cut(name, LINE_BYTES_MAX).0);
    ContactHint { digest: context.digester.address(&address), address, name, verified, also: Vec::new() }
}

/// One of our own people, by the settings of the channel.
fn is_agent(address: &Address, context: &MailContext) -> bool {
    let value = address.value();
    let known = |agent: &String| if agent.starts_with('@') { value.ends_with(agent.as_str()) } else { value == agent };
    context.agents.iter().any(known)
}

/// The texts of the item, cut to their limit.
#[derive(Default)]
struct Texts {
    text: Option<String>,
    html: Option<String>,
    reply_text: Option<String>,
    truncated: Vec<String>,
}

impl Texts {
    fn of(content: &mut Content, raw: &Raw, scan: &Scan, charsets: &Charsets, context: &MailContext) -> Self {
        let max = context.limits.text_bytes_max;
        let mut texts = Self::default();
        let text = std::mem::take(&mut content.text);
        if !text.trim().is_empty() {
            let (reply, _) = cut(reply::cut(&text, content.from_html.as_ref()).trim().to_owned(), max);
            texts.reply_text = Some(reply);
            let (kept, was_cut) = cut(trimmed(&text).to_owned(), max);
            texts.text = Some(kept);
            if was_cut {
                texts.truncated.push("text".to_owned());
                let kind = if content.from_html.is_some() { "text/html" } else { "text/plain" };
                parts::attach_whole(content, raw, scan, charsets, &context.limits, kind);
            }
        }
        if let Some(html) = content.html.take() {
            let (safe, was_cut) = html::sanitise(&html, max);
            texts.html = Some(safe).filter(|safe| !safe.trim().is_empty());
            if was_cut {
                texts.truncated.push("html".to_owned());
                parts::attach_whole(content, raw, scan, charsets, &context.limits, "text/html");
            }
        }
        texts
    }
}

/// Without empty lines in front and white space behind.
fn trimmed(text: &str) -> &str {
    let text = text.trim_end();
    let blank = text.len() - text.trim_start().len();
    let line = text.get(..blank).and_then(|blank| blank.rfind('\n')).map_or(0, |at| at + 1);
    text.get(line..).unwrap_or_default()
}

/// What was found in a mail.
struct Found<'a> {
    identity: &'a Identity,
    evidence: &'a Evidence,
    class: &'a Class,
    content: &'a Content,
    special: Map<String, Value>,
}

/// What a mail says beyond the contract, under `mail`.
fn extra(mail: &[u8], scan: &Scan, found: Found<'_>, charsets: &Charsets) -> Map<String, Value> {
    let Found { identity, evidence, class, content, special } = found;
    let header = &scan.root().fields;
    let mut said = special;
    let mut say = |name: &str, value: String| {
        if !value.is_empty() {
            said.insert(name.to_owned(), Value::String(cut(value, EXTRA_BYTES_MAX).0));
        }
    };
    let address = |one: &words::Named| one.address.as_ref().map(|address| address.as_str().to_owned());
    say("reply_to", identity.reply_to.iter().find_map(address).unwrap_or_default());
    say("sender", identity.sender.as_ref().and_then(address).unwrap_or_default());
    say("return_path", identity.return_path.clone().unwrap_or_default());
    for (name, field) in [
        ("list_id", "list-id"),
        ("original_from", "x-original-from"),
        ("original_sender", "x-original-sender"),
        ("organization", "organization"),
    ] {
        say(
            name,
            fields::first(header, mail, field)
                .map(|value| words::text(value.get(..EXTRA_BYTES_MAX).unwrap_or(value), charsets))
                .unwrap_or_default(),
        );
    }
    for (name, value) in &class.report.fields {
        say(&format!("report_{name}"), value.clone());
    }
    say("returned_message", class.report.returned.clone().unwrap_or_default());
    say("mailbox_tag", identity.tag.clone().unwrap_or_default());
    say("reply_address", evidence.reply_address.clone().unwrap_or_default());
    say("text_part", content.text_part.clone().unwrap_or_default());
    if !evidence.answers.is_empty() {
        said.insert("references".to_owned(), json!(evidence.answers.len()));
    }
    if content.omitted > 0 {
        said.insert("attachments_omitted".to_owned(), json!(content.omitted));
    }
    let mut flags = identity.flags.clone();
    flags.extend(&evidence.flags);
    if scan.broken_header {
        flags.push("broken_header");
    }
    if evidence.message_id.is_none() {
        flags.push("no_message_id");
    }
    if !flags.is_empty() {
        said.insert("flags".to_owned(), json!(flags));
    }
    let mut extra = Map::new();
    if !said.is_empty() {
        extra.insert("mail".to_owned(), Value::Object(said));
    }
    extra
}
