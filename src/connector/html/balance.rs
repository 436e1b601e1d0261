//! Markup made plain before the sanitiser sees it: balanced, of bounded depth, without long runs of text.
//!
//! HTML parsers that follow the standard take quadratic time and memory on hostile nesting (each unclosed formatting element is
//! opened again in every paragraph). Nothing here is trusted for safety, only for size: ammonia decides what is safe.

use crate::connector::html::tokens::{Attribute, Token, Tokens, unescape};

/// Deepest nesting that is kept. Real newsletters reach about 60; deeper elements are dropped, their text stays.
const DEPTH_MAX: usize = 100;
/// Longest text without a tag, and longest attribute, that ammonia gets: html5ever writes a text with many `&` in quadratic time
/// of its length. Longer text is divided by comments, which ammonia removes; longer attributes are dropped.
const RUN_BYTES_MAX: usize = 4 * 1024;

/// Elements without an end.
const VOID: [&str; 5] = ["br", "hr", "img", "wbr", "col"];

/// Elements that may survive the sanitiser; of others only the content is written.
const KEPT: [&str; 66] = [
    "a",
    "abbr",
    "acronym",
    "article",
    "aside",
    "b",
    "bdi",
    "bdo",
    "blockquote",
    "caption",
    "center",
    "cite",
    "code",
    "colgroup",
    "dd",
    "del",
    "details",
    "dfn",
    "div",
    "dl",
    "dt",
    "em",
    "figcaption",
    "figure",
    "font",
    "footer",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hgroup",
    "i",
    "ins",
    "kbd",
    "li",
    "mark",
    "nav",
    "ol",
    "p",
    "pre",
    "q",
    "s",
    "samp",
    "section",
    "small",
    "span",
    "strike",
    "strong",
    "sub",
    "summary",
    "sup",
    "table",
    "tbody",
    "td",
    "tfoot",
    "th",
    "thead",
    "time",
    "tr",
    "tt",
    "u",
    "ul",
    "var",
];

/// Attributes that may survive it.
const ATTRIBUTES: [&str; 18] = [
    "href", "src", "alt", "title", "width", "height", "colspan", "rowspan", "align", "valign", "dir", "lang", "cite", "start", "type",
    "color", "span", "datetime",
];

/// Elements that end an open one of their kind when they begin again.
fn ends_itself(name: &str) -> bool {
    matches!(name, "p" | "a" | "dt" | "dd")
}

/// The same markup with every element closed where it must be, at most [`DEPTH_MAX`] deep, only elements and attributes that may
/// survive the sanitiser, in plain form. Ends when `max` bytes are written; the second value says so.
pub fn balance(html: &str, max: usize) -> (String, bool) {
    let mut out = String::with_capacity(html.len().min(max));
    let mut cut = false;
    let mut open: Vec<&'static str> = Vec::new();
    let mut tagged = 0;
    for token in Tokens::new(html) {
        let before = out.len();
        if before >= max {
            cut = true;
            break;
        }
        match token {
            Token::Text(text) => {
                for c in unescape(text).chars() {
                    if out.len() >= max {
                        break;
                    }
                    if out.len() > tagged + RUN_BYTES_MAX {
                        out.push_str("<!---->");
                        tagged = out.len();
                    }
                    escape(c, &mut out);
                }
                continue;
            }
            Token::Start { name, attributes } => {
                if let Some(void) = VOID.iter().find(|known| **known == name) {
                    write_tag(void, &attributes, &mut out);
                    tagged = out.len();
                    continue;
                }
                let Some(kept) = KEPT.iter().find(|known| **known == name) else { continue };
                if ends_itself(kept)
                    && open.contains(kept)
                    && !open.iter().rev().take_while(|known| *known != kept).any(|known| is_scope(known))
                {
                    close(kept, &mut open, &mut out);
                }
                if open.len() < DEPTH_MAX {
                    open.push(kept);
                    write_tag(kept, &attributes, &mut out);
                }
            }
            Token::End { name } => {
                if open.iter().any(|known| *known == name) {
                    close(&name, &mut open, &mut out);
                }
            }
        }
        if out.len() > before {
            tagged = out.len();
        }
    }
    while let Some(name) = open.pop() {
        write_end(name, &mut out);
    }
    (out, cut)
}

fn is_scope(name: &str) -> bool {
    matches!(name, "table" | "td" | "th" | "caption" | "blockquote" | "div")
}

/// Closes open elements down to and with `name`.
fn close(name: &str, open: &mut Vec<&'static str>, out: &mut String) {
    while let Some(last) = open.pop() {
        write_end(last, out);
        if last == name {
            return;
        }
    }
}

fn write_end(name: &str, out: &mut String) {
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

fn write_tag(name: &str, attributes: &[Attribute], out: &mut String) {
    out.push('<');
    out.push_str(name);
    let kept = |one: &&Attribute| ATTRIBUTES.contains(&one.name.as_str()) && one.value.len() <= RUN_BYTES_MAX;
    for Attribute { name, value } in attributes.iter().filter(kept) {
        out.push(' ');
        out.push_str(name);
        out.push_str("=\"");
        for c in unescape(value).chars() {
            escape(c, out);
        }
        out.push('"');
    }
    out.push('>');
}

/// Writes a character of text or of an attribute.
pub fn escape(c: char, out: &mut String) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&quot;"),
        '\0' => {}
        c => out.push(c),
    }
}
