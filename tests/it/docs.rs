//! Generated text: the annotated main file, `docs/config.md`, `docs/cli.md` and the schemas for editors say what the code says.
//! `BLESS=1 cargo test docs` writes them again.

use std::path::{Path, PathBuf};

use omnigate::config::load::{Loaded, load};
use omnigate::config::reference;
use omnigate::config::source::{Disk, EveryVariableSet, Memory, Source};

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[track_caller]
pub fn check_generated(path: &str, expected: &str) {
    let file = root(path);
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, expected).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    if found != expected {
        let line = found.lines().zip(expected.lines()).position(|(one, other)| one != other).unwrap_or(0) + 1;
        panic!("{path} is not what the code says (first difference in line {line}); mend it with: BLESS=1 cargo test --test it docs");
    }
}

fn pretty(value: &serde_json::Value) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}

#[test]
fn annotated_main_file_is_made_from_the_keys() {
    check_generated("config/omnigate.toml", &reference::main_file());
}

#[test]
fn configuration_reference_is_made_from_the_keys() {
    check_generated("docs/config.md", &reference::markdown());
}

#[test]
fn command_line_reference_is_made_from_the_commands() {
    use clap::CommandFactory;
    check_generated("docs/cli.md", &omnigate::cli::reference::markdown(omnigate::cli::Cli::command()));
}

#[test]
fn table_of_ticket_systems_is_made_from_their_folders() {
    check_generated("docs/ticket-systems.md", &omnigate::cli::ticket_systems::markdown());
}

#[test]
fn schemas_for_editors_are_made_from_the_keys() {
    check_generated("docs/schema/config.schema.json", &pretty(&reference::main_schema()));
    check_generated("docs/schema/channel.schema.json", &pretty(&reference::channel_schema()));
    check_generated("docs/schema/connector.schema.json", &pretty(&omnigate::cli::schema::connector_schema()));
}

/// The schemas take what the reader takes: the annotated file, every example, every connector.
#[test]
fn schemas_accept_the_files_of_this_repository() {
    let main = jsonschema::validator_for(&reference::main_schema()).unwrap();
    let channel = jsonschema::validator_for(&reference::channel_schema()).unwrap();
    let connector = jsonschema::validator_for(&omnigate::cli::schema::connector_schema()).unwrap();
    let mut seen = 0;
    let mut folders = vec![root("config"), root("connectors")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_str().unwrap();
            let schema = match name {
                _ if path.is_dir() => {
                    folders.push(path);
                    continue;
                }
                "omnigate.toml" => &main,
                "connector.toml" => &connector,
                // A ticket system has checks of its own: it is loaded by a test beside its reader.
                "case.toml" | "poll.toml" | "destination.toml" => continue,
                _ if name.ends_with(".toml") => &channel,
                _ => continue,
            };
            let value: toml::Value = toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            let value = serde_json::to_value(value).unwrap();
            let errors: Vec<String> = schema.iter_errors(&value).map(|error| format!("{error} at {}", error.instance_path())).collect();
            assert!(errors.is_empty(), "{}: {errors:?}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 15, "only {seen} files");
    let wrong = serde_json::json!({ "server": { "publik": "x", "body_bytes_max": 4 } });
    assert_eq!(main.iter_errors(&wrong).count(), 2);
}

fn loaded(file: &str, source: &dyn Source) -> Loaded {
    load(Path::new(file), source).map_err(|problems| panic!("{problems}")).unwrap()
}

/// Only what defaults decide: files, destinations and routes apart.
fn defaults(loaded: &Loaded) -> String {
    let config = &loaded.config;
    format!(
        "{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}",
        config.instance,
        // No default: the value only shows how one is written.
        omnigate::config::settings::Server { public_url: None, ..config.server.clone() },
        config.store,
        config.attachments,
        config.files.url_valid,
        config.mapping,
        config.logs,
        config.connectors_dir,
        config.channels_dir,
        config.delivery,
    )
}

#[test]
fn every_commented_value_of_the_main_file_is_the_default() {
    let text = reference::main_file();
    let uncommented: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(value) if !value.starts_with(' ') && !value.is_empty() => format!("{value}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let values = uncommented.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')).count();
    assert!(values > 50, "only {values} values");
    let source = Memory::default().file("c/omnigate.toml", uncommented).var("HELPDESK_SECRET", "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0");
    let source = source.var("RT_TOKEN", "t").var("SMTP_PASSWORD", "p").file("c/ca.pem", "x").file("c/dkim.pem", "x");
    let written = loaded("c/omnigate.toml", &source);
    let unwritten = loaded("c/omnigate.toml", &Memory::default().file("c/omnigate.toml", ""));
    assert_eq!(defaults(&written), defaults(&unwritten));
}

#[test]
fn fresh_clone_has_a_configuration_that_runs() {
    let loaded = loaded(root("config/omnigate.toml").to_str().unwrap(), &Disk);
    assert!(loaded.channel_problems().is_empty(), "{:?}", loaded.channel_problems());
    assert!(loaded.channels.contains_key("contact-form"));
    assert!(loaded.config.destinations.contains_key("screen"));
}

#[test]
fn every_example_is_a_configuration_without_mistakes() {
    let mut seen = 0;
    for entry in std::fs::read_dir(root("config/examples")).unwrap() {
        let folder = entry.unwrap().path();
        let loaded = loaded(folder.join("omnigate.toml").to_str().unwrap(), &EveryVariableSet);
        let problems = loaded.channel_problems();
        assert!(problems.is_empty(), "{}", omnigate::connector::problem::render(&problems));
        assert!(!loaded.channels.is_empty(), "{} has no channel", folder.display());
        assert!(loaded.warnings.is_empty(), "{}", omnigate::connector::problem::render(&loaded.warnings));
        seen += 1;
    }
    assert!(seen >= 3, "only {seen} examples");
}
