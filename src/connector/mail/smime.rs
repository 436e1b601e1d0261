//! Signed mail in one piece (`application/pkcs7-mime; smime-type=signed-data`, RFC 8551 §3.5): the content inside is taken out, the
//! signature is not looked at. Bounded, no recursion: the reader goes down one known path of tags (RFC 5652 §5) and stops at whatever is
//! not on it. What is encrypted is not on it.

/// signedData, and data.
const SIGNED: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const OID: u8 = 0x06;
const EXPLICIT_0: u8 = 0xa0;
const OCTETS: u8 = 0x04;
const OCTETS_IN_PIECES: u8 = 0x24;
/// Longest content that is taken out.
const CONTENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Whether a part may be such a mail.
pub fn is_one(media_type: &str) -> bool {
    matches!(media_type, "application/pkcs7-mime" | "application/x-pkcs7-mime")
}

/// The signed content; `None` if it is anything else.
pub fn content(message: &[u8]) -> Option<Vec<u8>> {
    let mut at = Reader(message);
    at.enter(SEQUENCE)?;
    at.value(OID).filter(|oid| *oid == SIGNED)?;
    at.enter(EXPLICIT_0)?;
    at.enter(SEQUENCE)?;
    at.value(INTEGER)?;
    at.skip_set()?;
    at.enter(SEQUENCE)?;
    at.value(OID).filter(|oid| *oid == DATA)?;
    at.enter(EXPLICIT_0)?;
    let mut content = Vec::new();
    let (tag, length) = at.head()?;
    match (tag, length) {
        (OCTETS, Some(length)) => content.extend_from_slice(at.take(length)?),
        // BER: in pieces, of a length that is told or up to an end mark.
        (OCTETS_IN_PIECES, length) => {
            let mut pieces = Reader(length.map_or(Some(at.0), |length| at.0.get(..length))?);
            while let Some(piece) = pieces.value(OCTETS) {
                if content.len() + piece.len() > CONTENT_BYTES_MAX {
                    return None;
                }
                content.extend_from_slice(piece);
            }
        }
        _ => return None,
    }
    (!content.is_empty() && content.len() <= CONTENT_BYTES_MAX).then_some(content)
}

/// Reads tags and lengths one after the other.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// A tag and its length; `None` as length: up to an end mark.
    fn head(&mut self) -> Option<(u8, Option<usize>)> {
        let (tag, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match *first {
            0x80 => (None, rest),
            short @ 0..=0x7f => (Some(usize::from(short)), rest),
            long => {
                let count = usize::from(long & 0x7f);
                // Four bytes of length are 4 GiB.
                let bytes = rest.get(..count).filter(|_| count <= 4)?;
                (Some(bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))), rest.get(count..)?)
            }
        };
        self.0 = rest;
        Some((*tag, length))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// Goes into a thing of this tag.
    fn enter(&mut self, wanted: u8) -> Option<()> {
        self.head().filter(|(tag, _)| *tag == wanted).map(|_| ())
    }

    /// The bytes of a simple thing of this tag.
    fn value(&mut self, wanted: u8) -> Option<&'a [u8]> {
        let (tag, length) = self.head()?;
        if tag != wanted {
            return None;
        }
        self.take(length?)
    }

    /// Goes behind the set of algorithms; one of no told length holds sequences of told ones.
    fn skip_set(&mut self) -> Option<()> {
        let (SET, length) = self.head()? else { return None };
        if let Some(length) = length {
            return self.take(length).map(|_| ());
        }
        while let Some(rest) = self.0.strip_prefix(&[SEQUENCE]) {
            self.0 = rest;
            let (first, rest) = rest.split_first().filter(|(first, _)| **first < 0x80)?;
            self.0 = rest.get(usize::from(*first)..)?;
        }
        self.0 = self.0.strip_prefix(&[0, 0])?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thing(tag: u8, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes();
        [&[tag, 0x82][..], &length, value].concat()
    }

    fn message(content: &[u8], oid: &[u8]) -> Vec<u8> {
        let inner = thing(SEQUENCE, &[thing(OID, DATA), thing(EXPLICIT_0, content)].concat());
        let signed = thing(SEQUENCE, &[thing(INTEGER, &[1]), thing(SET, &thing(SEQUENCE, &[5, 0])), inner].concat());
        thing(SEQUENCE, &[thing(OID, oid), thing(EXPLICIT_0, &signed)].concat())
    }

    #[test]
    fn content_is_taken_out_whole_and_in_pieces() {
        assert_eq!(content(&message(&thing(OCTETS, b"Hi."), SIGNED)), Some(b"Hi.".to_vec()));
        let pieces = [thing(OCTETS, b"Hi"), thing(OCTETS, b".")].concat();
        assert_eq!(content(&message(&thing(OCTETS_IN_PIECES, &pieces), SIGNED)), Some(b"Hi.".to_vec()));
        let without_length = [&[OCTETS_IN_PIECES, 0x80][..], &pieces, &[0, 0]].concat();
        assert_eq!(content(&message(&without_length, SIGNED)), Some(b"Hi.".to_vec()));
        let enveloped = [&SIGNED[..8], &[3]].concat();
        assert_eq!(content(&message(&thing(OCTETS, b"Hi."), &enveloped)), None);
    }

    #[test]
    fn what_is_cut_or_lies_is_nothing() {
        let whole = message(&thing(OCTETS, b"Hi."), SIGNED);
        for at in 0..whole.len() {
            assert_eq!(content(whole.get(..at).unwrap_or_default()), None);
            let mut lying = whole.clone();
            lying.iter_mut().skip(at).take(1).for_each(|byte| *byte = 0xff);
            assert!(content(&lying).is_none_or(|found| found.len() <= whole.len()));
        }
    }
}
