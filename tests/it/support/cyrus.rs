//! A real Cyrus: own folder, a free port, any user, stopped on drop. It runs out of unpacked packages (`tests/run.sh` puts them there);
//! passwords are accepted by a thread that plays its authentication daemon. Each user has the folders `INBOX` and `Support`.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::servers::missing;

/// A running Cyrus.
pub struct Cyrus {
    /// Where it listens, without TLS.
    pub port: u16,
    folder: tempfile::TempDir,
    child: Child,
}

impl Cyrus {
    /// Starts it; `None`, loudly, where it is not installed.
    #[track_caller]
    pub fn start() -> Option<Self> {
        let servers = std::env::var_os("OMNIGATE_TEST_SERVERS")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-servers"), PathBuf::from);
        let programs = servers.join("cyrus/usr/lib/cyrus/bin");
        if !programs.join("master").exists() {
            missing("cyrus-imapd, unpacked");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("omnigate-cyrus").tempdir().unwrap();
        let at = folder.path();
        fs::set_permissions(at, fs::Permissions::from_mode(0o755)).unwrap();
        // Sockets of those who idle are in the last.
        let folders = ["conf", "spool", "proc", "lock", "conf/socket"];
        for name in folders {
            fs::create_dir(at.join(name)).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        accept_everybody(&at.join("mux"));
        // Its services refuse to run as root.
        let own = |flag: &str| String::from_utf8(Command::new("id").arg(flag).output().unwrap().stdout).unwrap().trim().to_owned();
        let (user, group) = if own("-u") == "0" { ("nobody".to_owned(), "nogroup".to_owned()) } else { (own("-un"), own("-gn")) };
        fs::write(at.join("imapd.conf"), settings(at, &user, &group)).unwrap();
        fs::write(at.join("cyrus.conf"), services(at, &programs, port)).unwrap();
        if user == "nobody" {
            let id = |flag: &str| String::from_utf8(Command::new("id").args([flag, "nobody"]).output().unwrap().stdout).unwrap();
            let (uid, gid) = (id("-u").trim().parse().unwrap(), id("-g").trim().parse().unwrap());
            for name in [""].into_iter().chain(folders) {
                chown(at.join(name), Some(uid), Some(gid)).unwrap();
            }
        }
        let libraries = ["usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu"];
        let libraries = libraries.map(|name| servers.join("cyrus").join(name).display().to_string()).join(":");
        let child = Command::new(programs.join("master"))
            .args(["-D", "-C"])
            .arg(at.join("imapd.conf"))
            .arg("-M")
            .arg(at.join("cyrus.conf"))
            .arg("-p")
            .arg(at.join("master.pid"))
            .env("LD_LIBRARY_PATH", libraries)
            // It ends its services by a signal to its whole group, in which others would be.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(at.join("stderr.log")).unwrap())
            .spawn()
            .unwrap();
        let cyrus = Self { port, folder, child };
        cyrus.wait_until_up();
        Some(cyrus)
    }

    fn wait_until_up(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", self.port)) {
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                let mut line = String::new();
                if BufReader::new(stream).read_line(&mut line).is_ok() && line.starts_with("* OK") {
                    return;
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("cyrus did not start: {}", fs::read_to_string(self.folder.path().join("stderr.log")).unwrap_or_default());
    }

    /// Puts mails into a folder. The first of the list gets the first number.
    pub fn deliver(&self, user: &str, folder: &str, mails: impl IntoIterator<Item = impl AsRef<[u8]>>) {
        let mails: Vec<Vec<u8>> = mails
            .into_iter()
            .map(|mail| {
                let mail = mail.as_ref();
                [format!("APPEND {folder} {{{}+}}\r\n", mail.len()).as_bytes(), mail].concat()
            })
            .collect();
        let said = self.session(user, &mails);
        assert_eq!(said.matches("[APPENDUID").count(), mails.len(), "{said}");
    }

    /// Runs IMAP commands in a session of its own; returns everything the server said.
    pub fn imap(&self, user: &str, commands: &[&str]) -> String {
        self.session(user, &commands.iter().map(|command| command.as_bytes().to_vec()).collect::<Vec<_>>())
    }

    fn session(&self, user: &str, commands: &[Vec<u8>]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let (login, logout) = (format!("LOGIN {user} secret").into_bytes(), b"LOGOUT".to_vec());
        let all = [&login].into_iter().chain(commands).chain([&logout]);
        for (number, command) in all.enumerate() {
            stream.write_all(&[format!("t{number} ").as_bytes(), command, b"\r\n"].concat()).unwrap();
        }
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        said
    }

    /// Gives the mails of a folder other numbers under another UIDVALIDITY: the first becomes the last.
    pub fn renumber(&self, user: &str, folder: &str) {
        // UIDVALIDITY is made from seconds.
        std::thread::sleep(Duration::from_millis(1100));
        let (select, delete) = (format!("SELECT {folder}"), format!("DELETE {folder}"));
        let rename = format!("RENAME Renumbered {folder}");
        let said = self.imap(user, &["CREATE Renumbered", &select, "UID COPY 2:* Renumbered", "UID COPY 1 Renumbered", &delete, &rename]);
        assert!(!said.contains(" NO ") && !said.contains(" BAD "), "{said}");
    }

    /// How many mails are in a folder.
    pub fn count(&self, user: &str, folder: &str) -> u32 {
        let said = self.imap(user, &[&format!("STATUS {folder} (MESSAGES)")]);
        let (_, rest) = said.split_once("(MESSAGES ").unwrap_or_else(|| panic!("no status in {said}"));
        rest.split(')').next().unwrap().parse().unwrap()
    }
}

impl Drop for Cyrus {
    fn drop(&mut self) {
        // The master ends its services only when it is asked to.
        let asked = Command::new("kill").arg(self.child.id().to_string()).status();
        let deadline = Instant::now() + Duration::from_secs(10);
        while asked.is_ok() && Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Plays `saslauthd`: four counted words in, `OK` out. The thread ends with the test's process.
fn accept_everybody(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    fs::set_permissions(socket, fs::Permissions::from_mode(0o777)).unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut asked = [0; 1024];
            let _ = client.read(&mut asked);
            let _ = client.write_all(b"\x00\x02OK");
        }
    });
}

fn settings(at: &Path, user: &str, group: &str) -> String {
    let t = at.display();
    format!(
        "configdirectory: {t}/conf\ndefaultpartition: default\npartition-default: {t}/spool\nproc_path: {t}/proc\n\
         mboxname_lockpath: {t}/lock\nidlesocket: {t}/idle\nsasl_pwcheck_method: saslauthd\nsasl_saslauthd_path: {t}/mux\n\
         sasl_mech_list: PLAIN LOGIN\nallowplaintext: yes\ncyrus_user: {user}\ncyrus_group: {group}\nautocreate_quota: 0\n\
         autocreate_inbox_folders: Support\nunixhierarchysep: yes\naltnamespace: yes\nexpunge_mode: immediate\ndelete_mode: immediate\n"
    )
}

fn services(at: &Path, programs: &Path, port: u16) -> String {
    let (with, programs) = (format!("-C {}/imapd.conf", at.display()), programs.display());
    format!(
        "START {{\n  recover cmd=\"{programs}/ctl_cyrusdb {with} -r\"\n}}\n\
         SERVICES {{\n  imap cmd=\"{programs}/imapd {with}\" listen=\"127.0.0.1:{port}\" prefork=4 maxchild=50\n}}\n\
         DAEMON {{\n  idled cmd=\"{programs}/idled {with}\"\n}}\nEVENTS {{\n}}\n"
    )
}
