//! Realistic mails, the same for the same seed: about half plain in several charsets, a third with HTML beside the text, then
//! PDFs, photos, delivery reports, out-of-office notes and forwarded mails; 45 % are replies with References. Every Message-ID is
//! unique. Std and two codecs only: benches include this file by its path.

use std::fmt::Write as _;

use base64::Engine as _;

const PEOPLE: [(&str, &str); 8] = [
    ("Ana Lindqvist", "ana.lindqvist@example.org"),
    ("Jürgen Groß", "juergen@example.net"),
    ("Mehmet Yıldız", "mehmet.yildiz@example.com"),
    ("Иван Петров", "ivan.petrov@example.org"),
    ("山田 花子", "hanako@example.net"),
    ("Chloé Martin", "chloe.martin@example.com"),
    ("Order Desk", "orders@shop.example.com"),
    ("Bob \"Bobby\" O'Neil", "bob.oneil@example.org"),
];

const WORDS: [&str; 32] = [
    "order",
    "number",
    "the",
    "parcel",
    "was",
    "not",
    "delivered",
    "please",
    "could",
    "you",
    "send",
    "invoice",
    "again",
    "we",
    "have",
    "received",
    "only",
    "half",
    "of",
    "it",
    "since",
    "Monday",
    "thank",
    "you",
    "very",
    "much",
    "screen",
    "stays",
    "black",
    "after",
    "update",
    "account",
];

const RUSSIAN: &str = "Здравствуйте, заказ до сих пор не пришёл, прошу вас проверить статус доставки. ";
const JAPANESE: &str = "お世話になっております。注文した商品がまだ届いていません。ご確認をお願いいたします。";

/// A small, fast, seeded source of numbers (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(n).collect()
    }
}

/// `n` mails. Mail `i` answers an earlier one in 45 of 100 cases, so threads grow as they do in a support mailbox.
pub fn generate(seed: u64, n: usize) -> Vec<Vec<u8>> {
    let mut dice = Dice(seed);
    let mut threads: Vec<Vec<String>> = Vec::new();
    (0..n).map(|i| one(&mut dice, seed, i, &mut threads)).collect()
}

/// A mail with one attachment of `bytes` decoded bytes.
pub fn with_attachment(seed: u64, bytes: usize) -> Vec<u8> {
    let mut dice = Dice(seed);
    let mut head = String::new();
    header(&mut head, &mut dice, &format!("<big.{seed}@example.org>"), "Scan", &[]);
    let data = dice.bytes(bytes);
    mixed(&head, "Please see the scan.\r\n", "application/pdf", "scan.pdf", &data, seed as usize)
}

fn one(dice: &mut Dice, seed: u64, i: usize, threads: &mut Vec<Vec<String>>) -> Vec<u8> {
    let id = format!("<{i}.{seed:x}.{:08x}@mail.example.org>", dice.next() as u32);
    let answers = dice.below(100) < 45 && !threads.is_empty();
    let references: Vec<String> = if answers {
        let at = dice.below(threads.len() as u64) as usize;
        threads[at].push(id.clone());
        let thread = &threads[at];
        thread[..thread.len() - 1].iter().rev().take(20).rev().cloned().collect()
    } else {
        threads.push(vec![id.clone()]);
        Vec::new()
    };
    let subject =
        format!("{}{} {}", if answers { "Re: " } else { "" }, dice.pick(&["Order", "Invoice", "Login", "Parcel", "Rückfrage"]), 1000 + i);
    let mut head = String::new();
    header(&mut head, dice, &id, &subject, &references);
    match dice.below(1000) {
        0..493 => plain(dice, head, answers),
        493..793 => alternative(dice, &head, answers, i),
        793..953 => {
            let text = prose(dice, 60);
            let size = 4_000 + dice.below(120_000) as usize;
            let mut data = b"%PDF-1.4\n".to_vec();
            data.extend(dice.bytes(size));
            mixed(&head, &text, "application/pdf", "invoice.pdf", &data, i)
        }
        953..963 => {
            let text = prose(dice, 20);
            let size = 900_000 + dice.below(1_900_000) as usize;
            let mut data = vec![0xff, 0xd8, 0xff, 0xe0];
            data.extend(dice.bytes(size));
            mixed(&head, &text, "image/jpeg", "photo.jpg", &data, i)
        }
        963..981 => report(dice, &id, &references, i),
        981..990 => {
            head.push_str("Auto-Submitted: auto-replied\r\nX-Auto-Response-Suppress: All\r\nPrecedence: auto_reply\r\n");
            head.push_str("Content-Type: text/plain; charset=utf-8\r\n\r\nI am out of the office until Monday and read mail rarely.\r\n");
            head.into_bytes()
        }
        _ => {
            let mut inner = String::new();
            header(&mut inner, dice, &format!("<fwd.{i}.{seed:x}@example.com>"), "Question", &[]);
            inner.push_str("Content-Type: text/plain; charset=utf-8\r\n\r\n");
            inner.push_str(&prose(dice, 80));
            let boundary = format!("=_fwd{i}");
            format!(
                "{head}Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\n--{boundary}\r\nContent-Type: text/plain\r\n\r\nSee below.\r\n--{boundary}\r\nContent-Type: message/rfc822\r\n\r\n{inner}\r\n--{boundary}--\r\n"
            )
            .into_bytes()
        }
    }
}

fn header(head: &mut String, dice: &mut Dice, id: &str, subject: &str, references: &[String]) {
    let (name, address) = *dice.pick(&PEOPLE);
    let day = 1 + dice.below(28);
    let (hour, minute, second) = (dice.below(24), dice.below(60), dice.below(60));
    for hop in 0..3 + dice.below(3) {
        let _ = write!(
            head,
            "Received: from mx{hop}.example.net (mx{hop}.example.net [192.0.2.{hop}])\r\n\tby in.example.org (Postfix) with ESMTPS id {:016X}\r\n\tfor <support@acme.example>; Mon, {day} Jun 2026 {hour:02}:{minute:02}:{second:02} +0000\r\n",
            dice.next()
        );
    }
    let dkim = base64::engine::general_purpose::STANDARD.encode(dice.bytes(256));
    let _ = write!(
        head,
        "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=k1;\r\n\th=from:to:subject:date; b={dkim}\r\n"
    );
    let _ = write!(head, "From: {} <{address}>\r\nTo: Support <support@acme.example>\r\n", word(name));
    let _ = write!(
        head,
        "Subject: {}\r\nDate: Mon, {day} Jun 2026 {hour:02}:{minute:02}:{second:02} +0200\r\nMessage-ID: {id}\r\n",
        word(subject)
    );
    if let Some(last) = references.last() {
        let _ = write!(head, "In-Reply-To: {last}\r\nReferences: {}\r\n", references.join("\r\n "));
    }
    head.push_str("MIME-Version: 1.0\r\n");
}

fn word(text: &str) -> String {
    if text.is_ascii() && !text.contains('"') {
        return text.to_owned();
    }
    format!("=?utf-8?B?{}?=", base64::engine::general_purpose::STANDARD.encode(text))
}

fn prose(dice: &mut Dice, words: u64) -> String {
    let mut text = String::from("Hello,\r\n\r\n");
    for n in 0..words {
        text.push_str(dice.pick::<&str>(&WORDS));
        text.push_str(if n % 11 == 10 { ".\r\n" } else { " " });
    }
    text.push_str("\r\n\r\nKind regards\r\n-- \r\nExample Ltd, Somewhere 1\r\n");
    text
}

fn quoted(dice: &mut Dice) -> String {
    let mut text = String::from("\r\nOn Mon, 1 Jun 2026 at 10:00, Support <support@acme.example> wrote:\r\n");
    for line in prose(dice, 150).lines() {
        let _ = write!(text, "> {line}\r\n");
    }
    text
}

fn plain(dice: &mut Dice, head: String, answers: bool) -> Vec<u8> {
    let repeats = 5 + dice.below(60) as usize;
    let (charset, encoding, body) = match dice.below(10) {
        0 => ("koi8-r", "8bit", encoding_rs::KOI8_R.encode(&RUSSIAN.repeat(repeats)).0.into_owned()),
        1 => ("iso-2022-jp", "7bit", encoding_rs::ISO_2022_JP.encode(&format!("{JAPANESE}\r\n").repeat(repeats)).0.into_owned()),
        2 => (
            "iso-8859-1",
            "8bit",
            encoding_rs::WINDOWS_1252.encode(&"Grüße aus Köln, die Lieferung fehlt.\r\n".repeat(repeats)).0.into_owned(),
        ),
        _ => {
            let words = 80 + dice.below(900);
            let mut text = prose(dice, words);
            if answers {
                text.push_str(&quoted(dice));
            }
            ("utf-8", "8bit", text.into_bytes())
        }
    };
    let mut mail = head.into_bytes();
    mail.extend_from_slice(
        format!("Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n").as_bytes(),
    );
    mail.extend_from_slice(&body);
    mail.extend_from_slice(b"\r\n");
    mail
}

fn alternative(dice: &mut Dice, head: &str, answers: bool, i: usize) -> Vec<u8> {
    let words = 80 + dice.below(600);
    let mut text = prose(dice, words);
    if answers {
        text.push_str(&quoted(dice));
    }
    let mut html = String::from("<html><head><style>p{margin:0}</style></head><body>");
    for line in text.lines() {
        let _ = write!(html, "<p style=3D\"font-family:Arial\"><span>{}</span></p>=\r\n", line.replace('=', "=3D").replace('<', "&lt;"));
    }
    html.push_str("</body></html>\r\n");
    let boundary = format!("=_alt{i}");
    format!(
        "{head}Content-Type: multipart/alternative; boundary=\"{boundary}\"\r\n\r\n--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n--{boundary}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n{html}\r\n--{boundary}--\r\n"
    )
    .into_bytes()
}

fn mixed(head: &str, text: &str, kind: &str, name: &str, data: &[u8], i: usize) -> Vec<u8> {
    let boundary = format!("=_mix{i}");
    let mut mail = format!(
        "{head}Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\n--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n--{boundary}\r\nContent-Type: {kind}; name=\"{name}\"\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"{name}\"\r\n\r\n"
    )
    .into_bytes();
    // 57 bytes are one line of 76 digits.
    for line in data.chunks(57) {
        mail.extend_from_slice(base64::engine::general_purpose::STANDARD.encode(line).as_bytes());
        mail.extend_from_slice(b"\r\n");
    }
    mail.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    mail
}

fn report(dice: &mut Dice, id: &str, references: &[String], i: usize) -> Vec<u8> {
    let returned = references.last().cloned().unwrap_or_else(|| format!("<sent.{i}.{:x}@acme.example>", dice.next()));
    let boundary = format!("=_dsn{i}");
    format!(
        "Return-Path: <>\r\nFrom: Mail Delivery System <MAILER-DAEMON@mx.example.net>\r\nTo: support@acme.example\r\nSubject: Undelivered Mail Returned to Sender\r\nDate: Mon, 1 Jun 2026 10:00:00 +0000\r\nMessage-ID: {id}\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=\"{boundary}\"\r\n\r\n--{boundary}\r\nContent-Type: text/plain\r\n\r\nYour message could not be delivered.\r\n--{boundary}\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example.net\r\n\r\nFinal-Recipient: rfc822; nobody{i}@example.com\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n--{boundary}\r\nContent-Type: message/rfc822\r\n\r\nFrom: support@acme.example\r\nTo: nobody{i}@example.com\r\nSubject: Re: Order\r\nMessage-ID: {returned}\r\n\r\nYour order is on its way.\r\n--{boundary}--\r\n"
    )
    .into_bytes()
}
