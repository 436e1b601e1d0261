//! An IMAP server for many mailboxes at once, in the benchmark's own process: it knows when it says that a mail has come, and costs
//! next to nothing. TLS, LOGIN, EXAMINE, UID FETCH, IDLE; mails are put in by the benchmark.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// A mailbox: its mails, and whoever idles on it.
struct Mailbox {
    mails: Mutex<Vec<Arc<[u8]>>>,
    count: watch::Sender<usize>,
}

type Mailboxes = Arc<Mutex<HashMap<String, Arc<Mailbox>>>>;

/// A running server; any user may log in.
pub struct SmallImap {
    pub port: u16,
    pub ca_pem: String,
    mailboxes: Mailboxes,
    idling: watch::Receiver<usize>,
}

impl SmallImap {
    /// Starts it; certificates are made in `folder`.
    pub async fn start(folder: &Path) -> Self {
        let ca_pem = crate::support::dovecot::certificates(folder);
        let chain = CertificateDer::pem_file_iter(folder.join("cert.pem")).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mailboxes: Mailboxes = Arc::default();
        let (idlers, idling) = watch::channel(0);
        let (all, idlers) = (mailboxes.clone(), Arc::new(idlers));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, all, idlers) = (acceptor.clone(), all.clone(), idlers.clone());
                tokio::spawn(async move {
                    stream.set_nodelay(true).ok();
                    if let Ok(stream) = acceptor.accept(stream).await {
                        // A client that leaves ends its session.
                        let _ = serve(stream, all, &idlers).await;
                    }
                });
            }
        });
        Self { port, ca_pem, mailboxes, idling }
    }

    /// How many sessions idle.
    pub fn idling(&self) -> usize {
        *self.idling.borrow()
    }

    /// Puts a mail into a mailbox and tells whoever idles on it; returns when it was told.
    pub fn put(&self, user: &str, mail: &[u8]) -> Instant {
        let mailbox = mailbox(&self.mailboxes, user);
        let mut mails = mailbox.mails.lock().unwrap();
        mails.push(mail.into());
        mailbox.count.send_replace(mails.len());
        Instant::now()
    }
}

fn mailbox(all: &Mailboxes, user: &str) -> Arc<Mailbox> {
    let new = || Arc::new(Mailbox { mails: Mutex::default(), count: watch::Sender::new(0) });
    all.lock().unwrap().entry(user.to_owned()).or_insert_with(new).clone()
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, all: Mailboxes, idlers: &watch::Sender<usize>) -> std::io::Result<()> {
    let mut stream = BufReader::with_capacity(1024, stream);
    stream.get_mut().write_all(b"* OK [CAPABILITY IMAP4rev1 IDLE] ready\r\n").await?;
    let (mut user, mut line) = (String::new(), String::new());
    loop {
        stream.get_mut().flush().await?;
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let (tag, command) = line.trim_end().split_once(' ').unwrap_or(("*", ""));
        let mut words = command.split_whitespace();
        let (verb, second) = (words.next().unwrap_or_default().to_ascii_uppercase(), words.next().unwrap_or_default().to_ascii_uppercase());
        let mut out: Vec<u8> = Vec::new();
        match (verb.as_str(), second.as_str()) {
            ("LOGIN", _) => user = command.split_whitespace().nth(1).unwrap_or_default().trim_matches('"').to_owned(),
            ("CAPABILITY", _) => out.extend_from_slice(b"* CAPABILITY IMAP4rev1 IDLE\r\n"),
            ("EXAMINE" | "SELECT", _) => {
                let count = mailbox(&all, &user).mails.lock().unwrap().len();
                out.extend(format!("* {count} EXISTS\r\n* OK [UIDVALIDITY 7] v\r\n* OK [UIDNEXT {}] n\r\n", count + 1).bytes());
            }
            ("UID", "FETCH") => fetch(&mailbox(&all, &user).mails.lock().unwrap(), command, &mut out),
            ("IDLE", _) => {
                let tag = tag.to_owned();
                idle(&mut stream, &mailbox(&all, &user), idlers).await?;
                stream.get_mut().write_all(format!("{tag} OK done\r\n").as_bytes()).await?;
                continue;
            }
            _ => {}
        }
        out.extend(format!("{tag} OK done\r\n").bytes());
        stream.get_mut().write_all(&out).await?;
        if verb == "LOGOUT" {
            return stream.get_mut().flush().await;
        }
    }
}

fn fetch(mails: &[Arc<[u8]>], command: &str, out: &mut Vec<u8>) {
    let set = command.split_whitespace().nth(2).unwrap_or_default();
    let (first, last) = set.split_once(':').unwrap_or((set, set));
    let number = |text: &str| text.parse::<usize>().unwrap_or(usize::MAX);
    for (mail, uid) in mails.iter().zip(1..).filter(|(_, uid)| (number(first)..=number(last)).contains(uid)) {
        let size = mail.len();
        if command.contains("BODY.PEEK[]") {
            out.extend(format!("* {uid} FETCH (UID {uid} BODY[] {{{size}}}\r\n").bytes());
            out.extend_from_slice(mail);
            out.extend_from_slice(b")\r\n");
        } else {
            out.extend(format!("* {uid} FETCH (UID {uid} RFC822.SIZE {size} INTERNALDATE \"17-Jul-2026 02:44:25 +0000\")\r\n").bytes());
        }
    }
}

/// Tells of every mail that comes until the client is done.
async fn idle(
    stream: &mut BufReader<impl AsyncRead + AsyncWrite + Unpin>,
    mailbox: &Mailbox,
    idlers: &watch::Sender<usize>,
) -> std::io::Result<()> {
    stream.get_mut().write_all(b"+ idling\r\n").await?;
    stream.get_mut().flush().await?;
    let mut count = mailbox.count.subscribe();
    idlers.send_modify(|idlers| *idlers += 1);
    let mut line = String::new();
    let ended = loop {
        tokio::select! {
            read = stream.read_line(&mut line) => break read.map(|_| ()),
            _ = count.changed() => {
                let told = format!("* {} EXISTS\r\n", *count.borrow_and_update());
                if let Err(error) = stream.get_mut().write_all(told.as_bytes()).await {
                    break Err(error);
                }
                stream.get_mut().flush().await?;
            }
        }
    };
    idlers.send_modify(|idlers| *idlers -= 1);
    ended
}
