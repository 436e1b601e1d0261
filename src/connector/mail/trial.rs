//! One mail tried at a desk: what `omnigate try imap` and the fixtures show. No store, fixed keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::connector::mail::{self, MailContext, MailLimits, settings};
use crate::logic::digest::{Digester, INSTANCE_KEY_BYTES};
use crate::model::event::{Channel, Priority};
use crate::model::id::RawId;
use crate::model::item::{ChannelFacts, Item};
use crate::model::raw::{Raw, RawHead, Via};
use crate::model::time::Time;

/// Reads `bytes` as a mail of a channel with these settings.
pub fn read(connector: &str, declared: &Map<String, Value>, bytes: &[u8], now: Time) -> Item {
    let id = format!("try-{connector}");
    let channel = ChannelFacts {
        public: Channel { id: id.clone(), connector: connector.to_owned(), labels: BTreeMap::new() },
        priority: Priority::Normal,
        new_after_ms: None,
        back: None,
    };
    let mailboxes = settings::addresses(declared);
    let context = MailContext {
        digester: Digester::new(&[0; INSTANCE_KEY_BYTES]),
        channel: Arc::new(channel),
        namespace: mail::NAMESPACE.to_owned(),
        account: settings::account(declared, &mailboxes, &id),
        signed_replies: settings::signed_replies(declared),
        agents: settings::agents(declared),
        mailboxes,
        authserv_ids: settings::authserv_ids(declared),
        vouched: None,
        verify_senders: settings::verify_senders(declared),
        historic: false,
        limits: MailLimits::default(),
    };
    let raw =
        Raw { id: RawId(0), source: id, via: Via::Imap, received_at: now, head: RawHead::default(), body: Bytes::copy_from_slice(bytes) };
    mail::read(&raw, &context)
}
