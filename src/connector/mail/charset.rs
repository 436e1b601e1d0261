//! Bytes to text. A declared charset is believed where the bytes agree with it; undeclared 8-bit bytes are judged over header and
//! text together (chardetng), because a single subject line is too short to tell.

use std::cell::OnceCell;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, REPLACEMENT, UTF_8, UTF_16BE, UTF_16LE};

use crate::connector::mail::scan::Scan;
use crate::connector::mail::{fields, transfer};
use crate::model::item::SliceEncoding;

/// Bytes of the text that are looked at to guess a charset: enough for any language.
const SAMPLE_BYTES: usize = 64 * 1024;

/// Decodes the texts of one mail.
pub struct Charsets<'m> {
    header: &'m [u8],
    text: &'m [u8],
    text_encoding: SliceEncoding,
    guess: OnceCell<&'static Encoding>,
}

impl<'m> Charsets<'m> {
    /// Charsets are judged over the header and the first text part.
    pub fn of(mail: &'m [u8], scan: &Scan) -> Self {
        let root = scan.root();
        let start = root.fields.first().map_or(0, |field| field.name.start);
        let header = mail.get(start..root.body.start).unwrap_or_default();
        let text = scan.leaves().map(|(_, leaf)| leaf).find(|leaf| leaf.media_type.starts_with("text/"));
        match text {
            Some(leaf) => {
                let body = mail.get(leaf.body.clone()).unwrap_or_default();
                Self::new(header, body, fields::encoding(&leaf.fields, mail))
            }
            None => Self::new(header, &[], SliceEncoding::Identity),
        }
    }

    /// For the mail with this header and first text part, encoded as it came.
    pub fn new(header: &'m [u8], text: &'m [u8], text_encoding: SliceEncoding) -> Self {
        Self { header, text, text_encoding, guess: OnceCell::new() }
    }

    /// Decodes `bytes` with the charset `declared`, if that can be believed. Never fails.
    pub fn decode(&self, bytes: &[u8], declared: Option<&str>) -> String {
        let label =
            declared.map(|text| text.trim_matches(|c: char| c.is_whitespace() || c == '"' || c == '\'')).filter(|text| !text.is_empty());
        let Some(label) = label else { return self.undeclared(bytes) };
        // RFC 1642 named it with its Unicode version.
        let label = if label.eq_ignore_ascii_case("unicode-1-1-utf-7") { "utf-7" } else { label };
        match Encoding::for_label(label.as_bytes()) {
            Some(encoding) if encoding == UTF_8 || encoding == REPLACEMENT || is_ascii_label(label) => self.undeclared(bytes),
            // Half a letter at the end is what a mailer left behind that counts bytes.
            Some(encoding) if encoding == UTF_16BE || encoding == UTF_16LE => {
                encoding.decode(bytes.get(..bytes.len() & !1).unwrap_or(bytes)).0.into_owned()
            }
            // Bytes that are UTF-8 throughout are no letters of Western Europe or Russia by chance; programs forget to say so.
            Some(encoding) if encoding.is_single_byte() && is_utf_8(bytes) => self.undeclared(bytes),
            // Nor are they several letters of East Asia; "联通" and a few more pairs are.
            Some(encoding) if !encoding.is_single_byte() && is_utf_8(bytes) && letters_beyond_ascii(bytes) >= 4 => self.undeclared(bytes),
            Some(encoding) => encoding.decode_without_bom_handling(bytes).0.into_owned(),
            // UTF-7 and a few old ones that the web has forgotten and mail has not.
            None => match mail_parser::decoders::charsets::map::charset_decoder(label.as_bytes()) {
                Some(decode) => decode(bytes),
                None => self.undeclared(bytes),
            },
        }
    }

    /// Decodes bytes of which nothing is known: UTF-8 if they are, else what the whole mail looks like.
    pub fn undeclared(&self, bytes: &[u8]) -> String {
        let escapes = memchr::memmem::find(bytes, b"\x1b$").is_some();
        if !escapes {
            match std::str::from_utf8(bytes) {
                Ok(text) => return text.strip_prefix('\u{feff}').unwrap_or(text).to_owned(),
                // A text that was cut in the middle of a character is UTF-8 all the same.
                Err(error) if error.error_len().is_none() && error.valid_up_to() + 4 > bytes.len() && error.valid_up_to() > 4 => {
                    return String::from_utf8_lossy(bytes.get(..error.valid_up_to()).unwrap_or_default()).into_owned();
                }
                Err(_) => {}
            }
        }
        if !escapes && let Some(text) = mostly_utf_8(bytes) {
            return text;
        }
        let guess = *self.guess.get_or_init(|| self.detect(bytes));
        guess.decode_without_bom_handling(bytes).0.into_owned()
    }

    fn detect(&self, bytes: &[u8]) -> &'static Encoding {
        let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
        detector.feed(sample(self.header), false);
        let mut left = SAMPLE_BYTES;
        transfer::decode_into(sample(self.text), self.text_encoding, &mut |piece| {
            detector.feed(piece, false);
            left = left.saturating_sub(piece.len());
            left > 0
        });
        detector.feed(sample(bytes), true);
        detector.guess(None, Utf8Detection::Allow)
    }
}

/// UTF-8 with a few bytes broken on the way: another charset would give no run of whole characters by chance.
fn mostly_utf_8(bytes: &[u8]) -> Option<String> {
    let (mut whole, mut broken) = (0usize, 0usize);
    for chunk in bytes.utf8_chunks() {
        whole += chunk.valid().bytes().filter(|byte| *byte >= 0xc0).count();
        broken += usize::from(!chunk.invalid().is_empty());
    }
    (whole >= 4 && whole >= 4 * broken).then(|| String::from_utf8_lossy(bytes).into_owned())
}

/// UTF-8 with at least two characters beyond ASCII: of one alone, other readings make sense.
fn is_utf_8(bytes: &[u8]) -> bool {
    letters_beyond_ascii(bytes) >= 2 && std::str::from_utf8(bytes).is_ok()
}

/// First bytes of characters of UTF-8 beyond ASCII.
fn letters_beyond_ascii(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte >= 0xc0).count()
}

fn sample(bytes: &[u8]) -> &[u8] {
    bytes.get(..SAMPLE_BYTES).unwrap_or(bytes)
}

fn is_ascii_label(label: &str) -> bool {
    let label = label.to_ascii_lowercase();
    label.contains("ascii") || label == "ansi_x3.4-1968" || label == "iso646-us" || label == "us"
}

/// Marks of writing direction. Gmail puts them around announcements in Hebrew and Arabic; other senders, around what is not to be seen.
pub fn is_direction(c: char) -> bool {
    turns(c) || matches!(c, '\u{200e}' | '\u{200f}')
}

/// Of these marks, the ones that turn what stands behind them.
fn turns(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text in one line: control characters become spaces, runs of spaces one. What turns the direction of writing goes: a name or subject
/// must not show what it does not say.
pub fn clean_line(text: &str) -> String {
    let kept: String;
    let text = if text.contains(turns) {
        kept = text.chars().filter(|c| !turns(*c)).collect();
        &kept
    } else {
        text
    };
    let mut line = String::with_capacity(text.len());
    for word in text.split(|c: char| c.is_control() || c == ' ').filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

/// `text` cut to at most `max` bytes at a character, and whether it was cut.
pub fn cut(mut text: String, max: usize) -> (String, bool) {
    if text.len() <= max {
        return (text, false);
    }
    text.truncate(text.floor_char_boundary(max));
    (text, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], declared: Option<&str>, expected: &str) {
        assert_eq!(Charsets::new(b"", bytes, SliceEncoding::Identity).decode(bytes, declared), expected);
    }

    #[test]
    fn declared_charsets_are_decoded() {
        check(b"Gr\xfc\xdfe \x80", Some("iso-8859-1"), "Grüße €");
        check(b"\x1b$B%O%m!<\x1b(B", Some("ISO-2022-JP"), "ハロー");
        check(b"Hi Mom +Jjo-!", Some("unicode-1-1-utf-7"), "Hi Mom ☺!");
    }

    #[test]
    fn declared_ascii_with_eight_bit_bytes_is_judged_by_its_bytes() {
        check("Grüße".as_bytes(), Some("us-ascii"), "Grüße");
        check(b"Gr\xfc\xdfe aus K\xf6ln, bitte pr\xfcfen", Some("us-ascii"), "Grüße aus Köln, bitte prüfen");
    }

    #[test]
    fn declared_utf_8_that_is_none_is_guessed() {
        check(b"Gr\xfc\xdfe aus K\xf6ln, bitte pr\xfcfen", Some("utf-8"), "Grüße aus Köln, bitte prüfen");
    }

    #[test]
    fn declared_latin_that_is_utf_8_throughout_is_read_as_such() {
        check("Grüße, 5 €".as_bytes(), Some("iso-8859-1"), "Grüße, 5 €");
        check("Привет".as_bytes(), Some("windows-1251"), "Привет");
        check("您好，关于订单的问题".as_bytes(), Some("gb2312"), "您好，关于订单的问题");
        check(b"\xc1\xaa\xcd\xa8", Some("gbk"), "联通");
        check(b"H\0i\0\n", Some("utf-16le"), "Hi");
        check(b"Gr\xfc\xdfe \xc3\xa9", Some("iso-8859-1"), "Grüße Ã©");
        check(b"\xc3\xa9", Some("iso-8859-1"), "Ã©");
    }

    #[test]
    fn undeclared_shift_jis_is_found() {
        let text = "お世話になっております。注文した商品がまだ届いていません。";
        check(&encoding_rs::SHIFT_JIS.encode(text).0, None, text);
    }

    #[test]
    fn a_broken_byte_or_two_do_not_make_another_charset_of_utf_8() {
        let text = "Grüße aus Köln, schöne Übung";
        let mut bytes = text.as_bytes().to_vec();
        bytes.extend_from_slice(b" \xff!");
        check(&bytes, Some("utf-8"), "Grüße aus Köln, schöne Übung \u{fffd}!");
    }

    #[test]
    fn one_line_has_no_control_characters() {
        assert_eq!(clean_line(" a\r\n\tb\0 c "), "a b c");
    }
}
