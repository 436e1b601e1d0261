//! A real Dovecot: own folder, free ports, a CA of its own, stopped on drop. Any user exists, the password is `secret`, and each
//! test takes a user of its own. Mails lie in a maildir that tests may also write to directly.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::imap_client;
use crate::support::servers::{self, free_port, missing};

/// The password of every user.
pub const PASSWORD: &str = "secret";

/// A running Dovecot.
pub struct Dovecot {
    /// Plain and STARTTLS.
    pub port: u16,
    /// Implicit TLS.
    pub tls_port: u16,
    /// The CA that signed its certificate.
    pub ca_pem: String,
    folder: tempfile::TempDir,
    owner: Option<(u32, u32)>,
    child: Child,
}

impl Dovecot {
    /// Starts it; `None`, loudly, where it is not installed.
    #[track_caller]
    pub fn start() -> Option<Self> {
        Self::start_with(None, 50)
    }

    /// Starts it so that a user has so many connections at most.
    #[track_caller]
    pub fn start_limited(connections: usize) -> Option<Self> {
        Self::start_with(None, connections)
    }

    /// Starts it so that it takes bearer tokens too, which it shows to this identity provider.
    #[track_caller]
    pub fn start_with_tokens(identity: std::net::SocketAddr) -> Option<Self> {
        Self::start_with(Some(identity), 50)
    }

    #[track_caller]
    fn start_with(identity: Option<std::net::SocketAddr>, connections: usize) -> Option<Self> {
        let Some(program) = ["/usr/sbin/dovecot", "/usr/local/sbin/dovecot"].into_iter().find(|path| Path::new(path).exists()) else {
            missing("dovecot (Debian: dovecot-imapd)");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("omnigate-dovecot").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let owner = ids("dovecot").filter(|_| own_id("-u") == "0");
        let (port, tls_port) = (free_port(), free_port());
        let ca_pem = certificates(folder.path());
        for name in ["mail", "home", "run"] {
            let path = folder.path().join(name);
            fs::create_dir(&path).unwrap();
            if name != "run" {
                give(&path, owner);
            }
        }
        let text = config(folder.path(), port, tls_port, owner.is_some(), identity.is_some());
        let limit = format!("mail_max_userip_connections = {connections}\n");
        fs::write(folder.path().join("dovecot.conf"), text + &limit).unwrap();
        if let Some(identity) = identity {
            let text = format!(
                "introspection_mode = post\nintrospection_url = http://{identity}/introspect\nusername_attribute = email\n\
                 active_attribute = active\nactive_value = true\ntimeout_msecs = 2000\n"
            );
            fs::write(folder.path().join("oauth2.conf"), text).unwrap();
        }
        let log = fs::File::create(folder.path().join("stderr.log")).unwrap();
        let child = Command::new(program)
            .args(["-F", "-c"])
            .arg(folder.path().join("dovecot.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let dovecot = Self { port, tls_port, ca_pem, folder, owner, child };
        dovecot.wait_until_up();
        Some(dovecot)
    }

    fn wait_until_up(&self) {
        if imap_client::greets(self.port, Duration::from_secs(20)) {
            return;
        }
        let read = |name: &str| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        panic!("dovecot did not start: {}{}", read("stderr.log"), read("dovecot.log"));
    }

    fn maildir(&self, user: &str, folder: &str) -> PathBuf {
        let root = self.folder.path().join("mail").join(user);
        if folder == "INBOX" { root } else { root.join(format!(".{folder}")) }
    }

    /// Puts mails into the INBOX without IMAP, as a mail server does. The first mail of the list gets the first number.
    pub fn deliver(&self, user: &str, mails: impl IntoIterator<Item = impl AsRef<[u8]>>) {
        let root = self.maildir(user, "INBOX");
        for name in ["", "cur", "new", "tmp"] {
            let path = root.join(name);
            if !path.exists() {
                fs::create_dir_all(&path).unwrap();
                give(&path, self.owner);
            }
        }
        let start = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        for (number, mail) in mails.into_iter().enumerate() {
            let name = format!("{}.{:09}M{number:06}.test", start.as_secs(), start.subsec_nanos());
            let (tmp, new) = (root.join("tmp").join(&name), root.join("new").join(&name));
            // A server stores what came over SMTP, with CRLF or LF; Dovecot gives CRLF either way.
            fs::write(&tmp, mail.as_ref()).unwrap();
            give(&tmp, self.owner);
            fs::rename(tmp, new).unwrap();
        }
    }

    /// Forgets the numbering of a folder: the next session sees another UIDVALIDITY and other UIDs.
    pub fn renumber(&self, user: &str) {
        let root = self.maildir(user, "INBOX");
        for entry in fs::read_dir(&root).unwrap().map(Result::unwrap) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("dovecot.index") || name == "dovecot-uidlist" || name == "dovecot-uidvalidity" {
                // A session that is at work renames its own.
                let removed = fs::remove_file(entry.path());
                assert!(removed.is_ok() || removed.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound));
            }
        }
        // UIDVALIDITY is made from seconds.
        std::thread::sleep(Duration::from_millis(1100));
    }

    /// Makes the mail whose bytes contain `needle` unreadable for the server.
    pub fn make_unreadable(&self, user: &str, needle: &str) {
        let root = self.maildir(user, "INBOX");
        let files = ["cur", "new"].iter().flat_map(|name| fs::read_dir(root.join(name)).unwrap()).map(|entry| entry.unwrap().path());
        let found = files.filter(|path| String::from_utf8_lossy(&fs::read(path).unwrap()).contains(needle)).collect::<Vec<_>>();
        let [path] = &found[..] else { panic!("{} mails hold {needle}", found.len()) };
        fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
        if self.owner.is_some() {
            chown(path, Some(0), Some(0)).unwrap();
        }
    }

    /// The subjects of all mails in a folder.
    pub fn subjects(&self, user: &str, folder: &str) -> Vec<String> {
        let root = self.maildir(user, folder);
        let files =
            ["cur", "new"].iter().filter_map(|name| fs::read_dir(root.join(name)).ok()).flatten().map(|entry| entry.unwrap().path());
        let subject = |path: PathBuf| {
            let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
            text.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap_or_default().to_owned()
        };
        files.map(subject).collect()
    }

    /// How many files a folder has, those that are only being written among them.
    pub fn files(&self, user: &str, folder: &str) -> usize {
        let root = self.maildir(user, folder);
        ["cur", "new", "tmp"].iter().filter_map(|name| fs::read_dir(root.join(name)).ok()).map(Iterator::count).sum()
    }

    /// Ends all sessions of a user.
    pub fn kick(&self, user: &str) {
        let conf = self.folder.path().join("dovecot.conf");
        let kicked = Command::new("doveadm").arg("-c").arg(conf).args(["kick", user]).output().unwrap();
        assert!(kicked.status.success(), "doveadm kick: {}", String::from_utf8_lossy(&kicked.stderr));
    }

    /// Runs IMAP commands in a session of its own; returns everything the server said.
    pub fn imap(&self, user: &str, commands: &[&str]) -> String {
        imap_client::session(self.port, user, PASSWORD, commands)
    }

    /// How many mails are in a folder.
    pub fn count(&self, user: &str, folder: &str) -> u32 {
        imap_client::count(self.port, user, PASSWORD, folder)
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        servers::end(&mut self.child);
    }
}

fn own_id(flag: &str) -> String {
    String::from_utf8(Command::new("id").arg(flag).output().unwrap().stdout).unwrap().trim().to_owned()
}

fn ids(user: &str) -> Option<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let line = passwd.lines().find(|line| line.split(':').next() == Some(user))?.to_owned();
    let fields: Vec<&str> = line.split(':').collect();
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}

fn give(path: &Path, owner: Option<(u32, u32)>) {
    if let Some((user, group)) = owner {
        chown(path, Some(user), Some(group)).unwrap();
    }
}

/// A CA and a leaf for `localhost` (`cert.pem`, `key.pem` in `folder`): rustls refuses a certificate that is both. Returns the CA.
pub fn certificates(folder: &Path) -> String {
    let mut ca = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca.distinguished_name.push(rcgen::DnType::CommonName, "test authority");
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = rcgen::Issuer::from_params(&ca, &ca_key);
    let mut leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let leaf_key = rcgen::KeyPair::generate().unwrap();
    fs::write(folder.join("cert.pem"), leaf.signed_by(&leaf_key, &issuer).unwrap().pem()).unwrap();
    fs::write(folder.join("key.pem"), leaf_key.serialize_pem()).unwrap();
    ca_pem
}

/// Another CA, that signed nothing here.
pub fn other_ca() -> String {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path())
}

fn config(folder: &Path, port: u16, tls_port: u16, root: bool, tokens: bool) -> String {
    let t = folder.display();
    let mechanisms = if tokens { " xoauth2 oauthbearer" } else { "" };
    let token_passdb = format!("passdb {{\n  driver = oauth2\n  mechanisms = xoauth2 oauthbearer\n  args = {t}/oauth2.conf\n}}\n");
    let token_passdb = if tokens { token_passdb.as_str() } else { "" };
    let static_mechanisms = if tokens { "  mechanisms = plain login\n" } else { "" };
    let (user, group) = (own_id("-un"), own_id("-gn"));
    let (internal, internal_group, login) =
        if root { ("dovecot".to_owned(), "dovecot".to_owned(), "dovenull".to_owned()) } else { (user.clone(), group, user) };
    format!(
        r#"base_dir = {t}/run
state_dir = {t}/run
instance_name = test-{port}
log_path = {t}/dovecot.log
auth_failure_delay = 0
protocols = imap
listen = 127.0.0.1
ssl = yes
ssl_cert = <{t}/cert.pem
ssl_key = <{t}/key.pem
ssl_min_protocol = TLSv1.2
disable_plaintext_auth = no
auth_mechanisms = plain login{mechanisms}
default_internal_user = {internal}
default_internal_group = {internal_group}
default_login_user = {login}
first_valid_uid = 1
mail_location = maildir:{t}/mail/%u
imap_idle_notify_interval = 20s
imap_hibernate_timeout = 0
{token_passdb}passdb {{
  driver = static
{static_mechanisms}  args = password={PASSWORD}
}}
userdb {{
  driver = static
  args = uid={internal} gid={internal_group} home={t}/home/%u
}}
namespace inbox {{
  inbox = yes
  separator = /
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {tls_port}
  }}
}}
"#
    )
}
