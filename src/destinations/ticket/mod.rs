//! Ticket: one engine for all ticket systems. It walks the steps of [`logic::ticket`](crate::logic::ticket) for one event; what a call
//! looks like is the folder's, when it may be sent again is the flow's.
//!
//! What must stay true: a call that changes something goes out only when its intention is durable; an answer that does not say
//! whether it was done counts as lost, never as failed.

mod answer;
mod later;
mod prepare;
mod steps;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Map, Value};

use crate::connector::ticket::TicketSystem;
use crate::connector::ticket::compose::{Composing, Forms, compose};
use crate::logic::ticket::TicketPolicy;
use crate::model::codes::Code;
use crate::model::delivery::Outgoing;
use crate::ports::BoxFuture;
use crate::ports::clock::Clock;
use crate::ports::destination::{DeliverError, Destination, FileReader, Receipt};
use crate::ports::http::Http;
use crate::ports::ticket::{Prepare, Prepared, TicketBook};
use crate::ports::token::Wallet;

/// A ticket destination of the configuration.
pub struct TicketOptions {
    /// Its name.
    pub name: String,
    /// Its system.
    pub system: Arc<TicketSystem>,
    /// Its settings, with defaults.
    pub settings: Map<String, Value>,
    /// Its secrets, the current value of each first.
    pub secrets: BTreeMap<String, Vec<SecretString>>,
    /// Closed and deleted tickets.
    pub policy: TicketPolicy,
    /// Events that are no messages.
    pub forms: Forms,
    /// Domain of the addresses that contacts without a mail address get.
    pub contact_domain: String,
    /// Files go along.
    pub files: bool,
    /// Largest file that goes along, bytes.
    pub file_bytes_max: u64,
    /// One call takes at most this long.
    pub timeout: Duration,
    /// Even hosts that its settings name must be public and speak https; those that give its tokens, too.
    pub strict_egress: bool,
}

/// What it works with.
#[derive(Clone)]
pub struct TicketPorts {
    /// Sends.
    pub http: Arc<dyn Http>,
    /// Remembers.
    pub book: Arc<dyn TicketBook>,
    /// Reads files.
    pub files: Arc<dyn FileReader>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Its tokens.
    pub wallet: Wallet,
}

/// Customers whose id in the system is remembered. When there are more, all are asked for again.
const CUSTOMERS_MAX: usize = 8192;

/// A ticket destination.
pub struct TicketDesk {
    options: TicketOptions,
    ports: TicketPorts,
    /// The system's ids of customers by address, as far as this run has asked for them.
    customers: Mutex<HashMap<String, String>>,
    /// Tickets that are looked at once more.
    minded: later::Minded,
}

impl TicketDesk {
    /// A destination. Touches no network.
    pub fn new(options: TicketOptions, ports: TicketPorts) -> Self {
        Self { options, ports, customers: Mutex::default(), minded: later::Minded::default() }
    }

    fn customer(&self, address: &str) -> Option<String> {
        self.customers.lock().unwrap_or_else(PoisonError::into_inner).get(address).cloned()
    }

    /// Remembers the id of a customer; none: it is no longer believed.
    fn remember(&self, address: &str, id: Option<&str>) {
        let mut customers = self.customers.lock().unwrap_or_else(PoisonError::into_inner);
        if customers.len() >= CUSTOMERS_MAX {
            customers.clear();
        }
        match id {
            Some(id) => drop(customers.insert(address.to_owned(), id.to_owned())),
            None => drop(customers.remove(address)),
        }
    }

    async fn hand_over(&self, outgoing: &Outgoing) -> Result<Receipt, DeliverError> {
        let broken = |what: &str| DeliverError::Never { code: Code::Invariant, status: None, detail: what.to_owned() };
        let event: Value = serde_json::from_slice(&outgoing.bytes).map_err(|_| broken("the frozen event cannot be read"))?;
        let with = Composing {
            text: &self.options.system.manifest.text,
            ticket: &self.options.system.manifest.ticket,
            forms: self.options.forms,
            contact_domain: &self.options.contact_domain,
            files: self.options.files,
        };
        let Some(entry) = compose(outgoing.event, &event, &with) else {
            // Nothing of it belongs into a ticket.
            return Ok(Receipt { status: None });
        };
        let receipt = steps::walk(self, outgoing.event, entry).await?;
        later::look(self).await;
        Ok(receipt)
    }
}

impl Destination for TicketDesk {
    fn deliver<'a>(&'a self, outgoing: &'a Outgoing) -> BoxFuture<'a, Result<Receipt, DeliverError>> {
        Box::pin(self.hand_over(outgoing))
    }

    fn probe(&self) -> BoxFuture<'_, Result<String, DeliverError>> {
        Box::pin(async move {
            let found = self.look(false).await?;
            let lines: Vec<String> = found.iter().map(|one| format!("{}: {}", one.what, one.line)).collect();
            let line = lines.join("; ");
            if found.iter().all(|one| one.ok) {
                Ok(line)
            } else {
                Err(DeliverError::Never { code: Code::NotPrepared, status: None, detail: line })
            }
        })
    }
}

impl Prepare for TicketDesk {
    fn prepare(&self, make: bool) -> BoxFuture<'_, Result<Vec<Prepared>, DeliverError>> {
        Box::pin(self.look(make))
    }
}
