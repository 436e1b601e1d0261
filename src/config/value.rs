//! Value: one value of a file, read by its kind. A wrong value says what is expected and, where it is obvious, how to write it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use toml::Spanned;
use toml::de::DeValue;
use url::Url;

use crate::config::keys::{Key, Kind};
use crate::config::read::{Reading, Section};
use crate::config::secrets::{read_header, read_place, read_secrets};
use crate::config::settings::SecretPlace;
use crate::config::units::{self, Network, Rate};
use crate::connector::problem::did_you_mean;

/// A value, typed.
#[derive(Debug)]
pub enum Value {
    /// A text, name, word or program.
    Text(String),
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Number(f64),
    /// A duration.
    Duration(Duration),
    /// A retention; none: for ever.
    Keep(Option<Duration>),
    /// Bytes.
    Size(u64),
    /// A rate.
    Rate(Rate),
    /// A path, complete.
    Path(PathBuf),
    /// A URL.
    Url(Url),
    /// An address to listen on.
    Listen(SocketAddr),
    /// Networks.
    Networks(Vec<Network>),
    /// Texts.
    Texts(Vec<String>),
    /// Durations.
    Durations(Vec<Duration>),
    /// Place of a secret that the gateway makes.
    Place(SecretPlace),
    /// Secrets.
    Secrets(Vec<SecretString>),
    /// Texts by name.
    TextMap(BTreeMap<String, String>),
    /// Header fields, names in lower case.
    Headers(Vec<(String, SecretString)>),
    /// Secrets by name.
    SecretMap(BTreeMap<String, Vec<SecretString>>),
    /// What somebody else checks.
    Free(serde_json::Map<String, serde_json::Value>),
    /// A table.
    Table(Section),
    /// Tables by name.
    Tables(BTreeMap<String, Section>),
    /// A list of tables.
    List(Vec<Section>),
}

impl Value {
    /// Adds it to a digest.
    pub fn digest_into(&self, digest: &mut Sha256) {
        match self {
            Self::Table(section) => section.digest_into(digest),
            Self::Tables(sections) => sections.iter().for_each(|(name, section)| {
                digest.update(name.as_bytes());
                section.digest_into(digest);
            }),
            Self::List(sections) => sections.iter().for_each(|section| section.digest_into(digest)),
            Self::Secrets(secrets) => secrets.iter().for_each(|secret| digest_secret(digest, secret)),
            Self::Headers(headers) => headers.iter().for_each(|(name, secret)| {
                digest.update(name.as_bytes());
                digest_secret(digest, secret);
            }),
            Self::SecretMap(map) => map.iter().for_each(|(name, secrets)| {
                digest.update(name.as_bytes());
                secrets.iter().for_each(|secret| digest_secret(digest, secret));
            }),
            // The derived form is stable within one build, which is all a reload needs.
            plain => digest.update(format!("{plain:?};").as_bytes()),
        }
    }
}

fn digest_secret(digest: &mut Sha256, secret: &SecretString) {
    let value = secret.expose_secret();
    digest.update((value.len() as u64).to_be_bytes());
    digest.update(value.as_bytes());
}

/// What a kind expects, for messages: "must be …".
pub fn expectation(kind: Kind) -> String {
    match kind {
        Kind::Text => "a text".to_owned(),
        Kind::Name => "a name of lower-case letters, digits, `-`, `_` and `.`".to_owned(),
        Kind::Jq => "a jq program in quotes".to_owned(),
        Kind::Bool => "`true` or `false`".to_owned(),
        Kind::Integer(from, to) => format!("a whole number from {from} to {to}"),
        Kind::Number(from, to) => format!("a number from {from} to {to}"),
        Kind::Duration(from, to) => {
            let text = |ms| units::duration_text(Duration::from_millis(ms));
            format!("a duration from \"{}\" to \"{}\"", text(from), text(to))
        }
        Kind::Keep => "a duration such as \"30d\", or \"never\"".to_owned(),
        Kind::Size(from, to) => format!("a size from \"{}\" to \"{}\"", units::size_text(from), units::size_text(to)),
        Kind::Rate => "a rate such as \"50/s\", \"20/min\" or \"1000/h\"".to_owned(),
        Kind::Choices(words) => {
            format!("one of {}, or a list of them", words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", "))
        }
        Kind::Choice(words) => match words {
            [only] => format!("\"{only}\" or left out"),
            [words @ .., last] => {
                format!("{} or \"{last}\"", words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", "))
            }
            [] => "left out".to_owned(),
        },
        Kind::Path => "a path".to_owned(),
        Kind::Url => "an http or https URL".to_owned(),
        Kind::Listen => "an address and port such as \"127.0.0.1:8480\"".to_owned(),
        Kind::Networks => "a list of addresses and networks such as [\"10.0.0.0/8\"]".to_owned(),
        Kind::Texts => "a list of texts".to_owned(),
        Kind::Names => "a list of names".to_owned(),
        Kind::Durations => "a list of durations such as [\"0s\", \"5m\"]".to_owned(),
        Kind::SecretPlace | Kind::Secrets => "{ env = \"…\" } or { file = \"…\" }".to_owned(),
        Kind::TextMap | Kind::HeaderMap | Kind::SecretMap | Kind::Free | Kind::Table(_) | Kind::Tables(_) => "a table".to_owned(),
        Kind::List(_) => "a list of tables".to_owned(),
    }
}

/// Reads one value. `None`: it is wrong, and the reading knows why.
pub fn read_value(
    reading: &mut Reading<'_>,
    title: &str,
    key: &Key,
    key_span: Range<usize>,
    value: &Spanned<DeValue<'_>>,
) -> Option<Value> {
    match (key.kind, value.get_ref()) {
        (Kind::SecretPlace, _) => read_place(reading, key.name, value).map(Value::Place),
        (Kind::Secrets, _) => read_secrets(reading, key.name, value).map(Value::Secrets),
        (Kind::SecretMap, DeValue::Table(table)) => {
            let mut map = BTreeMap::new();
            for (name, value) in table.iter() {
                map.insert(name.get_ref().to_string(), read_secrets(reading, name.get_ref(), value).unwrap_or_default());
            }
            Some(Value::SecretMap(map))
        }
        (Kind::HeaderMap, DeValue::Table(table)) => {
            let headers = table.iter().filter_map(|(name, value)| read_header(reading, name, value)).collect();
            Some(Value::Headers(headers))
        }
        (Kind::Table(keys), DeValue::Table(table)) => {
            let title =
                if title.is_empty() { format!("[{}]", key.name) } else { format!("[{}.{}]", title.trim_matches(['[', ']']), key.name) };
            Some(Value::Table(reading.section(title, key_span, table, keys)))
        }
        (Kind::Tables(keys), DeValue::Table(table)) => {
            let mut sections = BTreeMap::new();
            for (name, value) in table.iter() {
                let DeValue::Table(inner) = value.get_ref() else {
                    reading.wrong(name.span(), format!("[{}.{}] must be a table", key.name, name.get_ref()), None);
                    continue;
                };
                check_name(reading, name);
                reading.owner = name.get_ref().to_string();
                let title = format!("[{}.{}]", key.name, name.get_ref());
                sections.insert(name.get_ref().to_string(), reading.section(title, name.span(), inner, keys));
            }
            reading.owner.clear();
            Some(Value::Tables(sections))
        }
        (Kind::List(keys), DeValue::Array(list)) => {
            let mut sections = Vec::new();
            for entry in list.iter() {
                let DeValue::Table(inner) = entry.get_ref() else {
                    reading.wrong(entry.span(), format!("[[{}]] must be a table", key.name), None);
                    continue;
                };
                sections.push(reading.section(format!("[[{}]]", key.name), entry.span(), inner, keys));
            }
            Some(Value::List(sections))
        }
        _ => read_plain(reading, key, value),
    }
}

fn check_name(reading: &mut Reading<'_>, name: &Spanned<std::borrow::Cow<'_, str>>) {
    if !is_name(name.get_ref()) {
        reading.wrong(name.span(), format!("`{}` must be {}", name.get_ref(), expectation(Kind::Name)), None);
    }
}

/// Names of channels, hooks, destinations: they stand in URLs, metrics and file names.
pub fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    !text.is_empty() && text.len() <= 64 && !text.starts_with(['.', '-']) && text.bytes().all(allowed)
}

fn read_plain(reading: &mut Reading<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Value> {
    let read = match (key.kind, value.get_ref()) {
        (Kind::TextMap, DeValue::Table(table)) => {
            let mut map = BTreeMap::new();
            for (name, value) in table.iter() {
                match value.get_ref() {
                    DeValue::String(text) => drop(map.insert(name.get_ref().to_string(), text.to_string())),
                    _ => reading.wrong(value.span(), format!("`{}` must be a text", name.get_ref()), None),
                }
            }
            Ok(Value::TextMap(map))
        }
        (Kind::Free, DeValue::Table(table)) => {
            Ok(Value::Free(table.iter().map(|(name, value)| (name.get_ref().to_string(), json(value.get_ref()))).collect()))
        }
        (Kind::Networks | Kind::Texts | Kind::Names | Kind::Durations | Kind::Choices(_), DeValue::Array(list)) => {
            return read_list(reading, key, list);
        }
        (kind, DeValue::String(text)) => {
            return match text_value(kind, text).and_then(|read| in_range(kind, read)) {
                Ok(Value::Path(path)) => Some(Value::Path(reading.folder.join(path))),
                Ok(read) => Some(read),
                Err(suggestion) => {
                    reading.wrong(value.span(), format!("`{}` must be {}", key.name, expectation(kind)), suggestion);
                    None
                }
            };
        }
        (Kind::Bool, DeValue::Boolean(flag)) => Ok(Value::Bool(*flag)),
        (kind @ Kind::Integer(..), DeValue::Integer(number)) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => in_range(kind, Value::Integer(number)),
            Err(_) => Err(None),
        },
        (kind @ Kind::Number(..), DeValue::Integer(_) | DeValue::Float(_)) => {
            let written = match value.get_ref() {
                DeValue::Integer(number) => number.as_str(),
                DeValue::Float(number) => number.as_str(),
                _ => "",
            };
            written.parse().map_err(|_| None).and_then(|number| in_range(kind, Value::Number(number)))
        }
        (Kind::Duration(..) | Kind::Keep, DeValue::Integer(number)) => Err(Some(format!("write the unit: \"{}s\"", number.as_str()))),
        (Kind::Size(..), DeValue::Integer(number)) => Err(Some(format!("write the unit: \"{} B\"", number.as_str()))),
        (Kind::Tables(_), DeValue::Array(_)) => Err(Some(format!("each has a name: write [{0}.NAME] instead of [[{0}]]", key.name))),
        (Kind::List(_), DeValue::Table(_)) => Err(Some(format!("there may be several, without names: write [[{}]]", key.name))),
        _ => Err(None),
    };
    match read {
        Ok(read) => Some(read),
        Err(suggestion) => {
            reading.wrong(value.span(), format!("`{}` must be {}", key.name, expectation(key.kind)), suggestion);
            None
        }
    }
}

/// A value that is written as a text. `Err`: with advice, if there is any.
fn text_value(kind: Kind, text: &str) -> Result<Value, Option<String>> {
    match kind {
        Kind::Text | Kind::Jq if !text.trim().is_empty() => Ok(Value::Text(text.to_owned())),
        Kind::Path if !text.is_empty() => Ok(Value::Path(PathBuf::from(text))),
        Kind::Name if is_name(text) => Ok(Value::Text(text.to_owned())),
        Kind::Choice(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
        Kind::Choices(words) if words.contains(&text) => Ok(Value::Texts(vec![text.to_owned()])),
        Kind::Choice(words) | Kind::Choices(words) => {
            Err(did_you_mean(text, words.iter().copied()).map(|near| format!("did you mean \"{near}\"?")))
        }
        Kind::Duration(..) => units::duration(text).map(Value::Duration).map_err(|_| None),
        Kind::Keep if text == "never" => Ok(Value::Keep(None)),
        Kind::Keep => units::duration(text).map(|span| Value::Keep(Some(span))).map_err(|_| None),
        Kind::Size(..) => units::size(text).map(Value::Size).map_err(|_| None),
        Kind::Rate => Rate::parse(text).map(Value::Rate).map_err(|_| None),
        Kind::Listen => text.parse().map(Value::Listen).map_err(|_| None),
        Kind::Url => match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(Value::Url(url)),
            Err(url::ParseError::RelativeUrlWithoutBase) => Err(Some(format!("did you mean \"https://{text}\"?"))),
            _ => Err(None),
        },
        Kind::Bool | Kind::Integer(..) | Kind::Number(..) => {
            let plain = text == "true" || text == "false" || text.parse::<f64>().is_ok();
            Err(plain.then(|| format!("write it without quotes: {text}")))
        }
        Kind::Texts | Kind::Names | Kind::Networks | Kind::Durations => Err(Some(format!("write a list: [\"{text}\"]"))),
        _ => Err(None),
    }
}

fn in_range(kind: Kind, value: Value) -> Result<Value, Option<String>> {
    let fits = match (kind, &value) {
        (Kind::Integer(from, to), Value::Integer(number)) => (from..=to).contains(number),
        (Kind::Number(from, to), Value::Number(number)) => (from..=to).contains(number),
        (Kind::Size(from, to), Value::Size(bytes)) => (from..=to).contains(bytes),
        (Kind::Duration(from, to), Value::Duration(span)) => (u128::from(from)..=u128::from(to)).contains(&span.as_millis()),
        _ => true,
    };
    if fits { Ok(value) } else { Err(None) }
}

fn read_list(reading: &mut Reading<'_>, key: &Key, list: &toml::de::DeArray<'_>) -> Option<Value> {
    let (mut texts, mut networks, mut durations) = (Vec::new(), Vec::new(), Vec::new());
    for entry in list.iter() {
        let DeValue::String(text) = entry.get_ref() else {
            reading.wrong(entry.span(), format!("`{}` must be {}", key.name, expectation(key.kind)), None);
            continue;
        };
        let wrong = match key.kind {
            Kind::Networks => Network::parse(text).map(|network| networks.push(network)).err(),
            Kind::Durations => units::duration(text).map(|span| durations.push(span)).err(),
            Kind::Choices(words) if !words.contains(&&**text) => Some(format!("must be {}", expectation(key.kind))),
            Kind::Names if !is_name(text) => Some(format!("must be {}", expectation(Kind::Name))),
            _ => {
                texts.push(text.to_string());
                None
            }
        };
        if let Some(wrong) = wrong {
            reading.wrong(entry.span(), format!("`{text}`: {wrong}"), None);
        }
    }
    Some(match key.kind {
        Kind::Networks => Value::Networks(networks),
        Kind::Durations => Value::Durations(durations),
        _ => Value::Texts(texts),
    })
}

/// A TOML value as JSON, for settings that a connector checks. Numbers that do not fit stay texts.
pub fn json(value: &DeValue<'_>) -> serde_json::Value {
    use serde_json::Value as Json;
    match value {
        DeValue::String(text) => Json::String(text.to_string()),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or_else(|_| Json::String(number.to_string()), Json::from)
        }
        DeValue::Float(number) => number.as_str().parse::<f64>().map_or(Json::Null, Json::from),
        DeValue::Boolean(flag) => Json::Bool(*flag),
        DeValue::Datetime(time) => Json::String(time.to_string()),
        DeValue::Array(list) => Json::Array(list.iter().map(|entry| json(entry.get_ref())).collect()),
        DeValue::Table(table) => {
            Json::Object(table.iter().map(|(name, value)| (name.get_ref().to_string(), json(value.get_ref()))).collect())
        }
    }
}
