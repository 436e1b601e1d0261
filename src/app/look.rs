//! Look: `check --connect`. Everything a configuration amounts to is looked at over the network; nothing is changed anywhere, but for
//! the successor of a refresh token that is good for one use only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use serde::Serialize;

use crate::app::alone::{self, OneToken};
use crate::app::feeds::{World, source};
use crate::app::outward::{NoBook, Outside};
use crate::app::purse::Purse;
use crate::app::system::{SystemClock, SystemRandom};
use crate::app::tokens::{NoKeep, SealedKeep, Tokens};
use crate::app::wire::{self, FedChannel, MailChannel};
use crate::config::connectors::Connectors;
use crate::config::oauth::{OAuth, OAuthGrant};
use crate::config::settings::{ChannelFile, DestinationKind};
use crate::config::source::Disk;
use crate::config::{key, load};
use crate::destinations::ticket::TicketDesk;
use crate::engines::imap::{ImapSource, Login};
use crate::http::client::HttpClient;
use crate::logic::digest::{Digester, INSTANCE_KEY_BYTES};
use crate::logic::seal::Sealer;
use crate::model::codes::Code;
use crate::model::id::AttachmentId;
use crate::model::mailbox::FirstRun;
use crate::ports::BoxFuture;
use crate::ports::clock::Clock;
use crate::ports::control::FolderCompared;
use crate::ports::destination::FileReader;
use crate::ports::pull::PullSource;
use crate::ports::store::Store;
use crate::ports::ticket::{Prepare, Prepared};
use crate::ports::token::{TokenKeep, TokenSource, Wallet};
use crate::stores::sqlite::SqliteStore;
use crate::telemetry::metrics::Metrics;

/// How long the store is waited for, if it is not the daemon that has it but another look.
const PATIENCE: Duration = Duration::from_secs(2);
/// Mailboxes looked at at once.
const AT_ONCE: usize = 8;

/// One thing that was found, or could not be reached.
#[derive(Debug, Clone, Serialize)]
pub struct Looked {
    /// It can be used.
    pub ok: bool,
    /// `channel` or `destination`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// One line for a person.
    pub line: String,
}

/// Everything a configuration amounts to, looked at over the network. The rows come in the order of the files.
pub async fn check_connect(loaded: &load::Loaded) -> Vec<Looked> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let digester = Digester::new(&[0; INSTANCE_KEY_BYTES]);
    let mut connectors = Connectors::of(&loaded.config, &Disk);
    let tokens = Arc::new(tokens(loaded, digester.clone(), clock.clone()));
    let built = wire::channels(loaded, &mut connectors, &digester, &clock, &tokens);
    let channel = |ok: bool, name: &str, line: String| Looked { ok, kind: "channel", name: name.to_owned(), line };
    let mut rows: Vec<Looked> = built.failed.into_iter().map(|failed| channel(false, &failed.id, failed.detail)).collect();
    let mut mails = built.mail;
    let mut purses: Vec<Purse> = built.kits.iter().filter(|kit| !kit.connector.tokens.is_empty()).map(Purse::of).collect();
    let mut told = redeem(loaded, &mut mails, &mut purses, &tokens, &clock).await;
    let looks = mails.into_iter().map(|mail| {
        let told = told.remove(&mail.file.id);
        mailbox(mail, told, &clock)
    });
    let mut looks = futures_util::stream::iter(looks).buffered(AT_ONCE);
    while let Some((id, lines)) = looks.next().await {
        match lines {
            Ok(lines) => rows.extend(lines.into_iter().map(|line| channel(true, &id, line))),
            Err(line) => rows.push(channel(false, &id, line)),
        }
    }
    let mut built_feeds = built.feeds;
    for purse in purses {
        rows.extend(purse.rows.iter().map(|(ok, line)| channel(*ok, &purse.kit.channel, line.clone())));
        for feed in built_feeds.iter_mut().filter(|feed| feed.file.id == purse.kit.channel) {
            feed.wallet = Wallet::new(purse.sources.clone());
        }
        // What cannot be proved is not asked for either.
        let whole = purse.sources.len() == purse.wanted;
        built_feeds.retain(|feed| whole || feed.file.id != purse.kit.channel);
    }
    rows.extend(feeds(built_feeds, &clock).await);
    let outside = Outside { files: Arc::new(NoFiles), clock: clock.clone(), book: Arc::new(NoBook), tokens };
    for (name, settings) in &loaded.config.destinations {
        if let DestinationKind::Ticket(ticket) = &settings.kind {
            rows.extend(ticket_system(name, crate::app::outward::desk(settings, ticket, &outside)).await);
            continue;
        }
        let probed = match crate::app::outward::destination(settings, &loaded.config, &outside) {
            Ok(destination) => destination.probe().await.map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        let ok = probed.is_ok();
        let (Ok(line) | Err(line)) = probed;
        rows.push(Looked { ok, kind: "destination", name: name.clone(), line });
    }
    rows
}

/// A ticket system: what is there in one row, and what is missing in a row each.
async fn ticket_system(name: &str, desk: Result<TicketDesk, String>) -> Vec<Looked> {
    let row = |ok: bool, line: String| Looked { ok, kind: "destination", name: name.to_owned(), line };
    let found = match desk {
        Ok(desk) => desk.prepare(false).await.map_err(|error| error.to_string()),
        Err(error) => Err(error),
    };
    let found = match found {
        Ok(found) => found,
        Err(error) => return vec![row(false, error)],
    };
    let there: Vec<String> = found.iter().filter(|one| one.ok).map(|one| format!("{}: {}", one.what, one.line)).collect();
    let there = (!there.is_empty()).then(|| row(true, there.join("; ")));
    let missing = found.iter().filter(|one| !one.ok).map(|one| row(false, format!("{}: {}: {}", Code::NotPrepared, one.what, one.line)));
    there.into_iter().chain(missing).collect()
}

/// Polls and streams: what their platforms answer.
async fn feeds(feeds: Vec<FedChannel>, clock: &Arc<dyn Clock>) -> Vec<Looked> {
    let row = |ok: bool, name: String, line: String| Looked { ok, kind: "channel", name, line };
    if feeds.is_empty() {
        return Vec::new();
    }
    let http = match HttpClient::new(false) {
        Ok(client) => client,
        Err(error) => return feeds.into_iter().map(|feed| row(false, feed.file.id.clone(), error.clone())).collect(),
    };
    let world = World { http, clock: clock.clone(), random: Arc::new(SystemRandom::default()), metrics: Metrics::new() };
    let looks = feeds.into_iter().map(|feed| {
        let world = world.clone();
        async move {
            let found = match source(&feed, &world) {
                Ok(source) => source.probe().await.map_err(|error| format!("{}: {error}", error.code())),
                Err(error) => Err(error),
            };
            (feed.file.id.clone(), found)
        }
    });
    let mut rows = Vec::new();
    let mut looks = futures_util::stream::iter(looks).buffered(AT_ONCE);
    while let Some((id, found)) = looks.next().await {
        match found {
            Ok(lines) => rows.extend(lines.into_iter().map(|line| row(true, id.clone(), line))),
            Err(line) => rows.push(row(false, id, line)),
        }
    }
    rows
}

/// What a ticket destination lacks; with `make`, what its system's API can make is made.
///
/// # Errors
/// One line.
pub async fn prepare(loaded: &load::Loaded, name: &str, make: bool) -> Result<Vec<Prepared>, String> {
    let settings = loaded.config.destinations.get(name).ok_or_else(|| format!("there is no [destination.{name}]"))?;
    let DestinationKind::Ticket(ticket) = &settings.kind else {
        return Err(format!("`{name}` is a {}: there is nothing to prepare", settings.kind.as_str()));
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let tokens = Arc::new(tokens(loaded, Digester::new(&[0; INSTANCE_KEY_BYTES]), clock.clone()));
    let outside = Outside { files: Arc::new(NoFiles), clock, book: Arc::new(NoBook), tokens };
    let desk = crate::app::outward::desk(settings, ticket, &outside)?;
    desk.prepare(make).await.map_err(|error| error.to_string())
}

/// One mailbox: its id, and what was found or why not; or what is `told` of it without a look.
async fn mailbox(mail: MailChannel, told: Option<Told>, clock: &Arc<dyn Clock>) -> (String, Result<Vec<String>, String>) {
    let id = mail.file.id.clone();
    if let Some(told) = told {
        return (id, told.map(|line| vec![line]));
    }
    let found = ImapSource::new(mail.settings, clock.clone()).probe().await;
    (id, found.map_err(|error| format!("{}: {error}", error.code())))
}

/// A channel's mailbox against the store, while no daemon runs.
///
/// # Errors
/// One line.
pub async fn reconcile(loaded: &load::Loaded, channel: &str) -> Result<Vec<FolderCompared>, String> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let file = loaded.channels.get(channel).ok_or_else(|| format!("there is no channel `{channel}`"))?;
    let file = file.as_ref().map_err(|_| format!("the file of channel `{channel}` has mistakes: `omnigate check` shows them"))?;
    let tokens = tokens(loaded, Digester::new(&[0; INSTANCE_KEY_BYTES]), clock.clone());
    let mut mails = [wire::mail_channel(file, &tokens)?];
    if let Some((_, told)) = redeem(loaded, &mut mails, &mut [], &tokens, &clock).await.pop_first() {
        return Err(told.map_or_else(|why| why, |line| format!("channel `{channel}` cannot be looked at: {line}")));
    }
    let [mail] = mails;
    let store = SqliteStore::open_read_only(&loaded.config.instance.data_dir).map_err(|error| error.to_string())?;
    let backfill = mail.settings.mailbox.first_run == FirstRun::Backfill;
    let source = ImapSource::new(mail.settings, clock);
    crate::pipeline::reconcile::reconcile(&source, &store, backfill).await.map_err(|error| error.to_string())
}

/// Tokens with the consents of the store, if there is one. Nothing is written.
fn tokens(loaded: &load::Loaded, digester: Digester, clock: Arc<dyn Clock>) -> Tokens {
    let instance = &loaded.config.instance;
    let key = key::instance_key(&instance.key, &Disk, None).ok();
    let store = SqliteStore::open_read_only(&instance.data_dir).ok();
    let keep: Arc<dyn TokenKeep> = match (&key, store) {
        (Some(key), Some(store)) => Arc::new(SealedKeep {
            store: Arc::new(store),
            writer: None,
            sealer: Sealer::new(key.secret.all()),
            random: Arc::new(SystemRandom::default()),
        }),
        _ => Arc::new(NoKeep),
    };
    // The names of consents are digests under the instance's own key.
    let digester = key.map_or(digester, |key| Digester::new(key.secret.current()));
    Tokens::new(keep, digester, Arc::default(), clock, Arc::new(SystemRandom::default()))
}

/// What is said of a channel that is not looked at.
type Told = Result<String, String>;

/// Gets tokens for the channels that log in by a person's consent. A refresh token may be good for one use only, so the store is taken
/// for as long as that takes, and its successor is kept there. Where the store cannot be had, because the daemon has it or there
/// is none, the channels are not looked at, and what can be said of them is returned.
async fn redeem(
    loaded: &load::Loaded,
    mails: &mut [MailChannel],
    purses: &mut [Purse],
    looking: &Tokens,
    clock: &Arc<dyn Clock>,
) -> BTreeMap<String, Told> {
    let mut told = BTreeMap::new();
    for purse in purses.iter_mut() {
        purse.fill(looking, clock).await;
    }
    let mut by_consent: Vec<_> = mails.iter_mut().filter(|mail| oauth_of(&mail.file).is_some()).collect();
    if by_consent.is_empty() && purses.iter().all(|purse| purse.kept.is_empty()) {
        return told;
    }
    let (store, key) = match alone(loaded).await {
        Ok(taken) => taken,
        Err(why) => {
            for mail in by_consent {
                told.extend(consent(&mail.file, looking, why).await.map(|said| (mail.file.id.clone(), said)));
            }
            for purse in purses.iter_mut() {
                purse.leave(looking, why).await;
            }
            return told;
        }
    };
    let store = Arc::new(store);
    let keep =
        SealedKeep { store: store.clone(), writer: None, sealer: Sealer::new(key.secret.all()), random: Arc::new(SystemRandom::default()) };
    let (http, random) = (Arc::default(), Arc::new(SystemRandom::default()));
    let tokens = Tokens::new(Arc::new(keep), Digester::new(key.secret.current()), http, clock.clone(), random);
    for mail in &mut by_consent {
        if let Err(why) = redeem_one(mail, &tokens).await {
            told.insert(mail.file.id.clone(), Err(why));
        }
    }
    for purse in purses.iter_mut() {
        purse.redeem(&tokens).await;
    }
    // Looking takes long; nobody has to wait for the store meanwhile.
    drop(tokens);
    if let Err(error) = store.close().await {
        tracing::warn!(error = %error, "the store was not closed well");
    }
    told
}

async fn redeem_one(mail: &mut MailChannel, tokens: &Tokens) -> Result<(), String> {
    let Some(oauth) = oauth_of(&mail.file) else { return Ok(()) };
    let source = tokens.source(&mail.file, oauth)?;
    if !source.has_consent().await.map_err(|error| error.to_string())? {
        return Err(nobody(&mail.file.id));
    }
    let token = source.token(None).await.map_err(|error| format!("{}: {error}", error.code()))?;
    if let Login::Token { source, .. } = &mut mail.settings.login {
        *source = Arc::new(OneToken(token));
    }
    Ok(())
}

/// The store, alone, if there is one of today's form, and the instance's key; else why not.
async fn alone(loaded: &load::Loaded) -> Result<(SqliteStore, key::Made<key::InstanceKey>), &'static str> {
    let instance = &loaded.config.instance;
    let key = key::instance_key(&instance.key, &Disk, None).map_err(|_| "the gateway never ran here")?;
    // It neither makes a store nor changes the form of an old one.
    SqliteStore::open_read_only(&instance.data_dir).map_err(|_| "the gateway never ran here")?;
    let folder = instance.data_dir.clone();
    let opened = tokio::task::spawn_blocking(move || alone::patiently(PATIENCE, || alone::open(&folder))).await;
    let store = opened.ok().and_then(Result::ok).ok_or("the daemon uses it")?;
    Ok((store, key))
}

fn oauth_of(file: &ChannelFile) -> Option<&OAuth> {
    file.oauth.as_ref().filter(|oauth| oauth.grant == OAuthGrant::RefreshToken)
}

/// What is said of a channel that needs a person's consent and has none.
pub fn nobody(channel: &str) -> String {
    format!("{}: nobody has logged in yet: omnigate channel login {channel}", Code::LoginNeeded)
}

/// What can be said of a channel that logs in by a person's consent and is not tried.
async fn consent(file: &ChannelFile, tokens: &Tokens, why: &str) -> Option<Told> {
    let oauth = oauth_of(file)?;
    let source = match tokens.source(file, oauth) {
        Ok(source) => source,
        Err(why) => return Some(Err(why)),
    };
    Some(match (source.has_consent().await, source.consent_ends().await) {
        (Ok(true), Some(ends)) => Ok(format!("a person has logged in, until {ends}; not tried: {why}")),
        (Ok(true), None) => Ok(format!("a person has logged in; not tried: {why}")),
        (Ok(false), _) => Err(nobody(&file.id)),
        (Err(error), _) => Err(error.to_string()),
    })
}

/// A check delivers nothing, so it reads no files.
struct NoFiles;

impl FileReader for NoFiles {
    fn read(&self, _: AttachmentId, _: u64) -> BoxFuture<'_, Result<Option<Bytes>, String>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}
