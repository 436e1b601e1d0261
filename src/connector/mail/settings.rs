//! Settings that the mail connector declares in its `connector.toml`, read from a channel file's `[settings]`.

use serde_json::{Map, Value};

use crate::connector::mail::words;
use crate::model::address::{Address, mail_domain};

/// `addresses`: addresses of the mailbox beside its login name. What is no address is left out.
pub fn addresses(settings: &Map<String, Value>) -> Vec<Address> {
    texts(settings, "addresses").iter().filter_map(|text| words::mail_address(text)).collect()
}

/// `authserv_ids`: who is believed in Authentication-Results.
pub fn authserv_ids(settings: &Map<String, Value>) -> Vec<String> {
    texts(settings, "authserv_ids")
}

/// `verify_senders`: signatures and policy of senders are checked by ourselves.
pub fn verify_senders(settings: &Map<String, Value>) -> bool {
    settings.get("verify_senders").and_then(Value::as_bool).unwrap_or(false)
}

/// `agents`: whose forwarded mails are taken for those of the customer inside; `@domain` means everybody there.
pub fn agents(settings: &Map<String, Value>) -> Vec<String> {
    let canonical = |text: &String| match text.trim().rsplit_once('@')? {
        ("", domain) => Some(format!("@{}", mail_domain(domain))),
        _ => Some(words::mail_address(text)?.value().to_owned()),
    };
    texts(settings, "agents").iter().filter_map(canonical).collect()
}

fn texts(settings: &Map<String, Value>, name: &str) -> Vec<String> {
    let list = settings.get(name).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// `duplicates = "each"`: a mail that came into several mailboxes is told for each; what tells this one apart.
pub fn account(settings: &Map<String, Value>, mailboxes: &[Address], channel: &str) -> String {
    if settings.get("duplicates").and_then(Value::as_str) != Some("each") {
        return String::new();
    }
    mailboxes.first().map_or_else(|| channel.to_owned(), |mailbox| mailbox.as_str().to_owned())
}

/// `signed_replies`: events name an address for answers that carries a MAC.
pub fn signed_replies(settings: &Map<String, Value>) -> bool {
    settings.get("signed_replies").and_then(Value::as_bool).unwrap_or(false)
}
