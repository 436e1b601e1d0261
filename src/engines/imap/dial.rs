//! From a host name to a stream that is ready for the login: TCP, TLS, greeting, STARTTLS.
//!
//! What must stay true: before TLS nothing the server says is kept (whoever sits in between could have said it), and nothing may
//! be waiting in the buffer when TLS begins. A wrong certificate is a person's matter, a dead server is not.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_ok;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::engines::imap::ImapSettings;
use crate::engines::imap::conn::io_failure;
use crate::engines::imap::mended::Mended;
use crate::engines::imap::text::{Tone, said, tone};
use crate::engines::imap::wire::{Duplex, Wire};
use crate::http::tls::{mistrust, with_roots};
use crate::model::codes::Code;
use crate::model::mailbox::Tls;
use crate::ports::pull::PullError;

/// A greeting or capability line is never longer.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// Addresses of a name that are tried, and how long one is waited for before the next is tried beside it.
const ADDRESSES_MAX: usize = 8;
const HEAD_START: Duration = Duration::from_millis(250);
/// Untagged lines before an answer.
const LINES_MAX: usize = 100;
/// What a literal may have beside the mail: headers of a mail at the limit are fetched with it, and sizes are told in other ways.
const LITERAL_SLACK_BYTES: u64 = 1024 * 1024;

/// A greeted connection.
#[derive(Debug)]
pub struct Dialed {
    /// The stream.
    pub wire: Wire,
    /// What the server can before the login, upper case.
    pub capabilities: BTreeSet<String>,
}

/// Connects, secures and greets.
pub async fn dial(settings: &ImapSettings) -> Result<Dialed, PullError> {
    refuse_bare_passwords(settings)?;
    let tcp = bounded(settings, "connecting", connect(settings)).await?;
    match settings.mailbox.tls {
        Tls::Implicit => {
            let stream = bounded(settings, "the TLS handshake", secure(settings, tcp)).await?;
            bounded(settings, "the greeting", greet(settings, stream, true)).await
        }
        Tls::None => bounded(settings, "the greeting", greet(settings, tcp, true)).await,
        Tls::StartTls => {
            let tcp = bounded(settings, "STARTTLS", start_tls(settings, tcp)).await?;
            let stream = bounded(settings, "the TLS handshake", secure(settings, tcp)).await?;
            // RFC 3501 §6.2.1: no greeting after STARTTLS, and what was said before it counts for nothing.
            bounded(settings, "the capabilities", greet(settings, stream, false)).await
        }
    }
}

/// Where we connect, for texts.
pub fn place(settings: &ImapSettings) -> String {
    format!("{}:{}", settings.mailbox.host, settings.mailbox.port)
}

async fn bounded<T>(settings: &ImapSettings, what: &str, step: impl Future<Output = Result<T, PullError>>) -> Result<T, PullError> {
    match timeout(settings.timeouts.connect, step).await {
        Ok(result) => result,
        Err(_) => {
            let seconds = settings.timeouts.connect.as_secs();
            Err(PullError::lost(Code::Unreachable, format!("{}: {what} took longer than {seconds} s", place(settings))))
        }
    }
}

fn refuse_bare_passwords(settings: &ImapSettings) -> Result<(), PullError> {
    let loopback =
        settings.mailbox.host.eq_ignore_ascii_case("localhost") || settings.mailbox.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    if settings.mailbox.tls != Tls::None || loopback || settings.mailbox.insecure {
        return Ok(());
    }
    let detail = format!("{}: a password is not sent without TLS; set tls, or insecure = true", place(settings));
    Err(PullError::Person { code: Code::Tls, detail })
}

async fn connect(settings: &ImapSettings) -> Result<TcpStream, PullError> {
    let connected = async {
        let found = lookup_host((settings.mailbox.host.as_str(), settings.mailbox.port)).await?;
        first_of(found.take(ADDRESSES_MAX).collect()).await
    };
    let tcp = connected.await.map_err(|error| PullError::lost(Code::Unreachable, format!("connecting to {}: {error}", place(settings))))?;
    // Commands are small and waited for.
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(error = %error, "nodelay not set");
    }
    Ok(tcp)
}

/// Connects to the first address that answers; each has a head start before the next (RFC 8305). One that swallows everything, as an IPv6
/// route that leads nowhere does, would take all the time there is.
async fn first_of(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let tries = (0u32..).zip(addresses).map(|(number, address)| {
        Box::pin(async move {
            tokio::time::sleep(HEAD_START * number).await;
            TcpStream::connect(address).await
        })
    });
    let tries: Vec<_> = tries.collect();
    if tries.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(select_ok(tries).await?.0)
}

async fn secure(settings: &ImapSettings, tcp: TcpStream) -> Result<tokio_rustls::client::TlsStream<TcpStream>, PullError> {
    let person = |detail: String| PullError::Person { code: Code::Tls, detail };
    let config = match &settings.mailbox.ca_pem {
        Some(pem) => own_roots(pem).map_err(|detail| person(format!("ca_file: {detail}")))?,
        None => Arc::new(with_roots()),
    };
    let name =
        ServerName::try_from(settings.mailbox.host.clone()).map_err(|_| person(format!("{} is no name for TLS", settings.mailbox.host)))?;
    let connected = TlsConnector::from(config).connect(name, tcp).await;
    connected.map_err(|error| match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(why)) => person(format!("{}: {}", place(settings), mistrust(why, "ca_file"))),
        Some(_) => PullError::lost(Code::Tls, format!("{}: the TLS handshake failed; is this a TLS port?", place(settings))),
        None => PullError::lost(Code::Tls, format!("{}: the TLS handshake broke: {}", place(settings), error.kind())),
    })
}

fn client_config(roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.map_err(|_| "no TLS version is available".to_owned())?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn own_roots(pem: &[u8]) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| "not a PEM file of certificates".to_owned())?;
        roots.add(certificate).map_err(|_| "a certificate cannot be used as a CA".to_owned())?;
    }
    if roots.is_empty() {
        return Err("no certificate in it".to_owned());
    }
    client_config(roots)
}

async fn start_tls(settings: &ImapSettings, mut tcp: TcpStream) -> Result<TcpStream, PullError> {
    let mut lines = Lines::new(&mut tcp, settings);
    lines.greeting().await?;
    if !lines.capabilities().await?.contains("STARTTLS") {
        let detail = format!("{}: the server does not offer STARTTLS", place(settings));
        return Err(PullError::Person { code: Code::Tls, detail });
    }
    lines.command("S2", "STARTTLS").await?;
    // Commands injected before the switch would be waiting here, and be taken as spoken under TLS (CVE-2011-0411 and its kin).
    lines.must_be_drained()?;
    Ok(tcp)
}

async fn greet<S: Duplex + 'static>(settings: &ImapSettings, mut stream: S, greeting: bool) -> Result<Dialed, PullError> {
    let mut lines = Lines::new(&mut stream, settings);
    let told = if greeting { lines.greeting().await? } else { BTreeSet::new() };
    let capabilities = if told.is_empty() { lines.capabilities().await? } else { told };
    // What was said behind the greeting is heard by who reads next: here nobody waits for TLS any more.
    let early = std::mem::take(&mut lines.buffer);
    let stream = Mended::new(stream, &early);
    let literal_bytes_max = settings.mailbox.mail_bytes_max.saturating_add(LITERAL_SLACK_BYTES);
    Ok(Dialed { wire: Wire::new(Box::new(stream), settings.timeouts.read, literal_bytes_max), capabilities })
}

/// Lines of a connection that is not logged in yet.
struct Lines<'a, S> {
    stream: &'a mut S,
    settings: &'a ImapSettings,
    buffer: Vec<u8>,
}

impl<'a, S: Duplex> Lines<'a, S> {
    fn new(stream: &'a mut S, settings: &'a ImapSettings) -> Self {
        Self { stream, settings, buffer: Vec::new() }
    }

    /// Reads the greeting; returns the capabilities it tells, if it does.
    async fn greeting(&mut self) -> Result<BTreeSet<String>, PullError> {
        let line = self.line().await?;
        let upper = line.to_ascii_uppercase();
        if upper.starts_with("* OK") {
            return Ok(told_capabilities(&upper));
        }
        if upper.starts_with("* PREAUTH") {
            // We could not know as whom we are logged in, and with STARTTLS it is an attack (RFC 9051 §11.1).
            let detail = format!("{}: the server greets with PREAUTH, without asking who we are", place(self.settings));
            return Err(PullError::Person { code: Code::Protocol, detail });
        }
        if let Some(text) = upper.strip_prefix("* BYE") {
            return Err(self.refused("the server does not want us", text));
        }
        Err(PullError::lost(Code::Protocol, format!("{}: the greeting is not IMAP", place(self.settings))))
    }

    async fn capabilities(&mut self) -> Result<BTreeSet<String>, PullError> {
        let untagged = self.command("S1", "CAPABILITY").await?;
        let listed = untagged.iter().filter_map(|line| line.strip_prefix("* CAPABILITY "));
        Ok(listed.flat_map(str::split_whitespace).map(str::to_owned).collect())
    }

    /// Runs a command; returns the untagged lines, in upper case.
    async fn command(&mut self, tag: &str, command: &str) -> Result<Vec<String>, PullError> {
        let sent = self.stream.write_all(format!("{tag} {command}\r\n").as_bytes()).await;
        sent.map_err(|error| self.broken(&error))?;
        self.stream.flush().await.map_err(|error| self.broken(&error))?;
        let mut untagged = Vec::new();
        while untagged.len() < LINES_MAX {
            let line = self.line().await?.to_ascii_uppercase();
            match line.strip_prefix(tag).and_then(|rest| rest.strip_prefix(' ')) {
                Some(end) if end.starts_with("OK") => return Ok(untagged),
                Some(end) => return Err(self.refused(&format!("{command} was refused"), end)),
                None if line.starts_with("* BYE") => {
                    return Err(self.refused("the server said goodbye", line.get(5..).unwrap_or_default()));
                }
                None => untagged.push(line),
            }
        }
        Err(PullError::lost(Code::Protocol, format!("{}: {command} is not answered", place(self.settings))))
    }

    async fn line(&mut self) -> Result<String, PullError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(PullError::lost(Code::Protocol, format!("{}: a line has no end", place(self.settings))));
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => {
                    let detail = format!("{}: the server closed the connection before the login", place(self.settings));
                    return Err(PullError::lost(Code::ConnectionLost, detail));
                }
                Ok(_) => {}
                Err(error) => return Err(self.broken(&error)),
            }
        }
    }

    fn must_be_drained(&self) -> Result<(), PullError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        Err(PullError::lost(Code::Protocol, format!("{}: the server speaks out of turn; someone may sit in between", place(self.settings))))
    }

    fn broken(&self, error: &io::Error) -> PullError {
        let (code, detail) = io_failure(error);
        PullError::lost(code, format!("{}: {detail}", place(self.settings)))
    }

    fn refused(&self, what: &str, text: &str) -> PullError {
        let (code, after) = match tone(text) {
            Tone::Throttled(after) => (Code::Throttled, after),
            _ => (Code::Unreachable, None),
        };
        PullError::Lost { code, detail: format!("{}: {what}: {}", place(self.settings), said(&text.to_ascii_lowercase())), after }
    }
}

/// `* OK [CAPABILITY A B] text`, upper case.
fn told_capabilities(upper: &str) -> BTreeSet<String> {
    let list = upper.split_once("[CAPABILITY ").and_then(|(_, rest)| rest.split_once(']'));
    list.map_or_else(BTreeSet::new, |(list, _)| list.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn an_address_that_swallows_everything_or_refuses_does_not_keep_us_from_the_next() {
        let good = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        // Nobody accepts here: when its queue is full, what is sent to it is dropped.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = socket.listen(1).unwrap();
        let (full_at, good_at) = (full.local_addr().unwrap(), good.local_addr().unwrap());
        let mut waiting = Vec::new();
        while let Ok(Ok(one)) = timeout(Duration::from_millis(300), TcpStream::connect(full_at)).await {
            waiting.push(one);
        }
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let reached = timeout(Duration::from_secs(10), first_of(vec![full_at, closed, good_at])).await.unwrap().unwrap();
        assert_eq!(reached.peer_addr().unwrap(), good_at);
        assert_eq!(first_of(vec![closed]).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert!(first_of(Vec::new()).await.is_err());
    }
}
