//! RTF to the HTML or text that it was made of (MS-OXRTFEX), or to its text. Outlook wraps every body this way in `winmail.dat`.
//!
//! One pass, no recursion, nothing trusted: groups are counted on a bounded stack, output is bounded, and what is no text (fonts,
//! pictures, objects) is left out.

use std::collections::BTreeMap;

use encoding_rs::Encoding;

/// Deepest nesting that is told apart; deeper groups share the last state.
const DEPTH_MAX: usize = 500;
/// Fonts whose charset is remembered.
const FONTS_MAX: usize = 1_000;
/// Longest output.
const OUT_BYTES_MAX: usize = 2 * 1024 * 1024;

/// What an RTF was made of.
#[derive(Debug, PartialEq, Eq)]
pub enum Made {
    /// HTML, as the author's program wrote it.
    Html(String),
    /// Text.
    Text(String),
}

/// Takes an RTF apart; `None`: it is none, or says nothing.
pub fn read(rtf: &[u8]) -> Option<Made> {
    let head = rtf.get(..rtf.len().min(1024))?;
    if !head.trim_ascii_start().starts_with(b"{\\rtf") {
        return None;
    }
    // MS-OXRTFEX §2.1.3.1: it stands among the first control words.
    let html = memchr::memmem::find(head, b"\\fromhtml1").is_some();
    let mut pass = Pass::new(html);
    pass.run(rtf);
    pass.flush();
    let text = pass.out;
    if text.trim().is_empty() {
        return None;
    }
    Some(if html { Made::Html(text) } else { Made::Text(text) })
}

/// What a group inherits and gives back at its end.
#[derive(Clone, Copy)]
struct State {
    /// Nothing of it is text.
    skipped: bool,
    /// The part that only RTF readers show.
    rtf_only: bool,
    /// It names fonts.
    fonts: bool,
    encoding: &'static Encoding,
    /// Characters behind `\u` that stand in for it.
    stand_ins: usize,
}

struct Pass {
    html: bool,
    out: String,
    /// Bytes of the current encoding that were not decoded yet.
    bytes: Vec<u8>,
    state: State,
    stack: Vec<State>,
    /// Groups beyond the stack.
    deeper: usize,
    fonts: BTreeMap<i32, &'static Encoding>,
    font: i32,
    default: &'static Encoding,
    /// The next control word names a destination that may be left out.
    optional: bool,
    /// Stand-ins still to be left out.
    leave_out: usize,
    /// First half of a character in two.
    high: Option<u16>,
}

impl Pass {
    fn new(html: bool) -> Self {
        let encoding = encoding_rs::WINDOWS_1252;
        let state = State { skipped: false, rtf_only: false, fonts: false, encoding, stand_ins: 1 };
        Self {
            html,
            out: String::new(),
            bytes: Vec::new(),
            state,
            stack: Vec::new(),
            deeper: 0,
            fonts: BTreeMap::new(),
            font: 0,
            default: encoding,
            optional: false,
            leave_out: 0,
            high: None,
        }
    }

    fn run(&mut self, rtf: &[u8]) {
        let mut rest = rtf;
        while let Some((first, behind)) = rest.split_first() {
            if self.out.len() + self.bytes.len() > OUT_BYTES_MAX {
                return;
            }
            rest = match first {
                b'{' => self.open(behind),
                b'}' => self.close(behind),
                b'\\' => self.control(behind),
                b'\r' | b'\n' => behind,
                byte => {
                    self.byte(*byte);
                    behind
                }
            };
        }
    }

    fn open<'a>(&mut self, behind: &'a [u8]) -> &'a [u8] {
        self.flush();
        self.leave_out = 0;
        if self.stack.len() < DEPTH_MAX {
            self.stack.push(self.state)
        } else {
            self.deeper += 1
        }
        behind
    }

    fn close<'a>(&mut self, behind: &'a [u8]) -> &'a [u8] {
        self.flush();
        (self.leave_out, self.optional) = (0, false);
        if self.deeper > 0 {
            self.deeper -= 1;
        } else if let Some(state) = self.stack.pop() {
            self.state = state;
        }
        behind
    }

    fn control<'a>(&mut self, behind: &'a [u8]) -> &'a [u8] {
        let letters = behind.iter().take(32).take_while(|byte| byte.is_ascii_alphabetic()).count();
        if letters == 0 {
            return self.symbol(behind);
        }
        let (word, mut rest) = behind.split_at(letters);
        let digits = rest.iter().enumerate().take(11).take_while(|(n, byte)| byte.is_ascii_digit() || *n == 0 && **byte == b'-').count();
        let (number, behind) = rest.split_at(digits);
        let number: Option<i32> = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
        rest = behind.strip_prefix(b" ").unwrap_or(behind);
        if word == b"bin" {
            return rest.get(usize::try_from(number.unwrap_or(0)).unwrap_or(0)..).unwrap_or_default();
        }
        let optional = std::mem::take(&mut self.optional);
        self.word(word, number, optional);
        rest
    }

    /// `\'e4` and the words of one character.
    fn symbol<'a>(&mut self, behind: &'a [u8]) -> &'a [u8] {
        let Some((first, rest)) = behind.split_first() else { return behind };
        match first {
            b'\'' => {
                let digit = |at: usize| rest.get(at).and_then(|byte| char::from(*byte).to_digit(16));
                if let (Some(high), Some(low)) = (digit(0), digit(1)) {
                    self.byte((high * 16 + low) as u8);
                }
                return rest.get(2..).unwrap_or_default();
            }
            b'*' => self.optional = true,
            b'~' => self.said(if self.html { "&nbsp;" } else { "\u{a0}" }),
            b'_' => self.said(if self.html { "&shy;" } else { "-" }),
            b'\\' | b'{' | b'}' => self.byte(*first),
            b'\r' | b'\n' => self.said("\n"),
            _ => {}
        }
        rest
    }

    fn word(&mut self, word: &[u8], number: Option<i32>, optional: bool) {
        match word {
            // A piece of the original, wherever it stands.
            b"htmltag" if optional => self.state = State { rtf_only: false, ..self.state },
            b"htmlrtf" => {
                self.flush();
                self.state.rtf_only = self.html && number != Some(0);
            }
            b"fonttbl" => self.state.fonts = true,
            b"colortbl" | b"stylesheet" | b"info" | b"pict" | b"object" | b"header" | b"footer" | b"headerl" | b"headerr" | b"headerf"
            | b"footerl" | b"footerr" | b"footerf" | b"ftnsep" | b"aftnsep" | b"xe" | b"tc" | b"themedata" | b"datastore" => {
                self.state.skipped = true;
            }
            _ if optional => self.state.skipped = true,
            b"ansicpg" => {
                self.default = page(number.unwrap_or(0));
                self.turn(self.default);
            }
            b"f" => self.font(number.unwrap_or(0)),
            b"fcharset" if self.state.fonts && self.fonts.len() < FONTS_MAX => {
                self.fonts.insert(self.font, charset(number.unwrap_or(0)).unwrap_or(self.default));
            }
            b"plain" => self.turn(self.default),
            b"uc" => self.state.stand_ins = usize::try_from(number.unwrap_or(1)).unwrap_or(1).min(16),
            b"u" => self.unicode(number.unwrap_or(0)),
            b"par" | b"line" | b"sect" | b"page" | b"row" => self.said("\n"),
            b"tab" | b"cell" => self.said("\t"),
            b"lquote" => self.character('\u{2018}'),
            b"rquote" => self.character('\u{2019}'),
            b"ldblquote" => self.character('\u{201c}'),
            b"rdblquote" => self.character('\u{201d}'),
            b"bullet" => self.character('\u{2022}'),
            b"endash" => self.character('\u{2013}'),
            b"emdash" => self.character('\u{2014}'),
            _ => {}
        }
    }

    /// In the table: the font that is described. Elsewhere: the font of what follows, and with it the encoding.
    fn font(&mut self, number: i32) {
        if self.state.fonts {
            self.font = number;
            return;
        }
        let encoding = self.fonts.get(&number).copied().unwrap_or(self.default);
        self.turn(encoding);
    }

    fn turn(&mut self, encoding: &'static Encoding) {
        if self.state.encoding != encoding {
            self.flush();
            self.state.encoding = encoding;
        }
    }

    /// RTF 1.9: the number is signed 16 bits, characters beyond come in two.
    fn unicode(&mut self, number: i32) {
        self.leave_out = self.state.stand_ins;
        let unit = (number & 0xffff) as u16;
        let both = match self.high.take() {
            Some(high) => char::decode_utf16([high, unit]).next().and_then(Result::ok),
            None => None,
        };
        if (0xd800..0xdc00).contains(&unit) {
            self.high = Some(unit);
        } else if let Some(c) = both.or(char::from_u32(u32::from(unit))) {
            self.flush();
            if self.shown() {
                self.out.push(c);
            }
        }
    }

    fn shown(&self) -> bool {
        !self.state.skipped && !self.state.fonts && !self.state.rtf_only
    }

    fn byte(&mut self, byte: u8) {
        if self.leave_out > 0 {
            self.leave_out -= 1;
        } else if self.shown() {
            self.bytes.push(byte);
        }
    }

    fn character(&mut self, c: char) {
        self.said(c.encode_utf8(&mut [0; 4]));
    }

    fn said(&mut self, text: &str) {
        self.flush();
        if self.leave_out > 0 {
            self.leave_out -= 1;
        } else if self.shown() {
            self.out.push_str(text);
        }
    }

    fn flush(&mut self) {
        if !self.bytes.is_empty() {
            let text = self.state.encoding.decode_without_bom_handling(&self.bytes).0;
            self.out.push_str(&text.replace('\0', ""));
            self.bytes.clear();
        }
    }
}

/// A code page of Windows by its number.
pub fn page(number: i32) -> &'static Encoding {
    let label = match number {
        65001 => "utf-8",
        932 => "shift_jis",
        936 | 54936 => "gb18030",
        949 => "euc-kr",
        950 => "big5",
        874 => "windows-874",
        866 => "ibm866",
        10000 => "macintosh",
        20866 => "koi8-r",
        21866 => "koi8-u",
        50220..=50222 => "iso-2022-jp",
        51932 => "euc-jp",
        28592 => "iso-8859-2",
        28595 => "iso-8859-5",
        28597 => "iso-8859-7",
        28605 => "iso-8859-15",
        1250 => "windows-1250",
        1251 => "windows-1251",
        1253 => "windows-1253",
        1254 => "windows-1254",
        1255 => "windows-1255",
        1256 => "windows-1256",
        1257 => "windows-1257",
        1258 => "windows-1258",
        _ => "windows-1252",
    };
    Encoding::for_label(label.as_bytes()).unwrap_or(encoding_rs::WINDOWS_1252)
}

/// A charset of a font (`\fcharset`); `None`: the one of the document.
fn charset(number: i32) -> Option<&'static Encoding> {
    let number = match number {
        0 => 1252,
        77 => 10000,
        128 => 932,
        129 => 949,
        134 => 936,
        136 => 950,
        161 => 1253,
        162 => 1254,
        163 => 1258,
        177 => 1255,
        178 => 1256,
        186 => 1257,
        204 => 1251,
        222 => 874,
        238 => 1250,
        _ => return None,
    };
    Some(page(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rtf: &str, expected: Option<Made>) {
        assert_eq!(read(rtf.as_bytes()), expected);
    }

    #[test]
    fn html_inside_is_taken_out_again() {
        // The example of MS-OXRTFEX §4.1, shortened.
        check(
            "{\\rtf1\\ANSI\\ansicpg1251\\fromhtml1 \\deff0\r\n{\\fonttbl {\\f0\\fmodern Courier New;}{\\f1\\fswiss\\fcharset204 Arial;}}\r\n\
             {\\colortbl\\red0\\green0\\blue0;}\r\n{\\*\\htmltag64}\r\n\\uc1\\pard\\plain\\deftab360 \\f0\\fs24\r\n{\\*\\htmltag19 <HTML>}\r\n\
             {\\*\\htmltag51 <BODY>}{\\*\\htmltag96 <P>}\\htmlrtf {\\par \\htmlrtf0 \\f1 \\'cf\\'f0\\'e8 &amp; so {\\*\\htmltag84 &lt;}\\htmlrtf <\\htmlrtf0 x\
             {\\*\\htmltag104 </P>}\\htmlrtf }\\htmlrtf0 {\\*\\mhtmltag y}\\u8364 ?{\\*\\htmltag58 </BODY>}}",
            Some(Made::Html("<HTML><BODY><P>При &amp; so &lt;x</P>€</BODY>".to_owned())),
        );
    }

    #[test]
    fn text_of_any_rtf_is_read() {
        check(
            "{\\rtf1\\ansi\\ansicpg1252\\fromtext \\deff0{\\fonttbl{\\f0 Arial;}}{\\*\\generator X;}{\\info{\\author Ana}}\\pard Gr\\'fc\\'dfe\\par \\{a\\}\\tab b\\u-10179 ?\\u-8704 ?{\\pict 00ff}{\\b c}}",
            Some(Made::Text("Grüße\n{a}\tb😀c".to_owned())),
        );
        check("{\\rtf1 {\\*\\unknown x}}", None);
        check("plain", None);
        check("", None);
    }

    #[test]
    fn whatever_is_broken_ends_without_harm() {
        let deep = format!("{{\\rtf1 a{}b", "{".repeat(100_000));
        assert!(read(deep.as_bytes()).is_some());
        let closed = format!("{{\\rtf1 a{}b", "}".repeat(100_000));
        assert!(read(closed.as_bytes()).is_some());
        for odd in [
            "{\\rtf1\\",
            "{\\rtf1\\'",
            "{\\rtf1\\'f",
            "{\\rtf1\\bin99999999999 x",
            "{\\rtf1\\bin-5 x",
            "{\\rtf1\\u",
            "{\\rtf1\\u-99999999999 ",
            "{\\rtf1\\f-1\\fcharset x",
        ] {
            let _ = read(odd.as_bytes());
        }
        let fonts: String = (0..5_000).map(|n| format!("{{\\f{n}\\fcharset204 x;}}")).collect();
        let turns = "\\f4999 x".repeat(20_000);
        let start = std::time::Instant::now();
        let _ = read(format!("{{\\rtf1{{\\fonttbl{fonts}}}{turns}}}").as_bytes());
        assert!(start.elapsed() < std::time::Duration::from_secs(5));
    }
}
