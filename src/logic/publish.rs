//! Publish: evaluates the routes over an event, unites tags, signs file URLs, and writes the event's JSON once (I5).
//!
//! Pure; runs inside the write transaction. A filter that fails at run time neither loses the event nor hides it: its route
//! matches, and the failure is reported to [`RouteFailures`].

use std::sync::{Arc, PoisonError, RwLock};

use serde::Serialize;

use crate::logic::file_url::FileUrls;
use crate::model::event::{Attachment, AttachmentState, Body, Direction, Event};
use crate::ports::expression::Condition;
use crate::ports::publish::{Frozen, Publish};

/// Which direction a route takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RouteDirection {
    /// What customers say.
    #[default]
    Inbound,
    /// What our side says in the channel.
    Outbound,
    /// Both.
    Any,
}

/// One `[[route]]`, compiled.
#[derive(Clone)]
pub struct Route {
    /// Filter; none matches all.
    pub when: Option<Arc<dyn Condition>>,
    /// Names of destinations.
    pub to: Vec<Arc<str>>,
    /// Tags given to messages that match.
    pub tags: Vec<String>,
    /// Which direction it takes. Events other than `message.created` do not say their direction and count as inbound.
    pub direction: RouteDirection,
    /// It takes backfilled messages too.
    pub historic: bool,
    /// It takes operator events, and only those.
    pub operator: bool,
}

/// Is told of filters that failed at run time: the number of the route from 0, and one line without content.
pub trait RouteFailures: Send + Sync {
    /// The filter of route `route` failed.
    fn failed(&self, route: usize, detail: &str);
}

/// All routes of a configuration, with what else `freeze` needs.
pub struct Routes {
    routes: Vec<Route>,
    files: Option<FileUrls>,
    failures: Arc<dyn RouteFailures>,
}

impl Routes {
    /// Routes in the order of the configuration. Without `files` no attachment gets a URL.
    pub fn new(routes: Vec<Route>, files: Option<FileUrls>, failures: Arc<dyn RouteFailures>) -> Self {
        Self { routes, files, failures }
    }

    fn takes(&self, number: usize, route: &Route, facts: &Facts, input: &mut Option<Vec<u8>>, event: &Event) -> bool {
        if !facts.allow(route) {
            return false;
        }
        let Some(when) = &route.when else { return true };
        let input = input.get_or_insert_with(|| filter_input(event));
        when.truthy(input).unwrap_or_else(|detail| {
            self.failures.failed(number, &detail);
            true
        })
    }
}

impl Publish for Routes {
    fn freeze(&self, mut event: Event) -> Frozen {
        let facts = Facts::of(&event.body);
        let mut destinations: Vec<Arc<str>> = Vec::new();
        let mut tags: Vec<&String> = Vec::new();
        // Made once, and only if some route has a filter: it costs more than all the rest.
        let mut input = None;
        for (number, route) in self.routes.iter().enumerate() {
            if !self.takes(number, route, &facts, &mut input, &event) {
                continue;
            }
            for name in &route.to {
                if !destinations.contains(name) && !facts.would_echo(name) {
                    destinations.push(Arc::clone(name));
                }
            }
            for tag in &route.tags {
                if !tags.contains(&tag) {
                    tags.push(tag);
                }
            }
        }
        if let Body::MessageCreated(created) = &mut event.body {
            created.tags = tags.into_iter().cloned().collect();
        }
        self.sign_files(&mut event);
        // Writing a value without non-text map keys to memory cannot fail.
        Frozen { bytes: serde_json::to_vec(&event).unwrap_or_default(), destinations }
    }
}

impl Routes {
    fn sign_files(&self, event: &mut Event) {
        let at = event.timestamp;
        let attachments: &mut [Attachment] = match &mut event.body {
            Body::MessageCreated(created) => &mut created.message.attachments,
            Body::MessageUpdated(updated) => updated.attachments.as_deref_mut().unwrap_or_default(),
            Body::MessageEdited(edited) => edited.attachments.as_deref_mut().unwrap_or_default(),
            _ => return,
        };
        for attachment in attachments {
            let held = attachment.state == AttachmentState::Stored;
            attachment.url = self.files.as_ref().filter(|_| held).map(|files| files.url(attachment.id, at));
        }
    }
}

/// What routes look at without an expression.
struct Facts<'a> {
    direction: Direction,
    historic: bool,
    operator: bool,
    /// The destination that an event is about, if it would answer itself.
    echo: Option<&'a str>,
}

impl<'a> Facts<'a> {
    fn of(body: &'a Body) -> Self {
        let mut facts = Facts { direction: Direction::Inbound, historic: false, operator: false, echo: None };
        match body {
            Body::MessageCreated(created) => {
                facts.direction = created.message.direction;
                facts.historic = created.message.historic;
                // It was read there.
                facts.echo = created.message.ticket.as_ref().map(|source| source.destination.as_str());
            }
            Body::ChannelDegraded(_) | Body::ChannelRecovered(_) | Body::DestinationPaused(_) | Body::DestinationResumed(_) => {
                facts.operator = true;
            }
            Body::MessageUpdated(updated) => {
                facts.historic = updated.historic;
                // What an agent wrote in a ticket goes where it went before, and never back.
                if let Some(source) = &updated.ticket {
                    facts.direction = Direction::Outbound;
                    facts.echo = Some(source.destination.as_str());
                }
            }
            // Who opened the ticket knows it.
            Body::TicketLinked(linked) => facts.echo = Some(linked.destination.as_str()),
            Body::TicketUpdated(updated) => facts.echo = Some(updated.destination.as_str()),
            Body::DeliveryDead(dead) => {
                facts.operator = true;
                facts.echo = is_operator_type(&dead.event_type).then_some(dead.destination.as_str());
            }
            _ => {}
        }
        facts
    }

    fn allow(&self, route: &Route) -> bool {
        let direction = match route.direction {
            RouteDirection::Any => true,
            RouteDirection::Inbound => self.direction == Direction::Inbound,
            RouteDirection::Outbound => self.direction == Direction::Outbound,
        };
        if self.operator { route.operator } else { !route.operator && direction && (route.historic || !self.historic) }
    }

    /// A dead operator event is not told to the destination that did not take it: each report would make the next one. A ticket is
    /// not told to the destination that opened it.
    fn would_echo(&self, destination: &str) -> bool {
        self.echo == Some(destination)
    }
}

/// Whether an event of this type is for operators.
pub fn is_operator_type(event_type: &str) -> bool {
    matches!(event_type, "channel.degraded" | "channel.recovered" | "delivery.dead" | "destination.paused" | "destination.resumed")
}

/// What filters see: the event's `data`, and its `type` beside.
fn filter_input(event: &Event) -> Vec<u8> {
    #[derive(Serialize)]
    struct Input<'a> {
        #[serde(rename = "type")]
        event_type: &'static str,
        #[serde(flatten)]
        data: &'a Body,
    }
    serde_json::to_vec(&Input { event_type: event.body.type_name(), data: &event.body }).unwrap_or_default()
}

/// Routes that a reload exchanges while events are published.
pub struct SwapRoutes {
    current: RwLock<Arc<Routes>>,
}

impl SwapRoutes {
    /// Starts with these.
    pub fn new(routes: Routes) -> Self {
        Self { current: RwLock::new(Arc::new(routes)) }
    }

    /// From now on these.
    pub fn replace(&self, routes: Routes) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(routes);
    }
}

impl Publish for SwapRoutes {
    fn freeze(&self, event: Event) -> Frozen {
        let routes = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner));
        routes.freeze(event)
    }
}

#[cfg(test)]
mod tests;
