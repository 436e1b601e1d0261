//! Our own check of who vouches for a mail: DKIM (RFC 6376, 8301, 8463) and DMARC (RFC 9989), by `mail-auth`.
//!
//! Pure, in two steps around the DNS: [`asks`] says which names have to be looked up, [`check`] judges with the answers. What must
//! stay true: however many signatures a mail has, a handful is looked at; what the DNS does not say is told as not known
//! (`temperror`), never as failed; what the library lets pass and an RFC does not, is judged here.

mod bodies;
mod check;
mod choice;

use mail_auth::common::to_a_label;

use crate::connector::mail::MailLimits;
use crate::connector::mail::charset::Charsets;
use crate::connector::mail::{fields, scan, words};
use crate::model::item::SliceEncoding;
use crate::model::time::Time;

pub use bodies::{BodyHashes, BodyHashing};
pub use check::{check, check_passed};

/// Signatures that are looked at; each costs a look-up.
const SIGNATURES_MAX: usize = 8;
/// Names that are asked for because of one mail.
const NAMES_MAX: usize = 64;
/// Longest domain name (RFC 1035 §2.3.4), and its longest label.
const DOMAIN_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;
/// RFC 9989 §4.10: a walk up the tree asks for the domain itself, then for the last seven labels and less.
const WALK_LABELS_MAX: usize = 7;

/// What the check found. All words are those of RFC 8601.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The best of all signatures; `none` without any.
    pub dkim: &'static str,
    /// `None`: not known. SPF, which could have made it pass, is checked where the mail comes in or never.
    pub dmarc: Option<&'static str>,
    /// What was looked at, in the order of the mail.
    pub signatures: Vec<Signed>,
    /// Signatures beyond the limit.
    pub left_out: usize,
    /// The one address that was judged.
    pub from: Option<String>,
}

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Who signed.
    pub domain: String,
    /// The result.
    pub result: &'static str,
    /// Why it is no pass.
    pub why: Option<&'static str>,
}

/// The names whose texts the check of a mail needs. Any bytes; nothing of a mail that has no From and no signature.
pub fn asks(mail: &[u8], received_at: Time) -> Vec<String> {
    let Ok(header) = fields::split(mail, scan::header_start(mail), &MailLimits::default()) else { return Vec::new() };
    let charsets = Charsets::new(&[], &[], SliceEncoding::Identity);
    let domain_of = |field: &str| -> Option<String> {
        let value = fields::first(&header.fields, mail, field)?;
        let value = value.get(..fields::STRUCTURED_BYTES_MAX).unwrap_or(value);
        let address = words::addresses(value, &charsets).into_iter().find_map(|one| one.address)?;
        ascii(address.value().rsplit_once('@')?.1)
    };
    let author = domain_of("from");
    let signatures = fields::all(&header.fields, mail, "dkim-signature").filter_map(choice::parse);
    let (signatures, _) = choice::choose(signatures.collect(), author.as_deref(), check::seconds(received_at), |one| (&one.0, one.1));
    let mut names = Vec::new();
    let mut add = |name: String| {
        if names.len() < NAMES_MAX && !names.contains(&name) {
            names.push(name);
        }
    };
    signatures.iter().filter_map(|(one, _)| key_name(&one.s, &one.d)).for_each(&mut add);
    // The policy of the author's domain, and whose domains belong to it.
    let of_signers = signatures.iter().filter_map(|(one, _)| ascii(&one.d));
    let others = of_signers.chain(domain_of("return-path")).filter(|domain| author.as_deref().is_some_and(|author| akin(author, domain)));
    author.iter().cloned().chain(others.collect::<Vec<_>>()).for_each(|domain| walk(&domain).into_iter().for_each(&mut add));
    names
}

/// The name of a signature's key; `None` if it can be no name.
fn key_name(selector: &str, domain: &str) -> Option<String> {
    ascii(&format!("{selector}._domainkey.{domain}"))
}

/// The names of a walk up the tree from a domain (RFC 9989 §4.10).
fn walk(domain: &str) -> Vec<String> {
    let labels: Vec<&str> = domain.split('.').collect();
    let from = |at: usize| format!("_dmarc.{}", labels.get(at..).unwrap_or_default().join("."));
    if labels.len() < 2 {
        return Vec::new();
    }
    let above = labels.len().saturating_sub(WALK_LABELS_MAX).max(1);
    std::iter::once(0).chain(above..labels.len()).map(from).collect()
}

/// Whether two domains end alike, so that one could be responsible for the other.
fn akin(one: &str, other: &str) -> bool {
    one.rsplit('.').next() == other.rsplit('.').next()
}

/// A domain as it is asked for; `None` if it is none. Labels of selectors and services begin with `_`.
fn ascii(domain: &str) -> Option<String> {
    let domain = to_a_label(domain.trim_end_matches('.')).to_ascii_lowercase();
    let label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    (domain.len() <= DOMAIN_BYTES_MAX && domain.contains('.') && domain.split('.').all(label)).then_some(domain)
}
