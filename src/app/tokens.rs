//! Tokens: from `[oauth]` of a channel file, and from `[auth.NAME]` of a connector or a ticket system, to sources of tokens. Channels with one
//! credential share one source, and so do the roads of one channel, and a ticket destination with its way back: who gives tokens is asked once for all of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use url::Url;

use crate::config::oauth::{OAuth, OAuthGrant};
use crate::config::settings::ChannelFile;
use crate::connector::call::Filling;
use crate::connector::call::template::{Position, Template};
use crate::connector::kit::ChannelKit;
use crate::connector::token::spec::Algorithm;
use crate::connector::token::{ClientPlan, JwtPlan, OAuth2Plan, TokenKind, TokenPlan, optional};
use crate::destinations::ticket::TicketOptions;
use crate::http::client::HttpClient;
use crate::logic::digest::Digester;
use crate::logic::seal::Sealer;
use crate::pipeline::writer::WriterHandle;
use crate::ports::BoxFuture;
use crate::ports::clock::{Clock, Random};
use crate::ports::http::Http;
use crate::ports::store::{Store, Write};
use crate::ports::token::{TokenKeep, TokenSource, Wallet};
use crate::tokens::assertion::{Signer, SigningKey};
use crate::tokens::described::{Filled, LongLived, Session};
use crate::tokens::endpoint::{Client, Endpoint};
use crate::tokens::{Credential, CredentialSource, Grant, Means};

/// What Google takes, where a service account's file and the channel say nothing else.
const GOOGLE_TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
const GOOGLE_SCOPE: &str = "https://mail.google.com/";
/// How long an assertion is good for: the longest that Google takes.
const ASSERTION_LIFE: std::time::Duration = std::time::Duration::from_secs(3600);
/// The name of the one token of a mailbox.
pub const MAIL: &str = "oauth";

/// Calls out; made when the first needs it, because reading the system's certificates takes tens of milliseconds.
#[derive(Default)]
pub struct LazyHttp(OnceLock<HttpClient>);

impl LazyHttp {
    /// The client.
    ///
    /// # Errors
    /// One line, if it cannot be made.
    pub fn client(&self) -> Result<HttpClient, String> {
        if let Some(client) = self.0.get() {
            return Ok(client.clone());
        }
        let made = HttpClient::new(false)?;
        Ok(self.0.get_or_init(|| made).clone())
    }
}

/// All sources of tokens of a process.
pub struct Tokens {
    keep: Arc<dyn TokenKeep>,
    digester: Digester,
    http: Arc<LazyHttp>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    sources: Mutex<HashMap<[u8; 32], Arc<CredentialSource>>>,
}

impl Tokens {
    /// No sources yet; what must be kept is kept in `keep`.
    pub fn new(keep: Arc<dyn TokenKeep>, digester: Digester, http: Arc<LazyHttp>, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self { keep, digester, http, clock, random, sources: Mutex::default() }
    }

    /// Asks identity providers.
    ///
    /// # Errors
    /// One line, if the HTTP client cannot be made.
    pub fn endpoint(&self) -> Result<Endpoint, String> {
        Ok(Endpoint::new(Arc::new(self.http.client()?), self.clock.clone()))
    }

    fn shared(&self, whole: [u8; 32], credential: Credential, strict: bool) -> Result<Arc<CredentialSource>, String> {
        let (keep, clock, random) = (self.keep.clone(), self.clock.clone(), self.random.clone());
        let endpoint = Endpoint::new(Arc::new(self.http.client()?.strictly(strict)), clock.clone());
        let means = Means { endpoint, keep, clock, random };
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of channels that are gone or were changed.
        sources.retain(|_, source| Arc::strong_count(source) > 1);
        Ok(sources.entry(whole).or_insert_with(|| Arc::new(CredentialSource::new(credential, means))).clone())
    }

    /// The source of a mailbox with `[oauth]`.
    ///
    /// # Errors
    /// One line: which secret cannot be used, or why the HTTP client cannot be made.
    pub fn source(&self, file: &ChannelFile, oauth: &OAuth) -> Result<Arc<CredentialSource>, String> {
        self.shared(whole(file, oauth), credential(file, oauth, &self.digester)?, false)
    }

    /// The source of one `[auth.NAME]` of a channel.
    ///
    /// # Errors
    /// As for [`Self::source`].
    pub fn described(&self, kit: &ChannelKit, plan: &TokenPlan) -> Result<Arc<CredentialSource>, String> {
        self.held(Holder::of(kit), plan)
    }

    fn held(&self, of: Holder<'_>, plan: &TokenPlan) -> Result<Arc<CredentialSource>, String> {
        let made = Making { of, context: of.context(), digester: &self.digester };
        let (credential, whole) = made.credential(plan, &self.http).map_err(|why| format!("[auth.{}]: {why}", plan.name))?;
        self.shared(whole, credential, of.strict)
    }

    /// The tokens of a channel, as far as its file sets what they need.
    ///
    /// # Errors
    /// As for [`Self::source`].
    pub fn wallet(&self, kit: &ChannelKit) -> Result<Wallet, String> {
        let mut sources: BTreeMap<String, Arc<dyn TokenSource>> = BTreeMap::new();
        for (name, plan) in kit.connector.tokens.iter().filter(|(_, plan)| plan.is_given(&kit.settings, &kit.secrets)) {
            sources.insert(name.clone(), self.described(kit, plan)?);
        }
        Ok(Wallet::new(sources))
    }

    /// The tokens of a ticket destination; its way back, which is a channel of its name, has the same sources.
    ///
    /// # Errors
    /// As for [`Self::source`].
    pub fn desk(&self, options: &TicketOptions) -> Result<Wallet, String> {
        let settings = Value::Object(options.settings.clone());
        let of = Holder {
            connector: &options.system.manifest.name,
            name: &options.name,
            settings: &settings,
            secrets: &options.secrets,
            account: None,
            strict: options.strict_egress,
        };
        let mut sources: BTreeMap<String, Arc<dyn TokenSource>> = BTreeMap::new();
        for (name, plan) in options.system.tokens.iter().filter(|(_, plan)| plan.is_given(&settings, &options.secrets)) {
            sources.insert(name.clone(), self.held(of, plan)?);
        }
        Ok(Wallet::new(sources))
    }
}

/// Who holds a credential: a channel or a ticket destination.
#[derive(Clone, Copy)]
struct Holder<'a> {
    /// Name of the folder.
    connector: &'a str,
    /// Its own name.
    name: &'a str,
    settings: &'a Value,
    secrets: &'a BTreeMap<String, Vec<SecretString>>,
    account: Option<&'a String>,
    /// Whoever gives its tokens must be public and speak https, too.
    strict: bool,
}

impl<'a> Holder<'a> {
    fn of(kit: &'a ChannelKit) -> Self {
        Self {
            connector: &kit.connector.manifest.name,
            name: &kit.channel,
            settings: &kit.settings,
            secrets: &kit.secrets,
            account: kit.account.as_ref(),
            strict: kit.strict_egress,
        }
    }

    fn context(&self) -> Value {
        json!({"settings": self.settings, "account": self.account})
    }
}

/// Makes a credential of what a manifest describes and its holder sets.
struct Making<'a> {
    of: Holder<'a>,
    context: Value,
    digester: &'a Digester,
}

impl Making<'_> {
    fn filling(&self) -> Filling<'_> {
        Filling { context: &self.context, secrets: self.of.secrets, token: None, files: &[] }
    }

    fn text(&self, template: &Template) -> Result<String, String> {
        template.fill(&self.filling(), Position::Plain).map_err(|error| error.to_string())
    }

    fn url(&self, template: &Template) -> Result<Url, String> {
        let text = template.fill(&self.filling(), Position::Path).map_err(|error| error.to_string())?;
        Url::parse(&text).map_err(|_| "an address is no http(s) URL".to_owned())
    }

    fn optional(&self, template: Option<&Template>) -> Result<Option<String>, String> {
        optional(template, &self.filling()).map_err(|error| error.to_string())
    }

    fn secret(&self, name: &str) -> Option<SecretString> {
        self.of.secrets.get(name).and_then(|values| values.first()).filter(|value| !value.expose_secret().is_empty()).cloned()
    }

    fn client(&self, plan: &ClientPlan) -> Result<Client, String> {
        Ok(Client {
            token_url: self.url(&plan.token_url)?,
            id: self.text(&plan.id)?,
            secret: plan.secret.as_deref().and_then(|name| self.secret(name)),
            auth: plan.auth,
            scope: plan.scope.clone(),
            extra: plan.extra.iter().map(|(name, value)| Ok((name.clone(), self.text(value)?))).collect::<Result<_, String>>()?,
        })
    }

    fn signer(&self, plan: &JwtPlan) -> Result<(Signer, Option<Client>), String> {
        let text = self.secret(&plan.key).ok_or_else(|| format!("the secret `{}` is not set", plan.key))?;
        let key = SigningKey::read(&text, plan.algorithm).map_err(|why| format!("`{}`: {why}", plan.key))?;
        let mut claims = serde_json::Map::new();
        for (name, template) in &plan.claims {
            claims.extend(self.optional(Some(template))?.map(|value| (name.clone(), Value::from(value))));
        }
        if let Some(email) = &key.email {
            claims.entry("iss").or_insert_with(|| email.as_str().into());
        }
        let client = match &plan.token_url {
            None => None,
            Some(url) => Some(Client::plain(self.url(url)?, "", None, "")),
        };
        if let Some(client) = &client {
            claims.entry("aud").or_insert_with(|| client.token_url.as_str().into());
        }
        let key_id = self.optional(plan.key_id.as_ref())?.or_else(|| key.id.clone());
        Ok((Signer { key, key_id, claims, life: plan.life }, client))
    }

    /// The credential, and the digest of everything that makes it what it is: equal ones are one.
    fn credential(&self, plan: &TokenPlan, http: &LazyHttp) -> Result<(Credential, [u8; 32]), String> {
        let of = self.of;
        let filled = || {
            let http: Arc<dyn Http> = Arc::new(http.client()?.strictly(of.strict));
            Ok::<Filled, String>(Filled { http, settings: of.settings.clone(), secrets: of.secrets.clone(), account: of.account.cloned() })
        };
        let mut about = vec![of.connector.to_owned(), plan.name.clone()];
        // Who is strict does not share a source with who is not.
        let mut more = if of.strict { "strict\n".to_owned() } else { String::new() };
        let grant = match &plan.kind {
            TokenKind::OAuth2(plan) => {
                let client = self.client(&plan.client)?;
                about.extend([client.token_url.to_string(), client.id.clone()]);
                more.push_str(&client.scope);
                let first = plan.first.as_deref().and_then(|name| self.secret(name));
                Grant::Consent { client, first, valid: plan.valid }
            }
            TokenKind::ClientCredentials(plan) => {
                let client = self.client(plan)?;
                more.push_str(&format!("{client:?}"));
                Grant::Client(client)
            }
            TokenKind::JwtBearer(plan) => {
                let (signer, client) = self.signer(plan)?;
                more.push_str(&format!("{signer:?}{client:?}"));
                match client {
                    Some(client) => Grant::Assertion { client, signer: Box::new(signer) },
                    None => Grant::Signed(Box::new(signer)),
                }
            }
            TokenKind::Session(plan) => Grant::Session(Box::new(Session { plan: plan.clone(), filled: filled()? })),
            TokenKind::LongLived(plan) => {
                let first = self.secret(&plan.first).ok_or_else(|| format!("the secret `{}` is not set", plan.first))?;
                Grant::LongLived(Box::new(LongLived { plan: plan.clone(), filled: filled()?, first }))
            }
        };
        // It belongs to the account at the platform, not to the file's name.
        about.push(of.account.cloned().unwrap_or_else(|| of.name.to_owned()));
        let secrets = plan.secrets().into_iter().filter_map(|name| self.secret(name)).collect::<Vec<_>>();
        for name in plan.settings() {
            more.push_str(&format!("{name}={}\n", of.settings.get(name).unwrap_or(&Value::Null)));
        }
        let whole = digest(about.iter().map(String::as_str).chain([more.as_str()]).chain(secrets.iter().map(ExposeSecret::expose_secret)));
        let name = format!("oauth/{}", self.digester.delivery("oauth consent", &about.join("\n")).hex());
        Ok((Credential { name, grant }, whole))
    }
}

fn digest<'a>(texts: impl Iterator<Item = &'a str>) -> [u8; 32] {
    let mut digest = Sha256::new();
    for text in texts {
        digest.update((text.len() as u64).to_be_bytes());
        digest.update(text);
    }
    digest.finalize().into()
}

fn secret(file: &ChannelFile, name: &str) -> Option<SecretString> {
    file.secrets.get(name).and_then(|values| values.first()).cloned()
}

/// Digest of everything that makes a source what it is: equal ones are one.
fn whole(file: &ChannelFile, oauth: &OAuth) -> [u8; 32] {
    let described = format!("{oauth:?}");
    // A client by itself speaks for no mailbox in particular.
    let user = match oauth.grant {
        OAuthGrant::ClientCredentials => "",
        _ => file.imap.as_ref().map_or(file.id.as_str(), |imap| &imap.mailbox.user),
    };
    let secrets: Vec<_> = crate::config::oauth::SECRETS.iter().map(|name| secret(file, name).unwrap_or_default()).collect();
    digest([described.as_str(), user].into_iter().chain(secrets.iter().map(ExposeSecret::expose_secret)))
}

fn credential(file: &ChannelFile, oauth: &OAuth, digester: &Digester) -> Result<Credential, String> {
    let shown = file.file.display();
    let user = file.imap.as_ref().map(|imap| imap.mailbox.user.clone());
    let url = oauth.token_url.clone();
    let known = |url: Option<Url>| url.ok_or_else(|| format!("{shown}: [oauth] does not say where tokens come from"));
    let client = |url: Url| Client::plain(url, &oauth.client_id, secret(file, "client_secret"), &oauth.scope);
    let (url, grant) = match oauth.grant {
        OAuthGrant::RefreshToken => {
            let url = known(url)?;
            (url.clone(), Grant::Consent { client: client(url), first: secret(file, "refresh_token"), valid: oauth.consent_valid })
        }
        OAuthGrant::ClientCredentials => {
            let url = known(url)?;
            (url.clone(), Grant::Client(client(url)))
        }
        OAuthGrant::ServiceAccount => {
            let text = secret(file, "service_account").ok_or_else(|| format!("{shown}: the secret `service_account` is missing"))?;
            let key = SigningKey::read(&text, Algorithm::RS256).map_err(|why| format!("{shown}: `service_account`: {why}"))?;
            let url = known(url.or_else(|| key.token_url.clone()).or_else(|| GOOGLE_TOKEN_URL.parse().ok()))?;
            let scope = if oauth.scope.is_empty() { GOOGLE_SCOPE } else { &oauth.scope };
            let mut claims = serde_json::Map::new();
            let subject = oauth.subject.clone().or_else(|| user.clone());
            let named = [("iss", key.email.clone()), ("sub", subject), ("scope", Some(scope.to_owned())), ("aud", Some(url.to_string()))];
            claims.extend(named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?)))));
            let signer = Signer { key_id: key.id.clone(), key, claims, life: ASSERTION_LIFE };
            (url.clone(), Grant::Assertion { client: client(url), signer: Box::new(signer) })
        }
    };
    // The consent belongs to the person at the provider, not to the file's name.
    let about = [url.as_str(), &oauth.client_id, user.as_deref().unwrap_or(&file.id)].join("\n");
    Ok(Credential { name: format!("oauth/{}", digester.delivery("oauth consent", &about).hex()), grant })
}

/// Where a person logs in.
pub struct LogIn {
    /// The client.
    pub client: Client,
    /// Where a log-in in the browser begins.
    pub authorize_url: Option<Url>,
    /// Where a log-in by code begins.
    pub device_url: Option<Url>,
    /// Who should log in, as a hint.
    pub user: Option<String>,
}

/// What a person's log-in for this mailbox needs.
///
/// # Errors
/// One line: the channel takes no log-ins.
pub fn mail_log_in(file: &ChannelFile, oauth: &OAuth) -> Result<LogIn, String> {
    if oauth.grant != OAuthGrant::RefreshToken {
        return Err(needs_none(&file.id));
    }
    let token_url = oauth.token_url.clone().ok_or_else(|| format!("{}: `token_url` is missing in [oauth]", file.file.display()))?;
    Ok(LogIn {
        client: Client::plain(token_url, &oauth.client_id, secret(file, "client_secret"), &oauth.scope),
        authorize_url: oauth.authorize_url.clone(),
        device_url: oauth.device_url.clone(),
        user: file.imap.as_ref().map(|imap| imap.mailbox.user.clone()),
    })
}

fn needs_none(channel: &str) -> String {
    format!("channel `{channel}` needs no log-in: it gets its tokens by itself")
}

/// The one `[auth.NAME]` of a connector that a person logs in for.
fn consented(kit: &ChannelKit) -> Option<(&TokenPlan, &OAuth2Plan)> {
    kit.connector.tokens.values().find_map(|plan| match &plan.kind {
        TokenKind::OAuth2(consent) => Some((&**plan, &**consent)),
        _ => None,
    })
}

/// What a person's log-in for this channel needs.
///
/// # Errors
/// One line: the channel takes no log-ins, or lacks what they need.
pub fn log_in(kit: &ChannelKit, digester: &Digester) -> Result<LogIn, String> {
    let Some((plan, consent)) = consented(kit) else { return Err(needs_none(&kit.channel)) };
    if !plan.is_given(&kit.settings, &kit.secrets) {
        return Err(format!("channel `{}` does not set all that [auth.{}] needs: its client's id comes first", kit.channel, plan.name));
    }
    let of = Holder::of(kit);
    let making = Making { of, context: of.context(), digester };
    let url = |template: &Option<Template>| template.as_ref().map(|template| making.url(template)).transpose();
    Ok(LogIn {
        client: making.client(&consent.client)?,
        authorize_url: url(&consent.authorize_url)?,
        device_url: url(&consent.device_url)?,
        user: None,
    })
}

impl Tokens {
    /// The source that takes a person's consent for this channel.
    ///
    /// # Errors
    /// One line: the channel takes none.
    pub fn consented(&self, kit: &ChannelKit) -> Result<Arc<CredentialSource>, String> {
        let (plan, _) = consented(kit).ok_or_else(|| needs_none(&kit.channel))?;
        self.described(kit, plan)
    }
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

/// Forgets: for a look that begins a session of its own.
pub struct Forget;

impl TokenKeep for Forget {
    fn load<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, String>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn save<'a>(&'a self, _: &'a str, _: Vec<u8>) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(std::future::ready(Ok(())))
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
    use crate::app::system::{SystemClock, SystemRandom};
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
            .file("c/channels/p.toml", channel("p@acme.example", "refresh_token"))
            .file("c/channels/q.toml", channel("q@acme.example", "refresh_token"))
            .var("S", "secret");
        let loaded = load(Path::new("c/omnigate.toml"), &source).unwrap();
        let (clock, random) = (Arc::new(SystemClock::default()), Arc::new(SystemRandom::default()));
        let tokens = Tokens::new(Arc::new(NoKeep), Digester::new(&[7; 32]), Arc::default(), clock, random);
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
