//! Facts about whole mails: what becomes of them, and that no bytes bring the reader down.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::model::event::{Attachment, AttachmentState, Author, Automated, Channel, Priority};
use crate::model::id::RawId;
use crate::model::item::{FilePlace, MessageItem};
use crate::model::raw::{RawHead, Via};
use crate::model::time::Time;

fn context() -> MailContext {
    MailContext {
        digester: Digester::new(&[7; 32]),
        channel: Arc::new(ChannelFacts {
            public: Channel { id: "support".to_owned(), connector: "imap".to_owned(), labels: BTreeMap::new() },
            priority: Priority::Normal,
            new_after_ms: None,
            back: None,
        }),
        namespace: NAMESPACE.to_owned(),
        account: String::new(),
        signed_replies: false,
        agents: vec!["@staff.example".to_owned()],
        mailboxes: vec![Address::parse("email:support@acme.example").unwrap()],
        authserv_ids: vec!["mx.acme.example".to_owned()],
        vouched: None,
        verify_senders: false,
        historic: false,
        limits: MailLimits::default(),
    }
}

fn raw(mail: impl Into<Vec<u8>>) -> Raw {
    Raw {
        id: RawId(1),
        source: "support".to_owned(),
        via: Via::Imap,
        received_at: Time::parse("2026-11-22T09:14:03Z").unwrap(),
        head: RawHead::default(),
        body: Bytes::from(mail.into()),
    }
}

fn message(mail: impl Into<Vec<u8>>) -> MessageItem {
    match read(&raw(mail), &context()).body {
        ItemBody::Message(message) => *message,
        other => panic!("not a message: {other:?}"),
    }
}

fn quarantined_code(mail: impl Into<Vec<u8>>) -> Option<Code> {
    match read(&raw(mail), &context()).body {
        ItemBody::Quarantined { code, .. } => Some(code),
        _ => None,
    }
}

fn files(message: &MessageItem) -> Vec<&Attachment> {
    message.attachments.iter().map(|file| &file.public).collect()
}

#[test]
fn attachments_are_slices_whose_size_and_hash_are_those_of_the_decoded_file() {
    use base64::Engine;
    use sha2::Digest;
    let data: Vec<u8> = [b"%PDF-1.7\n".to_vec(), (0..5000u32).map(|n| n as u8).collect()].concat();
    let lines: Vec<String> = data.chunks(57).map(|line| base64::engine::general_purpose::STANDARD.encode(line)).collect();
    let mail = format!(
        "From: ana@example.org\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nSee.\r\n--x\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment; filename*0*=utf-8''..%2F..%2FRechnung%20; filename*1*=%C3%BC.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n{}\r\n--x--\r\n",
        lines.join("\r\n")
    );
    let found = message(mail.clone());
    assert_eq!(found.text.as_deref(), Some("See."));
    let file = files(&found)[0];
    assert_eq!(file.name.as_deref(), Some("Rechnung ü.pdf"));
    assert_eq!(file.media_type, "application/pdf");
    assert_eq!(file.bytes, Some(data.len() as u64));
    let hash: String = sha2::Sha256::digest(&data).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(file.sha256, Some(hash));
    let Some(FilePlace::Slice { start, end, encoding }) = found.attachments[0].place else { panic!() };
    assert_eq!(decode_slice(&mail.as_bytes()[start as usize..end as usize], encoding), data);
}

#[test]
fn attachments_over_a_limit_are_told_as_unavailable() {
    let mut mail = "Content-Type: multipart/mixed; boundary=x\n\n".to_owned();
    for n in 0..250 {
        mail.push_str(&format!("--x\nContent-Disposition: attachment; filename=f{n}\n\nabc\n"));
    }
    let found = message(mail);
    assert_eq!(found.attachments.len(), 200);
    assert_eq!(files(&found).iter().filter(|file| file.state == AttachmentState::Stored).count(), 100);
    assert_eq!(files(&found)[100].reason.as_deref(), Some("attachment_count"));
    assert_eq!(found.extra["mail"]["attachments_omitted"], 50);

    let mut small = context();
    small.limits.attachment_bytes_max = 3;
    let two = "Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Disposition: attachment\n\nabc\n--x\nContent-Disposition: attachment\n\nabcd\n--x--";
    let ItemBody::Message(found) = read(&raw(two), &small).body else { panic!() };
    assert_eq!(files(&found)[0].state, AttachmentState::Stored);
    assert_eq!((files(&found)[1].state, files(&found)[1].reason.as_deref()), (AttachmentState::Unavailable, Some("attachment_too_large")));
}

#[test]
fn the_same_mail_by_two_roads_has_one_key() {
    let key = |mail: &str| read(&raw(mail), &context()).key.unwrap();
    let mail = "Message-ID: <a@x>\r\nFrom: ana@example.org\r\nTo: s@acme.example\r\nSubject: Hi\r\n there\r\nDate: Mon, 1 Jun 2026 10:00:00 +0000\r\n\r\nBody\r\n";
    let other_road = "Received: from elsewhere\nDelivered-To: b@acme.example\nDKIM-Signature: x\nMessage-ID: <a@X>\nFrom: ana@example.org\nTo: s@acme.example\nSubject: Hi there\nDate: Mon, 1 Jun 2026 10:00:00 +0000\n\nBody\n\n\n";
    assert_eq!(key(mail), key(other_road));
    assert_ne!(key(mail), key(&mail.replace("Body", "Another body under the same id")));
    assert_ne!(key(mail), key(&mail.replace("<a@x>", "<b@x>")));
}

#[test]
fn without_a_message_id_everything_works_the_same() {
    let mail = "From: ana@example.org\nSubject: Hi\n\nBody";
    let (one, two) = (read(&raw(mail), &context()), read(&raw(mail), &context()));
    assert!(one.key.is_some() && one.key == two.key);
    let found = message(mail);
    assert_eq!(found.external_id, None);
    assert!(found.threading.candidates.is_empty() && found.threading.registers.is_empty());
}

#[test]
fn an_answer_by_a_colleague_finds_the_conversation_and_a_stranger_must_take_part() {
    let first = message("Message-ID: <a@x>\nFrom: ana@customer.example\nTo: support@acme.example\nCc: lawyer@gmail.com\n\nHello");
    let answer = |from: &str| message(format!("Message-ID: <b@x>\nFrom: {from}\nIn-Reply-To: <a@x>\n\nYes"));
    let matched = |found: &MessageItem| {
        found.threading.candidates.iter().find(|one| first.threading.registers.contains(&one.key)).map(|one| one.participants_only)
    };
    assert_eq!(matched(&answer("bob@customer.example")), Some(false));
    assert_eq!(matched(&answer("lawyer@gmail.com")), Some(false));
    assert_eq!(matched(&answer("somebody.else@gmail.com")), Some(true));
    assert_eq!(matched(&answer("mallory@evil.example")), Some(true));
    assert_eq!(matched(&answer("mallory@acme.example")), Some(true), "the mailbox's own domain opens nothing");
}

#[test]
fn references_are_tried_from_right_to_left_and_are_bounded() {
    let references: String = (0..1000).map(|n| format!(" <r{n}@x>")).collect();
    let found = message(format!("Message-ID: <me@x>\nIn-Reply-To: <r999@x>\nReferences:{references}\n\nHi"));
    let others = found.threading.candidates.iter().filter(|one| one.rule != "same_message_id");
    let ids: Vec<&str> = others.filter_map(|one| one.evidence.as_deref()).collect();
    assert_eq!(ids[..2], ["r999@x", "r998@x"]);
    assert_eq!(ids.last(), Some(&"r0@x"));
    assert_eq!(ids.len(), 100);
    assert_eq!(found.threading.candidates[0].rule, "in_reply_to");
    assert_eq!(found.threading.candidates[1].rule, "references");
    assert_eq!(found.in_reply_to.unwrap().external_id, "r999@x");
}

#[test]
fn an_answer_to_a_signed_address_is_placed_without_further_questions_and_a_forged_one_never() {
    let signing = MailContext { signed_replies: true, ..context() };
    let ItemBody::Message(first) = read(&raw("Message-ID: <a@x>\nFrom: ana@x.example\n\nHello"), &signing).body else { panic!() };
    let address = first.extra["mail"]["reply_address"].as_str().unwrap().to_owned();
    let answer = message(format!("Message-ID: <b@x>\nFrom: eve@y.example\nTo: {address}\n\nYes"));
    let candidate = &answer.threading.candidates[0];
    assert_eq!((candidate.rule.as_str(), candidate.participants_only), ("reply_address", false));
    assert!(first.threading.registers.contains(&candidate.key));

    let token = address.split(['+', '@']).nth(1).unwrap();
    let id = format!("{token}.1@acme.example");
    let by_id = message(format!("Message-ID: <c@x>\nFrom: eve@y.example\nIn-Reply-To: <{id}>\n\nYes"));
    let candidate = &by_id.threading.candidates[0];
    assert_eq!((candidate.rule.as_str(), candidate.participants_only), ("own_message_id", true));
    let found_again = message(format!("Message-ID: <{id}>\nFrom: support@acme.example\n\nOurs"));
    assert_eq!(found_again.automated, Some(Automated::System));

    let last = token.chars().last().unwrap();
    let forged = id.replace(&format!("{last}.1@"), &format!("{}.1@", if last == 'a' { 'q' } else { 'a' }));
    let forgery = message(format!("From: eve@y.example\nIn-Reply-To: <{forged}>\n\nYes"));
    assert!(forgery.threading.candidates.is_empty());
    assert!(forgery.extra["mail"]["flags"].as_array().unwrap().contains(&"forged_own_id".into()));
}

#[test]
fn a_mail_is_one_for_each_mailbox_if_the_channel_says_so() {
    let mail = "Message-ID: <a@x>\nFrom: ana@x.example\n\nHello";
    let each = MailContext { account: "email:support@acme.example".to_owned(), ..context() };
    assert_ne!(read(&raw(mail), &context()).key, read(&raw(mail), &each).key);
}

#[test]
fn thread_index_is_weak_evidence_by_its_first_bytes() {
    use base64::Engine;
    let index = |tail: &[u8]| base64::engine::general_purpose::STANDARD.encode([&[1u8; 22][..], tail].concat());
    let first = message(format!("From: a@x.example\nThread-Index: {}\n\n1", index(b"")));
    let second = message(format!("From: a@x.example\nThread-Index: {}\n\n2", index(b"\x01\x02\x03\x04\x05")));
    let candidate = &second.threading.candidates[0];
    assert_eq!((candidate.rule.as_str(), candidate.participants_only), ("thread_index", true));
    assert!(first.threading.registers.contains(&candidate.key));
}

#[test]
fn the_author_is_the_first_field_that_has_an_address() {
    let from = |mail: &str| message(mail).from.map(|from| (from.address.value().to_owned(), from.name));
    assert_eq!(from("From: Ana <a@x.example>\nReply-To: b@x.example\n\n"), Some(("a@x.example".to_owned(), Some("Ana".to_owned()))));
    assert_eq!(from("From: Ana\nReply-To: b@x.example\n\n"), Some(("b@x.example".to_owned(), Some("Ana".to_owned()))));
    assert_eq!(from("Return-Path: <c@x.example>\nSender: d@x.example\n\n"), Some(("c@x.example".to_owned(), None)));
    assert_eq!(from("Sender: d@x.example\n\n"), Some(("d@x.example".to_owned(), None)));
    assert_eq!(from("Fr om: e@x.example\nSubject: x\n\n"), None);
    let several = message("From: a@x.example\nFrom: b@x.example\n\nHi");
    assert_eq!(several.extra["mail"]["flags"][0], "several_from");
}

#[test]
fn recipients_name_the_mailbox_it_was_found_in() {
    let found = message("Delivered-To: alias@acme.example\nTo: undisclosed-recipients:;\nCc: \"B, C\" <b@x.example>\n\nHi");
    let to: Vec<(&str, &str)> = found.to.iter().map(|one| (one.address.value(), one.role.as_str())).collect();
    assert_eq!(to, [("b@x.example", "cc"), ("alias@acme.example", "mailbox"), ("support@acme.example", "mailbox")]);
}

#[test]
fn only_the_configured_border_vouches_for_a_sender() {
    let verified = |head: &str| message(format!("{head}From: ana@example.org\n\nHi")).authentication.map(|found| found.verified);
    let good = "Authentication-Results: mx.acme.example; dkim=fail; dkim=pass header.d=example.org; spf=pass; dmarc=pass (p=none) header.from=example.org\n";
    assert_eq!(verified(good), Some(true));
    assert_eq!(verified(&good.replace("dmarc=pass", "dmarc=fail")), Some(false));
    assert_eq!(verified(&good.replace("mx.acme", "mx.evil")), None);
    assert_eq!(verified(&good.replace("from=example.org", "from=evil.example")), Some(false));
    assert_eq!(verified(&format!("{good}From: other@example.org\n")), Some(false), "several From fields are never verified");
    assert_eq!(verified(&format!("{}{good}", "Received: by somebody\n".repeat(9))), None, "below foreign hops it may be forged");
}

#[test]
fn the_borders_word_holds_for_an_internationalised_domain_in_either_form() {
    for (author, judged) in
        [("bücher.example", "xn--bcher-kva.example"), ("xn--bcher-kva.example", "bücher.example"), ("BÜCHER.example", "bücher.example")]
    {
        let found = message(format!("Authentication-Results: mx.acme.example; dmarc=pass header.from={judged}\nFrom: ana@{author}\n\nHi"));
        assert_eq!(found.authentication.map(|found| found.verified), Some(true), "{author} {judged}");
        assert_eq!(found.from.map(|from| from.address.value().to_owned()).as_deref(), Some("ana@xn--bcher-kva.example"));
    }
}

#[test]
fn a_mail_that_an_agent_forwards_is_for_the_customer_inside_if_the_agent_is_verified() {
    let passed = "Authentication-Results: mx.acme.example; dmarc=pass header.from=staff.example\n";
    let mail = |head: &str| {
        message(format!(
            "{head}From: Bob <bob@staff.example>\nSubject: Fwd: Question\n\nPlease help.\n\n---------- Forwarded message ---------\nFrom: Carl <carl@x.example>\nDate: Mon, 1 Jun 2026\nSubject: Question\nTo: bob@staff.example\n\nWhere is it?\n"
        ))
    };
    let forwarded = mail(passed);
    assert_eq!(forwarded.author, Author::Agent);
    let contact = forwarded.contact.unwrap();
    assert_eq!((contact.address.value(), contact.verified), ("carl@x.example", false));
    assert_eq!(forwarded.from.unwrap().address.value(), "bob@staff.example");
    let unverified = mail("");
    assert_eq!((unverified.author, unverified.contact.unwrap().address.value()), (Author::Customer, "bob@staff.example"));
}

#[test]
fn automated_mails_are_told_apart() {
    #[track_caller]
    fn check(head: &str, expected: Option<Automated>) {
        assert_eq!(message(format!("{head}From: ana@example.org\n\nHi")).automated, expected);
    }
    check("", None);
    check("Auto-Submitted: no\n", None);
    check("Auto-Submitted: auto-replied\nSubject: Re: x\n", Some(Automated::AutoReply));
    check("Auto-Submitted: auto-replied (vacation)\nSubject: Out of office: x\n", Some(Automated::OutOfOffice));
    check("Subject: Automatische Antwort: x\n", Some(Automated::AutoReply));
    check("Subject: Our vacation plans\n", None);
    check("List-Id: <l.example.org>\n", Some(Automated::List));
    check("Precedence: bulk\n", Some(Automated::List));
    check("Auto-Submitted: auto-generated\n", Some(Automated::System));
    check("Return-Path: <>\nSubject: Undelivered Mail Returned to Sender\n", Some(Automated::Bounce));
}

#[test]
fn a_bounce_joins_the_conversation_of_the_mail_it_returns() {
    let found = message(
        "From: MAILER-DAEMON@mx.example.net\nContent-Type: multipart/report; report-type=delivery-status; boundary=x\n\n--x\n\nSorry.\n--x\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx\n\nFinal-Recipient: rfc822; nobody@example.com\nAction: failed\nStatus: 5.1.1\n\n--x\nContent-Type: text/rfc822-headers\n\nMessage-ID: <sent@acme.example>\n--x--\n",
    );
    assert_eq!((found.automated, found.author), (Some(Automated::Bounce), Author::System));
    assert!(found.contact.is_none());
    let first = &found.threading.candidates[0];
    assert_eq!(
        (first.rule.as_str(), first.evidence.as_deref(), first.participants_only),
        ("returned_message", Some("sent@acme.example"), false)
    );
    assert_eq!(found.extra["mail"]["report_recipient"], "nobody@example.com");
}

#[test]
fn parts_in_a_row_are_joined_and_alternatives_are_not() {
    let apple = message(
        "Content-Type: multipart/mixed; boundary=x\n\n--x\n\nbefore\n--x\nContent-Type: image/png; name=a.png\nContent-Disposition: inline\n\n\u{89}PNG\n--x\n\nafter\n--x--",
    );
    assert_eq!(apple.text.as_deref(), Some("before\n\nafter"));
    assert!(files(&apple)[0].inline);
    let listed = message(
        "Content-Type: multipart/mixed; boundary=m\n\n--m\nContent-Type: multipart/alternative; boundary=a\n\n--a\n\nplain\n--a\nContent-Type: text/html\n\n<p>html</p>\n--a--\n--m\n\nfooter\n--m--",
    );
    assert_eq!(listed.text.as_deref(), Some("plain\n\nfooter"));
    assert_eq!(listed.html.as_deref(), Some("<p>html</p><div>footer</div>"));
}

#[test]
fn a_long_text_is_cut_told_and_attached_whole() {
    let text = "word ".repeat(40_000);
    let found = message(format!("From: a@x.example\n\n{text}"));
    assert_eq!(found.truncated, ["text"]);
    assert_eq!(found.text.unwrap().len(), 64 * 1024);
    assert_eq!(found.attachments[0].public.name.as_deref(), Some("message.txt"));
    assert_eq!(found.attachments[0].public.bytes, Some(text.len() as u64));
}

#[test]
fn broken_mails_are_read_as_far_as_they_go() {
    assert_eq!(message("no header at all\nsecond line").text.as_deref(), Some("no header at all\nsecond line"));
    assert_eq!(message("").text, None);
    assert_eq!(message("Subject: x").subject.as_deref(), Some("x"));
    assert_eq!(message("From: a@x.example\nno colon here\nSubject: x\n\nHi").subject.as_deref(), Some("x"));
    assert_eq!(message("From: a@x.example\nHi, no empty line.\nBye.").text.as_deref(), Some("Hi, no empty line.\nBye."));
    assert_eq!(message("Subject: a\0b\n\nc\0d").text.as_deref(), Some("cd"));
    assert_eq!(message("Subject: x\n\none\rtwo\rthree").text.as_deref(), Some("one\ntwo\nthree"));
    assert_eq!(message("From mbox Mon Jun 1\nSubject: x\n\nHi").subject.as_deref(), Some("x"));
    for encoding in ["7-bit", "text/html", "x-uuencode", "8bits;", ""] {
        assert_eq!(message(format!("Subject: x\nContent-Transfer-Encoding: {encoding}\n\nHi")).text.as_deref(), Some("Hi"));
    }
}

#[test]
fn hostile_structure_ends_soon_or_is_refused() {
    #[track_caller]
    fn check(name: &str, mail: String, refused: bool) {
        let begun = Instant::now();
        let code = quarantined_code(mail);
        assert_eq!(code, refused.then_some(Code::MailUnparsable), "{name}");
        assert!(begun.elapsed().as_secs() < 30, "{name} took {:?}", begun.elapsed());
    }
    check("nested mails", "Content-Type: message/rfc822\n\n".repeat(200_000), false);
    check("parts", format!("Content-Type: multipart/mixed; boundary=x\n\n{}", "--x\n\na\n".repeat(500_000)), true);
    check("boundaries of nobody", format!("Content-Type: multipart/mixed; boundary=x\n\n{}", "--y\n".repeat(1_000_000)), false);
    let sections: String = (0..300_000).map(|n| format!(" name*{n}=a;\n")).collect();
    check("RFC 2231 sections", format!("Content-Type: text/plain;\n{sections}\n\nHi"), true);
    check("subject", format!("Subject: {}\n\nHi", "=?utf-8?Q?a?= ".repeat(17 * 1024 * 1024 / 15)), true);
    check("subject within the limit", format!("Subject: {}\n\nHi", "=?utf-8?Q?a?= ".repeat(60_000)), false);
    check("fields", format!("{}\nHi", "X-A: b\n".repeat(200_000)), true);
    check("nested comments", format!("From: {}\n\nHi", "(".repeat(200_000)), false);
    check("addresses", format!("To: {}\n\nHi", "a@x.example, ".repeat(50_000)), false);
    check("nested divs", format!("Content-Type: text/html\n\n{}", "<div>".repeat(1_000_000)), false);
    check("quotes", format!("Subject: x\n\n{}", "> ".repeat(2_500_000)), false);
    check("no line ends", "a".repeat(5_000_000), false);
}

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let snippets = prop::sample::select(vec![
        "Content-Type: multipart/mixed; boundary=x\n",
        "Content-Type: text/html; charset=",
        "--x\n",
        "--x--\n",
        "\n\n",
        "\r\n",
        "Subject: =?utf-8?B?",
        "?=",
        "From: ",
        "a@b.example",
        "<",
        ">",
        "\"",
        "Content-Transfer-Encoding: base64\n",
        "Content-Disposition: attachment; filename*0*=",
        "%C3",
        "\0",
        "&#x",
        "<b>",
        "<!--",
        "On x wrote:\n> y\n",
        "Date: Mon, 1 Jun 2026 10:00",
        "=\n",
        "=?x?q?",
        "; name=",
        "message/rfc822\n",
        "(",
        "\u{1b}$B",
        "Ünï",
    ]);
    prop::collection::vec(
        prop_oneof![8 => snippets.prop_map(|text| text.as_bytes().to_vec()), 1 => prop::collection::vec(any::<u8>(), 0..24)],
        0..60,
    )
    .prop_map(|pieces| pieces.concat())
}

/// [`read`] without its last resort, so that a panic is seen.
fn bare(mail: Vec<u8>) {
    let raw = raw(mail);
    if let Ok(scan) = prescan(&raw.body, &context().limits) {
        let item = message::build(&raw, &scan, &context(), None);
        let ItemBody::Message(found) = &item.body else { panic!() };
        for file in &found.attachments {
            if let Some(FilePlace::Slice { start, end, encoding }) = file.place {
                let decoded = decode_slice(&raw.body[start as usize..end as usize], encoding);
                assert_eq!(Some(decoded.len() as u64), file.public.bytes);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(mail in prop::collection::vec(any::<u8>(), 0..2000)) {
        bare(mail);
    }

    #[test]
    fn pieces_of_mails_never_panic(mail in pieces()) {
        bare(mail);
    }
}
