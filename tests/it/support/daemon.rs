//! The real binary: its configuration in a temporary folder, free ports that stay the same across restarts, signals, the
//! private listener as a client sees it.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::http1::{self, Message};
use crate::support::{receiver, whatsapp};

/// Bearer token of the private listener.
pub const ADMIN_TOKEN: &str = "an-admin-token-only-for-tests";

/// What a daemon is started with.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Lines of `[server]` beside the addresses and the token.
    pub server: String,
    /// Lines of `[store]`.
    pub store: String,
    /// Everything else of the main file: whole tables.
    pub rest: String,
    /// Channel files by id.
    pub channels: BTreeMap<String, String>,
    /// Connectors of the test's own by name: manifest and map.
    pub connectors: BTreeMap<String, (String, String)>,
    /// Environment of the process: secrets by name.
    pub env: BTreeMap<String, String>,
    /// Where the data goes instead of `data` in the daemon's folder.
    pub data_dir: Option<PathBuf>,
    /// A program and its arguments to run the daemon under (a tracer, a limit).
    pub under: Vec<String>,
}

impl Setup {
    /// A WhatsApp channel `shop` and one webhook destination `crm` that gets everything, with a schedule fit for tests.
    pub fn whatsapp_to(url: &str) -> Self {
        let mut setup = Self::default();
        setup.destination("crm", url, "");
        setup.rest.push_str(ROUTE_ALL);
        setup.with_whatsapp();
        setup
    }

    /// Adds the WhatsApp channel `shop`.
    pub fn with_whatsapp(&mut self) {
        self.channels.insert("shop".to_owned(), whatsapp_channel());
        self.env.insert("WHATSAPP_APP_SECRET".to_owned(), whatsapp::APP_SECRET.to_owned());
        self.env.insert("WHATSAPP_VERIFY_TOKEN".to_owned(), "a-verify-token".to_owned());
    }

    /// Adds a connector of the test's own.
    pub fn connector(&mut self, name: &str, manifest: &str, map: &str) {
        self.connectors.insert(name.to_owned(), (manifest.to_owned(), map.to_owned()));
    }

    /// Everything to `crm` at `url`, with quick retries.
    pub fn all_to(url: &str) -> Self {
        let mut setup = Self::default();
        setup.destination("crm", url, "");
        setup.rest.push_str(ROUTE_ALL);
        setup.rest.push_str(&quick_schedule());
        setup
    }

    /// Adds a webhook destination; `more` are further lines of its table.
    pub fn destination(&mut self, name: &str, url: &str, more: &str) {
        self.rest.push_str(&format!(
            "[destination.{name}]\nkind = \"webhook\"\nurl = \"{url}\"\nsecret = {{ env = \"DESTINATION_SECRET\" }}\n{more}\n"
        ));
        self.env.insert("DESTINATION_SECRET".to_owned(), receiver::SECRET.to_owned());
    }
}

/// Routes everything a customer says to `crm`, backfilled or not.
pub const ROUTE_ALL: &str = "[[route]]\nto = [\"crm\"]\ndirection = \"any\"\nhistoric = true\n";

/// A retry every half second, for longer than any fault of a test lasts.
pub fn quick_schedule() -> String {
    let steps = vec!["\"500ms\""; 98].join(", ");
    format!("[delivery]\nschedule = [\"0s\", {steps}]\njitter = 0.2\n")
}

fn whatsapp_channel() -> String {
    format!(
        "connector = \"whatsapp\"\naccount = \"{}\"\n[secrets]\napp_secret = {{ env = \"WHATSAPP_APP_SECRET\" }}\nverify_token = {{ env = \"WHATSAPP_VERIFY_TOKEN\" }}\n",
        whatsapp::PHONE_NUMBER_ID
    )
}

/// A daemon and its folder. Killed when dropped; its log is shown if the test failed.
pub struct Daemon {
    /// Its folder: configuration, log, data.
    pub folder: TempDir,
    /// The public listener.
    pub public: SocketAddr,
    /// The private listener.
    pub private: SocketAddr,
    /// What it was started with.
    pub setup: Setup,
    child: Option<Child>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- end of the daemon's log\n{}", self.log_end(60));
        }
    }
}

impl Daemon {
    /// Writes the configuration into a fresh folder; starts nothing.
    pub fn prepare(setup: Setup) -> Self {
        let folder = tempfile::Builder::new().prefix("omnigate-").tempdir().unwrap();
        let daemon = Self { folder, public: free_address(), private: free_address(), setup, child: None };
        daemon.write_config();
        daemon
    }

    /// Prepares, starts, and waits until it is ready.
    pub async fn start(setup: Setup) -> Self {
        let mut daemon = Self::prepare(setup);
        daemon.launch();
        daemon.ready().await;
        daemon
    }

    /// Writes the files of the setup anew: after a change of `setup`, before a reload or a restart.
    pub fn write_config(&self) {
        let at = self.folder.path();
        fs::create_dir_all(at.join("channels")).unwrap();
        fs::write(at.join("admin.token"), ADMIN_TOKEN).unwrap();
        let data = self.data_dir();
        let Setup { server, store, rest, channels, connectors, .. } = &self.setup;
        let own = if connectors.is_empty() { "" } else { "[connectors]\ndir = \"connectors\"\n" };
        let main = format!(
            "[instance]\ndata_dir = \"{}\"\nkey = {{ file = \"instance.key\" }}\n\n[server]\npublic = \"{}\"\nprivate = \"{}\"\n\
             admin_token = {{ file = \"admin.token\" }}\n{server}\n\n[store]\n{store}\n\n{own}\n{rest}",
            data.display(),
            self.public,
            self.private,
        );
        fs::write(self.config(), main).unwrap();
        for (name, (manifest, map)) in connectors {
            let folder = at.join("connectors").join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("connector.toml"), manifest).unwrap();
            fs::write(folder.join("map.jq"), map).unwrap();
        }
        for (id, text) in channels {
            fs::write(at.join(format!("channels/{id}.toml")), text).unwrap();
        }
    }

    /// The main file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("omnigate.toml")
    }

    /// Where the store is.
    pub fn data_dir(&self) -> PathBuf {
        self.setup.data_dir.clone().unwrap_or_else(|| self.folder.path().join("data"))
    }

    /// Starts the process; does not wait.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let mut words = self.setup.under.clone();
        words.push(self.binary().to_str().unwrap().to_owned());
        let log = OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        let child = Command::new(&words[0])
            .args(&words[1..])
            .args(["run", "--config", self.config().to_str().unwrap()])
            .envs(&self.setup.env)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// Another command of the binary with this configuration; its exit status, standard output and standard error.
    pub fn command(&self, args: &[&str]) -> (ExitStatus, String, String) {
        let output = Command::new(self.binary())
            .args(args)
            .args(["--config", self.config().to_str().unwrap()])
            .envs(&self.setup.env)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (output.status, text(output.stdout), text(output.stderr))
    }

    /// The binary that cargo built beside this one, or the one that `OMNIGATE_BIN` names.
    fn binary(&self) -> PathBuf {
        std::env::var_os("OMNIGATE_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_omnigate")), PathBuf::from)
    }

    /// Waits for `/readyz`.
    pub async fn ready(&mut self) {
        let from = Instant::now();
        loop {
            if let Ok(answer) = http1::once(self.private, "GET", "/readyz", &[], b"").await
                && answer.success()
            {
                return;
            }
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().unwrap()) {
                panic!("the daemon ended with {status} instead of getting ready:\n{}", self.log_end(40));
            }
            assert!(from.elapsed() < Duration::from_secs(60), "not ready after {:?}:\n{}", from.elapsed(), self.log_end(40));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Its process id (of the tracer, if it runs under one).
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// The process ids of what runs under the program of `setup.under`.
    fn children(&self) -> Vec<String> {
        let pid = self.pid();
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// Sends a signal to the daemon that runs under another program.
    pub fn signal_child(&self, name: &str) {
        for child in self.children() {
            assert!(Command::new("kill").args([format!("-{name}"), child]).status().unwrap().success());
        }
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        if self.child.is_some() && !self.setup.under.is_empty() {
            // A tracer that is killed lets its tracee live on.
            self.signal_child("KILL");
        }
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().unwrap();
        }
    }

    /// Sends a signal by its name (`TERM`, `HUP`).
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let from = Instant::now();
        loop {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                self.child = None;
                return status;
            }
            assert!(from.elapsed() < limit, "still running after {limit:?}:\n{}", self.log_end(40));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until a channel runs.
    pub async fn channel_running(&self, id: &str) {
        let from = Instant::now();
        while self.get("/v1/status").await["channels"][id]["state"] != "running" {
            assert!(from.elapsed() < Duration::from_secs(30), "channel {id} does not run:\n{}", self.log_end(40));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("daemon.log")
    }

    /// The whole log.
    pub fn log_text(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// The last lines of the log.
    pub fn log_end(&self, count: usize) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    // ---- as a platform --------------------------------------------------------------------------------------------

    /// Posts a signed WhatsApp body to the channel `shop`; `None` if the daemon did not answer.
    pub async fn post(&self, body: &[u8]) -> Option<Message> {
        let request = whatsapp::request("shop", body);
        http1::patient(async { http1::Wire::connect(self.public).await?.exchange(&request).await }).await.ok()
    }

    /// Posts until it is taken, as a platform does: the same body again after anything but a 2xx. Returns how often.
    pub async fn post_until_taken(&self, body: &[u8]) -> u32 {
        for attempt in 1..=2_000 {
            if self.post(body).await.is_some_and(|answer| answer.success()) {
                return attempt;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never taken");
    }

    // ---- as an admin ----------------------------------------------------------------------------------------------

    /// A request to the private listener with the token.
    pub async fn admin(&self, method: &str, target: &str, body: &Value) -> Message {
        let token = format!("Bearer {ADMIN_TOKEN}");
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
        http1::once(self.private, method, target, &headers, &body).await.unwrap()
    }

    /// `GET`, asserted to succeed, as JSON.
    pub async fn get(&self, target: &str) -> Value {
        let answer = self.admin("GET", target, &Value::Null).await;
        assert!(answer.success(), "GET {target}: {} {}", answer.start, answer.text());
        answer.json()
    }

    /// One scrape.
    pub async fn scrape(&self) -> Scrape {
        let answer = http1::once(self.private, "GET", "/metrics", &[], b"").await.unwrap();
        assert!(answer.success(), "GET /metrics: {}", answer.start);
        Scrape::parse(&answer.text())
    }

    /// Waits until nothing is owed and nothing waits in the queue, and returns that scrape.
    pub async fn settled(&self, limit: Duration) -> Scrape {
        let from = Instant::now();
        loop {
            let scrape = self.scrape().await;
            if scrape.sum("omnigate_deliveries", &[("state", "waiting")]) == 0 && scrape.sum("omnigate_queue_items", &[]) == 0 {
                return scrape;
            }
            assert!(from.elapsed() < limit, "still owed after {limit:?}: {:#?}", scrape.of("omnigate_deliveries"));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A port nobody listens on, taken and given back: the daemon must find it again after every restart.
///
/// Below the ports that Linux gives to outgoing connections: one of those could take it while the daemon is down, and a
/// client that tries again and again could even reach itself on it.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(7).wrapping_add((std::process::id() as u16).wrapping_mul(31));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 12_000 + number % 20_000));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Numbers of one `/metrics` answer.
#[derive(Debug)]
pub struct Scrape {
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

impl Scrape {
    /// Reads the text format.
    pub fn parse(text: &str) -> Self {
        let sample = |line: &str| -> Option<(String, BTreeMap<String, String>, f64)> {
            let (left, value) = line.rsplit_once(' ')?;
            let (name, labels) = left.split_once('{').unwrap_or((left, ""));
            let labels = labels.trim_end_matches('}').split("\",").filter_map(|pair| {
                let (name, value) = pair.split_once("=\"")?;
                Some((name.trim().to_owned(), value.trim_end_matches('"').to_owned()))
            });
            Some((name.to_owned(), labels.collect(), value.parse().ok()?))
        };
        Self { samples: text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect() }
    }

    /// Every sample of a metric: labels and value.
    pub fn of(&self, name: &str) -> Vec<(&BTreeMap<String, String>, f64)> {
        self.samples.iter().filter(|(known, _, _)| known == name).map(|(_, labels, value)| (labels, *value)).collect()
    }

    /// The sum of a metric over the samples with these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let matching =
            |have: &BTreeMap<String, String>| labels.iter().all(|(name, value)| have.get(*name).is_some_and(|known| known == value));
        self.of(name).iter().filter(|(have, _)| matching(have)).map(|(_, value)| *value as u64).sum()
    }

    /// Both identities of I3, per channel and per destination.
    #[track_caller]
    pub fn identities_hold(&self) {
        for (total, parts, label) in [
            ("omnigate_items_received_total", "omnigate_items", "channel"),
            ("omnigate_deliveries_due_total", "omnigate_deliveries", "destination"),
        ] {
            for (labels, value) in self.of(total) {
                let of = labels.get(label).map_or("", String::as_str);
                let sum = self.sum(parts, &[(label, of)]);
                assert_eq!(value as u64, sum, "I3: {total} of {of} against the sum of {parts}: {:?}", self.of(parts));
            }
        }
    }
}

/// The value of a `/proc/<pid>/status` line in KiB (`VmRSS`, `VmHWM`).
pub fn memory_kib(pid: u32, line: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let found = text.lines().find_map(|known| known.strip_prefix(line)?.strip_prefix(':'));
    found.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
