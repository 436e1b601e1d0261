//! The token endpoint (RFC 6749 §3.2): a form goes out, a token or a reason comes back.
//!
//! What must stay true: everything is bounded, redirects are not followed (they would carry the client's secret elsewhere), and of an
//! error only its code word is repeated — descriptions name people (I7).

use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Response, Url};
use secrecy::SecretString;
use serde::Deserialize;

use crate::http::tls;
use crate::model::codes::Code;
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

/// Why the endpoint granted nothing.
#[derive(Debug)]
pub enum Refused {
    /// Not reached, or not an answer of a token endpoint.
    Failed(TokenError),
    /// It said no, with this error word (RFC 6749 §5.2).
    Said {
        /// `invalid_grant`, `authorization_pending`, …
        word: String,
        /// A number that the provider's own documentation explains (`AADSTS…`).
        detail: Option<String>,
    },
}

/// Speaks with identity providers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Endpoint {
    client: Client,
}

impl Endpoint {
    /// A client for all identity providers.
    ///
    /// # Errors
    /// One line, if the HTTP client cannot be made.
    pub fn new() -> Result<Self, String> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls::with_roots())
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(WITHIN)
            .build()
            .map_err(|error| error.without_url().to_string())?;
        Ok(Self { client })
    }

    /// Asks for a token.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn ask(&self, url: &Url, form: &[(&str, &str)]) -> Result<Granted, Refused> {
        let body = self.post(url, form).await?;
        serde_json::from_slice(&body).map_err(|_| Refused::Failed(protocol(url, "its answer holds no token")))
    }

    /// Posts a form; the body of a 200.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn post(&self, url: &Url, form: &[(&str, &str)]) -> Result<Vec<u8>, Refused> {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request =
            self.client.post(url.clone()).header("content-type", "application/x-www-form-urlencoded").header("accept", "application/json");
        let response = request.body(body).send().await.map_err(|error| Refused::Failed(unreachable(url, &error)))?;
        let status = response.status().as_u16();
        let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let after = asked.map(|seconds| Duration::from_secs(seconds).min(AFTER_LONGEST));
        let body = read(response).await.map_err(|error| Refused::Failed(unreachable(url, &error)))?;
        match status {
            200 => Ok(body),
            429 => Err(Refused::Failed(later(Code::Throttled, url, "it asked us to slow down", after))),
            400..=499 => {
                Err(said(&body).unwrap_or_else(|| Refused::Failed(protocol(url, &format!("it answered {status} without a reason")))))
            }
            _ => Err(Refused::Failed(later(Code::Unreachable, url, &format!("it answered {status}"), after))),
        }
    }
}

async fn read(mut response: Response) -> reqwest::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_BYTES_MAX {
            // What is cut is no JSON, and is refused as such.
            body.truncate(ANSWER_BYTES_MAX);
            break;
        }
    }
    Ok(body)
}

#[derive(Deserialize)]
struct Said {
    error: String,
    #[serde(default)]
    error_description: String,
}

fn said(body: &[u8]) -> Option<Refused> {
    let said: Said = serde_json::from_slice(body).ok()?;
    let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '_' || *c == '-';
    let word: String = said.error.chars().filter(plain).take(WORD_CHARS_MAX).collect();
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

fn unreachable(url: &Url, error: &reqwest::Error) -> TokenError {
    let causes = || std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    if let Some(why) = causes().find_map(bad_certificate) {
        // As at a mail server: somebody else may be listening there, or a person forgot to renew it.
        return TokenError::Person { code: Code::Tls, detail: format!("{}: the certificate is not trusted: {why}", place(url)) };
    }
    // The outer texts name the URL; the innermost is the system's own word.
    let why = match causes().last() {
        _ if error.is_timeout() => format!("no answer in {} s", WITHIN.as_secs()),
        Some(cause) => cause.to_string(),
        None => "the connection failed".to_owned(),
    };
    later(Code::Unreachable, url, &why, None)
}

fn bad_certificate(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    match cause.downcast_ref::<rustls::Error>() {
        Some(rustls::Error::InvalidCertificate(why)) => Some(format!("{why:?}")),
        Some(_) => None,
        // The error of TLS travels inside of those of I/O, which do not name it as their source.
        None => bad_certificate(cause.downcast_ref::<std::io::Error>()?.get_ref()?),
    }
}

/// TLS with the system's roots; `SSL_CERT_FILE` holds too.
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
