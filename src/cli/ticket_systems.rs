//! `docs/ticket-systems.md`: what each ticket system can do, from its folder.

use crate::connector::folder;
use crate::connector::jq::Limits;
use crate::connector::ticket::TicketSystem;

const LEAD: &str = "# Ticket systems\n\n\
<!-- Made from connectors/*/destination.toml; mend it with: BLESS=1 cargo test --test it docs -->\n\n\
Each conversation becomes one ticket, each message one entry. What was sent without an answer is looked for and never blindly repeated; the column\n\
*duplicates* says how it is found. *Proved* is what the tests of this repository run against: the real server, a strict fake made from the vendor's\n\
description, or nothing but the rendered requests. How to set a system up stands in the README of its folder under `connectors/`.\n\
What repeats a request of ours by itself, behind our back (a proxy), cannot be held to that: a second ticket is found and closed, but a second entry stays\n\
where the system knows no key for entries (Request Tracker, Redmine, Roundup, django-helpdesk). Let no such proxy stand in between.\n\n";

const BACK: &str = "\n## What comes back\n\n\
With `back = [\"poll\"]` or `back = [\"webhook\"]` (`/hooks/<destination>`) in `[destination.x]`, where the system knows it, the gateway hears what happens to\n\
the tickets that it made; all others are ignored and counted (`ticket_unknown`). With both roads a thing that comes by each is one.\n\n\
- **Agents' entries** that the customer may see become `message.created` with `direction = \"outbound\"`, `author = \"agent\"` and `ticket`. Routes with\n  \
`direction = \"any\"` or `\"outbound\"` get them, but never the destination they came from. Entries that the gateway wrote itself are recognised by their id or ours\n  \
(`ticket_echo`). Notes between agents are ignored. Files of Request Tracker, Redmine, Roundup and django-helpdesk are fetched with the destination's own\n  \
credential and come by `message.updated`; those of Zammad, Freshdesk, Chatwoot and Help Scout are named, those of the others not told.\n\
- **States** become `ticket.updated`: `open`, `pending`, `resolved` or `closed`, as the settings of the system say.\n\
- **A ticket that is resolved or closed ends its conversation** (`on_closed = \"follow_up\"`): the customer's next message opens another one that `continues` it, with a\n  \
ticket that names the old one. With `on_closed = \"reopen\"` the conversation and the ticket go on, for `reopen_within` if that is set. With `\"append\"` nothing ends. A message that was\n  \
on its way when the ticket was closed goes into the next ticket of the same conversation, and does not end it. Edits and deletions of what was said before are noted in the old ticket.\n\
- **Joined tickets** are followed: an answer in one that holds several conversations goes to the one in which something was said last, a state to all.\n\n\
How long answers took is measured by the times the systems and platforms give, not by when news arrived, and counted once, durably\n\
(`omnigate_first_response_seconds`, `omnigate_next_response_seconds`, `omnigate_resolution_seconds`, `omnigate_conversations_waiting`, `omnigate status`, `/v1/tickets`):\n\n\
- *First response*: from the first message of the customer in a conversation to the first words of an agent after it, in a ticket or in the channel itself. What a program wrote\n  \
(`automated`, `author = \"bot\"` or `\"system\"`), private notes and what an agent said before the customer do not count.\n\
- *Next response*: from the customer's first message that waits to the next words of an agent, of later turns.\n\
- *Resolution*: from the first message to the ticket being resolved or closed; once more from the first message each time after it was opened again.\n\
- *Waiting*: conversations whose customer said something after the last answer, until an answer, the end of the conversation or its ticket being done. Shown for channels on which an answer\n  \
was ever heard of. Messages of a backfill count nowhere.\n";

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
    page.push_str(BACK);
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
