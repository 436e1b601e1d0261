//! Values of header fields: encoded words (RFC 2047), addresses, dates, message ids.
//!
//! Neighbouring encoded words of one charset are joined as bytes before they are decoded: many mailers split them in the middle
//! of a character.

use base64::Engine as _;
use encoding_rs::Encoding;
use mail_parser::parsers::MessageStream;
use mail_parser::{Address as Parsed, HeaderValue};

use crate::connector::mail::charset::{Charsets, clean_line};
use crate::connector::mail::transfer;
use crate::model::address::Address;
use crate::model::item::SliceEncoding;
use crate::model::time::Time;

/// Longest value that is read; recipients of a mail to thousands end here.
const VALUE_BYTES_MAX: usize = 256 * 1024;
/// Most addresses that are read from one field.
const ADDRESSES_MAX: usize = 500;
/// Longest message id (RFC 5322 §2.1.1: the longest line).
const ID_BYTES_MAX: usize = 998;

/// An address as a field names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The address; `None` if what stands there is none.
    pub address: Option<Address>,
    /// Display name.
    pub name: Option<String>,
}

/// An unstructured field, decoded, in one line.
pub fn text(value: &[u8], charsets: &Charsets) -> String {
    clean_line(&decode_words(&utf8(value, charsets), charsets, Words::Decoded))
}

fn utf8(value: &[u8], charsets: &Charsets) -> String {
    charsets.undeclared(value.get(..VALUE_BYTES_MAX).unwrap_or(value))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Words {
    /// Written out.
    Decoded,
    /// Joined and written as one encoded word, so that commas and quotes inside stay hidden from the address parser.
    Hidden,
}

fn decode_words(value: &str, charsets: &Charsets, form: Words) -> String {
    if !value.contains("=?") {
        return value.to_owned();
    }
    let mut out = String::with_capacity(value.len());
    let mut pending: Option<(String, Vec<u8>)> = None;
    let mut rest = value;
    while !rest.is_empty() {
        let at = rest.find("=?").unwrap_or(rest.len());
        let (plain, tail) = rest.split_at(at);
        let word = encoded_word(tail);
        // RFC 2047 §6.2: white space between two encoded words is not part of the text.
        if !(plain.trim().is_empty() && word.is_some() && pending.is_some()) {
            if let Some((_, bytes)) = pending.as_mut().filter(|_| form == Words::Hidden && plain.starts_with(char::is_whitespace)) {
                // The address parser joins a word and quotes behind it.
                bytes.extend_from_slice(b" ");
            }
            write_pending(&mut pending, charsets, form, &mut out);
            out.push_str(plain);
        }
        let Some(word) = word else {
            write_pending(&mut pending, charsets, form, &mut out);
            let skip = tail.len().min(2);
            out.push_str(tail.get(..skip).unwrap_or_default());
            rest = tail.get(skip..).unwrap_or_default();
            continue;
        };
        match &mut pending {
            Some((charset, bytes)) if charset.eq_ignore_ascii_case(word.charset) => bytes.extend_from_slice(&word.bytes),
            _ => {
                write_pending(&mut pending, charsets, form, &mut out);
                pending = Some((word.charset.to_owned(), word.bytes));
            }
        }
        rest = word.rest;
    }
    write_pending(&mut pending, charsets, form, &mut out);
    out
}

fn write_pending(pending: &mut Option<(String, Vec<u8>)>, charsets: &Charsets, form: Words, out: &mut String) {
    let Some((charset, bytes)) = pending.take() else { return };
    let decoded = charsets.decode(&bytes, Some(&charset));
    match form {
        Words::Decoded => out.push_str(&decoded),
        Words::Hidden => {
            out.push_str("=?utf-8?B?");
            base64::engine::general_purpose::STANDARD.encode_string(decoded, out);
            out.push_str("?=");
        }
    }
}

struct EncodedWord<'v> {
    charset: &'v str,
    bytes: Vec<u8>,
    rest: &'v str,
}

/// The encoded word at the start of `text`. Spaces inside are tolerated, as every reader of mail does.
fn encoded_word(text: &str) -> Option<EncodedWord<'_>> {
    let inner = text.strip_prefix("=?")?;
    let (charset, after) = inner.split_once('?')?;
    let (kind, after) = after.split_once('?')?;
    if charset.len() > 64 || kind.len() != 1 {
        return None;
    }
    // RFC 2231 §5: the language stands behind an asterisk.
    let charset = charset.split('*').next().unwrap_or(charset);
    // Every `?` inside is escaped in Q (RFC 2047 §4.2), but a mailer or two forgets it.
    let end = after.find("?=")?;
    let (content, rest) = (after.get(..end)?, after.get(end + 2..)?);
    // Base64 has no `?` and no `=` in front: what looks so is two words nested in one another.
    if matches!(kind, "B" | "b") && (content.contains('?') || content.starts_with('=')) {
        return None;
    }
    let bytes = match kind {
        "B" | "b" => transfer::decode_slice(content.as_bytes(), SliceEncoding::Base64),
        // Eight-bit letters inside are forbidden and happen: the field was decoded as a whole before, so they are put back.
        "Q" | "q" => match Encoding::for_label(charset.trim().as_bytes()).filter(|_| !content.is_ascii()) {
            Some(encoding) => q_word(&encoding.encode(content).0),
            None => q_word(content.as_bytes()),
        },
        _ => return None,
    };
    Some(EncodedWord { charset, bytes, rest })
}

fn q_word(content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(content.len());
    let mut rest = content;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'_', _) => bytes.push(b' '),
            (b'=', [high, low, after @ ..]) => match (transfer::hex(*high), transfer::hex(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = after;
                }
                _ => bytes.push(b'='),
            },
            (byte, _) => bytes.push(*byte),
        }
    }
    bytes
}

/// The addresses of a field, group members included, in order.
pub fn addresses(value: &[u8], charsets: &Charsets) -> Vec<Named> {
    let mut line = decode_words(&utf8(value, charsets), charsets, Words::Hidden).into_bytes();
    line.retain(|byte| *byte != 0);
    let mut line = with_commas(&line);
    line.push(b'\n');
    let HeaderValue::Address(parsed) = MessageStream::new(&line).parse_address() else { return Vec::new() };
    let all: Vec<_> = match parsed {
        Parsed::List(list) => list,
        Parsed::Group(groups) => groups.into_iter().flat_map(|group| group.addresses).collect(),
    };
    all.into_iter()
        .take(ADDRESSES_MAX)
        .map(|one| Named {
            address: one.address.as_deref().and_then(mail_address),
            name: one.name.map(|name| clean_line(&name)).filter(|name| !name.is_empty()),
        })
        .collect()
}

/// Puts the comma between two addresses that a mailer forgot, so that they do not run into one.
fn with_commas(line: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.len() + 8);
    let (mut quoted, mut comments, mut escaped) = (false, 0usize, false);
    let last_at = memchr::memrchr(b'@', line).unwrap_or(0);
    for (at, byte) in line.iter().enumerate() {
        out.push(*byte);
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted || comments > 0 => escaped = true,
            b'"' if comments == 0 => quoted = !quoted,
            b'(' if !quoted => comments += 1,
            b')' if !quoted => comments = comments.saturating_sub(1),
            b'>' if !quoted && comments == 0 && at < last_at => {
                let next = line.get(at + 1..).unwrap_or_default().trim_ascii_start().first();
                if next.is_some_and(|next| !b",;(>".contains(next)) {
                    out.push(b',');
                }
            }
            _ => {}
        }
    }
    out
}

/// A mail address from bare text.
pub fn mail_address(text: &str) -> Option<Address> {
    let text = text.trim().trim_start_matches('<').trim_end_matches('>');
    // RFC 5322 §4.4: an old route stands before the address.
    let text = if text.starts_with('@') { text.rsplit_once(':')?.1 } else { text };
    let (local, domain) = text.rsplit_once('@')?;
    if local.is_empty() || domain.is_empty() || text.contains(char::is_whitespace) || text.contains(['<', '>']) {
        return None;
    }
    Address::parse(&format!("email:{text}")).ok()
}

/// Earliest believable Date: mail as we know it begins with RFC 822.
const EARLIEST_MS: i64 = 397_353_600_000; // 1982-08-05
/// A clock may be wrong by this much before its time is no longer believed.
const FUTURE_MS: i64 = 24 * 3600 * 1000;

/// The Date field. Before mail existed: none; in the future: the time of receipt.
pub fn date(value: &[u8], received_at: Time) -> Option<Time> {
    let mut line = value.get(..256).unwrap_or(value).to_vec();
    // RFC 5322 §3.3: seconds may be missing; mail-parser would take a named zone for them.
    if let Some(colon) = memchr::memchr(b':', &line)
        && matches!(line.get(colon + 1..colon + 4), Some([b'0'..=b'9', b'0'..=b'9', b' ']))
    {
        line.splice(colon + 3..colon + 3, *b":00");
    }
    if let Some(at) = iso_date(&line) {
        return plausible(at, received_at);
    }
    without_zone(&mut line);
    line.push(b'\n');
    let HeaderValue::DateTime(parsed) = MessageStream::new(&line).parse_date() else { return None };
    if !parsed.is_valid() {
        return None;
    }
    plausible(parsed.to_timestamp().checked_mul(1000)?, received_at)
}

fn plausible(ms: i64, received_at: Time) -> Option<Time> {
    if ms < EARLIEST_MS {
        return None;
    }
    Some(if ms > received_at.0.saturating_add(FUTURE_MS) { received_at } else { Time(ms) })
}

/// `2026-06-01T10:00:00+02:00`: programs that know no other form write it into mails, too.
fn iso_date(line: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(line).ok()?.trim();
    text.starts_with("20").then(|| text.parse::<jiff::Timestamp>().ok()).flatten().map(jiff::Timestamp::as_millisecond)
}

/// A time without a zone is taken as UTC, as one that says `-0000` (RFC 5322 §3.3).
fn without_zone(line: &mut Vec<u8>) {
    let text = line.trim_ascii_end();
    let seconds = text.len().checked_sub(9).and_then(|at| text.get(at..));
    if let Some([b' ', h1, h2, b':', m1, m2, b':', s1, s2]) = seconds
        && [h1, h2, m1, m2, s1, s2].into_iter().all(u8::is_ascii_digit)
    {
        line.truncate(line.trim_ascii_end().len());
        line.extend_from_slice(b" +0000");
    }
}

/// The message ids in a field: what stands in brackets, else words with an `@`. Missing brackets, commas and folds are accepted.
pub fn message_ids(value: &[u8], at_most: usize) -> Vec<String> {
    let value = String::from_utf8_lossy(value.get(..VALUE_BYTES_MAX).unwrap_or(value));
    let mut ids = Vec::new();
    let mut rest: &str = &value;
    if value.contains('<') {
        while let Some((_, tail)) = rest.split_once('<') {
            if ids.len() >= at_most {
                break;
            }
            let end = tail.find(['>', '<']).unwrap_or(tail.len());
            let (id, after) = tail.split_at(end);
            ids.extend(normal_id(id));
            rest = after;
        }
    } else {
        let words = value.split(|c: char| c.is_whitespace() || c == ',' || c == ';').filter(|word| word.contains('@'));
        ids.extend(words.take(at_most).filter_map(normal_id));
    }
    ids
}

/// A message id in the one form we compare: no brackets, no white space, the domain in lower case, at most 998 bytes.
pub fn normal_id(id: &str) -> Option<String> {
    let id: String = id.chars().filter(|c| !c.is_whitespace() && !c.is_control() && *c != '<' && *c != '>').collect();
    let id = match id.rsplit_once('@') {
        Some((local, domain)) => format!("{local}@{}", domain.to_lowercase()),
        None => id,
    };
    (!id.is_empty() && id.len() <= ID_BYTES_MAX).then_some(id)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn charsets(sample: &[u8]) -> Charsets<'_> {
        Charsets::new(sample, b"", SliceEncoding::Identity)
    }

    #[track_caller]
    fn check(value: &[u8], expected: &str) {
        assert_eq!(text(value, &charsets(value)), expected);
    }

    #[test]
    fn subjects_are_decoded_and_unfolded() {
        check(b" =?utf-8?Q?Gr=C3=BC=C3=9Fe_aus?=\r\n =?utf-8?B?IEvDtmxu?= and more", "Grüße aus Köln and more");
        check(b" =?ISO-2022-JP?B?GyRCJU8lbSE8GyhC?=", "ハロー");
        check(b" plain =?not a word? text", "plain =?not a word? text");
        check(b"=?utf-8*de?q?Gru=C3=9F?=", "Gruß");
        check(b"a\r\n\tb\0c", "a b c");
        check(b"=?iso-8859-1?Q?Die_Fr\xf6sche_=FCben?=", "Die Frösche üben");
    }

    #[test]
    fn a_character_split_over_two_words_is_whole() {
        check(b"=?utf-8?B?R3LD?= =?UTF-8?B?vMOfZQ==?=", "Grüße");
    }

    #[test]
    fn raw_eight_bit_subjects_are_guessed() {
        check("Rückfrage".as_bytes(), "Rückfrage");
        let text = "関于订单的问题，请尽快回复我们，谢谢";
        let gbk = encoding_rs::GBK.encode(text).0.into_owned();
        check(&gbk, text);
    }

    #[track_caller]
    fn check_addresses(value: &str, expected: &[(Option<&str>, Option<&str>)]) {
        let found = addresses(value.as_bytes(), &charsets(value.as_bytes()));
        let found: Vec<_> = found.iter().map(|one| (one.address.as_ref().map(Address::value), one.name.as_deref())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn addresses_with_names_groups_and_nothing() {
        check_addresses(
            "\"Lindqvist, Ana\" <Ana@Example.org>, bob@example.org (Bob)",
            &[(Some("ana@example.org"), Some("Lindqvist, Ana")), (Some("bob@example.org"), Some("Bob"))],
        );
        check_addresses("undisclosed-recipients:;", &[]);
        check_addresses(
            "Team: a@example.org, B <b@example.org>;, c@example.org",
            &[(Some("a@example.org"), None), (Some("b@example.org"), Some("B")), (Some("c@example.org"), None)],
        );
        check_addresses(
            "=?utf-8?Q?Gro=C3=9F,_J=C3=BC?= =?utf-8?Q?rgen?= <j@example.org>",
            &[(Some("j@example.org"), Some("Groß, Jürgen"))],
        );
        check_addresses("Nobody", &[(None, Some("Nobody"))]);
        check_addresses(
            "=?utf-8?Q?J=C3=BCrgen?= \"A.\" =?utf-8?Q?Gro=C3=9F?= <j@example.org>",
            &[(Some("j@example.org"), Some("Jürgen A. Groß"))],
        );
        check_addresses(
            "Ana <ana@example.org> \"B > C\" <bob@example.org>",
            &[(Some("ana@example.org"), Some("Ana")), (Some("bob@example.org"), Some("B > C"))],
        );
    }

    #[test]
    fn dates_that_cannot_be_are_none_or_clamped() {
        let now = Time::parse("2026-11-22T09:00:00Z").unwrap();
        let read = |text: &str| date(text.as_bytes(), now).map(|time| time.to_string());
        assert_eq!(read("Mon, 1 Jun 2026 10:00:00 +0200").as_deref(), Some("2026-06-01T08:00:00.000Z"));
        assert_eq!(read("1 Jun 26 10:00 EST").as_deref(), Some("2026-06-01T15:00:00.000Z"));
        assert_eq!(read("Thu, 32 Foo 2026 99:99:99 +9999"), None);
        assert_eq!(read("yesterday"), None);
        assert_eq!(read("Thu, 1 Jan 1970 00:00:00 +0000"), None);
        assert_eq!(read("Thu, 1 Jan 2099 00:00:00 +0000").as_deref(), Some("2026-11-22T09:00:00.000Z"));
    }

    #[test]
    fn message_ids_in_every_shape() {
        let ids = |text: &str| message_ids(text.as_bytes(), 100);
        assert_eq!(ids("<A.b@Example.ORG>"), ["A.b@example.org"]);
        assert_eq!(ids(" <a@x>\r\n <b@x>,<c\r\n @x> (note)"), ["a@x", "b@x", "c@x"]);
        assert_eq!(ids("a@x, b@x"), ["a@x", "b@x"]);
        assert_eq!(ids("<unclosed@x <next@x>"), ["unclosed@x", "next@x"]);
        assert!(ids("").is_empty());
    }
}
