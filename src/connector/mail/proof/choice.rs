//! Which signatures are looked at, and what is wrong with one whatever its key says.

use mail_auth::common::crypto::Algorithm;
use mail_auth::dkim::Signature;

use crate::connector::mail::proof::{SIGNATURES_MAX, akin, ascii, key_name};

/// Longest signature field; real ones stay under 3 KB.
const SIGNATURE_BYTES_MAX: usize = 8 * 1024;
/// Most fields that one signature covers: each is looked for in the header.
const COVERED_MAX: usize = 256;

/// A signature and the length of its field, from the raw value.
pub fn parse(value: &[u8]) -> Option<(Signature, usize)> {
    let value = value.get(..=SIGNATURE_BYTES_MAX).unwrap_or(value);
    Signature::parse(value).ok().map(|signature| (signature, value.len()))
}

/// What is wrong with a signature before its key is asked for: a result and why.
pub fn refused(signature: &Signature, bytes: usize, received_s: u64) -> Option<(&'static str, &'static str)> {
    if bytes > SIGNATURE_BYTES_MAX || signature.h.len() > COVERED_MAX {
        return Some(("policy", "too_large"));
    }
    // RFC 6376 §5.4: a signature that does not cover From says nothing about who wrote it.
    if !signature.h.iter().any(|name| name.trim().eq_ignore_ascii_case("from")) {
        return Some(("permerror", "from_not_signed"));
    }
    // RFC 8301 §3.1: must not be verified any more.
    if signature.a == Algorithm::RsaSha1 {
        return Some(("policy", "rsa_sha1"));
    }
    // RFC 6376 §8.2: behind the signed length everybody can add what he wants.
    if signature.l > 0 {
        return Some(("policy", "length_limited"));
    }
    if signature.x != 0 && signature.x <= signature.t {
        return Some(("permerror", "expires_before_it_was_made"));
    }
    // RFC 6376 §3.5: what counts is when the mail came, not when we look.
    if signature.x != 0 && signature.x < received_s {
        return Some(("fail", "expired"));
    }
    key_name(&signature.s, &signature.d).is_none().then_some(("permerror", "no_domain"))
}

/// The signatures worth looking at, those of the author's own domain before others, and how many are left out. `of` shows the
/// signature and the length of its field.
pub fn choose<T>(found: Vec<T>, author: Option<&str>, received_s: u64, of: impl Fn(&T) -> (&Signature, usize)) -> (Vec<T>, usize) {
    let mut good: Vec<T> = found.into_iter().filter(|one| refused(of(one).0, of(one).1, received_s).is_none()).collect();
    let distance = |one: &T| match (author, ascii(&of(one).0.d)) {
        (Some(author), Some(domain)) if author == domain => 0,
        (Some(author), Some(domain)) if author.ends_with(&domain) || domain.ends_with(author) => 1,
        (Some(author), Some(domain)) if akin(author, &domain) => 2,
        _ => 3,
    };
    good.sort_by_key(distance);
    let left_out = good.len().saturating_sub(SIGNATURES_MAX);
    good.truncate(SIGNATURES_MAX);
    (good, left_out)
}
