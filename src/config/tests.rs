//! Tests of reading: defaults, secrets, differences. The exact texts of mistakes are in `tests/it/config_errors.rs`.

use std::path::Path;

use secrecy::ExposeSecret;

use crate::config::load::{Loaded, diff, load};
use crate::config::settings::DestinationKind;
use crate::config::source::Memory;
use crate::model::codes::Code;
use crate::model::mailbox::Tls;

const MAIN: &str = "[destination.desk]\nkind = \"webhook\"\nurl = \"https://desk.example.org/in\"\nsecret = [{ env = \"ONE\" }, { file = \"two.secret\" }]\n\
                    [[route]]\nto = [\"desk\"]\n";

fn files() -> Memory {
    Memory::default()
        .file("c/omnigate.toml", MAIN)
        .file("c/two.secret", "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0\n")
        .var("ONE", "whsec_b25lb25lb25lb25lb25lb25lb25lb25l")
        .file("c/channels/form.toml", "connector = \"webform\"\nverify = \"none\"\n")
}

fn loaded(files: &Memory) -> Loaded {
    load(Path::new("c/omnigate.toml"), files).map_err(|problems| problems.to_string()).unwrap()
}

#[test]
fn empty_file_gives_the_defaults() {
    let loaded = loaded(&Memory::default().file("c/omnigate.toml", ""));
    let config = &loaded.config;
    assert_eq!(config.server.public.to_string(), "127.0.0.1:8480");
    assert_eq!(config.server.body_bytes_max, 4 << 20);
    assert_eq!(config.instance.data_dir, Path::new("c/data"));
    assert_eq!(config.mapping.fuel, 1_000_000);
    assert_eq!(config.delivery.schedule.len(), 10);
    assert_eq!(config.store.retention.ledger_ms, None);
    assert_eq!(config.store.retention.raws_ms, Some(30 * 86_400_000));
    assert!(loaded.channels.is_empty());
}

#[test]
fn key_lies_in_the_data_folder_unless_written() {
    use crate::config::settings::SecretPlace;
    let config = loaded(&Memory::default().file("c/omnigate.toml", "instance.data_dir = \"/var/lib/omnigate\"\n")).config;
    assert_eq!(config.instance.key, SecretPlace::File("/var/lib/omnigate/instance.key".into()));
}

#[test]
fn secrets_come_from_environment_and_files_and_never_show() {
    let config = loaded(&files()).config;
    let DestinationKind::Webhook { secrets, .. } = &config.destinations["desk"].kind else { panic!() };
    assert_eq!(secrets[0].expose_secret(), "whsec_b25lb25lb25lb25lb25lb25lb25lb25l");
    assert_eq!(secrets[1].expose_secret(), "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0");
    assert!(!format!("{config:?}").contains("whsec_"));
}

#[test]
fn files_that_will_not_be_fetched_are_told_before() {
    let channel = |more: &str| format!("connector = \"slack\"\n[secrets]\nsigning_secret = {{ env = \"S\" }}\n{more}");
    let check = |more: &str| {
        let files = files().file("c/channels/team.toml", channel(more)).var("S", "secret").var("T", "token");
        loaded(&files).warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let told = check("");
    assert!(told.starts_with("c/channels/team.toml:1:1: warning: without `bot_token` files of messages are listed"), "{told}");
    assert_eq!(check("bot_token = { env = \"T\" }\n"), "");
}

#[test]
fn unset_secret_fails_its_channel_alone() {
    let files = files().file("c/channels/chat.toml", "connector = \"telegram\"\n[secrets]\nsecret_token = { env = \"UNSET\" }\n");
    let loaded = loaded(&files);
    assert!(loaded.channels["form"].is_ok());
    assert_eq!(loaded.channels["chat"].as_ref().unwrap_err().code, Code::SecretUnset);
}

#[test]
fn mailbox_has_the_port_of_its_protection() {
    let mailbox = "connector = \"imap\"\n[secrets]\npassword = { env = \"ONE\" }\n[imap]\nhost = \"imap.example.org\"\nuser = \"a@example.org\"\ntls = \"starttls\"\n";
    let loaded = loaded(&files().file("c/channels/mail.toml", mailbox));
    let channel = loaded.channels["mail"].as_ref().unwrap();
    let imap = channel.imap.as_ref().unwrap();
    assert_eq!(
        (imap.mailbox.port, imap.mailbox.tls, imap.mailbox.folders.as_slice()),
        (143, Tls::StartTls, ["INBOX".to_owned()].as_slice())
    );
}

#[test]
fn reload_names_only_what_changed() {
    let old = loaded(&files());
    let relaid = format!("# a comment\n{}", MAIN.replace("secret = [", "secret   = [ "));
    assert!(diff(&old, &loaded(&files().file("c/omnigate.toml", relaid))).is_empty());

    let new = files()
        .var("ONE", "whsec_dHdvdHdvdHdvdHdvdHdvdHdvdHdvdHdvdHdv")
        .file("c/channels/other.toml", "connector = \"webform\"\nverify = \"none\"\n")
        .file("c/channels/form.toml", "connector = \"webform\"\nverify = \"none\"\npriority = \"high\"\n");
    let found = diff(&old, &loaded(&new));
    assert_eq!(found.destinations.changed, ["desk"]);
    assert_eq!((found.channels.added, found.channels.changed), (vec!["other".to_owned()], vec!["form".to_owned()]));
    assert!(!found.routes && !found.restart);
}

#[test]
fn changed_certificate_restarts_its_channel() {
    let mailbox = "connector = \"imap\"\n[secrets]\npassword = { env = \"ONE\" }\n[imap]\nhost = \"h.example.org\"\nuser = \"a\"\nca_file = \"ca.pem\"\n";
    let with = |pem: &str| loaded(&files().file("c/channels/mail.toml", mailbox).file("c/channels/ca.pem", pem));
    let found = diff(&with("-----BEGIN CERTIFICATE-----\nA"), &with("-----BEGIN CERTIFICATE-----\nB"));
    assert_eq!(found.channels.changed, ["mail"]);
}
