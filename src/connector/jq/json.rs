//! JSON text ↔ values. Reads untrusted text: the depth is counted before it can reach the stack, integers of any length
//! keep their digits, invalid UTF-8 and lone surrogates are refused or replaced, never passed on.

use std::rc::Rc;

use serde_json::Value;

use crate::connector::jq::fuel;
use crate::connector::jq::share::{Members, Text};
use crate::connector::jq::val::Val;

/// Why a text is no JSON for us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// At this byte.
    Syntax(usize),
    /// Nested deeper than the limit.
    Deep,
}

struct Reader<'a> {
    /// What all strings without escapes are parts of.
    shared: &'a Rc<str>,
    whole: &'a [u8],
    at: usize,
    left: usize,
}

/// Reads one JSON text.
///
/// # Errors
/// See [`Wrong`].
pub fn read(bytes: &[u8], depth_max: usize) -> Result<Val, Wrong> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let shared: Rc<str> = Rc::from(std::str::from_utf8(bytes).map_err(|error| Wrong::Syntax(error.valid_up_to()))?);
    let mut reader = Reader { shared: &shared, whole: shared.as_bytes(), at: 0, left: depth_max };
    let value = reader.value()?;
    reader.space();
    if reader.at == reader.whole.len() { Ok(value) } else { Err(Wrong::Syntax(reader.at)) }
}

/// Nesting of a JSON text by its brackets, without reading it: cheap, and as deep as any parser would go.
pub fn nesting(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest, mut quoted, mut escaped) = (0usize, 0usize, false, false);
    for byte in bytes {
        match (quoted, escaped, byte) {
            (true, true, _) => escaped = false,
            (true, false, b'\\') => escaped = true,
            (true, false, b'"') => quoted = false,
            (true, ..) => {}
            (false, _, b'"') => quoted = true,
            (false, _, b'[' | b'{') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (false, _, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// A number as JSON writes it (also `.5` and `1.` as jq programs do).
pub fn number(text: &[u8]) -> Option<Val> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(text.parse().map_or_else(|_| Val::Big(Text::from(text)), Val::Int));
    }
    let value: f64 = text.parse().ok()?;
    value.is_finite().then_some(Val::Float(value))
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.whole.get(self.at).copied()
    }

    fn wrong<T>(&self) -> Result<T, Wrong> {
        Err(Wrong::Syntax(self.at))
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Result<(), Wrong> {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        self.wrong()
    }

    fn word(&mut self, word: &str, value: Val) -> Result<Val, Wrong> {
        if self.whole.get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes())) {
            self.at += word.len();
            return Ok(value);
        }
        self.wrong()
    }

    fn value(&mut self) -> Result<Val, Wrong> {
        self.space();
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => Ok(Val::Str(self.text()?)),
            Some(b't') => self.word("true", Val::Bool(true)),
            Some(b'f') => self.word("false", Val::Bool(false)),
            Some(b'n') => self.word("null", Val::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.wrong(),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Val, Wrong>) -> Result<Val, Wrong> {
        self.left = self.left.checked_sub(1).ok_or(Wrong::Deep)?;
        self.at += 1;
        let value = read(self);
        self.left += 1;
        value
    }

    fn object(&mut self) -> Result<Val, Wrong> {
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Val::object(Members::default()));
        }
        let mut all = Vec::with_capacity(8);
        loop {
            self.space();
            let key = self.text()?;
            self.space();
            self.take(b':')?;
            let value = self.value()?;
            all.push((key, value));
            self.space();
            if self.peek() == Some(b',') {
                self.at += 1;
                continue;
            }
            self.take(b'}')?;
            return Ok(Val::object(Members::unsorted(all)));
        }
    }

    fn array(&mut self) -> Result<Val, Wrong> {
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Val::array(items));
        }
        loop {
            items.push(self.value()?);
            self.space();
            if self.peek() == Some(b',') {
                self.at += 1;
                continue;
            }
            self.take(b']')?;
            return Ok(Val::array(items));
        }
    }

    fn number(&mut self) -> Result<Val, Wrong> {
        let rest = self.whole.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|byte| !matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')).unwrap_or(rest.len());
        let text = rest.get(..length).unwrap_or_default();
        let digits = text.strip_prefix(b"-").unwrap_or(text);
        // RFC 8259 §6: no leading zeros, a digit on both sides of the point.
        let shape = match digits {
            [b'0', b'0'..=b'9', ..] => false,
            [first, .., last] => {
                first.is_ascii_digit() && last.is_ascii_digit() && !digits.windows(2).any(|two| matches!(two, [b'.', b'e' | b'E']))
            }
            [only] => only.is_ascii_digit(),
            [] => false,
        };
        match number(text).filter(|_| shape) {
            Some(value) => {
                self.at += length;
                Ok(value)
            }
            None => self.wrong(),
        }
    }

    fn text(&mut self) -> Result<Text, Wrong> {
        self.take(b'"')?;
        let start = self.at;
        let rest = self.whole.get(start..).unwrap_or_default();
        let Some(length) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)) else { return self.wrong() };
        let plain = rest.get(..length).unwrap_or_default();
        self.at += length;
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(Text::part(self.shared, start..start + length));
        }
        let mut out = plain.to_vec();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    break;
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape(&mut out)?;
                }
                Some(byte) if byte > 0x1f => {
                    out.push(byte);
                    self.at += 1;
                }
                _ => return self.wrong(),
            }
        }
        match String::from_utf8(out) {
            Ok(text) => Ok(Text::from(text)),
            Err(_) => Err(Wrong::Syntax(start)),
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), Wrong> {
        let byte = self.peek().ok_or(Wrong::Syntax(self.at))?;
        self.at += 1;
        out.push(match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let letter = self.unicode()?;
                out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return self.wrong(),
        });
        Ok(())
    }

    fn unicode(&mut self) -> Result<char, Wrong> {
        let first = self.hex()?;
        if !(0xd800..0xe000).contains(&first) {
            return Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        // A pair of surrogates, or half of one: that half has no meaning, and losing it must not lose the message.
        let rest = self.whole.get(self.at..).unwrap_or_default();
        if first < 0xdc00 && rest.starts_with(b"\\u") {
            let back = self.at;
            self.at += 2;
            let second = self.hex()?;
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = back;
        }
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn hex(&mut self) -> Result<u32, Wrong> {
        let digits = self.whole.get(self.at..self.at + 4).ok_or(Wrong::Syntax(self.at))?;
        let mut value = 0;
        for digit in digits {
            value = value * 16 + char::from(*digit).to_digit(16).ok_or(Wrong::Syntax(self.at))?;
        }
        self.at += 4;
        Ok(value)
    }
}

/// Writes a value as JSON text. Its weight bounds the work.
pub fn write(value: &Val, out: &mut Vec<u8>) {
    match value {
        Val::Null => out.extend_from_slice(b"null"),
        Val::Bool(true) => out.extend_from_slice(b"true"),
        Val::Bool(false) => out.extend_from_slice(b"false"),
        Val::Int(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Val::Float(number) => out.extend_from_slice(float_text(*number).as_bytes()),
        Val::Big(digits) => out.extend_from_slice(digits.as_bytes()),
        Val::Str(text) => write_text(text, out),
        Val::Arr(array) => {
            out.push(b'[');
            for (index, item) in array.items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        Val::Obj(object) => {
            out.push(b'{');
            for (index, (key, item)) in object.map.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_text(key, out);
                out.push(b':');
                write(item, out);
            }
            out.push(b'}');
        }
    }
}

/// As jq writes it: whole numbers without a point, what JSON cannot say as null.
fn float_text(number: f64) -> String {
    if !number.is_finite() {
        return "null".to_owned();
    }
    if number.fract() == 0.0 && number.abs() < 1e17 {
        return format!("{number:.0}");
    }
    serde_json::Number::from_f64(number).map_or_else(|| "null".to_owned(), |number| number.to_string())
}

fn write_text(text: &Text, out: &mut Vec<u8>) {
    // Writing a string to memory cannot fail.
    let _ = serde_json::to_writer(&mut *out, text.as_str());
}

/// The JSON text of a value, paid for.
pub fn to_text(value: &Val) -> String {
    fuel::burn_bytes(value.weight());
    let mut out = Vec::new();
    write(value, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// The value as serde knows it. Integers beyond 64 bits become text: ids are text everywhere.
pub fn to_serde(value: &Val) -> Value {
    match value {
        Val::Null => Value::Null,
        Val::Bool(value) => Value::Bool(*value),
        Val::Int(number) => Value::from(*number),
        Val::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 => Value::from(*number as i64),
        Val::Float(number) => Value::from(*number),
        Val::Big(text) | Val::Str(text) => Value::String(text.as_str().to_owned()),
        Val::Arr(array) => Value::Array(array.items.iter().map(to_serde).collect()),
        Val::Obj(object) => Value::Object(object.map.iter().map(|(key, item)| (key.as_str().to_owned(), to_serde(item))).collect()),
    }
}

/// The value behind one of serde's.
pub fn from_serde(value: &Value) -> Val {
    match value {
        Value::Null => Val::Null,
        Value::Bool(value) => Val::Bool(*value),
        Value::Number(value) => value.as_i64().map(Val::Int).or_else(|| number(value.to_string().as_bytes())).unwrap_or_default(),
        Value::String(text) => Val::text(text.as_str()),
        Value::Array(items) => items.iter().map(from_serde).collect(),
        Value::Object(map) => Val::object(map.iter().map(|(key, item)| (Text::from(key.as_str()), from_serde(item))).collect()),
    }
}
