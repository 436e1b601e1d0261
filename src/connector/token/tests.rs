//! What is refused at load.
#![allow(clippy::unwrap_used, clippy::panic)]

use crate::connector::folder::Folder;
use crate::connector::jq::Limits;
use crate::connector::load::Connector;
use crate::connector::problem::render;

const HEAD: &str = "name = \"x\"\ntitle = \"X\"\nabout = \"For tests.\"\nhosts = [\"api.example.org\"]\n[settings.id]\ntype = \"text\"\nhelp = \"Id.\"\n\
    [secrets.one]\nhelp = \"One.\"\n";
const POLL: &str = "[poll.all.request]\nget = \"https://api.example.org/all\"\nauth = \"a\"\n";

fn load(auth: &str, poll: &str) -> Result<Connector, String> {
    let files = [("connector.toml", format!("{HEAD}{auth}\n{poll}")), ("map.jq", "empty".to_owned())];
    let files = files.map(|(name, text)| (name.to_owned(), text.into_bytes().into()));
    let folder = Folder { name: "x".to_owned(), origin: "x".to_owned(), files: files.into() };
    Connector::load(folder, Limits::default()).map_err(|problems| render(&problems))
}

#[track_caller]
fn refused(auth: &str, expected: &str) {
    let problems = load(auth, POLL).err().unwrap_or_default();
    assert!(problems.contains(expected), "{problems}");
}

#[test]
fn what_gets_a_token_goes_only_where_a_credential_may() {
    let oauth = "[auth.a]\nkind = \"oauth2\"\nclient_id = \"{settings.id}\"\nrefresh_token = \"one\"\n";
    load(&format!("{oauth}token_url = \"https://api.example.org/token\""), POLL).unwrap();
    refused(&format!("{oauth}token_url = \"https://elsewhere.example/token\""), "`elsewhere.example` is not among `hosts`");
    let session = "[auth.a]\nkind = \"session\"\nlogin = { post = \"https://elsewhere.example/in\", json = { p = \"{secrets.one}\" } }\n";
    refused(&format!("{session}take = {{ token = \".t\" }}"), "`elsewhere.example` is not among `hosts`");
}

#[test]
fn what_does_not_go_together_is_told() {
    refused("[auth.a]\nkind = \"oauth2\"\nclient_id = \"i\"\ntoken_url = \"https://api.example.org/t\"", "nobody could log in");
    refused(
        "[auth.a]\nkind = \"client_credentials\"\nclient_id = \"i\"\nclient_secret = \"two\"\ntoken_url = \"https://api.example.org/t\"",
        "names the secret `two`, which is not declared",
    );
    refused("[auth.a]\nkind = \"jwt_bearer\"\nkey = \"one\"\nalgorithm = \"HS256\"\nlife = \"1m\"", "unknown variant `HS256`");
    refused("[auth.a]\nkind = \"jwt_bearer\"\nkey = \"one\"\nalgorithm = \"ES256\"\nlife = \"soon\"", "`soon` is not a duration");
    let session = "[auth.a]\nkind = \"session\"\nlogin = { post = \"https://api.example.org/in\" }\n";
    refused(&format!("{session}take = {{ token = \".t\", refresh_token = \".r\" }}"), "need each other");
    refused(
        &format!("{session}take = {{ token = \".t\" }}\nshow = {{ word = \"Token\", query = \"t\" }}"),
        "`show` names one of word, header, query",
    );
}

#[test]
fn a_token_is_known_only_where_one_is_got() {
    let bearer = "[auth.a]\nkind = \"bearer\"\nsecret = \"one\"\n";
    let poll = "[poll.all.request]\nget = \"https://api.example.org/all\"\nauth = \"a\"\nquery = { t = \"{token}\" }\n";
    let problems = load(bearer, poll).err().unwrap_or_default();
    assert!(problems.contains("`{token}` is known only where"), "{problems}");
    let signed = "[auth.a]\nkind = \"jwt_bearer\"\nkey = \"one\"\nalgorithm = \"ES256\"\nlife = \"20m\"\n";
    load(signed, poll).unwrap();
}
