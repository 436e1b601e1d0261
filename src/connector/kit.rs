//! A channel's kit: what is needed to call its platform — connector, settings with defaults, secrets.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::connector::call::{Call, CallError, Filling};
use crate::connector::load::{Connector, settings_with_defaults};
use crate::connector::reader::ChannelSpec;
use crate::ports::http::HttpRequest;

/// What is needed to call the platform of a channel.
#[derive(Debug)]
pub struct ChannelKit {
    /// The channel.
    pub channel: String,
    /// Its connector.
    pub connector: Arc<Connector>,
    /// Its settings, as templates see them.
    pub settings: Value,
    /// Its secrets.
    pub secrets: BTreeMap<String, Vec<SecretString>>,
    /// Its account at the platform, where the file names one.
    pub account: Option<String>,
}

impl ChannelKit {
    /// The kit of a channel whose file was checked.
    pub fn of(connector: Arc<Connector>, spec: &ChannelSpec) -> Self {
        let mut settings = settings_with_defaults(&connector.manifest);
        for (name, value) in &spec.settings {
            if let Some(read) = connector.manifest.settings.get(name).and_then(|setting| setting.kind.read(value)) {
                settings.insert(name.clone(), read);
            }
        }
        Self {
            channel: spec.id.clone(),
            settings: Value::Object(settings),
            secrets: spec.secrets.clone(),
            account: spec.account.clone(),
            connector,
        }
    }

    /// What fills a call of this channel.
    pub fn filling<'a>(&'a self, context: &'a Value) -> Filling<'a> {
        Filling { context, secrets: &self.secrets, token: None, files: &[] }
    }

    /// A request of this channel.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn render(&self, call: &Call, context: &Value) -> Result<HttpRequest, CallError> {
        call.render(&self.filling(context))
    }

    /// Whether every secret and setting that a call needs is set.
    pub fn can(&self, call: &Call) -> bool {
        let set = |name: &str| self.secrets.get(name).is_some_and(|values| values.iter().any(|value| !value.expose_secret().is_empty()));
        let known = |path: &[String]| match path {
            [root, name, ..] if root == "settings" => self.settings.get(name).is_some_and(|value| !value.is_null()),
            _ => true,
        };
        call.secrets().into_iter().all(set) && call.paths().all(known)
    }
}
