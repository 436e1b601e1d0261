//! SMTP: a letter per event, for every system that makes tickets of mail.
//!
//! The same Message-ID and content on every attempt, so that receivers which look at it fold a repetition (RFC 5322 §3.6.4). Between
//! the end of the letter and the server's answer nobody can know whether it was taken: such an attempt counts as not done and is
//! repeated by schedule. Everything else is decided by the reply code (RFC 5321 §4.2) and the enhanced one (RFC 3463).

mod letter;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use lettre::address::{Address, Envelope};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::{Error, PoolConfig};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use mail_auth::common::crypto::{RsaKey, Sha256};
use mail_auth::common::headers::HeaderWriter;
use mail_auth::dkim::{DkimSigner, Done};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::connector::ticket::compose::{Composing, Entry, compose};
use crate::connector::ticket::dialect::Dialect;
use crate::connector::ticket::smtp::SmtpSettings;
use crate::connector::ticket::{FilesWay, TextSpec, TicketSpec};
use crate::destinations::smtp::letter::{Letter, LetterFile};
use crate::model::codes::Code;
use crate::model::delivery::Outgoing;
use crate::ports::BoxFuture;
use crate::ports::destination::{DeliverError, Destination, FileReader, Receipt, SmtpTls};

/// Longest text of a letter, characters; what is longer ends with a link.
const CHARS_MAX: usize = 500_000;
/// All files of one letter together, decoded.
const FILES_BYTES_MAX: u64 = 48 * 1024 * 1024;
/// Idle connections are closed by us before common servers close them.
const IDLE_WITHIN: Duration = Duration::from_secs(30);
/// A server that is overrun is left alone this long.
const BUSY_PAUSE: Duration = Duration::from_secs(60);
/// What is signed. Every header that says who, to whom, what about, and in answer to what.
const SIGNED: [&str; 10] =
    ["From", "Sender", "To", "Subject", "Date", "Message-ID", "In-Reply-To", "References", "Reply-To", "Content-Type"];

/// A mail destination of the configuration.
pub struct SmtpOptions {
    /// What its section says of letters.
    pub given: SmtpSettings,
    /// Files go along.
    pub files: bool,
    /// Largest file that goes along, bytes.
    pub file_bytes_max: u64,
    /// The whole exchange.
    pub timeout: Duration,
    /// Connections at once.
    pub concurrency: usize,
}

type Signer = DkimSigner<RsaKey<Sha256>, Done>;

/// A mail destination.
pub struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    place: String,
    envelope: Envelope,
    domain: String,
    signer: Option<Signer>,
    options: SmtpOptions,
    files: Arc<dyn FileReader>,
}

impl Smtp {
    /// Checks the options and makes the pool. Touches no network.
    ///
    /// # Errors
    /// One line: which option is wrong. Shows no secret.
    pub fn new(options: SmtpOptions, files: Arc<dyn FileReader>) -> Result<Self, String> {
        let address = |text: &str, key: &str| text.parse::<Address>().map_err(|_| format!("`{key}` is no mail address"));
        let (from, to) = (address(&options.given.from, "from")?, address(&options.given.to, "to")?);
        let domain = from.domain().to_owned();
        let envelope = Envelope::new(Some(from), vec![to]).map_err(|error| error.to_string())?;
        let tls = match options.given.tls {
            SmtpTls::None => Tls::None,
            SmtpTls::StartTls => Tls::Required(tls_parameters(&options.given)?),
            SmtpTls::Implicit => Tls::Wrapper(tls_parameters(&options.given)?),
        };
        let connections = u32::try_from(options.concurrency.max(1)).unwrap_or(u32::MAX);
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(options.given.host.clone())
            .port(options.given.port)
            .tls(tls)
            .timeout(Some(options.timeout))
            .pool_config(PoolConfig::new().max_size(connections).idle_timeout(IDLE_WITHIN));
        if let Some((user, password)) = &options.given.login {
            builder = builder.credentials(Credentials::new(user.clone(), password.expose_secret().to_owned()));
        }
        let signer = options.given.dkim.as_ref().map(|(selector, key)| signer(&domain, selector, key)).transpose()?;
        let place = format!("{}:{}", options.given.host, options.given.port);
        Ok(Self { transport: builder.build(), place, envelope, domain, signer, options, files })
    }

    async fn send(&self, outgoing: &Outgoing) -> Result<Receipt, DeliverError> {
        let broken = |detail: String| DeliverError::Never { code: Code::Invariant, status: None, detail };
        let event: Value = serde_json::from_slice(&outgoing.bytes).map_err(|_| broken("the frozen event cannot be read".to_owned()))?;
        // A text of its author stays as plain as it is; only what was written in HTML goes out in both forms.
        let html = event.pointer("/data/message/html").is_some_and(Value::is_string);
        let text = TextSpec {
            dialect: if html { Dialect::Html } else { Dialect::Plain },
            chars_max: CHARS_MAX,
            names_author: false,
            marks: false,
        };
        let ticket = TicketSpec { files: FilesWay::With, file_bytes_max: Some(self.options.file_bytes_max), ..TicketSpec::default() };
        let with = Composing {
            text: &text,
            ticket: &ticket,
            forms: self.options.given.forms,
            contact_domain: &self.options.given.contact_domain,
            files: self.options.files,
        };
        let Some(entry) = compose(outgoing.event, &event, &with) else {
            // Nothing of it belongs into a letter.
            return Ok(Receipt { status: None });
        };
        let files = self.read(&entry).await?;
        let letter =
            Letter { entry: &entry, event: &event, id: outgoing.event, html, files, domain: &self.domain, given: &self.options.given };
        let mut bytes = letter.write().map_err(broken)?;
        if let Some(signer) = &self.signer {
            let signature = signer.sign(&bytes).map_err(|error| broken(format!("DKIM: {error}")))?;
            let mut signed = signature.to_header().into_bytes();
            signed.append(&mut bytes);
            bytes = signed;
        }
        let sent = tokio::time::timeout(self.options.timeout, self.transport.send_raw(&self.envelope, &bytes)).await;
        match sent {
            Ok(Ok(_)) => Ok(Receipt { status: Some(250) }),
            Ok(Err(error)) => Err(explain(&self.place, &error)),
            Err(_) => Err(later(Code::Timeout, None, format!("no answer from {} in time", self.place))),
        }
    }

    async fn read(&self, entry: &Entry) -> Result<Vec<LetterFile>, DeliverError> {
        let (mut files, mut room) = (Vec::with_capacity(entry.files.len()), FILES_BYTES_MAX);
        for file in &entry.files {
            let bytes_max = self.options.file_bytes_max.min(room);
            let read = self.files.read(file.id, bytes_max).await.map_err(|detail| later(Code::Failed, None, detail))?;
            room -= read.as_ref().map_or(0, |bytes| bytes.len() as u64);
            files.push(LetterFile { name: file.name.clone(), media_type: file.media_type.clone(), bytes: read });
        }
        Ok(files)
    }
}

impl Destination for Smtp {
    fn deliver<'a>(&'a self, outgoing: &'a Outgoing) -> BoxFuture<'a, Result<Receipt, DeliverError>> {
        Box::pin(self.send(outgoing))
    }

    fn probe(&self) -> BoxFuture<'_, Result<String, DeliverError>> {
        Box::pin(async move {
            let way = match self.options.given.tls {
                SmtpTls::None => "without TLS",
                SmtpTls::StartTls => "STARTTLS",
                SmtpTls::Implicit => "TLS",
            };
            let who = if self.options.given.login.is_some() { ", logged in" } else { "" };
            match tokio::time::timeout(self.options.timeout, self.transport.test_connection()).await {
                Ok(Ok(true)) => Ok(format!("connected to {}, {way}{who}", self.place)),
                Ok(Ok(false)) => Err(later(Code::Failed, None, format!("{} does not answer NOOP", self.place))),
                Ok(Err(error)) => Err(explain(&self.place, &error)),
                Err(_) => Err(later(Code::Timeout, None, format!("no answer from {} in time", self.place))),
            }
        })
    }
}

fn tls_parameters(given: &SmtpSettings) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(given.host.clone());
    if let Some(pem) = &given.ca_pem {
        builder = builder.add_root_certificate(Certificate::from_pem(pem).map_err(|_| "`ca_file` holds no certificate".to_owned())?);
    }
    builder.build_rustls().map_err(|error| error.to_string())
}

/// Signs relaxed/relaxed (RFC 6376 §3.4): relays rewrap headers and drop blank lines at the end.
fn signer(domain: &str, selector: &str, key: &SecretString) -> Result<Signer, String> {
    let pem = key.expose_secret();
    let read = PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok().and_then(|der| RsaKey::<Sha256>::from_key_der(der).ok());
    let key = read.ok_or_else(|| "`dkim_key` is no RSA key in PEM".to_owned())?;
    Ok(DkimSigner::from_key(key).domain(domain).selector(selector).headers(SIGNED))
}

fn later(code: Code, status: Option<u16>, detail: String) -> DeliverError {
    DeliverError::Later { code, status, detail, after: None }
}

/// What a failed exchange means. The server's own words may hold addresses: only its codes are told (I7).
fn explain(place: &str, error: &Error) -> DeliverError {
    let words = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    if let Some(code) = error.status() {
        let number: u16 = code.into();
        let enhanced = words.split_whitespace().find(|word| is_enhanced(word)).unwrap_or_default();
        return of_reply(place, number, enhanced);
    }
    if error.is_tls() {
        later(Code::Tls, None, format!("{place}: {words}"))
    } else if error.is_timeout() {
        later(Code::Timeout, None, format!("no answer from {place} in time"))
    } else if error.to_string().starts_with("Connection error") {
        later(Code::Connect, None, format!("connecting to {place}: {words}"))
    } else {
        later(Code::Unknown, None, format!("sent to {place}, no answer: {words}"))
    }
}

fn of_reply(place: &str, number: u16, enhanced: &str) -> DeliverError {
    let detail = format!("{place} answered {number} {enhanced}").trim_end().to_owned();
    let status = Some(number);
    match (number, enhanced.get(1..).unwrap_or_default()) {
        // The server closes, or says that it is too much.
        (421, _) | (400..=499, ".7.0" | ".3.2") => DeliverError::Later { code: Code::Busy, status, detail, after: Some(BUSY_PAUSE) },
        (400..=499, _) => later(Code::Failed, status, detail),
        // The login, the right to send, or the address that is written down: no letter is to blame.
        (530 | 534 | 535 | 538, _) | (_, ".7.8" | ".7.9" | ".1.1" | ".1.2" | ".1.6" | ".1.10" | ".2.1") => {
            DeliverError::Denied { code: Code::Denied, status, detail }
        }
        _ => DeliverError::Never { code: Code::Rejected, status, detail },
    }
}

/// RFC 3463 §2: class, subject, detail.
fn is_enhanced(word: &str) -> bool {
    let mut parts = word.split('.');
    let class = parts.next().is_some_and(|class| matches!(class, "2" | "4" | "5"));
    let mut number = || parts.next().is_some_and(|part| (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit()));
    class && number() && number() && parts.next().is_none()
}
