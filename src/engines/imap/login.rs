//! The login with a password: LOGIN or AUTHENTICATE PLAIN, and what a refusal means.
//!
//! What must stay true: a wrong password is told from a server in trouble (only the first needs a person), and neither the
//! password nor the user's name reaches an error text.

use std::collections::BTreeSet;

use async_imap::error::Error;
use async_imap::{Authenticator, Client, Session};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;

use crate::engines::imap::conn::{Conn, io_failure};
use crate::engines::imap::dial::{Dialed, place};
use crate::engines::imap::text::{Tone, said, tone};
use crate::engines::imap::wire::Wire;
use crate::engines::imap::{ImapSettings, Login};
use crate::model::codes::Code;
use crate::ports::pull::PullError;

/// Logs in and asks what the server can.
pub async fn login(settings: &ImapSettings, password: &SecretString, dialed: Dialed) -> Result<Conn, PullError> {
    let Dialed { wire, capabilities } = dialed;
    let way = way(settings, password, &capabilities)?;
    let client = Client::new(wire);
    let answer = timeout(settings.timeouts.connect, async {
        match way {
            Way::Login => client.login(&settings.mailbox.user, password.expose_secret()).await,
            Way::Plain => client.authenticate("PLAIN", Plain::of(&settings.mailbox.user, password)).await,
        }
    });
    let session = match answer.await {
        Ok(Ok(session)) => session,
        Ok(Err((error, _client))) => return Err(refused(settings, &error)),
        Err(_) => return Err(too_slow(settings)),
    };
    introduce(settings, session).await
}

/// The server did not answer the login in time.
pub fn too_slow(settings: &ImapSettings) -> PullError {
    let detail = format!("{}: the login took longer than {} s", place(settings), settings.timeouts.connect.as_secs());
    PullError::Lost { code: Code::Unreachable, detail, after: None }
}

/// What follows every login: what can the server, and who are we.
pub async fn introduce(settings: &ImapSettings, session: Session<Wire>) -> Result<Conn, PullError> {
    let mut conn = Conn::new(session, settings.timeouts);
    conn.ask_capabilities().await.map_err(|failed| failed.fatal("CAPABILITY"))?;
    if conn.can("ID") {
        // Some providers (163.com) refuse SELECT to clients that do not introduce themselves. A refusal of ID itself means nothing.
        let id = concat!("ID (\"name\" \"omnigate\" \"version\" \"", env!("CARGO_PKG_VERSION"), "\")");
        if let Err(crate::engines::imap::conn::Failed::Lost(error)) = conn.run(id, &mut |_| {}).await {
            return Err(error);
        }
    }
    Ok(conn)
}

/// How we log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Login,
    Plain,
}

fn way(settings: &ImapSettings, password: &SecretString, capabilities: &BTreeSet<String>) -> Result<Way, PullError> {
    let password = password.expose_secret();
    let person = |why: &str| PullError::Person { code: Code::AuthFailed, detail: format!("{}: {why}", place(settings)) };
    if settings.mailbox.user.contains('\0') || password.contains('\0') {
        return Err(person("user or password hold a NUL"));
    }
    // A quoted string is 7-bit and on one line (RFC 3501 §4.3); PLAIN carries UTF-8 (RFC 4616).
    let simple = |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let plain = capabilities.contains("AUTH=PLAIN");
    match (simple(&settings.mailbox.user) && simple(password), capabilities.contains("LOGINDISABLED"), plain) {
        (true, false, _) => Ok(Way::Login),
        (_, _, true) => Ok(Way::Plain),
        (_, true, false) => Err(person("the server takes no password on this connection (LOGINDISABLED); use TLS")),
        (false, false, false) => Err(person("user or password have other than ASCII characters, and the server has no AUTH=PLAIN")),
    }
}

/// The one answer of SASL PLAIN (RFC 4616).
struct Plain(SecretString);

impl Plain {
    fn of(user: &str, password: &SecretString) -> Self {
        Self(SecretString::from(format!("\0{user}\0{}", password.expose_secret())))
    }
}

impl Authenticator for Plain {
    type Response = String;

    fn process(&mut self, _challenge: &[u8]) -> String {
        self.0.expose_secret().to_owned()
    }
}

/// What an error of the login means.
pub fn refused(settings: &ImapSettings, error: &Error) -> PullError {
    let place = place(settings);
    let text = match error {
        Error::No(text) | Error::Bad(text) => without_names(settings, server_words(text)),
        Error::Io(error) => {
            let (code, detail) = io_failure(error);
            return PullError::Lost { code, detail: format!("{place}: login: {detail}"), after: None };
        }
        Error::ConnectionLost => {
            let detail = format!("{place}: the server closed the connection during the login");
            return PullError::Lost { code: Code::ConnectionLost, detail, after: None };
        }
        _ => return PullError::Lost { code: Code::Protocol, detail: format!("{place}: the login is not IMAP"), after: None },
    };
    match tone(&text) {
        Tone::Throttled(after) => PullError::Lost { code: Code::Throttled, detail: format!("{place}: login: {}", said(&text)), after },
        Tone::Unavailable => PullError::Lost { code: Code::Unreachable, detail: format!("{place}: login: {}", said(&text)), after: None },
        Tone::Missing | Tone::Plain => {
            PullError::Person { code: Code::AuthFailed, detail: format!("{place}: the server refused the login: {}", said(&text)) }
        }
    }
}

/// The server's words inside the error of async-imap (`code: …, info: Some("…")`).
fn server_words(text: &str) -> &str {
    let words = text.split_once("info: Some(\"").and_then(|(_, rest)| rest.strip_suffix("\")"));
    words.unwrap_or("without a word")
}

fn without_names(settings: &ImapSettings, text: &str) -> String {
    let mut text = text.to_owned();
    let password = if let Login::Password(password) = &settings.login { password.expose_secret() } else { "" };
    for secret in [password, settings.mailbox.user.as_str()] {
        if !secret.is_empty() {
            text = text.replace(secret, "…");
        }
    }
    text
}
