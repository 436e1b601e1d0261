//! An identity provider: the token endpoint with every grant, device and browser log-in, introspection for Dovecot. It can rotate
//! refresh tokens, withdraw consent, fail, and remembers what it was asked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The secret of the one client.
pub const CLIENT_SECRET: &str = "a-client-secret-only-for-tests";

type Fields = BTreeMap<String, String>;

/// What becomes of an answer that is ready: what was asked is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hold {
    /// It is said.
    #[default]
    Said,
    /// It is never said; the connection stays open.
    Never,
    /// Half of it is said, and then no more.
    Half,
    /// It is said after a while.
    Late(Duration),
}

/// What it knows and was asked.
#[derive(Debug, Default)]
pub struct Book {
    /// Access tokens that are good, and whose they are.
    pub access: BTreeMap<String, String>,
    /// Refresh tokens that are good, and whose they are.
    pub refresh: BTreeMap<String, String>,
    /// Every refresh gives another refresh token and ends the one that was used.
    pub rotate: bool,
    /// Seconds an access token is good for, as told.
    pub expires_in: i64,
    /// Seconds a refresh token is good for, if told.
    pub refresh_expires_in: Option<i64>,
    /// Answers of the token endpoint instead of the right ones: status and body.
    pub failures: VecDeque<(u16, Value)>,
    /// What the token endpoint was asked.
    pub asked: Vec<Fields>,
    /// So many answers are lost: what was asked is done, and the connection ends.
    pub cut: u32,
    /// So many answers are a page for people.
    pub pages: u32,
    /// What it gives is not known to it: APIs refuse it.
    pub forgetful: bool,
    /// How long the token endpoint takes to answer.
    pub slow: Duration,
    /// What becomes of the answers.
    pub hold: Hold,
    /// Questions that are open, and the most there were at once.
    open: u32,
    pub open_max: u32,
    /// How often the person has not yet said yes to the device.
    pub pending: u32,
    /// The consent was given in the browser: `code` → challenge, redirect URI.
    codes: BTreeMap<String, (String, String)>,
    /// Whose consent the log-ins give, and whose tokens a client gets by itself.
    pub user: String,
    spent: BTreeSet<String>,
    made: u32,
}

impl Book {
    fn access_token(&mut self, user: &str) -> String {
        self.made += 1;
        let token = format!("access-{}", self.made);
        if !self.forgetful {
            self.access.insert(token.clone(), user.to_owned());
        }
        token
    }

    /// A refresh token of a user, given to somebody.
    pub fn refresh_token(&mut self, user: &str) -> String {
        self.made += 1;
        let token = format!("refresh-{}", self.made);
        self.refresh.insert(token.clone(), user.to_owned());
        token
    }
}

/// A running identity provider. Ends with the runtime of its test.
pub struct Identity {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Mutex<Book>>,
}

type Shared = State<Arc<Mutex<Book>>>;

impl Identity {
    /// Starts it for one user.
    pub async fn start(user: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let book = Book { expires_in: 3600, user: user.to_owned(), ..Book::default() };
        let shared = Arc::new(Mutex::new(book));
        let router = Router::new()
            .route("/token", post(token))
            .route("/device", post(device))
            .route("/authorize", get(authorize))
            .route("/introspect", post(introspect))
            .with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, shared }
    }

    /// An endpoint of it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// What it knows and was asked.
    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.shared.lock().unwrap()
    }

    /// How often a grant was asked for.
    pub fn asked(&self, grant: &str) -> usize {
        self.book().asked.iter().filter(|fields| fields.get("grant_type").is_some_and(|known| known.ends_with(grant))).count()
    }
}

fn form(body: &str) -> Fields {
    url::form_urlencoded::parse(body.as_bytes()).into_owned().collect()
}

fn refused(error: &str) -> Response {
    let body = json!({"error": error, "error_description": "said by the identity provider about Ana"});
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

/// A question until it is answered, or nobody waits for its answer any more.
struct Open(Arc<Mutex<Book>>);

impl Open {
    fn new(shared: Arc<Mutex<Book>>) -> Self {
        {
            let mut book = shared.lock().unwrap();
            book.open += 1;
            book.open_max = book.open_max.max(book.open);
        }
        Self(shared)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().unwrap().open -= 1;
    }
}

async fn token(State(shared): Shared, headers: HeaderMap, body: String) -> Response {
    let open = Open::new(shared.clone());
    let answer = answer(shared.clone(), headers, body).await;
    let hold = shared.lock().unwrap().hold;
    match hold {
        Hold::Said => answer,
        Hold::Late(span) => {
            tokio::time::sleep(span).await;
            answer
        }
        Hold::Never => std::future::pending().await,
        Hold::Half => {
            let whole = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
            let half = whole.slice(..whole.len() / 2);
            let rest = async move {
                let _open = open;
                std::future::pending::<Result<bytes::Bytes, std::io::Error>>().await
            };
            let body = futures_util::StreamExt::chain(futures_util::stream::iter([Ok(half)]), futures_util::stream::once(rest));
            let head = Response::builder().header("content-type", "application/json").header("content-length", whole.len());
            head.body(axum::body::Body::from_stream(body)).unwrap()
        }
    }
}

async fn answer(shared: Arc<Mutex<Book>>, headers: HeaderMap, body: String) -> Response {
    let mut fields = form(&body);
    if let Some(value) = headers.get("authorization") {
        fields.insert("authorization".to_owned(), value.to_str().unwrap().to_owned());
    }
    let slow = shared.lock().unwrap().slow;
    tokio::time::sleep(slow).await;
    let mut book = shared.lock().unwrap();
    let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
    book.asked.push(fields.clone());
    if let Some((status, body)) = book.failures.pop_front() {
        return (StatusCode::from_u16(status).unwrap(), [("retry-after", "3")], Json(body)).into_response();
    }
    if book.pages > 0 {
        book.pages -= 1;
        return axum::response::Html("<html><body>Please log in</body></html>").into_response();
    }
    let user = book.user.clone();
    let granted = match field("grant_type").as_str() {
        "refresh_token" => match book.refresh.get(&field("refresh_token")).cloned() {
            None => return refused("invalid_grant"),
            Some(_) if book.spent.contains(&field("refresh_token")) => return refused("invalid_grant"),
            Some(user) => {
                let rotated = book.rotate.then(|| {
                    book.spent.insert(field("refresh_token"));
                    book.refresh_token(&user)
                });
                (user, rotated)
            }
        },
        "client_credentials" if field("client_secret") == CLIENT_SECRET => (user, None),
        "client_credentials" => return refused("invalid_client"),
        "urn:ietf:params:oauth:grant-type:jwt-bearer" => (user, None),
        "urn:ietf:params:oauth:grant-type:device_code" if book.pending > 0 => {
            book.pending -= 1;
            return refused("authorization_pending");
        }
        "urn:ietf:params:oauth:grant-type:device_code" if field("device_code") == "device-1" => {
            let refresh = book.refresh_token(&user);
            (user, Some(refresh))
        }
        "authorization_code" => match book.codes.remove(&field("code")) {
            Some((challenge, redirect))
                if URL_SAFE_NO_PAD.encode(Sha256::digest(field("code_verifier"))) == challenge && redirect == field("redirect_uri") =>
            {
                let refresh = book.refresh_token(&user);
                (user, Some(refresh))
            }
            _ => return refused("invalid_grant"),
        },
        _ => return refused("unsupported_grant_type"),
    };
    let access = book.access_token(&granted.0);
    let mut answer = json!({"access_token": access, "token_type": "Bearer", "expires_in": book.expires_in});
    if let Some(refresh) = granted.1 {
        answer["refresh_token"] = refresh.into();
    }
    if let Some(seconds) = book.refresh_expires_in {
        answer["refresh_token_expires_in"] = seconds.into();
    }
    if book.cut > 0 {
        book.cut -= 1;
        let broken = futures_util::stream::iter([Ok("{".to_owned()), Err(std::io::Error::other("cut"))]);
        return Response::builder().header("content-length", "1000").body(axum::body::Body::from_stream(broken)).unwrap();
    }
    Json(answer).into_response()
}

async fn device() -> Response {
    Json(json!({
        "device_code": "device-1", "user_code": "ABCD-EFGH", "verification_uri": "https://login.example.org/device",
        "expires_in": 60, "interval": 1
    }))
    .into_response()
}

/// What the provider does once the person has said yes in the browser.
async fn authorize(State(shared): Shared, Query(fields): Query<Fields>) -> Response {
    let mut book = shared.lock().unwrap();
    assert_eq!((fields["response_type"].as_str(), fields["code_challenge_method"].as_str()), ("code", "S256"));
    let redirect = fields["redirect_uri"].clone();
    book.codes.insert("code-1".to_owned(), (fields["code_challenge"].clone(), redirect.clone()));
    Redirect::to(&format!("{redirect}?code=code-1&state={}", fields["state"])).into_response()
}

async fn introspect(State(shared): Shared, body: String) -> Json<Value> {
    let fields = form(&body);
    let book = shared.lock().unwrap();
    Json(match book.access.get(fields.get("token").map_or("", String::as_str)) {
        Some(user) => json!({"active": true, "email": user, "scope": "mail"}),
        None => json!({"active": false}),
    })
}
