//! Connect: from what the manifest and the channel say to a session that is ready.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::connector::ask::{Asked, Asker, Unasked, is_spent, refused_afresh};
use crate::connector::call::answer::{Judged, Meaning};
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
use crate::ports::http::{Egress, HttpAnswer, HttpError, HttpRequest};
use crate::ports::pull::PullError;
use crate::ports::token::TokenError;

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
            // Where it leads does not depend on its token.
            let none = SecretString::default();
            let filling = Filling { context: &context, secrets: &settings.secrets, token: Some(&none), files: &[] };
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
    let asker = asker(settings);
    let mut spent = None;
    let (wire, place, secrets) = loop {
        let token = asker.token(call, spent.as_ref()).await.map_err(untold)?;
        let secret = token.as_ref().map(|token| &token.secret);
        let request = call.render(&Filling { context: &filled, secrets: &settings.secrets, token: secret, files: &[] });
        let request = request.map_err(|error| match error {
            // What was told to be the address makes none: it comes whole another time, as a whole answer does.
            CallError::Missing(_) | CallError::NotText(_) | CallError::Url if plan.open.is_some() => {
                PullError::lost(Code::Protocol, format!("[stream.connect] of what [stream.open] was told: {error}"))
            }
            error => unfilled("stream.connect", &error),
        })?;
        let place = request.place();
        // Where nobody wrote the host down, no secret is said either.
        let written = request.egress == Egress::Written;
        match wire(settings, request).await? {
            Ok(wire) => break (wire, place, if written { settings.secrets.clone() } else { BTreeMap::<String, Vec<SecretString>>::new() }),
            Err(answer) => {
                let judged = settings.judge(&plan.rules, &answer);
                match token.filter(|_| is_spent(&judged)) {
                    Some(_) if spent.is_some() => return Err(untold(refused_afresh(&place, &judged))),
                    Some(token) => spent = Some(token),
                    None => return Err(no_stream(&judged, &place)),
                }
            }
        }
    };
    let talk = Described::new(plan.clone(), context, secrets, place.clone(), Instant::now());
    Session::begin(wire, Box::new(talk), plan.gather, place)
}

/// What carries the frames, or the answer that is no stream.
async fn wire(settings: &StreamSettings, mut request: HttpRequest) -> Result<Result<Wire, HttpAnswer>, PullError> {
    let (plan, max) = (&settings.plan, settings.plan.frame_bytes_max);
    if plan.kind == StreamKind::Websocket {
        return match settings.http.socket(&request, plan.protocol.as_deref(), max).await {
            Ok(socket) => Ok(Ok(Wire::Socket(socket))),
            Err(SocketError::Http(error)) => Err(unreached(error)),
            Err(SocketError::Answer(answer)) => Ok(Err(answer)),
        };
    }
    let events = plan.kind == StreamKind::Sse;
    if !request.headers.iter().any(|(name, _)| name == "accept") {
        let accept = if events { "text/event-stream" } else { "application/x-ndjson, application/json" };
        request.headers.push(("accept".to_owned(), accept.to_owned()));
    }
    let flows = if events { is_events } else { is_lines };
    Ok(match settings.http.flow(request, flows).await.map_err(unreached)? {
        FlowAnswer::Flow(flow) => Ok(Wire::Flow(flow, if events { Cutter::events(max) } else { Cutter::lines(max) })),
        FlowAnswer::Answer(answer) => Err(answer),
    })
}

/// Server-sent events are called so (WHATWG HTML §9.2.5).
fn is_events(kind: Option<&str>) -> bool {
    kind.is_none_or(|kind| kind.starts_with("text/event-stream"))
}

/// Lines have many names, but a page is none.
fn is_lines(kind: Option<&str>) -> bool {
    kind.is_none_or(|kind| !kind.starts_with("text/html"))
}

fn asker(settings: &StreamSettings) -> Asker<'_> {
    Asker { http: &settings.http, wallet: &settings.wallet, clock: &*settings.clock }
}

/// A websocket, or what its refusal means.
pub async fn socket(settings: &StreamSettings, request: &HttpRequest, protocol: Option<&str>) -> Result<Socket, PullError> {
    match settings.http.socket(request, protocol, settings.plan.frame_bytes_max).await {
        Ok(socket) => Ok(socket),
        Err(SocketError::Http(error)) => Err(unreached(error)),
        Err(SocketError::Answer(answer)) => Err(no_stream(&settings.judge(&settings.plan.rules, &answer), &request.place())),
    }
}

/// Asks before the stream, and takes what the manifest wants of the answer.
async fn opened(settings: &StreamSettings, open: &Opening, context: &Value) -> Result<Map<String, Value>, PullError> {
    let render = |token: Option<&SecretString>| open.call.render(&Filling { context, secrets: &settings.secrets, token, files: &[] });
    let asked = asker(settings).ask(&open.call, &open.rules, render).await;
    let Asked { judged, place, .. } = asked.map_err(|error| match error {
        Unasked::Call(error) => unfilled("stream.open", &error),
        Unasked::Token(error) => untold(error),
        Unasked::Http(error) => unreached(error),
    })?;
    let judged = settings.patient(judged);
    if judged.meaning != Meaning::Ok {
        return Err(meant(&judged, &place));
    }
    let take = |(name, filter): &(String, crate::connector::jq::Filter)| {
        // Half an answer, or a page of something in between: it comes whole another time.
        let broken = |why: String| PullError::lost(Code::Protocol, format!("{place}: `{name}` of its answer: {why}"));
        match judged.take(filter).map_err(|error| broken(error.to_string()))? {
            Value::Null => Err(broken("it is not there".to_owned())),
            value => Ok((name.clone(), value)),
        }
    };
    open.take.iter().map(take).collect()
}

fn no_stream(judged: &Judged, place: &str) -> PullError {
    match judged.meaning {
        // An answer that is no stream is no success, whatever its status.
        Meaning::Ok | Meaning::Ignore => PullError::Lost {
            code: Code::Protocol,
            detail: format!("{place} answered {} and no stream", judged.status),
            after: judged.after,
        },
        _ => meant(judged, place),
    }
}

fn untold(error: TokenError) -> PullError {
    match error {
        TokenError::Later { code, detail, after } => PullError::Lost { code, detail, after },
        TokenError::Person { code, detail } => PullError::Person { code, detail },
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
