//! As much of DER (X.690) as it takes to find a public key: in a SubjectPublicKeyInfo, and in a certificate.

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

/// The SubjectPublicKeyInfo of a certificate (RFC 5280 §4.1): behind version, serial number, algorithm, issuer, validity and subject.
pub fn certificate_key(certificate: &[u8]) -> Option<&[u8]> {
    let (SEQUENCE, inside, _) = element(certificate)? else { return None };
    let (SEQUENCE, mut rest, _) = element(inside)? else { return None };
    if rest.first() == Some(&0xa0) {
        rest = element(rest)?.2;
    }
    for _ in 0..5 {
        rest = element(rest)?.2;
    }
    let whole = rest.len() - element(rest)?.2.len();
    public_key(rest.get(..whole)?)
}
