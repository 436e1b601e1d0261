//! What our own mail border found out about the sender (RFC 8601), and what our own check found (`proof`). A field is believed only if
//! its authserv-id is configured and it stands above the first foreign Received line: everybody can write such a field, but nobody
//! above our own border's lines.

use crate::connector::mail::MailContext;
use crate::connector::mail::charset::Charsets;
use crate::connector::mail::fields::Field;
use crate::connector::mail::identity::Identity;
use crate::connector::mail::proof::Proof;
use crate::connector::mail::words;
use crate::model::address::mail_domain;
use crate::model::event::Authentication;

/// Received lines above the field: our border may add a hop or two of its own behind the check.
const HOPS_ABOVE_MAX: usize = 3;

/// What the border says; `None` if it says nothing we believe.
pub fn read(header: &[Field], mail: &[u8], identity: &Identity, charsets: &Charsets, context: &MailContext) -> Option<Authentication> {
    if context.authserv_ids.is_empty() {
        return None;
    }
    let mut hops = 0;
    for field in header {
        let name = mail.get(field.name.clone()).unwrap_or_default();
        if name.eq_ignore_ascii_case(b"received") {
            hops += 1;
            if hops > HOPS_ABOVE_MAX {
                return None;
            }
        } else if name.eq_ignore_ascii_case(b"authentication-results") {
            let value = mail.get(field.value.clone()).unwrap_or_default();
            let text = without_comments(&words::text(value.get(..8192).unwrap_or(value), charsets));
            if let Some(found) = parse(&text, identity, context) {
                return Some(found);
            }
        }
    }
    None
}

fn parse(text: &str, identity: &Identity, context: &MailContext) -> Option<Authentication> {
    let mut results = text.split(';').map(str::trim);
    let server = results.next()?.split_ascii_whitespace().next()?;
    if !context.authserv_ids.iter().any(|known| known.eq_ignore_ascii_case(server)) {
        return None;
    }
    let mut found = Authentication { spf: None, dkim: None, dmarc: None, verified: false };
    let mut checked_domain = None;
    for result in results {
        let Some((method, rest)) = result.split_once('=') else { continue };
        let word = rest.split_ascii_whitespace().next().unwrap_or_default().to_ascii_lowercase();
        if word.is_empty() || word.len() > 16 || !word.bytes().all(|b| b.is_ascii_alphabetic()) {
            continue;
        }
        match method.trim().to_ascii_lowercase().as_str() {
            // A pass of any signature counts (RFC 7489 §3.1.1).
            "dkim" if found.dkim.as_deref() != Some("pass") => found.dkim = Some(word),
            "spf" if found.spf.is_none() => found.spf = Some(word),
            "dmarc" if found.dmarc.is_none() => {
                found.dmarc = Some(word);
                checked_domain = rest.split_ascii_whitespace().find_map(|part| part.strip_prefix("header.from=")).map(mail_domain);
            }
            _ => {}
        }
    }
    let domain = identity.from.as_ref().and_then(|from| from.address.value().rsplit_once('@')).map(|(_, domain)| domain);
    let same = match (&checked_domain, domain) {
        (Some(checked), Some(domain)) => domain == checked || domain.ends_with(&format!(".{checked}")),
        (None, Some(_)) => true,
        _ => false,
    };
    found.verified = identity.from_is_plain && same && found.dmarc.as_deref() == Some("pass");
    Some(found)
}

/// What the platform says that hands the mail over, if it does. It judged the author that it saw: one that can be read in two ways is not proven.
pub fn vouched(identity: &Identity, context: &MailContext) -> Option<Authentication> {
    let said = context.vouched.clone().filter(|said| said.spf.is_some() || said.dkim.is_some() || said.dmarc.is_some())?;
    Some(Authentication { verified: identity.from_is_plain && said.dmarc.as_deref() == Some("pass"), ..said })
}

/// What is said in the end, and in what the two contradict each other. The border's word stands where it has one: it saw the mail as
/// it came, with keys that may be gone today and before anything was added to it. Ours stands in where it has none.
pub fn combine(border: Option<Authentication>, own: Option<&Proof>, identity: &Identity) -> (Option<Authentication>, Vec<&'static str>) {
    let Some(own) = own else { return (border, Vec::new()) };
    let mut found = border.unwrap_or(Authentication { spf: None, dkim: None, dmarc: None, verified: false });
    let mut contradicts = Vec::new();
    for (method, said, ours) in [("dkim", &mut found.dkim, Some(own.dkim)), ("dmarc", &mut found.dmarc, own.dmarc)] {
        match said.as_deref() {
            None | Some("temperror") => *said = ours.map(str::to_owned).or(said.take()),
            Some(word) if ours.is_some_and(|ours| contradict(word, ours)) => contradicts.push(method),
            Some(_) => {}
        }
    }
    let ours = own.dmarc == Some("pass") && found.dmarc.as_deref() == Some("pass");
    // The same author, as both read the header: a difference in reading is how forgeries are made.
    let judged = own.from.as_deref().and_then(words::mail_address);
    let same = judged.is_some_and(|judged| identity.from.as_ref().is_some_and(|from| judged == from.address));
    found.verified = found.verified || ours && same && identity.from_is_plain;
    (Some(found), contradicts)
}

/// One says that it is proven, the other that it is not; what could not be found out contradicts nothing.
fn contradict(one: &str, other: &str) -> bool {
    let denies = |word: &str| matches!(word, "fail" | "none" | "neutral");
    one == "pass" && denies(other) || other == "pass" && denies(one)
}

fn without_comments(text: &str) -> String {
    let mut depth = 0usize;
    text.chars()
        .filter(|c| match c {
            '(' => {
                depth += 1;
                false
            }
            ')' => {
                let inside = depth > 0;
                depth = depth.saturating_sub(1);
                !inside
            }
            _ => depth == 0,
        })
        .collect()
}
