//! What can be read: the ledger, messages, events, deliveries, the quarantine, the state of channels and destinations.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::delivery::{DeliveryState, Position};
use crate::model::id::{EventId, MessageId, RawId};
use crate::model::raw::{Raw, RawHead, Via};
use crate::model::ticket::{TicketFilter, TicketRow};
use crate::model::view::{
    DeliveryFilter, DeliveryView, DestinationMode, DestinationRow, EventView, LedgerFilter, LedgerRow, MessageView, QuarantineRow, Totals,
};
use crate::ports::control::{ChannelStatus, ControlError, FileBytes, Status};
use crate::ports::store::{Store, StoreError};
use crate::server::api::{Asked, Named, Page, Shared};
use crate::server::files;
use crate::server::problem::Problem;

/// Rows when the request does not say how many.
const LIMIT: u32 = 100;
/// Most rows of one answer.
pub const LIMIT_MAX: u32 = 10_000;
/// Most events of one answer, and their bytes: events are whole messages.
const EVENTS_MAX: u32 = 1000;
const EVENTS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most of a raw's body shown in the quarantine.
const PREVIEW_BYTES: usize = 64 * 1024;

fn bounded(limit: u32, most: u32) -> Result<u32, Problem> {
    match limit {
        0 => Ok(LIMIT),
        limit if limit <= most => Ok(limit),
        limit => Err(Problem::invalid(format!("query: limit {limit} is too large, at most {most}"))),
    }
}

/// Answer of `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatusView {
    /// The gateway.
    #[serde(flatten)]
    pub gateway: Status,
    /// The destinations.
    pub destinations: Vec<DestinationRow>,
    /// Totals of the store (I3).
    pub totals: Totals,
}

/// `GET /v1/status`.
pub async fn status(State(shared): State<Shared>) -> Result<Json<StatusView>, Problem> {
    let gateway = shared.control.status().await;
    let (rows, totals) = (shared.store.destinations().await?, shared.store.totals().await?);
    let destinations = with_configured(rows, &gateway);
    Ok(Json(StatusView { gateway, destinations, totals }))
}

/// The store knows who has rows, the gateway knows who is configured: together they are all destinations, by name.
fn with_configured(mut rows: Vec<DestinationRow>, gateway: &Status) -> Vec<DestinationRow> {
    for name in &gateway.configured_destinations {
        match rows.iter_mut().find(|row| row.name == *name) {
            Some(row) => row.configured = true,
            None => rows.push(DestinationRow {
                name: name.clone(),
                state: DestinationMode::Active,
                code: None,
                since: gateway.started_at,
                deliveries: DeliveryState::ALL.iter().map(|state| (state.as_str().to_owned(), 0)).collect(),
                oldest_waiting: None,
                retrying: None,
                configured: true,
            }),
        }
    }
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    rows
}

/// `GET /v1/ledger`.
pub async fn ledger(State(shared): State<Shared>, Asked(mut filter): Asked<LedgerFilter>) -> Result<Json<Page<LedgerRow>>, Problem> {
    filter.limit = bounded(filter.limit, LIMIT_MAX)?;
    let limit = filter.limit as usize;
    let items = shared.store.ledger(filter).await?;
    let next = if items.len() >= limit { items.last().map(|row| row.item) } else { None };
    Ok(Json(Page { items, next }))
}

/// `GET /v1/messages/{id}`.
pub async fn message(State(shared): State<Shared>, Named(id): Named<MessageId>) -> Result<Json<MessageView>, Problem> {
    shared.store.message(id).await?.map(Json).ok_or_else(|| Problem::missing(format!("no message {id}")))
}

/// `GET /v1/events/{id}`.
pub async fn event(State(shared): State<Shared>, Named(id): Named<EventId>) -> Result<Json<EventView>, Problem> {
    shared.store.event(id).await?.map(Json).ok_or_else(|| Problem::missing(format!("no event {id}")))
}

/// `GET /v1/deliveries`.
pub async fn deliveries(
    State(shared): State<Shared>,
    Asked(mut filter): Asked<DeliveryFilter>,
) -> Result<Json<Page<DeliveryView>>, Problem> {
    filter.limit = bounded(filter.limit, LIMIT_MAX)?;
    let limit = filter.limit as usize;
    let mut items = shared.store.deliveries(filter).await?;
    let mut next = None;
    if items.len() >= limit {
        next = items.last().map(|row| row.position);
        // A page goes on behind a position, so it must not end between two deliveries of one event.
        let whole = items.iter().rposition(|row| Some(row.position) != next);
        if let Some(last_whole) = whole {
            items.truncate(last_whole + 1);
            next = items.last().map(|row| row.position);
        }
    }
    Ok(Json(Page { items, next }))
}

/// `GET /v1/tickets`.
pub async fn tickets(State(shared): State<Shared>, Asked(mut filter): Asked<TicketFilter>) -> Result<Json<Page<TicketRow>>, Problem> {
    filter.limit = bounded(filter.limit, LIMIT_MAX)?;
    Ok(Json(Page { items: shared.store.tickets(filter).await?, next: None }))
}

/// Query of `GET /v1/events`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventsAsked {
    /// Token from `next` of the answer before; without it from the beginning.
    #[serde(default)]
    pub after: Option<String>,
    /// At most this many; 100 unless told, at most 1,000.
    #[serde(default)]
    pub limit: u32,
}

/// Answer of `GET /v1/events`. Documentation only: the events are written as they were published, byte for byte.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct EventsPage {
    /// The events as published, in commit order.
    pub events: Vec<serde_json::Value>,
    /// Give it as `after` to go on; stays the same while there is nothing new.
    pub next: String,
    /// There is more at this moment.
    pub more: bool,
}

/// What a position token begins with; the number is its version.
const TOKEN: &str = "p1_";

/// A position as an opaque token.
pub fn token(position: Position) -> String {
    format!("{TOKEN}{position:016x}")
}

/// The position behind a token.
pub fn position(token: &str) -> Option<Position> {
    let digits = token.strip_prefix(TOKEN).filter(|digits| digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    Position::from_str_radix(digits, 16).ok()
}

/// `GET /v1/events`.
pub async fn events(State(shared): State<Shared>, Asked(asked): Asked<EventsAsked>) -> Result<Response<Body>, Problem> {
    let after = match asked.after.as_deref() {
        None | Some("") => 0,
        Some(text) => position(text).ok_or_else(|| Problem::invalid("query: after is not a token from `next` of an earlier answer"))?,
    };
    let limit = bounded(asked.limit, EVENTS_MAX)? as usize;
    let found = shared.store.events_after(after, limit).await?;
    let mut more = found.len() >= limit;
    let mut body = Vec::with_capacity(found.iter().map(|(_, bytes)| bytes.len() + 1).sum::<usize>().min(EVENTS_BYTES_MAX) + 128);
    body.extend_from_slice(b"{\"events\":[");
    let mut last = after;
    for (place, bytes) in found {
        // One event goes out whatever its size, or a reader would stand still before it.
        if last != after && body.len() + bytes.len() > EVENTS_BYTES_MAX {
            more = true;
            break;
        }
        if last != after {
            body.push(b',');
        }
        body.extend_from_slice(&bytes);
        last = place;
    }
    body.extend_from_slice(format!("],\"next\":\"{}\",\"more\":{more}}}", token(last)).as_bytes());
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Query of `GET /v1/quarantine`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuarantineAsked {
    /// Of this channel.
    #[serde(default)]
    pub channel: Option<String>,
    /// Item numbers below this (to page back).
    #[serde(default)]
    pub before: Option<i64>,
    /// At most this many, newest first; 100 unless told, at most 10,000.
    #[serde(default)]
    pub limit: u32,
}

/// `GET /v1/quarantine`.
pub async fn quarantine(State(shared): State<Shared>, Asked(asked): Asked<QuarantineAsked>) -> Result<Json<Page<QuarantineRow>>, Problem> {
    let limit = bounded(asked.limit, LIMIT_MAX)? as usize;
    let items = shared.store.quarantine(asked.channel.as_deref(), asked.before, limit).await?;
    let next = if items.len() >= limit { items.last().map(|row| row.item) } else { None };
    Ok(Json(Page { items, next }))
}

/// Answer of `GET /v1/quarantine/{item}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Quarantined {
    /// The item.
    #[serde(flatten)]
    pub row: QuarantineRow,
    /// How the raw came.
    pub via: Option<Via>,
    /// What came beside the body; null if the raw is gone.
    pub head: Option<RawHead>,
    /// The beginning of the body; null if the raw is gone.
    pub body: Option<Preview>,
}

/// The beginning of a body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Preview {
    /// As text, if it is UTF-8.
    pub text: Option<String>,
    /// As base64, if it is not.
    pub base64: Option<String>,
    /// There is more: `GET /v1/raws/{id}` gives it whole.
    pub truncated: bool,
}

impl Preview {
    fn of(bytes: &[u8]) -> Self {
        let shown = bytes.get(..PREVIEW_BYTES).unwrap_or(bytes);
        let truncated = shown.len() < bytes.len();
        match std::str::from_utf8(shown) {
            Ok(text) => Self { text: Some(text.to_owned()), base64: None, truncated },
            // A character cut in the middle does not make a text binary.
            Err(problem) if truncated && problem.error_len().is_none() => {
                let whole = shown.get(..problem.valid_up_to()).unwrap_or_default();
                Self { text: Some(String::from_utf8_lossy(whole).into_owned()), base64: None, truncated }
            }
            Err(_) => Self { text: None, base64: Some(STANDARD.encode(shown)), truncated },
        }
    }
}

/// `GET /v1/quarantine/{item}`.
pub async fn quarantined(State(shared): State<Shared>, Named(item): Named<i64>) -> Result<Json<Quarantined>, Problem> {
    let row = quarantined_row(&*shared.store, item).await?.map_err(Problem::missing)?;
    let Some((raw, _)) = shared.store.raw(row.raw).await? else { return Ok(Json(Quarantined::of(row, None))) };
    match shared.control.raw_body(row.raw).await {
        Ok(body) => Ok(Json(Quarantined::of(row, Some((raw, Some(body)))))),
        Err(ControlError::Missing(_)) => Ok(Json(Quarantined::of(row, Some((raw, None))))),
        Err(problem) => Err(problem.into()),
    }
}

impl Quarantined {
    /// A quarantined item with its raw, and the body of that, as far as they are still there.
    pub fn of(row: QuarantineRow, raw: Option<(Raw, Option<Bytes>)>) -> Self {
        match raw {
            None => Self { row, via: None, head: None, body: None },
            Some((raw, body)) => Self { row, via: Some(raw.via), head: Some(raw.head), body: body.map(|bytes| Preview::of(&bytes)) },
        }
    }
}

/// The row of a quarantined item, or why there is none.
///
/// # Errors
/// The store failed.
pub async fn quarantined_row(store: &dyn Store, item: i64) -> Result<Result<QuarantineRow, String>, StoreError> {
    let before = item.checked_add(1);
    let found = store.quarantine(None, before, 1).await?.into_iter().find(|row| row.item == item);
    if let Some(row) = found {
        return Ok(Ok(row));
    }
    let filter = LedgerFilter { before, limit: 1, ..LedgerFilter::default() };
    let other = store.ledger(filter).await?.into_iter().find(|row| row.item == item);
    Ok(Err(match other {
        None => format!("no item {item}"),
        Some(row) => format!("item {item} is not quarantined, it is {}", row.fate.as_str()),
    }))
}

/// `GET /v1/raws/{id}`: the bytes, as a download.
pub async fn raw(State(shared): State<Shared>, Named(id): Named<RawId>) -> Result<Response<Body>, Problem> {
    let bytes = shared.control.raw_body(id).await?;
    let file = FileBytes { media_type: "application/octet-stream".to_owned(), name: Some(format!("{id}.bin")), bytes };
    Ok(files::download(file).into_response())
}

/// `GET /v1/destinations`.
pub async fn destinations(State(shared): State<Shared>) -> Result<Json<Page<DestinationRow>>, Problem> {
    let gateway = shared.control.status().await;
    Ok(Json(Page { items: with_configured(shared.store.destinations().await?, &gateway), next: None }))
}

/// One row of `GET /v1/channels`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChannelRow {
    /// Its id.
    pub id: String,
    /// How it is.
    #[serde(flatten)]
    pub status: ChannelStatus,
}

/// `GET /v1/channels`.
pub async fn channels(State(shared): State<Shared>) -> Json<Page<ChannelRow>> {
    let items = shared.control.status().await.channels.into_iter().map(|(id, status)| ChannelRow { id, status }).collect();
    Json(Page { items, next: None })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn position_tokens_are_read_back_and_nothing_else_is() {
        assert_eq!(position(&token(4711)), Some(4711));
        for bad in ["", "0", "4711", "p1_", "p1_1", "p2_0000000000000001", "p1_ffffffffffffffff", "p1_00000000000000+1"] {
            assert_eq!(position(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_preview_is_cut_at_a_character_and_binary_is_base64() {
        let long = "ü".repeat(PREVIEW_BYTES);
        let preview = Preview::of(&long.as_bytes()[1..]);
        assert!(preview.base64.is_some() && preview.truncated);
        let preview = Preview::of(format!("x{long}").as_bytes());
        assert!(preview.truncated && preview.text.unwrap().len() == PREVIEW_BYTES - 1);
        assert_eq!(Preview::of(b"{}"), Preview { text: Some("{}".into()), base64: None, truncated: false });
    }
}
