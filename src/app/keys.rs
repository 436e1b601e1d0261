//! Published keys: fetches what the hooks' key rings ask for (key sets of Teams and Google, certificates of SNS), and visits the pages that
//! confirm a subscription. Verification itself never waits for the network: what is not here yet is answered 503.
//!
//! The addresses stand in connectors, or were judged before they came here (those of Amazon SNS): nothing of a request forms a host.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::connector::verify::KeyRing;
use crate::http::client::HttpClient;
use crate::pipeline::intake::{HookEntry, HookIntake};
use crate::ports::clock::Clock;
use crate::ports::http::{Egress, Http, HttpBody, HttpRequest};

/// Hooks by name.
type Hooks = HashMap<String, Arc<HookEntry>>;

/// Pause between two looks. A platform comes again after two seconds.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// One whole fetch: shorter than the pause of the ring, so that no address is asked twice at once.
const WITHIN: Duration = Duration::from_secs(5);
/// Largest key set: Google's and Microsoft's have some KiB.
const DOCUMENT_BYTES_MAX: usize = 256 * 1024;

/// How long new hooks wait for the keys of their platforms before they take requests.
const BEFORE_FIRST: Duration = Duration::from_secs(2);

/// Hands known keys on to the hooks that replace others, and fetches what is not known: the first request after a start or a reload should
/// not have to come again. A platform that does not answer delays nothing for long.
pub async fn prepare(before: &Hooks, hooks: &Hooks, clock: &Arc<dyn Clock>) {
    for (name, entry) in hooks {
        for (old, known) in before {
            if old == name { entry.hook.keys().succeed(known.hook.keys()) } else { entry.hook.keys().inherit(known.hook.keys()) }
        }
    }
    let mut fetching = JoinSet::new();
    let mut client = None;
    for entry in hooks.values().filter(|entry| entry.hook.keys().is_waiting()) {
        fill(entry.hook.keys(), clock, &mut client, &mut fetching);
    }
    let all = async { while fetching.join_next().await.is_some() {} };
    // What is still under way ends with the set; the watch asks again.
    let _ = tokio::time::timeout(BEFORE_FIRST, all).await;
}

/// Looks until the daemon stops.
pub async fn watch(intake: Arc<HookIntake>, clock: Arc<dyn Clock>, mut stop: watch::Receiver<bool>) {
    // Made when something is to be fetched: most gateways never need it.
    let (mut client, mut fetching) = (None, JoinSet::new());
    loop {
        for entry in intake.served().values() {
            fill(entry.hook.keys(), &clock, &mut client, &mut fetching);
        }
        while fetching.try_join_next().is_some() {}
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// Begins to fetch what one ring asks for: each address by itself, so that one that hangs delays no other (I8). A ring bounds how many there are.
fn fill(ring: &Arc<KeyRing>, clock: &Arc<dyn Clock>, client: &mut Option<HttpClient>, fetching: &mut JoinSet<()>) {
    let now = clock.now();
    let (wanted, visits) = (ring.wanted(now), ring.visits(now));
    if wanted.is_empty() && visits.is_empty() {
        return;
    }
    if client.is_none() {
        match HttpClient::new(false) {
            Ok(made) => *client = Some(made),
            Err(error) => tracing::error!(error = %error, "no http client for published keys"),
        }
    }
    let Some(client) = client else { return };
    for url in wanted {
        let (ring, clock, client) = (Arc::clone(ring), Arc::clone(clock), client.clone());
        fetching.spawn(async move { fetch(&ring, &url, clock.as_ref(), &client).await });
    }
    for url in visits {
        let (ring, client) = (Arc::clone(ring), client.clone());
        fetching.spawn(async move {
            let went = get(&client, &url).await;
            ring.visited(&url, went.is_ok());
            // The address holds a token: it is not written down.
            match went {
                Ok(_) => tracing::info!("subscription confirmed"),
                Err(error) => tracing::warn!(error = %error, "subscription not confirmed"),
            }
        });
    }
}

async fn fetch(ring: &KeyRing, url: &str, clock: &dyn Clock, client: &HttpClient) {
    let kept = match get(client, url).await {
        Ok(document) => ring.put(url, &document, clock.now()),
        Err(error) => {
            ring.failed(url);
            Err(error)
        }
    };
    match kept {
        Ok(()) => tracing::info!(url.full = %url, "published keys fetched"),
        Err(error) => tracing::warn!(url.full = %url, error = %error, "published keys not fetched"),
    }
}

async fn get(client: &HttpClient, url: &str) -> Result<Bytes, String> {
    let request = HttpRequest {
        method: "GET",
        url: url.parse().map_err(|_| "not a URL".to_owned())?,
        headers: Vec::new(),
        body: HttpBody::None,
        within: WITHIN,
        answer_bytes_max: DOCUMENT_BYTES_MAX,
        egress: Egress::Written,
    };
    let answer = client.send(request).await.map_err(|error| error.to_string())?;
    if (200..300).contains(&answer.status) { Ok(answer.body) } else { Err(format!("answered {}", answer.status)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::app::system::SystemClock;

    #[tokio::test]
    async fn what_a_ring_asks_for_is_fetched_once_and_a_broken_answer_changes_nothing() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let answers = ["{}", r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"k","x":"AAAA","y":"AAAA"}]}"#];
        let server = tokio::spawn(async move {
            for answer in answers {
                let (mut peer, _) = listener.accept().await.unwrap();
                let mut head = [0; 2048];
                let _ = peer.read(&mut head).await.unwrap();
                let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}", answer.len());
                peer.write_all(text.as_bytes()).await.unwrap();
            }
        });
        let (ring, clock, client) = (KeyRing::default(), SystemClock::default(), HttpClient::new(false).unwrap());
        ring.expect(&url);
        let now = clock.now();
        assert_eq!(ring.wanted(now), std::slice::from_ref(&url));
        fetch(&ring, &url, &clock, &client).await;
        assert!(ring.wanted(now).is_empty(), "a failure is tried again after a while only");
        let later = now.plus_ms(10_000);
        assert_eq!(ring.wanted(later), std::slice::from_ref(&url), "and then it is");
        fetch(&ring, &url, &clock, &client).await;
        assert!(ring.wanted(later).is_empty() && !ring.is_waiting());
        server.await.unwrap();
    }
}
