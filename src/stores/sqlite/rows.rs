//! Small things of stored form: numbers for enums, and rows as values. A number once given is never given to something else.

use rusqlite::Row;
use rusqlite::types::Type;

use crate::model::event::EVENT_TYPES;
use crate::model::id::ConversationId;
use crate::model::item::HoldReason;
use crate::model::key::KeyDigest;
use crate::model::raw::Via;
use crate::model::time::Time;
use crate::model::turns::Turns;
use crate::model::view::DestinationMode;
use crate::ports::store::{SourceRowState, StoreError};
use crate::ports::tx::{ConversationRow, ITEM_KINDS, MediaRow};

const VIAS: [Via; 4] = [Via::Webhook, Via::Poll, Via::Stream, Via::Imap];
const MODES: [DestinationMode; 3] = [DestinationMode::Active, DestinationMode::Paused, DestinationMode::Halted];
const REASONS: [HoldReason; 4] = [HoldReason::Held, HoldReason::Gathering, HoldReason::Media, HoldReason::Queued];
/// The number of [`HoldReason::Queued`] in SQL.
pub(super) const QUEUED: i64 = 3;
const SOURCE_STATES: [SourceRowState; 4] =
    [SourceRowState::Admitted, SourceRowState::Quarantined, SourceRowState::Gone, SourceRowState::Settled];

fn number<T: PartialEq>(list: &[T], value: &T) -> i64 {
    list.iter().position(|known| known == value).map_or(-1, |place| place as i64)
}

fn value<T: Copy>(list: &[T], row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let number: i64 = row.get(column)?;
    usize::try_from(number)
        .ok()
        .and_then(|place| list.get(place).copied())
        .ok_or_else(|| rusqlite::Error::FromSqlConversionFailure(column, Type::Integer, "a number this version does not know".into()))
}

pub(super) fn via_number(via: Via) -> i64 {
    number(&VIAS, &via)
}

pub(super) fn via(row: &Row<'_>, column: usize) -> rusqlite::Result<Via> {
    value(&VIAS, row, column)
}

pub(super) fn mode_number(mode: DestinationMode) -> i64 {
    number(&MODES, &mode)
}

pub(super) fn mode(row: &Row<'_>, column: usize) -> rusqlite::Result<DestinationMode> {
    value(&MODES, row, column)
}

pub(super) fn reason_number(reason: HoldReason) -> i64 {
    number(&REASONS, &reason)
}

pub(super) fn reason(row: &Row<'_>, column: usize) -> rusqlite::Result<HoldReason> {
    value(&REASONS, row, column)
}

pub(super) fn source_state_number(state: SourceRowState) -> i64 {
    number(&SOURCE_STATES, &state)
}

pub(super) fn source_state(row: &Row<'_>, column: usize) -> rusqlite::Result<SourceRowState> {
    value(&SOURCE_STATES, row, column)
}

pub(super) fn kind_number(kind: &str) -> i64 {
    number(&ITEM_KINDS, &kind)
}

pub(super) fn kind(row: &Row<'_>, column: usize) -> rusqlite::Result<&'static str> {
    value(&ITEM_KINDS, row, column)
}

pub(super) fn type_number(event_type: &str) -> i64 {
    number(&EVENT_TYPES, &event_type)
}

pub(super) fn event_type(row: &Row<'_>, column: usize) -> rusqlite::Result<&'static str> {
    value(&EVENT_TYPES, row, column)
}

/// An id of 16 bytes.
pub(super) fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<[u8; 16]> {
    row.get(column)
}

/// An id of 16 bytes or null.
pub(super) fn id_or_none(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<[u8; 16]>> {
    row.get(column)
}

pub(super) fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<KeyDigest> {
    row.get(column).map(KeyDigest)
}

pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Time> {
    row.get(column).map(Time)
}

/// An unsigned number kept as a signed one: none of ours comes near 2^63.
pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|number| u64::try_from(number).unwrap_or(0))
}

/// The form SQLite keeps of an unsigned number.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Files that are being fetched, from their columns item, raw, name of the channel, message, at, body.
pub(super) fn media(row: &Row<'_>) -> rusqlite::Result<MediaRow> {
    Ok(MediaRow { item: row.get(0)?, raw: row.get(1)?, channel: row.get(2)?, message: row.get(3)?, at: time(row, 4)?, body: row.get(5)? })
}

/// A conversation from its columns row, id, subject, sequence, active_at, continues, ended, pending, last_sent, ends_at, turns.
pub(super) fn conversation(row: &Row<'_>) -> rusqlite::Result<ConversationRow> {
    let last_sent = row.get_ref(8)?.as_str()?;
    Ok(ConversationRow {
        row: row.get(0)?,
        id: ConversationId::from_bytes(id(row, 1)?),
        subject: row.get(2)?,
        sequence: unsigned(row, 3)?,
        active_at: time(row, 4)?,
        continues: id_or_none(row, 5)?.map(ConversationId::from_bytes),
        ended: row.get(6)?,
        pending: row.get(7)?,
        last_sent: serde_json::from_str(last_sent).map_err(|e| rusqlite::Error::FromSqlConversionFailure(8, Type::Text, Box::new(e)))?,
        ends_at: row.get::<_, Option<i64>>(9)?.map(Time),
        turns: turns(row, 10)?,
    })
}

/// Who waits for whom; nothing was ever said of it in rows of an earlier version.
pub(super) fn turns(row: &Row<'_>, column: usize) -> rusqlite::Result<Turns> {
    let Some(text) = row.get_ref(column)?.as_str_or_null()? else { return Ok(Turns::default()) };
    serde_json::from_str(text).map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(e)))
}

/// The stored form of [`turns`].
pub(super) fn turns_text(turns: &Turns) -> Result<Option<String>, StoreError> {
    if *turns == Turns::default() {
        return Ok(None);
    }
    serde_json::to_string(turns).map(Some).map_err(|e| StoreError::Invariant { detail: format!("turns of a conversation: {e}") })
}

/// Where the cursors of an account begin among the memos. A line break stands in no account and no name.
pub(super) fn cursor_prefix(account: &str) -> String {
    format!("cursor\n{account}\n")
}
