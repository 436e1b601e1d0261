//! Reference: `docs/cli.md`, made from the commands themselves.

use std::fmt::Write;

use clap::Command;

use crate::cli::exit::CODES;

/// All commands as Markdown.
pub fn markdown(mut root: Command) -> String {
    root.build();
    let mut out = String::from("# Command line\n\n<!-- Made from src/cli: `BLESS=1 cargo test docs` writes it again. -->\n\n");
    out.push_str(
        "Commands work against the running gateway through its private API; those that only read also work while none runs, directly \
         from the store. Tables are for people, `--json` is for scripts; results go to standard output, remarks and errors to standard error.\n\n",
    );
    out.push_str("| exit code | meaning |\n|---|---|\n");
    for (code, meaning) in CODES {
        let _ = writeln!(out, "| {code} | {meaning} |");
    }
    out.push_str("\nOptions of every command: `--config FILE` (or `OMNIGATE_CONFIG`; default `config/omnigate.toml`), `--json`.\n");
    for command in root.get_subcommands_mut().filter(|command| !command.is_hide_set()) {
        describe(&mut out, command, "omnigate");
    }
    out
}

fn describe(out: &mut String, command: &mut Command, parent: &str) {
    if command.get_name() == "help" {
        return;
    }
    let name = format!("{parent} {}", command.get_name());
    if command.has_subcommands() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let _ = write!(out, "\n## `{name}`\n\n{about}.\n");
        command.get_subcommands_mut().for_each(|inner| describe(out, inner, &name));
        return;
    }
    let level = if parent == "omnigate" { "##" } else { "###" };
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let _ = write!(out, "\n{level} `{name}`\n\n{about}.\n");
    let mut rows = String::new();
    for argument in command.get_arguments().filter(|argument| !argument.is_global_set() && !argument.is_hide_set()) {
        let id = argument.get_id().as_str();
        if matches!(id, "help" | "version" | "config" | "json") {
            continue;
        }
        let value = argument.get_value_names().and_then(<[_]>::first).map(ToString::to_string).unwrap_or_default();
        let takes = argument.get_action().takes_values();
        let shown = match argument.get_long() {
            Some(long) if takes => format!("--{long} <{value}>"),
            Some(long) => format!("--{long}"),
            None if argument.is_required_set() => format!("<{value}>"),
            None => format!("[{value}]"),
        };
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(rows, "| `{shown}` | {} |", help.replace('|', "\\|"));
    }
    if !rows.is_empty() {
        let _ = write!(out, "\n| argument | meaning |\n|---|---|\n{rows}");
    }
}
