//! Desks: `[destination.x] kind = "ticket"`, checked against the folder of its ticket system.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use crate::config::connectors::Connectors;
use crate::config::read::{Reading, Section};
use crate::config::settings::{ChannelFile, ChannelLimits, TicketSettings};
use crate::connector::jq::Limits;
use crate::connector::problem::did_you_mean;
use crate::connector::ticket::TicketSystem;
use crate::connector::ticket::compose::Forms;
use crate::logic::ticket::{OnClosed, OnGone, TicketPolicy};
use crate::model::event::Priority;
use crate::model::mailbox::FirstRun;
use crate::model::raw::Via;
use crate::model::ticket::BackRules;

/// Reads what a ticket destination is given; what is wrong is in `reading`.
pub fn read(reading: &mut Reading<'_>, id: &str, section: &Section, dir: &Path) -> Option<TicketSettings> {
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
    let written = section.free("settings").unwrap_or_default();
    let back = back(reading, section, &system, on_closed);
    let back = back.map(|(modes, rules)| Arc::new(as_channel(reading, id, section, (modes, rules), (&system, written, secrets.clone()))));
    Some(TicketSettings {
        back,
        system,
        settings,
        secrets,
        policy: TicketPolicy { on_closed, on_gone },
        forms: Forms { edits: is("edits", "note"), deletions: is("deletions", "note"), reactions: is("reactions", "note") },
        contact_domain: section.text("contact_domain").unwrap_or_default(),
    })
}

/// How long a hook of a ticket system may wait for its commit: as the default of channels.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(10);

/// By which roads news of the system come back, and what a done ticket does to its conversation.
fn back(reading: &mut Reading<'_>, section: &Section, system: &TicketSystem, on_closed: OnClosed) -> Option<(Vec<Via>, BackRules)> {
    let modes: Vec<Via> = section.texts("back").unwrap_or_default().iter().filter_map(|word| Via::parse(word)).collect();
    let within = section.duration("reopen_within").filter(|_| section.written("reopen_within"));
    if within.is_some() && (on_closed != OnClosed::Reopen || modes.is_empty()) {
        let message = "`reopen_within` does nothing here: it is for tickets that are opened again, and needs to hear when one was closed";
        reading.warn(section.key_span("reopen_within"), message, "set `on_closed = \"reopen\"` and `back`");
    }
    if modes.is_empty() {
        return None;
    }
    let Some(connector) = &system.back else {
        let message = format!("nothing comes back from the ticket system `{}` in this version", system.manifest.name);
        reading.wrong(section.span("back"), message, None);
        return None;
    };
    let known = connector.manifest.modes();
    if let Some(mode) = modes.iter().find(|mode| !known.contains(mode)) {
        let list: Vec<&str> = known.iter().map(|mode| mode.as_str()).collect();
        let message = format!("the ticket system `{}` knows no {} back", system.manifest.name, mode.as_str());
        reading.wrong(section.span("back"), message, Some(format!("it knows {}", list.join(", "))));
        return None;
    }
    let ends_after_ms = match on_closed {
        OnClosed::FollowUp => Some(0),
        OnClosed::Reopen => within.map(|span| i64::try_from(span.as_millis()).unwrap_or(i64::MAX)),
        OnClosed::Append => None,
    };
    Some((modes, BackRules { ends_after_ms }))
}

/// What comes back, as a channel of the destination's name.
fn as_channel(
    reading: &Reading<'_>,
    id: &str,
    section: &Section,
    (modes, rules): (Vec<Via>, BackRules),
    (system, settings, secrets): (&TicketSystem, serde_json::Map<String, serde_json::Value>, BTreeMap<String, Vec<SecretString>>),
) -> ChannelFile {
    ChannelFile {
        id: id.to_owned(),
        file: std::path::PathBuf::from(&reading.file),
        connector: system.manifest.name.clone(),
        enabled: true,
        account: None,
        modes,
        first_run: FirstRun::FromNow,
        backfill_items_max: 1,
        hook: id.to_owned(),
        labels: BTreeMap::new(),
        priority: Priority::Normal,
        new_after: Duration::ZERO,
        verify_none: false,
        map: None,
        accept_timeout: ACCEPT_TIMEOUT,
        settings,
        secrets,
        limits: ChannelLimits::default(),
        imap: None,
        oauth: None,
        back: Some(rules),
        strict_egress: section.flag("strict_egress").unwrap_or(false),
        fingerprint: section.fingerprint(),
    }
}
