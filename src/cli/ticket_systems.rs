//! `docs/ticket-systems.md`: what each ticket system can do, from its folder.

use crate::connector::folder;
use crate::connector::jq::Limits;
use crate::connector::ticket::TicketSystem;

const LEAD: &str = "# Ticket systems\n\n\
<!-- Made from connectors/*/destination.toml; mend it with: BLESS=1 cargo test --test it docs -->\n\n\
Each conversation becomes one ticket, each message one entry. What was sent without an answer is looked for and never blindly repeated; the column\n\
*duplicates* says how it is found. *Proved* is what the tests of this repository run against: the real server, a strict fake made from the vendor's\n\
description, or nothing but the rendered requests. How to set a system up stands in the README of its folder under `connectors/`.\n\n";

/// The page.
pub fn markdown() -> String {
    let folders = folder::every();
    let loaded = folders.values().filter_map(|folder| TicketSystem::load(folder, Limits::default())?.ok());
    let systems: Vec<TicketSystem> = loaded.collect();
    let mut page = LEAD.to_owned();
    page.push_str(
        "| system | `system =` | duplicates | written as | files | limits | comes back | proved |\n|---|---|---|---|---|---|---|---|\n",
    );
    for TicketSystem { manifest, .. } in &systems {
        let told = &manifest.told;
        let back = if told.back.is_empty() { "Nothing." } else { &told.back };
        let cells = [&manifest.title, &format!("`{}`", manifest.name), &told.duplicates, &told.author, &told.files, &told.limits, back];
        for cell in cells {
            page.push_str("| ");
            page.push_str(&cell.replace('|', "\\|"));
            page.push(' ');
        }
        page.push_str(&format!("| {} |\n", manifest.proved.as_str()));
    }
    page.push_str("\n## Settings\n");
    for TicketSystem { manifest, .. } in &systems {
        page.push_str(&format!("\n### {}\n\n{}\n\n| setting | default | what |\n|---|---|---|\n", manifest.title, manifest.about));
        for (name, setting) in &manifest.settings {
            let default = match &setting.default {
                Some(default) => format!("`{default}`"),
                None if setting.required => "required".to_owned(),
                None => "–".to_owned(),
            };
            page.push_str(&format!("| `{name}` | {default} | {} |\n", setting.help.replace('|', "\\|")));
        }
        for (name, secret) in &manifest.secrets {
            page.push_str(&format!("| secret `{name}` | {} | {} |\n", if secret.optional { "–" } else { "required" }, secret.help));
        }
    }
    page
}
