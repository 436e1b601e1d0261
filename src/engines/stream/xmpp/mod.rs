//! XMPP: rooms (XEP-0045) and chats, and what was said meanwhile by the archives (XEP-0313) of the account and of the rooms.
//!
//! What must stay true: what comes again from an archive or a room's history is handed over again, and the ids of its stanzas
//! decide. Where we go on from moves only when no archive owes anything. Only messages with something to say are payloads; typing,
//! receipts and presence are not. A room that does not answer keeps no other waiting (I8).

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
/// Rooms are waited for so long; who answers later is heard from then on.
const ENTER_WITHIN: Duration = Duration::from_secs(15);
/// An archive's answer must go on within.
const ARCHIVE_WITHIN: Duration = Duration::from_secs(60);
/// Messages of an archive that are asked for at once.
const PAGE: usize = 100;
/// An archive is asked so often, a minute apart, before what it owes is given up: meanwhile the others' is asked for again and again.
const ARCHIVE_TRIES: u32 = 60;
/// Pages of a session. Beyond it the rest is missed, and the channel says so.
const PAGES_MAX: usize = 2000;
/// Conditions of an error by which an archive says that it has nothing for us; any other is trouble of the moment.
const NO_ARCHIVE: &[&str] = &[
    "feature-not-implemented",
    "service-unavailable",
    "item-not-found",
    "not-allowed",
    "forbidden",
    "not-authorized",
    "not-acceptable",
    "bad-request",
    "registration-required",
    "subscription-required",
];
/// The archive is asked for what is older than the last message by so much: clocks differ, and what is known is told apart by ids.
const OVERLAP_MS: i64 = 60_000;
/// When something last came.
const LAST: &str = "last";
/// What of a message is worth handing over.
const WORTH: &[&[u8]] = &[b"<body", b"<retract", b"<reactions"];

/// Logs in and enters the rooms.
pub async fn connect(settings: &StreamSettings, cursors: &Cursors) -> Result<Session, PullError> {
    let mut talk = talk_of(settings, cursors)?;
    let Bound { wire, jid, place } = login(settings).await?;
    (talk.jid, talk.place) = (jid, place.clone());
    Session::begin(wire, Box::new(talk), settings.plan.gather, place)
}

/// The talk of one who is not logged in yet.
pub(super) fn talk_of(settings: &StreamSettings, cursors: &Cursors) -> Result<Xmpp, PullError> {
    let text = |name: &str| settings.settings.get(name).and_then(Value::as_str).unwrap_or_default();
    let bare = text("jid").split('/').next().unwrap_or_default().to_owned();
    let nick = Some(text("nick")).filter(|nick| !nick.is_empty()).unwrap_or_else(|| bare.split('@').next().unwrap_or_default()).to_owned();
    let rooms = settings.settings.get("rooms").and_then(Value::as_array).into_iter().flatten();
    let rooms: Vec<String> = rooms.filter_map(Value::as_str).map(str::to_owned).collect();
    if let Some(wrong) = rooms.iter().find(|room| !room.contains('@') || room.contains(char::is_whitespace)) {
        return Err(person(Code::ChannelConfig, &format!("`{}` is no room such as help@conference.example.org", wrong.escape_default())));
    }
    Ok(Xmpp {
        plan: settings.plan.clone(),
        clock: settings.clock.clone(),
        place: String::new(),
        domain: bare.split('@').nth(1).unwrap_or_default().to_owned(),
        jid: bare,
        nick,
        entering: rooms.iter().map(|room| room.to_lowercase()).collect(),
        entering_until: Instant::now() + ENTER_WITHIN,
        outside: BTreeSet::new(),
        rooms,
        again_at: None,
        since: cursors.get(LAST).and_then(|text| Time::parse(text)),
        archives: VecDeque::new(),
        asking: None,
        archive_again_at: None,
        archive_failures: 0,
        pages: 0,
        number: 0,
        told_time: None,
        silence: Silence::new(settings.plan.ping.or(Some((ASK_AFTER, ANSWER_WITHIN))), None, Instant::now()),
    })
}

/// The talk.
pub(super) struct Xmpp {
    plan: Arc<StreamPlan>,
    clock: Arc<dyn Clock>,
    place: String,
    domain: String,
    jid: String,
    nick: String,
    rooms: Vec<String>,
    /// Rooms that are waited for.
    entering: BTreeSet<String>,
    entering_until: Instant,
    /// Rooms that we are not in, and are not waited for.
    outside: BTreeSet<String>,
    again_at: Option<Instant>,
    since: Option<Time>,
    /// Archives to ask: `None` is the account's own; from which message on.
    archives: VecDeque<(Option<String>, Option<String>)>,
    /// The question that is open.
    asking: Option<Asking>,
    /// No archive is asked before.
    archive_again_at: Option<Instant>,
    /// Questions in a row that went wrong; the first is told.
    archive_failures: u32,
    pages: usize,
    number: u64,
    /// The server's time of day, and when it was told: archives count by their own.
    told_time: Option<(Time, Instant)>,
    silence: Silence,
}

/// A question to an archive.
struct Asking {
    id: String,
    /// A room; `None` is the account's own.
    room: Option<String>,
    /// From which message on.
    after: Option<String>,
    /// Its answer must go on until then.
    until: Instant,
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

    /// The time as the server has it, however wrong our clock is or becomes; ours where it does not say.
    fn time(&self, now: Instant) -> Time {
        let of_server = self.told_time.map(|(time, at)| {
            let since = now.saturating_duration_since(at).as_millis();
            time.plus_ms(i64::try_from(since).unwrap_or(i64::MAX))
        });
        of_server.unwrap_or_else(|| self.clock.now())
    }

    /// The server has told its time (XEP-0202).
    fn tells_time(&mut self, text: &str, head: &BTreeMap<String, String>, now: Instant, out: &mut Deeds) {
        let of_server = head.get("from").is_some_and(|from| from.eq_ignore_ascii_case(&self.domain));
        if let Some(time) = login::inner(text, "utc").and_then(Time::parse).filter(|_| of_server) {
            self.told_time = Some((time, now));
            if self.since.is_none() {
                out.remember(LAST, time.to_string(), now);
                out.hurry();
            }
        }
    }

    /// Asks the next archive, if no question is open.
    fn ask_archive(&mut self, now: Instant, out: &mut Deeds) {
        let Some(since) = self.since.filter(|_| self.asking.is_none() && self.archive_again_at.is_none()) else { return };
        let Some((room, after)) = self.archives.pop_front() else { return };
        if self.pages >= PAGES_MAX {
            self.archives.clear();
            return out.note(Code::Flood, format!("{}: so much was said meanwhile that the last of it is left out", self.place));
        }
        (self.number, self.pages) = (self.number + 1, self.pages + 1);
        let id = format!("mam{}", self.number);
        let to = room.as_ref().map(|room| format!(" to='{}'", escaped(room))).unwrap_or_default();
        let from_there = after.as_ref().map(|after| format!("<after>{}</after>", escaped(after))).unwrap_or_default();
        let start = since.plus_ms(-OVERLAP_MS);
        out.text(format!(
            "<iq type='set' id='{id}'{to}><query xmlns='urn:xmpp:mam:2' queryid='{id}'><x xmlns='jabber:x:data' type='submit'>\
             <field var='FORM_TYPE' type='hidden'><value>urn:xmpp:mam:2</value></field><field var='start'><value>{start}</value></field></x>\
             <set xmlns='http://jabber.org/protocol/rsm'><max>{PAGE}</max>{from_there}</set></query></iq>"
        ));
        self.asking = Some(Asking { id, room, after, until: now + ARCHIVE_WITHIN });
    }

    /// The open question is answered.
    fn archived(&mut self, asked: Asking, kind: &str, text: &str, now: Instant, out: &mut Deeds) {
        let Asking { room, after, .. } = asked;
        if kind == "error" {
            let why = condition(text);
            if !NO_ARCHIVE.contains(&why.as_str()) {
                return self.archive_fails(room, after, &why, now, out);
            }
            // The message to go on from is no longer there: the start is.
            if why == "item-not-found" && after.is_some() {
                self.archives.push_front((room, None));
            }
        } else {
            self.archive_failures = 0;
            let last = login::inner(text, "last").map(str::to_owned);
            let complete = text.contains("complete='true'") || text.contains("complete=\"true\"");
            // A page that ends where it began would come for ever.
            if !complete && last.is_some() && last != after {
                self.archives.push_front((room, last));
            }
        }
        self.ask_archive(now, out);
    }

    /// Trouble of the moment: what is owed stays owed, for long.
    fn archive_fails(&mut self, room: Option<String>, after: Option<String>, why: &str, now: Instant, out: &mut Deeds) {
        self.archive_failures += 1;
        let whose = room.as_deref().unwrap_or("the account");
        let detail = format!("{}: what was missed is not told by the archive of {whose}: {why}", self.place);
        if self.archive_failures >= ARCHIVE_TRIES {
            out.note(Code::ConnectionLost, format!("{detail}; it is given up"));
            return self.ask_archive(now, out);
        }
        if self.archive_failures == 1 {
            out.note(Code::Unreachable, detail);
        }
        self.archives.push_back((room, after));
        self.archive_again_at = Some(now + TRY_AGAIN);
    }

    /// Whether an answer is of whom the open question went to: ids can be guessed.
    fn is_answer(&self, head: &BTreeMap<String, String>) -> bool {
        let Some(asking) = &self.asking else { return false };
        let from = head.get("from").map(|from| from.to_lowercase());
        let asked = asking.room.as_deref().or(self.jid.split('/').next()).unwrap_or_default().to_lowercase();
        let is_it = from.map_or(asking.room.is_none(), |from| from == asked);
        is_it && head.get("id").is_some_and(|id| *id == asking.id)
    }

    fn query(&mut self, text: &str, head: &BTreeMap<String, String>, now: Instant, out: &mut Deeds) {
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
            "result" if of("id") == "time" => self.tells_time(text, head, now, out),
            kind if self.is_answer(head) => {
                if let Some(asked) = self.asking.take() {
                    self.archived(asked, kind, text, now, out);
                }
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
            let why = if kind == "error" { condition(text) } else { "left".to_owned() };
            self.is_outside(&key, &why, now, out);
        } else if kind.is_empty() && us && (self.entering.remove(&key) || self.outside.remove(&key)) {
            if self.since.is_some() {
                self.archives.push_back((Some(room.to_owned()), None));
            }
            self.ask_archive(now, out);
        }
    }

    /// We are not in a room: tried again.
    fn is_outside(&mut self, room: &str, why: &str, now: Instant, out: &mut Deeds) {
        if self.outside.insert(room.to_owned()) {
            out.note(Code::NoFolder, format!("{}: not in the room {room}: {why}", self.place));
        }
        self.again_at.get_or_insert(now + TRY_AGAIN);
    }
}

impl Talk for Xmpp {
    fn begin(&mut self, now: Instant, out: &mut Deeds) -> Result<(), PullError> {
        self.silence.broken(now);
        // Messages of our own other clients are none for us; carbons stay off.
        out.text("<presence/>");
        out.text(format!("<iq type='get' id='time' to='{}'><time xmlns='urn:xmpp:time'/></iq>", escaped(&self.domain)));
        for room in self.rooms.clone() {
            self.enter(&room, out);
        }
        match self.since {
            Some(_) => self.archives.push_back((None, None)),
            None => {
                out.remember(LAST, self.time(now).to_string(), now);
                out.hurry();
            }
        }
        self.ask_archive(now, out);
        self.entering_until = now + ENTER_WITHIN;
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
            self.query(&text, &head, now, out);
        } else if text.starts_with("<presence") {
            self.presence(&text, &head, now, out);
        } else if text.starts_with("<message")
            && head.get("type").is_none_or(|kind| kind != "error")
            && WORTH.iter().any(|worth| memmem::find(&frame, worth).is_some())
        {
            out.payload(frame, self.plan.content_type, false, now);
            if let Some(asked) = self.asking.as_mut().filter(|_| text.contains("<result")) {
                asked.until = now + ARCHIVE_WITHIN;
            }
            // While archives are read, what came last is not what was missed last.
            if self.asking.is_none() && self.archives.is_empty() {
                out.remember(LAST, self.time(now).to_string(), now);
            }
        }
        Ok(())
    }

    fn alive(&mut self, now: Instant) {
        self.silence.broken(now);
    }

    fn wake(&self) -> Option<Instant> {
        let entering = (!self.entering.is_empty()).then_some(self.entering_until);
        let asked = self.asking.as_ref().map(|asked| asked.until);
        self.silence.wake().into_iter().chain(self.again_at).chain(entering).chain(asked).chain(self.archive_again_at).min()
    }

    fn tick(&mut self, now: Instant, out: &mut Deeds) -> Result<(), PullError> {
        if self.again_at.is_some_and(|again| now >= again) {
            self.again_at = None;
            let outside: Vec<String> = self.rooms.iter().filter(|room| self.outside.contains(&room.to_lowercase())).cloned().collect();
            for room in &outside {
                self.enter(room, out);
            }
            // An answer may be lost, too.
            self.again_at = (!outside.is_empty()).then_some(now + TRY_AGAIN);
        }
        if now >= self.entering_until {
            for room in std::mem::take(&mut self.entering) {
                self.is_outside(&room, "no answer", now, out);
            }
        }
        if let Some(asked) = self.asking.take_if(|asked| now >= asked.until) {
            self.archive_fails(asked.room, asked.after, "no answer", now, out);
        }
        if self.archive_again_at.take_if(|again| now >= *again).is_some() {
            self.ask_archive(now, out);
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

/// The condition of an error stanza: the first child of its `<error>`.
fn condition(text: &str) -> String {
    text.split_once("<error").map_or_else(|| "error".to_owned(), |(_, rest)| error_name(&format!("<error{rest}")))
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
