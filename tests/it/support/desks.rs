//! Real ticket servers on loopback, each in a folder of its own: Request Tracker and Redmine as Debian packages them. What initialising
//! gives is kept below `target/test-servers`, so that only the first start on a machine is slow.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::daemon::free_address;
use crate::support::http1::{self, Message};
use crate::support::servers::{self, installed, missing};

/// Key of Redmine's administrator.
pub const REDMINE_KEY: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// A ticket server that runs.
pub struct Desk {
    /// Where it listens.
    pub address: SocketAddr,
    /// Header by which the gateway's user proves itself.
    pub proof: (String, String),
    /// Headers it wants beside a change.
    pub beside: Vec<(String, String)>,
    folder: tempfile::TempDir,
    child: Child,
}

impl Drop for Desk {
    fn drop(&mut self) {
        servers::end(&mut self.child);
    }
}

fn start(script: &str, name: &str, more: &[String]) -> (tempfile::TempDir, Child, SocketAddr) {
    start_by("bash", script, name, more)
}

fn start_by(program: &str, script: &str, name: &str, more: &[String]) -> (tempfile::TempDir, Child, SocketAddr) {
    let folder = tempfile::Builder::new().prefix(&format!("omnigate-{name}-")).tempdir().unwrap();
    let address = free_address();
    let child = run(program, script, folder.path(), address, more);
    (folder, child, address)
}

/// A server over the folder, in a process group of its own with its workers.
fn run(program: &str, script: &str, folder: &Path, address: SocketAddr, more: &[String]) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("server.log")).unwrap();
    Command::new(program)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers").join(script))
        .arg(folder)
        .arg(address.port().to_string())
        .args(more)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .process_group(0)
        .spawn()
        .unwrap()
}

impl Desk {
    /// Request Tracker; `None`, loudly, where it is not installed.
    pub async fn rt() -> Option<Self> {
        if !Path::new("/usr/share/request-tracker5/libexec/rt-server").exists() {
            missing("request-tracker5, rt5-db-sqlite, rt5-standalone");
            return None;
        }
        let (folder, child, address) = start("rt.sh", "rt", &[installed("rt").display().to_string()]);
        let mut desk = Self { address, proof: (String::new(), String::new()), beside: Vec::new(), folder, child };
        desk.answers("/REST/2.0/rt").await;
        let token = std::fs::read_to_string(desk.folder.path().join("token")).unwrap();
        desk.proof = ("authorization".into(), format!("token {token}"));
        desk.answers("/REST/2.0/rt").await;
        Some(desk)
    }

    /// Request Tracker ends with all its workers, whatever they are doing.
    pub fn kill(&mut self) {
        let group = format!("-{}", self.child.id());
        assert!(Command::new("kill").args(["-9", "--", &group]).status().unwrap().success());
        self.child.wait().unwrap();
    }

    /// Request Tracker once more, with what it had on disk.
    pub async fn launch_rt(&mut self) {
        self.child = run("bash", "rt.sh", self.folder.path(), self.address, &[]);
        self.answers("/REST/2.0/rt").await;
    }

    /// Redmine; `None`, loudly, where it is not installed.
    pub async fn redmine() -> Option<Self> {
        if !Path::new("/usr/share/redmine/config.ru").exists() || !Path::new("/usr/share/redmine/Gemfile.lock").exists() {
            missing("redmine, redmine-sqlite, ruby-webrick");
            return None;
        }
        let (folder, child, address) = start("redmine.sh", "redmine", &[installed("redmine").display().to_string()]);
        let proof = ("x-redmine-api-key".into(), REDMINE_KEY.to_owned());
        let mut desk = Self { address, proof, beside: Vec::new(), folder, child };
        desk.answers("/users/current.json").await;
        Some(desk)
    }

    /// A Roundup tracker; `None`, loudly, where it is not installed.
    pub async fn roundup() -> Option<Self> {
        Self::roundup_that_takes(0).await
    }

    /// The same, which takes so many calls in ten seconds; 0: any number.
    pub async fn roundup_that_takes(calls: u32) -> Option<Self> {
        let venv = installed("desks-venv");
        if !venv.join("bin/roundup-server").exists() {
            missing("roundup in a virtual environment");
            return None;
        }
        let more = [venv.display().to_string(), calls.to_string()];
        let (folder, child, address) = start("roundup.sh", "roundup", &more);
        // admin:admin
        let proof = ("authorization".into(), "Basic YWRtaW46YWRtaW4=".to_owned());
        let beside = vec![
            ("host".into(), address.to_string()),
            ("x-requested-with".into(), "rest".into()),
            ("origin".into(), format!("http://{address}")),
        ];
        let mut desk = Self { address, proof, beside, folder, child };
        desk.answers("/t/rest/data/status").await;
        Some(desk)
    }

    /// django-helpdesk; `None`, loudly, where it is not installed.
    pub async fn django() -> Option<Self> {
        let python = installed("helpdesk-venv").join("bin/python");
        if !python.exists() {
            missing("django-helpdesk in a virtual environment");
            return None;
        }
        let more = [installed("helpdesk").display().to_string()];
        let (folder, child, address) = start_by(python.to_str().unwrap(), "django_desk.py", "helpdesk", &more);
        let mut desk = Self { address, proof: (String::new(), String::new()), beside: Vec::new(), folder, child };
        desk.answers("/api/tickets/").await;
        let token = std::fs::read_to_string(desk.folder.path().join("token")).unwrap();
        desk.proof = ("authorization".into(), format!("Token {token}"));
        desk.answers("/api/tickets/").await;
        Some(desk)
    }

    /// Waits until it answers at all; with a proof, until it takes it.
    async fn answers(&mut self, path: &str) {
        let from = Instant::now();
        loop {
            if let Ok(answer) = self.ask("GET", path, b"").await
                && (answer.success() || self.proof.0.is_empty())
            {
                return;
            }
            let ended = self.child.try_wait().unwrap();
            let log = || std::fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default();
            assert!(ended.is_none(), "the server ended with {ended:?}:\n{}", log());
            assert!(from.elapsed() < Duration::from_secs(240), "no answer after {:?}:\n{}", from.elapsed(), log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Its address as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The token of Request Tracker or django-helpdesk.
    pub fn token(&self) -> String {
        self.proof.1.trim_start_matches("token ").trim_start_matches("Token ").to_owned()
    }

    /// A call of the gateway's user.
    pub async fn ask(&self, method: &str, target: &str, body: &[u8]) -> std::io::Result<Message> {
        self.ask_with(method, target, &[], body).await
    }

    /// The same with more headers.
    pub async fn ask_with(&self, method: &str, target: &str, more: &[(&str, &str)], body: &[u8]) -> std::io::Result<Message> {
        let own = std::iter::once(&self.proof).filter(|(name, _)| !name.is_empty()).chain(&self.beside);
        let headers: Vec<(&str, &str)> = own
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .chain([("content-type", "application/json")])
            .chain(more.iter().copied())
            .collect();
        loop {
            let answer = http1::patient(http1::once(self.address, method, target, &headers, body)).await?;
            match answer.header("retry-after").and_then(|seconds| seconds.parse().ok()) {
                // The test asks as the gateway's user, whose calls are counted.
                Some(seconds) if answer.status() == 429 => tokio::time::sleep(Duration::from_secs(seconds)).await,
                _ => return Ok(answer),
            }
        }
    }

    /// `GET`, asserted to succeed.
    pub async fn get(&self, target: &str) -> Value {
        let answer = self.ask("GET", target, b"").await.unwrap();
        assert!(answer.success(), "GET {target}: {} {}", answer.start, answer.text());
        answer.json()
    }
}
