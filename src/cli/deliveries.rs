//! `dead`, `replay`, `destination`: what is owed, what failed, and doing it again.

use clap::{Args, Subcommand};

use crate::cli::daemon::{destinations_text, done};
use crate::cli::exit::Failure;
use crate::cli::ledger::{DELIVERY_HEAD, delivery_cells};
use crate::cli::output::{Busy, confirm, print, table};
use crate::cli::reach::{Reach, daemon};
use crate::cli::{Context, moment};
use crate::config::load::load;
use crate::config::source::Disk;
use crate::config::units::Rate;
use crate::model::delivery::DeliveryState;
use crate::model::id::{ConversationId, EventId};
use crate::model::time::Time;
use crate::model::view::DeliveryFilter;
use crate::ports::control::ReplayRequest;
use crate::ports::ticket::Prepared;
use crate::server::api::Count;
use crate::server::api::verbs::DeadAsked;

/// Which deliveries.
#[derive(Debug, Args)]
pub struct Which {
    /// To this destination
    #[arg(long, value_name = "NAME")]
    pub destination: Option<String>,
    /// Of this event: evt_…
    #[arg(long)]
    pub event: Option<EventId>,
    /// Of this conversation: cnv_…
    #[arg(long)]
    pub conversation: Option<ConversationId>,
    /// Of events of this type, such as message.created
    #[arg(long = "type", value_name = "TYPE")]
    pub event_type: Option<String>,
    /// With this code, such as rejected
    #[arg(long)]
    pub code: Option<String>,
    /// Of events published since: a time, or how long ago (2h)
    #[arg(long, value_parser = moment)]
    pub since: Option<Time>,
    /// Of events published before: a time, or how long ago
    #[arg(long, value_parser = moment)]
    pub until: Option<Time>,
}

impl Which {
    fn filter(self) -> DeliveryFilter {
        DeliveryFilter {
            destination: self.destination,
            event: self.event,
            conversation: self.conversation,
            event_type: self.event_type,
            code: self.code,
            since: self.since,
            until: self.until,
            ..DeliveryFilter::default()
        }
    }
}

/// `dead …`.
#[derive(Debug, Subcommand)]
pub enum DeadCommand {
    /// List dead letters
    List {
        /// Which.
        #[command(flatten)]
        which: Which,
        /// At most this many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Show an event and what became of its deliveries
    Show {
        /// Id of the event: evt_…
        event: EventId,
    },
    /// Make dead letters due again, at their place in the order
    Replay {
        /// Which.
        #[command(flatten)]
        which: Which,
        /// Every dead letter there is
        #[arg(long)]
        all: bool,
    },
    /// Drop dead letters for good
    Discard {
        /// Which.
        #[command(flatten)]
        which: Which,
        /// Every dead letter there is
        #[arg(long)]
        all: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// `dead`.
pub async fn dead(context: &Context, command: DeadCommand) -> Result<(), Failure> {
    match command {
        DeadCommand::List { which, limit } => {
            let filter = DeliveryFilter { state: Some(DeliveryState::Dead), limit, ..which.filter() };
            let rows = Reach::open(&context.config).await?.deliveries(filter).await?;
            context.output.list(&rows, "no dead letters", DELIVERY_HEAD, delivery_cells)
        }
        DeadCommand::Show { event } => {
            let event = Reach::open(&context.config).await?.event(event).await?;
            context.output.show(&event, |event| {
                let shown = event.event.as_ref().map(|frozen| serde_json::to_string_pretty(frozen).unwrap_or_default());
                let shown = shown.unwrap_or_else(|| "(its content is gone)".to_owned());
                format!("{shown}\n\n{}", table(DELIVERY_HEAD, event.deliveries.iter().map(delivery_cells)))
            })
        }
        DeadCommand::Replay { which, all } => {
            let asked = asked(which, all)?;
            let count: Count = daemon(&context.config).await?.ask(&["dead", "replay"], &asked).await?;
            context.output.show(&count, |count| format!("{} due again", deliveries(count.count)))
        }
        DeadCommand::Discard { which, all, yes } => {
            let asked = asked(which, all)?;
            let client = daemon(&context.config).await?;
            confirm("Dropped dead letters cannot be brought back. Drop them?", yes)?;
            let count: Count = client.ask(&["dead", "discard"], &asked).await?;
            context.output.show(&count, |count| format!("{} dropped", deliveries(count.count)))
        }
    }
}

fn asked(which: Which, all: bool) -> Result<DeadAsked, Failure> {
    let filter = which.filter();
    if filter == DeliveryFilter::default() && !all {
        return Err(Failure::Usage("say which dead letters, or --all".to_owned()));
    }
    Ok(DeadAsked { filter, all })
}

fn deliveries(count: u64) -> String {
    if count == 1 { "1 delivery".to_owned() } else { format!("{count} deliveries") }
}

/// Arguments of `replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Destination that gets them again
    #[arg(long = "to", value_name = "DESTINATION")]
    pub to: String,
    /// Only this event: evt_…
    #[arg(long)]
    pub event: Option<EventId>,
    /// Only this conversation: cnv_…
    #[arg(long)]
    pub conversation: Option<ConversationId>,
    /// Only events of this type
    #[arg(long = "type", value_name = "TYPE")]
    pub event_type: Option<String>,
    /// Only events published since: a time, or how long ago (2h)
    #[arg(long, value_parser = moment)]
    pub since: Option<Time>,
    /// Only events published before: a time, or how long ago
    #[arg(long, value_parser = moment)]
    pub until: Option<Time>,
    /// Only count
    #[arg(long)]
    pub dry_run: bool,
    /// At most so many a time, such as 50/s; the destination's own rate holds besides
    #[arg(long, value_parser = Rate::parse)]
    pub rate: Option<Rate>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// `replay`: counts first, so that nobody replays a year by mistake.
pub async fn replay(context: &Context, args: ReplayArgs) -> Result<(), Failure> {
    let filter = DeliveryFilter {
        destination: Some(args.to.clone()),
        event: args.event,
        conversation: args.conversation,
        event_type: args.event_type,
        since: args.since,
        until: args.until,
        ..DeliveryFilter::default()
    };
    let mut request = ReplayRequest { filter, dry_run: true, rate: args.rate.map(Rate::per_second) };
    let client = daemon(&context.config).await?;
    let count: Count = client.ask(&["replay"], &request).await?;
    if args.dry_run || count.count == 0 {
        return context.output.show(&count, |count| format!("{} would be sent again", deliveries(count.count)));
    }
    confirm(&format!("Send {} to {} again?", deliveries(count.count), args.to), args.yes)?;
    request.dry_run = false;
    let busy = Busy::with("replaying");
    let count: Count = client.ask(&["replay"], &request).await?;
    drop(busy);
    context.output.show(&count, |count| format!("{} due again", deliveries(count.count)))
}

/// `destination …`.
#[derive(Debug, Subcommand)]
pub enum DestinationCommand {
    /// List destinations and what they are owed
    List,
    /// Hold deliveries to a destination; nothing is lost
    Pause {
        /// Its name
        name: String,
    },
    /// Deliver to a paused or halted destination again
    Resume {
        /// Its name
        name: String,
    },
    /// Look at what a ticket system must have for us, and make what is missing where its API allows
    Prepare {
        /// Its name
        name: String,
        /// Only look
        #[arg(long)]
        look: bool,
    },
    /// Drop everything that waits for a destination that is no longer configured
    Drop {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// `destination`.
pub async fn destination(context: &Context, command: DestinationCommand) -> Result<(), Failure> {
    match command {
        DestinationCommand::List => {
            let rows = Reach::open(&context.config).await?.destinations().await?;
            if context.output.json { context.output.show(&rows, |_| String::new()) } else { print(&destinations_text(&rows)) }
        }
        DestinationCommand::Pause { name } => {
            daemon(&context.config).await?.ask::<serde_json::Value>(&["destinations", &name, "pause"], &()).await?;
            done(context, &format!("{name} is paused: its deliveries wait"))
        }
        DestinationCommand::Resume { name } => {
            daemon(&context.config).await?.ask::<serde_json::Value>(&["destinations", &name, "resume"], &()).await?;
            done(context, &format!("{name} gets its deliveries again"))
        }
        DestinationCommand::Prepare { name, look } => {
            let loaded = load(&context.config, &Disk).map_err(Failure::Config)?;
            let busy = Busy::with("looking");
            let rows = crate::app::look::prepare(&loaded, &name, !look).await.map_err(Failure::Failed)?;
            drop(busy);
            let line = |row: &Prepared| {
                let word = if row.made {
                    "made   "
                } else if row.ok {
                    "ok     "
                } else {
                    "MISSING"
                };
                format!("{word}  {}: {}\n", row.what, row.line)
            };
            context.output.show(&rows, |rows| rows.iter().map(line).collect::<String>())?;
            match rows.iter().filter(|row| !row.ok).count() {
                0 => Ok(()),
                bad => Err(Failure::Failed(format!("{bad} missing"))),
            }
        }
        DestinationCommand::Drop { name, yes } => {
            let client = daemon(&context.config).await?;
            confirm(&format!("Everything that waits for {name} is lost to it. Drop it?"), yes)?;
            let count: Count = client.ask(&["destinations", &name, "drop"], &()).await?;
            context.output.show(&count, |count| format!("{} dropped, {name} is forgotten", deliveries(count.count)))
        }
    }
}
