//! `channel`, `backfill` and `reconcile`.

use clap::{Args, Subcommand};

use crate::cli::daemon::done;
use crate::cli::exit::Failure;
use crate::cli::output::{Busy, or_dash, remark};
use crate::cli::reach::{Reach, daemon};
use crate::cli::{Context, login, moment};
use crate::config::load::load;
use crate::config::source::Disk;
use crate::model::time::Time;
use crate::ports::control::{FolderCompared, Sample, SubscriptionView};
use crate::server::api::Page;
use crate::server::api::reads::ChannelRow;
use crate::server::api::verbs::{BackfillAsked, ReconcileAsked};

/// `channel …`.
#[derive(Debug, Subcommand)]
pub enum ChannelCommand {
    /// List the channels and how they are
    List,
    /// Log in at the identity provider of a channel with OAuth, once
    Login(login::LoginArgs),
    /// Make the platform of a channel call its hook, and keep it so: leases are renewed by the daemon
    Subscribe(SubscriptionArgs),
    /// Make the platform of a channel call its hook no longer
    Unsubscribe(SubscriptionArgs),
    /// Whether the platform of a channel calls its hook: it is asked, where it can be
    Status(SubscriptionArgs),
}

/// Arguments of `channel subscribe`, `channel unsubscribe` and `channel status`.
#[derive(Debug, Args)]
pub struct SubscriptionArgs {
    /// Id of the channel
    pub channel: String,
}

/// `channel`.
pub async fn channel(context: &Context, command: ChannelCommand) -> Result<(), Failure> {
    match command {
        ChannelCommand::List => list(context).await,
        ChannelCommand::Login(args) => login::login(context, &args).await,
        ChannelCommand::Subscribe(args) => {
            let busy = Busy::with("asking the platform");
            let path = ["channels", args.channel.as_str(), "subscribe"];
            let asked = daemon(&context.config).await?.ask(&path, &serde_json::json!({})).await;
            drop(busy);
            subscription(context, &asked?, true)
        }
        ChannelCommand::Unsubscribe(args) => {
            let path = ["channels", args.channel.as_str(), "unsubscribe"];
            let asked = daemon(&context.config).await?.ask(&path, &serde_json::json!({})).await?;
            subscription(context, &asked, false)
        }
        ChannelCommand::Status(args) => {
            let reach = Reach::open(&context.config).await?;
            if let Reach::Store(..) = reach {
                remark("omnigate: no daemon answers; this is what the store knows, and nothing is renewed");
            }
            subscription(context, &reach.subscription(&args.channel).await?, false)
        }
    }
}

/// Shows a subscription. `wanted`: the person waits for it to be there.
fn subscription(context: &Context, seen: &SubscriptionView, wanted: bool) -> Result<(), Failure> {
    let head = &["channel", "state", "since", "ends", "renewed", "hook", "why"];
    context.output.list(std::slice::from_ref(seen), "no subscription", head, |seen| {
        vec![
            seen.channel.clone(),
            seen.state.clone(),
            or_dash(seen.since),
            or_dash(seen.ends),
            or_dash(seen.renews),
            or_dash(seen.hook.clone()),
            seen.detail.clone().or_else(|| seen.code.clone()).unwrap_or_default(),
        ]
    })?;
    if wanted && seen.state == "asking" {
        remark("the platform has not confirmed it yet; the daemon goes on asking");
    }
    Ok(())
}

async fn list(context: &Context) -> Result<(), Failure> {
    match daemon(&context.config).await {
        Ok(client) => {
            let page: Page<ChannelRow> = client.read(&["channels"], &()).await?;
            let head = &["channel", "connector", "state", "hook", "last received", "why"];
            context.output.list(&page.items, "no channels", head, |row| {
                let status = &row.status;
                vec![
                    row.id.clone(),
                    status.connector.clone(),
                    status.state.clone(),
                    or_dash(status.hook.clone()),
                    or_dash(status.last_received),
                    status.detail.clone().or_else(|| status.code.clone()).unwrap_or_default(),
                ]
            })
        }
        Err(Failure::Unreachable(why)) => {
            remark(&format!("omnigate: {why}; this is what the files say"));
            configured(context)
        }
        Err(other) => Err(other),
    }
}

/// The channels of the files, while no daemon runs.
fn configured(context: &Context) -> Result<(), Failure> {
    let loaded = load(&context.config, &Disk)?;
    let rows: Vec<serde_json::Value> = loaded
        .channels
        .iter()
        .map(|(id, channel)| match channel {
            Ok(file) => {
                let state = if file.enabled { "configured" } else { "disabled" };
                serde_json::json!({ "id": id, "connector": file.connector, "state": state, "detail": null })
            }
            Err(failed) => {
                let why = failed.problems.first().map(|problem| problem.message.clone());
                serde_json::json!({ "id": id, "connector": failed.connector, "state": "failed", "detail": why })
            }
        })
        .collect();
    context.output.list(&rows, "no channels", &["channel", "connector", "state", "why"], |row| {
        let text = |name: &str| row.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        vec![text("id"), text("connector"), text("state"), text("detail")]
    })
}

/// Arguments of `backfill`.
#[derive(Debug, Args)]
pub struct BackfillArgs {
    /// Id of the channel
    pub channel: String,
    /// Nothing older than this: a time, or how long ago (30d). Unset: everything
    #[arg(long, value_parser = moment)]
    pub since: Option<Time>,
    /// Only this folder
    #[arg(long)]
    pub folder: Option<String>,
}

/// `backfill`.
pub async fn backfill(context: &Context, args: &BackfillArgs) -> Result<(), Failure> {
    let asked = BackfillAsked { since: args.since, folder: args.folder.clone() };
    let path = ["channels", args.channel.as_str(), "backfill"];
    daemon(&context.config).await?.ask::<serde_json::Value>(&path, &asked).await?;
    let note = "backfill asked for; what it brings is marked historic and reaches only routes with `historic = true`";
    done(context, note)
}

/// Arguments of `reconcile`.
#[derive(Debug, Args)]
pub struct ReconcileArgs {
    /// Id of the channel
    pub channel: String,
    /// Take in what was overlooked
    #[arg(long)]
    pub repair: bool,
}

/// `reconcile`. Ends with 1 where something was overlooked and is not being repaired.
pub async fn reconcile(context: &Context, args: &ReconcileArgs) -> Result<(), Failure> {
    let busy = Busy::with("comparing");
    let compared = compared(context, args).await;
    drop(busy);
    let folders = compared?;
    let head = &["folder", "state", "mailbox", "known", "awaited", "before", "missing", "extra", "changed"];
    context.output.list(&folders, "no folders", head, |folder| {
        let sample = |sample: &Sample| match sample.numbers.as_slice() {
            [] => "0".to_owned(),
            numbers => {
                let first: Vec<String> = numbers.iter().take(NUMBERS_SHOWN).map(u64::to_string).collect();
                let more = if sample.count > first.len() as u64 { ", …" } else { "" };
                format!("{} ({}{more})", sample.count, first.join(", "))
            }
        };
        let counts = [folder.mailbox, folder.known, folder.awaited, folder.before_first_run].map(|count| count.to_string());
        let samples = [&folder.missing, &folder.extra, &folder.changed].map(sample);
        [folder.folder.clone(), folder.state.clone()].into_iter().chain(counts).chain(samples).collect()
    })?;
    let overlooked = folders.iter().map(|folder| folder.missing.count + folder.changed.count).sum::<u64>();
    match (overlooked, args.repair) {
        (0, _) => Ok(()),
        (_, true) => {
            remark("what was overlooked is being taken in; run it again in a while");
            Ok(())
        }
        (count, false) => Err(Failure::Failed(format!("{count} overlooked: `omnigate reconcile {} --repair` takes them in", args.channel))),
    }
}

/// Numbers of mails in a table; `--json` has more.
const NUMBERS_SHOWN: usize = 5;

async fn compared(context: &Context, args: &ReconcileArgs) -> Result<Vec<FolderCompared>, Failure> {
    match daemon(&context.config).await {
        Ok(client) => {
            let path = ["channels", args.channel.as_str(), "reconcile"];
            let page: Page<FolderCompared> = client.ask(&path, &ReconcileAsked { repair: args.repair }).await?;
            Ok(page.items)
        }
        Err(Failure::Unreachable(why)) if args.repair => Err(Failure::Unreachable(format!("{why}; only the daemon can repair"))),
        Err(Failure::Unreachable(_)) => {
            let loaded = load(&context.config, &Disk)?;
            crate::app::look::reconcile(&loaded, &args.channel).await.map_err(Failure::Failed)
        }
        Err(other) => Err(other),
    }
}
