//! Items as a connector's mapping gives them: what tests and benchmarks of the store admit.

use omnigate::logic::digest::Digester;
use omnigate::model::address::Address;
use omnigate::model::event::{Author, Direction, Party};
use omnigate::model::item::{ContactHint, MessageItem, ThreadCandidate, Threading};
use omnigate::model::time::Time;

/// What a customer with this address, called `name`, says in the conversation of the key `thread`; its text is its external id too.
pub fn said(digester: &Digester, address: &str, name: &str, thread: &str, text: &str, now: Time) -> MessageItem {
    let address = Address::parse(address).unwrap();
    let key = digester.conversation("chat", "a", &[thread]);
    let digest = digester.address(&address);
    let contact = ContactHint { address: address.clone(), digest, name: Some(name.to_owned()), verified: true, also: Vec::new() };
    let candidate = ThreadCandidate { key, rule: "sender".into(), evidence: Some(thread.into()), participants_only: false };
    MessageItem {
        threading: Threading { candidates: vec![candidate], registers: vec![key], ends_by_silence: true, opens_rule: "opens".into() },
        direction: Direction::Inbound,
        author: Author::Customer,
        kind: "text".into(),
        from: Some(Party { address, name: Some(name.into()), handle: None, avatar_url: None }),
        contact: Some(contact),
        to: Vec::new(),
        subject: None,
        text: Some(text.into()),
        html: None,
        reply_text: None,
        language: None,
        attachments: Vec::new(),
        in_reply_to: None,
        external_id: Some(text.into()),
        external_url: None,
        automated: None,
        authentication: None,
        feedback: None,
        call: None,
        edited: false,
        historic: false,
        truncated: Vec::new(),
        sent_at: None,
        received_at: now,
        extra: serde_json::Map::new(),
        aliases: Vec::new(),
        hints: Vec::new(),
        hold: None,
        gather: None,
        ticket: None,
    }
}
