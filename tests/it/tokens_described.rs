//! Tokens by calls that a manifest describes: sessions, long-lived tokens, tokens that we sign. The platform is a script.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use omnigate::app::tokens::{LazyHttp, Tokens};
use omnigate::connector::folder::Folder;
use omnigate::connector::jq;
use omnigate::connector::kit::ChannelKit;
use omnigate::connector::load::Connector;
use omnigate::connector::problem::render;
use omnigate::connector::reader::ChannelSpec;
use omnigate::logic::digest::Digester;
use omnigate::model::codes::Code;
use omnigate::model::event::Priority;
use omnigate::ports::token::{TokenError, TokenKeep, TokenSource};
use omnigate::tokens::CredentialSource;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::support::token_api::{Ask, TokenApi};
use crate::tokens::{Hand, Keep, Zero};

/// What the platform says next.
type Script = Arc<Mutex<VecDeque<(u16, Value)>>>;

struct Desk {
    api: TokenApi,
    script: Script,
    keep: Arc<Keep>,
    clock: Arc<Hand>,
}

impl Desk {
    async fn open() -> Self {
        let script: Script = Arc::default();
        let said = script.clone();
        let api =
            TokenApi::start(move |ask: &Ask| said.lock().unwrap().pop_front().unwrap_or_else(|| panic!("not expected: {ask:?}"))).await;
        Self { api, script, keep: Arc::default(), clock: Arc::default() }
    }

    fn says(&self, status: u16, body: Value) {
        self.script.lock().unwrap().push_back((status, body));
    }

    /// What was asked since the last time: target, `Authorization`, body.
    fn asked(&self) -> Vec<String> {
        let show = |ask: Ask| {
            let bearer = ask.headers.get("authorization").map(|value| format!(" [{value}]")).unwrap_or_default();
            format!("{} {}{bearer} {}", ask.method, ask.target, ask.body).trim().to_owned()
        };
        self.api.asked().drain(..).map(show).collect()
    }

    fn kit(&self, auth: &str, secrets: &[(&str, &str)]) -> ChannelKit {
        let head = "name = \"chat\"\ntitle = \"Chat\"\nabout = \"For tests.\"\n[settings.api]\ntype = \"url\"\nhelp = \"Base.\"\n\
            [settings.name]\ntype = \"text\"\ndefault = \"ana\"\nhelp = \"Name.\"\n[secrets.one]\nhelp = \"One.\"\n[secrets.two]\n\
            optional = true\nhelp = \"Two.\"\n[poll.all.request]\nget = \"{settings.api}/all\"\nauth = \"account\"\n";
        let files = [("connector.toml", format!("{head}{auth}")), ("map.jq", "empty".to_owned())];
        let files = files.map(|(name, text)| (name.to_owned(), text.into_bytes().into()));
        let folder = Folder { name: "chat".to_owned(), origin: "chat".to_owned(), files: files.into() };
        let connector = Connector::load(folder, jq::Limits::default()).unwrap_or_else(|problems| panic!("{}", render(&problems)));
        let spec = ChannelSpec {
            id: "desk".to_owned(),
            file: "desk.toml".to_owned(),
            account: None,
            labels: BTreeMap::new(),
            priority: Priority::Normal,
            settings: json!({"api": self.api.url()}).as_object().cloned().unwrap(),
            secrets: secrets.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned().into()])).collect(),
            verify_none: false,
            map: None,
            new_after_ms: None,
            back: None,
        };
        ChannelKit::of(Arc::new(connector), &spec)
    }

    /// A fresh process over what is kept.
    fn source(&self, auth: &str, secrets: &[(&str, &str)]) -> Arc<CredentialSource> {
        let keep: Arc<dyn TokenKeep> = self.keep.clone();
        let tokens = Tokens::new(keep, Digester::new(&[7; 32]), Arc::new(LazyHttp::default()), self.clock.clone(), Arc::new(Zero));
        let kit = self.kit(auth, secrets);
        let plan = kit.connector.tokens["account"].clone();
        tokens.described(&kit, &plan).unwrap_or_else(|why| panic!("{why}"))
    }
}

async fn word(source: &CredentialSource) -> String {
    source.token(None).await.unwrap().secret.expose_secret().to_owned()
}

async fn code(source: &CredentialSource) -> (bool, Code) {
    let error = source.token(None).await.unwrap_err();
    (matches!(error, TokenError::Person { .. }), error.code())
}

const SESSION: &str = r#"
[auth.account]
kind = "session"
login = { post = "{settings.api}/login", json = { name = "{settings.name}", password = "{secrets.one}" } }
refresh = { post = "{settings.api}/renew", headers = { authorization = "Bearer {token}" } }
take = { token = ".access", refresh_token = ".next" }
errors = [{ status = [400], when = '.error == "ExpiredToken"', then = "denied" }]
life = "2h"
"#;

const LOGIN: &str = r#"POST /login {"name":"ana","password":"secret"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_continued_and_begun_anew_where_it_cannot_be() {
    let desk = Desk::open().await;
    let session = |number: u32| json!({"access": format!("a{number}"), "next": format!("n{number}")});
    let source = desk.source(SESSION, &[("one", "secret")]);
    desk.says(200, session(1));
    assert_eq!(word(&source).await, "a1");
    assert_eq!(word(&source).await, "a1");
    assert_eq!(desk.asked(), [LOGIN]);
    assert!(desk.keep.holds("n1"), "what continues it is kept before its token is used");
    desk.clock.forward(Duration::from_secs(2 * 3600 - 59));
    desk.says(200, session(2));
    assert_eq!(word(&source).await, "a2");
    assert_eq!(desk.asked(), ["POST /renew [Bearer n1]"]);
    // After a restart it is continued: log-ins are few.
    let source = desk.source(SESSION, &[("one", "secret")]);
    desk.says(503, json!({}));
    assert_eq!(code(&source).await, (false, Code::Unreachable));
    desk.clock.forward(Duration::from_secs(6));
    desk.says(200, session(3));
    assert_eq!(word(&source).await, "a3");
    assert_eq!(desk.asked(), ["POST /renew [Bearer n2]", "POST /renew [Bearer n2]"]);
    // Used up by an answer that was lost, expired or withdrawn: we log in again, no person is needed.
    let refused = source.token(None).await.unwrap();
    desk.says(400, json!({"error": "ExpiredToken"}));
    desk.says(200, session(4));
    assert_eq!(source.token(Some(&refused)).await.unwrap().secret.expose_secret(), "a4");
    assert_eq!(desk.asked(), ["POST /renew [Bearer n3]", LOGIN]);
    // The password is wrong.
    desk.clock.forward(Duration::from_secs(2 * 3600));
    desk.says(400, json!({"error": "ExpiredToken"}));
    desk.says(401, json!({"error": "AuthenticationRequired", "message": "Invalid identifier or password"}));
    let error = source.token(None).await.unwrap_err();
    assert_eq!(error.code(), Code::AuthFailed);
    assert!(error.to_string().contains("log-in refused") && !error.to_string().contains("secret"), "{error}");
    desk.asked();
    desk.clock.forward(Duration::from_secs(61));
    // A page for people is no answer, whatever its status.
    desk.says(200, Value::from("<html>Please log in</html>"));
    assert_eq!(code(&source).await, (false, Code::Protocol));
}

const LONG: &str = r#"
[auth.account]
kind = "long_lived"
secret = "one"
exchange = { get = "{settings.api}/exchange", query = { secret = "{secrets.two}", token = "{token}" } }
refresh = { get = "{settings.api}/renew", query = { token = "{token}" } }
take = { token = ".access_token", expires_in = ".expires_in" }
refresh_before = "20d"
show = { query = "access_token" }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_long_lived_token_is_renewed_long_before_its_end_and_used_to_it() {
    const DAY: Duration = Duration::from_secs(86_400);
    let desk = Desk::open().await;
    let secrets = [("one", "short"), ("two", "app")];
    let long = |number: u32| json!({"access_token": format!("l{number}"), "expires_in": 60 * 86_400});
    let source = desk.source(LONG, &secrets);
    desk.says(200, long(1));
    assert_eq!(word(&source).await, "l1");
    assert_eq!(desk.asked(), ["GET /exchange?secret=app&token=short"]);
    let ends = desk.now_plus(60 * DAY);
    assert_eq!(source.consent_ends().await, Some(ends), "its end is counted down");
    // A restart asks nobody.
    desk.clock.forward(30 * DAY);
    let source = desk.source(LONG, &secrets);
    assert_eq!(word(&source).await, "l1");
    assert!(desk.asked().is_empty());
    // Due: nobody uses it, and it is renewed all the same.
    desk.clock.forward(11 * DAY);
    desk.says(500, json!({}));
    source.tend().await;
    assert_eq!(desk.asked(), ["GET /renew?token=l1"]);
    assert_eq!(word(&source).await, "l1", "it could not be renewed, and is good for 19 days yet");
    desk.clock.forward(DAY);
    desk.says(200, long(2));
    source.tend().await;
    assert_eq!((word(&source).await, desk.asked()), ("l2".to_owned(), vec!["GET /renew?token=l1".to_owned()]));
    assert!(desk.keep.holds("l2"));
    // Withdrawn.
    let refused = source.token(None).await.unwrap();
    desk.says(400, json!({"error": {"message": "Error validating access token"}}));
    let error = source.token(Some(&refused)).await.unwrap_err();
    assert_eq!(error.code(), Code::ConsentExpired);
    assert!(error.to_string().contains("put a new one into the secret `one`"), "{error}");
    // A new one in the channel file takes over, long-lived already or not.
    desk.asked();
    let source = desk.source(LONG, &[("one", "another"), ("two", "app")]);
    desk.says(400, json!({"error": {"message": "cannot be exchanged"}}));
    assert_eq!(word(&source).await, "another");
    desk.clock.forward(2 * DAY);
    desk.says(200, long(3));
    assert_eq!(word(&source).await, "l3", "its end was unknown: asking for the next tells it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_we_sign_is_the_credential_itself() {
    let desk = Desk::open().await;
    let pair = rcgen::KeyPair::generate().unwrap();
    let auth = r#"
[auth.account]
kind = "jwt_bearer"
algorithm = "ES256"
key = "one"
key_id = "K1"
issuer = "{settings.name}"
audience = "appstoreconnect-v1"
life = "20m"
"#;
    let source = desk.source(auth, &[("one", &pair.serialize_pem())]);
    let first = word(&source).await;
    let parts: Vec<&str> = first.split('.').collect();
    let read = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    assert_eq!(read(parts[0]), json!({"alg": "ES256", "typ": "JWT", "kid": "K1"}));
    let claims = read(parts[1]);
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!("ana"), &json!("appstoreconnect-v1")));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 1200);
    let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_FIXED, pair.public_key_raw());
    let signed = format!("{}.{}", parts[0], parts[1]);
    key.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(parts[2]).unwrap()).unwrap();
    desk.clock.forward(Duration::from_secs(1200 - 59));
    assert_ne!(word(&source).await, first, "signed anew before its end");
    assert!(desk.asked().is_empty());
    let kit = desk.kit(auth, &[("one", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")]);
    let tokens = Tokens::new(desk.keep.clone(), Digester::new(&[7; 32]), Arc::default(), desk.clock.clone(), Arc::new(Zero));
    let why = tokens.wallet(&kit).unwrap_err();
    assert!(why.contains("[auth.account]: `one`: no P-256 key in PEM") && !why.contains("AAAA"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn roads_of_one_credential_share_a_source_and_other_credentials_do_not() {
    let desk = Desk::open().await;
    let tokens = Tokens::new(desk.keep.clone(), Digester::new(&[7; 32]), Arc::default(), desk.clock.clone(), Arc::new(Zero));
    let of = |secret: &str| {
        let kit = desk.kit(SESSION, &[("one", secret)]);
        let plan = kit.connector.tokens["account"].clone();
        tokens.described(&kit, &plan).unwrap()
    };
    let (one, same, other) = (of("a"), of("a"), of("b"));
    assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
}

impl Desk {
    fn now_plus(&self, span: Duration) -> omnigate::model::time::Time {
        use omnigate::ports::clock::Clock;
        self.clock.now().plus(span)
    }
}
