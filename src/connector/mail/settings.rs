//! Settings that the mail connector declares in its `connector.toml`, read from a channel file's `[settings]`.

use serde_json::{Map, Value};

use crate::connector::mail::words;
use crate::model::address::Address;

/// `addresses`: addresses of the mailbox beside its login name. What is no address is left out.
pub fn addresses(settings: &Map<String, Value>) -> Vec<Address> {
    texts(settings, "addresses").iter().filter_map(|text| words::mail_address(text)).collect()
}

/// `authserv_ids`: who is believed in Authentication-Results.
pub fn authserv_ids(settings: &Map<String, Value>) -> Vec<String> {
    texts(settings, "authserv_ids")
}

fn texts(settings: &Map<String, Value>, name: &str) -> Vec<String> {
    let list = settings.get(name).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
