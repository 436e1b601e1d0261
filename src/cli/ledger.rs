//! `ledger` and `message`: what became of everything that was received.

use std::collections::BTreeSet;

use clap::Args;

use crate::cli::exit::Failure;
use crate::cli::output::{or_dash, table};
use crate::cli::reach::Reach;
use crate::cli::{Context, moment, word};
use crate::model::id::{ConversationId, MessageId, RawId};
use crate::model::item::Fate;
use crate::model::ticket::{TicketEntryRow, TicketFilter};
use crate::model::time::Time;
use crate::model::view::{DeliveryView, LedgerFilter, LedgerRow, MessageView};

/// Arguments of `ledger`.
#[derive(Debug, Args)]
pub struct LedgerArgs {
    /// Of this channel
    #[arg(long)]
    pub channel: Option<String>,
    /// With this fate: published, duplicate, ignored, quarantined, pending
    #[arg(long, value_parser = word::<Fate>)]
    pub fate: Option<Fate>,
    /// Of this raw
    #[arg(long)]
    pub raw: Option<RawId>,
    /// Of this message
    #[arg(long)]
    pub message: Option<MessageId>,
    /// Of this conversation
    #[arg(long)]
    pub conversation: Option<ConversationId>,
    /// Of the conversations of this ticket: its id in the ticket system, alone or as DESTINATION:TICKET
    #[arg(long, conflicts_with = "conversation")]
    pub ticket: Option<String>,
    /// Received since: a time, or how long ago (2h)
    #[arg(long, value_parser = moment)]
    pub since: Option<Time>,
    /// Items with a number below this, to page back
    #[arg(long, value_name = "ITEM")]
    pub before: Option<i64>,
    /// At most this many, newest first
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
}

/// `ledger`.
pub async fn ledger(context: &Context, args: LedgerArgs) -> Result<(), Failure> {
    let filter = LedgerFilter {
        channel: args.channel,
        fate: args.fate,
        raw: args.raw,
        message: args.message,
        conversation: args.conversation,
        since: args.since,
        before: args.before,
        limit: args.limit,
    };
    let reach = Reach::open(&context.config).await?;
    let rows = match args.ticket {
        None => reach.ledger(filter).await?,
        Some(ticket) => of_ticket(&reach, &ticket, filter).await?,
    };
    context.output.list(&rows, "nothing received yet", HEAD, cells)
}

/// The items of all conversations that a ticket is of: several, where agents joined theirs.
async fn of_ticket(reach: &Reach, ticket: &str, filter: LedgerFilter) -> Result<Vec<LedgerRow>, Failure> {
    let (destination, id) = ticket.split_once(':').map_or((None, ticket), |(destination, id)| (Some(destination.to_owned()), id));
    let known = reach.tickets(TicketFilter { destination, ticket: Some(id.to_owned()), ..TicketFilter::default() }).await?;
    if known.is_empty() {
        return Err(Failure::Missing(format!("no ticket {ticket}")));
    }
    let conversations: BTreeSet<ConversationId> = known.into_iter().map(|row| row.conversation).collect();
    let mut rows = Vec::new();
    for conversation in conversations {
        rows.extend(reach.ledger(LedgerFilter { conversation: Some(conversation), ..filter.clone() }).await?);
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.item));
    rows.truncate(usize::try_from(filter.limit).unwrap_or(usize::MAX));
    Ok(rows)
}

const HEAD: &[&str] = &["item", "received", "channel", "via", "kind", "fate", "why", "message", "conversation", "tickets"];

fn cells(row: &LedgerRow) -> Vec<String> {
    vec![
        row.item.to_string(),
        row.received_at.to_string(),
        row.channel.clone().unwrap_or_else(|| format!("({})", row.source)),
        row.via.as_str().to_owned(),
        row.kind.clone(),
        row.fate.as_str().to_owned(),
        row.code.clone().or_else(|| row.duplicate_of.map(|item| format!("of {item}"))).unwrap_or_default(),
        or_dash(row.message),
        or_dash(row.conversation),
        row.tickets.join(" "),
    ]
}

/// Arguments of `message`.
#[derive(Debug, Args)]
pub struct MessageArgs {
    /// Id of the message: msg_…
    pub id: MessageId,
}

/// `message`.
pub async fn message(context: &Context, args: &MessageArgs) -> Result<(), Failure> {
    let message = Reach::open(&context.config).await?.message(args.id).await?;
    context.output.show(&message, message_text)
}

fn message_text(message: &MessageView) -> String {
    let gone = if message.gone { "  (deleted or erased)" } else { "" };
    let mut text = format!("message       {}{gone}\nkey           {}\nconversation  {}\n", message.id, message.key, message.conversation);
    text.push_str(&format!("contact       {}\nchannel       {}\n", or_dash(message.contact), message.channel));
    for ticket in &message.tickets {
        let (id, url) = (ticket.ticket.as_deref().unwrap_or("-"), ticket.url.as_deref().unwrap_or_default());
        text.push_str(&format!("ticket        {} {id} {} {url}\n", ticket.destination, ticket.state.as_str()));
    }
    for event in &message.events {
        text.push_str(&format!("\n{} {} sequence {}\n", event.event_type, event.id, event.sequence));
        if let Some(frozen) = &event.event {
            let shown = serde_json::to_string_pretty(frozen).unwrap_or_default();
            text.push_str(&format!("{shown}\n"));
        }
        text.push_str(&table(DELIVERY_HEAD, event.deliveries.iter().map(delivery_cells)));
        if !event.entries.is_empty() {
            text.push_str(&table(ENTRY_HEAD, event.entries.iter().map(entry_cells)));
        }
    }
    text.push('\n');
    text.push_str(&table(HEAD, message.ledger.iter().map(cells)));
    text
}

const ENTRY_HEAD: &[&str] = &["destination", "ticket", "entry", "id there", "state", "sent", "at"];

fn entry_cells(row: &TicketEntryRow) -> Vec<String> {
    vec![
        row.destination.clone(),
        row.ticket.clone().unwrap_or_else(|| "-".to_owned()),
        row.external.clone(),
        row.entry.clone().unwrap_or_else(|| "-".to_owned()),
        row.state.as_str().to_owned(),
        row.times.to_string(),
        row.at.to_string(),
    ]
}

/// Columns of deliveries.
pub const DELIVERY_HEAD: &[&str] = &["destination", "event", "type", "state", "tries", "at", "code", "status", "why"];

/// Cells of a delivery.
pub fn delivery_cells(row: &DeliveryView) -> Vec<String> {
    vec![
        row.destination.clone(),
        row.event.to_string(),
        row.event_type.clone(),
        format!("{}{}", row.state.as_str(), if row.replay { " (replay)" } else { "" }),
        row.attempts.to_string(),
        row.at.to_string(),
        row.code.clone().unwrap_or_default(),
        row.status.map(|status| status.to_string()).unwrap_or_default(),
        row.detail.clone().unwrap_or_default(),
    ]
}
