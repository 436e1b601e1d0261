//! `schema`: JSON Schemas for editors and receivers.

use clap::{Args, ValueEnum};

use crate::cli::exit::Failure;
use crate::cli::output::print;
use crate::config::reference;
use crate::connector::manifest::Manifest;

/// Arguments of `schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Of what
    pub of: SchemaOf,
}

/// What has a schema.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum SchemaOf {
    /// The events that destinations receive
    Event,
    /// config/omnigate.toml
    Config,
    /// `config/channels/<id>.toml`
    Channel,
    /// `connectors/<name>/connector.toml`
    Connector,
}

/// `schema`.
pub fn schema(args: &SchemaArgs) -> Result<(), Failure> {
    let schema = match args.of {
        SchemaOf::Event => crate::model::schema::event_schema(),
        SchemaOf::Config => reference::main_schema(),
        SchemaOf::Channel => reference::channel_schema(),
        SchemaOf::Connector => connector_schema(),
    };
    print(&serde_json::to_string_pretty(&schema).map_err(|error| Failure::Failed(error.to_string()))?)
}

/// JSON Schema of `connector.toml`, from the types it is read into.
pub fn connector_schema() -> serde_json::Value {
    let mut schema = schemars::SchemaGenerator::default().into_root_schema_for::<Manifest>().to_value();
    if let Some(object) = schema.as_object_mut() {
        object.insert("title".to_owned(), serde_json::json!("omnigate: connectors/<name>/connector.toml"));
    }
    schema
}
