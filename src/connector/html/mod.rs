//! HTML that people sent, by mail or by webhook: to text, and sanitised.
//!
//! The one way for all channels. `tokens` reads the markup in one pass, `text` makes text of it, `balance` writes it again in a
//! form that costs the sanitiser linear time, `hidden` knows what nobody sees, and ammonia decides what is safe. Whatever comes in, both ways take linear time
//! and bounded memory (I6).

use std::sync::LazyLock;

use crate::connector::html::balance::{balance, escape};
use crate::connector::text::clean;

mod balance;
mod hidden;
pub mod text;
pub mod tokens;

#[cfg(test)]
mod tests;

/// Longest HTML that is read; what is behind it is in the raw.
pub const HTML_BYTES_MAX: usize = 512 * 1024;

/// The text of HTML.
pub fn to_text(html: &str) -> String {
    text::convert(html, &[]).0
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

fn bounded(html: &str) -> &str {
    html.get(..html.floor_char_boundary(HTML_BYTES_MAX)).unwrap_or(html)
}
