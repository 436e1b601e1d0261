//! The transaction as the rules of `logic` see it: every method is one or two prepared statements.

use rusqlite::{Connection, OptionalExtension, params};

use super::change;
use super::rows;
use super::state::{State, Total, find_destination};
use super::tickets;
use crate::model::address::Address;
use crate::model::delivery::{DeliveryState, Position};
use crate::model::event::{Attachment, Contact};
use crate::model::id::{AttachmentId, ContactId, ConversationId, EventId, MessageId, RawId};
use crate::model::item::{Fate, FilePlace, HoldReason};
use crate::model::key::KeyDigest;
use crate::model::ticket::{FollowedTicket, TicketEntry, TicketLink, TicketStatus};
use crate::model::time::Time;
use crate::model::turns::{self, Span};
use crate::model::view::DestinationMode;
use crate::ports::store::{CURSOR_BYTES_MAX, CursorCommit, RawRecord, SourceCommit, StoreError, pull_lease};
use crate::ports::tx::{
    Claim, ConversationRow, DeliveryChange, DeliveryRow, DestinationFacts, EVENTS_ABOUT_MAX, EventEntry, FateChange, LedgerEntry,
    LedgerItem, MediaRow, MessageRow, Opening, PendingRow, RowNumber, Tx,
};

/// The open transaction.
pub(super) struct SqlTx<'a> {
    pub conn: &'a Connection,
    pub state: &'a mut State,
    pub now: Time,
}

fn broken(detail: &str) -> StoreError {
    StoreError::Invariant { detail: detail.to_owned() }
}

impl SqlTx<'_> {
    fn conversation_where(&self, sql: &str, parameter: impl rusqlite::ToSql) -> Result<Option<ConversationRow>, StoreError> {
        Ok(self.conn.prepare_cached(sql)?.query_row([parameter], rows::conversation).optional()?)
    }

    fn message_where(&self, sql: &str, parameter: impl rusqlite::ToSql) -> Result<Option<MessageRow>, StoreError> {
        let found = self.conn.prepare_cached(sql)?.query_row([parameter], |row| {
            Ok(MessageRow {
                row: row.get(0)?,
                id: MessageId::from_bytes(rows::id(row, 1)?),
                key: rows::digest(row, 2)?,
                conversation: row.get(3)?,
                contact: row.get(4)?,
                gone: row.get(5)?,
                item: row.get(0)?,
            })
        });
        Ok(found.optional()?)
    }

    fn pending_where(&self, sql: &str, parameter: i64) -> Result<Option<PendingRow>, StoreError> {
        let found = self.conn.prepare_cached(sql)?.query_row([parameter], |row| {
            Ok(PendingRow {
                item: row.get(0)?,
                raw: row.get(1)?,
                conversation: row.get(2)?,
                reason: rows::reason(row, 3)?,
                until: rows::time(row, 4)?,
                body: row.get(5)?,
            })
        });
        Ok(found.optional()?)
    }

    /// A contact by a statement whose rows are its number, its id, its name and one of its addresses.
    fn contact_where(&self, sql: &str, parameter: impl rusqlite::ToSql) -> Result<Option<(RowNumber, Contact)>, StoreError> {
        let mut statement = self.conn.prepare_cached(sql)?;
        let mut found = statement.query([parameter])?;
        let mut contact: Option<(RowNumber, Contact)> = None;
        while let Some(line) = found.next()? {
            let (_, contact) = match &mut contact {
                Some(known) => known,
                none => none.insert((
                    line.get(0)?,
                    Contact { id: ContactId::from_bytes(rows::id(line, 1)?), name: line.get(2)?, addresses: Vec::new() },
                )),
            };
            if let Some(text) = line.get_ref(3)?.as_str_or_null().map_err(rusqlite::Error::from)? {
                contact.addresses.push(Address::parse(text).map_err(|_| broken("a stored address does not read"))?);
            }
        }
        // Sorted here, so that the order in events is decided and not left to the index: nearly always there is one.
        if let Some((_, contact)) = &mut contact {
            contact.addresses.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        }
        Ok(contact)
    }
}

impl Tx for SqlTx<'_> {
    fn claim_raw(&mut self, raw: &RawRecord, delivery_key: Option<KeyDigest>) -> Result<Claim<RowNumber>, StoreError> {
        let source = self.state.name(self.conn, &raw.source)?;
        let sql = "INSERT INTO raws (id, source, via, received_at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO NOTHING";
        let values = params![raw.id.to_bytes(), source, rows::via_number(raw.via), raw.received_at.0];
        if self.conn.prepare_cached(sql)?.execute(values)? == 0 {
            let sql = "SELECT row FROM raws WHERE id = ?1";
            return Ok(Claim::Known(self.conn.prepare_cached(sql)?.query_row([raw.id.to_bytes()], |row| row.get(0))?));
        }
        let row = self.conn.last_insert_rowid();
        let Some(key) = delivery_key else { return Ok(Claim::New(row)) };
        let sql = "INSERT INTO delivery_keys (digest, raw) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        if self.conn.prepare_cached(sql)?.execute(params![key.0, row])? == 1 {
            return Ok(Claim::New(row));
        }
        // The same delivery again: its bytes are known, so neither its row nor its staged body need stay.
        self.conn.prepare_cached("DELETE FROM raws WHERE row = ?1")?.execute([row])?;
        self.state.repeated.push(raw.id);
        let known = self.conn.prepare_cached("SELECT raw FROM delivery_keys WHERE digest = ?1")?.query_row([key.0], |row| row.get(0))?;
        Ok(Claim::Known(known))
    }

    fn raw_row(&mut self, id: RawId) -> Result<Option<RowNumber>, StoreError> {
        let sql = "SELECT row FROM raws WHERE id = ?1";
        Ok(self.conn.prepare_cached(sql)?.query_row([id.to_bytes()], |row| row.get(0)).optional()?)
    }

    fn first_item_of_raw(&mut self, raw: RowNumber) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT min(item) FROM ledger WHERE raw = ?1";
        Ok(self.conn.prepare_cached(sql)?.query_row([raw], |row| row.get(0))?)
    }

    fn next_item(&mut self) -> Result<i64, StoreError> {
        Ok(self.state.item())
    }

    fn claim_key(&mut self, key: KeyDigest, item: i64) -> Result<Claim<i64>, StoreError> {
        let sql = "INSERT INTO item_keys (digest, item) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        if self.conn.prepare_cached(sql)?.execute(params![key.0, item])? == 1 {
            return Ok(Claim::New(item));
        }
        let known = self.item_by_key(key)?;
        known.map(Claim::Known).ok_or_else(|| broken("an item key is taken and is not there"))
    }

    fn move_key(&mut self, key: KeyDigest, item: i64) -> Result<(), StoreError> {
        self.conn.prepare_cached("UPDATE item_keys SET item = ?2 WHERE digest = ?1")?.execute(params![key.0, item])?;
        Ok(())
    }

    fn item_by_key(&mut self, key: KeyDigest) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT item FROM item_keys WHERE digest = ?1";
        Ok(self.conn.prepare_cached(sql)?.query_row([key.0], |row| row.get(0)).optional()?)
    }

    fn write_ledger(&mut self, item: i64, entry: &LedgerEntry<'_>) -> Result<(), StoreError> {
        let channel = self.state.name(self.conn, entry.channel)?;
        let sql = "INSERT INTO ledger (item, raw, channel, kind, fate, code, detail, duplicate_of, message, event, received_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
        self.conn.prepare_cached(sql)?.execute(params![
            item,
            entry.raw,
            channel,
            rows::kind_number(entry.kind),
            entry.fate.number(),
            entry.code,
            entry.detail,
            entry.duplicate_of,
            entry.message,
            entry.event,
            entry.received_at.0,
        ])?;
        self.state.add(Total::Received(channel), 1);
        self.state.add(Total::Fate(channel, entry.fate), 1);
        Ok(())
    }

    fn ledger_item(&mut self, item: i64) -> Result<Option<LedgerItem>, StoreError> {
        let sql = "SELECT l.raw, n.name, l.fate, l.message, l.received_at FROM ledger l JOIN names n ON n.id = l.channel WHERE l.item = ?1";
        let found = self.conn.prepare_cached(sql)?.query_row([item], |row| {
            Ok(LedgerItem {
                raw: row.get(0)?,
                channel: row.get(1)?,
                fate: Fate::from_number(row.get(2)?).unwrap_or(Fate::Ignored),
                message: row.get(3)?,
                received_at: rows::time(row, 4)?,
            })
        });
        Ok(found.optional()?)
    }

    fn change_fate(&mut self, item: i64, change: &FateChange<'_>) -> Result<(), StoreError> {
        let sql = "SELECT channel, fate FROM ledger WHERE item = ?1";
        let (channel, was): (i64, i64) = self.conn.prepare_cached(sql)?.query_row([item], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let was = Fate::from_number(was).filter(|fate| matches!(fate, Fate::Pending | Fate::Quarantined));
        let was = was.ok_or_else(|| broken("I1: the fate of an item changes only from pending or quarantined"))?;
        let sql = "UPDATE ledger SET fate = ?2, code = ?3, kind = coalesce(?4, kind), duplicate_of = ?5,
                   message = coalesce(?6, message), event = ?7, detail = NULL, raw = coalesce(?8, raw) WHERE item = ?1";
        self.conn.prepare_cached(sql)?.execute(params![
            item,
            change.fate.number(),
            change.code,
            change.kind.map(rows::kind_number),
            change.duplicate_of,
            change.message,
            change.event,
            change.raw,
        ])?;
        self.state.add(Total::Fate(channel, was), -1);
        self.state.add(Total::Fate(channel, change.fate), 1);
        Ok(())
    }

    fn conversation_by_key(&mut self, key: KeyDigest) -> Result<Option<ConversationRow>, StoreError> {
        let sql = "SELECT c.row, c.id, c.subject, c.sequence, c.active_at, c.continues, c.ended, c.pending, c.last_sent, c.ends_at, c.turns
                   FROM conversation_keys k JOIN conversations c ON c.row = k.conversation WHERE k.digest = ?1";
        self.conversation_where(sql, key.0)
    }

    fn conversation_by_id(&mut self, id: ConversationId) -> Result<Option<ConversationRow>, StoreError> {
        let sql = "SELECT row, id, subject, sequence, active_at, continues, ended, pending, last_sent, ends_at, turns FROM conversations WHERE id = ?1";
        self.conversation_where(sql, id.to_bytes())
    }

    fn conversation(&mut self, row: RowNumber) -> Result<Option<ConversationRow>, StoreError> {
        let sql = "SELECT row, id, subject, sequence, active_at, continues, ended, pending, last_sent, ends_at, turns FROM conversations WHERE row = ?1";
        self.conversation_where(sql, row)
    }

    fn open_conversation(&mut self, conversation: &ConversationRow, channel: &str) -> Result<RowNumber, StoreError> {
        let channel = self.state.name(self.conn, channel)?;
        let sql = "INSERT INTO conversations (id, channel, subject, sequence, active_at, continues, ended, pending, last_sent)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        self.conn.prepare_cached(sql)?.execute(params![
            conversation.id.to_bytes(),
            channel,
            conversation.subject,
            rows::signed(conversation.sequence),
            conversation.active_at.0,
            conversation.continues.map(ConversationId::to_bytes),
            conversation.ended,
            conversation.pending,
            last_sent(conversation)?,
        ])?;
        Ok(self.conn.last_insert_rowid())
    }

    fn write_conversation(&mut self, conversation: &ConversationRow) -> Result<(), StoreError> {
        let sql =
            "UPDATE conversations SET sequence = ?2, active_at = ?3, ended = ?4, pending = ?5, last_sent = ?6, ends_at = ?7, turns = ?8
                   WHERE row = ?1";
        self.conn.prepare_cached(sql)?.execute(params![
            conversation.row,
            rows::signed(conversation.sequence),
            conversation.active_at.0,
            conversation.ended,
            conversation.pending,
            last_sent(conversation)?,
            conversation.ends_at.map(|at| at.0),
            rows::turns_text(&conversation.turns)?,
        ])?;
        Ok(())
    }

    fn opening(&mut self, row: RowNumber) -> Result<Opening, StoreError> {
        tickets::opening(self.conn, row)
    }

    fn count_span(&mut self, channel: &str, span: Span, ms: i64) -> Result<(), StoreError> {
        let name = self.state.name(self.conn, channel)?;
        self.state.add(Total::Span(name, span, turns::bucket(ms)), 1);
        self.state.add(Total::SpanSum(name, span), ms);
        Ok(())
    }

    fn count_waiting(&mut self, channel: &str, delta: i64) -> Result<(), StoreError> {
        let name = self.state.name(self.conn, channel)?;
        self.state.add(Total::Waiting(name), delta);
        Ok(())
    }

    fn bind_conversation_key(&mut self, key: KeyDigest, row: RowNumber) -> Result<(), StoreError> {
        let sql = "INSERT INTO conversation_keys (digest, conversation) VALUES (?1, ?2)
                   ON CONFLICT (digest) DO UPDATE SET conversation = excluded.conversation";
        self.conn.prepare_cached(sql)?.execute(params![key.0, row])?;
        Ok(())
    }

    fn offer_conversation_key(&mut self, key: KeyDigest, row: RowNumber) -> Result<(), StoreError> {
        let sql = "INSERT INTO conversation_keys (digest, conversation) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        self.conn.prepare_cached(sql)?.execute(params![key.0, row])?;
        Ok(())
    }

    fn takes_part(&mut self, conversation: RowNumber, contact: RowNumber) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM participants WHERE contact = ?1 AND conversation = ?2";
        Ok(self.conn.prepare_cached(sql)?.exists([contact, conversation])?)
    }

    fn join(&mut self, conversation: RowNumber, contact: RowNumber) -> Result<(), StoreError> {
        let sql = "INSERT INTO participants (contact, conversation) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        self.conn.prepare_cached(sql)?.execute([contact, conversation])?;
        Ok(())
    }

    fn contact_by_address(&mut self, digest: KeyDigest) -> Result<Option<(RowNumber, Contact)>, StoreError> {
        // A merge binds the addresses to the contact that stays, so one step resolves it.
        let sql = "SELECT c.row, c.id, c.name, b.address FROM contact_addresses a JOIN contacts c ON c.row = a.contact
                   JOIN contact_addresses b ON b.contact = c.row WHERE a.digest = ?1";
        self.contact_where(sql, digest.0)
    }

    fn contact(&mut self, row: RowNumber) -> Result<Option<Contact>, StoreError> {
        let sql =
            "SELECT c.row, c.id, c.name, b.address FROM contacts c LEFT JOIN contact_addresses b ON b.contact = c.row WHERE c.row = ?1";
        Ok(self.contact_where(sql, row)?.map(|(_, contact)| contact))
    }

    fn open_contact(&mut self, id: ContactId, name: Option<&str>) -> Result<RowNumber, StoreError> {
        self.conn.prepare_cached("INSERT INTO contacts (id, name) VALUES (?1, ?2)")?.execute(params![id.to_bytes(), name])?;
        Ok(self.conn.last_insert_rowid())
    }

    fn rename_contact(&mut self, row: RowNumber, name: &str) -> Result<(), StoreError> {
        self.conn.prepare_cached("UPDATE contacts SET name = ?2 WHERE row = ?1")?.execute(params![row, name])?;
        Ok(())
    }

    fn bind_address(&mut self, digest: KeyDigest, address: &Address, row: RowNumber) -> Result<(), StoreError> {
        let sql = "INSERT INTO contact_addresses (digest, contact, address) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
        self.conn.prepare_cached(sql)?.execute(params![digest.0, row, address.as_str()])?;
        Ok(())
    }

    fn message_by_key(&mut self, key: KeyDigest) -> Result<Option<MessageRow>, StoreError> {
        let sql = "SELECT m.row, m.id, m.key, m.conversation, m.contact, m.gone
                   FROM item_keys k JOIN messages m ON m.row = k.item WHERE k.digest = ?1";
        self.message_where(sql, key.0)
    }

    fn message(&mut self, row: RowNumber) -> Result<Option<MessageRow>, StoreError> {
        self.message_where("SELECT row, id, key, conversation, contact, gone FROM messages WHERE row = ?1", row)
    }

    fn write_message(&mut self, message: &MessageRow, channel: &str) -> Result<RowNumber, StoreError> {
        let channel = self.state.name(self.conn, channel)?;
        let sql = "INSERT INTO messages (row, id, key, conversation, contact, channel, gone) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        self.conn.prepare_cached(sql)?.execute(params![
            message.item,
            message.id.to_bytes(),
            message.key.0,
            message.conversation,
            message.contact,
            channel,
            message.gone,
        ])?;
        Ok(message.item)
    }

    fn mark_gone(&mut self, message: RowNumber) -> Result<(), StoreError> {
        self.conn.prepare_cached("UPDATE messages SET gone = 1 WHERE row = ?1")?.execute([message])?;
        Ok(())
    }

    fn write_file(
        &mut self,
        attachment: AttachmentId,
        raw: RowNumber,
        message: RowNumber,
        place: &FilePlace,
        public: &Attachment,
    ) -> Result<(), StoreError> {
        let place = serde_json::to_string(place).map_err(|e| broken(&e.to_string()))?;
        let sql = "INSERT INTO files (attachment, raw, message, place, media_type, name, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                   ON CONFLICT DO NOTHING";
        let bytes = public.bytes.map(rows::signed);
        let values = params![attachment.to_bytes(), raw, message, place, public.media_type, public.name, bytes];
        self.conn.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    fn write_event(&mut self, event: &EventEntry<'_>) -> Result<Position, StoreError> {
        let channel = if event.channel.is_empty() { 0 } else { self.state.name(self.conn, event.channel)? };
        let position = self.state.position();
        let sql = "INSERT INTO events (position, id, type, conversation, sequence, message, channel, published_at, bytes)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        self.conn.prepare_cached(sql)?.execute(params![
            position,
            event.id.to_bytes(),
            rows::type_number(event.event_type),
            event.conversation,
            rows::signed(event.sequence),
            event.message,
            channel,
            event.published_at.0,
            event.bytes,
        ])?;
        Ok(position)
    }

    fn events_about(&mut self, message: RowNumber) -> Result<Vec<Vec<u8>>, StoreError> {
        let sql = "SELECT bytes FROM events WHERE message = ?1 AND message <> 0 AND bytes IS NOT NULL ORDER BY position LIMIT ?2";
        let mut list = self.conn.prepare_cached(sql)?;
        let rows = list.query_map(params![message, EVENTS_ABOUT_MAX as i64], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn write_delivery(&mut self, destination: &str, position: Position, lane: i64, previous: u64, due_at: Time) -> Result<(), StoreError> {
        let id = self.state.destination(self.conn, destination, self.now)?;
        let sql = "INSERT INTO deliveries (destination, position, replay, lane, state, attempts, at, previous)
                   VALUES (?1, ?2, 0, ?3, 0, 0, ?4, ?5)";
        self.conn.prepare_cached(sql)?.execute(params![id, position, lane, due_at.0, rows::signed(previous)])?;
        self.state.add(Total::Due(id), 1);
        self.state.add(Total::Delivery(id, DeliveryState::Waiting), 1);
        Ok(())
    }

    fn delivery(&mut self, destination: &str, position: Position, replay: bool) -> Result<Option<DeliveryRow>, StoreError> {
        let sql = "SELECT d.state, d.attempts, d.first_attempt_at, e.id, e.type, c.id
                   FROM destinations n JOIN deliveries d ON d.destination = n.id
                   JOIN events e ON e.position = d.position LEFT JOIN conversations c ON c.row = e.conversation
                   WHERE n.name = ?1 AND d.position = ?2 AND d.replay = ?3";
        let found = self.conn.prepare_cached(sql)?.query_row(params![destination, position, replay], |row| {
            Ok(DeliveryRow {
                state: DeliveryState::from_number(row.get(0)?).unwrap_or(DeliveryState::Dead),
                attempts: row.get(1)?,
                first_attempt_at: row.get::<_, Option<i64>>(2)?.map(Time),
                event: EventId::from_bytes(rows::id(row, 3)?),
                event_type: rows::event_type(row, 4)?.to_owned(),
                conversation: rows::id_or_none(row, 5)?.map(ConversationId::from_bytes),
            })
        });
        Ok(found.optional()?)
    }

    fn change_delivery(&mut self, change: &DeliveryChange<'_>) -> Result<(), StoreError> {
        let Some(id) = find_destination(self.conn, change.destination)? else { return Ok(()) };
        let sql = "UPDATE deliveries SET state = ?4, attempts = ?5, at = ?6, first_attempt_at = coalesce(first_attempt_at, ?7),
                   code = ?8, status = ?9, detail = ?10 WHERE destination = ?1 AND position = ?2 AND replay = ?3 AND state = 0";
        let changed = self.conn.prepare_cached(sql)?.execute(params![
            id,
            change.position,
            change.replay,
            change.state.number(),
            change.attempts,
            change.at.0,
            change.tried_at.0,
            change.code,
            change.status,
            change.detail,
        ])?;
        if changed == 1 && change.state != DeliveryState::Waiting {
            self.state.add(Total::Delivery(id, DeliveryState::Waiting), -1);
            self.state.add(Total::Delivery(id, change.state), 1);
        }
        Ok(())
    }

    fn destination(&mut self, name: &str) -> Result<Option<DestinationFacts>, StoreError> {
        // The totals of this transaction are not in the table yet; a count that tells people something may lag by one batch.
        let sql = "SELECT d.mode, d.code, d.since, coalesce(t.value, 0) FROM destinations d
                   LEFT JOIN totals t ON t.kind = 3 AND t.name = d.id AND t.word = 0 WHERE d.name = ?1 AND d.known = 1";
        let found = self.conn.prepare_cached(sql)?.query_row([name], |row| {
            Ok(DestinationFacts {
                mode: rows::mode(row, 0)?,
                code: row.get(1)?,
                since: rows::time(row, 2)?,
                waiting: rows::unsigned(row, 3)?,
            })
        });
        Ok(found.optional()?)
    }

    fn write_destination(&mut self, name: &str, mode: DestinationMode, code: Option<&str>, since: Time) -> Result<(), StoreError> {
        let id = self.state.destination(self.conn, name, since)?;
        let sql = "UPDATE destinations SET mode = ?2, code = ?3, since = ?4, known = 1 WHERE id = ?1";
        self.conn.prepare_cached(sql)?.execute(params![id, rows::mode_number(mode), code, since.0])?;
        Ok(())
    }

    fn write_pending(&mut self, pending: &PendingRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO pending (item, raw, conversation, reason, until, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let reason = rows::reason_number(pending.reason);
        let values = params![pending.item, pending.raw, pending.conversation, reason, pending.until.0, pending.body];
        self.conn.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    fn first_pending(&mut self, conversation: RowNumber) -> Result<Option<PendingRow>, StoreError> {
        let sql = "SELECT item, raw, conversation, reason, until, body FROM pending WHERE conversation = ?1 ORDER BY place LIMIT 1";
        self.pending_where(sql, conversation)
    }

    fn pending(&mut self, item: i64) -> Result<Option<PendingRow>, StoreError> {
        self.pending_where("SELECT item, raw, conversation, reason, until, body FROM pending WHERE item = ?1", item)
    }

    fn change_pending(&mut self, item: i64, reason: HoldReason, until: Time) -> Result<(), StoreError> {
        let sql = "UPDATE pending SET reason = ?2, until = ?3 WHERE item = ?1";
        self.conn.prepare_cached(sql)?.execute([item, rows::reason_number(reason), until.0])?;
        Ok(())
    }

    fn rewrite_pending(&mut self, item: i64, body: &[u8]) -> Result<(), StoreError> {
        self.conn.prepare_cached("UPDATE pending SET body = ?2 WHERE item = ?1")?.execute(params![item, body])?;
        Ok(())
    }

    fn remove_pending(&mut self, item: i64) -> Result<(), StoreError> {
        self.conn.prepare_cached("DELETE FROM pending WHERE item = ?1")?.execute([item])?;
        Ok(())
    }

    fn media(&mut self, item: i64) -> Result<Option<MediaRow>, StoreError> {
        let sql = "SELECT m.item, m.raw, n.name, m.message, m.at, m.body FROM media m JOIN names n ON n.id = m.channel WHERE m.item = ?1";
        Ok(self.conn.prepare_cached(sql)?.query_row([item], rows::media).optional()?)
    }

    fn write_media(&mut self, media: &MediaRow) -> Result<(), StoreError> {
        let channel = self.state.name(self.conn, &media.channel)?;
        let sql =
            "INSERT INTO media (item, raw, channel, message, at, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (item) DO UPDATE SET
                   message = excluded.message, at = excluded.at, body = excluded.body";
        self.conn.prepare_cached(sql)?.execute(params![media.item, media.raw, channel, media.message, media.at.0, media.body])?;
        Ok(())
    }

    fn remove_media(&mut self, item: i64) -> Result<(), StoreError> {
        self.conn.prepare_cached("DELETE FROM media WHERE item = ?1")?.execute([item])?;
        Ok(())
    }

    fn ticket(&mut self, destination: &str, conversation: RowNumber, generation: u32) -> Result<Option<TicketLink>, StoreError> {
        tickets::ticket(self, destination, conversation, generation)
    }

    fn write_ticket(&mut self, destination: &str, system: &str, conversation: RowNumber, link: &TicketLink) -> Result<(), StoreError> {
        tickets::write_ticket(self, destination, system, conversation, link)
    }

    fn write_ticket_entry(&mut self, destination: &str, conversation: RowNumber, entry: &TicketEntry) -> Result<(), StoreError> {
        tickets::write_entry(self, destination, conversation, entry)
    }

    fn followed(&mut self, destination: &str, ticket: &str, ours: Option<&str>) -> Result<Vec<FollowedTicket>, StoreError> {
        tickets::followed(self.conn, destination, ticket, ours)
    }

    fn is_own_entry(
        &mut self,
        destination: &str,
        conversations: &[RowNumber],
        entry: Option<&str>,
        mark: Option<&str>,
    ) -> Result<bool, StoreError> {
        tickets::is_own_entry(self.conn, destination, conversations, entry, mark)
    }

    fn write_ticket_status(
        &mut self,
        destination: &str,
        ticket: (RowNumber, u32),
        status: TicketStatus,
        at: Time,
    ) -> Result<(), StoreError> {
        tickets::write_status(self.conn, destination, ticket, status, at)
    }

    fn is_owed(&mut self, destination: &str, conversation: RowNumber) -> Result<bool, StoreError> {
        tickets::is_owed(self.conn, destination, conversation)
    }

    fn write_source(&mut self, commit: &SourceCommit) -> Result<(), StoreError> {
        change::source(self, commit)
    }

    fn write_cursors(&mut self, commit: &CursorCommit) -> Result<(), StoreError> {
        self.fence(&pull_lease(&commit.account), commit.lease_epoch)?;
        for (name, value) in &commit.cursors {
            if let Some(value) = value.as_ref().filter(|value| value.len() > CURSOR_BYTES_MAX) {
                let detail = format!("I6: a cursor of {} bytes, at most {CURSOR_BYTES_MAX}", value.len());
                return Err(StoreError::Invariant { detail });
            }
            change::memo(self, &format!("{}{name}", rows::cursor_prefix(&commit.account)), value.as_deref())?;
        }
        Ok(())
    }

    fn fence(&mut self, name: &str, epoch: u64) -> Result<(), StoreError> {
        let sql = "SELECT epoch FROM leases WHERE name = ?1";
        let current = self.conn.prepare_cached(sql)?.query_row([name], |row| rows::unsigned(row, 0)).optional()?.unwrap_or(0);
        if epoch < current { Err(StoreError::Fenced { held: epoch, current }) } else { Ok(()) }
    }
}

fn last_sent(conversation: &ConversationRow) -> Result<String, StoreError> {
    serde_json::to_string(&conversation.last_sent).map_err(|e| broken(&e.to_string()))
}
