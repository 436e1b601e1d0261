//! Content-transfer-encodings (RFC 2045 §6), tolerant, streaming: the decoder holds a few bytes, whatever the size of the part.
//! The size and hash of an attachment come from the same decoder as its bytes later, so they always agree.

use crate::model::item::SliceEncoding;

/// Decodes the bytes of a slice. Tolerant: bytes outside the alphabet are skipped, a missing end is no error.
pub fn decode_slice(encoded: &[u8], encoding: SliceEncoding) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(match encoding {
        SliceEncoding::Base64 => encoded.len() / 4 * 3 + 3,
        SliceEncoding::Identity | SliceEncoding::QuotedPrintable | SliceEncoding::Uuencode => encoded.len(),
    });
    decode_into(encoded, encoding, &mut |bytes| {
        decoded.extend_from_slice(bytes);
        true
    });
    decoded
}

/// Bytes that tell whether something is base64.
const JUDGED_BYTES: usize = 4 * 1024;

/// Whether this looks like base64: plain words have stops, and spaces or letters beyond ASCII, whatever the header says of them.
pub fn may_be_base64(encoded: &[u8]) -> bool {
    let judged = encoded.get(..JUDGED_BYTES).unwrap_or(encoded);
    let (mut all, mut foreign, mut words) = (0usize, 0usize, false);
    for line in judged.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        all += line.len();
        foreign += line.iter().filter(|byte| !byte.is_ascii_alphanumeric() && !b"+/=".contains(byte)).count();
        words |= line.iter().any(|byte| *byte == b' ' || !byte.is_ascii());
    }
    foreign * 16 <= all || !words
}

/// Decodes piece by piece into `sink`, until it says false.
pub fn decode_into(encoded: &[u8], encoding: SliceEncoding, sink: &mut dyn FnMut(&[u8]) -> bool) {
    match encoding {
        SliceEncoding::Identity => {
            sink(encoded);
        }
        SliceEncoding::Base64 => {
            let mut decoder = Base64::new();
            if decoder.feed(encoded, sink) {
                decoder.finish(sink);
            }
        }
        SliceEncoding::QuotedPrintable => quoted_printable_into(encoded, sink),
        SliceEncoding::Uuencode => uuencode_into(encoded, sink),
    }
}

/// Decodes a slice that comes in pieces: the same bytes as [`decode_into`] gives for the whole.
pub struct Decoder {
    encoding: SliceEncoding,
    base64: Base64,
    /// What cannot be decoded before more has come.
    held: Vec<u8>,
}

/// A quoted-printable line that is longer is taken in parts.
const HELD_BYTES_MAX: usize = 64 * 1024;

impl Decoder {
    /// For a slice of this encoding.
    pub fn new(encoding: SliceEncoding) -> Self {
        Self { encoding, base64: Base64::new(), held: Vec::new() }
    }

    /// Decodes what can be.
    pub fn feed(&mut self, encoded: &[u8], sink: &mut dyn FnMut(&[u8]) -> bool) {
        match self.encoding {
            SliceEncoding::Identity => {
                sink(encoded);
            }
            SliceEncoding::Base64 => {
                self.base64.feed(encoded, sink);
            }
            SliceEncoding::QuotedPrintable => {
                self.held.extend_from_slice(encoded);
                let end = memchr::memrchr(b'\n', &self.held).map(|at| at + 1);
                if let Some(end) = end.or_else(|| safe_cut(&self.held)) {
                    quoted_printable_into(self.held.get(..end).unwrap_or_default(), sink);
                    self.held.drain(..end);
                }
            }
            // Where it begins decides whether it is one at all. Nobody has sent large ones for decades: it is held whole.
            SliceEncoding::Uuencode => self.held.extend_from_slice(encoded),
        }
    }

    /// Decodes the rest.
    pub fn finish(self, sink: &mut dyn FnMut(&[u8]) -> bool) {
        match self.encoding {
            SliceEncoding::Identity => {}
            SliceEncoding::Base64 => self.base64.finish(sink),
            SliceEncoding::QuotedPrintable => quoted_printable_into(&self.held, sink),
            SliceEncoding::Uuencode => uuencode_into(&self.held, sink),
        }
    }
}

/// Where a long line may be cut so that both parts decode to what the whole does: not behind white space, which may end the line, and
/// not inside an escape.
fn safe_cut(line: &[u8]) -> Option<usize> {
    if line.len() < HELD_BYTES_MAX {
        return None;
    }
    let plain = |at: &usize| {
        let (before, one) = (line.get(at.wrapping_sub(2)), line.get(at.wrapping_sub(1)));
        before.is_some_and(|byte| *byte != b'=') && one.is_some_and(|byte| *byte != b'=' && !byte.is_ascii_whitespace())
    };
    (2..=line.len()).rev().find(plain)
}

/// What stands between `begin` and `end`; without a `begin` it is no uuencode, whatever the header says.
fn uuencode_into(encoded: &[u8], sink: &mut dyn FnMut(&[u8]) -> bool) {
    let begins = |at: &usize| *at == 0 || encoded.get(at - 1) == Some(&b'\n');
    let Some(start) = memchr::memmem::find_iter(encoded, b"begin ").find(begins) else {
        sink(encoded);
        return;
    };
    let lines = encoded.get(start..).unwrap_or_default().split(|byte| *byte == b'\n').skip(1);
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line)).take_while(|line| *line != b"end");
    line_by_line(lines, uuencode_line, sink);
}

fn uuencode_line(line: &[u8], piece: &mut Vec<u8>) {
    let Some((length, digits)) = line.split_first() else { return };
    let digit = |byte: Option<&u8>| u32::from(byte.copied().unwrap_or(b' ').wrapping_sub(b' ') & 0x3f);
    let mut left = usize::from(length.wrapping_sub(b' ') & 0x3f);
    for group in digits.chunks(4) {
        let bits = digit(group.first()) << 18 | digit(group.get(1)) << 12 | digit(group.get(2)) << 6 | digit(group.get(3));
        let [_, x, y, z] = bits.to_be_bytes();
        piece.extend([x, y, z].iter().take(left));
        left = left.saturating_sub(3);
    }
}

/// Decodes lines into pieces, and hands over each piece that is full, and the last.
fn line_by_line<'a>(lines: impl Iterator<Item = &'a [u8]>, decode: fn(&[u8], &mut Vec<u8>), sink: &mut dyn FnMut(&[u8]) -> bool) {
    let mut piece = Vec::with_capacity(PIECE_BYTES + 1024);
    for line in lines {
        decode(line, &mut piece);
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

/// Bytes handed to the sink at once: large enough for the hash to run at full speed, small enough for any stack.
const PIECE_BYTES: usize = 6 * 1024;

/// Not in the alphabet: skipped.
const SKIP: u32 = 1 << 24;
/// `=`: ends a group.
const PAD: u32 = 1 << 25;

/// What a digit adds to its group of 24 bits, by its place in the group.
type Digits = [u32; 256];

static FIRST: Digits = digits(18);
static SECOND: Digits = digits(12);
static THIRD: Digits = digits(6);
static FOURTH: Digits = digits(0);

const fn digits(shift: u32) -> Digits {
    let mut table = [SKIP; 256];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut place = 0;
    #[allow(clippy::indexing_slicing)] // evaluated by the compiler: it cannot fail at run time
    while place < 64 {
        table[alphabet[place] as usize] = (place as u32) << shift;
        place += 1;
    }
    #[allow(clippy::indexing_slicing)]
    {
        table[b'=' as usize] = PAD;
    }
    table
}

fn value_of(byte: u8, table: &Digits) -> u32 {
    table.get(usize::from(byte)).copied().unwrap_or(SKIP)
}

/// Decodes base64 that comes in pieces.
struct Base64 {
    piece: Vec<u8>,
    filled: usize,
    group: u32,
    count: u8,
    /// Padding was the last that came.
    padded: bool,
    /// The rest of the line are words.
    words: bool,
}

impl Base64 {
    fn new() -> Self {
        Self { piece: Vec::new(), filled: 0, group: 0, count: 0, padded: false, words: false }
    }

    /// Decodes what came; false if the sink wants no more.
    fn feed(&mut self, encoded: &[u8], sink: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.piece.resize(PIECE_BYTES, 0);
        let mut rest = encoded;
        loop {
            // Padding ends a group, not the part: some mailers encode each line or chunk on its own. Words behind it are no digits.
            if std::mem::take(&mut self.padded) {
                self.padded = rest.is_empty();
                self.words = matches!(rest.first(), Some(b' ' | b'\t'));
            }
            if self.words {
                let end = memchr::memchr(b'\n', rest);
                self.words = end.is_none();
                rest = end.and_then(|at| rest.get(at..)).unwrap_or_default();
            }
            if self.count == 0 {
                let read = whole_groups(rest, self.piece.get_mut(self.filled..).unwrap_or_default());
                rest = rest.get(read * 4..).unwrap_or_default();
                self.filled += read * 3;
            }
            // What stopped it: a line end, padding, the end, or a full piece.
            if !self.make_room(sink) {
                return false;
            }
            let Some((&byte, tail)) = rest.split_first() else { return true };
            rest = tail;
            match value_of(byte, &FOURTH) {
                SKIP => {}
                PAD => {
                    self.end_group();
                    self.padded = true;
                }
                value => {
                    self.group = self.group << 6 | value;
                    self.count += 1;
                    if self.count == 4 {
                        self.end_group();
                    }
                }
            }
        }
    }

    fn finish(mut self, sink: &mut dyn FnMut(&[u8]) -> bool) {
        self.piece.resize(PIECE_BYTES, 0);
        if !self.make_room(sink) {
            return;
        }
        self.end_group();
        if self.filled > 0 {
            sink(self.piece.get(..self.filled).unwrap_or_default());
        }
    }

    /// Room for one group more; false if the sink wants no more.
    fn make_room(&mut self, sink: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        if self.filled + 3 <= PIECE_BYTES {
            return true;
        }
        sink(self.piece.get(..std::mem::take(&mut self.filled)).unwrap_or_default())
    }

    fn end_group(&mut self) {
        self.filled += flush_group(self.group, self.count, self.piece.get_mut(self.filled..).unwrap_or_default());
        (self.group, self.count) = (0, 0);
    }
}

/// Decodes groups of four digits from the start of `encoded` as long as there is nothing between them: nearly every group of a
/// real mail. How many groups it were.
fn whole_groups(encoded: &[u8], into: &mut [u8]) -> usize {
    let mut groups = 0;
    for (&[a, b, c, d], slot) in encoded.as_chunks::<4>().0.iter().zip(into.as_chunks_mut::<3>().0) {
        let group = value_of(a, &FIRST) | value_of(b, &SECOND) | value_of(c, &THIRD) | value_of(d, &FOURTH);
        if group >= SKIP {
            break;
        }
        let [_, x, y, z] = group.to_be_bytes();
        *slot = [x, y, z];
        groups += 1;
    }
    groups
}

/// Writes the whole bytes of a group of up to four digits; how many it were.
fn flush_group(group: u32, digits: u8, into: &mut [u8]) -> usize {
    let bytes = (group << (6 * u32::from(4u8.saturating_sub(digits)))).to_be_bytes();
    let whole = usize::from(digits) * 6 / 8;
    for (slot, byte) in into.iter_mut().zip(bytes.iter().skip(1).take(whole)) {
        *slot = *byte;
    }
    whole
}

fn quoted_printable_into(encoded: &[u8], sink: &mut dyn FnMut(&[u8]) -> bool) {
    let mut rest = encoded;
    let lines = std::iter::from_fn(|| {
        let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        let (line, tail) = rest.split_at(end.min(rest.len()));
        rest = tail;
        (!line.is_empty()).then_some(line)
    });
    line_by_line(lines, quoted_printable_line, sink);
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
    fn words_are_no_base64() {
        assert!(may_be_base64(b"R3LDvMOfZQ==\r\n  R3LDvMOfZQ==  \r\n"));
        assert!(may_be_base64(b"") && may_be_base64(b"R3LDvMOfZSBhdXMgS8O2bG4sIGJpdHRlIHBy!w7xmZW4="));
        assert!(may_be_base64(b"SGFs!bG8\n-gV2VsdA=="), "what a line was broken by");
        assert!(!may_be_base64(b"These are words, and nobody encoded them."));
        assert!(!may_be_base64("您好".as_bytes()));
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
    fn uuencode_is_read_between_begin_and_end() {
        check("note\r\nbegin 644 a.txt\r\n%2&%L;&\\\r\n`\r\nend\r\nmore", SliceEncoding::Uuencode, "Hallo");
        check("As it stands.", SliceEncoding::Uuencode, "As it stands.");
    }

    #[test]
    fn a_slice_that_comes_in_pieces_decodes_to_the_same() {
        let long = "lang=C3=BC und breit =\r\n".repeat(50) + &"x =41=\t ".repeat(20_000) + "\r\nend  ";
        let base64 = "SGFs\r\nbG8=  words SGFs\r\nSGE=\r\n".repeat(40) + "SGFsbG8";
        let wrapped = "note\r\nbegin 644 a.txt\r\n%2&%L;&\\\r\n`\r\nend\r\nmore";
        for (encoded, encoding) in [
            (long.as_str(), SliceEncoding::QuotedPrintable),
            (&base64, SliceEncoding::Base64),
            (wrapped, SliceEncoding::Uuencode),
            (&long, SliceEncoding::Identity),
        ] {
            let whole = decode_slice(encoded.as_bytes(), encoding);
            for size in [1, 2, 3, 5, 77, 1000, 70_000] {
                let (mut decoder, mut joined) = (Decoder::new(encoding), Vec::new());
                let mut sink = |piece: &[u8]| {
                    joined.extend_from_slice(piece);
                    true
                };
                encoded.as_bytes().chunks(size).for_each(|piece| decoder.feed(piece, &mut sink));
                decoder.finish(&mut sink);
                assert!(joined == whole, "{encoding:?} in pieces of {size}");
            }
        }
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
