//! Gap: what was written while nobody listened is asked for, after every connect, by the polls of the same connector.
//!
//! What must stay true: the stream waits for it a moment, so that old comes before new, and no longer: acknowledgements and signs of life
//! have their deadlines; a poll that fails does not end a stream that works, it is told and tried again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::codes::Code;
use crate::ports::BoxFuture;
use crate::ports::feed::{Cursors, Feed, FeedNews, FeedSource};
use crate::ports::pull::PullError;

/// So long the stream waits for what is older.
const FIRST_WITHIN: Duration = Duration::from_secs(10);
/// Afterwards both are listened to in turn.
const SLICE: Duration = Duration::from_millis(50);
/// Pause after a failure; it doubles.
const FAILED_FIRST: Duration = Duration::from_secs(30);
/// And grows no further than this.
const FAILED_MAX: Duration = Duration::from_secs(900);

type Asked = (Option<Box<dyn Feed>>, Result<FeedNews, PullError>);

/// A gap that is being filled.
pub struct Gap {
    source: Arc<dyn FeedSource>,
    feed: Option<Box<dyn Feed>>,
    /// A question under way; it is never given up half asked.
    asked: Option<BoxFuture<'static, Asked>>,
    /// Nothing is asked before.
    not_before: Instant,
    first_until: Instant,
    failures: u32,
    /// It was told that it fails.
    told: bool,
    filled: bool,
}

impl Gap {
    /// A gap that `source` fills.
    pub fn new(source: Arc<dyn FeedSource>) -> Self {
        let now = Instant::now();
        Self { source, feed: None, asked: None, not_before: now, first_until: now + FIRST_WITHIN, failures: 0, told: false, filled: false }
    }

    /// Whether everything was asked for.
    pub fn is_filled(&self) -> bool {
        self.filled
    }

    /// How long the stream may be listened to before this wants to go on.
    pub fn patience(&self) -> Duration {
        if self.asked.is_some() { SLICE } else { self.not_before.saturating_duration_since(Instant::now()).max(SLICE) }
    }

    /// Goes on asking, from `cursors` where it begins anew. `None`: nothing of it now.
    pub async fn fill(&mut self, cursors: &Cursors) -> Option<FeedNews> {
        while !self.filled {
            let until = self.first_until.max(Instant::now() + SLICE);
            if self.asked.is_none() {
                if self.not_before > until {
                    return None;
                }
                tokio::time::sleep_until(self.not_before).await;
                self.asked = Some(ask(self.source.clone(), self.feed.take(), cursors.clone()));
            }
            let asked = self.asked.as_mut()?;
            let Ok((feed, news)) = tokio::time::timeout_at(until, asked).await else { return None };
            self.asked = None;
            match news {
                Ok(FeedNews::Quiet(span)) => {
                    self.filled = feed.as_ref().is_some_and(|feed| feed.is_through());
                    self.not_before = Instant::now() + span;
                    self.feed = feed;
                    if self.filled && std::mem::take(&mut self.told) {
                        return Some(FeedNews::Mended);
                    }
                }
                Ok(news) => {
                    (self.feed, self.failures) = (feed, 0);
                    return Some(news);
                }
                Err(error) => return self.failed(&error),
            }
        }
        None
    }

    /// It begins anew after a while; that it fails is told once.
    fn failed(&mut self, error: &PullError) -> Option<FeedNews> {
        let after = match error {
            PullError::Lost { after, .. } => after.unwrap_or_default(),
            PullError::Person { .. } => FAILED_MAX,
        };
        let pause = FAILED_FIRST.saturating_mul(1 << self.failures.min(5)).min(FAILED_MAX).max(after);
        let now = Instant::now();
        (self.not_before, self.first_until) = (now + pause, now);
        self.failures += 1;
        let code: Code = error.code();
        (!std::mem::replace(&mut self.told, true))
            .then(|| FeedNews::Note { code, detail: format!("what was missed is not asked for: {error}") })
    }
}

fn ask(source: Arc<dyn FeedSource>, feed: Option<Box<dyn Feed>>, cursors: Cursors) -> BoxFuture<'static, Asked> {
    Box::pin(async move {
        let mut feed = match feed {
            Some(feed) => feed,
            None => match source.open(cursors).await {
                Ok(feed) => feed,
                Err(error) => return (None, Err(error)),
            },
        };
        let news = feed.next().await;
        (Some(feed), news)
    })
}
