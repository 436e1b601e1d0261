//! `winmail.dat` (TNEF, MS-OXTNEF): what Outlook wraps files and sometimes the text in. The wrapped file stays an attachment; what is
//! found in it is told beside it. One pass, nothing trusted, everything bounded; what is broken ends the search, no more.

use std::ops::Range;

use crate::connector::mail::charset::Charsets;
use crate::connector::mail::{lzfu, rtf};

/// What was found.
#[derive(Debug, Default)]
pub struct Unpacked {
    /// The text, if it has one.
    pub text: Option<String>,
    /// The HTML, if it has one.
    pub html: Option<String>,
    /// The files in it.
    pub files: Vec<Inner>,
    /// The properties of the message were read; a stream has them once.
    read: bool,
}

/// A file inside, as a range of the unwrapped stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Inner {
    /// Its name.
    pub name: Option<String>,
    /// The type it says it has.
    pub media_type: Option<String>,
    /// Its Content-ID.
    pub content_id: Option<String>,
    /// Where its bytes are.
    pub bytes: Range<usize>,
}

const SIGNATURE: u32 = 0x223e_9f78;
/// Most attributes of the stream, and properties of one list.
const ATTRIBUTES_MAX: usize = 10_000;
/// Most files.
const FILES_MAX: usize = 100;
/// Most RTF that is unpacked: it names every font and colour, and is far longer than its text.
const RTF_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most HTML that is read.
const HTML_BYTES_MAX: usize = 2 * 1024 * 1024;

const BODY: u32 = 0x0002_800c;
const MESSAGE_PROPERTIES: u32 = 0x0006_9003;
const CODEPAGE: u32 = 0x0006_9007;
const ATTACH_BEGINS: u32 = 0x0006_9002;
const ATTACH_TITLE: u32 = 0x0001_8010;
const ATTACH_DATA: u32 = 0x0006_800f;
const ATTACH_PROPERTIES: u32 = 0x0006_9005;

const PROPERTY_BODY: u16 = 0x1000;
const PROPERTY_RTF: u16 = 0x1009;
const PROPERTY_HTML: u16 = 0x1013;
const PROPERTY_CODEPAGE: u16 = 0x3fde;
const PROPERTY_LONG_NAME: u16 = 0x3707;
const PROPERTY_MEDIA_TYPE: u16 = 0x370e;
const PROPERTY_CONTENT_ID: u16 = 0x3712;
const PROPERTY_DATA: u16 = 0x3701;

/// Whether a part is such a stream by its type or name.
pub fn is_one(media_type: &str, name: Option<&str>) -> bool {
    matches!(media_type, "application/ms-tnef" | "application/vnd.ms-tnef")
        || media_type == "application/octet-stream" && name.is_some_and(|name| name.eq_ignore_ascii_case("winmail.dat"))
}

/// Finds text and files in a stream.
pub fn unpack(stream: &[u8], charsets: &Charsets) -> Unpacked {
    let mut found = Unpacked::default();
    let mut reader = Reader { bytes: stream, at: 0 };
    if reader.u32() != Some(SIGNATURE) || reader.u16().is_none() {
        return found;
    }
    let mut codepage: Option<String> = None;
    for _ in 0..ATTRIBUTES_MAX {
        let Some((id, value)) = attribute(&mut reader) else { break };
        let bytes = || stream.get(value.clone()).unwrap_or_default();
        let text = |bytes: &[u8]| charsets.decode(without_end(bytes), codepage.as_deref());
        match id {
            CODEPAGE => {
                codepage = Reader { bytes: bytes(), at: 0 }.u32().map(|page| rtf::page(i32::try_from(page).unwrap_or(0)).name().to_owned())
            }
            BODY => found.text = found.text.or_else(|| Some(text(bytes()))),
            MESSAGE_PROPERTIES => {
                if !found.read {
                    found.read = true;
                    bodies(&mut found, stream, value, charsets, &text);
                }
            }
            ATTACH_BEGINS if found.files.len() >= FILES_MAX => break,
            ATTACH_BEGINS => found.files.push(Inner::default()),
            _ => {
                let Some(file) = found.files.last_mut() else { continue };
                match id {
                    ATTACH_TITLE => file.name = file.name.take().or_else(|| Some(text(bytes()))),
                    ATTACH_DATA => file.bytes = value,
                    ATTACH_PROPERTIES => describe(file, stream, value, &text),
                    _ => {}
                }
            }
        }
    }
    found.files.retain(|file| !file.bytes.is_empty());
    found.text = found.text.filter(|text| !text.trim().is_empty());
    found
}

/// Id and value of the next attribute. Its checksum proves nothing and is not looked at.
fn attribute(reader: &mut Reader<'_>) -> Option<(u32, Range<usize>)> {
    let _level = reader.take(1)?;
    let id = reader.u32()?;
    let length = reader.u32()? as usize;
    let value = reader.take(length)?;
    reader.take(2)?;
    Some((id, value))
}

/// The forms of the body: text, HTML, and RTF that was made of one of them.
fn bodies(found: &mut Unpacked, stream: &[u8], list: Range<usize>, charsets: &Charsets, text: &dyn Fn(&[u8]) -> String) {
    let (mut packed, mut html, mut page) = (None, None, None);
    for (property, range, wide) in properties(stream, list) {
        let bytes = stream.get(range).unwrap_or_default();
        match property {
            PROPERTY_BODY => found.text = Some(string(bytes, wide, text)),
            PROPERTY_RTF => packed = Some(bytes),
            PROPERTY_HTML => html = Some((bytes, wide)),
            PROPERTY_CODEPAGE => page = Reader { bytes, at: 0 }.u32().and_then(|page| i32::try_from(page).ok()),
            _ => {}
        }
    }
    found.html = html.map(|(bytes, wide)| {
        let bytes = bytes.get(..HTML_BYTES_MAX).unwrap_or(bytes);
        string(bytes, wide, &|bytes| charsets.decode(without_end(bytes), page.map(|page| rtf::page(page).name())))
    });
    let unpacked = packed.filter(|_| found.html.is_none()).and_then(|packed| lzfu::unpack(packed, RTF_BYTES_MAX));
    match unpacked.and_then(|unpacked| rtf::read(&unpacked)) {
        Some(rtf::Made::Html(html)) => found.html = Some(html),
        Some(rtf::Made::Text(text)) => found.text = found.text.take().filter(|text| !text.trim().is_empty()).or(Some(text)),
        None => {}
    }
    found.html = found.html.take().filter(|html| !html.trim().is_empty());
}

fn describe(file: &mut Inner, stream: &[u8], properties_at: Range<usize>, text: &dyn Fn(&[u8]) -> String) {
    for (property, range, wide) in properties(stream, properties_at) {
        let said = || Some(string(stream.get(range.clone()).unwrap_or_default(), wide, text)).filter(|text| !text.is_empty());
        match property {
            PROPERTY_LONG_NAME => file.name = said().or_else(|| file.name.take()),
            PROPERTY_MEDIA_TYPE => file.media_type = said(),
            PROPERTY_CONTENT_ID => file.content_id = said().map(|id| id.trim_matches(['<', '>']).to_owned()),
            PROPERTY_DATA if file.bytes.is_empty() => file.bytes = range,
            _ => {}
        }
    }
}

fn string(bytes: &[u8], wide: bool, text: &dyn Fn(&[u8]) -> String) -> String {
    if wide {
        let whole = encoding_rs::UTF_16LE.decode_without_bom_handling(bytes).0;
        whole.trim_end_matches('\0').to_owned()
    } else {
        text(bytes)
    }
}

fn without_end(bytes: &[u8]) -> &[u8] {
    bytes.get(..memchr::memchr(0, bytes).unwrap_or(bytes.len())).unwrap_or_default()
}

/// The properties of a list with one value each: id, where the value is, and whether it is UTF-16.
fn properties(stream: &[u8], list: Range<usize>) -> Vec<(u16, Range<usize>, bool)> {
    let mut found = Vec::new();
    let mut reader = Reader { bytes: stream.get(..list.end).unwrap_or_default(), at: list.start };
    let count = reader.u32().unwrap_or(0) as usize;
    for _ in 0..count.min(ATTRIBUTES_MAX) {
        let Some(property) = property(&mut reader) else { break };
        found.extend(property);
    }
    found
}

/// The next property; `Some(None)` for one of a kind that we do not look into.
fn property(reader: &mut Reader<'_>) -> Option<Option<(u16, Range<usize>, bool)>> {
    let (kind, id) = (reader.u16()?, reader.u16()?);
    if id >= 0x8000 {
        // A named one: whose it is, then its number or its name.
        reader.take(16)?;
        if reader.u32()? == 0 {
            reader.take(4)?;
        } else {
            let length = reader.u32()? as usize;
            reader.padded(length)?;
        }
    }
    let many = kind & 0x1000 != 0;
    let kind = kind & 0x0fff;
    let fixed = match kind {
        0x02 | 0x03 | 0x04 | 0x0a | 0x0b => Some(4),
        0x05 | 0x06 | 0x07 | 0x14 | 0x40 => Some(8),
        0x48 => Some(16),
        0x0d | 0x1e | 0x1f | 0x102 => None,
        _ => return None,
    };
    let values = if many || fixed.is_none() { reader.u32()? as usize } else { 1 };
    let mut first = None;
    for _ in 0..values.min(ATTRIBUTES_MAX) {
        let length = match fixed {
            Some(length) => length,
            None => reader.u32()? as usize,
        };
        let value = reader.padded(length)?;
        // An object stands behind the 16 bytes of its interface.
        let value = if kind == 0x0d { value.start.saturating_add(16).min(value.end)..value.end } else { value };
        first = first.or(Some(value));
    }
    Some(first.map(|range| (id, range, kind == 0x1f)))
}

/// Little-endian numbers and ranges; never behind the end.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, length: usize) -> Option<Range<usize>> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        let range = self.at..end;
        self.at = end;
        Some(range)
    }

    /// A value whose place is a multiple of four bytes long.
    fn padded(&mut self, length: usize) -> Option<Range<usize>> {
        let value = self.take(length)?;
        let padding = length.wrapping_neg() % 4;
        self.at = (self.at + padding).min(self.bytes.len());
        Some(value)
    }

    fn u16(&mut self) -> Option<u16> {
        let range = self.take(2)?;
        self.bytes.get(range)?.try_into().ok().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        let range = self.take(4)?;
        self.bytes.get(range)?.try_into().ok().map(u32::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;
    use crate::model::item::SliceEncoding;

    fn attribute(level: u8, id: u32, value: &[u8]) -> Vec<u8> {
        let sum = value.iter().fold(0u16, |sum, byte| sum.wrapping_add(u16::from(*byte)));
        [&[level][..], &id.to_le_bytes(), &(value.len() as u32).to_le_bytes(), value, &sum.to_le_bytes()].concat()
    }

    fn stream() -> Vec<u8> {
        let wide: Vec<u8> = "Angebot März.pdf\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut padded = wide.clone();
        padded.resize(wide.len().next_multiple_of(4), 0);
        let properties = [
            &2u32.to_le_bytes()[..],
            &0x0003u16.to_le_bytes(),
            &0x3705u16.to_le_bytes(),
            &1u32.to_le_bytes(),
            &0x001fu16.to_le_bytes(),
            &PROPERTY_LONG_NAME.to_le_bytes(),
            &1u32.to_le_bytes(),
            &(wide.len() as u32).to_le_bytes(),
            &padded,
        ]
        .concat();
        [
            &SIGNATURE.to_le_bytes()[..],
            &[1, 0],
            &attribute(1, CODEPAGE, &[1252u32.to_le_bytes(), [0; 4]].concat()),
            &attribute(1, BODY, b"Gr\xfc\xdfe\0"),
            &attribute(2, ATTACH_BEGINS, &[0; 14]),
            &attribute(2, ATTACH_TITLE, b"ANGEBO~1.PDF\0"),
            &attribute(2, ATTACH_DATA, b"%PDF-1.4"),
            &attribute(2, ATTACH_PROPERTIES, &properties),
        ]
        .concat()
    }

    #[test]
    fn text_and_files_are_found() {
        let stream = stream();
        let found = unpack(&stream, &Charsets::new(b"", b"", SliceEncoding::Identity));
        assert_eq!(found.text.as_deref(), Some("Grüße"));
        assert_eq!(found.files.len(), 1);
        assert_eq!(found.files[0].name.as_deref(), Some("Angebot März.pdf"));
        assert_eq!(&stream[found.files[0].bytes.clone()], b"%PDF-1.4");
    }

    #[test]
    fn a_cut_or_lying_stream_ends_the_search() {
        let whole = stream();
        let charsets = Charsets::new(b"", b"", SliceEncoding::Identity);
        for end in 0..whole.len() {
            unpack(&whole[..end], &charsets);
            let mut lying = whole.clone();
            lying[end] = 0xff;
            for file in unpack(&lying, &charsets).files {
                assert!(file.bytes.end <= lying.len());
            }
        }
    }
}
