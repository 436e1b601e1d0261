//! Admit: the rules by which a raw and its items become durable, and by which an item becomes an event (design §2 steps 4 to 6).
//!
//! Written once over [`Tx`], pure and synchronous; a store calls it inside its write transaction. What must stay true: every item
//! gets exactly one fate (I1), unique keys inside the write decide what is a duplicate (never look-then-write), and the sequence
//! of a conversation is gapless in publish order (I4).

mod back;
mod contact;
mod conversation;
mod gather;
mod learn;
pub mod media;
mod pending;
mod publish;
mod target;

use std::borrow::Cow;
use std::sync::Arc;

use crate::logic::ids::IdMaker;
use crate::model::codes::Code;
use crate::model::delivery::Position;
use crate::model::id::{EventId, MessageId, RawId};
use crate::model::item::{ChannelFacts, Fate, Item, ItemBody};
use crate::model::key::KeyDigest;
use crate::model::time::Time;
use crate::ports::clock::Random;
use crate::ports::publish::Publish;
use crate::ports::store::{Admission, ItemFate, Moved, SourceCommit, StoreError, Written};
use crate::ports::tx::{Claim, FateChange, LedgerEntry, RowNumber, Tx};

pub use contact::contact_learnt;
pub use media::fetched;
pub use pending::{contact_of, erased, release};
pub use publish::{linked, operator};

/// What the verbs need beside the transaction.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Freezes events.
    pub publisher: &'a dyn Publish,
    /// Makes ids.
    pub ids: &'a IdMaker,
    /// Randomness for ids.
    pub random: &'a dyn Random,
    /// The time of the transaction.
    pub now: Time,
}

impl Context<'_> {
    fn id(&self) -> u128 {
        self.ids.next(self.now.0, self.random)
    }
}

/// Admits raws and the source state that covers them, all or nothing.
///
/// # Errors
/// What the store says; nothing of the write may stay.
pub fn admit(tx: &mut dyn Tx, admissions: Vec<Admission>, source: Option<&Moved>, context: &Context<'_>) -> Result<Written, StoreError> {
    let mut verb = Verb::new(tx, context);
    for admission in admissions {
        let fates = verb.admission(admission)?;
        verb.written.fates.push(fates);
    }
    match source {
        Some(Moved::Folder(commit)) => verb.tx.write_source(commit)?,
        Some(Moved::Cursors(commit)) => verb.tx.write_cursors(commit)?,
        None => {}
    }
    Ok(verb.written)
}

/// Reads a quarantined item again: the first of `items` takes over its number, further ones get numbers of their own.
/// An item that is not quarantined (any more) is left alone.
///
/// # Errors
/// What the store says.
pub fn reprocess(tx: &mut dyn Tx, item: i64, items: Vec<Item>, context: &Context<'_>) -> Result<Written, StoreError> {
    let mut verb = Verb::new(tx, context);
    let Some(known) = verb.tx.ledger_item(item)?.filter(|known| known.fate == Fate::Quarantined) else {
        return Ok(verb.written);
    };
    let mut fates = Vec::with_capacity(items.len().max(1));
    let mut items = items.into_iter();
    let first = match items.next() {
        Some(first) => verb.decide_item(item, known.raw, first)?,
        None => Outcome::ignored("ignored", Code::Empty.as_str()),
    };
    if first.fate != Fate::Quarantined {
        verb.change_fate(item, &first, None)?;
        verb.written.count = 1;
    }
    fates.push(first.told(item));
    for more in items {
        fates.push(verb.item(known.raw, known.received_at, more)?);
    }
    verb.written.fates.push(fates);
    Ok(verb.written)
}

/// Takes in a thing of a source that could not be had before: its items take over the number of the quarantined one that stood for it,
/// and its raw the place of the raw `old`. An item that is not quarantined any more was dealt with: it is left alone.
///
/// # Errors
/// What the store says; nothing of the write may stay.
pub fn refetched(
    tx: &mut dyn Tx,
    old: RawId,
    admission: Admission,
    source: &SourceCommit,
    context: &Context<'_>,
) -> Result<Written, StoreError> {
    let mut verb = Verb::new(tx, context);
    verb.tx.write_source(source)?;
    let item = match verb.tx.raw_row(old)? {
        Some(row) => verb.tx.first_item_of_raw(row)?,
        None => None,
    };
    let known = match item {
        Some(item) => verb.tx.ledger_item(item)?.map(|known| (item, known)),
        None => None,
    };
    let fates = match known {
        // The ledger forgot it: it comes in as any other.
        None => verb.admission(admission)?,
        Some((item, known)) if known.fate == Fate::Quarantined => {
            let Admission { raw: record, delivery_key, items } = admission;
            let (Claim::New(raw) | Claim::Known(raw)) = verb.tx.claim_raw(&record, delivery_key)?;
            let mut items = items.into_iter();
            let first = match items.next() {
                Some(first) => verb.decide_item(item, raw, first)?,
                None => Outcome::ignored("ignored", Code::Empty.as_str()),
            };
            verb.change_fate(item, &first, Some(raw))?;
            verb.written.count = 1;
            let more: Result<Vec<_>, _> = items.map(|more| verb.item(raw, known.received_at, more)).collect();
            [vec![first.told(item)], more?].concat()
        }
        Some(_) => Vec::new(),
    };
    verb.written.fates.push(fates);
    Ok(verb.written)
}

/// One verb at work: the transaction, and what it did so far.
struct Verb<'a> {
    tx: &'a mut dyn Tx,
    context: &'a Context<'a>,
    written: Written,
}

/// What becomes of one item, before it is written into the ledger.
struct Outcome {
    kind: &'static str,
    fate: Fate,
    code: Option<Cow<'static, str>>,
    detail: Option<String>,
    duplicate_of: Option<i64>,
    message: Option<(RowNumber, MessageId)>,
    event: Option<(Position, EventId)>,
}

impl Outcome {
    fn new(kind: &'static str, fate: Fate) -> Self {
        Self { kind, fate, code: None, detail: None, duplicate_of: None, message: None, event: None }
    }

    fn ignored(kind: &'static str, code: impl Into<Cow<'static, str>>) -> Self {
        Self { code: Some(code.into()), ..Self::new(kind, Fate::Ignored) }
    }

    fn told(self, item: i64) -> ItemFate {
        ItemFate {
            item,
            fate: self.fate,
            code: self.code.map(Cow::into_owned),
            message: self.message.map(|(_, id)| id),
            event: self.event.map(|(_, id)| id),
        }
    }
}

/// An item on its way: what every step needs to know of it.
struct Coming {
    item: i64,
    raw: RowNumber,
    channel: Arc<ChannelFacts>,
    kind: &'static str,
    key: KeyDigest,
}

impl<'a> Verb<'a> {
    fn new(tx: &'a mut dyn Tx, context: &'a Context<'a>) -> Self {
        Self { tx, context, written: Written::default() }
    }

    fn admission(&mut self, admission: Admission) -> Result<Vec<ItemFate>, StoreError> {
        let Admission { raw, delivery_key, items } = admission;
        let row = match self.tx.claim_raw(&raw, delivery_key)? {
            Claim::New(row) => row,
            Claim::Known(row) => {
                let channel = items.first().map_or(raw.source.as_str(), |item| item.channel.public.id.as_str());
                let outcome = Outcome { duplicate_of: self.tx.first_item_of_raw(row)?, ..Outcome::new("raw", Fate::Duplicate) };
                let number = self.tx.next_item()?;
                return Ok(vec![self.write_ledger(number, row, channel, raw.received_at, outcome)?]);
            }
        };
        if items.is_empty() {
            let number = self.tx.next_item()?;
            let outcome = Outcome::ignored("ignored", Code::Empty.as_str());
            return Ok(vec![self.write_ledger(number, row, &raw.source, raw.received_at, outcome)?]);
        }
        items.into_iter().map(|item| self.item(row, raw.received_at, item)).collect()
    }

    fn item(&mut self, raw: RowNumber, received_at: Time, item: Item) -> Result<ItemFate, StoreError> {
        let number = self.tx.next_item()?;
        let channel = item.channel.clone();
        let outcome = self.decide_item(number, raw, item)?;
        self.write_ledger(number, raw, &channel.public.id, received_at, outcome)
    }

    /// What becomes of `item`; everything but its ledger row is written.
    fn decide_item(&mut self, number: i64, raw: RowNumber, item: Item) -> Result<Outcome, StoreError> {
        let Item { channel, key, body } = item;
        let kind = kind_of(&body);
        match body {
            ItemBody::Ignored { code } => return Ok(Outcome::ignored(kind, code)),
            ItemBody::Quarantined { code, detail } => return Ok(quarantined(kind, code, detail)),
            ItemBody::Ticket(told) => {
                return match key {
                    Some(key) => self.back(number, raw, channel, key, *told),
                    None => Ok(quarantined(kind, Code::Invariant, "an item without a key".to_owned())),
                };
            }
            _ => {}
        }
        let Some(key) = key else {
            if matches!(body, ItemBody::Receipt { .. }) {
                return Ok(Outcome::ignored(kind, Code::Receipt.as_str()));
            }
            // A mapping without a key is a defect of ours; refusing the raw would make the platform send it for ever.
            return Ok(quarantined(kind, Code::Invariant, "an item without a key".to_owned()));
        };
        let aliases = if let ItemBody::Message(message) = &body { message.aliases.as_slice() } else { &[] };
        if let Some(known) = self.claim(number, key, aliases)? {
            return match body {
                ItemBody::Message(message) if message.call.is_some() => {
                    self.known_call(Coming { item: number, raw, channel, kind, key }, *message, known)
                }
                ItemBody::Message(message) => self.known_copy(Coming { item: number, raw, channel, kind, key }, *message, known),
                _ => self.duplicate(kind, key, known),
            };
        }
        if let ItemBody::Message(message) = &body {
            let mut known = None;
            for hint in &message.hints {
                // Taken or not: it only helps to find the message that an answer speaks of. A part of a call that has it is the same call.
                if let Claim::Known(other) = self.tx.claim_key(*hint, number)?
                    && other != number
                    && message.call.is_some()
                {
                    known = known.or(Some((*hint, other)));
                }
            }
            if let (Some((hint, known)), ItemBody::Message(message)) = (known, &body) {
                self.tx.move_key(key, known)?;
                return self.known_call(Coming { item: number, raw, channel, kind, key: hint }, (**message).clone(), known);
            }
        }
        let coming = Coming { item: number, raw, channel, kind, key };
        match body {
            ItemBody::Message(mut message) => match self.gather(&coming, &mut message)? {
                Some(joined) => Ok(joined),
                None => self.message(coming, *message),
            },
            ItemBody::Edit(edit) => self.edit(coming, *edit),
            ItemBody::Update(learnt) => self.learn(coming, *learnt),
            ItemBody::Delete { target, external_id, sent_at } => self.delete(coming, target, external_id, sent_at),
            ItemBody::Reaction(reaction) => self.reaction(coming, *reaction),
            ItemBody::Receipt { .. } | ItemBody::Ticket(_) | ItemBody::Ignored { .. } | ItemBody::Quarantined { .. } => {
                Ok(Outcome::ignored(kind, Code::Receipt.as_str()))
            }
        }
    }

    /// Claims `key` and its aliases for `item`. If any of them is known, all of them belong to that item from now on.
    fn claim(&mut self, item: i64, key: KeyDigest, aliases: &[KeyDigest]) -> Result<Option<i64>, StoreError> {
        let mut ours = Vec::new();
        let mut owner = None;
        for one in std::iter::once(&key).chain(aliases) {
            match self.tx.claim_key(*one, owner.unwrap_or(item))? {
                Claim::New(_) if owner.is_none() && !aliases.is_empty() => ours.push(*one),
                Claim::New(_) => {}
                // The same key twice in one list is no other item.
                Claim::Known(known) if known == item => {}
                Claim::Known(known) => owner = owner.or(Some(known)),
            }
        }
        if let Some(owner) = owner {
            for one in ours {
                self.tx.move_key(one, owner)?;
            }
        }
        Ok(owner)
    }

    fn duplicate(&mut self, kind: &'static str, key: KeyDigest, of: i64) -> Result<Outcome, StoreError> {
        let message = self.tx.message_by_key(key)?.map(|row| (row.row, row.id));
        Ok(Outcome { duplicate_of: Some(of), message, ..Outcome::new(kind, Fate::Duplicate) })
    }

    fn write_ledger(
        &mut self,
        item: i64,
        raw: RowNumber,
        channel: &str,
        received_at: Time,
        outcome: Outcome,
    ) -> Result<ItemFate, StoreError> {
        self.tx.write_ledger(
            item,
            &LedgerEntry {
                raw,
                channel,
                kind: outcome.kind,
                fate: outcome.fate,
                code: outcome.code.as_deref(),
                detail: outcome.detail.as_deref(),
                duplicate_of: outcome.duplicate_of,
                message: outcome.message.map(|(row, _)| row),
                event: outcome.event.map(|(position, _)| position),
                received_at,
            },
        )?;
        Ok(outcome.told(item))
    }

    fn change_fate(&mut self, item: i64, outcome: &Outcome, raw: Option<RowNumber>) -> Result<(), StoreError> {
        self.tx.change_fate(
            item,
            &FateChange {
                fate: outcome.fate,
                code: outcome.code.as_deref(),
                kind: Some(outcome.kind),
                duplicate_of: outcome.duplicate_of,
                message: outcome.message.map(|(row, _)| row),
                event: outcome.event.map(|(position, _)| position),
                raw,
            },
        )
    }
}

fn quarantined(kind: &'static str, code: Code, detail: String) -> Outcome {
    Outcome { code: Some(code.as_str().into()), detail: Some(detail), ..Outcome::new(kind, Fate::Quarantined) }
}

fn kind_of(body: &ItemBody) -> &'static str {
    match body {
        ItemBody::Message(_) => "message",
        ItemBody::Edit(_) => "edit",
        ItemBody::Update(_) => "update",
        ItemBody::Delete { .. } => "delete",
        ItemBody::Reaction(_) => "reaction",
        ItemBody::Ticket(_) => "ticket",
        ItemBody::Receipt { .. } => "receipt",
        ItemBody::Ignored { .. } => "ignored",
        ItemBody::Quarantined { .. } => "quarantined",
    }
}
