//! Who wrote it and to whom.
//!
//! The author is From. Reply-To, Return-Path and Sender stand in only where From has no address: taken first, they would
//! name forms and lists as authors. Several From fields are told and never authenticated.

use crate::connector::mail::MailContext;
use crate::connector::mail::charset::Charsets;
use crate::connector::mail::fields::{self, Field};
use crate::connector::mail::words::{self, Named};
use crate::model::address::Address;
use crate::model::event::{Party, Recipient};
use crate::model::item::RECIPIENTS_MAX;

/// Authors and recipients of a mail.
#[derive(Debug, Default)]
pub struct Identity {
    /// The author.
    pub from: Option<Party>,
    /// From holds exactly one field with one address, and names the author.
    pub from_is_plain: bool,
    /// Where answers are to go.
    pub reply_to: Vec<Named>,
    /// `to`, `cc`, `bcc`, `mailbox`, without repeats within a role.
    pub to: Vec<Recipient>,
    /// Sender of the envelope; the null sender is an empty text.
    pub return_path: Option<String>,
    /// Sender field.
    pub sender: Option<Named>,
    /// What stands behind `+` in the address of the mailbox it came to.
    pub tag: Option<String>,
    /// What is odd about it.
    pub flags: Vec<&'static str>,
}

impl Identity {
    /// Whether the mail is from or to this address.
    pub fn names(&self, address: &str) -> bool {
        self.from.iter().map(|from| &from.address).chain(self.to.iter().map(|to| &to.address)).any(|known| known.value() == address)
    }

    /// Whether an address is one of the mailbox, or one of those with a tag behind `+` (RFC 5233).
    pub fn is_ours(&self, address: &Address, context: &MailContext) -> bool {
        let bare = without_tag(address.value()).0;
        let own = |known: &Address| without_tag(known.value()).0 == bare;
        context.mailboxes.iter().any(own) || self.to.iter().any(|one| one.role == "mailbox" && own(&one.address))
    }
}

/// An address without what stands behind `+`, and that.
fn without_tag(address: &str) -> (String, Option<&str>) {
    let Some((local, domain)) = address.rsplit_once('@') else { return (address.to_owned(), None) };
    match local.split_once('+') {
        Some((bare, tag)) => (format!("{bare}@{domain}"), Some(tag)),
        None => (address.to_owned(), None),
    }
}

/// Reads authors and recipients.
pub fn read(header: &[Field], mail: &[u8], charsets: &Charsets, context: &MailContext) -> Identity {
    let named = |name: &str| -> Vec<Named> {
        fields::all(header, mail, name).take(20).flat_map(|value| words::addresses(value, charsets)).collect()
    };
    let mut identity = Identity { reply_to: named("reply-to"), sender: named("sender").into_iter().next(), ..Identity::default() };
    identity.return_path = fields::first(header, mail, "return-path").map(|value| {
        let text = words::text(value, charsets);
        text.trim_matches(['<', '>', ' ']).to_owned()
    });
    let from_fields = fields::all(header, mail, "from").count();
    let from = named("from");
    // A program or two encodes the field whole, address and all. It names nobody to those who verify (`no_from`), but does to people.
    let encoded = || {
        let text = words::text(fields::first(header, mail, "from")?, charsets);
        words::addresses(text.as_bytes(), charsets).into_iter().find(|one| one.address.is_some())
    };
    author(&mut identity, &from, from_fields, encoded);
    recipients(&mut identity, &named, header, mail, charsets, context);
    rewritten(&mut identity, &named, header, mail, context);
    let tagged = identity.to.iter().filter(|one| one.role == "mailbox" || identity.is_ours(&one.address, context));
    identity.tag = tagged.filter_map(|one| without_tag(one.address.value()).1).find(|tag| !tag.starts_with("c.")).map(str::to_owned);
    if identity.from.as_ref().is_some_and(|from| identity.is_ours(&from.address, context)) {
        identity.flags.push("from_own_address");
    }
    identity
}

/// Groups and lists put their own address into From and the author's into a field beside it. It is believed only where From is
/// the group or the mailbox itself, and never counts as verified.
fn rewritten(identity: &mut Identity, named: &dyn Fn(&str) -> Vec<Named>, header: &[Field], mail: &[u8], context: &MailContext) {
    let Some(from) = &identity.from else { return };
    let listed = ["list-id", "x-google-group-id", "mailing-list"].iter().any(|name| fields::first(header, mail, name).is_some());
    let via =
        from.name.as_deref().and_then(|name| name.rsplit_once(" via ")).map(|(name, _)| name.trim_matches(['\'', '"', ' ']).to_owned());
    if !listed || via.is_none() && !identity.is_ours(&from.address, context) {
        return;
    }
    let original =
        ["x-original-from", "x-original-sender"].iter().find_map(|name| named(name).into_iter().find(|one| one.address.is_some()));
    let Some(Named { address: Some(address), name }) = original else { return };
    if address == from.address {
        return;
    }
    identity.flags.push("rewritten_from");
    identity.from_is_plain = false;
    identity.from = Some(Party { address, name: name.or(via), handle: None, avatar_url: None });
}

fn author(identity: &mut Identity, from: &[Named], from_fields: usize, encoded: impl FnOnce() -> Option<Named>) {
    if from_fields > 1 {
        identity.flags.push("several_from");
    }
    let addressed = from.iter().filter(|one| one.address.is_some()).count();
    if addressed > 1 && from_fields == 1 {
        identity.flags.push("several_authors");
    }
    identity.from_is_plain = from_fields == 1 && addressed == 1;
    // A name without an address may stand for the address that was found elsewhere; the name of somebody else may not.
    let name = from.iter().filter(|_| addressed == 0).find_map(|one| one.name.clone());
    let first = |list: &[Named]| list.iter().find(|one| one.address.is_some()).cloned();
    let return_path =
        identity.return_path.as_deref().and_then(words::mail_address).map(|address| Named { address: Some(address), name: None });
    let found = first(from)
        .or_else(|| first(&identity.reply_to))
        .or(return_path)
        .or_else(|| identity.sender.clone().filter(|one| one.address.is_some()))
        .or_else(encoded);
    if addressed == 0 {
        identity.flags.push("no_from");
    }
    identity.from = found.and_then(|one| {
        let name = one.name.or(name.filter(|name| *name != one.address.as_ref().map_or("", |address| address.value())));
        one.address.map(|address| Party { address, name, handle: None, avatar_url: None })
    });
}

fn recipients(
    identity: &mut Identity,
    named: &dyn Fn(&str) -> Vec<Named>,
    header: &[Field],
    mail: &[u8],
    charsets: &Charsets,
    context: &MailContext,
) {
    for role in ["to", "cc", "bcc"] {
        for one in named(role) {
            if let Some(address) = one.address {
                add(identity, address, one.name, role);
            }
        }
    }
    // Where it was found: aliases and blind copies do not show in To and Cc.
    for name in ["delivered-to", "x-delivered-to", "x-original-to", "envelope-to", "x-envelope-to", "x-forwarded-to"] {
        for value in fields::all(header, mail, name).take(10) {
            for one in words::addresses(value, charsets) {
                if let Some(address) = one.address {
                    add(identity, address, None, "mailbox");
                }
            }
        }
    }
    for address in &context.mailboxes {
        add(identity, address.clone(), None, "mailbox");
    }
}

fn add(identity: &mut Identity, address: Address, name: Option<String>, role: &str) {
    let known = identity.to.iter().any(|one| one.address == address && one.role == role);
    if !known && identity.to.len() < RECIPIENTS_MAX {
        identity.to.push(Recipient { address, name, role: role.to_owned() });
    }
}
