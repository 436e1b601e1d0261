//! The token endpoint (RFC 6749 §3.2): a form goes out, a token or a reason comes back.
//!
//! What must stay true: everything is bounded, redirects are not followed (they would carry the client's secret elsewhere), and of an
//! error only its code word is repeated — descriptions name people (I7).

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

use crate::connector::token::spec::ClientAuth;
use crate::logic::schedule::retry_after;
use crate::model::codes::Code;
use crate::ports::clock::Clock;
use crate::ports::http::{Egress, Http, HttpBody, HttpError, HttpRequest};
use crate::ports::token::TokenError;

/// One whole exchange.
const WITHIN: Duration = Duration::from_secs(20);
/// Largest answer: tokens have some KiB.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Longest pause an identity provider may ask for.
const AFTER_LONGEST: Duration = Duration::from_secs(3600);
/// Of an error word this much is repeated.
const WORD_CHARS_MAX: usize = 60;

/// What a token endpoint grants.
#[derive(Debug, Deserialize)]
pub struct Granted {
    /// The token.
    pub access_token: SecretString,
    /// Seconds it is good for.
    #[serde(default)]
    pub expires_in: Option<Number>,
    /// A refresh token; where one was used, the new one that takes its place.
    #[serde(default)]
    pub refresh_token: Option<SecretString>,
    /// Seconds the refresh token is good for, where the provider says so.
    #[serde(default, alias = "refresh_expires_in")]
    pub refresh_token_expires_in: Option<Number>,
}

impl Granted {
    /// A token, and nothing said about it.
    pub fn of(access_token: SecretString) -> Self {
        Self { access_token, expires_in: None, refresh_token: None, refresh_token_expires_in: None }
    }

    /// A token that gets the next one itself.
    pub fn kept(token: SecretString) -> Self {
        Self { refresh_token: Some(token.clone()), ..Self::of(token) }
    }
}

/// A number that some providers write as a text.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Number {
    /// As it should be.
    Number(f64),
    /// In quotes.
    Text(String),
}

impl Number {
    /// As a time; nothing that is no time.
    pub fn seconds(&self) -> Option<Duration> {
        let seconds = match self {
            Self::Number(number) => *number,
            Self::Text(text) => text.trim().parse().ok()?,
        };
        Duration::try_from_secs_f64(seconds).ok().filter(|span| !span.is_zero())
    }
}

/// A client of a token endpoint.
#[derive(Debug, Clone)]
pub struct Client {
    /// The token endpoint.
    pub token_url: Url,
    /// The client; empty where it proves itself otherwise.
    pub id: String,
    /// Its secret; public clients have none.
    pub secret: Option<SecretString>,
    /// How it shows both.
    pub auth: ClientAuth,
    /// What is asked for, blank separated.
    pub scope: String,
    /// Further fields of every question.
    pub extra: Vec<(String, String)>,
}

impl Client {
    /// One that shows its secret in the form and asks nothing special.
    pub fn plain(token_url: Url, id: &str, secret: Option<SecretString>, scope: &str) -> Self {
        Self { token_url, id: id.to_owned(), secret, auth: ClientAuth::Body, scope: scope.to_owned(), extra: Vec::new() }
    }
}

/// Why the endpoint granted nothing.
#[derive(Debug)]
pub enum Refused {
    /// Not reached, or not an answer of a token endpoint.
    Failed {
        /// What that means.
        error: TokenError,
        /// It may have done what was asked, and its answer is lost.
        lost: bool,
    },
    /// It said no, with this error word (RFC 6749 §5.2).
    Said {
        /// `invalid_grant`, `authorization_pending`, …
        word: String,
        /// A number that the provider's own documentation explains (`AADSTS…`).
        detail: Option<String>,
    },
}

/// Speaks with identity providers. Cheap to clone.
#[derive(Clone)]
pub struct Endpoint {
    http: Arc<dyn Http>,
    clock: Arc<dyn Clock>,
}

impl Endpoint {
    /// By this HTTP client.
    pub fn new(http: Arc<dyn Http>, clock: Arc<dyn Clock>) -> Self {
        Self { http, clock }
    }

    /// Asks for a token.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn ask(&self, client: &Client, form: &[(&str, &str)]) -> Result<Granted, Refused> {
        let body = self.post(client, &client.token_url, form).await?;
        // A page in place of an answer does not say whether it was done: a token may be lost with it.
        let unread = |_| Refused::Failed { error: protocol(&client.token_url, "its answer holds no token"), lost: true };
        serde_json::from_slice(&body).map_err(unread)
    }

    /// Posts a form as this client; the body of a 200.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn post(&self, client: &Client, url: &Url, form: &[(&str, &str)]) -> Result<Vec<u8>, Refused> {
        let mut headers = vec![
            ("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned()),
            ("accept".to_owned(), "application/json".to_owned()),
        ];
        let secret = client.secret.as_ref().map(ExposeSecret::expose_secret);
        let mut fields: Vec<(&str, &str)> = form.to_vec();
        fields.extend(client.extra.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        match client.auth {
            ClientAuth::Basic => headers.push(("authorization".to_owned(), basic(&client.id, secret.unwrap_or_default()))),
            ClientAuth::Body => {
                fields.extend((!client.id.is_empty()).then_some(("client_id", client.id.as_str())));
                fields.extend(secret.map(|secret| ("client_secret", secret)));
            }
        }
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = HttpRequest {
            method: "POST",
            url: url.clone(),
            headers,
            body: HttpBody::Bytes(body.into()),
            within: WITHIN,
            answer_bytes_max: ANSWER_BYTES_MAX,
            egress: Egress::Written,
        };
        let answer = self.http.send(request).await.map_err(|error| unreachable(url, &error))?;
        let asked = answer.header("retry-after").and_then(|value| retry_after(value, self.clock.now()));
        let after = asked.map(|after| after.min(AFTER_LONGEST));
        match answer.status {
            200 => Ok(answer.body.to_vec()),
            429 => Err(failed(later(Code::Throttled, url, "it asked us to slow down", after))),
            // 401 is for clients that are not accepted, whatever else it says (RFC 6749 §5.2).
            401 => Err(said(&answer.body).unwrap_or_else(|| word("invalid_client"))),
            400..=499 => {
                Err(said(&answer.body).unwrap_or_else(|| failed(protocol(url, &format!("it answered {} without a reason", answer.status)))))
            }
            // Something went wrong behind it: whether before or after the grant, nobody knows.
            status => {
                Err(Refused::Failed { error: later(Code::Unreachable, url, &format!("it answered {status}"), after), lost: status >= 500 })
            }
        }
    }
}

/// `Authorization: Basic …`, of the id and secret in the form of a form (RFC 6749 §2.3.1).
fn basic(id: &str, secret: &str) -> String {
    let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    format!("Basic {}", STANDARD.encode(format!("{}:{}", encoded(id), encoded(secret))))
}

fn failed(error: TokenError) -> Refused {
    Refused::Failed { error, lost: false }
}

fn word(word: &str) -> Refused {
    Refused::Said { word: word.to_owned(), detail: None }
}

#[derive(Deserialize)]
struct Said {
    error: serde_json::Value,
    #[serde(default)]
    error_description: String,
}

fn said(body: &[u8]) -> Option<Refused> {
    let said: Said = serde_json::from_slice(body).ok()?;
    let error = match said.error {
        serde_json::Value::String(error) => error,
        // Reddit repeats the status in place of the word; of a form that we made it refuses only the grant.
        serde_json::Value::Number(status) if status.as_u64() == Some(400) => return Some(word("invalid_grant")),
        _ => return None,
    };
    let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '_' || *c == '-';
    let word: String = error.chars().filter(plain).take(WORD_CHARS_MAX).collect();
    let number = said.error_description.split(|c: char| !c.is_ascii_alphanumeric()).find(|word| {
        word.strip_prefix("AADSTS").is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
    });
    Some(Refused::Said { word, detail: number.map(|number| number.chars().take(WORD_CHARS_MAX).collect()) })
}

/// Where it is, for texts: never the path, which may name a tenant or a key.
pub fn place(url: &Url) -> String {
    format!("identity provider {}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
}

fn later(code: Code, url: &Url, what: &str, after: Option<Duration>) -> TokenError {
    TokenError::Later { code, detail: format!("{}: {what}", place(url)), after }
}

fn protocol(url: &Url, what: &str) -> TokenError {
    later(Code::Protocol, url, what, None)
}

fn unreachable(url: &Url, error: &HttpError) -> Refused {
    let detail = format!("{}: {}", place(url), error.detail);
    let error = match error.code {
        // As at a mail server: somebody else may be listening there, or a person forgot to renew it.
        Code::Tls if error.detail.contains("certificate") => TokenError::Person { code: Code::Tls, detail },
        Code::EgressRefused => TokenError::Person { code: Code::EgressRefused, detail },
        Code::Protocol => return Refused::Failed { error: TokenError::Later { code: Code::Protocol, detail, after: None }, lost: true },
        _ => return Refused::Failed { error: TokenError::Later { code: Code::Unreachable, detail, after: None }, lost: error.sent },
    };
    failed(error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn of_an_error_only_its_word_and_number_are_repeated() {
        let body = br#"{"error":"invalid_grant","error_description":"AADSTS700082: The refresh token of ana@example.org has expired."}"#;
        let Some(Refused::Said { word, detail }) = said(body) else { panic!() };
        assert_eq!((word.as_str(), detail.as_deref()), ("invalid_grant", Some("AADSTS700082")));
        let Some(Refused::Said { word, detail }) = said(br#"{"error":"odd\u001b[31m word","error_description":"AADSTSx"}"#) else {
            panic!()
        };
        assert_eq!((word.as_str(), detail), ("odd31mword", None));
        assert!(said(b"<html>").is_none());
    }

    #[test]
    fn lifetimes_are_read_in_both_forms_and_nonsense_is_none() {
        let seconds = |text: &str| serde_json::from_str::<Number>(text).unwrap().seconds();
        assert_eq!(seconds("3599"), Some(Duration::from_secs(3599)));
        assert_eq!(seconds("\"3599\""), Some(Duration::from_secs(3599)));
        assert_eq!((seconds("-1"), seconds("0"), seconds("\"soon\""), seconds("1e300")), (None, None, None, None));
    }
}
