//! Hostile mails of some megabytes, read by a process that may have little memory: what is bounded ends well there, and what is not
//! aborts. The whole program, so that nothing else of this test is counted.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Address space, KiB. Measured: each of these is read within half of it, in a build without optimisation.
const MEMORY_KIB: u32 = 400_000;
/// Generous: the slowest takes about a second.
const LIMIT: Duration = Duration::from_secs(40);

fn hostile() -> Vec<(&'static str, String)> {
    let from = "From: ana@example.org\r\n";
    let multiparts: String = (0..100_000).map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n")).collect();
    let fields: String = (0..500_000).map(|n| format!("X-{n}: y\r\n")).collect();
    let parameters: String = (0..400_000).map(|n| format!("name*{n}=x; ")).collect();
    let references: String = (0..250_000).map(|n| format!("<{n}@example.org>\r\n ")).collect();
    let mixed = "Content-Type: multipart/mixed; boundary=b\r\n\r\n";
    vec![
        ("multiparts in multiparts", format!("{from}{multiparts}x")),
        ("mails in mails", format!("{from}{}x", "Content-Type: message/rfc822\r\n\r\n".repeat(200_000))),
        ("half a million parts", format!("{from}{mixed}{}", "--b\r\n\r\nx\r\n".repeat(500_000))),
        ("a million open elements", format!("{from}Content-Type: text/html\r\n\r\n{}", "<div>".repeat(1_000_000))),
        ("half a million fields", format!("{fields}{from}\r\nx")),
        ("a name in pieces", format!("{from}Content-Type: text/plain; {parameters}\r\n\r\nx")),
        ("words of a subject", format!("{from}Subject: {}\r\n\r\nx", "=?utf-8?q?=41?= \r\n ".repeat(300_000))),
        ("references", format!("{from}References: {references}<x@example.org>\r\n\r\nx")),
        ("quotes of quotes", format!("{from}\r\n{}", format!("{} x\r\n", ">".repeat(1_000)).repeat(5_000))),
        (
            "a text in base64",
            format!("{from}Content-Transfer-Encoding: base64\r\n\r\n{}", format!("{}\r\n", "QUFB".repeat(18)).repeat(80_000)),
        ),
    ]
}

#[test]
fn hostile_mails_are_read_within_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    for (name, mail) in hostile() {
        assert!(mail.len() > 4_000_000, "{name}: {} bytes", mail.len());
        let file = folder.path().join("mail.eml");
        std::fs::write(&file, mail).unwrap();
        let start = Instant::now();
        let script = format!("ulimit -v {MEMORY_KIB} && exec \"$0\" try imap --file \"$1\" --json");
        let run =
            Command::new("sh").args(["-c", &script, env!("CARGO_BIN_EXE_omnigate")]).arg(&file).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "{name}: {} {said}", run.status);
        assert!(serde_json::from_slice::<serde_json::Value>(&run.stdout).is_ok(), "{name} gives a document");
        assert!(start.elapsed() < LIMIT, "{name}: {:?}", start.elapsed());
    }
}
