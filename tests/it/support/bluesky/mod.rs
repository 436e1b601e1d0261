//! Bluesky's own servers on loopback (directory, PDS, AppView, with PostgreSQL and Redis), and people who write by Bluesky's own client.

use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::chat_servers::{Server, folder, installed, program, start};
use crate::support::daemon::free_address;
use crate::support::servers::missing;

/// Longest start; some seconds on an idle machine.
const START_WITHIN: Duration = Duration::from_secs(90);

/// PostgreSQL. It is told to end, as a killed one leaves shared memory behind.
struct Postgres(Server);

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-QUIT", &self.0.pid().to_string()]).status();
        self.0.wait(Duration::from_secs(10));
    }
}

/// Bluesky. Ended when dropped: first what asks the others.
pub struct Bluesky {
    /// Base of the PDS, which passes on to the AppView what is the AppView's.
    pub pds: String,
    modules: PathBuf,
    network: Child,
    folder: tempfile::TempDir,
    _redis: Server,
    _postgres: Postgres,
}

impl Drop for Bluesky {
    fn drop(&mut self) {
        let _ = self.network.kill();
        let _ = self.network.wait();
        if std::thread::panicking() {
            let errors = fs::read_to_string(self.folder.path().join("errors.log")).unwrap_or_default();
            let asked = fs::read_to_string(self.folder.path().join("asked.log")).unwrap_or_default();
            let end = |text: &str| text.lines().rev().take(30).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n");
            eprintln!("--- end of Bluesky's log\n{}\n{}", end(&asked), end(&errors));
        }
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/bluesky").join(name)
}

/// Where Debian keeps the programs of the one PostgreSQL that is installed.
fn postgres_programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin")).find(|folder| folder.join("initdb").exists());
    if found.is_none() {
        missing("postgresql");
    }
    found
}

/// A database of nobody's; it refuses to run as root.
fn postgres(programs: &Path) -> (Postgres, String) {
    let (folder, address) = (folder(), free_address());
    let at = folder.path().display().to_string();
    assert!(Command::new("chown").args(["postgres", &at]).status().unwrap().success());
    let as_its_user = |name: &str, args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", programs.join(name).to_str().unwrap()]);
        command.args(args).current_dir(&at);
        command
    };
    let data = format!("{at}/data");
    let made = as_its_user("initdb", &["-D", &data, "-A", "trust", "-U", "postgres", "--no-sync", "--no-locale", "--encoding=UTF8"]);
    let made = { made }.output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let port = address.port().to_string();
    let args = ["-D", &data, "-p", &port, "-c", "listen_addresses=127.0.0.1", "-k", &at, "-c", "fsync=off"];
    let server = start(as_its_user("postgres", &args), folder, address);
    (Postgres(server), format!("postgresql://postgres@{address}/postgres"))
}

fn redis() -> Server {
    let (folder, address) = (folder(), free_address());
    let mut command = Command::new("redis-server");
    command.args(["--port", &address.port().to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    start(command, folder, address)
}

impl Bluesky {
    /// Starts it. An access token is good for `access_life`, such as `10s`.
    pub fn start(access_life: &str) -> Option<Self> {
        let modules = installed("bluesky/node_modules", "@atproto/dev-env")?;
        let programs = postgres_programs()?;
        if !program("/usr/bin/redis-server", "redis-server") {
            return None;
        }
        let (postgres, database) = postgres(&programs);
        let redis = redis();
        let folder = folder();
        let file = |name: &str| fs::File::create(folder.path().join(name)).unwrap();
        let network = Command::new("node")
            .arg(script("server.cjs"))
            .env("MODULES", &modules)
            .env("ACCESS_LIFE", access_life)
            .env("DB_POSTGRES_URL", database)
            .env("REDIS_HOST", redis.address.to_string())
            .env("LOG_ENABLED", "false")
            .env("NODE_ENV", "test")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(file("asked.log"))
            .stderr(file("errors.log"))
            .spawn()
            .unwrap();
        let mut bluesky = Self { pds: String::new(), modules, network, folder, _redis: redis, _postgres: postgres };
        let from = Instant::now();
        while bluesky.pds.is_empty() {
            assert!(bluesky.network.try_wait().unwrap().is_none(), "Bluesky ended");
            assert!(from.elapsed() < START_WITHIN, "Bluesky is not there");
            std::thread::sleep(Duration::from_millis(50));
            let log = bluesky.asked();
            let said = log.lines().find_map(|line| serde_json::from_str::<Value>(line).ok());
            // By its number, as by its name it may be looked for elsewhere first.
            bluesky.pds = said.map(|said| said["pds"].as_str().unwrap().replace("localhost", "127.0.0.1")).unwrap_or_default();
        }
        Some(bluesky)
    }

    fn asked(&self) -> String {
        fs::read_to_string(self.folder.path().join("asked.log")).unwrap()
    }

    /// How often the gateway asked for something.
    pub fn asked_by_gateway(&self, call: &str) -> usize {
        let target = format!("/xrpc/{call} by omnigate");
        self.asked().lines().filter(|line| line.contains(&target)).count()
    }
}

/// People with accounts.
pub struct People {
    said: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    client: Child,
}

impl Drop for People {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

impl People {
    /// Starts their client.
    pub fn of(bluesky: &Bluesky) -> Self {
        let mut client = Command::new("node")
            .arg(script("client.cjs"))
            .env("MODULES", &bluesky.modules)
            .env("PDS", &bluesky.pds)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (said, heard) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
        Self { said, answers: BufReader::new(heard).lines(), client }
    }

    fn does(&mut self, who: &str, what: &str, mut more: Value) -> Value {
        (more["who"], more["do"]) = (who.into(), what.into());
        writeln!(self.said, "{more}").unwrap();
        // The client has a bound of its own for everything it waits for.
        let line = self.answers.next().expect("the client runs").unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert!(answer.get("error").is_none(), "{who} {what}: {}", answer["error"].as_str().unwrap());
        answer
    }

    /// Makes an account `<who>.test`; its DID.
    pub fn join(&mut self, who: &str) -> String {
        self.does(who, "join", json!({}))["did"].as_str().unwrap().to_owned()
    }

    /// An app password.
    pub fn password(&mut self, who: &str) -> String {
        self.does(who, "password", json!({}))["password"].as_str().unwrap().to_owned()
    }

    /// A post.
    pub fn post(&mut self, who: &str, text: &str) -> Value {
        self.does(who, "post", json!({ "text": text }))
    }

    /// An answer to a post, once that is known everywhere.
    pub fn answer(&mut self, who: &str, to: &Value, text: &str) -> Value {
        self.does(who, "seen", json!({ "post": to }));
        self.does(who, "post", json!({ "text": text, "to": to }))
    }

    /// A post that quotes another.
    pub fn quote(&mut self, who: &str, about: &Value, text: &str) -> Value {
        self.does(who, "seen", json!({ "post": about }));
        self.does(who, "post", json!({ "text": text, "about": about }))
    }

    /// A heart.
    pub fn like(&mut self, who: &str, post: &Value) {
        self.does(who, "seen", json!({ "post": post }));
        self.does(who, "like", json!({ "post": post }));
    }
}
