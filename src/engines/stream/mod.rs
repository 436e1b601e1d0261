//! Stream: an engine for sources that push: websockets, server-sent events, lines, and protocols of their own.
//!
//! A *wire* carries frames, a *talk* knows what is said on it (without I/O), a *session* drives both and gathers payloads into
//! batches; the feed here opens sessions, lets a poll fill what was missed, and acknowledges what is durable.

mod connect;
mod described;
mod discord;
mod gap;
mod irc;
mod matrix;
mod session;
mod silence;
mod talk;
#[cfg(test)]
mod tests;
mod wire;
mod xml;
mod xmpp;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::Value;
use tokio::time::Instant;

use crate::connector::call::answer::{Judged, Rules};
use crate::connector::poll::limits::Quota;
use crate::connector::stream::{StreamKind, StreamPlan};
use crate::engines::stream::gap::Gap;
use crate::engines::stream::session::{Round, Session};
use crate::engines::stream::talk::{Say, apply};
use crate::http::client::HttpClient;
use crate::model::codes::Code;
use crate::ports::BoxFuture;
use crate::ports::clock::{Clock, Random};
use crate::ports::feed::{Cursors, Feed, FeedNews, FeedSource};
use crate::ports::http::HttpAnswer;
use crate::ports::pull::PullError;
use crate::ports::token::Wallet;

/// A question waits this long for something to come.
const QUIET_WITHIN: Duration = Duration::from_secs(50);
/// A connection that lived this long may be followed by another at once.
const SETTLED_AFTER: Duration = Duration::from_secs(60);
/// New connections, one after the other, that did not live so long.
const AGAIN_MAX: u32 = 3;

/// What the engine needs to know about a channel.
pub struct StreamSettings {
    /// Identifies the account.
    pub account: String,
    /// What its manifest says.
    pub plan: Arc<StreamPlan>,
    /// Its settings, with defaults.
    pub settings: Value,
    /// Its secrets.
    pub secrets: BTreeMap<String, Vec<SecretString>>,
    /// Its tokens.
    pub wallet: Wallet,
    /// What calls out.
    pub http: HttpClient,
    /// By what its platform's answers say how long nothing more may be asked.
    pub quota: Arc<Quota>,
    /// Time of day, for limits that a platform tells as one.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub random: Arc<dyn Random>,
    /// The poll that fills what was missed, after every connect.
    pub gap: Option<Arc<dyn FeedSource>>,
}

impl StreamSettings {
    /// What an answer means. How long nothing is asked after it stands in `Retry-After`, or in the headers of the platform's limits.
    fn judge(&self, rules: &Rules, answer: &HttpAnswer) -> Judged {
        self.patient(rules.judge(answer, self.clock.now()))
    }

    fn patient(&self, mut judged: Judged) -> Judged {
        judged.after = judged.after.max(self.quota.learn(&judged, self.clock.now()));
        judged
    }
}

/// Makes sessions of one channel.
pub struct StreamSource(Arc<StreamSettings>);

impl StreamSource {
    /// A source of these settings.
    pub fn new(settings: StreamSettings) -> Self {
        Self(Arc::new(settings))
    }
}

impl FeedSource for StreamSource {
    fn account(&self) -> String {
        self.0.account.clone()
    }

    fn server(&self) -> String {
        connect::server(&self.0).unwrap_or_else(|| self.0.account.clone())
    }

    fn open(&self, cursors: Cursors) -> BoxFuture<'_, Result<Box<dyn Feed>, PullError>> {
        Box::pin(async move {
            if self.0.plan.kind == StreamKind::Matrix {
                return Ok(Box::new(matrix::open(self.0.clone(), &cursors).await?) as Box<dyn Feed>);
            }
            let mut feed = StreamFeed {
                settings: self.0.clone(),
                session: None,
                cursors,
                acks: Vec::new(),
                gap: None,
                pause: Duration::ZERO,
                opened_at: Instant::now(),
                agains: 0,
                fresh: true,
            };
            feed.reopen().await?;
            Ok(Box::new(feed) as Box<dyn Feed>)
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<Vec<String>, PullError>> {
        Box::pin(async move {
            if self.0.plan.kind == StreamKind::Matrix {
                drop(matrix::open(self.0.clone(), &Cursors::new()).await?);
            } else {
                connect::connect(&self.0, &Cursors::new()).await?.close().await;
            }
            Ok(vec![format!("connected to {}, the credentials are accepted", self.server())])
        })
    }
}

/// A connected channel, over as many connections as it takes.
struct StreamFeed {
    settings: Arc<StreamSettings>,
    session: Option<Session>,
    /// What the store holds once the last batch is durable.
    cursors: Cursors,
    /// Said once the last batch is durable.
    acks: Vec<Say>,
    gap: Option<Gap>,
    /// Before the next connection.
    pause: Duration,
    opened_at: Instant,
    agains: u32,
    /// It is open, and nobody has been told yet.
    fresh: bool,
}

impl StreamFeed {
    async fn reopen(&mut self) -> Result<(), PullError> {
        tokio::time::sleep(self.pause).await;
        self.session = Some(connect::connect(&self.settings, &self.cursors).await?);
        self.opened_at = Instant::now();
        // The stream is there first, so that nothing falls between the two.
        self.gap = self.settings.gap.clone().map(Gap::new);
        Ok(())
    }

    async fn advance(&mut self) -> Result<FeedNews, PullError> {
        let acks = std::mem::take(&mut self.acks);
        if let Some(session) = &mut self.session {
            session.settle(acks).await;
        }
        // A stream that is open works, however quiet it is: that is told at once.
        let fresh = std::mem::take(&mut self.fresh);
        if fresh && self.gap.is_some() {
            return Ok(FeedNews::Quiet(Duration::ZERO));
        }
        if let Some(gap) = &mut self.gap {
            if let Some(news) = gap.fill(&self.cursors).await {
                if let FeedNews::Batch(batch) = &news {
                    apply(&mut self.cursors, batch);
                }
                return Ok(news);
            }
            if gap.is_filled() {
                self.gap = None;
            }
        }
        let patience = if fresh { Duration::ZERO } else { QUIET_WITHIN };
        let patience = self.gap.as_ref().map_or(patience, |gap| gap.patience().min(patience));
        loop {
            let Some(session) = &mut self.session else {
                self.reopen().await?;
                // The gap first; it is asked for with the next question.
                return Ok(FeedNews::Quiet(Duration::ZERO));
            };
            match session.round(patience).await? {
                Round::Batch(batch, acks) => {
                    self.acks = acks;
                    apply(&mut self.cursors, &batch);
                    return Ok(FeedNews::Batch(batch));
                }
                Round::Quiet => return Ok(FeedNews::Quiet(Duration::ZERO)),
                Round::Note(code, detail) => return Ok(FeedNews::Note { code, detail }),
                Round::Again(pause) => {
                    if self.opened_at.elapsed() >= SETTLED_AFTER {
                        self.agains = 0;
                    }
                    self.agains += 1;
                    if self.agains > AGAIN_MAX {
                        let detail = format!("{} wants a new connection again and again", self.settings.account);
                        return Err(PullError::Lost { code: Code::ConnectionLost, detail, after: None });
                    }
                    self.pause = pause;
                    if let Some(session) = self.session.take() {
                        session.close().await;
                    }
                }
            }
        }
    }
}

impl Feed for StreamFeed {
    fn next(&mut self) -> BoxFuture<'_, Result<FeedNews, PullError>> {
        Box::pin(self.advance())
    }

    fn close(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let acks = std::mem::take(&mut self.acks);
            if let Some(mut session) = self.session.take() {
                // What cannot be said is said again by the platform.
                session.settle(acks).await;
                session.close().await;
            }
        })
    }
}
