//! Prints: what a mail is recognised by after its folder was renumbered. Pure.
//!
//! What must stay true: the same mail has the same print whether it was fetched or only listed; a mail that has neither a lasting id
//! nor a Message-ID has none, and is then told by its content.

use sha2::{Digest as _, Sha256};

use crate::model::time::Time;

/// A Message-ID is looked for in so much of a header.
const HEADER_BYTES_MAX: usize = 256 * 1024;

/// By the lasting id of RFC 8474.
pub fn of_email_id(id: &str) -> u64 {
    digest(&[b"emailid", id.as_bytes()])
}

/// By Gmail's id, the same under every label.
pub fn of_gmail_id(id: u64) -> u64 {
    digest(&[b"gmail", &id.to_be_bytes()])
}

/// By Message-ID, size and date of arrival, from a header or a whole mail. One mail in a folder has all three; a Message-ID that a
/// careless sender used again has not.
pub fn of_header(mail: &[u8], size: u64, date: Option<Time>) -> Option<u64> {
    let id = message_id(mail)?;
    Some(digest(&[b"message", &id, &size.to_be_bytes(), &date.map_or(0, |date| date.0).to_be_bytes()]))
}

fn digest(parts: &[&[u8]]) -> u64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The content of the first Message-ID field, unfolded and without the space around it.
fn message_id(mail: &[u8]) -> Option<Vec<u8>> {
    const NAME: &[u8] = b"message-id:";
    let mut lines = mail.get(..mail.len().min(HEADER_BYTES_MAX)).unwrap_or_default().split(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return None;
        }
        let Some(value) = line.get(NAME.len()..).filter(|_| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)))
        else {
            continue;
        };
        let mut id = value.to_vec();
        while let Some(more) = lines.next_if(|line| line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t'))) {
            id.extend_from_slice(more);
        }
        id.retain(|byte| !byte.is_ascii_whitespace());
        return Some(id).filter(|id| !id.is_empty());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_and_its_listed_header_have_the_same_print() {
        let mail = b"Subject: Message-ID: no\r\nMESSAGE-ID:\r\n <a b@example.org>\r\nTo: x\r\n\r\nMessage-ID: <body@example.org>\r\n";
        let listed = b"Message-ID: <ab@example.org>\r\n\r\n";
        let date = Some(Time(5));
        assert_eq!(of_header(mail, 7, date), of_header(listed, 7, date));
        assert!(of_header(mail, 7, date).is_some());
        assert_ne!(of_header(mail, 7, date), of_header(mail, 8, date));
        assert_ne!(of_header(mail, 7, date), of_header(mail, 7, None));
    }

    #[test]
    fn a_mail_without_a_message_id_has_no_print() {
        for mail in ["", "\r\n\r\nMessage-ID: <body@example.org>", "Message-ID:\r\n\r\n", "Message-ID", "To: x"] {
            assert_eq!(of_header(mail.as_bytes(), 7, None), None, "{mail:?}");
        }
    }
}
