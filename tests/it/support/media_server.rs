//! A platform that keeps files: every path misbehaves in its own way. It notes what was asked for, and with which credential.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::support::http1::Wire;

/// The bytes of the file it keeps: a PNG by its first bytes.
pub const FILE: &[u8] = b"\x89PNG\r\n\x1a\nthe rest of a small picture";

/// A request that came in: path with query, and the `Authorization` it carried.
pub type Asked = (String, Option<String>);

/// The server.
pub struct MediaServer {
    /// Where it listens.
    pub address: SocketAddr,
    /// What was asked for, in order.
    pub asked: Arc<Mutex<Vec<Asked>>>,
    /// While set, `/hang` hangs and `/me` fails; afterwards they give what they should.
    pub hanging: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for MediaServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl MediaServer {
    /// Starts it. `/away` leads to `elsewhere`.
    pub async fn start(elsewhere: Option<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, hanging) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(true)));
        let shared = (asked.clone(), hanging.clone());
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (asked, hanging) = (shared.0.clone(), shared.1.clone());
                tokio::spawn(async move { serve(stream, address, elsewhere, &asked, &hanging).await });
            }
        });
        Self { address, asked, hanging, task }
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// How often a path was asked for.
    pub fn count(&self, path: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|(asked, _)| asked == path).count()
    }

    /// The credentials that came with a path.
    pub fn credentials(&self, path: &str) -> Vec<Option<String>> {
        self.asked.lock().unwrap().iter().filter(|(asked, _)| asked == path).map(|(_, credential)| credential.clone()).collect()
    }
}

fn head(status: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("HTTP/1.1 {status}\r\n{lines}connection: close\r\n\r\n").into_bytes()
}

fn whole(status: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len().to_string();
    let mut out = head(status, &[("content-type", kind), ("content-length", &length)]);
    out.extend_from_slice(body);
    out
}

async fn serve(stream: TcpStream, own: SocketAddr, elsewhere: Option<SocketAddr>, asked: &Mutex<Vec<Asked>>, hanging: &AtomicBool) {
    let mut wire = Wire::new(stream);
    let Ok(Some(request)) = wire.read().await else { return };
    let target = request.start.split(' ').nth(1).unwrap_or_default().to_owned();
    let before = {
        let mut asked = asked.lock().unwrap();
        asked.push((target.clone(), request.header("authorization").map(str::to_owned)));
        let counts = asked.iter().fold(BTreeMap::new(), |mut counts: BTreeMap<String, usize>, (path, _)| {
            *counts.entry(path.clone()).or_default() += 1;
            counts
        });
        counts[&target] - 1
    };
    let file = whole("200 OK", "image/png", FILE);
    let out = &mut wire.stream;
    let path = target.split('?').next().unwrap_or_default();
    let sent = match path {
        "/slow" => {
            let length = FILE.len().to_string();
            out.write_all(&head("200 OK", &[("content-length", &length)])).await.unwrap();
            for piece in FILE.chunks(5) {
                tokio::time::sleep(Duration::from_millis(400)).await;
                let _ = out.write_all(piece).await;
            }
            Vec::new()
        }
        "/cut" if before == 0 => head("200 OK", &[("content-length", "1000")]).into_iter().chain(FILE.iter().copied()).collect(),
        "/late" if before == 0 => whole("404 Not Found", "text/plain", b"not yet"),
        "/missing" => whole("404 Not Found", "text/plain", b"never"),
        "/expired" => whole("403 Forbidden", "text/plain", b"link expired"),
        "/inside" => head("302 Found", &[("location", "http://127.0.0.1:1/admin"), ("content-length", "0")]),
        "/away" => {
            let there = format!("http://{}/there", elsewhere.unwrap_or(own));
            head("302 Found", &[("location", &there), ("content-length", "0")])
        }
        "/round" => head("302 Found", &[("location", "/round"), ("content-length", "0")]),
        "/login" => whole("200 OK", "text/html; charset=utf-8", b"<!doctype html><form action=\"/login\">"),
        "/said_large" => head("200 OK", &[("content-length", "999999999")]),
        "/endless" => {
            let _ = out.write_all(&head("200 OK", &[("transfer-encoding", "chunked")])).await;
            let chunk = [format!("{:x}\r\n", 65_536).into_bytes(), vec![b'x'; 65_536], b"\r\n".to_vec()].concat();
            while out.write_all(&chunk).await.is_ok() {}
            Vec::new()
        }
        "/hang" if hanging.load(Ordering::Acquire) => {
            while hanging.load(Ordering::Acquire) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Vec::new()
        }
        "/who/ana" => whole("200 OK", "application/json", b"{\"name\":\"Ana Example\",\"mail\":\"ana@example.org\"}"),
        "/who/bob" => {
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            whole("200 OK", "application/json", b"{\"name\":\"Bob Example\"}")
        }
        "/who/cai" => whole("500 Internal Server Error", "text/plain", b""),
        "/me" if hanging.load(Ordering::Acquire) => whole("500 Internal Server Error", "text/plain", b""),
        "/me" => whole("200 OK", "application/json", b"{\"user\":\"bot-1\"}"),
        // Two steps: the link, then the file.
        "/link" => whole("200 OK", "application/json", format!("{{\"url\":\"http://{own}/file\",\"sha256\":\"00\"}}").as_bytes()),
        "/wrong_hash" => {
            whole("200 OK", "application/json", format!("{{\"url\":\"http://{own}/file\",\"sha256\":\"{}\"}}", "0".repeat(64)).as_bytes())
        }
        "/busy" if before == 0 => whole("200 OK", "application/json", b"{\"status\":\"processing\"}"),
        "/busy" => whole("200 OK", "application/json", format!("{{\"status\":\"succeeded\",\"url\":\"http://{own}/file\"}}").as_bytes()),
        "/inline" => whole("200 OK", "application/json", b"{\"content\":\"iVBORw0KGgoAAA==\"}"),
        _ => file,
    };
    let _ = out.write_all(&sent).await;
    let _ = out.shutdown().await;
}
