//! Consents: when a person must log in again is counted down, in a metric and with a warning before it is too late.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;

use crate::app::gateway::Gateway;
use crate::app::wire;
use crate::config::oauth::OAuthGrant;
use crate::config::settings::ChannelFile;
use crate::model::codes::Code;
use crate::model::event::{Body, ChannelState};
use crate::model::time::Time;
use crate::ports::store::Write;
use crate::ports::token::TokenSource;

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// The first look: sessions have been opened by then, and consents read.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// Days before the end at which operators hear of it.
const STEPS_DAYS: [i64; 4] = [7, 3, 1, 0];
const DAY_MS: i64 = 86_400_000;

/// Looks until the daemon stops.
pub async fn watch(gateway: Weak<Gateway>, mut stop: watch::Receiver<bool>) {
    let mut warned = HashMap::new();
    let mut pause = FIRST_LOOK;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let Some(gateway) = gateway.upgrade() else { return };
        look(&gateway, &mut warned).await;
        pause = LOOK_EVERY;
    }
}

async fn look(gateway: &Gateway, warned: &mut HashMap<String, i64>) {
    let Some(loaded) = gateway.running.lock().await.loaded.clone() else { return };
    let files: Vec<Arc<ChannelFile>> = loaded.channels.values().filter_map(|channel| channel.as_ref().ok()).cloned().collect();
    for file in files.iter().filter(|file| file.enabled) {
        let Some(oauth) = file.oauth.as_ref().filter(|oauth| oauth.grant == OAuthGrant::RefreshToken) else { continue };
        let Ok(source) = gateway.parts.tokens.source(file, oauth) else { continue };
        let ends = source.consent_ends().await;
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
}

/// The step of the countdown that has been reached.
fn step(ends: Time, now: Time) -> Option<i64> {
    let left = ends.0.saturating_sub(now.0);
    STEPS_DAYS.into_iter().filter(|days| left <= days * DAY_MS).min()
}

async fn warn(gateway: &Gateway, file: &ChannelFile, now: Time, days: i64) {
    let code = Code::ConsentExpiring;
    tracing::warn!(messaging.destination.name = %file.id, error.type = %code, omnigate.days_left = days, "consent ends soon");
    let state = ChannelState {
        channel: wire::facts(file).public,
        code: code.as_str().to_owned(),
        since: now,
        counts: [("days_left".to_owned(), days.unsigned_abs())].into(),
    };
    if let Err(error) = gateway.parts.writer.write(Write::Operator(Box::new(Body::ChannelDegraded(Box::new(state))))).await {
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
