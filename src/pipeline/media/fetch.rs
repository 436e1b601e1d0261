//! Fetch: one attempt at one file — the requests of its recipe, redirects, and the body into the blob store piece by piece.
//!
//! What must stay true: a body is never held whole (but for short transcripts, whose words are wanted), is cut at its cap, and leaves nothing behind unless all of it is there and is what was
//! announced; a credential goes nowhere but where the manifest sends it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use secrecy::SecretString;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::connector::ask::{Asker, Unasked, is_spent};
use crate::connector::call::CallError;
use crate::connector::call::answer::{Judged, Meaning};
use crate::connector::mail::sniff;
use crate::connector::media::{Recipe, Redirect, Step};
use crate::connector::text::hex;
use crate::logic::admit::media::FetchTask;
use crate::model::codes::Code;
use crate::model::item::Fetched;
use crate::pipeline::media::MediaChannel;
use crate::pipeline::media::slots::Slot;
use crate::pipeline::raws::blob_key;
use crate::ports::blobs::{BlobError, Incoming};
use crate::ports::http::{HttpAnswer, HttpError, HttpOpened, HttpRead, HttpRequest};
use crate::ports::token::{AccessToken, TokenError};

/// Redirects followed.
const REDIRECTS_MAX: usize = 5;
/// Longest silence inside of a body.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Longest time for a whole body.
const BODY_WITHIN: Duration = Duration::from_secs(600);
/// Of an answer that is not the file so much is read.
const ERROR_BYTES_MAX: usize = 64 * 1024;
/// Largest answer of a request before the last: JSON with a link.
const STEP_BYTES_MAX: usize = 1024 * 1024;
/// A file shorter than the platform said is believed to be cut so often; then it is taken as it is.
const SHORT_MAX: u32 = 3;

/// Why a file is not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It can never be had.
    Never(Code),
    /// It is not there; it may appear.
    Missing,
    /// The credential is not accepted, or the link has expired.
    Denied,
    /// Trouble of the moment; not before this long, if somebody said so.
    Later(Code, Option<Duration>),
}

/// One attempt.
///
/// # Errors
/// [`Failure`].
pub async fn file(channel: &MediaChannel, task: &FetchTask) -> Result<Fetched, Failure> {
    let Some(recipe) = channel.kit.connector.media.get(&task.order.recipe) else { return Err(Failure::Never(Code::MediaNotFetched)) };
    if channel.parts.writer.disk_full() {
        return Err(Failure::Later(Code::DiskFull, Some(SILENCE_MAX)));
    }
    let mut context = recipe.context(&task.order, &task.public, &channel.kit.settings).map_err(|_| Failure::Never(Code::MediaRefused))?;
    let attempt = Attempt { channel, task, recipe };
    let Some((last, before)) = recipe.steps.split_last() else { return Err(Failure::Never(Code::MediaNotFetched)) };
    for step in before {
        attempt.ask(step, &mut context).await?;
    }
    if recipe.is_inline() {
        attempt.ask(last, &mut context).await?;
        let bytes = recipe.inline(&channel.kit.filling(&context, None)).map_err(|_| Failure::Never(Code::MediaRefused))?;
        return attempt.keep(Opening::inline(bytes), &context).await;
    }
    let opened = attempt.open(last, &context).await?;
    attempt.keep(opened, &context).await
}

/// The body of the file, about to be read, and what its head says.
struct Opening {
    body: Box<dyn HttpRead>,
    media_type: Option<String>,
    length: Option<u64>,
    /// Held until the body is read.
    slot: Option<Slot>,
}

/// A body that came inside of JSON.
struct Inline(Option<Bytes>);

impl HttpRead for Inline {
    fn next(&mut self) -> crate::ports::BoxFuture<'_, Result<Option<Bytes>, HttpError>> {
        Box::pin(std::future::ready(Ok(self.0.take())))
    }
}

impl Opening {
    fn inline(bytes: Vec<u8>) -> Self {
        let length = Some(bytes.len() as u64);
        Self { body: Box::new(Inline(Some(Bytes::from(bytes)))), media_type: None, length, slot: None }
    }
}

/// Why the last request gave no file.
enum Refused {
    /// Its token is no longer good.
    Spent,
    Failed(Failure),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Refused {
    fn failure(self) -> Failure {
        match self {
            Self::Spent => Failure::Denied,
            Self::Failed(failure) => failure,
        }
    }
}

struct Attempt<'a> {
    channel: &'a MediaChannel,
    task: &'a FetchTask,
    recipe: &'a Recipe,
}

impl Attempt<'_> {
    fn asker(&self) -> Asker<'_> {
        let parts = &self.channel.parts;
        Asker { http: &*self.channel.http, wallet: &self.channel.kit.wallet, clock: &*parts.clock }
    }

    /// A request whose answer is JSON.
    async fn ask(&self, step: &Step, context: &mut Value) -> Result<(), Failure> {
        // Where it leads does not depend on its token.
        let somewhere = self.channel.kit.render(&step.call, context, Some(&SecretString::default()));
        let place = somewhere.map_err(|error| unrendered(&error))?.place();
        let _slot = self.channel.parts.slots.take(&place).await;
        let asker = self.asker();
        let asked = asker.ask(&step.call, &step.rules, |token| {
            let mut request = self.channel.kit.render(&step.call, context, token)?;
            request.answer_bytes_max = self.json_bytes_max();
            Ok(request)
        });
        let judged = asked.await.map_err(unasked)?.judged;
        meant(judged.meaning, judged.after)?;
        step.take(&judged, context).map_err(|_| Failure::Never(Code::MediaRefused))
    }

    fn json_bytes_max(&self) -> usize {
        if !self.recipe.is_inline() {
            return STEP_BYTES_MAX;
        }
        // base64 takes a third more.
        usize::try_from(self.cap()).unwrap_or(usize::MAX).saturating_mul(4) / 3 + STEP_BYTES_MAX
    }

    fn cap(&self) -> u64 {
        self.recipe.bytes_max.unwrap_or(u64::MAX).min(self.channel.parts.bytes_max)
    }

    /// The request whose answer is the file; a token that is no longer good is replaced once.
    async fn open(&self, step: &Step, context: &Value) -> Result<Opening, Failure> {
        let asker = self.asker();
        let token = asker.token(&step.call, None).await.map_err(|error| unasked(error.into()))?;
        match self.open_with(step, context, token.as_ref()).await {
            Err(Refused::Spent) => {
                let fresh = asker.token(&step.call, token.as_ref()).await.map_err(|error| unasked(error.into()))?;
                self.open_with(step, context, fresh.as_ref()).await.map_err(Refused::failure)
            }
            opened => opened.map_err(Refused::failure),
        }
    }

    /// The same with this token; redirects are followed as the recipe says.
    async fn open_with(&self, step: &Step, context: &Value, token: Option<&AccessToken>) -> Result<Opening, Refused> {
        let secret = token.map(|token| &token.secret);
        let mut request = self.channel.kit.render(&step.call, context, secret).map_err(|error| unrendered(&error))?;
        for _ in 0..=REDIRECTS_MAX {
            let slot = self.channel.parts.slots.take(&request.place()).await;
            let opened = self.channel.http.open(request.clone()).await.map_err(|error| unanswered(&error))?;
            match opened.status {
                200 | 203 => return Ok(self.checked(opened, slot)?),
                // Not ready yet.
                202 => return Err(Failure::Later(Code::MediaMissing, None).into()),
                301 | 302 | 303 | 307 | 308 if self.recipe.redirect == Redirect::DropAuth => {
                    request = follow(step, &request, &opened, context)?;
                }
                300..400 => return Err(Failure::Never(Code::MediaRefused).into()),
                _ => {
                    let judged = self.refused(step, opened).await;
                    if token.is_some() && is_spent(&judged) {
                        return Err(Refused::Spent);
                    }
                    return Err(meant(judged.meaning, judged.after).err().unwrap_or(Failure::Later(Code::Unknown, None)).into());
                }
            }
        }
        Err(Failure::Never(Code::MediaRefused).into())
    }

    fn checked(&self, opened: HttpOpened, slot: Slot) -> Result<Opening, Failure> {
        let media_type = opened.header("content-type").map(str::to_owned);
        if media_type.as_deref().is_some_and(|media_type| self.recipe.refuses(media_type, &self.task.public.media_type)) {
            return Err(Failure::Never(Code::MediaRefused));
        }
        let length = opened.header("content-length").and_then(|length| length.parse().ok());
        if length.is_some_and(|length: u64| length > self.cap()) {
            return Err(Failure::Never(Code::AttachmentTooLarge));
        }
        Ok(Opening { body: opened.body, media_type, length, slot: Some(slot) })
    }

    /// What an answer that is not the file means.
    async fn refused(&self, step: &Step, mut opened: HttpOpened) -> Judged {
        let mut body = BytesMut::new();
        while body.len() < ERROR_BYTES_MAX
            && let Ok(Ok(Some(piece))) = tokio::time::timeout(SILENCE_MAX, opened.body.next()).await
        {
            body.extend_from_slice(piece.get(..piece.len().min(ERROR_BYTES_MAX)).unwrap_or_default());
        }
        let answer = HttpAnswer { status: opened.status, headers: opened.headers, body: body.freeze() };
        step.rules.judge(&answer, self.channel.parts.clock.now())
    }

    /// Reads the body into the blob store.
    async fn keep(&self, opening: Opening, context: &Value) -> Result<Fetched, Failure> {
        let key = blob_key("media", self.task.public.id);
        let blobs = &self.channel.parts.blobs;
        let mut blob = blobs.spool().await.map_err(|error| unkept(&error))?;
        let done = match tokio::time::timeout(BODY_WITHIN, self.copy(opening, blob.as_mut(), context)).await {
            Ok(done) => done,
            Err(_) => Err(Failure::Later(Code::Timeout, None)),
        };
        let read = done?;
        blob.keep(&key).await.map_err(|error| unkept(&error))?;
        let name = context.get("step").and_then(|step| step.get("name")).and_then(Value::as_str);
        let name = name.and_then(crate::connector::decode::file_base_name);
        Ok(Fetched::Stored { key, bytes: read.bytes, sha256: read.sha256, media_type: read.media_type, name, words: read.words })
    }

    async fn copy(&self, mut opening: Opening, blob: &mut dyn Incoming, context: &Value) -> Result<Read, Failure> {
        let (mut digest, mut bytes, mut first) = (Sha256::new(), 0_u64, Vec::with_capacity(sniff::FIRST_BYTES));
        let mut whole = BytesMut::new();
        loop {
            let piece = match tokio::time::timeout(SILENCE_MAX, opening.body.next()).await {
                Ok(piece) => piece.map_err(|error| unanswered(&error))?,
                Err(_) => return Err(Failure::Later(Code::Timeout, None)),
            };
            let Some(piece) = piece else { break };
            bytes = bytes.saturating_add(piece.len() as u64);
            if bytes > self.cap() {
                return Err(Failure::Never(Code::AttachmentTooLarge));
            }
            let room = sniff::FIRST_BYTES.saturating_sub(first.len());
            first.extend_from_slice(piece.get(..piece.len().min(room)).unwrap_or_default());
            digest.update(&piece);
            if self.recipe.is_transcript() {
                whole.extend_from_slice(&piece);
            }
            blob.write(piece).await.map_err(|error| unkept(&error))?;
        }
        drop(opening.slot);
        // Where the head tells no length, a cut body looks whole.
        let said = self.task.public.bytes.filter(|_| opening.length.is_none());
        if said.is_some_and(|said| bytes < said) && self.task.attempts < SHORT_MAX {
            return Err(Failure::Later(Code::MediaMismatch, None));
        }
        let sha256 = hex(&digest.finalize());
        if self.recipe.sha256(&self.channel.kit.filling(context, None)).is_some_and(|told| told != sha256) {
            return Err(Failure::Later(Code::MediaMismatch, None));
        }
        let media_type = self.media_type(opening.media_type.as_deref(), &first);
        if self.recipe.refuses(&media_type, &self.task.public.media_type) {
            return Err(Failure::Never(Code::MediaRefused));
        }
        let words = self.words(&whole)?;
        Ok(Read { bytes, sha256, media_type, words })
    }

    /// What is said in a transcript. One that cannot be read may have been cut on its way.
    fn words(&self, whole: &[u8]) -> Result<Option<String>, Failure> {
        let again = self.task.attempts < SHORT_MAX;
        self.recipe.words(whole).map_err(|what| {
            tracing::warn!(messaging.destination.name = %self.channel.kit.channel, detail = what, again, "transcript not read");
            if again { Failure::Later(Code::MediaMismatch, None) } else { Failure::Never(Code::MediaRefused) }
        })
    }

    /// What the file is: its first bytes prove it, else the platform's word, else the head's.
    fn media_type(&self, head: Option<&str>, first: &[u8]) -> String {
        const NOTHING: &str = "application/octet-stream";
        let told = self.task.public.media_type.as_str();
        let head = crate::connector::normalize::media_type(head);
        let declared = if told == NOTHING { head.as_str() } else { told };
        sniff::media_type(declared, self.task.public.name.as_deref(), first)
    }
}

/// What was read.
struct Read {
    bytes: u64,
    sha256: String,
    media_type: String,
    words: Option<String>,
}

fn follow(step: &Step, request: &HttpRequest, opened: &HttpOpened, context: &Value) -> Result<HttpRequest, Failure> {
    let location = opened.header("location").ok_or(Failure::Never(Code::MediaRefused))?;
    step.call.follow(request, location, context).map_err(|_| Failure::Never(Code::MediaRefused))
}

fn meant(meaning: Meaning, after: Option<Duration>) -> Result<(), Failure> {
    match meaning {
        Meaning::Ok => Ok(()),
        Meaning::Throttled => Err(Failure::Later(Code::Throttled, after)),
        Meaning::Later | Meaning::Refresh | Meaning::CursorLost => Err(Failure::Later(Code::Unknown, after)),
        Meaning::Denied => Err(Failure::Denied),
        Meaning::Missing => Err(Failure::Missing),
        Meaning::Exists | Meaning::Closed | Meaning::Never | Meaning::Ignore => Err(Failure::Never(Code::MediaRefused)),
    }
}

fn unrendered(error: &CallError) -> Failure {
    tracing::warn!(error = %error, "file not asked for");
    Failure::Never(Code::MediaNotFetched)
}

fn unasked(error: Unasked) -> Failure {
    match error {
        Unasked::Call(error) => unrendered(&error),
        Unasked::Http(error) => unanswered(&error),
        Unasked::Token(TokenError::Later { code, after, .. }) => Failure::Later(code, after),
        Unasked::Token(TokenError::Person { .. }) => Failure::Denied,
    }
}

fn unanswered(error: &HttpError) -> Failure {
    match error.code {
        Code::EgressRefused => Failure::Never(Code::EgressRefused),
        Code::Protocol => Failure::Never(Code::AttachmentTooLarge),
        Code::Invariant => Failure::Never(Code::MediaRefused),
        code => Failure::Later(code, None),
    }
}

fn unkept(error: &BlobError) -> Failure {
    tracing::warn!(error = %error, "file not kept");
    Failure::Later(if matches!(error, BlobError::Full) { Code::DiskFull } else { Code::StoreUnavailable }, None)
}
