//! Session: a wire and a talk, driven together. Frames are gathered into batches, so that one commit covers many; what is to be
//! acknowledged is said when the batch is durable, and not before (I2).

use std::time::Duration;

use tokio::time::Instant;

use crate::engines::stream::talk::{Deeds, Say, Talk};
use crate::engines::stream::wire::{News, Wire};
use crate::model::codes::Code;
use crate::ports::feed::FeedBatch;
use crate::ports::pull::PullError;

/// Cursors without payloads are committed this often: a busy stream of which little is for us would cost a commit a frame.
const REMEMBER_EVERY: Duration = Duration::from_secs(5);
/// The goodbye takes no longer.
const GOODBYE_WITHIN: Duration = Duration::from_secs(2);

/// A connected session.
pub struct Session {
    wire: Wire,
    talk: Box<dyn Talk>,
    out: Deeds,
    gather: Duration,
    place: String,
    /// What ended it, told after what came before.
    ended: Option<PullError>,
}

/// How a round ended.
#[derive(Debug)]
pub enum Round {
    /// Something to commit, and what is said afterwards.
    Batch(FeedBatch, Vec<Say>),
    /// Nothing within the time.
    Quiet,
    /// Something for a person.
    Note(Code, String),
    /// A new connection is wanted after a pause; everything that came is committed.
    Again(Duration),
}

impl Session {
    /// Begins the talk.
    ///
    /// # Errors
    /// The talk's own.
    pub fn begin(wire: Wire, mut talk: Box<dyn Talk>, gather: Duration, place: String) -> Result<Self, PullError> {
        let mut out = Deeds::default();
        talk.begin(Instant::now(), &mut out)?;
        Ok(Self { wire, talk, out, gather, place, ended: None })
    }

    /// Goes on until the talk is ready. What comes meanwhile is kept for the first round; where that is a batch already, it is not waited for
    /// any longer.
    ///
    /// # Errors
    /// The talk's own; or it is not ready in time.
    pub async fn ready(&mut self, within: Duration) -> Result<(), PullError> {
        let until = Instant::now() + within;
        while !self.talk.is_ready() && self.out.again.is_none() && !self.out.is_full() {
            if Instant::now() >= until {
                let detail = format!("{} was not ready in {} s", self.place, within.as_secs());
                return Err(PullError::Lost { code: Code::Protocol, detail, after: None });
            }
            self.step(until).await?;
        }
        self.flush().await
    }

    /// Says what the last batch's durability allows. A connection that does not take it is told as lost by the next round, unless
    /// it has said itself why it ends: what is not acknowledged comes again.
    pub async fn settle(&mut self, acks: Vec<Say>) {
        for ack in acks {
            if let Err(error) = self.say(ack).await {
                if self.out.again.is_none() {
                    self.ended.get_or_insert(error);
                }
                return;
            }
        }
    }

    /// Gathers until there is a batch, or `at_most` is over.
    ///
    /// # Errors
    /// What ended the session; what came before has been answered in earlier rounds.
    pub async fn round(&mut self, at_most: Duration) -> Result<Round, PullError> {
        let until = Instant::now() + at_most;
        loop {
            if let Some((code, detail)) = self.out.take_note() {
                return Ok(Round::Note(code, detail));
            }
            let now = Instant::now();
            let due = self.out.due(self.gather, REMEMBER_EVERY);
            let leaving = self.ended.is_some() || self.out.again.is_some();
            if !self.out.is_empty() && (leaving || self.out.is_full() || due.is_some_and(|due| now >= due)) {
                let (batch, acks) = self.out.take();
                return Ok(Round::Batch(batch, acks));
            }
            if let Some(error) = self.ended.take() {
                return Err(error);
            }
            // What asks for an answer and holds nothing to keep is answered at once.
            if self.out.is_empty() && !self.out.acks.is_empty() {
                let acks = std::mem::take(&mut self.out.acks);
                self.out.say.extend(acks);
            }
            if let Some(pause) = self.out.again {
                // Whether the old connection still takes it makes no difference.
                let _ = self.flush().await;
                return Ok(Round::Again(pause));
            }
            if now >= until && self.out.is_empty() {
                return Ok(Round::Quiet);
            }
            let wake = if self.out.is_empty() { until } else { due.unwrap_or(until) };
            if let Err(error) = self.step(wake).await {
                self.ended = Some(error);
            }
        }
    }

    /// Says what is to be said, then waits for one thing, at most until `until`.
    async fn step(&mut self, until: Instant) -> Result<(), PullError> {
        self.flush().await?;
        let wake = self.talk.wake().map_or(until, |wake| wake.min(until));
        let news = tokio::select! {
            biased;
            news = self.wire.next() => Some(news),
            () = tokio::time::sleep_until(wake) => None,
        };
        let now = Instant::now();
        match news {
            Some(Ok(News::Frame(frame))) => self.talk.heard(frame, now, &mut self.out)?,
            Some(Ok(News::Alive)) => self.talk.alive(now),
            Some(Ok(News::Closed { code, reason })) => {
                self.talk.closed(code, &reason, &mut self.out).map_err(|error| patient(error, self.wire.pause()))?;
                // Nothing can be said any more.
                self.out.say.clear();
                self.out.acks.clear();
            }
            Some(Err(detail)) => return Err(self.lost(&detail)),
            None => {}
        }
        // A talk's own time comes even if the peer never stops talking.
        if self.talk.wake().is_some_and(|wake| now >= wake) {
            self.talk.tick(now, &mut self.out)?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), PullError> {
        for say in std::mem::take(&mut self.out.say) {
            self.say(say).await?;
        }
        Ok(())
    }

    async fn say(&mut self, say: Say) -> Result<(), PullError> {
        self.wire.say(say).await.map_err(|detail| self.lost(&detail))
    }

    fn lost(&self, detail: &str) -> PullError {
        PullError::Lost { code: Code::ConnectionLost, detail: format!("{}: {detail}", self.place), after: self.wire.pause() }
    }

    /// Says goodbye.
    pub async fn close(mut self) {
        let goodbye = self.talk.goodbye();
        let saying = async {
            for say in goodbye {
                if self.wire.say(say).await.is_err() {
                    return;
                }
            }
        };
        // Whether it was heard makes no difference.
        let _ = tokio::time::timeout(GOODBYE_WITHIN, saying).await;
    }
}

/// A loss after which nobody comes back before the time that was told.
fn patient(error: PullError, pause: Option<Duration>) -> PullError {
    match error {
        PullError::Lost { code, detail, after } => PullError::Lost { code, detail, after: after.max(pause) },
        other => other,
    }
}
