//! A Dovecot mailbox full of generated mails, the channel that reads it, and a link with a long round trip.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::support::daemon::Setup;
use crate::support::dovecot::{Dovecot, PASSWORD};

pub const USER: &str = "support";

/// The server, and a folder with its CA.
pub struct Mailbox {
    pub dovecot: Dovecot,
    pub folder: tempfile::TempDir,
}

impl Mailbox {
    /// Starts Dovecot with these mails in the INBOX, read once so that its index is built.
    pub fn with(mails: Vec<Vec<u8>>) -> Self {
        let dovecot = Dovecot::start().expect("needs dovecot (Debian: dovecot-imapd)");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), &dovecot.ca_pem).unwrap();
        dovecot.deliver(USER, mails);
        dovecot.imap(USER, &["SELECT INBOX", "UID FETCH 1:* (RFC822.SIZE)"]);
        Self { dovecot, folder }
    }

    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A gateway that reads the mailbox through `port` and delivers nothing.
    pub fn setup(&self, port: u16, first_run: &str) -> Setup {
        let mut setup = Setup::default();
        setup.destination("crm", "http://127.0.0.1:9/", "");
        setup.rest.push_str("[[route]]\nwhen = 'false'\nto = [\"crm\"]\nhistoric = true\n[logs]\nlevel = \"warn\"\n");
        let channel = format!(
            "connector = \"imap\"\n[secrets]\npassword = {{ env = \"MAIL_PASSWORD\" }}\n[imap]\nhost = \"localhost\"\nport = {port}\n\
             ca_file = \"{}\"\nuser = \"{USER}\"\nfirst_run = \"{first_run}\"\n",
            self.ca_file().display()
        );
        setup.channels.insert("mail".to_owned(), channel);
        setup.env.insert("MAIL_PASSWORD".to_owned(), PASSWORD.to_owned());
        setup
    }
}

/// A port whose bytes arrive at `target` half a round trip later, both ways.
pub async fn long_way(target: SocketAddr, round_trip: Duration) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(target).await.unwrap();
            near.set_nodelay(true).unwrap();
            far.set_nodelay(true).unwrap();
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            tokio::spawn(delay(near_in, far_out, round_trip / 2));
            tokio::spawn(delay(far_in, near_out, round_trip / 2));
        }
    });
    port
}

async fn delay(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin + Send + 'static, span: Duration) {
    let (queue, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(4096);
    tokio::spawn(async move {
        while let Some((at, bytes)) = due.recv().await {
            tokio::time::sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count) = from.read(&mut buffer).await {
        if count == 0 || queue.send((Instant::now() + span, buffer[..count].to_vec())).await.is_err() {
            return;
        }
    }
}
