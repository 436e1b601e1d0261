//! The mail reader under bytes that nobody would send: arbitrary ones, the corpus with wounds, and mails made by a grammar that
//! knows where readers break. Seeded: a failure comes again. No panic, nothing over a limit, every file where it says it is, and
//! time in proportion to the size. `OMNIGATE_FUZZ_TIMES=n` makes n times as many, of other seeds.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use omnigate::connector::mail::{self, PARSE_STACK_BYTES, proof, trial};
use omnigate::model::dns::Answers;
use omnigate::model::item::{FilePlace, ItemBody};
use omnigate::model::time::Time;
use serde_json::Map;

/// Longest text of an item, and a little: the limits of the room.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// A small seeded source of numbers (splitmix64).
pub struct Dice(pub u64);

impl Dice {
    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as usize % n.max(1)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Seeds of the rounds that are asked for, the first one always the same.
fn rounds(first: u64) -> impl Iterator<Item = Dice> {
    let times = std::env::var("OMNIGATE_FUZZ_TIMES").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    (0..times).map(move |round| Dice(first.wrapping_add(round * 1_000_003)))
}

/// Reads it and looks at what came out.
fn check(bytes: &[u8], what: &str) {
    let now = Time(1_795_338_843_000);
    // The check of senders sees the same bytes: what it would ask for is bounded, and it judges without an answer.
    let names = proof::asks(bytes, now);
    assert!(names.len() <= 64 && names.iter().all(|name| name.len() <= 253), "{what}: {} names", names.len());
    let judged = proof::check(bytes, now, None, &Answers { at: now, txt: BTreeMap::new() });
    assert!(judged.signatures.len() <= 16 && judged.dkim != "pass" && judged.dmarc != Some("pass"), "{what}: proven without a key");
    let item = trial::read("imap", &Map::new(), bytes, now);
    match item.body {
        ItemBody::Message(message) => {
            for text in [&message.text, &message.html, &message.reply_text].into_iter().flatten() {
                assert!(text.len() <= TEXT_BYTES_MAX, "{what}: a text of {} bytes", text.len());
                assert!(!text.contains('\0'), "{what}: a NUL");
            }
            assert!(message.attachments.len() <= 202 && message.to.len() <= 200, "{what}: too many files or recipients");
            let extra = serde_json::to_vec(&message.extra).unwrap();
            assert!(extra.len() < 64 * 1024, "{what}: extra of {} bytes", extra.len());
            for file in &message.attachments {
                let length = match file.place {
                    Some(FilePlace::Slice { start, end, encoding }) => {
                        mail::decode_slice(&bytes[start as usize..end as usize], encoding).len() as u64
                    }
                    Some(FilePlace::Within { start, end, encoding, skip, bytes: length }) => {
                        let outer = mail::decode_slice(&bytes[start as usize..end as usize], encoding);
                        assert!(skip + length <= outer.len() as u64, "{what}: a file beyond the one around it");
                        length
                    }
                    _ => continue,
                };
                assert_eq!(Some(length), file.public.bytes, "{what}: a file is not where it says");
            }
        }
        ItemBody::Quarantined { detail, .. } => assert!(!detail.contains("defect"), "{what}: {detail}"),
        other => panic!("{what}: {other:?}"),
    }
}

/// The reader runs on a stack of the size it asks for, as it does in the gateway.
fn on_its_stack(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(PARSE_STACK_BYTES).spawn(work).unwrap().join().unwrap();
}

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mail");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "eml"));
    paths.sort();
    assert!(paths.len() >= 150, "a runner that finds no cases fails");
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Bytes that mean something to a reader of mail.
const TOKENS: [&[u8]; 34] = [
    b"\r\n",
    b"\n\n",
    b"\n ",
    b"\r",
    b"\0",
    b"--b1\n",
    b"--b1--\n",
    b"--",
    b"=?utf-8?B?",
    b"=?x?Q?=",
    b"?=",
    b"; name*0*=utf-8''%C3",
    b"Content-Type: multipart/mixed; boundary=b1\n\n",
    b"Content-Type: message/rfc822\n\n",
    b"Content-Type: text/html\n\n",
    b"Content-Transfer-Encoding: base64\n",
    b"Content-Transfer-Encoding: quoted-printable\n",
    b"<div class=gmail_quote>",
    b"<blockquote type=cite>",
    b"<!--",
    b"&#x10FFFF;",
    b"<",
    b">",
    b"> ",
    b"\"",
    b"(",
    b"From: a@example.org\n",
    b"On 1 Jun 2026, a@example.org wrote:\n",
    b"\xff\xfe",
    b"\x1b$B",
    b"\xf0\x9f",
    b"-- \n",
    b"BEGIN:VEVENT\nUID:",
    b"Action: failed\n",
];

/// Some wounds: bytes turned, cut out, doubled, put in; two mails glued.
fn wounded(dice: &mut Dice, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut mail = corpus[dice.below(corpus.len())].clone();
    for _ in 0..1 + dice.below(8) {
        let at = dice.below(mail.len() + 1);
        let end = (at + dice.below(60)).min(mail.len());
        match dice.below(7) {
            0 if at < mail.len() => mail[at] = dice.below(256) as u8,
            1 => drop(mail.drain(at..end)),
            2 => {
                let piece = mail[at..end].to_vec();
                mail.splice(at..at, piece);
            }
            3 => mail.truncate(at),
            4 => {
                let other = &corpus[dice.below(corpus.len())];
                mail.truncate(at);
                mail.extend_from_slice(&other[dice.below(other.len())..]);
            }
            _ => {
                let token = dice.pick(&TOKENS);
                mail.splice(at..at, token.iter().copied());
            }
        }
    }
    mail
}

#[test]
fn a_wounded_corpus_is_read_without_harm() {
    on_its_stack(|| {
        let corpus = corpus();
        for mut dice in rounds(20_260_601) {
            let seed = dice.0;
            for n in 0..4_000 {
                check(&wounded(&mut dice, &corpus), &format!("wounded mail {n} of {seed}"));
            }
        }
    });
}

#[test]
fn arbitrary_bytes_are_read_without_harm() {
    on_its_stack(|| {
        let mut dice = Dice(7);
        for n in 0..2_000 {
            let len = dice.below(600);
            // Half of them of tokens: pure noise seldom gets past the first line.
            let mut mail = Vec::new();
            while mail.len() < len {
                if n % 2 == 0 {
                    mail.push(dice.below(256) as u8);
                } else {
                    mail.extend_from_slice(dice.pick(&TOKENS));
                }
            }
            check(&mail, &format!("bytes {n}"));
        }
    });
}

/// An entity by a grammar: headers that may lie, multiparts that may not end.
fn entity(dice: &mut Dice, depth: usize, out: &mut Vec<u8>) {
    const KINDS: [&str; 6] = ["mixed", "alternative", "related", "report", "digest", "signed"];
    const LEAVES: [&str; 13] = [
        "text/plain",
        "text/html; charset=shift_jis",
        "text/plain; format=flowed; delsp=yes",
        "message/rfc822",
        "message/delivery-status",
        "message/disposition-notification",
        "message/feedback-report",
        "text/calendar; method=REQUEST",
        "application/pkcs7-mime",
        "application/ms-tnef; name=winmail.dat",
        "image/png; name=\"=?utf-8?Q?a=00b?=\"",
        "application/octet-stream; name*1*=x; name*0*=utf-8''%",
        "text/plain; charset=utf-16",
    ];
    for _ in 0..dice.below(4) {
        out.extend_from_slice(
            dice.pick(&["X-A: b\r\n", "Subject: =?iso-2022-jp?B?GyRC?=\n", "Content-ID: <x>\n", "To: a:b;,<c@d\r\n"]).as_bytes(),
        );
    }
    if depth > 0 && dice.below(3) > 0 {
        let boundary = format!("b{}", dice.below(3));
        out.extend_from_slice(format!("Content-Type: multipart/{}; boundary=\"{boundary}\"\r\n\r\n", dice.pick(&KINDS)).as_bytes());
        for _ in 0..dice.below(4) {
            out.extend_from_slice(format!("\r\n--{boundary}\r\n").as_bytes());
            entity(dice, depth - 1, out);
        }
        if dice.below(4) > 0 {
            out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        }
        return;
    }
    let encoding = dice.pick(&["7bit", "base64", "quoted-printable", "x"]);
    out.extend_from_slice(format!("Content-Type: {}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n", dice.pick(&LEAVES)).as_bytes());
    for _ in 0..dice.below(12) {
        out.extend_from_slice(dice.pick(&TOKENS));
        out.extend_from_slice(b"words ");
    }
}

#[test]
fn mails_by_a_grammar_are_read_without_harm() {
    on_its_stack(|| {
        for mut dice in rounds(99) {
            let seed = dice.0;
            for n in 0..3_000 {
                let mut mail = b"From: Ana <ana@example.org>\r\nMessage-ID: <m@example.org>\r\n".to_vec();
                entity(&mut dice, 5, &mut mail);
                check(&mail, &format!("made mail {n} of {seed}"));
            }
        }
    });
}

/// Time that this thread has spent on a processor; how busy the machine is does not show in it. `None` where the system does not say.
fn spent() -> Option<Duration> {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    told.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// What one reading costs: as many of them as the clock of the system can tell from nothing.
fn cost(mail: &[u8]) -> Duration {
    const ENOUGH: Duration = Duration::from_millis(24);
    let (begun, clock) = (spent(), Instant::now());
    for readings in 1.. {
        check(mail, "repeated");
        let all = begun.zip(spent()).map_or_else(|| clock.elapsed(), |(begun, now)| now.saturating_sub(begun));
        if all >= ENOUGH {
            return all / readings;
        }
    }
    ENOUGH
}

#[test]
fn four_times_the_bytes_take_about_four_times_the_time() {
    on_its_stack(|| {
        let heads: [&[u8]; 4] = [
            b"Subject: x\n\n",
            b"Content-Type: text/html\n\n",
            b"Content-Type: multipart/mixed; boundary=b1\n\n",
            b"Content-Type: text/plain; format=flowed\n\n",
        ];
        let fields: [&[u8]; 3] = [b"References: <a@b>", b"To: a@b.example, ", b"Content-Type: text/plain; name*0*=a"];
        let mut slow = Vec::new();
        let mut compare = |what: String, make: &dyn Fn(usize) -> Vec<u8>| {
            // Both are longer than a text may be: what is cut is read once more, as a file.
            let (small, large) = (make(72 * 1024), make(288 * 1024));
            // Quadratic work would take sixteen times as long, every time; a busy machine does so now and then.
            let measured: Vec<_> = (0..4).map(|_| (cost(&small), cost(&large))).take_while(|(one, four)| *four > *one * 9).collect();
            if measured.len() == 4 {
                slow.push(format!("{what:?}: {measured:?}"));
            }
        };
        for (n, token) in TOKENS.iter().enumerate() {
            for head in [heads[1], heads[n % 2 * 2], heads[3]] {
                let what = format!("{} repeated behind {}", String::from_utf8_lossy(token), String::from_utf8_lossy(head));
                compare(what, &|bytes| [head, token.repeat(bytes / token.len()).as_slice()].concat());
            }
        }
        for head in fields {
            for token in [&b" <a@b>"[..], b",a@b.example", b"; name*1*=%C3", b"=?utf-8?Q?=C3?= ", b"((", b"\"", b"\n x"] {
                let what = format!("{} repeated in {}", String::from_utf8_lossy(token), String::from_utf8_lossy(head));
                compare(what, &|bytes| [head, token.repeat(bytes / token.len()).as_slice(), b"\n\nHi"].concat());
            }
        }
        assert!(slow.is_empty(), "more than in proportion:\n{}", slow.join("\n"));
    });
}

/// RTF out of its words, some of them lying.
fn rtf(dice: &mut Dice) -> Vec<u8> {
    const WORDS: [&str; 22] = [
        "{",
        "}",
        "{\\*\\htmltag64 <p>}",
        "\\htmlrtf ",
        "\\htmlrtf0 ",
        "\\par ",
        "\\'fc",
        "\\u8364 ?",
        "\\u-10179 ?",
        "\\bin9 ",
        "\\f1 ",
        "\\'",
        "\\",
        "{\\fonttbl{\\f1\\fcharset128 x;}}",
        "{\\*\\x ",
        "\\uc3 ",
        "words ",
        "\\{",
        "\\ansicpg932 ",
        "\\'93\\'fa",
        "\\bin-1 ",
        "{\\pict ",
    ];
    let mut out = dice.pick(&["{\\rtf1\\ansi\\fromhtml1 ", "{\\rtf1\\fromtext ", "{\\rtf1 ", ""]).as_bytes().to_vec();
    for _ in 0..dice.below(60) {
        out.extend_from_slice(dice.pick(&WORDS).as_bytes());
    }
    out
}

/// A `winmail.dat` around it, as it is or as references into a window that may be anything.
fn tnef(dice: &mut Dice) -> Vec<u8> {
    let rtf = rtf(dice);
    let (kind, body) = if dice.below(2) == 0 {
        (*b"MELA", rtf)
    } else {
        (*b"LZFu", rtf.iter().flat_map(|byte| if dice.below(9) == 0 { vec![dice.below(256) as u8, *byte] } else { vec![*byte] }).collect())
    };
    let sizes = [body.len() as u32 + 12, dice.pick(&[body.len() as u32, u32::MAX, 0, 1 << 20])];
    let packed = [&sizes[0].to_le_bytes()[..], &sizes[1].to_le_bytes(), &kind, &[0; 4], &body].concat();
    let padding = vec![0; packed.len().wrapping_neg() % 4];
    let property = dice.pick(&[0x1009_u16, 0x1013, 0x1000]);
    let properties = [
        &1u32.to_le_bytes()[..],
        &0x102u16.to_le_bytes(),
        &property.to_le_bytes(),
        &1u32.to_le_bytes(),
        &(packed.len() as u32).to_le_bytes(),
        &packed,
        &padding,
    ]
    .concat();
    let head = [&0x223e_9f78u32.to_le_bytes()[..], &[1, 0, 1], &0x0006_9003u32.to_le_bytes()].concat();
    [&head[..], &(properties.len() as u32).to_le_bytes(), &properties, &[0, 0]].concat()
}

#[test]
fn wrapped_bodies_by_a_grammar_are_read_without_harm() {
    on_its_stack(|| {
        for mut dice in rounds(11) {
            let seed = dice.0;
            for n in 0..3_000 {
                let mut mail = b"From: a@example.org\r\nContent-Type: application/ms-tnef\r\n\r\n".to_vec();
                mail.extend_from_slice(&tnef(&mut dice));
                check(&mail, &format!("wrapped body {n} of {seed}"));
            }
        }
    });
}

#[test]
fn wrapped_bodies_take_time_in_proportion() {
    on_its_stack(|| {
        for (what, word) in
            [("groups", "{"), ("ends", "}"), ("fonts", "{\\fonttbl{\\f1\\fcharset128 x;}}"), ("turns", "\\f1 x"), ("letters", "\\'e4")]
        {
            let rtf = format!("{{\\rtf1 {}", word.repeat(3_000_000 / word.len()));
            let packed = [&0u32.to_le_bytes()[..], &(rtf.len() as u32).to_le_bytes(), b"MELA", &[0; 4], rtf.as_bytes()].concat();
            let properties =
                [&1u32.to_le_bytes()[..], &[2, 1, 9, 0x10], &1u32.to_le_bytes(), &(packed.len() as u32).to_le_bytes(), &packed, &[0; 3]]
                    .concat();
            let head =
                [&0x223e_9f78u32.to_le_bytes()[..], &[1, 0, 1], &0x0006_9003u32.to_le_bytes(), &(properties.len() as u32).to_le_bytes()]
                    .concat();
            let mail = [b"Content-Type: application/ms-tnef\r\n\r\n", &head[..], &properties, &[0, 0]].concat();
            let start = Instant::now();
            check(&mail, what);
            assert!(start.elapsed() < Duration::from_secs(20), "3 MB of {what}: {:?}", start.elapsed());
        }
    });
}
