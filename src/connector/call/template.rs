//! Templates: text with named tokens, `{root.name.0}`. `{{` and `}}` are braces; `{+root.name}` is a value that is a path of several
//! segments, whose slashes stay (RFC 6570 §3.2.3).

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::connector::call::{CallError, Filling};

/// Text with tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// Path into the context.
    Value(Vec<String>),
    /// The same, of a value that is several segments of a path.
    Segments(Vec<String>),
    /// Name of a secret.
    Secret(String),
    /// The token of the call's auth.
    Token,
}

/// How values are written so that they stay what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// As it is.
    Plain,
    /// In the path of a URL: everything but unreserved characters is percent-encoded, slashes too (RFC 3986 §2.3).
    Path,
    /// A header's value: line breaks become spaces.
    Header,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it, for a person.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut chars = text.chars().peekable();
        while let Some(char) = chars.next() {
            match char {
                '{' | '}' if chars.peek() == Some(&char) => {
                    chars.next();
                    literal.push(char);
                }
                '{' => {
                    if !literal.is_empty() {
                        parts.push(Part::Literal(std::mem::take(&mut literal)));
                    }
                    let mut token = String::new();
                    loop {
                        match chars.next() {
                            Some('}') => break,
                            Some(inner) if inner.is_ascii_alphanumeric() || "_.-".contains(inner) || (inner == '+' && token.is_empty()) => {
                                token.push(inner)
                            }
                            Some(_) | None => return Err("a `{` without its `}`; a brace is written `{{`".to_owned()),
                        }
                    }
                    parts.push(part(&token)?);
                }
                '}' => return Err("a `}` without its `{`; a brace is written `}}`".to_owned()),
                other => literal.push(other),
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self(parts))
    }

    /// The paths of its tokens, secrets apart.
    pub fn paths(&self) -> impl Iterator<Item = &[String]> {
        self.0.iter().filter_map(|part| match part {
            Part::Value(path) | Part::Segments(path) => Some(path.as_slice()),
            _ => None,
        })
    }

    /// The secrets it names.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Secret(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Whether it holds the token of its call.
    pub fn names_token(&self) -> bool {
        self.0.contains(&Part::Token)
    }

    /// The literal text it begins with.
    pub fn lead(&self) -> &str {
        match self.0.first() {
            Some(Part::Literal(text)) => text,
            _ => "",
        }
    }

    /// The path of the token it begins with.
    pub fn first_path(&self) -> Option<&[String]> {
        match self.0.first() {
            Some(Part::Value(path)) => Some(path),
            _ => None,
        }
    }

    /// The value of the only token, if it is nothing else: a value that keeps its type.
    pub fn value<'v>(&self, context: &'v Value) -> Option<&'v Value> {
        match self.0.as_slice() {
            [Part::Value(path)] => Some(find(context, path)),
            _ => None,
        }
    }

    /// Whether it is one token alone whose value is null.
    pub fn is_absent(&self, context: &Value) -> bool {
        self.value(context).is_some_and(Value::is_null)
    }

    /// The text.
    ///
    /// # Errors
    /// A value is missing, or is no text.
    pub fn fill(&self, with: &Filling<'_>, position: Position) -> Result<String, CallError> {
        let mut out = String::new();
        for (at, part) in self.0.iter().enumerate() {
            match part {
                Part::Literal(text) => out.push_str(text),
                // What a URL begins with is a URL already.
                Part::Value(path) if position == Position::Path && at == 0 => out.push_str(text(with.context, path)?.trim_end_matches('/')),
                Part::Value(path) => write(&text(with.context, path)?, position, &mut out),
                Part::Segments(path) => {
                    for (number, segment) in text(with.context, path)?.split('/').enumerate() {
                        if number > 0 {
                            out.push('/');
                        }
                        write(segment, position, &mut out);
                    }
                }
                Part::Secret(name) => write(secret(with.secrets, name)?, position, &mut out),
                Part::Token => write(token(with)?, position, &mut out),
            }
        }
        Ok(out)
    }
}

fn part(token: &str) -> Result<Part, String> {
    let (token, several) = token.strip_prefix('+').map_or((token, false), |token| (token, true));
    let path: Vec<String> = token.split('.').map(str::to_owned).collect();
    if path.iter().any(String::is_empty) {
        return Err(format!("`{{{token}}}` names nothing"));
    }
    match path.as_slice() {
        [root, name] if root == "secrets" => Ok(Part::Secret(name.clone())),
        [root] if root == "token" => Ok(Part::Token),
        [root, ..] if root == "secrets" => Err(format!("`{{{token}}}`: a secret is named `{{secrets.NAME}}`")),
        _ if several => Ok(Part::Segments(path)),
        _ => Ok(Part::Value(path)),
    }
}

/// The value at a path; null if there is none.
fn find<'v>(context: &'v Value, path: &[String]) -> &'v Value {
    path.iter().fold(context, |at, name| match at {
        Value::Array(items) => name.parse::<usize>().ok().and_then(|index| items.get(index)).unwrap_or(&Value::Null),
        other => other.get(name).unwrap_or(&Value::Null),
    })
}

fn text(context: &Value, path: &[String]) -> Result<String, CallError> {
    match find(context, path) {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(bool) => Ok(bool.to_string()),
        Value::Null => Err(CallError::Missing(path.join("."))),
        Value::Array(_) | Value::Object(_) => Err(CallError::NotText(path.join("."))),
    }
}

/// The token of a call.
///
/// # Errors
/// There is none.
pub fn token<'t>(with: &'t Filling<'_>) -> Result<&'t str, CallError> {
    with.token.map(ExposeSecret::expose_secret).ok_or_else(|| CallError::Missing("token".to_owned()))
}

/// The current value of a secret.
///
/// # Errors
/// It is not set.
pub fn secret<'s>(secrets: &'s BTreeMap<String, Vec<SecretString>>, name: &str) -> Result<&'s str, CallError> {
    let current = secrets.get(name).and_then(|values| values.first());
    current.map(ExposeSecret::expose_secret).ok_or_else(|| CallError::Missing(format!("secrets.{name}")))
}

fn write(value: &str, position: Position, out: &mut String) {
    match position {
        Position::Plain => out.push_str(value),
        Position::Header => out.extend(value.chars().map(|char| if char.is_control() { ' ' } else { char })),
        // A segment of dots would lead up the path, encoded or not (RFC 3986 §5.2.4).
        Position::Path if matches!(value, "." | "..") => out.push_str("%00"),
        Position::Path => {
            for byte in value.bytes() {
                match byte {
                    b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'@' | b',' => out.push(char::from(byte)),
                    _ => {
                        out.push('%');
                        out.push_str(&format!("{byte:02X}"));
                    }
                }
            }
        }
    }
}
