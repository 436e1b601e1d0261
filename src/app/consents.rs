//! Consents: when a person must log in again is counted down, in a metric and with a warning before it is too late; and what of a channel's
//! tokens needs a person is shown, also where no session would fail of it: files and names are fetched beside a hook.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::app::gateway::Gateway;
use crate::app::wire;
use crate::config::settings::ChannelFile;
use crate::model::codes::Code;
use crate::model::event::{Body, ChannelState};
use crate::model::raw::Via;
use crate::model::time::Time;
use crate::pipeline::board::{ChannelMode, Turned};
use crate::ports::store::Write;
use crate::ports::token::{TokenError, Wallet};

/// Pause between two countdowns.
const COUNT_EVERY: Duration = Duration::from_secs(3600);
/// Pause between two looks, and before the first: sessions have been opened by then, and consents read.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Channels whose tokens are renewed at once.
const TENDED_AT_ONCE: usize = 8;
/// Days before the end at which operators hear of it.
const STEPS_DAYS: [i64; 4] = [7, 3, 1, 0];
const DAY_MS: i64 = 86_400_000;

/// Looks until the daemon stops.
pub async fn watch(gateway: Weak<Gateway>, mut stop: watch::Receiver<bool>) {
    let (mut warned, mut troubled) = (HashMap::new(), HashSet::new());
    let mut counted: Option<Duration> = None;
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let Some(gateway) = gateway.upgrade() else { return };
        let channels = channels(&gateway).await;
        mend(&gateway, &channels, &mut troubled).await;
        let now = gateway.parts.clock.monotonic();
        if counted.is_none_or(|at| now >= at + COUNT_EVERY) {
            counted = Some(now);
            tend(&channels).await;
            for (file, wallet) in &channels {
                count(&gateway, file, wallet, &mut warned).await;
            }
        }
    }
}

type Channels = Vec<(Arc<ChannelFile>, Wallet)>;

/// The channels that have tokens.
async fn channels(gateway: &Gateway) -> Channels {
    let running = gateway.running.lock().await;
    let Some(loaded) = &running.loaded else { return Vec::new() };
    let of = |(id, wallet): (&String, &Wallet)| Some((loaded.channels.get(id)?.as_ref().ok()?.clone(), wallet.clone()));
    running.wallets.iter().filter_map(of).collect()
}

/// Renews what would end if nobody asked for it for long.
async fn tend(channels: &Channels) {
    let mut tending = JoinSet::new();
    for (_, wallet) in channels {
        for (_, source) in wallet.sources() {
            let source = source.clone();
            tending.spawn(async move { source.tend().await });
            if tending.len() >= TENDED_AT_ONCE {
                tending.join_next().await;
            }
        }
    }
    while tending.join_next().await.is_some() {}
}

/// Shows what needs a person, where a hook would go on as if nothing were wrong; sessions tell of it themselves.
async fn mend(gateway: &Gateway, channels: &Channels, troubled: &mut HashSet<String>) {
    let hooked: BTreeMap<String, bool> = gateway.parts.board.read().into_iter().map(|(id, status)| (id, status.hook.is_some())).collect();
    for (file, wallet) in channels.iter().filter(|(file, _)| hooked.get(&file.id) == Some(&true)) {
        let trouble = wallet.sources().find_map(|(_, source)| source.trouble());
        let now = gateway.parts.clock.now();
        let (turned, code) = match trouble {
            Some(TokenError::Person { code, detail }) if troubled.insert(file.id.clone()) => {
                tracing::warn!(messaging.destination.name = %file.id, error.type = %code, detail = %detail, "channel gets no token");
                (gateway.parts.board.turn(&file.id, Via::Webhook, ChannelMode::Degraded, Some(code), Some(detail), now), code)
            }
            None if troubled.remove(&file.id) => {
                (gateway.parts.board.turn(&file.id, Via::Webhook, ChannelMode::Running, None, None, now), Code::AuthFailed)
            }
            _ => continue,
        };
        let state =
            |since| ChannelState { channel: wire::facts(file).public, code: code.as_str().to_owned(), since, counts: BTreeMap::new() };
        match turned {
            Turned::Same => {}
            Turned::Degraded => tell(gateway, file, Body::ChannelDegraded(Box::new(state(now)))).await,
            Turned::Recovered { since } => tell(gateway, file, Body::ChannelRecovered(Box::new(state(since)))).await,
        }
    }
    troubled.retain(|id| channels.iter().any(|(file, _)| file.id == *id));
}

/// Counts the consents of a channel down.
async fn count(gateway: &Gateway, file: &ChannelFile, wallet: &Wallet, warned: &mut HashMap<String, i64>) {
    let mut ends: Option<Time> = None;
    for (_, source) in wallet.sources() {
        ends = ends.into_iter().chain(source.consent_ends().await).min();
    }
    gateway.parts.metrics.consent_ends(&file.id, ends);
    let now = gateway.parts.clock.now();
    match ends.and_then(|ends| step(ends, now)) {
        // A new consent begins a new countdown.
        None => drop(warned.remove(&file.id)),
        Some(days) if warned.get(&file.id).is_none_or(|last| days < *last) => {
            warned.insert(file.id.clone(), days);
            warn(gateway, file, now, days).await;
        }
        Some(_) => {}
    }
}

/// The step of the countdown that has been reached.
fn step(ends: Time, now: Time) -> Option<i64> {
    let left = ends.0.saturating_sub(now.0);
    STEPS_DAYS.into_iter().filter(|days| left <= days * DAY_MS).min()
}

async fn warn(gateway: &Gateway, file: &ChannelFile, now: Time, days: i64) {
    let code = Code::ConsentExpiring;
    tracing::warn!(messaging.destination.name = %file.id, error.type = %code, omnigate.days_left = days, "consent ends soon");
    gateway.parts.board.note(&file.id, code, format!("a person must log in again within {days} days"));
    let state = ChannelState {
        channel: wire::facts(file).public,
        code: code.as_str().to_owned(),
        since: now,
        counts: [("days_left".to_owned(), days.unsigned_abs())].into(),
    };
    tell(gateway, file, Body::ChannelDegraded(Box::new(state))).await;
}

async fn tell(gateway: &Gateway, file: &ChannelFile, body: Body) {
    if let Err(error) = gateway.parts.writer.write(Write::Operator(Box::new(body))).await {
        tracing::error!(messaging.destination.name = %file.id, error = %error, "operator event not written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_countdown_has_four_steps() {
        let reached = |days: f64| step(Time((days * DAY_MS as f64) as i64), Time(0));
        assert_eq!([8.0, 7.0, 5.0, 2.9, 0.5, 0.0, -3.0].map(reached), [None, Some(7), Some(7), Some(3), Some(1), Some(0), Some(0)]);
    }
}
