//! Tokens: where bearer tokens come from. Engines that log in with one ask this and know nothing of the identity provider.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use crate::model::codes::Code;
use crate::model::time::Time;
use crate::ports::BoxFuture;

/// A bearer token.
#[derive(Debug, Clone)]
pub struct AccessToken {
    /// The token.
    pub secret: SecretString,
    /// Tells tokens of one source apart: grows with every new one.
    pub number: u64,
}

/// Why there is no token. Each variant is another decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The identity provider cannot be reached or is in trouble; try again.
    #[error("{detail}")]
    Later {
        /// `unreachable`, `throttled`, `protocol`, `store_unavailable`.
        code: Code,
        /// One line, without secrets.
        detail: String,
        /// The provider asked for this much patience.
        after: Option<Duration>,
    },
    /// A person must act: the consent is gone, was never given, or the client is refused.
    #[error("{detail}")]
    Person {
        /// `login_needed`, `consent_expired`, `auth_failed`, `tls`.
        code: Code,
        /// One line, without secrets.
        detail: String,
    },
}

impl TokenError {
    /// Its code.
    pub fn code(&self) -> Code {
        match self {
            Self::Later { code, .. } | Self::Person { code, .. } => *code,
        }
    }
}

/// Gives tokens of one credential. Many may ask at once; the provider is asked once.
pub trait TokenSource: Send + Sync {
    /// A token that is valid for a while. `refused`: one that a server just refused, which is not given again.
    fn token<'a>(&'a self, refused: Option<&'a AccessToken>) -> BoxFuture<'a, Result<AccessToken, TokenError>>;

    /// When the consent behind it ends and a person must log in again, as far as known.
    fn consent_ends(&self) -> BoxFuture<'_, Option<Time>>;

    /// Why the last question needs a person, as long as none was answered since.
    fn trouble(&self) -> Option<TokenError> {
        None
    }

    /// Renews what would end if nobody asked for it for long.
    fn tend(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// The tokens of one channel, by the names of what they prove (`[auth.NAME]` of a connector). Cheap to clone.
#[derive(Clone, Default)]
pub struct Wallet {
    sources: Arc<BTreeMap<String, Arc<dyn TokenSource>>>,
}

impl Wallet {
    /// With these sources.
    pub fn new(sources: BTreeMap<String, Arc<dyn TokenSource>>) -> Self {
        Self { sources: Arc::new(sources) }
    }

    /// Its sources by name.
    pub fn sources(&self) -> impl Iterator<Item = (&str, &Arc<dyn TokenSource>)> {
        self.sources.iter().map(|(name, source)| (name.as_str(), source))
    }

    /// A token of this name; not the one that was just refused.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn token(&self, name: &str, refused: Option<&AccessToken>) -> Result<AccessToken, TokenError> {
        match self.sources.get(name) {
            Some(source) => source.token(refused).await,
            None => {
                let detail = format!("what [auth.{name}] needs is not set in the channel file");
                Err(TokenError::Person { code: Code::ChannelConfig, detail })
            }
        }
    }
}

impl std::fmt::Debug for Wallet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.sources.keys()).finish()
    }
}

/// Where a consent is kept between runs. What is saved survives what the store survives; it is sealed.
pub trait TokenKeep: Send + Sync {
    /// What is kept under a name.
    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, String>>;

    /// Keeps it; returns once it is durable.
    fn save<'a>(&'a self, name: &'a str, value: Vec<u8>) -> BoxFuture<'a, Result<(), String>>;
}
