//! The whole way with OAuth: a person logs in by `channel login`, the daemon gets tokens, Dovecot asks the identity provider about them,
//! mail arrives; consents end and are given anew.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::daemon::{Daemon, Setup};
use crate::support::dovecot::Dovecot;
use crate::support::http1;
use crate::support::identity::{CLIENT_SECRET, Identity};

fn mail(subject: &str) -> String {
    let head = "From: Ana <ana@example.org>\r\nTo: support@example.org\r\n";
    format!("{head}Subject: {subject}\r\nMessage-ID: <{subject}@example.org>\r\n\r\nHello, this is {subject}.\r\n")
}

/// A mailbox `support` of the user `ana` that is pulled into a file; `oauth` are further lines of `[oauth]`.
fn setup(dovecot: &Dovecot, identity: &Identity, oauth: &str) -> Setup {
    let (token, device, authorize) = (identity.url("token"), identity.url("device"), identity.url("authorize"));
    let channel = format!(
        "connector = \"imap\"\n[imap]\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\nuser = \"ana\"\nfirst_run = \"backfill\"\n\
         [oauth]\nclient_id = \"omnigate\"\nscopes = [\"mail\", \"offline_access\"]\ntoken_url = \"{token}\"\n\
         device_url = \"{device}\"\nauthorize_url = \"{authorize}\"\n{oauth}\n",
        dovecot.port
    );
    Setup {
        rest: "[destination.archive]\nkind = \"file\"\npath = \"events.ndjson\"\n[[route]]\nto = [\"archive\"]\nhistoric = true\n\
               [[route]]\nto = [\"archive\"]\noperator = true\n"
            .to_owned(),
        channels: BTreeMap::from([("support".to_owned(), channel)]),
        env: BTreeMap::from([("CLIENT_SECRET".to_owned(), CLIENT_SECRET.to_owned())]),
        ..Setup::default()
    }
}

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let from = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(from.elapsed() < Duration::from_secs(30), "{what}: not within 30 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn events(daemon: &Daemon) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(daemon.folder.path().join("events.ndjson")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn arrives(daemon: &Daemon, subject: &str) {
    until(subject, async || events(daemon).iter().any(|event| event["data"]["message"]["subject"] == subject).then_some(())).await;
}

async fn degraded(daemon: &Daemon, code: &str) {
    until(code, async || (daemon.get("/v1/status").await["channels"]["support"]["code"] == code).then_some(())).await;
}

/// Nothing below `folder` holds this text.
fn nowhere(folder: &Path, text: &str) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            nowhere(&entry.path(), text);
        } else {
            let bytes = std::fs::read(entry.path()).unwrap_or_default();
            assert!(!bytes.windows(text.len()).any(|window| window == text.as_bytes()), "{} holds {text}", entry.path().display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_logs_in_once_and_mail_flows_until_the_consent_is_withdrawn() {
    let identity = Identity::start("ana").await;
    let Some(dovecot) = Dovecot::start_with_tokens(identity.address) else { return };
    dovecot.deliver("ana", [mail("before")]);
    identity.book().rotate = true;
    identity.book().pending = 1;
    let mut daemon = Daemon::start(setup(&dovecot, &identity, "")).await;
    degraded(&daemon, "login_needed").await;
    let (status, _, err) = daemon.command(&["channel", "login", "support"]);
    assert!(status.success(), "{err}");
    assert!(err.contains("Open https://login.example.org/device and enter the code ABCD-EFGH"), "{err}");
    arrives(&daemon, "before").await;
    // The access token is withdrawn: the session that is open ends, the next one gets another token.
    identity.book().access.clear();
    dovecot.kick("ana");
    dovecot.deliver("ana", [mail("after the kick")]);
    arrives(&daemon, "after the kick").await;
    // A restart goes on with the consent that was kept.
    let kept: Vec<String> = identity.book().refresh.keys().cloned().collect();
    daemon.kill();
    kept.iter().for_each(|token| nowhere(&daemon.data_dir(), token));
    // Looked at while no daemon runs: each look uses a token up and keeps its successor, also when two look at once.
    let before = identity.asked("refresh_token");
    let looks = std::thread::scope(|scope| {
        let looks: Vec<_> = (0..2).map(|_| scope.spawn(|| daemon.command(&["check", "--connect"]))).collect();
        looks.into_iter().map(|look| look.join().unwrap()).collect::<Vec<_>>()
    });
    for (status, out, err) in looks {
        assert!(status.success() && out.contains("channel support: logged in to 127.0.0.1"), "{out}{err}");
    }
    let (status, out, err) = daemon.command(&["reconcile", "support"]);
    assert!(status.success() && out.contains("INBOX"), "{out}{err}");
    assert_eq!(identity.asked("refresh_token"), before + 3);
    let kept: Vec<String> = kept.into_iter().chain(identity.book().refresh.keys().cloned()).collect();
    kept.iter().for_each(|token| nowhere(&daemon.data_dir(), token));
    daemon.launch();
    daemon.ready().await;
    dovecot.deliver("ana", [mail("after the restart")]);
    arrives(&daemon, "after the restart").await;
    // The daemon's own consent is left alone while it runs.
    let before = identity.asked("refresh_token");
    let (status, out, _) = daemon.command(&["check", "--connect"]);
    assert!(status.success() && out.contains("a person has logged in; not tried: the daemon uses it"), "{out}");
    assert_eq!(identity.asked("refresh_token"), before);
    // The consent is withdrawn as a whole: a person must act, nothing is lost.
    identity.book().access.clear();
    identity.book().refresh.clear();
    dovecot.kick("ana");
    dovecot.deliver("ana", [mail("while nobody was logged in")]);
    degraded(&daemon, "consent_expired").await;
    let (status, _, err) = daemon.command(&["channel", "login", "support", "--flow", "device"]);
    assert!(status.success(), "{err}");
    arrives(&daemon, "while nobody was logged in").await;
    kept.iter().for_each(|token| assert!(!daemon.log_text().contains(token), "I7"));
}

/// Starts `channel login` and reads the address that the person is to open.
fn browser_login(daemon: &Daemon) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_omnigate"))
        .args(["channel", "login", "support", "--flow", "browser", "--config", daemon.config().to_str().unwrap()])
        .envs(&daemon.setup.env)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.as_mut().unwrap()).lines();
    let address = lines.map(Result::unwrap).find(|line| line.starts_with("http://")).unwrap();
    (child, address)
}

async fn get(url: &str) -> http1::Message {
    let url = url::Url::parse(url).unwrap();
    let address = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap()).parse().unwrap();
    http1::once(address, "GET", &format!("{}?{}", url.path(), url.query().unwrap_or_default()), &[], b"").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_in_with_the_browser_before_the_first_run_is_kept_for_it() {
    let identity = Identity::start("ana").await;
    let Some(dovecot) = Dovecot::start_with_tokens(identity.address) else { return };
    dovecot.deliver("ana", [mail("first")]);
    identity.book().refresh_expires_in = Some(2 * 86_400);
    let mut daemon = Daemon::prepare(setup(&dovecot, &identity, ""));
    let (status, out, _) = daemon.command(&["check", "--connect"]);
    assert!(!status.success() && out.contains("login_needed: nobody has logged in yet: omnigate channel login support"), "{out}");
    let (mut login, address) = browser_login(&daemon);
    let there = get(&address).await;
    let back = there.header("location").unwrap().to_owned();
    // Somebody else knocks at the port first, without the secret state.
    let stranger = back.split_once("state=").unwrap().0.to_owned() + "state=guessed";
    assert_eq!(get(&stranger).await.status(), 404);
    assert_eq!(get(&back).await.status(), 200);
    assert!(login.wait().unwrap().success());
    daemon.launch();
    daemon.ready().await;
    arrives(&daemon, "first").await;
    // The provider said that the consent is good for two days: operators hear of it, the channel works.
    let warned = async || events(&daemon).into_iter().find(|event| event["data"]["code"] == "consent_expiring");
    let event = until("a warning", warned).await;
    assert_eq!((&event["type"], &event["data"]["counts"]["days_left"]), (&"channel.degraded".into(), &3.into()));
    assert_eq!(daemon.get("/v1/status").await["channels"]["support"]["state"], "running");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let ends = daemon.scrape().await.sum("omnigate_channel_consent_ends_timestamp_seconds", &[("channel", "support")]);
    assert!((now + 2 * 86_400 - 600..now + 2 * 86_400 + 60).contains(&ends), "{ends}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_by_itself_needs_no_person_and_is_checked_for_real() {
    let identity = Identity::start("ana").await;
    let Some(dovecot) = Dovecot::start_with_tokens(identity.address) else { return };
    dovecot.deliver("ana", [mail("one")]);
    let own = "grant = \"client_credentials\"\n[secrets]\nclient_secret = { env = \"CLIENT_SECRET\" }";
    let mut with = setup(&dovecot, &identity, own);
    let daemon = Daemon::prepare(with.clone());
    let (status, out, err) = daemon.command(&["check", "--connect"]);
    assert!(status.success() && out.contains("logged in to 127.0.0.1"), "{out}{err}");
    let (status, _, err) = daemon.command(&["channel", "login", "support"]);
    assert_eq!((status.code(), err.contains("needs no log-in")), (Some(6), true), "{err}");
    with.env.insert("CLIENT_SECRET".to_owned(), "not-the-secret".to_owned());
    let (status, out, _) = Daemon::prepare(with.clone()).command(&["check", "--connect"]);
    assert!(!status.success() && out.contains("auth_failed: identity provider 127.0.0.1") && out.contains("invalid_client"), "{out}");
    with.env.insert("CLIENT_SECRET".to_owned(), CLIENT_SECRET.to_owned());
    let daemon = Daemon::start(with).await;
    arrives(&daemon, "one").await;
}
