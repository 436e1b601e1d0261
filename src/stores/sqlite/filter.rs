//! Filters of people as SQL: conditions are constants, values are parameters.

use rusqlite::types::Value;

use crate::model::ticket::TicketFilter;
use crate::model::view::{DeliveryFilter, LedgerFilter};

use super::rows;

/// Rows a listing gives when nobody says how many.
const LIST_DEFAULT: u32 = 100;
/// Rows a listing gives at most.
const LIST_MAX: u32 = 10_000;

/// Conditions and their values.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    sql: Vec<&'static str>,
    pub values: Vec<Value>,
}

impl Conditions {
    fn add(&mut self, sql: &'static str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.sql.push(sql);
            self.values.push(value.into());
        }
    }

    /// All of them, for behind `WHERE`.
    pub fn all(&self) -> String {
        if self.sql.is_empty() { "1".to_owned() } else { self.sql.join(" AND ") }
    }
}

/// The tables a delivery filter speaks about: d, n, e, c.
pub(super) const DELIVERY_TABLES: &str = "deliveries d JOIN destinations n ON n.id = d.destination JOIN events e ON e.position = d.position
     LEFT JOIN conversations c ON c.row = e.conversation";

pub(super) fn deliveries(filter: &DeliveryFilter) -> Conditions {
    let mut all = Conditions::default();
    all.add("d.destination = (SELECT id FROM destinations WHERE name = ?)", filter.destination.clone());
    all.add("d.state = ?", filter.state.map(crate::model::delivery::DeliveryState::number));
    all.add("d.position = (SELECT position FROM events WHERE id = ?)", filter.event.map(|id| id.to_bytes().to_vec()));
    all.add(
        "e.conversation = (SELECT row FROM conversations WHERE id = ?) AND e.conversation <> 0",
        filter.conversation.map(|id| id.to_bytes().to_vec()),
    );
    all.add("e.type = ?", filter.event_type.as_deref().map(rows::type_number));
    all.add("d.code = ?", filter.code.clone());
    all.add("e.published_at >= ?", filter.since.map(|time| time.0));
    all.add("e.published_at < ?", filter.until.map(|time| time.0));
    all.add("d.position > ?", filter.after);
    all
}

pub(super) fn ledger(filter: &LedgerFilter) -> Conditions {
    let mut all = Conditions::default();
    all.add("? IN (ch.name, s.name)", filter.channel.clone());
    all.add("l.fate = ?", filter.fate.map(crate::model::item::Fate::number));
    all.add("l.raw = (SELECT row FROM raws WHERE id = ?)", filter.raw.map(|id| id.to_bytes().to_vec()));
    all.add("l.message = (SELECT row FROM messages WHERE id = ?)", filter.message.map(|id| id.to_bytes().to_vec()));
    all.add(
        "l.message IN (SELECT message FROM events WHERE conversation = (SELECT row FROM conversations WHERE id = ?) AND conversation <> 0)",
        filter.conversation.map(|id| id.to_bytes().to_vec()),
    );
    all.add("l.received_at >= ?", filter.since.map(|time| time.0));
    all.add("l.item < ?", filter.before);
    all
}

pub(super) fn tickets(filter: &TicketFilter) -> Conditions {
    let mut all = Conditions::default();
    all.add("d.name = ?", filter.destination.clone());
    all.add("c.id = ?", filter.conversation.map(|id| id.to_bytes().to_vec()));
    all.add("t.ticket = ?", filter.ticket.clone());
    all
}

/// How many rows a listing gives.
pub(super) fn limit(asked: u32) -> i64 {
    i64::from(if asked == 0 { LIST_DEFAULT } else { asked.min(LIST_MAX) })
}
