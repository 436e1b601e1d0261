//! The plainest client of a mail server: what a test asks it beside the gateway.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Waits until a server greets; false if it does not within `within`.
pub fn greets(port: u16, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    while Instant::now() < deadline {
        if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut line = String::new();
            if BufReader::new(stream).read_line(&mut line).is_ok() && line.starts_with("* OK") {
                return true;
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

/// Runs commands in a session of its own; returns everything the server said.
pub fn session(port: u16, user: &str, password: &str, commands: impl IntoIterator<Item = impl AsRef<[u8]>>) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut last = 0;
    write!(stream, "t0 LOGIN {user} {password}\r\n").unwrap();
    for (number, command) in (1..).zip(commands) {
        stream.write_all(&[format!("t{number} ").as_bytes(), command.as_ref(), b"\r\n"].concat()).unwrap();
        last = number;
    }
    write!(stream, "t{} LOGOUT\r\n", last + 1).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}

/// How many mails are in a folder.
pub fn count(port: u16, user: &str, password: &str, folder: &str) -> u32 {
    let said = session(port, user, password, [format!("STATUS {folder} (MESSAGES)")]);
    let (_, rest) = said.split_once("(MESSAGES ").unwrap_or_else(|| panic!("no status in {said}"));
    rest.split(')').next().unwrap().parse().unwrap()
}
