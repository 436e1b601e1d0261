//! Streams as a manifest writes them: where they are opened, what is said first, which frames are payloads, what is acknowledged
//! and remembered, how a dead peer is told. Values in, a checked plan out; the engine carries it out.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::connector::call::answer::{ANSWER_VARS, RuleSpec, Rules};
use crate::connector::call::compile::Scope;
use crate::connector::call::{Call, Message, RequestSpec};
use crate::connector::jq::Filter;
use crate::connector::manifest::{Decode, SettingType, duration};
use crate::connector::problem::Problem;

/// Variables of the programs over frames: the channel's settings, and what is remembered.
pub const FRAME_VARS: [&str; 2] = ["$settings", "$cursor"];

const READY_WITHIN: Duration = Duration::from_secs(30);
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_WITHIN: Duration = Duration::from_secs(15);
const FRAME_BYTES_MAX: usize = 1024 * 1024;
const FRAME_BYTES_LIMIT: usize = 16 * 1024 * 1024;
const GATHER: Duration = Duration::from_millis(20);
const GATHER_LIMIT: Duration = Duration::from_secs(2);

/// `[stream]` of a manifest.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamSpec {
    /// What moves its frames.
    #[serde(default)]
    pub kind: StreamKind,
    /// What a frame is.
    #[serde(default = "json")]
    pub decode: Decode,
    /// A request before the stream; what it takes is `{opened.NAME}`.
    #[serde(default)]
    pub open: Option<OpenSpec>,
    /// The request that becomes the stream. May name `{opened.…}`, `{cursor.…}`.
    #[serde(default)]
    pub connect: Option<RequestSpec>,
    /// What an answer to `connect` means that is no stream.
    #[serde(default)]
    pub errors: Vec<RuleSpec>,
    /// Sub-protocol of the websocket.
    #[serde(default)]
    pub protocol: Option<String>,
    /// Messages sent once it is connected: JSON with templates, or texts.
    #[serde(default)]
    pub first_send: Vec<Value>,
    /// jq over a frame: the stream is ready. At once if missing.
    #[serde(default)]
    pub ready_when: Option<String>,
    /// How long that may take, such as `"30s"`.
    #[serde(default)]
    pub ready_within: Option<String>,
    /// jq over a frame: the platform refuses the credentials.
    #[serde(default)]
    pub denied_when: Option<String>,
    /// jq over a frame: it is a payload. All are if missing; what is none is forgotten.
    #[serde(default)]
    pub take: Option<String>,
    /// What is remembered of frames: name → jq; null changes nothing.
    #[serde(default)]
    pub cursor: BTreeMap<String, String>,
    /// What is answered to a frame once it is durable.
    #[serde(default)]
    pub ack: Option<AckSpec>,
    /// How a dead peer is told.
    #[serde(default)]
    pub ping: Option<PingSpec>,
    /// jq over a frame: the platform wants a new connection.
    #[serde(default)]
    pub reconnect_when: Option<String>,
    /// jq over a frame: what is remembered is of no use any more; it is forgotten and the stream opened anew.
    #[serde(default)]
    pub forget_when: Option<String>,
    /// Codes of a close that a person must look at.
    #[serde(default)]
    pub fatal_codes: Vec<u16>,
    /// Silence after which the peer is dead, where there is no ping (server-sent events, lines).
    #[serde(default)]
    pub silence_max: Option<String>,
    /// After every connect the polls of the manifest are asked once: they bring what was missed.
    #[serde(default)]
    pub poll_after_connect: bool,
    /// Largest frame, bytes.
    #[serde(default)]
    pub frame_bytes_max: Option<usize>,
    /// How long frames are gathered into one batch, such as `"20ms"`.
    #[serde(default)]
    pub gather: Option<String>,
}

fn json() -> Decode {
    Decode::Json
}

/// What moves the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StreamKind {
    /// A websocket.
    #[default]
    Websocket,
    /// Server-sent events; a frame is `{"event", "data", "id"}`.
    Sse,
    /// A JSON text a line.
    Lines,
    /// Discord's Gateway.
    Discord,
    /// IRC.
    Irc,
    /// XMPP.
    Xmpp,
    /// Matrix `/sync`.
    Matrix,
}

/// The request before a stream.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenSpec {
    /// The request.
    pub request: RequestSpec,
    /// What its answers mean.
    #[serde(default)]
    pub errors: Vec<RuleSpec>,
    /// What is taken of its answer: name → jq.
    #[serde(default)]
    pub take: BTreeMap<String, String>,
}

/// An acknowledgement.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AckSpec {
    /// jq over a frame: it wants one.
    #[serde(default)]
    pub when: Option<String>,
    /// The message; `{frame.…}` is the frame.
    pub send: Value,
}

/// Pings.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PingSpec {
    /// After this much silence.
    #[serde(default)]
    pub every: Option<String>,
    /// Something must come within.
    #[serde(default)]
    pub within: Option<String>,
    /// The message; a ping of the websocket if missing. IRC and XMPP have pings of their own.
    #[serde(default)]
    pub send: Option<Value>,
}

/// `[stream]`, checked and compiled.
#[derive(Debug)]
pub struct StreamPlan {
    /// What moves its frames.
    pub kind: StreamKind,
    /// The request before, with what its answers mean and what is taken of them.
    pub open: Option<Opening>,
    /// The request that becomes the stream.
    pub connect: Option<Call>,
    /// What an answer to it means that is no stream.
    pub rules: Rules,
    /// Sub-protocol.
    pub protocol: Option<String>,
    /// Sent first.
    pub first_send: Vec<Message>,
    /// Ready.
    pub ready_when: Option<Filter>,
    /// How long that may take.
    pub ready_within: Duration,
    /// Refused.
    pub denied_when: Option<Filter>,
    /// Payloads.
    pub take: Option<Filter>,
    /// Remembered.
    pub cursor: Vec<(String, Filter)>,
    /// Answered once durable: which frames, and what.
    pub ack: Option<(Option<Filter>, Message)>,
    /// Pings: after which silence, and how long the answer may take.
    pub ping: Option<(Duration, Duration)>,
    /// What is sent as ping; one of the websocket if none.
    pub ping_send: Option<Message>,
    /// A new connection is wanted.
    pub reconnect_when: Option<Filter>,
    /// What is remembered is void.
    pub forget_when: Option<Filter>,
    /// Codes for a person.
    pub fatal_codes: Vec<u16>,
    /// Longest silence.
    pub silence_max: Option<Duration>,
    /// Polls fill what was missed.
    pub after_connect: bool,
    /// Largest frame.
    pub frame_bytes_max: usize,
    /// How long frames are gathered.
    pub gather: Duration,
    /// Content type of its payloads.
    pub content_type: &'static str,
}

/// The request before a stream, compiled.
#[derive(Debug)]
pub struct Opening {
    /// The request.
    pub call: Call,
    /// What its answers mean.
    pub rules: Rules,
    /// What is taken of them.
    pub take: Vec<(String, Filter)>,
}

impl StreamKind {
    /// Whether a manifest describes its frames; the others know their protocol.
    pub fn is_described(self) -> bool {
        matches!(self, Self::Websocket | Self::Sse | Self::Lines)
    }

    /// Whether it asks a silent peer by its own protocol, after a silence that a manifest may say.
    fn is_pinged(self) -> bool {
        matches!(self, Self::Irc | Self::Xmpp)
    }

    /// Settings that it reads by name.
    pub fn settings(self) -> &'static [(&'static str, SettingType)] {
        match self {
            Self::Websocket | Self::Sse | Self::Lines => &[],
            Self::Discord => &[("api", SettingType::Url), ("intents", SettingType::Integer)],
            Self::Irc => &[
                ("server", SettingType::Text),
                ("tls", SettingType::Bool),
                ("nick", SettingType::Text),
                ("user", SettingType::Text),
                ("rooms", SettingType::List),
            ],
            Self::Xmpp => &[
                ("jid", SettingType::Text),
                ("server", SettingType::Text),
                ("tls", SettingType::Text),
                ("nick", SettingType::Text),
                ("rooms", SettingType::List),
            ],
            Self::Matrix => &[("homeserver", SettingType::Url), ("join_invites", SettingType::Bool)],
        }
    }

    /// Secrets that it reads by name.
    pub fn secrets(self) -> &'static [&'static str] {
        match self {
            Self::Websocket | Self::Sse | Self::Lines => &[],
            Self::Discord => &["bot_token"],
            Self::Irc | Self::Xmpp => &["password"],
            Self::Matrix => &["access_token"],
        }
    }
}

impl StreamPlan {
    /// Checks and compiles; everything that is wrong with it at once.
    ///
    /// # Errors
    /// The problems, each with its key.
    pub fn compile(spec: &StreamSpec, scope: &Scope<'_>) -> Result<Self, Vec<Problem>> {
        let mut compiler = Compiler { scope, problems: Vec::new() };
        let plan = compiler.plan(spec);
        if compiler.problems.is_empty() { Ok(plan) } else { Err(compiler.problems) }
    }
}

struct Compiler<'a> {
    scope: &'a Scope<'a>,
    problems: Vec<Problem>,
}

impl Compiler<'_> {
    fn wrong(&mut self, message: impl std::fmt::Display) {
        self.problems.push(Problem::whole(self.scope.file, format!("[stream]: {message}")));
    }

    fn plan(&mut self, spec: &StreamSpec) -> StreamPlan {
        self.fits(spec);
        let frame = |compiler: &mut Self, key: &str, code: &Option<String>| compiler.filter(key, code.as_deref(), &FRAME_VARS);
        let open = spec.open.as_ref().and_then(|open| self.open(open));
        let connect = spec.connect.as_ref().and_then(|request| self.call(request, "stream.connect", &["opened", "cursor"]));
        let rules = self.kept(Rules::compile(&spec.errors, self.scope.file, "stream.errors", self.scope.limits));
        let first_send =
            spec.first_send.iter().filter_map(|message| self.message(message, "stream.first_send", &["opened", "cursor"])).collect();
        let cursor =
            spec.cursor.iter().filter_map(|(name, code)| Some((name.clone(), self.filter(name, Some(code), &FRAME_VARS)?))).collect();
        let ack = spec.ack.as_ref().and_then(|ack| {
            let when = self.filter("ack.when", ack.when.as_deref(), &FRAME_VARS);
            Some((when, self.message(&ack.send, "stream.ack", &["frame", "opened", "cursor"])?))
        });
        let mut ping = (spec.kind == StreamKind::Websocket).then_some((PING_EVERY, PING_WITHIN));
        let mut ping_send = None;
        if let Some(wanted) = &spec.ping {
            let every = self.span("ping.every", wanted.every.as_deref(), PING_EVERY);
            ping = Some((every, self.span("ping.within", wanted.within.as_deref(), PING_WITHIN)));
            ping_send = wanted.send.as_ref().and_then(|message| self.message(message, "stream.ping", &["opened", "cursor"]));
        }
        StreamPlan {
            kind: spec.kind,
            open,
            connect,
            rules: rules.unwrap_or_default(),
            protocol: spec.protocol.clone(),
            first_send,
            ready_when: frame(self, "ready_when", &spec.ready_when),
            ready_within: self.span("ready_within", spec.ready_within.as_deref(), READY_WITHIN),
            denied_when: frame(self, "denied_when", &spec.denied_when),
            take: frame(self, "take", &spec.take),
            cursor,
            ack,
            ping,
            ping_send,
            reconnect_when: frame(self, "reconnect_when", &spec.reconnect_when),
            forget_when: frame(self, "forget_when", &spec.forget_when),
            fatal_codes: spec.fatal_codes.clone(),
            silence_max: spec.silence_max.as_deref().map(|text| self.span("silence_max", Some(text), PING_EVERY)),
            after_connect: spec.poll_after_connect,
            frame_bytes_max: spec.frame_bytes_max.unwrap_or(FRAME_BYTES_MAX),
            gather: self.span("gather", spec.gather.as_deref(), GATHER).min(GATHER_LIMIT),
            content_type: match spec.decode {
                Decode::Xml => "application/xml",
                Decode::Text => "text/plain",
                _ => "application/json",
            },
        }
    }

    /// What only works together.
    fn fits(&mut self, spec: &StreamSpec) {
        let word = format!("{:?}", spec.kind).to_ascii_lowercase();
        if spec.kind.is_described() {
            if spec.connect.is_none() {
                self.wrong("`connect` is missing: the request that becomes the stream");
            }
            if spec.decode != Decode::Json {
                self.wrong(format!("the frames of kind `{word}` are JSON"));
            }
        } else {
            let described = [
                ("open", spec.open.is_some()),
                ("connect", spec.connect.is_some()),
                ("protocol", spec.protocol.is_some()),
                ("first_send", !spec.first_send.is_empty()),
                ("ready_when", spec.ready_when.is_some()),
                ("cursor", !spec.cursor.is_empty()),
                ("ack", spec.ack.is_some()),
                ("ping", spec.ping.is_some() && !spec.kind.is_pinged()),
                ("ping.send", spec.ping.as_ref().is_some_and(|ping| ping.send.is_some())),
                ("reconnect_when", spec.reconnect_when.is_some()),
                ("forget_when", spec.forget_when.is_some()),
                ("denied_when", spec.denied_when.is_some()),
                ("fatal_codes", !spec.fatal_codes.is_empty()),
            ];
            for (key, _) in described.iter().filter(|(_, given)| *given) {
                self.wrong(format!("`{key}` says nothing to kind `{word}`, which knows its protocol"));
            }
            let wanted = match spec.kind {
                StreamKind::Irc => Decode::Text,
                StreamKind::Xmpp => Decode::Xml,
                _ => Decode::Json,
            };
            if spec.decode != wanted {
                self.wrong(format!("kind `{word}` needs decode = \"{}\"", format!("{wanted:?}").to_ascii_lowercase()));
            }
        }
        if spec.kind != StreamKind::Websocket && (spec.ack.is_some() || spec.protocol.is_some() || !spec.first_send.is_empty()) {
            self.wrong(format!("nothing can be sent on a stream of kind `{word}`"));
        }
        for (name, kind) in spec.kind.settings() {
            match self.scope.settings.get(*name) {
                Some(setting) if setting.kind == *kind => {}
                _ => self.wrong(format!("kind `{word}` needs the setting `{name}`: {}", kind.wanted())),
            }
        }
        for name in spec.kind.secrets() {
            if !self.scope.secrets.contains_key(*name) {
                self.wrong(format!("kind `{word}` needs the secret `{name}`"));
            }
        }
        if spec.frame_bytes_max.is_some_and(|max| max == 0 || max > FRAME_BYTES_LIMIT) {
            self.wrong(format!("`frame_bytes_max` must be between 1 and {FRAME_BYTES_LIMIT}"));
        }
    }

    fn open(&mut self, open: &OpenSpec) -> Option<Opening> {
        let call = self.call(&open.request, "stream.open", &["cursor"]);
        let rules = self.kept(Rules::compile(&open.errors, self.scope.file, "stream.open.errors", self.scope.limits));
        let take = open.take.iter().filter_map(|(name, code)| Some((name.clone(), self.filter(name, Some(code), &ANSWER_VARS)?))).collect();
        Some(Opening { call: call?, rules: rules?, take })
    }

    fn call(&mut self, request: &RequestSpec, place: &str, roots: &[&str]) -> Option<Call> {
        let made = Call::compile(request, place, roots, self.scope);
        self.kept(made)
    }

    fn message(&mut self, message: &Value, place: &str, roots: &[&str]) -> Option<Message> {
        let made = Message::compile(message, place, roots, self.scope);
        self.kept(made)
    }

    fn kept<T>(&mut self, made: Result<T, Vec<Problem>>) -> Option<T> {
        made.map_err(|problems| self.problems.extend(problems)).ok()
    }

    fn filter(&mut self, key: &str, code: Option<&str>, vars: &[&str]) -> Option<Filter> {
        match Filter::compile(self.scope.file, code?, vars, self.scope.limits) {
            Ok(filter) => Some(filter),
            Err(problems) => {
                problems.into_iter().for_each(|problem| self.wrong(format!("the jq of `{key}`: {}", problem.message)));
                None
            }
        }
    }

    fn span(&mut self, key: &str, text: Option<&str>, default: Duration) -> Duration {
        match text.map(|text| (text, duration(text))) {
            None => default,
            Some((_, Some(span))) if !span.is_zero() => span,
            Some((text, _)) => {
                self.wrong(format!("`{key}`: `{text}` is not a duration such as \"30s\""));
                default
            }
        }
    }
}
