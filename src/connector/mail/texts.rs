//! The text and the HTML of a mail, from the leaves that are its body.
//!
//! Nothing that is said is lost: each body is in the text, in the HTML, or (a text part that only says where the message is) in
//! [`Content::text_part`].

use std::collections::HashMap;

use crate::connector::html;
use crate::connector::mail::charset::Charsets;
use crate::connector::mail::marks::{self, HtmlText};
use crate::connector::mail::parts::{Content, Leaf};
use crate::connector::mail::scan::Scan;
use crate::connector::mail::{fields, flowed, transfer, uuencode};
use crate::connector::text::clean;
use crate::model::item::SliceEncoding;

/// Bytes of one text part that are decoded; the item keeps far less.
const TEXT_READ_MAX: usize = 512 * 1024;
/// Text parts that are joined; further ones are attachments.
const BODIES_MAX: usize = 20;
/// A file is shown as the text, where there is none, up to this size.
const SHOWN_BYTES_MAX: usize = 64 * 1024;

/// Which of the leaves are bodies.
pub(super) fn bodies(leaves: &[Leaf], scan: &Scan) -> Vec<usize> {
    let all = leaves.iter().enumerate().filter(|(_, leaf)| is_body(leaf, scan));
    all.map(|(at, _)| at).take(BODIES_MAX).collect()
}

/// The file that says what a mail without a body says: a text that has a name and is not put up as a file.
pub(super) fn shown_file(leaves: &[Leaf]) -> Option<usize> {
    let is_shown = |leaf: &Leaf| is_text(leaf) && leaf.disposition != "attachment" && leaf.entity.body.len() <= SHOWN_BYTES_MAX;
    leaves.iter().position(is_shown)
}

fn is_text(leaf: &Leaf) -> bool {
    leaf.is("text/plain") || leaf.is("text/html")
}

/// A leaf is a body if it is text, not put up as a file, and stands where text is read.
fn is_body(leaf: &Leaf, scan: &Scan) -> bool {
    if !is_text(leaf) || leaf.disposition == "attachment" {
        return false;
    }
    let parent = leaf.entity.parent.and_then(|at| scan.entities.get(at));
    leaf.name.is_none() || parent.is_none_or(|parent| parent.media_type == "multipart/alternative")
}

/// An empty part with no name: what some mailers leave between two boundaries.
pub(super) fn is_nothing(leaf: &Leaf, mail: &[u8]) -> bool {
    let body = mail.get(leaf.entity.body.clone()).unwrap_or_default();
    (leaf.name.is_none() || is_other_form(leaf)) && leaf.content_id.is_none() && body.trim_ascii().is_empty()
}

/// The same message once more, in a form that we do not show: for watches, with programs inside, enriched.
pub(super) fn is_other_form(leaf: &Leaf) -> bool {
    let shown_elsewhere = leaf.alternative.is_some() && leaf.entity.parent == leaf.alternative && leaf.disposition != "attachment";
    // An invitation is no form of the text.
    shown_elsewhere && leaf.entity.media_type.starts_with("text/") && !is_text(leaf) && !leaf.is("text/calendar")
}

/// What it is called as a file.
pub(super) fn name_of_other_form(leaf: &Leaf) -> Option<String> {
    let subtype = leaf.entity.media_type.strip_prefix("text/").filter(|_| is_other_form(leaf))?;
    let form = match subtype {
        "x-amp-html" => "amp.html",
        "watch-html" => "watch.html",
        other => other.strip_prefix("x-").unwrap_or(other),
    };
    Some(format!("message.{form}"))
}

fn decoded(mail: &[u8], leaf: &Leaf, charsets: &Charsets) -> String {
    let body = mail.get(leaf.entity.body.clone()).unwrap_or_default();
    let encoding = match fields::encoding(&leaf.entity.fields, mail) {
        SliceEncoding::Base64 if !transfer::may_be_base64(body) => SliceEncoding::Identity,
        encoding => encoding,
    };
    let mut bytes = Vec::with_capacity(body.len().min(TEXT_READ_MAX));
    let mut take = |piece: &[u8]| {
        let room = TEXT_READ_MAX - bytes.len();
        bytes.extend_from_slice(piece.get(..room).unwrap_or(piece));
        bytes.len() < TEXT_READ_MAX
    };
    if leaf.enclosed.is_empty() {
        transfer::decode_into(body, encoding, &mut take);
    } else {
        uuencode::without(body, &leaf.enclosed).into_iter().all(take);
    }
    let text = clean(&charsets.decode(&bytes, leaf.charset.as_deref()));
    match leaf.flowed {
        Some(delsp) if leaf.is("text/plain") => flowed::join(&text, delsp),
        _ => text,
    }
}

/// The texts of these leaves.
pub(super) fn read(mail: &[u8], leaves: &[Leaf], bodies: &[usize], charsets: &Charsets) -> Content {
    let bodies: Vec<&Leaf> = bodies.iter().filter_map(|at| leaves.get(*at)).collect();
    let beside = |leaf: &Leaf, media_type: &str| {
        leaf.alternative.is_some() && bodies.iter().any(|other| other.alternative == leaf.alternative && other.is(media_type))
    };
    let any_html = bodies.iter().any(|leaf| leaf.is("text/html"));
    let (mut text, mut html) = (String::new(), String::new());
    let mut from_html = None;
    for leaf in &bodies {
        let piece = decoded(mail, leaf, charsets);
        if leaf.is("text/html") {
            if !beside(leaf, "text/plain") {
                let converted = marks::to_text(&piece);
                join(&mut text, &converted.text);
                from_html = Some(converted);
            }
            html.push_str(&piece);
        } else {
            if any_html && !beside(leaf, "text/html") {
                html.push_str("<div>");
                html.push_str(&html::from_text(&piece));
                html.push_str("</div>");
            }
            join(&mut text, &piece);
        }
    }
    let mut text_part = None;
    if !html.is_empty() {
        let is_pair = matches!(bodies.as_slice(), [one, other] if one.alternative == other.alternative && one.alternative.is_some());
        if text.trim().is_empty() {
            // A text part left empty beside the HTML says nothing; the mail does.
            from_html = Some(marks::to_text(&html));
        } else if is_pair && let Some(converted) = instead_of(&text, &html) {
            text_part = Some(text.trim().to_owned());
            from_html = Some(converted);
        }
        if let Some(converted) = from_html.as_ref().filter(|_| text.trim().is_empty() || text_part.is_some()) {
            text.clone_from(&converted.text);
        }
    }
    let from_html = from_html.filter(|converted| converted.text == text);
    Content { text, html: (!html.is_empty()).then_some(html), from_html, text_part, ..Content::default() }
}

fn join(text: &mut String, piece: &str) {
    let piece = piece.trim_end();
    if !text.is_empty() && !piece.is_empty() {
        text.push_str("\n\n");
    }
    text.push_str(piece);
}

/// Longest text part that may be no more than a hint to the HTML.
const HINT_BYTES_MAX: usize = 600;
/// Least text of an HTML part that says something.
const MESSAGE_BYTES_MIN: usize = 200;
/// Text of an HTML part that is compared.
const COMPARED_BYTES_MAX: usize = 64 * 1024;

/// The text of the HTML, if the text part beside it is no form of the same message, only a hint that the message is in the HTML: short,
/// and most of what it says is not said there. Every program that shows HTML shows nothing of it.
fn instead_of(text: &str, html: &str) -> Option<HtmlText> {
    let text = text.trim();
    if text.len() > HINT_BYTES_MAX || html.len() < MESSAGE_BYTES_MIN.max(3 * text.len()) {
        return None;
    }
    let converted = marks::to_text(html);
    let said = converted.text.get(..converted.text.floor_char_boundary(COMPARED_BYTES_MAX)).unwrap_or_default();
    if said.len() < MESSAGE_BYTES_MIN.max(3 * text.len()) {
        return None;
    }
    let no_links: Vec<&str> = text.split_whitespace().filter(|word| !word.contains("://") && !word.contains('@')).collect();
    let mut pairs: HashMap<(String, String), bool> = pairs(&no_links.join(" ")).map(|pair| (pair, false)).collect();
    for pair in self::pairs(said) {
        if let Some(seen) = pairs.get_mut(&pair) {
            *seen = true;
        }
    }
    (pairs.values().filter(|seen| **seen).count() * 2 < pairs.len().max(1)).then_some(converted)
}

/// Each word with the one before it. Scripts without spaces: each letter is a word.
fn pairs(text: &str) -> impl Iterator<Item = (String, String)> {
    let spaced = |c: char| c < '\u{2e80}';
    let words = text.split(|c: char| !c.is_alphanumeric()).flat_map(move |run| {
        let mut words: Vec<String> = Vec::new();
        let mut begun = false;
        for c in run.chars() {
            match words.last_mut().filter(|_| begun && spaced(c)) {
                Some(word) => word.extend(c.to_lowercase()),
                None => words.push(c.to_lowercase().collect()),
            }
            begun = spaced(c);
        }
        words
    });
    words.scan(String::new(), |before, word| Some((std::mem::replace(before, word.clone()), word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, html: &str, instead: bool) {
        assert_eq!(instead_of(text, html).is_some(), instead, "{text}");
    }

    #[test]
    fn a_text_part_that_only_points_to_the_html_is_not_the_text() {
        let html = format!("<p>View this email in your browser</p><p>{}</p>", "Your order has left our house. ".repeat(20));
        check("To view this email, please enable HTML.", &html, true);
        check("https://example.org/newsletter?id=1", &html, true);
        check("Your order has left our house.", &html, false);
        check("Your order has left our house. https://example.org/track", &html, false);
        check("Ok", &format!("<p>Ok</p>{html}"), false);
        check("Plain words.", "<p>Rich words.</p>", false);
        check(&"A long text that has nothing to do with it. ".repeat(20), &html, false);
    }

    #[test]
    fn scripts_without_spaces_are_compared_letter_by_letter() {
        let html = format!("<p>{}</p>", "お世話になっております。注文した商品がまだ届いていません。".repeat(5));
        check("注文した商品がまだ届いていません", &html, false);
        check("このメールはHTML形式です。ブラウザでご覧ください。", &html, true);
    }
}
