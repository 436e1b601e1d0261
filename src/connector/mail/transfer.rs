//! Content-transfer-encodings (RFC 2045 §6), tolerant, streaming: the decoder holds a few bytes, whatever the size of the part.
//! The size and hash of an attachment come from the same decoder as its bytes later, so they always agree.

use crate::model::item::SliceEncoding;

/// Decodes the bytes of a slice. Tolerant: bytes outside the alphabet are skipped, a missing end is no error.
pub fn decode_slice(encoded: &[u8], encoding: SliceEncoding) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(match encoding {
        SliceEncoding::Base64 => encoded.len() / 4 * 3 + 3,
        SliceEncoding::Identity | SliceEncoding::QuotedPrintable => encoded.len(),
    });
    decode_into(encoded, encoding, &mut |bytes| {
        decoded.extend_from_slice(bytes);
        true
    });
    decoded
}

/// Decodes piece by piece into `sink`, until it says false.
pub fn decode_into(encoded: &[u8], encoding: SliceEncoding, sink: &mut dyn FnMut(&[u8]) -> bool) {
    match encoding {
        SliceEncoding::Identity => {
            sink(encoded);
        }
        SliceEncoding::Base64 => base64_into(encoded, sink),
        SliceEncoding::QuotedPrintable => quoted_printable_into(encoded, sink),
    }
}

/// Bytes handed to the sink at once: large enough for the hash to run at full speed, small enough for any stack.
const PIECE_BYTES: usize = 6 * 1024;

/// 64: not in the alphabet, skipped. 65: padding.
const SKIP: u8 = 64;
const PAD: u8 = 65;

const BASE64: [u8; 256] = base64_table();

const fn base64_table() -> [u8; 256] {
    let mut table = [SKIP; 256];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut place = 0;
    #[allow(clippy::indexing_slicing)] // evaluated by the compiler: it cannot fail at run time
    while place < 64 {
        table[alphabet[place] as usize] = place as u8;
        place += 1;
    }
    #[allow(clippy::indexing_slicing)]
    {
        table[b'=' as usize] = PAD;
    }
    table
}

fn value_of(byte: u8) -> u8 {
    BASE64.get(usize::from(byte)).copied().unwrap_or(SKIP)
}

fn base64_into(encoded: &[u8], sink: &mut dyn FnMut(&[u8]) -> bool) {
    let mut piece = Vec::with_capacity(PIECE_BYTES + 3);
    let (mut group, mut digits) = (0u32, 0u8);
    let mut rest = encoded;
    loop {
        // The quick way: four digits of the alphabet in a row, which is nearly every group of a real mail.
        while let Some((&[a, b, c, d], tail)) = rest.split_first_chunk::<4>() {
            let (a, b, c, d) = (value_of(a), value_of(b), value_of(c), value_of(d));
            if digits != 0 || (a | b | c | d) >= SKIP {
                break;
            }
            let [_, x, y, z] = (u32::from(a) << 18 | u32::from(b) << 12 | u32::from(c) << 6 | u32::from(d)).to_be_bytes();
            piece.extend_from_slice(&[x, y, z]);
            rest = tail;
            if piece.len() >= PIECE_BYTES {
                if !sink(&piece) {
                    return;
                }
                piece.clear();
            }
        }
        let Some((&byte, tail)) = rest.split_first() else { break };
        rest = tail;
        match value_of(byte) {
            SKIP => {}
            // Padding ends a group, not the part: some mailers encode each line or chunk on its own.
            PAD => {
                flush_group(group, digits, &mut piece);
                (group, digits) = (0, 0);
            }
            value => {
                group = group << 6 | u32::from(value);
                digits += 1;
                if digits == 4 {
                    flush_group(group, digits, &mut piece);
                    (group, digits) = (0, 0);
                }
            }
        }
        if piece.len() >= PIECE_BYTES {
            if !sink(&piece) {
                return;
            }
            piece.clear();
        }
    }
    flush_group(group, digits, &mut piece);
    if !piece.is_empty() {
        sink(&piece);
    }
}

fn flush_group(group: u32, digits: u8, piece: &mut Vec<u8>) {
    let bytes = (group << (6 * u32::from(4u8.saturating_sub(digits)))).to_be_bytes();
    let whole = usize::from(digits) * 6 / 8;
    piece.extend(bytes.iter().skip(1).take(whole));
}

fn quoted_printable_into(encoded: &[u8], sink: &mut dyn FnMut(&[u8]) -> bool) {
    let mut piece = Vec::with_capacity(PIECE_BYTES + 1024);
    let mut rest = encoded;
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        let (line, tail) = rest.split_at(end.min(rest.len()));
        rest = tail;
        quoted_printable_line(line, &mut piece);
        if piece.len() >= PIECE_BYTES {
            if !sink(&piece) {
                return;
            }
            piece.clear();
        }
    }
    if !piece.is_empty() {
        sink(&piece);
    }
}

fn quoted_printable_line(line: &[u8], piece: &mut Vec<u8>) {
    let (content, end) = match line {
        [content @ .., b'\r', b'\n'] => (content, &b"\r\n"[..]),
        [content @ .., b'\n'] => (content, &b"\n"[..]),
        content => (content, &b""[..]),
    };
    // RFC 2045 §6.7 (3): white space at the end of a line was added on the way.
    let content = content.trim_ascii_end();
    let (content, end) = match content {
        [content @ .., b'='] => (content, &b""[..]),
        content => (content, end),
    };
    let mut rest = content;
    while let Some(at) = memchr::memchr(b'=', rest) {
        let (plain, tail) = rest.split_at(at);
        piece.extend_from_slice(plain);
        match tail {
            [_, high, low, after @ ..] => {
                if let (Some(high), Some(low)) = (hex(*high), hex(*low)) {
                    piece.push(high << 4 | low);
                    rest = after;
                } else {
                    // Not an escape: kept as it stands, as every reader of mail does.
                    piece.push(b'=');
                    rest = tail.get(1..).unwrap_or_default();
                }
            }
            _ => {
                piece.extend_from_slice(tail);
                rest = &[];
            }
        }
    }
    piece.extend_from_slice(rest);
    piece.extend_from_slice(end);
}

pub(crate) fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(encoded: &str, encoding: SliceEncoding, expected: &str) {
        assert_eq!(String::from_utf8_lossy(&decode_slice(encoded.as_bytes(), encoding)), expected);
    }

    #[test]
    fn base64_skips_what_is_not_in_the_alphabet() {
        check("SGFs\r\nbG8s\r\n IFdl!bHQ=\r\n", SliceEncoding::Base64, "Hallo, Welt");
    }

    #[test]
    fn base64_without_padding_gives_all_whole_bytes() {
        check("SGFsbG8", SliceEncoding::Base64, "Hallo");
    }

    #[test]
    fn base64_goes_on_after_padding() {
        check("SGE=\r\nbGxv\r\n", SliceEncoding::Base64, "Hallo");
    }

    #[test]
    fn quoted_printable_joins_soft_breaks_and_keeps_broken_escapes() {
        check("Gr=C3=\r\n=BC=C3=9Fe  \r\n100=% =\r\n", SliceEncoding::QuotedPrintable, "Grüße\r\n100=% ");
    }

    #[test]
    fn long_parts_come_in_pieces_that_join_to_the_whole() {
        let plain: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
        use base64::Engine;
        let encoded = base64::engine::general_purpose::STANDARD.encode(&plain);
        let mut pieces = 0;
        let mut joined = Vec::new();
        decode_into(encoded.as_bytes(), SliceEncoding::Base64, &mut |piece| {
            pieces += 1;
            joined.extend_from_slice(piece);
            true
        });
        assert!(pieces > 10);
        assert_eq!(joined, plain);
    }
}
