//! `connector`: the admin's kit. A connector is a folder; these commands list, show, copy, make and test them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};

use crate::cli::Context;
use crate::cli::exit::Failure;
use crate::cli::output::{print, remark};
use crate::cli::skeleton;
use crate::config::connectors::{Connectors, read_folder};
use crate::config::load::load_reach;
use crate::config::problems::Problems;
use crate::config::source::Disk;
use crate::config::value::is_name;
use crate::connector::draft::DRAFT_KINDS;
use crate::connector::fixtures::{self, Report};
use crate::connector::folder::{Folder, MANIFEST_FILE, desk_library};
use crate::connector::jq::Limits;
use crate::connector::manifest::Manifest;
use crate::connector::ticket::DESTINATION_FILE;
use crate::model::raw::Via;

/// `connector …`.
#[derive(Debug, Subcommand)]
pub enum ConnectorCommand {
    /// Write a working connector with a passing fixture to start from
    New {
        /// Its name
        name: String,
        /// Folder to write it into; unset: the configured connectors folder
        #[arg(long, value_name = "DIR")]
        into: Option<PathBuf>,
    },
    /// List connectors: the embedded ones and your own
    List,
    /// Show what a connector needs and gives
    Show {
        /// Its name
        name: String,
    },
    /// Copy an embedded connector into your connectors folder, to change it there
    Eject {
        /// Its name; `lib`: our jq functions as plain jq, to try maps with jq itself
        name: String,
        /// Folder to write it into; unset: the configured connectors folder
        #[arg(long, value_name = "DIR")]
        into: Option<PathBuf>,
    },
    /// Run the fixtures of connectors and of ways back from ticket systems; BLESS=1 writes what came out as expected.json
    Test {
        /// Names or folders; unset: all
        names: Vec<String>,
    },
}

/// `connector`.
pub fn connector(context: &Context, command: &ConnectorCommand) -> Result<(), Failure> {
    match command {
        ConnectorCommand::New { name, into } => new(context, name, into.as_deref()),
        ConnectorCommand::List => list(context),
        ConnectorCommand::Show { name } => show(context, name),
        ConnectorCommand::Eject { name, into } => eject(context, name, into.as_deref()),
        ConnectorCommand::Test { names } => test(context, names),
    }
}

/// The connectors of the configuration; the embedded ones where there is none.
pub fn connectors(context: &Context) -> Result<Connectors, Failure> {
    if !context.config.exists() {
        return Ok(Connectors::embedded());
    }
    Ok(Connectors::read(&load_reach(&context.config, &Disk)?.2, Limits::default(), &Disk))
}

/// The failure of a name that is no connector.
pub fn unknown(connectors: &Connectors, name: &str) -> Failure {
    let near = connectors.suggestion(name).unwrap_or_else(|| "`omnigate connector list` shows them".to_owned());
    Failure::Missing(format!("there is no connector `{name}`: {near}"))
}

fn list(context: &Context) -> Result<(), Failure> {
    let mut connectors = connectors(context)?;
    let embedded = Connectors::embedded();
    let names: Vec<String> = connectors.names().map(str::to_owned).collect();
    let mut rows = Vec::new();
    for name in names {
        let from = connectors.folder(&name).map(|folder| from(&folder, &embedded)).unwrap_or_default();
        rows.push(match connectors.get(&name) {
            Some(Ok(connector)) => {
                let manifest = &connector.manifest;
                json!({ "name": name, "title": manifest.title, "modes": modes(manifest), "from": from, "about": manifest.about })
            }
            _ => json!({ "name": name, "title": "(broken)", "modes": "", "from": from, "about": "omnigate connector test shows why" }),
        });
    }
    context.output.list(&rows, "no connectors", &["connector", "title", "modes", "from", "about"], |row| {
        ["name", "title", "modes", "from", "about"].iter().map(|key| text(row, key)).collect()
    })
}

fn text(row: &Value, key: &str) -> String {
    row.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn modes(manifest: &Manifest) -> String {
    manifest.modes().into_iter().map(Via::as_str).collect::<Vec<_>>().join(", ")
}

fn from(folder: &Folder, embedded: &Connectors) -> String {
    if embedded.folder(&folder.name).as_deref() == Some(folder) { "built in".to_owned() } else { folder.origin.clone() }
}

fn show(context: &Context, name: &str) -> Result<(), Failure> {
    let mut connectors = connectors(context)?;
    let connector = match connectors.get(name) {
        None => return Err(unknown(&connectors, name)),
        Some(loaded) => loaded.map_err(|problems| Failure::Config(Problems(problems)))?,
    };
    let manifest = &connector.manifest;
    let settings: serde_json::Map<String, Value> = manifest
        .settings
        .iter()
        .map(|(name, setting)| {
            let value =
                json!({ "help": setting.help, "type": setting.kind.wanted(), "default": setting.default, "required": setting.required });
            (name.clone(), value)
        })
        .collect();
    let secrets: serde_json::Map<String, Value> =
        manifest.secrets.iter().map(|(name, secret)| (name.clone(), json!({ "help": secret.help, "optional": secret.optional }))).collect();
    let value = json!({
        "name": name, "title": manifest.title, "about": manifest.about, "modes": modes(manifest),
        "settings": settings, "secrets": secrets,
    });
    let readme = connector.folder.text("README.md").unwrap_or_default().to_owned();
    context.output.show(&value, |_| {
        let mut out = if readme.is_empty() { format!("{}: {}\n", manifest.title, manifest.about) } else { format!("{readme}\n") };
        for (title, entries) in [("settings", &settings), ("secrets", &secrets)] {
            if !entries.is_empty() {
                out.push_str(&format!("\n[{title}]\n"));
            }
            for (name, entry) in entries {
                let kind = entry.get("type").and_then(Value::as_str).map(|kind| format!(" ({kind})")).unwrap_or_default();
                out.push_str(&format!("{name}{kind}\n    {}\n", text(entry, "help")));
            }
        }
        out
    })
}

/// Where a new connector goes: the folder that the configuration reads.
fn target(context: &Context, into: Option<&Path>) -> Result<PathBuf, Failure> {
    match into {
        Some(into) => Ok(into.to_path_buf()),
        None => Ok(load_reach(&context.config, &Disk)?.2),
    }
}

fn write(folder: &Folder, into: &Path) -> Result<PathBuf, Failure> {
    let root = into.join(&folder.name);
    if root.exists() {
        return Err(Failure::Refused(format!("{} exists already", root.display())));
    }
    for (path, bytes) in &folder.files {
        let file = root.join(path);
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&file, bytes)?;
    }
    Ok(root)
}

fn new(context: &Context, name: &str, into: Option<&Path>) -> Result<(), Failure> {
    if !is_name(name) {
        return Err(Failure::Usage(format!("`{name}` cannot be a connector's name: lower-case letters, digits, `-`, `_` and `.`")));
    }
    let root = write(&skeleton::folder(name), &target(context, into)?)?;
    let shown = root.display();
    print(&format!("{shown} written. Next:\n  omnigate connector test {shown}\n  edit {shown}/connector.toml and {shown}/map.jq"))
}

fn eject(context: &Context, name: &str, into: Option<&Path>) -> Result<(), Failure> {
    if name == "lib" {
        let files = [("omnigate.jq".to_owned(), desk_library().as_bytes().into())].into();
        let root = write(&Folder { name: "lib".to_owned(), origin: "lib".to_owned(), files }, &target(context, into)?)?;
        return print(&format!("{}: jq -L {} 'include \"omnigate\"; …' payload.json", root.display(), root.display()));
    }
    let connectors = Connectors::embedded();
    let folder = connectors.any_folder(name).ok_or_else(|| unknown(&connectors, name))?;
    let root = write(&folder, &target(context, into)?)?;
    print(&format!("{} written; it replaces the built-in connector whole from the next reload on", root.display()))
}

fn test(context: &Context, names: &[String]) -> Result<(), Failure> {
    let bless = std::env::var_os("BLESS").is_some_and(|value| value == "1");
    let mut reports = Vec::new();
    let mut problems = Vec::new();
    for folder in chosen(context, names)? {
        let back = fixtures::run_back(&folder);
        let channel = folder.files.contains_key(MANIFEST_FILE).then(|| fixtures::run(folder));
        for ran in channel.into_iter().chain(back) {
            match ran {
                Ok(report) => {
                    if bless {
                        bless_cases(&report)?;
                    }
                    reports.push(report);
                }
                Err(mut found) => problems.append(&mut found),
            }
        }
    }
    let failed: usize =
        reports.iter().map(|report| report.cases.iter().filter(|case| !(case.passed() || bless && case.problem.is_none())).count()).sum();
    let cases: usize = reports.iter().map(|report| report.cases.len()).sum();
    let rows: Vec<Value> = reports.iter().map(|report| report_json(report, bless)).collect();
    context.output.show(&rows, |_| reports_text(&reports, bless))?;
    if !problems.is_empty() {
        return Err(Failure::Config(Problems(problems)));
    }
    // A run that finds nothing must not look like one where all is well.
    if cases == 0 {
        return Err(Failure::Failed("no fixtures found".to_owned()));
    }
    if failed > 0 {
        return Err(Failure::Failed(format!("{failed} of {cases} cases failed")));
    }
    let unreached: usize = reports.iter().map(|report| report.uncovered.len()).sum();
    if unreached > 0 {
        return Err(Failure::Failed(format!("{unreached} kinds and codes that maps can give are reached by no fixture")));
    }
    let connectors = if reports.len() == 1 { "1 connector" } else { &format!("{} connectors", reports.len()) };
    remark(&format!("{cases} cases of {connectors} passed"));
    Ok(())
}

fn chosen(context: &Context, names: &[String]) -> Result<Vec<Folder>, Failure> {
    if names.is_empty() {
        let connectors = connectors(context)?;
        let all: BTreeSet<&str> = connectors.names().chain(connectors.desks()).collect();
        return Ok(all.into_iter().filter_map(|name| connectors.any_folder(name)).map(Cow::into_owned).collect());
    }
    let mut folders = Vec::new();
    let mut configured: Option<Connectors> = None;
    for name in names {
        let path = Path::new(name);
        if [MANIFEST_FILE, DESTINATION_FILE].iter().any(|file| path.join(file).is_file()) {
            let path = std::path::absolute(path)?;
            folders.extend(read_folder(&path, &Disk).map(|folder| Folder { origin: name.trim_end_matches('/').to_owned(), ..folder }));
            continue;
        }
        let known = match &mut configured {
            Some(known) => known,
            none => none.insert(connectors(context)?),
        };
        folders.push(known.any_folder(name).map(Cow::into_owned).ok_or_else(|| unknown(known, name))?);
    }
    Ok(folders)
}

fn bless_cases(report: &Report) -> Result<(), Failure> {
    let root = Path::new(&report.folder);
    if !root.is_dir() {
        let name = report.connector.trim_end_matches("/back");
        let text = format!("{} is built in: `omnigate connector eject {name}` first, or name its folder", report.connector);
        return Err(Failure::Refused(text));
    }
    for case in report.cases.iter().filter(|case| case.problem.is_none() && !case.passed()) {
        let file = root.join("fixtures").join(&case.case).join("expected.json");
        let text = serde_json::to_string_pretty(&case.actual).map_err(|error| Failure::Failed(error.to_string()))?;
        std::fs::write(&file, text + "\n")?;
        remark(&format!("wrote {}", file.display()));
    }
    Ok(())
}

fn report_json(report: &Report, bless: bool) -> Value {
    let cases: Vec<Value> = report
        .cases
        .iter()
        .map(|case| {
            let passed = case.passed() || bless && case.problem.is_none();
            json!({ "case": case.case, "passed": passed, "problem": case.problem, "actual": case.actual, "expected": case.expected })
        })
        .collect();
    let reached = &report.reached;
    json!({
        "connector": report.connector, "cases": cases, "reached": reached.kinds_and_codes, "uncovered": report.uncovered,
        "vectors": { "proven": reached.proven, "refused": reached.refused },
    })
}

fn reports_text(reports: &[Report], bless: bool) -> String {
    let mut out = String::new();
    for report in reports {
        for case in &report.cases {
            if case.passed() || bless && case.problem.is_none() {
                // Of all connectors at once only what failed is told one by one.
                if reports.len() == 1 {
                    out.push_str(&format!("ok      {}/{}\n", report.connector, case.case));
                }
                continue;
            }
            out.push_str(&format!("FAILED  {}/{}\n", report.connector, case.case));
            match (&case.problem, &case.expected) {
                (Some(problem), _) => out.push_str(&format!("{problem}\n")),
                (None, None) => out.push_str("there is no expected.json: BLESS=1 writes it\n"),
                (None, Some(expected)) => out.push_str(&difference(expected, &case.actual)),
            }
        }
        if !report.uncovered.is_empty() {
            out.push_str(&format!("FAILED  {}: no fixture reaches {}\n", report.connector, report.uncovered.join(", ")));
        }
    }
    out + &table(reports, bless)
}

/// One line a connector: how many fixtures, what they reach, how many prove signatures.
fn table(reports: &[Report], bless: bool) -> String {
    let row = |report: &Report| -> [String; 5] {
        let passed = report.cases.iter().filter(|case| case.passed() || bless && case.problem.is_none()).count();
        let (kinds, codes): (Vec<&str>, Vec<&str>) =
            report.reached.kinds_and_codes.iter().map(String::as_str).partition(|name| DRAFT_KINDS.contains(name));
        let vectors = format!("{} taken, {} refused", report.reached.proven, report.reached.refused);
        [report.connector.clone(), format!("{passed}/{}", report.cases.len()), kinds.join(" "), vectors, codes.join(" ")]
    };
    let head = ["connector", "fixtures", "kinds", "vectors", "codes"].map(str::to_owned);
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(reports.iter().map(row)).collect();
    let mut widths = [0; 5];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; 5]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// Lines that only one of both has.
fn difference(expected: &Value, actual: &Value) -> String {
    let lines =
        |value: &Value| -> Vec<String> { serde_json::to_string_pretty(value).unwrap_or_default().lines().map(str::to_owned).collect() };
    let (wanted, got) = (lines(expected), lines(actual));
    let mut out = String::new();
    wanted.iter().filter(|line| !got.contains(line)).for_each(|line| out.push_str(&format!("  - {line}\n")));
    got.iter().filter(|line| !wanted.contains(line)).for_each(|line| out.push_str(&format!("  + {line}\n")));
    if out.is_empty() { "  the same lines in another order\n".to_owned() } else { out }
}
