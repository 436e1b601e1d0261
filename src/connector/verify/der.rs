//! As much of DER (X.690) as it takes to find a public key: in a SubjectPublicKeyInfo, and in a certificate; and how long that one is good.

use crate::model::time::Time;

/// One element: its tag, its content, and what comes behind it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        // The long form, of at most four bytes: no key is larger.
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;

/// The key of a SubjectPublicKeyInfo (RFC 5280 §4.1): a point, or an RSA key as PKCS #1 has it.
pub fn public_key(spki: &[u8]) -> Option<&[u8]> {
    let (SEQUENCE, inside, _) = element(spki)? else { return None };
    let (SEQUENCE, _, rest) = element(inside)? else { return None };
    let (BIT_STRING, bits, _) = element(rest)? else { return None };
    // The first byte says how many bits of the last one do not count.
    bits.strip_prefix(&[0])
}

/// A certificate, as far as it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certificate<'a> {
    /// Its key, as PKCS #1 has it if it is an RSA key.
    pub key: &'a [u8],
    /// It is good from here
    pub from: Time,
    /// to here.
    pub until: Time,
}

/// Reads a certificate (RFC 5280 §4.1): version, serial number, algorithm, issuer, validity, subject, key.
pub fn certificate(bytes: &[u8]) -> Option<Certificate<'_>> {
    let (SEQUENCE, inside, _) = element(bytes)? else { return None };
    let (SEQUENCE, mut rest, _) = element(inside)? else { return None };
    if rest.first() == Some(&0xa0) {
        rest = element(rest)?.2;
    }
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (SEQUENCE, validity, rest) = element(rest)? else { return None };
    let (from, until) = (element(validity)?, element(element(validity)?.2)?);
    let rest = element(rest)?.2;
    let whole = rest.len() - element(rest)?.2.len();
    Some(Certificate { key: public_key(rest.get(..whole)?)?, from: time((from.0, from.1))?, until: time((until.0, until.1))? })
}

const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// A point in time as certificates write it (RFC 5280 §4.1.2.5): with the seconds, in UTC, and years of two digits up to 2049.
fn time((tag, text): (u8, &[u8])) -> Option<Time> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (tag, text.len()) {
        (UTC_TIME, 12) => (format!("{}{}", if text < "50" { "20" } else { "19" }, text.get(..2)?), text.get(2..)?),
        (GENERALIZED_TIME, 14) => (text.get(..4)?.to_owned(), text.get(4..)?),
        _ => return None,
    };
    let two = |at: usize| rest.get(at..at + 2);
    Time::parse(&format!("{year}-{}-{}T{}:{}:{}Z", two(0)?, two(2)?, two(4)?, two(6)?, two(8)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_certificates_are_read_as_they_are_meant() {
        let at = |tag, text: &str| time((tag, text.as_bytes())).map(|time| time.to_string());
        assert_eq!(at(UTC_TIME, "230101000000Z").as_deref(), Some("2023-01-01T00:00:00.000Z"));
        assert_eq!(at(UTC_TIME, "500101000000Z").as_deref(), Some("1950-01-01T00:00:00.000Z"));
        assert_eq!(at(GENERALIZED_TIME, "21000101000000Z").as_deref(), Some("2100-01-01T00:00:00.000Z"));
        for (tag, wrong) in [(UTC_TIME, "2301010000Z"), (UTC_TIME, "230101000000+0100"), (GENERALIZED_TIME, "20231301000000Z"), (0x16, "")]
        {
            assert_eq!(at(tag, wrong), None, "{wrong}");
        }
    }
}
