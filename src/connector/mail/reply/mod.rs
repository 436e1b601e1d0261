//! The new part of a mail: without quoted history and signature. The full text is always kept beside it, so a wrong cut costs
//! nothing but convenience; therefore the rules cut where the marks are plain, and leave the rest.
//!
//! The way: the marks that mail programs leave in HTML, then the first line that begins a whole older mail, then quoted lines
//! with the line that announces them, then what stands below every mail of the author, and what its way here put above. Linear in the length of the text.

mod banner;
mod endings;
pub mod history;
mod phrases;
mod trailer;

use crate::connector::mail::marks::HtmlText;

/// Lines that are looked at.
const LINES_MAX: usize = 5_000;
/// A line longer than any mark is text.
const LINE_BYTES_MAX: usize = 600;

/// The new part of `text`. `marked` holds the marks found in the HTML the text was made from. Never longer than the text; the
/// whole text if nothing else would be left.
pub fn cut(text: &str, marked: Option<&HtmlText>) -> String {
    let text = marked.map_or(text, |marked| without_marked(text, marked));
    let mut lines: Vec<&str> = text.lines().collect();
    let rest = lines.split_off(lines.len().min(LINES_MAX));
    let ended = !rest.is_empty();
    let (kept, cut) = history::without(lines);
    // What stands behind the lines that were looked at belongs to the last of them: to history, or to the text.
    let kept = if cut || !ended { trailer::without(kept) } else { kept };
    let rest = if cut { Vec::new() } else { rest };
    let joined = banner::without(kept).into_iter().chain(rest).collect::<Vec<_>>().join("\n");
    let joined = joined.trim_matches('\n').trim_end();
    if joined.trim().is_empty() { text.trim().to_owned() } else { joined.to_owned() }
}

/// Up to the marks of a mail program, if anything stands before them.
fn without_marked<'t>(text: &'t str, marked: &HtmlText) -> &'t str {
    let says = |kept: &&str| kept.lines().any(|line| !line.trim().is_empty() && !history::is_quoted(line));
    let before = |at: Option<usize>| at.and_then(|at| text.get(..at)).filter(says);
    let mut kept = text;
    if let Some(before) = before(marked.history_at) {
        kept = before;
    }
    // An answer may stand between quotes or below them: then the lines decide.
    if let Some(before) = before(marked.quote_at.filter(|at| *at < kept.len()))
        && ends_quoted(kept.get(before.len()..).unwrap_or_default())
    {
        kept = before;
    }
    if let Some(at) = marked.signature_at.filter(|at| *at < kept.len())
        && let Some(before) = before(Some(at))
        && kept
            .get(at..)
            .is_some_and(|behind| behind.lines().take(trailer::SIGNATURE_LINES_MAX + 1).count() <= trailer::SIGNATURE_LINES_MAX)
        && !kept.get(at..).is_some_and(|behind| behind.lines().next().is_some_and(history::is_quoted))
    {
        kept = before;
    }
    kept
}

/// Nothing but quotes stands behind the first quoted line, or there is none.
fn ends_quoted(text: &str) -> bool {
    let mut lines = text.lines().skip_while(|line| !history::is_quoted(line));
    lines.all(|line| line.trim().is_empty() || history::is_quoted(line))
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
    fn announcements_in_many_languages_go() {
        for line in [
            "Le lun. 1 juin 2026 à 10:00, Support <s@example.org> a écrit :",
            "El lun, 1 jun 2026 a las 10:00, Support (<s@example.org>) escribió:",
            "Il giorno lun 1 giu 2026 alle ore 10:00 Support <s@example.org> ha scritto:",
            "Em seg., 1 de jun. de 2026 às 10:00, Support <s@example.org> escreveu:",
            "Op ma 1 jun 2026 om 10:00 schreef Support <s@example.org>:",
            "Den mån 1 juni 2026 kl 10:00 skrev Support <s@example.org>:",
            "man. 1. jun. 2026 kl. 10.00 skrev Support <s@example.org>:",
            "pon., 1 cze 2026 o 10:00 Support <s@example.org> napisał(a):",
            "po 1. 6. 2026 v 10:00 odesílatel Support <s@example.org> napsal:",
            "ma 1. kesäk. 2026 klo 10.00 Support (s@example.org) kirjoitti:",
            "пн, 1 июн. 2026 г. в 10:00, Support <s@example.org>:",
            "Support <s@example.org>, 1 Haz 2026 Pzt, 10:00 tarihinde şunu yazdı:",
            "2026年6月1日(月) 10:00 Support <s@example.org>:",
            "在 2026年6月1日，10:00，Support <s@example.org> 写道：",
            "2026년 6월 1일 (월) 오전 10:00, Support <s@example.org>님이 작성:",
            "Support/ACME wrote on 06/01/2026 10:00:00 AM:",
            "---- On Mon, 01 Jun 2026 10:00:00 +0200 Support <s@example.org> wrote ----",
        ] {
            check(&format!("New.\n\n{line}\n\n> Old.\n"), "New.");
            if !line.starts_with("Support/") {
                check(&format!("New.\n\n{line}\n\nOld.\n"), "New.");
            }
        }
    }

    #[test]
    fn what_stands_above_a_service_desks_line_is_the_answer() {
        check("New.\n\n##- Please type your reply above this line -##\nOld.", "New.");
        check("New.\n\nBegin forwarded message:\n\nOld.", "New.");
        check("New.\n\n---------- Forwarded message ---------\nFrom: x\nOld.", "New.");
        check("New.\n\n_______________________________________________\nusers mailing list\nusers@lists.example.org", "New.");
    }

    #[test]
    fn a_signature_that_says_how_to_reach_goes_and_a_mere_greeting_stays() {
        check("New.\n\nKind regards,\nAna Lindqvist\nExample Ltd\nTel. +49 30 1234567\nwww.example.org", "New.");
        check("New.\n\nKind regards,\nAna", "New.\n\nKind regards,\nAna");
        check("New.\n\nThis e-mail may contain confidential information.\nDelete it if it is not for you.", "New.");
        check("This message is about a confidential matter.", "This message is about a confidential matter.");
        check("New.\n\n-- \nAna\n\nDiese E-Mail ist vertraulich.", "New.");
        check("Parcel?\n\nSent via DHL, it said.\nBut when?", "Parcel?\n\nSent via DHL, it said.\nBut when?");
    }

    #[test]
    fn answers_below_and_between_html_quotes_stay() {
        let html = "<p>Hi, see below.</p><div class=\"moz-cite-prefix\">On 1 Jun 2026 X wrote:</div><blockquote type=cite>One?</blockquote><p>Answer</p>";
        let marked = crate::connector::mail::marks::to_text(html);
        assert_eq!(cut(&marked.text, Some(&marked)), "Hi, see below.\n\nAnswer");
    }

    #[test]
    fn hostile_text_takes_linear_time() {
        let begun = std::time::Instant::now();
        for hostile in [
            ">",
            "> ",
            "On ",
            "\n",
            "-- \n",
            "From: x\n",
            "On a wrote:\n",
            "on aaaaaaaaaaaaaaa\n",
            "wrote: ",
            "a@b 2026 9:00\n",
            "<a@b> 2026 9:00:\n",
            "9:00",
        ] {
            cut(&hostile.repeat(512 * 1024 / hostile.len()), None);
        }
        assert!(begun.elapsed().as_secs() < 20, "took {:?}", begun.elapsed());
    }
}
