//! HTML of mails: to text, and sanitised. Both walk one tokenizer, in linear time whatever the nesting.
//!
//! HTML parsers that follow the standard take quadratic time and memory on hostile nesting (each unclosed formatting element is
//! opened again in every paragraph). So the sanitiser gets balanced markup of bounded depth, written by [`balance`]; ammonia then
//! decides what is safe. Nothing here is trusted for safety, only for size.

use std::borrow::Cow;
use std::sync::LazyLock;

use crate::connector::mail::charset::clean;

/// Longest HTML that is read; what is behind it is in the raw.
pub const HTML_BYTES_MAX: usize = 512 * 1024;
/// Deepest nesting that is kept. Real newsletters reach about 60; deeper elements are dropped, their text stays.
const DEPTH_MAX: usize = 100;
/// Longest text without a tag, and longest attribute, that ammonia gets: html5ever writes a text with many `&` in quadratic time
/// of its length. Longer text is divided by comments, which ammonia removes; longer attributes are dropped.
const RUN_BYTES_MAX: usize = 4 * 1024;
/// Most attributes of one tag that are looked at.
const ATTRIBUTES_MAX: usize = 32;

/// A piece of HTML.
#[derive(Debug, PartialEq)]
enum Token<'h> {
    Text(&'h str),
    Start { name: String, attributes: Vec<(String, &'h str)> },
    End { name: String },
}

struct Tokens<'h> {
    html: &'h str,
    at: usize,
    /// Elements whose end was searched to the end of the text and not found: never searched again.
    endless: Vec<String>,
}

/// Elements whose content is no text of the mail.
const HIDDEN: [&str; 9] = ["script", "style", "title", "template", "textarea", "xmp", "iframe", "noembed", "noframes"];

impl<'h> Tokens<'h> {
    fn new(html: &'h str) -> Self {
        Self { html, at: 0, endless: Vec::new() }
    }

    fn rest(&self) -> &'h str {
        self.html.get(self.at..).unwrap_or_default()
    }

    /// Moves behind the next `pattern`, or to the end.
    fn skip_behind(&mut self, pattern: &str) {
        self.at =
            memchr::memmem::find(self.rest().as_bytes(), pattern.as_bytes()).map_or(self.html.len(), |at| self.at + at + pattern.len());
    }

    /// Skips the content of a hidden element, if it has an end.
    fn skip_content(&mut self, name: &str) {
        if self.endless.iter().any(|known| known == name) {
            return;
        }
        let rest = self.rest().as_bytes();
        let closes = |at: &usize| rest.get(at + 2..at + 2 + name.len()).is_some_and(|tag| tag.eq_ignore_ascii_case(name.as_bytes()));
        match memchr::memmem::find_iter(rest, b"</").find(closes) {
            Some(at) => {
                self.at += at;
                self.skip_behind(">");
            }
            None => self.endless.push(name.to_owned()),
        }
    }
}

impl<'h> Iterator for Tokens<'h> {
    type Item = Token<'h>;

    fn next(&mut self) -> Option<Token<'h>> {
        loop {
            let rest = self.rest();
            let after = match rest.as_bytes() {
                [] => return None,
                [b'<', after @ ..] => after,
                bytes => {
                    let end = memchr::memchr(b'<', bytes).unwrap_or(bytes.len());
                    self.at += end;
                    return rest.get(..end).map(Token::Text);
                }
            };
            match after {
                [b'!', b'-', b'-', ..] => self.skip_behind("-->"),
                [b'!' | b'?', ..] => self.skip_behind(">"),
                [b'/', first, ..] if first.is_ascii_alphabetic() => {
                    let name = tag_name(after.get(1..).unwrap_or_default());
                    self.skip_behind(">");
                    return Some(Token::End { name });
                }
                [first, ..] if first.is_ascii_alphabetic() => {
                    let name = tag_name(after);
                    self.at += 1 + name.len();
                    let attributes = self.attributes();
                    if HIDDEN.contains(&name.as_str()) {
                        self.skip_content(&name);
                        continue;
                    }
                    return Some(Token::Start { name, attributes });
                }
                _ => {
                    self.at += 1;
                    return rest.get(..1).map(Token::Text);
                }
            }
        }
    }
}

fn tag_name(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b':' && *byte != b'-').unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).to_ascii_lowercase()
}

impl<'h> Tokens<'h> {
    /// Reads attributes up to and with the `>` that ends the tag.
    fn attributes(&mut self) -> Vec<(String, &'h str)> {
        let mut found = Vec::new();
        loop {
            let rest = self.rest();
            let bytes = rest.as_bytes();
            let skip = bytes.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != b'/').unwrap_or(bytes.len());
            self.at += skip;
            match bytes.get(skip) {
                None => return found,
                Some(b'>') => {
                    self.at += 1;
                    return found;
                }
                Some(_) => {}
            }
            let rest = self.rest();
            // The first byte belongs to the name even if it is `=`.
            let name_end = rest
                .bytes()
                .skip(1)
                .position(|b| b.is_ascii_whitespace() || matches!(b, b'/' | b'>' | b'='))
                .map_or(rest.len(), |at| at + 1);
            let name_end = rest.ceil_char_boundary(name_end);
            let name = rest.get(..name_end).unwrap_or_default();
            self.at += name_end;
            let value = self.value();
            if found.len() < ATTRIBUTES_MAX && name.len() < 32 {
                found.push((name.to_ascii_lowercase(), value));
            }
        }
    }

    fn value(&mut self) -> &'h str {
        let rest = self.rest();
        let trimmed = rest.trim_ascii_start();
        let Some(value) = trimmed.strip_prefix('=') else { return "" };
        let value = value.trim_ascii_start();
        self.at = self.html.len() - value.len();
        let (quoted, end) = match value.as_bytes().first() {
            Some(quote @ (b'"' | b'\'')) => (1, memchr::memchr(*quote, value.as_bytes().get(1..).unwrap_or_default()).map(|at| at + 1)),
            _ => (0, value.bytes().position(|b| b.is_ascii_whitespace() || b == b'>')),
        };
        let end = end.unwrap_or(value.len());
        self.at += (end + quoted).min(value.len());
        value.get(quoted..end).unwrap_or_default()
    }
}

/// Text of an HTML body.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct HtmlText {
    /// The text; quoted blocks have `> ` before their lines.
    pub text: String,
    /// Where the quoted history begins by the marks of a mail client.
    pub quote_at: Option<usize>,
    /// Where the signature begins by the marks of a mail client.
    pub signature_at: Option<usize>,
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
            } else {
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

/// The text of an HTML body, in linear time.
pub fn to_text(html: &str) -> HtmlText {
    let html = bounded(html);
    let mut writer = Writer::default();
    let mut found = HtmlText::default();
    for token in Tokens::new(html) {
        match token {
            Token::Text(text) => writer.push(&unescape(text)),
            Token::Start { name, attributes } => {
                if found.quote_at.is_none() && begins_quote(&name, &attributes) {
                    writer.breaks(1);
                    found.quote_at = Some(writer.out.len());
                }
                if found.signature_at.is_none() && begins_signature(&attributes) {
                    writer.breaks(1);
                    found.signature_at = Some(writer.out.len());
                }
                open_element(&mut writer, &name, &attributes);
            }
            Token::End { name } => close_element(&mut writer, &name),
        }
    }
    let kept = writer.out.trim_end().len();
    writer.out.truncate(kept);
    found.text = writer.out;
    found
}

fn open_element(writer: &mut Writer, name: &str, attributes: &[(String, &str)]) {
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
            let alt = attributes.iter().find(|(name, _)| name == "alt").map_or("", |(_, value)| value.trim());
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

/// Marks that mail clients put around quoted history.
fn begins_quote(name: &str, attributes: &[(String, &str)]) -> bool {
    attributes.iter().any(|(attribute, value)| match attribute.as_str() {
        // Gmail, Yahoo, Thunderbird, Proton, Zoho
        "class" => value.split_ascii_whitespace().any(|class| {
            matches!(
                class,
                "gmail_quote"
                    | "gmail_quote_container"
                    | "gmail_extra"
                    | "yahoo_quoted"
                    | "moz-cite-prefix"
                    | "protonmail_quote"
                    | "zmail_extra"
            )
        }),
        // Outlook on the web, mobile and for the Mac, Yahoo
        "id" => {
            matches!(
                *value,
                "divRplyFwdMsg"
                    | "appendonsend"
                    | "OLK_SRC_BODY_SECTION"
                    | "mail-editor-reference-message-container"
                    | "ms-outlook-mobile-body-separator-line"
            ) || value.starts_with("yahoo_quoted")
        }
        // Apple Mail, Thunderbird
        "type" => name == "blockquote" && value.eq_ignore_ascii_case("cite"),
        // Outlook for Windows: the line above From:
        "style" => name == "div" && is_outlook_line(value),
        _ => false,
    })
}

fn is_outlook_line(style: &str) -> bool {
    style.contains("border-top:solid #B5C4DF 1.0pt") || style.contains("border-top:solid #E1E1E1 1.0pt")
}

fn begins_signature(attributes: &[(String, &str)]) -> bool {
    attributes.iter().any(|(attribute, value)| match attribute.as_str() {
        "class" => {
            value.split_ascii_whitespace().any(|class| matches!(class, "gmail_signature" | "moz-signature" | "protonmail_signature_block"))
        }
        "id" => matches!(
            *value,
            "Signature" | "signature" | "ms-outlook-mobile-signature" | "AppleMailSignature" | "lineBreakAtBeginningOfSignature"
        ),
        _ => false,
    })
}

fn bounded(html: &str) -> &str {
    html.get(..html.floor_char_boundary(HTML_BYTES_MAX)).unwrap_or(html)
}

/// Character references decoded.
fn unescape(text: &str) -> Cow<'_, str> {
    let Some(mut at) = memchr::memchr(b'&', text.as_bytes()) else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        let (plain, tail) = rest.split_at(at);
        out.push_str(plain);
        let end = tail.bytes().take(34).position(|b| b == b';').unwrap_or(0);
        let reference = tail.get(..=end).unwrap_or_default();
        if end > 1 && reference.bytes().skip(1).take(end - 1).all(|b| b.is_ascii_alphanumeric() || b == b'#') {
            mail_parser::decoders::html::add_html_token(&mut out, reference.as_bytes(), false);
        } else {
            out.push_str(reference);
        }
        rest = tail.get(reference.len()..).unwrap_or_default();
        match memchr::memchr(b'&', rest.as_bytes()) {
            Some(next) => at = next,
            None => break,
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Safe HTML of at most `max` bytes, and whether it was cut: no scripts, styles, forms, event handlers or relative links; images
/// by `http(s)` and `cid:`.
pub fn sanitise(html: &str, max: usize) -> (String, bool) {
    static CLEANER: LazyLock<ammonia::Builder<'static>> = LazyLock::new(|| {
        let mut builder = ammonia::Builder::default();
        builder.add_tags(["font"]).add_url_schemes(["cid"]).add_tag_attributes("font", ["color"]);
        builder.url_relative(ammonia::UrlRelative::Deny);
        builder
    });
    let mut budget = max;
    loop {
        let (balanced, cut) = balance(bounded(html), budget);
        let safe = clean(&CLEANER.clean(&balanced).to_string());
        // The sanitiser adds `rel` to links, so its output can be longer than what it got.
        if safe.len() <= max || budget < 64 {
            return (safe, cut || html.len() > HTML_BYTES_MAX);
        }
        budget /= 2;
    }
}

/// Plain text as HTML.
pub fn from_text(text: &str) -> String {
    let mut html = String::with_capacity(text.len() + text.len() / 8);
    for c in text.chars() {
        if c == '\n' {
            html.push_str("<br>");
        } else {
            escape(c, &mut html);
        }
    }
    html
}

const VOID: [&str; 5] = ["br", "hr", "img", "wbr", "col"];

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
fn balance(html: &str, max: usize) -> (String, bool) {
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

fn write_tag(name: &str, attributes: &[(String, &str)], out: &mut String) {
    out.push('<');
    out.push_str(name);
    for (attribute, value) in attributes.iter().filter(|(name, value)| ATTRIBUTES.contains(&name.as_str()) && value.len() <= RUN_BYTES_MAX)
    {
        out.push(' ');
        out.push_str(attribute);
        out.push_str("=\"");
        for c in unescape(value).chars() {
            escape(c, out);
        }
        out.push('"');
    }
    out.push('>');
}

fn escape(c: char, out: &mut String) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&quot;"),
        '\0' => {}
        c => out.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_text(html: &str, expected: &str) {
        assert_eq!(to_text(html).text, expected);
    }

    #[track_caller]
    fn check_clean(html: &str, expected: &str) {
        assert_eq!(sanitise(html, 64 * 1024), (expected.to_owned(), false));
    }

    #[test]
    fn text_keeps_lines_lists_and_quotes() {
        check_text(
            "<html><head><title>x</title><style>p{}</style></head><body><p>Hello&nbsp;&amp; <b>good</b>\n day</p><div>one</div><div>two<br>three</div>\
             <ul><li>a<li>b</ul><blockquote>old<br>text</blockquote>end",
            "Hello & good day\n\none\ntwo\nthree\n\n- a\n- b\n\n> old\n> text\nend",
        );
    }

    #[test]
    fn text_of_broken_html_is_what_can_be_seen() {
        check_text("a < b <3 &unknown; &#8364; &", "a < b <3 &unknown; € &");
        check_text("<!-- never closed", "");
        check_text("x<style>p{}", "xp{}");
        check_text("<a title=\"a > b\" href=x>link</a>", "link");
    }

    #[test]
    fn scripts_styles_forms_and_handlers_go() {
        check_clean("<p onclick=\"x()\">a<script>alert(1)</script></p>", "<p>a</p>");
        check_clean("<form action=\"http://example.org\"><input name=x>b</form>", "b");
        check_clean("<a href=\"javascript:alert(1)\">c</a>", "<a rel=\"noopener noreferrer\">c</a>");
        check_clean("<svg><style><img src=x onerror=alert(1)></style></svg>", "");
        check_clean("<p style=\"position:fixed\">d</p>", "<p>d</p>");
    }

    #[test]
    fn remote_and_embedded_images_stay() {
        check_clean("<img src=\"https://example.org/a.png\" alt=\"A\">", "<img src=\"https://example.org/a.png\" alt=\"A\">");
        check_clean("<img src='cid:logo@example.org'>", "<img src=\"cid:logo@example.org\">");
        check_clean("<img src=\"data:image/png;base64,AAAA\">", "<img>");
    }

    #[test]
    fn text_that_looks_like_markup_stays_text() {
        check_clean("1 < 2 &lt;script&gt;", "1 &lt; 2 &lt;script&gt;");
    }

    #[test]
    fn marks_of_mail_clients_are_found() {
        let gmail = to_text("<div>New</div><div class=\"gmail_quote\">On Monday X wrote:<blockquote>old</blockquote></div>");
        assert_eq!(gmail.quote_at, Some("New\n".len()));
        let outlook = to_text("<p>New</p><div style='border:none;border-top:solid #E1E1E1 1.0pt;padding:3.0pt'><b>From:</b> x</div>");
        assert_eq!(outlook.quote_at, Some("New\n\n".len()));
    }

    #[test]
    fn hostile_nesting_takes_linear_time() {
        let begun = std::time::Instant::now();
        let hostiles = [
            "<div>",
            "<b>",
            "<font color=1><p>",
            "<a><p>",
            "<table><tr><td>",
            "<b></i><i></b><p>",
            "</p>",
            "<script",
            "<title>",
            "&#",
            "&amp;",
            "&",
            "<a href=\"&#\">",
            "\"",
            "x<br>",
            "§",
            "<",
            "<a b=\"",
            "<p>",
        ];
        for hostile in hostiles {
            let html = hostile.repeat(5 * 1024 * 1024 / hostile.len());
            to_text(&html);
            assert!(sanitise(&html, 64 * 1024).0.len() <= 64 * 1024);
        }
        assert!(begun.elapsed().as_secs() < 40, "took {:?}", begun.elapsed());
    }

    #[test]
    fn long_html_is_cut_between_tags() {
        let (html, cut) = sanitise(&"<p><a href=\"http://example.org/\">link</a></p>".repeat(1000), 1000);
        assert!(cut && html.len() <= 1000 && html.ends_with("</p>"), "{html}");
    }
}
