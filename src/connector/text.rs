//! Text of the platforms, made plain.

use std::fmt::Write;

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Cuts at a letter's border so that at most `bytes_max` bytes stay; whether it cut.
pub fn cut(text: &mut String, bytes_max: usize) -> bool {
    if text.len() <= bytes_max {
        return false;
    }
    let mut end = bytes_max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    true
}

/// Text as events carry it: line feeds only, no NUL and no other control characters.
pub fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        // Nearly all of a text is plain and copied whole. U+0080 to U+009F, controls too, begin with 0xC2 in UTF-8.
        let special = |byte: &u8| *byte < 0x20 && !matches!(byte, b'\n' | b'\t') || matches!(byte, 0x7f | 0xc2);
        let end = rest.bytes().position(|byte| special(&byte)).unwrap_or(rest.len());
        clean.push_str(rest.get(..end).unwrap_or_default());
        let mut chars = rest.get(end..).unwrap_or_default().chars();
        match chars.next() {
            Some('\r') if !chars.as_str().starts_with('\n') => clean.push('\n'),
            Some(c) if !c.is_control() => clean.push(c),
            _ => {}
        }
        rest = chars.as_str();
    }
    clean
}

/// Slack's mrkdwn: `<@U1>` → `@U1`, `<#C1|help>` → `#help`, `<https://x|label>` → `label (https://x)`, `<!here>` → `@here`, then
/// the three entities.
pub fn slack(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('<') {
        out.push_str(rest.get(..open).unwrap_or_default());
        rest = rest.get(open + 1..).unwrap_or_default();
        // An escaped text has no other `<`; one without an end is shown as it is.
        let Some(close) = rest.find('>') else {
            out.push('<');
            continue;
        };
        slack_link(rest.get(..close).unwrap_or_default(), &mut out);
        rest = rest.get(close + 1..).unwrap_or_default();
    }
    out.push_str(rest);
    out.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

fn slack_link(inner: &str, out: &mut String) {
    let (target, label) =
        inner.split_once('|').map_or((inner, None), |(target, label)| (target, Some(label).filter(|label| !label.is_empty())));
    match target.chars().next() {
        Some(mark @ ('@' | '#')) => {
            out.push(mark);
            let id = target.get(1..).unwrap_or_default();
            out.push_str(label.map_or(id, |label| label.trim_start_matches(mark)));
        }
        Some('!') => {
            let word = target.get(1..).unwrap_or_default();
            match (word.split_once('^'), label) {
                // A date, a group: the label is what people read.
                (Some(_), Some(label)) => out.push_str(label),
                (_, Some(label)) => out.push_str(label),
                _ => {
                    out.push('@');
                    out.push_str(word);
                }
            }
        }
        _ => {
            let shown = target.trim_start_matches("mailto:").trim_start_matches("tel:");
            match label {
                Some(label) if label != shown && label != target => {
                    let _ = write!(out, "{label} ({target})");
                }
                _ => out.push_str(shown),
            }
        }
    }
}

/// Telegram: plain already; where a link hides behind words its address is added. `links`: end in UTF-16 units, address.
pub fn telegram(text: &str, links: &[(usize, &str)]) -> String {
    let mut sorted: Vec<&(usize, &str)> = links.iter().collect();
    sorted.sort_by_key(|(end, _)| *end);
    let mut out = String::with_capacity(text.len());
    let (mut unit, mut next) = (0, 0);
    let put_due = |unit: usize, next: &mut usize, out: &mut String| {
        while let Some((_, url)) = sorted.get(*next).filter(|(end, _)| *end <= unit) {
            let _ = write!(out, " ({url})");
            *next += 1;
        }
    };
    for letter in text.chars() {
        out.push(letter);
        unit += letter.len_utf16();
        put_due(unit, &mut next, &mut out);
    }
    out
}

/// Markdown without its marks: enough for reading, no renderer.
pub fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (index, line) in text.lines().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        let line = line.trim_start_matches('#').trim_start_matches("> ");
        let line = line.trim().replace("**", "").replace("__", "").replace('`', "");
        out.push_str(&markdown_links(&line));
    }
    out
}

fn markdown_links(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(open) = rest.find('[') {
        let (lead, tail) = rest.split_at(open);
        out.push_str(lead);
        let inner = tail.get(1..).unwrap_or_default();
        let parts = inner.split_once("](").and_then(|(label, after)| after.split_once(')').map(|(url, after)| (label, url, after)));
        match parts {
            Some((label, url, after)) if !label.contains('[') => {
                let _ = write!(out, "{label} ({url})");
                rest = after;
            }
            _ => {
                out.push('[');
                rest = inner;
            }
        }
    }
    out.push_str(rest);
    out
}

/// Takes mentions of `ids` (`<@U1>`, `@U1`) out of a text.
pub fn strip_mention(text: &str, ids: &[&str]) -> String {
    let mut out = text.to_owned();
    for id in ids.iter().filter(|id| !id.is_empty()) {
        out = out.replace(&format!("<@{id}>"), "").replace(&format!("@{id}"), "");
    }
    out.trim().to_owned()
}

/// The UTF-16 units `start..end`, at whole letters.
pub fn utf16_slice(text: &str, start: usize, end: usize) -> &str {
    let mut unit = 0;
    let (mut from, mut to) = (None, text.len());
    for (at, letter) in text.char_indices() {
        if unit >= end {
            to = at;
            break;
        }
        if unit >= start && from.is_none() {
            from = Some(at);
        }
        unit += letter.len_utf16();
    }
    text.get(from.unwrap_or(to)..to).unwrap_or_default()
}

/// The bytes `start..end`, at whole letters.
pub fn utf8_slice(text: &str, start: usize, end: usize) -> &str {
    let floor = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let (from, to) = (floor(start), floor(end));
    text.get(from..to.max(from)).unwrap_or_default()
}

/// `+4915112345678`, if it is a possible number. Without a region only international numbers (with or without the plus) are known.
pub fn phone_e164(text: &str, region: Option<&str>) -> Option<String> {
    if text.len() > 64 {
        return None;
    }
    let trimmed = text.trim();
    // What platforms send is nearly always E.164 already. Asking the library would load the numbering plans of the world:
    // tens of megabytes and, at the first message, a good part of a second.
    if (region.is_none() || trimmed.starts_with('+'))
        && let Some(digits) = plain_international(trimmed)
    {
        return Some(format!("+{digits}"));
    }
    let region: Option<phonenumber::country::Id> = region.and_then(|region| region.to_ascii_uppercase().parse().ok());
    let international = if region.is_none() && !trimmed.starts_with('+') && !trimmed.starts_with("00") {
        format!("+{trimmed}")
    } else if let Some(rest) = trimmed.strip_prefix("00") {
        format!("+{rest}")
    } else {
        trimmed.to_owned()
    };
    match phonenumber::parse(region, &international) {
        Ok(number) => Some(number.format().mode(phonenumber::Mode::E164).to_string()),
        Err(_) => None,
    }
}

/// The digits of a number that is written in full already: country code first, 8 to 15 digits (ITU-T E.164 §6), nothing between.
fn plain_international(text: &str) -> Option<&str> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let whole = (8..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    (whole && !digits.starts_with('0')).then_some(digits)
}

/// The bare address of `Ana <ana@example.org>`, lower case; `None` if it is none.
pub fn email_address(text: &str) -> Option<String> {
    let inner = text.rsplit_once('<').map_or(text, |(_, tail)| tail.split('>').next().unwrap_or_default()).trim();
    let (local, domain) = inner.rsplit_once('@')?;
    let plain = |part: &str| {
        !part.is_empty() && !part.chars().any(|letter| letter.is_whitespace() || letter.is_control() || "<>(),;:\"[]\\@".contains(letter))
    };
    let named = domain.contains('.') && !domain.starts_with('.') && !domain.ends_with('.') && !domain.contains("..");
    // RFC 5321 §4.5.3.1: 64 octets before the sign, 254 in all.
    (plain(local) && plain(domain) && named && local.len() <= 64 && inner.len() <= 254).then(|| inner.to_lowercase())
}

/// Unix milliseconds of an RFC 2822 date.
pub fn rfc2822_ms(text: &str) -> Option<i64> {
    jiff::fmt::rfc2822::parse(text.trim()).ok().map(|time| time.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_go_and_line_breaks_are_line_feeds() {
        assert_eq!(clean("a\r\nb\rc\0d\x1b\te"), "a\nb\ncd\te");
    }

    #[test]
    fn slack_marks_become_readable() {
        assert_eq!(slack("help &amp; hurry <@U0BOT>"), "help & hurry @U0BOT");
        assert_eq!(slack("<https://example.org|docs> in <#C1|help>, <!here>"), "docs (https://example.org) in #help, @here");
        assert_eq!(slack("<mailto:a@example.org|a@example.org> 1 &lt; 2"), "a@example.org 1 < 2");
        assert_eq!(slack("&amp;lt; open <"), "&lt; open <");
    }

    #[test]
    fn telegram_offsets_count_utf16_units() {
        assert_eq!(telegram("😀 here now", &[(7, "https://example.org")]), "😀 here (https://example.org) now");
        assert_eq!(utf16_slice("😀ab", 2, 3), "a");
        assert_eq!(utf8_slice("äb", 1, 9), "äb");
    }

    #[test]
    fn phones_and_addresses_are_normal_or_none() {
        assert_eq!(phone_e164("15550000002", None).as_deref(), Some("+15550000002"));
        assert_eq!(phone_e164("0151 12345678", Some("de")).as_deref(), Some("+4915112345678"));
        assert_eq!(phone_e164("call me", None), None);
        assert_eq!(email_address("Ana <Ana@Example.org>").as_deref(), Some("ana@example.org"));
        assert_eq!(email_address("a@b\r\nBcc: c@example.org"), None);
    }
}
