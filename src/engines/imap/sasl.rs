//! The login with a bearer token: XOAUTH2 and OAUTHBEARER (RFC 7628).
//!
//! What must stay true: the answer to the server's error challenge is sent, or the tagged NO never comes; a token that the server refuses
//! is tried once more with a fresh one, since it may have been revoked or outlived its time; neither token nor user reaches a text.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_imap::{Authenticator, Client};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;

use crate::engines::imap::ImapSettings;
use crate::engines::imap::conn::Conn;
use crate::engines::imap::dial::{Dialed, dial, place};
use crate::engines::imap::login::{introduce, refused, too_slow};
use crate::model::codes::Code;
use crate::model::mailbox::Sasl;
use crate::ports::pull::PullError;
use crate::ports::token::{AccessToken, TokenError, TokenSource};

/// Of the status in the server's error challenge this much is repeated.
const STATUS_CHARS_MAX: usize = 40;

/// Connects and logs in, with a fresh token if the first is refused.
pub async fn log_in(settings: &ImapSettings, source: &dyn TokenSource, wanted: Option<Sasl>) -> Result<Conn, PullError> {
    let token = source.token(None).await.map_err(untold)?;
    let first = attempt(settings, wanted, &token).await;
    let Err(PullError::Person { code: Code::AuthFailed, .. }) = first else { return first };
    let fresh = source.token(Some(&token)).await.map_err(untold)?;
    attempt(settings, wanted, &fresh).await
}

async fn attempt(settings: &ImapSettings, wanted: Option<Sasl>, token: &AccessToken) -> Result<Conn, PullError> {
    let Dialed { wire, capabilities } = dial(settings).await?;
    let sasl = mechanism(settings, wanted, &capabilities)?;
    let status = Arc::new(Mutex::new(None));
    let bearer = Bearer { sasl, response: response(settings, sasl, &token.secret), asked: false, status: status.clone() };
    let name = if sasl == Sasl::XOAuth2 { "XOAUTH2" } else { "OAUTHBEARER" };
    match timeout(settings.timeouts.connect, Client::new(wire).authenticate(name, bearer)).await {
        Ok(Ok(session)) => introduce(settings, session).await,
        Ok(Err((error, _client))) => {
            let status = status.lock().unwrap_or_else(PoisonError::into_inner).take();
            Err(match (refused(settings, &error), status) {
                (PullError::Person { code, detail }, Some(status)) if !status.is_empty() => {
                    PullError::Person { code, detail: format!("{detail} ({status})") }
                }
                // It said why, and closed the connection instead of saying NO. Trouble of its own is no refusal.
                (PullError::Lost { code: Code::ConnectionLost, .. }, Some(status)) if !status.starts_with("status 5") => {
                    let detail = format!("{}: the server refused the token and closed the connection {status}", place(settings));
                    PullError::Person { code: Code::AuthFailed, detail: detail.trim_end().to_owned() }
                }
                (other, _) => other,
            })
        }
        Err(_) => Err(too_slow(settings)),
    }
}

fn untold(error: TokenError) -> PullError {
    match error {
        TokenError::Later { code, detail, after } => PullError::Lost { code, detail, after },
        TokenError::Person { code, detail } => PullError::Person { code, detail },
    }
}

fn mechanism(settings: &ImapSettings, wanted: Option<Sasl>, capabilities: &BTreeSet<String>) -> Result<Sasl, PullError> {
    let (standard, own) = (capabilities.contains("AUTH=OAUTHBEARER"), capabilities.contains("AUTH=XOAUTH2"));
    match (wanted, standard, own) {
        (Some(wanted), ..) => Ok(wanted),
        (None, true, _) => Ok(Sasl::OAuthBearer),
        (None, false, true) => Ok(Sasl::XOAuth2),
        (None, false, false) => {
            let detail =
                format!("{}: the server takes no tokens on this connection (no AUTH=OAUTHBEARER, no AUTH=XOAUTH2)", place(settings));
            Err(PullError::Person { code: Code::Protocol, detail })
        }
    }
}

/// The first answer. `\x01` separates its parts.
fn response(settings: &ImapSettings, sasl: Sasl, token: &SecretString) -> SecretString {
    let (user, token) = (&settings.mailbox.user, token.expose_secret());
    SecretString::from(match sasl {
        Sasl::XOAuth2 => format!("user={user}\x01auth=Bearer {token}\x01\x01"),
        Sasl::OAuthBearer => {
            // RFC 5801 §4: "=" and "," of a name inside the GS2 header are written in hex.
            let user = user.replace('=', "=3D").replace(',', "=2C");
            format!("n,a={user},\x01host={}\x01port={}\x01auth=Bearer {token}\x01\x01", settings.mailbox.host, settings.mailbox.port)
        }
    })
}

struct Bearer {
    sasl: Sasl,
    response: SecretString,
    asked: bool,
    status: Arc<Mutex<Option<String>>>,
}

impl Authenticator for Bearer {
    type Response = Vec<u8>;

    fn process(&mut self, challenge: &[u8]) -> Vec<u8> {
        if !std::mem::replace(&mut self.asked, true) {
            return self.response.expose_secret().as_bytes().to_vec();
        }
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = Some(status(challenge).unwrap_or_default());
        // RFC 7628 §3.2.3: the client must answer the error before the server says NO.
        if self.sasl == Sasl::OAuthBearer { vec![1] } else { Vec::new() }
    }
}

/// `status` of the server's JSON: `401`, `invalid_token`.
fn status(challenge: &[u8]) -> Option<String> {
    let said: serde_json::Value = serde_json::from_slice(challenge).ok()?;
    let status = said.get("status")?.as_str()?;
    let word = |c: &char| c.is_ascii_alphanumeric() || *c == '_' || *c == '-';
    let status: String = status.chars().filter(word).take(STATUS_CHARS_MAX).collect();
    (!status.is_empty()).then(|| format!("status {status}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_status_of_an_error_challenge_is_repeated() {
        let told = |text: &str| status(text.as_bytes());
        assert_eq!(told(r#"{"status":"401","schemes":"bearer","scope":"mail"}"#).as_deref(), Some("status 401"));
        assert_eq!(told(r#"{"status":"inv\u0007alid_token"}"#).as_deref(), Some("status invalid_token"));
        assert_eq!(told(r#"{"status":401}"#), None);
        assert_eq!(told("not json"), None);
    }
}
