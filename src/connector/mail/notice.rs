//! What a server says in its own words of a mail that it could not deliver: whom it was for, why, and which mail it was. There is no
//! form for it (reports have one: `report`), but habits: the addresses that failed stand at the begin of a line or behind a label, the answer
//! of the other server is quoted with its code (RFC 5321 §4.2), and a copy of the mail, or its header, stands at the end.

use crate::connector::mail::words;

/// What a notice says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Notice {
    /// Who did not get it, as far as named.
    pub recipients: Vec<String>,
    /// An enhanced status (RFC 3463); of a bare code its class, `5.0.0`.
    pub status: Option<String>,
    /// The answer of the other server.
    pub diagnostic: Option<String>,
    /// The id of the mail.
    pub returned: Option<String>,
    /// It is tried further.
    pub delayed: bool,
}

/// Lines of a notice that are read, and the part of a line.
const LINES_MAX: usize = 500;
const LINE_BYTES_MAX: usize = 500;
/// Recipients that are told.
const RECIPIENTS_MAX: usize = 20;
/// Lines over which the answer of a server is folded.
const FOLDED_LINES_MAX: usize = 6;
/// Longest answer that is told.
const ANSWER_BYTES_MAX: usize = 998;

/// Reads the text of a notice. `known` are addresses that cannot be meant: of who wrote it and who got it.
pub fn read(text: &str, known: &dyn Fn(&str) -> bool) -> Notice {
    let lines: Vec<&str> =
        text.lines().take(LINES_MAX).map(|line| line.get(..line.floor_char_boundary(LINE_BYTES_MAX)).unwrap_or(line)).collect();
    let copy = lines.iter().position(|line| begins_copy(line)).unwrap_or(lines.len());
    let said = lines.get(..copy).unwrap_or_default();
    let mut notice = Notice { recipients: recipients(said, known), ..Notice::default() };
    if notice.recipients.is_empty() && copy < lines.len() {
        // What looked like the begin of the copy was a sentence; a copy names many who have nothing to do with it.
        let header = lines.iter().position(|line| is_trace(line)).unwrap_or(lines.len());
        notice.recipients = recipients(lines.get(copy..header.max(copy)).unwrap_or_default(), known);
    }
    notice.returned = lines.iter().find_map(|line| message_id(line));
    (notice.status, notice.diagnostic) = answer(said);
    notice.delayed = is_delay(said);
    notice
}

/// Without the marks before it: quotes, bullets, rules.
fn bare(line: &str) -> &str {
    line.trim_start_matches(['>', ' ', '\t', '|', '*', '-', '•', '·', '\u{a0}'])
}

fn message_id(line: &str) -> Option<String> {
    let line = bare(line);
    let value = line.get(..11).filter(|name| name.eq_ignore_ascii_case("message-id:")).and_then(|_| line.get(11..))?;
    words::message_ids(value.as_bytes(), 1).into_iter().next()
}

/// A field that stands at the head of mails and in no notice.
fn is_trace(line: &str) -> bool {
    let line = bare(line);
    let names = ["received:", "return-path:", "message-id:", "mime-version:", "dkim-signature:", "delivered-to:"];
    names.iter().any(|name| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)))
}

/// The copy of the mail begins behind this line, or with it.
fn begins_copy(line: &str) -> bool {
    if is_trace(line) {
        return true;
    }
    if line.len() > 120 {
        return false;
    }
    let lower = line.trim().to_lowercase();
    let ruled = lower.starts_with("--") || lower.starts_with("==") || lower.starts_with("__") || lower.starts_with("**");
    let words = lower.trim_matches(|c: char| !c.is_alphanumeric());
    let of_mail = ["message", "mail", "header", "nachricht"].iter().any(|word| words.contains(word));
    // `You can delete your own text from the message returned below.`
    let asks = ["delete", "could not", "cannot", "address", "recipient", "transcript"].iter().any(|word| words.contains(word));
    let points = ["follow", "follows", "below", "below this line", "attached", "enclosed"].iter().any(|word| words.ends_with(word));
    let names = ["original m", "returned m", "returning m", "unsent m", "undelivered m", "copy of", "source mail"];
    let kinds =
        ["original message", "original mail", "ursprüngliche nachricht", "message d'origine", "mensaje original", "messaggio originale"];
    of_mail && !asks && (points || ruled && names.iter().any(|name| words.contains(name)) || kinds.contains(&words))
}

/// How sure it is that an address is meant: at the begin of a line or behind a label, anywhere, in a summary of the mail.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Apart,
    Within,
    Summary,
}

/// The addresses in the surest place there are any in.
fn recipients(lines: &[&str], known: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut found: Vec<(Place, String)> = Vec::new();
    for line in lines {
        let label = bare(line).split([':', '：']).next().unwrap_or_default().trim().to_lowercase();
        let place = match label.as_str() {
            "from" | "sender" | "reply-to" | "von" | "de" | "subject" | "betreff" | "subj" | "mail from" => continue,
            "to" | "cc" | "bcc" | "an" | "para" | "à" => Some(Place::Summary),
            _ if is_contact(line) => continue,
            _ => None,
        };
        addresses(line, place, known, &mut found);
        if found.len() > RECIPIENTS_MAX * 4 {
            break;
        }
    }
    let surest = found.iter().map(|(place, _)| *place).min();
    let mut told: Vec<String> = Vec::new();
    for (_, address) in found.into_iter().filter(|(place, _)| Some(*place) == surest) {
        if !told.contains(&address) && told.len() < RECIPIENTS_MAX {
            told.push(address);
        }
    }
    told
}

/// A sentence about whom to ask.
fn is_contact(line: &str) -> bool {
    const WORDS: [&str; 10] = [
        "contact",
        "assistance",
        "please reply",
        "questions",
        "send mail to",
        "send email to",
        "wenden sie",
        "kontakt",
        "need help",
        "contacter",
    ];
    let lower = line.to_lowercase();
    WORDS.iter().any(|word| lower.contains(word))
}

fn addresses(line: &str, place: Option<Place>, known: &dyn Fn(&str) -> bool, found: &mut Vec<(Place, String)>) {
    let is_end = |c: char| c.is_whitespace() || matches!(c, '<' | '>' | '(' | ')' | '"' | ',' | ';' | '[' | ']' | '：');
    let mut before = "";
    let mut at = 0;
    for word in line.split(is_end) {
        let start = at;
        at += word.len() + line.get(at + word.len()..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
        let trimmed = word.trim_matches(|c: char| matches!(c, ':' | '.' | '\'' | '#' | '*' | '|' | '`' | '‘' | '’'));
        if trimmed.is_empty() {
            continue;
        }
        let previous = std::mem::replace(&mut before, trimmed);
        if !trimmed.contains('@') || trimmed.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("from:")) || is_sender(previous, line)
        {
            continue;
        }
        let prefix = line.get(..start).unwrap_or_default();
        // Sendmail: `<ana@example.org>... User unknown`
        let trimmed = trimmed.split("...").next().unwrap_or(trimmed);
        let address = ["smtp=", "smtp:", "mailto:", "to:"].iter().fold(trimmed, |text, label| {
            text.to_ascii_lowercase().rfind(label).and_then(|at| text.get(at + label.len()..)).unwrap_or(text)
        });
        let apart =
            bare(prefix).trim_matches(|c: char| c.is_whitespace() || c.is_ascii_digit() || matches!(c, '<' | '[' | '(' | '"' | '\'' | '.'));
        let labelled = apart.ends_with([':', '：', '=']) && !apart.to_ascii_lowercase().ends_with("mail from:");
        let place = place.unwrap_or(if apart.is_empty() || labelled { Place::Apart } else { Place::Within });
        let Some(address) = words::mail_address(address).map(|address| address.value().to_owned()) else { continue };
        let local = address.split('@').next().unwrap_or_default();
        if !known(&address) && !matches!(local, "postmaster" | "mailer-daemon" | "abuse") {
            found.push((place, address));
        }
    }
}

/// The word before an address says that it is not whom the mail was for. An address that was made of another one was written to.
fn is_sender(word: &str, line: &str) -> bool {
    matches!(word.to_ascii_lowercase().as_str(), "from" | "von" | "by")
        && !["expanded from", "generated from"].iter().any(|made| line.contains(made))
}

/// Status and answer of the other server.
fn answer(lines: &[&str]) -> (Option<String>, Option<String>) {
    let coded = lines.iter().enumerate().find_map(|(at, line)| reply(line).map(|(class, begin)| (at, class, begin)));
    let Some((at, class, begin)) = coded else {
        return (lines.iter().find_map(|line| status(line)), None);
    };
    let mut told = lines.get(at).and_then(|line| line.get(begin..)).unwrap_or_default().trim().to_owned();
    for line in lines.iter().skip(at + 1).take(FOLDED_LINES_MAX) {
        if !line.starts_with([' ', '\t']) || line.trim().is_empty() || told.len() > ANSWER_BYTES_MAX {
            break;
        }
        told.push(' ');
        told.push_str(line.trim());
    }
    told.truncate(told.floor_char_boundary(ANSWER_BYTES_MAX));
    let status = status(&told).or_else(|| lines.iter().find_map(|line| status(line))).unwrap_or_else(|| format!("{class}.0.0"));
    (Some(status), Some(told))
}

/// An enhanced status of a failure.
fn status(line: &str) -> Option<String> {
    let ends = |c: char| c.is_whitespace() || matches!(c, '<' | '>' | '(' | ')' | '"' | ',' | ';' | '[' | ']');
    let word =
        |word: &str| word.trim_matches(|c: char| matches!(c, ':' | '.' | '\'' | '#' | '*')).rsplit(['-', '#']).next().map(str::to_owned);
    line.split(ends).filter_map(word).find(|word| is_status(word))
}

/// RFC 3463 §2.
fn is_status(word: &str) -> bool {
    let mut parts = word.split('.');
    let number =
        |part: Option<&str>| part.is_some_and(|part| (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit()));
    matches!(parts.next(), Some("4" | "5")) && number(parts.next()) && number(parts.next()) && parts.next().is_none()
}

/// The class of a reply code of a failure, and where the reply begins: the code begins the line, or stands behind a word or a mark that announces it.
fn reply(line: &str) -> Option<(char, usize)> {
    const ANNOUNCE: [&str; 12] =
        ["said", "code", "error", "reply", "replied", "responded", "response", "answered", "status", "returned", "smtp", "with"];
    let is_end = |c: char| c.is_whitespace() || matches!(c, '<' | '>' | '(' | ')' | '"' | ',' | '[' | ']' | '\'');
    let (mut at, mut announced) = (0, true);
    for word in line.split(is_end) {
        let start = at;
        at += word.len() + line.get(at + word.len()..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
        if word.is_empty() {
            continue;
        }
        if announced && let [class @ (b'4' | b'5'), b'0'..=b'5', b'0'..=b'9', rest @ ..] = word.as_bytes() {
            let ended = matches!(rest, [] | [b':' | b'.' | b';']) || rest.first() == Some(&b'-');
            // A number alone on its line says nothing.
            let alone = start == 0 && line.get(at..).is_none_or(|behind| behind.trim().len() <= 3);
            if ended && !alone {
                return Some((char::from(*class), start));
            }
        }
        let bare = word.trim_end_matches([':', '#', '=']);
        announced = bare.len() < word.len() || ANNOUNCE.contains(&bare.to_ascii_lowercase().as_str());
    }
    None
}

/// Whether the server goes on trying.
fn is_delay(lines: &[&str]) -> bool {
    const TRIES: [&str; 16] = [
        "will continue to try",
        "will continue to be made",
        "will be retried",
        "will keep trying",
        "will retry",
        "still being retried",
        "warning message only",
        "a warning only",
        "do not need to resend",
        "not yet been delivered",
        "has been delayed",
        "advisory-only",
        "delivery attempts will continue",
        "wird weiterhin versucht",
        "weitere zustellversuche",
        "nouvelles tentatives",
    ];
    const ENDED: [&str; 6] =
        ["given up", "giving up", "permanent", "no further attempt", "no more attempt", "could not be delivered within"];
    let said = lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ").to_lowercase();
    TRIES.iter().any(|words| said.contains(words)) && !ENDED.iter().any(|words| said.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, recipients: &[&str], status: Option<&str>) -> Notice {
        let notice = read(text, &|address| address == "support@acme.example");
        assert_eq!(notice.recipients, recipients, "{text}");
        assert_eq!(notice.status.as_deref(), status, "{text}");
        notice
    }

    #[test]
    fn bounces_without_a_form_are_read_from_their_text() {
        let text = "Hi. This is the qmail-send program at example.net.\n\n<nobody@example.com>:\n192.0.2.1 does not like recipient.\nRemote host said: 550 5.1.1 No such user\n\n--- Below this line is a copy of the message.\n\nMessage-ID: <sent@acme.example>\nTo: nobody@example.com\n";
        let notice = check(text, &["nobody@example.com"], Some("5.1.1"));
        assert_eq!(notice.returned.as_deref(), Some("sent@acme.example"));
        assert_eq!(notice.diagnostic.as_deref(), Some("550 5.1.1 No such user"));
        assert_eq!(read("Version 5.1.1.2 of support@acme.example", &|address| address == "support@acme.example"), Notice::default());
    }

    #[test]
    fn all_who_failed_are_told_and_whom_to_ask_is_not() {
        check(
            "Unable to deliver to:\n\n<ana@example.com>:\nover quota\n\n<bo@example.com>:\nover quota\n\nFor help contact desk@example.net.\n",
            &["ana@example.com", "bo@example.com"],
            None,
        );
        check(
            "For further assistance, please contact <postmaster@example.net>\n\n<ana@example.com>: host mx.example.com[192.0.2.1]\n said: 552 full\n",
            &["ana@example.com"],
            Some("5.0.0"),
        );
        check(
            "Your message\n\n  To: list@example.org\n  Subject: x 2.0.12\n\ndid not reach:\n\nana@example.com on Monday\n",
            &["ana@example.com"],
            None,
        );
        check("Your message\n\n  To: ana@example.com\n  Subject: x\n\ndid not reach its recipient.\n", &["ana@example.com"], None);
        check("c=DE;a= ;p=Acme;dda:SMTP=ana@example.com; on Monday\n", &["ana@example.com"], None);
        check(
            "Recipient: [SMTP:ana@example.com]\nReason: Remote SMTP Server Returned: 550 no such mailbox\n",
            &["ana@example.com"],
            Some("5.0.0"),
        );
        check(
            "an email of bo@example.net to :\n-- ana@example.com\n\n-- 4.4.4 Temporary server error\n",
            &["ana@example.com"],
            Some("4.4.4"),
        );
        check("Sorry, your mail to ana@example.com was refused.\n", &["ana@example.com"], None);
    }

    #[test]
    fn the_copy_of_the_mail_names_nobody() {
        check(
            "It could not be delivered.\n\n--- Original message follows.\n\nFrom: bo@example.net\nana@example.com wrote this\n",
            &["ana@example.com"],
            None,
        );
        check("To ana@example.com it was not.\n\nReceived: from x\nwho@example.net\n", &["ana@example.com"], None);
        let sentence = "You can\ndelete your own text from the attached returned message.\n\n<ana@example.com>: unknown\n";
        check(sentence, &["ana@example.com"], None);
    }

    #[test]
    fn what_is_tried_further_is_a_delay() {
        assert!(read("Delivery attempts will continue to be made for 5 days.", &|_| false).delayed);
        assert!(!read("This is a permanent error; we will retry nothing.", &|_| false).delayed);
    }

    #[test]
    fn hostile_text_takes_linear_time() {
        let begun = std::time::Instant::now();
        for hostile in ["<a@b.example>:", "to:", "550 ", "5.5.5 ", "\n-- x", "smtp:smtp=to:@", "： "] {
            read(&hostile.repeat(1024 * 1024 / hostile.len()), &|_| false);
        }
        assert!(begun.elapsed().as_secs() < 20, "took {:?}", begun.elapsed());
    }
}
