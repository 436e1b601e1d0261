//! The canonical content hash: what makes two copies of a mail the same, whatever mailbox, provider or road they came by.
//!
//! Hashed are the fields an author writes and the body; trace and authentication fields differ per delivery and are left out.
//! A Message-ID alone is no key: one parcel carrier sends different mails under the same one.

use sha2::{Digest, Sha256};

use crate::connector::mail::fields;
use crate::connector::mail::scan::Scan;

/// SHA-256 over the normalized Message-ID, Date, From, To, Subject (unfolded) and the body with line feeds and without blank lines at
/// its end. Each field stands behind its length, so that no border between two can move.
pub fn hash(mail: &[u8], scan: &Scan, message_id: Option<&str>) -> [u8; 32] {
    let root = scan.root();
    let mut sha = Sha256::new();
    add(&mut sha, message_id.unwrap_or_default().as_bytes());
    for name in ["date", "from", "to", "subject"] {
        let value = fields::first(&root.fields, mail, name).unwrap_or_default();
        add(&mut sha, &unfold(value));
    }
    body(&mut sha, mail.get(root.body.start..).unwrap_or_default());
    sha.finalize().into()
}

fn add(sha: &mut Sha256, value: &[u8]) {
    sha.update((value.len() as u64).to_be_bytes());
    sha.update(value);
}

fn unfold(value: &[u8]) -> Vec<u8> {
    let words = value.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(&b' ')
}

/// Bytes that are handed to the hash at once: lines one by one would cost as much as the hash itself.
const PIECE_BYTES: usize = 16 * 1024;

/// Line feeds only. A piece at a time is copied, however large the mail.
fn body(sha: &mut Sha256, body: &[u8]) {
    let end = body.len() - body.iter().rev().take_while(|byte| matches!(byte, b'\r' | b'\n' | b' ' | b'\t')).count();
    let mut rest = body.get(..end).unwrap_or_default();
    let mut piece = Vec::with_capacity(PIECE_BYTES.min(rest.len()));
    while !rest.is_empty() {
        let line = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        let (line, tail) = rest.split_at(line);
        rest = tail;
        let (content, feed) = match line {
            [content @ .., b'\r', b'\n'] => (content, &b"\n"[..]),
            whole => (whole, &b""[..]),
        };
        if piece.len() + line.len() > PIECE_BYTES {
            sha.update(&piece);
            piece.clear();
        }
        if line.len() > PIECE_BYTES {
            sha.update(content);
            sha.update(feed);
        } else {
            piece.extend_from_slice(content);
            piece.extend_from_slice(feed);
        }
    }
    sha.update(&piece);
}
