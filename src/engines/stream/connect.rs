//! Connect: from what the manifest and the channel say to a session that is ready.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::connector::call::answer::{Judged, Meaning, Rules};
use crate::connector::call::{CallError, Filling};
use crate::connector::stream::{Opening, StreamKind};
use crate::engines::stream::described::Described;
use crate::engines::stream::session::Session;
use crate::engines::stream::wire::{Cutter, Wire};
use crate::engines::stream::{StreamSettings, discord, irc, xmpp};
use crate::http::flow::FlowAnswer;
use crate::http::socket::{Socket, SocketError};
use crate::model::codes::Code;
use crate::ports::feed::Cursors;
use crate::ports::http::{Egress, Http, HttpAnswer, HttpError, HttpRequest};
use crate::ports::pull::PullError;

/// Connects and waits until payloads come.
pub async fn connect(settings: &StreamSettings, cursors: &Cursors) -> Result<Session, PullError> {
    let mut session = match settings.plan.kind {
        StreamKind::Websocket | StreamKind::Sse | StreamKind::Lines => described(settings, cursors).await?,
        StreamKind::Discord => discord::connect(settings, cursors).await?,
        StreamKind::Irc => irc::connect(settings, cursors).await?,
        StreamKind::Xmpp => xmpp::connect(settings, cursors).await?,
        StreamKind::Matrix => return Err(person(Code::Invariant, "Matrix is asked, not listened to")),
    };
    session.ready(settings.plan.ready_within).await?;
    Ok(session)
}

/// Host and port that the channel is at.
pub fn server(settings: &StreamSettings) -> Option<String> {
    let context = Value::Object(context(settings, &Cursors::new()));
    let plan = &settings.plan;
    let call = plan.open.as_ref().map(|open| &open.call).or(plan.connect.as_ref());
    match call {
        Some(call) => {
            let filling = Filling { context: &context, secrets: &settings.secrets, token: None, files: &[] };
            call.render(&filling).ok().map(|request| request.place())
        }
        None => ["api", "server", "homeserver", "jid"].iter().find_map(|name| settings.settings.get(name)?.as_str().map(str::to_owned)),
    }
}

/// What templates may name.
fn context(settings: &StreamSettings, cursors: &Cursors) -> Map<String, Value> {
    let cursor = cursors.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
    [("settings", settings.settings.clone()), ("cursor", Value::Object(cursor)), ("opened", Value::Object(Map::new()))]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

async fn described(settings: &StreamSettings, cursors: &Cursors) -> Result<Session, PullError> {
    let plan = &settings.plan;
    let mut context = context(settings, cursors);
    if let Some(open) = &plan.open {
        let opened = opened(settings, open, &Value::Object(context.clone())).await?;
        context.insert("opened".to_owned(), Value::Object(opened));
    }
    let call = plan.connect.as_ref().ok_or_else(|| person(Code::Invariant, "a stream without `connect`"))?;
    let filled = Value::Object(context.clone());
    let request = call.render(&Filling { context: &filled, secrets: &settings.secrets, token: None, files: &[] });
    let mut request = request.map_err(|error| unfilled("stream.connect", &error))?;
    let place = request.place();
    // Where nobody wrote the host down, no secret is said either.
    let secrets = if request.egress == Egress::Written { settings.secrets.clone() } else { BTreeMap::<String, Vec<SecretString>>::new() };
    let max = plan.frame_bytes_max;
    let wire = match plan.kind {
        StreamKind::Websocket => Wire::Socket(socket(settings, &request, plan.protocol.as_deref()).await?),
        kind => {
            let accept = if kind == StreamKind::Sse { "text/event-stream" } else { "application/x-ndjson, application/json" };
            if !request.headers.iter().any(|(name, _)| name == "accept") {
                request.headers.push(("accept".to_owned(), accept.to_owned()));
            }
            match settings.http.flow(request).await.map_err(unreached)? {
                FlowAnswer::Flow(flow) => Wire::Flow(flow, if kind == StreamKind::Sse { Cutter::events(max) } else { Cutter::lines(max) }),
                FlowAnswer::Answer(answer) => return Err(refused(&plan.rules, &answer, settings, &place)),
            }
        }
    };
    let talk = Described::new(plan.clone(), context, secrets, place.clone(), Instant::now());
    Session::begin(wire, Box::new(talk), plan.gather, place)
}

/// A websocket, or what its refusal means.
pub async fn socket(settings: &StreamSettings, request: &HttpRequest, protocol: Option<&str>) -> Result<Socket, PullError> {
    match settings.http.socket(request, protocol, settings.plan.frame_bytes_max).await {
        Ok(socket) => Ok(socket),
        Err(SocketError::Http(error)) => Err(unreached(error)),
        Err(SocketError::Answer(answer)) => Err(refused(&settings.plan.rules, &answer, settings, &request.place())),
    }
}

/// Asks before the stream, and takes what the manifest wants of the answer.
async fn opened(settings: &StreamSettings, open: &Opening, context: &Value) -> Result<Map<String, Value>, PullError> {
    let request = open.call.render(&Filling { context, secrets: &settings.secrets, token: None, files: &[] });
    let request = request.map_err(|error| unfilled("stream.open", &error))?;
    let place = request.place();
    let answer = settings.http.send(request).await.map_err(unreached)?;
    let judged = open.rules.judge(&answer, settings.clock.now());
    if judged.meaning != Meaning::Ok {
        return Err(meant(&judged, &place));
    }
    let take = |(name, filter): &(String, crate::connector::jq::Filter)| {
        let value = judged.take(filter).map_err(|error| person(Code::Protocol, &format!("{place}: `{name}` of its answer: {error}")))?;
        Ok((name.clone(), value))
    };
    open.take.iter().map(take).collect()
}

fn refused(rules: &Rules, answer: &HttpAnswer, settings: &StreamSettings, place: &str) -> PullError {
    let judged = rules.judge(answer, settings.clock.now());
    match judged.meaning {
        // An answer that is no stream is no success, whatever its status.
        Meaning::Ok | Meaning::Ignore => PullError::Lost {
            code: Code::Protocol,
            detail: format!("{place} answered {} and no stream", judged.status),
            after: judged.after,
        },
        _ => meant(&judged, place),
    }
}

/// What an answer that is no success means for the channel.
pub fn meant(judged: &Judged, place: &str) -> PullError {
    let words = judged.words().map(|words| format!(": {words}")).unwrap_or_default();
    let detail = format!("{place} answered {}{words}", judged.status);
    match judged.meaning {
        Meaning::Denied | Meaning::Refresh => PullError::Person { code: Code::AuthFailed, detail },
        Meaning::Throttled => PullError::Lost { code: Code::Throttled, detail, after: judged.after },
        Meaning::Later | Meaning::CursorLost => PullError::Lost { code: Code::Unreachable, detail, after: judged.after },
        _ => PullError::Person { code: Code::Protocol, detail },
    }
}

/// Why a request had no answer.
pub fn unreached(error: HttpError) -> PullError {
    match error.code {
        Code::Tls | Code::EgressRefused => PullError::Person { code: Code::Tls, detail: error.detail },
        Code::Invariant => PullError::Person { code: Code::Protocol, detail: error.detail },
        Code::Protocol => PullError::Lost { code: Code::Protocol, detail: error.detail, after: None },
        _ => PullError::Lost { code: Code::Unreachable, detail: error.detail, after: None },
    }
}

fn unfilled(what: &str, error: &CallError) -> PullError {
    person(Code::Protocol, &format!("[{what}]: {error}"))
}

/// A person's matter.
pub fn person(code: Code, detail: &str) -> PullError {
    PullError::Person { code, detail: detail.to_owned() }
}
