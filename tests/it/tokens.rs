//! The token source against an identity provider: who is asked how often, what is kept when, and what each refusal means.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use omnigate::connector::token::spec::{Algorithm, ClientAuth};
use omnigate::http::client::HttpClient;
use omnigate::model::codes::Code;
use omnigate::model::time::Time;
use omnigate::ports::BoxFuture;
use omnigate::ports::clock::{Clock, Random};
use omnigate::ports::token::{AccessToken, TokenError, TokenKeep, TokenSource};
use omnigate::tokens::assertion::{Signer, SigningKey};
use omnigate::tokens::endpoint::{Client, Endpoint};
use omnigate::tokens::{Credential, CredentialSource, Grant, Means};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::support::daemon::{Daemon, Setup, free_address};
use crate::support::dovecot::certificates;
use crate::support::identity::{CLIENT_SECRET, Identity};
use crate::support::servers::missing;

/// Keeps in memory; can fail. Notes how often the provider had been asked when something was saved.
#[derive(Default)]
pub struct Keep {
    kept: Mutex<BTreeMap<String, Vec<u8>>>,
    broken: AtomicBool,
    saves: AtomicU32,
}

impl Keep {
    pub fn holds(&self, token: &str) -> bool {
        self.kept.lock().unwrap().values().any(|value| String::from_utf8_lossy(value).contains(token))
    }
}

impl TokenKeep for Keep {
    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, String>> {
        let found = self.kept.lock().unwrap().get(name).cloned();
        Box::pin(async move { Ok(found) })
    }
    fn save<'a>(&'a self, name: &'a str, value: Vec<u8>) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            if self.broken.load(Ordering::SeqCst) {
                return Err("disk full".to_owned());
            }
            self.saves.fetch_add(1, Ordering::SeqCst);
            self.kept.lock().unwrap().insert(name.to_owned(), value);
            Ok(())
        })
    }
}

/// A clock that is moved by hand.
#[derive(Default)]
pub struct Hand(Mutex<Duration>);

impl Hand {
    pub fn forward(&self, span: Duration) {
        *self.0.lock().unwrap() += span;
    }
}

impl Clock for Hand {
    fn now(&self) -> Time {
        Time(1_800_000_000_000 + i64::try_from(self.monotonic().as_millis()).unwrap())
    }
    fn monotonic(&self) -> Duration {
        *self.0.lock().unwrap()
    }
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

struct Desk {
    identity: Identity,
    keep: Arc<Keep>,
    clock: Arc<Hand>,
}

impl Desk {
    async fn open() -> Self {
        Self { identity: Identity::start("ana").await, keep: Arc::default(), clock: Arc::default() }
    }

    fn client(&self, secret: Option<&str>) -> Client {
        Client::plain(self.identity.url("token").parse().unwrap(), "omnigate", secret.map(|text| text.to_owned().into()), "mail")
    }

    fn source(&self, grant: Grant) -> CredentialSource {
        CredentialSource::new(Credential { name: "oauth/ana".to_owned(), grant }, self.means())
    }

    fn means(&self) -> Means {
        let endpoint = Endpoint::new(Arc::new(HttpClient::new(false).unwrap()), self.clock.clone());
        Means { endpoint, keep: self.keep.clone(), clock: self.clock.clone(), random: Arc::new(Zero) }
    }

    fn consent(&self, first: Option<&str>) -> Grant {
        Grant::Consent { client: self.client(None), first: first.map(|text| text.to_owned().into()), valid: None }
    }

    /// A source with a consent that begins with a token of the configuration.
    fn consented(&self) -> CredentialSource {
        let first = self.identity.book().refresh_token("ana");
        self.source(self.consent(Some(&first)))
    }
}

/// No jitter.
pub struct Zero;

impl Random for Zero {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(0);
    }
}

async fn word(source: &CredentialSource) -> String {
    source.token(None).await.unwrap().secret.expose_secret().to_owned()
}

fn code(result: Result<AccessToken, TokenError>) -> (bool, Code) {
    match result.unwrap_err() {
        TokenError::Later { code, .. } => (false, code),
        TokenError::Person { code, .. } => (true, code),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_at_once_make_one_question() {
    let desk = Desk::open().await;
    let source = desk.consented();
    let askers: Vec<_> = (0..50)
        .map(|_| {
            let source = source.clone();
            tokio::spawn(async move { word(&source).await })
        })
        .collect();
    for asker in askers {
        assert_eq!(asker.await.unwrap(), "access-2");
    }
    assert_eq!(desk.identity.asked("refresh_token"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_renewed_before_its_end_and_when_it_was_refused() {
    let desk = Desk::open().await;
    let source = desk.consented();
    let first = source.token(None).await.unwrap();
    desk.clock.forward(Duration::from_secs(3600 - 61));
    assert_eq!(source.token(None).await.unwrap().number, first.number);
    desk.clock.forward(Duration::from_secs(2));
    let second = source.token(None).await.unwrap();
    assert_eq!(second.number, first.number + 1, "a minute before its end");
    assert_eq!(source.token(Some(&first)).await.unwrap().number, second.number, "an old one was refused: there is a newer one already");
    assert_eq!(source.token(Some(&second)).await.unwrap().number, second.number + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_refresh_token_is_durable_before_anything_is_done_with_it() {
    let desk = Desk::open().await;
    desk.identity.book().rotate = true;
    let source = desk.consented();
    word(&source).await;
    assert!(desk.keep.holds("refresh-2"), "the new one is kept, with the first answer");
    // The disk is full when the next one arrives: no token is given, for its refresh token could be lost.
    desk.keep.broken.store(true, Ordering::SeqCst);
    desk.clock.forward(Duration::from_secs(3600));
    assert_eq!(code(source.token(None).await), (false, Code::StoreUnavailable));
    assert_eq!(desk.identity.asked("refresh_token"), 2);
    // It is kept first, as soon as that is possible, and only then used.
    desk.keep.broken.store(false, Ordering::SeqCst);
    desk.clock.forward(Duration::from_secs(10));
    word(&source).await;
    let used: Vec<String> = desk.identity.book().asked.iter().map(|fields| fields["refresh_token"].clone()).collect();
    assert_eq!(used, ["refresh-1", "refresh-2", "refresh-4"], "none is used twice");
    // A restart goes on with what was kept, though the configuration still holds the first.
    let again = desk.source(desk.consent(Some("refresh-1")));
    word(&again).await;
    assert_eq!(desk.identity.book().asked.last().unwrap()["refresh_token"], "refresh-6");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_goes_on_when_its_asker_is_gone() {
    let desk = Desk::open().await;
    desk.identity.book().rotate = true;
    desk.identity.book().slow = Duration::from_millis(300);
    let source = desk.consented();
    {
        let mut asked = std::pin::pin!(source.token(None));
        // Polled once, so that the question is on its way, and given up.
        assert!(futures_util::FutureExt::now_or_never(&mut asked).is_none());
    }
    assert_eq!(word(&source).await, "access-3", "the answer of the one question");
    assert_eq!((desk.identity.asked("refresh_token"), desk.keep.holds("refresh-2")), (1, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_is_told_from_a_consent_that_is_gone() {
    let desk = Desk::open().await;
    let none = desk.source(desk.consent(None));
    assert_eq!(code(none.token(None).await), (true, Code::LoginNeeded));
    let source = desk.consented();
    let fail = |status: u16, body: Value| desk.identity.book().failures.push_back((status, body));
    for (status, body, expected) in [
        (500, json!({}), (false, Code::Unreachable)),
        (429, json!({}), (false, Code::Throttled)),
        (200, json!({"token": 1}), (false, Code::Protocol)),
        (404, json!("not found"), (false, Code::Protocol)),
        (400, json!({"error": "temporarily_unavailable"}), (false, Code::Unreachable)),
        (401, json!({"error": "invalid_client"}), (true, Code::AuthFailed)),
        (302, json!({}), (false, Code::Unreachable)),
    ] {
        fail(status, body);
        assert_eq!(code(source.token(None).await), expected, "{status}");
        desk.clock.forward(Duration::from_secs(61));
    }
    word(&source).await;
    desk.identity.book().refresh.clear();
    desk.clock.forward(Duration::from_secs(3600));
    let asked = desk.identity.asked("refresh_token");
    let error = source.token(None).await.unwrap_err();
    assert!(matches!(error, TokenError::Person { code: Code::ConsentExpired, .. }) && !error.to_string().contains("Ana"), "{error}");
    for _ in 0..10 {
        assert_eq!(code(source.token(None).await), (true, Code::ConsentExpired));
    }
    assert_eq!(desk.identity.asked("refresh_token"), asked + 1, "a lost consent is not asked for again and again");
    // A new log-in helps at once.
    let fresh = desk.identity.book().refresh_token("ana");
    source.adopt(fresh.into(), Some(Duration::from_secs(86_400))).await.unwrap();
    word(&source).await;
    assert_eq!(source.consent_ends().await, Some(desk.clock.now().plus_ms(86_400_000)));
    let url = format!("http://{}/token", free_address()).parse().unwrap();
    let dead = desk.source(Grant::Client(Client::plain(url, "omnigate", None, "mail")));
    assert_eq!(code(dead.token(None).await), (false, Code::Unreachable));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_lost_answer_the_old_refresh_token_is_tried_again_and_then_a_person_is_told_why() {
    let desk = Desk::open().await;
    let source = desk.consented();
    // A provider that does not rotate them, or takes the old one once more: nobody notices.
    desk.identity.book().cut = 1;
    assert_eq!(code(source.token(None).await), (false, Code::Unreachable));
    assert_eq!(code(source.token(None).await), (false, Code::Unreachable), "not asked again at once");
    desk.clock.forward(Duration::from_secs(6));
    word(&source).await;
    // One that takes each only once: the successor was in the answer that is lost.
    desk.identity.book().rotate = true;
    desk.identity.book().cut = 1;
    desk.clock.forward(Duration::from_secs(3600));
    assert_eq!(code(source.token(None).await), (false, Code::Unreachable));
    desk.clock.forward(Duration::from_secs(6));
    let error = source.token(None).await.unwrap_err();
    assert!(matches!(error, TokenError::Person { code: Code::ConsentExpired, .. }), "{error}");
    assert!(error.to_string().contains("omnigate channel login") && error.to_string().contains("was lost"), "{error}");
    assert_eq!(source.trouble(), Some(error));
    let used: Vec<String> = desk.identity.book().asked.iter().map(|fields| fields["refresh_token"].clone()).collect();
    assert_eq!(used, ["refresh-1"; 4]);
    // A process that was killed between the answer and the store is in the same place: it tries what it has.
    let again = desk.source(desk.consent(Some("refresh-1")));
    assert_eq!(code(again.token(None).await), (true, Code::ConsentExpired));
    // A log-in mends both.
    let fresh = desk.identity.book().refresh_token("ana");
    source.adopt(fresh.into(), None).await.unwrap();
    word(&source).await;
    assert_eq!(source.trouble(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_in_place_of_an_answer_is_trouble_of_the_moment() {
    let desk = Desk::open().await;
    let source = desk.consented();
    desk.identity.book().pages = 1;
    assert_eq!(code(source.token(None).await), (false, Code::Protocol));
    desk.clock.forward(Duration::from_secs(6));
    word(&source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_refuses_every_token_does_not_wear_the_provider_out() {
    let desk = Desk::open().await;
    let source = desk.consented();
    let mut last = source.token(None).await.unwrap();
    let mut given = 1;
    while let Ok(next) = source.token(Some(&last)).await {
        (last, given) = (next, given + 1);
        assert!(given < 20);
    }
    assert_eq!((given, desk.identity.asked("refresh_token")), (6, 6));
    assert_eq!(code(source.token(Some(&last)).await), (true, Code::AuthFailed));
    desk.clock.forward(Duration::from_secs(61));
    word(&source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_show_its_secret_in_a_header() {
    let desk = Desk::open().await;
    let client = Client { auth: ClientAuth::Basic, ..desk.client(Some("a secret/with:signs")) };
    let first = desk.identity.book().refresh_token("ana");
    let source = desk.source(Grant::Consent { client, first: Some(first.into()), valid: None });
    word(&source).await;
    let asked = desk.identity.book().asked[0].clone();
    let expected = base64::engine::general_purpose::STANDARD.encode("omnigate:a+secret%2Fwith%3Asigns");
    assert_eq!(asked["authorization"], format!("Basic {expected}"));
    assert!(!asked.contains_key("client_secret") && !asked.contains_key("client_id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_tokens_by_its_own_secret() {
    let desk = Desk::open().await;
    let source = desk.source(Grant::Client(desk.client(Some(CLIENT_SECRET))));
    word(&source).await;
    let asked = desk.identity.book().asked[0].clone();
    assert_eq!((asked["scope"].as_str(), asked["client_id"].as_str()), ("mail", "omnigate"));
    assert_eq!(desk.keep.saves.load(Ordering::SeqCst), 0, "nothing of it needs keeping");
}

/// The assertion is verified by another program than the one that made it.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_signs_for_whom_it_speaks() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let openssl = |args: &[&str]| Command::new("openssl").args(args).output();
    let Ok(made) = openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", &at("key.pem")]) else {
        return missing("openssl");
    };
    assert!(made.status.success());
    assert!(openssl(&["pkey", "-in", &at("key.pem"), "-pubout", "-out", &at("public.pem")]).unwrap().status.success());
    let desk = Desk::open().await;
    let file = json!({
        "type": "service_account", "client_email": "gate@project.example", "private_key_id": "k1",
        "private_key": std::fs::read_to_string(at("key.pem")).unwrap(), "token_uri": desk.identity.url("token"),
    });
    let key = SigningKey::read(&file.to_string().into(), Algorithm::RS256).unwrap();
    assert_eq!(key.token_url.as_ref().unwrap().as_str(), desk.identity.url("token"));
    let url = desk.identity.url("token");
    let claims = json!({"iss": key.email, "sub": "support@acme.example", "scope": "mail", "aud": url});
    let signer = Signer { key_id: key.id.clone(), key, claims: claims.as_object().cloned().unwrap(), life: Duration::from_secs(3600) };
    let source = desk.source(Grant::Assertion { client: desk.client(None), signer: Box::new(signer) });
    word(&source).await;
    let assertion = desk.identity.book().asked[0]["assertion"].clone();
    let parts: Vec<&str> = assertion.split('.').collect();
    let read = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    assert_eq!(read(parts[0]), json!({"alg": "RS256", "typ": "JWT", "kid": "k1"}));
    let claims = read(parts[1]);
    assert_eq!((&claims["iss"], &claims["sub"]), (&json!("gate@project.example"), &json!("support@acme.example")));
    assert_eq!((&claims["aud"], &claims["scope"]), (&json!(desk.identity.url("token")), &json!("mail")));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3600);
    std::fs::write(at("signed"), format!("{}.{}", parts[0], parts[1])).unwrap();
    std::fs::write(at("signature"), URL_SAFE_NO_PAD.decode(parts[2]).unwrap()).unwrap();
    let verified = openssl(&["dgst", "-sha256", "-verify", &at("public.pem"), "-signature", &at("signature"), &at("signed")]).unwrap();
    assert!(verified.status.success(), "{verified:?}");
    for bad in ["", "{}", r#"{"client_email":"a","private_key":"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}"#] {
        let why = SigningKey::read(&bad.to_owned().into(), Algorithm::RS256).unwrap_err();
        assert!(!why.contains("AAAA"), "{why}");
    }
}

/// A token endpoint over TLS that knows one answer.
async fn secure_endpoint(folder: &std::path::Path) -> std::net::SocketAddr {
    use rustls::pki_types::pem::PemObject;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let certificate = rustls::pki_types::CertificateDer::from_pem_file(folder.join("cert.pem")).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut request = Vec::new();
                while !String::from_utf8_lossy(&request).contains("grant_type=client_credentials") {
                    let mut piece = [0; 1024];
                    match stream.read(&mut piece).await {
                        Ok(read) if read > 0 => request.extend_from_slice(&piece[..read]),
                        _ => return,
                    }
                }
                let body = r#"{"access_token":"over-tls","expires_in":"3600"}"#;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn the_identity_provider_must_show_a_certificate_that_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let ca = certificates(folder.path());
    std::fs::write(folder.path().join("ca.pem"), ca).unwrap();
    let endpoint = secure_endpoint(folder.path()).await;
    let channel = format!(
        "connector = \"imap\"\n[imap]\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\nuser = \"ana\"\n[oauth]\ngrant = \"client_credentials\"\n\
         client_id = \"omnigate\"\nscopes = [\"mail\"]\ntoken_url = \"https://localhost:{}/token\"\n[secrets]\nclient_secret = {{ env = \"S\" }}\n",
        free_address().port(),
        endpoint.port()
    );
    let mut setup = Setup { channels: BTreeMap::from([("support".to_owned(), channel)]), ..Setup::default() };
    setup.env = BTreeMap::from([("S".to_owned(), "secret".to_owned())]);
    let check = |setup: &Setup| Daemon::prepare(setup.clone()).command(&["check", "--connect"]).1;
    let refused = check(&setup);
    assert!(refused.contains("tls: identity provider localhost:") && refused.contains("certificate: UnknownIssuer"), "{refused}");
    setup.env.insert("SSL_CERT_FILE".to_owned(), folder.path().join("ca.pem").to_str().unwrap().to_owned());
    let passed = check(&setup);
    assert!(passed.contains("unreachable: connecting to 127.0.0.1:"), "the token was got, the mail server is what is dead: {passed}");
}
