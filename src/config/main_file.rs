//! The main file: from sections to [`Config`], with the checks that need more than one key.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};

use crate::config::desk;
use crate::config::keys;
use crate::config::programs;
use crate::config::read::{Reading, Section};
use crate::config::settings::{
    AttachmentForm, Attachments, Config, Delivery, DestinationKind, DestinationSettings, Dns, Durability, Files, Instance, LogFormat, Logs,
    Mapping, OnExhausted, Route, RouteDirection, SecretPlace, Server, StoreSettings,
};
use crate::config::smtp;
use crate::connector::problem::did_you_mean;
use crate::logic::standard_webhooks;
use crate::ports::store::Retention;

/// Reads the main file. What is wrong is in `reading`; the result may only be used if that holds no error.
pub fn read(reading: &mut Reading<'_>, file: &Path) -> Option<Config> {
    let root = reading.document(keys::MAIN)?;
    let empty = || Section::empty();
    let of = |name: &str| root.table(name);
    let none = empty();
    let instance = instance(of("instance").unwrap_or(&none));
    let server = server(reading, of("server").unwrap_or(&none), &instance);
    let connectors_dir = of("connectors").and_then(|section| section.path("dir")).unwrap_or_default();
    let destinations = destinations(reading, &root, &connectors_dir);
    let routes = routes(reading, &root, &destinations);
    let mut digest = Sha256::new();
    for name in ["instance", "server", "store", "attachments", "files", "mapping", "dns", "logs", "connectors", "channels", "delivery"] {
        if let Some(section) = of(name) {
            section.digest_into(&mut digest);
        }
    }
    let attachments = of("attachments").unwrap_or(&none);
    let files = of("files").unwrap_or(&none);
    let mapping = of("mapping").unwrap_or(&none);
    let logs = of("logs").unwrap_or(&none);
    let dns = of("dns").unwrap_or(&none);
    let delivery = of("delivery").unwrap_or(&none);
    check_schedule(reading, delivery);
    Some(Config {
        file: file.to_path_buf(),
        store: store(of("store").unwrap_or(&none)),
        attachments: Attachments {
            bytes_max: attachments.size("bytes_max").unwrap_or(0),
            count_max: whole(attachments, "count_max"),
            media_wait: attachments.duration("media_wait").unwrap_or_default(),
        },
        files: Files { public_url: files.url("public_url"), url_valid: files.duration("url_valid").unwrap_or_default() },
        mapping: Mapping {
            fuel: mapping.integer("fuel").and_then(|fuel| u64::try_from(fuel).ok()).unwrap_or(0),
            items_max: whole(mapping, "items_max"),
            depth_max: whole(mapping, "depth_max"),
            output_bytes_max: bytes(mapping, "output_bytes_max"),
        },
        dns: Dns { resolvers: resolvers(reading, dns), timeout: dns.duration("timeout").unwrap_or_default() },
        logs: Logs {
            level: logs.text("level").unwrap_or_default(),
            format: if logs.text("format").as_deref() == Some("json") { LogFormat::Json } else { LogFormat::Text },
        },
        connectors_dir,
        channels_dir: of("channels").and_then(|section| section.path("dir")).unwrap_or_default(),
        delivery: Delivery {
            schedule: delivery.durations("schedule").unwrap_or_default(),
            jitter: delivery.number("jitter").unwrap_or(0.0),
        },
        destinations,
        routes,
        fingerprint: digest.finalize().into(),
        instance,
        server,
    })
}

/// Resolvers by address; the port of DNS unless another one is named.
fn resolvers(reading: &mut Reading<'_>, dns: &Section) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for text in dns.texts("resolvers").unwrap_or_default() {
        match text.parse().or_else(|_| text.parse().map(|ip: IpAddr| SocketAddr::new(ip, 53))) {
            Ok(at) => found.push(at),
            Err(_) => reading.wrong(dns.span("resolvers"), format!("`{text}` is no address of a resolver such as \"192.0.2.53\""), None),
        }
    }
    found
}

/// Only what a command needs to reach the daemon and its store: problems elsewhere in the file are passed over.
pub fn read_reach(reading: &mut Reading<'_>) -> Option<(Instance, Server, PathBuf)> {
    let root = reading.document(keys::MAIN)?;
    let none = Section::empty();
    // A default in the place of a mistake would reach for another daemon.
    let wrong = |table: &str, key: &str| root.table(table).is_some_and(|section| section.wrong(key));
    let needed = [("server", "private"), ("server", "admin_token"), ("instance", "data_dir"), ("connectors", "dir")];
    if needed.iter().any(|(table, key)| wrong(table, key)) {
        return None;
    }
    let instance = instance(root.table("instance").unwrap_or(&none));
    let server = server(reading, root.table("server").unwrap_or(&none), &instance);
    let connectors_dir = root.table("connectors").and_then(|section| section.path("dir")).unwrap_or_default();
    Some((instance, server, connectors_dir))
}

fn instance(section: &Section) -> Instance {
    let data_dir = section.path("data_dir").unwrap_or_default();
    let key = made(section, "key", data_dir.join("instance.key"));
    Instance { name: section.text("name").unwrap_or_default(), key, data_dir }
}

/// Place of a secret that the gateway makes: as written, else beside the store.
fn made(section: &Section, key: &str, unwritten: PathBuf) -> SecretPlace {
    match section.place(key) {
        Some(place) if section.written(key) => place,
        _ => SecretPlace::File(unwritten),
    }
}

fn server(reading: &mut Reading<'_>, section: &Section, instance: &Instance) -> Server {
    let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let public = section.listen("public").unwrap_or(nowhere);
    let private = section.listen("private").unwrap_or(nowhere);
    // Port 0 asks the system for a free one, so two of them never meet.
    if public == private && public.port() != 0 {
        let span = if section.written("private") { section.span("private") } else { section.span("public") };
        reading.wrong(
            span,
            "`public` and `private` must be two sockets: what the private one serves must not be reachable from outside",
            None,
        );
    }
    if !private.ip().is_loopback() {
        let message = format!("the private listener {private} is reachable from other machines");
        reading.warn(section.span("private"), message, "let a firewall protect it, or listen on 127.0.0.1");
    }
    Server {
        public,
        public_url: section.url("public_url"),
        private,
        admin_token: made(section, "admin_token", instance.data_dir.join("admin.token")),
        body_bytes_max: bytes(section, "body_bytes_max"),
        request_timeout: section.duration("request_timeout").unwrap_or_default(),
        connections_max: whole(section, "connections_max"),
        trusted_proxies: section.networks("trusted_proxies").unwrap_or_default(),
        stop_timeout: section.duration("stop_timeout").unwrap_or_default(),
    }
}

fn store(section: &Section) -> StoreSettings {
    let none = Section::empty();
    let retention = section.table("retention").unwrap_or(&none);
    let keep = |key: &str| retention.keep(key).flatten().map(|span| i64::try_from(span.as_millis()).unwrap_or(i64::MAX));
    StoreSettings {
        durability: if section.text("durability").as_deref() == Some("process") { Durability::Process } else { Durability::Power },
        free_min: section.size("free_min").unwrap_or(0),
        queue_items_max: whole(section, "queue_items_max"),
        queue_bytes_max: bytes(section, "queue_bytes_max"),
        commit_items_max: whole(section, "commit_items_max"),
        retention: Retention {
            raws_ms: keep("raws"),
            quarantine_ms: keep("quarantine"),
            events_ms: keep("events"),
            ledger_ms: keep("ledger"),
        },
    }
}

fn destinations(reading: &mut Reading<'_>, root: &Section, dir: &Path) -> BTreeMap<String, Arc<DestinationSettings>> {
    let mut found = BTreeMap::new();
    for (name, section) in root.tables("destination") {
        if let Some(settings) = destination(reading, name, section, dir) {
            found.insert(name.to_owned(), Arc::new(settings));
        }
    }
    found
}

/// Keys that only some kinds of destinations know.
const OF_KIND: &[(&str, &[&str])] = &[
    ("url", &["webhook"]),
    ("secret", &["webhook"]),
    ("headers", &["webhook"]),
    ("path", &["file"]),
    ("system", &["ticket"]),
    ("settings", &["ticket"]),
    ("secrets", &["ticket"]),
    ("back", &["ticket"]),
    ("on_closed", &["ticket"]),
    ("reopen_within", &["ticket"]),
    ("on_gone", &["ticket"]),
    ("edits", &["ticket", "smtp"]),
    ("deletions", &["ticket", "smtp"]),
    ("reactions", &["ticket", "smtp"]),
    ("contact_domain", &["ticket", "smtp"]),
    ("host", &["smtp"]),
    ("port", &["smtp"]),
    ("tls", &["smtp"]),
    ("ca_file", &["smtp"]),
    ("user", &["smtp"]),
    ("password", &["smtp"]),
    ("from", &["smtp"]),
    ("to", &["smtp"]),
    ("as", &["smtp"]),
    ("dkim_selector", &["smtp"]),
    ("dkim_key", &["smtp"]),
];

/// The kinds of destinations that know a key; none if all do.
pub fn kinds_of(key: &str) -> &'static [&'static str] {
    OF_KIND.iter().find(|(known, _)| *known == key).map_or(&[], |(_, kinds)| kinds)
}

fn destination(reading: &mut Reading<'_>, name: &str, section: &Section, dir: &Path) -> Option<DestinationSettings> {
    let kind = section.text("kind")?;
    for (key, owners) in OF_KIND.iter().filter(|(key, owners)| section.written(key) && !owners.contains(&kind.as_str())) {
        let owners = owners.join("\" or \"");
        reading.wrong(section.key_span(key), format!("`{key}` is only for destinations with kind = \"{owners}\""), None);
    }
    let missing = |reading: &mut Reading<'_>, key: &str, example: &str| {
        if !section.written(key) {
            let message = format!("`{key}` is missing in {}", section.title);
            reading.wrong(section.span.clone(), message, Some(format!("a {kind} needs it: `{key} = {example}`")));
        }
    };
    let kind = match kind.as_str() {
        "webhook" => {
            missing(reading, "url", "\"https://…\"");
            missing(reading, "secret", &format!("{{ env = \"{}_SECRET\" }}", name.to_uppercase().replace(['-', '.'], "_")));
            check_secrets(reading, section);
            let url = section.url("url");
            if let Some(url) = &url {
                check_url(reading, section, url);
            }
            url.map(|url| DestinationKind::Webhook {
                url,
                secrets: section.secrets("secret").unwrap_or_default(),
                headers: section.headers("headers").unwrap_or_default(),
            })
        }
        "ticket" => {
            missing(reading, "system", "\"rt\"");
            desk::read(reading, name, section, dir).map(|ticket| DestinationKind::Ticket(Box::new(ticket)))
        }
        "smtp" => {
            for (key, example) in [("host", "\"mail.example.org\""), ("from", "\"gateway@example.org\""), ("to", "\"support@example.org\"")]
            {
                missing(reading, key, example);
            }
            smtp::read(reading, section).map(|smtp| DestinationKind::Smtp(Box::new(smtp)))
        }
        "file" => {
            missing(reading, "path", "\"data/events.ndjson\"");
            section.path("path").map(|path| DestinationKind::File { path })
        }
        _ => Some(DestinationKind::Stdout),
    };
    programs::check(reading, section, "body");
    check_schedule(reading, section);
    Some(DestinationSettings {
        name: name.to_owned(),
        kind: kind?,
        body: section.text("body"),
        attachments: match section.text("attachments").as_deref() {
            Some("inline") => AttachmentForm::Inline,
            Some("none") => AttachmentForm::None,
            _ => AttachmentForm::Url,
        },
        inline_bytes_max: section.size("inline_bytes_max").unwrap_or(0),
        rate: section.rate("rate"),
        concurrency: whole(section, "concurrency").max(1),
        timeout: section.duration("timeout").unwrap_or_default(),
        on_exhausted: if section.text("on_exhausted").as_deref() == Some("block") { OnExhausted::Block } else { OnExhausted::Skip },
        schedule: section.durations("schedule"),
        strict_egress: section.flag("strict_egress").unwrap_or(false),
        fingerprint: section.fingerprint(),
    })
}

/// What `run` would refuse is said here, at its place: every secret must be one of Standard Webhooks.
fn check_secrets(reading: &mut Reading<'_>, section: &Section) {
    let secrets = section.secrets("secret").unwrap_or_default();
    if secrets.len() > standard_webhooks::SECRETS_MAX {
        reading.wrong(section.span("secret"), standard_webhooks::SecretError::TooMany.to_string(), None);
    }
    for (index, secret) in secrets.iter().enumerate() {
        if let Err(error) = standard_webhooks::parse(secret.expose_secret()) {
            let which = if secrets.len() > 1 { format!(" (secret {} of {})", index + 1, secrets.len()) } else { String::new() };
            let advice = "make one: echo \"whsec_$(openssl rand -base64 32)\"".to_owned();
            reading.wrong(section.span("secret"), format!("{error}{which}"), Some(advice));
        }
    }
}

fn check_url(reading: &mut Reading<'_>, section: &Section, url: &url::Url) {
    let span = section.span("url");
    if !url.username().is_empty() || url.password().is_some() {
        reading.masks.push(span.clone());
        let advice = Some("write `headers = { authorization = { env = \"…\" } }`".to_owned());
        reading.wrong(span.clone(), "credentials must not stand in a URL", advice);
    }
    let local = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    };
    if url.scheme() == "http" && !local {
        reading.warn(span, "events would travel unencrypted", "use https beyond this machine");
    }
}

/// Longest schedule: with a day's wait each, 100 attempts are a quarter of a year.
const ATTEMPTS_MAX: usize = 100;

fn check_schedule(reading: &mut Reading<'_>, section: &Section) {
    if let Some(schedule) = section.durations("schedule").filter(|_| section.written("schedule")) {
        let longest = Duration::from_secs(30 * 86_400);
        if schedule.is_empty() || schedule.len() > ATTEMPTS_MAX || schedule.iter().any(|wait| *wait > longest) {
            let message = format!("`schedule` must name 1 to {ATTEMPTS_MAX} waits of at most \"30d\"");
            reading.wrong(section.span("schedule"), message, None);
        }
    }
}

fn routes(reading: &mut Reading<'_>, root: &Section, destinations: &BTreeMap<String, Arc<DestinationSettings>>) -> Vec<Route> {
    // A destination that is itself wrong is known by name: its own problem is enough.
    let known: BTreeSet<&str> = root.tables("destination").into_iter().map(|(name, _)| name).collect();
    let mut routed = BTreeSet::new();
    let mut routes = Vec::new();
    for section in root.list("route") {
        let to = section.texts("to").unwrap_or_default();
        for name in to.iter().filter(|name| !known.contains(name.as_str())) {
            let near = did_you_mean(name, known.iter().copied()).map(|near| format!("did you mean \"{near}\"?"));
            let advice = near.or_else(|| Some(format!("there is no [destination.{name}]")));
            reading.wrong(section.span("to"), format!("unknown destination `{name}`"), advice);
        }
        if to.is_empty() && section.texts("tags").unwrap_or_default().is_empty() {
            reading.warn(section.span.clone(), "this route does nothing", "name destinations in `to`, or tags in `tags`");
        }
        programs::check(reading, section, "when");
        routed.extend(to.iter().cloned());
        routes.push(route(section, to));
    }
    for (name, section) in root.tables("destination") {
        if !routed.contains(name) && destinations.contains_key(name) {
            reading.warn(section.span.clone(), format!("no route leads to the destination `{name}`"), "add a [[route]] with it in `to`");
        }
    }
    routes
}

fn route(section: &Section, to: Vec<String>) -> Route {
    Route {
        when: section.text("when"),
        to,
        tags: section.texts("tags").unwrap_or_default(),
        direction: match section.text("direction").as_deref() {
            Some("outbound") => RouteDirection::Outbound,
            Some("any") => RouteDirection::Any,
            _ => RouteDirection::Inbound,
        },
        historic: section.flag("historic").unwrap_or(false),
        operator: section.flag("operator").unwrap_or(false),
    }
}

fn whole(section: &Section, key: &str) -> usize {
    section.integer(key).and_then(|number| usize::try_from(number).ok()).unwrap_or(0)
}

fn bytes(section: &Section, key: &str) -> usize {
    section.size(key).and_then(|number| usize::try_from(number).ok()).unwrap_or(0)
}
