//! The guard: who may pass, and what is answered. In this order: method, size, source, signature, handshake.
//!
//! What must stay true: nothing of the body is read before it is proven; a refusal says its status and nothing else; what
//! passes keeps no secret.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::connector::decode;
use crate::connector::handshake::Handshake;
use crate::connector::hook::paths::Called;
use crate::connector::hook::{Guarded, Hook, Outcome, Verified, hide, paths, plain};
use crate::connector::jq::Filter;
use crate::connector::load::EchoThen;
use crate::connector::manifest::{Answer, Decode, SubPath, Webhook};
use crate::connector::text::hex;
use crate::connector::verify::{Algorithm, Kind, Missing, Presented, Proof, With, is_amazons};
use crate::model::codes::Code;
use crate::model::raw::RawHead;
use crate::model::time::Time;
use crate::ports::intake::{HookAnswer, HookRequest};

/// When a platform is asked to come again while its published key is being fetched, or the page it named visited, seconds.
const KEY_RETRY_S: u32 = 2;
/// Headers of one request.
const HEADERS_MAX: usize = 128;
/// Bytes of all headers and the target together.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Longest lease that is believed, seconds: thirty days. To renew a longer one too early costs nothing.
const LEASE_S_MAX: u64 = 2_592_000;
/// Longest challenge that is given back.
const CHALLENGE_BYTES_MAX: usize = 1024;
/// Headers that carry secrets whatever the connector is.
const SECRET_HEADERS: [&str; 5] = ["authorization", "proxy-authorization", "cookie", "x-api-key", "x-auth-token"];

fn empty(status: u16) -> HookAnswer {
    HookAnswer { status, headers: Vec::new(), body: Bytes::new() }
}

/// Something is being fetched, and will be here by then.
fn come_again() -> HookAnswer {
    HookAnswer { headers: vec![("retry-after".to_owned(), KEY_RETRY_S.to_string())], ..empty(503) }
}

fn refuse(status: u16, code: Code) -> Guarded {
    Guarded::Answer { answer: empty(status), code: Some(code) }
}

fn header<'a>(request: &'a HookRequest, name: &str) -> Option<&'a str> {
    request.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn parameter(query: &str, name: &str) -> Option<String> {
    url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

pub(super) fn guard(hook: &Hook, request: &HookRequest, now: Time) -> Guarded {
    let Some(webhook) = hook.reader.connector.manifest.webhook.as_ref() else { return refuse(404, Code::UnknownHook) };
    let called = paths::called(webhook, &request.target);
    if let Some(early) = method(hook, webhook, called, request, now) {
        return early;
    }
    let head: usize = request.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() + request.target.len();
    if request.headers.len() > HEADERS_MAX || head > HEAD_BYTES_MAX {
        return refuse(431, Code::RequestTooLarge);
    }
    if request.body.len() > hook.body_bytes_max() {
        return refuse(413, Code::BodyTooLarge);
    }
    if origin(hook, webhook, header(request, "origin")) == Origin::Refused {
        return refuse(403, Code::SourceRefused);
    }
    let mut once = None;
    if let Some((kinds, secrets)) = &hook.verify {
        let url = public_url(hook, request);
        let presented = Presented { headers: &request.headers, url: &url, body: &request.body };
        let kind = kinds.iter().find(|kind| kind.fits(&presented));
        let proof = kind.map_or(Proof::No, |kind| kind.proves(&presented, With { secrets, keys: &hook.keys, now }));
        let nonce = kind.map_or(Ok(None), |kind| kind.nonce(&presented));
        match (proof, nonce) {
            (Proof::Yes, Ok(nonce)) => once = nonce,
            // It comes again, and by then the key is here.
            (Proof::NoKey, _) => return Guarded::Answer { answer: come_again(), code: Some(Code::KeyUnknown) },
            (Proof::No, _) | (Proof::Yes, Err(Missing)) => {
                let answer = hook.respond.refused.as_ref().map_or_else(|| empty(401), plain);
                return Guarded::Answer { answer, code: Some(Code::Signature) };
            }
        }
    } else if let Some(refused) = unproven(hook, webhook, request).filter(|_| !hook.trusted) {
        // Nobody vouches for it: what cannot be read is not worth keeping.
        return refused;
    }
    if let Called::Below(SubPath { answer: Some(answer), .. }) = called {
        return Guarded::Answer { answer: plain(answer), code: None };
    }
    if let Some(answer) = echo(hook, &request.body) {
        return Guarded::Answer { answer, code: None };
    }
    Guarded::Pass(Verified { head: kept(hook, request), body: kept_body(hook, request), once })
}

/// What path and method alone decide: handshakes by GET, preflights, what is not taken.
fn method(hook: &Hook, webhook: &Webhook, called: Called<'_>, request: &HookRequest, now: Time) -> Option<Guarded> {
    let methods = match called {
        Called::Hook => &webhook.methods,
        Called::Below(path) if path.methods.is_empty() => &webhook.methods,
        Called::Below(path) => &path.methods,
        Called::Unknown => return Some(refuse(404, Code::UnknownHook)),
    };
    if called == Called::Hook
        && let Some(answer) = asked(hook, webhook, request, now)
    {
        return Some(answer);
    }
    if methods.contains(&request.method) {
        return None;
    }
    let mut answer = empty(405);
    answer.headers.push(("allow".to_owned(), methods.join(", ")));
    Some(Guarded::Answer { answer, code: Some(Code::Method) })
}

/// Questions to the hook itself: challenges, probes, preflights.
fn asked(hook: &Hook, webhook: &Webhook, request: &HookRequest, now: Time) -> Option<Guarded> {
    if request.method == "GET"
        && let Some(answer) = webhook.handshake.iter().find_map(|handshake| challenged(hook, handshake, request, now))
    {
        return Some(answer);
    }
    if request.method == "HEAD" && webhook.handshake.iter().any(|handshake| matches!(handshake, Handshake::HeadOk {})) {
        return Some(Guarded::Answer { answer: empty(200), code: None });
    }
    if webhook.cors && request.method == "OPTIONS" {
        let mut answer = empty(204);
        match origin(hook, webhook, header(request, "origin")) {
            Origin::Refused => return Some(refuse(403, Code::SourceRefused)),
            Origin::Listed(from) => allow_origin(&mut answer, &from),
            Origin::Any => allow_origin(&mut answer, "*"),
        }
        answer.headers.push(("access-control-allow-methods".to_owned(), webhook.methods.join(", ")));
        answer.headers.push(("access-control-allow-headers".to_owned(), "content-type".to_owned()));
        answer.headers.push(("access-control-max-age".to_owned(), "600".to_owned()));
        return Some(Guarded::Answer { answer, code: None });
    }
    None
}

/// A GET with a challenge. `None`: it is no such request.
fn challenged(hook: &Hook, handshake: &Handshake, request: &HookRequest, now: Time) -> Option<Guarded> {
    let query = request.target.split_once('?').map_or("", |(_, query)| query);
    let secrets = |name: &str| hook.reader.secrets.get(name).map_or(&[][..], Vec::as_slice);
    let mut granted: Option<Option<u64>> = None;
    let (asked, known) = match handshake {
        // With our token in clear (Meta, WebSub).
        Handshake::QueryEcho { token, secret, challenge, require, leave, lease } => {
            let asked = parameter(query, challenge)?;
            let given = parameter(query, token).unwrap_or_default();
            let has = |wanted: &BTreeMap<String, String>| wanted.iter().all(|(name, value)| parameter(query, name).as_ref() == Some(value));
            let leaves = !leave.is_empty() && has(leave) && hook.grants.is_leaving();
            let meant = lease.is_none() || hook.grants.is_meant(now);
            granted = lease.as_ref().filter(|_| !leaves).map(|name| parameter(query, name).and_then(|text| text.parse().ok()));
            (asked, (leaves || (meant && has(require))) & secrets(secret).iter().fold(false, |found, secret| found | equal(secret, &given)))
        }
        // With a hash of our token (WeChat).
        Handshake::HashedEcho { challenge, signature, secret, sorted } => {
            let asked = parameter(query, challenge)?;
            let given = parameter(query, signature).unwrap_or_default().to_ascii_lowercase();
            let others: Vec<String> = sorted.iter().map(|name| parameter(query, name).unwrap_or_default()).collect();
            let hashed = |secret: &SecretString| {
                let mut parts: Vec<&str> = others.iter().map(String::as_str).chain([secret.expose_secret()]).collect();
                parts.sort_unstable();
                let hash = hex(&Sha1::digest(parts.concat().as_bytes()));
                !secret.expose_secret().is_empty() && bool::from(hash.as_bytes().ct_eq(given.as_bytes()))
            };
            (asked, secrets(secret).iter().fold(false, |found, secret| found | hashed(secret)))
        }
        Handshake::Crc { param, secret } => return crc(&parameter(query, param)?, secrets(secret)),
        _ => return None,
    };
    if !known || asked.len() > CHALLENGE_BYTES_MAX {
        return Some(refuse(403, Code::Signature));
    }
    if let Some(seconds) = granted {
        hook.grants.grant(now, seconds.map(|seconds| Duration::from_secs(seconds.min(LEASE_S_MAX))));
    }
    Some(Guarded::Answer { answer: given_back(asked), code: None })
}

/// The challenge signed, by the newest secret.
fn crc(asked: &str, secrets: &[SecretString]) -> Option<Guarded> {
    let secret = secrets.iter().map(|secret| secret.expose_secret()).find(|secret| !secret.is_empty());
    let Some(secret) = secret.filter(|_| asked.len() <= CHALLENGE_BYTES_MAX) else { return Some(refuse(403, Code::Signature)) };
    let mac = Algorithm::Sha256.mac(secret.as_bytes(), asked.as_bytes());
    let mut answer = empty(200);
    answer.headers.push(("content-type".to_owned(), "application/json".to_owned()));
    answer.body = Bytes::from(format!("{{\"response_token\":\"sha256={}\"}}", STANDARD.encode(mac)));
    Some(Guarded::Answer { answer, code: None })
}

/// Plain text, and never sniffed into something else: the challenge comes from outside.
fn given_back(challenge: String) -> HookAnswer {
    let headers = [("content-type", "text/plain; charset=utf-8"), ("x-content-type-options", "nosniff")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    HookAnswer { status: 200, headers, body: Bytes::from(challenge) }
}

fn equal(secret: &SecretString, given: &str) -> bool {
    let secret = secret.expose_secret();
    !secret.is_empty() && bool::from(Sha256::digest(secret.as_bytes()).ct_eq(&Sha256::digest(given.as_bytes())))
}

#[derive(Debug, PartialEq, Eq)]
enum Origin {
    /// The list is empty: anybody.
    Any,
    /// Of the list.
    Listed(String),
    Refused,
}

fn origin(hook: &Hook, webhook: &Webhook, given: Option<&str>) -> Origin {
    let list = webhook.origins.as_deref().and_then(|name| hook.reader.settings.get(name)).and_then(Value::as_array);
    let Some(list) = list.filter(|list| !list.is_empty()) else { return Origin::Any };
    let given = given.unwrap_or_default().trim_end_matches('/').to_ascii_lowercase();
    let known = list.iter().filter_map(Value::as_str).any(|allowed| allowed.trim_end_matches('/').eq_ignore_ascii_case(&given));
    if known && !given.is_empty() { Origin::Listed(given) } else { Origin::Refused }
}

fn allow_origin(answer: &mut HookAnswer, origin: &str) {
    // What goes into a header comes from our own list (compared without case), so it holds no line end.
    answer.headers.push(("access-control-allow-origin".to_owned(), origin.to_owned()));
    answer.headers.push(("vary".to_owned(), "origin".to_owned()));
}

/// The URL that the platform called, for schemes that sign it.
fn public_url(hook: &Hook, request: &HookRequest) -> String {
    let base = hook.reader.settings.get("public_url").and_then(Value::as_str);
    let base = base.map(|base| base.trim_end_matches('/').to_owned());
    format!("{}{}", base.unwrap_or_else(|| format!("https://{}", header(request, "host").unwrap_or_default())), request.target)
}

fn unproven(hook: &Hook, webhook: &Webhook, request: &HookRequest) -> Option<Guarded> {
    if decode::is_nothing(&request.method, &request.body) {
        return None;
    }
    let depth = hook.reader.connector.limits.depth_max;
    let content_type = header(request, "content-type").unwrap_or_default();
    let decoded = decode::decode(webhook.decode.all(), webhook.then.as_ref(), content_type, &request.body, depth);
    let error = match decoded {
        Ok(decode::Decoded::Json(bytes)) => decode::check_json(&bytes, depth).err(),
        Ok(decode::Decoded::Value(..)) => None,
        Err(error) => Some(error),
    };
    error.map(|error| refuse(if error.code == Code::RequestTooLarge { 413 } else { 400 }, error.code))
}

/// The answer to a handshake inside a proven JSON body.
fn echo(hook: &Hook, body: &Bytes) -> Option<HookAnswer> {
    let json = hook.reader.connector.manifest.webhook.as_ref().is_some_and(|webhook| webhook.decode.all().contains(&Decode::Json));
    if !json || body.len() > 64 * CHALLENGE_BYTES_MAX {
        return None;
    }
    for echo in &hook.reader.connector.echoes {
        let hinted = body.windows(echo.hint.len().max(1)).any(|window| window == echo.hint.as_bytes());
        if !hinted || !echo.when.truthy(body, &[]).unwrap_or(false) {
            continue;
        }
        let text = |filter: &Filter| {
            let outputs = filter.run(body, &[]).ok()?;
            outputs.first().and_then(Value::as_str).filter(|text| text.len() <= CHALLENGE_BYTES_MAX).map(str::to_owned)
        };
        return match &echo.then {
            EchoThen::Give(from) => text(from).map(given_back),
            EchoThen::Answer(answer) => Some(plain(answer)),
            // Taken when it is done: a platform that comes again needs nobody here to remember (I2).
            EchoThen::Visit(from) => match text(from).filter(|page| is_amazons(page, |_| true)) {
                Some(page) if !hook.keys.visit(&page) => Some(come_again()),
                _ => Some(empty(200)),
            },
        };
    }
    None
}

/// What is kept of the head: no secrets (I7).
fn kept(hook: &Hook, request: &HookRequest) -> RawHead {
    let kinds = || hook.verify.iter().flat_map(|(kinds, _)| kinds);
    let own: Vec<String> = kinds().filter_map(Kind::secret_header).map(str::to_ascii_lowercase).collect();
    let headers = request.headers.iter().filter(|(name, _)| !SECRET_HEADERS.contains(&name.as_str()) && !own.contains(name));
    let target = match kinds().find_map(Kind::secret_parameter) {
        Some(name) => without_parameter(&request.target, name),
        None => request.target.clone(),
    };
    RawHead { method: request.method.clone(), target, headers: headers.cloned().collect(), place: None }
}

/// The body that is kept: as it came, but for a secret in it.
fn kept_body(hook: &Hook, request: &HookRequest) -> Bytes {
    let content_type = header(request, "content-type").unwrap_or_default();
    let places = hook.verify.iter().flat_map(|(kinds, _)| kinds).filter_map(Kind::secret_place);
    places.fold(request.body.clone(), |body, place| hide::hidden(&body, content_type, &place))
}

fn without_parameter(target: &str, name: &str) -> String {
    let Some((path, query)) = target.split_once('?') else { return target.to_owned() };
    let rest = url::form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key != name);
    let rest: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(rest).finish();
    if rest.is_empty() { path.to_owned() } else { format!("{path}?{rest}") }
}

pub(super) fn answer(hook: &Hook, verified: &Verified, outcome: Outcome) -> HookAnswer {
    let Some(webhook) = hook.reader.connector.manifest.webhook.as_ref() else { return empty(404) };
    let respond = &hook.respond;
    let mut answer = match outcome {
        Outcome::Accepted => plain(&respond.accepted),
        Outcome::Ignored => plain(respond.ignored.as_ref().unwrap_or(&respond.accepted)),
        Outcome::Overload { retry_after } => {
            let mut answer = respond.overload.as_ref().map_or_else(|| empty(503), plain);
            answer.headers.push(("retry-after".to_owned(), retry_after.to_string()));
            answer
        }
    };
    let browser = verified.head.header("accept").is_some_and(|accept| accept.contains("text/html"));
    if let (Some(setting), true, false) = (&respond.browser, browser, matches!(outcome, Outcome::Overload { .. })) {
        answer = match hook.reader.settings.get(setting).and_then(Value::as_str) {
            // Read as a URL when the hook was built, so it holds no line end.
            Some(url) => HookAnswer { headers: vec![("location".to_owned(), url.to_owned())], ..empty(303) },
            None => plain(&Answer {
                status: 200,
                content_type: Some("text/html; charset=utf-8".to_owned()),
                body: "<!doctype html><title>Thank you</title><p>Thank you. We have got your message.</p>".to_owned(),
            }),
        };
    }
    if webhook.cors {
        match origin(hook, webhook, verified.head.header("origin")) {
            Origin::Listed(from) => allow_origin(&mut answer, &from),
            Origin::Any if verified.head.header("origin").is_some() => allow_origin(&mut answer, "*"),
            _ => {}
        }
    }
    answer
}
