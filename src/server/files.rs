//! Files of messages by signed URL: `/files/{attachment}?expires=…&signature=…`.
//!
//! What customers send is hostile: a file is always a download, its type is never guessed by the browser, and anything a browser could
//! run is called `application/octet-stream`. The signature decides before the store is asked, so that nothing is learnt by guessing ids.

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use hyper::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};

use crate::logic::file_url::{FileUrlError, FileUrlVerifier};
use crate::model::id::AttachmentId;
use crate::model::time::Time;
use crate::ports::control::{Control, ControlError, FileBytes};
use crate::server::budget::{Budget, Share};

/// A file goes out in pieces of this size.
const PIECE_BYTES: usize = 64 * 1024;

/// Longest file name handed out, characters: longer ones trip over file systems.
const NAME_CHARS_MAX: usize = 120;

/// Answers one request. 404: no such path; 403: wrong signature; 410: expired, or the file is gone (erased, past its retention).
/// 503: too much is being sent at the moment.
pub async fn answer(
    name: &str,
    query: &str,
    verifier: &FileUrlVerifier,
    control: &dyn Control,
    budget: &Budget,
    now: Time,
) -> Response<Body> {
    let Ok(attachment) = name.parse::<AttachmentId>() else { return bare(StatusCode::NOT_FOUND) };
    let (mut expires, mut signature) = ("", "");
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("expires", value)) => expires = value,
            Some(("signature", value)) => signature = value,
            _ => {}
        }
    }
    match verifier.verify(attachment, expires, signature, now) {
        Ok(()) => {}
        Err(FileUrlError::Signature) => return bare(StatusCode::FORBIDDEN),
        Err(FileUrlError::Expired) => return bare(StatusCode::GONE),
    }
    // The budget first, as far as the size is known: a file that finds no room is not read at all.
    let mut share = budget.share();
    match control.file_bytes(attachment).await {
        Ok(Some(bytes)) if !share.grow_to(usize::try_from(bytes).unwrap_or(usize::MAX)) => return busy(),
        _ => {}
    }
    match control.file(attachment).await {
        Ok(file) => {
            if !share.grow_to(file.bytes.len()) {
                return busy();
            }
            let bytes = file.bytes.clone();
            let mut response = download(file);
            let length = HeaderValue::from(bytes.len());
            *response.body_mut() = in_pieces(bytes, share);
            response.headers_mut().insert(CONTENT_LENGTH, length);
            response
        }
        // The signature is ours, so the file existed once.
        Err(ControlError::Missing(_) | ControlError::Refused(_)) => bare(StatusCode::GONE),
        Err(ControlError::Failed(_)) => busy(),
    }
}

/// The body in pieces, so that the share of the budget is given back when the last one is sent, or the peer is gone.
fn in_pieces(bytes: Bytes, share: Share) -> Body {
    let pieces = stream::unfold((bytes, share), |(mut bytes, share)| async move {
        if bytes.is_empty() {
            return None;
        }
        let piece = bytes.split_to(PIECE_BYTES.min(bytes.len()));
        Some((Ok::<_, std::convert::Infallible>(piece), (bytes, share)))
    });
    Body::from_stream(pieces)
}

fn busy() -> Response<Body> {
    let mut response = bare(StatusCode::SERVICE_UNAVAILABLE);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("10"));
    response
}

/// `bytes` as a download that no browser runs.
pub fn download(file: FileBytes) -> Response<Body> {
    let mut response = Response::new(Body::from(file.bytes));
    let headers = response.headers_mut();
    let octets = HeaderValue::from_static("application/octet-stream");
    let media_type = if harmless(&file.media_type) { file.media_type.parse().unwrap_or(octets) } else { octets };
    headers.insert(CONTENT_TYPE, media_type);
    let disposition = disposition(file.name.as_deref());
    headers.insert(CONTENT_DISPOSITION, disposition.parse().unwrap_or(HeaderValue::from_static("attachment")));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=300"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Types handed out by their own name: what a browser shows without running anything. `type/subtype` of plain token characters only.
fn harmless(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let token = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b));
    let Some((kind, subtype)) = essence.split_once('/') else { return false };
    if !token(kind) || !token(subtype) || subtype.contains("xml") || subtype.contains("script") || subtype.contains("html") {
        return false;
    }
    match kind {
        "image" | "audio" | "video" | "font" => true,
        "text" => matches!(subtype, "plain" | "csv" | "calendar" | "vcard" | "x-vcard" | "markdown"),
        "application" | "message" => !matches!(subtype, "x-shockwave-flash" | "hta" | "x-mspublisher-hta"),
        _ => false,
    }
}

/// `Content-Disposition` (RFC 6266) with a plain fallback and the UTF-8 form of RFC 8187. No separators, no control characters, no quotes,
/// no leading dots: the name can neither leave a folder nor end the header.
fn disposition(name: Option<&str>) -> String {
    let last = name.unwrap_or("").rsplit(['/', '\\']).next().unwrap_or("");
    let hidden =
        |c: char| c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    let clean: String = last.chars().filter(|c| !hidden(*c)).map(|c| if "\"<>:|?*;%".contains(c) { '_' } else { c }).collect();
    let clean = clean.trim_matches(|c: char| c == '.' || c.is_whitespace());
    let cut = shorten(clean);
    if cut.is_empty() {
        return "attachment".to_owned();
    }
    let plain: String = cut.chars().map(|c| if c.is_ascii() { c } else { '_' }).collect();
    if plain == cut {
        return format!("attachment; filename=\"{plain}\"");
    }
    let mut encoded = String::with_capacity(cut.len() * 3);
    for byte in cut.bytes() {
        // RFC 8187 §3.2.1: attr-char.
        if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

/// At most [`NAME_CHARS_MAX`] characters; the ending (`.pdf`) stays.
fn shorten(name: &str) -> String {
    let chars = name.chars().count();
    if chars <= NAME_CHARS_MAX {
        return name.to_owned();
    }
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    let ending = if ending.chars().count() <= 10 { format!(".{ending}") } else { String::new() };
    name.chars().take(NAME_CHARS_MAX - ending.chars().count()).chain(ending.chars()).collect()
}

fn bare(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: &str) {
        assert_eq!(disposition(Some(name)), expected);
    }

    #[test]
    fn names_are_written_so_that_nothing_can_be_smuggled() {
        check("invoice 4711.pdf", "attachment; filename=\"invoice 4711.pdf\"");
        check("Prüfung €.pdf", "attachment; filename=\"Pr_fung _.pdf\"; filename*=UTF-8''Pr%C3%BCfung%20%E2%82%AC.pdf");
        check("../../etc/passwd", "attachment; filename=\"passwd\"");
        check("a\"; filename=\"b.exe", "attachment; filename=\"a__ filename=_b.exe\"");
        check("a\r\nset-cookie: x", "attachment; filename=\"aset-cookie_ x\"");
        check("c:\\temp\\..", "attachment");
        check("gpj.\u{202e}exe", "attachment; filename=\"gpj.exe\"");
    }

    #[test]
    fn long_names_keep_their_ending() {
        let name = disposition(Some(&format!("{}.pdf", "a".repeat(500))));
        assert!(name.ends_with("aaa.pdf\"") && name.len() < 160, "{name}");
    }

    #[test]
    fn what_a_browser_could_run_is_called_octets() {
        for bad in [
            "text/html",
            "image/svg+xml",
            "application/xhtml+xml",
            "text/javascript",
            "TEXT/HTML; charset=utf-8",
            "x",
            "text/css",
            "a/b\r\nc: d",
        ] {
            assert!(!harmless(bad), "{bad}");
        }
        for good in ["image/png", "application/pdf", "text/plain; charset=utf-8", "audio/mpeg"] {
            assert!(harmless(good), "{good}");
        }
    }
}
