//! A platform that is asked: a closure over the target of each request says what it does.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::body::Body as HttpBody;
use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::Value;

/// What the platform does with one request.
#[derive(Clone)]
pub enum Answer {
    Plain(u16, Vec<(&'static str, String)>, String),
    /// Holds it for ever.
    Stall,
    /// Says that more follows, and ends.
    Cut,
}

/// An answer of 200.
pub fn said(body: &Value) -> Answer {
    Answer::Plain(200, Vec::new(), body.to_string())
}

type Ask = Box<dyn FnMut(&str) -> Answer + Send>;

/// A platform: a closure over the target of each request.
pub struct Platform {
    pub address: SocketAddr,
    pub asked: Arc<Mutex<Vec<(Instant, String)>>>,
    ask: Arc<Mutex<Ask>>,
}

type Shared = (Arc<Mutex<Ask>>, Arc<Mutex<Vec<(Instant, String)>>>);

async fn serve(State((ask, asked)): State<Shared>, request: Request) -> Response {
    let target = request.uri().path_and_query().unwrap().to_string();
    asked.lock().unwrap().push((Instant::now(), target.clone()));
    let answer = ask.lock().unwrap()(&target);
    match answer {
        Answer::Plain(status, headers, body) => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(HttpBody::from(body)).unwrap()
        }
        Answer::Stall => std::future::pending().await,
        Answer::Cut => {
            let broken = futures_util::stream::iter([Ok("{\"items\": [".to_owned()), Err(std::io::Error::other("cut"))]);
            Response::builder().header("content-length", "1000").body(HttpBody::from_stream(broken)).unwrap()
        }
    }
}

impl Platform {
    pub async fn start(ask: impl FnMut(&str) -> Answer + Send + 'static) -> Self {
        let (ask, asked): (Arc<Mutex<Ask>>, _) = (Arc::new(Mutex::new(Box::new(ask))), Arc::new(Mutex::new(Vec::new())));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(serve).with_state((ask.clone(), asked.clone()));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, asked, ask }
    }

    pub fn now(&self, ask: impl FnMut(&str) -> Answer + Send + 'static) {
        *self.ask.lock().unwrap() = Box::new(ask);
    }

    pub fn targets(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(_, target)| target.clone()).collect()
    }
}

/// The value of a parameter of a target.
pub fn query(target: &str, name: &str) -> Option<String> {
    let url = url::Url::parse(&format!("http://x{target}")).unwrap();
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}
