//! Outward: routes and destinations from what the main file says.

use std::sync::Arc;

use secrecy::ExposeSecret;

use crate::app::tokens::Tokens;
use crate::config::settings::{
    AttachmentForm, Config, DestinationKind, DestinationSettings, Durability, RouteDirection as Direction, TicketSettings,
};
use crate::connector::jq::{Filter, Limits};
use crate::destinations::file::EventFile;
use crate::destinations::shape::{Attachments, Shape};
use crate::destinations::smtp::{Smtp, SmtpOptions};
use crate::destinations::stdout::Stdout;
use crate::destinations::ticket::{TicketDesk, TicketOptions, TicketPorts};
use crate::destinations::webhook::{Webhook, WebhookOptions};
use crate::http::client::HttpClient;
use crate::logic::digest::INSTANCE_KEY_BYTES;
use crate::logic::file_url::FileUrls;
use crate::logic::publish::{Route, RouteDirection, RouteFailures, Routes};
use crate::model::id::{ConversationId, EventId};
use crate::model::ticket::{TicketChange, TicketKnown};
use crate::pipeline::writer::WriterHandle;
use crate::ports::BoxFuture;
use crate::ports::clock::Clock;
use crate::ports::destination::{Destination, FileReader};
use crate::ports::expression::{Condition, Form};
use crate::ports::store::{Store, StoreError, Write};
use crate::ports::ticket::TicketBook;

/// A jq program as the rooms that do not know the language see it.
struct Program(Filter);

impl Condition for Program {
    fn truthy(&self, input: &[u8]) -> Result<bool, String> {
        self.0.truthy(input, &[]).map_err(|error| error.to_string())
    }
}

impl Form for Program {
    fn body(&self, event: &[u8]) -> Result<Vec<u8>, String> {
        let outputs = self.0.run_to_json(event, &[]).map_err(|error| error.to_string())?;
        outputs.into_iter().next().ok_or_else(|| "the filter gave nothing".to_owned())
    }
}

fn compile(place: &str, code: &str, config: &Config) -> Result<Arc<Program>, String> {
    let mapping = config.mapping;
    let limits = Limits {
        fuel: mapping.fuel,
        outputs_max: mapping.items_max,
        depth_max: mapping.depth_max,
        output_bytes_max: mapping.output_bytes_max,
    };
    let filter = Filter::compile(place, code, &[], limits);
    filter.map(|filter| Arc::new(Program(filter))).map_err(|problems| crate::connector::problem::render(&problems))
}

/// A route's filter that failed at run time is told once a while, not once an event.
#[derive(Default)]
struct Failures {
    told: std::sync::atomic::AtomicU64,
}

impl RouteFailures for Failures {
    fn failed(&self, route: usize, detail: &str) {
        let count = self.told.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // The first and every power of two after it: enough to see that it goes on.
        if (count + 1).is_power_of_two() {
            tracing::warn!(omnigate.route = route, detail = %detail, failures = count + 1, "route filter failed, event routed as if it matched");
        }
    }
}

/// All routes, compiled.
///
/// # Errors
/// Rendered problems; the configuration's own check finds them first.
pub fn routes(config: &Config, instance_key: &[u8; INSTANCE_KEY_BYTES]) -> Result<Routes, String> {
    let mut routes = Vec::with_capacity(config.routes.len());
    for (number, route) in config.routes.iter().enumerate() {
        let when = match &route.when {
            Some(code) => Some(compile(&format!("route {}", number + 1), code, config)? as Arc<dyn Condition>),
            None => None,
        };
        routes.push(Route {
            when,
            to: route.to.iter().map(|name| Arc::from(name.as_str())).collect(),
            tags: route.tags.clone(),
            direction: match route.direction {
                Direction::Inbound => RouteDirection::Inbound,
                Direction::Outbound => RouteDirection::Outbound,
                Direction::Any => RouteDirection::Any,
            },
            historic: route.historic,
            operator: route.operator,
        });
    }
    let valid_ms = i64::try_from(config.files.url_valid.as_millis()).unwrap_or(i64::MAX);
    let files = config.files.public_url.as_ref().map(|url| FileUrls::new(url.as_str(), valid_ms, instance_key));
    Ok(Routes::new(routes, files, Arc::new(Failures::default())))
}

/// What destinations work with.
pub struct Outside {
    /// Files of messages.
    pub files: Arc<dyn FileReader>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What ticket destinations remember.
    pub book: Arc<dyn TicketBook>,
    /// Where their tokens come from.
    pub tokens: Arc<Tokens>,
}

/// What a ticket destination remembers: read from the store, written by the writer in front of its admissions.
pub struct StoredBook {
    /// Where it reads.
    pub store: Arc<dyn Store>,
    /// Where it writes.
    pub writer: WriterHandle,
    /// Fencing token of the lease of deliveries.
    pub lease_epoch: u64,
}

impl TicketBook for StoredBook {
    fn known<'a>(
        &'a self,
        destination: &'a str,
        conversation: ConversationId,
        event: EventId,
    ) -> BoxFuture<'a, Result<TicketKnown, StoreError>> {
        self.store.tickets_of(destination, conversation, event)
    }

    fn change(&self, change: TicketChange) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.writer.write(Write::Ticket(Box::new(change))).await.map(|_| ()) })
    }

    fn lease_epoch(&self) -> u64 {
        self.lease_epoch
    }
}

/// A book where nothing is kept: for looking at a destination without delivering to it.
pub struct NoBook;

impl TicketBook for NoBook {
    fn known<'a>(&'a self, _: &'a str, _: ConversationId, _: EventId) -> BoxFuture<'a, Result<TicketKnown, StoreError>> {
        Box::pin(std::future::ready(Ok(TicketKnown::default())))
    }

    fn change(&self, _: TicketChange) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(std::future::ready(Err(StoreError::Unavailable { detail: "nothing is delivered by a look".to_owned() })))
    }

    fn lease_epoch(&self) -> u64 {
        0
    }
}

/// A ticket destination.
///
/// # Errors
/// One line, if no HTTP client can be made or a token cannot be asked for.
pub fn desk(settings: &DestinationSettings, ticket: &TicketSettings, outside: &Outside) -> Result<TicketDesk, String> {
    let options = TicketOptions {
        name: settings.name.clone(),
        system: ticket.system.clone(),
        settings: ticket.settings.clone(),
        secrets: ticket.secrets.clone(),
        policy: ticket.policy,
        forms: ticket.forms,
        contact_domain: ticket.contact_domain.clone(),
        files: settings.attachments != AttachmentForm::None,
        file_bytes_max: ticket.system.manifest.ticket.file_bytes_max.unwrap_or(u64::MAX),
        timeout: settings.timeout,
        strict_egress: settings.strict_egress,
    };
    let ports = TicketPorts {
        http: Arc::new(HttpClient::new(settings.strict_egress)?),
        book: outside.book.clone(),
        files: outside.files.clone(),
        clock: outside.clock.clone(),
        wallet: outside.tokens.desk(&options)?,
    };
    Ok(TicketDesk::new(options, ports))
}

/// One destination, ready to take events.
///
/// # Errors
/// One line: what is wrong with its settings.
pub fn destination(settings: &DestinationSettings, config: &Config, outside: &Outside) -> Result<Arc<dyn Destination>, String> {
    let Outside { files, clock, .. } = outside;
    let body = match &settings.body {
        Some(code) => Some(compile(&format!("destination {}", settings.name), code, config)? as Arc<dyn Form>),
        None => None,
    };
    let attachments = match settings.attachments {
        AttachmentForm::Url => Attachments::Url,
        AttachmentForm::None => Attachments::None,
        AttachmentForm::Inline => Attachments::Inline { bytes_max: settings.inline_bytes_max, files: files.clone() },
    };
    let shape = Shape { attachments, body };
    let fsync = config.store.durability == Durability::Power;
    Ok(match &settings.kind {
        DestinationKind::Webhook { url, secrets, headers } => {
            let expose = |secret: &secrecy::SecretString| secret.expose_secret().to_owned();
            let options = WebhookOptions {
                url: url.to_string(),
                secrets: secrets.iter().map(expose).collect(),
                headers: headers.iter().map(|(name, value)| (name.clone(), expose(value))).collect(),
                timeout: settings.timeout,
                concurrency: settings.concurrency,
                strict_egress: settings.strict_egress,
                shape,
            };
            Arc::new(Webhook::new(options, clock.clone()).map_err(|error| error.to_string())?)
        }
        DestinationKind::File { path } => Arc::new(EventFile::new(path.clone(), fsync, shape)),
        DestinationKind::Stdout => Arc::new(Stdout::new(shape)),
        DestinationKind::Ticket(ticket) => Arc::new(desk(settings, ticket, outside)?),
        DestinationKind::Smtp(smtp) => {
            let options = SmtpOptions {
                given: (**smtp).clone(),
                files: settings.attachments != AttachmentForm::None,
                file_bytes_max: settings.inline_bytes_max,
                timeout: settings.timeout,
                concurrency: settings.concurrency,
            };
            Arc::new(Smtp::new(options, files.clone())?)
        }
    })
}
