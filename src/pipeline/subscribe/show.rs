//! What is seen of a subscription: the board, operator events, metrics, the view of the admin API.

use super::Keeper;
use crate::logic::subscription::{Phase, Subscription};
use crate::model::codes::Code;
use crate::model::event::{Body, ChannelState};
use crate::model::raw::Via;
use crate::model::time::Time;
use crate::pipeline::board::{ChannelMode, Turned};
use crate::ports::control::SubscriptionView;
use crate::ports::store::Write;

impl Keeper {
    pub(super) async fn show(&self, state: &Subscription) {
        self.metrics.subscription_ends(&self.kit.channel, state.ends);
        let now = self.clock.now();
        let bad = match state.phase {
            Phase::Held if state.is_over(now) => {
                Some((Code::SubscriptionLost, state.detail.clone().unwrap_or_else(|| "its lease ran out".to_owned())))
            }
            Phase::Held if state.is_off() => Some((Code::SubscriptionLost, state.detail.clone().unwrap_or_default())),
            Phase::Taken => Some((Code::SubscriptionTaken, state.detail.clone().unwrap_or_default())),
            // A first attempt that has to be repeated is no loss yet, one that keeps failing is.
            Phase::Asking if state.failures > 1 || state.code.as_deref() == Some(Code::SubscriptionLost.as_str()) => {
                Some((Code::SubscriptionLost, state.detail.clone().unwrap_or_default()))
            }
            _ => None,
        };
        let turned = match bad {
            Some((code, detail)) => {
                let turned = self.board.turn(&self.kit.channel, Via::Webhook, ChannelMode::Degraded, Some(code), Some(detail), now);
                (turned, code)
            }
            None => {
                let told = self.board.read().get(&self.kit.channel).and_then(|status| status.code.clone());
                let ours =
                    [Code::SubscriptionLost, Code::SubscriptionTaken].into_iter().find(|code| told.as_deref() == Some(code.as_str()));
                let Some(code) = ours else { return };
                (self.board.turn(&self.kit.channel, Via::Webhook, ChannelMode::Running, None, None, now), code)
            }
        };
        let told = |since, code: Code| ChannelState {
            channel: self.public.clone(),
            code: code.as_str().to_owned(),
            since,
            counts: [("failures".to_owned(), u64::from(state.failures))].into(),
        };
        let body = match turned {
            (Turned::Same, _) => return,
            (Turned::Degraded, code) => Body::ChannelDegraded(Box::new(told(now, code))),
            (Turned::Recovered { since }, code) => Body::ChannelRecovered(Box::new(told(since, code))),
        };
        if let Err(error) = self.writer.write(Write::Operator(Box::new(body))).await {
            tracing::error!(messaging.destination.name = %self.kit.channel, error = %error, "operator event not written");
        }
    }

    pub(super) fn view(&self, state: &Subscription) -> SubscriptionView {
        view(&self.kit.channel, state, self.hook.as_deref(), self.clock.now())
    }
}

/// How a subscription is shown.
pub fn view(channel: &str, state: &Subscription, hook: Option<&str>, now: Time) -> SubscriptionView {
    let word = if state.is_over(now) { "ended" } else { state.phase.word() };
    SubscriptionView {
        channel: channel.to_owned(),
        state: word.to_owned(),
        since: (state.since != Time::default()).then_some(state.since),
        hook: Some(state.hook.clone()).filter(|hook| !hook.is_empty()).or_else(|| hook.map(str::to_owned)),
        ends: state.ends,
        renews: state.renew_at,
        next: state.next(now).map(|(due, _)| due),
        code: state.code.clone(),
        detail: state.detail.clone(),
    }
}
