//! The command line: one file per family of commands. Tables for people, `--json` for scripts, documented exit codes.

pub mod channels;
pub mod check;
pub mod client;
pub mod connectors;
pub mod daemon;
pub mod deliveries;
pub mod exit;
pub mod ledger;
pub mod login;
pub mod output;
pub mod quarantine;
pub mod reach;
pub mod reference;
pub mod schema;
pub mod skeleton;
pub mod store;
pub mod ticket_systems;
pub mod try_input;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::cli::exit::Failure;
use crate::cli::output::Output;
use crate::config::units;
use crate::model::time::Time;
use crate::ports::clock::Clock;

const AFTER_HELP: &str = "Exit codes: 0 done, 1 failed, 2 wrong command line, 3 mistakes in the configuration, 4 no daemon answers, \
                          5 no such thing, 6 refused or not confirmed.\n\
                          Start here: `omnigate demo`, then `omnigate run`.";

/// Omnichannel message ingestion gateway: mail, chat, social and forms in; one signed, ordered, deduplicated stream out.
#[derive(Debug, Parser)]
#[command(name = "omnigate", version, after_help = AFTER_HELP, propagate_version = true, max_term_width = 120)]
pub struct Cli {
    /// The main file; unset: the variable OMNIGATE_CONFIG, else config/omnigate.toml
    #[arg(long, short, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Write results as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway until SIGTERM or Ctrl-C
    Run(daemon::RunArgs),
    /// Check the configuration: all mistakes at once, nothing is touched
    Check(check::CheckArgs),
    /// Show what an input becomes, offline and without a store
    Try(try_input::TryArgs),
    /// Show the gateway at work: recorded traffic in, a verified stream out
    Demo(daemon::DemoArgs),
    /// Make the running gateway read its configuration again
    Reload,
    /// The gateway at a glance
    Status,
    /// What became of every item ever received
    Ledger(ledger::LedgerArgs),
    /// One message with its events and deliveries
    Message(ledger::MessageArgs),
    /// Dead letters: deliveries that need a person
    #[command(subcommand)]
    Dead(deliveries::DeadCommand),
    /// Authentic items that could not be read
    #[command(subcommand)]
    Quarantine(quarantine::QuarantineCommand),
    /// Send events to a destination again
    Replay(deliveries::ReplayArgs),
    /// Take in what lies before a pulled channel's first run
    Backfill(channels::BackfillArgs),
    /// Compare a channel's mailbox with what was taken in from it
    Reconcile(channels::ReconcileArgs),
    /// Where events go
    #[command(subcommand)]
    Destination(deliveries::DestinationCommand),
    /// The configured channels
    #[command(subcommand)]
    Channel(channels::ChannelCommand),
    /// Connectors: how to talk to a platform
    #[command(subcommand)]
    Connector(connectors::ConnectorCommand),
    /// Print a JSON Schema
    Schema(schema::SchemaArgs),
    /// Bring the store to this version's form (run does it too)
    Migrate,
    /// Copy the store into a new folder while the gateway runs
    Backup(store::BackupArgs),
    /// Put a backup in the place of the store, while no gateway runs
    Restore(store::RestoreArgs),
    /// Erase a contact: content and raws go, tombstones and digests stay
    Erase(store::EraseArgs),
    /// Print the reference of all commands as Markdown
    #[command(hide = true)]
    Reference,
}

/// What every command gets.
#[derive(Debug, Clone)]
pub struct Context {
    /// The main file.
    pub config: PathBuf,
    /// How results are written.
    pub output: Output,
}

/// Parses the command line, does it, and says how it ended.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match perform(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::remark(&failure.to_string());
            failure.code()
        }
    }
}

fn perform(cli: Cli) -> Result<(), Failure> {
    let config = cli.config.or_else(|| std::env::var_os("OMNIGATE_CONFIG").map(PathBuf::from));
    let config = config.unwrap_or_else(|| PathBuf::from("config/omnigate.toml"));
    let context = Context { config, output: Output { json: cli.json } };
    let serving = matches!(cli.command, Command::Run(_) | Command::Demo(_));
    let mut builder = if serving { tokio::runtime::Builder::new_multi_thread() } else { tokio::runtime::Builder::new_current_thread() };
    let runtime = builder.enable_all().build()?;
    runtime.block_on(dispatch(&context, cli.command))
}

async fn dispatch(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(args) => daemon::run(context, args).await,
        Command::Check(args) => check::check(context, &args).await,
        Command::Try(args) => try_input::try_input(context, &args),
        Command::Demo(args) => daemon::demo(&args).await,
        Command::Reload => daemon::reload(context).await,
        Command::Status => daemon::status(context).await,
        Command::Ledger(args) => ledger::ledger(context, args).await,
        Command::Message(args) => ledger::message(context, &args).await,
        Command::Dead(command) => deliveries::dead(context, command).await,
        Command::Quarantine(command) => quarantine::quarantine(context, command).await,
        Command::Replay(args) => deliveries::replay(context, args).await,
        Command::Backfill(args) => channels::backfill(context, &args).await,
        Command::Reconcile(args) => channels::reconcile(context, &args).await,
        Command::Destination(command) => deliveries::destination(context, command).await,
        Command::Channel(command) => channels::channel(context, command).await,
        Command::Connector(command) => connectors::connector(context, &command),
        Command::Schema(args) => schema::schema(&args),
        Command::Migrate => store::migrate(context).await,
        Command::Backup(args) => store::backup(context, &args).await,
        Command::Restore(args) => store::restore(context, &args).await,
        Command::Erase(args) => store::erase(context, &args).await,
        Command::Reference => output::print(&reference::markdown(Cli::command())),
    }
}

/// `--since` and `--until`: an RFC 3339 time, or how long ago: `2h`.
pub fn moment(text: &str) -> Result<Time, String> {
    if let Some(time) = Time::parse(text) {
        return Ok(time);
    }
    let ago = units::duration(text).map_err(|_| "expected a time such as 2026-11-22T09:00:00Z, or how long ago: 2h, 14d".to_owned())?;
    let now = crate::app::system::SystemClock::default().now();
    Ok(now.plus_ms(-i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)))
}

/// A filter's word, such as a fate or state, by the form serde gives it.
pub fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).map_err(|error| error.to_string())
}
