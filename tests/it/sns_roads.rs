//! Amazon SNS over the whole road: its certificate is fetched from SNS itself and nowhere else, a subscription is confirmed by visiting the page it names when
//! that is one of SNS, and mails come in. Amazon stands on this machine: names and the port of one process lead here, the rules stay as they are.

use std::collections::VecDeque;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::daemon::{Daemon, Setup};
use crate::support::http1::{self, Message};
use crate::support::receiver::Receiver;
use crate::support::servers::missing;

const PATIENCE: Duration = Duration::from_secs(60);
const TOPIC: &str = "arn:aws:sns:eu-west-1:000000000001:inbound-mail";
const HOST: &str = "sns.eu-west-1.amazonaws.com";

/// What SNS signs with: a key and its certificate.
struct Signer {
    key: RsaKeyPair,
    certificate: String,
}

impl Signer {
    /// Its certificate ends with this year.
    fn new(folder: &Path, until: i32) -> Option<Self> {
        let file = folder.join("signer.key");
        let args = ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"];
        let Ok(made) = Command::new("openssl").args(args).arg(&file).output() else {
            missing("openssl");
            return None;
        };
        assert!(made.status.success(), "{made:?}");
        let PrivateKeyDer::Pkcs8(pkcs8) = PrivateKeyDer::from_pem_file(&file).unwrap() else { panic!("no PKCS #8") };
        let mut certificate = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        certificate.not_after = rcgen::date_time_ymd(until, 12, 31);
        let pair = rcgen::KeyPair::from_pem(&std::fs::read_to_string(&file).unwrap()).unwrap();
        Some(Self {
            key: RsaKeyPair::from_pkcs8(pkcs8.secret_pkcs8_der()).unwrap(),
            certificate: certificate.self_signed(&pair).unwrap().pem(),
        })
    }

    /// Signs a message as SNS does: the names of its kind in the order of the alphabet.
    fn sign(&self, mut message: Value) -> Value {
        let names: &[&str] = match message["Type"].as_str() {
            Some("Notification") => &["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"],
            _ => &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"],
        };
        let lines = names.iter().filter_map(|name| message[*name].as_str().map(|value| format!("{name}\n{value}\n")));
        let signed: String = lines.collect();
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
        message["Signature"] = json!(STANDARD.encode(signature));
        message
    }
}

/// Amazon: SNS on this machine, over TLS, and what it was asked for.
struct Amazon {
    folder: TempDir,
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    /// Statuses of the next visits; then 200.
    statuses: Arc<Mutex<VecDeque<u16>>>,
}

impl Amazon {
    /// Starts it; `None` where a tool is missing.
    async fn start(pages: Vec<(String, String)>, folder: TempDir) -> Option<Self> {
        let shim = folder.path().join("homeward.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/homeward.c");
        let made = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).arg(source).arg("-ldl").output();
        let Ok(made) = made else {
            missing("cc");
            return None;
        };
        assert!(made.status.success(), "{made:?}");
        let acceptor = authority(folder.path());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, statuses) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(VecDeque::new())));
        let (heard, answers, pages) = (asked.clone(), statuses.clone(), Arc::new(pages));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (heard, answers, pages, acceptor) = (heard.clone(), answers.clone(), pages.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(stream).await.ok()?;
                    let mut head = vec![0; 8192];
                    let read = stream.read(&mut head).await.ok()?;
                    let head = String::from_utf8_lossy(&head[..read]).into_owned();
                    let target = head.split(' ').nth(1)?.to_owned();
                    let host = head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
                    heard.lock().unwrap().push(format!("{host}{target}"));
                    let page = pages.iter().find(|(path, _)| *path == target);
                    let (status, body) = match page {
                        Some((_, body)) => (200, body.clone()),
                        None if target.starts_with("/?") => (answers.lock().unwrap().pop_front().unwrap_or(200), "<ok/>".to_owned()),
                        None => (404, String::new()),
                    };
                    let head = format!("HTTP/1.1 {status} -\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
                    stream.write_all(head.as_bytes()).await.ok()?;
                    stream.shutdown().await.ok()
                });
            }
        });
        Some(Self { folder, port, asked, statuses })
    }

    fn setup(&self, receiver: &Receiver) -> Setup {
        let mut setup = Setup::all_to(&receiver.url());
        setup.channels.insert("mails".to_owned(), format!("connector = \"ses-sns\"\n[settings]\ntopics = [\"{TOPIC}\"]\n"));
        let at = |name: &str| self.folder.path().join(name).to_str().unwrap().to_owned();
        let env = [
            ("LD_PRELOAD", at("homeward.so")),
            ("SSL_CERT_FILE", at("authority.pem")),
            ("HOMEWARD_NAMES", ".amazonaws.com .example.org".to_owned()),
            ("HOMEWARD_PORT", self.port.to_string()),
        ];
        setup.env.extend(env.map(|(name, value)| (name.to_owned(), value)));
        setup
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn visits(&self, token: &str) -> usize {
        self.asked().iter().filter(|page| page.contains("ConfirmSubscription") && page.ends_with(token)).count()
    }
}

/// TLS for all names of SNS and for others, by an authority that is written to `authority.pem`.
fn authority(folder: &Path) -> tokio_rustls::TlsAcceptor {
    let mut ca = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(folder.join("authority.pem"), ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let issuer = rcgen::Issuer::from_params(&ca, &ca_key);
    let names = [HOST, "sns.us-east-1.amazonaws.com", "s3.amazonaws.com", "keys.example.org", "sns.eu-west-1.amazonaws.com.example.org"];
    let leaf = rcgen::CertificateParams::new(names.map(str::to_owned).to_vec()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = CertificateDer::from(leaf.signed_by(&key, &issuer).unwrap().der().to_vec());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    tokio_rustls::TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap()))
}

fn certificate(name: &str) -> String {
    format!("https://{HOST}/SimpleNotificationService-{name}.pem")
}

fn confirmation(kind: &str, token: &str, page: &str, certificate: &str) -> Value {
    json!({
        "Type": kind, "MessageId": format!("id-{token}"), "Token": token, "TopicArn": TOPIC, "Message": "You have chosen to subscribe.",
        "SubscribeURL": page, "Timestamp": "2026-11-22T09:14:03.120Z", "SignatureVersion": "2", "SigningCertURL": certificate,
    })
}

fn page(host: &str, token: &str) -> String {
    format!("https://{host}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token={token}")
}

fn notification(id: &str, certificate: &str) -> Value {
    let mail = format!(
        "From: Ana <ana@example.org>\r\nTo: help@acme.example\r\nSubject: {id}\r\nMessage-ID: <{id}@example.org>\r\n\r\nmail {id}\r\n"
    );
    let content = STANDARD.encode(mail);
    let receipt = json!({"recipients": ["help@acme.example"], "action": {"type": "SNS", "encoding": "BASE64", "topicArn": TOPIC}});
    let message = json!({"notificationType": "Received", "mail": {"messageId": id}, "receipt": receipt, "content": content});
    json!({
        "Type": "Notification", "MessageId": format!("id-{id}"), "TopicArn": TOPIC, "Subject": "Amazon SES Email Receipt Notification",
        "Message": message.to_string(), "Timestamp": "2026-11-22T09:14:03.120Z", "SignatureVersion": "2", "SigningCertURL": certificate,
    })
}

async fn call(daemon: &Daemon, message: &Value) -> Message {
    let headers = [("content-type", "text/plain; charset=UTF-8")];
    http1::once(daemon.public, "POST", "/hooks/mails", &headers, message.to_string().as_bytes()).await.unwrap()
}

/// As SNS repeats what was not taken; how often it was told to come again.
async fn until_taken(daemon: &Daemon, message: &Value) -> u32 {
    let (from, mut again) = (Instant::now(), 0);
    loop {
        let answer = call(daemon, message).await;
        if answer.success() {
            return again;
        }
        assert_eq!((answer.status(), answer.header("retry-after")), (503, Some("2")), "{message}");
        assert!(from.elapsed() < PATIENCE, "never taken: {message}\n{}", daemon.log_end(30));
        again += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_is_confirmed_at_sns_and_nowhere_else_and_its_mails_come_in() {
    let folder = tempfile::tempdir().unwrap();
    let Some(signer) = Signer::new(folder.path(), 2100) else { return };
    let [next, stranger, expired] = [2100, 2100, 2025].map(|until| Signer::new(folder.path(), until).unwrap());
    let served = |name: &str, signer: &Signer| (format!("/SimpleNotificationService-{name}.pem"), signer.certificate.clone());
    let mut pages = vec![served("one", &signer), served("next", &next), served("expired", &expired)];
    // What a stranger can have anybody serve who is not SNS.
    pages.push(("/SimpleNotificationService-stranger.pem".to_owned(), stranger.certificate.clone()));
    pages.push(("/stranger/x.pem".to_owned(), stranger.certificate.clone()));
    let Some(amazon) = Amazon::start(pages, folder).await else { return };
    let receiver = Receiver::start().await;
    let mut daemon = Daemon::start(amazon.setup(&receiver)).await;

    // The certificate is not here, then the page is not yet visited, and its first two visits fail. Killed in between: SNS comes again.
    amazon.statuses.lock().unwrap().extend([500, 503]);
    let subscribe = signer.sign(confirmation("SubscriptionConfirmation", "tok-1", &page(HOST, "tok-1"), &certificate("one")));
    assert_eq!(call(&daemon, &subscribe).await.status(), 503);
    let from = Instant::now();
    while amazon.visits("tok-1") == 0 {
        assert_eq!(call(&daemon, &subscribe).await.status(), 503, "not before it is done");
        assert!(from.elapsed() < PATIENCE, "never visited\n{}", daemon.log_end(30));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    daemon.kill();
    daemon.launch();
    daemon.ready().await;
    assert!(until_taken(&daemon, &subscribe).await > 0);
    assert_eq!(amazon.visits("tok-1"), 3, "until it was well answered");
    // SNS repeats itself: known, and not visited again.
    assert_eq!(until_taken(&daemon, &subscribe).await, 0);

    // Hostile: signed by a key that the message itself names somewhere else, or for somebody else, or not at all.
    let before = amazon.asked();
    let from_elsewhere = [
        "https://keys.example.org/SimpleNotificationService-stranger.pem",
        "https://sns.eu-west-1.amazonaws.com.example.org/SimpleNotificationService-stranger.pem",
        "https://s3.amazonaws.com/SimpleNotificationService-stranger.pem",
        "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-stranger.pem",
        "https://sns.eu-west-1.amazonaws.com/stranger/x.pem",
        "https://sns.eu-west-1.amazonaws.com@keys.example.org/SimpleNotificationService-stranger.pem",
        "http://sns.eu-west-1.amazonaws.com/SimpleNotificationService-stranger.pem",
        "https://sns.eu-west-1.amazonaws.com:8443/SimpleNotificationService-stranger.pem",
    ];
    for url in from_elsewhere {
        let message = stranger.sign(confirmation("SubscriptionConfirmation", "tok-2", &page(HOST, "tok-2"), url));
        assert_eq!(call(&daemon, &message).await.status(), 401, "{url}");
    }
    for kind in ["SubscriptionConfirmation", "UnsubscribeConfirmation"] {
        let forged = stranger.sign(confirmation(kind, "tok-3", &page(HOST, "tok-3"), &certificate("one")));
        assert_eq!(call(&daemon, &forged).await.status(), 401, "{kind}");
    }
    let mut other_topic = confirmation("SubscriptionConfirmation", "tok-4", &page(HOST, "tok-4"), &certificate("one"));
    other_topic["TopicArn"] = json!("arn:aws:sns:eu-west-1:000000000002:somebody-elses");
    assert_eq!(call(&daemon, &signer.sign(other_topic)).await.status(), 401);
    let mut changed = subscribe.clone();
    changed["SubscribeURL"] = json!(page(HOST, "tok-5"));
    assert_eq!(call(&daemon, &changed).await.status(), 401, "the page is signed, too");
    // Even what is well signed sends us nowhere but to SNS.
    for elsewhere in ["keys.example.org", "sns.eu-west-1.amazonaws.com.example.org", "127.0.0.1", "s3.amazonaws.com", "169.254.169.254"] {
        let message = signer.sign(confirmation("SubscriptionConfirmation", elsewhere, &page(elsewhere, "tok-6"), &certificate("one")));
        assert_eq!(call(&daemon, &message).await.status(), 200, "{elsewhere}");
    }
    // A certificate that is out of date proves nothing.
    let old = expired.sign(notification("old", &certificate("expired")));
    let from = Instant::now();
    while call(&daemon, &old).await.status() != 401 {
        assert!(from.elapsed() < PATIENCE, "{}", daemon.log_end(30));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    // Mails, by the certificate that is known and by the next one; the first is fetched once a process.
    assert_eq!(until_taken(&daemon, &signer.sign(notification("m1", &certificate("one")))).await, 0);
    assert_eq!(until_taken(&daemon, &signer.sign(notification("m1", &certificate("one")))).await, 0, "once more");
    assert!(until_taken(&daemon, &next.sign(notification("m2", &certificate("next")))).await > 0);
    assert_eq!(until_taken(&daemon, &next.sign(notification("m3", &certificate("next")))).await, 0);
    // The end of the subscription is kept in the ledger, and its page, which would renew it, is not visited.
    let ended = next.sign(confirmation("UnsubscribeConfirmation", "tok-7", &page(HOST, "tok-7"), &certificate("next")));
    assert_eq!(until_taken(&daemon, &ended).await, 0);

    receiver.wait_for("the mails", PATIENCE, |book| book.taken().len() >= 3).await;
    let scrape = daemon.settled(PATIENCE).await;
    scrape.identities_hold();
    let of = |fate: &str| scrape.sum("omnigate_items", &[("channel", "mails"), ("fate", fate)]);
    assert_eq!((of("published"), of("duplicate"), of("ignored"), of("quarantined")), (3, 1, 1, 0));
    let since: Vec<String> = amazon.asked().split_off(before.len());
    let mut wanted = ["expired", "next"].map(|name| certificate(name).replace("https://", ""));
    wanted.sort();
    assert_eq!(since, wanted, "nobody was asked for anything else");
    assert!(!daemon.log_text().contains("tok-1"), "tokens are not written down");
    receiver.no_complaints();
}
