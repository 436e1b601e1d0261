//! The command line as a person and a script see it: help, exit codes, `try`, the connector kit, and commands against a running daemon.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::daemon::{Daemon, Setup};

/// How a command ended: exit code, standard output, standard error.
struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Ended {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {} {}", self.out, self.err))
    }
}

fn omnigate(folder: &Path, args: &[&str], stdin: &str) -> Ended {
    let mut child = Command::new(env!("CARGO_BIN_EXE_omnigate"))
        .args(args)
        .current_dir(folder)
        .env_remove("OMNIGATE_CONFIG")
        .env_remove("BLESS")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input closes it; that is no failure of the test.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn folder_with(main: &str, channels: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("config/channels")).unwrap();
    std::fs::write(folder.path().join("config/omnigate.toml"), main).unwrap();
    for (id, text) in channels {
        std::fs::write(folder.path().join(format!("config/channels/{id}.toml")), text).unwrap();
    }
    folder
}

#[test]
fn help_names_every_command_and_the_exit_codes() {
    let help = omnigate(here(), &["--help"], "");
    assert_eq!(help.code, 0);
    for command in [
        "run",
        "check",
        "try",
        "demo",
        "reload",
        "status",
        "ledger",
        "message",
        "dead",
        "quarantine",
        "replay",
        "backfill",
        "destination",
        "channel",
        "connector",
        "schema",
        "migrate",
        "backup",
        "restore",
        "erase",
    ] {
        assert!(help.out.lines().any(|line| line.trim_start().starts_with(&format!("{command} "))), "{command} is missing");
    }
    assert!(help.out.contains("Exit codes: 0 done"));
}

#[test]
fn exit_codes_tell_scripts_what_happened() {
    let empty = folder_with("instance.data_dir = \"nothing-here\"\nserver.private = \"127.0.0.1:1\"\n", &[]);
    let broken = folder_with("servr = 1\n", &[]);
    let astray = folder_with("server.private = \"8481\"\n", &[]);
    let code = |folder: &Path, args: &[&str]| omnigate(folder, args, "").code;
    assert_eq!(code(here(), &["check"]), 0);
    assert_eq!(code(here(), &["ledgr"]), 2);
    assert_eq!(code(broken.path(), &["check"]), 3);
    assert_eq!(code(broken.path(), &["run"]), 3);
    assert_eq!(code(astray.path(), &["status"]), 3, "a mistake must not reach another daemon");
    assert_eq!(code(empty.path(), &["status"]), 4);
    assert_eq!(code(empty.path(), &["reload"]), 4);
    assert_eq!(code(here(), &["connector", "show", "slak"]), 5);
    assert_eq!(code(here(), &["try", "slack", "--file", "no-such-file"]), 5);
    assert_eq!(code(empty.path(), &["migrate"]), 5);
}

#[test]
fn check_shows_all_mistakes_of_all_files_and_refuses() {
    let channel = "connector = \"slak\"\n";
    let folder = folder_with("[[route]]\nto = []\n", &[("team", channel), ("form", "connector = \"webform\"\n")]);
    let ended = omnigate(folder.path(), &["check"], "");
    assert_eq!(ended.code, 3);
    assert!(ended.err.contains("config/channels/team.toml:1:1: there is no connector `slak`\n"), "{}", ended.err);
    assert!(ended.err.contains("did you mean \"slack\"?"), "{}", ended.err);
    assert!(
        ended.err.contains("config/channels/form.toml:1:1: the secret `form_key` is not set: anybody could write here"),
        "{}",
        ended.err
    );
    assert!(ended.err.contains("config/omnigate.toml:1:1: warning: this route does nothing"), "{}", ended.err);
    assert!(ended.err.ends_with("omnigate: 2 problems in the configuration\n"), "{}", ended.err);
    let rows = omnigate(folder.path(), &["check", "--json"], "").json();
    assert_eq!(rows.as_array().unwrap().len(), 3);
}

#[test]
fn check_says_what_the_start_would_say() {
    let folder = folder_with("[logs]\nlevel = \"verbose\"\n[server]\nadmin_token = { env = \"NOBODY_SETS_THIS\" }\n", &[]);
    let ended = omnigate(folder.path(), &["check"], "");
    assert_eq!(ended.code, 3);
    assert!(
        ended.err.contains("config/omnigate.toml: [logs] level: ") && ended.err.contains("expected error, warn, info"),
        "{}",
        ended.err
    );
    assert!(ended.err.contains("[server] admin_token: ") && ended.err.contains("NOBODY_SETS_THIS"), "{}", ended.err);
}

#[test]
fn try_prints_one_document_and_nothing_else() {
    let file = "connectors/slack/fixtures/bad_signature/request.http";
    let refused = omnigate(here(), &["try", "slack", "--file", file, "--setting", "signing_secret=wrong", "--json"], "");
    assert_eq!((refused.code, refused.err.as_str()), (0, ""));
    assert_eq!((refused.json()["outcome"].as_str(), refused.json()["code"].as_str()), (Some("refused"), Some("signature")));
    let read = omnigate(here(), &["try", "slack", "--file", file, "--skip-verify", "--json"], "").json();
    assert_eq!((read["outcome"].as_str(), read["code"].is_null()), (Some("messages"), true));
    assert_eq!(read["events"][0]["type"], "message.created");
}

#[test]
fn try_reads_mail_and_standard_input() {
    let mail = "From: Ana <ana@example.org>\r\nTo: support@example.org\r\nSubject: Hello\r\nMessage-ID: <1@example.org>\r\n\r\nWhere is my order?\r\n";
    let document = omnigate(here(), &["try", "imap", "--file", "-", "--json"], mail).json();
    assert_eq!(document["outcome"], "messages", "{document}");
    assert_eq!(document["events"][0]["data"]["message"]["subject"], "Hello");
    let form = omnigate(here(), &["try", "contact-form", "--file", "-", "--json"], "name=Ana&email=ana@example.org&message=Hi").json();
    assert_eq!(form["events"][0]["data"]["message"]["text"], "Hi", "{form}");
}

#[test]
fn try_with_a_setting_that_is_none_says_so() {
    let ended = omnigate(here(), &["try", "slack", "--file", "-", "--setting", "sining_secret=x"], "{}");
    assert_eq!((ended.code, ended.err.as_str()), (2, "omnigate: connector `slack` has no setting or secret `sining_secret`\n"));
}

/// What comes back from a ticket system is tested and tried as what comes from a platform.
#[test]
fn ways_back_from_ticket_systems_are_tested_and_tried_as_connectors_are() {
    let passed = omnigate(here(), &["connector", "test", "zendesk"], "");
    assert_eq!(passed.code, 0, "{}{}", passed.out, passed.err);
    assert!(passed.out.contains("ok      zendesk/back/bad_signature\n"), "{}", passed.out);
    let file = "connectors/zendesk/back/fixtures/comment_of_an_agent/request.http";
    let tried = omnigate(here(), &["try", "zendesk/back", "--file", file, "--skip-verify", "--json"], "").json();
    assert_eq!(tried["told"][0]["entry"], "901", "{tried}");
    let refused = omnigate(here(), &["try", "zendesk/back", "--file", file, "--setting", "signing_secret=x", "--json"], "").json();
    assert_ne!(refused["outcome"], "messages", "{refused}");
    // A code that no case reaches is named, as is a hook without a forged request.
    let folder = folder_with("", &[]);
    assert_eq!(omnigate(folder.path(), &["connector", "eject", "zendesk"], "").code, 0);
    for case in ["internal_comment", "bad_signature", "unsigned", "signed_long_ago", "status_closed"] {
        std::fs::remove_dir_all(folder.path().join("config/connectors/zendesk/back/fixtures").join(case)).unwrap();
    }
    let failed = omnigate(folder.path(), &["connector", "test", "zendesk"], "");
    assert_eq!(failed.code, 1);
    assert!(failed.out.contains("FAILED  zendesk/back: no fixture reaches internal_note, signature, ticket:closed\n"), "{}", failed.out);
    // A destination that hears is tried with its own settings.
    let desk = "[destination.desk]\nkind = \"ticket\"\nsystem = \"redmine\"\nback = [\"poll\"]\n\
        settings = { url = \"https://redmine.example.org\", project = \"p\", conversation_field_id = 1, closed_statuses = [\"9\"] }\n\
        secrets = { api_key = { env = \"NOT_SET_HERE\" } }\n";
    let folder = folder_with(desk, &[]);
    let journal =
        r#"{"id": 1, "created_on": "2023-11-14T22:16:00Z", "details": [{"property": "attr", "name": "status_id", "new_value": "9"}]}"#;
    let page = format!(r#"{{"issues": [{{"id": 7, "follow": {{"issue": {{"id": 7, "journals": [{journal}]}}}}}}]}}"#);
    let tried = omnigate(folder.path(), &["try", "desk", "--file", "-", "--skip-verify", "--json"], &page).json();
    assert_eq!(tried["told"][0]["state"], "closed", "{tried}");
}

#[test]
fn new_connector_passes_its_fixtures_and_a_change_is_seen() {
    let folder = folder_with("", &[]);
    assert_eq!(omnigate(folder.path(), &["connector", "new", "acme-chat"], "").code, 0);
    let passed = omnigate(folder.path(), &["connector", "test", "acme-chat"], "");
    assert_eq!((passed.code, passed.err.as_str()), (0, "2 cases of 1 connector passed\n"), "{}", passed.out);
    let map = folder.path().join("config/connectors/acme-chat/map.jq");
    let text = std::fs::read_to_string(&map).unwrap().replace("text: .text", "text: (.text | ascii_upcase)");
    std::fs::write(&map, text).unwrap();
    let failed = omnigate(folder.path(), &["connector", "test", "acme-chat"], "");
    assert_eq!(failed.code, 1);
    assert!(failed.out.contains("FAILED  acme-chat/text_message") && failed.out.contains("WHERE IS MY ORDER"), "{}", failed.out);
    assert_eq!(omnigate(folder.path(), &["connector", "new", "acme-chat"], "").code, 6, "nothing is overwritten");
}

/// The daemon's secrets are set where the daemon runs, not at every operator's desk.
#[test]
fn secrets_of_the_daemon_are_not_needed_at_the_desk() {
    let main = "[destination.desk]\nkind = \"webhook\"\nurl = \"https://desk.example.org\"\nsecret = { env = \"NOT_SET_HERE\" }\n";
    let folder = folder_with(main, &[]);
    assert_eq!(omnigate(folder.path(), &["check"], "").code, 3);
    assert_eq!(omnigate(folder.path(), &["connector", "list"], "").code, 0);
    assert_eq!(omnigate(folder.path(), &["try", "generic", "--file", "-", "--skip-verify"], "{}").code, 0);
}

#[test]
fn schemas_are_printed() {
    for of in ["event", "config", "channel", "connector"] {
        let schema = omnigate(here(), &["schema", of], "").json();
        assert!(jsonschema::validator_for(&schema).is_ok(), "{of}");
    }
}

fn form_to_file() -> Setup {
    let mut setup = Setup {
        rest: "[destination.archive]\nkind = \"file\"\npath = \"events.ndjson\"\n[[route]]\nto = [\"archive\"]\n".to_owned(),
        ..Setup::default()
    };
    setup.channels = BTreeMap::from([("form".to_owned(), "connector = \"webform\"\nverify = \"none\"\n".to_owned())]);
    setup
}

fn submit(daemon: &Daemon, text: &str) {
    let body = serde_json::json!({ "name": "Ana", "email": "ana@example.org", "message": text }).to_string();
    let mut stream = std::net::TcpStream::connect(daemon.public).unwrap();
    let head = "POST /hooks/form HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n";
    write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn at(daemon: &Daemon, args: &[&str]) -> Ended {
    let config = daemon.folder.path().join("omnigate.toml");
    let mut all = vec!["--config", config.to_str().unwrap()];
    all.extend(args);
    omnigate(here(), &all, "")
}

#[tokio::test(flavor = "multi_thread")]
async fn quarantined_item_is_shown_also_without_a_daemon() {
    let mut setup = form_to_file();
    let channel = "connector = \"generic\"\nverify = \"none\"\nmap = \"error(.text)\"\n";
    setup.channels.insert("own".to_owned(), channel.to_owned());
    let mut daemon = Daemon::start(setup).await;
    let headers = [("content-type", "application/json")];
    crate::support::http1::once(daemon.public, "POST", "/hooks/own", &headers, br#"{"text":"odd"}"#).await.unwrap();
    let shown = |daemon: &Daemon| {
        let listed = at(daemon, &["quarantine", "list", "--json"]).json();
        let item = listed[0]["item"].to_string();
        assert_eq!(at(daemon, &["quarantine", "list", "--before", &item, "--json"]).json(), serde_json::json!([]));
        let shown = at(daemon, &["quarantine", "show", &item, "--json"]);
        assert_eq!(shown.code, 0, "{}", shown.err);
        shown.json()
    };
    let running = shown(&daemon);
    assert_eq!((&running["code"], &running["body"]["text"]), (&"mapping_failed".into(), &"{\"text\":\"odd\"}".into()));
    daemon.kill();
    assert_eq!(shown(&daemon), running);
    assert_eq!(at(&daemon, &["quarantine", "show", "4711"]).code, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_work_on_a_running_daemon_and_reading_also_without_one() {
    let mut daemon = Daemon::start(form_to_file()).await;
    submit(&daemon, "Where is my order?");

    let status = at(&daemon, &["status"]);
    assert_eq!(status.code, 0, "{}", status.err);
    assert!(status.out.contains("ready") && status.out.contains("form") && status.out.contains("archive"), "{}", status.out);
    let ledger = at(&daemon, &["ledger", "--json"]).json();
    assert_eq!((ledger[0]["channel"].as_str(), ledger[0]["fate"].as_str()), (Some("form"), Some("published")));
    let message = ledger[0]["message"].as_str().unwrap().to_owned();
    assert!(at(&daemon, &["message", &message]).out.contains("Where is my order?"));
    assert_eq!(at(&daemon, &["message", "msg_00000000000000000000000000"]).code, 5);

    assert_eq!(at(&daemon, &["destination", "pause", "archive"]).code, 0);
    assert!(at(&daemon, &["destination", "list"]).out.contains("paused"));
    assert_eq!(at(&daemon, &["destination", "resume", "archive"]).code, 0);
    assert_eq!(at(&daemon, &["destination", "pause", "nobody"]).code, 5);
    let reload = at(&daemon, &["reload"]);
    assert_eq!((reload.code, reload.out.as_str()), (0, "nothing changed\n"));
    let count = at(&daemon, &["replay", "--to", "archive", "--dry-run", "--json"]).json();
    assert_eq!(count["count"], 1);
    let contact = at(&daemon, &["message", &message, "--json"]).json()["contact"].as_str().unwrap().to_owned();
    let unconfirmed = at(&daemon, &["erase", &contact]);
    assert_eq!(unconfirmed.code, 6, "{}", unconfirmed.err);

    let backup = daemon.folder.path().join("backup");
    let backup = backup.to_str().unwrap();
    let made = at(&daemon, &["backup", backup]);
    assert_eq!(made.code, 0, "{}", made.err);
    submit(&daemon, "This came after the backup");
    assert_eq!(at(&daemon, &["restore", backup, "--force"]).code, 6, "not while it runs");

    daemon.kill();
    let ledger = at(&daemon, &["ledger", "--json"]).json();
    assert_eq!(ledger.as_array().unwrap().len(), 2, "read from the store while no daemon runs");
    let listed = at(&daemon, &["destination", "list"]);
    assert!(listed.out.contains("archive") && !listed.out.contains("not configured"), "{}", listed.out);
    assert_eq!(at(&daemon, &["reload"]).code, 4);
    assert_eq!(at(&daemon, &["restore", backup]).code, 6, "a store is there");
    let restored = at(&daemon, &["restore", backup, "--force"]);
    assert_eq!(restored.code, 0, "{}", restored.err);
    assert_eq!(at(&daemon, &["ledger", "--json"]).json().as_array().unwrap().len(), 1);
    assert_eq!(at(&daemon, &["migrate"]).code, 0);
}
