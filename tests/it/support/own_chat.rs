//! A platform of the tests' own, as connectors see it: a hook that is proven by a token, and an API that takes the same token. What a test
//! is about it adds itself.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::daemon::{Daemon, Setup};
use crate::support::http1::{self, Message};

/// What the platform and the gateway both know.
pub const TOKEN: &str = "a-token-only-for-tests";

/// The manifest of `chat`, with settings that are addresses, and what more the test wants of it.
pub fn manifest(addresses: &[&str], more: &str) -> String {
    let setting = |name: &&str| format!("[settings.{name}]\ntype = \"url\"\nrequired = true\nhelp = \"An address.\"\n");
    let settings = addresses.iter().map(setting).collect::<String>();
    format!(
        "name = \"chat\"\ntitle = \"Chat\"\nabout = \"For tests.\"\nverified_senders = true\n{settings}[secrets.token]\nhelp = \"Token.\"\n\
         [auth.bot]\nkind = \"bearer\"\nsecret = \"token\"\n[webhook]\ndecode = \"json\"\n[webhook.verify]\nkind = \"static\"\n\
         secret = \"token\"\nheader = \"X-Token\"\n{more}"
    )
}

impl Setup {
    /// Adds the connector `chat` and its channel `desk`. `head`: further lines of the channel file.
    pub fn own_chat(&mut self, head: &str, addresses: &[(&str, String)], more: &str, map: &str) {
        let names: Vec<&str> = addresses.iter().map(|(name, _)| *name).collect();
        self.connector("chat", &manifest(&names, more), map);
        let settings: BTreeMap<&str, &String> = addresses.iter().map(|(name, address)| (*name, address)).collect();
        let settings: String = settings.into_iter().map(|(name, address)| format!("{name} = \"{address}\"\n")).collect();
        let channel = format!("connector = \"chat\"\n{head}[settings]\n{settings}[secrets]\ntoken = {{ env = \"CHAT_TOKEN\" }}\n");
        self.channels.insert("desk".to_owned(), channel);
        self.env.insert("CHAT_TOKEN".to_owned(), TOKEN.to_owned());
    }
}

/// The platform calls the hook.
pub async fn call(daemon: &Daemon, body: &Value) -> Message {
    let (headers, body) = ([("content-type", "application/json"), ("x-token", TOKEN)], body.to_string());
    http1::once(daemon.public, "POST", "/hooks/desk", &headers, body.as_bytes()).await.unwrap()
}
