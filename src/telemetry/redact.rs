//! Keeping personal data out of logs (I7).
//!
//! [`Pii`] wraps a value so that printing it prints a keyed hash: the same person can be followed through the logs of one instance, and
//! nobody can be named. [`cut_detail`] makes a foreign error text fit for a log line, a ledger row or a dead letter.

use std::fmt;
use std::sync::OnceLock;

use crate::logic::digest::Subkey;

/// Longest detail kept, bytes ([`crate::model::delivery::Decision`] says 300).
pub const DETAIL_BYTES_MAX: usize = 300;

static KEY: OnceLock<Subkey> = OnceLock::new();

/// Sets the subkey (`Purpose::Pii`) once at start. Until then [`Pii`] prints `pii:-`.
pub fn set_pii_key(key: Subkey) {
    // Only the first one counts: hashes of one run must be comparable.
    let _ = KEY.set(key);
}

/// Personal data in a log field: prints as a keyed hash, never as itself.
pub struct Pii<T>(pub T);

impl<T: AsRef<str>> fmt::Display for Pii<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(key) = KEY.get() else { return f.write_str("pii:-") };
        f.write_str("pii:")?;
        key.mac(&[self.0.as_ref().as_bytes()]).iter().take(6).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<T: AsRef<str>> fmt::Debug for Pii<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One clean line of at most [`DETAIL_BYTES_MAX`] bytes: control characters and runs of white space become one space, mail addresses, long
/// numbers and what looks like a token or the query of a URL are replaced.
pub fn cut_detail(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(DETAIL_BYTES_MAX));
    // Words are looked at one by one; what lies far behind the cut is never read.
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).take(DETAIL_BYTES_MAX) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(&clean_word(word));
        if out.len() > DETAIL_BYTES_MAX {
            break;
        }
    }
    if out.len() > DETAIL_BYTES_MAX {
        let mut end = DETAIL_BYTES_MAX - '…'.len_utf8();
        while !out.is_char_boundary(end) {
            end -= 1;
        }
        out.truncate(end);
        out.push('…');
    }
    out
}

/// Longest word shown as it is; ids, host names and paths are shorter, tokens are not.
const WORD_BYTES_MAX: usize = 80;

fn clean_word(word: &str) -> String {
    // Hidden characters that turn text around have no place in a log.
    let word: String = word
        .chars()
        .filter(|c| !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'))
        .take(600)
        .collect();
    let word = match word.split_once('?') {
        Some((head, _)) if head.contains("://") || head.starts_with('/') => format!("{head}?…"),
        _ => word,
    };
    let inner = word.trim_matches(|c: char| !c.is_alphanumeric());
    let address = inner.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && domain.contains('.') && !local.contains("://"));
    if address {
        return "<address>".to_owned();
    }
    if let Some((scheme, rest)) = word.split_once("://")
        && let Some((_, host)) = rest.split_once('@')
        && !rest.split_once('@').is_some_and(|(user, _)| user.contains('/'))
    {
        return format!("{scheme}://…@{host}");
    }
    let digits = inner.bytes().filter(u8::is_ascii_digit).count();
    if digits >= 9 && inner.chars().all(|c| c.is_ascii_digit() || "+-()./".contains(c)) {
        return "<number>".to_owned();
    }
    let opaque =
        |part: &str| part.len() >= 24 && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-+=.".contains(&b)) && looks_random(part);
    if word.len() > WORD_BYTES_MAX || word.split(['=', ':', ',', '"', '\'', '/', '&']).any(opaque) {
        return "<cut>".to_owned();
    }
    word
}

/// Letters of both cases, or letters and digits mixed, and no dots as in a host name.
fn looks_random(part: &str) -> bool {
    let digits = part.bytes().filter(u8::is_ascii_digit).count();
    let upper = part.bytes().filter(u8::is_ascii_uppercase).count();
    let lower = part.bytes().filter(u8::is_ascii_lowercase).count();
    digits >= 4 && (upper + lower) >= 4 || (upper >= 4 && lower >= 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(cut_detail(text), expected);
    }

    #[test]
    fn details_are_one_clean_line() {
        check("connecting to imap.example.org:993:\r\n certificate\t expired", "connecting to imap.example.org:993: certificate expired");
        check("HTTP 500: {\"error\":\"internal\"}", "HTTP 500: {\"error\":\"internal\"}");
    }

    #[test]
    fn addresses_numbers_queries_and_tokens_are_replaced() {
        check("no such user <ana@example.org>", "no such user <address>");
        check("call +49 1511-2345678 back", "call +49 <number> back");
        check("GET https://crm.example/hooks?token=abc failed", "GET https://crm.example/hooks?… failed");
        check("https://user:pw@crm.example/x refused", "https://…@crm.example/x refused");
        check("bad token EAAGm0PX4ZCpsBAKe5xYzAbCdEf12345", "bad token <cut>");
    }

    #[test]
    fn details_are_cut_at_a_character_border() {
        let long = "ünïcödé ".repeat(100);
        let cut = cut_detail(&long);
        assert!(cut.len() <= DETAIL_BYTES_MAX && cut.ends_with('…'), "{cut}");
    }

    #[test]
    fn pii_never_prints_itself() {
        set_pii_key(Subkey::derive(&[7; 32], crate::logic::digest::Purpose::Pii));
        let printed = format!("{} {:?}", Pii("ana@example.org"), Pii("ana@example.org"));
        assert!(printed.starts_with("pii:") && !printed.contains("ana"), "{printed}");
        assert_ne!(Pii("a").to_string(), Pii("b").to_string());
    }
}
