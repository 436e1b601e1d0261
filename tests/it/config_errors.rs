//! Mistakes in the configuration, as an admin sees them: exact texts.

use std::path::Path;

use omnigate::config::load::load;
use omnigate::config::source::Memory;
use omnigate::connector::problem::render;

#[track_caller]
fn check_main(text: &str, expected: &str) {
    check(Memory::default().file("c/omnigate.toml", text), expected);
}

#[track_caller]
fn check(files: Memory, expected: &str) {
    let found = load(Path::new("c/omnigate.toml"), &files).err().map(|problems| problems.to_string()).unwrap_or_default();
    assert_eq!(found.trim(), expected.trim(), "\n--- found\n{found}\n--- expected\n{expected}\n");
}

/// The problems of one channel file beside a main file that is right, and beside another channel that keeps running.
#[track_caller]
fn check_channel(text: &str, expected: &str) {
    let files = Memory::default()
        .file("c/omnigate.toml", "")
        .file("c/channels/good.toml", "connector = \"webform\"\nverify = \"none\"\n")
        .file("c/channels/bad.toml", text);
    let loaded = load(Path::new("c/omnigate.toml"), &files).map_err(|problems| panic!("{problems}")).unwrap();
    assert!(loaded.channels["good"].is_ok(), "a broken channel stands alone (I8)");
    let found = loaded.channels["bad"].as_ref().err().map(|failed| render(&failed.problems)).unwrap_or_default();
    assert_eq!(found.trim(), expected.trim(), "\n--- found\n{found}\n--- expected\n{expected}\n");
}

#[test]
fn all_mistakes_are_shown_at_once_in_the_order_of_the_file() {
    check_main(
        r#"
[server]
publik = "0.0.0.0:80"
request_timeout = 15
body_bytes_max = "4 Mib"

[store]
durability = "proces"

[logz]
level = "debug"

[[route]]
to = ["desk"]
"#,
        r#"
c/omnigate.toml:3:1: unknown key `publik` in [server]
  |
3 | publik = "0.0.0.0:80"
  | ^^^^^^ did you mean `public`?

c/omnigate.toml:4:19: `request_timeout` must be a duration from "100ms" to "10m"
  |
4 | request_timeout = 15
  |                   ^^ write the unit: "15s"

c/omnigate.toml:5:18: `body_bytes_max` must be a size from "1 KiB" to "1 GiB"
  |
5 | body_bytes_max = "4 Mib"
  |                  ^^^^^^^

c/omnigate.toml:8:14: `durability` must be "power" or "process"
  |
8 | durability = "proces"
  |              ^^^^^^^^ did you mean "process"?

c/omnigate.toml:10:2: unknown section [logz]
   |
10 | [logz]
   |  ^^^^ did you mean `logs`?

c/omnigate.toml:14:6: unknown destination `desk`
   |
14 | to = ["desk"]
   |      ^^^^^^^^ there is no [destination.desk]
"#,
    );
}

#[test]
fn key_in_the_wrong_section_is_told_where_it_belongs() {
    check_channel(
        "connector = \"webform\"\nverify = \"none\"\npoll_interval = \"30s\"\n",
        r#"
c/channels/bad.toml:3:1: unknown key `poll_interval`
  |
3 | poll_interval = "30s"
  | ^^^^^^^^^^^^^ `poll_interval` belongs to [imap]
"#,
    );
}

#[test]
fn secret_in_the_file_is_refused_and_not_shown() {
    check_main(
        "[destination.desk]\nkind = \"webhook\"\nurl = \"https://desk.example.org\"\nsecret = \"hunter2-hunter2\"\n",
        r#"
c/omnigate.toml:4:10: the secret `secret` must not stand in this file
  |
4 | secret = *****************
  |          ^^^^^^^^^^^^^^^^^ write { env = "DESK_SECRET" } or { file = "desk.secret" }
"#,
    );
}

/// What the daemon would refuse at its start is said by `check`, where the secret can be read.
#[test]
fn webhook_secret_that_is_none_is_refused_at_its_place_and_not_shown() {
    let main = "[destination.desk]\nkind = \"webhook\"\nurl = \"https://desk.example.org\"\nsecret = [{ env = \"NEW\" }, { file = \"old.secret\" }]\n[[route]]\nto = [\"desk\"]\n";
    let files = |new: &str, old: &str| Memory::default().file("c/omnigate.toml", main).file("c/old.secret", old).var("NEW", new);
    let good = "whsec_b25lb25lb25lb25lb25lb25lb25lb25l";
    check(files(good, &format!("{good}\n")), "");
    for (new, old, message) in [
        (good, "hunter2-hunter2-hunter2", "a webhook secret starts with `whsec_`, followed by base64 (secret 2 of 2)"),
        ("whsec_not base64", good, "the part of the webhook secret behind `whsec_` is not standard base64 with padding (secret 1 of 2)"),
        ("whsec_c2hvcnQ=", good, "the webhook secret holds 5 bytes: 24 to 64 are allowed (secret 1 of 2)"),
    ] {
        let line = "secret = [{ env = \"NEW\" }, { file = \"old.secret\" }]";
        let marks = "^".repeat(line.len() - "secret = ".len());
        let expected = format!(
            "c/omnigate.toml:4:10: {message}\n  |\n4 | {line}\n  |          {marks} make one: echo \"whsec_$(openssl rand -base64 32)\""
        );
        check(files(new, old), &expected);
    }
}

#[test]
fn secret_on_a_line_with_another_mistake_is_not_shown() {
    check_main(
        "destination.desk = { kind = \"webhook\", url = \"https://desk.example.org\", secret = \"hunter2\", rat = 1 }\n",
        r#"
c/omnigate.toml:1:83: the secret `secret` must not stand in this file
  |
1 | destination.desk = { kind = "webhook", url = "https://desk.example.org", secret = *********, rat = 1 }
  |                                                                                   ^^^^^^^^^ write { env = "DESK_SECRET" } or { file = "desk.secret" }

c/omnigate.toml:1:94: unknown key `rat` in [destination.desk]
  |
1 | destination.desk = { kind = "webhook", url = "https://desk.example.org", secret = *********, rat = 1 }
  |                                                                                              ^^^ did you mean `rate`?
"#,
    );
}

#[test]
fn file_that_is_no_toml_does_not_show_its_secrets() {
    check_main(
        "[destination.desk]\nsecret = \"hunter2\n",
        r#"
c/omnigate.toml:2:18: invalid basic string, expected `"`
  |
2 | secret = ********
  |                  ^
"#,
    );
}

#[test]
fn webhook_without_url_and_secret_is_told_what_it_needs() {
    check_main(
        "[destination.help-desk]\nkind = \"webhook\"\npath = \"x\"\n[[route]]\nto = [\"helpdesk\"]\n",
        r#"
c/omnigate.toml:1:14: `secret` is missing in [destination.help-desk]
  |
1 | [destination.help-desk]
  |              ^^^^^^^^^ a webhook needs it: `secret = { env = "HELP_DESK_SECRET" }`

c/omnigate.toml:1:14: `url` is missing in [destination.help-desk]
  |
1 | [destination.help-desk]
  |              ^^^^^^^^^ a webhook needs it: `url = "https://…"`

c/omnigate.toml:3:1: `path` is only for destinations with kind = "file"
  |
3 | path = "x"
  | ^^^^

c/omnigate.toml:5:6: unknown destination `helpdesk`
  |
5 | to = ["helpdesk"]
  |      ^^^^^^^^^^^^ did you mean "help-desk"?
"#,
    );
}

#[test]
fn both_listeners_on_one_socket_are_refused() {
    check_main(
        "[server]\npublic = \"0.0.0.0:80\"\nprivate = \"0.0.0.0:80\"\n",
        r#"
c/omnigate.toml:3:11: `public` and `private` must be two sockets: what the private one serves must not be reachable from outside
  |
3 | private = "0.0.0.0:80"
  |           ^^^^^^^^^^^^
"#,
    );
}

#[test]
fn missing_main_file_says_how_to_name_one() {
    check(
        Memory::default(),
        "c/omnigate.toml: cannot be read: there is no such file\n   = name another one with --config FILE; an empty one takes every default",
    );
}

#[test]
fn broken_main_file_shows_the_mistakes_of_channels_too() {
    check(
        Memory::default().file("c/omnigate.toml", "instance.nam = \"x\"\n").file("c/channels/bad.toml", "conector = \"webform\"\n"),
        r#"
c/channels/bad.toml:1:1: `connector` is missing
  |
1 | conector = "webform"
  | ^ add `connector = "slack"`

c/channels/bad.toml:1:1: unknown key `conector`
  |
1 | conector = "webform"
  | ^^^^^^^^ did you mean `connector`?

c/omnigate.toml:1:10: unknown key `nam` in [instance]
  |
1 | instance.nam = "x"
  |          ^^^ did you mean `name`?
"#,
    );
}

#[test]
fn unset_secret_of_a_channel_is_named() {
    check_channel(
        "connector = \"slack\"\n[secrets]\nsigning_secret = [{ env = \"NEW_SECRET\" }, { file = \"old.secret\" }]\n",
        r#"
c/channels/bad.toml:3:19: the environment variable NEW_SECRET of `signing_secret` is not set
  |
3 | signing_secret = [{ env = "NEW_SECRET" }, { file = "old.secret" }]
  |                   ^^^^^^^^^^^^^^^^^^^^^^

c/channels/bad.toml:3:43: the file c/channels/old.secret of `signing_secret` cannot be read: there is no such file
  |
3 | signing_secret = [{ env = "NEW_SECRET" }, { file = "old.secret" }]
  |                                           ^^^^^^^^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn password_without_tls_is_refused_beyond_this_machine() {
    check_channel(
        "connector = \"imap\"\n[imap]\nhost = \"mail.example.org\"\nuser = \"a@example.org\"\ntls = \"none\"\nafter = \"move\"\npassword = \"hunter2\"\n",
        r#"
c/channels/bad.toml:5:7: without TLS the password would travel readable to mail.example.org
  |
5 | tls = "none"
  |       ^^^^^^ use "implicit" or "starttls"

c/channels/bad.toml:6:9: `after = "move"` needs a folder
  |
6 | after = "move"
  |         ^^^^^^ add `move_to = "Processed"`

c/channels/bad.toml:7:1: unknown key `password` in [imap]
  |
7 | password = *********
  | ^^^^^^^^ secrets stand in [secrets]: `password = { env = "…" }`
"#,
    );
}

#[test]
fn two_connectors_cannot_share_a_hook() {
    let files =
        Memory::default().file("c/omnigate.toml", "").file("c/channels/a.toml", "connector = \"webform\"\nverify = \"none\"\n").file(
            "c/channels/b.toml",
            "connector = \"generic\"\nverify = \"none\"\nmap = '''{kind: \"ignore\", code: \"x\"}'''\nhook = \"a\"\n",
        );
    let loaded = load(Path::new("c/omnigate.toml"), &files).map_err(|problems| panic!("{problems}")).unwrap();
    assert!(loaded.channels["a"].is_ok());
    let found = render(&loaded.channels["b"].as_ref().unwrap_err().problems);
    assert_eq!(
        found,
        "c/channels/b.toml:4:1: the hook `a` belongs to channel `a` with connector `webform`\n  |\n4 | hook = \"a\"\n  | ^^^^^^^^^^ give it a hook of its own"
    );
}

#[test]
fn file_name_that_cannot_be_an_id_is_refused() {
    let files =
        Memory::default().file("c/omnigate.toml", "").file("c/channels/Support Form.toml", "connector = \"webform\"\nverify = \"none\"\n");
    let loaded = load(Path::new("c/omnigate.toml"), &files).map_err(|problems| panic!("{problems}")).unwrap();
    let found = render(&loaded.channel_problems());
    assert_eq!(
        found,
        "c/channels/Support Form.toml: `Support Form` cannot be a channel's id\n   = rename the file: lower-case letters, digits, `-`, `_` and `.`"
    );
}

#[test]
fn jq_of_a_route_is_compiled_when_the_file_is_read() {
    check_main(
        "[[route]]\nwhen = '.message.kind == \"email\" | lowr'\ntags = [\"mail\"]\n",
        r#"
c/omnigate.toml:2:8: `when`: undefined filter `lowr`
  |
2 | when = '.message.kind == "email" | lowr'
  |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn a_connector_that_does_not_exist_is_told_beside_everything_else() {
    check_channel(
        "connector = \"slak\"\n[secrets]\nsigning_secret = { env = \"NOWHERE\" }\n",
        r#"
c/channels/bad.toml:1:1: there is no connector `slak`
  |
1 | connector = "slak"
  | ^^^^^^^^^^^^^^^^^^ did you mean "slack"?

c/channels/bad.toml:3:18: the environment variable NOWHERE of `signing_secret` is not set
  |
3 | signing_secret = { env = "NOWHERE" }
  |                  ^^^^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn tables_written_as_lists_and_jq_that_ends_too_soon_are_explained() {
    check_main(
        "[[destination]]\nname = \"crm\"\n[[route]]\nwhen = \".data.message.kind = \"\nto = []\n",
        r#"
c/omnigate.toml:1:1: `destination` must be a table
  |
1 | [[destination]]
  | ^^^^^^^^^^^^^^^ each has a name: write [destination.NAME] instead of [[destination]]

c/omnigate.toml:4:8: `when`: not jq: term expected here
  |
4 | when = ".data.message.kind = "
  |        ^^^^^^^^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn two_channels_of_one_mailbox_would_take_its_lease_from_each_other() {
    let mailbox = |host: &str, more: &str| {
        format!("connector = \"imap\"\n[secrets]\npassword = {{ env = \"PW\" }}\n[imap]\nhost = \"{host}\"\nuser = \"support\"\n{more}")
    };
    let files = Memory::default()
        .file("c/omnigate.toml", "")
        .var("PW", "x")
        .file("c/channels/a.toml", mailbox("imap.example.org", ""))
        .file("c/channels/b.toml", mailbox("IMAP.example.org", "folders = [\"Orders\"]\n"))
        .file("c/channels/c.toml", mailbox("imap.example.net", ""))
        .file("c/channels/d.toml", format!("enabled = false\n{}", mailbox("imap.example.org", "")));
    let loaded = load(Path::new("c/omnigate.toml"), &files).map_err(|problems| panic!("{problems}")).unwrap();
    let failed: Vec<&String> = loaded.channels.iter().filter(|(_, channel)| channel.is_err()).map(|(id, _)| id).collect();
    assert_eq!(failed, ["b"]);
    let told = loaded.channels["b"].as_ref().err().map(|failed| render(&failed.problems)).unwrap_or_default();
    assert_eq!(
        told.trim(),
        r#"
c/channels/b.toml:6:1: channel `a` reads this mailbox already
  |
6 | user = "support"
  | ^^^^^^^^^^^^^^^^ name all its `folders` in one file
"#
        .trim()
    );
}
