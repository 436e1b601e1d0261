//! Whoami: asks platforms who we are there, keeps it in the store, and asks again every day.
//!
//! What was known before is used at once, so that a start needs no platform that answers. Until it is first known the channel's hook answers
//! 503 and its polls wait: what our own bot said must not come back as a customer's message.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::connector::ask::{Asker, Unasked};
use crate::connector::call::answer::Meaning;
use crate::connector::kit::ChannelKit;
use crate::connector::own::{Own, Whoami};
use crate::model::codes::Code;
use crate::model::raw::Via;
use crate::pipeline::board::{Board, ChannelMode};
use crate::pipeline::writer::WriterHandle;
use crate::ports::clock::Clock;
use crate::ports::http::Http;
use crate::ports::store::{Store, Write};
use crate::ports::token::TokenError;

/// Asked again after this long.
const FRESH: Duration = Duration::from_secs(24 * 3600);
/// Pauses after failures.
const PAUSES_S: [u64; 6] = [1, 2, 5, 15, 30, 60];

/// Asks for one channel.
pub struct Asking {
    /// Keeps the answer.
    pub store: Arc<dyn Store>,
    /// Writes it.
    pub writer: WriterHandle,
    /// Calls the platform.
    pub http: Arc<dyn Http>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Tells the surfaces.
    pub board: Arc<Board>,
    /// How the platform is called.
    pub kit: Arc<ChannelKit>,
    /// Who waits for the answer.
    pub owns: Vec<Arc<Own>>,
}

impl Asking {
    /// Runs until told to stop.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let Some(whoami) = &self.kit.connector.whoami else { return };
        if let Ok(Some(kept)) = self.store.memo(&self.key()).await
            && let Ok(Value::Object(ids)) = serde_json::from_str(&kept)
        {
            self.tell(&ids);
        }
        let mut failures = 0_usize;
        loop {
            let pause = match self.ask(whoami).await {
                Ok(ids) => {
                    failures = 0;
                    self.keep(ids).await;
                    FRESH
                }
                Err((code, detail, after)) => {
                    let step = PAUSES_S.get(failures.min(PAUSES_S.len() - 1)).copied().unwrap_or(60);
                    failures += 1;
                    self.complain(code, detail);
                    Duration::from_secs(step).max(after.unwrap_or_default())
                }
            };
            tokio::select! {
                () = self.clock.sleep(pause) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    fn key(&self) -> String {
        format!("{}/whoami", self.kit.channel)
    }

    fn tell(&self, ids: &Map<String, Value>) {
        self.owns.iter().for_each(|own| own.learn(&self.kit.channel, ids.clone()));
    }

    async fn ask(&self, whoami: &Whoami) -> Result<Map<String, Value>, (Code, String, Option<Duration>)> {
        let context = json!({"settings": self.kit.settings, "account": self.kit.account});
        let asker = Asker { http: &*self.http, wallet: &self.kit.wallet, clock: &*self.clock };
        let asked = asker.ask(&whoami.call, &whoami.rules, |token| self.kit.render(&whoami.call, &context, token));
        let judged = match asked.await {
            Ok(asked) => asked.judged,
            Err(Unasked::Call(error)) => return Err((Code::ChannelConfig, error.to_string(), None)),
            Err(Unasked::Token(TokenError::Later { code, detail, after })) => return Err((code, detail, after)),
            Err(Unasked::Token(TokenError::Person { code, detail })) => return Err((code, detail, None)),
            Err(Unasked::Http(error)) => return Err((error.code, error.detail, None)),
        };
        let said = || judged.words().unwrap_or_else(|| format!("answered {}", judged.status));
        match judged.meaning {
            Meaning::Ok => whoami.ids(&judged).ok_or_else(|| (Code::Protocol, "the answer tells no id".to_owned(), None)),
            Meaning::Denied | Meaning::Refresh => Err((Code::AuthFailed, said(), judged.after)),
            Meaning::Throttled => Err((Code::Throttled, said(), judged.after)),
            _ => Err((Code::Protocol, said(), judged.after)),
        }
    }

    async fn keep(&self, ids: Map<String, Value>) {
        self.tell(&ids);
        let value = Some(Value::Object(ids).to_string());
        if let Err(error) = self.writer.write(Write::Memo { key: self.key(), value }).await {
            tracing::warn!(error = %error, "own ids not kept");
        }
        let told = self.board.read().get(&self.kit.channel).and_then(|status| status.code.clone());
        if told.as_deref() == Some(Code::OwnUnknown.as_str()) {
            self.board.turn(&self.kit.channel, Via::Webhook, ChannelMode::Running, None, None, self.clock.now());
        }
    }

    /// Whoever waits for it cannot take messages: that is shown. Who knows it from before goes on.
    fn complain(&self, code: Code, detail: String) {
        tracing::warn!(messaging.destination.name = %self.kit.channel, error.type = %code, detail = %detail, "own ids not told");
        if self.owns.iter().any(|own| !own.is_known()) {
            let detail = format!("{code}: {detail}");
            self.board.turn(&self.kit.channel, Via::Webhook, ChannelMode::Degraded, Some(Code::OwnUnknown), Some(detail), self.clock.now());
        }
    }
}
