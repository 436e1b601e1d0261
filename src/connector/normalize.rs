//! Normalize: draft → item. Keys become digests, texts are cleaned and cut, HTML is sanitised once, files get their place.
//!
//! What must stay true: equal drafts of the same account give equal keys, whatever channel file they came by; nothing that
//! leaves here is larger than its cap.

mod back;
mod files;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use sha2::Digest;

use crate::connector::decode::FormFile;
use crate::connector::draft::{Draft, DraftKind, DraftParty, Key, Moment};
use crate::connector::manifest::{Manifest, Unit, duration};
use crate::connector::{enclosed, html, text};
use crate::logic::digest::Digester;
use crate::model::address::Address;
use crate::model::codes::Code;
use crate::model::dns::Answers;
use crate::model::event::{Authentication, Author, Call, Direction, Party, Recipient};
use crate::model::item::{
    ChannelFacts, ContactHint, EditItem, Gather, Hold, HoldReason, Item, ItemBody, MessageItem, ReactionItem, ReplyHint, ThreadCandidate,
    Threading,
};
use crate::model::key::KeyDigest;
use crate::model::time::Time;

pub use files::media_type;

/// Longest text or HTML of a message.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Longest subject, name, URL.
const LINE_BYTES_MAX: usize = 2 * 1024;
/// Largest `extra`.
const EXTRA_BYTES_MAX: usize = 16 * 1024;
/// Recipients kept.
const RECIPIENTS_MAX: usize = 100;
/// A platform's clock may be ahead of ours by this; later times are held to it.
const AHEAD_MS: i64 = 24 * 3_600_000;

/// Codes a map may give without declaring them.
const BUILT_IN_CODES: [Code; 3] = [Code::Honeypot, Code::Receipt, Code::Empty];

/// What all drafts of one raw share.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The connector.
    pub manifest: &'a Manifest,
    /// Makes the digests.
    pub digester: &'a Digester,
    /// When the raw was received.
    pub received_at: Time,
    /// It comes in through a backfill.
    pub historic: bool,
    /// Files of the form.
    pub files: &'a [FormFile],
    /// Largest file.
    pub file_bytes_max: usize,
    /// Most files of a message.
    pub files_max: usize,
    /// Items without a key: the same content within this time is a repetition.
    pub repeat_window_ms: Option<i64>,
    /// Who vouches for a whole mail is checked by ourselves, too.
    pub verify_senders: bool,
    /// What the DNS said, if it was asked.
    pub answers: Option<&'a Answers>,
}

/// The channel a draft belongs to.
#[derive(Debug, Clone)]
pub struct Target {
    /// What its events say.
    pub facts: Arc<ChannelFacts>,
    /// The account that scopes its keys.
    pub account: String,
    /// The account's own address, where it is known.
    pub own_address: Option<Address>,
    /// How its files are fetched.
    pub media: Arc<MediaFacts>,
}

/// How files of a channel are fetched, as far as its items must know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MediaFacts {
    /// A message waits at most so long for its files, ms; 0: it does not wait.
    pub wait_ms: i64,
    /// Recipes that can be used, and how long after it was received a file can be had, ms.
    pub recipes: BTreeMap<String, i64>,
}

/// An item that could not be made, and one line for a person.
pub fn quarantined(facts: &Arc<ChannelFacts>, code: Code, detail: impl Into<String>) -> Item {
    Item { channel: Arc::clone(facts), key: None, body: ItemBody::Quarantined { code, detail: detail.into() } }
}

/// Makes the item of a draft; its inline files go to `blobs`.
pub fn item(source: &Source<'_>, target: &Target, draft: Draft, blobs: &mut Vec<(String, Bytes)>) -> Item {
    if draft.kind == DraftKind::Mail {
        let made = enclosed::item(source, target, &draft, blobs);
        return made.unwrap_or_else(|detail| quarantined(&target.facts, Code::BadDraft, detail));
    }
    let of_tickets = matches!(draft.kind, DraftKind::Entry | DraftKind::Ticket);
    if of_tickets != source.manifest.is_back && draft.kind != DraftKind::Ignore {
        let detail = "`entry` and `ticket` are for the way back from a ticket system, which knows nothing else";
        return quarantined(&target.facts, Code::BadDraft, detail);
    }
    let made = match draft.kind {
        DraftKind::Entry => back::entry(source, target, draft, blobs),
        DraftKind::Ticket => back::ticket(source, target, &draft),
        DraftKind::Ignore => ignored(source, &draft),
        DraftKind::Message | DraftKind::Mail => message(source, target, draft, blobs),
        DraftKind::Edit => edit(source, target, draft, blobs),
        DraftKind::Update => update(source, target, draft, blobs),
        DraftKind::Delete => delete(source, target, &draft),
        DraftKind::Reaction => reaction(source, target, &draft),
        DraftKind::Status => status(source, target, &draft),
    };
    match made {
        Ok((key, body)) => Item { channel: Arc::clone(&target.facts), key, body },
        Err(detail) => quarantined(&target.facts, Code::BadDraft, detail),
    }
}

type Made = Result<(Option<KeyDigest>, ItemBody), String>;

fn ignored(source: &Source<'_>, draft: &Draft) -> Made {
    let code = draft.code.clone().ok_or("an ignored draft needs a `code`")?;
    let known = source.manifest.codes.contains_key(&code) || BUILT_IN_CODES.iter().any(|built_in| built_in.as_str() == code);
    if !known {
        return Err("the code of an ignored draft is not declared".to_owned());
    }
    Ok((None, ItemBody::Ignored { code }))
}

impl Source<'_> {
    fn key(&self, target: &Target, kind: &str, key: &Key, revision: &str) -> KeyDigest {
        self.digester.item(self.manifest.namespace(), &target.account, kind, &key.parts(), revision)
    }

    fn conversation(&self, target: &Target, parts: &[&str]) -> KeyDigest {
        self.digester.conversation(self.manifest.namespace(), &target.account, parts)
    }

    fn moment(&self, moment: Option<Moment>) -> Option<Time> {
        moment.map(|Moment(ms)| Time(ms.clamp(0, self.received_at.0.saturating_add(AHEAD_MS))))
    }
}

fn needed<'a>(key: Option<&'a Key>, what: &str) -> Result<&'a Key, String> {
    key.ok_or_else(|| format!("{what} needs a `key`"))
}

fn message(source: &Source<'_>, target: &Target, draft: Draft, blobs: &mut Vec<(String, Bytes)>) -> Made {
    let (key, digest, aliases) = match &draft.key {
        Some(key) => (key.clone(), source.key(target, "message", key, ""), Vec::new()),
        None => repeatable(source, target, &draft)?,
    };
    let mut item = content(source, target, draft, &key, digest, blobs)?;
    item.aliases = aliases;
    item.hints = part_of_call(source, &item, &key);
    let empty = item.text.is_none() && item.html.is_none() && item.attachments.is_empty() && item.feedback.is_none() && item.call.is_none();
    if empty && item.subject.is_none() {
        return Ok((None, ItemBody::Ignored { code: Code::Empty.as_str().to_owned() }));
    }
    Ok((Some(digest), ItemBody::Message(Box::new(item))))
}

/// Parts of a call may come without saying whose number was called: they find each other without their account too.
fn part_of_call(source: &Source<'_>, item: &MessageItem, key: &Key) -> Vec<KeyDigest> {
    let digest = || source.digester.item(source.manifest.namespace(), "", "call", &key.parts(), "");
    item.call.iter().map(|_| digest()).collect()
}

/// The key of a message that has none: sender and content within a window of time. Time is cut into windows; the item claims
/// its own and, as an alias, the one before, so that a repetition across the border is found too. A repetition counts as one
/// for at least one and at most two windows.
fn repeatable(source: &Source<'_>, target: &Target, draft: &Draft) -> Result<(Key, KeyDigest, Vec<KeyDigest>), String> {
    let window = source.repeat_window_ms.filter(|window| *window > 0).ok_or("a message needs a `key`")?;
    let mut hash = sha2::Sha256::new();
    let mut part = |text: &str| {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    };
    part(draft.from.as_ref().map_or("", |from| &from.address));
    part(draft.subject.as_ref().map_or("", |subject| &subject.0));
    part(draft.text.as_ref().map_or("", |text| &text.0));
    part(draft.html.as_deref().unwrap_or_default());
    part(&draft.extra.as_ref().map(|extra| serde_json::Value::Object(extra.clone()).to_string()).unwrap_or_default());
    for file in draft.attachments.iter().flatten() {
        part(file.name.as_deref().unwrap_or_default());
        let bytes = file.file.and_then(|index| source.files.get(index)).map(|file| file.bytes.clone()).unwrap_or_default();
        part(&text::hex(&sha2::Sha256::digest(&bytes)));
        part(file.content.as_deref().unwrap_or_default());
    }
    let content = text::hex(&hash.finalize());
    let bucket = source.received_at.0.div_euclid(window);
    let keyed = |bucket: i64| Key(vec!["repeat".to_owned(), content.clone(), bucket.to_string()]);
    let (now, before) = (keyed(bucket), keyed(bucket - 1));
    Ok((now.clone(), source.key(target, "message", &now, ""), vec![source.key(target, "message", &before, "")]))
}

fn edit(source: &Source<'_>, target: &Target, mut draft: Draft, blobs: &mut Vec<(String, Bytes)>) -> Made {
    let key = needed(draft.key.as_ref(), "an edit")?.clone();
    let edited_at = source.moment(draft.edited_at);
    let revision = match (&draft.revision, draft.edited_at) {
        (Some(revision), _) => revision.0.clone(),
        (None, Some(Moment(ms))) => ms.to_string(),
        (None, None) => return Err("an edit needs a `revision` or `edited_at`".to_owned()),
    };
    draft.edited = Some(true);
    let original = source.key(target, "message", &key, "");
    let message = content(source, target, draft, &key, original, blobs)?;
    let digest = source.key(target, "edit", &key, &revision);
    Ok((Some(digest), ItemBody::Edit(Box::new(EditItem { target: original, message, edited_at }))))
}

/// What is learnt later says all that is known where it says it: it may be the first we hear of its message.
fn update(source: &Source<'_>, target: &Target, draft: Draft, blobs: &mut Vec<(String, Bytes)>) -> Made {
    let key = needed(draft.key.as_ref(), "an update")?.clone();
    let revision = draft.revision.as_ref().ok_or("an update needs a `revision`")?.0.clone();
    let original = source.key(target, "message", &key, "");
    let mut message = content(source, target, draft, &key, original, blobs)?;
    message.hints = part_of_call(source, &message, &key);
    if message.call.is_none() {
        return Err("an update needs a `call`: nothing else can be learnt later".to_owned());
    }
    let digest = source.key(target, "update", &key, &revision);
    Ok((Some(digest), ItemBody::Update(Box::new(EditItem { target: original, message, edited_at: None }))))
}

fn delete(source: &Source<'_>, target: &Target, draft: &Draft) -> Made {
    let key = needed(draft.key.as_ref(), "a delete")?;
    let body = ItemBody::Delete {
        target: source.key(target, "message", key, ""),
        external_id: Some(external_id(draft, key)),
        sent_at: source.moment(draft.sent_at),
    };
    Ok((Some(source.key(target, "delete", key, "deleted")), body))
}

fn reaction(source: &Source<'_>, target: &Target, draft: &Draft) -> Made {
    let key = needed(draft.key.as_ref(), "a reaction")?;
    let from = draft.from.as_ref().map(party).transpose()?;
    let added = draft.added.unwrap_or(true);
    // The same person may add, remove and add again: the time (or the delivery) tells them apart.
    let when = draft.sent_at.map(|Moment(ms)| ms.to_string()).or_else(|| draft.delivery_key.as_ref().map(|key| key.0.clone()));
    let who = from.as_ref().map_or("", |from| from.address.as_str());
    let emoji = draft.emoji.as_deref().unwrap_or_default();
    let revision = format!("{}|{who}|{emoji}|{}", if added { "added" } else { "removed" }, when.unwrap_or_default());
    let body = ItemBody::Reaction(Box::new(ReactionItem {
        target: source.key(target, "message", key, ""),
        external_id: Some(external_id(draft, key)),
        from,
        emoji: draft.emoji.clone(),
        added,
        sent_at: source.moment(draft.sent_at),
    }));
    Ok((Some(source.key(target, "reaction", key, &revision)), body))
}

fn status(source: &Source<'_>, target: &Target, draft: &Draft) -> Made {
    let key = needed(draft.key.as_ref(), "a status")?;
    let state = draft.state.clone().ok_or("a status needs a `state`")?;
    let digest = source.key(target, "status", key, &state);
    Ok((Some(digest), ItemBody::Receipt { state, error: draft.error.as_ref().map(|error| error.0.clone()) }))
}

fn external_id(draft: &Draft, key: &Key) -> String {
    draft.external_id.as_ref().map_or_else(|| key.joined(), |id| id.0.clone())
}

fn line(text: Option<&str>) -> Option<String> {
    let text = text?;
    let mut clean: String = text.chars().filter(|letter| !letter.is_control()).collect();
    text::cut(&mut clean, LINE_BYTES_MAX);
    let trimmed = clean.trim();
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

/// Only what a person can open; anything else (`javascript:`, …) is left out.
fn web_url(text: Option<&str>) -> Option<String> {
    let url = url::Url::parse(text?).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.as_str().len() <= LINE_BYTES_MAX).then(|| url.to_string())
}

fn address(text: &str) -> Result<Address, String> {
    Address::parse(text).map_err(|error| error.to_string())
}

fn party(draft: &DraftParty) -> Result<Party, String> {
    Ok(Party {
        address: address(&draft.address)?,
        name: line(draft.name.as_deref()),
        handle: line(draft.handle.as_deref()),
        avatar_url: web_url(draft.avatar_url.as_deref()),
    })
}

/// ISO 639-1 of what platforms say (`en`, `en-US`, `pt_BR`).
fn language(text: Option<&str>) -> Option<String> {
    let code = text?.split(['-', '_']).next()?.to_ascii_lowercase();
    (code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_lowercase())).then_some(code)
}

fn content(
    source: &Source<'_>,
    target: &Target,
    draft: Draft,
    key: &Key,
    digest: KeyDigest,
    blobs: &mut Vec<(String, Bytes)>,
) -> Result<MessageItem, String> {
    let direction = draft.direction.unwrap_or(Direction::Inbound);
    let from = draft.from.as_ref().map(party).transpose()?;
    let to = recipients(target, &draft, direction)?;
    let verified = draft.verified.unwrap_or(source.manifest.verified_senders);
    let contact = contact(source, &draft, direction, from.as_ref(), &to, verified)?;
    let attachments = files::files(source, target, &draft, key, digest, blobs);
    let fetching = attachments.iter().any(|file| file.fetch.is_some()) && target.media.wait_ms > 0;
    let media_until = fetching.then(|| source.received_at.plus_ms(target.media.wait_ms));
    let gather = gather(source, target, &draft, media_until);
    let hold = match (&gather, media_until) {
        (Some((_, until)), _) => Some(Hold { reason: HoldReason::Gathering, until: *until }),
        (None, until) => until.map(|until| Hold { reason: HoldReason::Media, until }),
    };
    let gather = gather.map(|(gather, _)| Box::new(gather));
    let mut truncated = Vec::new();
    let (plain, rich) = texts(&draft, &mut truncated);
    let author = draft.author.unwrap_or(if direction == Direction::Inbound { Author::Customer } else { Author::Agent });
    Ok(MessageItem {
        threading: threading(source, target, &draft, key, from.as_ref())?,
        direction,
        author,
        kind: draft.message_kind.clone().unwrap_or_else(|| source.manifest.message_kind.clone()),
        from,
        contact,
        to,
        subject: line(draft.subject.as_ref().map(|subject| subject.0.as_str())),
        text: plain,
        html: rich,
        reply_text: draft.reply_text.as_deref().map(text::clean),
        language: language(draft.language.as_deref()),
        call: draft.call.as_ref().map(|call| Call {
            outcome: call.outcome.clone(),
            seconds: call.seconds,
            recording: call.recording.and_then(|index| attachments.get(index)).map(|file| file.public.id),
            transcript: call.transcript.as_deref().map(text::clean),
        }),
        attachments,
        in_reply_to: draft
            .in_reply_to
            .as_ref()
            .map(|answered| ReplyHint { external_id: answered.joined(), target: Some(source.key(target, "message", answered, "")) }),
        external_id: draft.key.as_ref().map(|key| external_id(&draft, key)).or_else(|| draft.external_id.as_ref().map(|id| id.0.clone())),
        external_url: web_url(draft.url.as_deref()),
        automated: draft.automated,
        authentication: Some(Authentication { verified, ..draft.authentication.unwrap_or_default().said() }),
        edited: draft.edited.unwrap_or(false),
        historic: source.historic,
        extra: extra(source, draft.extra, &mut truncated),
        truncated,
        feedback: draft.feedback,
        sent_at: source.moment(draft.sent_at),
        received_at: source.received_at,
        aliases: Vec::new(),
        hints: Vec::new(),
        hold,
        gather,
        ticket: None,
    })
}

/// What the draft is a part of, and until when the others are waited for.
fn gather(source: &Source<'_>, target: &Target, draft: &Draft, media_until: Option<Time>) -> Option<(Gather, Time)> {
    let (part_of, coalesce) = (draft.part_of.as_ref()?, source.manifest.coalesce.as_ref()?);
    let window = duration(&coalesce.window)?;
    let mut parts: Vec<&str> = draft.conversation.as_ref().map(Key::parts).unwrap_or_default();
    parts.push(&part_of.0);
    let text = draft.text.as_ref().map(|text| text::clean(&text.0)).filter(|text| !text.is_empty());
    let gather = Gather {
        key: source.digester.item(source.manifest.namespace(), &target.account, "gather", &parts, ""),
        parts: draft.parts.filter(|parts| *parts > 0),
        texts: text.map(|text| (draft.part.unwrap_or(0), text)).into_iter().collect(),
        seen: 1,
        glue: coalesce.glue.clone(),
        media_until,
    };
    Some((gather, source.received_at.plus(window)))
}

fn texts(draft: &Draft, truncated: &mut Vec<String>) -> (Option<String>, Option<String>) {
    let plain = draft.text.as_ref().map(|text| text::clean(&text.0)).filter(|text| !text.trim().is_empty());
    let mut plain = plain.or_else(|| draft.html.as_deref().map(html::to_text).filter(|text| !text.is_empty()));
    if plain.as_mut().is_some_and(|text| text::cut(text, TEXT_BYTES_MAX)) {
        truncated.push("text".to_owned());
    }
    let (rich, rich_cut) = draft.html.as_deref().map(|html| html::sanitise(html, TEXT_BYTES_MAX)).unzip();
    if rich_cut == Some(true) {
        truncated.push("html".to_owned());
    }
    (plain, rich.filter(|html| !html.trim().is_empty()))
}

fn recipients(target: &Target, draft: &Draft, direction: Direction) -> Result<Vec<Recipient>, String> {
    let given = draft.to.iter().flatten().take(RECIPIENTS_MAX);
    let one = |to: &DraftParty| {
        Ok(Recipient {
            address: address(&to.address)?,
            name: line(to.name.as_deref()),
            role: to.role.clone().unwrap_or_else(|| "to".to_owned()),
        })
    };
    let mut all = given.map(one).collect::<Result<Vec<_>, String>>()?;
    if all.is_empty() && direction == Direction::Inbound {
        all.extend(target.own_address.clone().map(|address| Recipient { address, name: None, role: "to".to_owned() }));
    }
    Ok(all)
}

/// The customer behind it: the author, or of what our side wrote the recipient.
fn contact(
    source: &Source<'_>,
    draft: &Draft,
    direction: Direction,
    from: Option<&Party>,
    to: &[Recipient],
    verified: bool,
) -> Result<Option<ContactHint>, String> {
    let hint = |address: &Address, name: Option<String>, also: Vec<(Address, KeyDigest)>| ContactHint {
        digest: source.digester.address(address),
        address: address.clone(),
        name,
        verified,
        also,
    };
    if direction == Direction::Outbound {
        return Ok(draft.to.as_ref().and_then(|_| to.first()).map(|to| hint(&to.address, to.name.clone(), Vec::new())));
    }
    let Some(from) = from else { return Ok(None) };
    let more = draft.from.iter().flat_map(|from| from.also.iter().flatten()).take(RECIPIENTS_MAX);
    let also = more
        .map(|text| address(text).map(|address| (address.clone(), source.digester.address(&address))))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Some(hint(&from.address, from.name.clone(), also)))
}

fn threading(source: &Source<'_>, target: &Target, draft: &Draft, key: &Key, from: Option<&Party>) -> Result<Threading, String> {
    let thread = draft.thread.as_ref().map(|thread| thread.0.as_str()).filter(|thread| !thread.is_empty());
    let direct = draft.direct.unwrap_or(false);
    let room = draft.conversation.as_ref().map(Key::parts);
    let (parts, rule, evidence, by_silence): (Vec<&str>, _, _, bool) = match (source.manifest.unit, thread) {
        (Unit::Item, _) => (key.parts(), "item", None, false),
        // A thread is one conversation whatever of it arrives first: root and replies have the same key.
        (Unit::Thread, Some(thread)) => {
            let mut parts = room.ok_or("a threaded message needs a `conversation`")?;
            parts.push(thread);
            (parts, "thread", Some(thread), false)
        }
        (Unit::Thread, None) if !direct => {
            let mut parts = room.ok_or("a threaded message needs a `conversation`")?;
            parts.extend(key.parts());
            (parts, "thread", None, false)
        }
        (Unit::Sender | Unit::Thread, _) => {
            let mut parts = match (room, from) {
                (Some(room), _) => room,
                (None, Some(from)) => vec![from.address.as_str()],
                (None, None) => return Err("a message needs a `conversation` or a `from`".to_owned()),
            };
            let evidence = parts.last().copied();
            parts.extend(thread);
            (parts, if thread.is_some() { "topic" } else { "sender" }, thread.or(evidence), true)
        }
    };
    let digest = source.conversation(target, &parts);
    let candidate = ThreadCandidate { key: digest, rule: rule.to_owned(), evidence: evidence.map(str::to_owned), participants_only: false };
    Ok(Threading { candidates: vec![candidate], registers: vec![digest], ends_by_silence: by_silence, opens_rule: "opens".to_owned() })
}

/// What the platform says beyond the fields, under the name of its connector.
pub(super) fn extra(
    source: &Source<'_>,
    given: Option<serde_json::Map<String, serde_json::Value>>,
    truncated: &mut Vec<String>,
) -> serde_json::Map<String, serde_json::Value> {
    let mut out = serde_json::Map::new();
    let Some(given) = given.map(|given| given.into_iter().filter(|(_, value)| !value.is_null()).collect::<serde_json::Map<_, _>>()) else {
        return out;
    };
    if given.is_empty() {
        return out;
    }
    let value = serde_json::Value::Object(given);
    if value.to_string().len() > EXTRA_BYTES_MAX {
        truncated.push("extra".to_owned());
        return out;
    }
    out.insert(source.manifest.name.clone(), value);
    out
}
