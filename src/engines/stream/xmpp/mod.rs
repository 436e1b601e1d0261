//! XMPP: rooms (XEP-0045) and chats, and what was said meanwhile by the archives (XEP-0313) of the account and of the rooms.
//!
//! What must stay true: what comes again from an archive or a room's history is handed over again, and the ids of its stanzas
//! decide. Only messages with something to say are payloads; typing, receipts and presence are not.

mod login;
mod sasl;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use memchr::memmem;
use serde_json::Value;
use tokio::time::Instant;

use crate::connector::stream::StreamPlan;
use crate::engines::stream::StreamSettings;
use crate::engines::stream::connect::person;
use crate::engines::stream::session::Session;
use crate::engines::stream::silence::Silence;
use crate::engines::stream::talk::{Deeds, Say, Talk};
use crate::engines::stream::xmpp::login::{Bound, error_name, escaped, login};
use crate::model::codes::Code;
use crate::model::time::Time;
use crate::ports::clock::Clock;
use crate::ports::feed::Cursors;
use crate::ports::pull::PullError;

const ASK_AFTER: Duration = Duration::from_secs(60);
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const TRY_AGAIN: Duration = Duration::from_secs(60);
/// Messages of an archive that are asked for at once.
const PAGE: usize = 100;
/// The archive is asked for what is older than the last message by so much: clocks differ, and what is known is told apart by ids.
const OVERLAP_MS: i64 = 60_000;
/// When something last came.
const LAST: &str = "last";
/// What of a message is worth handing over.
const WORTH: &[&[u8]] = &[b"<body", b"<retract", b"<reactions"];

/// Logs in and enters the rooms.
pub async fn connect(settings: &StreamSettings, cursors: &Cursors) -> Result<Session, PullError> {
    let text = |name: &str| settings.settings.get(name).and_then(Value::as_str).unwrap_or_default();
    let bare = text("jid").split('/').next().unwrap_or_default().to_owned();
    let nick = Some(text("nick")).filter(|nick| !nick.is_empty()).unwrap_or_else(|| bare.split('@').next().unwrap_or_default()).to_owned();
    let rooms = settings.settings.get("rooms").and_then(Value::as_array).into_iter().flatten();
    let rooms: Vec<String> = rooms.filter_map(Value::as_str).map(str::to_owned).collect();
    if let Some(wrong) = rooms.iter().find(|room| !room.contains('@') || room.contains(char::is_whitespace)) {
        return Err(person(Code::ChannelConfig, &format!("`{}` is no room such as help@conference.example.org", wrong.escape_default())));
    }
    let Bound { wire, jid, place } = login(settings).await?;
    let talk = Xmpp {
        plan: settings.plan.clone(),
        clock: settings.clock.clone(),
        place: place.clone(),
        domain: bare.split('@').nth(1).unwrap_or_default().to_owned(),
        jid,
        nick,
        entering: rooms.iter().map(|room| room.to_lowercase()).collect(),
        rooms,
        again_at: None,
        since: cursors.get(LAST).and_then(|text| Time::parse(text)),
        archives: VecDeque::new(),
        asking: None,
        number: 0,
        silence: Silence::new(Some((ASK_AFTER, ANSWER_WITHIN)), None, Instant::now()),
    };
    Session::begin(wire, Box::new(talk), settings.plan.gather, place)
}

struct Xmpp {
    plan: Arc<StreamPlan>,
    clock: Arc<dyn Clock>,
    place: String,
    domain: String,
    jid: String,
    nick: String,
    rooms: Vec<String>,
    /// Rooms that have not let us in yet.
    entering: BTreeSet<String>,
    again_at: Option<Instant>,
    since: Option<Time>,
    /// Archives to ask: `None` is the account's own; from which message on.
    archives: VecDeque<(Option<String>, Option<String>)>,
    /// The id of the question that is open, and which archive it is about.
    asking: Option<(String, Option<String>)>,
    number: u64,
    silence: Silence,
}

impl Xmpp {
    fn enter(&self, room: &str, out: &mut Deeds) {
        let history = match self.since {
            Some(since) => format!("<history since='{}'/>", since.plus_ms(-OVERLAP_MS)),
            None => "<history maxstanzas='0'/>".to_owned(),
        };
        let to = format!("{}/{}", escaped(room), escaped(&self.nick));
        out.text(format!("<presence to='{to}'><x xmlns='http://jabber.org/protocol/muc'>{history}</x></presence>"));
    }

    /// Asks the next archive, if no question is open.
    fn ask_archive(&mut self, out: &mut Deeds) {
        let Some(since) = self.since.filter(|_| self.asking.is_none()) else { return };
        let Some((room, after)) = self.archives.pop_front() else { return };
        self.number += 1;
        let id = format!("mam{}", self.number);
        let to = room.as_ref().map(|room| format!(" to='{}'", escaped(room))).unwrap_or_default();
        let after = after.map(|after| format!("<after>{}</after>", escaped(&after))).unwrap_or_default();
        let start = since.plus_ms(-OVERLAP_MS);
        out.text(format!(
            "<iq type='set' id='{id}'{to}><query xmlns='urn:xmpp:mam:2' queryid='{id}'><x xmlns='jabber:x:data' type='submit'>\
             <field var='FORM_TYPE' type='hidden'><value>urn:xmpp:mam:2</value></field><field var='start'><value>{start}</value></field></x>\
             <set xmlns='http://jabber.org/protocol/rsm'><max>{PAGE}</max>{after}</set></query></iq>"
        ));
        self.asking = Some((id, room));
    }

    fn query(&mut self, text: &str, head: &BTreeMap<String, String>, out: &mut Deeds) {
        let of = |name: &str| head.get(name).map(String::as_str).unwrap_or_default();
        match of("type") {
            "get" | "set" => {
                let to = head.get("from").map(|from| format!(" to='{}'", escaped(from))).unwrap_or_default();
                let id = escaped(of("id"));
                out.text(if text.contains("urn:xmpp:ping") {
                    format!("<iq type='result' id='{id}'{to}/>")
                } else {
                    let condition = "<service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>";
                    format!("<iq type='error' id='{id}'{to}><error type='cancel'>{condition}</error></iq>")
                });
            }
            kind if self.asking.as_ref().is_some_and(|(id, _)| id == of("id")) => {
                let room = self.asking.take().and_then(|(_, room)| room);
                let last = login::inner(text, "last").map(str::to_owned);
                // A server without an archive says so; then there is nothing to ask for.
                let complete = text.contains("complete='true'") || text.contains("complete=\"true\"");
                if kind == "result" && !complete && last.is_some() {
                    self.archives.push_front((room, last));
                }
                self.ask_archive(out);
            }
            _ => {}
        }
    }

    fn presence(&mut self, text: &str, head: &BTreeMap<String, String>, now: Instant, out: &mut Deeds) {
        let from = head.get("from").map(String::as_str).unwrap_or_default();
        let (room, nick) = from.split_once('/').unwrap_or((from, ""));
        let key = room.to_lowercase();
        if !self.rooms.iter().any(|known| known.to_lowercase() == key) {
            return;
        }
        let kind = head.get("type").map(String::as_str).unwrap_or_default();
        let us = text.contains("code='110'") || text.contains("code=\"110\"") || nick == self.nick;
        if kind == "error" && text.contains("<conflict") && self.nick.len() < 64 {
            self.nick.push('_');
            self.enter(room, out);
        } else if kind == "error" || (kind == "unavailable" && us) {
            self.entering.remove(&key);
            let why = if kind == "error" { error_name(&text.replacen("<x", "<error", 1)) } else { "left".to_owned() };
            out.notes.push((Code::NoFolder, format!("{}: not in the room {room}: {why}", self.place)));
            self.again_at.get_or_insert(now + TRY_AGAIN);
        } else if kind.is_empty() && us && self.entering.remove(&key) {
            if self.since.is_some() {
                self.archives.push_back((Some(room.to_owned()), None));
            }
            self.ask_archive(out);
        }
    }
}

impl Talk for Xmpp {
    fn begin(&mut self, now: Instant, out: &mut Deeds) -> Result<(), PullError> {
        self.silence.broken(now);
        // Messages of our own other clients are none for us; carbons stay off.
        out.text("<presence/>");
        for room in self.rooms.clone() {
            self.enter(&room, out);
        }
        match self.since {
            Some(_) => self.archives.push_back((None, None)),
            None => {
                out.remember(LAST, self.clock.now().to_string(), now);
                out.hurry();
            }
        }
        self.ask_archive(out);
        Ok(())
    }

    fn heard(&mut self, frame: Bytes, now: Instant, out: &mut Deeds) -> Result<(), PullError> {
        self.alive(now);
        let text = String::from_utf8_lossy(&frame).into_owned();
        if text.starts_with("</") || text.starts_with("<stream:error") {
            let why = if text.starts_with("</") { "the stream was closed".to_owned() } else { error_name(&text) };
            let detail = format!("{}: {why}", self.place);
            // Somebody else logged in with our resource: it would go back and forth for ever.
            return Err(PullError::Lost { code: Code::ConnectionLost, detail, after: None });
        }
        let head = attributes(&text);
        if text.starts_with("<iq") {
            self.query(&text, &head, out);
        } else if text.starts_with("<presence") {
            self.presence(&text, &head, now, out);
        } else if text.starts_with("<message")
            && head.get("type").is_none_or(|kind| kind != "error")
            && WORTH.iter().any(|worth| memmem::find(&frame, worth).is_some())
        {
            out.payload(frame, self.plan.content_type, false, now);
            // While archives are read, what came last is not what was missed last.
            if self.asking.is_none() && self.archives.is_empty() {
                out.remember(LAST, self.clock.now().to_string(), now);
            }
        }
        Ok(())
    }

    fn alive(&mut self, now: Instant) {
        self.silence.broken(now);
    }

    fn wake(&self) -> Option<Instant> {
        self.silence.wake().into_iter().chain(self.again_at).min()
    }

    fn tick(&mut self, now: Instant, out: &mut Deeds) -> Result<(), PullError> {
        if self.again_at.is_some_and(|again| now >= again) {
            self.again_at = None;
            // Whoever is in already only says so once more.
            for room in self.rooms.clone() {
                self.enter(&room, out);
            }
        }
        if self.silence.due(now, &self.place)? {
            self.number += 1;
            let (from, to) = (escaped(&self.jid), escaped(&self.domain));
            out.text(format!("<iq type='get' id='ping{}' from='{from}' to='{to}'><ping xmlns='urn:xmpp:ping'/></iq>", self.number));
        }
        Ok(())
    }

    fn closed(&mut self, _: Option<u16>, _: &str, _: &mut Deeds) -> Result<(), PullError> {
        Err(PullError::Lost { code: Code::ConnectionLost, detail: format!("{} closed the connection", self.place), after: None })
    }

    fn is_ready(&self) -> bool {
        self.entering.is_empty()
    }

    fn goodbye(&self) -> Vec<Say> {
        vec![Say::Text("<presence type='unavailable'/></stream:stream>".to_owned())]
    }
}

/// The attributes of the outermost element, its entities as they are.
fn attributes(stanza: &str) -> BTreeMap<String, String> {
    let mut quote = None;
    let ends = |char: char| {
        match (quote, char) {
            (None, '>') => return true,
            (None, '\'' | '"') => quote = Some(char),
            (Some(open), char) if open == char => quote = None,
            _ => {}
        }
        false
    };
    let tag = stanza.split(ends).next().unwrap_or_default();
    let mut found = BTreeMap::new();
    let mut rest = tag.split_once(char::is_whitespace).map_or("", |(_, rest)| rest);
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim();
        let quote = after.chars().next().filter(|char| matches!(char, '\'' | '"'));
        let Some((value, after)) = quote.and_then(|quote| after.get(1..)?.split_once(quote)) else { break };
        if name.contains(['<', '>', '/']) {
            break;
        }
        found.insert(name.to_owned(), value.to_owned());
        rest = after;
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn attributes_of_the_outermost_element_are_found() {
        let found = attributes("<iq type='result' id=\"a'b\" from='x@y'><ping to='z' type='no'/></iq>");
        assert_eq!(found.len(), 3);
        assert_eq!((found["type"].as_str(), found["id"].as_str()), ("result", "a'b"));
        assert_eq!(attributes("<iq>"), BTreeMap::new());
        assert_eq!(attributes("<iq><a b='c'/></iq>"), BTreeMap::new());
        assert_eq!(error_name("<failure xmlns='x'><not-authorized/></failure>"), "not-authorized");
    }
}
