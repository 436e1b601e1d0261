//! The architecture as tests: layers, headers, names, sizes. Standard library only, reads the source as text.
//!
//! What must stay true: an exception stands in a table here with its reason, and an exception that is no longer needed fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms in the order of the page, and what else a room must not name though it stands above it. A room may name what
/// stands on an earlier line, or itself.
const PAGE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("ports", &[]),
    ("logic", &[]),
    ("connector", &[]),
    ("config", &[]),
    ("telemetry", &["connector", "config"]),
    ("http", &["connector", "config"]),
    ("engines", &["config"]),
    ("tokens", &["engines", "config"]),
    ("destinations", &["engines", "tokens", "config"]),
    ("stores", &["engines", "tokens", "destinations", "config"]),
    ("server", &["engines", "tokens", "destinations", "stores", "config"]),
    ("pipeline", &["engines", "tokens", "destinations", "stores", "server"]),
    ("app", &[]),
    ("cli", &[]),
];

/// Rooms that only compute: bytes and values in, values out.
const PURE: &[&str] = &["model", "logic", "connector"];

/// What a pure room must not name, outside of its tests. `std::net::Ip…` are values and fine.
const WORLD: &[&str] = &[
    "tokio",
    "reqwest",
    "axum",
    "hyper",
    "rusqlite",
    "object_store",
    "async_imap",
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
    "std::process",
    "std::time::SystemTime",
    "std::time::Instant",
];

/// (file, what it names, why that is right here).
const LAYER_EXCEPTIONS: &[(&str, &str, &str)] = &[(
    "src/connector/mail/proof/check.rs",
    "std::time::Instant",
    "the type of a parameter of mail-auth's cache trait; the value is never looked at, and no clock is asked",
)];

/// (file, lines it may have, why it is not split).
const LONG_FILES: &[(&str, usize, &str)] =
    &[("src/model/event.rs", 700, "the whole event contract, read from top to bottom as one document")];
const LINES_MAX: usize = 600;

/// Words that say nothing about a type.
const EMPTY_WORDS: &[&str] = &["Manager", "Handler", "Helper", "Helpers", "Util", "Utils", "Service"];

/// Connectors whose payload is not read by a `map.jq` of their own: mail has its parser, `generic` takes the admin's.
const WITHOUT_MAP: &[&str] = &["imap", "generic"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder`, as paths from the root with forward slashes, sorted.
fn files(folder: &str) -> Vec<String> {
    fn walk(at: &Path, found: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(at) else { return };
        for entry in entries.map(Result::unwrap) {
            let name = entry.file_name();
            if entry.file_type().unwrap().is_dir() {
                if name != "target" && name != ".git" {
                    walk(&entry.path(), found);
                }
            } else {
                found.push(entry.path());
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    let mut names: Vec<String> = found.iter().map(|path| path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/")).collect();
    names.sort();
    names
}

fn rust_files(folders: &[&str]) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for folder in folders {
        for name in files(folder).into_iter().filter(|name| name.ends_with(".rs")) {
            let text = fs::read_to_string(root().join(&name)).unwrap();
            all.push((name, text));
        }
    }
    assert!(!all.is_empty(), "no source found below {folders:?}");
    all
}

/// The line without a comment at its end. A `//` inside a string cuts too much, which can only hide, never invent.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap()
}

/// The lines of a file with their numbers and whether they are test code: a file of tests, or what follows `#[cfg(test)]`
/// before a module.
fn lines<'a>(name: &str, text: &'a str) -> Vec<(usize, &'a str, bool)> {
    let mut in_tests = name.ends_with("/tests.rs") || name.contains("/tests/") || !name.starts_with("src/");
    let all: Vec<&str> = text.lines().collect();
    let mut out = Vec::with_capacity(all.len());
    for (index, line) in all.iter().enumerate() {
        let opens =
            line.starts_with("#[cfg(test)]") && all[index + 1..].iter().take(3).any(|next| next.starts_with("mod ") && next.ends_with('{'));
        in_tests |= opens;
        out.push((index + 1, code(line), in_tests));
    }
    out
}

/// The identifiers that follow `prefix` in a line, each with what stands before it.
fn after<'a>(line: &'a str, prefix: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some(at) = rest.find(prefix) {
        let boundary = rest[..at].chars().next_back().is_none_or(|before| !before.is_alphanumeric() && before != '_' && before != '$');
        rest = &rest[at + prefix.len()..];
        if boundary {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            found.push(&rest[..end]);
        }
    }
    found
}

fn room_of(name: &str) -> Option<&str> {
    let inside = name.strip_prefix("src/")?;
    let room = inside.split('/').next()?.trim_end_matches(".rs");
    (!matches!(room, "lib" | "main")).then_some(room)
}

/// Panics with every finding, one a line, clickable.
#[track_caller]
fn none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn nothing_points_down_the_page_and_pure_rooms_stay_pure() {
    let mut findings: BTreeMap<(String, String), String> = BTreeMap::new();
    for (name, text) in rust_files(&["src"]) {
        let Some(room) = room_of(&name) else { continue };
        let Some(place) = PAGE.iter().position(|(known, _)| *known == room) else {
            findings.insert((name.clone(), room.to_owned()), format!("{name}:1: room `{room}` has no place on the page of tests/tidy.rs"));
            continue;
        };
        for (number, line, test) in lines(&name, &text) {
            for named in after(line, "crate::") {
                // A macro or a list stands where a room should: say `crate::room::…`, one room a line.
                let allowed = match PAGE.iter().position(|(known, _)| *known == named) {
                    Some(other) => other == place || (other < place && !PAGE[place].1.contains(&named)),
                    None => line.contains(&format!("crate::{named}!")),
                };
                if !allowed {
                    let text = format!("{name}:{number}: `{room}` names `crate::{named}`, which stands below it or beside it on the page");
                    findings.entry((name.clone(), named.to_owned())).or_insert(text);
                }
            }
            if PURE.contains(&room) && !test {
                for word in WORLD {
                    if after(line, word).iter().any(|rest| rest.is_empty())
                        && !line.contains("std::net::Ip")
                        && !line.contains("std::net::{Ip")
                    {
                        let text = format!("{name}:{number}: `{room}` only computes, and names `{word}`");
                        findings.entry((name.clone(), (*word).to_owned())).or_insert(text);
                    }
                }
            }
        }
    }
    for (file, what, why) in LAYER_EXCEPTIONS {
        assert!(why.len() > 20, "{file}: the exception for `{what}` gives no reason");
        assert!(
            findings.remove(&((*file).to_owned(), (*what).to_owned())).is_some(),
            "{file} no longer names `{what}`: take its exception out of tests/tidy.rs"
        );
    }
    none(&findings.into_values().collect::<Vec<_>>());
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut findings = Vec::new();
    for (name, text) in rust_files(&["src", "tests", "benches"]) {
        let first = text.lines().next().unwrap_or_default();
        if !first.starts_with("//! ") || first.len() < 20 {
            findings.push(format!("{name}:1: begin with `//! …`: what the file is for"));
        }
    }
    none(&findings);
}

#[test]
fn files_are_short() {
    let mut findings = Vec::new();
    let all = rust_files(&["src", "tests", "benches"]);
    for (name, text) in &all {
        let count = text.lines().count();
        match LONG_FILES.iter().find(|(file, _, _)| file == name) {
            Some((_, max, _)) if count > *max => findings.push(format!("{name}:{max}: {count} lines, its exception says {max}")),
            Some(_) if count <= LINES_MAX => findings.push(format!("{name}:1: {count} lines: take it out of LONG_FILES")),
            None if count > LINES_MAX => findings.push(format!("{name}:{LINES_MAX}: {count} lines: split it by responsibility")),
            _ => {}
        }
    }
    for (file, _, why) in LONG_FILES {
        assert!(all.iter().any(|(name, _)| name == file) && why.len() > 20, "LONG_FILES: `{file}` is gone or gives no reason");
    }
    none(&findings);
}

#[test]
fn source_holds_no_notes_to_self_and_no_silenced_tests() {
    // Written in two halves, so that this file does not find itself.
    let words = [
        (concat!("super", "::super"), "name the module from the root: `crate::…`"),
        (concat!("#[ign", "ore"), "assert what it does today and say why that is wrong"),
        (concat!("TO", "DO"), "do it, or write an issue"),
        (concat!("FIX", "ME"), "mend it, or write an issue"),
        (concat!("XX", "X:"), "mend it, or write an issue"),
    ];
    let mut findings = Vec::new();
    for (name, text) in rust_files(&["src", "tests", "benches"]) {
        for (index, line) in text.lines().enumerate() {
            for (word, advice) in words {
                if line.contains(word) {
                    findings.push(format!("{name}:{}: `{word}`: {advice}", index + 1));
                }
            }
        }
    }
    none(&findings);
}

#[test]
fn type_names_say_something() {
    let mut findings = Vec::new();
    for (name, text) in rust_files(&["src", "tests", "benches"]) {
        for (number, line, _) in lines(&name, &text) {
            for keyword in ["struct ", "enum ", "trait ", "type ", "union "] {
                for declared in after(line, keyword) {
                    if let Some(word) = EMPTY_WORDS.iter().find(|word| has_word(declared, word)) {
                        findings.push(format!("{name}:{number}: `{declared}`: `{word}` says nothing; name what it does or is"));
                    }
                }
            }
        }
    }
    none(&findings);
}

/// Whether the camel-case name has the word, whole.
fn has_word(name: &str, word: &str) -> bool {
    name.match_indices(word).any(|(at, _)| name[at + word.len()..].chars().next().is_none_or(|next| next.is_uppercase() || next == '_'))
}

#[test]
fn every_public_function_is_called_or_tested() {
    let all = rust_files(&["src", "tests", "benches"]);
    let mut words: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, text) in &all {
        for (_, line, _) in lines(name, text) {
            for word in line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()) {
                *words.entry(word).or_default() += 1;
            }
        }
    }
    let mut findings = Vec::new();
    for (name, text) in all.iter().filter(|(name, _)| name.starts_with("src/")) {
        for (number, line, test) in lines(name, text) {
            let declared = ["pub fn ", "pub async fn ", "pub const fn "].iter().find_map(|form| line.trim_start().strip_prefix(form));
            let Some(declared) = declared.filter(|_| !test) else { continue };
            let function = declared.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
            // Empty: declared by a macro, under a name that stands elsewhere.
            if !function.is_empty() && words.get(function).copied().unwrap_or_default() < 2 {
                findings.push(format!("{name}:{number}: nothing calls `{function}`"));
            }
        }
    }
    none(&findings);
}

/// Folders of one machine, which mean nothing on another.
#[test]
fn nothing_names_a_path_of_this_machine() {
    let homes = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    let mut findings = Vec::new();
    for folder in ["src", "tests", "benches", "connectors", "config", "docs", ".ci"] {
        for name in files(folder) {
            let Ok(text) = fs::read_to_string(root().join(&name)) else { continue };
            for (index, line) in text.lines().enumerate() {
                for home in homes {
                    if line.match_indices(home).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "-_.}".contains(c))) {
                        findings.push(format!("{name}:{}: names `{home}`", index + 1));
                    }
                }
            }
        }
    }
    none(&findings);
}

#[test]
fn every_connector_folder_is_whole() {
    let mut findings = Vec::new();
    let mut folders: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in files("connectors") {
        let mut parts = name.splitn(3, '/');
        let (_, folder, rest) = (parts.next(), parts.next().unwrap_or_default(), parts.next());
        if let Some(rest) = rest.filter(|_| folder != "lib") {
            folders.entry(folder.to_owned()).or_default().push(rest.to_owned());
        }
    }
    for (folder, inside) in &folders {
        let has = |file: &str| inside.iter().any(|name| name == file);
        // A folder that is a ticket system alone takes nothing in.
        let desk = has("destination.toml") && !has("connector.toml");
        if desk {
            if !has("README.md") {
                findings.push(format!("connectors/{folder}: has no README.md"));
            }
            continue;
        }
        for file in ["connector.toml", "README.md", "map.jq"] {
            let may_miss = file == "map.jq" && WITHOUT_MAP.contains(&folder.as_str());
            if !has(file) && !may_miss {
                findings.push(format!("connectors/{folder}: has no {file}"));
            }
        }
        let cases: BTreeSet<&str> = inside.iter().filter_map(|name| name.strip_prefix("fixtures/")?.split('/').next()).collect();
        if cases.is_empty() {
            findings.push(format!("connectors/{folder}: has no fixtures"));
        }
        for case in cases {
            if !has(&format!("fixtures/{case}/expected.json")) {
                findings.push(format!("connectors/{folder}/fixtures/{case}: has no expected.json (BLESS=1 writes it)"));
            }
            if case.chars().any(|c| !c.is_ascii_lowercase() && !c.is_ascii_digit() && c != '_') {
                findings.push(format!("connectors/{folder}/fixtures/{case}: case names are snake case"));
            }
        }
    }
    none(&findings);
}
