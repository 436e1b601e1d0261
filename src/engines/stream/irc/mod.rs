//! IRC: registration, SASL PLAIN, capabilities, rooms, and what was said meanwhile by `CHATHISTORY` where it is offered.
//!
//! What must stay true: a password is sent over TLS or loopback only; nothing of the settings breaks out of its line; what comes
//! again (history, bouncers) is handed over again, and the keys of its items decide; what no history brings is told as missed; a room that
//! does not answer keeps no other waiting (I8).

mod line;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::Instant;

use crate::connector::stream::StreamPlan;
use crate::engines::stream::StreamSettings;
use crate::engines::stream::connect::{person, unreached};
use crate::engines::stream::irc::line::{Line, folded, is_word};
use crate::engines::stream::session::Session;
use crate::engines::stream::silence::Silence;
use crate::engines::stream::talk::{Deeds, Say, Talk};
use crate::engines::stream::wire::{Cutter, Wire};
use crate::http::dial::{self, Duplex};
use crate::model::codes::Code;
use crate::ports::clock::Clock;
use crate::ports::feed::Cursors;
use crate::ports::pull::PullError;

/// A line with its tags (IRCv3: 8191 and 512 bytes), generously.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// Rooms in one JOIN: the line stays below 512 bytes.
const JOIN_BYTES_MAX: usize = 400;
const ASK_AFTER: Duration = Duration::from_secs(120);
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// After a kick, and to get our nick back.
const TRY_AGAIN: Duration = Duration::from_secs(60);
/// Rooms are waited for so long; who answers later is heard from then on.
const JOIN_WITHIN: Duration = Duration::from_secs(15);
/// A piece of history is waited for so long.
const HISTORY_WITHIN: Duration = Duration::from_secs(60);
/// A server that throttles us is left alone so long: every try counts.
const THROTTLED: Duration = Duration::from_secs(60);
const NICKS_MAX: usize = 5;
/// Lines of history that are asked for at once.
const HISTORY_LINES: usize = 100;
/// A chunk of SASL (IRCv3 SASL 3.1).
const SASL_CHUNK: usize = 400;
const WANTED: &[&str] = &["message-tags", "server-time", "account-tag", "batch", "draft/chathistory", "msgid"];
/// The time of the last line: history is asked for from here.
const LAST: &str = "last";

/// Connects to `server`.
pub async fn connect(settings: &StreamSettings, cursors: &Cursors) -> Result<Session, PullError> {
    let (talk, host, port) = talk_of(settings, cursors)?;
    let place = talk.place.clone();
    let tcp = dial::tcp(&host, port, false).await.map_err(unreached)?;
    let stream: Box<dyn Duplex> =
        if is_secured(settings) { Box::new(dial::secure(tcp, &host, &place).await.map_err(unreached)?) } else { Box::new(tcp) };
    Session::begin(Wire::Plain(stream, Cutter::lines(LINE_BYTES_MAX)), Box::new(talk), settings.plan.gather, place)
}

fn is_secured(settings: &StreamSettings) -> bool {
    settings.settings.get("tls").and_then(Value::as_bool).unwrap_or(true)
}

/// The talk, and with which host and port.
pub(super) fn talk_of(settings: &StreamSettings, cursors: &Cursors) -> Result<(Irc, String, u16), PullError> {
    let text = |name: &str| settings.settings.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (server, nick, tls) = (text("server"), text("nick"), is_secured(settings));
    let (host, port) = place(&server, if tls { 6697 } else { 6667 })?;
    let rooms = settings.settings.get("rooms").and_then(Value::as_array).into_iter().flatten();
    let rooms: Vec<String> = rooms.filter_map(Value::as_str).map(str::to_owned).collect();
    let user = Some(text("user")).filter(|user| !user.is_empty()).unwrap_or_else(|| nick.clone());
    if let Some(wrong) = rooms.iter().chain([&nick, &user]).find(|word| !is_word(word)) {
        return Err(person(Code::ChannelConfig, &format!("`{}` is no name on IRC", wrong.escape_default())));
    }
    let password = settings.secrets.get("password").and_then(|values| values.first()).cloned();
    let loopback = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    if password.is_some() && !tls && !loopback {
        return Err(person(Code::Tls, &format!("{host}: a password is not sent without TLS; set tls = true")));
    }
    let talk = Irc {
        plan: settings.plan.clone(),
        clock: settings.clock.clone(),
        place: format!("{host}:{port}"),
        nick: nick.clone(),
        wanted_nick: nick,
        tries: 0,
        user,
        password,
        offered: BTreeSet::new(),
        has: BTreeSet::new(),
        registered: false,
        joining: rooms.iter().map(|room| folded(room)).collect(),
        rooms,
        joining_until: None,
        rejoin: BTreeSet::new(),
        again_at: None,
        batches: BTreeMap::new(),
        since: cursors.get(LAST).cloned(),
        history: VecDeque::new(),
        naming: false,
        asking: None,
        owed_until: None,
        silence: Silence::new(settings.plan.ping.or(Some((ASK_AFTER, ANSWER_WITHIN))), None, Instant::now()),
    };
    Ok((talk, host, port))
}

/// Host and port of `host`, `host:port`, `[v6]:port`.
pub fn place(server: &str, port: u16) -> Result<(String, u16), PullError> {
    let wrong = || person(Code::ChannelConfig, "[settings] server is no host:port");
    let url = url::Url::parse(&format!("x://{server}")).map_err(|_| wrong())?;
    let host = url.host_str().map(|host| host.trim_matches(['[', ']']).to_owned()).filter(|host| !host.is_empty());
    Ok((host.ok_or_else(wrong)?, url.port().unwrap_or(port)))
}

/// What a batch holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Batch {
    History,
    Targets,
    Other,
}

/// The talk.
pub(super) struct Irc {
    plan: Arc<StreamPlan>,
    clock: Arc<dyn Clock>,
    place: String,
    nick: String,
    wanted_nick: String,
    tries: usize,
    user: String,
    password: Option<SecretString>,
    /// Capabilities that the server told of.
    offered: BTreeSet<String>,
    /// Capabilities that are on.
    has: BTreeSet<String>,
    registered: bool,
    rooms: Vec<String>,
    /// Rooms whose JOIN has no answer yet.
    joining: BTreeSet<String>,
    /// They are waited for until then.
    joining_until: Option<Instant>,
    /// Rooms of ours that we are not in.
    rejoin: BTreeSet<String>,
    again_at: Option<Instant>,
    /// Open batches: reference → what they hold.
    batches: BTreeMap<String, Batch>,
    /// Time of the last line of the run before.
    since: Option<String>,
    /// Rooms and persons whose history is to be asked for.
    history: VecDeque<(String, String)>,
    /// Who wrote to us alone meanwhile is being asked for.
    naming: bool,
    /// What is being asked for: where, lines so far, time of the last.
    asking: Option<(String, usize, String)>,
    /// The answer to the open question must go on until then.
    owed_until: Option<Instant>,
    silence: Silence,
}

impl Irc {
    fn say(out: &mut Deeds, line: &str) {
        out.text(format!("{line}\r\n"));
    }

    fn capabilities(&mut self, line: &Line<'_>, out: &mut Deeds) -> Result<(), PullError> {
        let words = line.params.last().copied().unwrap_or_default();
        match line.param(1) {
            "LS" => {
                let names = words.split_ascii_whitespace().map(|word| word.split('=').next().unwrap_or_default().to_owned());
                self.offered.extend(names.take(200));
                // More lines follow (CAP LS 302).
                if line.param(2) == "*" {
                    return Ok(());
                }
                let mut wanted: Vec<&str> = WANTED.iter().copied().filter(|name| self.offered.contains(*name)).collect();
                if self.password.is_some() {
                    if !self.offered.contains("sasl") {
                        return Err(person(Code::AuthFailed, &format!("{} offers no SASL, so the password cannot be used", self.place)));
                    }
                    wanted.push("sasl");
                }
                Self::say(out, &if wanted.is_empty() { "CAP END".to_owned() } else { format!("CAP REQ :{}", wanted.join(" ")) });
            }
            "ACK" => {
                self.has.extend(words.split_ascii_whitespace().map(str::to_owned));
                Self::say(out, if self.has.contains("sasl") { "AUTHENTICATE PLAIN" } else { "CAP END" });
            }
            "NAK" if self.password.is_some() => {
                return Err(person(Code::AuthFailed, &format!("{} refuses SASL", self.place)));
            }
            "NAK" => Self::say(out, "CAP END"),
            _ => {}
        }
        Ok(())
    }

    fn authenticate(&self, out: &mut Deeds) {
        let Some(password) = &self.password else { return };
        let plain = format!("\0{}\0{}", self.user, password.expose_secret());
        let text = base64::engine::general_purpose::STANDARD.encode(plain);
        let mut rest = text.as_str();
        while let Some((chunk, more)) = rest.split_at_checked(SASL_CHUNK) {
            Self::say(out, &format!("AUTHENTICATE {chunk}"));
            rest = more;
        }
        // A last chunk that is full is followed by an empty one.
        Self::say(out, &format!("AUTHENTICATE {}", if rest.is_empty() { "+" } else { rest }));
    }

    fn join(rooms: &[String], out: &mut Deeds) {
        let mut line = String::new();
        for room in rooms {
            if !line.is_empty() && line.len() + room.len() > JOIN_BYTES_MAX {
                Self::say(out, &format!("JOIN {line}"));
                line.clear();
            }
            if !line.is_empty() {
                line.push(',');
            }
            line.push_str(room);
        }
        if !line.is_empty() {
            Self::say(out, &format!("JOIN {line}"));
        }
    }

    fn welcome(&mut self, nick: &str, now: Instant, out: &mut Deeds) -> Result<(), PullError> {
        if self.password.is_some() && !self.has.contains("sasl") {
            return Err(person(Code::AuthFailed, &format!("{} lets us in without SASL, so the password cannot be used", self.place)));
        }
        nick.clone_into(&mut self.nick);
        self.registered = true;
        Self::join(&self.rooms, out);
        self.joining_until = Some(now + JOIN_WITHIN);
        match &self.since {
            Some(since) if self.has.contains("draft/chathistory") => {
                let rooms = self.rooms.iter().map(|room| (room.clone(), since.clone()));
                self.history.extend(rooms);
                // Who wrote to us alone meanwhile; the answers name them.
                let until = self.clock.now().plus_ms(60_000);
                (self.naming, self.owed_until) = (true, Some(now + HISTORY_WITHIN));
                Self::say(out, &format!("CHATHISTORY TARGETS timestamp={since} timestamp={until} {HISTORY_LINES}"));
            }
            Some(since) => {
                // Some play back by themselves at the join.
                let detail =
                    format!("{} offers no history: what was said since {since}, if it does not play it back, was not heard", self.place);
                out.note(Code::ConnectionLost, detail);
            }
            None => {
                out.remember(LAST, self.clock.now().to_string(), now);
                out.hurry();
            }
        }
        if self.nick != self.wanted_nick {
            self.again_at = Some(now + TRY_AGAIN);
        }
        Ok(())
    }

    /// Asks for the next piece of history, if none is on its way and all rooms are joined.
    fn ask_history(&mut self, now: Instant, out: &mut Deeds) {
        if self.asking.is_none()
            && self.joining.is_empty()
            && let Some((target, since)) = self.history.pop_front()
        {
            Self::say(out, &format!("CHATHISTORY AFTER {target} timestamp={since} {HISTORY_LINES}"));
            self.asking = Some((target, 0, since));
            self.owed_until = Some(now + HISTORY_WITHIN);
        }
        if self.naming || self.asking.is_some() {
            self.owed_until.get_or_insert(now + HISTORY_WITHIN);
        } else {
            self.owed_until = None;
        }
    }

    /// History that cannot be had is no reason to wait for it; that it is missing is told.
    fn no_history(&mut self, why: &str, now: Instant, out: &mut Deeds) {
        // Questions are answered in their order, and the one for names was the first.
        let room = if std::mem::take(&mut self.naming) { None } else { self.asking.take() };
        let (of, since) = match room {
            Some((room, _, last)) => (room, last),
            None => ("those who wrote to us alone".to_owned(), self.since.clone().unwrap_or_default()),
        };
        let why: String = why.chars().filter(|char| !char.is_control()).take(100).collect();
        out.note(Code::ConnectionLost, format!("{}: the history of {of} since {since} was not told: {why}", self.place));
        self.ask_history(now, out);
    }

    fn batch(&mut self, line: &Line<'_>, now: Instant, out: &mut Deeds) {
        let name = line.param(0);
        if let Some(open) = name.strip_prefix('+') {
            if self.batches.len() < 100 {
                let kind = match line.param(1) {
                    kind if kind.ends_with("chathistory") => Batch::History,
                    kind if kind.ends_with("chathistory-targets") => Batch::Targets,
                    _ => Batch::Other,
                };
                self.batches.insert(open.to_owned(), kind);
            }
            return;
        }
        match name.strip_prefix('-').and_then(|done| self.batches.remove(done)) {
            Some(Batch::History) => {
                let Some((target, lines, last)) = self.asking.take() else { return };
                // A full page: there may be another.
                if lines >= HISTORY_LINES {
                    self.history.push_front((target, last));
                }
            }
            Some(Batch::Targets) => {}
            Some(Batch::Other) | None => return,
        }
        // Questions are answered in their order, and the one for names was the first.
        self.naming = false;
        self.ask_history(now, out);
    }

    /// History is still to come: what is said meanwhile does not stand for it.
    fn is_owed(&self) -> bool {
        self.naming || self.asking.is_some() || !self.history.is_empty()
    }

    fn message(&mut self, line: &Line<'_>, frame: &Bytes, now: Instant, out: &mut Deeds) {
        let historic = line.tag("batch").is_some_and(|batch| self.batches.get(batch) == Some(&Batch::History));
        let time = line.tag("time").map_or_else(|| self.clock.now().to_string(), str::to_owned);
        if historic && let Some((_, lines, last)) = &mut self.asking {
            *lines += 1;
            time.clone_into(last);
            self.owed_until = Some(now + HISTORY_WITHIN);
        }
        // What a server plays back by itself at the very first join was there before us.
        out.payload(frame.clone(), self.plan.content_type, historic && self.since.is_none(), now);
        let covers = if historic { self.history.is_empty() && !self.naming } else { !self.is_owed() };
        if covers {
            out.remember(LAST, time, now);
        }
    }

    fn refused_room(&mut self, room: &str, words: &str, now: Instant, out: &mut Deeds) {
        if self.joining.remove(&folded(room)) {
            let words: String = words.chars().filter(|char| !char.is_control()).take(100).collect();
            out.note(Code::NoFolder, format!("{}: {room} cannot be joined: {words}", self.place));
            self.out_of(room, now);
            self.ask_history(now, out);
        }
    }

    /// We are not in a room of ours, and it is tried again; false if it is none of ours.
    fn out_of(&mut self, room: &str, now: Instant) -> bool {
        let room = folded(room);
        let Some(ours) = self.rooms.iter().find(|one| folded(one) == room) else { return false };
        self.rejoin.insert(ours.clone());
        self.again_at.get_or_insert(now + TRY_AGAIN);
        true
    }

    /// Rooms that have not answered in time are waited for no longer.
    fn late_rooms(&mut self, now: Instant, out: &mut Deeds) {
        if self.joining_until.take_if(|until| now >= *until).is_none() {
            return;
        }
        for room in std::mem::take(&mut self.joining) {
            out.note(Code::NoFolder, format!("{}: {room} does not answer", self.place));
            self.out_of(&room, now);
        }
        self.ask_history(now, out);
    }

    fn nick_in_use(&mut self, out: &mut Deeds) -> Result<(), PullError> {
        if self.registered {
            return Ok(());
        }
        self.tries += 1;
        if self.tries > NICKS_MAX {
            return Err(PullError::Lost { code: Code::Protocol, detail: format!("{}: every nick is in use", self.place), after: None });
        }
        self.nick = format!("{}{}", self.wanted_nick, "_".repeat(self.tries));
        Self::say(out, &format!("NICK {}", self.nick));
        Ok(())
    }
}

impl Talk for Irc {
    fn begin(&mut self, now: Instant, out: &mut Deeds) -> Result<(), PullError> {
        self.silence.broken(now);
        Self::say(out, "CAP LS 302");
        Self::say(out, &format!("NICK {}", self.nick));
        Self::say(out, &format!("USER {} 0 * :omnigate", self.user));
        Ok(())
    }

    fn heard(&mut self, frame: Bytes, now: Instant, out: &mut Deeds) -> Result<(), PullError> {
        self.alive(now);
        let text = String::from_utf8_lossy(&frame).into_owned();
        let Some(line) = Line::parse(&text) else { return Ok(()) };
        let ours = folded(line.from) == folded(&self.nick);
        match line.command {
            "PING" => Self::say(out, &format!("PONG :{}", line.param(0))),
            "CAP" => self.capabilities(&line, out)?,
            "AUTHENTICATE" => self.authenticate(out),
            "903" => Self::say(out, "CAP END"),
            "902" | "904" | "905" | "906" | "464" => {
                return Err(person(Code::AuthFailed, &format!("{} refuses user or password", self.place)));
            }
            "432" => return Err(person(Code::ChannelConfig, &format!("{} does not allow our nick", self.place))),
            "433" | "436" | "437" => self.nick_in_use(out)?,
            "465" => return Err(person(Code::AuthFailed, &format!("{} has banned us", self.place))),
            "001" => self.welcome(line.param(0), now, out)?,
            "366" => {
                let room = folded(line.param(1));
                self.joining.remove(&room);
                self.rejoin.retain(|one| folded(one) != room);
                self.ask_history(now, out);
            }
            "403" | "405" | "471" | "473" | "474" | "475" | "476" | "477" => {
                self.refused_room(line.param(1), line.params.last().copied().unwrap_or_default(), now, out);
            }
            "KICK" if folded(line.param(1)) == folded(&self.nick) => {
                let room: String = line.param(0).chars().filter(|char| !char.is_control()).take(100).collect();
                if self.out_of(&room, now) {
                    out.note(Code::NoFolder, format!("{}: kicked out of {room}", self.place));
                }
            }
            "NICK" if ours => line.param(0).clone_into(&mut self.nick),
            "BATCH" => self.batch(&line, now, out),
            "CHATHISTORY" if line.param(0) == "TARGETS" && !line.param(1).starts_with(['#', '&']) && is_word(line.param(1)) => {
                if let Some(since) = self.since.clone().filter(|_| self.history.len() < HISTORY_LINES) {
                    self.history.push_back((line.param(1).to_owned(), since));
                }
            }
            "FAIL" if line.param(0) == "CHATHISTORY" && (self.naming || self.asking.is_some()) => {
                self.no_history(line.params.last().copied().unwrap_or_default(), now, out);
            }
            "PRIVMSG" => self.message(&line, &frame, now, out),
            "ERROR" => {
                let words: String = line.param(0).chars().filter(|char| !char.is_control()).take(120).collect();
                let lower = words.to_ascii_lowercase();
                let throttled = ["throttl", "too fast", "too many"].iter().any(|word| lower.contains(word));
                let (code, after) = if throttled { (Code::Throttled, Some(THROTTLED)) } else { (Code::ConnectionLost, None) };
                return Err(PullError::Lost { code, detail: format!("{}: {words}", self.place), after });
            }
            _ => {}
        }
        Ok(())
    }

    fn alive(&mut self, now: Instant) {
        self.silence.broken(now);
    }

    fn wake(&self) -> Option<Instant> {
        self.silence.wake().into_iter().chain(self.again_at).chain(self.joining_until).chain(self.owed_until).min()
    }

    fn tick(&mut self, now: Instant, out: &mut Deeds) -> Result<(), PullError> {
        if self.again_at.is_some_and(|again| now >= again) {
            self.again_at = None;
            let rooms: Vec<String> = std::mem::take(&mut self.rejoin).into_iter().collect();
            if !rooms.is_empty() {
                self.joining.extend(rooms.iter().map(|room| folded(room)));
                self.joining_until = Some(now + JOIN_WITHIN);
                Self::join(&rooms, out);
            }
            if self.nick != self.wanted_nick {
                Self::say(out, &format!("NICK {}", self.wanted_nick));
                self.again_at = Some(now + TRY_AGAIN);
            }
        }
        self.late_rooms(now, out);
        if self.owed_until.take_if(|until| now >= *until).is_some() {
            self.no_history("no answer", now, out);
        }
        if self.silence.due(now, &self.place)? {
            Self::say(out, "PING :omnigate");
        }
        Ok(())
    }

    fn closed(&mut self, _: Option<u16>, _: &str, _: &mut Deeds) -> Result<(), PullError> {
        Err(PullError::Lost { code: Code::ConnectionLost, detail: format!("{} closed the connection", self.place), after: None })
    }

    fn is_ready(&self) -> bool {
        self.registered && self.joining.is_empty()
    }

    fn goodbye(&self) -> Vec<Say> {
        vec![Say::Text("QUIT :bye\r\n".to_owned())]
    }
}
