//! Programs that a test needs and a machine may lack. `tests/run.sh` installs them all and says so; a plain `cargo test` on a
//! machine without them passes, loudly.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Says that a test cannot run for want of `what`. Fails it where everything should be installed.
#[track_caller]
pub fn missing(what: &str) {
    let required = std::env::var("OMNIGATE_REQUIRE_SERVERS").is_ok_and(|value| value == "1");
    assert!(!required, "needs {what}, and OMNIGATE_REQUIRE_SERVERS=1 says that everything is there");
    eprintln!("SKIPPED: needs {what}; tests/run.sh installs it");
}

/// Where `tests/run.sh` puts this.
pub fn installed(path: &str) -> PathBuf {
    let servers = std::env::var_os("OMNIGATE_TEST_SERVERS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-servers"), PathBuf::from);
    servers.join(path)
}

/// A port that is free now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Ends a server that takes its workers along only when it is asked to.
pub fn end(server: &mut Child) {
    let asked = Command::new("kill").arg(server.id().to_string()).status();
    let deadline = Instant::now() + Duration::from_secs(10);
    while asked.is_ok() && Instant::now() < deadline {
        if matches!(server.try_wait(), Ok(Some(_))) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = server.kill();
    let _ = server.wait();
}
