//! The outline of a mail that is too large to be held: its headers, its texts, the begin and the end of its files, and where the rest
//! was left out. It is made piece by piece while the mail passes by.
//!
//! What must stay true: the outline has the same structure as the mail. Nothing is left out but bytes in the middle of a body, and
//! never a line that begins with `--`, so that every boundary line and every header is there; what `parts` reads of a text is there
//! whole. An offset in the outline can be turned into the offset in the mail.

use std::ops::Range;

use bytes::Bytes;

use crate::connector::mail::fields;

/// Bytes of a body that are kept. Each is more than any reader of this room looks at.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// Of a text that may be the text of the mail.
    pub text: usize,
    /// Of such texts in all; what is beyond is over the limit of a message's text anyway.
    pub texts: usize,
    /// Of an attached mail, a report, an invitation or a text that is a file.
    pub report: usize,
    /// Of any other file: enough to sniff its type.
    pub file: usize,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { text: 2 * 1024 * 1024, texts: 8 * 1024 * 1024, report: 128 * 1024, file: 16 * 1024 }
    }
}

/// Header bytes after which a header is over every limit, or none.
const HEADER_BYTES_MAX: usize = 1024 * 1024 + 64 * 1024;
/// The end of a body that is kept: more than the line break that belongs to the next boundary.
const TAIL_BYTES: usize = 256;
/// A line that is longer is taken in parts.
const LINE_BYTES_MAX: usize = 4096;

/// Bytes that were left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Where, in the outline.
    pub at: usize,
    /// How many.
    pub bytes: u64,
}

/// An outline.
#[derive(Debug, Clone, Default)]
pub struct Outline {
    /// What is kept.
    pub kept: Bytes,
    /// What was left out, in order.
    pub gaps: Vec<Gap>,
}

impl Outline {
    /// The place in the mail of a place in the outline.
    pub fn place(&self, at: usize) -> u64 {
        let before = self.gaps.iter().take_while(|gap| gap.at < at).map(|gap| gap.bytes).sum::<u64>();
        before.saturating_add(at as u64)
    }

    /// Whether something of this range was left out.
    pub fn has_gap(&self, range: &Range<usize>) -> bool {
        self.gaps.iter().any(|gap| range.contains(&gap.at))
    }
}

/// Makes an outline of what is fed.
pub struct Outliner {
    allowance: Allowance,
    kept: Vec<u8>,
    gaps: Vec<Gap>,
    /// The begin of a line whose end has not come.
    line: Vec<u8>,
    /// The begin of the line was taken already.
    within_line: bool,
    /// The header that is being read; `None` in a body.
    header: Option<Head>,
    /// Bytes of the body that may still be kept.
    left: usize,
    texts_left: usize,
    is_text: bool,
    /// The end of what is being left out, and how much that is in all.
    tail: Vec<u8>,
    skipped: u64,
}

/// What a header says about its body, as far as it matters here.
#[derive(Default)]
struct Head {
    bytes: usize,
    /// The value of the first Content-Type.
    content_type: Option<Vec<u8>>,
    in_type: bool,
    attached: bool,
    /// What Outlook wraps, or a signature, is read whole.
    wrapped: bool,
}

impl Head {
    fn line(&mut self, line: &[u8]) {
        let lower = line.get(..LINE_BYTES_MAX.min(line.len())).unwrap_or_default().to_ascii_lowercase();
        self.wrapped |= has(&lower, b"tnef") || has(&lower, b"winmail.dat") || has(&lower, b"pkcs7-mime");
        if matches!(lower.first(), Some(b' ' | b'\t')) {
            if let Some(value) = self.content_type.as_mut().filter(|value| self.in_type && value.len() < LINE_BYTES_MAX) {
                value.extend_from_slice(&lower);
            }
            return;
        }
        self.in_type = false;
        if let Some(value) = lower.strip_prefix(b"content-type:").filter(|_| self.content_type.is_none()) {
            (self.in_type, self.content_type) = (true, Some(value.to_vec()));
        }
        self.attached |= lower.starts_with(b"content-disposition:") && has(&lower, b"attachment");
    }
}

fn has(line: &[u8], word: &[u8]) -> bool {
    memchr::memmem::find(line, word).is_some()
}

impl Outliner {
    /// An outline of nothing yet.
    pub fn new(allowance: Allowance) -> Self {
        Self {
            allowance,
            kept: Vec::new(),
            gaps: Vec::new(),
            line: Vec::new(),
            within_line: false,
            header: Some(Head::default()),
            left: 0,
            texts_left: allowance.texts,
            is_text: false,
            tail: Vec::new(),
            skipped: 0,
        }
    }

    /// Takes the next piece of the mail.
    pub fn feed(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, behind) = rest.split_at((end + 1).min(rest.len()));
            rest = behind;
            if self.line.is_empty() {
                self.take(line);
            } else {
                let mut whole = std::mem::take(&mut self.line);
                whole.extend_from_slice(line);
                self.take(&whole);
                whole.clear();
                self.line = whole;
            }
            self.within_line = false;
        }
        self.line.extend_from_slice(rest);
        if self.line.len() > LINE_BYTES_MAX {
            let part = std::mem::take(&mut self.line);
            self.take(&part);
            self.within_line = true;
        }
    }

    /// The outline of what was fed.
    pub fn finish(mut self) -> Outline {
        let rest = std::mem::take(&mut self.line);
        if !rest.is_empty() {
            self.take(&rest);
        }
        self.end_gap();
        Outline { kept: self.kept.into(), gaps: self.gaps }
    }

    /// A line, or a part of a long one.
    fn take(&mut self, line: &[u8]) {
        if !self.within_line && line.starts_with(b"--") {
            // A boundary, perhaps: a header follows it, perhaps. If it does not, more is kept than had to be.
            self.end_gap();
            self.header = Some(Head::default());
            self.kept.extend_from_slice(line);
            return;
        }
        if let Some(head) = &mut self.header {
            head.bytes += line.len();
            let blank = !self.within_line && line.trim_ascii_end().is_empty();
            if !blank && !self.within_line {
                head.line(line);
            }
            if blank || head.bytes > HEADER_BYTES_MAX {
                self.begin_body();
            }
            self.kept.extend_from_slice(line);
            return;
        }
        self.keep(line);
    }

    fn begin_body(&mut self) {
        let head = self.header.take().unwrap_or_default();
        let media_type = head.content_type.as_deref().and_then(fields::media_type).unwrap_or_else(|| "text/plain".to_owned());
        let text = matches!(media_type.as_str(), "text/plain" | "text/html") && !head.attached;
        // A multipart that has no parts is read as text.
        self.is_text = text || head.wrapped || media_type.starts_with("multipart/");
        self.left = if self.is_text {
            self.allowance.text.min(self.texts_left).max(self.allowance.report)
        } else if media_type.starts_with("text/") || media_type.starts_with("message/") || media_type == "application/ics" {
            self.allowance.report
        } else {
            self.allowance.file
        };
        if head.wrapped {
            self.left = self.left.max(self.allowance.texts);
        }
    }

    fn keep(&mut self, line: &[u8]) {
        if self.tail.is_empty() && self.skipped == 0 {
            let room = self.left.min(line.len());
            self.kept.extend_from_slice(line.get(..room).unwrap_or_default());
            self.left -= room;
            if self.is_text {
                self.texts_left = self.texts_left.saturating_sub(room);
            }
            self.tail.extend_from_slice(line.get(room..).unwrap_or_default());
        } else {
            self.tail.extend_from_slice(line);
        }
        if self.tail.len() > LINE_BYTES_MAX {
            let excess = self.tail.len() - TAIL_BYTES;
            self.tail.drain(..excess);
            self.skipped += excess as u64;
        }
    }

    fn end_gap(&mut self) {
        let excess = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..excess);
        let bytes = std::mem::take(&mut self.skipped) + excess as u64;
        if bytes > 0 {
            self.gaps.push(Gap { at: self.kept.len(), bytes });
        }
        self.kept.append(&mut self.tail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: Allowance = Allowance { text: 600, texts: 600, report: 600, file: 100 };

    #[track_caller]
    fn check(mail: &[u8], piece: usize) -> Outline {
        let mut outliner = Outliner::new(TINY);
        mail.chunks(piece).for_each(|piece| outliner.feed(piece));
        let outline = outliner.finish();
        let left_out: u64 = outline.gaps.iter().map(|gap| gap.bytes).sum();
        assert_eq!(outline.kept.len() as u64 + left_out, mail.len() as u64, "nothing is lost track of");
        for at in 0..outline.kept.len() {
            if outline.gaps.iter().any(|gap| gap.at == at) {
                continue;
            }
            let place = usize::try_from(outline.place(at)).unwrap_or(usize::MAX);
            assert_eq!(outline.kept.get(at), mail.get(place), "at {at}");
        }
        outline
    }

    fn mail() -> Vec<u8> {
        let file = "QUJD".repeat(19) + "\r\n";
        let part = |kind: &str, body: &str| format!("--b\r\nContent-Type:\r\n {kind}\r\n\r\n{body}\r\n");
        let parts = [part("text/plain", "Hello\r\n-- \r\nAna"), part("image/png", &file.repeat(40)), part("text/html", &"x".repeat(9000))];
        format!("Subject: large\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n{}--b--\r\n", parts.concat()).into_bytes()
    }

    #[test]
    fn boundaries_headers_and_texts_stay_and_the_middle_of_files_goes() {
        for piece in [1, 7, 80, 4096, 100_000] {
            let outline = check(&mail(), piece);
            let kept = String::from_utf8_lossy(&outline.kept).into_owned();
            assert_eq!(outline.gaps.len(), 2, "the image, and the text over the allowance");
            assert!(kept.contains("Hello\r\n-- \r\nAna\r\n--b\r\nContent-Type:\r\n image/png\r\n\r\nQUJD"), "{kept}");
            assert!(kept.contains("\r\n\r\n--b\r\nContent-Type:\r\n text/html") && kept.ends_with("xxx\r\n--b--\r\n"), "{kept}");
        }
    }

    #[test]
    fn a_mail_with_nothing_large_in_it_is_its_own_outline() {
        for mail in ["", "Subject: x", "Subject: x\r\n\r\nHello", "\n\n--\n--\n\n"] {
            let outline = check(mail.as_bytes(), 3);
            assert!(outline.gaps.is_empty() && outline.kept == mail.as_bytes());
        }
    }
}
