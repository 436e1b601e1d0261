//! The log-in of a person, once: on another device (RFC 8628), or in a browser on this machine (RFC 8252, with PKCE). What comes out is a
//! refresh token.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use crate::connector::token::spec::ClientAuth;
use crate::model::codes::Code;
use crate::ports::clock::{Clock, Random};
use crate::ports::token::TokenError;
use crate::tokens::endpoint::{Client, Endpoint, Granted, Number, Refused, place};
use crate::tokens::explain;

/// A person gets this long, whatever the provider says.
const PERSON_WITHIN: Duration = Duration::from_secs(15 * 60);
/// Pause between two questions where the provider names none (RFC 8628 §3.2), and what `slow_down` adds (§3.5).
const INTERVAL: Duration = Duration::from_secs(5);
/// Largest request head of a browser, and its time.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// Where a log-in in the browser begins and ends.
#[derive(Debug, Clone)]
pub struct Browser {
    /// The page that asks for the consent.
    pub authorize_url: Url,
    /// Who should log in, as a hint.
    pub user: Option<String>,
    /// The port that the browser comes back to; 0: a free one.
    pub port: u16,
}

/// What the person is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Open this address anywhere, and enter the code.
    EnterCode {
        /// The address.
        url: String,
        /// The code.
        code: String,
    },
    /// Open this address in a browser on this machine.
    Open {
        /// The address.
        url: String,
    },
}

/// A consent that was just given.
#[derive(Debug)]
pub struct Given {
    /// The refresh token.
    pub refresh_token: SecretString,
    /// How long it is good for, if the provider says so.
    pub ends_in: Option<Duration>,
}

impl Given {
    fn of(granted: Granted) -> Result<Self, TokenError> {
        let ends_in = granted.refresh_token_expires_in.as_ref().and_then(Number::seconds);
        let missing =
            || person("the identity provider gave no refresh token: ask for it with the scope `offline_access`, or its like".to_owned());
        Ok(Self { refresh_token: granted.refresh_token.ok_or_else(missing)?, ends_in })
    }
}

fn person(detail: String) -> TokenError {
    TokenError::Person { code: Code::AuthFailed, detail }
}

fn too_late() -> TokenError {
    person("nobody logged in within the time".to_owned())
}

#[derive(Deserialize)]
struct Device {
    device_code: SecretString,
    user_code: String,
    #[serde(alias = "verification_url")]
    verification_uri: String,
    #[serde(default)]
    expires_in: Option<Number>,
    #[serde(default)]
    interval: Option<Number>,
}

/// The device flow: the person enters a code on another device.
///
/// # Errors
/// [`TokenError`].
pub async fn on_device(
    endpoint: &Endpoint,
    client: &Client,
    device_url: &Url,
    clock: &dyn Clock,
    tell: &mut (dyn FnMut(Task) + Send),
) -> Result<Given, TokenError> {
    let said = |refused| explain(refused, &client.token_url, false);
    // RFC 8628 §3.1: the client is named, its secret not asked for.
    let public = Client { secret: None, auth: ClientAuth::Body, ..client.clone() };
    let answer = endpoint.post(&public, device_url, &[("scope", &client.scope)]).await.map_err(said)?;
    let device: Device = serde_json::from_slice(&answer).map_err(|_| person(format!("{}: offers no log-in by code", place(device_url))))?;
    tell(Task::EnterCode { url: device.verification_uri, code: device.user_code });
    let mut interval = device.interval.as_ref().and_then(Number::seconds).unwrap_or(INTERVAL);
    let life = device.expires_in.as_ref().and_then(Number::seconds).unwrap_or(PERSON_WITHIN).min(PERSON_WITHIN);
    let until = clock.monotonic() + life;
    let form = [("grant_type", "urn:ietf:params:oauth:grant-type:device_code"), ("device_code", device.device_code.expose_secret())];
    loop {
        clock.sleep(interval).await;
        if clock.monotonic() >= until {
            return Err(too_late());
        }
        match endpoint.ask(client, &form).await {
            Ok(granted) => return Given::of(granted),
            Err(Refused::Said { word, .. }) if word == "authorization_pending" => {}
            Err(Refused::Said { word, .. }) if word == "slow_down" => interval += INTERVAL,
            Err(Refused::Said { word, .. }) if word == "expired_token" => return Err(too_late()),
            Err(Refused::Said { word, .. }) if word == "access_denied" => return Err(person("the log-in was denied".to_owned())),
            // The person may still be reading: a connection that failed is tried again (RFC 8628 §3.5).
            Err(Refused::Failed { error: TokenError::Later { .. }, .. }) => interval = (interval * 2).min(Duration::from_secs(60)),
            Err(other) => return Err(said(other)),
        }
    }
}

/// The browser flow: the person logs in with a browser on this machine, which brings the code to a port of the loopback.
///
/// # Errors
/// [`TokenError`].
pub async fn in_browser(
    endpoint: &Endpoint,
    client: &Client,
    browser: &Browser,
    random: &dyn Random,
    tell: &mut (dyn FnMut(Task) + Send),
) -> Result<Given, TokenError> {
    let port = browser.port;
    let listener =
        TcpListener::bind(("127.0.0.1", port)).await.map_err(|error| person(format!("listening on 127.0.0.1:{port}: {error}")))?;
    let port = listener.local_addr().map_err(|error| person(error.to_string()))?.port();
    let redirect = format!("http://127.0.0.1:{port}/");
    let (state, verifier) = (nonce(random), nonce(random));
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier));
    let mut url = browser.authorize_url.clone();
    url.query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", &client.id)
        .append_pair("redirect_uri", &redirect)
        .append_pair("scope", &client.scope)
        .append_pair("state", &state)
        .append_pair("code_challenge", &challenge)
        .append_pair("code_challenge_method", "S256");
    if let Some(user) = &browser.user {
        url.query_pairs_mut().append_pair("login_hint", user);
    }
    tell(Task::Open { url: url.to_string() });
    let code = tokio::time::timeout(PERSON_WITHIN, come_back(&listener, &state)).await.map_err(|_| too_late())??;
    let form =
        [("grant_type", "authorization_code"), ("code", code.expose_secret()), ("redirect_uri", &redirect), ("code_verifier", &verifier)];
    let granted = endpoint.ask(client, &form).await.map_err(|refused| explain(refused, &client.token_url, false))?;
    Given::of(granted)
}

/// 32 random bytes as 43 URL-safe characters: what RFC 7636 §4.1 recommends for a verifier.
fn nonce(random: &dyn Random) -> String {
    let mut bytes = [0u8; 32];
    random.fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Waits until the browser comes back with the code. Whoever else knocks is sent away.
async fn come_back(listener: &TcpListener, state: &str) -> Result<SecretString, TokenError> {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { continue };
        let head = tokio::time::timeout(HEAD_WITHIN, head(&mut stream)).await.ok().flatten().unwrap_or_default();
        let (status, text, ended) = match returned(&head, state) {
            None => ("404 Not Found", "Nothing here.", None),
            Some(Ok(code)) => ("200 OK", "Logged in. This window can be closed.", Some(Ok(code))),
            Some(Err(error)) => ("200 OK", "Not logged in: see the terminal.", Some(Err(error))),
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
            text.len()
        );
        let _ = tokio::time::timeout(HEAD_WITHIN, stream.write_all(answer.as_bytes())).await;
        if let Some(ended) = ended {
            return ended;
        }
    }
}

async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut piece = [0u8; 2048];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
        let read = stream.read(&mut piece).await.ok()?;
        if read == 0 {
            break;
        }
        head.extend_from_slice(piece.get(..read)?);
    }
    String::from_utf8(head).ok()
}

/// The code in a browser's request; `None` if it is not the one we wait for.
fn returned(head: &str, state: &str) -> Option<Result<SecretString, TokenError>> {
    let target = head.strip_prefix("GET ")?.split(' ').next()?;
    let url = Url::parse("http://127.0.0.1/").ok()?.join(target).ok()?;
    let field = |name: &str| url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned());
    // RFC 6749 §10.12: an answer without our state was not asked for by us.
    if field("state")? != state {
        return None;
    }
    match (field("code"), field("error")) {
        (Some(code), _) => Some(Ok(SecretString::from(code))),
        (None, Some(word)) => {
            let word: String = word.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(60).collect();
            Some(Err(person(format!("the log-in was denied: {word}"))))
        }
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_an_answer_with_our_state_counts() {
        let get = |target: &str| returned(&format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n"), "s-1");
        assert_eq!(get("/?code=c%2F1&state=s-1").unwrap().unwrap().expose_secret(), "c/1");
        assert!(get("/?code=c1&state=other").is_none() && get("/?code=c1").is_none() && get("/favicon.ico").is_none());
        assert!(returned("POST /?code=c1&state=s-1 HTTP/1.1\r\n", "s-1").is_none());
        assert!(get("/?error=access_denied&state=s-1").unwrap().unwrap_err().to_string().ends_with("access_denied"));
    }
}
