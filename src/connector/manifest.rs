//! The manifest: `connector.toml`, typed.

use std::collections::BTreeMap;

/// What a `connector.toml` says.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// Name of the connector.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// What moves its bytes.
    pub engine: Engine,
    /// What the channel file may set.
    pub settings: BTreeMap<String, Setting>,
    /// Secrets by name, with help text.
    pub secrets: BTreeMap<String, Secret>,
}

/// The engine that moves a connector's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// HTTP requests to a hook.
    Webhook,
    /// A mailbox.
    Imap,
}

/// A declared setting.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Its type.
    pub kind: SettingType,
    /// Its default; `None`: it may be missing.
    pub default: Option<serde_json::Value>,
    /// It must be set.
    pub required: bool,
    /// One sentence for the admin.
    pub help: String,
}

/// Type of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettingType {
    /// Text.
    Text,
    /// An absolute http(s) URL.
    Url,
    /// A whole number.
    Integer,
    /// true or false.
    Bool,
    /// `30s`, `5m`, `2h`, `1d`; becomes milliseconds.
    Duration,
    /// A list of texts.
    List,
    /// A table of texts by name.
    Table,
}

/// A declared secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// One sentence for the admin.
    pub help: String,
    /// The channel may do without it.
    pub optional: bool,
}
