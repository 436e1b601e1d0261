//! A channel's kit: what is needed to call its platform — connector, settings with defaults, secrets.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::SecretString;
use serde_json::Value;

use crate::connector::call::{Call, CallError, Filling};
use crate::connector::load::{Connector, settings_with_defaults};
use crate::connector::reader::ChannelSpec;
use crate::ports::http::HttpRequest;
use crate::ports::token::Wallet;

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
    /// Its tokens.
    pub wallet: Wallet,
    /// Even hosts that its settings name must be public and speak https.
    pub strict_egress: bool,
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
            wallet: Wallet::default(),
            strict_egress: false,
            connector,
        }
    }

    /// What fills a call of this channel; `token` where the call needs one.
    pub fn filling<'a>(&'a self, context: &'a Value, token: Option<&'a SecretString>) -> Filling<'a> {
        Filling { context, secrets: &self.secrets, token, files: &[] }
    }

    /// A request of this channel.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn render(&self, call: &Call, context: &Value, token: Option<&SecretString>) -> Result<HttpRequest, CallError> {
        call.render(&self.filling(context, token))
    }

    /// Whether every secret and setting that a call needs is set.
    pub fn can(&self, call: &Call) -> bool {
        self.connector.is_given(call, &self.settings, &self.secrets)
    }
}
