//! Facts about the public listener.

use std::time::{Duration, Instant};

use omnigate::logic::file_url::FileUrls;
use omnigate::model::time::Time;
use omnigate::telemetry::names::Metric;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::fakes::{BIG_BYTES, BIG_FILE, BODY_BYTES_MAX, FILE, GONE_FILE};
use super::{Gateway, KEY, NOW, Numbers, Reply, read_reply, send, start};

async fn post(gateway: &Gateway, path: &str, body: &[u8]) -> Reply {
    send(gateway.public, &format!("POST {path} HTTP/1.1"), body).await
}

#[tokio::test]
async fn a_hook_request_reaches_the_intake_whole() {
    let gateway = start(Numbers::default()).await;
    let head = "POST /hooks/ok?a=1&b=%20 HTTP/1.1\r\nX-Signature: v0=abc\r\nX-Twice: 1\r\nX-Twice: 2\r\nX-Latin: caf\u{e9}\r\nX-Forwarded-For: 203.0.113.9, 127.0.0.2\r\n";
    let reply = send(gateway.public, head, b"{\"a\": 1}").await;
    assert_eq!((reply.status, reply.body.as_slice(), reply.header("content-type")), (200, &b"{\"a\": 1}"[..], "text/plain"));
    assert!(!reply.headers.contains_key("server"), "{reply:?}");
    let seen = gateway.intake.seen.lock().unwrap().clone();
    let request = &seen[0];
    assert_eq!((request.hook.as_str(), request.method.as_str(), request.target.as_str()), ("ok", "POST", "/hooks/ok?a=1&b=%20"));
    assert_eq!(request.peer.unwrap().to_string(), "203.0.113.9");
    let values: Vec<&str> = request.headers.iter().filter(|(name, _)| name == "x-twice").map(|(_, value)| value.as_str()).collect();
    assert_eq!(values, ["1", "2"]);
    assert!(request.headers.contains(&("x-signature".into(), "v0=abc".into())));
    gateway.end().await;
}

#[tokio::test]
async fn a_chunked_body_is_put_together() {
    let gateway = start(Numbers::default()).await;
    let reply =
        send(gateway.public, "POST /hooks/ok HTTP/1.1\r\ntransfer-encoding: chunked", b"3\r\nabc\r\n2\r\nde\r\n1\r\nf\r\n0\r\n\r\n").await;
    assert_eq!((reply.status, reply.body.as_slice()), (200, &b"abcdef"[..]));
    gateway.end().await;
}

#[tokio::test]
async fn a_connection_is_kept_between_requests() {
    let gateway = start(Numbers::default()).await;
    let mut stream = TcpStream::connect(gateway.public).await.unwrap();
    for round in 0..3 {
        let body = format!("round {round}");
        stream
            .write_all(format!("POST /hooks/ok HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes())
            .await
            .unwrap();
        assert_eq!(read_reply(&mut stream).await.unwrap().text(), body);
    }
    drop(stream);
    gateway.end().await;
}

#[tokio::test]
async fn a_body_at_the_limit_is_taken_and_one_byte_more_is_refused() {
    let gateway = start(Numbers::default()).await;
    assert_eq!(post(&gateway, "/hooks/ok", &vec![b'a'; BODY_BYTES_MAX]).await.status, 200);
    assert_eq!(post(&gateway, "/hooks/ok", &vec![b'a'; BODY_BYTES_MAX + 1]).await.status, 413);
    assert_eq!(gateway.intake.seen.lock().unwrap().len(), 1);
    assert_eq!(gateway.metrics.value(Metric::Requests, "ok", "413"), Some(1.0));
    gateway.end().await;
}

#[tokio::test]
async fn a_declared_body_of_100_mb_is_refused_before_it_is_sent() {
    let gateway = start(Numbers::default()).await;
    let mut stream = TcpStream::connect(gateway.public).await.unwrap();
    stream.write_all(b"POST /hooks/ok HTTP/1.1\r\nhost: x\r\ncontent-length: 104857600\r\n\r\n").await.unwrap();
    let reply = timeout(Duration::from_secs(1), read_reply(&mut stream)).await.expect("early").unwrap();
    assert_eq!((reply.status, reply.header("connection")), (413, "close"));
    gateway.end().await;
}

/// The peer writes on without reading; it gets the answer and is not read for ever.
async fn rude_100_mb(head: &str, chunk: Vec<u8>) {
    let gateway = start(Numbers::default()).await;
    let mut stream = TcpStream::connect(gateway.public).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let started = Instant::now();
    let writer = tokio::spawn(async move {
        let mut sent = 0;
        while sent < 100 * 1024 * 1024 {
            match writing.write_all(&chunk).await {
                Ok(()) => sent += chunk.len(),
                Err(_) => break,
            }
        }
        sent
    });
    let mut answer = vec![0; 12];
    timeout(Duration::from_secs(5), reading.read_exact(&mut answer)).await.expect("an answer").unwrap();
    assert_eq!(answer, b"HTTP/1.1 413");
    let sent = timeout(Duration::from_secs(10), writer).await.expect("the connection ends").unwrap();
    assert!(sent < 60 * 1024 * 1024, "{sent} bytes were read after the refusal");
    assert!(started.elapsed() < Duration::from_secs(6));
    gateway.end().await;
}

#[tokio::test]
async fn a_100_mb_body_with_a_length_is_cut() {
    rude_100_mb("POST /hooks/ok HTTP/1.1\r\nhost: x\r\ncontent-length: 104857600\r\n\r\n", vec![b'a'; 64 * 1024]).await;
}

#[tokio::test]
async fn a_100_mb_body_without_a_length_is_cut() {
    let mut chunk = b"10000\r\n".to_vec();
    chunk.extend(vec![b'a'; 0x10000]);
    chunk.extend(b"\r\n");
    rude_100_mb("POST /hooks/ok HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n", chunk).await;
}

#[tokio::test]
async fn a_slow_head_is_cut() {
    let gateway = start(Numbers { request_timeout: Duration::from_millis(300), ..Numbers::default() }).await;
    let mut stream = TcpStream::connect(gateway.public).await.unwrap();
    let started = Instant::now();
    let mut buffer = [0u8; 256];
    for line in ["POST /hooks/ok HTTP/1.1\r\n", "host: x\r\n", "x-a: 1\r\n", "x-b: 1\r\n", "x-c: 1\r\n", "x-d: 1\r\n"] {
        let _ = stream.write_all(line.as_bytes()).await;
        if timeout(Duration::from_millis(100), stream.read(&mut buffer)).await.is_ok() {
            break;
        }
    }
    let _ = timeout(Duration::from_secs(2), stream.read(&mut buffer)).await.expect("cut");
    assert!(started.elapsed() < Duration::from_secs(2));
    assert!(gateway.intake.seen.lock().unwrap().is_empty());
    gateway.end().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let gateway = start(Numbers { request_timeout: Duration::from_millis(200), ..Numbers::default() }).await;
    let mut stream = TcpStream::connect(gateway.public).await.unwrap();
    stream.write_all(b"POST /hooks/ok HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    assert_eq!(read_reply(&mut stream).await.unwrap().status, 200);
    let mut rest = Vec::new();
    timeout(Duration::from_secs(2), stream.read_to_end(&mut rest)).await.expect("closed").unwrap();
    gateway.end().await;
}

#[tokio::test]
async fn a_slow_body_is_answered_408() {
    let gateway = start(Numbers { request_timeout: Duration::from_millis(300), ..Numbers::default() }).await;
    let mut stream = TcpStream::connect(gateway.public).await.unwrap();
    stream.write_all(b"POST /hooks/ok HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc").await.unwrap();
    let reply = timeout(Duration::from_secs(2), read_reply(&mut stream)).await.expect("in time").unwrap();
    assert_eq!((reply.status, reply.header("connection")), (408, "close"));
    gateway.end().await;
}

#[tokio::test]
async fn too_many_or_too_large_headers_are_refused() {
    let gateway = start(Numbers::default()).await;
    let many: String = (0..150).map(|number| format!("x-{number}: 1\r\n")).collect();
    assert_eq!(send(gateway.public, &format!("POST /hooks/ok HTTP/1.1\r\n{many}"), b"").await.status, 431);
    let large = format!("x-large: {}\r\n", "a".repeat(64 * 1024));
    assert_eq!(send(gateway.public, &format!("POST /hooks/ok HTTP/1.1\r\n{large}"), b"").await.status, 431);
    gateway.end().await;
}

#[tokio::test]
async fn a_request_that_is_smuggled_is_refused() {
    let gateway = start(Numbers::default()).await;
    let both = "POST /hooks/ok HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 5";
    assert_eq!(send(gateway.public, both, b"abcde").await.status, 400);
    gateway.end().await;
}

#[tokio::test]
async fn everything_else_is_404() {
    let gateway = start(Numbers::default()).await;
    for path in [
        "/",
        "/hooks",
        "/hooks/",
        "/hooks/other",
        "/hooks/other/more",
        "/hooks/../ok",
        "/healthz",
        "/metrics",
        "/v1/status",
        "/files",
        "/files/att_x",
    ] {
        assert_eq!(send(gateway.public, &format!("GET {path} HTTP/1.1"), b"").await.status, 404, "{path}");
    }
    assert_eq!(post(&gateway, "/hooks/other", b"{}").await.status, 404);
    assert_eq!(gateway.metrics.value(Metric::Requests, "other", "404"), None, "a stranger must not choose labels");
    assert!(gateway.intake.seen.lock().unwrap().is_empty());
    gateway.end().await;
}

#[tokio::test]
async fn another_method_is_405_and_says_which() {
    let gateway = start(Numbers::default()).await;
    for method in ["DELETE", "PATCH", "TRACE"] {
        let reply = send(gateway.public, &format!("{method} /hooks/ok HTTP/1.1"), b"").await;
        assert_eq!((reply.status, reply.header("allow")), (405, "GET, HEAD, OPTIONS, POST, PUT"), "{method}");
    }
    // Whether a hook takes them, and which paths below it, its connector says.
    for method in ["GET", "HEAD", "OPTIONS", "PUT"] {
        assert_eq!(send(gateway.public, &format!("{method} /hooks/ok?challenge=1 HTTP/1.1"), b"").await.status, 200, "{method}");
    }
    gateway.end().await;
}

#[tokio::test]
async fn the_answer_of_the_intake_goes_out_as_it_is() {
    let gateway = start(Numbers::default()).await;
    let reply = post(&gateway, "/hooks/busy", b"{}").await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, "7"));
    gateway.end().await;
}

#[tokio::test]
async fn a_stop_finishes_what_is_in_flight_and_takes_nothing_new() {
    let gateway = start(Numbers::default()).await;
    let mut busy = TcpStream::connect(gateway.public).await.unwrap();
    let _idle = TcpStream::connect(gateway.public).await.unwrap();
    busy.write_all(b"POST /hooks/slow HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
    while gateway.intake.seen.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (address, started) = (gateway.public, Instant::now());
    gateway.stop.send(true).unwrap();
    let reply = read_reply(&mut busy).await.expect("the answer of the request in flight");
    assert_eq!((reply.status, reply.text()), (200, "late".to_owned()));
    for task in gateway.tasks {
        timeout(Duration::from_secs(2), task).await.expect("an idle connection does not hold up the stop").unwrap();
    }
    assert!(started.elapsed() < Duration::from_secs(2));
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_stop_does_not_wait_longer_than_its_bound() {
    let gateway = start(Numbers { stop_timeout: Duration::from_millis(100), ..Numbers::default() }).await;
    let mut stream = TcpStream::connect(gateway.public).await.unwrap();
    stream.write_all(b"POST /hooks/ok HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    timeout(Duration::from_secs(1), gateway.end()).await.expect("bounded");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let gateway = start(Numbers { connections_max: 1, request_timeout: Duration::from_millis(300), ..Numbers::default() }).await;
    let _first = TcpStream::connect(gateway.public).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    // The first one is cut because it says nothing; then the second has its turn.
    assert_eq!(post(&gateway, "/hooks/ok", b"{}").await.status, 200);
    gateway.end().await;
}

fn path_of(url: &str) -> String {
    url.strip_prefix("https://gate.example.org").unwrap().to_owned()
}

#[tokio::test]
async fn a_signed_file_is_a_download_that_no_browser_runs() {
    let gateway = start(Numbers::default()).await;
    let path = path_of(&FileUrls::new("https://gate.example.org", 60_000, &KEY).url(FILE, Time(NOW)));
    let reply = send(gateway.public, &format!("GET {path} HTTP/1.1"), b"").await;
    assert_eq!((reply.status, reply.body.as_slice()), (200, &b"<script>alert(1)</script>"[..]));
    assert_eq!(reply.header("content-type"), "application/octet-stream");
    assert_eq!(reply.header("content-disposition"), "attachment; filename=\"Pr_fung.html\"; filename*=UTF-8''Pr%C3%BCfung.html");
    assert_eq!(reply.header("x-content-type-options"), "nosniff");
    assert!(reply.header("content-security-policy").contains("sandbox"));
    let head = send(gateway.public, &format!("HEAD {path} HTTP/1.1"), b"").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(send(gateway.public, &format!("POST {path} HTTP/1.1"), b"x").await.status, 405);
    gateway.end().await;
}

#[tokio::test]
async fn a_file_of_many_pieces_arrives_whole() {
    let gateway = start(Numbers::default()).await;
    let path = path_of(&FileUrls::new("https://gate.example.org", 60_000, &KEY).url(BIG_FILE, Time(NOW)));
    let reply = send(gateway.public, &format!("GET {path} HTTP/1.1"), b"").await;
    assert_eq!((reply.status, reply.header("content-type"), reply.header("content-disposition")), (200, "image/png", "attachment"));
    assert_eq!(reply.body, vec![7; BIG_BYTES]);
    gateway.end().await;
}

#[tokio::test]
async fn a_file_url_that_is_tampered_with_expired_or_gone_is_refused() {
    let gateway = start(Numbers::default()).await;
    let urls = FileUrls::new("https://gate.example.org", 60_000, &KEY);
    let good = path_of(&urls.url(FILE, Time(NOW)));
    let later = good.replace("expires=1000060", "expires=9000060");
    assert_ne!(later, good);
    let other = good.replace(&FILE.to_string(), &GONE_FILE.to_string());
    let foreign = path_of(&FileUrls::new("https://gate.example.org", 60_000, &[1; 32]).url(FILE, Time(NOW)));
    let bare = good.split('?').next().unwrap().to_owned();
    for path in [later, other, foreign, bare] {
        assert_eq!(send(gateway.public, &format!("GET {path} HTTP/1.1"), b"").await.status, 403, "{path}");
    }
    assert!(gateway.control.asked.lock().unwrap().is_empty(), "the signature decides before anything is read");
    let expired = path_of(&urls.url(FILE, Time(NOW - 120_000)));
    let gone = path_of(&urls.url(GONE_FILE, Time(NOW)));
    for path in [expired, gone] {
        assert_eq!(send(gateway.public, &format!("GET {path} HTTP/1.1"), b"").await.status, 410, "{path}");
    }
    gateway.end().await;
}

#[tokio::test]
async fn without_a_public_url_there_are_no_files() {
    let gateway = start(Numbers { files: false, ..Numbers::default() }).await;
    let path = path_of(&FileUrls::new("https://gate.example.org", 60_000, &KEY).url(FILE, Time(NOW)));
    assert_eq!(send(gateway.public, &format!("GET {path} HTTP/1.1"), b"").await.status, 404);
    gateway.end().await;
}
