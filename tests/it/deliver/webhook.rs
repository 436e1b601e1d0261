//! The webhook destination over real sockets: what goes out, and what each way of (not) answering means.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use omnigate::app::system::SystemClock;
use omnigate::destinations::shape::Shape;
use omnigate::destinations::webhook::{Webhook, WebhookOptions};
use omnigate::model::codes::Code;
use omnigate::model::delivery::{Due, Outgoing};
use omnigate::model::time::Time;
use omnigate::ports::clock::Clock;
use omnigate::ports::destination::{DeliverError, Destination, Receipt};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::support::http1::{Message, Wire, response};
use crate::support::owed::outgoing;
use crate::support::receiver::SECRET;

/// What the peer does with a connection, request after request.
#[derive(Clone)]
enum Does {
    /// Answers with these bytes.
    Says(Vec<u8>),
    /// Answers with these bytes and closes.
    SaysAndCloses(Vec<u8>),
    /// Answers with this head, then sends body for ever.
    SaysForEver(Vec<u8>),
    /// Reads, and never answers.
    Stalls,
    /// Closes at once, before reading.
    CutsBefore,
    /// Reads, then closes.
    CutsAfter,
}

struct Peer {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Message>>>,
    connections: Arc<Mutex<usize>>,
}

impl Peer {
    async fn start(does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = Self { address: listener.local_addr().unwrap(), requests: Arc::default(), connections: Arc::default() };
        let (requests, connections) = (peer.requests.clone(), peer.connections.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *connections.lock().unwrap() += 1;
                tokio::spawn(serve(stream, does.clone(), requests.clone()));
            }
        });
        peer
    }

    fn requests(&self) -> Vec<Message> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(stream: TcpStream, does: Does, requests: Arc<Mutex<Vec<Message>>>) {
    if matches!(does, Does::CutsBefore) {
        return;
    }
    let mut wire = Wire::new(stream);
    while let Ok(Some(request)) = wire.read().await {
        requests.lock().unwrap().push(request);
        match &does {
            Does::Says(bytes) => wire.stream.write_all(bytes).await.unwrap(),
            Does::SaysAndCloses(bytes) => return wire.stream.write_all(bytes).await.unwrap(),
            Does::SaysForEver(head) => {
                wire.stream.write_all(head).await.unwrap();
                while wire.stream.write_all(b"5\r\nagain\r\n").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                return;
            }
            Does::Stalls => return std::future::pending().await,
            Does::CutsBefore | Does::CutsAfter => return,
        }
    }
}

fn options(url: String) -> WebhookOptions {
    WebhookOptions {
        url,
        secrets: vec![SECRET.to_owned()],
        headers: vec![("authorization".into(), "Bearer example".into())],
        timeout: Duration::from_millis(700),
        concurrency: 8,
        strict_egress: false,
        shape: Shape::default(),
    }
}

fn webhook(options: WebhookOptions) -> Webhook {
    Webhook::new(options, Arc::new(SystemClock::default())).unwrap()
}

fn event() -> Outgoing {
    let due = Due { position: 17, lane: 3, attempts: 0, due_at: Time(0), first_attempt_at: None, replay: false };
    Outgoing { previous: 12, ..outgoing(&due) }
}

async fn deliver(does: Does) -> Result<Receipt, DeliverError> {
    let peer = Peer::start(does).await;
    webhook(options(format!("http://{}/hooks", peer.address))).deliver(&event()).await
}

fn says(status: u16, headers: &[(&str, String)]) -> Does {
    let headers: Vec<(String, String)> = headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Does::Says(response(status, &headers, b"so"))
}

#[track_caller]
fn later(answer: Result<Receipt, DeliverError>) -> (Code, String, Option<Duration>) {
    match answer {
        Err(DeliverError::Later { code, detail, after, .. }) => (code, detail, after),
        other => panic!("not to be tried again: {other:?}"),
    }
}

#[tokio::test]
async fn a_delivery_is_one_signed_post_with_all_its_headers() {
    let peer = Peer::start(says(201, &[])).await;
    let webhook = webhook(options(format!("http://{}/hooks?team=a", peer.address)));
    let event = event();
    assert_eq!(webhook.deliver(&event).await, Ok(Receipt { status: Some(201) }));
    let request = peer.requests().remove(0);
    assert_eq!(request.start, "POST /hooks?team=a HTTP/1.1");
    let id = event.event.to_string();
    for (name, value) in [
        ("webhook-id", id.as_str()),
        ("content-type", "application/json"),
        ("authorization", "Bearer example"),
        ("omnigate-sequence", "17"),
        ("omnigate-previous", "12"),
        ("user-agent", concat!("omnigate/", env!("CARGO_PKG_VERSION"))),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    assert_eq!(request.header("omnigate-replay"), None);
    assert_eq!(request.body, event.bytes);
    let timestamp: i64 = request.header("webhook-timestamp").unwrap().parse().unwrap();
    assert!((SystemClock::default().now().seconds() - timestamp).abs() < 5);
    let signer = omnigate::logic::standard_webhooks::Signer::new(&[SECRET]).unwrap();
    assert_eq!(request.header("webhook-signature").unwrap(), signer.sign(&id, timestamp, &event.bytes));

    let replay = Outgoing { replay: true, ..event };
    webhook.deliver(&replay).await.unwrap();
    let requests = peer.requests();
    assert_eq!(requests[1].header("omnigate-replay"), Some("true"));
    assert_eq!((requests[1].header("webhook-id"), &requests[1].body), (Some(id.as_str()), &requests[0].body));
    assert_eq!(*peer.connections.lock().unwrap(), 1, "the connection was not kept");
}

#[tokio::test]
async fn both_forms_of_retry_after_are_read() {
    let (code, _, after) = later(deliver(says(429, &[("retry-after", "120".into())])).await);
    assert_eq!((code, after), (Code::Busy, Some(Duration::from_secs(120))));
    let (_, _, after) = later(deliver(says(503, &[("retry-after", "1.5".into())])).await);
    assert_eq!(after, Some(Duration::from_millis(1500)));
    let in_an_hour = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3600);
    let date = in_an_hour.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let (_, _, after) = later(deliver(says(503, &[("retry-after", date)])).await);
    assert!((3590..=3600).contains(&after.unwrap().as_secs()), "{after:?}");
}

#[tokio::test]
async fn each_status_is_mapped_and_redirects_are_not_followed() {
    let elsewhere = Peer::start(says(200, &[])).await;
    let location = format!("http://{}/", elsewhere.address);
    for status in [301, 302, 307, 308] {
        let answer = deliver(says(status, &[("location", location.clone())])).await;
        assert!(matches!(answer, Err(DeliverError::Never { code: Code::Rejected, status: Some(seen), .. }) if seen == status));
    }
    assert!(elsewhere.requests().is_empty(), "a redirect was followed");
    assert!(matches!(deliver(says(401, &[])).await, Err(DeliverError::Denied { status: Some(401), .. })));
    assert!(matches!(deliver(says(410, &[])).await, Err(DeliverError::Halt { status: Some(410), .. })));
    assert!(matches!(deliver(says(422, &[])).await, Err(DeliverError::Never { status: Some(422), .. })));
    let (code, detail, after) = later(deliver(says(500, &[("retry-after", "9".into())])).await);
    assert_eq!((code, detail.as_str(), after), (Code::Failed, "answered 500", None));
}

#[tokio::test]
async fn a_peer_that_takes_the_event_and_says_nothing_leaves_the_outcome_unknown() {
    assert_eq!(later(deliver(Does::CutsAfter).await).0, Code::Unknown);
    assert_eq!(later(deliver(Does::CutsBefore).await).0, Code::Unknown);
    assert_eq!(later(deliver(Does::SaysAndCloses(b"HTTP/1.1 200".to_vec())).await).0, Code::Unknown);
    assert_eq!(later(deliver(Does::SaysAndCloses(b"220 mail.example.org ESMTP\r\n".to_vec())).await).0, Code::Unknown);
}

#[tokio::test]
async fn a_peer_that_stalls_is_given_up_in_time() {
    let started = Instant::now();
    let (code, detail, _) = later(deliver(Does::Stalls).await);
    assert_eq!(code, Code::Timeout);
    assert!(detail.contains("in time"), "{detail}");
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_peer_that_is_not_there_is_a_failure_to_connect() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (code, detail, _) = later(webhook(options(format!("http://{gone}/?token=hidden"))).deliver(&event()).await);
    assert_eq!(code, Code::Connect);
    assert!(detail.contains("refused") && !detail.contains("hidden"), "{detail}");
    // TLS spoken to a peer that does not.
    let peer = Peer::start(Does::CutsBefore).await;
    let (code, detail, _) = later(webhook(options(format!("https://{}/", peer.address))).deliver(&event()).await);
    assert_eq!(code, Code::Connect, "{detail}");
}

#[tokio::test]
async fn what_follows_the_status_does_not_change_the_outcome_and_is_bounded() {
    let started = Instant::now();
    let large = response(200, &[], &vec![b'x'; 3 << 20]);
    assert_eq!(deliver(Does::Says(large)).await, Ok(Receipt { status: Some(200) }));
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    assert_eq!(deliver(Does::SaysForEver(head)).await, Ok(Receipt { status: Some(200) }));
    assert_eq!(
        deliver(Does::SaysAndCloses(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\ncut".to_vec())).await,
        Ok(Receipt { status: Some(200) })
    );
    assert!(started.elapsed() < Duration::from_secs(6));
}

#[tokio::test]
async fn strict_egress_refuses_names_that_lead_inside() {
    let strict = WebhookOptions { strict_egress: true, ..options("https://localhost:1/".into()) };
    let answer = webhook(strict).deliver(&event()).await;
    let Err(DeliverError::Never { code: Code::EgressRefused, detail, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!(detail, "refused address");
}

#[tokio::test]
async fn a_probe_connects_and_sends_no_request() {
    let peer = Peer::start(says(200, &[])).await;
    let seen = webhook(options(format!("http://{}/", peer.address))).probe().await.unwrap();
    assert_eq!(seen, format!("connected to {}, without TLS", peer.address));
    assert!(peer.requests().is_empty());
    let other = Peer::start(Does::CutsBefore).await;
    let error = webhook(options(format!("https://{}/", other.address))).probe().await;
    assert_eq!(later(error.map(|_| Receipt::default())).0, Code::Connect);
}
