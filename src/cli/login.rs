//! `channel login`: a person consents at the identity provider, once; the consent is kept sealed in the store.

use std::sync::Arc;

use clap::{Args, ValueEnum};
use secrecy::ExposeSecret;

use crate::app::system::{SystemClock, SystemRandom};
use crate::app::tokens::{LogIn, SealedKeep, Tokens, log_in, mail_log_in};
use crate::app::{self, alone};
use crate::cli::Context;
use crate::cli::daemon::done;
use crate::cli::exit::Failure;
use crate::cli::output::remark;
use crate::cli::reach::{daemon, runs};
use crate::config::channel_set;
use crate::config::connectors::Connectors;
use crate::config::load::{Loaded, load};
use crate::config::problems::Problems;
use crate::config::settings::ChannelFile;
use crate::config::source::Disk;
use crate::connector::kit::ChannelKit;
use crate::http::client::HttpClient;
use crate::logic::digest::{Digester, INSTANCE_KEY_BYTES};
use crate::logic::seal::Sealer;
use crate::ports::clock::Clock;
use crate::ports::store::Store;
use crate::ports::token::TokenError;
use crate::server::api::verbs::ConsentGiven;
use crate::stores::sqlite::OpenError;
use crate::tokens::endpoint::Endpoint;
use crate::tokens::login::{Browser, Given, Task, in_browser, on_device};

/// Arguments of `channel login`.
#[derive(Debug, Args)]
pub struct LoginArgs {
    /// Id of the channel
    pub channel: String,
    /// How; unset: by code where the identity provider offers it
    #[arg(long, value_enum)]
    pub flow: Option<Flow>,
    /// In the browser: port of this machine the browser comes back to; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    pub port: u16,
}

/// `--flow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Flow {
    /// A code that is entered on any device
    Device,
    /// A browser on this machine
    Browser,
}

/// `channel login`.
pub async fn login(context: &Context, args: &LoginArgs) -> Result<(), Failure> {
    let loaded = load(&context.config, &Disk)?;
    let file = match loaded.channels.get(&args.channel) {
        None => return Err(Failure::Missing(format!("there is no channel `{}`", args.channel))),
        Some(Err(failed)) => return Err(Failure::Config(Problems(failed.problems.clone()))),
        Some(Ok(file)) => file.clone(),
    };
    let there = where_to(&loaded, &file)?;
    // Known before the person is asked to do anything: where the consent will go.
    let running = runs(&context.config).await?;
    let given = consent(there, args).await?;
    let given = if running { Some(given) } else { keep(&loaded, &file, given).await? };
    if let Some(given) = given {
        let told = ConsentGiven {
            refresh_token: given.refresh_token.expose_secret().to_owned(),
            ends_in_s: given.ends_in.map(|span| span.as_secs()),
        };
        daemon(&context.config).await?.ask::<serde_json::Value>(&["channels", &file.id, "consent"], &told).await?;
    }
    done(context, &format!("logged in: channel `{}` gets its tokens by itself from now on", file.id))
}

/// Where the person logs in: as `[oauth]` of a mailbox says, or the connector of any other channel.
fn where_to(loaded: &Loaded, file: &Arc<ChannelFile>) -> Result<LogIn, Failure> {
    if let Some(oauth) = &file.oauth {
        return mail_log_in(file, oauth).map_err(Failure::Refused);
    }
    // It names nothing that is kept: the instance's key is not needed.
    log_in(&kit(loaded, file)?, &Digester::new(&[0; INSTANCE_KEY_BYTES])).map_err(Failure::Refused)
}

fn kit(loaded: &Loaded, file: &Arc<ChannelFile>) -> Result<ChannelKit, Failure> {
    let connector = Connectors::of(&loaded.config, &Disk).get(&file.connector);
    let connector = connector.ok_or_else(|| Failure::Refused(format!("there is no connector `{}`", file.connector)))?;
    let connector = connector.map_err(|problems| Failure::Config(Problems(problems)))?;
    if connector.manifest.is_mail() {
        return Err(Failure::Refused(format!("channel `{}` logs in without [oauth]", file.id)));
    }
    Ok(ChannelKit::of(connector, &channel_set::spec(file)))
}

async fn consent(there: LogIn, args: &LoginArgs) -> Result<Given, Failure> {
    let http = HttpClient::new(false).map_err(Failure::Failed)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let endpoint = Endpoint::new(Arc::new(http), clock.clone());
    let mut tell = |task| match task {
        Task::EnterCode { url, code } => remark(&format!("Open {} and enter the code {}", plain(&url), plain(&code))),
        Task::Open { url } => remark(&format!("Open this address in a browser on this machine:\n\n{}\n", plain(&url))),
    };
    let given = match (args.flow, there.device_url, there.authorize_url) {
        (Some(Flow::Device) | None, Some(url), _) => on_device(&endpoint, &there.client, &url, &*clock, &mut tell).await,
        (Some(Flow::Browser) | None, _, Some(authorize_url)) => {
            let browser = Browser { authorize_url, user: there.user, port: args.port };
            in_browser(&endpoint, &there.client, &browser, &SystemRandom::default(), &mut tell).await
        }
        (Some(Flow::Device), None, _) => {
            return Err(Failure::Refused("this identity provider has no log-in by code: try --flow browser".to_owned()));
        }
        (_, _, None) => return Err(Failure::Refused("nothing says where a person logs in (`device_url`, `authorize_url`)".to_owned())),
    };
    given.map_err(refused)
}

/// What comes from outside must not steer the terminal.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(4096).collect()
}

fn refused(error: TokenError) -> Failure {
    Failure::Failed(error.to_string())
}

/// No daemon ran when the person was asked: the consent goes into its store. It is given back if one has been started meanwhile.
async fn keep(loaded: &Loaded, file: &Arc<ChannelFile>, given: Given) -> Result<Option<Given>, Failure> {
    let (key, _) = app::run::keys(loaded).map_err(|error| Failure::Failed(error.to_string()))?;
    let folder = loaded.config.instance.data_dir.clone();
    let opened = tokio::task::spawn_blocking(move || alone::patiently(alone::PATIENCE, || alone::open(&folder))).await;
    let store = match opened.map_err(|error| Failure::Failed(error.to_string()))? {
        Ok(store) => Arc::new(store),
        Err(OpenError::Locked { .. }) => return Ok(Some(given)),
        Err(error) => return Err(Failure::Failed(error.to_string())),
    };
    let keep = SealedKeep { store: store.clone(), writer: None, sealer: Sealer::new(key.all()), random: Arc::new(SystemRandom::default()) };
    let (clock, random) = (Arc::new(SystemClock::default()), Arc::new(SystemRandom::default()));
    let tokens = Tokens::new(Arc::new(keep), Digester::new(key.current()), Arc::default(), clock, random);
    let source = match &file.oauth {
        Some(oauth) => tokens.source(file, oauth),
        None => tokens.consented(&kit(loaded, file)?),
    };
    let source = source.map_err(Failure::Refused)?;
    source.adopt(given.refresh_token, given.ends_in).await.map_err(refused)?;
    store.close().await?;
    Ok(None)
}
