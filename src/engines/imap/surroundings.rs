//! What a person wants to know of a mailbox beside its folders: which others there are, and who vouches for senders there. Lines for
//! `check --connect`; nothing is changed.

use std::collections::BTreeMap;

use async_imap::imap_proto::{AttributeValue, MailboxDatum, NameAttribute, Response, StatusAttribute};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};

use crate::engines::imap::conn::{Conn, Failed};
use crate::engines::imap::text::{folder_name, quoted};
use crate::ports::pull::PullError;

/// Folders that are counted; the others are only named.
const COUNTED_MAX: usize = 30;
/// Folders that are named.
const NAMED_MAX: usize = 200;
/// Mails that are asked who vouched for their senders.
const ASKED_MAILS: u32 = 20;
/// Longest name of a server that is repeated.
const NAME_CHARS_MAX: usize = 100;

/// All folders, with the number of mails in the first of them.
pub async fn folders(conn: &mut Conn) -> Result<String, PullError> {
    let mut names: Vec<String> = Vec::new();
    let mut more = 0;
    let mut see = |response: &Response<'_>| {
        let Response::MailboxData(MailboxDatum::List(folder)) = response else { return };
        if folder.name_attributes.contains(&NameAttribute::NoSelect) {
            return;
        }
        if names.len() < NAMED_MAX { names.push(folder.name.clone().into_owned()) } else { more += 1 }
    };
    conn.run("LIST \"\" \"*\"", &mut see).await.map_err(|failed| failed.fatal("LIST"))?;
    let mut told = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let count = if index < COUNTED_MAX { count(conn, name).await? } else { None };
        let shown = readable(name);
        told.push(count.map_or_else(|| format!("{shown:?}"), |count| format!("{shown:?} ({count})")));
    }
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Ok(format!("folders there, with their mails: {}{more}", told.join(", ")))
}

async fn count(conn: &mut Conn, wire_name: &str) -> Result<Option<u32>, PullError> {
    // A name of the server, in its own writing; what cannot stand in quotes is not asked for.
    if wire_name.is_empty() || !wire_name.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Ok(None);
    }
    let mut count = None;
    let mut see = |response: &Response<'_>| {
        if let Response::MailboxData(MailboxDatum::Status { status, .. }) = response {
            count = status.iter().find_map(|one| if let StatusAttribute::Messages(value) = one { Some(*value) } else { None }).or(count);
        }
    };
    match conn.run(&format!("STATUS {} (MESSAGES)", quoted(wire_name)), &mut see).await {
        // A folder that may be seen and not opened.
        Ok(()) | Err(Failed::Refused(_)) => Ok(count),
        Err(Failed::Lost(error)) => Err(error),
    }
}

/// Whether a folder is there.
pub async fn exists(conn: &mut Conn, name: &str) -> Result<bool, Failed> {
    let Some(wire_name) = folder_name(name) else { return Ok(false) };
    let mut there = false;
    let mut see = |response: &Response<'_>| there |= matches!(response, Response::MailboxData(MailboxDatum::List(_)));
    conn.run(&format!("LIST \"\" {wire_name}"), &mut see).await?;
    Ok(there)
}

/// Who wrote the topmost Authentication-Results of the newest mails: most likely the own mail server. `None` if nobody did.
pub async fn vouchers(conn: &mut Conn, exists: u32) -> Result<Option<String>, PullError> {
    if exists == 0 {
        return Ok(None);
    }
    let first = exists.saturating_sub(ASKED_MAILS - 1).max(1);
    let mut names: BTreeMap<String, u32> = BTreeMap::new();
    let mut see = |response: &Response<'_>| {
        let Response::Fetch(_, attributes) = response else { return };
        for attribute in attributes {
            if let AttributeValue::BodySection { data: Some(header), .. } = attribute
                && let Some(name) = authserv_id(header)
            {
                *names.entry(name).or_default() += 1;
            }
        }
    };
    let command = format!("FETCH {first}:{exists} (BODY.PEEK[HEADER.FIELDS (AUTHENTICATION-RESULTS)])");
    match conn.run(&command, &mut see).await {
        Ok(()) | Err(Failed::Refused(_)) => {}
        Err(Failed::Lost(error)) => return Err(error),
    }
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let told: Vec<String> = names.iter().take(5).map(|(name, count)| format!("{name} ({count})")).collect();
    Ok((!told.is_empty()).then(|| told.join(", ")))
}

/// The authserv-id (RFC 8601 §2.2) of the first of these header fields. Microsoft writes none.
fn authserv_id(header: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(header);
    let (_, value) = text.split_once(':')?;
    let word = value.split(|c: char| c.is_whitespace() || c == ';').find(|word| !word.is_empty())?;
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    (plain && word.len() <= NAME_CHARS_MAX).then(|| word.to_ascii_lowercase())
}

/// A folder's name out of modified UTF-7 (RFC 3501 §5.1.3). What is none stays as it is.
fn readable(name: &str) -> String {
    const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::IMAP_MUTF7, NO_PAD);
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((plain, coded)) = rest.split_once('&') {
        let Some((coded, after)) = coded.split_once('-') else { return name.to_owned() };
        out.push_str(plain);
        if coded.is_empty() {
            out.push('&');
        } else {
            let Ok(wide) = BASE64.decode(coded) else { return name.to_owned() };
            let units: Vec<u16> = wide
                .chunks_exact(2)
                .map(|pair| u16::from_be_bytes([pair.first().copied().unwrap_or(0), pair.last().copied().unwrap_or(0)]))
                .collect();
            out.push_str(&String::from_utf16_lossy(&units));
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_in_an_authentication_results_field_is_its_first_word() {
        let of = |text: &str| authserv_id(text.as_bytes());
        assert_eq!(of("Authentication-Results: mx.Example.org 1; spf=pass\r\n\r\n").as_deref(), Some("mx.example.org"));
        assert_eq!(of("Authentication-Results:\r\n\tmx.google.com;\r\n dkim=pass\r\n").as_deref(), Some("mx.google.com"));
        assert_eq!(of("Authentication-Results: spf=pass (sender IP is 192.0.2.1)\r\n"), None, "Microsoft's has no name");
        assert_eq!((of("\r\n"), of("Authentication-Results: ;\r\n"), of("Authentication-Results: a\u{7}b;\r\n")), (None, None, None));
    }

    #[test]
    fn names_of_folders_are_written_as_people_write_them() {
        assert_eq!(readable("Entw&APw-rfe"), "Entwürfe");
        assert_eq!(readable("Tom &- Jerry"), "Tom & Jerry");
        assert_eq!(readable("&ZeVnLIqe-/2026"), "日本語/2026");
        assert_eq!((readable("&broken"), readable("&!!!-x")), ("&broken".to_owned(), "&!!!-x".to_owned()));
        for name in ["Entwürfe", "Tom & Jerry", "日本語"] {
            let wire = folder_name(name).unwrap_or_default();
            assert_eq!(readable(wire.trim_matches('"')), name);
        }
    }
}
