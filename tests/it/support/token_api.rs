//! A platform's API that takes only tokens which its identity provider gave: a list, files, names, and who one is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use crate::support::identity::Identity;

/// One request.
#[derive(Debug, Clone)]
pub struct Ask {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Ask {
    /// The token of `Authorization: Bearer …`.
    pub fn bearer(&self) -> &str {
        self.headers.get("authorization").and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default()
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

type Answer = Box<dyn FnMut(&Ask) -> (u16, Value) + Send>;

struct Shared {
    answer: Mutex<Answer>,
    asked: Mutex<Vec<Ask>>,
}

/// A running API. Ends with the runtime of its test.
pub struct TokenApi {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let headers = request.headers().iter().map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let (method, headers) = (request.method().to_string(), headers.collect());
    let target = request.uri().path_and_query().unwrap().to_string();
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let ask = Ask { method, target, headers, body: String::from_utf8_lossy(&body).into_owned() };
    shared.asked.lock().unwrap().push(ask.clone());
    let (status, body) = shared.answer.lock().unwrap()(&ask);
    let status = StatusCode::from_u16(status).unwrap();
    match body {
        Value::String(text) => (status, [("content-type", "image/png")], text).into_response(),
        body => (status, axum::Json(body)).into_response(),
    }
}

impl TokenApi {
    /// Starts it; a text is the bytes of a file, all else JSON.
    pub async fn start(answer: impl FnMut(&Ask) -> (u16, Value) + Send + 'static) -> Self {
        let shared = Arc::new(Shared { answer: Mutex::new(Box::new(answer)), asked: Mutex::default() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(serve).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, shared }
    }

    /// The same, behind the tokens of an identity provider: all else is answered 401.
    pub async fn behind(identity: Arc<Identity>, mut answer: impl FnMut(&Ask) -> Value + Send + 'static) -> Self {
        Self::start(move |ask| {
            let known = identity.book().access.contains_key(ask.bearer());
            if known { (200, answer(ask)) } else { (401, serde_json::json!({"error": "invalid_token"})) }
        })
        .await
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn asked(&self) -> MutexGuard<'_, Vec<Ask>> {
        self.shared.asked.lock().unwrap()
    }

    /// How often something was asked for.
    pub fn count(&self, path: &str) -> usize {
        self.asked().iter().filter(|ask| ask.path() == path).count()
    }
}
