//! Run: the daemon from its first line to its last. Loads, starts, waits for signals, stops.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use crate::app::gateway::{Gateway, StartError};
use crate::app::system::SystemRandom;
use crate::config::key::{self, InstanceKey, KeyError};
use crate::config::load::{self, Loaded};
use crate::config::problems::Problems;
use crate::config::settings::{Config, LogFormat, SecretPlace};
use crate::config::source::Disk;
use crate::ports::control::Control;
use crate::telemetry::logs;

/// How to run.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The main file.
    pub config: PathBuf,
    /// A broken channel file refuses to start, instead of failing alone.
    pub strict: bool,
}

/// Why the daemon did not run. Each variant is another exit code.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration cannot be used: all its problems, rendered.
    #[error("{0}")]
    Config(Problems),
    /// The instance key or the admin token cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Something else did not start.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Runs until SIGTERM or SIGINT. A second signal ends the process at once; SIGHUP reloads.
///
/// # Errors
/// [`RunError`] if it did not start.
pub async fn run(options: RunOptions) -> Result<(), RunError> {
    let loaded = load::load(&options.config, &Disk).map_err(RunError::Config)?;
    let broken = loaded.channel_problems();
    if options.strict && !broken.is_empty() {
        return Err(RunError::Config(Problems(broken)));
    }
    start_logs(&loaded.config)?;
    for warning in &loaded.warnings {
        tracing::warn!(file = %warning.file, line = warning.line, "{}", warning.message);
    }
    let (key, token) = keys(&loaded)?;
    let channels = loaded.channels.len();
    let gateway = Gateway::start(loaded, key, token).await?;
    tracing::info!(public = %gateway.public, private = %gateway.private, omnigate.channels = channels, "started");
    until_told(&gateway).await.map_err(|error| StartError(format!("signals: {error}")))?;
    gateway.stop().await;
    tracing::info!("stopped");
    Ok(())
}

fn start_logs(config: &Config) -> Result<(), StartError> {
    let format = match config.logs.format {
        LogFormat::Text => logs::LogFormat::Text,
        LogFormat::Json => logs::LogFormat::Json,
    };
    logs::init(&config.logs.level, format).map_err(|error| StartError(format!("[logs] level: {error}")))
}

/// What would end a start, beside the mistakes that reading the files found. Makes nothing.
#[must_use]
pub fn obstacles(config: &Config) -> Vec<String> {
    let level = logs::filter(&config.logs.level).err().map(|error| format!("[logs] level: {error}"));
    let missing = |error: KeyError| match (&config.server.admin_token, error) {
        // It is made by the first run.
        (SecretPlace::File(_), KeyError::Missing { .. }) => None,
        (_, error) => Some(format!("[server] admin_token: {error}")),
    };
    let token = key::admin_token(&config.server.admin_token, &Disk, None).err().and_then(missing);
    level.into_iter().chain(token).collect()
}

/// Reads or makes the instance key and the admin token.
///
/// # Errors
/// [`KeyError`]; a store without its key is one, because another key would make every known message a new one.
pub fn keys(loaded: &Loaded) -> Result<(InstanceKey, secrecy::SecretString), KeyError> {
    let instance = &loaded.config.instance;
    let has_store = instance.data_dir.join("omnigate.db").exists();
    let random = SystemRandom::default();
    let may_make: Option<&dyn crate::ports::clock::Random> = if has_store { None } else { Some(&random) };
    let made = key::instance_key(&instance.key, &Disk, may_make)?;
    if let Some(file) = &made.new_file {
        tracing::warn!(file = %file.display(), "instance key made: back it up apart from the store");
    }
    let token = key::admin_token(&loaded.config.server.admin_token, &Disk, Some(&random))?;
    Ok((made.secret, token.secret))
}

/// Waits for the signal to stop; reloads on SIGHUP meanwhile.
async fn until_told(gateway: &Arc<Gateway>) -> std::io::Result<()> {
    let (mut term, mut int, mut hup) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?);
    loop {
        tokio::select! {
            _ = term.recv() => break,
            _ = int.recv() => break,
            _ = hup.recv() => match gateway.reload().await {
                Ok(reloaded) => {
                    for problem in &reloaded.problems {
                        tracing::warn!(detail = %problem, "reload found a problem");
                    }
                }
                Err(error) => tracing::error!(error = %error, "reload changed nothing"),
            },
        }
    }
    tracing::info!("stopping: a second signal ends at once");
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        tracing::warn!("ended by a second signal: what was in flight is done at the next start");
        // The contract of a second signal is to end now; everything accepted is durable already (I2).
        std::process::exit(130);
    });
    Ok(())
}
