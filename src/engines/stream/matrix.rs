//! Matrix: `/sync` as a long poll. Where a room's timeline is cut (`limited`), what lies between is read backwards by `/messages` and
//! handed over before it, oldest first; the token is committed with all of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

use crate::connector::call::answer::{Judged, Meaning, RuleSpec, Rules};
use crate::connector::jq::Limits;
use crate::engines::stream::StreamSettings;
use crate::engines::stream::connect::{meant, person, unreached};
use crate::model::codes::Code;
use crate::model::raw::{RawHead, Via};
use crate::ports::BoxFuture;
use crate::ports::feed::{Cursors, Feed, FeedBatch, FeedNews, Payload};
use crate::ports::http::{Egress, Http, HttpBody, HttpRequest};
use crate::ports::pull::PullError;

/// The server holds an empty answer back for so long.
const LONG_POLL: Duration = Duration::from_secs(30);
/// More than the long poll, for the way and for a slow server.
const MARGIN: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Events of a room in one answer; the rest is read backwards.
const TIMELINE_MAX: usize = 50;
const PAGE: usize = 100;
/// A page of a gap is waited for by the session as long as this, and so often in a row: what is read of the gap already would be read again by
/// the next one, which would be turned away at the same place.
const THROTTLED_MAX: Duration = Duration::from_secs(60);
const THROTTLED_ROW_MAX: u32 = 10;
/// Wait after an answer that names none.
const THROTTLED_FIRST: Duration = Duration::from_secs(5);
/// An answer that comes sooner than this and brings nothing was not held back as it should be.
const HASTY: Duration = Duration::from_secs(1);
/// Wait after such answers; it doubles, up to a bound.
const HASTY_FIRST: Duration = Duration::from_millis(100);
const HASTY_MAX: Duration = Duration::from_secs(5);
/// Pages of one room's gap. Beyond it the oldest are missed, and the channel says so.
const PAGES_MAX: usize = 200;
/// Bytes of one room's gap that are held at once.
const GAP_BYTES_MAX: usize = 64 * 1024 * 1024;
const SINCE: &str = "next_batch";
/// Notes that wait to be told.
const NOTES_MAX: usize = 20;

/// A session.
pub struct MatrixFeed {
    settings: Arc<StreamSettings>,
    base: String,
    token: SecretString,
    rules: Rules,
    since: Option<String>,
    /// Answers in a row that came at once and brought nothing.
    hasty: u32,
    notes: Vec<(Code, String)>,
}

/// Opens a session: asks who we are, so that a refused token is told at once.
pub async fn open(settings: Arc<StreamSettings>, cursors: &Cursors) -> Result<MatrixFeed, PullError> {
    let base = settings.settings.get("homeserver").and_then(Value::as_str).unwrap_or_default().trim_end_matches('/').to_owned();
    let token = settings.secrets.get("access_token").and_then(|values| values.first()).cloned();
    let token = token.ok_or_else(|| person(Code::AuthFailed, "[secrets] access_token is missing"))?;
    let throttled = RuleSpec {
        status: vec![429],
        when: Some(".retry_after_ms | isnumber".to_owned()),
        then: Meaning::Throttled,
        after_s: Some(".retry_after_ms / 1000".to_owned()),
    };
    let rules = Rules::compile(&[throttled], "matrix", "stream", Limits::default()).unwrap_or_default();
    let feed = MatrixFeed { settings, base, token, rules, since: cursors.get(SINCE).cloned(), hasty: 0, notes: Vec::new() };
    feed.ask("GET", &["account", "whoami"], &[], MARGIN).await?;
    Ok(feed)
}

impl MatrixFeed {
    async fn ask(
        &self,
        method: &'static str,
        path: &[&str],
        query: &[(&str, &str)],
        within: Duration,
    ) -> Result<(Judged, Bytes), PullError> {
        let (judged, body, place) = self.asked(method, path, query, within).await?;
        good(judged, body, &place)
    }

    /// Asks; gives the answer, whatever it means, and who gave it.
    async fn asked(
        &self,
        method: &'static str,
        path: &[&str],
        query: &[(&str, &str)],
        within: Duration,
    ) -> Result<(Judged, Bytes, String), PullError> {
        let mut url = Url::parse(&self.base).map_err(|_| person(Code::ChannelConfig, "[settings] homeserver is no URL"))?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["_matrix", "client", "v3"]).extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut headers = vec![("authorization".to_owned(), format!("Bearer {}", self.token.expose_secret()))];
        let body = if method == "POST" {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
            HttpBody::Bytes(Bytes::from_static(b"{}"))
        } else {
            HttpBody::None
        };
        let request = HttpRequest { method, url, headers, body, within, answer_bytes_max: ANSWER_BYTES_MAX, egress: Egress::Written };
        let place = request.place();
        let answer = self.settings.http.send(request).await.map_err(unreached)?;
        Ok((self.settings.judge(&self.rules, &answer), answer.body, place))
    }

    /// A page of a room's gap. `None`: the room is closed to us, and the others are none of its business.
    async fn page(&mut self, room: &str, query: &[(&str, &str)]) -> Result<Option<(Judged, Bytes)>, PullError> {
        let mut throttled = 0;
        loop {
            let (judged, body, place) = self.asked("GET", &["rooms", room, "messages"], query, MARGIN).await?;
            let wait = judged.after.unwrap_or(THROTTLED_FIRST);
            let closed = matches!(judged.body.get("errcode").and_then(Value::as_str), Some("M_FORBIDDEN" | "M_NOT_FOUND"));
            match judged.meaning {
                Meaning::Throttled if wait <= THROTTLED_MAX && throttled < THROTTLED_ROW_MAX => {
                    throttled += 1;
                    tokio::time::sleep(wait).await;
                }
                Meaning::Denied | Meaning::Missing if closed => {
                    let words = judged.words().unwrap_or_default();
                    self.note(Code::NoFolder, format!("what was missed in {room} cannot be read: {words}"));
                    return Ok(None);
                }
                _ => return good(judged, body, &place).map(Some),
            }
        }
    }

    fn note(&mut self, code: Code, detail: String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push((code, detail));
        }
    }

    async fn sync(&mut self) -> Result<FeedNews, PullError> {
        if let Some((code, detail)) = self.notes.pop() {
            return Ok(FeedNews::Note { code, detail });
        }
        if self.hasty > 0 {
            tokio::time::sleep(HASTY_FIRST.saturating_mul(1 << self.hasty.min(6)).min(HASTY_MAX)).await;
        }
        let asked_at = Instant::now();
        let limit = if self.since.is_some() { TIMELINE_MAX } else { 1 };
        let nothing = json!({"types": []});
        let filter = json!({"presence": nothing, "account_data": nothing, "room": {"timeline": {"limit": limit},
            "state": {"lazy_load_members": true}, "ephemeral": nothing, "account_data": nothing}})
        .to_string();
        let wait = if self.since.is_some() { LONG_POLL } else { Duration::ZERO };
        let timeout = wait.as_millis().to_string();
        let mut query = vec![("timeout", timeout.as_str()), ("filter", filter.as_str())];
        query.extend(self.since.as_deref().map(|since| ("since", since)));
        let (judged, body) = self.ask("GET", &["sync"], &query, wait + MARGIN).await?;
        let next = judged.body.get("next_batch").and_then(Value::as_str).map(str::to_owned);
        let next = next.ok_or_else(|| PullError::Lost {
            code: Code::Protocol,
            detail: "an answer of /sync without next_batch".to_owned(),
            after: None,
        })?;
        self.accept(&judged.body).await;
        let mut payloads = Vec::new();
        if let Some(since) = self.since.clone() {
            let rooms = judged.body.pointer("/rooms/join").and_then(Value::as_object);
            let mut said = false;
            for (room, joined) in rooms.into_iter().flatten() {
                let timeline = joined.get("timeline");
                said |= timeline.and_then(|timeline| timeline.get("events")?.as_array()).is_some_and(|events| !events.is_empty());
                let limited = timeline.and_then(|timeline| timeline.get("limited")?.as_bool()).unwrap_or(false);
                if let (true, Some(from)) = (limited, timeline.and_then(|timeline| timeline.get("prev_batch")?.as_str())) {
                    payloads.extend(self.gap(room, from, &since).await?);
                }
            }
            if said {
                payloads.push(payload(body));
            }
        }
        if payloads.is_empty() && self.since.as_ref() == Some(&next) {
            self.hasty = if asked_at.elapsed() < HASTY { self.hasty + 1 } else { 0 };
            return Ok(FeedNews::Quiet(Duration::ZERO));
        }
        self.hasty = 0;
        self.since = Some(next.clone());
        Ok(FeedNews::Batch(FeedBatch { payloads, cursors: vec![(SINCE.to_owned(), Some(next))] }))
    }

    /// What lies between two tokens of a room, as pages of the form of /sync, oldest first.
    async fn gap(&mut self, room: &str, from: &str, to: &str) -> Result<Vec<Payload>, PullError> {
        let (mut pages, mut from, mut bytes, page_max) = (Vec::new(), from.to_owned(), 0, PAGE.to_string());
        loop {
            let query = [("dir", "b"), ("from", from.as_str()), ("to", to), ("limit", page_max.as_str())];
            let Some((mut judged, body)) = self.page(room, &query).await? else { break };
            bytes += body.len();
            let Some(Value::Array(mut events)) = judged.body.get_mut("chunk").map(Value::take) else {
                // Taken for the end it would be a hole.
                return Err(PullError::lost(Code::Protocol, "an answer of /messages without chunk".to_owned()));
            };
            if events.is_empty() {
                break;
            }
            events.reverse();
            let page = json!({"next_batch": to, "rooms": {"join": {room: {"timeline": {"events": events}}}}});
            pages.push(payload(Bytes::from(page.to_string())));
            match judged.body.get("end").and_then(Value::as_str) {
                Some(end) if end != from => end.clone_into(&mut from),
                _ => break,
            }
            if pages.len() >= PAGES_MAX || bytes >= GAP_BYTES_MAX {
                self.note(Code::Flood, format!("so much was said in {room} meanwhile that the oldest of it is left out"));
                break;
            }
        }
        pages.reverse();
        Ok(pages)
    }

    /// Joins rooms we are invited to, if the channel wants it.
    async fn accept(&mut self, body: &Value) {
        if self.settings.settings.get("join_invites").and_then(Value::as_bool) != Some(true) {
            return;
        }
        let invites = body.pointer("/rooms/invite").and_then(Value::as_object);
        let rooms: Vec<String> = invites.into_iter().flatten().map(|(room, _)| room.clone()).take(20).collect();
        for room in rooms {
            if let Err(error) = self.ask("POST", &["join", &room], &[], MARGIN).await {
                self.note(Code::NoFolder, format!("an invitation cannot be accepted: {error}"));
            }
        }
    }
}

/// What a question was for.
fn good(judged: Judged, body: Bytes, place: &str) -> Result<(Judged, Bytes), PullError> {
    match judged.meaning {
        Meaning::Ok if judged.body.is_object() => Ok((judged, body)),
        Meaning::Ok => Err(PullError::Lost { code: Code::Protocol, detail: format!("{place} answered no JSON"), after: None }),
        _ => Err(meant(&judged, place)),
    }
}

fn payload(body: Bytes) -> Payload {
    let head = RawHead { headers: vec![("content-type".to_owned(), "application/json".to_owned())], ..RawHead::default() };
    Payload { via: Via::Stream, head, body, historic: false }
}

impl Feed for MatrixFeed {
    fn next(&mut self) -> BoxFuture<'_, Result<FeedNews, PullError>> {
        Box::pin(self.sync())
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}
