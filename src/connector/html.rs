//! HTML: sanitised once, and plain text out of it.

/// HTML beyond this is cut before it is sanitised: the field keeps 64 KiB anyway, and ammonia's work grows with its input.
pub const HTML_BYTES_MAX: usize = 256 * 1024;

/// Harmless HTML: no scripts, styles, handlers, forms, frames; links without referrer.
pub fn sanitise(html: &str) -> String {
    ammonia::clean(crate::connector::text::utf8_slice(html, 0, HTML_BYTES_MAX))
}

/// The text of HTML.
pub fn to_text(html: &str) -> String {
    mail_parser::decoders::html::html_to_text(crate::connector::text::utf8_slice(html, 0, HTML_BYTES_MAX)).trim().to_owned()
}
