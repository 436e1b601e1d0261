//! Dialects: what a customer wrote, in the language of a ticket system, so that it shows as she wrote it and does nothing there:
//! no mention, no reference, no quick action, no macro.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::connector::html::from_text;

/// The language of a system's texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// As it is.
    Plain,
    /// HTML; what an author wrote in HTML stays so, sanitised.
    Html,
    /// Markdown (GitHub, GitLab, Linear).
    Markdown,
    /// Textile and CommonMark as Redmine reads them.
    Redmine,
    /// Jira's wiki markup.
    JiraWiki,
}

/// Joins two letters without being seen: what it stands in is no longer a word of the language (U+2060).
const JOINER: char = '\u{2060}';

impl Dialect {
    /// A text of the customer.
    pub fn text(self, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Html => from_text(text),
            Self::Markdown => lines(text, markdown),
            Self::Redmine => lines(text, redmine),
            Self::JiraWiki => lines(text, jira),
        }
    }

    /// Words of ours, in bold where the language knows it.
    pub fn strong(self, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Html => format!("<b>{}</b>", from_text(text)),
            Self::Markdown => format!("**{}**", self.text(text)),
            Self::Redmine | Self::JiraWiki => format!("*{}*", self.text(text)),
        }
    }

    /// The break between two parts of an entry.
    pub fn break_after(self) -> &'static str {
        if self == Self::Html { "<br><br>" } else { "\n\n" }
    }

    /// The break between two lines.
    pub fn line(self) -> &'static str {
        if self == Self::Html { "<br>" } else { "\n" }
    }
}

fn lines(text: &str, escape: fn(&str, &mut String)) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            out.push('\n');
        }
        escape(line, &mut out);
    }
    out
}

/// A letter that begins a mention or a reference when a word follows: the joiner keeps them apart.
fn joined(char: char, rest: &str, out: &mut String) {
    out.push(char);
    if rest.starts_with(|next: char| next.is_alphanumeric() || next == '{' || next == '~') {
        out.push(JOINER);
    }
}

fn markdown(line: &str, out: &mut String) {
    // A quick action stands at the beginning of a line; a reference and a fence of code too.
    if line.trim_start().starts_with(['/', '[', '=', '~']) {
        out.push(JOINER);
    }
    let mut chars = line.chars();
    let mut start = true;
    while let Some(char) = chars.next() {
        match char {
            '@' | '#' | '!' | '%' | '&' | '$' if chars.as_str().starts_with(|next: char| next.is_alphanumeric()) => {
                joined(char, chars.as_str(), out);
            }
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '~' | '#' | '!' => {
                out.push('\\');
                out.push(char);
            }
            '-' | '+' | '=' if start => {
                out.push('\\');
                out.push(char);
            }
            other => out.push(other),
        }
        start &= char == ' ';
    }
}

/// Redmine reads Textile or CommonMark, as its admin chose: what both take for something is joined.
fn redmine(line: &str, out: &mut String) {
    let mut chars = line.chars().peekable();
    if line.starts_with(['*', '#', '>', '|', '-', '=', '<', ' ', '\t'])
        || line.starts_with(|char: char| char.is_ascii_alphanumeric()) && block(line)
    {
        out.push(JOINER);
    }
    while let Some(char) = chars.next() {
        out.push(char);
        let next = chars.peek().copied();
        let splits = match char {
            '{' | '[' | '<' => next == Some(char) || char == '<',
            '@' | '#' | '!' | '*' | '_' | '"' | '`' | '+' | '%' | '^' | '~' | '?' => next.is_some_and(|next| !next.is_whitespace()),
            _ => false,
        };
        if splits {
            out.push(JOINER);
        }
    }
}

/// `h1.`, `bq.`, `p.`, `1.` at the beginning of a line.
fn block(line: &str) -> bool {
    line.split_once('.').is_some_and(|(word, _)| word.len() <= 8 && word.chars().all(|char| char.is_ascii_alphanumeric()))
}

fn jira(line: &str, out: &mut String) {
    if line.starts_with(['#', '-', '*']) || line.starts_with("bq.") || (line.starts_with('h') && block(line)) {
        out.push(JOINER);
    }
    for char in line.chars() {
        if matches!(char, '\\' | '{' | '}' | '[' | ']' | '*' | '_' | '-' | '+' | '^' | '~' | '?' | '!' | '|' | '@') {
            out.push('\\');
        }
        out.push(char);
    }
}
