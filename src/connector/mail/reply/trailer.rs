//! What stands below every mail of its author: signature, the advertisement of a phone, the lawyer's paragraph.

use crate::connector::mail::reply::LINE_BYTES_MAX;
use crate::connector::mail::reply::endings::{CLOSINGS, CONFIDENTIAL, DISCLAIMERS, NOISE, SENT_BY, SENT_FROM};

/// A signature is at most this long, or it is none.
pub const SIGNATURE_LINES_MAX: usize = 15;
/// A block under a closing formula may be longer: names of the firm, its seat, its managers, with empty lines between.
const LETTER_END_LINES_MAX: usize = 30;
/// Trailers that stand below one another.
const TRAILERS_MAX: usize = 12;
/// Lines from the end among which the advertisement of a phone stands.
const PHONE_LINES: usize = 4;
/// Lines of a lawyer's paragraph.
const DISCLAIMER_LINES_MAX: usize = 25;

/// Without them; what is left is never empty.
pub fn without(mut lines: Vec<&str>) -> Vec<&str> {
    cut_all(&mut lines, &[noise, disclaimer, phone]);
    // A second signature above the first is none, but text that looks like one.
    cut_all(&mut lines, &[dashes]);
    cut_all(&mut lines, &[letter_end]);
    cut_all(&mut lines, &[noise, phone]);
    lines
}

/// Where a trailer begins in the lines.
type Rule = fn(&[&str]) -> Option<usize>;

/// Cuts by the rules, again and again if there are several: some trailers stand below one another.
fn cut_all(lines: &mut Vec<&str>, rules: &[Rule]) {
    for _ in 0..if rules.len() > 1 { TRAILERS_MAX } else { 1 } {
        while lines.last().is_some_and(|line| line.trim().is_empty()) {
            lines.pop();
        }
        let found = rules.iter().find_map(|rule| rule(lines));
        match found.filter(|at| lines.iter().take(*at).any(|line| !line.trim().is_empty())) {
            Some(at) => lines.truncate(at),
            None => break,
        }
    }
}

fn lower(line: &str) -> String {
    if line.len() > LINE_BYTES_MAX { String::new() } else { line.trim().to_lowercase() }
}

/// The last line is of a program that scans, or of an admin that warns.
fn noise(lines: &[&str]) -> Option<usize> {
    let last = lower(lines.last()?);
    NOISE.iter().any(|known| last.starts_with(known)).then(|| lines.len() - 1)
}

/// The last paragraphs, from one on that begins and reads like a lawyer's.
fn disclaimer(lines: &[&str]) -> Option<usize> {
    let first = lines.len().saturating_sub(DISCLAIMER_LINES_MAX);
    let mut begins_paragraph = first == 0;
    for (at, line) in lines.iter().enumerate().skip(first) {
        let bare = line.trim().trim_start_matches(['*', '_', '-', ' ']);
        if bare.is_empty() {
            begins_paragraph = true;
            continue;
        }
        if std::mem::take(&mut begins_paragraph) || bare.len() != line.trim().len() {
            let start = bare.get(..bare.floor_char_boundary(60)).unwrap_or(bare).to_lowercase();
            if DISCLAIMERS.iter().any(|known| start.starts_with(known)) {
                let all = lines.get(at..)?.join(" ").to_lowercase();
                if CONFIDENTIAL.iter().any(|word| all.contains(word)) {
                    return Some(at);
                }
            }
        }
    }
    None
}

/// RFC 3676 §4.3: dash dash space; many programs lose the space, some write other dashes.
fn dashes(lines: &[&str]) -> Option<usize> {
    let from = lines.len().saturating_sub(SIGNATURE_LINES_MAX);
    let at = lines.iter().rposition(|line| matches!(line.trim_end(), "--" | "—" | "– –" | "__"))?;
    (at >= from).then_some(at)
}

fn phone(lines: &[&str]) -> Option<usize> {
    let from = lines.len().saturating_sub(PHONE_LINES);
    let found = lines.iter().enumerate().skip(from).find(|(_, line)| is_sent_from(line)).map(|(at, _)| at);
    found.or_else(|| {
        let last = lines.len().checked_sub(1)?;
        let apart = lines.get(last.wrapping_sub(1)).is_none_or(|before| before.trim().is_empty());
        let line = lower(lines.last()?);
        (apart && line.len() <= 120 && SENT_BY.iter().any(|known| line.starts_with(known))).then_some(last)
    })
}

fn is_sent_from(line: &str) -> bool {
    let line = line.trim().trim_start_matches(['[', '(', '<', '*', '-', ' ']);
    if line.len() > 120 {
        return false;
    }
    let line = line.to_lowercase();
    SENT_FROM.iter().any(|known| line.starts_with(known))
        || line.ends_with(" from mobile")
        || line.ends_with("'umdan gönderildi")
        || line.ends_with("から送信")
}

/// A closing formula with a block behind it that says how to reach the author. Without such a block the formula is part of the
/// letter and stays.
fn letter_end(lines: &[&str]) -> Option<usize> {
    let from = lines.len().saturating_sub(LETTER_END_LINES_MAX);
    let is_closing =
        |line: &str| line.len() <= 60 && CLOSINGS.contains(&line.trim().trim_end_matches([',', '.', '!', ' ']).to_lowercase().as_str());
    let at = lines.iter().rposition(|line| is_closing(line)).filter(|at| *at >= from)?;
    let behind = lines.get(at + 1..)?;
    if behind.iter().filter(|line| !line.trim().is_empty()).count() > SIGNATURE_LINES_MAX {
        return None;
    }
    let short = behind.iter().all(|line| line.len() <= 120);
    (short && behind.iter().any(|line| says_how_to_reach(line))).then_some(at)
}

fn says_how_to_reach(line: &str) -> bool {
    let lower = lower(line);
    let digits = lower.bytes().filter(u8::is_ascii_digit).count();
    let telephone = digits >= 6 && lower.chars().all(|c| !c.is_alphabetic()) || {
        let names = [
            "tel", "tél", "phone", "mobil", "mob", "fax", "cell", "fon", "t:", "m:", "p:", "t +", "m +", "t. ", "тел", "puh", "gsm",
            "handy", "móvil", "電話", "电话", "전화", "τηλ",
        ];
        digits >= 6 && names.iter().any(|name| lower.trim_start_matches(['|', ' ']).starts_with(name))
    };
    let lone = !lower.contains(' ');
    telephone || lone && (lower.contains('@') || lower.starts_with("www.") || lower.starts_with("http"))
}
