//! Desks: `[destination.x] kind = "ticket"`, checked against the folder of its ticket system.

use std::path::Path;

use crate::config::connectors::Connectors;
use crate::config::read::{Reading, Section};
use crate::config::settings::TicketSettings;
use crate::connector::jq::Limits;
use crate::connector::problem::did_you_mean;
use crate::connector::ticket::compose::Forms;
use crate::logic::ticket::{OnClosed, OnGone, TicketPolicy};

/// Reads what a ticket destination is given; what is wrong is in `reading`.
pub fn read(reading: &mut Reading<'_>, section: &Section, dir: &Path) -> Option<TicketSettings> {
    let name = section.text("system").filter(|_| section.written("system"))?;
    let folders = Connectors::read(dir, Limits::default(), reading.source);
    let system = match folders.desk(&name) {
        None => {
            let near = did_you_mean(&name, folders.desks()).map(|near| format!("did you mean \"{near}\"?"));
            let known = || format!("there are {}", folders.desks().collect::<Vec<_>>().join(", "));
            reading.wrong(section.span("system"), format!("there is no ticket system `{name}`"), near.or_else(|| Some(known())));
            return None;
        }
        Some(Err(problems)) => {
            reading.wrong(section.span("system"), format!("the ticket system `{name}` cannot be used"), None);
            reading.problems.extend(problems);
            return None;
        }
        Some(Ok(system)) => system,
    };
    let settings = match system.settings(&section.free("settings").unwrap_or_default()) {
        Ok(settings) => settings,
        Err(problems) => {
            let span = if section.written("settings") { section.span("settings") } else { section.span.clone() };
            for (setting, message) in problems {
                let near = did_you_mean(&setting, system.manifest.settings.keys().map(String::as_str));
                let advice = near.filter(|near| *near != setting).map(|near| format!("did you mean `{near}`?"));
                reading.wrong(span.clone(), message, advice);
            }
            return None;
        }
    };
    let secrets = section.secret_map("secrets").unwrap_or_default();
    let span = || if section.written("secrets") { section.span("secrets") } else { section.span.clone() };
    let declared = &system.manifest.secrets;
    for (secret, facts) in declared.iter().filter(|(secret, facts)| !facts.optional && !secrets.contains_key(*secret)) {
        // One that is written and not set has its own problem.
        if !section.wrong("secrets") {
            let advice = format!("`secrets = {{ {secret} = {{ env = \"…\" }} }}`");
            reading.wrong(span(), format!("secret `{secret}` is missing: {}", facts.help), Some(advice));
        }
    }
    for secret in secrets.keys().filter(|secret| !declared.contains_key(*secret)) {
        let near = did_you_mean(secret, declared.keys().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
        reading.wrong(span(), format!("`{name}` has no secret `{secret}`"), near);
    }
    let is = |key: &str, word: &str| section.text(key).as_deref() == Some(word);
    let on_closed = match section.text("on_closed").as_deref() {
        Some("reopen") => OnClosed::Reopen,
        Some("append") => OnClosed::Append,
        _ => OnClosed::FollowUp,
    };
    let on_gone = if is("on_gone", "dead") { OnGone::Dead } else { OnGone::Recreate };
    Some(TicketSettings {
        system,
        settings,
        secrets,
        policy: TicketPolicy { on_closed, on_gone },
        forms: Forms { edits: is("edits", "note"), deletions: is("deletions", "note"), reactions: is("reactions", "note") },
        contact_domain: section.text("contact_domain").unwrap_or_default(),
    })
}
