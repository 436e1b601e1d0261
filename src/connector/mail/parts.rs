//! Sorts the leaves of a mail into bodies and files.
//!
//! Every leaf is looked at here and ends up in the text, in the HTML or among the attachments; none is lost. Attachments are
//! slices of the raw: their size, hash and type come from a streaming decoder, so a large one needs no memory.

use sha2::{Digest, Sha256};

use crate::connector::html;
use crate::connector::mail::charset::{Charsets, clean_line, is_direction};
use crate::connector::mail::fields;
use crate::connector::mail::flowed;
use crate::connector::mail::marks::{self, HtmlText};
use crate::connector::mail::scan::{Entity, Scan, prescan};
use crate::connector::mail::sniff;
use crate::connector::mail::{MailLimits, parameters, smime, tnef, transfer, words};
use crate::connector::text::{clean, hex};
use crate::model::codes::Code;
use crate::model::event::{Attachment, AttachmentState};
use crate::model::id::{AttachmentId, RawId};
use crate::model::item::{FilePlace, ItemAttachment, SliceEncoding};
use crate::model::raw::Raw;

/// Bytes of one text part that are decoded; the item keeps far less.
const TEXT_READ_MAX: usize = 512 * 1024;
/// Text parts that are joined; further ones are attachments.
const BODIES_MAX: usize = 20;
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
    /// Files.
    pub attachments: Vec<ItemAttachment>,
    /// Files that are not even listed.
    pub omitted: usize,
    /// The body was found inside of a signed part; nobody looked at the signature.
    pub unwrapped: bool,
}

/// A leaf with what its header says.
struct Leaf<'s> {
    entity: &'s Entity,
    number: usize,
    name: Option<String>,
    disposition: String,
    content_id: Option<String>,
    charset: Option<String>,
    /// `format=flowed`; with `delsp=yes` the value is true.
    flowed: Option<bool>,
    /// The nearest multipart/alternative it stands in.
    alternative: Option<usize>,
}

impl Leaf<'_> {
    fn is(&self, media_type: &str) -> bool {
        self.entity.media_type == media_type
    }
}

/// Reads the content. `html_max` and texts are cut by the caller; attachments are limited here.
pub fn read(raw: &Raw, scan: &Scan, charsets: &Charsets, limits: &MailLimits) -> Content {
    read_at(raw, scan, charsets, limits, false)
}

fn read_at(raw: &Raw, scan: &Scan, charsets: &Charsets, limits: &MailLimits, inside: bool) -> Content {
    let mail = raw.body.as_ref();
    let leaves: Vec<Leaf> = scan.leaves().map(|(number, entity)| leaf(mail, scan, number, entity, charsets)).collect();
    let mut bodies: Vec<usize> = Vec::new();
    for (at, leaf) in leaves.iter().enumerate() {
        if bodies.len() < BODIES_MAX && is_body(leaf, scan) {
            bodies.push(at);
        }
    }
    let mut content = texts(mail, &leaves, &bodies, charsets);
    let mut files = Files { raw, scan, limits, content: &mut content, listed: 0, inside };
    for (at, leaf) in leaves.iter().enumerate() {
        if !bodies.contains(&at) && !is_nothing(leaf, mail) {
            files.add(leaf, charsets);
        }
    }
    content
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
    }
}

/// A leaf is a body if it is text, not put up as a file, and stands where text is read.
fn is_body(leaf: &Leaf, scan: &Scan) -> bool {
    if !leaf.is("text/plain") && !leaf.is("text/html") || leaf.disposition == "attachment" {
        return false;
    }
    let parent = leaf.entity.parent.and_then(|at| scan.entities.get(at));
    let in_body_place = parent.is_none_or(|parent| parent.media_type == "multipart/alternative");
    (leaf.name.is_none() || in_body_place) && parent.is_none_or(|parent| parent.media_type != "multipart/digest")
}

/// An empty part with no name: what some mailers leave between two boundaries.
fn is_nothing(leaf: &Leaf, mail: &[u8]) -> bool {
    let body = mail.get(leaf.entity.body.clone()).unwrap_or_default();
    leaf.name.is_none() && leaf.content_id.is_none() && body.trim_ascii().is_empty()
}

fn decoded(mail: &[u8], leaf: &Leaf, charsets: &Charsets) -> String {
    let body = mail.get(leaf.entity.body.clone()).unwrap_or_default();
    let encoding = fields::encoding(&leaf.entity.fields, mail);
    let mut bytes = Vec::with_capacity(body.len().min(TEXT_READ_MAX));
    transfer::decode_into(body, encoding, &mut |piece| {
        let room = TEXT_READ_MAX - bytes.len();
        bytes.extend_from_slice(piece.get(..room).unwrap_or(piece));
        bytes.len() < TEXT_READ_MAX
    });
    let text = clean(&charsets.decode(&bytes, leaf.charset.as_deref()));
    match leaf.flowed {
        Some(delsp) if leaf.is("text/plain") => flowed::join(&text, delsp),
        _ => text,
    }
}

fn texts(mail: &[u8], leaves: &[Leaf], bodies: &[usize], charsets: &Charsets) -> Content {
    let bodies: Vec<&Leaf> = bodies.iter().filter_map(|at| leaves.get(*at)).collect();
    let beside = |leaf: &Leaf, media_type: &str| {
        leaf.alternative.is_some() && bodies.iter().any(|other| other.alternative == leaf.alternative && other.is(media_type))
    };
    let any_html = bodies.iter().any(|leaf| leaf.is("text/html"));
    let (mut text, mut html) = (String::new(), String::new());
    let mut from_html = None;
    for leaf in &bodies {
        let piece = decoded(mail, leaf, charsets);
        if leaf.is("text/html") {
            if !beside(leaf, "text/plain") {
                let converted = marks::to_text(&piece);
                join(&mut text, &converted.text);
                from_html = Some(converted);
            }
            html.push_str(&piece);
        } else {
            if any_html && !beside(leaf, "text/html") {
                html.push_str("<div>");
                html.push_str(&html::from_text(&piece));
                html.push_str("</div>");
            }
            join(&mut text, &piece);
        }
    }
    if text.trim().is_empty() && !html.is_empty() {
        // A text part left empty beside the HTML says nothing; the mail does.
        let converted = marks::to_text(&html);
        text.clone_from(&converted.text);
        from_html = Some(converted);
    }
    let from_html = from_html.filter(|converted| converted.text == text);
    Content { text, html: (!html.is_empty()).then_some(html), from_html, ..Content::default() }
}

fn join(text: &mut String, piece: &str) {
    let piece = piece.trim_end();
    if !text.is_empty() && !piece.is_empty() {
        text.push_str("\n\n");
    }
    text.push_str(piece);
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
        let whole = place.end.saturating_sub(place.start) == span.len() as u64;
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
            let measured = measure(bytes, SliceEncoding::Identity);
            let name = file.name.as_deref().and_then(file_name);
            let declared = fields::media_type(file.media_type.unwrap_or_default().as_bytes());
            let media_type = sniff::media_type(declared.as_deref().unwrap_or("application/octet-stream"), name.as_deref(), &measured.first);
            let public = Attachment {
                id: attachment_id(self.raw.id, self.raw.received_at.0, leaf.number + (number + 1) * WRAPPED_STEP),
                name,
                inline: false,
                media_type,
                bytes: Some(measured.bytes),
                sha256: Some(hex(&measured.sha256)),
                content_id: file.content_id,
                state: AttachmentState::Stored,
                reason: None,
                url: None,
                content: None,
            };
            let place = FilePlace::Within {
                start: outer.start,
                end: outer.end,
                encoding,
                skip: file.bytes.start as u64,
                bytes: file.bytes.len() as u64,
            };
            self.content.attachments.push(ItemAttachment { public, place: Some(place), fetch: None });
        }
    }
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
    referenced || leaf.disposition == "inline" && media_type.starts_with("image/")
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
