//! Sorts the leaves of a mail into bodies (`texts`) and files.
//!
//! Every leaf is looked at here and ends up in the text, in the HTML or among the attachments; none is lost. Attachments are
//! slices of the raw: their size, hash and type come from a streaming decoder, so a large one needs no memory.

use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::connector::mail::charset::{Charsets, clean_line, is_direction};
use crate::connector::mail::marks::{self, HtmlText};
use crate::connector::mail::scan::{Entity, Scan, prescan};
use crate::connector::mail::uuencode::{self, Enclosed};
use crate::connector::mail::{MailLimits, fields, parameters, smime, sniff, texts, tnef, transfer, words};
use crate::connector::text::{clean, hex};
use crate::model::codes::Code;
use crate::model::event::{Attachment, AttachmentState};
use crate::model::id::{AttachmentId, RawId};
use crate::model::item::{FilePlace, ItemAttachment, SliceEncoding};
use crate::model::raw::Raw;

/// Encoded bytes of a `winmail.dat` that is looked into: it is decoded whole.
const TNEF_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Encoded bytes of a signed mail that is looked into.
const SIGNED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Numbers of wrapped files lie above those of all parts.
const WRAPPED_STEP: usize = 1 << 20;
/// Longest file name: what file systems take.
const NAME_BYTES_MAX: usize = 255;

/// What a mail says and carries.
#[derive(Debug, Default)]
pub struct Content {
    /// Plain text, from the text parts or from HTML.
    pub text: String,
    /// HTML as it came, not sanitised.
    pub html: Option<String>,
    /// The text is this one, made from HTML, with the marks found in it.
    pub from_html: Option<HtmlText>,
    /// A text part that is not the text: it says something else than the HTML, and little.
    pub text_part: Option<String>,
    /// Files.
    pub attachments: Vec<ItemAttachment>,
    /// Files that are not even listed.
    pub omitted: usize,
    /// The body was found inside of a signed part; nobody looked at the signature.
    pub unwrapped: bool,
}

/// A leaf with what its header says.
pub(super) struct Leaf<'s> {
    pub entity: &'s Entity,
    number: usize,
    pub name: Option<String>,
    pub disposition: String,
    pub content_id: Option<String>,
    pub charset: Option<String>,
    /// `format=flowed`; with `delsp=yes` the value is true.
    pub flowed: Option<bool>,
    /// The nearest multipart/alternative it stands in.
    pub alternative: Option<usize>,
    /// Files inside of its text.
    pub enclosed: Vec<Enclosed>,
}

impl Leaf<'_> {
    pub fn is(&self, media_type: &str) -> bool {
        self.entity.media_type == media_type
    }
}

/// Reads the content. `html_max` and texts are cut by the caller; attachments are limited here.
pub fn read(raw: &Raw, scan: &Scan, charsets: &Charsets, limits: &MailLimits) -> Content {
    read_at(raw, scan, charsets, limits, false)
}

fn read_at(raw: &Raw, scan: &Scan, charsets: &Charsets, limits: &MailLimits, inside: bool) -> Content {
    let mail = raw.body.as_ref();
    let mut leaves: Vec<Leaf> = scan.leaves().map(|(number, entity)| leaf(mail, scan, number, entity, charsets)).collect();
    let bodies = texts::bodies(&leaves, scan);
    for (at, leaf) in leaves.iter_mut().enumerate() {
        if bodies.contains(&at) {
            leaf.enclosed = enclosed(mail, scan, leaf);
        }
        leaf.name = leaf.name.take().or_else(|| texts::name_of_other_form(leaf));
    }
    let shown: Vec<usize> = if bodies.is_empty() { texts::shown_file(&leaves).into_iter().collect() } else { Vec::new() };
    let mut content = texts::read(mail, &leaves, if bodies.is_empty() { &shown } else { &bodies }, charsets);
    let mut files = Files { raw, scan, limits, content: &mut content, listed: 0, inside };
    for (at, leaf) in leaves.iter().enumerate() {
        if bodies.contains(&at) {
            files.add_enclosed(leaf, charsets);
        } else if !texts::is_nothing(leaf, mail) {
            files.add(leaf, charsets);
        }
    }
    content
}

/// The files inside of a body, where its bytes stand as they are.
fn enclosed(mail: &[u8], scan: &Scan, leaf: &Leaf) -> Vec<Enclosed> {
    let plain = leaf.is("text/plain") && fields::encoding(&leaf.entity.fields, mail) == SliceEncoding::Identity;
    let found = if plain { uuencode::find(mail.get(leaf.entity.body.clone()).unwrap_or_default()) } else { Vec::new() };
    found.into_iter().filter(|file| is_whole(scan, &within(leaf, &file.block))).collect()
}

/// A range of a body as one of the mail.
fn within(leaf: &Leaf, range: &Range<usize>) -> Range<usize> {
    let start = leaf.entity.body.start;
    start + range.start..start + range.end
}

/// Whether a range has all its bytes at hand.
fn is_whole(scan: &Scan, range: &Range<usize>) -> bool {
    let place = scan.place(range);
    place.end.saturating_sub(place.start) == range.len() as u64
}

/// Adds the text part of a cut text or HTML as a file, so that the whole of it can be had.
pub fn attach_whole(content: &mut Content, raw: &Raw, scan: &Scan, charsets: &Charsets, limits: &MailLimits, media_type: &str) {
    let found = scan.leaves().find(|(_, entity)| entity.media_type == media_type);
    if let Some((number, entity)) = found {
        let mut leaf = leaf(raw.body.as_ref(), scan, number, entity, charsets);
        leaf.name = Some(if media_type == "text/html" { "message.html" } else { "message.txt" }.to_owned());
        let listed = content.attachments.len();
        Files { raw, scan, limits, content, listed, inside: true }.add(&leaf, charsets);
    }
}

fn leaf<'s>(mail: &[u8], scan: &'s Scan, number: usize, entity: &'s Entity, charsets: &Charsets) -> Leaf<'s> {
    let value = |name: &'static str| fields::first(&entity.fields, mail, name).unwrap_or_default();
    let disposition = value("content-disposition");
    let (typed, disposed) = (parameters::read(value("content-type"), charsets), parameters::read(disposition, charsets));
    let name = disposed.get("filename").and_then(file_name).or_else(|| typed.get("name").and_then(file_name));
    let content_id = fields::first(&entity.fields, mail, "content-id").map(|value| {
        let text = clean_line(&String::from_utf8_lossy(value.get(..998).unwrap_or(value)));
        text.trim_matches(['<', '>', ' ']).to_owned()
    });
    let mut alternative = entity.parent;
    while let Some(parent) = alternative.and_then(|at| scan.entities.get(at)) {
        if parent.media_type == "multipart/alternative" {
            break;
        }
        alternative = parent.parent;
    }
    Leaf {
        entity,
        number,
        name,
        disposition: String::from_utf8_lossy(disposition.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii())
            .to_ascii_lowercase(),
        content_id: content_id.filter(|id| !id.is_empty()),
        charset: typed.get("charset").map(str::to_owned),
        flowed: typed
            .get("format")
            .filter(|format| format.eq_ignore_ascii_case("flowed"))
            .map(|_| typed.get("delsp").is_some_and(|delsp| delsp.eq_ignore_ascii_case("yes"))),
        alternative,
        enclosed: Vec::new(),
    }
}

/// Collects attachments within the limits.
struct Files<'a> {
    raw: &'a Raw,
    scan: &'a Scan,
    limits: &'a MailLimits,
    content: &'a mut Content,
    listed: usize,
    /// Of a mail inside of another one.
    inside: bool,
}

impl Files<'_> {
    fn add(&mut self, leaf: &Leaf, charsets: &Charsets) {
        self.listed += 1;
        if self.listed > self.limits.attachments_max.saturating_mul(2) {
            self.content.omitted += 1;
            return;
        }
        let mail = self.raw.body.as_ref();
        let span = leaf.entity.body.clone();
        let encoding = fields::encoding(&leaf.entity.fields, mail);
        let over_count = self.listed > self.limits.attachments_max;
        let known = self.scan.rest.as_ref().and_then(|rest| rest.measured.get(&leaf.number)).cloned();
        let measured = match known {
            Some(known) => known,
            None if over_count => Measured::default(),
            None => measure(mail.get(span.clone()).unwrap_or_default(), encoding),
        };
        let too_large = measured.bytes > self.limits.attachment_bytes_max;
        let reason = if over_count {
            Some(Code::AttachmentCount)
        } else if too_large {
            Some(Code::AttachmentTooLarge)
        } else {
            None
        };
        let media_type = sniff::media_type(&leaf.entity.media_type, leaf.name.as_deref(), &measured.first);
        let public = Attachment {
            id: attachment_id(self.raw.id, self.raw.received_at.0, leaf.number),
            name: leaf.name.clone().or_else(|| attached_mail_name(mail, leaf, charsets)),
            inline: is_inline(leaf, self.content.html.as_deref(), &media_type),
            media_type,
            bytes: (!over_count).then_some(measured.bytes),
            sha256: reason.is_none().then(|| hex(&measured.sha256)),
            content_id: leaf.content_id.clone(),
            state: if reason.is_none() { AttachmentState::Stored } else { AttachmentState::Unavailable },
            reason: reason.map(|code| code.as_str().to_owned()),
            url: None,
            content: None,
        };
        let unwrapped = reason.is_none() && tnef::is_one(&leaf.entity.media_type, leaf.name.as_deref());
        let place = self.scan.place(&span);
        let whole = is_whole(self.scan, &span);
        let place = reason.is_none().then_some(FilePlace::Slice { start: place.start, end: place.end, encoding });
        self.content.attachments.push(ItemAttachment { public, place, fetch: None });
        if unwrapped && whole && span.len() <= TNEF_BYTES_MAX {
            self.add_wrapped(leaf, charsets);
        }
        if reason.is_none() && smime::is_one(&leaf.entity.media_type) && whole && span.len() <= SIGNED_BYTES_MAX {
            self.look_into_signed(leaf);
        }
    }

    /// A mail without a body of its own has that of its `winmail.dat`.
    fn take_body(&mut self, text: String, html: Option<String>) {
        self.content.text = clean(&text);
        self.content.html = html.map(|html| clean(&html));
        if let Some(html) = self.content.html.as_ref().filter(|_| self.content.text.trim().is_empty()) {
            let converted = marks::to_text(html);
            self.content.text.clone_from(&converted.text);
            self.content.from_html = Some(converted);
        }
    }

    /// A mail that is signed as a whole has the body inside. Files in there stay in there: they are encoded once more. Mails inside of
    /// the mail inside are not looked into.
    fn look_into_signed(&mut self, leaf: &Leaf) {
        if self.inside || !self.content.text.trim().is_empty() || self.content.html.is_some() {
            return;
        }
        let outer = self.raw.body.get(leaf.entity.body.clone()).unwrap_or_default();
        let message = transfer::decode_slice(outer, fields::encoding(&leaf.entity.fields, &self.raw.body));
        let Some(content) = smime::content(&message) else { return };
        let raw = Raw { body: content.into(), ..self.raw.clone() };
        let Ok(scan) = prescan(&raw.body, self.limits) else { return };
        let charsets = Charsets::of(&raw.body, &scan);
        let inner = read_at(&raw, &scan, &charsets, self.limits, true);
        self.content.unwrapped = true;
        (self.content.text, self.content.html, self.content.from_html) = (inner.text, inner.html, inner.from_html);
    }

    /// What `winmail.dat` wraps, beside it: each file as a range of the decoded part.
    fn add_wrapped(&mut self, leaf: &Leaf, charsets: &Charsets) {
        let mail = self.raw.body.as_ref();
        let span = leaf.entity.body.clone();
        let encoding = fields::encoding(&leaf.entity.fields, mail);
        let stream = transfer::decode_slice(mail.get(span.clone()).unwrap_or_default(), encoding);
        let outer = self.scan.place(&span);
        let found = tnef::unpack(&stream, charsets);
        if self.content.text.trim().is_empty() && self.content.html.is_none() {
            self.take_body(found.text.unwrap_or_default(), found.html);
        }
        for (number, file) in found.files.into_iter().enumerate() {
            if self.listed >= self.limits.attachments_max {
                self.content.omitted += 1;
                continue;
            }
            self.listed += 1;
            let bytes = stream.get(file.bytes.clone()).unwrap_or_default();
            let place = FilePlace::Within {
                start: outer.start,
                end: outer.end,
                encoding,
                skip: file.bytes.start as u64,
                bytes: file.bytes.len() as u64,
            };
            let name = file.name.as_deref().and_then(file_name);
            let declared = fields::media_type(file.media_type.unwrap_or_default().as_bytes());
            let found = Inner { number: leaf.number + (number + 1) * WRAPPED_STEP, name, declared, content_id: file.content_id, place };
            self.store(found, measure(bytes, SliceEncoding::Identity));
        }
    }

    /// The files inside of a text.
    fn add_enclosed(&mut self, leaf: &Leaf, charsets: &Charsets) {
        let mail = self.raw.body.as_ref();
        for (number, file) in leaf.enclosed.iter().enumerate() {
            if self.listed >= self.limits.attachments_max {
                self.content.omitted += 1;
                continue;
            }
            self.listed += 1;
            let span = within(leaf, &file.block);
            let place = self.scan.place(&span);
            let place = FilePlace::Slice { start: place.start, end: place.end, encoding: SliceEncoding::Uuencode };
            let name = file_name(&words::text(&file.name, charsets));
            let found = Inner { number: leaf.number + (number + 1) * WRAPPED_STEP, name, declared: None, content_id: None, place };
            self.store(found, measure(mail.get(span).unwrap_or_default(), SliceEncoding::Uuencode));
        }
    }

    fn store(&mut self, file: Inner, measured: Measured) {
        let too_large = measured.bytes > self.limits.attachment_bytes_max;
        let declared = file.declared.as_deref().unwrap_or("application/octet-stream");
        let public = Attachment {
            id: attachment_id(self.raw.id, self.raw.received_at.0, file.number),
            media_type: sniff::media_type(declared, file.name.as_deref(), &measured.first),
            name: file.name,
            inline: false,
            bytes: Some(measured.bytes),
            sha256: (!too_large).then(|| hex(&measured.sha256)),
            content_id: file.content_id,
            state: if too_large { AttachmentState::Unavailable } else { AttachmentState::Stored },
            reason: too_large.then(|| Code::AttachmentTooLarge.as_str().to_owned()),
            url: None,
            content: None,
        };
        self.content.attachments.push(ItemAttachment { public, place: (!too_large).then_some(file.place), fetch: None });
    }
}

/// A file that is no part of its own.
struct Inner {
    number: usize,
    name: Option<String>,
    declared: Option<String>,
    content_id: Option<String>,
    place: FilePlace,
}

/// The same for the same part of the same raw, however often it is read.
fn attachment_id(raw: RawId, received_ms: i64, number: usize) -> AttachmentId {
    let mut sha = Sha256::new();
    sha.update(b"omnigate attachment v1");
    sha.update(raw.to_bytes());
    sha.update((number as u64).to_be_bytes());
    let low = sha.finalize().iter().take(10).fold(0u128, |value, byte| value << 8 | u128::from(*byte));
    let high = (received_ms.max(0) as u128) & ((1 << 48) - 1);
    AttachmentId(high << 80 | low)
}

fn is_inline(leaf: &Leaf, html: Option<&str>, media_type: &str) -> bool {
    let referenced = match (&leaf.content_id, html) {
        (Some(id), Some(html)) => html.contains(&format!("cid:{id}")),
        _ => false,
    };
    referenced || leaf.disposition == "inline" && media_type.starts_with("image/") || texts::is_other_form(leaf)
}

/// An attached mail is named by its subject.
fn attached_mail_name(mail: &[u8], leaf: &Leaf, charsets: &Charsets) -> Option<String> {
    if !leaf.is("message/rfc822") && !leaf.is("message/global") {
        return None;
    }
    let body = mail.get(leaf.entity.body.clone()).unwrap_or_default();
    let header = fields::split(body.get(..64 * 1024).unwrap_or(body), 0, &MailLimits::default()).ok()?;
    let subject = fields::first(&header.fields, body, "subject").map(|value| words::text(value.get(..998).unwrap_or(value), charsets));
    let stem = subject.map(|subject| subject.replace(['/', '\\'], "-")).unwrap_or_default();
    let stem = stem.get(..stem.floor_char_boundary(100)).unwrap_or_default();
    file_name(&format!("{}.eml", if stem.trim().is_empty() { "message" } else { stem.trim() }))
}

/// A file name without any path, control or direction characters.
fn file_name(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = last.chars().filter(|c| !c.is_control() && !is_direction(*c)).collect();
    let name = name.trim().trim_start_matches("..").trim();
    if name.len() <= NAME_BYTES_MAX {
        return (!name.is_empty() && name != ".").then(|| name.to_owned());
    }
    // The ending says what the file is, so it stays.
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    let ending = if ending.len() <= 16 { ending } else { "" };
    let stem = name.get(..name.floor_char_boundary(NAME_BYTES_MAX - ending.len() - 1)).unwrap_or_default();
    Some(format!("{stem}.{ending}"))
}

/// What decoding a part once tells.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// Decoded bytes.
    pub bytes: u64,
    /// Their digest.
    pub sha256: [u8; 32],
    /// The first of them.
    pub first: Vec<u8>,
}

fn measure(encoded: &[u8], encoding: SliceEncoding) -> Measured {
    let mut gauge = Gauge::default();
    transfer::decode_into(encoded, encoding, &mut |piece| gauge.see(piece));
    gauge.measured()
}

/// Measures a part that comes in pieces.
pub struct Measuring {
    decoder: transfer::Decoder,
    gauge: Gauge,
}

impl Measuring {
    /// Of a part of this encoding.
    pub fn new(encoding: SliceEncoding) -> Self {
        Self { decoder: transfer::Decoder::new(encoding), gauge: Gauge::default() }
    }

    /// Goes on with encoded bytes.
    pub fn feed(&mut self, encoded: &[u8]) {
        self.decoder.feed(encoded, &mut |piece| self.gauge.see(piece));
    }

    /// What they tell.
    pub fn finish(mut self) -> Measured {
        self.decoder.finish(&mut |piece| self.gauge.see(piece));
        self.gauge.measured()
    }
}

#[derive(Default)]
struct Gauge {
    sha: Sha256,
    measured: Measured,
}

impl Gauge {
    fn see(&mut self, piece: &[u8]) -> bool {
        let first = &mut self.measured.first;
        let room = sniff::FIRST_BYTES.saturating_sub(first.len());
        first.extend_from_slice(piece.get(..room).unwrap_or(piece));
        self.measured.bytes += piece.len() as u64;
        self.sha.update(piece);
        true
    }

    fn measured(self) -> Measured {
        Measured { sha256: self.sha.finalize().into(), ..self.measured }
    }
}
