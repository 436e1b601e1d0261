//! Reference: the annotated main file, the tables of `docs/config.md` and the JSON Schemas, made from the table of keys.
//!
//! In the annotated file a line `#key = value` is a commented-out value: the default, or an example where there is none. A line
//! `# text` is prose. A test un-comments every value and reads the result.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::config::keys::{CHANNEL, DESTINATION, Default, Key, Kind, MAIN, ROUTE};
use crate::config::main_file;
use crate::config::value::expectation;

/// Longest line of prose in the annotated file.
const PROSE_CHARS: usize = 118;

/// `config/omnigate.toml`: every key, its default, its sentence; and the two tables that make a fresh clone run.
pub fn main_file() -> String {
    let mut out = String::new();
    prose(
        &mut out,
        "omnigate: the main file. Every key, its default, one sentence. A line `#key = value` shows what holds unless written;",
    );
    prose(
        &mut out,
        "remove the `#` to change it. Durations: \"15s\", \"5m\", \"2h\", \"14d\". Sizes: \"512 KiB\", \"4 MiB\". Rates: \"50/s\", \"20/min\".",
    );
    out.push_str("#\n");
    prose(&mut out, "Secrets never stand in this file: { env = \"NAME\" } or { file = \"path\" }, relative to this file's folder.");
    prose(&mut out, "Check it with `omnigate check`. Made from the table of keys: `BLESS=1 cargo test docs` writes it again.");
    for key in MAIN {
        match key.kind {
            Kind::Table(keys) => table(&mut out, key.name, key.help, keys),
            Kind::Tables(_) => destinations(&mut out, key.help),
            Kind::List(_) => routes(&mut out, key.help),
            _ => {}
        }
    }
    out
}

fn table(out: &mut String, name: &str, help: &str, keys: &[Key]) {
    out.push('\n');
    prose(out, help);
    let _ = writeln!(out, "[{name}]");
    for key in keys {
        match key.kind {
            Kind::Table(inner) => table(out, &format!("{name}.{}", key.name), key.help, inner),
            _ => commented(out, key),
        }
    }
}

fn destinations(out: &mut String, help: &str) {
    out.push('\n');
    prose(out, help);
    out.push_str("#[destination.helpdesk]\n");
    let only = |kind: &'static str| DESTINATION.iter().filter(move |key| main_file::kinds_of(key.name).first() == Some(&kind));
    DESTINATION.iter().filter(|key| matches!(main_file::kinds_of(key.name), [] | ["webhook", ..])).for_each(|key| commented(out, key));
    for (name, kind) in [("desk", "ticket"), ("post", "smtp"), ("archive", "file")] {
        let _ = writeln!(out, "\n#[destination.{name}]\n#kind = \"{kind}\"");
        only(kind).for_each(|key| commented(out, key));
    }
    out.push('\n');
    prose(out, "Out of the box events are printed. Name your CRM above and in the route below, then remove this.");
    out.push_str("[destination.screen]\nkind = \"stdout\"\n");
}

fn routes(out: &mut String, help: &str) {
    out.push('\n');
    prose(out, help);
    out.push_str("#[[route]]\n");
    ROUTE.iter().for_each(|key| commented(out, key));
    out.push_str("\n[[route]]\nto = [\"screen\"]\n");
}

fn commented(out: &mut String, key: &Key) {
    let note = match key.default {
        Default::Unset(_) => " Not set by default.",
        Default::Required(_) => " Required.",
        Default::Is(_) => "",
    };
    let said = ["Unset", "unset", "Required"].iter().any(|word| key.help.contains(word));
    prose(out, &format!("{}{}", key.help, if said { "" } else { note }));
    let _ = writeln!(out, "#{} = {}", key.name, literal(key));
}

fn literal(key: &Key) -> &'static str {
    match key.default {
        Default::Is(literal) | Default::Unset(literal) | Default::Required(literal) => literal,
    }
}

fn prose(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > PROSE_CHARS {
            let _ = writeln!(out, "{line}");
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(out, "{line}");
}

/// `docs/config.md`.
pub fn markdown() -> String {
    let mut out = String::from(include_str!("reference_head.md"));
    out.push_str("\n## The main file: `config/omnigate.toml`\n");
    for key in MAIN {
        match key.kind {
            Kind::Table(keys) => markdown_table(&mut out, &format!("[{}]", key.name), key.help, keys),
            Kind::Tables(keys) => markdown_table(&mut out, &format!("[{}.<name>]", key.name), key.help, keys),
            Kind::List(keys) => markdown_table(&mut out, &format!("[[{}]]", key.name), key.help, keys),
            _ => {}
        }
    }
    out.push_str("\n## A channel file: `config/channels/<id>.toml`\n");
    markdown_table(&mut out, "(top of the file)", "One file a channel; the file's name without `.toml` is the channel's id.", CHANNEL);
    out
}

fn markdown_table(out: &mut String, title: &str, help: &str, keys: &[Key]) {
    let _ = write!(out, "\n### `{title}`\n\n{help}\n\n| key | value | default | meaning |\n|---|---|---|---|\n");
    let inner = |key: &Key| matches!(key.kind, Kind::Table(_));
    for key in keys.iter().filter(|key| !inner(key)) {
        let default = match key.default {
            Default::Is(literal) => format!("`{literal}`"),
            Default::Unset(_) => "–".to_owned(),
            Default::Required(_) => "**required**".to_owned(),
        };
        let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
        let _ = writeln!(out, "| `{}` | {} | {} | {} |", key.name, cell(&expectation(key.kind)), cell(&default), cell(key.help));
    }
    for key in keys.iter().filter(|key| inner(key)) {
        if let Kind::Table(keys) = key.kind {
            let owner = title.trim_matches(['[', ']']);
            let name = if title.starts_with('[') { format!("[{owner}.{}]", key.name) } else { format!("[{}]", key.name) };
            markdown_table(out, &name, key.help, keys);
        }
    }
}

/// JSON Schema of the main file, for editors.
pub fn main_schema() -> Value {
    document("omnigate: config/omnigate.toml", MAIN)
}

/// JSON Schema of a channel file.
pub fn channel_schema() -> Value {
    document("omnigate: config/channels/<id>.toml", CHANNEL)
}

fn document(title: &str, keys: &[Key]) -> Value {
    let mut schema = object(keys);
    schema.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".into(), json!(title));
    let secret = json!({
        "description": "A secret stands in the environment or in a file, never here.",
        "oneOf": [one_key("env"), one_key("file")],
    });
    let secrets =
        json!({ "anyOf": [{ "$ref": "#/$defs/secret" }, { "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/secret" } }] });
    schema.insert("$defs".into(), json!({ "secret": secret, "secrets": secrets }));
    Value::Object(schema)
}

fn one_key(name: &str) -> Value {
    json!({ "type": "object", "properties": { name: { "type": "string", "minLength": 1 } }, "required": [name], "additionalProperties": false })
}

fn object(keys: &[Key]) -> Map<String, Value> {
    let mut properties = Map::new();
    for key in keys {
        let mut schema = kind_schema(key.kind);
        schema.insert("description".into(), json!(key.help));
        if let Some(default) = default_json(key) {
            schema.insert("default".into(), default);
        }
        properties.insert(key.name.into(), Value::Object(schema));
    }
    let required: Vec<&str> = keys.iter().filter(|key| matches!(key.default, Default::Required(_))).map(|key| key.name).collect();
    let mut schema = Map::new();
    schema.insert("type".into(), json!("object"));
    schema.insert("properties".into(), Value::Object(properties));
    if !required.is_empty() {
        schema.insert("required".into(), json!(required));
    }
    schema.insert("additionalProperties".into(), json!(false));
    schema
}

fn default_json(key: &Key) -> Option<Value> {
    let Default::Is(literal) = key.default else { return None };
    toml::de::DeValue::parse(literal).ok().map(|value| crate::config::value::json(value.get_ref()))
}

fn kind_schema(kind: Kind) -> Map<String, Value> {
    const DURATION: &str = r"^\s*([0-9]+(ms|s|m|min|h|d)\s*)+$";
    let text = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    let list = |items: Value| json!({ "type": "array", "items": items });
    let name = || text(r"^[a-z0-9_][a-z0-9._-]{0,63}$");
    let schema = match kind {
        Kind::Text | Kind::Jq | Kind::Path => json!({ "type": "string", "minLength": 1 }),
        Kind::Name => name(),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Integer(from, to) => json!({ "type": "integer", "minimum": from, "maximum": to }),
        Kind::Number(from, to) => json!({ "type": "number", "minimum": from, "maximum": to }),
        Kind::Duration(..) => text(DURATION),
        Kind::Keep => json!({ "anyOf": [{ "const": "never" }, text(DURATION)] }),
        Kind::Size(..) => text(r"^\s*[0-9]+\s*([kKMGT]?B|[KMGT]iB)\s*$"),
        Kind::Rate => text(r"^\s*[1-9][0-9]*\s*/\s*(s|sec|m|min|h|hour|d|day)\s*$"),
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::Choices(words) => json!({ "anyOf": [{ "enum": words }, list(json!({ "enum": words }))] }),
        Kind::Url => json!({ "type": "string", "format": "uri", "pattern": "^https?://" }),
        Kind::Listen => text(r"^.+:[0-9]{1,5}$"),
        Kind::Networks | Kind::Texts => list(json!({ "type": "string" })),
        Kind::Names => list(name()),
        Kind::Durations => list(text(DURATION)),
        Kind::SecretPlace => json!({ "$ref": "#/$defs/secret" }),
        Kind::Secrets => json!({ "$ref": "#/$defs/secrets" }),
        Kind::TextMap => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Kind::HeaderMap => {
            json!({ "type": "object", "additionalProperties": { "anyOf": [{ "type": "string" }, { "$ref": "#/$defs/secret" }] } })
        }
        Kind::SecretMap => json!({ "type": "object", "additionalProperties": { "$ref": "#/$defs/secrets" } }),
        Kind::Free => json!({ "type": "object" }),
        Kind::Table(keys) => Value::Object(object(keys)),
        Kind::Tables(keys) => json!({ "type": "object", "propertyNames": name(), "additionalProperties": Value::Object(object(keys)) }),
        Kind::List(keys) => json!({ "type": "array", "items": Value::Object(object(keys)) }),
    };
    match schema {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
