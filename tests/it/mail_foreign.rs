//! The mails inside the package of `mail-parser`, which cargo has fetched to build us: old, broken, in every charset. Each leaf that
//! `mail-parser` finds in them must be kept by us, as text, in the HTML or as a file. They are found where cargo keeps its sources.

use std::path::{Path, PathBuf};

use mail_parser::{MessageParser, MessagePart, PartType};
use omnigate::connector::html;
use omnigate::connector::mail::trial;
use omnigate::model::item::{ItemBody, MessageItem};
use omnigate::model::time::Time;
use serde_json::Map;
use sha2::{Digest, Sha256};

use crate::support::servers::missing;

/// The folder of the package, if cargo keeps its sources where it usually does.
fn package() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))?;
    let registries = std::fs::read_dir(home.join("registry/src")).ok()?;
    let packages = registries.flatten().filter_map(|registry| std::fs::read_dir(registry.path()).ok()).flatten().flatten();
    let mut found: Vec<PathBuf> = packages
        .map(|package| package.path())
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("mail-parser-0.11")))
        .collect();
    found.sort();
    found.pop()
}

fn mails(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            mails(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "eml") {
            found.push(path);
        }
    }
}

fn read(mail: &[u8]) -> Result<MessageItem, String> {
    match trial::read("imap", &Map::new(), mail, Time::parse("2026-11-22T09:14:03Z").unwrap()).body {
        ItemBody::Message(message) => Ok(*message),
        other => Err(format!("{other:?}")),
    }
}

/// Letters and digits: what neither line ends nor spaces nor the marks of a text change.
fn letters(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).collect()
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a leaf is somewhere in ours. What was cut to its limit is a file, too.
fn kept(part: &MessagePart<'_>, mail: &[u8], ours: &MessageItem) -> bool {
    let said = |text: &str| {
        // What the parser could not decode can only be compared by its ASCII letters.
        let plain = text.contains('\u{fffd}');
        let letters = |text: &str| letters(text).chars().filter(|c| !plain || c.is_ascii()).collect::<String>();
        let wanted = letters(text);
        let text = letters(ours.text.as_deref().unwrap_or_default());
        let html = letters(&html::to_text(ours.html.as_deref().unwrap_or_default()));
        let start = wanted.get(..wanted.floor_char_boundary(2000)).unwrap_or_default();
        text.contains(start) || html.contains(start)
    };
    let raw = mail.get(part.offset_body as usize..part.offset_end as usize).unwrap_or_default();
    let is_file = |bytes: &[u8]| {
        let hash = hash(bytes);
        ours.attachments.iter().any(|file| file.public.sha256.as_deref() == Some(&hash))
    };
    // The line end before a boundary belongs to the boundary; not everybody takes it so.
    let raw_file = |bytes: &[u8]| {
        let trimmed = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        is_file(bytes) || is_file(trimmed) || is_file(trimmed.strip_suffix(b"\r").unwrap_or(trimmed))
    };
    match &part.body {
        PartType::Text(text) => said(text) || raw_file(text.as_bytes()) || raw_file(raw) || files_say(ours, mail, text),
        PartType::Html(html) => said(&html::to_text(html)) || raw_file(html.as_bytes()) || raw_file(raw) || files_say(ours, mail, html),
        PartType::Binary(bytes) | PartType::InlineBinary(bytes) => bytes.is_empty() || raw_file(bytes),
        PartType::Message(_) => {
            raw.is_empty() || raw_file(raw) || ours.attachments.iter().any(|file| file.public.media_type == "message/rfc822")
        }
        PartType::Multipart(_) => true,
    }
}

/// A text that is a file in another charset: its bytes are ours, its letters are those of the parser.
fn files_say(ours: &MessageItem, mail: &[u8], text: &str) -> bool {
    use omnigate::model::item::FilePlace;
    let wanted = letters(text);
    ours.attachments.iter().any(|file| {
        let Some(FilePlace::Slice { start, end, encoding }) = &file.place else { return false };
        let bytes = omnigate::connector::mail::decode_slice(&mail[*start as usize..*end as usize], *encoding);
        letters(&String::from_utf8_lossy(&bytes)) == wanted || bytes.len().abs_diff(text.len()) <= text.len() / 2
    })
}

/// What differs with reason: the name of the mail, and why.
const DIFFERENT: [(&str, &str); 9] = [
    ("legacy/017.eml", "0.11 does not decode uuencode"),
    ("legacy/048.eml", "as 017"),
    ("legacy/049.eml", "as 017"),
    ("malformed/009.eml", "an outer boundary ends the inner part; 0.11 takes it for text"),
    ("malformed/011.eml", "as 009"),
    ("malformed/019.eml", "an address in brackets is an unknown element of HTML"),
    ("malformed/020.eml", "a part whose first boundary line was lost ends at the next one"),
    ("malformed/021.eml", "as 020"),
    ("thirdparty/002.eml", "one part is no base64 at all"),
];

#[test]
fn every_leaf_of_foreign_mails_is_kept() {
    let Some(package) = package() else { return missing("the sources of mail-parser in cargo's home") };
    let mut found = Vec::new();
    mails(&package.join("resources"), &mut found);
    found.sort();
    assert!(found.len() > 50, "hardly a mail in the package");
    let (mut leaves, mut lost) = (0, Vec::new());
    for path in &found {
        let name = path.strip_prefix(&package).unwrap().to_string_lossy().into_owned();
        let mail = std::fs::read(path).unwrap();
        let ours = match read(&mail) {
            Ok(ours) => ours,
            Err(problem) => {
                lost.push(format!("{name}: is no message: {problem}"));
                continue;
            }
        };
        let Some(theirs) = MessageParser::default().parse(&mail) else { continue };
        for (number, part) in theirs.parts.iter().enumerate() {
            leaves += usize::from(!matches!(part.body, PartType::Multipart(_)));
            if !kept(part, &mail, &ours) && !DIFFERENT.iter().any(|(known, _)| name.ends_with(known)) {
                let start: String = format!("{:?}", part.body).chars().take(200).collect();
                lost.push(format!("{name}: part {number} {start}"));
            }
        }
    }
    assert!(leaves > 150, "hardly a leaf to compare");
    assert!(lost.is_empty(), "{} of {leaves} leaves in {} mails are lost:\n{}", lost.len(), found.len(), lost.join("\n"));
}
