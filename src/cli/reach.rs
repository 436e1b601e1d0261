//! Reach: the running daemon, or, for reading while none runs, its store.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::app::system::SystemClock;
use crate::cli::client::Client;
use crate::cli::exit::Failure;
use crate::config::key::{KeyError, admin_token};
use crate::config::load::{load, load_reach};
use crate::config::settings::Server;
use crate::config::source::Disk;
use crate::model::id::{EventId, MessageId};
use crate::model::ticket::{TicketFilter, TicketRow};
use crate::model::view::{
    DeliveryFilter, DeliveryView, DestinationRow, EventView, LedgerFilter, LedgerRow, MessageView, QuarantineRow, Totals,
};
use crate::pipeline::subscribe;
use crate::ports::blobs::{BlobError, Blobs};
use crate::ports::clock::Clock;
use crate::ports::control::SubscriptionView;
use crate::ports::store::{Store, StoreError};
use crate::server::api::Page;
use crate::server::api::reads::{Quarantined, StatusView, quarantined_row};
use crate::stores::folder::FolderBlobs;
use crate::stores::sqlite::SqliteStore;

/// What answers questions.
pub enum Reach {
    /// The daemon.
    Daemon(Client),
    /// Its store, read-only, and the destinations that the main file names; `None` where it cannot be read whole at this desk.
    Store(Box<SqliteStore>, Option<BTreeSet<String>>),
}

/// The daemon, for commands that change something.
pub async fn daemon(config: &Path) -> Result<Client, Failure> {
    let (_, server, _) = load_reach(config, &Disk)?;
    let client = client(&server)?;
    if client.answers().await {
        Ok(client)
    } else {
        Err(Failure::Unreachable(format!("no daemon answers at {}: start it with `omnigate run`", server.private)))
    }
}

/// The store's folder.
pub fn data_dir(config: &Path) -> Result<PathBuf, Failure> {
    Ok(load_reach(config, &Disk)?.0.data_dir)
}

/// Whether a daemon answers.
pub async fn runs(config: &Path) -> Result<bool, Failure> {
    let (_, server, _) = load_reach(config, &Disk)?;
    Ok(match client(&server) {
        Ok(client) => client.answers().await,
        Err(_) => false,
    })
}

fn client(server: &Server) -> Result<Client, Failure> {
    match admin_token(&server.admin_token, &Disk, None) {
        Ok(token) => Client::new(server.private, token.secret),
        // The token is made at the first run: without it none has ever run here.
        Err(KeyError::Missing { place, .. }) => {
            Err(Failure::Unreachable(format!("no daemon answers at {}: its admin token ({place}) is missing", server.private)))
        }
        Err(error) => Err(Failure::Failed(error.to_string())),
    }
}

impl Reach {
    /// The daemon if it answers, else its store.
    pub async fn open(config: &Path) -> Result<Self, Failure> {
        let (instance, server, _) = load_reach(config, &Disk)?;
        let away = match client(&server) {
            Ok(client) if client.answers().await => return Ok(Self::Daemon(client)),
            Ok(_) => format!("no daemon answers at {}", server.private),
            Err(Failure::Unreachable(why)) => why,
            Err(other) => return Err(other),
        };
        match SqliteStore::open_read_only(&instance.data_dir) {
            Ok(store) => {
                let named = load(config, &Disk).ok().map(|loaded| loaded.config.destinations.keys().cloned().collect());
                Ok(Self::Store(Box::new(store), named))
            }
            Err(error) => Err(Failure::Unreachable(format!("{away}, and there is no store to read instead ({error})"))),
        }
    }

    /// The gateway at a glance.
    pub async fn status(&self) -> Result<Result<StatusView, (Vec<DestinationRow>, Totals)>, Failure> {
        match self {
            Self::Daemon(client) => client.read(&["status"], &()).await.map(Ok),
            Self::Store(store, named) => Ok(Err((marked(store.destinations().await?, named.as_ref()), store.totals().await?))),
        }
    }

    /// Rows of the ledger.
    pub async fn ledger(&self, filter: LedgerFilter) -> Result<Vec<LedgerRow>, Failure> {
        match self {
            Self::Daemon(client) => client.read(&["ledger"], &filter).await.map(|page: Page<LedgerRow>| page.items),
            Self::Store(store, _) => Ok(store.ledger(filter).await?),
        }
    }

    /// Which tickets conversations have.
    pub async fn tickets(&self, filter: TicketFilter) -> Result<Vec<TicketRow>, Failure> {
        match self {
            Self::Daemon(client) => client.read(&["tickets"], &filter).await.map(|page: Page<TicketRow>| page.items),
            Self::Store(store, _) => Ok(store.tickets(filter).await?),
        }
    }

    /// The promise of a platform to call a channel's hook.
    pub async fn subscription(&self, channel: &str) -> Result<SubscriptionView, Failure> {
        match self {
            Self::Daemon(client) => client.read(&["channels", channel, "subscription"], &()).await,
            Self::Store(store, _) => {
                let state = subscribe::kept(&**store, channel).await?;
                Ok(subscribe::view(channel, &state, None, SystemClock::default().now()))
            }
        }
    }

    /// One message.
    pub async fn message(&self, id: MessageId) -> Result<MessageView, Failure> {
        match self {
            Self::Daemon(client) => client.read(&["messages", &id.to_string()], &()).await,
            Self::Store(store, _) => store.message(id).await?.ok_or_else(|| Failure::Missing(format!("no message {id}"))),
        }
    }

    /// One event.
    pub async fn event(&self, id: EventId) -> Result<EventView, Failure> {
        match self {
            Self::Daemon(client) => client.read(&["events", &id.to_string()], &()).await,
            Self::Store(store, _) => store.event(id).await?.ok_or_else(|| Failure::Missing(format!("no event {id}"))),
        }
    }

    /// Deliveries.
    pub async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryView>, Failure> {
        match self {
            Self::Daemon(client) => client.read(&["deliveries"], &filter).await.map(|page: Page<DeliveryView>| page.items),
            Self::Store(store, _) => Ok(store.deliveries(filter).await?),
        }
    }

    /// Quarantined items.
    pub async fn quarantine(&self, channel: Option<&str>, before: Option<i64>, limit: u32) -> Result<Vec<QuarantineRow>, Failure> {
        match self {
            Self::Daemon(client) => {
                let query = serde_json::json!({ "channel": channel, "before": before, "limit": limit });
                client.read(&["quarantine"], &query).await.map(|page: Page<QuarantineRow>| page.items)
            }
            Self::Store(store, _) => Ok(store.quarantine(channel, before, limit as usize).await?),
        }
    }

    /// A quarantined item with the beginning of its raw.
    pub async fn quarantined(&self, item: i64) -> Result<Quarantined, Failure> {
        let store = match self {
            Self::Daemon(client) => return client.read(&["quarantine", &item.to_string()], &()).await,
            Self::Store(store, _) => store,
        };
        let row = quarantined_row(&**store, item).await?.map_err(Failure::Missing)?;
        let raw = match store.raw(row.raw).await? {
            None => None,
            Some((raw, None)) => {
                let body = raw.body.clone();
                Some((raw, Some(body)))
            }
            Some((raw, Some(key))) => {
                let blobs = FolderBlobs::open(&store.folder().join("blobs"), false).map_err(|error| Failure::Failed(error.to_string()))?;
                match blobs.read(&key).await {
                    Ok(body) => Some((raw, Some(body))),
                    Err(BlobError::Missing { .. }) => Some((raw, None)),
                    Err(error) => return Err(Failure::Failed(error.to_string())),
                }
            }
        };
        Ok(Quarantined::of(row, raw))
    }

    /// Destinations.
    pub async fn destinations(&self) -> Result<Vec<DestinationRow>, Failure> {
        match self {
            Self::Daemon(client) => client.read(&["destinations"], &()).await.map(|page: Page<DestinationRow>| page.items),
            Self::Store(store, named) => Ok(marked(store.destinations().await?, named.as_ref())),
        }
    }
}

/// The store does not know what is configured. Where nobody can say, no destination is called gone.
fn marked(rows: Vec<DestinationRow>, named: Option<&BTreeSet<String>>) -> Vec<DestinationRow> {
    let configured = |row: &DestinationRow| named.is_none_or(|named| named.contains(&row.name));
    rows.into_iter().map(|row| DestinationRow { configured: configured(&row), ..row }).collect()
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}
