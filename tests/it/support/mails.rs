//! What mails are read with in tests: the mailbox support@acme.example, its border mx.acme.example, its people at staff.example.

use std::sync::Arc;

use bytes::Bytes;
use omnigate::connector::mail::{self, MailContext, MailLimits};
use omnigate::logic::digest::Digester;
use omnigate::model::address::Address;
use omnigate::model::event::{Channel, Priority};
use omnigate::model::id::RawId;
use omnigate::model::item::ChannelFacts;
use omnigate::model::raw::{Raw, RawHead, Via};
use omnigate::model::time::Time;

/// When a mail came unless a test says otherwise.
pub const RECEIVED_AT: &str = "2026-11-22T09:14:03Z";

/// The channel.
pub fn context() -> MailContext {
    MailContext {
        digester: Digester::new(&[7; 32]),
        channel: Arc::new(ChannelFacts {
            public: Channel { id: "support".to_owned(), connector: "imap".to_owned(), labels: Default::default() },
            priority: Priority::Normal,
            new_after_ms: None,
            back: None,
        }),
        namespace: mail::NAMESPACE.to_owned(),
        account: String::new(),
        signed_replies: false,
        agents: vec!["@staff.example".to_owned()],
        mailboxes: vec![Address::parse("email:support@acme.example").unwrap()],
        authserv_ids: vec!["mx.acme.example".to_owned()],
        vouched: None,
        verify_senders: false,
        historic: false,
        limits: MailLimits::default(),
    }
}

/// A raw that came by IMAP at [`RECEIVED_AT`].
pub fn raw(id: u128, mail: impl Into<Bytes>) -> Raw {
    Raw {
        id: RawId(id),
        source: "support".to_owned(),
        via: Via::Imap,
        received_at: Time::parse(RECEIVED_AT).unwrap(),
        head: RawHead::default(),
        body: mail.into(),
    }
}
