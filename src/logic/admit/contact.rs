//! Who is behind a message: contacts are found by the digest of an address and grow only by addresses the platform vouches for.
//!
//! What must stay true: a sender nobody vouches for never links addresses and never shows a contact's other addresses (design §4).

use super::publish::Place;
use super::{Context, Verb};
use crate::model::address::Address;
use crate::model::event::{Body, Contact, ContactUpdated};
use crate::model::id::ContactId;
use crate::model::item::ContactHint;
use crate::model::key::KeyDigest;
use crate::ports::store::{StoreError, Written};
use crate::ports::tx::{RowNumber, Tx};

/// A platform told later who is behind an address it vouches for; publishes `contact.updated` if that is news.
///
/// # Errors
/// What the store says.
pub fn contact_learnt(
    tx: &mut dyn Tx,
    address: KeyDigest,
    name: Option<&str>,
    also: &[(Address, KeyDigest)],
    context: &Context<'_>,
) -> Result<Written, StoreError> {
    let mut verb = Verb::new(tx, context);
    let Some((row, contact)) = verb.tx.contact_by_address(address)? else { return Ok(verb.written) };
    let mut news = false;
    if let Some(name) = name.filter(|name| contact.name.as_deref() != Some(*name)) {
        verb.tx.rename_contact(row, name)?;
        news = true;
    }
    for (more, digest) in also {
        // As with messages: an address of another contact stays there.
        if !contact.addresses.contains(more) && verb.tx.contact_by_address(*digest)?.is_none() {
            verb.tx.bind_address(*digest, more, row)?;
            news = true;
        }
    }
    if let (true, Some(contact)) = (news, verb.tx.contact(row)?) {
        let body = Body::ContactUpdated(Box::new(ContactUpdated { contact }));
        verb.emit(body, &Place { conversation: None, message: 0, channel: "" })?;
    }
    verb.written.count = 1;
    Ok(verb.written)
}

impl Verb<'_> {
    /// The contact of a hint, made if it is new, and the form of it that this message may show.
    pub(super) fn find_contact(&mut self, hint: &ContactHint) -> Result<(RowNumber, Contact), StoreError> {
        let mut found = self.tx.contact_by_address(hint.digest)?;
        if found.is_none() && hint.verified {
            for (_, digest) in &hint.also {
                found = self.tx.contact_by_address(*digest)?;
                if found.is_some() {
                    self.tx.bind_address(hint.digest, &hint.address, found.as_ref().map_or(0, |(row, _)| *row))?;
                    break;
                }
            }
        }
        let (row, mut contact, mut grown) = match found {
            Some((row, contact)) => {
                let grown = hint.verified && !contact.addresses.contains(&hint.address);
                (row, contact, grown)
            }
            None => {
                let id = ContactId(self.context.id());
                let row = self.tx.open_contact(id, hint.name.as_deref())?;
                self.tx.bind_address(hint.digest, &hint.address, row)?;
                (row, Contact { id, name: hint.name.clone(), addresses: vec![hint.address.clone()] }, false)
            }
        };
        if !hint.verified {
            let name = hint.name.clone();
            return Ok((row, Contact { id: contact.id, name, addresses: vec![hint.address.clone()] }));
        }
        for (address, digest) in &hint.also {
            // An address that belongs to another contact stays there: merging people is a decision of its own.
            if !contact.addresses.contains(address) && self.tx.contact_by_address(*digest)?.is_none() {
                self.tx.bind_address(*digest, address, row)?;
                grown = true;
            }
        }
        if let Some(name) = hint.name.as_deref().filter(|name| contact.name.as_deref() != Some(*name)) {
            self.tx.rename_contact(row, name)?;
            contact.name = Some(name.to_owned());
        }
        if grown && let Some(now) = self.tx.contact(row)? {
            contact.addresses = now.addresses;
        }
        Ok((row, contact))
    }

    /// The form of a contact that a message with this hint may show.
    pub(super) fn shown_contact(&mut self, row: RowNumber, hint: Option<&ContactHint>) -> Result<Option<Contact>, StoreError> {
        let (Some(contact), Some(hint)) = (self.tx.contact(row)?, hint) else {
            return Ok(None);
        };
        if hint.verified {
            return Ok(Some(contact));
        }
        Ok(Some(Contact { id: contact.id, name: hint.name.clone(), addresses: vec![hint.address.clone()] }))
    }
}
