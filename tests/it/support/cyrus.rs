//! A real Cyrus: own folder, a free port, any user, stopped on drop. It runs out of unpacked packages (`tests/run.sh` puts them there);
//! passwords are accepted by a thread that plays its authentication daemon. Each user has the folders `INBOX` and `Support`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::imap_client;
use crate::support::servers::{self, missing};

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
        let unpacked = servers::installed("cyrus");
        let programs = unpacked.join("usr/lib/cyrus/bin");
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
        let port = servers::free_port();
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
        let libraries = libraries.map(|name| unpacked.join(name).display().to_string()).join(":");
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
        if imap_client::greets(self.port, Duration::from_secs(30)) {
            return;
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
        let said = imap_client::session(self.port, user, "secret", &mails);
        assert_eq!(said.matches("[APPENDUID").count(), mails.len(), "{said}");
    }

    /// Runs IMAP commands in a session of its own; returns everything the server said.
    pub fn imap(&self, user: &str, commands: &[&str]) -> String {
        imap_client::session(self.port, user, "secret", commands)
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
        imap_client::count(self.port, user, "secret", folder)
    }
}

impl Drop for Cyrus {
    fn drop(&mut self) {
        servers::end(&mut self.child);
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
