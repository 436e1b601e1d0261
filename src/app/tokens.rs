//! Tokens: from `[oauth]` of a channel file to a source of tokens. Channels with one credential share one source, so that the identity
//! provider is asked once for all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::config::oauth::{OAuth, OAuthGrant};
use crate::config::settings::ChannelFile;
use crate::logic::digest::Digester;
use crate::logic::seal::Sealer;
use crate::pipeline::writer::WriterHandle;
use crate::ports::BoxFuture;
use crate::ports::clock::{Clock, Random};
use crate::ports::store::{Store, Write};
use crate::ports::token::TokenKeep;
use crate::tokens::assertion::AccountKey;
use crate::tokens::endpoint::Endpoint;
use crate::tokens::login::Client;
use crate::tokens::{Credential, Grant, OAuthSource};

/// What Google takes, where a service account's file and the channel say nothing else.
const GOOGLE_TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
const GOOGLE_SCOPE: &str = "https://mail.google.com/";

/// All sources of tokens of a process.
pub struct Tokens {
    keep: Arc<dyn TokenKeep>,
    digester: Digester,
    /// Made for the first channel that needs it: reading the system's certificates takes tens of milliseconds.
    endpoint: OnceLock<Endpoint>,
    clock: Arc<dyn Clock>,
    sources: Mutex<HashMap<[u8; 32], Arc<OAuthSource>>>,
}

impl Tokens {
    /// No sources yet; consents are kept in `keep`.
    pub fn new(keep: Arc<dyn TokenKeep>, digester: Digester, clock: Arc<dyn Clock>) -> Self {
        Self { keep, digester, endpoint: OnceLock::new(), clock, sources: Mutex::default() }
    }

    fn endpoint(&self) -> Result<Endpoint, String> {
        if let Some(endpoint) = self.endpoint.get() {
            return Ok(endpoint.clone());
        }
        let made = Endpoint::new()?;
        Ok(self.endpoint.get_or_init(|| made).clone())
    }

    /// The source of a channel with `[oauth]`.
    ///
    /// # Errors
    /// One line: which secret cannot be used, or why the HTTP client cannot be made.
    pub fn source(&self, file: &ChannelFile, oauth: &OAuth) -> Result<Arc<OAuthSource>, String> {
        let (credential, endpoint) = (credential(file, oauth, &self.digester)?, self.endpoint()?);
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of channels that are gone or were changed.
        sources.retain(|_, source| Arc::strong_count(source) > 1);
        let made = || Arc::new(OAuthSource::new(credential, endpoint, self.keep.clone(), self.clock.clone()));
        Ok(sources.entry(whole(file, oauth)).or_insert_with(made).clone())
    }
}

fn secret(file: &ChannelFile, name: &str) -> Option<SecretString> {
    file.secrets.get(name).and_then(|values| values.first()).cloned()
}

/// Digest of everything that makes a source what it is: equal ones are one.
fn whole(file: &ChannelFile, oauth: &OAuth) -> [u8; 32] {
    let mut digest = Sha256::new();
    let mut add = |text: &str| {
        digest.update((text.len() as u64).to_be_bytes());
        digest.update(text);
    };
    add(&format!("{oauth:?}"));
    // A client by itself speaks for no mailbox in particular.
    if oauth.grant != OAuthGrant::ClientCredentials {
        add(file.imap.as_ref().map_or(file.id.as_str(), |imap| &imap.user));
    }
    for name in crate::config::oauth::SECRETS {
        add(secret(file, name).as_ref().map_or("", |value| value.expose_secret()));
    }
    digest.finalize().into()
}

fn credential(file: &ChannelFile, oauth: &OAuth, digester: &Digester) -> Result<Credential, String> {
    let shown = file.file.display();
    let user = file.imap.as_ref().map(|imap| imap.user.clone());
    let (mut token_url, mut scope) = (oauth.token_url.clone(), oauth.scope.clone());
    let grant = match oauth.grant {
        OAuthGrant::RefreshToken => Grant::Consent { first: secret(file, "refresh_token"), valid: oauth.consent_valid },
        OAuthGrant::ClientCredentials => Grant::Client,
        OAuthGrant::ServiceAccount => {
            let key = secret(file, "service_account").ok_or_else(|| format!("{shown}: the secret `service_account` is missing"))?;
            let account = AccountKey::read(&key).map_err(|why| format!("{shown}: `service_account`: {why}"))?;
            token_url = token_url.or_else(|| account.token_url.clone()).or_else(|| GOOGLE_TOKEN_URL.parse().ok());
            scope = if scope.is_empty() { GOOGLE_SCOPE.to_owned() } else { scope };
            Grant::Service { account: Box::new(account), subject: oauth.subject.clone().or_else(|| user.clone()) }
        }
    };
    let token_url = token_url.ok_or_else(|| format!("{shown}: [oauth] does not say where tokens come from"))?;
    // The consent belongs to the person at the provider, not to the file's name.
    let about = [token_url.as_str(), &oauth.client_id, user.as_deref().unwrap_or(&file.id)].join("\n");
    Ok(Credential {
        name: format!("oauth/{}", digester.delivery("oauth consent", &about).hex()),
        token_url,
        client_id: oauth.client_id.clone(),
        client_secret: secret(file, "client_secret"),
        scope,
        grant,
    })
}

/// What a person's log-in for this channel needs.
///
/// # Errors
/// One line: the channel takes no log-ins.
pub fn client(file: &ChannelFile, oauth: &OAuth) -> Result<Client, String> {
    if oauth.grant != OAuthGrant::RefreshToken {
        return Err(format!("channel `{}` needs no log-in: it gets its tokens by itself", file.id));
    }
    let token_url = oauth.token_url.clone().ok_or_else(|| format!("{}: `token_url` is missing in [oauth]", file.file.display()))?;
    let user = file.imap.as_ref().map(|imap| imap.user.clone());
    Ok(Client { token_url, id: oauth.client_id.clone(), secret: secret(file, "client_secret"), scope: oauth.scope.clone(), user })
}

/// Keeps consents in the store, sealed.
pub struct SealedKeep {
    /// Where they are read, and written if nobody else writes there.
    pub store: Arc<dyn Store>,
    /// The store's one writer, where it runs.
    pub writer: Option<WriterHandle>,
    /// Seals.
    pub sealer: Sealer,
    /// For sealing.
    pub random: Arc<dyn Random>,
}

impl TokenKeep for SealedKeep {
    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, String>> {
        Box::pin(async move {
            let kept = self.store.memo(name).await.map_err(|error| error.to_string())?;
            // What another instance key sealed is lost: the person logs in again.
            Ok(kept.and_then(|text| self.sealer.open(name, &text)))
        })
    }

    fn save<'a>(&'a self, name: &'a str, value: Vec<u8>) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let sealed = self.sealer.seal(name, &value, &*self.random).ok_or("it could not be sealed")?;
            let write = Write::Memo { key: name.to_owned(), value: Some(sealed) };
            let written = match &self.writer {
                Some(writer) => writer.write(write).await.map(drop),
                None => {
                    let mut answers = self.store.commit(vec![write]).await.map_err(|error| error.to_string())?;
                    answers.pop().unwrap_or_else(|| Ok(Default::default())).map(drop)
                }
            };
            written.map_err(|error| error.to_string())
        })
    }
}

/// Keeps nothing: for a look at a gateway that never ran.
pub struct NoKeep;

impl TokenKeep for NoKeep {
    fn load<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, String>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn save<'a>(&'a self, _: &'a str, _: Vec<u8>) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(std::future::ready(Err("there is no store".to_owned())))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;
    use crate::app::system::SystemClock;
    use crate::config::load::load;
    use crate::config::source::Memory;

    #[test]
    fn mailboxes_of_one_client_share_their_tokens_and_persons_do_not() {
        let channel = |user: &str, grant: &str| {
            format!(
                "connector = \"imap\"\n[imap]\nhost = \"outlook.office365.com\"\nuser = \"{user}\"\n[oauth]\nprovider = \"microsoft\"\n\
                 tenant = \"acme.example\"\ngrant = \"{grant}\"\nclient_id = \"c\"\n[secrets]\nclient_secret = {{ env = \"S\" }}\n"
            )
        };
        let source = Memory::default()
            .file("c/omnigate.toml", "")
            .file("c/channels/a.toml", channel("a@acme.example", "client_credentials"))
            .file("c/channels/b.toml", channel("b@acme.example", "client_credentials"))
            .file("c/channels/p.toml", channel("a@acme.example", "refresh_token"))
            .file("c/channels/q.toml", channel("b@acme.example", "refresh_token"))
            .var("S", "secret");
        let loaded = load(Path::new("c/omnigate.toml"), &source).unwrap();
        let tokens = Tokens::new(Arc::new(NoKeep), Digester::new(&[7; 32]), Arc::new(SystemClock::default()));
        let of = |id: &str| {
            let file = loaded.channels[id].as_ref().unwrap();
            tokens.source(file, file.oauth.as_ref().unwrap()).unwrap()
        };
        let [a, b, p, q] = ["a", "b", "p", "q"].map(of);
        assert!(Arc::ptr_eq(&a, &b) && !Arc::ptr_eq(&a, &p) && !Arc::ptr_eq(&p, &q));
        assert!(Arc::ptr_eq(&p, &of("p")), "a reload that changes nothing keeps the source");
        drop((a, b));
        assert_eq!(tokens.sources.lock().unwrap().len(), 3);
        drop(of("p"));
        assert_eq!(tokens.sources.lock().unwrap().len(), 2, "sources of channels that are gone go");
    }
}
