//! JSON Schema of the event contract, composed from the model's types: printed by `omnigate schema event`, committed as
//! `docs/schema/event-v1.json`, and checked against the golden events by an independent validator.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::model::event;
use crate::model::id::EventId;
use crate::model::time::Time;

/// Identifies the schema. A URN: it names, it does not say where to fetch.
pub const EVENT_SCHEMA_ID: &str = "urn:omnigate:schema:event:v1";

/// A generator of draft 2020-12 that describes what we write: a field that is always there is required, also when it may be null.
pub fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().for_serialize().into_generator()
}

/// The schema of every event, JSON Schema 2020-12. Objects stay open: fields may be added (design §4).
pub fn event_schema() -> Value {
    let mut generator = generator();
    let mut branches = Vec::with_capacity(event::EVENT_TYPES.len());
    for (name, data) in data_schemas(&mut generator) {
        branches.push(json!({
            "title": name,
            "type": "object",
            "required": ["type", "id", "timestamp", "data"],
            "properties": {
                "type": {"const": name},
                "id": {"$ref": "#/$defs/EventId"},
                "timestamp": {"$ref": "#/$defs/Time"},
                "data": data,
            },
        }));
    }
    // Named here, so that the references above resolve whatever the data types use.
    let _ = (generator.subschema_for::<EventId>(), generator.subschema_for::<Time>());
    let definitions: Map<String, Value> = generator.take_definitions(true);
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": EVENT_SCHEMA_ID,
        "title": "omnigate event, contract v1",
        "description": "What a destination receives. Fields may be added and enums may grow; nothing changes its meaning.",
        "oneOf": branches,
        "$defs": definitions,
    });
    tidy(&mut schema);
    schema
}

/// The data of each type, in the order of [`event::EVENT_TYPES`].
fn data_schemas(generator: &mut SchemaGenerator) -> Vec<(&'static str, Schema)> {
    fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<T>()
    }
    event::EVENT_TYPES
        .into_iter()
        .map(|name| {
            let schema = match name {
                "message.created" => of::<event::MessageCreated>(generator),
                "message.updated" => of::<event::MessageUpdated>(generator),
                "message.edited" => of::<event::MessageEdited>(generator),
                "message.deleted" => of::<event::MessageDeleted>(generator),
                "reaction.added" | "reaction.removed" => of::<event::Reaction>(generator),
                "contact.updated" => of::<event::ContactUpdated>(generator),
                "contact.merged" => of::<event::ContactMerged>(generator),
                "ticket.linked" => of::<event::TicketLinked>(generator),
                "ticket.updated" => of::<event::TicketUpdated>(generator),
                "channel.degraded" | "channel.recovered" => of::<event::ChannelState>(generator),
                "delivery.dead" => of::<event::DeliveryDead>(generator),
                "destination.paused" | "destination.resumed" => of::<event::DestinationState>(generator),
                // A type without a branch fails the golden tests: nothing validates against `false`.
                _ => Schema::from(false),
            };
            (name, schema)
        })
        .collect()
}

/// Takes out the number formats of Rust types: JSON Schema has none of them, and strict validators refuse what they do not know.
pub fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map
                .get("format")
                .and_then(Value::as_str)
                .is_some_and(|format| format.contains("int") || format == "double" || format == "float")
            {
                map.remove("format");
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(list) => list.iter_mut().for_each(tidy),
        _ => {}
    }
}
