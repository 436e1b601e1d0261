//! `run`, `demo`, `reload`, `status`.

use clap::Args;

use crate::app;
use crate::app::run::{RunError, RunOptions};
use crate::cli::Context;
use crate::cli::exit::Failure;
use crate::cli::output::{or_dash, print, table};
use crate::cli::reach::{Reach, daemon};
use crate::model::turns::Span;
use crate::model::view::{DestinationMode, DestinationRow, Totals};
use crate::ports::control::Reloaded;
use crate::server::api::reads::StatusView;

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Refuse to start when a channel file is broken or a secret of it is not set
    #[arg(long)]
    pub strict: bool,
}

/// `run`.
pub async fn run(context: &Context, args: RunArgs) -> Result<(), Failure> {
    let options = RunOptions { config: context.config.clone(), strict: args.strict };
    app::run::run(options).await.map_err(|error| match error {
        RunError::Config(problems) => Failure::Config(problems),
        other => Failure::Failed(other.to_string()),
    })
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Go on after the story, until Ctrl-C
    #[arg(long)]
    pub stay: bool,
}

/// `demo`.
pub async fn demo(args: &DemoArgs) -> Result<(), Failure> {
    app::demo::demo(app::demo::DemoOptions { stay: args.stay }).await.map_err(|error| Failure::Failed(error.to_string()))
}

/// `reload`.
pub async fn reload(context: &Context) -> Result<(), Failure> {
    let reloaded: Reloaded = daemon(&context.config).await?.ask(&["reload"], &()).await?;
    context.output.show(&reloaded, |reloaded| {
        let mut text = String::new();
        for (word, names) in [("added", &reloaded.added), ("changed", &reloaded.changed), ("removed", &reloaded.removed)] {
            if !names.is_empty() {
                text.push_str(&format!("{word}: {}\n", names.join(", ")));
            }
        }
        if text.is_empty() {
            text.push_str("nothing changed\n");
        }
        for problem in &reloaded.problems {
            text.push_str(&format!("\n{problem}\n"));
        }
        text
    })
}

/// `status`.
pub async fn status(context: &Context) -> Result<(), Failure> {
    match Reach::open(&context.config).await?.status().await? {
        Ok(status) => {
            context.output.show(&status, status_text)?;
            if status.gateway.ready { Ok(()) } else { Err(Failure::Failed("the gateway takes no messages".to_owned())) }
        }
        Err((destinations, totals)) => {
            let value = serde_json::json!({ "ready": false, "running": false, "destinations": destinations, "totals": totals });
            context.output.show(&value, |_| {
                format!("no gateway runs; its store says:\n\n{}\n{}", destinations_text(&destinations), totals_text(&totals))
            })
        }
    }
}

fn status_text(status: &StatusView) -> String {
    let gateway = &status.gateway;
    let ready = if gateway.ready { "ready".to_owned() } else { format!("NOT READY: {}", gateway.not_ready.join(", ")) };
    let mut text = format!("omnigate {}, up since {}: {ready}; {} in the queue\n\n", gateway.version, gateway.started_at, gateway.queue);
    let rows = gateway.channels.iter().map(|(id, channel)| {
        vec![
            id.clone(),
            channel.connector.clone(),
            channel.state.clone(),
            or_dash(channel.last_received),
            channel.detail.clone().or_else(|| channel.code.clone()).unwrap_or_default(),
        ]
    });
    text.push_str(&table(&["channel", "connector", "state", "last received", "why"], rows));
    text.push('\n');
    text.push_str(&destinations_text(&status.destinations));
    text.push('\n');
    text.push_str(&totals_text(&status.totals));
    text
}

/// Destinations as a table.
pub fn destinations_text(rows: &[DestinationRow]) -> String {
    if rows.is_empty() {
        return "no destinations\n".to_owned();
    }
    let count = |row: &DestinationRow, state: &str| row.deliveries.get(state).copied().unwrap_or(0).to_string();
    let cells = rows.iter().map(|row| {
        let mode = match row.state {
            DestinationMode::Active => "active",
            DestinationMode::Paused => "paused",
            DestinationMode::Halted => "halted",
        };
        let gone = if row.configured { "" } else { " (not configured)" };
        vec![
            format!("{}{gone}", row.name),
            mode.to_owned(),
            count(row, "waiting"),
            count(row, "delivered"),
            count(row, "dead"),
            or_dash(row.oldest_waiting),
            destination_why(row),
        ]
    });
    table(&["destination", "state", "waiting", "delivered", "dead", "oldest waiting", "why"], cells)
}

/// Why a destination takes nothing, or what it last said to what is tried again.
fn destination_why(row: &DestinationRow) -> String {
    let retrying = row.retrying.as_ref().filter(|_| row.code.is_none());
    let said = retrying.map(|retrying| {
        let parts = [&retrying.code, &retrying.detail].map(|part| part.as_deref().unwrap_or_default());
        format!("trying since {}: {}", retrying.since, parts.join(" ").trim())
    });
    said.or_else(|| row.code.clone()).unwrap_or_default()
}

fn totals_text(totals: &Totals) -> String {
    let none = std::collections::BTreeMap::new();
    let rows = totals.received.iter().map(|(channel, received)| {
        let fates = totals.fates.get(channel).unwrap_or(&none);
        let fate = |word: &str| fates.get(word).copied().unwrap_or(0).to_string();
        vec![
            channel.clone(),
            received.to_string(),
            fate("published"),
            fate("duplicate"),
            fate("ignored"),
            fate("quarantined"),
            fate("pending"),
        ]
    });
    let mut text = table(&["items of", "received", "published", "duplicate", "ignored", "quarantined", "pending"], rows);
    if !totals.spans.is_empty() {
        text.push('\n');
        text.push_str(&answers_text(totals));
    }
    text
}

/// How channels are answered: counts and means.
fn answers_text(totals: &Totals) -> String {
    let rows = totals.spans.iter().map(|(channel, spans)| {
        let of = |span: Span| match spans.get(span.as_str()) {
            Some(spans) if spans.count() > 0 => format!("{} in {}", spans.count(), spell(spans.mean_ms().unwrap_or(0))),
            _ => "-".to_owned(),
        };
        let waiting = totals.waiting.get(channel).copied().unwrap_or(0).to_string();
        vec![channel.clone(), waiting, of(Span::FirstResponse), of(Span::NextResponse), of(Span::Resolution)]
    });
    table(&["answers of", "waiting", "first response", "next response", "resolution"], rows)
}

/// A span for people: its two greatest units.
fn spell(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// Something was done and has no more to say than this.
pub fn done(context: &Context, text: &str) -> Result<(), Failure> {
    if context.output.json { print("{}") } else { print(text) }
}
