//! A platform that is told to call a hook: a closure sees each request whole and says what becomes of it, also a call of the hook in the middle.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};

use crate::support::http1::{self, Message, Wire};

/// A request that came in.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Asked {
    fn of(message: &Message) -> Self {
        let mut words = message.start.split(' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        Self { method: word(), target: word(), headers: message.headers.clone(), body: message.text() }
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Method and path.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }

    /// A field of a form.
    pub fn field(&self, name: &str) -> Option<String> {
        url::form_urlencoded::parse(self.body.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }
}

/// What becomes of a request.
#[derive(Clone)]
pub enum Turn {
    /// This answer.
    Say(u16, String),
    /// It is done, and nobody hears of it.
    Lost,
    /// It is held for ever.
    Hold,
    /// It is answered when the bell rings.
    Later(Arc<tokio::sync::Notify>, u16, String),
    /// First the hook is called: method, address with query, headers, body; the answer depends on its status.
    Call { method: &'static str, url: String, headers: Vec<(&'static str, String)>, body: String, then: fn(u16) -> (u16, String) },
}

type Play = dyn FnMut(&Asked) -> Turn + Send;

/// The platform.
pub struct Platform {
    pub address: SocketAddr,
    pub asked: Arc<Mutex<Vec<Asked>>>,
    /// Most requests that were under way at once.
    pub at_once: Arc<AtomicUsize>,
    play: Arc<Mutex<Box<Play>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Platform {
    pub async fn start(play: impl FnMut(&Asked) -> Turn + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let at_once = Arc::new(AtomicUsize::new(0));
        let play: Arc<Mutex<Box<Play>>> = Arc::new(Mutex::new(Box::new(play)));
        let shared = (asked.clone(), at_once.clone(), play.clone());
        let task = tokio::spawn(async move {
            let now = Arc::new(AtomicUsize::new(0));
            while let Ok((stream, _)) = listener.accept().await {
                let ((asked, at_once, play), now) = (shared.clone(), now.clone());
                tokio::spawn(async move {
                    let mut wire = Wire::new(stream);
                    while let Ok(Some(message)) = wire.read().await {
                        let request = Asked::of(&message);
                        asked.lock().unwrap().push(request.clone());
                        at_once.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        let turn = play.lock().unwrap()(&request);
                        let answer = answer(turn).await;
                        now.fetch_sub(1, Ordering::SeqCst);
                        let Some((status, body)) = answer else { return };
                        if write(&mut wire.stream, status, &body).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, asked, at_once, play, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on it behaves so.
    pub fn now(&self, play: impl FnMut(&Asked) -> Turn + Send + 'static) {
        *self.play.lock().unwrap() = Box::new(play);
    }

    pub fn lines(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(Asked::line).collect()
    }

    pub fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|known| known.starts_with(line)).count()
    }

    /// The last request of this method and path.
    pub fn last(&self, line: &str) -> Asked {
        self.asked.lock().unwrap().iter().rev().find(|asked| asked.line().starts_with(line)).cloned().unwrap()
    }
}

async fn answer(turn: Turn) -> Option<(u16, String)> {
    match turn {
        Turn::Say(status, body) => Some((status, body)),
        Turn::Lost => None,
        Turn::Hold => std::future::pending().await,
        Turn::Later(bell, status, body) => {
            bell.notified().await;
            Some((status, body))
        }
        Turn::Call { method, url, headers, body, then } => {
            let url = url::Url::parse(&url).unwrap();
            let target = format!("{}{}", url.path(), url.query().map(|query| format!("?{query}")).unwrap_or_default());
            let address = SocketAddr::new(url.host_str().unwrap().parse().unwrap(), url.port().unwrap());
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let called = http1::once(address, method, &target, &headers, body.as_bytes()).await;
            Some(then(called.map_or(0, |answer| answer.status())))
        }
    }
}

async fn write(stream: &mut TcpStream, status: u16, body: &str) -> std::io::Result<()> {
    use tokio::io::AsyncWriteExt;
    let headers = [("content-type".to_owned(), "application/json".to_owned())];
    stream.write_all(&http1::response(status, &headers, body.as_bytes())).await
}
