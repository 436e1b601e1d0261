//! A channel file: from sections to [`ChannelFile`]. Each stands for itself; what is wrong in one does not touch the others.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::config::keys;
use crate::config::oauth;
use crate::config::read::{Reading, Section};
use crate::config::secrets::error_text;
use crate::config::settings::{ChannelFile, ChannelLimits, ImapSettings, OverLimit, SenderLimit};
use crate::config::units::Rate;
use crate::model::event::Priority;
use crate::model::mailbox::{After, FirstRun, Mailbox, Sasl, Tls};
use crate::model::raw::Via;

/// Reads a channel file. What is wrong is in `reading`; the result may only be used if that holds no error.
pub fn read(reading: &mut Reading<'_>, id: &str, file: &Path) -> Option<ChannelFile> {
    let root = reading.document(keys::CHANNEL)?;
    let mut digest = Sha256::new();
    root.digest_into(&mut digest);
    let map = map(reading, &root, &mut digest);
    let imap = root.table("imap").filter(|_| root.written("imap"));
    let imap = imap.and_then(|section| imap_settings(reading, section, &mut digest));
    Some(ChannelFile {
        id: id.to_owned(),
        file: file.to_path_buf(),
        connector: root.text("connector").unwrap_or_default(),
        enabled: root.flag("enabled").unwrap_or(true),
        account: root.text("account"),
        modes: root.texts("mode").unwrap_or_default().iter().filter_map(|word| Via::parse(word)).collect(),
        first_run: first_run(&root),
        backfill_items_max: root.integer("backfill_items_max").and_then(|number| u64::try_from(number).ok()).unwrap_or(1),
        hook: root.text("hook").unwrap_or_else(|| id.to_owned()),
        labels: root.text_map("labels").unwrap_or_default(),
        priority: match root.text("priority").as_deref() {
            Some("low") => Priority::Low,
            Some("high") => Priority::High,
            Some("urgent") => Priority::Urgent,
            _ => Priority::Normal,
        },
        new_after: root.duration("new_after").unwrap_or_default(),
        verify_none: root.text("verify").is_some(),
        map,
        accept_timeout: root.duration("accept_timeout").unwrap_or_default(),
        settings: root.free("settings").unwrap_or_default(),
        secrets: root.secret_map("secrets").unwrap_or_default(),
        limits: root.table("limits").map(limits).unwrap_or_default(),
        imap,
        oauth: root.table("oauth").filter(|_| root.written("oauth")).map(|section| oauth::read(reading, section)),
        back: None,
        strict_egress: false,
        fingerprint: digest.finalize().into(),
    })
}

/// The channel's own map, from the file itself or from another one. It is compiled with its connector, which knows its variables.
fn map(reading: &mut Reading<'_>, root: &Section, digest: &mut Sha256) -> Option<String> {
    if root.written("map") && root.written("map_file") {
        reading.wrong(root.key_span("map_file"), "`map` and `map_file` exclude each other", None);
        return None;
    }
    let Some(path) = root.path("map_file") else {
        return root.text("map");
    };
    let bytes = beside(reading, root, "map_file", &path)?;
    digest.update(&bytes);
    match String::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(_) => {
            reading.wrong(root.span("map_file"), format!("{} is not UTF-8", path.display()), None);
            None
        }
    }
}

/// A file that the channel file names.
fn beside(reading: &mut Reading<'_>, section: &Section, key: &str, path: &Path) -> Option<Vec<u8>> {
    match reading.source.read(path) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            reading.wrong(section.span(key), format!("{} cannot be read: {}", path.display(), error_text(&error)), None);
            None
        }
    }
}

fn limits(section: &Section) -> ChannelLimits {
    let burst = |section: &Section| section.integer("burst").and_then(|number| u32::try_from(number).ok());
    ChannelLimits {
        rate: section.rate("rate"),
        burst: burst(section),
        sender: section.table("sender").and_then(|sender| {
            let over = if sender.text("over").as_deref() == Some("hold") { OverLimit::Hold } else { OverLimit::Slow };
            Some(SenderLimit { rate: sender.rate("rate")?, burst: burst(sender), over })
        }),
    }
}

fn imap_settings(reading: &mut Reading<'_>, section: &Section, digest: &mut Sha256) -> Option<ImapSettings> {
    let host = section.text("host")?;
    let user = section.text("user")?;
    let tls = match section.text("tls").as_deref() {
        Some("starttls") => Tls::StartTls,
        Some("none") => Tls::None,
        _ => Tls::Implicit,
    };
    let insecure = section.flag("insecure").unwrap_or(false);
    if tls == Tls::None && !insecure && !is_loopback(&host) {
        let advice = Some("use \"implicit\" or \"starttls\"".to_owned());
        reading.wrong(section.span("tls"), format!("without TLS the password would travel readable to {host}"), advice);
    }
    let after = match (section.text("after").as_deref(), section.text("move_to")) {
        (Some("flag"), _) => After::Flag,
        (Some("seen"), _) => After::Seen,
        (Some("move"), Some(folder)) => After::Move(folder),
        (Some("move"), None) => {
            let advice = Some("add `move_to = \"Processed\"`".to_owned());
            reading.wrong(section.span("after"), "`after = \"move\"` needs a folder", advice);
            After::Peek
        }
        (Some("delete"), _) => match section.duration("delete_after") {
            Some(age) => After::Delete(age),
            None => {
                let advice = Some("add `delete_after = \"30d\"`".to_owned());
                reading.wrong(section.span("after"), "`after = \"delete\"` needs an age", advice);
                After::Peek
            }
        },
        _ => After::Peek,
    };
    let folders = section.texts("folders").unwrap_or_default();
    if folders.is_empty() {
        reading.wrong(section.span("folders"), "`folders` must name at least one folder", None);
    }
    if let After::Move(folder) = &after
        && folders.contains(folder)
    {
        reading.wrong(section.span("move_to"), "mail would be moved into a folder it is taken from", None);
    }
    let ca_pem = section.path("ca_file").and_then(|path| beside(reading, section, "ca_file", &path));
    if let Some(pem) = &ca_pem {
        digest.update(pem);
        if !pem.windows(27).any(|window| window == b"-----BEGIN CERTIFICATE-----") {
            reading.wrong(section.span("ca_file"), "there is no PEM certificate in this file", None);
        }
    }
    let whole = |key: &str| section.integer(key).and_then(|number| usize::try_from(number).ok()).unwrap_or(1);
    let mailbox = Mailbox {
        port: section.integer("port").and_then(|port| u16::try_from(port).ok()).unwrap_or(if tls == Tls::Implicit { 993 } else { 143 }),
        host,
        tls,
        insecure,
        ca_pem: ca_pem.map(Into::into),
        user,
        folders,
        after,
        first_run: first_run(section),
        poll_interval: section.duration("poll_interval").unwrap_or_default(),
        idle: section.flag("idle").unwrap_or(true),
        mail_bytes_max: section.size("mail_bytes_max").unwrap_or(0),
        batch_items_max: whole("batch_items_max"),
        batch_bytes_max: section.size("batch_bytes_max").unwrap_or(0),
        day_bytes_max: section.size("day_bytes_max"),
    };
    Some(ImapSettings {
        mailbox,
        sasl: section.text("sasl").map(|word| if word == "oauthbearer" { Sasl::OAuthBearer } else { Sasl::XOAuth2 }),
        hops_max: whole("hops_max"),
        loop_rate: section.rate("loop_rate").unwrap_or(Rate { count: 20, per: std::time::Duration::from_secs(3_600) }),
        namespace: section.text("namespace").unwrap_or_default(),
    })
}

fn first_run(section: &Section) -> FirstRun {
    if section.text("first_run").as_deref() == Some("backfill") { FirstRun::Backfill } else { FirstRun::FromNow }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
