//! The OpenAPI 3.1 document of the private listener, composed from one table of operations and the schemas of the types.
//! Served at `/v1/openapi.json`, committed as `docs/openapi.json`; a test holds it against the router.

use axum::Json;
use schemars::generate::{Contract, SchemaSettings};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::model::schema::tidy;
use crate::model::ticket::{TicketFilter, TicketRow};
use crate::model::view::{DeliveryFilter, DeliveryView, DestinationRow, EventView, LedgerFilter, LedgerRow, MessageView, QuarantineRow};
use crate::ports::control::{FolderCompared, Reloaded, ReplayRequest, SubscriptionView};
use crate::server::api::reads::{ChannelRow, EventsAsked, EventsPage, QuarantineAsked, Quarantined, StatusView};
use crate::server::api::verbs::{BackfillAsked, BackupAsked, ConsentGiven, DeadAsked, ReconcileAsked, Reprocessed};
use crate::server::api::{Count, Page};
use crate::server::private::Readiness;
use crate::server::problem::Problem;

type Of = fn(&mut SchemaGenerator) -> Schema;

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// What an answer holds.
enum Answer {
    Json(Of),
    Empty,
    Bytes(&'static str),
}

/// One operation.
struct Operation {
    path: &'static str,
    method: &'static str,
    /// `operationId`.
    name: &'static str,
    summary: &'static str,
    query: Option<Of>,
    body: Option<Of>,
    status: &'static str,
    answer: Answer,
    /// Error statuses beside those that every operation may give (401, 503).
    errors: &'static [&'static str],
}

const fn read(path: &'static str, name: &'static str, summary: &'static str, answer: Answer) -> Operation {
    Operation { path, method: "get", name, summary, query: None, body: None, status: "200", answer, errors: &["400"] }
}

const fn verb(path: &'static str, name: &'static str, summary: &'static str, answer: Answer) -> Operation {
    Operation { path, method: "post", name, summary, query: None, body: None, status: "200", answer, errors: &["400", "404", "409"] }
}

/// Every operation of the private listener.
fn operations() -> Vec<Operation> {
    use Answer::{Bytes, Empty, Json};
    let one: &'static [&'static str] = &["400", "404"];
    vec![
        Operation { errors: &[], ..read("/healthz", "health", "The process answers.", Bytes("text/plain")) },
        Operation {
            errors: &[],
            ..read(
                "/readyz",
                "readiness",
                "The gateway takes messages; 503 with the same body and reasons if it does not.",
                Json(of::<Readiness>),
            )
        },
        Operation {
            errors: &[],
            ..read("/metrics", "metrics", "Prometheus text format 0.0.4; `docs/metrics.md` lists the metrics.", Bytes("text/plain"))
        },
        Operation { errors: &[], ..read("/v1/openapi.json", "openapi", "This document.", Bytes("application/json")) },
        Operation {
            errors: &[],
            ..read(
                "/v1/status",
                "status",
                "The gateway, its channels and destinations, and the totals of the store.",
                Json(of::<StatusView>),
            )
        },
        Operation {
            query: Some(of::<LedgerFilter>),
            ..read(
                "/v1/ledger",
                "ledger",
                "What became of every item, newest first. `next` goes into `before`.",
                Json(of::<Page<LedgerRow>>),
            )
        },
        Operation {
            errors: one,
            ..read("/v1/messages/{id}", "message", "A message with its events, deliveries and ledger rows.", Json(of::<MessageView>))
        },
        Operation {
            query: Some(of::<DeliveryFilter>),
            ..read(
                "/v1/deliveries",
                "deliveries",
                "Deliveries by position. `next` goes into `after`. Dead letters: `state=dead`.",
                Json(of::<Page<DeliveryView>>),
            )
        },
        Operation {
            query: Some(of::<TicketFilter>),
            ..read("/v1/tickets", "tickets", "Which ticket a conversation has where, newest first.", Json(of::<Page<TicketRow>>))
        },
        Operation {
            query: Some(of::<EventsAsked>),
            ..read("/v1/events", "events", "Events as published, in commit order, behind an opaque token.", Json(of::<EventsPage>))
        },
        Operation { errors: one, ..read("/v1/events/{id}", "event", "An event with its deliveries.", Json(of::<EventView>)) },
        Operation {
            query: Some(of::<QuarantineAsked>),
            ..read("/v1/quarantine", "quarantine", "Items that could not be read, newest first.", Json(of::<Page<QuarantineRow>>))
        },
        Operation {
            errors: one,
            ..read(
                "/v1/quarantine/{item}",
                "quarantined",
                "A quarantined item with the head and the beginning of the body of its raw.",
                Json(of::<Quarantined>),
            )
        },
        verb(
            "/v1/quarantine/{item}/reprocess",
            "reprocess",
            "Reads the raw of a quarantined item again with the mapping of today.",
            Json(of::<Reprocessed>),
        ),
        Operation {
            errors: one,
            ..read("/v1/raws/{id}", "raw", "The exact bytes a platform handed over.", Bytes("application/octet-stream"))
        },
        Operation {
            errors: &[],
            ..read("/v1/destinations", "destinations", "The destinations and their deliveries by state.", Json(of::<Page<DestinationRow>>))
        },
        Operation {
            status: "204",
            ..verb("/v1/destinations/{name}/pause", "pause", "Holds the deliveries of a destination until it is resumed.", Empty)
        },
        Operation { status: "204", ..verb("/v1/destinations/{name}/resume", "resume", "Resumes a paused or halted destination.", Empty) },
        verb(
            "/v1/destinations/{name}/drop",
            "drop_destination",
            "Discards everything that waits for a destination no longer configured.",
            Json(of::<Count>),
        ),
        Operation { errors: &[], ..read("/v1/channels", "channels", "The channels and how they are.", Json(of::<Page<ChannelRow>>)) },
        Operation {
            status: "202",
            body: Some(of::<BackfillAsked>),
            ..verb(
                "/v1/channels/{id}/backfill",
                "backfill",
                "Takes in what lies before the channel's first run; goes on behind the answer.",
                Empty,
            )
        },
        Operation {
            body: Some(of::<ReconcileAsked>),
            ..verb(
                "/v1/channels/{id}/reconcile",
                "reconcile",
                "Compares a channel's mailbox with what was taken in from it, folder by folder.",
                Json(of::<Page<FolderCompared>>),
            )
        },
        Operation {
            status: "204",
            body: Some(of::<ConsentGiven>),
            ..verb(
                "/v1/channels/{id}/consent",
                "consent",
                "Takes over the consent that a person gave for a channel with OAuth; it is kept sealed, and used at once.",
                Empty,
            )
        },
        verb(
            "/v1/channels/{id}/subscribe",
            "subscribe",
            "Makes the platform call the channel's hook, and keeps it so: leases are renewed.",
            Json(of::<SubscriptionView>),
        ),
        verb("/v1/channels/{id}/unsubscribe", "unsubscribe", "Ends that.", Json(of::<SubscriptionView>)),
        read(
            "/v1/channels/{id}/subscription",
            "subscription",
            "Whether the platform calls the channel's hook; it is asked, where it can be.",
            Json(of::<SubscriptionView>),
        ),
        Operation {
            body: Some(of::<DeadAsked>),
            ..verb("/v1/dead/replay", "dead_replay", "Dead letters become due again, at their place in the order.", Json(of::<Count>))
        },
        Operation {
            body: Some(of::<DeadAsked>),
            ..verb("/v1/dead/discard", "dead_discard", "Drops dead letters for good.", Json(of::<Count>))
        },
        Operation {
            body: Some(of::<ReplayRequest>),
            ..verb(
                "/v1/replay",
                "replay",
                "Sends events again, marked as replays, outside of the order; `dry_run` only counts.",
                Json(of::<Count>),
            )
        },
        verb(
            "/v1/reload",
            "reload",
            "Reads the configuration again; a broken main file changes nothing (409 with the problems).",
            Json(of::<Reloaded>),
        ),
        Operation {
            status: "204",
            body: Some(of::<BackupAsked>),
            ..verb("/v1/backup", "backup", "Copies the store and its blobs into a new folder while the gateway runs.", Empty)
        },
        verb(
            "/v1/contacts/{id}/erase",
            "erase",
            "Erases a contact: content, raws and pending deliveries; counts by name.",
            Json(of::<std::collections::BTreeMap<String, u64>>),
        ),
    ]
}

/// Paths and methods of the document, for the test that asks them all.
pub fn paths() -> Vec<(&'static str, &'static str)> {
    operations().into_iter().map(|operation| (operation.path, operation.method)).collect()
}

/// `GET /v1/openapi.json`.
pub async fn document() -> Json<Value> {
    Json(compose())
}

/// The document.
pub fn compose() -> Value {
    let mut generators = Generators { asked: generator(Contract::Deserialize), answered: generator(Contract::Serialize) };
    let problem = generators.answered.subschema_for::<Problem>();
    let mut paths = Map::new();
    for operation in operations() {
        let entry = paths.entry(operation.path).or_insert_with(|| json!({}));
        let described = describe(&operation, &mut generators, &problem);
        if let Some(methods) = entry.as_object_mut() {
            methods.insert(operation.method.to_owned(), described);
        }
    }
    let mut schemas = generators.asked.take_definitions(true);
    schemas.extend(generators.answered.take_definitions(true));
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "omnigate, private listener",
            "version": "1",
            "description": "For operators and for receivers that ask for their events. Everything below /v1 needs the bearer token of `[server] admin_token`. Answers may grow fields.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://127.0.0.1:8481"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas,
        },
    });
    tidy(&mut document);
    document
}

/// What may be left out differs: a field with a default may be missing in a request and is always there in an answer.
struct Generators {
    asked: SchemaGenerator,
    answered: SchemaGenerator,
}

fn generator(contract: Contract) -> SchemaGenerator {
    let mut settings = SchemaSettings::draft2020_12();
    settings.contract = contract;
    settings.definitions_path = "/components/schemas".into();
    settings.into_generator()
}

fn describe(operation: &Operation, generators: &mut Generators, problem: &Schema) -> Value {
    let mut described = json!({
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": parameters(operation, &mut generators.asked),
        "responses": responses(operation, &mut generators.answered, problem),
    });
    let Some(map) = described.as_object_mut() else { return described };
    if let Some(body) = operation.body {
        let schema = body(&mut generators.asked);
        map.insert("requestBody".to_owned(), json!({"content": {"application/json": {"schema": schema}}}));
    }
    if !operation.path.starts_with("/v1") {
        map.insert("security".to_owned(), json!([]));
    }
    described
}

fn responses(operation: &Operation, generator: &mut SchemaGenerator, problem: &Schema) -> Value {
    let answer = match operation.answer {
        Answer::Json(schema) => {
            let schema = schema(generator);
            json!({"description": "Done.", "content": {"application/json": {"schema": schema}}})
        }
        Answer::Bytes(kind) => json!({"description": "Done.", "content": {kind: {}}}),
        Answer::Empty => json!({"description": "Done."}),
    };
    let mut responses = Map::from_iter([(operation.status.to_owned(), answer)]);
    let always: &[&str] = if operation.path.starts_with("/v1") { &["401", "503"] } else { &[] };
    for status in operation.errors.iter().chain(always) {
        let content = json!({"application/problem+json": {"schema": problem}});
        responses.insert((*status).to_owned(), json!({"description": words(status), "content": content}));
    }
    Value::Object(responses)
}

fn words(status: &str) -> &'static str {
    match status {
        "400" => "The request cannot be used; the detail says why.",
        "401" => "The bearer token is missing or wrong.",
        "404" => "There is no such thing.",
        "409" => "It cannot be done as asked; the detail says what to change.",
        _ => "It failed; trying again may help.",
    }
}

/// Parts of the path, and the fields of the query's type.
fn parameters(operation: &Operation, generator: &mut SchemaGenerator) -> Vec<Value> {
    let named = operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = named
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": if name == "item" { "integer" } else { "string" }}}))
        .collect();
    let Some(query) = operation.query else { return parameters };
    let schema = query(generator);
    let reference = schema.get("$ref").and_then(Value::as_str).and_then(|text| text.rsplit('/').next());
    let resolved = reference.and_then(|name| generator.definitions().get(name)).or(Some(schema.as_value())).cloned();
    let fields = resolved.as_ref().and_then(|schema| schema.get("properties")).and_then(Value::as_object).cloned().unwrap_or_default();
    for (name, mut schema) in fields {
        let description = schema.as_object_mut().and_then(|map| map.remove("description")).unwrap_or_default();
        parameters.push(json!({"name": name, "in": "query", "required": false, "description": description, "schema": schema}));
    }
    parameters
}
