//! Mails that are read as they pass by become what they become when they are read whole: the corpus, the corpus with wounds, and mails
//! that are really large.

use bytes::Bytes;
use omnigate::connector::mail::outline::Allowance;
use omnigate::connector::mail::{self, large};
use omnigate::model::item::{Item, ItemBody};
use omnigate::model::raw::Raw;

use crate::mail_corpus::mails;
use crate::mail_fuzz::Dice;
use crate::support::mailgen;
use crate::support::mails::{self, context};

fn raw(body: Bytes) -> Raw {
    mails::raw(1, body)
}

/// Reads a mail in pieces of `size` bytes.
fn in_pieces(mail: &Bytes, allowance: Allowance, size: usize) -> Item {
    let mut pieces = |at: u64| {
        let at = usize::try_from(at).unwrap().min(mail.len());
        Ok(mail.slice(at..mail.len().min(at + size)))
    };
    large::read_with(&raw(Bytes::new()), &context(), allowance, None, &mut pieces).unwrap()
}

/// Leaves out all of a file that may be left out, and nothing of a text.
const FILES: Allowance = Allowance { text: 1 << 30, texts: 1 << 30, report: 1 << 20, file: 100 };

#[test]
fn the_corpus_becomes_the_same_when_it_passes_by() {
    for path in mails() {
        let mail = Bytes::from(std::fs::read(&path).unwrap());
        let whole = format!("{:?}", mail::read(&raw(mail.clone()), &context()));
        for size in [61, 5000] {
            let passed = format!("{:?}", in_pieces(&mail, FILES, size));
            assert!(passed == whole, "{}: in pieces of {size}\n{passed}\n{whole}", path.display());
        }
    }
}

/// Key, and of each file what is told of it and where it is.
fn marks(item: &Item) -> String {
    match &item.body {
        ItemBody::Message(message) => {
            let files: Vec<_> = message.attachments.iter().map(|file| (&file.public.sha256, file.public.bytes, &file.place)).collect();
            format!("{:?} {files:?}", item.key)
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn wounded_mails_keep_their_key_and_their_files() {
    let mut dice = Dice(20_261_122);
    let corpus: Vec<Vec<u8>> = mails().iter().map(|path| std::fs::read(path).unwrap()).collect();
    for round in 0..1500 {
        let mut bytes = corpus[dice.below(corpus.len())].clone();
        for _ in 0..dice.below(4) {
            let (at, other) = (dice.below(bytes.len()), &corpus[dice.below(corpus.len())]);
            let from = dice.below(other.len());
            let piece = &other[from..other.len().min(from + dice.below(2000))];
            bytes.splice(at..at, piece.iter().copied());
        }
        let mail = Bytes::from(bytes);
        let tiny = Allowance { text: 600, texts: 3000, report: 600, file: 100 };
        let (whole, passed) = (mail::read(&raw(mail.clone()), &context()), in_pieces(&mail, tiny, 1 + dice.below(3000)));
        let wrapped = marks(&whole).contains("Within") || marks(&passed).contains("Within");
        // A text that is cut is attached whole where it is longer than a message may be: that one may be missing here.
        let short = mail.len() < 64 * 1024;
        assert!(!short || wrapped || marks(&whole) == marks(&passed), "round {round}\n{}\n{}", marks(&whole), marks(&passed));
    }
}

#[test]
fn a_mail_of_twelve_megabytes_becomes_the_same_and_little_of_it_is_held() {
    let mail = Bytes::from(mailgen::with_attachment(7, 12_000_000));
    let mut outliner = omnigate::connector::mail::outline::Outliner::new(Allowance::default());
    mail.chunks(100_000).for_each(|piece| outliner.feed(piece));
    let outline = outliner.finish();
    assert!(outline.kept.len() < 64 * 1024, "{} bytes are held", outline.kept.len());
    let whole = mail::read(&raw(mail.clone()), &context());
    assert_eq!(format!("{:?}", in_pieces(&mail, Allowance::default(), 512 * 1024)), format!("{whole:?}"));
    // As quoted-printable, as it is, and as text that is no file.
    for (kind, encoding) in [("text/csv", "quoted-printable"), ("application/sql", "8bit"), ("text/plain", "7bit")] {
        let line = "4711;Grüße;\"a;b\" =3D done; and so on, for a while, until the line is long enough to be soft-broken =\r\n";
        let head = format!("From: ana@example.org\r\nSubject: {kind}\r\nContent-Type: {kind}\r\n");
        let body = line.repeat(60_000);
        let mail = Bytes::from(format!("{head}Content-Transfer-Encoding: {encoding}\r\n\r\n{body}"));
        let whole = format!("{:?}", mail::read(&raw(mail.clone()), &context()));
        assert!(format!("{:?}", in_pieces(&mail, Allowance::default(), 512 * 1024)) == whole, "{kind}, {encoding}");
    }
}

#[test]
fn bytes_that_cannot_be_had_quarantine_nothing() {
    let mut pieces = |at: u64| if at == 0 { Ok(Bytes::from_static(b"Subject: x\r\n\r\n")) } else { Err("gone".to_owned()) };
    assert_eq!(large::read(&raw(Bytes::new()), &context(), None, &mut pieces).unwrap_err(), "gone");
}
