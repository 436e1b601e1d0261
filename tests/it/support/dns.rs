//! A DNS server on loopback, UDP and TCP on one port, that says what a test tells it to, and counts.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What it says about the texts of a name.
#[derive(Debug, Clone)]
pub enum Says {
    /// These records.
    Texts(Vec<String>),
    /// Nothing at all: the question is swallowed.
    Silence,
    /// That it is in trouble.
    Failure,
}

/// What it knows; of every other name it says that there is none.
type Zone = Arc<Mutex<HashMap<String, Says>>>;

/// The server; it ends with the value.
pub struct Dns {
    /// Where it listens.
    pub address: SocketAddr,
    zone: Zone,
    asked: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
}

impl Dns {
    /// Starts it without any name.
    pub fn start() -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        let dns = Self { address: udp.local_addr().unwrap(), zone: Zone::default(), asked: Arc::default(), ended: Arc::default() };
        udp.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let (zone, asked, ended) = (dns.zone.clone(), dns.asked.clone(), dns.ended.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while !ended.load(Ordering::Relaxed) {
                if let Ok((length, from)) = udp.recv_from(&mut buffer) {
                    asked.fetch_add(1, Ordering::Relaxed);
                    if let Some(answer) = answer(&buffer[..length], &zone, 1200) {
                        let _ = udp.send_to(&answer, from);
                    }
                }
            }
        });
        let (zone, ended) = (dns.zone.clone(), dns.ended.clone());
        std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let Ok((mut stream, _)) = tcp.accept() else {
                    std::thread::sleep(Duration::from_millis(20));
                    continue;
                };
                stream.set_nonblocking(false).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
                let mut length = [0; 2];
                while stream.read_exact(&mut length).is_ok() {
                    let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
                    if stream.read_exact(&mut question).is_err() {
                        break;
                    }
                    let Some(answer) = answer(&question, &zone, usize::from(u16::MAX)) else { break };
                    let framed = [&u16::try_from(answer.len()).unwrap().to_be_bytes()[..], &answer].concat();
                    let _ = stream.write_all(&framed);
                }
            }
        });
        dns
    }

    /// Sets what is said about a name.
    pub fn says(&self, name: &str, says: Says) {
        self.zone.lock().unwrap().insert(name.to_owned(), says);
    }

    /// Sets one record of a name.
    pub fn text(&self, name: &str, text: &str) {
        self.says(name, Says::Texts(vec![text.to_owned()]));
    }

    /// Questions that came by UDP.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// The answer (RFC 1035 §4) to a question, cut where it is longer than `bytes_max`.
fn answer(question: &[u8], zone: &Zone, bytes_max: usize) -> Option<Vec<u8>> {
    let (mut at, mut labels) = (12, Vec::new());
    while question[at] != 0 {
        let length = usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..=at + length]).to_ascii_lowercase());
        at += length + 1;
    }
    let asked = &question[12..at + 5];
    let says = zone.lock().unwrap().get(&labels.join(".")).cloned();
    let (code, records) = match says {
        None => (3, Vec::new()),
        Some(Says::Silence) => return None,
        Some(Says::Failure) => (2, Vec::new()),
        Some(Says::Texts(texts)) => (0, texts),
    };
    let head = |flags: u16, count: u16| {
        let counts: Vec<u8> = [1, count, 0, 0].into_iter().flat_map(u16::to_be_bytes).collect();
        [&question[..2], &flags.to_be_bytes(), &counts, asked].concat()
    };
    let mut whole = head(0x8180 | code, u16::try_from(records.len()).unwrap());
    for text in &records {
        // In pieces of at most 255 bytes (RFC 1035 §3.3), here of 100, so that joining them is tested too.
        let data: Vec<u8> =
            text.as_bytes().chunks(100).flat_map(|piece| [&[u8::try_from(piece.len()).unwrap()][..], piece].concat()).collect();
        whole.extend_from_slice(&[0xc0, 12, 0, 16, 0, 1, 0, 0, 1, 44]);
        whole.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
        whole.extend_from_slice(&data);
    }
    Some(if whole.len() > bytes_max { head(0x8380, 0) } else { whole })
}
