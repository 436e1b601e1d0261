//! `quarantine`: authentic raws that could not be read.

use clap::Subcommand;

use crate::cli::Context;
use crate::cli::exit::Failure;
use crate::cli::reach::{Reach, daemon};
use crate::server::api::reads::Quarantined;
use crate::server::api::verbs::Reprocessed;

/// `quarantine …`.
#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// List quarantined items, newest first
    List {
        /// Of this channel
        #[arg(long)]
        channel: Option<String>,
        /// Items with a number below this, to page back
        #[arg(long, value_name = "ITEM")]
        before: Option<i64>,
        /// At most this many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Show an item with the beginning of its raw
    Show {
        /// Number of the item
        item: i64,
    },
    /// Read an item again, with the mapping of today
    Reprocess {
        /// Numbers of items
        #[arg(required = true)]
        items: Vec<i64>,
    },
}

/// `quarantine`.
pub async fn quarantine(context: &Context, command: QuarantineCommand) -> Result<(), Failure> {
    match command {
        QuarantineCommand::List { channel, before, limit } => {
            let rows = Reach::open(&context.config).await?.quarantine(channel.as_deref(), before, limit).await?;
            context.output.list(&rows, "nothing in quarantine", &["item", "received", "channel", "bytes", "code", "why"], |row| {
                vec![
                    row.item.to_string(),
                    row.received_at.to_string(),
                    row.channel.clone().unwrap_or_else(|| format!("({})", row.source)),
                    row.bytes.to_string(),
                    row.code.clone(),
                    row.detail.clone(),
                ]
            })
        }
        QuarantineCommand::Show { item } => {
            let shown = Reach::open(&context.config).await?.quarantined(item).await?;
            context.output.show(&shown, quarantined_text)
        }
        QuarantineCommand::Reprocess { items } => {
            let client = daemon(&context.config).await?;
            let mut fates = Vec::new();
            for item in items {
                let fate: Reprocessed = client.ask(&["quarantine", &item.to_string(), "reprocess"], &()).await?;
                fates.push(serde_json::json!({ "item": item, "fate": fate.fate }));
            }
            context.output.list(&fates, "", &["item", "fate"], |row| {
                let text = |name: &str| row.get(name).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
                vec![text("item").unwrap_or_default(), text("fate").unwrap_or_default()]
            })
        }
    }
}

fn quarantined_text(shown: &Quarantined) -> String {
    let row = &shown.row;
    let mut text = format!("item      {}\nraw       {}\nreceived  {}\nsource    {}\n", row.item, row.raw, row.received_at, row.source);
    text.push_str(&format!("why       {}: {}\n", row.code, row.detail));
    if let Some(head) = &shown.head {
        if let Some(place) = &head.place {
            text.push_str(&format!("place     {place}\n"));
        }
        text.push_str(&format!("\n{} {}\n", head.method, head.target));
        head.headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\n")));
    }
    match &shown.body {
        Some(body) => {
            let content = body.text.clone().or_else(|| body.base64.as_ref().map(|base64| format!("(binary, base64) {base64}")));
            // What came from outside must not steer the terminal.
            let content: String = content.unwrap_or_default().chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
            text.push_str(&format!("\n{content}\n"));
            if body.truncated {
                text.push_str(&format!("… GET /v1/raws/{} gives all {} bytes\n", row.raw, row.bytes));
            }
        }
        None => text.push_str("\n(the raw is gone)\n"),
    }
    text
}
