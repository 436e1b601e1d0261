//! The small languages of IMAP: quoted strings, modified UTF-7, sets of UIDs, dates, and what servers say in words. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};

use crate::model::time::Time;

/// Longest text of a server that is repeated.
const SAID_CHARS_MAX: usize = 160;

/// 1 January 1980.
const FIRST_DATE_MS: i64 = 315_532_800_000;

/// How long Exchange is left alone when it says that we are "authenticated but not connected".
const NOT_CONNECTED_PATIENCE: Duration = Duration::from_secs(300);

/// A folder name as it goes over the wire: modified UTF-7 (RFC 3501 §5.1.3) in quotes. `None` if it cannot be one.
pub fn folder_name(name: &str) -> Option<String> {
    if name.is_empty() || name.chars().any(char::is_control) {
        return None;
    }
    Some(quoted(&utf7(name)))
}

/// A quoted string. The caller has made sure that there is no CR, LF or NUL and only ASCII.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn utf7(name: &str) -> String {
    // RFC 3501 §5.1.3: base64 of UTF-16BE with "," for "/", without padding, between "&" and "-".
    const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::IMAP_MUTF7, NO_PAD);
    let mut out = String::with_capacity(name.len());
    let mut wide: Vec<u8> = Vec::new();
    let flush = |wide: &mut Vec<u8>, out: &mut String| {
        if !wide.is_empty() {
            let _ = write!(out, "&{}-", BASE64.encode(&*wide));
            wide.clear();
        }
    };
    for character in name.chars() {
        if matches!(character, ' '..='~') {
            flush(&mut wide, &mut out);
            out.push(character);
            if character == '&' {
                out.push('-');
            }
        } else {
            let mut units = [0u16; 2];
            for unit in character.encode_utf16(&mut units) {
                wide.extend_from_slice(&unit.to_be_bytes());
            }
        }
    }
    flush(&mut wide, &mut out);
    out
}

/// A set of ascending UIDs, in ranges: `1:3,7`.
pub fn uid_set(uids: impl IntoIterator<Item = u32>) -> String {
    let mut set = String::new();
    let mut run: Option<(u32, u32)> = None;
    let put = |set: &mut String, (first, last): (u32, u32)| {
        if !set.is_empty() {
            set.push(',');
        }
        let _ = if first == last { write!(set, "{first}") } else { write!(set, "{first}:{last}") };
    };
    for uid in uids {
        match &mut run {
            Some((_, last)) if last.checked_add(1) == Some(uid) => *last = uid,
            _ => {
                if let Some(done) = run.replace((uid, uid)) {
                    put(&mut set, done);
                }
            }
        }
    }
    if let Some(done) = run {
        put(&mut set, done);
    }
    set
}

/// `17-Jul-1996 02:44:25 -0700`, the day perhaps with a leading space. What is older than mail by IMAP is no date: a mail whose date
/// got lost must be neither too old for a backfill nor old enough to be deleted.
pub fn internal_date(text: &str) -> Option<Time> {
    let parsed = jiff::fmt::strtime::parse("%d-%b-%Y %H:%M:%S %z", text.trim()).ok()?;
    Some(Time(parsed.to_timestamp().ok()?.as_millisecond())).filter(|date| date.0 >= FIRST_DATE_MS)
}

/// What a server said, fit for an error text: one short line, without addresses (I7).
pub fn said(text: &str) -> String {
    let words = text.split_whitespace().map(|word| if word.contains('@') { "…" } else { word });
    let line = words.collect::<Vec<_>>().join(" ");
    line.chars().filter(|character| !character.is_control()).take(SAID_CHARS_MAX).collect()
}

/// How a refusal is to be taken, told from its words: servers have more words than codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// We are too fast, or over a quota; with the patience that was asked for.
    Throttled(Option<Duration>),
    /// The server's own trouble: try later.
    Unavailable,
    /// No such folder.
    Missing,
    /// Anything else.
    Plain,
}

/// Reads the tone of a refusal.
pub fn tone(text: &str) -> Tone {
    let lower = text.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if lower.contains("authenticated but not connected") {
        // Exchange: too many sessions, or the mailbox may not be opened. Asking again soon makes it worse (imapsync #411).
        return Tone::Throttled(Some(NOT_CONNECTED_PATIENCE));
    }
    let throttled = ["throttled", "backoff time", "[overquota]", "[limit]", "too many", "rate limit", "bandwidth"];
    if has(&throttled) || has(&["connections", "sessions", "logins"]) && has(&["maximum", "exceed", "limit"]) {
        return Tone::Throttled(backoff(&lower));
    }
    let trouble =
        ["unavailable", "[inuse]", "[serverbug]", "[contactadmin]", "temporar", "try again", "try later", "internal error", "server busy"];
    if has(&trouble) || has(&["server is busy", "server error", "not available", "system error", "timed out"]) {
        return Tone::Unavailable;
    }
    if has(&["mailbox is locked", "folder is locked", "currently in use", "in use by another", "overloaded"]) {
        return Tone::Unavailable;
    }
    if has(&["[nonexistent]", "doesn't exist", "does not exist", "unknown mailbox", "no such mailbox", "mailbox not found", "not exist"]) {
        return Tone::Missing;
    }
    Tone::Plain
}

/// Whether a folder takes nothing more because its owner has too much (RFC 5530). Gmail uses the same code for too much at once.
pub fn is_full(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    lower.contains("[overquota]") && !["bandwidth", "command", "rate", "throttl"].iter().any(|word| lower.contains(word))
}

/// Exchange: `Suggested Backoff Time: 92415 milliseconds`.
fn backoff(lower: &str) -> Option<Duration> {
    let (_, rest) = lower.split_once("backoff time:")?;
    let mut words = rest.split_whitespace();
    let number: u64 = words.next()?.parse().ok()?;
    match words.next() {
        Some(unit) if unit.starts_with("sec") => Some(Duration::from_secs(number)),
        _ => Some(Duration::from_millis(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_names_are_modified_utf7() {
        let check = |name: &str, wire: &str| assert_eq!(folder_name(name).as_deref(), Some(wire), "{name}");
        check("INBOX", "\"INBOX\"");
        check("Entwürfe", "\"Entw&APw-rfe\"");
        check("~peter/mail/台北/日本語", "\"~peter/mail/&U,BTFw-/&ZeVnLIqe-\"");
        check("Q&A", "\"Q&-A\"");
        check("a\"b\\c", "\"a\\\"b\\\\c\"");
        check("📬", "\"&2D3c7A-\"");
        assert_eq!(folder_name("a\r\nX LOGOUT"), None);
        assert_eq!(folder_name(""), None);
    }

    #[test]
    fn sets_are_written_in_ranges() {
        assert_eq!(uid_set([1, 2, 3, 7, 9, 10]), "1:3,7,9:10");
        assert_eq!(uid_set([u32::MAX]), "4294967295");
        assert_eq!(uid_set([]), "");
    }

    #[test]
    fn internal_dates_are_read() {
        assert_eq!(internal_date("17-Jul-1996 02:44:25 -0700"), Time::parse("1996-07-17T09:44:25Z"));
        assert_eq!(internal_date(" 7-Jul-2026 02:44:25 +0000"), Time::parse("2026-07-07T02:44:25Z"));
        assert_eq!(internal_date("yesterday"), None);
        assert_eq!((internal_date("01-Jan-1970 00:00:00 +0000"), internal_date("")), (None, None), "no date at all");
    }

    #[test]
    fn refusals_are_told_apart() {
        let exchange = "Request is throttled. Suggested Backoff Time: 92415 milliseconds";
        assert_eq!(tone(exchange), Tone::Throttled(Some(Duration::from_millis(92415))));
        assert_eq!(tone("[THROTTLED] slow down"), Tone::Throttled(None));
        assert_eq!(tone("[OVERQUOTA] Account exceeded command or bandwidth limits."), Tone::Throttled(None));
        assert_eq!(tone("User is authenticated but not connected."), Tone::Throttled(Some(NOT_CONNECTED_PATIENCE)));
        assert_eq!(tone("[ALERT] Too many simultaneous connections. (Failure)"), Tone::Throttled(None));
        assert_eq!(tone("[UNAVAILABLE] Temporary authentication failure."), Tone::Unavailable);
        assert_eq!(tone("[NONEXISTENT] Unknown Mailbox: Foo"), Tone::Missing);
        assert_eq!(tone("[AUTHENTICATIONFAILED] Authentication failed."), Tone::Plain);
        assert_eq!(tone("Mailbox is locked by POP server"), Tone::Unavailable);
        assert!(is_full("[OVERQUOTA] Quota exceeded (mailbox for user is full)"));
        assert!(!is_full("[OVERQUOTA] Account exceeded command or bandwidth limits."));
    }

    #[test]
    fn repeated_words_hold_no_addresses_and_stay_short() {
        assert_eq!(said("no mail\r\nfor <ana@example.org> here"), "no mail for … here");
        assert_eq!(said(&"long ".repeat(1000)).chars().count(), SAID_CHARS_MAX);
    }
}
