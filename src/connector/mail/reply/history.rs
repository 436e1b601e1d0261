//! Quoted history: lines with `>`, the line that announces them, and older mails that follow whole.

use crate::connector::mail::charset::is_direction;
use crate::connector::mail::reply::phrases::{ABOVE, DATE_WORDS, FIELDS, FROM, QUOTING, WHOLE, WROTE, WROTE_INSIDE};
use crate::connector::mail::reply::{LINE_BYTES_MAX, LINES_MAX};

/// Lines over which an announcement may be folded.
const FOLDED_LINES_MAX: usize = 4;
/// Lines behind From among which the other fields of a header block stand; long lists of recipients are folded.
const BLOCK_LINES: usize = 8;

/// Cuts from the first mark of a whole older mail on, and drops quoted lines before it with the line that announces them. The
/// second value: the end was cut off.
pub fn without(mut lines: Vec<&str>) -> (Vec<&str>, bool) {
    let quoted = Quoted::of(&lines);
    let begins = (0..lines.len()).find(|at| begins_history(&lines, *at, &quoted)).map(|at| block_start(&lines, at));
    let says = |lines: &[&str]| lines.iter().any(|line| !line.trim().is_empty() && !is_quoted(line));
    let begins = begins.filter(|at| lines.get(..*at).is_some_and(says));
    if let Some(at) = begins {
        lines.truncate(at);
    }
    let mut kept: Vec<&str> = Vec::with_capacity(lines.len());
    let mut in_quote = false;
    for line in lines {
        if is_quoted(line) {
            if !in_quote {
                without_announcement(&mut kept);
            }
            in_quote = true;
        } else {
            let blank = line.trim().is_empty();
            if !(in_quote && blank && kept.last().is_none_or(|last| last.trim().is_empty())) {
                kept.push(line);
            }
            in_quote &= blank;
        }
    }
    (kept, begins.is_some())
}

/// A line of an older mail, by its mark.
pub fn is_quoted(line: &str) -> bool {
    line.trim_start().starts_with('>')
}

/// Where quoted lines are: asked for every line, so looked up once.
struct Quoted {
    /// The last quoted line.
    last: Option<usize>,
    /// From here on nothing but quoted and blank lines.
    only_from: usize,
}

impl Quoted {
    fn of(lines: &[&str]) -> Self {
        let spoken = lines.iter().rposition(|line| !line.trim().is_empty() && !is_quoted(line));
        Self { last: lines.iter().rposition(|line| is_quoted(line)), only_from: spoken.map_or(0, |at| at + 1) }
    }
}

/// Drops the line `On … wrote:` at the end of what is kept, however it is folded.
fn without_announcement(kept: &mut Vec<&str>) {
    let Some(last) = kept.iter().rposition(|line| !line.trim().is_empty()) else { return };
    let mut found = None;
    for lines in 1..=FOLDED_LINES_MAX.min(last + 1) {
        let first = last + 1 - lines;
        let Some(part) = kept.get(first..=last) else { break };
        if part.iter().any(|line| line.trim().is_empty()) {
            break;
        }
        let joined = join(part);
        if announces(&joined) {
            found = found.or(Some(first));
            if begins_with_date_word(&joined) {
                found = Some(first);
                break;
            }
        }
    }
    if let Some(first) = found {
        kept.truncate(first);
    }
}

fn join(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// Whether all that follows line `at` is an older mail.
fn begins_history(lines: &[&str], at: usize, quoted: &Quoted) -> bool {
    let Some(line) = lines.get(at).map(|line| line.trim()).filter(|line| !line.is_empty() && line.len() <= LINE_BYTES_MAX) else {
        return false;
    };
    if is_divider(line) || is_header_block(lines, at) {
        return true;
    }
    if is_rule(line) {
        // A bare rule is one only with a header block or the footer of a mailing list behind it.
        return (1..4).any(|n| is_header_block(lines, at + n))
            || (1..3).any(|n| lines.get(at + n).is_some_and(|line| is_list_footer(line)));
    }
    let Some(behind) = announcement(lines, at) else { return false };
    // Programs that do not mark quoted lines leave nothing but the announcement. It counts if no quoted line follows, or if
    // nothing but quoted lines do.
    quoted.last.is_none_or(|last| last < behind) || quoted.only_from <= behind
}

/// The line behind an announcement with a date that begins at `at`, if there is one.
fn announcement(lines: &[&str], at: usize) -> Option<usize> {
    let first = lines.get(at)?.trim();
    let iso = is_iso_date(first);
    let dated = begins_with_date_word(first) || iso;
    let folded = dated || has_moment(first) || first.contains('@');
    if !folded && !ends_with_colon(first) {
        return None;
    }
    for count in 1..=FOLDED_LINES_MAX {
        let part = lines.get(at..at + count)?;
        let last = part.last()?.trim();
        if last.is_empty() || is_quoted(last) {
            return None;
        }
        let joined = join(part);
        if joined.len() > LINE_BYTES_MAX {
            return None;
        }
        if says_who_and_when(&joined) {
            return Some(at + count);
        }
        // Beyond the first line only what began with a date is taken for one sentence.
        if (count == 1 || dated) && announces(&joined) {
            let plain = has_number(&joined)
                && (dated || joined.contains('@') || is_cjk_date(&joined) || has_moment(&joined) && begins_with_who_or_when(&joined));
            // `X <address> wrote:`, and what forums put for the address.
            let somebody = ends_with_colon(&joined) && (joined.contains('@') || joined.contains(" via "));
            return (plain || somebody).then_some(at + count);
        }
        if !folded {
            return None;
        }
    }
    None
}

/// `-----Original Message-----`, `Begin forwarded message:`, `---- On … X wrote ----`, `Reply above this line`.
fn is_divider(line: &str) -> bool {
    let bare = line.trim_matches(|c: char| matches!(c, '-' | '_' | '=' | '*' | '#' | '~' | '—' | '–' | ' '));
    let ruled = bare.len() + 4 <= line.len() && line.starts_with(['-', '_', '=', '*', '#', '—', '–']);
    let headed = ends_with_colon(line) && line.len() <= 80;
    if !ruled && !headed || bare.len() > 200 || bare.is_empty() {
        return false;
    }
    let lower = bare.to_lowercase();
    let words = lower.trim_end_matches([':', '：', '.', ' ']);
    if ruled && ABOVE.iter().any(|words| lower.contains(words)) {
        return true;
    }
    let by_whom = |known: &str| ruled && words.starts_with(known) && (known.ends_with(" by") || known.ends_with(" von"));
    if ruled && words == "original" || WHOLE.iter().any(|known| words == *known || by_whom(known)) {
        return true;
    }
    // Zoho: the announcement between rules.
    ruled && begins_with_date_word(bare) && has_number(bare) && ends_with_verb(words)
}

fn is_rule(line: &str) -> bool {
    line.len() >= 5 && line.bytes().all(|byte| byte == b'_') || line.len() >= 20 && line.bytes().all(|byte| matches!(byte, b'-' | b'='))
}

fn is_list_footer(line: &str) -> bool {
    let lower = line.get(..line.floor_char_boundary(100)).unwrap_or(line).to_lowercase();
    lower.contains("mailing list") || lower.contains("mailingliste") || lower.contains("liste de diffusion")
}

/// Whether this line, or these joined ones, say that somebody wrote what follows.
fn announces(line: &str) -> bool {
    let line = line.trim_matches(['*', '_', '"', ' ']);
    if line.len() < 8 || line.len() > LINE_BYTES_MAX {
        return false;
    }
    if says_who_and_when(line) {
        return true;
    }
    let colon = ends_with_colon(line);
    let dated = begins_with_date_word(line);
    if is_iso_date(line) {
        return names_address(line) || line.contains(" GMT+") || line.contains(" GMT-");
    }
    // A sentence may begin and end like an announcement; it does not name an address.
    let addressed = dated && line.contains('@');
    if !colon && !addressed {
        return false;
    }
    let lower = line.trim_end_matches([':', '：', ' ', '\u{a0}']).to_lowercase();
    if ends_with_verb(&lower) {
        return true;
    }
    // Gmail in any language: `…, Name <address>:`
    colon
        && ((dated || has_number(&lower) && lower.contains('@')) && WROTE_INSIDE.iter().any(|verb| lower.contains(verb))
            || lower.contains(" wrote on ") && has_number(&lower))
        || colon && has_moment(&lower) && WROTE_INSIDE.iter().any(|verb| lower.contains(verb))
        || colon && names_address(&lower) && QUOTING.iter().any(|begin| lower.starts_with(begin))
        || colon && has_number(&lower) && names_address(&lower)
        || colon && is_cjk_date(&lower)
}

/// In any language: a day of a year, a time of day and an address in brackets, up to a colon.
fn says_who_and_when(line: &str) -> bool {
    let line = line.trim_end_matches(is_direction);
    if !ends_with_colon(line) || line.len() > LINE_BYTES_MAX {
        return false;
    }
    let Some((before, behind)) = line.split_once('<') else { return false };
    let Some((address, behind)) = behind.split_once('>') else { return false };
    address.contains('@') && has_moment(&[before, behind].join(" "))
}

/// A date, or a name as Notes writes it (`Ana Lindqvist/Support/ACME`): a sentence that speaks of a letter begins otherwise.
fn begins_with_who_or_when(line: &str) -> bool {
    let digit = line.find(char::is_numeric).unwrap_or(line.len());
    digit == 0 || line.find('/').is_some_and(|slash| slash < digit)
}

/// A year and a time of day, in digits of any script.
fn has_moment(line: &str) -> bool {
    // Every line of every mail is asked: four digits of a year and three of a time are rare.
    if line.is_ascii() && line.bytes().filter(u8::is_ascii_digit).count() < 7 {
        return false;
    }
    let (mut year, mut clock) = (false, false);
    let mut runs = line.split(|c: char| !c.is_numeric()).peekable();
    let mut at = 0;
    while let Some(run) = runs.next() {
        let digits = run.chars().count();
        let behind = line.get(at + run.len()..).unwrap_or_default();
        year |= digits == 4;
        clock |= (1..=2).contains(&digits)
            && behind.starts_with([':', '.', 'h', '：', '時', '时'])
            && runs.peek().is_some_and(|next| next.chars().count() == 2);
        at += run.len() + behind.chars().next().map_or(0, char::len_utf8);
    }
    year && clock
}

/// Some words, then a verb of writing.
fn ends_with_verb(lower: &str) -> bool {
    let verb = |verb: &&&str| {
        lower.strip_suffix(**verb).is_some_and(|before| before.len() >= 3 && (!verb.is_ascii() || !before.ends_with(char::is_alphanumeric)))
    };
    WROTE.iter().find(verb).is_some()
}

/// `2026-06-01 10:00 GMT+02:00 X <address>:`, `2026/6/1 X <address>`
fn is_iso_date(line: &str) -> bool {
    matches!(line.as_bytes(), [b'2', b'0', a, b, b'-' | b'/', c, ..] if a.is_ascii_digit() && b.is_ascii_digit() && c.is_ascii_digit())
}

fn ends_with_colon(line: &str) -> bool {
    line.ends_with([':', '：'])
}

fn begins_with_date_word(line: &str) -> bool {
    let line = line.trim_start_matches(['*', '_', ' ']);
    if line.starts_with('在') {
        return true;
    }
    let Some((word, _)) = line.split_once([' ', '\u{a0}']) else { return false };
    word.len() <= 10 && {
        let word = word.to_lowercase();
        DATE_WORDS.contains(&word.as_str())
    }
}

fn has_number(line: &str) -> bool {
    line.bytes().filter(u8::is_ascii_digit).count() >= 2
}

/// An address in brackets stands at the end.
fn names_address(line: &str) -> bool {
    let line = line.trim_end_matches([':', '：', ' ', '\u{a0}']);
    line.ends_with('>') && line.rsplit_once('<').is_some_and(|(_, address)| address.contains('@'))
}

fn is_cjk_date(line: &str) -> bool {
    line.contains('年') && line.contains('月') && line.contains('日') && has_number(line)
}

/// From and Subject of the first older mail that follows whole behind a block of header lines.
pub fn quoted_header(text: &str) -> Option<(String, Option<String>)> {
    let lines: Vec<&str> = text.lines().take(LINES_MAX).collect();
    let at = (0..lines.len()).find(|at| is_header_block(&lines, *at))?;
    let value = |line: &&str| {
        let (_, value) = line.split_once([':', '：'])?;
        Some(value.trim_matches(['*', ' ', '\t', '\u{a0}']).to_owned())
    };
    let subjects = FIELDS.last().copied().unwrap_or_default();
    let is_subject = |line: &&&str| field_name(line).is_some_and(|name| subjects.contains(&name.as_str()));
    let subject = lines.iter().skip(at + 1).take(BLOCK_LINES).find(is_subject).and_then(value);
    Some((lines.get(at).and_then(value)?, subject.filter(|subject| !subject.is_empty())))
}

/// From, and two other kinds of fields close behind it.
fn is_header_block(lines: &[&str], at: usize) -> bool {
    let is_from = lines.get(at).and_then(|line| field_name(line)).is_some_and(|name| FROM.contains(&name.as_str()));
    if !is_from {
        return false;
    }
    let mut seen = [false; FIELDS.len()];
    for name in lines.iter().skip(at + 1).take(BLOCK_LINES).filter_map(|line| field_name(line)) {
        for (kind, seen) in FIELDS.iter().zip(&mut seen) {
            *seen |= kind.contains(&name.as_str());
        }
    }
    let [_, to, ..] = seen;
    seen.iter().filter(|seen| **seen).count() >= 2 && (to || !is_form(lines, at))
}

/// A form names who wrote it and when, and goes on with fields that no mail has; nor does it say to whom.
fn is_form(lines: &[&str], at: usize) -> bool {
    let block = lines.iter().skip(at + 1).take(BLOCK_LINES).take_while(|line| !line.trim().is_empty());
    let foreign = |name: String| !FROM.contains(&name.as_str()) && !FIELDS.iter().any(|kind| kind.contains(&name.as_str()));
    block.filter_map(|line| field_name(line)).any(foreign)
}

/// Where the header block around `at` begins: some programs put the date before From, and a line between rules above.
fn block_start(lines: &[&str], at: usize) -> usize {
    let is_field = |line: &&str| field_name(line).is_some_and(|name| FIELDS.iter().any(|kind| kind.contains(&name.as_str())));
    if !is_header_block(lines, at) {
        return at;
    }
    let before = lines.get(..at).unwrap_or_default();
    let first = at - before.iter().rev().take(FIELDS.len()).take_while(|line| is_field(line)).count();
    let above = lines.get(..first).unwrap_or_default();
    let ruled = above.iter().rposition(|line| !line.trim().is_empty()).filter(|at| first - at <= 2);
    ruled.filter(|at| lines.get(*at).is_some_and(|line| is_ruled(line.trim()))).unwrap_or(first)
}

/// `---- any words ----`, and a mere rule.
fn is_ruled(line: &str) -> bool {
    let rules = ['-', '_', '=', '*', '—', '–'];
    let (starts, ends) = (line.chars().take_while(|c| rules.contains(c)), line.chars().rev().take_while(|c| rules.contains(c)));
    line.len() <= 200 && starts.count() >= 3 && ends.count() >= 3
}

/// The name in a line `Name: value`, in lower case; stars around it are what is left of bold type.
fn field_name(line: &str) -> Option<String> {
    let line = line.trim_start_matches(['*', '>', '|', ' ', '\t']).trim_start_matches(is_direction);
    let head = line.get(..line.floor_char_boundary(48))?;
    let (name, _) = head.split_once([':', '：'])?;
    let name = name.trim_matches(['*', ' ', '\u{a0}', '\t']).trim_matches(is_direction);
    // Chinese programs set the names of fields to one width.
    (!name.is_empty()).then(|| name.replace('\u{3000}', "").to_lowercase())
}
