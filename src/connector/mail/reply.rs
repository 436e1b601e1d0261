//! The new part of a mail: without quoted history and signature. The full text is always kept beside it, so a wrong cut costs
//! nothing but convenience; therefore the rules cut where the marks are plain, and leave the rest.

use std::sync::LazyLock;

use regex::Regex;

use crate::connector::mail::marks::HtmlText;

/// Lines that are looked at.
const LINES_MAX: usize = 5_000;
/// A signature is at most this long, or it is none.
const SIGNATURE_LINES_MAX: usize = 15;

/// The line a mail client writes over a quoted mail, in the languages of common clients. It may be folded over two lines.
static WROTE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)^(?:(?:on|am|le|el|il|em|op|den|dnia|dne|pe|w dniu|tarihinde|vào)\b.{6,220}",
        r"\b(?:wrote|writes|schrieb|a écrit|ecrit|escribió|escribio|ha scritto|scrisse|escreveu|schreef|skrev|napisał|napisał\(a\)|napsal|a scris|kirjoitti|viết)\s*:?\s*$",
        r"|.{6,220}\b(?:wrote|schrieb|a écrit|escribió|ha scritto|escreveu|schreef|skrev|пишет|написал|написала|yazdı|kirjoitti)\s*:\s*$",
        r"|(?:am|den|op|på|vào)\b.{4,120}\b(?:schrieb|skrev|schreef|đã viết)\b.{0,160}:\s*$",
        r"|\d{4}年.{4,120}[:：]\s*$)",
    ))
    .ok()
});

/// The line over a mail that is quoted whole.
static DIVIDER: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)^\s*(?:-{2,}|_{2,}|={2,})\s*(?:original message|original appointment|ursprüngliche nachricht|originalnachricht|weitergeleitete nachricht",
        r"|forwarded message|message d'origine|message transféré|mensaje original|messaggio originale|mensagem original|oorspronkelijk bericht",
        r"|ursprungligt meddelande|oprindelig meddelelse|wiadomość oryginalna|původní zpráva|исходное сообщение|原始邮件|元のメッセージ|original-nachricht)",
        r"\s*(?:-{2,}|_{2,}|={2,})?\s*$|^\s*_{20,}\s*$",
    ))
    .ok()
});

/// A line of the header block that Outlook and its like put over a quoted mail.
static HEADER_LINE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)^[\s*>]*(?:(from|von|de|da|van|från|fra|od|от|差出人|发件人|gönderen)",
        r"|(?:sent|gesendet|envoyé|enviado(?: el)?|inviato|verzonden|skickat|sendt|wysłano|odesláno|отправлено|送信日時|发送时间|gönderildi|date|datum|fecha|data|дата)",
        r"|(?:to|an|à|a|para|aan|till|til|do|komu|кому|宛先|收件人|kime|cc|kopie)",
        r"|(?:subject|betreff|objet|asunto|oggetto|assunto|onderwerp|ämne|emne|temat|předmět|тема|件名|主题|konu))\s*\*?\s*[:：]",
    ))
    .ok()
});

/// Lines that phones and apps put at the end.
static SENT_FROM: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)^\s*(?:sent from (?:my|mail for|outlook|yahoo|samsung|proton|the)\b.{0,60}|get outlook for .{0,40}",
        r"|(?:von meinem|gesendet von|gesendet mit|diese nachricht wurde von meinem).{2,80}|envoyé (?:de mon|depuis mon|à partir).{2,80}|enviado (?:desde|do|de) (?:mi|meu|o meu).{2,60}",
        r"|inviato (?:da|dal) .{2,60}|verzonden (?:vanaf|van|met) .{2,60}|skickat från .{2,60}|sendt fra .{2,60}|wysłane z .{2,60}|odesláno z .{2,60}|отправлено с .{2,60}",
        r"|iPhone(?:から送信)|发自我的.{0,40}|iPhone'umdan gönderildi)\s*$",
    ))
    .ok()
});

fn matches(regex: &LazyLock<Option<Regex>>, line: &str) -> bool {
    // A line longer than any mark is text.
    line.len() <= 600 && regex.as_ref().is_some_and(|regex| regex.is_match(line))
}

/// The new part of `text`. `marked` holds the marks found in the HTML the text was made from. Never longer than the text; the
/// whole text if nothing else would be left.
pub fn cut(text: &str, marked: Option<&HtmlText>) -> String {
    let mut text = text;
    let quoted = marked.and_then(|marked| marked.quote_at);
    if let Some(kept) = quoted.and_then(|at| text.get(..at)).filter(|kept| !kept.trim().is_empty()) {
        text = kept;
    }
    if let Some(kept) = marked.and_then(|marked| marked.signature_at).and_then(|at| text.get(..at)).filter(|kept| !kept.trim().is_empty()) {
        text = kept;
    }
    let mut lines: Vec<&str> = text.lines().collect();
    let rest = lines.split_off(lines.len().min(LINES_MAX));
    let kept = without_signature(without_quotes(lines));
    let whole = kept.len() + rest.len();
    let joined = kept.into_iter().chain(if whole > LINES_MAX { rest } else { Vec::new() }).collect::<Vec<_>>().join("\n");
    let joined = joined.trim_matches('\n').trim_end();
    if joined.trim().is_empty() { text.trim().to_owned() } else { joined.to_owned() }
}

/// Cuts from the first mark of a whole quoted mail on, and drops quoted lines before it with the line that announces them.
fn without_quotes(mut lines: Vec<&str>) -> Vec<&str> {
    if let Some(at) = (0..lines.len()).find(|at| begins_history(&lines, *at))
        && lines.iter().take(at).any(|line| !line.trim().is_empty() && !is_quoted(line))
    {
        lines.truncate(at);
    }
    let mut kept: Vec<&str> = Vec::with_capacity(lines.len());
    for line in lines {
        if is_quoted(line) {
            announced(&mut kept);
        } else {
            kept.push(line);
        }
    }
    kept
}

fn is_quoted(line: &str) -> bool {
    line.trim_start().starts_with('>')
}

/// Drops the line `On … wrote:` at the end of what is kept, blank lines behind it and a second half of it included.
fn announced(kept: &mut Vec<&str>) {
    let filled = kept.iter().rposition(|line| !line.trim().is_empty());
    let Some(at) = filled else { return };
    let last = kept.get(at).copied().unwrap_or_default();
    let before = at.checked_sub(1).and_then(|at| kept.get(at)).copied().unwrap_or_default();
    let two = format!("{} {}", before.trim(), last.trim());
    if matches(&WROTE, last.trim()) && !matches(&WROTE, &two) || matches(&WROTE, last.trim()) && before.trim().is_empty() {
        kept.truncate(at);
    } else if !before.trim().is_empty() && matches(&WROTE, &two) && starts_announcement(before) {
        kept.truncate(at - 1);
    } else if matches(&WROTE, last.trim()) {
        kept.truncate(at);
    }
}

fn starts_announcement(line: &str) -> bool {
    let line = line.trim().to_lowercase();
    ["on ", "am ", "le ", "el ", "il ", "em ", "op ", "den ", "w dniu ", "dne "].iter().any(|start| line.starts_with(start))
}

/// Whether all that follows line `at` is an older mail.
fn begins_history(lines: &[&str], at: usize) -> bool {
    let Some(line) = lines.get(at) else { return false };
    if matches(&DIVIDER, line) {
        // A bare rule of underscores is one only with a header block behind it.
        return !line.trim().chars().all(|c| c == '_') || (1..4).any(|n| is_header_block(lines, at + n));
    }
    if is_header_block(lines, at) {
        return true;
    }
    let line = line.trim();
    let next = lines.get(at + 1).map_or("", |next| next.trim());
    let announces = matches(&WROTE, line) || (starts_announcement(line) && !next.is_empty() && matches(&WROTE, &format!("{line} {next}")));
    // Clients that do not mark quoted lines leave nothing but the announcement: it counts if it opens with a date word and no
    // quoted line follows, or if nothing but quoted lines follow.
    announces && starts_announcement(line) && lines.iter().skip(at + 2).all(|line| line.trim().is_empty() || is_quoted(line))
        || announces && starts_announcement(line) && !lines.iter().skip(at + 1).any(|line| is_quoted(line))
}

/// Three header lines in a row, the first of them From.
fn is_header_block(lines: &[&str], at: usize) -> bool {
    let Some(Some(regex)) = lines.get(at).map(|_| HEADER_LINE.as_ref()) else { return false };
    let first = lines.get(at).filter(|line| line.len() <= 600).and_then(|line| regex.captures(line));
    if first.is_none_or(|found| found.get(1).is_none()) {
        return false;
    }
    lines.iter().skip(at + 1).take(4).filter(|line| matches(&HEADER_LINE, line)).count() >= 2
}

fn without_signature(mut lines: Vec<&str>) -> Vec<&str> {
    while lines.last().is_some_and(|line| line.trim().is_empty()) {
        lines.pop();
    }
    let from = lines.len().saturating_sub(SIGNATURE_LINES_MAX);
    // RFC 3676 §4.3: dash dash space; many clients lose the space.
    let dashes = lines.iter().rposition(|line| matches!(line.trim_end(), "--")).filter(|at| *at >= from && *at > 0);
    if let Some(at) = dashes {
        lines.truncate(at);
    }
    let phone = lines.iter().enumerate().skip(lines.len().saturating_sub(4)).find(|(_, line)| matches(&SENT_FROM, line)).map(|(at, _)| at);
    if let Some(at) = phone.filter(|at| *at > 0) {
        lines.truncate(at);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(cut(text, None), expected);
    }

    #[test]
    fn quoted_lines_and_their_announcement_go() {
        check("Yes please.\n\nOn Mon, 1 Jun 2026 at 10:00, Support <s@example.org> wrote:\n> Shall we?\n>\n> Yours\n", "Yes please.");
        check("Ja bitte.\n\nAm 01.06.2026 um 10:00 schrieb Support <s@example.org>:\n\n> Sollen wir?\n", "Ja bitte.");
        check("Oui.\n\nLe lun. 1 juin 2026 à 10:00, Support <s@example.org> a écrit :\n\n> Ok ?\n", "Oui.");
        check("Yes.\nOn Mon, 1 Jun 2026 at 10:00, Somebody With A Long Name\n<somebody@example.org> wrote:\n> Shall we?\n", "Yes.");
        check("はい。\n\n2026年6月1日(月) 10:00 Support <s@example.org>:\n> よろしいですか\n", "はい。");
    }

    #[test]
    fn answers_between_quotes_stay() {
        check("On Mon, Ana <a@example.org> wrote:\n> One?\nFirst answer\n> Two?\nSecond answer\n", "First answer\nSecond answer");
    }

    #[test]
    fn outlook_history_goes() {
        check("New.\n\nFrom: Support <s@example.org>\nSent: Monday, 1 June 2026 10:00\nTo: Ana\nSubject: RE: x\n\nOld.\n", "New.");
        check("Neu.\n\nVon: Support\nGesendet: Montag\nAn: Ana\nBetreff: AW: x\n\nAlt.\n", "Neu.");
        check("New.\n\n________________________________\nDe : Support\nEnvoyé : lundi\nÀ : Ana\nObjet : x\n\nOld.\n", "New.");
        check("New.\n\n-----Original Message-----\nOld.\n", "New.");
        check("Neu.\n\n-----Ursprüngliche Nachricht-----\nAlt.\n", "Neu.");
    }

    #[test]
    fn signatures_go() {
        check("Hello.\n\n-- \nAna\nExample Ltd\n", "Hello.");
        check("Hello.\n\nSent from my iPhone\n", "Hello.");
        check("Hallo.\n\nVon meinem iPhone gesendet\n", "Hallo.");
        check("Hallo.\n\nGesendet von Outlook für Android\n", "Hallo.");
    }

    #[test]
    fn text_that_only_looks_like_it_stays() {
        check("From: here we see the sea\nand then we left.", "From: here we see the sea\nand then we left.");
        check(
            "The list:\n--\none\ntwo\n\n".repeat(5).trim(),
            "The list:\n--\none\ntwo\n\n".repeat(5).trim().rsplit_once("\n--").map_or("", |(kept, _)| kept),
        );
        check("> only quoted", "> only quoted");
        check("He wrote:\nnice words", "He wrote:\nnice words");
    }

    #[test]
    fn a_forwarded_mail_without_own_words_is_kept_whole() {
        check("-----Original Message-----\nOld.", "-----Original Message-----\nOld.");
    }

    #[test]
    fn marks_of_html_cut_first() {
        let marked = crate::connector::mail::marks::to_text("<div>New</div><div id=\"divRplyFwdMsg\">From: x<br>old</div>");
        assert_eq!(cut(&marked.text, Some(&marked)), "New");
    }

    #[test]
    fn hostile_text_takes_linear_time() {
        let begun = std::time::Instant::now();
        for hostile in [">", "> ", "On ", "\n", "-- \n", "From: x\n", "On a wrote:\n", "on aaaaaaaaaaaaaaa\n", "wrote: "] {
            cut(&hostile.repeat(512 * 1024 / hostile.len()), None);
        }
        assert!(begun.elapsed().as_secs() < 20, "took {:?}", begun.elapsed());
    }
}
