//! HTML to text, as a person would read it aloud: lines, lists, quotes; no layout, and nothing that is hidden. Linear time.

use crate::connector::html::bounded;
use crate::connector::html::hidden::{self, After, Region};
use crate::connector::html::tokens::{Attribute, Token, Tokens, unescape};

/// Whether the element with this name and these attributes is one that the caller looks for.
pub type Mark = fn(&str, &[Attribute]) -> bool;

/// The text of `html`, and for each mark where the first element begins that it knows: a byte of the text, at the start of a line.
pub fn convert(html: &str, marks: &[Mark]) -> (String, Vec<Option<usize>>) {
    let seen = walk(html, marks, true);
    // Where everything is hidden, something else shows it: a style sheet, or a program.
    if seen.0.is_empty() { walk(html, marks, false) } else { seen }
}

fn walk(html: &str, marks: &[Mark], without_hidden: bool) -> (String, Vec<Option<usize>>) {
    let mut writer = Writer::default();
    let mut found = vec![None; marks.len()];
    let mut hidden: Option<(Region, Place)> = None;
    for token in Tokens::new(bounded(html)) {
        if let Some((region, place)) = &mut hidden {
            let after = match &token {
                Token::Text(_) => After::Inside,
                Token::Start { name, .. } => region.start(name),
                Token::End { name } => region.end(name),
            };
            if matches!(after, After::Ended | After::EndedBefore) {
                writer.back_to(*place);
                found.iter_mut().flatten().for_each(|at| *at = writer.out.len().min(*at));
            }
            if after != After::Inside {
                hidden = None;
            }
            if after == After::Ended {
                continue;
            }
        }
        match token {
            Token::Text(text) => writer.push(&unescape(text)),
            Token::Start { name, attributes } => {
                for (mark, at) in marks.iter().zip(&mut found) {
                    if at.is_none() && mark(&name, &attributes) {
                        writer.breaks(1);
                        *at = Some(writer.out.len());
                    }
                }
                if without_hidden && hidden.is_none() && hidden::hides(&attributes) {
                    if hidden::is_void(&name) {
                        continue;
                    }
                    hidden = Region::begin(&name).map(|region| (region, writer.place()));
                }
                open_element(&mut writer, &name, &attributes);
            }
            Token::End { name } => close_element(&mut writer, &name),
        }
    }
    let kept = writer.out.trim_end().len();
    writer.out.truncate(kept);
    (writer.out, found)
}

/// Where the writer was.
#[derive(Clone, Copy)]
struct Place {
    bytes: usize,
    space: bool,
    breaks: usize,
    quotes: usize,
    pre: usize,
}

/// Writes text and keeps count of lines, white space and quotes.
#[derive(Default)]
struct Writer {
    out: String,
    space: bool,
    /// Line breaks at the end of `out`, or as many as there can be at its start.
    breaks: usize,
    quotes: usize,
    pre: usize,
}

impl Writer {
    fn place(&self) -> Place {
        Place { bytes: self.out.len(), space: self.space, breaks: self.breaks, quotes: self.quotes, pre: self.pre }
    }

    /// Forgets what was written since.
    fn back_to(&mut self, place: Place) {
        self.out.truncate(place.bytes);
        (self.space, self.breaks, self.quotes, self.pre) = (place.space, place.breaks, place.quotes, place.pre);
    }

    fn breaks(&mut self, wanted: usize) {
        self.space = false;
        if self.out.is_empty() {
            return;
        }
        while self.breaks < wanted {
            self.hard_break();
        }
    }

    fn hard_break(&mut self) {
        self.out.push('\n');
        self.breaks += 1;
        self.space = false;
    }

    fn push(&mut self, text: &str) {
        for c in text.chars() {
            if self.pre > 0 && c == '\n' {
                self.hard_break();
            } else if c.is_whitespace() && self.pre == 0 || c == '\u{a0}' {
                self.space = true;
            } else if !c.is_control() || c == '\t' {
                self.begin();
                self.out.push(c);
            }
        }
    }

    /// Before a visible character: what quotes and white space stand in front of it.
    fn begin(&mut self) {
        if self.breaks > 0 || self.out.is_empty() {
            for _ in 0..self.quotes.min(10) {
                self.out.push_str("> ");
            }
        } else if self.space {
            self.out.push(' ');
        }
        self.space = false;
        self.breaks = 0;
    }
}

fn open_element(writer: &mut Writer, name: &str, attributes: &[Attribute]) {
    match name {
        "br" => writer.hard_break(),
        "p" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "ul" | "ol" | "dl" | "table" => writer.breaks(2),
        "blockquote" => {
            writer.breaks(1);
            writer.quotes += 1;
        }
        "pre" => {
            writer.breaks(1);
            writer.pre += 1;
        }
        "li" => {
            writer.breaks(1);
            writer.push("- ");
            writer.space = true;
        }
        "hr" => {
            writer.breaks(1);
            writer.push("---");
            writer.breaks(1);
        }
        "td" | "th" => writer.space = true,
        "img" => {
            let alt = attributes.iter().find(|one| one.name == "alt").map_or("", |one| one.value.trim());
            if !alt.is_empty() {
                writer.push(&format!("[{}]", unescape(alt)));
            }
        }
        name if is_block(name) => writer.breaks(1),
        _ => {}
    }
}

fn close_element(writer: &mut Writer, name: &str) {
    match name {
        "p" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "ul" | "ol" | "dl" | "table" => writer.breaks(2),
        "blockquote" => {
            writer.breaks(1);
            writer.quotes = writer.quotes.saturating_sub(1);
        }
        "pre" => {
            writer.breaks(1);
            writer.pre = writer.pre.saturating_sub(1);
        }
        name if is_block(name) => writer.breaks(1),
        _ => {}
    }
}

fn is_block(name: &str) -> bool {
    const BLOCKS: [&str; 18] = [
        "div", "tr", "li", "dt", "dd", "center", "section", "article", "header", "footer", "address", "form", "fieldset", "figure",
        "caption", "body", "main", "nav",
    ];
    BLOCKS.contains(&name)
}
