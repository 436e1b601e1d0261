//! Discord's Gateway (v10): heartbeats with a random start, resume by session and sequence, the budget of identifies.
//!
//! What must stay true: an identify is never sent while its budget is used up (Discord resets the bot's token at the thousandth in
//! a day), and the token goes to Discord's own hosts only.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

use crate::connector::call::ANSWER_BYTES_MAX;
use crate::connector::call::answer::Meaning;
use crate::connector::jq::{Input, parse_json};
use crate::connector::stream::StreamPlan;
use crate::engines::stream::StreamSettings;
use crate::engines::stream::connect::{meant, person, socket, unreached};
use crate::engines::stream::session::Session;
use crate::engines::stream::talk::{Deeds, Say, Talk};
use crate::engines::stream::wire::Wire;
use crate::http::socket::Socket;
use crate::model::codes::Code;
use crate::ports::clock::Random;
use crate::ports::feed::Cursors;
use crate::ports::http::{Egress, Http, HttpBody, HttpRequest};
use crate::ports::pull::PullError;

/// Where sessions are at home; the URL to resume at names a host of it.
const HOSTS: &[&str] = &["discord.gg", "discord.com"];
const DEPTH_MAX: usize = 128;
const ASK_WITHIN: Duration = Duration::from_secs(30);
/// The greeting tells the interval; until then silence means death.
const HELLO_WITHIN: Duration = Duration::from_secs(30);
/// Heartbeats are never more frequent, whatever the greeting says.
const BEAT_MIN: Duration = Duration::from_millis(100);
const BEAT_MAX: Duration = Duration::from_secs(300);
/// Identifies that are left for persons and tests of the day.
const IDENTIFIES_KEPT: u64 = 5;
/// After an invalid session a new one is asked for after one to five seconds, at random.
const INVALID_MIN: Duration = Duration::from_secs(1);
const INVALID_SPREAD: Duration = Duration::from_secs(4);
/// A close by us that keeps the session: any code but 1000 and 1001.
const CLOSE_KEEPING: u16 = 4000;

const SESSION: &str = "gateway_session";
const RESUME: &str = "gateway_url";
const SEQUENCE: &str = "gateway_sequence";

/// Connects to where the session can be resumed, or to where Discord says.
pub async fn connect(settings: &StreamSettings, cursors: &Cursors) -> Result<Session, PullError> {
    let token = settings.secrets.get("bot_token").and_then(|values| values.first()).cloned();
    let token = token.ok_or_else(|| person(Code::AuthFailed, "[secrets] bot_token is missing"))?;
    let api = settings.settings.get("api").and_then(Value::as_str).unwrap_or_default().trim_end_matches('/').to_owned();
    let resume = match (cursors.get(SESSION), cursors.get(RESUME), cursors.get(SEQUENCE).and_then(|text| text.parse().ok())) {
        (Some(session), Some(url), Some(sequence)) => Some((session.clone(), url.clone(), sequence)),
        _ => None,
    };
    let (socket, place) = match &resume {
        None => dial(settings, &gateway(settings, &api, &token, true).await?, &api).await?,
        Some((_, url, _)) => match dial(settings, url, &api).await {
            Ok(dialled) => dialled,
            Err(error @ PullError::Lost { code: Code::Throttled, .. }) => return Err(error),
            // The host of a session may be gone for good; any other knows the session, or says that it does not.
            Err(_) => dial(settings, &gateway(settings, &api, &token, false).await?, &api).await?,
        },
    };
    let talk = Gateway {
        plan: settings.plan.clone(),
        settings: settings.settings.clone(),
        random: settings.random.clone(),
        token,
        place: place.clone(),
        sequence: resume.as_ref().map(|(_, _, sequence)| *sequence),
        session: resume.map(|(session, ..)| session),
        ready: false,
        interval: None,
        next_beat: Instant::now() + HELLO_WITHIN,
        unanswered: false,
    };
    Session::begin(Wire::Socket(socket), Box::new(talk), settings.plan.gather, place)
}

fn ask(url: Url, headers: Vec<(String, String)>) -> HttpRequest {
    HttpRequest {
        method: "GET",
        url,
        headers,
        body: HttpBody::None,
        within: ASK_WITHIN,
        answer_bytes_max: ANSWER_BYTES_MAX,
        egress: Egress::Written,
    }
}

/// A websocket to a gateway, and its host and port.
async fn dial(settings: &StreamSettings, gateway: &str, api: &str) -> Result<(Socket, String), PullError> {
    let url = gateway_url(gateway, api)?;
    let place = format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
    Ok((socket(settings, &ask(url, Vec::new()), None).await?, place))
}

/// Where to connect; where it `spends` an identify, only if one may be spent.
async fn gateway(settings: &StreamSettings, api: &str, token: &SecretString, spends: bool) -> Result<String, PullError> {
    let url = Url::parse(&format!("{api}/gateway/bot")).map_err(|_| person(Code::Protocol, "[settings] api is no URL"))?;
    let request = ask(url, vec![("authorization".to_owned(), format!("Bot {}", token.expose_secret()))]);
    let place = request.place();
    let answer = settings.http.send(request).await.map_err(unreached)?;
    let judged = settings.judge(&settings.plan.rules, &answer);
    if judged.meaning != Meaning::Ok {
        return Err(meant(&judged, &place));
    }
    let limit = judged.body.get("session_start_limit");
    let number = |name: &str| limit.and_then(|limit| limit.get(name)).and_then(Value::as_u64);
    if let Some(left) = number("remaining").filter(|left| spends && *left <= IDENTIFIES_KEPT) {
        let detail = format!("{place}: {left} identifies are left of the day's; at none the bot's token would be reset");
        return Err(PullError::Lost { code: Code::Throttled, detail, after: number("reset_after").map(Duration::from_millis) });
    }
    let url = judged.body.get("url").and_then(Value::as_str);
    url.map(str::to_owned).ok_or_else(|| PullError::Lost { code: Code::Protocol, detail: format!("{place} names no gateway"), after: None })
}

/// The address of a gateway, if it is Discord's or that of the API.
fn gateway_url(text: &str, api: &str) -> Result<Url, PullError> {
    let http = text.strip_prefix("ws").map_or_else(|| text.to_owned(), |rest| format!("http{rest}"));
    let strange = || person(Code::Protocol, "the gateway's address is none of Discord's");
    let mut url = Url::parse(&http).map_err(|_| strange())?;
    let host = url.host_str().unwrap_or_default();
    let known = HOSTS.iter().any(|home| host == *home || host.strip_suffix(home).is_some_and(|lead| lead.ends_with('.')));
    let same = Url::parse(api).is_ok_and(|api| api.origin() == url.origin());
    if !(same || known && url.scheme() == "https") {
        return Err(strange());
    }
    url.set_query(Some("v=10&encoding=json"));
    Ok(url)
}

struct Gateway {
    plan: Arc<StreamPlan>,
    settings: Value,
    random: Arc<dyn Random>,
    token: SecretString,
    place: String,
    sequence: Option<u64>,
    session: Option<String>,
    ready: bool,
    /// Between heartbeats, once the greeting has told it.
    interval: Option<Duration>,
    next_beat: Instant,
    /// The last heartbeat has no answer yet.
    unanswered: bool,
}

impl Gateway {
    fn beat(&mut self, now: Instant, out: &mut Deeds) {
        out.text(json!({"op": 1, "d": self.sequence}).to_string());
        self.unanswered = true;
        self.next_beat = now + self.interval.unwrap_or(HELLO_WITHIN);
    }

    fn hello(&mut self, data: &Value, now: Instant, out: &mut Deeds) {
        let told = data.get("heartbeat_interval").and_then(Value::as_u64).unwrap_or(45_000);
        let interval = Duration::from_millis(told).clamp(BEAT_MIN, BEAT_MAX);
        self.interval = Some(interval);
        // At random, so that not all clients of a restarted gateway beat together.
        self.next_beat = now + interval.mul_f64(self.random.unit());
        let token = self.token.expose_secret();
        out.text(match (&self.session, self.sequence) {
            (Some(session), Some(sequence)) => json!({"op": 6, "d": {"token": token, "session_id": session, "seq": sequence}}).to_string(),
            _ => {
                let intents = self.settings.get("intents").and_then(Value::as_i64).unwrap_or_default();
                let properties = json!({"os": "linux", "browser": "omnigate", "device": "omnigate"});
                json!({"op": 2, "d": {"token": token, "intents": intents, "properties": properties}}).to_string()
            }
        });
    }

    fn dispatch(&mut self, frame: Bytes, value: &Value, now: Instant, out: &mut Deeds) {
        let data = value.get("d").unwrap_or(&Value::Null);
        match value.get("t").and_then(Value::as_str) {
            Some("READY") => {
                self.ready = true;
                self.session = data.get("session_id").and_then(Value::as_str).map(str::to_owned);
                if let (Some(session), Some(url)) = (&self.session, data.get("resume_gateway_url").and_then(Value::as_str)) {
                    out.remember(SESSION, session.as_str(), now);
                    out.remember(RESUME, url, now);
                    out.hurry();
                }
            }
            Some("RESUMED") => self.ready = true,
            _ => {
                // Missed events come before RESUMED: then the session is as good as ready.
                self.ready = true;
                let take = self.plan.take.as_ref();
                if take.is_none_or(|take| take.truthy_of(Input::Value(value), &[&self.settings, &Value::Null]).unwrap_or(true)) {
                    out.payload(frame, self.plan.content_type, false, now);
                }
            }
        }
        if let Some(sequence) = value.get("s").and_then(Value::as_u64) {
            self.sequence = Some(sequence);
            out.remember(SEQUENCE, sequence.to_string(), now);
        }
    }

    /// Gives the session up: the next connection identifies.
    fn give_up(&mut self, now: Instant, out: &mut Deeds) {
        (self.session, self.sequence) = (None, None);
        [SESSION, RESUME, SEQUENCE].iter().for_each(|name| out.forget(name, now));
        out.again = Some(INVALID_MIN + INVALID_SPREAD.mul_f64(self.random.unit()));
        let detail = format!("{}: the session cannot be resumed, and what was said meanwhile is not repeated", self.place);
        out.note(Code::ConnectionLost, detail);
    }
}

impl Talk for Gateway {
    fn begin(&mut self, _: Instant, _: &mut Deeds) -> Result<(), PullError> {
        Ok(())
    }

    fn heard(&mut self, frame: Bytes, now: Instant, out: &mut Deeds) -> Result<(), PullError> {
        let Ok(value) = parse_json(&frame, DEPTH_MAX) else {
            out.payload(frame, self.plan.content_type, false, now);
            return Ok(());
        };
        match value.get("op").and_then(Value::as_u64) {
            Some(0) => self.dispatch(frame, &value, now, out),
            Some(1) => self.beat(now, out),
            Some(7) => {
                out.say.push(Say::Close(CLOSE_KEEPING));
                out.again = Some(Duration::ZERO);
            }
            Some(9) if value.get("d").and_then(Value::as_bool) == Some(true) => {
                out.say.push(Say::Close(CLOSE_KEEPING));
                out.again = Some(INVALID_MIN);
            }
            Some(9) => self.give_up(now, out),
            Some(10) => self.hello(value.get("d").unwrap_or(&Value::Null), now, out),
            Some(11) => self.unanswered = false,
            _ => {}
        }
        Ok(())
    }

    fn alive(&mut self, _: Instant) {}

    fn wake(&self) -> Option<Instant> {
        Some(self.next_beat)
    }

    fn tick(&mut self, now: Instant, out: &mut Deeds) -> Result<(), PullError> {
        if self.interval.is_none() {
            let detail = format!("{} says no hello", self.place);
            return Err(PullError::Lost { code: Code::Protocol, detail, after: None });
        }
        if self.unanswered {
            // A connection that is dead one way; the session goes on over another.
            out.say.push(Say::Close(CLOSE_KEEPING));
            out.again = Some(Duration::ZERO);
            self.next_beat = now + BEAT_MAX;
        } else {
            self.beat(now, out);
        }
        Ok(())
    }

    fn closed(&mut self, code: Option<u16>, reason: &str, out: &mut Deeds) -> Result<(), PullError> {
        let told = code.map_or_else(String::new, |code| format!(" with code {code}: {reason}"));
        let detail = format!("{} closed the stream{told}", self.place);
        match code {
            Some(4004) => Err(PullError::Person { code: Code::AuthFailed, detail: format!("{} refuses the bot's token", self.place) }),
            Some(4013 | 4014) => {
                let hint = "discord.com/developers > your app > Bot > Privileged Gateway Intents";
                Err(PullError::Person { code: Code::Protocol, detail: format!("{detail}; the intents are not allowed: {hint}") })
            }
            Some(4010..=4012) => Err(PullError::Person { code: Code::Protocol, detail }),
            Some(4007 | 4009) => {
                self.give_up(Instant::now(), out);
                Ok(())
            }
            // Anything else: the session goes on over another connection.
            _ if self.session.is_some() && self.ready => {
                out.again = Some(Duration::ZERO);
                Ok(())
            }
            _ => Err(PullError::Lost { code: Code::ConnectionLost, detail, after: None }),
        }
    }

    fn is_ready(&self) -> bool {
        self.ready
    }

    fn goodbye(&self) -> Vec<Say> {
        // The session is resumed by the next start.
        vec![Say::Close(CLOSE_KEEPING)]
    }
}
