//! Chat servers nobody here wrote, on loopback, each in a folder of its own: Prosody, ngIRCd, InspIRCd, Synapse,
//! and a server of Mastodon's API.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::daemon::free_address;
use crate::support::servers::{self, missing};

/// A server that runs; ended when dropped.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its folder.
    pub folder: TempDir,
    child: Child,
}

impl Server {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self, at_most: Duration) {
        let from = Instant::now();
        while from.elapsed() < at_most && self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default();
            let from = log.len().saturating_sub(3_000);
            eprintln!("--- end of the server's log\n{}", log.get(from..).unwrap_or_default());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder for a server.
pub fn folder() -> TempDir {
    tempfile::Builder::new().prefix("omnigate-chat-").tempdir().unwrap()
}

/// Starts a server that shall listen at an address, and waits until it does.
pub fn start(mut command: Command, folder: TempDir, address: SocketAddr) -> Server {
    let log = fs::File::create(folder.path().join("server.log")).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).current_dir(folder.path());
    let mut server = Server { address, folder, child: command.spawn().unwrap() };
    let from = Instant::now();
    while std::net::TcpStream::connect(address).is_err() {
        assert!(server.child.try_wait().unwrap().is_none(), "the server ended");
        assert!(from.elapsed() < Duration::from_secs(60), "the server does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    server
}

/// Whether a program is there; a test that lacks it says so.
pub fn program(path: &str, package: &str) -> bool {
    let there = Path::new(path).exists();
    if !there {
        missing(package);
    }
    there
}

/// What `tests/run.sh` installs below its folder.
pub fn installed(path: &str, package: &str) -> Option<PathBuf> {
    let path = servers::installed(path);
    program(path.to_str().unwrap(), package).then_some(path)
}

/// Prosody with archives; users `desk` and `zoe` have the password `pw-1`.
pub fn prosody() -> Option<Server> {
    if !program("/usr/bin/prosody", "prosody") {
        return None;
    }
    let (folder, address) = (folder(), free_address());
    let at = folder.path().display().to_string();
    let config = format!(
        r#"pidfile = "{at}/prosody.pid"; data_path = "{at}/data"; certificates = "{at}"; log = {{ info = "*console" }}
interfaces = {{ "127.0.0.1" }}; c2s_ports = {{ {port} }}; s2s_ports = {{}}; http_ports = {{}}; https_ports = {{}}
modules_enabled = {{ "roster","saslauth","disco","ping","mam","smacks" }}
modules_disabled = {{ "s2s" }}
c2s_require_encryption = false; allow_unencrypted_plain_auth = true; authentication = "internal_hashed"
archive_expires_after = "1w"; default_archive_policy = true
run_as_root = true
VirtualHost "localhost"
Component "conference.localhost" "muc"
  modules_enabled = {{ "muc_mam" }}
  muc_log_by_default = true; restrict_room_creation = false; muc_room_default_persistent = true
"#,
        port = address.port()
    );
    let file = folder.path().join("prosody.cfg.lua");
    fs::write(&file, config).unwrap();
    for user in ["desk", "zoe"] {
        let made =
            Command::new("prosodyctl").args(["--config", file.to_str().unwrap(), "register", user, "localhost", "pw-1"]).output().unwrap();
        assert!(made.status.success(), "{made:?}");
    }
    let mut command = Command::new("prosody");
    command.args(["--config", file.to_str().unwrap(), "-F"]);
    Some(start(command, folder, address))
}

/// ngIRCd: the plain protocol.
pub fn ngircd() -> Option<Server> {
    if !program("/usr/sbin/ngircd", "ngircd") {
        return None;
    }
    let (folder, address) = (folder(), free_address());
    let config = format!(
        "[Global]\nName = irc.example.org\nInfo = test\nListen = 127.0.0.1\nPorts = {}\n[Options]\nDNS = no\nIdent = no\nPAM = no\n",
        address.port()
    );
    let file = folder.path().join("ngircd.conf");
    fs::write(&file, config).unwrap();
    let mut command = Command::new("/usr/sbin/ngircd");
    command.args(["-n", "-f", file.to_str().unwrap()]);
    Some(start(command, folder, address))
}

/// InspIRCd with IRCv3 and a history that it plays back at the join.
pub fn inspircd() -> Option<Server> {
    if !program("/usr/sbin/inspircd", "inspircd") {
        return None;
    }
    let (folder, address) = (folder(), free_address());
    let at = folder.path().display().to_string();
    let modules: String =
        ["cap", "ircv3", "ircv3_servertime", "ircv3_batch", "ircv3_accounttag", "ircv3_msgid", "ircv3_ctctags", "chanhistory"]
            .iter()
            .map(|name| format!("<module name=\"{name}\">\n"))
            .collect();
    let config = format!(
        "<server name=\"irc.example.org\" description=\"test\" network=\"test\">\n<admin name=\"a\" nick=\"a\" email=\"a@example.org\">\n\
         <bind address=\"127.0.0.1\" port=\"{}\" type=\"clients\">\n\
         <connect name=\"all\" allow=\"*\" fakelag=\"no\" commandrate=\"100000\" threshold=\"100000\" resolvehostnames=\"no\" useident=\"no\" timeout=\"60\" pingfreq=\"120\" \
         localmax=\"100\" globalmax=\"100\" maxchans=\"50\">\n\
         <class name=\"x\" commands=\"\">\n<power diepass=\"d\" restartpass=\"r\">\n<pid file=\"{at}/inspircd.pid\">\n\
         <path configdir=\"{at}\" datadir=\"{at}\" logdir=\"{at}\" runtimedir=\"{at}\">\n{modules}<chanhistory maxlines=\"500\" prefixmsg=\"no\" bots=\"yes\">\n",
        address.port()
    );
    let file = folder.path().join("inspircd.conf");
    fs::write(&file, config).unwrap();
    // It refuses to run as root.
    let chown = Command::new("chown").args(["-R", "irc", &at]).status().unwrap();
    assert!(chown.success());
    let mut command = Command::new("setpriv");
    command.args(["--reuid=irc", "--regid=irc", "--clear-groups", "/usr/sbin/inspircd", "--nofork", "--config", file.to_str().unwrap()]);
    Some(start(command, folder, address))
}

/// Synapse; anybody may register.
pub fn synapse() -> Option<Server> {
    let python = installed("synapse/bin/python", "matrix-synapse in its venv")?;
    let (folder, address) = (folder(), free_address());
    let at = folder.path().display().to_string();
    let main = format!("{at}/hs.yaml");
    let made = Command::new(&python)
        .args([
            "-m",
            "synapse.app.homeserver",
            "--generate-config",
            "-H",
            "localhost",
            "-c",
            &main,
            "--report-stats=no",
            "--data-directory",
            &at,
        ])
        .current_dir(&at)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let extra = format!(
        "listeners: [{{port: {}, bind_addresses: ['127.0.0.1'], type: http, resources: [{{names: [client]}}]}}]\n\
         database: {{name: sqlite3, args: {{database: {at}/hs.db}}}}\nenable_registration: true\n\
         enable_registration_without_verification: true\ntrusted_key_servers: []\nfederation_domain_whitelist: []\n\
         suppress_key_server_warning: true\nrc_message: {{per_second: 10000, burst_count: 10000}}\n\
         rc_registration: {{per_second: 10000, burst_count: 10000}}\nrc_joins: {{local: {{per_second: 1000, burst_count: 1000}}}}\n",
        address.port()
    );
    fs::write(folder.path().join("extra.yaml"), extra).unwrap();
    let mut command = Command::new(&python);
    command.args(["-m", "synapse.app.homeserver", "-c", &main, "-c", "extra.yaml"]);
    Some(start(command, folder, address))
}

/// A server of Mastodon's API that fails on demand, and the Python of a client of it. Its user `testuser` has the token `mock_token`.
pub fn mastodon() -> Option<(Server, PathBuf)> {
    let program = installed("mastodon/bin/mastodon_mock", "mastodon-mock in its venv")?;
    let (folder, address) = (folder(), free_address());
    let mut command = Command::new(&program);
    command.args(["serve", "--in-memory", "--host", "127.0.0.1", "--port", &address.port().to_string()]);
    Some((start(command, folder, address), program.with_file_name("python")))
}
